"""The fold of events: money is counted once, in every account it belongs to; what cannot have happened is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields, replace
from gc import get_referents
from pathlib import Path
from sys import getsizeof
from typing import Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from runner.call import Money
from runner.conversation import Aside, Conversation, Line, Participant
from runner.events import (
    KINDS,
    Closed,
    Engaged,
    Event,
    Failed,
    Repaired,
    Replied,
    Settled,
    Started,
    Stopped,
    from_data,
    to_data,
)
from runner.journal import FILE, Journal, decode, encode
from runner.lines import split
from runner.state import Account, CallId, Done, HistoryError, Place, Places, Progress, State
from runner.status import STATUSES, Status
from tests.histories import branch, everything, fail, heard, opened, reply, sent
from tests.memory import MemoryDisk
from tests.virtual import FixedClock, run_virtual

# --- places ------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 12), st.integers(0, 2**62), st.integers(1, 2**40))))
def test_the_places_of_turns_are_kept_as_in_any_mapping(steps: list[tuple[bool, int, int, int]]) -> None:
    """Put and dropped in any order, each is found again, and they come in the order of the turns."""
    places, plain = Places(), dict[int, Place]()
    for is_put, turn, offset, size in steps:
        if is_put:
            places.put(turn, Place(offset, size))
            plain[turn] = Place(offset, size)
        else:
            places.drop(turn)
            plain.pop(turn, None)
        assert places == plain and len(places) == len(plain) and list(places) == sorted(plain)
        assert [places.get(turn) for turn in range(15)] == [plain.get(turn) for turn in range(15)]
        assert places.in_order() == sorted(plain.items())


@given(st.lists(st.tuples(st.sampled_from(["put", "drop", "tell"]), st.integers(1, 12), st.integers(0, 2**62))))
def test_whoever_takes_in_the_news_of_places_has_the_same(steps: list[tuple[str, int, int]]) -> None:
    """However they changed since the last time; and what was told is no news."""
    places, others = Places(), Places()
    for step, turn, offset in steps:
        match step:
            case "put":
                places.put(turn, Place(offset, 1))
            case "drop":
                places.drop(turn)
            case _:
                others.take(*places.news())
                assert others == places and others.in_order() == places.in_order()
                assert places.news() == others.news() == (3 * len(places), [])


def test_what_is_kept_of_a_turn_is_a_few_bytes() -> None:
    """A thousand turns take less than sixty bytes each: a run has millions of them."""
    progress = Progress()
    for turn in range(1, 1001):
        progress.replies.put(turn, Place(10**9 + turn, 1000))
        progress.sents.put(turn, Place(10**9 + turn, 1000))
    held = [kept for places in (progress.replies, progress.sents) for kept in get_referents(places)]
    assert sum(map(getsizeof, held)) < 60 * 1000


# --- the fold ----------------------------------------------------------------------------------------------------


def fold(*events: Event, at: float = 0.0, state: State | None = None) -> State:
    state = state or State()
    for number, event in enumerate(events):
        state.apply(event, at, Place(100 * number, 100))
    return state


def amounts(account: Account) -> tuple[int, int, int]:
    return account.settled, account.reserved, account.assumed


IMPOSSIBLE: dict[str, tuple[Sequence[Event], str]] = {
    "two calls at once": ([sent(), sent(turn=2)], "sent turn 2 while turn 1 was open"),
    "the same call twice": ([sent(), sent()], "while turn 1 was open"),
    "a turn bought twice": ([sent(), reply(), sent()], "which has its reply"),
    "an attempt left out": ([sent(attempt=2)], "sent attempt 2 at turn 1 after 0"),
    "an attempt made twice": ([sent(), fail(), sent()], "sent attempt 1 at turn 1 after 1"),
    "a reply to nothing": ([reply()], "never sent"),
    "a failure of nothing": ([fail()], "never sent"),
    "two replies": ([sent(), reply(), reply()], "two replies"),
    "a reply to another attempt": ([sent(), reply(attempt=2)], "ended, but 1.1 is open"),
    "a reply to another turn": ([sent(), reply(turn=2)], "ended, but 1.1 is open"),
    "nothing settled": ([sent(), reply(), Settled("x", 1, 1, 5, "")], "nothing was assumed"),
    "a life left out": ([opened(2)], "life 2 opened after life 0"),
    "a life begun twice": ([opened(1), opened(1)], "life 1 opened after life 1"),
    "a life closed twice": ([opened(1), Closed(1, 0), Closed(1, 0)], "it was not open"),
    "another life closed": ([opened(1), Closed(2, 0)], "it was not open"),
    "a letter while a call is open": ([sent(), heard()], "heard turn 1 while a call was open"),
    "a letter after a reply": ([sent(), reply(), heard()], "heard turn 1, which has its reply"),
    "a call after a letter": ([heard(), sent()], "which has its reply"),
    "a branch of nobody": ([branch()], "branched from x, which nothing before it names"),
    "a branch that was there": ([sent(), branch(cell="x")], "branched, but was there before"),
    "a call for a turn that is carried": ([sent(), reply(), branch(), sent("y")], "which has its reply"),
    "a reopened stranger": ([opened(1, reopened=("nobody",))], "nobody"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_have_happened_is_refused(case: str) -> None:
    """A journal that tells it is not believed."""
    events, why = IMPOSSIBLE[case]
    fold(*events[:-1])
    with pytest.raises(HistoryError, match=why):
        fold(*events)


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_after_a_repair_nothing_is_refused_that_lost_lines_explain(case: str) -> None:
    """The run can go on; only a life that is not a later one stays impossible."""
    events, _ = IMPOSSIBLE[case]
    if case == "a life begun twice":
        with pytest.raises(HistoryError):
            fold(Repaired(3, 1000), *events)
        return
    state = fold(Repaired(3, 1000), *events)
    known = sum(e.cost for e in events if isinstance(e, Replied | Failed))
    assert state.run.held >= 1000 + known


def test_a_reservation_becomes_its_cost() -> None:
    """Held from the moment of `Sent`, settled by the outcome, in all five places."""
    state = State()
    group = state.watch("pairing", "0", ["x", "y"])
    accounts = [state.run, state.account("x"), group, state.scope("model", "ada"), state.scope("provider", "east")]
    fold(sent(), state=state)
    assert [amounts(account) for account in accounts] == [(0, 100, 0)] * 5
    fold(reply(), state=state)
    assert [amounts(account) for account in accounts] == [(60, 0, 0)] * 5
    fold(sent(turn=2), fail(turn=2, cost=100, money="assumed", kind="lost"), state=state)
    assert [amounts(account) for account in accounts] == [(160, 0, 100)] * 5


def test_a_group_that_is_watched_late_begins_with_what_there_is() -> None:
    """And is kept up to date from then on; other cells are none of it."""
    state = fold(sent(), reply(), sent("y", reserved=30), sent("z", reserved=5))
    group = state.watch("pairing", "1", ["x", "y", "later"])
    assert amounts(group) == (60, 30, 0)
    fold(reply("y", cost=20), sent("later", reserved=7), state=state)
    assert amounts(group) == (80, 7, 0)
    assert state.scope("pairing", "1") is group


def test_nothing_less_than_nothing_is_reserved() -> None:
    """It would leave room for more than a ceiling allows, and no repair makes it right."""
    for before in ((), (Repaired(3, 0),)):
        with pytest.raises(HistoryError, match="sent turn 1 with less than nothing reserved"):
            fold(*before, sent(reserved=-1))


def test_a_new_life_takes_up_what_is_neither_complete_nor_failed() -> None:
    """Other statuses are cleared, with their reasons."""
    stops = [Stopped(status, status, "why") for status in STATUSES]
    state = fold(opened(1), *stops, Closed(1, 3), opened(2))
    assert {name: state.of(name).status for name in STATUSES} == dict.fromkeys(STATUSES) | {
        "complete": "complete",
        "failed": "failed",
    }
    assert state.of("failed").reason == "why"
    assert state.of("budget").reason is None


def test_a_life_about_some_leaves_the_others_as_they_stand() -> None:
    """With their status, its reason and what was tried; a life about nothing that has begun changes nothing at all."""
    stops = [Stopped("x", "pending", "provider"), Stopped("y", "budget", "money")]
    state = fold(opened(1), sent(), fail(kind="error"), *stops, Closed(1, 4))
    fold(opened(2, about=()), Closed(2, 0), state=state)
    assert (state.of("x").status, state.of("x").tried.kinds) == ("pending", {"error": 1})
    fold(opened(3, about=("x", "z")), state=state)
    assert (state.of("x").status, state.of("x").tried.kinds) == (None, {})
    assert (state.of("y").status, state.of("y").reason) == ("budget", "money")


def test_a_failed_conversation_is_reopened_by_name() -> None:
    """Its tries begin anew, but no attempt number is used twice."""
    state = fold(opened(1), sent(), fail(kind="empty"), Stopped("x", "failed", "why"), Closed(1, 3))
    fold(opened(2, reopened=("x",)), state=state)
    progress = state.of("x")
    assert (progress.status, progress.reason, progress.ended) == (None, None, None)
    assert progress.tried.kinds == {}
    fold(sent(attempt=2), state=state)


def test_a_new_life_forgives_the_provider_and_remembers_the_rest() -> None:
    """Errors and busy answers of a bad hour do not fail a turn in a better one; what may have been paid counts on."""
    events: list[Event] = [sent(), fail(busy=True), sent(attempt=2), fail(attempt=2)]
    events += [sent(attempt=3), fail(attempt=3, kind="lost")]
    state = fold(opened(1), *events, Stopped("x", "pending", "provider"), Closed(1, 3))
    assert (state.of("x").tried.busy, state.of("x").tried.kinds) == (1, {"error": 1, "lost": 1})
    fold(opened(2), state=state)
    assert (state.of("x").tried.busy, state.of("x").tried.kinds, state.of("x").tried.attempts) == (0, {"lost": 1}, 3)


def test_a_call_in_flight_at_a_crash_stays_open_until_it_is_called_lost() -> None:
    """Its reservation stays charged through the next opening, and a crash in the midst of that changes nothing."""
    state = fold(opened(1), sent(), opened(2), opened(3))
    assert [call.sent.cell for call in state.open_calls()] == ["x"]
    assert amounts(state.run) == (0, 100, 0)
    fold(fail(kind="lost", cost=100, money="assumed"), sent(attempt=2), state=state)
    assert amounts(state.run) == (100, 100, 100)


def test_a_life_is_open_until_it_is_closed() -> None:
    """A crash leaves it open, and the next one opens its own."""
    assert not State().is_open
    assert fold(opened(1)).is_open
    assert not fold(opened(1), Closed(1, 0)).is_open
    assert fold(opened(1), opened(2)).is_open
    assert not fold(opened(1), opened(2), Closed(2, 0)).is_open
    assert fold(opened(1), Repaired(4, 0), Closed(2, 0), opened(3)).is_open


def test_the_first_byte_tells_the_providers_own_id() -> None:
    """Of the call that is open, and of no other."""
    state = fold(sent(turn=3), Started("x", 3, 1, "gen-1"), Started("x", 2, 1, "no"), Started("y", 3, 1, "no"))
    call = state.of("x").open
    assert call is not None
    assert call.generation == "gen-1"


def test_tries_are_counted_by_kind_until_the_turn_has_its_reply() -> None:
    """Busy answers apart; a dropped parameter costs none, but one that was refused without being sent does."""
    state = fold(
        sent(),
        fail(busy=True),
        sent(attempt=2),
        fail(attempt=2, parameter="seed"),
        sent(attempt=3, dropped=("seed",)),
        fail(attempt=3, kind="empty"),
        sent(attempt=4, dropped=("seed",)),
        fail(attempt=4, parameter="seed"),
    )
    tried = state.of("x").tried
    assert (tried.attempts, tried.busy, tried.kinds) == (4, 1, {"empty": 1, "error": 1})
    fold(sent(attempt=5), reply(attempt=5), state=state)
    assert state.of("x").tried.attempts == 0
    assert state.of("x").sents == {1: Place(0, 100)}


def test_a_parameter_that_a_model_refuses_is_known_for_all() -> None:
    """By alias, each once, in the order in which they were learned."""
    state = fold(
        *(sent(), fail(parameter="seed"), sent("y"), fail("y", parameter="seed")),
        *(sent(attempt=2), fail(attempt=2, parameter="top_p"), sent("z", alias="zoe"), fail("z", parameter="seed")),
    )
    assert state.dropped == {"ada": ("seed", "top_p"), "zoe": ("seed",)}


def test_flags_count_the_replies_that_were_not_ok() -> None:
    """Truncated and refused, each for itself; a failed attempt is no flag."""
    state = fold(
        *(sent(), reply(finish="truncated"), sent(turn=2), reply(turn=2, finish="refused")),
        *(sent(turn=3), fail(turn=3, kind="truncated"), sent(turn=3, attempt=2), reply(turn=3, attempt=2)),
    )
    assert (state.of("x").truncated, state.of("x").refused) == (1, 1)


def test_a_tally_counts_what_came_back_and_what_it_says() -> None:
    """Sources of cost apart, figures with their coverage, and differences above two per cent."""
    both = {"input": 5, "output": 6, "reasoning": 2, "cost": 103}
    state = fold(
        *(sent(), replace(reply(cost=103, source="reported", usage=both), computed=100)),
        *(sent(turn=2), replace(reply(turn=2, cost=102, source="reported", usage={**both, "cost": 102}), computed=100)),
        *(sent(turn=3), reply(turn=3, cost=100, source="unknown", usage={}, overrun=True)),
        *(sent(turn=4), fail(turn=4, busy=True), sent(turn=4, attempt=2), fail(turn=4, attempt=2, kind="empty")),
    )
    tally = state.tallies["ada"]
    assert (tally.provider, tally.calls, tally.replies, tally.with_figures) == ("east", 5, 3, 2)
    assert (tally.input, tally.output, tally.reasoning, tally.mean_output) == (10, 12, 4, 6.0)
    assert (tally.reported, tally.priced, tally.assumed_calls) == (205, 0, 1)
    assert (tally.compared, tally.compared_reported, tally.compared_computed) == (1, 103, 100)
    assert tally.failures == {"busy": 1, "empty": 1}
    assert tally.overrun


def test_counts_that_are_not_trusted_are_in_no_sum() -> None:
    """Neither in the tally nor as the beginning of the next bound."""
    state = fold(sent(), reply(usage={"input": 5, "output": 6, "trusted": False}))
    assert (state.tallies["ada"].with_figures, state.tallies["ada"].mean_output) == (0, None)
    assert state.of("x").reported_input == {}


def test_requests_of_the_last_minute_and_day_are_known() -> None:
    """For lanes that open warm; what is older is forgotten."""
    state = State()
    for number, at in enumerate((0.0, 100.0, 130.0, 170.0)):
        fold(sent(f"c{number}"), at=at, state=state)
    assert [recent.at for recent in state.recent] == [130.0, 170.0]
    assert state.day_minutes == {("east", "ada"): {0: 1, 1: 1, 2: 2}}


def test_a_repair_is_counted_in_the_run_and_in_nothing_else() -> None:
    """Nobody knows any more whose money it was; even when it was none, the run remembers that lines are missing."""
    state = fold(Repaired(5, 300), Repaired(9, 0))
    assert amounts(state.run) == (300, 0, 300)
    assert sum(one.cost for one in state.repaired) == 300
    assert fold(Repaired(9, 0)).repaired


def test_after_a_repair_a_lost_reply_is_asked_for_again_with_all_that_followed() -> None:
    """What was built on it is void, with its flags and counts; the money stays spent."""
    state = fold(
        *(sent(), reply(), sent(turn=2), Repaired(9, 100)),
        *(sent(turn=3), reply(turn=3, finish="truncated"), Stopped("x", "pending")),
    )
    assert (sorted(state.of("x").replies), state.of("x").truncated) == ([1, 3], 1)
    assert amounts(state.run) == (60 + 100 + 100 + 60, 0, 200)
    fold(sent(turn=2), state=state)
    assert (sorted(state.of("x").replies), state.of("x").truncated) == ([1], 0)
    assert state.of("x").reported_input == {}
    fold(reply(turn=2), sent(turn=3), reply(turn=3), state=state)
    assert state.run.held == 60 + 100 + 100 + 60 + 60 + 60


# --- the ledger, with a journal and a provider that bills ------------------------------------------------------------

CELLS, MODELS, HOME = ("x", "y", "z"), ("ada", "bo", "zoe"), Path("/run")


def parts(state: State) -> dict[str, tuple[int, int, int]]:
    """Every sum that must be the same as the run's."""
    lost = sum(one.cost for one in state.repaired)

    def total(accounts: Sequence[Account]) -> tuple[int, int, int]:
        settled, reserved, assumed = (sum(column) for column in zip(*map(amounts, accounts), strict=True))
        return settled + lost, reserved, assumed + lost

    none = [Account()]
    return {
        "cells": total([*none, *(progress.account for progress in state.cells.values())]),
        "models": total([*none, *(a for (kind, _), a in state.scopes.items() if kind == "model")]),
        "providers": total([*none, *(a for (kind, _), a in state.scopes.items() if kind == "provider")]),
        "days": total([*none, *state.days.values()]) if not state.repaired else amounts(state.run),
        "spending": total([*none, *state.spending.values()]),
        "groups": total([*none, *(a for (kind, _), a in state.scopes.items() if kind == "pairing")]),
    }


