"""Very many calls in flight, and very many conversations planned: memory, the first call, and how late the loop is."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Final, NamedTuple

from scripts.benchmarks.figures import Figure, Told, middle, number
from scripts.benchmarks.jobs import talks
from scripts.benchmarks.lag import lags, part
from scripts.benchmarks.processes import MIB, Client, Ground, Server
from scripts.benchmarks.sizes import size

_LAG: Final = (sys.executable, "-P", "-m", "scripts.benchmarks.lag")


@dataclass(frozen=True, slots=True)
class Sizes:
    at_once: int = size(10_000, "Calls in flight.")
    latency: float = size(30.0, "Seconds that the server takes for each.")
    spread: float = size(0.0, "The shape of a log-normal latency; 0 lets answers come back in waves, as they left.")
    planned: int = size(100_000, "Conversations planned.")
    calls: int = size(20_000, "Calls that are answered before the run is interrupted.")
    over: float = size(1.0, "Seconds after the first call when a run with only its plan is looked at.")


QUICK: Final = Sizes(at_once=20, latency=0.2, planned=100, calls=40, over=0.1)


class Pass(NamedTuple):
    """One run with many calls in flight."""

    peak: float
    first: float
    lags: list[float]
    most: int


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """The bare loop and ours in turn, as often as asked for; and ours with a plan and nothing in flight."""
    told = Told("flight")
    bare: list[Pass] = []
    ours: list[Pass] = []
    plans: list[float] = []
    ones: list[float] = []
    for _ in range(times):
        bare.append(_bare(ground, sizes))
        ones.append(_idle(ground, sizes, 1))
        plans.append(_idle(ground, sizes, sizes.planned))
        ours.append(_ours(ground, sizes))
    besides = tuple(plan - one for plan, one in zip(plans, ones, strict=True))
    flying = tuple(one.peak - plan for one, plan in zip(ours, besides, strict=True))
    firsts = tuple(one.first for one in ours)
    late = tuple(part(one.lags, 0.999) * 1e3 for one in ours)
    told.figures += [
        Figure(
            "memory in flight",
            middle(flying),
            "MiB",
            middle([one.peak for one in bare]),
            "the bare loop's",
            512.0,
            True,
            "value",
            f"the most memory with {sizes.at_once:,} calls in flight that take {sizes.latency:g} s, less what the plan "
            "takes",
            flying,
        ),
        Figure(
            "memory of the plan",
            middle(besides),
            "MiB",
            middle(ones),
            "that of one conversation's whole process",
            300.0,
            True,
            "value",
            f"the most memory with {sizes.planned:,} conversations planned and one call in flight, less that with one "
            "planned",
            besides,
        ),
        Figure(
            "first call",
            middle(firsts),
            "s",
            middle([one.first for one in bare]),
            "the bare loop's",
            5.0,
            True,
            "value",
            f"from the start of the process to the first request, {sizes.planned:,} planned",
            firsts,
        ),
        Figure(
            "lateness of the loop",
            middle(late),
            "ms",
            middle([part(one.lags, 0.999) * 1e3 for one in bare]),
            "the bare loop's",
            50.0,
            True,
            "value",
            "p99.9 of a timer of ten milliseconds inside the client, from when half as many were in flight to the "
            "interruption",
            late,
        ),
    ]
    for name, passes in (("ours", ours), ("the bare loop", bare)):
        half, most = (middle([part(one.lags, share) * 1e3 for one in passes]) for share in (0.5, 1.0))
        told.notes.append(
            f"{name}: late by {number(half)} ms at p50 and {number(most)} ms at the most; "
            f"{min(one.most for one in passes):,} calls in flight at the most"
        )
    if min(one.most for one in (*ours, *bare)) < sizes.at_once:
        told.notes.append(f"WARNING: {sizes.at_once:,} calls in flight were not reached; see ulimit -n")
    return told


def _bare(ground: Ground, sizes: Sizes) -> Pass:
    folder = ground.fresh()
    file = folder / "lags.json"
    with ground.server(latency=sizes.latency, spread=sizes.spread) as server:
        many = str(sizes.at_once)
        command = (*_LAG, str(file), "scripts.benchmarks.bare", server.url, many, "2", many)
        with ground.running(command, folder) as client:
            since = _when_many(client, server, sizes)
            took = client.ended((0,))
        seen = ground.saw(server)
    return Pass(took.peak / MIB, seen.first - took.started, lags(file, since, seen.last), seen.most_flying)


def _when_many(client: Client, server: Server, sizes: Sizes) -> float:
    """The moment from which lateness counts: a minute in which each model is tried alone would flatter it."""

    def is_it() -> bool:
        seen = server.seen()
        return seen.most_flying >= sizes.at_once // 2 or seen.answered >= sizes.at_once  # a low `ulimit -n` is told of

    client.until(is_it)
    return time.monotonic()


def _job(folder: Path, url: str, planned: int, at_once: int) -> tuple[str, ...]:
    job = talks(folder, url, conversations=planned, turns=2, at_once=at_once)
    return ("runner", "run", str(job), "--outputs", str(folder / "outputs"))


def _idle(ground: Ground, sizes: Sizes, planned: int) -> float:
    """The most memory of a run with so many planned, while its first call is in flight."""
    folder = ground.fresh()
    with ground.server(latency=600) as server:
        command = (*_LAG, str(folder / "lags.json"), *_job(folder, server.url, planned, 1))
        with ground.running(command, folder) as client:
            client.until(lambda: server.seen().calls > 0)
            time.sleep(sizes.over)
            peak = client.peak()
            client.kill()
            client.ended((-SIGKILL,))
    return peak / MIB


def _ours(ground: Ground, sizes: Sizes) -> Pass:
    folder = ground.fresh()
    file = folder / "lags.json"
    with ground.server(latency=sizes.latency, spread=sizes.spread) as server:
        command = (*_LAG, str(file), *_job(folder, server.url, sizes.planned, sizes.at_once))
        with ground.running(command, folder) as client:
            since = _when_many(client, server, sizes)
            client.until(lambda: server.seen().answered >= sizes.calls)
            peak, interrupted = client.peak(), time.monotonic()
            client.interrupt()
            client.ended((130, 0))
        seen = ground.saw(server)
        first = seen.first - client.started
    return Pass(peak / MIB, first, lags(file, since, interrupted), seen.most_flying)
