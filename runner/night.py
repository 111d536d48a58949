"""From job files to sessions: keys and prices found, journals opened, lanes and the gate made; then the night is held.

This is the one entry for every world: the command line calls it with the real seams, tests call it with simulated
ones. What keeps a night from beginning is a `CannotBegin`, with the exit code that stands for it; nothing has been
sent then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from glob import escape as glob_escape
from pathlib import Path
from typing import Any, Final

import anyio

from runner import __version__
from runner.branches import Wish, branched, waited_for_again
from runner.catalogue import PriceList, Sources, kept
from runner.events import Branched, Closed, Failed, Opened, Replied, Sent
from runner.foreign import command, in_words
from runner.gate import Gate
from runner.inbox import Inboxes
from runner.job import Files, Job, style_module
from runner.journal import FILE, LOCK_FILE, Journal, said_in, scan
from runner.ledger import Known, Ledger, Purse, Scope, Spender, Told, frozen_day, month_of, run_id, told_by
from runner.limits import MINUTE, Lane
from runner.lines import Damaged, StorageError, TooNew
from runner.lookups import LookUps
from runner.money import FREE, Nanos, Price, shown
from runner.notify import End, send
from runner.outputs import STATUS_SECONDS, UNWRITTEN, VIEW_SECONDS, VIEW_SHARE, Reading, reading_of
from runner.plan import Cell, Plan, make_plan, slug
from runner.preflight import (
    EXIT_JOB,
    CannotBegin,
    at,
    endpoints_of,
    frozen,
    lanes_of,
    left_out,
    plays,
    prices,
)
from runner.providers import Endpoint
from runner.render.figures import counted
from runner.roster import Roster
from runner.run import EXIT_STORAGE, EXIT_UNFINISHED, SPOILED, Leaving, Session, Watcher, run, worst
from runner.selection import (
    Found,
    Options,
    called_for,
    date_of,
    first_of,
    key_of,
    look_through,
    must_fit,
    overran_before,
    select,
    unfinished_elsewhere,
)
from runner.shares import Shares
from runner.state import HistoryError, State
from runner.talk import Talk, talk_of
from runner.transports.http import HttpTransport
from runner.views import Views
from runner.waiting import Tell, take_turn, the_rest
from runner.world import Clock, Disk, LockHeld, Wire, World

VERSION: Final = __version__
EXIT_HELD: Final = 7
"""Why a life whose conversations are all well ends with another exit code than 0: some view could not be written."""
_STALE_SECONDS: Final = 20 * 3600.0


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
    state: Path | None = None
    """Where processes tell each other which part of a provider's limits they have; None where there are no others."""
    here: Path = Path()
    """What a path that is not absolute starts from."""
    most_calls: int | None = None
    """How many calls this machine allows at the same time; None for any number."""
    price_list: PriceList | None = None
    """Prices for models that neither a job nor their provider's own list has."""
    notices: Wire | None = None
    """Over which those are told who want to know of the end, where the wire of the calls is recorded."""


@dataclass(slots=True)
class Ready:
    """One job whose journal is open and who knows what is missing."""

    source: Source
    plan: Plan
    prices: Mapping[str, Price]
    endpoints: Mapping[str, Endpoint]
    journal: Journal
    key: str
    selected: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    opened: Opened
    views: Views
    purse: Purse

    @property
    def name(self) -> str:
        return f"{self.plan.job.name}/{self.key}"


Watch = Callable[[Sequence[Session], Gate], Sequence[Watcher]]


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
    try:
        return await _night(world, sources, options, place, tell, watch, found)
    except CannotBegin as why:
        for source in sources if _is_news(why, options) else ():
            key = options.key or source.job.key(date_of(world.clock.wall(), source.job.timezone))
            await _notify(world, place, source, End(source.job.name, key, why.code), tell)
        raise


def _is_news(why: CannotBegin, options: Options) -> bool:
    """True when somebody elsewhere may want to know that a night did not begin.

    A command that is wrong is told to whoever has typed it, and so is all that keeps a wish from being fulfilled.
    """
    typed = options.wish is not None or options.engaged is not None or options.observers_only
    return why.code != EXIT_JOB and not typed


