"""Lanes and the choice among those who wait: no limit exceeded, none left idle, nobody starved."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from math import inf
from operator import itemgetter
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Left
from runner.limits import (
    MINUTE,
    PASSED_TOO_OFTEN,
    Ceiling,
    Entry,
    Lane,
    Limits,
    Size,
    Waiter,
    Window,
    choose,
)
from runner.state import Account

SIZE = Size(0, 100, 100)


@dataclass
class Truth:
    """What a provider with a sliding window has let in."""

    limit: float
    seconds: float

    def __post_init__(self) -> None:
        self.entries: list[tuple[float, float]] = []

    def held(self, now: float) -> float:
        return sum(amount for at, amount in self.entries if at > now - self.seconds)


def waiter(
    lane: Lane, rank: int = 0, reserved: int = 0, ceilings: tuple[Ceiling, ...] = (), size: Size = SIZE
) -> Waiter:
    return Waiter(lane, (rank,), reserved, ceilings, size)


def starve(*waiters: Waiter) -> None:
    """Pass over each of them as often as it takes to go first."""
    for each in waiters:
        for _ in range(PASSED_TOO_OFTEN):
            each.pass_over()


# --- windows -----------------------------------------------------------------------------------------------------


@given(
    amounts=st.lists(st.integers(1, 60), min_size=1, max_size=80),
    gaps=st.lists(st.floats(0, 5), min_size=80, max_size=80),
    burst=st.one_of(st.none(), st.integers(1, 100)),
)
def test_no_stretch_of_a_window_ever_holds_more_than_its_limit(
    amounts: list[int], gaps: list[float], burst: int | None
) -> None:
    """Whatever is asked, whenever: a provider with the same limit never has cause to refuse."""
    window = Window(100, 10.0, None if burst is None else float(burst))
    truth = Truth(100, 10.0)
    now = 0.0
    for amount, gap in zip(amounts, gaps, strict=False):
        now += gap
        now = window.when(amount, now)
        assert window.when(amount, now) <= now + 1e-6
        window.add(amount, now, now)
        truth.entries.append((now, amount))
        assert truth.held(now) <= 100 + 1e-6


@given(
    rows=st.lists(st.tuples(st.integers(1, 60), st.floats(0, 5), st.floats(0, 9)), max_size=60),
    burst=st.one_of(st.none(), st.integers(1, 100)),
)
def test_what_is_held_up_on_its_way_out_counts_from_when_it_leaves(
    rows: list[tuple[int, float, float]], burst: int | None
) -> None:
    """However long each takes from being let through to its departure, no stretch holds more than the limit."""
    window = Window(100, 10.0, None if burst is None else float(burst))
    truth = Truth(100, 10.0)
    leaving: list[tuple[float, int, Entry]] = []

    def until(now: float) -> None:
        for at, amount, entry in sorted(leaving, key=itemgetter(0)):
            if at <= now:
                leaving.remove((at, amount, entry))
                window.leave(entry, at)
                truth.entries.append((at, amount))
                assert truth.held(at) <= 100 + 1e-6

    now = 0.0
    for amount, gap, held_up in rows:
        now += gap
        until(now)
        while (at := window.when(amount, now)) > now:
            now = min(at, min((one[0] for one in leaving), default=inf))
            until(now)
        leaving.append((now + held_up, amount, window.add(amount, now, now)))
    until(inf)


def test_what_leaves_when_its_window_has_forgotten_it_is_not_counted_by_halves() -> None:
    """A correction that comes later still takes nothing from the others."""
    window = Window(100, 10.0)
    entry = window.add(60, 0.0, 0.0)
    window.add(70, 11.0, 11.0)
    window.leave(entry, 11.0)
    window.amend(entry, 10, 12.0)
    assert window.total(12.0) == 70.0


@settings(max_examples=10)
@given(amounts=st.lists(st.integers(20, 30), min_size=10, max_size=40))
def test_a_window_that_is_asked_all_the_time_is_nearly_full(amounts: list[int]) -> None:
    """Leaves little idle: after the start, at least 97 % of the limit goes through."""
    window = Window(6000, MINUTE, 100.0)
    now, let_through, at = 0.0, [], 0.0
    while now < 250:
        for amount in amounts:
            at = window.when(amount, now)
            now = max(now, at)
            window.add(amount, now, now)
            let_through.append((now, amount))
    used = sum(amount for when, amount in let_through if 60 <= when < 240)
    assert 0.97 * 18_000 <= used <= 18_000


def test_a_window_does_not_let_a_whole_minute_through_at_once() -> None:
    """No burst at the start: only the burst's share goes at once, the rest at the limit's pace."""
    window = Window(6000, MINUTE, 100.0)
    at_once = 0
    while window.when(10, 0.0) <= 0.0:
        window.add(10, 0.0, 0.0)
        at_once += 10
    assert at_once == 100


def test_what_was_counted_too_high_is_given_back() -> None:
    """Refunds: an entry that is corrected makes room at once."""
    window = Window(100, 10.0)
    entry = window.add(100, 0.0, 0.0)
    assert window.when(50, 1.0) > 1.0
    window.amend(entry, 40, 1.0)
    assert window.when(50, 1.0) == 1.0


def test_an_entry_that_has_left_the_window_is_not_corrected_twice() -> None:
    """A late correction of a long call must not make the window believe in room that is not there."""
    window = Window(100, 10.0)
    entry = window.add(100, 0.0, 0.0)
    assert window.when(100, 11.0) == 11.0
    window.add(100, 11.0, 11.0)
    window.amend(entry, 0, 12.0)
    assert window.when(1, 12.0) > 12.0


def test_a_request_larger_than_the_limit_goes_alone_rather_than_never() -> None:
    """An amount above the limit waits for an empty window, and then goes."""
    window = Window(100, 10.0)
    assert window.when(500, 0.0) == 0.0
    window.add(500, 0.0, 0.0)
    assert 10.0 <= window.when(500, 0.0) < 11.0


def test_a_window_opens_warm() -> None:
    """What earlier lives sent counts until its time is over."""
    lane = Lane("p", Limits(rpm=2))
    lane.take(1, 1, 100.0, 70.0)
    lane.take(1, 1, 100.0, 90.0)
    assert 130.0 < lane.when(1, 1, 100.0) < 131.0


def test_a_daily_limit_is_counted_over_a_day() -> None:
    """A day's requests, of earlier lives too, shut the lane until the oldest is a day old."""
    lane = Lane("p", Limits(rpd=3))
    lane.warm_day([(3600.0, 3)], 0.0)
    assert 23 * 3600 <= lane.when(1, 1, 0.0) <= 23.5 * 3600


