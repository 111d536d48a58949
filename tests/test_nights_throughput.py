"""Waiting, not failing: how fast a night is whose money is short, and whether everybody gets a turn.

A ceiling that leaves room for what is in flight costs no time. Where it leaves less, no more can be in flight than the
room divided by a reservation; the time is held against a replay of the same calls that knows only that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from heapq import heappop, heappush
from typing import Any, NamedTuple

import pytest

from runner.events import Failed, Replied, Sent, Stopped
from runner.limits import PASSED_TOO_OFTEN
from runner.money import NANOS_PER_DOLLAR, Nanos, dollars
from tests.nights import LATENCY, MODELS, START, Life, Night, matrix, provider

Figures = Callable[[str, object], None]


class Step(NamedTuple):
    """One call as it was: what it reserved, what it came to, and how long it took."""

    reserved: Nanos
    cost: Nanos
    seconds: float


def talks(night: Night) -> list[list[Step]]:
    """The calls of each conversation, in plan order."""
    found: dict[str, list[Step]] = {cell.id: [] for cell in night.reading().plan.cells}
    open_: dict[str, tuple[Sent, float]] = {}
    for record in night.records():
        event = record.event
        if isinstance(event, Sent):
            open_[event.cell] = event, record.at
        elif isinstance(event, Replied | Failed):
            sent, at = open_.pop(event.cell)
            found[event.cell].append(Step(sent.reserved, event.cost, record.at - at))
    return list(found.values())


class Bound(NamedTuple):
    """How long the same calls take when nothing but slots and money holds them up, and how many of them go."""

    seconds: float
    calls: int


Order = Callable[[int, float], tuple[float, ...]]
PLANNED: Order = lambda place, rest: (place,)  # noqa: E731
LONGEST: Order = lambda place, rest: (-rest, place)  # noqa: E731


def replay(convs: Sequence[Sequence[Step]], cap: Nanos, slots: int, order: Order) -> Bound:
    """At each moment as many in flight as there are slots, and as the room has reservations; who has begun goes on."""
    said = [0] * len(convs)
    rest = [sum(step.seconds for step in steps) for steps in convs]
    ready = set(range(len(convs)))
    flying: list[tuple[float, int]] = []
    now, settled, reserved = 0.0, 0, 0
    while True:
        while len(flying) < slots:
            fit = [n for n in ready if settled + reserved + convs[n][said[n]].reserved <= cap]
            if not fit:
                break
            place = min(fit, key=lambda n: (said[n] == 0, *order(n, rest[n])))
            ready.remove(place)
            reserved += convs[place][said[place]].reserved
            heappush(flying, (now + convs[place][said[place]].seconds, place))
        if not flying:
            return Bound(now, sum(said))
        now, place = heappop(flying)
        step = convs[place][said[place]]
        settled, reserved = settled + step.cost, reserved - step.reserved
        rest[place] -= step.seconds
        said[place] += 1
        if said[place] < len(convs[place]):
            ready.add(place)


def bound(convs: Sequence[Sequence[Step]], cap: Nanos, slots: int) -> Bound:
    """The quickest replay, in plan order or the longest first."""
    return min(replay(convs, cap, slots, PLANNED), replay(convs, cap, slots, LONGEST))


class Free(NamedTuple):
    """A night that no ceiling holds up: what it takes and what it costs."""

    life: Life
    convs: list[list[Step]]
    tried: float
    """When each model had answered once: until then one conversation with each finds out whether it does."""

    @property
    def seconds(self) -> float:
        return self.life.seconds

    @property
    def spent(self) -> Nanos:
        return sum(step.cost for steps in self.convs for step in steps)

    @property
    def largest(self) -> Nanos:
        return max(step.reserved for steps in self.convs for step in steps)


def free(job: Mapping[str, Any], sim: Mapping[str, Any]) -> Free:
    night = Night(job, sim)
    life = night.live()
    assert life.exit == 0
    first: dict[str, float] = {}
    cells = night.reading().plan.by_id
    for record in night.records():
        if isinstance(record.event, Replied):
            first.setdefault(cells[record.event.cell].models[record.event.turn % 2][1], record.at)
    found = Free(life, talks(night), max(first.values()) - START)
    assert found.spent == night.billed
    return found


def under(cap: Nanos, job: Mapping[str, Any], sim: Mapping[str, Any], span: str = "run") -> tuple[Night, Life]:
    """The same night under a ceiling of its own, or of the day."""
    night = Night({**job, "budget": {"run": 50, span: cap / NANOS_PER_DOLLAR}}, sim)
    life = night.live()
    assert night.billed <= night.counted <= cap
    return night, life


def world(
    slots: int, repeat: int, models: Sequence[str] = ("m0", "m1"), *, rounds: int = 4, mean: int = 90, **job: Any
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """`repeat` conversations for each ordered pair of models; each request has a seed of its own, and so its answer."""
    prices = job.get("prices")
    return (
        slots,
        matrix(models, repeat=repeat, rounds=rounds, limits={"concurrency": slots}, send_seed=True, **job),
        provider(models, prices=prices, reply={"mean": mean}),
    )


# --- a ceiling with room for all that is in flight --------------------------------------------------------------------

STEEP = {model: {"input": 0.25 * 4.0**n, "output": 4.0**n} for n, model in enumerate(MODELS)}
"""Prices of which each is four times the one before."""

WORLDS = {
    "4 slots": world(4, 8),
    "16 slots": world(16, 24),
    "64 slots": world(64, 96, rounds=3),
    "replies of a tenth of their limit": world(16, 32, max_tokens=1000),
    "long histories": world(8, 8, rounds=12, mean=150),
    "five models from cheap to dear": world(16, 2, MODELS, prices=STEEP),
    "one conversation for each slot": world(16, 8),
}


@cache
def free_in(name: str) -> Free:
    _, job, sim = WORLDS[name]
    return free(job, sim)


OWN_LANE = [
    pytest.param(False, id="in the same lane"),
    pytest.param(True, id="in a lane of its own", marks=pytest.mark.prove),
]


def told_apart(names: Iterable[str]) -> list[object]:
    """Two worlds each time the tests are run, all where everything is proven."""
    often = ("16 slots", "replies of a tenth of their limit")
    return [pytest.param(name, marks=() if name in often else pytest.mark.prove) for name in names]


@pytest.mark.parametrize("name", told_apart(WORLDS))
def test_with_room_for_a_reservation_in_each_slot_a_night_takes_as_long_as_without_a_ceiling(
    name: str, record_property: Figures
) -> None:
    """True spend and 1.2 x slots x the largest reservation: every conversation completes, within 5 % of the time."""
    slots, job, sim = WORLDS[name]
    whole = free_in(name)
    cap = whole.spent + slots * whole.largest * 12 // 10
    _, life = under(cap, job, sim)
    record_property(
        "figures",
        f"{slots} slots, spend ${dollars(whole.spent)}, ceiling ${dollars(cap)}: {life.seconds:.1f} s, "
        f"without a ceiling {whole.seconds:.1f} s ({life.seconds / whole.seconds - 1:+.1%})",
    )
    assert life.exit == 0
    assert life.seconds <= 1.05 * whole.seconds


@pytest.mark.parametrize("slots", [4, 16])
@pytest.mark.prove
def test_a_short_night_waits_no_longer_than_until_its_models_were_heard(slots: int, record_property: Figures) -> None:
    """Two conversations for each slot: not all may begin before the first replies are in, which take their time."""
    _, job, sim = world(slots, slots)
    whole = free(job, sim)
    cap = whole.spent + slots * whole.largest * 12 // 10
    _, life = under(cap, job, sim)
    longest = max(step.seconds for steps in whole.convs for step in steps)
    record_property(
        "figures", f"{life.seconds:.1f} s, without a ceiling {whole.seconds:.1f} s, a reply {longest:.1f} s"
    )
    assert life.exit == 0
    assert life.seconds <= whole.seconds + longest


@pytest.mark.prove
def test_models_that_are_heard_late_do_not_keep_conversations_from_beginning(record_property: Figures) -> None:
    """At the limit of each reply one conversation would cost more than all of them do; it takes little to find out."""
    models = [f"m{n}" for n in range(12)]
    pairings = [{"prompt": "talk", "a": a, "b": b} for a, b in zip(models[::2], models[1::2], strict=True)]
    _, job, sim = world(16, 1, models, rounds=10, mean=60, max_tokens=1000, pairings=pairings)
    whole = free(job, sim)
    assert 5 * sum(step.reserved for step in whole.convs[0]) > 4 * whole.spent
    for room, most in ((19 * whole.largest, 1.05), (4 * whole.largest, 1.10)):
        _, life = under(whole.spent + room, job, sim)
        record_property("figures", f"{life.seconds:.1f} s, without a ceiling {whole.seconds:.1f} s")
        assert life.exit == 0
        assert life.seconds <= most * whole.seconds


# --- less room --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    told_apart(["16 slots", "replies of a tenth of their limit", "long histories", "five models from cheap to dear"]),
)
def test_with_less_room_a_night_takes_no_longer_than_the_money_makes_it(name: str, record_property: Figures) -> None:
    """True spend and a few reservations: every conversation completes, within 10 % of the bound."""
    slots, job, sim = WORLDS[name]
    whole = free_in(name)
    for reservations in (slots // 2, 1):
        cap = whole.spent + reservations * whole.largest
        least = bound(whole.convs, cap, slots)
        _, life = under(cap, job, sim)
        record_property(
            "figures",
            f"room for {reservations} more: {life.seconds:.1f} s, of them {whole.tried:.1f} s to hear the models, "
            f"bound {least.seconds:.1f} s ({(life.seconds - whole.tried) / least.seconds - 1:+.1%}), "
            f"without a ceiling {whole.seconds:.1f} s",
        )
        assert life.exit == 0
        assert life.seconds <= whole.tried + 1.10 * least.seconds


@pytest.mark.prove
def test_where_all_calls_are_alike_the_bound_is_exact_and_the_last_calls_end_only_what_they_must(
    record_property: Figures,
) -> None:
    """The same reservation, cost and time for each call: no order is better, and none of them is lost for another."""
    price = {"m0": {"input": 0.0, "output": 4.0}, "m1": {"input": 0.0, "output": 4.0}}
    _, job, sim = world(8, 12, prices=price)
    for model in sim["models"].values():
        model |= {"latency": {**LATENCY, "spread": 0.0}, "reply": {"mean": 80, "spread": 0.0}}
    whole = free(job, sim)
    for half in (1, 2, 8):
        cap = whole.spent + whole.largest * half // 2
        least = bound(whole.convs, cap, 8)
        night, life = under(cap, job, sim)
        record_property(
            "figures",
            f"room for {half / 2:g} more: {life.seconds:.1f} s, bound {least.seconds:.1f} s, {least.calls} calls",
        )
        assert len(night.replies()) == least.calls
        assert life.exit == (0 if half >= 2 else 4)
        assert life.seconds <= 1.10 * least.seconds


# --- everybody gets a turn --------------------------------------------------------------------------------------------

CHEAP = {"input": 0.1, "output": 4.0}
DEAR = {"input": 3.0, "output": 12.0}


def crowd(own_lane: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fifty conversations of small calls, and one that begins with a text of 20,000 bytes."""
    prices = {"m0": CHEAP, "m1": DEAR}
    job = matrix(
        ("m0", "m1"),
        prices=prices,
        providers={"p": ["m0"], "q": ["m1"]} if own_lane else {"p": ["m0", "m1"]},
        max_tokens=2000,
        send_seed=True,
        prompts={
            "talk": {"opening": "What survives of a conversation?", "rounds": 3},
            "book": {"context": "It was said before. " * 1000, "opening": "And now?", "rounds": 3},
        },
        pairings=[
            {"prompt": "talk", "a": "m0", "b": "m0", "repeat": 50},
            {"prompt": "book", "a": "m1", "b": "m1"},
        ],
    )
    return job, provider(("m0", "m1"), prices=prices, reply={"mean": 60})


