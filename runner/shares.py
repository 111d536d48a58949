"""The limits of one provider account, shared by the processes that use it: of one user, on one machine.

A share is a part of each window of a lane, and with it goes that part of what the window counts. Whoever gives a share
up passes both on, whoever takes it counts both: so the shares never make up more than the whole, and what all
processes sent in the last minute and day is counted somewhere, in full, at every moment.

- One table says who holds which shares, and what is counted in those that nobody holds. It is changed behind a door, a
  lock that is held for moments, and replaced in one step.
- Who is alive, the kernel knows: each process keeps the lock of its row as long as it lives. What the dead have sent
  since their row was written, their journals tell.
- Without a wish of its own a process takes all that is free, gives way to those who come with a wish, and takes back
  what they leave. With a wish it has that share, no more and no less.
- A process gets all its lanes at once, or waits for all of them, so that no two wait for each other. First come, first
  served: nobody who comes later gets what somebody waits for.
- The table can be lost. Those who are alive put themselves down again, and until they have nobody takes anything.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Container, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from math import ceil, floor, inf
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast

import anyio
import orjson

from runner.events import Sent
from runner.journal import FILE as JOURNAL
from runner.journal import Journal, Record, decode
from runner.limits import DAY, MINUTE, Counted, Lane, WindowName
from runner.lines import TooNew, split
from runner.world import Clock, Disk, Lock, LockHeld, taken

FILE: Final = "lanes.json"
DOOR: Final = "lanes.lock"
VERSION: Final = 1
LOOK_SECONDS: Final = 2.0
"""How often who holds a share looks whether others come or go."""

_SMALLEST: Final = 0.05
"""Who gives way to others keeps at least so much."""
_RESIDUE: Final = 1e-9
_AT_THE_DOOR_SECONDS: Final = 1.0
_LANDING_SECONDS: Final = 0.25
_OUTDATED: Final = 1.01
"""An entry that is so many times older than its window is long is in nobody's window any more."""
_TAIL_BYTES: Final = 256 * 1024
_ROW_LOCK: Final = re.compile(r"holder-(\d+)\.lock")

Past: TypeAlias = dict[WindowName, list[tuple[float, float]]]
"""What windows count: (seconds since the epoch, amount) by window."""


@dataclass(slots=True)
class Hold:
    """A share of a lane, and what was counted in it when the row was written."""

    share: float
    past: Past


class Talks(NamedTuple):
    """A run of a process: its last record when the row was written, and which lane its calls go to."""

    seq: int
    lanes: Mapping[str, str]
    """By provider or, where a lane is one model's, by `provider/alias`."""


@dataclass(slots=True)
class Row:
    """One process that holds shares, or waits for them."""

    slot: int
    holder: str
    asked: float | None
    """The share that it wants of each lane; None for all that is free."""
    needs: dict[str, float]
    """The smallest share of each of its lanes that is of any use to it."""
    runs: dict[str, Talks]
    """By folder."""
    holds: dict[str, Hold] = field(default_factory=dict)
    """Empty while it waits."""

    def wants(self, lane: str) -> float:
        """What nobody else may have of a lane as long as this one is here."""
        return 0.0 if lane not in self.needs else self.needs[lane] if self.asked is None else self.asked

    def has(self, lane: str) -> float:
        return self.holds[lane].share if lane in self.holds else 0.0


