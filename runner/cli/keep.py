"""`report`, `verify` and `repair`: the views and checks of a run that is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click

from runner.cli.door import answered, emit, ended, garbage_of_late, json_option, outputs_option, say

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.journal import Scan
    from runner.outputs import Reading
    from runner.render import Style
    from runner.verify import Verified
    from runner.views import Views
    from runner.world import Disk

T = TypeVar("T")

EXIT_DIFFERENT: Final = 3
EXIT_STYLE: Final = 2
EXIT_HELD: Final = 7
EXIT_DAMAGED: Final = 8


def _runs(command: Callable[..., T]) -> Callable[..., T]:
    return click.argument("runs", nargs=-1, required=True, metavar="RUN...")(command)


# --- verify ------------------------------------------------------------------------------------------------------


@click.command()
@_runs
@outputs_option
@json_option
@answered
@ended
def verify(runs: tuple[str, ...], outputs: Path, as_json: bool) -> int:
    """Compute every figure and every request hash again from the journal, and compare.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. Nothing is written and nothing is sent.

    \b
    Exit code:
      0  everything is what the journal makes it
      3  a view, a figure or a request hash differs
      8  the journal itself is damaged
    """
    from dataclasses import asdict

    from runner.cli.runs import find_all, holder
    from runner.verify import verify as verified
    from runner.world import RealDisk

    codes = [0]
    for run in find_all(outputs, runs):
        try:
            found = verified(run.folder, RealDisk(), running=holder(run) is not None)
        except OSError as error:
            trouble = f"{error.filename or run.folder}: {error.strerror}"
            if as_json:
                emit({"event": "run", "run": run.name, "ok": False, "trouble": trouble})
            say(f"{run.name}: {trouble}")
            codes.append(EXIT_DAMAGED)
            continue
        codes.append(EXIT_DAMAGED if found.damage else EXIT_DIFFERENT if found.differences else 0)
        if as_json:
            emit({"event": "run", "run": run.name, "ok": found.ok, "trouble": None, **asdict(found)})
        else:
            _tell(run, found)
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
@click.option("--style", metavar="NAME|FILE.py", help="Only the transcripts, in another style or one of your own.")
@click.option(
    "-o",
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where those in another style go; without it into exports/, in the run's folder.",
)
@answered
def report(runs: tuple[str, ...], outputs: Path, style: str | None, folder: Path | None) -> int:
    """Write every view of a run anew from its journal: transcripts, conversations.jsonl, index.md and status.json.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. They come out as the run itself would write
    them: as the job was when it was last run, in whose texts, labels and styles a change is taken in by `tertulia run`.
    A style of your own, a Python file that the job names, is run as it is now; the job is read from the file that was
    last run, seen from this folder. Where that cannot be, transcripts in that style are left, and the exit code is 3.

    With --style the run's own files stay as they are, and its transcripts are written once more beside them: in a style
    that comes with Tertulia, or in that of a Python file, which is your own code and is run.
    """
    from runner.cli.export import FOLDER
    from runner.cli.runs import find_all

    found = find_all(outputs, runs)
    if style is None:
        if folder is not None:
            raise click.UsageError("-o is for transcripts in another style: add --style.")
        with garbage_of_late():
            return max(_report(run) for run in found)
    name, look = _style(style)
    return max(
        _restyle(run, look, run.folder / FOLDER / name if folder is None else _part(folder, run, found))
        for run in found
    )


def _part(folder: Path, run: Run, every: list[Run]) -> Path:
    """Where in a folder the files of one of these runs go."""
    return folder if len(every) == 1 else folder / run.folder.parent.name / run.folder.name


def _style(asked: str) -> tuple[str, Style]:
    """The style that is meant, and what its folder is called. UsageError when there is none."""
    from runner.conversation import Look
    from runner.job import style_module
    from runner.job.problem import did_you_mean, listed
    from runner.plan import slug
    from runner.render import STYLES, StyleError, own_style

    if asked in STYLES:
        return asked, STYLES[asked]
    path = Path(asked)
    if path.is_dir():
        raise click.BadParameter(f"{asked} is a folder; name the Python file in it", param_hint="--style")
    if path.suffix != ".py" or not path.exists():
        kind = "file" if path.suffix == ".py" else "style"
        hint = did_you_mean(asked, [*STYLES, *map(str, path.parent.glob("*.py"))])
        hint = hint or f"there are {listed(list(STYLES))}, or a Python file of your own"
        raise click.BadParameter(f"there is no {kind} {asked}; {hint}", param_hint="--style")
    try:
        return slug(path.stem), own_style(Look(asked), lambda _: style_module(path.parent, path.name))
    except StyleError as error:
        raise click.BadParameter(str(error), param_hint="--style") from None


def _restyle(run: Run, style: Style, folder: Path) -> int:
    import anyio

    from runner.cli.runs import reading, scanned
    from runner.render import StyleError
    from runner.render.figures import counted

    found = scanned(run)
    if found.damaged:
        say(f"{run.name}: the journal is damaged; what is written ends where it is. See `{run.command('verify')}`")
    told = reading(run, found)
    if told is None:
        say(f"{run.name}: the journal is empty, so there is nothing to show")
        return 0
    written: list[Path] = []
    try:
        anyio.run(_write_styled, told, style, folder, written)
    except StyleError as error:
        say(f"{run.name}: {error}")
        if written:
            say(f"  {counted(len(written), 'transcript')} written before that, and left in {folder}")
        return EXIT_STYLE
    except OSError as error:
        say(f"{run.name}: {error.filename or folder}: {error.strerror}")
        return EXIT_DAMAGED
    if folder.is_relative_to(run.folder):
        _clear_older(told.disk, written)
    click.echo(f"{run.name}: {counted(len(written), 'transcript')} written")
    click.echo(f"  {folder}")
    return 0


async def _write_styled(told: Reading, style: Style, folder: Path, written: list[Path]) -> None:
    """Write every transcript in a style; `written` is told of each."""
    from runner.outputs import CONVERSATIONS

    for cell in told.written():
        path = folder / told.file(cell, style).relative_to(CONVERSATIONS)
        await told.disk.replace(path, told.markdown(cell, style).encode())
        written.append(path)


def _clear_older(disk: Disk, written: list[Path]) -> None:
    """Remove what a style of this name has written in the run's own folder with another suffix."""
    kept = set(written)
    names = {path.with_suffix("") for path in written}
    for folder in {path.parent for path in written}:
        for name in disk.listdir(folder):
            path = folder / name
            if path not in kept and path.with_suffix("") in names:
                disk.remove(path)


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
    except OSError as error:
        say(f"{run.name}: {error.filename or run.folder}: {error.strerror}")
        return EXIT_DAMAGED
    try:
        found = scanned(run)
        if found.damaged:
            say(str(Damaged(run.journal, found.end, found.last + 1)))
            say(f"  `{run.command('repair')}` counts what is lost; then the views can be written")
            return EXIT_DAMAGED
        if found.torn:
            say(f"{run.name}: the journal ends with a torn line, which does not count; `tertulia run` sets it aside")
        told = reading(run, found)
        if told is None:
            say(f"{run.name}: the journal is empty, so there is nothing to show")
            return 0
        loaded, missing = _own_styles(run, told)
        views = anyio.run(write_views, run, told, found)
    except OSError as error:
        say(f"{run.name}: {error.filename or run.folder}: {error.strerror}")
        return EXIT_DAMAGED
    finally:
        lock.release()
    transcripts = counted(views.written, "transcript")
    click.echo(f"{run.name}: {transcripts} and three pages written from {counted(found.last, 'record')}")
    for path in loaded:
        click.echo(f"  in the style of {path}")
    click.echo(f"  {run.folder / INDEX}")
    left = sum(told.style(cell) is None for cell in told.written())
    if left:
        say(f"{run.name}: {counted(left, 'transcript')} not written anew: {'; '.join(missing)}")
    if views.style_trouble is not None:
        say(f"{run.name}: {views.style_trouble}; what it could not show is in the usual style")
    return EXIT_DIFFERENT if left or views.style_trouble is not None else 0


