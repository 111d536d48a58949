"""One exchange as a file: what was sent, what came back and when, or how it broke.

The files are for people: to read, to send with a report, to edit. A body that is JSON stands there as JSON, any other
text as text; bytes that are no UTF-8 stand as lone surrogates, so that each file gives back what was sent and heard.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson

SUFFIX: Final = ".json"
_DIGITS: Final = 6
_LONGEST: Final = 1e9
"""An exchange of so many seconds was never held."""


class Misread(Exception):
    """A file that is no exchange; the text says why."""


class Chunk(NamedTuple):
    """A piece of an answer's body, and how many seconds after the request it came."""

    after: float
    text: str


@dataclass(frozen=True, slots=True)
class Begun:
    """The beginning of an answer, and what came of its body."""

    status: int
    headers: Mapping[str, str]
    after: float
    chunks: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Broke:
    """How an exchange broke off, as `WireError` tells it."""

    what: str
    sent: bool
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, and what came of it."""

    number: int
    """In the order of sending, from 1."""
    at: float
    """When it was sent, in seconds since the epoch."""
    method: str
    url: str
    headers: Mapping[str, str]
    body: str
    digest: str
    """The SHA-256 of the body as it was sent: keys that it held are masked in `body`."""
    answer: Begun | None = None
    broke: Broke | None = None
    left: bool = False
    """True when we stopped reading before the end: out of patience, or because nothing more was needed."""
    after: float = 0.0
    """Seconds from the request to the end."""

    @property
    def target(self) -> str:
        return target_of(self.url)

    @property
    def file(self) -> str:
        return f"{self.number:0{_DIGITS}}{SUFFIX}"


def target_of(url: str) -> str:
    """The path of a URL and its query: what stays the same when a server moves. Raises ValueError where it is none."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def number_of(file: str) -> int | None:
    """The number of the exchange in a file of this name; None for any other file."""
    stem = file.removesuffix(SUFFIX)
    return int(stem) if stem != file and stem.isascii() and stem.isdecimal() else None


