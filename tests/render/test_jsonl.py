from __future__ import annotations

import re
from typing import Any

import orjson

from runner.call import Usage
from runner.conversation import Origin
from runner.render.jsonl import SCHEMA, line
from tests.render.samples import NIGHT_BEGAN, conversation, eventful, turn, varied
from tests.render.talks import moderated, note

WEIGHED = ("phrase", "repetition", "echo", "farewell", "tokens", "cost", "time", "vote")


def unified(one: Any, other: Any, path: str = "$") -> Any:
    """The schema that fits both; AssertionError where keys or types differ. Null fits everything."""
    if one is None or other is None:
        return other if one is None else one
    assert type(one) is type(other), f"{path}: {one} and {other}"
    if isinstance(one, dict):
        assert list(one) == list(other), f"{path}: {list(one)} and {list(other)}"
        return {key: unified(one[key], other[key], f"{path}.{key}") for key in one}
    if isinstance(one, list):
        items = [*one, *other]
        return items[:1] if len(items) < 2 else [_all(items, f"{path}[]")]
    assert one == other, f"{path}: {one} and {other}"
    return one


def _all(schemas: list[Any], path: str) -> Any:
    schema = schemas[0]
    for other in schemas[1:]:
        schema = unified(schema, other, path)
    return schema


