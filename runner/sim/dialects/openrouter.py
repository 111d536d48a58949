"""OpenRouter: chat completions of many vendors, with a bill in every answer and reasons in every error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from types import MappingProxyType
from typing import Any, Final

import orjson

from runner.money import Price, Tier
from runner.sim.config import ModelConfig
from runner.sim.dialect import (
    Answer,
    Asked,
    Bad,
    Balance,
    Error,
    Headers,
    Record,
    SimRequest,
    Trouble,
    Why,
    effort,
    flag,
    json_object,
    table,
    timestamp,
    whole_number,
)
from runner.sim.dialects.chat import DONE, Chat, Ways, no_headers
from runner.sim.meter import Room

_NANOS: Final = 1_000_000_000
_UPSTREAM: Final = "sim"
_DROPPED: Final = frozenset(
    ("temperature", "top_p", "top_k", "min_p", "top_a", "seed", "frequency_penalty", "presence_penalty", "stop")
)
"""What is dropped in silence where a model does not take it."""
_ROUTING: Final = frozenset(
    (
        *("order", "only", "ignore", "allow_fallbacks", "require_parameters", "data_collection", "zdr"),
        *("quantizations", "sort", "preferred_min_throughput", "preferred_max_latency", "max_price"),
    )
)
_CAPS: Final = frozenset(("prompt", "completion", "request", "image"))
_REASONING: Final = frozenset(("effort", "max_tokens", "exclude", "enabled"))

_TYPES: Final[Mapping[Why, tuple[int, str]]] = MappingProxyType(
    {
        "invalid": (400, "invalid_request"),
        "url": (404, "not_found"),
        "method": (405, "invalid_request"),
        "no_record": (404, "not_found"),
        "unauthorized": (401, "authentication"),
        "no_money": (402, "payment_required"),
        "afford": (402, "payment_required"),
        "quota": (402, "payment_required"),
        "forbidden": (403, "permission_denied"),
        "not_found": (400, "not_found"),
        "context_length": (400, "context_length_exceeded"),
        "parameter": (404, "not_found"),
        "too_dear": (404, "not_found"),
        "busy": (429, "rate_limit_exceeded"),
        "day": (429, "rate_limit_exceeded"),
        "spend": (402, "payment_required"),
        "too_large": (413, "payload_too_large"),
        "unprocessable": (422, "unprocessable"),
        "moderated": (403, "content_policy_violation"),
        "loading": (503, "provider_overloaded"),
        "server": (0, "server"),
        "redirect": (307, "unmapped"),
    }
)
_OF_STATUS: Final = {
    408: "timeout",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
    524: "timeout",
    529: "provider_overloaded",
}
_AVAILABILITY: Final[Mapping[Why, tuple[str, bool]]] = MappingProxyType(
    {
        "not_found": ("model_not_found", False),
        "parameter": ("constraint_filtered", False),
        "too_dear": ("constraint_filtered", False),
        "busy": ("capacity_exhausted", True),
        "loading": ("temporarily_unavailable", True),
    }
)
_MESSAGES: Final[Mapping[Why, str]] = MappingProxyType(
    {
        "unauthorized": "No auth credentials found",
        "no_money": "Insufficient credits. Add more to go on.",
        "quota": "Key limit exceeded.",
        "spend": "Key limit exceeded (monthly limit).",
        "day": "Rate limit exceeded: free-models-per-day.",
        "parameter": "No endpoints found that can handle the requested parameters.",
        "too_dear": "No endpoints found within the max price.",
        "moderated": "Your input was flagged.",
    }
)


class OpenRouter(Chat):
    comment = b": OPENROUTER PROCESSING\n\n"

    # --- requests ------------------------------------------------------------------------------------------------

    def read(self, request: SimRequest) -> Asked:
        data = json_object(request.body)
        routing = table(data, "provider", _ROUTING)
        found = super().read(request)
        names = found.fields
        if not flag(routing, "require_parameters", False):
            names -= _DROPPED
        return replace(
            found,
            fields=names,
            cuts="middle" if _compresses(data.get("plugins", [])) else None,
            pays=_caps(table(routing, "max_price", _CAPS)),
        )

    def thinking(self, data: Mapping[str, Any], max_tokens: int) -> tuple[int | None, bool]:
        if "reasoning" not in data:
            return super().thinking(data, max_tokens)
        if "reasoning_effort" in data:
            raise Bad("Only one of 'reasoning' and 'reasoning_effort' can be given.", "reasoning")
        told = table(data, "reasoning", _REASONING)
        if "effort" in told and "max_tokens" in told:
            raise Bad("Only one of 'reasoning.effort' and 'reasoning.max_tokens' can be given.", "reasoning")
        most: int | None = None
        if "effort" in told:
            most = effort(told["effort"], "reasoning.effort", max_tokens)
        if "max_tokens" in told:
            most = whole_number(told["max_tokens"], "reasoning.max_tokens", 0)
        if not flag(told, "enabled", True):
            most = 0
        return most, not flag(told, "exclude", False)

    # --- answers -------------------------------------------------------------------------------------------------

    def usage(self, answer: Answer) -> Mapping[str, Any] | None:
        told = answer.told
        figures = self.ways.usage(told, answer.seconds)
        spent = told.cost / _NANOS
        figures["cost"] = 0 if answer.byok else spent
        figures["is_byok"] = answer.byok
        figures["cost_details"] = {"upstream_inference_cost": spent if answer.byok else None}
        return answer.usage(figures)

    def headed(self, answer: Answer) -> dict[str, Any]:
        return {"provider": _UPSTREAM}

    def chosen(self, answer: Answer) -> dict[str, Any]:
        return {"native_finish_reason": answer.finish}

    def headers(self, number: int, answer: Answer | None, rooms: tuple[Room, ...], wall: float) -> Headers:
        # The limits are told with a 429 alone, never with an answer.
        if answer is None:
            return ()
        replayed = (("x-openrouter-cache-status", "HIT"),) if answer.replayed else ()
        return (("x-generation-id", answer.id), *replayed)

    # --- errors --------------------------------------------------------------------------------------------------

    def error(self, trouble: Trouble, about: Asked | None) -> Error:
        found = self._object(trouble, about)
        headers: list[tuple[str, str]] = [*trouble.headers, *trouble.hinted]
        if trouble.why == "day" or (trouble.why == "busy" and trouble.limit is not None):
            headers += _limited(trouble)
        return Error(int(found["code"]), orjson.dumps({"error": found}), tuple(headers))

    def _object(self, trouble: Trouble, about: Asked | None) -> dict[str, Any]:
        status, type_ = _TYPES[trouble.why]
        status = status or trouble.status
        if trouble.why == "server":
            type_ = _OF_STATUS.get(status, type_)
        elif trouble.why == "spend" and trouble.status == 403:
            # The budget of a workspace, not of a key.
            status, type_ = 403, "permission_denied"
        message = _MESSAGES.get(trouble.why, trouble.message)
        if trouble.why == "afford" and about is not None:
            message = (
                "This request requires more credits, or fewer max_tokens. You requested up to "
                f"{about.max_tokens} tokens, but can only afford {trouble.most}."
            )
        metadata: dict[str, Any] = {"error_type": type_}
        if trouble.why == "moderated":
            metadata |= {"reasons": ["violence"], "flagged_input": "" if about is None else about.texts[-1][1][:100]}
        found: dict[str, Any] = {"code": status, "message": message, "metadata": metadata}
        if trouble.why in _AVAILABILITY or trouble.should_retry is not None:
            code, retryable = _AVAILABILITY.get(trouble.why, ("temporarily_unavailable", True))
            advised = retryable if trouble.should_retry is None else trouble.should_retry
            found["availability"] = {"code": code, "retryable": advised}
            if trouble.hint is not None and trouble.hint.seconds is not None:
                found["availability"]["retry_after"] = trouble.hint.seconds
        return found

    def inner(self, trouble: Trouble) -> dict[str, Any]:
        type_ = _OF_STATUS.get(trouble.status, "server")
        return {"code": trouble.status, "message": trouble.message, "metadata": {"error_type": type_}}

    def error_within(self, answer: Answer, trouble: Trouble, stream: bool) -> bytes:
        error = self.inner(trouble)
        if not stream:
            return orjson.dumps({"error": error})
        choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "native_finish_reason": "error"}
        chunk = {"id": answer.id, "model": answer.model, "provider": _UPSTREAM, "error": error, "choices": [choice]}
        return b"data: " + orjson.dumps(chunk) + b"\n\n" + DONE

    # --- look-ups ------------------------------------------------------------------------------------------------

    def row(self, name: str, config: ModelConfig, created: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": name,
            "canonical_slug": name,
            "name": name,
            "created": created,
            "context_length": config.context,
            "pricing": _pricing(config.price),
            "top_provider": {
                "context_length": config.context,
                "max_completion_tokens": config.max_output,
                "is_moderated": False,
            },
            "supported_parameters": ["max_tokens", "reasoning", "seed", "stop", "temperature", "top_p"],
        }
        if config.ends is not None:
            found["expiration_date"] = config.ends
        return found

    def models(self, rows: Mapping[str, ModelConfig], created: int) -> bytes | None:
        return orjson.dumps({"data": [self.row(name, config, created) for name, config in rows.items()]})

    def model(self, name: str, config: ModelConfig, created: int) -> bytes | None:
        return orjson.dumps({"data": self.row(name, config, created)})

    def record(self, kept: Record) -> bytes | None:
        charge = kept.charge
        spent = charge.cost / _NANOS
        return orjson.dumps(
            {
                "data": {
                    "id": kept.id,
                    "model": kept.model,
                    "created_at": timestamp(kept.created),
                    "provider_name": _UPSTREAM,
                    "streamed": kept.stream,
                    "cancelled": kept.left,
                    "finish_reason": kept.finish,
                    "native_finish_reason": kept.finish,
                    "total_cost": 0 if kept.byok else spent,
                    "usage": 0 if kept.byok else spent,
                    "is_byok": kept.byok,
                    "upstream_inference_cost": spent if kept.byok else None,
                    "tokens_prompt": charge.input,
                    "tokens_completion": charge.output,
                    "native_tokens_prompt": charge.input,
                    "native_tokens_completion": charge.output,
                    "native_tokens_reasoning": charge.reasoning,
                    "native_tokens_cached": charge.cached,
                }
            }
        )

    def account(self, about: Balance) -> bytes | None:
        spent = about.spent / _NANOS
        left = None if about.left is None else about.left / _NANOS
        return orjson.dumps(
            {
                "data": {
                    "label": "sim",
                    "limit": None if left is None else spent + left,
                    "limit_remaining": left,
                    "limit_reset": None,
                    "usage": spent,
                    "usage_daily": spent,
                    "usage_weekly": spent,
                    "usage_monthly": spent,
                    "is_free_tier": False,
                    "include_byok_in_limit": False,
                    "expires_at": None,
                }
            }
        )


def _caps(told: Mapping[str, Any]) -> tuple[float, float]:
    """The most that is paid for a million tokens of the input and of the output."""
    prompt, completion = (told.get(name, inf) for name in ("prompt", "completion"))
    if not all(isinstance(cap, int | float) and not isinstance(cap, bool) and cap >= 0 for cap in (prompt, completion)):
        raise Bad("Invalid 'provider.max_price': expected dollars per million tokens.", "provider")
    return prompt, completion


def _compresses(plugins: object) -> bool:
    """Whether a history may be shortened: it may, unless it is forbidden."""
    if not isinstance(plugins, list) or not all(isinstance(row, dict) and "id" in row for row in plugins):
        raise Bad("Invalid 'plugins': expected a list of objects with an 'id'.", "plugins")
    return not any(row["id"] == "context-compression" and row.get("enabled") is False for row in plugins)


def _limited(trouble: Trouble) -> Headers:
    """What a 429 of the router's own says of its limit."""
    room = next((room for room in trouble.rooms if room.limit == trouble.limit), None)
    seconds = None if trouble.hint is None else trouble.hint.seconds
    reset = room.reset if room is not None else seconds or 0.0
    return (
        ("x-ratelimit-limit", str(50 if room is None else room.most)),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", str(int((trouble.wall + reset) * 1000))),
    )


