"""What the events of a run come to: `State`, their fold, with figures and offsets and no texts.

Resume, budget, progress and every output are functions of it. The rules it holds:

- a call is open from its `Sent` to its `Replied` or `Failed`; one at a time for a conversation;
- money is reserved by `Sent` and settled by the outcome; a call that is still open when the next life opens is lost,
  and stays charged at its reservation;
- one `Replied` or `Heard` for a turn, ever, and no `Sent` for a turn that has it;
- the first lines of a branch are those of its origin, and cost it nothing;
- what was assumed of a call may be settled later, on evidence; of several settlements the last one stands;
- money belongs to the day on which the life that reserved it began;
- a life closes once, and the next one bears the next number;
- statuses other than `complete` and `failed` last until a life opens that takes them up.

After a repair anything may be missing, so that these rules are held no more: what comes without its beginning is
taken in at its cost, and what lost its end stays charged at its reservation.

A run may have millions of events, and all of them are read before its next call. So those that come with each call
are folded as they are written, and no event is made of them: see `takers`. The fold keeps little of a conversation,
less of one that is complete.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from math import sqrt
from operator import itemgetter
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from runner.call import Finish, fewest_tokens
from runner.conversation import Conversation
from runner.events import (
    KINDS,
    Branched,
    Closed,
    Engaged,
    Event,
    Failed,
    Heard,
    Noted,
    Opened,
    Repaired,
    Sent,
    Settled,
    Stopped,
    from_data,
    to_data,
)
from runner.money import Nanos, shown
from runner.status import STATUSES, Status

LASTING: Final[frozenset[Status]] = frozenset({"complete", "failed"})
"""The statuses that a new life does not take up again by itself."""

_WINDOW_SECONDS: Final = 60.0


class Place(NamedTuple):
    """Where a line stands in its file: a record in the journal, a conversation among its views."""

    offset: int
    size: int


class Places(Mapping[int, Place]):
    """Where the line of each turn stands, in the order of the turns: three numbers for each, all in one array."""

    __slots__ = ("_rows", "_told")

    def __init__(self) -> None:
        self._rows = array("q")
        self._told = 0
        """So many of the numbers were told, and are as they were."""

    def put(self, turn: int, place: Place) -> None:
        """The line of a turn stands there."""
        self.set(turn, *place)

    def set(self, turn: int, offset: int, size: int) -> None:
        """The same, where no place has been made of the two."""
        rows = self._rows
        if not rows or turn > rows[-3]:
            rows.append(turn)
            rows.append(offset)
            rows.append(size)
        else:
            row = self._changes(turn)
            rows[row : row + 3 * (turn in self)] = array("q", (turn, offset, size))

    def drop(self, turn: int) -> None:
        """A turn has no line any more."""
        if turn in self:
            row = self._changes(turn)
            del self._rows[row : row + 3]

    def _changes(self, turn: int) -> int:
        row = self._row(turn)
        self._told = min(self._told, row)
        return row

    def _row(self, turn: int) -> int:
        """Where the numbers stand of the first turn that does not come before this one; there is one."""
        rows, row = self._rows, 3 * (turn - 1)
        if 0 <= row < len(rows) and rows[row] == turn:  # so it is where no line is given by a script
            return row
        return 3 * bisect_left(range(len(rows) // 3), turn, key=lambda place: rows[3 * place])

    def __contains__(self, turn: Any) -> bool:
        rows = self._rows
        return bool(rows) and turn <= rows[-3] and rows[self._row(turn)] == turn

    def __getitem__(self, turn: int) -> Place:
        if turn not in self:
            raise KeyError(turn)
        row = self._row(turn)
        return Place(self._rows[row + 1], self._rows[row + 2])

    def news(self) -> tuple[int, list[int]]:
        """What has changed since this was asked last: the numbers, and after how many that are as they were."""
        since, self._told = self._told, len(self._rows)
        return since, self._rows[since:].tolist()

    def take(self, since: int, numbers: list[int]) -> None:
        """What `news` told of these; it is none any more."""
        del self._rows[since:]
        self._rows.fromlist(numbers)
        self._told = len(self._rows)

    def in_order(self) -> list[tuple[int, Place]]:
        """Each turn, and where its line stands."""
        rows = self._rows
        return list(zip(rows[::3], map(Place, rows[1::3], rows[2::3]), strict=True))

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows[::3])

    def __len__(self) -> int:
        return len(self._rows) // 3


# Each field that a record of these kinds must have: taken all at once, so that none can be missing unseen.
_SENT: Final = itemgetter(
    *("cell", "turn", "attempt", "role", "alias", "provider", "model", "reserved", "input_bound", "max_tokens"),
    *("request", "dialect"),
)
_STARTED: Final = itemgetter("cell", "turn", "attempt", "generation")
_REPLIED: Final = itemgetter("cell", "turn", "attempt", "text", "finish", "cost", "cost_source", "computed", "usage")

Landmark: TypeAlias = Opened | Closed | Branched | Engaged

Taker: TypeAlias = Callable[[Mapping[str, Any], float, int, int], None]
"""Takes in what a record says, when it was written, and where in its file it stands: offset and size."""


class HistoryError(Exception):
    """The journal tells of something that cannot have happened."""


@dataclass(slots=True)
class Account:
    """Money of one scope. `assumed` is the part of `settled` that is a reservation nobody has settled better yet."""

    settled: Nanos = 0
    reserved: Nanos = 0
    assumed: Nanos = 0

    @property
    def held(self) -> Nanos:
        """What no ceiling may be below."""
        return self.settled + self.reserved


class Tried(NamedTuple):
    """The attempts at a conversation's open turn."""

    attempts: int = 0
    busy: int = 0
    kinds: Mapping[str, int] = MappingProxyType({})
    last: Place | None = None
    sent: Place | None = None


