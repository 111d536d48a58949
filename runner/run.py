"""Holding conversations: one task for each that has begun, all in one task group; the rest are rows of their plan.

`Session.converse` is the whole life of a conversation: ask what comes next, wait at the gate, send, judge what came
back, record it. A session is one job in one life of its run; the sessions of a process share one gate. `run` is a
life from its `Opened` to its `Closed`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from math import inf
from random import Random
from signal import SIGTERM, Signals
from typing import Any, Final, NamedTuple

import anyio
import anyio.abc
import anyio.lowlevel

from runner.call import Answer, Call, Failure, Outcome, Reply, Transport
from runner.conversation import DURING, Aside, Conversation, Floor, Line, Participant, call_for
from runner.events import Closed, Heard, Opened, Replied, Sent, Started, Stopped
from runner.gate import Ask, Beginning, Gate, Refused, Smaller
from runner.journal import Journal, said_in
from runner.judge import Verdict, failed, judge, made_sense, max_tokens_for, no_use, read_whole, replied
from runner.ledger import Purse
from runner.limits import Lane, Size
from runner.lines import StorageError
from runner.lookups import LookUps
from runner.money import FREE, Nanos, Price, ceiling, tokens_within
from runner.plan import Cell, Plan
from runner.prices import CountedView, InputBound, charge, input_bound, view_bound
from runner.roster import Roster
from runner.state import Place, Progress, Tried
from runner.status import Status
from runner.talk import Talk, talk_of
from runner.world import Clock, World

EXIT_UNFINISHED: Final = 3
EXIT_BUDGET: Final = 4
EXIT_DEADLINE: Final = 5
EXIT_STORAGE: Final = 8
_WORST_FIRST: Final = (130, 143, EXIT_STORAGE, 7, 6, EXIT_BUDGET, EXIT_DEADLINE, EXIT_UNFINISHED, 0)

_CLOCK_SECONDS: Final = 60.0
"""How often a run with a deadline looks at the clock."""
_SHORTEST_WAIT: Final = 1.0
"""So soon after a look into an inbox no other one is worth it."""
_LAST_LOOK_SECONDS: Final = 5.0
"""What an inbox asks has so much longer when nothing is begun any more: it may have taken a letter out already."""
_REFUSES_ALL_AFTER: Final = 3
"""A model that turns down the requests of so many conversations, and answers none, gets no more of them."""
_CLOSED_AT_ONCE: Final = 100
"""Of so many that never began the end is recorded before everybody else may go on."""
_LAST_VIEWS_SECONDS: Final = 8.0
"""So long after calls in flight were left views may still be written: with the usual grace, less than systemd waits."""

SPOILED: Final = "render"
"""The reason of a life in which all was said, and a style of the user's own could not show it."""


def worst(codes: Sequence[int]) -> int:
    """The exit code that stands for several."""
    return min(codes, key=_WORST_FIRST.index, default=0)


class NotYet(NamedTuple):
    """There is no line in an inbox."""

    reason: str


class Letter(NamedTuple):
    """A line that came out of an inbox."""

    text: str
    source: str


Inbox = Callable[[Talk, Line], Awaitable[Letter | NotYet]]


class Held(NamedTuple):
    """A conversation that is being held."""

    cell: Cell
    talk: Talk
    beginning: Beginning
    rng: Random
    bounds: dict[int, int]
    """By turn, the bound on what its speaker was shown."""


@dataclass(slots=True)
class Turn:
    """What is asked for: a line of a conversation, or the word of somebody who listens to it."""

    held: Held
    number: int
    speaker: Participant
    line: Line | None = None
    aside: Aside | None = None
    trimmed: int = 0
    """How many of the oldest lines have to be left out at least, as the provider made known."""

    @property
    def id(self) -> str:
        """The id under which the journal keeps it."""
        return self.held.cell.id if self.aside is None else self.aside.id


class _Doubt(NamedTuple):
    """A conversation that had no try left, of a provider that was not known to be in trouble yet."""

    lane: Lane
    at: float
    """On the loop's clock."""
    detail: str
    provider: str

    def resolved(self, cell: str) -> Stopped:
        """What it is in the end: to be gone on with if the provider answers nobody any more, and failed if it does."""
        lane = self.lane
        if lane.answered < self.at and (lane.dead is not None or lane.in_trouble or lane.answered == -inf):
            return Stopped(cell, "pending", lane.dead or f"{self.provider}: {self.detail}")
        return Stopped(cell, "failed", self.detail)


