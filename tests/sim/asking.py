"""Requests to the built-in provider, and a reading of its answers that shares nothing with the product."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.sim.engine import Engine, Mark, ModelConfig, SimAnswer, SimConfig, SimRequest


def body(text: str = "What survives?", model: str = "m", *, stream: bool = True, **fields: Any) -> bytes:
    asked: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 400,
        "stream": stream,
    }
    if stream:
        asked["stream_options"] = {"include_usage": True}
    asked |= fields
    return json.dumps({name: value for name, value in asked.items() if value is not None}).encode()


def request(text: str = "What survives?", model: str = "m", *, stream: bool = True, **fields: Any) -> SimRequest:
    return SimRequest("POST", "/v1/chat/completions", {}, body(text, model, stream=stream, **fields))


def provider(model: ModelConfig | None = None, **settings: Any) -> Engine:
    """An engine with one model, `m`."""
    return Engine(SimConfig(models={"m": model or ModelConfig()}, **settings))


def raw(answer: SimAnswer) -> bytes:
    return b"".join(piece.what for piece in answer.pieces if isinstance(piece.what, bytes))


def mark(answer: SimAnswer) -> Mark:
    last = answer.pieces[-1].what
    assert isinstance(last, Mark)
    return last


def header(answer: SimAnswer, name: str) -> str | None:
    return dict(answer.headers).get(name)


@dataclass(slots=True)
class Heard:
    """What a lenient client would make of an answer."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    finish: str | None = None
    usage: Mapping[str, Any] | None = None
    usage_given: bool = False
    model: str | None = None
    errors: list[Mapping[str, Any]] = field(default_factory=list)
    done: int = 0


def heard(answer: SimAnswer) -> Heard:
    if header(answer, "content-type") == "text/event-stream":
        return read_stream(raw(answer))
    return _plain(json.loads(raw(answer)))


def read_stream(data: bytes) -> Heard:
    said = Heard()
    for event in data.split(b"\n\n"):
        line = event.strip()
        if not line or line.startswith(b":"):
            continue
        assert line.startswith(b"data: "), line
        if line == b"data: [DONE]":
            said.done += 1
            continue
        chunk = json.loads(line[6:])
        said.model = chunk.get("model", said.model)
        if "error" in chunk:
            said.errors.append(chunk["error"])
        if not chunk["choices"]:
            said.usage, said.usage_given = chunk["usage"], True
        for choice in chunk["choices"]:
            _hear(said, choice["delta"])
            said.finish = choice["finish_reason"] or said.finish
    return said


def _plain(data: Mapping[str, Any]) -> Heard:
    if "error" in data:
        return Heard(errors=[data["error"]])
    (choice,) = data["choices"]
    said = Heard(finish=choice["finish_reason"], model=data["model"], usage=data.get("usage"))
    said.usage_given = "usage" in data
    if "error" in choice:
        said.errors.append(choice["error"])
    _hear(said, choice["message"])
    return said


def _hear(said: Heard, delta: Mapping[str, Any]) -> None:
    said.text += delta.get("content") or ""
    said.reasoning += delta.get("reasoning_content") or delta.get("reasoning") or ""
    said.refusal += delta.get("refusal") or ""


def all_over(engine: Engine, answers: Iterable[SimAnswer], now: float = 0.0) -> None:
    for answer in answers:
        engine.finished(answer.id, now)
