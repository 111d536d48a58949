"""Processes that are interrupted, abandoned, or cut off from whoever looked on: what each leaves can be gone on with.

What the first and the second request to stop do is shown in tests/cli/test_hold.py; here are the rest of them.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.nights import provider
from tests.program.bench import MODELS, Bench, Trap, a_bench, in_flight, is_bounded, is_whole, until

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]

AT_ONCE = 3


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Six conversations of four turns, slow enough to be met in the middle of a call; on either loop."""
    slow = provider(MODELS, latency={"first": 0.05})
    with a_bench(tmp_path, slow, limits={"concurrency": AT_ONCE}, rounds=2) as made:
        made.uvloop = request.param
        assert not made.uvloop or find_spec("uvloop") is not None
        yield made


def goes_on(bench: Bench, lost: int) -> None:
    code, process = bench.done()
    assert code == 0, process.said
    is_whole(bench, lost)


@pytest.mark.fault(4)
def test_a_third_interrupt_ends_a_process_that_hangs_and_the_journal_is_sound(bench: Bench) -> None:
    """A sync that never returns keeps the first two from ending it; the third does, at once, with 130."""
    process = bench.start(traps=[Trap("sync", 6, "hang")])
    until(lambda: process.sprung == ["hang"])
    process.send(signal.SIGINT)
    until(lambda: "stopping: " in process.said)
    asked = 1
    while process.runs:
        assert asked < 100, "nothing ends it"
        process.send(signal.SIGINT)
        asked += 1
        time.sleep(0.1)
    assert process.ended() == 130 and asked >= 3
    goes_on(bench, len(is_bounded(bench, AT_ONCE)))


def test_an_interrupt_while_it_begins_or_ends_leaves_a_run_that_goes_on(bench: Bench) -> None:
    """Before the lock is taken, before the first line, before the first request: exit 130, and no call is unknown.

    One that comes when everything is held, and only the views are being written, changes nothing any more.
    """
    for trap in (
        Trap("open", 1, "interrupt", "run.lock"),
        Trap("write", 1, "interrupt"),
        Trap("sync", 3, "interrupt"),
    ):
        code, process = bench.done(traps=[trap])
        assert process.sprung == ["interrupt"] and "Traceback" not in process.said
        # The second: the interpreter was interrupted in the midst of its own business, and says so to the shell.
        assert code in (130, -signal.SIGINT), process.said
        assert is_bounded(bench, AT_ONCE) == set()
    code, process = bench.done(traps=[Trap("write", 1, "interrupt", "index.md")])
    assert code == 0 and process.sprung == ["interrupt"], process.said
    is_whole(bench, 0)


@pytest.mark.fault(6)
def test_a_hang_up_does_not_end_the_night(bench: Bench) -> None:
    """SIGHUP to the process itself is as nothing."""
    process = bench.start()
    bench.reached(process, 10)
    process.send(signal.SIGHUP)
    assert process.ended() == 0, process.said
    is_whole(bench, 0)


@pytest.mark.fault(5)
def test_terminated_and_then_interrupted_leaves_at_once(bench: Bench) -> None:
    """The second request is obeyed whichever it is; the code stays that of the first, the calls are told as lost."""
    bench.change(provider(MODELS, latency={"first": 600}))
    process = bench.start("run", "job.yaml", "--grace", "1h")
    until(lambda: len(in_flight(bench.records())) == 1)  # the models are tried out one by one
    process.send(signal.SIGTERM)
    until(lambda: "stopping: 1 call in flight" in process.said)
    process.send(signal.SIGINT)
    assert process.ended() == 143, process.said
    assert "assumed for 1 call" in process.said
    assert in_flight(bench.records()) == set() and bench.billed <= bench.counted <= bench.cap


@pytest.mark.fault(6)
def test_a_terminal_that_is_closed_takes_nothing_with_it(bench: Bench) -> None:
    """The window goes in the middle of a table being drawn: the run completes as if nobody had ever looked."""
    ours, theirs = pty.openpty()
    process = bench.start(stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    bench.reached(process, 10)
    os.close(ours)
    assert process.ended() == 0
    is_whole(bench, 0)


@pytest.mark.fault(6)
def test_without_any_standard_stream_the_night_is_held_all_the_same(bench: Bench) -> None:
    """Closed stdin, stdout and stderr: no file of the run takes their numbers, and nothing strays into it."""
    bench.within = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    process = bench.start(traps=[Trap("write", 10_000, "kill")])
    assert process.ended() == 0 and process.sprung == []
    is_whole(bench, 0)


@pytest.mark.fault(6)
def test_a_reader_that_has_seen_enough_changes_neither_run_nor_exit_code(bench: Bench) -> None:
    """`tertulia run --json | head -1`: the first line is read, the rest is dropped, the night is complete."""
    process = bench.start("run", "job.yaml", "--json", stdout=subprocess.PIPE)
    assert process.popen.stdout is not None
    with subprocess.Popen(["head", "-1"], stdin=process.popen.stdout, stdout=subprocess.PIPE) as head:
        process.popen.stdout.close()
        first, _ = head.communicate(timeout=60)
    assert first.startswith(b'{"event": "begun"') and first.count(b"\n") == 1
    assert process.ended() == 0, process.said
    is_whole(bench, 0)
