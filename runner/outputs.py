"""The files of a run, computed from its journal: written to a temporary name and renamed, and written again at any
time.

A `Reading` is a run as its journal tells it: the state, the plan of the job in force, and the texts where they stand.
Every view is a function of it, so two processes that read the same journal write the same bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from math import inf
from pathlib import Path, PurePosixPath
from shlex import quote
from types import ModuleType
from typing import Any, Final, NamedTuple

import orjson

from runner.census import Census, standing_of
from runner.conversation import DURING, Aside, Conversation, Transcript
from runner.events import Closed
from runner.forecast import AT_MOST, expecting, loads
from runner.foreign import one_line
from runner.job import Job, JobError
from runner.journal import FILE, Journal, Record, Scan, read_record, read_said, scan
from runner.ledger import BUDGETS, Scope
from runner.limits import RUN_BUDGET, Lane
from runner.money import Nanos, Price, dollars
from runner.plan import Cell, Plan, make_plan, who_of
from runner.render import DEFAULT, STYLES, Links, Style, StyleError, jsonl, own_style, summary
from runner.state import LASTING, Account, Place, Progress, State
from runner.status import STATUSES, Status
from runner.talk import Talk, rounds_done
from runner.transcripts import Scribe, last_view
from runner.world import Disk

OUTPUTS: Final = "outputs"
"""The folder of all runs, unless another is named."""
CONVERSATIONS: Final = "conversations"
LINES: Final = "conversations.jsonl"
INDEX: Final = "index.md"
STATUS: Final = "status.json"
UNWRITTEN: Final = "views"
"""The reason of a life after which some of these could not be written."""

STATUS_SECONDS: Final = 2.0
VIEW_SECONDS: Final = 60.0
_MOST_WHYS: Final = 20
_TOGETHER_BYTES: Final = 512 * 1024
"""Records of so many bytes are read together."""
VIEW_SHARE: Final = 20.0
"""The views of a large run are written so seldom that they take no more than one part in this of the time."""


class Past(NamedTuple):
    """Conversations that are kept and not counted any more."""

    conversations: int
    cost: Nanos


class Redone(NamedTuple):
    """What became of the conversations of which bad turns were said again, and what those beside them have cost."""

    mended: int
    in_vain: int
    """Failed once more, or with a new turn that was cut off or refused."""
    unfinished: int
    cost: Nanos


class Observer(NamedTuple):
    """Somebody who listens to a conversation, and how that stands."""

    cell: Cell
    aside: Aside
    status: Status
    reason: str | None


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
    ended: Closed | None = None
    """How the last life ended, where its views could not be written after that was recorded."""
    _census: Census | None = None
    _not_begun: dict[Hashable, Callable[[str, str, int], bytes]] = field(default_factory=dict)
    _own: dict[str, Style] = field(default_factory=dict)
    """The styles of the user's own. Their code is only run where he asks for it: transcripts in others are left as they
    are."""
    _looked_up: set[str] = field(default_factory=set)
    _listeners: set[str] = field(default_factory=set)
    """Of the ids that were looked up in earlier versions of the job, those of somebody who listened."""

    @property
    def job(self) -> str:
        return self.plan.job.name

    def status(self, cell: Cell) -> tuple[Status, str | None]:
        """How a conversation stands, and why."""
        standing = standing_of(self.state.of(cell.id))
        return standing.status, standing.reason

    @property
    def closed(self) -> Closed | None:
        """How the last life ended; None while it goes on, or where none began."""
        if self.ended is not None:
            return self.ended
        return self.state.closed[-1][1] if self.state.closed and not self.state.is_open else None

    @property
    def census(self) -> Census:
        """All conversations of the plan, counted."""
        if self._census is None:
            self._census = Census(self.plan, self.state)
        return self._census.follow()

    def counts(self) -> dict[Status, int]:
        """Conversations by status; they add up to all of the plan."""
        found = self.census.statuses
        return {status: found[status] for status in STATUSES}

    def replaced(self) -> Past:
        """What was held, and the job in force does not plan any more, with what was said of it."""
        found = self._beside()
        conversations = len(found.keys() - self._listened_once(found.keys()))
        return Past(conversations, sum(progress.account.held for progress in found.values()))

    def redone(self) -> Redone:
        """How the conversations stand that took the place of others, and what was paid for those."""
        past = self.plan.superseded
        held = (self.state.of(aside.id).account.held for cell in past for aside in self.plan.after(cell))
        redone = [one.cell for one in self.state.branches.values() if one.how == "redo"]
        taken = (self.plan.by_id[id_] for id_ in redone if id_ in self.plan.by_id)
        found = Counter(map(self._is_mended, taken))
        return Redone(found[True], found[False], found[None], sum(self.spent(cell) for cell in past) + sum(held))

    def _is_mended(self, cell: Cell) -> bool | None:
        """True when what was said again is good now; None while it is not at its end."""
        progress = self.state.of(cell.id)
        if not progress.lasting:
            return None
        return progress.status == "complete" and all(turn <= progress.carried for turn in progress.flagged)

    def _beside(self) -> dict[str, Progress]:
        """What was begun and belongs to no conversation of the plan, nor to one that was mended."""
        plan, past = self.plan, {cell.id for cell in self.plan.superseded}
        unknown = ((id_, progress) for id_, progress in self.state.cells.items() if id_ not in plan.by_id)
        return {
            id_: progress
            for id_, progress in unknown
            if id_ not in past and progress.started is not None and plan.aside(id_) is None
        }

    def _listened_once(self, ids: Set[str]) -> set[str]:
        """Those of these ids under which an earlier version of the job had somebody listen."""
        if not ids <= self._looked_up:
            self._looked_up |= ids
            for opened in self.state.jobs:
                try:
                    job = Job.from_record(opened.job or {}, self.state.texts)
                    earlier = make_plan(job, opened.date, self.state.additions)
                except (KeyError, JobError):
                    continue  # a repair lost one of its texts
                self._listeners |= {id_ for id_ in ids if earlier.aside(id_) is not None}
        return self._listeners

    def observers(self) -> Iterator[Observer]:
        """Those who comment on what is complete, and of the others those who were passed over while it went on."""
        if any(prompt.listeners for prompt in self.plan.job.prompts.values()):
            for cell in self.plan.cells:
                yield from self.observers_of(cell)

    def observers_of(self, cell: Cell) -> Iterator[Observer]:
        """The same of one conversation."""
        if not self.plan.job.prompts[cell.prompt].listeners:
            return
        state = self.state
        complete = state.of(cell.id).status == "complete"
        for aside in self.plan.conversation(cell).asides:
            progress = state.of(aside.id)
            if aside.kind in DURING and progress.status is not None:
                yield Observer(cell, aside, progress.status, progress.reason)
            elif aside.kind not in DURING and complete:
                yield Observer(cell, aside, progress.status or "pending", progress.reason)

    def stopped_early(self) -> int:
        return self.census.early

    def refused_parameters(self) -> dict[str, list[str]]:
        """What the job sets and a model refuses, by its alias: it is left out of its calls."""
        return {alias: list(names) for alias, names in self.state.dropped.items() if alias in self.plan.models}

    # -- one conversation --------------------------------------------------------------------------------------------

    def transcript(self, cell: Cell) -> Transcript:
        """One conversation with all its texts and figures."""
        return next(self.transcripts([cell]))

    def transcripts(self, cells: Sequence[Cell]) -> Iterator[Transcript]:
        """The same of several, made one by one; of those that follow each other the records are read together."""
        if self.journal is not None:
            scribe = Scribe(self.state, self.journal.read)
            yield from (self._transcript(cell, scribe) for cell in cells)
            return
        group: list[Cell] = []
        places: list[Place] = []
        size = 0
        for cell in cells:
            if size > _TOGETHER_BYTES:
                yield from self._read_together(group, places)
                group, places, size = [], [], 0
            own = self._places(cell)
            group.append(cell)
            places += own
            size += sum(place.size for place in own)
        yield from self._read_together(group, places)

    def _places(self, cell: Cell) -> list[Place]:
        """Where the lines of a conversation stand, and their calls."""
        progress = self.state.of(cell.id)
        return [place for _, place in (*progress.replies.in_order(), *progress.sents.in_order())]

    def _read_together(self, cells: Iterable[Cell], places: Iterable[Place]) -> Iterator[Transcript]:
        scribe = Scribe(self.state, self._record, read_said(self.disk, self.folder, places))
        for cell in cells:
            yield self._transcript(cell, scribe)

    def _transcript(self, cell: Cell, scribe: Scribe) -> Transcript:
        progress = self.state.of(cell.id)
        talk = scribe.talk(self.plan.conversation(cell))
        conversation = talk.conversation
        status, reason = self.status(cell)
        notes = scribe.notes(conversation)
        turns = scribe.turns(talk, notes)
        error = next((turn.error for turn in turns if turn.error is not None), None) if status != "complete" else None
        system, messages = last_view(conversation, talk.history)
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
            rounds_done=talk.rounds_done,
            context=conversation.context,
            opening=conversation.opening,
            turns=turns,
            messages=messages,
            system=system,
            spent=self.spent(cell),
            assumed=sum(account.assumed + account.reserved for account in self._accounts(cell)),
            started=progress.started,
            ended=progress.ended,
            dated=progress.dated,
            error=error,
            notes=notes,
            look=conversation.look,
            zone=self.plan.job.timezone,
            origin=conversation.origin,
        )

    def talk(self, cell: Cell) -> Talk:
        """One conversation as far as it has come."""
        return Scribe(self.state, self._record).talk(self.plan.conversation(cell))

    def spent(self, cell: Cell) -> Nanos:
        """What a conversation has cost, with those who were asked while it went on; without who commented on it."""
        return sum(account.held for account in self._accounts(cell))

    def _accounts(self, cell: Cell) -> list[Account]:
        own = (cell.id, *(aside.id for aside in self.plan.during(cell)))
        return [self.state.of(id_).account for id_ in own]

    def _record(self, place: Place) -> Record:
        return read_record(self.disk, self.folder, place) if self.journal is None else self.journal.read(place)

    # -- views -------------------------------------------------------------------------------------------------------

    def style(self, cell: Cell) -> Style | None:
        """How a conversation's transcript is to look; None where that is a style of the user's own, unknown here."""
        name = self.plan.look(cell).style
        return STYLES.get(name) or self._own.get(name)

    def lend(self, load: Callable[[str], ModuleType]) -> dict[str, str]:
        """Run the styles of the user's own that conversations are shown in; by style, why one of them is no use."""
        troubles: dict[str, str] = {}
        prompts = {cell.prompt for cell in self.plan.cells}
        for name, prompt in self.plan.job.prompts.items():
            look = prompt.look
            if name in prompts and look.style not in STYLES and look.style not in self._own | troubles:
                try:
                    self._own[look.style] = own_style(look, load)
                except StyleError as error:
                    troubles[look.style] = str(error)
        return troubles

    @property
    def style_trouble(self) -> str | None:
        """What the last life found wrong with a style of the user's own; None once another one is under way."""
        return None if self.closed is None else self.closed.style_trouble

    def markdown(self, cell: Cell, style: Style | None = None, transcript: Transcript | None = None) -> str:
        """The transcript of a conversation: in its own style, or in another one."""
        chosen = style or self.style(cell) or STYLES[DEFAULT]
        previous, following = self._neighbours(cell)
        links = Links(self._way(cell, previous, style), self._way(cell, following, style))
        return chosen.render(transcript or self.transcript(cell), links)

    def _way(self, cell: Cell, other: Cell | None, style: Style | None) -> str | None:
        """From one transcript to another."""
        if other is None:
            return None
        folder, _, name = f"{other.name}{self._suffix(other, style)}".partition("/")
        return name if folder == cell.name.partition("/")[0] else f"../{folder}/{name}"

    def _neighbours(self, cell: Cell) -> tuple[Cell | None, Cell | None]:
        cells, index = self.plan.cells, cell.index
        return cells[index - 1] if index else None, cells[index + 1] if index + 1 < len(cells) else None

    def file(self, cell: Cell, style: Style | None = None) -> PurePosixPath:
        """Where a conversation's transcript stands, relative to the run's folder."""
        return PurePosixPath(self.file_name(cell, style))

    def file_name(self, cell: Cell, style: Style | None = None) -> str:
        """The same as text, which takes far less time where it is asked of thousands."""
        return f"{CONVERSATIONS}/{cell.name}{self._suffix(cell, style)}"

    def _suffix(self, cell: Cell, style: Style | None) -> str:
        if style is not None:
            return style.suffix
        look = self.plan.look(cell)
        return look.suffix or STYLES.get(look.style, STYLES[DEFAULT]).suffix

    def written(self) -> Iterator[Cell]:
        """The conversations that have a transcript: those that came to an end or broke off after they had begun."""
        yield from filter(self.is_written, (*self.plan.cells, *self.plan.superseded))

    def is_written(self, cell: Cell) -> bool:
        """True for a conversation that has a transcript."""
        progress = self.state.of(cell.id)
        return progress.started is not None and progress.status is not None

    def night(self, records: int, rows: Iterable[summary.Row] | None = None) -> summary.Night:
        """The whole run, as its index shows it; `rows` of all its conversations, where they are made already."""
        state = self.state
        closed = self.closed
        ends = {event.life: (at, event.exit) for at, event in state.closed}
        replaced, redone = self.replaced(), self.redone()
        observers = list(self.observers())
        return summary.Night(
            job=self.job,
            run=self.key,
            exit_code=None if closed is None else closed.exit,
            reasons=() if closed is None else closed.reasons,
            style_trouble=self.style_trouble,
            records=records,
            conversations=tuple(map(self.row, self.plan.cells) if rows is None else rows),
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
            replaced=replaced.conversations,
            replaced_cost=replaced.cost,
            mended=redone.mended,
            redone_in_vain=redone.in_vain,
            not_yet_redone=redone.unfinished,
            mended_cost=redone.cost,
            observers=sum(one.aside.kind not in DURING for one in observers),
            silent=tuple(
                summary.Silent(one.cell.name, who_of(one.aside), one.status, one.reason, one.aside.kind not in DURING)
                for one in observers
                if one.status != "complete"
            ),
            command=self.command(),
            too_low=tuple(self.too_low()),
            refused_parameters=self.refused_parameters(),
        )

    def command(self) -> str | None:
        """The command that goes on with the run; None when nothing is left to do."""
        left = set(self.census.statuses)
        left |= {one.status for one in self.observers() if one.aside.kind not in DURING}
        if left <= {"complete"} and self.style_trouble is None:
            return None
        # Where not even the first record could be kept, the command is that of any run.
        options = self.state.opened[-1][1].options if self.state.opened else {}
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
                *(["--retry-failed"] if "failed" in left else []),
                *([] if more is None else [f"--budget {dollars(more)}"]),
            ]
        )

    def more_budget(self) -> int | None:
        """A budget that should do, where that of the run is what stopped conversations; None where it did not.

        It has room for what the rest is expected to cost and a quarter more, and for the largest call at its most.
        """
        most, state, plan = self.plan.budget.run, self.state, self.plan
        silent = [one for one in self.observers() if one.aside.kind not in DURING and one.status not in LASTING]
        reasons = set(self.census.standings) | {(one.status, one.reason) for one in silent}
        is_short = ("budget", RUN_BUDGET) in reasons
        if most is None or not (is_short or any(map(_has_too_little, silent))):
            return None
        left = [cell for cell in plan.cells if self.status(cell)[0] not in ("complete", "failed")]
        if state.run.held > 2 * most and any(tally.overrun for tally in state.tallies.values()):
            return None  # so much more than was foreseen may be a wrong figure: first it wants to be looked at
        left += {one.cell.id: one.cell for one in silent}.values()
        prices = {alias: Price.of(figures) for alias, figures in state.opened[-1][1].prices.items()}
        listeners = {prompt.name: [one.model for one in prompt.listeners] for prompt in plan.job.prompts.values()}
        if not all({*dict(cell.models).values(), *listeners[cell.prompt]} <= prices.keys() for cell in left):
            return None  # the job has a model that no life has known
        if not is_short and not self._would_be_short(silent, most, prices):
            return None
        tallies = state.tallies
        # A model that has not answered yet may use all of its limit, and too little money would end in the same way.
        guess = expecting(lambda alias: (tallies[alias].mean_output if alias in tallies else None) or inf)
        alike = Counter(map(self._scene, left))
        examples = {self._scene(cell): cell for cell in left}
        rest = largest = 0
        for scene, number in alike.items():
            conversation = plan.conversation(examples[scene])
            done = state.done(conversation)
            rest += number * sum(load.cost for load in loads(conversation, prices.__getitem__, guess, *done).values())
            dearest = (load.largest for load in loads(conversation, prices.__getitem__, AT_MOST, *done).values())
            largest = max(largest, *dearest, 0)
        cent = 10_000_000
        return -(max(state.run.held + rest * 5 // 4 + largest, most + largest) // -cent) * cent

    def _would_be_short(self, silent: Iterable[Observer], most: Nanos, prices: Mapping[str, Price]) -> bool:
        """True where the run has no room either for the comment of somebody whose own ceiling is too low."""
        alike = {(self._scene(one.cell), one.aside.prompt, one.aside.by): one for one in silent if _has_too_little(one)}
        for one in alike.values():
            conversation = self.plan.conversation(one.cell)
            others = {aside.id for aside in conversation.after} - {one.aside.id}
            load = loads(conversation, prices.__getitem__, AT_MOST, self.state.done(conversation).turns, others)
            if self.state.run.held + load[one.aside.by.alias].largest > most:
                return True
        return False

    def too_low(self) -> list[str]:
        """The ceilings that keep observers from commenting, and that neither `--budget` nor a new day raises.

        Of those of models and providers as well: only the job file has them.
        """
        silent = (one for one in self.observers() if one.aside.kind not in DURING and _has_too_little(one))
        return sorted({one.reason for one in silent if one.reason is not None})

    def _scene(self, cell: Cell) -> tuple[object, ...]:
        """What conversations have in common whose rest costs the same."""
        progress = self.state.of(cell.id)
        heard = tuple(self.state.of(aside.id).lasting for aside in self.plan.after(cell))
        return *cell.kind, frozenset(progress.replies), progress.status == "complete", heard

    def waits_for_the_job(self) -> bool:
        """True when all that is missing waits for models that used more than was reserved for them."""
        left = {reason for status, reason in self.census.standings if status != "complete"}
        overran = {t.overran.told(alias) for alias, t in self.state.tallies.items() if t.overrun and t.overran}
        return bool(left) and left <= overran

    def shared_ceilings_reached(self) -> list[Scope]:
        """Of the ceilings over all runs, the day's and the month's: those that conversations were stopped by."""
        found = self.census.standings
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
            cells = (*self.plan.cells, *self.plan.superseded)
            yield f"pairing {number}", most, sum(self.spent(cell) for cell in cells if cell.pairing == number)
        for name, most in budget.observers.items():
            every = (*self.plan.cells, *self.plan.superseded)
            listeners = (aside for cell in every for aside in self.plan.after(cell) if aside.budget == name)
            yield f"observer {name}", most, sum(state.of(aside.id).account.held for aside in listeners)

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
        begun = progress.started is not None and progress.ended is not None and not progress.dated
        return summary.Row(
            name=cell.name,
            file=self.file_name(cell) if progress.started is not None and progress.status is not None else None,
            status=status,
            reason=reason,
            rounds_done=self._rounds_done(cell, conversation),
            rounds_planned=conversation.rounds,
            truncated=progress.truncated,
            refused=progress.refused,
            cost=self.spent(cell),
            seconds=progress.ended - progress.started if begun else None,  # type: ignore[operator]
        )

    def _rounds_done(self, cell: Cell, conversation: Conversation) -> int:
        if conversation.moderator is not None:
            return self.talk(cell).rounds_done  # where given lines stand depends on who was named
        return rounds_done(conversation, _spoken(conversation, self.state.of(cell.id)))

    def line(self, cell: Cell, transcript: Transcript | None = None) -> bytes:
        """The line of a conversation in `conversations.jsonl`."""
        likeness = self.plan.likeness(cell, self.state.cells)
        if likeness == cell.id:
            return jsonl.line(transcript or self.transcript(cell)) + b"\n"
        # Of those that have not begun all of a kind are alike.
        alike = self._not_begun.get(likeness)
        if alike is None:
            alike = self._not_begun[likeness] = jsonl.line_of_many(self.transcript(cell))
        return alike(cell.id, cell.name, cell.repeat) + b"\n"

    def whys(self) -> list[dict[str, Any]]:
        """Why conversations are not complete or stopped early, with how many they are; what is missing first."""
        found = [(status, why, number) for (status, why), number in self.census.standings.items() if why is not None]
        found.sort(key=lambda one: (one[0] == "complete", -one[2], one[0], one[1]))
        return [
            {"status": status, "reason": one_line(why, 300), "conversations": number}
            for status, why, number in found[:_MOST_WHYS]
        ]

    def _observers(self) -> dict[str, Any]:
        """How those stand who comment on what is complete, and why some have not."""
        observers = [one for one in self.observers() if one.aside.kind not in DURING]
        counts = Counter(one.status for one in observers)
        silent = [one for one in observers if one.status != "complete"]
        return {
            **{status: counts[status] for status in STATUSES},
            "total": len(observers),
            "why": _whys(silent),
        }

    def _passed_over(self) -> list[dict[str, Any]]:
        """Who gave no answer that was asked while conversations went on, and why."""
        return _whys(one for one in self.observers() if one.aside.kind in DURING and one.status != "complete")

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
        closed = self.closed
        census, spend = self.census, self._spend()
        replaced, redone = self.replaced(), self.redone()
        return {
            "schema": 1,
            "job": self.job,
            "run": self.key,
            "state": "closed" if closed is not None else "running" if state.is_open else "never began",
            "exit": None if closed is None else closed.exit,
            "reasons": [] if closed is None else list(closed.reasons),
            "style_trouble": self.style_trouble,
            "conversations": {**self.counts(), "total": len(self.plan.cells)},
            "stopped_early": self.stopped_early(),
            "why": self.whys(),
            "observers": self._observers(),
            "passed_over": self._passed_over(),
            "refused_parameters": self.refused_parameters(),
            "turns": census.turns,
            "flags": {"truncated": census.truncated, "refused": census.refused},
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
            "replaced": {"conversations": replaced.conversations, "cost": _amount(replaced.cost)},
            "mended": {
                "conversations": redone.mended,
                "in_vain": redone.in_vain,
                "unfinished": redone.unfinished,
                "cost": _amount(redone.cost),
            },
            "lanes": [_lane(lane, now) for lane in lanes],
            "waits_for": waits_for,
            "too_low": self.too_low(),
            "continue": self.command(),
            "records": records,
        }


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
    plan = make_plan(job, state.jobs[-1].date, state.additions)
    return Reading(disk, folder, state, plan, state.jobs[-1].key)


def _has_too_little(one: Observer) -> bool:
    """True where a ceiling stopped somebody who listens that is not over the run, the day or the month."""
    return one.status == "budget" and one.reason not in (None, RUN_BUDGET, *BUDGETS.values())


def _spoken(conversation: Conversation, progress: Progress) -> int:
    return next(
        (i for i, line in enumerate(conversation.lines) if line.given is None and line.number not in progress.replies),
        len(conversation.lines),
    )


def _whys(silent: Iterable[Observer]) -> list[dict[str, Any]]:
    found = Counter((one.status, who_of(one.aside), one.reason) for one in silent)
    return [
        {"status": status, "observer": who, "reason": one_line(reason or "", 300), "conversations": number}
        for (status, who, reason), number in found.most_common(_MOST_WHYS)
    ]


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
