"""A provider as a pure function: a request and the time in, the pieces of an answer and the bill out.

Nothing here waits, reads a clock or touches the world; a shell performs the pieces at their times and says how each
exchange ended, by `finished` or `abandoned`, exactly once. The rules of the house:

- A request is looked at in this order: key, form, model, faults that refuse it, window, limits, faults in the answer.
- Billed is what is let in and answered, at once and for all the tokens that it will produce, thinking included; a
  client that leaves is billed in full too, unless `cancelled: produced` bills only what had been produced by then.
  A fault says by `billed` whether an answer that failed counts. What is refused is never billed.
- A reply depends on seed, model and messages alone, and a fault drawn by rate on these and the attempt: neither depends
  on the order in which requests come.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf, isfinite
from random import Random
from typing import Any, Final

from runner.money import Price, cost
from runner.sim import dialect
from runner.sim.bill import Account, Bill, Charge
from runner.sim.config import (
    CAST,
    KINDS,
    PASSING,
    Fault,
    Latency,
    Loaded,
    ModelConfig,
    Problem,
    SimConfig,
    Style,
    check_config,
    fault,
    load_config,
    price_of,
)
from runner.sim.delivery import SimAnswer, perform, retry_after, whole
from runner.sim.dialect import Answer, Asked, Error, Headers, Mark, Piece
from runner.sim.meter import Limits, Meter, Refusal, plain_seconds
from runner.sim.replies import count_tokens, fit, sentences, thoughts

__all__ = [
    "CAST",
    "KINDS",
    "PASSING",
    "Account",
    "Bill",
    "Charge",
    "Engine",
    "Fault",
    "Latency",
    "Limits",
    "Loaded",
    "Mark",
    "ModelConfig",
    "Piece",
    "Problem",
    "Received",
    "SimAnswer",
    "SimConfig",
    "SimRequest",
    "Style",
    "check_config",
    "count_tokens",
    "fault",
    "load_config",
    "price_of",
]

_REFUSING: Final = (
    *("busy", "quota", "unauthorized", "no_money", "forbidden", "not_found", "context_length"),
    *("unsupported_parameter", "redirect"),
)
_REASONING_SPREAD: Final = 0.4
_FEWEST_THOUGHTS: Final = 60
"""What a model that answers with nothing but thinking thinks at least, when no limit ends it."""


@dataclass(frozen=True, slots=True)
class SimRequest:
    """A request as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(slots=True)
class Received:
    """One chat request that reached the provider, and what became of it."""

    id: int
    sha256: str
    model: str | None
    body: bytes | None
    outcome: str = "answered"
    """`answered`, the kind of its fault, or why it was refused."""
    ended: str = "open"
    """`open`, `finished`, or `left` by the client."""

    def record(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "sha256": self.sha256,
            "model": self.model,
            "outcome": self.outcome,
            "ended": self.ended,
        }


