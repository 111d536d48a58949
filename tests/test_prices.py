"""What a call costs: the bound is never below what a provider can count, and no odd figure lowers a charge."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Call, Failure, Message, Money, Outcome, Reply, Usage, View, fewest_tokens
from runner.money import FREE, Price, ceiling, cost
from runner.prices import Charge, CountedView, InputBound, charge, input_bound, text_bound, view_bound
from runner.providers import DIALECTS
from runner.sim.engine import count_tokens

EXPANDING = "\ufdfa\ufdfb\u3300\u33ff\u2a74\u1f82\ufb2c\u0958\U0001d15e\U0001f213"
any_text = st.text(st.characters() | st.sampled_from(EXPANDING), max_size=40)
views = st.builds(
    View,
    st.none() | any_text,
    st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), any_text), max_size=5).map(tuple),
)


# --- bounds ------------------------------------------------------------------------------------------------------


@given(any_text)
@settings(max_examples=200)
def test_a_bound_is_never_below_the_tokens_of_a_text(text: str) -> None:
    """Neither as the built-in provider counts, nor one token for each byte, nor so after normalising."""
    from unicodedata import normalize

    bound = text_bound(text)
    assert bound >= count_tokens(text)
    assert bound >= len(text.encode("utf-8", "surrogatepass"))
    assert bound >= len(normalize("NFC", text).encode("utf-8", "surrogatepass"))
    assert bound >= len(normalize("NFKC", text).encode("utf-8", "surrogatepass"))


def test_a_character_that_grows_is_bounded_at_its_full_length() -> None:
    """One sign of three bytes that some tokenizers read as eighteen letters."""
    assert len("\ufdfa".encode()) == 3
    assert text_bound("\ufdfa") == 33
    assert text_bound("plain") == 5
    assert text_bound("") == 0


@given(views)
def test_a_view_is_bounded_with_all_its_texts_and_a_frame_for_each(shown: View) -> None:
    """The system text counts like a message."""
    texts = [message.text for message in shown.messages] + ([] if shown.system is None else [shown.system])
    assert view_bound(shown) == sum(text_bound(text) + 64 for text in texts)


def two_views(first: str, reply: str, then: str) -> tuple[View, View]:
    before = View("Be brief.", (Message("user", first),))
    return before, View("Be brief.", (*before.messages, Message("assistant", reply), Message("user", then)))


def bound_after(before: View, after: View, counted: int, extra: dict[str, Any] | None = None) -> InputBound:
    return input_bound(view_bound(after), CountedView(view_bound(before), counted), extra or {})


@given(any_text, any_text, any_text, st.integers(0, 400))
@settings(max_examples=200)
def test_the_bound_stands_on_what_was_counted(first: str, reply: str, then: str, overhead: int) -> None:
    """Whatever a provider adds to each request of its own: counted once, it is in the bound ever after."""
    before, after = two_views(first, reply, then)

    def counted(shown: View) -> int:
        return overhead + sum(count_tokens(m.text) + 4 for m in shown.messages) + count_tokens(shown.system or "")

    assert bound_after(before, after, counted(before)).tokens >= counted(after)


TOOLS: dict[str, Any] = {"tools": [{"name": "ﷺ", "text": "x" * 1000}]}


def test_what_a_job_adds_to_its_requests_is_in_the_bound_until_it_is_counted() -> None:
    """Models are shown it as JSON, with as much white space as a template likes; a count of the view has it in it."""
    before, after = two_views("x" * 1000, "y" * 100, "z" * 10)
    least = len(orjson.dumps(TOOLS, option=orjson.OPT_INDENT_2)) + 30
    assert input_bound(view_bound(before), extra=TOOLS).tokens >= view_bound(before) + least
    assert bound_after(before, after, 1, TOOLS).tokens >= view_bound(after) + least
    assert bound_after(before, after, 1500, TOOLS) == bound_after(before, after, 1500)
    assert input_bound(view_bound(before), extra={}) == input_bound(view_bound(before))


def test_a_count_replaces_the_bytes_of_what_was_counted() -> None:
    """Only what is new is still bounded by bytes."""
    before, after = two_views("x" * 1000, "y" * 100, "z" * 10)
    assert input_bound(view_bound(before)) == (0, 9 + 64 + 1000 + 64)
    found = bound_after(before, after, 260)
    assert found == (260, 100 + 64 + 10 + 64)
    assert found.tokens == 498


@pytest.mark.parametrize("reported", [0, 1, 30])
def test_a_count_that_cannot_be_of_this_text_is_not_believed(reported: int) -> None:
    """Then the bytes alone make the bound."""
    before, after = two_views("x" * 1000, "y", "z")
    assert bound_after(before, after, reported) == (0, view_bound(after))


def test_a_count_beyond_the_bytes_is_believed() -> None:
    """A provider that puts a preamble of its own before ours charges for it in every request."""
    before, after = two_views("hi", "ho", "hu")
    assert view_bound(before) < 5000
    assert bound_after(before, after, 5000).tokens > 5000


# --- charges -----------------------------------------------------------------------------------------------------

PRICE = Price(Decimal(1), Decimal(5))
RESERVED = ceiling(PRICE, 1000, 100)  # 1_500_000
FIGURES = Usage(input=400, output=80)
LONG = "many words " * 2000
COMPUTED = cost(PRICE, 400, 80)  # 800_000


def reply(usage: Usage = FIGURES) -> Reply:
    return Reply("text", "ok", usage)


def failure(money: Money, usage: Usage = FIGURES, partial: str | None = None) -> Failure:
    return Failure("error", "call", money, "trouble", usage=usage, partial=partial)


CHARGES: dict[str, tuple[Outcome, Charge]] = {
    "priced from the tokens": (reply(), Charge(COMPUTED, "priced", COMPUTED, False)),
    "the provider's own figure wins, below": (
        reply(Usage(400, 80, cost=700_000)),
        Charge(700_000, "reported", COMPUTED, False),
    ),
    "the provider's own figure wins, above": (
        reply(Usage(400, 80, cost=900_000)),
        Charge(900_000, "reported", COMPUTED, False),
    ),
    "a figure without tokens": (reply(Usage(cost=700_000)), Charge(700_000, "reported", None, False)),
    "nothing known": (reply(Usage()), Charge(RESERVED, "unknown", None, False)),
    "half of the tokens known": (reply(Usage(output=80)), Charge(RESERVED, "unknown", None, False)),
    "a cost of nothing beside text": (reply(Usage(400, 80, cost=0)), Charge(COMPUTED, "priced", COMPUTED, False)),
    "a cost of nothing beside text without tokens": (reply(Usage(cost=0)), Charge(RESERVED, "unknown", None, False)),
    "untrusted": (reply(Usage(400, 80, trusted=False)), Charge(RESERVED, "unknown", None, False)),
    "untrusted with a cost": (reply(Usage(400, 80, cost=1, trusted=False)), Charge(RESERVED, "unknown", None, False)),
    "more output than allowed": (
        reply(Usage(400, 2000)),
        Charge(cost(PRICE, 400, 2000), "priced", cost(PRICE, 400, 2000), True),
    ),
    "a little more output than allowed": (
        reply(Usage(400, 113)),
        Charge(cost(PRICE, 400, 113), "priced", cost(PRICE, 400, 113), False),
    ),
    "a cost that is hearsay": (
        reply(Usage(400, 80, cost=400_000, hearsay=True)),
        Charge(400_000, "reported", COMPUTED, False),
    ),
    "hearsay far below the tokens": (
        reply(Usage(400, 80, cost=399_999, hearsay=True)),
        Charge(COMPUTED, "priced", COMPUTED, False),
    ),
    "hearsay above the tokens": (
        reply(Usage(400, 80, cost=900_000, hearsay=True)),
        Charge(900_000, "reported", COMPUTED, False),
    ),
    "hearsay without tokens": (reply(Usage(cost=1, hearsay=True)), Charge(RESERVED, "unknown", None, False)),
    "far more text than allowed, and no figures": (
        Reply(LONG, "ok", reasoning=LONG),
        Charge(cost(PRICE, 0, fewest_tokens(LONG, LONG)), "unknown", None, True),
    ),
    "as much text as allowed, and no figures": (
        Reply("many words " * 40, "ok"),
        Charge(RESERVED, "unknown", None, False),
    ),
    "far more text than allowed, cut by us": (
        failure("assumed", Usage(), LONG),
        Charge(cost(PRICE, 0, fewest_tokens(LONG)), "unknown", None, True),
    ),
    "far more text than allowed, beside a count": (
        Reply(LONG, "ok", Usage(400, 80)),
        Charge(COMPUTED, "priced", COMPUTED, False),
    ),
    "a cost above the reservation": (
        reply(Usage(400, 80, cost=RESERVED + 1)),
        Charge(RESERVED + 1, "reported", COMPUTED, True),
    ),
    "more input than bounded": (
        reply(Usage(2000, 80)),
        Charge(cost(PRICE, 2000, 80), "priced", cost(PRICE, 2000, 80), True),
    ),
    "cached input": (
        reply(Usage(400, 80, cached_read=300)),
        Charge(COMPUTED, "priced", COMPUTED, False),
    ),
    "a free failure": (failure("free", Usage()), Charge(0, "reported", None, False)),
    "an assumed failure": (failure("assumed", Usage()), Charge(RESERVED, "unknown", None, False)),
    "an assumed failure that used little": (failure("assumed"), Charge(RESERVED, "unknown", COMPUTED, False)),
    "an assumed failure that cost more": (
        failure("assumed", Usage(400, 80, cost=RESERVED + 5)),
        Charge(RESERVED + 5, "unknown", COMPUTED, True),
    ),
    "a failure with figures": (failure("known"), Charge(COMPUTED, "priced", COMPUTED, False)),
    "a failure that cost nothing by their word": (
        failure("known", Usage(400, 0, cost=0)),
        Charge(0, "reported", cost(PRICE, 400, 0), False),
    ),
    "a failure of which nothing is known": (failure("known", Usage()), Charge(RESERVED, "unknown", None, False)),
    "a failure with absurd figures": (
        failure("known", Usage(trusted=False)),
        Charge(RESERVED, "unknown", None, False),
    ),
}


@pytest.mark.fault(52)
@pytest.mark.parametrize("case", CHARGES)
def test_a_charge_follows_the_table(case: str) -> None:
    """Reported, else priced, else the whole reservation."""
    outcome, expected = CHARGES[case]
    assert charge(outcome, PRICE, RESERVED, 100) == expected


def test_a_free_model_costs_nothing_unless_its_provider_says_so() -> None:
    """Then the job's word was wrong, and it is found out."""
    assert charge(reply(Usage()), FREE, 0, 100) == Charge(0, "priced", None, False)
    assert charge(failure("assumed", Usage()), FREE, 0, 100).cost == 0
    assert charge(reply(Usage(400, 80, cost=3)), FREE, 0, 100) == Charge(3, "reported", 0, True)


