"""`spend` as a shell calls it: all jobs together, also those whose runs are gone, and nothing is changed by looking."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from runner.journal import LOCK_FILE
from runner.ledger import FILE, Entry, Kind, Part, Scope, encode
from runner.ledger import LOCK_FILE as LEDGER_LOCK
from runner.world import RealDisk
from tests.cli.folders import JOB, SIM, denied, killed_when, landed, tertulia
from tests.nights import Night

CENT = 10_000_000
DAY = "2026-11-21"
CAPS: dict[Scope, int] = {"day": 800 * CENT, "month": 12_000 * CENT}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, at noon of the day of which the ledgers tell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    monkeypatch.setattr("time.time", lambda: 1_795_262_400.0)
    return tmp_path


class Pen:
    """Writes a ledger line by line."""

    def __init__(self) -> None:
        self.lines = b""
        self.seq = 0

    def line(
        self,
        run: str,
        cents: int,
        kind: Kind = "counted",
        *parts: tuple[str, str, int, int],
        day: str = DAY,
        play: bool = False,
        caps: dict[Scope, int] | None = None,
    ) -> None:
        self.seq += 1
        whole = tuple(Part(provider, model, spent * CENT, assumed * CENT) for provider, model, spent, assumed in parts)
        self.lines += encode(
            Entry(run, day, "UTC", cents * CENT, kind, play, caps or {}, whole, 0, 1_795_262_000.0, self.seq)
        )
        Path("outputs").mkdir(exist_ok=True)
        Path("outputs", FILE).write_bytes(self.lines)


@pytest.fixture
def ledger() -> Pen:
    """Two jobs on two days, one run of which still holds what it has drawn; and some play money."""
    pen = Pen()
    pen.line(
        "nightly/20@1.000",
        320,
        "counted",
        ("openrouter", "z/glm", 200, 20),
        ("anthropic", "opus", 120, 0),
        day="2026-11-20",
    )
    pen.line("nightly/21@2.000", 150, "drawn", caps=CAPS)
    pen.line("letters/main@3.000", 40, "drawn", caps={"month": 12_000 * CENT})
    pen.line("letters/main@3.000", 10, "counted", ("openrouter", "z/glm", 10, 0))
    pen.line("toy/main@4.000", 7, "counted", ("sim", "ada", 7, 0), play=True)
    return pen


def objects(*arguments: str) -> list[dict[str, Any]]:
    said = tertulia("spend", "--json", *arguments)
    assert said.code == 0
    return [json.loads(line) for line in said.out.splitlines()]


def test_it_tells_each_day_what_is_settled_assumed_and_held_and_what_room_is_left(ledger: Pen) -> None:
    """Real money first, with its sum; play money apart; whoever holds something is named."""
    said = tertulia("spend")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "  DAY         SETTLED  ASSUMED     HELD    TOTAL",
        "  2026-11-20  $3.0000  $0.2000  $0.0000  $3.2000",
        "  2026-11-21  $0.1000  $0.0000  $1.5000  $1.6000",
        "  total       $3.1000  $0.2000  $1.5000  $4.8000",
        "  assumed: $0.2000 of nightly/20 -> its folder is gone, so it stays",
        "  held: $1.5000 by nightly/21, whose folder is gone: nobody can tell what of it was spent",
        "  day 2026-11-21: $1.6000 of $8.0000 counted, $6.4000 left (nightly)",
        "  month 2026-11: $4.8000 of $120.0000 counted, $115.2000 left (letters, nightly)",
        "play money, of jobs that ask the built-in provider alone; it counts apart:",
        "  DAY         SETTLED  ASSUMED     HELD    TOTAL",
        "  2026-11-21  $0.0700  $0.0000  $0.0000  $0.0700",
        "  total       $0.0700  $0.0000  $0.0000  $0.0700",
    ]


def test_it_is_grouped_as_it_is_asked_for_and_its_coverage_is_said(ledger: Pen) -> None:
    """By several keys in their order; what no model is known of has a row of its own."""
    lines = tertulia("spend", "--by", "job, model").out.splitlines()
    assert [line.split()[:-3] for line in lines[:6]] == [
        ["JOB", "MODEL", "SETTLED"],
        ["letters", "openrouter/z/glm", "$0.1000"],
        ["nightly", "anthropic/opus", "$1.2000"],
        ["nightly", "openrouter/z/glm", "$1.8000"],
        ["nightly", "(not", "known)", "$0.0000"],
        ["total", "$3.1000"],
    ]
    assert "  models are known for $3.3000 of $4.8000" in lines
    assert [line.split()[0] for line in tertulia("spend", "--by", "month").out.splitlines()[:3]] == [
        "MONTH",
        "2026-11",
        "total",
    ]


def test_a_clock_that_was_put_back_shows_the_day_on_which_runs_go_on_counting(
    ledger: Pen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room that is left is that of the latest day, not that of a yesterday which looks free."""
    monkeypatch.setattr("time.time", lambda: 1_795_262_400.0 - 86_400)
    said = tertulia("spend").out
    assert "day 2026-11-21: $1.6000 of $8.0000 counted" in said and "day 2026-11-20" not in said


