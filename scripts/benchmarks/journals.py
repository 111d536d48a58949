"""A long journal out of a short one: what one real conversation wrote, written again for all others of the plan.

    python -m scripts.benchmarks.journals JOB JOURNAL LEFT

takes the journal of a run in which one conversation was held, and puts in its place that of the run as it would be if
all but LEFT of them had been, many at a time, and the process then had died; with what it folds to beside it, as that
process would have left it. Numbers, checksums and marks of what was synced are true; the hashes of the requests are
those of the one conversation.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Final, TypeAlias

import anyio

from runner.events import Event, Opened, Replied, Sent, Started, Stopped
from runner.folded import Folding, Now
from runner.job import load
from runner.journal import decode, encode
from runner.lines import split
from runner.plan import make_plan
from runner.state import Place, State
from runner.world import RealDisk

_AT_ONCE: Final = 64
_GROUP: Final = 64
"""Lines that one sync puts down."""
_LINES_PER_SECOND: Final = 2_000

OfOne: TypeAlias = Sent | Started | Replied | Stopped


def told(path: Path) -> tuple[float, Opened, list[OfOne]]:
    """How a run was opened and when, and what was written of the conversation that it held."""
    opened: Opened | None = None
    at = 0.0
    found: list[OfOne] = []
    for offset, line, _ in split(RealDisk(), path):
        record = decode(line, offset)
        assert record is not None
        match record.event:
            case Opened():
                opened, at = record.event, record.at
            case Sent() | Replied() | Started():
                found.append(record.event)
            case Stopped(status="complete"):
                found.append(record.event)
            case _:
                pass
    if opened is None or len({event.cell for event in found}) != 1 or not isinstance(found[-1], Stopped):
        sys.exit(f"{path} is no journal of a run in which one conversation came to its end")
    return at, opened, found


def events(cells: Iterator[str], one: Sequence[OfOne]) -> Iterator[Event]:
    """What is written of these conversations, so many at a time: all their first events, all their second ones."""
    while some := list(islice(cells, _AT_ONCE)):
        for event in one:
            for cell in some:
                yield replace(event, cell=cell)


async def write(path: Path, opened: Opened, happened: Iterable[Event], count: int, end: float) -> None:
    """A journal of so many events whose last one is written at `end`, and beside it what it folds to."""
    begin = end - count / _LINES_PER_SECOND
    state, position = State(), 0
    folding = Folding.begin(RealDisk(), path, state, None, 0)
    with path.with_suffix(".long").open("wb") as file:
        for seq, event in enumerate(chain([opened], happened), 1):
            at = round(begin + seq / _LINES_PER_SECOND, 3)
            # A mark tells of what was synced when its group was put together, which is all before it.
            line = encode(seq, at, event, seq - 1 if seq % _GROUP == 1 else None)
            state.apply(event, at, Place(position, len(line)))
            position += len(line)
            file.write(line)
            folding.durable(line)
            if seq % _GROUP == 0:
                await folding.step(partial(Now, seq, at, position, seq, ()))
        file.flush()
        os.fsync(file.fileno())
    path.with_suffix(".long").replace(path)


def main(job: Path, path: Path, left: int) -> None:
    at, opened, one = told(path)
    cells = [cell.id for cell in make_plan(load(job), opened.date).cells]
    done = cells[: len(cells) - left]
    anyio.run(write, path, opened, events(iter(done), one), len(done) * len(one), at)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
