"""The conversations of a run that have not begun: who is next, and whether the money allows it.

Under a ceiling in reach a conversation begins only while its expected cost fits beside the expected rest of all that
have begun: whole conversations, not a thousand first rounds. The ceilings themselves are kept by the gate, call by
call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from math import ceil, inf, log
from typing import Final

from runner.conversation import Participant
from runner.events import State, Stopped
from runner.forecast import AT_MOST, Guess, expecting, loads
from runner.gate import Beginning, Gate
from runner.journal import Journal
from runner.limits import RUN_BUDGET, Ceiling, Lane
from runner.money import Nanos, Price
from runner.plan import Cell, Plan

_STEP: Final = 1.02


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
        self.begun = 0
        """Conversations that have begun in this life."""
        self.spawn: Callable[[Cell, Beginning], None] | None = None
        self.ceilings = _ceilings(plan, self._state)
        if shared is not None:
            self.ceilings["shared"] = shared
        self._committed = dict.fromkeys(self.ceilings, 0)
        """The expected rest of all that have begun, by ceiling."""
        self._rests: dict[str, list[tuple[str, Nanos]]] = {}
        self._estimates: dict[Hashable, list[tuple[str, Nanos]]] = {}
        self._waiting: dict[str, list[Cell]] = {}
        for cell in sorted(missing, key=lambda cell: (not self._state.of(cell.id).replies, cell.index)):
            self._waiting.setdefault(self.first_lane(cell).name, []).append(cell)
        self.tight = self._in_reach(missing)
        """True when a ceiling is in reach, so that money decides who begins."""

    @property
    def waiting(self) -> list[Cell]:
        """Those that have not begun."""
        return [cell for queue in self._waiting.values() for cell in queue]

    def first_lane(self, cell: Cell) -> Lane:
        """The lane of the first line that is still to be generated."""
        conversation = self._plan.conversation(cell)
        replies = self._state.of(cell.id).replies
        line = next((x for x in conversation.lines if x.given is None and x.number not in replies), None)
        return self._lanes[cell.models[0][1] if line is None else conversation.participant(line.role).alias]

    # -- beginning -------------------------------------------------------------------------------------------------

    def next_for(self, lane: Lane) -> Callable[[Beginning], None] | None:
        """How to begin a conversation whose first call goes to this lane; None when none can begin now."""
        queue = self._waiting.get(lane.name)
        if not queue or self._journal.failing is not None:
            return None
        cell = self._first_that_may(queue)
        if cell is None:
            return None

        def begin(beginning: Beginning) -> None:
            assert self.spawn is not None
            queue.remove(cell)
            self.commit(cell)
            self.begun += 1
            self.spawn(cell, beginning)

        return begin

    def _first_that_may(self, queue: Sequence[Cell]) -> Cell | None:
        refused: set[Hashable] = set()
        for cell in queue:
            # What stopped one stops all that differ from it by their repeat alone.
            scene = (cell.prompt, cell.pairing, cell.models, len(self._state.of(cell.id).replies))
            if scene not in refused:
                if self.parked(cell) is None and self.short_of(cell) is None:
                    return cell
                refused.add(scene)
        return None

    def parked(self, cell: Cell) -> str | None:
        """Why one of its models is not called any more; None when all are."""
        reasons = (self._gate.parked(alias, self._lanes[alias]) for _, alias in cell.models)
        return next((reason for reason in reasons if reason is not None), None)

    def drop(self, cell: Cell) -> None:
        """It will not begin after all."""
        for queue in self._waiting.values():
            if cell in queue:
                queue.remove(cell)

    def short_of(self, cell: Cell) -> Ceiling | None:
        """The ceiling that leaves no room for a conversation's expected cost; None when it may begin."""
        if not self.tight or self.begun == 0:
            # The first one always begins: it is how the true length of replies becomes known.
            return None
        for name, amount in self._expected(cell):
            ceiling = self.ceilings[name]
            if ceiling.account.settled + self._committed[name] + amount > ceiling.reach:
                return ceiling
        return None

    def commit(self, cell: Cell) -> None:
        """Count the expected rest of a conversation, in place of what was counted for it before."""
        self.release(cell)
        if self.tight:
            self._rests[cell.id] = self._expected(cell)
            for name, amount in self._rests[cell.id]:
                self._committed[name] += amount

    def release(self, cell: Cell) -> None:
        """Count nothing for it any more."""
        for name, amount in self._rests.pop(cell.id, []):
            self._committed[name] -= amount

    # -- money -----------------------------------------------------------------------------------------------------

    def over(self, cell: Cell, speaker: Participant) -> list[Ceiling]:
        """Every ceiling that a call of this speaker must fit."""
        names = ("run", "shared", f"pairing:{cell.pairing}", f"model:{speaker.alias}", f"provider:{speaker.provider}")
        found = [self.ceilings[name] for name in names if name in self.ceilings]
        own = self._own_ceiling(cell)
        return found if own is None else [*found, own]

    def _own_ceiling(self, cell: Cell) -> Ceiling | None:
        budget = self._plan.budget
        own = [most for most in (budget.conversation, budget.conversations.get(cell.pairing)) if most is not None]
        return Ceiling("the budget of one conversation", self._state.account(cell.id), min(own)) if own else None

    def passed(self, cells: Sequence[Cell]) -> bool:
        """True when more was spent than a ceiling over all, or over one of these, allows."""
        own = (self._own_ceiling(cell) for cell in cells)
        every = (*self.ceilings.values(), *(ceiling for ceiling in own if ceiling is not None))
        return any(ceiling.account.settled > ceiling.reach for ceiling in every)

    def _in_reach(self, missing: Sequence[Cell]) -> bool:
        if not self.ceilings:
            return False
        likely = dict.fromkeys(self.ceilings, 0)
        for cell in missing:
            for name, amount in self._by_ceiling(cell, AT_MOST):
                likely[name] += amount
        return any(likely[name] > c.reach - c.account.settled for name, c in self.ceilings.items())

    def _expected(self, cell: Cell) -> list[tuple[str, Nanos]]:
        """The expected cost of the rest of a conversation; worked out anew only when a mean has moved."""
        # A model not heard yet may use all it is allowed: with the usual guess too many would begin in the first
        # seconds, before anything is known.
        means = {alias: self._mean(alias) or inf for _, alias in cell.models}
        key = (cell.prompt, cell.pairing, cell.models, len(self._state.of(cell.id).replies), tuple(means.values()))
        found = self._estimates.get(key)
        if found is None:
            found = self._estimates[key] = self._by_ceiling(cell, expecting(means.__getitem__))
        return found

    def _mean(self, alias: str) -> float | None:
        """The mean output of a model, to the next step of two per cent."""
        tally = self._state.tallies.get(alias)
        mean = None if tally is None else tally.mean_output
        return None if not mean else _STEP ** ceil(log(mean) / log(_STEP))

    def _by_ceiling(self, cell: Cell, guess: Guess) -> list[tuple[str, Nanos]]:
        """What the rest of a conversation comes to, for each ceiling over several conversations."""
        done = self._state.of(cell.id).replies
        found = loads(self._plan.conversation(cell), self._prices.__getitem__, guess, done)
        total = sum(load.cost for load in found.values())
        amounts = {"run": total, "shared": total, f"pairing:{cell.pairing}": total}
        for alias, load in found.items():
            for name in (f"model:{alias}", f"provider:{self._plan.models[alias].provider}"):
                amounts[name] = amounts.get(name, 0) + load.cost
        return [(name, amount) for name, amount in amounts.items() if name in self.ceilings]

    # -- the end ---------------------------------------------------------------------------------------------------

    def stopped(self, cell: Cell) -> Stopped | None:
        """Why a conversation has not begun when the life ends; None when it was only not its turn yet."""
        if self._journal.failing is not None:
            return None
        parked = self.parked(cell)
        if parked is not None:
            return Stopped(cell.id, "pending", parked)
        closed = self._gate.closed
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
    cells: dict[int, list[str]] = {number: [] for number in budget.pairings}
    for cell in plan.cells:
        if cell.pairing in cells:
            cells[cell.pairing].append(cell.id)
    for number, most in budget.pairings.items():
        account = state.watch("pairing", str(number), cells[number])
        found[f"pairing:{number}"] = Ceiling(f"the budget of pairing {number}", account, most)
    return found