def test_a_lane_is_shut_by_its_day_and_its_pause_but_not_by_its_minute() -> None:
    """What shuts it is named: a pause that is over is no reason."""
    lane = Lane("p", Limits(rpm=1, rpd=2))
    lane.take(1, 1, 0.0)
    assert lane.when(1, 1, 0.0) > 60.0 and lane.shut_until(0.0) == 0.0
    lane.pause(30.0, "busy")
    assert (lane.shut_until(0.0), lane.why_shut(0.0)) == (30.0, "busy")
    lane.take(1, 1, 40.0)
    assert lane.shut_until(40.0) > 80_000.0
    assert lane.why_shut(40.0) == "its daily limit is reached"


def test_a_warm_lane_counts_a_request_of_the_last_minute_once_in_its_day() -> None:
    """The day is told by its minutes; the last of them is not added to it again."""
    lane = Lane("p", Limits(rpm=60, rpd=3))
    lane.take(1, 1, 100.0, 70.0)
    lane.warm_day([(30.0, 1)], 100.0)
    lane.take(1, 1, 100.0)
    assert lane.shut_until(100.0) == 100.0


# --- shares ------------------------------------------------------------------------------------------------------


@given(
    amounts=st.lists(st.tuples(st.booleans(), st.integers(1, 20)), min_size=30, max_size=90),
    gaps=st.lists(st.floats(0, 3), min_size=90, max_size=90),
    share=st.floats(0.2, 0.8),
    late=st.booleans(),
)
def test_two_shares_of_a_window_never_let_more_through_than_the_whole_of_it(
    amounts: list[tuple[bool, int]], gaps: list[float], share: float, late: bool
) -> None:
    """A part is given away, used, and taken back, each time with what is in it: nothing is counted less than once."""
    mine, theirs, truth = Window(100, 10.0), Window(100, 10.0), Truth(100, 10.0)
    now = 0.0
    for number, ((is_mine, amount), gap) in enumerate(zip(amounts, gaps, strict=False)):
        if number == 10:
            before = mine.counted(now)
            mine.rescale(share, now)
            theirs.rescale(1.0 - share, now)
            theirs.remember([(ago, amount * (1.0 - share)) for ago, amount in before], now)
        if number == 20:
            mine.rescale(1.0, now)
            mine.remember(theirs.counted(now), now)
        window = mine if is_mine or not 10 <= number < 20 else theirs
        now = window.when(amount, now + gap)
        entry = window.add(amount, now, now)
        truth.entries.append((now, amount))
        if late:
            window.amend(entry, amount, now)
        assert truth.held(now) <= 100 + 1e-6


@pytest.mark.parametrize(("truth", "kept"), [(40, 20), (0, 0), (100, 70)])
def test_what_is_corrected_after_a_part_was_given_away_is_counted_no_less_than_once(truth: int, kept: float) -> None:
    """The part that went along is as large as it was thought: less is given back here in part, more counts here."""
    window = Window(1000, 10.0)
    entry = window.add(60, 0.0, 0.0)
    window.rescale(0.5, 1.0)
    window.amend(entry, truth, 2.0)
    assert [amount for _, amount in window.counted(2.0)] == [kept]


def test_a_share_of_a_lane_has_its_part_of_every_limit() -> None:
    """Requests, tokens, slots and burst: all of them, and all of them back."""
    lane = Lane("p", Limits(concurrency=10, rpm=60, rpd=100, tpm=1000, burst=5))
    for _ in range(30):
        lane.take(0.0, 10.0, 0.0)
    lane.rescale(0.5, 0.0)
    lane.allow(5.0)
    assert {name: window.limit for name, window in lane.windows.items()} == {"minute": 30, "day": 50, "all": 500}
    assert {name: sum(amount for _, amount in entries) for name, entries in lane.counted(0.0).items()} == {
        "minute": 15,
        "day": 15,
        "all": 150,
    }
    assert (lane.free_slots, lane.burst) == (5, 2)
    lane.rescale(1.0, 0.0)
    lane.allow(10.0)
    assert {name: window.limit for name, window in lane.windows.items()} == {"minute": 60, "day": 100, "all": 1000}
    assert (lane.free_slots, lane.burst) == (10, 5)


