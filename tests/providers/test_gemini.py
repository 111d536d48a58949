"""The Gemini dialect: the bytes of its requests, and what it makes of every answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Failure, Reasoning, Reply, Sampling, Usage
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Inquiry, Listed
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
from tests.providers.forms.gemini import CUT, HI, NOBODY, SO_FAR, USAGE, blocked, detail, end, error, event, plain

gemini = DIALECTS["gemini"]
HOME: Final = Endpoint("p", "gemini", "https://x/v1beta/", Secret(" AIza-1\n"), {"X-Title": "T"})

# --- requests --------------------------------------------------------------------------------------------------------

ASKED: Final = b'{"contents":[{"role":"user","parts":[{"text":"What survives?"}]}],'
LIMIT: Final = b'"generationConfig":{"maxOutputTokens":400}}'
SETTINGS: Final = ASKED + b'"generationConfig":{"maxOutputTokens":400,'
TAKING_OVER: Final = dict.fromkeys(
    ("model", "contents", "systemInstruction", "system_instruction", "generation_config"), "x"
)
MORE_TOKENS: Final = dict.fromkeys(("maxOutputTokens", "max_output_tokens", "candidateCount", "candidate_count"), 10**6)

GOLDEN: Sequence[tuple[str, dict[str, Any], bytes]] = [
    ("one message", {}, ASKED + LIMIT),
    (
        "sampling",
        {"sampling": Sampling(0.7, 0.95, 0.5, -0.5, 40, ("[[END]]",)), "seed": 7},
        (
            SETTINGS + b'"temperature":0.7,"topP":0.95,"topK":40,"presencePenalty":0.5,"frequencyPenalty":-0.5,'
            b'"seed":7,"stopSequences":["[[END]]"]}}'
        ),
    ),
    ("no thinking", {"reasoning": Reasoning("none", 9)}, SETTINGS + b'"thinkingConfig":{"thinkingBudget":0}}}'),
    (
        "thinking by a word",
        {"reasoning": Reasoning("medium")},
        SETTINGS + b'"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"MEDIUM"}}}',
    ),
    (
        "the most thinking there is a word for",
        {"reasoning": Reasoning("max")},
        SETTINGS + b'"thinkingConfig":{"includeThoughts":true,"thinkingLevel":"XHIGH"}}}',
    ),
    (
        "thinking by both: the number says more",
        {"reasoning": Reasoning("low", 2000)},
        SETTINGS + b'"thinkingConfig":{"includeThoughts":true,"thinkingBudget":2000}}}',
    ),
    (
        "parameters that the model refused",
        {
            "sampling": Sampling(temperature=0.7, top_k=40),
            "reasoning": Reasoning("high"),
            "seed": 7,
            "extra": {"generationConfig": {"topK": 5, "responseMimeType": "text/plain"}},
            "dropped": ("topK", "thinkingConfig", "seed"),
        },
        SETTINGS + b'"temperature":0.7,"responseMimeType":"text/plain"}}',
    ),
    (
        "fields of the job's own",
        {
            "reasoning": Reasoning("high"),
            "extra": TAKING_OVER
            | {
                "generationConfig": MORE_TOKENS | {"thinkingConfig": {"includeThoughts": False}, "topA": 1},
                "safetySettings": [{"category": "C", "threshold": "OFF"}],
            },
        },
        (
            SETTINGS + b'"thinkingConfig":{"includeThoughts":false,"thinkingLevel":"HIGH"},"topA":1},'
            b'"safetySettings":[{"category":"C","threshold":"OFF"}]}'
        ),
    ),
    ("no settings in the place of ours", {"extra": {"generationConfig": None}}, ASKED + LIMIT),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_a_request_has_exactly_these_bytes(changes: dict[str, Any], expected: bytes) -> None:
    """The journal keeps a hash of these bytes: a change here is a new revision of the dialect."""
    assert gemini.revision == "gemini/1"
    assert gemini.body(call(**changes)) == expected


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-2.5-pro", "models/gemini-2.5-pro"),
        ("models/gemini-2.5-pro", "models/gemini-2.5-pro"),
        ("tunedModels/mine", "tunedModels/mine"),
        ("m?key=1#", "models/m%3Fkey%3D1%23"),
    ],
)
def test_the_key_is_in_a_header_and_never_in_the_address(model: str, path: str) -> None:
    """The model is part of the address, and the answer is asked for as events."""
    assert gemini.url(HOME, model) == f"https://x/v1beta/{path}:streamGenerateContent?alt=sse"
    found = gemini.headers(HOME)
    assert repr(found) == (
        "{'content-type': 'application/json', 'accept': 'text/event-stream', 'x-goog-api-key': ***, 'X-Title': 'T'}"
    )
    key = found["x-goog-api-key"]
    assert isinstance(key, Secret)
    assert key.reveal() == "AIza-1"
    assert "x-goog-api-key" not in gemini.headers(Endpoint("p", "gemini", "http://127.0.0.1"))


# --- bodies of status 200 --------------------------------------------------------------------------------------------


@pytest.mark.fault(51)
@pytest.mark.parametrize("body", [body for case, body in CUT if case not in BROKEN_OFF])
def test_only_the_figures_of_the_end_say_what_was_made(body: bytes) -> None:
    """Each piece counts what was made so far."""
    assert heard(gemini, body).usage == Usage(input=9, raw=SO_FAR)


@pytest.mark.parametrize(
    ("body", "cut"),
    [
        (event(NOBODY), "the answer was cut off"),
        (event({**NOBODY, "candidates": [{"content": {"role": "model"}}]}), None),
        (event({"responseId": "gen-1"}), None),
        (event(NOBODY) + b'data: {"candidates":[{"con\n\n', None),
    ],
)
def test_only_an_answer_that_ended_by_itself_is_empty_without_candidates(body: bytes, cut: str | None) -> None:
    """One that was cut, has begun, is damaged, or says nothing at all is lost."""
    assert essence(heard(gemini, body, cut)) == failure("lost")


def test_what_a_reply_says_of_itself_is_kept() -> None:
    """Model, id, the provider's own word for the end, and its figures as they came."""
    reader = gemini.reader(call())
    reader.feed(HI)
    assert reader.generation == "gen-1"
    got = heard(gemini, HI + end("BECAUSE"))
    assert isinstance(got, Reply)
    assert (got.model, got.generation, got.stop) == ("m-1", "gen-1", "BECAUSE")
    assert got.usage == Usage(9, 3, raw=USAGE)


