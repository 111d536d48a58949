"""Who begins next, and whether the money allows it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from runner.events import Opened, Replied, Sent, Stopped
from runner.gate import Beginning, Gate
from runner.journal import Journal
from runner.limits import Lane, Limits
from runner.money import Price, parse_price
from runner.plan import Cell, make_plan
from runner.roster import Roster
from tests.memory import MemoryDisk
from tests.nights import job_of
from tests.virtual import FixedClock, run_virtual

T = TypeVar("T")

JOB = """
name: job
budget: {budget}
defaults: {{max_tokens: 1000}}
providers:
  p: {{type: openai, base_url: sim}}
  q: {{type: openai, base_url: sim}}
models:
  x: {{use: p/x, price: {{input: 1, output: 10}}}}
  y: {{use: q/y, price: {{input: 1, output: 10}}}}
prompts:
  one: {{opening: "Hello.", rounds: 1}}
  two: {{opening: "Hello again.", rounds: 3}}
pairings:
  - {{prompt: [one, two], a: x, b: y, repeat: 2}}
"""


class Table:
    """A roster over a fresh journal, and the lanes that its models use."""

    def __init__(self, journal: Journal, budget: str) -> None:
        self.plan = make_plan(job_of(JOB.format(budget=budget)), "2026-11-21")
        self.journal = journal
        journal.record(Opened(1, "0", "job", "main", "2026-11-21", "UTC", {}, {}, {}, {}, {}))
        self.lanes = {alias: Lane(alias, Limits(concurrency=4)) for alias in ("x", "y")}
        self.gate = Gate(list(self.lanes.values()), 900.0)
        self.begun: list[str] = []

    def roster(self) -> Roster:
        price = Price(parse_price(1), parse_price(10))
        missing = [c for c in self.plan.cells if not self.journal.state.of(c.id).lasting]
        roster = Roster(self.plan, self.journal, {"x": price, "y": price}, self.lanes, missing, self.gate)
        roster.spawn = self.spawn
        return roster

    def spawn(self, cell: Cell, beginning: Beginning) -> None:
        self.begun.append(cell.name)

    def begin_all(self, roster: Roster) -> list[str]:
        lane = self.lanes["x"]
        while (begin := roster.next_for(lane)) is not None:
            begin(Beginning(self.gate, lane))
        return self.begun

    def reply(self, cell: Cell, turn: int, output: int, cost: int) -> None:
        """A settled turn of this cell, so that the mean output of its model is known."""
        alias, provider, role = ("x", "p", "a") if turn % 2 else ("y", "q", "b")
        state = self.journal.state
        attempt = state.of(cell.id).tried.attempts + 1
        self.journal.record(
            Sent(cell.id, turn, attempt, role, alias, provider, alias, "0" * 64, "openai/1", cost, 9, 1000)
        )
        self.journal.record(
            Replied(cell.id, turn, attempt, "yes", "ok", cost, "priced", cost, {"input": 9, "output": output})
        )


def at_table(budget: str, script: Callable[[Table], T]) -> T:
    async def main() -> T:
        journal = await Journal.open(MemoryDisk(), FixedClock(), Path("/run"), "{}")
        async with journal.writing():
            return script(Table(journal, budget))

    return run_virtual(main)


def test_with_no_ceiling_in_reach_all_begin_in_plan_order() -> None:
    """Breadth first: every prompt once before anything is repeated."""
    names = at_table("100", lambda table: table.begin_all(table.roster()))
    assert names == ["one/x~y", "two/x~y", "one/x~y.r2", "two/x~y.r2"]


def test_what_has_begun_in_an_earlier_life_goes_first() -> None:
    """A conversation already started comes before one that is not."""

    def script(table: Table) -> list[str]:
        for turn in (1, 2):
            table.reply(table.plan.cells[3], turn, 100, 1000)
        return table.begin_all(table.roster())

    assert at_table("100", script) == ["two/x~y.r2", "one/x~y", "two/x~y", "one/x~y.r2"]


def test_under_a_ceiling_only_as_many_begin_as_are_expected_to_end() -> None:
    """Whole conversations: while nothing is known of its models, `one` may cost 0.021 and `two` 0.075."""
    assert at_table("0.120", lambda table: table.begin_all(table.roster())) == ["one/x~y", "two/x~y", "one/x~y.r2"]


def test_the_first_conversation_begins_whatever_it_is_expected_to_cost() -> None:
    """Nothing is known before it: it is how the true length of replies becomes known."""
    assert at_table("0.012", lambda table: table.begin_all(table.roster())) == ["one/x~y"]


def test_short_replies_let_more_conversations_begin() -> None:
    """The expected cost follows what came back, not the output limit."""

    def script(table: Table) -> list[str]:
        for cell in table.plan.cells[:2]:
            for turn in (1, 2):
                table.reply(cell, turn, 20, 1000)
        return table.begin_all(table.roster())

    assert len(at_table("0.120", script)) == 4


def test_what_ends_no_longer_counts_against_the_others() -> None:
    """The expected rest of a conversation is given back when it is over."""

    def script(table: Table) -> tuple[int, int]:
        roster = table.roster()
        before = len(table.begin_all(roster))
        for cell in table.plan.cells:
            roster.release(cell)
        return before, len(table.begin_all(roster))

    assert at_table("0.120", script) == (3, 4)


def test_a_conversation_with_a_parked_model_does_not_begin_and_is_pending() -> None:
    """A dead provider's conversations wait for a later life, and say why."""

    def script(table: Table) -> tuple[list[str], Stopped | None]:
        table.gate.park_lane(table.lanes["y"], "q: HTTP 401")
        roster = table.roster()
        return table.begin_all(roster), roster.stopped(table.plan.cells[0])

    begun, stopped = at_table("100", script)
    assert begun == []
    assert stopped is not None
    assert (stopped.status, stopped.reason) == ("pending", "q: HTTP 401")


def test_what_the_money_kept_from_beginning_is_told_as_budget() -> None:
    """Each conversation that did not begin has its reason; after Ctrl-C it was only not its turn yet."""

    def script(table: Table) -> tuple[Stopped | None, Stopped | None]:
        roster = table.roster()
        table.begin_all(roster)
        short = roster.stopped(roster.waiting[0])
        table.gate.close("interrupted", "stopped by SIGINT")
        return short, roster.stopped(roster.waiting[0])

    short, interrupted = at_table("0.120", script)
    assert short is not None
    assert (short.status, short.reason) == ("budget", "the budget of the run")
    assert interrupted is None
