"""How long a command takes that has hardly anything to do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.benchmarks.figures import Figure, Told, middle
from scripts.benchmarks.jobs import OPENING, PRICE, written
from scripts.benchmarks.processes import TERTULIA, Ground
from scripts.benchmarks.sizes import size

_BARE: Final = (sys.executable, "-P", "-m", "scripts.benchmarks.bare_click")


@dataclass(frozen=True, slots=True)
class Sizes:
    starts: int = size(4, "Starts for one of the times that make a median.")
    models: int = size(100, "Models on each side of the matrix that is checked.")


QUICK: Final = Sizes(starts=1, models=10)


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """Both sides in turn, as often as asked for."""
    told = Told("start")
    folder = ground.fresh()
    matrix, one = _matrix(folder, sizes.models), _matrix(folder, 1)
    bare: list[float] = []
    help_: list[float] = []
    large: list[float] = []
    small: list[float] = []
    for _ in range(times):
        for _ in range(sizes.starts):
            bare.append(_seconds(ground, folder, (*_BARE, "--help")))
            help_.append(_seconds(ground, folder, (*TERTULIA, "--help")))
        small.append(_seconds(ground, folder, (*TERTULIA, "check", str(one))))
        large.append(_seconds(ground, folder, (*TERTULIA, "check", str(matrix))))
    told.figures += [
        Figure(
            "help",
            middle(help_),
            "s",
            middle(bare),
            "a bare click program with as many commands",
            2.5,
            True,
            "ratio",
            f"`--help`, the whole process; the median of {len(help_)} starts in turn",
        ),
        Figure(
            "check",
            middle(large),
            "s",
            middle(small),
            "that of a job of one cell",
            2.0,
            True,
            "value",
            f"`check` of a job whose matrix makes {sizes.models**2:,} cells, the whole process",
            tuple(large),
        ),
    ]
    return told


def _seconds(ground: Ground, folder: Path, command: Sequence[str]) -> float:
    return ground.took(command, folder).seconds


def _matrix(folder: Path, models: int) -> Path:
    """A job in which so many models talk with as many."""
    names = [f"m{n}" for n in range(models)]
    place = folder / f"of-{models}"
    place.mkdir()
    return written(
        place,
        {
            "budget": 1,
            "providers": {"bench": {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "none"}},
            "models": {name: {"use": f"bench/{name}", "price": PRICE} for name in names},
            "prompts": {"talk": {"opening": OPENING, "rounds": 4}},
            "pairings": [{"a": names, "b": names}],
        },
    )