async def _night(
    world: World,
    sources: Sequence[Source],
    options: Options,
    place: Place,
    tell: Tell,
    watch: Watch,
    found: Callable[[Ready], None],
) -> int:
    fold = partial(_durably_told, world.disk, place.root)
    ledger = Ledger(world.disk, world.clock, place.root, place.holder, LOCK_FILE, fold)
    await _begin_ledger(world, ledger, place.root, tell)
    with ExitStack() as stack:
        ready: list[Ready] = []
        for source in sources:
            name = source.job.name
            if any(name == one.source.job.name for one in ready):
                raise CannotBegin(EXIT_JOB, f"{source.file}: another job of this night is called {name}, too")
            one = await _ready(world, source, options, place, ledger, tell)
            stack.callback(one.journal.close)
            ready.append(one)
            found(one)
        # A life that a crash cut off is closed by one more, even when nothing is missing.
        working = [one for one in ready if one.missing or _has_news(one) or one.journal.state.is_open]
        idle = [one for one in ready if one not in working]
        codes = [_say_complete(world.clock, one, tell) for one in idle]
        for one in idle:
            one.views.tidy()
        codes += [await _write_views(one, tell) for one in idle if not one.views.reading.is_shown(one.journal.seq)]
        if working:
            codes.append(await _work(world, working, options, place, tell, watch))
        for one in working:
            await _notify(world, place, one.source, _end(one, worst(codes)), tell)
        return worst(codes)


def _end(one: Ready, code: int) -> End:
    """What a run came to in this life; `code` is that of a night which ended before the life began."""
    reading, state = one.views.reading, one.journal.state
    reasons: tuple[str, ...] = ()
    if state.lives == one.opened.life:
        closed = reading.closed
        code, reasons = (EXIT_STORAGE, ("storage",)) if closed is None else (closed.exit, closed.reasons)
    return End(
        job=reading.job,
        run=one.key,
        exit=code,
        reasons=reasons,
        conversations=reading.counts(),
        stopped_early=reading.stopped_early(),
        spent=one.journal.state.run.held,
        most=one.plan.budget.run,
        goes_on=reading.command(),
    )


async def _notify(world: World, place: Place, source: Source, end: End, tell: Tell) -> None:
    if source.job.notify is not None:
        folder, environ = Path(source.file).parent, source.environ
        await send(
            source.job.notify,
            end,
            wire=place.notices or world.wire,
            programs=world.programs,
            environ=environ,
            folder=folder,
            tell=tell,
        )


def _say_complete(clock: Clock, one: Ready, tell: Tell) -> int:
    closed = one.journal.state.closed
    failed, silent = _failed(one)
    if failed or silent:
        observers = [f"{counted(silent, 'observer')} failed"] if silent else []
        what = ", ".join([*([f"{failed} failed"] if failed else []), *observers])
        tell(f"{one.name}: 0 calls; {what}, and nothing else is missing")
        tell(f"  to take them up again: {one.views.reading.command()}")
        return EXIT_UNFINISHED
    counts = one.views.reading.counts()
    if left := sum(count for status, count in counts.items() if status != "complete"):
        of = f"{left:,} of the {sum(counts.values()):,} conversations of the run"
        tell(f"{one.name}: nothing to do in what was asked for, 0 calls; not complete: {of}")
        tell(f"  to go on with them: {one.views.reading.command()}")
        return 0
    since = closed[-1][0] if closed else clock.wall()
    early = one.views.reading.stopped_early()
    parted = f", {early:,} of them stopped early (the index says why)" if early else ""
    tell(f"{one.name}: nothing to do, complete since {date_of(since, one.plan.job.timezone)}{parted}, 0 calls")
    if clock.wall() - since > _STALE_SECONDS and "{date}" not in one.plan.job.run_key:
        tell('  this run is complete and stays so; for a new one every night give the job `run_key: "{date}"`')
    return 0


