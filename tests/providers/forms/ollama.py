"""Ollama's own format: every case of the contract in the bytes of this format, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from tests.providers.contract import Form

COUNTERS: Final = {"prompt_eval_count": 9, "eval_count": 3}


def line(**fields: Any) -> bytes:
    return orjson.dumps({"model": "m", "created_at": "2026-11-21T12:00:00Z", **fields}) + b"\n"


def said(**message: Any) -> bytes:
    return line(message={"role": "assistant", "content": "", **message}, done=False)


def end(reason: str | None = "stop", counters: Any = COUNTERS, **message: Any) -> bytes:
    why = {} if reason is None else {"done_reason": reason}
    return line(message={"role": "assistant", "content": "", **message}, done=True, **why, **(counters or {}))


HI: Final = said(content="Hi ") + said(content="there")
THINK: Final = said(thinking="hm") + said(thinking=" hm")
FULL: Final = "server busy, please try again.  maximum pending requests exceeded"

ANSWERS: Sequence[tuple[str, bytes]] = [
    ("a reply", HI + end()),
    ("a reply", (HI + end())[:-1]),
    ("a reply", (HI + end()).replace(b"\n", b"\r\n\r\n")),
    ("a reply between signs of life", b"\n\n" + said(content="Hi ") + b"\n" + said(content="there") + b"\n" + end()),
    ("a reply in other letters", said(content="“Grü") + said(content="ße” 🌒") + end()),
    ("a reply", end(content="Hi there")),
    ("a reply", HI + end(counters=None)),
    ("a reply", HI + end() + said(content=" and more") + b"junk\n"),
    ("a reply after thinking", THINK + HI + end()),
    ("a reply after thinking", said(content="<think>hm hm</think>\n\n") + HI + end()),
    ("a reply cut by the limit", HI + end("length")),
    ("blank", said() + end()),
    ("blank", said(content=" \n") + end()),
    ("blank", end("load")),
    ("blank, and no figures", end("load", None)),
    ("blank, and all figures zero", end(counters={"prompt_eval_count": 0, "eval_count": 0})),
    ("invisible", said(content="\u200b\ufeff") + end(counters=None)),
    ("only thinking", THINK + end()),
    ("only thinking, cut by the limit", THINK + end("length")),
    ("an unknown end", HI + end("because")),
    ("no end", HI),
    ("no end", HI + end(None)),
    ("cut in the middle", said(content="Hi") + said(content=" there")[:-20]),
    ("damaged in the middle", said(content="Hi ") + b'{"message":{"cont\n' + end(counters=None)),
    ("damaged in the middle", said(content="Hi ") + b"7\n" + end(counters=None)),
    ("an error in place of an answer", orjson.dumps({"error": "model runner has unexpectedly stopped"}) + b"\n"),
    ("an error in place of an answer", orjson.dumps({"error": {"message": "oh"}})),
    ("an error after some text", said(content="Hi ") + orjson.dumps({"error": "an error was encountered"}) + b"\n"),
    ("an end that is an error", HI + end("error", None)),
    ("busy, in place of an answer", orjson.dumps({"error": FULL})),
    ("too long, in place of an answer", orjson.dumps({"error": "the prompt exceeds the context length"})),
    ("nothing at all", b""),
    ("nothing at all", b"\n\n"),
    ("not this format", b"upstream connect error"),
    ("not this format", b'{"message": {"cont'),
    ("not this format", b"{}"),
    ("not this format", b"[" * 2000 + b"]" * 2000),
    ("a web page", b"<!doctype html><title>Sign in</title>"),
]


SIGNS: Sequence[tuple[str, bytes]] = [
    ("blank lines", b"\n\n"),
    ("who speaks", said()),
    ("text", said(content="x")),
    ("thinking", said(thinking="x")),
    ("an end", end()),
    ("an error", b'{"error":"x"}\n'),
    ("a plain answer", end(content="x")),
]


COUNTED: Sequence[tuple[str, Any]] = [
    ("missing", {}),
    ("plain", COUNTERS),
    ("no output", {"prompt_eval_count": 9}),
    ("strings", {"prompt_eval_count": "9", "eval_count": "3"}),
    ("floats", {"prompt_eval_count": 9.0, "eval_count": 3.5}),
    ("negative", {"prompt_eval_count": -9, "eval_count": 3}),
    ("huge", {"prompt_eval_count": 9, "eval_count": 2**60}),
    ("true", {"prompt_eval_count": 9, "eval_count": True}),
    ("zero beside text", {"prompt_eval_count": 9, "eval_count": 0}),
    ("all zero", {"prompt_eval_count": 0, "eval_count": 0}),
]


CUT: Sequence[tuple[str, bytes]] = [
    ("an end, and no word of the figures", said(content="Hi ") + end(counters=None)),
]

AT_THE_END: Final = "its counters come with the end alone"
NO_FILTER: Final = "a model of one's own has no filter that says so"
NO_EVENTS: Final = "its lines have no comments and no names"

FORM: Final = Form(
    ANSWERS,
    CUT,
    SIGNS,
    COUNTED,
    using=lambda counters: HI + end(counters=counters),
    begun=HI,
    rest=end(),
    sign=b"\n",
    never={
        "a refusal with text": NO_FILTER,
        "a refusal without text": NO_FILTER,
        "filtered after some text": NO_FILTER,
        "filtered without text": NO_FILTER,
        "against a rule, in place of an answer": NO_FILTER,
        "out of money, in place of an answer": "a machine of one's own asks for no money",
        "a reply, and all of it once more": "its pieces are never told again",
        "a reason to end, and a broken connection": "its reason comes in the line that is the end",
        "figures so far, and a cut": AT_THE_END,
        "figures so far, and an error": AT_THE_END,
        "a comment": NO_EVENTS,
        "an event without data": NO_EVENTS,
        "no object": "its counters stand in the answer itself, in no object of their own",
        "thinking and a cache": "it counts thinking with the output, and what was cached with the input",
    },
)