_UNTRIED: Final = Tried()
_NONE: Final[Mapping[Any, Any]] = MappingProxyType({})
_AS_ONE: Final[Mapping[Status, Status]] = {status: status for status in STATUSES}
"""One text for all conversations that stand alike."""


class Counts(NamedTuple):
    """What all calls of one model are counted in that belong to one day."""

    provider: str
    alias: str
    tally: Tally
    minutes: dict[int, int]
    accounts: tuple[Account, ...]


@dataclass(slots=True)
class Open:
    """A call in flight."""

    said: Mapping[str, Any] = field(repr=False, compare=False)
    """The record of its `Sent`."""
    turn: int
    attempt: int
    reserved: Nanos
    at: float
    offset: int
    size: int
    day: str
    counts: Counts = field(repr=False, compare=False)
    generation: str | None = None

    @property
    def place(self) -> Place:
        return Place(self.offset, self.size)

    @property
    def sent(self) -> Sent:
        found = from_data("sent", self.said)
        assert isinstance(found, Sent)
        return found


def _nothing() -> Mapping[Any, Any]:
    return _NONE


class CallId(NamedTuple):
    """One attempt at one turn of one conversation."""

    cell: str
    turn: int
    attempt: int


class Unsettled(NamedTuple):
    """A call that stays charged at what was assumed of it, until somebody knows better."""

    sent: Sent
    at: float
    day: str
    cost: Nanos
    generation: str | None
    why: str
    written: int = 0
    """So many tokens had come of its answer at least."""


class Counted(NamedTuple):
    """How many input tokens a provider made of what a speaker was shown at a turn, without its oldest lines."""

    turn: int
    tokens: int
    left_out: int = 0


@dataclass(slots=True)
class Progress:
    """One conversation so far."""

    replies: Places = field(default_factory=Places)
    sents: Places = field(default_factory=Places)
    """The `Sent` of the accepted attempt of each turn."""
    ended_attempts: Tried = _UNTRIED
    """The attempts at its open turn, but for one that is in flight."""
    open: Open | None = None
    status: Status | None = None
    reason: str | None = None
    account: Account = field(default_factory=Account)
    reported_input: Mapping[str, Counted] = field(default_factory=_nothing)
    """By role, what the provider last counted; of nobody any more when all is said."""
    left_out: Mapping[str, int] = field(default_factory=_nothing)
    """By role, how many of the oldest lines it was not shown last, where there were any; nor this then."""
    carried: int = 0
    """So many of its first lines are those of its origin."""
    flagged: Mapping[int, Finish] = field(default_factory=_nothing)
    """Turns whose reply was accepted although its finish was not ok."""
    corrected: Mapping[tuple[int, int], Nanos] = field(default_factory=_nothing)
    """What calls cost, by (turn, attempt), where that became known afterwards."""
    noted: tuple[Place, ...] = ()
    """What was read in with it that others have made of it."""
    told: bool = False
    """True while the time of its last line is what a file told: when it ended, no record knows."""
    dated: bool = False
    """True where the time of its first line is what a file told."""
    failing: Place | None = None
    """Where it stands how its open turn failed, as a file told."""
    started: float | None = None
    ended: float | None = None

    @property
    def tried(self) -> Tried:
        """The attempts at its open turn, one that is in flight counted in."""
        ended, call = self.ended_attempts, self.open
        return ended if call is None else ended._replace(attempts=ended.attempts + 1, sent=call.place)

    @property
    def truncated(self) -> int:
        return sum(finish == "truncated" for finish in self.flagged.values())

    @property
    def refused(self) -> int:
        return sum(finish == "refused" for finish in self.flagged.values())

    @property
    def lasting(self) -> bool:
        """True when no later life goes on with it by itself."""
        return self.status in LASTING


_NOTHING: Final = Progress()
"""One for all of whom nothing is known; nobody but `State.apply` changes any."""


