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

from runner.call import Answer, Call, Failure, Outcome, Reply, Transport, View
from runner.conversation import Conversation, Line, Participant, Status, call_for, next_line, said, view
from runner.events import Closed, Opened, Progress, Replied, Sent, Started, Stopped, Tried
from runner.gate import Ask, Beginning, Gate, Refused, Smaller
from runner.journal import Journal
from runner.judge import Verdict, failed, judge, max_tokens_for, read_whole, replied
from runner.ledger import Purse
from runner.limits import Lane, Size
from runner.lines import StorageError
from runner.lookups import LookUps
from runner.money import FREE, Nanos, Price, ceiling, tokens_within
from runner.plan import Cell, Plan
from runner.prices import InputBound, charge, input_bound
from runner.roster import Roster
from runner.world import World

EXIT_UNFINISHED: Final = 3
EXIT_BUDGET: Final = 4
EXIT_DEADLINE: Final = 5
EXIT_STORAGE: Final = 8
_WORST_FIRST: Final = (130, 143, EXIT_STORAGE, 7, 6, EXIT_BUDGET, EXIT_DEADLINE, EXIT_UNFINISHED, 0)

_REFUSES_ALL_AFTER: Final = 3
"""A model that turns down the requests of so many conversations, and answers none, gets no more of them."""