def test_slots_that_were_cut_stay_cut_when_a_lane_may_have_more() -> None:
    """What a busy answer taught is not forgotten because a neighbour left; quiet brings it back, up to the new most."""
    lane = Lane("p", Limits(concurrency=10))
    lane.allow(5.0)
    lane.flying = 5
    lane.was_busy(None, 0.5, 100.0)
    lane.allow(10.0)
    assert lane.slots == 3.5
    for _ in range(100):
        lane.succeeded(0.0)
    assert lane.slots == 10.0


@pytest.mark.parametrize(
    ("limits", "least"),
    [
        (Limits(), 0.0),
        (Limits(concurrency=4), 0.25),
        (Limits(concurrency=16, rpm=10), 0.1),
        (Limits(rpd=5), 0.2),
        (Limits(rpm=60, burst=1), 1.0),
        (Limits(output_tpm=1000), 0.5),
        (Limits(tpm=300), 1.0),
        (Limits(input_tpm=100), 0.0),
        (Limits(output_tpm=1000, count="used"), 0.0),
    ],
)
def test_a_share_must_let_one_call_through(limits: Limits, least: float) -> None:
    """Below the least share a call would go alone, and together with others' pass the limit."""
    assert Lane("p", limits).least(500) == pytest.approx(least, abs=0.001)


# --- what a lane counts ------------------------------------------------------------------------------------------


def test_tokens_counted_up_front_reserve_the_whole_output_limit_and_keep_it() -> None:
    """A provider that counts `max_tokens` when the request comes does not give the unused part back."""
    lane = Lane("p", Limits(tpm=1000))
    size = Size(0, 0, 900)
    assert lane.estimate(size) == (0, 900)
    held = lane.take(*lane.estimate(size), 0.0)
    lane.settle(held, size, 10, 20, 1.0)
    assert lane.when(0, 200, 1.0) > 1.0


def test_tokens_counted_as_used_expect_the_mean_and_settle_the_truth() -> None:
    """Estimates follow what came back, and what was not used is free again."""
    lane = Lane("p", Limits(tpm=100_000, count="used"))
    size = Size(0, 0, 1000)
    assert lane.estimate(size)[1] == 400
    for _ in range(50):
        held = lane.take(*lane.estimate(size), 0.0)
        lane.settle(held, size, 0, 100, 0.0)
    assert 100 <= lane.estimate(size)[1] < 130


def counted(lane: Lane, size: Size, input_tokens: int) -> float:
    """How many tokens of a prompt the lane expected, before it hears how many there were."""
    expected, output = lane.estimate(size)
    lane.settle(lane.take(expected, output, 0.0), size, input_tokens, 10, 0.0)
    return expected


@pytest.mark.parametrize("before", [(), ((900, 225),) * 20], ids=["none before", "after long ones"])
def test_many_short_prompts_say_nothing_of_a_long_one(before: tuple[tuple[int, int], ...]) -> None:
    """Of a short prompt most is what stands around it; whoever comes next with a long one is not thought short."""
    lane = Lane("p", Limits(tpm=2000))
    for size, tokens in before:
        counted(lane, Size(0, size, 400), tokens)
    for _ in range(60):
        counted(lane, Size(0, 80, 400), 9)
    assert 225 <= counted(lane, Size(0, 900, 400), 225) <= 360


def test_how_many_tokens_a_byte_makes_is_learned_at_once_where_it_is_more_and_slowly_where_it_is_less() -> None:
    """A dense text makes the next one dearer; light ones bring that down by and by, and never below themselves."""
    lane = Lane("p", Limits(tpm=2000))
    assert counted(lane, Size(0, 1000, 400), 600) == 400
    assert counted(lane, Size(0, 1000, 400), 250) == pytest.approx(630)
    light = [counted(lane, Size(0, 1000, 400), 250) for _ in range(60)]
    assert light[0] > 500 and light == sorted(light, reverse=True)
    assert 250 < light[-1] < 265


def test_a_request_that_never_left_counts_nothing() -> None:
    """A refused connection gives its place in every window back."""
    lane = Lane("p", Limits(rpm=1, tpm=1000))
    held = lane.take(100, 900, 0.0)
    assert lane.when(1, 1, 0.0) > 0.0
    lane.give_back(held, 0.0)
    assert lane.when(1, 1, 20.0) == 20.0


# --- what outcomes teach -----------------------------------------------------------------------------------------


@pytest.mark.fault(43, 44)
def test_retry_after_holds_the_whole_lane() -> None:
    """The provider's own word is obeyed for everyone, and a later shorter word does not shorten it."""
    lane = Lane("p", Limits(concurrency=10))
    lane.was_busy(30.0, 0.5, 100.0)
    assert lane.when(1, 1, 100.0) >= 130.0
    lane.was_busy(1.0, 0.5, 101.0)
    assert lane.when(1, 1, 101.0) >= 130.0


@pytest.mark.fault(44)
def test_busy_answers_of_one_moment_cut_the_slots_once() -> None:
    """Ten refusals of one episode are one lesson."""
    lane = Lane("p", Limits(concurrency=10))
    lane.flying = 10
    for _ in range(10):
        lane.was_busy(None, 0.5, 100.0)
    assert lane.slots == 7.0


