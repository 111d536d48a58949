"""The conversations of a run that have not begun: who is next, and whether the money allows it.

Under a ceiling in reach a conversation begins only while its expected cost fits beside the expected rest of all that
have begun: whole conversations, not a thousand first rounds. The ceilings themselves are kept by the gate, call by
call. What is expected follows what came back: how long the replies of a model are, and how much dearer than foreseen
the turns of this run were, because calls were lost and stay charged, or because tokens are counted otherwise.

Where there is money for all, the order is the one that ends soonest: first whoever takes longest, by the calls that are
left and by how long those of each model took so far. A lane that has room and nobody in sight begins conversations that
come to it later, although their first call has to wait elsewhere. And a conversation begins although others stand in
line before it, as soon as it takes so large a part of what its lanes have left that it would be the last to end there.

A model of which nothing was heard yet in this life is tried out first: one conversation with it begins, and the others
when it has answered. So a wrong name or a missing right fails one call, and not a hundred.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, takewhile
from math import ceil, inf, log
from typing import Final, NamedTuple

from runner.conversation import DURING, Aside, Conversation, Participant
from runner.events import Stopped
from runner.forecast import AT_MOST, Guess, Load, expecting, loads
from runner.gate import Beginning, Gate
from runner.journal import Journal
from runner.limits import FED, RUN_BUDGET, Ceiling, Lane, late_from
from runner.money import Nanos, Price
from runner.plan import Cell, Plan
from runner.state import State

_STEP: Final = 1.02
_FIRST_REPLIES: Final = 2
"""So many replies twice as long are mixed into a mean: the first to come back are the short ones."""
_FIRST_TURNS: Final = 8
"""So many turns that cost what was foreseen are mixed in: one lost call among few says little."""
_CLOSE: Final = 0.97
"""What is expected misses by so much: who waited until it is known for sure would often begin when all others end."""

_MOVED: Final = 0.1
"""From such a part on a change of how long a model takes makes another order."""


class _Estimate(NamedTuple):
    """What a conversation is expected to cost."""

    rest: list[tuple[str, Nanos]]
    """The turns without a reply, by ceiling."""
    done: Nanos
    """The turns that have one, had they been as foreseen."""


class _Seen(NamedTuple):
    """The turns of a conversation that have their reply, and what they were foreseen to cost."""

    turns: int
    foreseen: Nanos


@dataclass(slots=True)
class _Foreseen:
    """What the turns of this run were foreseen to cost that have their reply."""

    seen: dict[str, _Seen] = field(default_factory=dict)
    turns: int = 0
    cost: Nanos = 0
    """The sums of what was seen."""

    def see(self, id_: str, now: _Seen) -> None:
        """Take in the turns of a conversation, in place of what was taken in of it before."""
        before = self.seen.get(id_, _Seen(0, 0))
        self.seen[id_] = now
        self.turns += now.turns - before.turns
        self.cost += now.foreseen - before.foreseen

    def dearer(self, paid: Nanos) -> float:
        """How many times this they have cost, all told."""
        if not self.cost:
            return 1.0
        return (self.turns * paid / self.cost + _FIRST_TURNS) / (self.turns + _FIRST_TURNS)


@dataclass(slots=True)
class _Trials:
    """The models that are tried out, because nothing was heard of them yet in this life."""

    heard: set[str] = field(default_factory=set)
    """Those that have answered, well or not."""
    by: dict[str, str] = field(default_factory=dict)
    """Which conversation tries one out."""
    over: int = 0
    """How often one was heard, or given up, that was tried out."""

    def begin(self, models: Iterable[str], id_: str) -> None:
        """A conversation begins to call these, and tries out those that nobody does yet."""
        for alias in models:
            if alias not in self.heard:
                self.by.setdefault(alias, id_)

    def answered(self, alias: str) -> None:
        self.heard.add(alias)
        self.over += self.by.pop(alias, None) is not None

    def end(self, id_: str) -> None:
        """A conversation tries out nothing any more."""
        tried = [alias for alias, one in self.by.items() if one == id_]
        for alias in tried:
            del self.by[alias]
        self.over += len(tried)


class _Rest(NamedTuple):
    """What is left of a conversation."""

    first: Participant
    """Who speaks next, as far as can be told before."""
    calls: Counter[str]
    """By model alias."""


@dataclass(slots=True, eq=False)
class _Shelf:
    """Conversations that have not begun in this life and differ by their repeat alone, in plan order."""

    rest: _Rest
    begun: bool
    """In an earlier life."""
    speaking: tuple[str, ...]
    """The models of those who still speak."""
    lane: Lane
    """That of the first call."""
    lanes: frozenset[str]
    """The names of all that they use."""
    cells: deque[Cell] = field(default_factory=deque)


@dataclass(slots=True)
class _Ahead:
    """What is left of a conversation that is held: the calls after so many lines, by model alias."""

    said: int
    calls: Counter[str]


class Roster:
    """The rows of one run."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        prices: Mapping[str, Price],
        lanes: Mapping[str, Lane],
        missing: Sequence[Cell],
        gate: Gate,
        shared: Ceiling | None = None,
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._state: State = journal.state
        self._prices = prices
        self._lanes = lanes
        self._gate = gate
        self.spawn: Callable[[Cell, Beginning], None] | None = None
        self.ceilings = _ceilings(plan, self._state)
        if shared is not None:
            self.ceilings["shared"] = shared
        self._committed = dict.fromkeys(self.ceilings, 0)
        """The expected rest of all that have begun, by ceiling."""
        self._rests: dict[str, list[tuple[str, Nanos]]] = {}
        self._estimates: dict[Hashable, _Estimate] = {}
        self._finding_out: dict[str, str] = {}
        """Which conversation, of those that have begun, makes known how long the replies of a model are."""
        self._trials = _Trials()
        self._foreseen = _Foreseen()
        self._elsewhere = self._state.run.settled
        """What was spent on anything but the conversations of the plan."""
        self._waiting: dict[str, list[_Shelf]] = {}
        """By the lane of their first call, in their turn."""
        self._coming: dict[str, list[_Shelf]] = {}
        """By each lane that they use later."""
        self._ahead: dict[str, _Ahead] = {}
        self._came_from: dict[str, _Shelf] = {}
        """Where those stood that have begun."""
        self._bound: Counter[str] = Counter()
        """How many of them use each lane."""
        self._left: Counter[str] = Counter()
        """The calls that are left, by model alias."""
        self._work: dict[str, float] = {}
        """How many seconds they take one after another, by lane."""
        self._talks: Counter[str] = Counter()
        """How many have not ended that use each lane."""
        self._heard = 0
        """How often a model has answered."""
        self._in_vain: dict[str, int] = {}
        """By lane: how many trials were over when nobody was found who may begin and comes there later."""
        self.tight = self._in_reach(missing, AT_MOST)
        """True when a ceiling is in reach, so that money decides who begins."""
        self._paces = self._measured()
        self._shelve(missing)
        self._ample = self.tight and not self._in_reach(missing, expecting(self._mean))
        """True when there is money for all, as far as can be told without having heard the models."""
        if self.tight:
            for cell in plan.cells:
                self._elsewhere -= self._state.of(cell.id).account.settled
                self._see(cell)

    def _shelve(self, missing: Sequence[Cell]) -> None:
        """Put all that have not begun in their places, those that are alike together."""
        shelves: dict[Hashable, _Shelf] = {}
        for cell in missing:
            likeness = self._plan.likeness(cell, self._state.cells)
            if likeness not in shelves:
                rest, begun = self._rest(cell), bool(self._state.of(cell.id).replies)
                speaking = tuple(alias for _, alias in cell.models if alias in rest.calls)
                names = frozenset(self._lanes[alias].name for alias in rest.calls)
                shelves[likeness] = _Shelf(rest, begun, speaking, self._lanes[rest.first.alias], names)
            shelves[likeness].cells.append(cell)
        for shelf in shelves.values():
            self._left.update({alias: number * len(shelf.cells) for alias, number in shelf.rest.calls.items()})
            self._talks.update(dict.fromkeys(shelf.lanes, len(shelf.cells)))
            self._waiting.setdefault(shelf.lane.name, []).append(shelf)
            for name in shelf.lanes - {shelf.lane.name}:
                self._coming.setdefault(name, []).append(shelf)
        self._sort()

    @property
    def waiting(self) -> list[Cell]:
        """Those that have not begun."""
        return [cell for shelf in self._shelves() for cell in shelf.cells]

    def _shelves(self) -> Iterator[_Shelf]:
        return chain.from_iterable(self._waiting.values())

    @property
    def unbegun(self) -> int:
        """How many those are."""
        return sum(len(shelf.cells) for shelf in self._shelves())

    def first_lane(self, cell: Cell) -> Lane:
        """The lane of the first call that is still to be made, as far as can be told before it is."""
        return self._lanes[self._rest(cell).first.alias]

    def _rest(self, cell: Cell) -> _Rest:
        conversation = self._plan.conversation(cell)
        replies = self._state.of(cell.id).replies
        unsaid = [line for line in conversation.lines if line.given is None and line.number not in replies]
        speakers = (conversation.participant(line.role) for line in unsaid)
        open_ = (aside.by for aside in conversation.after if not self._state.of(aside.id).lasting)
        calling = [speaker for speaker in chain(speakers, open_) if speaker.live]
        first = calling[0] if calling else conversation.participant(cell.models[0][0])
        return _Rest(first, Counter(speaker.alias for speaker in calling))

    # -- the order -------------------------------------------------------------------------------------------------

    def rank(self, cell: Cell, conversation: Conversation, said: int) -> tuple[int, ...]:
        """The place in the order of a call after so many lines; smallest first."""
        if self.tight:
            return (cell.index,)
        roles = {one.role: one.alias for one in conversation.participants if one.live}
        ahead = self._ahead.get(cell.id)
        if ahead is None:
            left = (roles[line.role] for line in conversation.lines[said:] if line.given is None and line.role in roles)
            ahead = _Ahead(said, Counter(chain(left, (aside.by.alias for aside in conversation.after))))
            self._ahead[cell.id] = ahead
        for line in conversation.lines[ahead.said : said]:
            if line.given is None and line.role in roles:
                ahead.calls[roles[line.role]] -= 1
                self._leave_out({roles[line.role]: 1})
        ahead.said = said
        return -self._takes(ahead.calls), cell.index

    def _turn(self, shelf: _Shelf) -> tuple[int, ...]:
        """Smallest first: who has begun; then, where there is money for all, who takes longest; then plan order."""
        return not shelf.begun, 0 if self.tight else -self._takes(shelf.rest.calls), shelf.cells[0].index

    def _takes(self, calls: Mapping[str, int]) -> int:
        """How many milliseconds these calls take one after another, as far as is known."""
        return round(1000.0 * sum(number * self._paces[alias] for alias, number in calls.items()))

    def _measured(self) -> dict[str, float]:
        """How many seconds a call of each model takes: one that was not heard is thought to be like the others."""
        tallies = self._state.tallies
        known = {alias: tallies[alias].mean_seconds for alias in self._lanes if alias in tallies}
        means = [mean for mean in known.values() if mean]
        usual = sum(means) / len(means) if means else 1.0
        return {alias: known.get(alias) or usual for alias in self._lanes}

    def _leave_out(self, calls: Mapping[str, int]) -> None:
        """Count these calls as left no more."""
        for alias, number in calls.items():
            self._left[alias] -= number
            self._work[self._lanes[alias].name] -= number * self._paces[alias]

    def _sort(self) -> None:
        self._work = dict.fromkeys((lane.name for lane in self._lanes.values()), 0.0)
        for alias, number in self._left.items():
            self._work[self._lanes[alias].name] += number * self._paces[alias]
        for queue in (*self._waiting.values(), *self._coming.values()):
            queue.sort(key=self._turn)

    def _take(self, shelf: _Shelf, cell: Cell) -> None:
        """Take a conversation off its shelf, which has its turn by the next one on it."""
        first = shelf.lane.name
        queues = [self._waiting[first], *(self._coming[name] for name in shelf.lanes - {first})]
        for queue in queues:
            del queue[bisect_left(queue, self._turn(shelf), key=self._turn)]
        shelf.cells.remove(cell)
        for queue in queues if shelf.cells else ():
            insort(queue, shelf, key=self._turn)

    # -- beginning -------------------------------------------------------------------------------------------------

    def next_for(self, lane: Lane, *, loaded: bool = False) -> Callable[[Beginning], None] | None:
        """How to begin a conversation whose first call goes to this lane; None when none can begin now.

        `loaded`: only one whose first call is to a model that its server has loaded.
        """
        if self._closed:
            return None
        queue: Iterable[_Shelf] = self._waiting.get(lane.name, ())
        if lane.limits.resident is not None:
            may_go = lane.is_loaded if loaded else lane.has_place
            queue = (shelf for shelf in queue if may_go(shelf.rest.first.weights))
        shelf = self._first_that_may(queue)
        return None if shelf is None else self._beginning(shelf)

    def next_towards(self, lane: Lane) -> tuple[Lane, Callable[[Beginning], None]] | None:
        """How to begin a conversation that comes to this lane later, and the lane of its first call.

        None where enough that has begun will come here, or where money or loaded models decide who begins.
        """
        if self._closed or self.tight or lane.slots == inf or self._bound[lane.name] >= FED * lane.slots:
            return None
        if self._in_vain.get(lane.name) == self._trials.over:
            return None
        coming = self._coming.get(lane.name, ())
        shelf = self._first_that_may(shelf for shelf in coming if shelf.lane.limits.resident is None)
        if shelf is None:
            self._in_vain[lane.name] = self._trials.over
            return None
        return shelf.lane, self._beginning(shelf)

    def next_in_time(self, lane: Lane) -> Callable[[Beginning], None] | None:
        """How to begin a conversation, here first, that would be the last to end if it waited for its place.

        None where there is none yet, or where money or loaded models decide who begins.
        """
        queue = self._waiting.get(lane.name, ())
        if not queue or self.tight or lane.limits.resident is not None or not self._is_late(queue[0]) or self._closed:
            return None
        shelf = self._first_that_may(takewhile(self._is_late, queue))
        return None if shelf is None else self._beginning(shelf)

    def _is_late(self, shelf: _Shelf) -> bool:
        """True when a conversation takes so large a part of what its lanes have left that it should have begun.

        Not while one of its models was not heard: if that does not answer, nobody is to have waited for it.
        """
        if not self._trials.heard.issuperset(shelf.rest.calls):
            return False
        lanes = {lane.name: lane for lane in map(self._lanes.__getitem__, shelf.rest.calls)}
        left = ((self._work[name], max(1.0, lane.slots), self._talks[name]) for name, lane in lanes.items())
        return self._takes(shelf.rest.calls) >= 1000.0 * late_from(left)

    @property
    def _closed(self) -> bool:
        return self._journal.failing is not None or self._gate.why_closed(self._journal) is not None

    def _beginning(self, shelf: _Shelf) -> Callable[[Beginning], None]:
        cell = shelf.cells[0]

        def begin(beginning: Beginning) -> None:
            assert self.spawn is not None
            self._take(shelf, cell)
            self._came_from[cell.id] = shelf
            self._bound.update(shelf.lanes)
            for alias in self._unheard(cell):
                self._finding_out.setdefault(alias, cell.id)
            self._trials.begin(shelf.speaking, cell.id)
            self.commit(cell)
            self.spawn(cell, beginning)

        return begin

    def _first_that_may(self, queue: Iterable[_Shelf]) -> _Shelf | None:
        refused: set[Hashable] = set()
        for shelf in queue:
            cell = shelf.cells[0]
            # What stopped one stops all that differ from it by their repeat alone.
            kind = (*cell.kind, len(self._state.of(cell.id).replies), *shelf.speaking)
            if kind not in refused:
                if not self._is_tried(shelf) and self.parked(cell) is None and self.short_of(cell) is None:
                    return shelf
                refused.add(kind)
        return None

    def _is_tried(self, shelf: _Shelf) -> bool:
        """True while another conversation finds out whether one of the models that it still calls answers at all."""
        return any(alias in self._trials.by for alias in shelf.speaking)

    def answered(self, alias: str) -> None:
        """A model has answered, well or not: the others with it may begin."""
        self._trials.answered(alias)
        self._heard += 1
        # Each time that twice as many have: the means move less and less, and a large plan is not put in order often.
        if not self.tight and self._heard & (self._heard - 1) == 0:
            paces = self._measured()
            if any(abs(pace - self._paces[alias]) > _MOVED * self._paces[alias] for alias, pace in paces.items()):
                self._paces = paces
                self._sort()
                self._gate.reorder()

    def parked(self, cell: Cell) -> str | None:
        """Why one of its models is not called any more; None when all are."""
        reasons = (self._gate.parked(alias, self._lanes[alias]) for _, alias in cell.models)
        return next((reason for reason in reasons if reason is not None), None)

    def drop(self, cell: Cell) -> None:
        """It will not begin after all."""
        shelf = next((shelf for shelf in self._shelves() if cell in shelf.cells), None)
        if shelf is not None:
            self._take(shelf, cell)
            self._talks.subtract(shelf.lanes)
            self._leave_out(shelf.rest.calls)

    def short_of(self, cell: Cell) -> Ceiling | None:
        """The ceiling that leaves no room for a conversation's expected cost; None when it may begin."""
        if not self.tight:
            return None
        if not self._rests and (self._unheard(cell) or self._state.of(cell.id).replies):
            # When nobody talks, one begins all the same: the true length of replies has to become known, and one that
            # has begun in an earlier life may still be finished with what is left.
            return None
        times = self._foreseen.dearer(self._state.run.settled - self._elsewhere) * _CLOSE
        for name, amount in self._estimate(cell).rest:
            ceiling = self.ceilings[name]
            if ceiling.account.settled + (self._committed[name] + amount) * times > ceiling.reach:
                return ceiling
        return None

    def lacks(self, ceiling: Ceiling) -> bool:
        """True when it is for want of this money that a conversation does not begin."""
        cells = (shelf.cells[0] for shelf in self._shelves())
        return any(self.parked(cell) is None and self.short_of(cell) is ceiling for cell in cells)

    def commit(self, cell: Cell) -> None:
        """Count the expected rest of a conversation, in place of what was counted for it before."""
        self._uncount(cell)
        if self.tight:
            self._rests[cell.id] = self._estimate(cell).rest
            for name, amount in self._rests[cell.id]:
                self._committed[name] += amount
            self._see(cell)

    def release(self, cell: Cell) -> None:
        """Count nothing for it any more."""
        self._uncount(cell)
        ahead, shelf = self._ahead.pop(cell.id, None), self._came_from.pop(cell.id, None)
        if shelf is not None:
            self._bound.subtract(shelf.lanes)
            self._talks.subtract(shelf.lanes)
            self._leave_out(shelf.rest.calls if ahead is None else ahead.calls)
        self._finding_out = {alias: one for alias, one in self._finding_out.items() if one != cell.id}
        self._trials.end(cell.id)

    def _uncount(self, cell: Cell) -> None:
        for name, amount in self._rests.pop(cell.id, []):
            self._committed[name] -= amount

    # -- money -----------------------------------------------------------------------------------------------------

    def over(self, cell: Cell, speaker: Participant, aside: Aside | None = None) -> list[Ceiling]:
        """Every ceiling that a call of this speaker must fit; who comments on the whole has a budget of his own."""
        comments = aside is not None and aside.kind not in DURING
        of_all, of_model = ("run", "shared"), (f"model:{speaker.alias}", f"provider:{speaker.provider}")
        if aside is not None and comments:
            # The narrowest first: the run is told of only where more money for it would help.
            names = (f"observer:{aside.budget}", *of_model, *of_all)
        else:
            names = (*of_all, *of_model, f"pairing:{cell.pairing}")
        found = [self.ceilings[name] for name in names if name in self.ceilings]
        own = None if comments else self._own_ceiling(cell)
        return found if own is None else [*found, own]

    def _own_ceiling(self, cell: Cell) -> Ceiling | None:
        budget = self._plan.budget
        own = [most for most in (budget.conversation, budget.conversations.get(cell.pairing)) if most is not None]
        if not own:
            return None
        with_listeners = self._state.scopes.get(("conversation", cell.id))
        return Ceiling("the budget of one conversation", with_listeners or self._state.account(cell.id), min(own))

    def passed(self, cells: Sequence[Cell]) -> bool:
        """True when more was spent than a ceiling over all, or over one of these, allows."""
        own = (self._own_ceiling(cell) for cell in cells)
        every = (*self.ceilings.values(), *(ceiling for ceiling in own if ceiling is not None))
        return any(ceiling.account.settled > ceiling.reach for ceiling in every)

    def _in_reach(self, missing: Sequence[Cell], guess: Guess) -> bool:
        if not self.ceilings:
            return False
        likely = dict.fromkeys(self.ceilings, 0)
        for cell, number in self._plan.alike(missing, self._state.cells):
            for name, amount in self._by_ceiling(cell, guess):
                likely[name] += number * amount
        return any(likely[name] > c.reach - c.account.settled for name, c in self.ceilings.items())

    def _estimate(self, cell: Cell) -> _Estimate:
        """The expected cost of a conversation; worked out anew only when a mean has moved."""
        listeners = self._plan.job.prompts[cell.prompt].listeners
        aliases = (*(alias for _, alias in cell.models), *(one.model for one in listeners))
        plain = {alias: self._mean(alias) for alias in aliases}
        means = {alias: self._unknown(alias, cell) if m is None else self._doubted(alias) for alias, m in plain.items()}
        replies = self._state.of(cell.id).replies
        heard = sum(self._state.of(aside.id).lasting for aside in self._plan.after(cell))
        is_over = self._state.of(cell.id).status == "complete"
        key = (*cell.kind, len(replies), is_over, heard, *plain.values(), *means.values())
        found = self._estimates.get(key)
        if found is None:
            conversation = self._plan.conversation(cell)
            unsaid = {x.number for x in conversation.lines if x.number not in replies}
            nobody = {observer.id for observer in conversation.after}
            done = self._loads(cell, expecting(lambda alias: plain[alias] or inf), unsaid, nobody)
            rest = self._by_ceiling(cell, expecting(means.__getitem__))
            found = self._estimates[key] = _Estimate(rest, sum(load.cost for load in done.values()))
        return found

    def _unheard(self, cell: Cell) -> list[str]:
        return [alias for _, alias in cell.models if self._mean(alias) is None]

    def _unknown(self, alias: str, cell: Cell) -> float | None:
        """How long the replies of a model are thought to be that was not heard yet; None for the usual guess.

        They may be as long as they are allowed to: else too many would begin in the first seconds, before anything is
        known. Whoever finds out, or where there is money for all, they are thought to be as long as the longest known.
        """
        if not self._ample and self._finding_out.get(alias, cell.id) != cell.id:
            return inf
        return max((mean for mean in map(self._mean, self._state.tallies) if mean is not None), default=None)

    def _mean(self, alias: str) -> float | None:
        """The mean output of a model, to the next step of two per cent."""
        return self._stepped(alias, 1.0)

    def _doubted(self, alias: str) -> float | None:
        """The same with the doubt that is left."""
        tally = self._state.tallies.get(alias)
        heard = 0 if tally is None else tally.with_figures
        return self._stepped(alias, 1.0 + _FIRST_REPLIES / (heard + _FIRST_REPLIES))

    def _stepped(self, alias: str, times: float) -> float | None:
        tally = self._state.tallies.get(alias)
        mean = None if tally is None else tally.mean_output
        return None if not mean else _STEP ** ceil(log(mean * times) / log(_STEP))

    def _see(self, cell: Cell) -> None:
        """Take in what the turns of a conversation that have their reply would have cost, had they been as foreseen."""
        turns = len(self._state.of(cell.id).replies)
        if turns:
            self._foreseen.see(cell.id, _Seen(turns, self._estimate(cell).done))

    def _by_ceiling(self, cell: Cell, guess: Guess) -> list[tuple[str, Nanos]]:
        """What the rest of a conversation comes to, for each ceiling over several conversations."""
        turns, observers = self._state.done(self._plan.conversation(cell))
        found = self._loads(cell, guess, turns, observers)
        total = sum(load.cost for load in found.values())
        amounts = {"run": total, "shared": total}
        # Who comments on the whole does so at another cost than the pairing's.
        after = {aside.id for aside in self._plan.after(cell)}
        spoken = self._loads(cell, guess, turns, after) if after else found
        amounts[f"pairing:{cell.pairing}"] = sum(load.cost for load in spoken.values())
        for alias, load in found.items():
            for name in (f"model:{alias}", f"provider:{self._plan.models[alias].provider}"):
                amounts[name] = amounts.get(name, 0) + load.cost
        return [(name, amount) for name, amount in amounts.items() if name in self.ceilings]

    def _loads(self, cell: Cell, guess: Guess, done: Container[int], answered: Container[str] = ()) -> dict[str, Load]:
        return loads(self._plan.conversation(cell), self._prices.__getitem__, guess, done, answered)

    # -- the end ---------------------------------------------------------------------------------------------------

    def stopped(self, cell: Cell) -> Stopped | None:
        """Why a conversation has not begun when the life ends; None when it was only not its turn yet."""
        if self._journal.failing is not None:
            return None
        parked = self.parked(cell)
        if parked is not None:
            return Stopped(cell.id, "pending", parked)
        closed = self._gate.why_closed(self._journal)
        if closed is not None:
            return None if closed.status == "interrupted" else Stopped(cell.id, *closed)
        ceiling = self.short_of(cell)
        if ceiling is not None:
            return Stopped(cell.id, "budget", ceiling.name)
        return Stopped(cell.id, *self._gate.shut(self.first_lane(cell)))


def _ceilings(plan: Plan, state: State) -> dict[str, Ceiling]:
    """The ceilings over several conversations, by name."""
    budget = plan.budget
    found: dict[str, Ceiling] = {}
    if budget.run is not None:
        found["run"] = Ceiling(RUN_BUDGET, state.run, budget.run)
    for kind, caps in (("model", budget.models), ("provider", budget.providers)):
        for name, most in caps.items():
            found[f"{kind}:{name}"] = Ceiling(f"the budget of {kind} {name}", state.scope(kind, name), most)
    for kind, name, ids in plan.groups():
        account = state.watch(kind, name, ids)
        if kind == "pairing":
            found[f"pairing:{name}"] = Ceiling(f"the budget of pairing {name}", account, budget.pairings[int(name)])
        elif kind == "observer":
            found[f"observer:{name}"] = Ceiling(f"the budget of observer {name}", account, budget.observers[name])
    return found
