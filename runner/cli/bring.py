"""`import`: old transcripts become a job and a run of it, as if they had been held here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from runner.cli.door import answered, outputs_option, say

if TYPE_CHECKING:
    from runner.events import Opened, State
    from runner.imports import Old, Scene, Uses
    from runner.job import Files
    from runner.job.job import Job
    from runner.night import Source
    from runner.outputs import Reading
    from runner.plan import Cell, Plan

_USAGE: Final = 2
_UNFINISHED: Final = 3
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_SHOWN: Final = 40


def _named(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, sign, use = text.rpartition("=")
        provider, slash, id_ = use.partition("/")
        if not (name and sign and provider and slash and id_):
            raise click.BadParameter(f"{text} is not 'NAME=provider/model-id'")
        found[name.strip()] = use.strip()
    return found


@click.command(name="import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--as", "style", metavar="STYLE", help="The style of all these files, where it cannot be told.")
@click.option("--name", default="imported", show_default=True, help="What the job is called.")
@click.option("--run", "key", default="main", show_default=True, help="The run's key.")
@click.option(
    "--use",
    "given",
    multiple=True,
    callback=_named,
    metavar="NAME=PROVIDER/ID",
    help="Which model it is that the files call so: 'GLM 5=openrouter/z-ai/glm-5'. It may be a side's label.",
)
@click.option(
    "--job",
    "job_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the job file is to be written; without it NAME.yaml.",
)
@outputs_option
@answered
def import_(
    files: tuple[Path, ...],
    style: str | None,
    name: str,
    key: str,
    given: dict[str, str],
    job_file: Path | None,
    outputs: Path,
) -> int:
    """Read old transcripts in: as a job, and as a run of it that can be gone on with, mended and compared.

    FILE is Markdown in one of the styles of transcripts. The job has a prompt for each conversation, and the run's
    journal what was said, with the figures that the file tells. Nothing is asked of any model, and no money moves.

    \b
    Exit code:
      0  every conversation is complete
      2  a file cannot be read, or it is not known which model is meant: nothing was written
      3  a conversation has a turn without a text, and counts as failed from there on
      7  another process holds the run
    """
    import anyio

    from runner.imports import CannotImport, job_text, scenes, uses
    from runner.job.source import MOST_BYTES
    from runner.plan import slug
    from runner.preflight import CannotBegin

    for option, word in (("--name", name), ("--run", key)):
        if slug(word) != word:
            hint = f"{word!r} is no name for a folder: letters, digits, dots, dashes; try {slug(word)}"
            raise click.BadParameter(hint, param_hint=option)

    try:
        olds = _read(files, style)
        known = uses(olds, given)
        every = scenes(olds, known)
    except CannotImport as error:
        raise CannotBegin(_USAGE, "nothing was read in:", *(f"  {line}" for line in error.lines)) from None
    path = job_file or Path(f"{name}.yaml")
    text = job_text(name, key, every, known)
    if (size := len(text.encode())) > MOST_BYTES:
        what = f"their job would have {size:,} bytes, and at most {MOST_BYTES:,} are read"
        raise CannotBegin(_USAGE, f"nothing was read in: {what}; read them in in parts, each with a --name")
    source, plan = _planned(path, text)
    wanted = _conversations(path, text, every, source, plan)
    read_in = anyio.run(_record, path, text, source, plan, key, outputs, wanted)
    _tell(read_in, known, path)
    return _UNFINISHED if read_in.failed else 0


# --- before anything is written ----------------------------------------------------------------------------------


def _read(files: Sequence[Path], style: str | None) -> list[Old]:
    """Every file; CannotImport with all that cannot be read."""
    from runner.imports import CannotImport, taken_apart
    from runner.job.problem import did_you_mean, listed
    from runner.render import STYLES

    if style is not None and style not in STYLES:
        hint = did_you_mean(style, STYLES) or f"there are {listed(list(STYLES))}"
        raise click.BadParameter(f"there is no style {style}; {hint}", param_hint="--as")
    found: list[Old] = []
    problems: list[str] = []
    for path in {path.resolve(): path for path in files}.values():
        try:
            found.append(taken_apart(str(path), _text(path), style))
        except CannotImport as error:
            problems += error.lines
    if problems:
        raise CannotImport(*problems)
    return found


def _text(path: Path) -> str:
    from runner.imports import CannotImport
    from runner.job.files import Files, Misread

    try:
        data = Files().read(path, _MOST_BYTES)
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except Misread as error:
        raise CannotImport(f"{path}: {error}") from None
    except UnicodeDecodeError:
        raise CannotImport(f"{path}: it is not UTF-8") from None


def _in_place_of(path: Path, text: str) -> Files:
    """The files as they are, but for one that is not written yet."""
    from runner.job.files import Files

    class Written(Files):
        def read(self, asked: Path, most: int) -> bytes:
            return text.encode() if asked == path else super().read(asked, most)

    return Written()


def _planned(path: Path, text: str) -> tuple[Source, Plan]:
    """The job that is there or will be, with its plan."""
    import time

    from runner.cli.hold import load_all
    from runner.job import load
    from runner.night import Source
    from runner.plan import make_plan
    from runner.selection import date_of

    if path.exists():
        (source,) = load_all([path])
    else:
        source = Source(load(path, files=_in_place_of(path, text)), str(path), {})
    return source, make_plan(source.job, date_of(time.time(), source.job.timezone))


def _conversations(path: Path, text: str, every: Sequence[Scene], source: Source, plan: Plan) -> Mapping[str, Old]:
    """What is to be read in, by the ids of its conversations; CannotBegin where another job is in the way."""
    from runner.imports import cells
    from runner.job import load
    from runner.plan import make_plan
    from runner.preflight import CannotBegin

    ours = load(path, files=_in_place_of(path, text))
    wanted = cells(make_plan(ours, plan.date), every)
    if ours.name != source.job.name or any(id_ not in plan.by_id for id_ in wanted):
        raise CannotBegin(
            _USAGE, f"{path} is there, and is another job: choose another --name or --job; nothing was written"
        )
    return wanted


# --- writing -----------------------------------------------------------------------------------------------------


class _ReadIn(NamedTuple):
    """What became of the files."""

    run: str
    reading: Reading
    conversations: Mapping[str, Old]
    new: int

    @property
    def failed(self) -> list[Cell]:
        """Those that failed, and that no other mends."""
        reading = self.reading
        ours = [cell for id_ in self.conversations if (cell := reading.plan.by_id.get(id_)) is not None]
        return [cell for cell in ours if reading.status(cell)[0] == "failed"]


async def _record(
    path: Path, text: str, source: Source, plan: Plan, key: str, outputs: Path, wanted: Mapping[str, Old]
) -> _ReadIn:
    """Write the job file, the journal and the views."""
    from functools import partial

    from runner.cli.runs import me
    from runner.events import Closed, Heard, Noted
    from runner.imports import told
    from runner.job import style_module
    from runner.journal import Journal
    from runner.outputs import Reading, Views
    from runner.plan import make_plan, slug
    from runner.preflight import CannotBegin
    from runner.world import RealClock, RealDisk

    job, disk, clock = source.job, RealDisk(), RealClock()
    folder = outputs / slug(job.name) / key
    journal = await Journal.open(disk, clock, folder, me())
    try:
        state = journal.state
        if state.jobs:
            plan = make_plan(job, state.jobs[0].date, state.additions)
        # What the run itself has gone on with is its own; what a crash cut off is completed.
        missing = {id_: old for id_, old in wanted.items() if not (state.of(id_).lasting or state.of(id_).sents)}
        if missing and state.job not in (None, job.record()[0]):
            raise CannotBegin(
                _USAGE, f"{folder} is a run in which these are not read in: choose another --name or --run"
            )
        _put(path, text)
        if missing:
            async with journal.writing():
                journal.record(_opened(job, plan, key, source.file, outputs, state, clock.wall()))
                for id_, old in missing.items():
                    progress = state.of(id_)
                    known, notes = set(progress.replies), len(progress.noted)
                    for event in told(id_, old, round(clock.wall(), 3)):
                        if isinstance(event, Noted) and notes:
                            notes -= 1
                        elif not (isinstance(event, Heard) and event.turn in known):
                            journal.record(event)
                failed = any(state.of(cell.id).status == "failed" for cell in plan.cells)
                journal.record(Closed(state.lives, _UNFINISHED if failed else 0, ("failed",) if failed else ()))
            if journal.failing is not None:
                raise journal.failing
        reading = Reading(disk, folder, state, plan, key, journal, partial(style_module, path.parent))
        if not reading.is_shown(journal.seq):
            await Views(reading, clock).all(journal.seq)
    finally:
        journal.close()
    return _ReadIn(f"{job.name}/{key}", reading, wanted, len(missing))


def _put(path: Path, text: str) -> None:
    """Write the job file where there is none."""
    from contextlib import suppress

    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), open(path, "x", encoding="utf-8", newline="\n") as file:
        file.write(text)


def _opened(job: Job, plan: Plan, key: str, file: str, outputs: Path, state: State, now: float) -> Opened:
    """The life in which lines are heard and nothing is asked: it has no prices and no ceilings."""
    from runner import __version__
    from runner.events import Opened
    from runner.selection import date_of

    data, texts = job.record()
    return Opened(
        life=state.lives + 1,
        version=__version__,
        run=job.name,
        key=key,
        date=plan.date,
        zone=job.timezone,
        job=None if data == state.job else data,
        texts={digest: text for digest, text in texts.items() if digest not in state.texts},
        ceilings={},
        prices={},
        options={"file": file, "outputs": str(outputs)},
        day=date_of(now, job.timezone),
        born=next((event.born for _, event in state.opened if event.born), round(now, 3)),
    )


def _tell(read_in: _ReadIn, known: Uses, path: Path) -> None:
    """What was read in, what was guessed, and what can be done with it."""
    from shlex import quote

    from runner.cli.runs import Run
    from runner.foreign import one_line, visible
    from runner.render.figures import counted

    reading, conversations = read_in.reading, read_in.conversations
    for name, use in ((name, use) for name, use in known.guessed.items() if name != use):
        say(f"guessed: {one_line(name)} is {one_line(use)}; --use says it otherwise")
    if not read_in.new:
        click.echo(f"{read_in.run}: nothing to do, all of it was read in before")
        return
    origins = {cell.id: cell for cell in reading.plan.superseded}
    for number, (id_, old) in enumerate(conversations.items()):
        if number == _MOST_SHOWN:
            click.echo(f"  ... and {len(conversations) - number} more")
            break
        cell, progress = origins.get(id_) or reading.plan.by_id[id_], reading.state.of(id_)
        end = f"{progress.status}{f': {progress.reason}' if progress.reason else ''}"
        turns = counted(len(progress.replies), "turn")
        click.echo(visible(f"  {old.file} ({old.style}): {cell.name}, {turns}, {end}", keep_newlines=False))
    run = Run(reading.folder)
    click.echo(f"{read_in.run}: {counted(len(conversations), 'conversation')} read in, {len(read_in.failed)} failed")
    click.echo(f"  the job: {visible(str(path), keep_newlines=False)}")
    click.echo(f"  look at it: {run.command('status')}")
    if read_in.failed:
        names = " ".join(quote(cell.name) for cell in read_in.failed[:_MOST_SHOWN])
        click.echo(f"  to say again what has no text: {run.command('redo')} {names}")
