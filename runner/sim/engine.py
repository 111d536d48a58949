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
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, inf, isfinite
from random import Random
from typing import Any, Final, NamedTuple

from runner.money import Price, cost
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
from runner.sim.delivery import UPSTREAM, SimAnswer, hint_of, perform, whole
from runner.sim.dialect import (
    Answer,
    Asked,
    Bad,
    Balance,
    Dialect,
    Error,
    Hint,
    Mark,
    Piece,
    Record,
    Resident,
    SimRequest,
    Trouble,
    Warming,
    Why,
    shortened,
)
from runner.sim.dialects import Route, route
from runner.sim.dialects.openrouter import OPENROUTER
from runner.sim.meter import Limits, Meter, Refusal, Room, plain_seconds
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
    *("busy", "quota", "day", "spend", "unauthorized", "no_money", "afford", "forbidden", "not_found"),
    *("context_length", "unsupported_parameter", "too_large", "unprocessable", "moderated", "loading", "redirect"),
)
_KEEP_ALIVE: Final = 300.0
"""Seconds for which a model stays in memory."""
_DAY: Final = 86_400.0
_LEAST_ROOM: Final = 16
"""Nothing can be cut to less."""
_COMPRESSED_BELOW: Final = 8_192
"""Windows of at most so many tokens are made do by leaving out what stands in the middle."""
_REASONING_SPREAD: Final = 0.4
_FEWEST_THOUGHTS: Final = 60
"""What a model that answers with nothing but thinking thinks at least, when no limit ends it."""


@dataclass(slots=True)
class Received:
    """One request for an answer that reached the provider, and what became of it."""

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

    @property
    def ends(self) -> float:
        """When it is over, if the client stays."""
        return self.began + self.pace.first + self.pace.per_token * self.output

    def produced(self, now: float) -> int:
        """Output tokens that exist by now."""
        seconds = now - self.began - self.pace.first
        if seconds < 0:
            return 0
        return self.output if not self.pace.per_token else min(self.output, int(seconds / self.pace.per_token))


class _Turn(NamedTuple):
    """What is decided about one answer, before it is written."""

    answer: Answer
    charge: Charge


