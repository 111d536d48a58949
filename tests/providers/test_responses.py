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
    WALL,
    call,
    essence,
    failure,
    heard,
    hostile,
    told,
)
from tests.providers.forms.responses import BEGUN, COUNTED, HI, PLAIN, USAGE, cut, whole

responses = DIALECTS["openai-responses"]
HERE: Final = Endpoint("p", "openai-responses", "https://x/v1/", Secret("sk-1"))

# --- requests --------------------------------------------------------------------------------------------------------

HEAD: Final = b'{"model":"m","input":[{"role":"user","content":"What survives?"}],"max_output_tokens":400,'
TAIL: Final = b'"store":false,"stream":true}'

GOLDEN: Sequence[tuple[str, dict[str, Any], bytes]] = [
    ("one message", {}, HEAD + TAIL),
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


# --- errors and limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"param": "reasoning.effort", "code": "unsupported_value"}, failure(money="free", parameter="reasoning")),
        ({"param": "temperature"}, failure(money="free", parameter="temperature")),
        ({"param": "store"}, failure(scope="conversation", money="free")),
        ({"code": "invalid_prompt"}, failure("refused", "conversation", "free")),
        ({"code": "bio_policy"}, failure("refused", "conversation", "free")),
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
        (orjson.dumps(whole("incomplete", dict(COUNTED)["thinking and a cache"])), Found(None, 900, 400, 512)),
        (orjson.dumps(whole("in_progress")), None),
        (orjson.dumps(whole("completed", None)), None),
        (orjson.dumps(whole("completed", {"input_tokens": 9, "output_tokens": -1})), None),
        (b'{"error":{"message":"not found"}}', None),
        (b"<html>", None),
    ],
)
def test_what_is_stored_tells_the_tokens_of_a_call_that_has_ended(body: bytes, found: Found | None) -> None:
    """While it is at work, or where a figure cannot be, it tells nothing."""
    assert responses.looked_up(body, "resp_1") == found
    assert responses.looked_up(body, "resp_2") is None


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
        responses.looked_up(body, "resp_1")


@given(st.binary(max_size=200))
def test_no_bytes_can_raise(body: bytes) -> None:
    """Bytes that are no JSON are an outcome, too."""
    assert isinstance(heard(responses, body), (Reply, Failure))
    assert isinstance(told(responses, 500, body), Failure)
    assert responses.looked_up(body, "resp_1") is None
