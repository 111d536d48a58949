"""DeepSeek: what it does in its own way, beside chat completions as all of its format speak them."""

from __future__ import annotations

import json
from typing import Any, Final

import orjson
import pytest
from hypothesis import given, settings

from runner.call import Reasoning, Reply
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Fact, Funds
from runner.world import Secret
from tests.providers.contract import call, essence, failure, heard, hostile, reply
from tests.providers.forms.chat import END, HI, STOP, THINK, said, used

deepseek = DIALECTS["deepseek"]
HERE: Final = Endpoint("p", "deepseek", "https://api.deepseek.com", Secret("sk-1"))
HEAD: Final = b'{"model":"m","messages":[{"role":"user","content":"What survives?"}],"max_tokens":400,'
TAIL: Final = b'"stream_options":{"include_usage":true},"stream":true}'


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


def test_an_answer_that_ran_out_of_machines_is_no_answer() -> None:
    """It says so in its reason to end."""
    assert essence(heard(deepseek, HI + said("insufficient_system_resource"))) == failure(partial="Hi there")


DOLLARS: Final = {"currency": "USD", "total_balance": "110.50", "granted_balance": "10.00"}


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        ({"is_available": True, "balance_infos": [DOLLARS]}, [Funds(110_500_000_000)]),
        ({"balance_infos": [{**DOLLARS, "currency": "CNY"}]}, [Funds(None, "110.50 CNY")]),
        (
            {"balance_infos": [7, {"currency": "EUR"}, {"currency": "CNY", "total_balance": "9"}, DOLLARS]},
            [Funds(110_500_000_000, "and 9 CNY")],
        ),
        ({"balance_infos": [{**DOLLARS, "total_balance": "much"}]}, [Funds(None, "much USD")]),
        ({"balance_infos": {}}, []),
        ([], []),
    ],
)
def test_the_balance_is_told_in_dollars_where_it_is_in_dollars(answer: Any, facts: list[Fact]) -> None:
    """It is told once; of any other currency, only its own words are kept."""
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
