"""The chat-completions format as a strict server reads and writes it.

A request is checked whole before anything else looks at it; an answer is a few pieces of a stream, or one JSON body.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

import orjson

from runner.sim.config import Latency, ThoughtField
from runner.sim.replies import count_tokens

_TOKENS_PER_MESSAGE: Final = 4
"""What a chat template adds around each message."""
_TOKENS_PER_PIECE: Final = 16
_MOST_TOKENS: Final = 1_000_000
_FEWEST_PIECES: Final = 3
_MOST_PIECES: Final = 24
_FIELDS: Final = frozenset(
    (
        *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "presence_penalty"),
        *("frequency_penalty", "seed", "stream", "stream_options", "n", "user", "metadata"),
    )
)
_RANGES: Final = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}

Headers = tuple[tuple[str, str], ...]


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


class Error(NamedTuple):
    """A refusal in the format's own words."""

    status: int
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Headers = ()

    def object(self) -> dict[str, Any]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    def body(self) -> bytes:
        return orjson.dumps({"error": self.object()})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that is in order."""

    model: str
    texts: tuple[tuple[str, str], ...]
    """Role and text of each message."""
    max_tokens: int
    stream: bool
    include_usage: bool
    fields: frozenset[str]
    input_tokens: int
    last_tokens: int
    """Those of the last message."""
    digest: bytes
    """Of the model and the messages, and of nothing else."""


class _Bad(Exception):
    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.error = Error(400, message, param=param, code=code)


def read(body: bytes) -> Asked | Error:
    """The request in a body, or why it is none."""
    try:
        return _read(body)
    except _Bad as bad:
        return bad.error


def _read(body: bytes) -> Asked:
    try:
        data = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _Bad(f"We could not parse the JSON body of your request: {error}") from None
    if not isinstance(data, dict):
        raise _Bad("The body of a request is a JSON object.")
    for name in data:
        if name not in _FIELDS:
            raise _Bad(f"Unrecognized request argument supplied: {name}", name)
    model = data.get("model")
    if not isinstance(model, str) or not model:
        raise _Bad("You must provide a model parameter.", "model")
    texts = _messages(data.get("messages"))
    counts = [count_tokens(text) + _TOKENS_PER_MESSAGE for _, text in texts]
    stream, include_usage = _streaming(data)
    for name, (low, high) in _RANGES.items():
        value = data.get(name)
        if name in data and (isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high):
            raise _Bad(f"Invalid '{name}': expected a number from {low:g} to {high:g}.", name)
    if "seed" in data and (isinstance(data["seed"], bool) or not isinstance(data["seed"], int)):
        raise _Bad("Invalid 'seed': expected an integer.", "seed")
    if data.get("n", 1) != 1:
        raise _Bad("Invalid 'n': this server gives one choice.", "n")
    return Asked(
        model,
        texts,
        _max_tokens(data),
        stream,
        include_usage,
        frozenset(data),
        sum(counts),
        counts[-1],
        hashlib.sha256(orjson.dumps((model, texts))).digest(),
    )


def _streaming(data: Mapping[str, Any]) -> tuple[bool, bool]:
    stream = data.get("stream", False)
    if not isinstance(stream, bool):
        raise _Bad("Invalid 'stream': expected a boolean.", "stream")
    if "stream_options" not in data:
        return stream, False
    options = data["stream_options"]
    if not stream:
        raise _Bad("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if not isinstance(options, dict) or not isinstance(options.get("include_usage", False), bool):
        raise _Bad("Invalid 'stream_options': expected an object with 'include_usage'.", "stream_options")
    return stream, options.get("include_usage", False)


def _max_tokens(data: Mapping[str, Any]) -> int:
    given = [name for name in ("max_tokens", "max_completion_tokens") if name in data]
    if len(given) != 1:
        raise _Bad("Set exactly one of 'max_tokens' and 'max_completion_tokens'.", "max_tokens")
    value = data[given[0]]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _Bad(f"Invalid '{given[0]}': expected an integer of at least 1.", given[0], "integer_below_min_value")
    if value > _MOST_TOKENS:
        raise _Bad(f"Invalid '{given[0]}': at most {_MOST_TOKENS} tokens are supported.", given[0])
    return value


def _messages(messages: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(messages, list) or not messages:
        raise _Bad("Invalid 'messages': expected a list that is not empty.", "messages")
    texts: list[tuple[str, str]] = []
    before = "system"
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise _Bad(f"Invalid '{where}': expected an object.", where)
        role = message.get("role")
        if role not in ("system", "developer", "user", "assistant"):
            raise _Bad(f"Invalid '{where}.role': {role!r} is not a role.", f"{where}.role")
        if role in ("system", "developer"):
            if number:
                raise _Bad(f"Invalid '{where}.role': a system message comes first.", f"{where}.role")
        elif role == before or (before == "system" and role == "assistant"):
            raise _Bad("Conversation roles must alternate user/assistant/user/assistant/...", f"{where}.role")
        else:
            before = role
        texts.append((role, _content(message.get("content"), f"{where}.content")))
    if texts[-1][0] != "user":
        raise _Bad("The last message must be from the user: prefill is not supported.", "messages")
    return tuple(texts)


def _content(content: object, where: str) -> str:
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        if len(parts) != len(content) or not all(isinstance(part, str) for part in parts):
            raise _Bad(f"Invalid '{where}': only text parts are supported.", where)
        content = "".join(str(part) for part in parts)
    if not isinstance(content, str) or not content.strip():
        raise _Bad(f"Invalid '{where}': text content must not be empty.", where)
    return content


# --- answers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said back, in full, before it is cut into pieces."""

    id: str
    created: int
    model: str
    text: str | None
    finish: str | None
    output_tokens: int
    reasoning: str = ""
    reasoning_tokens: int = 0
    reasoning_field: ThoughtField = "reasoning_content"
    refusal: str | None = None
    error: Mapping[str, Any] | None = None
    """Stands beside a finish reason `error`."""
    has_usage: bool = True
    usage: Mapping[str, Any] | None = None


