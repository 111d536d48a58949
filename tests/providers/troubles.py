"""Every trouble that a provider words in its own way, as each dialect words it, and what it comes to.

A cell is what the provider answers, or the reason why it has no such answer. Dialects whose words are those of another
begin with its column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from tests.providers.contract import STATUSES, WALL, failure


class Says(NamedTuple):
    """An answer with an error status."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = {}
    wait: float | None = None
    """How long to wait, where it says so."""


Cell: TypeAlias = Says | str
Column: TypeAlias = Mapping[str, Cell]

PROVIDER: Final = failure(scope="provider", money="free")
BUSY: Final = failure(money="free", busy=True)
CREDIT: Final = {**PROVIDER, "quota": "credit"}
OVERFLOW: Final = failure(scope="conversation", money="free", overflow=True)

TROUBLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "the key is wrong": PROVIDER,
    "the account is empty": CREDIT,
    "the model is not for this account": failure(scope="model", money="free"),
    "there is no such model": failure(scope="model", money="free"),
    "the request has too many bytes": OVERFLOW,
    "the prompt has too many tokens": OVERFLOW,
    "the request is wrong": failure(scope="conversation", money="free"),
    "the model refuses a parameter": failure(money="free", parameter="temperature"),
    "the text breaks a rule": failure("refused", "conversation", "free"),
    "too many for this minute": BUSY,
    "too many for this minute, with its end": {**BUSY, "retry_after": 7.0},
    "too many for this day": {**PROVIDER, "quota": "day"},
    "too many for this day, with its end": {**BUSY, "quota": "day"},
    "no room just now": BUSY,
    "overloaded": failure(),
    "broken": failure(),
}
"""What each comes to; the parameter, and the end of a day, are those of the cell."""

RESETS: Final = ("a duration in a header", "a moment in a header", "in the details", "in a sentence")
"""Where it stands how long to wait."""


def oh(message: str = "oh", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


SLOW: Final = oh(code="rate_limit_exceeded")
AFTER: Final = {"retry-after": "7"}
NO_DAY: Final = "it counts by the minute alone"
NOBODY_SAYS: Final = "its limits are stated nowhere"
NO_MONEY: Final = "a machine of one's own asks for no money"
NO_QUOTA: Final = "a machine of one's own has no quotas"
NO_FILTER: Final = "a machine of one's own has no filter"
NO_HEADERS: Final = "it tells nothing of its limits in headers"
NO_MOMENTS: Final = "its headers have durations"
NO_DETAILS: Final = "its errors have no such details"
NO_SENTENCE: Final = "its sentences name no time"
FULL_IS_BUSY: Final = "a server that is full says so, and is waited for"

OPENAI: Final[Column] = {
    "the key is wrong": Says(401, oh("Incorrect API key provided", code="invalid_api_key")),
    "the account is empty": Says(429, oh("You exceeded your current quota", type="insufficient_quota", code=None)),
    "the model is not for this account": Says(403, oh("You have no access to m")),
    "there is no such model": Says(404, oh("The model m does not exist", code="model_not_found")),
    "the request has too many bytes": Says(413, oh()),
    "the prompt has too many tokens": Says(400, oh("maximum context length is 9", code="context_length_exceeded")),
    "the request is wrong": Says(400, oh(param="messages[3]", code="invalid_value")),
    "the model refuses a parameter": Says(400, oh(param="temperature", code="unsupported_value")),
    "the text breaks a rule": Says(400, oh(code="invalid_prompt")),
    "too many for this minute": Says(429, SLOW),
    "too many for this minute, with its end": Says(429, SLOW, AFTER),
    "too many for this day": Says(429, oh("Rate limit reached on requests per day (RPD)", code="rate_limit_exceeded")),
    "too many for this day, with its end": Says(
        429, oh("Rate limit reached on tokens per day (TPD). Please try again in 7m12s.", code="x"), wait=432.0
    ),
    "no room just now": "it tells its limits with 429 alone",
    "overloaded": Says(503, oh(code="slow_down")),
    "broken": Says(500, oh(type="server_error")),
    "a duration in a header": Says(200, {}, {"x-ratelimit-reset-requests": "1m30s"}, 90.0),
    "a moment in a header": NO_MOMENTS,
    "in the details": NO_DETAILS,
    "in a sentence": Says(429, oh("Please try again in 1m30s."), wait=90.0),
}
ON_ONES_OWN: Final[Column] = {
    **OPENAI,
    "the key is wrong": Says(401, oh("Invalid API Key", type="authentication_error", code=401)),
    "the account is empty": NO_MONEY,
    "the text breaks a rule": NO_FILTER,
    "too many for this minute": Says(429, oh()),
    "too many for this minute, with its end": Says(503, oh("loading"), AFTER),
    "too many for this day": NO_QUOTA,
    "too many for this day, with its end": NO_QUOTA,
    "no room just now": Says(503, oh("Loading model", type="unavailable_error", code=503)),
    "overloaded": FULL_IS_BUSY,
    "a duration in a header": NO_HEADERS,
    "a moment in a header": NO_HEADERS,
    "in a sentence": NO_SENTENCE,
}


def claude(kind: str, message: str = "oh", **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}, "request_id": "req_1"}


