"""The Anthropic dialect: the bytes of its requests, and what it makes of every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Failure, Left, Reasoning, Reply, Sampling, Usage
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Inquiry, Listed, merged
from runner.world import HttpRequest, Secret
from tests.providers.contract import (
    BODIES,
    CUTS,
    FIGURES,
    LIFE,
    SILENT,
    STATUSES,
    VIEWS,
    WAITS,
    WALL,
    call,
    essence,
    failure,
    heard,
    hostile,
    told,
)

anthropic = DIALECTS["anthropic"]
HOME: Final = Endpoint("p", "anthropic", "https://x/v1/", Secret(" sk-1\n"))

# --- requests --------------------------------------------------------------------------------------------------------

BEGIN: Final = b'{"model":"m","max_tokens":400,'
ASKED: Final = BEGIN + b'"messages":[{"role":"user","content":"What survives?"}],'

TAKING_OVER: Final = {"model": "x", "messages": [], "system": "x", "max_tokens": 10**6, "stream": False}

GOLDEN: Sequence[tuple[str, dict[str, Any], bytes]] = [
    ("one message", {}, ASKED + b'"stream":true}'),
    (
        "opened by the other side",
        {"view": VIEWS["opened by the other side"]},
        (
            BEGIN + b'"system":"You are brief.","messages":['
            b'{"role":"user","content":"What survives of a conversation?"},'
            b'{"role":"assistant","content":"Its silences."},{"role":"user","content":"And then?"}],"stream":true}'
        ),
    ),
    (
        "opened by itself",
        {"view": VIEWS["opened by itself"]},
        (
            BEGIN + b'"messages":[{"role":"user","content":"(The conversation begins.)"},'
            b'{"role":"assistant","content":"Shall we talk?"},{"role":"user","content":"Of what?"}],"stream":true}'
        ),
    ),
    (
        "three speakers",
        {"view": VIEWS["three speakers"]},
        (
            BEGIN + b'"system":"You are the first of three.","messages":['
            b'{"role":"user","content":"What survives?"},{"role":"assistant","content":"Echoes."},'
            b'{"role":"user","content":"two: Names.\\n\\nthree: \xe2\x80\x9cNothing.\xe2\x80\x9d"}],"stream":true}'
        ),
    ),
    (
        "context",
        {"view": VIEWS["context"]},
        (
            BEGIN + b'"messages":[{"role":"user","content":"# An essay\\n\\nIt begins.\\n\\nOpen the discussion."}],'
            b'"stream":true}'
        ),
    ),
    (
        "sampling, and a seed that has no place here",
        {"sampling": Sampling(temperature=0.7, top_p=0.95, top_k=40, stop=("[[END]]",)), "seed": 7},
        ASKED + b'"temperature":0.7,"top_p":0.95,"top_k":40,"stop_sequences":["[[END]]"],"stream":true}',
    ),
    (
        "no thinking",
        {"reasoning": Reasoning("none", 2000)},
        ASKED + b'"thinking":{"type":"disabled"},"stream":true}',
    ),
    (
        "thinking by a word",
        {"reasoning": Reasoning("high")},
        ASKED + b'"thinking":{"type":"adaptive"},"output_config":{"effort":"high"},"stream":true}',
    ),
    (
        "the least thinking there is a word for",
        {"reasoning": Reasoning("minimal")},
        ASKED + b'"thinking":{"type":"adaptive"},"output_config":{"effort":"low"},"stream":true}',
    ),
    (
        "thinking by a number",
        {"reasoning": Reasoning(tokens=2000)},
        ASKED + b'"thinking":{"type":"enabled","budget_tokens":2000},"stream":true}',
    ),
    (
        "thinking by both",
        {"reasoning": Reasoning("low", 2000)},
        (ASKED + b'"thinking":{"type":"enabled","budget_tokens":2000},"output_config":{"effort":"low"},"stream":true}'),
    ),
    (
        "parameters that the model refused",
        {
            "sampling": Sampling(temperature=0.7, top_k=40),
            "reasoning": Reasoning("max"),
            "extra": {"thinking": {"display": "summarized"}, "service_tier": "auto"},
            "dropped": ("temperature", "thinking"),
        },
        ASKED + b'"top_k":40,"output_config":{"effort":"max"},"service_tier":"auto","stream":true}',
    ),
    (
        "fields of the job's own",
        {
            "reasoning": Reasoning("low"),
            "extra": TAKING_OVER
            | {
                "thinking": {"display": "summarized"},
                "output_config": {"effort": "medium"},
                "service_tier": "standard_only",
            },
        },
        (
            ASKED + b'"thinking":{"type":"adaptive","display":"summarized"},"output_config":{"effort":"medium"},'
            b'"service_tier":"standard_only","stream":true}'
        ),
    ),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_a_request_has_exactly_these_bytes(changes: dict[str, Any], expected: bytes) -> None:
    """The journal keeps a hash of these bytes: a change here is a new revision of the dialect."""
    assert anthropic.revision == "anthropic/1"
    assert anthropic.body(call(**changes)) == expected


def test_headers_carry_the_key_and_the_version() -> None:
    """The key stands in one header, hidden; white space around it is not part of it."""
    found = anthropic.headers(HOME)
    assert repr(found) == (
        "{'content-type': 'application/json', 'accept': 'text/event-stream', 'anthropic-version': '2023-06-01', "
        "'x-api-key': ***}"
    )
    key = found["x-api-key"]
    assert isinstance(key, Secret)
    assert key.reveal() == "sk-1"
    assert anthropic.url(HOME, "m") == "https://x/v1/messages"


@pytest.mark.parametrize(
    ("headers", "version", "keys"),
    [
        ({"Anthropic-Version": "2026-10-21"}, "2026-10-21", ["x-api-key"]),
        ({"Authorization": Secret("Bearer token-12")}, "2023-06-01", ["Authorization"]),
        ({"X-API-Key": Secret("sk-another")}, "2023-06-01", ["X-API-Key"]),
    ],
)
def test_the_headers_of_a_job_win_however_they_are_written(
    headers: dict[str, str | Secret], version: str, keys: list[str]
) -> None:
    """Another version, and another way to be let in: never two of them in one request."""
    found = anthropic.headers(Endpoint("p", "anthropic", "https://x/v1", Secret("sk-1"), headers))
    by_name = {name.lower(): value for name, value in found.items()}
    assert len(by_name) == len(found)
    assert by_name["anthropic-version"] == version
    assert [name for name in found if name.lower() in ("authorization", "x-api-key")] == keys


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"a": 1}, {"kept": 1, "mixed": {"kept": 1, "free": 1}, "a": 1}),
        ({"kept": {"x": 1}}, {"kept": 1, "mixed": {"kept": 1, "free": 1}}),
        ({"mixed": {"kept": 2, "free": 2, "new": 2}}, {"kept": 1, "mixed": {"kept": 1, "free": 2, "new": 2}}),
        ({"mixed": None}, {"kept": 1, "mixed": {"kept": 1, "free": 1}}),
        ({"mixed": [1]}, {"kept": 1, "mixed": {"kept": 1, "free": 1}}),
        ({"b": {"kept": 2}}, {"kept": 1, "mixed": {"kept": 1, "free": 1}, "b": {"kept": 2}}),
    ],
)
def test_what_a_job_adds_cannot_touch_what_is_ours(extra: dict[str, Any], expected: dict[str, Any]) -> None:
    """Objects become one, field by field; nothing in the place of one takes ours away."""
    request = {"kept": 1, "mixed": {"kept": 1, "free": 1}}
    assert merged(request, extra, frozenset({"kept", "mixed.kept"})) == expected
    assert request == {"kept": 1, "mixed": {"kept": 1, "free": 1}}


# --- bodies of status 200 --------------------------------------------------------------------------------------------

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
    ("a reply", PING + b": keep-alive\n\n" + HI + PING + end()),
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


def test_every_case_of_the_contract_is_met() -> None:
    """No row of the contract is left without bytes of this dialect."""
    assert {name for name, _ in ANSWERS} == set(BODIES)
    assert {name for name, _ in BROKEN} == set(CUTS)
    assert {name for name, _ in SIGNS} == set(LIFE)
    assert {name for name, _ in COUNTED} == set(FIGURES)


@pytest.mark.fault(38, 39, 40, 41, 49, 50, 55, 86)
@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize(("name", "body"), ANSWERS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(ANSWERS)])
def test_an_answer_comes_to_what_the_contract_says(name: str, body: bytes, size: int | None) -> None:
    """However it is cut into pieces."""
    assert essence(heard(anthropic, body, size=size)) == BODIES[name]


BROKEN: Sequence[tuple[str, bytes]] = [
    ("figures so far, and a cut", start() + said("Hi ")),
    ("figures so far, and a cut", start() + said("Hi ") + end(None, {"output_tokens": 2})),
    ("figures so far, and an error", start() + said("Hi ") + event(error("api_error"))),
    ("an end, and no word of the figures", start() + said("Hi ") + end("end_turn", None)),
    ("an end, and no word of the figures", start() + said("Hi ") + end("end_turn", {"input_tokens": 9})),
]


@pytest.mark.fault(51)
@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize(("name", "body"), BROKEN, ids=[f"{n}-{name}" for n, (name, _) in enumerate(BROKEN)])
def test_the_figures_of_a_cut_answer_are_not_taken_for_the_last(name: str, body: bytes, size: int | None) -> None:
    """What was sent is known from the first event; what was made is not, until it has ended."""
    got = heard(anthropic, body, size=size)
    assert essence(got) == CUTS[name]
    assert got.usage.input == 9
    assert got.usage.output in (None, 2)
    assert got.usage.raw is not None
    if isinstance(got, Reply):
        assert got.usage.output is None


@pytest.mark.parametrize("body", [body for name, body in ANSWERS if name == "a reply after thinking"])
def test_thinking_is_kept_apart(body: bytes) -> None:
    """It is in `reasoning` and in no text."""
    assert heard(anthropic, body).reasoning == "hm hm"


@pytest.mark.parametrize("body", [HI + end("because"), plain(text_of("Hi there"), reason="because")])
def test_what_a_reply_says_of_itself_is_kept(body: bytes) -> None:
    """Model, id, the provider's own word for the end, and its figures as they came."""
    got = heard(anthropic, body)
    assert isinstance(got, Reply)
    assert (got.model, got.generation, got.stop) == ("m-1", "msg_1", "because")
    assert got.usage == Usage(9, 3, raw=USAGE)