def _failed(one: Ready) -> tuple[int, int]:
    """How many conversations of those that are meant have failed, and how many observers of them."""
    state = one.journal.state
    failed = sum(state.of(cell.id).status == "failed" for cell in one.selected)
    listeners = (aside for cell in one.selected for aside in one.plan.after(cell))
    return failed, sum(state.of(aside.id).status == "failed" for aside in listeners)


def _has_news(one: Ready) -> bool:
    """True when something is to be kept that the journal file has not: a label, a price, a style mended.

    Also when the last life was about a part that is well, and the whole is not: all that tells of the run says so then.
    """
    closed = one.journal.state.closed
    was_spoiled = bool(closed) and (closed[-1][1].style_trouble is not None or SPOILED in closed[-1][1].reasons)
    is_whole = len(one.selected) == len(one.plan.cells)
    was_part = bool(closed) and closed[-1][1].exit == 0 and is_whole and any(_failed(one))
    return (one.opened.job is not None and one.journal.seq > 0) or one.journal.is_ahead or was_spoiled or was_part


async def _work(
    world: World, working: Sequence[Ready], options: Options, place: Place, tell: Tell, watch: Watch
) -> int:
    by_alias = lanes_of([(one.plan, one.endpoints) for one in working], place.most_calls, tell)
    shares = _shares(world, working, by_alias, options, place)
    began = anyio.current_time()
    try:
        code = await take_turn(shares, world, options.max_time, tell) if shares.lanes else None
        if code is None:
            code = await _hold(world, working, by_alias, shares, options, began, tell, watch)
        return code
    finally:
        await shares.leave()


async def _hold(
    world: World,
    working: Sequence[Ready],
    by_alias: Sequence[Mapping[str, Lane]],
    shares: Shares,
    options: Options,
    began: float,
    tell: Tell,
    watch: Watch,
) -> int:
    now = anyio.current_time()
    for one, mine in zip(working, by_alias, strict=True):
        _warm(one.journal.state, one.plan, mine, shares, world.clock.wall(), now)
    lanes = list({id(lane): lane for mine in by_alias for lane in mine.values()}.values())
    gate = Gate(lanes, max(one.plan.job.max_wait for one in working), world.clock.wall)
    sessions = [_session(world, one, mine, gate) for one, mine in zip(working, by_alias, strict=True)]
    gate.purses = [one.purse for one in working]
    watchers = [partial(_keep_views, one, gate, world.clock) for one in working]

    def changed(lane: Lane) -> None:
        gate.wake()
        tell(f"{lane.name}: {lane.share:.0%} of its limits from now on" + the_rest(lane))

    if shares.lanes:
        watchers.append(partial(shares.keep, changed))

    def stopping(calls: int, money: Nanos) -> None:
        flying = "1 call" if calls == 1 else f"{calls:,} calls"
        tell(f"stopping: {flying} in flight, {shown(money)} reserved for them; Ctrl-C again to leave them")

    async def finish(leaving: Leaving) -> int:
        codes = [await _give_back(one) for one in working]
        for one in working:
            _say_what_days_count(one, tell)
            _say_what_was_lost(one, tell)
        left = list(working)
        with leaving.views:
            while left:
                codes.append(await _write_views(left[0], tell))
                del left[0]
        return worst(codes + [await _write_views(one, tell, leaving.code) for one in left])

    return await run(
        world,
        sessions,
        gate,
        grace=options.grace,
        max_time=options.max_time,
        began=began,
        watchers=[*watchers, *watch(sessions, gate)],
        stopping=stopping,
        finish=finish,
    )


