"""What a journal folds to is kept beside it: relied upon only where it is true, and nothing is lost without it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from runner import folded
from runner.events import Closed, Event, Repaired, Started, Stopped
from runner.folded import FILE
from runner.journal import FILE as JOURNAL
from runner.journal import SPARE_FILE, Journal, Scan, repair, scan
from runner.lines import seal, unseal
from runner.state import Progress, State
from runner.verify import verify
from runner.world import RealDisk
from tests.histories import everything, fail, opened, reply, sent
from tests.memory import Fault, MemoryDisk, Operation, no_fault
from tests.nights import TALK, TALKERS, Night
from tests.virtual import FixedClock, Kill, run_virtual

HOME = Path("outputs/job/main")
PATH, BESIDE = HOME / JOURNAL, HOME / FILE
LIVES: list[list[Event]] = [[event] for event in everything()]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark after a few records, and no more than two conversations in a line."""
    monkeypatch.setattr(folded, "_EVERY_BYTES", 400)
    monkeypatch.setattr(folded, "_TIMES", 1)
    monkeypatch.setattr(folded, "_CELLS", 2)


@dataclass(slots=True)
class Ticking:
    """Seven seconds between any two records: what was sent a minute before is soon forgotten."""

    now: float = 1_795_262_400.0

    def wall(self) -> float:
        self.now += 7.0
        return self.now


def new_disk(fault: Fault = no_fault) -> MemoryDisk:
    disk = MemoryDisk(fault=fault, sync_seconds=(0, 0))
    disk.put(HOME / SPARE_FILE, b"")
    return disk


def live(disk: MemoryDisk, groups: Iterable[Sequence[Event]]) -> Journal:
    """A process that records these, each group durable before the next."""
    return run_virtual(written, disk, groups)


async def written(disk: MemoryDisk, groups: Iterable[Sequence[Event]]) -> Journal:
    journal = await Journal.open(disk, Ticking(), HOME, "me")
    async with journal.writing():
        for group in groups:
            for event in group:
                journal.record(event)
            await journal.flushed()
    journal.close()
    return journal


def both(disk: MemoryDisk) -> tuple[Scan, Scan]:
    """The journal with what is beside it, and alone."""
    alone = MemoryDisk()
    alone.put(PATH, disk.files[PATH])
    return scan(disk, PATH), scan(alone, PATH)


def told(found: Scan) -> tuple[object, ...]:
    state = found.state
    cells = [(id_, one) for id_, one in state.cells.items() if one != Progress()]
    calls = [(call.sent, call.place) for call in state.open_calls()]
    return state, cells, calls, list(state.unsettled), found.last, found.end, found.last_at, found.damaged


def marks(disk: MemoryDisk) -> list[dict[str, Any]]:
    lines = [orjson.loads(line) for line in disk.files[BESIDE].splitlines()]
    return [line["mark"] for line in lines if "mark" in line]


def talk(cells: int, turns: int) -> Iterator[list[Event]]:
    """So many conversations, one turn of each after the other."""
    for turn in range(1, turns + 1):
        for cell in range(cells):
            name = f"c{cell}"
            yield [sent(name, turn, alias=("ada", "zoe")[cell % 2]), reply(name, turn)]


# --- what is relied upon ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(2, len(LIVES) + 1, 3))
def test_what_is_kept_and_what_follows_come_to_the_whole(length: int) -> None:
    """At any point of a history with events of every kind: calls in flight, tries, settlements, branches, lives."""
    disk = new_disk()
    live(disk, LIVES[:length])
    found, alone = both(disk)
    assert told(found) == told(alone)
    assert alone.known is None
    assert length < 8 or (found.known is not None and found.known.seq >= length - 6)


def test_lives_that_follow_each_other_go_on_with_what_is_kept() -> None:
    """Each begins with the marks of those before it and adds its own, also where the last one broke off anywhere."""
    disk = new_disk()
    history = everything()
    before = 0
    for end in range(1, len(history) + 1, 2):
        group: list[Event] = history[before:end]
        live(disk, [group])
        found, alone = both(disk)
        assert told(found) == told(alone)
        assert found.known is None or found.safe >= found.known.end
        before, disk = end, disk.survivor()
    assert len(marks(disk)) > 5