def test_the_id_is_known_with_the_first_event() -> None:
    """Before there is any text, so that a crash leaves it in the journal."""
    reader = anthropic.reader(call())
    reader.feed(start())
    assert reader.generation == "msg_1"


@pytest.mark.parametrize(
    ("body", "cost"),
    [
        (start() + end("refusal", {"output_tokens": 0}), 0),
        (plain(reason="refusal", usage={"input_tokens": 9, "output_tokens": 0}), 0),
        (start() + end("refusal", {"output_tokens": 3}), None),
        (start() + block(text="") + end("refusal", {"output_tokens": 0}), None),
        (plain({"type": "redacted_thinking"}, reason="refusal", usage={"input_tokens": 9, "output_tokens": 0}), None),
        (THINK + end("refusal"), None),
        (HI + end("refusal"), None),
        (start() + end("end_turn", {"output_tokens": 0}), None),
    ],
)
def test_a_refusal_before_the_first_word_costs_nothing(body: bytes, cost: int | None) -> None:
    """One after it is charged as any answer is."""
    assert heard(anthropic, body).usage.cost == cost


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


@pytest.mark.parametrize(("name", "piece"), SIGNS)
def test_a_sign_of_life_is_no_data(name: str, piece: bytes) -> None:
    """Only what belongs to the answer resets the clocks: a model that thinks in secret may be silent for long."""
    assert anthropic.reader(call()).feed(piece) is LIFE[name]


