"""`export`, as a shell calls it: the file it writes, what it leaves out, and what it refuses."""

from __future__ import annotations

import csv
import importlib.util
import json
import sqlite3
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from runner.journal import FILE
from runner.selection import Options
from tests.cli.folders import JOB, SIM, landed, tertulia
from tests.nights import Night

parquet: Any = import_module("pyarrow.parquet")

FORMATS = ("openai", "sharegpt", "csv", "sqlite", "parquet", "inspect")
ALL = ["letter/ada", "letter/bo", "memory/ada~bo"]


@pytest.fixture(scope="module")
def night() -> Night:
    """A run in which one conversation is complete, one failed after its first turn, and one has not begun."""
    model = {**SIM["models"]["m"]}
    one = Night(JOB, {"models": {"m": model, "n": {**model, "faults": [{"kind": "blank"}]}}})
    assert one.live(Options(only=("letter/ada", "memory/*"))).exit == 3
    return one


@pytest.fixture(autouse=True)
def outputs(night: Night, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's files on a real disk, in `./outputs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    landed(night, tmp_path / "outputs")
    return tmp_path / "outputs"


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def of_sqlite(path: Path) -> list[str]:
    database = sqlite3.connect(path)
    names = [name for (name,) in database.execute("SELECT name FROM conversations ORDER BY name")]
    database.close()
    return names


def of_csv(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return sorted({row["name"] for row in csv.DictReader(file)})


READERS: dict[str, Callable[[Path], list[str]]] = {
    "csv": of_csv,
    "sqlite": of_sqlite,
    "parquet": lambda path: sorted(parquet.read_table(path).to_pydict()["name"]),
    "inspect": lambda path: sorted(sample["id"] for sample in json.loads(path.read_bytes())["samples"]),
}


@pytest.mark.parametrize("format_", READERS)
def test_a_table_or_a_log_has_every_conversation(outputs: Path, format_: str) -> None:
    """Also those that failed or have not begun; it lies in the run's own folder and says so."""
    said = tertulia("export", "talk", "--format", format_)
    assert (said.code, said.err) == (0, "")
    (file,) = (outputs / "talk/main/exports").iterdir()
    assert READERS[format_](file) == ALL
    assert said.out.splitlines()[:2] == ["talk/main: 3 conversations", f"  outputs/talk/main/exports/{file.name}"]
    assert file.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("format_", ["openai", "sharegpt"])
def test_chats_to_learn_from_are_complete_unless_others_are_asked_for(outputs: Path, format_: str) -> None:
    """And one in which no model has said a word is none, whatever is asked for."""
    said = tertulia("export", "talk", "--format", format_)
    assert said.out.startswith("talk/main: 1 conversation, 2 left out\n")
    file = outputs / f"talk/main/exports/{format_}.jsonl"
    assert len(lines(file)) == 1
    first = file.read_bytes()
    said = tertulia("export", "talk", "--format", format_, "--status", "failed", "--status", "pending")
    assert said.out.startswith("talk/main: 1 conversation, 2 left out\n")
    assert len(lines(file)) == 1 and file.read_bytes() != first
    tertulia("export", "talk", "--format", format_, "--status", "pending")
    assert file.read_bytes() == b""


def test_names_and_statuses_choose(outputs: Path) -> None:
    """Both together; a pattern that names nothing is a mistake."""
    tertulia("export", "talk", "--format", "csv", "--only", "letter/*", "--status", "pending", "-o", "some.csv")
    assert of_csv(Path("some.csv")) == ["letter/bo"]
    said = tertulia("export", "talk", "--format", "csv", "--only", "lettre/*")
    assert said.code == 2
    assert "--only lettre/* names no conversation of talk/main" in said.err


def test_programs_are_told_of_the_file_and_of_what_whoever_opens_it_must_know() -> None:
    """One object, and the end."""
    told, end = map(json.loads, tertulia("export", "talk", "--format", "csv", "--json").out.splitlines())
    assert (told["event"], told["run"], told["format"]) == ("export", "talk/main", "csv")
    assert (told["conversations"], told["left_out"]) == (3, 0)
    assert "apostrophe" in told["note"]
    assert Path(told["file"]).is_file()
    assert end == {"event": "end", "exit": 0, "errors": []}


@pytest.mark.parametrize("format_", FORMATS)
def test_a_second_export_takes_the_place_of_the_first(outputs: Path, format_: str) -> None:
    """In one step, byte for byte the same where nothing has changed, and with nothing left beside it."""
    seen: list[bytes] = []
    for _ in range(2):
        assert tertulia("export", "talk", "--format", format_).code == 0
        (file,) = (outputs / "talk/main/exports").iterdir()
        seen.append(file.read_bytes())
    assert seen[0] == seen[1]


def test_an_export_is_no_view_and_verify_leaves_it_alone(outputs: Path) -> None:
    """The run is as sound as before, and `report` takes nothing away."""
    journal = (outputs / "talk/main" / FILE).read_bytes()
    for format_ in FORMATS:
        assert tertulia("export", "talk", "--format", format_).code == 0
    files = sorted((outputs / "talk/main/exports").iterdir())
    assert len(files) == len(FORMATS)
    assert tertulia("verify", "talk").code == 0
    assert tertulia("report", "talk").code == 0
    assert sorted((outputs / "talk/main/exports").iterdir()) == files
    assert (outputs / "talk/main" / FILE).read_bytes() == journal


@pytest.mark.parametrize("format_", FORMATS)
def test_a_file_that_cannot_be_written_leaves_the_old_one(
    outputs: Path, format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trouble in the middle ends with 8, and nothing half written stays."""
    Path("old").write_text("old")

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("runner.outputs.Reading.transcript", broken)
    said = tertulia("export", "talk", "--format", format_, "--status", "complete", "-o", "old")
    assert said.code == 8
    assert Path("old").read_text() == "old"
    assert sorted(path.name for path in Path().iterdir()) == ["old", "outputs"]


def test_a_folder_that_is_not_there_is_not_made_for_a_file_that_is_named() -> None:
    """It may be a slip of the finger."""
    said = tertulia("export", "talk", "--format", "csv", "-o", "no/where.csv")
    assert said.code == 2
    assert "There is no folder no for the file where.csv; make it first." in said.err


def test_without_the_package_it_needs_a_format_says_how_to_get_it(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written."""
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else find(name))
    said = tertulia("export", "talk", "--format", "parquet")
    assert said.code == 2
    assert "--format parquet needs the package pyarrow: pip install 'tertulia[parquet]'" in said.err
    assert not (outputs / "talk/main/exports").exists()


def test_a_run_that_says_nothing_has_nothing_to_export(outputs: Path) -> None:
    """As when it was killed before its first record."""
    (outputs / "talk/empty").mkdir()
    (outputs / "talk/empty" / FILE).touch()
    said = tertulia("export", "talk/empty", "--format", "csv")
    assert said.code == 2
    assert "talk/empty has no conversations yet" in said.err


def test_of_a_damaged_journal_that_is_exported_which_is_sound(outputs: Path) -> None:
    """And people are told where the rest is."""
    journal = outputs / "talk/main" / FILE
    content = bytearray(journal.read_bytes())
    content[len(content) // 2] ^= 1
    journal.write_bytes(content)
    said = tertulia("export", "talk", "--format", "openai")
    assert said.code == 0
    assert "the journal is damaged; what is exported ends where it is" in said.err


def test_a_database_for_which_there_is_no_room_ends_with_8(monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other file, and with its name."""

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("runner.exports.sqlite.fill", full)
    said = tertulia("export", "talk", "--format", "sqlite", "-o", "talk.sqlite")
    assert said.code == 8
    assert said.err == "talk.sqlite cannot be written: database or disk is full\n"
    assert not list(Path().glob("*sqlite*")) and not list(Path().glob(".*"))
