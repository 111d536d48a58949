"""Findings: what is well, what is worth knowing, and what has to be mended, each in one line."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from runner.doctor import (
    CODES,
    FLOORS,
    NEWEST_PYTHON,
    OLDEST_PYTHON,
    Finding,
    Folder,
    LedgerFacts,
    Machine,
    RunFacts,
    Trial,
    exit_code,
    of_folder,
    of_ledger,
    of_machine,
    of_run,
)
from runner.journal import FILE, Scan, scan
from runner.ledger import Entry
from runner.outputs import reading_of
from tests.cli.folders import killed_when
from tests.nights import START, TALK, TALK_SIM, Night

PROJECT = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text(encoding="utf-8"))["project"]

MACHINE = Machine(
    python=(3, 12, 4),
    packages=FLOORS,
    zones={"UTC": True},
    now=START,
    newest=START - 60.0,
    umask=0o022,
    open_files=1024,
    calls=24,
    state=Path("/home/me/.local/state/tertulia"),
    state_trouble=None,
    exposed=(),
)
FOLDER = Folder(
    path=Path("outputs"),
    there=Path("outputs"),
    trial=Trial(seconds=0.002),
    kind="ext4",
    free_bytes=10**11,
    free_files=10**6,
    strays=(),
)


def worst(findings: list[Finding]) -> Finding:
    """The one finding that is not well."""
    [found] = [finding for finding in findings if finding.grade != "ok"]
    return found


# --- the machine -------------------------------------------------------------------------------------------------


def test_a_machine_that_is_well_gives_a_line_for_each_thing_and_exit_0() -> None:
    """What was looked at is said, also where nothing is wrong with it."""
    found = list(of_machine(MACHINE))
    assert [finding.line() for finding in found] == [
        "ok       Python: 3.12.4",
        "ok       packages: all 9 are new enough",
        "ok       time zones: UTC",
        "ok       clock: 2026-11-21T12:00:00Z",
        "ok       open files: 1,024 allowed, at most 64 needed",
        "ok       state folder: /home/me/.local/state/tertulia can be written and locked",
        "ok       permissions: umask 022",
    ]
    assert exit_code(found) == 0
    assert exit_code([]) == 0


@pytest.mark.parametrize(
    ("wrong", "grade", "text", "remedy"),
    [
        ({"python": (3, 10, 9)}, "problem", "3.10.9 is too old", "use 3.11 to 3.14"),
        ({"python": (3, 15, 0)}, "warning", "3.15.0 is newer than any that was tested", "known to work: 3.11 to 3.14"),
        ({"packages": {**FLOORS, "anyio": None}}, "problem", "anyio is missing", "pip install 'anyio>=4.14.2'"),
        ({"packages": {**FLOORS, "anyio": "4.9.0"}}, "problem", "anyio 4.9.0 is too old", "pip install"),
        ({"packages": {**FLOORS, "anyio": "4.14"}}, "problem", "anyio 4.14 is too old", "pip install"),
        ({"packages": {**FLOORS, "anyio": "odd"}}, "problem", "anyio odd is too old", "pip install"),
        ({"zones": {"UTC": True, "Asia/Tokyo": False}}, "problem", "no data of Asia/Tokyo", "tzdata"),
        ({"newest": START + 120}, "warning", "was written 2 min 00 s later, at 2026-11-21T12:02:00Z", "set the clock"),
        ({"newest": START + 90_000}, "problem", "25 h 00 min later", "set the clock"),
        ({"open_files": 63}, "problem", "63 allowed, 64 may be needed", "ulimit -n 1024"),
        ({"calls": 2000}, "problem", "1,024 allowed, 2,040 may be needed", "ulimit -n 2040"),
        ({"state_trouble": "cannot be written (no)"}, "warning", "cannot share a provider's limits", "XDG_STATE_HOME"),
        ({"umask": 0o277}, "problem", "umask 277 takes their owner's rights", "umask 077"),
        ({"exposed": (Path("jobs/.env"),)}, "warning", "jobs/.env can be read by other users", "chmod 600 jobs/.env"),
    ],
)
def test_what_is_wrong_with_a_machine_is_said_with_what_to_do(
    wrong: dict[str, object], grade: str, text: str, remedy: str
) -> None:
    """One thing wrong is one line that is not well, and the exit code is that of its grade."""
    found = list(of_machine(replace(MACHINE, **wrong)))  # type: ignore[arg-type]
    bad = worst(found)
    assert (bad.grade, exit_code(found)) == (grade, CODES[bad.grade])
    assert text in bad.text
    assert remedy in (bad.remedy or "")


def test_what_is_as_it_should_be_is_not_complained_of() -> None:
    """Newer packages, no limit, no record yet, and a clock that differs by a little."""
    newer = {name: f"{int(version.partition('.')[0]) + 1}.0" for name, version in FLOORS.items()}
    fine = replace(MACHINE, packages=newer, open_files=None, newest=None)
    assert exit_code(of_machine(fine)) == 0
    assert exit_code(of_machine(replace(MACHINE, newest=START + 59.0))) == 0
    assert exit_code(of_machine(replace(MACHINE, packages={**FLOORS, "rich": "14.0.1rc2"}))) == 0


def test_the_floors_are_those_of_the_package() -> None:
    """What `pip` would ask for is what `doctor` asks for, and the Pythons are those that the package names."""
    assert [f"{name}>={floor}" for name, floor in FLOORS.items()] == PROJECT["dependencies"]
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, OLDEST_PYTHON))}"
    assert f"Programming Language :: Python :: {'.'.join(map(str, NEWEST_PYTHON))}" in PROJECT["classifiers"]


def test_foreign_text_in_a_finding_stays_on_its_line_and_acts_on_nothing() -> None:
    """A path or a message may hold anything."""
    line = Finding("warning", "x\x1b[2J", "one\ntwo", "three\r\nfour").line()
    assert line == "warning  x\\u{1b}[2J: one two -> three four"


# --- the folder --------------------------------------------------------------------------------------------------


@pytest.mark.fault(16)
@pytest.mark.parametrize(
    ("wrong", "grade", "text"),
    [
        ({"trial": Trial(locked="a lock keeps nobody out")}, "problem", "kernel locks do not work there (a lock keeps"),
        ({"trial": Trial(synced="Input/output error")}, "problem", "a sync failed (Input/output error)"),
        ({"trial": Trial(seconds=1.5)}, "warning", "a sync took 1,500.0 ms, and every call waits for one"),
        ({"kind": "nfs4"}, "warning", "the file system is nfs4, on a network"),
        ({"kind": "cifs"}, "warning", "the file system is cifs, on a network"),
        ({"kind": "fuse.sshfs"}, "warning", "the file system is fuse.sshfs, run by a program"),
        ({"kind": "overlay"}, "warning", "the file system is overlay, a container's own layer"),
        ({"kind": "tmpfs"}, "warning", "the file system is tmpfs, kept in memory only"),
        ({"free_bytes": 15 * 1024 * 1024}, "problem", "15 MiB free"),
        ({"free_bytes": 200 * 1024 * 1024}, "warning", "200 MiB free"),
        ({"free_files": 99}, "problem", "room for 99 files"),
        ({"free_files": 4_999}, "warning", "room for 4,999 files"),
        ({"strays": tuple(map(Path, "abcde"))}, "warning", "5 temporary files left by a crash: a, b, c and 2 more"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_with_what_to_do(wrong: dict[str, object], grade: str, text: str) -> None:
    """Locks that lie and syncs that fail keep a run from beginning; the rest is worth knowing."""
    found = list(of_folder(replace(FOLDER, **wrong)))  # type: ignore[arg-type]
    bad = worst(found)
    assert (bad.grade, exit_code(found)) == (grade, CODES[bad.grade])
    assert text in bad.text
    assert bad.remedy


def test_a_folder_that_is_well_is_said_to_be() -> None:
    """Also where the file system counts no files, or the system does not tell its kind."""
    assert [finding.line() for finding in of_folder(FOLDER)] == [
        "ok       outputs: can be written and locked; a sync took 2.0 ms",
        "ok       outputs: the file system is ext4",
        "ok       outputs: 95,367 MiB free, room for 1,000,000 files",
    ]
    plain = list(of_folder(replace(FOLDER, kind=None, free_files=None, there=Path("/srv"))))
    assert [finding.grade for finding in plain] == ["ok", "ok"]
    assert plain[0].text.startswith("will be made in /srv; can be written")


def test_a_folder_that_cannot_be_written_is_the_only_thing_said_of_it() -> None:
    """Its space and its kind do not matter then."""
    [bad] = of_folder(replace(FOLDER, trial=Trial(written="Permission denied"), free_bytes=0))
    assert (bad.grade, bad.text) == ("problem", "cannot be written: Permission denied")


# --- the ledger --------------------------------------------------------------------------------------------------


def test_a_ledger_that_cannot_be_read_keeps_runs_from_beginning_and_a_slice_left_behind_does_not() -> None:
    """What the day counts is unknown in the one case, and more than was spent in the other."""
    path = Path("outputs/ledger.jsonl")
    assert [f.line() for f in of_ledger(LedgerFacts(path, lines=1))] == [
        "ok       outputs/ledger.jsonl: sound (1 line)"
    ]
    [bad] = of_ledger(LedgerFacts(path, "damaged at byte 7", "tertulia repair outputs/ledger.jsonl", lines=1))
    assert bad == Finding("problem", str(path), "damaged at byte 7", "tertulia repair outputs/ledger.jsonl")
    left = Entry("night/a@1.000", "2026-11-20", "UTC", 500_000_000, "drawn")
    sound, left_behind = of_ledger(LedgerFacts(path, lines=9, left=(left,)))
    assert (sound.grade, left_behind.grade) == ("ok", "warning")
    assert left_behind.text == "night/a was broken off, and counts all of the $0.5000 that it drew on 2026-11-20"


# --- a run -------------------------------------------------------------------------------------------------------

NAME = "talk/main"
DAMAGED = Scan(end=70, size=99, synced=5, last=3)


def facts(night: Night, **more: object) -> RunFacts:
    """What a simulated run has left on its disk."""
    disk = night.left()
    found = scan(disk, night.folder / FILE)
    reading = None if found.state.job is None else reading_of(disk, night.folder, found)
    return replace(RunFacts(NAME, night.folder, None, found, reading=reading), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def night() -> Night:
    """A small run that ended well."""
    one = Night(TALK, TALK_SIM)
    assert one.live().exit == 0
    return one


def test_a_run_some_of_which_stopped_early_is_complete_and_says_so() -> None:
    """A full window is nothing to mend, and no whole conversation."""
    small = {"price": {"input": 1, "output": 3}, "context": 600, "reply": {"mean": 40}}
    one = Night(TALK.replace("rounds: 2", "rounds: 9"), {"models": {"m": small, "n": small}})
    assert one.live().exit == 0
    last = [finding.line() for finding in of_run(facts(one))][-1]
    assert last == "ok       talk/main: complete: 3 conversations, 1 of them stopped early"


def test_a_run_that_ended_well_is_sound_and_complete(night: Night) -> None:
    """Two lines, and nothing to do."""
    assert [finding.line() for finding in of_run(facts(night))] == [
        f"ok       talk/main: the journal is sound ({len(night.records())} records)",
        "ok       talk/main: complete: 3 conversations",
    ]


@pytest.mark.parametrize(
    ("wrong", "grade", "text", "remedy"),
    [
        ({"up_to_date": False}, "warning", "its views are not up to date", "tertulia report outputs/talk/main"),
        ({"has_spare": False}, "warning", "set aside for a full disk is used up", "make room"),
        ({"found": None, "trouble": "no way in"}, "problem", "no way in", "tertulia verify outputs/talk/main"),
        ({"found": DAMAGED}, "problem", "damaged at byte 70 (record 4)", "tertulia repair outputs/talk/main"),
        ({"found": Scan(), "reading": None}, "warning", "it never began", "run its job again"),
    ],
)
def test_what_is_wrong_with_a_run_is_said_with_what_to_do(
    night: Night, wrong: dict[str, object], grade: str, text: str, remedy: str
) -> None:
    """A journal that cannot be relied upon comes first, and nothing is said on the strength of it."""
    bad = worst(list(of_run(facts(night, **wrong))))
    assert bad.grade == grade
    assert text in bad.text
    assert remedy in (bad.remedy or "")


def test_a_torn_line_is_worth_knowing_and_the_rest_is_told_all_the_same(night: Night) -> None:
    """Nothing was done on the strength of it."""
    disk = night.left()
    found = scan(disk, night.folder / FILE)
    torn = replace(found, size=found.size + 7)
    assert [finding.grade for finding in of_run(facts(night, found=torn))] == ["warning", "ok"]


def test_a_run_at_work_is_left_alone(night: Night) -> None:
    """Who holds it is said; what is unfinished or late about it is no news."""
    [only] = of_run(facts(night, holder="process 7 on north since today", up_to_date=False, has_spare=False))
    records = len(night.records())
    assert only.line() == f"ok       talk/main: at work: process 7 on north since today, {records} records so far"


def test_a_run_that_was_killed_is_unfinished_and_its_lost_calls_are_named() -> None:
    """The command that goes on is the remedy, and the money that is only assumed has its own."""
    night = killed_when(TALK, TALK_SIM, lambda state: state.run.reserved > 0)
    found = [finding for finding in of_run(facts(night)) if finding.grade != "ok"]
    assert [finding.grade for finding in found if "torn" not in finding.text] == ["warning", "warning"]
    broken, money = found[-2:]
    assert broken.text.startswith("broken off, ")
    assert (broken.remedy or "").startswith("tertulia run ")
    assert "calls is assumed" in money.text or "call is assumed" in money.text
    assert money.remedy == "tertulia settle outputs/talk/main"


def test_a_server_that_ignores_the_limit_is_named() -> None:
    """Its model, and what may be the matter."""
    sim = {"models": {"m": {**TALK_SIM["models"]["m"], "faults": [{"kind": "overrun"}]}, "n": TALK_SIM["models"]["n"]}}
    night = Night(TALK, sim)
    night.live()
    told = [finding for finding in of_run(facts(night)) if "ignores the output limit" in finding.text]
    assert [finding.text.partition(" ")[0] for finding in told] == ["ada"]
