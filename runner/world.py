"""The six seams between Tertulia and the world: clock, disk, wire, randomness, signals, other programs.

The command line builds the real ones (at the end of this file and in `transports/`), tests build simulated
ones, and the same code runs on both. Outside these adapters nothing reads a clock, opens a file or socket,
starts a thread or draws a random number. Durations are not here: they follow the event loop's own clock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, NamedTuple, Protocol, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream

from runner.value import value

_Args = TypeVarTuple("_Args")

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_FIRST_LOOK_SECONDS: Final = 0.001
_LONGEST_LOOK_SECONDS: Final = 0.02
_PIECE_BYTES: Final = 1024 * 1024
_LAST_OUTPUT_SECONDS: Final = 0.5
"""What a command has printed is there so soon after its end, whoever else holds its output open."""
MOST_OUTPUT: Final = 4 * 1024 * 1024
"""So much of what a command prints is kept."""


class Secret:
    """A key that no print, log or traceback can show; `reveal` is called where the request is written, nowhere else."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._text)


# --- the seams -------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The wall clock: it may jump. Waiting and measuring follow the loop's clock instead."""

    def wall(self) -> float:
        """Seconds since the epoch."""
        ...


class LockHeld(Exception):
    """Another process holds the lock; `holder` is what it wrote about itself."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.holder = holder


class Lock(Protocol):
    """A kernel lock: gone with the process, however it ends."""

    def release(self) -> None: ...


class Outside(PermissionError):
    """A file that was to be in a folder is not in it, once its links are followed."""

    def __init__(self, root: Path) -> None:
        super().__init__(errno.EPERM, f"it lies outside the project ({root})")


class NotRegular(OSError):
    """A folder, a pipe or a device stands where a file should."""

    def __init__(self) -> None:
        super().__init__(errno.EINVAL, "it is no regular file")


class Appender(Protocol):
    """One file that only grows. At most one `append` is under way at a time."""

    async def append(self, data: bytes) -> None:
        """Write all of `data` at the end and sync it: durable when this returns. OSError when it is not."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """Files and folders. What is quick is called directly; what may take long is awaited."""

    def exists(self, path: Path) -> bool: ...

    def listdir(self, path: Path) -> list[str]:
        """Names in a folder, sorted; none when it does not exist."""
        ...

    def size(self, path: Path) -> int: ...

    def read(self, path: Path, offset: int = 0, size: int | None = None) -> bytes: ...

    def read_each(self, path: Path, pieces: Iterable[tuple[int, int]]) -> list[bytes]:
        """`read` of several pieces of a file, each of them an offset and a size."""
        ...

    def read_inside(self, root: Path, path: Path, size: int) -> bytes:
        """The first `size` bytes of a file; OSError where links lead out of `root`, or to what is no regular file."""
        ...

    def make_dirs(self, path: Path) -> None:
        """Make a folder and those it is in, their names durable."""
        ...

    def remove(self, path: Path) -> None: ...

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file, durably."""
        ...

    async def rewrite(self, path: Path, start: int, end: int) -> None:
        """Write a stretch of a file again, the same bytes in the same place, and sync it.

        What a failed sync has lost is shown like any other until the power goes; written again it is kept.
        """
        ...

    def lock(self, path: Path, holder: str) -> Lock:
        """Take the lock and leave `holder` in its file, or raise `LockHeld` at once."""
        ...

    def appender(self, path: Path) -> Appender:
        """Open a file for appending; created, with its name durable, when it is not there."""
        ...

    async def replace(self, path: Path, data: bytes | AsyncIterable[bytes], durable: bool = False) -> None:
        """Put `data` in the place of a file in one step: a reader sees the old content or the new.

        What is too large to be held whole comes in pieces.
        """
        ...

    async def replace_each(self, files: Sequence[tuple[Path, bytes]]) -> Mapping[Path, OSError]:
        """The same for many small files, none of them durable; what kept which of them from being replaced.

        One that has this content already stays as it is.
        """
        ...


@value(frozen=True, slots=True)
class HttpRequest:
    """A request as it leaves; a secret header is revealed by the wire alone."""

    method: str
    url: str
    headers: Mapping[str, str | Secret]
    body: bytes
    connect_timeout: float = 30.0


