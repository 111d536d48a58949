"""Chat completions, as OpenAI made the format and many servers speak it; what each does in its own way is data.

Answers are streamed, because a connection that is silent for minutes gets cut on the way. Text may come as a string
or as parts, reasoning under two names or between `<think>` tags; a body counts as whole only when it gave a finish
reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Final, Literal, get_args

import orjson

from runner.call import Call, Effort, Failure, Hints, Left, Message, Reasoning, Usage
from runner.money import MoneyError, Nanos, parse_billed, parse_price
from runner.providers.answer import AnswerReader, usage_of
from runner.providers.base import (
    ANOTHER_PRICE,
    SETTINGS,
    Dialect,
    Endpoint,
    Fact,
    Funds,
    Home,
    Inquiry,
    LimitField,
    Listed,
    Most,
    merged,
)
from runner.providers.errors import Told, Words, error_in, failure_of, read_error
from runner.providers.loose import count, fields, rows, seconds, text, whole
from runner.providers.streams import ServerSentEvents
from runner.world import HttpRequest, Secret

WORDS: Final = Words(
    no_money=frozenset(
        {
            "insufficient_quota",
            "credit_balance_exhausted",
            "billing_hard_limit_reached",
            "billing_not_active",
            "payment_required",
        }
    ),
    not_let_in=frozenset({"unsupported_country_region_territory", "authentication"}),
    too_long=frozenset(
        {
            "context_length_exceeded",
            "exceed_context_size_error",
            "string_above_max_length",
            "string_too_long",
            "token_limit_exceeded",
        }
    ),
    policy=frozenset({"content_policy_violation", "content_filter", "moderation_blocked", "refusal"}),
    no_model=frozenset({"model_not_found", "model_decommissioned", "model_deprecated"}),
    statuses={
        "authentication": 401,
        "authentication_error": 401,
        "invalid_api_key": 401,
        "payment_required": 402,
        "permission_denied": 403,
        "not_found": 404,
        "invalid_request": 400,
        "invalid_request_error": 400,
        "payload_too_large": 413,
        "rate_limit_exceeded": 429,
        "rate_limit_error": 429,
        "provider_overloaded": 503,
        "server_is_overloaded": 503,
        "slow_down": 503,
    },
)
"""The words of errors that the many servers of this format share."""

_WINDOWS: Final = ("context_length", "max_model_len", "context_window", "max_context_length")
"""Under which names servers list how much a model has room for."""
_ENDS: Final = ("expiration_date", "deprecation")
"""Under which names they list when a model is taken away."""
_LIMITS: Final[Mapping[str, LimitField]] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}


def by_effort(reasoning: Reasoning) -> Mapping[str, Any]:
    """Thinking asked for as OpenAI takes it: a word, and no number."""
    return {} if reasoning.effort is None else {"reasoning_effort": reasoning.effort}


def by_switch(reasoning: Reasoning) -> Mapping[str, Any]:
    """Thinking that can be switched on and off, and no more."""
    if reasoning == Reasoning():
        return {}
    return {"thinking": {"type": "disabled" if reasoning.effort == "none" else "enabled"}}


def by_switch_and_effort(reasoning: Reasoning) -> Mapping[str, Any]:
    """Thinking that can be switched on and off, with a word for how much."""
    return {**by_switch(reasoning), **({} if reasoning.effort == "none" else by_effort(reasoning))}


def by_template(reasoning: Reasoning) -> Mapping[str, Any]:
    """Thinking as local servers take it: what they hand to the template of the model, which may have such a switch."""
    if reasoning == Reasoning():
        return {}
    return {"chat_template_kwargs": {"enable_thinking": reasoning.effort != "none"}}


def nearest(effort: Effort | None, known: Sequence[Effort]) -> Effort | None:
    """The word that a server knows for this one: itself, else the next higher; `none` is never anything else."""
    if effort is None or effort == "none" or not known or effort in known:
        return effort
    order = get_args(Effort)
    return next((word for word in known if order.index(word) > order.index(effort)), known[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """What one server of this format does in its own way."""

    limit: LimitField = "max_tokens"
    """Under which name it takes the output limit."""
    seed: str = "seed"
    think: Callable[[Reasoning], Mapping[str, Any]] = by_effort
    efforts: Sequence[Effort] = ()
    """The words for how much to think that it knows, from the least on; empty where that differs by model."""
    fixed: Mapping[str, Any] = field(default_factory=lambda: {"stream_options": {"include_usage": True}})
    """Fields that each request has, whatever the job says; those among them that it refuses are left out."""
    headers: Mapping[str, str] = field(default_factory=dict)
    requests_window: Literal["minute", "day"] = "minute"
    """What its headers on the requests that are left speak of."""
    words: Words = field(default_factory=Words)
    """Its own code words, besides those that many share."""
    account: str | None = None
    """Where it says what the account has left."""
    thought: str | None = None
    """Under which name it is told again what the model thought before a line of its own; None where it takes none."""
    tells_cost: bool = False
    """True where it is known to say what each call costs; anybody else's word for that is held against the tokens."""


