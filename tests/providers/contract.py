"""What every dialect must make of what can happen, whatever its bytes look like.

Each form of bytes (`forms/`) writes every case; what it comes to is the same for all, and stands here once. Where
there is nothing to write, it says why. `test_contract` holds every dialect to it; what is peculiar to one stands in its
own file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hypothesis import strategies as st

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


@dataclass(frozen=True, slots=True)
class Form:
    """How a family of dialects writes the cases below; each case may have several rows."""

    answers: Sequence[tuple[str, bytes]]
    cuts: Sequence[tuple[str, bytes]]
    signs: Sequence[tuple[str, bytes]]
    counted: Sequence[tuple[str, Any]]
    using: Callable[[Any], bytes]
    """A reply whose usage is this object."""
    begun: bytes
    """The text `Hi there`, without its end."""
    rest: bytes
    """Its end."""
    marked: bool = True
    """Whether its end has a mark of its own, which nothing can follow."""
    sign: bytes = b": keep-alive\n\n"
    """A sign of life."""
    never: Mapping[str, str] = field(default_factory=dict)
    """The cases that cannot happen in this form, and why."""


BODIES: Final[Mapping[str, Mapping[str, Any]]] = {
    "a reply": reply(),
    "a reply between signs of life": reply(),
    "a reply in other letters": reply("“Grüße” 🌒"),
    "a reply after thinking": reply(),
    "a reply, and all of it once more": reply(),
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
    "against a rule, in place of an answer": failure("refused", "conversation"),
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
    499: failure(),
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

# --- beside the bodies and statuses ----------------------------------------------------------------------------------

FIGURES: Final[Mapping[str, Mapping[str, Any]]] = {
    "missing": {},
    "no object": {},
    "plain": {"input": 9, "output": 3},
    "no output": {"input": 9},
    "strings": {"trusted": False},
    "floats": {"trusted": False},
    "negative": {"output": 3, "trusted": False},
    "huge": {"input": 9, "trusted": False},
    "true": {"input": 9, "trusted": False},
    "zero beside text": {"input": 9, "output": 0, "trusted": False},
    "all zero": {"input": 0, "output": 0, "trusted": False},
    "thinking and a cache": {"input": 900, "output": 400, "reasoning": 250, "cached_read": 512},
}
"""What the figures of a reply come to, beside the object they stood in."""

CUTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "figures so far, and a cut": failure("lost", partial="Hi "),
    "figures so far, and an error": failure(partial="Hi "),
    "an end, and no word of the figures": reply("Hi "),
    "a reason to end, and a broken connection": failure("lost", partial="Hi there"),
}
"""What an answer comes to that breaks off after figures of what was counted so far, or after a reason to end before its
end: neither is the last word."""
BROKEN_OFF: Final = frozenset({"a reason to end, and a broken connection"})
"""Those of them in which the connection breaks."""

LIFE: Final[Mapping[str, bool]] = {
    "a comment": False,
    "blank lines": False,
    "an event without data": False,
    "who speaks": False,
    "text": True,
    "thinking": True,
    "an end": True,
    "an error": True,
    "a plain answer": True,
}
"""What is data, and not just a sign of life."""

SILENT: Final[Sequence[bytes]] = (
    b"",
    b"{}",
    b"null",
    b"Bad Gateway",
    b'{"error":null}',
    b'{"error":{"message":7}}',
    b'{"error":[[]]}',
    b"\xff[{",
)
"""Bodies of errors that say nothing: the status decides."""

WAITS: Final[Sequence[tuple[Mapping[str, str], float | None]]] = (
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": "7.5"}, 7.5),
    ({"retry-after": "1m30s"}, 90.0),
    ({"retry-after": "Sat, 21 Nov 2026 12:01:00 GMT"}, 60.0),
    ({"retry-after": "Sat, 21 Nov 2026 12:01:00 GMT", "date": "Sat, 21 Nov 2026 12:00:40 GMT"}, 20.0),
    ({"retry-after": "99", "retry-after-ms": "1500"}, 1.5),
    ({"retry-after-ms": "36000000"}, 36000.0),
    ({"retry-after-ms": "soon", "retry-after": "3"}, 3.0),
    ({"retry-after": "864000"}, 864000.0),
    ({"retry-after": "0"}, None),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "inf"}, None),
    ({"retry-after": "1e300"}, None),
    ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, None),
    ({"retry-after": "Sat, 99 Nov 20266 11:00:00 GMT"}, None),
    ({"retry-after": "1795262460"}, None),
    ({"retry-after": "soon"}, None),
    ({}, None),
)
"""Hints of how long to wait, and what they come to at `WALL`."""


def hostile(*names: str) -> st.SearchStrategy[Any]:
    """Any JSON, in objects that have a dialect's names where they should not be."""
    keys = st.sampled_from(["error", "message", "code", "type", "text", "status", "details", *names])
    leaves = st.sampled_from(["x", "429", "error", "1" * 5000, "\ud800", "-1", "46s"])
    return st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5),
        max_leaves=20,
    )
