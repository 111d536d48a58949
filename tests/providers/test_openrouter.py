"""OpenRouter: its requests, its own words for errors, what a call cost, and what its catalogue says."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Failure, Found, Left, Outcome, Reasoning, Reply, Usage
from runner.money import Price, Rates, Tier
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Funds, Listed
from runner.transports.http import HttpTransport
from runner.world import HttpRequest, HttpResponse, Secret, WireError
from tests.providers.contract import WALL, call, essence, failure, heard, hostile, reply, told
from tests.providers.forms.chat import END, HI, STOP, event, plain, said, used
from tests.virtual import run_virtual
from tests.wire.manners import NoonClock

openrouter = DIALECTS["openrouter"]
HERE: Final = Endpoint("p", "openrouter", "https://openrouter.ai/api/v1", Secret("sk-or-1"))

# --- requests --------------------------------------------------------------------------------------------------------

HEAD: Final = b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"max_completion_tokens":400,'
WHOLE: Final = b'{"id":"context-compression","enabled":false}]'
TAIL: Final = b'"stream":true,"plugins":[' + WHOLE + b"}"

GOLDEN: Sequence[tuple[str, dict[str, Any], bytes]] = [
    ("nothing said of thinking", {}, HEAD + TAIL),
    ("no thinking", {"reasoning": Reasoning("none")}, HEAD + b'"reasoning":{"effort":"none"},' + TAIL),
    ("no thinking, in no tokens", {"reasoning": Reasoning("none", 9)}, HEAD + b'"reasoning":{"effort":"none"},' + TAIL),
    ("thinking by a word", {"reasoning": Reasoning("xhigh")}, HEAD + b'"reasoning":{"effort":"xhigh"},' + TAIL),
    ("thinking by tokens", {"reasoning": Reasoning("low", 1024)}, HEAD + b'"reasoning":{"max_tokens":1024},' + TAIL),
    (
        "routing and a cap on prices",
        {"extra": {"provider": {"only": ["z-ai"], "max_price": {"prompt": 1}}, "stream": False}},
        HEAD + b'"provider":{"only":["z-ai"],"max_price":{"prompt":1}},' + TAIL,
    ),
    (
        "another plugin",
        {"extra": {"plugins": [{"id": "web"}]}},
        HEAD + b'"plugins":[{"id":"web"},' + WHOLE + b',"stream":true}',
    ),
    (
        "a history shortened because the job wants it",
        {"extra": {"plugins": [{"id": "context-compression"}]}},
        HEAD + b'"plugins":[{"id":"context-compression"}],"stream":true}',
    ),
    ("plugins cannot be dropped", {"dropped": ("plugins",)}, HEAD + TAIL),
]


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in GOLDEN], ids=[row[0] for row in GOLDEN])
def test_a_request_has_exactly_these_bytes(changes: dict[str, Any], expected: bytes) -> None:
    """No history is shortened in silence."""
    assert openrouter.revision == "openrouter/2"
    assert openrouter.body(call(**changes)) == expected


RATES: Final = Rates(Decimal("3.75"), Decimal(15))
CAP: Final = b'"max_price":{"prompt":3.75000000375,"completion":15.000000015}'


@pytest.mark.parametrize(
    ("rates", "extra", "expected"),
    [
        (RATES, {}, HEAD + TAIL[:-1] + b"," + b'"provider":{' + CAP + b"}}"),
        (RATES, {"provider": {"only": ["z-ai"]}}, HEAD + b'"provider":{"only":["z-ai"],' + CAP + b"}," + TAIL),
        (RATES, {"provider": {"max_price": {}}}, HEAD + b'"provider":{"max_price":{}},' + TAIL),
        (RATES, {"provider": "z-ai"}, HEAD + b'"provider":"z-ai",' + TAIL),
        (Rates(Decimal(0), Decimal(0)), {}, HEAD + TAIL),
    ],
    ids=["by itself", "beside other wishes", "as the job has it", "not where it cannot stand", "not for what is free"],
)
def test_what_the_money_is_reserved_at_is_the_most_that_a_server_may_ask(
    rates: Rates, extra: dict[str, Any], expected: bytes
) -> None:
    """In dollars per million tokens, and no other dialect says a word of it."""
    got = openrouter.body(call(rates=rates, extra=extra))
    assert orjson.loads(got) == orjson.loads(expected)
    assert [name for name, one in DIALECTS.items() if one.sends_rates] == ["openrouter"]
    assert all(one.body(call(rates=rates)) == one.body(call()) for one in DIALECTS.values() if not one.sends_rates)


@given(st.decimals(min_value=0, max_value=10_000, places=9, allow_nan=False))
def test_a_server_at_just_the_price_is_not_shut_out_by_floating_numbers(price: Decimal) -> None:
    """However it multiplies out its price for a token, and no dearer one comes in."""
    told = orjson.loads(openrouter.body(call(rates=Rates(price, Decimal(1)))))["provider"]["max_price"]["prompt"]
    assert float(price.scaleb(-6)) * 1_000_000 <= told <= float(price) * 1.0000001


def test_it_is_not_told_who_asks() -> None:
    """No header of attribution; the key is hidden."""
    assert repr(openrouter.headers(HERE)) == (
        "{'content-type': 'application/json', 'accept': 'text/event-stream', 'authorization': ***}"
    )
    assert openrouter.url(HERE, "m") == "https://openrouter.ai/api/v1/chat/completions"


# --- answers ---------------------------------------------------------------------------------------------------------


def with_headers(headers: Mapping[str, str], body: bytes) -> Outcome:
    reader = openrouter.reader(call())
    reader.begin(headers)
    reader.feed(body)
    return reader.outcome(None)


def test_its_id_is_known_before_the_first_piece() -> None:
    """It stands in a header, so that a call that breaks off at once can be asked for."""
    reader = openrouter.reader(call())
    reader.begin({"x-generation-id": "gen-9"})
    assert reader.generation == "gen-9"
    reader.feed(b": OPENROUTER PROCESSING\n\n")
    assert reader.outcome("cut").generation == "gen-9"
    assert with_headers({}, HI + END).generation == "gen-1"
    assert with_headers({"x-generation-id": "gen-9"}, HI + END).generation == "gen-9"
    assert told(openrouter, 524, headers={"x-generation-id": "gen-9"}).generation == "gen-9"


class Silent:
    """A wire, and its answer: headers, and not one piece of a body."""

    status = 200
    headers: Mapping[str, str] = {"x-generation-id": "gen-9"}
    pieces: Sequence[bytes] = ()

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        yield self

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        raise WireError("the answer was cut off", sent=True)


def test_the_journal_hears_its_id_before_anything_is_said() -> None:
    """A call that was cut at once has an id by which it can be looked up."""
    started: list[str] = []
    transport = HttpTransport(Silent(), NoonClock(), {"p": HERE})
    answer = run_virtual(lambda: transport.send(call(), transport.body(call()), started.append))
    assert started == ["gen-9"]
    assert essence(answer.outcome) == failure("lost")
    assert answer.outcome.generation == "gen-9"


ZERO: Final = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "cost": 0}


@pytest.mark.parametrize("usage", [ZERO, {name: value for name, value in ZERO.items() if name != "cost"}])
def test_an_answer_given_again_cost_nothing_and_is_no_blank(usage: Any) -> None:
    """The same zeros beside any other text are not believed."""
    for body in (HI + STOP + used(usage), plain(content="Hi there", usage=usage)):
        again = with_headers({"x-openrouter-cache-status": "HIT"}, body)
        assert essence(again) == reply()
        assert again.usage == Usage(0, 0, cost=0, raw=usage)
        assert again.upstream == "response cache"
        first = with_headers({"x-openrouter-cache-status": "MISS"}, body)
        assert not first.usage.trusted
        assert first.upstream is None


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"cost": 0.0021, "is_byok": False}, 2_100_000),
        ({"cost": 0.0021, "cost_details": {"upstream_inference_cost": 0.002}}, 2_100_000),
        ({"cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.002}}, 2_100_000),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.002}}, 2_000_000),
        ({"cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": None}}, None),
        ({"cost": 0.0001, "is_byok": True}, None),
    ],
)
def test_with_a_key_of_ones_own_the_fee_is_not_the_cost(usage: Any, cost: int | None) -> None:
    """Where what the other side charges is not told, nobody knows the cost."""
    told_usage = {"prompt_tokens": 9, "completion_tokens": 3, **usage}
    got = heard(openrouter, HI + STOP + used(told_usage))
    assert got.usage == Usage(9, 3, cost=cost, raw=told_usage)


# --- errors ----------------------------------------------------------------------------------------------------------

AFFORD: Final = "This request requires more credits: requested up to 65536 tokens, but can only afford 46666."
BUSY: Final = failure(money="free", busy=True)
PROVIDER: Final = failure(scope="provider", money="free")
MODEL: Final = failure(scope="model", money="free")
THIS_ONE: Final = failure(scope="conversation", money="free")
REFUSED: Final = failure("refused", "conversation", "free")


def typed(word: str) -> dict[str, Any]:
    return {"metadata": {"error_type": word}}


def availability(code: str, retryable: bool, **more: Any) -> dict[str, Any]:
    return {"availability": {"code": code, "retryable": retryable, **more}}


ERRORS: Sequence[tuple[int, dict[str, Any], Mapping[str, Any]]] = [
    (402, {"message": "Insufficient credits"}, PROVIDER),
    (402, {"message": AFFORD}, THIS_ONE),
    (402, {"message": "Prompt tokens limit exceeded: 36163 > 29652."}, THIS_ONE),
    (403, {"message": "Key limit exceeded (total limit)"}, PROVIDER),
    (403, {"message": "Workspace budget exceeded"}, PROVIDER),
    (403, {"message": "Blocked by a guardrail"}, REFUSED),
    (403, {"metadata": {"reasons": ["violence"], "flagged_input": "x"}}, REFUSED),
    (403, {"message": "no access to m"}, MODEL),
    (400, typed("content_policy_violation"), REFUSED),
    (400, typed("context_length_exceeded"), failure(scope="conversation", money="free", overflow=True)),
    (400, availability("model_not_found", False), MODEL),
    (400, availability("wrong_endpoint", False), MODEL),
    (404, availability("no_endpoints", False), MODEL),
    (404, availability("privacy_restricted", False), MODEL),
    (403, availability("region_restricted", False), MODEL),
    (429, availability("capacity_exhausted", True, retry_after=9), {**BUSY, "retry_after": 9.0}),
    (429, availability("capacity_exhausted", False), PROVIDER),
    (503, availability("temporarily_unavailable", True), BUSY),
    (503, availability("model_deprecated", False), MODEL),
    (503, typed("provider_overloaded"), BUSY),
    (502, typed("provider_unavailable"), failure()),
    (502, availability("x", False), failure(scope="conversation")),
]


@pytest.mark.parametrize(("status", "error", "expected"), ERRORS)
def test_its_own_words_say_how_far_an_error_reaches(
    status: int, error: dict[str, Any], expected: Mapping[str, Any]
) -> None:
    """They know more than the status."""
    body = orjson.dumps({"error": {"code": status, **error}})
    assert essence(told(openrouter, status, body)) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": 502, **typed("provider_unavailable")}, failure()),
        ({"code": "server"}, failure()),
        ({"code": 429, **typed("rate_limit_exceeded")}, failure(busy=True)),
        ({"code": 402, "message": AFFORD}, failure(scope="conversation")),
        ({"code": 402, "message": "pay"}, failure(scope="provider")),
        (typed("unprocessable"), failure(scope="conversation")),
        (typed("invalid_prompt"), failure(scope="conversation")),
        (typed("max_tokens_exceeded"), failure(scope="conversation")),
        (typed("precondition_failed"), failure(scope="conversation")),
    ],
)
def test_an_error_inside_an_answer_is_read_by_the_same_words(error: Any, expected: Mapping[str, Any]) -> None:
    """At the top of a piece, at a choice, or in a whole answer."""
    choice = {"index": 0, "finish_reason": "error", "error": error, "message": {"content": ""}}
    for body in (event({"id": "gen-1", "error": error}), orjson.dumps({"id": "gen-1", "choices": [choice]})):
        assert essence(heard(openrouter, body)) == expected


WHAT_TO_DO: Final = (
    "no server offers it at the price at which its money is reserved: give the model the `price` of today in the job, "
    "or a `max_price` in `extra: {provider: {...}}`)"
)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"message": "No endpoints found within the max price."}, f" ({WHAT_TO_DO}"),
        ({"message": "No.", **availability("constraint_filtered", False, constraint="max_price")}, f" ({WHAT_TO_DO}"),
        ({"message": "No.", **availability("x", False, excluded_by=[{"max_price": 3}])}, f" ({WHAT_TO_DO}"),
        ({"message": "No.", **availability("no_endpoints", False)}, f" (perhaps {WHAT_TO_DO}"),
        ({"message": "No.", **availability("constraint_filtered", False, constraint=None)}, f" (perhaps {WHAT_TO_DO}"),
        ({"message": "No.", **availability("model_deprecated", False, excluded_by=[[[1]]])}, ""),
        ({"message": "No.", "metadata": [], "availability": {"code": {}, "constraint": 7}}, ""),
    ],
)
def test_a_model_that_nobody_offers_at_its_price_says_what_to_do(error: dict[str, Any], said: str) -> None:
    """It stops for all its conversations, and the line names the price, for certain or perhaps."""
    got = told(openrouter, 404, orjson.dumps({"error": {"code": 404, **error}}))
    assert essence(got) == MODEL
    assert got.detail == f"HTTP 404: {error['message']}{said}"


def test_what_one_call_may_cost_is_no_proof_of_an_empty_account() -> None:
    """The others go on, and the detail says what can be done."""
    got = told(openrouter, 402, orjson.dumps({"error": {"code": 402, "message": AFFORD}}))
    assert got.quota is None
    assert got.detail == (
        f"HTTP 402: {AFFORD} (this call alone: the account need not be empty, "
        "but does not cover all that the call may cost; lower max_tokens, or add credit)"
    )
    assert told(openrouter, 402).quota == "credit"


DAY: Final = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
MIDNIGHT: Final = str(int((WALL + 43_200) * 1000))


@pytest.mark.parametrize(
    ("error", "headers", "quota", "wait"),
    [
        ({"message": DAY}, {"x-ratelimit-reset": MIDNIGHT}, "day", 43_200.0),
        ({"message": DAY, "metadata": {"headers": {"X-RateLimit-Reset": MIDNIGHT}}}, {}, "day", 43_200.0),
        ({"metadata": {"limit_source": "openrouter_free_tier_daily"}}, {"x-ratelimit-reset": "60"}, "day", 60.0),
        ({"message": DAY}, {}, "day", None),
        ({"message": "free-models-per-min"}, {"x-ratelimit-reset": str(int(WALL) + 30)}, None, 30.0),
        ({"message": "slow"}, {"x-ratelimit-reset": MIDNIGHT, "retry-after": "5"}, None, 5.0),
        ({"message": "slow"}, {"x-ratelimit-reset": str(int(WALL) - 30)}, None, None),
        ({"message": "slow", "metadata": {"headers": {"X-RateLimit-Reset": ["x"]}}}, {}, None, None),
    ],
)
def test_a_limit_of_its_own_says_when_it_is_lifted(
    error: Any, headers: dict[str, str], quota: str | None, wait: float | None
) -> None:
    """A moment in milliseconds or in seconds, or a duration, in a header or in the body."""
    got = told(openrouter, 429, orjson.dumps({"error": {"code": 429, **error}}), headers)
    assert (got.quota, got.retry_after) == (quota, wait)
    assert got.busy is not (quota == "day" and wait is None)


def test_hints_are_read_where_it_gives_them() -> None:
    """It says nothing on success; by the time of the reset it is known which limit it was."""
    assert openrouter.hints({"x-ratelimit-reset": MIDNIGHT}, WALL) == ()
    headers = {"x-ratelimit-limit": "50", "x-ratelimit-remaining": "0", "x-ratelimit-reset": MIDNIGHT}
    assert openrouter.hints(headers, WALL) == (Left("requests", "day", 0, 50, 43_200.0),)
    headers = {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "30"}
    assert openrouter.hints(headers, WALL) == (Left("requests", "minute", 0, 20, 30.0),)


# --- what became of a call -------------------------------------------------------------------------------------------


def test_a_call_is_asked_for_by_its_id() -> None:
    """Which is no part of a path of ours."""
    asked = openrouter.look_up(HERE, "gen-1&x=2")
    assert asked is not None
    assert (asked.method, asked.url) == ("GET", "https://openrouter.ai/api/v1/generation?id=gen-1%26x%3D2")
    assert "authorization" in asked.headers


RECORD: Final = {
    "total_cost": 0.0021,
    "native_tokens_prompt": 900,
    "native_tokens_completion": 400,
    "native_tokens_cached": 512,
    "tokens_prompt": 1,
}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, Found(2_100_000, 900, 400, 512)),
        ({"native_tokens_cached": None}, Found(2_100_000, 900, 400)),
        ({"is_byok": True, "upstream_inference_cost": 0.01}, Found(12_100_000, 900, 400, 512)),
        ({"is_byok": False, "upstream_inference_cost": 0.01}, Found(2_100_000, 900, 400, 512)),
        ({"is_byok": True}, None),
        ({"total_cost": 0, "native_tokens_completion": 0}, Found(0, 900, 0, 512)),
        ({"total_cost": 0}, None),
        ({"total_cost": 0, "native_tokens_completion": None}, None),
        ({"total_cost": None}, None),
        ({"total_cost": "0.1"}, None),
        ({"total_cost": -1}, None),
        ({"id": "gen-1"}, Found(2_100_000, 900, 400, 512)),
        ({"id": "gen-2"}, None),
    ],
)
def test_a_record_tells_what_a_call_cost(changes: Any, found: Found | None) -> None:
    """Once its books are closed; until then it tells nothing that could be relied on."""
    assert openrouter.looked_up(orjson.dumps({"data": {**RECORD, **changes}}), "gen-1") == found
    assert openrouter.looked_up(b'{"error":{"code":404}}', "gen-1") is None


# --- what can be asked before a night --------------------------------------------------------------------------------

PRICING: Final = {"prompt": "0.000001", "completion": "0.0000032", "request": "0", "input_cache_read": "0.0000001"}
ROW: Final = {
    "id": "z-ai/glm-5",
    "context_length": 200_000,
    "top_provider": {"context_length": 128_000, "max_completion_tokens": 65_536},
    "pricing": PRICING,
    "expiration_date": "2026-12-31",
}


def listed(row: Any) -> Sequence[Any]:
    models, _ = openrouter.inquiries(HERE, ["z-ai/glm-5"])
    return openrouter.learned(models, orjson.dumps({"data": [row]}))


def test_its_catalogue_tells_window_limit_price_and_end_of_a_model() -> None:
    """Prices by the token become prices by the million; the window is that of who answers."""
    models, account = openrouter.inquiries(HERE, ["z-ai/glm-5"])
    assert (models.request.url, models.models) == ("https://openrouter.ai/api/v1/models", ("z-ai/glm-5",))
    assert (account.about, account.request.url) == ("account", "https://openrouter.ai/api/v1/key")
    price = Price(Decimal(1), Decimal("3.2"), Decimal("0.1"))
    assert listed(ROW) == (Listed("z-ai/glm-5", 128_000, 65_536, price, "2026-12-31"),)
    assert listed({"id": "m"}) == (Listed("m"),)


@pytest.mark.parametrize(
    ("changes", "price"),
    [
        ({"request": "0.018"}, Price(Decimal(1), Decimal("3.2"), Decimal("0.1"), request=Decimal("0.018"))),
        ({"request": "-1"}, None),
        (
            {"input_cache_write": "0.00000125", "input_cache_write_1h": "0.000002"},
            Price(Decimal(1), Decimal("3.2"), Decimal("0.1"), Decimal(2)),
        ),
        ({"internal_reasoning": "0.000004"}, Price(Decimal(1), Decimal(4), Decimal("0.1"))),
        ({"internal_reasoning": "0"}, Price(Decimal(1), Decimal("3.2"), Decimal("0.1"))),
        (
            {"overrides": [{"min_prompt_tokens": 200_000, "prompt": "0.000002"}, {"completion": "0.000001"}, 7]},
            Price(
                Decimal(1),
                Decimal("3.2"),
                Decimal("0.1"),
                tiers=(Tier(200_000, Decimal(2), Decimal("3.2"), Decimal("0.1")),),
            ),
        ),
        (
            {
                "input_cache_write": "0.00000125",
                "overrides": [
                    {"min_prompt_tokens": 400_000, "prompt": "0.000003", "request": "0.01"},
                    {"min_prompt_tokens": 200_000, "prompt": "0.000002", "completion": "0.000003"},
                    {"min_prompt_tokens": 200_000, "utc_start": 100, "utc_end": 500, "completion": "0.000009"},
                ],
            },
            Price(
                Decimal(1),
                Decimal("3.2"),
                Decimal("0.1"),
                Decimal("1.25"),
                Decimal("0.01"),
                tiers=(
                    Tier(200_000, Decimal(2), Decimal(9), Decimal("0.1"), Decimal("1.25")),
                    # The entry that stands last wins where both hold.
                    Tier(400_000, Decimal(2), Decimal(9), Decimal("0.1"), Decimal("1.25")),
                ),
            ),
        ),
        (
            {
                "overrides": [
                    {"min_prompt_tokens": 200_000, "completion": "0.000009"},
                    {"min_prompt_tokens": 200_000, "utc_start": 100, "utc_end": 500, "completion": "0.000001"},
                ],
            },
            Price(
                Decimal(1),
                Decimal("3.2"),
                Decimal("0.1"),
                tiers=(Tier(200_000, Decimal(1), Decimal(9), Decimal("0.1")),),
            ),
        ),
        (
            {"overrides": [{"min_prompt_tokens": 200_000, "completion": "0.000001"}]},
            Price(
                Decimal(1),
                Decimal("3.2"),
                Decimal("0.1"),
                tiers=(Tier(200_000, Decimal(1), Decimal(1), Decimal("0.1")),),
            ),
        ),
        (
            {"overrides": [{"utc_start": "0100", "completion": "0.000009"}]},
            Price(Decimal(1), Decimal(9), Decimal("0.1")),
        ),
        ({"overrides": [{"completion": "dear"}]}, None),
        ({"prompt": "-1"}, None),
        ({"completion": None}, None),
        ({"prompt": "1"}, None),
        ({"prompt": "1e999999999"}, None),
        ({"input_cache_read": {}}, None),
    ],
)
def test_the_dearest_price_is_taken_and_none_where_one_cannot_be_read(changes: Any, price: Price | None) -> None:
    """Over all hours, with a tier for each length of a prompt that has its own; what cannot be a price makes none."""
    [found] = listed({**ROW, "pricing": {**PRICING, **changes}})
    assert found.price == price


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ({"limit": 10, "limit_remaining": 2.5, "limit_reset": "daily"}, (Funds(2_500_000_000, "of $10 daily"),)),
        ({"limit": 10, "limit_remaining": -0.01, "limit_reset": None}, (Funds(0, "of $10"),)),
        ({"limit": None, "limit_remaining": None}, (Funds(None, "a key without a limit of its own"),)),
        ({"limit": None, "limit_remaining": 1}, (Funds(1_000_000_000, ""),)),
        ({"limit_remaining": "1"}, ()),
        ({"usage": 1}, ()),
    ],
)
def test_a_key_tells_what_it_may_still_spend(answer: Any, facts: Any) -> None:
    """Nothing where it has no limit of its own."""
    _, account = openrouter.inquiries(HERE, [])
    assert openrouter.learned(account, orjson.dumps({"data": answer})) == facts


@pytest.mark.parametrize(
    ("rest", "cut", "money"),
    [
        (b"", "the answer was cut off", "assumed"),
        (b"", None, "assumed"),
        (b"data: [DONE]\n\n", None, "known"),
        (said("error"), None, "known"),
    ],
)
def test_a_cost_so_far_is_not_the_cost_of_an_answer(rest: bytes, cut: str | None, money: str) -> None:
    """What broke off may cost more by the time its provider hears of it; an end makes the figure the last one."""
    reader = openrouter.reader(call())
    reader.feed(used({"prompt_tokens": 20, "completion_tokens": 1, "cost": 1e-7}) + said(content="word") + rest)
    got = reader.outcome(cut)
    assert isinstance(got, Failure)
    assert got.money == money


# --- hostile input ---------------------------------------------------------------------------------------------------

JSON = hostile(
    *("data", "pricing", "overrides", "prompt", "completion", "top_provider", "limit", "limit_remaining", "is_byok"),
    *("total_cost", "upstream_inference_cost", "native_tokens_completion", "metadata", "headers", "availability"),
    *("cost", "cost_details", "usage", "choices", "delta", "content", "limit_source", "X-RateLimit-Reset", "id"),
)


@settings(max_examples=150)
@given(JSON, st.sampled_from([402, 403, 429, 503]), st.text(max_size=20))
def test_nothing_it_says_can_raise(answer: Any, status: int, text: str) -> None:
    """An answer, an error, a record, a catalogue, a key; headers too."""
    body = json.dumps(answer).encode()
    names = ("x-generation-id", "x-openrouter-cache-status", "x-ratelimit-reset", "x-ratelimit-remaining", "date")
    headers = dict.fromkeys(names, text)
    assert isinstance(with_headers(headers, b"data: " + body + b"\n\n" + said("stop")), (Reply, Failure))
    assert isinstance(told(openrouter, status, json.dumps({"error": answer}).encode(), headers), Failure)
    openrouter.hints(headers, WALL)
    openrouter.looked_up(json.dumps({"data": answer}).encode(), "gen-1")
    for inquiry in openrouter.inquiries(HERE, ["m"]):
        openrouter.learned(inquiry, json.dumps({"data": answer}).encode())
        openrouter.learned(inquiry, body)
