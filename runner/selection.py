"""What a life is about: which run of a job, which of its conversations, and whether they may be held at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import orjson

from runner.branches import Wish
from runner.events import Engaged, Opened
from runner.job import Job
from runner.money import Nanos, Price, ceiling
from runner.outputs import STATUS
from runner.plan import Cell, Plan, make_plan, slug
from runner.preflight import EXIT_JOB, CannotBegin, first_calls_that_do_not_fit
from runner.state import State
from runner.world import Disk

_MANY_TOKENS: Final = 1_000_000
"""A call of this size tells which of two prices is the higher."""


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
    share: float | None = None
    """The part of each provider's limits that this process wants; None for all that is free."""
    wish: Wish | None = None
    """How conversations that are there are to be gone on with; the life is then about these branches alone."""
    engaged: Engaged | None = None
    """An observer beside those that the job names."""
    observers_only: bool = False
    """True when nothing is to be said, and only complete conversations are to be commented on."""
    replay: str | None = None
    """The folder of the recording that answers in place of the providers."""


class Found(NamedTuple):
    """What a life is about."""

    selected: tuple[Cell, ...]
    missing: tuple[Cell, ...]
    """Those of the selected that are to be held."""
    reopened: tuple[str, ...]
    """Ids of those that had come to an end and are taken up again, of observers as well."""
    about: tuple[str, ...] | None
    """Ids of all that is taken up and has begun, where that is not everything; None where it is."""


def look_through(plan: Plan, state: State, options: Options) -> Found:
    """Hold a plan against its journal: what is asked for, and what of it is missing. CannotBegin if it may not be."""
    selected = select(plan, options.only)
    if options.observers_only:
        selected = tuple(c for c in selected if plan.after(c) and state.of(c.id).status == "complete")
        if not selected:
            raise CannotBegin(EXIT_JOB, f"{plan.job.name}: no conversation is complete that anybody is to comment on")
    if not selected:
        raise CannotBegin(EXIT_JOB, f"--only {' '.join(options.only)} names no conversation of {plan.job.name}")
    changed = bought_again(plan, state)
    if changed and not options.accept_changes:
        raise CannotBegin(
            EXIT_JOB,
            f"{plan.job.name}: would be bought again or left behind, complete as they are, as the job has changed:",
            *first_of(changed),
            "  run again with --accept-changes to do so, or with --new to leave this run as it is",
        )
    reopened = tuple(cell.id for cell in selected if _is_reopened(plan, cell, state, options))
    if options.retry_failed:
        listeners = [aside.id for cell in selected for aside in plan.after(cell)]
        # Of what is complete nobody is asked any more who speaks next, or whether it is over.
        open_ = (cell for cell in selected if state.of(cell.id).status != "complete")
        listeners += [aside.id for cell in open_ for aside in plan.during(cell)]
        reopened += tuple(id_ for id_ in listeners if state.of(id_).status == "failed")
    missing = [cell for cell in selected if set(_all_of(plan, cell)) & set(reopened) or _is_missing(plan, cell, state)]
    if options.limit is not None:
        begun = sorted(missing, key=lambda cell: (not state.of(cell.id).replies, cell.index))[: options.limit]
        left_out = {cell.id for cell in missing} - {cell.id for cell in begun}
        selected = tuple(cell for cell in selected if cell.id not in left_out)
        missing = [cell for cell in missing if cell.id not in left_out]
    about = None
    if len(selected) < len(plan.cells) or options.observers_only:
        taken_up = (cell for cell in missing if cell.id in state.cells)
        ids = (id_ for cell in taken_up for id_ in (*_all_of(plan, cell), *(one.id for one in plan.during(cell))))
        about = tuple(id_ for id_ in ids if id_ in state.cells)
    return Found(selected, tuple(missing), reopened, about)


def must_fit(plan: Plan, found: Found, state: State, known: Mapping[str, Price]) -> None:
    """CannotBegin where not even the first turn of what is missing fits its ceilings, at these prices."""
    unsaid = [cell for cell in found.missing if not state.of(cell.id).lasting]
    too_dear = list(first_calls_that_do_not_fit(plan, unsaid, known).values())
    if too_dear:
        head = f"{plan.job.name}: not even one turn of these fits its ceilings:"
        raise CannotBegin(EXIT_JOB, head, *first_of(too_dear), "  raise the ceiling, or lower max_tokens or min_tokens")


def missing_of(plan: Plan, state: State, cells: Sequence[Cell]) -> list[Cell]:
    """Those that have not come to their end, and those complete ones that somebody is still to comment on."""
    return [cell for cell in cells if _is_missing(plan, cell, state)]


