"""Processor time per call as a run grows longer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scripts.benchmarks.figures import Figure, Told, middle, number
from scripts.benchmarks.jobs import talks
from scripts.benchmarks.processes import TERTULIA, Broke, Ground, Sample
from scripts.benchmarks.sizes import size


@dataclass(frozen=True, slots=True)
class Sizes:
    turns: int = size(100_000, "Turns of the whole run.")
    first: int = size(1_000, "Turns at which the first decade begins.")
    at_once: int = size(64, "How many conversations at a time.")
    every: float = size(0.2, "Seconds between two looks.")


QUICK: Final = Sizes(turns=240, first=20, at_once=8, every=0.01)
_TURNS_EACH: Final = 8
_LARGEST: Final = 1_000_000


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """One long run, as often as asked for."""
    told = Told("growth")
    borders = decades(sizes.first, sizes.turns)
    if len(borders) < 3:
        raise Broke(f"{sizes.turns:,} turns are no two decades from {sizes.first:,} on")
    passes = [_pass(ground, sizes, borders) for _ in range(times)]
    costs = [middle([one[n] for one in passes]) for n in range(len(borders) - 1)]
    ratios = tuple(one[-1] / one[0] if one[0] else 0.0 for one in passes)
    told.figures.append(
        Figure(
            "cost per call",
            middle(ratios) * costs[0],
            "us",
            costs[0],
            f"what a call takes from {borders[0]:,} to {borders[1]:,} turns",
            1.15,
            True,
            "ratio",
            f"processor time per call from {borders[-2]:,} to {borders[-1]:,} turns of one run, {_TURNS_EACH} to a "
            f"conversation, {sizes.at_once} at a time",
            ratios,
        )
    )
    told.notes += [
        f"from {low:,} to {high:,} turns: {number(cost)} us per call"
        for low, high, cost in zip(borders, borders[1:], costs, strict=False)
    ]
    if sizes.turns < _LARGEST:
        told.notes.append(f"to {_LARGEST:,} turns: scripts/bench growth --turns {_LARGEST} --times 1")
    return told


def _pass(ground: Ground, sizes: Sizes, borders: Sequence[int]) -> list[float]:
    """Microseconds per call in each decade."""
    folder = ground.fresh()
    with ground.server() as server:
        job = talks(
            folder,
            server.url,
            conversations=-(-sizes.turns // _TURNS_EACH),
            turns=_TURNS_EACH,
            at_once=sizes.at_once,
        )
        command = (*TERTULIA, "run", str(job), "--outputs", str(folder / "outputs"))
        with ground.running(command, folder) as client:
            samples = client.sampled(server, sizes.every)
            client.ended((0,))
        ground.saw(server)
    at = [cpu_at(samples, border) for border in borders]
    return [
        (after - before) / (high - low) * 1e6
        for before, after, low, high in zip(at, at[1:], borders, borders[1:], strict=False)
    ]


def decades(first: int, last: int) -> list[int]:
    """`first`, ten times that, and so on; the last border is `last`, which may end a decade early."""
    found = [first]
    while found[-1] * 10 < last:
        found.append(found[-1] * 10)
    return [*found, last]


def cpu_at(samples: Sequence[Sample], answered: int) -> float:
    """The time that the client had taken when so many calls were answered, between the two looks around it."""
    counts = [one.answered for one in samples]
    place = min(max(1, bisect_left(counts, answered)), len(samples) - 1)
    before, after = samples[place - 1], samples[place]
    calls = after.answered - before.answered
    part = (answered - before.answered) / calls if calls else 0.0
    return before.cpu + part * (after.cpu - before.cpu)
