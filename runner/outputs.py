"""The files of a run, computed from its journal: written to a temporary name and renamed, and written again at any
time.

A `Reading` is a run as its journal tells it: the state, the plan of the job in force, and the texts where they stand.
Every view is a function of it, so two processes that read the same journal write the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Any, Final

import anyio.lowlevel
import orjson

from runner.call import Message, Usage
from runner.conversation import STATUSES, Conversation, Line, Status, Transcript, Turn, said, view
from runner.events import Failed, Place, Progress, Replied, Sent, State, usage_of
from runner.forecast import AT_MOST, expecting, loads
from runner.foreign import one_line
from runner.job import Job
from runner.journal import FILE, Journal, Record, Scan, read_record, scan
from runner.ledger import BUDGETS, Scope
from runner.limits import RUN_BUDGET, Lane
from runner.money import Price, dollars
from runner.plan import Cell, Plan, make_plan
from runner.render import DEFAULT, STYLES, Links, jsonl, summary
from runner.world import Clock, Disk

OUTPUTS: Final = "outputs"
"""The folder of all runs, unless another is named."""
CONVERSATIONS: Final = "conversations"
LINES: Final = "conversations.jsonl"
INDEX: Final = "index.md"
STATUS: Final = "status.json"

STATUS_SECONDS: Final = 2.0
VIEW_SECONDS: Final = 60.0
_MOST_WHYS: Final = 20
VIEW_SHARE: Final = 20.0
"""The views of a large run are written so seldom that they take no more than one part in this of the time."""


@dataclass(slots=True)
class Reading:
    """A run as its journal tells it."""

    disk: Disk
    folder: Path
    state: State
    plan: Plan
    key: str
    journal: Journal | None = None
    """Where this process writes the run itself: the state is then ahead of the file."""

    @property
    def job(self) -> str:
        return self.plan.job.name

    def status(self, cell: Cell) -> tuple[Status, str | None]:
        """How a conversation stands, and why."""
        progress = self.state.of(cell.id)
        if progress.status is not None:
            return progress.status, progress.reason
        return "pending", "not begun" if progress.started is None else "under way, or broken off"

    def counts(self) -> dict[Status, int]:
        """Conversations by status; they add up to all of the plan."""
        counts = dict.fromkeys(STATUSES, 0)
        for cell in self.plan.cells:
            counts[self.status(cell)[0]] += 1
        return counts

    def is_early(self, cell: Cell) -> bool:
        """True for a conversation that is complete although its last planned lines were not said."""
        progress = self.state.of(cell.id)
        return progress.status == "complete" and progress.reason is not None

    def stopped_early(self) -> int:
        return sum(map(self.is_early, self.plan.cells))

    def refused_parameters(self) -> dict[str, list[str]]:
        """What the job sets and a model refuses, by its alias: it is left out of its calls."""
        return {alias: list(names) for alias, names in self.state.dropped.items() if alias in self.plan.models}

    def replaced(self) -> list[Progress]:
        """Conversations that were held, but that the job in force does not plan any more."""
        return [p for id_, p in self.state.cells.items() if id_ not in self.plan.by_id and p.started is not None]

    # -- one conversation --------------------------------------------------------------------------------------------

    def transcript(self, cell: Cell) -> Transcript:
        """One conversation with all its texts and figures."""
        conversation = self.plan.conversation(cell)
        progress = self.state.of(cell.id)
        replies = {number: self._replied(place) for number, place in sorted(progress.replies.items())}
        history = said(conversation, {number: reply.text for number, reply in replies.items()})
        status, reason = self.status(cell)
        turns = tuple(self._turn(conversation, line, progress, replies, len(history)) for line in conversation.lines)
        error = next((turn.error for turn in turns if turn.error is not None), None) if status != "complete" else None
        system, messages = _last_view(conversation, history)
        return Transcript(
            id=cell.id,
            name=cell.name,
            job=self.job,
            run=self.key,
            prompt=cell.prompt,
            repeat=cell.repeat,
            participants=conversation.participants,
            status=status,
            reason=reason,
            rounds_planned=conversation.rounds,
            rounds_done=rounds_done(conversation, len(history)),
            context=conversation.context,
            opening=conversation.opening,
            turns=turns,
            messages=messages,
            system=system,
            spent=progress.account.held,
            started=progress.started,
            ended=progress.ended,
            error=error,
        )

    def _turn(
        self, conversation: Conversation, line: Line, progress: Progress, replies: Mapping[int, Replied], spoken: int
    ) -> Turn:
        planned = _planned(conversation, line)
        reply = replies.get(line.number)
        if line.number > spoken:
            return self._open_turn(planned, progress) if line.number == spoken + 1 and not planned.given else planned
        if reply is None:
            return replace(planned, text=line.given, outcome="ok")
        sent = self._sent(progress.sents.get(line.number))
        attempts = progress.attempts.get(line.number, 1)
        corrected = progress.corrected.get((line.number, attempts))
        return replace(
            planned,
            text=reply.text,
            outcome=reply.finish,
            reasoning=reply.reasoning,
            stop=reply.stop,
            served=reply.model,
            upstream=reply.upstream,
            usage=_believed(usage_of(reply.usage)),
            cost=reply.cost if corrected is None else corrected,
            computed=reply.computed,
            cost_source=reply.cost_source if corrected is None else "reported",
            first_byte=reply.first_byte,
            seconds=reply.seconds,
            attempts=attempts,
            generation=reply.generation,
            request=None if sent is None else sent.request,
        )

    def _open_turn(self, planned: Turn, progress: Progress) -> Turn:
        """The first turn that has no reply: what was tried, and how the last attempt failed."""
        tried = progress.tried
        failed = None if tried.last is None else self._failed(tried.last)
        sent = self._sent(tried.sent)
        return replace(
            planned,
            outcome="open" if failed is None else "failed",
            attempts=tried.attempts,
            request=None if sent is None else sent.request,
            error=None if failed is None else {"kind": failed.failure, "message": failed.detail},
        )

    def _record(self, place: Place) -> Record:
        return read_record(self.disk, self.folder, place) if self.journal is None else self.journal.read(place)

    def _replied(self, place: Place) -> Replied:
        event = self._record(place).event
        assert isinstance(event, Replied)
        return event

    def _failed(self, place: Place) -> Failed:
        event = self._record(place).event
        assert isinstance(event, Failed)
        return event

    def _sent(self, place: Place | None) -> Sent | None:
        if place is None:
            return None
        event = self._record(place).event
        assert isinstance(event, Sent)
        return event

    # -- views -------------------------------------------------------------------------------------------------------

    def markdown(self, cell: Cell) -> str:
        """The transcript of a conversation in the default style."""
        previous, following = self._neighbours(cell)
        links = Links(_relative(cell, previous), _relative(cell, following))
        return STYLES[DEFAULT].render(self.transcript(cell), links)

    def _neighbours(self, cell: Cell) -> tuple[Cell | None, Cell | None]:
        cells, index = self.plan.cells, cell.index
        return cells[index - 1] if index else None, cells[index + 1] if index + 1 < len(cells) else None

    def file(self, cell: Cell) -> PurePosixPath:
        """Where a conversation's transcript stands, relative to the run's folder."""
        return PurePosixPath(CONVERSATIONS, f"{cell.name}{STYLES[DEFAULT].suffix}")

    def written(self) -> Iterator[Cell]:
        """The conversations that have a transcript: those that came to an end or broke off after they had begun."""
        for cell in self.plan.cells:
            progress = self.state.of(cell.id)
            if progress.started is not None and progress.status is not None:
                yield cell

    def night(self, records: int) -> summary.Night:
        """The whole run, as its index shows it."""
        state = self.state
        closed = state.closed[-1][1] if state.closed and not state.is_open else None
        ends = {event.life: (at, event.exit) for at, event in state.closed}
        replaced = self.replaced()
        return summary.Night(
            job=self.job,
            run=self.key,
            exit_code=None if closed is None else closed.exit,
            reasons=() if closed is None else closed.reasons,
            records=records,
            conversations=tuple(self.row(cell) for cell in self.plan.cells),
            spend=self._spend(),
            ceilings=tuple(summary.Ceiling(name, most, held, name in BUDGETS) for name, most, held in self.ceilings()),
            models=tuple(_account(alias, [alias], state) for alias in state.tallies),
            providers=tuple(
                _account(name, [a for a, t in state.tallies.items() if t.provider == name], state)
                for name in dict.fromkeys(t.provider for t in state.tallies.values())
            ),
            lives=tuple(summary.Life(at, *ends.get(event.life, (None, None))) for at, event in state.opened),
            differences=tuple(
                summary.CostDifference(alias, t.compared, t.compared_reported, t.compared_computed)
                for alias, t in state.tallies.items()
                if t.compared
            ),
            replaced=len(replaced),
            replaced_cost=sum(p.account.held for p in replaced),
            command=self.command(),
            refused_parameters=self.refused_parameters(),
        )

    def command(self) -> str | None:
        """The command that goes on with the run; None when nothing is left to do."""
        if all(self.status(cell)[0] == "complete" for cell in self.plan.cells):
            return None
        # Where not even the first record could be kept, the command is that of any run.
        options = self.state.opened[-1][1].options if self.state.opened else {}
        failed = any(self.status(cell)[0] == "failed" for cell in self.plan.cells)
        more, replay = self.more_budget(), options.get("replay")
        # A replay puts its outputs beside what it plays.
        beside = replay is not None or options.get("outputs", OUTPUTS) == OUTPUTS
        return " ".join(
            [
                "tertulia run",
                quote(str(options.get("file", f"{self.job}.yaml"))),
                *([] if replay is None else [f"--replay {quote(replay)}"]),
                *([] if beside else [f"--outputs {quote(options['outputs'])}"]),
                *(f"--set {quote(change)}" for change in options.get("sets", ())),
                *([] if self.key == "main" else [f"--run {self.key}"]),
                *(["--retry-failed"] if failed else []),
                *([] if more is None else [f"--budget {dollars(more)}"]),
            ]
        )

    def more_budget(self) -> int | None:
        """A budget that should do, where that of the run is what stopped conversations; None where it did not.

        It has room for what the rest is expected to cost and a quarter more, and for the largest call at its most.
        """
        most, state = self.plan.budget.run, self.state
        left = [cell for cell in self.plan.cells if self.status(cell)[0] not in ("complete", "failed")]
        if most is None or not any(self.status(cell) == ("budget", RUN_BUDGET) for cell in left):
            return None
        if state.run.held > 2 * most and any(tally.overrun for tally in state.tallies.values()):
            return None  # so much more than was foreseen may be a wrong figure: first it wants to be looked at
        prices = {alias: Price.of(figures) for alias, figures in state.opened[-1][1].prices.items()}
        if any(alias not in prices for cell in left for _, alias in cell.models):
            return None  # the job has a model that no life has known
        tallies = state.tallies
        # A model that has not answered yet may use all of its limit, and too little money would end in the same way.
        guess = expecting(lambda alias: (tallies[alias].mean_output if alias in tallies else None) or inf)
        alike = Counter((c.prompt, c.pairing, c.models, frozenset(state.of(c.id).replies)) for c in left)
        examples = {(c.prompt, c.pairing, c.models, frozenset(state.of(c.id).replies)): c for c in left}
        rest = largest = 0
        for scene, number in alike.items():
            conversation, done = self.plan.conversation(examples[scene]), scene[3]
            rest += number * sum(load.cost for load in loads(conversation, prices.__getitem__, guess, done).values())
            dearest = (load.largest for load in loads(conversation, prices.__getitem__, AT_MOST, done).values())
            largest = max(largest, *dearest, 0)
        cent = 10_000_000
        return -(max(state.run.held + rest * 5 // 4 + largest, most + largest) // -cent) * cent

    def waits_for_the_job(self) -> bool:
        """True when all that is missing waits for models that used more than was reserved for them."""
        left = {self.status(cell)[1] for cell in self.plan.cells if self.status(cell)[0] != "complete"}
        overran = {t.overran.told(alias) for alias, t in self.state.tallies.items() if t.overrun and t.overran}
        return bool(left) and left <= overran

    def shared_ceilings_reached(self) -> list[Scope]:
        """Of the ceilings over all runs, the day's and the month's: those that conversations were stopped by."""
        found = {self.status(cell) for cell in self.plan.cells}
        return [scope for scope, name in BUDGETS.items() if ("budget", name) in found]

    def ceilings(self) -> Iterator[tuple[str, int, int]]:
        """The ceilings over several conversations: name, most, and what is held.

        Of those over the day and the month the journal knows its own part only, and the ledger the rest.
        """
        budget, state = self.plan.budget, self.state
        if budget.run is not None:
            yield "run", budget.run, state.run.held
        today = "" if state.live is None else state.live.day or state.live.date
        if budget.day is not None:
            yield "day", budget.day, sum(a.held for d, a in state.days.items() if d == today)
        if budget.month is not None:
            own = sum(a.held for d, a in state.days.items() if d[:7] == today[:7])
            yield "month", budget.month, own
        for name, most in budget.providers.items():
            yield f"provider {name}", most, state.scope("provider", name).held
        for name, most in budget.models.items():
            yield f"model {name}", most, state.scope("model", name).held
        for number, most in budget.pairings.items():
            ids = {cell.id for cell in self.plan.cells if cell.pairing == number}
            yield f"pairing {number}", most, sum(state.of(id_).account.held for id_ in ids)

    def _spend(self) -> summary.Spend:
        state = self.state
        return summary.Spend(
            settled=state.run.settled - state.run.assumed,
            assumed=state.run.assumed + state.run.reserved,
            assumed_calls=len(state.unsettled) + sum(1 for _ in state.open_calls()),
            nameless=state.nameless,
            reported=sum(t.reported for t in state.tallies.values()),
            priced=sum(t.priced for t in state.tallies.values()),
        )

    def row(self, cell: Cell) -> summary.Row:
        """One conversation, as the index shows it."""
        progress = self.state.of(cell.id)
        conversation = self.plan.conversation(cell)
        status, reason = self.status(cell)
        begun = progress.started is not None and progress.ended is not None
        return summary.Row(
            name=cell.name,
            file=str(self.file(cell)) if progress.started is not None and progress.status is not None else None,
            status=status,
            reason=reason,
            rounds_done=rounds_done(conversation, _spoken(conversation, progress)),
            rounds_planned=conversation.rounds,
            truncated=progress.truncated,
            refused=progress.refused,
            cost=progress.account.held,
            seconds=progress.ended - progress.started if begun else None,  # type: ignore[operator]
        )

    async def lines(self) -> AsyncIterator[bytes]:
        """`conversations.jsonl`, line by line in plan order, leaving others a turn now and then."""
        for cell in self.plan.cells:
            yield jsonl.line(self.transcript(cell)) + b"\n"
            if cell.index % 50 == 49:
                await anyio.lowlevel.checkpoint()

    def whys(self) -> list[dict[str, Any]]:
        """Why conversations are not complete or stopped early, with how many they are; what is missing first."""
        found = Counter((s, r) for s, r in map(self.status, self.plan.cells) if r is not None)
        order = sorted(found.items(), key=lambda item: (item[0][0] == "complete", -item[1]))
        return [
            {"status": status, "reason": one_line(reason, 300), "conversations": number}
            for (status, reason), number in order[:_MOST_WHYS]
        ]

    def is_shown(self, records: int) -> bool:
        """False when something came after the views were written: a crash, a repair; the status is the last of them."""
        try:
            status = orjson.loads(self.disk.read(self.folder / STATUS))
        except (OSError, orjson.JSONDecodeError):
            return False
        figures = orjson.loads(orjson.dumps(self.figures(records)))
        return isinstance(status, dict) and {**status, "heartbeat": None} == {**figures, "heartbeat": None}

    def figures(
        self, records: int, lanes: tuple[Lane, ...] = (), now: float = 0.0, waits_for: str | None = None
    ) -> dict[str, Any]:
        """`status.json` but for its heartbeat: how the run stands, for programs."""
        state = self.state
        closed = state.closed[-1][1] if state.closed and not state.is_open else None
        turns = sum(len(state.of(cell.id).replies) for cell in self.plan.cells)
        spend = self._spend()
        replaced = self.replaced()
        return {
            "schema": 1,
            "job": self.job,
            "run": self.key,
            "state": "closed" if closed is not None else "running" if state.is_open else "never began",
            "exit": None if closed is None else closed.exit,
            "reasons": [] if closed is None else list(closed.reasons),
            "conversations": {**self.counts(), "total": len(self.plan.cells)},
            "stopped_early": self.stopped_early(),
            "why": self.whys(),
            "refused_parameters": self.refused_parameters(),
            "turns": turns,
            "flags": {
                "truncated": sum(state.of(cell.id).truncated for cell in self.plan.cells),
                "refused": sum(state.of(cell.id).refused for cell in self.plan.cells),
            },
            "calls": sum(t.calls for t in state.tallies.values()),
            "in_flight": sum(1 for _ in state.open_calls()),
            "spent": {
                "settled": _amount(spend.settled),
                "assumed": _amount(state.run.assumed),
                "reserved": _amount(state.run.reserved),
                "total": _amount(state.run.held),
            },
            "ceilings": [
                {"name": name, "most": _amount(most), "held": _amount(held), "shared": name in BUDGETS}
                for name, most, held in self.ceilings()
            ],
            "replaced": {"conversations": len(replaced), "cost": _amount(sum(p.account.held for p in replaced))},
            "lanes": [_lane(lane, now) for lane in lanes],
            "waits_for": waits_for,
            "continue": self.command(),
            "records": records,
        }


def _planned(conversation: Conversation, line: Line) -> Turn:
    """A turn of which nothing is known yet but who is to speak."""
    speaker = conversation.participant(line.role)
    return Turn(
        number=line.number,
        round=line.round,
        role=line.role,
        speaker=speaker.label,
        label=line.label,
        given=line.given is not None,
        text=None,
        alias=speaker.alias if speaker.live else None,
        provider=speaker.provider if speaker.live else None,
        model=speaker.model if speaker.live else None,
    )


def read(folder: Path, disk: Disk) -> Reading:
    """What is there: a run's folder as its journal tells it, without touching it."""
    return reading_of(disk, folder, scan(disk, folder / FILE))


