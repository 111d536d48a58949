"""A disk in memory that dies like a process, or like a machine: `runner.world.Disk`, with every operation numbered.

It asks for what `RealDisk` asks of the file system, in the same order, one numbered operation for each call; a test
compares the two. Of each file it knows how many bytes were synced, of each folder which names. What an operation leaves
behind when it fails or somebody dies in it is drawn from the disk's own `Random`:

- The death of a process (`Kill`): every operation that returned stays, of the write in progress some prefix.
- The loss of power (`PowerLoss`): of what was not synced each file keeps some prefix, whose last bytes may be zeros or
  noise; each change of a name that was not synced is there or is not, whatever came after it.
- No room: a write takes what there is room for, and fails; what is removed, cut or replaced makes room again.
- A sync that fails: half the time the kernel gives up what it could not write, although it goes on showing it, and
  although later syncs succeed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, Literal, TypeAlias

import anyio
import anyio.lowlevel

from runner.world import LockHeld, NotRegular, Outside
from tests.virtual import Kill, PowerLoss, kill, killed

Name: TypeAlias = Literal[
    "listdir",
    "read",
    "make_dirs",
    "remove",
    "truncate",
    "lock",
    "holder",
    "rewrite",
    "appender",
    "write",
    "sync",
    "temporary",
    "rename",
    "sync_file",
    "sync_dir",
]
"""`sync` makes durable what was appended, `sync_file` any other content, `sync_dir` the names in a folder."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing asked of the disk; numbers go on through all lives, and over all processes."""

    number: int
    name: Name
    path: Path
    own: int = 0
    """Its number among those of its process."""

    @property
    def changes(self) -> bool:
        """True when the disk may differ afterwards: where a crash is worth trying."""
        return self.name not in ("listdir", "read")


# --- faults ----------------------------------------------------------------------------------------------------------

Fault: TypeAlias = Callable[[Operation], None]
"""Called before each operation; what it raises happens in the midst of it: an OSError, or `Kill`."""

Trouble: TypeAlias = Literal["kill", "torn", "power", "ENOSPC", "EDQUOT", "EIO", "EROFS"]


class Torn(Kill):
    """A death that leaves a part of the write in progress: not nothing of it, and not all."""


class Lasting(OSError):
    """An error that stays: a disk is full until something is freed, and read-only until the next life."""


def no_fault(operation: Operation) -> None:
    """Nothing goes wrong."""


def trouble(kind: Trouble) -> BaseException:
    """What a fault raises for this kind of trouble."""
    match kind:
        case "kill":
            return Kill("killed")
        case "torn":
            return Torn("killed in the midst of it")
        case "power":
            return PowerLoss("the power went")
        case "EIO":
            return OSError(errno.EIO, os.strerror(errno.EIO))
        case _:
            number = int(getattr(errno, kind))
            return Lasting(number, os.strerror(number))


def at(number: int, error: BaseException, *, own: bool = False) -> Fault:
    """A fault at one operation; `own` counts those of this process alone."""

    def fault(operation: Operation) -> None:
        if number == (operation.own if own else operation.number):
            raise error

    return fault


def planned(points: Mapping[int, Trouble], *, own: bool = False) -> Fault:
    """Trouble at each of these operations; `own` counts those of this process alone."""

    def fault(operation: Operation) -> None:
        kind = points.get(operation.own if own else operation.number)
        if kind is not None:
            raise trouble(kind)

    return fault


# --- what processes share --------------------------------------------------------------------------------------------

_MOST_SPOILED: Final = 512
_MOST_UNSYNCED_NAMES: Final = 64
_SLOWEST_SYNC: Final = 2.0


def _part(random: Random, size: int) -> int:
    """How much of something is left: often nothing, often all, else something between."""
    return random.choice((0, size, random.randint(0, size)))


