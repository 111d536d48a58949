"""How long a night takes: held against the least that its own calls could take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

from runner.events import Replied, Sent
from runner.sim.config import SimConfig
from runner.sim.engine import Engine, SimAnswer, SimRequest
from tests.nights import PRICE, Night


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
            "budget": 1000,
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
