"""The journal: what it says is durable survives everything, and what it cannot read it does not guess.

Built on a disk in memory in virtual time: each byte is damaged, each operation fails or kills, one after the other.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from zlib import crc32

import anyio
import orjson
import pytest

from runner import journal
from runner.events import Closed, Event, Opened, Repaired, Replied, Sent, Stopped, from_data
from runner.journal import (
    FILE,
    LOCK_FILE,
    SPARE_FILE,
    Journal,
    Record,
    Repair,
    decode,
    encode,
    read_record,
    read_said,
    repair,
    scan,
)
from runner.lines import Damaged, StorageError, TooNew, split
from runner.state import HistoryError, Place
from runner.world import LockHeld
from tests.memory import Fault, MemoryAppender, MemoryDisk, MemoryLock, Operation, at, no_fault
from tests.virtual import FixedClock, Kill, VirtualClock, run_virtual

HOME = Path("/run")
PATH = HOME / FILE
SPARE = HOME / SPARE_FILE


def opened(life: int = 1, ceiling: int = 1000) -> Opened:
    return Opened(life, "1", "j", "k", "d", "UTC", {}, {}, {"run": ceiling}, {}, {})


def sent(cell: str, turn: int = 1, attempt: int = 1) -> Sent:
    return Sent(cell, turn, attempt, "a", "m", "p", "m", "h", "o/1", 100, 1, 1)


def reply(cell: str, turn: int = 1, text: str = "t") -> Replied:
    return Replied(cell, turn, 1, text, "ok", 60, "priced", 60, {})


SCRIPT: Sequence[Sequence[Event]] = [
    [opened()],
    [sent("x"), sent("y")],
    [reply("x"), sent("x", 2)],
    [reply("y"), Stopped("y", "complete")],
    [Closed(1, 3)],
]
"""What one life records, in groups; each is flushed before the next. A call of `x` is still open at the end."""
EVENTS = [event for group in SCRIPT for event in group]


def new_disk(fault: Fault = no_fault) -> MemoryDisk:
    """A disk on which the reserve is set aside already: it is large, and another test is about it."""
    disk = MemoryDisk(fault=fault, sync_seconds=(0, 0))
    disk.put(SPARE, b"")
    return disk


async def opened_on(disk: MemoryDisk, clock: FixedClock | None = None) -> Journal:
    return await Journal.open(disk, clock or FixedClock(), HOME, "holder 1")


async def write(disk: MemoryDisk, *groups: Sequence[Event], done: Callable[[int], None] = lambda n: None) -> Journal:
    """One life that records these groups; `done` is told how many events are durable."""
    journal = await opened_on(disk)
    count = 0
    async with journal.writing():
        for group in groups:
            for event in group:
                journal.record(event)
            await journal.flushed()
            count += len(group)
            done(count)
    journal.close()
    return journal


def events_on(disk: MemoryDisk) -> list[Event]:
    found = [decode(line, offset) for offset, line, ended in split(disk, PATH) if ended]
    return [record.event for record in found if record is not None]


@pytest.fixture(scope="module")
def small() -> bytes:
    """The bytes of the small journal."""
    disk = new_disk()
    run_virtual(write, disk, *SCRIPT)
    return disk.files[PATH]


def disk_of(content: bytes) -> MemoryDisk:
    disk = new_disk()
    disk.put(PATH, content)
    return disk


def starts(content: bytes) -> list[int]:
    return [0, *(i + 1 for i, byte in enumerate(content) if byte == 0x0A)][:-1]


def test_a_disk_that_fails_while_the_journal_is_opened_leaves_nothing_held(
    small: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock is free again, and the file is closed that was open to be appended to."""
    closed: list[MemoryAppender] = []

    def closes(appender: MemoryAppender) -> None:
        closed.append(appender)

    def fails(operation: Operation) -> None:
        if operation.name == "rewrite":
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(MemoryAppender, "close", closes)
    disk = disk_of(small).beside(fails)
    with pytest.raises(StorageError):
        run_virtual(opened_on, disk)
    assert disk.locks == [] and len(closed) == 1


# --- lines -------------------------------------------------------------------------------------------------------


def test_a_line_names_itself_and_is_sealed(small: bytes) -> None:
    """Number, stamp and kind in front; at the end a CRC-32 of everything before it."""
    for seq, line in enumerate(small.splitlines(), 1):
        data = orjson.loads(line)
        assert (data["v"], data["seq"], data["kind"]) == (1, seq, EVENTS[seq - 1].kind)
        body, _, tail = line.rpartition(b',"crc":"')
        assert tail == b'%08x"}' % crc32(body)