@pytest.mark.fault(44)
def test_busy_answers_without_a_hint_make_each_pause_longer_than_the_last() -> None:
    """Twenty of them fail a turn, so twenty must be more than any minute's limit lasts; an answer begins anew."""
    lane = Lane("p", Limits(concurrency=10))
    now, pauses = 100.0, []
    for _ in range(8):
        for _ in range(3):
            lane.was_busy(None, 1.0, now)
        pauses.append(lane.paused_until - now)
        now = lane.paused_until
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    lane.succeeded(0.0)
    lane.was_busy(None, 1.0, now)
    assert lane.paused_until - now == 2.0


def test_a_wait_that_was_told_and_was_not_enough_grows() -> None:
    """What is told is the least; a server that says 6 ms for a whole minute does not fail a turn in twenty tries."""
    lane = Lane("p", Limits(concurrency=10))
    now, pauses = 100.0, []
    for _ in range(20):
        for _ in range(3):
            lane.was_busy(0.006, 0.0, now)
        pauses.append(round(lane.paused_until - now, 3))
        now = lane.paused_until
    assert pauses[:5] == [0.006, 0.2, 0.4, 0.8, 1.6] and pauses[-1] == 60.0
    assert lane.why_shut(now - 1.0) == "asked to wait 0.006 s, and busy again after that"
    for told, pause in ((90.0, 90.0), (20.0, 60.0)):
        lane.was_busy(told, 0.0, now)
        assert lane.paused_until - now == pause
        now = lane.paused_until
    lane.succeeded(now)
    lane.was_busy(0.006, 0.0, now)
    assert lane.paused_until - now == pytest.approx(0.006)


def test_quiet_raises_the_slots_again_and_never_above_the_limit() -> None:
    """What busy answers took away, answers give back."""
    lane = Lane("p", Limits(concurrency=10))
    lane.flying = 10
    lane.was_busy(None, 0.5, 100.0)
    for _ in range(100):
        lane.succeeded(0.0)
    assert lane.slots == 10.0


def test_calls_under_way_when_trouble_began_count_as_one_strike() -> None:
    """Sixteen calls cut by one hiccup are one error in a row, not sixteen."""
    lane = Lane("p", Limits(concurrency=16))
    for _ in range(16):
        lane.erred(granted=0.0, jitter=0.5, now=1.0)
    assert lane.strikes == 1
    assert not lane.in_trouble


@pytest.mark.fault(29, 45)
def test_a_provider_in_trouble_is_asked_by_one_call_at_a_time_and_given_up_at_last() -> None:
    """Longer and longer pauses, one slot, and no calls for ever to a server that is gone."""
    lane = Lane("p", Limits(concurrency=16))
    now, pauses = 0.0, []
    while not lane.beyond_hope:
        lane.erred(granted=now, jitter=1.0, now=now + 0.1)
        now = max(now + 0.2, lane.paused_until)
        pauses.append(lane.paused_until)
    assert lane.slots == 1.0
    assert lane.strikes == 6
    assert pauses == sorted(pauses)


def test_an_answer_ends_the_trouble() -> None:
    """One success, and errors in a row are counted from nothing."""
    lane = Lane("p", Limits(concurrency=16))
    for n in range(5):
        lane.erred(granted=float(n), jitter=0.5, now=n + 0.5)
    lane.succeeded(0.0)
    assert not lane.in_trouble
    assert lane.slots > 1.0


def test_headers_are_heeded_only_where_the_job_names_no_limit() -> None:
    """What the job says is paced by us; what only headers say makes the lane wait until something is left."""
    told, untold = Lane("a", Limits(rpm=60)), Lane("b", Limits())
    for lane in (told, untold):
        lane.heed((Left("requests", "minute", 0, None, 20.0),), 100.0)
    assert told.paused_until < 100.0 < untold.paused_until <= 120.0


def test_a_limit_that_only_headers_tell_is_kept_like_one_of_the_job() -> None:
    """How large it is, and that others use it, too: no more leave in a minute than are left."""
    lane = Lane("a", Limits())
    lane.take(1.0, 1.0, 0.0)
    lane.heed((Left("requests", "minute", 59, 60),), 0.0)
    sent = 0
    while lane.when(1.0, 1.0, 0.0 + sent) <= 0.0 + sent and sent < 50:
        lane.take(1.0, 1.0, 0.0 + sent)
        sent += 1
    assert sent == 50
    lane.heed((Left("requests", "minute", 4, 60),), 50.0)
    sent = 50
    while lane.when(1.0, 1.0, float(sent)) <= sent:
        lane.take(1.0, 1.0, float(sent))
        sent += 1
    assert sent == 54
    assert lane.shut_until(54.0) == 54.0


def test_a_learned_limit_of_tokens_counts_both_sides_and_follows_what_is_told_later() -> None:
    """A larger one lets more through at once; what was counted stays counted."""
    lane = Lane("a", Limits())
    lane.heed((Left("tokens", "minute", 1000, 1000),), 0.0)
    lane.take(400.0, 400.0, 0.0)
    assert lane.when(300.0, 300.0, 10.0) > 50.0
    lane.heed((Left("tokens", "minute", 9200, 10_000),), 10.0)
    assert lane.when(300.0, 300.0, 30.0) <= 30.0
    assert lane.counted(30.0)["all"][0][1] == 800.0


