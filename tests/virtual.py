"""A loop whose time is virtual: a night takes a second, and the same seed takes the same steps.

The standard loop's tasks, futures and timers run unchanged; what is replaced is how it picks the next step:

- one callback a step, the oldest first, or with a seed any that is ready: interleavings first-in-first-out never shows;
- every step takes a microsecond, and where nothing is ready time jumps to the next timer;
- nothing ready and no timer is a `Deadlock`, steps without end are a `Livelock`: both name what they found;
- no operating system below: no sockets, no threads;
- a `Kill` ends it like `kill -9`: not one further callback runs, no `finally`, no `except`.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
import signal
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Never, TypeVar, TypeVarTuple, Unpack
from unittest.mock import patch

import anyio

STEP: Final = 1e-6
T = TypeVar("T")
Args = TypeVarTuple("Args")


class Deadlock(AssertionError):
    """Every task waits, and nothing will ever wake one."""


class Livelock(AssertionError):
    """The steps allowed are used up and there is no end in sight."""


class Kill(SystemExit):
    """The process died here, as by `kill -9`; `at` is the loop's time.

    A SystemExit, because asyncio lets nothing else out of its tasks and callbacks.
    """

    def __init__(self, what: str, at: float = 0.0) -> None:
        super().__init__(what)
        self.what = what
        self.at = at


def kill(what: str) -> Never:
    """Die in the middle of a call that cannot wait. Only the caller's own frames still unwind."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise Kill(what) from None
    raise loop.die(what) if isinstance(loop, VirtualLoop) else Kill(what)


async def killed(what: str) -> Never:
    """Die in the middle of a call that can wait: it never returns, and nothing at all unwinds."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "only a virtual process can be killed"
    loop.die(what)
    await loop.create_future()
    raise AssertionError("a dead process went on")


class _NoSelector(selectors.BaseSelector):
    """Nothing can be registered, because there is no operating system to ask."""

    def register(self, fileobj: Any, events: int, data: Any = None) -> Never:
        raise RuntimeError("the virtual world has no sockets or pipes")

    def unregister(self, fileobj: Any) -> Never:
        raise KeyError(fileobj)

    def select(self, timeout: float | None = None) -> Never:
        raise RuntimeError("the virtual loop asks no selector")

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


# What a killed process was doing is kept for ever: a collected coroutine would run its `finally`.
_graves: Final[list[object]] = []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of one simulated process."""

    # Private names of the standard loop; a canary in test_virtual.py watches them.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _asyncgens: Iterable[object]
    _thread_id: int | None

    def __init__(
        self, *, seed: int | None = None, start: float = 0.0, steps: int = 1_000_000, kill_at: float = math.inf
    ) -> None:
        super().__init__(_NoSelector())
        self.steps = 0
        self.death: Kill | None = None
        self._now = start
        self._limit = steps
        self._kill_at = kill_at
        self._order = None if seed is None else Random(seed)
        self._last: deque[asyncio.Handle] = deque(maxlen=50)

    def die(self, what: str) -> Kill:
        """From the end of this step on nothing runs; returns what `run_virtual` will raise."""
        if self.death is None:
            self.death = Kill(what, self._now)
        return self.death

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if self._now >= self._kill_at:
            self.die(f"at {self._kill_at} s")
        if self.death is not None:
            raise self.death
        ready, timers = self._ready, self._scheduled
        if not ready:
            while timers and timers[0].cancelled():
                heapq.heappop(timers)
            if not timers or timers[0].when() == math.inf:
                raise Deadlock(f"at {self._now:.6f} s nothing is runnable and there is no timer\n{self._who_waits()}")
            self._now = max(self._now, min(timers[0].when(), self._kill_at))
        self._now += STEP
        while timers and (timers[0].cancelled() or timers[0].when() <= self._now):
            timer = heapq.heappop(timers)
            if not timer.cancelled():
                ready.append(timer)
        if not ready:
            return
        if self.steps == self._limit:
            self.steps = 0  # what tidies up after the error gets as many again
            busy = Counter(map(_described, self._last)).most_common()
            last = "\n".join(f"  {times} x {what}" for what, times in busy)
            raise Livelock(f"{self._limit} steps by {self._now:.6f} s; of the last {len(self._last)}:\n{last}")
        if self._order is not None and len(ready) > 1:
            ready.rotate(-self._order.randrange(len(ready)))
        handle = ready.popleft()
        if handle.cancelled():
            return
        self.steps += 1
        self._last.append(handle)
        handle._run()

    def _who_waits(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        return "\n".join(f"  {task.get_name()}: {task.get_stack(limit=1) or 'not begun'}" for task in tasks[:20])

    def close(self) -> None:
        # The standard runner cancels what is left and runs the loop again; a dead one only raises its death again.
        if self.death is not None and not self.is_closed():
            tasks = asyncio.all_tasks(self)
            for task in tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            _graves.extend((*tasks, *self._asyncgens, *self._ready))
        super().close()

    # No operating system below.

    def _make_self_pipe(self) -> None: ...

    def _close_self_pipe(self) -> None: ...

    def _write_to_self(self) -> None: ...

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[Args]], object], *args: *Args, context: Any = None
    ) -> asyncio.Handle:
        if self.is_running() and threading.get_ident() != self._thread_id:
            raise RuntimeError("the virtual world has one thread: call_soon_threadsafe from another")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Args]], T], *args: *Args
    ) -> asyncio.Future[T]:
        raise RuntimeError(f"the virtual world has no threads: run_in_executor({func!r})")


