"""`import`: old transcripts become a job and a run of it, as if they had been held here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import click

from runner.cli.door import answered, outputs_option, say

if TYPE_CHECKING:
    from runner.events import Opened
    from runner.imports import CannotImport, Old, Scene, Uses
    from runner.job import Files
    from runner.job.job import Job
    from runner.journal import Journal
    from runner.night import Source
    from runner.outputs import Reading
    from runner.plan import Cell, Plan
    from runner.preflight import CannotBegin
    from runner.state import State

_INBOX: Final = "inbox"
_USAGE: Final = 2
_UNFINISHED: Final = 3
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_SHOWN: Final = 40


def _named(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, sign, use = text.rpartition("=")
        provider, slash, id_ = use.strip().partition("/")
        if not (name and sign and (use.strip() == _INBOX or (provider and slash and id_))):
            raise click.BadParameter(f"{text} is neither 'NAME=provider/model-id' nor 'NAME={_INBOX}'")
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
    help="Which model it is that the files call so: 'GLM 5=openrouter/z-ai/glm-5'. It may be a side's label; "
    "'Maria=inbox' says that it is none.",
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
    A file that cannot be read in is told and passed over; the same command again adds it when it is mended.

    \b
    Exit code:
      0  every conversation is complete
      2  nothing was written: a mistake in the command, or no file that can be read in
      3  a conversation failed, as its file tells, or a file was passed over
      7  another process holds the run
    """
    import anyio

    from runner.imports import CannotImport, job_text, scenes, taken_apart, uses, with_models
    from runner.job.source import MOST_BYTES
    from runner.plan import slug
    from runner.preflight import CannotBegin

    for option, word in (("--name", name), ("--run", key)):
        if slug(word) != word:
            hint = f"{word!r} is no name for a folder: letters, digits, dots, dashes; try {slug(word)}"
            raise click.BadParameter(hint, param_hint=option)

    _check_style(style)
    odd: list[CannotImport] = []
    paths = list({path.resolve(): path for path in files}.values())
    olds = _sifted(lambda path: taken_apart(str(path), _text(path), style), paths, odd)
    try:
        known = uses(olds, given)
    except CannotImport as error:
        raise _nothing([*odd, error]) from None
    every, alike = scenes(_sifted(lambda old: with_models(old, known), olds, odd), known)
    odd += alike

    def text_of(some: Sequence[Scene]) -> str:
        return job_text(name, key, some, known)

    if (size := len(text_of(every).encode())) > MOST_BYTES:
        what = f"their job would have {size:,} bytes, and at most {MOST_BYTES:,} are read"
        raise CannotBegin(_USAGE, f"nothing was read in: {what}; read them in in parts, each with a --name")
    path = job_file or Path(f"{name}.yaml")
    every = _jobs(path, text_of, every, odd)
    if not every:
        raise _nothing(odd)
    place = _place(path, text_of, every)
    read_in = anyio.run(_record, place, key, outputs)
    odd += read_in.changed.values()
    _tell(read_in, known, path, odd)
    return _UNFINISHED if read_in.failed or odd else 0


# --- before anything is written ----------------------------------------------------------------------------------

_One = TypeVar("_One")


def _sifted(read: Callable[[_One], Old], every: Iterable[_One], odd: list[CannotImport]) -> list[Old]:
    """Those that can be read so; why the others cannot joins `odd`."""
    from runner.imports import CannotImport

    found: list[Old] = []
    for one in every:
        try:
            found.append(read(one))
        except CannotImport as error:
            odd.append(error)
    return found


def _jobs(
    path: Path, text_of: Callable[[Sequence[Scene]], str], every: Sequence[Scene], odd: list[CannotImport]
) -> list[Scene]:
    """Those of which a job can be made; what is in the way of the others joins `odd`."""
    from runner.imports import CannotImport
    from runner.job import JobError, load

    def problems(some: Sequence[Scene]) -> str:
        try:
            load(path, files=_in_place_of(path, text_of(some)))
        except JobError as error:
            words = (word for one in error.problems for word in (one.message, one.hint) if word)
            return "; ".join(dict.fromkeys(words))
        return ""

    if not every or not problems(every):
        return list(every)
    found: list[Scene] = []
    # Their lines are those of a job that nobody has seen: what counts is which file brings them.
    for scene in every:
        if why := problems([scene]):
            odd += [CannotImport(f"{old.file}: no job can be made of it: {why}") for old in scene.olds]
        else:
            found.append(scene)
    return found


