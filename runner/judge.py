"""What becomes of a turn after an attempt: decided here, by policy and by what was tried before, and nowhere else.

`judge` is pure: there is one owner of retries. The events that record an attempt are made here too, so that what is
decided and what is written down cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from runner.call import Failure, Kind, Outcome, Reply, Scope
from runner.conversation import Aside, Participant, Policy
from runner.events import Failed, Replied, Sent, usage_data
from runner.observers import understood
from runner.prices import Charge
from runner.state import Tried

_AS_MANY: Final = 0.95
"""A count may fall by so much without a cut: a template may leave out a little of what is past."""
MOST_NONSENSE: Final = 1
"""So often somebody is asked again whose answer is no use: no vote, no JSON, not what its schema says."""
MOST_BUSY: Final = 20
"""So many busy answers for one turn fail it."""

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 60.0
_MOST_TOKENS: Final = 1_000_000
"""No retry asks for more than this: no model has more to give."""

Next: TypeAlias = Literal["accept", "retry", "wait", "fail", "stop", "trim", "park_model", "park_provider"]
"""`trim` asks again without the oldest lines; `wait` leaves the conversation to a later life: its provider is in
trouble, and it is not to blame."""


class Verdict(NamedTuple):
    """What becomes of a turn after an attempt."""

    next: Next
    pause: float = 0.0
    """Seconds before the retry."""
    reason: str = ""


def judge(outcome: Outcome, speaker: Participant, tried: Tried, chance: float, dropped: tuple[str, ...]) -> Verdict:
    """Decide what becomes of a turn; `tried` are its attempts before this one, `chance` is drawn from [0, 1)."""
    if isinstance(outcome, Reply):
        return _judge_reply(outcome, speaker, tried, chance)
    if outcome.busy:
        if tried.busy + 1 >= MOST_BUSY:
            return Verdict("fail", reason=f"busy {MOST_BUSY} times: {outcome.detail}")
        return Verdict("retry")  # its lane waits as long as the provider says
    if outcome.parameter is not None:
        # Dropped once; a model that refuses what was not even sent will not be pleased by another attempt.
        return Verdict("retry") if outcome.parameter not in dropped else Verdict("fail", reason=outcome.detail)
    if speaker.overflow == "trim" and (outcome.overflow or outcome.kind == "context_cut"):
        return Verdict("trim", reason=f"context full: {outcome.detail}")
    if outcome.overflow:
        return Verdict("stop" if speaker.overflow == "stop" else "fail", reason=f"context full: {outcome.detail}")
    if outcome.scope == "provider":
        return Verdict("park_provider", reason=outcome.detail)
    if outcome.scope == "model":
        return Verdict("park_model", reason=outcome.detail)
    before = tried.kinds.get(outcome.kind, 0)
    if outcome.scope == "conversation" or before >= policy_for(outcome.kind, speaker).retry:
        return Verdict("fail", reason=outcome.detail)
    # Where the provider asks for more, its whole lane waits: in the waiting line, which knows when to give up.
    return Verdict("retry", _jitter(before, chance), outcome.detail)


def read_whole(outcome: Outcome, counted: int) -> Outcome:
    """The outcome, or a failure where its server has read less of the conversation than it had counted before.

    What a speaker is shown only grows: a server that counts fewer tokens than the `counted` of its beginning has
    dropped the oldest of it without a word.
    """
    now = outcome.usage.input
    if not isinstance(outcome, Reply) or not outcome.usage.trusted or now is None or now >= counted * _AS_MANY:
        return outcome
    return _no_reply(
        outcome,
        "context_cut",
        "conversation",
        f"the server counted {now} tokens where it had counted {counted} before: it has cut the history "
        "(a larger `context`?)",
    )


def made_sense(outcome: Outcome, aside: Aside, lines: int) -> Outcome:
    """The outcome, or a failure where somebody was asked for something that is not in the answer."""
    if not isinstance(outcome, Reply):
        return outcome
    if outcome.finish == "refused":
        # A refusal is a line of a talk, but no comment on it.
        return _no_reply(outcome, "refused", "call", "refused answer")
    problem = understood(aside, outcome.text, lines).problem
    return outcome if problem is None else _no_reply(outcome, "error", "call", problem)


def no_use(verdict: Verdict, tried: Tried) -> Verdict:
    """The verdict on an answer that made no sense: it was paid for, so that few more of the kind are asked for."""
    again = verdict.next == "retry" and tried.kinds.get("error", 0) < MOST_NONSENSE
    return verdict if again else Verdict("fail", reason=verdict.reason)


def _no_reply(reply: Reply, kind: Kind, scope: Scope, detail: str) -> Failure:
    """An answer that came and was paid for, and does not count."""
    return Failure(
        kind=kind,
        scope=scope,
        money="known",
        detail=detail,
        usage=reply.usage,
        partial=reply.text,
        reasoning=reply.reasoning,
        generation=reply.generation,
        model=reply.model,
        upstream=reply.upstream,
        stop=reply.stop,
        first_byte=reply.first_byte,
        seconds=reply.seconds,
    )


def _judge_reply(reply: Reply, speaker: Participant, tried: Tried, chance: float) -> Verdict:
    if reply.finish == "ok":
        return Verdict("accept")
    policy = policy_for(reply.finish, speaker)
    before = tried.kinds.get(reply.finish, 0)
    if before < policy.retry:
        return Verdict("retry", _jitter(before, chance), reply.finish)
    return Verdict("accept") if policy.accept else Verdict("fail", reason=f"{reply.finish} answer")


def policy_for(kind: str, speaker: Participant) -> Policy:
    """The policy for a kind of failure, or for a reply that is not ok."""
    policies: Mapping[str, Policy] = {
        "empty": speaker.outcomes.empty,
        "refused": speaker.outcomes.refused,
        "truncated": speaker.outcomes.truncated,
        "lost": speaker.outcomes.lost,
    }
    return policies.get(kind, speaker.outcomes.error)


def _jitter(before: int, chance: float) -> float:
    """Full jitter: anything up to a bound that doubles with each attempt."""
    return float(chance * min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**before))


def max_tokens_for(speaker: Participant, tried: Tried) -> int:
    """The output limit of the next attempt: larger where the policy says that more room may help."""
    limit = float(speaker.max_tokens)
    for kind, times in tried.kinds.items():
        limit *= policy_for(kind, speaker).max_tokens_times ** times
    return max(speaker.max_tokens, int(min(limit, _MOST_TOKENS)))


def replied(reply: Reply, sent: Sent, bill: Charge) -> Replied:
    """The event of an accepted reply."""
    return Replied(
        cell=sent.cell,
        turn=sent.turn,
        attempt=sent.attempt,
        text=reply.text,
        finish=reply.finish,
        cost=bill.cost,
        cost_source=bill.source,
        computed=bill.computed,
        usage=usage_data(reply.usage),
        overrun=bill.overrun,
        reasoning=reply.reasoning,
        model=reply.model,
        upstream=reply.upstream,
        generation=reply.generation,
        stop=reply.stop,
        first_byte=reply.first_byte,
        seconds=reply.seconds,
    )


def failed(outcome: Outcome, sent: Sent, bill: Charge, final: bool) -> Failed:
    """The event of an attempt that did not become the turn: a failure, or an answer that is not accepted."""
    if isinstance(outcome, Failure):
        kind: Kind | Literal["truncated"] = outcome.kind
        failure, partial = outcome, outcome.partial
    else:
        kind = "truncated" if outcome.finish == "truncated" else "refused"
        money: Literal["known", "assumed"] = "assumed" if bill.source == "unknown" else "known"
        failure, partial = Failure("refused", "call", money, f"{outcome.finish} answer"), outcome.text
    return Failed(
        cell=sent.cell,
        turn=sent.turn,
        attempt=sent.attempt,
        failure=kind,
        scope=failure.scope,
        money="assumed" if bill.source == "unknown" else failure.money,
        cost=bill.cost,
        final=final,
        detail=failure.detail,
        busy=failure.busy,
        parameter=failure.parameter,
        status=failure.status,
        retry_after=failure.retry_after,
        usage=usage_data(outcome.usage),
        overrun=bill.overrun,
        partial=partial,
        reasoning=outcome.reasoning,
        model=outcome.model,
        upstream=outcome.upstream,
        generation=outcome.generation,
        stop=outcome.stop,
        first_byte=outcome.first_byte,
        seconds=outcome.seconds,
    )
