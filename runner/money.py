"""Money is whole nano-dollars; a price is exact dollars per million tokens.

A cost is multiplied out exactly and rounded up once, so that no sum of costs can be below the truth.
Nothing here knows of calls, files or time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal, InvalidOperation, localcontext
from fractions import Fraction
from math import floor, lcm
from typing import Any, Final, NamedTuple

Nanos = int
"""An amount of money in billionths of a dollar."""

NANOS_PER_DOLLAR: Final = 1_000_000_000
_NANOS_PER_TOKEN_AT_ONE_DOLLAR_PER_MILLION: Final = 1_000
_DEAREST_PRICE: Final = Decimal(10_000)
_MOST_DOLLARS: Final = Decimal(9_000_000_000)
"""So that every amount fits the 64 bits of a JSON reader."""
_MOST_SHOWN: Final = 40


class MoneyError(ValueError):
    """A figure that cannot be money; the text says why."""


@dataclass(frozen=True, slots=True)
class Tier:
    """What a model charges for the whole of a request with more input tokens than `above`."""

    above: int
    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None

    @property
    def dearest_input(self) -> Decimal:
        """The highest price one input token can have, a cache write included."""
        return self.input if self.cache_read is None is self.cache_write else max(self.inputs)

    @property
    def inputs(self) -> tuple[Decimal, ...]:
        """What an input token can cost."""
        return tuple(one for one in (self.input, self.cache_read, self.cache_write) if one is not None)


class Rates(NamedTuple):
    """Dollars per million tokens."""

    input: Decimal
    output: Decimal


class Whole(NamedTuple):
    """What a token costs as whole numbers of one unit: what is computed with them is exact, and fast."""

    above: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    dearest: int


@dataclass(frozen=True, slots=True)
class Price:
    """What a model charges: dollars per million tokens, and dollars per request."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    request: Decimal = Decimal(0)
    tiers: tuple[Tier, ...] = ()
    """What long requests cost instead, by rising `above`."""
    source: str = field(default="", compare=False)
    """Who says so, for those who read it; nothing is computed from it."""
    free: bool = field(init=False, compare=False, repr=False)
    """True when no call can cost anything."""
    _base: Tier = field(init=False, compare=False, repr=False)
    """What short requests cost."""
    unit: int = field(init=False, compare=False, repr=False)
    """So many units of the whole figures are a nano-dollar."""
    whole: tuple[Whole, ...] = field(init=False, compare=False, repr=False)
    """What a token costs in short requests, and then in each tier."""
    whole_request: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        base = Tier(-1, self.input, self.output, self.cache_read, self.cache_write)
        rates = (base, *self.tiers)
        figures = [self.request, *(figure for rate in rates for figure in (rate.output, *rate.inputs))]
        unit = lcm(*(Fraction(figure).denominator for figure in figures))
        per_token = unit * _NANOS_PER_TOKEN_AT_ONE_DOLLAR_PER_MILLION

        def whole(rate: Tier) -> Whole:
            read, write = (rate.input if one is None else one for one in (rate.cache_read, rate.cache_write))
            each = (rate.input, rate.output, read, write, rate.dearest_input)
            return Whole(rate.above, *(int(Fraction(figure) * per_token) for figure in each))

        found = {
            "free": not (self.request or any(rate.output or rate.dearest_input for rate in rates)),
            "_base": base,
            "unit": unit,
            "whole_request": int(Fraction(self.request) * unit * NANOS_PER_DOLLAR),
            "whole": tuple(map(whole, rates)),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)

    def at(self, input_tokens: int) -> Tier:
        """What tokens cost in a request with so much input."""
        reached = [tier for tier in self.tiers if input_tokens > tier.above]
        return reached[-1] if reached else self._base

    def dearest(self, input_bound: int) -> Rates:
        """The most that an input token and an output token can cost in a request with at most so much input."""
        rates = [self._base, *(tier for tier in self.tiers if input_bound > tier.above)]
        if len(rates) == 1:
            return Rates(self._base.dearest_input, self.output)
        return Rates(max(rate.dearest_input for rate in rates), max(rate.output for rate in rates))

    def record(self) -> dict[str, Any]:
        """The price as plain JSON; `Price.of` gives it back."""
        found: dict[str, Any] = _figures(self) | {"request": str(self.request)}
        if self.tiers:
            found["tiers"] = [{"above": str(tier.above), **_figures(tier)} for tier in self.tiers]
        if self.source:
            found["source"] = self.source
        return found

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Price:
        """The price that a record was made of. Raises MoneyError, KeyError or TypeError when it is none."""
        tiers = tuple(Tier(int(tier["above"]), **_rates(tier)) for tier in data.get("tiers", ()))
        return cls(**_rates(data), request=_decimal(data.get("request", 0)), tiers=tiers, source=data.get("source", ""))


def _figures(rate: Price | Tier) -> dict[str, str]:
    names = ("input", "output", "cache_read", "cache_write")
    return {name: str(figure) for name in names if (figure := getattr(rate, name)) is not None}


