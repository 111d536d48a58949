"""What a person sees of a night: figures that add up, lines that say what happened, nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from errno import ENOSPC
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.gate import Gate
from runner.journal import LOCK_FILE
from runner.ledger import FILE as LEDGER
from runner.ledger import Entry, encode
from runner.limits import Lane, Limits
from runner.outputs import STATUS
from runner.progress import (
    LOG,
    Display,
    LaneRow,
    Lines,
    Picture,
    Progress,
    RunRow,
    Screen,
    lane_cells,
    left_text,
    money_text,
    seconds_left,
    short,
    talk_text,
)
from runner.progress.picture import Left, Rest, name_of
from runner.run import Session, Watcher
from runner.selection import Options
from runner.sim.wire import SimWire
from runner.world import Disk, World
from tests.memory import Operation
from tests.nights import ROOT, START, Life, Night
from tests.virtual import ScriptedPrograms, ScriptedSignals, VirtualClock, run_virtual

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

JOB = """
name: toy
budget: 0.50
defaults: {max_tokens: 100}
providers: {sim: {limits: {concurrency: 2}}}
models:
  ada: {use: sim/ada, price: {input: 1, output: 5}}
  bob: {use: sim/bob, price: {input: 1, output: 5}}
prompts: {memory: {opening: "What survives?", rounds: 2}}
pairings: [{a: [ada, bob], b: [ada, bob], match: distinct, repeat: 2}]
"""


def model(**habits: Any) -> dict[str, Any]:
    return {"reply": {"mean": 20, "spread": 0}, "latency": {"first": 2.0}, **habits}


def sim(ada: Mapping[str, Any] | None = None, bob: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"models": {"ada": model(**(ada or {})), "bob": model(**(bob or {}))}}


@dataclass(slots=True)
class Seen:
    """A display that keeps what it is shown."""

    quiet: bool = False
    lines: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    strokes: int = 0

    def line(self, *texts: str) -> None:
        self.lines += texts
        self.strokes += 1

    def draw(self, picture: Picture) -> None:
        self.pictures.append(picture)

    def close(self) -> None: ...


@dataclass(slots=True)
class Checking(Seen):
    """One that checks each picture at the moment when it is drawn."""

    check: Callable[[Picture], None] = lambda picture: None

    def draw(self, picture: Picture) -> None:
        self.check(picture)
        Seen.draw(self, picture)


@dataclass(slots=True)
class Watched:
    """A night with somebody looking on."""

    night: Night
    display: Display
    reports: list[Mapping[str, Any]] = field(default_factory=list)
    progress: Progress | None = None
    during: Callable[[Sequence[Session], Gate], None] = lambda sessions, gate: None

    def watch(self, sessions: Sequence[Session], gate: Gate) -> Sequence[Watcher]:
        clock = VirtualClock(self.night.wall)
        world = World(clock, self.night.disk, SimWire({}), Random(0), ScriptedSignals(), ScriptedPrograms())
        self.progress = Progress(world, self.display, self.reports.append)
        self.during(sessions, gate)
        return self.progress.watch(sessions, gate)

    def live(self, options: Options = Options(), **given: Any) -> Life:  # noqa: B008
        life = self.night.live(options, watch=self.watch, **given)
        assert self.progress is not None
        assert life.exit is not None
        progress, code = self.progress, life.exit

        async def finish() -> None:
            await progress.finish(code)
            progress.close()

        run_virtual(finish)
        return life

    @property
    def log(self) -> list[str]:
        return self.night.text(LOG).splitlines()


def seen(night: Night, quiet: bool = False) -> tuple[Watched, Seen]:
    display = Seen(quiet)
    return Watched(night, display), display


# --- whole nights ----------------------------------------------------------------------------------------------------


def test_what_is_at_stake_at_once_is_never_said_to_pass_the_ceiling() -> None:
    """Two calls of $0.0011 do not fly together under $0.0020, and the first line does not say that they may."""
    watched, display = seen(Night(JOB, sim()))
    watched.live(Options(budget=2_000_000))
    assert "ceiling $0.0020; " in display.lines[0]
    assert display.lines[0].endswith("the largest about $0.0011: as many as the ceiling lets through")


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("{day: 0.01}", "ceiling $0.0100 a day; "),
        ("{month: 3, day: 1}", "ceiling $1.0000 a day, $3.0000 a month; "),
        ("{run: 2, conversation: 1, day: 1}", "ceiling $2.0000, $1.0000 a day, $1.0000 each; "),
    ],
)
def test_the_first_line_names_every_ceiling(budget: str, said: str) -> None:
    """Of a run that has one over the day alone nobody says that it has none; the views name it, too."""
    watched, display = seen(Night(JOB.replace("budget: 0.50", f"budget: {budget}"), sim()))
    watched.live()
    assert said in display.lines[0]
    names = {ceiling["name"]: ceiling["shared"] for ceiling in watched.night.status()["ceilings"]}
    assert names == {name: name != "run" for name in ("run", "day", "month") if f"{name}:" in budget}
    assert "| day | $" in watched.night.text("index.md") and "see `tertulia spend`" in watched.night.text("index.md")


def test_where_the_day_has_no_more_room_the_rest_goes_on_tomorrow() -> None:
    """Or with a higher ceiling: the same command would end in the same way at once; and the figures are told."""
    watched, display = seen(Night(JOB.replace("budget: 0.50", "budget: {day: 0.0014}"), sim()))
    life = watched.live()
    assert life.exit == 4
    spent = watched.night.status()["spent"]["total"]
    assert f"toy/main: ${spent:.4f} of $0.0014 a day is counted, by all runs together" in "\n".join(life.told)
    assert display.lines[-1] == (
        "  what is missing goes on tomorrow, or with a higher `day`, with: tertulia run job.yaml"
    )


def test_a_run_that_waits_for_money_which_another_holds_says_so_once_and_whose_it_is() -> None:
    """On the screen, in the log, in the picture and in the status; it ends when nothing comes back."""
    home, disks = ROOT / "other/main", list[Disk]()
    line = Entry("other/main@1.000", "2026-11-21", "UTC", 999_000_000, "drawn", True, {"day": 10**9}, at=START, seq=1)

    def during(sessions: Sequence[Session], gate: Gate) -> None:
        disks.append(sessions[0].journal.disk)
        disks[0].lock(home / LOCK_FILE, '{"pid": 7, "host": "north", "since": "today"}')

    night = Night(JOB.replace("budget: 0.50", "budget: {day: 1}\nmax_wait: 60s"), sim())
    night.disk.put(ROOT / LEDGER, encode(line))
    night.disk.put(home / LOCK_FILE, b"")
    statuses: set[str | None] = set()

    class Curious(Seen):
        def draw(self, picture: Picture) -> None:
            super().draw(picture)
            if disks[0].exists(night.folder / STATUS):
                statuses.add(json.loads(disks[0].read(night.folder / STATUS))["waits_for"])

    display = Curious()
    watched = Watched(night, display, during=during)
    assert watched.live().exit == 4
    text = (
        "toy/main: waits for the budget of the day, of which others have drawn: other/main ($0.9990); "
        "when nothing of it comes back for 1 min 00 s, it ends"
    )
    assert [one for one in display.lines if "have drawn" in one] == [text]
    assert any(one.endswith(text) for one in watched.log)
    assert any(run.short_of == "the budget of the day" for one in display.pictures for run in one.runs)
    assert statuses == {None, "the budget of the day"}
    assert night.status()["waits_for"] is None


def test_a_quiet_night_in_plain_lines() -> None:
    """What begins, what ends and what it came to: the same lines for the same night, on the screen and in the log."""
    watched, display = seen(Night(JOB, sim()))
    watched.live()
    at_stake = "up to 2 calls at once, the largest about $0.0011: $0.0023"
    assert display.lines == [
        f"toy/main: 4 of 4 conversations to hold, 16 calls; ceiling $0.5000; {at_stake}",
        "memory/ada~bob: complete, 2 of 2 rounds, $0.00087",
        "memory/bob~ada: complete, 2 of 2 rounds, $0.000764",
        "memory/ada~bob.r2: complete, 2 of 2 rounds, $0.00087",
        "memory/bob~ada.r2: complete, 2 of 2 rounds, $0.000764",
        "toy/main: 4 of 4 complete, 0 failed; $0.003268 spent of $0.5000; exit 0",
        "  look at outputs/toy/main/index.md",
    ]
    assert [line.split(" ", 1)[1] for line in watched.log] == display.lines
    assert all(re.match(r"2026-11-21T12:0\d:\d\dZ ", line) for line in watched.log)


def test_a_night_that_fails_says_what_where_and_how_to_go_on() -> None:
    """A failed conversation has its attempt and reason; the last lines have the counts, the reasons and the command."""
    faults = [{"kind": "blank", "contains": "What survives"}]
    watched, display = seen(Night(JOB, sim(bob={"faults": faults})), quiet=True)
    assert watched.live(Options(only=("memory/bob~ada*",))).exit == 3
    reason = "no visible text (finish reason stop)"
    assert sorted(display.lines[1:3]) == [
        f"memory/bob~ada{repeat}: failed, 0 of 2 rounds, $0.003734 (empty at turn 1, attempt 3): {reason}"
        for repeat in (".r2", "")
    ]
    money = "$0.007468 spent of $0.5000 (of it $0.007468 assumed for 6 calls)"
    assert display.lines[-3:] == [
        f"toy/main: 0 of 4 complete, 2 failed, 2 pending; {money}; exit 3: failed",
        "  look at outputs/toy/main/index.md",
        "  what is missing goes on with: tertulia run job.yaml --retry-failed",
    ]


def test_flags_and_assumed_money_stand_in_the_last_line() -> None:
    """Truncated turns are counted, and money that nobody could settle is named with its calls."""
    faults = [{"kind": "silent", "request": 1}]
    habits = {"reply": {"mean": 150, "spread": 0}}
    job = JOB.replace("max_tokens: 100", "max_tokens: 100, timeout: {total: 20s}")
    watched, display = seen(Night(job, sim(bob={**habits, "faults": faults})))
    watched.live(Options(only=("memory/ada~bob",)))
    last = display.lines[-3]
    assert last.startswith("toy/main: 1 of 4 complete, 0 failed, 3 pending; 2 turns truncated; $0.")
    assert re.search(r" spent of \$0\.5000 \(of it \$0\.\d+ assumed for 1 call\); exit 0$", last)


def test_a_dead_model_is_told_once_and_its_victims_are_counted() -> None:
    """One line for all that it stops, whether they had begun or not; the log has each that had, too."""
    job = JOB.replace("repeat: 2", "repeat: 9")
    watched, display = seen(Night(job, sim(bob={"faults": [{"kind": "unauthorized"}]})))
    watched.live()
    (told,) = [line for line in display.lines if "HTTP 401" in line]
    key = "sim: HTTP 401: Incorrect API key provided -> give it a valid `api_key`"
    assert told == f"no more calls: {key}; 18 conversations that need it stay pending"
    (victims,) = [line for line in watched.log if "not begun" in line]
    number = int(re.findall(r"(\d+) conversations not begun: pending: ", victims)[0])
    ended = [line for line in watched.log if " memory/" in line]
    assert number + len(ended) == 18
    conversations = [report for report in watched.reports if report["event"] == "conversation"]
    assert len(conversations) == 18


def test_the_last_that_dies_is_told_like_the_first_and_before_its_victims() -> None:
    """Also where the night ends with it, before anybody has looked again."""
    faults = [{"kind": "unauthorized", "since": 1.0}]
    job = JOB.replace("repeat: 2", "repeat: 1").replace("concurrency: 2", "concurrency: 1")
    watched, display = seen(Night(job, sim(ada={"faults": faults}, bob={"faults": faults})))
    assert watched.live().exit == 3
    (told,) = [line for line in display.lines if "HTTP 401" in line]
    assert told.startswith("no more calls: sim: HTTP 401")
    assert told.endswith("2 conversations that need it stay pending")
    said = [line.split(" ", 1)[1] for line in watched.log if "HTTP 401" in line]
    assert said[0] == told and len(said) == 3


def test_those_that_wait_for_a_parked_lane_are_told_in_one_line() -> None:
    """A quota of the day: one reason with its time, and how many wait for it."""
    job = JOB.replace("repeat: 2", "repeat: 9")
    watched, display = seen(Night(job, sim(ada={"faults": [{"kind": "day"}]}, bob={"faults": [{"kind": "day"}]})))
    assert watched.live().exit == 3
    told = [line for line in display.lines if "pending" in line and not line.startswith("toy/main: 0 of 18")]
    assert told == [
        "toy/main: 18 conversations pending: sim: its quota of the day is used up, until 2026-11-22 12:01 UTC"
    ]


def test_those_that_are_stopped_are_told_in_one_line() -> None:
    """Whoever leaves ten thousand calls does not want as many lines; the log has each of them."""
    watched, display = seen(Night(JOB.replace("concurrency: 2", "concurrency: 3"), sim()))
    assert watched.live(signals=[(9.0, 2), (9.1, 2)]).exit == 130
    told = [line for line in display.lines if "interrupted" in line]
    assert told == ["toy/main: 3 conversations interrupted: stopped at once", display.lines[-3]]
    assert sum(": interrupted, " in line for line in watched.log) == 3


def test_a_crowd_that_ends_at_once_is_told_in_a_few_strokes() -> None:
    """On a terminal each stroke draws the table anew."""
    job = JOB.replace("repeat: 2", "repeat: 20").replace("concurrency: 2", "concurrency: 40")
    watched, display = seen(Night(job, sim()))
    assert watched.live().exit == 0
    assert len([line for line in display.lines if ": complete, " in line]) == 40
    assert display.strokes <= 10


def test_what_a_model_refuses_is_told_once_in_one_line_for_each_model() -> None:
    """On the screen, in the log, in the index and in the status: the model is not asked as the job says."""
    job = JOB.replace("max_tokens: 100", "max_tokens: 100, temperature: 0.7")
    watched, display = seen(Night(job, sim(bob={"faults": [{"kind": "unsupported_parameter"}]})))
    assert watched.live().exit == 0
    line = "toy/main: bob refuses temperature: left out of its calls"
    assert display.lines.count(line) == 1
    assert sum(one.endswith(line) for one in watched.log) == 1
    assert watched.night.status()["refused_parameters"] == {"bob": ["temperature"]}
    assert "Left out, because bob refuses it: temperature." in watched.night.text("index.md")


def test_a_paused_lane_is_told_with_its_reason_and_shown_in_its_row() -> None:
    """A provider that asks to wait is why nothing happens: the line and the row say so."""
    faults = [{"kind": "busy", "request": 2, "retry_after": 40.0}]
    watched, display = seen(Night(JOB, sim(ada={"faults": faults})))
    watched.live()
    (line,) = [line for line in display.lines if "paused" in line]
    assert re.fullmatch(r"sim: paused for \d+\.\d s: asked to wait 40 s", line)
    paused = [p.lanes[0] for p in display.pictures if p.lanes[0].paused]
    assert paused
    assert {row.reason for row in paused} == {"asked to wait 40 s"}
    assert display.pictures[-1].lanes[0].busy == 1


def test_every_picture_adds_up() -> None:
    """At each look the counts are all conversations of the plan, and no figure of money passes the ceiling."""
    job = JOB.replace("repeat: 2", "repeat: 5")
    watched, display = seen(Night(job, sim(ada={"faults": [{"kind": "blank", "rate": 0.6}]}), seed=3))
    watched.live(Options(limit=8))
    assert len(display.pictures) > 20
    for picture in display.pictures:
        (run,) = picture.runs
        assert sum(run.ended.values()) + run.under_way + run.waiting + run.left_out == run.total == 10
        assert min(run.under_way, run.waiting, run.left_out) >= 0
        assert run.ceiling is not None
        assert run.settled + run.reserved <= run.ceiling
        assert run.reserved or not picture.lanes[0].in_flight
        assert picture.lanes[0].in_flight <= picture.lanes[0].slots
    (first, last) = (display.pictures[0].runs[0], display.pictures[-1].runs[0])
    assert first.left_out == 2
    assert last.ended["complete"] + last.ended["failed"] + last.under_way == 8


def test_every_picture_counts_what_the_journal_tells() -> None:
    """Its numbers follow what changes, life after life, and are those that counting all conversations anew gives."""
    job = JOB.replace("repeat: 2", "repeat: 5")
    faults = {
        "faults": [{"kind": "blank", "rate": 0.5}, {"kind": "short", "rate": 0.2}, {"kind": "filtered", "rate": 0.1}]
    }
    display = Checking()
    watched = Watched(Night(job, sim(ada=faults), seed=3), display)

    def during(sessions: Sequence[Session], gate: Gate) -> None:
        (session,) = sessions
        state = session.journal.state

        def check(picture: Picture) -> None:
            (run,) = picture.runs
            told = [state.of(cell.id) for cell in session.plan.cells]
            assert {s: n for s, n in run.ended.items() if n} == Counter(p.status for p in told if p.status)
            assert run.stopped_early == sum(p.status == "complete" and p.reason is not None for p in told)
            assert run.truncated == sum(p.truncated for p in told)
            assert run.refused == sum(p.refused for p in told)
            selected = {cell.id for cell in session.selected}
            still_open = [c for c in session.plan.cells if c.id in selected and state.of(c.id).status is None]
            assert run.under_way + run.waiting == len(still_open)

        display.check = check

    watched.during = during
    watched.live(Options(limit=4))
    watched.live()
    watched.live(Options(retry_failed=True))
    assert len(display.pictures) > 20
    assert display.pictures[-1].runs[0].ended["complete"]


def test_nothing_is_expected_before_there_is_something_to_expect_it_from() -> None:
    """No projected spend and no end at first; later both, and then the night ends about there."""
    job = JOB.replace("repeat: 2", "repeat: 30").replace("rounds: 2", "rounds: 4")
    watched, display = seen(Night(job, sim()))
    life = watched.live()
    expected = [(p.runs[0].expected, p.seconds_left) for p in display.pictures]
    assert expected[0] == (None, None)
    middle = expected[len(expected) // 2]
    spent = watched.night.counted
    assert middle[0] is not None
    assert middle[1] is not None
    assert abs(middle[0] - spent) < spent / 5
    assert abs(middle[1] - life.seconds / 2) < life.seconds / 10


@pytest.mark.parametrize("order", ["round-robin", "random"])
def test_what_is_left_is_the_sum_over_all_that_has_not_ended(order: str) -> None:
    """Those that are alike count together until they begin, and at each moment that comes to the same as one by one."""
    job = JOB.replace("rounds: 2", f"rounds: 3, order: {order}").replace("repeat: 2", "repeat: 4")
    display = Checking()
    watched = Watched(Night(job, sim()), display)
    found: list[tuple[int, int]] = []

    def during(sessions: Sequence[Session], gate: Gate) -> None:
        (session,) = sessions
        left = Left(session)

        def check(picture: Picture) -> None:
            together, alone = Rest({name_of(session): 0}), Rest({name_of(session): 0})
            for cell, number in left.follow().unbegun:
                together.add_unbegun(session, cell, number)
            for cell in left.begun:
                together.add(session, cell)
            for cell in session.selected:
                alone.add(session, cell)
            assert (together.costs, together.calls) == (alone.costs, alone.calls)
            found.append((sum(number for _, number in left.unbegun), len(left.begun)))

        display.check = check

    watched.during = during
    watched.live(Options(limit=6))
    watched.live()
    assert {unbegun for unbegun, _ in found} == set(range(7))
    assert max(begun for _, begun in found) == 2


def test_a_long_night_has_a_line_now_and_then() -> None:
    """While something goes on, a plain line tells how far it is, at most every thirty seconds."""
    watched, display = seen(Night(JOB.replace("repeat: 2", "repeat: 20"), sim()))
    life = watched.live()
    lines = [line for line in display.lines if "under way" in line]
    assert life.seconds / 30 - 2 <= len(lines) <= life.seconds / 30
    assert re.match(r"toy/main: \d+ of 40 complete, 0 failed, 2 under way, \d+ waiting; \$0\.\d+ spent of", lines[0])
    assert "about $" in lines[-1]
    assert lines[-1].endswith("to go")


def test_on_a_terminal_only_what_went_wrong_is_a_line() -> None:
    """Where a table shows the rest, complete conversations and progress are for the log alone."""
    watched, display = seen(Night(JOB.replace("repeat: 2", "repeat: 20"), sim()), quiet=True)
    watched.live()
    assert [line.split(" ")[0] for line in display.lines] == ["toy/main:", "toy/main:", ""]
    assert sum(": complete, " in line for line in watched.log) == 40
    assert any("under way" in line for line in watched.log)


def test_a_stop_is_told_and_shown() -> None:
    """After a request to stop the picture says that nothing more is granted, and the last line has the exit code."""
    watched, display = seen(Night(JOB, sim()))
    life = watched.live(signals=[(3.0, 2)])
    assert life.exit == 130
    assert display.pictures[-1].stopping == "stopped by SIGINT"
    assert display.lines[-3].endswith("exit 130: interrupted")
    assert display.lines[-1] == "  what is missing goes on with: tertulia run job.yaml"


def test_the_reports_are_the_figures_of_the_views() -> None:
    """What programs read of each conversation and of the end equals `conversations.jsonl` and `status.json`."""
    watched, _ = seen(Night(JOB, sim(bob={"faults": [{"kind": "blank", "request": [1, 2]}]})))
    life = watched.live()
    begun, *conversations, end = watched.reports
    assert (begun["event"], begun["missing"], begun["calls"]) == ("begun", 4, 16)
    lines = {line["id"]: line for line in watched.night.lines()}
    assert sorted(lines) == sorted(c["id"] for c in conversations)
    for one in conversations:
        line = lines[one["id"]]
        assert (one["name"], one["status"], one["reason"]) == (line["name"], line["status"], line["reason"])
        assert one["rounds"] == line["rounds"]
        assert one["flags"] == line["flags"]
    status = watched.night.status()
    (run,) = end["runs"]
    assert (end["event"], end["exit"], end["errors"]) == ("end", life.exit, [])
    assert {name: value for name, value in run.items() if name != "folder"} == {
        name: value for name, value in status.items() if name in run
    }
    assert round(sum(one["cost"] for one in conversations), 9) == run["spent"]["total"]


def test_a_log_that_cannot_be_written_disturbs_nothing() -> None:
    """The night is the same night when `log.txt` meets a full disk."""

    def full(operation: Operation) -> None:
        if operation.path.name == LOG:
            raise OSError(ENOSPC, "no space")

    watched, display = seen(Night(JOB, sim()))
    assert watched.live(fault=full).exit == 0
    assert display.lines[-2].startswith("toy/main: 4 of 4 complete")


@pytest.mark.fault(80)
def test_what_others_wrote_cannot_act_on_screen_or_log() -> None:
    """Control codes in a provider's error are spelled out wherever the error is shown."""
    night = Night(JOB, sim())
    watched, display = seen(night)
    hostile = "\x1b[2J\x07gone\u202e\r\nnext"

    def during(sessions: Sequence[Session], gate: Gate) -> None:
        gate.park_model("bob", f"bob: {hostile}")

    watched.during = during
    watched.live()
    shown = "\n".join(display.lines)
    assert "\\u{1b}[2J\\u{7}gone\\u{202e} next" in shown
    assert not CONTROLS.search(shown)
    assert not CONTROLS.search(night.text(LOG))
    assert all(any(one.endswith(line) for one in watched.log) for line in display.lines)


