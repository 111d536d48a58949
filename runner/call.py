"""One call to one model: what is asked, and the closed set of what can come back.

A `Reply` has text that a person could read; it cannot be made without. Everything else is a `Failure`, which
says how far the trouble reaches (`scope`) and what became of the money (`money`). Unknown figures are None, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from re import DOTALL
from re import compile as pattern
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias

from runner.money import Nanos, Rates
from runner.value import value

Finish: TypeAlias = Literal["ok", "truncated", "refused"]
Kind: TypeAlias = Literal["refused", "empty", "context_cut", "error", "lost"]
Scope: TypeAlias = Literal["call", "conversation", "model", "provider"]
Money: TypeAlias = Literal["free", "known", "assumed"]
Effort: TypeAlias = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

FEWEST_TOKENS_PER_BYTE: Final = 1 / 24
"""A provider that counts fewer tokens than this cannot be counting the text that was sent, or that came."""
_UNCOUNTED: Final = 8
"""In a short text the few tokens that it has may all be long ones."""
_ALIKE: Final = pattern(r"(.)\1{7,}", DOTALL)
"""A run of one character, of which a token may hold any number."""


@value(frozen=True, slots=True)
class Message:
    """One message of a view; a speaker's own lines are `assistant`, all else is `user`."""

    role: Literal["user", "assistant"]
    text: str
    reasoning: str | None = None
    """What the speaker thought before a line of its own, where it is to be told that again."""


@value(frozen=True, slots=True)
class View:
    """What one speaker is shown: its system text, and messages that alternate and end with `user`."""

    system: str | None
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters; None leaves the provider's default and sends nothing."""

    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    """Texts at which the model is to stop; they are not part of its answer."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """How much a model may think before it speaks; what is None is left to the provider."""

    effort: Effort | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first data, between two pieces of data, and in all."""

    connect: float = 30.0
    first: float = 600.0
    idle: float = 120.0
    total: float = 1800.0


@value(frozen=True, slots=True)
class Call:
    """One attempt at one turn: everything that decides the bytes sent, and nothing that does not."""

    cell: str
    turn: int
    attempt: int
    provider: str
    model: str
    view: View
    max_tokens: int
    sampling: Sampling = Sampling()
    seed: int | None = None
    dropped: tuple[str, ...] = ()
    """Parameters that this model has refused, by their names in its dialect: they are not sent again."""
    timeouts: Timeouts = Timeouts()
    reasoning: Reasoning = Reasoning()
    window: int | None = None
    """How many tokens the model is to have room for, where a server must be told."""
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of the request that the job gives as they are: routing, tiers, whatever a provider knows besides."""
    rates: Rates | None = None
    """What its money is reserved at, where a provider takes it as the most that its routing may choose."""

    @property
    def id(self) -> str:
        return f"{self.cell}:{self.turn}:{self.attempt}"


@value(frozen=True, slots=True)
class Usage:
    """Tokens as the provider counted them: `input` includes cached tokens, `output` includes reasoning."""

    input: int | None = None
    output: int | None = None
    reasoning: int | None = None
    cached_read: int | None = None
    cached_write: int | None = None
    cost: Nanos | None = None
    """What the provider itself says the call cost."""
    trusted: bool = True
    """False when a figure was absurd (negative, huge, zero beside text): the reservation stays charged."""
    raw: Mapping[str, Any] | None = None
    """The provider's usage object, verbatim."""
    hearsay: bool = False
    """True where its `cost` is told by a server that is not known to tell costs."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with visible text."""

    text: str
    finish: Finish
    usage: Usage = Usage()
    reasoning: str | None = None
    model: str | None = None
    upstream: str | None = None
    generation: str | None = None
    stop: str | None = None
    """The provider's own word for why it ended."""
    first_byte: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if not has_text(self.text):
            raise ValueError("a reply without visible text is a failure, not a reply")


