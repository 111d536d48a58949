"""OpenRouter: chat completions that it hands on to many servers, with the cost of each call in its answer.

Its own words for an error say more than the status, and one of them, `availability`, whether another try makes sense.
Its habit of shortening long histories for small windows is switched off unless a job says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from urllib.parse import quote

from runner.call import Call, Failure, Found, Hints, Left, Reasoning, Usage
from runner.money import MoneyError, Price, Tier, dollars, parse_price
from runner.providers.base import NOTHING_ELSE, Endpoint, Funds, Home, LimitField, Listed
from runner.providers.chat import Chat, ChatReader, Ways, nanos_of, per_million, with_upstream
from runner.providers.errors import Told, Words, message_of
from runner.providers.loose import count, fields, rows, seconds, text, their_clock, whole
from runner.world import HttpRequest

_COMPRESSION: Final = "context-compression"
_ONLY_THIS_CALL: Final = ("can only afford", "tokens limit exceeded")
"""How a 402 says that the account cannot cover what this one call may cost, which is no proof that it is empty."""
_CACHE: Final = "response cache"
_ABOVE: Final = "min_prompt_tokens"
_MOST: Final = "max_price"
_HAIR: Final = Decimal("1.000000001")
"""What makes up for prices that somebody works out in floating numbers."""
_FILTERED: Final = frozenset({"constraint_filtered", "no_endpoints"})
"""How it says that no server is left for a request; a price is one of the things that may be in the way."""
_TOKENS: Final[Mapping[str, Sequence[str]]] = {
    "input": ("prompt",),
    "output": ("completion", "internal_reasoning"),
    "cache_read": ("input_cache_read",),
    "cache_write": ("input_cache_write", "input_cache_write_1h"),
}
"""Under which names it lists the prices of tokens; where there are two, the dearer counts."""
_SURE: Final = {_ABOVE, "request", *(name for names in _TOKENS.values() for name in names)}
"""What stands in a price for long prompts that holds at every hour."""
_A_DAY_RATHER: Final = 120.0
"""A limit that is lifted later than so many seconds from now is none of the minute."""
_EPOCH_SECONDS: Final = 1e9
_EPOCH_MILLISECONDS: Final = 1e11


def by_object(reasoning: Reasoning) -> Mapping[str, Any]:
    """Thinking by a word or by a number of tokens; both at once are refused, and the number is the more exact."""
    if reasoning.tokens is not None and reasoning.effort != "none":
        return {"reasoning": {"max_tokens": reasoning.tokens}}
    return {} if reasoning.effort is None else {"reasoning": {"effort": reasoning.effort}}


class OpenRouter(Chat):
    """What no data can say: its requests, its errors, its prices, and its records of what became of a call."""

    priced = True
    sends_rates = True

    def request(self, call: Call, limit_field: LimitField | None) -> dict[str, Any]:
        found = super().request(call, limit_field)
        routing = found.get("provider", {})
        if call.rates is not None and any(call.rates) and isinstance(routing, dict) and _MOST not in routing:
            prompt, completion = map(_no_less, call.rates)
            found["provider"] = {**routing, _MOST: {"prompt": prompt, "completion": completion}}
        plugins = found.get("plugins", [])
        if isinstance(plugins, list) and not any(_is_compression(plugin) for plugin in plugins):
            found["plugins"] = [*plugins, {"id": _COMPRESSION, "enabled": False}]
        return found

    def reader(self, call: Call) -> OpenRouterReader:
        return OpenRouterReader(self)

    # -- errors and limits -----------------------------------------------------------------------------------------

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, wall: float) -> Failure:
        # What failed may have been worked on, and charged: its record tells.
        return replace(super().failure(status, headers, body, wall), generation=headers.get("x-generation-id"))

    def classified(self, status: int, error: Any, fallback: str, headers: Mapping[str, str], wall: float) -> Failure:
        found = super().classified(status, error, fallback, headers, wall)
        if found.scope == "model" and (why := _too_dear(error)) is not None:
            detail = (
                f"{found.detail} ({why} at the price at which its money is reserved: give the model the `price` of "
                "today in the job, or a `max_price` in `extra: {provider: {...}}`)"
            )
            return replace(found, detail=detail)
        if found.quota != "credit" or not any(said in found.detail.lower() for said in _ONLY_THIS_CALL):
            return found
        detail = (
            f"{found.detail} (this call alone: the account need not be empty, "
            "but does not cover all that the call may cost; lower max_tokens, or add credit)"
        )
        return replace(found, scope="conversation", quota=None, detail=detail)

    def told(self, status: int, error: Any, headers: Mapping[str, str], wall: float) -> Told:
        found = super().told(status, error, headers, wall)
        metadata, message = fields(error, "metadata"), found.message.lower()
        status = found.status_inside or status
        if status == 403 and "budget" in message:
            found = replace(found, quota="credit")
        if status == 403 and "guardrail" in message:
            found = replace(found, moderated=True)
        if str(metadata.get("limit_source")).endswith("daily"):
            found = replace(found, quota="day")
        if status == 429 and found.wait is None:
            # Its own limits are told in headers, and again in the body, where proxies cannot take them away.
            repeated = {name.lower(): str(value) for name, value in fields(metadata, "headers").items()}
            found = replace(found, wait=_reset({**repeated, **headers}, wall) or None)
        return found

    def hints(self, headers: Mapping[str, str], wall: float) -> Hints:
        left, most = (whole(headers.get(f"x-ratelimit-{name}")) for name in ("remaining", "limit"))
        reset = _reset(headers, wall)
        if left is None and most is None:
            return ()
        window: Any = "day" if reset is not None and reset > _A_DAY_RATHER else "minute"
        return (Left("requests", window, left, most, reset),)

    # -- what became of a call -------------------------------------------------------------------------------------

    def look_up(
        self, endpoint: Endpoint, generation: str, extra: Mapping[str, Any] = NOTHING_ELSE
    ) -> HttpRequest | None:
        return self.asking(endpoint, f"/generation?id={quote(generation, safe='')}")

    def looked_up(self, body: bytes, generation: str) -> Found | None:
        for record in rows(body):
            if text(record.get("id")) not in (None, generation):
                return None
            figures = [count(record.get(f"native_tokens_{what}")) for what in ("prompt", "completion", "cached")]
            try:
                cost = with_upstream(record, record.get("total_cost"), record.get("upstream_inference_cost"))
            except MoneyError:
                return None
            # Nothing charged for tokens that came, or for nobody knows how many: its books are not closed yet.
            return Found(cost, *figures) if cost is not None and (cost > 0 or figures[1] == 0) else None
        return None

    # -- what can be asked before a night --------------------------------------------------------------------------

    def funds(self, answer: Mapping[str, Any]) -> Funds | None:
        if "limit_remaining" not in answer:
            return None
        left, limit = answer["limit_remaining"], answer.get("limit")
        if left is None:
            return Funds(None, "a key without a limit of its own")
        try:
            # Below nothing is what a key has that was overdrawn.
            funds = nanos_of(max(left, 0) if isinstance(left, (int, float)) else left)
            words = "" if limit is None else f"of ${dollars(nanos_of(limit))}"
            return Funds(funds, " ".join(word for word in (words, text(answer.get("limit_reset"))) if word))
        except MoneyError:
            return None

    def listed(self, row: Mapping[str, Any]) -> Listed | None:
        found = super().listed(row)
        if found is None:
            return None
        top = fields(row, "top_provider")
        windows = [size for size in (found.window, count(top.get("context_length"))) if size]
        return found._replace(
            window=min(windows, default=None),
            max_output=count(top.get("max_completion_tokens")) or None,
            price=_price(fields(row, "pricing")),
        )


class OpenRouterReader(ChatReader):
    """One answer, whose id stands in its headers, and which may come out of OpenRouter's own memory."""

    def begin(self, headers: Mapping[str, str]) -> None:
        super().begin(headers)
        self.generation = text(headers.get("x-generation-id"))
        if self._remembered:
            self.upstream = _CACHE

    @property
    def _remembered(self) -> bool:
        return self.headers.get("x-openrouter-cache-status", "").strip().upper() == "HIT"

    def counted(self, raw: Mapping[str, Any], *, received: bool) -> Usage:
        found = super().counted(raw, received=received)
        if self._remembered and found.input == 0 and found.output == 0 and not found.cost:
            # Given again for nothing; of any other answer with a text such figures could not be true.
            return replace(found, cost=0, trusted=True)
        return found


