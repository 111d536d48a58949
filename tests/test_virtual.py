"""The virtual loop: it must be believed before anything that runs on it can be."""

from __future__ import annotations

import asyncio
import gc
import math
import signal
import threading
from collections.abc import Callable
from random import Random

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from aiolimiter import AsyncLimiter
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual import (
    Deadlock,
    FixedClock,
    Kill,
    Livelock,
    ScriptedSignals,
    VirtualClock,
    VirtualLoop,
    kill,
    killed,
    run_virtual,
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
        for _, what, at in run_virtual(crowd, 100, seed=seed):
            inside += {"in": 1, "out": -1}.get(what, 0)
            highest = max(highest, inside)
            if what == "in":
                entered.append(at)
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
    for name in ("_run_once", "_make_self_pipe", "_close_self_pipe", "_write_to_self"):
        assert callable(getattr(asyncio.SelectorEventLoop, name))
    loop = VirtualLoop()
    try:
        assert list(loop._ready) == []
        assert loop._scheduled == []
        assert list(loop._asyncgens) == []
        assert loop._thread_id is None
        handle = loop.call_soon(int)
        assert callable(handle._run)
        assert handle._callback is int  # type: ignore[attr-defined]
        assert [handle.when() for handle in (loop.call_at(2.0, int), loop.call_at(1.0, int))] == [2.0, 1.0]
        assert loop._scheduled[0].when() == 1.0
    finally:
        loop.close()
