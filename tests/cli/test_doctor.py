"""`doctor` as a shell calls it, on the machine that the tests run on."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.cli import probes
from runner.doctor import Trial
from runner.journal import FILE, LOCK_FILE, SPARE_FILE
from runner.ledger import FILE as LEDGER
from runner.world import RealDisk
from tests.cli.folders import JOB, SIM, Said, denied, killed_when, landed, tertulia
from tests.nights import Night

FAR = """
name: far
timezone: Asia/Tokyo
budget: 1
providers: {far: {type: openai, base_url: "https://far.example/v1", api_key: "${FAR_KEY}", limits: {concurrency: 3}}}
models: {m: {use: far/m, price: {input: 1, output: 2}}}
prompts: {p: {opening: "Hello?", rounds: 2}}
pairings: [{a: m, b: m, repeat: 5}]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a state folder of its own; a file system that no machine need warn of."""
    monkeypatch.chdir(tmp_path)
    for name in ("FAR_KEY", "TERTULIA_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(probes, "file_system", lambda path: "ext4")
    return tmp_path


@pytest.fixture
def outputs(here: Path) -> Path:
    """A small run that ended well, in ./outputs."""
    night = Night(JOB, SIM)
    assert night.live().exit == 0
    landed(night, here / "outputs")
    return here / "outputs"


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def wrong(said: Said) -> list[str]:
    """The lines that are not `ok`."""
    return [line for line in said.out.splitlines() if not line.startswith("ok ")]


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def test_an_empty_folder_on_a_sound_machine_is_exit_0_and_stays_empty(here: Path) -> None:
    """What is tried out leaves nothing behind."""
    said = tertulia("doctor")
    assert (said.code, said.err, wrong(said)) == (0, "", [])
    assert f"outputs: will be made in {here}; can be written and locked" in said.out
    assert os.listdir(here) == []


def test_a_run_that_ended_well_is_sound_and_no_byte_is_touched(outputs: Path) -> None:
    """The newest run is looked at where no job is named."""
    before = everything(outputs)
    said = tertulia("doctor")
    assert (said.code, wrong(said)) == (0, [])
    assert "ok       talk/main: complete: 3 conversations\n" in said.out
    assert "ok       outputs/ledger.jsonl: sound (" in said.out
    assert everything(outputs) == before


def test_a_job_is_looked_at_with_its_keys_its_zone_and_its_own_run(outputs: Path) -> None:
    """Names of variables only; a job without a run has nothing to be said of one."""
    said = tertulia("doctor", write("far.yaml", FAR), write("talk.yaml", JOB))
    assert said.code == 6
    [missing] = wrong(said)
    assert missing.startswith("problem  far.yaml: provider far: FAR_KEY is not set: put it into the environment or ")
    assert missing.endswith(" -> tertulia check far.yaml")
    assert "ok       time zones: UTC, Asia/Tokyo\n" in said.out
    assert "ok       talk.yaml: 3 conversations" in said.out
    assert "at most 46 needed" in said.out  # three calls of far, and one for each conversation of talk
    assert said.out.count("the journal is sound") == 1


def test_a_job_with_mistakes_or_without_money_is_a_problem_that_check_explains(outputs: Path) -> None:
    """Each job is looked at, whatever is wrong with the others."""
    poor = JOB.replace("name: talk", "name: poor").replace("budget: 0.50", "budget: 0.0001")
    said = tertulia(
        "doctor", write("bad.yaml", "nme: x"), write("poor.yaml", poor), write("talk.yaml", JOB), "none.yaml"
    )
    found = wrong(said)
    assert [line.split()[1] for line in found] == ["bad.yaml:", "poor.yaml:", "none.yaml:"]
    assert all("-> tertulia check" in line for line in found)
    assert "3 mistakes" in found[0]
    assert "not even one turn of 3 conversations fits" in found[1]
    assert said.code == 6


def test_a_job_that_would_buy_again_what_its_run_has_is_a_problem(outputs: Path) -> None:
    """`run` would refuse it; another key has nothing to do with it."""
    said = tertulia("doctor", write("talk.yaml", JOB.replace("What survives?", "What remains?")))
    assert said.code == 6
    assert "1 complete conversation would be bought again" in wrong(said)[0]
    other = JOB.replace("What survives?", "What remains?") + "run_key: other\n"
    assert tertulia("doctor", write("talk.yaml", other)).code == 0


def test_the_answer_for_programs_is_one_object_a_line_and_one_end(outputs: Path) -> None:
    """Each finding says what it is of; the end has the exit code."""
    (outputs / "talk/main/status.json").unlink()
    *found, end = [json.loads(line) for line in tertulia("doctor", "--json").out.splitlines()]
    assert end == {"event": "end", "exit": 3, "errors": []}
    assert [one["part"] for one in found] == ["machine"] * 7 + ["folder"] * 4 + ["run"] * 3
    assert [(one["grade"], one["subject"]) for one in found if one["grade"] != "ok"] == [("warning", "talk/main")]
    assert {"event", "part", "grade", "subject", "text", "remedy"} == set(found[0])


# --- what is wrong with a run --------------------------------------------------------------------------------------


def _without_room(run: Path) -> None:
    """Broken off before it was closed, on a full disk."""
    journal = run / FILE
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    (run / SPARE_FILE).unlink(missing_ok=True)


def _torn(run: Path) -> None:
    journal = run / FILE
    journal.write_bytes(journal.read_bytes()[:-9])


def _damaged(run: Path) -> None:
    journal = run / FILE
    journal.write_bytes(journal.read_bytes().replace(b"Dear", b"Bear"))


def _newer(run: Path) -> None:
    from runner.lines import seal

    journal = run / FILE
    seq = journal.read_bytes().count(b"\n") + 1
    with open(journal, "ab") as file:
        file.write(seal({"v": 99, "seq": seq, "at": 0.0, "kind": "dreamt"}))


@pytest.mark.parametrize(
    ("harm", "code", "text"),
    [
        (lambda run: (run / "status.json").unlink(), 3, "its views are not up to date -> tertulia report "),
        (_without_room, 3, "set aside for a full disk is used up"),
        (_torn, 3, "the last line of the journal is torn at byte"),
        (_damaged, 6, "what was spent is unknown -> tertulia repair outputs/talk/main"),
        (_newer, 6, "kind 'dreamt', which this version does not know"),
        (lambda run: (run / FILE).write_bytes(b""), 3, "it never began"),
    ],
)  # fmt: skip
def test_what_became_of_the_last_run_is_told(outputs: Path, harm: Callable[[Path], None], code: int, text: str) -> None:
    """Unfinished is worth knowing; a journal that cannot be relied upon has to be mended."""
    harm(outputs / "talk/main")
    said = tertulia("doctor")
    assert said.code == code
    assert any(text in line for line in wrong(said)), said.out


def test_a_run_at_work_is_no_trouble_and_its_temporary_files_are_its_own(outputs: Path) -> None:
    """Who holds it is said; a file that it may be writing is not called a stray, one in another folder is."""
    (outputs / "talk/main/conversations/.x.md.1-1.tmp").touch()
    (outputs / ".ledger.jsonl.7-0.tmp").touch()
    lock = RealDisk().lock(outputs / "talk/main" / LOCK_FILE, '{"pid": 7, "host": "north", "since": "today"}')
    try:
        said = tertulia("doctor")
    finally:
        lock.release()
    assert said.code == 3
    [stray] = wrong(said)
    assert "1 temporary file left by a crash: outputs/.ledger.jsonl.7-0.tmp" in stray
    assert "ok       talk/main: at work: process 7 on north since today, " in said.out
    assert "2 temporary files" in tertulia("doctor").out


@pytest.mark.parametrize("name", [FILE, LOCK_FILE, LEDGER])
def test_what_another_user_may_not_read_is_a_problem_and_its_remedy_would_help(outputs: Path, name: str) -> None:
    """Every other finding is told; a command that would fail in the same way is no remedy."""
    with denied(name):
        said = tertulia("doctor")
    assert (said.code, said.err) == (6, "")
    [line] = wrong(said)
    assert f"{name}" in line and "Permission denied" in line
    assert line.endswith("-> make it readable, or look as the user whose it is")


def test_a_damaged_ledger_is_a_problem_with_its_place(outputs: Path) -> None:
    """What the day counts is unknown then."""
    ledger = outputs / LEDGER
    line = ledger.read_bytes().splitlines(keepends=True)[-1]
    ledger.write_bytes(b"?" + ledger.read_bytes()[1:] + line)
    said = tertulia("doctor")
    assert said.code == 6
    assert wrong(said)[0].startswith(f"problem  outputs/{LEDGER}: damaged at byte 0 (")
    assert "-> tertulia repair outputs/ledger.jsonl" in wrong(said)[0]


def test_a_slice_that_a_killed_run_left_is_told_until_its_folder_is_gone(here: Path) -> None:
    """Then it counts for good, and there is nothing to be done about it."""
    landed(killed_when(JOB, SIM, lambda state: state.run.reserved > 0), here / "outputs")
    said = tertulia("doctor")
    assert said.code == 3
    [left] = [line for line in wrong(said) if LEDGER in line]
    assert "talk/main was broken off, and counts all of the $" in left
    assert left.endswith("-> run it again: then it counts what it has spent")
    shutil.rmtree(here / "outputs/talk")
    assert tertulia("doctor").code == 0


def test_a_clock_behind_the_newest_record_is_told(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The records are of the year 2026; a clock that begins in 1970 would count money on a day long gone."""
    monkeypatch.setattr("time.time", lambda: 86_400.0)
    said = tertulia("doctor")
    assert said.code == 6
    assert "clock: 1970-01-02T00:00:00Z, but the newest record was written" in wrong(said)[0]