def test_a_blocked_prompt_says_why() -> None:
    """By the provider's own word, which among the reasons to end may mean something else."""
    got = heard(gemini, event(blocked("OTHER")))
    assert isinstance(got, Failure)
    assert (got.stop, got.usage.output) == ("the prompt is blocked: OTHER", 0)


def test_only_the_end_of_the_body_ends_an_answer() -> None:
    """A reason to end may come with each piece, and the figures after it."""
    reader = gemini.reader(call())
    reader.feed(HI + end())
    assert not reader.done()


# --- usage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"thoughtsTokenCount": 100, "totalTokenCount": 112}, (103, 100, True)),
        ({"thoughtsTokenCount": 100}, (103, 100, True)),
        ({"totalTokenCount": 112}, (103, None, True)),
        ({"totalTokenCount": 10}, (3, None, True)),
        ({"thoughtsTokenCount": "100"}, (3, None, False)),
        ({"totalTokenCount": -1}, (3, None, False)),
        ({"cachedContentTokenCount": 10}, (3, None, False)),
        ({"toolUsePromptTokenCount": "1"}, (3, None, False)),
    ],
)
def test_thoughts_are_part_of_what_was_made(more: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """They are counted apart, or in the total alone; they are paid for all the same."""
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 3} | more
    got = heard(gemini, plain("Hi there", usage=usage)).usage
    assert (got.output, got.reasoning, got.trusted) == expected


