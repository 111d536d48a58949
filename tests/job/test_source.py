"""YAML 1.2, strictly: what scalars mean, where things stand, and what is refused."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.job.problem import Problem
from runner.job.source import Place, Unreadable, parse, scalar


def tree(text: str) -> Any:
    source, problems = parse("f.yaml", text.encode())
    assert problems == []
    return source.tree


@pytest.mark.fault(73)
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("1:30", "1:30"),
        ("2026-11-21", "2026-11-21"), ("1_000", "1_000"), ("1e3", 1000.0), (".5", 0.5), ("-1", -1), ("~", None),
        ("", None), ("null", None), ("True", True), ("tRue", "tRue"), ("<<", "<<"), ("=", "="), ("1e400", math.inf),
        (".inf", math.inf), ("-.inf", -math.inf), ("9" * 5000, math.inf), ("300s", "300s"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    """The surprises of YAML 1.1 (the Norway problem, octal, clocks, dates) are gone."""
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_quoted_scalars_and_keys_are_texts() -> None:
    """Quotes make a text of anything, and a key is always one."""
    assert tree("{4.6: '5', no: \"~\", true: 1}") == {"4.6": "5", "no": "~", "true": 1}


def test_a_version_directive_changes_nothing() -> None:
    """A file cannot ask for the rules of YAML 1.1."""
    assert tree("%YAML 1.1\n---\na: no\n") == {"a": "no"}


def test_every_key_and_value_has_its_place() -> None:
    """Lines and columns count from 1, in blocks and in flow."""
    source, _ = parse("f.yaml", b"a:\n  - x\n  - {b: 1}\n")
    assert source.keys[("a",)] == Place(1, 1)
    assert source.values[("a", 0)] == Place(2, 5)
    assert source.keys[("a", 1, "b")] == Place(3, 6)
    assert source.values[("a", 1, "b")] == Place(3, 9)
    assert source.place(("a", 1, "c", "d")) == Place(3, 5)


def test_an_alias_repeats_its_anchor() -> None:
    """Aliases work, and what they repeat stands where it was written."""
    source, _ = parse("f.yaml", b"a: &x {b: 1}\nc: *x\n")
    assert source.tree == {"a": {"b": 1}, "c": {"b": 1}}
    assert source.values[("c", "b")].line == 1


def refusal(data: bytes) -> Problem:
    with pytest.raises(Unreadable) as caught:
        parse("f.yaml", data)
    return caught.value.problem


@pytest.mark.fault(72)
def test_a_yaml_bomb_is_refused_before_it_unfolds() -> None:
    """Nine levels of nine aliases each are 387 million values; they are never built."""
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert "aliases repeat more than" in refusal("\n".join(levels).encode()).message


@pytest.mark.fault(71)
def test_an_alias_cannot_hold_itself() -> None:
    """An endless tree is refused at the alias that makes it endless."""
    problem = refusal(b"a: &x [1, *x]\n")
    assert (problem.line, problem.column) == (1, 11)


@pytest.mark.fault(76)
@pytest.mark.parametrize(
    ("data", "where", "fragment"),
    [
        (b"[" * 100, (1, 41), "nested more than 40 deep"),
        (b"a: b\nc: \xff", (2, 4), "not UTF-8"),
        (b"a: b\nc: x\x01", (2, 5), "control character (U+0001)"),
        (b"a: 1\n b: 2\n", (2, 3), "mapping values are not allowed here"),
        (b"a: 1\nb: 2\n---\nc: 3\n", (3, 1), "a second document"),
        (b" " * (8 * 1024 * 1024 + 1), (0, 0), "at most 8,388,608"),
    ],
)
def test_what_is_no_yaml_of_ours_is_refused_at_its_place(data: bytes, where: tuple[int, int], fragment: str) -> None:
    """The first thing that cannot be read ends the reading, with its line and column."""
    problem = refusal(data)
    assert (problem.line, problem.column) == where
    assert fragment in problem.message


@pytest.mark.fault(86)
def test_a_deep_nesting_ends_in_a_message() -> None:
    """A hundred thousand brackets are a mistake, not a crash."""
    assert "deep" in refusal(b"[" * 100_000).message


_plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc.- {", max_size=4), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(_plain)
def test_json_is_a_subset(value: object) -> None:
    """Whatever JSON says means the same here, and each value has a place."""
    source, problems = parse("f.yaml", json.dumps({"x": value}, ensure_ascii=False).encode())
    assert problems == []
    assert source.tree == {"x": value}
    assert ("x",) in source.values


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text("a:[]{}-&*!|>\n '\"%#?,\t0", max_size=40).map(str.encode))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    """Any bytes give a tree, problems, or a refusal."""
    with suppress(Unreadable):
        source, problems = parse("f.yaml", data)
        assert () in source.values or source.tree is None
        assert all(problem.render() for problem in problems)


def test_an_assignment_takes_the_longest_key_that_fits() -> None:
    """Names with dots in them need no quoting on the command line; numbers count from 1."""
    source, _ = parse("f.yaml", b"models: {opus-4.6: {use: a/b}, opus-4: {}}\npairings: [{a: x}, {a: y}]\n")
    arguments = ("models.opus-4.6.max_tokens=5", "pairings.2.repeat=010", "defaults.timeout.idle=5s", "name=no")
    for argument in arguments:
        assert source.assign(argument) is None
    assert source.tree["models"] == {"opus-4.6": {"use": "a/b", "max_tokens": 5}, "opus-4": {}}
    assert source.tree["pairings"][1] == {"a": "y", "repeat": 10}
    assert source.tree["defaults"] == {"timeout": {"idle": "5s"}}
    assert source.tree["name"] == "no"
    assert source.where(("defaults", "timeout", "idle")) == "--set defaults.timeout.idle=5s"


@pytest.mark.parametrize("argument", ["", "x", "=5", "name.x=1", "pairings.0.a=1", "pairings.x=1", "a=\x1b"])
def test_an_assignment_that_cannot_be_made_is_a_mistake(argument: str) -> None:
    """Nothing is changed, and the argument is named."""
    source, _ = parse("f.yaml", b"name: x\npairings: [{a: x}]\n")
    problem = source.assign(argument)
    assert problem is not None and problem.where.startswith("--set")
    assert source.tree == {"name": "x", "pairings": [{"a": "x"}]}