def worst(codes: Sequence[int]) -> int:
    """The exit code that stands for several."""
    return min(codes, key=_WORST_FIRST.index, default=0)


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
    purse: Purse | None = None
    """The money of the day and the month, where it is counted."""
    _turned_down: dict[str, int] = field(default_factory=dict)
    _doubted: dict[str, _Doubt] = field(default_factory=dict)
    """The conversations of which only the end of the life can tell who was to blame."""

    # -- holding ---------------------------------------------------------------------------------------------------

    async def converse(self, cell: Cell, beginning: Beginning) -> None:
        """Hold one conversation from where it stands to its end."""
        try:
            await self._hold(cell, beginning)
            self.journal.record(Stopped(cell.id, "complete"))
        except Refused as why:
            self.journal.record(Stopped(cell.id, why.status, why.reason))
        except StorageError as error:
            self.gate.close("interrupted", str(error))
            return
        except anyio.get_cancelled_exc_class():
            self.journal.record(Stopped(cell.id, "interrupted", "stopped at once"))
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

    async def _hold(self, cell: Cell, beginning: Beginning) -> None:
        conversation = self.plan.conversation(cell)
        rng = Random(f"{self.plan.job.seed}:{cell.id}:{self.journal.state.lives}")
        replies = {n: self._text_at(n, cell) for n in self.journal.state.of(cell.id).replies}
        history = said(conversation, replies)
        # What stands behind a turn that was lost answers something else: it is asked for again.
        replies = {turn: text for turn, text in replies.items() if turn <= len(history)}
        while (line := next_line(conversation, history)) is not None:
            replies[line.number] = await self._turn(cell, conversation, line, history, rng, beginning)
            history = said(conversation, replies)
            self.roster.commit(cell)

    def _text_at(self, turn: int, cell: Cell) -> str:
        event = self.journal.read(self.journal.state.of(cell.id).replies[turn]).event
        assert isinstance(event, Replied)
        return event.text

    async def _turn(
        self,
        cell: Cell,
        conversation: Conversation,
        line: Line,
        history: Sequence[str],
        rng: Random,
        beginning: Beginning,
    ) -> str:
        """Ask until there is a reply that counts; Refused when there will be none."""
        speaker = conversation.participant(line.role)
        room: Nanos | None = None
        while True:
            call, bound = self._call(conversation, line, history, room)
            ask = self._ask(cell, conversation, line, history, call, bound)
            beginning.arrived()
            try:
                async with self.gate.admit(ask) as flight:
                    answer = await self._send(call, ask)
                    outcome = answer.outcome
                    if self.plan.providers[call.provider].free:
                        # On a machine of one's own nobody else's counting comes in between.
                        outcome = read_whole(outcome, bound.counted)
                    verdict = self._judged(outcome, speaker, ask, rng)
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
                assert isinstance(outcome, Reply)
                return outcome.text
            self._unless_over(verdict, cell, speaker, line)
            if verdict.pause:
                await self.journal.flushed()
                await self.gate.rest(verdict.pause)

    def _unless_over(self, verdict: Verdict, cell: Cell, speaker: Participant, line: Line) -> None:
        """Refused when the conversation does not go on."""
        if verdict.next in ("wait", "park_provider", "park_model"):
            raise Refused("pending", verdict.reason)
        if verdict.next == "fail":
            raise Refused("failed", verdict.reason)
        if verdict.next == "stop":
            raise Refused(self._when_full(cell, speaker, line), verdict.reason)

    def _when_full(self, cell: Cell, speaker: Participant, line: Line) -> Status:
        """What a conversation is whose history fills the window: over, if at least one whole round was said in it."""
        said_a_round = line.round > 1 and bool(self.journal.state.of(cell.id).replies)
        return "complete" if speaker.overflow == "stop" and said_a_round else "failed"

    def _call(
        self, conversation: Conversation, line: Line, history: Sequence[str], room: Nanos | None
    ) -> tuple[Call, InputBound]:
        """The call that asks for a line, no larger than `room` allows, and the bound on its input."""
        speaker = conversation.participant(line.role)
        progress = self.journal.state.of(conversation.id)
        dropped = self.journal.state.dropped.get(speaker.alias, ())
        limit = max_tokens_for(speaker, progress.tried)
        call = call_for(conversation, line, history, progress.tried.attempts + 1, limit, dropped)
        bound = input_bound(call.view, *_counted_before(conversation, line, history, progress), call.extra)
        call = replace(call, rates=self.prices[speaker.alias].dearest(bound.tokens))
        if room is not None:
            within = tokens_within(self.prices[speaker.alias], bound.tokens, room)
            call = replace(
                call, max_tokens=max(_least_tokens(speaker, call), min(limit, limit if within is None else within))
            )
        return call, bound

    def _ask(
        self,
        cell: Cell,
        conversation: Conversation,
        line: Line,
        history: Sequence[str],
        call: Call,
        bound: InputBound,
    ) -> Ask:
        speaker = conversation.participant(line.role)
        if speaker.context is not None and bound.counted + bound.bytes // _MOST_BYTES_PER_TOKEN > speaker.context:
            reason = f"context full: the prompt cannot fit the {speaker.context} tokens of {speaker.alias}"
            raise Refused(self._when_full(cell, speaker, line), reason)
        price = self.prices[speaker.alias]
        reserved = ceiling(price, bound.tokens, call.max_tokens)
        unsaid = len(conversation.lines) - len(history)
        return Ask(
            lane=self.lanes[speaker.alias],
            rank=(cell.index,) if self.roster.tight else (-unsaid, cell.index),
            reserved=reserved,
            least=ceiling(price, bound.tokens, _least_tokens(speaker, call)),
            ceilings=self.roster.over(cell, speaker),
            size=Size(bound.counted, bound.bytes, call.max_tokens),
            model=speaker.weights,
            journal=self.journal,
            sent=Sent(
                cell=cell.id,
                turn=line.number,
                attempt=call.attempt,
                role=line.role,
                alias=speaker.alias,
                provider=speaker.provider,
                model=speaker.model,
                request=sha256(self.transport.body(call)).hexdigest(),
                dialect=self.transport.dialect(call),
                reserved=reserved,
                input_bound=bound.tokens,
                max_tokens=call.max_tokens,
                seed=call.seed,
                dropped=call.dropped,
            ),
        )

    async def _send(self, call: Call, ask: Ask) -> Answer:
        def started(generation: str) -> None:
            self.journal.record(Started(call.cell, call.turn, call.attempt, generation))

        try:
            return await self.transport.send(call, started)
        except BaseException:
            # Left in the middle of a call: it may be billed, and nobody will hear the answer.
            self._lose(ask.sent, "left in flight when the run was stopped")
            raise

    def _call_off(self, ask: Ask) -> None:
        """Stopped between its grant and its departure: the request never left, so it costs nothing."""
        call = self.journal.state.of(ask.sent.cell).open
        if call is not None and call.sent is ask.sent:
            unsent = Failure("error", "call", "free", "stopped before it was sent")
            bill = charge(unsent, self.prices[ask.sent.alias], ask.reserved, ask.sent.max_tokens)
            self.journal.record(failed(unsent, ask.sent, bill, final=False))

    def _lose(self, sent: Sent, why: str, generation: str | None = None) -> None:
        lost = Failure("lost", "call", "assumed", why, generation=generation)
        bill = charge(lost, self.prices.get(sent.alias, FREE), sent.reserved, sent.max_tokens)
        self.journal.record(failed(lost, sent, bill, final=False))
        self.look_ups.notice()

    # -- judging ---------------------------------------------------------------------------------------------------

    def _judged(self, outcome: Outcome, speaker: Participant, ask: Ask, rng: Random) -> Verdict:
        """Judge an outcome and record it; the money is settled with the same event."""
        tried = self.journal.state.of(ask.sent.cell).tried
        verdict = judge(outcome, speaker, tried, rng.random(), ask.sent.dropped)
        if verdict.next == "fail" and isinstance(outcome, Failure):
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
        cell = self.plan.by_id.get(sent.cell)
        if cell is not None and self.plan.conversation(cell).participant(sent.role).outcomes.lost.retry == 0:
            self.journal.record(Stopped(cell.id, "failed", "lost when the run broke off, and not to be asked again"))
            self.roster.drop(cell)

    def close(self, signalled: int) -> int:
        """Record what became of those that did not begin, and that the life ended; its exit code."""
        for cell in self.roster.waiting:
            stopped = self.roster.stopped(cell)
            if stopped is not None:
                self.journal.record(stopped)
        for id_, doubt in self._doubted.items():
            stopped = doubt.resolved(id_)
            if stopped.status != self.journal.state.of(id_).status:
                self.journal.record(stopped)
        code, reasons = self._exit(signalled)
        self.journal.record(Closed(self.opened.life, code, reasons))
        return code

    def _exit(self, signalled: int) -> tuple[int, tuple[str, ...]]:
        state = self.journal.state
        statuses = {state.of(cell.id).status or "pending" for cell in self.selected}
        found: dict[int, str] = {}
        if self.journal.failing is not None or (self.purse is not None and self.purse.ledger.failing is not None):
            found[EXIT_STORAGE] = "storage"
        if signalled and statuses & {"interrupted", "pending"}:
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
        return worst(list(found)), tuple(found[code] for code in sorted(found, key=_WORST_FIRST.index))


