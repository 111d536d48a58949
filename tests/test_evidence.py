"""What became known of calls: usage files read strictly, and rows that speak of one call only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.events import Failed, Sent, Settled, Stopped
from runner.evidence import Assumed, Mistake, Row, Unusable, assumed_calls, called, events_of, matched, rows_of
from runner.journal import FILE, scan
from runner.plan import make_plan
from runner.state import CallId, Unsettled
from tests.cli.folders import killed_when
from tests.nights import TALK, TALK_SIM, job_of

PLAN = make_plan(job_of(TALK), "2026-11-21")


def call(turn: int, attempt: int = 1, generation: str | None = None, name: str = "memory/ada~bo") -> Assumed:
    """A call of the first conversation, lost with a dollar reserved for it."""
    cell = PLAN.cells[0].id
    sent = Sent(cell, turn, attempt, "a", "ada", "sim", "m", "hash", "openai/1", 10**9, 100, 500)
    return Assumed(CallId(cell, turn, attempt), name, Unsettled(sent, 1.0, "2026-11-21", 10**9, generation, "lost"))


def mistakes(text: str | bytes) -> list[Mistake]:
    with pytest.raises(Unusable) as caught:
        rows_of(text.encode() if isinstance(text, str) else text)
    return list(caught.value.mistakes)


# --- reading usage files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("id,cost\ng-1,0.0031\n", [Row(2, 3_100_000, "g-1")]),
        ("\ufeffID , Cost\r\ng-1,0.0031\r\n", [Row(2, 3_100_000, "g-1")]),
        ("generation;total_cost\ng-1;1\n\ng-2;0\n", [Row(2, 10**9, "g-1"), Row(4, 0, "g-2")]),
        ('when\tgeneration_id\tusage\n"one\ntwo"\tg\t1e-9\nx\th\t 2 \n', [Row(2, 1, "g"), Row(4, 2 * 10**9, "h")]),
        ("cell,turn,attempt,cost\nmemory/ada~bo,3,1,0.5\n", [Row(2, 5 * 10**8, None, "memory/ada~bo", 3, 1)]),
        ("cell,turn,cost\nx,3,0.5\n", [Row(2, 5 * 10**8, None, "x", 3, None)]),
        ("cell,turn,attempt,cost\nx,3,,0.5", [Row(2, 5 * 10**8, None, "x", 3, None)]),
        ("id,generation_id,cost,total_cost\n7,g-1,9,1\n", [Row(2, 10**9, "g-1")]),
        ("id,cell,turn,cost\n,x,1,1\ng-1,,,1\n", [Row(2, 10**9, None, "x", 1), Row(3, 10**9, "g-1")]),
        ('{"id": "g-1", "cost": 0.1}\n\n{"generation": "g-2", "total_cost": "0.2", "usage": {"tokens": 5}}',
         [Row(1, 10**8, "g-1"), Row(3, 2 * 10**8, "g-2")]),
        ('{"cell": "x", "turn": 2, "attempt": "1", "cost": 3}', [Row(1, 3 * 10**9, None, "x", 2, 1)]),
        ('{"id": 17, "cost": 0.00000000012}', [Row(1, 1, "17")]),
    ],
)  # fmt: skip
def test_a_usage_file_is_read_as_it_is_meant(text: str, rows: list[Row]) -> None:
    """CSV with any of three delimiters, or JSON lines; names in any case; amounts exact, and rounded up once."""
    assert rows_of(text.encode()) == rows


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [(0, "there is not one row in it")]),
        ("id,cost\n", [(0, "there is not one row in it")]),
        ("id,tokens\ng,5\n", [(1, "a cost (`cost`, `usage` or `total_cost`) and the call it is of are expected")]),
        ("cell,cost\nx,5\n", [(1, "a cost (`cost`, `usage` or `total_cost`) and the call it is of are expected")]),
        ("id,cost\ng-1\ng-2,1,2\n", [(2, "it has 1 fields, and the header has 2"), (3, "it has 3 fields")]),
        ("id,cost\ng,\ng,x\ng,-1\ng,nan\ng,inf\ng,1e999999999\ng,99999999999\n", [
            (2, "`cost` is missing"),
            (3, "`cost` is not an amount in dollars: 'x' is not a number"),
            (4, "is negative"),
            (5, "is not a finite number"),
            (6, "is not a finite number"),
            (7, "out of range"),
            (8, "out of range"),
        ]),
        ("id,cell,turn,cost\n,,3,1\n", [(2, "it does not say of which call it speaks")]),
        ("cell,turn,attempt,cost\nx,0,1,1\nx,a,1,1\nx,1,1.5,1\n", [
            (2, "`turn` is a whole number from 1: 0"), (3, "`turn` is a whole"), (4, "`attempt` is a whole number"),
        ]),
        ('id,cost\n"g"x,1\n', [(2, "this is not CSV")]),
        ('{"id": "g", "cost": 1\n[1]\n{"id": "g", "cost": true}\n{"id": ["g"], "cost": 1}\n{"id": "g", "cost": {}}', [
            (1, "this is not JSON"),
            (2, "an object is expected here"),
            (3, "not an amount in dollars"),
            (4, "`id` is not a text"),
            (5, "`cost` is not an amount in dollars"),
        ]),
        (b"id,cost\ng,1\n\xff,1\n", [(3, "this is not UTF-8")]),
        ("{" * 100_000, [(1, "this is not JSON")]),
    ],
)  # fmt: skip
def test_every_mistake_of_a_usage_file_is_told_with_its_line(text: str | bytes, found: list[tuple[int, str]]) -> None:
    """All in one go, and nothing is guessed."""
    told = mistakes(text)
    assert [one.line for one in told] == [line for line, _ in found]
    for one, (_, fragment) in zip(told, found, strict=True):
        assert fragment in one.text


_CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(["id", "cost", "1", "", "g"])


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=80) | st.lists(st.lists(_CELLS, max_size=4).map(",".join)).map(lambda x: "\n".join(x).encode())
)
def test_no_file_crashes_the_reading(data: bytes) -> None:
    """Whatever somebody exports, the answer is rows or mistakes."""
    for head in (b"", b"id,cost\n", b'{"id": "g", "cost": 1}\n'):
        try:
            rows = rows_of(head + data)
        except Unusable as unusable:
            rows, told = [], unusable.mistakes
        else:
            told = ()
        assert bool(rows) != bool(told)
        assert all(row.cost >= 0 and row.line > 0 for row in rows)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10**12), st.text("abc-0", min_size=1, max_size=6)), min_size=1, max_size=8))
def test_csv_and_json_lines_say_the_same(known: list[tuple[int, str]]) -> None:
    """An amount with nine decimals is exact on both ways."""
    amounts = [f"{cost // 10**9}.{cost % 10**9:09d}" for cost, _ in known]
    table = "id,cost\n" + "".join(f"{id_},{amount}\n" for (_, id_), amount in zip(known, amounts, strict=True))
    lines = "".join(
        f'{{"id": {json.dumps(id_)}, "cost": {amount}}}\n' for (_, id_), amount in zip(known, amounts, strict=True)
    )
    for text in (table, lines):
        assert [(row.cost, row.generation) for row in rows_of(text.encode())] == known


# --- matching ------------------------------------------------------------------------------------------------------


def test_a_row_is_matched_by_its_generation_or_by_its_place() -> None:
    """By the provider's id first; by conversation, turn and attempt where there is none; by a cell's id as well."""
    calls = [call(1, 1, "g-1"), call(2), call(3), call(4)]
    rows = [Row(2, 10, "g-1"), Row(3, 20, None, "memory/ada~bo", 2, 1), Row(4, 30, None, calls[2].id.cell, 3)]
    found = matched(rows, calls)
    assert [(known.name, row.cost) for known, row in found.rows] == [
        ("memory/ada~bo#1.1", 10), ("memory/ada~bo#2.1", 20), ("memory/ada~bo#3.1", 30),
    ]  # fmt: skip
    assert (found.ambiguous, found.unmatched) == ((), ())


def test_rows_of_other_calls_are_passed_over() -> None:
    """An export is of a whole account; a row with another id does not speak of a call that has one."""
    rows = [Row(2, 10, "g-9"), Row(3, 10, None, "memory/ada~bo", 9), Row(4, 10, "g-8", "memory/ada~bo", 1)]
    assert matched(rows, [call(1, 1, "g-1")]) == ((), (), tuple(rows))


def test_a_row_with_an_id_that_our_call_has_not_got_is_matched_by_its_place() -> None:
    """A call that was cut before its first byte has no id of the provider's."""
    [(known, row)] = matched([Row(2, 10, "g-7", "memory/ada~bo", 1)], [call(1)]).rows
    assert (known.name, row.cost) == ("memory/ada~bo#1.1", 10)


