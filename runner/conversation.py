"""A conversation: who speaks when, what each side is shown, and what it came to.

There is one neutral history, the lines in the order they were said. Each call projects it for its speaker:

- own lines are `assistant`, everything else is `user`; the system text stands apart;
- one user text joins, by blank lines: the context and the opening (once, at the start), the lines of the others,
  and the instruction of this turn; what once stood somewhere stays there in later requests;
- every own line has a user text before it: where nobody said anything, a neutral sentence stands in;
- with more than two speakers the lines of the others carry their role name;
- a given line (of a script, or a role's opening) is a line like any other, but costs nothing and is no call;
- what a speaker is not shown any more is left out from the oldest line on, and a sentence says so in its place.

Beside those who speak there are those who only listen: a moderator who says who is next, observers who vote on the
end or comment on the whole. Such an aside is asked about the conversation and heard by nobody in it; what it costs and
what becomes of it stand under an id of its own.

Nothing here waits, and nothing knows of files, providers or money.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, Literal, TypeAlias

from runner.call import Call, Message, Reasoning, Sampling, Timeouts, Usage, View, has_text
from runner.money import Nanos, Rates
from runner.status import Status
from runner.stops import Rule
from runner.value import value

BEGINS: Final = "(The conversation begins.)"
GO_ON: Final = "(Please go on.)"
LEFT_OUT: Final = "(Earlier turns are left out here.)"

_FASTEST: Final = 50_000.0
"""Tokens per second that no model writes."""

Overflow: TypeAlias = Literal["stop", "fail", "trim"]
AsideKind: TypeAlias = Literal["pick", "vote", "notes", "titles", "scores"]
"""Who speaks next; whether it is over; a text about the whole, titles for its turns, scores by a schema."""
DURING: Final[frozenset[AsideKind]] = frozenset({"pick", "vote"})
"""What is asked while a conversation goes on: it is part of its cost."""


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
class Inbox:
    """Where the lines of a side come from that nobody scripted and no model writes: a file, or a command's output."""

    file: str | None = None
    command: tuple[str, ...] = ()
    every: float = 60.0
    """So many seconds lie between two looks, while a line is waited for and others have something to do."""


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
    overflow: Overflow = "stop"
    """What a full window means: the conversation is over, it has failed, or its oldest lines are left out."""
    window: int | None = None
    """How many of the last lines it is shown; None: all."""
    keeps_reasoning: bool = False
    """True when it is shown what it thought itself, with each of its own lines."""
    reasoning: Reasoning = field(default_factory=Reasoning)
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of each request that the job gives as they are."""
    inbox: Inbox | None = None
    """Where its lines come from, when it is neither live nor scripted."""

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
class Aside:
    """Somebody who is asked about a conversation, and heard by nobody in it."""

    id: str
    """Its own, under which the journal keeps its calls and its end."""
    kind: AsideKind
    by: Participant
    prompt: str
    """What it is asked, below all that was said."""
    heading: str = ""
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    """The JSON Schema of scores."""
    every: int = 1
    """A vote is held after so many rounds, and again after as many."""
    budget: str | None = None
    """The name of its own ceiling, where the job gives it one."""


@dataclass(frozen=True, slots=True)
class Look:
    """How a transcript is to look: its style, and the texts that the style asks for beside the conversation's own."""

    style: str = "transcript"
    texts: Mapping[str, str] = field(default_factory=dict, hash=False)
    suffix: str | None = None
    """How its files end, where the style is one of the user's own: whoever may not run it must know."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a conversation comes from that goes on with another one."""

    id: str
    name: str
    kind: Literal["extend", "fork", "redo"]
    through: int
    """How many lines of the other are its own, too."""


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
    stops: tuple[Rule, ...] = ()
    """What ends it before its last line."""
    moderator: Aside | None = None
    """Who says in which order the roles speak within a round; None: in the order of the lines."""
    voters: tuple[Aside, ...] = ()
    """Who may end it by a vote."""
    after: tuple[Aside, ...] = ()
    """Who comments on it when it is complete."""
    look: Look = Look()
    origin: Origin | None = None

    @property
    def asides(self) -> tuple[Aside, ...]:
        return (*(() if self.moderator is None else (self.moderator,)), *self.voters, *self.after)

    def participant(self, role: str) -> Participant:
        for one in self.participants:
            if one.role == role:
                return one
        raise KeyError(role)

    @property
    def rounds(self) -> int:
        return self.lines[-1].round


