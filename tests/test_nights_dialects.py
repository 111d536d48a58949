"""A night that pairs five dialects: the sick ones stop their own conversations, each for one clear reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.nights import LATENCY, START, Life, Night

TYPES = {
    "router": "openrouter",
    "claude": "anthropic",
    "google": "gemini",
    "local": "ollama",
    "gpt": "openai-responses",
}
HEALTHY = ("router", "claude")
SICK = {
    "google": ("day", "google: its quota of the day is used up, until 2026-11-22"),
    "local": ("refused", "local: connection refused"),
    "gpt": ("quota", "gpt: HTTP 429"),
}
"""What is wrong with each of the others, and how that begins in words."""


def job(*providers: str) -> dict[str, Any]:
    """Each provider's two models talk with each other and with those of the first."""
    price = {"input": 1, "output": 4}
    pairings = [{"a": f"{name}-a", "b": f"{name}-b", "repeat": 12} for name in providers]
    pairings += [{"a": f"{providers[0]}-a", "b": f"{name}-a", "repeat": 4} for name in providers[1:]]
    return {
        "name": "job",
        "budget": 50,
        "defaults": {"max_tokens": 400, "timeout": {"connect": "2s"}},
        "providers": {
            name: {"type": TYPES[name], "base_url": "sim", "limits": {"concurrency": 4}} for name in providers
        },
        "models": {
            f"{name}-{side}": {"use": f"{name}/{name}-{side}", "price": price} for name in providers for side in "ab"
        },
        "prompts": {"talk": {"opening": "What survives of a conversation?", "rounds": 4}},
        "pairings": pairings,
    }


def sim(*, ill: bool) -> dict[str, Any]:
    habits = {"latency": LATENCY, "price": {"input": 1, "output": 4}, "context": 20_000}
    faults = [{"kind": kind, "model": f"{name}-{side}"} for name, (kind, _) in SICK.items() for side in "ab"]
    return {
        "seed": 3,
        "epoch": START,
        "speaks": "openrouter",
        "models": {f"{name}-{side}": habits for name in TYPES for side in "ab"},
        "faults": {"script": faults if ill else []},
    }


@pytest.fixture(scope="module")
def held() -> tuple[Night, Life]:
    night = Night(job(*TYPES), sim(ill=True))
    return night, night.live(looked_on=True)


def until_the_healthy_were_done(night: Night) -> float:
    lines = [line for line in night.lines() if all(m["provider"] in HEALTHY for m in line["models"])]
    assert lines and {line["status"] for line in lines} == {"complete"}
    return max(record.at for record in night.records() if getattr(record.event, "status", None) == "complete") - START


def test_the_healthy_lose_nothing_of_their_speed(held: tuple[Night, Life]) -> None:
    """Three of five providers are dead, parked or out of credit: the others take as long as by themselves."""
    alone = Night(job(*HEALTHY), sim(ill=False))
    assert alone.live().exit == 0
    assert until_the_healthy_were_done(held[0]) <= 1.05 * until_the_healthy_were_done(alone)


def test_a_router_that_asks_more_than_was_reserved_gets_no_call_answered_and_costs_nothing() -> None:
    """Its model alone waits, the line says what to do, and at the price of today the run goes on."""
    night = Night(job("router", "claude"), sim(ill=False))
    dear = {**night.sim["models"], "router-b": {**night.sim["models"]["router-b"], "price": {"input": 1, "output": 5}}}
    night.change({**night.sim, "models": dear})
    assert night.live().exit == 3
    statuses = {(line["models"][1]["alias"], line["status"]) for line in night.lines()}
    assert statuses == {("claude-a", "complete"), ("claude-b", "complete"), ("router-b", "pending")}
    [reason] = {line["reason"] for line in night.lines() if line["reason"]}
    assert reason.startswith("router-b: HTTP 404: No endpoints found within the max price. (no server offers it at")
    today = job("router", "claude")
    today["models"]["router-b"]["price"] = {"input": 1, "output": 5}
    assert night.live(job=today).exit == 0
    assert night.billed == night.counted


@pytest.mark.parametrize("name", SICK)
def test_each_sick_provider_has_one_clear_reason_wherever_one_looks(held: tuple[Night, Life], name: str) -> None:
    """On the screen, in the status and in the index; its conversations wait, and nothing of them has failed."""
    night, life = held
    _, words = SICK[name]
    lines = [line for line in night.lines() if any(m["provider"] == name for m in line["models"])]
    assert {line["status"] for line in lines} == {"pending"}
    [reason] = {line["reason"] for line in lines}
    assert reason.startswith(words), reason
    assert sum(reason[:60] in line for line in life.screen.splitlines()) >= 1
    assert reason[:60] in night.text("index.md")
    assert reason[:60] in night.text("status.json")


def test_the_exit_code_says_that_some_are_pending() -> None:
    """Nothing failed by its own fault; the same command goes on when the sick are well again."""
    night = Night(job(*TYPES), sim(ill=True))
    assert night.live().exit == 3 and night.status()["reasons"] == ["pending"]
    night.change(sim(ill=False))
    night.wall += 86_400.0
    assert night.live().exit == 0
    assert {line["status"] for line in night.lines()} == {"complete"}