@dataclass(slots=True)
class Session:
    """One job in one life of its run."""

    plan: Plan
    journal: Journal
    prices: Mapping[str, Price]
    lanes: Mapping[str, Lane]
    """By model alias."""
    gate: Gate
    transport: Transport
    roster: Roster
    selected: tuple[Cell, ...]
    """The cells this life is about, in plan order."""
    opened: Opened
    ended: Callable[[Cell], Awaitable[None]]
    """Called when a conversation has come to an end and that is durable."""
    look_ups: LookUps
    inbox: Inbox
    """Looks for a line of somebody outside."""
    purse: Purse | None = None
    """The money of the day and the month, where it is counted."""
    deadline: float | None = None
    """When this run may begin no more calls, by the wall clock."""
    style_trouble: Callable[[], str | None] = lambda: None
    """Why what was said cannot be shown as the job wants it; None where it can."""
    _turned_down: dict[str, int] = field(default_factory=dict)
    _doubted: dict[str, _Doubt] = field(default_factory=dict)
    """The conversations of which only the end of the life can tell who was to blame."""

    # -- holding ---------------------------------------------------------------------------------------------------

    async def converse(self, cell: Cell, beginning: Beginning) -> None:
        """Hold one conversation from where it stands to its end, and let those comment on it who are to."""
        now = cell.id
        conversation = self.plan.conversation(cell)
        try:
            rng = Random(f"{self.plan.job.seed}:{cell.id}:{self.journal.state.lives}")
            held = Held(cell, talk_of(conversation, self.journal.state, self._read), beginning, rng, {})
            if self.journal.state.of(cell.id).status != "complete":
                reason = await self._reason_to_end(held)
                self._fail_who_was_passed_over(conversation)
                self.journal.record(Stopped(cell.id, "complete", reason))
            for aside in conversation.after:
                now = aside.id
                await self._comment(held, aside)
        except Refused as why:
            self.journal.record(Stopped(cell.id, why.status, why.reason))
        except StorageError as error:
            self.gate.close("interrupted", str(error))
            return
        except anyio.get_cancelled_exc_class():
            self.journal.record(Stopped(now, "interrupted", "stopped at once"))
            raise
        finally:
            self.roster.release(cell)
            beginning.ended()
        try:
            await self.journal.flushed()
        except StorageError as error:
            self.gate.close("interrupted", str(error))
        else:
            await self.ended(cell)
            for id_ in (cell.id, *(aside.id for aside in conversation.asides)):
                self.journal.forget(id_)

    def _fail_who_was_passed_over(self, conversation: Conversation) -> None:
        """Of what is complete nobody is asked any more who speaks next, or whether it is over."""
        for aside in conversation.asides:
            progress = self.journal.state.of(aside.id)
            if aside.kind in DURING and progress.status not in (None, "failed"):
                self.journal.record(Stopped(aside.id, "failed", progress.reason))

    async def _reason_to_end(self, held: Held) -> str | None:
        """Hold what is left of a conversation; why it was complete before its last line, None when that was said."""
        try:
            return await self._hold(held)
        except Refused as why:
            if why.status != "complete":
                raise
            return why.reason

    async def _hold(self, held: Held) -> str | None:
        """Say what is still unsaid; the reason when it was over before its last line."""
        talk = held.talk
        while (line := talk.next()) is not None:
            for voter in talk.voters():
                await self._ask_aside(held, voter, len(talk.history))
            if (over := talk.over()) is not None:
                return over
            moderator = talk.moderator()
            if moderator is not None:
                await self._ask_aside(held, moderator, line.number)
                continue  # it may be the turn of a given line now
            if talk.conversation.participant(line.role).live:
                await self._turn(Turn(held, line.number, talk.conversation.participant(line.role), line))
            else:
                await self._hear(held, line)
            progress = self.journal.state.of(held.cell.id)
            talk.started = progress.started
            talk.take(*self._read(progress.replies[line.number]))
            self.roster.commit(held.cell)
        return None

    async def _hear(self, held: Held, line: Line) -> None:
        """Take a line out of its inbox; Refused when there is none, and nobody else has anything to do."""
        held.beginning.arrived()
        heard = await self._look(held, line)
        if isinstance(heard, NotYet):
            heard = await self._wait_for(held, line, heard)
        if isinstance(heard, NotYet):
            raise Refused("pending", f"waits for a line of {line.role}: {heard.reason}")
        self.journal.record(Heard(held.cell.id, line.number, heard.text, heard.source))

    async def _wait_for(self, held: Held, line: Line, heard: NotYet) -> Letter | NotYet:
        """Look for a line now and then while others talk, and once more when they do not; the last word on it."""
        inbox = held.talk.conversation.participant(line.role).inbox
        assert inbox is not None
        self.roster.release(held.cell)
        looked = anyio.current_time()
        with self.gate.outside():
            while True:
                others_talk = await self.gate.while_others_talk(inbox.every)
                is_new = anyio.current_time() >= looked + _SHORTEST_WAIT
                if self.gate.why_closed(self.journal) is not None or not (others_talk or is_new):
                    return heard
                looked, found = anyio.current_time(), await self._look(held, line)
                if isinstance(found, Letter) or not others_talk:
                    return found
                heard = found

    async def _look(self, held: Held, line: Line) -> Letter | NotYet:
        """Look into an inbox, and no longer than the end of the run allows."""
        found: Letter | NotYet = NotYet("it was still asked for when the run ended")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._end_look, tasks.cancel_scope)
            found = await self.inbox(held.talk, line)
            tasks.cancel_scope.cancel()
        return found

    async def _end_look(self, look: anyio.CancelScope) -> None:
        while self.gate.why_closed(self.journal) is None:
            await self.gate.rest(_SHORTEST_WAIT)  # the end of one run among several wakes nobody
        await anyio.sleep(_LAST_LOOK_SECONDS)
        look.cancel()

    async def _ask_aside(self, held: Held, aside: Aside, turn: int) -> None:
        """Ask somebody who only listens. Who gives no answer is passed over, and the conversation goes on without.

        One who has failed is asked no more, and one who cannot be reached no more in this life.
        """
        progress = self.journal.state.of(aside.id)
        if turn not in progress.replies and progress.status is None:
            try:
                await self._turn(Turn(held, turn, aside.by, aside=aside))
            except Refused as why:
                if self._stops_speakers(held.cell, aside, why):
                    raise
                self.journal.record(Stopped(aside.id, why.status, why.reason))
        progress = self.journal.state.of(aside.id)
        if turn not in progress.replies:
            if aside.kind != "pick":
                return  # no vote is none
            # In whose stead the given order holds has to be on record: what is said next depends on it.
            self.journal.record(Heard(aside.id, turn, "", "in the given order: the moderator gave no answer"))
        held.talk.answered(aside, turn, self._read(self.journal.state.of(aside.id).replies[turn])[0].text)

    def _stops_speakers(self, cell: Cell, aside: Aside, why: Refused) -> bool:
        """True when what keeps somebody from answering who listens keeps those who speak from speaking as well."""
        if why.status == "pending":
            lane = self.lanes[aside.by.alias]
            shared = any(self.lanes[alias] is lane for _, alias in cell.models)
            # Neither dead nor without this model, it is only shut for longer than anybody waits.
            shut = shared and self.gate.parked(aside.by.alias, lane) is None
            return shut or self.roster.parked(cell) is not None
        if why.status == "budget":
            speakers = (one for one in self.plan.conversation(cell).participants if one.live)
            return why.reason in {ceiling.name for one in speakers for ceiling in self.roster.over(cell, one)}
        return why.status != "failed"

    async def _comment(self, held: Held, aside: Aside) -> None:
        """Let an observer comment on a conversation that is complete; what becomes of that is the observer's alone."""
        turn = len(held.talk.history)
        if self.journal.state.of(aside.id).lasting:
            return
        try:
            if turn not in self.journal.state.of(aside.id).replies:
                await self._turn(Turn(held, turn, aside.by, aside=aside))
            self.journal.record(Stopped(aside.id, "complete"))
        except Refused as why:
            self.journal.record(Stopped(aside.id, why.status, why.reason))

    def _read(self, place: Place) -> tuple[Replied | Heard, float]:
        return said_in(self.journal.read(place))

    async def _turn(self, turn: Turn) -> None:
        """Ask until there is a reply that counts; Refused when there will be none."""
        rng = turn.held.rng
        room: Nanos | None = None
        while True:
            call, bound, floor = self._call(turn, room)
            body = self.transport.body(call)
            ask = self._ask(turn, call, body, bound, floor)
            turn.held.beginning.arrived()
            try:
                async with self.gate.admit(ask) as flight:
                    answer = await self._send(call, body, ask)
                    outcome = self._looked_through(turn, answer.outcome, bound)
                    verdict = self._judged(outcome, turn, ask, answer)
                    flight.landed(outcome)
                    self._learn(answer, verdict, ask, rng)
            except Smaller as smaller:
                room = smaller.room
                continue
            except anyio.get_cancelled_exc_class():
                self._call_off(ask)
                raise
            room = None
            if verdict.next == "accept":
                return
            if verdict.next == "trim":
                if floor.left_out >= turn.number - 1:
                    raise Refused("failed", verdict.reason)
                turn.trimmed = _further(floor.left_out, turn.number)
            self._unless_over(verdict, turn)
            if verdict.pause:
                await self.journal.flushed()
                await self.gate.rest(verdict.pause)

    def _looked_through(self, turn: Turn, outcome: Outcome, bound: InputBound) -> Outcome:
        """The outcome, or a failure where the answer is no use although it came."""
        if self.plan.providers[turn.speaker.provider].free:
            # On a machine of one's own nobody else's counting comes in between.
            outcome = read_whole(outcome, bound.counted)
        return outcome if turn.aside is None else made_sense(outcome, turn.aside, turn.number)

    def _unless_over(self, verdict: Verdict, turn: Turn) -> None:
        """Refused when the conversation does not go on."""
        if verdict.next in ("wait", "park_provider", "park_model"):
            raise Refused("pending", verdict.reason)
        if verdict.next == "fail":
            raise Refused("failed", verdict.reason)
        if verdict.next == "stop":
            raise Refused(self._when_full(turn), verdict.reason)

    def _when_full(self, turn: Turn) -> Status:
        """What a conversation is whose history fills the window: over, if at least one whole round was said in it."""
        said_a_round = turn.line is not None and turn.line.round > 1 and bool(self.journal.state.of(turn.id).replies)
        return "complete" if turn.speaker.overflow == "stop" and said_a_round else "failed"

    def _call(self, turn: Turn, room: Nanos | None) -> tuple[Call, InputBound, Floor]:
        """The call that asks for a turn, no larger than `room` allows, and the bound on its input."""
        speaker = turn.speaker
        progress = self.journal.state.of(turn.id)
        dropped = self.journal.state.dropped.get(speaker.alias, ())
        limit = max_tokens_for(speaker, progress.tried)
        floor = self._floor(turn, progress, limit)
        shown = view_bound(floor.view)
        if turn.line is not None:
            turn.held.bounds[turn.number] = shown
        bound = input_bound(shown, _counted_before(turn, floor, progress), speaker.extra)
        rates = self.prices[speaker.alias].dearest(bound.tokens)
        call = call_for(turn.held.talk.conversation, floor, progress.tried.attempts + 1, limit, dropped, rates)
        if room is not None:
            within = tokens_within(self.prices[speaker.alias], bound.tokens, room)
            call = replace(
                call, max_tokens=max(_least_tokens(speaker, call), min(limit, limit if within is None else within))
            )
        return call, bound, floor

    def _floor(self, turn: Turn, progress: Progress, limit: int) -> Floor:
        """What the speaker is shown: all that its policy allows, and where the window is too small, less of it."""
        if turn.line is None:
            assert turn.aside is not None
            return turn.held.talk.floor_of(turn.aside, turn.number)
        if turn.speaker.overflow != "trim":
            return turn.held.talk.floor(turn.line)
        floor = turn.held.talk.floor(turn.line, max(turn.trimmed, progress.left_out.get(turn.line.role, 0)))
        while not _fits(floor, limit) and floor.left_out < turn.number - 1:
            floor = turn.held.talk.floor(turn.line, _further(floor.left_out, turn.number))
        return floor

    def _ask(self, turn: Turn, call: Call, body: bytes, bound: InputBound, floor: Floor) -> Ask:
        speaker = turn.speaker
        if speaker.context is not None and bound.counted + bound.bytes // _MOST_BYTES_PER_TOKEN > speaker.context:
            reason = f"context full: the prompt cannot fit the {speaker.context} tokens of {speaker.alias}"
            raise Refused(self._when_full(turn), reason)
        price = self.prices[speaker.alias]
        reserved = ceiling(price, bound.tokens, call.max_tokens)
        least = _least_tokens(speaker, call)
        talk = turn.held.talk
        ranked = partial(self.roster.rank, turn.held.cell, talk.conversation, len(talk.history))
        return Ask(
            lane=self.lanes[speaker.alias],
            rank=ranked(),
            ranked=ranked,
            reserved=reserved,
            least=reserved if least == call.max_tokens else ceiling(price, bound.tokens, least),
            ceilings=self.roster.over(turn.held.cell, speaker, turn.aside),
            size=Size(bound.counted, bound.bytes, call.max_tokens),
            model=speaker.weights,
            journal=self.journal,
            sent=Sent(
                cell=turn.id,
                turn=turn.number,
                attempt=call.attempt,
                role=speaker.role,
                alias=speaker.alias,
                provider=speaker.provider,
                model=speaker.model,
                request=sha256(body).hexdigest(),
                dialect=self.transport.dialect(call),
                reserved=reserved,
                input_bound=bound.tokens,
                max_tokens=call.max_tokens,
                seed=call.seed,
                dropped=call.dropped,
                left_out=floor.left_out,
            ),
        )

    async def _send(self, call: Call, body: bytes, ask: Ask) -> Answer:
        def started(generation: str) -> None:
            self.journal.record(Started(call.cell, call.turn, call.attempt, generation))

        try:
            answer = await self.transport.send(call, body, started)
            await self.gate.turnstile.pass_through()
            return answer
        except BaseException:
            # Left in the middle of a call: it may be billed, and nobody will hear the answer.
            self._lose(ask.sent, "left in flight when the run was stopped")
            raise

    def _call_off(self, ask: Ask) -> None:
        """Stopped between its grant and its departure: the request never left, so it costs nothing."""
        call = self.journal.state.of(ask.sent.cell).open
        if call is not None and call.sent == ask.sent:
            unsent = Failure("error", "call", "free", "stopped before it was sent")
            bill = charge(unsent, self.prices[ask.sent.alias], ask.reserved, ask.sent.max_tokens)
            self.journal.record(failed(unsent, ask.sent, bill, final=False))

    def _lose(self, sent: Sent, why: str, generation: str | None = None) -> None:
        lost = Failure("lost", "call", "assumed", why, generation=generation)
        bill = charge(lost, self.prices.get(sent.alias, FREE), sent.reserved, sent.max_tokens)
        self.journal.record(failed(lost, sent, bill, final=False))
        self.look_ups.notice()

    # -- judging ---------------------------------------------------------------------------------------------------

    def _judged(self, outcome: Outcome, turn: Turn, ask: Ask, answer: Answer) -> Verdict:
        """Judge an outcome and record it; the money is settled with the same event."""
        speaker, tried = turn.speaker, self.journal.state.of(ask.sent.cell).tried
        verdict = judge(outcome, speaker, tried, turn.held.rng.random(), ask.sent.dropped)
        if turn.aside is not None and outcome is not answer.outcome:
            verdict = no_use(verdict, tried)
        if verdict.next == "fail" and isinstance(outcome, Failure) and not _is_its_own(turn, answer):
            if _may_pass(outcome, speaker):
                verdict = self._who_is_to_blame(outcome, tried, ask, verdict)
            elif self._turns_all_down(outcome, speaker.alias):
                verdict = Verdict("park_model", reason=outcome.detail)
        # Whoever is in the way is named once, so that all who wait for it give the same reason.
        if verdict.next in ("wait", "park_provider"):
            verdict = verdict._replace(reason=f"{ask.sent.provider}: {verdict.reason}")
        elif verdict.next == "park_model":
            verdict = verdict._replace(reason=f"{ask.sent.alias}: {verdict.reason}")
        if verdict.next in ("park_provider", "park_model") and isinstance(outcome, Failure):
            remedy = self._remedy(outcome, ask.sent.provider)
            verdict = verdict._replace(reason=verdict.reason.rstrip(".") + remedy if remedy else verdict.reason)
        bill = charge(outcome, self.prices[speaker.alias], ask.reserved, ask.sent.max_tokens)
        if verdict.next == "accept":
            assert isinstance(outcome, Reply)
            self._turned_down.pop(speaker.alias, None)
            self.journal.record(replied(outcome, ask.sent, bill))
        else:
            self.journal.record(failed(outcome, ask.sent, bill, final=verdict.next != "retry"))
            if bill.source == "unknown":
                self.look_ups.notice()
        overran = self.journal.state.tallies[speaker.alias].overran
        if bill.overrun and overran is not None:
            self.gate.park_model(speaker.alias, overran.told(speaker.alias))
        return verdict

    def _who_is_to_blame(self, outcome: Failure, tried: Tried, ask: Ask, verdict: Verdict) -> Verdict:
        """`wait` for a conversation without a try left where it is the provider that answers nobody."""
        lane = ask.lane
        if lane.in_trouble or (outcome.busy and lane.busy_in_a_row >= tried.busy):
            return Verdict("wait", reason=outcome.detail)
        self._doubted[ask.sent.cell] = _Doubt(lane, anyio.current_time(), outcome.detail, ask.sent.provider)
        return verdict if lane.answered > -inf else Verdict("wait", reason=outcome.detail)

    def _remedy(self, outcome: Failure, provider: str) -> str:
        """What a person can do about a provider or a model that is not called any more; nothing where time will do."""
        if outcome.quota == "credit":
            return " -> add credit to the account"
        if outcome.scope == "model":
            return " -> correct its `use`, or have the key allowed to use it"
        if outcome.scope == "provider" and outcome.quota is None and outcome.status in (400, 401, 403):
            names = " or ".join(self.plan.providers[provider].key_names)
            return f" -> put a valid key into {names}" if names else " -> give it a valid `api_key`"
        return ""

    def _turns_all_down(self, outcome: Failure, alias: str) -> bool:
        """The same plain refusal of our request, conversation after conversation, is not the conversations' fault."""
        if outcome.scope != "conversation" or outcome.kind != "error" or outcome.overflow:
            return False
        self._turned_down[alias] = self._turned_down.get(alias, 0) + 1
        return self._turned_down[alias] > _REFUSES_ALL_AFTER

    def _learn(self, answer: Answer, verdict: Verdict, ask: Ask, rng: Random) -> None:
        """What an answer teaches about its lane, whoever asked."""
        now, outcome, lane = anyio.current_time(), answer.outcome, ask.lane
        if isinstance(outcome, Reply) or outcome.kind in ("empty", "refused"):
            lane.succeeded(ask.granted)
            self.roster.answered(ask.sent.alias)
        elif outcome.busy:
            why = "its quota of the day is used up" if outcome.quota == "day" else None
            lane.was_busy(outcome.retry_after, rng.random(), now, why)
        elif outcome.scope == "call" and outcome.parameter is None:
            lane.erred(ask.granted, rng.random(), now)
            if lane.beyond_hope:
                self.gate.park_lane(lane, f"{ask.sent.provider}: {outcome.detail}")
            if outcome.retry_after is not None:
                lane.pause(now + outcome.retry_after, f"asked to wait {outcome.retry_after:.0f} s")
        lane.heed(answer.hints, now)
        if verdict.next == "park_provider":
            self.gate.park_lane(lane, verdict.reason)
        elif verdict.next == "park_model":
            self.gate.park_model(ask.sent.alias, verdict.reason)

    # -- the two ends of a life ------------------------------------------------------------------------------------

    def open(self) -> None:
        """Record that the life begins; calls in flight when the last one ended are lost, and stay charged."""
        lost = list(self.journal.state.open_calls())
        self.journal.record(self.opened)
        for call in lost:
            self._lose(call.sent, "in flight when the run broke off", call.generation)
            self._fail_if_never_asked_twice(call.sent)

    def _fail_if_never_asked_twice(self, sent: Sent) -> None:
        """Where the job would rather lose a turn than perhaps buy it twice, a lost call ends its conversation."""
        cell, aside = self.plan.by_id.get(sent.cell), self.plan.aside(sent.cell)
        if cell is not None:
            speaker = self.plan.conversation(cell).participant(sent.role)
        elif aside is not None:
            speaker = aside[1].by
        else:
            return
        if speaker.outcomes.lost.retry == 0:
            reason = "lost when the run broke off, and not to be asked again"
            self.journal.record(Stopped(sent.cell, "failed", reason))
            if cell is not None:
                self.roster.drop(cell)

    async def close(self, signalled: int) -> int:
        """Record what became of those that did not begin, and that the life ended; its exit code."""
        for number, cell in enumerate(self.roster.waiting, 1):
            if number % _CLOSED_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
            stopped = self.roster.stopped(cell)
            if stopped is not None:
                for id_ in self._unfinished(cell):
                    self.journal.record(replace(stopped, cell=id_))
        for id_, doubt in self._doubted.items():
            stopped = doubt.resolved(id_)
            if stopped.status != self.journal.state.of(id_).status:
                self.journal.record(stopped)
        trouble = None if signalled or self.journal.failing is not None else self.style_trouble()
        code, reasons = self._exit(signalled, trouble)
        self.journal.record(Closed(self.opened.life, code, reasons, trouble))
        return code

    def _unfinished(self, cell: Cell) -> list[str]:
        """What is not at its end: a conversation, or of a complete one those who were to comment on it."""
        state = self.journal.state
        if state.of(cell.id).status != "complete":
            return [cell.id]
        return [aside.id for aside in self.plan.after(cell) if not state.of(aside.id).lasting]

    def _exit(self, signalled: int, trouble: str | None) -> tuple[int, tuple[str, ...]]:
        state = self.journal.state
        statuses = {state.of(cell.id).status or "pending" for cell in self.selected}
        found: dict[int, str] = {}
        if self.journal.failing is not None or (self.purse is not None and self.purse.ledger.failing is not None):
            found[EXIT_STORAGE] = "storage"
        silent = self._silent_observers()
        if signalled and (statuses | silent) & {"interrupted", "pending"}:
            found[signalled] = "interrupted"
        if "budget" in statuses:
            found[EXIT_BUDGET] = "budget"
        # Without an overrun on record it was the ceiling that moved.
        if any(tally.overrun for tally in state.tallies.values()) and self.roster.passed(self.selected):
            found[EXIT_BUDGET] = "overrun"
        if "deadline" in statuses:
            found[EXIT_DEADLINE] = "deadline"
        if "failed" in statuses:
            found[EXIT_UNFINISHED] = "failed"
        elif statuses & {"pending", "interrupted"} and not signalled:
            found[EXIT_UNFINISHED] = "pending"
        elif silent - {"pending", "interrupted"} or (silent and not signalled):
            found[EXIT_UNFINISHED] = "observers"
        elif trouble is not None:
            found[EXIT_UNFINISHED] = SPOILED
        return worst(list(found)), tuple(found[code] for code in sorted(found, key=_WORST_FIRST.index))

    def _silent_observers(self) -> set[Status]:
        """How those stand who were to comment on a complete conversation and have not."""
        state = self.journal.state
        found: set[Status] = {
            state.of(aside.id).status or "pending"
            for cell in self.selected
            if state.of(cell.id).status == "complete"
            for aside in self.plan.after(cell)
        }
        return found - {"complete"}


