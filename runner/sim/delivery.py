"""How an answer goes out: its pieces and their times, and whatever happens to it on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from runner.sim.config import Fault
from runner.sim.dialect import Answer, Asked, Dialect, Error, Headers, Hint, Mark, Piece, Trouble, Written, comments


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


UPSTREAM: Final = "The upstream provider went away."
_STATUS_WORDS: Final = {
    500: "The server had an error.",
    503: "The server is overloaded.",
    529: "Overloaded.",
}
_PAGE: Final = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Sign in first</h1></body></html>"


def perform(
    number: int, dialect: Dialect, asked: Asked, answer: Answer, broken: Fault | None, wall: float
) -> SimAnswer:
    """The answer in pieces, with whatever happens to it on the way."""
    kind = "" if broken is None else broken.kind
    head = _head(dialect, asked)
    if broken is None:
        return _sent(number, head, _written(dialect, asked, answer))
    match kind:
        case "server_error":
            message = _STATUS_WORDS.get(broken.status, "The server had an error.")
            trouble = Trouble(
                "server",
                message,
                broken.status,
                hint=hint_of(broken, wall),
                should_retry=broken.should_retry,
                wall=wall,
            )
            return whole(number, dialect.error(trouble, asked))
        case "html":
            return SimAnswer(number, 200, (("content-type", "text/html"),), _closed([Piece(0.0, _PAGE)]))
        case "reset":
            return SimAnswer(number, 0, (), (Piece(answer.pace.first, Mark.CUT),))
        case "silent":
            return SimAnswer(number, 0, (), (Piece(0.0, Mark.STALL),))
    written = _written(dialect, asked, answer)
    match kind:
        case "malformed":
            tail = dialect.torn if asked.stream else written.tail[: len(written.tail) // 2]
            return _sent(number, head, written._replace(pieces=written.pieces[:1], tail=tail))
        case "error_in_200":
            trouble = Trouble("server", UPSTREAM, broken.status)
            tail = dialect.error_within(answer, trouble, asked.stream)
            pieces = written.pieces[: broken.after]
            ends = pieces[-1].at if pieces else answer.pace.first
            return _sent(number, head, written._replace(pieces=pieces, tail=tail, ends=ends))
        case "cut" | "stall" | "short":
            mark = {"cut": Mark.CUT, "stall": Mark.STALL, "short": Mark.END}[kind]
            return _sent(number, head, _beginning(written, broken.after, answer), mark)
        case "slow":
            body = b"".join(p.what for p in written.pieces if isinstance(p.what, bytes)) + written.tail
            drops = [Piece(answer.pace.first + broken.seconds * n, body[n : n + 1]) for n in range(len(body))]
            return SimAnswer(number, 200, head, _closed(drops))
        case "comments":
            return _sent(number, head, _commented(dialect, asked, written))
        case "twice_done" if asked.stream:
            written = written._replace(tail=written.tail + dialect.last(written.tail))
        case "no_done" if asked.stream:
            written = written._replace(tail=written.tail.removesuffix(dialect.last(written.tail)))
    return _sent(number, head, written)


def _written(dialect: Dialect, asked: Asked, answer: Answer) -> Written:
    if asked.stream:
        return dialect.stream(answer, asked.include_usage)
    return Written(comments(answer.pace, dialect.idle), (), dialect.plain(answer), answer.seconds)


def _commented(dialect: Dialect, asked: Asked, written: Written) -> Written:
    """With signs of life before every piece; blank lines before one body."""
    if not asked.stream:
        return written._replace(comments=(Piece(0.0, b"\n"),))
    sign = Piece(0.0, dialect.comment)
    first = written.pieces[:1]
    rest = [piece for said in written.pieces[1:] for piece in (sign._replace(at=said.at), said)]
    return written._replace(pieces=(*first, *rest), tail=dialect.comment + written.tail)


def _beginning(written: Written, after: int, answer: Answer) -> Written:
    """So many pieces and nothing that closes them; of one JSON body, half."""
    if not written.pieces:
        half = written.tail[: len(written.tail) // 2] if after else b""
        return written._replace(tail=half, ends=written.ends if after else answer.pace.first)
    pieces = written.pieces[:after]
    return written._replace(pieces=pieces, tail=b"", ends=pieces[-1].at if pieces else answer.pace.first)


def _head(dialect: Dialect, asked: Asked) -> Headers:
    return (("content-type", dialect.stream_type if asked.stream else "application/json"),)


def _sent(number: int, head: Headers, written: Written, mark: Mark = Mark.END) -> SimAnswer:
    pieces = [*written.comments, *written.pieces, Piece(written.ends, written.tail)]
    return SimAnswer(number, 200, head, _closed(pieces, mark))


def whole(number: int, error: Error) -> SimAnswer:
    """One body at once."""
    head = (("content-type", error.content_type), *error.headers)
    return SimAnswer(number, error.status, head, _closed([Piece(0.0, error.body)]))


def _closed(pieces: Iterable[Piece], mark: Mark = Mark.END) -> tuple[Piece, ...]:
    *before, last = pieces
    return (*before, last, Piece(last.at, mark))


def hint_of(broken: Fault, wall: float) -> Hint | None:
    """When a fault says to come again."""
    return None if broken.retry_after is None else Hint(broken.retry_after, broken.retry_form, wall)
