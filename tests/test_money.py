"""Money: exact against fractions, rounded up once, and nothing absurd is taken for a figure."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.money import (
    FREE,
    NANOS_PER_DOLLAR,
    MoneyError,
    Price,
    Tier,
    ceiling,
    cost,
    dollars,
    parse_billed,
    parse_dollars,
    parse_price,
    shown,
    tokens_within,
)

figures = st.decimals(0, 10_000, allow_nan=False, allow_infinity=False, places=9)
tokens = st.integers(0, 10**9)
prices = st.builds(Price, figures, figures, st.none() | figures, st.none() | figures, st.decimals(0, 100, places=9))

GLM = Price(Decimal("1.00"), Decimal("3.20"))


def in_nanos(per_million: Decimal, count: int) -> Fraction:
    return Fraction(per_million) * count / 1_000_000 * NANOS_PER_DOLLAR


@given(prices, tokens, tokens, tokens, tokens)
@settings(max_examples=200)
def test_a_cost_is_the_exact_sum_rounded_up_once(price: Price, plain: int, output: int, read: int, write: int) -> None:
    """Against fractions: not one nano-dollar below the truth, and less than one above it."""
    truth = (
        in_nanos(price.input, plain)
        + in_nanos(price.input if price.cache_read is None else price.cache_read, read)
        + in_nanos(price.input if price.cache_write is None else price.cache_write, write)
        + in_nanos(price.output, output)
        + Fraction(price.request) * NANOS_PER_DOLLAR
    )
    assert cost(price, plain + read + write, output, read, write) == ceil(truth)


@given(prices, tokens, tokens, tokens, tokens, tokens, tokens)
def test_a_ceiling_is_never_below_a_cost_within_its_bounds(
    price: Price, input_tokens: int, output: int, read: int, write: int, more_in: int, more_out: int
) -> None:
    """However the input splits into fresh, cached and newly cached tokens."""
    read = min(read, input_tokens)
    write = min(write, input_tokens - read)
    assert cost(price, input_tokens, output, read, write) <= ceiling(price, input_tokens + more_in, output + more_out)


@pytest.mark.fault(65)
@given(st.lists(st.tuples(figures, st.integers(0, 1000)), min_size=1, max_size=50))
def test_rounding_costs_at_most_a_nano_dollar_for_each_call(calls: list[tuple[Decimal, int]]) -> None:
    """Sums of many small costs stay above the truth, and by less than one nano-dollar each."""
    charged = sum(cost(Price(price, Decimal(0)), count, 0) for price, count in calls)
    truth = sum((in_nanos(price, count) for price, count in calls), Fraction(0))
    assert truth <= charged < truth + len(calls)


def test_less_than_a_nano_dollar_is_charged_as_one() -> None:
    """Nothing that costs something is free."""
    assert cost(Price(Decimal("0.0004"), Decimal(0)), 1, 0) == 1


@pytest.mark.parametrize(
    ("prompt", "completion", "said"),
    [
        (258, 1053, "$0.0036"),
        (879, 1122, "$0.0045"),
        (1447, 1217, "$0.0053"),
        (2065, 1194, "$0.0059"),
        (2681, 1104, "$0.0062"),
        (3314, 1000, "$0.0065"),
    ],
)
def test_the_figures_of_the_archive_are_computed_again(prompt: int, completion: int, said: str) -> None:
    """Six rounds at $1.00 in and $3.20 out, as the old transcripts print them."""
    assert shown(cost(GLM, prompt, completion)) == said


def test_cached_tokens_are_part_of_the_input() -> None:
    """A cached token is charged once, at its own price, and a figure beyond the input is charged all the same."""
    price = Price(Decimal(3), Decimal(15), cache_read=Decimal("0.30"), cache_write=Decimal("3.75"))
    assert cost(price, 1_000_000, 0, 1_000_000) == 300_000_000
    assert cost(price, 1_000_000, 0, 400_000, 600_000) == 120_000_000 + 2_250_000_000
    assert cost(price, 10, 0, 1_000_000) == 300_000_000
    assert cost(GLM, 1_000_000, 0, 1_000_000) == 1_000_000_000
    assert price.dearest(10) == (Decimal("3.75"), Decimal(15))


LONG = Price(
    Decimal(2), Decimal(12), tiers=(Tier(200_000, Decimal(4), Decimal(18)), Tier(500_000, Decimal(3), Decimal(20)))
)


def test_a_request_with_much_input_costs_the_rates_of_its_tier_from_the_first_token_on() -> None:
    """Above the mark, and not at it; a later tier may even be cheaper."""
    assert cost(LONG, 200_000, 10) == 400_000_000 + 120_000
    assert cost(LONG, 200_001, 10) == 800_004_000 + 180_000
    assert cost(LONG, 500_001, 0) == 1_500_003_000


@given(st.integers(0, 700_000), st.integers(0, 700_000), st.integers(0, 10_000))
def test_no_cost_within_its_bounds_is_above_the_ceiling_whatever_tier_it_is_in(a: int, b: int, output: int) -> None:
    """The ceiling looks at every tier that the input may reach."""
    tokens, bound = sorted((a, b))
    assert cost(LONG, tokens, output) <= ceiling(LONG, bound, output)
    room = ceiling(LONG, bound, output)
    assert (tokens_within(LONG, bound, room) or 0) >= output


def test_a_price_is_the_same_after_its_record() -> None:
    """Also what it has only sometimes: tiers, a fee, and who says so."""
    for price in (GLM, LONG, FREE, Price(Decimal("0.1"), Decimal(3), Decimal("0.01"), None, Decimal("0.5"), (), "me")):
        again = Price.of(orjson.loads(orjson.dumps(price.record())))
        assert (again, again.source) == (price, price.source)


def test_a_model_is_free_only_when_nothing_of_it_costs() -> None:
    """One price above zero is enough to make a model cost something."""
    assert FREE.free
    assert not Price(Decimal(0), Decimal(0), request=Decimal("0.001")).free
    assert not Price(Decimal(0), Decimal(0), cache_write=Decimal(1)).free
    assert ceiling(FREE, 10**9, 10**9) == 0


ABSURD = ["", "1,000", "abc", "nan", "NaN", "sNaN", "inf", "-Infinity", "1e400", "-1", "-0.000001", float("nan")]
ABSURD_NUMBERS = [float("inf"), True, False, 1e300, 10**20, 10**5000, Decimal("sNaN"), Decimal("1e-40")]


@pytest.mark.fault(61)
@pytest.mark.parametrize("figure", [*ABSURD, *ABSURD_NUMBERS], ids=lambda figure: repr(type(figure)))
def test_what_cannot_be_money_is_refused_in_a_line(figure: str | float | Decimal) -> None:
    """As a price and as an amount; the message names the figure and stays short, even for a book of digits."""
    for parse in (parse_price, parse_dollars):
        with pytest.raises(MoneyError) as refused:
            parse(figure)
        assert 5 < len(str(refused.value)) < 120


@pytest.mark.fault(61)
def test_a_price_that_nobody_charges_is_refused() -> None:
    """The dearest that is believed is ten thousand dollars per million tokens."""
    assert parse_price(10_000) == 10_000
    with pytest.raises(MoneyError, match="not a price anyone charges"):
        parse_price("10000.01")


def test_a_float_means_the_decimal_that_it_is_written_as() -> None:
    """0.1 is a tenth, not the binary fraction beside it."""
    assert parse_price(0.1) == Decimal("0.1")
    assert parse_dollars(0.1) == 100_000_000
    assert parse_dollars("0.50") == 500_000_000


def test_an_amount_with_more_than_nine_decimals_is_refused_not_rounded() -> None:
    """The smallest amount is a nano-dollar."""
    assert parse_dollars("0.000000001") == 1
    with pytest.raises(MoneyError, match="more than nine decimals"):
        parse_dollars("0.0000000001")


@pytest.mark.parametrize(
    ("figure", "nanos"),
    [
        ("0.0031", 3_100_000), (0.0031, 3_100_000), ("1e-10", 1), ("0", 0), (0, 0), ("0.0000000011", 2), (1, 10**9),
        ("1.2345678901234567e-15", 1), ("0.1234567890123456789012345678901", 123_456_790), ("9000000000", 9 * 10**18),
    ],
)  # fmt: skip
def test_what_somebody_else_worked_out_is_rounded_up(figure: str | float, nanos: int) -> None:
    """Providers write as many decimals as they like; what we count is never below it."""
    assert parse_billed(figure) == nanos


@pytest.mark.parametrize("figure", ["-1", "nan", "inf", "x", "", "1e999999999", "9000000001", True, -1e-12])
def test_what_nobody_can_have_billed_is_refused(figure: str | float) -> None:
    """Not a number, less than nothing, or more than there is."""
    with pytest.raises(MoneyError):
        parse_billed(figure)


def test_every_amount_fits_sixty_four_bits() -> None:
    """A provider that claims to have charged more is not believed, so that a journal can always be written."""
    assert parse_dollars(9_000_000_000) < 2**63
    with pytest.raises(MoneyError, match="out of range"):
        parse_dollars(9_000_000_001)


@given(st.integers(-(10**20), 10**20))
def test_dollars_are_exact(nanos: int) -> None:
    """What is written reads back to the same amount, without an exponent and without idle zeros."""
    text = dollars(nanos)
    assert Decimal(text) * NANOS_PER_DOLLAR == nanos
    assert "E" not in text.upper()
    assert "." not in text or not text.endswith("0")


@given(st.integers(0, 10**16))
def test_an_amount_of_dollars_is_read_back(nanos: int) -> None:
    """`dollars` and `parse_dollars` undo each other."""
    assert parse_dollars(dollars(nanos)) == nanos


@pytest.mark.parametrize(
    ("nanos", "exact", "text"),
    [
        (0, "0", "$0.0000"),
        (3_627_600, "0.0036276", "$0.0036"),
        (1, "0.000000001", "$0.000000001"),
        (49_999, "0.000049999", "$0.000049999"),
        (50_000, "0.00005", "$0.0001"),
        (999_950_000, "0.99995", "$1.0000"),
        (12_000_000_000, "12", "$12.0000"),
        (-3_600_000, "-0.0036", "-$0.0036"),
        (-1, "-0.000000001", "-$0.000000001"),
    ],
)
def test_amounts_are_shown_with_four_decimals(nanos: int, exact: str, text: str) -> None:
    """Halves are rounded up, and what is not nothing is never shown as nothing."""
    assert dollars(nanos) == exact
    assert shown(nanos) == text