counts = st.none() | st.integers(0, 10**9)
usages = st.builds(Usage, counts, counts, counts, counts, counts, st.none() | st.integers(0, 10**12), st.booleans())


@given(usages, st.sampled_from(["free", "known", "assumed", None]), st.integers(0, 10**9))
@settings(max_examples=200)
def test_what_is_not_known_is_never_charged_below_the_reservation(
    usage: Usage, money: Money | None, reserved: int
) -> None:
    """Whatever the usage, an unknown cost is the reservation at least, and more than reserved is flagged."""
    outcome = reply(usage) if money is None else failure(money, usage)
    found = charge(outcome, PRICE, reserved, 100)
    assert found.cost >= 0
    if found.source == "unknown":
        assert found.cost >= reserved
    if found.cost > reserved:
        assert found.overrun
    if money != "free" and usage.trusted and usage.cost:
        assert found.cost >= usage.cost


# --- what a provider writes --------------------------------------------------------------------------------------

SOUND = {"prompt_tokens": 400, "completion_tokens": 80}


def answered(usage: dict[str, Any] | None, text: str = "Hello.", type_: str = "openai") -> Charge:
    """The charge for an answer of chat completions with this usage object."""
    reader = DIALECTS[type_].reader(Call("c", 1, 1, "p", "m", View(None, (Message("user", "Hi"),)), 100))
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    reader.feed(orjson.dumps({"id": "g", "choices": [choice], "usage": usage}))
    return charge(reader.outcome(None), PRICE, RESERVED, 100)