@dataclass(slots=True)
class _Kept:
    """An answer that may be looked up."""

    answer: Answer
    byok: bool
    stream: bool
    ended: float | None = None
    left: bool = False


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
        self._kept: dict[int, _Kept] = {}
        self._resident: dict[str, Resident] = {}
        self._ready: dict[str, float] = {}
        """From when on a model is in memory."""
        self.loads: list[str] = []
        """The models that were put into memory, in order."""

    # --- what the shells call ------------------------------------------------------------------------------------

    def handle(self, request: SimRequest, now: float) -> SimAnswer:
        """The answer to a request that arrives `now`; its pieces are timed from then."""
        self._last += 1
        if self._began is None:
            self._began = now
        found = route(request, self.config.speaks)
        if found.purpose == "answer":
            return self._answer(self._last, found.dialect, request, now)
        return self._told(self._last, found, request, now)

    def finished(self, request: int, now: float) -> None:
        """The answer went out whole, or the provider itself broke it off."""
        self._over(request, "finished", now)
        flight = self._flights.pop(request, None)
        if flight is not None:
            for meter in flight.meters:
                meter.ended(request, now, flight.output)

    def abandoned(self, request: int, now: float) -> None:
        """The client left before the end."""
        self._over(request, "left", now)
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
                    cost=cost(flight.price, charge.input, output, charge.cached, charge.written),
                ),
            )

    def _over(self, request: int, how: str, now: float) -> None:
        record = self._open.pop(request, None)
        if record is None:
            return
        record.ended = how
        kept = self._kept.get(request)
        if kept is not None:
            kept.ended, kept.left = now, how == "left"

    # --- one request ---------------------------------------------------------------------------------------------

    def _answer(self, number: int, dialect: Dialect, request: SimRequest, now: float) -> SimAnswer:
        record = Received(
            number, hashlib.sha256(request.body).hexdigest(), None, request.body if self.config.keep_bodies else None
        )
        self.received.append(record)
        self._open[number] = record
        key = self._key(dialect, request)
        if key is None:
            return self._refused(number, dialect, _UNAUTHORIZED, "unauthorized")
        try:
            asked = dialect.read(request)
        except Bad as bad:
            return self._refused(number, dialect, bad.trouble, "invalid")
        except Warming as warming:
            return self._warmed(number, dialect, warming, now)
        record.model = asked.model
        model = self.config.model(asked.model)
        if model is None:
            return self._refused(number, dialect, _unknown(asked.model), "unknown_model", asked)
        rate = model.price.at(asked.input_tokens)
        if rate.input > asked.pays[0] or rate.output > asked.pays[1]:
            return self._refused(number, dialect, Trouble("too_dear", "It costs more."), "too_dear", asked)
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
            return self._refused(number, dialect, self._refusal(broken, asked, now), broken.kind, asked)
        if self.config.credit is not None and self.bill.cost >= self.config.credit:
            return self._refused(number, dialect, _NO_MONEY, "no_money", asked)
        fitted = _fitted(asked, model)
        if isinstance(fitted, Trouble):
            return self._refused(number, dialect, fitted, "context_length", asked)
        asked = fitted
        meters = tuple(self._account(key, asked.model, model))
        refusals = [r for m in meters if (r := m.refusal(now, asked.input_tokens, asked.max_tokens)) is not None]
        if refusals:
            longest = max(refusals, key=lambda r: -1.0 if r.wait is None else r.wait)
            trouble = _busy(longest, asked.model, _left(meters, now), self.config.epoch + now)
            return self._refused(number, dialect, trouble, longest.limit, asked)
        for meter in meters:
            meter.let_in(number, now, asked.input_tokens, asked.max_tokens)
        if broken is not None:
            self._played(broken)
            record.outcome = broken.kind
        return self._answered(number, dialect, asked, model, broken, meters, now)

    def _answered(
        self,
        number: int,
        dialect: Dialect,
        asked: Asked,
        model: ModelConfig,
        broken: Fault | None,
        meters: tuple[Meter, ...],
        now: float,
    ) -> SimAnswer:
        wall = self.config.epoch + now
        turn = self._turn(number, dialect, asked, model, broken, now)
        said = turn.answer
        charge = turn.charge if broken is None or broken.billed else Charge(asked.model)
        if said.refusal is not None and not said.text and not dialect.bills_refusals:
            charge = Charge(asked.model)
        self.bill.charge(number, charge)
        self._flights[number] = _Flight(now, said.pace, model.price, charge, meters, said.output_tokens)
        if asked.stored or dialect is OPENROUTER:
            self._kept[number] = _Kept(said, model.byok, asked.stream)
        answer = perform(number, dialect, asked, said, broken, wall)
        ends = inf if answer.pieces[-1].what is Mark.STALL else now + answer.pieces[-1].at
        for meter in meters:
            meter.planned(number, ends)
        head = dialect.headers(number, said if answer.status == 200 else None, _left(meters, now), wall)
        return replace(answer, headers=(*answer.headers, *head))

    def _warmed(self, number: int, dialect: Dialect, warming: Warming, now: float) -> SimAnswer:
        model = self.config.model(warming.model)
        if model is None:
            return self._refused(number, dialect, _unknown(warming.model), "unknown_model")
        self._resident.pop(warming.model, None)
        if warming.stays:
            until = self.config.epoch + now + _KEEP_ALIVE
            self._resident[warming.model] = Resident(warming.model, model, warming.window, until)
        return whole(number, Error(200, warming.body, content_type=dialect.stream_type))

    def _refused(
        self, number: int, dialect: Dialect, trouble: Trouble, reason: str | None = None, about: Asked | None = None
    ) -> SimAnswer:
        if reason is not None:
            self.bill.refuse(reason)
            self._open[number].outcome = reason
        answer = whole(number, dialect.error(trouble, about))
        return replace(answer, headers=(*answer.headers, *dialect.headers(number, None, (), trouble.wall)))

    def _until_loaded(self, asked: Asked, model: ModelConfig, now: float) -> float:
        """Seconds until a model is in memory; where there is room for a few, who rests longest leaves first."""
        wall, window = self.config.epoch + now, asked.window or model.context
        there = {name: one for name, one in self._resident.items() if one.until > wall}
        begins = max(now, self._ready.get(asked.model, now))
        if asked.model not in there or there[asked.model].window != window:
            self.loads.append(asked.model)
            others = [name for name in there if name != asked.model]
            room = self.config.resident
            leaving = [] if room is None else others[: max(0, len(others) + 1 - room)]
            # What is at work is not thrown out: the load waits for its end, as everybody behind it does.
            ends = [one.ends for one in self._flights.values() if one.charge.model in (*leaving, asked.model)]
            begins = max([now, *ends]) + model.latency.load
            there = {name: one for name, one in there.items() if name not in leaving}
        there.pop(asked.model, None)
        if not model.latency.load:
            begins = now  # what takes no time waits for nobody
        self._ready[asked.model] = begins
        until = self.config.epoch + begins + _KEEP_ALIVE
        self._resident = {**there, asked.model: Resident(asked.model, model, window, until)}
        return begins - now

    def _key(self, dialect: Dialect, request: SimRequest) -> str | None:
        """Whose account it is; None when nobody's."""
        key = dialect.key(request.headers)
        return key if not self.config.keys or key in self.config.keys else None

    def _account(self, key: str, name: str, model: ModelConfig) -> Iterator[Meter]:
        """The meters that a request must pass: the key's, and the model's own for this key."""
        for place, limits in (((key, None), self.config.limits), ((key, name), model.limits)):
            meter = self._meters.get(place)
            if meter is None:
                meter = self._meters[place] = Meter(limits, self.config.epoch)
            yield meter

    # --- look-ups ------------------------------------------------------------------------------------------------

    def _told(self, number: int, found: Route, request: SimRequest, now: float) -> SimAnswer:
        """What is asked about the provider itself, or about an earlier call."""
        dialect = found.dialect
        if found.purpose == "nothing":
            trouble = Trouble("url", f"Unknown request URL: {request.method} {request.path.partition('?')[0]}.")
            return self._refused(number, dialect, trouble)
        if found.purpose == "method":
            path = request.path.partition("?")[0]
            return self._refused(number, dialect, Trouble("method", f"Not allowed to {request.method} on {path}."))
        if self._key(dialect, request) is None:
            return self._refused(number, dialect, _UNAUTHORIZED)
        created = int(self.config.epoch)
        body: bytes | None = None
        match found.purpose:
            case "models":
                body = dialect.models(self.config.models, created)
            case "model":
                model = self.config.model(found.name)
                if model is None:
                    return self._refused(number, dialect, _unknown(found.name))
                body = dialect.model(found.name, model, created)
            case "account":
                credit = self.config.credit
                left = None if credit is None else max(0, credit - self.bill.cost)
                body = dialect.account(Balance(self.bill.cost, left))
            case "resident":
                loaded = [one for one in self._resident.values() if one.until > self.config.epoch + now]
                body = dialect.resident(loaded, self.config.models)
            case "version":
                body = b'{"version":"0.12.0"}'
            case "record":
                body = self._record(dialect, found.name, now)
        if body is None:
            return self._refused(
                number, dialect, Trouble("no_record", f"There is no {found.name or 'such thing'} here.")
            )
        return whole(number, Error(200, body))

    def _record(self, dialect: Dialect, id: str, now: float) -> bytes | None:
        """What is known of an earlier call; nothing while it goes on, nor for some time after it."""
        number = id.rpartition("-")[2]
        kept = self._kept.get(int(number)) if number.isascii() and number.isdecimal() and len(number) < 19 else None
        if kept is None or kept.answer.id != id or kept.ended is None:
            return None
        if now < kept.ended + self.config.record_after:
            return None
        said = kept.answer
        charge = self.bill.charges[int(number)]
        return dialect.record(
            Record(
                id, said.model, charge, said.finish, said.text, float(said.created), kept.left, kept.byok, kept.stream
            )
        )

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
        since = (
            0.0 if self._began is None else max(0.0, now - self._began)
        )  # a process that starts anew starts its clock
        return (
            candidate.model in (None, asked.model)
            and (not candidate.request or self._requests[asked.model] in candidate.request)
            and (not candidate.attempt or attempt in candidate.attempt)
            and (candidate.contains is None or any(candidate.contains in text for _, text in asked.texts))
            and candidate.since <= since
            and (candidate.until is None or since < candidate.until)
            and (candidate.kind != "unsupported_parameter" or candidate.param in asked.fields)
            and (candidate.kind != "afford" or asked.max_tokens > candidate.afford)
        )

    def _chance(self, asked: Asked, what: str) -> float:
        """A number in [0, 1) that depends on the seed, the request and `what` alone."""
        drawn = hashlib.sha256(asked.digest + f"{self.config.seed} {what}".encode()).digest()
        return int.from_bytes(drawn[:7], "big") / (1 << 56)

    def _refusal(self, broken: Fault, asked: Asked, now: float) -> Trouble:
        wall = self.config.epoch + now
        found = self._reason(broken, asked, wall)
        return found._replace(hint=hint_of(broken, wall) or found.hint, should_retry=broken.should_retry, wall=wall)

    def _reason(self, broken: Fault, asked: Asked, wall: float) -> Trouble:
        match broken.kind:
            case "busy":
                return Trouble("busy", _SLOW_DOWN)
            case "quota":
                return Trouble("quota", _NO_QUOTA)
            case "day":
                return Trouble("day", _DAY_OVER, hint=Hint(float(ceil(_DAY - wall % _DAY)), wall=wall))
            case "spend":
                return Trouble("spend", _SPENT, broken.status)
            case "unauthorized":
                return _UNAUTHORIZED
            case "no_money":
                return _NO_MONEY
            case "afford":
                return Trouble("afford", _NO_MONEY.message, most=broken.afford)
            case "forbidden":
                return Trouble("forbidden", "This key may not use this model.")
            case "not_found":
                return _unknown(asked.model)
            case "context_length":
                return _too_long(asked, max(1, asked.input_tokens - 1))
            case "too_large":
                return Trouble("too_large", "The request is larger than this server takes.")
            case "unprocessable":
                return Trouble("unprocessable", "The request could not be processed.")
            case "moderated":
                return Trouble("moderated", "The request was rejected by the safety system.")
            case "loading":
                return Trouble("loading", "Loading model")
            case "redirect":
                return Trouble("redirect", "Moved.", headers=(("location", broken.location),))
        message = f"Unsupported parameter: '{broken.param}' is not supported with this model."
        return Trouble("parameter", message, param=broken.param)

    # --- what is said --------------------------------------------------------------------------------------------

    def _turn(
        self, number: int, dialect: Dialect, asked: Asked, model: ModelConfig, broken: Fault | None, now: float
    ) -> _Turn:
        random = Random(int(self._chance(asked, "reply") * (1 << 53)))
        pace = _pace(model.latency, random)
        pace = replace(pace, first=pace.first + self._until_loaded(asked, model, now))
        thinking = min(asked.max_tokens, _around(model.reasoning, _REASONING_SPREAD, random))
        # Drawn whole even where less is allowed, so that the text does not depend on it.
        reasoning = thoughts(random, thinking)
        if asked.most_thinking is not None:
            reasoning = fit(reasoning, asked.most_thinking)
        thinking = count_tokens(reasoning)
        whole = _text(asked, model.reply, random)
        text: str | None = fit(whole, asked.max_tokens - thinking)
        finish = "stop" if text == whole else "length"
        stopped_at: str | None = None
        if asked.stops and text:
            text, stopped_at = _stopped(text, asked.stops)
            finish = finish if stopped_at is None else "stop"
        refusal: str | None = None
        failed: Trouble | None = None
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
                failed = Trouble("server", UPSTREAM, 502)
            case "overrun":
                assert broken is not None
                text, finish = sentences(random, int(asked.max_tokens * broken.times) + 1), "stop"
            case "other_model":
                assert broken is not None
                served = broken.served
            case "unknown_finish":
                assert broken is not None
                finish = broken.word
            case "late":
                assert broken is not None
                pace = replace(pace, first=pace.first + broken.seconds)
        if visible is None:
            visible = count_tokens(text or refusal or "")
        charge = self._charge(asked, model, thinking + visible, thinking)
        kind = None if broken is None else broken.kind
        free = broken is not None and (kind == "replayed" or (kind == "blank" and not broken.billed))
        answer = Answer(
            id=f"{dialect.prefix}{asked.digest.hex()[:12]}-{number}",
            created=int(self.config.epoch + now),
            model=served,
            text=text,
            finish=finish,
            output_tokens=thinking + visible,
            told=Charge(asked.model) if free else charge,
            pace=pace,
            reasoning=reasoning,
            reasoning_tokens=thinking,
            reasoning_field=model.reasoning_field,
            shows_thinking=asked.shows_thinking,
            refusal=refusal,
            stopped_at=stopped_at,
            failed=failed,
            usage_form=broken.form if broken is not None and kind == "usage" else None,
            has_usage=kind != "finish_error",
            reports_cost=model.reports_cost,
            byok=model.byok,
            blank=kind == "blank",
            replayed=kind == "replayed",
        )
        return _Turn(answer, charge)

    def _charge(self, asked: Asked, model: ModelConfig, output: int, reasoning: int) -> Charge:
        before = asked.input_tokens - asked.last_tokens
        cached = int(model.cached * before)
        written = int(model.cache_written * (asked.input_tokens - cached))
        return Charge(
            asked.model,
            asked.input_tokens,
            output,
            reasoning,
            cached,
            cost(model.price, asked.input_tokens, output, cached, written),
            written,
        )