def text_of(body: bytes) -> str:
    return body.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def texts_of(pieces: Sequence[tuple[float, bytes]]) -> Iterator[Chunk]:
    """The pieces as text; a character that came in two of them stands in the later one."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    last = len(pieces) - 1
    for index, (after, data) in enumerate(pieces):
        yield Chunk(after, decode(data, index == last))


# --- to a file and back ----------------------------------------------------------------------------------------------


def written(exchange: Exchange) -> bytes:
    """The file of an exchange."""
    request = {
        "method": exchange.method,
        "url": exchange.url,
        "headers": dict(exchange.headers),
        "sha256": exchange.digest,
        **_body(exchange.body),
    }
    data: dict[str, Any] = {"at": _stamp(exchange.at), "request": request}
    if exchange.answer is not None:
        data["answer"] = {
            "status": exchange.answer.status,
            "after": round(exchange.answer.after, 6),
            "headers": dict(exchange.answer.headers),
            "chunks": [{"after": round(chunk.after, 6), "text": chunk.text} for chunk in exchange.answer.chunks],
        }
    end: dict[str, Any] = {"after": round(exchange.after, 6)}
    if exchange.broke is not None:
        end |= {"broke": exchange.broke.what, "sent": exchange.broke.sent}
        end |= {"lasting": True} if exchange.broke.lasting else {}
    elif exchange.left:
        end |= {"left": True}
    data["end"] = end
    try:
        return json.dumps(data, indent=2, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate has no place in UTF-8, but it has an escape in JSON.
        return json.dumps(data, indent=2).encode() + b"\n"


def _body(body: str) -> dict[str, Any]:
    if not body:
        return {}
    try:
        parsed = orjson.loads(body)
        # Only where it says the same bytes: a file that answers other requests than were sent is of no use.
        return {"json": parsed} if orjson.dumps(parsed).decode() == body else {"text": body}
    except (ValueError, UnicodeEncodeError):
        return {"text": body}


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_exchange(file: str, data: bytes) -> Exchange:
    """The exchange in a file of this name. Raises Misread, which says what is wrong with it."""
    try:
        whole = _Part("", json.loads(data))
    except ValueError as error:
        raise Misread(f"it is no JSON: {error}") from None
    except RecursionError:
        raise Misread("it is nested too deeply") from None
    request, end = whole.part("request"), whole.part("end")
    body = request.body()
    answer = whole.part("answer") if "answer" in whole.fields else None
    broke = end.get("broke", str, None)
    exchange = Exchange(
        number=number_of(file) or 0,
        at=_moment(whole),
        method=request.get("method", str),
        url=_url(request),
        headers=request.texts("headers"),
        body=body,
        digest=request.get("sha256", str, sha256(bytes_of(body)).hexdigest()),
        answer=None if answer is None else _answer(answer),
        broke=None if broke is None else Broke(broke, end.get("sent", bool), end.get("lasting", bool, False)),
        left=end.get("left", bool, False),
        after=end.seconds("after"),
    )
    if exchange.answer is None and exchange.broke is None and not exchange.left:
        raise Misread("it has no `answer`, and its `end` does not say how it broke")
    return exchange


def _url(request: _Part) -> str:
    url: str = request.get("url", str)
    try:
        target_of(url)
    except ValueError:
        raise Misread("`request.url` is no URL") from None
    return url


def _moment(whole: _Part) -> float:
    try:
        return datetime.fromisoformat(whole.get("at", str, "1970-01-01T00:00:00Z")).timestamp()
    except ValueError:
        raise Misread("`at` is no moment like 2026-11-21T02:00:00Z") from None


def _answer(part: _Part) -> Begun:
    chunks = part.get("chunks", list, [])
    found = [_Part(f"answer.chunks[{index}].", chunk) for index, chunk in enumerate(chunks)]
    return Begun(
        status=part.get("status", int),
        headers={name.lower(): value for name, value in part.texts("headers").items()},
        after=part.seconds("after"),
        chunks=tuple(Chunk(one.seconds("after"), one.text("text")) for one in found),
    )


class _Missing:
    """Stands for what has no default."""


_MISSING: Final = _Missing()


class _Part:
    """An object in a file, and the path to it."""

    def __init__(self, path: str, fields: Any) -> None:
        if not isinstance(fields, dict):
            raise Misread(f"`{path.rstrip('.') or 'the whole'}` is no object")
        self.path = path
        self.fields: dict[str, Any] = fields

    def part(self, name: str) -> _Part:
        return _Part(f"{self.path}{name}.", self.get(name, dict))

    def get(self, name: str, kind: type | tuple[type, ...], default: Any = _MISSING) -> Any:
        value = self.fields.get(name, default)
        if value is _MISSING:
            raise Misread(f"`{self.path}{name}` is missing")
        if value is not default and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
            raise Misread(f"`{self.path}{name}` is of the wrong kind")
        return value

    def body(self) -> str:
        """What was sent: as JSON or as text."""
        if "json" not in self.fields:
            return self.text("text", "")
        try:
            return orjson.dumps(self.fields["json"]).decode()
        except TypeError as error:
            raise Misread(f"`{self.path}json` cannot be sent: {error}") from None

    def text(self, name: str, default: Any = _MISSING) -> str:
        """A text that stands for bytes."""
        found: str = self.get(name, str, default)
        try:
            bytes_of(found)
        except UnicodeEncodeError:
            raise Misread(f"`{self.path}{name}` has half a character in it") from None
        return found

    def seconds(self, name: str) -> float:
        """A number of seconds; none where none is said."""
        found: int | float = self.get(name, (int, float), 0.0)
        if not -_LONGEST < found < _LONGEST:
            raise Misread(f"`{self.path}{name}` is no number of seconds")
        return float(found)

    def texts(self, name: str) -> dict[str, str]:
        found: dict[str, Any] = self.get(name, dict, {})
        if not all(isinstance(value, str) for value in found.values()):
            raise Misread(f"`{self.path}{name}` has a value that is no text")
        return found
