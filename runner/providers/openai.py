"""The OpenAI chat-completions dialect, as its maker and many compatible servers speak it.

Answers are streamed, because a connection that is silent for minutes gets cut on the way. Text may come as a string
or as parts, reasoning under two names or between `<think>` tags; a body counts as whole only when it gave a finish
reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from re import DOTALL, MULTILINE
from re import compile as pattern
from typing import Any, Final

import orjson

from runner.call import Call, Failure, Finish, Hints, Kind, Money, Outcome, Reply, Scope, Usage, has_text
from runner.foreign import storable
from runner.money import MoneyError, Nanos, parse_billed
from runner.providers.base import (
    Endpoint,
    LimitField,
    ServerSentEvents,
    count,
    loads,
    retry_after,
    seconds,
    whole,
)
from runner.world import Secret

revision: Final = "openai/1"

_TRUNCATED: Final = frozenset(
    {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"}
)
_REFUSED: Final = frozenset({"content_filter", "refusal", "safety", "sensitive", "recitation", "prohibited_content"})
_BROKEN: Final = frozenset({"error", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource"})
"""Reasons to end that are no end of an answer. A reason that nobody knows is taken for `stop`, and kept by its name."""
_OPTIONAL: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stream_options")
# The codes of four digits are those of Z.ai, which uses one status for many things.
_OUT_OF_MONEY: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
        "payment_required",
        *("1112", "1113", "1121", "1304", "1308", "1310"),
    }
)
_NOT_LET_IN: Final = frozenset({"unsupported_country_region_territory", "authentication"})
_TOO_LONG: Final = frozenset(
    {
        "context_length_exceeded",
        "exceed_context_size_error",
        "string_above_max_length",
        "string_too_long",
        "token_limit_exceeded",
        "1261",
    }
)
_TOO_LONG_WORDS: Final = (
    "context length",
    "context window",
    "prompt is too long",
    "prompt too long",
    "input is too long",
    "too many tokens",
    "reduce the length",
)
_NEVER_FITS: Final = "request too large"
_POLICY: Final = frozenset(
    {"content_policy_violation", "content_filter", "moderation_blocked", "invalid_prompt", "refusal", "1301"}
)
_NO_MODEL: Final = frozenset({"model_not_found", "model_decommissioned", "model_deprecated", "1211"})
_STATUS_OF: Final[Mapping[str, int]] = {
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
}
"""What the words of an error inside an answer of status 200 stand for, where it names no status."""
_RETRYABLE: Final = frozenset({408, 409, 425, 498})
"""Statuses below 500 that say nothing against the request."""
_LIMITS: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_A_PAGE: Final = "a web page, not a completion: is base_url right, is a proxy or a login page in between?"
_THINKING: Final = ("thinking", "reasoning")
_THOUGHT: Final = pattern(r"\s*<think>(.*?)(?:</think>|\Z)", DOTALL)
_ORPHAN_THOUGHT: Final = pattern(r"(.*?)^</think>", DOTALL | MULTILINE)


def url(endpoint: Endpoint) -> str:
    return endpoint.base_url.rstrip("/") + "/chat/completions"


def headers(endpoint: Endpoint) -> dict[str, str | Secret]:
    found: dict[str, str | Secret] = {
        "content-type": "application/json",
        "accept": "text/event-stream",
        **endpoint.headers,
    }
    if endpoint.api_key is not None:
        found["authorization"] = Secret(f"Bearer {endpoint.api_key.reveal().strip()}")
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
        self._choice: Any = None
        self._finish: str | None = None
        self._usage: Any = None
        self._error: Any = None
        self._malformed = False
        self._model: str | None = None
        self._upstream: str | None = None
        self._size = 0
        self.generation: str | None = None

    @property
    def size(self) -> int:
        return self._size + self._events.pending

    def feed(self, data: bytes) -> bool:
        if self._streamed is None:
            # Blank lines are a sign of life in both forms; the first other byte tells which form it is.
            data = data.lstrip(b"\xef\xbb\xbf \t\r\n")
            if not data:
                return False
            self._streamed = data[:1] not in (b"{", b"<", b"[")
        if not self._streamed:
            self._plain.append(data)
            self._size += len(data)
            return True
        brought = [self._event(event) for event in self._events.feed(data)]
        return any(brought)

    def done(self) -> bool:
        return self._ended

    def _event(self, data: bytes) -> bool:
        """Take an event; True when it brought something of the answer."""
        data = data.strip()
        if self._ended or not data:
            return False
        if data == b"[DONE]":
            self._ended = True
            return True
        try:
            chunk = loads(data)
        except ValueError:
            lines = data.split(b"\n")
            if len(lines) > 1:  # events that some servers do not part by a blank line
                brought = [self._event(line) for line in lines]
                return any(brought)
            # After the finish reason no text can be lost any more.
            self._malformed = self._malformed or self._finish is None
            return False
        return self._take(chunk)

    def _take(self, chunk: Any) -> bool:
        if not isinstance(chunk, dict):
            self._malformed = True
            return False
        self.generation = self.generation or _text(chunk.get("id"))
        self._model = _text(chunk.get("model")) or self._model
        self._upstream = _text(chunk.get("provider")) or self._upstream
        usage, error = chunk.get("usage"), chunk.get("error")
        if not error and "error" in (chunk.get("object"), chunk.get("type")):
            error = chunk
        choice = self._chosen(chunk.get("choices"))
        error = choice.get("error") or error
        finish = _text(choice.get("finish_reason"))
        self._usage = usage or self._usage
        self._error = error or self._error
        self._finish = finish or self._finish
        said = choice.get("delta") or choice.get("message")
        if not isinstance(said, dict):
            said = {}
        self._add(self._text, said.get("content"))
        self._add(self._reasoning, said.get("reasoning") or said.get("reasoning_content"))
        self._add(self._refusal, said.get("refusal"))
        # A chunk that only says who speaks is a sign of life; one whose text we cannot read (hidden thinking) is more.
        return bool(usage or error or finish or any(value for name, value in said.items() if name != "role"))

    def _chosen(self, choices: Any) -> Mapping[str, Any]:
        """One answer was asked for: where there are several, all but the first are left out."""
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                if self._choice is None:
                    self._choice = choice.get("index", 0)
                if choice.get("index", 0) == self._choice:
                    return choice
        return {}

    def _add(self, texts: list[str], content: Any) -> None:
        """Take text as it comes: a string, or parts, some of which may be thinking or a refusal."""
        for part in content if isinstance(content, list) else (content,):
            if not isinstance(part, dict):
                self._add_text(texts, part)
                continue
            kind = part.get("type")
            into = self._reasoning if kind in _THINKING else self._refusal if kind == "refusal" else texts
            said = next((part[name] for name in ("text", *_THINKING, "refusal") if part.get(name)), None)
            # Thinking may have parts of its own; nothing that anyone sends lies deeper than that.
            for piece in said if isinstance(said, list) else (said,):
                self._add_text(into, piece.get("text") if isinstance(piece, dict) else piece)

    def _add_text(self, texts: list[str], said: Any) -> None:
        if isinstance(said, str):
            texts.append(said)
            self._size += len(said)

    def outcome(self, cut: str | None) -> Outcome:
        if self._streamed:
            for event in self._events.end():
                self._event(event)
        elif self._plain:
            self._take_plain(b"".join(self._plain))
        # Made storable as a whole: the halves of a character may have come in two deltas.
        text, reasoning, refusal = (storable("".join(said)) for said in (self._text, self._reasoning, self._refusal))
        text, reasoning = _without_thought(text, reasoning)
        usage = _usage(self._usage, received=bool(text or reasoning or refusal))
        ending = (self._finish or "").lower()
        if self._error is not None or ending in _BROKEN:
            return self._broke_off(usage, text, reasoning)
        if self._finish is None or self._malformed:
            return self._failed("error" if self._is_page() else "lost", self._missing(cut), usage, text, reasoning)
        finish: Finish = "truncated" if ending in _TRUNCATED else "refused" if ending in _REFUSED else "ok"
        if has_text(refusal):
            finish = "refused"
            text = text if has_text(text) else refusal
        if not has_text(text):
            if finish == "refused":
                return self._failed("refused", "refused without a word", usage, None, reasoning)
            what = "only reasoning, no visible text" if has_text(reasoning) else "no visible text"
            return self._failed("empty", f"{what} (finish reason {self._finish})", usage, None, reasoning)
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
            whole_answer = loads(data)
        except ValueError:
            self._malformed = True
            return
        self._take(_unlisted(whole_answer))

    def _is_page(self) -> bool:
        return bool(self._plain) and self._plain[0][:1] == b"<"

    def _missing(self, cut: str | None) -> str:
        if self._is_page():
            return f"the answer is {_A_PAGE}"
        if cut is not None:
            return cut
        return "the answer is not valid JSON" if self._malformed else "the answer ended without a finish reason"

    def _broke_off(self, usage: Usage, text: str, reasoning: str) -> Failure:
        """An error inside an answer: as the error says, but what has begun to come was not turned away at the door."""
        reason = "with an error" if self._error is not None else f"(finish reason {self._finish})"
        found = _classify(200, self._error, f"the answer broke off {reason}", {}, 0.0)
        failed = self._failed(found.kind, found.detail, usage, text, reasoning, found.scope)
        if text or reasoning:
            return replace(failed, overflow=found.overflow, status=found.status)
        return replace(
            failed,
            overflow=found.overflow,
            status=found.status,
            busy=found.busy,
            parameter=found.parameter,
            retry_after=found.retry_after,
        )

    def _failed(
        self, kind: Kind, detail: str, usage: Usage, partial: str | None, reasoning: str | None, scope: Scope = "call"
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
    error: Any = None
    try:
        parsed = _unlisted(loads(body))
    except ValueError:
        parsed = None
    if isinstance(parsed, dict):
        error = parsed.get("error") or parsed
    if error is None:
        words = body.decode("utf-8", "replace").strip()
        error = _A_PAGE if words.startswith("<") else words
    return _classify(status, error, f"HTTP {status}", headers, wall)


def _unlisted(parsed: Any) -> Any:
    """Some servers put an error into a list of one."""
    return parsed[0] if isinstance(parsed, list) and len(parsed) == 1 else parsed


def hints(headers: Mapping[str, str]) -> Hints:
    """The limits that are left, as OpenAI's headers tell them; others leave them out."""
    return Hints(
        requests_left=whole(headers.get("x-ratelimit-remaining-requests")),
        requests_reset=seconds(headers.get("x-ratelimit-reset-requests", "")),
        tokens_left=whole(headers.get("x-ratelimit-remaining-tokens")),
        tokens_reset=seconds(headers.get("x-ratelimit-reset-tokens", "")),
    )


