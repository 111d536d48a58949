"""What the dialects share: the shape of a dialect, server-sent events, and readings of what providers write loosely.

A dialect is a module that translates: a call into the bytes of a request, and what comes back into an outcome. It does
no I/O and knows nothing of limits or budgets. `openai` is the example to copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from re import compile as pattern
from typing import Any, Final, Literal, Protocol, TypeAlias

from runner.call import Call, Failure, Hints, Outcome
from runner.world import Secret

LimitField: TypeAlias = Literal["max_tokens", "max_completion_tokens"]

_MOST_TOKENS: Final = 1_000_000_000
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
        found = [value for value in self.headers.values() if isinstance(value, Secret)]
        return tuple(s for s in (self.api_key, *found) if s)


class Reader(Protocol):
    """Takes an answer's body in pieces and says what it came to."""

    @property
    def generation(self) -> str | None:
        """The provider's own id of this call, as soon as it is known."""
        ...

    @property
    def size(self) -> int:
        """Bytes of text and reasoning so far."""
        ...

    def feed(self, data: bytes) -> bool:
        """Take a piece; True when it brought data, and not just a sign of life."""
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
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """The data of each event that this piece completes; comments and other fields are passed over."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            yield from self._line(line.rstrip(b"\r"))

    def end(self) -> Iterator[bytes]:
        """The data that stood before the end without the blank line that should close it."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        if rest:
            yield from self._line(rest)
        yield from self._line(b"")

    def _line(self, line: bytes) -> Iterator[bytes]:
        if not line:
            if self._data:
                data, self._data = b"\n".join(self._data), []
                yield data
        elif line.startswith(b"data:"):
            self._data.append(line[6:] if line[5:6] == b" " else line[5:])


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
    return value if isfinite(value) and value >= 0 else None


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """How long the provider asks us to wait; None when it does not say, or says nonsense."""
    if "retry-after-ms" in headers:
        milliseconds = seconds(headers["retry-after-ms"])
        if milliseconds is not None:
            return milliseconds / 1000
    text = headers.get("retry-after")
    if text is None:
        return None
    plain = seconds(text)
    if plain is not None:
        return plain
    until = _http_date(text)
    if until is None:
        return None
    # Their date against their own clock, where they tell it: ours may be wrong.
    now = _http_date(headers.get("date", "")) or datetime.fromtimestamp(wall, UTC)
    return max(0.0, (until - now).total_seconds())


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
    return int(number) if number is not None and number.strip().isdigit() else None
