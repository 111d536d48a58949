"""From job files to sessions: keys and prices found, journals opened, lanes and the gate made; then the night is held.

This is the one entry for every world: the command line calls it with the real seams, tests call it with simulated
ones. What keeps a night from beginning is a `CannotBegin`, with the exit code that stands for it; nothing has been
sent then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import anyio
import orjson

from runner import __version__
from runner.events import HistoryError, Opened, State
from runner.foreign import one_line
from runner.gate import Gate
from runner.job import Job
from runner.journal import FILE, Journal, JournalDamaged, StorageError, scan
from runner.limits import MINUTE, Lane
from runner.money import Nanos, Price, shown
from runner.outputs import STATUS, STATUS_SECONDS, VIEW_SECONDS, VIEW_SHARE, Reading, Views, reading_of
from runner.plan import Cell, Plan, make_plan, slug
from runner.preflight import EXIT_JOB, CannotBegin, endpoints_of, first_calls_that_do_not_fit, lanes_of, prices
from runner.providers import Endpoint
from runner.roster import Roster
from runner.run import EXIT_STORAGE, EXIT_UNFINISHED, Session, Watcher, run, worst
from runner.transports.http import HttpTransport
from runner.world import Clock, Disk, LockHeld, World

VERSION: Final = __version__
EXIT_HELD: Final = 7
_STALE_SECONDS: Final = 20 * 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says beside the job file."""

    key: str | None = None
    new: bool = False
    newest_unfinished: bool = False
    budget: Nanos | None = None
    only: tuple[str, ...] = ()
    limit: int | None = None
    max_time: float | None = None
    retry_failed: bool = False
    accept_changes: bool = False
    grace: float = 80.0


@dataclass(frozen=True, slots=True)
class Source:
    """A job, where its file is, and what its variables are."""

    job: Job
    file: str
    environ: Mapping[str, str]
    sets: tuple[str, ...] = ()
    """What `--set` changed in the file."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a night happens: the folder of all outputs, who holds the locks, and where built-in servers listen."""

    root: Path
    holder: str
    built_in: Mapping[tuple[str, str], str]
    """Base URL of the built-in server for (job, provider)."""


@dataclass(slots=True)
class Ready:
    """One job whose journal is open and who knows what is missing."""

    source: Source
    plan: Plan
    endpoints: Mapping[str, Endpoint]
    journal: Journal
    key: str
    selected: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    opened: Opened
    views: Views

    @property
    def name(self) -> str:
        return f"{self.plan.job.name}/{self.key}"


Watch = Callable[[Sequence[Session], Gate], Sequence[Watcher]]
Tell = Callable[[str], None]


async def night(
    world: World,
    sources: Sequence[Source],
    options: Options,
    place: Place,
    *,
    tell: Tell,
    watch: Watch = lambda sessions, gate: (),
    found: Callable[[Ready], None] = lambda one: None,
) -> int:
    """Hold what is missing in all these jobs, in one process under one set of lanes; the exit code.

    `found` is told of each run, also of one of which nothing is missing.
    """
    with ExitStack() as stack:
        ready: list[Ready] = []
        for source in sources:
            name = source.job.name
            if any(name == one.source.job.name for one in ready):
                raise CannotBegin(EXIT_JOB, f"{source.file}: another job of this night is called {name}, too")
            one = await _ready(world, source, options, place, tell)
            stack.callback(one.journal.close)
            ready.append(one)
            found(one)
        # A life that a crash cut off is closed by one more, even when nothing is missing.
        working = [one for one in ready if one.missing or _has_news(one) or one.journal.state.is_open]
        idle = [one for one in ready if one not in working]
        codes = [_say_complete(world.clock, one, tell) for one in idle]
        codes += [await _write_views(one, tell) for one in idle if not _views_are_up_to_date(one)]
        if working:
            codes.append(await _work(world, working, options, place, tell, watch))
        return worst(codes)