def test_calls_are_in_flight_in_the_order_in_which_they_left() -> None:
    """Also where more became known of the first of them later."""
    disk = new_disk()
    flying: list[list[Event]] = [[sent(f"e{number}")] for number in range(3)]
    live(disk, [[opened()], *flying, *others(3), [Started("e0", 1, 1, "g")], *others_on(3)])
    found, alone = both(disk)
    assert found.known is not None and told(found) == told(alone)
    assert [call.sent.cell for call in found.state.open_calls()] == ["e0", "e1", "e2"]


def test_many_calls_whose_cost_is_assumed_are_brought_before_the_mark() -> None:
    """They may be many more than the conversations, and those of a journal without marks are all brought."""
    disk = new_disk()
    tries: list[list[Event]] = [[sent("e", 1, n), fail("e", 1, n, cost=9, money="assumed")] for n in range(1, 20)]
    live(disk, [[opened()], [event for one in tries for event in one], *others(3)])
    for _ in range(2):
        found, alone = both(disk)
        assert found.known is not None and told(found) == told(alone)
        assert len(found.state.unsettled) == len(tries)
        disk = disk.survivor()
        disk.remove(BESIDE)
        live(disk, [])


def test_the_calls_of_the_last_minute_are_known_and_no_others() -> None:
    """As if all had been folded; there are marks before the minute, within it and behind it."""
    disk = new_disk()
    live(disk, [[opened()], *talk(3, 5)])
    found, alone = both(disk)
    assert found.known is not None and found.state.recent == alone.state.recent
    assert 2 < len(found.state.recent) < 15


def _as_it_was(lines: bytes) -> bytes:
    return lines


def _of_another_version(lines: bytes) -> bytes:
    return sealed([{**said, "by": "0.2.9"} for said in said_in(lines)])


def _with_a_line_missing_a_byte(lines: bytes) -> bytes:
    first, rest = lines.split(b"\n", 1)
    return first[:40] + first[41:] + b"\n" + rest


def _of_another_journal(lines: bytes) -> bytes:
    changed = []
    for said in said_in(lines):
        if "mark" in said:
            said["mark"]["sha256"] = "0" * 64
        changed.append(said)
    return sealed(changed)


def said_in(lines: bytes) -> list[dict[str, Any]]:
    found = [unseal(line) for line in lines.splitlines()]
    for said in found:
        assert said is not None
        del said["crc"]
    return [said for said in found if said is not None]


@pytest.mark.parametrize(
    ("change", "is_known"),
    [
        (_as_it_was, True),
        (_of_another_version, False),
        (_with_a_line_missing_a_byte, False),
        (_of_another_journal, False),
        (lambda lines: b"", False),
        (lambda lines: lines[:-1], True),  # what a crash tore off was the last mark; the one before it counts
        (lambda lines: lines + b'{"mark":', True),
    ],
)
def test_only_what_is_whole_and_of_this_journal_and_version_counts(
    change: Callable[[bytes], bytes], is_known: bool
) -> None:
    """And the run comes to the same either way, and goes on."""
    disk = new_disk()
    live(disk, [[opened()], *talk(3, 3)])
    disk = disk.survivor()
    disk.put(BESIDE, change(disk.files[BESIDE]))
    found, alone = both(disk)
    assert (found.known is not None) is is_known
    assert told(found) == told(alone)
    live(disk, [[Closed(1, 0)], [opened(2)], *talk_on(3)])
    found, alone = both(disk)
    assert found.known is not None and told(found) == told(alone)


def others(cells: int) -> Iterator[list[Event]]:
    for cell in range(cells):
        yield [sent(f"d{cell}"), reply(f"d{cell}")]


def others_on(cells: int) -> Iterator[list[Event]]:
    for cell in range(cells):
        yield [sent(f"d{cell}", 2), reply(f"d{cell}", 2)]


def talk_on(cells: int) -> Iterator[list[Event]]:
    for cell in range(cells):
        yield [sent(f"c{cell}", 4), reply(f"c{cell}", 4)]