@dataclass(slots=True, eq=False, repr=False)
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: int = 0
    """So many of the bytes are on the disk."""
    before: bytes | None = None
    """What was on the disk before a cut that is not synced: it may come back."""
    given_up: list[tuple[int, int]] = field(default_factory=list)
    """Stretches that a failed sync has lost: shown while the power is on, and never on the disk."""
    owner: MemoryDisk | None = None
    """Who has the kernel lock."""

    def cut(self, size: int) -> None:
        if size < self.synced:
            if self.before is None:
                self.before = bytes(self._on_disk(self.synced))
            self.synced = size
        self.content[:] = self.content[:size].ljust(size, b"\0")
        self.given_up = [(start, min(end, size)) for start, end in self.given_up if start < size]

    def sync(self) -> None:
        self.synced = len(self.content)
        self.before = None

    def give_up(self) -> None:
        if self.synced < len(self.content):
            self.given_up.append((self.synced, len(self.content)))

    @property
    def safe(self) -> int:
        return min([self.synced, *(start for start, _ in self.given_up)])

    def lose_power(self, random: Random) -> None:
        if self.before is not None and random.random() < 0.5:
            self.content[:] = self.before
        else:
            kept = self._on_disk(self.synced + _part(random, len(self.content) - self.synced))
            spoiled = random.randint(0, max(0, min(_MOST_SPOILED, len(kept) - self.synced)))
            if spoiled and random.random() < 0.5:
                kept[-spoiled:] = bytes(spoiled) if random.random() < 0.5 else random.randbytes(spoiled)
            self.content[:] = kept
        self.given_up.clear()
        self.owner = None
        self.sync()

    def _on_disk(self, size: int) -> bytearray:
        kept = self.content[:size]
        for start, end in self.given_up:
            if end >= len(kept):
                del kept[start:]  # the size of a file is written with its last bytes
            else:
                kept[start:end] = bytes(end - start)
        return kept


@dataclass(slots=True, eq=False, repr=False)
class _Folder:
    unsynced: list[dict[Path, _Node | None]] = field(default_factory=list)
    """Changes of the names in it, in order; None is a name that went."""


_Node: TypeAlias = _File | _Folder


def _roots() -> dict[Path, _Node]:
    return {Path("/"): _Folder(), Path("."): _Folder()}


@dataclass(slots=True, repr=False)
class _Platter:
    now: dict[Path, _Node] = field(default_factory=_roots)
    kept: dict[Path, _Node] = field(init=False)
    """The names that are on the disk."""
    operations: list[Operation] = field(default_factory=list)
    boots: int = 0
    replacements: int = 0
    room: int | None = None
    when_full: int = errno.ENOSPC
    read_only: bool = False

    def __post_init__(self) -> None:
        self.kept = dict(self.now)

    def file(self, path: Path) -> _File:
        node = self.now.get(path)
        if isinstance(node, _Folder):
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if node is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return node

    def is_empty_folder(self, path: Path) -> bool:
        return isinstance(self.now[path], _Folder) and not any(one.parent == path != one for one in self.now)

    def created(self, path: Path) -> _File:
        if path not in self.now:
            if not isinstance(self.now.get(path.parent), _Folder):
                raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
            self.rename({path: _File()})
        return self.file(path)

    def rename(self, changes: dict[Path, _Node | None]) -> None:
        """Change names in one folder, in one step."""
        folder = self._folder(next(iter(changes)).parent)
        for path, node in changes.items():
            if node is None:
                self.now.pop(path, None)
            else:
                self.now[path] = node
        folder.unsynced.append(changes)
        if len(folder.unsynced) > _MOST_UNSYNCED_NAMES:
            self._keep(folder.unsynced.pop(0))  # in the end the kernel writes by itself

    def sync_dir(self, path: Path) -> None:
        folder = self._folder(path)
        for changes in folder.unsynced:
            self._keep(changes)
        folder.unsynced.clear()

    def is_kept(self, path: Path) -> bool:
        """True when the name surely outlives the power."""
        return all(self.kept.get(one) is self.now.get(one) for one in (path, *path.parents))

    def free(self, size: int) -> None:
        if self.room is not None:
            self.room = max(0, self.room + size)

    def append(self, file: _File, data: bytes) -> None:
        file.content += data
        self.free(-len(data))

    def fill(self, file: _File, data: bytes) -> None:
        """Append as much as there is room for; OSError when that is not all."""
        part = data if self.room is None else data[: self.room]
        self.append(file, part)
        if len(part) < len(data):
            raise OSError(self.when_full, os.strerror(self.when_full))

    def suffer(self, error: Lasting) -> None:
        if error.errno == errno.EROFS:
            self.read_only = True
        else:
            self.room, self.when_full = 0, error.errno or errno.ENOSPC

    def lose_power(self, random: Random) -> None:
        used = self._used()
        for folder in [node for node in self.now.values() if isinstance(node, _Folder)]:
            for changes in folder.unsynced:
                if random.random() < 0.5:
                    self._keep(changes)
            folder.unsynced.clear()
        found: dict[Path, _Node] = {}
        for path in sorted(self.kept, key=lambda path: len(path.parts)):
            if path.parent == path or path.parent in found:
                found[path] = self.kept[path]
        for node in found.values():
            if isinstance(node, _File):
                node.lose_power(random)
        self.now, self.kept = found, dict(found)
        self.free(used - self._used())
        self.boots += 1

    def _folder(self, path: Path) -> _Folder:
        node = self.now[path]
        assert isinstance(node, _Folder)
        return node

    def _keep(self, changes: Mapping[Path, _Node | None]) -> None:
        for path, node in changes.items():
            if node is None:
                self.kept.pop(path, None)
            else:
                self.kept[path] = node

    def _used(self) -> int:
        return sum(len(node.content) for node in self.now.values() if isinstance(node, _File))