def arranged(conversation: Conversation, picks: Mapping[int, str]) -> Conversation:
    """The conversation with its lines as its moderator ordered them; `picks` are his answers, by the line they decide.

    Within a round each role speaks as often as it would have; only the order is his. Where he named nobody who may
    speak, the next in the given order does.
    """
    if conversation.moderator is None:
        return conversation
    carried = 0 if conversation.origin is None else conversation.origin.through
    lines: list[Line] = []
    for beats in _rounds(conversation.lines):
        rest = list(beats)
        while rest:
            number = len(lines) + 1
            allowed = _may_speak(rest, lines) if number > carried else (rest[0].role,)
            role = picked(picks.get(number, ""), allowed, conversation.participants) or allowed[0]
            line = next(line for line in rest if line.role == role)
            rest.remove(line)
            lines.append(replace(line, number=number))
    return replace(conversation, lines=tuple(lines))


def said_by(lines: Sequence[Line], roles: Sequence[str]) -> tuple[Line, ...]:
    """The first of these lines, in the order in which these roles have said them."""
    rounds = [list(beats) for beats in _rounds(lines)]
    found: list[Line] = []
    for number, role in enumerate(roles, start=1):
        rest = next(beats for beats in rounds if beats)
        line = next(line for line in rest if line.role == role)
        rest.remove(line)
        found.append(replace(line, number=number))
    return tuple(found)


def going_on(said: Sequence[Line], planned: Sequence[Line]) -> tuple[Line, ...]:
    """These lines, said in the first rounds of a plan, and then what is left of it: of a round begun, who has not."""
    rounds = [list(beats) for beats in _rounds(planned)]
    found: list[Line] = []
    for line in said:
        rest = next(beats for beats in rounds if beats)
        beat = next(beat for beat in rest if beat.role == line.role)
        rest.remove(beat)
        found.append(replace(line, round=beat.round))
    left = (beat for rest in rounds for beat in rest)
    return (*found, *(replace(beat, number=number) for number, beat in enumerate(left, len(found) + 1)))


def may_speak(conversation: Conversation, number: int) -> tuple[str, ...]:
    """The roles among whom a moderator may choose for this line of an arranged conversation."""
    now = conversation.lines[number - 1].round
    rest = [line for line in conversation.lines[number - 1 :] if line.round == now]
    return _may_speak(rest, conversation.lines[: number - 1])


def _may_speak(rest: Sequence[Line], before: Sequence[Line]) -> tuple[str, ...]:
    roles = tuple(dict.fromkeys(line.role for line in rest))
    others = tuple(role for role in roles if not before or role != before[-1].role)
    return others or roles


def _rounds(lines: Sequence[Line]) -> list[list[Line]]:
    rounds: dict[int, list[Line]] = {}
    for line in lines:
        rounds.setdefault(line.round, []).append(line)
    return list(rounds.values())


def picked(answer: str, allowed: Sequence[str], participants: Sequence[Participant]) -> str | None:
    """The role that a moderator names, by itself or by its label; None when he names nobody who may speak, or several.

    A label counts where only one of those who may speak has it, and a role has its name before any label.
    """
    if not answer:
        return None
    labels = {p.role: p.label for p in participants}
    # The longest first, and of those who may not speak as well: `opus-4` is not named where `opus-4.6` is.
    names = sorted({*labels, *labels.values()}, key=lambda name: (-len(name), name))
    sought = "|".join(f"({re.escape(name)})" for name in names)
    named: set[str] = set()
    for found in re.finditer(rf"(?<![\w-])(?:{sought})(?![\w-])", answer, flags=re.IGNORECASE):
        name = names[(found.lastindex or 1) - 1].casefold()
        roles = {role for role in allowed if role.casefold() == name}
        labelled = {role for role in allowed if labels[role].casefold() == name}
        named |= roles or (labelled if len(labelled) == 1 else set())
    return named.pop() if len(named) == 1 else None


