"""What all jobs spend in a day and in a month: one file beside the runs, which every process appends to under a lock.

- A line says what one run counts on one day, in all. The last line of a run and a day stands.
- A life counts more than it has spent: it *draws* a slice ahead, durable before any of it is used, and draws again when
  that is used up. When it closes, the run counts what its journal says.
- A slice whose holder is gone counts in full until its journal is folded: by the next life of that run, or by whoever
  needs the room.
- Play money, that of jobs which talk to the built-in provider alone, has a day and a month of its own. A run that
  has spent real money on a day counts as real on that day, whatever its job says later.
- A journal that is shorter than the one that was counted is an older copy: it takes nothing back.
- The ledger outlives the folders of the runs: what they have spent, they have spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import anyio

from runner.limits import Ceiling
from runner.lines import Damaged, StorageError, TooNew, cut, free_name, seal, split, storage_error, unseal
from runner.money import Nanos
from runner.state import Account, State
from runner.world import Clock, Disk, LockHeld, taken

FILE: Final = "ledger.jsonl"
LOCK_FILE: Final = "ledger.lock"
VERSION: Final = 1

_SLICES: Final = 20
_PATIENCE_SECONDS: Final = 30.0
_LONGEST_TAIL: Final = 1024
"""Beyond twice its longest line, so many bytes at the end of a ledger may be what one broken-off write has left."""

Scope: TypeAlias = Literal["day", "month"]
Kind: TypeAlias = Literal["drawn", "owed", "counted"]
"""A slice was drawn; more was spent than could be drawn, for a server did not honour its limit; the run is folded."""


class Part(NamedTuple):
    """What one model came to."""

    provider: str
    model: str
    spent: Nanos
    """Settled, and reserved by calls whose outcome nobody knows yet."""
    assumed: Nanos
    """The part of it that is a reservation, because nobody knows better."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a run counts on a day."""

    run: str
    """Its job, key and when it first opened: `nightly/2026-11-21@1795262400.123`."""
    day: str
    zone: str
    amount: Nanos
    kind: Kind
    play: bool = False
    caps: Mapping[Scope, Nanos] = field(default_factory=dict)
    """The ceilings of the run's job over the day and the month."""
    parts: tuple[Part, ...] = ()
    """What it was spent for, as far as that is known."""
    records: int = 0
    """How many records the journal had that says so; none where it is not a journal that does."""
    at: float = 0.0
    seq: int = 0

    @property
    def folder(self) -> str:
        return self.run.rpartition("@")[0]

    @property
    def ahead(self) -> bool:
        """True while it counts more than was spent; whether somebody still spends it, the lock of the run tells."""
        return self.kind != "counted"


@dataclass(frozen=True, slots=True)
class Truth:
    """What a run's journal says of one day."""

    amount: Nanos
    parts: tuple[Part, ...]


_NOTHING: Final = Truth(0, ())


class Told(NamedTuple):
    """What a run's journal says, and how many records it has."""

    truths: Mapping[str, Truth]
    records: int
    mended: int = 0
    """How many it had when it was repaired: what was lost may have told on which of these days money was spent."""


class Spender(NamedTuple):
    """A run on a day, and the ceilings of its job."""

    run: str
    day: str
    zone: str
    play: bool
    caps: Mapping[Scope, Nanos]


class Drawn(NamedTuple):
    """What came of drawing a slice."""

    amount: Nanos
    """What the run counts now."""
    room: Nanos | None
    """What is left for everybody; None without a ceiling."""
    short: Scope | None
    """The ceiling that leaves too little; None when a slice was drawn."""
    others: bool
    """True when somebody else counts more than was spent, and some of it may come back."""


class Scan(NamedTuple):
    """What is in a ledger file."""

    entries: tuple[Entry, ...]
    last: int
    """Where the last good line begins, in bytes, and where the good lines end."""
    end: int
    torn: bool


def read(disk: Disk, path: Path, start: int = 0, seq: int = 0) -> Scan:
    """The lines of a ledger from `start`, where line `seq` ends.

    Damaged when a good one stands behind a bad one, or more is bad at the end than one write can have left there.
    """
    entries: list[Entry] = []
    last = end = start
    longest = tail = ours = 0
    for offset, line, ended in split(disk, path, start) if disk.exists(path) else ():
        entry = _decoded(line, offset) if ended else None
        if entry is not None and (tail or entry.seq != seq + 1):
            raise Damaged(path, end, seq + 1)
        if entry is None:
            tail += len(line) + 1
            ours += ended and line.startswith(b"{")
            continue
        entries.append(entry)
        longest = max(longest, len(line))
        seq, last, end = entry.seq, offset, offset + len(line) + 1
    if ours > 1 or tail > 2 * longest + _LONGEST_TAIL:
        raise Damaged(path, end, seq + 1)
    return Scan(tuple(entries), last, end, tail > 0)


