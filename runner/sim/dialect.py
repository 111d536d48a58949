"""What a dialect of the built-in provider is, and what all dialects have in common.

A dialect reads a request whole before anything else looks at it, and writes what the engine has decided: an answer in a
few pieces of a stream or in one body, and troubles in its vendor's own words. It decides nothing itself.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import formatdate
from enum import Enum
from math import inf, isfinite
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote

import orjson

from runner.sim.bill import Charge
from runner.sim.config import Latency, ModelConfig, RetryForm, ThoughtField, UsageForm
from runner.sim.meter import Room
from runner.sim.replies import count_tokens

_TOKENS_PER_MESSAGE: Final = 4
"""What a chat template adds around each message."""
_BYTES_PER_TOKEN: Final = 4
_TOKENS_PER_PIECE: Final = 16
_MOST_TOKENS: Final = 1_000_000
_FEWEST_PIECES: Final = 3
_MOST_PIECES: Final = 24
_HUGE: Final = 10**18

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SimRequest:
    """A request as it arrived: the path with its query; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def route(self) -> str:
        return unquote(self.path.partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.path.partition("?")[2]))


class Mark(Enum):
    """What may happen to a connection instead of bytes."""

    END = "the answer is over"
    CUT = "the connection is reset"
    STALL = "nothing more comes until the client leaves"
    REFUSED = "the connection was never made"


class Piece(NamedTuple):
    """One thing that happens `at` so many seconds after the request came; empty bytes are the headers alone."""

    at: float
    what: bytes | Mark


# --- troubles ----------------------------------------------------------------------------------------------------

Why: TypeAlias = Literal[
    "invalid",
    "url",
    "method",
    "no_record",
    "unauthorized",
    "no_money",
    "afford",
    "forbidden",
    "not_found",
    "context_length",
    "parameter",
    "too_dear",
    "busy",
    "quota",
    "day",
    "spend",
    "too_large",
    "unprocessable",
    "moderated",
    "loading",
    "server",
    "redirect",
]


class Hint(NamedTuple):
    """When to come again, in the form that was asked for; a text goes out as it is."""

    value: str | float
    form: RetryForm = "seconds"
    wall: float = 0.0
    """The wall clock at the request."""

    @property
    def word(self) -> str:
        """The seconds as a header says them."""
        value = self.value
        if isinstance(value, str):
            return value
        return str(int(value)) if isfinite(value) and value == int(value) else str(value)

    @property
    def seconds(self) -> float | None:
        """None when it is no time."""
        try:
            value = float(self.value)
        except ValueError:
            return None
        return value if isfinite(value) else None

    def headers(self) -> Headers:
        if not isinstance(self.value, str) and self.form == "date":
            return (("retry-after", formatdate(self.wall + self.value, usegmt=True)),)
        if not isinstance(self.value, str) and self.form == "ms":
            return (("retry-after-ms", str(int(self.value * 1000))),)
        return (("retry-after", self.word),)


class Trouble(NamedTuple):
    """Why there is no answer, before a vendor finds its words for it."""

    why: Why
    message: str
    status: int = 0
    """Where `why` alone does not say it."""
    param: str | None = None
    code: str | None = None
    limit: str | None = None
    """Which of the limits is in the way."""
    hint: Hint | None = None
    rooms: tuple[Room, ...] = ()
    should_retry: bool | None = None
    """What the vendor itself advises, where it does."""
    most: int = 0
    """The figure that it is about: the size of the window, or how much output could be paid."""
    headers: Headers = ()
    wall: float = 0.0

    @property
    def hinted(self) -> Headers:
        return () if self.hint is None else self.hint.headers()

    @property
    def advised(self) -> Headers:
        return () if self.should_retry is None else (("x-should-retry", str(self.should_retry).lower()),)


class Error(NamedTuple):
    """A refusal as it goes out."""

    status: int
    body: bytes
    headers: Headers = ()
    content_type: str = "application/json"


