"""The virtual loop: it must be believed before anything that runs on it can be."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import signal
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from contextvars import copy_context
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given
from hypothesis import strategies as st

from runner.night import Place, Source, night
from runner.preflight import CannotBegin
from runner.selection import Options
from runner.sim.wire import SimWire
from runner.world import HttpRequest, LockHeld, World, taken
from tests.memory import Fault, MemoryDisk, at, no_fault, planned
from tests.nights import ROOT, Night, job_of, matrix, provider, text_of
from tests.virtual import (
    _GRAVES,
    Calls,
    Deadlock,
    Ending,
    FixedClock,
    Kill,
    Livelock,
    PowerLoss,
    Process,
    ScriptedPrograms,
    ScriptedSignals,
    VirtualClock,
    VirtualLoop,
    _graves,
    bury,
    kill,
    killed,
    run_virtual,
    side_by_side,
)


async def crowd(size: int) -> list[tuple[int, str, float]]:
    """Many tasks that share slots and a rate, some of which lose patience."""
    events: list[tuple[int, str, float]] = []
    slots = anyio.CapacityLimiter(7)
    pace = AsyncLimiter(10, 3)
    chance = Random(1)
    patience = [chance.choice([30.0, 1e6]) for _ in range(size)]

    async def visit(number: int) -> None:
        with anyio.move_on_after(patience[number]) as scope:
            async with pace, slots:
                events.append((number, "in", anyio.current_time()))
                await anyio.sleep(1.5)
        events.append((number, "gave up" if scope.cancelled_caught else "out", anyio.current_time()))

    async with anyio.create_task_group() as group:
        for number in range(size):
            group.start_soon(visit, number)
    return events


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_two_hundred_tasks_take_the_same_steps_with_the_same_seed(seed: int | None) -> None:
    """Everything that runs on the loop can be replayed, times included."""
    first = run_virtual(crowd, 200, seed=seed)
    assert first == run_virtual(crowd, 200, seed=seed)
    assert {what for _, what, _ in first} == {"in", "out", "gave up"}


def test_another_seed_takes_another_order() -> None:
    """Seeds explore interleavings; without one the order is plain."""
    orders = [[event[:2] for event in run_virtual(crowd, 50, seed=seed)] for seed in (None, 1, 2)]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_limits_hold_in_every_order() -> None:
    """The libraries' own promises survive the shuffling: never more than seven inside, never above the pace."""
    for seed in range(5):
        inside = highest = 0
        entered: list[float] = []
        for _, what, when in run_virtual(crowd, 100, seed=seed):
            inside += {"in": 1, "out": -1}.get(what, 0)
            highest = max(highest, inside)
            if what == "in":
                entered.append(when)
        assert highest <= 7
        for start in entered:
            assert sum(start <= at < start + 3 for at in entered) <= 20


@given(st.lists(st.floats(0, 1e7), max_size=20), st.none() | st.integers())
def test_sleepers_wake_in_the_order_of_their_alarms(naps: list[float], seed: int | None) -> None:
    """Time jumps from timer to timer, never back, never past one, whatever the order of steps."""
    woken: list[tuple[float, float]] = []

    async def sleep(seconds: float) -> None:
        start = anyio.current_time()
        await anyio.sleep(seconds)
        woken.append((start + seconds, anyio.current_time()))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for seconds in naps:
                group.start_soon(sleep, seconds)

    run_virtual(main, seed=seed)
    assert len(woken) == len(naps)
    assert all(due <= at <= due + 0.01 for due, at in woken)
    assert [at for _, at in woken] == sorted(at for _, at in woken)


def test_every_step_takes_a_moment() -> None:
    """No two steps share a stamp, so that nothing waits for a clock that stands still."""

    async def main() -> list[float]:
        stamps = []
        for _ in range(100):
            stamps.append(anyio.current_time())
            await anyio.lowlevel.checkpoint()
        return stamps

    stamps = run_virtual(main)
    assert len(set(stamps)) == 100
    assert stamps[-1] < 0.01