def _say_complete(clock: Clock, one: Ready, tell: Tell) -> int:
    closed = one.journal.state.closed
    failed = sum(one.journal.state.of(cell.id).status == "failed" for cell in one.selected)
    if failed:
        tell(f"{one.name}: 0 calls; {failed} failed, and nothing else is missing")
        tell(f"  to take them up again: {one.views.reading.command()}")
        return EXIT_UNFINISHED
    since = closed[-1][0] if closed else clock.wall()
    tell(f"{one.name}: nothing to do, complete since {date_of(since, one.plan.job.timezone)}, 0 calls")
    if clock.wall() - since > _STALE_SECONDS and "{date}" not in one.plan.job.run_key:
        tell('  this run is complete and stays so; for a new one every night give the job `run_key: "{date}"`')
    return 0


def _views_are_up_to_date(one: Ready) -> bool:
    """False when a crash or a repair came after the views were written; the status is the last of them."""
    try:
        status = orjson.loads(one.journal.disk.read(one.journal.folder / STATUS))
    except (OSError, orjson.JSONDecodeError):
        return False
    figures = one.views.reading.figures(one.journal.seq)
    return bool({**status, "heartbeat": None} == {**orjson.loads(orjson.dumps(figures)), "heartbeat": None})


def _has_news(one: Ready) -> bool:
    """True when the job says something that the journal does not: a label, a price, a ceiling."""
    return one.opened.job is not None and one.journal.seq > 0


async def _work(
    world: World, working: Sequence[Ready], options: Options, place: Place, tell: Tell, watch: Watch
) -> int:
    by_alias = lanes_of([(one.plan, one.endpoints) for one in working])
    now = anyio.current_time()
    for one, mine in zip(working, by_alias, strict=True):
        _warm(one.journal.state, one.plan, mine, world.clock.wall(), now)
    lanes = list({id(lane): lane for mine in by_alias for lane in mine.values()}.values())
    gate = Gate(lanes, max(one.plan.job.max_wait for one in working))
    sessions = [_session(world, one, mine, gate) for one, mine in zip(working, by_alias, strict=True)]
    watchers = [partial(_keep_views, one, gate, world.clock) for one in working]

    def stopping(calls: int, money: Nanos) -> None:
        tell(f"stopping: {calls} calls in flight, {shown(money)} reserved for them; Ctrl-C again to leave them")

    async def finish() -> int:
        return worst([await _write_views(one, tell) for one in working])

    return await run(
        world,
        sessions,
        gate,
        grace=options.grace,
        max_time=options.max_time,
        watchers=[*watchers, *watch(sessions, gate)],
        stopping=stopping,
        finish=finish,
    )


async def _write_views(one: Ready, tell: Tell) -> int:
    """Write every view of a run that has ended; the exit code when that cannot be done."""
    _say_what_was_lost(one, tell)
    views, records = one.views, one.journal.seq
    try:
        if one.journal.lost:
            # The state tells of records that are nowhere; what is shown must be computed from those that are kept.
            kept = scan(one.journal.disk, one.journal.folder / FILE)
            if kept.state.job is None:
                return EXIT_STORAGE
            views, records = Views(reading_of(one.journal.disk, one.journal.folder, kept), one.journal.clock), kept.last
        await views.all(records)
    except OSError as error:
        tell(f"{one.name}: the views could not be written ({error.strerror}); the journal is sound: tertulia report")
        return EXIT_STORAGE
    return 0


def _say_what_was_lost(one: Ready, tell: Tell) -> None:
    if one.journal.failing is not None:
        tell(f"{one.journal.failing}; nothing more was sent")
        for event in one.journal.lost:
            where = " ".join(str(getattr(event, name)) for name in ("cell", "turn") if hasattr(event, name))
            tell(f"  not kept: {event.kind} {where}".rstrip())


async def _write_transcript(one: Ready, cell: Cell) -> None:
    try:
        await one.views.conversation(cell)
    except OSError:
        pass  # every view is written once more at the end of the night, and trouble with it is told then