class Overrun(NamedTuple):
    """A call that used or cost more than was reserved for it."""

    life: int
    limit: int
    """The output limit that it was sent."""
    used: int | None
    reserved: Nanos
    charged: Nanos

    def told(self, alias: str) -> str:
        """What happened, and what lets a run go on with the model all the same."""
        wrote, change = "it cost more than was reserved", "give it its true `price`"
        if self.used is not None and self.used > self.limit:
            wrote = f"it used {self.used:,} tokens where it was sent a limit of {self.limit:,}"
            change = f"allow it more: `max_tokens` of {self.used:,}, or a higher `price`"
        figures = f"{shown(self.reserved)} reserved, {shown(self.charged)} charged"
        return f"{alias}: overrun, {wrote} ({figures}) -> take {alias} out of the job, or {change}"


@dataclass(slots=True)
class Tally:
    """Calls of one model: what came back, and the figures of those that had any."""

    provider: str = ""
    calls: int = 0
    replies: int = 0
    with_figures: int = 0
    input: int = 0
    output: int = 0
    reasoning: int = 0
    reported: Nanos = 0
    """Settled at the provider's own figure."""
    priced: Nanos = 0
    """Settled by the price list."""
    assumed_calls: int = 0
    """Calls that stay charged at their reservation."""
    timed: int = 0
    """Replies of which it is known how long they took, and the sums of that and of its squares."""
    seconds: float = 0.0
    squares: float = 0.0
    compared: int = 0
    """Calls whose reported and computed cost differ by more than 2 %, and the sums of both."""
    compared_reported: Nanos = 0
    compared_computed: Nanos = 0
    failures: dict[str, int] = field(default_factory=dict)
    overruns: int = 0
    """Calls that used or cost more than was reserved for them."""
    overran: Overrun | None = None
    """The largest of them in the last life that had any."""

    @property
    def overrun(self) -> bool:
        return self.overruns > 0

    @property
    def mean_output(self) -> float | None:
        return self.output / self.with_figures if self.with_figures else None

    @property
    def mean_seconds(self) -> float | None:
        return self.seconds / self.timed if self.timed else None

    @property
    def deviation(self) -> float | None:
        """How far from their mean the seconds of a reply are, as a rule."""
        mean = self.mean_seconds
        return None if mean is None else sqrt(max(0.0, self.squares / self.timed - mean**2))


class Recent(NamedTuple):
    """A request of the last minute, for lanes that open warm."""

    at: float
    provider: str
    alias: str
    input: int
    max_tokens: int


class Done(NamedTuple):
    """For what of a conversation no call is made any more."""

    turns: frozenset[int]
    observers: frozenset[str]


class Additions(NamedTuple):
    """What a run has that its job does not say."""

    branches: tuple[Branched, ...] = ()
    engaged: tuple[Engaged, ...] = ()