class HttpResponse(Protocol):
    """The beginning of an answer; its body comes in pieces."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The decoded body, piece by piece; WireError when it is cut."""
        ...


class WireError(Exception):
    """The exchange broke off.

    `sent` is False only when the server surely never saw the request; `lasting` is True when trying again cannot help.
    """

    def __init__(self, what: str, sent: bool, lasting: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.sent = sent
        self.lasting = lasting


class Wire(Protocol):
    """One HTTP exchange: no redirects, no proxies of the environment, no retries, TLS always checked."""

    def exchange(self, request: HttpRequest) -> AbstractAsyncContextManager[HttpResponse]:
        """Send the request; the body of the `async with` reads the answer. Raises WireError."""
        ...


class Signals(Protocol):
    """Requests to stop, from outside."""

    def listen(self) -> AbstractAsyncContextManager[AsyncIterator[int]]:
        """Signal numbers as they come, while the context is open."""
        ...


class Ran(NamedTuple):
    """What a program came to."""

    code: int
    output: bytes
    errors: bytes


class Programs(Protocol):
    """Commands of the user's own."""

    async def run(
        self, command: Sequence[str], given: bytes, environ: Mapping[str, str | None], folder: Path, seconds: float
    ) -> Ran:
        """Run a command there, with this on its standard input and these variables besides our own, None without.

        OSError when it cannot be started, TimeoutError when it takes longer. However it ends, what it began ends with
        it, but for what has left its session (`setsid`, a daemon): nobody knows any more whose that is.
        """
        ...


@dataclass(frozen=True, slots=True)
class World:
    """The seams together; made once, at the top."""

    clock: Clock
    disk: Disk
    wire: Wire
    random: Random
    signals: Signals
    programs: Programs


async def taken(disk: Disk, path: Path, holder: str, patience: float) -> Lock:
    """A lock that others may have for a moment; LockHeld when it is not free within `patience` seconds."""
    pause = _FIRST_LOOK_SECONDS
    until = anyio.current_time() + patience
    while True:
        try:
            return disk.lock(path, holder)
        except LockHeld:
            if anyio.current_time() >= until:
                raise
        await anyio.sleep(pause)
        pause = min(2 * pause, _LONGEST_LOOK_SECONDS)


def locks_hold(disk: Disk, path: Path, holder: str) -> bool:
    """True when a lock that is taken keeps a second one out, as it does not on every network file system."""
    try:
        disk.lock(path, holder).release()
    except LockHeld:
        return True
    return False


# --- the real ones (the real wire is `transports.http.AiohttpWire`) ----------------------------------------------


class RealClock:
    def wall(self) -> float:
        return time.time()


class RealSignals:
    @asynccontextmanager
    async def listen(self) -> AsyncIterator[AsyncIterator[int]]:
        with anyio.open_signal_receiver(*STOP_SIGNALS) as received:
            yield _until_the_third(received)


async def _until_the_third(received: AsyncIterator[signal.Signals]) -> AsyncIterator[int]:
    """Two requests are for the run to obey; a third ends the process, because then nothing else seems to."""
    requests = 0
    async for number in received:
        requests += 1
        if requests > 2:
            os._exit(128 + number)
        yield int(number)


@dataclass(slots=True)
class RealLock:
    descriptor: int

    def release(self) -> None:
        os.close(self.descriptor)


@dataclass(slots=True)
class RealAppender:
    descriptor: int

    async def append(self, data: bytes) -> None:
        # Not abandoned on cancel: whoever awaits this must know whether the bytes are down.
        await _aside(_write_and_sync, self.descriptor, data)

    def close(self) -> None:
        os.close(self.descriptor)


@dataclass(slots=True)
class RealDisk:
    """The file system; folders are 0700 and files 0600, because prompts and replies are private."""

    _temporary: Iterator[int] = field(default_factory=lambda: iter(range(2**62)))

    def exists(self, path: Path) -> bool:
        return path.exists()

    def listdir(self, path: Path) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def size(self, path: Path) -> int:
        return path.stat().st_size

    def read(self, path: Path, offset: int = 0, size: int | None = None) -> bytes:
        # A pipe in place of a file, to which nobody writes, would otherwise hold everything up for ever.
        if size is not None:
            return self.read_each(path, [(offset, size)])[0]
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            file.seek(offset)
            return file.read()

    def read_each(self, path: Path, pieces: Iterable[tuple[int, int]]) -> list[bytes]:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return [_read_at(descriptor, offset, size) for offset, size in pieces]
        finally:
            os.close(descriptor)

    def read_inside(self, root: Path, path: Path, size: int) -> bytes:
        with _opened_inside(root, path) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise NotRegular
            return _read_at(descriptor, 0, size)

    def make_dirs(self, path: Path) -> None:
        _make_dirs(path)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def truncate(self, path: Path, size: int) -> None:
        with _descriptor(path, os.O_WRONLY) as descriptor:
            os.ftruncate(descriptor, size)
            _sync(descriptor)

    async def rewrite(self, path: Path, start: int, end: int) -> None:
        await _aside(_rewrite, path, start, end)

    def lock(self, path: Path, holder: str) -> Lock:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = os.pread(descriptor, 4096, 0).decode("utf-8", "replace")
            os.close(descriptor)
            raise LockHeld(found) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder.encode(), 0)
        except OSError:
            os.close(descriptor)  # or we would hold a lock that nobody can release
            raise
        return RealLock(descriptor)

    def appender(self, path: Path) -> Appender:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Whoever made a file that is still empty may have died before its name was durable.
        if os.fstat(descriptor).st_size == 0:
            try:
                os.fsync(descriptor)
                _sync_dir(path.parent)
            except OSError:
                os.close(descriptor)
                raise
        return RealAppender(descriptor)

    async def replace(self, path: Path, data: bytes | AsyncIterable[bytes], durable: bool = False) -> None:
        temporary = self._beside(path)
        try:
            if isinstance(data, bytes):
                await _aside(_replace, path, temporary, data, durable)
                return
            await _aside(_put, temporary, b"")
            async for piece in data:
                await _aside(_add, temporary, piece)
            await _aside(_name, temporary, path, durable)
        except BaseException:
            _unlink(temporary)
            raise

    async def replace_each(self, files: Sequence[tuple[Path, bytes]]) -> Mapping[Path, OSError]:
        troubles: dict[Path, OSError] = {}
        # To have a thread do one of them takes longer than the one.
        await _aside(_replace_each, files, self._beside, troubles)
        return troubles

    def _beside(self, path: Path) -> str:
        folder, name = os.path.split(path)
        return os.path.join(folder, f".{name[:80]}.{os.getpid()}-{next(self._temporary)}.tmp")


