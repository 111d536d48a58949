"""The journal of a run: one file that only grows, one JSON object a line, and the state that it folds to.

- A line is numbered (`seq`), stamped (`at`), named (`kind`), and ends with a CRC-32 of everything before it.
- `record` takes an event into the state at once and queues its line; one writer puts all queued lines down with one
  sync, and whoever awaits `flushed` goes on when everything recorded before is durable.
- The first line of each group tells the last sequence number known to be synced (`synced`). Damage above the highest
  such mark is a torn tail: it is set aside and cut. Damage at or below it is refused, because the money behind it is
  unknown, until `repair` counts it.
- One writer: a kernel lock on a file that is never deleted.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple
from zlib import crc32

import anyio
import orjson

from runner.events import KINDS, Event, Failed, Opened, Place, Repaired, Replied, Sent, State, from_data, to_data
from runner.money import Nanos
from runner.world import Appender, Clock, Disk, Lock

VERSION: Final = 1
FILE: Final = "journal.jsonl"
LOCK_FILE: Final = "run.lock"
SPARE_FILE: Final = "spare"
"""Space set aside, given back to the disk when it is full so that what is in flight can still be kept."""

_SPARE_BYTES: Final = 4 * 1024 * 1024
_READ_BYTES: Final = 8 * 1024 * 1024
_CRC: Final = b',"crc":"'
_CRC_TAIL: Final = len(b',"crc":"00000000"}')


class StorageError(Exception):
    """The disk would not keep what was written; nothing more may be granted."""


class JournalDamaged(Exception):
    """Lines that had been synced cannot be read; the money behind them is unknown."""

    def __init__(self, path: Path, offset: int, seq: int) -> None:
        super().__init__(f"{path}: damaged at byte {offset:,}" + (f" (record {seq:,})" if seq else ""))
        self.path = path
        self.offset = offset
        self.seq = seq


class JournalTooNew(Exception):
    """Written by a later version of the format."""


# --- lines -------------------------------------------------------------------------------------------------------


def encode(seq: int, at: float, event: Event, synced: int | None = None) -> bytes:
    """One line, with its end."""
    head: dict[str, Any] = {"v": VERSION, "seq": seq, "at": at, "kind": event.kind}
    if synced is not None:
        head["synced"] = synced
    body = _dumped(head | to_data(event))[:-1]
    return b'%b,"crc":"%08x"}\n' % (body, crc32(body))


def _dumped(data: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError:
        # What has cost money is written down whatever is in it: half a surrogate pair as a question mark, a number of
        # any length.
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


class Record(NamedTuple):
    """A line that was read back whole."""

    seq: int
    at: float
    synced: int | None
    event: Event
    place: Place


def decode(line: bytes, offset: int) -> Record | None:
    """The record of a line without its end, None when the line is not whole; JournalTooNew when it is, but unknown."""
    body, tail = line[:-_CRC_TAIL], line[-_CRC_TAIL:]
    # Compared as written, not as a number: one number has many spellings, and here each byte counts.
    if tail != b'%b%08x"}' % (_CRC, crc32(body)):
        return None
    try:
        data = orjson.loads(line)
        seq, version, kind = data["seq"], data["v"], data["kind"]
        if version > VERSION or kind not in KINDS:
            raise JournalTooNew(
                f"record {seq} has format {version} and kind {kind!r}, which this version does not know: "
                "use the version of Tertulia that wrote it, or a later one"
            )
        event = from_data(kind, data)
        return Record(seq, data["at"], data.get("synced"), event, Place(offset, len(line) + 1))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise JournalTooNew(
            f"the line at byte {offset:,} is whole, but not a record that this version understands: "
            "use the version of Tertulia that wrote it"
        ) from None


def lines(disk: Disk, path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Every line of a file as (offset, line without its end, whether it had one), read in pieces."""
    offset, start, rest, size = 0, 0, b"", disk.size(path)
    while start < size:
        piece = disk.read(path, start, _READ_BYTES)
        if not piece:
            break
        start += len(piece)
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield offset, line, True
            offset += len(line) + 1
    if rest:
        yield offset, rest, False


@dataclass(slots=True)
class Scan:
    """What is in a journal file: its fold up to the first damage, and what that damage is."""

    state: State = field(default_factory=State)
    last: int = 0
    """The sequence number of the last good record."""
    end: int = 0
    """Where the good records end, in bytes."""
    size: int = 0
    synced: int = 0
    """The highest sequence number that any line says was synced."""
    last_at: float = 0.0

    @property
    def torn(self) -> bool:
        return self.end < self.size

    @property
    def damaged(self) -> bool:
        """True when a record is lost that had been synced."""
        return self.torn and self.synced > self.last


