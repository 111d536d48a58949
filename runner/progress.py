"""A picture of the state, drawn a few times a second; nobody calls it, it looks by itself.

- `picture` is a pure function of the sessions and their gate; the displays show it and decide nothing.
- A terminal gets a table that is drawn in place, and above it what went wrong, as it happens. Elsewhere, and in
  `log.txt` of each run, the same night is plain lines.
- What is expected is shown as "about", and not at all before there is something to expect it from. Only the ceiling is
  a guarantee.
- Nothing here can disturb the night: a display that is gone stays silent, a log that cannot be written is left.
- Everything shown passes `foreign.visible`, here and once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import IO, Any, Final, Protocol

import anyio
import anyio.lowlevel

from runner.conversation import STATUSES, Conversation, Status
from runner.events import Failed
from runner.forecast import AT_MOST, expecting, loads
from runner.foreign import visible
from runner.gate import Gate
from runner.journal import Journal, JournalDamaged, StorageError
from runner.limits import Lane
from runner.money import Nanos, Price, dollars, shown
from runner.night import Ready
from runner.outputs import INDEX, Reading
from runner.plan import Cell
from runner.render.figures import counted, duration, stamp, usd
from runner.render.summary import Row
from runner.run import Session, Watcher
from runner.world import Appender, World

LOG: Final = "log.txt"

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
_CALLS_FOR_A_RATE: Final = 5
_SECONDS_FOR_A_RATE: Final = 5.0
_LONGEST_REASON: Final = 300


# --- the picture -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LaneRow:
    """One lane now. Calls and tokens are those of all lives of the runs."""

    name: str
    in_flight: int
    slots: float
    waiting: int
    done: int
    """Calls that have come back, however."""
    tokens_in: int | None
    tokens_out: int | None
    busy: int
    failures: int
    """Attempts that failed otherwise."""
    paused: float
    """Seconds until it goes on; 0 when it goes."""
    reason: str
    dead: str | None


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run now. The counts add up to `total`."""

    name: str
    total: int
    ended: Mapping[Status, int]
    under_way: int
    waiting: int
    left_out: int
    """Not complete, and not part of what this life is about."""
    truncated: int
    refused: int
    settled: Nanos
    assumed: Nanos
    """The part of `settled` that is a reservation nobody could settle better."""
    reserved: Nanos
    ceiling: Nanos | None
    expected: Nanos | None
    """What it will have spent in the end, if replies stay as long as they were; None while that is unknown."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What a person may want to know at a glance."""

    lanes: tuple[LaneRow, ...]
    runs: tuple[RunRow, ...]
    seconds_left: float | None
    """None while it is unknown."""
    stopping: str | None
    stopped: tuple[str, ...]
    """Why which lanes and models get no more calls."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of the rest of the night."""

    rests: Mapping[str, Nanos] = field(default_factory=dict)
    """By the name of the run; one that cannot be known yet is missing."""
    seconds_left: float | None = None


NOTHING_KNOWN: Final = Forecast()


def picture(sessions: Sequence[Session], gate: Gate, now: float, forecast: Forecast = NOTHING_KNOWN) -> Picture:
    """How the night stands at this moment."""
    stopped: dict[str, None] = {}
    for session in sessions:
        for alias, lane in session.lanes.items():
            reason = gate.parked(alias, lane)
            if reason is not None:
                stopped[reason] = None
    return Picture(
        tuple(_lane_row(lane, sessions, gate, now) for lane in gate.lanes),
        tuple(_run_row(session, forecast.rests.get(name_of(session))) for session in sessions),
        forecast.seconds_left,
        None if gate.closed is None else gate.closed.reason,
        tuple(stopped),
    )


def name_of(session: Session) -> str:
    """`job/key`."""
    return f"{session.plan.job.name}/{session.opened.key}"