@pytest.mark.parametrize("wait", [lambda: anyio.Event().wait(), anyio.sleep_forever])
def test_a_lost_wake_up_is_an_error_that_names_who_waits(wait: Callable[[], object]) -> None:
    """Nothing runnable and no timer is reported, not waited for."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.set_name("the sleeper")
        await wait()  # type: ignore[misc]

    with pytest.raises(Deadlock, match="the sleeper"):
        run_virtual(main)


def test_a_loop_without_end_is_an_error_that_shows_its_last_steps() -> None:
    """A livelock ends at the step limit."""

    async def spin() -> None:
        while True:
            await anyio.lowlevel.checkpoint()

    with pytest.raises(Livelock, match=r"(?s)2000 steps.*spin"):
        run_virtual(spin, steps=2000)


def test_threads_are_refused() -> None:
    """Neither anyio's threads, nor the loop's, nor plain ones can be had in the virtual world."""

    async def plain() -> None:
        threading.Thread(target=int).start()

    async def executor() -> None:
        await asyncio.get_running_loop().run_in_executor(None, int)

    async def of_anyio() -> None:
        await anyio.to_thread.run_sync(int)

    for attempt in (plain, executor, of_anyio):
        with pytest.raises(RuntimeError, match="no threads"):
            run_virtual(attempt)
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def test_sockets_are_refused() -> None:
    """What waits for a descriptor would wait for ever, so it fails."""

    async def main() -> None:
        asyncio.get_running_loop().add_reader(0, int)

    with pytest.raises(RuntimeError, match="no sockets"):
        run_virtual(main)


@pytest.mark.parametrize("kind", ["waiting", "at once", "by time"])
@pytest.mark.parametrize("seed", [None, 3])
def test_a_killed_process_does_nothing_more(kind: str, seed: int | None) -> None:
    """No `finally`, no `except` and no other task runs after a kill, even when all is collected."""
    after: list[str] = []

    async def bystander() -> None:
        try:
            await anyio.sleep(5)
            await anyio.sleep(1000)
        finally:
            after.append("bystander")

    async def victim() -> None:
        await anyio.sleep(10)
        if kind == "at once":
            kill("here")
        try:
            await (killed("here") if kind == "waiting" else anyio.sleep(100))
        finally:
            after.append("victim")

    async def main() -> None:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(bystander)
                group.start_soon(victim)
        finally:
            after.append("main")

    with pytest.raises(Kill) as death:
        run_virtual(main, seed=seed, kill_at=11.0 if kind == "by time" else math.inf)
    assert death.value.at == pytest.approx(11 if kind == "by time" else 10, abs=0.01)
    del death
    gc.collect()
    assert after == []


def test_a_failure_still_unwinds() -> None:
    """Only a kill is abrupt: an exception cancels the others, whose `finally` runs."""
    after: list[str] = []

    async def bystander() -> None:
        try:
            await anyio.sleep(1000)
        finally:
            after.append("bystander")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(bystander)
            await anyio.sleep(1)
            raise ValueError

    with pytest.raises(ExceptionGroup):
        run_virtual(main)
    assert after == ["bystander"]


def test_the_next_life_can_begin_where_the_last_ended() -> None:
    """`start` sets the loop's first moment, and the wall clock goes with the loop."""
    clock = VirtualClock(1000.0, jumps=[(60.0, 3600.0)])

    async def main() -> list[float]:
        walls = [clock.wall()]
        await anyio.sleep(20)
        walls.append(clock.wall())
        clock.jump(-500)
        return [*walls, clock.wall()]

    assert run_virtual(main, start=50.0) == pytest.approx([1050.0, 4670.0, 4170.0], abs=0.01)
    assert FixedClock(5.0).wall() == 5.0


