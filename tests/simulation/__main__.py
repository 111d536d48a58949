"""The simulation from the command line: `python -m tests.simulation seeds | sweep | mutants | soak | replay | digest`.

Exits with 1 when a promise was broken; what is printed then is enough to see it broken again.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from itertools import chain, count
from pathlib import Path
from typing import Any, Final

import orjson

from tests.simulation import mutants, sweep
from tests.simulation.batch import Came, Tally, live, live_all, settle_in, world
from tests.simulation.worlds import Life, World

KEPT: Final = Path(__file__).with_name("seeds.txt")
_SOAK_MINUTES: Final = 30.0


def kept_seeds() -> list[int]:
    """Every seed that ever failed."""
    lines = (line.partition("#")[0].strip() for line in KEPT.read_text().splitlines())
    return [int(line) for line in lines if line]


def fresh_seeds() -> Iterator[int]:
    """Seeds that nobody has tried, in all likelihood."""
    first = int(time.time()) * 1000
    print(f"fresh seeds from {first}", flush=True)
    return count(first)


def main(words: list[str] | None = None) -> int:
    options = _parser().parse_args(words)
    return int(options.does(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    kinds = parser.add_subparsers(required=True)

    seeds = kinds.add_parser("seeds", help="every seed that ever failed, then others")
    seeds.add_argument("--first", type=int, help="begin here, and not at the time of the day")
    seeds.add_argument("--at-least", type=int, default=500)
    seeds.add_argument("--seconds", type=float, default=0.0, help="go on for so long")
    seeds.set_defaults(does=_seeds)

    swept = kinds.add_parser("sweep", help="two worlds, broken off at every operation of the disk")
    swept.add_argument("--full", action="store_true", help="and in the midst of the recovery")
    swept.set_defaults(does=_sweep)

    wrong = kinds.add_parser("mutants", help="wrong variants of the product, each of which must be caught")
    wrong.add_argument("--unseeded", action="store_true", help="as if nobody knew which seed catches it")
    wrong.set_defaults(does=lambda options: mutants.main(options.jobs, options.unseeded))

    soak = kinds.add_parser("soak", help="fresh seeds until told to stop")
    soak.add_argument("minutes", type=float, nargs="?", default=_SOAK_MINUTES)
    soak.set_defaults(does=_soak)

    replay = kinds.add_parser("replay", help="one world again")
    replay.add_argument("name", help="its seed, or its place in the sweep such as pair/EIO-17")
    replay.add_argument("--without", action="append", default=[], metavar="PART", help="leave this out of the world")
    replay.add_argument("--verbose", action="store_true", help="print the world")
    replay.set_defaults(does=_replay)

    digest = kinds.add_parser("digest", help="what stands for everything that happened in some worlds")
    digest.add_argument("seeds", type=int, nargs="+")
    digest.set_defaults(does=_digest)
    return parser


def _seeds(options: argparse.Namespace) -> int:
    until = time.monotonic() + options.seconds
    old = live_all(map(str, kept_seeds()), options.jobs, tell=_tell)
    print(f"seeds that failed once: {old}", flush=True)
    fresh = fresh_seeds() if options.first is None else count(options.first)
    new = live_all(map(str, fresh), options.jobs, options.at_least, until, _tell)
    print(f"seeds: {new}", flush=True)
    return _code(old, new)


def _sweep(options: argparse.Namespace) -> int:
    every = sweep.twice if options.full else sweep.once
    tally = live_all(chain.from_iterable(map(every, sweep.SWEPT)), options.jobs, tell=_tell)
    print(f"sweep: {tally}")
    return _code(tally)


def _soak(options: argparse.Namespace) -> int:
    until = time.monotonic() + options.minutes * 60
    tally = live_all(map(str, fresh_seeds()), options.jobs, 0, until, _tell)
    print(f"soak: {tally}")
    return _code(tally)


def _code(*tallies: Tally) -> int:
    return 1 if any(tally.failed for tally in tallies) else 0


def _tell(came: Came) -> None:
    """A failure, and how to see it again."""
    failure = came.failure
    assert failure is not None
    place = f"in life {failure.life}, by operation {failure.operation} of the disk"
    print(f"\n{came.name} broke {failure.promise} {place}:\n  {failure.what}")
    print("  the last records:", *failure.records, sep="\n    ")
    print(f"  again: {came.again}", flush=True)


def _replay(options: argparse.Namespace) -> int:
    if options.verbose:
        _show(world(options.name, options.without))
    came = live(options.name, options.without)
    print(f"{came.lives} lives, {came.kills} kills, {came.requests} requests, {came.digest[:16]}")
    if came.failure is not None:
        _tell(came)
    return 0 if came.failure is None else 1


def _show(shown: World) -> None:
    print(f"order {shown.order}, round trips {shown.rtt}, syncs {shown.sync_seconds}")
    for number, life in enumerate(shown.lives, 1):
        before = shown.lives[number - 2] if number > 1 else None
        print(f"life {number}:", *_befalls(life), sep="\n  ")
        if before is None or before.job != life.job:
            print("  job", orjson.dumps(life.job).decode())
        if before is None or before.sims != life.sims:
            print("  providers", orjson.dumps(life.sims).decode())


def _befalls(life: Life) -> list[str]:
    found: list[Any] = [(f.name, getattr(life, f.name), f.default) for f in fields(life)]
    found += [(f.name, getattr(life.options, f.name), f.default) for f in fields(life.options)]
    return [f"{n} {v}" for n, v, default in found if v != default and n not in ("job", "sims", "options")]


def _digest(options: argparse.Namespace) -> int:
    for seed in options.seeds:
        print(seed, live(str(seed)).digest)
    return 0


if __name__ == "__main__":
    settle_in()
    sys.exit(main())
