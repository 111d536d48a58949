"""The shapes in which other programs read conversations: each is read back as those programs read it."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.call import Message, Usage
from runner.conversation import Note, Origin, Transcript
from runner.exports import FORMATS, Head, Talk, sqlite, talk
from runner.exports.columns import CONVERSATION, NOTE, TURN
from runner.exports.sheet import armed, disarmed
from tests.render.samples import conversation, eventful, hostile_texts, turn, varied
from tests.render.talks import moderated

arrow: Any = import_module("pyarrow")
parquet: Any = import_module("pyarrow.parquet")

HEAD = Head(job="first-talk", run="2026-11-21", version="1.2.3", began=1_795_222_800.25, ended=1_795_222_900.5, exit=0)
USAGE = Usage(input=100, output=20, reasoning=5, cached_read=60, cached_write=10)


def spoken(name: str = "memory/ada~basil", id_: str = "5f3a9c0d1e2b4a67", **changes: Any) -> Transcript:
    """Two turns with figures, as Basil saw them."""
    turns = [
        turn(1, "First,\nof two lines.", usage=USAGE, cost=1_500_000, cost_source="priced", seconds=2.0, attempts=1),
        turn(
            2,
            'Second, "quoted".',
            usage=replace(USAGE, reasoning=None),
            cost=500_001,
            cost_source="reported",
            attempts=2,
        ),
    ]
    shown = (Message("user", "What survives?\n\nFirst,\nof two lines."), Message("assistant", 'Second, "quoted".'))
    return conversation(turns, name=name, id=id_, messages=shown, system="You are Basil.", **changes)


TALKS = [talk(spoken()), talk(replace(eventful(), id="eventful", name="memory/eventful"))]


def exported(format_: str, talks: list[Talk], head: Head = HEAD) -> bytes:
    return b"".join(FORMATS[format_].pieces(head, lambda: iter(talks)))


def hostile() -> list[Talk]:
    """A conversation for each of the worst texts."""
    return [
        talk(
            conversation(
                [turn(1, text)], id=f"{number:016x}", messages=(Message("user", text), Message("assistant", text))
            )
        )
        for number, text in enumerate(hostile_texts(200, seed=5))
    ]


# --- all of them -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", FORMATS)
def test_the_same_conversations_give_the_same_bytes_and_none_is_no_trouble(format_: str) -> None:
    """An export can be compared with an older one; a run in which nothing was said has one, too."""
    assert exported(format_, TALKS) == exported(format_, TALKS)
    assert exported(format_, []) == exported(format_, [])


@pytest.mark.parametrize("format_", FORMATS)
def test_conversations_are_taken_one_by_one_as_the_file_grows(format_: str) -> None:
    """A run of many conversations needs the memory of few of them."""
    out = 0

    def talks() -> Iterator[Talk]:
        nonlocal out
        for number in range(300):
            out += 1
            yield talk(spoken(name=f"memory/{number}", id_=str(number)))

    ahead = []
    for piece in FORMATS[format_].pieces(HEAD, talks):
        ahead.append(out)
        assert len(piece) < 200_000
    assert len(ahead) > 4
    assert ahead[0] <= 64 or (format_, ahead[0]) == ("inspect", 300)  # which first sums up
    assert ahead[-3] > ahead[1]


@pytest.mark.parametrize("format_", FORMATS)
def test_the_file_of_each_has_a_name_of_its_own(format_: str) -> None:
    """All of them may lie in one folder."""
    name = FORMATS[format_].name(HEAD)
    assert name == name.strip("./") and "/" not in name
    assert [FORMATS[other].name(HEAD) for other in FORMATS].count(name) == 1


def scored(**changes: Any) -> Note:
    """What an observer made of a conversation."""
    told: dict[str, Any] = {
        "kind": "scores",
        "heading": "Warmth",
        "observer": "Opus",
        "alias": "opus",
        "provider": "far",
    }
    told |= {"model": "opus-4", "status": "complete", "text": "warm: 7", "data": {"warm": 7, "why": "it asks"}}
    return Note(**told | {"cost": 2_000_000, "spent": 2_000_000, "usage": Usage(input=9, output=4)} | changes)


OBSERVED = talk(
    spoken(notes=(scored(), scored(kind="notes", heading="", text=None, data=None, status="failed", reason="refused")))
)


@pytest.mark.parametrize("format_", FORMATS)
def test_whatever_a_conversation_can_be_it_can_be_exported(format_: str) -> None:
    """With notes and without, carried over, dropped in, cut short, with figures that nobody can believe."""
    talks = [talk(replace(t, id=str(n), name=f"x/{n}")) for n, t in enumerate(varied(60, seed=11))]
    assert exported(format_, talks)
    if format_ == "inspect":
        log(talks)


# --- chats to learn from -----------------------------------------------------------------------------------------


def test_openai_reads_a_chat_of_system_user_and_assistant_on_each_line() -> None:
    """Nothing but `messages`, ending with the assistant's: the shape that fine-tuning takes."""
    lines = [json.loads(line) for line in exported("openai", TALKS).splitlines()]
    assert lines[0] == {
        "messages": [
            {"role": "system", "content": "You are Basil."},
            {"role": "user", "content": "What survives?\n\nFirst,\nof two lines."},
            {"role": "assistant", "content": 'Second, "quoted".'},
        ]
    }
    assert all(list(line) == ["messages"] and line["messages"][-1]["role"] == "assistant" for line in lines)
    assert FORMATS["openai"].whole and FORMATS["sharegpt"].whole and not FORMATS["csv"].whole


