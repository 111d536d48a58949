"""How an answer goes out: its pieces and their times, and whatever happens to it on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from itertools import groupby
from math import isfinite
from typing import Final

import orjson

from runner.sim import dialect
from runner.sim.config import Fault, Latency
from runner.sim.dialect import Answer, Asked, Error, Headers, Mark, Piece, Written


@dataclass(frozen=True, slots=True)
class SimAnswer:
    """What to do on the connection. Status and headers leave with the first bytes; a mark is always last."""

    id: int
    status: int
    headers: Headers
    pieces: tuple[Piece, ...]

    def bursts(self) -> Iterator[Piece]:
        """The pieces, those of bytes that are due at the same time put together."""
        for (at, plain), group in groupby(self.pieces, lambda piece: (piece.at, isinstance(piece.what, bytes))):
            if plain:
                yield Piece(at, b"".join(piece.what for piece in group if isinstance(piece.what, bytes)))
            else:
                yield from group


_UPSTREAM: Final = "The upstream provider went away."
_STATUS_WORDS: Final = {500: "The server had an error.", 503: "The server is overloaded.", 529: "Overloaded."}
_PAGE: Final = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in first</h1></body></html>"


def perform(number: int, asked: Asked, answer: Answer, pace: Latency, broken: Fault | None, wall: float) -> SimAnswer:
    """The answer in pieces, with whatever happens to it on the way."""
    kind = "" if broken is None else broken.kind
    if broken is None:
        return _sent(number, asked, _written(asked, answer, pace))
    match kind:
        case "server_error":
            message = _STATUS_WORDS.get(broken.status, "The server had an error.")
            error = Error(broken.status, message, "server_error", headers=retry_after(broken, wall))
            return whole(number, error.status, error.body(), error.headers)
        case "html":
            return SimAnswer(number, 200, (("content-type", "text/html"),), _closed([Piece(0.0, _PAGE)]))
        case "reset":
            return SimAnswer(number, 0, (), (Piece(pace.first, Mark.CUT),))
        case "silent":
            return SimAnswer(number, 0, (), (Piece(0.0, Mark.STALL),))
    written = _written(asked, answer, pace)
    match kind:
        case "malformed":
            half = b'data: {"id":"gen-0","choices":[{"index":0,"delta":{"content":\n\n' + dialect.DONE
            tail = half if asked.stream else written.tail[: len(written.tail) // 2]
            return _sent(number, asked, written._replace(pieces=written.pieces[:1], tail=tail))
        case "error_in_200":
            error_object = {"code": broken.status, "message": _UPSTREAM, "type": "server_error"}
            tail = dialect.error_event(answer, error_object) if asked.stream else orjson.dumps({"error": error_object})
            pieces = written.pieces[: broken.after]
            ends = pieces[-1].at if pieces else pace.first
            return _sent(number, asked, written._replace(pieces=pieces, tail=tail, ends=ends))
        case "cut" | "stall" | "short":
            mark = {"cut": Mark.CUT, "stall": Mark.STALL, "short": Mark.END}[kind]
            return _sent(number, asked, _beginning(written, broken.after, pace), mark)
        case "slow":
            body = b"".join(p.what for p in written.pieces if isinstance(p.what, bytes)) + written.tail
            drops = [Piece(pace.first + broken.seconds * n, body[n : n + 1]) for n in range(len(body))]
            return SimAnswer(number, 200, _content_type(asked), _closed(drops))
        case "twice_done" if asked.stream:
            written = written._replace(tail=written.tail + dialect.DONE)
        case "no_done" if asked.stream:
            written = written._replace(tail=written.tail.removesuffix(dialect.DONE))
    return _sent(number, asked, written)


def _written(asked: Asked, answer: Answer, pace: Latency) -> Written:
    return dialect.stream(answer, pace, asked.include_usage) if asked.stream else dialect.plain(answer, pace)


def _beginning(written: Written, after: int, pace: Latency) -> Written:
    """So many pieces and nothing that closes them; of one JSON body, half."""
    if not written.pieces:
        half = written.tail[: len(written.tail) // 2] if after else b""
        return written._replace(tail=half, ends=written.ends if after else pace.first)
    pieces = written.pieces[:after]
    return written._replace(pieces=pieces, tail=b"", ends=pieces[-1].at if pieces else pace.first)


def _content_type(asked: Asked) -> Headers:
    return (("content-type", "text/event-stream" if asked.stream else "application/json"),)


def _sent(number: int, asked: Asked, written: Written, mark: Mark = Mark.END) -> SimAnswer:
    pieces = [*written.comments, *written.pieces, Piece(written.ends, written.tail)]
    return SimAnswer(number, 200, _content_type(asked), _closed(pieces, mark))


def whole(number: int, status: int, body: bytes, headers: Headers) -> SimAnswer:
    return SimAnswer(number, status, (("content-type", "application/json"), *headers), _closed([Piece(0.0, body)]))


def _closed(pieces: Iterable[Piece], mark: Mark = Mark.END) -> tuple[Piece, ...]:
    *before, last = pieces
    return (*before, last, Piece(last.at, mark))


def retry_after(broken: Fault, wall: float) -> Headers:
    value = broken.retry_after
    if value is None:
        return ()
    if isinstance(value, str):
        return (("retry-after", value),)
    match broken.retry_form:
        case "date":
            return (("retry-after", formatdate(wall + value, usegmt=True)),)
        case "ms":
            return (("retry-after-ms", str(int(value * 1000))),)
    return (("retry-after", str(int(value)) if isfinite(value) and value == int(value) else str(value)),)
