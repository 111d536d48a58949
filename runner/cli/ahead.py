"""`check`, `plan` and `schema`: what can be known before anything is spent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from runner.cli.door import answered, emit, ended, json_option, outputs_option, say
from runner.cli.hold import JOBS, SETS, dollars_of, load_all, seconds_of

if TYPE_CHECKING:
    from runner.catalogue import Sources
    from runner.cli.runs import Run
    from runner.doctor import Finding
    from runner.money import Nanos, Price
    from runner.night import Source
    from runner.outlook import Counted, Mean, Outlook, Row, Server
    from runner.plan import Cell, Plan
    from runner.providers import Endpoint
    from runner.selection import Options
    from runner.state import State

_ROWS: Final = 40
_NAMES: Final = 20
_NAME_WIDTH: Final = 56
_EXIT_STALE: Final = 3


@click.command()
@click.option("--output", "-o", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file instead.")
@answered
def schema(output: Path | None) -> int:
    """Print the JSON Schema of the job file, for editors."""
    text = schema_text()
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        say(f"{output} cannot be written: {error.strerror}")
        return 8
    return 0


def schema_text() -> str:
    import json

    from runner.job import json_schema

    return json.dumps(json_schema(), indent=2) + "\n"


# --- a job and what is there -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Standing:
    """A job, and the run that it would go on with."""

    source: Source
    plan: Plan
    key: str
    folder: Path
    state: State

    @property
    def name(self) -> str:
        return f"{self.plan.job.name}/{self.key}"


def stand(source: Source, options: Options, outputs: Path) -> Standing:
    """Read what the job's run has come to, changing nothing. CannotBegin when the journal cannot be read."""
    import time
    from dataclasses import replace

    from runner.foreign import command
    from runner.journal import FILE, scan
    from runner.lines import TooNew
    from runner.plan import make_plan, slug
    from runner.preflight import CannotBegin
    from runner.run import EXIT_STORAGE
    from runner.selection import date_of, key_of
    from runner.state import HistoryError, State
    from runner.world import RealDisk

    disk = RealDisk()
    job = source.job if options.budget is None else replace(source.job, budget=options.budget)
    today = date_of(time.time(), job.timezone)
    home = outputs / slug(job.name)
    key = key_of(disk, home, job, today, options)
    folder = home / key
    state = State()
    try:
        if disk.exists(folder / FILE):
            found = scan(disk, folder / FILE)
            if found.damaged:
                raise CannotBegin(
                    EXIT_STORAGE,
                    f"{folder / FILE} is damaged, and what was spent there is unknown: {command('repair', folder)}",
                )
            state = found.state
    except OSError as error:
        raise CannotBegin(EXIT_STORAGE, f"{folder / FILE} cannot be read: {error.strerror}") from None
    except TooNew as error:
        raise CannotBegin(EXIT_STORAGE, str(error)) from None
    except HistoryError as error:
        raise CannotBegin(EXIT_STORAGE, f"{folder / FILE}: {error}") from None
    plan = make_plan(job, state.jobs[0].date if state.jobs else today, state.additions)
    return Standing(source, plan, key, folder, state)


def _means(standing: Standing) -> dict[Server, Mean]:
    """Mean outputs, from this run where it has any, else from the job's run that closed last."""
    from runner.journal import FILE, scan
    from runner.outlook import means_of
    from runner.world import RealDisk

    means = means_of(standing.state)
    newest = _closed_last(standing)
    if newest is None:
        return means
    try:
        return {**means_of(scan(RealDisk(), newest / FILE).state), **means}
    except OSError:
        return means  # an earlier run can make a guess better, and nothing else depends on it


