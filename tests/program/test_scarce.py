"""A machine that gives little: few open files, no threads. The run takes longer then, and is complete."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nights import provider
from tests.program.bench import (
    MODELS,
    Bench,
    Process,
    Trap,
    a_bench,
    in_flight,
    is_bounded,
    is_whole,
    until,
)

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """72 conversations of two turns, as many as can be at once."""
    slow = provider(MODELS, latency={"first": 0.2})
    with a_bench(tmp_path, slow, limits={"concurrency": 72}, repeat=12, rounds=1) as made:
        yield made


def start_with(bench: Bench, soft: int, hard: int) -> Process:
    """Start the job where a process may open so many files, and so many if it asks."""
    bench.within = ("sh", "-c", f'ulimit -S -n {soft} && ulimit -H -n {hard} && exec "$@"', "sh")
    process = bench.start()
    bench.within = ()
    return process


def done_with(bench: Bench, soft: int, hard: int) -> tuple[int, Process]:
    """The same, to its end."""
    process = start_with(bench, soft, hard)
    return process.ended(), process


def most_in_flight(bench: Bench) -> int:
    """How many calls were out at the same time, by the journal."""
    flying = most = 0
    for record in bench.records():
        flying += {"sent": 1, "replied": -1, "failed": -1}.get(record.event.kind, 0)
        most = max(most, flying)
    return most


@pytest.mark.fault(87)
def test_a_low_limit_of_open_files_is_raised_where_it_may_be(tmp_path: Path) -> None:
    """64 for a start, more if one asks: all calls go out at once, and none fails for want of a descriptor."""
    slow = provider(MODELS, latency={"first": 0.5})
    with a_bench(tmp_path, slow, limits={"concurrency": 72}, repeat=12, rounds=3) as bench:
        process = start_with(bench, soft=64, hard=1024)
        # Each model is tried out first. None answers any more from then on, so that all calls come to be in flight.
        until(lambda: {one.model for one in bench.engine.received if one.ended == "finished"} == set(MODELS))
        bench.change(provider(MODELS, latency={"first": 600}))
        until(lambda: len(in_flight(bench.records())) == 72)
        assert "at once and not" not in process.said
        assert not bench.ledger().failures
        process.killed()
        lost = is_bounded(bench, 72)
        bench.change(provider(MODELS, latency={"first": 0.005}))
        code, process = bench.done()
        assert code == 0, process.said
        is_whole(bench, len(lost))


@pytest.mark.fault(87)
def test_few_open_files_make_fewer_calls_at_once_and_no_failures(bench: Bench) -> None:
    """64 and no more: it says how many calls there are files for, keeps to it, and everything is written down."""
    code, process = done_with(bench, soft=64, hard=64)
    assert code == 0, process.said
    assert "20 calls at once and not 72: a process may not open more files here; see ulimit -n" in process.said
    is_whole(bench, 0)
    assert not bench.ledger().failures
    assert most_in_flight(bench) <= 20


@pytest.mark.fault(87)
def test_too_few_open_files_for_a_single_call_are_told_before_anything_is_sent(bench: Bench) -> None:
    """Exit 6, with the command that mends it; nothing is sent, and the run begins when there are more."""
    code, process = done_with(bench, soft=24, hard=24)
    assert code == 6
    assert "open too few files" in process.said and "ulimit -n 1024" in process.said
    assert bench.engine.received == []
    code, process = bench.done()
    assert code == 0, process.said
    is_whole(bench, 0)


@pytest.mark.parametrize("number", [1, 3])
def test_where_no_thread_can_be_started_what_costs_money_is_kept_all_the_same(bench: Bench, number: int) -> None:
    """From the first or the third on: files are then written while the others wait."""
    code, process = bench.done(traps=[Trap("thread", number, "refuse", None)])
    assert code == 0, process.said
    assert process.sprung == ["refuse"]
    is_whole(bench, 0)
