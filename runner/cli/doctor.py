"""`doctor`: what is wrong with this machine, with the folder of the runs, with the last of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from runner.cli.door import answered, emit, ended, json_option, outputs_option

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.doctor import Finding, LedgerFacts
    from runner.plan import Plan
    from runner.state import State


@click.command()
@click.argument("jobs", nargs=-1, type=click.Path(path_type=Path))
@outputs_option
@click.option("--online", is_flag=True, help="Ask the providers of JOBS, too: what costs nothing to ask.")
@json_option
@answered
@ended
def doctor(jobs: tuple[Path, ...], outputs: Path, online: bool, as_json: bool) -> int:
    """Tell what is wrong with this machine, the outputs folder and the last run. Spends nothing.

    With JOBs also what each of them lacks (keys, prices, money), and how the last run of each stands.

    \b
    Exit code:
      0  nothing is wrong
      3  something is unfinished, or worth knowing
      6  something has to be mended before a run can begin
    """
    if online and not jobs:
        raise click.UsageError("--online asks the providers of JOBS: name at least one.")
    try:
        from runner.doctor import exit_code
    except ImportError as error:
        text, remedy = f"{error.name} is missing", "pip install tertulia again, or use scripts/tertulia"
        if as_json:
            told = {"grade": "problem", "subject": "packages", "text": text, "remedy": remedy}
            emit({"event": "finding", "part": "machine", **told})
        else:
            click.echo(f"problem  packages: {text} -> {remedy}")
        return 6
    found: list[Finding] = []
    for part, finding in _examined(jobs, outputs, online=online):
        found.append(finding)
        if as_json:
            emit({"event": "finding", "part": part, **finding._asdict()})
        else:
            click.echo(finding.line())
    return exit_code(found)


_AS_ITS_OWNER: Final = "make it readable, or look as the user whose it is"


class _Patient(NamedTuple):
    """A job that was read, and what was found of it."""

    plan: Plan | None
    findings: tuple[Finding, ...]
    ask: Callable[[], Iterator[Finding]] | None = None
    """Asks its providers what costs nothing."""


def _examined(jobs: Sequence[Path], outputs: Path, *, online: bool) -> Iterator[tuple[str, Finding]]:
    """Every finding, with the part that it is of; each part is looked at when the one before has been told."""
    from runner.cli import probes
    from runner.cli.runs import all_runs, may_be_held
    from runner.doctor import of_folder, of_ledger, of_machine

    patients = [_patient(path, outputs) for path in jobs]
    plans = [patient.plan for patient in patients if patient.plan is not None]
    runs = all_runs(outputs)
    book = _ledger(outputs)
    zones = dict.fromkeys(["UTC", *(plan.job.timezone for plan in plans)])
    env_files = [] if jobs else [Path(".env")]  # those of jobs are looked at with the job
    for finding in of_machine(probes.machine(zones, sum(map(_calls, plans)), _newest(runs, book), env_files)):
        yield "machine", finding
    for finding in of_folder(probes.folder(outputs, [run.folder for run in runs if may_be_held(run)])):
        yield "folder", finding
    if book is not None:
        for finding in of_ledger(book.facts):
            yield "folder", finding
    for patient in patients:
        for finding in patient.findings:
            yield "job", finding
    for patient in patients if online else ():
        if patient.ask is not None:
            for finding in patient.ask():
                yield "provider", finding
    for run, plan in _last_runs(runs, plans, whole=not jobs):
        for finding in _of_run(run, plan):
            yield "run", finding


def _patient(path: Path, outputs: Path) -> _Patient:
    """A job, and whether what is left of it could be run."""
    import time
    from functools import partial

    from runner.cli.ahead import Left, good_news, said_by_providers, source_of, stand, troubles
    from runner.cli.models import sources_of
    from runner.doctor import Finding
    from runner.foreign import command
    from runner.job import JobError
    from runner.plan import make_plan
    from runner.preflight import CannotBegin, left_out
    from runner.render.figures import counted
    from runner.selection import Options, date_of
    from runner.state import State

    name = str(path)
    remedy = command("check", path)
    try:
        source, warnings = source_of(path)
        plan = make_plan(source.job, date_of(time.time(), source.job.timezone))
    except JobError as error:
        return _Patient(None, (Finding("problem", name, counted(len(error.problems), "mistake"), remedy),))
    found = [Finding("warning", name, warning) for warning in warnings]
    sources = sources_of(plan)
    try:
        left = Left.of(plan, stand(source, Options(), outputs).state)
    except CannotBegin:
        left = Left.of(plan, State())  # what is wrong with the run is told of the run
    wrong = [Finding("problem", name, trouble.text, remedy) for trouble in troubles(source, plan, sources, left)]
    found += [Finding("warning", name, line) for line in left_out(plan)]
    found += wrong or [Finding("ok", name, good_news(plan, sources, left))]
    return _Patient(plan, tuple(found), partial(said_by_providers, source, plan, sources))


def _calls(plan: Plan) -> int:
    """How many calls of a job may be in flight together: what its lanes allow, and one for each conversation."""
    from runner.preflight import DEFAULT_CONCURRENCY

    slots = 0
    for name, provider in plan.providers.items():
        lanes = sum(m.provider == name for m in plan.models.values()) if provider.limits.per == "model" else 1
        slots += lanes * (provider.limits.concurrency or DEFAULT_CONCURRENCY)
    return min(slots, len(plan.cells))


class _Book(NamedTuple):
    """The ledger, and when its last line was written."""

    facts: LedgerFacts
    last_at: float


def _ledger(outputs: Path) -> _Book | None:
    """What the ledger says; None when there is none."""
    from runner.cli.runs import Run, may_be_held, stands_for
    from runner.doctor import LedgerFacts
    from runner.foreign import command
    from runner.ledger import FILE, Book, read
    from runner.lines import Damaged, TooNew
    from runner.world import RealDisk

    path = outputs / FILE
    if not path.exists():
        return None
    try:
        entries = read(RealDisk(), path).entries
    except Damaged as damage:
        return _Book(LedgerFacts(path, damage.what, command("repair", path)), 0.0)
    except TooNew as error:
        return _Book(LedgerFacts(path, str(error)), 0.0)
    except OSError as error:
        return _Book(LedgerFacts(path, f"it cannot be read: {error.strerror}", _AS_ITS_OWNER), 0.0)
    ahead = [entry for entry in Book(entries).standing.values() if entry.ahead]
    # What a run has drawn whose folder is gone counts for good: there is nothing to be done.
    there = [(entry, Run(outputs / entry.folder)) for entry in ahead]
    left = tuple(entry for entry, run in there if stands_for(run, entry.run) and not may_be_held(run))
    return _Book(LedgerFacts(path, lines=len(entries), left=left), max((entry.at for entry in entries), default=0.0))


def _newest(runs: Sequence[Run], book: _Book | None) -> float | None:
    """When the newest record of all runs, or the last line of the ledger, was written."""
    from runner.cli.runs import last_record

    found = [] if book is None or not book.last_at else [book.last_at]
    for run in runs:
        try:
            last = last_record(run)
        except OSError:
            continue  # told where that run is looked at
        if last is not None:
            found.append(last[1])
    return max(found, default=None)


def _last_runs(runs: Sequence[Run], plans: Sequence[Plan], *, whole: bool) -> Iterator[tuple[Run, Plan | None]]:
    """The run that was begun last: of each job or, where none is named, of all."""
    from runner.cli.runs import began
    from runner.plan import slug

    def age(run: Run) -> tuple[float, str]:
        return began(run), run.name

    if whole and runs:
        yield max(runs, key=age), None
    for plan in plans:
        own = [run for run in runs if run.folder.parent.name == slug(plan.job.name)]
        if own:
            yield max(own, key=age), plan


def _of_run(run: Run, plan: Plan | None) -> Iterator[Finding]:
    from runner.cli.runs import holder, reading, scanned
    from runner.doctor import RunFacts, of_run
    from runner.journal import SPARE_FILE
    from runner.lines import StorageError, TooNew

    try:
        held = holder(run)
    except OSError as error:
        trouble = f"{error.filename or run.folder} cannot be read: {error.strerror}"
        yield from of_run(RunFacts(run.name, run.folder, None, trouble=trouble, remedy=_AS_ITS_OWNER))
        return
    try:
        found = scanned(run)
    except (StorageError, TooNew) as error:
        # What cannot be read at all, `verify` cannot read either.
        remedy = _AS_ITS_OWNER if isinstance(error.__cause__, PermissionError) else None
        yield from of_run(RunFacts(run.name, run.folder, held, trouble=str(error), remedy=remedy))
        return
    told = reading(run, found)
    yield from of_run(
        RunFacts(
            name=run.name,
            folder=run.folder,
            holder=held,
            found=found,
            reading=told,
            up_to_date=told is None or told.is_shown(found.last),
            # A run that was closed in order has given it back.
            has_spare=not found.state.is_open or (run.folder / SPARE_FILE).exists(),
        )
    )
    if plan is not None and told is not None and not found.damaged:
        yield from _changes(run, plan, found.state)


def _changes(run: Run, plan: Plan, state: State) -> Iterator[Finding]:
    """Whether the job would buy again what this run has."""
    from runner.doctor import Finding
    from runner.plan import make_plan
    from runner.render.figures import counted
    from runner.selection import bought_again

    if run.folder.name != plan.job.key(plan.date):
        return
    again = bought_again(make_plan(plan.job, state.jobs[0].date, state.additions), state)
    if again:
        text = f"{counted(len(again), 'complete conversation')} would be bought again, because the job has changed"
        yield Finding("problem", run.name, text, "--accept-changes does so, --new begins another run")
