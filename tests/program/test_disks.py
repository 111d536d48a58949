"""A disk that is really full: too small to begin, full in the middle, out of names, read-only; then there is room."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.nights import provider
from tests.program.bench import MODELS, Bench, Trap, a_bench, is_bounded, is_whole
from tests.program.tiny import TinyDisk, a_tiny_disk

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]

AT_ONCE = 3
SPARE_KIB = 4096


@contextmanager
def a_bench_on(tmp_path: Path, options: str) -> Iterator[tuple[Bench, TinyDisk]]:
    """A bench whose outputs are on a tiny disk."""
    slow = provider(MODELS, latency={"first": 0.02})
    with (
        a_tiny_disk(tmp_path / "outputs", options) as disk,
        a_bench(tmp_path, slow, limits={"concurrency": AT_ONCE}, rounds=4) as bench,
    ):
        bench.outputs = disk.seen
        bench.within = disk.within
        yield bench, disk


def goes_on(bench: Bench, lost: int) -> None:
    """The same command, with room, finishes."""
    code, process = bench.done()
    assert code == 0, process.said
    is_whole(bench, lost)


@pytest.mark.fault(17)
def test_a_disk_without_room_for_a_beginning_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """On 64 kB: exit 8, not one request, no litter; the same command completes when there is room."""
    with a_bench_on(tmp_path, "size=64k") as (bench, disk):
        code, process = bench.done()
        assert code == 8 and "No space left on device" in process.said and "Traceback" not in process.said
        assert bench.engine.received == []
        assert list(bench.outputs.rglob(".*")) == []
        disk.change("size=16m")
        goes_on(bench, 0)


@pytest.mark.fault(17)
def test_a_disk_that_fills_up_keeps_what_is_in_flight_and_says_so_again_until_there_is_room(tmp_path: Path) -> None:
    """The spare file's room takes the last answers; a run on the full disk sends nothing and changes nothing."""
    with a_bench_on(tmp_path, f"size={SPARE_KIB + 56}k") as (bench, disk):
        code, process = bench.done()
        assert code == 8, process.said
        assert "No space left on device; nothing more was sent" in process.said
        assert "every answer that came was kept" in process.said
        assert "goes on with: tertulia run job.yaml" in process.said
        assert is_bounded(bench, AT_ONCE) == set()
        disk.fill()
        journal, asked = bench.journal(), len(bench.engine.received)
        code, process = bench.done()
        assert code == 8 and "No space left on device" in process.said and "Traceback" not in process.said
        assert (bench.journal(), len(bench.engine.received)) == (journal, asked)
        code, process = bench.done("verify", "job/main")
        assert code == 0, process.said
        disk.change("size=32m")
        goes_on(bench, 0)


@pytest.mark.fault(18)
def test_a_torn_line_on_a_full_disk_is_cut_although_there_is_no_room_for_a_copy(tmp_path: Path) -> None:
    """Killed half-way through a write, then the disk fills up: the next start says where the rest went, and stops."""
    with a_bench_on(tmp_path, "size=16m") as (bench, disk):
        code, process = bench.done(traps=[Trap("write", 9, "kill half-way")])
        assert code == -signal.SIGKILL and process.sprung == ["kill half-way"]
        lost = len(is_bounded(bench, AT_ONCE))
        stuffing = disk.fill()
        assert not bench.journal().endswith(b"\n")
        code, process = bench.done()
        assert code == 8 and "Traceback" not in process.said
        assert "torn by a crash; they were moved to nowhere (No space left on device)" in process.said
        assert bench.journal().endswith(b"\n")
        is_bounded(bench, AT_ONCE)
        stuffing.unlink()
        goes_on(bench, lost)


def test_a_disk_without_names_left_keeps_the_journal_and_the_views_are_made_later(tmp_path: Path) -> None:
    """The run itself completes; exit 8 tells of its views, and `report` writes them when it can."""
    with a_bench_on(tmp_path, "size=16m") as (bench, disk):
        process = bench.start(traps=[Trap("write", 5, "stand still")])
        process.stands_still()
        room = os.statvfs(disk.seen)
        disk.change(f"nr_inodes={room.f_files - room.f_ffree}")
        process.send(signal.SIGCONT)
        assert process.ended() == 8, process.said
        assert (
            "job/main: the views could not be written (No space left on device); the journal is sound" in process.said
        )
        assert is_bounded(bench, AT_ONCE) == set()
        assert not (bench.folder / "index.md").exists()
        disk.change("nr_inodes=100")
        code, process = bench.done("report", "job/main")
        assert code == 0, process.said
        assert bench.statuses() == {"complete": 6}
        asked = len(bench.engine.received)
        goes_on(bench, 0)
        assert len(bench.engine.received) == asked


@pytest.mark.fault(19)
def test_a_read_only_disk_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    """Remounted between two lives: exit 8, nothing is sent, what is there can be looked at; then the run goes on."""
    with a_bench_on(tmp_path, "size=16m") as (bench, disk):
        process = bench.start()
        bench.reached(process, 20)
        process.killed()
        lost, asked, before = len(is_bounded(bench, AT_ONCE)), len(bench.engine.received), bench.bytes_of()
        disk.change("ro")
        code, process = bench.done()
        assert code == 8 and "Read-only file system" in process.said and "Traceback" not in process.said
        code, process = bench.done("status", "job/main")
        assert code == 0, process.said
        assert bench.bytes_of() == before and len(bench.engine.received) == asked
        disk.change("rw")
        goes_on(bench, lost)
