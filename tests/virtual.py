"""A loop whose time is virtual: a night takes a second, and the same seed takes the same steps.

The standard loop's tasks, futures and timers run unchanged; what is replaced is how it picks the next step:

- one callback a step, the oldest first, or with a seed any that is ready: interleavings first-in-first-out never shows;
- every step takes a microsecond, and where nothing is ready time jumps to the next timer;
- nothing ready and no timer is a `Deadlock`, steps without end are a `Livelock`: both name what they found;
- no operating system below: no sockets, no threads;
- a `Kill` ends it like `kill -9`: not one further callback runs, no `finally`, no `except`.

`run_virtual` is one process. Inside it `side_by_side` runs several, and a `Kill` ends only the one that it happens in.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import heapq
import math
import selectors
import signal
import threading
from collections import Counter, deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import _GeneratorContextManager, asynccontextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from types import AsyncGeneratorType, CoroutineType, GeneratorType, MethodType
from typing import Any, Final, Generic, Never, Protocol, TypeVar, TypeVarTuple, Unpack
from unittest.mock import patch
from weakref import WeakSet

import anyio
from anyio._backends._asyncio import CancelScope, _task_states

from runner.sim.delivery import SimAnswer
from runner.sim.engine import Engine, SimRequest
from runner.world import Ran

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


class PowerLoss(Kill):
    """The machine died: every process on it, and what no disk had."""


def kill(what: str, kind: type[Kill] = Kill) -> Never:
    """Die in the middle of a call that cannot wait. Only the caller's own frames still unwind."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise kind(what) from None
    raise _dead(loop, what, kind) if isinstance(loop, VirtualLoop) else kind(what)


async def killed(what: str, kind: type[Kill] = Kill) -> Never:
    """Die in the middle of a call that can wait: it never returns, and nothing at all unwinds."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "only a virtual process can be killed"
    _dead(loop, what, kind)
    await loop.create_future()
    raise AssertionError("a dead process went on")


def _dead(loop: VirtualLoop, what: str, kind: type[Kill]) -> Kill:
    death = kind(what, loop.time())
    process = _process.get()
    return loop.die(death) if process is None else process.die(death)


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


_graves: Final[list[object]] = []
"""What killed processes were doing: kept until it is buried, because a collected coroutine would run its `finally`."""
_GRAVES: Final = 10
"""So many are kept: to look for all that is suspended takes some milliseconds, and each may hold a whole world."""
_HEAD: Final = 2 * ctypes.sizeof(ctypes.c_void_p)
"""The size of what the collector keeps before each object: two words, of which the second has the mark."""
_FINALIZED: Final = 1


def bury() -> None:
    """Let the memory of the dead go, as a kernel does: no line of theirs runs, and nothing is said of them.

    Nobody but the interpreter can mark an object as finalized, by which it knows not to do so again; so it is written
    where it would write it. Outside of all loops nothing that is suspended will ever go on.
    """
    kinds = (CoroutineType, AsyncGeneratorType, asyncio.Future, _Task)
    dead = [one for one in gc.get_objects() if type(one) in kinds]
    dead += [inner for one in dead for inner in _suspended_in(one)]
    for one in dead:
        if isinstance(one, asyncio.Task):
            _task_states.pop(one, None)  # its keys are weak, but what it knows of a task knows the task
        ctypes.c_size_t.from_address(id(one) - _HEAD + _HEAD // 2).value |= _FINALIZED
        assert gc.is_finalized(one), "the interpreter keeps its mark somewhere else"
    _graves.clear()


def _suspended_in(frame: object) -> Iterator[object]:
    """The plain generators that a suspended frame is in the midst of: those it goes through, those of its `with`."""
    for one in gc.get_referents(frame):
        manager = one.__self__ if isinstance(one, MethodType) else one
        inner = manager.gen if isinstance(manager, _GeneratorContextManager) else one
        if isinstance(inner, GeneratorType) and inner.gi_suspended:
            yield inner
            yield from _suspended_in(inner)


class _Task(asyncio.Task[Any]):
    """A task with a number: its place in a set is that of its birth, not that of its memory.

    anyio cancels the tasks of a scope in the order of a set; where that is drawn from addresses, no seed repeats.
    """

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: VirtualLoop, **options: Any) -> None:
        self.number = next(loop.births)  # first of all: to begin with, a task is put into sets
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


def _place_of(scope: Any) -> int:
    """A scope is hashed for its parent's sake alone, in which each task has one scope at a time."""
    return hash(scope._host_task)