def overtaken(night: Night, cell: str) -> list[int]:
    """For each call of a conversation, how many others left after the one before it had landed."""
    found, others = [], 0
    for record in night.records():
        event = record.event
        if isinstance(event, Sent) and event.cell == cell:
            found.append(others)
        elif isinstance(event, Sent):
            others += 1
        elif isinstance(event, Replied | Failed) and event.cell == cell:
            others = 0
    return found


@pytest.mark.parametrize("span", ["run", pytest.param("day", marks=pytest.mark.prove)])
@pytest.mark.parametrize("own_lane", OWN_LANE)
def test_one_dear_conversation_among_fifty_cheap_ones_gets_its_turn(
    own_lane: bool, span: str, record_property: Figures
) -> None:
    """Its calls wait while little is left beside what is in flight, but only so many cheap ones go before each."""
    job, sim = crowd(own_lane)
    whole = free(job, sim)
    reserved = [max(step.reserved for step in steps) for steps in whole.convs]
    dear = reserved.index(max(reserved))
    cheap = sorted(reserved)[-2]
    assert reserved[dear] > 10 * cheap
    night, life = under(whole.spent + 2 * cheap, job, sim, span)
    cell = night.reading().plan.cells[dear]
    assert cell.prompt == "book"
    waits = overtaken(night, cell.id)
    record_property("figures", f"{life.seconds:.1f} s, without a ceiling {whole.seconds:.1f} s; overtaken {waits}")
    assert life.exit == 0
    assert len(waits) == 6
    assert PASSED_TOO_OFTEN <= max(waits[1:]) <= PASSED_TOO_OFTEN + 4


@pytest.mark.parametrize("own_lane", OWN_LANE)
def test_a_dear_conversation_ends_for_want_of_money_only_when_its_call_can_never_fit(own_lane: bool) -> None:
    """Whatever is left to it, it ends as `budget` only where what is settled leaves no room for its next call."""
    job, sim = crowd(own_lane)
    whole = free(job, sim)
    begun = 0
    for share in (8, 9):
        cap = whole.spent * share // 10
        night, life = under(cap, job, sim)
        assert life.exit == 4
        cell = next(cell for cell in night.reading().plan.cells if cell.prompt == "book")
        settled, said = 0, 0
        for record in night.records():
            event = record.event
            if isinstance(event, Replied):
                settled += event.cost
                said += event.cell == cell.id
            elif isinstance(event, Stopped) and event.cell == cell.id and event.status == "budget" and said:
                begun += 1
                assert settled + whole.convs[cell.index][said].reserved > cap
    assert begun