@pytest.mark.fault(51)
@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": 400, "completion_tokens": 0},
        {"prompt_tokens": "400", "completion_tokens": "80"},
        {"prompt_tokens": 400.5, "completion_tokens": 80},
        {"prompt_tokens": -400, "completion_tokens": 80},
        {"prompt_tokens": 400, "completion_tokens": 2**60},
        {"prompt_tokens": True, "completion_tokens": 80},
        {**SOUND, "cost": -0.001},
        {**SOUND, "cost": "0.0000001"},
        {**SOUND, "cost": 1e300},
        {**SOUND, "cost": True},
        {**SOUND, "prompt_tokens_details": {"cached_tokens": 401}},
    ],
    ids=repr,
)
def test_absurd_usage_beside_text_keeps_the_reservation(usage: dict[str, Any] | None) -> None:
    """Strings, signs, zeros and impossible sums are no figures."""
    found = answered(usage)
    assert (found.cost, found.source) == (RESERVED, "unknown")


def test_a_count_far_too_low_for_the_text_keeps_the_reservation() -> None:
    """4,000 characters are no single token; a thousand tokens they may be."""
    text = "many words " * 400
    assert answered({"prompt_tokens": 400, "completion_tokens": 1}, text)[:2] == (RESERVED, "unknown")
    assert answered({"prompt_tokens": 400, "completion_tokens": 100, "cost": 0.0000001}, text).source == "unknown"
    assert answered({"prompt_tokens": 400, "completion_tokens": 1000}, text).source == "priced"
    assert answered({"prompt_tokens": 400, "completion_tokens": 1}, "internationalization " * 4).source == "priced"