def test_what_is_ambiguous_is_told_and_not_settled() -> None:
    """Two rows of one call, even when they agree, and one row of two calls."""
    calls = [call(1, 1, "g-1"), call(2, 1), call(2, 2)]
    found = matched([Row(2, 10, "g-1"), Row(3, 10, "g-1"), Row(4, 5, None, "memory/ada~bo", 2)], calls)
    assert found.rows == ()
    assert found.ambiguous == (
        "line 4 may speak of memory/ada~bo#2.1 or memory/ada~bo#2.2",
        "lines 2 and 3 all speak of memory/ada~bo#1.1",
    )
    assert found.unmatched == ()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("memory/ada~bo#2.1", ["memory/ada~bo#2.1"]),
        ("memory/ada~bo#2", ["memory/ada~bo#2.1", "memory/ada~bo#2.2"]),
        (f"{PLAN.cells[0].id}#1.1", ["memory/ada~bo#1.1"]),
        ("memory/ada~bo#1.2", []),
        ("memory/ada~bo#9", []),
        ("memory/ada~bo", []),
        ("memory/ada#1.1", []),
        ("", []),
    ],
)
def test_a_call_is_named_by_conversation_turn_and_attempt(text: str, names: list[str]) -> None:
    """Without the attempt, all at that turn are meant."""
    assert [one.name for one in called(text, [call(1), call(2, 1), call(2, 2)])] == names