async def _keep_views(one: Ready, gate: Gate, clock: Clock) -> None:
    """`status.json` every two seconds, the index and the lines at most once a minute."""
    seq = 0
    next_night = anyio.current_time() + VIEW_SECONDS
    # Not beyond the end: a status that tells of the last record stands for all the other views as well.
    while one.journal.state.is_open:
        now = anyio.current_time()
        try:
            await one.views.status(one.journal.seq, gate.lanes, now)
            if now >= next_night and one.journal.seq != seq:
                seq = one.journal.seq
                await one.journal.flushed()
                await one.views.night(seq)
                took = anyio.current_time() - now
                next_night = anyio.current_time() + max(VIEW_SECONDS, VIEW_SHARE * took)
        except (OSError, StorageError):
            pass  # a view can be written again at any time; a full disk is the journal's to report
        await anyio.sleep(STATUS_SECONDS)


# --- getting ready -----------------------------------------------------------------------------------------------


async def _ready(world: World, source: Source, options: Options, place: Place, tell: Tell) -> Ready:
    job = source.job if options.budget is None else replace(source.job, budget=options.budget)
    today = date_of(world.clock.wall(), job.timezone)
    home = place.root / slug(job.name)
    key = key_of(world.disk, home, job, today, options)
    folder = home / key
    plan = make_plan(job, today)
    endpoints = endpoints_of(plan, source.environ, place.built_in)
    # Looked through before there is a journal, so that a night that cannot begin leaves nothing behind.
    found = None if world.disk.exists(folder / FILE) else look_through(plan, State(), options)
    journal = await _open(world, folder, f"{job.name}/{key}", place.holder)
    try:
        state = journal.state
        if state.jobs and state.jobs[0].date != today:
            plan = make_plan(job, state.jobs[0].date)
        if found is None or state.lives:
            found = look_through(plan, state, options)
        if journal.torn is not None:
            tell(f"{folder}: the last lines of the journal were torn by a crash; they were moved to {journal.torn}")
        for line in unfinished_elsewhere(world.disk, home, key):
            tell(line)
        return Ready(
            source=source,
            plan=plan,
            endpoints=endpoints,
            journal=journal,
            key=key,
            selected=found.selected,
            missing=found.missing,
            opened=_opened(plan, key, state, found.reopened, _options_data(options, source, place.root)),
            views=Views(Reading(world.disk, folder, state, plan, key, journal), world.clock),
        )
    except BaseException:
        journal.close()
        raise


async def _open(world: World, folder: Path, name: str, holder: str) -> Journal:
    try:
        return await Journal.open(world.disk, world.clock, folder, holder)
    except LockHeld as held:
        raise CannotBegin(EXIT_HELD, f"{name} is held by {in_words(held.holder)}") from None
    except JournalDamaged as damage:
        raise CannotBegin(
            EXIT_STORAGE,
            f"{damage}: what was spent there is unknown",
            f"  tertulia repair {folder} counts it at the largest reservation and goes on",
        ) from None
    except StorageError as error:
        raise CannotBegin(EXIT_STORAGE, str(error)) from None
    except HistoryError as error:
        raise CannotBegin(EXIT_STORAGE, f"{folder / FILE} contradicts itself: {error}") from None


def in_words(holder: str) -> str:
    """What a process wrote about itself when it took a lock: `process 4711 on north since 2026-11-21 02:00:00`."""
    try:
        known = orjson.loads(holder)
        return one_line(f"process {known['pid']} on {known['host']} since {known['since']}")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return one_line(holder) or "a process that left no name"


class Found(NamedTuple):
    """What a life is about."""

    selected: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    """Those of the selected that are to be held."""
    reopened: tuple[str, ...]
    """Ids of those of the missing that had come to an end."""


