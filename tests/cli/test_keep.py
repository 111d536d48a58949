"""`verify`, `report` and `repair`, as a shell calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.journal import FILE, LOCK_FILE, scan
from runner.render.figures import usd
from runner.world import RealDisk
from tests.cli.folders import JOB, SIM, denied, landed, tertulia
from tests.nights import Night


@pytest.fixture(scope="module")
def night() -> Night:
    """A small run that ended well."""
    one = Night(JOB, SIM)
    assert one.live().exit == 0
    return one


@pytest.fixture
def outputs(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's files on a real disk, in `./outputs`."""
    monkeypatch.chdir(tmp_path)
    landed(night, tmp_path / "outputs")
    return tmp_path / "outputs"


def views(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.name != LOCK_FILE}


# --- verify ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["talk", "talk/main", "outputs/talk/main", "outputs/talk/main/journal.jsonl", "talk/"])
def test_verify_finds_the_run_and_passes(outputs: Path, name: str) -> None:
    """A job, a job and a key, a folder, a journal: all mean the run."""
    said = tertulia("verify", name)
    assert said == (0, "talk/main: sound (23 records, 6 requests rebuilt, 6 views the same)\n", "")


def test_verify_fails_with_3_when_a_figure_of_a_view_is_changed(outputs: Path) -> None:
    """It says where, what stands there, and what the journal makes it."""
    index = outputs / "talk/main/index.md"
    index.write_text(index.read_text().replace("| complete | 3 |", "| complete | 4 |"))
    said = tertulia("verify", "talk")
    assert said.code == 3
    assert "index.md:9: not what the journal makes it" in said.out
    assert "there:    | complete | 4 |" in said.out
    assert "computed: | complete | 3 |" in said.out


@pytest.mark.fault(21)
def test_verify_fails_with_8_when_a_byte_of_the_journal_is_changed(outputs: Path) -> None:
    """The worst of several runs is the exit code, and each is told."""
    copy = outputs / "talk/other"
    copy.mkdir()
    content = bytearray((outputs / "talk/main" / FILE).read_bytes())
    content[5000] ^= 1
    (copy / FILE).write_bytes(content)
    said = tertulia("verify", "talk/other", "talk/main", "talk/other")
    assert said.code == 8
    assert said.out.count("talk/other: NOT SOUND") == 1
    assert "damaged at byte" in said.out
    assert "talk/main: sound" in said.out


def test_verify_answers_programs_one_object_a_line(outputs: Path) -> None:
    """Exactly one `end`, with the exit code."""
    run, end = map(json.loads, tertulia("verify", "talk", "--json").out.splitlines())
    assert (run["event"], run["ok"], run["rebuilt"], run["differences"]) == ("run", True, 6, [])
    assert end == {"event": "end", "exit": 0, "errors": []}


def test_a_foreign_file_name_cannot_speak_to_the_terminal(outputs: Path) -> None:
    """What lies among the transcripts may be called anything."""
    (outputs / "talk/main/conversations/memory/\x1b[2J\nx.md").touch()
    said = tertulia("verify", "talk")
    assert said.code == 3
    assert "\x1b" not in said.out
    assert "\\u{1b}[2J\\u{a}x.md: should not be there" in said.out


@pytest.mark.parametrize("command", ["verify", "report", "repair"])
def test_a_run_that_is_not_there_is_an_error_with_the_nearest_names(outputs: Path, command: str) -> None:
    """A slip of the finger costs a second."""
    said = tertulia(command, "tolk")
    assert said.code == 2
    assert "There is no run 'tolk'. Did you mean talk?" in said.err
    assert "`tertulia status` lists the runs" in tertulia(command, "something-else-entirely").err
    assert "There are no runs in empty" in tertulia(command, "talk", "--outputs", "empty").err


def test_of_a_job_the_run_begun_last_is_meant(outputs: Path, night: Night) -> None:
    """Not the one whose name comes last."""
    later = Night(JOB, SIM, wall=night.wall + 1000)
    assert later.live().exit == 0
    (outputs / "talk/main").rename(outputs / "talk/zz")
    landed(later, outputs)
    assert tertulia("verify", "talk").out.startswith("talk/main: sound")


# --- report ------------------------------------------------------------------------------------------------------


@pytest.mark.fault(27)
def test_report_gives_back_the_bytes_that_the_run_wrote(outputs: Path) -> None:
    """Views that were edited, deleted or added make no difference."""
    folder = outputs / "talk/main"
    before = views(folder)
    (folder / "index.md").write_text("edited")
    (folder / "conversations.jsonl").unlink()
    (folder / "conversations/memory/ada~bo.md").unlink()
    (folder / "conversations/memory/stray.md").touch()
    said = tertulia("report", "talk/main")
    assert (said.code, said.err) == (0, "")
    assert (
        said.out == "talk/main: 3 transcripts and three pages written from 23 records\n  outputs/talk/main/index.md\n"
    )
    assert views(folder) == before
    RealDisk().lock(folder / LOCK_FILE, "the next").release()


