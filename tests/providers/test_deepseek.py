"""DeepSeek: what it does in its own way, beside chat completions as all of its format speak them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings

from runner.call import Reasoning, Reply, Sampling
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Fact, Funds
from runner.world import Secret
from tests.providers.contract import VIEWS, call, essence, failure, heard, hostile, reply, told
from tests.providers.test_openai import END, HI, STOP, THINK, said, used

deepseek = DIALECTS["deepseek"]
HERE: Final = Endpoint("p", "deepseek", "https://api.deepseek.com", Secret("sk-1"))
HEAD: Final = b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"max_tokens":400,'
TAIL: Final = b'"stream_options":{"include_usage":true},"stream":true}'


def test_a_request_has_exactly_these_bytes() -> None:
    """The limit under its old name, the system text as a message."""
    assert deepseek.revision == "deepseek/1"
    assert deepseek.url(HERE, "m") == "https://api.deepseek.com/chat/completions"
    assert deepseek.body(call(view=VIEWS["three speakers"], sampling=Sampling(0.7), seed=7)) == (
        b'{"model":"m","messages":[{"role":"system","content":"You are the first of three."},'
        b'{"role":"user","content":"What survives?"},{"role":"assistant","content":"Echoes."},'
        b'{"role":"user","content":"two: Names.\\n\\nthree: \xe2\x80\x9cNothing.\xe2\x80\x9d"}],'
        b'"max_tokens":400,"temperature":0.7,"seed":7,' + TAIL
    )


@pytest.mark.parametrize(
    ("reasoning", "asked"),
    [
        (Reasoning(), b""),
        (Reasoning("none"), b'"thinking":{"type":"disabled"},'),
        (Reasoning("minimal"), b'"thinking":{"type":"enabled"},"reasoning_effort":"low",'),
        (Reasoning("medium"), b'"thinking":{"type":"enabled"},"reasoning_effort":"high",'),
        (Reasoning("xhigh"), b'"thinking":{"type":"enabled"},"reasoning_effort":"max",'),
        (Reasoning("max"), b'"thinking":{"type":"enabled"},"reasoning_effort":"max",'),
        (Reasoning(tokens=1024), b'"thinking":{"type":"enabled"},'),
    ],
)
def test_thinking_is_on_unless_it_is_switched_off(reasoning: Reasoning, asked: bytes) -> None:
    """Where nothing is said, nothing is sent; of its three words, the next higher one is taken."""
    assert deepseek.body(call(reasoning=reasoning)) == HEAD + asked + TAIL


def test_the_line_may_be_kept_open_for_minutes() -> None:
    """Comments and blank lines before it begins are no data, and spoil no answer."""
    for life in (b": keep-alive\n\n", b"\n", b"\r\n"):
        reader = deepseek.reader(call())
        assert not any(reader.feed(life) for _ in range(100))
        reader.feed(THINK + HI + END)
        assert essence(reader.outcome(None)) == reply()


def test_what_was_read_from_its_cache_is_part_of_the_input() -> None:
    """Hits and misses are its own words for that."""
    usage = {
        "prompt_tokens": 900,
        "completion_tokens": 3,
        "prompt_cache_hit_tokens": 512,
        "prompt_cache_miss_tokens": 388,
    }
    got = heard(deepseek, HI + STOP + used(usage))
    assert isinstance(got, Reply)
    assert (got.usage.input, got.usage.cached_read, got.usage.trusted) == (900, 512, True)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (402, "Insufficient Balance", failure(scope="provider", money="free")),
        (422, "Invalid parameter", failure(scope="conversation", money="free")),
        (429, "Rate limit reached", failure(money="free", busy=True)),
        (503, "Server overloaded", failure(money="free")),
    ],
)
def test_a_status_says_how_far_it_reaches(status: int, message: str, expected: Mapping[str, Any]) -> None:
    """An empty account ends it for the provider."""
    got = told(deepseek, status, orjson.dumps({"error": {"message": message, "code": "invalid_request_error"}}))
    assert essence(got) == expected
    assert (got.quota == "credit") is (status == 402)


def test_an_answer_that_ran_out_of_machines_is_no_answer() -> None:
    """It says so in its reason to end."""
    assert essence(heard(deepseek, HI + said("insufficient_system_resource"))) == failure(partial="Hi there")


DOLLARS: Final = {"currency": "USD", "total_balance": "110.50", "granted_balance": "10.00"}


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ({"is_available": True, "balance_infos": [DOLLARS]}, [Funds(110_500_000_000, "110.50 USD")]),
        ({"balance_infos": [{**DOLLARS, "currency": "CNY"}]}, [Funds(None, "110.50 CNY")]),
        (
            {"balance_infos": [7, {"currency": "EUR"}, {"currency": "CNY", "total_balance": "9"}, DOLLARS]},
            [Funds(110_500_000_000, "9 CNY, 110.50 USD")],
        ),
        ({"balance_infos": [{**DOLLARS, "total_balance": "much"}]}, [Funds(None, "much USD")]),
        ({"balance_infos": {}}, []),
        ([], []),
    ],
)
def test_the_balance_is_told_in_dollars_where_it_is_in_dollars(answer: Any, facts: list[Fact]) -> None:
    """Of any other currency, only its own words are kept."""
    models, account = deepseek.inquiries(HERE, ["m"])
    assert (models.request.url, account.request.url) == (
        "https://api.deepseek.com/models",
        "https://api.deepseek.com/user/balance",
    )
    assert list(deepseek.learned(account, orjson.dumps(answer))) == facts


@settings(max_examples=50)
@given(hostile("balance_infos", "currency", "total_balance", "data", "id"))
def test_no_record_can_raise(answer: Any) -> None:
    """Whatever it says of the account and of its models."""
    for inquiry in deepseek.inquiries(HERE, ["m"]):
        deepseek.learned(inquiry, json.dumps(answer).encode())
