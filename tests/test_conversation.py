"""Conversations: what each side is shown, word for word, and rules that hold whoever speaks when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Call, Message, Usage, View, has_text
from runner.conversation import (
    BEGINS,
    GO_ON,
    LEFT_OUT,
    Aside,
    Conversation,
    Line,
    Origin,
    Participant,
    Turn,
    arranged,
    aside_view,
    call_for,
    floor_of,
    going_on,
    has_nothing_to_read,
    may_speak,
    picked,
    said_by,
    view,
)
from tests.floors import floor


def side(role: str, system: str | None = None, live: bool = True) -> Participant:
    return Participant(role, role.title(), live, system, alias=role, provider="sim", model=f"m-{role}", max_tokens=100)


def planned(roles: str, **given: str) -> tuple[Line, ...]:
    """Lines for roles named by letters; `a1="..."` gives the first line of a."""
    count: dict[str, int] = {}
    lines = []
    for number, role in enumerate(roles, 1):
        count[role] = count.get(role, 0) + 1
        lines.append(Line(number, count[role], role, given=given.get(f"{role}{count[role]}")))
    return tuple(lines)


def talk(lines: tuple[Line, ...], *sides: Participant, **rest: str) -> Conversation:
    made = sides or tuple(side(role) for role in dict.fromkeys(line.role for line in lines))
    return Conversation("cell", "p/a~b", "p", 1, made, lines, **rest)  # type: ignore[arg-type]


def seen(conversation: Conversation, *history: str) -> list[str]:
    """What the next speaker is shown, one string for each message, the system text first."""
    line = conversation.lines[len(history)]
    shown = view(conversation, line.role, history, line.instruct)
    system = [] if shown.system is None else [f"system: {shown.system}"]
    return [*system, *(f"{message.role}: {message.text}" for message in shown.messages)]


# --- golden views ------------------------------------------------------------------------------------------------


def test_two_sides_see_each_other_as_user_and_themselves_as_assistant() -> None:
    """The plain case: an opening to both, and then line by line."""
    one = talk(planned("abab"), side("a", "You are a."), side("b"), opening="What survives?")
    assert seen(one) == ["system: You are a.", "user: What survives?"]
    assert seen(one, "A1") == ["user: What survives?\n\nA1"]
    assert seen(one, "A1", "B1") == ["system: You are a.", "user: What survives?", "assistant: A1", "user: B1"]
    assert seen(one, "A1", "B1", "A2") == ["user: What survives?\n\nA1", "assistant: B1", "user: A2"]


def test_three_sides_carry_their_role_names() -> None:
    """Each hears the lines of both others in one text, tagged; the opening has no tag, and own lines have none."""
    one = talk(planned("abcabc"), opening="Hello, all.")
    assert seen(one) == ["user: Hello, all."]
    assert seen(one, "A1", "B1") == ["user: Hello, all.\n\na: A1\n\nb: B1"]
    assert seen(one, "A1", "B1", "C1") == ["user: Hello, all.", "assistant: A1", "user: b: B1\n\nc: C1"]
    assert seen(one, "A1", "B1", "C1", "A2") == [
        "user: Hello, all.\n\na: A1",
        "assistant: B1",
        "user: c: C1\n\na: A2",
    ]


def test_a_silent_third_side_brings_no_tags() -> None:
    """Tags tell more than two speakers apart; somebody who never speaks is none."""
    one = talk(planned("abab"), side("a"), side("b"), side("c"), opening="Hello.")
    assert seen(one, "A1") == ["user: Hello.\n\nA1"]


def test_context_opening_lines_and_instruction_stand_in_this_order() -> None:
    """Joined by blank lines, in one text."""
    lines = planned("ab")
    one = talk((lines[0], replace(lines[1], instruct="Close it.")), context="An essay.", opening="Go.")
    assert seen(one, "A1") == ["user: An essay.\n\nGo.\n\nA1\n\nClose it."]


def test_context_and_instruction_stay_where_they_first_stood() -> None:
    """In every later request of that side, and in nobody else's."""
    lines = planned("abab")
    lines = (replace(lines[0], instruct="Open."), lines[1], replace(lines[2], instruct="Close."), lines[3])
    one = talk(lines, context="An essay.")
    assert seen(one) == ["user: An essay.\n\nOpen."]
    assert seen(one, "A1") == ["user: An essay.\n\nA1"]
    assert seen(one, "A1", "B1") == ["user: An essay.\n\nOpen.", "assistant: A1", "user: B1\n\nClose."]
    assert seen(one, "A1", "B1", "A2") == ["user: An essay.\n\nA1", "assistant: B1", "user: A2"]