async def _aside(work: Callable[[Unpack[_Args]], None], *args: *_Args) -> None:
    """Do what may take long in a thread, while everybody else goes on."""
    try:
        await anyio.to_thread.run_sync(work, *args)
    except RuntimeError:
        # Not from the work, which raises OSError: no thread could be started. A machine that is so short of memory or
        # of processes keeps everybody waiting, but it keeps what has cost money.
        work(*args)


@contextmanager
def _descriptor(path: Path | str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _opened_inside(root: Path, path: Path) -> Iterator[int]:
    # Links are followed first, and then the way is gone step by step without any: one that somebody puts there between
    # the two leads nowhere.
    root, found = Path(os.path.realpath(root)), Path(os.path.realpath(path))
    if not found.is_relative_to(root):
        raise Outside(root)
    *folders, name = (root, *found.relative_to(root).parts)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    with ExitStack() as stack:
        at: int | None = None
        for folder in folders:
            at = os.open(folder, flags | os.O_DIRECTORY, dir_fd=at)
            stack.callback(os.close, at)
        descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=at)
        stack.callback(os.close, descriptor)
        yield descriptor


def _is_empty(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _make_dirs(path: Path) -> None:
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    found = missing[-1].parent if missing else path
    # Whoever made a folder that is still empty may have died before its name was durable.
    if found.is_dir() and found != found.parent and _is_empty(found):
        with suppress(PermissionError):  # where we may not look, we have made nothing
            _sync_dir(found.parent)
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_dir(folder.parent)  # a file is no safer than the names of the folders it is in
    path.mkdir(exist_ok=True)


def _sync(descriptor: int) -> None:
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS: fsync alone stops at the drive's cache
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)