def look_through(plan: Plan, state: State, options: Options) -> Found:
    """Hold a plan against its journal: what is asked for, and what of it is missing. CannotBegin if it may not be."""
    selected = select(plan, options.only)
    if not selected:
        raise CannotBegin(EXIT_JOB, f"--only {' '.join(options.only)} names no conversation of {plan.job.name}")
    changed = bought_again(plan, state)
    if changed and not options.accept_changes:
        raise CannotBegin(
            EXIT_JOB,
            f"{plan.job.name}: would be bought again, complete as they are, because the job has changed them:",
            *_first(changed),
            "  run again with --accept-changes to do so, or with --new to leave this run as it is",
        )
    misfits = first_calls_that_do_not_fit(plan, prices(plan))
    too_dear = [misfits[cell.id] for cell in selected if cell.id in misfits and not state.of(cell.id).lasting]
    if too_dear:
        head = f"{plan.job.name}: not even one turn of these fits its ceilings:"
        raise CannotBegin(EXIT_JOB, head, *_first(too_dear), "  raise the ceiling, or lower max_tokens")
    reopened = tuple(cell.id for cell in selected if _is_reopened(plan, cell, state, options))
    missing = [cell for cell in selected if cell.id in reopened or not state.of(cell.id).lasting]
    if options.limit is not None:
        begun = sorted(missing, key=lambda cell: (not state.of(cell.id).replies, cell.index))[: options.limit]
        left_out = {cell.id for cell in missing} - {cell.id for cell in begun}
        selected = tuple(cell for cell in selected if cell.id not in left_out)
        missing = [cell for cell in missing if cell.id not in left_out]
    return Found(selected, tuple(missing), reopened)


def _is_reopened(plan: Plan, cell: Cell, state: State, options: Options) -> bool:
    """True for a failed conversation that is to be tried again, and for a complete one that lost a turn to a repair."""
    progress = state.of(cell.id)
    if progress.status == "failed":
        return options.retry_failed
    if progress.status != "complete" or not state.repaired or progress.reason is not None:
        return False
    return any(line.given is None and line.number not in progress.replies for line in plan.conversation(cell).lines)


def _first(lines: Sequence[str], most: int = 20) -> list[str]:
    """The first of many lines, and how many more there are."""
    more = [f"  ... and {len(lines) - most} more"] if len(lines) > most else []
    return [*(f"  {line}" for line in lines[:most]), *more]


def _opened(plan: Plan, key: str, state: State, reopened: tuple[str, ...], options: Mapping[str, Any]) -> Opened:
    data, texts = plan.job.record()
    return Opened(
        life=state.lives + 1,
        version=VERSION,
        run=plan.job.name,
        key=key,
        date=plan.date,
        zone=plan.job.timezone,
        job=None if data == state.job and state.jobs else data,
        texts={digest: text for digest, text in texts.items() if digest not in state.texts},
        ceilings=_ceilings(plan),
        prices={alias: _price_data(price) for alias, price in prices(plan).items()},
        options=options,
        reopened=reopened,
    )


def select(plan: Plan, only: Sequence[str]) -> tuple[Cell, ...]:
    """The cells whose names match one of the patterns; all when there is none."""
    return tuple(c for c in plan.cells if not only or any(fnmatchcase(c.name, pattern) for pattern in only))


def bought_again(plan: Plan, state: State) -> list[str]:
    """Names of complete conversations that the plan now has under another id, so that they would be held again."""
    if state.job is None:
        return []
    before = make_plan(Job.from_record(state.job, state.texts), state.jobs[-1].date)
    now = {cell.name: cell.id for cell in plan.cells}
    return [
        cell.name
        for cell in before.cells
        if state.of(cell.id).status == "complete"
        and cell.id not in plan.by_id
        and cell.name in now
        and not state.of(now[cell.name]).lasting
    ]


def unfinished_elsewhere(disk: Disk, home: Path, key: str) -> list[str]:
    """A line for each other run of the job that is not complete, with the command that goes on with it."""
    found = []
    for other in disk.listdir(home):
        path = home / other / STATUS
        if other == key or not disk.exists(path):
            continue
        try:
            status = orjson.loads(disk.read(path))
        except (orjson.JSONDecodeError, OSError):
            continue
        if status.get("continue"):
            found.append(f"{status.get('job')}/{other} is not finished: {status['continue']}")
    return found