def _may_pass(outcome: Failure, speaker: Participant) -> bool:
    """True for a provider's trouble of the moment, after which a later life may ask again."""
    if outcome.kind == "lost" and speaker.outcomes.lost.retry == 0:
        return False  # the job would rather lose a turn than perhaps buy it twice
    return outcome.kind in ("error", "lost") and outcome.scope == "call" and outcome.parameter is None


def _least_tokens(speaker: Participant, call: Call) -> int:
    """The smallest output limit with which a call may be made when money runs out."""
    return call.max_tokens if speaker.min_tokens is None else min(speaker.min_tokens, call.max_tokens)


_MOST_BYTES_PER_TOKEN: Final = 16
"""A prompt whose bytes are more than this many times the window surely does not fit it."""


def _counted_before(
    conversation: Conversation, line: Line, history: Sequence[str], progress: Progress
) -> tuple[View | None, int | None]:
    """The last view of this speaker that its provider counted, and how many tokens it made of it."""
    counted = progress.reported_input.get(line.role)
    if counted is None or counted[0] >= line.number:
        return None, None
    turn, tokens = counted
    instruct = conversation.lines[turn - 1].instruct
    return view(conversation, line.role, history[: turn - 1], instruct), tokens


# --- a life ------------------------------------------------------------------------------------------------------


Watcher = Callable[[], Coroutine[Any, Any, None]]


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
    finish: Callable[[], Coroutine[Any, Any, int]] | None = None,
) -> int:
    """Hold what is missing in all sessions; the exit code of the worst.

    `max_time` counts from `began`, on the loop's clock, or from now.
    `stopping` is told of calls left in flight; `finish` does what is left when all is recorded, and can make it worse.
    """
    codes: list[int] = []
    async with AsyncExitStack() as stack:
        signals = await stack.enter_async_context(world.signals.listen())
        for session in sessions:
            await stack.enter_async_context(session.journal.writing())
            session.open()
        signalled: list[int] = []
        async with anyio.create_task_group() as around:
            talks = anyio.CancelScope()
            around.start_soon(_obey, signals, sessions, gate, talks, signalled, grace, stopping)
            if max_time is not None:
                around.start_soon(_end_at, gate, max_time, anyio.current_time() if began is None else began)
            async with anyio.create_task_group() as looking:
                for watcher in (*watchers, *(session.look_ups.keep for session in sessions)):
                    looking.start_soon(watcher)
                with talks:
                    await _hold_all(sessions, gate)
                    for session in sessions if gate.closed is None else ():
                        await session.look_ups.last()
                for session in sessions:
                    codes.append(session.close(signalled[0] if signalled else 0))
                    with anyio.CancelScope(shield=True):
                        codes.append(await _flushed(session.journal))
                looking.cancel_scope.cancel()
            if finish is not None:
                codes.append(await finish())
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


async def _obey(
    signals: AsyncIterator[int],
    sessions: Sequence[Session],
    gate: Gate,
    talks: anyio.CancelScope,
    signalled: list[int],
    grace: float,
    stopping: Callable[[int, Nanos], None],
) -> None:
    """The first request to stop closes the gate and lets calls in flight land; the second leaves them."""
    async for signal in signals:
        if signalled:
            talks.cancel()
            continue
        signalled.append(128 + signal)
        gate.close("interrupted", f"stopped by {Signals(signal).name}")
        calls = sum(1 for session in sessions for _ in session.journal.state.open_calls())
        stopping(calls, sum(session.journal.state.run.reserved for session in sessions))
        if signal == SIGTERM:
            talks.deadline = anyio.current_time() + grace