def _sync_dir(path: Path) -> None:
    with _descriptor(path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        os.fsync(descriptor)


def _read_at(descriptor: int, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    while 0 < len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
        data += more
    return data


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _write_and_sync(descriptor: int, data: bytes) -> None:
    _write_all(descriptor, data)
    _sync(descriptor)


def _rewrite(path: Path, start: int, end: int) -> None:
    with _descriptor(path, os.O_RDWR) as descriptor:
        while start < end:
            piece = os.pread(descriptor, min(_PIECE_BYTES, end - start), start)
            if not piece:
                break
            start += os.pwrite(descriptor, piece, start)
        _sync(descriptor)


def _unlink(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _replace(path: Path, temporary: str, data: bytes, durable: bool) -> None:
    if durable:
        _make_dirs(path.parent)
    _put(temporary, data)
    _name(temporary, path, durable)


def _replace_each(
    files: Iterable[tuple[Path, bytes]], beside: Callable[[Path], str], troubles: dict[Path, OSError]
) -> None:
    for path, data in files:
        # To put a file in the place of another makes some file systems write it out at once, and wait for that.
        if _holds(path, data):
            continue
        temporary = beside(path)
        try:
            _put(temporary, data)
            os.replace(temporary, path)
        except OSError as error:
            troubles[path] = error
            with suppress(OSError):
                _unlink(temporary)


def _holds(path: Path, data: bytes) -> bool:
    """True when this is what stands in a regular file there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        is_like = stat.S_ISREG(found.st_mode) and found.st_size == len(data)
        return is_like and _read_at(descriptor, 0, len(data)) == data
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _put(path: str, data: bytes) -> None:
    new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    try:
        _write(path, new, data)
    except FileNotFoundError:
        _make_dirs(Path(path).parent)
        _write(path, new, data)


def _add(path: str, data: bytes) -> None:
    _write(path, os.O_WRONLY | os.O_APPEND, data)


def _write(path: str, flags: int, data: bytes) -> None:
    with _descriptor(path, flags) as descriptor:
        _write_all(descriptor, data)


def _name(temporary: str, path: Path, durable: bool) -> None:
    if durable:
        with _descriptor(temporary, os.O_WRONLY) as descriptor:
            os.fsync(descriptor)
    os.replace(temporary, path)
    if durable:
        _sync_dir(path.parent)


class RealPrograms:
    """Commands on this machine, each in a session of its own."""

    async def run(
        self, command: Sequence[str], given: bytes, environ: Mapping[str, str | None], folder: Path, seconds: float
    ) -> Ran:
        named = {**os.environ, **environ}
        whole = {name: value for name, value in named.items() if value is not None}
        process = await anyio.open_process(command, cwd=folder, env=whole, start_new_session=True)
        output, errors = bytearray(), bytearray()

        async def drain(stream: ByteReceiveStream | None, into: bytearray) -> None:
            assert stream is not None
            async for piece in stream:
                into += piece[: MOST_OUTPUT - len(into)]

        async def feed() -> None:
            assert process.stdin is not None
            # A command need not read what it is given.
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                await process.stdin.send(given)
            await process.stdin.aclose()

        try:
            with anyio.fail_after(seconds):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(drain, process.stdout, output)
                    tasks.start_soon(drain, process.stderr, errors)
                    tasks.start_soon(feed)
                    # Waiting for the process waits for its pipes, too, which a child of it may keep open for ever.
                    while process.returncode is None:  # noqa: ASYNC110
                        await anyio.sleep(_LONGEST_LOOK_SECONDS)
                    tasks.cancel_scope.deadline = anyio.current_time() + _LAST_OUTPUT_SECONDS
            code = process.returncode
            assert code is not None
        finally:
            _end_session(process.pid)
            with anyio.CancelScope(shield=True):
                await process.aclose()
        return Ran(code, bytes(output), bytes(errors))


def _end_session(leader: int) -> None:
    """Kill a command and all that it began, also what a shell has put into a group of its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    try:
        running = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return  # where the system has no such list, the group is all that can be named
    for process in running:
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(process) == leader:
                os.kill(process, signal.SIGKILL)
