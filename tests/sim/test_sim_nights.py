"""Nights that are told in each dialect: what the client writes the provider reads, and both count the same money."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

import pytest
from ruamel.yaml import YAML

from runner.events import Failed, Settled
from runner.journal import FILE, scan
from runner.providers import DIALECTS
from runner.sim.config import Speaks
from tests.nights import START, Night, matrix
from tests.test_nights_lost import death_after

MODELS = ("m0", "m1")
TYPES = sorted(DIALECTS)
each = pytest.mark.parametrize("type_", TYPES)


def night(
    type_: str, *, faults: tuple[Mapping[str, Any], ...] = (), defaults: Mapping[str, Any] | None = None
) -> Night:
    """Two models of one provider that is spoken to in a dialect, each with a system text, thinking, and a cache."""
    job = matrix(MODELS, rounds=2, max_tokens=2000)
    job["providers"]["p"]["type"] = type_
    job["defaults"] |= defaults or {}
    job["prompts"]["talk"]["system"] = "You are brief."
    price = {"input": 1, "output": 4, "cache_read": 0.1}
    for model in job["models"].values():
        model |= {"price": price, "context": 20_000}
    habits = {"price": price, "reply": {"mean": 30}, "reasoning": 20, "cached": 0.5, "context": 20_000}
    sim: dict[str, Any] = {
        "seed": 3,
        "epoch": START,
        "models": dict.fromkeys(MODELS, habits),
        "faults": {"script": faults},
    }
    if type_ in get_args(Speaks):
        sim["speaks"] = type_
    return Night(job, sim)


@cache
def in_plain_chat() -> tuple[dict[tuple[str, int], str], int, int]:
    held = night("sim")
    assert held.live().exit == 0
    return {turn: reply.text for turn, reply in held.replies().items()}, held.billed, len(held.engine.received)


def told(held: Night) -> list[Failed]:
    return [record.event for record in held.records() if isinstance(record.event, Failed)]


@each
def test_a_night_has_the_same_texts_and_the_same_bill_in_every_dialect(type_: str) -> None:
    """No request is refused, none is repeated, and the journal counts what the provider bills."""
    texts, billed, requests = in_plain_chat()
    held = night(type_)
    assert held.live().exit == 0
    assert {turn: reply.text for turn, reply in held.replies().items()} == texts
    assert held.billed == billed
    assert (len(held.engine.received), held.engine.bill.refused) == (requests, {})
    if type_ == "ollama":
        # It does not say what came from a cache: the figures are those of the dearer price.
        assert held.counted > billed
    else:
        assert held.counted == billed


@each
def test_whatever_a_job_may_set_is_read_in_every_dialect(type_: str) -> None:
    """Sampling, thinking by effort, and texts to stop at: each is said so that the vendor takes it."""
    settings = {"temperature": 0.5, "top_p": 0.9, "stop_strings": ["[[END]]"], "reasoning": {"effort": "none"}}
    held = night(type_, defaults=settings)
    assert held.live().exit == 0
    assert held.engine.bill.refused == {}
    assert sum(charge.reasoning for charge in held.engine.bill.charges.values()) == 0


PASSING: list[dict[str, Any]] = [
    {"kind": "busy", "retry_after": 2},
    {"kind": "server_error", "status": 503},
    {"kind": "server_error", "status": 529},
    {"kind": "reset"},
    {"kind": "cut", "after": 2},
    {"kind": "short", "after": 2},
    {"kind": "malformed"},
    {"kind": "html", "billed": True},
    {"kind": "error_in_200", "after": 2, "billed": True},
    {"kind": "finish_error", "billed": True},
    {"kind": "blank", "billed": True},
    {"kind": "thinking_only"},
    {"kind": "usage", "form": "negative"},
    {"kind": "usage", "form": "missing"},
    {"kind": "comments"},
    {"kind": "replayed"},
]


@each
def test_what_passes_is_got_over_in_every_dialect(type_: str) -> None:
    """One trouble after another, and at the end every turn has its reply and no bill is above what was counted."""
    script = tuple({**fault, "request": 1 + n // 2, "model": MODELS[n % 2]} for n, fault in enumerate(PASSING))
    held = night(type_, faults=script)
    assert held.live().exit == 0
    assert len(held.replies()) == len(in_plain_chat()[0])
    assert set(held.engine.played) >= {"busy", "server_error", "reset", "cut", "short"}
    assert held.billed <= held.counted


LASTING = ("unauthorized", "quota", "spend", "no_money", "day", "not_found", "context_length", "too_large")


@each
def test_what_lasts_ends_what_it_concerns_and_costs_nothing(type_: str) -> None:
    """Neither the key nor the account nor the model is tried a second time in vain."""
    for kind in LASTING:
        if type_ == "ollama" and kind in ("quota", "spend"):
            continue
        held = night(type_, faults=({"kind": kind},))
        assert held.live().exit == 3, kind
        assert held.billed == held.counted == 0
        # Both conversations begin with one call: each may find it out, and none goes on.
        assert len(held.engine.received) <= 2, kind
        assert told(held)[0].money == "free"


def test_a_local_server_that_drops_old_messages_without_a_word_is_found_out() -> None:
    """Its count of what it was shown falls: the turn is no turn, and the conversation has failed for that reason."""
    job = matrix(MODELS, rounds=8, max_tokens=300)
    job["providers"]["p"]["type"] = "ollama"
    for model in job["models"].values():
        model |= {"price": None, "context": 20_000}
        del model["price"]
    habits = {"price": {"input": 1, "output": 4}, "reply": {"mean": 90}, "context": 700, "overflow": "cut"}
    held = Night(job, {"seed": 3, "epoch": START, "models": dict.fromkeys(MODELS, habits)})
    assert held.live().exit == 3
    cuts = [failed for failed in told(held) if failed.failure == "context_cut"]
    assert cuts and all("it has cut the history" in failed.detail for failed in cuts)
    assert {line["status"] for line in held.lines()} == {"failed"}


def test_a_lost_call_is_looked_up_where_its_provider_keeps_a_record() -> None:
    """The router tells what was billed for what never arrived: the reservation gives way to that figure."""
    cuts = tuple({"kind": "cut", "after": 1, "request": n, "model": "m0"} for n in (2, 4))
    held = night("openrouter", faults=cuts)
    assert held.live().exit == 0
    assert [failed.failure for failed in told(held)] == ["lost", "lost"]
    assert held.reading().state.run.assumed == 0
    assert held.counted == held.billed
    settled = [record.event for record in held.records() if isinstance(record.event, Settled)]
    assert len(settled) == 2 and all(event.evidence.startswith("looked up: p gen-") for event in settled)


def test_a_call_that_was_lost_in_a_crash_is_looked_up_by_the_next_life() -> None:
    """Whose id was on record from the first byte on; of one that had none yet, nobody can tell."""
    held = night("openrouter")
    assert held.live(fault=death_after(7)).exit is None
    flying = {call.generation for call in scan(held.left(), held.folder / FILE).state.open_calls()}
    assert flying - {None}
    assert held.live().exit == 0
    settled = [record.event.evidence for record in held.records() if isinstance(record.event, Settled)]
    assert {evidence.removeprefix("looked up: p ") for evidence in settled} == flying - {None}
    assert {call.generation for call in held.reading().state.unsettled.values()} <= {None}


TABLE = """
name: table
budget: 1
defaults: {max_tokens: 200}
providers:
  sim:
    sim:
      models:
        mod: {reply: {texts: [three, one, "-", three, two, "-", one]}}
        judge: {reply: {texts: ["no", "no", "no", "no", "no", "no", "Yes, it is over."]}}
        ada: {reply: {texts: [A1, A2, A3]}}
prompts:
  table:
    roles: {one: {}, two: {}, three: {}}
    opening: Talk.
    rounds: 4
    order: moderator
    moderator: {model: sim/mod}
    stop: [{vote: {observer: sim/judge}}]
pairings: [{prompt: table, one: sim/ada, two: sim/basil, three: sim/eli, repeat: 2}]
"""


@pytest.mark.parametrize("writes", [None, 9, 14])
def test_a_job_scripts_a_moderator_and_a_vote_that_change_their_minds(writes: int | None) -> None:
    """Each conversation at its own place, whatever the others do, and the same after a crash and with a new server."""
    held = Night(TABLE, YAML(typ="safe", pure=True).load(TABLE)["providers"]["sim"]["sim"])
    if writes is not None:
        assert held.live(fault=death_after(writes)).exit is None
        held.engine.reset()
    assert held.live().exit == 0
    for line in held.lines():
        assert "".join(turn["role"] for turn in line["turns"] if turn["text"]) == "threeonetwothreetwoone"
        assert [turn["text"] for turn in line["turns"] if turn["role"] == "one"][:2] == ["A1", "A2"]
        assert (line["status"], line["reason"]) == ("complete", "vote: 1 of 1 for the end, after round 2")