def test_nothing_left_beside_an_answer_and_no_word_of_a_reset_stops_nobody() -> None:
    """A header that says so each time is one that nobody keeps; the limit itself is kept all the same."""
    lane = Lane("a", Limits())
    sent, now = 0, 0.0
    while now < 30.0:
        lane.take(1.0, 1.0, now)
        sent += 1
        lane.heed((Left("requests", "minute", 0, 100),), now + 0.1)
        now = max(now + 0.1, lane.when(1.0, 1.0, now + 0.1))
    assert 50 <= sent <= 54


def test_what_others_have_used_of_a_limit_is_forgotten_when_the_limit_is_whole_again() -> None:
    """At the reset that the headers tell, and not a minute later."""
    lane = Lane("a", Limits())
    lane.heed((Left("requests", "minute", 0, 100, 6.0),), 0.0)
    assert 5.0 < lane.when(1.0, 1.0, 0.5) < 7.0
    lane = Lane("a", Limits())
    lane.heed((Left("requests", "minute", 1, 100),), 0.0)
    lane.take(1.0, 1.0, 0.5)
    assert lane.when(1.0, 1.0, 0.5) > 59.0


@pytest.mark.parametrize("counts", ["reserved", "used"])
def test_a_limit_that_changes_under_way_still_counts_what_is_in_flight(counts: Literal["reserved", "used"]) -> None:
    """Calls that left under the old limit are corrected in the new one when they end."""
    lane, size = Lane("a", Limits(count=counts)), Size(0, 100, 500)
    lane.heed((Left("output", "minute", 1000, 1000, 1.0),), 0.0)
    held = [lane.take(*lane.estimate(size), 0.0) for _ in range(4)]
    lane.heed((Left("output", "minute", None, 2000, 1.0),), 1.0)
    for call in held:
        lane.settle(call, size, 30, 500, 2.0)
    assert sum(amount for _, amount in lane.counted(3.0)["output"]) == 2000.0
    assert lane.when(30.0, 500.0, 3.0) > 50.0
    lane.rescale(0.5, 3.0)
    lane.heed((Left("output", "minute", None, 4000, 1.0),), 3.0)
    assert lane.windows["output"].whole == pytest.approx(4000.0, rel=0.011)
    assert lane.windows["output"].limit == pytest.approx(2000.0, rel=0.011)


def test_a_limit_of_the_day_that_is_used_up_shuts_the_lane_until_it_is_whole_again() -> None:
    """Not for a minute, and not for ever; while something of it is left nothing is shut."""
    lane = Lane("a", Limits())
    lane.heed((Left("requests", "day", 1, 1000, 3600.0),), 0.0)
    assert lane.shut_until(0.0) == 0.0
    lane.heed((Left("requests", "day", 0, 1000, 3600.0),), 0.0)
    assert (lane.shut_until(0.0), lane.why_shut(0.0)) == (3600.0, "its requests of the day are used up")


# --- choosing ----------------------------------------------------------------------------------------------------


def test_the_first_in_rank_that_fits_goes() -> None:
    """Order decides among those whom nothing else stops."""
    lane = Lane("p", Limits(concurrency=1))
    first, second = waiter(lane, 1), waiter(lane, 2)
    assert choose([[first, second]], 0.0).grant is first
    lane.flying = 1
    assert choose([[first, second]], 0.0).grant is None


def test_a_dead_lane_grants_nothing_and_keeps_nobody_else_waiting() -> None:
    """One dead provider stops its own conversations only."""
    dead, alive = Lane("dead", Limits(concurrency=1)), Lane("alive", Limits(concurrency=1))
    dead.dead = "gone"
    mine = waiter(alive)
    assert choose([[waiter(dead)], [mine]], 0.0).grant is mine


def test_a_call_goes_only_if_it_fits_every_ceiling() -> None:
    """Settled + reserved + its worst case must fit each; else it waits while something is in flight, or never goes."""
    lane = Lane("p", Limits(concurrency=5))
    wide, narrow = Ceiling("wide", Account(settled=10), 1000), Ceiling("narrow", Account(settled=40, reserved=50), 100)
    assert choose([[waiter(lane, 0, 10, (wide, narrow))]], 0.0).grant is not None
    waits = waiter(lane, 0, 11, (wide, narrow))
    assert choose([[waits]], 0.0).grant is None
    assert waits.too_dear() is None
    assert waiter(lane, 0, 61, (wide, narrow)).too_dear() is narrow


def test_a_small_call_passes_a_large_one_only_so_often() -> None:
    """Nobody starves: who was passed over too often blocks those behind until it goes."""
    lane = Lane("p", Limits(concurrency=1000))
    room = Ceiling("run", Account(reserved=50), 100)
    large, small = waiter(lane, 0, 80, (room,)), waiter(lane, 1, 10, (room,))
    grants = 0
    while grants <= PASSED_TOO_OFTEN and choose([[large, small]], 0.0).grant is small:
        grants += 1
    assert grants == PASSED_TOO_OFTEN
    room.account.reserved = 0
    assert choose([[large, small]], 0.0).grant is large


def test_a_small_call_of_another_lane_passes_a_large_one_only_so_often() -> None:
    """What is scarce is the money of both: after so many overtakings the other lane waits, too."""
    ours, theirs = Lane("ours", Limits(concurrency=1000)), Lane("theirs", Limits(concurrency=1000))
    room = Ceiling("run", Account(reserved=50), 100)
    large, small = waiter(ours, 0, 80, (room,)), waiter(theirs, 1, 10, (room,))
    grants = 0
    while grants <= PASSED_TOO_OFTEN and choose([[large], [small]], 0.0).grant is small:
        grants += 1
    assert grants == PASSED_TOO_OFTEN
    apart = waiter(theirs, 2, 90, (Ceiling("other", Account(), 100),))
    assert choose([[large], [small, apart]], 0.0).grant is apart
    room.account.reserved = 0
    assert choose([[large], [small]], 0.0).grant is large


