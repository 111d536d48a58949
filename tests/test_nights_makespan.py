"""How long a night takes: held against the least that its own calls could take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from runner.events import Replied, Sent
from runner.outlook import Outlook, means_of, outlook
from runner.plan import make_plan
from runner.preflight import DEFAULT_CONCURRENCY, prices
from runner.sim.config import SimConfig
from runner.sim.engine import Engine, SimAnswer, SimRequest
from runner.state import State
from tests.nights import PRICE, Night, job_of, text_of


class HeavyTailed(Engine):
    """A provider that takes now and then many times as long as usual, whoever asks when."""

    def __init__(self, config: SimConfig, shape: float, seed: int) -> None:
        super().__init__(config)
        self._shape = shape
        self._seed = seed

    def handle(self, request: SimRequest, now: float) -> SimAnswer:
        answer = super().handle(request, now)
        times = Random(f"{self._seed}:{request.body!r}").lognormvariate(-(self._shape**2) / 2, self._shape)
        return replace(answer, pieces=tuple(piece._replace(at=piece.at * times) for piece in answer.pieces))


PACES = {"swift": 1.0, "brisk": 1.5, "steady": 2.0, "slow": 3.0}


def night(
    talks: Sequence[tuple[str, str, int, int]],
    slots: Mapping[str, int],
    paces: Mapping[str, float],
    *,
    shape: float = 1.0,
    seed: int = 0,
    limits: Mapping[str, Any] | None = None,
    **top: Any,
) -> Night:
    """Conversations, as (first model, second model, turns, repeats), in a lane for each model."""
    lengths = dict.fromkeys(turns for _, _, turns, _ in talks)
    held = Night(
        {
            "name": "night",
            "defaults": {"max_tokens": 64, "timeout": {"first": "10m", "total": "20m"}},
            "send_seed": True,
            "seed": seed,
            "providers": {
                name: {"type": "openai", "base_url": "sim", "limits": {"concurrency": slots[name], **(limits or {})}}
                for name in paces
            },
            "models": {name: {"use": f"{name}/{name}", "price": PRICE} for name in paces},
            "prompts": {
                f"of-{turns}": {
                    "opening": "What survives?",
                    "roles": {role: {} for role in "ab"[:turns]},
                    "turns": [{"by": "ab"[n % 2]} for n in range(turns)],
                }
                for turns in lengths
            },
            "pairings": [
                {"prompt": f"of-{turns}", "repeat": repeat, **dict(zip("ab"[:turns], (a, b), strict=False))}
                for a, b, turns, repeat in talks
            ],
            "budget": 1000,
            **top,
        },
        {
            "models": {
                name: {"latency": {"first": pace}, "price": PRICE, "reply": {"mean": 8}} for name, pace in paces.items()
            }
        },
        rtt=(0.0, 0.0),
    )
    if shape:
        held.engine = HeavyTailed(held.engine.config, shape, seed)
    return held


class Took(NamedTuple):
    """What a night took, and the least that it could take."""

    seconds: float
    least: float

    @property
    def ratio(self) -> float:
        return self.seconds / self.least


def took(held: Night, slots: Mapping[str, int]) -> Took:
    """Hold it; the least is the longer of the busiest lane's latencies by its slots and the slowest conversation's."""
    life = held.live()
    assert life.exit == 0
    lanes: dict[str, float] = defaultdict(float)
    chains: dict[str, float] = defaultdict(float)
    sent: dict[str, tuple[Sent, float]] = {}
    for record in held.records():
        if isinstance(record.event, Sent):
            sent[record.event.cell] = record.event, record.at
        elif isinstance(record.event, Replied):
            event, at = sent.pop(record.event.cell)
            lanes[event.alias] += record.at - at
            chains[event.cell] += record.at - at
    return Took(life.seconds, max(*(total / slots[name] for name, total in lanes.items()), *chains.values()))


def mixed(longest: int) -> list[tuple[str, str, int, int]]:
    """A conversation of each length for each pair of four models of different pace."""
    talks = [(a, b, turns, 1) for turns in range(2, longest + 1) for a in PACES for b in PACES]
    return [*((a, a, 1, 1) for a in PACES), *talks]


def test_a_mixed_night_takes_little_longer_than_its_slowest_lane_must(record_property: Callable[..., None]) -> None:
    """Conversations of 1 to 5 turns, four lanes: who takes longest goes first, so that all of them end together."""
    slots = dict.fromkeys(PACES, 2)
    found = took(night(mixed(5), slots, PACES, seed=5), slots)
    record_property("figures", f"{found.seconds:.0f} s, {found.ratio:.3f} of the least")
    assert found.ratio <= 1.05


def test_no_lane_lies_idle_because_those_that_feed_it_have_not_begun(record_property: Callable[..., None]) -> None:
    """`last` is reached by way of `first` alone, for which others that began elsewhere stand in line."""
    slots, paces = {"first": 2, "other": 4, "last": 2}, {"first": 2.0, "other": 1.0, "last": 4.0}
    talks = [("first", "last", turns, 1) for turns in range(1, 11)]
    talks += [("other", "first", turns, 2) for turns in range(4, 9)]
    found = took(night(talks, slots, paces, shape=0.5), slots)
    record_property("figures", f"{found.seconds:.0f} s, {found.ratio:.3f} of the least")
    assert found.ratio <= 1.2


def test_nobody_talks_on_alone_because_others_stood_in_line_before(record_property: Callable[..., None]) -> None:
    """For `first` others stand in line all the time; a long conversation begins before they have had their say."""
    slots, paces = {"first": 2, "other": 9}, {"first": 2.0, "other": 1.0}
    talks = [("first", "first", 10, 3), ("other", "first", 4, 12)]
    found = took(night(talks, slots, paces, shape=0.0), slots)
    record_property("figures", f"{found.seconds:.0f} s, {found.ratio:.3f} of the least")
    assert found.ratio <= 1.1  # and almost 1.2 if it waited for its turn


# --- what is expected of a night before it is held -------------------------------------------------------------------


class Shape(NamedTuple):
    """A kind of night: its conversations, its lanes, how much calls differ, and its limits."""

    talks: Sequence[tuple[str, str, int, int]]
    slots: Mapping[str, int]
    paces: Mapping[str, float]
    spread: float = 0.3
    limits: Mapping[str, Any] = MappingProxyType({})
    budget: float = 1000.0

    def night(self, seed: int) -> Night:
        job: dict[str, Any] = {"budget": self.budget}
        return night(self.talks, self.slots, self.paces, shape=self.spread, seed=seed, limits=self.limits, **job)


PAIR = {"x": 2.0, "y": 1.0}
SHAPES = {
    "mixed": Shape(mixed(3), dict.fromkeys(PACES, 2), PACES),
    "heavy-tailed": Shape(mixed(3), dict.fromkeys(PACES, 2), PACES, 0.8),
    "a lane by way of another": Shape(
        [*(("x", "y", turns, 1) for turns in range(2, 9)), *(("z", "x", turns, 2) for turns in range(3, 6))],
        {"x": 2, "y": 2, "z": 4},
        {"x": 2.0, "y": 4.0, "z": 1.0},
    ),
    "two waves": Shape([("x", "y", 6, 12)], {"x": 8, "y": 8}, PAIR),
    "one long among short ones": Shape([("x", "y", 2, 20), ("x", "y", 30, 1)], {"x": 4, "y": 4}, PAIR),
    "requests a minute": Shape([("x", "y", 4, 20)], {"x": 16, "y": 16}, PAIR, limits={"rpm": 30}),
    "tokens a minute": Shape([("x", "y", 4, 20)], {"x": 16, "y": 16}, PAIR, limits={"tpm": 3000}),
    "requests a day": Shape([("x", "y", 4, 20)], {"x": 4, "y": 4}, PAIR, limits={"rpd": 25}),
    "short of money": Shape([("x", "y", 6, 30)], {"x": 4, "y": 4}, PAIR, budget=0.013),
}


def expected_of(held: Night, earlier: Night) -> Outlook:
    """What is expected of a night, by what an earlier one has shown of its models."""
    plan = make_plan(job_of(text_of(held.job)), "2026-11-21")
    means = means_of(earlier.reading().state)
    return outlook(plan, State(), plan.cells, prices(plan), means, DEFAULT_CONCURRENCY)


@pytest.mark.parametrize("name", SHAPES)
def test_a_night_ends_about_when_it_is_expected_to(name: str, record_property: Callable[..., None]) -> None:
    """By the latencies of an earlier night with other answers: within 20 %, whatever it is that decides."""
    shape = SHAPES[name]
    earlier, held = shape.night(1), shape.night(2)
    earlier.live()
    ahead = expected_of(held, earlier)
    life = held.live()
    state = held.reading().state
    left = sum(state.of(cell.id).status != "complete" for cell in held.reading().plan.cells)
    record_property(
        "figures",
        f"{name}: {life.seconds:.1f} s, expected {ahead.ending.seconds:.1f}; left {left}, {ahead.ending.left}",
    )
    assert ahead.ending.seconds == pytest.approx(life.seconds, rel=0.2)
    assert abs(ahead.ending.left - left) <= 3
    assert (ahead.ending.why is None) == (left == 0) == (life.exit == 0)