def test_a_roles_opening_is_its_own_first_line() -> None:
    """Given and not generated: the other answers it, and its speaker finds it as something it said."""
    one = talk(planned("abab", a1="I begin."))
    assert seen(one, "I begin.") == ["user: I begin."]
    assert seen(one, "I begin.", "B1") == [f"user: {BEGINS}", "assistant: I begin.", "user: B1"]


def test_the_second_side_may_have_the_opening_line() -> None:
    """Then the first generates its line, and the second's is given in answer."""
    one = talk(planned("abab", b1="Given."), opening="Hello.")
    assert seen(one) == ["user: Hello."]
    assert seen(one, "A1", "Given.") == ["user: Hello.", "assistant: A1", "user: Given."]
    assert seen(one, "A1", "Given.", "A2") == ["user: Hello.\n\nA1", "assistant: Given.", "user: A2"]


def test_a_scripted_side_is_heard_like_any_other() -> None:
    """Its lines come from the job, and the live side cannot tell."""
    lines = planned("abab", a1="Dear friend", a2="Yours")
    one = talk(lines, side("a", live=False), side("b", "Answer letters."))
    assert seen(one, "Dear friend", "B1", "Yours") == [
        "system: Answer letters.",
        "user: Dear friend",
        "assistant: B1",
        "user: Yours",
    ]


def test_one_who_goes_on_speaking_is_asked_to() -> None:
    """Two own lines in a row never touch, and the sentence between them stays."""
    one = talk(planned("aab"), opening="Hello.")
    assert seen(one, "A1") == ["user: Hello.", "assistant: A1", f"user: {GO_ON}"]
    three = talk(planned("aaab"), opening="Hello.")
    assert seen(three, "A1", "A2") == [
        "user: Hello.",
        "assistant: A1",
        f"user: {GO_ON}",
        "assistant: A2",
        f"user: {GO_ON}",
    ]


def test_the_two_sentences_of_the_house_are_these() -> None:
    """They are part of what is sent, so a change of theirs changes every request."""
    assert (BEGINS, GO_ON) == ("(The conversation begins.)", "(Please go on.)")


def silent(one: Conversation) -> bool:
    """True when the conversation's first speaker has nothing to read."""
    return has_nothing_to_read(one.lines[0], one.context, one.opening)


@pytest.mark.parametrize("blank", ["", " \n", "\u200b", "\u2800"], ids=ascii)
def test_what_nobody_could_see_is_not_sent(blank: str) -> None:
    """A blank system text, context, opening or instruction is none."""
    line = Line(1, 1, "a", instruct=blank)
    one = talk((line,), side("a", blank), context=blank, opening=blank)
    assert seen(one) == [f"user: {BEGINS}"]
    assert silent(one)


def test_a_first_speaker_needs_something_to_read() -> None:
    """Context, opening or instruction will do, or a line that it need not generate."""
    one = talk(planned("ab"), side("a", "A system text is not enough."), side("b"))
    assert silent(one)
    assert not silent(replace(one, context="Essay"))
    assert not silent(replace(one, opening="Hello"))
    assert not silent(replace(one, lines=(replace(one.lines[0], instruct="Speak."), one.lines[1])))
    assert not silent(talk(planned("ab", a1="Given.")))


# --- who is next -------------------------------------------------------------------------------------------------


def test_a_call_is_the_same_whenever_it_is_made() -> None:
    """Its seed follows from the job's seed, the cell, the turn and the attempt, and from nothing else."""
    one = replace(talk(planned("ab"), opening="Hello."), send_seed=7)

    def asked(one: Conversation, number: int, history: list[str], attempt: int) -> Call:
        return call_for(one, floor(one, one.lines[number - 1], history), attempt, 100, ())

    first = asked(one, 1, [], 1)
    assert first == asked(one, 1, [], 1)
    assert (first.model, first.provider, first.turn, first.max_tokens) == ("m-a", "sim", 1, 100)
    seeds = [
        first.seed,
        asked(one, 1, [], 2).seed,
        asked(one, 2, ["A1"], 1).seed,
        asked(replace(one, id="other"), 1, [], 1).seed,
        asked(replace(one, send_seed=8), 1, [], 1).seed,
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)
    assert asked(replace(one, send_seed=None), 1, [], 1).seed is None


# --- rules that hold for every plan ------------------------------------------------------------------------------

