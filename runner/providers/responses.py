"""OpenAI Responses: the history as items, the system text beside them, and events that each have a type.

It takes no seed, no stop texts and no penalties. Nothing is stored at the provider unless a job's `extra` says
`store: true`; then a lost call can be asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from runner.call import Call, Failure, Found, Usage
from runner.providers.answer import BROKEN, AnswerReader, usage_of
from runner.providers.base import ANOTHER_PRICE, NOTHING_ELSE, Endpoint, Home, LimitField, merged
from runner.providers.chat import Chat, Ways
from runner.providers.loose import fields, path_part, text
from runner.providers.openai import WORDS, found_in
from runner.providers.streams import ServerSentEvents
from runner.world import HttpRequest

_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_TEXTS: Final[Mapping[str, str]] = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.reasoning_text.delta": "reasoning",
    "response.reasoning_summary_text.delta": "reasoning",
    "output_text": "text",
    "refusal": "refusal",
    "reasoning_text": "reasoning",
    "summary_text": "reasoning",
}
"""What each event brings a piece of, and each part of a whole answer."""


class Responses(Chat):
    """A server of this format; its keys, errors, limit headers and lists are those of chat completions."""

    def __init__(self, name: str, home: Home) -> None:
        super().__init__(name, home, Ways(fixed={}, words=WORDS))
        self.optional = frozenset({"temperature", "top_p", "reasoning"})
        self.takes = frozenset({"temperature", "top_p", "reasoning.effort"})
        # What would put other words before the view: the history is in the request, whole, each time.
        self.ours = frozenset(
            {
                *("model", "instructions", "input", "max_output_tokens", "stream"),
                *("previous_response_id", "conversation", "prompt", *ANOTHER_PRICE),
            }
        )

    def url(self, endpoint: Endpoint, model: str) -> str:
        return endpoint.base_url.rstrip("/") + "/responses"

    def request(self, call: Call, limit_field: LimitField | None) -> dict[str, Any]:
        effort = call.reasoning.effort
        optional: dict[str, Any] = {
            "temperature": call.sampling.temperature,
            "top_p": call.sampling.top_p,
            "reasoning": None if effort is None else {"effort": effort},
        }
        request: dict[str, Any] = {"model": call.model}
        if call.view.system is not None:
            request["instructions"] = call.view.system
        request["input"] = [{"role": m.role, "content": m.text} for m in call.view.messages]
        request["max_output_tokens"] = call.max_tokens
        request |= {name: v for name, v in optional.items() if v is not None and name not in call.dropped}
        request["store"] = False
        return merged(request, call.extra, self.ours | set(call.dropped)) | {"stream": True}

    def reader(self, call: Call) -> ResponsesReader:
        return ResponsesReader(self)

    def look_up(
        self, endpoint: Endpoint, generation: str, extra: Mapping[str, Any] = NOTHING_ELSE
    ) -> HttpRequest | None:
        part = path_part(generation)
        if extra.get("store") is not True or part is None:
            return None
        return self.asking(endpoint, f"/responses/{part}")

    def looked_up(self, body: bytes, generation: str) -> Found | None:
        return found_in(ResponsesReader(self), body, generation)


def _parts(response: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All parts of all items of a whole answer, thinking before what was said."""
    items = response.get("output")
    for item in items if isinstance(items, list) else ():
        for name in ("summary", "content"):
            parts = item.get(name) if isinstance(item, dict) else None
            yield from (part for part in (parts if isinstance(parts, list) else ()) if isinstance(part, dict))


class ResponsesReader(AnswerReader):
    """One answer of this format."""

    broken = BROKEN | {"failed"}

    def __init__(self, responses: Responses) -> None:
        super().__init__(ServerSentEvents())
        self._responses = responses

    def mark(self, data: bytes) -> bool:
        if data == b"[DONE]":
            self.ended = True
        return self.ended

    def take(self, piece: Mapping[str, Any]) -> bool:
        kind = text(piece.get("type"))
        if kind is not None and kind in _TEXTS:
            self._add_text(getattr(self, _TEXTS[kind]), piece.get("delta"))
            return True
        if kind == "error":
            # Some say it beside the type, some in an object of its own.
            self.error = piece.get("error") or piece
            self.ended = True
            return True
        response = piece.get("response", piece)
        if not isinstance(response, dict):
            return False
        self.generation = self.generation or text(response.get("id"))
        self.model = text(response.get("model")) or self.model
        if kind is None or kind in _ENDS:
            self._end(response)
            self.ended = kind is not None
            return True
        return kind.endswith(".delta")

    def _end(self, response: Mapping[str, Any]) -> None:
        """Take a whole answer: the end of a stream repeats all that was said."""
        self.error = response.get("error") or self.error
        self.usage = response.get("usage")
        status = text(response.get("status"))
        if status not in ("queued", "in_progress"):
            self.finish = text(fields(response, "incomplete_details").get("reason")) or status
        self.whole(lambda: self._take_parts(response))

    def _take_parts(self, response: Mapping[str, Any]) -> None:
        for part in _parts(response):
            name = _TEXTS.get(text(part.get("type")) or "")
            if name is not None:
                self._add_text(getattr(self, name), part.get("text", part.get("refusal")))

    def counted(self, raw: Mapping[str, Any], *, received: bool) -> Usage:
        cached, thought = fields(raw, "input_tokens_details"), fields(raw, "output_tokens_details")
        figures = {
            "input": raw.get("input_tokens"),
            "output": raw.get("output_tokens"),
            "reasoning": thought.get("reasoning_tokens"),
            "cached_read": cached.get("cached_tokens"),
            "cached_write": cached.get("cache_write_tokens"),
        }
        return usage_of(raw, figures, received=received)

    def broke_off(self) -> Failure:
        return self._responses.classified(200, self.error, self.reason, {}, 0.0)


OPENAI_RESPONSES: Final = Responses(
    "openai-responses", Home("https://api.openai.com/v1", "${OPENAI_API_KEY}", per="model", prices="openai")
)