def _no_less(figure: Decimal) -> float:
    """This price as a number that is not below it, however the other side multiplies out its own."""
    return float(figure * _HAIR)


def _too_dear(error: Any) -> str | None:
    """Whether it is the price that leaves no server for a request: in words, where it says so or it may be."""
    inside, availability = fields(error, "metadata"), fields(error, "availability")
    said = map(message_of, (error, availability.get("constraint"), availability.get("excluded_by")))
    if any("price" in words.lower() for words in said):
        return "no server offers it"
    named = {text(availability.get("code")), text(inside.get("error_type"))}
    return "perhaps no server offers it" if named & _FILTERED else None


def _is_compression(plugin: Any) -> bool:
    return isinstance(plugin, dict) and plugin.get("id") == _COMPRESSION


def _reset(headers: Mapping[str, str], wall: float) -> float | None:
    """Seconds until the limit is lifted: a moment in milliseconds or in seconds, or a duration."""
    told = headers.get("x-ratelimit-reset", "")
    moment = whole(told)
    if moment is None or moment < _EPOCH_SECONDS:
        return seconds(told)
    wait = moment / (1000.0 if moment >= _EPOCH_MILLISECONDS else 1.0) - their_clock(headers, wall)
    return seconds(str(max(0.0, wait)))


def _price(pricing: Mapping[str, Any]) -> Price | None:
    """The price of a model, None where the two that matter most are not told, or change from call to call."""
    try:
        base = _rates(pricing, 0)
        if base["input"] is None or base["output"] is None:
            return None
        steps = sorted({above for one in _overrides(pricing) if (above := count(one.get(_ABOVE)))})
        tiers = tuple(Tier(above, **_rates(pricing, above)) for above in steps)
        # One fee, whatever the length.
        fees = (_dearest(pricing, ("request",), above, _dollars) for above in (0, *steps))
        return Price(**base, request=max(fee or Decimal(0) for fee in fees), tiers=tiers)
    except MoneyError:
        return None