def _described(handle: asyncio.Handle) -> str:
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return owner.get_name() if isinstance(owner, asyncio.Task) else repr(handle)


def run_virtual(
    function: Callable[[Unpack[Args]], Awaitable[T]],
    *args: *Args,
    seed: int | None = None,
    start: float = 0.0,
    steps: int = 1_000_000,
    kill_at: float = math.inf,
) -> T:
    """Run an async function to its end in virtual time, as `anyio.run` would; without a seed in plain order.

    Raises `Kill` when the process was killed, and `Deadlock` or `Livelock` when it would never have ended.
    """
    owner = threading.get_ident()
    start_thread = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if threading.get_ident() == owner:
            raise RuntimeError(f"the virtual world has no threads: {thread.name} was to be started")
        start_thread(thread)

    def loop() -> VirtualLoop:
        return VirtualLoop(seed=seed, start=start, steps=steps, kill_at=kill_at)

    # `anyio.to_thread` does not ask the loop for a thread, so it is refused where every thread begins.
    with patch.object(threading.Thread, "start", refuse):
        return anyio.run(function, *args, backend="asyncio", backend_options={"loop_factory": loop})


# --- the smaller seams of `runner.world` ---------------------------------------------------------------------------


@dataclass(slots=True)
class FixedClock:
    """A wall clock that stands still until it is set."""

    at: float = 1_795_212_000.0

    def wall(self) -> float:
        return self.at


@dataclass(slots=True)
class VirtualClock:
    """A wall clock that goes with the loop, and can jump: by hand, or at given loop times."""

    start: float = 1_795_212_000.0
    jumps: Sequence[tuple[float, float]] = ()
    """Pairs of a loop time and the seconds by which the wall clock jumps then."""

    def wall(self) -> float:
        now = anyio.current_time()
        return self.start + now + sum(by for at, by in self.jumps if at <= now)

    def jump(self, seconds: float) -> None:
        self.start += seconds


@dataclass(slots=True)
class ScriptedSignals:
    """Signals that arrive at given loop times, and then no more."""

    script: Sequence[tuple[float, int]] = ()
    heard: list[int] = field(default_factory=list)
    """What was delivered to a listener."""

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[int]]:
        yield _Scripted(iter(sorted(self.script)), self.heard)


@dataclass(slots=True)
class _Scripted:
    script: Any
    heard: list[int]

    def __aiter__(self) -> _Scripted:
        return self

    async def __anext__(self) -> int:
        at, number = next(self.script, (math.inf, signal.SIGTERM))
        await anyio.sleep_until(at)
        self.heard.append(number)
        return int(number)
