"""How long a mixed night takes, against the least that it could take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from typing import Final

from scripts.benchmarks.figures import Figure, Told, middle, number
from scripts.benchmarks.jobs import MAX_TOKENS, OPENING, PRICE, WIDE, written
from scripts.benchmarks.processes import TERTULIA, Ground
from scripts.benchmarks.sizes import size


@dataclass(frozen=True, slots=True)
class Sizes:
    repeat: int = size(3, "Conversations of each length and each pair of models.")
    longest: int = size(20, "Turns of the longest conversations; there are some of each length up to that.")
    slots: int = size(16, "Calls at a time, in each lane.")
    latency: float = size(0.22, "Seconds that a call takes on average, in the fastest lane.")


QUICK: Final = Sizes(repeat=1, longest=4, slots=4, latency=0.02)
PACES: Final = {"swift": 1.0, "brisk": 1.5, "steady": 2.0, "slow": 3.0}
"""How much longer than the fastest each lane takes."""
_SPREAD: Final = 1.0
"""One call in twenty takes more than three times the average."""


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """As many nights as asked for, each with latencies of its own."""
    told = Told("makespan")
    took: list[float] = []
    least: list[float] = []
    bounds: list[Mapping[str, float]] = []
    busy: list[float] = []
    for seed in range(times):
        seconds, drawn = _night(ground, sizes, seed)
        bounds.append(lower_bounds(drawn, sizes.slots))
        busy.append(never_idle(drawn, sizes.slots) / max(bounds[-1].values()))
        took.append(seconds)
        least.append(max(bounds[-1].values()))
    ratios = tuple(one / bound for one, bound in zip(took, least, strict=True))
    told.figures.append(
        Figure(
            "the night",
            middle(ratios) * middle(least),
            "s",
            middle(least),
            "the least that it could take",
            1.05,
            True,
            "ratio",
            f"four lanes of {sizes.slots} slots, conversations of 1 to {sizes.longest} turns of every pair of their "
            "models, log-normal latency; from the first request to the last answer, against the longer of the busiest "
            "lane's latencies by its slots and the slowest conversation's, as the server drew them",
            ratios,
        )
    )
    told.notes += [
        f"{name}: at least {number(middle([one[name] for one in bounds]))} s" for name in (*PACES, "one conversation")
    ]
    told.notes.append(
        f"a lane that is never without a call: {number(middle(busy))} of the least, with the same latencies"
    )
    return told


def lower_bounds(drawn: Sequence[tuple[str, int, float]], slots: int) -> dict[str, float]:
    """What each lane needs for its calls with all slots busy, and what the slowest conversation needs."""
    lanes: dict[str, float] = dict.fromkeys(PACES, 0.0)
    chains: dict[int, float] = defaultdict(float)
    for model, conversation, latency in drawn:
        lanes[model] += latency
        chains[conversation] += latency
    return {name: total / slots for name, total in lanes.items()} | {"one conversation": max(chains.values())}


def never_idle(drawn: Sequence[tuple[str, int, float]], slots: int) -> float:
    """What the slowest lane takes for its calls in the order in which they came, if each slot takes the next at once.

    It ends later than the bound, since nobody knows beforehand which of the last calls takes long.
    """
    lanes = {name: [0.0] * slots for name in PACES}
    for model, _, latency in drawn:
        heapreplace(lanes[model], lanes[model][0] + latency)
    return max(max(ends) for ends in lanes.values())


def _night(ground: Ground, sizes: Sizes, seed: int) -> tuple[float, list[tuple[str, int, float]]]:
    folder = ground.fresh()
    lanes = {name: pace * sizes.latency for name, pace in PACES.items()}
    limits = {"concurrency": sizes.slots, **WIDE}
    with ground.server(lane=lanes, spread=_SPREAD, seed=seed) as server:
        job = written(
            folder,
            {
                "budget": 1_000_000,
                # So that conversations that differ by their repeat alone begin with requests that differ.
                "send_seed": True,
                "defaults": {"max_tokens": MAX_TOKENS},
                "providers": {
                    # Of one address each, or they would be one account.
                    name: {"type": "openai", "base_url": f"{server.url}/{name}", "api_key": "none", "limits": limits}
                    for name in PACES
                },
                "models": {name: {"use": f"{name}/{name}", "price": PRICE} for name in PACES},
                "prompts": {
                    f"of-{turns}": {
                        "opening": OPENING,
                        "roles": {role: {} for role in "ab"[:turns]},
                        "turns": [{"by": "ab"[n % 2]} for n in range(turns)],
                    }
                    for turns in range(1, sizes.longest + 1)
                },
                "pairings": [
                    {"prompt": f"of-{turns}", "repeat": sizes.repeat, **{role: list(PACES) for role in "ab"[:turns]}}
                    for turns in range(1, sizes.longest + 1)
                ],
            },
        )
        ground.took((*TERTULIA, "run", str(job), "--outputs", str(folder / "outputs")), folder)
        seen = ground.saw(server)
        return seen.seconds, server.drawn()