def _nothing(odd: Sequence[CannotImport]) -> CannotBegin:
    from runner.preflight import CannotBegin

    return CannotBegin(_USAGE, "nothing was read in:", *(f"  {line}" for error in odd for line in error.lines))


def _check_style(style: str | None) -> None:
    from runner.job.problem import did_you_mean, listed
    from runner.render import STYLES

    if style is not None and style not in STYLES:
        hint = did_you_mean(style, STYLES) or f"there are {listed(list(STYLES))}"
        raise click.BadParameter(f"there is no style {style}; {hint}", param_hint="--as")


def _text(path: Path) -> str:
    from runner.imports import CannotImport
    from runner.job.files import Files, Misread

    try:
        data = Files().read(path, _MOST_BYTES)
    except Misread as error:
        raise CannotImport(f"{path}: {error}") from None
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CannotImport(f"{path}:{line}: it is not UTF-8: save it as UTF-8") from None


def _in_place_of(path: Path, text: str) -> Files:
    """The files as they are, but for one that is not written yet."""
    from runner.job.files import Files

    class Written(Files):
        def read(self, asked: Path, most: int) -> bytes:
            return text.encode() if asked == path else super().read(asked, most)

    return Written()


class _Place(NamedTuple):
    """Where files are read in."""

    path: Path
    source: Source
    """The job that is there or will be."""
    text: str | None
    """What is to be written into its file; None where that stays as it is."""
    wanted: Mapping[str, Old]
    """The files by the ids of their conversations."""


def _place(path: Path, text_of: Callable[[Sequence[Scene]], str], every: Sequence[Scene]) -> _Place:
    """The job that is there or will be.

    A job file that is there stays as it is, unless an import of some of these files wrote it and nobody has edited it
    since: then it grows. CannotBegin where another job is in the way.
    """
    import time

    from runner.cli.hold import load_all
    from runner.imports import Scene, cells
    from runner.job import load
    from runner.night import Source
    from runner.plan import make_plan
    from runner.preflight import CannotBegin
    from runner.selection import date_of

    text = text_of(every)
    ours = Source(load(path, files=_in_place_of(path, text)), str(path), {})
    source = load_all([path])[0] if path.exists() else ours
    date = date_of(time.time(), source.job.timezone)
    wanted, plan = cells(make_plan(ours.job, date), every), make_plan(source.job, date)
    if ours.job.name == source.job.name and all(id_ in plan.by_id for id_ in wanted):
        return _Place(path, source, text if source is ours else None, wanted)
    repeats = Counter(cell.prompt for cell in plan.cells)
    former = [Scene(scene.name, scene.olds[: repeats[scene.name]]) for scene in every if repeats[scene.name]]
    known = source.job.models
    kept = all(name in ours.job.models and ours.job.models[name].id == model.id for name, model in known.items())
    if not former or not kept or path.read_bytes() != text_of(former).encode():
        raise CannotBegin(
            _USAGE,
            f"{path} is there, and is another job: choose another --name or --job; nothing was written",
            "  to add files to what was read in before, name those of before, too",
        )
    return _Place(path, ours, text, wanted)


# --- writing -----------------------------------------------------------------------------------------------------


class _ReadIn(NamedTuple):
    """What became of the files."""

    run: str
    reading: Reading
    conversations: Mapping[str, Old]
    """Without the changed files."""
    changed: Mapping[str, CannotImport]
    """Files that say something else than what was read in before in their place."""
    new: int

    @property
    def failed(self) -> list[Cell]:
        """Those that failed, and that no other mends."""
        reading = self.reading
        ours = [cell for id_ in self.conversations if (cell := reading.plan.by_id.get(id_)) is not None]
        return [cell for cell in ours if reading.status(cell)[0] == "failed"]


