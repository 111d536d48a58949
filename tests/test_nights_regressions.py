"""Nights that once went wrong: each found by chance among thousands, and kept here so that it does not come back."""

from __future__ import annotations

import errno

import pytest

from runner.events import Closed, Opened, Sent
from runner.journal import FILE, repair
from runner.money import NANOS_PER_DOLLAR
from runner.selection import Options
from runner.verify import verify
from tests.memory import MemoryDisk, Operation, at
from tests.nights import Night, matrix, provider
from tests.virtual import FixedClock, Kill, run_virtual

MODELS = ("m0", "m1", "m2")


def eio() -> OSError:
    return OSError(errno.EIO, "Input/output error")


def small(**changes: object) -> Night:
    return Night(matrix(MODELS, **changes), provider(MODELS))  # type: ignore[arg-type]


def syncs(night: Night) -> list[Operation]:
    """The syncs of the journal, in order."""
    return [o for o in night.disk.operations if o.name == "sync" and o.path == night.folder / FILE]


def write_before(night: Night, sync: Operation) -> int:
    """The number of the write that a sync makes durable; others may have asked for something in between."""
    operations = night.disk.operations[: sync.number]
    return max(o.number for o in operations if o.name == "write" and o.path == sync.path)


@pytest.mark.prove
def test_the_lines_are_written_in_the_middle_of_a_night_while_replies_are_on_their_way_to_a_slow_disk() -> None:
    """A reply is in the state before it is in the file; whoever shows it then reads it all the same."""
    job = matrix(MODELS, repeat=20, rounds=8, limits={"concurrency": 48})
    night = Night(job, provider(MODELS), disk=MemoryDisk(sync_seconds=(0.3, 0.9)), seed=1)
    life = night.live()
    assert life.exit == 0 and life.seconds > 65.0
    in_between = [o for o in night.disk.operations if o.name == "rename" and o.path.name == "conversations.jsonl"]
    assert len(in_between) > 1


@pytest.mark.fault(19)
def test_a_disk_that_fails_ends_the_night_with_exit_8_and_shows_what_was_kept() -> None:
    """Wherever the journal breaks: views of the records that are kept, no traceback, and the next night completes."""
    whole = small()
    assert whole.live().exit == 0
    for operation in syncs(whole)[2:30:3]:
        night = small()
        # The write before the sync fails in its middle, so that its records are nowhere.
        life = night.live(fault=at(write_before(whole, operation), eio()))
        assert life.exit == 8, life.told
        told = "\n".join(life.told)
        assert ("not kept: turn " in told) != ("every answer that came was kept" in told)
        assert night.status()["records"] == night.records()[-1].seq
        assert night.live().exit == 0
        assert verify(night.folder, night.disk).problems == ()


def test_a_night_whose_last_record_could_not_be_kept_says_so_by_its_exit() -> None:
    """Exit 8 also when nothing but the end of the life is missing from the journal."""
    whole = small()
    assert whole.live().exit == 0
    night = small()
    life = night.live(fault=at(write_before(whole, syncs(whole)[-1]), eio()))
    assert not any(isinstance(r.event, Closed) for r in night.records())
    assert life.exit == 8


def test_a_ceiling_that_is_lowered_below_what_was_spent_is_no_overrun() -> None:
    """A complete run stays complete, and nobody is blamed for using more than was allowed."""
    night = small()
    assert night.live().exit == 0
    less = night.counted // 2
    assert night.live(Options(budget=less)).exit == 0
    assert night.status()["reasons"] == []


@pytest.mark.prove
def test_a_night_with_nothing_but_news_that_dies_anywhere_leaves_no_view_behind() -> None:
    """The status counts as up to date only when all that is written before it is: the next night writes the rest."""
    for number in range(30):
        night = Night(matrix(MODELS[:2], rounds=1), provider(MODELS[:2]), seed=number)
        assert night.live().exit == 0
        death = len(night.disk.operations) + 5 + number
        night.live(Options(budget=NANOS_PER_DOLLAR), fault=at(death, Kill("at the end")))
        assert night.live(Options(budget=NANOS_PER_DOLLAR)).exit == 0
        assert verify(night.folder, night.left()).problems == (), number


def test_a_complete_run_that_was_repaired_says_what_its_job_is_and_shows_what_was_lost() -> None:
    """Whichever record was lost, the first one too: the next night has its job on record and all its views right."""
    for line in (0, 5, -3):
        night = small()
        assert night.live().exit == 0
        content = bytearray(night.disk.files[night.folder / FILE])
        damaged = content.splitlines(keepends=True)
        damaged[line] = damaged[line].replace(b'"v":1', b'"v":2')
        night.disk.put(night.folder / FILE, b"".join(damaged))
        disk = night.disk.survivor()
        run_virtual(repair, disk, FixedClock(night.wall), night.folder, "{}")
        for _ in range(2):
            assert night.live().exit == 0
        assert verify(night.folder, night.left()).problems == (), line


def test_a_minutes_limit_is_waited_for_however_short_the_wait_for_parked_providers_is() -> None:
    """`max_wait` is for providers that have shut their door; a full minute opens again by itself."""
    night = Night(matrix(MODELS, limits={"rpm": 60, "tpm": 3000, "count": "used"}, max_wait="1s"), provider(MODELS))
    assert night.live().exit == 0


def test_after_a_crash_a_daily_limit_counts_each_request_once_and_for_its_own_model() -> None:
    """Requests of the last minute are among those of the day, and a limit for each model is none for all of them."""
    limits = {"rpd": 20, "per": "model"}
    night = Night(matrix(MODELS, limits=limits, max_wait="1s"), provider(MODELS))
    seen = 0

    def fault(operation: Operation) -> None:
        nonlocal seen
        seen += operation.name == "sync" and operation.path.name == FILE
        if seen == 12:
            raise Kill("in the middle")

    assert night.live(fault=fault).exit is None
    night.wall -= 40.0  # within the last minute
    life = night.live()
    assert life.exit == 0, life.told
    lives = [r.event.life for r in night.records() if isinstance(r.event, Opened)]
    calls = [s.alias for s in night.sents()]
    assert len(lives) == 2 and max(calls.count(m) for m in MODELS) <= 20
    assert any(isinstance(r.event, Sent) for r in night.records())
    assert night.counted < NANOS_PER_DOLLAR