@dataclass(slots=True)
class State:
    """The fold of a run's events."""

    lives: int = 0
    live: Opened | None = None
    today: str = ""
    """The day to which the money belongs that is spent now; none before a life is known."""
    job: Mapping[str, Any] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    cells: dict[str, Progress] = field(default_factory=dict)
    run: Account = field(default_factory=Account)
    days: dict[str, Account] = field(default_factory=dict)
    """What was spent by the lives of each day."""
    spending: dict[tuple[str, str, str], Account] = field(default_factory=dict)
    """The same by (day, provider, model); without what a repair counted, of which nobody knows that."""
    unsettled: dict[CallId, Unsettled] = field(default_factory=dict)
    """Calls of which nobody knows yet what they have cost."""
    settled: dict[CallId, Unsettled] = field(default_factory=dict)
    """Calls of which that became known afterwards, each with the cost that was said of it last."""
    scopes: dict[tuple[str, str], Account] = field(default_factory=dict)
    """Accounts by ("model", alias), ("provider", name), and what `watch` asked for."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    dropped: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Parameters that a model refuses, by alias."""
    opened: list[tuple[float, Opened]] = field(default_factory=list)
    closed: list[tuple[float, Closed]] = field(default_factory=list)
    jobs: list[Opened] = field(default_factory=list)
    """The lives that brought a job; the last is the one in force."""
    recent: deque[Recent] = field(default_factory=deque)
    day_minutes: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict)
    """(Provider, alias) to (minute of the epoch to requests sent), for daily limits."""
    branches: dict[str, Branched] = field(default_factory=dict)
    """Conversations that go on with others, by their ids."""
    engaged: list[Engaged] = field(default_factory=list)
    repaired: list[Repaired] = field(default_factory=list)
    """The stretches of the journal that were lost; their cost is in `run` and in no other account."""
    landmarks: list[Place] = field(default_factory=list)
    """Where the lives stand in the journal, the branches, and who was engaged: what tells of the run as a whole."""
    _counts: dict[tuple[str, str, str, str], Counts] = field(default_factory=dict, compare=False)
    """By (day, alias, provider, model)."""
    _groups: dict[str, tuple[Account, ...]] = field(default_factory=dict)
    _flying: dict[str, Open] = field(default_factory=dict)
    """The calls in flight, by the ids of what they belong to."""
    _followers: list[dict[str, None]] = field(default_factory=list, compare=False)
    _followers_of_calls: list[dict[CallId, None]] = field(default_factory=list, compare=False)

    def of(self, cell: str) -> Progress:
        """The progress of a conversation; an empty one when nothing happened yet."""
        return self.cells.get(cell, _NOTHING)

    def account(self, cell: str) -> Account:
        """The account of a conversation, kept up to date."""
        return self.cells.setdefault(cell, Progress()).account

    def scope(self, kind: str, name: str) -> Account:
        found = self.scopes.get((kind, name))
        if found is None:
            found = self.scopes[kind, name] = Account()
        return found

    def day(self, day: str) -> Account:
        """The account of a day, kept up to date."""
        found = self.days.get(day)
        if found is None:
            found = self.days[day] = Account()
        return found

    def watch(self, kind: str, name: str, cells: Iterable[str]) -> Account:
        """An account that is the sum of these conversations, from now on kept up to date."""
        total = Account()
        for cell in cells:
            progress = self.cells.get(cell)
            if progress is not None:
                total.settled += progress.account.settled
                total.reserved += progress.account.reserved
                total.assumed += progress.account.assumed
            self._groups[cell] = (*self._groups.get(cell, ()), total)
        self.scopes[kind, name] = total
        return total

    def done(self, conversation: Conversation) -> Done:
        """For what of a conversation no call is made any more."""
        progress = self.of(conversation.id)
        is_over = progress.status == "complete"
        return Done(
            frozenset(line.number for line in conversation.lines) if is_over else frozenset(progress.replies),
            frozenset(aside.id for aside in conversation.after if self.of(aside.id).lasting),
        )

    @property
    def additions(self) -> Additions:
        """What was added to the run beside its job."""
        return Additions(tuple(self.branches.values()), tuple(self.engaged))

    @property
    def is_open(self) -> bool:
        """True when the last life has not been closed."""
        return bool(self.opened) and (not self.closed or self.closed[-1][1].life < self.opened[-1][1].life)

    @property
    def nameless(self) -> Nanos:
        """What is assumed of lines that a repair replaced: there is no call of which it could be settled."""
        return self.run.assumed - sum(known.cost for known in self.unsettled.values())

    @property
    def called(self) -> list[tuple[str, str, str, str]]:
        """Who was called, by (day, alias, provider, model). Accounts are there of others too that were asked for."""
        return list(self._counts)

    def open_calls(self) -> Iterator[Open]:
        yield from self._flying.values()

    def follow(self) -> dict[str, None]:
        """What takes in the ids of all that changes from now on, in that order; whoever follows empties it."""
        changed: dict[str, None] = {}
        self._followers.append(changed)
        return changed

    def follow_calls(self) -> dict[CallId, None]:
        """The same of calls of which it changes what is known of their cost."""
        changed: dict[CallId, None] = {}
        self._followers_of_calls.append(changed)
        return changed

    # -- applying ----------------------------------------------------------------------------------------------

    def apply(self, event: Event, at: float, place: Place, said: Mapping[str, Any] | None = None) -> None:
        """Take one event in; HistoryError when it cannot follow what was before. `said` is the event as it is written.

        Whoever has written it has that at hand.
        """
        taken = _TAKE.get(event.kind)
        if taken is None:
            _APPLY[type(event)](self, event, at, place)
        else:
            taken(self, to_data(event) if said is None else said, at, *place)
        if self._followers and not isinstance(event, Opened | Engaged | Closed | Repaired):
            self._changed(event.cell)

    def takers(self) -> Mapping[str, Taker]:
        """By kind, what takes in a record as it was decoded; KeyError where it lacks a field.

        It does what `apply` does with the event of the record, and tells those who follow the state by then.
        """
        found: dict[str, Taker] = {kind: partial(self._take, kind) for kind in KINDS}
        found |= {kind: partial(taken, self) for kind, taken in _TAKE.items()}
        if not self._followers:
            return found
        return {kind: partial(self._take_and_tell, taken) for kind, taken in found.items()}

    def _take(self, kind: str, said: Mapping[str, Any], at: float, offset: int, size: int) -> None:
        event = from_data(kind, said)
        _APPLY[type(event)](self, event, at, Place(offset, size))

    def _take_and_tell(self, taken: Taker, said: Mapping[str, Any], at: float, offset: int, size: int) -> None:
        taken(said, at, offset, size)
        if "cell" in said:
            self._changed(said["cell"])

    def _changed(self, id_: str) -> None:
        for changed in self._followers:
            changed[id_] = None

    def _call_changed(self, call: CallId) -> None:
        for changed in self._followers_of_calls:
            changed.pop(call, None)  # the order is that of the last changes
            changed[call] = None

    def remember(self, event: Landmark, at: float, place: Place) -> None:
        """Take in what an event says of the run as a whole, and nothing of what it does to conversations."""
        self.landmarks.append(place)
        match event:
            case Opened():
                self.lives, self.live, self.today = event.life, event, event.day or event.date
                self.opened.append((at, event))
                self.texts.update(event.texts)
                if event.job is not None:
                    self.job = event.job
                    self.jobs.append(event)
            case Closed():
                self.closed.append((at, event))
            case Branched():
                self.branches[event.cell] = event
            case Engaged():
                self.engaged.append(event)

    def _opened(self, event: Opened, at: float, place: Place) -> None:
        if event.life != self.lives + 1 and not (self.repaired and event.life > self.lives):
            raise HistoryError(f"life {event.life} opened after life {self.lives}")
        self.remember(event, at, place)
        undated = self.days.pop("", None)
        if undated is not None:  # a repair took the place of every life before this one
            self._date(undated)
        about = None if event.about is None else frozenset(event.about)
        for id_, progress in self.cells.items():
            if not progress.lasting and (about is None or id_ in about):
                self._changed(id_)
                progress.status = progress.reason = None
                # The provider's bad hour is over. What a model itself did, and what may have been paid, still counts.
                tried = progress.ended_attempts
                if tried.busy or tried.kinds:
                    kinds = {kind: number for kind, number in tried.kinds.items() if kind != "error"}
                    progress.ended_attempts = tried._replace(busy=0, kinds=kinds)
        for cell in event.reopened:
            if cell not in self.cells and not self.repaired:
                raise HistoryError(f"opened names {cell}, which nothing before it does")
            progress = self.cells.setdefault(cell, Progress())
            self._changed(cell)
            progress.status = progress.reason = progress.ended = None
            tried = progress.ended_attempts
            progress.ended_attempts = Tried(attempts=tried.attempts, last=tried.last)

    def _date(self, undated: Account) -> None:
        """Put what no known life has spent on the day of the first that is known."""
        moved = {key: account for key, account in self.spending.items() if not key[0]}
        for (_, provider, model), account in moved.items():
            del self.spending["", provider, model]
            self.spending[self.today, provider, model] = account
        today = self.day(self.today)
        today.settled += undated.settled
        today.reserved += undated.reserved
        today.assumed += undated.assumed
        for progress in self.cells.values():
            if progress.open is not None and not progress.open.day:
                progress.open.day = self.today
                sent = progress.open.sent
                progress.open.counts = self.counts_of(self.today, sent.alias, sent.provider, sent.model)
        for calls in (self.unsettled, self.settled):
            for call, known in calls.items():
                if not known.day:
                    calls[call] = known._replace(day=self.today)

    def _sent(self, said: Mapping[str, Any], at: float, offset: int, size: int) -> None:
        cell, turn, attempt, role, alias, provider, model, reserved, input_bound, max_tokens, _, _ = _SENT(said)
        progress = self.cells.get(cell)
        if progress is None:
            progress = self.cells[cell] = Progress()
        if self.repaired:
            self._give_up(progress)
            self._forget(progress, turn)
        if progress.open is not None:
            raise HistoryError(f"{cell} sent turn {turn} while turn {progress.open.turn} was open")
        if turn in progress.replies:
            raise HistoryError(f"{cell} sent turn {turn}, which has its reply")
        before = progress.ended_attempts.attempts
        if attempt != before + 1 and not self.repaired:
            raise HistoryError(f"{cell} sent attempt {attempt} at turn {turn} after {before}")
        if reserved < 0:
            raise HistoryError(f"{cell} sent turn {turn} with less than nothing reserved")
        if progress.started is None:
            self._begin(progress, cell, at)
        progress.told = False
        counts = self.counts_of(self.today, alias, provider, model)
        progress.open = self._flying[cell] = Open(said, turn, attempt, reserved, at, offset, size, self.today, counts)
        left_out = said.get("left_out", 0)
        if left_out or role in progress.left_out:
            progress.left_out = {**progress.left_out, role: left_out}
        for account in (progress.account, *counts.accounts, *self._groups.get(cell, ())):
            account.reserved += reserved
        tally = counts.tally
        tally.provider = counts.provider
        tally.calls += 1
        recent = self.recent
        recent.append(Recent(at, counts.provider, counts.alias, input_bound, max_tokens))
        while recent[0].at < at - _WINDOW_SECONDS:
            recent.popleft()
        minutes, minute = counts.minutes, int(at // 60)
        minutes[minute] = minutes.get(minute, 0) + 1
        if len(minutes) > 1500:
            for old in [m for m in minutes if m < minute - 1440]:
                del minutes[old]

    def fly(self, call: Mapping[str, Any], at: float, place: Place, day: str, generation: str | None) -> None:
        """A call is in flight, and its money counted already; it is told by the record of its `Sent`."""
        turn, attempt, reserved = call["turn"], call["attempt"], call["reserved"]
        counts = self.counts_of(day, call["alias"], call["provider"], call["model"])
        flying = Open(call, turn, attempt, reserved, at, *place, day, counts, generation)
        self._flying[call["cell"]] = self.cells[call["cell"]].open = flying

    def counts_of(self, day: str, alias: str, provider: str, model: str) -> Counts:
        """What the calls of a model on a day are counted in."""
        found = self._counts.get((day, alias, provider, model))
        if found is None:
            spending = self.spending.setdefault((day, provider, model), Account())
            found = self._counts[day, alias, provider, model] = Counts(
                provider,
                alias,
                self.tallies.setdefault(alias, Tally()),
                self.day_minutes.setdefault((provider, alias), {}),
                (
                    self.run,
                    self.day(day),
                    spending,
                    self.scope("model", alias),
                    self.scope("provider", provider),
                ),
            )
        return found

    def _give_up(self, progress: Progress) -> None:
        """A call whose outcome was among the lost lines stays charged at its reservation."""
        call = progress.open
        if call is not None:
            self._assume(call, call.reserved, "its outcome was lost when the journal was damaged")
            progress.ended_attempts = progress.tried
            self._end(progress, call, call.said["cell"], call.reserved, call.reserved)
            call.counts.tally.assumed_calls += 1

    def _assume(self, call: Open, cost: Nanos, why: str, written: int = 0) -> None:
        sent = call.sent
        id_ = CallId(sent.cell, sent.turn, sent.attempt)
        self.unsettled[id_] = Unsettled(sent, call.at, call.day, cost, call.generation, why, written)
        self._call_changed(id_)

    def _end(self, progress: Progress, call: Open, cell: str, cost: Nanos, assumed: Nanos) -> None:
        """A call is not in flight any more: what was reserved for it is free again, and what it cost is settled."""
        progress.open = None
        del self._flying[cell]
        self._move(progress.account, call.counts, cell, cost, call.reserved, assumed)

    @staticmethod
    def _forget(progress: Progress, turn: int) -> None:
        """What was built on a lost reply is void: this turn is said again, and so are all that followed it."""
        for later in [number for number in progress.replies if number >= turn]:
            progress.replies.drop(later)
        kept = {role: counted for role, counted in progress.reported_input.items() if counted.turn < turn}
        progress.flagged = {number: finish for number, finish in progress.flagged.items() if number < turn}
        progress.reported_input = kept

    def _started(self, said: Mapping[str, Any], at: float, offset: int, size: int) -> None:
        cell, turn, attempt, generation = _STARTED(said)
        progress = self.cells.get(cell)
        call = None if progress is None else progress.open
        if call is not None and call.turn == turn and call.attempt == attempt:
            call.generation = generation

    def _call_of(self, progress: Progress | None, cell: str, turn: int, attempt: int) -> Open | None:
        """The call that ends now; None where its `Sent` was lost."""
        call = None if progress is None else progress.open
        if call is None or progress is None:
            if not self.repaired:
                raise HistoryError(f"{cell} turn {turn} ended, but was never sent")
            return None
        if call.turn != turn or call.attempt != attempt:
            if not self.repaired:
                raise HistoryError(f"{cell} turn {turn}.{attempt} ended, but {call.turn}.{call.attempt} is open")
            self._give_up(progress)
            return None
        return call

    def _close_unknown(self, cell: str, cost: Nanos, assumed: Nanos, at: float) -> Progress:
        """The outcome of a call whose `Sent` was lost: nobody knows any more which model it was."""
        progress = self.cells.setdefault(cell, Progress())
        if progress.started is None:
            progress.started = at
        for account in (self.run, progress.account, self.day(self.today), *self._groups.get(cell, ())):
            account.settled += cost
            account.assumed += assumed
        return progress

    def _replied(self, said: Mapping[str, Any], at: float, offset: int, size: int) -> None:
        cell, turn, attempt, text, finish, cost, source, computed, usage = _REPLIED(said)
        progress = self.cells.get(cell)
        if progress is not None and turn in progress.replies:
            if not self.repaired:
                raise HistoryError(f"{cell} turn {turn} has two replies")
            self._forget(progress, turn)
        assumed = cost if source == "unknown" else 0
        call = self._call_of(progress, cell, turn, attempt)
        if progress is None or call is None:
            progress = self._close_unknown(cell, cost, assumed, at)
            progress.sents.drop(turn)
        else:
            if assumed:
                known = replace(call, generation=call.generation or said.get("generation"))
                self._assume(known, assumed, "answered without figures", fewest_tokens(text, said.get("reasoning")))
            self._end(progress, call, cell, cost, assumed)
            progress.sents.set(turn, call.offset, call.size)
        progress.replies.set(turn, offset, size)
        progress.ended_attempts = _UNTRIED
        if finish != "ok":
            progress.flagged = {**progress.flagged, turn: finish}
        progress.ended = at
        if call is None:
            return
        tally, seconds = call.counts.tally, said.get("seconds")
        tally.replies += 1
        if seconds is not None:
            tally.timed += 1
            tally.seconds += seconds
            tally.squares += seconds**2
        if said.get("overrun"):
            self._overrun(tally, call.sent, cost, usage, fewest_tokens(text, said.get("reasoning")))
        read = usage.get("input")
        if read and usage.get("trusted", True):
            reported = progress.reported_input
            if not isinstance(reported, dict):
                reported = progress.reported_input = {}
            reported[call.said["role"]] = Counted(turn, read, call.said.get("left_out", 0))
        self._count(tally, usage, cost, source)
        its = usage.get("cost")
        if its and computed is not None and abs(its - computed) * 50 > computed:
            tally.compared += 1
            tally.compared_reported += its
            tally.compared_computed += computed

    def _heard(self, event: Heard, at: float, place: Place) -> None:
        progress = self.cells.setdefault(event.cell, Progress())
        if progress.open is not None and not self.repaired:
            raise HistoryError(f"{event.cell} heard turn {event.turn} while a call was open")
        if event.turn in progress.replies:
            if not self.repaired:
                raise HistoryError(f"{event.cell} heard turn {event.turn}, which has its reply")
            self._forget(progress, event.turn)
        progress.told = event.when is not None
        if progress.started is None:
            self._begin(progress, event.cell, at, event.when)
        progress.replies.put(event.turn, place)
        progress.ended = None if progress.told else at
        progress.ended_attempts = _UNTRIED
        if event.finish != "ok":
            progress.flagged = {**progress.flagged, event.turn: event.finish}

    def _begin(self, progress: Progress, cell: str, at: float, when: float | None = None) -> None:
        """Its first line comes now, or came when a file says; what mends an imported one began when that one did."""
        branch = self.branches.get(cell)
        origin = self.cells.get(branch.origin) if branch is not None and branch.how == "redo" else None
        if when is None and origin is not None and origin.dated:
            when = origin.started
        progress.started, progress.dated = (at, False) if when is None else (when, True)

    def _noted(self, event: Noted, at: float, place: Place) -> None:
        progress = self.cells.setdefault(event.cell, Progress())
        progress.noted = (*progress.noted, place)

    def _branched(self, event: Branched, at: float, place: Place) -> None:
        origin = self.cells.get(event.origin)
        if event.cell in self.cells and not self.repaired:
            raise HistoryError(f"{event.cell} branched, but was there before")
        if origin is None and not self.repaired:
            raise HistoryError(f"{event.cell} branched from {event.origin}, which nothing before it names")
        self.remember(event, at, place)
        progress = self.cells.setdefault(event.cell, Progress())
        if origin is not None:
            for mine, its in ((progress.replies, origin.replies), (progress.sents, origin.sents)):
                for turn, stands in its.items():
                    if turn <= event.through and turn in origin.replies:
                        mine.put(turn, stands)
            flagged = {turn: finish for turn, finish in origin.flagged.items() if turn <= event.through}
            progress.flagged = {**progress.flagged, **flagged}
        progress.carried = event.through

    def _engaged(self, event: Engaged, at: float, place: Place) -> None:
        self.remember(event, at, place)

    def _failed(self, event: Failed, at: float, place: Place) -> None:
        cell, cost = event.cell, event.cost
        assumed = cost if event.money == "assumed" else 0
        progress = self.cells.get(cell)
        call = self._call_of(progress, cell, event.turn, event.attempt)
        if call is None or progress is None:
            progress = self._close_unknown(cell, cost, assumed, at)
        else:
            if assumed:
                known = replace(call, generation=call.generation or event.generation)
                self._assume(known, assumed, event.detail, fewest_tokens(event.partial, event.reasoning))
            progress.ended_attempts = progress.tried
            self._end(progress, call, cell, cost, assumed)
        tried = progress.ended_attempts
        if event.busy:
            tried = tried._replace(busy=tried.busy + 1)
        elif event.parameter is None or call is None or event.parameter in call.sent.dropped:
            # A parameter costs no attempt when it is dropped; refused once more when it was not even sent, it does.
            tried = tried._replace(kinds={**tried.kinds, event.failure: tried.kinds.get(event.failure, 0) + 1})
        progress.ended_attempts = tried._replace(last=place)
        progress.ended = at
        if call is None:
            return
        tally, alias = call.counts.tally, call.counts.alias
        name = "busy" if event.busy else event.failure
        tally.failures[name] = tally.failures.get(name, 0) + 1
        source = "unknown" if event.money == "assumed" else "reported" if event.usage.get("cost") else "priced"
        self._count(tally, event.usage, event.cost, source)
        if event.overrun:
            self._overrun(tally, call.sent, event.cost, event.usage, fewest_tokens(event.partial, event.reasoning))
        if event.parameter is not None and event.parameter not in self.dropped.get(alias, ()):
            self.dropped[alias] = (*self.dropped.get(alias, ()), event.parameter)

    def _settled(self, event: Settled, at: float, place: Place) -> None:
        call = CallId(event.cell, event.turn, event.attempt)
        assumed, before = self.unsettled.pop(call, None), self.settled.get(call)
        known, progress = assumed or before, self.cells.get(event.cell)
        if known is None or progress is None:
            if self.repaired:
                return  # the call it speaks of is lost, and counted in its place
            raise HistoryError(f"{event.cell} turn {event.turn}.{event.attempt} is settled, but nothing was assumed")
        sent, reserved = known.sent, known.sent.reserved
        counts = self.counts_of(known.day, sent.alias, sent.provider, sent.model)
        tally = counts.tally
        if assumed is not None:
            self._move(progress.account, counts, event.cell, event.cost - known.cost, 0, -known.cost)
            tally.assumed_calls -= 1
            tally.reported += event.cost
            if event.cost > reserved:
                self._overrun(tally, known.sent, event.cost, {}, known.written)
        else:
            self._move(progress.account, counts, event.cell, event.cost - known.cost, 0)
            tally.reported += event.cost - known.cost
            tally.overruns += (event.cost > reserved) - (known.cost > reserved)
        progress.corrected = {**progress.corrected, (event.turn, event.attempt): event.cost}
        self.settled[call] = known._replace(cost=event.cost)
        self._call_changed(call)

    def _stopped(self, event: Stopped, at: float, place: Place) -> None:
        progress = self.cells.setdefault(event.cell, Progress())
        progress.status, progress.reason = _AS_ONE.get(event.status, event.status), event.reason
        if event.status == "complete":
            progress.reported_input = progress.left_out = _NONE
        progress.failing = place if event.error is not None or event.attempts else None
        if event.when is not None:
            progress.ended = event.when
        elif progress.started is not None and not progress.told:
            progress.ended = at

    def _closed(self, event: Closed, at: float, place: Place) -> None:
        if self.opened and (event.life != self.lives or not self.is_open) and not self.repaired:
            raise HistoryError(f"life {event.life} closed, but it was not open")
        self.remember(event, at, place)

    def _repaired(self, event: Repaired, at: float, place: Place) -> None:
        self.repaired.append(event)
        for account in (self.run, self.day(self.today)):
            account.settled += event.cost
            account.assumed += event.cost

    def _overrun(self, tally: Tally, call: Sent, charged: Nanos, usage: Mapping[str, Any], written: int) -> None:
        tally.overruns += 1
        used = usage.get("output", written) if usage.get("trusted", True) else written
        now, before = Overrun(self.lives, call.max_tokens, used, call.reserved, charged), tally.overran
        if before is None or before.life != now.life or (now.used or 0) >= (before.used or 0):
            tally.overran = now

    @staticmethod
    def _count(tally: Tally, usage: Mapping[str, Any], cost: Nanos, source: str) -> None:
        if source == "unknown":
            tally.assumed_calls += 1
        elif source == "reported":
            tally.reported += cost
        else:
            tally.priced += cost
        read, written = usage.get("input"), usage.get("output")
        if read is not None and written is not None and usage.get("trusted", True):
            tally.with_figures += 1
            tally.input += read
            tally.output += written
            tally.reasoning += usage.get("reasoning") or 0

    def _move(
        self, own: Account, counts: Counts, cell: str, settled: Nanos, released: Nanos, assumed: Nanos = 0
    ) -> None:
        """Change every account that a call of a conversation is in."""
        for account in (own, *counts.accounts, *self._groups.get(cell, ())):
            account.settled += settled
            account.reserved -= released
            if assumed:
                account.assumed += assumed


_APPLY: Final[Mapping[type[Any], Callable[[State, Any, float, Place], None]]] = {
    Opened: State._opened,
    Heard: State._heard,
    Noted: State._noted,
    Branched: State._branched,
    Engaged: State._engaged,
    Failed: State._failed,
    Settled: State._settled,
    Stopped: State._stopped,
    Closed: State._closed,
    Repaired: State._repaired,
}

_TAKE: Final[Mapping[str, Callable[[State, Mapping[str, Any], float, int, int], None]]] = {
    "sent": State._sent,
    "started": State._started,
    "replied": State._replied,
}
"""What comes with each call is folded as it is written, all else by its event."""