# --- what is shown ---------------------------------------------------------------------------------------------------

LANE = LaneRow("sim", 2, 4.0, 1, 1234, 88_000, 9_000, 3, 1, 0.0, "", None)
RUN = RunRow(
    name="toy/main",
    total=6,
    ended={"complete": 3, "failed": 0, "budget": 0, "deadline": 0, "interrupted": 0, "pending": 0},
    under_way=2,
    waiting=1,
    left_out=0,
    stopped_early=0,
    truncated=0,
    refused=0,
    settled=4_600_000,
    assumed=0,
    reserved=1_000_000,
    ceiling=500_000_000,
    expected=9_200_000,
)
PICTURE = Picture((LANE,), (RUN,), 720.0, None, ())


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (RUN, "$0.0046 spent of $0.5000, $0.0010 reserved, about $0.0092 in all"),
        (replace(RUN, expected=None), "$0.0046 spent of $0.5000, $0.0010 reserved"),
        (replace(RUN, ceiling=None, reserved=0), "$0.0046 spent, about $0.0092 in all"),
        (
            replace(RUN, expected=600_000_000),
            "$0.0046 spent of $0.5000, $0.0010 reserved, all of it would take about $0.6000",
        ),
        (replace(RUN, under_way=0, waiting=0, reserved=0), "$0.0046 spent of $0.5000"),
        (
            replace(RUN, settled=12_000, reserved=1, ceiling=20_000, expected=30_000),
            "$0.000012 spent of $0.00002, $0.000000001 reserved, all of it would take about $0.00003",
        ),
    ],
)
def test_expected_money_is_about_and_never_a_promise(run: RunRow, text: str) -> None:
    """The ceiling is a figure; what is expected is "about", and only while something is still to come."""
    assert money_text(run) == text


