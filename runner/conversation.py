"""A conversation: who speaks when, what each side is shown, and what it came to.

There is one neutral history, the lines in the order they were said. Each call projects it for its speaker:

- own lines are `assistant`, everything else is `user`; the system text stands apart;
- one user text joins, by blank lines: the context and the opening (once, at the start), the lines of the others,
  and the instruction of this turn; what once stood somewhere stays there in later requests;
- every own line has a user text before it: where nobody said anything, a neutral sentence stands in;
- with more than two speakers the lines of the others carry their role name;
- a given line (of a script, or a role's opening) is a line like any other, but costs nothing and is no call.

Nothing here waits, and nothing knows of files, providers or money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

from runner.call import Call, Message, Reasoning, Sampling, Timeouts, Usage, View, has_text
from runner.money import Nanos

BEGINS: Final = "(The conversation begins.)"
GO_ON: Final = "(Please go on.)"

_FASTEST: Final = 50_000.0
"""Tokens per second that no model writes."""

Status: TypeAlias = Literal["complete", "failed", "budget", "deadline", "interrupted", "pending"]
STATUSES: Final[tuple[Status, ...]] = ("complete", "failed", "budget", "deadline", "interrupted", "pending")


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of a turn with this outcome: tried again so often, then failed, or accepted as it is."""

    retry: int
    accept: bool = False
    max_tokens_times: float = 1.0
    """Each further attempt may use this many times the tokens of the one before."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """The policy for each outcome that is not ok."""

    empty: Policy = Policy(2, max_tokens_times=2.0)
    truncated: Policy = Policy(0, accept=True)
    refused: Policy = Policy(0, accept=True)
    error: Policy = Policy(5)
    lost: Policy = Policy(1)


@dataclass(frozen=True, slots=True)
class Participant:
    """One side. A scripted side has no model; a live one has all that its calls are made with."""

    role: str
    label: str
    live: bool
    system: str | None = None
    alias: str = ""
    provider: str = ""
    model: str = ""
    max_tokens: int = 0
    min_tokens: int | None = None
    """How far `max_tokens` may be lowered when the money does not reach for all of it; None: not at all."""
    sampling: Sampling = Sampling()
    timeouts: Timeouts = Timeouts()
    outcomes: Outcomes = Outcomes()
    context: int | None = None
    """The model's window in tokens, where the job says it."""
    overflow: Literal["stop", "fail"] = "stop"
    """What a full window means: the conversation is over, or it has failed."""
    reasoning: Reasoning = field(default_factory=Reasoning)
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of each request that the job gives as they are."""

    @property
    def weights(self) -> str:
        """What its server has to load: a model, and once more for each size of window."""
        return self.model if self.context is None else f"{self.model} {self.context}"


@dataclass(frozen=True, slots=True)
class Line:
    """One planned turn. `given` is its text when it is not generated."""

    number: int
    round: int
    role: str
    label: str | None = None
    instruct: str | None = None
    given: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """One cell of the plan, in full: everything its calls depend on."""

    id: str
    name: str
    prompt: str
    repeat: int
    participants: tuple[Participant, ...]
    lines: tuple[Line, ...]
    context: str | None = None
    opening: str | None = None
    send_seed: int | None = None
    """When given, each call carries a seed derived from it."""

    def participant(self, role: str) -> Participant:
        return next(p for p in self.participants if p.role == role)

    @property
    def rounds(self) -> int:
        return self.lines[-1].round


def said(conversation: Conversation, replies: Mapping[int, str]) -> list[str]:
    """The history so far: every line's text, up to the first that is still to be generated."""
    texts: list[str] = []
    for line in conversation.lines:
        text = line.given if line.given is not None else replies.get(line.number)
        if text is None:
            break
        texts.append(text)
    return texts


def next_line(conversation: Conversation, history: Sequence[str]) -> Line | None:
    """The first line that nobody has said yet."""
    return conversation.lines[len(history)] if len(history) < len(conversation.lines) else None


