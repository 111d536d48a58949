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

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio

from runner import folded
from runner.events import KINDS, Event, Failed, Heard, Opened, Repaired, Replied, Sent, from_data, to_data
from runner.folded import Folded, Folding, Now
from runner.lines import Damaged, StorageError, TooNew, cut, free_name, pieces, seal, split, storage_error, unseal
from runner.money import Nanos
from runner.state import Place, State
from runner.world import Appender, Clock, Disk, Lock, LockHeld, locks_hold, taken

VERSION: Final = 1
FILE: Final = "journal.jsonl"
LOCK_FILE: Final = "run.lock"
SPARE_FILE: Final = "spare"
"""Space set aside, given back to the disk when it is full so that what is in flight can still be kept."""

_SPARE_BYTES: Final = 4 * 1024 * 1024
_LOOKED_AT_SECONDS: Final = 0.1
"""Whoever only looks whether a lock is held, holds it for a moment: that is not the one to give way to."""
_NEAR_BYTES: Final = 4 * 1024
"""What lies between two records is read with them where it is no more: to ask for each takes longer."""
_PIECE_BYTES: Final = 256 * 1024
_READ_SECONDS: Final = 10.0
"""For so long somebody without a name may hold it, who only reads what stands there."""


_NOT_UNDERSTOOD: Final = (ValueError, KeyError, TypeError, AttributeError)
"""What comes of a record in which something is missing, or is not what it was."""


# --- lines -------------------------------------------------------------------------------------------------------


def encode(seq: int, at: float, event: Event, synced: int | None = None) -> bytes:
    """One line, with its end."""
    return _line(seq, at, event.kind, to_data(event), synced)


def _line(seq: int, at: float, kind: str, said: Mapping[str, Any], synced: int | None) -> bytes:
    head: dict[str, Any] = {"v": VERSION, "seq": seq, "at": at, "kind": kind}
    if synced is not None:
        head["synced"] = synced
    return seal({**head, **said})


class Record(NamedTuple):
    """A line that was read back whole."""

    seq: int
    at: float
    synced: int | None
    event: Event
    place: Place


def decode(line: bytes, offset: int) -> Record | None:
    """The record of a line without its end, None when the line is not whole; TooNew when it is, but unknown."""
    try:
        said = _said(line)
        if said is None:
            return None
        event = from_data(said["kind"], said)
        return Record(said["seq"], said["at"], said.get("synced"), event, Place(offset, len(line) + 1))
    except _NOT_UNDERSTOOD:
        raise _unknown(offset) from None


def _said(line: bytes) -> dict[str, Any] | None:
    """What a line without its end says, None when it is not whole; TooNew when no event of this version is that."""
    said = unseal(line)
    if said is not None and (said["v"] > VERSION or said["kind"] not in KINDS):
        raise _later(said)
    return said


def _later(said: Mapping[str, Any]) -> TooNew:
    return TooNew(
        f"record {said['seq']} has format {said['v']} and kind {said['kind']!r}, which this version does not know: "
        "use the version of Tertulia that wrote it, or a later one"
    )


def _unknown(offset: int) -> TooNew:
    return TooNew(
        f"the line at byte {offset:,} is whole, but not a record that this version understands: "
        "use the version of Tertulia that wrote it"
    )


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
    safe: int = 0
    """Where the records end that are known to be synced, in bytes."""
    known: Folded | None = None
    """What was known beforehand."""

    @property
    def torn(self) -> bool:
        return self.end < self.size

    @property
    def damaged(self) -> bool:
        """True when a record is lost that had been synced."""
        return self.torn and self.synced > self.last


def scan(disk: Disk, path: Path) -> Scan:
    """Fold a journal file, from where it is known on what it comes to; damage is told, not raised.

    HistoryError when whole lines contradict each other, TooNew with the file's name when they are of a later version.
    """
    try:
        known = folded.read(disk, path)
        if known is not None:
            with suppress(Exception):  # what was kept may be wrong, whoever wrote it: the journal decides
                found = _scan(disk, path, known)
                if found.end > known.end or not found.torn:
                    return found
        return _scan(disk, path, None)
    except TooNew as error:
        raise TooNew(f"{path}: {error}") from None