class Chat(Dialect):
    """A server of this format, by its ways."""

    most = Most(stop_strings=4, sure=False)
    """As OpenAI has it; of the others, some take more."""

    def __init__(self, name: str, home: Home, ways: Ways | None = None, number: int = 1) -> None:
        self.revision = f"{name}/{number}"
        self.home = home
        self.ways = Ways() if ways is None else ways
        self.words = WORDS | self.ways.words
        self.takes_reasoning = self.ways.thought is not None
        self.optional = frozenset(
            {
                *("temperature", "top_p", "presence_penalty", "frequency_penalty", "top_k", "stop"),
                *(self.ways.seed, *self.ways.fixed, *self.ways.think(Reasoning("low", 1024))),
            }
        )
        """What a request can do without, where a model refuses it."""
        self.ours = frozenset({"model", "messages", "stream", "n", "n_predict", *_LIMITS, *ANOTHER_PRICE})
        thinking = {"reasoning.effort": Reasoning("low"), "reasoning.tokens": Reasoning(tokens=1024)}
        self.takes = SETTINGS - {name for name, asked in thinking.items() if not self.ways.think(asked)}

    def url(self, endpoint: Endpoint, model: str) -> str:
        return endpoint.base_url.rstrip("/") + "/chat/completions"

    def headers(self, endpoint: Endpoint) -> dict[str, str | Secret]:
        ours: dict[str, str | Secret] = {"content-type": "application/json", "accept": "text/event-stream"}
        ours |= self.ways.headers
        if endpoint.api_key is not None:
            ours["authorization"] = Secret(f"Bearer {endpoint.api_key.reveal().strip()}")
        return endpoint.headed(ours)

    def body(self, call: Call, limit_field: LimitField | None = None) -> bytes:
        return orjson.dumps(self.request(call, limit_field))

    def _thought(self, message: Message) -> dict[str, str]:
        thought = self.ways.thought
        return {} if thought is None or message.reasoning is None else {thought: message.reasoning}

    def _thinking(self, asked: Reasoning) -> Mapping[str, Any]:
        effort = nearest(asked.effort, self.ways.efforts)
        return self.ways.think(asked if effort == asked.effort else replace(asked, effort=effort))

    def request(self, call: Call, limit_field: LimitField | None) -> dict[str, Any]:
        """The fields of the request, in their order."""
        messages = [{"role": m.role, "content": m.text, **self._thought(m)} for m in call.view.messages]
        if call.view.system is not None:
            messages.insert(0, {"role": "system", "content": call.view.system})
        sampling = call.sampling
        optional: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "top_k": sampling.top_k,
            "stop": list(sampling.stop) or None,
            self.ways.seed: call.seed,
            **self._thinking(call.reasoning),
            **self.ways.fixed,
        }
        request: dict[str, Any] = {
            "model": call.model,
            "messages": messages,
            limit_field or self.ways.limit: call.max_tokens,
        }
        request |= {name: v for name, v in optional.items() if v is not None and name not in call.dropped}
        return merged(request, call.extra, self.ours | set(call.dropped)) | {"stream": True}

    def reader(self, call: Call) -> AnswerReader:
        return ChatReader(self)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, wall: float) -> Failure:
        return self.classified(status, error_in(body), f"HTTP {status}", headers, wall)

    def classified(self, status: int, error: Any, fallback: str, headers: Mapping[str, str], wall: float) -> Failure:
        """What an error means, inside an answer or in its place."""
        told = self.told(status, error, headers, wall)
        other = _LIMITS.get(told.parameter or "")
        if other is not None and status in (400, 422) and "unsupported_parameter" in told.words:
            better = f"{fallback}: {told.message} (at this provider, say `limit_field: {other}`)"
            return Failure("error", "model", "free", better, status=status, retry_after=told.wait)
        return failure_of(told, self.words, self.optional, fallback)

    def told(self, status: int, error: Any, headers: Mapping[str, str], wall: float) -> Told:
        """What an error says."""
        return read_error(status, error, headers, wall, self.optional)

    def hints(self, headers: Mapping[str, str], wall: float) -> Hints:
        """The limits that are left, as OpenAI's headers tell them; others leave them out."""
        found: list[Left] = []
        for counts, window in (("requests", self.ways.requests_window), ("tokens", "minute")):
            left = whole(headers.get(f"x-ratelimit-remaining-{counts}"))
            most = whole(headers.get(f"x-ratelimit-limit-{counts}"))
            reset = seconds(headers.get(f"x-ratelimit-reset-{counts}", ""))
            if left is not None or most is not None or reset is not None:
                found.append(Left(counts, window, left, most, reset))  # type: ignore[arg-type]
        return tuple(found)

    def inquiries(self, endpoint: Endpoint, models: Sequence[str]) -> Sequence[Inquiry]:
        found = [Inquiry("models", self.asking(endpoint, "/models"), tuple(models))]
        if self.ways.account is not None:
            found.append(Inquiry("account", self.asking(endpoint, self.ways.account)))
        return found

    def asking(self, endpoint: Endpoint, path: str, beside: str = "") -> HttpRequest:
        """A request for something that costs nothing, and that may stand beside the root of this format."""
        root = endpoint.base_url.rstrip("/").removesuffix(beside)
        return HttpRequest("GET", root + path, self.headers(endpoint), b"")

    def learned(self, inquiry: Inquiry, body: bytes) -> Sequence[Fact]:
        about_one = self.funds if inquiry.about == "account" else self.listed
        found = (about_one(row) for row in rows(body))
        return tuple(fact for fact in found if fact is not None)

    def funds(self, answer: Mapping[str, Any]) -> Funds | None:
        """What the account has left, as this server tells it; None where its answer does not."""
        return None

    def listed(self, row: Mapping[str, Any]) -> Listed | None:
        """A model of the server's list, as far as it says something of it."""
        name = text(row.get("id")) or text(row.get("name"))
        if name is None:
            return None
        window = next((n for n in (count(row.get(field)) for field in _WINDOWS) if n), None)
        ends = next((said for said in (text(row.get(field)) for field in _ENDS) if said), None)
        return Listed(name, window, count(row.get("max_completion_tokens")), ends=ends)


