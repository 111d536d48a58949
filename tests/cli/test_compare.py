"""`compare`, as a shell calls it: two runs, or one run after two of its lives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from runner.branches import Wish
from runner.events import Branched
from runner.journal import FILE
from runner.selection import Options
from tests.cli.folders import JOB, SIM, landed, tertulia
from tests.nights import START, Night, matrix, provider

DAY = 86400.0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    return tmp_path


def nightly(opening: str = "Choose a gift.", models: tuple[str, ...] = ("m0", "m1"), **top: Any) -> dict[str, Any]:
    """Two prompts, and every model with every other one."""
    prompts = {
        "talk": {"opening": "What survives of a conversation?", "rounds": 2},
        "gift": {"opening": opening, "rounds": 2},
    }
    sides = {"a": list(models), "b": list(models), "match": "distinct"}
    return matrix(models, prompts=prompts, pairings=[sides], **top)


EDITED = "Choose a gift for the other."


def three_nights(**top: Any) -> Night:
    """A prompt is edited for the second night, a model added for the third."""
    sim = provider(("m0", "m1", "m2"), rate=0.0)
    night = Night(nightly(**top), sim)
    jobs = (nightly(**top), nightly(EDITED, **top), nightly(EDITED, ("m0", "m1", "m2"), **top))
    for number, job in enumerate(jobs):
        night.wall = START + number * DAY
        life = night.live(Options(accept_changes=True), job=job)
        assert life.exit == 0, life.told
    landed(night, Path("outputs"))
    return night


def told(*arguments: str) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """What programs are told of each conversation, and of all."""
    said = tertulia("compare", *arguments, "--json")
    assert (said.code, said.err) == (0, "")
    *rows, total, end = map(json.loads, said.out.splitlines())
    assert (total["event"], end) == ("sum", {"event": "end", "exit": 0, "errors": []})
    return {row["name"]: row for row in rows}, total


def names(rows: dict[str, dict[str, Any]], standing: str) -> set[str]:
    return {name for name, row in rows.items() if row["standing"] == standing}


# --- three nights ------------------------------------------------------------------------------------------------

GIFTS = {"gift/m0~m1", "gift/m1~m0"}
TALKS = {"talk/m0~m1", "talk/m1~m0"}
ADDED = {
    f"{prompt}/{a}~{b}"
    for prompt in ("gift", "talk")
    for a, b in (("m0", "m2"), ("m2", "m0"), ("m1", "m2"), ("m2", "m1"))
}


def test_of_three_nights_of_one_run_exactly_those_are_named_that_a_night_has_held() -> None:
    """Edited prompts on the second, a model added on the third; what was complete was neither asked again nor named."""
    night = three_nights()
    held: list[set[str]] = []
    plan = {cell.id: cell.name for cell in night.reading().plan.cells}
    for record in night.records():
        if record.event.kind == "opened":
            held.append(set())
        elif record.event.kind == "sent":
            held[-1].add(plan.get(record.event.cell, "of an earlier job"))  # type: ignore[union-attr]
    assert held[1:] == [GIFTS, ADDED]

    second, sums = told("job/main@1", "job/main@2")
    assert names(second, "changed") == GIFTS
    assert names(second, "same") == TALKS
    assert sums["counts"] | {"worse": 0, "better": 0} == sums["counts"] | {"new": 0, "gone": 0}
    changes = {change for name in GIFTS for change in second[name]["changes"]}
    assert changes == {'opening: "Choose a gift." -> "Choose a gift for the other."'}
    assert {second[name]["similarity"] for name in TALKS} == {1.0}
    assert all(not row["worse"] and not row["better"] and not row["other"] for row in map(second.get, TALKS) if row)

    third, _ = told("job/main@2", "job@3")
    assert names(third, "new") == ADDED
    assert names(third, "same") == GIFTS | TALKS
    assert told("job/main@3", "job")[1]["counts"]["same"] == 12


def test_of_three_nights_with_a_run_each_exactly_those_are_named_that_the_job_has_changed() -> None:
    """Every conversation is held each night, so that its texts may differ; what was asked does only where edited."""
    three_nights(run_key="{date}")
    second, sums = told("job/2026-11-21", "job/2026-11-22")
    assert names(second, "changed") == GIFTS
    assert names(second, "same") == TALKS
    assert (sums["before"]["run"], sums["after"]["conversations"]) == ("job/2026-11-21", 4)
    third, _ = told("job/2026-11-22", "job")
    assert names(third, "new") == ADDED
    assert names(third, "same") == GIFTS | TALKS
    back, _ = told("job", "job/2026-11-22")
    assert names(back, "gone") == ADDED


def test_people_are_told_the_sums_and_what_differs_of_each() -> None:
    """The conversations that are the same are counted, and no more."""
    three_nights()
    said = tertulia("compare", "job@1", "job@3")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0] == "job/main@1 -> job/main@3"
    assert lines[2].split() == ["conversations", "4", "12"]
    assert lines[4].split()[0] == "cost"
    assert "  0 worse, 0 better, 8 new, 0 gone, 2 changed, 2 same" in lines
    assert said.out.count('    asked: opening: "Choose a gift." -> "Choose a gift for the other."') == 2
    assert lines[9].partition(": ")[0] in ("changed", "new")
    assert "talk/m0~m1" not in [line.partition(": ")[2] for line in lines]
    assert lines[-1] == "texts of those asked the same: 2 of 2 the same, 1.00 alike on average"


# --- worse -------------------------------------------------------------------------------------------------------


@pytest.fixture
def worse() -> None:
    """A run, and one of the next day in which a model has fallen silent."""
    good, bad = (
        Night(JOB, SIM),
        Night(JOB, {"models": {**SIM["models"], "n": {**SIM["models"]["n"], "faults": [{"kind": "blank"}]}}}),
    )
    assert good.live().exit == 0
    bad.live(Options(key="next"))
    for night in (good, bad):
        landed(night, Path("outputs"))


def test_a_night_that_has_become_worse_ends_with_3_only_where_that_is_asked_for(worse: None) -> None:
    """Whether or not they differ the exit code is 0, unless --fail-on names what they must not be."""
    said = tertulia("compare", "talk/main", "talk/next")
    assert said.code == 0
    assert "worse: memory/ada~bo" in said.out
    assert "    worse: status: complete -> " in said.out
    assert "    worse: turns: 4 -> " in said.out
    assert tertulia("compare", "talk/main", "talk/next", "--fail-on", "worse").code == 3
    assert tertulia("compare", "talk/next", "talk/main", "--fail-on", "worse").code == 0
    assert tertulia("compare", "talk/next", "talk/main", "--fail-on", "worse", "--fail-on", "better").code == 3
    assert tertulia("compare", "talk", "talk", "--fail-on", "changed", "--fail-on", "gone").code == 0


def test_several_kinds_are_asked_for_as_the_guide_writes_it(worse: None) -> None:
    """The option is written once for each of them."""
    guide = (Path(__file__).parents[2] / "docs/after.md").read_text(encoding="utf-8")
    [several] = re.findall(r"^`(--fail-on [^`]* [^`]*)`", guide, re.MULTILINE)
    assert tertulia("compare", "talk/main", "talk/next", *several.split()).code == 0
    assert tertulia("compare", "talk/main", "talk/next", "--fail-on", "worse", *several.split()).code == 3


def test_the_end_for_programs_bears_the_exit_code(worse: None) -> None:
    """Exactly one `end`, the last line."""
    said = tertulia("compare", "talk/main", "talk/next", "--fail-on", "worse", "--json")
    events = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 3
    assert [event["event"] for event in events] == ["conversation"] * 3 + ["sum", "end"]
    assert events[-1]["exit"] == 3
    assert events[-2]["before"]["complete"] == 3


def test_a_life_knows_nothing_of_what_was_wished_after_it() -> None:
    """Mended, branched or grown longer in the second life, each was in the first what it was then."""
    night = Night(JOB, SIM)
    assert night.live().exit == 0
    landed(night, Path("first"))
    for number, wish in enumerate(
        (
            Wish("redo", ("letter/ada",), turn=2),
            Wish("fork", ("letter/bo",), turn=1),
            Wish("extend", ("memory/*",), more_rounds=1),
        ),
        2,
    ):
        assert night.live(Options(wish=wish)).exit == 0
        landed(night, Path("outputs"))
        rows, sums = told("talk@1", f"talk@{number}")
        assert sums["before"]["complete"] == sums["before"]["conversations"] == 3
        rows, _ = told(f"talk@{number - 1}", "talk")
        standings = {name: row["standing"] for name, row in rows.items() if row["standing"] != "same"}
        if wish.how == "redo":
            assert standings == {"letter/ada": "changed"}
            assert rows["letter/ada"]["before"]["status"] == rows["letter/ada"]["after"]["status"] == "complete"
            assert rows["letter/ada"]["changes"] == ["redo from turn 2 on"]
        else:
            name = "letter/bo.fork1" if wish.how == "fork" else "memory/ada~bo.extend1"
            assert standings == {name: "new"}


def test_what_was_wished_and_never_begun_belongs_to_no_life_yet() -> None:
    """Of what was written the wish is the last line."""
    night = Night(JOB, SIM)
    assert night.live().exit == 0
    assert night.live(Options(wish=Wish("redo", ("letter/ada",), turn=2))).exit == 0
    landed(night, Path("outputs"))
    journal = Path("outputs/talk/main") / FILE
    whole = journal.read_bytes().splitlines(keepends=True)
    wished = next(n for n, record in enumerate(night.records(), 1) if isinstance(record.event, Branched))
    journal.write_bytes(b"".join(whole[:wished]))
    rows, _ = told("talk@1", "talk")
    assert (rows["letter/ada"]["before"]["status"], rows["letter/ada"]["after"]["status"]) == ("complete", "pending")


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told_of"),
    [
        ("talk@2", "talk/main has had 1 life: there is no @2"),
        ("talk@0", "talk/main has had 1 life: there is no @0"),
        ("tolk", "Did you mean talk?"),
        ("tolk@1", "Did you mean talk?"),
    ],
)
def test_a_run_or_a_life_that_is_not_there_is_named(worse: None, text: str, told_of: str) -> None:
    """Exit code 2, and what there is instead."""
    said = tertulia("compare", "talk/main", text.replace("talk@", "talk/main@"))
    assert said.code == 2
    assert told_of in said.err


def test_a_life_that_was_broken_off_ends_where_the_next_begins() -> None:
    """Also one that nobody has closed can be compared."""
    night = Night(JOB, SIM)
    assert night.live(Options(only=("memory/*",))).exit == 0
    assert night.live().exit == 0
    landed(night, Path("outputs"))
    journal = Path("outputs/talk/main") / FILE
    rows, _ = told("talk@1", "talk@2")
    assert {name: (row["before"]["status"], row["after"]["status"]) for name, row in rows.items()} == {
        "memory/ada~bo": ("complete", "complete"),
        "letter/ada": ("pending", "complete"),
        "letter/bo": ("pending", "complete"),
    }
    assert rows["letter/bo"]["better"] == ["status: pending (not begun) -> complete", "turns: 0 -> 1"]
    before = journal.read_bytes()
    tertulia("compare", "talk@1", "talk")
    assert journal.read_bytes() == before