def _rates(pricing: Mapping[str, Any], above: int) -> dict[str, Any]:
    """What tokens cost at most in a request with a longer prompt than that, by the names of a `Price`."""
    return {ours: _dearest(pricing, names, above, per_million) for ours, names in _TOKENS.items()}


def _dearest(
    pricing: Mapping[str, Any], names: Sequence[str], above: int, read: Callable[[Any], Decimal | None]
) -> Decimal | None:
    """The highest that a figure can be under one of these names, at any hour; None where there is none.

    Raises MoneyError where one cannot be read: it might be the dearest.
    """
    possible: list[Decimal] = []
    for name in names:
        here: list[Decimal] = []
        for place in (pricing, *_overrides(pricing)):
            if place.get(name) is None or (count(place.get(_ABOVE)) or 0) > above:
                continue
            price = read(place[name])
            if price is None:
                raise MoneyError(f"{place[name]!r} is no price")
            # The later of two that surely hold wins; what has terms of another kind (some hours of a day) may hold.
            here = [price] if count(place.get(_ABOVE)) and place.keys() <= _SURE else [*here, price]
        possible += here
    return max(possible, default=None)


def _overrides(pricing: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """What it charges instead, on terms."""
    found = pricing.get("overrides")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _dollars(figure: Any) -> Decimal | None:
    try:
        return parse_price(Decimal(str(figure)))
    except (ArithmeticError, MoneyError):
        return None


OPENROUTER: Final = OpenRouter(
    "openrouter",
    Home("https://openrouter.ai/api/v1", "${OPENROUTER_API_KEY}", per="model", prices="openrouter"),
    Ways(
        limit="max_completion_tokens",
        think=by_object,
        thought="reasoning",
        fixed={},
        words=Words(
            no_model=frozenset(
                {
                    *("no_endpoints", "wrong_endpoint", "model_unavailable_upstream", "region_restricted"),
                    *("privacy_restricted", "constraint_filtered", "free_variant_ended"),
                }
            ),
            busy=frozenset({"capacity_exhausted", "temporarily_unavailable", "provider_overloaded"}),
            statuses={
                "invalid_prompt": 400,
                "max_tokens_exceeded": 400,
                "precondition_failed": 412,
                "unprocessable": 422,
                "server": 500,
                "provider_unavailable": 502,
                "timeout": 504,
            },
            phrases={"key limit exceeded": "payment_required"},
        ),
        account="/key",
        tells_cost=True,
    ),
    number=2,
)
