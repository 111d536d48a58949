"""What a call costs at most, and what it did cost.

The most: a bound on its input tokens at the dearest input price, and every output token it may use. The bound is
bytes, because no tokenizer of today makes more tokens than UTF-8 bytes, those of the job's own fields included; where
the provider has counted a prefix of the same view, its count stands for that prefix. What it did cost is the
provider's own figure, else the price list, else the most; and never less than the text that came must have cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from unicodedata import is_normalized, normalize

from runner.call import FEWEST_TOKENS_PER_BYTE, Failure, Outcome, Reply, Usage, View, fewest_tokens
from runner.money import Nanos, Price, cost

Source: TypeAlias = Literal["reported", "priced", "unknown"]

_PER_MESSAGE: Final = 64
_OVERRUN_SLACK: Final = 1.05
_FAR_BELOW: Final = 2
"""Who is not known to tell costs is not believed where its tokens cost so many times what it tells."""


def text_bound(text: str) -> int:
    """At least as many as the tokens of this text, in any vocabulary: normalising ones may lengthen a text first."""
    if text.isascii():
        return len(text)
    size = len(text.encode("utf-8", "surrogatepass"))
    return (
        size
        if is_normalized("NFKC", text)
        else max(size, len(normalize("NFKC", text).encode("utf-8", "surrogatepass")))
    )


def view_bound(view: View) -> int:
    """At least as many as the input tokens of a request that shows this view."""
    texts = [text for message in view.messages for text in (message.text, message.reasoning) if text is not None]
    if view.system is not None:
        texts.append(view.system)
    return sum(text_bound(text) + _PER_MESSAGE for text in texts)


def extra_text(extra: Mapping[str, Any]) -> str:
    """What the job's own fields of a request come to where a model is shown them, as tools are; nothing for none."""
    return json.dumps(extra, indent=4, ensure_ascii=False, default=str) if extra else ""


class InputBound(NamedTuple):
    """A bound on input tokens: those the provider has counted in a prefix, and the bytes of what is new."""

    counted: int
    bytes: int

    @property
    def tokens(self) -> int:
        return self.counted + self.bytes


class CountedView(NamedTuple):
    """What a provider made of the beginning of a view: the bound on that, and the tokens that it counted."""

    bound: int
    tokens: int


def input_bound(
    bound: int, earlier: CountedView | None = None, extra: Mapping[str, Any] = MappingProxyType({})
) -> InputBound:
    """The bound on a view, of which that on its texts is `bound`, and whose beginning may have been counted before.

    Each request has the same `extra` beside its view, so what was counted has it in it.
    """
    if earlier is not None and earlier.tokens >= earlier.bound * FEWEST_TOKENS_PER_BYTE:
        # More than the bytes, too: some providers put words of their own before ours, charged for each time.
        return InputBound(earlier.tokens, max(0, bound - earlier.bound))
    return InputBound(0, bound + text_bound(extra_text(extra)))


class Charge(NamedTuple):
    """What an outcome costs, where the figure comes from, and what the price list makes of its usage."""

    cost: Nanos
    source: Source
    computed: Nanos | None
    overrun: bool


def charge(outcome: Outcome, price: Price, reserved: Nanos, max_tokens: int) -> Charge:
    """Settle an outcome against its reservation; an unknown figure is the whole reservation, never nothing."""
    usage = outcome.usage
    text = outcome.text if isinstance(outcome, Reply) else outcome.partial
    computed = _computed(usage, price)
    overrun = _output(usage, text, outcome.reasoning) > max_tokens * _OVERRUN_SLACK + 8
    if isinstance(outcome, Failure) and outcome.money == "free":
        return Charge(0, "reported", computed, overrun)
    settled: Nanos | None = None
    source: Source = "unknown"
    if isinstance(outcome, Reply) or outcome.money == "known":
        settled, source = _settled(usage, computed, price, isinstance(outcome, Reply))
    if settled is None:
        settled = unknown_cost(reserved, usage, price, text, outcome.reasoning)
    return Charge(settled, source, computed, overrun or settled > reserved)


def unknown_cost(reserved: Nanos, usage: Usage, price: Price, *texts: str | None) -> Nanos:
    """What is charged where nobody can tell: what was reserved, or more where figures or the text itself say more."""
    told = (usage.cost or 0, _computed(usage, price) or 0) if usage.trusted else ()
    return max(reserved, *told, cost(price, 0, _output(usage, *texts)))


def _output(usage: Usage, *texts: str | None) -> int:
    """The output tokens as counted; where they are not, the fewest that the text can be."""
    return usage.output if usage.trusted and usage.output is not None else fewest_tokens(*texts)


def _settled(usage: Usage, computed: Nanos | None, price: Price, has_text: bool) -> tuple[Nanos | None, Source]:
    if price.free:
        return usage.cost or 0, "priced" if usage.cost is None else "reported"
    if not usage.trusted:
        return None, "unknown"
    # A cost of nothing beside text is what a provider says whose accounting has not caught up.
    told = usage.cost
    likely = not usage.hearsay or (computed is not None and (told or 0) * _FAR_BELOW >= computed)
    if told is not None and likely and (told > 0 or not has_text):
        return told, "reported"
    return computed, "priced" if computed is not None else "unknown"


def _computed(usage: Usage, price: Price) -> Nanos | None:
    if usage.input is None or usage.output is None or not usage.trusted:
        return None
    return cost(price, usage.input, usage.output, usage.cached_read or 0, usage.cached_write or 0)
