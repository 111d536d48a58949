"""`prune`, as a shell calls it: what goes, what stays, and that no money is forgotten."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.journal import FILE, LOCK_FILE
from runner.ledger import FILE as LEDGER
from runner.ledger import Book
from runner.ledger import read as ledger_entries
from runner.selection import Options
from runner.world import RealDisk
from tests.cli.folders import JOB, SIM, Terminal, denied, killed_when, landed, tertulia
from tests.nights import START, Night

DAY = 86400.0
KEYS = ("d1", "d2", "d3", "d4")


@pytest.fixture(scope="module")
def night() -> Night:
    """Four runs of a job, ten days apart; the second has a conversation that did not begin."""
    one = Night(JOB, SIM)
    for number, key in enumerate(KEYS):
        one.wall = START + number * 10 * DAY
        only = ("memory/*",) if key == "d2" else ()
        assert one.live(Options(key=key, only=only)).exit == 0
    return one


@pytest.fixture(autouse=True)
def outputs(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Their files on a real disk, in `./outputs`, five days after the last."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    monkeypatch.setattr("time.time", lambda: START + 35 * DAY + 3600)
    landed(night, tmp_path / "outputs")
    return tmp_path / "outputs"


def there(outputs: Path, job: str = "talk") -> list[str]:
    return sorted(path.name for path in (outputs / job).iterdir())


def counted(outputs: Path) -> dict[tuple[bool, str], int]:
    """What the ledger counts, by kind of money and month."""
    book = Book(ledger_entries(RealDisk(), outputs / LEDGER).entries)
    return {(play, month): book.total(month, play) for play in (False, True) for month in ("2026-11", "2026-12")}


def objects(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in tertulia("prune", *arguments, "--json").out.splitlines()]


# --- what goes ---------------------------------------------------------------------------------------------------


def test_old_complete_runs_go_and_the_others_stay(outputs: Path) -> None:
    """The unfinished one is told with its reason, and what is freed."""
    said = tertulia("prune", "--keep", "10d", "--yes")
    assert said.code == 0
    assert there(outputs) == ["d2", "d4"]
    lines = said.out.splitlines()
    assert lines[0].startswith("  talk/d1: 35 d old, ")
    assert lines[1].startswith("  talk/d3: 15 d old, ")
    assert lines[2].startswith("2 runs, ")
    assert lines[3] == "deleted 2 runs; the ledger goes on counting what they have spent"
    assert said.err == "kept: talk/d2, 2 of 3 conversations not complete\n"


@pytest.mark.parametrize(("keep", "left"), [("36d", [*KEYS]), ("34d", ["d2", "d3", "d4"]), ("1s", ["d2", "d4"])])
def test_a_run_is_as_old_as_its_last_record_and_the_newest_of_a_job_stays_however_old(
    outputs: Path, keep: str, left: list[str]
) -> None:
    """So that there is always one to go on from, and to compare with."""
    assert tertulia("prune", "--keep", keep, "--yes").code == 0
    assert there(outputs) == left


def test_only_runs_of_the_job_that_is_named_go(outputs: Path, night: Night) -> None:
    """A job that has no runs is a slip."""
    (outputs / "talk").rename(outputs / "other")
    landed(night, outputs)
    assert tertulia("prune", "--keep", "1d", "--job", "other", "--yes").code == 0
    assert (there(outputs, "other"), there(outputs)) == (["d2", "d4"], [*KEYS])
    said = tertulia("prune", "--keep", "1d", "--job", "otter", "--yes")
    assert said.code == 2
    assert "There is no run of 'otter' in outputs" in said.err


def test_a_dry_run_says_all_and_deletes_nothing(outputs: Path) -> None:
    """Not even where --yes is given, and nobody is asked."""
    said = tertulia("prune", "--keep", "10d", "--dry-run", "--yes")
    assert said.code == 0
    assert said.out.splitlines()[2].startswith("2 runs, ")
    assert "deleted" not in said.out
    assert there(outputs) == [*KEYS]


def test_everything_in_a_folder_goes_with_it(outputs: Path) -> None:
    """Exports, what others have put there, and links, but not what those point at."""
    Path("mine.txt").write_text("mine")
    folder = outputs / "talk/d1"
    tertulia("export", "talk/d1", "--format", "csv")
    (folder / "notes").mkdir()
    (folder / "notes/link").symlink_to(Path("mine.txt").resolve())
    (folder / "link").symlink_to(Path.cwd())
    assert tertulia("prune", "--keep", "10d", "--yes").code == 0
    assert not folder.exists()
    assert Path("mine.txt").read_text() == "mine"


# --- what stays --------------------------------------------------------------------------------------------------


def test_a_run_that_somebody_holds_stays(outputs: Path) -> None:
    """Whoever holds it is named."""
    lock = RealDisk().lock(outputs / "talk/d1" / LOCK_FILE, '{"pid": 7, "host": "north", "since": "today"}')
    said = tertulia("prune", "--keep", "10d", "--yes")
    lock.release()
    assert "kept: talk/d1, held by process 7 on north since today" in said.err
    assert (said.code, "talk/d1" in said.out) == (0, False)
    assert there(outputs) == ["d1", "d2", "d4"]


def test_a_run_that_is_taken_up_while_somebody_thinks_about_the_question_stays(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked at before the answer is looked at once more, with the lock."""
    journal = outputs / "talk/d1" / FILE

    def meanwhile(*_: object, **__: object) -> bool:
        journal.write_bytes(journal.read_bytes().rpartition(b'{"v"')[0])  # the life is not closed any more
        return True

    monkeypatch.setattr(sys, "stdin", Terminal(""))
    monkeypatch.setattr("click.confirm", meanwhile)
    said = tertulia("prune", "--keep", "10d")
    assert said.err.splitlines()[-1] == "kept: talk/d1, broken off"
    assert there(outputs) == ["d1", "d2", "d4"]
    assert "deleted 1 run;" in said.out