def _own_styles(run: Run, told: Reading) -> tuple[list[Path], list[str]]:
    """Run the styles of the job's own, as they are now: the files of those that can be used, and why others cannot.

    A journal names them, and may come from anywhere: none is run that its job does not name here, too.
    """
    from functools import partial

    from runner.job import JobError, load, style_module
    from runner.plan import slug
    from runner.render import STYLES

    asked = list(dict.fromkeys(prompt.look.style for prompt in told.plan.job.prompts.values()))
    asked = [style for style in asked if style not in STYLES]
    if not asked:
        return [], []
    options = told.state.opened[-1][1].options
    path = Path(str(options.get("file", "")))
    if not path.is_file():
        return [], [f"its job was {path}, which is not there from this folder"]
    try:
        job = load(path, sets=[str(one) for one in options.get("sets", ())])
    except JobError as error:
        return [], [error.problems[0].render().partition("\n")[0]]
    if slug(job.name) != run.folder.parent.name:
        return [], [f"{path} is another job by now, {job.name}"]
    named = {prompt.look.style for prompt in job.prompts.values()}
    gone = [
        f"{path} names {style} no more; `tertulia run {path}` takes in how it is now"
        for style in asked
        if style not in named
    ]
    if gone:
        return [], gone
    troubles = told.lend(partial(style_module, path.parent))
    return [path.parent / style for style in asked if style not in troubles], list(troubles.values())