def _pricing(price: Price) -> dict[str, Any]:
    found: dict[str, Any] = _rates(price) | {"request": f"{price.request:f}", "image": "0"}
    if price.tiers:
        found["overrides"] = [{"min_prompt_tokens": tier.above, **_rates(tier)} for tier in price.tiers]
    return found


def _rates(rate: Price | Tier) -> dict[str, str]:
    names = {"prompt": rate.input, "completion": rate.output}
    caches = {"input_cache_read": rate.cache_read, "input_cache_write": rate.cache_write}
    told: Sequence[tuple[str, Any]] = [*names.items(), *((k, v) for k, v in caches.items() if v is not None)]
    return {name: f"{figure.scaleb(-6):f}" for name, figure in told}


OPENROUTER: Final = OpenRouter(
    Ways(
        also=frozenset(
            (
                *("seed", "reasoning", "reasoning_effort", "include_reasoning", "verbosity", "models", "provider"),
                *("plugins", "session_id", "trace", "service_tier", "cache_control", "top_k", "top_a", "min_p"),
                *("repetition_penalty", "logit_bias", "response_format", "usage", "transforms"),
            )
        ),
        limits=("max_completion_tokens", "max_tokens"),
        thought="reasoning",
        usage_always=True,
        limits_told=no_headers,
    )
)