async def _write_views(one: Ready, tell: Tell, left_by: int = 0) -> int:
    """Write every view of a run that has ended; the exit code when that cannot be done.

    `left_by` is the exit code of a process that does not wait for them: then the status alone is written, and says so.
    """
    views, records, code = one.views, one.journal.seq, left_by
    report = command("report", one.journal.folder)
    try:
        if one.journal.lost:
            # The state tells of records that are nowhere; what is shown must be computed from those that are kept.
            kept = scan(one.journal.disk, one.journal.folder / FILE)
            if kept.state.job is None:
                return EXIT_STORAGE
            views, records = Views(reading_of(one.journal.disk, one.journal.folder, kept), one.journal.clock), kept.last
        if not left_by:
            await views.all(records)
            if views.style_trouble is not None:
                tell(f"{one.name}: {views.style_trouble}; what it could not show is in the usual style")
                tell("  once it is mended, the same command writes the transcripts anew; no call is made for it")
            return 0
        tell(f"{one.name}: left before all its views were written; its next run writes them, and so does {report}")
    except OSError as error:
        tell(f"{one.name}: the views could not be written ({error.strerror}); the journal is sound: {report}")
        code = EXIT_STORAGE
    closed = views.reading.closed
    if closed is not None:
        # The record of the end is there by now: what can be written of it tells the code that a process ends with.
        one.views.reading.ended = views.reading.ended = _unwritten(closed, code)
        await (views.what_can_be(records) if code == EXIT_STORAGE else views.none(records))
    return code


def _unwritten(closed: Closed, code: int) -> Closed:
    """The same end, where not all views were written."""
    worse = worst((closed.exit, code))
    reasons = [reason for reason in closed.reasons if reason != UNWRITTEN]
    return replace(closed, exit=worse, reasons=(*reasons, UNWRITTEN) if worse == closed.exit else (UNWRITTEN, *reasons))


def _say_what_was_lost(one: Ready, tell: Tell) -> None:
    """The trouble with the disk, and each answer that came and could not be kept; what else is lost is no loss."""
    journal, ledger = one.journal, one.purse.ledger
    trouble = journal.failing or ledger.failing
    if trouble is None:
        return
    tell(f"{trouble}; nothing more was sent")
    answers = [event for event in journal.lost if isinstance(event, Replied | Failed)]
    for line in first_of([_not_kept(one.plan, event) for event in answers]):
        tell(line)
    if answers:
        tell("  unless the next start finds them on the disk after all, they count as spent and are asked for again")
    else:
        tell("  every answer that came was kept")
    if trouble is ledger.failing:
        tell(f"  the day counts all that was drawn for {one.name}, until its next start")


def _not_kept(plan: Plan, event: Replied | Failed) -> str:
    what = "the reply" if isinstance(event, Replied) else f"an attempt that failed ({event.failure})"
    return f"not kept: turn {event.turn} of {plan.name_of(event.cell)}, {what}, {shown(event.cost)}"


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
            short_of = one.purse.ceiling.name if one.purse.ceiling in gate.short_since else None
            await one.views.status(one.journal.seq, gate.lanes, now, short_of)
            if now >= next_night and one.journal.seq != seq:
                await one.views.prepare()
                seq = one.journal.seq
                await one.journal.flushed()
                await one.views.night(seq)
                took = anyio.current_time() - now
                next_night = anyio.current_time() + max(VIEW_SECONDS, VIEW_SHARE * took)
        except (OSError, StorageError):
            pass  # a view can be written again at any time; a full disk is the journal's to report
        await anyio.sleep(STATUS_SECONDS)


# --- getting ready -----------------------------------------------------------------------------------------------