@value(frozen=True, slots=True)
class Failure:
    """No answer: what happened, how far it reaches, and what became of the money."""

    kind: Kind
    scope: Scope
    money: Money
    detail: str
    retry_after: float | None = None
    busy: bool = False
    """A limit that time lifts: the lane pauses, and no attempt is spent."""
    quota: Literal["day", "credit"] | None = None
    """Which limit it was that no pause of a minute lifts: one of the day, or the account is empty."""
    overflow: bool = False
    """The view does not fit the model's window."""
    parameter: str | None = None
    """The one request parameter that the model refuses; it is dropped once and the call made again."""
    status: int | None = None
    usage: Usage = Usage()
    partial: str | None = None
    reasoning: str | None = None
    generation: str | None = None
    model: str | None = None
    upstream: str | None = None
    stop: str | None = None
    first_byte: float | None = None
    seconds: float | None = None


Outcome: TypeAlias = Reply | Failure


class Left(NamedTuple):
    """What an answer's headers say of one limit; None where they say nothing."""

    counts: Literal["requests", "tokens", "input", "output"]
    window: Literal["minute", "day"]
    left: int | None
    most: int | None = None
    """How many the whole limit is."""
    reset: float | None = None
    """Seconds until all of them are left again."""


Hints: TypeAlias = tuple[Left, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a transport returns: the outcome, and what was learned about limits on the way."""

    outcome: Outcome
    hints: Hints = ()


class Found(NamedTuple):
    """What a provider knows of an earlier call."""

    cost: Nanos | None
    """What it says that it charged."""
    input: int | None = None
    output: int | None = None
    cached_read: int | None = None


class Transport(Protocol):
    """Carries a call to its provider."""

    def body(self, call: Call) -> bytes:
        """The bytes to send for a call: the same call gives the same bytes in any process."""
        ...

    def dialect(self, call: Call) -> str:
        """The dialect and its revision, as the journal names them: `openai/1`."""
        ...

    async def send(self, call: Call, body: bytes, started: Callable[[str], None]) -> Answer:
        """Send exactly these bytes; `started` is told the provider's id at the first byte of the answer."""
        ...

    def looks_up(self, provider: str, extra: Mapping[str, Any]) -> bool:
        """True when a provider can be asked what became of a call with these fields besides."""
        ...

    async def look_up(self, provider: str, generation: str, extra: Mapping[str, Any]) -> Found | None:
        """What the provider says of a call; None when it says nothing that could be relied on."""
        ...


# A table of our own: what Unicode calls white space or ignorable changes with the version of Python, and with it the
# same answer would be a reply here and a failure there. Braille's blank and Hangul's fillers are letters by name only.
_INVISIBLE = frozenset("\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u2800\u3000\u3164\ufeff\uffa0") | {
    chr(point)
    for low, high in (
        (0x00, 0x20),
        (0x7F, 0xA0),
        (0x180B, 0x180F),
        (0x2000, 0x200F),
        (0x2028, 0x202F),
        (0x205F, 0x206F),
        (0xD800, 0xDFFF),
        (0xFE00, 0xFE0F),
        (0xFFF0, 0xFFFB),
        (0xFFFE, 0xFFFF),
        (0x1BCA0, 0x1BCA3),
        (0x1D173, 0x1D17A),
        (0xE0000, 0xE0FFF),
    )
    for point in range(low, high + 1)
}


def has_text(text: str | None) -> bool:
    """True when a reader would see something: white space, controls and zero-width characters are nothing."""
    return text is not None and not _INVISIBLE.issuperset(text)


def fewest_tokens(*texts: str | None) -> int:
    """So many tokens these texts have at least, whoever counts: none only where there is nothing."""
    said = _ALIKE.sub(r"\1", "".join(text for text in texts if text))
    size = len(said.encode("utf-8", "surrogatepass"))
    return max(int(size > 0), int(size * FEWEST_TOKENS_PER_BYTE) - _UNCOUNTED)