def test_a_month_alone_and_a_month_without_anything(ledger: Pen) -> None:
    """The room is told only where it is that of today."""
    ledger.line("nightly/10@9.000", 900, "counted", ("openrouter", "z/glm", 900, 0), day="2026-10-31")
    october = tertulia("spend", "--month", "2026-10").out
    assert "$9.0000" in october
    assert "left" not in october
    assert "$9.0000" not in tertulia("spend", "--month", "2026-11").out
    assert "$115.2000 left" in tertulia("spend", "--month", "2026-11").out
    assert tertulia("spend", "--month", "2026-09") == (0, "", "nothing was spent in 2026-09, as far as outputs tells\n")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--by", "week"], "'week' is none of month, day, job, provider, model"),
        (["--by", ""], "'' is none of"),
        (["--month", "november"], "'november' is no month; write it like 2026-11"),
        (["--month", "2026-13"], "is no month"),
    ],
)
def test_a_mistake_is_exit_2(options: list[str], text: str) -> None:
    """And says what could be written."""
    said = tertulia("spend", *options)
    assert said.code == 2
    assert text in said.err


def test_the_answer_for_programs_adds_up_and_ends_once(ledger: Pen) -> None:
    """Rows, their sum with its coverage, what is open, the ceilings, and exactly one end."""
    found = objects("--by", "day,provider")
    rows = [one for one in found if one["event"] == "row" and not one["play"]]
    [whole] = [one for one in found if one["event"] == "total" and not one["play"]]
    for column in ("settled", "assumed", "held", "total"):
        assert sum(round(row[column] * 1e9) for row in rows) == round(whole[column] * 1e9)
    assert (whole["total"], whole["of_known_models"]) == (4.8, 3.3)
    assert rows[-1] == {
        "event": "row", "play": False, "day": DAY, "provider": None,
        "settled": 0.0, "assumed": 0.0, "held": 1.5, "total": 1.5,
    }  # fmt: skip
    assert [one["run"] for one in found if one["event"] == "open"] == ["nightly/20", "nightly/21"]
    assert [(one["scope"], one["left"], one["jobs"]) for one in found if one["event"] == "room"] == [
        ("day", 6.4, ["nightly"]),
        ("month", 115.2, ["letters", "nightly"]),
    ]
    assert found[-1] == {"event": "end", "exit": 0, "errors": []}


def test_without_a_ledger_nothing_was_spent() -> None:
    """And none is made by looking."""
    assert tertulia("spend") == (0, "", "nothing was spent, as far as outputs tells\n")
    assert [one["event"] for one in objects()] == ["total", "total", "end"]
    assert not Path("outputs").exists()


def test_a_damaged_ledger_is_exit_8_with_its_place(ledger: Pen) -> None:
    """No sum is better than a wrong one; a torn last line is none of it."""
    path = Path("outputs", FILE)
    before = tertulia("spend").out
    path.write_bytes(ledger.lines + b'{"v":1,"se')
    assert tertulia("spend").out == before
    path.write_bytes(ledger.lines.replace(b"nightly/20", b"nightly/2O", 1))
    said = tertulia("spend")
    assert said.code == 8
    assert "damaged at byte 0" in said.err


