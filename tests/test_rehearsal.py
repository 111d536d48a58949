"""A night played through beforehand: the same order, the same limits, and the time that it comes to."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from runner.limits import Limits
from runner.rehearsal import MOST_CALLS, Act, Ending, Step, rehearse

TWO = {"p": Limits(concurrency=2), "q": Limits(concurrency=2)}
STEPS = {"x": Step("p", 2.0), "y": Step("q", 1.0)}


def act(calls: str, steps: Mapping[str, Step] = STEPS, *, begun: bool = False) -> Act:
    """A conversation whose calls are made by the models of these letters."""
    return Act(tuple(calls), steps, begun)


def priced(cost: int, reserved: int | None = None) -> dict[str, Step]:
    """What calls come to that cost so much, under the ceiling of the run."""
    most = cost if reserved is None else reserved
    return {"x": Step("p", 2.0, cost=cost, reserved=most, ceilings=("run",))}


def test_the_calls_of_one_conversation_follow_each_other() -> None:
    """However many slots there are, it takes the sum of its calls."""
    assert rehearse([act("xyxy")], TWO, {}) == Ending(6.0)


def test_one_conversation_tries_out_its_models_and_the_others_begin_when_they_have_answered() -> None:
    """Two that take two seconds each could end together; the second waits for the first to be heard."""
    assert rehearse([act("x"), act("x")], TWO, {}) == Ending(4.0)


def test_no_more_calls_fly_in_a_lane_than_it_has_slots() -> None:
    """Five calls after the one that tries the model out, two at a time: three times two seconds."""
    assert rehearse([act("x")] * 6, TWO, {}) == Ending(8.0)


def test_who_takes_longest_begins_first() -> None:
    """In plan order the longest would begin last, and talk on alone."""
    found = rehearse([act("x", begun=True), *(act("x") for _ in range(4)), act("xxxx")], TWO, {})
    assert found == Ending(2.0 + 8.0)


def test_who_has_begun_in_an_earlier_life_goes_first() -> None:
    """The ceiling allows three calls: who has begun is finished, and two new ones of one call each are left."""
    steps = priced(10)
    acts = [act("x", steps), act("x", steps), act("xxx", priced(10), begun=True)]
    found = rehearse(acts, {"p": Limits(concurrency=1)}, {"run": 30})
    assert found == Ending(6.0, 2, "run: its ceiling is reached")


def test_a_limit_of_the_minute_spreads_the_calls() -> None:
    """Two requests leave together, and each further one when the limit allows; tokens spread them from the start."""
    requests = {"p": Limits(concurrency=9, rpm=30)}
    assert rehearse([act("x")] * 6, requests, {}) == Ending(2.0 + 2.0 * 3 + 2.0)
    tokens = {"p": Limits(concurrency=9, tpm=600)}
    steps = {"x": Step("p", 2.0, input=30.0, output=10.0)}
    assert rehearse([act("x", steps)] * 4, tokens, {}) == Ending(4.0 * 3 + 2.0)


def test_a_limit_of_the_day_ends_the_night() -> None:
    """What it leaves over is told, and which lane it was."""
    found = rehearse([act("x")] * 5, {"p": Limits(concurrency=1, rpd=3)}, {})
    assert found == Ending(6.0, 2, "p: its daily limit is reached")


def test_where_money_is_short_only_those_begin_for_whom_there_is_enough() -> None:
    """In plan order, and none of them is broken off."""
    found = rehearse([act("xx", priced(10)), act("x", priced(10)), act("xx", priced(10))], TWO, {"run": 35})
    assert found == Ending(4.0, 1, "run: its ceiling is reached")


def test_no_more_calls_fly_than_the_money_can_reserve() -> None:
    """A call that may cost ten times as much as it does keeps others waiting where that is all there is."""
    acts = [act("x", priced(10, 100)) for _ in range(4)]
    assert rehearse(acts, TWO, {"run": 145}) == Ending(8.0)
    assert rehearse(acts, TWO, {"run": 500}) == Ending(6.0)


def test_a_lane_that_would_lie_idle_is_fed() -> None:
    """`q` is reached by way of `p` alone: who goes there begins although others stand in line for `p`."""
    lanes = {"p": Limits(concurrency=1), "q": Limits(concurrency=1), "r": Limits(concurrency=9)}
    steps = {"x": Step("p", 1.0), "y": Step("q", 20.0), "z": Step("r", 1.0)}
    crowd = [act("zx" * 15, steps) for _ in range(3)]
    found = rehearse([act("x" * 30, steps), *crowd, act("xy", steps)], lanes, {})
    assert found == Ending(76.0)  # all the calls of `p`; 20 more if nobody began while others stand in line there


def test_who_would_be_the_last_to_end_begins_in_time() -> None:
    """Others come to `p` by way of `r` all the time; who waited for all of them would talk on alone in the end."""
    lanes = {"p": Limits(concurrency=2), "r": Limits(concurrency=9)}
    steps = {"x": Step("p", 1.0), "z": Step("r", 1.0)}
    long = [act("x" * 12, steps), act("x" * 12, steps), act("x" * 10, steps)]
    found = rehearse([*long, *(act("zxzx", steps) for _ in range(20))], lanes, {})
    assert found == Ending(38.0)  # 74 calls of `p`, two at a time, after a first one alone; 42 if the third waited


def test_a_night_of_calls_that_differ_ends_later_than_one_of_calls_that_are_all_alike() -> None:
    """It ends when the slowest of those that came last do; the same each time it is asked for."""
    steps = {"x": Step("p", 2.0, spread=1.0)}
    found = rehearse([act("xx", steps)] * 9, {"p": Limits(concurrency=4)}, {})
    even = rehearse([act("xx")] * 9, {"p": Limits(concurrency=4)}, {})
    assert found is not None
    assert even is not None
    assert 1.05 * even.seconds < found.seconds < 2.5 * even.seconds
    assert found == rehearse([act("xx", steps)] * 9, {"p": Limits(concurrency=4)}, {})


def test_of_a_large_night_a_part_is_played_in_as_large_a_part_of_its_lanes() -> None:
    """Twice the calls of the largest night that is played whole, on twice the slots, end with it."""
    talks = MOST_CALLS // 20
    whole = rehearse([act("x" * 20)] * talks, {"p": Limits(concurrency=32)}, {})
    twice = rehearse([act("x" * 20)] * (2 * talks), {"p": Limits(concurrency=64)}, {})
    assert whole is not None
    assert twice is not None
    assert twice.seconds == pytest.approx(whole.seconds, rel=0.02)
    assert rehearse([act("x" * 20)] * (2 * talks), {"p": Limits(concurrency=8)}, {}) is None
