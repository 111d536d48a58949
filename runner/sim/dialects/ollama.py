"""Ollama's own format: lines of JSON, counters that are left out when they are nothing, and prompts cut in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    Piece,
    Resident,
    SimRequest,
    Trouble,
    Warming,
    Why,
    Written,
    asked,
    effort,
    flag,
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
from runner.sim.dialects.chat import messages
from runner.sim.meter import Room

_FIELDS: Final = frozenset(
    ("model", "messages", "stream", "think", "format", "keep_alive", "options", "truncate", "shift", "tools")
)
_OPTIONS: Final = frozenset(
    (
        *("num_ctx", "num_predict", "temperature", "top_k", "top_p", "min_p", "seed", "stop", "repeat_penalty"),
        *("presence_penalty", "frequency_penalty", "repeat_last_n", "num_gpu", "num_thread", "num_batch"),
    )
)
_WINDOW: Final = 4096
"""Of whoever asks for none."""
_MOST_STOPS: Final = 64
_WINDOWS_WITHOUT_LIMIT: Final = 10
_SIZE: Final = 8_000_000_000
"""Of every model, in bytes."""
_BUSY: Final = "server busy, please try again. maximum pending requests exceeded"
_STATUSES: Final[Mapping[Why, int]] = MappingProxyType(
    {
        "invalid": 400,
        "url": 404,
        "method": 405,
        "no_record": 404,
        "unauthorized": 401,
        "no_money": 402,
        "afford": 402,
        "forbidden": 403,
        "not_found": 404,
        "context_length": 400,
        "parameter": 400,
        "busy": 503,
        "quota": 429,
        "day": 429,
        "spend": 429,
        "too_large": 413,
        "unprocessable": 400,
        "moderated": 400,
        "loading": 503,
        "redirect": 307,
    }
)


class Ollama(Dialect):
    prefix = ""
    stream_type = "application/x-ndjson"
    comment = b"\n"
    torn = b'{"model":"m","message":{"role":"assistant","content":\n'

    # --- requests ------------------------------------------------------------------------------------------------

    def read(self, request: SimRequest) -> Asked:
        data = json_object(request.body)
        only(data, _FIELDS)
        model = data.get("model")
        if not isinstance(model, str) or not model:
            raise Bad("model is required", "model")
        options = table(data, "options", _OPTIONS)
        for name in ("num_ctx", "num_predict", "seed", "top_k"):
            integer(options, name)
        for name in ("temperature", "top_p", "min_p", "repeat_penalty"):
            value = options.get(name, 0.0)
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise Bad(f'option "{name}" must be of type float32', name)
        window = whole_number(options.get("num_ctx", _WINDOW), "num_ctx", 1)
        if data.get("messages") == []:
            stays = data.get("keep_alive") != 0
            raise Warming(model, window, stays, _warmed(model, stays))
        most = options.get("num_predict", -1)
        most = window * _WINDOWS_WITHOUT_LIMIT if most < 0 else whole_number(most, "num_predict", 1)
        return asked(
            model,
            messages(data.get("messages")),
            most,
            flag(data, "stream", True),
            frozenset((*data, *options)),
            stops=stop_texts(options, "stop", _MOST_STOPS),
            most_thinking=_thinking(data, most),
            window=window,
            cuts="oldest" if flag(data, "truncate", True) else None,
            counts_output=False,
            shifts=flag(data, "shift", True),
        )

    # --- answers -------------------------------------------------------------------------------------------------

    def plain(self, answer: Answer) -> bytes:
        if answer.failed is not None:
            return self.error_within(answer, answer.failed, False)
        message = {"role": "assistant", "content": answer.text or answer.refusal or ""}
        if answer.reasoning:
            message["thinking"] = answer.reasoning
        return json_bytes(_line(answer, message, True))

    def stream(self, answer: Answer, include_usage: bool) -> Written:
        pieces: list[Piece] = []
        for at, channel, text in parts(answer):
            thought = channel == "thought"
            message = {"role": "assistant", "content": "" if thought else text} | (
                {"thinking": text} if thought else {}
            )
            pieces.append(Piece(at, json_bytes(_line(answer, message, False)) + b"\n"))
        if answer.failed is not None:
            return Written((), tuple(pieces), self.error_within(answer, answer.failed, True), answer.seconds)
        tail = json_bytes(_line(answer, {"role": "assistant", "content": ""}, True)) + b"\n"
        return Written((), tuple(pieces), tail, answer.seconds)

    def last(self, tail: bytes) -> bytes:
        return tail

    # --- errors --------------------------------------------------------------------------------------------------

    def error(self, trouble: Trouble, about: Asked | None) -> Error:
        message = trouble.message
        name = "" if about is None else about.model
        if trouble.why == "busy":
            message = _BUSY
        elif trouble.why == "not_found" and about is not None:
            message = f"model '{name}' not found"
        elif trouble.why == "context_length":
            message = "the prompt is too long for the context window of the model"
        elif trouble.why == "parameter":
            thinks = trouble.param == "think"
            message = f'"{name}" does not support thinking' if thinks else f"invalid option provided: {trouble.param}"
        status = _STATUSES.get(trouble.why, trouble.status)
        return Error(status, orjson.dumps({"error": message}), (*trouble.headers, *trouble.hinted))

    def error_within(self, answer: Answer, trouble: Trouble, stream: bool) -> bytes:
        return orjson.dumps({"error": trouble.message}) + (b"\n" if stream else b"")

    def headers(self, number: int, answer: Answer | None, rooms: tuple[Room, ...], wall: float) -> Headers:
        return ()

    # --- look-ups ------------------------------------------------------------------------------------------------

    def models(self, rows: Mapping[str, ModelConfig], created: int) -> bytes | None:
        return orjson.dumps({"models": [_tag(name, config, created) for name, config in rows.items()]})

    def resident(self, loaded: Sequence[Resident], rows: Mapping[str, ModelConfig]) -> bytes | None:
        found = [
            {
                "name": one.name,
                "model": one.name,
                "digest": _digest(one.name),
                "size": _SIZE,
                "size_vram": int(_SIZE * one.config.gpu),
                "expires_at": timestamp(one.until),
                "context_length": one.window,
            }
            for one in loaded
        ]
        return orjson.dumps({"models": found})


def _warmed(model: str, stays: bool) -> bytes:
    message = {"role": "assistant", "content": ""}
    reason = "load" if stays else "unload"
    return orjson.dumps({"model": model, "message": message, "done": True, "done_reason": reason}) + b"\n"


def _thinking(data: Mapping[str, Any], max_tokens: int) -> int | None:
    think = data.get("think")
    if think is None or think is True:
        return None
    if think is False:
        return 0
    return effort(think, "think", max_tokens, ("low", "medium", "high", "max"))


def _line(answer: Answer, message: Mapping[str, Any], done: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "model": answer.model,
        "created_at": timestamp(answer.created),
        "message": message,
        "done": done,
    }
    if not done:
        return line
    # It knows two reasons for an end: a filter or a refusal is none of them.
    words = {"content_filter": "stop"}
    line["done_reason"] = words.get(answer.finish, answer.finish)
    told = answer.told
    first = int(answer.pace.first * 1e9)
    writing = int(answer.pace.per_token * answer.output_tokens * 1e9)
    line |= _counters({"total_duration": first + writing, "load_duration": first // 4})
    if answer.silent:
        return line
    counters = _counters({"prompt_eval_count": told.input, "eval_count": told.output})
    if answer.usage_form == "null":
        return line | dict.fromkeys(counters)
    bent = _counters(answer.usage(counters) or {})
    return line | bent | _counters({"prompt_eval_duration": first, "eval_duration": writing})


def _counters(figures: Mapping[str, Any]) -> dict[str, Any]:
    """What is nothing is left out."""
    return {name: figure for name, figure in figures.items() if figure}


def _digest(name: str) -> str:
    return (name.encode().hex() * 64)[:64]


def _tag(name: str, config: ModelConfig, created: int) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": timestamp(created),
        "size": _SIZE,
        "digest": _digest(name),
        "details": {
            "format": "gguf",
            "family": "sim",
            "parameter_size": "8B",
            "quantization_level": "Q4_K_M",
            "context_length": config.context or 131_072,
        },
        "capabilities": ["completion", *(["thinking"] if config.reasoning else [])],
    }


OLLAMA: Final = Ollama()
