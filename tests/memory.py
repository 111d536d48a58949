"""A disk in memory that dies like a process: `runner.world.Disk`, with every operation numbered.

What one operation leaves behind when it fails or the process dies in it is drawn from the disk's own `Random`: of a
write some prefix, of a replacement the temporary file. Writes that returned stay. (Power loss, where what was not
synced may go too, is not modelled.)
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, TypeAlias

import anyio
import anyio.lowlevel

from runner.world import LockHeld
from tests.virtual import Kill, kill, killed

Name: TypeAlias = Literal[
    "listdir", "read", "make_dirs", "remove", "truncate", "lock", "appender", "write", "sync", "temporary", "rename"
]


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing asked of the disk; numbers go on through all lives."""

    number: int
    name: Name
    path: Path

    @property
    def changes(self) -> bool:
        """True when the disk may differ afterwards: where a crash is worth trying."""
        return self.name not in ("listdir", "read")


Fault: TypeAlias = Callable[[Operation], None]
"""Called before each operation; what it raises happens in the midst of it: an OSError, or `Kill`."""


def no_fault(operation: Operation) -> None:
    """Nothing goes wrong."""


def at(number: int, error: BaseException) -> Fault:
    """A fault at one operation."""

    def fault(operation: Operation) -> None:
        if operation.number == number:
            raise error

    return fault


