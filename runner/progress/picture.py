"""The night in figures, as a pure function of the sessions and their gate; and what is expected of the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from runner.conversation import Conversation
from runner.forecast import AT_MOST, expecting, loads
from runner.gate import Gate
from runner.limits import Lane
from runner.money import Nanos, Price
from runner.plan import Cell
from runner.run import Session
from runner.state import Done
from runner.status import STATUSES, Status

_NOTHING_DONE: Final = Done(frozenset(), frozenset())
_CALLS_FOR_A_RATE: Final = 5
_SECONDS_FOR_A_RATE: Final = 5.0


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One lane now. Calls and tokens are those of all lives of the runs."""

    name: str
    in_flight: int
    slots: float
    waiting: int
    done: int
    """Calls that have come back, however."""
    tokens_in: int | None
    tokens_out: int | None
    busy: int
    failures: int
    """Attempts that failed otherwise."""
    paused: float
    """Seconds until it goes on; 0 when it goes."""
    reason: str
    dead: str | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run now. The counts add up to `total`."""

    name: str
    total: int
    ended: Mapping[Status, int]
    under_way: int
    waiting: int
    left_out: int
    """Not complete, and not part of what this life is about."""
    stopped_early: int
    """Of the complete: those whose last planned lines were not said."""
    truncated: int
    refused: int
    settled: Nanos
    assumed: Nanos
    """The part of `settled` that is a reservation nobody could settle better."""
    reserved: Nanos
    ceiling: Nanos | None
    expected: Nanos | None
    """What it will have spent in the end, if replies stay as long as they were; None while that is unknown."""
    short_of: str | None = None
    """The ceiling over all runs under which it waits until others give something back."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a person may want to know at a glance."""

    lanes: tuple[LaneRow, ...]
    runs: tuple[RunRow, ...]
    seconds_left: float | None
    """None while it is unknown."""
    stopping: str | None
    stopped: tuple[str, ...]
    """Why which lanes and models get no more calls."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of the rest of the night."""

    rests: Mapping[str, Nanos] = field(default_factory=dict)
    """By the name of the run; one that cannot be known yet is missing."""
    seconds_left: float | None = None


NOTHING_KNOWN: Final = Forecast()


class Stand(NamedTuple):
    """What is counted of one conversation."""

    status: Status | None
    early: bool = False
    truncated: int = 0
    refused: int = 0


_OPEN: Final = Stand(None)


class Counts:
    """The conversations of a session in numbers that follow what changes: a look costs the same however many there are.

    What has not come to an end is still open where the life is about it, and left out where it is not.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._state = session.journal.state
        self._changed = self._state.follow()
        self._selected = frozenset(cell.id for cell in session.selected)
        self._stands: dict[str, Stand] = {}
        self.ended: Counter[Status] = Counter(dict.fromkeys(STATUSES, 0))
        self.stopped_early = self.truncated = self.refused = 0
        self.still_open = len(self._selected)
        self.left_out = len(session.plan.cells) - self.still_open
        self._changed |= dict.fromkeys(session.plan.by_id.keys() & self._state.cells.keys())

    def follow(self) -> Counts:
        """Take in what has changed."""
        for id_ in self._changed.keys() & self.session.plan.by_id.keys():
            self._count(id_, self._stands.get(id_, _OPEN), -1)
            progress = self._state.of(id_)
            early = progress.status == "complete" and progress.reason is not None
            self._stands[id_] = Stand(progress.status, early, progress.truncated, progress.refused)
            self._count(id_, self._stands[id_], 1)
        self._changed.clear()
        return self

    def _count(self, id_: str, stand: Stand, times: int) -> None:
        self.stopped_early += times * stand.early
        self.truncated += times * stand.truncated
        self.refused += times * stand.refused
        if stand.status is not None:
            self.ended[stand.status] += times
        elif id_ in self._selected:
            self.still_open += times
        else:
            self.left_out += times


def picture(counts: Sequence[Counts], gate: Gate, now: float, forecast: Forecast = NOTHING_KNOWN) -> Picture:
    """How the night stands at this moment."""
    sessions = [one.session for one in counts]
    stopped: dict[str, None] = {}
    for session in sessions:
        for alias, lane in session.lanes.items():
            reason = gate.parked(alias, lane)
            if reason is not None:
                stopped[reason] = None
    return Picture(
        tuple(_lane_row(lane, sessions, gate, now) for lane in gate.lanes),
        tuple(_run_row(one.follow(), gate, forecast.rests.get(name_of(one.session))) for one in counts),
        forecast.seconds_left,
        None if gate.closed is None else gate.closed.reason,
        tuple(stopped),
    )


def name_of(session: Session) -> str:
    """`job/key`."""
    return f"{session.plan.job.name}/{session.opened.key}"


def _lane_row(lane: Lane, sessions: Sequence[Session], gate: Gate, now: float) -> LaneRow:
    tallies = [
        session.journal.state.tallies[alias]
        for session in sessions
        for alias, own in session.lanes.items()
        if own is lane and alias in session.journal.state.tallies
    ]
    known = any(tally.with_figures for tally in tallies)
    failed = sum(sum(tally.failures.values()) for tally in tallies)
    busy = sum(tally.failures.get("busy", 0) for tally in tallies)
    paused = max(0.0, lane.paused_until - now)
    return LaneRow(
        name=lane.name,
        in_flight=lane.flying,
        slots=lane.slots,
        waiting=gate.waiting(lane),
        done=sum(tally.replies for tally in tallies) + failed,
        tokens_in=sum(tally.input for tally in tallies) if known else None,
        tokens_out=sum(tally.output for tally in tallies) if known else None,
        busy=busy,
        failures=failed - busy,
        paused=paused,
        reason=lane.pause_reason if paused else "",
        dead=lane.dead,
    )


def _run_row(counts: Counts, gate: Gate, rest: Nanos | None) -> RunRow:
    session, state = counts.session, counts.session.journal.state
    # At the end of the life those that never began get their status while they are still on the roster.
    waiting = min(counts.still_open, session.roster.unbegun)
    return RunRow(
        name=name_of(session),
        total=len(session.plan.cells),
        ended=dict(counts.ended),
        under_way=counts.still_open - waiting,
        waiting=waiting,
        left_out=counts.left_out,
        stopped_early=counts.stopped_early,
        truncated=counts.truncated,
        refused=counts.refused,
        settled=state.run.settled,
        assumed=state.run.assumed,
        reserved=state.run.reserved,
        ceiling=session.plan.budget.run,
        expected=None if rest is None else state.run.settled + rest,
        short_of=session.purse.ceiling.name if session.purse and session.purse.ceiling in gate.short_since else None,
    )


# --- what is expected -----------------------------------------------------------------------------------------------


class Left:
    """What a life still has to hold, those together that have not begun and differ by their repeat alone.

    It follows what changes: a forecast costs as much as has begun and not ended, however many are planned.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        plan, state = session.plan, session.journal.state
        self._changed = state.follow()
        self._waiting = {cell.id for cell in session.selected if cell.id not in state.cells}
        waiting = (cell for cell in session.selected if cell.id in self._waiting)
        self._unbegun = {plan.likeness(cell, ()): (cell, number) for cell, number in plan.alike(waiting, ())}
        self._begun = {cell.id: cell for cell in session.selected if cell.id not in self._waiting}

    def follow(self) -> Left:
        """Take in what has changed."""
        plan = self.session.plan
        for id_ in self._changed.keys() & self._waiting:
            cell = self._begun[id_] = plan.by_id[id_]
            likeness = plan.likeness(cell, ())
            first, number = self._unbegun.pop(likeness)
            if number > 1:
                self._unbegun[likeness] = first, number - 1
        self._waiting -= self._changed.keys()
        self._changed.clear()
        self._begun = {id_: cell for id_, cell in self._begun.items() if not _is_over(self.session, cell)}
        return self

    @property
    def unbegun(self) -> list[tuple[Cell, int]]:
        """One of each that are alike, which may have begun by now, and how many they are."""
        return list(self._unbegun.values())

    @property
    def begun(self) -> list[Cell]:
        return list(self._begun.values())