def _classify(status: int, error: Any, fallback: str, headers: Mapping[str, str], wall: float) -> Failure:
    """An error as its status and the provider's own words define it; the status wins where the words are unknown."""
    fields = error if isinstance(error, dict) else {}
    message = _message(error)
    metadata, availability = _fields(fields, "metadata"), _fields(fields, "availability")
    named = (fields.get("code"), fields.get("type"), metadata.get("error_type"), availability.get("code"))
    words = {word for word in map(_text, named) if word}
    inside = status == 200
    known: int | None = status
    if inside:
        known = _status_inside(fields, words)
        status = known or 500
    detail = ": ".join(part for part in (fallback, message) if part)
    parameter = _parameter(fields)
    again = _asked_again(headers, availability)
    wait = retry_after(headers, wall) or _wait_inside(availability)

    def failed(scope: Scope, kind: Kind = "error", **more: Any) -> Failure:
        # Nothing was done by who turned us away: a plain refusal, or no room. All else may have been worked on.
        turned_away = 300 <= status < 500 and status not in _RETRYABLE
        money: Money = "free" if not inside and (turned_away or status == 503) else "assumed"
        return Failure(kind, scope, money, more.pop("detail", detail), status=known, retry_after=wait, **more)

    plain_request = status in (400, 422)
    if words & (_OUT_OF_MONEY | _NOT_LET_IN) or status in (401, 402):
        return failed("provider")
    too_long = plain_request and any(said in message.lower() for said in _TOO_LONG_WORDS)
    if words & _TOO_LONG or status == 413 or too_long or (status == 429 and _NEVER_FITS in message.lower()):
        return failed("conversation", overflow=True)
    if words & _POLICY or status == 451 or (status == 403 and ("reasons" in metadata or "flagged_input" in metadata)):
        return failed("conversation", "refused")
    if status == 429:
        return failed("provider") if again is False else failed("call", busy=True)
    if status in (403, 404) or words & _NO_MODEL:
        return failed("model")
    if plain_request and parameter in _OPTIONAL:
        return failed("call", parameter=parameter)
    if plain_request and parameter in _LIMITS and "unsupported_parameter" in words:
        return failed("model", detail=f"{detail} (at this provider, say `limit_field: {_LIMITS[parameter]}`)")
    if 300 <= status < 400:
        where = f" to {headers['location']}" if "location" in headers else ""
        return failed("provider", detail=f"{detail}: a redirect{where}, and none is followed; is base_url right?")
    may_pass = status in _RETRYABLE or not 400 <= status < 500
    return failed("call" if (may_pass if again is None else again) else "conversation")