def _rates(data: Mapping[str, Any]) -> dict[str, Decimal]:
    optional = {name: _decimal(data[name]) for name in ("cache_read", "cache_write") if name in data}
    return {"input": _decimal(data["input"]), "output": _decimal(data["output"]), **optional}


FREE: Final = Price(Decimal(0), Decimal(0))


def cost(price: Price, input_tokens: int, output_tokens: int, cached_read: int = 0, cached_write: int = 0) -> Nanos:
    """What these tokens cost, rounded up; cached tokens are part of `input_tokens`."""
    rate = price.whole[0]
    for tier in price.whole[1:]:
        if input_tokens > tier.above:
            rate = tier
    units = max(0, input_tokens - cached_read - cached_write) * rate.input + output_tokens * rate.output
    units += cached_read * rate.cache_read + cached_write * rate.cache_write + price.whole_request
    return -(-units // price.unit)


def ceiling(price: Price, input_bound: int, max_tokens: int) -> Nanos:
    """The most that a call with these bounds can cost: every input token at its dearest, every output token used."""
    each_input, each_output = price.whole[0].dearest, price.whole[0].output
    for tier in price.whole[1:]:
        if input_bound > tier.above:
            each_input, each_output = max(each_input, tier.dearest), max(each_output, tier.output)
    return -(-(input_bound * each_input + max_tokens * each_output + price.whole_request) // price.unit)


def tokens_within(price: Price, input_bound: int, room: Nanos) -> int | None:
    """The most output tokens that a call may have to cost no more than `room`; None when there is no limit to them."""
    each_input, each_output = price.dearest(input_bound)
    if not each_output:
        return None
    with localcontext() as exact:
        exact.prec = 60
        left = (room - price.request * NANOS_PER_DOLLAR) / _NANOS_PER_TOKEN_AT_ONE_DOLLAR_PER_MILLION
        return floor((left - input_bound * each_input) / each_output)


def parse_price(figure: str | int | float | Decimal) -> Decimal:
    """A price in dollars per million tokens; refuses what no vendor can mean."""
    price = _decimal(figure)
    if price > _DEAREST_PRICE:
        raise MoneyError(f"{_named(figure)} dollars per million tokens is not a price anyone charges; is it per token?")
    return price


def parse_dollars(figure: str | int | float | Decimal) -> Nanos:
    """An amount in dollars, as nano-dollars; more than nine decimals are refused rather than rounded."""
    amount = _decimal(figure)
    if amount > _MOST_DOLLARS:
        raise MoneyError(f"{_named(figure)} is out of range")
    with localcontext() as exact:
        exact.prec = 60
        nanos = amount * NANOS_PER_DOLLAR
        if nanos != nanos.to_integral_value():
            raise MoneyError(f"{_named(figure)} has more than nine decimals")
        return int(nanos)


def parse_billed(figure: str | int | float | Decimal) -> Nanos:
    """What somebody else has worked out in dollars; rounded up where it has more than nine decimals."""
    amount = _not_negative(figure)
    if amount.adjusted() > 18:
        raise MoneyError(f"{_named(figure)} is out of range")
    with localcontext() as exact:
        exact.prec = 60
        return parse_dollars(amount.scaleb(9).to_integral_value(ROUND_CEILING).scaleb(-9))


def _decimal(figure: str | int | float | Decimal) -> Decimal:
    value = _not_negative(figure)
    if value.adjusted() > 18 or value.as_tuple().exponent < -30:  # type: ignore[operator]
        raise MoneyError(f"{_named(figure)} is out of range")
    return value


def _not_negative(figure: str | int | float | Decimal) -> Decimal:
    if isinstance(figure, bool):
        raise MoneyError(f"{figure} is not a number")
    try:
        value = Decimal(repr(figure) if isinstance(figure, float) else figure)
    except (InvalidOperation, ValueError):
        raise MoneyError(f"{_named(repr(figure))} is not a number") from None
    if not value.is_finite():
        raise MoneyError(f"{figure} is not a finite number")
    if value < 0:
        raise MoneyError(f"{_named(figure)} is negative")
    return value


def _named(figure: str | int | float | Decimal) -> str:
    """The figure as an error names it; Python itself refuses to write out a whole number of thousands of digits."""
    text = f"{Decimal(figure):.6e}" if isinstance(figure, int) and abs(figure) >= 10**_MOST_SHOWN else str(figure)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def dollars(nanos: Nanos) -> str:
    """The exact amount in dollars, with at most nine decimals and no currency sign: `0.0036`."""
    sign = "-" if nanos < 0 else ""
    whole, part = divmod(abs(nanos), NANOS_PER_DOLLAR)
    decimals = f"{part:09d}".rstrip("0")
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def shown(nanos: Nanos) -> str:
    """The amount as people read it, four decimals: `$0.0036`; exact where these would make nothing of something."""
    tenths = (abs(nanos) + 50_000) // 100_000
    sign = "-" if nanos < 0 else ""
    if nanos and not tenths:
        return f"{sign}${dollars(abs(nanos))}"
    return f"{sign}${tenths // 10_000}.{tenths % 10_000:04d}"
