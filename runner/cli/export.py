"""`export`: the conversations of a run in the shapes that other programs read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from runner.cli.door import answered, emit, ended, json_option, outputs_option, say
from runner.status import STATUSES

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.exports import Head, Talk, Talks
    from runner.journal import Scan
    from runner.outputs import Reading
    from runner.plan import Cell

FOLDER: Final = "exports"
_SQLITE: Final = "sqlite"
_FORMATS: Final = ("openai", "sharegpt", "csv", _SQLITE, "parquet", "inspect")


@click.command()
@click.argument("run")
@outputs_option
@click.option("--format", "format_", type=click.Choice(_FORMATS), required=True, help="The shape of the file.")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"The file; one in the run's folder {FOLDER}/ when none is named.",
)
@click.option("--only", multiple=True, metavar="PATTERN", help="Only conversations with such a name: 'prism/*'.")
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(STATUSES),
    help="Only conversations that stand so; may be given several times.",
)
@json_option
@answered
@ended
def export(
    run: str,
    outputs: Path,
    format_: str,
    output: Path | None,
    only: tuple[str, ...],
    statuses: tuple[str, ...],
    as_json: bool,
) -> int:
    """Write the conversations of a run as one file in the shape of another program.

    RUN is a run's folder, `job/key`, or a job, which means its newest run. It may be at work: what is exported is what
    its journal tells now. Nothing is sent, and nothing of the run is changed.

    \b
    openai    chats to fine-tune with, one `messages` a line; complete ones, unless --status says otherwise
    sharegpt  the same in the shape of ShareGPT: `conversations` of `from` and `value`
    csv       a row a turn, for spreadsheets; a text that would be taken for a formula gets an apostrophe
    sqlite    a database with the tables conversations and turns
    parquet   a row a conversation with its turns; needs pip install 'tertulia[parquet]'
    inspect   a log for Inspect AI: inspect view --log-dir FOLDER
    """
    from importlib.util import find_spec

    from runner.cli.runs import find, reading, scanned
    from runner.exports import FORMATS

    one = find(outputs, run)
    needs = None if format_ == _SQLITE else FORMATS[format_].needs
    if needs is not None and find_spec(needs) is None:
        raise click.UsageError(f"--format {format_} needs the package {needs}: pip install 'tertulia[{format_}]'")
    found = scanned(one)
    told = reading(one, found)
    if told is None:
        raise click.UsageError(f"{one.name} has no conversations yet: its journal is empty.")
    if found.damaged:
        say(f"{one.name}: the journal is damaged; what is exported ends where it is. See `{one.command('verify')}`")
    head = _head(told, found)
    whole = format_ != _SQLITE and FORMATS[format_].whole
    chosen = _chosen(told, only, statuses or (("complete",) if whole else ()), spoken=whole)
    path = output or one.folder / FOLDER / _name(format_, head)
    written = _Written(path, len(chosen.cells), chosen.left_out)
    _write(format_, path, head, lambda: _talks(told, chosen.cells), makes_folder=output is None)
    _tell(one, format_, written, as_json)
    return 0


class _Chosen(NamedTuple):
    """The conversations to export, and how many there are beside them."""

    cells: Sequence[Cell]
    left_out: int


class _Written(NamedTuple):
    path: Path
    conversations: int
    left_out: int


def _chosen(told: Reading, only: Sequence[str], statuses: Sequence[str], *, spoken: bool) -> _Chosen:
    """The conversations with such a name that stand so; `spoken` leaves out those in which no model has said a word."""
    from runner.selection import select

    named = select(told.plan, only)
    if not named:
        raise click.UsageError(f"--only {' '.join(only)} names no conversation of {told.job}/{told.key}.")
    cells = [
        cell
        for cell in named
        if (not statuses or told.status(cell)[0] in statuses) and (not spoken or told.state.of(cell.id).replies)
    ]
    return _Chosen(cells, len(told.plan.cells) - len(cells))


def _head(told: Reading, found: Scan) -> Head:
    from runner import __version__
    from runner.exports import Head

    state = found.state
    closed = None if state.is_open or not state.closed else state.closed[-1]
    return Head(
        job=told.job,
        run=told.key,
        version=__version__,
        began=state.opened[0][0],
        ended=None if closed is None else closed[0],
        exit=None if closed is None else closed[1].exit,
    )


def _name(format_: str, head: Head) -> str:
    from runner.exports import FORMATS, sqlite

    return sqlite.NAME if format_ == _SQLITE else FORMATS[format_].name(head)


def _talks(told: Reading, cells: Sequence[Cell]) -> Iterator[Talk]:
    from runner.exports import talk

    return (talk(told.transcript(cell)) for cell in cells)


# --- the file ----------------------------------------------------------------------------------------------------


def _write(format_: str, path: Path, head: Head, talks: Talks, *, makes_folder: bool) -> None:
    import os
    import sqlite3
    from contextlib import closing

    from runner.exports import FORMATS, sqlite
    from runner.lines import StorageError
    from runner.world import RealDisk

    if makes_folder:
        RealDisk().make_dirs(path.parent)
    elif not path.parent.is_dir():
        raise click.UsageError(f"There is no folder {path.parent} for the file {path.name}; make it first.")
    with _temporary(path) as temporary:
        # Made by us and for us alone, before anybody else opens it: what was said is private.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            if format_ != _SQLITE:
                for piece in FORMATS[format_].pieces(head, talks):
                    file.write(piece)
        if format_ == _SQLITE:
            try:
                with closing(sqlite3.connect(temporary)) as database:
                    sqlite.fill(database, talks)
            except sqlite3.Error as error:
                raise StorageError(f"{path} cannot be written: {error}") from error


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A name beside the file, that takes its place when all is written, and is gone when that fails."""
    import os

    temporary = path.with_name(f".{path.name[:80]}.{os.getpid()}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _tell(run: Run, format_: str, written: _Written, as_json: bool) -> None:
    from runner.exports import FORMATS
    from runner.foreign import one_line
    from runner.render.figures import counted

    note = None if format_ == _SQLITE else FORMATS[format_].note
    if as_json:
        emit(
            {
                "event": "export",
                "run": run.name,
                "format": format_,
                "file": str(written.path),
                "conversations": written.conversations,
                "left_out": written.left_out,
                "note": note,
            }
        )
        return
    beside = f", {written.left_out:,} left out" if written.left_out else ""
    click.echo(f"{run.name}: {counted(written.conversations, 'conversation')}{beside}")
    click.echo(f"  {one_line(str(written.path), 1000)}")
    if note is not None:
        click.echo(f"  {note}")