def _asked_again(headers: Mapping[str, str], availability: Mapping[str, Any]) -> bool | None:
    """Whether the provider itself says that another try makes sense; None when it does not say."""
    told = availability.get("retryable")
    if isinstance(told, bool):
        return told
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _wait_inside(availability: Mapping[str, Any]) -> float | None:
    told = availability.get("retry_after")
    return seconds(str(told)) or None if isinstance(told, (int, float, str)) else None


def _fields(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = fields.get(name)
    return found if isinstance(found, dict) else {}


def _message(error: Any) -> str:
    """What an error says to people; all of it where the words cannot be told from the rest."""
    if isinstance(error, dict):
        for name in ("message", "msg", "detail"):
            if isinstance(error.get(name), str) and error[name]:
                return str(error[name])
    if isinstance(error, str):
        return error
    if not isinstance(error, (dict, list)):
        return ""
    try:
        return orjson.dumps(error).decode()
    except orjson.JSONEncodeError:
        return ""


def _parameter(fields: Mapping[str, Any]) -> str | None:
    """The parameter that an error is about: by its name, or as servers that check against a schema tell it."""
    named = _text(fields.get("param"))
    if named is not None:
        return named.partition(".")[0]
    message = fields.get("message")
    details = (message if isinstance(message, dict) else fields).get("detail")
    first = details[0] if isinstance(details, list) and details else None
    place = first.get("loc") if isinstance(first, dict) else None
    return next((name for name in _OPTIONAL if name in place), None) if isinstance(place, list) else None


def _status_inside(fields: Mapping[str, Any], words: set[str]) -> int | None:
    """The status that an error inside an answer of status 200 stands for; None when it does not tell."""
    for name in ("code", "status"):
        value = fields.get(name)
        number = value if isinstance(value, int) else whole(value) if isinstance(value, str) else None
        if number is not None and 300 <= number < 600:
            return number
    return next((_STATUS_OF[word] for word in sorted(words) if word in _STATUS_OF), None)


def _text(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None


def _without_thought(text: str, reasoning: str) -> tuple[str, str]:
    """Some servers leave the thinking in the text, between tags at its beginning, the first of them even unsaid."""
    thoughts = [reasoning]
    while (found := _THOUGHT.match(text)) is not None:
        thoughts.append(found[1])
        text = text[found.end() :].lstrip("\n")
    if not any(thoughts) and "<think>" not in text and (found := _ORPHAN_THOUGHT.match(text)) is not None:
        thoughts.append(found[1])
        text = text[found.end() :].lstrip("\n")
    inline = [thought.strip() for thought in thoughts[1:]]
    return text, "\n\n".join(thought for thought in (reasoning, *inline) if thought)


def _usage(raw: Any, *, received: bool) -> Usage:
    """Usage in our terms; marked untrusted where a figure is absurd, so that the reservation stays charged."""
    if not isinstance(raw, dict):
        return Usage()
    cached, thought = _fields(raw, "prompt_tokens_details"), _fields(raw, "completion_tokens_details")
    figures = {
        "input": raw.get("prompt_tokens"),
        "output": raw.get("completion_tokens"),
        "reasoning": thought.get("reasoning_tokens"),
        "cached_read": cached.get("cached_tokens", raw.get("prompt_cache_hit_tokens")),
        "cached_write": cached.get("cache_write_tokens"),
    }
    counts = {name: count(value) for name, value in figures.items()}
    cost, sound = _cost(raw)
    sound = sound and all((counts[name] is None) == (figures[name] is None) for name in figures)
    read, written, all_input = counts["cached_read"] or 0, counts["cached_write"] or 0, counts["input"]
    sound = sound and (all_input is None or read + written <= all_input)
    total = count(raw.get("total_tokens"))
    if total is not None and all_input is not None and counts["output"] is not None:
        # Where thinking is not part of the output, only the total shows it; it is paid for all the same.
        counts["output"] = max(counts["output"], total - all_input)
    sound = sound and (counts["output"] is None or (counts["reasoning"] or 0) <= counts["output"])
    if counts["input"] == 0 or (counts["output"] == 0 and received):
        # Zero for what was surely sent or received is no figure, unless they say in so many words that it cost nothing.
        sound = sound and not received and cost == 0
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
    return parse_billed(value)