def test_the_first_line_of_each_group_tells_what_was_synced(small: bytes) -> None:
    """Everything before the group, and only there: the others were not asked."""
    marks = [orjson.loads(line).get("synced") for line in small.splitlines()]
    assert marks == [0, 1, None, 3, None, 5, None, 7]


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64, 1000, 10**6])
def test_lines_are_the_same_however_the_file_is_read(small: bytes, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces that end anywhere, also in the midst of a line or on its end."""
    monkeypatch.setattr("runner.lines._READ_BYTES", piece)
    found = list(split(disk_of(small + b"tail"), PATH))
    assert [(offset, ended) for offset, _, ended in found] == [
        *((start, True) for start in starts(small)),
        (len(small), False),
    ]
    assert b"\n".join(line for _, line, _ in found) == small + b"tail"


def test_a_record_may_be_larger_than_the_piece_that_is_read() -> None:
    """A text of nine million bytes is read back whole, and so is what follows it."""
    disk, long = new_disk(), "é" * 4_500_000

    async def main() -> None:
        await write(disk, [opened(), sent("x")], [reply("x", text=long), sent("x", 2)])
        journal = await opened_on(disk)
        event = journal.read(journal.state.of("x").replies[1]).event
        assert isinstance(event, Replied)
        assert event.text == long
        assert journal.seq == 4

    run_virtual(main)


@pytest.mark.fault(76)
def test_what_json_cannot_hold_is_kept_all_the_same() -> None:
    """Half a surrogate pair, or a number of any length, must not lose what was paid for."""
    event = replace(reply("x", text="a\ud800b"), usage={"raw": {"n": 2**70}})
    record = decode(encode(1, 0.0, event)[:-1], 0)
    assert record is not None
    assert isinstance(record.event, Replied)
    assert record.event.text == "a?b"
    assert record.event.usage["raw"]["n"] == pytest.approx(2**70)


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace(b'"v":1', b'"v":2'),
        lambda line: line.replace(b'"kind":"closed"', b'"kind":"paused"'),
        lambda line: line.replace(b'"life"', b'"lime"'),
        lambda line: line.replace(b'"seq"', b'"seg"'),
        lambda line: line.replace(b'"v":1', b'"v":"1"'),
        lambda line: b"[" + line,
    ],
)
def test_a_line_of_another_version_is_refused_and_left_alone(small: bytes, change: Callable[[bytes], bytes]) -> None:
    """Whole, but not understood: the message says what to use, and nothing is cut."""
    *before, last = small.splitlines(keepends=True)
    body = change(last).rpartition(b',"crc":"')[0]
    content = b"".join(before) + body + b',"crc":"%08x"}\n' % crc32(body)
    disk = disk_of(content)
    for _ in range(2):  # the second time, too: the lock was given back
        with pytest.raises(TooNew, match="use the version of Tertulia that wrote it"):
            run_virtual(opened_on, disk)
    with pytest.raises(TooNew):
        run_virtual(repair, disk, FixedClock(), HOME, "me")
    assert disk.files[PATH] == content


# --- writing -----------------------------------------------------------------------------------------------------


def test_one_sync_serves_all_who_wait() -> None:
    """A hundred who wait at once need two syncs: one that was under way, and one for all the others."""
    disk = MemoryDisk(sync_seconds=(0.01, 0.01))
    went_on: list[int] = []

    async def one(journal: Journal, number: int) -> None:
        await anyio.sleep(number * 1e-5)
        journal.record(sent(f"c{number}"))
        await journal.flushed()
        assert sent(f"c{number}") in events_on(disk)
        went_on.append(number)

    async def main() -> None:
        journal = await opened_on(disk)
        before = sum(operation.name == "sync" for operation in disk.operations)
        async with journal.writing(), anyio.create_task_group() as tasks:
            for number in range(100):
                tasks.start_soon(one, journal, number)
        assert sum(operation.name == "sync" for operation in disk.operations) - before == 2

    run_virtual(main)
    assert sorted(went_on) == list(range(100))


def test_nobody_goes_on_before_the_sync() -> None:
    """Who has waited finds a sync behind the write, whatever the order of steps."""
    for seed in range(20):
        disk = MemoryDisk(sync_seconds=(0.001, 0.02))

        async def one(journal: Journal, number: int, disk: MemoryDisk = disk) -> None:
            for turn in (1, 2, 3):
                journal.record(Stopped(f"c{number}", "pending", str(turn)))
                await journal.flushed()
                names = [operation.name for operation in disk.operations]
                synced = disk.operations[len(names) - 1 - names[::-1].index("sync")]
                assert synced.path == PATH
                assert names.count("sync") >= turn

        async def main(disk: MemoryDisk = disk, one: Callable[[Journal, int], object] = one) -> None:
            journal = await opened_on(disk)
            async with journal.writing(), anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(one, journal, number)  # type: ignore[arg-type]

        run_virtual(main, seed=seed)


@pytest.mark.parametrize("how", ["cancelled", "error"])
def test_what_is_queued_is_put_down_however_it_ends(how: str) -> None:
    """A stop request or a bug does not keep an outcome from the disk."""
    disk = MemoryDisk()

    async def main() -> None:
        journal = await opened_on(disk)
        with anyio.CancelScope() as scope:
            async with journal.writing():
                journal.record(opened())
                if how == "error":
                    raise KeyError("bug")
                scope.cancel()
                await anyio.sleep(1)

    if how == "error":
        with pytest.raises(BaseExceptionGroup):
            run_virtual(main)
    else:
        run_virtual(main)
    assert events_on(disk) == [opened()]


def test_a_place_is_known_before_its_record_is_on_disk(small: bytes) -> None:
    """Places in the state are those in the file; their journal reads them also while they are on their way there."""
    disk = disk_of(small)

    async def main() -> None:
        journal = await opened_on(disk)
        async with journal.writing():
            journal.record(opened(2))
            journal.record(sent("z"))
            journal.record(reply("z"))
            place = journal.state.of("z").replies[1]
            with pytest.raises(Damaged):
                read_record(disk, HOME, place)
            assert journal.read(place).event == reply("z")
            await journal.flushed()
            assert journal.read(place).event == reply("z")
            assert read_record(disk, HOME, place).seq == len(EVENTS) + 3

    run_virtual(main)


@pytest.mark.parametrize("near", [0, 4096])
@pytest.mark.parametrize("piece", [1, 400, 1 << 20])
def test_records_are_read_together_as_each_of_them_alone(
    small: bytes, near: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In whatever order and however often they are asked for, and however much of the file is read at once."""
    monkeypatch.setattr(journal, "_NEAR_BYTES", near)
    monkeypatch.setattr(journal, "_PIECE_BYTES", piece)
    disk = disk_of(small)
    every = [record.place for record in _records(small)]
    for places in (every, every[::-1], every[::2], [*every[3:5], every[0], every[0]], []):
        since = len(disk.operations)
        found = read_said(disk, HOME, places)
        if piece > len(small) and near:
            assert len(disk.operations) - since == bool(places)
        assert {offset: from_data(said["kind"], said) for offset, said in found.items()} == {
            place.offset: read_record(disk, HOME, place).event for place in places
        }


@pytest.mark.parametrize("line", [b'{"v":1}', b'{"v":2,"seq":1,"kind":"sent"}', b'{"v":1,"seq":1,"kind":"told"}'])
def test_what_is_read_together_is_checked_like_anything_else(small: bytes, line: bytes) -> None:
    """One line that is not whole any more, or that is none of ours, and nothing is given."""
    places = [record.place for record in _records(small)]
    offset, size = places[3]
    with pytest.raises(Damaged, match=f"damaged at byte {offset:,}"):
        read_said(disk_of(small[: offset + 9] + b"?" + small[offset + 10 :]), HOME, places)
    with pytest.raises(Damaged):
        read_said(disk_of(small[: offset + 9]), HOME, places)
    sealed = line[:-1] + b',"crc":"%08x"}\n' % crc32(line[:-1])
    disk = disk_of(small[:offset] + sealed + small[offset + size :])
    with pytest.raises(TooNew):
        read_said(disk, HOME, [*places[:3], Place(offset, len(sealed))])


def _records(content: bytes) -> list[Record]:
    found = [decode(line, offset) for offset, line, _ in split(disk_of(content), PATH)]
    return [record for record in found if record is not None]


@pytest.mark.fault(11)
def test_stamps_never_go_back() -> None:
    """A clock that is set back during a run, or before the next life, changes no order."""
    disk, clock = new_disk(), VirtualClock(start=1000.0)

    async def main() -> None:
        for life in (1, 2):
            journal = await Journal.open(disk, clock, HOME, "me")
            async with journal.writing():
                journal.record(opened(life))
                clock.jump(-3600.0)
                journal.record(Stopped("x", "pending"))
                await anyio.sleep(5)
                journal.record(Closed(life, 0))
            journal.close()
        clock.jump(+10_000.0)
        journal = await Journal.open(disk, clock, HOME, "me")
        async with journal.writing():
            journal.record(opened(3))

    run_virtual(main)
    stamps = [orjson.loads(line)["at"] for line in disk.files[PATH].splitlines()]
    assert stamps == sorted(stamps)
    assert stamps[:6] == [1000.0] * 6
    assert stamps[6] > 3000


# --- one writer --------------------------------------------------------------------------------------------------


@pytest.mark.fault(13)
def test_a_second_process_is_told_who_holds_the_run(small: bytes) -> None:
    """And can open it when the first has closed it, or died."""
    disk = disk_of(small)

    async def main() -> None:
        journal = await opened_on(disk)
        other = disk.beside()
        with pytest.raises(LockHeld) as held:
            await opened_on(other)
        assert held.value.holder == "holder 1"
        with pytest.raises(LockHeld):
            await repair(other, FixedClock(), HOME, "me")
        journal.close()
        await opened_on(other)
        await opened_on(other.survivor())
        assert HOME / LOCK_FILE in disk.files

    run_virtual(main)


# --- torn tails --------------------------------------------------------------------------------------------------


@pytest.mark.fault(22)
def test_a_journal_cut_anywhere_keeps_what_was_whole(small: bytes) -> None:
    """At every byte: a prefix survives, the rest is set aside, and the next line follows on."""
    ends = [start for start in starts(small) if start] + [len(small)]

    async def main() -> None:
        for cut in range(len(small) + 1):
            disk = disk_of(small[:cut])
            whole = sum(end <= cut for end in ends)
            journal = await opened_on(disk)
            assert journal.seq == whole, cut
            rest = small[[0, *ends][whole] : cut]
            assert journal.torn == ("journal.torn-1" if rest else None), cut
            assert disk.files.get(HOME / "journal.torn-1", b"") == rest
            async with journal.writing():
                journal.record(Stopped("new", "pending"))
            assert events_on(disk) == [*EVENTS[:whole], Stopped("new", "pending")]
            assert not scan(disk, PATH).torn

    run_virtual(main)


@pytest.mark.fault(23)
@pytest.mark.parametrize("tail", [b"\0" * 5000, b"\n", b"\n\n\n", b"{}\n", b"\xff\xfe\n", b'{"v":1,"seq":9}\n'])
def test_a_tail_that_is_no_record_is_torn(small: bytes, tail: bytes) -> None:
    """NULs of a lost page, blank lines, half a letter: set aside like any other."""
    disk = disk_of(small + tail)
    journal = run_virtual(opened_on, disk)
    assert journal.seq == len(EVENTS)
    assert disk.files[HOME / "journal.torn-1"] == tail
    assert disk.files[PATH] == small


def test_torn_tails_do_not_overwrite_each_other(small: bytes) -> None:
    """Each is set aside in a file of its own."""
    disk = disk_of(small + b"one")
    run_virtual(opened_on, disk)
    disk = disk.survivor()
    disk.put(PATH, small + b"two")
    assert run_virtual(opened_on, disk).torn == "journal.torn-2"
    assert disk.files[HOME / "journal.torn-1"] == b"one"


@pytest.mark.fault(18)
def test_a_tail_is_cut_even_when_there_is_no_room_to_keep_it(small: bytes) -> None:
    """Its lines were never relied upon, and say so in place of the file's name."""

    def full(operation: Operation) -> None:
        if operation.name == "temporary":
            raise OSError(errno.ENOSPC, "No space left on device")

    disk = new_disk(full)
    disk.put(PATH, small + b"rest")
    assert run_virtual(opened_on, disk).torn == "nowhere (No space left on device)"
    assert disk.files[PATH] == small


# --- damage ------------------------------------------------------------------------------------------------------


@pytest.mark.fault(21)
def test_every_damaged_byte_is_refused_with_its_place_or_torn(small: bytes) -> None:
    """Below the highest mark that can still be read it is damage, and above it a torn tail; never is it believed."""
    marks = [orjson.loads(line).get("synced", 0) for line in small.splitlines()]
    begins = starts(small)
    refused = torn = 0

    async def main() -> None:
        nonlocal refused, torn
        for place, bit in product(range(len(small)), (0x01, 0x20)):
            content = bytearray(small)
            content[place] ^= bit
            hit = sum(begin <= place for begin in begins)  # the number of the damaged line
            gone = {hit, hit + 1} if small[place] == 0x0A else {hit}
            synced = max(mark for seq, mark in enumerate(marks, 1) if seq not in gone)
            disk = disk_of(bytes(content))
            if hit <= synced:
                refused += 1
                with pytest.raises(Damaged) as damaged:
                    await opened_on(disk)
                assert (damaged.value.offset, damaged.value.seq) == (begins[hit - 1], hit), place
                assert disk.files[PATH] == content
            else:
                torn += 1
                journal = await opened_on(disk)
                assert journal.seq == hit - 1, place
                assert disk.files[PATH] == small[: begins[hit - 1]]

    run_virtual(main)
    assert refused > torn > 100


@pytest.mark.fault(24)
@pytest.mark.parametrize("edit", [lambda text: text.replace(b"\n", b"\r\n"), lambda text: b"\xef\xbb\xbf" + text])
def test_an_editors_line_ends_and_marks_are_damage(small: bytes, edit: Callable[[bytes], bytes]) -> None:
    """Refused at the first line, also where not one line is left as it was; line ends are given back by a repair."""
    changed = edit(small)
    disk = disk_of(changed)
    with pytest.raises(Damaged, match=r"damaged at byte 0 \(record 1\)"):
        run_virtual(opened_on, disk)
    assert disk.files[PATH] == changed
    done = run_virtual(repair, disk, FixedClock(), HOME, "me")
    if b"\r" in changed:
        assert done == Repair(0, 0, "journal.damaged-1")
        assert disk.files[PATH] == small


@pytest.mark.fault(26)
@pytest.mark.parametrize("missing", range(1, 8))
def test_a_missing_line_is_damage(small: bytes, missing: int) -> None:
    """Whole lines around a gap are not believed: their numbers must follow each other."""
    whole = small.splitlines(keepends=True)
    disk = disk_of(b"".join(line for seq, line in enumerate(whole, 1) if seq != missing))
    found = scan(disk, PATH)
    assert (found.last, found.torn) == (missing - 1, True)
    with pytest.raises(Damaged, match=rf"record {missing}\)"):
        run_virtual(opened_on, disk)


def test_a_last_line_that_lacks_only_its_end_is_torn_and_still_says_what_was_synced() -> None:
    """Damage before it is then no torn end: what was relied upon is not cut off."""
    whole = encode(1, 0.0, opened(), 0) + encode(2, 1.0, sent("x"), 1) + encode(3, 2.0, reply("x"), 2)
    torn = scan(disk_of(whole[:-1]), PATH)
    assert (torn.last, torn.torn, torn.damaged) == (2, True, False)
    rotten = whole[:-1].replace(b'"kind":"sent"', b'"kind":"sens"')
    disk = disk_of(rotten)
    with pytest.raises(Damaged, match=r"record 2\)"):
        run_virtual(opened_on, disk)
    assert disk.files[PATH] == rotten


def test_what_stands_behind_damage_counts_for_nothing_and_what_is_synced_is_known_to_the_byte() -> None:
    """Also where its number is the one that would come next; a mark tells up to where all lines are on the disk."""
    first, second, third = encode(1, 0.0, opened(), 0), encode(2, 1.0, sent("x")), encode(3, 2.0, reply("x"), 1)
    found = scan(disk_of(first + second + third), PATH)
    assert (found.last, found.safe, found.end) == (3, len(first), len(first + second + third))
    found = scan(disk_of(first + b"?\n" + second + third), PATH)
    assert (found.last, found.safe, found.end, found.damaged) == (1, 0, len(first), False)


@pytest.mark.fault(24)
def test_a_figure_that_was_mended_by_hand_is_damage(small: bytes) -> None:
    """The checksum tells, and the place says which line."""
    with pytest.raises(Damaged, match=r"record 4"):
        run_virtual(opened_on, disk_of(small.replace(b'"cost":60', b'"cost":10', 1)))


def test_lines_that_contradict_each_other_are_told() -> None:
    """Whole lines that cannot have happened are neither cut nor repaired."""
    content = encode(1, 0.0, opened(), 0) + encode(2, 0.0, reply("x"), 1)
    disk = disk_of(content)
    for _ in range(2):
        with pytest.raises(HistoryError, match="never sent"):
            run_virtual(opened_on, disk)
    assert disk.files[PATH] == content


# --- repair ------------------------------------------------------------------------------------------------------


@pytest.mark.fault(21)
def test_a_repair_counts_each_lost_line_and_keeps_the_damaged_file(small: bytes) -> None:
    """At the run's largest reservation; then the run goes on, and a second repair finds nothing."""
    whole = small.splitlines(keepends=True)
    content = b"".join([*whole[:3], b"#" + whole[3][1:], *whole[4:]])
    disk = disk_of(content)
    assert run_virtual(repair, disk, FixedClock(), HOME, "me") == Repair(1, 100, "journal.damaged-1")
    assert disk.files[HOME / "journal.damaged-1"] == content
    assert events_on(disk) == [*EVENTS[:3], Repaired(4, 100, len(EVENTS)), *EVENTS[4:]]
    assert run_virtual(repair, disk, FixedClock(), HOME, "me") is None
    more: Sequence[Event] = [opened(2), sent("z")]
    journal = run_virtual(write, disk, more)
    assert journal.seq == len(EVENTS) + 2
    assert journal.state.repaired == [Repaired(4, 100, len(EVENTS))]


def test_a_repair_leaves_a_torn_tail_and_a_sound_journal_alone(small: bytes) -> None:
    """There is nothing in them that must be counted."""
    for content in (small, small + b"torn"):
        disk = disk_of(content)
        assert run_virtual(repair, disk, FixedClock(), HOME, "me") is None
        assert disk.files[PATH] == content


def test_whatever_lines_are_lost_the_run_goes_on_and_no_money_is_forgotten(small: bytes) -> None:
    """Every set of lines but the last, turned to noise: held is never below what was held before."""
    whole = small.splitlines(keepends=True)
    before = scan(disk_of(small), PATH).state.run.held
    repaired = 0

    async def main() -> None:
        nonlocal repaired
        for kept in product((True, False), repeat=len(whole) - 1):
            made = [line if keep else b"#" * 5 + b"\n" for line, keep in zip(whole, (*kept, True), strict=True)]
            disk = disk_of(b"".join(made))
            if await repair(disk, FixedClock(5.0), HOME, "me") is None:
                continue
            repaired += 1
            journal = await opened_on(disk)
            told = any(isinstance(event, Opened | Sent) for event, keep in zip(EVENTS, kept, strict=False) if keep)
            assert journal.state.run.held >= before or not told, kept
            stamps = [orjson.loads(line)["at"] for line in disk.files[PATH].splitlines()]
            assert stamps == sorted(stamps)
            async with journal.writing():
                journal.record(opened(2))
                for call in list(journal.state.open_calls()):
                    one = call.sent
                    journal.record(Replied(one.cell, one.turn, one.attempt, "t", "ok", 100, "unknown", None, {}))
                journal.record(sent("x", 1, 7))
                journal.record(reply("y", 4))
            journal.close()
            assert (await opened_on(disk)).seq == journal.seq

    run_virtual(main)
    assert repaired > 100


def test_a_run_of_which_no_reservation_is_left_is_counted_at_its_ceiling(small: bytes) -> None:
    """No call can have cost more; nothing would be the one wrong answer."""
    whole = small.splitlines(keepends=True)
    content = b"".join(line if seq in (1, 8) else b"#\n" for seq, line in enumerate(whole, 1))
    found = run_virtual(repair, disk_of(content), FixedClock(), HOME, "me")
    assert found == Repair(6, 6 * 1000, "journal.damaged-1")


# --- a disk in trouble -------------------------------------------------------------------------------------------


def full_until_freed() -> Fault:
    """No room in the journal from its third write on, until the reserve is given back."""
    freed, writes = False, 0

    def fault(operation: Operation) -> None:
        nonlocal freed, writes
        freed = freed or (operation.name == "remove" and operation.path == SPARE)
        writes += operation.name == "write"
        if operation.name == "write" and writes > 2 and not freed:
            raise OSError(errno.ENOSPC, "No space left on device")

    return fault


@pytest.mark.fault(17)
@pytest.mark.parametrize("seed", range(5))
def test_a_full_disk_keeps_what_is_in_flight(seed: int) -> None:
    """The partial line is cut back, the reserve is freed, everything is put down; and nothing more may be granted."""
    disk = new_disk(full_until_freed())
    disk.random.seed(seed)
    journal = run_virtual(write, disk, *SCRIPT)
    assert SPARE not in disk.files
    assert str(journal.failing) == f"{PATH}: No space left on device"
    assert journal.lost == []
    assert events_on(disk) == EVENTS
    assert not scan(disk, PATH).torn


@pytest.mark.fault(17)
def test_a_disk_that_stays_full_names_what_it_could_not_keep() -> None:
    """Everyone who waits is told, nothing is tried for ever, and what was durable is still there."""

    def full(operation: Operation) -> None:
        if operation.name == "write" and sum(o.name == "write" for o in disk.operations) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    disk = new_disk(full)
    journals: list[Journal] = []

    async def main() -> None:
        journal = await opened_on(disk)
        journals.append(journal)
        async with journal.writing():
            for group in SCRIPT:
                for event in group:
                    journal.record(event)
                try:
                    await journal.flushed()
                except StorageError:
                    assert journal.failing is not None

    run_virtual(main)
    assert journals[0].lost == EVENTS[3:]
    # What did reach the disk may stay: a reply that was paid for is worth more than a tidy end.
    left = disk.survivor()
    assert run_virtual(opened_on, left).seq >= 3
    assert events_on(left) == EVENTS[: len(events_on(left))]


@pytest.mark.fault(20)
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_failed_sync_is_never_tried_again(number: int) -> None:
    """All who wait are told, what was not surely kept is named, and the next life reads what is there."""

    def broken(operation: Operation) -> None:
        if operation.name == "sync" and sum(o.name == "sync" for o in disk.operations) == number:
            raise OSError(errno.EIO, "Input/output error")

    disk = new_disk(broken)
    told: list[int] = []

    async def wait(journal: Journal, who: int) -> None:
        with pytest.raises(StorageError, match="Input/output error"):
            await journal.flushed()
        told.append(who)

    async def main() -> None:
        journal = await opened_on(disk)
        done = 0
        async with journal.writing():
            for group in SCRIPT[: number - 1]:
                for event in group:
                    journal.record(event)
                await journal.flushed()
                done += len(group)
            async with anyio.create_task_group() as tasks:
                journal.record(EVENTS[done])
                for who in range(3):
                    tasks.start_soon(wait, journal, who)
                await anyio.sleep(1)
            for event in EVENTS[done + 1 :]:
                journal.record(event)
            await wait(journal, 3)
        assert journal.lost == EVENTS[done:]

    run_virtual(main)
    assert sorted(told) == [0, 1, 2, 3]
    last = [operation.name for operation in disk.operations if operation.path == PATH]
    assert last[-2:] == ["write", "sync"]
    assert last.count("sync") == number
    found = run_virtual(opened_on, disk.survivor())
    assert found.seq >= sum(map(len, SCRIPT[: number - 1]))


@pytest.mark.fault(20)
def test_what_is_recorded_while_a_sync_fails_is_named_too() -> None:
    """It stood in the queue behind the group that failed, and will never be written."""

    def broken(operation: Operation) -> None:
        if operation.name == "sync":
            raise OSError(errno.EIO, "Input/output error")

    disk = new_disk(broken)
    disk.sync_seconds = (0.1, 0.1)

    async def main() -> None:
        journal = await opened_on(disk)
        async with journal.writing():
            for event in EVENTS:
                journal.record(event)
                await anyio.sleep(0.02)
        assert journal.lost == EVENTS

    run_virtual(main)
    assert events_on(disk.survivor()) == EVENTS[:1]


@pytest.mark.fault(19)
def test_a_disk_that_fails_at_opening_gives_the_lock_back(small: bytes) -> None:
    """Whatever operation it is; the trouble is named with the file."""
    disk = disk_of(small + b"torn")
    run_virtual(opened_on, disk)
    for number in range(1, len(disk.operations) + 1):
        one = new_disk(at(number, OSError(errno.EROFS, "Read-only file system")))
        one.put(PATH, small + b"torn")
        told = ""
        try:
            run_virtual(opened_on, one)
        except StorageError as error:
            told = str(error)
            run_virtual(opened_on, one.beside())
        # To set a torn tail aside, from its reading to its name, is the one thing that may fail without harm.
        names = [operation.name for operation in disk.operations]
        harmless = names.index("temporary") <= number <= names.index("truncate")
        assert told == f"{PATH}: Read-only file system" or (not told and harmless), disk.operations[number - 1]


def test_the_reserve_is_set_aside_and_set_aside_again() -> None:
    """At each opening that finds it gone."""
    disk = MemoryDisk(sync_seconds=(0, 0))
    run_virtual(opened_on, disk)
    assert len(disk.files[SPARE]) == 4 * 1024 * 1024
    disk = disk.survivor()
    disk.remove(SPARE)
    run_virtual(opened_on, disk)
    assert SPARE in disk.files


@pytest.mark.parametrize(("groups", "is_kept"), [(SCRIPT, False), (SCRIPT[:-1], True)])
def test_the_reserve_is_given_back_by_a_life_that_was_closed_in_order(
    groups: Sequence[Sequence[Event]], is_kept: bool
) -> None:
    """A thousand finished runs keep no four mebibytes each; what was broken off goes on as safely as before."""

    async def main() -> None:
        disk = MemoryDisk(sync_seconds=(0, 0))
        (await write(disk, *groups)).close()
        assert (SPARE in disk.files) is is_kept
        assert scan(disk, PATH).last == sum(map(len, groups))
        journal = await opened_on(disk)
        assert len(disk.files[SPARE]) == 4 * 1024 * 1024
        journal.close()

    run_virtual(main)


def test_a_reserve_that_cannot_be_removed_keeps_no_lock() -> None:
    """It is only space."""

    def fault(operation: Operation) -> None:
        if operation.name == "remove" and operation.path == SPARE:
            raise OSError(errno.EROFS, "Read-only file system")

    async def main() -> None:
        disk = MemoryDisk(fault=fault, sync_seconds=(0, 0))
        (await write(disk, *SCRIPT)).close()
        (await opened_on(disk)).close()

    run_virtual(main)


# --- death at any moment -----------------------------------------------------------------------------------------


def dies(disk: MemoryDisk, *groups: Sequence[Event]) -> int:
    """How many events were durable by the journal's own word when the process died, or ended."""
    durable = [0]

    async def life() -> None:
        await write(disk, *groups, done=durable.append)

    try:
        run_virtual(life)
    except Kill:
        pass
    return durable[-1]


def holds_through_two_deaths(step: int) -> None:
    """Killed in each operation of a life, then in every so-manieth of the next one's opening."""
    whole = new_disk()
    dies(whole, *SCRIPT)
    for number in range(1, len(whole.operations) + 1):
        for again in range(1 + number % step, 9, step):
            disk = new_disk(at(number, Kill("here")))
            disk.random.seed(number)
            durable = dies(disk, *SCRIPT)
            disk = disk.survivor(at(len(disk.operations) + again, Kill("there")))
            dies(disk)
            disk = disk.survivor()
            journal = run_virtual(opened_on, disk)
            assert journal.seq >= durable, (number, again)
            assert events_on(disk) == EVENTS[: journal.seq]
            disk = disk.survivor()
            run_virtual(write, disk, [Stopped("new", "pending")])
            assert events_on(disk) == [*EVENTS[: journal.seq], Stopped("new", "pending")]


@pytest.mark.fault(1)
def test_death_in_any_operation_loses_nothing_that_was_durable() -> None:
    """A prefix survives, and goes on; and does so when the opening of the next life is killed as well."""
    holds_through_two_deaths(4)


@pytest.mark.prove
def test_death_in_any_two_operations_loses_nothing_that_was_durable() -> None:
    """The same with each operation of the next life's opening."""
    holds_through_two_deaths(1)


def test_death_in_any_operation_of_a_repair_leaves_one_to_be_made(small: bytes) -> None:
    """The damaged file or the mended one, whole; never half of either."""
    whole = small.splitlines(keepends=True)
    content = b"".join([*whole[:3], b"#\n", *whole[4:]])
    disk = disk_of(content)
    run_virtual(repair, disk, FixedClock(), HOME, "me")
    mended = disk.files[PATH]
    for number in range(1, len(disk.operations) + 1):
        one = new_disk(at(number, Kill("here")))
        one.put(PATH, content)
        with pytest.raises(Kill):
            run_virtual(repair, one, FixedClock(), HOME, "me")
        one = one.survivor()
        assert one.files[PATH] in (content, mended)
        run_virtual(repair, one, FixedClock(), HOME, "me")
        assert one.files[PATH] == mended


def test_what_a_dead_process_left_unsynced_is_durable_before_anybody_relies_on_it() -> None:
    """Opening syncs what it has read: a loss of power right afterwards takes nothing of it back."""
    disk = new_disk()
    run_virtual(write, disk, *SCRIPT)
    disk.put(PATH, b"")
    whole = b"".join(encode(seq, 1.0, event) for seq, event in enumerate(EVENTS, 1))

    async def die_in_the_sync() -> None:
        appender = disk.appender(PATH)
        disk.fault = at(len(disk.operations) + 2, Kill("before the sync"))
        await appender.append(whole)

    with pytest.raises(Kill):
        run_virtual(die_in_the_sync)
    reader = disk.survivor()
    assert run_virtual(opened_on, reader).seq == len(EVENTS)
    assert run_virtual(opened_on, reader.after_power_loss()).seq == len(EVENTS)


class LyingDisk(MemoryDisk):
    """A file system that grants every lock."""

    def lock(self, path: Path, holder: str) -> MemoryLock:
        self._platter.created(path).owner = None
        return super().lock(path, holder)


@pytest.mark.fault(16)
def test_a_file_system_whose_locks_keep_nobody_out_is_refused() -> None:
    """Two processes would both take the run for theirs; the folder is named, and what to do."""
    with pytest.raises(StorageError, match=r"keep nobody out.*--outputs"):
        run_virtual(opened_on, LyingDisk())