def _scan(disk: Disk, path: Path, known: Folded | None) -> Scan:
    found = Scan(size=disk.size(path), known=known)
    if known is not None:
        found.state, found.last, found.last_at, found.synced = known.state, known.seq, known.at, known.seq
        found.end = found.safe = known.end
    takers = found.state.takers()
    last, marked, offset, whole = found.last, found.synced, found.end, True
    ends: dict[int, int] = {}
    try:
        for begin, lines, ended in pieces(disk, path, found.end):
            end = begin
            for line in lines:
                offset = end
                end += len(line) + 1
                said = unseal(line)
                if said is None:
                    if ended and (rewritten := unseal(line.removesuffix(b"\r"))) is not None:
                        # No crash puts a return before the end of a line, an editor does: what it rewrote had been
                        # there.
                        marked = max(marked, rewritten["seq"])
                    whole = False
                    continue
                kind = said["kind"]
                take = takers.get(kind)
                if take is None or said["v"] > VERSION:
                    raise _later(said)
                seq, at, synced = said["seq"], said["at"], said.get("synced")
                if synced is not None and synced > marked:
                    # Also where only the end of the last line is missing: it counts for nothing, but what it says is
                    # true.
                    marked = synced
                whole = whole and ended and seq == last + 1
                if not whole:
                    continue
                take(said, at, offset, end - offset)
                last = said["through"] if kind == "repaired" else seq
                found.last_at = at
                found.end = ends[last] = end
                if synced in ends:
                    found.safe = ends[synced]
                    ends = {seq: stands for seq, stands in ends.items() if seq > synced}
    except _NOT_UNDERSTOOD:
        raise _unknown(offset) from None
    found.last, found.synced = last, marked
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
    folding: Folding
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
    _kept: dict[int, Record] = field(default_factory=dict)
    """What is read again of the conversations that are held now, by the offsets of the lines."""
    _kept_of: dict[str, list[int]] = field(default_factory=dict)
    """The offsets of those, by the ids of what they tell of."""
    _queued: anyio.Event = field(default_factory=anyio.Event)
    _awaited: deque[tuple[int, anyio.Event]] = field(default_factory=deque)
    """Who waits until which record is durable; the first first."""
    _closing: bool = False

    @classmethod
    async def open(cls, disk: Disk, clock: Clock, folder: Path, holder: str) -> Journal:
        """Take the lock, read what is there, cut a torn tail. LockHeld, Damaged or StorageError otherwise."""
        path = folder / FILE
        try:
            with ExitStack() as undoing:
                disk.make_dirs(folder)
                lock = await _held(disk, folder / LOCK_FILE, holder)
                undoing.callback(lock.release)
                if not locks_hold(disk, folder / LOCK_FILE, holder):
                    raise StorageError(
                        f"{folder} is on a file system whose locks keep nobody out, so that two processes could spend "
                        "the same money; --outputs names a folder on a local disk"
                    )
                for name in disk.listdir(folder):
                    if name.startswith(".") and name.endswith(".tmp"):
                        disk.remove(folder / name)  # a crash came between writing it and giving it its name
                found = scan(disk, path) if disk.exists(path) else Scan()
                if found.damaged:
                    raise Damaged(path, found.end, found.last + 1)
                torn = await cut(disk, path, found.end) if found.torn else None
                if not disk.exists(folder / SPARE_FILE):
                    await disk.replace(folder / SPARE_FILE, bytes(_SPARE_BYTES), durable=True)
                appender = disk.appender(path)
                undoing.callback(appender.close)
                # What a dead process wrote and did not sync, or could not, the next loss of power would take back.
                if found.safe < found.end:
                    await disk.rewrite(path, found.safe, found.end)
                folding = Folding.begin(disk, path, found.state, found.known, found.end)
                undoing.pop_all()
        except OSError as error:
            raise storage_error(path, error) from error
        journal = cls(disk, clock, folder, found.state, lock, appender, folding, torn)
        journal._seq = journal._synced = found.last
        journal._end, journal._at = found.end, found.last_at
        return journal

    @property
    def seq(self) -> int:
        """The number of the last record."""
        return self._seq

    @property
    def is_ahead(self) -> bool:
        """True when something is recorded that is not on the disk yet."""
        return bool(self._unwritten)

    def record(self, event: Event) -> None:
        """Take an event into the state and queue its line; `flushed` tells when it is durable."""
        # Stamps never go back, so that a clock that is set during a run cannot reopen a minute or a day.
        self._at = max(self._at, round(self.clock.wall(), 3))
        said = to_data(event)
        line = _line(self._seq + 1, self._at, event.kind, said, None if self._queue else self._synced)
        place = Place(self._end, len(line))
        self.state.apply(event, self._at, place, said)
        self._seq += 1
        self._unwritten[self._end] = line
        if isinstance(event, Sent | Replied | Heard | Failed):
            self._kept[self._end] = Record(self._seq, self._at, None, event, place)
            self._kept_of.setdefault(event.cell, []).append(self._end)
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
            durable = anyio.Event()
            self._awaited.append((wanted, durable))
            await durable.wait()

    def read(self, place: Place) -> Record:
        """A record of this run, also one that is only on its way to the disk."""
        kept = self._kept.get(place.offset)
        if kept is not None:
            return kept
        line = self._unwritten.get(place.offset)
        record = None if line is None else decode(line[:-1], place.offset)
        return read_record(self.disk, self.folder, place) if record is None else record

    def forget(self, id_: str) -> None:
        """Keep no texts of what is not held any more: whoever wants them reads them from the disk."""
        for offset in self._kept_of.pop(id_, ()):
            del self._kept[offset]

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
                    while self._awaited and (self._broken or self._awaited[0][0] <= self._synced):
                        self._awaited.popleft()[1].set()
                    if self.failing is None:
                        await self.folding.step(self._now)
                if self._closing:
                    self._queued.set()
            if self.failing is None:  # where the disk is full, what room there is belongs to what is in flight
                await self.folding.finish(self._now)

    def _now(self) -> Now:
        return Now(self._seq, self._at, self._end, self._synced, (line for _, line in self._queue))

    async def _put_down(self, group: list[tuple[Event, bytes]]) -> None:
        data = b"".join(line for _, line in group)
        last = self._seq - len(self._queue)
        start = self._end - len(data) - sum(len(line) for _, line in self._queue)
        try:
            await self.appender.append(data)
        except OSError as error:
            self.failing = self.failing or storage_error(self.folder / FILE, error)
            # A sync that failed is never tried again: the kernel may already have dropped what it could not write.
            if error.errno not in (ENOSPC, EDQUOT) or not await self._append_with_spare(data, start):
                self._broken = True
                self.lost.extend(event for event, _ in (*group, *self._queue))
                self._queue = []
        if not self._broken:
            self.folding.durable(data)
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
        """Give the file and the lock back; and the space set aside, where nobody has to go on with the run."""
        self.appender.close()
        self.folding.close()
        if self.failing is None and not self.state.is_open:
            with suppress(OSError):  # it is only space, and whoever opens the run again needs it again
                self.disk.remove(self.folder / SPARE_FILE)
        self.lock.release()


