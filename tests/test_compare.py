"""Two runs held against each other: who belongs together, what is worse or better, how much alike the texts are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.call import Usage
from runner.compare import Asked, Difference, Pair, difference, facts, pairs, similarity, sums
from runner.conversation import Origin, Transcript
from runner.plan import make_plan
from tests.nights import TALK as JOB
from tests.nights import job_of
from tests.render.samples import BASIL, HOST, conversation, turn

CENT = 10_000_000
PAIR = (("a", "sim/ada"), ("b", "sim/basil"))


def asked(id_: str, name: str, prompt: str = "memory", models: Any = PAIR, repeat: int = 1) -> Asked:
    return Asked(id_, name, prompt, models, repeat)


def talk(*texts: str, **changes: Any) -> Transcript:
    """A complete conversation of these lines, at a cent."""
    return conversation([turn(n, text) for n, text in enumerate(texts, 1)], spent=CENT, **changes)


TALK_PLAN = make_plan(job_of(JOB), "2026-11-21")
TALK = talk("What survives of it is the question.", "And who asks it.")


def against(**changes: Any) -> Difference:
    """The talk held against itself with these changes."""
    return difference(TALK, replace(TALK, **changes))


# --- who belongs together ----------------------------------------------------------------------------------------


def test_the_same_id_is_the_same_conversation_whatever_it_is_called() -> None:
    """A renamed alias changes names and nothing else, even where two have swapped theirs."""
    before = [asked("1", "memory/x~y"), asked("2", "memory/y~x")]
    after = [asked("1", "memory/y~x"), asked("2", "memory/x~y")]
    assert pairs(before, after) == [Pair(0, 0), Pair(1, 1)]


def test_an_edited_one_is_found_by_its_name() -> None:
    """Its id is new, because its texts are; its name stays, though another model may be behind it."""
    before = [asked("1", "memory/x~y"), asked("2", "letter/x~y", "letter")]
    after = [asked("9", "letter/x~y", "letter", (("a", "sim/other"), ("b", "sim/basil"))), asked("1", "memory/x~y")]
    assert pairs(before, after) == [Pair(1, 0), Pair(0, 1)]


def test_an_edited_one_that_is_called_otherwise_is_found_by_what_was_asked() -> None:
    """Prompt, models and repeat are enough; where several would do, none is taken."""
    before = [asked("1", "memory/x~y"), asked("2", "memory/x~y.r2", repeat=2)]
    after = [asked("8", "memory/far-x~y"), asked("9", "memory/far-x~y.r2", repeat=2)]
    assert pairs(before, after) == [Pair(0, 0), Pair(1, 1)]
    twice = [asked("8", "memory/far-x~y"), asked("9", "memory/far-x~y.p2")]
    assert pairs(before[:1], twice) == [Pair(None, 0), Pair(None, 1), Pair(0, None)]


def test_what_is_new_stands_in_its_place_and_what_is_gone_comes_last() -> None:
    """The order is that of the later run."""
    before = [asked("1", "a/x"), asked("2", "b/x", "b")]
    after = [asked("3", "c/x", "c"), asked("2", "b/x", "b")]
    assert pairs(before, after) == [Pair(None, 0), Pair(1, 1), Pair(0, None)]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("mn"), st.integers(1, 2)), max_size=8), st.data())
def test_every_conversation_of_both_runs_is_in_exactly_one_pair(keys: list[tuple[str, str, int]], data: Any) -> None:
    """Whatever was renamed, edited, added or dropped."""
    unique = list(dict.fromkeys(keys))
    before = [asked(f"{name}{prompt}{n}", f"{prompt}/{name}{n}", prompt, PAIR, n) for name, prompt, n in unique]
    after = [
        one._replace(
            id=data.draw(st.sampled_from([one.id, one.id + "'"])), name=data.draw(st.sampled_from([one.name, "z"]))
        )
        for one in data.draw(st.permutations(before))
        if data.draw(st.booleans())
    ]
    found = pairs(before, after)
    assert sorted(pair.before for pair in found if pair.before is not None) == list(range(len(before)))
    assert [pair.after for pair in found if pair.after is not None] == list(range(len(after)))
    assert all(pair != (None, None) for pair in found)


# --- better and worse --------------------------------------------------------------------------------------------


def test_one_that_came_to_the_same_is_the_same_and_nothing_else() -> None:
    """Nothing is told of it, and its texts are wholly alike."""
    same = against()
    assert list(same.kinds()) == ["same"]
    assert (same.changes, same.worse, same.better, same.other, same.similarity) == ((), (), (), (), 1.0)


def test_one_that_is_not_complete_any_more_is_worse_and_one_that_is_now_is_better() -> None:
    """The reason is told; two ways of not being complete are neither."""
    worse = against(status="failed", reason="turn 2: empty")
    assert list(worse.kinds()) == ["same", "worse"]
    assert worse.worse == ("status: complete -> failed (turn 2: empty)",)
    better = difference(replace(TALK, status="pending", reason="not begun"), TALK)
    assert (better.worse, better.better) == ((), ("status: pending (not begun) -> complete",))
    neither = difference(replace(TALK, status="pending", reason="not begun"), replace(TALK, status="failed"))
    assert (neither.worse, neither.better, neither.other) == ((), (), ("status: pending (not begun) -> failed",))


@pytest.mark.parametrize(
    ("spent", "kinds"),
    [(CENT * 11 // 10, ["same"]), (CENT * 11 // 10 + 1, ["same", "worse"]), (CENT * 10 // 11 - 1, ["same", "better"])],
)
def test_one_that_is_dearer_by_more_than_a_tenth_is_worse(spent: int, kinds: list[str]) -> None:
    """Exactly a tenth is none, and the other way round it is better; the figures are told in any case."""
    found = against(spent=spent)
    assert list(found.kinds()) == kinds
    assert [told.partition(":")[0] for told in (*found.worse, *found.better, *found.other)] == ["cost"]
    assert against(spent=2 * CENT).worse == ("cost: $0.0100 -> $0.0200 (+100.0 %)",)


def test_the_cost_of_one_that_broke_off_is_no_bargain() -> None:
    """It cost less because it did less."""
    broke_off = difference(TALK, replace(TALK, status="failed", spent=CENT // 2))
    assert broke_off.better == ()
    assert "cost: $0.0100 -> $0.0050 (-50.0 %)" in broke_off.other


@pytest.mark.parametrize("how", [{"carried": True}, {"heard": "old.md"}])
def test_the_cost_of_one_that_was_not_bought_whole_is_judged_by_nobody(how: dict[str, Any]) -> None:
    """What was carried over, or read in from a file, was paid for elsewhere."""
    partly = replace(TALK, turns=(replace(TALK.turns[0], **how), TALK.turns[1]), spent=CENT // 2)
    assert difference(partly, TALK).worse == ()
    assert difference(TALK, partly).better == ()


def test_one_that_ended_earlier_is_worse_unless_less_was_planned() -> None:
    """A rule that stopped it counts as well as a failure; rounds that the job has taken away do not."""
    short = replace(TALK, turns=(TALK.turns[0], turn(2, None)), reason="farewell")
    assert "turns: 2 -> 1" in difference(TALK, short).worse
    planned = replace(TALK, turns=TALK.turns[:1])
    assert difference(TALK, planned).worse == ()
    assert "turns: 2 -> 1" in difference(TALK, planned).other
    assert "turns: 1 -> 2" in difference(short, TALK).better


@pytest.mark.parametrize("outcome", ["truncated", "refused"])
def test_more_truncated_or_refused_replies_are_worse(outcome: Literal["truncated", "refused"]) -> None:
    """Although the conversation is complete with them."""
    flagged = replace(TALK, turns=(TALK.turns[0], replace(TALK.turns[1], outcome=outcome)))
    assert difference(TALK, flagged).worse == (f"{outcome} replies: 0 -> 1",)
    assert difference(flagged, TALK).better == (f"{outcome} replies: 1 -> 0",)


def test_speed_and_length_are_told_and_judged_by_nobody() -> None:
    """Of turns that a model wrote and whose time is known: tokens over seconds of writing."""

    def timed(output: int, seconds: float) -> Transcript:
        figures: dict[str, Any] = {"usage": Usage(input=1, output=output), "first_byte": 1.0, "seconds": 1.0 + seconds}
        return conversation([turn(1, "a b c", **figures), turn(2, "d e f", **figures)], spent=CENT)

    assert facts(timed(100, 2.0)).speed == 50.0
    slower = difference(timed(100, 2.0), timed(80, 4.0))
    assert list(slower.kinds()) == ["same"]
    assert slower.other == ("tokens written: 200 -> 160", "tokens per second: 50.0 -> 20.0")


def test_tokens_are_known_when_those_of_every_turn_are() -> None:
    """A sum of some of them would pass for a shorter conversation."""
    assert facts(conversation([turn(1, "a", usage=Usage(output=5)), turn(2, "b")])).tokens is None
    assert facts(conversation([turn(1, "a", usage=Usage(output=5)), turn(2, "b", usage=Usage(output=6))])).tokens == 11


def test_a_changed_one_says_what_was_asked_otherwise_and_may_be_better_or_worse_as_well() -> None:
    """Its standing is one thing, what it came to another."""
    changed = against(id="other", status="failed")
    assert list(changed.kinds()) == ["changed", "worse"]
    assert difference(None, TALK).standing == "new"
    assert difference(TALK, None).standing == "gone"
    assert difference(TALK, None).name == TALK.name


def test_what_was_asked_otherwise_is_said_part_by_part_and_of_a_branch_from_where_on() -> None:
    """One that goes on with the other was asked the same up to there."""
    before = TALK_PLAN.conversation(TALK_PLAN.cells[0])
    edited = replace(before, id="other", opening="What survives of it?")
    changed = replace(TALK, id="other")
    assert difference(TALK, changed, (before, edited)).changes == (
        'opening: "What survives?" -> "What survives of it?"',
    )
    redone = replace(before, id="other", origin=Origin(before.id, before.name, "redo", 3))
    assert difference(TALK, changed, (before, redone)).changes == ("redo from turn 4 on",)
    assert difference(TALK, TALK, (before, before)).changes == ()


def with_a_person(**heard: Any) -> Transcript:
    """Two letters and their answers; what the person wrote came from a file or out of a script."""
    person = {"role": "host", "speaker": "Host", "alias": None, "provider": None, "model": None} | heard
    lines = [
        turn(n, text, **({"usage": Usage(output=20)} if n % 2 == 0 else person))
        for n, text in enumerate(("Dear friend", "I keep the question.", "Which one?", "The first."), 1)
    ]
    return conversation(lines, participants=(HOST, BASIL), spent=CENT)


@pytest.mark.parametrize("heard", [{"given": True}, {"heard": "letter.md"}])
def test_the_lines_of_a_person_are_no_turns_of_a_model_wherever_they_come_from(heard: dict[str, Any]) -> None:
    """Scripted on one side and read from a file or an inbox on the other, they count alike: on neither."""
    found = facts(with_a_person(**heard))
    assert (found.turns, found.planned, found.tokens, found.bought) == (2, 2, 40, True)
    shorter = with_a_person(**heard)
    shorter = replace(shorter, turns=(*shorter.turns[:3], replace(shorter.turns[3], text=None)))
    told = difference(with_a_person(heard="letter.md"), shorter)
    assert told.worse == ("turns: 2 -> 1",)
    assert told.other == ("tokens written: 40 -> 20",)


# --- texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "alike"),
    [
        (["one two three four"], ["one two three four"], 1.0),
        (["One, two; three FOUR!"], ["one two three four"], 1.0),
        (["one two three four"], ["one two three five"], 1 / 3),
        (["one two three"], ["four five six"], 0.0),
        (["yes"], ["Yes."], 1.0),
        (["a b c", "a b c"], ["a b c"], 0.5),
        (["私は猫が好き"], ["私は猫が嫌い"], 2 / 6),
        (["a b c"], [], None),
        (["..."], ["a b c"], None),
    ],
)
def test_texts_are_as_alike_as_their_words_three_by_three(
    before: list[str], after: list[str], alike: float | None
) -> None:
    """Case and points do not count, how often something is said does, and signs without blanks are words."""
    found = similarity(before, after)
    assert found == (None if alike is None else pytest.approx(alike))


@given(*[st.lists(st.text("ab c.\n", max_size=30), max_size=3)] * 2)
def test_likeness_is_between_0_and_1_and_the_same_from_both_sides(one: list[str], other: list[str]) -> None:
    """And 1 for everything that has a word in it and is held against itself."""
    found = similarity(one, other)
    assert found == similarity(other, one)
    assert found is None or 0 <= found <= 1
    assert similarity(one, one) in (None, 1.0)


# --- sums --------------------------------------------------------------------------------------------------------


def test_sums_are_of_those_that_are_there_and_say_what_they_cover() -> None:
    """What is unknown of some makes no total of the others without a word."""
    known = facts(conversation([turn(1, "a", usage=Usage(output=5))], spent=CENT))
    unknown = facts(replace(TALK, status="failed"))
    found = sums([known, None, unknown])
    assert (found.conversations, found.complete, found.spent, found.turns) == (2, 1, 2 * CENT, 3)
    assert (found.tokens, found.coverage, found.speed) == (5, " (1 of 2)", None)