@pytest.mark.parametrize(("body", "done"), [(HI, False), (HI + end()[: -len(STOP)], False), (HI + end(), True)])
def test_the_end_is_known_by_its_event(body: bytes, done: bool) -> None:
    """What comes after the reason to end may still be a figure."""
    reader = anthropic.reader(call())
    reader.feed(body)
    assert reader.done() is done


# --- usage -----------------------------------------------------------------------------------------------------------

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


@pytest.mark.fault(51)
@pytest.mark.parametrize(("name", "usage"), COUNTED, ids=[f"{n}-{name}" for n, (name, _) in enumerate(COUNTED)])
def test_usage_is_read_or_not_trusted(name: str, usage: Any) -> None:
    """A figure that cannot be is None and spoils the trust in all; what was not said is None and spoils nothing."""
    got = heard(anthropic, plain(text_of("Hi there"), usage=usage)).usage
    expected = Usage(**FIGURES[name], raw=usage if isinstance(usage, dict) else None)
    assert replace(got, cached_read=got.cached_read or None) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"cache_creation_input_tokens": 100, "cache_read_input_tokens": 512}, (621, 512, 100, True)),
        ({"cache_creation_input_tokens": "100"}, (None, None, None, False)),
        ({"cache_creation_input_tokens": -1}, (None, None, None, False)),
        ({"output_tokens_details": {"thinking_tokens": 4}}, (9, None, None, False)),
        ({"output_tokens_details": 7}, (9, None, None, True)),
    ],
)
def test_what_a_cache_gave_and_took_is_part_of_the_input(usage: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Here the input is told without it; and no more can have been thought than was made."""
    got = heard(anthropic, plain(text_of("Hi there"), usage={**USAGE, **usage})).usage
    assert (got.input, got.cached_read, got.cached_write, got.trusted) == expected


def test_later_figures_complete_the_first_ones() -> None:
    """The end counts what was made, and leaves out or repeats what was sent; nothing of either is lost."""
    first = {"input_tokens": 9, "cache_read_input_tokens": 5, "output_tokens": 1, "service_tier": "standard"}
    got = heard(anthropic, start(first) + said("Hi") + end("end_turn", {"input_tokens": None, "output_tokens": 3}))
    assert got.usage == Usage(14, 3, cached_read=5, raw={**first, "output_tokens": 3})


# --- error statuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("body", SILENT)
def test_a_status_comes_to_what_the_contract_says(status: int, body: bytes) -> None:
    """Where the words say nothing, the status decides, and it is told."""
    got = told(anthropic, status, body)
    assert essence(got) == STATUSES[status]
    assert got.status == status


@pytest.mark.fault(43)
@pytest.mark.parametrize("status", [408, 429, 500, 503, 529])
@pytest.mark.parametrize(("headers", "wait"), WAITS)
def test_a_hint_is_taken_when_it_is_one(status: int, headers: Mapping[str, str], wait: float | None) -> None:
    """Seconds, durations, dates and milliseconds; nonsense, and no time at all, are no hint."""
    got = told(anthropic, status, headers=headers)
    assert got.retry_after == wait
    assert {**essence(got), "retry_after": None} == {**STATUSES[status], "retry_after": None}


OVERFLOW: Final = failure(scope="conversation", money="free", overflow=True)
PROVIDER: Final = failure(scope="provider", money="free")
GIVEN_UP: Final = {**PROVIDER, "retry_after": 7.0}
BUSY: Final = failure(money="free", busy=True)
NO_MORE_MONEY: Final = {"error_code": "enforced_spend_limit_reached"}
BAD: Final = "invalid_request_error"

ERRORS: Sequence[tuple[int, dict[str, Any], Mapping[str, str], Mapping[str, Any], str | None]] = [
    (400, error(BAD), {}, STATUSES[400], None),
    (401, error("authentication_error"), {}, PROVIDER, None),
    (402, error("billing_error"), {}, PROVIDER, "credit"),
    (403, error("permission_error"), {}, STATUSES[403], None),
    (404, error("not_found_error", "model: m"), {}, STATUSES[404], None),
    (409, error("conflict_error"), {}, STATUSES[409], None),
    (413, error("request_too_large"), {}, OVERFLOW, None),
    (500, error("api_error"), {}, failure(), None),
    (504, error("timeout_error"), {}, failure(), None),
    (529, error("overloaded_error", "Overloaded"), {}, failure(), None),
    (529, error("overloaded_error"), {"x-should-retry": "false"}, failure(scope="conversation"), None),
    (429, error("rate_limit_error"), {"retry-after": "7"}, {**BUSY, "retry_after": 7.0}, None),
    (429, error("rate_limit_error"), {"retry-after": "0"}, BUSY, None),
    (429, error("rate_limit_error"), {}, PROVIDER, "credit"),
    (429, error("rate_limit_error"), {"x-should-retry": "true"}, BUSY, None),
    (429, error("rate_limit_error"), {"x-should-retry": "false", "retry-after": "7"}, GIVEN_UP, None),
    (429, error("rate_limit_error"), {"anthropic-ratelimit-output-tokens-remaining": "0"}, BUSY, None),
    (429, error("rate_limit_error"), {"anthropic-ratelimit-output-tokens-remaining": "9"}, PROVIDER, "credit"),
    (429, error("rate_limit_error", details=NO_MORE_MONEY), {}, PROVIDER, "credit"),
    (429, error("rate_limit_error", details={"error_code": "contract_spend_limit_reached"}), {}, PROVIDER, "credit"),
    (
        429,
        error("rate_limit_error", details={"error_code": "ramp_limit_exceeded"}),
        {"retry-after": "30"},
        {**BUSY, "retry_after": 30.0},
        None,
    ),
    (
        400,
        error(BAD, "You have reached your specified API usage limits. You will regain access"),
        {},
        PROVIDER,
        "credit",
    ),
    (400, error(BAD, "Your credit balance is too low to access the Anthropic API."), {}, PROVIDER, "credit"),
    (400, error(BAD, "This organization has been disabled."), {}, PROVIDER, None),
    (400, error(BAD, "prompt is too long: 210000 tokens > 200000 maximum"), {}, OVERFLOW, None),
    (
        400,
        error(BAD, "input length and `max_tokens` exceed context limit: 188240 + 20000 > 200000"),
        {},
        OVERFLOW,
        None,
    ),
    (
        400,
        error(BAD, "Output blocked by content filtering policy"),
        {},
        failure("refused", "conversation", "free"),
        None,
    ),
    (400, error(BAD, "max_tokens: 200000 > 64000, which is the most for m"), {}, STATUSES[400], None),
    (400, error(BAD, "`max_tokens` must be greater than `thinking.budget_tokens`."), {}, STATUSES[400], None),
    (400, error(BAD, "messages.1.content: the temperature of the text"), {}, STATUSES[400], None),
]


@pytest.mark.parametrize(("status", "body", "headers", "expected", "quota"), ERRORS)
def test_the_words_of_an_error_say_how_far_it_reaches(
    status: int, body: dict[str, Any], headers: Mapping[str, str], expected: Mapping[str, Any], quota: str | None
) -> None:
    """A limit on spending comes as too many requests without a time, or as a bad request; time lifts neither."""
    got = told(anthropic, status, orjson.dumps(body), headers)
    assert essence(got) == expected
    assert got.quota == quota


@pytest.mark.parametrize(
    ("message", "parameter"),
    [
        ("`temperature` is deprecated for this model.", "temperature"),
        ("temperature: Extra inputs are not permitted", "temperature"),
        ("`temperature` may only be set to 1 when thinking is enabled.", "temperature"),
        ("top_k: Extra inputs are not permitted", "top_k"),
        ("`top_p` cannot be used here", "top_p"),
        ("stop_sequences: at most 4", "stop_sequences"),
        ('"thinking.type.enabled" is not supported for this model.', "thinking"),
        ("adaptive thinking is not supported on this model", "thinking"),
        ("This model does not support the effort parameter.", "output_config"),
        ("output_config.effort: Input should be 'low'", "output_config"),
    ],
)
def test_a_field_that_a_model_refuses_is_named(message: str, parameter: str) -> None:
    """Only the message tells which it is; it is dropped once, and the call made again."""
    got = told(anthropic, 400, orjson.dumps(error(BAD, message)))
    assert essence(got) == failure(money="free", parameter=parameter)


# --- limits ----------------------------------------------------------------------------------------------------------


def limits(**told: str) -> dict[str, str]:
    return {f"anthropic-ratelimit-{name.replace('_', '-')}": value for name, value in told.items()}


def test_hints_tell_input_and_output_apart() -> None:
    """The tightest of them is told a second time, and is no limit on their sum."""
    found = anthropic.hints(
        limits(
            requests_limit="50",
            requests_remaining="49",
            requests_reset="2026-11-21T12:00:01Z",
            input_tokens_limit="40000",
            input_tokens_remaining="0",
            input_tokens_reset="2026-11-21T12:01:00Z",
            output_tokens_remaining="7000",
            tokens_limit="40000",
            tokens_remaining="0",
            tokens_reset="2026-11-21T12:01:00Z",
        ),
        WALL,
    )
    assert found == (
        Left("requests", "minute", 49, 50, 1.0),
        Left("input", "minute", 0, 40_000, 60.0),
        Left("output", "minute", 7000),
    )


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ()),
        (limits(tokens_remaining="5"), (Left("tokens", "minute", 5),)),
        (limits(requests_remaining="-1", requests_reset="soon"), ()),
        (limits(requests_reset="2026-11-21T11:00:00Z"), (Left("requests", "minute", None, None, 0.0),)),
        (limits(requests_reset="2026-11-21T13:00:30+01:00"), (Left("requests", "minute", None, None, 30.0),)),
        (limits(requests_reset="9999-12-31T23:59:59Z"), ()),
        (
            {**limits(requests_reset="2026-11-21T12:01:00Z"), "date": "Sat, 21 Nov 2026 12:00:40 GMT"},
            (Left("requests", "minute", None, None, 20.0),),
        ),
    ],
)
def test_hints_are_read_where_they_make_sense(headers: dict[str, str], expected: Any) -> None:
    """Moments are by their clock; what is missing or absurd is None."""
    assert anthropic.hints(headers, WALL) == expected


# --- inquiries -------------------------------------------------------------------------------------------------------


def test_models_are_asked_for_by_name_or_all() -> None:
    """Without a body, with the key in a header; a strange name does not lead elsewhere."""
    one, strange = anthropic.inquiries(HOME, ["m", "../v?1"])
    assert (one.about, one.models) == ("model", ("m",))
    assert (one.request.method, one.request.url, one.request.body) == ("GET", "https://x/v1/models/m", b"")
    assert "x-api-key" in one.request.headers
    assert strange.request.url == "https://x/v1/models/..%2Fv%3F1"
    (every,) = anthropic.inquiries(HOME, [])
    assert (every.about, every.request.url) == ("models", "https://x/v1/models?limit=1000")


ROW: Final = {"type": "model", "id": "m-20261101", "max_input_tokens": 200_000, "max_tokens": 64_000}
ONE: Final = Inquiry("model", HttpRequest("GET", "", {}, b""), ("m",))
EVERY: Final = Inquiry("models", HttpRequest("GET", "", {}, b""))


@pytest.mark.parametrize(
    ("inquiry", "answer", "expected"),
    [
        (ONE, ROW, [Listed("m", 200_000, 64_000)]),
        (ONE, {**ROW, "lifecycle": "active", "retires_at": None}, [Listed("m", 200_000, 64_000)]),
        (
            ONE,
            {**ROW, "lifecycle": "deprecated", "retires_at": "2026-12-01"},
            [Listed("m", 200_000, 64_000, ends="2026-12-01")],
        ),
        (ONE, {**ROW, "lifecycle": "retired"}, [Listed("m", 200_000, 64_000, ends="retired")]),
        (ONE, {"id": "m", "max_input_tokens": 0, "max_tokens": "64000"}, [Listed("m")]),
        (EVERY, {"data": [ROW, {"id": "n"}, 7, {"id": None}]}, [Listed("m-20261101", 200_000, 64_000), Listed("n")]),
        (EVERY, {"data": 7}, []),
        (ONE, {"type": "error"}, []),
        (ONE, 7, []),
    ],
)
def test_what_a_model_has_room_for_is_learned(inquiry: Inquiry, answer: Any, expected: list[Listed]) -> None:
    """By the name that was asked for, which may stand for a longer one."""
    assert list(anthropic.learned(inquiry, orjson.dumps(answer))) == expected


# --- anything at all -------------------------------------------------------------------------------------------------

JSON = hostile(
    *("id", "model", "message", "content", "content_block", "delta", "usage", "stop_reason", "thinking", "data"),
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "output_tokens_details", "error_code"),
)
KINDS = st.sampled_from(
    ["message", "message_start", "content_block_start", "content_block_delta", "message_delta", "x"]
)
PIECES = st.tuples(KINDS, JSON).map(lambda pair: {**(pair[1] if isinstance(pair[1], dict) else {}), "type": pair[0]})


@settings(max_examples=40)
@given(st.lists(PIECES | JSON, max_size=4), st.sampled_from([200, 400, 422, 429, 500]))
def test_no_answer_can_raise(chunks: list[Any], status: int) -> None:
    """Whatever JSON a server sends, the reader comes to an outcome; its words may be nonsense, its types never."""
    bodies = [json.dumps(chunk).encode() for chunk in chunks]
    stream = b"".join(b"data: " + body + b"\n\n" for body in bodies)
    assert isinstance(heard(anthropic, stream), (Reply, Failure))
    for body in bodies:
        assert isinstance(heard(anthropic, body), (Reply, Failure))
        assert isinstance(told(anthropic, status, body), Failure)
        anthropic.learned(ONE, body)


@given(st.binary(max_size=200), st.text(max_size=40))
def test_no_bytes_can_raise(body: bytes, header: str) -> None:
    """Bytes that are no JSON, and headers that say nothing, are an outcome too."""
    assert isinstance(heard(anthropic, body), (Reply, Failure))
    headers = limits(requests_remaining=header, requests_reset=header) | {"retry-after": header, "date": header}
    assert isinstance(told(anthropic, 429, body, headers), Failure)
    anthropic.hints(headers, WALL)
    assert not anthropic.learned(EVERY, b"[" + body)
