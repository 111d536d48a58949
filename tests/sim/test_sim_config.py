"""The configuration of the built-in provider: read strictly, every mistake at once."""

from __future__ import annotations

import re
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import pytest

from runner.money import Price, Tier
from runner.sim.config import CAST, KINDS, PASSING, ModelConfig, Speaks
from runner.sim.engine import Fault, Latency, Limits, SimConfig, Style, check_config, load_config, price_of

WHOLE: dict[str, Any] = {
    "seed": 7,
    "keys": ["one"],
    "epoch": 1_700_000_000,
    "keep_bodies": True,
    "cancelled": "produced",
    "speaks": "openrouter",
    "credit": 2.5,
    "record_after": "3s",
    "limits": {
        "concurrency": 4,
        "rpm": 60,
        "window": "bucket",
        "burst": 1,
        "count": "used",
        "headers": False,
        "tpd": 9,
    },
    "models": {
        "m": {
            "price": {
                "input": "1.00",
                "output": 3.2,
                "cache_read": 0.1,
                "tiers": [{"above": 9, "input": 2, "output": 4}],
            },
            "reply": {"mean": 20, "spread": 0, "texts": ["Hello."]},
            "reasoning": 30,
            "reasoning_field": "reasoning",
            "latency": {"first": "250ms", "per_token": 0.01, "spread": 0.5, "keep_alive": "1s"},
            "cached": 0.5,
            "reports_cost": True,
            "context": 8192,
            "cache_written": 0.25,
            "byok": True,
            "overflow": "cut",
            "max_output": 512,
            "ends": "2026-12-31",
            "gpu": 0.5,
            "limits": {"output_tpm": 1000},
            "faults": [{"kind": "blank", "request": [1, 3]}],
        }
    },
    "other": {},
    "faults": {
        "rate": 0.05,
        "script": [
            {"kind": "busy", "model": "m", "attempt": 1, "retry_after": float("nan")},
            {"kind": "server_error", "status": 529, "since": "1m", "until": "2m", "rate": 0.5, "billed": True},
            {"kind": "cut", "contains": "hello", "after": 2},
        ],
    },
}


def test_everything_that_can_be_said_is_read() -> None:
    """Each key ends where it belongs, with times in seconds and prices exact."""
    config, problems = load_config(WHOLE)
    assert problems == ()
    model = config.models["m"]
    tier = Tier(9, Decimal(2), Decimal(4))
    assert model.price == Price(Decimal("1.00"), Decimal("3.2"), Decimal("0.1"), tiers=(tier,))
    assert model.reply == Style(20, 0.0, ("Hello.",))
    assert model.latency == Latency(0.25, 0.01, 0.5, 1.0)
    assert model.faults == (Fault("blank", request=(1, 3)),)
    assert (model.reasoning, model.reasoning_field, model.cached, model.context) == (30, "reasoning", 0.5, 8192)
    assert (model.cache_written, model.byok, model.overflow, model.gpu) == (0.25, True, "cut", 0.5)
    assert (model.max_output, model.ends) == (512, "2026-12-31")
    assert (config.speaks, config.credit, config.record_after) == ("openrouter", 2_500_000_000, 3.0)
    assert model.limits == Limits(output_tpm=1000)
    assert config.limits == Limits(4, 60, window="bucket", burst=1, count="used", headers=False, tpd=9)
    assert (config.seed, config.keys, config.cancelled, config.keep_bodies) == (7, ("one",), "produced", True)
    busy, error, cut = config.faults
    assert (busy.kind, busy.model, busy.attempt, str(busy.retry_after)) == ("busy", "m", (1,), "nan")
    assert error == Fault("server_error", status=529, since=60.0, until=120.0, rate=0.5, billed=True)
    assert cut == Fault("cut", contains="hello", after=2, billed=True)
    assert config.fault_rate == 0.05


def test_nothing_said_is_the_cast() -> None:
    """The built-in models are there without any configuration, with prices, and stay beside given ones."""
    assert load_config({}) == (SimConfig(), ())
    assert set(CAST) == {"ada", "basil", "cleo", "dora", "eli"}
    config, _ = load_config({"models": {"mine": {}}})
    assert set(config.models) == {*CAST, "mine"}
    for name in CAST:
        price = price_of(config, name)
        assert price is not None
        assert not price.free
    assert price_of(config, "nobody") is None


def test_other_models_are_served_only_when_there_is_a_word_for_them() -> None:
    """`other` stands for every model that is not listed, price included."""
    config, _ = load_config({"other": {"price": {"input": 1, "output": 2}}})
    assert price_of(config, "z-ai/glm-5") == Price(Decimal(1), Decimal(2))


def scripted(**told: Any) -> dict[str, Any]:
    return {"faults": {"script": [told]}}