def test_a_cost_of_next_to_nothing_is_believed_only_of_those_who_are_known_to_tell_costs() -> None:
    """Whoever is like OpenAI is held against its own tokens; OpenRouter may have a discount that no list has."""
    usage = {**SOUND, "cost": 1e-9}
    assert answered(usage)[:2] == (COMPUTED, "priced")
    assert answered(usage, type_="openrouter")[:2] == (1, "reported")


def test_ones_own_key_adds_what_the_upstream_charges() -> None:
    """The router's fee and the upstream's price together are the cost; without a key of one's own it is in the fee."""
    upstream = {"upstream_inference_cost": 0.0007}
    assert answered({**SOUND, "cost": 0.00005, "is_byok": True, "cost_details": upstream}).cost == 750_000
    assert answered({**SOUND, "cost": 0, "is_byok": True, "cost_details": upstream}).cost == 700_000
    assert answered({**SOUND, "cost": 0.0008, "is_byok": False, "cost_details": upstream}).cost == 800_000


def test_an_empty_answer_costs_nothing_only_where_its_provider_says_so() -> None:
    """Zero tokens alone are no figure; zero tokens and a cost of zero are."""
    nothing = {"prompt_tokens": 0, "completion_tokens": 0}
    assert answered({**nothing, "cost": 0}, "") == Charge(0, "reported", 0, False)
    assert answered(nothing, "").cost == RESERVED
