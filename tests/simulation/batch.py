"""Many worlds on all cores: what came of each, and of those that broke a promise the smallest that still does.

A world has a name from which it can be made again anywhere: a seed, or a place in the sweep such as `pair/EIO-17`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from multiprocessing import get_context
from typing import Final

import orjson

from tests.simulation import sweep
from tests.simulation.account import Line
from tests.simulation.cutting import cuts
from tests.simulation.invariants import Broken
from tests.simulation.life import Story, in_short
from tests.simulation.worlds import World, draw

_MOST_TRIED: Final = 40
_CHUNK: Final = 20
_COLLECTED_EVERY: Final = 10


@dataclass(frozen=True, slots=True)
class Failure:
    """How a world broke a promise."""

    promise: str
    what: str
    life: int
    operation: int
    records: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Came:
    """What came of one world."""

    name: str
    lives: int
    kills: int
    requests: int
    digest: str
    failure: Failure | None = None
    without: tuple[str, ...] = ()
    """What could be left out of the world, and it failed all the same."""

    @property
    def again(self) -> str:
        """The command that shows it once more."""
        return " ".join(["python -m tests.simulation replay", self.name, *(f"--without {cut}" for cut in self.without)])


# --- one ---------------------------------------------------------------------------------------------------------


def world(name: str, without: Iterable[str] = ()) -> World:
    """The world of a name, with some of its parts left out."""
    found = draw(int(name)) if name.isdigit() else sweep.named(name)
    for cut in without:
        found = cuts(found)[cut](found)
    return found


def live(name: str, without: Sequence[str] = ()) -> Came:
    """Live through a world."""
    story = Story(world(name, without))
    failure = None
    try:
        story.live()
    except Broken as broken:
        failure = _failure(story, broken.promise, broken.what)
    except Exception as bug:
        failure = _failure(story, "bug", in_short(bug))
    return Came(name, len(story.lived), story.kills, story.requests, story.digest, failure, tuple(without))


def _failure(story: Story, promise: str, what: str) -> Failure:
    records = tuple(_shown(line) for run in story.runs.values() for line in run.account.last)
    return Failure(promise, what, len(story.lived), len(story.disk.operations), records)


def _shown(line: Line) -> str:
    told = {name: value for name, value in line.items() if name not in ("v", "crc", "texts", "job", "usage", "prices")}
    return orjson.dumps(told).decode()[:400]


def shrunk(came: Came) -> Came:
    """The same failure in the smallest world that a few tries find: as many on every machine."""
    assert came.failure is not None
    tried = 0
    best = came
    smaller: Came | None = came
    while smaller is not None:
        best, here = smaller, world(smaller.name, smaller.without)
        smaller = None
        for name, cut in cuts(here).items():
            if tried == _MOST_TRIED:
                break
            if cut(here) == here:
                continue
            tried += 1
            found = live(best.name, (*best.without, name))
            if found.failure is not None and found.failure.promise == came.failure.promise:
                smaller = found
                break
    return best


# --- many --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tally:
    """What came of many worlds."""

    worlds: int = 0
    lives: int = 0
    kills: int = 0
    requests: int = 0
    seconds: float = 0.0
    failed: list[Came] = field(default_factory=list)

    def add(self, came: Came) -> None:
        self.worlds += 1
        self.lives += came.lives
        self.kills += came.kills
        self.requests += came.requests
        if came.failure is not None:
            self.failed.append(came)

    def __str__(self) -> str:
        broken = f"{len(self.failed)} broke a promise" if self.failed else "no promise broken"
        return (
            f"{self.worlds:,} worlds, {self.lives:,} lives, {self.kills:,} kills, {self.requests:,} requests "
            f"in {self.seconds:.0f} s; {broken}"
        )


def settle_in() -> None:
    """What is there from now on is for good: the collector need not look at it in the midst of a world."""
    gc.collect()
    gc.freeze()
    gc.disable()


def live_some(names: Sequence[str]) -> list[Came]:
    """These worlds, one after the other, each failure in its smallest form."""
    found = []
    for number, name in enumerate(names, 1):
        came = live(name)
        found.append(came if came.failure is None else shrunk(came))
        if number % _COLLECTED_EVERY == 0:
            gc.collect()
    return found


def live_all(
    names: Iterator[str],
    jobs: int,
    at_least: float = inf,
    until: float = 0.0,
    tell: Callable[[Came], None] = lambda came: None,
) -> Tally:
    """Worlds by their names on so many cores, as long as there are any: enough of them, and until the time is over.

    `tell` hears of each failure at once.
    """
    began = time.monotonic()
    tally = Tally()
    asked = 0
    with ProcessPoolExecutor(jobs, get_context("spawn"), settle_in, max_tasks_per_child=25) as pool:
        pending: set[Future[list[Came]]] = set()
        while True:
            while len(pending) <= jobs and (asked < at_least or time.monotonic() < until):
                some = list(islice(names, _CHUNK))
                if not some:
                    break
                asked += len(some)
                pending.add(pool.submit(live_some, some))
            if not pending:
                break
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                for came in future.result():
                    tally.add(came)
                    if came.failure is not None:
                        tell(came)
    tally.seconds = time.monotonic() - began
    return tally
