"""Anthropic's Messages: the system text has a field of its own, events have names, and reasoning comes in blocks.

What the job says in `headers` wins, the version among it. A model that takes no sampling, or does not think as it is
asked to, answers 400 and says which field it minds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from re import compile as pattern
from typing import Any, Final
from urllib.parse import quote

import orjson

from runner.call import Call, Effort, Failure, Hints, Left, Reasoning, Usage
from runner.providers.answer import TRUNCATED, AnswerReader, usage_of
from runner.providers.base import (
    ANOTHER_PRICE,
    SETTINGS,
    Dialect,
    Endpoint,
    Fact,
    Home,
    Inquiry,
    LimitField,
    Listed,
    Most,
    merged,
)
from runner.providers.chat import nearest
from runner.providers.errors import Words, error_in, failure_of, read_error
from runner.providers.loose import count, fields, rows, text, their_clock, until, whole
from runner.providers.streams import ServerSentEvents
from runner.world import HttpRequest, Secret

WORDS: Final = Words(
    no_money=frozenset({"billing_error", "enforced_spend_limit_reached", "contract_spend_limit_reached"}),
    not_let_in=frozenset({"authentication_error"}),
    too_long=frozenset({"request_too_large"}),
    policy=frozenset({"content_filter"}),
    statuses={
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "conflict_error": 409,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    },
    phrases={
        # A limit on what may be spent that people set themselves comes as a bad request, as does an empty account.
        "specified api usage limits": "enforced_spend_limit_reached",
        "credit balance is too low": "billing_error",
        "organization has been disabled": "authentication_error",
        "content filtering policy": "content_filter",
    },
)

_EFFORTS: Final[Sequence[Effort]] = ("low", "medium", "high", "xhigh", "max")
_SAID_OF: Final[Mapping[str, str]] = {"effort parameter": "output_config", "adaptive thinking": "thinking"}
"""How messages speak of a field without its name."""
_FIRST_NAME: Final = pattern(r"\W*(\w+)")
_CACHED: Final = ("cache_creation_input_tokens", "cache_read_input_tokens")


class Messages(Dialect):
    """The Messages API."""

    revision = "anthropic/2"
    home = Home("https://api.anthropic.com/v1", "${ANTHROPIC_API_KEY}", per="model", count="used", prices="anthropic")
    ours = frozenset({"model", "messages", "system", "max_tokens", "stream", *ANOTHER_PRICE})
    optional = frozenset({"temperature", "top_p", "top_k", "stop_sequences", "thinking", "output_config"})
    """What a request can do without, where a model refuses it."""
    takes = SETTINGS - {"presence_penalty", "frequency_penalty", "seed", "limit_field"}
    most = Most(temperature=1, least_thinking=1024)
    version = "2023-06-01"
    """Later ones take fewer fields; a job that wants one names it in `headers`."""
    words = WORDS

    def url(self, endpoint: Endpoint, model: str) -> str:
        return endpoint.base_url.rstrip("/") + "/messages"

    def headers(self, endpoint: Endpoint) -> dict[str, str | Secret]:
        found: dict[str, str | Secret] = {
            "content-type": "application/json",
            "accept": "text/event-stream",
            "anthropic-version": self.version,
        }
        # A key and a token together are refused.
        if endpoint.api_key is not None and "authorization" not in map(str.lower, endpoint.headers):
            found["x-api-key"] = Secret(endpoint.api_key.reveal().strip())
        return endpoint.headed(found)

    def body(self, call: Call, limit_field: LimitField | None = None) -> bytes:
        sampling = call.sampling
        optional: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "stop_sequences": list(sampling.stop) or None,
            **_thinking(call.reasoning),
        }
        request: dict[str, Any] = {"model": call.model, "max_tokens": call.max_tokens}
        if call.view.system is not None:
            request["system"] = call.view.system
        # White space at the end of the last text may be refused; without it in any, a cached beginning stays the same.
        request["messages"] = [{"role": m.role, "content": m.text.rstrip()} for m in call.view.messages]
        request |= {name: v for name, v in optional.items() if v is not None and name not in call.dropped}
        return orjson.dumps(merged(request, call.extra, self.ours | set(call.dropped)) | {"stream": True})

    def reader(self, call: Call) -> MessageReader:
        return MessageReader(self)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, wall: float) -> Failure:
        return self.classified(status, error_in(body), f"HTTP {status}", headers, wall)

    def classified(self, status: int, error: Any, fallback: str, headers: Mapping[str, str], wall: float) -> Failure:
        """What an error means, inside an answer or in its place."""
        told = read_error(status, error, headers, wall, self.optional)
        told = replace(told, parameter=told.parameter or self._refused_in(told.message))
        if status == 429 and "rate_limit_error" in told.words and told.again is not True:
            # Limits that time lifts come with the time it takes; this is the one on what may be spent in a month.
            timed = "retry-after" in headers or "retry-after-ms" in headers
            used_up = any(hint.left == 0 for hint in self.hints(headers, wall))
            told = told if timed or used_up else replace(told, quota="credit")
        return failure_of(told, self.words, self.optional, fallback)

    def _refused_in(self, message: str) -> str | None:
        """The field that a message is about: it begins with its name, or has its own way to speak of it."""
        first = _FIRST_NAME.match(message)
        if first is not None and first[1] in self.optional:
            return first[1]
        return next((name for phrase, name in _SAID_OF.items() if phrase in message.lower()), None)

    def hints(self, headers: Mapping[str, str], wall: float) -> Hints:
        now = their_clock(headers, wall)

        def told(kind: str) -> tuple[int | None, int | None, float | None]:
            begun = f"anthropic-ratelimit-{kind}-"
            left, most, reset = (headers.get(begun + what) for what in ("remaining", "limit", "reset"))
            return whole(left), whole(most), None if reset is None else until(reset, now)

        found = (
            Left("requests", "minute", *told("requests")),
            Left("input", "minute", *told("input-tokens")),
            Left("output", "minute", *told("output-tokens")),
            Left("tokens", "minute", *told("tokens")),
        )
        known = [hint for hint in found if hint[2:] != (None, None, None)]
        if any(hint.counts in ("input", "output") for hint in known):
            # `tokens` repeats the tightest of these, and is no limit on their sum.
            known = [hint for hint in known if hint.counts != "tokens"]
        return tuple(known)

    def inquiries(self, endpoint: Endpoint, models: Sequence[str]) -> Sequence[Inquiry]:
        """Each model by its name, which may be one that the list does not show; the list where none is named."""

        def get(path: str) -> HttpRequest:
            return HttpRequest("GET", endpoint.base_url.rstrip("/") + path, self.headers(endpoint), b"")

        if not models:
            return (Inquiry("models", get("/models?limit=1000")),)
        return [Inquiry("model", get(f"/models/{quote(model, '')}"), (model,)) for model in models]

    def learned(self, inquiry: Inquiry, body: bytes) -> Sequence[Fact]:
        found: list[Fact] = []
        for row in rows(body):
            name = text(row.get("id"))
            if name is not None:
                name = inquiry.models[0] if inquiry.about == "model" else name
                found.append(Listed(name, _size(row, "max_input_tokens"), _size(row, "max_tokens"), ends=_ends(row)))
        return found


def _thinking(reasoning: Reasoning) -> Mapping[str, Any]:
    """Older models take a number of tokens, later ones a word; what is not said is left to the model."""
    if reasoning.effort == "none":
        return {"thinking": {"type": "disabled"}}
    asked: dict[str, Any] = {}
    effort = nearest(reasoning.effort, _EFFORTS)
    if reasoning.tokens is not None:
        asked["thinking"] = {"type": "enabled", "budget_tokens": reasoning.tokens}
    elif effort is not None:
        asked["thinking"] = {"type": "adaptive"}
    if effort is not None:
        asked["output_config"] = {"effort": effort}
    return asked


def _size(row: Mapping[str, Any], name: str) -> int | None:
    return count(row.get(name)) or None


def _ends(row: Mapping[str, Any]) -> str | None:
    stage = text(row.get("lifecycle"))
    return text(row.get("retires_at")) or (None if stage == "active" else stage)


class MessageReader(AnswerReader):
    """One answer of the Messages API."""

    truncated = TRUNCATED | {"pause_turn"}
    """A turn that was paused is not whole, and nobody goes on with it."""

    def __init__(self, dialect: Messages) -> None:
        super().__init__(ServerSentEvents())
        self._dialect = dialect
        self._begun = False
        """Some of the answer was made, though perhaps nothing that can be seen."""
        self._counted = False
        """What was made has been counted; the first event counts only what was sent."""

    def take(self, piece: Mapping[str, Any]) -> bool:
        kind = piece.get("type")
        if piece.get("error"):
            self.error = piece["error"]
            return True
        if kind in ("message", "message_start"):
            return self._take_message(piece if kind == "message" else fields(piece, "message"), kind == "message")
        if kind == "content_block_start":
            self._begun = True
            self._take_block(fields(piece, "content_block"))
        elif kind == "content_block_delta":
            delta = fields(piece, "delta")
            self.add(self.text, delta.get("text"))
            self.add(self.reasoning, delta.get("thinking"))
            return any(value for name, value in delta.items() if name != "type")
        elif kind == "message_delta":
            self.finish = text(fields(piece, "delta").get("stop_reason")) or self.finish
            self._take_usage(piece.get("usage"), counted=True)
            return True
        elif kind == "message_stop":
            self.ended = True
        return self.ended

    def _take_message(self, message: Mapping[str, Any], is_whole: bool) -> bool:
        self.generation = text(message.get("id")) or self.generation
        self.model = text(message.get("model")) or self.model
        self.finish = text(message.get("stop_reason")) or self.finish
        content = message.get("content")
        for block in content if isinstance(content, list) else ():
            self._begun = True
            self._take_block(block)
        self._take_usage(message.get("usage"), counted=is_whole)
        return is_whole

    def _take_block(self, block: Any) -> None:
        if isinstance(block, dict):
            self.add(self.text, block.get("text"))
            self.add(self.reasoning, block.get("thinking"))

    def _take_usage(self, usage: Any, *, counted: bool) -> None:
        if isinstance(usage, dict):
            earlier = self.usage if isinstance(self.usage, dict) else {}
            said = {name: figure for name, figure in usage.items() if figure is not None or name not in earlier}
            self.usage = {**earlier, **said}
            self._counted = self._counted or (counted and usage.get("output_tokens") is not None)

    def counted(self, raw: Mapping[str, Any], *, received: bool) -> Usage:
        parts = [raw.get("input_tokens"), *(raw.get(name) or 0 for name in _CACHED)]
        sent = [count(part) for part in parts]
        figures = {
            "input": sum(part or 0 for part in sent) if None not in sent else parts[sent.index(None)],
            "output": raw.get("output_tokens") if self._counted else None,
            "reasoning": fields(raw, "output_tokens_details").get("thinking_tokens"),
            "cached_read": raw.get("cache_read_input_tokens"),
            "cached_write": raw.get("cache_creation_input_tokens"),
        }
        # A refusal before the first word is counted and not charged.
        unbilled = self.finish == "refusal" and not (self._begun or received or figures["output"])
        return usage_of(raw, figures, received=received, cost=0 if unbilled else None)

    def broke_off(self) -> Failure:
        return self._dialect.classified(200, self.error, self.reason, {}, 0.0)


ANTHROPIC: Final = Messages()
