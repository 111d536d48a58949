"""What all commands have in common: how they answer programs, however they end."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from runner.cli import door
from runner.cli.door import failure_of, garbage_of_late, look_for_garbage
from runner.journal import FILE, scan
from runner.ledger import FILE as LEDGER
from runner.lines import seal
from runner.world import RealDisk
from tests.cli.folders import JOB, SIM, denied, killed_when, landed, tertulia
from tests.nights import Night
from tests.virtual import run_virtual


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was killed while calls were in flight, and its job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    landed(killed_when(JOB, SIM, lambda state: state.run.reserved > 0), tmp_path / "outputs")
    Path("talk.yaml").write_text(JOB)
    return tmp_path / "outputs"


@pytest.fixture
def finished(outputs: Path) -> Path:
    """The same run, held to its end."""
    shutil.rmtree(outputs)
    night = Night(JOB, SIM)
    assert night.live().exit == 0
    landed(night, outputs)
    return outputs


def answered(*arguments: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What a command tells programs: its objects, and the one end, which has the exit code of the process."""
    said = tertulia(*arguments, "--json")
    *objects, end = [json.loads(line) for line in said.out.splitlines()]
    assert all(one["event"] != "end" for one in objects)
    assert end["event"] == "end"
    assert end["exit"] == said.code
    return objects, end


COMMANDS = {
    "check talk.yaml": {"finding"},
    "plan talk.yaml": {"cell", "plan"},
    "status": {"run"},
    "status talk": {"run"},
    "verify talk": {"run"},
    "repair talk": {"repair"},
    f"repair {LEDGER}": {"repair"},
    "spend": {"total", "row", "open"},
    "settle talk": {"call", "sum"},
    "settle talk --all --cost 0 --dry-run": {"settled"},
    "settle talk --all --cost 0": {"settled", "sum"},
    "doctor": {"finding"},
    "doctor talk.yaml": {"finding"},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_answers_programs_with_one_object_a_line_and_one_end(outputs: Path, command: str) -> None:
    """All in one form: an event each, and the exit code last."""
    objects, end = answered(*command.split())
    assert {one["event"] for one in objects} == COMMANDS[command]
    assert end["errors"] == []


@pytest.mark.parametrize(
    "command",
    [
        *("check", "plan", "run", "status x y", "verify", "repair", "spend --by colour", "settle", "doctor --new"),
        *("run talk.yaml --budget much", "plan talk.yaml --budget much", "status nobody", "verify nobody"),
        *("repair nobody", "settle nobody", "settle talk --cost 1", "run nothing.yaml", "plan nothing.yaml"),
    ],
)
def test_a_mistake_is_told_to_programs_too(outputs: Path, command: str) -> None:
    """Whether the command line could not be parsed or not be obeyed: exit 2, and the end says why."""
    objects, end = answered(*command.split())
    assert (objects, end["exit"]) == ([], 2)
    assert end["errors"] and all(end["errors"])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("spend", LEDGER), ("plan talk.yaml", LEDGER), ("run talk.yaml", FILE), ("plan talk.yaml", FILE),
        ("verify talk", FILE), ("settle talk", FILE), ("repair talk", FILE), ("doctor", FILE), ("status", FILE),
    ],
)  # fmt: skip
def test_what_may_not_be_read_is_told_to_programs_too(outputs: Path, command: str, name: str) -> None:
    """Somewhere in the answer stands why; the exit code is that of any trouble with a file."""
    with denied(name):
        objects, end = answered(*command.split())
    assert end["exit"] == {"doctor": 6, "status": 0}.get(command, 8)
    assert command == "repair talk" or "Permission denied" in json.dumps([*objects, end])


def test_what_a_repair_counts_is_in_its_answer(finished: Path) -> None:
    """Of a journal and of the ledger; the damaged file is named."""
    journal, ledger = finished / "talk/main" / FILE, finished / LEDGER
    for path, line in ((journal, 6), (ledger, 0)):
        lines = path.read_bytes().splitlines(keepends=True)
        lines[line] = b"?" + lines[line]
        path.write_bytes(b"".join(lines))
    [told], _ = answered("repair", "talk")
    assert (told["lost"], told["copy"]) == (1, "outputs/talk/main/journal.damaged-1")
    assert told["cost"] == scan(RealDisk(), journal).state.nameless / 1e9
    [told], _ = answered("repair", LEDGER)
    assert (told["file"], told["copy"]) == (f"outputs/{LEDGER}", "outputs/ledger.damaged-1")