texts = st.text(min_size=1, max_size=8).filter(has_text)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Conversation, list[str]]:
    """Any roles in any order, some lines given, any texts; and what was said, every line recognisable."""
    roles = ["a", "b", "c", "d"][: draw(st.integers(1, 4))]
    order = draw(st.lists(st.sampled_from(roles), min_size=1, max_size=10))
    maybe = st.none() | st.just(" \u200b") | texts
    lines, history = [], []
    for number, role in enumerate(order, 1):
        text = f"<{number}>{draw(texts)}</{number}>"
        history.append(text)
        lines.append(Line(number, 1, role, instruct=draw(maybe), given=text if draw(st.booleans()) else None))
    sides = tuple(side(role, draw(maybe)) for role in roles)
    made = Conversation("cell", "n", "p", 1, sides, tuple(lines), context=draw(maybe), opening=draw(maybe))
    return made, history


def shown_at(one: Conversation, history: list[str], number: int) -> View:
    line = one.lines[number]
    return view(one, line.role, history[:number], line.instruct)


@given(conversations())
@settings(max_examples=150)
def test_every_view_alternates_and_is_whole(case: tuple[Conversation, list[str]]) -> None:
    """It starts and ends with `user`, has no empty text, every line of others once, and own lines as `assistant`."""
    one, history = case
    for number, line in enumerate(one.lines):
        shown = shown_at(one, history, number)
        roles = [message.role for message in shown.messages]
        assert roles[0] == roles[-1] == "user"
        assert all(before != after for before, after in pairwise(roles))
        assert all(has_text(message.text) for message in shown.messages)
        assert shown.system is None or has_text(shown.system)
        own = [text for other, text in zip(one.lines, history[:number], strict=False) if other.role == line.role]
        assert [message.text for message in shown.messages if message.role == "assistant"] == own
        heard = "\n\n".join(message.text for message in shown.messages if message.role == "user")
        for other, text in zip(one.lines, history[:number], strict=False):
            assert heard.count(text) == (other.role != line.role)


@given(conversations())
@settings(max_examples=100)
def test_lines_of_others_stand_in_the_order_in_which_they_were_said(case: tuple[Conversation, list[str]]) -> None:
    """Through the whole view, own lines included."""
    one, history = case
    whole = "\n\n".join(message.text for message in shown_at(one, history, len(history) - 1).messages)
    places = [whole.index(text) for text in history[:-1]]
    assert places == sorted(places)


@given(conversations())
@settings(max_examples=100)
def test_an_earlier_view_of_a_side_begins_its_later_ones(case: tuple[Conversation, list[str]]) -> None:
    """So that a provider's cache is used, and its count of the beginning can stand in the bound."""
    one, history = case
    for early, first in enumerate(one.lines):
        for late in range(early + 1, len(one.lines)):
            if one.lines[late].role == first.role:
                before, after = shown_at(one, history, early), shown_at(one, history, late)
                assert after.system == before.system
                assert after.messages[: len(before.messages)] == before.messages
                assert after.messages[len(before.messages)] == Message("assistant", history[early])


# --- figures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "first", "seconds", "speed"),
    [
        (100, 1.0, 3.0, 50.0),
        (100, None, 2.0, 50.0),
        (None, 1.0, 3.0, None),
        (0, 1.0, 3.0, None),
        (100, 3.0, 3.0, None),
        (100, 2.999999, 3.0, None),
        (100, 1.0, None, None),
    ],
)
def test_speed_is_told_only_where_it_was_seen(
    output: int | None, first: float | None, seconds: float | None, speed: float | None
) -> None:
    """From the first byte on; an answer that came in one piece shows nothing of how fast it was written."""
    turn = Turn(1, 1, "a", "A", None, False, "x", usage=Usage(output=output), first_byte=first, seconds=seconds)
    assert turn.tokens_per_second == speed


def test_a_model_with_another_window_is_another_one_to_load() -> None:
    """A server that is told the size loads it anew for each."""
    one = Participant("a", "A", True, alias="x", provider="p", model="m")
    assert len({one.weights, replace(one, context=4096).weights, replace(one, context=8192).weights}) == 3
    assert one.weights == replace(one, role="b", alias="y").weights != replace(one, model="n").weights


# --- who speaks next ---------------------------------------------------------------------------------------------


def table(*rounds: str, **rest: Any) -> Conversation:
    """Rounds of roles named by letters, whose order a moderator decides."""
    lines = [(number, role) for number, roles in enumerate(rounds, 1) for role in roles]
    planned = tuple(Line(place, number, role, f"{role}{place}") for place, (number, role) in enumerate(lines, 1))
    return replace(talk(planned), moderator=aside("pick"), **rest)