def test_signals_come_at_their_times_and_then_no_more() -> None:
    """A listener hears the script in order of time; waiting for another signal keeps nobody alive."""
    signals = ScriptedSignals([(30.0, signal.SIGTERM), (10.0, signal.SIGINT)])

    async def main() -> list[tuple[int, int]]:
        heard: list[tuple[int, int]] = []
        async with signals.listen() as coming:
            async for number in coming:
                heard.append((round(anyio.current_time()), number))
                if len(heard) == 2:
                    break
            with pytest.raises(TimeoutError), anyio.fail_after(1000):
                await anext(aiter(coming))
        return heard

    assert run_virtual(main) == [(10, signal.SIGINT), (30, signal.SIGTERM)]
    assert signals.heard == [signal.SIGINT, signal.SIGTERM]

    async def deaf() -> None:
        async with ScriptedSignals().listen() as coming:
            await anext(coming)

    with pytest.raises(Deadlock):
        run_virtual(deaf)


def test_the_private_names_of_the_standard_loop_are_still_there() -> None:
    """The canary: the loop replaces these by name, and a Python that renames one would silently go its own way."""
    for name in ("_run_once", "_make_self_pipe", "_close_self_pipe", "_write_to_self", "_asyncgen_firstiter_hook"):
        assert callable(getattr(asyncio.SelectorEventLoop, name))
    assert callable(asyncio.tasks._unregister_task)
    loop = VirtualLoop()
    try:
        assert list(loop._ready) == []
        assert loop._scheduled == []
        assert list(loop._asyncgens) == []
        assert loop._thread_id is None
        handle = loop.call_soon(int)
        assert callable(handle._run)
        assert handle._callback is int  # type: ignore[attr-defined]
        assert set(handle._context) >= set(copy_context())  # type: ignore[attr-defined]
        assert [handle.when() for handle in (loop.call_at(2.0, int), loop.call_at(1.0, int))] == [2.0, 1.0]
        assert loop._scheduled[0].when() == 1.0
    finally:
        loop.close()


# --- several processes on one loop -----------------------------------------------------------------------------------

RUN = Path("/run")
FILE = RUN / "journal"
ORDERS = pytest.mark.parametrize("seed", [None, 3])


def a_disk() -> MemoryDisk:
    disk = MemoryDisk(sync_seconds=(0.01, 0.01))
    disk.make_dirs(RUN)
    return disk


def together(*processes: Process[int], seed: int | None, power_lost_at: float = math.inf) -> list[Ending[int]]:
    async def main() -> list[Ending[int]]:
        return await side_by_side(processes, power_lost_at=power_lost_at)

    return run_virtual(main, seed=seed)


def ticking(ticks: list[float], times: int = 20) -> Callable[[], Coroutine[Any, Any, int]]:
    """A process that notes once a second what time it is."""

    async def main() -> int:
        for _ in range(times):
            ticks.append(anyio.current_time())
            await anyio.sleep(1)
        return times

    return main


@ORDERS
def test_processes_start_at_their_times_and_end_each_for_itself(seed: int | None) -> None:
    """What each returned and when, in the order in which they were given."""
    ticks: list[float] = []
    endings = together(
        Process(ticking([], 7), starts=5.0), Process(ticking(ticks, 3)), Process(ticking([]), dies=4.5), seed=seed
    )
    assert [(round(ending.at, 1), ending.value, ending.death is None) for ending in endings] == [
        (12.0, 7, True),
        (3.0, 3, True),
        (4.5, None, False),
    ]
    assert [round(at) for at in ticks] == [0, 1, 2]