def view(conversation: Conversation, role: str, history: Sequence[str], instruct: str | None) -> View:
    """What `role` is shown when it is its turn after `history`."""
    tagged = len({line.role for line in conversation.lines}) > 2
    messages: list[Message] = []
    heard = [text for text in (conversation.context, conversation.opening) if text is not None and has_text(text)]

    def before_own_line(instruct: str | None) -> None:
        if instruct is not None and has_text(instruct):
            heard.append(instruct)
        if not heard:
            heard.append(GO_ON if messages else BEGINS)
        messages.append(Message("user", "\n\n".join(heard)))
        heard.clear()

    for line, text in zip(conversation.lines, history, strict=False):
        if line.role == role:
            before_own_line(line.instruct)
            messages.append(Message("assistant", text))
        else:
            heard.append(f"{line.role}: {text}" if tagged else text)
    before_own_line(instruct)
    system = conversation.participant(role).system
    return View(system if has_text(system) else None, tuple(messages))


def call_for(
    conversation: Conversation,
    line: Line,
    history: Sequence[str],
    attempt: int,
    max_tokens: int,
    dropped: tuple[str, ...] = (),
) -> Call:
    """The call that asks for `line` after `history`: the same one whenever and wherever it is made."""
    speaker = conversation.participant(line.role)
    seed = None
    if conversation.send_seed is not None:
        text = f"{conversation.send_seed}:{conversation.id}:{line.number}:{attempt}"
        seed = int.from_bytes(sha256(text.encode()).digest()[:4]) >> 1
    return Call(
        cell=conversation.id,
        turn=line.number,
        attempt=attempt,
        provider=speaker.provider,
        model=speaker.model,
        view=view(conversation, line.role, history, line.instruct),
        max_tokens=max_tokens,
        sampling=speaker.sampling,
        seed=seed,
        dropped=dropped,
        timeouts=speaker.timeouts,
        reasoning=speaker.reasoning,
        window=speaker.context,
        extra=speaker.extra,
    )


def has_nothing_to_read(first: Line, context: str | None, opening: str | None) -> bool:
    """True when the first speaker is live and would be shown nothing but its system text."""
    return first.given is None and not any(has_text(t) for t in (context, opening, first.instruct))


# --- what it came to ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """One line of a transcript with its figures; what is unknown is None."""

    number: int
    round: int
    role: str
    speaker: str
    label: str | None
    given: bool
    text: str | None
    """None when the turn has no accepted reply; `error` then says why, unless it was never tried."""
    outcome: Literal["ok", "truncated", "refused", "failed", "open"] = "open"
    reasoning: str | None = None
    stop: str | None = None
    alias: str | None = None
    provider: str | None = None
    model: str | None = None
    served: str | None = None
    upstream: str | None = None
    usage: Usage = Usage()
    cost: Nanos | None = None
    """What is charged for the attempt that was accepted."""
    computed: Nanos | None = None
    """The same by the price list, where usage is known."""
    cost_source: Literal["reported", "priced", "unknown"] | None = None
    first_byte: float | None = None
    seconds: float | None = None
    attempts: int = 0
    generation: str | None = None
    request: str | None = None
    """SHA-256 of the request body of the last attempt."""
    error: Mapping[str, Any] | None = None
    """`{"kind": ..., "message": ...}` of the last failed attempt of a turn without a reply."""

    @property
    def tokens_per_second(self) -> float | None:
        """Output per second of generation, from the first byte on; None where it cannot be told."""
        if not self.usage.output or self.seconds is None:
            return None
        generating = self.seconds - (self.first_byte or 0.0)
        # An answer that came in one piece was written before its first byte came.
        return self.usage.output / generating if generating * _FASTEST > self.usage.output else None


@dataclass(frozen=True, slots=True)
class Transcript:
    """Everything a view of one conversation may show: no clock, no path, no journal."""

    id: str
    name: str
    job: str
    run: str
    prompt: str
    repeat: int
    participants: tuple[Participant, ...]
    status: Status
    reason: str | None
    rounds_planned: int
    rounds_done: int
    context: str | None
    opening: str | None
    turns: tuple[Turn, ...]
    """Every planned turn, in order."""
    messages: tuple[Message, ...]
    """The view of the last live role, ending with its own last line."""
    system: str | None
    spent: Nanos
    """All attempts together, settled and still assumed."""
    started: float | None = None
    ended: float | None = None
    error: Mapping[str, Any] | None = None

    @property
    def done(self) -> tuple[Turn, ...]:
        """The turns that were said."""
        return tuple(t for t in self.turns if t.text is not None)

    @property
    def truncated(self) -> int:
        return sum(t.outcome == "truncated" for t in self.turns)

    @property
    def refused(self) -> int:
        return sum(t.outcome == "refused" for t in self.turns)