def scan(disk: Disk, path: Path) -> Scan:
    """Fold a journal file. HistoryError when whole lines contradict each other; damage is told, not raised."""
    found = Scan(size=disk.size(path))
    whole = True
    for offset, line, ended in lines(disk, path):
        record = decode(line, offset) if ended else None
        if record is not None and record.synced is not None:
            found.synced = max(found.synced, record.synced)
        if record is None or record.seq != found.last + 1:
            whole = False
        if not whole or record is None:
            continue
        found.state.apply(record.event, record.at, record.place)
        found.last = record.event.through if isinstance(record.event, Repaired) else record.seq
        found.last_at = record.at
        found.end = record.place.offset + record.place.size
    return found


# --- the journal -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Journal:
    """The file and its state, owned by one process. Changed through `record` alone."""

    disk: Disk
    clock: Clock
    folder: Path
    state: State
    lock: Lock
    appender: Appender
    torn: str | None = None
    """The file that a torn tail was moved to at opening."""
    failing: StorageError | None = None
    """Set at the first trouble with the disk: nothing more may be granted."""
    lost: list[Event] = field(default_factory=list)
    """Events that could not be kept on disk."""
    _broken: bool = False
    _seq: int = 0
    _synced: int = 0
    _end: int = 0
    _at: float = 0.0
    _queue: list[tuple[Event, bytes]] = field(default_factory=list)
    _unwritten: dict[int, bytes] = field(default_factory=dict)
    """Lines that are not on disk yet, or never will be, by their offsets."""
    _queued: anyio.Event = field(default_factory=anyio.Event)
    _written: anyio.Event = field(default_factory=anyio.Event)
    _closing: bool = False

    @classmethod
    async def open(cls, disk: Disk, clock: Clock, folder: Path, holder: str) -> Journal:
        """Take the lock, read what is there, cut a torn tail. LockHeld, JournalDamaged or StorageError otherwise."""
        path = folder / FILE
        lock: Lock | None = None
        try:
            disk.make_dirs(folder)
            lock = disk.lock(folder / LOCK_FILE, holder)
            for name in disk.listdir(folder):
                if name.startswith(".") and name.endswith(".tmp"):
                    disk.remove(folder / name)  # a crash came between writing it and giving it its name
            found = scan(disk, path) if disk.exists(path) else Scan()
            if found.damaged:
                raise JournalDamaged(path, found.end, found.last + 1)
            torn = await _cut(disk, path, found) if found.torn else None
            if not disk.exists(folder / SPARE_FILE):
                await disk.replace(folder / SPARE_FILE, bytes(_SPARE_BYTES))
            journal = cls(disk, clock, folder, found.state, lock, disk.appender(path), torn)
        except OSError as error:
            if lock is not None:
                lock.release()
            raise _storage_error(path, error) from error
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        journal._seq = journal._synced = found.last
        journal._end, journal._at = found.end, found.last_at
        return journal

    @property
    def seq(self) -> int:
        """The number of the last record."""
        return self._seq

    def record(self, event: Event) -> None:
        """Take an event into the state and queue its line; `flushed` tells when it is durable."""
        # Stamps never go back, so that a clock that is set during a run cannot reopen a minute or a day.
        self._at = max(self._at, round(self.clock.wall(), 3))
        line = encode(self._seq + 1, self._at, event, None if self._queue else self._synced)
        self.state.apply(event, self._at, Place(self._end, len(line)))
        self._seq += 1
        self._unwritten[self._end] = line
        self._end += len(line)
        if self._broken:
            self.lost.append(event)
        else:
            self._queue.append((event, line))
            self._queued.set()

    async def flushed(self) -> None:
        """Return when everything recorded so far is durable; StorageError when it never will be."""
        wanted = self._seq
        while self._synced < wanted:
            if self._broken:
                assert self.failing is not None
                raise self.failing
            await self._written.wait()

    def read(self, place: Place) -> Record:
        """A record of this run, also one that is only on its way to the disk."""
        line = self._unwritten.get(place.offset)
        record = None if line is None else decode(line[:-1], place.offset)
        return read_record(self.disk, self.folder, place) if record is None else record

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """The writer runs while this is open; at the end everything queued is put down, however it ends."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write)
            try:
                yield
            finally:
                self._closing = True
                self._queued.set()

    async def _write(self) -> None:
        # Shielded: a stop request must not keep an outcome that has cost money from reaching the disk.
        with anyio.CancelScope(shield=True):
            while not (self._closing and not self._queue):
                await self._queued.wait()
                self._queued = anyio.Event()
                while self._queue:
                    group, self._queue = self._queue, []
                    await self._put_down(group)
                    written, self._written = self._written, anyio.Event()
                    written.set()
                if self._closing:
                    self._queued.set()

    async def _put_down(self, group: list[tuple[Event, bytes]]) -> None:
        data = b"".join(line for _, line in group)
        last = self._seq - len(self._queue)
        start = self._end - len(data) - sum(len(line) for _, line in self._queue)
        try:
            await self.appender.append(data)
        except OSError as error:
            self.failing = self.failing or _storage_error(self.folder / FILE, error)
            # A sync that failed is never tried again: the kernel may already have dropped what it could not write.
            if error.errno not in (ENOSPC, EDQUOT) or not await self._append_with_spare(data, start):
                self._broken = True
                self.lost.extend(event for event, _ in (*group, *self._queue))
                self._queue = []
        if not self._broken:
            self._synced = last
            for _, line in group:
                del self._unwritten[start]
                start += len(line)

    async def _append_with_spare(self, data: bytes, start: int) -> bool:
        """The disk is full: give the space set aside back, and put down once more what has happened."""
        try:
            self.disk.remove(self.folder / SPARE_FILE)
            self.disk.truncate(self.folder / FILE, start)
            await self.appender.append(data)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the file and the lock back."""
        self.appender.close()
        self.lock.release()