async def write_views(run: Run, told: Reading, found: Scan) -> Views:
    """Write every view of a run that nobody works on."""
    from runner.views import Views

    views = Views(told, _Then(_heartbeat(run, found.last_at)))
    await views.all(found.last)
    return views


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
@json_option
@answered
@ended
def repair(run: str, outputs: Path, as_json: bool) -> int:
    """Make a run with a damaged journal usable again, counting what was lost at the most it can have cost.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. The damaged file is kept beside the new one.
    The ledger of all runs, outputs/ledger.jsonl, is put together again from its good lines and from the journals.
    """
    import anyio

    from runner.cli.runs import find, me, scanned
    from runner.foreign import in_words
    from runner.journal import repair as repaired
    from runner.ledger import FILE as LEDGER
    from runner.money import dollars, shown
    from runner.render.figures import counted
    from runner.world import LockHeld, RealClock, RealDisk

    if Path(run).name == LEDGER:
        beside = outputs / LEDGER
        return _repair_ledger(beside if run == LEDGER and beside.is_file() else Path(run), as_json)
    one = find(outputs, run)
    try:
        done = anyio.run(repaired, RealDisk(), RealClock(), one.folder, me())
    except LockHeld as held:
        say(f"{one.name} is held by {in_words(held.holder)}; a journal can be repaired only when nobody writes it")
        return EXIT_HELD
    except OSError as error:
        say(f"{one.name}: {error.filename or one.folder}: {error.strerror}")
        return EXIT_DAMAGED
    if as_json:
        lost, cost = (0, 0) if done is None else (done.lost, done.cost)
        copy = None if done is None else str(one.folder / done.copy)
        emit({"event": "repair", "file": str(one.journal), "lost": lost, "cost": float(dollars(cost)), "copy": copy})
        return 0
    if done is None:
        torn = scanned(one).torn
        click.echo(
            f"{one.name}: nothing to repair" + ("; `tertulia run` sets its torn last line aside" if torn else "")
        )
        return 0
    click.echo(f"{one.name}: {counted(done.lost, 'record')} lost, counted as {shown(done.cost)} spent")
    click.echo(f"  the damaged journal is kept as {one.folder / done.copy}")
    click.echo(f"  next: `{one.command('report')}` for the views, `tertulia run` to go on")
    return 0


def _repair_ledger(path: Path, as_json: bool) -> int:
    import anyio

    from runner.cli.runs import me
    from runner.foreign import in_words
    from runner.journal import LOCK_FILE
    from runner.ledger import repair as repaired
    from runner.night import runs_in
    from runner.render.figures import counted
    from runner.world import LockHeld, RealClock, RealDisk

    root = path.parent
    known = list(runs_in(RealDisk(), root, say))
    if not path.is_file() and not known:
        raise click.UsageError(f"There is no file {path}, and no run beside it that has spent anything.")
    try:
        done = anyio.run(repaired, RealDisk(), RealClock(), root, me(), LOCK_FILE, known)
    except LockHeld as held:
        say(f"{in_words(held.holder)} is at work in {root}; its ledger can be repaired only when no run is under way")
        return EXIT_HELD
    except OSError as error:
        say(f"{error.filename or path}: {error.strerror}")
        return EXIT_DAMAGED
    if as_json:
        lost, again = (0, 0) if done is None else (done.lost, done.counted)
        copy = None if done is None or done.copy is None else str(root / done.copy)
        emit({"event": "repair", "file": str(path), "lost": lost, "counted": again, "copy": copy})
        return 0
    if done is None:
        click.echo(f"{path}: nothing to repair")
        return 0
    click.echo(f"{path}: {counted(done.lost, 'line')} lost, {done.counted} counted anew by the journals of the runs")
    click.echo("  what a lost line said of a run whose folder is gone, too, is not counted any more")
    if done.copy is not None:
        click.echo(f"  the damaged ledger is kept as {root / done.copy}")
    return 0
