"""Chat completions: every case of the contract in the bytes of this format, streamed and plain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from tests.providers.contract import Form

USAGE: Final = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def event(chunk: Any) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def said(finish: str | None = None, **delta: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "gen-1", "model": "m-1", "choices": [choice]})


def again(content: Any, finish: str | None = None) -> bytes:
    """All that was said in one piece, beside an empty delta."""
    message = {"role": "assistant", "content": content}
    return event({"id": "gen-1", "choices": [{"index": 0, "delta": {}, "message": message, "finish_reason": finish}]})


def used(usage: Any = USAGE) -> bytes:
    return event({"id": "gen-1", "choices": [], "usage": usage})


def plain(finish: str | None = "stop", usage: Any = USAGE, **message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", **message}}
    return orjson.dumps({"id": "gen-1", "model": "m-1", "choices": [choice], "usage": usage})


DONE: Final = b"data: [DONE]\n\n"
HI: Final = said(role="assistant", content="") + said(content="Hi ") + said(content="there")
STOP: Final = said("stop")
END: Final = STOP + used() + DONE
THINK: Final = said(reasoning_content="hm") + said(reasoning_content=" hm")

ANSWERS: Sequence[tuple[str, bytes]] = [
    ("a reply", HI + END),
    ("a reply", plain(content="Hi there")),
    ("a reply", plain(content=[{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}])),
    ("a reply", plain(content=["Hi ", "there"])),
    ("a reply", b"\n\n\n" + plain(content="Hi there")),
    ("a reply", b"\xef\xbb\xbf" + plain(content="Hi there")),
    ("a reply between signs of life", b": OPENROUTER PROCESSING\n\n: keep-alive\n\n" + HI + b": x\n\n" + END),
    ("a reply between signs of life", b"\n\n" + plain(content="Hi there")),
    ("a reply in other letters", said(content="“Grü") + said(content="ße” 🌒") + END),
    ("a reply in other letters", plain(content="“Grüße” 🌒")),
    ("a reply", HI + STOP),
    ("a reply", HI + END + DONE),
    ("a reply", HI + END + said(content=" and more") + b"data: junk\n\n"),
    ("a reply", used({"prompt_tokens": 9, "completion_tokens": 1}) + HI + END),
    ("a reply", HI + STOP + b"data: {broken\n\n" + DONE),
    ("a reply", event({"id": "gen-1", "usage": None}) + event({"choices": []}) + b"data:\n\n" + HI + END),
    ("a reply", (HI + END).replace(b"\n", b"\r\n")),
    ("a reply", (HI + END).replace(b"\n", b"\r")),
    ("a reply", (HI + END).replace(b"data: ", b"event: message\nid: 1\nretry: 5\ndata:")),
    ("a reply", (HI + END).replace(b',"model"', b',\ndata: "model"')),
    ("a reply", HI + said("stop").replace(b"\n\n", b"\n") + DONE),
    ("a reply", (HI + END)[:-2]),
    ("a reply", HI + event({"choices": [{"index": 1, "delta": {"content": " other"}, "finish_reason": None}]}) + END),
    ("a reply", event({"choices": [{"index": 0, "message": {"content": "Hi there"}, "finish_reason": "stop"}]}) + DONE),
    ("a reply after thinking", THINK + HI + END),
    ("a reply after thinking", said(reasoning="hm hm") + HI + END),
    ("a reply after thinking", said(content="<think>hm") + said(content=" hm</think>\n\n") + HI + END),
    ("a reply after thinking", plain(content="\n<think>\nhm hm\n</think>\n\nHi there")),
    ("a reply after thinking", plain(content="hm hm\n</think>\n\nHi there")),
    ("a reply after thinking", plain(content="<think>hm</think><think>hm</think>Hi there")),
    (
        "a reply after thinking",
        said(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm hm"}]}]) + HI + END,
    ),
    (
        "a reply after thinking",
        plain(content=[{"type": "reasoning", "text": "hm hm"}, {"type": "text", "text": "Hi there"}]),
    ),
    ("a reply, and all of it once more", HI + again("Hi there", "stop") + used() + DONE),
    ("a reply, and all of it once more", HI + again("Hi there", "stop") + again("Hi there") + DONE),
    ("a reply, and all of it once more", HI + again("Hi", "stop") + used() + DONE),
    ("a reply, and all of it once more", said(content="there") + again("Hi there", "stop") + used() + DONE),
    ("a reply, and all of it once more", HI + again("") + STOP + again([{"type": "text", "text": "Hi there"}]) + DONE),
    ("a reply cut by the limit", HI + said("length") + used() + DONE),
    ("a reply cut by the limit", plain("model_length", content="Hi there")),
    ("a refusal with text", said(refusal="I will ") + said(refusal="not.") + END),
    ("a refusal with text", plain(content=None, refusal="I will not.")),
    ("a refusal with text", plain(content=[{"type": "refusal", "refusal": "I will not."}])),
    ("a refusal without text", said("refusal") + used() + DONE),
    ("filtered after some text", HI + said("content_filter") + used() + DONE),
    ("filtered after some text", HI + said("SAFETY") + used() + DONE),
    ("filtered without text", said("content_filter") + used() + DONE),
    ("blank", said(content="") + END),
    ("blank", plain(content=None)),
    ("blank", plain(content=" \n\t ")),
    ("blank", plain(content="", usage={"prompt_tokens": 9, "completion_tokens": 0})),
    ("blank", plain(content="", usage={"prompt_tokens": 0, "completion_tokens": 0, "cost": 0})),
    ("blank, and no figures", said(content="") + STOP + DONE),
    ("blank, and no figures", plain(content="", usage=None)),
    ("blank, and all figures zero", plain(content="", usage={"prompt_tokens": 0, "completion_tokens": 0})),
    ("invisible", plain(content="\u200b\ufeff\u2060\x00", usage=None)),
    ("only thinking", THINK + END),
    ("only thinking", plain(content="<think>hm, hm</think>\n")),
    ("only thinking", plain(content="<think>hm, and then it stops")),
    ("only thinking", plain(content=[{"type": "thinking", "thinking": "hm"}])),
    ("only thinking, cut by the limit", THINK + said("length") + used() + DONE),
    ("an unknown end", HI + said("eos") + used() + DONE),
    ("an unknown end", HI + said("because") + used() + DONE),
    ("no end", HI + used({}) + DONE),
    ("no end", HI),
    ("no end", plain(None, None, content="Hi there")),
    ("cut in the middle", said(content="Hi") + said(content=" there")[:-20]),
    ("damaged in the middle", said(content="Hi ") + b'data: {"choices":[{"del\n\n' + STOP),
    ("damaged in the middle", said(content="Hi ") + b"data: 7\n\n" + STOP),
    ("an error in place of an answer", event({"error": {"code": 502, "message": "oh"}})),
    (
        "an error in place of an answer",
        orjson.dumps({"error": {"message": "oh", "type": "server_error", "code": None}}),
    ),
    ("an error in place of an answer", orjson.dumps([{"error": {"message": "oh", "code": 500}}])),
    ("an error in place of an answer", orjson.dumps({"error": "model crashed"})),
    ("an error in place of an answer", orjson.dumps({"object": "error", "message": "oh", "code": 500})),
    ("an error in place of an answer", b"event: error\n" + event({"type": "error", "message": "oh"})),
    ("an error in place of an answer", orjson.dumps({"choices": [{"finish_reason": "error", "error": {"code": 500}}]})),
    ("an error after some text", said(content="Hi ") + event({"error": {"code": "502", "message": "oh"}})),
    (
        "an error after some text",
        said(content="Hi ") + event({"error": {"code": 429, "message": "slow"}, "choices": []}),
    ),
    ("an error after some text", said(content="Hi ") + event({"choices": [{"delta": {}, "error": {"message": "oh"}}]})),
    ("an end that is an error", HI + said("error") + DONE),
    ("an end that is an error", HI + said("network_error") + DONE),
    ("busy, in place of an answer", event({"error": {"code": 429, "message": "slow"}})),
    ("busy, in place of an answer", event({"error": {"code": "rate_limit_exceeded", "message": "slow"}})),
    ("out of money, in place of an answer", event({"error": {"code": "insufficient_quota", "message": "pay"}})),
    ("out of money, in place of an answer", orjson.dumps({"error": {"code": 402, "message": "pay"}})),
    ("against a rule, in place of an answer", event({"error": {"code": "content_filter", "message": "no"}})),
    (
        "too long, in place of an answer",
        orjson.dumps({"error": {"code": 400, "message": "maximum context length is 9"}}),
    ),
    ("nothing at all", b""),
    ("nothing at all", b"\n\n: keep-alive\n\n"),
    ("nothing at all", DONE),
    ("not this format", b"upstream connect error or disconnect"),
    ("not this format", b'{"choices": [{"mess'),
    ("not this format", b"[" * 2000 + b"]" * 2000),
    ("not this format", b'{"a":' * 900 + b"1" + b"}" * 900),
    ("not this format", b"{}"),
    ("a web page", b"<!doctype html><title>Sign in</title>"),
]


CUT: Sequence[tuple[str, bytes]] = [
    ("figures so far, and a cut", used() + said(content="Hi ")),
    ("figures so far, and an error", used() + said(content="Hi ") + event({"error": {"message": "oh"}})),
    ("an end, and no word of the figures", said(content="Hi ") + STOP + DONE),
    ("a reason to end, and a broken connection", HI + STOP),
    ("a reason to end, and a broken connection", HI + STOP + used()),
    ("a reason to end, and a broken connection", said("stop", content="Hi ") + said("stop", content="there") + used()),
    ("a reason to end, and a broken connection", said("null", content="Hi ") + said("null", content="there")),
]

SIGNS: Sequence[tuple[str, bytes]] = [
    ("a comment", b": keep-alive\n\n"),
    ("blank lines", b"\n\n"),
    ("an event without data", b"data:\n\n"),
    ("an event without data", event({"choices": []})),
    ("who speaks", said(role="assistant", content="")),
    ("text", said(content="x")),
    ("thinking", said(reasoning="x")),
    ("thinking", said(reasoning_details=[{"type": "encrypted"}])),
    ("an end", STOP),
    ("an end", used()),
    ("an end", DONE),
    ("an error", event({"error": {"code": 500}})),
    ("a plain answer", plain(content="x")),
]

COUNTED: Sequence[tuple[str, Any]] = [
    ("missing", None),
    ("no object", "12"),
    ("plain", USAGE),
    ("no output", {"prompt_tokens": 9}),
    ("strings", {"prompt_tokens": "9", "completion_tokens": "3"}),
    ("floats", {"prompt_tokens": 9.0, "completion_tokens": 3.5}),
    ("negative", {"prompt_tokens": -9, "completion_tokens": 3}),
    ("huge", {"prompt_tokens": 9, "completion_tokens": 2**60}),
    ("true", {"prompt_tokens": 9, "completion_tokens": True}),
    ("zero beside text", {"prompt_tokens": 9, "completion_tokens": 0}),
    ("all zero", {"prompt_tokens": 0, "completion_tokens": 0}),
    (
        "thinking and a cache",
        {
            "prompt_tokens": 900,
            "completion_tokens": 400,
            "prompt_tokens_details": {"cached_tokens": 512},
            "completion_tokens_details": {"reasoning_tokens": 250},
        },
    ),
]

FORM: Final = Form(ANSWERS, CUT, SIGNS, COUNTED, using=lambda usage: HI + STOP + used(usage), begun=HI, rest=END)
