"""Figures as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.money import dollars
from runner.render.figures import total, usd


@given(st.integers(-(10**15), 10**15) | st.integers(-(10**6), 10**6).map(lambda tenths: tenths * 100_000))
def test_an_amount_is_exact_and_has_four_decimals_at_least(nanos: int) -> None:
    """It is the amount in dollars, with the zeros that are missing."""
    shown = usd(nanos).replace("$", "")
    plain = dollars(nanos)
    assert shown.startswith(plain) and len(shown.partition(".")[2]) == max(4, len(plain.partition(".")[2]))
    assert set(shown[len(plain) :]) <= {"0", "."}


@pytest.mark.parametrize(
    ("figures", "found"),
    [([], (None, "")), ([None], (None, "")), ([0], (0, "")), ([1, 2], (3, "")), ([1, None, 2], (3, " (2 of 3)"))],
)
def test_a_sum_tells_what_it_covers(figures: list[int | None], found: tuple[int | None, str]) -> None:
    """Of what is known, and how much that is where it is not all."""
    assert total(figures) == found