def read_record(disk: Disk, folder: Path, place: Place) -> Record:
    """The record at a place; Damaged when it is not whole any more."""
    record = decode(disk.read(folder / FILE, place.offset, place.size)[:-1], place.offset)
    if record is None:
        raise Damaged(folder / FILE, place.offset, 0)
    return record


def read_said(disk: Disk, folder: Path, places: Iterable[Place]) -> dict[int, Mapping[str, Any]]:
    """What the records at these places say, as it is written, by their offsets; Damaged when one is not whole any more.

    They are read in the order of the file, and those that stand near each other together.
    """
    stretches: list[tuple[int, int]] = []
    within: list[list[Place]] = []
    begin = end = -_NEAR_BYTES - 1
    for place in sorted(set(places)):
        offset, size = place
        if offset > end + _NEAR_BYTES or offset + size > begin + _PIECE_BYTES:
            begin = offset
            stretches.append((begin, size))
            within.append([])
        end = offset + size
        stretches[-1] = (begin, end - begin)
        within[-1].append(place)
    found: dict[int, Mapping[str, Any]] = {}
    pieces_read = disk.read_each(folder / FILE, stretches) if stretches else []
    for (begin, _), piece, there in zip(stretches, pieces_read, within, strict=True):
        for offset, size in there:
            start = offset - begin
            try:
                said = _said(piece[start : start + size - 1])
            except _NOT_UNDERSTOOD:
                raise _unknown(offset) from None
            if said is None:
                raise Damaged(folder / FILE, offset, 0)
            found[offset] = said
    return found


def said_in(record: Record) -> tuple[Replied | Heard, float]:
    """The line of a conversation that a record holds, and when it was made."""
    assert isinstance(record.event, Replied | Heard)
    return record.event, record.at


class Repair(NamedTuple):
    """What a repair did."""

    lost: int
    """Records that could not be read."""
    cost: Nanos
    """What is counted in their place."""
    copy: str
    """The name of the untouched copy."""


async def _held(disk: Disk, path: Path, holder: str) -> Lock:
    """The lock of a run; LockHeld when another process writes it."""
    try:
        return await taken(disk, path, holder, _LOOKED_AT_SECONDS)
    except LockHeld as held:
        if held.holder:
            raise
    return await taken(disk, path, holder, _READ_SECONDS)


async def repair(disk: Disk, clock: Clock, folder: Path, holder: str) -> Repair | None:
    """Put a `Repaired` record in the place of each damaged stretch, counting the largest reservation for each line.

    None when nothing that had been synced is damaged. The damaged file is kept beside the mended one.
    """
    path = folder / FILE
    lock = await taken(disk, folder / LOCK_FILE, holder, _LOOKED_AT_SECONDS)
    try:
        found = scan(disk, path)
        if not found.damaged:
            return None
        each = _most_of_one_line(disk, path)
        readable = list(_readable(disk, path))
        records = max(found.synced, *(record.seq for record in readable), 0)
        mended: list[bytes] = []
        last, last_at, lost = 0, 0.0, 0

        def bridge(through: int) -> None:
            nonlocal last, lost
            missing = through - last
            lost += missing
            mended.append(encode(last + 1, last_at, Repaired(through, missing * each, records)))
            last = through

        for record in readable:
            if record.seq <= last:
                continue
            if record.seq > last + 1:
                bridge(record.seq - 1)
            mended.append(disk.read(path, record.place.offset, record.place.size - 1) + b"\n")
            last = record.event.through if isinstance(record.event, Repaired) else record.seq
            last_at = record.at
        if found.synced > last:
            bridge(found.synced)
        _fold(mended)
        copy = free_name(disk, folder, "journal.damaged")
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
    for offset, line, ended in split(disk, path):
        record = decode(line.removesuffix(b"\r"), offset) if ended else None
        if record is not None:
            yield record