def test_a_byte_that_changed_in_the_journal_is_found_also_where_a_mark_covers_it() -> None:
    """It is damage, as without the marks."""
    disk = new_disk()
    live(disk, [[opened()], *talk(3, 3)])
    assert scan(disk, PATH).known is not None
    disk.rot(PATH, 700)
    found, alone = both(disk)
    assert found.known is None and found.damaged and told(found) == told(alone)


def test_what_cannot_be_read_is_done_without() -> None:
    """A disk that has lost the file keeps nobody from the journal."""

    def unreadable(operation: Operation) -> None:
        if operation.name == "read" and operation.path == BESIDE:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    disk = new_disk()
    live(disk, [[opened()], *talk(3, 3)])
    found, alone = both(disk.beside(unreadable))
    assert found.known is None and told(found) == told(alone)


def test_marks_of_what_the_power_took_back_are_cut_off() -> None:
    """Where the journal ends before the last mark an earlier one counts, and what comes then is marked anew."""
    disk = new_disk()
    live(disk, [[opened()], *talk(3, 3)])
    kept = marks(disk)
    disk = disk.survivor()
    disk.put(PATH, disk.files[PATH][: kept[-1]["end"] - 1])
    found, alone = both(disk)
    assert found.known is not None and found.known.seq == kept[-2]["seq"] and told(found) == told(alone)
    live(disk, [[Closed(1, 9)], [opened(2)], *others(3)])
    assert [mark["end"] for mark in marks(disk)] == sorted({mark["end"] for mark in marks(disk)})
    found, alone = both(disk)
    assert found.known is not None and told(found) == told(alone)


@pytest.mark.parametrize("when", [0, 6])
@pytest.mark.parametrize(
    "take_away",
    [
        lambda disk: disk.remove(BESIDE),
        lambda disk: disk.truncate(BESIDE, 0),
        lambda disk: disk.truncate(BESIDE, disk.files[BESIDE].index(b"\n") + 1),
    ],
)
def test_what_is_left_when_somebody_takes_it_away_from_who_writes_it_does_not_count(
    take_away: Callable[[MemoryDisk], None], when: int
) -> None:
    """What is put down after that tells of what has changed since: before the first mark of a life, or behind it."""
    disk = new_disk()
    live(disk, [[opened()], *talk(3, 3), *([Stopped(f"c{cell}", "complete")] for cell in range(3))])
    disk = disk.survivor()

    life: list[list[Event]] = [[Closed(1, 0)], [opened(2)], *others(9)]

    def groups() -> Iterator[Sequence[Event]]:
        for number, group in enumerate(life):
            if number == when:
                take_away(disk)
            yield group

    live(disk, groups())
    found, alone = both(disk)
    assert found.known is None and told(found) == told(alone)
    disk = disk.survivor()
    live(disk, [[Closed(2, 0)], [opened(3)], *talk_on(3)])
    found, alone = both(disk)
    assert found.known is not None and told(found) == told(alone)


# --- how it is written -----------------------------------------------------------------------------------------------


def test_a_mark_is_put_down_when_all_that_it_tells_of_is_durable() -> None:
    """Also where more is recorded all the time."""
    durable: list[int] = []

    def look(operation: Operation) -> None:
        if operation.path == BESIDE and operation.name == "write":
            durable.append(disk.durable(PATH))

    disk = new_disk(look)
    disk.sync_seconds = (0.01, 0.02)

    async def hurry() -> None:
        journal = await Journal.open(disk, Ticking(), HOME, "me")
        async with journal.writing():
            journal.record(opened())
            for group in talk(4, 20):
                for event in group:
                    journal.record(event)
                    await anyio.sleep(0.001)
        journal.close()

    run_virtual(hurry)
    found, alone = both(disk)
    assert found.known is not None and told(found) == told(alone)
    ends = [mark["end"] for mark in marks(disk)]
    assert len(ends) > 3 and len(durable) >= len(ends)
    assert all(end <= there for end, there in zip(ends, durable[-len(ends) :], strict=True))


def test_a_disk_that_does_not_take_it_stops_nothing() -> None:
    """The journal goes on without marks, and the next life has them again."""

    def fails(name: str, operation: Operation) -> None:
        if operation.path == BESIDE and operation.name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    for name in ("write", "sync", "appender"):
        disk = new_disk(partial(fails, name))
        journal = live(disk, [[opened()], *talk(3, 3)])
        assert journal.failing is None and not journal.lost
        assert scan(disk, PATH).last == journal.seq
        disk = disk.survivor()
        live(disk, [[Closed(1, 0)], [opened(2)], *talk_on(3)])
        found, alone = both(disk)
        assert found.known is not None and told(found) == told(alone)