def test_a_run_whose_observers_have_not_all_spoken_stays(outputs: Path) -> None:
    """Its conversations are complete, but what was to be said of them is not there yet."""
    observed = JOB.replace("rounds: 2}", 'rounds: 2, after: [{observer: op, prompt: "What was it?"}]}')
    observed = observed.replace("models:\n", "models:\n  op: {use: sim/o, price: {input: 1, output: 3}}\n")
    models = {**SIM["models"], "o": {**SIM["models"]["n"], "faults": [{"kind": "blank"}]}}
    one = Night(observed.replace("name: talk", "name: observed"), {"models": models})
    for key in ("d1", "d2"):
        assert one.live(Options(key=key)).exit == 3
    landed(one, outputs)
    said = tertulia("prune", "--keep", "10d", "--job", "observed", "--yes")
    assert said.err == "kept: observed/d1, 1 of those who comment on its conversations have not\n"
    assert there(outputs, "observed") == ["d1", "d2"]


def test_runs_that_broke_off_or_are_damaged_stay(outputs: Path) -> None:
    """Nobody knows what there is in them."""
    whole = (outputs / "talk/d1" / FILE).read_bytes()
    (outputs / "talk/d1" / FILE).write_bytes(whole[:-20])
    content = bytearray((outputs / "talk/d3" / FILE).read_bytes())
    content[5000] ^= 1
    (outputs / "talk/d3" / FILE).write_bytes(content)
    said = tertulia("prune", "--keep", "10d", "--yes")
    assert "kept: talk/d1, broken off" in said.err
    assert "kept: talk/d3, damaged" in said.err
    assert there(outputs) == [*KEYS]


def test_a_run_that_may_not_be_read_is_left_to_others(outputs: Path) -> None:
    """It is somebody else's."""
    with denied(f"d1/{FILE}"):
        assert tertulia("prune", "--keep", "10d", "--yes").code == 0
    assert "d1" in there(outputs)


# --- money -------------------------------------------------------------------------------------------------------


def test_the_ledger_goes_on_counting_what_was_spent(outputs: Path) -> None:
    """By day, job and model, to the last billionth; the file itself stays."""
    before, spent = counted(outputs), tertulia("spend", "--by", "day,job,model", "--json").out
    assert any(before.values())
    assert tertulia("prune", "--keep", "10d", "--yes").code == 0
    assert counted(outputs) == before
    assert tertulia("spend", "--by", "day,job,model", "--json").out == spent


def test_where_the_ledger_is_gone_it_begins_anew_with_all_runs_before_one_goes(outputs: Path) -> None:
    """Those that stay are counted, too: the next night would take a ledger that is there for the whole truth."""
    before = counted(outputs)
    (outputs / LEDGER).unlink()
    assert tertulia("prune", "--keep", "10d", "--yes").code == 0
    assert counted(outputs) == before