def _closed_last(standing: Standing) -> Path | None:
    import orjson

    from runner.journal import FILE
    from runner.outputs import STATUS
    from runner.world import RealDisk

    disk = RealDisk()
    home = standing.folder.parent
    closed: list[tuple[float, Path]] = []
    for name in disk.listdir(home):
        folder = home / name
        if name == standing.key or not disk.exists(folder / FILE):
            continue
        try:
            status = orjson.loads(disk.read(folder / STATUS))
            if status["state"] == "closed":
                closed.append((float(status["heartbeat"]), folder))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a view that is missing or odd: that run is no help
    return max(closed)[1] if closed else None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line of `plan` says."""

    options: Options
    outputs: Path
    sets: tuple[str, ...]
    why: bool


# --- plan --------------------------------------------------------------------------------------------------------


@click.command()
@JOBS
@outputs_option
@SETS
@click.option("--run", "key", help="The run's key, in place of the job's run_key.")
@click.option("--budget", type=str, metavar="DOLLARS", help="The ceiling of the run, in place of the job's.")
@click.option("--only", multiple=True, metavar="PATTERN", help="Only conversations with such a name: 'prism/*'.")
@click.option("--why", is_flag=True, help="Say what has changed in each changed conversation, and why others stopped.")
@json_option
@answered
@ended
def plan(
    jobs: tuple[Path, ...],
    outputs: Path,
    sets: tuple[str, ...],
    key: str | None,
    budget: str | None,
    only: tuple[str, ...],
    why: bool,
    as_json: bool,
) -> int:
    """Show what a run would hold, what it would cost and how long it would take. Spends nothing, needs no key."""
    from runner.preflight import CannotBegin
    from runner.selection import Options

    options = Options(key=key, budget=None if budget is None else dollars_of(budget), only=only)
    asked = Asked(options, outputs, sets, why)
    show = _show_json if as_json else _show
    code = 0
    for source in load_all(jobs, sets):
        try:
            show(*_looked_ahead(source, asked), asked)
        except CannotBegin as cannot:
            if as_json:
                emit({"event": "trouble", "job": source.job.name, "file": source.file, "text": "\n".join(cannot.lines)})
            for line in cannot.lines:
                say(line)
            # The codes that come here are 2, 6 and 8, and the larger one is the worse.
            code = max(code, cannot.code)
    return code


def _looked_ahead(source: Source, asked: Asked) -> tuple[Standing, Outlook, list[str], list[str]]:
    """How a job stands, what is ahead of it, the names of those that would be bought again, and who says the prices."""
    from runner.cli.models import origins, sources_of
    from runner.outlook import outlook
    from runner.preflight import DEFAULT_CONCURRENCY, EXIT_JOB, CannotBegin, prices
    from runner.selection import bought_again, called_for, missing_of, select

    standing = stand(source, asked.options, asked.outputs)
    job, plan, state = standing.plan.job, standing.plan, standing.state
    only = asked.options.only
    selected = select(plan, only)
    if not selected:
        raise CannotBegin(EXIT_JOB, f"--only {' '.join(only)} names no conversation of {job.name}")
    missing = missing_of(plan, state, selected)
    known = prices(plan, sources_of(plan, state), source.file, called_for(plan, state, missing))
    misfits = _misfits(standing.source.file, plan, [cell for cell in missing if not state.of(cell.id).lasting], known)
    if misfits:
        raise CannotBegin(EXIT_JOB, *misfits)
    counted = _counted_today(standing, asked.outputs)
    ahead = outlook(plan, state, selected, known, _means(standing), DEFAULT_CONCURRENCY, counted)
    return standing, ahead, bought_again(plan, state), origins(known.values())


def _counted_today(standing: Standing, outputs: Path) -> Counted:
    """What all runs count today and this month, in the job's zone. CannotBegin when that cannot be told.

    Of this run, what it has spent: what else it has drawn, its next life has as room.
    """
    import time

    from runner.foreign import command
    from runner.ledger import FILE, Book, frozen_day, month_of, run_id
    from runner.ledger import read as read_ledger
    from runner.lines import Damaged, TooNew
    from runner.outlook import Counted
    from runner.preflight import CannotBegin, plays
    from runner.run import EXIT_STORAGE
    from runner.selection import date_of
    from runner.world import RealDisk

    path = outputs / FILE
    try:
        book = Book(read_ledger(RealDisk(), path).entries)
    except Damaged as damage:
        raise CannotBegin(
            EXIT_STORAGE, f"{damage}: what was spent there is unknown: {command('repair', path)}"
        ) from None
    except TooNew as error:
        raise CannotBegin(EXIT_STORAGE, f"{path}: {error}") from None
    except OSError as error:
        raise CannotBegin(EXIT_STORAGE, f"{path} cannot be read: {error.strerror}") from None
    plan, state = standing.plan, standing.state
    zone = plan.job.timezone
    day, play = frozen_day(date_of(time.time(), zone), book.latest.get(zone, "")), plays(plan)
    whole = {span: book.total(span, play) for span in (day, month_of(day))}
    born = next((event.born for _, event in state.opened if event.born), 0.0)
    own = run_id(f"{standing.folder.parent.name}/{standing.key}", born)
    for entry in book.standing.values():
        if entry.run == own and entry.ahead and entry.play == play:
            spent = state.days[entry.day].held if entry.day in state.days else 0
            for span in {entry.day, month_of(entry.day)} & whole.keys():
                whole[span] -= max(0, entry.amount - spent)
    return Counted(whole[day], whole[month_of(day)])


def _misfits(file: str, plan: Plan, unsaid: Sequence[Cell], known: Mapping[str, Price]) -> list[str]:
    """The conversations of which not even one turn fits its ceilings, and what to do; nothing when all fit."""
    from runner.preflight import first_calls_that_do_not_fit

    lines = list(first_calls_that_do_not_fit(plan, unsaid, known).values())
    if not lines:
        return []
    whole = f"{file}: not even one turn of {_counted(len(lines), 'conversation')} fits its ceilings:"
    return [
        whole,
        *(f"  {line}" for line in lines[:_NAMES]),
        *([f"  ... and {len(lines) - _NAMES:,} more"] if len(lines) > _NAMES else []),
        "  raise that budget, or lower max_tokens or min_tokens: a call needs its worst case",
    ]


def _show(standing: Standing, ahead: Outlook, again: Sequence[str], origins: Sequence[str], asked: Asked) -> None:
    from runner.foreign import visible

    # What is quoted from the job and its replies is safe where it was shortened; to escape it twice would garble it.
    lines = [
        visible(f"{standing.name}  ({standing.source.file})"),
        "",
        *_table(ahead.rows, several=len(standing.plan.job.pairings) > 1),
        *(_reasons(ahead.rows) if asked.why else ()),
        "",
        *_figures(standing, ahead),
        visible(f"  prices       {'; '.join(origins)}"),
        "",
        *map(visible, _next(standing, ahead, again, asked)),
        "",
    ]
    click.echo("\n".join(lines))


def _table(rows: Sequence[Row], several: bool) -> Iterator[str]:
    """The first conversations, a line each."""
    from runner.foreign import one_line
    from runner.outlook import TO_HOLD

    names = [one_line(row.name, _NAME_WIDTH) for row in rows[:_ROWS]]
    width = max([len("conversation"), *map(len, names)])
    pairing = f"{'pairing':>9}" if several else ""
    yield f"  {'conversation':<{width}}{pairing}{'turns':>7}{'calls':>7}{'expected':>12}  status"
    for name, row in zip(names, rows, strict=False):
        held = row.standing in TO_HOLD
        money = _money(sum(load.cost for load in row.expected.values())) if held else ""
        number = f"{row.pairing or '':>9}" if several else ""
        yield f"  {name:<{width}}{number}{row.turns:>7,}{row.calls if held else '':>7}{money:>12}  {row.standing}"
    if len(rows) > _ROWS:
        yield f"  ... and {len(rows) - _ROWS:,} more; --json lists all"


def _reasons(rows: Sequence[Row]) -> Iterator[str]:
    """What has changed, conversation by conversation, and why others did not come to their end."""
    from runner.foreign import one_line

    told: list[tuple[str, tuple[str, ...]]] = []
    for row in rows:
        if row.standing == "changed":
            told.append((f"{row.name} has changed:", row.changes))
        elif row.standing in ("failed", "unfinished") and row.reason:
            told.append((f"{row.name} is {row.standing}:", (one_line(row.reason),)))
    for heading, parts in told[:_ROWS]:
        yield ""
        yield f"  {heading}"
        yield from (f"    {part}" for part in parts)
    if len(told) > _ROWS:
        yield f"  ... and {len(told) - _ROWS:,} more; --json lists all"
    elif not told:
        yield ""
        yield "  nothing has changed, and nothing was broken off"


def _figures(standing: Standing, ahead: Outlook) -> Iterator[str]:
    from runner.preflight import taking_turns

    counts = ", ".join(f"{number:,} {name}" for name, number in ahead.counts.items() if number)
    calls = _counted(ahead.expected.calls, "call")
    yield f"  to hold      {_counted(ahead.to_hold, 'conversation')}, {calls}  ({counts})"
    replaced = sum(row.spent for row in ahead.rows if row.standing in ("replaced", "changed"))
    if replaced:
        yield f"  replaced     {_money(replaced)} was paid for what the job has changed or dropped; it counts as spent"
    if ahead.expected.calls:
        yield f"  expected     {_money(ahead.expected.cost)}  outputs: {ahead.source}"
        yield f"  likely most  {_money(ahead.most.cost)}  each turn once, each output at its limit"
    yield from _ceilings(standing, ahead)
    if ahead.expected.calls:
        reserved = f"{_money(ahead.slots * ahead.largest)} reserved with {ahead.slots:,} in flight"
        yield f"  one call     {_money(ahead.largest)}  at most, for the largest; up to {reserved}"
        yield from _minutes(ahead)
        for line in taking_turns(standing.plan):
            yield f"               {line}, and loading them takes time besides"


def _ceilings(standing: Standing, ahead: Outlook) -> Iterator[str]:
    from runner.outlook import conversation_ceiling

    budget = standing.plan.budget
    first = "  ceiling     "
    for room in ahead.rooms:
        verb = "counted, by all runs together" if room.name in ("day", "month") else "spent"
        held = f"; {_money(room.held)} is {verb}, {_money(room.left)} left" if room.held else ""
        only = ": the only guarantee" if room.name == "run" else ""
        yield f"{first} {_money(room.most)}  {room.name}{only}{held}"
        if room.short:
            yield f"               less than the {_money(room.expected)} expected: not all conversations will be held"
        first = "              "
    own = {p: conversation_ceiling(standing.plan, p) for p in dict.fromkeys(r.pairing for r in ahead.rows if r.pairing)}
    amounts = sorted({most for most in own.values() if most is not None})
    if amounts:
        yield f"{first} {' or '.join(_money(most) for most in amounts)}  each conversation"
        first = "              "
        if ahead.cut_short:
            yield f"               less than expected for {_counted(ahead.cut_short, 'conversation')}: cut short"
    if not ahead.rooms and not amounts:
        word = "nothing here costs money" if ahead.most.cost == 0 else "none: only max_tokens bounds what this may cost"
        yield f"{first} {word}"
    elif budget.run is None and ahead.most.cost:
        yield "               the run as a whole has none: `budget: {run: ...}` sets one"


def _minutes(ahead: Outlook) -> Iterator[str]:
    from runner.foreign import one_line

    first = "  time         "
    yield f"{first}about {_time(ahead.minutes)}  by {ahead.pace_source}; failures are not foreseen"
    if ahead.ending.left:
        left = _counted(ahead.ending.left, "conversation")
        yield f"               about {left} will be left then; {one_line(ahead.ending.why or '')}"
    yield f"               the longest conversation alone takes about {_time(ahead.longest)}"
    for lane in ahead.lanes[:_NAMES]:
        bound = f"{_counted(lane.calls, 'call')}, bound by {lane.pace.bound}"
        yield f"               {lane.lane}: about {_time(lane.pace.minutes)} for {bound}"
    if len(ahead.lanes) > _NAMES:
        yield f"               ... and {len(ahead.lanes) - _NAMES:,} more lanes; --json lists all"


def _next(standing: Standing, ahead: Outlook, again: Sequence[str], asked: Asked) -> Iterator[str]:
    """What `run` would do, and the command."""
    counts = ahead.counts
    command = _command(standing, asked)
    if again:
        several = _counted(len(again), "complete conversation")
        yield f"  run stops: {several} would be bought again, because the job has changed:"
        yield from (f"    {name}" for name in again[:_NAMES])
        if len(again) > _NAMES:
            yield f"    ... and {len(again) - _NAMES:,} more"
        if not asked.why:
            yield "  tertulia plan --why says what has changed"
        yield f"  to buy them again:           {command} --accept-changes"
        yield f"  to leave this run as it is:  {command} --new"
    elif ahead.to_hold or ahead.expected.calls:
        verb = "goes on with" if standing.state.lives else "begins"
        yield f"  next: {command}  ({verb} {standing.name})"
    else:
        yield "  next: nothing is left to do; run makes 0 calls"
    if counts["failed"]:
        yield f"  failed ones stay as they are; {command} --retry-failed takes them up again"
    if standing.state.is_open:
        yield "  the run was not closed: a process works on it now, or was killed; the figures are those of this moment"


def _command(standing: Standing, asked: Asked) -> str:
    import shlex

    from runner.money import dollars

    options = asked.options
    words = ["tertulia", "run", standing.source.file]
    if asked.outputs != Path("outputs"):
        words += ["--outputs", str(asked.outputs)]
    for one in asked.sets:
        words += ["--set", one]
    if options.key is not None:
        words += ["--run", options.key]
    if options.budget is not None:
        words += ["--budget", dollars(options.budget)]
    for pattern in options.only:
        words += ["--only", pattern]
    return shlex.join(words)


def _money(nanos: Nanos) -> str:
    # Late, as all that only a plan needs.
    from runner.money import shown

    return shown(nanos)


def _time(minutes: float) -> str:
    from runner.render.figures import duration

    return duration(minutes * 60.0)


def _counted(number: int, noun: str) -> str:
    from runner.render.figures import counted

    return counted(number, noun)


def _show_json(standing: Standing, ahead: Outlook, again: Sequence[str], origins: Sequence[str], asked: Asked) -> None:
    for row in ahead.rows:
        emit(
            {
                "event": "cell",
                "job": standing.plan.job.name,
                "run": standing.key,
                "name": row.name,
                "id": row.id,
                "status": row.standing,
                "reason": row.reason,
                "prompt": row.prompt,
                "pairing": row.pairing,
                "repeat": row.repeat,
                "models": dict(row.models),
                "turns": row.turns,
                "calls": row.calls,
                "expected": _amount(sum(load.cost for load in row.expected.values())),
                "likely_most": _amount(sum(load.cost for load in row.most.values())),
                "spent": _amount(row.spent),
                "changes": list(row.changes),
            }
        )
    emit(
        {
            "event": "plan",
            "job": standing.plan.job.name,
            "run": standing.key,
            "file": standing.source.file,
            "conversations": {**ahead.counts, "total": len(ahead.rows)},
            "to_hold": ahead.to_hold,
            "calls": ahead.expected.calls,
            "expected": _amount(ahead.expected.cost),
            "expected_source": ahead.source,
            "likely_most": _amount(ahead.most.cost),
            "ceilings": [
                {
                    "name": room.name,
                    "most": _amount(room.most),
                    "held": _amount(room.held),
                    "left": _amount(room.left),
                    "expected": _amount(room.expected),
                }
                for room in ahead.rooms
            ],
            "cut_short": ahead.cut_short,
            "largest_call": _amount(ahead.largest),
            "in_flight": ahead.slots,
            "minutes": round(ahead.minutes, 3),
            "minutes_from": ahead.pace_source,
            "left_over": ahead.ending.left,
            "left_over_because": ahead.ending.why,
            "longest_minutes": round(ahead.longest, 3),
            "lanes": [
                {"name": x.lane, "calls": x.calls, "minutes": round(x.pace.minutes, 3), "bound": x.pace.bound}
                for x in ahead.lanes
            ],
            "prices_from": list(origins),
            "bought_again": list(again),
            "command": _command(standing, asked),
        }
    )


def _amount(nanos: Nanos) -> float:
    from runner.money import dollars

    return float(dollars(nanos))


# --- check -------------------------------------------------------------------------------------------------------


@click.command()
@JOBS
@outputs_option
@SETS
@click.option("--online", is_flag=True, help="Ask the providers, too: what costs nothing to ask.")
@click.option("--max-age", metavar="DURATION", help="Fail when no run that made calls has finished within: 26h.")
@json_option
@answered
@ended
def check(
    jobs: tuple[Path, ...],
    outputs: Path,
    sets: tuple[str, ...],
    online: bool,
    max_age: str | None,
    as_json: bool,
) -> int:
    """Find everything that can be known without spending: mistakes, prices, keys, budgets, the outputs folder.

    With --online also whether each key is accepted and each model there, with its window and its price, what credit is
    left, and what local servers have loaded. Only such questions are sent; none of them costs anything.

    With --max-age also whether the job is being run at all: exit code 3 when none of its runs has made calls and come
    to an end, whatever that was, within this time. It says when the last one did.
    """
    findings = _Findings(as_json)
    oldest = None if max_age is None else seconds_of("--max-age", max_age)
    seen: dict[Path, Path] = {}
    for path in jobs:
        findings.file = str(path)
        folder = _check_job(findings, path, sets, outputs, online=online)
        if folder is not None and oldest is not None:
            _check_age(findings, folder.parent, oldest)
        if folder in seen:
            findings.problem(2, f"its run {folder} is also that of {seen[folder]}: give one of them another name")
        elif folder is not None:
            seen[folder] = path
    findings.file = str(outputs)
    _check_folder(findings, outputs)
    if findings.problems:
        say(_counted(findings.problems, "problem"))
    return findings.code


@dataclass(slots=True)
class _Findings:
    """What a check found, told as it is found."""

    as_json: bool
    file: str = ""
    code: int = 0
    problems: int = 0

    def ok(self, text: str) -> None:
        self._tell("ok", f"{self.file}: {text}")

    def warning(self, text: str) -> None:
        self._tell("warning", text)

    def problem(self, code: int, text: str) -> None:
        self._tell("problem", f"{self.file}: {text}")
        self.count(code)

    def mistake(self, text: str) -> None:
        """A problem that says itself where it is."""
        self._tell("problem", text)
        self.count(2)

    def heard(self, finding: Finding) -> None:
        """What a provider has said."""
        from runner.doctor import CODES

        if self.as_json:
            emit({"event": "finding", "file": self.file, **finding._asdict()})
        else:
            click.echo(finding.line())
        if finding.grade == "problem":
            self.count(CODES[finding.grade])

    def count(self, code: int) -> None:
        self.problems += 1
        # The codes are 2, 3, 6 and 8, and the larger one is the worse.
        self.code = max(self.code, code)

    def _tell(self, grade: str, text: str) -> None:
        from runner.foreign import visible

        if self.as_json:
            emit({"event": "finding", "file": self.file, "grade": grade, "text": text})
            return
        first, *rest = visible(text).split("\n")
        click.echo("\n".join([f"{grade:<8} {first}", *(f"         {line}" for line in rest)]))


def _check_job(findings: _Findings, path: Path, sets: Sequence[str], outputs: Path, *, online: bool) -> Path | None:
    """One job with all that it needs, and the folder of its run; None when that cannot be told."""
    from runner.cli.models import sources_of
    from runner.job import JobError
    from runner.preflight import CannotBegin, left_out
    from runner.selection import Options

    try:
        source, warnings = source_of(path, sets)
    except JobError as error:
        for problem in error.problems:
            findings.mistake(problem.render())
        return None
    for warning in warnings:
        findings.warning(warning)
    try:
        standing = stand(source, Options(), outputs)
    except CannotBegin as cannot:
        findings.problem(cannot.code, " ".join(line.strip() for line in cannot.lines))
        return None
    before = findings.problems
    sources = sources_of(standing.plan, standing.state)
    left = Left.of(standing.plan, standing.state)
    for trouble in troubles(source, standing.plan, sources, left):
        if trouble.alone:
            findings.mistake(trouble.text)
        else:
            findings.problem(trouble.code, trouble.text)
    _check_changes(findings, standing)
    unneeded = _not_needed(source, standing.plan, left)
    for line in (*unneeded, *left_out(standing.plan), *_unheard(source), *_unread(source, standing.plan)):
        findings.warning(f"{path}: {line}")
    for finding in () if online else said_by_lists(standing.plan, sources):
        findings.heard(finding)
    if findings.problems == before:
        findings.ok(good_news(standing.plan, sources, left))
    if online:
        for finding in said_by_providers(source, standing.plan, sources):
            findings.heard(finding)
    return standing.folder


def source_of(path: Path, sets: Sequence[str] = ()) -> tuple[Source, tuple[str, ...]]:
    """A job with its variables, and what the user should know of their files. JobError with all that is wrong."""
    import os

    from runner.job import environment, load
    from runner.night import Source

    job = load(path, sets=sets)
    known = environment(job.variables(), [path.parent, Path.cwd()], os.environ)
    return Source(job, str(path), known.values, tuple(sets)), known.warnings


class Left(NamedTuple):
    """What of a job is still to be said, and by which models."""

    unsaid: Sequence[Cell]
    models: Collection[str]
    """By their aliases."""

    @classmethod
    def of(cls, plan: Plan, state: State) -> Left:
        from runner.selection import called_for, missing_of

        missing = missing_of(plan, state, plan.cells)
        return cls([cell for cell in missing if not state.of(cell.id).lasting], called_for(plan, state, missing))


def good_news(plan: Plan, sources: Sources, left: Left) -> str:
    """What was found in order, in one line."""
    from runner.cli.models import origins
    from runner.preflight import NO_LISTS, prices, taking_turns

    budget = plan.budget
    spans = ((budget.run, ""), (budget.day, " a day"), (budget.month, " a month"))
    amounts = [f"{_money(most)}{span}" for most, span in spans if most is not None]
    if not left.models:
        return f"{_counted(len(plan.cells), 'conversation')}, nothing is left to be called"
    known = prices(plan, sources, needed=left.models)
    needed = {plan.models[alias].provider: plan.job.providers[plan.models[alias].provider] for alias in left.models}
    paid = sorted({name for provider in needed.values() for name in _variables(provider.api_key)})
    from_them = origins(known[alias] for alias in known if alias in left.models)
    lists = [origin for origin in from_them if origin not in NO_LISTS]
    return ", ".join(
        [
            _counted(len(plan.cells), "conversation"),
            f"{_counted(len(left.models), 'model')} with known prices" + (f" ({'; '.join(lists)})" if lists else ""),
            "no key needed" if not paid else f"keys there ({' '.join(paid)})",
            f"budget {', '.join(amounts)}" if amounts else "no budget for the run",
            *taking_turns(plan),
        ]
    )


def _variables(text: str | None) -> tuple[str, ...]:
    from runner.job.environment import variables

    return () if text is None else variables(text)


class Trouble(NamedTuple):
    """What keeps a job from running, and the exit code for it."""

    code: int
    text: str
    alone: bool = False
    """True when the text says itself of which file it speaks."""


def troubles(source: Source, plan: Plan, sources: Sources, left: Left) -> Iterator[Trouble]:
    """The keys, prices and ceilings without which what is left of this job cannot run."""
    from runner.preflight import EXIT_PREFLIGHT, CannotBegin, prices

    for line in _missing_keys(source, plan, {plan.models[alias].provider for alias in left.models}):
        yield Trouble(EXIT_PREFLIGHT, line)
    try:
        known = prices(plan, sources, source.file, left.models)
    except CannotBegin as cannot:
        yield Trouble(cannot.code, "\n".join(cannot.lines))
        return
    misfits = _misfits(source.file, plan, left.unsaid, known)
    if misfits:
        yield Trouble(2, "\n".join(misfits), alone=True)


def _not_needed(source: Source, plan: Plan, left: Left) -> Iterator[str]:
    """What is missing for models that nobody is to call: it keeps nothing from being done now."""
    called = {plan.models[alias].provider for alias in left.models}
    for line in _missing_keys(source, plan, plan.providers.keys() - called):
        yield f"{line} (nothing that is left to be said needs it)"


def _missing_keys(source: Source, plan: Plan, providers: Collection[str]) -> Iterator[str]:
    """A line for each key that these providers lack, and each of their addresses that is not safe."""
    from runner.job import MissingVariable, resolve, unsafe
    from runner.preflight import BUILT_IN, by_providers

    environ = source.environ
    troubles: dict[str, list[str]] = {}
    for name, provider in plan.providers.items():
        if name not in providers:
            continue
        texts = [provider.base_url, provider.api_key or "", *provider.headers.values()]
        missing: dict[str, str] = {}
        for text in texts:
            try:
                resolve(text, environ)
            except MissingVariable as error:
                missing[error.name] = str(error)
        for message in missing.values():
            troubles.setdefault(message, []).append(name)
        if missing or provider.base_url == BUILT_IN:
            continue
        keyed = bool(provider.api_key and resolve(provider.api_key, environ)) or bool(provider.headers)
        danger = unsafe(resolve(provider.base_url, environ), keyed=keyed)
        if danger is not None:
            troubles.setdefault(danger, []).append(name)
    yield from by_providers(troubles)


def _unheard(source: Source) -> Iterator[str]:
    """What keeps those from being told who want to know how a night ended; it keeps no night from being held."""
    from runner.notify import unreachable

    notify = source.job.notify
    if notify is None:
        return
    if notify.webhook is not None and (trouble := unreachable(notify.webhook, source.environ)) is not None:
        yield f"`notify` would reach nobody by its webhook: {trouble}"
    if notify.command and (trouble := _not_runnable(source, notify.command[0])) is not None:
        yield f"`notify` would reach nobody by its command: {trouble}"


def _unread(source: Source, plan: Plan) -> Iterator[str]:
    """The commands that would give no line of an inbox; what they give today says nothing of the night."""
    programs = {
        prompt.name: [(role.name, role.inbox.command[0]) for role in prompt.roles if role.inbox and role.inbox.command]
        for prompt in source.job.prompts.values()
    }
    told: set[tuple[str, str, str]] = set()
    for cell in plan.cells:
        for role, written in programs[cell.prompt]:
            # Its fields are filled in for each conversation anew.
            inbox = plan.conversation(cell).participant(role).inbox if "{{" in written else None
            program = written if inbox is None else inbox.command[0]
            if (one := (cell.prompt, role, program)) in told:
                continue
            told.add(one)
            if (trouble := _not_runnable(source, program)) is not None:
                yield f"`{role}` of {cell.prompt} would get no line from the command of its inbox: {trouble}"


def _not_runnable(source: Source, name: str) -> str | None:
    """Why a program of the job cannot be run; None when it can."""
    from shutil import which

    # It is run in the folder of the job, from which a path in it goes.
    folder = Path(source.file).parent
    found = which(str((folder / name).absolute())) if "/" in name else which(name)
    return f"{name} is not there, or may not be run" if found is None else None


def said_by_providers(source: Source, plan: Plan, sources: Sources) -> Iterator[Finding]:
    """What each provider of a job says when it is asked what costs nothing; one that may not be asked is left out."""
    import time

    from runner.cli.probes import answers
    from runner.doctor import Finding
    from runner.job import MissingVariable, unsafe
    from runner.online import findings
    from runner.preflight import BUILT_IN, endpoint

    asked: list[tuple[Endpoint, list[str]]] = []
    for name, provider in plan.providers.items():
        if provider.base_url == BUILT_IN:
            yield Finding("ok", name, "the built-in provider, which begins with the run")
            continue
        try:
            one = endpoint(provider, source.environ, None)
        except MissingVariable:
            continue
        if unsafe(one.base_url, keyed=bool(one.keys)) is None:
            asked.append((one, list(dict.fromkeys(m.id for m in plan.models.values() if m.provider == name))))
    known = _known_prices(plan, sources)
    for (one, _), heard in zip(asked, answers(asked), strict=True):
        yield from findings(plan, one, heard, known, time.time())


def said_by_lists(plan: Plan, sources: Sources) -> Iterator[Finding]:
    """What the lists that are kept here say against the output limits of a job."""
    from runner.online import too_much
    from runner.preflight import at

    lists = {alias: sources.lists.get(at(plan.providers[model.provider])) for alias, model in plan.models.items()}
    return too_much(
        plan,
        {
            alias: (found.models[plan.models[alias].id], found.source)
            for alias, found in lists.items()
            if found is not None and plan.models[alias].id in found.models
        },
    )


def _known_prices(plan: Plan, sources: Sources) -> dict[str, Price]:
    """The prices that are known, even where others are not."""
    from runner.preflight import price_for

    found = {alias: price_for(model, plan.providers[model.provider], sources) for alias, model in plan.models.items()}
    return {alias: price for alias, price in found.items() if price is not None}


def _check_changes(findings: _Findings, standing: Standing) -> None:
    from runner.foreign import command
    from runner.preflight import EXIT_JOB
    from runner.selection import bought_again

    again = bought_again(standing.plan, standing.state)
    if again:
        several = _counted(len(again), "complete conversation")
        findings.problem(
            EXIT_JOB,
            f"{several} of {standing.name} would be bought again, and run refuses that unasked; "
            f"{command('plan --why', standing.source.file)} says what has changed",
        )


class _Finished(NamedTuple):
    """A life of a run that made calls and came to an end."""

    name: str
    at: float
    exit: int
    calls: int


def _check_age(findings: _Findings, home: Path, oldest: float) -> None:
    """Whether a run of the job that made calls has finished within so many seconds."""
    import time

    from runner.render.figures import counted, duration, stamp

    last = _finished_last(home)
    if last is None:
        findings.problem(_EXIT_STALE, f"no run of it that made calls has ever finished in {home.parent}")
        return
    age = max(0.0, time.time() - last.at)
    told = f"{last.name}, {duration(age)} ago ({stamp(last.at)}), {counted(last.calls, 'call')}, exit code {last.exit}"
    if age <= oldest:
        findings.ok(f"the last run that finished: {told}")
    else:
        findings.problem(
            _EXIT_STALE, f"no run of it that made calls has finished for {duration(oldest)}; the last one: {told}"
        )


def _finished_last(home: Path) -> _Finished | None:
    """The life that ended last, of those that made calls; of a journal as far as it can be read."""
    from runner.cli.runs import Run, last_record
    from runner.journal import FILE

    newest: _Finished | None = None
    for path in home.glob(f"*/{FILE}"):
        run = Run(path.parent)
        try:
            end = last_record(run)
            if end is None or (newest is not None and end[1] <= newest.at):
                continue  # nothing in it can be younger than its last record
            found = _lives(run)
        except OSError:
            continue  # what we may not read is another's, who has to check it
        newest = max((one for one in (newest, found) if one is not None), key=lambda one: one.at, default=None)
    return newest


def _lives(run: Run) -> _Finished | None:
    """The last life of a run that made calls and came to an end."""
    from runner.events import Closed, Opened, Sent
    from runner.journal import decode
    from runner.lines import TooNew, split
    from runner.world import RealDisk

    calls, last = 0, None
    for offset, line, whole in split(RealDisk(), run.journal):
        try:
            record = decode(line, offset) if whole else None
        except TooNew:
            break
        event = None if record is None else record.event
        if isinstance(event, Opened):
            calls = 0
        elif isinstance(event, Sent):
            calls += 1
        elif isinstance(event, Closed) and record is not None and calls:
            last = _Finished(run.name, record.at, event.exit, calls)
    return last


def _check_folder(findings: _Findings, outputs: Path) -> None:
    """Write and lock a file where the outputs will be, and leave nothing behind."""
    from runner.cli.probes import nearest, trial

    there = nearest(outputs)
    found = trial(there)
    if found.written is not None:
        findings.problem(8, f"{there} cannot be written: {found.written}")
    elif found.locked is not None:
        findings.problem(8, f"{there} cannot be locked; runs need a file system with kernel locks: {found.locked}")
    else:
        findings.ok("can be written and locked" if there == outputs else "will be made; can be written and locked")