def reading_of(disk: Disk, folder: Path, found: Scan) -> Reading:
    """The reading of a scanned journal."""
    state = found.state
    if state.job is None:
        raise ValueError(f"{folder / FILE} does not say what its job is")
    try:
        job = Job.from_record(state.job, state.texts)
    except KeyError:
        raise ValueError(f"{folder / FILE} has lost a text of its job; the next run of it brings it again") from None
    return Reading(disk, folder, state, make_plan(job, state.jobs[-1].date), state.jobs[-1].key)


def rounds_done(conversation: Conversation, spoken: int) -> int:
    """How many rounds are whole after so many lines."""
    if spoken == len(conversation.lines):
        return conversation.rounds
    return conversation.lines[spoken].round - 1


def _believed(usage: Usage) -> Usage:
    """Usage to show: absurd counts are no figures, and a zero beside a text is one of them."""
    return usage if usage.trusted else Usage(trusted=False, raw=usage.raw)


def _spoken(conversation: Conversation, progress: Progress) -> int:
    return next(
        (i for i, line in enumerate(conversation.lines) if line.given is None and line.number not in progress.replies),
        len(conversation.lines),
    )


def _last_view(conversation: Conversation, history: list[str]) -> tuple[str | None, tuple[Message, ...]]:
    """What the last live speaker was shown, ending with what it said."""
    spoken = conversation.lines[: len(history)]
    last = next((line for line in reversed(spoken) if line.given is None), None)
    if last is None:
        return None, ()
    shown = view(conversation, last.role, history[: last.number - 1], last.instruct)
    return shown.system, (*shown.messages, Message("assistant", history[last.number - 1]))