def _lane_row(lane: Lane, sessions: Sequence[Session], gate: Gate, now: float) -> LaneRow:
    tallies = [
        session.journal.state.tallies[alias]
        for session in sessions
        for alias, own in session.lanes.items()
        if own is lane and alias in session.journal.state.tallies
    ]
    known = any(tally.with_figures for tally in tallies)
    failed = sum(sum(tally.failures.values()) for tally in tallies)
    busy = sum(tally.failures.get("busy", 0) for tally in tallies)
    paused = max(0.0, lane.paused_until - now)
    return LaneRow(
        name=lane.name,
        in_flight=lane.flying,
        slots=lane.slots,
        waiting=gate.waiting(lane),
        done=sum(tally.replies for tally in tallies) + failed,
        tokens_in=sum(tally.input for tally in tallies) if known else None,
        tokens_out=sum(tally.output for tally in tallies) if known else None,
        busy=busy,
        failures=failed - busy,
        paused=paused,
        reason=lane.pause_reason if paused else "",
        dead=lane.dead,
    )


def _run_row(session: Session, rest: Nanos | None) -> RunRow:
    state, cells = session.journal.state, session.plan.cells
    ended = dict.fromkeys(STATUSES, 0)
    truncated = refused = still_open = 0
    selected = {cell.id for cell in session.selected}
    left_out = 0
    for cell in cells:
        progress = state.cells.get(cell.id)
        if progress is not None:
            truncated += progress.truncated
            refused += progress.refused
        if progress is not None and progress.status is not None:
            ended[progress.status] += 1
        elif cell.id in selected:
            still_open += 1
        else:
            left_out += 1
    # At the end of the life those that never began get their status while they are still on the roster.
    waiting = min(still_open, len(session.roster.waiting))
    return RunRow(
        name=name_of(session),
        total=len(cells),
        ended=ended,
        under_way=still_open - waiting,
        waiting=waiting,
        left_out=left_out,
        truncated=truncated,
        refused=refused,
        settled=state.run.settled,
        assumed=state.run.assumed,
        reserved=state.run.reserved,
        ceiling=session.plan.budget.run,
        expected=None if rest is None else state.run.settled + rest,
    )


# --- what is expected -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Rest:
    """What is still to be said, added up conversation by conversation."""

    costs: dict[str, Nanos] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    """Runs with a model of which no reply has told yet how long its replies are."""
    calls: dict[str, int] = field(default_factory=dict)
    """By lane."""

    def add(self, session: Session, cell: Cell) -> None:
        state, name = session.journal.state, name_of(session)
        tallies = state.tallies
        guess = expecting(lambda alias: tallies[alias].mean_output if alias in tallies else None)
        self.costs.setdefault(name, 0)
        if state.of(cell.id).status is not None or session.roster.parked(cell) is not None:
            return
        conversation = session.plan.conversation(cell)
        for alias, load in loads(conversation, session.prices.__getitem__, guess, state.of(cell.id).replies).items():
            self.costs[name] += load.cost
            lane = session.lanes[alias].name
            self.calls[lane] = self.calls.get(lane, 0) + load.calls
            if alias not in tallies or tallies[alias].mean_output is None:
                self.unknown.add(name)

    def forecast(self, lanes: Iterable[Lane], seconds: float, now: float) -> Forecast:
        """The forecast, after this life has gone on for so many seconds."""
        return Forecast(
            {name: cost for name, cost in self.costs.items() if name not in self.unknown},
            seconds_left(self.calls, lanes, seconds, now),
        )


def seconds_left(calls: Mapping[str, int], lanes: Iterable[Lane], seconds: float, now: float) -> float | None:
    """How long the slowest lane needs for its calls, at its pace so far; None while the pace of one is unknown."""
    longest = 0.0
    for lane in lanes:
        ahead, done = calls.get(lane.name, 0), lane.granted - lane.flying
        if not ahead or lane.dead is not None:
            continue
        if done < _CALLS_FOR_A_RATE or seconds < _SECONDS_FOR_A_RATE:
            return None
        longest = max(longest, ahead * seconds / done + max(0.0, lane.paused_until - now))
    return longest


def bills(conversation: Conversation, prices: Callable[[str], Price]) -> Iterator[Nanos]:
    """About the most that the last and dearest call of each speaker can cost."""
    lines = [line for line in conversation.lines if line.given is None]
    for last in {line.role: line.number for line in lines}.values():
        others = {line.number for line in lines} - {last}
        yield sum(load.cost for load in loads(conversation, prices, AT_MOST, others).values())


# --- lines -----------------------------------------------------------------------------------------------------------


