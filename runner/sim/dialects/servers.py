"""The chat servers that differ from plain chat in ways that a client can stumble over; most of it is data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import orjson

from runner.sim.config import ModelConfig
from runner.sim.dialect import Answer, Asked, Balance, Error, Headers, Resident, Trouble
from runner.sim.dialects.chat import (
    Chat,
    Ways,
    Word,
    deepseek_usage,
    groq_headers,
    groq_usage,
    no_headers,
    together_headers,
)
from runner.sim.meter import Room

_INVALID: Final = "invalid_request_error"
_SAMPLING: Final = ("top_k", "min_p", "repetition_penalty", "seed")


# --- DeepSeek ----------------------------------------------------------------------------------------------------


_MUCH: Final = "1000000.00"
"""What is in an account that has no end: it has to name a figure."""


class DeepSeek(Chat):
    """Blank lines keep the connection of a plain answer open."""

    idle = b"\n"

    def account(self, about: Balance) -> bytes | None:
        balance = {
            "currency": "USD",
            "total_balance": _MUCH if about.left is None else f"{about.left / 1_000_000_000:.2f}",
            "granted_balance": "0.00",
            "topped_up_balance": "0.00",
        }
        return orjson.dumps({"is_available": about.left is None or about.left > 0, "balance_infos": [balance]})


_BROKE: Final = Word(402, "unknown_error", _INVALID, "Insufficient Balance")
DEEPSEEK: Final = DeepSeek(
    Ways(
        also=frozenset(("thinking", "reasoning_effort", "seed", "response_format", "logprobs")),
        limits=("max_tokens",),
        usage=deepseek_usage,
        efforts=("low", "high", "max"),
        limits_told=no_headers,
        words={
            "unauthorized": Word(
                401, "authentication_error", _INVALID, "Authentication Fails, your api key is invalid"
            ),
            "no_money": _BROKE,
            "afford": _BROKE,
            "quota": _BROKE,
            "spend": _BROKE,
            "busy": Word(429, "rate_limit_error", "rate_limit_reached"),
        },
    )
)


# --- Z.ai --------------------------------------------------------------------------------------------------------


_BEIJING: Final = timezone(timedelta(hours=8))
"""The clock of the times that it names."""


class Zai(Chat):
    """A code of four digits says what a status alone does not."""

    def word(self, trouble: Trouble) -> Word:
        word = super().word(trouble)
        if trouble.why == "day" and trouble.hint is not None and trouble.hint.seconds is not None:
            until = datetime.fromtimestamp(trouble.wall + max(0.0, trouble.hint.seconds), _BEIJING)
            message = f"Usage limit reached. Your limit will reset at {until:%Y-%m-%d %H:%M:%S}"
            return word._replace(code="1308", message=message)
        if trouble.limit == "concurrency":
            return word._replace(code="1302")
        return word

    def object(self, trouble: Trouble) -> dict[str, Any]:
        word = self.word(trouble)
        return {"code": str(word.code or word.status), "message": word.message}

    def error_within(self, answer: Answer, trouble: Trouble, stream: bool) -> bytes:
        error = orjson.dumps(
            {"error": {"code": "1312" if trouble.status == 503 else "500", "message": trouble.message}}
        )
        return b"data: " + error + b"\n\n" if stream else error

    def error(self, trouble: Trouble, about: Asked | None) -> Error:
        # No header says when to come again: the code and the message have to.
        return super().error(trouble, about)._replace(headers=trouble.headers)


ZAI: Final = Zai(
    Ways(
        also=frozenset(("thinking", "do_sample", "seed", "request_id", "user_id", "response_format", "cache_control")),
        limits=("max_tokens",),
        limits_told=no_headers,
        statuses={503: (None, "1312"), 529: (None, "1312")},
        words={
            "invalid": Word(400, None, "1210"),
            "unauthorized": Word(401, None, "1000", "Authentication Failed"),
            "no_money": Word(429, None, "1113", "Insufficient balance or no resource package. Please recharge."),
            "afford": Word(429, None, "1113", "Insufficient balance or no resource package. Please recharge."),
            "quota": Word(429, None, "1113", "Insufficient balance or no resource package. Please recharge."),
            "spend": Word(429, None, "1310", "Monthly limit exhausted."),
            "forbidden": Word(403, None, "1220", "You do not have permission to access this API."),
            "not_found": Word(400, None, "1211", "Unknown Model, please check the model code."),
            "context_length": Word(400, None, "1261", "Prompt exceeds max length"),
            "parameter": Word(400, None, "1210"),
            "busy": Word(429, None, "1305", "The service may be temporarily overloaded, please try again later"),
            "day": Word(429, None, "1304", "Daily call limit reached"),
            "moderated": Word(400, None, "1301", "System detected potentially unsafe or sensitive content"),
            "loading": Word(503, None, "1312"),
        },
    )
)


# --- Mistral -----------------------------------------------------------------------------------------------------


class Mistral(Chat):
    """A body that is not in order is told apart by its fields."""

    def error(self, trouble: Trouble, about: Asked | None) -> Error:
        if trouble.why in ("invalid", "parameter", "unprocessable"):
            where = ["body", *(trouble.param or "").split(".")]
            detail = [{"type": "value_error", "loc": where, "msg": trouble.message, "input": None}]
            return Error(422, orjson.dumps({"detail": detail}), trouble.hinted)
        return super().error(trouble, about)

    def object(self, trouble: Trouble) -> dict[str, Any]:
        return {"object": "error", **super().object(trouble)}


MISTRAL: Final = Mistral(
    Ways(
        also=frozenset(
            (
                *("random_seed", "reasoning_effort", "prompt_mode", "safe_prompt", "prompt_cache_key"),
                *("response_format",),
            )
        ),
        limits=("max_tokens",),
        seed="random_seed",
        in_parts=True,
        usage_always=True,
        limits_told=no_headers,
        windows_listed="max_context_length",
        words={
            "busy": Word(429, "rate_limited", "1300", "Rate limit exceeded"),
        },
    )
)


# --- Groq, Together, xAI -----------------------------------------------------------------------------------------

GROQ: Final = Chat(
    Ways(
        also=frozenset(
            ("seed", "reasoning_effort", "reasoning_format", "include_reasoning", "service_tier", "response_format")
        ),
        limits=("max_completion_tokens", "max_tokens"),
        thought="reasoning",
        usage=groq_usage,
        efforts=("none", "default", "low", "medium", "high"),
        limits_told=groq_headers,
        windows_listed="context_window",
        statuses={498: ("internal_server_error", "capacity_exceeded")},
    )
)
TOGETHER: Final = Chat(
    Ways(
        also=frozenset((*_SAMPLING, "reasoning_effort", "response_format", "chat_template_kwargs")),
        limits=("max_tokens",),
        thought="reasoning",
        finishes={"stop": "eos"},
        limits_told=together_headers,
    )
)
XAI: Final = Chat(Ways(also=frozenset(("seed", "reasoning_effort", "response_format", "search_parameters"))))


# --- local servers -----------------------------------------------------------------------------------------------


def _timings(answer: Answer) -> Mapping[str, Any]:
    told = answer.told
    speed = 0.0 if not answer.pace.per_token else 1 / answer.pace.per_token
    return {
        "timings": {
            "cache_n": told.cached,
            "prompt_n": told.input - told.cached,
            "predicted_n": told.output,
            "predicted_per_second": speed,
        }
    }


_WINDOW: Final = 131_072
"""Of a model that is told to have none."""


class LlamaCpp(Chat):
    """Its errors have the status for a code, and one of them counts."""

    def object(self, trouble: Trouble) -> dict[str, Any]:
        word = self.word(trouble)
        return {"code": word.status, "message": word.message, "type": word.type}

    def error(self, trouble: Trouble, about: Asked | None) -> Error:
        error = self.object(trouble)
        if trouble.why == "context_length" and about is not None:
            error |= {"n_prompt_tokens": about.input_tokens, "n_ctx": trouble.most}
        return Error(self.word(trouble).status, orjson.dumps({"error": error}), (*trouble.headers, *trouble.hinted))

    def resident(self, loaded: Sequence[Resident], rows: Mapping[str, ModelConfig]) -> bytes | None:
        """It has one model, and that from the start."""
        name, config = next(iter(rows.items()))
        window = config.context or _WINDOW
        return orjson.dumps({"model_path": name, "total_slots": 1, "default_generation_settings": {"n_ctx": window}})

    def headers(self, number: int, answer: Answer | None, rooms: tuple[Room, ...], wall: float) -> Headers:
        return ()


class LmStudio(Chat):
    """Its own list says what is loaded."""

    def resident(self, loaded: Sequence[Resident], rows: Mapping[str, ModelConfig]) -> bytes | None:
        windows = {one.name: one.window for one in loaded}
        found = [
            {
                "type": "llm",
                "key": name,
                "max_context_length": config.context,
                "loaded_instances": (
                    [{"id": name, "config": {"context_length": windows[name]}}] if name in windows else []
                ),
            }
            for name, config in rows.items()
        ]
        return orjson.dumps({"models": found})


_LOCAL: Final = frozenset((*_SAMPLING, "chat_template_kwargs", "reasoning_effort", "response_format", "cache_prompt"))
VLLM: Final = Chat(
    Ways(
        also=_LOCAL,
        lenient=True,
        limits=("max_completion_tokens", "max_tokens"),
        thought="reasoning",
        limits_told=no_headers,
        windows_listed="max_model_len",
        words={
            "not_found": Word(404, "NotFoundError", 404),
            "context_length": Word(400, "BadRequestError", 400),
            "invalid": Word(400, "BadRequestError", 400),
        },
    )
)
LLAMACPP: Final = LlamaCpp(
    Ways(
        also=_LOCAL,
        lenient=True,
        extras=_timings,
        limits_told=no_headers,
        words={
            "context_length": Word(400, "exceed_context_size_error"),
            "loading": Word(503, "unavailable_error", None, "Loading model"),
            "busy": Word(503, "unavailable_error", None, "no slot available"),
        },
    )
)
LMSTUDIO: Final = LmStudio(
    Ways(
        also=_LOCAL | {"ttl"},
        lenient=True,
        limits=("max_tokens",),
        limits_told=no_headers,
        windows_listed="max_context_length",
    )
)