class Written(NamedTuple):
    """An answer in pieces: comments and pieces of text, then all that closes it, at once."""

    comments: tuple[Piece, ...]
    pieces: tuple[Piece, ...]
    tail: bytes
    ends: float


def plain(answer: Answer, pace: Latency) -> Written:
    """The answer as one JSON body, when all of it has been produced."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
    if answer.reasoning:
        message[answer.reasoning_field] = answer.reasoning
    choice: dict[str, Any] = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish}
    if answer.error is not None:
        choice["error"] = answer.error
    body: dict[str, Any] = {
        "id": answer.id,
        "object": "chat.completion",
        "created": answer.created,
        "model": answer.model,
        "choices": [choice],
    }
    if answer.has_usage:
        body["usage"] = answer.usage
    return Written((), (), _json(body), pace.first + pace.per_token * answer.output_tokens)


def stream(answer: Answer, pace: Latency, include_usage: bool) -> Written:
    """The answer as server-sent events: comments while nothing has come, deltas, finish, usage, the end mark."""
    event = _events(answer, include_usage)
    pieces: list[Piece] = []
    opening = event({"role": "assistant", "content": ""}, None)
    visible = answer.output_tokens - answer.reasoning_tokens
    before = 0
    for name, text, tokens in (
        (answer.reasoning_field, answer.reasoning, answer.reasoning_tokens),
        ("content", answer.text or "", visible if answer.text else 0),
        ("refusal", answer.refusal or "", visible if answer.refusal else 0),
    ):
        count = min(len(text), max(_FEWEST_PIECES, min(_MOST_PIECES, tokens // _TOKENS_PER_PIECE)))
        for number in range(count):
            part = text[number * len(text) // count : (number + 1) * len(text) // count]
            produced = before + tokens * (number + 1) // count
            pieces.append(Piece(pace.first + pace.per_token * produced, opening + event({name: part}, None)))
            opening = b""
        before += tokens
    tail = opening + event({}, answer.finish, answer.error)
    if include_usage and answer.has_usage:
        tail += event(None, None)
    return Written(_comments(pace), tuple(pieces), tail + DONE, pace.first + pace.per_token * answer.output_tokens)


DONE: Final = b"data: [DONE]\n\n"


def error_event(answer: Answer, error: Mapping[str, Any]) -> bytes:
    """A failure in the middle of a stream."""
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    return b"data: " + orjson.dumps({"id": answer.id, "error": error, "choices": [choice]}) + b"\n\n" + DONE


def _comments(pace: Latency) -> tuple[Piece, ...]:
    if not pace.keep_alive:
        return ()
    count = int(pace.first / pace.keep_alive)
    times = (pace.keep_alive * (number + 1) for number in range(count))
    return tuple(Piece(at, b": keep-alive\n\n") for at in times if at < pace.first)


_Event = Callable[..., bytes]


def _events(answer: Answer, include_usage: bool) -> _Event:
    head = _json(
        {"id": answer.id, "object": "chat.completion.chunk", "created": answer.created, "model": answer.model}
    )[:-1]
    foot = b',"usage":null}\n\n' if include_usage else b"}\n\n"

    def event(delta: Mapping[str, Any] | None, finish: str | None, error: Mapping[str, Any] | None = None) -> bytes:
        if delta is None:
            return b"data: " + head + b',"choices":[],"usage":' + _json(answer.usage) + b"}\n\n"
        choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
        if error is not None:
            return b"data: " + head + b',"error":' + _json(error) + b',"choices":[' + _json(choice) + b"]" + foot
        return b"data: " + head + b',"choices":[' + _json(choice) + b"]" + foot

    return event


def _json(value: object) -> bytes:
    """JSON; a lone surrogate, which only `json` can write, is escaped."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def catalogue(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return orjson.dumps({"object": "list", "data": rows})
