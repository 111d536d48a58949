"""How the conversations of a plan stand, in numbers that follow what changes.

A night looks at these numbers every few seconds. Whoever counted all conversations each time would be busy with nothing
else once there are a hundred thousand of them, of which a handful has changed since.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from runner.plan import Cell, Plan
from runner.state import Progress, State
from runner.status import Status


class Standing(NamedTuple):
    """What is counted of one conversation."""

    status: Status
    reason: str | None
    turns: int = 0
    truncated: int = 0
    refused: int = 0


NOT_BEGUN = Standing("pending", "not begun")


def standing_of(progress: Progress) -> Standing:
    """How a conversation stands, and why."""
    status, reason = progress.status, progress.reason
    if status is None:
        if progress.started is None:
            return NOT_BEGUN
        status, reason = "pending", "under way, or broken off"
    return Standing(status, reason, len(progress.replies), progress.truncated, progress.refused)


class Census:
    """All conversations of a plan, counted."""

    def __init__(self, plan: Plan, state: State) -> None:
        self._plan = plan
        self._state = state
        self._changed = state.follow()
        self._standings: dict[str, Standing] = {}
        self.standings: Counter[tuple[Status, str | None]] = Counter()
        """How many stand how, and why."""
        self.turns = self.truncated = self.refused = 0
        begun = [cell for cell in plan.cells if cell.id in state.cells]
        if len(begun) < len(plan.cells):
            self.standings[NOT_BEGUN.status, NOT_BEGUN.reason] = len(plan.cells) - len(begun)
        for cell in begun:
            self._count(cell, 1, self._standing(cell))

    def follow(self) -> Census:
        """Take in what has changed."""
        for id_ in self._changed:
            cell = self._plan.by_id.get(id_)
            if cell is not None:
                self._count(cell, -1, self._standings.get(id_, NOT_BEGUN))
                self._count(cell, 1, self._standing(cell))
        self._changed.clear()
        return self

    @property
    def statuses(self) -> Counter[Status]:
        found: Counter[Status] = Counter()
        for (status, _), number in self.standings.items():
            found[status] += number
        return found

    @property
    def early(self) -> int:
        """How many are complete although their last planned lines were not said."""
        return sum(n for (status, why), n in self.standings.items() if status == "complete" and why is not None)

    def _standing(self, cell: Cell) -> Standing:
        found = self._standings[cell.id] = standing_of(self._state.of(cell.id))
        return found

    def _count(self, cell: Cell, times: int, standing: Standing) -> None:
        self.standings[standing.status, standing.reason] += times
        if not self.standings[standing.status, standing.reason]:
            del self.standings[standing.status, standing.reason]
        self.turns += times * standing.turns
        self.truncated += times * standing.truncated
        self.refused += times * standing.refused
