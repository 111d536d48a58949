"""Gemini's generateContent: every case of the contract in the bytes of this format, streamed and plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from tests.providers.contract import Form

USAGE: Final = {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12}
SO_FAR: Final = {"promptTokenCount": 9, "candidatesTokenCount": 1, "totalTokenCount": 10}
NOTHING_MADE: Final = {"promptTokenCount": 9, "totalTokenCount": 9}
NONE: Final = {"promptTokenCount": 0, "candidatesTokenCount": 0, "totalTokenCount": 0}


def event(chunk: Any) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\r\n\r\n"


def chunk(*parts: Any, finish: str | None = None, usage: Any = SO_FAR, **candidate: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **candidate}
    if finish is not None:
        found["finishReason"] = finish
    return {"candidates": [found], "usageMetadata": usage, "modelVersion": "m-1", "responseId": "gen-1"}


def said(text: str, **more: Any) -> bytes:
    return event(chunk({"text": text, **more}))


def end(reason: str = "STOP", usage: Any = USAGE) -> bytes:
    return event(chunk({"text": ""}, finish=reason, usage=usage))


def plain(*texts: str, finish: str | None = "STOP", usage: Any = USAGE) -> bytes:
    return orjson.dumps(chunk(*({"text": text} for text in texts), finish=finish, usage=usage))


def blocked(reason: str, usage: Any = NOTHING_MADE) -> dict[str, Any]:
    return {"promptFeedback": {"blockReason": reason}, "usageMetadata": usage, "responseId": "gen-1"}


def error(code: int, status: str, message: str = "oh", *details: Mapping[str, Any]) -> dict[str, Any]:
    inside: dict[str, Any] = {"code": code, "message": message, "status": status}
    return {"error": inside | ({"details": list(details)} if details else {})}


def detail(kind: str, **more: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/google.rpc.{kind}", **more}


NOBODY: Final = {"usageMetadata": NOTHING_MADE, "modelVersion": "m-1", "responseId": "gen-1"}
"""An answer without candidates."""
HI: Final = said("Hi ") + said("there")
THINK: Final = said("hm", thought=True) + said(" hm", thought=True)

ANSWERS: Sequence[tuple[str, bytes]] = [
    ("a reply", HI + end()),
    ("a reply", said("Hi ") + event(chunk({"text": "there"}, finish="STOP", usage=USAGE))),
    ("a reply", plain("Hi there")),
    ("a reply", plain("Hi ", "there")),
    ("a reply", b"[" + plain("Hi there") + b"]"),
    ("a reply", b"\n\n" + plain("Hi there")),
    ("a reply between signs of life", b": keep-alive\n\n" + said("Hi ") + b"\r\n: x\n\n" + said("there") + end()),
    ("a reply in other letters", said("“Grü") + said("ße” 🌒") + end()),
    ("a reply in other letters", plain("“Grüße” 🌒")),
    ("a reply", (HI + end()).replace(b"\r\n", b"\n")),
    ("a reply", (HI + end())[:-4]),
    ("a reply", event(chunk({"text": "Hi "}, finish="STOP")) + event(chunk({"text": "there"}, finish="STOP"))),
    ("a reply", HI + event({"candidates": [{"index": 1, "content": {"parts": [{"text": "other"}]}}]}) + end()),
    ("a reply", HI + event(chunk({"inlineData": {"data": "eA=="}})) + end()),
    ("a reply", HI + end() + b"data: {broken\n\n"),
    ("a reply", event({"usageMetadata": None, "candidates": None}) + HI + event(chunk(finish="STOP"))),
    ("a reply after thinking", THINK + HI + end()),
    (
        "a reply after thinking",
        orjson.dumps(chunk({"text": "hm hm", "thought": True}, {"text": "Hi there"}, finish="STOP", usage=USAGE)),
    ),
    ("a reply cut by the limit", HI + end("MAX_TOKENS")),
    ("a reply cut by the limit", plain("Hi there", finish="CONTINUATION")),
    ("a refusal with text", said("I will not.") + end("SAFETY")),
    ("a refusal without text", event(blocked("SAFETY"))),
    ("a refusal without text", orjson.dumps(blocked("OTHER"))),
    ("a refusal without text", event(blocked("JAILBREAK"))),
    ("a refusal without text", plain(finish="PROHIBITED_CONTENT", usage=NOTHING_MADE)),
    *(("filtered after some text", HI + end(reason)) for reason in ("SAFETY", "RECITATION", "BLOCKLIST", "SPII")),
    *(("filtered without text", end(reason)) for reason in ("SAFETY", "LANGUAGE", "MODEL_ARMOR")),
    ("blank", end()),
    ("blank", plain(usage=NOTHING_MADE)),
    ("blank", plain(" \n")),
    ("blank", orjson.dumps({"candidates": [{"finishReason": "STOP", "index": 0}], "usageMetadata": USAGE})),
    ("blank, and no figures", plain(usage=None)),
    ("blank, and no figures", orjson.dumps(NOBODY)),
    ("blank, and no figures", event(NOBODY) + event(NOBODY)),
    ("blank, and no figures", end(usage={"promptTokenCount": 9})),
    ("blank, and all figures zero", plain(usage=NONE)),
    ("invisible", plain("\u200b\ufeff", usage=None)),
    ("only thinking", THINK + end()),
    ("only thinking", orjson.dumps(chunk({"text": "hm", "thought": True}, finish="STOP", usage=USAGE))),
    ("only thinking, cut by the limit", THINK + end("MAX_TOKENS")),
    ("an unknown end", HI + end("BECAUSE")),
    ("an unknown end", HI + end("FINISH_REASON_UNSPECIFIED")),
    ("no end", HI),
    ("no end", plain("Hi there", finish=None)),
    ("cut in the middle", said("Hi") + said(" there")[:-20]),
    ("damaged in the middle", said("Hi ") + b'data: {"candidates":[{"con\n\n' + end(usage=None)),
    ("damaged in the middle", said("Hi ") + b"data: 7\n\n" + end(usage=None)),
    ("an error in place of an answer", event(error(500, "INTERNAL"))),
    ("an error in place of an answer", orjson.dumps([error(503, "UNAVAILABLE", "The model is overloaded.")])),
    ("an error in place of an answer", orjson.dumps({"error": {"status": "DEADLINE_EXCEEDED"}})),
    ("an error in place of an answer", orjson.dumps({"error": "oh"})),
    ("an error after some text", said("Hi ") + event(error(503, "UNAVAILABLE"))),
    ("an error after some text", said("Hi ") + event(error(429, "RESOURCE_EXHAUSTED"))),
    *(
        ("an end that is an error", HI + end(reason, None))
        for reason in ("OTHER", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "MISSING_THOUGHT_SIGNATURE")
    ),
    ("busy, in place of an answer", event(error(429, "RESOURCE_EXHAUSTED"))),
    ("busy, in place of an answer", orjson.dumps({"error": {"status": "RESOURCE_EXHAUSTED"}})),
    (
        "out of money, in place of an answer",
        event(error(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")),
    ),
    (
        "too long, in place of an answer",
        event(error(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens (8).")),
    ),
    ("nothing at all", b""),
    ("nothing at all", b"\n\n: keep-alive\n\n"),
    ("not this format", b"upstream connect error"),
    ("not this format", b'{"candidates":[{"con'),
    ("not this format", b"[" * 2000 + b"]" * 2000),
    ("not this format", b"{}"),
    ("not this format", b'{"candidates":{"content":7},"promptFeedback":[]}'),
    ("a web page", b"<!doctype html><title>Sign in</title>"),
]


CUT: Sequence[tuple[str, bytes]] = [
    ("figures so far, and a cut", said("Hi ")),
    ("figures so far, and an error", said("Hi ") + event(error(500, "INTERNAL"))),
    ("an end, and no word of the figures", said("Hi ") + end(usage=None)),
    ("a reason to end, and a broken connection", HI + end()),
    *(
        (
            "a reason to end, and a broken connection",
            event(chunk({"text": "Hi "}, finish=reason)) + event(chunk({"text": "there"}, finish=reason, usage=USAGE)),
        )
        for reason in ("STOP", "FINISH_REASON_UNSPECIFIED")
    ),
]


SIGNS: Sequence[tuple[str, bytes]] = [
    ("a comment", b": keep-alive\n\n"),
    ("blank lines", b"\r\n\r\n"),
    ("an event without data", b"event: x\n\n"),
    ("an event without data", event({"usageMetadata": SO_FAR})),
    ("who speaks", event({"candidates": [{"content": {"role": "model"}}], "responseId": "gen-1"})),
    ("text", said("x")),
    ("thinking", said("x", thought=True)),
    ("thinking", event(chunk({"thoughtSignature": "eA=="}))),
    ("an end", event({"candidates": [{"finishReason": "STOP"}]})),
    ("an end", event(blocked("SAFETY"))),
    ("an error", event(error(500, "INTERNAL"))),
    ("a plain answer", plain("x")),
]


COUNTED: Sequence[tuple[str, Any]] = [
    ("missing", None),
    ("no object", "12"),
    ("plain", USAGE),
    ("plain", {"promptTokenCount": 9, "candidatesTokenCount": 3, "trafficType": "ON_DEMAND"}),
    ("plain", {"promptTokenCount": 9, "totalTokenCount": 12}),
    ("plain", {"promptTokenCount": 5, "toolUsePromptTokenCount": 4, "candidatesTokenCount": 3, "totalTokenCount": 12}),
    ("no output", {"promptTokenCount": 9}),
    ("strings", {"promptTokenCount": "9", "candidatesTokenCount": "3", "totalTokenCount": "12"}),
    ("floats", {"promptTokenCount": 9.0, "candidatesTokenCount": 3.5}),
    ("negative", {"promptTokenCount": -9, "candidatesTokenCount": 3}),
    ("huge", {"promptTokenCount": 9, "candidatesTokenCount": 2**60}),
    ("true", {"promptTokenCount": 9, "candidatesTokenCount": True}),
    ("zero beside text", {"promptTokenCount": 9, "candidatesTokenCount": 0}),
    ("zero beside text", NOTHING_MADE),
    ("all zero", NONE),
    (
        "thinking and a cache",
        {
            "promptTokenCount": 900,
            "cachedContentTokenCount": 512,
            "candidatesTokenCount": 150,
            "thoughtsTokenCount": 250,
            "totalTokenCount": 1300,
        },
    ),
]


FORM: Final = Form(
    ANSWERS,
    CUT,
    SIGNS,
    COUNTED,
    using=lambda usage: plain("Hi there", usage=usage),
    begun=HI,
    rest=end(),
    marked=False,
    never={
        "a reply, and all of it once more": "its pieces are never told again",
        "against a rule, in place of an answer": "a prompt that is blocked is told in an answer, and no error",
    },
)
