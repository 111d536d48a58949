"""What every dialect must make of what can happen, whatever its bytes look like.

A dialect's tests write each case in its own bytes; what it comes to is the same for all, and stands here once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runner.call import Call, Failure, Message, Outcome, Reply, View
from runner.providers import Dialect

WALL: Final = 1_795_262_400.0  # Sat, 21 Nov 2026 12:00:00 GMT


def call(**changes: Any) -> Call:
    asked: dict[str, Any] = {"view": View(None, (Message("user", "What survives?"),)), "max_tokens": 400} | changes
    return Call("cell", 0, 1, "p", "m", **asked)


def heard(dialect: Dialect, body: bytes, cut: str | None = None, size: int | None = None) -> Outcome:
    """What an answer of status 200 comes to, taken in pieces of a size."""
    reader = dialect.reader(call())
    step = size or len(body) or 1
    for at in range(0, len(body), step):
        reader.feed(body[at : at + step])
    return reader.outcome(cut)


def told(dialect: Dialect, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Failure:
    return dialect.failure(status, headers or {}, body, WALL)


def essence(outcome: Outcome) -> dict[str, Any]:
    """The fields that decide what is done next; those of a failure that say nothing are left out."""
    if isinstance(outcome, Reply):
        return {"finish": outcome.finish, "text": outcome.text}
    names = ("kind", "scope", "money", "busy", "retry_after", "overflow", "parameter", "partial")
    found = {name: getattr(outcome, name) for name in names}
    return {name: value for name, value in found.items() if value not in (None, False)}


def failure(kind: str = "error", scope: str = "call", money: str = "assumed", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "scope": scope, "money": money, **more}


def reply(text: str = "Hi there", finish: str = "ok") -> dict[str, Any]:
    return {"finish": finish, "text": text}


BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "a reply": reply(),
    "a reply after thinking": reply(),
    "a reply cut by the limit": reply(finish="truncated"),
    "a refusal with text": reply("I will not.", "refused"),
    "a refusal without text": failure("refused", money="known"),
    "filtered after some text": reply(finish="refused"),
    "filtered without text": failure("refused", money="known"),
    "blank": failure("empty", money="known"),
    "blank, and no figures": failure("empty"),
    "blank, and all figures zero": failure("empty"),
    "invisible": failure("empty"),
    "only thinking": failure("empty", money="known"),
    "only thinking, cut by the limit": failure("empty", money="known"),
    "an unknown end": reply(),
    "no end": failure("lost", partial="Hi there"),
    "cut in the middle": failure("lost", partial="Hi"),
    "damaged in the middle": failure("lost", partial="Hi "),
    "an error in place of an answer": failure(),
    "an error after some text": failure(partial="Hi "),
    "an end that is an error": failure(partial="Hi there"),
    "busy, in place of an answer": failure(busy=True),
    "out of money, in place of an answer": failure(scope="provider"),
    "too long, in place of an answer": failure(scope="conversation", overflow=True),
    "nothing at all": failure("lost"),
    "not this format": failure("lost"),
    "a web page": failure(),
}
"""What each body of status 200 comes to."""

STATUSES: Final[Mapping[int, Mapping[str, Any]]] = {
    204: failure(),
    307: failure(scope="provider", money="free"),
    400: failure(scope="conversation", money="free"),
    401: failure(scope="provider", money="free"),
    402: failure(scope="provider", money="free"),
    403: failure(scope="model", money="free"),
    404: failure(scope="model", money="free"),
    405: failure(scope="conversation", money="free"),
    408: failure(),
    409: failure(),
    413: failure(scope="conversation", money="free", overflow=True),
    422: failure(scope="conversation", money="free"),
    425: failure(),
    429: failure(money="free", busy=True),
    451: failure("refused", "conversation", "free"),
    498: failure(),
    500: failure(),
    502: failure(),
    503: failure(money="free"),
    504: failure(),
    507: failure(),
    520: failure(),
    521: failure(),
    522: failure(),
    523: failure(),
    524: failure(),
    529: failure(),
}
"""What each status comes to where its body says nothing."""