def google(code: int, status: str, message: str = "oh", **detail: Any) -> dict[str, Any]:
    details = [{"@type": f"type.googleapis.com/google.rpc.{kind}", **more} for kind, more in detail.items()]
    return oh(message, code=code, status=status, **({"details": details} if details else {}))


DAY_IN_CALIFORNIA: Final = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]}
MIDNIGHT: Final = str(int((WALL + 43_200) * 1000))
FREE_DAY: Final = "Rate limit exceeded: free-models-per-day"

COLUMNS: Final[Mapping[str, Column]] = {
    "anthropic": {
        "the key is wrong": Says(401, claude("authentication_error")),
        "the account is empty": Says(
            429, claude("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"})
        ),
        "the model is not for this account": Says(403, claude("permission_error")),
        "there is no such model": Says(404, claude("not_found_error", "model: m")),
        "the request has too many bytes": Says(413, claude("request_too_large")),
        "the prompt has too many tokens": Says(400, claude("invalid_request_error", "prompt is too long: 9 > 8")),
        "the request is wrong": Says(400, claude("invalid_request_error")),
        "the model refuses a parameter": Says(
            400, claude("invalid_request_error", "`temperature` is deprecated for this model.")
        ),
        "the text breaks a rule": Says(
            400, claude("invalid_request_error", "Output blocked by content filtering policy")
        ),
        "too many for this minute": Says(429, claude("rate_limit_error"), {"retry-after": "0"}),
        "too many for this minute, with its end": Says(429, claude("rate_limit_error"), AFTER),
        "too many for this day": "it counts by the minute, and money by the month",
        "too many for this day, with its end": "it counts by the minute, and money by the month",
        "no room just now": "it tells its limits with 429 alone",
        "overloaded": Says(529, claude("overloaded_error", "Overloaded")),
        "broken": Says(500, claude("api_error")),
        "a duration in a header": "its headers have moments",
        "a moment in a header": Says(200, {}, {"anthropic-ratelimit-requests-reset": "2026-11-21T12:01:30Z"}, 90.0),
        "in the details": NO_DETAILS,
        "in a sentence": NO_SENTENCE,
    },
    "deepseek": {
        **OPENAI,
        "the account is empty": Says(402, oh("Insufficient Balance")),
        "the request is wrong": Says(422, oh("Invalid parameter", code="invalid_request_error")),
        "the model refuses a parameter": "what it does not take it leaves aside without a word",
        "the text breaks a rule": "no error of it is known for that",
        "too many for this day": NOBODY_SAYS,
        "too many for this day, with its end": NOBODY_SAYS,
        "overloaded": Says(503, oh("Server overloaded")),
        "a duration in a header": NO_HEADERS,
        "a moment in a header": NO_HEADERS,
        "in a sentence": NO_SENTENCE,
    },
    "gemini": {
        "the key is wrong": Says(400, google(400, "INVALID_ARGUMENT", ErrorInfo={"reason": "API_KEY_INVALID"})),
        "the account is empty": Says(429, google(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.")),
        "the model is not for this account": Says(403, google(403, "PERMISSION_DENIED")),
        "there is no such model": Says(404, google(404, "NOT_FOUND", "models/m is not found")),
        "the request has too many bytes": Says(413, oh()),
        "the prompt has too many tokens": Says(
            400, google(400, "INVALID_ARGUMENT", "The input token count (9) exceeds the maximum number of tokens (8).")
        ),
        "the request is wrong": Says(400, google(400, "INVALID_ARGUMENT")),
        "the model refuses a parameter": Says(
            400,
            google(
                400, "INVALID_ARGUMENT", BadRequest={"fieldViolations": [{"field": "generation_config.temperature"}]}
            ),
        ),
        "the text breaks a rule": "a prompt is blocked inside an answer of status 200",
        "too many for this minute": Says(429, google(429, "RESOURCE_EXHAUSTED")),
        "too many for this minute, with its end": Says(
            429, google(429, "RESOURCE_EXHAUSTED", RetryInfo={"retryDelay": "7s"})
        ),
        "too many for this day": "where it does not say when its day ends, it is midnight in California",
        "too many for this day, with its end": Says(
            429, google(429, "RESOURCE_EXHAUSTED", QuotaFailure=DAY_IN_CALIFORNIA), wait=72_000.0
        ),
        "no room just now": "it tells its limits with 429 alone",
        "overloaded": Says(503, google(503, "UNAVAILABLE", "The model is overloaded.")),
        "broken": Says(500, google(500, "INTERNAL")),
        "a duration in a header": NO_HEADERS,
        "a moment in a header": NO_HEADERS,
        "in the details": Says(429, google(429, "RESOURCE_EXHAUSTED", RetryInfo={"retryDelay": "46s"}), wait=46.0),
        "in a sentence": Says(429, google(429, "RESOURCE_EXHAUSTED", "Please retry in 1m30.5s."), wait=90.5),
    },
    "groq": {
        **OPENAI,
        "the account is empty": Says(402, oh()),
        "the request has too many bytes": Says(413, oh("Request too large for model", code="rate_limit_exceeded")),
        "the text breaks a rule": Says(400, oh(code="content_filter")),
        "overloaded": Says(498, oh(code="capacity_exceeded")),
        "a duration in a header": Says(200, {}, {"x-ratelimit-reset-requests": "2m59.56s"}, 179.56),
    },
    "llamacpp": {
        **ON_ONES_OWN,
        "the prompt has too many tokens": Says(
            400, oh(type="exceed_context_size_error", code=400, n_prompt_tokens=9, n_ctx=4)
        ),
        "the model refuses a parameter": "what it does not know it leaves aside without a word",
        "there is no such model": "its one model answers to any name",
    },
    "lmstudio": {
        **ON_ONES_OWN,
        "there is no such model": Says(404, {"error": "no model m"}),
        "the model refuses a parameter": Says(400, {"error": "Unsupported parameter: 'temperature'"}),
    },
    "mistral": {
        **OPENAI,
        "the key is wrong": Says(401, {"message": "Unauthorized"}),
        "the account is empty": Says(402, oh()),
        "the request is wrong": Says(422, {"detail": [{"loc": ["body", "messages", 0]}]}),
        "the model refuses a parameter": Says(
            422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "temperature"]}]}
        ),
        "the text breaks a rule": Says(403, {"message": "flagged", "code": "content_policy_violation"}),
        "too many for this minute": Says(429, {"message": "Requests rate limit exceeded", "code": "1300"}),
        "overloaded": Says(503, {"message": "unavailable"}),
    },
    "ollama": {
        "the key is wrong": Says(401, {"error": "unauthorized"}),
        "the account is empty": NO_MONEY,
        "the model is not for this account": Says(403, {"error": "forbidden"}),
        "there is no such model": Says(404, {"error": "model 'm' not found"}),
        "the request has too many bytes": Says(413, {"error": "too large"}),
        "the prompt has too many tokens": Says(
            400, {"error": "prompt too long; exceeded max context length by 12 tokens"}
        ),
        "the request is wrong": Says(400, {"error": "invalid options: num_ctxx"}),
        "the model refuses a parameter": Says(400, {"error": '"m" does not support thinking'}),
        "the text breaks a rule": NO_FILTER,
        "too many for this minute": Says(429, {"error": "too many requests"}),
        "too many for this minute, with its end": Says(503, {"error": "server busy"}, AFTER),
        "too many for this day": Says(429, {"error": "you have reached your session usage limit, upgrade"}),
        "too many for this day, with its end": Says(429, {"error": "usage limit"}, {"retry-after": "3600"}, 3600.0),
        "no room just now": Says(503, {"error": "server busy.  maximum pending requests exceeded"}),
        "overloaded": FULL_IS_BUSY,
        "broken": Says(500, {"error": "llama runner process has terminated"}),
        "a duration in a header": NO_HEADERS,
        "a moment in a header": NO_HEADERS,
        "in the details": NO_DETAILS,
        "in a sentence": NO_SENTENCE,
    },
    "openai": OPENAI,
    "openai-responses": {**OPENAI, "the text breaks a rule": Says(400, oh(code="bio_policy"))},
    "openrouter": {
        **OPENAI,
        "the account is empty": Says(402, oh("Insufficient credits", code=402)),
        "there is no such model": Says(400, oh(availability={"code": "model_not_found", "retryable": False})),
        "the prompt has too many tokens": Says(400, oh(metadata={"error_type": "context_length_exceeded"})),
        "the request is wrong": Says(400, oh(metadata={"error_type": "invalid_prompt"})),
        "the model refuses a parameter": "what a model does not take it leaves out without a word",
        "the text breaks a rule": Says(403, oh(code=403, metadata={"reasons": ["violence"], "flagged_input": "x"})),
        "too many for this minute": Says(429, oh(metadata={"error_type": "rate_limit_exceeded"})),
        "too many for this minute, with its end": Says(
            429, oh(availability={"code": "capacity_exhausted", "retryable": True, "retry_after": 7})
        ),
        "too many for this day": Says(429, oh(FREE_DAY)),
        "too many for this day, with its end": Says(429, oh(FREE_DAY), {"x-ratelimit-reset": MIDNIGHT}, 43_200.0),
        "no room just now": Says(503, oh(availability={"code": "temporarily_unavailable", "retryable": True})),
        "overloaded": Says(529, oh(code=529)),
        "broken": Says(502, oh(code=502, metadata={"error_type": "provider_unavailable"})),
        "a duration in a header": Says(429, oh(), {"x-ratelimit-reset": "90"}, 90.0),
        "a moment in a header": Says(429, oh(), {"x-ratelimit-reset": str(int(WALL) + 90)}, 90.0),
        "in the details": Says(429, oh(availability={"retryable": True, "retry_after": 90}), wait=90.0),
    },
    "together": {
        **OPENAI,
        "the account is empty": Says(402, oh()),
        "the text breaks a rule": Says(400, oh(code="content_filter")),
        "too many for this day": NO_DAY,
        "too many for this day, with its end": NO_DAY,
        "no room just now": Says(503, oh("overloaded")),
        "overloaded": FULL_IS_BUSY,
        "a duration in a header": "the windows of its headers are stated nowhere",
        "a moment in a header": "the windows of its headers are stated nowhere",
        "in a sentence": NO_SENTENCE,
    },
    "vllm": {**ON_ONES_OWN, "the model refuses a parameter": "what it does not know it leaves aside without a word"},
    "xai": {
        **OPENAI,
        "the key is wrong": Says(400, {"code": "x", "error": "Incorrect API key provided: xa***"}),
        "the account is empty": Says(
            403, {"code": "x", "error": "You have run out of credits or need a subscription."}
        ),
        "the model refuses a parameter": Says(
            400, {"code": "x", "error": "Argument not supported on this model: temperature"}
        ),
        "the text breaks a rule": Says(403, oh(code="content_policy_violation")),
        "too many for this minute": Says(429, {"code": "x", "error": "Too many requests"}),
        "overloaded": Says(503, {"code": "x", "error": "at capacity"}),
    },
    "zai": {
        **OPENAI,
        "the account is empty": Says(429, oh("Insufficient balance", code="1113")),
        "there is no such model": Says(400, oh(code="1211")),
        "the prompt has too many tokens": Says(400, oh(code="1261")),
        "the text breaks a rule": Says(400, oh(code="1301")),
        "too many for this minute": Says(429, oh(code="1302")),
        "too many for this minute, with its end": Says(429, oh(code="1303"), AFTER),
        "too many for this day": Says(429, oh(code="1304")),
        "too many for this day, with its end": Says(
            429, oh("Your limit will reset at 2026-11-21 21:30:00", code="1308"), wait=5400.0
        ),
        "no room just now": Says(429, oh(code="1312")),
        "overloaded": FULL_IS_BUSY,
        "a duration in a header": NO_HEADERS,
        "a moment in a header": NO_HEADERS,
        "in a sentence": Says(429, oh("It will reset at 2026-11-21 20:01:30", code="1310"), wait=90.0),
    },
    "sim": {**OPENAI, "the text breaks a rule": Says(400, oh(code="content_policy_violation"))},
}
"""By dialect."""

FULL: Final[Mapping[str, frozenset[int]]] = {
    **dict.fromkeys(COLUMNS, frozenset[int]()),
    **dict.fromkeys(("llamacpp", "lmstudio", "ollama", "together", "vllm"), frozenset({503})),
}
"""Statuses beside 429 that say there is no room just now."""


def comes_to(dialect: str, status: int) -> Mapping[str, Any]:
    """What a status comes to whose body says nothing."""
    return BUSY if status in FULL[dialect] else STATUSES[status]