class Bad(Exception):
    """A request that is not in order."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.trouble = Trouble("invalid", message, param=param, code=code)


class Warming(Exception):
    """A request that asks for no word, only that a model be put into memory, or out of it."""

    def __init__(self, model: str, window: int, stays: bool, body: bytes) -> None:
        super().__init__(model)
        self.model = model
        self.window = window
        self.stays = stays
        self.body = body
        """The answer."""


# --- requests ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is in order."""

    model: str
    texts: tuple[tuple[str, str], ...]
    """Role and text of each message, the system text first."""
    max_tokens: int
    stream: bool
    include_usage: bool
    fields: frozenset[str]
    """The names of all that was sent."""
    input_tokens: int
    last_tokens: int
    """Those of the last message."""
    digest: bytes
    """Of the model and the messages, and of nothing else."""
    stops: tuple[str, ...] = ()
    most_thinking: int | None = None
    """How many tokens of thinking were allowed; None leaves it to the model, 0 turns it off."""
    shows_thinking: bool = True
    stored: bool = False
    """Whether the answer is kept to be looked up."""
    window: int | None = None
    """How many tokens of context were asked for."""
    cuts: Literal["oldest", "middle"] | None = None
    """What is left out, without a word, of what does not fit; None refuses it."""
    counts_output: bool = True
    """Whether the output must fit the window beside the input before anything begins."""
    shifts: bool = True
    """Whether old tokens make room for the output; if not, it ends where the window does."""
    pays: tuple[float, float] = (inf, inf)
    """The most that a token of the input and of the output may cost, in dollars per million."""


def asked(
    model: str,
    texts: Sequence[tuple[str, str]],
    max_tokens: int,
    stream: bool,
    fields: frozenset[str],
    **habits: Any,
) -> Asked:
    """A request, its tokens counted and its digest taken."""
    rows = tuple(texts)
    counts = [count_tokens(text) + _TOKENS_PER_MESSAGE for _, text in rows]
    digest = hashlib.sha256(orjson.dumps((model, rows))).digest()
    return Asked(
        model=model,
        texts=rows,
        max_tokens=max_tokens,
        stream=stream,
        include_usage=habits.pop("include_usage", True),
        fields=fields,
        input_tokens=sum(counts),
        last_tokens=counts[-1],
        digest=digest,
        **habits,
    )