def _born(loop: Any, coro: Any, **options: Any) -> _Task:
    return _Task(coro, loop=loop, **options)


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of one simulated process, or of several side by side."""

    # Private names of the standard loop; a canary in test_virtual.py watches them.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _asyncgens: WeakSet[AsyncGenerator[Any, Any]]
    _thread_id: int | None

    def __init__(
        self, *, seed: int | None = None, start: float = 0.0, steps: int = 1_000_000, kill_at: float = math.inf
    ) -> None:
        super().__init__(_NoSelector())
        self.births = count()
        self.set_task_factory(_born)
        self.steps = 0
        self.death: Kill | None = None
        self._now = start
        self._limit = steps
        self._kill_at = kill_at
        self._order = None if seed is None else Random(seed)
        self._last: deque[asyncio.Handle] = deque(maxlen=50)

    def die(self, death: Kill) -> Kill:
        """From the end of this step on nothing runs; returns what `run_virtual` will raise."""
        if self.death is None:
            self.death = death
        return self.death

    def time(self) -> float:
        return self._now

    def _run_once(self) -> None:
        if self._now >= self._kill_at:
            self.die(Kill(f"at {self._kill_at} s", self._now))
        if self.death is not None:
            raise self.death
        ready, timers = self._ready, self._scheduled
        if not ready:
            while timers and _is_void(timers[0]):
                heapq.heappop(timers)
            if not timers or timers[0].when() == math.inf:
                raise Deadlock(f"at {self._now:.6f} s nothing is runnable and there is no timer\n{self._who_waits()}")
            self._now = max(self._now, min(timers[0].when(), self._kill_at))
        self._now += STEP
        while timers and (timers[0].cancelled() or timers[0].when() <= self._now):
            timer = heapq.heappop(timers)
            if not _is_void(timer):
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
        if _is_void(handle):
            return
        self.steps += 1
        self._last.append(handle)
        try:
            handle._run()
        except Kill as death:
            owner = _owner(handle)
            if owner is not None and owner.done():
                owner.exception()  # or it would be told as one that nobody asked for
            process = _process_of(handle)
            if process is None:
                raise
            process.die(death)

    def _who_waits(self) -> str:
        tasks = sorted(asyncio.all_tasks(self), key=lambda task: task.get_name())
        return "\n".join(f"  {task.get_name()}: {task.get_stack(limit=1) or 'not begun'}" for task in tasks[:20])

    def close(self) -> None:
        # The standard runner cancels what is left and runs the loop again; a dead one only raises its death again.
        if self.death is not None and not self.is_closed():
            tasks = asyncio.all_tasks(self)
            for task in tasks:
                _unregister(task)
            _graves.extend((*tasks, *self._asyncgens, *self._ready))
        super().close()

    # Who belongs to which process.

    def create_task(self, coro: Coroutine[Any, Any, T], **options: Any) -> asyncio.Task[T]:  # type: ignore[override]
        task = super().create_task(coro, **options)
        context = options.get("context")
        process = _process.get() if context is None else context.get(_process)
        if process is not None:
            process.began(task)
        return task

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]
        process = _process.get()
        if process is not None:
            process.generators.add(agen)

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


def _owner(handle: asyncio.Handle) -> asyncio.Task[Any] | None:
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return owner if isinstance(owner, asyncio.Task) else None


def _described(handle: asyncio.Handle) -> str:
    owner = _owner(handle)
    return repr(handle) if owner is None else owner.get_name()


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
    try:
        with patch.object(threading.Thread, "start", refuse), patch.object(CancelScope, "__hash__", _place_of):
            return anyio.run(function, *args, backend="asyncio", backend_options={"loop_factory": loop})
    finally:
        if len(_graves) > _GRAVES:
            bury()


# --- several processes on one loop -----------------------------------------------------------------------------------


class Seam(Protocol):
    """What a process holds of the world, and the world gets back however it ends: a disk's locks, calls under way."""

    def ended(self, death: Kill | None, at: float) -> None:
        """The process is no more since the loop's time `at`; it was not killed when `death` is None."""
        ...


@dataclass(frozen=True, slots=True)
class Ending(Generic[T]):
    """How a process ended: with what it returned, or by its death."""

    at: float
    value: T | None
    death: Kill | None = None