def _is_its_own(turn: Turn, answer: Answer) -> bool:
    """True for a failure that is the speaker's own, whatever becomes of its provider.

    Of those who only listen: an answer that is no use, and one who is in the way of a conversation that can go on
    without.
    """
    return turn.aside is not None and (turn.aside.kind in DURING or isinstance(answer.outcome, Reply))


def _may_pass(outcome: Failure, speaker: Participant) -> bool:
    """True for a provider's trouble of the moment, after which a later life may ask again."""
    if outcome.kind == "lost" and speaker.outcomes.lost.retry == 0:
        return False  # the job would rather lose a turn than perhaps buy it twice
    return outcome.kind in ("error", "lost") and outcome.scope == "call" and outcome.parameter is None


def _least_tokens(speaker: Participant, call: Call) -> int:
    """The smallest output limit with which a call may be made when money runs out."""
    return call.max_tokens if speaker.min_tokens is None else min(speaker.min_tokens, call.max_tokens)


_USUAL_BYTES_PER_TOKEN: Final = 3.0
"""Fewer than most texts have, so that what is thought to fit does."""
_MOST_BYTES_PER_TOKEN: Final = 16
"""A prompt whose bytes are more than this many times the window surely does not fit it."""


def _counted_before(turn: Turn, floor: Floor, progress: Progress) -> CountedView | None:
    """What its provider made of the last view of this speaker that it counted.

    None where that view is not the beginning of what is shown now.
    """
    counted = progress.reported_input.get(turn.speaker.role)
    if turn.line is None or counted is None or counted.turn >= turn.number or counted.left_out != floor.left_out:
        return None
    bounds, talk = turn.held.bounds, turn.held.talk
    if counted.turn not in bounds:  # an earlier life had it counted
        bounds[counted.turn] = view_bound(talk.floor(talk.conversation.lines[counted.turn - 1], counted.left_out).view)
    return CountedView(bounds[counted.turn], counted.tokens)