@dataclass(slots=True)
class Table:
    """Who holds which shares: the rows in the order in which they came."""

    rows: list[Row] = field(default_factory=list)
    free: dict[str, Past] = field(default_factory=dict)
    """What is counted in the part of each lane that nobody holds."""
    unknown_until: float = -inf
    """Until then there may be requests in the windows of which this table does not know."""

    def left(self, lane: str) -> float:
        """The part of a lane that nobody holds."""
        return 1.0 - sum(row.has(lane) for row in self.rows)

    def next(self) -> list[Row]:
        """Those who wait and for whom there will be room as soon as others have given way."""
        there = [row for row in self.rows if row.holds]
        found: list[Row] = []
        for row in self.rows:
            if not row.holds:
                if all(_fits(row, lane, there) for lane in row.needs):
                    found.append(row)
                there.append(row)  # what it waits for is kept for it, also where it cannot have it yet
        return found

    def due(self, row: Row, lane: str) -> float:
        """The share that a row should have."""
        if row.asked is not None:
            return row.asked
        others = sum(other.has(lane) for other in self.rows if other is not row)
        return max(row.needs[lane], 1.0 - others - sum(one.wants(lane) for one in self.next() if one is not row))

    def has_room_for(self, row: Row) -> bool:
        """True when it is a row's turn, and what it is to have is free."""
        return row in self.next() and all(self.due(row, lane) <= self.left(lane) + _RESIDUE for lane in row.needs)

    def slots(self, row: Row, lane: str, concurrency: int) -> float:
        """How many calls a row may have in flight: whole ones, and together no more than there are."""
        if row.asked is not None:
            return float(_whole(row.asked, concurrency))
        others = sum(_whole(other.has(lane), concurrency) for other in self.rows if other is not row)
        coming = sum(_whole(one.wants(lane), concurrency) for one in self.next() if one is not row)
        return float(max(1, concurrency - others - coming))

    def give_back(self, lane: str, past: Past) -> None:
        """A share is free; what is counted in it goes on to be counted."""
        self.free[lane] = _merged(self.free.get(lane, {}), past)

    def take(self, lane: str, share: float) -> Past:
        """The past of a share that somebody takes of what is free."""
        part = min(1.0, share / max(self.left(lane), share))
        free = self.free.get(lane, {})
        self.free[lane] = _scaled(free, 1.0 - part)
        return _scaled(free, part)

    def knows(self, lane: str) -> frozenset[WindowName] | None:
        """The windows of a lane whose past is here; None for a lane that nobody has used in the last day."""
        pasts = [row.holds[lane].past for row in self.rows if lane in row.holds]
        if lane in self.free:
            pasts.append(self.free[lane])
        return frozenset().union(*pasts) if pasts else None


def _fits(row: Row, lane: str, others: Sequence[Row]) -> bool:
    """True when a row can have what it wants of a lane beside these, once they have given way."""
    beside = [other for other in others if lane in other.needs]
    if row.asked is None and any(other.asked is None for other in beside):
        return False
    return sum(other.wants(lane) for other in beside) + row.wants(lane) <= 1.0 + _RESIDUE


def _whole(share: float, concurrency: int) -> int:
    return int(share * concurrency + _RESIDUE)


def _scaled(past: Past, part: float) -> Past:
    return {name: [(at, amount * part) for at, amount in entries] for name, entries in past.items()}


def _merged(one: Past, other: Past) -> Past:
    return {name: sorted(one.get(name, []) + other.get(name, [])) for name in {**one, **other}}


# --- the table as it is written ----------------------------------------------------------------------------------


def encode(table: Table, wall: float) -> bytes:
    """The table as JSON, without what is out of date."""
    for lane, past in list(table.free.items()):
        table.free[lane] = {
            name: [(at, amount) for at, amount in entries if at > wall - _length(name) * _OUTDATED and amount > 0]
            for name, entries in past.items()
        }
        if not any(table.free[lane].values()) and not any(lane in row.holds for row in table.rows):
            del table.free[lane]
    rows = [
        {
            "slot": row.slot,
            "holder": row.holder,
            "asked": row.asked,
            "needs": row.needs,
            "runs": {folder: talks._asdict() for folder, talks in row.runs.items()},
            "holds": {lane: {"share": hold.share, "past": hold.past} for lane, hold in row.holds.items()},
        }
        for row in table.rows
    ]
    until = None if table.unknown_until <= wall else table.unknown_until
    return orjson.dumps({"v": VERSION, "rows": rows, "free": table.free, "unknown_until": until})