async def _ready(world: World, source: Source, options: Options, place: Place, ledger: Ledger, tell: Tell) -> Ready:
    job = source.job if options.budget is None else replace(source.job, budget=options.budget)
    today = date_of(world.clock.wall(), job.timezone)
    home = place.root / slug(job.name)
    key = key_of(world.disk, home, job, today, options)
    folder = home / key
    plan = make_plan(job, today)
    lists = kept(world.disk, place.state, map(at, plan.providers.values()), tell)
    listed = plan.providers.keys()

    def reached(plan: Plan, state: State, needed: Collection[str]) -> tuple[dict[str, Endpoint], dict[str, Price]]:
        nonlocal lists, listed
        endpoints = endpoints_of(plan, source.environ, place.built_in, needed)
        if not plan.providers.keys() <= listed:
            # Who was asked to join in may be the only one of a provider.
            lists, listed = kept(world.disk, place.state, map(at, plan.providers.values()), tell), plan.providers.keys()
        sources = Sources(frozen(plan, state), lists, place.price_list)
        return endpoints, prices(plan, sources, source.file, needed)

    # Looked through before there is a journal, so that a night that cannot begin leaves nothing behind.
    found = None
    if not world.disk.exists(folder / FILE):
        found = look_through(plan, State(), options)
        _, known = reached(plan, State(), called_for(plan, State(), found.missing))
        must_fit(plan, found, State(), known)
    journal = await _open(world, folder, f"{job.name}/{key}", place.holder)
    try:
        state = journal.state
        date = state.jobs[0].date if state.jobs else today
        if date != today or any(state.additions):
            plan = make_plan(job, date, state.additions)
        if options.engaged is not None:
            chosen = select(plan, options.only) if options.only else ()
            options = replace(options, engaged=replace(options.engaged, cells=tuple(cell.id for cell in chosen)))
        if options.engaged is not None and options.engaged not in state.engaged:
            journal.record(options.engaged)
            plan = make_plan(job, date, state.additions)
        if options.wish is not None:
            # What refuses the life does so before the wish is kept.
            look_through(plan, state, replace(options, only=()))
            known_before = set(state.branches)
            added = _branch(options.wish, plan, journal)
            plan = make_plan(job, date, state.additions)
            options = replace(options, only=tuple(glob_escape(plan.by_id[one.cell].name) for one in added))
            for one in added:
                its, before = plan.by_id[one.cell].name, plan.name_of(one.origin)
                again = ", as was asked for before" if one.cell in known_before else ""
                tell(f"{its} goes on with {before} from turn {one.through + 1}{again}")
                origin = next(cell for cell in (*plan.cells, *plan.superseded) if cell.id == one.origin)
                for line in waited_for_again(plan, plan.by_id[one.cell], _talk(plan, journal, origin)):
                    tell(f"{its}: {line}")
        if found is None or state.lives:
            found = look_through(plan, state, options)
        endpoints, known = reached(plan, state, called_for(plan, state, found.missing, found.reopened))
        must_fit(plan, found, state, known)
        if journal.torn is not None:
            tell(f"{folder}: the last lines of the journal were torn by a crash; they were moved to {journal.torn}")
        for line in left_out(plan):
            tell(f"warning: {line}")
        for line in unfinished_elsewhere(world.disk, home, key):
            tell(line)
        born = next((event.born for _, event in state.opened if event.born), 0.0) or round(world.clock.wall(), 3)
        purse = await _purse(ledger, plan, journal, run_id(f"{slug(job.name)}/{key}", born), today, tell)
        options_given = _options_data(options, source, place.root)
        opened = _opened(job, plan, known, key, state, found, options_given)
        views = Views(_shown_by(world, source, folder, journal, plan, key), world.clock)
        return Ready(
            source=source,
            plan=plan,
            prices=known,
            endpoints=endpoints,
            journal=journal,
            key=key,
            selected=found.selected,
            missing=found.missing,
            opened=replace(opened, day=purse.spender.day, born=born),
            views=views,
            purse=purse,
        )
    except BaseException:
        journal.close()
        raise


def _branch(wish: Wish, plan: Plan, journal: Journal) -> list[Branched]:
    """Add to a run the branches that it has not yet; they are in its journal when its next life begins."""

    added = branched(wish, plan, journal.state, partial(_talk, plan, journal))
    for one in added:
        if one.cell not in journal.state.branches:
            journal.record(one)
    return added


def _talk(plan: Plan, journal: Journal, cell: Cell) -> Talk:
    return talk_of(plan.conversation(cell), journal.state, lambda place: said_in(journal.read(place)))


def _shown_by(world: World, source: Source, folder: Path, journal: Journal, plan: Plan, key: str) -> Reading:
    """What shows a run; CannotBegin where a style of the user's own cannot be used."""
    reading = Reading(world.disk, folder, journal.state, plan, key, journal)
    troubles = reading.lend(partial(style_module, Path(source.file).parent))
    if troubles:
        raise CannotBegin(EXIT_JOB, *troubles.values())
    return reading


