"""Gemini's generateContent: own lines are the role `model`, settings stand in `generationConfig`, thoughts are marked.

The key goes into a header: the address stands in logs. Limits are told in errors alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from re import IGNORECASE
from re import compile as pattern
from typing import Any, Final
from urllib.parse import quote

import orjson

from runner.call import Call, Effort, Failure, Outcome, Reasoning, Usage
from runner.providers.answer import BROKEN, REFUSED, TRUNCATED, AnswerReader, usage_of
from runner.providers.base import SETTINGS, Dialect, Endpoint, Fact, Home, Inquiry, LimitField, Listed, Most, merged
from runner.providers.chat import nearest
from runner.providers.errors import Told, Words, error_in, failure_of, read_error
from runner.providers.loose import count, fields, rows, seconds, text, their_clock
from runner.providers.streams import ServerSentEvents
from runner.world import HttpRequest, Secret

_NO_SUCH_QUOTA: Final = "limit: 0"
"""What a message says of a model that this account may not use at all; our word for it, too."""

WORDS: Final = Words(
    no_money=frozenset({"BILLING_DISABLED"}),
    not_let_in=frozenset(
        {
            *("API_KEY_INVALID", "API_KEY_SERVICE_BLOCKED", "API_KEY_HTTP_REFERRER_BLOCKED"),
            *("API_KEY_IP_ADDRESS_BLOCKED", "CONSUMER_INVALID", "CONSUMER_SUSPENDED", "SERVICE_DISABLED"),
            # Said where the service is not offered in a country, or only to those who pay.
            *("FAILED_PRECONDITION", "UNAUTHENTICATED"),
        }
    ),
    no_model=frozenset({_NO_SUCH_QUOTA}),
    statuses={
        "INVALID_ARGUMENT": 400,
        "FAILED_PRECONDITION": 400,
        "UNAUTHENTICATED": 401,
        "PERMISSION_DENIED": 403,
        "NOT_FOUND": 404,
        "RESOURCE_EXHAUSTED": 429,
        "INTERNAL": 500,
        "UNAVAILABLE": 503,
        "DEADLINE_EXCEEDED": 504,
    },
    phrases={
        "credits are depleted": "BILLING_DISABLED",
        "spending cap": "BILLING_DISABLED",
    },
)

_LEVELS: Final[Sequence[Effort]] = ("minimal", "low", "medium", "high", "xhigh")
_NO_LIMIT: Final = pattern(r"limit: 0(?![\d.])")
_NAMED: Final = pattern(r"generation_?config\.(\w+)|unknown name \W?(\w+)", IGNORECASE)
_OF_THINKING: Final = ("thinking level", "thinking budget", "thinking mode", "thinking is not")
"""How messages speak of that setting without its name; models have the word in their names."""
_UNDERSCORED: Final = pattern(r"_(\w)")
_A_DAY: Final = 86400.0


class Gemini(Dialect):
    """The Gemini API of Google's developer platform."""

    revision = "gemini/1"
    home = Home("https://generativelanguage.googleapis.com/v1beta", "${GEMINI_API_KEY}", per="model", prices="google")
    ours = frozenset(
        {
            *("model", "contents", "systemInstruction"),
            *("generationConfig.maxOutputTokens", "generationConfig.candidateCount"),
            # Each name is understood in this spelling, too, and would come to stand beside ours.
            *("system_instruction", "generation_config"),
            *("generationConfig.max_output_tokens", "generationConfig.candidate_count"),
        }
    )
    optional = frozenset(
        {
            *("temperature", "topP", "topK", "presencePenalty", "frequencyPenalty", "seed", "stopSequences"),
            "thinkingConfig",
        }
    )
    """What `generationConfig` can do without, where a model refuses it."""
    takes = SETTINGS - {"limit_field"}
    most = Most(stop_strings=5, sure=False)
    words = WORDS
    new_day = 8 * 3600.0
    """When the limits of a day are lifted, in seconds after midnight UTC: at midnight in California, where winter time
    is the later one."""
    a_short_while = 3600.0
    """A limit of the day comes with hints that are those of the minute; only a longer one than this is its own."""

    def url(self, endpoint: Endpoint, model: str) -> str:
        return f"{_address(endpoint, model)}:streamGenerateContent?alt=sse"

    def headers(self, endpoint: Endpoint) -> dict[str, str | Secret]:
        found: dict[str, str | Secret] = {"content-type": "application/json", "accept": "text/event-stream"}
        if endpoint.api_key is not None:
            found["x-goog-api-key"] = Secret(endpoint.api_key.reveal().strip())
        return endpoint.headed(found)

    def body(self, call: Call, limit_field: LimitField | None = None) -> bytes:
        sampling = call.sampling
        optional: dict[str, Any] = {
            "temperature": sampling.temperature,
            "topP": sampling.top_p,
            "topK": sampling.top_k,
            "presencePenalty": sampling.presence_penalty,
            "frequencyPenalty": sampling.frequency_penalty,
            "seed": call.seed,
            "stopSequences": list(sampling.stop) or None,
            "thinkingConfig": _thinking(call.reasoning),
        }
        request: dict[str, Any] = {}
        if call.view.system is not None:
            request["systemInstruction"] = {"parts": [{"text": call.view.system}]}
        request["contents"] = [
            {"role": "model" if m.role == "assistant" else "user", "parts": [{"text": m.text}]}
            for m in call.view.messages
        ]
        request["generationConfig"] = {
            "maxOutputTokens": call.max_tokens,
            **{name: v for name, v in optional.items() if v is not None and name not in call.dropped},
        }
        barred = self.ours | {f"generationConfig.{name}" for name in call.dropped}
        return orjson.dumps(merged(request, call.extra, barred))

    def reader(self, call: Call) -> GeminiReader:
        return GeminiReader(self)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, wall: float) -> Failure:
        now = their_clock(headers, wall)
        return self.classified(status, error_in(body), f"HTTP {status}", headers, now)

    def classified(
        self, status: int, error: Any, fallback: str, headers: Mapping[str, str], wall: float | None
    ) -> Failure:
        """What an error means, inside an answer or in its place; an answer that breaks off does not know the time."""
        told = read_error(status, error, headers, wall or 0.0, self.optional)
        told = self._told_in_detail(told, error if isinstance(error, dict) else {}, wall)
        return failure_of(told, self.words, self.optional, fallback)

    def _told_in_detail(self, told: Told, error: Mapping[str, Any], wall: float | None) -> Told:
        """The same error, with what its details say: reasons, quotas, and how long to wait."""
        quotas = [*_details(error, "QuotaFailure", "violations")]
        reasons = {text(one.get("reason")) for one in _details(error, "ErrorInfo")}
        named = {text(error.get("status"))} | reasons
        words = told.words | {word for word in named if word is not None}
        waits = (seconds(str(one.get("retryDelay"))) for one in _details(error, "RetryInfo"))
        wait = max((one for one in (*waits, told.wait) if one), default=None)
        places = [str(one.get("field")) for one in _details(error, "BadRequest", "fieldViolations")]
        parameter = told.parameter or self._refused_in(" ".join((*places, told.message)))
        exhausted = 429 in (told.status, told.status_inside) or "RESOURCE_EXHAUSTED" in words
        if exhausted and (_NO_LIMIT.search(told.message) or any(str(one.get("quotaValue")) == "0" for one in quotas)):
            return replace(told, words=words | {_NO_SUCH_QUOTA}, wait=wait, quota=None)
        of_the_day = any("perday" in str(one.get("quotaId")).lower() for one in quotas)
        if told.quota == "day" or (exhausted and of_the_day):
            if wait is None or wait < self.a_short_while:
                wait = None if wall is None else _A_DAY - (wall - self.new_day) % _A_DAY
            return replace(told, words=words, wait=wait, quota="day")
        return replace(told, words=words, wait=wait, parameter=parameter)

    def _refused_in(self, words: str) -> str | None:
        """The field that an error is about."""
        for found in _NAMED.finditer(words):
            name = _UNDERSCORED.sub(lambda letter: letter[1].upper(), found[1] or found[2])
            if name in self.optional:
                return name
        return "thinkingConfig" if any(said in words.lower() for said in _OF_THINKING) else None

    def inquiries(self, endpoint: Endpoint, models: Sequence[str]) -> Sequence[Inquiry]:
        """Each model by its name; the list where none is named."""

        def get(address: str) -> HttpRequest:
            return HttpRequest("GET", address, self.headers(endpoint), b"")

        if not models:
            return (Inquiry("models", get(endpoint.base_url.rstrip("/") + "/models?pageSize=1000")),)
        return [Inquiry("model", get(_address(endpoint, model)), (model,)) for model in models]

    def learned(self, inquiry: Inquiry, body: bytes) -> Sequence[Fact]:
        found: list[Fact] = []
        for row in rows(body):
            name = text(row.get("name"))
            if name is not None:
                name = inquiry.models[0] if inquiry.about == "model" else name.removeprefix("models/")
                # The input may fill all of this, and the output comes on top; taken together, this is sure to be there.
                found.append(Listed(name, _size(row, "inputTokenLimit"), _size(row, "outputTokenLimit")))
        return found


