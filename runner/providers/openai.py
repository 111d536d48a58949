"""The OpenAI chat-completions dialect, as its maker and many compatible servers speak it.

Answers are streamed, because a connection that is silent for minutes gets cut on the way. Text may come as a string
or as parts, reasoning under two names or between `<think>` tags; a body counts as whole only when it gave a finish
reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from re import DOTALL
from re import compile as pattern
from typing import Any, Final

import orjson

from runner.call import Call, Failure, Finish, Hints, Kind, Money, Outcome, Reply, Scope, Usage, has_text
from runner.money import MoneyError, Nanos, parse_dollars
from runner.providers.base import (
    Endpoint,
    LimitField,
    ServerSentEvents,
    count,
    retry_after,
    seconds,
    whole,
)
from runner.world import Secret

revision: Final = "openai/1"

_FINISH: Final[Mapping[str, Finish]] = {
    "length": "truncated",
    "max_tokens": "truncated",
    "model_length": "truncated",
    "content_filter": "refused",
    "refusal": "refused",
}
_OPTIONAL: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stream_options")
_OUT_OF_MONEY: Final = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "billing_not_active",
)
_TOO_LONG: Final = ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length")
_TOO_LONG_WORDS: Final = ("maximum context length", "context window", "prompt is too long", "too many tokens")
_POLICY: Final = ("content_policy_violation", "content_filter", "moderation_blocked", "invalid_prompt")
_RETRYABLE: Final = frozenset({408, 409, 425, 498, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_THOUGHT: Final = pattern(r"^\s*<think>(.*?)(?:</think>|$)", DOTALL)
_DETAIL: Final = 500


def url(endpoint: Endpoint) -> str:
    return endpoint.base_url.rstrip("/") + "/chat/completions"


def headers(endpoint: Endpoint) -> dict[str, str | Secret]:
    found: dict[str, str | Secret] = {
        "content-type": "application/json",
        "accept": "text/event-stream",
        **endpoint.headers,
    }
    if endpoint.api_key is not None:
        found["authorization"] = Secret(f"Bearer {endpoint.api_key.reveal()}")
    return found


def body(call: Call, limit_field: LimitField) -> bytes:
    """The request, byte for byte the same for the same call."""
    messages = [{"role": m.role, "content": m.text} for m in call.view.messages]
    if call.view.system is not None:
        messages.insert(0, {"role": "system", "content": call.view.system})
    optional = {
        "temperature": call.sampling.temperature,
        "top_p": call.sampling.top_p,
        "presence_penalty": call.sampling.presence_penalty,
        "frequency_penalty": call.sampling.frequency_penalty,
        "seed": call.seed,
        "stream_options": {"include_usage": True},
    }
    request: dict[str, Any] = {"model": call.model, "messages": messages, limit_field: call.max_tokens}
    request |= {name: v for name, v in optional.items() if v is not None and name not in call.dropped}
    request["stream"] = True
    return orjson.dumps(request)


class Reader:
    """One answer, streamed or plain."""

    def __init__(self, call: Call) -> None:
        self._events = ServerSentEvents()
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._plain: list[bytes] = []
        self._streamed: bool | None = None
        self._ended = False
        self._finish: str | None = None
        self._usage: Any = None
        self._error: Any = None
        self._malformed = False
        self._model: str | None = None
        self._upstream: str | None = None
        self.generation: str | None = None
        self.size = 0

    def feed(self, data: bytes) -> bool:
        if self._streamed is None:
            # Blank lines are a sign of life in both forms; the first other byte tells which form it is.
            data = data.lstrip(b" \t\r\n")
            if not data:
                return False
            self._streamed = data[:1] not in (b"{", b"<", b"[")
        if not self._streamed:
            self._plain.append(data)
            self.size += len(data)
            return True
        brought = False
        for event in self._events.feed(data):
            self._event(event)
            brought = True
        return brought

    def done(self) -> bool:
        return self._ended

    def _event(self, data: bytes) -> None:
        if data.strip() == b"[DONE]":
            self._ended = True
            return
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError:
            self._malformed = True
            return
        self._take(chunk, "delta")

    def _take(self, chunk: Any, part: str) -> None:
        if not isinstance(chunk, dict):
            self._malformed = True
            return
        self.generation = self.generation or _text(chunk.get("id"))
        self._model = _text(chunk.get("model")) or self._model
        self._upstream = _text(chunk.get("provider")) or self._upstream
        self._usage = chunk.get("usage") or self._usage
        self._error = chunk.get("error") or self._error
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        self._error = choice.get("error") or self._error
        self._finish = _text(choice.get("finish_reason")) or self._finish
        said = choice.get(part)
        if isinstance(said, dict):
            self._add(self._text, said.get("content"))
            self._add(self._reasoning, said.get("reasoning") or said.get("reasoning_content"))
            self._add(self._refusal, said.get("refusal"))

    def _add(self, texts: list[str], content: Any) -> None:
        if isinstance(content, list):
            content = "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))
        if isinstance(content, str) and content:
            texts.append(content)
            self.size += len(content)

    def outcome(self, cut: str | None) -> Outcome:
        if self._streamed:
            for event in self._events.end():
                self._event(event)
        elif self._plain:
            self._take_plain(b"".join(self._plain))
        text, reasoning = _without_thought("".join(self._text), "".join(self._reasoning))
        refusal = "".join(self._refusal)
        finish: Finish = _FINISH.get(self._finish or "", "ok")
        if has_text(refusal):
            finish = "refused"
            text = text if has_text(text) else refusal
        usage = _usage(self._usage, has_text(text))
        if self._error is not None or self._finish == "error":
            failure = _classify(200, self._error, "the answer broke off with an error", None)
            return self._failed(failure.kind, failure.scope, failure.detail, usage, text, reasoning)
        if self._finish is None:
            return self._failed("lost", "call", self._what_is_missing(cut), usage, text, reasoning)
        if not has_text(text):
            if finish == "refused":
                return self._failed("refused", "call", "refused without a word", usage, None, reasoning)
            what = "only reasoning, no visible text" if has_text(reasoning) else "no visible text"
            return self._failed("empty", "call", f"{what} (finish reason {self._finish})", usage, None, reasoning)
        return Reply(
            text=text,
            finish=finish,
            usage=usage,
            reasoning=reasoning or None,
            model=self._model,
            upstream=self._upstream,
            generation=self.generation,
            stop=self._finish,
        )

    def _take_plain(self, data: bytes) -> None:
        try:
            whole_answer = orjson.loads(data)
        except orjson.JSONDecodeError:
            self._malformed = True
            return
        self._take(whole_answer, "message")

    def _what_is_missing(self, cut: str | None) -> str:
        if cut is not None:
            return cut
        if self._plain and self._plain[0][:1] == b"<":
            return (
                "the answer is a web page, not a completion: is base_url right, is a proxy or a login page in between?"
            )
        if self._malformed:
            return "the answer is not valid JSON"
        return "the answer ended without a finish reason"

    def _failed(
        self, kind: Kind, scope: Scope, detail: str, usage: Usage, partial: str | None, reasoning: str | None
    ) -> Failure:
        money: Money = "known" if usage.trusted and (usage.cost is not None or usage.output is not None) else "assumed"
        return Failure(
            kind=kind,
            scope=scope,
            money=money,
            detail=detail,
            usage=usage,
            partial=partial or None,
            reasoning=reasoning or None,
            generation=self.generation,
            model=self._model,
            upstream=self._upstream,
            stop=self._finish,
        )


def reader(call: Call) -> Reader:
    return Reader(call)


def failure(status: int, headers: Mapping[str, str], body: bytes, wall: float) -> Failure:
    """What an answer with an error status means."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        parsed = None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else None
    shown = error if error is not None else body[:_DETAIL].decode("utf-8", "replace").strip()
    return _classify(status, shown, f"HTTP {status}", retry_after(headers, wall))


