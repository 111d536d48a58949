"""`scripts/bench`: one subcommand for each figure that is asked for."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from scripts.benchmarks import budget, flight, growth, limits, makespan, resume, start, throughput, waiting
from scripts.benchmarks.figures import Told, machine
from scripts.benchmarks.processes import Broke, Ground, processors, raise_limits, stand_aside

_TIMES: Final = 5


class Benchmark(NamedTuple):
    """One subcommand."""

    measure: Callable[[Ground, int, Any], Told]
    full: Any
    quick: Any
    about: str


BENCHMARKS: Final = {
    name: Benchmark(module.measure, module.Sizes(), module.QUICK, (module.__doc__ or "").strip())
    for name, module in (
        ("throughput", throughput),
        ("growth", growth),
        ("waiting", waiting),
        ("flight", flight),
        ("limits", limits),
        ("makespan", makespan),
        ("budget", budget),
        ("resume", resume),
        ("start", start),
    )
}
_COMMON: Final = (
    click.Option(["--times"], type=click.IntRange(min=1), help=f"How often, for the median.  [default: {_TIMES}]"),
    click.Option(["--quick"], is_flag=True, help="Small and once, to see that it works: the figures say nothing."),
    click.Option(["--json", "file"], type=click.Path(dir_okay=False, path_type=Path), help="Write it there, too."),
    click.Option(
        ["--folder"],
        type=click.Path(file_okay=False, path_type=Path),
        help="Run on this disk; what is made there is removed again.  [default: that of temporary files]",
    ),
)


def told_by(name: str, ground: Ground, times: int, sizes: Any) -> Told:
    """What a benchmark finds, printed as it comes; also that it broke."""
    try:
        told = BENCHMARKS[name].measure(ground, times, sizes)
    except Broke as error:
        told = Told(name, broke=str(error))
    told.busiest, ground.busiest = ground.busiest, 0.0
    for line in told.lines:
        print(line, flush=True)
    return told


def measure(
    names: tuple[str, ...], times: int | None, quick: bool, file: Path | None, folder: Path | None, **sizes: Any
) -> int:
    """Measure these, one after another; 1 where something broke, and 0 also where a figure is missed."""
    found: list[Told] = []
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        plain = BENCHMARKS[name].quick if quick else BENCHMARKS[name].full
        given = {key: value for key, value in sizes.items() if value is not None}
        chosen = type(plain)(**{one.name: getattr(plain, one.name) for one in fields(plain)} | given)
        with tempfile.TemporaryDirectory(prefix="tertulia-bench-", dir=folder) as made:
            ground = Ground(Path(made).resolve())
            if ground.bound is None and not found:
                print("the client and the server are not bound to processors of their own", flush=True)
            found.append(told_by(name, ground, times or (1 if quick else _TIMES), chosen))
    if file is not None:
        record = {"machine": machine(processors()), "benchmarks": [told.record for told in found]}
        file.write_text(json.dumps(record, indent=2) + "\n")
    return 1 if any(told.broke is not None for told in found) else 0


def command(name: str) -> click.Command:
    """One benchmark, with an option for each of its sizes."""
    benchmark = BENCHMARKS[name]
    options = [
        click.Option(
            [f"--{one.name.replace('_', '-')}", one.name],
            type=float if isinstance(getattr(benchmark.full, one.name), float) else int,
            help=f"{one.metadata['help']}  [default: {getattr(benchmark.full, one.name):,}]",
        )
        for one in fields(benchmark.full)
    ]

    def call(**given: Any) -> int:
        return measure((name,), **given)

    return click.Command(name, params=[*options, *_COMMON], callback=call, help=benchmark.about)


def everything(**given: Any) -> int:
    return measure(tuple(BENCHMARKS), **given)


bench = click.Group(
    "bench",
    commands=[
        *(command(name) for name in BENCHMARKS),
        click.Command("all", params=list(_COMMON), callback=everything, help="All of them, one after another."),
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
    help="How fast Tertulia is, as ratios to baselines that are measured in the same run.",
)


def main() -> int:
    raise_limits()
    stand_aside()
    try:
        code: int = bench.main(prog_name="scripts/bench", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return 2
    except click.Abort:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