# --- from a run ----------------------------------------------------------------------------------------------------

FAULTS = [{"kind": "cut", "request": [1]}, {"kind": "reset", "request": [2]}]
TROUBLED: dict[str, Any] = {
    "models": {"m": {**TALK_SIM["models"]["m"], "faults": FAULTS}, "n": TALK_SIM["models"]["n"]}
}


def test_the_calls_of_a_run_are_those_that_it_counts_as_assumed() -> None:
    """Also those in flight when it was killed, unless somebody still works on it; their sum is what is assumed."""
    night = killed_when(TALK, TROUBLED, lambda state: [call.sent.attempt for call in state.open_calls()] == [2])
    state = scan(night.left(), night.folder / FILE).state
    found = assumed_calls(state, PLAN)
    assert [(one.name, one.in_flight) for one in found] == [("memory/ada~bo#1.1", False), ("memory/ada~bo#1.2", True)]
    assert sum(one.known.cost for one in found) == state.run.assumed + state.run.reserved
    assert [one.name for one in assumed_calls(state, PLAN, at_work=True)] == ["memory/ada~bo#1.1"]
    assert assumed_calls(state, make_plan(job_of(TALK.replace("survives", "stays")), "2026-11-21"))[0].name.endswith(
        "#1.1"
    )


@pytest.mark.parametrize("retry", [0, 1])
def test_a_call_in_flight_is_recorded_as_lost_before_it_is_settled_as_the_next_life_would(retry: int) -> None:
    """With the same words, so that the next life finds what it would have written; where the job allows no second try,
    the conversation has failed."""
    job = TALK.replace("{max_tokens: 500}", f"{{max_tokens: 500, outcomes: {{lost: {{retry: {retry}}}}}}}")
    one, other = (killed_when(job, TROUBLED, lambda state: state.run.reserved > 0) for _ in range(2))
    state = scan(one.left(), one.folder / FILE).state
    plan = make_plan(job_of(job), "2026-11-21")
    calls = [known for known in assumed_calls(state, plan) if known.in_flight]
    assert calls
    mine = [event for known in calls for event in events_of(known, 7, "by hand", plan)]
    other.live()
    theirs = [r.event for r in other.records()[len(one.records()) :]]
    assert [e for e in mine if isinstance(e, Failed)] == [e for e in theirs if isinstance(e, Failed)][: len(calls)]
    stopped = [e for e in theirs if isinstance(e, Stopped) and "not to be asked again" in (e.reason or "")]
    assert [e for e in mine if isinstance(e, Stopped)] == stopped
    assert bool(stopped) is (retry == 0)
    assert [e for e in mine if isinstance(e, Settled)] == [Settled(*known.id, 7, "by hand") for known in calls]