def aside(kind: Any, prompt: str = "Well?", system: str | None = None) -> Aside:
    return Aside("aside", kind, replace(side("eli", system), role="observer"), prompt)


def order(conversation: Conversation, **picks: str) -> str:
    shown = arranged(conversation, {int(name[1:]): text for name, text in picks.items()}).lines
    assert [line.number for line in shown] == list(range(1, len(shown) + 1))
    return "".join(line.role for line in shown)


def test_a_round_is_spoken_in_the_order_that_was_named() -> None:
    """Each as often as the plan has it; where nobody was named the given order holds."""
    one = table("abc", "abc")
    assert order(one) == "abcabc"
    assert order(one, n1="c", n2="b") == "cbabac"
    assert order(one, n1="c", n4="c", n5="b") == "cabcba"
    assert order(table("aab", "b"), n1="b") == "baab"


def test_who_spoke_last_may_speak_next_only_when_nobody_else_is_left() -> None:
    """Also from one round to the next."""
    one = arranged(table("abc", "abc"), {})
    assert [may_speak(one, number) for number in range(1, 7)] == [
        ("a", "b", "c"), ("b", "c"), ("c",), ("a", "b"), ("b", "c"), ("c",),
    ]  # fmt: skip
    assert may_speak(arranged(table("aa"), {}), 2) == ("a",)
    assert order(table("ab", "ab"), n1="a", n2="b", n3="b") == "abab"


def test_what_an_origin_said_is_not_put_in_another_order() -> None:
    """Answers that came before the branch are another conversation's."""
    one = table("cab", "abc", origin=Origin("x", "x", "fork", 2))
    assert order(one, n1="b", n2="b", n3="b", n4="c") == "cabcab"


def test_without_a_moderator_lines_stay_as_they_are_planned() -> None:
    """Whatever was answered."""
    one = replace(table("abc"), moderator=None)
    assert arranged(one, {1: "c"}) is one


@pytest.mark.parametrize(
    ("answer", "role"),
    [
        ("one", "one"), ("One.", "one"), ("**two**", "two"), ("I choose [one]!", "one"), ("one, one and one", "one"),
        ("one or two", None), ("none", None), ("one-two", None), ("someone", None), ("", None), ("three", None),
        ("(a.b)", "a.b"), ("aXb", None),
    ],
)  # fmt: skip
def test_a_name_is_picked_when_it_is_the_only_one(answer: str, role: str | None) -> None:
    """As a whole word, in any case, and no other that may speak beside it."""
    sides = [replace(side("a"), role=name, label="Model") for name in ("one", "two", "a.b", "three")]
    assert picked(answer, ["one", "two", "a.b"], sides) == role


LABELLED = {"a": "Ann", "b": "Opus-4", "c": "Opus-4.6", "d": "Twin", "e": "Twin", "f": "a", "g": "Gus (old)", "h": "f"}


@pytest.mark.parametrize(
    ("answer", "allowed", "role"),
    [
        ("Ann", "abc", "a"), ("**ann.**", "abc", "a"), ("Ann (a)", "abc", "a"), ("I call on Ann: a it is.", "abc", "a"),
        ("b", "abc", "b"), ("Opus-4", "abc", "b"), ("opus-4.6", "abc", "c"), ("Opus-4.6", "ab", None),
        ("Ann or Opus-4", "abc", None), ("Ann, not b", "abc", None), ("Anne", "abc", None), ("Ann-Opus-4", "abc", None),
        ("Twin", "bde", None), ("Twin (e)", "bde", "e"), ("Twin", "bd", "d"), ("Gus (old)", "bg", "g"),
        ("a", "af", "a"), ("a", "bf", "f"), ("f", "bh", "h"), ("f", "fh", "f"), ("Ann", "bc", None),
    ],
)  # fmt: skip
def test_who_may_speak_is_named_by_role_or_by_label(answer: str, allowed: str, role: str | None) -> None:
    """By a label where only one of them has it; the name of a role is that role's, and the longest name counts."""
    sides = [replace(side("a"), role=name, label=label) for name, label in LABELLED.items()]
    assert picked(answer, list(allowed), sides) == role


def test_a_round_is_spoken_in_the_order_of_the_labels_that_were_named() -> None:
    """What a moderator is shown he may answer."""
    sides = tuple(replace(side(role), label=label) for role, label in {"a": "Ann", "b": "Ben", "c": "Cy"}.items())
    one = replace(table("abc", "abc"), participants=sides)
    assert order(one, n1="Cy", n2="ben.", n4="Ben (b)") == "cbabac"