def test_counts_show_what_is_not_zero() -> None:
    """Complete and failed always, anything else when there is some, flags last."""
    assert talk_text(RUN) == "3 of 6 complete, 0 failed, 2 under way, 1 waiting"
    assert talk_text(replace(RUN, truncated=1, refused=2)).endswith("; 1 turn truncated, 2 refused")
    assert talk_text(replace(RUN, refused=1)).endswith("; 1 turn refused")
    assert talk_text(replace(RUN, stopped_early=1)).startswith("3 of 6 complete, 1 of them stopped early, 0 failed, ")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, ""),
        (2.0, "about 5 s to go"),
        (61.0, "about 60 s to go"),
        (720.0, "about 12 min to go"),
        (9000.0, "about 2.5 h to go"),
    ],
)
def test_the_end_is_told_roughly(seconds: float | None, text: str) -> None:
    """No more digits than are known, and nothing when nothing is."""
    assert left_text(seconds) == text


@given(st.integers(5, 500), st.integers(0, 500), st.floats(5.0, 10_000.0))
def test_the_slowest_lane_says_when_the_night_ends(done: int, ahead: int, seconds: float) -> None:
    """At the pace so far, the lane with the most to do decides."""
    slow, quick, dead = (Lane(name, Limits(4)) for name in ("slow", "quick", "dead"))
    slow.granted, quick.granted, dead.dead = done, 10 * done, "gone"
    left = seconds_left({"slow": ahead, "quick": ahead, "dead": 9_999}, [slow, quick, dead], seconds, 0.0)
    assert left == pytest.approx(ahead * seconds / done)
    slow.granted = 4
    assert (seconds_left({"slow": ahead}, [slow], seconds, 0.0) is None) == (ahead > 0)