def hints(headers: Mapping[str, str]) -> Hints:
    """The limits that are left, as OpenAI's headers tell them; others leave them out."""
    return Hints(
        requests_left=whole(headers.get("x-ratelimit-remaining-requests")),
        requests_reset=seconds(headers.get("x-ratelimit-reset-requests", "")),
        tokens_left=whole(headers.get("x-ratelimit-remaining-tokens")),
        tokens_reset=seconds(headers.get("x-ratelimit-reset-tokens", "")),
    )


def _classify(status: int, error: Any, fallback: str, wait: float | None) -> Failure:
    """An error as its status and the provider's own words define it; the status wins where the words are unknown."""
    fields = error if isinstance(error, dict) else {}
    message = _text(fields.get("message")) or (error if isinstance(error, str) else "")
    words = {
        w
        for w in (_text(fields.get("code")), _text(fields.get("type")), _text(_metadata(fields).get("error_type")))
        if w
    }
    inside = status == 200
    if inside:
        status = _status_inside(fields)
    detail = ": ".join(part for part in (fallback, message[:_DETAIL]) if part)
    parameter = _text(fields.get("param"))

    def failed(scope: Scope, kind: Kind = "error", **more: Any) -> Failure:
        money: Money = "assumed" if inside or (status in _RETRYABLE and status != 503) else "free"
        return Failure(kind, scope, money, detail, status=status, retry_after=wait, **more)

    if words & set(_OUT_OF_MONEY) or status in (401, 402):
        return failed("provider")
    if (
        words & set(_TOO_LONG)
        or status == 413
        or (status == 400 and any(w in message.lower() for w in _TOO_LONG_WORDS))
    ):
        return failed("conversation", overflow=True)
    if words & set(_POLICY) or status == 451:
        return failed("conversation", "refused")
    if status == 429:
        return failed("call", busy=True)
    if status in (403, 404):
        return failed("model")
    if status in (400, 422) and parameter in _OPTIONAL:
        return failed("call", parameter=parameter)
    if 300 <= status < 400:
        return failed("provider")
    if status in _RETRYABLE or status >= 500 or inside:
        return failed("call")
    return failed("conversation")