class Perspective:
    """What one role is shown when it is its turn, without so many of the oldest lines; it grows line by line.

    With the same lines taken it shows the same, whenever they were.
    """

    def __init__(self, conversation: Conversation, role: str, left_out: int = 0) -> None:
        self.taken = left_out
        """How many lines it has taken, those among them that are left out."""
        self.left_out = left_out
        self._role = role
        self._tagged = len({line.role for line in conversation.lines}) > 2
        system = conversation.participant(role).system
        self._system = system if has_text(system) else None
        self._messages: list[Message] = []
        self._heard = [text for text in (conversation.context, conversation.opening) if text and has_text(text)]
        if left_out:
            self._heard.append(LEFT_OUT)

    def take(self, line: Line, text: str, thought: str | None = None) -> None:
        """The next line was said; `thought` is what the role thought at a line of its own, where it is shown that."""
        self.taken += 1
        if line.role == self._role:
            self._messages += (self._asked(line.instruct), Message("assistant", text, thought))
            self._heard = []
        else:
            self._heard.append(f"{line.role}: {text}" if self._tagged else text)

    def view(self, instruct: str | None) -> View:
        """What it is shown now."""
        return View(self._system, (*self._messages, self._asked(instruct)))

    def _asked(self, instruct: str | None) -> Message:
        """What stands before a line of its own."""
        texts = [*self._heard, instruct] if instruct and has_text(instruct) else self._heard
        return Message("user", "\n\n".join(texts) if texts else GO_ON if self._messages else BEGINS)


def view(conversation: Conversation, role: str, history: Sequence[str], instruct: str | None) -> View:
    """What `role` is shown when it is its turn after `history`."""
    shown = Perspective(conversation, role)
    for line, text in zip(conversation.lines, history, strict=False):
        shown.take(line, text)
    return shown.view(instruct)


def aside_view(conversation: Conversation, aside: Aside, history: Sequence[str]) -> View:
    """What somebody is shown who is asked about the conversation: all that was said, and below it the question."""
    names = {p.role: p.label for p in conversation.participants}
    if aside.kind == "pick" or len(set(names.values())) < len(names):
        names = {p.role: with_role(p) for p in conversation.participants}
    parts = [text for text in (conversation.context, conversation.opening) if text is not None and has_text(text)]
    for line, text in zip(conversation.lines, history, strict=False):
        parts.append(f"[{line.number}] {names[line.role]}:\n{text}")
    parts.append(aside.prompt)
    if aside.kind == "pick":
        parts.append(next_may_speak([names[role] for role in may_speak(conversation, len(history) + 1)]))
    system = aside.by.system
    return View(system if has_text(system) else None, (Message("user", "\n\n".join(parts)),))


def with_role(one: Participant) -> str:
    """The label of a side, with its role where that is another name."""
    return one.role if one.label == one.role else f"{one.label} ({one.role})"


def next_may_speak(names: Sequence[str]) -> str:
    """What stands below the question to a moderator."""
    return f"Next may speak: {', '.join(names)}. Answer with one name."


@value(frozen=True, slots=True)
class Floor:
    """Somebody whose turn it is: who, at which line, and what is shown."""

    cell: str
    """The id under which the journal keeps the call."""
    turn: int
    speaker: Participant
    view: View
    left_out: int = 0


def call_for(
    conversation: Conversation,
    who: Floor,
    attempt: int,
    max_tokens: int,
    dropped: tuple[str, ...],
    rates: Rates | None = None,
) -> Call:
    """The call that asks somebody whose turn it is: the same one whenever and wherever it is made."""
    seed = None
    if conversation.send_seed is not None:
        text = f"{conversation.send_seed}:{who.cell}:{who.turn}:{attempt}"
        seed = int.from_bytes(sha256(text.encode()).digest()[:4]) >> 1
    return Call(
        cell=who.cell,
        turn=who.turn,
        attempt=attempt,
        provider=who.speaker.provider,
        model=who.speaker.model,
        view=who.view,
        max_tokens=max_tokens,
        sampling=who.speaker.sampling,
        seed=seed,
        dropped=dropped,
        timeouts=who.speaker.timeouts,
        reasoning=who.speaker.reasoning,
        window=who.speaker.context,
        extra=who.speaker.extra,
        rates=rates,
    )


