"""`report`, `verify` and `repair`: the views and checks of a run that is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from runner.cli.door import answered, outputs_option, say

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.journal import Scan
    from runner.ledger import Known
    from runner.outputs import Reading
    from runner.verify import Verified

T = TypeVar("T")

EXIT_DIFFERENT: Final = 3
EXIT_HELD: Final = 7
EXIT_DAMAGED: Final = 8


def _runs(command: Callable[..., T]) -> Callable[..., T]:
    return click.argument("runs", nargs=-1, required=True, metavar="RUN...")(command)


# --- verify ------------------------------------------------------------------------------------------------------


@click.command()
@_runs
@outputs_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line: each run, then the end.")
@answered
def verify(runs: tuple[str, ...], outputs: Path, as_json: bool) -> int:
    """Compute every figure and every request hash again from the journal, and compare.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. Nothing is written and nothing is sent.

    \b
    Exit code:
      0  everything is what the journal makes it
      3  a view, a figure or a request hash differs
      8  the journal itself is damaged
    """
    import json
    from dataclasses import asdict

    from runner.cli.runs import find_all, holder
    from runner.verify import verify as verified
    from runner.world import RealDisk

    codes = [0]
    for run in find_all(outputs, runs):
        try:
            found = verified(run.folder, RealDisk(), running=holder(run) is not None)
        except OSError as error:
            say(f"{run.name}: {error.filename or run.folder}: {error.strerror}")
            codes.append(EXIT_DAMAGED)
            continue
        codes.append(EXIT_DAMAGED if found.damage else EXIT_DIFFERENT if found.differences else 0)
        if as_json:
            click.echo(json.dumps({"event": "run", "run": run.name, "ok": found.ok, **asdict(found)}))
        else:
            _tell(run, found)
    if as_json:
        click.echo(json.dumps({"event": "end", "exit": max(codes)}))
    return max(codes)


def _tell(run: Run, found: Verified) -> None:
    from runner.render.figures import counted

    checked = ", ".join(
        (
            counted(found.records, "record"),
            f"{counted(found.rebuilt, 'request')} rebuilt",
            f"{counted(found.views, 'view')} the same",
        )
    )
    click.echo(f"{run.name}: {'sound' if found.ok else 'NOT SOUND'} ({checked})")
    for problem in found.problems:
        click.echo("  " + problem.replace("\n", "\n  "))
    for reason, number in found.not_rebuilt.items():
        click.echo(f"  note: {counted(number, 'request')} not rebuilt: {reason}")
    for note in found.notes:
        click.echo(f"  note: {note}")


# --- report ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Then:
    """The time of the last sign of life: writing views anew is none."""

    at: float

    def wall(self) -> float:
        return self.at


@click.command()
@_runs
@outputs_option
@answered
def report(runs: tuple[str, ...], outputs: Path) -> int:
    """Write every view of a run anew from its journal: transcripts, conversations.jsonl, index.md and status.json.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. They come out as the run itself wrote them.
    """
    from runner.cli.runs import find_all

    return max(_report(run) for run in find_all(outputs, runs))


def _report(run: Run) -> int:
    import anyio

    from runner.cli.runs import me, reading, scanned
    from runner.foreign import in_words
    from runner.journal import LOCK_FILE
    from runner.lines import Damaged
    from runner.outputs import INDEX
    from runner.render.figures import counted
    from runner.world import LockHeld, RealDisk

    try:
        lock = RealDisk().lock(run.folder / LOCK_FILE, me())
    except LockHeld as held:
        say(f"{run.name} is held by {in_words(held.holder)}, which writes its views itself")
        return EXIT_HELD
    try:
        found = scanned(run)
        if found.damaged:
            say(str(Damaged(run.journal, found.end, found.last + 1)))
            say(f"  `tertulia repair {run.folder}` counts what is lost; then the views can be written")
            return EXIT_DAMAGED
        if found.torn:
            say(f"{run.name}: the journal ends with a torn line, which does not count; `tertulia run` sets it aside")
        told = reading(run, found)
        if told is None:
            say(f"{run.name}: the journal is empty, so there is nothing to show")
            return 0
        anyio.run(write_views, run, told, found)
    except OSError as error:
        say(f"{run.name}: {error.filename or run.folder}: {error.strerror}")
        return EXIT_DAMAGED
    finally:
        lock.release()
    transcripts = counted(sum(1 for _ in told.written()), "transcript")
    click.echo(f"{run.name}: {transcripts} and three pages written from {counted(found.last, 'record')}")
    click.echo(f"  {run.folder / INDEX}")
    return 0


async def write_views(run: Run, told: Reading, found: Scan) -> None:
    """Write every view of a run that nobody works on."""
    from runner.outputs import Views

    await Views(told, _Then(_heartbeat(run, found.last_at))).all(found.last)


def _heartbeat(run: Run, otherwise: float) -> float:
    import orjson

    from runner.outputs import STATUS

    try:
        beat = orjson.loads((run.folder / STATUS).read_bytes())["heartbeat"]
    except (OSError, ValueError, KeyError, TypeError):
        return otherwise
    return float(beat) if isinstance(beat, int | float) else otherwise


# --- repair ------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("run")
@outputs_option
@answered
def repair(run: str, outputs: Path) -> int:
    """Make a run with a damaged journal usable again, counting what was lost at the most it can have cost.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. The damaged file is kept beside the new one.
    The ledger of all runs, outputs/ledger.jsonl, is put together again from its good lines and from the journals.
    """
    import anyio

    from runner.cli.runs import find, me, scanned
    from runner.foreign import in_words
    from runner.journal import repair as repaired
    from runner.ledger import FILE as LEDGER
    from runner.money import shown
    from runner.render.figures import counted
    from runner.world import LockHeld, RealClock, RealDisk

    if Path(run).name == LEDGER:
        return _repair_ledger(Path(run))
    one = find(outputs, run)
    try:
        done = anyio.run(repaired, RealDisk(), RealClock(), one.folder, me())
    except LockHeld as held:
        say(f"{one.name} is held by {in_words(held.holder)}; a journal can be repaired only when nobody writes it")
        return EXIT_HELD
    except OSError as error:
        say(f"{one.name}: {error.filename or one.folder}: {error.strerror}")
        return EXIT_DAMAGED
    if done is None:
        torn = scanned(one).torn
        click.echo(
            f"{one.name}: nothing to repair" + ("; `tertulia run` sets its torn last line aside" if torn else "")
        )
        return 0
    click.echo(f"{one.name}: {counted(done.lost, 'record')} lost, counted as {shown(done.cost)} spent")
    click.echo(f"  the damaged journal is kept as {one.folder / done.copy}")
    click.echo(f"  next: `tertulia report {one.folder}` for the views, `tertulia run` to go on")
    return 0


def _repair_ledger(path: Path) -> int:
    import anyio

    from runner.cli.runs import all_runs, me
    from runner.ledger import repair as repaired
    from runner.render.figures import counted
    from runner.world import RealClock, RealDisk

    if not path.is_file():
        raise click.UsageError(f"There is no file {path}.")
    root = path.parent
    known = [one for run in all_runs(root) if (one := _known(run)) is not None]
    try:
        done = anyio.run(repaired, RealDisk(), RealClock(), root, me(), known)
    except OSError as error:
        say(f"{error.filename or path}: {error.strerror}")
        return EXIT_DAMAGED
    if done is None:
        click.echo(f"{path}: nothing to repair")
        return 0
    click.echo(f"{path}: {counted(done.lost, 'line')} lost, {done.counted} counted anew by the journals of the runs")
    click.echo("  what a lost line said of a run whose folder is gone, too, is not counted any more")
    click.echo(f"  the damaged ledger is kept as {root / done.copy}")
    return 0


def _known(run: Run) -> Known | None:
    """What the ledger should count of a run that is there; None when its journal does not tell."""
    from runner.cli.runs import reading, scanned
    from runner.ledger import Known, run_id, truths_of
    from runner.lines import StorageError, TooNew
    from runner.preflight import plays

    try:
        told = reading(run, scanned(run))
    except (StorageError, TooNew) as error:
        say(f"{run.name} is left out: {error}")
        return None
    if told is None or told.state.live is None:
        return None
    live = told.state.live
    folder = f"{run.folder.parent.name}/{run.folder.name}"
    return Known(run_id(folder, live.born), live.zone, plays(told.plan), truths_of(told.state))