def key_of(disk: Disk, home: Path, job: Job, today: str, options: Options) -> str:
    if options.key is not None:
        if slug(options.key) != options.key:
            raise CannotBegin(
                EXIT_JOB, f"--run {options.key}: a key may have letters, digits, dots, dashes; try {slug(options.key)}"
            )
        return options.key
    key = job.key(today)
    if options.new:
        taken = set(disk.listdir(home))
        return next(k for n in range(1, len(taken) + 2) if (k := key if n == 1 else f"{key}.{n}") not in taken)
    if options.newest_unfinished:
        newest = [line for line in reversed(disk.listdir(home)) if _is_unfinished(disk, home / line)]
        return newest[0] if newest else key
    return key


def _is_unfinished(disk: Disk, folder: Path) -> bool:
    try:
        return bool(orjson.loads(disk.read(folder / STATUS)).get("continue"))
    except (orjson.JSONDecodeError, OSError):
        return False


def date_of(wall: float, zone: str) -> str:
    return datetime.fromtimestamp(wall, UTC).astimezone(ZoneInfo(zone)).date().isoformat()


def _ceilings(plan: Plan) -> dict[str, Nanos]:
    budget = plan.budget
    found = {"run": budget.run, "conversation": budget.conversation}
    found |= {f"provider {name}": most for name, most in budget.providers.items()}
    found |= {f"model {name}": most for name, most in budget.models.items()}
    found |= {f"pairing {number}": most for number, most in budget.pairings.items()}
    found |= {f"conversation of pairing {number}": most for number, most in budget.conversations.items()}
    return {name: most for name, most in found.items() if most is not None}


def _price_data(price: Price) -> dict[str, str]:
    figures = {
        "input": price.input,
        "output": price.output,
        "cache_read": price.cache_read,
        "cache_write": price.cache_write,
        "request": price.request,
    }
    return {name: str(figure) for name, figure in figures.items() if figure is not None}


def _options_data(options: Options, source: Source, root: Path) -> dict[str, Any]:
    given: dict[str, Any] = {"file": source.file, "outputs": str(root)}
    if source.sets:
        given["sets"] = list(source.sets)
    for name in ("budget", "limit", "max_time", "retry_failed", "accept_changes"):
        if getattr(options, name):
            given[name] = getattr(options, name)
    if options.only:
        given["only"] = list(options.only)
    return given


def _warm(state: State, plan: Plan, lanes: Mapping[str, Lane], wall: float, now: float) -> None:
    """Count what earlier lives sent in the last minute and day, also for models that the job has no more."""
    shared = {m.provider: lanes[alias] for alias, m in plan.models.items() if lanes[alias].limits.per == "provider"}
    for sent in state.recent:
        ago = wall - sent.at
        lane = lanes.get(sent.alias, shared.get(sent.provider))
        if lane is not None and 0 <= ago < MINUTE:
            lane.take(float(sent.input), float(sent.max_tokens), now, now - ago)
    for (provider, alias), minutes in state.day_minutes.items():
        lane = lanes.get(alias, shared.get(provider))
        if lane is not None:
            # Each minute at its end, so that none of its requests is forgotten too soon.
            lane.warm_day([(max(0.0, wall - (minute + 1) * MINUTE), n) for minute, n in minutes.items()], now)


def _session(
    world: World,
    one: Ready,
    lanes: Mapping[str, Lane],
    gate: Gate,
) -> Session:
    known = prices(one.plan)
    # Reopened conversations are missing, although the state will say so only when the life has begun.
    roster = Roster(one.plan, one.journal, known, lanes, one.missing, gate)
    return Session(
        plan=one.plan,
        journal=one.journal,
        prices=known,
        lanes=lanes,
        gate=gate,
        transport=HttpTransport(world.wire, world.clock, one.endpoints),
        roster=roster,
        selected=one.selected,
        opened=one.opened,
        ended=partial(_write_transcript, one),
    )