# --- error statuses --------------------------------------------------------------------------------------------------


@pytest.mark.fault(43)
@pytest.mark.parametrize(
    ("message", "delay", "wait"),
    [
        ("oh", "46s", 46.0),
        ("oh", "46.123456789s", 46.123456789),
        ("oh", "soon", None),
        ("oh", {"seconds": 46}, None),
        ("Quota exceeded.\nPlease retry in 10h17m5.7s.", None, 37025.7),
        ("Please retry in 46.5s.", "46s", 46.5),
        ("Please retry in 46s, or upgrade", None, 46.0),
        ("Please retry in 900ms. More", None, 0.9),
        ("Please retry in a while.", None, None),
    ],
)
def test_how_long_to_wait_stands_in_the_body(message: str, delay: Any, wait: float | None) -> None:
    """In the details, or in the message alone; where both say it, the longer one is sure to be enough."""
    details = [] if delay is None else [detail("RetryInfo", retryDelay=delay)]
    got = told(gemini, 429, orjson.dumps(error(429, "RESOURCE_EXHAUSTED", message, *details)))
    assert got.retry_after == wait
    assert {**essence(got), "retry_after": None} == {**STATUSES[429], "retry_after": None}


OVERFLOW: Final = failure(scope="conversation", money="free", overflow=True)
PROVIDER: Final = failure(scope="provider", money="free")
MODEL: Final = failure(scope="model", money="free")
BUSY: Final = failure(money="free", busy=True)
BAD: Final = "INVALID_ARGUMENT"
SPENT: Final = "RESOURCE_EXHAUSTED"


def quota(name: str, **more: Any) -> dict[str, Any]:
    return detail("QuotaFailure", violations=[{"quotaMetric": "requests", "quotaId": name, **more}])


A_MINUTE: Final = quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", quotaValue="10")
A_DAY: Final = quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", quotaValue="250")
NEVER: Final = quota("GenerateContentInputTokensPerModelPerMinute-FreeTier", quotaValue="0")
NO_KEY: Final = detail("ErrorInfo", reason="API_KEY_INVALID", domain="googleapis.com")
TOMORROW: Final = 20 * 3600.0
"""From noon in London to midnight in California."""

ERRORS: Sequence[tuple[int, dict[str, Any], Mapping[str, Any], str | None]] = [
    (400, error(400, BAD), STATUSES[400], None),
    (400, error(400, BAD, "API key not valid.", NO_KEY), PROVIDER, None),
    (400, error(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), PROVIDER, None),
    (401, error(401, "UNAUTHENTICATED"), PROVIDER, None),
    (403, error(403, "PERMISSION_DENIED"), MODEL, None),
    (403, error(403, "PERMISSION_DENIED", "x", detail("ErrorInfo", reason="SERVICE_DISABLED")), PROVIDER, None),
    (403, error(403, "PERMISSION_DENIED", "x", detail("ErrorInfo", reason="BILLING_DISABLED")), PROVIDER, "credit"),
    (404, error(404, "NOT_FOUND", "models/m is not found"), MODEL, None),
    (400, error(400, BAD, "The input token count (9) exceeds the maximum number of tokens (8)."), OVERFLOW, None),
    (500, error(500, "INTERNAL"), failure(), None),
    (503, error(503, "UNAVAILABLE", "The model is overloaded."), failure(money="free"), None),
    (504, error(504, "DEADLINE_EXCEEDED"), failure(), None),
    (429, error(429, SPENT), BUSY, None),
    (
        429,
        error(429, SPENT, "oh", A_MINUTE, detail("RetryInfo", retryDelay="46s")),
        {**BUSY, "retry_after": 46.0},
        None,
    ),
    (429, error(429, SPENT, "You exceeded 250 requests per day."), {**BUSY, "retry_after": TOMORROW}, "day"),
    (429, error(429, SPENT, "250 per day, limit: 0"), MODEL, None),
    (429, error(429, SPENT, "oh", A_DAY), {**BUSY, "retry_after": TOMORROW}, "day"),
    (
        429,
        error(429, SPENT, "oh", A_DAY, detail("RetryInfo", retryDelay="46s")),
        {**BUSY, "retry_after": TOMORROW},
        "day",
    ),
    (429, error(429, SPENT, "Please retry in 10h0m0s.", A_DAY), {**BUSY, "retry_after": 36000.0}, "day"),
    (429, error(429, SPENT, "oh", NEVER), MODEL, None),
    (429, error(429, SPENT, "Quota exceeded for metric: requests, limit: 0, model: m", A_DAY), MODEL, None),
    (429, error(429, SPENT, "Quota exceeded for metric: requests, limit: 0.5"), BUSY, None),
    (429, error(429, SPENT, "Your project has exceeded its monthly spending cap."), PROVIDER, "credit"),
    (400, error(400, BAD, "limit: 0"), STATUSES[400], None),
]


