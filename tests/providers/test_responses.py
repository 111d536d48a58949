"""The Responses dialect: the bytes of its requests, and what it makes of every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Failure, Found, Left, Reasoning, Reply, Sampling, Usage
from runner.providers import DIALECTS, Endpoint
from runner.world import Secret
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

responses = DIALECTS["openai-responses"]
HERE: Final = Endpoint("p", "openai-responses", "https://x/v1/", Secret("sk-1"))

# --- requests --------------------------------------------------------------------------------------------------------

HEAD: Final = b'{"model":"m","input":[{"role":"user","content":"What survives?"}],"max_output_tokens":400,'
TAIL: Final = b'"store":false,"stream":true}'

GOLDEN: Sequence[tuple[str, dict[str, Any], bytes]] = [
    ("one message", {}, HEAD + TAIL),
    (
        "opened by the other side",
        {"view": VIEWS["opened by the other side"], "sampling": Sampling(0.7, 0.95)},
        (
            b'{"model":"m","instructions":"You are brief.","input":['
            b'{"role":"user","content":"What survives of a conversation?"},'
            b'{"role":"assistant","content":"Its silences."},{"role":"user","content":"And then?"}],'
            b'"max_output_tokens":400,"temperature":0.7,"top_p":0.95,' + TAIL
        ),
    ),
    (
        "three speakers",
        {"view": VIEWS["three speakers"]},
        (
            b'{"model":"m","instructions":"You are the first of three.","input":['
            b'{"role":"user","content":"What survives?"},{"role":"assistant","content":"Echoes."},'
            b'{"role":"user","content":"two: Names.\\n\\nthree: \xe2\x80\x9cNothing.\xe2\x80\x9d"}],'
            b'"max_output_tokens":400,' + TAIL
        ),
    ),
    ("no thinking", {"reasoning": Reasoning("none")}, HEAD + b'"reasoning":{"effort":"none"},' + TAIL),
    ("thinking", {"reasoning": Reasoning("high")}, HEAD + b'"reasoning":{"effort":"high"},' + TAIL),
    (
        "what this format does not have",
        {"sampling": Sampling(presence_penalty=0.1, frequency_penalty=0.1, top_k=9, stop=("END",)), "seed": 7},
        HEAD + TAIL,
    ),
    (
        "parameters that the model refused",
        {"sampling": Sampling(0.7), "reasoning": Reasoning("low"), "dropped": ("temperature", "reasoning")},
        HEAD + TAIL,
    ),
    (
        "stored, because the job says so",
        {"extra": {"store": True, "metadata": {"run": "1"}}},
        HEAD + b'"store":true,"metadata":{"run":"1"},"stream":true}',
    ),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_a_request_has_exactly_these_bytes(changes: dict[str, Any], expected: bytes) -> None:
    """The system text stands beside the history, and nothing is stored unasked."""
    assert responses.revision == "openai-responses/1"
    assert responses.body(call(**changes)) == expected
    assert responses.url(HERE, "m") == "https://x/v1/responses"
    assert {"previous_response_id", "conversation", "input", "max_output_tokens"} <= responses.ours


# --- bodies of status 200 --------------------------------------------------------------------------------------------

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
    ("a reply", b": keep-alive\n\n" + HI + event("response.something_new", delta={}) + end()),
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


def test_every_case_of_the_contract_is_met() -> None:
    """No row of the contract is left without bytes of this dialect."""
    assert {name for name, _ in ANSWERS} == set(BODIES)


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize(("name", "body"), ANSWERS, ids=[f"{n}-{name}" for n, (name, _) in enumerate(ANSWERS)])
def test_an_answer_comes_to_what_the_contract_says(name: str, body: bytes, size: int | None) -> None:
    """However it is cut into pieces."""
    assert essence(heard(responses, body, size=size)) == BODIES[name]


def test_thinking_is_kept_apart_and_told_once() -> None:
    """The end of a stream repeats what was said in it."""
    for body in (body for name, body in ANSWERS if name == "a reply after thinking"):
        assert heard(responses, body).reasoning == "hm hm"


def test_what_a_reply_says_of_itself_is_kept() -> None:
    """Its id is known with the first event, its model and its own word for the end."""
    reader = responses.reader(call())
    reader.feed(BEGUN)
    assert reader.generation == "resp_1"
    assert not reader.done()
    reader.feed(HI + cut("max_output_tokens"))
    assert reader.done()
    got = reader.outcome(None)
    assert isinstance(got, Reply)
    assert (got.model, got.generation, got.stop) == ("m-1", "resp_1", "max_output_tokens")
    assert got.usage == Usage(9, 3, raw=USAGE)


SO_FAR: Mapping[str, bytes] = {
    "figures so far, and a cut": event("response.in_progress", response=whole("in_progress")) + delta("Hi "),
    "figures so far, and an error": event("response.in_progress", response=whole("in_progress"))
    + delta("Hi ")
    + event("error", message="oh"),
    "an end, and no word of the figures": delta("Hi ") + end(usage=None),
}


@pytest.mark.parametrize("name", CUTS)
def test_figures_before_the_end_are_not_the_last_ones(name: str) -> None:
    """What was counted so far settles nothing."""
    assert essence(heard(responses, SO_FAR[name])) == CUTS[name]


PIECES: Mapping[str, bytes] = {
    "a comment": b": keep-alive\n\n",
    "blank lines": b"\n\n",
    "an event without data": b"event: response.in_progress\n\n",
    "who speaks": BEGUN,
    "text": delta("x"),
    "thinking": delta("x", "reasoning_text"),
    "an end": end(),
    "an error": event("error", message="x"),
    "a plain answer": PLAIN,
}


@pytest.mark.parametrize("name", LIFE)
def test_a_sign_of_life_is_no_data(name: str) -> None:
    """Only what belongs to the answer resets the clocks."""
    assert responses.reader(call()).feed(PIECES[name]) is LIFE[name]


# --- usage -----------------------------------------------------------------------------------------------------------

COUNTED: Mapping[str, Any] = {
    "missing": None,
    "no object": "12",
    "plain": USAGE,
    "no output": {"input_tokens": 9},
    "strings": {"input_tokens": "9", "output_tokens": "3"},
    "floats": {"input_tokens": 9.0, "output_tokens": 3.5},
    "negative": {"input_tokens": -9, "output_tokens": 3},
    "huge": {"input_tokens": 9, "output_tokens": 2**60},
    "true": {"input_tokens": 9, "output_tokens": True},
    "zero beside text": {"input_tokens": 9, "output_tokens": 0},
    "all zero": {"input_tokens": 0, "output_tokens": 0},
    "thinking and a cache": {
        "input_tokens": 900,
        "output_tokens": 400,
        "input_tokens_details": {"cached_tokens": 512},
        "output_tokens_details": {"reasoning_tokens": 250},
    },
    "more thinking than output": {**USAGE, "output_tokens_details": {"reasoning_tokens": 4}},
}


@pytest.mark.parametrize("name", FIGURES)
def test_usage_is_read_or_not_trusted(name: str) -> None:
    """A figure that cannot be spoils the trust in all; what was not said is None."""
    usage = COUNTED[name]
    got = heard(responses, HI + end(usage=usage))
    assert isinstance(got, Reply)
    assert got.usage == Usage(**FIGURES[name], raw=usage if isinstance(usage, dict) else None)


# --- errors and limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("body", SILENT)
def test_a_status_comes_to_what_the_contract_says(status: int, body: bytes) -> None:
    """Where the words say nothing, the status decides."""
    got = told(responses, status, body)
    assert essence(got) == STATUSES[status]
    assert got.status == status


@pytest.mark.parametrize(("headers", "wait"), WAITS)
def test_a_hint_is_taken_when_it_is_one(headers: dict[str, str], wait: float | None) -> None:
    """As for chat completions: it is the same server."""
    assert told(responses, 429, headers=headers).retry_after == wait


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"param": "reasoning.effort", "code": "unsupported_value"}, failure(money="free", parameter="reasoning")),
        ({"param": "temperature"}, failure(money="free", parameter="temperature")),
        ({"param": "store"}, failure(scope="conversation", money="free")),
        ({"code": "invalid_prompt"}, failure("refused", "conversation", "free")),
    ],
)
def test_only_what_a_request_can_do_without_is_dropped(error: Any, expected: Mapping[str, Any]) -> None:
    """That nothing is stored is a promise, and no parameter."""
    assert essence(told(responses, 400, orjson.dumps({"error": error}))) == expected


def test_limit_headers_are_those_of_chat_completions() -> None:
    """Requests and tokens of the minute."""
    headers = {"x-ratelimit-remaining-requests": "7", "x-ratelimit-reset-tokens": "6m0s"}
    assert responses.hints(headers, WALL) == (
        Left("requests", "minute", 7),
        Left("tokens", "minute", None, None, 360.0),
    )


# --- what became of a call -------------------------------------------------------------------------------------------


def test_a_call_can_be_asked_for_only_where_it_was_stored() -> None:
    """By its id, which is no part of a path of ours."""
    assert responses.look_up(HERE, "resp_1") is None
    assert responses.look_up(HERE, "resp_1", {"store": False}) is None
    asked = responses.look_up(HERE, "resp/1?", {"store": True})
    assert asked is not None
    assert (asked.method, asked.url, asked.body) == ("GET", "https://x/v1/responses/resp%2F1%3F", b"")
    assert "authorization" in asked.headers


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (PLAIN, Found(None, 9, 3)),
        (orjson.dumps(whole("incomplete", COUNTED["thinking and a cache"])), Found(None, 900, 400, 512)),
        (orjson.dumps(whole("in_progress")), None),
        (orjson.dumps(whole("completed", None)), None),
        (orjson.dumps(whole("completed", {"input_tokens": 9, "output_tokens": -1})), None),
        (b'{"error":{"message":"not found"}}', None),
        (b"<html>", None),
    ],
)
def test_what_is_stored_tells_the_tokens_of_a_call_that_has_ended(body: bytes, found: Found | None) -> None:
    """While it is at work, or where a figure cannot be, it tells nothing."""
    assert responses.looked_up(body) == found


# --- hostile input ---------------------------------------------------------------------------------------------------

JSON = hostile(
    *(
        "response",
        "status",
        "output",
        "content",
        "summary",
        "delta",
        "usage",
        "incomplete_details",
        "reason",
        "refusal",
    ),
    *("input_tokens", "output_tokens", "id", "model"),
)
KINDS = st.sampled_from(
    ["response.completed", "response.failed", "response.output_text.delta", "error", "response.created", "x"]
)


@settings(max_examples=100)
@given(st.lists(st.tuples(KINDS, JSON), max_size=4), st.sampled_from([400, 429, 500]))
def test_no_answer_can_raise(chunks: list[Any], status: int) -> None:
    """Whatever JSON comes in place of an event, an answer, an error or a record."""
    bodies = [
        json.dumps({**chunk, "type": kind} if isinstance(chunk, dict) else {"type": kind, "response": chunk}).encode()
        for kind, chunk in chunks
    ]
    assert isinstance(heard(responses, b"".join(b"data: " + body + b"\n\n" for body in bodies)), (Reply, Failure))
    for body in (*bodies, *(json.dumps(chunk).encode() for _, chunk in chunks)):
        assert isinstance(heard(responses, body), (Reply, Failure))
        assert isinstance(told(responses, status, body), Failure)
        responses.looked_up(body)


@given(st.binary(max_size=200))
def test_no_bytes_can_raise(body: bytes) -> None:
    """Bytes that are no JSON are an outcome, too."""
    assert isinstance(heard(responses, body), (Reply, Failure))
    assert isinstance(told(responses, 500, body), Failure)
    assert responses.looked_up(body) is None