def encode(entry: Entry) -> bytes:
    data: dict[str, Any] = {"v": VERSION, "seq": entry.seq, "at": entry.at, "kind": entry.kind}
    data |= {"run": entry.run, "day": entry.day, "zone": entry.zone, "amount": entry.amount}
    if entry.play:
        data["play"] = True
    if entry.caps:
        data["caps"] = entry.caps
    if entry.parts:
        data["parts"] = [list(part) for part in entry.parts]
    if entry.records:
        data["records"] = entry.records
    return seal(data)


def _decoded(line: bytes, offset: int) -> Entry | None:
    try:
        data = unseal(line)
        if data is None:
            return None
        if data["v"] > VERSION or data["kind"] not in get_args(Kind):
            raise TooNew(
                f"line {data['seq']} of the ledger has format {data['v']} and kind {data['kind']!r}, which this "
                "version does not know: use the version of Tertulia that wrote it, or a later one"
            )
        return Entry(
            run=data["run"],
            day=data["day"],
            zone=data["zone"],
            amount=data["amount"],
            kind=data["kind"],
            play=data.get("play", False),
            caps=data.get("caps", {}),
            parts=tuple(Part(*part) for part in data.get("parts", ())),
            records=data.get("records", 0),
            at=data["at"],
            seq=data["seq"],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise TooNew(
            f"the line at byte {offset:,} of the ledger is whole, but not one that this version understands: "
            "use the version of Tertulia that wrote it"
        ) from None


class Book:
    """The fold of a ledger: what counts, by run and day, and its sums."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.standing: dict[tuple[str, str], Entry] = {}
        self.latest: dict[str, str] = {}
        """The latest day that any run of a zone counted on."""
        self._totals: Counter[tuple[bool, str]] = Counter()
        self._records: dict[tuple[str, str], int] = {}
        for entry in entries:
            self.take(entry)

    def take(self, entry: Entry) -> None:
        key = entry.run, entry.day
        before = self.standing.get(key)
        self.standing[key] = entry
        self.latest[entry.zone] = max(self.latest.get(entry.zone, ""), entry.day)
        self._records[key] = max(entry.records, self._records.get(key, 0))
        for span in (entry.day, month_of(entry.day)):
            if before is not None:
                self._totals[before.play, span] -= before.amount
            self._totals[entry.play, span] += entry.amount

    def amount(self, run: str, day: str) -> Nanos:
        entry = self.standing.get((run, day))
        return 0 if entry is None else entry.amount

    def plays(self, run: str, day: str, play: bool) -> bool:
        """Whether a run counts as play that day: not if it has ever counted as anything else."""
        entry = self.standing.get((run, day))
        return play and (entry is None or entry.play)

    def records(self, run: str, day: str) -> int:
        """How many records the longest journal had that told of that day."""
        return self._records.get((run, day), 0)

    def caps(self, run: str, day: str) -> Mapping[Scope, Nanos]:
        """The ceilings that its job had when a run last said something of that day."""
        entry = self.standing.get((run, day))
        return {} if entry is None else entry.caps

    def is_older(self, run: str, day: str, told: Told) -> bool:
        """True when a journal says less of a day than a longer or a less damaged one, which is believed then."""
        known = self.records(run, day)
        return told.truths.get(day, _NOTHING).amount < self.amount(run, day) and (
            told.records < known or 0 < told.mended >= known
        )

    def total(self, span: str, play: bool = False) -> Nanos:
        """What counts on a day (`2026-11-21`) or in a month (`2026-11`)."""
        return self._totals[play, span]

    def room(self, spender: Spender) -> tuple[Nanos | None, Scope | None]:
        """What a run may still draw, and the ceiling that sets it; None when there is none."""
        spans: Mapping[Scope, str] = {"day": spender.day, "month": month_of(spender.day)}
        rooms = [(most - self.total(spans[scope], spender.play), scope) for scope, most in spender.caps.items()]
        return min(rooms, default=(None, None))

    def over(self, entry: Entry) -> Iterator[tuple[str, Nanos, Nanos]]:
        """The ceilings of an entry that the sums are above: what they are over, the sum, and the most."""
        spans: Mapping[Scope, str] = {"day": entry.day, "month": month_of(entry.day)}
        for scope, most in entry.caps.items():
            total = self.total(spans[scope], entry.play)
            if total > most:
                yield spans[scope], total, most

    def drawn_beside(self, spender: Spender) -> Iterator[Entry]:
        """Slices of others that leave this run less room."""
        month = month_of(spender.day)
        for entry in self.standing.values():
            shares = entry.day == spender.day or ("month" in spender.caps and month_of(entry.day) == month)
            if shares and entry.ahead and entry.play == spender.play and entry.run != spender.run:
                yield entry


def run_id(folder: str, born: float) -> str:
    """What the ledger calls a run: also when its folder is deleted and made again, it is not taken for another."""
    return f"{folder}@{born:.3f}"


def truths_of(state: State) -> dict[str, Truth]:
    """What a run has come to, day by day: settled, and reserved by calls whose outcome nobody knows yet."""
    parts: dict[str, list[Part]] = {day: [] for day in state.days}
    for (day, provider, model), account in sorted(state.spending.items()):
        if account.held:
            parts[day].append(Part(provider, model, account.held, account.assumed + account.reserved))
    return {day: Truth(account.held, tuple(parts[day])) for day, account in sorted(state.days.items())}


def told_by(state: State, records: int) -> Told:
    """What a journal of so many records says, by its fold."""
    return Told(truths_of(state), records, max((repaired.records for repaired in state.repaired), default=0))


def month_of(day: str) -> str:
    return day[:7]


def frozen_day(today: str, latest: str) -> str:
    """The day that a life counts on. A clock that was put back does not open yesterday again."""
    return latest if today < latest <= (date.fromisoformat(today) + timedelta(days=1)).isoformat() else today


Fold: TypeAlias = Callable[[str], Awaitable[Told | None]]
"""From a run, as the ledger calls it, to what its journal says; None when it is not there, or somebody holds it."""


class Ledger:
    """The ledger as one process sees and changes it."""

    def __init__(
        self, disk: Disk, clock: Clock, root: Path, holder: str, lock_name: str, fold: Fold | None = None
    ) -> None:
        self.path = root / FILE
        self.book = Book()
        self.failing: StorageError | None = None
        """Set at the first trouble with the disk: no slice is drawn any more."""
        self._disk = disk
        self._clock = clock
        self._root = root
        self._holder = holder
        self._fold = fold
        self._lock_name = lock_name
        self.seq = 0
        """The number of the last line, whoever wrote it."""
        self._end = 0
        self._last: Entry | None = None
        self._last_at = 0
        """Where the last line begins, in bytes."""
        self._at = 0.0
        self._lost: list[Entry] = []
        """Slices of dead runs whose journals are not there to be folded."""
        self._busy = anyio.Lock()

    async def refresh(self) -> None:
        """Take in what others have written."""
        async with self._held():
            pass

    async def draw(self, spender: Spender, least: Nanos, wanted: Nanos) -> Drawn:
        """Let a run count `least` in all, and `wanted` or a slice more where there is room; durable when it returns."""
        drawn = await self._draw(spender, least, wanted)
        if drawn.short is not None and await self._fold_the_dead(spender):
            drawn = await self._draw(spender, least, wanted)
        return drawn

    async def _draw(self, spender: Spender, least: Nanos, wanted: Nanos) -> Drawn:
        async with self._held():
            mine = self.book.amount(spender.run, spender.day)
            room, scope = self.book.room(spender)
            if least <= mine:
                return Drawn(mine, room, None, self._may_come_back(spender))
            if room is not None and least - mine > room:
                return Drawn(mine, room, scope, self._others(spender))
            more = max(wanted - mine, (mine if room is None else room) // _SLICES)
            more = more if room is None else min(more, room)
            entry = Entry(spender.run, spender.day, spender.zone, mine + more, "drawn", spender.play, spender.caps)
            await self._append([entry])
            return Drawn(mine + more, None if room is None else room - more, None, self._may_come_back(spender))

    async def owe(self, spender: Spender, amount: Nanos) -> None:
        """Let a run count at least so much, whatever the ceilings say: it is spent already."""
        async with self._held():
            if amount > self.book.amount(spender.run, spender.day):
                entry = Entry(spender.run, spender.day, spender.zone, amount, "owed", spender.play, spender.caps)
                await self._append([entry])

    async def give_back(self, spender: Spender, amount: Nanos) -> None:
        """Let a run whose calls are in flight count no more than it needs, so that others can have the rest."""
        async with self._held():
            there = self.book.standing.get((spender.run, spender.day))
            if there is not None and (there.amount > amount or there.kind != "drawn"):
                entry = Entry(spender.run, spender.day, spender.zone, amount, "drawn", spender.play, spender.caps)
                await self._append([entry])

    async def count(
        self, spender: Spender, told: Told, beyond: Mapping[str, Nanos] = MappingProxyType({})
    ) -> dict[str, Nanos]:
        """Let a run count what its journal says, on each day that it has spent on, and what is known `beyond` that.

        What comes back is how much more the days count that were told by a longer journal, and that stay as they are.
        """
        async with self._held():
            more: dict[str, Nanos] = {}
            for day, truth in ({spender.day: _NOTHING} | dict(told.truths)).items():
                if day not in beyond and self.book.is_older(spender.run, day, told):
                    more[day] = self.book.amount(spender.run, day) - truth.amount
                    continue
                entry = Entry(
                    run=spender.run,
                    day=day,
                    zone=spender.zone,
                    amount=truth.amount + beyond.get(day, 0),
                    kind="counted",
                    play=self.book.plays(spender.run, day, spender.play),
                    caps=spender.caps if day == spender.day else self.book.caps(spender.run, day),
                    parts=truth.parts,
                    # Of what is known beyond it, this journal is no witness.
                    records=self.book.records(spender.run, day) if day in beyond else told.records,
                )
                if self._differs(entry, told):
                    await self._append([entry])
            return more

    def _differs(self, entry: Entry, told: Told) -> bool:
        there = self.book.standing.get((entry.run, entry.day))
        if there is None:
            return entry.amount != 0 or bool(entry.caps or told.mended)
        return there != replace(entry, kind="counted", records=there.records, at=there.at, seq=there.seq)

    async def begin(self, runs: Sequence[Known]) -> int:
        """Where there is no ledger, let it begin with what the journals say; how many runs it counts."""
        async with self._held():
            if self.seq:
                return 0
            await self._append(_counted(runs))
            return len(runs)

    # -- those who are gone --------------------------------------------------------------------------------------

    def _alive(self, entry: Entry) -> bool:
        """True when a process holds the run."""
        lock = self._root / entry.folder / self._lock_name
        if not self._disk.exists(lock):
            return False
        try:
            self._disk.lock(lock, self._holder).release()
        except (LockHeld, OSError):
            return True  # also where the disk lets nobody ask: the living must not be taken for dead
        return False

    def _others(self, spender: Spender) -> bool:
        return any(self._alive(entry) for entry in self.book.drawn_beside(spender))

    def _may_come_back(self, spender: Spender) -> bool:
        """True when there are slices of others, but for those of which it is known that nobody will ever fold them."""
        return any(entry not in self._lost for entry in self.book.drawn_beside(spender))

    async def _fold_the_dead(self, spender: Spender) -> bool:
        """Let the runs whose process is gone count what their journals say; True when that changed anything."""
        found: list[tuple[Entry, Told]] = []
        for entry in self.book.drawn_beside(spender):
            if entry in self._lost or self._alive(entry):
                continue
            told = None if self._fold is None else await self._fold(entry.run)
            if told is None or self.book.is_older(entry.run, entry.day, told):
                self._lost.append(entry)
            else:
                found.append((entry, told))
        if not found:
            return False
        async with self._held():
            # Whoever took the run up again meanwhile has written a line of its own, and knows better.
            unchanged = [(e, told) for e, told in found if self.book.standing.get((e.run, e.day)) == e]
            await self._append([_folded(entry, told) for entry, told in unchanged])
        return bool(unchanged)

    # -- the file ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """The ledger is ours alone, and all that others wrote is taken in; StorageError when that cannot be."""
        async with self._busy:
            if self.failing is not None:
                raise self.failing
            try:
                self._disk.make_dirs(self._root)
                lock = await taken(self._disk, self._root / LOCK_FILE, self._holder, _PATIENCE_SECONDS)
            except LockHeld as held:
                self.failing = StorageError(f"{self.path} is locked for too long already, by {held.holder}")
                raise self.failing from None
            except OSError as error:
                self.failing = storage_error(self.path, error)
                raise self.failing from error
            try:
                await self._catch_up()
                yield
            except OSError as error:
                self.failing = storage_error(self.path, error)
                raise self.failing from error
            except (Damaged, TooNew) as trouble:
                self.failing = StorageError(str(trouble))
                raise
            finally:
                lock.release()

    async def _catch_up(self) -> None:
        found = self._read_on()
        for entry in found.entries:
            self._take(entry)
        self._last_at, self._end = found.last, found.end
        if found.torn:
            # A process died while it wrote: nothing was spent on the strength of that line.
            await cut(self._disk, self.path, found.end)

    def _read_on(self) -> Scan:
        """What stands behind the last line that we know; all, where that stands there no more."""
        if self._last is not None:
            with suppress(Damaged, TooNew):
                found = read(self._disk, self.path, self._last_at, self.seq - 1)
                if found.entries and found.entries[0] == self._last:
                    return found._replace(entries=found.entries[1:])
        # Somebody has put another file in its place.
        self.book, self.seq, self._last = Book(), 0, None
        return read(self._disk, self.path)

    def _take(self, entry: Entry) -> None:
        self.book.take(entry)
        self.seq, self._at, self._last = entry.seq, entry.at, entry

    async def _append(self, entries: Sequence[Entry]) -> None:
        # Line by line: what a crash leaves half written is then never more than one.
        for entry in entries:
            at = max(self._at, round(self._clock.wall(), 3))
            await self._append_one(replace(entry, seq=self.seq + 1, at=at))

    async def _append_one(self, entry: Entry) -> None:
        data = encode(entry)
        appender = self._disk.appender(self.path)
        try:
            # Shielded: a stop request must not leave half a line, nor a slice that nobody knows of.
            with anyio.CancelScope(shield=True):
                await appender.append(data)
        except OSError:
            # Half a line, or one that is shown and was never written, is not for others to build upon.
            with suppress(OSError):
                self._disk.truncate(self.path, self._end)
            raise
        finally:
            appender.close()
        self._take(entry)
        self._last_at, self._end = self._end, self._end + len(data)


# --- repair --------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """A run that is there, and what its journal says."""

    run: str
    zone: str
    play: bool
    told: Told


def _counted(runs: Sequence[Known]) -> list[Entry]:
    """What these runs count by their journals, and nothing else."""
    return [
        Entry(one.run, day, one.zone, truth.amount, "counted", one.play, {}, truth.parts, one.told.records)
        for one in runs
        for day, truth in one.told.truths.items()
        if truth.amount
    ]


def _folded(entry: Entry, told: Told) -> Entry:
    truth = told.truths.get(entry.day, _NOTHING)
    known = {"amount": truth.amount, "parts": truth.parts, "records": told.records}
    return replace(entry, kind="counted", **known)  # type: ignore[arg-type]


class Repair(NamedTuple):
    """What a repair did."""

    lost: int
    """Lines that could not be read."""
    counted: int
    """Runs and days that are counted anew, by their journals."""
    copy: str | None
    """The name of the untouched copy; None where there was no file."""


async def repair(
    disk: Disk, clock: Clock, root: Path, holder: str, lock_name: str, runs: Sequence[Known]
) -> Repair | None:
    """Put the ledger together again: what each run counts by its good lines or its journal; None when it is sound.

    A line of a run that is at work may be among the lost: LockHeld while there is one. What stood in a lost line about
    a run whose folder is gone, too, is lost. The damaged file is kept.
    """
    path = root / FILE
    lock = await taken(disk, root / LOCK_FILE, holder, _PATIENCE_SECONDS)
    try:
        there = disk.exists(path)
        try:
            if there:
                read(disk, path)
                return None
        except Damaged:
            pass
        found = (
            [_decoded(line, offset) if ended else None for offset, line, ended in split(disk, path)] if there else []
        )
        good = [entry for entry in found if entry is not None]
        folders = dict.fromkeys(entry.folder for entry in good) | dict.fromkeys(
            one.run.rpartition("@")[0] for one in runs
        )
        for folder in folders:
            if disk.exists(root / folder / lock_name):
                disk.lock(root / folder / lock_name, holder).release()
        book = Book(good)
        told = {(entry.run, entry.day): entry for entry in _counted(runs)}
        standing: dict[tuple[str, str], Entry] = {}
        for key, entry in book.standing.items():
            known = told.get(key)
            # Draws of the past cannot be added up any more: their ceilings are told again by the next lives.
            standing[key] = replace(entry, caps={}) if known is None else replace(known, play=known.play and entry.play)
        standing = told | standing
        anew = sum(_amounts(entry) != _amounts(book.standing.get(key)) for key, entry in standing.items())
        at = round(clock.wall(), 3)
        lines = [encode(replace(entry, seq=seq, at=at)) for seq, entry in enumerate(standing.values(), 1)]
        copy = free_name(disk, root, "ledger.damaged") if there else None
        if copy is not None:
            await disk.replace(path.with_name(copy), disk.read(path), durable=True)
        await disk.replace(path, b"".join(lines), durable=True)
        return Repair(len(found) - len(good), anew, copy)
    finally:
        lock.release()


def _amounts(entry: Entry | None) -> tuple[object, ...] | None:
    return None if entry is None else (entry.kind, entry.amount, entry.parts)


# --- the money of one run ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Purse:
    """What one run may spend today: slices of the day's money, which the gate sees as a ceiling that grows."""

    ledger: Ledger
    spender: Spender
    account: Account
    """What the run has settled and reserved on this day."""
    told: Callable[[], Told]
    """What the run's journal says by now."""
    flushed: Callable[[], Awaitable[None]]
    """Returns when all that `account` and `told` tell is durable."""
    max_wait: float
    """For so many seconds it waits while those who may give something back do nothing."""
    ceiling: Ceiling = field(init=False)
    _beyond: Mapping[str, Nanos] = field(default_factory=dict)
    """How much more than its journal tells the run counts, by day: an older copy, or a repaired one, knows less."""
    _short_since: float | None = None
    _refused: Nanos = 0
    _seen: int = 0

    def __post_init__(self) -> None:
        # Nothing is drawn yet, and nobody knows what there is.
        self.ceiling = Ceiling(BUDGETS["day"], self.account, 0, _NO_CEILING, may_grow=True)

    async def open(self) -> Mapping[str, Nanos]:
        """Let the run count what its journal says, and see what there is to draw; the days that count more than it."""
        self._beyond = await self.ledger.count(self.spender, self.told())
        room, scope = self.ledger.book.room(self.spender)
        self._see(Drawn(self.ledger.book.amount(self.spender.run, self.spender.day), room, scope, True))
        return self._beyond

    async def close(self) -> None:
        """Give back what was not spent."""
        await self.ledger.count(self.spender, self.told(), self._beyond)

    @property
    def _spent(self) -> Nanos:
        """What is settled and reserved today, with what an earlier journal knew of it and this one does not."""
        return self.account.held + self._beyond.get(self.spender.day, 0)

    async def draw(self, least: Nanos, wanted: Nanos) -> bool:
        """Make room for `least` beside what is held, and better for `wanted`; True to try again in a while."""
        if self.account.held > self.ceiling.most:
            await self.ledger.owe(self.spender, self._spent)
        need = self._spent + least
        drawn = await self.ledger.draw(self.spender, need, self._spent + wanted)
        self._see(drawn)
        now = anyio.current_time()
        if drawn.short is None:
            self._short_since = None if drawn.amount >= self._refused else self._short_since
        elif self._short_since is None or self.ledger.seq > self._seen:
            self._short_since = now
        waited = now - (now if self._short_since is None else self._short_since)
        self.ceiling.may_grow = drawn.others and waited < self.max_wait
        if drawn.short is None:
            return False
        # What is too little for this run may be what another waits for; two that keep it would wait for each other.
        self._refused = need
        await self.give_back()
        self._seen = self.ledger.seq
        return self.ceiling.may_grow

    async def give_back(self) -> None:
        """Keep no more than is held, so that others can have the rest."""
        spent, idle, told = self._spent, self.account.reserved == 0, self.told()
        self.ceiling.most = self.account.held
        # Two files: what calls have given back must not be free for others before it is on record that they have.
        await self.flushed()
        if idle:
            await self.ledger.count(self.spender, told, self._beyond)
        else:
            await self.ledger.give_back(self.spender, spent)

    def _see(self, drawn: Drawn) -> None:
        self.ceiling.most = drawn.amount - self._beyond.get(self.spender.day, 0)
        self.ceiling.reach = self.ceiling.most + (_NO_CEILING if drawn.room is None else max(0, drawn.room))
        if drawn.short is not None:
            self.ceiling.name = BUDGETS[drawn.short]


BUDGETS: Final[Mapping[Scope, str]] = {"day": "the budget of the day", "month": "the budget of the month"}
_NO_CEILING: Final = 1 << 62