def test_a_ledger_or_a_journal_that_may_not_be_read_is_said_in_one_line(here: Path) -> None:
    """Without the ledger nothing can be told; without a journal, all but what of its run was spent."""
    landed(killed_when(JOB, SIM, lambda state: state.run.reserved > 0), here / "outputs")
    with denied(FILE):
        assert tertulia("spend") == (8, "", f"outputs/{FILE}: Permission denied\n")
    with denied("journal.jsonl"):
        said = tertulia("spend")
    assert (said.code, said.err) == (0, "")
    assert "by talk/main, broken off: its next run counts what was spent" in said.out
    with denied(LOCK_FILE):
        assert "nobody can tell by whom: outputs/talk/main/run.lock: Permission denied" in tertulia("spend").out


def test_it_reads_while_others_write(ledger: Pen) -> None:
    """It takes no lock, and makes none."""
    lock = RealDisk().lock(Path("outputs", LEDGER_LOCK), "me")
    try:
        assert tertulia("spend").code == 0
    finally:
        lock.release()


# --- with runs -------------------------------------------------------------------------------------------------------


def test_what_runs_have_spent_is_there_also_when_they_are_deleted(here: Path) -> None:
    """The ledger outlives the folders; nothing of them is changed by looking."""
    night = Night(JOB, SIM)
    assert night.live().exit == 0
    landed(night, here / "outputs")
    before = {path: path.read_bytes() for path in here.rglob("*.*") if path.is_file()}
    [row] = [one for one in objects("--by", "job") if one["event"] == "row"]
    assert (row["job"], row["play"], round(row["settled"] * 1e9)) == ("talk", True, night.counted)
    assert {path: path.read_bytes() for path in here.rglob("*.*") if path.is_file()} == before
    shutil.rmtree(here / "outputs/talk")
    assert [one for one in objects("--by", "job") if one["event"] == "row"] == [row]


def test_what_a_run_that_was_killed_has_spent_is_told_apart_from_what_it_holds(here: Path) -> None:
    """Its journal tells; what flew is lost, and the rest of its slice is held until its next run."""
    night = killed_when(JOB, SIM, lambda state: state.run.reserved > 0 and state.run.settled > 0)
    landed(night, here / "outputs")
    run = night.reading().state.run
    [row] = [one for one in objects("--by", "job") if one["event"] == "row"]
    assert (row["settled"], row["assumed"]) == (run.settled / 1e9, run.reserved / 1e9)
    assert row["held"] > 0
    said = tertulia("spend").out
    assert "of talk/main -> tertulia settle talk/main" in said
    assert "by talk/main, broken off: its next run counts what was spent" in said
    lock = RealDisk().lock(here / "outputs/talk/main" / LOCK_FILE, '{"pid": 7, "host": "north", "since": "today"}')
    try:
        [row] = [one for one in objects("--by", "job") if one["event"] == "row"]
        said = tertulia("spend").out
    finally:
        lock.release()
    assert (row["settled"], row["assumed"]) == (run.settled / 1e9, 0.0)
    assert "by talk/main, process 7 on north since today" in said


def test_a_run_in_the_folder_of_a_deleted_one_is_not_taken_for_it(here: Path, ledger: Pen) -> None:
    """What is there now says nothing of what stood there before."""
    night = Night(JOB, SIM)
    assert night.live().exit == 0
    landed(night, here / "outputs")
    ledger.line("talk/main@1.000", 50, "drawn", play=True)
    rows = [one for one in objects("--by", "job") if one["event"] == "row" and one["job"] == "talk"]
    assert [(row["settled"], row["held"]) for row in rows] == [(0.0, 0.5)]
    assert "held: $0.5000 by talk/main, whose folder is gone" in tertulia("spend").out


def test_a_run_that_the_ledger_does_not_know_is_named(here: Path) -> None:
    """It is older than the ledger; its next run brings it in."""
    night = Night(JOB, SIM)
    assert night.live().exit == 0
    landed(night, here / "outputs")
    (here / "outputs" / FILE).unlink()
    assert "not counted: talk/main" in tertulia("spend").err
    assert objects()[-2] == {"event": "not_counted", "run": "talk/main"}