async def _record(place: _Place, key: str, outputs: Path) -> _ReadIn:
    """Write the job file, the journal and the views."""
    from dataclasses import replace
    from functools import partial

    from runner.cli.runs import me
    from runner.events import Closed, Heard, Noted
    from runner.imports import CannotImport, told
    from runner.job import style_module
    from runner.journal import Journal
    from runner.outputs import Reading
    from runner.plan import make_plan, slug
    from runner.preflight import CannotBegin
    from runner.selection import date_of
    from runner.views import Views
    from runner.world import RealClock, RealDisk

    job, wanted, disk, clock = place.source.job, place.wanted, RealDisk(), RealClock()
    folder = outputs / slug(job.name) / key
    journal = await Journal.open(disk, clock, folder, me())
    try:
        state = journal.state
        date = state.jobs[0].date if state.jobs else date_of(clock.wall(), job.timezone)
        plan = make_plan(job, date, state.additions)
        # What the run itself has gone on with is its own; what a crash cut off is completed.
        missing = {id_: old for id_, old in wanted.items() if not (state.of(id_).lasting or state.of(id_).sents)}
        if missing and not _is_part(state, make_plan(job, date)):
            raise CannotBegin(
                _USAGE, f"{folder} is a run in which these are not read in: choose another --name or --run"
            )
        if place.text is not None:
            _put(place.path, place.text)
        if missing:
            async with journal.writing():
                opened = _opened(job, plan, key, place.source.file, outputs, state, clock.wall())
                journal.record(replace(opened, about=tuple(id_ for id_ in missing if id_ in state.cells)))
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
        there = {cell.id: cell.name for cell in (*plan.cells, *plan.superseded)}
        changed = {
            id_: CannotImport(
                f"{old.file}: {there[id_]} has other words in the run: the file was changed since, or takes "
                "the place of another; read it in with a --name of its own"
            )
            for id_, old in wanted.items()
            if id_ not in missing and _differs(journal, id_, old)
        }
        reading = Reading(disk, folder, state, plan, key, journal)
        reading.lend(partial(style_module, place.path.parent))
        if not reading.is_shown(journal.seq):
            await Views(reading, clock).all(journal.seq)
    finally:
        journal.close()
    same = {id_: old for id_, old in wanted.items() if id_ not in changed}
    return _ReadIn(f"{job.name}/{key}", reading, same, changed, len(missing))


def _is_part(state: State, plan: Plan) -> bool:
    """True when every conversation of the run's last job is one of this plan."""
    from runner.job import Job, JobError
    from runner.plan import make_plan

    if not state.jobs:
        return True
    try:
        job = Job.from_record(state.jobs[-1].job or {}, state.texts)
    except (KeyError, JobError):
        return False  # a repair lost one of its texts
    return make_plan(job, plan.date).by_id.keys() <= plan.by_id.keys()


def _differs(journal: Journal, id_: str, old: Old) -> bool:
    """True when something else was read in in the place of a file; what was said again since is the run's own."""
    from runner.events import Heard

    replies = journal.state.of(id_).replies
    events = [journal.read(replies[number]).event for number in range(1, len(old.said) + 1) if number in replies]
    heard = [event.text == said.text for event, said in zip(events, old.said, strict=False) if isinstance(event, Heard)]
    return len(events) < len(old.said) or not all(heard)


def _put(path: Path, text: str) -> None:
    """Write the job file, in whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8", newline="\n")
    beside.replace(path)


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


def _tell(read_in: _ReadIn, known: Uses, path: Path, odd: Sequence[CannotImport]) -> None:
    """What was read in, what was guessed or passed over, and what can be done with it."""
    from shlex import quote

    from runner.cli.runs import Run
    from runner.foreign import one_line, visible
    from runner.render.figures import counted

    reading, conversations = read_in.reading, read_in.conversations
    here = {side.model for old in conversations.values() for side in old.sides}
    for name, use in ((name, use) for name, use in known.guessed.items() if name != use and name in here):
        say(f"guessed: {one_line(name)} is {one_line(use)}; --use says it otherwise")
    for line in (line for error in odd for line in error.lines):
        say(f"passed over: {line}")
    passed = f", {counted(len(odd), 'file')} passed over" if odd else ""
    if not read_in.new:
        click.echo(f"{read_in.run}: nothing to do, all of it was read in before{passed}")
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
    click.echo(f"  the job: {visible(str(path), keep_newlines=False)}")
    click.echo(f"  look at it: {run.command('status')}")
    if read_in.failed:
        names = " ".join(quote(cell.name) for cell in read_in.failed[:_MOST_SHOWN])
        click.echo(f"  to say again what has no text: {run.command('redo')} {names}")
    count = counted(len(conversations), "conversation")
    click.echo(f"{read_in.run}: {count} read in, {len(read_in.failed)} failed{passed}")