def test_what_room_a_full_disk_has_left_is_for_what_is_in_flight() -> None:
    """The space set aside is for the journal alone."""
    flying = [f"c{number}" for number in range(12)]
    disk = new_disk()
    disk.put(HOME / SPARE_FILE, bytes(6_000))

    def groups() -> Iterator[Sequence[Event]]:
        yield [opened(), *map(sent, flying)]
        disk.room = 0
        yield from ([reply(name)] for name in flying)

    journal = live(disk, groups())
    assert journal.failing is not None and not journal.lost
    assert BESIDE not in disk.files


def test_a_long_journal_without_marks_gets_them_in_small_parts() -> None:
    """No line brings more conversations than a moment allows; the mark is on the last; a life of one record does."""
    disk = new_disk()
    live(disk, [[opened()], *talk(15, 1)])
    disk = disk.survivor()
    disk.remove(BESIDE)
    live(disk, [[Closed(1, 0)]])
    lines = said_in(disk.files[BESIDE])
    assert [len(line["cells"]) for line in lines] == [2] * 7 + [1]
    assert ["mark" in line for line in lines] == [False] * 7 + [True]
    found, alone = both(disk)
    assert found.known is not None and found.known.seq == found.last and told(found) == told(alone)


def test_who_dies_before_the_mark_leaves_lines_that_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are put down by themselves where they are long; the next life brings all of it once more."""
    monkeypatch.setattr(folded, "_HELD_BYTES", 500)
    disk = new_disk()
    live(disk, [[opened()], *talk(15, 1)])
    writes = 0

    def third(operation: Operation) -> None:
        nonlocal writes
        writes += operation.path == BESIDE and operation.name == "write"
        if writes == 3:
            raise Kill("before the mark")

    disk = disk.survivor(third)
    disk.remove(BESIDE)
    with pytest.raises(Kill):
        live(disk, [])
    disk = disk.survivor()
    assert len(disk.files[BESIDE]) > 1_000 and b'"mark"' not in disk.files[BESIDE]
    found, alone = both(disk)
    assert found.known is None and told(found) == told(alone)
    live(disk, [])
    found, alone = both(disk)
    assert found.known is not None and told(found) == told(alone)


def test_a_mark_that_brings_all_there_was_says_nothing_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one comes soon again: whoever dies in between has little to fold."""
    monkeypatch.setattr(folded, "_TIMES", 8)
    disk = new_disk()
    live(disk, [[opened()], *talk(50, 1)])
    disk = disk.survivor()
    disk.remove(BESIDE)
    live(disk, [[Closed(1, 0)], [opened(2)], *others(30)])
    assert len(marks(disk)) > 1


def test_long_conversations_are_brought_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long is to write down where their turns stand."""
    monkeypatch.setattr(folded, "_NUMBERS", 9)
    monkeypatch.setattr(folded, "_CELLS", 100)
    disk = new_disk()
    live(disk, [[opened()], *talk(4, 4)])
    assert max(len(line["cells"]) for line in said_in(disk.files[BESIDE])) <= 2


def test_the_next_mark_comes_also_where_long_conversations_change_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each brings the turns that are new, and not again and again all that there were."""
    monkeypatch.setattr(folded, "_EVERY_BYTES", 10_000)
    monkeypatch.setattr(folded, "_CELLS", 256)
    monkeypatch.setattr(folded, "_NUMBERS", 300)
    disk = new_disk()
    turns = (
        [event for cell in range(10) for event in (sent(f"c{cell}", n), reply(f"c{cell}", n))] for n in range(1, 81)
    )
    live(disk, [[opened()], *turns])
    found, alone = both(disk)
    assert found.known is not None and told(found) == told(alone)
    ends = [0, *(mark["end"] for mark in marks(disk)), len(disk.files[PATH])]
    assert max(end - before for before, end in pairwise(ends)) < 30_000
    assert len(disk.files[BESIDE]) < 0.5 * len(disk.files[PATH])