BAD: list[tuple[object, tuple[str | int, ...], str]] = [
    ([], (), "expected keys with values, found a list"),
    ({"sed": 1}, ("sed",), "did you mean `seed`?"),
    ({"seed": -1}, ("seed",), "at least 0, found -1"),
    ({"seed": True}, ("seed",), "whole number"),
    ({"keys": "one"}, ("keys",), "expected a list"),
    ({"cancelled": "fully"}, ("cancelled",), "did you mean `full`?"),
    ({"limits": {"rpm": 0}}, ("limits", "rpm"), "at least 1, found 0"),
    ({"limits": {"rpn": 1}}, ("limits", "rpn"), "did you mean `rpm`?"),
    ({"limits": {"window": "slide"}}, ("limits", "window"), "did you mean `sliding`?"),
    ({"limits": {"rpm": 5, "burst": 1}}, ("limits", "burst"), "`window: bucket`"),
    ({"limits": None}, ("limits",), "found nothing"),
    ({"speaks": "openruoter"}, ("speaks",), "did you mean `openrouter`?"),
    ({"credit": "much"}, ("credit",), "not a number"),
    ({"credit": []}, ("credit",), "expected dollars"),
    (
        {"models": {"m": {"price": {"input": 1, "output": 1, "tiers": [{"input": 1, "output": 1, "abov": 3}]}}}},
        ("models", "m", "price", "tiers", 0, "abov"),
        "did you mean `above`?",
    ),
    ({"models": {"m": {"overflow": "trim"}}}, ("models", "m", "overflow"), "expected one of refuse, cut"),
    ({"models": {"m": {"gpu": 2}}}, ("models", "m", "gpu"), "from 0 to 1"),
    (scripted(kind="afford", afford=-1), ("faults", "script", 0, "afford"), "at least 0"),
    (scripted(kind="busy", should_retry="no"), ("faults", "script", 0, "should_retry"), "true or false"),
    ({"models": {"m": 3}}, ("models", "m"), "expected keys with values, found 3"),
    ({"models": {"m": {"prise": {}}}}, ("models", "m", "prise"), "did you mean `price`?"),
    ({"models": {"m": {"price": {"input": 1}}}}, ("models", "m", "price", "output"), "needs `output`"),
    ({"models": {"m": {"price": {"input": -1, "output": 1}}}}, ("models", "m", "price", "input"), "negative"),
    ({"models": {"m": {"latency": {"first": "3 s"}}}}, ("models", "m", "latency", "first"), "`250ms`"),
    ({"models": {"m": {"latency": {"first": -1}}}}, ("models", "m", "latency", "first"), "negative"),
    ({"models": {"m": {"cached": 2}}}, ("models", "m", "cached"), "from 0 to 1"),
    ({"models": {"m": {"cached": float("nan")}}}, ("models", "m", "cached"), "expected a number"),
    ({"models": {"m": {"reply": {"texts": ["a"], "echo": True}}}}, ("models", "m", "reply", "echo"), "leave one"),
    ({"models": {"m": {"reply": {"texts": [1]}}}}, ("models", "m", "reply", "texts"), "expected a text, found 1"),
    ({"models": {"m": {"faults": [{"kind": "bussy"}]}}}, ("models", "m", "faults", 0, "kind"), "did you mean `busy`?"),
    ({"models": {"m": {"faults": [{}]}}}, ("models", "m", "faults", 0), "needs a `kind`"),
    ({"faults": {"rate": 5}}, ("faults", "rate"), "from 0 to 1"),
    ({"faults": {"script": {}}}, ("faults", "script"), "expected a list"),
    ({"faults": {"script": ["busy"]}}, ("faults", "script", 0), "found 'busy'"),
    (scripted(kind="busy", after=2), ("faults", "script", 0, "after"), "`busy` has no `after`"),
    (scripted(kind="busy", request=0), ("faults", "script", 0, "request"), "at least 1"),
    (
        scripted(kind="busy", model="adda"),
        ("faults", "script", 0, "model"),
        "did you mean `ada`",
    ),
    (
        scripted(kind="busy", retry_after="soon", retry_form="date"),
        ("faults", "script", 0, "retry_form"),
        "number of seconds",
    ),
    (
        scripted(kind="server_error", status=200),
        ("faults", "script", 0, "status"),
        "400 to 599",
    ),
]


@pytest.mark.parametrize(("data", "path", "fragment"), BAD)
def test_each_mistake_is_named_where_it_is(data: object, path: tuple[str | int, ...], fragment: str) -> None:
    """A wrong value is reported with its path and what to do, and nothing else is."""
    ((found, message),) = check_config(data)
    assert found == path
    assert fragment in message


def test_all_mistakes_come_at_once() -> None:
    """One look at the errors is enough."""
    data = {"sed": 1, "limits": {"rpm": "x"}, "models": {"m": {"cached": 9, "price": {}}}, "faults": {"script": [{}]}}
    assert [path for path, _ in check_config(data)] == [
        ("models", "m", "price", "input"),
        ("models", "m", "price", "output"),
        ("models", "m", "cached"),
        ("limits", "rpm"),
        ("faults", "script", 0),
        ("sed",),
    ]
    assert load_config(data).config == SimConfig()


def test_the_mix_is_made_of_faults_that_pass() -> None:
    """`rate` alone never breaks a provider for good, hangs a run or lies about usage."""
    kinds = {fault.kind for fault in PASSING}
    lasting = {"quota", "unauthorized", "no_money", "forbidden", "not_found", "context_length", "unsupported_parameter"}
    assert not kinds & (lasting | {"overrun", "usage", "stall", "silent", "slow", "late", "redirect", "other_model"})
    assert kinds < set(KINDS)


def test_the_page_about_jobs_names_every_key_and_every_kind_of_fault() -> None:
    """What can be said to the built-in server and what is written about it cannot drift apart."""
    page = (Path(__file__).parents[2] / "docs" / "job-file.md").read_text(encoding="utf-8")
    section = page.partition("### `sim`")[2].partition("\n## ")[0]
    tables = re.split(r"\n\|---\|---(?:\|---)?\|\n", section)[1:]
    named = [re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| ([^|]*) \|", part, re.MULTILINE))) for part in tables]
    provider, model, kinds = map(set, named)
    assert provider == {field.name for field in fields(SimConfig)} - {"fault_rate"}
    assert model == {field.name for field in fields(ModelConfig)}
    assert kinds == set(KINDS) | {option for kind in KINDS.values() for option in kind.options} - {"billed"}
    assert all(f"`{word}`" in tables[0] for word in get_args(Speaks))
