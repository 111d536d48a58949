"""`prune`: old runs that are complete are deleted, and their money goes on being counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from runner.cli.door import answered, emit, ended, json_option, outputs_option, say

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.journal import Scan
    from runner.ledger import Ledger
    from runner.outputs import Reading

EXIT_HELD: Final = 7
EXIT_STORAGE: Final = 8
_MOST_SHOWN: Final = 40


class _Old(NamedTuple):
    """A run that may go."""

    run: Run
    last: float
    """Its last record."""
    bytes: int
    assumed: int
    """What is counted for calls of which nobody knows the cost; without the journal that cannot be settled any more."""


class _Kept(NamedTuple):
    """A run that is old enough, and stays."""

    run: Run
    why: str


@click.command()
@outputs_option
@click.option("--keep", required=True, metavar="DURATION", help="Runs with a record younger than this stay: 30d.")
@click.option("--job", metavar="NAME", help="Only runs of this job.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
@click.option("--yes", "-y", is_flag=True, help="Delete without asking.")
@json_option
@answered
@ended
def prune(outputs: Path, keep: str, job: str | None, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Delete the folders of old runs: those that are complete, and whose last record is older than --keep.

    The newest run of each job stays, and so does each that is unfinished, damaged or held by a process. The ledger
    stays, too, and goes on counting what the deleted runs have spent. Everything in a run's folder goes with it,
    exports included. Without a terminal nobody is asked, and nothing is deleted unless --yes is given.
    """
    import sys
    import time

    now = time.time()
    before = now - _seconds(keep)
    old: list[_Old] = []
    kept: list[_Kept] = []
    for run in _candidates(outputs, job, before):
        found = _looked_at(run)
        if isinstance(found, _Old):
            old.append(found)
        else:
            kept.append(found)
    _tell(old, kept, now, as_json)
    if dry_run or not old:
        return 0
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise click.UsageError(
                "Nothing was deleted, for nobody can be asked: add --yes, or --dry-run to only look."
            )
        if not click.confirm(f"Delete {_counted(len(old))} for good?", err=True):
            say("nothing was deleted")
            return 0
    return _delete(outputs, old, as_json)


def _seconds(text: str) -> float:
    from runner.cli.hold import seconds_of

    return seconds_of("--keep", text)


def _counted(runs: int) -> str:
    from runner.render.figures import counted

    return counted(runs, "run")


# --- what may go -------------------------------------------------------------------------------------------------


def _candidates(outputs: Path, job: str | None, before: float) -> Iterator[Run]:
    """Every run but the newest of each job, whose last record is older."""
    from itertools import groupby

    from runner.cli.runs import all_runs, began, last_record
    from runner.foreign import one_line
    from runner.plan import slug

    runs = [run for run in all_runs(outputs) if job is None or run.folder.parent.name in (job, slug(job))]
    if job is not None and not runs:
        raise click.UsageError(f"There is no run of {one_line(job)!r} in {outputs}; `tertulia status` lists all.")
    for _, some in groupby(runs, key=lambda run: run.folder.parent.name):
        for run in sorted(some, key=lambda run: (began(run), run.name))[:-1]:
            try:
                last = last_record(run)
            except OSError:
                continue  # what we may not read is somebody else's to delete
            if last is not None and last[1] < before:
                yield run


def _looked_at(run: Run) -> _Old | _Kept:
    """Whether a run may go: its journal says so, and nobody else does not."""
    from runner.cli.runs import holder, reading, scanned
    from runner.lines import StorageError, TooNew

    try:
        held = holder(run)
        if held is not None:
            return _Kept(run, f"held by {held}")
        if run.folder.is_symlink() or run.folder.parent.is_symlink():
            return _Kept(run, "a link to another place")
        found = scanned(run)
        told = reading(run, found)
        last = found.last_at
        trouble = _unfinished(told, found)
        if trouble is not None or told is None:
            return _Kept(run, trouble or "never begun")
        return _Old(run, last, _size(run.folder), found.state.run.assumed)
    except (StorageError, TooNew, ValueError) as error:
        return _Kept(run, f"cannot be read: {error}")
    except OSError as error:
        return _Kept(run, f"cannot be read: {error.filename or run.folder}: {error.strerror}")


