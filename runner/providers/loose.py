"""Readings of what providers write loosely: durations, dates, counts, JSON that is nearly JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from re import compile as pattern
from typing import Any, Final
from urllib.parse import quote

import orjson

_MOST_TOKENS: Final = 1_000_000_000
_LONGEST_WAIT: Final = 366 * 86400.0
"""More than this is no duration: a moment in time, written where a duration belongs, or nonsense."""
_MOST_DIGITS: Final = 18
_DURATION_PART: Final = pattern(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WAIT_SAID: Final = pattern(r"\b(?:try again|retry|resets?) in ((?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+)(?![a-z0-9])")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


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


def wait_said(message: str) -> float | None:
    """How long a message asks us to wait, as in `try again in 7m12s`; None when it does not."""
    found = _WAIT_SAID.search(message.lower())
    return (seconds(found[1]) or None) if found is not None else None


def retry_after(headers: Mapping[str, str], wall: float) -> float | None:
    """How long the provider asks us to wait; None when it does not say, or says nonsense, or no time at all."""
    milliseconds, text = headers.get("retry-after-ms", "").strip(), headers.get("retry-after", "")
    return seconds(f"{milliseconds}ms") or seconds(text) or _until_date(text, headers, wall)


def _until_date(text: str, headers: Mapping[str, str], wall: float) -> float | None:
    until = _http_date(text)
    if until is None:
        return None
    wait = until.timestamp() - their_clock(headers, wall)
    return wait if 0 < wait <= _LONGEST_WAIT else None


def their_clock(headers: Mapping[str, str], wall: float) -> float:
    """The time by their own clock, where they tell it: what they say of moments is by that one, and ours may differ."""
    told = _http_date(headers.get("date", ""))
    return wall if told is None else told.timestamp()


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


def until(moment: str, wall: float) -> float | None:
    """Seconds until a moment in the form of RFC 3339; None when it is none, 0 when it has passed."""
    try:
        found = datetime.fromisoformat(moment.strip().replace("Z", "+00:00"))
    except ValueError:
        return None
    wait = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp() - wall
    return max(0.0, wait) if wait <= _LONGEST_WAIT else None


def rows(body: bytes) -> Sequence[Mapping[str, Any]]:
    """The objects of a list that a server gives; an object that holds no list stands for itself."""
    try:
        parsed = loads(body)
    except ValueError:
        return ()
    if isinstance(parsed, dict):
        parsed = parsed.get("data", parsed.get("models", [parsed]))
    return [row for row in (parsed if isinstance(parsed, list) else (parsed,)) if isinstance(row, dict)]


def fields(value: Any, name: str) -> Mapping[str, Any]:
    """The object that stands under a name; an empty one where there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def text(value: Any) -> str | None:
    """A text or a whole number as text; None for nothing, and for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def path_part(id_: str) -> str | None:
    """An id as one part of a path; None for one that would lead to another place."""
    return None if set(id_) <= {"."} else quote(id_, safe="")


def unlisted(parsed: Any) -> Any:
    """Some servers put an error into a list of one."""
    return parsed[0] if isinstance(parsed, list) and len(parsed) == 1 else parsed