def _relative(cell: Cell, other: Cell | None) -> str | None:
    if other is None:
        return None
    folder, _, name = other.name.partition("/")
    suffix = STYLES[DEFAULT].suffix
    return f"{name}{suffix}" if folder == cell.name.partition("/")[0] else f"../{folder}/{name}{suffix}"


def _account(name: str, aliases: list[str], state: State) -> summary.Account:
    tallies = [state.tallies[alias] for alias in aliases]
    covered = sum(t.with_figures for t in tallies)
    failures: dict[str, int] = {}
    for tally in tallies:
        for kind, number in tally.failures.items():
            failures[kind] = failures.get(kind, 0) + number
    return summary.Account(
        name=name,
        calls=sum(t.calls for t in tallies),
        replies=sum(t.replies for t in tallies),
        tokens_in=sum(t.input for t in tallies) if covered else None,
        tokens_out=sum(t.output for t in tallies) if covered else None,
        calls_with_figures=covered,
        cost=sum(state.scope("model", alias).held for alias in aliases),
        failures=failures,
    )


def _lane(lane: Lane, now: float) -> dict[str, Any]:
    paused = max(0.0, lane.paused_until - now)
    return {
        "name": lane.name,
        "in_flight": lane.flying,
        "granted": lane.granted,
        "busy": lane.refused,
        "paused_seconds": round(paused, 1),
        "reason": lane.dead or (lane.pause_reason if paused else None),
        "dead": lane.dead is not None,
    }