def test_sharegpt_says_from_whom_each_line_is() -> None:
    """The system's, the human's and the model's, with the id of the conversation."""
    (first, _) = [json.loads(line) for line in exported("sharegpt", TALKS).splitlines()]
    assert first["id"] == "5f3a9c0d1e2b4a67"
    assert [(line["from"], line["value"][:5]) for line in first["conversations"]] == [
        ("system", "You a"),
        ("human", "What "),
        ("gpt", "Secon"),
    ]


@pytest.mark.parametrize(
    ("format_", "key", "text"), [("openai", "messages", "content"), ("sharegpt", "conversations", "value")]
)
def test_hostile_texts_stay_on_their_line_and_come_back(format_: str, key: str, text: str) -> None:
    """Newlines of every alphabet, controls, quotes: one line each, and the same text."""
    talks = hostile()
    lines = exported(format_, talks).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line)[key][-1][text] for line in lines] == [one["messages"][-1]["content"] for one in talks]


# --- tables ------------------------------------------------------------------------------------------------------


def sheet(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def test_csv_has_a_row_for_each_turn_with_its_figures() -> None:
    """What is unknown is empty, never zero; texts keep their lines and quotes."""
    rows = sheet(exported("csv", TALKS))
    assert len(rows) == 2 + 6
    assert rows[0]["text"] == "First,\nof two lines."
    assert rows[1]["text"] == 'Second, "quoted".'
    assert [rows[1][key] for key in ("job", "name", "n", "speaker", "tokens_out", "tokens_reasoning")] == [
        "first-talk",
        "memory/ada~basil",
        "2",
        "Basil the Slow",
        "20",
        "",
    ]
    assert [float(row["cost"]) for row in rows[:2]] == [0.0015, 0.000500001]
    assert (rows[6]["outcome"], rows[6]["text"], rows[6]["error_kind"]) == ("failed", "", "empty")


UNSEEN = (
    *"\0\x01\x1b\x7f\x85\xa0\u2003\u2028\u2029\u3000",  # controls, blanks, breaks of other alphabets
    *"\ufeff\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\u2064",  # marks of order, joints, hints
    *"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",  # directions
    *"\u034f\u0301\ufe0f\U000e0041\U000e0100",  # what changes the letter before it
    *"\u115f\u1160\u2800\u3164\uffa0\ue000\uffff",  # letters that show nothing, and letters of nobody
)


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "＝1",
        "'=1",
        "''=1",
        "' =1",
        "\0=1",
        "\t",
        "=",
        "-",
        *(f"{unseen}{sign}1" for unseen in UNSEEN for sign in "=+-@"),
        *(f"{sign}1" for sign in "＝＋－＠﹦﹢﹣﹫⁼⁺⁻₌₊₋−"),
        "\ufeff\u200b '\u2066＝1",
    ],
)
def test_a_text_that_a_spreadsheet_would_compute_begins_with_an_apostrophe(text: str) -> None:
    """Signs that open a formula, also behind all that shows nothing, behind apostrophes, and in their other forms."""
    assert disarmed(text) == "'" + text
    assert armed("'" + text) == text