def schema_of(value: Any, path: str = "$") -> Any:
    """Keys, lists and the names of the types."""
    if isinstance(value, dict):
        return {key: schema_of(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        items = [schema_of(item, f"{path}[]") for item in value]
        return [_all(items, f"{path}[]")] if items else []
    return None if value is None else type(value).__name__


def test_thirty_varied_transcripts_have_one_schema() -> None:
    """The same keys at every level, and one type or null in each place, so that any reader opens the file."""
    schema = _all([schema_of(orjson.loads(line(t))) for t in [*varied(30, seed=11), eventful()]], "$")
    kinds = ("in", "out", "reasoning", "cached_read", "cached_write")
    assert schema["turns"][0]["tokens"] == schema["totals"]["tokens"] == dict.fromkeys(kinds, "int")
    assert schema["turns"][0]["cost"] == schema["turns"][0]["seconds"] == "float"
    assert schema["error"] == schema["turns"][0]["error"] == {"kind": "str", "message": "str"}
    assert schema["turns"][0]["weighed"] == dict.fromkeys(WEIGHED, "float")
    assert schema["origin"] == {"id": "str", "name": "str", "kind": "str", "through": "int"}
    assert schema["after"][0]["data"] == schema["style"] == "str"
    assert schema["after"][0]["tokens"]["out"] == "int"
    assert schema["after"][0]["cost"] == schema["after"][0]["seconds"] == "float"


def test_a_line_holds_the_conversation_in_full() -> None:
    """The keys of schema 1, with their figures."""
    loaded = orjson.loads(line(eventful()))
    assert " ".join(loaded) == (
        "schema id name job run prompt models repeat status reason flags rounds messages turns totals after origin"
        " style started ended error"
    )
    assert loaded["schema"] == SCHEMA == 1
    assert loaded["models"] == [
        {"role": "a", "alias": "ada", "id": "ada", "provider": "sim"},
        {"role": "b", "alias": "basil", "id": "basil", "provider": "sim"},
    ]
    assert loaded["flags"] == {"truncated": 1, "refused": 1}
    assert loaded["rounds"] == {"planned": 3, "done": 1}
    assert loaded["messages"][0] == {"role": "system", "content": "You are Basil."}
    assert loaded["messages"][1:] == [
        {"role": "user", "content": "Shall we begin?"},
        {"role": "assistant", "content": "What survives"},
    ]
    assert loaded["totals"] == {
        "tokens": {"in": 1832, "out": 640, "reasoning": 100, "cached_read": 512, "cached_write": None},
        "cost": 0.005734567,
        "spent": 0.006734567,
        "seconds": 5.7,
        "turns": 3,
        "turns_with_figures": 2,
        "coverage": "2 of 3 turns have figures",
        "asked": {
            "tokens": dict.fromkeys(("in", "out", "reasoning", "cached_read", "cached_write")),
            "cost": None,
            "seconds": None,
            "answers": 0,
            "answers_with_figures": 0,
        },
        "read_in": {
            "tokens": dict.fromkeys(("in", "out", "reasoning", "cached_read", "cached_write")),
            "cost": None,
            "seconds": None,
            "turns": 0,
            "turns_with_figures": 0,
        },
    }
    assert loaded["started"] == "2026-11-21T01:00:00.250Z"
    assert loaded["error"] == {"kind": "empty", "message": "no text"}
    second = loaded["turns"][1]
    assert (second["model"], second["model_served"], second["upstream"]) == ("basil", "basil-2026", "Upstream One")
    assert (second["cost"], second["cost_reported"], second["cost_computed"]) == (0.0036, 0.0036, 0.004)
    assert [turn["cost_differs"] for turn in loaded["turns"]][:2] == [None, "-10.0 %"]
    assert (second["seconds_first_byte"], second["seconds"], second["tokens_per_second"]) == (0.5, 3.7, 75.0)


def test_money_has_at_most_nine_decimals() -> None:
    """No figure of money shows the error of a float."""
    for nanos in (1, 3, 10**9 + 1, 3_612_345_678, 299_999_999_999_999):
        written = re.search(rb'"spent":([^,]+),', line(conversation([], spent=nanos)))
        assert written is not None
        mantissa, _, exponent = written[1].decode().partition("e")
        decimals = len(mantissa.partition(".")[2]) - int(exponent or 0)
        assert decimals <= 9 or mantissa.endswith(".0")
        assert round(float(written[1]) * 10**9) == nanos


def test_whole_seconds_are_written_as_floats() -> None:
    """A column of seconds is one of floats, even where every figure is whole."""
    assert b'"seconds":2.0' in line(conversation([turn(1, "x", seconds=2)]))


def test_texts_are_verbatim_and_on_one_line() -> None:
    """Controls stay in the text; only a lone surrogate, which no file can hold, is replaced."""
    text = "a\r\n\x1b\u2028\\u{1b}\x00é"
    written = line(conversation([turn(1, text), turn(2, "\ud800x")]))
    assert b"\n" not in written
    assert [one["text"] for one in orjson.loads(written)["turns"]] == [text, "\ufffdx"]


def test_a_count_beyond_all_reason_is_unknown() -> None:
    """A number that readers could not keep is null, not another number."""
    loaded = orjson.loads(line(conversation([turn(1, "x", usage=Usage(input=10**30, output=2**53))])))
    assert loaded["turns"][0]["tokens"]["in"] is None
    assert loaded["turns"][0]["tokens"]["out"] == 2**53


def test_unknown_is_null_and_never_zero() -> None:
    """What nobody has told is null in the turn and in the totals."""
    loaded = orjson.loads(line(conversation([turn(1, "x")], started=NIGHT_BEGAN)))
    assert set(loaded["turns"][0]["tokens"].values()) == set(loaded["totals"]["tokens"].values()) == {None}
    assert (loaded["turns"][0]["cost"], loaded["totals"]["cost"], loaded["ended"]) == (None, None, None)


def test_what_observers_wrote_stands_after_the_conversation_with_its_figures() -> None:
    """One object for each, complete or not; titles and scores as a JSON string, so that the column has one type."""
    scores = note('{"warmth": 3}', kind="scores", heading="Scores", data={"warmth": 3}, cost=5_000_000, spent=7_000_000)
    silent = note(None, status="failed", attempts=2, error={"kind": "refused", "message": "no"})
    written, failed = orjson.loads(line(conversation([turn(1, "x")], notes=(scores, silent))))["after"]
    assert (written["kind"], written["heading"], written["data"]) == ("scores", "Scores", '{"warmth": 3}')
    assert written["observer"] == {
        "label": "Claude Opus 4.6",
        "alias": "opus-4.6",
        "id": "opus-4-6",
        "provider": "anthropic",
    }
    assert (written["status"], written["text"], written["cost"], written["spent"]) == (
        "complete",
        '{"warmth": 3}',
        0.005,
        0.007,
    )
    assert (failed["status"], failed["text"], failed["data"], failed["attempts"]) == ("failed", None, None, 2)
    assert failed["error"] == {"kind": "refused", "message": "no"}
    assert list(written) == list(failed)


def test_who_was_asked_stands_in_its_turn_and_what_that_cost_in_the_totals() -> None:
    """Verbatim answers with what they came to, their figures beside those of the turns, and how many have any."""
    loaded = orjson.loads(line(moderated()))
    first, second, *_ = (turn["asked"] for turn in loaded["turns"])
    assert [(one["kind"], one["text"], one["data"]) for one in (*first, *second)] == [
        ("pick", "subject", '"subject"'),
        ("pick", "either", None),
        ("vote", "False", "false"),
    ]
    assert first[0]["observer"] == {"label": "Eli", "alias": "eli", "id": "eli", "provider": "sim"}
    assert (first[0]["cost"], first[0]["tokens"]["in"], first[0]["attempts"]) == (0.000067, 61, 1)
    assert loaded["totals"]["asked"] == {
        "tokens": {"in": 244, "out": 8, "reasoning": None, "cached_read": None, "cached_write": None},
        "cost": 0.000268,
        "seconds": 1.6,
        "answers": 4,
        "answers_with_figures": 4,
    }
    assert (loaded["totals"]["cost"], loaded["totals"]["spent"]) == (0.000008, 0.0003)
    assert loaded["turns"][4]["asked"][0]["error"] == {"kind": "error", "message": "neither yes nor no · 5 in"}


def test_what_was_carried_over_or_heard_is_told_and_not_counted_again() -> None:
    """Totals are about what was written in this conversation; the rest says where it is from."""
    turns = [
        turn(1, "x", carried=True, usage=Usage(output=100), cost=5),
        turn(2, "y", heard="inbox/basil.md"),
        turn(3, "z", usage=Usage(output=7), cost=2, title="End", left_out=1, weighed={"cost": 2, "farewell": 0.25}),
    ]
    loaded = orjson.loads(line(conversation(turns, origin=Origin("0" * 16, "memory/old", "fork", 1))))
    assert loaded["origin"] == {"id": "0" * 16, "name": "memory/old", "kind": "fork", "through": 1}
    assert (loaded["totals"]["tokens"]["out"], loaded["totals"]["turns"]) == (7, 1)
    assert [one["carried"] for one in loaded["turns"]] == [True, False, False]
    assert [one["heard"] for one in loaded["turns"]] == [None, "inbox/basil.md", None]
    last = loaded["turns"][2]
    assert (last["title"], last["left_out"]) == ("End", 1)
    assert last["weighed"] == dict.fromkeys(WEIGHED) | {"cost": 0.000000002, "farewell": 0.25}
