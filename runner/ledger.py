"""What all jobs spend in a day and in a month: one file beside the runs, which every process appends to under a lock.

- A line says what one run counts on one day, in all. The last line of a run and a day stands.
- A life counts more than it has spent: it *draws* a slice ahead, durable before any of it is used, and draws again when
  that is used up. When it closes, the run counts what its journal says.
- A slice whose holder is gone counts in full until its journal is folded: by the next life of that run, or by whoever
  needs the room.
- Play money, that of jobs which talk to the built-in provider alone, has a day and a month of its own.
- The ledger outlives the folders of the runs: what they have spent, they have spent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import anyio

from runner.events import Account, State
from runner.limits import Ceiling
from runner.lines import Damaged, StorageError, TooNew, cut, free_name, seal, split, storage_error, unseal
from runner.money import Nanos
from runner.world import Clock, Disk, LockHeld, taken

FILE: Final = "ledger.jsonl"
LOCK_FILE: Final = "ledger.lock"
VERSION: Final = 1

_SLICES: Final = 20
_PATIENCE_SECONDS: Final = 30.0

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
    end: int
    """Where the good lines end, in bytes."""
    torn: bool


def read(disk: Disk, path: Path, start: int = 0, seq: int = 0) -> Scan:
    """The lines of a ledger from `start`, where line `seq` ends; Damaged when a good one stands behind a bad one."""
    entries: list[Entry] = []
    end, bad = start, False
    for offset, line, ended in split(disk, path, start) if disk.exists(path) else ():
        entry = _decoded(line, offset) if ended else None
        if entry is not None and (bad or entry.seq != seq + 1):
            raise Damaged(path, end, seq + 1)
        if entry is None:
            bad = True
            continue
        entries.append(entry)
        seq, end = entry.seq, offset + len(line) + 1
    return Scan(tuple(entries), end, bad)


def encode(entry: Entry) -> bytes:
    data: dict[str, Any] = {"v": VERSION, "seq": entry.seq, "at": entry.at, "kind": entry.kind}
    data |= {"run": entry.run, "day": entry.day, "zone": entry.zone, "amount": entry.amount}
    if entry.play:
        data["play"] = True
    if entry.caps:
        data["caps"] = entry.caps
    if entry.parts:
        data["parts"] = [list(part) for part in entry.parts]
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
        for entry in entries:
            self.take(entry)

    def take(self, entry: Entry) -> None:
        before = self.amount(entry.run, entry.day)
        self.standing[entry.run, entry.day] = entry
        self.latest[entry.zone] = max(self.latest.get(entry.zone, ""), entry.day)
        for span in (entry.day, month_of(entry.day)):
            self._totals[entry.play, span] += entry.amount - before

    def amount(self, run: str, day: str) -> Nanos:
        entry = self.standing.get((run, day))
        return 0 if entry is None else entry.amount

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


def month_of(day: str) -> str:
    return day[:7]


Fold: TypeAlias = Callable[[str], Awaitable[Mapping[str, Truth] | None]]
"""From a run, as the ledger calls it, to what its journal says of each day; None when it is not there."""


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

    async def give_back(self, spender: Spender, amount: Nanos, idle: bool) -> None:
        """Let a run count no more than it needs, so that others can have the rest; `idle` when nothing is in flight."""
        async with self._held():
            there = self.book.standing.get((spender.run, spender.day))
            kind: Kind = "counted" if idle else "drawn"
            if there is not None and (there.amount > amount or there.kind != kind):
                caps = {} if idle else spender.caps
                await self._append([Entry(spender.run, spender.day, spender.zone, amount, kind, spender.play, caps)])

    async def count(self, spender: Spender, truths: Mapping[str, Truth]) -> None:
        """Let a run count what its journal says, on each day that it has spent on."""
        async with self._held():
            await self._append(
                [
                    Entry(spender.run, day, spender.zone, truth.amount, "counted", spender.play, {}, truth.parts)
                    for day, truth in truths.items()
                    if self._differs(spender.run, day, truth)
                ]
            )

    def _differs(self, run: str, day: str, truth: Truth) -> bool:
        there = self.book.standing.get((run, day))
        if there is None:
            return truth.amount != 0
        return there.ahead or (there.amount, there.parts) != (truth.amount, truth.parts)

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
        found: list[tuple[Entry, Mapping[str, Truth]]] = []
        for entry in self.book.drawn_beside(spender):
            if entry in self._lost or self._alive(entry):
                continue
            truths = None if self._fold is None else await self._fold(entry.run)
            if truths is None or entry.day not in truths:
                self._lost.append(entry)  # it may have been the slice of a run whose folder was made anew
            else:
                found.append((entry, truths))
        if not found:
            return False
        async with self._held():
            # Whoever took the run up again meanwhile has written a line of its own, and knows better.
            unchanged = [(e, t) for e, t in found if self.book.standing[e.run, e.day] == e and e.day in t]
            await self._append(
                [
                    Entry(e.run, e.day, e.zone, t[e.day].amount, "counted", e.play, {}, t[e.day].parts)
                    for e, t in unchanged
                ]
            )
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
        size = self._disk.size(self.path) if self._disk.exists(self.path) else 0
        if size < self._end:  # somebody has put another file in its place
            self.book, self._end, self.seq = Book(), 0, 0
        found = read(self._disk, self.path, self._end, self.seq)
        for entry in found.entries:
            self._take(entry)
        self._end = found.end
        if found.torn:
            # A process died while it wrote: nothing was spent on the strength of that line.
            await cut(self._disk, self.path, found.end)

    def _take(self, entry: Entry) -> None:
        self.book.take(entry)
        self.seq, self._at = entry.seq, entry.at

    async def _append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        at = max(self._at, round(self._clock.wall(), 3))
        numbered = [replace(entry, seq=self.seq + n, at=at) for n, entry in enumerate(entries, 1)]
        data = b"".join(encode(entry) for entry in numbered)
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
        for entry in numbered:
            self._take(entry)
        self._end += len(data)


# --- repair --------------------------------------------------------------------------------------------------------


class Known(NamedTuple):
    """What the journal of a run that is there says."""

    run: str
    zone: str
    play: bool
    truths: Mapping[str, Truth]


class Repair(NamedTuple):
    """What a repair did."""

    lost: int
    """Lines that could not be read."""
    counted: int
    """Runs and days that are counted anew, by their journals."""
    copy: str
    """The name of the untouched copy."""


async def repair(disk: Disk, clock: Clock, root: Path, holder: str, runs: Sequence[Known]) -> Repair | None:
    """Put the ledger together again: its good lines, and what the journals say; None when nothing is damaged.

    What stood in a lost line about a run whose folder is gone, too, is lost. The damaged file is kept.
    """
    path = root / FILE
    lock = await taken(disk, root / LOCK_FILE, holder, _PATIENCE_SECONDS)
    try:
        try:
            read(disk, path)
        except Damaged:
            pass
        else:
            return None
        found = [_decoded(line, offset) if ended else None for offset, line, ended in split(disk, path)]
        good = [entry for entry in found if entry is not None]
        book = Book(good)
        anew = [
            Entry(known.run, day, known.zone, truth.amount, "counted", known.play, {}, truth.parts)
            for known in runs
            for day, truth in known.truths.items()
            if book.amount(known.run, day) < truth.amount
        ]
        at = round(clock.wall(), 3)
        lines = [encode(replace(entry, seq=seq)) for seq, entry in enumerate(good, 1)]
        lines += [encode(replace(entry, seq=seq, at=at)) for seq, entry in enumerate(anew, len(good) + 1)]
        copy = free_name(disk, root, "ledger.damaged")
        await disk.replace(path.with_name(copy), disk.read(path), durable=True)
        await disk.replace(path, b"".join(lines), durable=True)
        return Repair(len(found) - len(good), len(anew), copy)
    finally:
        lock.release()


# --- the money of one run ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Purse:
    """What one run may spend today: slices of the day's money, which the gate sees as a ceiling that grows."""

    ledger: Ledger
    spender: Spender
    account: Account
    """What the run has settled and reserved on this day."""
    flushed: Callable[[], Awaitable[None]]
    """Returns when all that `account` tells is durable."""
    max_wait: float
    """For so many seconds it waits while those who may give something back do nothing."""
    ceiling: Ceiling = field(init=False)
    _short_since: float | None = None
    _refused: Nanos = 0
    _seen: int = 0

    def __post_init__(self) -> None:
        # Nothing is drawn yet, and nobody knows what there is.
        self.ceiling = Ceiling(BUDGETS["day"], self.account, 0, _NO_CEILING, may_grow=True)

    @classmethod
    async def open(
        cls,
        ledger: Ledger,
        spender: Spender,
        account: Account,
        truths: Mapping[str, Truth],
        flushed: Callable[[], Awaitable[None]],
        max_wait: float,
    ) -> Purse:
        """Let the run count what its journal says, and see what there is to draw."""
        await ledger.count(spender, truths)
        purse = cls(ledger, spender, account, flushed, max_wait)
        room, scope = ledger.book.room(spender)
        purse._see(Drawn(ledger.book.amount(spender.run, spender.day), room, scope, True))
        return purse

    async def close(self, truths: Mapping[str, Truth]) -> None:
        """Give back what was not spent."""
        await self.ledger.count(self.spender, truths)

    async def draw(self, least: Nanos, wanted: Nanos) -> bool:
        """Make room for `least` beside what is held, and better for `wanted`; True to try again in a while."""
        if self.account.held > self.ceiling.most:
            await self.ledger.owe(self.spender, self.account.held)
        need = self.account.held + least
        drawn = await self.ledger.draw(self.spender, need, self.account.held + wanted)
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
        keeps, idle = self.account.held, self.account.reserved == 0
        self.ceiling.most = keeps
        # Two files: what calls have given back must not be free for others before it is on record that they have.
        await self.flushed()
        await self.ledger.give_back(self.spender, keeps, idle)

    def _see(self, drawn: Drawn) -> None:
        self.ceiling.most = drawn.amount
        self.ceiling.reach = drawn.amount + (_NO_CEILING if drawn.room is None else max(0, drawn.room))
        if drawn.short is not None:
            self.ceiling.name = BUDGETS[drawn.short]


BUDGETS: Final[Mapping[Scope, str]] = {"day": "the budget of the day", "month": "the budget of the month"}
_NO_CEILING: Final = 1 << 62
