"""What a job would come to if nothing ever went wrong: every text, and every nano-dollar, asked of the providers alone.

A built-in provider's answer is a function of the request, so the whole of an undisturbed run is arithmetic: no
scheduler, no journal and no loop takes part in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from runner.conversation import call_for
from runner.money import ceiling
from runner.plan import Plan, make_plan
from runner.preflight import prices
from runner.prices import input_bound, view_bound
from runner.providers import DIALECTS
from runner.sim.config import SimConfig, load_config
from runner.sim.engine import Engine, SimRequest
from runner.sim.meter import NO_LIMITS
from tests.floors import floor
from tests.nights import job_of, text_of

DATE = "2026-11-21"


@dataclass(slots=True)
class Spend:
    """What is really spent, in nano-dollars."""

    run: int = 0
    cells: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    providers: Counter[str] = field(default_factory=Counter)
    largest_first: int = 0
    """The largest reservation that a conversation begins with."""

    @property
    def dearest_conversation(self) -> int:
        return max(self.cells.values(), default=0)


@dataclass(slots=True)
class Undisturbed:
    """The run that nothing disturbed."""

    texts: dict[tuple[str, int], str]
    """By cell and turn; a turn that no model would answer is not there, nor any after it."""
    spend: Spend


class Honest:
    """The same providers without faults, limits and memory: what they say to a request when nothing goes wrong."""

    def __init__(self, sims: Mapping[str, Mapping[str, Any]]) -> None:
        self._engines = {name: Engine(_honest(config(sim))) for name, sim in sims.items()}
        self._keys = {name: (sim.get("keys") or [""])[0] for name, sim in sims.items()}
        self._said: dict[tuple[str, bytes], tuple[str | None, int]] = {}

    def answer(self, provider: str, body: bytes) -> tuple[str | None, int]:
        """The text of the answer, None when there is none, and what it is billed."""
        found = self._said.get((provider, body))
        if found is None:
            found = self._said[provider, body] = self._ask(provider, body)
        return found

    def _ask(self, provider: str, body: bytes) -> tuple[str | None, int]:
        whole = orjson.dumps({k: v for k, v in orjson.loads(body).items() if k not in ("stream", "stream_options")})
        engine = self._engines[provider]
        headers = {"authorization": f"Bearer {self._keys[provider]}", "content-type": "application/json"}
        answer = engine.handle(SimRequest("POST", "/v1/chat/completions", headers, whole), 0.0)
        engine.finished(answer.id, 0.0)
        if answer.status != 200:
            return None, 0
        said = orjson.loads(b"".join(piece.what for piece in answer.pieces if isinstance(piece.what, bytes)))
        return said["choices"][0]["message"]["content"], engine.bill.charges[answer.id].cost


def config(sim: Mapping[str, Any]) -> SimConfig:
    """A provider's configuration; a mistake in it is one of the tests."""
    loaded = load_config({**sim, "keep_bodies": True})
    assert not loaded.problems, loaded.problems
    return loaded.config


def _honest(found: SimConfig) -> SimConfig:
    models = {name: replace(model, faults=(), limits=NO_LIMITS) for name, model in found.models.items()}
    return replace(found, models=models, limits=NO_LIMITS, faults=(), fault_rate=0.0)


def undisturbed(job: Mapping[str, Any], sims: Mapping[str, Mapping[str, Any]], date: str = DATE) -> Undisturbed:
    """Hold every conversation of a job with providers that do nothing wrong."""
    plan = make_plan(job_of(text_of(job)), date)
    return hold(plan, Honest(sims))


def hold(plan: Plan, honest: Honest) -> Undisturbed:
    found = Undisturbed({}, Spend())
    known = prices(plan)
    for cell in plan.cells:
        conversation = plan.conversation(cell)
        replies: dict[int, str] = {}
        for line in conversation.lines:
            if line.given is not None:
                continue
            speaker = conversation.participant(line.role)
            before = conversation.lines[: line.number - 1]
            history = [replies[one.number] if one.given is None else one.given for one in before]
            call = call_for(conversation, floor(conversation, line, history), 1, speaker.max_tokens, ())
            if not replies:
                first = ceiling(known[speaker.alias], input_bound(view_bound(call.view)).tokens, speaker.max_tokens)
                found.spend.largest_first = max(found.spend.largest_first, first)
            body = DIALECTS["openai"].body(call, "max_tokens")
            text, cost = honest.answer(speaker.provider, body)
            if not text or not text.strip():
                break
            found.texts[cell.id, line.number] = replies[line.number] = text
            found.spend.run += cost
            found.spend.cells[cell.id] += cost
            found.spend.models[speaker.alias] += cost
            found.spend.providers[speaker.provider] += cost
    return found