_NO: Final = "I would rather not go on with this."
_SLOW_DOWN: Final = "Rate limit reached. Please slow down."
_NO_QUOTA: Final = "You exceeded your current quota, please check your plan and billing details."
_DAY_OVER: Final = "Rate limit reached on requests per day (RPD)."
_SPENT: Final = "The spend limit of this account is reached."
_UNAUTHORIZED: Final = Trouble("unauthorized", "Incorrect API key provided.")
_NO_MONEY: Final = Trouble("no_money", "This account has no credits left.")


def _left(meters: tuple[Meter, ...], now: float) -> tuple[Room, ...]:
    """What the innermost account that says anything has left."""
    return next((rooms for meter in reversed(meters) if (rooms := meter.rooms(now))), ())


def _unknown(model: str) -> Trouble:
    return Trouble("not_found", f"The model `{model}` does not exist.", param="model")


def _too_long(asked: Asked, context: int) -> Trouble:
    message = (
        f"This model's maximum context length is {context} tokens. However, you requested "
        f"{asked.input_tokens + asked.max_tokens} tokens ({asked.input_tokens} in the messages, "
        f"{asked.max_tokens} in the completion)."
    )
    return Trouble("context_length", message, param="messages", most=context)


def _fitted(asked: Asked, model: ModelConfig) -> Asked | Trouble:
    """The request as the model reads it, or why it does not fit."""
    if model.max_output is not None and asked.max_tokens > model.max_output:
        return Trouble("invalid", f"At most {model.max_output} tokens of output are supported.", param="max_tokens")
    windows = [window for window in (asked.window, model.context) if window is not None]
    if not windows:
        return asked
    window = min(windows)
    room = window - (asked.max_tokens if asked.counts_output else 0)
    if asked.input_tokens > room:
        cuts = asked.cuts == "oldest" or (asked.cuts == "middle" and window <= _COMPRESSED_BELOW)
        if not (cuts or model.overflow == "cut") or room < _LEAST_ROOM:
            return _too_long(asked, window)
        asked = shortened(asked, room)
    if not asked.shifts:
        asked = replace(asked, max_tokens=max(1, min(asked.max_tokens, window - asked.input_tokens)))
    return asked


