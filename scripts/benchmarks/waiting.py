"""Processor time per call as more and more conversations wait for their turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from scripts.benchmarks.figures import Figure, Told, middle, number
from scripts.benchmarks.jobs import talks
from scripts.benchmarks.processes import TERTULIA, Ground
from scripts.benchmarks.sizes import size


@dataclass(frozen=True, slots=True)
class Sizes:
    fewest: int = size(100, "Conversations that the smallest run has planned.")
    most: int = size(100_000, "Conversations that the largest run has planned.")
    turns: int = size(128, "Turns of each, an even number.")
    at_once: int = size(32, "How many at a time.")
    calls: int = size(12_000, "Calls after which a run is interrupted; the first tenth of them is not counted.")


QUICK: Final = Sizes(fewest=10, most=100, turns=8, at_once=4, calls=60)


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """The same calls with few planned and with many, ten times as many each time."""
    told = Told("waiting")
    planned = [sizes.fewest]
    while planned[-1] < sizes.most:
        planned.append(min(sizes.most, planned[-1] * 10))
    passes = [[_micros(ground, sizes, many) for many in planned] for _ in range(times)]
    costs = [middle([one[n] for one in passes]) for n in range(len(planned))]
    told.figures.append(
        Figure(
            "cost per call",
            costs[-1],
            "us",
            costs[0],
            f"what a call takes with {planned[0]:,} planned",
            1.15,
            True,
            "ratio",
            f"processor time per call with {planned[-1]:,} planned, from the {sizes.calls // 10:,}th to the "
            f"{sizes.calls:,}th call, {sizes.at_once} at a time: without the start and the end",
            tuple(one[-1] for one in passes),
        )
    )
    told.notes += [f"{many:,} planned: {number(cost)} us per call" for many, cost in zip(planned, costs, strict=True)]
    return told


def _micros(ground: Ground, sizes: Sizes, planned: int) -> float:
    folder = ground.fresh()
    with ground.server(tokens=8) as server:
        job = talks(folder, server.url, conversations=planned, turns=sizes.turns, at_once=sizes.at_once)
        command = (*TERTULIA, "run", str(job), "--outputs", str(folder / "outputs"))
        with ground.running(command, folder) as client:
            client.until(lambda: server.seen().answered >= sizes.calls // 10)
            first, cpu_first = server.seen().answered, client.cpu()
            client.until(lambda: server.seen().answered >= sizes.calls)
            last, cpu_last = server.seen().answered, client.cpu()
            client.interrupt()
            client.ended((130, 0))
        ground.saw(server)
    return (cpu_last - cpu_first) / max(1, last - first) * 1e6