@ORDERS
@pytest.mark.parametrize("kind", ["waiting", "waiting in a child", "at once", "at once in a child", "by time"])
def test_a_killed_process_does_nothing_more_while_the_others_go_on(kind: str, seed: int | None) -> None:
    """No `finally`, no `except`, no other task and no generator of it runs, not even at the end of the loop."""
    after: list[str] = []

    async def endless() -> AsyncIterator[int]:
        try:
            while True:
                yield 1
        finally:
            after.append("generator")

    @asynccontextmanager
    async def resource() -> AsyncIterator[None]:
        try:
            yield
        finally:
            after.append("resource")

    async def bystander() -> None:
        numbers = endless()
        try:
            await anext(aiter(numbers))
            async with resource():
                await anyio.sleep(1000)
        finally:
            after.append("bystander")
            await anyio.sleep(1)
            after.append("bystander, later")

    async def dies() -> None:
        await anyio.sleep(10)
        numbers = endless()
        await anext(aiter(numbers))
        if kind.startswith("at once"):
            kill("here")
        await (killed("here") if kind.startswith("waiting") else anyio.sleep(100))

    async def victim() -> int:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(bystander)
                if kind.endswith("in a child"):
                    group.start_soon(dies)
                    await anyio.sleep(1000)
                await dies()
        finally:
            if kind != "at once":
                after.append("main")
        return 1

    ticks: list[float] = []
    one = Process(victim, dies=11.0 if kind == "by time" else math.inf)
    ending, other = together(one, Process(ticking(ticks)), seed=seed)
    assert ending.death is not None and ending.value is None
    assert ending.at == pytest.approx(11 if kind == "by time" else 10, abs=0.01) == ending.death.at
    assert (other.value, len(ticks)) == (20, 20)
    assert other.at < 21, "what the dead one still waited for has kept the others"
    del one, ending
    gc.collect()
    assert after == []


@ORDERS
def test_a_death_in_a_call_that_cannot_wait_unwinds_into_nothing(seed: int | None) -> None:
    """The frames of that one call still run; whatever of the world they reach for is not theirs any more."""
    disk = a_disk()
    disk.put(FILE, b"x")
    mine = disk.beside(at(3, Kill("here"), own=True))
    reached: list[str] = []
    ticks: list[float] = []
    orphans: list[object] = []

    async def victim() -> int:
        lock = mine.lock(FILE, "me")
        try:
            mine.read(FILE)
        finally:
            reached.append("finally")
            lock.release()
            orphans.append(asyncio.get_running_loop().create_task(ticking(ticks)()))
            try:
                mine.remove(FILE)
            finally:
                reached.append("the end of the step")
                await mine.replace(FILE, b"y")
                reached.append("another step")
        return 1

    ending, _ = together(Process(victim, [mine]), Process(ticking([])), seed=seed)
    assert ending.death is not None and ending.death.what == "here"
    assert (reached, ticks, len(orphans)) == (["finally", "the end of the step"], [], 1)
    assert disk.files == {FILE: b"me"}


@ORDERS
def test_a_kill_that_is_raised_by_hand_is_a_death_as_well(seed: int | None) -> None:
    """As by a hook that looks on from within a process and knows nothing of processes."""

    async def main() -> int:
        await anyio.sleep(2)
        raise Kill("by hand")

    ending, other = together(Process(main), Process(ticking([])), seed=seed)
    assert ending.death is not None and ending.death.what == "by hand"
    assert other.value == 20


@ORDERS
@pytest.mark.parametrize("kind", ["by a fault", "by time", "ended"])
def test_the_locks_of_a_process_are_free_at_the_instant_of_its_end(kind: str, seed: int | None) -> None:
    """However it ended: whoever waits for them has them at its next look."""
    disk = a_disk()
    mine = disk.beside(planned({4: "kill"} if kind == "by a fault" else {}, own=True))
    other = disk.beside()

    async def holds() -> int:
        mine.lock(RUN / "lock", "one")
        await anyio.sleep(5)
        mine.listdir(RUN)
        if kind == "by a fault":
            mine.listdir(RUN)
        await anyio.sleep(0 if kind == "ended" else 100)
        return 1

    async def waits() -> int:
        with pytest.raises(LockHeld, match="one"):
            other.lock(RUN / "lock", "two")
        await taken(other, RUN / "lock", "two", 60)
        return round(anyio.current_time())

    one = Process(holds, [mine], dies=5.0 if kind == "by time" else math.inf)
    _, second = together(one, Process(waits, [other], starts=1.0), seed=seed)
    assert second.value == 5
    assert disk.files[RUN / "lock"] == b"two"