def _unfinished(told: Reading | None, found: Scan) -> str | None:
    """Why a run is not complete; None when it is."""
    if found.torn:
        return "damaged" if found.damaged else "broken off"
    if told is None or found.state.is_open:
        return "broken off"
    cells = told.plan.cells
    left = len(cells) - told.counts()["complete"]
    if left:
        return f"{left:,} of {len(cells):,} conversations not complete"
    mute = sum(told.state.of(aside.id).status != "complete" for cell in cells for aside in told.plan.after(cell))
    return f"{mute:,} of those who comment on its conversations have not" if mute else None


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def _tell(old: Sequence[_Old], kept: Sequence[_Kept], now: float, as_json: bool) -> None:
    from runner.foreign import one_line
    from runner.render.figures import usd

    if as_json:
        for one in old:
            emit({"event": "old", **_data(one)})
        for other in kept:
            emit({"event": "kept", "run": other.run.name, "why": other.why})
        return
    if not old:
        click.echo("no complete run is old enough to be deleted")
    for one in old[:_MOST_SHOWN]:
        assumed = f", {usd(one.assumed)} of it assumed, and counted so for good" if one.assumed else ""
        days = int((now - one.last) // 86400)
        click.echo(f"  {one.run.name}: {days:,} d old, {_bytes(one.bytes)}{assumed}")
    if len(old) > _MOST_SHOWN:
        click.echo(f"  ... and {len(old) - _MOST_SHOWN:,} more")
    if old:
        click.echo(f"{_counted(len(old))}, {_bytes(sum(one.bytes for one in old))}")
    for other in kept[:_MOST_SHOWN]:
        say(f"kept: {other.run.name}, {one_line(other.why)}")


def _data(one: _Old) -> dict[str, Any]:
    from runner.money import dollars

    assumed = float(dollars(one.assumed))
    return {
        "run": one.run.name,
        "folder": str(one.run.folder),
        "last": one.last,
        "bytes": one.bytes,
        "assumed": assumed,
    }


def _bytes(number: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} bytes"


# --- deleting ----------------------------------------------------------------------------------------------------


def _delete(outputs: Path, old: Sequence[_Old], as_json: bool) -> int:
    import anyio

    return anyio.run(_delete_all, outputs, old, as_json)


async def _delete_all(outputs: Path, old: Sequence[_Old], as_json: bool) -> int:
    from runner.cli.runs import me
    from runner.foreign import in_words
    from runner.journal import LOCK_FILE
    from runner.ledger import Ledger
    from runner.lines import Damaged, StorageError, TooNew
    from runner.night import runs_in
    from runner.world import LockHeld, RealClock, RealDisk

    disk = RealDisk()
    ledger = Ledger(disk, RealClock(), outputs, me(), LOCK_FILE)
    codes, gone = [0], 0
    try:
        if not disk.exists(ledger.path):
            # A ledger that began with these runs alone would leave out all the others.
            await ledger.begin(list(runs_in(disk, outputs, say)))
        await ledger.refresh()
        for one in old:
            try:
                lock = disk.lock(one.run.folder / LOCK_FILE, me())
            except LockHeld as held:
                say(f"kept: {one.run.name}, held by {in_words(held.holder)}")
                codes.append(EXIT_HELD)
                continue
            try:
                # Once more, with the lock: what was looked at before may have gone on since.
                if not await _counts(one.run, ledger):
                    continue
                _remove(one.run.folder)
            finally:
                lock.release()
            gone += 1
            if as_json:
                emit({"event": "deleted", **_data(one)})
    except (StorageError, Damaged, TooNew) as error:
        say(f"{error}; without the ledger nobody would know what was spent, so nothing more was deleted")
        codes.append(EXIT_STORAGE)
    except OSError as error:
        say(f"{error.filename or outputs}: {error.strerror}; nothing more was deleted")
        codes.append(EXIT_STORAGE)
    if not as_json:
        click.echo(f"deleted {_counted(gone)}; the ledger goes on counting what they have spent")
    return max(codes)


async def _counts(run: Run, ledger: Ledger) -> bool:
    """Let the days count all that a run has spent; False when it may not go after all."""
    from runner.cli.runs import reading, scanned
    from runner.ledger import Spender, run_id, told_by
    from runner.preflight import plays

    found = scanned(run)
    told = reading(run, found)
    trouble = _unfinished(told, found)
    live = found.state.live
    if trouble is not None or told is None or live is None:
        say(f"kept: {run.name}, {trouble or 'never begun'}")
        return False
    folder = run.folder.resolve()
    name = run_id(f"{folder.parent.name}/{folder.name}", live.born)
    spender = Spender(name, live.day, live.zone, plays(told.plan), ledger.book.caps(name, live.day))
    await ledger.count(spender, told_by(found.state, found.last))
    return True


def _remove(folder: Path) -> None:
    """Delete a run, its journal last: whatever breaks off in between leaves a run that can be deleted again."""
    import shutil

    from runner.journal import FILE, LOCK_FILE

    last = [folder / FILE, folder / LOCK_FILE]
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path not in last:
            path.unlink()
    for path in last:
        path.unlink(missing_ok=True)
    folder.rmdir()