def counts_text(total: int, ended: Mapping[Status, int], others: Mapping[str, int]) -> str:
    """`3 of 6 complete, 0 failed, 2 under way, 1 waiting`: what is not zero, and what everybody looks for."""
    parts = [f"{ended['complete']:,} of {total:,} complete", f"{ended['failed']:,} failed"]
    parts += [f"{ended[status]:,} {status}" for status in STATUSES[2:] if ended[status]]
    parts += [f"{number:,} {what}" for what, number in others.items() if number]
    return ", ".join(parts)


def talk_text(run: RunRow) -> str:
    """The conversations of a run."""
    others = {"under way": run.under_way, "waiting": run.waiting, "left out": run.left_out}
    flags = flags_text(run.truncated, run.refused)
    return counts_text(run.total, run.ended, others) + (f"; {flags}" if flags else "")


def money_text(run: RunRow) -> str:
    """What is spent, against the ceiling, and what it may come to."""
    text = f"{shown(run.settled)} spent"
    if run.ceiling is not None:
        text += f" of {shown(run.ceiling)}"
    if run.reserved:
        text += f", {shown(run.reserved)} reserved"
    if run.expected is not None and (run.under_way or run.waiting):
        if run.ceiling is not None and run.expected > run.ceiling:
            text += f", all of it would take about {shown(run.expected)}"
        else:
            text += f", about {shown(run.expected)} in all"
    return text


def flags_text(truncated: int, refused: int) -> str:
    """`2 turns truncated, 1 refused`; nothing when there are none."""
    if truncated and refused:
        return f"{counted(truncated, 'turn')} truncated, {refused:,} refused"
    if truncated:
        return f"{counted(truncated, 'turn')} truncated"
    return f"{counted(refused, 'turn')} refused" if refused else ""


def left_text(seconds: float | None) -> str:
    """`about 12 min to go`; nothing while it is unknown."""
    if seconds is None or seconds <= 0:
        return ""
    if seconds < 90:
        return f"about {max(5, round(seconds / 5) * 5)} s to go"
    minutes = round(seconds / 60)
    return f"about {minutes} min to go" if minutes < 90 else f"about {seconds / 3600:.1f} h to go"


def ended_text(row: Row, where: str) -> str:
    """One conversation that came to an end; `where` says at which attempt it failed."""
    flags = flags_text(row.truncated, row.refused)
    rounds = f"{row.rounds_done} of {counted(row.rounds_planned, 'round')}"
    text = ", ".join([f"{row.name}: {row.status}", rounds, *([flags] if flags else []), usd(row.cost)])
    return f"{text}{where}: {short(row.reason)}" if row.reason else f"{text}{where}"


def short(reason: str) -> str:
    """A reason on one line, not too long: a provider may say whatever it likes."""
    line = " ".join(reason[: 4 * _LONGEST_REASON].split())
    return line if len(line) <= _LONGEST_REASON else line[: _LONGEST_REASON - 1].rstrip() + "…"


def last_lines(reading: Reading) -> list[str]:
    """What a run came to when its life is over, where to look, and how to go on."""
    state = reading.state
    closed = state.closed[-1][1]
    parts = [counts_text(len(reading.plan.cells), reading.counts(), {})]
    cells = [state.of(cell.id) for cell in reading.plan.cells]
    flags = flags_text(sum(c.truncated for c in cells), sum(c.refused for c in cells))
    if flags:
        parts.append(flags)
    replaced = reading.replaced()
    if replaced:
        parts.append(f"replaced: {len(replaced):,}, {usd(sum(p.account.held for p in replaced))}")
    most = reading.plan.budget.run
    spent = f"{usd(state.run.held)} spent" + ("" if most is None else f" of {usd(most)}")
    assumed = state.run.assumed + state.run.reserved
    if assumed:
        calls = sum(t.assumed_calls for t in state.tallies.values()) + sum(1 for _ in state.open_calls())
        spent += f" (of it {usd(assumed)} assumed for {counted(calls, 'call')})"
    parts.append(spent)
    parts.append(f"exit {closed.exit}" + (f": {', '.join(closed.reasons)}" if closed.reasons else ""))
    lines = [f"{reading.job}/{reading.key}: {'; '.join(parts)}", f"  look at {reading.folder / INDEX}"]
    command = reading.command()
    if command is not None:
        lines.append(f"  what is missing goes on with: {command}")
    return lines