def floor_of(conversation: Conversation, aside: Aside, history: Sequence[str]) -> Floor:
    """Whose turn it is when somebody is asked about the conversation: a moderator before a line, others after one."""
    turn = len(history) + (aside.kind == "pick")
    return Floor(aside.id, turn, aside.by, aside_view(conversation, aside, history))


def has_nothing_to_read(first: Line, context: str | None, opening: str | None) -> bool:
    """True when the first speaker is live and would be shown nothing but its system text."""
    return first.given is None and not any(has_text(t) for t in (context, opening, first.instruct))


# --- what it came to ---------------------------------------------------------------------------------------------


@value(frozen=True, slots=True)
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
    title: str | None = None
    """What an observer has called it."""
    weighed: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The figures by which the rules that stop a conversation judged it, by the rules' names."""
    carried: bool = False
    """True when it was said in the conversation that this one goes on with."""
    left_out: int = 0
    """How many of the oldest lines its speaker was not shown."""
    heard: str | None = None
    """Where its text came from, when nobody generated it in this run: an inbox, an imported file."""
    pace: float | None = None
    """Output per second as the source of the text tells it."""
    asked: tuple[Note, ...] = ()
    """What those made of it who were asked whose turn it is, or after it whether that was the end."""

    @property
    def tokens_per_second(self) -> float | None:
        """Output per second of generation, from the first byte on; None where it cannot be told."""
        if self.pace is not None:
            return self.pace
        if not self.usage.output or self.seconds is None:
            return None
        generating = self.seconds - (self.first_byte or 0.0)
        # An answer that came in one piece was written before its first byte came.
        return self.usage.output / generating if generating * _FASTEST > self.usage.output else None


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody who listens made of a conversation, or why nothing."""

    kind: AsideKind
    heading: str
    observer: str | None
    """The label of its model; of one who has no model here, its name."""
    alias: str | None
    provider: str | None
    model: str | None
    status: Status
    reason: str | None = None
    text: str | None = None
    """What it wrote; None when it has written nothing that counts."""
    data: Any = None
    """Titles and scores, parsed and checked; the role that was named, or whether the vote was for the end."""
    usage: Usage = Usage()
    cost: Nanos | None = None
    cost_source: Literal["reported", "priced", "unknown"] | None = None
    seconds: float | None = None
    attempts: int = 0
    spent: Nanos = 0
    """Of who comments on the whole: all attempts. Of who was passed over: those without an answer."""
    request: str | None = None
    error: Mapping[str, Any] | None = None
    heard: str | None = None
    """Where its text came from, when nobody wrote it in this run."""


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
    """All attempts together, settled and still assumed; what observers cost after the end is not in it."""
    assumed: Nanos = 0
    """The part of it that nobody knows better than the reservations."""
    started: float | None = None
    ended: float | None = None
    dated: bool = False
    """True where a file that was imported tells when it began, perhaps by the day alone."""
    error: Mapping[str, Any] | None = None
    notes: tuple[Note, ...] = ()
    look: Look = Look()
    zone: str = "UTC"
    """The zone in which local times are shown."""
    origin: Origin | None = None

    @property
    def done(self) -> tuple[Turn, ...]:
        """The turns that were said."""
        return tuple(t for t in self.turns if t.text is not None)

    @property
    def seconds(self) -> float | None:
        """How long it took; None where nobody knows."""
        return None if self.dated or self.started is None or self.ended is None else self.ended - self.started

    @property
    def truncated(self) -> int:
        return sum(t.outcome == "truncated" for t in self.turns)

    @property
    def refused(self) -> int:
        return sum(t.outcome == "refused" for t in self.turns)