async def _open(world: World, folder: Path, name: str, holder: str) -> Journal:
    try:
        return await Journal.open(world.disk, world.clock, folder, holder)
    except LockHeld as held:
        raise CannotBegin(EXIT_HELD, f"{name} is held by {in_words(held.holder)}") from None
    except Damaged as damage:
        raise CannotBegin(
            EXIT_STORAGE,
            f"{damage}: what was spent there is unknown",
            f"  {command('repair', folder)} counts it at the largest reservation and goes on",
        ) from None
    except StorageError as error:
        raise CannotBegin(EXIT_STORAGE, str(error)) from None
    except HistoryError as error:
        raise CannotBegin(EXIT_STORAGE, f"{folder / FILE} contradicts itself: {error}") from None


async def _purse(ledger: Ledger, plan: Plan, journal: Journal, run: str, today: str, tell: Tell) -> Purse:
    """The money of the day and the month, as this run sees it; CannotBegin when it cannot be told."""
    zone, budget = plan.job.timezone, plan.budget
    caps: dict[Scope, Nanos] = {}
    if budget.day is not None:
        caps["day"] = budget.day
    if budget.month is not None:
        caps["month"] = budget.month
    try:
        await ledger.refresh()
        day = frozen_day(today, ledger.book.latest.get(zone, today))
        if day < (ahead := ledger.book.latest.get(zone, day)):
            tell(f"{ledger.path} tells of {ahead}, which is yet to come: is a clock wrong? Counting on {day}")
        spender = Spender(run, day, zone, ledger.book.plays(run, day, plays(plan)), caps)

        def told() -> Told:
            return told_by(journal.state, journal.seq)

        purse = Purse(ledger, spender, journal.state.day(day), told, journal.flushed, plan.job.max_wait)
        for older in await purse.open():
            tell(
                f"{journal.folder} is an older copy: more was counted for {older} than it tells of. "
                f"That day goes on counting {shown(ledger.book.amount(run, older))} for it"
            )
        return purse
    except Damaged as damage:
        raise CannotBegin(
            EXIT_STORAGE,
            f"{damage}: what was spent there is unknown",
            f"  tertulia repair {ledger.path} puts it together again from the runs that are there",
        ) from None
    except StorageError as error:
        raise CannotBegin(EXIT_STORAGE, str(error)) from None


async def _durably_told(disk: Disk, root: Path, run: str) -> Told | None:
    """What a run's journal says, durably; None where it is not there, not sound, held, or that of another run."""
    folder = run.rpartition("@")[0]
    path = root / folder / FILE
    if not disk.exists(path):
        return None
    try:
        lock = disk.lock(root / folder / LOCK_FILE, "")  # without a name, for it only reads
    except (LockHeld, OSError):
        return None
    try:
        found = scan(disk, path)
        await disk.rewrite(path, found.safe, found.end)  # its writer may have died before it was synced
    except (HistoryError, TooNew, KeyError, TypeError, OSError):
        return None
    finally:
        lock.release()
    live = found.state.live
    # Whoever deletes a folder may run the job again: what stands there then says nothing of what stood there before.
    if found.damaged or live is None or run_id(folder, live.born) != run:
        return None
    return told_by(found.state, found.last)


async def _begin_ledger(world: World, ledger: Ledger, root: Path, tell: Tell) -> None:
    """Where runs have spent something and the ledger is gone, let it begin with what their journals say."""
    if world.disk.exists(ledger.path):
        return
    known = list(runs_in(world.disk, root, tell))
    if not known:
        return
    try:
        counted = await ledger.begin(known)
    except (StorageError, Damaged, TooNew) as error:
        raise CannotBegin(EXIT_STORAGE, str(error)) from None
    if counted:
        tell(f"{ledger.path} was not there: the runs beside it are counted by their journals")