# --- the disk as a process sees it -----------------------------------------------------------------------------------


@dataclass(slots=True, eq=False, repr=False)
class MemoryDisk:
    """The disk as one process sees it. `survivor` is how the next life sees it, `beside` another process at once."""

    random: Random = field(default_factory=lambda: Random(0))
    fault: Fault = no_fault
    sync_seconds: tuple[float, float] = (0.0002, 0.02)
    """Between which a sync takes, in the loop's time; (0, 0) for none."""
    slow_syncs: float = 0.0
    """The share of syncs that take up to two seconds instead."""
    _platter: _Platter = field(default_factory=_Platter)
    _boot: int = 0
    _dead: bool = False
    _asked: int = 0

    # -- for whoever looks on from outside -------------------------------------------------------------------------

    @property
    def operations(self) -> list[Operation]:
        """Everything asked so far, in all lives."""
        return self._platter.operations

    @property
    def files(self) -> dict[Path, bytes]:
        """All files as they are now."""
        return {path: bytes(node.content) for path, node in self._platter.now.items() if isinstance(node, _File)}

    @property
    def locks(self) -> list[Path]:
        """The files that this process has locked."""
        nodes = self._platter.now.items()
        return [path for path, node in nodes if isinstance(node, _File) and node.owner is self]

    @property
    def room(self) -> int | None:
        """How many bytes there is room for; None when that is no matter."""
        return self._platter.room

    @room.setter
    def room(self, size: int | None) -> None:
        self._platter.room = size

    def durable(self, path: Path) -> int:
        """How many bytes of a file, from its first, would surely outlive the power if it went now."""
        node = self._platter.now.get(path)
        return node.safe if isinstance(node, _File) and self._platter.is_kept(path) else 0

    def put(self, path: Path, content: bytes) -> None:
        """Plant a file from outside, as damage or as history; no operation, no fault, and durable."""
        platter = self._platter
        for folder in reversed(path.parents):
            platter.now.setdefault(folder, _Folder())
            platter.sync_dir(folder)
            platter.kept[folder] = platter.now[folder]
        platter.now[path] = platter.kept[path] = _File(bytearray(content), len(content))

    def rot(self, path: Path, offset: int | None = None) -> int:
        """Turn over one bit of what is on the disk; the byte it was in."""
        file = self._platter.file(path)
        offset = self.random.randrange(file.synced) if offset is None else offset
        file.content[offset] ^= 1 << self.random.randrange(8)
        return offset

    def survivor(self, fault: Fault = no_fault) -> MemoryDisk:
        """The next process's disk: this one is dead, its locks are free. A full disk stays full."""
        self.ended(None)
        self._platter.read_only = False
        return self.beside(fault)

    def after_power_loss(self, fault: Fault = no_fault) -> MemoryDisk:
        """The next process's disk after the power went now, or when this one lost it: all others are dead as well."""
        self.ended(PowerLoss("the power went"))
        return self.survivor(fault)

    def beside(self, fault: Fault = no_fault) -> MemoryDisk:
        """Another process on the same disk; this one lives on and keeps its locks."""
        platter = self._platter
        return MemoryDisk(self.random, fault, self.sync_seconds, self.slow_syncs, platter, platter.boots)

    def ended(self, death: Kill | None, at: float = 0.0) -> None:
        """The process is no more: the kernel frees its locks. When the power went, so has what was not synced."""
        if isinstance(death, PowerLoss) and self._boot == self._platter.boots:
            self._platter.lose_power(self.random)
        self._dead = True
        for node in self._platter.now.values():
            if isinstance(node, _File) and node.owner is self:
                node.owner = None

    # -- runner.world.Disk -----------------------------------------------------------------------------------------

    def exists(self, path: Path) -> bool:
        return path in self._platter.now

    def listdir(self, path: Path) -> list[str]:
        self._operation("listdir", path)
        return sorted(one.name for one in self._platter.now if one.parent == path != one)

    def size(self, path: Path) -> int:
        return len(self._platter.file(path).content)

    def read(self, path: Path, offset: int = 0, size: int | None = None) -> bytes:
        self._operation("read", path)
        return bytes(self._platter.file(path).content[offset : None if size is None else offset + size])

    def read_each(self, path: Path, pieces: Iterable[tuple[int, int]]) -> list[bytes]:
        return [self.read(path, offset, size) for offset, size in pieces]

    def read_inside(self, root: Path, path: Path, size: int) -> bytes:
        # There are no links here, but a path can lead out by itself.
        self._operation("read", path)
        where = os.path.abspath(path)
        if not Path(where).is_relative_to(os.path.abspath(root)):
            raise Outside(root)
        if path not in self._platter.now:
            path = Path(where)
        if isinstance(self._platter.now.get(path), _Folder):
            raise NotRegular
        return bytes(self._platter.file(path).content[:size])

    def make_dirs(self, path: Path) -> None:
        if path in self._platter.now:
            self._operation("make_dirs", path)
        for name, folder in self._new_folders(path):
            self._operation(name, folder)

    def remove(self, path: Path) -> None:
        self._operation("remove", path)
        if path in self._platter.now:
            self._unlink(path)

    def truncate(self, path: Path, size: int) -> None:
        self._operation("truncate", path)
        file = self._platter.file(path)
        self._cut(file, size)
        self._operation("sync_file", path)
        file.sync()

    async def rewrite(self, path: Path, start: int, end: int) -> None:
        await anyio.lowlevel.checkpoint()
        with anyio.CancelScope(shield=True):
            await self._slow_operation("rewrite", path)
            file = self._platter.file(path)
            file.given_up = [(one, min(other, start)) for one, other in file.given_up if one < start]
            await self._pause()
            await self._sync(path, file)

    async def _sync(self, path: Path, file: _File) -> None:
        try:
            await self._slow_operation("sync", path)
        except OSError as error:
            if error.errno == errno.EIO and self.random.random() < 0.5:
                file.give_up()
            raise
        file.sync()

    def lock(self, path: Path, holder: str) -> MemoryLock:
        self._operation("lock", path)
        file = self._platter.created(path)
        if file.owner is not None:
            raise LockHeld(file.content.decode("utf-8", "replace"))
        file.owner = self
        try:
            self._operation("holder", path)
            self._cut(file, 0)
            self._platter.fill(file, holder.encode())
        except OSError:
            file.owner = None
            raise
        return MemoryLock(self, file)

    def appender(self, path: Path) -> MemoryAppender:
        self._operation("appender", path)
        file = self._platter.created(path)
        if not file.content:
            self._operation("sync_file", path)
            file.sync()
            self._operation("sync_dir", path.parent)
            self._platter.sync_dir(path.parent)
        return MemoryAppender(self, path, file)

    async def replace(self, path: Path, data: bytes | AsyncIterable[bytes], durable: bool = False) -> None:
        platter = self._platter
        await anyio.lowlevel.checkpoint()
        with anyio.CancelScope(shield=True) as scope:
            for name, folder in self._new_folders(path.parent):
                await self._slow_operation(name, folder)
            platter.replacements += 1
            temporary = path.with_name(f".{path.name[:80]}.{platter.replacements}.tmp")
            try:
                file = await self._write("temporary", temporary, data if isinstance(data, bytes) else b"")
                scope.shield = False  # nobody waits for pieces that are not there yet
                async for piece in _pieces(data):
                    await self._write("temporary", temporary, piece, file)
                scope.shield = True
                await self._pause()
                if durable:
                    await self._slow_operation("sync_file", temporary)
                    file.sync()
                await self._slow_operation("rename", path)
                if isinstance(platter.now.get(path), _Folder):
                    raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
            except (OSError, anyio.get_cancelled_exc_class()):
                self._unlink(temporary)
                raise
            if path in platter.now:
                platter.free(len(platter.file(path).content))
            platter.rename({temporary: None, path: file})
            if durable:
                await self._slow_operation("sync_dir", path.parent)
                platter.sync_dir(path.parent)

    async def replace_each(self, files: Sequence[tuple[Path, bytes]]) -> Mapping[Path, OSError]:
        troubles: dict[Path, OSError] = {}
        for path, data in files:
            try:
                await self.replace(path, data)
            except OSError as error:
                troubles[path] = error
        return troubles

    # -- how -------------------------------------------------------------------------------------------------------

    def _new_folders(self, path: Path) -> Iterator[tuple[Name, Path]]:
        """Make what is missing, a step each time when the operation that it yields has gone well."""
        platter = self._platter
        missing = [one for one in (path, *path.parents) if one not in platter.now]
        found = missing[-1].parent if missing else path
        if found != found.parent and platter.is_empty_folder(found):
            yield "sync_dir", found.parent
            platter.sync_dir(found.parent)
        for folder in reversed(missing):
            yield "make_dirs", folder
            if isinstance(platter.now[folder.parent], _File):
                raise NotADirectoryError(errno.ENOTDIR, "below a file", str(folder))
            platter.rename({folder: _Folder()})
            yield "sync_dir", folder.parent
            platter.sync_dir(folder.parent)
        if isinstance(platter.now[path], _File):
            raise FileExistsError(errno.EEXIST, "is a file", str(path))

    def _unlink(self, path: Path) -> None:
        self._platter.free(len(self._platter.file(path).content))
        self._platter.rename({path: None})

    def _cut(self, file: _File, size: int) -> None:
        self._platter.free(len(file.content) - size)
        file.cut(size)

    @property
    def _gone(self) -> bool:
        return self._dead or self._boot != self._platter.boots

    def _begin(self, name: Name, path: Path) -> None:
        operations = self._platter.operations
        self._asked += 1
        operation = Operation(len(operations) + 1, name, path, self._asked)
        operations.append(operation)
        try:
            self.fault(operation)
        except Lasting as error:
            self._platter.suffer(error)
            raise
        if self._platter.read_only and operation.changes:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def _operation(self, name: Name, path: Path) -> None:
        if self._gone:
            kill(f"{name} of a dead process")
        try:
            self._begin(name, path)
        except Kill as death:
            self.ended(death)
            kill(death.what, type(death))

    async def _slow_operation(self, name: Name, path: Path) -> None:
        if self._gone:
            await killed(f"{name} of a dead process")
        try:
            self._begin(name, path)
        except Kill as death:
            self.ended(death)
            await killed(death.what, type(death))

    async def _write(self, name: Name, path: Path, data: bytes, file: _File | None = None) -> _File:
        """Append to a file, or to a new one."""
        if self._gone:
            await killed(f"{name} of a dead process")
        if file is None:
            file = self._platter.created(path)
        try:
            self._begin(name, path)
        except OSError:
            self._platter.append(file, data[: self.random.randint(0, len(data))])
            raise
        except Kill as death:
            self._platter.append(file, data[: self._torn(death, len(data))])
            self.ended(death)
            await killed(death.what, type(death))
        self._platter.fill(file, data)
        return file

    def _torn(self, death: Kill, size: int) -> int:
        if isinstance(death, PowerLoss):
            return size  # what becomes of it is drawn with all that was not synced
        if isinstance(death, Torn):
            return self.random.randint(1, size - 1) if size > 1 else 0
        return self.random.randint(0, size)

    async def _pause(self) -> None:
        if self.slow_syncs and self.random.random() < self.slow_syncs:
            await anyio.sleep(self.random.uniform(self.sync_seconds[1], _SLOWEST_SYNC))
        elif self.sync_seconds != (0, 0):
            await anyio.sleep(self.random.uniform(*self.sync_seconds))


async def _pieces(data: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if not isinstance(data, bytes):
        async for piece in data:
            yield piece


@dataclass(slots=True, eq=False)
class MemoryLock:
    """Held until released, or until its process is gone."""

    _disk: MemoryDisk
    _file: _File

    def release(self) -> None:
        if self._file.owner is self._disk:
            self._file.owner = None


@dataclass(slots=True, eq=False, repr=False)
class MemoryAppender:
    """One growing file; two appends at once are a broken promise, and a test failure."""

    _disk: MemoryDisk
    _path: Path
    _file: _File
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
                await self._disk._write("write", self._path, data, self._file)
                await self._disk._pause()
                await self._disk._sync(self._path, self._file)
        finally:
            self._busy = False

    def close(self) -> None:
        self._closed = True
