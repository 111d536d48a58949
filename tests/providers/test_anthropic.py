"""The Anthropic dialect: the bytes of its requests, and what it makes of every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Failure, Left, Message, Reasoning, Reply, Sampling, Usage, View
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Inquiry, Listed, merged
from runner.world import HttpRequest, Secret
from tests.providers.contract import (
    BROKEN_OFF,
    STATUSES,
    WALL,
    call,
    essence,
    failure,
    heard,
    hostile,
    told,
)
from tests.providers.forms.messages import (
    CUT,
    HI,
    STOP,
    THINK,
    USAGE,
    block,
    end,
    error,
    plain,
    said,
    start,
    text_of,
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
        "sampling, and a seed that has no place here",
        {"sampling": Sampling(temperature=0.7, top_p=0.95, top_k=40, stop=("[[END]]",)), "seed": 7},
        ASKED + b'"temperature":0.7,"top_p":0.95,"top_k":40,"stop_sequences":["[[END]]"],"stream":true}',
    ),
    (
        "white space at the ends of texts, which may be refused in the last",
        {"view": View(None, (Message("user", "Hm.\n"), Message("assistant", " Yes. "), Message("user", "Go on.\n\n")))},
        BEGIN
        + b'"messages":[{"role":"user","content":"Hm."},{"role":"assistant","content":" Yes."},'
        + b'{"role":"user","content":"Go on."}],"stream":true}',
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
    assert anthropic.revision == "anthropic/2"
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


@pytest.mark.fault(51)
@pytest.mark.parametrize("body", [body for case, body in CUT if case not in BROKEN_OFF])
def test_what_was_sent_is_known_with_the_first_event(body: bytes) -> None:
    """What was made is not, until it has ended."""
    got = heard(anthropic, body)
    assert got.usage.input == 9
    assert got.usage.output in (None, 2)
    assert got.usage.raw is not None


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


@pytest.mark.parametrize(("body", "done"), [(HI, False), (HI + end()[: -len(STOP)], False), (HI + end(), True)])
def test_the_end_is_known_by_its_event(body: bytes, done: bool) -> None:
    """What comes after the reason to end may still be a figure."""
    reader = anthropic.reader(call())
    reader.feed(body)
    assert reader.done() is done


# --- usage -----------------------------------------------------------------------------------------------------------


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