def runs_in(disk: Disk, root: Path, tell: Tell) -> Iterator[Known]:
    """Every run in a folder of outputs that has spent something, as its journal tells it."""
    for home in disk.listdir(root) if disk.exists(root) else ():
        for key in disk.listdir(root / home):
            path = root / home / key / FILE
            if not disk.exists(path):
                continue
            try:
                found = scan(disk, path)
                live = found.state.live
                if live is None or not found.state.run.held:
                    continue  # it may have died before it said what its job is
                plan = reading_of(disk, path.parent, found).plan
            except (HistoryError, TooNew, StorageError, KeyError, TypeError, ValueError, OSError) as error:
                tell(f"{home}/{key} is left out, until it is run again: {error}")
                continue
            told = told_by(found.state, found.last)
            yield Known(run_id(f"{home}/{key}", live.born), live.zone, plays(plan), told)


async def _give_back(one: Ready) -> int:
    """Let the day count what was spent, and no longer what was drawn; the exit code when that cannot be done."""
    if one.journal.failing is not None or one.purse.ledger.failing is not None:
        return EXIT_STORAGE  # what is on the disk is not known before the next start has read it
    try:
        await one.purse.close()
    except (StorageError, Damaged, TooNew):
        return EXIT_STORAGE
    return 0


def _say_what_days_count(one: Ready, tell: Tell) -> None:
    """The figures of a ceiling over all runs that stopped this one; whose they are, `spend` tells."""
    spender, book = one.purse.spender, one.purse.ledger.book
    for scope in one.views.reading.shared_ceilings_reached():
        span = spender.day if scope == "day" else month_of(spender.day)
        counted = shown(book.total(span, spender.play))
        tell(f"{one.name}: {counted} of {shown(spender.caps[scope])} a {scope} is counted, by all runs together")


def _opened(
    job: Job,
    plan: Plan,
    known: Mapping[str, Price],
    key: str,
    state: State,
    found: Found,
    options: Mapping[str, Any],
) -> Opened:
    data, texts = job.record()
    # Of a job that is in force none is missing, unless a repair lost the record that brought it.
    missing = {digest: text for digest, text in texts.items() if digest not in state.texts}
    return Opened(
        life=state.lives + 1,
        version=VERSION,
        run=plan.job.name,
        key=key,
        date=plan.date,
        zone=plan.job.timezone,
        job=None if data == state.job and state.jobs and not missing else data,
        texts=missing,
        ceilings=_ceilings(plan),
        prices={alias: price.record() for alias, price in known.items()},
        options=options,
        reopened=found.reopened,
        about=found.about,
    )


def _ceilings(plan: Plan) -> dict[str, Nanos]:
    budget = plan.budget
    found = {"run": budget.run, "conversation": budget.conversation}
    found |= {"day": budget.day, "month": budget.month}
    found |= {f"provider {name}": most for name, most in budget.providers.items()}
    found |= {f"model {name}": most for name, most in budget.models.items()}
    found |= {f"pairing {number}": most for number, most in budget.pairings.items()}
    found |= {f"conversation of pairing {number}": most for number, most in budget.conversations.items()}
    found |= {f"observer {name}": most for name, most in budget.observers.items()}
    return {name: most for name, most in found.items() if most is not None}


def _options_data(options: Options, source: Source, root: Path) -> dict[str, Any]:
    given: dict[str, Any] = {"file": source.file, "outputs": str(root)}
    if source.sets:
        given["sets"] = list(source.sets)
    for name in ("budget", "limit", "max_time", "retry_failed", "accept_changes", "share", "replay"):
        if getattr(options, name):
            given[name] = getattr(options, name)
    if options.only:
        given["only"] = list(options.only)
    return given


def _warm(state: State, plan: Plan, lanes: Mapping[str, Lane], shares: Shares, wall: float, now: float) -> None:
    """Count what earlier lives sent in the last minute and day, also for models that the job has no more.

    Where the past of a lane came with our share of it, it is counted already.
    """
    shared = {m.provider: lanes[alias] for alias, m in plan.models.items() if lanes[alias].limits.per == "provider"}
    for sent in state.recent:
        ago = wall - sent.at
        lane = lanes.get(sent.alias, shared.get(sent.provider))
        if lane is not None and 0 <= ago < MINUTE and not shares.knows(lane, "minute"):
            lane.take(float(sent.input), float(sent.max_tokens), now, now - ago)
    for (provider, alias), minutes in state.day_minutes.items():
        lane = lanes.get(alias, shared.get(provider))
        if lane is not None and not shares.knows(lane, "day"):
            # Each minute at its end, so that none of its requests is forgotten too soon.
            lane.warm_day([(max(0.0, wall - (minute + 1) * MINUTE), n) for minute, n in minutes.items()], now)