@pytest.mark.parametrize(("status", "body", "expected", "which"), ERRORS)
def test_the_words_of_an_error_say_how_far_it_reaches(
    status: int, body: dict[str, Any], expected: Mapping[str, Any], which: str | None
) -> None:
    """A limit of the minute, one of the day, one of nothing, and an empty account all have the same status."""
    for form in (body, [body]):
        got = told(gemini, status, orjson.dumps(form))
        assert essence(got) == expected
        assert got.quota == which


def test_a_day_ends_by_their_clock() -> None:
    """Where they tell the time, ours is not asked."""
    body = orjson.dumps(error(429, SPENT, "oh", A_DAY))
    got = told(gemini, 429, body, {"date": "Sat, 21 Nov 2026 07:59:00 GMT"})
    assert got.retry_after == 60.0


def test_an_answer_that_breaks_off_for_the_day_is_not_waited_for() -> None:
    """Without the time there is no telling when the day ends: the provider's part of the night is over."""
    got = heard(gemini, event(error(429, SPENT, "oh", A_DAY)))
    assert essence(got) == failure(scope="provider")
    assert isinstance(got, Failure)
    assert got.quota == "day"


@pytest.mark.parametrize(
    ("message", "field", "parameter"),
    [
        ("oh", "generation_config.top_k", "topK"),
        ("oh", "generationConfig.stopSequences[0]", "stopSequences"),
        ("oh", "generation_config.thinking_config.thinking_budget", "thinkingConfig"),
        ("Invalid JSON payload received. Unknown name \"seed\" at 'generation_config'", None, "seed"),
        ("* GenerateContentRequest.generation_config.presence_penalty: no", None, "presencePenalty"),
        ("Thinking level is not supported for this model.", None, "thinkingConfig"),
        ("Budget 0 is invalid. This model only works in thinking mode.", None, "thinkingConfig"),
        ("m-thinking-exp takes no images", None, None),
        ("oh", "contents[0].parts", None),
        ("* GenerateContentRequest.generation_config.max_output_tokens: no", None, None),
    ],
)
def test_a_field_that_a_model_refuses_is_named(message: str, field: str | None, parameter: str | None) -> None:
    """In either spelling; it is dropped once, and the call made again."""
    details = [] if field is None else [detail("BadRequest", fieldViolations=[{"field": field}])]
    got = told(gemini, 400, orjson.dumps(error(400, BAD, message, *details)))
    assert essence(got) == (STATUSES[400] if parameter is None else failure(money="free", parameter=parameter))


def test_headers_say_nothing_of_limits() -> None:
    """They are told in errors alone."""
    assert gemini.hints({"x-ratelimit-remaining-requests": "0"}, WALL) == ()


# --- inquiries -------------------------------------------------------------------------------------------------------


