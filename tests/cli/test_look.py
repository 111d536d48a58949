"""`status` and `show`, as a shell calls them."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli import look
from runner.journal import FILE, LOCK_FILE
from runner.world import Lock, RealDisk
from tests.cli.folders import JOB, SIM, denied, landed, tertulia
from tests.nights import Night

HOLDER = '{"pid": 7, "host": "north", "since": "today"}'


@pytest.fixture(scope="module")
def night() -> Night:
    """A small run that ended well."""
    one = Night(JOB, SIM)
    assert one.live().exit == 0
    return one


@pytest.fixture
def outputs(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's files on a real disk, in `./outputs`, looked at ninety seconds after its end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(look, "_wall", lambda: night.records()[-1].at + 90)
    landed(night, tmp_path / "outputs")
    return tmp_path / "outputs"


def cut(outputs: Path, key: str, lines: int, more: bytes = b"") -> Path:
    """A copy of the run under another key that got no further than these lines."""
    folder = outputs / "talk" / key
    folder.mkdir()
    whole = (outputs / "talk/main" / FILE).read_bytes().splitlines(keepends=True)
    (folder / FILE).write_bytes(b"".join(whole[:lines]) + more)
    (folder / LOCK_FILE).touch()
    return folder


@pytest.fixture
def at_work(outputs: Path) -> Iterator[Path]:
    """A run that another process holds, in the middle of writing a line."""
    folder = cut(outputs, "now", 13, b'{"v":1,"seq":14,')
    lock: Lock = RealDisk().lock(folder / LOCK_FILE, HOLDER)
    yield folder
    lock.release()


# --- status ------------------------------------------------------------------------------------------------------


def test_status_lists_all_runs_the_newest_first(outputs: Path, at_work: Path) -> None:
    """State, conversations, money, exit code and age of each, in columns; no control codes."""
    cut(outputs, "broken", 10)
    (outputs / "else" / "x").mkdir(parents=True)
    (outputs / "else/x" / FILE).touch()
    said = tertulia("status")
    assert (said.code, said.err) == (0, "")
    rows = [line.split("  ") for line in said.out.splitlines()]
    names = [row[0] for row in rows]
    assert names[0] == "RUN"
    assert names[1] == "talk/main"
    assert names[-1] == "else/x"
    by_name = {row[0]: [text.strip() for text in row if text.strip()] for row in rows}
    assert by_name["talk/main"] == ["talk/main", "closed", "3 of 3", "$0.0007 of $0.5000", "0", "1 min ago"]
    assert by_name["talk/now"][1:3] == ["running", "1 of 3"]
    assert by_name["talk/broken"][1:3] == ["broken off", "0 of 3"]
    assert by_name["else/x"] == ["else/x", "never began", "-", "-", "-", "-"]
    assert "\x1b" not in said.out


def test_status_of_no_runs_says_how_to_begin_one(tmp_path: Path) -> None:
    """An empty answer on stdout, a hint for people beside it."""
    said = tertulia("status", "--outputs", tmp_path)
    assert (said.code, said.out) == (0, "")
    assert "tertulia run JOB" in said.err
    assert tertulia("status", "--outputs", tmp_path, "--json").out == '{"event": "end", "exit": 0, "errors": []}\n'


def test_status_of_one_run_fits_a_screen(outputs: Path) -> None:
    """What it came to, in a few lines."""
    said = tertulia("status", "talk")
    assert said.out.splitlines() == [
        "talk/main: closed, exit code 0, last seen 1 min ago",
        "  conversations  3 of 3 complete",
        "  turns          6",
        "  calls          6",
        "  spent          $0.0007 of $0.5000",
        "  more in        outputs/talk/main/index.md",
    ]


def test_status_of_a_closed_run_says_why_and_until_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason once, with how many it holds; what a model refuses; and that some stopped early."""
    faults = [{"kind": "unsupported_parameter", "request": 1}, {"kind": "day", "contains": "friend"}]
    one = Night(
        JOB.replace("max_tokens: 500", "max_tokens: 500, temperature: 0.5"),
        {"models": {"m": {**SIM["models"]["m"], "faults": faults}, "n": SIM["models"]["n"]}},
    )
    assert one.live().exit == 3
    landed(one, tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    said = tertulia("status", "talk").out.splitlines()
    assert said[1] == "  conversations  2 of 3 complete, 1 pending"
    assert said[2] == f"{'':17}1 pending: sim: its quota of the day is used up, until 2026-11-22 12:01 UTC"
    assert said[3] == "  left out       temperature: ada refuses it"


def test_status_tells_of_a_vote_that_failed_and_of_what_has_to_be_raised_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside talks that are complete, and above the command, which without that would be of no use."""
    heard = "stop: [{vote: {observer: bo}}], after: [{observer: ada, prompt: What?, heading: Notes, budget: 0.0001}]"
    voter = {**SIM["models"]["n"], "faults": [{"kind": "server_error", "contains": "one word: yes or no"}]}
    one = Night(JOB.replace("rounds: 2}", f"rounds: 2, {heard}}}"), {"models": {**SIM["models"], "n": voter}})
    assert one.live().exit == 3
    landed(one, tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    said = tertulia("status", "talk").out.splitlines()
    [passed_over] = [line for line in said if line.startswith("  passed over    1 failed: vote by Bo: ")]
    assert "HTTP 50" in passed_over
    first = said.index("  first raise    the budget of observer memory.after.1, in the job file")
    assert said[first + 1].startswith("  go on with     tertulia run ")


def test_status_says_which_of_the_complete_stopped_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full window is no failure, and no whole conversation."""
    small = {"price": {"input": 1, "output": 3}, "context": 600, "reply": {"mean": 40}}
    one = Night(JOB.replace("rounds: 2", "rounds: 9"), {"models": {"m": small, "n": small}})
    assert one.live().exit == 0
    landed(one, tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    said = tertulia("status", "talk").out.splitlines()
    assert said[1] == "  conversations  3 of 3 complete, 1 of them stopped early"
    assert said[2].startswith(f"{'':17}1 complete: context full: ")
    assert "  3 of 3 (1 early)  $" in tertulia("status").out


def test_status_of_a_run_that_broke_off_counts_what_is_held(outputs: Path) -> None:
    """Money of calls in flight is shown, and the command that goes on."""
    cut(outputs, "broken", 10)
    said = tertulia("status", "talk/broken").out
    assert "talk/broken: broken off, last seen" in said
    assert "3 pending" in said
    assert "calls          5, 3 in flight" in said
    assert "reserved)" in said
    assert "go on with     tertulia run job.yaml" in said


def test_status_of_a_run_at_work_is_read_beside_the_process(at_work: Path) -> None:
    """A line that is just being written is no damage, and looking takes no lock away."""
    before = (at_work / LOCK_FILE).read_bytes()
    said = tertulia("status", "talk/now").out
    assert said.startswith("talk/now: running (process 7 on north since today), last seen 1 min ago\n")
    assert "damaged" not in said
    assert "go on with" not in said
    assert (at_work / LOCK_FILE).read_bytes() == before


def test_two_who_look_at_once_do_not_see_each_other(outputs: Path) -> None:
    """Only a process that works on a run holds it."""
    folder = cut(outputs, "broken", 10)
    with (folder / LOCK_FILE).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert "broken off" in tertulia("status", "talk/broken").out


def test_a_fresh_status_file_is_believed_and_a_stale_one_is_not(
    outputs: Path, at_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process at work writes it every two seconds; only it knows the lanes."""
    figures = json.loads((outputs / "talk/main/status.json").read_bytes())
    lane = {"name": "sim\x1b[2J", "in_flight": 2, "granted": 5, "busy": 1, "paused_seconds": 11_630.0, "reason": "busy"}
    dead = lane | {"name": "c", "dead": True, "reason": "c: cannot connect"}
    figures |= {"state": "running", "turns": 77, "lanes": [lane | {"dead": False}, dead]}
    (at_work / "status.json").write_text(json.dumps(figures))
    monkeypatch.setattr(look, "_wall", lambda: figures["heartbeat"] + 3)
    fresh = tertulia("status", "talk/now").out
    assert "turns          77" in fresh
    assert "lane           sim\\u{1b}[2J: 2 in flight, 5 granted, 1 busy, paused for 3 h 14 min: busy" in fresh
    assert "lane           c: dead, cannot connect" in fresh, "its name is said once"
    monkeypatch.setattr(look, "_wall", lambda: figures["heartbeat"] + 300)
    assert "turns          77" not in tertulia("status", "talk/now").out


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', '{"schema": 2}', "{", "\xff"])
def test_a_spoilt_status_file_is_passed_over(outputs: Path, content: str) -> None:
    """The journal knows better."""
    (outputs / "talk/main/status.json").write_text(content, encoding="latin-1")
    assert "talk/main: closed, exit code 0" in tertulia("status", "talk").out


def test_a_status_file_that_is_behind_the_journal_is_passed_over(outputs: Path) -> None:
    """A kill leaves it as it was two seconds before."""
    status = outputs / "talk/main/status.json"
    figures = json.loads(status.read_bytes()) | {"records": 20, "turns": 1, "state": "running"}
    status.write_text(json.dumps(figures))
    assert "turns          6" in tertulia("status", "talk").out


def test_a_damaged_run_is_listed_with_the_others(outputs: Path) -> None:
    """One bad journal does not hide the rest, and its own screen says what to do."""
    folder = cut(outputs, "bad", 23)
    (folder / FILE).write_bytes((folder / FILE).read_bytes().replace(b'"turn":1', b'"turn":3', 1))
    assert "talk/bad" in tertulia("status").out
    assert (
        "the journal is damaged; these figures end where it is. See `tertulia verify talk/bad`"
        in tertulia("status", "talk/bad").out
    )
    whole = (folder / FILE).read_bytes().splitlines(keepends=True)
    (folder / FILE).write_bytes(whole[0].replace(b"talk", b"tolk"))
    assert "unreadable" in tertulia("status", "talk/bad").out


@pytest.mark.parametrize("name", [FILE, LOCK_FILE])
def test_a_run_of_another_user_hides_no_other(outputs: Path, name: str) -> None:
    """What may not be read is said beside the list; asked for by name it is the answer, in one line."""
    cut(outputs, "theirs", 5)
    with denied(f"theirs/{name}"):
        said = tertulia("status")
        shown = tertulia("show", "talk/theirs", "memory")
        newest = tertulia("show", "talk", "memory")
    assert said.code == 0
    assert [line.split()[:2] for line in said.out.splitlines()[1:]] == [
        ["talk/main", "closed"],
        ["talk/theirs", "unreadable"],
    ]
    assert said.err == f"talk/theirs: outputs/talk/theirs/{name}: Permission denied\n"
    if name == FILE:
        assert (shown.code, shown.err) == (8, f"outputs/talk/theirs/{FILE}: Permission denied\n")
        assert newest.code == 0


def test_status_answers_programs_one_object_a_line(outputs: Path) -> None:
    """One for each run, and exactly one end."""
    lines = [json.loads(line) for line in tertulia("status", "--json").out.splitlines()]
    assert [line["event"] for line in lines] == ["run", "end"]
    assert lines[0]["figures"]["conversations"]["complete"] == 3
    one = [json.loads(line) for line in tertulia("status", "talk", "--json").out.splitlines()]
    assert one == lines


# --- following ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [False, True])
def test_follow_looks_again_until_the_run_is_closed(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """On a terminal the picture is drawn over; elsewhere a line comes when something has changed."""
    whole = (outputs / "talk/main" / FILE).read_bytes().splitlines(keepends=True)
    folder = cut(outputs, "now", 6)
    lock = RealDisk().lock(folder / LOCK_FILE, HOLDER)
    pauses: list[int] = []

    def pause() -> None:
        pauses.append(len(pauses))
        if len(pauses) == 2:  # nothing new at the first
            (folder / FILE).write_bytes(b"".join(whole[:12]))
        if len(pauses) == 3:
            (folder / FILE).write_bytes(b"".join(whole))
            lock.release()

    monkeypatch.setattr(look, "_pause", pause)
    said = tertulia("status", "talk/now", "--follow", terminal=terminal)
    assert said.code == 0
    assert len(pauses) == 3
    if terminal:
        assert said.out.count("\x1b[") == 2 * 3
        assert "\x1b[5A\x1b[J" in said.out
    else:
        assert "\x1b" not in said.out
        lines = said.out.splitlines()
        assert [" of 3 complete, " in line for line in lines[:3]] == [True, True, False]
        assert lines[2].startswith("talk/now: closed, exit code 0")


def test_follow_of_a_closed_run_ends_at_once(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to wait for."""
    monkeypatch.setattr(look, "_pause", lambda: pytest.fail("waited"))
    assert "closed, exit code 0" in tertulia("status", "talk", "--follow").out
    assert [
        json.loads(line)["event"] for line in tertulia("status", "talk", "--follow", "--json").out.splitlines()
    ] == [
        "run",
        "end",
    ]


def test_follow_needs_a_run(outputs: Path) -> None:
    """A list is not followed."""
    said = tertulia("status", "--follow")
    assert said.code == 2
    assert "--follow needs a RUN" in said.err


# --- show --------------------------------------------------------------------------------------------------------


def test_show_gives_the_transcript_by_name_part_or_id(outputs: Path, night: Night) -> None:
    """What is in the file is what comes from the journal."""
    expected = (outputs / "talk/main/conversations/memory/ada~bo.md").read_text()
    cell = night.reading().plan.cells[0]
    for name in (cell.name, cell.id, "memory", "ada~", "ADA~BO"):
        assert tertulia("show", "talk", name) == (0, expected, "")


def test_show_of_an_ambiguous_or_unknown_name_says_what_there_is(outputs: Path) -> None:
    """The user is shown the names that may be meant."""
    several = tertulia("show", "talk", "letter")
    assert several.code == 2
    assert "'letter' is part of several names:\n  letter/ada\n  letter/bo\n" in several.err
    assert "Did you mean letter/ada" in tertulia("show", "talk", "leter/ada").err
    assert "The run has memory/ada~bo, letter/ada, letter/bo" in tertulia("show", "talk", "xyzzy").err


def test_show_uses_the_pager_on_a_terminal(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long texts are paged for people."""
    paged: list[str] = []
    monkeypatch.setattr("click.echo_via_pager", paged.append)
    assert tertulia("show", "talk", "memory", terminal=True).out == ""
    assert paged == [(outputs / "talk/main/conversations/memory/ada~bo.md").read_text()]


def test_show_of_a_run_at_work_shows_what_was_said_so_far(at_work: Path) -> None:
    """A conversation that goes on has a transcript, too."""
    said = tertulia("show", "talk/now", "memory")
    assert said.code == 0
    assert "Ada (a)" in said.out
    assert said.err == ""


def test_show_of_a_run_that_never_began_says_so(outputs: Path) -> None:
    """No traceback for an empty journal."""
    (outputs / "talk/main" / FILE).write_bytes(b"")
    said = tertulia("show", "talk", "memory")
    assert said.code == 2
    assert "no conversations yet" in said.err


@pytest.mark.fault(80)
def test_what_a_model_said_cannot_reach_the_terminal_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters of a reply are shown and not obeyed."""
    text = {"models": {"m": {"reply": {"texts": ["hello \x1b[2J\x07 there"]}}, "n": SIM["models"]["n"]}}
    night = Night(JOB, text)
    assert night.live().exit == 0
    landed(night, tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)
    said = tertulia("show", "talk", "letter/ada")
    assert "hello \\u{1b}[2J\\u{7} there" in said.out
    assert "\x1b" not in said.out
    assert tertulia("verify", "talk").code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_an_answer_that_finds_no_room_is_said_in_one_line(tmp_path: Path) -> None:
    """A list that is written to a full disk ends with exit 8, and not with a traceback."""
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "runner", "completion", "bash"],
            cwd=Path(__file__).parents[2],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 8
    assert ended.stderr == "what was to be written: No space left on device\n"
