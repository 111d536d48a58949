"""`check --max-age`: whether a job is being run at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.journal import FILE
from runner.selection import Options
from tests.cli.folders import JOB, SIM, denied, killed_when, landed, tertulia
from tests.nights import START, Night

HOUR = 3600.0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the job in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    Path("talk.yaml").write_text(JOB)
    return tmp_path


@pytest.fixture(scope="module")
def night() -> Night:
    """Two runs, a day apart; the second did a part of its work in one life, and the rest in another."""
    one = Night(JOB, SIM)
    assert one.live(Options(key="first")).exit == 0
    one.wall = START + 24 * HOUR
    assert one.live(Options(key="second", only=("letter/*",))).exit == 0
    one.wall = START + 25 * HOUR
    assert one.live(Options(key="second")).exit == 0
    return one


def told(monkeypatch: pytest.MonkeyPatch, hours: float, age: str = "26h") -> tuple[int, str]:
    """The exit code, and what is said of the age, so many hours after the first run."""
    monkeypatch.setattr("time.time", lambda: START + hours * HOUR + 60)
    said = tertulia("check", "talk.yaml", "--max-age", age)
    (line,) = [line for line in said.out.splitlines() if "finished" in line]
    return said.code, line


def test_a_job_that_ran_lately_passes_and_says_when(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all its runs the life that ended last, with its calls alone."""
    landed(night, Path("outputs"))
    code, line = told(monkeypatch, 40)
    assert code == 0
    assert line == (
        "ok       talk.yaml: the last run that finished: talk/second, 15 h 01 min ago (2026-11-22T13:00:00Z), 4 calls, "
        "exit code 0"
    )


@pytest.mark.parametrize(("hours", "age", "code"), [(51, "26h", 0), (51.1, "26h", 3), (26, "30m", 3), (300, "30d", 0)])
def test_a_job_that_did_not_run_lately_fails_with_3(
    night: Night, monkeypatch: pytest.MonkeyPatch, hours: float, age: str, code: int
) -> None:
    """The age counts from the end of its last life."""
    landed(night, Path("outputs"))
    found, line = told(monkeypatch, hours - 60.5 / HOUR, age)
    assert found == code
    assert ("no run of it that made calls has finished for" in line) == (code == 3)
    assert "talk/second" in line


def test_a_job_that_never_ran_fails_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when others did."""
    assert told(monkeypatch, 1) == (3, "problem  talk.yaml: no run of it that made calls has ever finished in outputs")


def test_a_life_without_calls_and_one_that_was_killed_have_not_finished_anything(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new label opens and closes a life; a call that was in flight at a kill has no end."""
    late = Night(JOB, SIM, disk=night.left(), wall=START + 40 * HOUR, key="second")
    assert late.live(Options(key="second"), job=JOB.replace("label: Ada", "label: Adah")).exit == 0
    assert (late.records()[-1].event.kind, late.records()[-1].at > START + 40 * HOUR) == ("closed", True)
    landed(late, Path("outputs"))
    code, line = told(monkeypatch, 45)
    assert (code, "talk/second, 20 h 01 min ago" in line) == (0, True)
    (Path("outputs/talk")).rename("elsewhere")
    landed(killed_when(JOB, SIM, lambda state: any(state.open_calls())), Path("outputs"))
    assert told(monkeypatch, 1)[0] == 3


def test_it_is_a_finding_among_the_others(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong besides is told, too; programs get it as a finding."""
    landed(night, Path("outputs"))
    monkeypatch.setattr("time.time", lambda: START + 100 * HOUR)
    lines = [json.loads(line) for line in tertulia("check", "talk.yaml", "--max-age", "26h", "--json").out.splitlines()]
    assert [line["grade"] for line in lines[:-1]] == ["ok", "problem", "ok"]
    assert lines[-1] == {"event": "end", "exit": 3, "errors": []}
    Path("other.yaml").write_text("name: [")
    said = tertulia("check", "other.yaml", "talk.yaml", "--max-age", "26h")
    assert said.out.count("problem ") == 2
    assert "2 problems" in said.err


def test_a_run_that_may_not_be_read_is_passed_over(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's is for that user to check."""
    landed(night, Path("outputs"))
    with denied(f"first/{FILE}"):
        assert told(monkeypatch, 40)[0] == 0


@pytest.mark.parametrize("age", ["soon", "0h", ""])
def test_an_age_that_is_none_is_refused(age: str) -> None:
    """Exit code 2, with what could be written."""
    said = tertulia("check", "talk.yaml", f"--max-age={age}")
    assert said.code == 2
    assert "is not a duration; write 300s, 10m or 4h" in said.err