def test_marks_take_a_part_of_what_the_journal_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where all conversations change between any two of them: the larger they are, the rarer."""
    monkeypatch.setattr(folded, "_TIMES", 8)
    disk = new_disk()
    live(disk, [[opened()], *talk(30, 30)])
    assert len(marks(disk)) > 3
    assert len(disk.files[BESIDE]) < 0.3 * len(disk.files[PATH])
    known = scan(disk, PATH).known
    assert known is not None and known.end > 0.6 * len(disk.files[PATH])


def test_it_is_begun_anew_when_it_has_become_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each life brings all conversations again that it takes up, and there may be very many of both."""
    monkeypatch.setattr(folded, "_SHORT_BYTES", 10_000)
    disk = new_disk()
    live(disk, [[opened()], *talk(20, 2)])
    lengths: list[int] = []
    for life in range(2, 40):
        disk = disk.survivor()
        live(disk, [[opened(life)], [sent(f"d{life}"), reply(f"d{life}")], [Closed(life, 3)]])
        lengths.append(len(disk.files[BESIDE]))
        found, alone = both(disk)
        assert told(found) == told(alone)
        assert found.known is not None or lengths[-1] > 10_000
    begun_anew = [after for before, after in pairwise(lengths) if after < before]
    assert len(begun_anew) > 3 and max(lengths) < 25_000


def test_a_mark_comes_however_much_it_takes_when_the_journal_has_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where very many conversations take turns, it would wait for ever for what is many times as long."""
    monkeypatch.setattr(folded, "_TIMES", 1_000)
    disk = new_disk()
    live(disk, [[opened()], *talk(10, 60)])
    known = scan(disk, PATH).known
    assert known is not None and known.end > 0.45 * len(disk.files[PATH])


def test_it_is_closed_with_the_journal(tmp_path: Path) -> None:
    """No descriptor is left behind; that it is there is nobody's business but its owner's."""
    before = os.listdir("/dev/fd")
    history: list[list[Event]] = [[opened()], *talk(3, 3)]

    async def on_a_disk() -> None:
        journal = await Journal.open(RealDisk(), Ticking(), tmp_path, "me")
        async with journal.writing():
            for group in history:
                for event in group:
                    journal.record(event)
        journal.close()

    anyio.run(on_a_disk)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert set(os.listdir("/dev/fd")) <= set(before)


def test_a_small_run_has_no_such_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is folded in no time."""
    monkeypatch.undo()
    disk = new_disk()
    live(disk, [[opened()], *talk(3, 3)])
    assert BESIDE not in disk.files


def test_a_journal_that_was_repaired_has_none() -> None:
    """What follows is folded with what is missing, from the beginning each time."""
    disk = new_disk()
    live(disk, [[opened()], *talk(3, 3)])
    disk = disk.survivor()
    disk.rot(PATH, 700)
    assert run_virtual(repair, disk, FixedClock(), HOME, "me") is not None
    before = disk.files[BESIDE]
    live(disk, [[Closed(1, 0)], [opened(2)], *others(5)])
    found, alone = both(disk)
    assert found.known is None and told(found) == told(alone) and disk.files[BESIDE] == before
    assert any(isinstance(event, Repaired) for event in found.state.repaired)


# --- who checks it ---------------------------------------------------------------------------------------------------


def _more_of_each(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        for one in line["cells"].values():
            if "money" in one:
                one["money"][0] += 1


def _more_of_the_run(lines: list[dict[str, Any]]) -> None:
    lines[-1]["mark"]["run"][0] += 1


def _more_of_a_model(lines: list[dict[str, Any]]) -> None:
    lines[-1]["mark"]["scopes"][0][2] += 1


def _later(lines: list[dict[str, Any]]) -> None:
    lines[-1]["mark"]["recent"] += 1


def _none_in_flight(lines: list[dict[str, Any]]) -> None:
    for line in lines:
        for one in line["cells"].values():
            one.pop("open", None)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (_more_of_each, "cells"),
        (_more_of_the_run, "run"),
        (_more_of_a_model, "scopes"),
        (_later, "recent"),
        (_none_in_flight, "what follows"),
    ],
)
def test_verify_folds_the_journal_itself_and_tells_what_is_kept_otherwise(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[list[dict[str, Any]]], None], where: str
) -> None:
    """Whole and of this journal, but wrong: what only a fault of ours could write."""
    monkeypatch.setattr(folded, "_EVERY_BYTES", 4_000)
    night = Night(TALK, {"models": {"m": TALKERS, "n": TALKERS}})
    assert night.live().exit == 0
    disk = night.left()
    assert verify(night.folder, disk).problems == ()
    path = night.folder / FILE
    lines = said_in(disk.files[path])
    change(lines)
    disk.put(path, sealed(lines))
    problems = verify(night.folder, disk).problems
    assert [f"{FILE}: not what the journal folds to, in {where}"] == [problem.split("\n")[0] for problem in problems]