@ORDERS
def test_what_a_dead_process_has_under_way_at_a_provider_is_abandoned_then(seed: int | None) -> None:
    """The provider sees a client that left; the requests of the others are answered."""
    engine = Night(matrix(("m0",)), provider(("m0",))).engine
    body = b'{"model":"m0","messages":[{"role":"user","content":"Hello"}],"max_tokens":50}'

    def asking(calls: Calls) -> Callable[[], Awaitable[int]]:
        async def main() -> int:
            wire = SimWire({"http://sim/v1": calls}, rtt=(0.2, 0.2))
            headers = {"authorization": "Bearer k"}
            async with wire.exchange(HttpRequest("POST", "http://sim/v1/chat/completions", headers, body)) as response:
                async for _ in response.chunks():
                    pass
                return response.status

        return main

    mine, others = Calls(engine), Calls(engine)
    dead, alive = together(Process(asking(mine), [mine], dies=0.3), Process(asking(others), [others]), seed=seed)
    assert dead.value is None and alive.value == 200
    assert sorted(received.ended or "" for received in engine.received) == ["finished", "left"]


@ORDERS
@pytest.mark.parametrize("when", ["in an operation", "by time"])
def test_all_processes_die_when_the_power_goes(when: str, seed: int | None) -> None:
    """Also those that have not begun; what was not synced is lost, and what ended before has ended."""
    disk = a_disk()
    mine = disk.beside(planned({5: "power"} if when == "in an operation" else {}, own=True))
    other = disk.beside()
    after: list[str] = []

    async def writes() -> int:
        appender = mine.appender(FILE)
        await anyio.sleep(3)
        mine.sync_seconds = (5.0, 5.0)
        await appender.append(b"x" * 100)
        return 1

    async def looks() -> int:
        try:
            other.lock(RUN / "lock", "other")
            await anyio.sleep(100)
        finally:
            after.append("finally")
        return 2

    processes = [
        Process(looks, [other]),
        Process(writes, [mine]),
        Process(ticking([], 2)),
        Process(ticking([]), starts=50.0),
    ]
    endings = together(*processes, seed=seed, power_lost_at=4.0 if when == "by time" else math.inf)
    died = 4 if when == "by time" else 8
    assert [isinstance(ending.death, PowerLoss) for ending in endings] == [True, True, False, True]
    assert [round(ending.at) for ending in endings] == [died, died, 2, died]
    assert after == []
    left = disk.survivor()
    assert left.locks == [] == other.locks
    assert disk._platter.boots == 1
    assert left.durable(FILE) == left.size(FILE)


@ORDERS
def test_an_exception_of_one_process_is_not_hidden_by_the_others(seed: int | None) -> None:
    """A bug ends the test that finds it, at once; the others run no further."""
    ticks: list[float] = []
    after: list[str] = []

    async def wrong() -> int:
        await anyio.sleep(3.5)
        raise ValueError("a bug")

    async def other() -> int:
        try:
            return await ticking(ticks)()
        finally:
            after.append("finally")

    with pytest.raises(ValueError, match="a bug"):
        together(Process(other), Process(wrong), seed=seed)
    assert len(ticks) == 4 and after == []


@ORDERS
def test_what_a_process_leaves_running_ends_with_it(seed: int | None) -> None:
    """As a real process takes its threads and tasks with it, without a word."""
    ticks: list[float] = []
    left: list[object] = []

    async def main() -> int:
        left.append(asyncio.get_running_loop().create_task(ticking(ticks)()))
        await anyio.sleep(3.5)
        return 1

    one, other = together(Process(main), Process(ticking([])), seed=seed)
    assert (one.value, other.value, len(ticks)) == (1, 20, 4)