_PLAIN: Final = frozenset(
    {
        *("id", "object", "created", "model", "provider", "choices", "usage"),
        *("system_fingerprint", "service_tier", "obfuscation"),
    }
)
_PLAIN_CHOICE: Final = frozenset({"index", "delta", "finish_reason", "logprobs", "native_finish_reason"})
_PLAIN_DELTA: Final = frozenset({"role", "content"})
"""The fields of pieces that may bring nothing but text."""


class ChatReader(AnswerReader):
    """One answer of a server of this format."""

    def __init__(self, chat: Chat) -> None:
        super().__init__(ServerSentEvents())
        self._chat = chat
        self._choice: Any = None
        self._in_deltas = False

    def mark(self, data: bytes) -> bool:
        if data == b"[DONE]":
            self.ended = True
        return self.ended

    def take(self, piece: Mapping[str, Any]) -> bool:
        said = self._more_text(piece) if self._in_deltas else None
        if said is not None:
            self.text.append(said)
            self._size += len(said)
            return True
        return self.take_whole(piece)

    def _more_text(self, piece: Mapping[str, Any]) -> str | None:
        """The text of a piece that brings nothing else and nothing new, as nearly all do; None for any other."""
        told = piece.get
        choices = told("choices")
        if (
            not _PLAIN.issuperset(piece)
            or told("id", self.generation) != self.generation
            or told("model", self.model) != self.model
            or told("provider", self.upstream) != self.upstream
            or told("object") == "error"
            or told("usage")
            or not isinstance(choices, list)
            or len(choices) != 1
        ):
            return None
        choice = choices[0]
        if (
            not isinstance(choice, dict)
            or not _PLAIN_CHOICE.issuperset(choice)
            or choice.get("index", 0) != self._choice
            or choice.get("finish_reason") is not None
        ):
            return None
        delta = choice.get("delta")
        if not isinstance(delta, dict) or not _PLAIN_DELTA.issuperset(delta):
            return None
        said = delta.get("content")
        return said if isinstance(said, str) and said else None

    def take_whole(self, piece: Mapping[str, Any]) -> bool:
        """Take a piece whatever it brings."""
        self.generation = self.generation or text(piece.get("id"))
        self.model = text(piece.get("model")) or self.model
        self.upstream = text(piece.get("provider")) or self.upstream
        # Groq puts the figures of a stream beside its own id of the request.
        usage, error = piece.get("usage"), piece.get("error")
        if not usage and "x_groq" in piece:
            usage = fields(piece, "x_groq").get("usage")
        if not error and "error" in (piece.get("object"), piece.get("type")):
            error = piece
        choice = self._chosen(piece.get("choices"))
        error = choice.get("error") or error
        finish = text(choice.get("finish_reason"))
        self.usage = usage or self.usage
        self.error = error or self.error
        self.finish = finish or self.finish
        delta = fields(choice, "delta")
        said = delta or fields(choice, "message")
        if self._in_deltas and said and not delta:
            # Some repeat at the end all that was said.
            self.whole(lambda: self._take_said(said))
        elif said:
            self._take_said(said)
        brings = _brings(said)
        self._in_deltas = self._in_deltas or (brings and said is delta)
        # A chunk that only says who speaks is a sign of life; one whose text we cannot read (hidden thinking) is more.
        return bool(usage or error or finish or brings)

    def _take_said(self, said: Mapping[str, Any]) -> None:
        self.add(self.text, said.get("content"))
        self.add(self.reasoning, said.get("reasoning") or said.get("reasoning_content"))
        self.add(self.refusal, said.get("refusal"))

    def _chosen(self, choices: Any) -> Mapping[str, Any]:
        """One answer was asked for: where there are several, all but the first are left out."""
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                if self._choice is None:
                    self._choice = choice.get("index", 0)
                if choice.get("index", 0) == self._choice:
                    return choice
        return {}

    def counted(self, raw: Mapping[str, Any], *, received: bool) -> Usage:
        cached, thought = fields(raw, "prompt_tokens_details"), fields(raw, "completion_tokens_details")
        figures = {
            "input": raw.get("prompt_tokens"),
            "output": raw.get("completion_tokens"),
            "reasoning": thought.get("reasoning_tokens"),
            "cached_read": cached.get("cached_tokens", raw.get("prompt_cache_hit_tokens")),
            "cached_write": cached.get("cache_write_tokens"),
        }
        total, shown, all_input = (count(raw.get("total_tokens")), count(figures["output"]), count(figures["input"]))
        if total is not None and all_input is not None and shown is not None:
            # Where thinking is not part of the output, only the total shows it; it is paid for all the same.
            figures["output"] = max(shown, total - all_input)
        cost, sound = _cost(raw)
        hearsay = cost is not None and not self._chat.ways.tells_cost
        return usage_of(raw, figures, received=received, cost=cost, hearsay=hearsay, sound=sound)

    def broke_off(self) -> Failure:
        return self._chat.classified(200, self.error, self.reason, {}, 0.0)