def shortened(whole: Asked, room: int) -> Asked:
    """What a model reads of a request that is too long, when nobody is told: without its oldest messages, or without
    those in the middle; and of one last message that is still too long, as much as fills half of the room."""
    system = [row for row in whole.texts if row[0] in ("system", "developer")]
    rest = [row for row in whole.texts if row[0] not in ("system", "developer")]
    found = whole
    while found.input_tokens > room and len(rest) > 1:
        del rest[0 if whole.cuts == "oldest" else (len(rest) - 1) // 2]
        found = _of_texts(whole, (*system, *rest))
    if found.input_tokens > room:
        half = room // 2 + 2
        role, text = rest[-1]
        kept = text.encode("utf-8", "surrogatepass")[-half * _BYTES_PER_TOKEN :].decode("utf-8", "ignore")
        found = replace(_of_texts(whole, ((role, kept or " "),)), input_tokens=half, last_tokens=half)
    return found


def _of_texts(whole: Asked, texts: tuple[tuple[str, str], ...]) -> Asked:
    counts = [count_tokens(text) + _TOKENS_PER_MESSAGE for _, text in texts]
    return replace(whole, texts=texts, input_tokens=sum(counts), last_tokens=counts[-1])


# What reads one part of a request, and says what is wrong with it.


def json_object(body: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Bad(f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(data, dict):
        raise Bad("The body of a request is a JSON object.")
    return data


def table(
    data: Mapping[str, Any], name: str, allowed: frozenset[str] | None = None, inside: str = ""
) -> dict[str, Any]:
    """The object under a name, empty when there is none."""
    found = data.get(name, {})
    if not isinstance(found, dict):
        raise Bad(f"Invalid '{inside}{name}': expected an object.", f"{inside}{name}")
    if allowed is not None:
        only(found, allowed, f"{inside}{name}.")
    return found


def only(data: Mapping[str, Any], allowed: frozenset[str], inside: str = "") -> None:
    for name in data:
        if name not in allowed:
            raise Bad(f"Unrecognized request argument supplied: {inside}{name}", f"{inside}{name}")


def in_range(data: Mapping[str, Any], name: str, low: float, high: float) -> None:
    value = data.get(name)
    if name in data and (isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high):
        raise Bad(f"Invalid '{name}': expected a number from {low:g} to {high:g}.", name)


def whole_number(value: object, name: str, least: int, most: int = _MOST_TOKENS) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise Bad(f"Invalid '{name}': expected an integer of at least {least}.", name, "integer_below_min_value")
    if value > most:
        raise Bad(f"Invalid '{name}': at most {most} tokens are supported.", name)
    return value


def integer(data: Mapping[str, Any], name: str) -> None:
    if name in data and (isinstance(data[name], bool) or not isinstance(data[name], int)):
        raise Bad(f"Invalid '{name}': expected an integer.", name)


def flag(data: Mapping[str, Any], name: str, default: bool) -> bool:
    value = data.get(name, default)
    if not isinstance(value, bool):
        raise Bad(f"Invalid '{name}': expected a boolean.", name)
    return value


def stop_texts(data: Mapping[str, Any], name: str, most: int) -> tuple[str, ...]:
    """The texts at which an answer ends."""
    value = data.get(name, [])
    rows = [value] if isinstance(value, str) else value
    if not isinstance(rows, list) or not all(isinstance(row, str) and row for row in rows):
        raise Bad(f"Invalid '{name}': expected texts that are not empty.", name)
    if len(rows) > most:
        raise Bad(f"Invalid '{name}': at most {most} are supported.", name)
    return tuple(rows)


_SHARES: Final = {"none": 0.0, "minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95, "max": 0.95}
"""How much of an answer a model may think, by its effort."""


def effort(value: object, name: str, max_tokens: int, words: Sequence[str] = tuple(_SHARES)) -> int | None:
    """The most tokens of thinking that an effort allows; None leaves it to the model."""
    if not isinstance(value, str) or value not in words:
        raise Bad(f"Invalid '{name}': expected one of {', '.join(words)}.", name)
    return int(_SHARES[value] * max_tokens) if value in _SHARES else None


# --- answers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said back, in full, before it is cut into pieces."""

    id: str
    created: int
    model: str
    text: str | None
    finish: str
    """`stop`, `length`, `content_filter` or `error`; anything else is a word that no client knows."""
    output_tokens: int
    told: Charge
    """The figures as the answer has them."""
    pace: Latency
    """Of this answer, its spread drawn."""
    reasoning: str = ""
    reasoning_tokens: int = 0
    reasoning_field: ThoughtField | None = None
    shows_thinking: bool = True
    refusal: str | None = None
    stopped_at: str | None = None
    """Which of the texts to stop at was met."""
    failed: Trouble | None = None
    """Why it ended with a finish reason `error`."""
    usage_form: UsageForm | None = None
    """How its figures are bent; None leaves them true."""
    has_usage: bool = True
    reports_cost: bool = False
    byok: bool = False
    blank: bool = False
    """Whether nothing at all was said."""
    replayed: bool = False

    @property
    def seconds(self) -> float:
        return self.pace.first + self.pace.per_token * self.output_tokens

    def usage(self, figures: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Figures as the answer shall have them; what is bent is bent in every number."""
        if self.usage_form in ("missing", "null"):
            return None
        return figures if self.usage_form is None else _bent(figures, self.usage_form)

    @property
    def silent(self) -> bool:
        """Whether there is no usage at all, not even an empty one."""
        return not self.has_usage or self.usage_form == "missing"


_UNBENT: Final = frozenset(("cost", "cost_details", "is_byok", "promptTokensDetails"))


def _bent(usage: Mapping[str, Any], form: str) -> dict[str, Any]:
    """The usage object with token counts that nobody should believe."""
    bent: dict[str, Any] = {}
    for name, value in usage.items():
        if name in _UNBENT or value is None:
            bent[name] = value
        elif isinstance(value, dict):
            bent[name] = _bent(value, form)
        else:
            forms = {"strings": str(value), "floats": value + 0.5, "negative": -value - 1, "huge": _HUGE}
            bent[name] = forms.get(form, 0)
    return bent


class Part(NamedTuple):
    """A piece of what is said, before it is written."""

    at: float
    channel: Literal["thought", "text", "refusal"]
    text: str


def parts(answer: Answer) -> list[Part]:
    """The answer in the pieces in which it is produced."""
    found: list[Part] = []
    visible = answer.output_tokens - answer.reasoning_tokens
    before = 0
    channels: tuple[tuple[Literal["thought", "text", "refusal"], str, int], ...] = (
        ("thought", answer.reasoning if answer.shows_thinking else "", answer.reasoning_tokens),
        ("text", answer.text or "", visible if answer.text else 0),
        ("refusal", answer.refusal or "", visible if answer.refusal else 0),
    )
    for channel, text, tokens in channels:
        count = min(len(text), max(_FEWEST_PIECES, min(_MOST_PIECES, tokens // _TOKENS_PER_PIECE)))
        for number in range(count):
            part = text[number * len(text) // count : (number + 1) * len(text) // count]
            produced = before + tokens * (number + 1) // count
            found.append(Part(answer.pace.first + answer.pace.per_token * produced, channel, part))
        before += tokens
    return found


class Written(NamedTuple):
    """An answer in pieces: comments and pieces of text, then all that closes it, at once."""

    comments: tuple[Piece, ...]
    pieces: tuple[Piece, ...]
    tail: bytes
    ends: float


def comments(pace: Latency, comment: bytes, opening: bytes = b"") -> tuple[Piece, ...]:
    """What is sent while nothing has come; `opening` goes before the first."""
    if not pace.keep_alive or not comment:
        return ()
    count = int(pace.first / pace.keep_alive)
    times = [at for number in range(count) if (at := pace.keep_alive * (number + 1)) < pace.first]
    return tuple(Piece(at, comment if number else opening + comment) for number, at in enumerate(times))


def json_bytes(value: object) -> bytes:
    """JSON; a lone surrogate, which only `json` can write, is escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def event(name: str, data: Mapping[str, Any]) -> bytes:
    """A named event, its type in its data, too."""
    return b"event: " + name.encode() + b"\ndata: " + json_bytes({"type": name, **data}) + b"\n\n"


def timestamp(seconds: float) -> str:
    """A moment as RFC 3339 says it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# --- the seam ----------------------------------------------------------------------------------------------------


class Record(NamedTuple):
    """What a provider keeps of a call that is over."""

    id: str
    model: str
    charge: Charge
    finish: str
    text: str | None
    created: float
    left: bool
    """Whether the client went before the end."""
    byok: bool
    stream: bool


class Balance(NamedTuple):
    """What a key has spent, and may still spend."""

    spent: int
    left: int | None
    """Nano-dollars; None when there is no end to it."""


class Resident(NamedTuple):
    """A model that is in memory."""

    name: str
    config: ModelConfig
    window: int | None
    until: float
    """On the wall clock."""


class Dialect(ABC):
    """A vendor's way of reading requests and writing answers. What has a default here may be left out."""

    prefix: str = "gen-"
    """What the ids of its answers begin with."""
    stream_type: str = "text/event-stream"
    comment: bytes = b": keep-alive\n\n"
    """What is sent to keep a stream open."""
    idle: bytes = b""
    """The same before an answer that comes whole."""
    end: bytes = b""
    """What says that a stream is over, where something does."""
    torn: bytes = b""
    """A piece of a stream that no parser takes."""
    bills_refusals: bool = True
    """Whether a refusal without a word of an answer costs something."""

    def key(self, headers: Mapping[str, str]) -> str:
        """The key that a request shows."""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return key if scheme.lower() == "bearer" else ""

    @abstractmethod
    def read(self, request: SimRequest) -> Asked:
        """The request; raises Bad when it is none, and Warming when no answer is asked for."""

    @abstractmethod
    def plain(self, answer: Answer) -> bytes:
        """The answer as one body."""

    @abstractmethod
    def stream(self, answer: Answer, include_usage: bool) -> Written: ...

    @abstractmethod
    def error(self, trouble: Trouble, about: Asked | None) -> Error: ...

    @abstractmethod
    def error_within(self, answer: Answer, trouble: Trouble, stream: bool) -> bytes:
        """A failure after the status 200."""

    def last(self, tail: bytes) -> bytes:
        """The end of a stream's tail that says that it is over."""
        return self.end

    def headers(self, number: int, answer: Answer | None, rooms: tuple[Room, ...], wall: float) -> Headers:
        """What goes out with an answer of any status; there is no `answer` to what is refused."""
        return (("x-request-id", f"req-{number}"),)

    def models(self, rows: Mapping[str, ModelConfig], created: int) -> bytes | None:
        """The list of models; None where there is none to be had."""
        return None

    def model(self, name: str, config: ModelConfig, created: int) -> bytes | None:
        """One of them."""
        return None

    def record(self, kept: Record) -> bytes | None:
        """What a look-up of an earlier call says; None where nothing can be looked up."""
        return None

    def resident(self, loaded: Sequence[Resident], rows: Mapping[str, ModelConfig]) -> bytes | None:
        """What is in memory, of all that there is; None where nobody says."""
        return None

    def account(self, about: Balance) -> bytes | None:
        """What an account has left; None where nobody says."""
        return None
