"""What a call costs at most, and what it did cost.

The most: a bound on its input tokens at the dearest input price, and every output token it may use. The bound is
bytes, because no tokenizer of today makes more tokens than UTF-8 bytes; where the provider has counted a prefix of
the same view, its count stands for that prefix. What it did cost is the provider's own figure, else the price list,
else the most.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias
from unicodedata import normalize

from runner.call import FEWEST_TOKENS_PER_BYTE, Failure, Outcome, Reply, Usage, View
from runner.money import Nanos, Price, cost

Source: TypeAlias = Literal["reported", "priced", "unknown"]

_PER_MESSAGE: Final = 64
_OVERRUN_SLACK: Final = 1.05


def text_bound(text: str) -> int:
    """At least as many as the tokens of this text, in any vocabulary: normalising ones may lengthen a text first."""
    if text.isascii():
        return len(text)
    return max(
        len(text.encode("utf-8", "surrogatepass")), len(normalize("NFKC", text).encode("utf-8", "surrogatepass"))
    )


def view_bound(view: View) -> int:
    """At least as many as the input tokens of a request that shows this view."""
    texts = [message.text for message in view.messages]
    if view.system is not None:
        texts.append(view.system)
    return sum(text_bound(text) + _PER_MESSAGE for text in texts)


class InputBound(NamedTuple):
    """A bound on input tokens: those the provider has counted in a prefix, and the bytes of what is new."""

    counted: int
    bytes: int

    @property
    def tokens(self) -> int:
        return self.counted + self.bytes


def input_bound(view: View, earlier: View | None, reported: int | None) -> InputBound:
    """The bound on a view of which `earlier` is the beginning and was counted as `reported` tokens."""
    bound = view_bound(view)
    if earlier is None or reported is None:
        return InputBound(0, bound)
    before = view_bound(earlier)
    new = max(0, bound - before)
    if reported < before * FEWEST_TOKENS_PER_BYTE:
        return InputBound(0, bound)
    # More than the bytes, too: some providers put words of their own before ours, and charge for them each time.
    return InputBound(reported, new)


class Charge(NamedTuple):
    """What an outcome costs, where the figure comes from, and what the price list makes of its usage."""

    cost: Nanos
    source: Source
    computed: Nanos | None
    overrun: bool


def charge(outcome: Outcome, price: Price, reserved: Nanos, max_tokens: int) -> Charge:
    """Settle an outcome against its reservation; an unknown figure is the whole reservation, never nothing."""
    usage = outcome.usage
    computed = _computed(usage, price)
    overrun = usage.trusted and usage.output is not None and usage.output > max_tokens * _OVERRUN_SLACK + 8
    if isinstance(outcome, Failure):
        if outcome.money == "free":
            return Charge(0, "reported", computed, overrun)
        if outcome.money == "assumed":
            most = max(reserved, computed or 0, (usage.cost or 0) if usage.trusted else 0)
            return Charge(most, "unknown", computed, overrun or most > reserved)
    settled, source = _settled(usage, computed, price, isinstance(outcome, Reply))
    if settled is None:
        return Charge(reserved, "unknown", computed, overrun)
    return Charge(settled, source, computed, overrun or settled > reserved)


def _settled(usage: Usage, computed: Nanos | None, price: Price, has_text: bool) -> tuple[Nanos | None, Source]:
    if price.free:
        return usage.cost or 0, "priced" if usage.cost is None else "reported"
    if not usage.trusted:
        return None, "unknown"
    # A cost of nothing beside text is what a provider says whose accounting has not caught up.
    if usage.cost is not None and (usage.cost > 0 or not has_text):
        return usage.cost, "reported"
    return computed, "priced" if computed is not None else "unknown"


def _computed(usage: Usage, price: Price) -> Nanos | None:
    if usage.input is None or usage.output is None or not usage.trusted:
        return None
    return cost(price, usage.input, usage.output, usage.cached_read or 0, usage.cached_write or 0)