def _brings(said: Mapping[str, Any]) -> bool:
    for name, value in said.items():  # noqa: SIM110 - for each token that comes, and a generator takes twice as long
        if value and name != "role":
            return True
    return False


def _cost(raw: Mapping[str, Any]) -> tuple[Nanos | None, bool]:
    """What the provider says it charges, upstream cost included, and whether that can be an amount."""
    value = raw.get("cost")
    if value is None:
        return None, True
    try:
        return with_upstream(raw, value, fields(raw, "cost_details").get("upstream_inference_cost")), True
    except MoneyError:
        return None, False


def with_upstream(told: Mapping[str, Any], fee: Any, upstream: Any) -> Nanos | None:
    """What is charged in all: with a key of one's own, the fee alone is not the cost. Raises MoneyError."""
    if not told.get("is_byok"):
        return nanos_of(fee)
    return None if upstream is None else nanos_of(fee) + nanos_of(upstream)


def nanos_of(value: Any) -> Nanos:
    """An amount in dollars as JSON writes it. Raises MoneyError."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise MoneyError(f"{value!r} is not an amount")
    return parse_billed(value)


def per_million(per_token: Any) -> Decimal | None:
    """A price in dollars a token, as a catalogue writes it, in dollars a million; None where there is none."""
    try:
        return parse_price(Decimal(str(per_token)).scaleb(6)).normalize()
    except (ArithmeticError, MoneyError):
        return None