def test_a_call_that_waits_for_its_window_is_passed_only_so_often_and_keeps_nothing_from_other_lanes() -> None:
    """A small call fits a window sooner than a large one; of the money others may have what they need meanwhile."""
    lane, free = Lane("p", Limits(tpm=1000, concurrency=1000)), Lane("free", Limits())
    lane.take(0, 500, 0.0)
    room = Ceiling("run", Account(), 100)
    large, small = waiter(lane, 0, 60, (room,), Size(0, 0, 900)), waiter(lane, 1, 10, (room,), Size(0, 0, 10))
    grants = 0
    while grants <= PASSED_TOO_OFTEN and choose([[large, small]], 59.0).grant is small:
        grants += 1
    assert grants == PASSED_TOO_OFTEN
    elsewhere = waiter(free, 2, 100, (room,))
    assert choose([[large, small], [elsewhere]], 59.0).grant is elsewhere
    assert choose([[large, small], [elsewhere]], 130.0).grant is large


def test_of_those_who_were_passed_over_too_often_the_first_in_rank_goes_first() -> None:
    """Whatever their lanes."""
    lanes = [Lane(str(n), Limits(concurrency=9)) for n in range(2)]
    room = Ceiling("run", Account(), 100)
    second, first = waiter(lanes[0], 2, 60, (room,)), waiter(lanes[1], 1, 60, (room,))
    starve(first, second)
    assert choose([[second], [first]], 0.0).grant is first


def test_who_was_not_deprived_of_anything_was_not_passed_over() -> None:
    """A call with room for itself and the other, or that waits for its own window, has lost nothing by another's."""
    full, paced, free = Lane("full", Limits(tpm=100)), Lane("paced", Limits(rpm=60)), Lane("free", Limits())
    full.take(0, 100, 0.0)
    room = Ceiling("run", Account(), 100)
    waits, permit, goes = (waiter(lane, rank, 40, (room,)) for rank, lane in enumerate((full, paced, free)))
    for most, passed in ((100, (0, 0)), (79, (0, 1))):
        room.most = most
        assert choose([[waits], [permit], [goes]], 0.0).grant is goes
        assert (waits.passed, permit.passed) == passed


def test_who_waits_for_a_permit_and_was_passed_over_too_often_keeps_its_money() -> None:
    """While its pacer lets it wait, others get what is left beside its claim."""
    paced, free = Lane("paced", Limits(rpm=60)), Lane("free", Limits())
    room = Ceiling("run", Account(), 100)
    first, small, large = waiter(paced, 0, 60, (room,)), waiter(free, 1, 40, (room,)), waiter(free, 2, 41, (room,))
    starve(first)
    choice = choose([[first], [large]], 0.0)
    assert (choice.grant, choice.want_permit) == (None, (paced,))
    assert choose([[first], [small]], 0.0).grant is small


def test_who_can_only_hope_that_others_give_money_back_keeps_nobody_from_going() -> None:
    """What is in flight here will not make room for it; what other processes do nobody knows."""
    lane = Lane("p", Limits(concurrency=9))
    shared = Ceiling("the day", Account(settled=30), 50, reach=80, may_grow=True)
    large, small = waiter(lane, 0, 51, (shared,)), waiter(lane, 1, 20, (shared,))
    starve(large)
    assert choose([[large, small]], 0.0).grant is small
    shared.reach = 81  # a slice that is there to be drawn
    assert choose([[large, small]], 0.0).grant is None


def test_a_paced_lane_asks_for_a_permit_before_anything_is_held() -> None:
    """Without a permit nothing is granted; with one exactly one call goes, and money is untouched meanwhile."""
    lane = Lane("p", Limits(rpm=60, concurrency=5))
    mine = waiter(lane)
    choice = choose([[mine]], 0.0)
    assert choice.grant is None
    assert choice.want_permit == (lane,)
    lane.permit = True
    assert choose([[mine]], 0.0).grant is mine


def test_a_full_window_says_when_to_look_again() -> None:
    """No polling: the choice names the moment at which something may have changed."""
    lane = Lane("p", Limits(tpm=1000, concurrency=5))
    lane.take(0, 1000, 0.0)
    choice = choose([[waiter(lane, size=Size(0, 0, 500))]], 1.0)
    assert choice.grant is None
    assert 1.0 < choice.look_again < 62.0


@pytest.mark.fault(57)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(0, 60)),
        max_size=30,
    ),
    st.integers(0, 100),
)
def test_whatever_is_chosen_no_ceiling_and_no_slot_is_exceeded(rows: list[tuple[int, int, int]], cap: int) -> None:
    """Grant until nobody can go: money stays under the cap, slots under the limit, and no one who fits is left."""
    lanes = [Lane(str(n), Limits(concurrency=n + 1)) for n in range(3)]
    ceiling = Ceiling("run", Account(), cap)
    queues: list[list[Waiter]] = [[], [], []]
    for number, rank, reserved in rows:
        queues[number].append(waiter(lanes[number], rank, reserved, (ceiling,)))
    for queue in queues:
        queue.sort(key=lambda w: w.rank)
    while (grant := choose(queues, 0.0).grant) is not None:
        queues[lanes.index(grant.lane)].remove(grant)
        grant.lane.flying += 1
        ceiling.account.reserved += grant.reserved
        assert ceiling.account.held <= cap
        assert grant.lane.flying <= grant.lane.slots
    for lane, queue in zip(lanes, queues, strict=True):
        if lane.free_slots >= 1 and not any(w.starves for queue in queues for w in queue):
            assert all(not w.fits() for w in queue)