def test_models_are_asked_for_by_name_or_all() -> None:
    """Without a body, with the key in a header."""
    (one,) = gemini.inquiries(HOME, ["m"])
    assert (one.about, one.models) == ("model", ("m",))
    assert (one.request.method, one.request.url, one.request.body) == ("GET", "https://x/v1beta/models/m", b"")
    assert "x-goog-api-key" in one.request.headers
    (every,) = gemini.inquiries(HOME, [])
    assert (every.about, every.request.url) == ("models", "https://x/v1beta/models?pageSize=1000")


ROW: Final = {"name": "models/m", "version": "001", "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536}
ONE: Final = Inquiry("model", HttpRequest("GET", "", {}, b""), ("models/m",))
EVERY: Final = Inquiry("models", HttpRequest("GET", "", {}, b""))


@pytest.mark.parametrize(
    ("inquiry", "answer", "expected"),
    [
        (ONE, ROW, [Listed("models/m", 1_048_576, 65_536)]),
        (EVERY, {"models": [ROW, {"name": "models/n"}, 7, {}]}, [Listed("m", 1_048_576, 65_536), Listed("n")]),
        (EVERY, {"models": []}, []),
        (ONE, {"name": "models/m", "inputTokenLimit": "1", "outputTokenLimit": -1}, [Listed("models/m")]),
        (ONE, {"error": {}}, []),
        (ONE, 7, []),
    ],
)
def test_what_a_model_has_room_for_is_learned(inquiry: Inquiry, answer: Any, expected: list[Listed]) -> None:
    """By the name that the job has for it, or the one that a job would use."""
    assert list(gemini.learned(inquiry, orjson.dumps(answer))) == expected


# --- anything at all -------------------------------------------------------------------------------------------------

JSON = hostile(
    *("candidates", "content", "parts", "thought", "finishReason", "usageMetadata", "promptFeedback", "blockReason"),
    *("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount", "responseId", "@type"),
    *("violations", "quotaId", "quotaValue", "retryDelay", "fieldViolations", "field", "reason", "models", "name"),
)
DETAILS = st.builds(
    lambda kind, inside: {**(inside if isinstance(inside, dict) else {}), "@type": f"x.{kind}"},
    st.sampled_from(["QuotaFailure", "RetryInfo", "BadRequest", "ErrorInfo"]),
    JSON,
)
ERROR = st.builds(lambda details, code: {"error": {"details": details, "code": code}}, st.lists(DETAILS), JSON)


@settings(max_examples=30)
@given(st.lists(JSON | ERROR, max_size=4), st.sampled_from([200, 400, 422, 429, 500]))
def test_no_answer_can_raise(chunks: list[Any], status: int) -> None:
    """Whatever JSON a server sends, the reader comes to an outcome; its words may be nonsense, its types never."""
    bodies = [json.dumps(chunk).encode() for chunk in chunks]
    stream = b"".join(b"data: " + body + b"\n\n" for body in bodies)
    assert isinstance(heard(gemini, stream), (Reply, Failure))
    for body in bodies:
        assert isinstance(heard(gemini, body), (Reply, Failure))
        assert isinstance(told(gemini, status, body), Failure)
        gemini.learned(ONE, body)


@given(st.binary(max_size=200), st.text(max_size=40))
def test_no_bytes_can_raise(body: bytes, header: str) -> None:
    """Bytes that are no JSON, and headers that say nothing, are an outcome too."""
    assert isinstance(heard(gemini, body), (Reply, Failure))
    headers = {"retry-after": header, "retry-after-ms": header, "date": header, "x-should-retry": header}
    assert isinstance(told(gemini, 429, body, headers), Failure)
    said_so = orjson.dumps(error(429, SPENT, f"retry in {header.encode('utf-8', 'replace').decode()}", A_DAY))
    assert isinstance(told(gemini, 429, said_so, headers), Failure)
    assert not gemini.learned(EVERY, b"[" + body)
