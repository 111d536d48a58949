"""One call to one model: what is asked, and the closed set of what can come back.

A `Reply` has text that a person could read; it cannot be made without. Everything else is a `Failure`, which
says how far the trouble reaches (`scope`) and what became of the money (`money`). Unknown figures are None, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from runner.money import Nanos

Finish: TypeAlias = Literal["ok", "truncated", "refused"]
Kind: TypeAlias = Literal["refused", "empty", "context_cut", "error", "lost"]
Scope: TypeAlias = Literal["call", "conversation", "model", "provider"]
Money: TypeAlias = Literal["free", "known", "assumed"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a view; a speaker's own lines are `assistant`, all else is `user`."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect, to the first data, between two pieces of data, and in all."""

    connect: float = 30.0
    first: float = 600.0
    idle: float = 120.0
    total: float = 1800.0


@dataclass(frozen=True, slots=True)
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
    timeouts: Timeouts = Timeouts()

    @property
    def id(self) -> str:
        return f"{self.cell}:{self.turn}:{self.attempt}"


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer: what happened, how far it reaches, and what became of the money."""

    kind: Kind
    scope: Scope
    money: Money
    detail: str
    retry_after: float | None = None
    busy: bool = False
    """A limit of the minute kind: the lane pauses, and no attempt is spent."""
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


@dataclass(frozen=True, slots=True)
class Hints:
    """What an answer's headers say of the provider's limits; None where they say nothing."""

    requests_left: int | None = None
    requests_reset: float | None = None
    """Seconds until all requests are left again."""
    tokens_left: int | None = None
    tokens_reset: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a transport returns: the outcome, and what was learned about limits on the way."""

    outcome: Outcome
    hints: Hints = field(default_factory=Hints)


class Transport(Protocol):
    """Carries a call to its provider. `started` is told the provider's id at the first byte."""

    def body(self, call: Call) -> bytes:
        """The exact bytes that `send` would send: the same call gives the same bytes in any process."""
        ...

    def dialect(self, call: Call) -> str:
        """The dialect and its revision, as the journal names them: `openai/1`."""
        ...

    async def send(self, call: Call, started: Callable[[str], None]) -> Answer: ...


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
