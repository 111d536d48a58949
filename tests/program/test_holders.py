"""Who holds a run: one process at a time, named to the others, and nobody once it is dead, however it died."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nights import provider
from tests.program.bench import MODELS, Bench, Trap, a_bench, is_bounded, is_whole, until

pytestmark = pytest.mark.timeout(900)

AT_ONCE = 3


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Six conversations of four turns, slow enough for two processes to meet."""
    slow = provider(MODELS, latency={"first": 0.05})
    with a_bench(tmp_path, slow, limits={"concurrency": AT_ONCE}, rounds=2) as made:
        yield made


@pytest.mark.fault(13, 14)
@pytest.mark.prove
def test_a_second_process_is_told_who_holds_the_run_and_the_lock_goes_with_its_holder(bench: Bench) -> None:
    """Exit 7 with the holder's number, machine and start; no request, no byte; after kill -9 the run begins at once."""
    bench.change(provider(MODELS, latency={"first": 600}))
    first = bench.start()
    until(lambda: len(bench.engine.received) == 1)
    before = bench.bytes_of(bench.folder)
    code, second = bench.done()
    assert code == 7
    assert f"job/main is held by process {first.pid} on {os.uname().nodename} since " in second.said
    after = bench.bytes_of(bench.folder)
    changes = {name for name in before | after if before.get(name) != after.get(name)}
    assert changes <= {"status.json"}, "the first says every two seconds that it is alive"
    assert len(bench.engine.received) == 1 and first.runs
    bench.change(bench.sim)
    first.killed()
    lost = len(is_bounded(bench, 1))
    assert str(first.pid).encode() in (bench.folder / "run.lock").read_bytes(), "a name that means nothing any more"
    code, third = bench.done()
    assert code == 0 and "goes on (life 2)" in third.said, third.said
    is_whole(bench, lost)


@pytest.mark.fault(15)
@pytest.mark.prove
def test_a_child_that_outlives_its_parent_does_not_keep_the_lock(bench: Bench) -> None:
    """A program started by the run that keeps every descriptor it was given was not given that of the lock."""
    first = bench.start(traps=[Trap("write", 3, "start a child"), Trap("write", 7, "kill")])
    assert first.ended() == -signal.SIGKILL and len(first.sprung) == 2
    try:
        os.kill(first.child, 0)  # alive
        lost = len(is_bounded(bench, AT_ONCE))
        code, second = bench.done()
        assert code == 0, second.said
        is_whole(bench, lost)
    finally:
        os.kill(first.child, signal.SIGKILL)


@pytest.mark.fault(13)
@pytest.mark.prove
def test_many_processes_started_together_hold_a_run_once(bench: Bench) -> None:
    """Three at the same instant, as after a power cut: one holds the run, or one after another; no turn twice."""
    processes = [bench.start() for _ in range(3)]
    codes = sorted(process.ended() for process in processes)
    assert codes[0] == 0 and set(codes) <= {0, 7}, [process.said for process in processes]
    is_whole(bench, 0)