@pytest.mark.parametrize(
    "text", ["a=1", "'tis", "1-1", "", "''", "“=1”", "(=1)", "\ufeffa=1", " \u200b", "–1", "—", "•-1", "✚"]
)
def test_any_other_text_stays_as_it_is(text: str) -> None:
    """An apostrophe of its own is not taken away."""
    assert disarmed(text) == text
    assert armed(text) == text


@given(st.text("'=+-@\t\r\n ax＝\0\ufeff\u200b\u2066−", max_size=6))
def test_every_text_of_a_sheet_can_be_had_back(text: str) -> None:
    """Whatever apostrophes and signs it begins with."""
    cell = disarmed(text)
    assert isinstance(cell, str)
    assert armed(cell) == text


def test_a_text_of_nothing_to_see_costs_no_time() -> None:
    """A million of them before a sign are passed over once."""
    assert disarmed("\u200b" * 1_000_000 + "=1") == "'" + "\u200b" * 1_000_000 + "=1"


@pytest.mark.fault(84)
def test_no_cell_of_hostile_texts_is_a_formula() -> None:
    """Neither in a text, nor in a name, nor in an error; numbers are not touched."""
    talks = [*hostile(), talk(replace(spoken(), job="=HYPERLINK(1)", participants=()))]
    rows = sheet(exported("csv", talks))
    assert all(cell[:1] not in ("=", "+", "-", "@", "\t", "\r", "\n", "＝") for row in rows for cell in row.values())
    assert [armed(row["text"]) for row in rows[:200]] == [one["turns"][0]["text"] for one in talks[:200]]
    assert rows[-1]["job"] == "'=HYPERLINK(1)"


def test_sqlite_holds_conversations_and_their_turns() -> None:
    """Two tables that can be joined, with types, and NULL for what is unknown."""
    with sqlite3.connect(":memory:") as database:
        sqlite.fill(database, lambda: iter(TALKS))
        assert database.execute(
            "SELECT count(*), sum(turns_done), sum(status = 'complete') FROM conversations"
        ).fetchone() == (2, 5, 1)
        assert database.execute(
            "SELECT c.name, t.n, t.text, t.tokens_out, t.tokens_reasoning, t.given, typeof(t.cost) "
            "FROM turns t JOIN conversations c ON c.id = t.conversation WHERE t.speaker = 'Basil the Slow' LIMIT 1"
        ).fetchone() == ("memory/ada~basil", 2, 'Second, "quoted".', 20, None, 0, "real")
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def test_what_observers_made_of_a_conversation_stands_beside_it() -> None:
    """In a table of its own, or inside the row: who, what, at what cost; scores as JSON."""
    with sqlite3.connect(":memory:") as database:
        sqlite.fill(database, lambda: iter([OBSERVED]))
        notes = database.execute(
            "SELECT conversation, n, kind, label, model, text, data, cost, reason FROM notes"
        ).fetchall()
    database.close()
    scores = '{"warm": 7, "why": "it asks"}'
    assert notes == [
        ("5f3a9c0d1e2b4a67", 1, "scores", "Opus", "opus-4", "warm: 7", scores, 0.002, None),
        ("5f3a9c0d1e2b4a67", 2, "notes", "Opus", "opus-4", None, None, 0.002, "refused"),
    ]
    (row,) = parquet.read_table(arrow.BufferReader(exported("parquet", [OBSERVED]))).to_pylist()
    assert [(note["kind"], note["data"], note["tokens_out"]) for note in row["notes"]] == [
        ("scores", scores, 4),
        ("notes", None, 4),
    ]


def test_where_a_conversation_comes_from_and_what_was_not_said_in_it_stands_in_the_tables() -> None:
    """Carried over from another one, or dropped in from outside."""
    one = spoken(origin=Origin("0" * 16, "memory/first", "fork", 1))
    turns = (replace(one.turns[0], carried=True), replace(one.turns[1], heard="inbox.md", title="The turn"))
    with sqlite3.connect(":memory:") as database:
        sqlite.fill(database, lambda: iter([talk(replace(one, turns=turns))]))
        assert database.execute("SELECT origin_name, origin_kind FROM conversations").fetchone() == (
            "memory/first",
            "fork",
        )
        assert database.execute("SELECT carried, heard, title FROM turns").fetchall() == [
            (1, None, None),
            (0, "inbox.md", "The turn"),
        ]
    database.close()