# --- what is wrong with the machine and the folder -------------------------------------------------------------------


def test_keys_that_others_can_read_are_told_of(here: Path) -> None:
    """The file beside the job, or here where no job is named."""
    write(".env", "FAR_KEY=sesame\n")
    os.chmod(".env", 0o644)
    [line] = wrong(tertulia("doctor"))
    assert line == "warning  keys: .env can be read by other users -> chmod 600 .env"
    said = tertulia("doctor", write("far.yaml", FAR))
    assert said.code == 3
    assert ".env can be read by other users" in wrong(said)[0]
    assert "sesame" not in said.out
    os.chmod(".env", 0o600)
    assert tertulia("doctor", "far.yaml").code == 0


def test_a_limit_of_open_files_below_the_calls_of_a_job_is_a_problem(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a night that must make fewer calls at once than its job allows."""
    many = FAR.replace("concurrency: 3", "concurrency: 3000").replace("repeat: 5", "repeat: 2000")
    monkeypatch.setattr(probes, "open_files", lambda: 1000)
    said = tertulia("doctor", write("far.yaml", many))
    assert "open files: 1,000 allowed, 2,040 may be needed -> ulimit -n 2040" in wrong(said)[0]


def test_a_process_asks_for_as_many_open_files_as_it_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """The soft limit goes up to the hard one; where even that is refused, what there is counts."""
    limits = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, wanted: limits.append(wanted))
    assert probes.open_files() == 4096 and limits == [(256, 4096), (4096, 4096)]
    limits[:] = [(256, resource.RLIM_INFINITY)]
    assert probes.open_files() == 65_536

    def refuse(which: int, wanted: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    limits[:] = [(256, resource.RLIM_INFINITY)]
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert probes.open_files() == 256
    limits[:] = [(resource.RLIM_INFINITY, resource.RLIM_INFINITY)]
    assert probes.open_files() is None


def test_a_state_folder_that_cannot_be_made_is_worth_knowing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes cannot share limits then; each can still run."""
    read_only = Trial(written="Read-only file system")
    monkeypatch.setattr(probes, "trial", lambda there: read_only if there.name == "state" else Trial())
    (here / "state").mkdir()
    said = tertulia("doctor")
    assert said.code == 3
    assert "state/tertulia cannot be written (Read-only file system)" in wrong(said)[0]


def test_a_user_without_a_home_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no place for what processes share."""

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(probes, "state_folder", homeless)
    [line] = wrong(tertulia("doctor"))
    assert line.startswith("warning  state folder: ~ cannot be found: this user has no home")


def test_a_trial_finds_locks_that_keep_nobody_out(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some file systems a lock is granted to whoever asks."""
    assert probes.trial(here).locked is None
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, how: None)
    assert probes.trial(here).locked == "a lock keeps nobody out"
    assert os.listdir(here) == []