@given(
    large=st.lists(st.tuples(st.integers(0, 2), st.integers(20, 100)), min_size=1, max_size=4),
    small=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), min_size=1, max_size=6),
    landings=st.lists(st.integers(0, 8), min_size=1, max_size=12),
    slots=st.integers(1, 6),
)
def test_nobody_waits_for_ever_however_many_come_after(
    large: list[tuple[int, int]], small: list[tuple[int, int]], landings: list[int], slots: int
) -> None:
    """Small calls without end, in all lanes, under one ceiling: of those behind it only so many go before any call."""
    lanes = [Lane(str(n), Limits(concurrency=slots + n)) for n in range(3)]
    room = Ceiling("run", Account(), 100)
    queues: list[list[Waiter]] = [[], [], []]
    behind: dict[int, int] = {}

    def comes(number: int, rank: int, reserved: int) -> None:
        queues[number].append(waiter(lanes[number], rank, reserved, (room,)))
        behind[rank] = 0

    for rank, (number, reserved) in enumerate(large):
        comes(number, rank, reserved)
    flying: list[Waiter] = []
    for step in count():
        if step < 100:
            number, reserved = small[step % len(small)]
            comes(number, len(large) + step, reserved)
        while (grant := choose(queues, 0.0).grant) is not None:
            queues[lanes.index(grant.lane)].remove(grant)
            flying.append(grant)
            grant.lane.flying += 1
            room.account.reserved += grant.reserved
            assert room.account.reserved <= room.most
            # One whose lane has no slot for it waits for that, and nobody has gone before it.
            for other in (w for queue in queues for w in queue if w.lane.free_slots >= 1.0):
                behind[other.rank[0]] += other.rank < grant.rank
                assert other.passed <= PASSED_TOO_OFTEN
        if not flying:
            break
        landed = flying.pop(landings[step % len(landings)] % len(flying))
        landed.lane.flying -= 1
        room.account.reserved -= landed.reserved
    assert not any(queues), "somebody goes whenever nothing is in flight"
    assert all(behind[rank] <= PASSED_TOO_OFTEN + len(large) for rank in range(len(large)))


# --- models that take turns ------------------------------------------------------------------------------------------


def of(model: str, lane: Lane, rank: int = 0, **more: Any) -> Waiter:
    found = waiter(lane, rank, **more)
    found.model = model
    return found


def go(queue: list[Waiter], now: float = 0.0) -> Waiter | None:
    """Let the next one go, as the gate does."""
    grant = choose([queue], now).grant
    if grant is not None:
        queue.remove(grant)
        grant.lane.departs(grant.model, {other.model for other in queue})
    return grant


def went(queue: list[Waiter]) -> tuple[str, int] | None:
    """The model and the rank of the next one to go."""
    found = go(queue)
    return None if found is None else (found.model, found.rank[0])


def test_calls_of_what_is_loaded_go_first_and_nothing_is_loaded_over_a_call() -> None:
    """Whatever the ranks; and where nobody has a use for it any more, the next model takes its place."""
    lane = Lane("card", Limits(concurrency=2, resident=1))
    queue = [of("a", lane, 1), of("b", lane, 2), of("a", lane, 3), of("a", lane, 4), of("b", lane, 5)]
    assert [went(queue), went(queue), went(queue)] == [("a", 1), ("a", 3), None]
    lane.lands("a")
    assert (went(queue), went(queue)) == (("a", 4), None)
    lane.lands("a")
    assert went(queue) is None, "one call of the loaded model is still out"
    lane.lands("a")
    assert (went(queue), went(queue)) == (("b", 2), ("b", 5))
    assert lane.loads == 2


def test_a_change_is_due_when_too_many_calls_went_past_who_waits() -> None:
    """No more of the loaded model go then, not even into a free slot, until the other one has its place."""
    lane = Lane("card", Limits(concurrency=2, resident=1))
    queue = [of("b", lane, 0)]
    lane.departs("a")
    for rank in range(PASSED_TOO_OFTEN):
        queue.append(of("a", lane, 1 + rank))
        assert went(queue) == ("a", 1 + rank)
        lane.lands("a")
    queue.append(of("a", lane, 99))
    assert lane.change_is_due
    assert went(queue) is None
    lane.lands("a")
    assert went(queue) == ("b", 0)
    assert (lane.loads, lane.change_is_due) == (2, False)
    assert went(queue) is None
    lane.lands("b")
    assert went(queue) == ("a", 99)


