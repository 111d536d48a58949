"""Chat completions, as a strict server reads and writes them; `Ways` is what tells one server from another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson

from runner.sim.bill import Charge
from runner.sim.config import ModelConfig, ThoughtField
from runner.sim.dialect import (
    Answer,
    Asked,
    Bad,
    Dialect,
    Error,
    Headers,
    Piece,
    Record,
    SimRequest,
    Trouble,
    Why,
    Written,
    asked,
    comments,
    effort,
    flag,
    in_range,
    integer,
    json_bytes,
    json_object,
    only,
    parts,
    stop_texts,
    table,
    whole_number,
)
from runner.sim.meter import Room, duration

DONE: Final = b"data: [DONE]\n\n"

_FIELDS: Final = frozenset(
    (
        *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "presence_penalty"),
        *("frequency_penalty", "stream", "stream_options", "n", "user", "metadata", "stop"),
    )
)
_RANGES: Final = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_MOST_STOPS: Final = 4


class Word(NamedTuple):
    """How a server says one trouble; None leaves its own part as it is."""

    status: int
    type: str | None = None
    code: str | int | None = None
    message: str | None = None


_INVALID: Final = "invalid_request_error"
WORDS: Final[Mapping[Why, Word]] = MappingProxyType(
    {
        "invalid": Word(400, _INVALID),
        "url": Word(404, _INVALID),
        "method": Word(405, _INVALID),
        "no_record": Word(404, _INVALID),
        "unauthorized": Word(401, "authentication_error", "invalid_api_key"),
        "no_money": Word(402, "insufficient_credits", "payment_required"),
        "afford": Word(402, "insufficient_credits", "payment_required"),
        "forbidden": Word(403, "permission_error", "permission_denied"),
        "not_found": Word(404, _INVALID, "model_not_found"),
        "context_length": Word(400, _INVALID, "context_length_exceeded"),
        "parameter": Word(400, _INVALID, "unsupported_parameter"),
        "busy": Word(429, "requests", "rate_limit_exceeded"),
        "quota": Word(429, "insufficient_quota", "insufficient_quota"),
        "day": Word(429, "requests", "rate_limit_exceeded"),
        "spend": Word(0, "insufficient_quota", "credit_balance_exhausted"),
        "too_large": Word(413, _INVALID, "request_too_large"),
        "unprocessable": Word(422, _INVALID, "unprocessable_entity"),
        "moderated": Word(400, _INVALID, "content_policy_violation"),
        "loading": Word(503, "unavailable_error"),
        "server": Word(0, "server_error"),
        "redirect": Word(307, _INVALID),
    }
)
"""What plain chat says."""

LimitHeaders = Callable[[Mapping[str, Room]], Headers]


def openai_headers(rooms: Mapping[str, Room]) -> Headers:
    """What is left, as OpenAI says it: of the minute where there is one, else of the day."""
    return _counted(
        rooms.get("rpm") or rooms.get("rpd"),
        rooms.get("tpm") or rooms.get("output_tpm") or rooms.get("input_tpm") or rooms.get("tpd"),
    )


def groq_headers(rooms: Mapping[str, Room]) -> Headers:
    """Under the same names, requests of the day and tokens of the minute."""
    return _counted(rooms.get("rpd"), rooms.get("tpm") or rooms.get("output_tpm") or rooms.get("input_tpm"))


def together_headers(rooms: Mapping[str, Room]) -> Headers:
    found: list[tuple[str, str]] = []
    for noun, room in (("ratelimit", rooms.get("rpm")), ("tokenlimit", rooms.get("tpm"))):
        if room is not None:
            found += (
                (f"x-{noun}-limit", str(room.most)),
                (f"x-{noun}-remaining", str(room.left)),
                (f"x-{noun}-reset", str(int(room.reset + 1))),
            )
    return tuple(found)


def no_headers(rooms: Mapping[str, Room]) -> Headers:
    """Nothing."""
    return ()


def _counted(requests: Room | None, tokens: Room | None) -> Headers:
    return tuple(
        row
        for noun, room in (("requests", requests), ("tokens", tokens))
        if room is not None
        for row in (
            (f"x-ratelimit-limit-{noun}", str(room.most)),
            (f"x-ratelimit-remaining-{noun}", str(room.left)),
            (f"x-ratelimit-reset-{noun}", duration(room.reset)),
        )
    )


UsageOf = Callable[[Charge, float], dict[str, Any]]


def openai_usage(charge: Charge, seconds: float) -> dict[str, Any]:
    read = {"cached_tokens": charge.cached}
    return {
        "prompt_tokens": charge.input,
        "completion_tokens": charge.output,
        "total_tokens": charge.input + charge.output,
        "prompt_tokens_details": read | ({"cache_write_tokens": charge.written} if charge.written else {}),
        "completion_tokens_details": {"reasoning_tokens": charge.reasoning},
    }


def deepseek_usage(charge: Charge, seconds: float) -> dict[str, Any]:
    """The cache in fields of its own."""
    found = openai_usage(charge, seconds)
    del found["prompt_tokens_details"]
    return found | {
        "prompt_cache_hit_tokens": charge.cached,
        "prompt_cache_miss_tokens": charge.input - charge.cached,
    }


def groq_usage(charge: Charge, seconds: float) -> dict[str, Any]:
    """With its times, in seconds."""
    return openai_usage(charge, seconds) | {"queue_time": 0.0, "prompt_time": 0.0, "completion_time": seconds}


@dataclass(frozen=True, slots=True)
class Ways:
    """How one server differs from plain chat."""

    also: frozenset[str] = frozenset(
        ("seed", "reasoning_effort", "verbosity", "store", "service_tier", "response_format", "prompt_cache_key")
    )
    """Fields that it takes beside those that all take."""
    lenient: bool = False
    """True when a field that it does not know is passed over."""
    limits: tuple[str, ...] = ("max_tokens", "max_completion_tokens")
    seed: str = "seed"
    thought: ThoughtField = "reasoning_content"
    usage_always: bool = False
    """True when a stream ends with its usage whether or not it was asked for."""
    in_parts: bool = False
    """True when its content is a list of parts, thinking among them."""
    finishes: Mapping[str, str] = field(default_factory=dict)
    """What it calls the reasons for an end, where it does not call them as all do."""
    usage: UsageOf = openai_usage
    words: Mapping[Why, Word] = field(default_factory=dict)
    statuses: Mapping[int, tuple[str | None, str | None]] = field(default_factory=dict)
    """Type and code of server errors, by their status."""
    limits_told: LimitHeaders = openai_headers
    windows_listed: str = "context_length"
    """Where its list of models has the size of the window."""
    efforts: tuple[str, ...] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    extras: Callable[[Answer], Mapping[str, Any]] = lambda answer: {}
    """What it adds to the last piece of an answer, or to one that comes whole."""


class Chat(Dialect):
    """A chat server."""

    end = DONE
    torn = b'data: {"id":"gen-0","choices":[{"index":0,"delta":{"content":\n\n' + DONE

    def __init__(self, ways: Ways | None = None) -> None:
        self.ways = Ways() if ways is None else ways

    # --- requests ------------------------------------------------------------------------------------------------

    def read(self, request: SimRequest) -> Asked:
        data = json_object(request.body)
        if not self.ways.lenient:
            only(data, _FIELDS | self.ways.also)
        model = data.get("model")
        if not isinstance(model, str) or not model:
            raise Bad("You must provide a model parameter.", "model")
        texts = messages(data.get("messages"))
        stream, include_usage = _streaming(data)
        for name, (low, high) in _RANGES.items():
            in_range(data, name, low, high)
        integer(data, self.ways.seed)
        if data.get("n", 1) != 1:
            raise Bad("Invalid 'n': this server gives one choice.", "n")
        max_tokens = _max_tokens(data, self.ways.limits)
        most, shown = self.thinking(data, max_tokens)
        return asked(
            model,
            texts,
            max_tokens,
            stream,
            frozenset(data),
            include_usage=include_usage or self.ways.usage_always,
            stops=stop_texts(data, "stop", _MOST_STOPS),
            most_thinking=most,
            shows_thinking=shown,
            stored=flag(data, "store", False),
        )

    def thinking(self, data: Mapping[str, Any], max_tokens: int) -> tuple[int | None, bool]:
        """How much may be thought, and whether it is shown."""
        most: int | None = None
        if "reasoning_effort" in data:
            most = effort(data["reasoning_effort"], "reasoning_effort", max_tokens, self.ways.efforts)
        if "thinking" in data and "thinking" in self.ways.also:
            kind = table(data, "thinking").get("type")
            if kind not in ("enabled", "disabled"):
                raise Bad("Invalid 'thinking.type': expected enabled or disabled.", "thinking.type")
            most = 0 if kind == "disabled" else most
        if "thinking_token_budget" in data:
            most = whole_number(data["thinking_token_budget"], "thinking_token_budget", 0)
        if not flag(table(data, "chat_template_kwargs"), "enable_thinking", True):
            most = 0
        hidden = data.get("reasoning_format") in ("hidden", "none") or not flag(data, "include_reasoning", True)
        return most, not hidden

    # --- answers -------------------------------------------------------------------------------------------------

    def finish(self, answer: Answer) -> str:
        return self.ways.finishes.get(answer.finish, answer.finish)

    def thought(self, answer: Answer) -> str:
        return answer.reasoning_field or self.ways.thought

    def usage(self, answer: Answer) -> Mapping[str, Any] | None:
        figures = self.ways.usage(answer.told, answer.seconds)
        if answer.reports_cost:
            figures["cost"] = answer.told.cost / 1_000_000_000
        return answer.usage(figures)

    def plain(self, answer: Answer) -> bytes:
        message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": answer.refusal}
        reasoning = answer.reasoning if answer.shows_thinking else ""
        if self.ways.in_parts:
            message["content"] = _parts(reasoning, answer.text)
        elif reasoning:
            message[self.thought(answer)] = reasoning
        choice: dict[str, Any] = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": self.finish(answer),
            **self.chosen(answer),
        }
        if answer.failed is not None:
            choice["error"] = self.inner(answer.failed)
        body: dict[str, Any] = {
            "id": answer.id,
            "object": "chat.completion",
            "created": answer.created,
            "model": answer.model,
            **self.headed(answer),
            "choices": [choice],
        }
        if not answer.silent:
            body["usage"] = self.usage(answer)
        return json_bytes(body | dict(self.ways.extras(answer)))

    def headed(self, answer: Answer) -> dict[str, Any]:
        """What it says of itself in each piece."""
        return {}

    def chosen(self, answer: Answer) -> dict[str, Any]:
        """What it says beside a finish reason."""
        return {}

    def inner(self, trouble: Trouble) -> dict[str, Any]:
        """An error that stands within an answer with a finish reason."""
        return {
            "code": trouble.status,
            "message": trouble.message,
            "metadata": {"error_type": "provider_unavailable"},
        }

    def stream(self, answer: Answer, include_usage: bool) -> Written:
        event = self._events(answer, include_usage)
        pieces: list[Piece] = []
        opening = event({"role": "assistant", "content": ""}, None)
        name = self.thought(answer)
        for at, channel, text in parts(answer):
            if self.ways.in_parts and channel == "thought":
                delta: dict[str, Any] = {"content": _parts(text, None)}
            else:
                delta = {{"thought": name, "text": "content", "refusal": "refusal"}[channel]: text}
            pieces.append(Piece(at, opening + event(delta, None)))
            opening = b""
        error = None if answer.failed is None else self.inner(answer.failed)
        tail = opening + event({}, self.finish(answer), error, self.chosen(answer))
        if include_usage and not answer.silent:
            tail += event(None, None)
        return Written(comments(answer.pace, self.comment), tuple(pieces), tail + DONE, answer.seconds)

    def _events(self, answer: Answer, include_usage: bool) -> Callable[..., bytes]:
        head = json_bytes(
            {
                "id": answer.id,
                "object": "chat.completion.chunk",
                "created": answer.created,
                "model": answer.model,
                **self.headed(answer),
            }
        )[:-1]
        foot = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        extras = self.ways.extras(answer)
        last = b"," + json_bytes(extras)[1:-1] + b"}\n\n" if extras else b"}\n\n"

        def event(
            delta: Mapping[str, Any] | None,
            finish: str | None,
            error: Mapping[str, Any] | None = None,
            beside: Mapping[str, Any] = MappingProxyType({}),
        ) -> bytes:
            if delta is None:
                return b"data: " + head + b',"choices":[],"usage":' + json_bytes(self.usage(answer)) + last
            choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish, **beside}
            if error is not None:
                return (
                    b"data: "
                    + head
                    + b',"error":'
                    + json_bytes(error)
                    + b',"choices":['
                    + json_bytes(choice)
                    + b"]"
                    + foot
                )
            return b"data: " + head + b',"choices":[' + json_bytes(choice) + b"]" + foot

        return event

    # --- errors --------------------------------------------------------------------------------------------------

    def word(self, trouble: Trouble) -> Word:
        word = self.ways.words.get(trouble.why, WORDS[trouble.why])
        type_, code = word.type, word.code
        if trouble.why == "server":
            type_, code = self.ways.statuses.get(trouble.status, (type_, code))
        if trouble.limit is not None and type_ == "requests":
            type_ = "tokens" if "tp" in trouble.limit else "requests"
        return Word(word.status or trouble.status, type_, trouble.code or code, word.message or trouble.message)

    def object(self, trouble: Trouble) -> dict[str, Any]:
        """The error itself."""
        word = self.word(trouble)
        return {"message": word.message, "type": word.type, "param": trouble.param, "code": word.code}

    def error(self, trouble: Trouble, about: Asked | None) -> Error:
        headers = (*trouble.headers, *trouble.hinted, *trouble.advised, *self.limits_left(trouble.rooms))
        return Error(self.word(trouble).status, orjson.dumps({"error": self.object(trouble)}), headers)

    def error_within(self, answer: Answer, trouble: Trouble, stream: bool) -> bytes:
        error = {"code": trouble.status, "message": trouble.message, "type": "server_error"}
        if not stream:
            return orjson.dumps({"error": error})
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
        return b"data: " + orjson.dumps({"id": answer.id, "error": error, "choices": [choice]}) + b"\n\n" + DONE

    def limits_left(self, rooms: Sequence[Room]) -> Headers:
        return self.ways.limits_told({room.limit: room for room in rooms})

    def headers(self, number: int, answer: Answer | None, rooms: tuple[Room, ...], wall: float) -> Headers:
        return (("x-request-id", f"req-{number}"), *self.limits_left(rooms))

    # --- look-ups ------------------------------------------------------------------------------------------------

    def models(self, rows: Mapping[str, ModelConfig], created: int) -> bytes | None:
        return orjson.dumps(
            {"object": "list", "data": [self.row(name, config, created) for name, config in rows.items()]}
        )

    def model(self, name: str, config: ModelConfig, created: int) -> bytes | None:
        return orjson.dumps(self.row(name, config, created))

    def row(self, name: str, config: ModelConfig, created: int) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": created,
            "owned_by": "sim",
            self.ways.windows_listed: config.context,
            "pricing": {
                "prompt": f"{config.price.input.scaleb(-6):f}",
                "completion": f"{config.price.output.scaleb(-6):f}",
            },
        }

    def record(self, kept: Record) -> bytes | None:
        """A stored completion."""
        return json_bytes(
            {
                "id": kept.id,
                "object": "chat.completion",
                "created": int(kept.created),
                "model": kept.model,
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": kept.text, "refusal": None},
                        "finish_reason": kept.finish,
                    }
                ],
                "usage": self.ways.usage(kept.charge, 0.0),
            }
        )


def messages(rows: object) -> list[tuple[str, str]]:
    if not isinstance(rows, list) or not rows:
        raise Bad("Invalid 'messages': expected a list that is not empty.", "messages")
    texts: list[tuple[str, str]] = []
    before = "system"
    for number, message in enumerate(rows):
        where = f"messages[{number}]"
        if not isinstance(message, dict):
            raise Bad(f"Invalid '{where}': expected an object.", where)
        role = message.get("role")
        if role not in ("system", "developer", "user", "assistant"):
            raise Bad(f"Invalid '{where}.role': {role!r} is not a role.", f"{where}.role")
        if role in ("system", "developer"):
            if number:
                raise Bad(f"Invalid '{where}.role': a system message comes first.", f"{where}.role")
        elif role == before or (before == "system" and role == "assistant"):
            raise Bad("Conversation roles must alternate user/assistant/user/assistant/...", f"{where}.role")
        else:
            before = role
        texts.append((role, content(message.get("content"), f"{where}.content")))
    if texts[-1][0] != "user":
        raise Bad("The last message must be from the user: prefill is not supported.", "messages")
    return texts


def content(found: object, where: str, type_: str = "text") -> str:
    """The text of a message that has some, in one or in parts."""
    if isinstance(found, list):
        texts = [part.get("text") for part in found if isinstance(part, dict) and part.get("type") == type_]
        if len(texts) != len(found) or not all(isinstance(text, str) for text in texts):
            raise Bad(f"Invalid '{where}': only text parts are supported.", where)
        found = "".join(str(text) for text in texts)
    if not isinstance(found, str) or not found.strip():
        raise Bad(f"Invalid '{where}': text content must not be empty.", where)
    return found


def _parts(reasoning: str, text: str | None) -> list[dict[str, Any]]:
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": reasoning}]}] if reasoning else []
    return [*thought, *([{"type": "text", "text": text}] if text else [])]


def _streaming(data: Mapping[str, Any]) -> tuple[bool, bool]:
    stream = flag(data, "stream", False)
    if "stream_options" not in data:
        return stream, False
    options = data["stream_options"]
    if not stream:
        raise Bad("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    if not isinstance(options, dict) or not isinstance(options.get("include_usage", False), bool):
        raise Bad("Invalid 'stream_options': expected an object with 'include_usage'.", "stream_options")
    return stream, options.get("include_usage", False)


def _max_tokens(data: Mapping[str, Any], names: Sequence[str]) -> int:
    given = [name for name in ("max_tokens", "max_completion_tokens") if name in data]
    if len(given) != 1:
        raise Bad("Set exactly one of 'max_tokens' and 'max_completion_tokens'.", "max_tokens")
    if given[0] not in names:
        raise Bad(f"Unsupported parameter: '{given[0]}'. Use '{names[0]}' instead.", given[0], "unsupported_parameter")
    return whole_number(data[given[0]], given[0], 1)
