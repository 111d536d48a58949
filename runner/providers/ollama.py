"""Ollama, in its native format: only there does it hear how large a window it is to open.

A history that is too long it shortens without a word, unless it is told not to; servers of an earlier date shorten it
all the same, so its count of the prompt is held against what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from runner.call import FEWEST_TOKENS_PER_BYTE, Call, Failure, Outcome, Reasoning, Reply, Usage
from runner.providers.answer import AnswerReader, usage_of
from runner.providers.base import SETTINGS, Dialect, Endpoint, Fact, Home, Inquiry, LimitField, Listed, Resident, merged
from runner.providers.errors import Told, Words, error_in, failure_of, read_error
from runner.providers.loose import count, fields, rows, text
from runner.providers.streams import JsonLines
from runner.world import HttpRequest, Secret

_EFFORTS: Final[Mapping[str, bool | str]] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_WORDS: Final = Words(
    phrases={
        "maximum pending requests": "busy",
        "prompt too long": "too_long",
        "prompt is too long": "too_long",
        "context length": "too_long",
        "context size": "too_long",
        "requires more system memory": "no_model",
        "usage limit": "of_the_day",
        "unauthorized": "not_let_in",
    },
    busy=frozenset({"busy"}),
    too_long=frozenset({"too_long"}),
    no_model=frozenset({"no_model"}),
    of_the_day=frozenset({"of_the_day"}),
    not_let_in=frozenset({"not_let_in"}),
    full=frozenset({503}),
)
"""It has no code words: what is wrong stands in a sentence. The limits of use are those of models in its cloud."""
_REFUSES_THINKING: Final = ("does not support thinking", "think value")
_COUNTERS: Final = (
    *("prompt_eval_count", "eval_count"),
    *("total_duration", "load_duration", "prompt_eval_duration", "eval_duration"),
)
_OPTIONS: Final = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "stop", "seed")
_OPTIONAL: Final = frozenset({"think", *_OPTIONS})
"""What a request can do without, where a model refuses it."""
_WINDOW: Final = 8192
"""What the server is told where the job does not say: its own choice differs by machine."""
_BEYOND_HALF: Final = 4
"""A prompt that was cut is half the window, and so many tokens more at most."""
_MOST_BYTES_PER_TOKEN: Final = 6
"""Hardly a text has so many, but half of one seems to."""


class Ollama(Dialect):
    """The native API."""

    revision = "ollama/1"
    home = Home("http://127.0.0.1:11434", free=True, window=_WINDOW)
    ours = frozenset(
        {"model", "messages", "stream", "truncate", "shift", "options.num_ctx", "options.num_predict"},
    )

    takes = SETTINGS - {"limit_field"}
    takes_reasoning = True

    def url(self, endpoint: Endpoint, model: str) -> str:
        return endpoint.base_url.rstrip("/") + "/api/chat"

    def headers(self, endpoint: Endpoint) -> dict[str, str | Secret]:
        ours: dict[str, str | Secret] = {"content-type": "application/json"}
        if endpoint.api_key is not None:
            ours["authorization"] = Secret(f"Bearer {endpoint.api_key.reveal().strip()}")
        return endpoint.headed(ours)

    def body(self, call: Call, limit_field: LimitField | None = None) -> bytes:
        messages = [
            {"role": m.role, "content": m.text, **({} if m.reasoning is None else {"thinking": m.reasoning})}
            for m in call.view.messages
        ]
        if call.view.system is not None:
            messages.insert(0, {"role": "system", "content": call.view.system})
        sampling = call.sampling
        told = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "stop": list(sampling.stop) or None,
            "seed": call.seed,
        }
        options = {
            **{name: value for name, value in told.items() if value is not None and name not in call.dropped},
            "num_ctx": call.window or _WINDOW,
            "num_predict": call.max_tokens,
        }
        request: dict[str, Any] = {"model": call.model, "messages": messages, "options": options}
        if "think" not in call.dropped:
            request |= _think(call.reasoning)
        dropped = {name if name == "think" else f"options.{name}" for name in call.dropped}
        whole = merged(request, call.extra, self.ours | dropped)
        return orjson.dumps(whole | {"truncate": False, "shift": False, "stream": True})

    def reader(self, call: Call) -> OllamaReader:
        return OllamaReader(self, call)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, wall: float) -> Failure:
        return self.classified(status, error_in(body), f"HTTP {status}", headers, wall)

    def classified(self, status: int, error: Any, fallback: str, headers: Mapping[str, str], wall: float) -> Failure:
        """What an error means, inside an answer or in its place."""
        told = read_error(status, error, headers, wall, _OPTIONAL)
        if status == 404 and "page not found" in told.message:
            what = f"{fallback}: no Ollama there; base_url is the root of its server, without /v1 or /api"
            return Failure("error", "provider", "free", what, status=status)
        return failure_of(_about_thinking(told), _WORDS, _OPTIONAL, fallback)

    def inquiries(self, endpoint: Endpoint, models: Sequence[str]) -> Sequence[Inquiry]:
        def asking(path: str) -> HttpRequest:
            return HttpRequest("GET", endpoint.base_url.rstrip("/") + path, self.headers(endpoint), b"")

        return (
            Inquiry("models", asking("/api/tags"), tuple(models)),
            Inquiry("resident", asking("/api/ps"), tuple(models)),
        )

    def learned(self, inquiry: Inquiry, body: bytes) -> Sequence[Fact]:
        found: list[Fact] = []
        for row in rows(body):
            name = text(row.get("name")) or text(row.get("model"))
            if name is None:
                continue
            # A job may leave out the tag that stands for none.
            bare = name.removesuffix(":latest")
            name = bare if bare in inquiry.models else name
            if inquiry.about == "models":
                found.append(Listed(name, count(fields(row, "details").get("context_length")) or None))
            else:
                found.append(Resident(name, _on_gpu(row), count(row.get("context_length")) or None))
        return found


def _think(reasoning: Reasoning) -> Mapping[str, Any]:
    if reasoning.effort is not None:
        return {"think": _EFFORTS[reasoning.effort]}
    return {} if reasoning.tokens is None else {"think": True}


def _about_thinking(told: Told) -> Told:
    refused = any(said in told.message.lower() for said in _REFUSES_THINKING)
    return replace(told, parameter="think") if refused else told


def _on_gpu(row: Mapping[str, Any]) -> float | None:
    whole, there = row.get("size"), row.get("size_vram", 0)
    if not isinstance(whole, int) or not isinstance(there, int) or not 0 <= there <= whole or not whole:
        return None
    return there / whole


class OllamaReader(AnswerReader):
    """One answer: JSON line by line, whole when a line says so."""

    def __init__(self, ollama: Ollama, call: Call) -> None:
        super().__init__(JsonLines())
        self._ollama = ollama
        self._window = call.window or _WINDOW
        said = [message.text for message in call.view.messages]
        self._sent = sum(len(text.encode("utf-8", "surrogatepass")) for text in (*said, call.view.system or ""))

    def is_streamed(self, first: bytes) -> bool:
        return first == b"{"

    def take(self, piece: Mapping[str, Any]) -> bool:
        self.model = text(piece.get("model")) or self.model
        self.error = piece.get("error") or self.error
        message = fields(piece, "message")
        self.add(self.text, message.get("content"))
        self.add(self.reasoning, message.get("thinking"))
        if piece.get("done") is True:
            self.ended = True
            # No reason is given where the process that runs the model went away in the middle.
            self.finish = text(piece.get("done_reason"))
            self.usage = {name: piece[name] for name in _COUNTERS if name in piece} or None
        return bool(self.error or self.ended or message.get("content") or message.get("thinking"))

    def counted(self, raw: Mapping[str, Any], *, received: bool) -> Usage:
        # A counter of nothing is left out: what is missing is unknown.
        figures = {"input": raw.get("prompt_eval_count"), "output": raw.get("eval_count")}
        return usage_of(raw, figures, received=received)

    def broke_off(self) -> Failure:
        return self._ollama.classified(200, self.error, self.reason, {}, 0.0)

    def outcome(self, cut: str | None) -> Outcome:
        found = super().outcome(cut)
        said = found.text if isinstance(found, Reply) else None
        counted = found.usage.input
        if not (isinstance(found, Reply) or found.kind == "empty") or counted is None or not self._is_cut(counted):
            return found
        detail = (
            f"the server counted {counted} tokens in a prompt of {self._sent} bytes: it has cut the history "
            f"(a larger `context`, or a newer server?)"
        )
        return self._failed("context_cut", detail, found.usage, said, found.reasoning, "conversation")

    def _is_cut(self, counted: int) -> bool:
        halved = 0 <= counted - self._window // 2 <= _BEYOND_HALF
        return 0 < counted < self._sent * FEWEST_TOKENS_PER_BYTE or (
            halved and self._sent > counted * _MOST_BYTES_PER_TOKEN
        )


OLLAMA: Final = Ollama()