def _is_over(session: Session, cell: Cell) -> bool:
    """True when nobody says any more in this life, and nobody comments either."""
    state = session.journal.state
    status = state.of(cell.id).status
    if status == "complete":
        return all(state.of(aside.id).status is not None for aside in session.plan.after(cell))
    return status is not None


@dataclass(slots=True)
class Rest:
    """What is still to be said, added up."""

    costs: dict[str, Nanos]
    """By the name of the run, of which each is there from the start."""
    unknown: set[str] = field(default_factory=set)
    """Runs with a model of which no reply has told yet how long its replies are."""
    calls: dict[str, int] = field(default_factory=dict)
    """By lane."""

    def add(self, session: Session, cell: Cell) -> None:
        """What is left of a conversation."""
        if not _is_over(session, cell):
            conversation = session.plan.conversation(cell)
            self._add(session, cell, 1, conversation, session.journal.state.done(conversation))

    def add_unbegun(self, session: Session, cell: Cell, number: int) -> None:
        """So many that have not begun, and are like this one otherwise."""
        self._add(session, cell, number, session.plan.conversation(cell), _NOTHING_DONE)

    def _add(self, session: Session, cell: Cell, number: int, conversation: Conversation, done: Done) -> None:
        name, tallies = name_of(session), session.journal.state.tallies
        if session.roster.parked(cell) is not None:
            return
        guess = expecting(lambda alias: tallies[alias].mean_output if alias in tallies else None)
        for alias, load in loads(conversation, session.prices.__getitem__, guess, *done).items():
            self.costs[name] += number * load.cost
            lane = session.lanes[alias].name
            self.calls[lane] = self.calls.get(lane, 0) + number * load.calls
            if alias not in tallies or tallies[alias].mean_output is None:
                self.unknown.add(name)

    def forecast(self, lanes: Iterable[Lane], seconds: float, now: float) -> Forecast:
        """The forecast, after this life has gone on for so many seconds."""
        return Forecast(
            {name: cost for name, cost in self.costs.items() if name not in self.unknown},
            seconds_left(self.calls, lanes, seconds, now),
        )


def seconds_left(calls: Mapping[str, int], lanes: Iterable[Lane], seconds: float, now: float) -> float | None:
    """How long the slowest lane needs for its calls, at its pace so far; None while the pace of one is unknown."""
    longest = 0.0
    for lane in lanes:
        ahead, done = calls.get(lane.name, 0), lane.granted - lane.flying
        if not ahead or lane.dead is not None:
            continue
        if done < _CALLS_FOR_A_RATE or seconds < _SECONDS_FOR_A_RATE:
            return None
        longest = max(longest, ahead * seconds / done + max(0.0, lane.paused_until - now))
    return longest


def bills(conversation: Conversation, prices: Callable[[str], Price]) -> Iterator[Nanos]:
    """About the most that the last and dearest call of each speaker can cost."""
    lines = [line for line in conversation.lines if line.given is None]
    for last in {line.role: line.number for line in lines}.values():
        others = {line.number for line in lines} - {last}
        yield sum(load.cost for load in loads(conversation, prices, AT_MOST, others).values())
