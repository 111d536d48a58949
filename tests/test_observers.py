"""What those who listen have said: votes, titles and scores are found in an answer, or it is said what is missing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.call import Failure, Reply
from runner.conversation import Aside, AsideKind, Participant
from runner.judge import made_sense
from runner.observers import understood

SCHEMA = {
    "type": "object",
    "properties": {"depth": {"type": "integer", "minimum": 1}, "list": {"type": "array", "items": {"type": "string"}}},
    "required": ["depth"],
}


def aside(kind: AsideKind, schema: dict[str, Any] | None = None) -> Aside:
    return Aside("id", kind, Participant("observer", "Eli", True, alias="eli"), "?", schema=schema)


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        ("yes", True), ("Yes.", True), ("**YES** - it is over", True), ("stop", True), ("End.", True), ("_Yes_", True),
        ("no", False), ("No, go on.", False), ("> no", False), ("Continue", False), ("go on", False),
        ("Yes. There is no more to say, and nobody would go on.", True), ("Yes, no doubt.", True),
        ("Yes\n\nStop.", True), ("No. Neither has come to an end; it is not true that they stop.", False),
        ("No—they disagree.", False),
        ('{"over": true}', True), ('```json\n{"over": false, "why": "more to say"}\n```', False),
        ('{"stop": false}', False), ('{"end": false, "why": "no, go on"}', False),
        ("Nothing would be gained", None), ("yesterday", None), ("perhaps", None), ("", None), ("yes-man", None),
        ('{"a": true, "b": false}', None), ('{"over": "yes"}', None),
        ("Stop? No, not yet.", None), ("End of round; no, go on.", None), ("No doubt: yes, it is over.", None),
        ("No doubt they are done", None), ("Stop? ", None), ("Yes and no.", None), ("Yes or no? No.", None),
        ("Yes, go on.", None), ("No. Stop.", None), ("**No**\n\n**Yes**", None), ('Yes. {"over": false}', None),
        ("End of round 3", None), ("yes" + "." * 50_000 + " it is", True), ("." * 50_000 + "yes", True),
    ],
)  # fmt: skip
def test_a_vote_is_a_clear_yes_or_no_or_none(text: str, vote: bool | None) -> None:
    """The first word decides where it stands by itself and the other does not, or else the one truth in some JSON."""
    found = understood(aside("vote"), text, 4)
    assert found == (vote, None if vote is not None else "neither yes nor no")


@pytest.mark.parametrize(
    "text",
    [
        '{"1": "a", "2": "b  c"}', '["a", "b c"]', 'Here they are:\n```json\n{"1": "a", "2": "b c"}\n```\nDone.',
        'Sure! {"1": " a ", "2": "b\\nc"} I hope it helps.', '```\n["a", "b c"]\n```', '{"01": "a", "2": "b c"}',
    ],
)  # fmt: skip
def test_titles_are_found_however_they_are_wrapped(text: str) -> None:
    """A list of as many, or a mapping from numbers; in a fence, or among words; each on one line."""
    assert understood(aside("titles"), text, 2) == ({"1": "a", "2": "b c"}, None)


def test_some_turns_may_be_without_a_title() -> None:
    """A mapping names those that it titles."""
    assert understood(aside("titles"), '{"2": "b"}', 3).data == {"2": "b"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I would rather not.", "no JSON in the answer"), ('{"1": "a"', "no JSON in the answer"),
        ('"a"', "no JSON in the answer"), ('["a"]', "1 titles for 2 turns"), ("{}", "no titles"), ("[]", "0 titles"),
        ('{"3": "c"}', "not a title of one of the 2 turns: 3"), ('{"0": "c"}', "turns: 0"), ('{"x": "c"}', "turns: x"),
        ('{"1": 5}', "turns: 1"), ('{"1": " "}', "turns: 1"), ('{"\u0661": "a"}', "not a title"),
        ('{"1": "' + "a" * 201 + '"}', "turns: 1"),
    ],
)  # fmt: skip
def test_what_are_no_titles_is_told(text: str, problem: str) -> None:
    """So that the answer can be asked for again, and a person sees what was wrong."""
    found = understood(aside("titles"), text, 2)
    assert found.data is None and found.problem is not None and problem in found.problem


def test_scores_are_what_their_schema_allows() -> None:
    """Whatever else stands around them."""
    for text in ('{"depth": 3}', 'My view:\n```json\n{"depth": 3}\n```', 'depth? {"depth": 3} {that is all}'[:24]):
        assert understood(aside("scores", SCHEMA), text, 2) == ({"depth": 3}, None)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("three", "no JSON in the answer"),
        ("{}", "not as the schema says, at the whole: 'depth' is a required property"),
        ('{"depth": "deep"}', "not as the schema says, at depth: 'deep' is not of type 'integer'"),
        ('{"depth": 0}', "at depth: 0 is less than the minimum of 1"),
        ('{"depth": 1, "list": ["a", 2]}', "at list/1: 2 is not of type 'string'"),
        ("[3]", "not as the schema says, at the whole: "),
    ],
)
def test_scores_that_their_schema_forbids_are_told_with_their_place(text: str, problem: str) -> None:
    """The first place that is wrong, in the words of the schema."""
    assert problem in str(understood(aside("scores", SCHEMA), text, 2).problem)


def test_a_schema_fetches_nothing() -> None:
    """What it refers to is in it, or it is an error that leaves the machine untouched."""
    schema = {"$ref": "#/$defs/x", "$defs": {"x": {"type": "object"}}}
    assert understood(aside("scores", schema), "{}", 1).data == {}


def test_notes_and_picks_need_no_form() -> None:
    """Any text will do; who is named by a pick is told when it is known who may speak."""
    assert understood(aside("notes"), "{broken", 1) == (None, None)
    assert understood(aside("pick"), "nobody", 1) == (None, None)


@given(st.sampled_from(["vote", "titles", "scores", "notes", "pick"]), st.text(max_size=60), st.integers(1, 5))
def test_no_answer_is_too_strange(kind: AsideKind, text: str, lines: int) -> None:
    """Something comes of each, or a word on why not, and never both."""
    found = understood(aside(kind, SCHEMA), text, lines)
    assert found.data is None or found.problem is None


def test_an_answer_that_is_no_use_is_a_failure_that_was_paid_for() -> None:
    """It may be asked for again, and what it said is kept; a refusal is no comment, a good answer stays."""
    good, bad = Reply('{"depth": 3}', "ok"), Reply("deep", "ok", generation="g")
    scores = aside("scores", SCHEMA)
    assert made_sense(good, scores, 2) is good
    failure = made_sense(bad, scores, 2)
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.scope, failure.money, failure.partial, failure.generation) == (
        "error", "call", "known", "deep", "g",
    )  # fmt: skip
    refused = made_sense(Reply("I would rather not.", "refused"), aside("notes"), 2)
    assert isinstance(refused, Failure) and (refused.kind, refused.detail) == ("refused", "refused answer")
    cut = Reply("A long note", "truncated")
    assert made_sense(cut, aside("notes"), 2) is cut
    broken = Failure("error", "call", "free", "HTTP 500")
    assert made_sense(broken, scores, 2) is broken


@pytest.mark.parametrize(
    ("kind", "schema", "text"),
    [
        ("scores", {"$ref": "#/$defs/nowhere"}, "{}"),
        ("scores", {"$ref": "http://127.0.0.1:9/schema"}, "{}"),
        ("scores", {"$ref": "#"}, "{}"),
        ("scores", {"type": "array", "items": {"$ref": "#"}}, "[" * 400 + "]" * 400),
        ("titles", None, f'{{"{"1" * 5000}": "x"}}'),
        ("titles", None, '{"0": "x"}'),
    ],
)
def test_nothing_that_an_answer_or_a_schema_holds_takes_the_night_with_it(
    kind: AsideKind, schema: dict[str, Any] | None, text: str
) -> None:
    """It is an answer that is no use, with the reason; a schema that refers to elsewhere is not fetched."""
    found = understood(aside(kind, schema), text, 4)
    assert found.data is None or kind == "scores"
    assert found.problem


def test_an_answer_of_fences_and_blanks_is_read_once() -> None:
    """The work grows with the length of the text."""
    assert understood(aside("titles"), "```json" + " " * 400_000, 4).problem == "no JSON in the answer"
    assert understood(aside("titles"), "```\n" * 50_000, 4).problem == "no JSON in the answer"
