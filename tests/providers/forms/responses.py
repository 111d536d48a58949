"""OpenAI's responses: every case of the contract in the bytes of this format, streamed and plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from tests.providers.contract import Form

USAGE: Final = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}


def event(kind: str, **fields: Any) -> bytes:
    data = orjson.dumps({"type": kind, "sequence_number": 1, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def whole(status: str = "completed", usage: Any = USAGE, *output: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "resp_1", "object": "response", "model": "m-1", "status": status} | {
        "error": None,
        "incomplete_details": None,
        "output": list(output),
        "usage": usage,
        **fields,
    }


def message(*parts: Any) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(parts)}


def delta(text: Any, of: str = "output_text") -> bytes:
    return event(f"response.{of}.delta", delta=text, output_index=0)


def end(status: str = "completed", usage: Any = USAGE, *output: Any, **fields: Any) -> bytes:
    return event(f"response.{status}", response=whole(status, usage, *output, **fields))


def cut(reason: str, usage: Any = USAGE) -> bytes:
    return end("incomplete", usage, incomplete_details={"reason": reason})


TEXT: Final = {"type": "output_text", "text": "Hi there", "annotations": []}
REFUSAL: Final = {"type": "refusal", "refusal": "I will not."}
THOUGHT: Final = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm hm"}], "content": None}
BEGUN: Final = event("response.created", response=whole("in_progress", None)) + event(
    "response.in_progress", response=whole("in_progress", None)
)
HI: Final = BEGUN + event("response.output_item.added", item=message()) + delta("Hi ") + delta("there")
THINK: Final = delta("hm", "reasoning_summary_text") + delta(" hm", "reasoning_summary_text")
PLAIN: Final = orjson.dumps(whole("completed", USAGE, message(TEXT)))

ANSWERS: Sequence[tuple[str, bytes]] = [
    ("a reply", HI + event("response.output_text.done", text="Hi there") + end("completed", USAGE, message(TEXT))),
    ("a reply", BEGUN + end("completed", USAGE, message(TEXT))),
    ("a reply", HI + end(usage=None)),
    ("a reply", HI + end() + b"data: [DONE]\n\n"),
    ("a reply", HI + event("response.something_new", delta={}) + end()),
    ("a reply between signs of life", b": keep-alive\n\n" + HI + b": x\n\n" + end()),
    ("a reply in other letters", delta("“Grü") + delta("ße” 🌒") + end()),
    ("a reply in other letters", orjson.dumps(whole("completed", USAGE, message({**TEXT, "text": "“Grüße” 🌒"})))),
    ("a reply", PLAIN),
    ("a reply", b"\n\n" + PLAIN),
    ("a reply", (HI + end()).replace(b"\n", b"\r\n")),
    (
        "a reply",
        orjson.dumps(whole("completed", USAGE, message({**TEXT, "text": "Hi "}), message({**TEXT, "text": "there"}))),
    ),
    ("a reply after thinking", BEGUN + THINK + HI + end("completed", USAGE, THOUGHT, message(TEXT))),
    ("a reply after thinking", delta("hm hm", "reasoning_text") + HI + end()),
    ("a reply after thinking", orjson.dumps(whole("completed", USAGE, THOUGHT, message(TEXT)))),
    ("a reply, and all of it once more", HI + end("completed", USAGE, message(TEXT))),
    ("a reply, and all of it once more", delta("there") + end("completed", USAGE, message(TEXT))),
    ("a reply, and all of it once more", HI + end("completed", USAGE, message({**TEXT, "text": "Hi"}))),
    ("a reply cut by the limit", HI + cut("max_output_tokens")),
    (
        "a reply cut by the limit",
        orjson.dumps(whole("incomplete", USAGE, message(TEXT), incomplete_details={"reason": "max_output_tokens"})),
    ),
    ("a refusal with text", BEGUN + delta("I will ", "refusal") + delta("not.", "refusal") + end()),
    ("a refusal with text", orjson.dumps(whole("completed", USAGE, message(REFUSAL)))),
    ("a refusal without text", BEGUN + cut("refusal")),
    ("filtered after some text", HI + cut("content_filter")),
    ("filtered without text", BEGUN + cut("content_filter")),
    ("blank", BEGUN + delta("") + end()),
    ("blank", BEGUN + end()),
    ("blank", orjson.dumps(whole())),
    ("blank, and no figures", BEGUN + end(usage=None)),
    ("blank, and all figures zero", BEGUN + end(usage={"input_tokens": 0, "output_tokens": 0})),
    ("invisible", delta("\u200b\ufeff") + end(usage=None)),
    ("only thinking", BEGUN + THINK + end("completed", USAGE, THOUGHT)),
    ("only thinking", orjson.dumps(whole("completed", USAGE, THOUGHT))),
    ("only thinking, cut by the limit", BEGUN + THINK + cut("max_output_tokens")),
    ("an unknown end", HI + cut("because")),
    ("no end", HI),
    ("no end", HI + b"data: [DONE]\n\n"),
    ("no end", orjson.dumps(whole("in_progress", None, message(TEXT)))),
    ("cut in the middle", delta("Hi") + delta(" there")[:-20]),
    ("damaged in the middle", delta("Hi ") + b'data: {"type":"resp\n\n' + end(usage=None)),
    ("damaged in the middle", delta("Hi ") + b"data: 7\n\n" + end(usage=None)),
    ("an error in place of an answer", event("error", code="server_error", message="oh", param=None)),
    ("an error in place of an answer", event("error", error={"code": None, "message": "oh"})),
    ("an error in place of an answer", BEGUN + end("failed", None, error={"code": "server_error", "message": "oh"})),
    ("an error in place of an answer", orjson.dumps({"error": {"code": 500, "message": "oh"}})),
    ("an error in place of an answer", BEGUN + end("failed", None)),
    ("an error after some text", delta("Hi ") + event("error", code="server_error", message="oh")),
    ("an error after some text", delta("Hi ") + end("failed", None, error={"code": "rate_limit_exceeded"})),
    ("an end that is an error", HI + end("cancelled", None)),
    ("busy, in place of an answer", BEGUN + end("failed", None, error={"code": "rate_limit_exceeded"})),
    ("out of money, in place of an answer", event("error", code="insufficient_quota", message="pay")),
    ("against a rule, in place of an answer", BEGUN + end("failed", None, error={"code": "bio_policy"})),
    ("against a rule, in place of an answer", event("error", code="invalid_prompt", message="no")),
    ("too long, in place of an answer", event("error", code="context_length_exceeded", message="9 tokens")),
    ("nothing at all", b""),
    ("nothing at all", b"\n\n: keep-alive\n\n"),
    ("nothing at all", BEGUN),
    ("not this format", b"upstream connect error"),
    ("not this format", b'{"output": [{"mess'),
    ("not this format", b"{}"),
    ("not this format", b"[" * 2000 + b"]" * 2000),
    ("not this format", event("response.completed", response=7)),
    ("a web page", b"<!doctype html><title>Sign in</title>"),
]


CUT: Sequence[tuple[str, bytes]] = [
    ("figures so far, and a cut", event("response.in_progress", response=whole("in_progress")) + delta("Hi ")),
    (
        "figures so far, and an error",
        event("response.in_progress", response=whole("in_progress")) + delta("Hi ") + event("error", message="oh"),
    ),
    ("an end, and no word of the figures", delta("Hi ") + end(usage=None)),
]


SIGNS: Sequence[tuple[str, bytes]] = [
    ("a comment", b": keep-alive\n\n"),
    ("blank lines", b"\n\n"),
    ("an event without data", b"event: response.in_progress\n\n"),
    ("who speaks", BEGUN),
    ("text", delta("x")),
    ("thinking", delta("x", "reasoning_text")),
    ("an end", end()),
    ("an error", event("error", message="x")),
    ("a plain answer", PLAIN),
]


COUNTED: Sequence[tuple[str, Any]] = [
    ("missing", None),
    ("no object", "12"),
    ("plain", USAGE),
    ("no output", {"input_tokens": 9}),
    ("strings", {"input_tokens": "9", "output_tokens": "3"}),
    ("floats", {"input_tokens": 9.0, "output_tokens": 3.5}),
    ("negative", {"input_tokens": -9, "output_tokens": 3}),
    ("huge", {"input_tokens": 9, "output_tokens": 2**60}),
    ("true", {"input_tokens": 9, "output_tokens": True}),
    ("zero beside text", {"input_tokens": 9, "output_tokens": 0}),
    ("all zero", {"input_tokens": 0, "output_tokens": 0}),
    (
        "thinking and a cache",
        {
            "input_tokens": 900,
            "output_tokens": 400,
            "input_tokens_details": {"cached_tokens": 512},
            "output_tokens_details": {"reasoning_tokens": 250},
        },
    ),
]


FORM: Final = Form(
    ANSWERS,
    CUT,
    SIGNS,
    COUNTED,
    using=lambda usage: HI + end(usage=usage),
    begun=HI,
    rest=end(),
    sign=BEGUN,
    never={"a reason to end, and a broken connection": "its reason comes in the event that is the end"},
)