def test_a_run_that_never_began_is_not_called_running(tmp_path: Path) -> None:
    """Whoever gave up before it was the run's turn finds in its answer that nothing of it has happened."""
    night = Night(JOB, SIM)
    night.live()
    state = night.reading()
    assert state.figures(0)["state"] == "closed"
    state.state.opened.clear()
    state.state.closed.clear()
    assert (state.figures(0)["state"], state.figures(0)["exit"]) == ("never began", None)


def test_a_file_of_a_later_version_is_named(finished: Path) -> None:
    """Each command says which file it is that it does not understand."""
    journal, ledger = finished / "talk/main" / FILE, finished / LEDGER
    seq = scan(RealDisk(), journal).last + 1
    with open(journal, "ab") as file:
        file.write(seal({"v": 99, "seq": seq, "at": 0.0, "kind": "dreamt"}))
    for command in ("settle talk", "show talk memory", "plan talk.yaml", "run talk.yaml"):
        said = tertulia(*command.split())
        assert (said.code, said.err.count(f"outputs/talk/main/{FILE}: ")) == (8, 1), command
    ledger.write_bytes(seal({"v": 99, "seq": 1, "kind": "dreamt"}))
    said = tertulia("spend")
    assert (said.code, said.err.startswith(f"outputs/{LEDGER}: ")) == (8, True)


def test_garbage_is_looked_for_among_the_newest_alone_and_as_before_afterwards() -> None:
    """What is here by now is left alone, and a look never takes in all that has come since."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with garbage_of_late():
        newest, times, never = gc.get_threshold()
        assert newest * times <= 10_000 and never == 1_000_000
        assert gc.get_freeze_count() > frozen
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)


def test_at_the_end_of_the_process_nobody_looks_for_garbage() -> None:
    """What is left of a night of ten thousand calls takes seconds to look through, and goes with the process anyway."""
    code = """
from runner.cli.door import garbage_of_late
class Left:
    def __del__(self): print("found")
with garbage_of_late():
    one = Left()
    one.me = one
    del one
"""
    asked = [sys.executable, "-c", code]
    told = subprocess.run(asked, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert told.stdout == ""


def test_new_objects_that_take_the_place_of_old_ones_are_looked_through_within_a_moment() -> None:
    """Their number stays as it was, so that the interpreter itself would let very many of them come together."""

    async def main() -> tuple[int, int]:
        async with anyio.create_task_group() as tasks:
            places = [[number] for number in range(20_000)]
            tasks.start_soon(look_for_garbage, 0.05)
            await anyio.sleep(0.01)
            for number in range(len(places)):
                places[number] = [number]
            new = len(gc.get_objects(generation=0))
            await anyio.sleep(0.2)
            left = len(gc.get_objects(generation=0)) + len(gc.get_objects(generation=1))
            tasks.cancel_scope.cancel()
        return new, left

    with garbage_of_late():
        new, left = run_virtual(main)
    assert new > 20_000 > 2_000 > left


def test_what_has_been_there_for_long_is_looked_through_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A circle that was alive for a while would stay for the rest of the night."""
    looks: list[int] = []
    monkeypatch.setattr(door, "_ALL_SECONDS", 0.15)
    monkeypatch.setattr(gc, "collect", looks.append)

    async def main() -> None:
        with anyio.move_on_after(0.33):
            await look_for_garbage(0.05)

    run_virtual(main)
    gc.unfreeze()
    assert looks == [1, 1, 2, 1, 1, 2]


def test_a_bug_is_an_end_as_well() -> None:
    """What is no answer for anybody is exit 1, with its own words."""
    assert failure_of(KeyError("x")) == (1, ["KeyError('x')"])
    assert failure_of(KeyboardInterrupt()) == (130, ["interrupted"])