def _busy(refusal: Refusal, model: str, rooms: tuple[Room, ...], wall: float) -> Trouble:
    message = f"Rate limit reached for {model} on {refusal.limit}."
    hint: Hint | None = None
    if refusal.wait is not None and isfinite(refusal.wait):
        wait = plain_seconds(refusal.wait)
        hint = Hint(wait, wall=wall)
        message += f" Please try again in {wait}s."
    elif refusal.wait is not None:
        message += " The request is larger than the limit."
    why: Why = "day" if refusal.limit in ("rpd", "tpd") else "busy"
    return Trouble(why, message, limit=refusal.limit, hint=hint, rooms=rooms, wall=wall)


def _stopped(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """A text up to the first of the texts to stop at, and which one it was."""
    met = [(at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    if not met:
        return text, None
    at, stop = min(met)
    return text[:at], stop


def _pace(latency: Latency, random: Random) -> Latency:
    """The latency of one request, its spread drawn."""
    return replace(
        latency,
        first=latency.first * (1 + latency.spread * (2 * random.random() - 1)),
        per_token=latency.per_token * (1 + latency.spread * (2 * random.random() - 1)),
    )


def _around(mean: int, spread: float, random: Random) -> int:
    return round(mean * (1 + spread * (2 * random.random() - 1)))


_NUMBERED: Final = re.compile(r"(?m)^\[([1-9][0-9]*)\] .*:$")


def _said_before(asked: Asked) -> int:
    """How many lines stand before the next one: the model's own, or all of a conversation that it is shown numbered."""
    own = sum(role == "assistant" for role, _ in asked.texts)
    if own:
        return own
    number = 0
    for shown in _NUMBERED.finditer(asked.texts[-1][1]):
        # A number that is not the next one stands in what somebody has said.
        number += int(shown[1]) == number + 1
    return number


def _text(asked: Asked, style: Style, random: Random) -> str:
    if style.echo:
        return asked.texts[-1][1]
    if style.texts:
        return style.texts[_said_before(asked) % len(style.texts)]
    return sentences(random, max(1, _around(style.mean, style.spread, random)))
