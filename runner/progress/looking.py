"""The eye: it looks at the sessions by itself, and tells the displays what it sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.lowlevel

from runner.events import Failed
from runner.forecast import AT_MOST, loads
from runner.foreign import visible
from runner.gate import Gate
from runner.journal import FILE, Journal, scan
from runner.lines import Damaged, StorageError
from runner.night import Ready
from runner.outputs import Reading
from runner.plan import Cell, who_of
from runner.progress.display import Display, Log
from runner.progress.picture import NOTHING_KNOWN, Counts, Left, Picture, Rest, bills, name_of, picture
from runner.progress.words import (
    amount,
    begun_text,
    conversation_data,
    end_data,
    ended_text,
    last_lines,
    left_text,
    money_text,
    refused_text,
    short,
    short_text,
    stopped_text,
    talk_text,
    waiting_text,
)
from runner.render.figures import counted, duration
from runner.run import Session, Watcher
from runner.status import Status
from runner.world import World

LOOK_SECONDS: Final = 0.2
LINE_SECONDS: Final = 30.0
IDLE_LINE_SECONDS: Final = 300.0
"""So seldom a line says that nothing has changed."""
FORECAST_SECONDS: Final = 5.0
SHARE: Final = 20.0
"""Looking and forecasting take no more than one part in this of the time, however large the night."""
_LOG_SECONDS: Final = 1.0
_SHORTEST_PAUSE_TOLD: Final = 5.0
_CELLS_AT_ONCE: Final = 20


Report = Callable[[Mapping[str, Any]], None]
"""Takes what happened as data, for programs."""


_Unbegun = Counter[tuple[Status, str | None]]
"""How many have ended without having begun, and how."""


@dataclass(slots=True)
class _Run:
    """A run that is watched: what it has not told yet."""

    session: Session
    reading: Reading
    log: Log
    name: str
    open: dict[str, Cell]
    """The conversations that this life is to hold and that have not ended."""
    settled: frozenset[str]
    """Those who listen and had come to an end before this life: what became of them was told then."""
    counts: Counts = field(init=False)
    left: Left = field(init=False)
    _changed: dict[str, None] = field(init=False)

    def __post_init__(self) -> None:
        self.counts = Counts(self.session)
        self.left = Left(self.session)
        self._changed = self.session.journal.state.follow()

    def ended(self) -> list[Cell]:
        """Those that have ended since the last time, in plan order."""
        state, plan = self.session.journal.state, self.session.plan
        ids = set()
        for id_ in self._changed:
            heard = None if id_ in plan.by_id else plan.aside(id_)
            ids.add(id_ if heard is None else heard[0].id)
        self._changed.clear()
        found = [self.open[id_] for id_ in ids & self.open.keys()]
        found = [cell for cell in found if state.of(cell.id).status and not self._is_listened_to(cell)]
        for cell in found:
            del self.open[cell.id]
        return sorted(found, key=lambda cell: cell.index)

    def _is_listened_to(self, cell: Cell) -> bool:
        """True while somebody is still to comment on what is complete."""
        state = self.session.journal.state
        return state.of(cell.id).status == "complete" and any(
            state.of(aside.id).status is None for aside in self.session.plan.after(cell)
        )


class Progress:
    """Watches the sessions of a night, and tells people, programs and logs how it goes."""

    def __init__(self, world: World, display: Display, report: Report | None = None) -> None:
        self._world = world
        self._display = display
        self._report = report
        self._runs: list[_Run] = []
        self._found: dict[Path, tuple[Reading, Journal]] = {}
        self._early: list[str] = []
        self._logged = anyio.Event()
        self._forecast = NOTHING_KNOWN
        self._stopped: set[str] = set()
        self._left: dict[tuple[str, Status, str], int] = {}
        """Conversations that wait or were stopped, by run and reason: one line at the end for all that share it."""
        self._failed: list[tuple[_Run, Cell]] = []
        """Those that were told to have failed."""
        self._refused_told: dict[tuple[str, str], tuple[str, ...]] = {}
        self._pauses_told: dict[str, float] = {}
        self._short_told: dict[str, float] = {}
        """Since when a run of which it was told has been waiting for money."""

    # -- being told ------------------------------------------------------------------------------------------------

    def found(self, one: Ready) -> None:
        """A run of the night, also when nothing of it is missing."""
        self._found[one.journal.folder] = (one.views.reading, one.journal)

    def tell(self, line: str) -> None:
        """A line for people, and for the logs of all runs."""
        line = visible(line, keep_newlines=False)
        self._display.line(line)
        if not self._runs:
            self._early.append(line)
        for run in self._runs:
            run.log.line(line)
        self._logged.set()

    def watch(self, sessions: Sequence[Session], gate: Gate) -> Sequence[Watcher]:
        """What has to run beside the sessions."""
        for session in sessions:
            folder = session.journal.folder
            reading = Reading(self._world.disk, folder, session.journal.state, session.plan, session.opened.key)
            self._found.setdefault(folder, (reading, session.journal))
            log = Log(self._world, session.journal)
            for line in self._early:
                log.line(line)
            open_ = {cell.id: cell for cell in session.roster.waiting}
            self._runs.append(_Run(session, reading, log, name_of(session), open_, _settled(session, open_.values())))

        async def look() -> None:
            await self._look(gate)

        async def foresee() -> None:
            await self._foresee(gate)

        return [look, foresee, self._keep_logs]

    async def finish(self, code: int, forgiven: bool = False) -> None:
        """The last lines; `code` is what the whole night came to."""
        self._display.close()
        for run in self._runs:
            reading, _ = _kept(run.reading, run.session.journal)
            shown, _ = self._found[run.session.journal.folder]
            for line in last_lines(reading, shown.closed or run.reading.state.closed[-1][1]):
                self._tell_of(run, line)
        if len(self._found) > 1:
            self.tell(f"{len(self._found)} runs: exit {code}")
        if forgiven:
            self.tell(f"exit {code} is forgiven by --ok-on")
        with anyio.CancelScope(shield=True):
            for run in self._runs:
                await run.log.put_down()
        self._report_end(code, forgiven)

    def close(self) -> None:
        """Give terminal and logs back."""
        self._display.close()
        for run in self._runs:
            run.log.close()

    # -- the watchers ----------------------------------------------------------------------------------------------

    async def _look(self, gate: Gate) -> None:
        seqs: list[int] = []
        try:
            for run in self._runs:
                await self._begin(run)
            next_line = anyio.current_time() + LINE_SECONDS
            idle_line = anyio.current_time() + IDLE_LINE_SECONDS
            told: list[int] = []
            while True:
                before = anyio.current_time()
                now_at = [run.session.journal.seq for run in self._runs]
                now = anyio.current_time()
                seen = picture(self._counts, gate, now, self._forecast)
                self._tell_lanes(seen, now)
                if now_at != seqs:
                    seqs = now_at
                    self._tell_refused()
                    await self._tell_ended()
                self._tell_short(gate, now)
                self._display.draw(seen)
                if now >= next_line and (now_at != told or now >= idle_line):
                    self._tell_progress(seen)
                    told = now_at
                    next_line, idle_line = now + LINE_SECONDS, now + IDLE_LINE_SECONDS
                await anyio.sleep(max(LOOK_SECONDS, SHARE * (anyio.current_time() - before)))
        finally:
            # The life is over, and everything of it is on disk: what ended since the last look has not been told.
            now = anyio.current_time()
            self._tell_lanes(picture(self._counts, gate, now), now)
            self._tell_refused(at_the_end=True)
            for run in self._runs:
                unbegun = _Unbegun()
                self._tell_of_ended(run, run.ended(), unbegun)
                self._tell_unbegun(run, unbegun)
            self._tell_better()
            self._tell_left()
            self._display.close()

    async def _foresee(self, gate: Gate) -> None:
        began = anyio.current_time()
        while True:
            before = anyio.current_time()
            rest = Rest({run.name: 0 for run in self._runs})
            for left in [run.left.follow() for run in self._runs]:
                for number, (cell, alike) in enumerate(left.unbegun, 1):
                    rest.add_unbegun(left.session, cell, alike)
                    if number % _CELLS_AT_ONCE == 0:
                        await anyio.lowlevel.checkpoint()
                for number, cell in enumerate(left.begun, 1):
                    rest.add(left.session, cell)
                    if number % _CELLS_AT_ONCE == 0:
                        await anyio.lowlevel.checkpoint()
            now = anyio.current_time()
            self._forecast = rest.forecast(gate.lanes, now - began, now)
            await anyio.sleep(max(FORECAST_SECONDS, SHARE * (now - before)))

    async def _keep_logs(self) -> None:
        while True:
            await self._logged.wait()
            self._logged = anyio.Event()
            for run in self._runs:
                await run.log.put_down()
            await anyio.sleep(_LOG_SECONDS)

    @property
    def _counts(self) -> list[Counts]:
        return [run.counts for run in self._runs]

    # -- telling ---------------------------------------------------------------------------------------------------

    def _tell_of(self, run: _Run, line: str, *, to_person: bool = True) -> None:
        line = visible(line, keep_newlines=False)
        run.log.line(line)
        self._logged.set()
        if to_person:
            self._display.line(line)

    async def _begin(self, run: _Run) -> None:
        session, state = run.session, run.session.journal.state
        dearest, calls, prices = 0, 0, session.prices.__getitem__
        kinds: set[Hashable] = set()
        for looked_at, (cell, number) in enumerate(session.plan.alike(run.open.values(), state.cells), 1):
            conversation = session.plan.conversation(cell)
            load = loads(conversation, prices, AT_MOST, *state.done(conversation))
            calls += number * sum(one.calls for one in load.values())
            if cell.kind not in kinds:
                kinds.add(cell.kind)
                dearest = max(dearest, *bills(conversation, prices), 0)
            if looked_at % _CELLS_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        self._tell_of(run, begun_text(run.name, session, run.open.values(), calls, dearest))
        self._send(
            {
                "event": "begun",
                **self._of(run.reading),
                "life": session.opened.life,
                "missing": len(run.open),
                "total": len(session.plan.cells),
                "calls": calls,
                "ceilings": [{"name": name, "most": amount(most)} for name, most, _ in run.reading.ceilings()],
            }
        )

    async def _tell_ended(self) -> None:
        for run in self._runs:
            ended, told, unbegun = run.ended(), 0, _Unbegun()
            try:
                if ended:
                    with suppress(StorageError):  # the night says itself what could not be kept
                        await run.session.journal.flushed()
                while told < len(ended):
                    self._tell_of_ended(run, ended[told : told + _CELLS_AT_ONCE], unbegun)
                    told += _CELLS_AT_ONCE
                    await anyio.lowlevel.checkpoint()
            finally:
                self._tell_of_ended(run, ended[told:], unbegun)
                self._tell_unbegun(run, unbegun)

    def _tell_of_ended(self, run: _Run, ended: Sequence[Cell], unbegun: _Unbegun) -> None:
        shown: list[str] = []
        for cell in ended:
            status, reason = run.reading.status(cell)
            has_begun = run.session.journal.state.of(cell.id).started is not None
            if status == "failed":
                self._failed.append((run, cell))
            is_left = reason is not None and (status == "pending" or (has_begun and status == "interrupted"))
            if is_left:
                key = run.name, status, reason or ""
                self._left[key] = self._left.get(key, 0) + 1
            if not has_begun:
                unbegun[status, reason] += 1
                if self._report is None:
                    continue  # there may be very many of them, and nobody wants to know more
            row = run.reading.row(cell)
            if has_begun:
                name = f"{run.name} " if len(self._runs) > 1 else ""
                line = ended_text(row, self._failed_at(run, cell))
                self._tell_of(run, line, to_person=False)
                goes_well = row.status == "complete" and not row.stopped_early
                if not is_left and not (self._display.quiet and goes_well):
                    shown.append(visible(name + line, keep_newlines=False))
                for one in run.reading.observers_of(cell):
                    if one.status != "complete" and one.aside.id not in run.settled:
                        what = f"{cell.name}: {who_of(one.aside)}: {one.status}: {short(one.reason or '')}"
                        self._tell_of(run, what, to_person=False)
                        shown.append(visible(what, keep_newlines=False))
            self._send(conversation_data(self._of(run.reading), cell, row))
        if shown:
            self._display.line(*shown)

    def _tell_unbegun(self, run: _Run, unbegun: _Unbegun) -> None:
        for (status, reason), number in unbegun.items():
            what = f"{counted(number, 'conversation')} not begun: {status}: {short(reason or '')}"
            self._tell_of(run, f"{run.name}: {what}", to_person=status != "pending")

    def _tell_better(self) -> None:
        """Those that had failed, as it seemed, before their provider turned out to be dead."""
        for run, cell in self._failed:
            row = run.reading.row(cell)
            if row.status != "failed":
                self._tell_of(run, f"{row.name}: {row.status} after all: {short(row.reason or '')}")
                self._send(conversation_data(self._of(run.reading), cell, row))

    def _tell_left(self) -> None:
        """What left conversations to a later life, where nobody was told yet; the log has each of them."""
        for (name, status, reason), number in self._left.items():
            if reason not in self._stopped:
                self._display.line(visible(f"{name}: {waiting_text(status, reason, number)}", keep_newlines=False))

    def _tell_refused(self, *, at_the_end: bool = False) -> None:
        """Once for each model that refuses what the job sets; when it has answered, so that it has said all."""
        for run in self._runs:
            state = run.session.journal.state
            for alias, names in state.dropped.items():
                told = self._refused_told.get((run.name, alias))
                if names != told and (at_the_end or state.tallies[alias].replies):
                    self._refused_told[run.name, alias] = names
                    self._tell_of(run, f"{run.name}: {refused_text(alias, names)}")

    def _failed_at(self, run: _Run, cell: Cell) -> str:
        """Which attempt was the last of a failed conversation; nothing when it did not fail, or nobody can read it."""
        progress = run.session.journal.state.of(cell.id)
        place = progress.tried.last
        if progress.status != "failed" or place is None:
            return ""
        try:
            event = run.session.journal.read(place).event
        except (OSError, Damaged):
            return ""
        assert isinstance(event, Failed)
        return f" ({event.failure} at turn {event.turn}, attempt {event.attempt})"

    def _tell_lanes(self, seen: Picture, now: float) -> None:
        for reason in seen.stopped:
            if reason not in self._stopped:
                self._stopped.add(reason)
                self.tell(stopped_text(reason, sum(self._stopped_by(run.session, reason) for run in self._runs)))
        for lane in seen.lanes:
            if lane.paused < _SHORTEST_PAUSE_TOLD or lane.dead is not None:
                continue
            if now < self._pauses_told.get(lane.name, -inf):
                continue
            self._pauses_told[lane.name] = now + max(LINE_SECONDS, lane.paused)
            line = f"{lane.name}: paused for {duration(lane.paused)}: {short(lane.reason)}"
            for run in self._runs:
                self._tell_of(run, line, to_person=False)
            if not self._display.quiet:
                self._display.line(visible(line, keep_newlines=False))

    @staticmethod
    def _stopped_by(session: Session, reason: str) -> int:
        """How many conversations a lane or a model stops that gets no more calls."""
        state = session.journal.state
        left = (cell for cell in session.selected if state.of(cell.id).status in (None, "pending"))
        return sum(session.roster.parked(cell) == reason for cell in left)

    def _tell_short(self, gate: Gate, now: float) -> None:
        """Once for each time that a run waits for money which others hold."""
        for run in self._runs:
            purse = run.session.purse
            since = None if purse is None else gate.short_since.get(purse.ceiling)
            if purse is None or since is None or now - since < _SHORTEST_PAUSE_TOLD:
                continue
            if self._short_told.get(run.name) != since:
                self._short_told[run.name] = since
                self._tell_of(run, short_text(run.name, purse, purse.max_wait))

    def _tell_progress(self, seen: Picture) -> None:
        left = left_text(seen.seconds_left) if seen.stopping is None else ""
        for run, row in zip(self._runs, seen.runs, strict=True):
            line = f"{row.name}: {talk_text(row)}; {money_text(row)}" + (f"; {left}" if left else "")
            self._tell_of(run, line, to_person=not self._display.quiet)

    # -- for programs ----------------------------------------------------------------------------------------------

    def _send(self, data: Mapping[str, Any]) -> None:
        if self._report is not None:
            self._report(data)

    def _of(self, reading: Reading) -> dict[str, Any]:
        return {"job": reading.job, "run": reading.key, "folder": str(reading.folder)}

    def _report_end(self, code: int, forgiven: bool) -> None:
        if self._report is None:
            return
        runs: list[dict[str, Any]] = []
        reasons: dict[str, None] = {}
        for reading, journal in self._found.values():
            kept, records = _kept(reading, journal)
            figures = {**self._of(reading), **kept.figures(records)}
            del figures["schema"], figures["lanes"], figures["in_flight"], figures["waits_for"]
            reasons.update(dict.fromkeys(figures["reasons"]))
            runs.append(figures)
        self._report(end_data(code, forgiven, tuple(reasons), runs))


def _settled(session: Session, cells: Iterable[Cell]) -> frozenset[str]:
    """Those who listen to these conversations and are not asked any more."""
    state, reopened = session.journal.state, session.opened.reopened
    begun = (cell for cell in cells if cell.id in state.cells)
    asides = (aside.id for cell in begun for aside in (*session.plan.during(cell), *session.plan.after(cell)))
    return frozenset(id_ for id_ in asides if state.of(id_).lasting and id_ not in reopened)


def _kept(reading: Reading, journal: Journal) -> tuple[Reading, int]:
    """The run as its file tells it, and up to which record: a state may tell of records that could not be kept."""
    if not journal.lost:
        return reading, journal.seq
    try:
        found = scan(journal.disk, journal.folder / FILE)
    except OSError:
        return reading, journal.seq  # nobody can tell
    return replace(reading, state=found.state, journal=None), found.last
