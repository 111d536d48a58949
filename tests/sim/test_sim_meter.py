"""The limits of the built-in provider let through what they should, and never more."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.sim.meter import Bucket, Fixed, Limits, Meter, Sliding, Window, duration, plain_seconds

# Steps of a quarter second: exact in binary, so that borders are hit and not merely approached.
PAUSES = st.just(0.0) | st.integers(0, 100).map(lambda n: n / 4)
ARRIVALS = st.lists(st.tuples(PAUSES, st.integers(1, 6)), max_size=60)


def admitted(window: Window, arrivals: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """Who got in, of those who come so long after one another and do not wait."""
    now, inside = 0.0, []
    for pause, amount in arrivals:
        now += pause
        if window.wait(now, amount) <= 0:
            window.take(now, amount)
            inside.append((now, amount))
    return inside


@given(ARRIVALS, st.integers(1, 12))
def test_a_sliding_window_never_holds_more_than_its_limit(arrivals: list[tuple[float, int]], limit: int) -> None:
    """Whatever moment the minute starts at, no more than the limit is in it."""
    inside = admitted(Sliding(limit, 20.0), arrivals)
    for start, _ in inside:
        assert sum(amount for at, amount in inside if start <= at < start + 20) <= limit


@given(ARRIVALS, st.integers(1, 12), st.integers(0, 80).map(lambda n: n / 4))
def test_a_fixed_window_never_holds_more_than_its_limit(
    arrivals: list[tuple[float, int]], limit: int, epoch: float
) -> None:
    """Between two turns of the wall clock no more than the limit gets in."""
    inside = admitted(Fixed(limit, 20.0, epoch), arrivals)
    for number in {int((epoch + at) // 20) for at, _ in inside}:
        assert sum(amount for at, amount in inside if (epoch + at) // 20 == number) <= limit


@given(ARRIVALS, st.integers(1, 12), st.integers(1, 12))
def test_a_bucket_lets_through_its_capacity_and_its_rate(
    arrivals: list[tuple[float, int]], limit: int, capacity: int
) -> None:
    """Over any stretch no more gets in than the bucket holds and the rate adds."""
    inside = admitted(Bucket(limit, 20.0, capacity), arrivals)
    for start, _ in inside:
        for end, _ in inside:
            let_in = sum(amount for at, amount in inside if start <= at <= end)
            if let_in:
                assert let_in <= capacity + limit / 20 * (end - start) + 1e-6


@pytest.mark.parametrize("make", [lambda: Sliding(7, 20.0), lambda: Fixed(7, 20.0, 3.0), lambda: Bucket(7, 20.0, 7)])
@given(arrivals=ARRIVALS, amount=st.integers(1, 7))
def test_the_wait_is_exact(make: type[Sliding], arrivals: list[tuple[float, int]], amount: int) -> None:
    """Whoever waits as long as told gets in, and whoever comes clearly sooner does not."""
    window: Window = make()  # type: ignore[call-arg]
    inside = admitted(window, arrivals)
    now = inside[-1][0] if inside else 0.0
    wait = window.wait(now, amount)
    if wait > 0.001:
        assert window.wait(now + wait - 0.001, amount) > 0
    assert window.wait(now + wait, amount) <= 0


def test_what_can_never_fit_waits_for_ever() -> None:
    """A request larger than the whole limit is not told to come back."""
    for window in (Sliding(5, 60), Fixed(5, 60, 0), Bucket(5, 60, 5)):
        assert window.wait(0.0, 6) == inf


def test_a_bucket_does_not_save_up_what_nobody_used() -> None:
    """After a quiet hour there is as much as a full bucket holds."""
    bucket = Bucket(60, 60.0, 10)
    bucket.take(0.0, 10)
    assert bucket.left(3600.0) == 10
    bucket.take(3600.0, 10)
    assert bucket.wait(3600.0, 1) == pytest.approx(1.0)


def test_a_bucket_that_holds_one_allows_no_burst() -> None:
    """`burst: 1` spaces requests evenly from the first on."""
    meter = Meter(Limits(rpm=60, window="bucket", burst=1), 0.0)
    assert meter.refusal(0.0, 1, 1) is None
    meter.let_in(1, 0.0, 1, 1)
    refusal = meter.refusal(0.0, 1, 1)
    assert refusal is not None
    assert refusal.wait == pytest.approx(1.0)
    assert meter.refusal(1.0, 1, 1) is None


@pytest.mark.parametrize(
    ("count", "room_in_flight", "room_afterwards"), [("reserved", 100, 100), ("settled", 100, 140), ("used", 150, 140)]
)
def test_each_way_of_counting_tokens_holds_what_it_says(count: str, room_in_flight: int, room_afterwards: int) -> None:
    """`reserved` keeps input and max_tokens, `settled` gives the difference back, `used` adds the output at the end."""
    meter = Meter(Limits(tpm=200, count=count), 0.0)  # type: ignore[arg-type]
    meter.let_in(1, 0.0, 50, 50)
    assert [(room.limit, room.left) for room in meter.rooms(0.0)] == [("tpm", room_in_flight)]
    meter.ended(1, 1.0, 10)
    assert [(room.limit, room.left) for room in meter.rooms(1.0)] == [("tpm", room_afterwards)]


def test_counting_used_tokens_refuses_only_when_the_window_is_full() -> None:
    """A vendor that counts what was used lets in a request that will go over, and refuses the next."""
    meter = Meter(Limits(output_tpm=10, count="used"), 0.0)
    meter.let_in(1, 0.0, 5, 1000)
    assert meter.refusal(0.0, 5, 1000) is None
    meter.ended(1, 2.0, 25)
    refusal = meter.refusal(2.0, 5, 1000)
    assert refusal is not None
    assert (refusal.limit, refusal.wait) == ("output_tpm", 60.0)


def test_input_and_output_are_limited_apart() -> None:
    """Two windows of tokens, each with its own share of a request."""
    meter = Meter(Limits(input_tpm=100, output_tpm=50), 0.0)
    meter.let_in(1, 0.0, 60, 20)
    for tokens, limit in (((41, 1), "input_tpm"), ((1, 31), "output_tpm")):
        refusal = meter.refusal(0.0, *tokens)
        assert refusal is not None
        assert refusal.limit == limit
    assert meter.refusal(0.0, 40, 30) is None


def test_slots_are_held_from_entry_to_end() -> None:
    """Concurrency counts what is in the air; the wait is until the first of them is planned to end."""
    meter = Meter(Limits(concurrency=2), 0.0)
    for number, ends in ((1, 9.0), (2, 4.0)):
        assert meter.refusal(0.0, 1, 1) is None
        meter.let_in(number, 0.0, 1, 1)
        meter.planned(number, ends)
    assert meter.refusal(1.0, 1, 1) == ("concurrency", 3.0)
    meter.ended(2, 1.5, 1)
    meter.ended(2, 1.5, 1)
    assert meter.refusal(1.5, 1, 1) is None
    meter.let_in(3, 1.5, 1, 1)
    assert meter.refusal(1.5, 1, 1) is not None


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (0.012, "12ms"), (1, "1s"), (7.66, "7.66s"), (360, "6m0s"), (3723, "1h2m3s"), (0.9999, "1s")],
)
def test_durations_are_written_as_go_writes_them(seconds: float, shown: str) -> None:
    """The reset headers look like the vendor's."""
    assert duration(seconds) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(1.0, "1"), (12.3451, "12.346"), (1e-9, "0.001"), (2.5, "2.5")])
def test_a_retry_after_is_never_shorter_than_the_wait(seconds: float, shown: str) -> None:
    """Rounding goes up, so whoever obeys is let in."""
    assert plain_seconds(seconds) == shown