class Ledger(RuleBasedStateMachine):
    """A run over many lives, against a provider that bills what it likes within each reservation."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryDisk(sync_seconds=(0, 0))
        self.billed = 0
        self.life = 0
        self.queue: list[Event] = []
        self.kept: list[Event] = []
        self.truth: dict[str, int] = {}
        self.bills: dict[tuple[str, int, int], int] = {}
        self.state = State()
        self.open()

    def open(self) -> None:
        self.life += 1
        self.record(opened(self.life, day=f"2026-11-{20 + self.life // 2:02}"))
        for call in list(self.state.open_calls()):
            one = call.sent
            self.record(fail(one.cell, one.turn, one.attempt, one.reserved, kind="lost", money="assumed"))
        self.truth.clear()
        self.sync()

    def record(self, event: Event) -> None:
        self.state.apply(event, 0.0, Place(0, 1))
        self.queue.append(event)

    def sync(self) -> None:
        """Put down what was recorded, through a real journal, and take its state for ours."""
        events, self.queue = self.queue, []

        async def put() -> State:
            self.disk = self.disk.survivor()
            journal = await Journal.open(self.disk, FixedClock(), HOME, "me")
            async with journal.writing():
                for event in events:
                    journal.record(event)
                await journal.flushed()
            journal.close()
            return journal.state

        self.state = run_virtual(put)
        self.kept += events
        self.state.watch("pairing", "0", CELLS[:1])
        self.state.watch("pairing", "1", CELLS[1:])

    @rule(
        cell=st.sampled_from(CELLS),
        alias=st.sampled_from(MODELS),
        reserved=st.integers(0, 1000),
        part=st.integers(0, 4),
    )
    def send(self, cell: str, alias: str, reserved: int, part: int) -> None:
        """`Sent` is durable before the provider hears of it, and bills up to the reservation at once."""
        progress = self.state.of(cell)
        if progress.open is None:
            turn, attempt = len(progress.replies) + 1, progress.tried.attempts + 1
            self.record(sent(cell, turn, attempt, reserved, alias))
            self.sync()
            self.truth[cell] = self.bills[cell, turn, attempt] = reserved * part // 4
            self.billed += self.truth[cell]

    @rule(cell=st.sampled_from(CELLS), known=st.booleans(), durable=st.booleans())
    def answer(self, cell: str, known: bool, durable: bool) -> None:
        """The truth is told, or nothing is and the reservation stays; its line may be lost in a crash."""
        call = self.state.of(cell).open
        if call is not None and cell in self.truth:
            one, cost = call.sent, self.truth.pop(cell)
            source = "priced" if known else "unknown"
            self.record(reply(cell, one.turn, one.attempt, cost if known else one.reserved, source=source))
            if durable:
                self.sync()

    @rule(cell=st.sampled_from(CELLS), money=st.sampled_from(["free", "known", "assumed"]), durable=st.booleans())
    def trouble(self, cell: str, money: Money, durable: bool) -> None:
        """A failure: free only where the provider billed nothing."""
        call = self.state.of(cell).open
        if call is not None and cell in self.truth and (money != "free" or self.truth[cell] == 0):
            one, cost = call.sent, self.truth.pop(cell)
            charged = one.reserved if money == "assumed" else cost
            self.record(fail(cell, one.turn, one.attempt, charged, money=money))
            if durable:
                self.sync()

    @precondition(lambda self: self.state.unsettled or self.state.settled)
    @rule(data=st.data(), durable=st.booleans())
    def settle(self, data: st.DataObject, durable: bool) -> None:
        """Evidence that a call cost what the provider billed for it, or more; also once more."""
        call = data.draw(st.sampled_from([*self.state.unsettled, *self.state.settled]))
        cost = self.bills[call] + data.draw(st.integers(0, 10))
        self.record(Settled(*call, cost, "a bill"))
        if durable:
            self.sync()

    @rule(kept=st.integers(0, 3))
    def crash(self, kept: int) -> None:
        """What was not durable may be gone; the next life counts what was in flight."""
        self.queue = self.queue[:kept]
        self.sync()
        self.open()

    @precondition(lambda self: not self.queue)
    @rule()
    def close(self) -> None:
        """An orderly end: whatever flies is counted as lost first."""
        for call in list(self.state.open_calls()):
            one = call.sent
            self.record(fail(one.cell, one.turn, one.attempt, one.reserved, kind="lost", money="assumed"))
        self.record(Closed(self.life, 0))
        self.sync()
        self.open()

    @invariant()
    def what_was_billed_is_held(self) -> None:
        assert self.state.run.held >= self.billed

    @invariant()
    def every_account_is_the_sum_of_its_parts(self) -> None:
        found = parts(self.state)
        assert found == dict.fromkeys(found, amounts(self.state.run))

    def teardown(self) -> None:
        """The file tells what was kept, and nothing else."""
        told = [decode(line, offset) for offset, line, _ in split(self.disk, HOME / FILE)]
        assert [record.event for record in told if record is not None] == self.kept


TestLedger = Ledger.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestLedger.__doc__ = "Settled and reserved together are never below what the provider billed, whatever crashes when."


@pytest.mark.parametrize(("status", "kept"), [("complete", False), ("failed", True), ("interrupted", True)])
def test_what_only_a_next_call_would_ask_for_is_kept_until_all_is_said(status: Status, kept: bool) -> None:
    """How much its speakers were shown, and what a provider counted of that: all but a complete one may go on."""
    state = fold(sent(left_out=2), reply(), sent(turn=2), reply(turn=2), sent(turn=3, left_out=1), reply(turn=3))
    assert state.of("x").left_out == {"a": 1} and state.of("x").reported_input == {"a": (3, 5, 1)}
    fold(Stopped("x", status), state=state)
    assert bool(state.of("x").left_out) is bool(state.of("x").reported_input) is kept
    assert len(state.of("x").replies) == len(state.of("x").sents) == 3


def test_a_progress_that_nobody_began_is_empty() -> None:
    """Asking for it creates nothing."""
    state = State()
    assert state.of("x") == Progress()
    assert state.cells == {}


MENDED: Final[Sequence[Event]] = [
    *(
        Repaired(9, 500),
        reply(),
        fail("y", cost=3),
        opened(4),
        sent(),
        sent(attempt=3),
        reply(attempt=2),
        reply(turn=2),
    ),
    *(reply(turn=2), sent(turn=2), heard(turn=2), reply(turn=3, finish="refused"), Started("q", 1, 1, "g"), heard()),
]


@pytest.mark.parametrize("history", [everything(), MENDED], ids=["sound", "mended"])
def test_a_record_is_folded_as_its_event_is(history: Sequence[Event]) -> None:
    """Events applied one by one come to the state that their records come to when they are read back."""
    assert history is MENDED or {event.kind for event in history} == set(KINDS) - {"repaired"}
    apart, read = State(), State()
    takers = read.takers()
    for number, event in enumerate(history, 1):
        apart.apply(event, 0.5 * number, Place(100 * number, 100))
        record = orjson.loads(encode(number, 0.5 * number, event))
        takers[event.kind](record, record["at"], 100 * number, 100)
        assert read == apart
        assert [call.sent for call in read.open_calls()] == [call.sent for call in apart.open_calls()]


@pytest.mark.parametrize("event", [sent(), Started("x", 1, 1, "g"), reply()], ids=lambda event: str(event.kind))
def test_a_record_without_one_of_its_fields_is_not_folded(event: Event) -> None:
    """Also where the fold has no use for the field: the state stays as it was."""
    record = to_data(event)
    for name in [f.name for f in fields(event) if f.default is MISSING and f.default_factory is MISSING]:
        state = State()
        with pytest.raises(KeyError, match=name):
            state.takers()[event.kind]({key: said for key, said in record.items() if key != name}, 0.0, 0, 1)
        assert state == State()


# --- days, and what became known later -------------------------------------------------------------------------------


def test_money_belongs_to_the_day_of_the_life_that_reserved_it() -> None:
    """Also when its outcome is told by a later life; where a life does not name its day, its date is meant."""
    state = fold(opened(day="2026-11-20"), sent(), sent("y", alias="zoe"), reply(cost=30), Closed(1, 3))
    fold(opened(2), fail("y", cost=100, money="assumed"), sent("z", reserved=7), state=state)
    assert {day: amounts(account) for day, account in state.days.items()} == {
        "2026-11-20": (130, 0, 100),
        "2026-11-21": (0, 7, 0),
    }
    assert {key: amounts(account) for key, account in state.spending.items()} == {
        ("2026-11-20", "east", "m"): (30, 0, 0),
        ("2026-11-20", "west", "m"): (100, 0, 100),
        ("2026-11-21", "east", "m"): (0, 7, 0),
    }


def test_what_was_assumed_is_listed_until_it_is_settled_and_then_counts_what_it_cost() -> None:
    """In every account it belongs to, on the day it was reserved; the turn shows the corrected figure."""
    state = fold(opened(day="2026-11-20"), sent(), Started("x", 1, 1, "gen-1"), fail(cost=100, money="assumed"))
    fold(sent(attempt=2), reply(attempt=2, cost=100, source="unknown"), Closed(1, 0), opened(2), state=state)
    assert [(call, known.cost, known.generation, known.day) for call, known in state.unsettled.items()] == [
        (("x", 1, 1), 100, "gen-1", "2026-11-20"),
        (("x", 1, 2), 100, None, "2026-11-20"),
    ]
    fold(Settled("x", 1, 1, 0, "not billed"), Settled("x", 1, 2, 120, "the bill"), state=state)
    for account in (state.run, state.of("x").account, state.scope("model", "ada"), state.day("2026-11-20")):
        assert amounts(account) == (120, 0, 0)
    assert state.unsettled == {} and state.of("x").corrected == {(1, 1): 0, (1, 2): 120}
    assert state.tallies["ada"].assumed_calls == 0 and state.tallies["ada"].overrun
    assert state.tallies["ada"].reported == 120


def test_of_several_settlements_of_a_call_the_last_one_stands() -> None:
    """In every account; a slip above the reservation that was put right is no overrun."""
    state = fold(opened(), sent(), fail(cost=100, money="assumed"), sent(attempt=2), reply(attempt=2, cost=30))
    fold(Settled("x", 1, 1, 7000, "a slip"), state=state)
    assert amounts(state.run) == (7030, 0, 0)
    assert state.tallies["ada"].overruns == 1
    fold(Settled("x", 1, 1, 50, "the bill"), Settled("x", 1, 1, 40, "the credit note"), state=state)
    for account in (state.run, state.of("x").account, state.scope("model", "ada")):
        assert amounts(account) == (70, 0, 0)
    assert (state.tallies["ada"].reported, state.tallies["ada"].assumed_calls) == (40, 0)
    assert state.tallies["ada"].overruns == 0
    assert state.of("x").corrected == {(1, 1): 40}
    assert [(call, known.cost) for call, known in state.settled.items()] == [(("x", 1, 1), 40)]


def test_what_was_spent_before_any_known_life_belongs_to_the_first_that_is_known() -> None:
    """A repair may have taken the place of the record that named the day."""
    state = fold(Repaired(3, 500), sent(), reply(cost=30, source="unknown"), sent(turn=2))
    fold(opened(4, day="2026-11-20"), state=state)
    assert {day: amounts(account) for day, account in state.days.items()} == {"2026-11-20": (530, 100, 530)}
    assert amounts(state.run) == (530, 100, 530)
    assert {key[0] for key in state.spending} == {"2026-11-20"}
    assert state.unsettled[CallId("x", 1, 1)].day == "2026-11-20"
    fold(fail(turn=2, cost=100, money="assumed"), Settled("gone", 1, 1, 0, ""), state=state)
    assert amounts(state.day("2026-11-20")) == amounts(state.run) == (630, 0, 630)


# --- lines from outside, branches, observers -----------------------------------------------------------------------


def test_a_letter_is_a_line_that_costs_nothing() -> None:
    """It begins and goes on like any other, and counts in no tally."""
    state = fold(heard(), at=5.0)
    progress = state.of("x")
    assert (dict(progress.replies), progress.started, progress.ended) == ({1: Place(0, 100)}, 5.0, 5.0)
    assert state.run.held == 0 and state.tallies == {} and list(state.open_calls()) == []
    fold(sent(turn=2), fail(turn=2), sent(turn=2, attempt=2), state=state)
    assert state.of("x").tried.attempts == 2
    assert fold(heard(finish="truncated")).of("x").flagged == {1: "truncated"}


def test_a_branch_has_the_first_lines_of_its_origin_and_none_of_its_money() -> None:
    """Replies, their calls and flags up to the last line in common; what comes after is the branch's own."""
    state = fold(
        sent(), fail(), sent(attempt=2), reply(attempt=2, finish="truncated"), sent(turn=2), reply(turn=2), branch(1)
    )  # fmt: skip
    mine, its = state.of("y"), state.of("x")
    assert mine.replies == {1: its.replies[1]} and mine.flagged == {1: "truncated"}
    assert mine.sents == {1: its.sents[1]} == {1: Place(200, 100)} and mine.account.held == 0 and mine.carried == 1
    assert (mine.started, mine.status) == (None, None)
    assert state.additions.branches == (branch(1),)
    fold(sent("y", 2), reply("y", 2, cost=7), state=state)
    assert mine.account.held == 7 and its.account.held == 120 and its.replies[2] != mine.replies[2]


