"""What the dialects share: the shape of a dialect, server-sent events, and readings of what providers write loosely.

A dialect is a module that translates: a call into the bytes of a request, and what comes back into an outcome. It does
no I/O and knows nothing of limits or budgets. `openai` is the example to copy.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from re import compile as pattern
from typing import Any, Final, Literal, Protocol, TypeAlias

import orjson

from runner.call import Call, Failure, Hints, Outcome
from runner.world import Secret

LimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]

_MOST_TOKENS: Final = 1_000_000_000
_LONGEST_WAIT: Final = 366 * 86400.0
"""More than this is no duration: a moment in time, written where a duration belongs, or nonsense."""
_MOST_DIGITS: Final = 18
_SHORTEST_SECRET: Final = 8
"""What is shorter (`none`, `ollama`: a local server wants some key) protects nothing, and stands in ordinary text."""
_DURATION_PART: Final = pattern(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A provider as a run uses it: where it is, and the key that opens it."""

    name: str
    type: str
    base_url: str
    api_key: Secret | None = None
    headers: Mapping[str, str | Secret] = field(default_factory=dict)
    limit_field: LimitField = "max_tokens"

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Everything about it that must never be shown."""
        found = [self.api_key.reveal()] if self.api_key is not None else []
        for value in self.headers.values():
            if isinstance(value, Secret):
                # A header may be `Bearer KEY`, and the key alone is as secret as the whole.
                found += (value.reveal(), *value.reveal().split())
        return tuple(Secret(text) for text in dict.fromkeys(found) if len(text.strip()) >= _SHORTEST_SECRET)


class Reader(Protocol):
    """Takes an answer's body in pieces and says what it came to."""

    @property
    def generation(self) -> str | None:
        """The provider's own id of this call, as soon as it is known."""
        ...

    @property
    def size(self) -> int:
        """How much is held: text, reasoning, and what cannot be understood yet."""
        ...

    def feed(self, data: bytes) -> bool:
        """Take a piece; True when it brought something of the answer, and not just a sign of life."""
        ...

    def done(self) -> bool:
        """True when nothing that matters can follow."""
        ...

    def outcome(self, cut: str | None) -> Outcome:
        """What it came to; `cut` says how the body broke off, None when it ended by itself."""
        ...


class Dialect(Protocol):
    """A wire format. Every module in this folder that is registered has these names."""

    revision: str
    """Name and number; the number rises when the same call would give other bytes."""

    def url(self, endpoint: Endpoint) -> str: ...

    def headers(self, endpoint: Endpoint) -> dict[str, str | Secret]: ...

    def body(self, call: Call, limit_field: LimitField) -> bytes: ...

    def reader(self, call: Call) -> Reader: ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, wall: float) -> Failure:
        """What an answer with an error status means."""
        ...

    def hints(self, headers: Mapping[str, str]) -> Hints: ...


class ServerSentEvents:
    """Splits a stream into the data of its events, whatever its line ends, and however it is cut into pieces."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self._after_return = False
        self.pending = 0
        """Bytes of the event that has begun and not ended."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that this piece completes; comments and other fields are passed over."""
        if not piece:
            return
        if self._after_return:
            piece = piece.removeprefix(b"\n")
        self._after_return = piece.endswith(b"\r")
        first, *more = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest.append(first)
        self.pending += len(first)
        for begun in more:
            yield from self._end_line(begun)

    def end(self) -> Iterator[bytes]:
        """The data that stood before the end without the blank line that should close it."""
        yield from self._end_line(b"")
        yield from self._end_line(b"")

    def _end_line(self, next_line: bytes) -> Iterator[bytes]:
        line, self._rest = b"".join(self._rest), [next_line]
        self.pending += len(next_line)
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            return
        self.pending -= len(line)
        if not line and self._data:
            data, self._data, self.pending = b"\n".join(self._data), [], len(next_line)
            yield data


def loads(data: bytes) -> Any:
    """JSON as providers write it: bytes that are no UTF-8 are marked, halves of a pair may stand alone. ValueError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            return json.loads(data.decode("utf-8", "replace"))
        except RecursionError:
            raise ValueError("nested too deeply") from None


def seconds(text: str) -> float | None:
    """A duration as headers write it: `7`, `7.66`, `7.66s`, `6m0s`, `12ms`, `1h2m3s`; None for anything else."""
    text = text.strip()
    try:
        value = float(text)
    except ValueError:
        parts = _DURATION_PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            return None
        value = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return value if isfinite(value) and 0 <= value <= _LONGEST_WAIT else None


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """How long the provider asks us to wait; None when it does not say, or says nonsense, or no time at all."""
    milliseconds, text = headers.get("retry-after-ms", "").strip(), headers.get("retry-after", "")
    return seconds(f"{milliseconds}ms") or seconds(text) or _until_date(text, headers, wall)


def _until_date(text: str, headers: Mapping[str, str], wall: float) -> float | None:
    until = _http_date(text)
    if until is None:
        return None
    # Their date against their own clock, where they tell it: ours may be wrong.
    now = _http_date(headers.get("date", "")) or datetime.fromtimestamp(wall, UTC)
    wait = (until - now).total_seconds()
    return wait if 0 < wait <= _LONGEST_WAIT else None


def _http_date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def count(value: Any) -> int | None:
    """A token count, or None when it is not a whole number that could be one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_TOKENS:
        return None
    return value


def whole(number: str | None) -> int | None:
    """A whole number from a header; None when it is missing or something else."""
    text = "" if number is None else number.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