def read_record(disk: Disk, folder: Path, place: Place) -> Record:
    """The record at a place; JournalDamaged when it is not whole any more."""
    record = decode(disk.read(folder / FILE, place.offset, place.size)[:-1], place.offset)
    if record is None:
        raise JournalDamaged(folder / FILE, place.offset, 0)
    return record


def _storage_error(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: {error.strerror or error}")


def _free_name(disk: Disk, folder: Path, stem: str) -> str:
    taken = set(disk.listdir(folder))
    return next(name for n in count(1) if (name := f"{stem}-{n}") not in taken)


async def _cut(disk: Disk, path: Path, found: Scan) -> str:
    """Set a torn tail aside in a file of its own and cut it from the journal."""
    name = _free_name(disk, path.parent, "journal.torn")
    tail = disk.read(path, found.end)
    try:
        await disk.replace(path.with_name(name), tail, durable=True)
    except OSError as error:
        # With no room for a copy the cut still has to be made: the lines in it were never relied upon.
        name = f"nowhere ({error.strerror})"
    disk.truncate(path, found.end)
    return name


class Repair(NamedTuple):
    """What a repair did."""

    lost: int
    """Records that could not be read."""
    cost: Nanos
    """What is counted in their place."""
    copy: str
    """The name of the untouched copy."""


async def repair(disk: Disk, clock: Clock, folder: Path, holder: str) -> Repair | None:
    """Put a `Repaired` record in the place of each damaged stretch, counting the largest reservation for each line.

    None when nothing that had been synced is damaged. The damaged file is kept beside the mended one.
    """
    path = folder / FILE
    lock = disk.lock(folder / LOCK_FILE, holder)
    try:
        found = scan(disk, path)
        if not found.damaged:
            return None
        each = _most_of_one_line(disk, path)
        mended: list[bytes] = []
        last, last_at, lost = 0, 0.0, 0

        def bridge(through: int) -> None:
            nonlocal last, lost
            missing = through - last
            lost += missing
            mended.append(encode(last + 1, last_at, Repaired(through, missing * each)))
            last = through

        for record in _readable(disk, path):
            if record.seq <= last:
                continue
            if record.seq > last + 1:
                bridge(record.seq - 1)
            mended.append(disk.read(path, record.place.offset, record.place.size))
            last = record.event.through if isinstance(record.event, Repaired) else record.seq
            last_at = record.at
        if found.synced > last:
            bridge(found.synced)
        _fold(mended)
        copy = _free_name(disk, folder, "journal.damaged")
        await disk.replace(path.with_name(copy), disk.read(path), durable=True)
        await disk.replace(path, b"".join(mended), durable=True)
        return Repair(lost, lost * each, copy)
    finally:
        lock.release()


def _fold(whole: list[bytes]) -> None:
    """HistoryError when these lines contradict each other: then they take nobody's place."""
    state = State()
    for line in whole:
        record = decode(line[:-1], 0)
        assert record is not None
        state.apply(record.event, record.at, record.place)


def _most_of_one_line(disk: Disk, path: Path) -> Nanos:
    """The most that a lost line can have spent: the run's largest reservation or, where none is left, its ceiling."""
    reserved, charged, ceiling = 0, 0, 0
    for record in _readable(disk, path):
        match record.event:
            case Sent():
                reserved = max(reserved, record.event.reserved)
            case Replied() | Failed():
                charged = max(charged, record.event.cost)
            case Opened():
                known = [most for name, most in record.event.ceilings.items() if name in ("run", "conversation")]
                ceiling = max(ceiling, min(known, default=0))
            case _:
                pass
    return max(reserved or ceiling, charged)


def _readable(disk: Disk, path: Path) -> Iterator[Record]:
    for offset, line, ended in lines(disk, path):
        record = decode(line, offset) if ended else None
        if record is not None:
            yield record