def test_the_figures_by_which_a_rule_judged_a_turn_stand_in_columns_of_their_own() -> None:
    """A column for each rule in every table, a number or nothing; a vote of nought is a number, costs are dollars."""
    one = spoken()
    told = (replace(one.turns[0], weighed={"vote": 0.0, "cost": 1_500_000, "tokens": 20}), one.turns[1])
    talks = [talk(replace(one, turns=told))]
    expected = [("vote", 0.0, None), ("cost", 0.0015, None), ("tokens", 20.0, None), ("echo", None, None)]
    with sqlite3.connect(":memory:") as database:
        sqlite.fill(database, lambda: iter(talks))
        for rule, *figures in expected:
            query = f"SELECT weighed_{rule}, typeof(weighed_{rule}) FROM turns ORDER BY n"
            kinds = ["null" if figure is None else "real" for figure in figures]
            assert database.execute(query).fetchall() == list(zip(figures, kinds, strict=True))
    database.close()
    rows = sheet(exported("csv", talks))
    turns = parquet.read_table(arrow.BufferReader(exported("parquet", talks))).to_pylist()[0]["turns"]
    for rule, *figures in expected:
        column = f"weighed_{rule}"
        assert [float(row[column]) if row[column] else None for row in rows] == figures
        assert [turn[column] for turn in turns] == figures
    (sample,) = log(talks)["samples"]
    assert sample["metadata"]["turns"][0]["weighed"]["vote"] == 0.0


def test_sqlite_keeps_hostile_texts_whole() -> None:
    """Also with a zero in them."""
    talks = hostile()
    with sqlite3.connect(":memory:") as database:
        sqlite.fill(database, lambda: iter(talks))
        found = [text for (text,) in database.execute("SELECT text FROM turns ORDER BY conversation")]
    database.close()
    assert found == [one["turns"][0]["text"] for one in talks]


def test_parquet_has_a_row_for_each_conversation_with_messages_and_turns_inside() -> None:
    """Columns have their types also where nothing is known, and hostile texts come back."""
    talks = [*TALKS, *hostile()]
    data = exported("parquet", talks)
    table = parquet.read_table(arrow.BufferReader(data))
    rows = table.to_pylist()
    assert [row["name"] for row in rows[:2]] == ["memory/ada~basil", "memory/eventful"]
    assert rows[0]["messages"][0] == {"role": "system", "content": "You are Basil."}
    assert [t["tokens_reasoning"] for t in rows[0]["turns"]] == [5, None]
    assert [t["text"] for row in rows[2:] for t in row["turns"]] == [one["turns"][0]["text"] for one in talks[2:]]
    assert table.schema.field("cost").type == arrow.float64()
    assert table.schema.field("repeat").type == arrow.int64()
    empty = parquet.read_table(arrow.BufferReader(exported("parquet", [])))
    assert (empty.num_rows, empty.schema) == (0, table.schema)
    assert parquet.ParquetFile(arrow.BufferReader(data)).num_row_groups == 4


def test_no_table_has_two_columns_of_one_name() -> None:
    """The turns of a conversation stand in a column of its row, too."""
    names = [column.name for column in CONVERSATION]
    assert len({*names, "messages", "turns", "notes"}) == len(names) + 3
    assert len({column.name for column in TURN}) == len(TURN)
    assert len({column.name for column in NOTE}) == len(NOTE)


# --- inspect -----------------------------------------------------------------------------------------------------

REQUIRED: dict[str, dict[str, type]] = {
    "": {"version": int, "status": str, "eval": dict, "plan": dict, "results": dict, "stats": dict, "samples": list},
    "eval": {
        **dict.fromkeys(("run_id", "eval_id", "created", "task", "task_id", "model"), str),
        **dict.fromkeys(("dataset", "config", "packages", "metadata"), dict),
    },
    "plan": {"name": str, "steps": list, "config": dict},
    "results": {"total_samples": int, "completed_samples": int, "scores": list},
    "stats": {"started_at": str, "completed_at": str, "model_usage": dict},
}
SAMPLE: dict[str, type] = {
    **dict.fromkeys(("id", "target", "uuid"), str),
    **dict.fromkeys(("output", "metadata", "model_usage"), dict),
    "epoch": int,
    "input": list,
    "messages": list,
}
COUNTS = {"input_tokens", "output_tokens", "total_tokens"}
MORE_COUNTS = {"input_tokens_cache_read", "input_tokens_cache_write", "reasoning_tokens", "total_cost"}


