"""A conversation as far as it has come: the same from its records, however often and in whatever pieces it is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.conversation import Aside, AsideKind, Conversation, Line, Origin, Participant
from runner.events import Heard, Replied, Sent
from runner.state import Place, State
from runner.stops import Rule
from runner.talk import Said, Talk, rounds_done, talk_of
from tests.floors import floor


def side(role: str, **more: Any) -> Participant:
    return Participant(role, role.title(), more.pop("live", True), alias=role, provider="sim", model=role, **more)


def planned(*roles: str, rounds: int = 2, **more: Any) -> Conversation:
    sides = tuple(more.pop("sides", ())) or tuple(side(role) for role in roles)
    given = more.pop("given", {})
    lines = tuple(
        Line(number, (number - 1) // len(roles) + 1, role, given=given.get(number))
        for number, role in enumerate(roles * rounds, 1)
    )
    return Conversation("cell", "p/a~b", "p", 1, sides, lines, **more)


def aside(kind: AsideKind, id_: str = "aside", **more: Any) -> Aside:
    return Aside(id_, kind, Participant("observer", "Eli", True, alias="eli"), "?", **more)


def reply(turn: int, text: str = "", **more: Any) -> Replied:
    return Replied("cell", turn, 1, text or f"line {turn}", "ok", 5, "priced", 5, more.pop("usage", {}), **more)


def say(talk: Talk, *texts: str, at: float = 0.0) -> None:
    for text in texts:
        line = talk.next()
        assert line is not None
        talk.take(reply(line.number, text), at)


def test_given_lines_are_said_when_their_turn_comes() -> None:
    """At the beginning, and after each line that was waited for."""
    talk = Talk(planned("a", "b", given={1: "One", 3: "Two"}))
    assert talk.history == ["One"] and talk.next() == talk.conversation.lines[1]
    say(talk, "Yes")
    assert talk.history == ["One", "Yes", "Two"]
    say(talk, "No")
    assert talk.next() is None and talk.rounds_done == 2


@pytest.mark.parametrize(("spoken", "done"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2)])
def test_a_round_is_done_when_everybody_has_spoken(spoken: int, done: int) -> None:
    """And the last one with the last line."""
    assert rounds_done(planned("a", "b"), spoken) == done


def test_a_moderator_is_asked_where_there_is_a_choice() -> None:
    """Before each line but the last of a round; a given line of somebody is said when he names it."""
    talk = Talk(planned("a", "b", "c", moderator=aside("pick"), given={1: "Given"}))
    assert talk.moderator() is not None and talk.history == []
    talk.answered(aside("pick"), 1, "b")
    assert talk.moderator() is None and talk.next() is not None
    say(talk, "B")
    talk.answered(aside("pick"), 2, "A, please")
    assert talk.history == ["B", "Given"] and talk.conversation.lines[1].role == "a"
    assert talk.moderator() is None, "only one is left in the round"
    say(talk, "C")
    assert talk.moderator() is not None


def test_votes_are_held_after_whole_rounds_and_by_those_who_have_not_voted() -> None:
    """Each by his own measure of rounds, never after the last line, never before the first."""
    each, other = aside("vote", "each"), aside("vote", "other", every=2)
    talk = Talk(planned("a", "b", rounds=4, voters=(each, other)))
    asked = []
    while talk.next() is not None:
        asked.append([one.id for one in talk.voters()])
        say(talk, "words")
    assert asked == [[], [], ["each"], [], ["each", "other"], [], ["each"], []]
    assert talk.voters() == []
    talk = Talk(planned("a", "b", voters=(each,)))
    say(talk, "x", "y")
    talk.answered(each, 2, "no")
    assert talk.voters() == [] and talk.over() is None


@pytest.mark.parametrize(
    ("votes", "over"),
    [
        (["yes"], "vote: 1 of 1 for the end, after round 1"), (["no"], None), (["yes", "no"], None),
        (["yes", "yes", "no"], "vote: 2 of 3 for the end, after round 1"), ([], None),
    ],
)  # fmt: skip
def test_more_than_half_of_those_who_vote_end_it(votes: list[str], over: str | None) -> None:
    """Half is not enough, and who has not voted does not count."""
    voters = tuple(aside("vote", f"v{n}") for n in range(4))
    talk = Talk(planned("a", "b", voters=voters))
    say(talk, "x", "y")
    for voter, vote in zip(voters, votes, strict=False):
        talk.answered(voter, 2, vote)
    assert talk.over() == over
    assert talk.share(2) == (None if not votes else votes.count("yes") / len(votes))


def test_a_rule_that_is_over_ends_it_at_its_line_only() -> None:
    """With the reason; figures of each line are kept."""
    talk = Talk(planned("a", "b", rounds=3, stops=(Rule("phrase", phrase="The end"), Rule("tokens", 1000))))
    say(talk, "Hello.")
    assert talk.over() is None and talk.weighed[1].figures["tokens"] > 0
    say(talk, "The end.")
    assert talk.over() is not None and "phrase" in str(talk.over())
    say(talk, "Or not?")
    assert talk.over() is None


def test_what_an_origin_said_is_weighed_and_ends_no_branch() -> None:
    """The same words said once more in the branch do."""
    origin = Origin("before", "p/a~b", "extend", 2)
    talk = Talk(planned("a", "b", rounds=2, stops=(Rule("phrase", phrase="The end"),), origin=origin))
    say(talk, "Hello.", "The end.")
    assert (talk.over(), talk.started) == (None, None)
    say(talk, "The end.", at=7.0)
    assert "The end" in str(talk.over())
    assert talk.weighed.keys() == {3}
    voted = Talk(planned("a", "b", rounds=3, voters=(aside("vote"),), origin=origin))
    say(voted, "Hello.", "The end.")
    assert voted.voters() == []
    say(voted, "More.", "Words.")
    assert len(voted.voters()) == 1


def test_only_counts_that_can_be_believed_are_counted() -> None:
    """Where a provider says what cannot be, the tokens are estimated; letters do not count."""
    talk = Talk(planned("a", "b", stops=(Rule("tokens", 10_000),)))
    talk.take(reply(1, "word", usage={"output": 50}), 0.0)
    talk.take(reply(2, "word", usage={"output": 9_000, "trusted": False}), 0.0)
    assert talk.weighed[2].figures["tokens"] == 51
    talk.take(Heard("cell", 3, "a letter " * 100, "box"), 0.0)
    assert 3 not in talk.weighed


def test_a_rule_on_time_counts_from_the_beginning() -> None:
    """From when the first call left, which the records tell; a clock that was set back takes nothing off."""
    talk = Talk(planned("a", "b", stops=(Rule("time", 30.0),)), 100.0)
    talk.take(reply(1), 110.0)
    talk.take(reply(2), 90.0)
    talk.take(reply(3), 131.0)
    assert [talk.weighed[n].figures["time"] for n in (1, 2, 3)] == [10.0, 0.0, 31.0]
    assert talk.over() is not None


def test_a_speaker_with_a_window_is_shown_the_last_lines() -> None:
    """By its own policy at least so few, and fewer where the call left out more."""
    sides = (side("a", window=2), side("b"))
    talk = Talk(planned("a", "b", sides=sides, rounds=3))
    say(talk, "1", "2", "3", "4")
    a, b = talk.conversation.lines[4:]
    assert talk.floor(a).left_out == 2 and talk.floor(a, 3).left_out == 3 and talk.floor(a, 9).left_out == 4
    say(talk, "5")
    assert talk.floor(b).left_out == 0
    assert talk.floor(talk.conversation.lines[0]).left_out == 0, "as it was when it was its turn"


def test_thoughts_are_shown_to_who_keeps_them_and_to_nobody_else() -> None:
    """Those at its own lines before this one."""
    sides = (side("a", keeps_reasoning=True), side("b"))
    talk = Talk(planned("a", "b", sides=sides))
    talk.take(reply(1, "A", reasoning="I think"), 0.0)
    talk.take(reply(2, "B", reasoning="I do not say"), 0.0)
    shown = talk.floor(talk.conversation.lines[2]).view.messages
    assert [(m.text, m.reasoning) for m in shown if m.role == "assistant"] == [("A", "I think")]
    talk.take(reply(3, "C", reasoning="more"), 0.0)
    assert all(m.reasoning is None for m in talk.floor(talk.conversation.lines[3]).view.messages)
    assert [m.reasoning for m in talk.floor(talk.conversation.lines[2]).view.messages if m.role == "assistant"] == [
        "I think"
    ]


def test_who_listens_is_shown_what_was_said_when_it_was_asked() -> None:
    """A moderator all before his line, others all up to theirs."""
    moderator, observer = aside("pick"), aside("notes")
    talk = Talk(planned("a", "b", moderator=moderator, after=(observer,)))
    say(talk, "one", "two", "three")
    assert "[2] B (b):\ntwo" in talk.floor_of(moderator, 3).view.messages[0].text
    assert "three" not in talk.floor_of(moderator, 3).view.messages[0].text
    assert "three" in talk.floor_of(observer, 3).view.messages[0].text
    assert talk.floor_of(moderator, 3).turn == 3 and talk.floor_of(observer, 3).turn == 3


# --- from a journal ----------------------------------------------------------------------------------------------


def journal(*events: Any) -> tuple[State, Any]:
    state, records = State(), []
    for number, event in enumerate(events):
        records.append(event)
        state.apply(event, float(number), Place(number, 1))
    return state, lambda place: (records[place.offset], float(place.offset))


def sent(turn: int, cell: str = "cell") -> Sent:
    return Sent(cell, turn, 1, "a", "a", "sim", "m", "h", "d", 10, 1, 1)


def test_a_talk_is_read_back_from_its_records() -> None:
    """Lines, picks and votes, the time of its beginning; what stands behind a gap is not taken for an answer."""
    pick, vote = aside("pick", "p"), aside("vote", "v")
    conversation = planned("a", "b", rounds=3, moderator=pick, voters=(vote,), stops=(Rule("time", 100.0),))
    events = [
        sent(1, "p"), replace(reply(1, "b"), cell="p"), sent(1), reply(1, "first"), sent(2), reply(2, "second"),
        sent(2, "v"), replace(reply(2, "no"), cell="v"),
    ]  # fmt: skip
    state, read = journal(*events)
    talk = talk_of(conversation, state, read)
    assert talk.history == ["first", "second"] and talk.conversation.lines[0].role == "b"
    assert talk.picks == {1: "b"} and talk.votes == {2: {"v": False}}
    assert talk.started == 2.0 and talk.weighed[1].figures["time"] == 1.0
    assert isinstance(talk.said[1], Said)
    gap, read = journal(sent(1), reply(1, "first"), sent(3), reply(3, "third"))
    talk = talk_of(planned("a", "b"), gap, read)
    assert talk.history == ["first"]
    say(talk, "second")
    assert talk.history == ["first", "second"]


@given(st.lists(st.tuples(st.sampled_from(["a", "b", "c", "nobody"]), st.sampled_from(["yes", "no"])), max_size=6))
def test_what_is_read_back_is_what_was_held(words: list[tuple[str, str]]) -> None:
    """Line by line as it is held, or all at once from the journal: the same order, figures and votes."""
    pick, vote = aside("pick", "p"), aside("vote", "v")
    stops = (Rule("time", 1e6), Rule("tokens", 10**6), Rule("repetition", 1.0))
    conversation = planned("a", "b", "c", rounds=2, moderator=pick, voters=(vote,), stops=stops)
    events: list[Any] = []

    def put(event: Any) -> float:
        events.extend([sent(event.turn, event.cell), event])
        return float(len(events) - 1)

    held = Talk(conversation)
    for pick_word, vote_word in words:
        for voter in held.voters():
            put(replace(reply(len(held.history), vote_word), cell="v"))
            held.answered(voter, len(held.history), vote_word)
        number = len(held.history) + 1
        if held.moderator() is not None:
            put(replace(reply(number, pick_word), cell="p"))
            held.answered(pick, number, pick_word)
        at = put(reply(number, f"{pick_word} says {number}"))
        held.started = 1.0 * next(n for n, e in enumerate(events) if isinstance(e, Sent) and e.cell == "cell")
        held.take(events[-1], at)
    state, read = journal(*events)
    talk = talk_of(conversation, state, read)
    assert (talk.history, talk.conversation, talk.votes, talk.picks, talk.weighed) == (
        held.history, held.conversation, held.votes, held.picks, held.weighed,
    )  # fmt: skip


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["", "asks"])), min_size=1, max_size=12),
    st.sampled_from([None, 1, 3]),
    st.data(),
)
def test_what_has_grown_line_by_line_is_what_is_worked_out_anew(
    order: list[tuple[str, str]], window: int | None, data: st.DataObject
) -> None:
    """Whichever lines are asked about, in whatever order, and however many are left out."""
    lines = tuple(Line(n, n, role, None, instruct or None) for n, (role, instruct) in enumerate(order, 1))
    sides = tuple(side(role, system="You.", window=window, keeps_reasoning=role == "b") for role in "abc")
    one = Conversation("id", "name", "prompt", 1, sides, lines, opening="Begin.")
    talk = Talk(one)
    texts = [f"text {line.number}" for line in lines]
    thoughts = {line.number: f"thought {line.number}" for line in lines if line.number % 2}
    for line, text in zip(lines, texts, strict=True):
        talk.take(reply(line.number, text, reasoning=thoughts.get(line.number)), 0.0)
        about = data.draw(st.sampled_from(lines[: line.number]))
        before = about.number - 1
        least = data.draw(st.integers(0, before))
        out = max(least, 0 if window is None else before - window)
        assert talk.floor(about, least) == floor(one, about, texts[:before], out, thoughts)