def test_a_run_that_the_ledger_does_not_know_is_counted_before_it_goes(outputs: Path, night: Night) -> None:
    """As one that is older than the ledger, or that was copied there."""
    (outputs / "talk/d3").rename(outputs / "talk/copied")
    assert tertulia("prune", "--keep", "10d", "--yes").code == 0
    assert there(outputs) == ["d2", "d4"]
    standing = Book(ledger_entries(RealDisk(), outputs / LEDGER).entries).standing.values()
    amounts = {entry.folder: entry.amount for entry in standing}
    assert amounts["talk/copied"] == amounts["talk/d3"] > 0


def test_without_a_ledger_that_can_be_read_nothing_is_deleted(outputs: Path) -> None:
    """Exit code 8, and why."""
    content = bytearray((outputs / LEDGER).read_bytes())
    content[10] ^= 1
    (outputs / LEDGER).write_bytes(content)
    said = tertulia("prune", "--keep", "10d", "--yes")
    assert said.code == 8
    assert "so nothing more was deleted" in said.err
    assert there(outputs) == [*KEYS]


def test_what_is_assumed_is_told_because_it_cannot_be_settled_any_more(outputs: Path) -> None:
    """It stays counted as it is."""
    broken = killed_when(JOB, SIM, lambda state: any(state.open_calls()))
    assert broken.live().exit == 0
    broken_outputs = Path("second")
    landed(broken, broken_outputs)
    (broken_outputs / "talk/main").rename(broken_outputs / "talk/old")
    landed(broken, broken_outputs)
    held = broken.reading().state.run.assumed
    old = objects("--outputs", "second", "--keep", "1d", "--dry-run")[0]
    assert held > 0
    assert (old["event"], old["run"], old["assumed"]) == ("old", "talk/main", held / 10**9)
    said = tertulia("prune", "--outputs", "second", "--keep", "1d", "--yes")
    assert " of it assumed, and counted so for good" in said.out


# --- asking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "left"), [("y\n", ["d2", "d4"]), ("n\n", [*KEYS]), ("\n", [*KEYS])])
def test_on_a_terminal_it_asks_and_no_is_the_default(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    """Either answer is a good end."""
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    said = tertulia("prune", "--keep", "10d")
    assert said.code == 0
    assert "Delete 2 runs for good?" in said.err
    assert there(outputs) == left


def test_without_a_terminal_nothing_is_deleted_unless_it_is_said(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cron job that forgot --yes ends with 2; where nothing would go, there is nothing to ask."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    said = tertulia("prune", "--keep", "10d")
    assert said.code == 2
    assert "add --yes, or --dry-run to only look" in said.err
    assert there(outputs) == [*KEYS]
    said = tertulia("prune", "--keep", "100d")
    assert (said.code, said.out) == (0, "no complete run is old enough to be deleted\n")


def test_programs_are_told_of_each_run(outputs: Path) -> None:
    """What is old, what was kept and why, and what was deleted in the end."""
    found = objects("--keep", "10d", "--yes")
    assert [(one["event"], one.get("run")) for one in found] == [
        ("old", "talk/d1"),
        ("old", "talk/d3"),
        ("kept", "talk/d2"),
        ("deleted", "talk/d1"),
        ("deleted", "talk/d3"),
        ("end", None),
    ]
    assert found[0]["bytes"] > 10_000
    assert found[2]["why"] == "2 of 3 conversations not complete"


@pytest.mark.parametrize("keep", ["", "soon", "0d", "-3d"])
def test_an_age_that_is_none_is_refused(outputs: Path, keep: str) -> None:
    """Nothing is looked at before that is clear."""
    assert tertulia("prune", f"--keep={keep}", "--yes").code == 2
    assert tertulia("prune", "--yes").code == 2
    assert there(outputs) == [*KEYS]


def test_a_deletion_that_breaks_off_leaves_a_run_that_can_be_deleted(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal goes last, so that what is left says what it is; nothing else is deleted after the trouble."""

    unlink = Path.unlink

    def broken(path: Path, missing_ok: bool = False) -> None:
        if path.name == FILE:
            raise OSError(5, "Input/output error", str(path))
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", broken)
        said = tertulia("prune", "--keep", "10d", "--yes")
    assert said.code == 8
    assert "Input/output error; nothing more was deleted" in said.err
    assert sorted(path.name for path in (outputs / "talk/d1").iterdir()) == [FILE, LOCK_FILE]
    assert (outputs / "talk/d3/index.md").exists()
    assert tertulia("prune", "--keep", "10d", "--yes").code == 0
    assert there(outputs) == ["d2", "d4"]