def _fails(number: int) -> Callable[..., Any]:
    def call(*_: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return call


def test_a_trial_tells_what_fails_and_leaves_nothing_behind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing, locking, syncing: each in its own words."""
    sound = probes.trial(here)
    assert sound == Trial(seconds=sound.seconds)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fails(errno.EIO))
        assert probes.trial(here) == Trial(synced="Input/output error")
    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", _fails(errno.ENOLCK))
        assert probes.trial(here) == Trial(locked="No locks available")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", _fails(errno.ENOSPC))
        assert probes.trial(here) == Trial(written="No space left on device")
    assert os.listdir(here) == []
    assert probes.trial(here / "none") == Trial(written="No such file or directory")


MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /home rw - nfs4 north:/home rw
31 22 0:26 / /home/my\\040work rw master:1 propagate_from:2 - fuse.sshfs me@north: rw
32 22 0:27 / /srv rw - overlay overlay rw
33 22 0:28 / /srv rw - tmpfs tmpfs rw
not a line of a table
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/homes/x", "ext4"),
        ("/home/x", "nfs4"),
        ("/home/my work/outputs", "fuse.sshfs"),
        ("/home/my", "nfs4"),
        ("/srv/outputs", "tmpfs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_deepest_mount_above_it(path: str, kind: str) -> None:
    """Of two at the same place the later one hides the other; a name that only begins alike is another place."""
    assert probes.file_system_of(Path(path), MOUNTS) == kind
    assert probes.file_system_of(Path("/x"), "") is None


def test_a_package_that_is_missing_is_the_first_thing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else can be looked at without it."""
    monkeypatch.setitem(sys.modules, "runner.doctor", None)
    said = tertulia("doctor")
    assert said.code == 6
    assert said.out.startswith("problem  packages: ")
    assert said.out.count("\n") == 1
