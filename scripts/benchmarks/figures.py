"""What was measured, and how it is told: to people, and as JSON."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from statistics import median
from typing import Any, Final, Literal

_FEW: Final = 0.9
"""Of a server that is busy for a larger part of its time nobody knows whether it is what was measured."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: what was measured, and what it is held against."""

    name: str
    value: float
    unit: str
    baseline: float
    against: str
    """What the baseline is."""
    asked: float | None
    """What is asked for; None where a figure is only told."""
    most: bool
    """True where no more is asked for, False where no less."""
    of: Literal["ratio", "value"]
    """Which of the two is asked for."""
    how: str
    each: tuple[float, ...] = ()
    """What the median is made of."""

    @property
    def ratio(self) -> float:
        return self.value / self.baseline if self.baseline else 0.0

    @property
    def reached(self) -> bool | None:
        if self.asked is None:
            return None
        found = self.ratio if self.of == "ratio" else self.value
        return found <= self.asked if self.most else found >= self.asked

    @property
    def told(self) -> str:
        """In one line."""
        said = (
            f"{self.name}: {number(self.ratio)} of {self.against} "
            f"({number(self.value)} against {number(self.baseline)} {self.unit})"
        )
        if self.asked is None:
            return said
        unit = "" if self.of == "ratio" else f" {self.unit}"
        bound = "at most" if self.most else "at least"
        return f"{said}; asked: {bound} {number(self.asked)}{unit}; {'reached' if self.reached else 'MISSED'}"


@dataclass(slots=True)
class Told:
    """What one subcommand found."""

    name: str
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What belongs beside the figures."""
    busiest: float = 0.0
    """The largest part of its time that a server took."""
    broke: str | None = None

    @property
    def lines(self) -> Iterable[str]:
        """All of it, for people."""
        for figure in self.figures:
            yield f"{self.name}: {figure.told}"
            yield f"    {figure.how}"
            if len(figure.each) > 1:
                yield f"    the median of {', '.join(map(number, figure.each))}"
        for note in self.notes:
            yield f"    {note}"
        if self.busiest > _FEW:
            yield f"    WARNING: the server was busy for {self.busiest:.2f} of its time, and may be what was measured"
        elif self.busiest:
            yield f"    the server was busy for {self.busiest:.2f} of its time at the most"
        if self.broke is not None:
            yield f"{self.name}: BROKE: {self.broke}"

    @property
    def record(self) -> dict[str, Any]:
        """All of it, for programs."""
        figures = [asdict(one) | {"ratio": one.ratio, "reached": one.reached} for one in self.figures]
        return {
            "benchmark": self.name,
            "figures": figures,
            "notes": self.notes,
            "server_busy": self.busiest,
            "broke": self.broke,
        }


def number(value: float) -> str:
    """A number with three places that mean something."""
    size = abs(value)
    places = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:,.{places}f}"


def middle(values: Sequence[float]) -> float:
    return median(values) if values else 0.0


def machine(bound: tuple[int, int] | None) -> dict[str, Any]:
    """Where it was measured."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": platform.processor() or platform.machine(),
        "bound_to": bound,
        "uvloop": find_spec("uvloop") is not None,
    }