def _fits(floor: Floor, limit: int) -> bool:
    """True when a view surely leaves room for the answer, as far as its bytes can tell."""
    window = floor.speaker.context
    return window is None or view_bound(floor.view) / _USUAL_BYTES_PER_TOKEN + limit <= window


def _further(left_out: int, number: int) -> int:
    """How many lines are left out next: a quarter of those that are shown, so that it does not happen each turn."""
    shown = number - 1 - left_out
    return left_out + max(1, shown // 4)


# --- a life ------------------------------------------------------------------------------------------------------


Watcher = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Leaving:
    """How a life comes to its end when that is asked for."""

    talks: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """What is left: the conversations, with their calls in flight."""
    views: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    """What is cut short: whatever can be made up for at any time."""
    code: int = 0
    """The exit code of whoever was told to stop; 0 for nobody."""

    def leave(self, at: float) -> None:
        """Leave the calls in flight at a moment of the loop's clock, and be gone soon after it."""
        self.talks.deadline = min(self.talks.deadline, at)
        self.views.deadline = min(self.views.deadline, at + _LAST_VIEWS_SECONDS)


async def run(
    world: World,
    sessions: Sequence[Session],
    gate: Gate,
    *,
    grace: float = 80.0,
    max_time: float | None = None,
    began: float | None = None,
    watchers: Sequence[Watcher] = (),
    stopping: Callable[[int, Nanos], None] = lambda calls, money: None,
    finish: Callable[[Leaving], Coroutine[Any, Any, int]] | None = None,
) -> int:
    """Hold what is missing in all sessions; the exit code of the worst.

    `max_time` counts from `began`, on the loop's clock, or from now.
    `stopping` is told of calls left in flight; `finish` does what is left when all is recorded, and can make it worse.
    """
    leaving = Leaving()
    codes: list[int] = []
    async with AsyncExitStack() as stack:
        signals = await stack.enter_async_context(world.signals.listen())
        for session in sessions:
            await stack.enter_async_context(session.journal.writing())
            session.open()
        async with anyio.create_task_group() as around:
            around.start_soon(_obey, signals, sessions, gate, leaving, grace, stopping)
            if max_time is not None:
                around.start_soon(_end_at, gate, max_time, anyio.current_time() if began is None else began)
            for session in sessions:
                if session.deadline is not None:
                    around.start_soon(_end_one_at, gate, session.journal, session.deadline, world.clock)
            async with anyio.create_task_group() as looking:
                for watcher in (*watchers, *(session.look_ups.keep for session in sessions)):
                    looking.start_soon(watcher)
                with leaving.talks:
                    await _hold_all(sessions, gate)
                    for session in sessions if gate.closed is None else ():
                        await session.look_ups.last()
                for session in sessions:
                    with anyio.CancelScope(shield=True):
                        codes.append(await session.close(leaving.code))
                        codes.append(await _flushed(session.journal))
                looking.cancel_scope.cancel()
            if finish is not None:
                codes.append(await finish(leaving))
            around.cancel_scope.cancel()
    return worst(codes)


async def _flushed(journal: Journal) -> int:
    try:
        await journal.flushed()
    except StorageError:
        return EXIT_STORAGE  # also when nothing but the last records could not be kept
    return 0


async def _hold_all(sessions: Sequence[Session], gate: Gate) -> None:
    async with anyio.create_task_group() as tasks:
        for session in sessions:
            session.roster.spawn = partial(_spawn, tasks, session)
            gate.rosters.append(session.roster)
        await gate.work()


def _spawn(tasks: anyio.abc.TaskGroup, session: Session, cell: Cell, beginning: Beginning) -> None:
    tasks.start_soon(session.converse, cell, beginning)


async def _end_at(gate: Gate, seconds: float, began: float) -> None:
    await anyio.sleep_until(began + seconds)
    gate.close("deadline", f"the run's time of {seconds:g} s is over")


async def _end_one_at(gate: Gate, journal: Journal, deadline: float, clock: Clock) -> None:
    """End one run at a time of day, although the clock may be set meanwhile."""
    while (left := deadline - clock.wall()) > 0.0:  # noqa: ASYNC110 - nothing tells when a clock is set
        await anyio.sleep(min(left, _CLOCK_SECONDS))
    gate.end(journal, "deadline", "the deadline of its job has passed")


async def _obey(
    signals: AsyncIterator[int],
    sessions: Sequence[Session],
    gate: Gate,
    leaving: Leaving,
    grace: float,
    stopping: Callable[[int, Nanos], None],
) -> None:
    """The first request to stop closes the gate and lets calls in flight land; the second leaves them."""
    async for signal in signals:
        now = anyio.current_time()
        if leaving.code:
            leaving.leave(now)
            continue
        leaving.code = 128 + signal
        gate.close("interrupted", f"stopped by {Signals(signal).name}")
        calls = sum(1 for session in sessions for _ in session.journal.state.open_calls())
        stopping(calls, sum(session.journal.state.run.reserved for session in sessions))
        if signal == SIGTERM:
            leaving.leave(now + grace)