@dataclass(slots=True, eq=False)
class Process(Generic[T]):
    """One of several processes on a loop; times are the loop's.

    It dies at its time, or where a `Kill` is raised in it, as by a fault of its disk; then no line of it runs any more.
    """

    main: Callable[[], Awaitable[T]]
    seams: Sequence[Seam] = ()
    """All that it shares with the others: its own `MemoryDisk` of the common disk, its own `Calls`."""
    starts: float = 0.0
    dies: float = math.inf
    name: str = "process"
    ending: Ending[T] | None = field(default=None, init=False)
    generators: WeakSet[AsyncGenerator[Any, Any]] = field(default_factory=WeakSet, init=False)
    _tasks: WeakSet[asyncio.Task[Any]] = field(default_factory=WeakSet, init=False)
    _ended: Callable[[Kill | None], None] = field(default=lambda death: None, init=False)

    def began(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        if self.ending is not None:
            _unregister(task)

    def die(self, death: Kill) -> Kill:
        """From the end of this step on nothing of it runs; with the power all others die, too."""
        self._end(None, death)
        return death

    async def live(self) -> None:
        await anyio.sleep_until(self.starts)
        self._end(await self.main(), None)

    def start(self, loop: VirtualLoop, ended: Callable[[Kill | None], None]) -> asyncio.Task[None]:
        self._ended = ended
        context = copy_context()
        context.run(_process.set, self)
        return loop.create_task(self.live(), name=self.name, context=context)

    def _end(self, value: T | None, death: Kill | None) -> None:
        if self.ending is not None:
            return
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.ending = Ending(loop.time(), value, death)
        for seam in self.seams:
            seam.ended(death, loop.time())
        for task in self._tasks:
            # Who has just returned needs no grave, and would hold its whole world in it.
            if not task.done() and (death is not None or task is not asyncio.current_task()):
                _unregister(task)
        loop._asyncgens.difference_update(self.generators)
        self._ended(death)


_process: Final[ContextVar[Process[Any] | None]] = ContextVar("process", default=None)
"""Whose step this is; None outside of all of them. Tasks, timers and callbacks inherit it."""


def _process_of(handle: asyncio.Handle) -> Process[Any] | None:
    return handle._context.get(_process)  # type: ignore[attr-defined, no-any-return]


def _is_void(handle: asyncio.Handle) -> bool:
    """True when a callback will never run: it was cancelled, or its process is no more."""
    if handle.cancelled():
        return True
    process = _process_of(handle)
    return process is not None and process.ending is not None


def _unregister(task: asyncio.Task[Any]) -> None:
    """Out of the sight of the loop, which would cancel it in the end and wait for it."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    asyncio.tasks._unregister_task(task)
    _graves.append(task)


async def side_by_side(processes: Sequence[Process[T]], *, power_lost_at: float = math.inf) -> list[Ending[T]]:
    """Run several processes at once until each has ended or died; how, in their order.

    An exception of one of them is a failure of all: it is raised here, and the others run no further.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "only virtual processes can be run side by side"
    over: asyncio.Future[None] = loop.create_future()

    def ended(death: Kill | None) -> None:
        if isinstance(death, PowerLoss):
            for process in processes:
                process.die(death)
        if not over.done() and all(process.ending is not None for process in processes):
            over.set_result(None)

    def stopped(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Kill) and not over.done():
            over.set_exception(error)

    alarms = [
        loop.call_at(process.dies, process.die, Kill(f"at {process.dies} s", process.dies))
        for process in processes
        if process.dies < math.inf
    ]
    if power_lost_at < math.inf:
        alarms.append(loop.call_at(power_lost_at, ended, PowerLoss(f"at {power_lost_at} s", power_lost_at)))
    for process in processes:
        process.start(loop, ended).add_done_callback(stopped)
    try:
        await over
    finally:
        for alarm in alarms:
            alarm.cancel()
        for process in processes:
            process.die(Kill("left alone", loop.time()))
    return [process.ending for process in processes if process.ending is not None]


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


class Calls(Engine):
    """A provider as one of several processes reaches it: what is under way when the process ends is abandoned then."""

    def __init__(self, provider: Engine) -> None:
        self._provider = provider
        self._asked: list[int] = []

    def handle(self, request: SimRequest, now: float) -> SimAnswer:
        answer = self._provider.handle(request, now)
        self._asked.append(answer.id)
        return answer

    def finished(self, request: int, now: float) -> None:
        self._provider.finished(request, now)

    def abandoned(self, request: int, now: float) -> None:
        self._provider.abandoned(request, now)

    def ended(self, death: Kill | None, at: float) -> None:
        for request in self._asked:
            self.abandoned(request, at)  # after an answer that went out whole this says nothing new


class ScriptedPrograms:
    """Commands whose outcome a function says; without one, there is none that could be run."""

    def __init__(self, says: Callable[[Sequence[str], bytes, Mapping[str, str]], Ran | None] | None = None) -> None:
        self.says = says
        self.ran: list[tuple[tuple[str, ...], bytes]] = []

    async def run(
        self, command: Sequence[str], given: bytes, environ: Mapping[str, str | None], folder: Path, seconds: float
    ) -> Ran:
        self.ran.append((tuple(command), given))
        if self.says is None:
            raise FileNotFoundError(2, "No such file or directory", command[0])
        said = self.says(command, given, {name: value for name, value in environ.items() if value is not None})
        if said is None:
            await anyio.sleep(seconds)
            raise TimeoutError
        return said