def _address(endpoint: Endpoint, model: str) -> str:
    path = model if "/" in model else f"models/{model}"
    return f"{endpoint.base_url.rstrip('/')}/{quote(path)}"


def _size(row: Mapping[str, Any], name: str) -> int | None:
    return count(row.get(name)) or None


def _thinking(reasoning: Reasoning) -> Mapping[str, Any] | None:
    """A number of tokens or a level: a request with both is refused, and the number says more."""
    if reasoning.effort == "none":
        return {"thinkingBudget": 0}
    if reasoning.tokens is not None:
        return {"includeThoughts": True, "thinkingBudget": reasoning.tokens}
    effort = nearest(reasoning.effort, _LEVELS)
    return None if effort is None else {"includeThoughts": True, "thinkingLevel": effort.upper()}


def _details(error: Mapping[str, Any], kind: str, name: str | None = None) -> Iterator[Mapping[str, Any]]:
    """The details of a kind, or what they list under a name."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        if isinstance(detail, dict) and str(detail.get("@type")).endswith(f".{kind}"):
            inside = [detail] if name is None else detail.get(name)
            for one in inside if isinstance(inside, list) else ():
                if isinstance(one, dict):
                    yield one


class GeminiReader(AnswerReader):
    """One answer of the Gemini API."""

    truncated = TRUNCATED | {"continuation"}
    """A text that another call would go on with is cut."""
    refused = REFUSED | {"blocklist", "language", "model_armor", "spii"}
    broken = BROKEN | {
        *("other", "malformed_response", "malformed_function_call", "unexpected_tool_call", "too_many_tool_calls"),
        "missing_thought_signature",
    }

    def __init__(self, dialect: Gemini) -> None:
        super().__init__(ServerSentEvents())
        self._dialect = dialect
        self._counted = False
        """The figures are those of the end, and not those so far."""
        self._begun = False
        """There is a candidate, perhaps with nothing in it yet."""

    def take(self, piece: Mapping[str, Any]) -> bool:
        self.generation = text(piece.get("responseId")) or self.generation
        self.model = text(piece.get("modelVersion")) or self.model
        self.error = piece.get("error") or self.error
        blocked = text(fields(piece, "promptFeedback").get("blockReason"))
        candidate = self._chosen(piece.get("candidates"))
        self._begun = self._begun or bool(candidate)
        finish = text(candidate.get("finishReason"))
        self.finish = finish or self.finish
        if blocked is not None:
            # Some of these reasons are also reasons to end, and mean something else there.
            self.finish = f"the prompt is blocked: {blocked}"
            self.refused = self.refused | {self.finish.lower()}
        parts = fields(candidate, "content").get("parts")
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, dict):
                self.add(self.reasoning if part.get("thought") else self.text, part.get("text"))
        if isinstance(usage := piece.get("usageMetadata"), dict):
            self.usage, self._counted = usage, self.finish is not None
        return bool(parts or finish or blocked or self.error)

    def outcome(self, cut: str | None) -> Outcome:
        found = super().outcome(cut)
        if not isinstance(found, Failure) or found.kind != "lost":
            return found
        if cut is not None or self._begun or self._malformed or self.usage is None:
            return found
        # It ended by itself, with figures and nobody's answer: that is how it says nothing, and it may be charged.
        return replace(found, kind="empty", detail="no visible text (no candidates)")

    def _chosen(self, candidates: Any) -> Mapping[str, Any]:
        """One answer was asked for: the first of them."""
        for candidate in candidates if isinstance(candidates, list) else ():
            if isinstance(candidate, dict) and not candidate.get("index"):
                return candidate
        return {}

    def counted(self, raw: Mapping[str, Any], *, received: bool) -> Usage:
        names = ("promptTokenCount", "toolUsePromptTokenCount", "candidatesTokenCount", "thoughtsTokenCount")
        shown = [raw.get(name) for name in (*names, "totalTokenCount")]
        prompt, tools, said, thought, total = (count(figure) for figure in shown)
        # A figure of zero is left out. The total has what each figure is part of, and shows which are zero.
        sent = None if prompt is None else prompt + (tools or 0)
        made = None if said is None and thought is None else (said or 0) + (thought or 0)
        if total is not None and sent is not None:
            made = max(made or 0, total - sent)
        figures = {
            "input": sent,
            "output": made if self._counted else None,
            "reasoning": raw.get("thoughtsTokenCount") if self._counted else None,
            "cached_read": raw.get("cachedContentTokenCount"),
        }
        sound = all((count(figure) is None) == (figure is None) for figure in shown)
        return usage_of(raw, figures, received=received, sound=sound)

    def broke_off(self) -> Failure:
        return self._dialect.classified(200, self.error, self.reason, {}, None)


GEMINI: Final = Gemini()