# --- what shows it --------------------------------------------------------------------------------------------------


class Display(Protocol):
    """Shows lines and pictures to a person. Never raises, never waits."""

    quiet: bool
    """True when what goes well need not be told line by line."""

    def line(self, text: str) -> None: ...

    def draw(self, picture: Picture) -> None: ...

    def close(self) -> None: ...


class Lines:
    """Plain lines, one after the other."""

    quiet = False

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def line(self, text: str) -> None:
        self._file.write(f"{text}\n")
        self._file.flush()

    def draw(self, picture: Picture) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.flush()


class Screen:
    """A table on a terminal, drawn in place, with lines above it."""

    quiet = True

    def __init__(self, file: IO[str], writable: Callable[[], bool] = lambda: True, width: int | None = None) -> None:
        # Late, as everything that only a terminal needs.
        from rich.console import Console
        from rich.live import Live

        self._writable = writable
        self._console = Console(file=file, force_terminal=True, width=width, highlight=False, markup=False, emoji=False)
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def line(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(text), soft_wrap=True)

    def draw(self, picture: Picture) -> None:
        if not self._writable():
            return  # held by Ctrl-S, perhaps; the next picture is as good
        if not self._live.is_started:
            self._live.start()
            # A process that is killed gives nothing back: the cursor would stay away.
            self._console.show_cursor(True)
        self._live.update(_table(picture, self._console.width), refresh=True)

    def close(self) -> None:
        self._live.stop()


_WIDE: Final = 90
_MEDIUM: Final = 60