def test_a_change_that_is_due_takes_one_model_from_the_card_and_leaves_the_other_at_work() -> None:
    """With room for two, the one whose calls went longest ago gets no more of them."""
    lane = Lane("card", Limits(concurrency=9, resident=2))
    lane.departs("old")
    lane.departs("new")
    queue = [of("third", lane, 0)]
    for _ in range(PASSED_TOO_OFTEN):
        lane.departs("new", ["third"])
    for _ in range(PASSED_TOO_OFTEN):
        lane.lands("new")
    queue += [of("old", lane, 1), of("new", lane, 2)]
    assert (went(queue), went(queue)) == (("new", 2), None)
    lane.lands("old")
    assert went(queue) == ("third", 0)
    assert went(queue) is None, "the one that had to leave waits like any other now"
    lane.lands("third")
    assert went(queue) == ("old", 1)


def test_calls_that_go_past_nobody_bring_no_change() -> None:
    """A model may be alone on the card for hours: who comes then waits as long as anybody."""
    lane = Lane("card", Limits(concurrency=1, resident=1))
    for _ in range(2 * PASSED_TOO_OFTEN):
        lane.departs("a", ["a"])
        lane.lands("a")
    assert not lane.change_is_due
    queue = [of("b", lane, 0), of("a", lane, 1)]
    assert went(queue) == ("a", 1)


def test_a_model_that_somebody_waits_for_leaves_after_one_that_nobody_does() -> None:
    """Also where its calls went longer ago."""
    lane = Lane("card", Limits(concurrency=2, resident=2))
    for model in ("a", "b"):
        lane.departs(model)
        lane.lands(model)
    lane.departs("c", ["a"])
    assert [model for model in "abc" if lane.is_loaded(model)] == ["a", "c"]


def test_of_several_models_the_one_that_was_loaded_longest_ago_comes_next() -> None:
    """Not the one of the smallest rank: two that are always waited for would starve all others."""
    lane = Lane("card", Limits(concurrency=1, resident=1))
    for model in ("c", "b", "a"):
        lane.departs(model)
        lane.lands(model)
    queue = [of("b", lane, 1), of("c", lane, 2)]
    assert went(queue) == ("c", 2)


def test_a_loaded_model_that_waits_for_its_window_is_not_thrown_out_by_a_smaller_call() -> None:
    """It goes in a moment; one that waits for money may wait long, and keeps nobody."""
    lane = Lane("card", Limits(concurrency=9, tpm=6000, resident=1))
    lane.departs("a")
    lane.lands("a")
    lane.take(0, 100, 0.0)
    large, small = of("a", lane, 0, size=Size(0, 0, 3000)), of("b", lane, 1, size=Size(0, 0, 1))
    assert large.lane.when(*lane.estimate(large.size), 0.0) > 0.0 == lane.when(*lane.estimate(small.size), 0.0)
    choice = choose([[large, small]], 0.0)
    assert choice.grant is None and 0.0 < choice.look_again < 60.0
    poor = Ceiling("run", Account(reserved=10), 10)
    broke = of("a", lane, 0, reserved=5, ceilings=(poor,), size=Size(0, 0, 1))
    assert choose([[broke, small]], 0.0).grant is small


def test_who_was_begun_for_what_is_loaded_finds_it_still_there() -> None:
    """Between its beginning and its first call nothing else is loaded over it."""
    lane = Lane("card", Limits(concurrency=2, resident=1))
    lane.departs("a")
    lane.lands("a")
    lane.arriving = 1
    queue = [of("b", lane, 0)]
    assert went(queue) is None
    lane.arriving = 0
    assert went(queue) == ("b", 0)


def test_a_part_of_a_lane_is_a_part_of_the_models_on_the_card() -> None:
    """Room for four in all is room for two in a half of it; for one, nobody else can have a part."""
    lane = Lane("card", Limits(concurrency=8, resident=4))
    assert (lane.resident, lane.least(10)) == (4, 0.25)
    for model in ("a", "b", "c", "d"):
        lane.departs(model)
        lane.lands(model)
    lane.rescale(0.5, 0.0)
    assert lane.resident == 2
    lane.departs("e")
    assert [model for model in "abcde" if lane.is_loaded(model)] == ["d", "e"]
    assert Lane("card", Limits(concurrency=8, resident=1)).least(10) == 1.0


@given(
    asked=st.lists(st.integers(0, 3), min_size=1, max_size=80),
    landings=st.lists(st.integers(0, 8), min_size=1, max_size=12),
    slots=st.integers(1, 4),
    room=st.integers(1, 3),
)
def test_whatever_is_asked_no_more_models_are_at_work_than_there_is_room_for_and_everybody_goes(
    asked: list[int], landings: list[int], slots: int, room: int
) -> None:
    """Two new calls for each that lands, then no more: with room for one, so many go past anybody and no more."""
    lane = Lane("card", Limits(concurrency=slots, resident=room))
    queue: list[Waiter] = []
    flying: list[Waiter] = []
    past: dict[int, int] = {}
    for step in count():
        for rank in (2 * step, 2 * step + 1):
            if rank < 160:
                queue.append(of(str(asked[rank % len(asked)]), lane, rank))
                past[rank] = 0
        while (grant := go(queue)) is not None:
            flying.append(grant)
            assert len({one.model for one in flying}) <= room
            for other in queue:
                past[other.rank[0]] += other.rank < grant.rank
        if not flying:
            break
        landed = flying.pop(landings[step % len(landings)] % len(flying))
        lane.lands(landed.model)
    assert not queue, "somebody goes whenever nothing is in flight"
    assert lane.flying == 0
    if room == 1:
        assert max(past.values()) <= 3 * (PASSED_TOO_OFTEN + 2 * slots)
