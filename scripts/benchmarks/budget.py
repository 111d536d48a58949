"""How much of a ceiling is used that is half of what is needed, and how fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from scripts.benchmarks.figures import Figure, Told, middle, number
from scripts.benchmarks.jobs import INPUT_NANOS, OUTPUT_NANOS, journal, talks
from scripts.benchmarks.processes import TERTULIA, Broke, Ground, Seen
from scripts.benchmarks.sizes import size


@dataclass(frozen=True, slots=True)
class Sizes:
    conversations: int = size(2_500, "How many conversations.")
    turns: int = size(8, "Turns of each, an even number.")
    at_once: int = size(16, "How many at a time.")
    latency: float = size(0.02, "Seconds that each call takes.")
    part: float = size(0.5, "The ceiling, as a part of what is needed.")


QUICK: Final = Sizes(conversations=20, turns=4, at_once=2, latency=0.005)
_SMALL: Final = 0.015
"""Where all slots together reserve no more than this part of the ceiling, it should slow nobody down."""


class Pass(NamedTuple):
    """One run with its ceiling, and the run without that told what it needs."""

    cap: int
    bill: int
    reserved: int
    speed: float
    speed_without: float


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """A run without a ceiling and one with it in turn, as often as asked for."""
    told = Told("budget")
    passes = [_pass(ground, sizes) for _ in range(times)]
    shares = tuple(one.bill / one.cap for one in passes)
    speeds = tuple(one.speed / one.speed_without for one in passes)
    cap, without = middle([one.cap / 1e9 for one in passes]), middle([one.speed_without for one in passes])
    held = middle([one.reserved * sizes.at_once / one.cap for one in passes])
    told.figures += [
        Figure(
            "used",
            middle(shares) * cap,
            "dollars",
            cap,
            "the ceiling",
            0.97,
            False,
            "ratio",
            f"the server's own bill, of a ceiling of {sizes.part:.0%} of the bill of the run without one",
            shares,
        ),
        Figure(
            "the most that was used",
            max(shares) * cap,
            "dollars",
            cap,
            "the ceiling",
            1.0,
            True,
            "ratio",
            "the same, of all runs the dearest",
        ),
        Figure(
            "calls",
            middle(speeds) * without,
            "calls/s",
            without,
            "the run without a ceiling",
            0.95 if held <= _SMALL else None,
            False,
            "ratio",
            f"{sizes.at_once} at a time, {sizes.latency * 1e3:g} ms each; all slots together reserve at the most "
            f"{held:.2%} of the ceiling (asked for where that is {_SMALL:.1%} at the most)",
            speeds,
        ),
    ]
    told.notes.append(f"a ceiling of ${number(cap)}")
    return told


def _pass(ground: Ground, sizes: Sizes) -> Pass:
    without, _ = _run(ground, sizes, 1_000_000.0, (0,))
    cap = int(bill(without) * sizes.part)
    seen, path = _run(ground, sizes, cap / 1e9, (4,))
    if seen.answered == 0:
        raise Broke("not one call was made under the ceiling; a larger job needs more")
    return Pass(cap, bill(seen), largest_reservation(path), seen.per_second, without.per_second)


def _run(ground: Ground, sizes: Sizes, dollars: float, planned: tuple[int, ...]) -> tuple[Seen, Path]:
    folder = ground.fresh()
    with ground.server(latency=sizes.latency) as server:
        job = talks(
            folder,
            server.url,
            conversations=sizes.conversations,
            turns=sizes.turns,
            at_once=sizes.at_once,
            budget=dollars,
        )
        ground.took((*TERTULIA, "run", str(job), "--outputs", str(folder / "outputs")), folder, planned)
        return ground.saw(server), journal(folder / "outputs")


def bill(seen: Seen) -> int:
    """What the server charges, in nano-dollars."""
    return seen.input_tokens * INPUT_NANOS + seen.output_tokens * OUTPUT_NANOS


def largest_reservation(path: Path) -> int:
    """The most that a call of a run has reserved, in nano-dollars."""
    with path.open("rb") as lines:
        return max((record["reserved"] for line in lines if "reserved" in (record := orjson.loads(line))), default=0)