def test_a_row_says_why_its_lane_stands() -> None:
    """Paused with the time and the reason, stopped with the reason, unknown tokens as unknown."""
    assert lane_cells(LANE)[""] == ""
    assert lane_cells(replace(LANE, paused=12.0, reason="busy"))[""] == "paused 12.0 s: busy"
    assert lane_cells(replace(LANE, dead="no such key"))[""] == "stopped: no such key"
    assert lane_cells(replace(LANE, dead="sim: no such key"))[""] == "stopped: no such key", "its name stands there"
    cells = lane_cells(replace(LANE, tokens_in=None, tokens_out=None, slots=inf))
    assert (cells["tokens in"], cells["out"], cells["in flight"]) == ("–", "–", "2")


def test_a_reason_stays_short() -> None:
    """However much a provider says, and on however many lines."""
    assert short("no\n\n  such\tkey ") == "no such key"
    assert len(short("x" * 100_000)) == 300


def drawn(picture: Picture, width: int, monkeypatch: pytest.MonkeyPatch, *, color: bool = True) -> str:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not color:
        monkeypatch.setenv("NO_COLOR", "1")
    file = io.StringIO()
    screen = Screen(file, width=width)
    screen.draw(picture)
    text = file.getvalue()
    screen.close()
    return text


_MOVES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.mark.parametrize("width", [20, 40, 70, 120])
def test_a_table_fits_any_terminal(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """No line is wider than the terminal, and lane and money are to be seen on each."""
    busy = replace(LANE, paused=700.0, reason="asked to wait " + "very " * 50 + "long")
    text = _MOVES.sub("", drawn(replace(PICTURE, lanes=(LANE, busy)), width, monkeypatch))
    assert all(len(line) <= width for line in text.splitlines())
    assert "sim" in text
    assert "$0.0046 spent" in text
    assert ("tokens in" in text) == (width >= 90)


def test_without_color_nothing_is_colored(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR leaves the cursor's moves and takes the colors."""
    paused = replace(PICTURE, lanes=(replace(LANE, dead="no such key"),))
    assert re.search(r"\x1b\[[0-9;]*31m", drawn(paused, 100, monkeypatch))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", drawn(paused, 100, monkeypatch, color=False))


def test_hostile_names_do_not_act_on_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane's name and a reason with control codes are spelled out in their cells; no bell, no title, no clearing."""
    hostile = replace(LANE, name="a\x1b]0;t\x07", dead="\x1b[2Jgone [red]x")
    text = drawn(replace(PICTURE, lanes=(hostile,), stopping="\x07stop"), 200, monkeypatch)
    assert "\x07" not in text
    assert "\x1b[2J" not in text
    assert "\\u{1b}[2Jgone [red]x" in text


def test_a_screen_that_is_held_is_not_drawn_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that takes nothing now does not make the night wait."""
    file = io.StringIO()
    screen = Screen(file, writable=lambda: False)
    screen.draw(PICTURE)
    assert file.getvalue() == ""


def test_lines_carry_no_codes() -> None:
    """Off a terminal there is text, and pictures leave no trace."""
    file = io.StringIO()
    lines = Lines(file)
    lines.draw(PICTURE)
    lines.line("one")
    lines.close()
    assert file.getvalue() == "one\n"


def test_a_night_without_a_terminal_loads_nothing_for_one() -> None:
    """Only a screen needs what draws it."""
    code = "import sys, runner.progress; sys.exit('rich' in sys.modules)"
    root = Path(__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