def _amount(nanos: int) -> float:
    return float(dollars(nanos))


# --- writing -----------------------------------------------------------------------------------------------------


class Views:
    """Writes the files of one run: a transcript as each conversation ends, the rest now and then and at the end."""

    def __init__(self, reading: Reading, clock: Clock) -> None:
        self.reading = reading
        self.disk = reading.disk
        self._clock = clock

    async def conversation(self, cell: Cell) -> None:
        """The transcript of a conversation that has come to an end."""
        if self.reading.state.of(cell.id).started is not None:
            await self._put(str(self.reading.file(cell)), self.reading.markdown(cell).encode())

    async def status(
        self, records: int, lanes: tuple[Lane, ...] = (), now: float = 0.0, waits_for: str | None = None
    ) -> None:
        figures = self.reading.figures(records, lanes, now, waits_for)
        figures["heartbeat"] = round(self._clock.wall(), 3)
        await self._put(STATUS, orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")

    async def night(self, records: int) -> None:
        """The index, and a line for each conversation."""
        index = summary.render(self.reading.night(records))
        lines = [line async for line in self.reading.lines()]
        await self._put(LINES, b"".join(lines))
        await self._put(INDEX, index.encode())

    async def all(self, records: int) -> None:
        """Every view, and none that belongs to no conversation any more."""
        kept: set[Path] = set()
        for cell in self.reading.written():
            await self.conversation(cell)
            kept.add(self.reading.folder / self.reading.file(cell))
        self._clear(lambda path: path not in kept)
        await self.night(records)
        await self.status(records)

    def tidy(self) -> None:
        """Remove what a crash left half written among the transcripts."""
        self._clear(lambda path: path.name.startswith(".") and path.suffix == ".tmp")

    def _clear(self, is_litter: Callable[[Path], bool]) -> None:
        root = self.reading.folder / CONVERSATIONS
        for folder in self.disk.listdir(root):
            for name in self.disk.listdir(root / folder):
                if is_litter(root / folder / name):
                    self.disk.remove(root / folder / name)

    async def _put(self, name: str, data: bytes) -> None:
        await self.disk.replace(self.reading.folder / name, data)
