"""What conversations will cost and how long they take: the guess is below the most, and the most is above the bill."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.conversation import Aside, Conversation, Inbox, Line, Participant, view
from runner.forecast import AT_MOST, FIRST_OUTPUT_SHARE, Load, Total, assumed_seconds, expecting, loads, pace
from runner.limits import Limits
from runner.money import Price
from runner.plan import make_plan
from runner.preflight import prices
from tests.nights import Night, job_of

PRICE = Price(Decimal(1), Decimal(4))
"""A thousand nano-dollars an input token, four thousand an output token."""


def talk(rounds: int = 2, *, others: int = 1, context: str | None = None) -> Conversation:
    roles = ("a", "b", "c")[: others + 1]
    return Conversation(
        id="x",
        name="x",
        prompt="x",
        repeat=1,
        participants=tuple(
            Participant(role, role, live=True, alias=role, provider="p", model=role, max_tokens=100) for role in roles
        ),
        lines=tuple(Line(n * len(roles) + i + 1, n + 1, role) for n in range(rounds) for i, role in enumerate(roles)),
        context=context,
        opening="Begin.",
    )


def listener(kind: Literal["pick", "vote", "notes"], *, every: int = 1, prompt: str = "Well?") -> Aside:
    by = Participant("observer", "o", live=True, alias="o", provider="p", model="o", max_tokens=1000)
    return Aside(id=kind, kind=kind, by=by, prompt=prompt, every=every)


def test_those_who_read_the_whole_are_counted_once_and_pay_for_all_of_it() -> None:
    """An observer reads every line and its question; when it has its answer it costs nothing more."""
    plain = talk(3)
    watched = replace(plain, after=(listener("notes", prompt="x" * 50),))
    found = loads(watched, lambda _: PRICE, AT_MOST)
    assert {alias: load for alias, load in found.items() if alias != "o"} == loads(plain, lambda _: PRICE, AT_MOST)
    assert (found["o"].calls, found["o"].output) == (1, 1000)
    assert found["o"].input > 6 * 100 + 50
    assert "o" not in loads(watched, lambda _: PRICE, AT_MOST, done=range(1, 7), answered={"notes"})
    assert loads(watched, lambda _: PRICE, AT_MOST, done=range(1, 7)) == {"o": found["o"]}


def test_votes_are_held_between_rounds_and_picks_wherever_there_is_a_choice() -> None:
    """Nobody votes after the last round, or on a round that is over; the last of a round needs no choosing."""
    shape = talk(7, others=2)
    assert loads(replace(shape, voters=(listener("vote"),)), lambda _: PRICE, AT_MOST)["o"].calls == 6
    seldom = replace(shape, voters=(listener("vote", every=3),))
    assert loads(seldom, lambda _: PRICE, AT_MOST)["o"].calls == 2
    assert loads(seldom, lambda _: PRICE, AT_MOST, done=range(1, 13))["o"].calls == 1
    led = replace(shape, moderator=listener("pick"))
    assert loads(led, lambda _: PRICE, AT_MOST)["o"].calls == 14
    assert loads(led, lambda _: PRICE, AT_MOST, done=range(1, 20))["o"].calls == 1
    assert loads(led, lambda _: PRICE, expecting(lambda _: 900.0))["o"].output < 14 * 200


def test_lines_that_come_out_of_an_inbox_are_no_calls_and_are_read() -> None:
    """Nobody knows how long they will be; each makes the calls after it dearer."""
    shape = talk(2)
    a, b = shape.participants
    boxed = replace(shape, participants=(a, replace(b, live=False, alias="", max_tokens=0, inbox=Inbox(file="x"))))
    found = loads(boxed, lambda _: PRICE, AT_MOST)
    assert list(found) == ["a"] and found["a"].calls == 2
    assert found["a"].input > loads(replace(shape, lines=shape.lines[::2]), lambda _: PRICE, AT_MOST)["a"].input + 100


def test_a_reply_is_expected_to_be_as_long_as_that_model_was() -> None:
    """A known mean counts, never above the limit; without one it is a share of the limit."""
    means: Mapping[str, float | None] = {"a": 25.0, "b": 900.0, "c": None}
    found = loads(talk(1, others=2), lambda _: PRICE, expecting(means.__getitem__))
    assert found["a"].output == 25
    assert found["b"].output == 100
    assert found["c"].output == 100 * FIRST_OUTPUT_SHARE


def test_turns_that_have_their_reply_cost_nothing_more_but_are_read() -> None:
    """What is done is left out of calls and cost; what comes after still pays for reading it."""
    whole = loads(talk(2), lambda _: PRICE, AT_MOST)
    rest = loads(talk(2), lambda _: PRICE, AT_MOST, done={1, 2, 3})
    assert (whole["a"].calls, whole["b"].calls) == (2, 2)
    assert list(rest) == ["b"]
    assert rest["b"].calls == 1
    assert rest["b"].input > 300
    assert rest["b"].cost == rest["b"].largest == whole["b"].largest


def test_what_is_given_counts_for_everybody_who_reads_it() -> None:
    """A longer context makes every call dearer, by its bytes at most."""
    short, long = (loads(talk(1, context=text), lambda _: PRICE, AT_MOST) for text in ("x", "x" * 1001))
    for alias in ("a", "b"):
        assert long[alias].input - short[alias].input == 1000
        assert long[alias].cost - short[alias].cost == 1000 * 1000


def test_what_the_job_adds_to_each_request_counts_for_its_speaker_alone() -> None:
    """Tools are shown with every call; the other side does not see them."""
    plain = talk(2)
    first, second = plain.participants
    tools = {"tools": ["x" * 1000]}
    found = loads(replace(plain, participants=(replace(first, extra=tools), second)), lambda _: PRICE, AT_MOST)
    bare = loads(plain, lambda _: PRICE, AT_MOST)
    assert found["a"].input - bare["a"].input > 2000
    assert found["b"] == bare["b"]


def test_the_largest_call_of_a_model_may_come_before_smaller_ones() -> None:
    """A model that plays two sides with different limits has its largest call where the limit is high."""
    shape = talk(1)
    first, second = shape.participants
    both = replace(shape, participants=(replace(first, max_tokens=5000), replace(second, alias="a")))
    found = loads(both, lambda _: PRICE, AT_MOST)["a"]
    assert found.calls == 2
    assert found.largest > found.cost - found.largest


def test_totals_are_sums_and_keep_the_largest_call() -> None:
    """Adding loads adds calls and money, and the dearest call stays the dearest."""
    total = Total()
    total.add({"a": Load(1, 10.0, 5.0, 7, 7)})
    total.add({"a": Load(2, 1.0, 1.0, 8, 4), "b": Load(1, 0.0, 0.0, 1, 1)})
    assert (total.calls, total.cost) == (4, 16)
    assert total.models["a"] == Load(3, 11.0, 6.0, 15, 7)


@pytest.mark.parametrize(
    ("limits", "minutes", "bound"),
    [
        (Limits(concurrency=16, rpm=10), 12.0, "10 requests/min"),
        (Limits(concurrency=16, tpm=1000), 44.0, "1,000 tokens/min"),
        (Limits(concurrency=16, tpm=1000, count="used"), 36.0, "1,000 tokens/min"),
        (Limits(concurrency=16, input_tpm=1000), 24.0, "1,000 input tokens/min"),
        (Limits(concurrency=16, output_tpm=1000), 20.0, "1,000 output tokens/min"),
        (Limits(concurrency=16, rpm=10, rpd=50), 2880.0, "50 requests/day"),
        (Limits(concurrency=16, rpm=10, rpd=120), 12.0, "10 requests/min"),
        (Limits(concurrency=2), 3.0, "2 at once, each for 3.0 s"),
        (Limits(concurrency=200), 0.6, "10 at once, each for 3.0 s"),
    ],
)
def test_a_lane_takes_as_long_as_its_tightest_limit_says(limits: Limits, minutes: float, bound: str) -> None:
    """Of all limits the slowest decides, and is named; no more calls fly than there are conversations."""
    found = pace(Load(120, 24_000, 12_000), 20_000, limits, conversations=10, seconds=360.0)
    assert found.bound == bound
    assert found.minutes == pytest.approx(minutes)


def test_where_nothing_is_known_of_a_model_its_calls_take_a_second_and_fifty_tokens_a_second() -> None:
    """A guess, which follows how much is said."""
    assert assumed_seconds(Load(30, 0, 1500)) == pytest.approx(60.0)


# --- the most, and the bill --------------------------------------------------------------------------------------

TEXTS = st.text(st.sampled_from("ab é\n漢🜁ﷺ{"), max_size=60).map(lambda text: text.replace("{{", "{ {") + " so on" * 60)


@st.composite
def jobs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job on models without faults, and the provider that serves them."""
    models: dict[str, Any] = {}
    described: dict[str, Any] = {}
    for name in ("x", "y", "z"):
        reasoning = draw(st.sampled_from([0, 0, 30]))
        models[name] = {
            "price": {"input": draw(st.sampled_from(["0.1", "3"])), "output": "7", "request": "0.0001"},
            "reply": {"mean": draw(st.integers(1, 120)), "spread": 0.5},
            "reasoning": reasoning,
        }
        # Room for all the thinking and a few words: a model that only thinks has not answered, which is a fault.
        described[name] = {"use": f"sim/{name}", "max_tokens": int(reasoning * 1.5) + draw(st.integers(8, 150))}
    sides = draw(st.integers(1, 3))
    rounds = draw(st.integers(1, 3))
    roles: dict[str, Any] = {name: {} for name in ("a" + "漢" * 59, "b" + "漢" * 59, "c")[:sides]}
    for role in roles.values():
        if draw(st.booleans()):
            role["system"] = draw(TEXTS)
    if draw(st.booleans()):
        roles["host"] = {"script": [draw(TEXTS) for _ in range(rounds)]}
    live = list(roles)[:sides]
    prompt: dict[str, Any] = {"roles": roles, "rounds": rounds, "opening": draw(TEXTS)}
    if draw(st.booleans()):
        prompt["context"] = draw(TEXTS)
    if draw(st.booleans()):
        prompt["turns"] = [{"by": role, **({"instruct": draw(TEXTS)} if role in live else {})} for role in roles]
    if draw(st.booleans()):
        prompt |= {"order": "moderator", "moderator": {"model": draw(st.sampled_from("xyz"))}}
    elif draw(st.booleans()):
        prompt["order"] = "random"
    if draw(st.booleans()):
        prompt["after"] = [{"observer": name, "prompt": draw(TEXTS)} for name in draw(st.sets(st.sampled_from("xyz")))]
    pairing = {role: draw(st.lists(st.sampled_from("xyz"), min_size=1, max_size=2, unique=True)) for role in live}
    sim = {"models": models}
    job = {
        "name": "job",
        "budget": 5,
        "providers": {"sim": {"sim": sim}},
        "models": described,
        "prompts": {"p": prompt},
        "pairings": [pairing],
    }
    return job, sim