def log(talks: list[Talk], head: Head = HEAD) -> dict[str, Any]:
    """The log, after each part that Inspect needs was found with its type."""
    found = json.loads(exported("inspect", talks, head))
    for part, keys in REQUIRED.items():
        there = found[part] if part else found
        assert {key: type(there[key]) for key in keys} == keys
    for sample in found["samples"]:
        assert {key: type(sample[key]) for key in SAMPLE} == SAMPLE
        assert all(message["role"] in ("system", "user", "assistant") for message in sample["messages"])
        for usage in sample["model_usage"].values():
            assert usage.keys() >= COUNTS and usage.keys() <= COUNTS | MORE_COUNTS
    assert isinstance(found, dict)
    return found


def test_inspect_finds_each_conversation_as_a_sample() -> None:
    """Its messages, who wrote the last of them and what each model used."""
    found = log(TALKS)
    assert (found["version"], found["status"]) == (2, "success")
    first, second = found["samples"]
    assert first["input"] == [
        {"role": "system", "content": "You are Basil.", "source": "input"},
        {"role": "user", "content": "What survives?\n\nFirst,\nof two lines.", "source": "input"},
    ]
    assert first["messages"][2:] == [first["output"]["choices"][0]["message"]]
    assert first["output"]["model"] == "sim/basil" == first["messages"][2]["model"]
    assert first["output"]["choices"][0]["stop_reason"] == "stop"
    assert first["model_usage"]["sim/ada"] == {
        "input_tokens": 30,  # of 100, with 60 read from a cache and 10 written into it
        "output_tokens": 20,
        "total_tokens": 120,
        "input_tokens_cache_read": 60,
        "input_tokens_cache_write": 10,
        "reasoning_tokens": 5,
        "total_cost": 0.0015,
    }
    assert second["error"]["message"] == "turn 5: empty"
    assert [one["outcome"] for one in second["metadata"]["turns"]][-2:] == ["failed", "open"]
    assert found["results"] == {"total_samples": 2, "completed_samples": 1, "scores": []}
    assert found["eval"]["dataset"]["sample_ids"] == [sample["id"] for sample in found["samples"]]


def test_what_inspect_sums_up_is_the_sum_of_its_samples() -> None:
    """Over all of them, model by model."""
    found = log([talk(spoken(name=f"memory/{n}", id_=str(n))) for n in range(7)])
    assert found["stats"]["model_usage"]["sim/basil"]["total_cost"] == round(7 * 0.000500001, 9)
    assert found["stats"]["model_usage"]["sim/ada"]["output_tokens"] == 140


@pytest.mark.parametrize(
    ("exit_", "status"),
    [(0, "success"), (3, "success"), (4, "cancelled"), (130, "cancelled"), (8, "error"), (None, "started")],
)
def test_inspect_is_told_how_the_run_ended(exit_: int | None, status: str) -> None:
    """One with failed conversations has succeeded as a whole; one that a ceiling ended was cut off."""
    found = log(TALKS, replace(HEAD, exit=exit_, ended=None if exit_ is None else HEAD.ended))
    assert found["status"] == status
    assert ("error" in found) == (status == "error")
    assert (found["stats"]["completed_at"] == "") == (exit_ is None)


def test_inspect_reads_what_stands_before_the_samples_without_them() -> None:
    """Its viewer takes the head of a large file only; so the samples are the last key, and its times have offsets."""
    found = log(TALKS)
    assert list(found)[-1] == "samples"
    assert datetime.fromisoformat(found["eval"]["created"]).utcoffset() is not None
    name = FORMATS["inspect"].name(replace(HEAD, job="first_talk"))
    assert name == "2026-11-21T01-00-00_first-talk_2026-11-21.json"


