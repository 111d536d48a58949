"""Nights of every kind of conversation: a provider that says what a test wants, and a job in which all kinds meet."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from runner.branches import Wish
from runner.events import Engaged, Sent
from runner.selection import Options
from runner.sim.config import ModelConfig, Style
from runner.sim.dialect import Asked, Dialect
from runner.sim.engine import Engine, SimAnswer
from runner.sim.meter import Meter
from tests.nights import Life, Night

Says = Callable[[str, Sequence[tuple[str, str]]], str | None]
"""What a model answers to these messages, (role, text) each; None leaves it to the model."""

PRICE: Final = {"input": 1, "output": 3}


class Oracle(Engine):
    """A provider whose models say what a function says."""

    says: Says

    def _answered(
        self,
        number: int,
        dialect: Dialect,
        asked: Asked,
        model: ModelConfig,
        broken: Any,
        meters: tuple[Meter, ...],
        now: float,
    ) -> SimAnswer:
        text = self.says(asked.model, asked.texts)
        if text is not None:
            model = replace(model, reply=Style(texts=(text,)))
        return super()._answered(number, dialect, asked, model, broken, meters, now)


def lines_shown(texts: Sequence[tuple[str, str]]) -> int:
    """How many lines somebody was shown who only listens."""
    return max(map(int, re.findall(r"(?m)^\[(\d+)\] ", texts[-1][1])), default=0)


def model(**habits: Any) -> dict[str, Any]:
    return {"price": PRICE, "reply": {"mean": 12}, **habits}


def sim(*names: str, faults: Sequence[Mapping[str, Any]] = (), **habits: Mapping[str, Any]) -> dict[str, Any]:
    """A provider with these models, some with habits of their own, and faults that are scripted."""
    every = {name: model(**habits.get(name, {})) for name in (*names, *habits)}
    return {"models": every, "faults": {"script": list(faults)}}


def job(prompts: Mapping[str, Any], pairings: Sequence[Mapping[str, Any]], *models: str, **top: Any) -> dict[str, Any]:
    """A job of these prompts; each model is `sim/` and its name."""
    return {
        "name": "kinds",
        "budget": 5,
        "defaults": {"max_tokens": 200, "outcomes": {"error": {"retry": 1}}},
        "providers": {"sim": {}},
        "models": {name: {"use": f"sim/{name}", "price": PRICE} for name in models},
        "prompts": prompts,
        "pairings": list(pairings),
        **top,
    }


def night(job: Mapping[str, Any], sim: Mapping[str, Any], says: Says | None = None, **more: Any) -> Night:
    """A night of this job, whose provider says what `says` says."""
    one = Night(job, sim, **more)
    oracle = Oracle(one.engine.config)
    oracle.says = says or (lambda model, texts: None)
    one.engine = oracle
    return one


def line_of(one: Night, name: str) -> dict[str, Any]:
    """What `conversations.jsonl` has of a conversation."""
    return next(line for line in one.lines() if line["name"] == name)


def texts_of(line: Mapping[str, Any]) -> list[str | None]:
    return [turn["text"] for turn in line["turns"]]


def roles_of(line: Mapping[str, Any]) -> str:
    return "".join(turn["role"] for turn in line["turns"])


def sent_to(one: Night, model: str) -> list[list[tuple[str, str]]]:
    """The messages of each request to a model, in the order in which they came."""
    found = []
    for request in one.engine.received:
        if request.model == model:
            assert request.body is not None
            found.append([(m["role"], m["content"]) for m in orjson.loads(request.body)["messages"]])
    return found


def asked_since(one: Night, records: int) -> list[Sent]:
    """The calls that were made after so many records."""
    return [r.event for r in one.records() if r.seq > records and isinstance(r.event, Sent)]


def branch(one: Night, how: Literal["extend", "fork", "redo"], *patterns: str, **wish: Any) -> Life:
    """A life that goes on with conversations that are there."""
    return one.live(Options(wish=Wish(how, patterns, **wish)))


def observe(one: Night, alias: str, prompt: str, *only: str) -> Life:
    """A life in which one more observer comments on what is complete."""
    return one.live(Options(only=only, observers_only=True, engaged=engaged(one, alias, prompt)))


def engaged(one: Night, alias: str, prompt: str) -> Engaged:
    prompts = one.job["prompts"] if isinstance(one.job, Mapping) else ()
    return Engaged(tuple(prompts), {"kind": "notes", "model": alias, "prompt": prompt, "heading": "Later"})


def drop(one: Night, name: str, text: str) -> None:
    """Put a text into a file beside the job."""
    one.disk.put(Path(name), text.encode())