def test_a_branch_is_taken_up_by_the_next_life() -> None:
    """It is neither complete nor failed, so nobody has to name it."""
    state = fold(opened(), sent(), reply(), Stopped("x", "complete"), Closed(1, 0), branch(), opened(2))
    assert state.of("y").status is None and state.of("x").status == "complete"


def test_a_branch_whose_origin_was_lost_begins_anew() -> None:
    """After a repair; it is known all the same."""
    state = fold(Repaired(3, 1000), branch(4))
    assert state.of("y").replies == {} and state.branches["y"] == branch(4)


def test_who_is_engaged_stays_so() -> None:
    """In the order in which they were."""
    one, other = Engaged(("p",), {"model": "ada"}), Engaged(("q",), {"model": "bo"})
    assert fold(one, other).additions.engaged == (one, other)


def test_what_needs_no_call_any_more_is_known() -> None:
    """The turns with a reply, or all of what is complete; the observers who are at their end."""
    observers = tuple(Aside(f"o{n}", "notes", Participant("observer", "O", True), "?") for n in range(3))
    lines = tuple(Line(n, 1, "a") for n in (1, 2, 3))
    one = Conversation("x", "p/a", "p", 1, (), lines, after=observers)
    events: list[Event] = [sent(), reply(), Stopped("o0", "failed", "no"), Stopped("o1", "pending", "dead")]
    assert fold(*events).done(one) == Done(frozenset({1}), frozenset({"o0"}))
    assert fold(*events, Stopped("x", "complete")).done(one) == Done(frozenset({1, 2, 3}), frozenset({"o0"}))
    assert fold().done(one) == Done(frozenset(), frozenset())


def test_records_from_before_there_were_kinds_are_read_as_they_were_meant() -> None:
    """A call showed everything; a letter has no figures; a branch says nothing of its roles."""
    old = {name: value for name, value in to_data(sent()).items() if name != "left_out"}
    assert from_data("sent", old) == sent() and "left_out" not in to_data(sent())
    assert to_data(sent(left_out=3))["left_out"] == 3
    assert from_data("heard", {"cell": "x", "turn": 1, "text": "text", "source": "box"}) == heard()
    data = {name: value for name, value in to_data(branch()).items() if name != "roles"}
    assert from_data("branched", data) == branch()


def test_how_much_was_left_out_is_known_of_each_role() -> None:
    """Of its last call, and of what its provider counted."""
    state = fold(sent(left_out=2), reply(), sent(turn=3, left_out=4))
    assert state.of("x").left_out == {"a": 4}
    assert state.of("x").reported_input["a"] == (1, 5, 2)
