"""Calls per second, and processor time per call, against a server that answers at once."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import orjson

from scripts.benchmarks.figures import Figure, Told, middle, number
from scripts.benchmarks.jobs import journal, talks
from scripts.benchmarks.processes import TERTULIA, Ground, Seen, Took
from scripts.benchmarks.sizes import size

BARE: Final = (sys.executable, "-P", "-m", "scripts.benchmarks.bare")
_SYNCS_PER_CALL: Final = 1.5
"""A call waits for the sync of its own reservation, and for half of one that is under way when it comes."""


@dataclass(frozen=True, slots=True)
class Sizes:
    conversations: int = size(2_000, "How many conversations.")
    turns: int = size(8, "Turns of each, an even number.")
    at_once: int = size(64, "How many at a time.")
    syncs: int = size(200, "How many syncs make the median.")


QUICK: Final = Sizes(conversations=24, turns=4, at_once=8, syncs=20)


class Pass(NamedTuple):
    """One run of one side, and one of a single conversation, which is all start."""

    seen: Seen
    took: Took
    alone: Took

    @property
    def micros(self) -> float:
        """Processor time per call, all of it."""
        return self.took.cpu / self.seen.answered * 1e6

    @property
    def micros_without_start(self) -> float:
        return (self.took.cpu - self.alone.cpu) / self.seen.answered * 1e6


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """Both sides in turn, as often as asked for, on the same server."""
    told = Told("throughput")
    bare: list[Pass] = []
    ours: list[Pass] = []
    syncs: list[float] = []
    group = 0
    for _ in range(times):
        bare.append(_bare(ground, sizes))
        found, outputs = _ours(ground, sizes)
        ours.append(found)
        group = round(median(group_sizes(journal(outputs))))
        syncs.append(sync_seconds(outputs, group, sizes.syncs))
    loop, sync = middle([one.seen.per_second for one in bare]), middle(syncs)
    disk = sizes.at_once / (_SYNCS_PER_CALL * sync)
    each = tuple(one.seen.per_second for one in ours)
    how = (
        f"{sizes.conversations:,} conversations x {sizes.turns} turns, {sizes.at_once} at a time, streamed; budget, "
        "limits, journal and transcripts on; from the server's first request to its last answer"
    )
    least = "the bare loop" if loop <= disk else "what the disk allows"
    told.figures += [
        Figure("calls", middle(each), "calls/s", min(loop, disk), least, 0.5, False, "ratio", how, each),
        Figure(
            "calls by the bare loop alone", middle(each), "calls/s", loop, "the bare loop", None, False, "ratio", how
        ),
    ]
    told.notes.append(
        f"the bare loop: {number(loop)} calls/s; the disk: {sizes.at_once} / ({_SYNCS_PER_CALL} x "
        f"{number(sync * 1e3)} ms) = {number(disk)} calls/s, by the median of {sizes.syncs} times {group:,} bytes "
        "written and synced, as much as a group of the journal has"
    )
    for name, asked, of, how in (
        ("processor time per call", 2.0, "micros", "the whole process, its start included"),
        (
            "processor time per call without the start",
            None,
            "micros_without_start",
            "the same, less that of a run of one conversation, on both sides",
        ),
    ):
        each = tuple(getattr(one, of) for one in ours)
        told.figures.append(
            Figure(
                name,
                middle(each),
                "us",
                middle([getattr(one, of) for one in bare]),
                "the bare loop's",
                asked,
                True,
                "ratio",
                how,
                each,
            )
        )
    return told


def _bare(ground: Ground, sizes: Sizes) -> Pass:
    def command(url: str, conversations: int) -> tuple[str, ...]:
        return (*BARE, url, str(conversations), str(sizes.turns), str(sizes.at_once))

    with ground.server() as server:
        alone = ground.took(command(server.url, 1), ground.fresh())
    with ground.server() as server:
        took = ground.took(command(server.url, sizes.conversations), ground.fresh())
        return Pass(ground.saw(server), took, alone)


def _ours(ground: Ground, sizes: Sizes) -> tuple[Pass, Path]:
    def run(url: str, conversations: int, folder: Path) -> Took:
        job = talks(folder, url, conversations=conversations, turns=sizes.turns, at_once=sizes.at_once)
        return ground.took((*TERTULIA, "run", str(job), "--outputs", str(folder / "outputs")), folder)

    with ground.server() as server:
        alone = run(server.url, 1, ground.fresh())
    with ground.server() as server:
        folder = ground.fresh()
        took = run(server.url, sizes.conversations, folder)
        return Pass(ground.saw(server), took, alone), folder / "outputs"


def group_sizes(path: Path) -> list[int]:
    """How many bytes were written with each sync: the first line of a group says what was synced before."""
    found: list[int] = []
    with path.open("rb") as lines:
        for line in lines:
            if not found or "synced" in orjson.loads(line):
                found.append(0)
            found[-1] += len(line)
    return found


def sync_seconds(folder: Path, group: int, times: int) -> float:
    """How long it takes to add so many bytes to a file there, and to have them on the disk."""
    path, data = folder / "synced", b"x" * group
    sync = getattr(os, "fdatasync", os.fsync)
    took: list[float] = []
    with path.open("ab", buffering=0) as file:
        for _ in range(times):
            began = time.perf_counter()
            file.write(data)
            sync(file.fileno())
            took.append(time.perf_counter() - began)
    path.unlink()
    return median(took)