def _shares(
    world: World,
    working: Sequence[Ready],
    by_alias: Sequence[Mapping[str, Lane]],
    options: Options,
    place: Place,
) -> Shares:
    """Our part of those lanes that other processes may use as well; CannotBegin when it would be of no use."""
    lanes: dict[str, Lane] = {}
    largest: dict[str, int] = {}
    runs: dict[str, tuple[Journal, Mapping[str, str]]] = {}
    for one, mine in zip(working, by_alias, strict=True):
        scenes = {(cell.prompt, cell.pairing, cell.models): cell for cell in one.missing}
        for cell in scenes.values():
            conversation = one.plan.conversation(cell)
            for speaker in (*conversation.participants, *(aside.by for aside in conversation.asides)):
                lane = mine.get(speaker.alias) if speaker.live else None
                if lane is not None and lane.identity is not None and place.state is not None:
                    lanes[lane.identity] = lane
                    largest[lane.identity] = max(largest.get(lane.identity, 0), speaker.max_tokens)
        names = {
            model.provider if mine[alias].limits.per == "provider" else f"{model.provider}/{alias}": identity
            for alias, model in one.plan.models.items()
            if (identity := mine[alias].identity) in lanes
        }
        runs[str(place.here / one.journal.folder)] = one.journal, names
    needs = {identity: lane.least(largest[identity]) for identity, lane in lanes.items()}
    for identity, need in needs.items():
        if options.share is not None and options.share < need:
            least = f"its limits, or one call's max_tokens of {largest[identity]:,}, need at least --share {need:.2f}"
            raise CannotBegin(
                EXIT_JOB, f"--share {options.share:g} of {lanes[identity].name} lets no call through: {least}"
            )
    return Shares(world.disk, world.clock, place.state or Path(), place.holder, lanes, runs, needs, options.share)


def _extra(plan: Plan, sent: Sent) -> Mapping[str, Any]:
    """What a call was sent with besides; nothing for a conversation that the job has no more."""
    cell, aside = plan.by_id.get(sent.cell), plan.aside(sent.cell)
    if aside is not None:
        return aside[1].by.extra
    return {} if cell is None else plan.conversation(cell).participant(sent.role).extra


def _overran(one: Ready, gate: Gate, alias: str) -> None:
    """Make no more calls of a model that was found to have passed what was reserved."""
    overran = one.journal.state.tallies[alias].overran
    if overran is not None:
        gate.park_model(alias, overran.told(alias))


def _session(
    world: World,
    one: Ready,
    lanes: Mapping[str, Lane],
    gate: Gate,
) -> Session:
    # Whom nobody is to call needs no price: what it said was read in, and paid for elsewhere.
    known = {alias: one.prices.get(alias, FREE) for alias in one.plan.models}
    for alias, overran in overran_before(one.plan, one.journal.state, one.prices).items():
        gate.park_model(alias, overran)
    # Reopened conversations are missing, although the state will say so only when the life has begun.
    roster = Roster(one.plan, one.journal, known, lanes, one.missing, gate, one.purse.ceiling)
    transport = HttpTransport(world.wire, world.clock, one.endpoints)
    job = Path(one.source.file)
    inboxes = Inboxes(world.disk, world.programs, job.parent, Files().root(job), one.source.job.variables())
    return Session(
        plan=one.plan,
        journal=one.journal,
        prices=known,
        lanes=lanes,
        gate=gate,
        transport=transport,
        roster=roster,
        selected=one.selected,
        opened=one.opened,
        ended=partial(_write_transcript, one),
        inbox=inboxes.look,
        look_ups=LookUps(one.journal, transport, one.prices, partial(_extra, one.plan), partial(_overran, one, gate)),
        purse=one.purse,
        deadline=one.plan.job.ends(world.clock.wall()),
        style_trouble=one.views.find_trouble,
    )