def test_lines_are_found_in_the_order_in_which_they_were_said() -> None:
    """With the texts of the plan, and the numbers of what was said."""
    lines = table("abc", "abc").lines
    found = said_by(lines, "cabc")
    assert [(line.number, line.round, line.role, line.label) for line in found] == [
        (1, 1, "c", "c3"), (2, 1, "a", "a1"), (3, 1, "b", "b2"), (4, 2, "c", "c6"),
    ]  # fmt: skip


def test_what_is_left_of_a_plan_are_those_who_have_not_spoken_in_their_round() -> None:
    """What was said keeps its words, has the rounds of the plan, and is followed by the rest of it."""
    said = said_by(table("abc", "abc").lines, "ca")
    found = going_on(said, table("bac", "bac", "bac").lines)
    assert "".join(line.role for line in found) == "cabbacbac"
    assert [line.number for line in found] == list(range(1, 10))
    assert [line.label for line in found[:3]] == ["c3", "a1", "b1"]
    longer = going_on(said_by(table("ab", "ab").lines, "aba"), table("abab", "abab").lines)
    assert [line.round for line in longer] == [1, 1, 1, 1, 2, 2, 2, 2]


# --- what is left out, and what is shown beside -------------------------------------------------------------------


def test_lines_that_are_left_out_are_told_of_in_their_place() -> None:
    """Below the context and the opening, above what is still shown; own instructions of that time go with them."""
    lines = tuple(replace(line, instruct=f"do {line.number}") for line in planned("ababa"))
    one = talk(lines, opening="Start.")
    shown = floor(one, one.lines[4], ["1", "2", "3", "4"], 2).view
    assert [(m.role, m.text) for m in shown.messages] == [
        ("user", f"Start.\n\n{LEFT_OUT}\n\ndo 3"), ("assistant", "3"), ("user", "4\n\ndo 5"),
    ]  # fmt: skip
    shown = floor(one, one.lines[4], ["1", "2", "3", "4"], 4).view
    assert [(m.role, m.text) for m in shown.messages] == [("user", f"Start.\n\n{LEFT_OUT}\n\ndo 5")]
    assert LEFT_OUT == "(Earlier turns are left out here.)"


def test_what_a_speaker_thought_stands_with_its_own_lines() -> None:
    """Where it is shown that, and with nobody else's."""
    one = talk(planned("abab"), side("a"), replace(side("b"), keeps_reasoning=True), opening="O")
    thoughts = {1: "a thinks", 2: "b thinks"}
    shown = floor(one, one.lines[3], ["1", "2", "3"], 0, thoughts).view.messages
    assert shown == (Message("user", "O\n\n1"), Message("assistant", "2", "b thinks"), Message("user", "3"))
    shown = floor(one, one.lines[2], ["1", "2"], 0, thoughts).view.messages
    assert all(message.reasoning is None for message in shown)


def test_who_listens_is_shown_all_and_asked_below_it() -> None:
    """The context, the opening, each line with its number and its speaker's label, and the question; one message."""
    one = talk(planned("aba"), context="C", opening="O")
    shown = aside_view(one, aside("notes", system="Be brief."), ["x", "y"])
    assert shown == View("Be brief.", (Message("user", "C\n\nO\n\n[1] A:\nx\n\n[2] B:\ny\n\nWell?"),))
    same = replace(one, participants=(replace(side("a"), label="M"), replace(side("b"), label="M")))
    assert "[1] M (a):\nx\n\n[2] M (b):\ny" in aside_view(same, aside("vote"), ["x", "y"]).messages[0].text


def test_a_moderator_is_told_who_may_speak() -> None:
    """Below his question, for the line that is to be said; of each the label and the role, here and above each line."""
    one = arranged(table("abc"), {})
    assert aside_view(one, aside("pick"), ["x"]).messages[0].text == (
        "[1] A (a):\nx\n\nWell?\n\nNext may speak: B (b), C (c). Answer with one name."
    )
    bare = replace(one, participants=tuple(replace(p, label=p.role) for p in one.participants))
    assert aside_view(bare, aside("pick"), ["x"]).messages[0].text == (
        "[1] a:\nx\n\nWell?\n\nNext may speak: b, c. Answer with one name."
    )
    assert (floor_of(one, aside("pick"), ["x"]).turn, floor_of(one, aside("vote"), ["x"]).turn) == (2, 1)
    assert floor_of(one, aside("pick"), ["x"]).cell == "aside"