def test_report_without_a_status_tells_of_the_last_record(outputs: Path, night: Night) -> None:
    """Writing views is no sign of life of the run."""
    status = outputs / "talk/main/status.json"
    status.unlink()
    assert tertulia("report", "talk").code == 0
    assert json.loads(status.read_bytes())["heartbeat"] == night.records()[-1].at
    assert tertulia("verify", "talk").code == 0


def test_report_makes_the_views_of_a_run_that_broke_off(outputs: Path) -> None:
    """A torn last line does not count, and stays where it is."""
    journal = outputs / "talk/main" / FILE
    journal.write_bytes(journal.read_bytes()[:-20])
    said = tertulia("report", "talk")
    assert said.code == 0
    assert "torn line" in said.err
    assert "open or cut off" in (outputs / "talk/main/index.md").read_text()
    assert not journal.read_bytes().endswith(b"\n")


def test_report_leaves_a_run_to_the_process_that_holds_it(outputs: Path) -> None:
    """Two writers would undo each other's work; exit 7 says who it is."""
    lock = RealDisk().lock(outputs / "talk/main" / LOCK_FILE, '{"pid": 7, "host": "north", "since": "today"}')
    before = views(outputs / "talk/main")
    try:
        for command in ("report", "repair"):
            said = tertulia(command, "talk")
            assert said.code == 7
            assert "talk/main is held by process 7 on north since today" in said.err
        # Whoever only looks is not in the way, and is not misled.
        assert "another process is at work" in tertulia("verify", "talk").out
    finally:
        lock.release()
    assert views(outputs / "talk/main") == before


def test_report_of_a_run_that_may_not_be_written_says_which_file(outputs: Path) -> None:
    """Exit 8, and the other runs that were named are reported all the same."""
    (outputs / "talk/other").mkdir()
    (outputs / "talk/other" / FILE).write_bytes((outputs / "talk/main" / FILE).read_bytes())
    with denied(LOCK_FILE):
        said = tertulia("report", "talk/main", "talk/other")
    assert said.code == 8
    assert said.err.splitlines() == [
        f"talk/{key}: outputs/talk/{key}/{LOCK_FILE}: Permission denied" for key in ("main", "other")
    ]


def test_verify_of_a_run_that_may_not_be_read_says_which_file(outputs: Path) -> None:
    """Exit 8 and one line."""
    with denied(FILE):
        said = tertulia("verify", "talk")
    assert said == (8, "", f"talk/main: outputs/talk/main/{FILE}: Permission denied\n")


@pytest.mark.parametrize("content", [b"", None])
def test_report_of_a_journal_that_says_nothing_writes_nothing(outputs: Path, content: bytes | None) -> None:
    """An empty one is nothing to show; a damaged one is exit 8 and names the command that mends it."""
    journal = outputs / "talk/main" / FILE
    journal.write_bytes(journal.read_bytes().replace(b"Dear", b"Bear") if content is None else content)
    before = views(outputs / "talk/main")
    said = tertulia("report", "talk")
    assert said.code == (8 if content is None else 0)
    assert ("`tertulia repair" if content is None else "the journal is empty") in said.err
    assert views(outputs / "talk/main") == before


# --- repair ------------------------------------------------------------------------------------------------------


def test_repair_of_a_sound_run_changes_nothing(outputs: Path) -> None:
    """Nothing to repair is no failure."""
    before = views(outputs / "talk/main")
    assert tertulia("repair", "talk") == (0, "talk/main: nothing to repair\n", "")
    assert views(outputs / "talk/main") == before


def test_repair_says_what_was_lost_and_what_is_counted(outputs: Path) -> None:
    """After it and a report the run verifies, and the damaged file is still there."""
    journal = outputs / "talk/main" / FILE
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[5] = b"?" + lines[5]
    journal.write_bytes(b"".join(lines))
    assert tertulia("verify", "talk").code == 8
    said = tertulia("repair", "talk")
    assert said.code == 0
    assert "talk/main: 1 record lost, counted as $0.00" in said.out
    assert "the damaged journal is kept as outputs/talk/main/journal.damaged-1" in said.out
    assert (outputs / "talk/main/journal.damaged-1").read_bytes() == b"".join(lines)
    assert tertulia("report", "talk").code == 0
    after = tertulia("verify", "talk")
    assert (after.code, "sound" in after.out) == (0, True), after.out
    # What is assumed of lost lines belongs to no call: nobody is sent to settle it.
    lost = usd(scan(RealDisk(), journal).state.nameless)
    index = (outputs / "talk/main/index.md").read_text()
    assert "| Assumed (0 calls, at the reservation) | $0.0000 |" in index
    assert f"| Assumed for lines that a repair replaced; there is no call to settle | {lost} |" in index
    models = "{sim: {models: {m: {latency: {first: 0}}, n: {latency: {first: 0}}}}}"
    Path("talk.yaml").write_text(JOB.replace("{sim: {}}", f"{{sim: {models}}}"))
    run = tertulia("run", "talk.yaml")
    assert run.code == 0, run.err
    assert f"(of it {lost} assumed for lines that a repair replaced)" in run.err
    spent = tertulia("spend").out
    assert f"  assumed: {lost} of talk/main, for what no record tells of any more: it stays" in spent
    assert "tertulia settle" not in spent
    assert f"{lost} more stands for lines that a repair replaced" in tertulia("settle", "talk").out
