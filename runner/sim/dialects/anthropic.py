"""Anthropic Messages: named events, cached tokens beside the input, and refusals that are answers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from runner.sim.config import ModelConfig
from runner.sim.dialect import (
    Answer,
    Asked,
    Bad,
    Dialect,
    Error,
    Headers,
    Hint,
    Piece,
    SimRequest,
    Trouble,
    Why,
    Written,
    asked,
    comments,
    effort,
    event,
    flag,
    in_range,
    integer,
    json_bytes,
    json_object,
    only,
    parts,
    stop_texts,
    table,
    timestamp,
    whole_number,
)
from runner.sim.dialects.chat import content
from runner.sim.meter import Room

_FIELDS: Final = frozenset(
    (
        *("model", "messages", "system", "max_tokens", "metadata", "stop_sequences", "stream", "temperature", "top_p"),
        *("top_k", "thinking", "output_config", "service_tier", "inference_geo", "cache_control"),
    )
)
_FEWEST_BUDGET: Final = 1024
_STOPS: Final = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_TYPES: Final[Mapping[Why, tuple[int, str]]] = MappingProxyType(
    {
        "invalid": (400, "invalid_request_error"),
        "url": (404, "not_found_error"),
        "method": (405, "invalid_request_error"),
        "no_record": (404, "not_found_error"),
        "unauthorized": (401, "authentication_error"),
        "no_money": (402, "billing_error"),
        "afford": (402, "billing_error"),
        "forbidden": (403, "permission_error"),
        "not_found": (404, "not_found_error"),
        "context_length": (400, "invalid_request_error"),
        "parameter": (400, "invalid_request_error"),
        "busy": (429, "rate_limit_error"),
        "day": (429, "rate_limit_error"),
        "quota": (429, "rate_limit_error"),
        "spend": (0, "rate_limit_error"),
        "too_large": (413, "request_too_large"),
        "unprocessable": (400, "invalid_request_error"),
        "moderated": (400, "invalid_request_error"),
        "loading": (529, "overloaded_error"),
        "server": (0, "api_error"),
        "redirect": (307, "api_error"),
    }
)
_OF_STATUS: Final = {408: "timeout_error", 409: "conflict_error", 504: "timeout_error", 529: "overloaded_error"}
_LIMITS: Final = (
    ("rpm", "requests"),
    ("tpm", "tokens"),
    ("input_tpm", "input-tokens"),
    ("output_tpm", "output-tokens"),
)


class Anthropic(Dialect):
    prefix = "msg_"
    comment = event("ping", {})
    end = event("message_stop", {})
    torn = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{\n\n' + event("message_stop", {})
    bills_refusals = False

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key") or super().key(headers)

    # --- requests ------------------------------------------------------------------------------------------------

    def read(self, request: SimRequest) -> Asked:
        if "anthropic-version" not in request.headers:
            raise Bad("anthropic-version: header is required")
        if "x-api-key" in request.headers and "authorization" in request.headers:
            raise Bad("Only one of x-api-key and Authorization may be sent.")
        data = json_object(request.body)
        only(data, _FIELDS)
        model = data.get("model")
        if not isinstance(model, str) or not model:
            raise Bad("model: Field required", "model")
        max_tokens = whole_number(data.get("max_tokens"), "max_tokens", 1)
        system = [("system", content(data["system"], "system"))] if "system" in data else []
        in_range(data, "temperature", 0, 1)
        in_range(data, "top_p", 0, 1)
        integer(data, "top_k")
        table(data, "metadata", frozenset(("user_id",)))
        most, shown = _thinking(data, max_tokens)
        return asked(
            model,
            [*system, *_messages(data.get("messages"))],
            max_tokens,
            flag(data, "stream", False),
            frozenset(data),
            stops=stop_texts(data, "stop_sequences", 64),
            most_thinking=most,
            shows_thinking=shown,
        )

    # --- answers -------------------------------------------------------------------------------------------------

    def plain(self, answer: Answer) -> bytes:
        if answer.failed is not None:
            return self.error_within(answer, answer.failed, False)
        blocks: list[dict[str, Any]] = []
        if answer.reasoning:
            shown = answer.reasoning if answer.shows_thinking else ""
            blocks.append({"type": "thinking", "thinking": shown, "signature": "c2lt"})
        if answer.text:
            blocks.append({"type": "text", "text": answer.text})
        body = {**self._message(answer, blocks), **_ended(answer)}
        if not answer.silent:
            body["usage"] = answer.usage({**_input(answer), **_output(answer)})
        return json_bytes(body)

    def _message(self, answer: Answer, blocks: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": answer.id,
            "type": "message",
            "role": "assistant",
            "model": answer.model,
            "content": blocks,
            "stop_reason": None,
            "stop_sequence": None,
        }

    def stream(self, answer: Answer, include_usage: bool) -> Written:
        start = self._message(answer, [])
        if not answer.silent:
            start["usage"] = answer.usage({**_input(answer), "output_tokens": 1})
        begun = event("message_start", {"message": start})
        waited = comments(answer.pace, self.comment, begun)
        opening = b"" if waited else begun
        pieces: list[Piece] = []
        open_: str | None = None
        index = -1
        rows = parts(answer)
        if answer.reasoning and not answer.shows_thinking:
            # A block of thinking that is not shown is there all the same, empty but for its signature.
            index, opening = 0, opening + _block(0, "thinking") + _signed(0) + event("content_block_stop", {"index": 0})
        for at, channel, text in rows:
            if channel == "refusal":
                # A refusal has no words of its own here: the reason for the end says it.
                continue
            if channel != open_:
                opening += _closed(index, open_)
                index += 1
                open_ = channel
                opening += _block(index, "thinking" if channel == "thought" else "text")
            pieces.append(Piece(at, opening + _delta(index, channel, text)))
            opening = b""
        tail = opening + _closed(index, open_)
        if answer.failed is not None:
            return Written(waited, tuple(pieces), tail + self.error_within(answer, answer.failed, True), answer.seconds)
        last: dict[str, Any] = {"delta": _ended(answer)}
        if not answer.silent:
            last["usage"] = answer.usage(_output(answer))
        return Written(waited, tuple(pieces), tail + event("message_delta", last) + self.end, answer.seconds)

    # --- errors --------------------------------------------------------------------------------------------------

    def error(self, trouble: Trouble, about: Asked | None) -> Error:
        status, type_ = _TYPES[trouble.why]
        status = status or trouble.status
        hinted = trouble.hinted
        error: dict[str, Any] = {"type": type_, "message": trouble.message}
        if trouble.why == "server":
            error["type"] = _OF_STATUS.get(status, type_)
        elif trouble.why in ("spend", "quota") and status == 400:
            until = timestamp(_next_month(trouble.wall))
            error["type"] = "invalid_request_error"
            error["message"] = (
                "You have reached your specified API usage limits. You will regain access on "
                f"{until[:10]} at {until[11:16]} UTC."
            )
        elif trouble.why in ("spend", "quota"):
            # Whoever has spent all is told no time to come again.
            error["details"] = {"error_code": "enforced_spend_limit_reached"}
            hinted = ()
        elif trouble.why in ("busy", "day") and trouble.hint is None:
            # A limit that time lifts always says when: without that it would mean money.
            hinted = Hint(1.0).headers()
        elif trouble.why == "context_length" and about is not None:
            error["message"] = f"prompt is too long: {about.input_tokens} tokens > {trouble.most} maximum"
            if about.input_tokens <= trouble.most:
                error["message"] = (
                    f"input length and `max_tokens` exceed context limit: {about.input_tokens} + {about.max_tokens} > "
                    f"{trouble.most}, decrease input length or `max_tokens` and try again"
                )
        elif trouble.why == "parameter":
            error["message"] = f"`{trouble.param}` is not supported on this model."
        headers = (*trouble.headers, *hinted, *trouble.advised, *_left(trouble.rooms, trouble.wall))
        return Error(status, orjson.dumps({"type": "error", "error": error, "request_id": "req_sim"}), headers)

    def error_within(self, answer: Answer, trouble: Trouble, stream: bool) -> bytes:
        error = {"type": _OF_STATUS.get(trouble.status, "api_error"), "message": trouble.message}
        return event("error", {"error": error}) if stream else orjson.dumps({"type": "error", "error": error})

    def headers(self, number: int, answer: Answer | None, rooms: tuple[Room, ...], wall: float) -> Headers:
        return (("request-id", f"req_{number}"), *_left(rooms, wall))

    # --- look-ups ------------------------------------------------------------------------------------------------

    def models(self, rows: Mapping[str, ModelConfig], created: int) -> bytes | None:
        data = [_row(name, config, created) for name, config in rows.items()]
        return orjson.dumps({"data": data, "has_more": False, "first_id": None, "last_id": None})

    def model(self, name: str, config: ModelConfig, created: int) -> bytes | None:
        return orjson.dumps(_row(name, config, created))


def _thinking(data: Mapping[str, Any], max_tokens: int) -> tuple[int | None, bool]:
    most: int | None = None
    told = table(data, "thinking", frozenset(("type", "budget_tokens", "display")))
    if told:
        kind = told.get("type")
        if kind not in ("adaptive", "enabled", "disabled", "between_tools"):
            raise Bad("thinking.type: Input should be 'adaptive', 'enabled' or 'disabled'", "thinking.type")
        if kind == "enabled" or "budget_tokens" in told:
            most = whole_number(told.get("budget_tokens"), "thinking.budget_tokens", _FEWEST_BUDGET)
            if most >= max_tokens:
                raise Bad("`max_tokens` must be greater than `thinking.budget_tokens`", "max_tokens")
        if kind in ("disabled", "between_tools"):
            most = 0
        if told.get("display", "summarized") not in ("summarized", "omitted"):
            raise Bad("thinking.display: Input should be 'summarized' or 'omitted'", "thinking.display")
    config = table(data, "output_config", frozenset(("effort", "format")))
    if "effort" in config:
        share = effort(config["effort"], "output_config.effort", max_tokens, ("low", "medium", "high", "xhigh", "max"))
        most = share if most is None else most
    return most, told.get("display") != "omitted"


def _messages(rows: object) -> list[tuple[str, str]]:
    if not isinstance(rows, list) or not rows:
        raise Bad("messages: at least one message is required", "messages")
    texts: list[tuple[str, str]] = []
    for number, message in enumerate(rows):
        where = f"messages.{number}"
        if not isinstance(message, dict):
            raise Bad(f"{where}: Input should be an object", where)
        only(message, frozenset(("role", "content")), f"{where}.")
        role = message.get("role")
        if role == "system":
            raise Bad("role 'system' is not supported on this model: use the top-level `system`", f"{where}.role")
        if role != ("user", "assistant")[number % 2]:
            raise Bad(
                "messages: roles must alternate between 'user' and 'assistant', beginning with 'user'", f"{where}.role"
            )
        text = content(message.get("content"), f"{where}.content")
        texts.append((role, text))
    if texts[-1][0] != "user":
        raise Bad("This model does not support assistant message prefill: the last message must be the user's.")
    return texts


def _input(answer: Answer) -> dict[str, Any]:
    told = answer.told
    return {
        "input_tokens": told.input - told.cached - told.written,
        "cache_creation_input_tokens": told.written,
        "cache_read_input_tokens": told.cached,
    }


def _output(answer: Answer) -> dict[str, Any]:
    return {
        "output_tokens": answer.told.output,
        "output_tokens_details": {"thinking_tokens": answer.told.reasoning},
    }


def _ended(answer: Answer) -> dict[str, Any]:
    reason = _STOPS.get(answer.finish, answer.finish)
    if answer.refusal is not None:
        reason = "refusal"
    elif answer.stopped_at is not None:
        reason = "stop_sequence"
    found: dict[str, Any] = {"stop_reason": reason, "stop_sequence": answer.stopped_at}
    if reason == "refusal":
        found["stop_details"] = {"type": "refusal", "category": None, "explanation": answer.refusal}
    return found


def _block(index: int, type_: str) -> bytes:
    block = {"type": type_, type_: ""} | ({"signature": ""} if type_ == "thinking" else {})
    return event("content_block_start", {"index": index, "content_block": block})


def _delta(index: int, channel: str, text: str) -> bytes:
    name = "thinking" if channel == "thought" else "text"
    return event("content_block_delta", {"index": index, "delta": {"type": f"{name}_delta", name: text}})


def _signed(index: int) -> bytes:
    delta = {"type": "signature_delta", "signature": "c2lt"}
    return event("content_block_delta", {"index": index, "delta": delta})


def _closed(index: int, channel: str | None) -> bytes:
    if channel is None:
        return b""
    return (_signed(index) if channel == "thought" else b"") + event("content_block_stop", {"index": index})


def _left(rooms: tuple[Room, ...], wall: float) -> Headers:
    """What is left: tokens in thousands, and the moment at which all of it is free again."""
    found = {room.limit: room for room in rooms}
    return tuple(
        row
        for limit, noun in _LIMITS
        if (room := found.get(limit)) is not None
        for row in (
            (f"anthropic-ratelimit-{noun}-limit", str(room.most)),
            (
                f"anthropic-ratelimit-{noun}-remaining",
                str(room.left if noun == "requests" else min(room.most, round(room.left, -3))),
            ),
            (f"anthropic-ratelimit-{noun}-reset", timestamp(wall + room.reset)),
        )
    )


def _next_month(wall: float) -> float:
    """When the month after this moment begins."""
    day = int(wall // 86_400) * 86_400
    this = timestamp(day)[:7]
    while timestamp(day)[:7] == this:
        day += 86_400
    return float(day)


def _row(name: str, config: ModelConfig, created: int) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": timestamp(created),
        "max_input_tokens": config.context,
        "max_tokens": config.max_output,
        "lifecycle": "active" if config.ends is None else "deprecated",
        "retires_at": config.ends,
    }


ANTHROPIC: Final = Anthropic()
