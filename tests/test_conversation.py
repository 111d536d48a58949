"""Conversations: what each side is shown, word for word, and rules that hold whoever speaks when."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Message, Usage, View, has_text
from runner.conversation import (
    BEGINS,
    GO_ON,
    Conversation,
    Line,
    Participant,
    Turn,
    call_for,
    has_nothing_to_read,
    next_line,
    said,
    view,
)


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


def test_the_history_ends_where_a_line_is_missing() -> None:
    """Given lines stand by themselves; a reply beyond a gap is not part of what was said."""
    one = talk(planned("abab", a1="One", a2="Three"))
    assert said(one, {}) == ["One"]
    assert said(one, {2: "Two"}) == ["One", "Two", "Three"]
    assert said(one, {4: "Four"}) == ["One"]
    assert next_line(one, ["One"]) == one.lines[1]
    assert next_line(one, ["One", "Two", "Three", "Four"]) is None


def test_a_call_is_the_same_whenever_it_is_made() -> None:
    """Its seed follows from the job's seed, the cell, the turn and the attempt, and from nothing else."""
    one = replace(talk(planned("ab"), opening="Hello."), send_seed=7)
    first = call_for(one, one.lines[0], [], 1, 100)
    assert first == call_for(one, one.lines[0], [], 1, 100)
    assert (first.model, first.provider, first.turn, first.max_tokens) == ("m-a", "sim", 1, 100)
    seeds = [
        first.seed,
        call_for(one, one.lines[0], [], 2, 100).seed,
        call_for(one, one.lines[1], ["A1"], 1, 100).seed,
        call_for(replace(one, id="other"), one.lines[0], [], 1, 100).seed,
        call_for(replace(one, send_seed=8), one.lines[0], [], 1, 100).seed,
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(seed is not None and 0 <= seed < 2**31 for seed in seeds)
    assert call_for(replace(one, send_seed=None), one.lines[0], [], 1, 100).seed is None


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


@given(conversations())
@settings(max_examples=50)
def test_a_conversation_goes_on_where_it_stopped(case: tuple[Conversation, list[str]]) -> None:
    """Reply by reply, `said` and `next_line` lead through every line to the end."""
    one, history = case
    replies: dict[int, str] = {}
    steps = 0
    while (line := next_line(one, said(one, replies))) is not None:
        assert line.given is None
        replies[line.number] = history[line.number - 1]
        steps += 1
    assert steps == sum(line.given is None for line in one.lines)
    assert said(one, replies) == history


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