def parse(data: bytes) -> Table:
    """The table of a file; ValueError when it is none that this version understands."""
    try:
        found = orjson.loads(data)
        if found["v"] != VERSION:
            raise ValueError(f"version {found['v']}")
        return Table(
            rows=[_row(row) for row in found["rows"]],
            free={str(lane): _past(past) for lane, past in found["free"].items()},
            unknown_until=-inf if found["unknown_until"] is None else float(found["unknown_until"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a table of lanes: {error}") from None


def _row(data: Mapping[str, Any]) -> Row:
    return Row(
        slot=int(data["slot"]),
        holder=str(data["holder"]),
        asked=None if data["asked"] is None else float(data["asked"]),
        needs={str(lane): float(need) for lane, need in data["needs"].items()},
        runs={str(f): Talks(int(run["seq"]), dict(run["lanes"])) for f, run in data["runs"].items()},
        holds={str(lane): Hold(float(h["share"]), _past(h["past"])) for lane, h in data["holds"].items()},
    )


def _past(data: Mapping[str, Any]) -> Past:
    return {cast(WindowName, name): [(float(at), float(n)) for at, n in entries] for name, entries in data.items()}


def _length(name: WindowName) -> float:
    return DAY if name == "day" else MINUTE


def _stamped(counted: Counted, wall: float) -> Past:
    """What windows count, by the wall clock; what is close together in one entry, not forgotten too soon."""
    found: Past = {}
    for name, entries in counted.items():
        step = MINUTE if name == "day" else 1.0
        sums: dict[float, float] = {}
        for ago, amount in entries:
            at = ceil((wall - ago) / step) * step
            sums[at] = sums.get(at, 0.0) + amount
        found[name] = sorted(sums.items())
    return found


def _aged(past: Past, wall: float) -> Counted:
    return {name: [(wall - at, amount) for at, amount in entries] for name, entries in past.items()}


# --- what the dead have sent -------------------------------------------------------------------------------------


def sent_since(disk: Disk, folder: Path, seq: int, oldest: float) -> Iterator[tuple[float, Sent]]:
    """The calls in a journal after a record, no older than `oldest`; read from its end, however long it is."""
    path = folder / JOURNAL
    size, span = disk.size(path), _TAIL_BYTES
    while True:
        start = max(0, size - span)
        records = [record for offset, line, _ in split(disk, path, start) if (record := decode(line, offset))]
        if start == 0 or (records and _reaches(records[0], seq, oldest)):
            break
        span *= 8
    for record in records:
        if isinstance(record.event, Sent) and record.seq > seq and record.at >= oldest:
            yield record.at, record.event


def _reaches(first: Record, seq: int, oldest: float) -> bool:
    return first.seq <= seq + 1 or first.at < oldest


def _counts(name: WindowName, sent: Sent) -> float:
    """What a call may have counted in a window, at the most."""
    match name:
        case "all":
            return float(sent.input_bound + sent.max_tokens)
        case "input":
            return float(sent.input_bound)
        case "output":
            return float(sent.max_tokens)
        case _:
            return 1.0


# --- one process -------------------------------------------------------------------------------------------------


class Other(NamedTuple):
    """Somebody who has what we wait for."""

    holder: str
    runs: tuple[str, ...]
    """Folders."""
    lanes: tuple[str, ...]
    """By the names that we call them."""


class Wait(NamedTuple):
    """What has to be waited for."""

    others: tuple[Other, ...]
    room: float
    """The share that can be had beside them, in hundredths; 0 when it would be of no use."""
    soon: bool
    """True when it is ours as soon as enough of their calls have landed."""


@dataclass(slots=True)
class Shares:
    """What this process has of the lanes that others use as well."""

    disk: Disk
    clock: Clock
    folder: Path
    holder: str
    lanes: Mapping[str, Lane]
    """By identity."""
    runs: Mapping[str, tuple[Journal, Mapping[str, str]]]
    """By folder: where its calls go, by provider or `provider/alias`."""
    needs: Mapping[str, float]
    asked: float | None = None
    _known: dict[str, frozenset[WindowName]] = field(default_factory=dict)
    """By lane, the windows whose past came with our share; that of all others only our own journals tell."""
    _entered: bool = False
    _lock: Lock | None = None
    _slot: int = 0
    _seen: bytes = b""

    async def take(self) -> Wait | None:
        """Take our share of all lanes if it is free; else what has to be waited for.

        Whoever asks again keeps its place in the line. OSError when the table cannot be kept.
        """
        if not self.lanes:
            return None
        try:
            async with self._door() as table:
                holders = [row.holder for row in table.rows if row.holds.keys() & self.lanes.keys()]
                try:
                    return await self._take(table)
                except OSError:
                    if not holders:
                        raise
                    return self._waiting_for(holders)  # with no place in the line, but not beside them unseen
        except LockHeld as held:
            return self._waiting_for([held.holder])

    def knows(self, lane: Lane, window: WindowName) -> bool:
        """True when the past of this window came with our share."""
        names = self._known.get(lane.identity or "")
        return names is not None and (window in names or window != "day")

    def go_alone(self) -> None:
        """Where the table cannot be kept: have what was asked for, and tell nobody."""
        for lane in self.lanes.values():
            lane.rescale(self.asked or 1.0, anyio.current_time())
            if lane.limits.concurrency is not None:
                lane.allow(float(_whole(lane.share, lane.limits.concurrency)))
        self.lanes = {}

    async def keep(self, changed: Callable[[Lane], None]) -> None:
        """Give way to others and take back what they leave, as long as this runs; told of each lane that changed."""
        pause = LOOK_SECONDS
        while True:
            await anyio.sleep(pause)
            pause = LOOK_SECONDS
            try:
                if not self._is_as_it_should_be():
                    async with self._door() as table:
                        moved, landing = await self._follow(table)
                    for lane in moved:
                        changed(lane)
                    if landing:
                        pause = _LANDING_SECONDS
            except (OSError, LockHeld):
                pass  # who cannot write the table changes nothing; others see that it is alive, and wait

    async def leave(self) -> None:
        """Give all shares back, with what is counted in them."""
        if self._lock is None:
            return
        try:
            async with self._door() as table:
                row = self._found(table)
                if row is not None:
                    table.rows.remove(row)
                    wall, now = self.clock.wall(), anyio.current_time()
                    for identity in row.holds:
                        table.give_back(identity, _stamped(self.lanes[identity].counted(now), wall))
                    await self._write(table)
        except (OSError, LockHeld):
            pass  # whoever comes next finds our lock free, and what we sent in the journals
        finally:
            self._lock.release()
            self._lock = None

    # -- how ------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _door(self) -> AsyncIterator[Table]:
        """The table, while nobody else changes it; without the dead."""
        with anyio.CancelScope(shield=True):
            if not self.disk.exists(self.folder):
                self.disk.make_dirs(self.folder)
            door = await taken(self.disk, self.folder / DOOR, self.holder, _AT_THE_DOOR_SECONDS)
            try:
                table = self._read()
                self._bury(table)
                yield table
            finally:
                door.release()

    def _read(self) -> Table:
        path = self.folder / FILE
        if not self.disk.exists(path):
            self._seen = b""
            return Table()
        self._seen = self.disk.read(path)
        try:
            return parse(self._seen)
        except ValueError:
            return Table(unknown_until=self.clock.wall() + MINUTE * _OUTDATED)

    async def _write(self, table: Table) -> None:
        data = encode(table, self.clock.wall())
        if data != self._seen:
            await self.disk.replace(self.folder / FILE, data)
            self._seen = data

    def _lives(self, slot: int) -> str | None:
        """What the process in a slot says of itself; None when there is none."""
        try:
            self.disk.lock(self._lock_of(slot), "").release()
        except LockHeld as held:
            return held.holder
        return None

    def _lock_of(self, slot: int) -> Path:
        return self.folder / f"holder-{slot}.lock"

    def _bury(self, table: Table) -> None:
        """The shares of the dead are free, with all that they have sent."""
        wall = self.clock.wall()
        for row in list(table.rows):
            if (row.slot == self._slot and self._lock is not None) or self._lives(row.slot) is not None:
                continue
            table.rows.remove(row)
            try:
                self._count_last_calls(row, wall)
            except (OSError, TooNew):
                table.unknown_until = wall + MINUTE * _OUTDATED
            for lane, hold in row.holds.items():
                table.give_back(lane, hold.past)

    def _count_last_calls(self, row: Row, wall: float) -> None:
        """Add what a row's runs have sent since it was written."""
        if not row.holds:
            return
        longest = max((_length(name) for hold in row.holds.values() for name in hold.past), default=MINUTE)
        for folder, talks in row.runs.items():
            for at, sent in sent_since(self.disk, Path(folder), talks.seq, wall - longest * _OUTDATED):
                lane = talks.lanes.get(f"{sent.provider}/{sent.alias}", talks.lanes.get(sent.provider))
                if lane in row.holds:
                    for name, entries in row.holds[lane].past.items():
                        entries.append((at, _counts(name, sent)))

    def _stranger(self, table: Table) -> str | None:
        """Somebody who is alive and not in the table, because it was lost or a later version wrote it."""
        known = {row.slot for row in table.rows} | ({self._slot} if self._lock is not None else set())
        for name in self.disk.listdir(self.folder):
            slot = _ROW_LOCK.fullmatch(name)
            if slot is not None and int(slot[1]) not in known:
                holder = self._lives(int(slot[1]))
                if holder is not None:
                    return holder
        return None

    def _found(self, table: Table) -> Row | None:
        return next((row for row in table.rows if row.slot == self._slot and self._lock is not None), None)

    def _mine(self, table: Table) -> Row:
        """Our row; a new one when there is none, with the shares that we have."""
        row = self._found(table)
        if row is None:
            if self._lock is None:
                self._slot, self._lock = self._free_slot()
            needs = {identity: max(_SMALLEST, need) for identity, need in self.needs.items()}
            row = Row(self._slot, self.holder, self.asked, needs, dict.fromkeys(self.runs, Talks(0, {})))
            if self._entered:
                self._put_down(row)
            table.rows.append(row)
        return row

    def _free_slot(self) -> tuple[int, Lock]:
        for name in self.disk.listdir(self.folder):
            if name.startswith(".") and name.endswith(".tmp"):
                self.disk.remove(self.folder / name)  # whoever was to give it its name died at the door
        for slot in count(1):
            try:
                return slot, self.disk.lock(self._lock_of(slot), self.holder)
            except LockHeld:
                continue
        raise AssertionError("there are more numbers than processes")

    async def _take(self, table: Table) -> Wait | None:
        row = self._mine(table)
        stranger = self._stranger(table)
        if stranger is not None or not table.has_room_for(row):
            await self._write(table)
            return self._wait(table, row) if stranger is None else self._waiting_for([stranger])
        known = {identity: table.knows(identity) for identity in self.lanes}
        await self._take_more(table, row, {identity: table.due(row, identity) for identity in self.lanes})
        self._known = {identity: names for identity, names in known.items() if names is not None}
        self._entered = True
        return None

    async def _follow(self, table: Table) -> tuple[list[Lane], bool]:
        """Give up or take what is due; the lanes that have changed, and whether calls have to land before more can."""
        row = self._mine(table)
        due = {identity: table.due(row, identity) for identity in self.lanes}
        free = {identity: table.left(identity) for identity in self.lanes}
        less = {identity: share for identity, share in due.items() if share < row.has(identity) - _RESIDUE}
        more = {
            identity: row.has(identity) + min(share - row.has(identity), free[identity])
            for identity, share in due.items()
            if share > row.has(identity) + _RESIDUE and free[identity] > _RESIDUE
        }
        if more and self._stranger(table) is not None:
            more = {}
        for identity in self.lanes:
            if identity not in more:
                self._allow(table, row, identity)
        landing = any(self.lanes[identity].flying > self.lanes[identity].most for identity in less)
        if landing:
            less = {}
        gone = self._give(table, row, less) if less else {}
        try:
            await self._take_more(table, row, more)
        except OSError:
            self._take_back(gone)
            raise
        return [self.lanes[identity] for identity in (*less, *more)], landing

    def _give(self, table: Table, row: Row, shares: Mapping[str, float]) -> dict[str, Hold]:
        """Keep these shares and no more; what is given away with what is counted in it.

        The lanes first, so that the table never promises what is still used.
        """
        gone: dict[str, Hold] = {}
        had = {identity: self.lanes[identity].share for identity in shares}
        for identity, share in shares.items():
            self.lanes[identity].rescale(share, anyio.current_time())
        self._put_down(row)
        for identity, share in shares.items():
            less = had[identity] - share
            gone[identity] = Hold(less, _scaled(row.holds[identity].past, less / share))
            table.give_back(identity, gone[identity].past)
        return gone

    def _take_back(self, gone: Mapping[str, Hold]) -> None:
        """What could not be written down nobody else has taken."""
        wall, now = self.clock.wall(), anyio.current_time()
        for identity, hold in gone.items():
            lane = self.lanes[identity]
            lane.rescale(lane.share + hold.share, now)
            lane.remember(_aged(hold.past, wall), now)

    async def _take_more(self, table: Table, row: Row, shares: Mapping[str, float]) -> None:
        """Have these shares; the table first, so that nobody else takes them. What was changed is written."""
        pasts = {identity: table.take(identity, share - row.has(identity)) for identity, share in shares.items()}
        if shares:
            self._put_down(row)
        for identity, share in shares.items():
            row.holds[identity] = Hold(share, _merged(row.holds[identity].past, pasts[identity]))
        await self._write(table)
        wall, now = self.clock.wall(), anyio.current_time()
        unknown = min(table.unknown_until - wall, MINUTE * _OUTDATED)
        for identity, share in shares.items():
            lane = self.lanes[identity]
            lane.rescale(share, now)
            lane.remember(_aged(pasts[identity], wall), now)
            self._allow(table, row, identity)
            if unknown > 0.0 and lane.windows:
                lane.pause(now + unknown, "what others sent in the last minute is not known")

    def _put_down(self, row: Row) -> None:
        """Write into our row what we have, and what our windows count now."""
        wall, now = self.clock.wall(), anyio.current_time()
        for identity, lane in self.lanes.items():
            row.holds[identity] = Hold(lane.share, _stamped(lane.counted(now), wall))
        row.runs = {folder: Talks(journal.seq, names) for folder, (journal, names) in self.runs.items()}

    def _allow(self, table: Table, row: Row, identity: str) -> None:
        lane = self.lanes[identity]
        if lane.limits.concurrency is not None:
            lane.allow(table.slots(row, identity, lane.limits.concurrency))

    def _is_as_it_should_be(self) -> bool:
        """True when there is nothing to give and nothing to take; found out without going to the door."""
        try:
            table = parse(self.disk.read(self.folder / FILE))
        except (FileNotFoundError, ValueError):
            return False
        row = self._found(table)
        if row is None or row.asked is not None:
            return row is not None
        return len(table.rows) == 1 and all(row.has(identity) >= 1.0 - _RESIDUE for identity in self.lanes)

    def _wait(self, table: Table, row: Row) -> Wait:
        near = [other for other in table.rows if other is not row and other.needs.keys() & row.needs.keys()]
        before = [other for other in table.rows[: table.rows.index(row)] if other in near]
        others = [other for other in near if other.holds] or before
        beside = min(1.0 - sum(other.wants(lane) for other in near) for lane in row.needs)
        room = floor(beside * 100 + _RESIDUE) / 100
        return Wait(
            tuple(Other(other.holder, tuple(other.runs), self._names(other.needs)) for other in others),
            room if all(room >= need for need in row.needs.values()) else 0.0,
            row in table.next(),
        )

    def _waiting_for(self, strangers: Sequence[str]) -> Wait:
        """Those of whom nothing is known but that they are there."""
        return Wait(tuple(Other(one, (), self._names(self.lanes)) for one in strangers), 0.0, False)

    def _names(self, identities: Container[str]) -> tuple[str, ...]:
        return tuple(lane.name for identity, lane in self.lanes.items() if identity in identities)