@dataclass(slots=True)
class _Platter:
    """What processes share."""

    files: dict[Path, bytearray] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=set)
    locks: dict[Path, MemoryDisk] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class MemoryDisk:
    """The disk as one process sees it. `survivor` is how the next life sees it, `beside` another process at once."""

    random: Random = field(default_factory=lambda: Random(0))
    fault: Fault = no_fault
    sync_seconds: tuple[float, float] = (0.0002, 0.02)
    """Between which a sync takes, in the loop's time; (0, 0) for none."""
    _platter: _Platter = field(default_factory=_Platter)
    _dead: bool = False
    _replacements: int = 0

    @property
    def operations(self) -> list[Operation]:
        """Everything asked so far, in all lives."""
        return self._platter.operations

    @property
    def files(self) -> dict[Path, bytes]:
        """All files as they are now."""
        return {path: bytes(content) for path, content in self._platter.files.items()}

    def put(self, path: Path, content: bytes) -> None:
        """Plant a file from outside, as damage or as history; no operation, no fault."""
        self._platter.folders.update(path.parents)
        self._platter.files[path] = bytearray(content)

    def survivor(self, fault: Fault = no_fault) -> MemoryDisk:
        """The next process's disk: this one is dead, its locks are free."""
        self._dead = True
        for path in [path for path, owner in self._platter.locks.items() if owner is self]:
            del self._platter.locks[path]
        return MemoryDisk(self.random, fault, self.sync_seconds, self._platter)

    def beside(self, fault: Fault = no_fault) -> MemoryDisk:
        """Another process on the same disk; this one lives on and keeps its locks."""
        return MemoryDisk(self.random, fault, self.sync_seconds, self._platter)

    # --- runner.world.Disk ---

    def exists(self, path: Path) -> bool:
        return path in self._platter.files or path in self._platter.folders

    def listdir(self, path: Path) -> list[str]:
        self._operation("listdir", path)
        return sorted({p.name for p in (*self._platter.files, *self._platter.folders) if p.parent == path != p})

    def size(self, path: Path) -> int:
        return len(self._content(path))

    def read(self, path: Path, offset: int = 0, size: int | None = None) -> bytes:
        self._operation("read", path)
        return bytes(self._content(path)[offset : None if size is None else offset + size])

    def make_dirs(self, path: Path) -> None:
        self._operation("make_dirs", path)
        self._make_dirs(path)

    def remove(self, path: Path) -> None:
        self._operation("remove", path)
        if path in self._platter.folders:
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        self._platter.files.pop(path, None)

    def truncate(self, path: Path, size: int) -> None:
        self._operation("truncate", path)
        content = self._content(path)
        content[:] = content[:size].ljust(size, b"\0")

    def lock(self, path: Path, holder: str) -> MemoryLock:
        self._operation("lock", path)
        content = self._created(path)
        if path in self._platter.locks:
            raise LockHeld(content.decode("utf-8", "replace"))
        self._platter.locks[path] = self
        content[:] = holder.encode()
        return MemoryLock(self, path)

    def appender(self, path: Path) -> MemoryAppender:
        self._operation("appender", path)
        return MemoryAppender(self, path, self._created(path))

    async def replace(self, path: Path, data: bytes, durable: bool = False) -> None:
        await anyio.lowlevel.checkpoint()
        with anyio.CancelScope(shield=True):
            self._make_dirs(path.parent)
            self._replacements += 1
            temporary = path.with_name(f".{path.name[:80]}.{self._replacements}.tmp")
            content = self._created(temporary)
            content.clear()
            try:
                await self._write("temporary", temporary, content, data)
                await self._pause()
                await self._slow_operation("rename", path)
                if path in self._platter.folders:
                    raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
            except OSError:
                del self._platter.files[temporary]
                raise
            self._platter.files[path] = self._platter.files.pop(temporary)

    # --- how ---

    def _content(self, path: Path) -> bytearray:
        if path in self._platter.folders:
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if path not in self._platter.files:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return self._platter.files[path]

    def _created(self, path: Path) -> bytearray:
        if path not in self._platter.files:
            if path.parent not in self._platter.folders:
                raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
            self._platter.files[path] = bytearray()
        return self._content(path)

    def _make_dirs(self, path: Path) -> None:
        if path in self._platter.files:
            raise FileExistsError(errno.EEXIST, "is a file", str(path))
        if not self._platter.files.keys().isdisjoint(path.parents):
            raise NotADirectoryError(errno.ENOTDIR, "below a file", str(path))
        self._platter.folders.update((path, *path.parents))

    def _begin(self, name: Name, path: Path) -> None:
        operation = Operation(len(self._platter.operations) + 1, name, path)
        self._platter.operations.append(operation)
        self.fault(operation)

    def _operation(self, name: Name, path: Path) -> None:
        if self._dead:
            kill(f"{name} of a dead process")
        try:
            self._begin(name, path)
        except Kill as death:
            self._dead = True
            kill(death.what)

    async def _slow_operation(self, name: Name, path: Path) -> None:
        if self._dead:
            await killed(f"{name} of a dead process")
        try:
            self._begin(name, path)
        except Kill as death:
            self._dead = True
            await killed(death.what)

    async def _write(self, name: Name, path: Path, content: bytearray, data: bytes) -> None:
        if self._dead:
            await killed(f"{name} of a dead process")
        before = len(content)
        content += data  # all of it, unless the operation breaks off
        try:
            self._begin(name, path)
        except (OSError, Kill) as error:
            del content[before + self.random.randint(0, len(data)) :]
            if isinstance(error, OSError):
                raise
            self._dead = True
            await killed(error.what)

    async def _pause(self) -> None:
        if self.sync_seconds != (0, 0):
            await anyio.sleep(self.random.uniform(*self.sync_seconds))


@dataclass(slots=True, eq=False)
class MemoryLock:
    """Held until released, or until its process is gone."""

    _disk: MemoryDisk
    _path: Path

    def release(self) -> None:
        if self._disk._platter.locks.get(self._path) is self._disk:
            del self._disk._platter.locks[self._path]


@dataclass(slots=True, eq=False)
class MemoryAppender:
    """One growing file; two appends at once are a broken promise, and a test failure."""

    _disk: MemoryDisk
    _path: Path
    _content: bytearray
    _busy: bool = False
    _closed: bool = False

    async def append(self, data: bytes) -> None:
        # Cancelled before it begins, or not at all: as with a thread that is waited for.
        await anyio.lowlevel.checkpoint()
        assert not self._busy, "two appends at once"
        assert not self._closed, "an append to a closed file"
        self._busy = True
        try:
            with anyio.CancelScope(shield=True):
                await self._disk._write("write", self._path, self._content, data)
                await self._disk._pause()
                await self._disk._slow_operation("sync", self._path)
        finally:
            self._busy = False

    def close(self) -> None:
        self._closed = True
