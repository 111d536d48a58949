"""Anthropic's messages: every case of the contract in the bytes of this format, streamed and plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from tests.providers.contract import Form

SENT: Final = {"input_tokens": 9, "output_tokens": 1}
USAGE: Final = {"input_tokens": 9, "output_tokens": 3}
MADE: Final = {"output_tokens": 3}
NONE: Final = {"input_tokens": 0, "output_tokens": 0}


def event(chunk: Mapping[str, Any]) -> bytes:
    return b"event: " + str(chunk.get("type")).encode() + b"\ndata: " + orjson.dumps(chunk) + b"\n\n"


def start(usage: Any = SENT) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": []}
    return event({"type": "message_start", "message": {**message, "stop_reason": None, "usage": usage}})


def block(kind: str = "text", **content: Any) -> bytes:
    return event({"type": "content_block_start", "index": 0, "content_block": {"type": kind, **content}})


def delta(kind: str, **content: Any) -> bytes:
    return event({"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", **content}})


def said(text: str) -> bytes:
    return delta("text", text=text)


def end(reason: str | None = "end_turn", usage: Any = MADE) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return event({"type": "message_delta", "delta": delta, "usage": usage}) + STOP


def error(kind: str, message: str = "oh", **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_1"}


def plain(*content: Any, reason: str | None = "end_turn", usage: Any = USAGE) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m-1", "content": list(content)}
    return orjson.dumps({**message, "stop_reason": reason, "usage": usage})


def text_of(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


STOP: Final = event({"type": "message_stop"})
PING: Final = event({"type": "ping"})
CLOSED: Final = event({"type": "content_block_stop", "index": 0})
HI: Final = start() + block(text="") + said("Hi ") + said("there") + CLOSED
THOUGHT: Final = (
    *(start(), block("thinking", thinking="", signature=""), delta("thinking", thinking="hm")),
    *(delta("thinking", thinking=" hm"), delta("signature", signature="c2ln"), CLOSED),
)
THINK: Final = b"".join(THOUGHT)
AFTER: Final = block(text="") + said("Hi ") + said("there") + CLOSED

ANSWERS: Sequence[tuple[str, bytes]] = [
    ("a reply", HI + end()),
    ("a reply", plain(text_of("Hi there"))),
    ("a reply", plain(text_of("Hi "), text_of("there"))),
    ("a reply", plain(text_of("Hi there"), reason="stop_sequence")),
    ("a reply", b"\n\n" + plain(text_of("Hi there"))),
    ("a reply between signs of life", PING + b": keep-alive\n\n" + HI + PING + end()),
    ("a reply in other letters", start() + said("“Grü") + said("ße” 🌒") + end()),
    ("a reply in other letters", plain(text_of("“Grüße” 🌒"))),
    ("a reply", HI + end()[: -len(STOP)]),
    ("a reply", HI + end() + said(" and more") + b"data: junk\n\n"),
    ("a reply", start() + block(text="Hi ") + said("there") + end()),
    ("a reply", (HI + end()).replace(b"\n", b"\r\n")),
    ("a reply", HI + event({"type": "something_new", "delta": {"text": "x"}}) + end()),
    ("a reply", HI + delta("citations", citation={"cited_text": "x"}) + end()),
    ("a reply after thinking", THINK + AFTER + end()),
    ("a reply after thinking", plain({"type": "thinking", "thinking": "hm hm", "signature": "x"}, text_of("Hi there"))),
    ("a reply cut by the limit", HI + end("max_tokens")),
    ("a reply cut by the limit", HI + end("model_context_window_exceeded")),
    ("a reply cut by the limit", plain(text_of("Hi there"), reason="pause_turn")),
    ("a refusal with text", start() + block(text="") + said("I will not.") + end("refusal")),
    ("a refusal without text", start() + end("refusal", {"output_tokens": 0})),
    ("a refusal without text", plain(reason="refusal", usage={"input_tokens": 9, "output_tokens": 0})),
    ("a refusal without text", THINK + end("refusal")),
    ("filtered after some text", HI + end("refusal")),
    ("filtered without text", plain(text_of(""), reason="refusal")),
    ("blank", start() + end()),
    ("blank", start() + block(text="") + CLOSED + end()),
    ("blank", plain()),
    ("blank", plain(text_of(" \n"))),
    ("blank, and no figures", start(None) + end("end_turn", None)),
    ("blank, and no figures", start() + end("end_turn", None)),
    ("blank, and no figures", plain(usage=None)),
    ("blank, and all figures zero", plain(usage=NONE)),
    ("blank, and all figures zero", start(NONE) + end("end_turn", {"output_tokens": 0})),
    ("invisible", plain(text_of("\u200b\ufeff"), usage=None)),
    ("only thinking", THINK + end()),
    ("only thinking", plain({"type": "thinking", "thinking": "hm"})),
    ("only thinking", plain({"type": "redacted_thinking", "data": "eA=="})),
    ("only thinking, cut by the limit", THINK + end("max_tokens")),
    ("an unknown end", HI + end("because")),
    ("an unknown end", plain(text_of("Hi there"), reason="tool_use")),
    ("no end", HI),
    ("no end", HI + STOP),
    ("no end", HI + end(None)),
    ("no end", plain(text_of("Hi there"), reason=None, usage=None)),
    ("cut in the middle", start() + block(text="") + said("Hi") + said(" there")[:-20]),
    ("damaged in the middle", start() + said("Hi ") + b'data: {"type":"content_bl\n\n' + end("end_turn", None)),
    ("damaged in the middle", start() + said("Hi ") + b"data: 7\n\n" + end("end_turn", None)),
    ("an error in place of an answer", event(error("api_error"))),
    ("an error in place of an answer", orjson.dumps(error("overloaded_error", "Overloaded"))),
    ("an error in place of an answer", start() + PING + event(error("overloaded_error", "Overloaded"))),
    ("an error in place of an answer", orjson.dumps({"error": "upstream is gone"})),
    ("an error after some text", start() + said("Hi ") + event(error("overloaded_error", "Overloaded"))),
    ("an error after some text", start() + said("Hi ") + event(error("rate_limit_error"))),
    ("an end that is an error", HI + end("error", None)),
    ("busy, in place of an answer", event(error("rate_limit_error"))),
    ("out of money, in place of an answer", event(error("billing_error"))),
    (
        "out of money, in place of an answer",
        event(error("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})),
    ),
    (
        "against a rule, in place of an answer",
        event(error("invalid_request_error", "Output blocked by content filtering policy")),
    ),
    (
        "too long, in place of an answer",
        event(error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")),
    ),
    ("nothing at all", b""),
    ("nothing at all", b"\n\n: keep-alive\n\n"),
    ("nothing at all", PING),
    ("not this format", b"upstream connect error"),
    ("not this format", b'{"type":"mess'),
    ("not this format", b"[" * 2000 + b"]" * 2000),
    ("not this format", b"{}"),
    ("not this format", b'data: {"choices":[{"delta":{"content":"Hi there"}}]}\n\n'),
    ("a web page", b"<!doctype html><title>Sign in</title>"),
]


CUT: Sequence[tuple[str, bytes]] = [
    ("figures so far, and a cut", start() + said("Hi ")),
    ("figures so far, and a cut", start() + said("Hi ") + end(None, {"output_tokens": 2})),
    ("figures so far, and an error", start() + said("Hi ") + event(error("api_error"))),
    ("an end, and no word of the figures", start() + said("Hi ") + end("end_turn", None)),
    ("an end, and no word of the figures", start() + said("Hi ") + end("end_turn", {"input_tokens": 9})),
    ("a reason to end, and a broken connection", HI + end()[: -len(STOP)]),
]


SIGNS: Sequence[tuple[str, bytes]] = [
    ("a comment", b": keep-alive\n\n"),
    ("blank lines", b"\n\n"),
    ("an event without data", PING),
    ("an event without data", CLOSED),
    ("who speaks", start()),
    ("who speaks", block("thinking", thinking="")),
    ("text", said("x")),
    ("thinking", delta("thinking", thinking="x")),
    ("thinking", delta("signature", signature="x")),
    ("an end", end()),
    ("an error", event(error("api_error"))),
    ("a plain answer", plain(text_of("x"))),
]


COUNTED: Sequence[tuple[str, Any]] = [
    ("missing", None),
    ("no object", "12"),
    ("plain", USAGE),
    ("plain", {**USAGE, "cache_creation_input_tokens": None, "cache_read_input_tokens": 0, "service_tier": "standard"}),
    ("no output", {"input_tokens": 9}),
    ("strings", {"input_tokens": "9", "output_tokens": "3"}),
    ("floats", {"input_tokens": 9.0, "output_tokens": 3.5}),
    ("negative", {"input_tokens": -9, "output_tokens": 3}),
    ("huge", {"input_tokens": 9, "output_tokens": 2**60}),
    ("true", {"input_tokens": 9, "output_tokens": True}),
    ("zero beside text", {"input_tokens": 9, "output_tokens": 0}),
    ("all zero", NONE),
    (
        "thinking and a cache",
        {
            "input_tokens": 388,
            "cache_read_input_tokens": 512,
            "output_tokens": 400,
            "output_tokens_details": {"thinking_tokens": 250},
        },
    ),
]


FORM: Final = Form(
    ANSWERS,
    CUT,
    SIGNS,
    COUNTED,
    using=lambda usage: plain(text_of("Hi there"), usage=usage),
    begun=HI,
    rest=end(),
    sign=PING,
    never={"a reply, and all of it once more": "its pieces are never told again"},
)