def _table(picture: Picture, width: int) -> Any:
    """The picture for a terminal of this width."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    def line(text: str, style: str = "") -> Text:
        return Text(visible(text, keep_newlines=False), style=style, no_wrap=True, overflow="ellipsis")

    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    columns = _columns(width)
    for name in columns:
        table.add_column(
            name,
            justify="left" if name in ("lane", "") else "right",
            no_wrap=True,
            overflow="ellipsis",
            ratio=1 if name == "" else None,
            max_width=24 if name == "lane" else None,
        )
    for lane in picture.lanes:
        cells = lane_cells(lane)
        style = "red" if lane.dead is not None else "yellow" if lane.paused else ""
        table.add_row(*(line(cells[name], style) for name in columns))
    head = [line(text) for run in picture.runs for text in (f"{run.name}: {talk_text(run)}", f"  {money_text(run)}")]
    if picture.stopping is not None:
        head.append(line(f"no new calls: {short(picture.stopping)}", "yellow"))
    left = left_text(picture.seconds_left)
    if left and picture.stopping is None:
        head.append(line(left, "dim"))
    # Last what may be cut off where a terminal is low.
    return Group(*head, table)


def _columns(width: int) -> tuple[str, ...]:
    if width >= _WIDE:
        return ("lane", "in flight", "waiting", "done", "tokens in", "out", "busy", "failed", "")
    if width >= _MEDIUM:
        return ("lane", "in flight", "waiting", "done", "busy", "")
    return ("lane", "in flight", "done", "")


def lane_cells(lane: LaneRow) -> dict[str, str]:
    """A row of the table, by column."""
    state = ""
    if lane.dead is not None:
        state = f"stopped: {short(lane.dead)}"
    elif lane.paused:
        state = f"paused {duration(lane.paused)}: {short(lane.reason)}"
    return {
        "lane": lane.name,
        "in flight": f"{lane.in_flight}" if lane.slots == inf else f"{lane.in_flight}/{int(lane.slots)}",
        "waiting": f"{lane.waiting:,}",
        "done": f"{lane.done:,}",
        "tokens in": "–" if lane.tokens_in is None else f"{lane.tokens_in:,}",
        "out": "–" if lane.tokens_out is None else f"{lane.tokens_out:,}",
        "busy": f"{lane.busy:,}",
        "failed": f"{lane.failures:,}",
        "": state,
    }


# --- the log ---------------------------------------------------------------------------------------------------------


class Log:
    """`log.txt` of one run: the plain lines, each with its time. What cannot be written is left."""

    def __init__(self, world: World, journal: Journal) -> None:
        self._world = world
        self._journal = journal
        self._lines: list[str] = []
        self._file: Appender | None = None
        self._given_up = False

    def line(self, text: str) -> None:
        if not self._given_up:
            self._lines.append(f"{stamp(self._world.clock.wall())} {text}\n")

    async def put_down(self) -> None:
        """Write what has been told since; the room that is left on a full disk belongs to the journal."""
        if not self._lines or self._given_up or self._journal.failing is not None:
            return
        lines, self._lines = self._lines, []
        with anyio.CancelScope(shield=True):
            try:
                if self._file is None:
                    self._file = self._world.disk.appender(self._journal.folder / LOG)
                await self._file.append("".join(lines).encode())
            except OSError:
                self._given_up = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


# --- looking ---------------------------------------------------------------------------------------------------------

Report = Callable[[Mapping[str, Any]], None]
"""Takes what happened as data, for programs."""


@dataclass(slots=True)
class _Run:
    """A run that is watched: what it has not told yet."""

    session: Session
    reading: Reading
    log: Log
    name: str
    open: dict[str, Cell]
    """The conversations that this life is to hold and that have not ended."""

    def ended(self) -> list[Cell]:
        """Those that have ended since the last time."""
        cells = self.session.journal.state.cells
        found = [c for id_, c in self.open.items() if id_ in cells and cells[id_].status is not None]
        for cell in found:
            del self.open[cell.id]
        return found


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
        self._pauses_told: dict[str, float] = {}

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
            self._runs.append(_Run(session, reading, log, name_of(session), open_))

        async def look() -> None:
            await self._look(gate)

        async def foresee() -> None:
            await self._foresee(gate)

        return [look, foresee, self._keep_logs]

    async def finish(self, code: int, forgiven: bool = False) -> None:
        """The last lines; `code` is what the whole night came to."""
        self._display.close()
        for run in self._runs:
            for line in last_lines(run.reading):
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
                if now_at != seqs:
                    seqs = now_at
                    await self._tell_ended()
                now = anyio.current_time()
                seen = picture(self._sessions, gate, now, self._forecast)
                self._tell_lanes(seen, now)
                self._display.draw(seen)
                if now >= next_line and (now_at != told or now >= idle_line):
                    self._tell_progress(seen)
                    told = now_at
                    next_line, idle_line = now + LINE_SECONDS, now + IDLE_LINE_SECONDS
                await anyio.sleep(max(LOOK_SECONDS, SHARE * (anyio.current_time() - before)))
        finally:
            # The life is over, and everything of it is on disk: what ended since the last look has not been told.
            for run in self._runs:
                self._tell_of_ended(run, run.ended())
            self._display.close()

    async def _foresee(self, gate: Gate) -> None:
        began = anyio.current_time()
        while True:
            before = anyio.current_time()
            rest, number = Rest(), 0
            for session in self._sessions:
                for cell in session.selected:
                    rest.add(session, cell)
                    number += 1
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
    def _sessions(self) -> list[Session]:
        return [run.session for run in self._runs]

    # -- telling ---------------------------------------------------------------------------------------------------

    def _tell_of(self, run: _Run, line: str, *, to_person: bool = True) -> None:
        line = visible(line, keep_newlines=False)
        run.log.line(line)
        self._logged.set()
        if to_person:
            self._display.line(line)

    async def _begin(self, run: _Run) -> None:
        session, state = run.session, run.session.journal.state
        dearest, calls = 0, 0
        scenes: set[tuple[Any, ...]] = set()
        for number, cell in enumerate(run.open.values(), 1):
            conversation = session.plan.conversation(cell)
            done = state.of(cell.id).replies
            calls += sum(line.given is None and line.number not in done for line in conversation.lines)
            scene = (cell.prompt, cell.pairing, cell.models)
            if scene not in scenes:
                scenes.add(scene)
                dearest = max(dearest, *bills(conversation, session.prices.__getitem__), 0)
            if number % _CELLS_AT_ONCE == 0:
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
            ended = run.ended()
            if ended:
                try:
                    await run.session.journal.flushed()
                except StorageError:
                    pass  # the night says itself what could not be kept
                self._tell_of_ended(run, ended)

    def _tell_of_ended(self, run: _Run, ended: Sequence[Cell]) -> None:
        unbegun: dict[tuple[Status, str | None], int] = {}
        for cell in ended:
            row, progress = run.reading.row(cell), run.session.journal.state.of(cell.id)
            if progress.started is None:
                unbegun[row.status, row.reason] = unbegun.get((row.status, row.reason), 0) + 1
            else:
                name = f"{run.name} " if len(self._runs) > 1 else ""
                line = ended_text(row, self._failed_at(run, cell))
                self._tell_of(run, line, to_person=False)
                if not (self._display.quiet and row.status == "complete"):
                    self._display.line(visible(name + line, keep_newlines=False))
            self._send(conversation_data(self._of(run.reading), cell, row))
        for (status, reason), number in unbegun.items():
            what = f"{counted(number, 'conversation')} not begun: {status}: {short(reason or '')}"
            self._tell_of(run, f"{run.name}: {what}")

    def _failed_at(self, run: _Run, cell: Cell) -> str:
        """Which attempt was the last of a failed conversation; nothing when it did not fail, or nobody can read it."""
        progress = run.session.journal.state.of(cell.id)
        place = progress.tried.last
        if progress.status != "failed" or place is None:
            return ""
        try:
            event = run.session.journal.read(place).event
        except (OSError, JournalDamaged):
            return ""
        assert isinstance(event, Failed)
        return f" ({event.failure} at turn {event.turn}, attempt {event.attempt})"

    def _tell_lanes(self, seen: Picture, now: float) -> None:
        for reason in seen.stopped:
            if reason not in self._stopped:
                self._stopped.add(reason)
                self.tell(f"no more calls: {short(reason)}; conversations that need it stay pending")
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
            figures = {**self._of(reading), **reading.figures(journal.seq)}
            del figures["schema"], figures["lanes"], figures["in_flight"]
            reasons.update(dict.fromkeys(figures["reasons"]))
            runs.append(figures)
        self._report(end_data(code, forgiven, tuple(reasons), runs))


def begun_text(name: str, session: Session, missing: Collection[Cell], calls: int, dearest: Nanos) -> str:
    """What a life is about, and what is at stake at any one time."""
    total, most = len(session.plan.cells), session.plan.budget.run
    goes_on = f"goes on (life {session.opened.life}), " if session.opened.life > 1 else ""
    parts = [f"{name}: {goes_on}{len(missing):,} of {counted(total, 'conversation')} to hold, {counted(calls, 'call')}"]
    parts.append("no ceiling" if most is None else f"ceiling {shown(most)}")
    lanes = {lane.name: lane for lane in session.lanes.values()}
    users = Counter(name for cell in missing for name in {session.lanes[alias].name for _, alias in cell.models})
    at_once = min(len(missing), sum(int(min(lane.slots, users[lane.name])) for lane in lanes.values()))
    if dearest and at_once:
        at_stake = f"up to {counted(at_once, 'call')} at once, the largest about {shown(dearest)}: "
        together = at_once * dearest
        fits = most is None or together <= most - session.journal.state.run.held
        parts.append(at_stake + (shown(together) if fits else "as many as the ceiling lets through"))
    return "; ".join(parts)


def conversation_data(of: Mapping[str, Any], cell: Cell, row: Row) -> dict[str, Any]:
    """One conversation that came to an end, for programs."""
    return {
        "event": "conversation",
        **of,
        "name": row.name,
        "id": cell.id,
        "status": row.status,
        "reason": row.reason,
        "flags": {"truncated": row.truncated, "refused": row.refused},
        "rounds": {"planned": row.rounds_planned, "done": row.rounds_done},
        "cost": amount(row.cost),
        "file": row.file,
    }


def end_data(
    code: int, forgiven: bool, reasons: Sequence[str], runs: Sequence[Mapping[str, Any]], errors: Sequence[str] = ()
) -> dict[str, Any]:
    """What the night came to, for programs; `errors` say why it could not begin."""
    return {
        "event": "end",
        "exit": code,
        "forgiven": forgiven,
        "reasons": list(reasons),
        "errors": list(errors),
        "runs": list(runs),
    }


def amount(nanos: Nanos) -> float:
    """Dollars with at most nine decimals."""
    return float(dollars(nanos))