@dataclass(frozen=True, slots=True)
class _Flight:
    """An answer that is let in and not yet over."""

    began: float
    pace: Latency
    price: Price
    charge: Charge
    meters: tuple[Meter, ...]
    output: int

    def produced(self, now: float) -> int:
        """Output tokens that exist by now."""
        seconds = now - self.began - self.pace.first
        if seconds < 0:
            return 0
        return self.output if not self.pace.per_token else min(self.output, int(seconds / self.pace.per_token))


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is decided about one answer, before it is written."""

    answer: Answer
    pace: Latency
    charge: Charge


class Engine:
    """A whole provider; all it knows is here, and two engines share nothing."""

    def __init__(self, config: SimConfig | None = None) -> None:
        self.config = SimConfig() if config is None else config
        self._last = 0
        self.reset()

    def reset(self) -> None:
        """Forget everything but the configuration; ids go on, so that what is in the air is not taken for another."""
        self.bill = Bill()
        self.received: list[Received] = []
        self.played: dict[str, int] = {}
        """How often each kind of fault has happened."""
        self._began: float | None = None
        self._requests: dict[str, int] = {}
        self._attempts: dict[bytes, int] = {}
        self._meters: dict[tuple[str, str | None], Meter] = {}
        self._flights: dict[int, _Flight] = {}
        self._open: dict[int, Received] = {}

    # --- what the shells call ------------------------------------------------------------------------------------

    def handle(self, request: SimRequest, now: float) -> SimAnswer:
        """The answer to a request that arrives `now`; its pieces are timed from then."""
        self._last += 1
        if self._began is None:
            self._began = now
        path = request.path.partition("?")[0]
        if path.endswith("/chat/completions"):
            if request.method == "POST":
                return self._chat(self._last, request, now)
        elif path.endswith("/models"):
            if request.method == "GET":
                return self._models(self._last, request)
        else:
            return self._refused(self._last, Error(404, f"Unknown request URL: {request.method} {path}."))
        return self._refused(self._last, Error(405, f"Not allowed to {request.method} on {path}."))

    def finished(self, request: int, now: float) -> None:
        """The answer went out whole, or the provider itself broke it off."""
        self._over(request, "finished")
        flight = self._flights.pop(request, None)
        if flight is not None:
            for meter in flight.meters:
                meter.ended(request, now, flight.output)

    def abandoned(self, request: int, now: float) -> None:
        """The client left before the end."""
        self._over(request, "left")
        flight = self._flights.pop(request, None)
        if flight is None:
            return
        produced = flight.produced(now)
        for meter in flight.meters:
            meter.ended(request, now, produced if self.config.cancelled == "produced" else flight.output)
        charge = flight.charge
        if self.config.cancelled == "produced" and charge.output:
            output = min(charge.output, produced)
            self.bill.charge(
                request,
                charge._replace(
                    output=output,
                    reasoning=min(charge.reasoning, output),
                    cost=cost(flight.price, charge.input, output, charge.cached),
                ),
            )

    def _over(self, request: int, how: str) -> None:
        record = self._open.pop(request, None)
        if record is not None:
            record.ended = how

    # --- one request ---------------------------------------------------------------------------------------------

    def _chat(self, number: int, request: SimRequest, now: float) -> SimAnswer:
        record = Received(
            number, hashlib.sha256(request.body).hexdigest(), None, request.body if self.config.keep_bodies else None
        )
        self.received.append(record)
        self._open[number] = record
        key = self._key(request)
        if key is None:
            return self._refused(number, _UNAUTHORIZED, "unauthorized")
        asked = dialect.read(request.body)
        if isinstance(asked, Error):
            return self._refused(number, asked, "invalid")
        record.model = asked.model
        model = self.config.model(asked.model)
        if model is None:
            return self._refused(number, _unknown(asked.model), "unknown_model")
        attempt = self._attempts[asked.digest] = self._attempts.get(asked.digest, 0) + 1
        self._requests[asked.model] = self._requests.get(asked.model, 0) + 1
        broken = self._fault(asked, model, attempt, now)
        if broken is not None and broken.kind == "refused":
            self._played(broken)
            self.received.pop()
            del self._open[number]
            return SimAnswer(number, 0, (), (Piece(0.0, Mark.REFUSED),))
        if broken is not None and broken.kind in _REFUSING:
            self._played(broken)
            return self._refused(number, self._refusal(broken, asked, now), broken.kind)
        if model.context is not None and asked.input_tokens + asked.max_tokens > model.context:
            return self._refused(number, _too_long(asked, model.context), "context_length")
        meters = tuple(self._account(key, asked.model, model))
        refusals = [r for m in meters if (r := m.refusal(now, asked.input_tokens, asked.max_tokens)) is not None]
        if refusals:
            longest = max(refusals, key=lambda r: -1.0 if r.wait is None else r.wait)
            return self._refused(number, _busy(longest, asked.model, _left(meters, now)), longest.limit)
        for meter in meters:
            meter.let_in(number, now, asked.input_tokens, asked.max_tokens)
        if broken is not None:
            self._played(broken)
            record.outcome = broken.kind
        return self._answered(number, asked, model, broken, meters, now)

    def _answered(
        self,
        number: int,
        asked: Asked,
        model: ModelConfig,
        broken: Fault | None,
        meters: tuple[Meter, ...],
        now: float,
    ) -> SimAnswer:
        turn = self._turn(number, asked, model, broken, now)
        charge = turn.charge if broken is None or broken.billed else Charge(asked.model)
        self.bill.charge(number, charge)
        output = turn.answer.output_tokens
        self._flights[number] = _Flight(now, turn.pace, model.price, charge, meters, output)
        answer = perform(number, asked, turn.answer, turn.pace, broken, self.config.epoch + now)
        ends = inf if answer.pieces[-1].what is Mark.STALL else now + answer.pieces[-1].at
        for meter in meters:
            meter.planned(number, ends)
        return replace(answer, headers=(*answer.headers, ("x-request-id", f"req-{number}"), *_left(meters, now)))

    def _refused(self, number: int, error: Error, reason: str | None = None) -> SimAnswer:
        if reason is not None:
            self.bill.refuse(reason)
            self._open[number].outcome = reason
        return whole(number, error.status, error.body(), (*error.headers, ("x-request-id", f"req-{number}")))

    def _models(self, number: int, request: SimRequest) -> SimAnswer:
        if self._key(request) is None:
            return self._refused(number, _UNAUTHORIZED)
        rows = [
            {
                "id": name,
                "object": "model",
                "created": int(self.config.epoch),
                "owned_by": "sim",
                "context_length": model.context,
                "pricing": {
                    "prompt": f"{model.price.input.scaleb(-6):f}",
                    "completion": f"{model.price.output.scaleb(-6):f}",
                },
            }
            for name, model in self.config.models.items()
        ]
        return whole(number, 200, dialect.catalogue(rows), ())

    def _key(self, request: SimRequest) -> str | None:
        """Whose account it is; None when nobody's."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if not self.config.keys or (scheme.lower() == "bearer" and key in self.config.keys):
            return key
        return None

    def _account(self, key: str, name: str, model: ModelConfig) -> Iterator[Meter]:
        """The meters that a request must pass: the key's, and the model's own for this key."""
        for place, limits in (((key, None), self.config.limits), ((key, name), model.limits)):
            meter = self._meters.get(place)
            if meter is None:
                meter = self._meters[place] = Meter(limits, self.config.epoch)
            yield meter

    # --- what goes wrong -----------------------------------------------------------------------------------------

    def _played(self, broken: Fault) -> None:
        self.played[broken.kind] = self.played.get(broken.kind, 0) + 1

    def _fault(self, asked: Asked, model: ModelConfig, attempt: int, now: float) -> Fault | None:
        for place, candidate in enumerate((*self.config.faults, *model.faults)):
            if self._happens(candidate, asked, attempt, now) and (
                candidate.rate is None or self._chance(asked, f"fault {place} {attempt}") < candidate.rate
            ):
                return candidate
        if self.config.fault_rate and self._chance(asked, f"rate {attempt}") < self.config.fault_rate:
            return PASSING[int(self._chance(asked, f"which {attempt}") * len(PASSING))]
        return None

    def _happens(self, candidate: Fault, asked: Asked, attempt: int, now: float) -> bool:
        since = now - (now if self._began is None else self._began)
        return (
            candidate.model in (None, asked.model)
            and (not candidate.request or self._requests[asked.model] in candidate.request)
            and (not candidate.attempt or attempt in candidate.attempt)
            and (candidate.contains is None or any(candidate.contains in text for _, text in asked.texts))
            and candidate.since <= since
            and (candidate.until is None or since < candidate.until)
            and (candidate.kind != "unsupported_parameter" or candidate.param in asked.fields)
        )

    def _chance(self, asked: Asked, what: str) -> float:
        """A number in [0, 1) that depends on the seed, the request and `what` alone."""
        drawn = hashlib.sha256(asked.digest + f"{self.config.seed} {what}".encode()).digest()
        return int.from_bytes(drawn[:7], "big") / (1 << 56)

    def _refusal(self, broken: Fault, asked: Asked, now: float) -> Error:
        retry = retry_after(broken, self.config.epoch + now)
        match broken.kind:
            case "busy":
                return Error(429, _SLOW_DOWN, "requests", code="rate_limit_exceeded", headers=retry)
            case "quota":
                return Error(429, _NO_QUOTA, "insufficient_quota", code="insufficient_quota", headers=retry)
            case "unauthorized":
                return _UNAUTHORIZED
            case "no_money":
                return Error(402, "This account has no credits left.", "insufficient_credits", code="payment_required")
            case "forbidden":
                return Error(403, "This key may not use this model.", "permission_error", code="permission_denied")
            case "not_found":
                return _unknown(asked.model)
            case "context_length":
                return _too_long(asked, max(1, asked.input_tokens - 1))
            case "redirect":
                return Error(307, "Moved.", headers=(("location", broken.location),))
        message = f"Unsupported parameter: '{broken.param}' is not supported with this model."
        return Error(400, message, param=broken.param, code="unsupported_parameter")

    # --- what is said --------------------------------------------------------------------------------------------

    def _turn(self, number: int, asked: Asked, model: ModelConfig, broken: Fault | None, now: float) -> _Turn:
        random = Random(int(self._chance(asked, "reply") * (1 << 53)))
        pace = _pace(model.latency, random)
        thinking = min(asked.max_tokens, _around(model.reasoning, _REASONING_SPREAD, random))
        reasoning = thoughts(random, thinking)
        thinking = count_tokens(reasoning)
        whole = _text(asked, model.reply, random)
        text: str | None = fit(whole, asked.max_tokens - thinking)
        finish = "stop" if text == whole else "length"
        refusal: str | None = None
        error: dict[str, Any] | None = None
        served = asked.model
        visible: int | None = None
        match broken.kind if broken is not None else "":
            case "blank":
                text, reasoning, thinking, finish, visible = "", "", 0, "stop", 1
            case "whitespace":
                text, finish = "\n \n", "stop"
            case "thinking_only":
                assert broken is not None
                finish, text, visible = broken.finish, "", 0
                most = asked.max_tokens if finish == "length" else max(model.reasoning, _FEWEST_THOUGHTS)
                reasoning = thoughts(random, min(most, asked.max_tokens))
                thinking = count_tokens(reasoning)
            case "filtered":
                assert broken is not None
                text, finish = (text or "")[: len(text or "") // 2] if broken.text else None, "content_filter"
            case "refusal":
                text, finish, refusal = None, "stop", fit(_NO, asked.max_tokens - thinking)
            case "finish_error":
                text, finish = (text or "")[: len(text or "") // 2], "error"
                error = {"code": 502, "message": _UPSTREAM, "metadata": {"error_type": "provider_unavailable"}}
            case "overrun":
                assert broken is not None
                text, finish = sentences(random, int(asked.max_tokens * broken.times) + 1), "stop"
            case "other_model":
                assert broken is not None
                served = broken.served
            case "late":
                assert broken is not None
                pace = replace(pace, first=pace.first + broken.seconds)
        if visible is None:
            visible = count_tokens(text or refusal or "")
        charge = self._charge(asked, model, thinking + visible, thinking)
        told = Charge(asked.model) if broken is not None and broken.kind == "blank" and not broken.billed else charge
        usage: Mapping[str, Any] | None = _usage(told, model.reports_cost)
        has_usage = broken is None or broken.kind != "finish_error"
        if broken is not None and broken.kind == "usage":
            has_usage = broken.form != "missing"
            usage = None if usage is None or broken.form in ("missing", "null") else _bent(usage, broken.form)
        answer = Answer(
            id=f"gen-{asked.digest.hex()[:12]}-{number}",
            created=int(self.config.epoch + now),
            model=served,
            text=text,
            finish=finish,
            output_tokens=thinking + visible,
            reasoning=reasoning,
            reasoning_tokens=thinking,
            reasoning_field=model.reasoning_field,
            refusal=refusal,
            error=error,
            has_usage=has_usage,
            usage=usage,
        )
        return _Turn(answer, pace, charge)

    def _charge(self, asked: Asked, model: ModelConfig, output: int, reasoning: int) -> Charge:
        cached = int(model.cached * (asked.input_tokens - asked.last_tokens))
        return Charge(
            asked.model,
            asked.input_tokens,
            output,
            reasoning,
            cached,
            cost(model.price, asked.input_tokens, output, cached),
        )


_HUGE: Final = 10**18
_NO: Final = "I would rather not go on with this."
_UPSTREAM: Final = "The upstream provider went away."
_SLOW_DOWN: Final = "Rate limit reached. Please slow down."
_NO_QUOTA: Final = "You exceeded your current quota, please check your plan and billing details."
_UNAUTHORIZED: Final = Error(401, "Incorrect API key provided.", "authentication_error", code="invalid_api_key")


def _left(meters: tuple[Meter, ...], now: float) -> Headers:
    """What the innermost account that says anything has left."""
    return next((headers for meter in reversed(meters) if (headers := tuple(meter.headers(now)))), ())


def _unknown(model: str) -> Error:
    return Error(404, f"The model `{model}` does not exist.", param="model", code="model_not_found")


def _too_long(asked: Asked, context: int) -> Error:
    message = (
        f"This model's maximum context length is {context} tokens. However, you requested "
        f"{asked.input_tokens + asked.max_tokens} tokens ({asked.input_tokens} in the messages, "
        f"{asked.max_tokens} in the completion)."
    )
    return Error(400, message, param="messages", code="context_length_exceeded")


def _busy(refusal: Refusal, model: str, headers: Headers) -> Error:
    noun = "tokens" if "tpm" in refusal.limit else "requests"
    message = f"Rate limit reached for {model} on {refusal.limit}."
    if refusal.wait is not None and isfinite(refusal.wait):
        wait = plain_seconds(refusal.wait)
        headers = (("retry-after", wait), *headers)
        message += f" Please try again in {wait}s."
    elif refusal.wait is not None:
        message += " The request is larger than the limit."
    return Error(429, message, noun, code="rate_limit_exceeded", headers=headers)


def _pace(latency: Latency, random: Random) -> Latency:
    """The latency of one request, its spread drawn."""
    return replace(
        latency,
        first=latency.first * (1 + latency.spread * (2 * random.random() - 1)),
        per_token=latency.per_token * (1 + latency.spread * (2 * random.random() - 1)),
    )


def _around(mean: int, spread: float, random: Random) -> int:
    return round(mean * (1 + spread * (2 * random.random() - 1)))


def _text(asked: Asked, style: Style, random: Random) -> str:
    if style.echo:
        return asked.texts[-1][1]
    if style.texts:
        return style.texts[sum(role == "assistant" for role, _ in asked.texts) % len(style.texts)]
    return sentences(random, max(1, _around(style.mean, style.spread, random)))


def _usage(charge: Charge, reports_cost: bool) -> dict[str, Any]:
    usage: dict[str, Any] = {
        "prompt_tokens": charge.input,
        "completion_tokens": charge.output,
        "total_tokens": charge.input + charge.output,
        "prompt_tokens_details": {"cached_tokens": charge.cached},
        "completion_tokens_details": {"reasoning_tokens": charge.reasoning},
    }
    if reports_cost:
        usage["cost"] = charge.cost / 1_000_000_000
    return usage


def _bent(usage: Mapping[str, Any], form: str) -> dict[str, Any]:
    """The usage object with token counts that nobody should believe."""
    bent: dict[str, Any] = {}
    for name, value in usage.items():
        if isinstance(value, dict):
            bent[name] = _bent(value, form)
        elif name == "cost":
            bent[name] = value
        else:
            forms = {"strings": str(value), "floats": value + 0.5, "negative": -value - 1, "huge": _HUGE}
            bent[name] = forms.get(form, 0)
    return bent