def called_for(plan: Plan, state: State, missing: Sequence[Cell], reopened: Sequence[str] = ()) -> frozenset[str]:
    """The models that may be called for what is missing, by alias: nothing else needs a key or a price."""
    again, talks, found = set(reopened), dict[object, Cell](), set[str]()
    for cell in missing:
        if state.of(cell.id).status == "complete" and cell.id not in again:
            after = plan.after(cell)
            found |= {aside.by.alias for aside in after if aside.id in again or not state.of(aside.id).lasting}
        else:
            talks[cell.kind] = cell
    for conversation in map(plan.conversation, talks.values()):
        found |= {side.alias for side in conversation.participants if side.live}
        found |= {aside.by.alias for aside in conversation.asides}
    return frozenset(found)


def _all_of(plan: Plan, cell: Cell) -> list[str]:
    """The ids under which the journal keeps a conversation, and what is said about it."""
    return [cell.id, *(aside.id for aside in plan.after(cell))]


def _is_missing(plan: Plan, cell: Cell, state: State) -> bool:
    """True for a conversation that has not come to its end, and for a complete one that somebody is to comment on."""
    progress = state.of(cell.id)
    if progress.status == "complete":
        return any(not state.of(aside.id).lasting for aside in plan.after(cell))
    return not progress.lasting


def _is_reopened(plan: Plan, cell: Cell, state: State, options: Options) -> bool:
    """True for a failed conversation that is to be tried again, and for a complete one that lost a turn to a repair."""
    progress = state.of(cell.id)
    if progress.status == "failed":
        return options.retry_failed
    if progress.status != "complete" or not state.repaired or progress.reason is not None:
        return False
    return any(line.given is None and line.number not in progress.replies for line in plan.conversation(cell).lines)


def first_of(lines: Sequence[str], most: int = 20) -> list[str]:
    """The first of many lines, and how many more there are."""
    more = [f"  ... and {len(lines) - most} more"] if len(lines) > most else []
    return [*(f"  {line}" for line in lines[:most]), *more]


def select(plan: Plan, only: Sequence[str]) -> tuple[Cell, ...]:
    """The cells whose names match one of the patterns; all when there is none."""
    return tuple(c for c in plan.cells if not only or any(fnmatchcase(c.name, pattern) for pattern in only))


def bought_again(plan: Plan, state: State) -> list[str]:
    """Names of complete conversations that the plan has under another id, or, though their origin is there, no more."""
    if state.job is None:
        return []
    if plan.date == state.jobs[-1].date and not any(state.additions) and plan.job.record()[0] == state.job:
        return []  # it would plan the same once more
    try:
        before = make_plan(Job.from_record(state.job, state.texts), state.jobs[-1].date, state.additions)
    except KeyError:
        return []  # a repair lost one of its texts: nobody can say any more what it was
    now = {cell.name: cell.id for cell in plan.cells}
    there = plan.by_id.keys() | {cell.id for cell in plan.superseded}
    lost = [cell for cell in before.cells if cell.id not in there and state.of(cell.id).status == "complete"]

    def is_wanted(cell: Cell) -> bool:
        # Where the job just plans less, there is nothing to ask.
        if cell.branch is None:
            return cell.name in now and not state.of(now[cell.name]).lasting
        first = before.first(cell)
        return first.id in there or before.cells[first.index].name in now

    return [cell.name for cell in lost if is_wanted(cell)]


def overran_before(plan: Plan, state: State, known: Mapping[str, Price]) -> dict[str, str]:
    """By alias, what to do about models that used more than was reserved for them, and nothing was changed since."""
    found: dict[str, str] = {}
    for alias in plan.models:
        overran = state.tallies[alias].overran if alias in state.tallies and state.tallies[alias].overrun else None
        if overran is None or alias not in known:
            continue
        then = next((opened for _, opened in reversed(state.opened) if opened.life <= overran.life), None)
        if then is None or not _is_raised(plan, state, alias, known[alias], then):
            found[alias] = overran.told(alias)
    return found


def _is_raised(plan: Plan, state: State, alias: str, price: Price, then: Opened) -> bool:
    """True when the job allows a model more than in an earlier life: longer answers, or dearer ones."""
    before = Price.of(then.prices[alias]) if alias in then.prices else price
    if ceiling(price, _MANY_TOKENS, _MANY_TOKENS) > ceiling(before, _MANY_TOKENS, _MANY_TOKENS):
        return True
    job = next((opened for opened in reversed(state.jobs) if opened.life <= then.life), None)
    try:
        old = None if job is None or job.job is None else Job.from_record(job.job, state.texts)
    except KeyError:
        old = None  # a repair lost one of its texts: nobody can say any more what it allowed
    return old is not None and _longest(plan, alias) > _longest(make_plan(old, plan.date), alias)


def _longest(plan: Plan, alias: str) -> int:
    """The largest output limit of a model in a plan."""
    scenes = {cell.kind: cell for cell in plan.cells}
    speakers = (speaker for cell in scenes.values() for speaker in plan.conversation(cell).participants)
    return max((speaker.max_tokens for speaker in speakers if speaker.alias == alias), default=0)


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