def test_sums_that_no_reader_of_json_takes_are_folded_from_the_journal() -> None:
    """A provider may claim of each call what nobody has: all of it together is longer than 64 bits."""
    disk = new_disk()
    claims: list[list[Event]] = [[sent(f"c{cell}"), reply(f"c{cell}", cost=9 * 10**18)] for cell in range(9)]
    live(disk, [[opened()], *claims])
    found, alone = both(disk)
    assert found.state.run.settled == alone.state.run.settled == 81 * 10**18
    assert type(found.state.run.settled) is int


def test_what_is_kept_and_contradicts_what_follows_is_done_without() -> None:
    """A fault of ours in this file must keep nobody from his run."""
    disk = new_disk()
    live(disk, [[opened()], *talk(3, 3)])
    lines = said_in(disk.files[BESIDE])
    for line in lines:
        for one in line["cells"].values():
            one.pop("open", None)
            one["tried"] = [7, 0, {}, None, None]
    disk.put(BESIDE, sealed(lines))
    found, alone = both(disk)
    assert found.known is None and told(found) == told(alone)


@pytest.mark.parametrize("instead", [None, -1, 2**70, "x", [], {}, [[0]]])
def test_whatever_stands_in_it_keeps_nobody_from_the_journal(instead: object) -> None:
    """Whole lines of this version that say what nobody has written: the journal is read in their place, to its end."""
    disk = new_disk()
    live(disk, LIVES)
    lines = said_in(disk.files[BESIDE])
    for changed in with_each_changed(lines, instead):
        disk.put(BESIDE, sealed(changed))
        found = scan(disk, PATH)
        assert found.end == len(disk.files[PATH]) and not found.damaged


def with_each_changed(said: Any, instead: object) -> Iterator[Any]:
    """The same with one thing in it left out, wherever it stands, or with another in its place."""
    for key in list(said) if isinstance(said, dict) else range(len(said)) if isinstance(said, list) else ():
        without = said.copy()
        del without[key]
        yield without
        for changed in (instead, *with_each_changed(said[key], instead)):
            other = said.copy()
            other[key] = changed
            yield other


def sealed(lines: list[Any]) -> bytes:
    """As a file, in which marks tell the truth of where they stand."""
    found = b""
    for line in lines:
        if isinstance(line, dict) and isinstance(line.get("mark"), dict) and "stands" in line["mark"]:
            line = {**line, "mark": {**line["mark"], "stands": len(found)}}
        found += seal(line) if isinstance(line, dict) and line else b"3\n"
    return found


def test_nothing_of_a_state_is_forgotten() -> None:
    """Each field of a state is one that is kept, or one that is computed from those; a new one has to be thought of."""
    kept = {"cells", "run", "days", "spending", "unsettled", "settled", "scopes", "tallies", "dropped", "day_minutes"}
    kept |= {"recent", "landmarks"}
    from_landmarks = {"lives", "live", "today", "job", "texts", "opened", "closed", "jobs", "branches", "engaged"}
    of_a_process = {"_counts", "_groups", "_flying", "_followers", "_followers_of_calls"}
    assert set(State.__dataclass_fields__) == kept | from_landmarks | of_a_process | {"repaired"}
    plain = {"replies", "sents", "ended_attempts", "open", "status", "reason", "account", "reported_input", "left_out"}
    plain |= {"carried", "flagged", "corrected", "noted", "told", "dated", "failing", "started", "ended"}
    assert set(Progress.__dataclass_fields__) == plain
