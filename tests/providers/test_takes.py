"""Which settings a dialect has words for: exactly those that change its requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from runner.call import Call, Reasoning, Sampling
from runner.providers import DIALECTS
from runner.providers.base import SETTINGS, LimitField, touched
from tests.providers.contract import call

GIVEN: Mapping[str, Callable[[Call], Call]] = {
    "temperature": lambda one: replace(one, sampling=Sampling(temperature=0.5)),
    "top_p": lambda one: replace(one, sampling=Sampling(top_p=0.5)),
    "presence_penalty": lambda one: replace(one, sampling=Sampling(presence_penalty=0.5)),
    "frequency_penalty": lambda one: replace(one, sampling=Sampling(frequency_penalty=0.5)),
    "top_k": lambda one: replace(one, sampling=Sampling(top_k=5)),
    "stop_strings": lambda one: replace(one, sampling=Sampling(stop=("END",))),
    "reasoning.effort": lambda one: replace(one, reasoning=Reasoning("low")),
    "reasoning.tokens": lambda one: replace(one, reasoning=Reasoning(tokens=1024)),
    "seed": lambda one: replace(one, seed=7),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_dialect_takes_exactly_the_settings_that_change_its_request(name: str) -> None:
    """What it says that it takes is told, and what it does not is nowhere in the bytes."""
    dialect = DIALECTS[name]
    plain = dialect.body(call())
    changes = {setting for setting, given in GIVEN.items() if dialect.body(given(call())) != plain}
    fields: tuple[LimitField, ...] = ("max_tokens", "max_completion_tokens")
    if len({dialect.body(call(), field) for field in fields}) > 1:
        changes.add("limit_field")
    assert changes == dialect.takes
    assert dialect.takes <= SETTINGS == {*GIVEN, "limit_field"}


TOUCHED: Mapping[str, tuple[str, dict[str, Any], list[tuple[str, ...]]]] = {
    "a field of the call": ("anthropic", {"stream": False, "service_tier": "auto"}, [("stream",)]),
    "one inside an object": (
        "gemini",
        {"generationConfig": {"maxOutputTokens": 5, "responseMimeType": "text/plain"}, "labels": {}},
        [("generationConfig", "maxOutputTokens")],
    ),
    "the object itself": ("gemini", {"generationConfig": 5}, [("generationConfig",)]),
    "only what is free": ("ollama", {"options": {"num_gpu": 10}, "keep_alive": "1h"}, []),
}


@pytest.mark.parametrize("name", TOUCHED)
def test_what_extra_may_not_touch_is_what_a_request_leaves_out_of_it(name: str) -> None:
    """The check of a job and the making of a request agree."""
    type_, extra, paths = TOUCHED[name]
    dialect = DIALECTS[type_]
    assert [*touched(extra, dialect.ours)] == paths
    unchanged = dialect.body(call(extra=extra)) == dialect.body(call())
    assert unchanged == (name == "the object itself")


@pytest.mark.parametrize("name", [name for name in DIALECTS if name not in ("gemini", "ollama")])
def test_extra_cannot_have_another_model_answer_or_more_answers_paid_for(name: str) -> None:
    """The price that is reckoned with is that of one answer of the model that the job names."""
    for wrong in ("models", "fallbacks", "preset", "best_of"):
        assert [*touched({wrong: ["dear"]}, DIALECTS[name].ours)] == [(wrong,)]


@pytest.mark.parametrize("name", DIALECTS)
def test_extra_cannot_change_a_field_that_it_may_not_touch(name: str) -> None:
    """Each name that a dialect keeps for itself is kept."""
    dialect = DIALECTS[name]
    for kept in dialect.ours:
        extra: Any = "other"
        for step in reversed(kept.split(".")):
            extra = {step: extra}
        assert [*touched(extra, dialect.ours)] == [tuple(kept.split("."))]
        assert dialect.body(call(extra=extra)) == dialect.body(call())