@given(jobs())
@settings(max_examples=25)
def test_the_likely_most_is_at_least_the_bill_of_a_run_without_faults(
    drawn: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    """Whoever speaks, thinks or reads a script: each turn once at its limit is at least what the provider charges."""
    job, sim = drawn
    text = json.dumps(job)
    plan = make_plan(job_of(text), "2026-11-21")
    known = prices(plan)
    most, expected = Total(), Total()
    for cell in plan.cells:
        most.add(loads(plan.conversation(cell), known.__getitem__, AT_MOST))
        expected.add(loads(plan.conversation(cell), known.__getitem__, expecting(lambda alias: None)))
    night = Night(text, sim)
    assert night.live().exit == 0
    assert night.engine.bill.accepted <= most.calls == expected.calls
    if "moderator" not in job["prompts"]["p"]:
        # How often there is a choice depends on what was chosen before.
        assert night.engine.bill.accepted == most.calls
    assert 0 < night.billed <= most.cost
    assert expected.cost <= most.cost
    for alias, account in night.engine.bill.models.items():
        load = most.models[alias]
        assert account.input <= load.input
        assert account.output <= load.output
        assert max(c.cost for c in night.engine.bill.charges.values() if c.model == alias) <= load.largest


@given(jobs())
@settings(max_examples=25)
def test_the_most_covers_a_model_that_makes_each_byte_a_token(drawn: tuple[dict[str, Any], dict[str, Any]]) -> None:
    """Everything that is shown is counted: system texts, context, instructions, name tags, earlier lines."""
    plan = make_plan(job_of(json.dumps(drawn[0])), "2026-11-21")
    for cell in plan.cells:
        conversation = plan.conversation(cell)
        shown: Counter[str] = Counter()
        history: list[str] = []
        for line in conversation.lines:
            speaker = conversation.participant(line.role)
            if line.given is None:
                seen = view(conversation, line.role, history, line.instruct)
                shown[speaker.alias] += sum(len(m.text.encode()) + 8 for m in seen.messages)
                shown[speaker.alias] += len((seen.system or "").encode())
            history.append("x" * speaker.max_tokens if line.given is None else line.given)
        found = loads(conversation, prices(plan).__getitem__, AT_MOST)
        assert {alias: tokens for alias, tokens in shown.items() if tokens > found[alias].input} == {}