def test_a_conversation_in_which_nobody_has_spoken_is_a_sample_without_messages() -> None:
    """As one is that has not begun."""
    (sample,) = log([talk(conversation([turn(1, None)], status="pending"))])["samples"]
    assert (sample["input"], sample["messages"], sample["output"]) == ([], [], {})


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"warm": 7, "why": "it asks"}, {"warm": 7, "why": "it asks"}),
        (3, 3),
        ({"warm": {"much": True}}, '{"warm": {"much": true}}'),
        ([1, 2], "[1, 2]"),
        ({"warm": 10**30}, '{"warm": 1000000000000000000000000000000}'),
        (float("nan"), "NaN"),
    ],
)
def test_scores_of_observers_are_scores_of_their_sample(data: Any, value: Any) -> None:
    """Figures and words as they are, by name; what Inspect has no place for as text."""
    (sample,) = log([talk(spoken(notes=(scored(data=data),)))])["samples"]
    assert sample["scores"] == {"Warmth": {"value": value, "explanation": "warm: 7"}}


def test_the_scores_of_all_samples_are_summed_up_before_them() -> None:
    """A mean for each figure by its name, with how many samples have it; for words and mixtures only that."""
    talks = [
        talk(spoken(name="memory/1", id_="1", notes=(scored(data={"warm": 7, "why": "it asks"}), scored(data=True)))),
        talk(spoken(name="memory/2", id_="2", notes=(scored(data={"warm": 4.5, "why": "no"}),))),
        talk(spoken(name="memory/3", id_="3")),
    ]
    found = log(talks)["results"]["scores"]
    mean = {"name": "mean", "value": 5.75, "params": {}}
    assert found[:2] == [
        {"name": "warm", "scorer": "Warmth", "scored_samples": 2, "unscored_samples": 1, "params": {}}
        | {"metrics": {"mean": mean}},
        {"name": "why", "scorer": "Warmth", "scored_samples": 2, "unscored_samples": 1, "params": {}, "metrics": {}},
    ]
    ((name, scorer, value),) = [(one["name"], one["scorer"], one["metrics"]["mean"]["value"]) for one in found[2:]]
    assert (name, scorer, value) == ("Warmth 2", "Warmth 2", 1.0)
    mixed = [talk(spoken(id_=str(n), notes=(scored(data=data),))) for n, data in enumerate((1, "much"))]
    assert [one["metrics"] for one in log(mixed)["results"]["scores"]] == [{}]


def test_two_scores_of_one_heading_are_both_there_and_notes_are_none() -> None:
    """Every note stands in the metadata."""
    notes = (scored(), scored(data=2), scored(kind="notes", data=None))
    (sample,) = log([talk(spoken(notes=notes))])["samples"]
    assert {name: score["value"] for name, score in sample["scores"].items()} == {
        "Warmth": {"warm": 7, "why": "it asks"},
        "Warmth 2": 2,
    }
    assert [note["kind"] for note in sample["metadata"]["notes"]] == ["scores", "scores", "notes"]


def test_what_those_used_who_were_asked_is_counted_with_their_samples() -> None:
    """A moderator and who votes are part of what a conversation used; an output is that of its own turn alone."""
    (sample,) = log([talk(moderated())])["samples"]
    assert sample["model_usage"]["sim/eli"]["total_cost"] == 0.000268
    assert sample["model_usage"]["anthropic/opus-4-6"]["total_cost"] == 0.000004
    assert [len(turn["asked"]) for turn in sample["metadata"]["turns"]] == [1, 2, 1, 1, 1]


def test_what_was_used_elsewhere_is_not_counted_here() -> None:
    """Of a turn that another conversation paid for, and of a line that no model wrote."""
    one = spoken()
    carried = replace(one, turns=(replace(one.turns[0], carried=True), one.turns[1]))
    assert list(log([talk(carried)])["stats"]["model_usage"]) == ["sim/basil"]
    imported = replace(one, turns=(one.turns[0], replace(one.turns[1], heard="old.md")))
    assert list(log([talk(imported)])["stats"]["model_usage"]) == ["sim/ada"]
    heard = replace(one, turns=(one.turns[0], replace(one.turns[1], provider=None, model=None, heard="inbox.md")))
    (sample,) = log([talk(heard)])["samples"]
    assert (list(sample["model_usage"]), sample["output"]["model"]) == (["sim/ada"], "sim/ada")
