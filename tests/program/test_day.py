"""One ceiling over a day, several processes: what the provider bills them together never passes it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import Any, Final

import orjson
import pytest

from runner.ledger import FILE, Book, read
from runner.money import NANOS_PER_DOLLAR, shown
from runner.verify import verify
from runner.world import RealDisk
from tests.nights import Night, matrix, provider
from tests.program.bench import MODELS, Bench, Process, Trap, a_bench

pytestmark = pytest.mark.timeout(900)

HABITS = provider(MODELS, latency={"first": 0.02, "spread": 0.5})
SIZE: Final[Mapping[str, Any]] = {"repeat": 10, "rounds": 2, "max_tokens": 150, "limits": {"concurrency": 6}}
Figures = Callable[[str, object], None]


class Day:
    """Two jobs in one outputs folder, with a key each and one ceiling over the day: half of what they need."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.looks = 0
        alone = Night(matrix(MODELS, **{**SIZE, "budget": 1000}), HABITS)
        assert alone.live().exit == 0
        self.cap = alone.billed
        for name, key in (("left", "${PLANTED_KEY}"), ("right", "${OTHER_KEY}")):
            job = {
                **bench.job,
                "name": name,
                "timezone": _noon(),
                "budget": {"run": 50, "day": self.cap / NANOS_PER_DOLLAR},
                "providers": {"p": {**bench.job["providers"]["p"], "api_key": key}},
            }
            (bench.home / f"{name}.yaml").write_bytes(orjson.dumps(job))

    def start(self, name: str) -> Process:
        return self.bench.start("run", f"{name}.yaml")

    def look(self) -> int:
        """What is billed at this instant, at most what is counted, and that within the ceiling."""
        billed = self.bench.billed
        assert billed <= self.counted() <= self.cap
        self.looks += 1
        return billed

    def counted(self) -> int:
        """What both count, by the lines of the ledger: the last of each run stands."""
        last = {entry.run: entry.amount for entry in read(RealDisk(), self.bench.outputs / FILE).entries}
        return sum(last.values())

    def watched(self, *processes: Process, until: Callable[[int], bool] = lambda billed: False) -> None:
        """Look again and again, until all of these are over, or so much is billed."""
        while any(process.runs for process in processes) and not until(self.look()):
            sleep(0.002)
        self.look()

    def is_used_up(self, *processes: Process) -> None:
        """All have stopped for want of money, of which little is left, and all figures are right."""
        for process in processes:
            assert process.ended() == 4, process.said
            assert "exit 4: budget" in process.said
        assert self.counted() >= 0.9 * self.cap
        for name in ("left", "right"):
            found = verify(self.bench.outputs / name / "main", RealDisk())
            assert found.problems == (), found.problems
            assert self.bench.ledger(self.bench.outputs / name / "main").asked_again == []

    def __str__(self) -> str:
        return (
            f"bill {shown(self.bench.billed)} <= counted {shown(self.counted())} <= ceiling of the day "
            f"{shown(self.cap)}, looked at {self.looks:,} times"
        )


def _noon() -> str:
    """A zone in which it is about noon, so that no day ends during a test."""
    return f"Etc/GMT{datetime.now(UTC).hour - 12:+d}"


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    with a_bench(tmp_path, HABITS, **SIZE) as bench:
        yield Day(bench)


@pytest.mark.fault(66)
def test_two_processes_with_different_jobs_never_pass_the_ceiling_of_the_day_and_use_it(
    day: Day, record_property: Figures
) -> None:
    """Both at full speed, with keys of their own: looked at all the time, the bills together stay below it."""
    left, right = day.start("left"), day.start("right")
    day.watched(left, right)
    day.is_used_up(left, right)
    assert day.bench.billed >= 0.9 * day.cap
    record_property("figures", str(day))


@pytest.mark.fault(66)
@pytest.mark.prove
def test_a_process_that_is_killed_and_taken_up_again_does_not_open_the_ceiling(
    day: Day, record_property: Figures
) -> None:
    """kill -9 of one when a third is spent, and the same command at once: its calls in flight count as spent."""
    left, right = day.start("left"), day.start("right")
    day.watched(left, right, until=lambda billed: billed > day.cap // 3)
    left.send(signal.SIGKILL)
    assert left.ended() == -signal.SIGKILL
    day.look()
    again = day.start("left")
    day.watched(again, right)
    day.is_used_up(again, right)
    record_property("figures", str(day))


@pytest.mark.fault(66)
@pytest.mark.prove
def test_faults_at_the_ledger_stop_one_process_and_neither_open_nor_close_the_day(day: Day) -> None:
    """In the middle of a line, at a sync, on a full disk: the next processes find what it counts, spend the rest."""
    for trap, code in (
        (Trap("write", 3, "kill half-way", FILE), -signal.SIGKILL),
        (Trap("sync", 3, "EIO", FILE), 8),
        (Trap("write", 2, "ENOSPC", FILE), 8),
    ):
        left = day.bench.start("run", "left.yaml", traps=[trap])
        day.watched(left)
        assert left.ended() == code and left.sprung == [trap.what], left.said
    left, right = day.start("left"), day.start("right")
    day.watched(left, right)
    day.is_used_up(left, right)


@pytest.mark.prove
def test_what_a_killed_process_had_drawn_is_there_for_the_others(day: Day, record_property: Figures) -> None:
    """It is never taken up again: the other counts its journal for it, and spends what it had drawn and not spent."""
    left = day.start("left")
    day.watched(left, until=lambda billed: billed > day.cap // 6)
    right = day.start("right")
    day.watched(left, right, until=lambda billed: billed > day.cap // 3)
    left.send(signal.SIGKILL)
    assert left.ended() == -signal.SIGKILL
    day.watched(right)
    day.is_used_up(right)
    last = {
        entry.folder: entry.kind for entry in Book(read(RealDisk(), day.bench.outputs / FILE).entries).standing.values()
    }
    assert last == {"left/main": "counted", "right/main": "counted"}
    record_property("figures", str(day))