def _metadata(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    found = fields.get("metadata")
    return found if isinstance(found, dict) else {}


def _status_inside(fields: Mapping[str, Any]) -> int:
    """The status that an error inside an answer of status 200 stands for."""
    for name in ("code", "status"):
        value = fields.get(name)
        number = value if isinstance(value, int) else whole(value) if isinstance(value, str) else None
        if number is not None and 300 <= number < 600:
            return number
    return 500


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def _without_thought(text: str, reasoning: str) -> tuple[str, str]:
    """Some servers leave the thinking in the text, between tags at its beginning."""
    found = _THOUGHT.match(text)
    if found is None:
        return text, reasoning
    return text[found.end() :].lstrip("\n"), reasoning or found.group(1).strip()


def _usage(raw: Any, has_text: bool) -> Usage:
    """Usage in our terms; marked untrusted where a figure is absurd, so that the reservation stays charged."""
    if not isinstance(raw, dict):
        return Usage()
    details_in, details_out = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cached = details_in if isinstance(details_in, dict) else {}
    thought = details_out if isinstance(details_out, dict) else {}
    figures = {
        "input": raw.get("prompt_tokens"),
        "output": raw.get("completion_tokens"),
        "reasoning": thought.get("reasoning_tokens"),
        "cached_read": cached.get("cached_tokens"),
        "cached_write": cached.get("cache_write_tokens"),
    }
    counts = {name: count(value) for name, value in figures.items()}
    cost, cost_is_sound = _cost(raw)
    sound = cost_is_sound and all((counts[name] is None) == (figures[name] is None) for name in figures)
    read, written, all_input = counts["cached_read"] or 0, counts["cached_write"] or 0, counts["input"]
    sound = sound and (all_input is None or read + written <= all_input)
    if not counts["input"] or not counts["output"]:
        # Zero for what was surely sent or received is no figure, unless they say in so many words that it cost nothing.
        sound = sound and not has_text and cost == 0
    return Usage(**counts, cost=cost, trusted=sound, raw=raw)


def _cost(raw: Mapping[str, Any]) -> tuple[Nanos | None, bool]:
    """What the provider says it charges, upstream cost included, and whether that can be an amount."""
    value = raw.get("cost")
    if value is None:
        return None, True
    details = raw.get("cost_details")
    upstream = details.get("upstream_inference_cost") if isinstance(details, dict) and raw.get("is_byok") else None
    try:
        return sum(_nanos(figure) for figure in (value, upstream) if figure is not None), True
    except MoneyError:
        return None, False


def _nanos(value: Any) -> Nanos:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise MoneyError(f"{value!r} is not an amount")
    # Rounded up where a provider gives more decimals than a nano-dollar has.
    nanos = Decimal(repr(value)).scaleb(9)
    return parse_dollars(nanos.to_integral_value("ROUND_CEILING").scaleb(-9))