@ORDERS
def test_the_same_seed_takes_the_same_steps_with_many_processes(seed: int | None) -> None:
    """Deaths and all: what is found can be replayed."""

    def steps() -> list[float]:
        ticks: list[float] = []
        together(*(Process(ticking(ticks), dies=3.0 * n, starts=0.1) for n in range(1, 5)), seed=seed)
        return ticks

    assert steps() == steps()


def test_processes_that_all_wait_for_ever_are_a_deadlock() -> None:
    """Found at once, also when a dead one has still set its alarm, or one that ended was to die later."""

    async def waits() -> int:
        await anyio.Event().wait()
        return 1

    async def sleeps() -> int:
        await anyio.sleep(1000)
        return 1

    with pytest.raises(Deadlock, match=r"at 3\.\d+ s"):
        together(Process(sleeps, dies=3.0), Process(waits), seed=None)

    async def main() -> None:
        await side_by_side([Process(ticking([], 3), dies=50.0)], power_lost_at=60.0)
        await waits()

    with pytest.raises(Deadlock, match=r"at 3\.\d+ s"):
        run_virtual(main)


def test_a_death_outside_of_all_processes_is_the_end_of_the_world() -> None:
    """What looks on from beside them is no process: its death is that of the loop."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(side_by_side, [Process(ticking([]))])
            await anyio.sleep(5)
            kill("all of it")

    with pytest.raises(Kill, match="all of it"):
        run_virtual(main)


@pytest.mark.parametrize("at_once", [True, False])
def test_nothing_is_said_of_a_dead_process(
    at_once: bool, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """No task that was destroyed, no exception that nobody asked for, not even when the interpreter tidies up."""
    started: list[object] = []
    before = len(_graves)

    async def dies() -> None:
        await anyio.sleep(1)
        if at_once:
            kill("here")
        await killed("here")

    async def victim() -> int:
        started.append(asyncio.get_running_loop().create_task(dies()))
        await anyio.sleep(10)
        return 1

    with caplog.at_level(logging.WARNING):
        together(Process(victim), Process(ticking([])), seed=None)
        started.clear()
        del _graves[before:]
        gc.collect()
    assert not caplog.records and capfd.readouterr() == ("", "")


def test_whoever_is_cancelled_is_so_in_the_order_of_birth_and_not_of_memory() -> None:
    """Tasks, and scopes below a scope, wherever they lie: anyio keeps both in sets."""

    async def waits(number: int, ended: list[int], scoped: bool) -> None:
        try:
            with anyio.CancelScope() if scoped else nullcontext():
                await anyio.sleep(100)
        finally:
            ended.append(number)

    async def main(scoped: bool) -> list[int]:
        ended: list[int] = []
        async with anyio.create_task_group() as tasks:
            for number in range(40):
                tasks.start_soon(waits, number, ended, scoped)
                held.append(object())
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        return ended

    held: list[object] = []
    for scoped in (False, True):
        orders = []
        for times in range(4):
            held += [object() for _ in range(37 * times)]
            orders.append(run_virtual(main, scoped))
        assert orders == orders[:1] * 4 and sorted(orders[0]) == list(range(40))


class Something:
    """Can be looked for with a weak reference."""


def test_of_the_dead_nothing_is_left_and_no_line_of_theirs_runs(capfd: pytest.CaptureFixture[str]) -> None:
    """Coroutines, generators and what stands open in a `with`, begun or not: their memory goes, and that is all.

    The canary: where the interpreter or anyio keep what is written to elsewhere, something is left, or runs.
    """
    bury()  # the dead of other tests, or it might be done in the midst of this one
    held: list[weakref.ref[Something]] = []
    ran: list[str] = []

    def something() -> Something:
        found = Something()
        held.append(weakref.ref(found))
        return found

    def each() -> Iterator[Something]:
        mine = something()
        try:
            yield mine
            yield mine
        finally:
            ran.append("each")

    @contextmanager
    def one() -> Iterator[Something]:
        mine = something()
        try:
            yield from each()
        finally:
            ran.append(f"one {mine}")

    @asynccontextmanager
    async def two() -> AsyncIterator[Something]:
        mine = something()
        with one():
            try:
                yield mine
            finally:
                ran.append("two")

    async def all_of_them() -> AsyncIterator[Something]:
        try:
            for mine in each():
                async with two():
                    await anyio.sleep(10)
                    yield mine
        finally:
            ran.append("all of them")

    async def victim(mine: Something) -> int:
        try:
            async for _ in all_of_them():
                raise AssertionError("nobody waited that long")
        finally:
            ran.append(f"the victim {mine}")
        return 1

    async def not_begun(mine: Something) -> None:
        raise AssertionError(f"{mine} was killed before")

    async def dies() -> int:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(victim, something())
            await anyio.sleep(1)
            tasks.start_soon(not_begun, something())
            await killed("here")
        return 1

    together(Process(dies), Process(ticking([])), seed=None)
    gc.collect()
    assert len(held) == 6 and all(mine() is not None for mine in held)
    bury()
    gc.collect()
    assert all(mine() is None for mine in held)
    assert ran == [] and _graves == [] and capfd.readouterr() == ("", "")


def test_however_many_die_only_a_few_of_them_are_held() -> None:
    """Nobody has to ask for it: a run that ends buries the dead of all runs before, when they have become many."""

    async def dies(mine: Something) -> int:
        await killed(f"with {mine}")

    held: list[weakref.ref[Something]] = []

    def die() -> None:
        mine = Something()
        held.append(weakref.ref(mine))
        together(Process(partial(dies, mine)), seed=None)

    for _ in range(3 * _GRAVES):
        die()
    gc.collect()
    assert len(_graves) <= _GRAVES
    assert sum(one() is not None for one in held) <= _GRAVES


def test_who_has_ended_by_itself_holds_nothing() -> None:
    """Only the dead have to be kept: thousands of worlds can be run one after another."""

    async def main() -> int:
        await anyio.sleep(1)
        return 1

    gone = weakref.ref(main)
    together(Process(main), Process(ticking([])), seed=None)
    del main
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_nights_can_be_held_side_by_side(seed: int | None) -> None:
    """One is killed in the middle, one came too early, one takes over, one finds nothing left to do."""
    world = Night(matrix(("m0", "m1"), rounds=3), provider(("m0", "m1")))
    job = job_of(text_of(world.job))
    bases = {(job.name, name): f"http://{name}.sim/v1" for name in job.providers}

    def process(name: str, fault: Fault = no_fault, starts: float = 0.0) -> Process[int]:
        disk, calls = world.disk.beside(fault), Calls(world.engine)
        wire = SimWire(dict.fromkeys(bases.values(), calls), world.rtt, Random(7))
        seams = World(VirtualClock(world.wall), disk, wire, Random(1), ScriptedSignals(), ScriptedPrograms())

        async def main() -> int:
            try:
                place = Place(ROOT, f'{{"pid": "{name}"}}', bases)
                return await night(seams, [Source(job, "job.yaml", {})], Options(), place, tell=lambda line: None)
            except CannotBegin as cannot:
                return cannot.code
            finally:
                assert disk.locks == []

        return Process(main, [disk, calls], starts)

    first = process("first", fault=planned({80: "kill"}, own=True))
    early, next_one, late = process("early", starts=1.0), process("next", starts=6.0), process("late", starts=60.0)
    endings = together(first, early, next_one, late, seed=seed)
    assert [ending.value for ending in endings] == [None, 7, 0, 0]
    assert 1.0 < endings[0].at < 6.0
    assert world.billed <= world.counted
    assert {line["status"] for line in world.lines()} == {"complete"}
    assert {received.ended for received in world.engine.received} == {"finished", "left"}
