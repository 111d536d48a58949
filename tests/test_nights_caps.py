"""Nights whose ceilings, limits or prices are changed between two lives, or were never said."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from runner.events import Failed, Opened
from runner.money import NANOS_PER_DOLLAR, Price, ceiling, parse_price
from runner.selection import Options
from runner.verify import verify
from tests.nights import Ledger, Night, matrix, provider

MODELS = ("m0", "m1")


def opened(night: Night) -> list[Opened]:
    return [record.event for record in night.records() if isinstance(record.event, Opened)]


def half_held() -> Night:
    """A night that was stopped in the middle."""
    night = Night(matrix(MODELS, repeat=4, limits={"concurrency": 4}), provider(MODELS))
    assert night.live(signals=[(14.0, 2)]).exit == 130
    assert 0 < len(night.replies()) < 64
    return night


@pytest.mark.fault(63)
@pytest.mark.parametrize("share", [0.999, 0.5])
def test_a_ceiling_below_what_was_spent_lets_nothing_be_sent_and_says_so(share: float) -> None:
    """Exit 4: the rest is `budget`, what was said stays, and with the old ceiling the run is completed."""
    night = half_held()
    said, asked = night.replies(), len(night.engine.received)
    spent = night.counted
    life = night.live(Options(budget=int(spent * share)), looked_on=True)
    assert life.exit == 4
    assert len(night.engine.received) == asked and night.replies() == said
    assert night.status()["reasons"] == ["budget"]
    assert {line["status"] for line in night.lines()} == {"complete", "budget"}
    assert "exit 4: budget" in life.screen
    assert night.counted == spent
    assert night.live().exit == 0
    assert Ledger.of(night.records()).asked_again == []


@pytest.mark.fault(64)
def test_a_ceiling_is_raised_by_the_users_word_alone_and_every_life_has_its_own_on_record() -> None:
    """By the flag or in the file; the journal says which ceiling each life had, and by which word."""
    job = matrix(MODELS, repeat=4, budget={"run": 0.02})
    night = Night(job, provider(MODELS))
    assert night.live().exit == 4
    asked = len(night.engine.received)
    # Nothing of the kind happens by itself: the same command comes to the same end.
    assert night.live().exit == 4
    assert len(night.engine.received) - asked <= 1
    assert night.live(Options(budget=30_000_000)).exit == 4
    assert night.live(job={**job, "budget": {"run": 50}}).exit == 0
    lives = opened(night)
    assert [life.ceilings["run"] for life in lives] == [20_000_000, 20_000_000, 30_000_000, 50 * NANOS_PER_DOLLAR]
    assert [life.options.get("budget") for life in lives] == [None, None, 30_000_000, None]
    assert Ledger.of(night.records()).asked_again == []
    assert verify(night.folder, night.left()).problems == ()


@pytest.mark.fault(62)
def test_a_price_that_changes_between_two_lives_changes_nothing_that_was_settled() -> None:
    """What was spent stays as it was counted; only calls of the new life are reserved and priced anew."""
    night = half_held()
    before = {key: reply.cost for key, reply in night.replies().items()}
    spent = night.counted
    dear = {"input": 2.0, "output": 8.0}
    night.change(provider(MODELS, prices=dict.fromkeys(MODELS, dear)))
    raised = matrix(MODELS, repeat=4, limits={"concurrency": 4}, prices=dict.fromkeys(MODELS, dear))
    assert night.live(job=raised).exit == 0
    after = {key: reply.cost for key, reply in night.replies().items()}
    assert {key: after[key] for key in before} == before
    assert night.counted == spent + sum(cost for key, cost in after.items() if key not in before)
    assert [life.prices["m0"]["output"] for life in opened(night)] == ["4.0", "8.0"]
    assert night.billed == night.counted
    assert verify(night.folder, night.left()).problems == ()


@pytest.mark.fault(60)
def test_a_job_that_names_no_limit_is_sent_with_one_and_reserved_at_it() -> None:
    """Each request says how long its answer may be, and the whole of that is reserved."""
    job: dict[str, Any] = matrix(MODELS, rounds=1)
    del job["defaults"]
    night = Night(job, provider(MODELS))
    assert night.live().exit == 0
    price = Price(parse_price(1), parse_price(4))
    for sent in night.sents():
        assert sent.max_tokens == 4096
        assert sent.reserved == ceiling(price, sent.input_bound, 4096)
    bodies = [orjson.loads(received.body or b"") for received in night.engine.received]
    assert {body["max_tokens"] for body in bodies} == {4096}


@pytest.mark.fault(58)
def test_a_ceiling_below_a_single_turn_is_a_mistake_and_not_a_night() -> None:
    """Exit 2 before anything is sent or written, with the conversations and the ceiling that is too low."""
    night = Night(matrix(MODELS, budget=0.001), provider(MODELS))
    life = night.live()
    assert life.exit == 2
    said = "\n".join(life.told)
    assert "not even one turn of these fits its ceilings" in said
    assert "talk/m0~m1: its first call may cost $" in said and "the budget of the run is $0.001" in said
    assert night.engine.received == [] and night.disk.files == {}


def test_a_ceiling_that_fits_the_least_output_of_a_turn_is_a_night() -> None:
    """What `min_tokens` allows is asked for; below that, too, it is a mistake and not a night."""
    job = matrix(MODELS, budget=0.0015)
    for least in ({}, {"min_tokens": 400}):
        job["defaults"] |= {"max_tokens": 1000, **least}
        night = Night(job, provider(MODELS))
        assert (night.live().exit, night.engine.received) == (2, [])
    job["defaults"] |= {"min_tokens": 100}
    night = Night(job, provider(MODELS))
    assert night.live().exit == 4
    assert night.replies()
    assert all(100 <= sent.max_tokens < 1000 for sent in night.sents())


@pytest.mark.fault(59)
def test_no_reservation_is_left_when_a_night_is_over_however_it_ended() -> None:
    """Broken off, out of money, out of time, among faults of every kind: what is reserved is settled or given back."""
    sim = provider(MODELS, rate=0.3)
    ends: list[tuple[Options, list[tuple[float, int]], int]] = [
        (Options(), [], 0),
        (Options(budget=20_000_000), [], 4),
        (Options(max_time=5.0), [], 5),
        (Options(), [(5.0, 2)], 130),
        (Options(), [(5.0, 2), (5.1, 2)], 130),
        (Options(grace=0.5), [(5.0, 15)], 143),
    ]
    for options, signals, code in ends:
        night = Night(matrix(MODELS, repeat=4), sim)
        assert night.live(options, signals=signals).exit == code
        state = night.reading().state
        accounts = [state.run, *state.scopes.values(), *(progress.account for progress in state.cells.values())]
        assert [account.reserved for account in accounts] == [0] * len(accounts)
        assert list(state.open_calls()) == []
        assert night.billed <= night.counted
        assert night.replies()
        if len(signals) == 2:
            left = [e for r in night.records() if isinstance(e := r.event, Failed) and "was stopped" in e.detail]
            assert left and all(event.money == "assumed" and event.cost > 0 for event in left)
