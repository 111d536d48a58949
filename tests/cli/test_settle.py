"""`settle` as a shell calls it: what is assumed is listed, and lowered on evidence only."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path
from typing import Any

import pytest

from runner.events import Settled
from runner.journal import FILE, LOCK_FILE, decode, scan
from runner.ledger import FILE as LEDGER
from runner.ledger import Book
from runner.ledger import read as read_ledger
from runner.lines import split
from runner.money import dollars
from runner.render.figures import stamp
from runner.world import RealDisk
from tests.cli.folders import MODEL, killed_when, landed, tertulia
from tests.nights import Night

FAULTS = [{"kind": "cut", "request": [1]}, {"kind": "reset", "request": [2]}]
SIM: dict[str, Any] = {"models": {"m": {**MODEL, "faults": FAULTS}, "n": MODEL}}
JOB = """
name: talk
budget: {run: 0.50, day: 2.00, month: 10}
defaults: {max_tokens: 500, outcomes: {lost: {retry: 3}, error: {retry: 3}}}
providers: {sim: {sim: {models: {m: {latency: {first: 0}}, n: {latency: {first: 0}}}}}}
models:
  ada: {use: sim/m, label: Ada, price: {input: 1, output: 3}}
  bo: {use: sim/n, label: Bo, price: {input: 2, output: 5}}
prompts:
  memory: {opening: "What survives?", rounds: 2}
  letter: {roles: {a: {script: ["Dear friend"]}, b: {}}}
pairings:
  - {prompt: memory, a: ada, b: bo}
  - {prompt: letter, b: [ada, bo]}
"""
FIRST, SECOND = "memory/ada~bo#1.1", "memory/ada~bo#1.2"
EACH = 1_578_000
"""What is reserved for each of them."""


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of which two calls were cut, one of them after the provider had given it an id."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    night = Night(JOB, SIM)
    assert night.live().exit == 0
    landed(night, tmp_path / "outputs")
    return tmp_path / "outputs"


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, killed while the second of them was in flight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    night = killed_when(JOB, SIM, lambda state: [call.sent.attempt for call in state.open_calls()] == [2])
    landed(night, tmp_path / "outputs")
    return tmp_path / "outputs"


def generation(outputs: Path) -> str:
    """The provider's id of the first of them."""
    state = scan(RealDisk(), outputs / "talk/main" / FILE).state
    [known] = [one.generation for one in state.unsettled.values() if one.generation]
    return known


def settled(outputs: Path) -> list[Settled]:
    path = outputs / "talk/main" / FILE
    found = [decode(line, offset) for offset, line, _ in split(RealDisk(), path)]
    return [record.event for record in found if record is not None and isinstance(record.event, Settled)]


def counted(outputs: Path) -> tuple[int, int]:
    """What the journal and what the ledger count as spent."""
    held = scan(RealDisk(), outputs / "talk/main" / FILE).state.run.held
    return held, Book(read_ledger(RealDisk(), outputs / LEDGER).entries).total("2026-11", play=True)


def everything(folder: Path) -> dict[str, bytes]:
    """All bytes but those of locks, which name the last who held them."""
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*.*"))
        if path.suffix != ".lock" and path.is_file()
    }


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


# --- the list --------------------------------------------------------------------------------------------------------


def test_without_options_the_calls_are_listed_and_nothing_is_touched(outputs: Path) -> None:
    """Name, model, when, how much, the provider's id, why; and what to do."""
    before = everything(outputs)
    unsettled = scan(RealDisk(), outputs / "talk/main" / FILE).state.unsettled
    first, second = (stamp(known.at) for known in unsettled.values())
    said = tertulia("settle", "talk")
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "talk/main: nobody knows what 2 calls cost, counted at $0.003156",
        "  CALL               MODEL  SENT                     COUNTS  GENERATION          WHY",
        f"  {FIRST}  sim/m  {first}  $0.001578  {generation(outputs)}  connection reset by the server",
        f"  {SECOND}  sim/m  {second}  $0.001578  -                   connection reset by the server",
        "  tertulia settle talk/main --from FILE, or --call CALL --cost DOLLARS, or --all --cost 0",
    ]
    assert everything(outputs) == before


@pytest.mark.parametrize("command", ["settle", "spend", "doctor"])
def test_what_is_offered_can_be_copied_into_a_shell(outputs: Path, command: str) -> None:
    """From another folder than the usual one, whatever it is called: the run is named by its folder then."""
    outputs.rename("my runs")
    said = tertulia(command, *(["my runs/talk/main"] if command == "settle" else ["--outputs", "my runs"]))
    [offered] = [line.partition("tertulia settle ")[2] for line in said.out.splitlines() if "tertulia settle " in line]
    run = shlex.split(offered)[0]
    assert tertulia("settle", run).out.startswith("talk/main: nobody knows what 2 calls cost")


def test_calls_that_were_in_flight_when_the_run_was_killed_are_on_the_list(broken: Path) -> None:
    """They are lost, whether or not the run has been gone on with."""
    said = tertulia("settle", "talk")
    assert f"{SECOND}  sim/m" in said.out
    assert "in flight when the run broke off" in said.out


def test_of_a_run_at_work_what_flies_is_not_lost_and_nothing_is_settled(broken: Path) -> None:
    """Exit 7 says who holds it; to look costs nothing."""
    lock = RealDisk().lock(broken / "talk/main" / LOCK_FILE, '{"pid": 7, "host": "north", "since": "today"}')
    before = everything(broken)
    try:
        seen = tertulia("settle", "talk")
        said = tertulia("settle", "talk", "--all", "--cost", "0")
    finally:
        lock.release()
    assert (seen.code, said.code) == (0, 7)
    assert "what 1 call cost" in seen.out
    assert "talk/main is at work (process 7 on north since today)" in seen.err
    assert "held by process 7 on north since today; its calls can be settled when it has ended" in said.err
    assert everything(broken) == before


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_a_call_is_settled_by_hand_in_journal_ledger_and_views(outputs: Path) -> None:
    """Before and after are printed, the evidence is kept in the user's words, and the run verifies."""
    held = counted(outputs)
    assert held[0] == held[1]
    said = tertulia("settle", "talk", "--call", FIRST, "--cost", "0.0004", "--because", "the invoice of November")
    assert (said.code, said.err) == (0, "")
    before, after = held[0], held[0] - EACH + 400_000
    assert said.out.splitlines() == [
        "talk/main: 1 call settled",
        f"  {FIRST}: $0.001578 -> $0.0004 (the invoice of November)",
        f"  before: ${dollars(before)} spent, of it $0.003156 assumed for 2 calls",
        f"  after:  ${dollars(after)} spent, of it $0.001578 assumed for 1 call",
    ]
    assert [(one.turn, one.attempt, one.cost, one.evidence) for one in settled(outputs)] == [
        (1, 1, 400_000, "the invoice of November")
    ]
    assert counted(outputs) == (after, after)
    assert tertulia("verify", "talk").code == 0
    assert SECOND in tertulia("settle", "talk").out
    assert FIRST not in tertulia("settle", "talk").out


def test_all_calls_were_not_billed(broken: Path) -> None:
    """`--all --cost 0` leaves what is known, also after a crash; the same run goes on and verifies in the end."""
    said = tertulia("settle", "talk", "--all", "--cost", "0")
    assert said.code == 0
    assert f"{FIRST}: $0.001578 -> $0.0000 (by hand)" in said.out
    assert f"{SECOND}: $0.001578 -> $0.0000 (by hand)" in said.out
    assert tertulia("settle", "talk").out == "talk/main: no cost is assumed\n"
    assert counted(broken)[0] == counted(broken)[1]
    assert tertulia("verify", "talk").code == 0
    again = tertulia("settle", "talk", "--all", "--cost", "0")
    assert (again.code, again.err) == (0, "talk/main: no cost is assumed\n")
    assert tertulia("run", write("talk.yaml", JOB)).code == 0
    assert tertulia("verify", "talk").code == 0
    assert counted(broken)[0] == counted(broken)[1]


def test_more_than_was_reserved_is_the_truth_and_is_warned_of(outputs: Path) -> None:
    """The figure counts where it is meant; that it could be is the news."""
    said = tertulia("settle", "talk", "--call", FIRST, "--cost", "0.5", "--above-reservation")
    assert said.code == 0
    assert f"warning: {FIRST} cost more than the $0.001578 reserved for it" in said.err
    assert counted(outputs) == (counted(outputs)[1], counted(outputs)[0])
    assert counted(outputs)[0] > 500_000_000
    assert tertulia("verify", "talk").code == 0


def test_more_than_was_reserved_is_refused_as_a_slip_with_the_figures_and_the_flag(outputs: Path) -> None:
    """By hand, for all and from a file, also when it is only tried out; not a byte is changed."""
    usage = write("usage.csv", f"id,cost\n{generation(outputs)},7\n")
    before = everything(outputs)
    ways = (["--call", FIRST, "--cost", "7"], ["--all", "--cost", "7"], ["--from", usage])
    for way in [*ways, *([*way, "--dry-run"] for way in ways)]:
        said = tertulia("settle", "talk", *way)
        assert said.code == 2
        assert "add --above-reservation:" in said.err
        assert f"  {FIRST}: $7.0000, with $0.001578 reserved" in said.err
        assert everything(outputs) == before


def test_a_call_that_was_settled_wrongly_is_settled_again_and_the_last_word_counts(outputs: Path) -> None:
    """In journal, ledger and views, up and down; `--all` and files leave alone what is settled."""
    held = counted(outputs)[0]
    assert tertulia("settle", "talk", "--call", FIRST, "--cost", "7", "--above-reservation").code == 0
    assert counted(outputs) == (held - EACH + 7 * 10**9,) * 2
    assert "more than was reserved" in tertulia("doctor").out
    said = tertulia("settle", "talk", "--call", FIRST, "--cost", "0.0007", "--because", "it was a slip")
    assert (said.code, said.err) == (0, "")
    assert f"  {FIRST}: $7.0000 -> $0.0007 (it was a slip)" in said.out
    assert counted(outputs) == (held - EACH + 700_000,) * 2
    assert "more than was reserved" not in tertulia("doctor").out
    assert tertulia("settle", "talk", "--all", "--cost", "0").code == 0
    assert [(one.attempt, one.cost) for one in settled(outputs)] == [(1, 7 * 10**9), (1, 700_000), (2, 0)]
    assert counted(outputs) == (held - 2 * EACH + 700_000,) * 2
    assert tertulia("verify", "talk").code == 0


def test_a_dry_run_says_what_would_be_and_changes_no_byte(outputs: Path) -> None:
    """Also from a file."""
    before = everything(outputs)
    said = tertulia("settle", "talk", "--all", "--cost", "0.001", "--dry-run")
    assert said.code == 0
    assert said.out.startswith("talk/main: 2 calls would be settled\n")
    write("usage.csv", f"id,cost\n{generation(outputs)},0.0005\n")
    said = tertulia("settle", "talk", "--from", "usage.csv", "--dry-run")
    assert f"{FIRST}: $0.001578 -> $0.0005 (usage.csv, line 2)" in said.out
    assert everything(outputs) == before


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--call", FIRST], "--cost says what they were billed"),
        (["--all"], "--cost says what they were billed"),
        (["--cost", "1"], "--cost belongs to --call or --all"),
        (["--all", "--call", FIRST, "--cost", "1"], "exclude each other"),
        (["--from", "x.csv", "--all", "--cost", "1"], "exclude each other"),
        (["--from", "x.csv", "--cost", "1"], "--cost belongs to --call or --all"),
        (["--because", "x"], ", --because and --dry-run belong to"),
        (["--dry-run"], ", --because and --dry-run belong to"),
        (["--above-reservation"], "--above-reservation, --because and"),
        (["--all", "--cost", "-1"], "is negative"),
        (["--all", "--cost", "a lot"], "is not a number"),
        (
            ["--call", "memory/ada~bo#7.1", "--cost", "1"],
            f"or there is no such call. These were:\n  {FIRST}\n  {SECOND}",
        ),
        (["--call", "memory/ada~bo#1", "--cost", "1"], f"may mean several calls:\n  {FIRST}\n  {SECOND}"),
        (["--call", FIRST, "--call", "nothing", "--cost", "1"], "or there is no such call"),
        (["--from", "none.csv"], "none.csv: there is no such file"),
    ],
)
def test_a_mistake_is_exit_2_and_changes_nothing(outputs: Path, options: list[str], text: str) -> None:
    """A wrong call beside a right one, too."""
    before = everything(outputs)
    said = tertulia("settle", "talk", *options)
    assert said.code == 2
    assert text in said.err
    assert said.out == ""
    assert everything(outputs) == before


# --- from a file -----------------------------------------------------------------------------------------------------


def test_a_usage_file_settles_the_calls_that_it_knows(outputs: Path) -> None:
    """By the provider's id, and by place; what it does not know stays assumed, and other rows are passed over."""
    usage = write("usage.csv", f"generation_id,model,cost\ng-other,x,9\n{generation(outputs)},m,0.000123\n")
    said = tertulia("settle", "talk", "--from", usage, "--because", "export of the 22nd")
    assert said.code == 0
    assert f"{FIRST}: $0.001578 -> $0.000123 (usage.csv, line 3: export of the 22nd)" in said.out
    assert said.err == f"1 of 2 rows are of other calls: line 2\nstill assumed: {SECOND}\n"
    lines = write("usage.jsonl", '{"cell": "memory/ada~bo", "turn": 1, "attempt": 2, "usage": 0.0001}\n')
    assert tertulia("settle", "talk", "--from", lines).code == 0
    assert [one.cost for one in settled(outputs)] == [123_000, 100_000]
    assert [one.evidence for one in settled(outputs)] == [
        "usage.csv, line 3: export of the 22nd",
        "usage.jsonl, line 1",
    ]
    assert tertulia("verify", "talk").code == 0


def test_the_same_file_again_settles_nothing_more(outputs: Path) -> None:
    """What is settled is not assumed any more; exit 3 says that no row was of use."""
    usage = write("usage.csv", f"id,cost\n{generation(outputs)},0.0001\n")
    assert tertulia("settle", "talk", "--from", usage).code == 0
    before = everything(outputs)
    said = tertulia("settle", "talk", "--from", usage)
    assert said.code == 3
    assert "1 of 1 rows are of other calls: line 2" in said.err
    assert everything(outputs) == before


def test_an_ambiguous_row_is_told_and_the_others_are_settled_all_the_same(outputs: Path) -> None:
    """Exit 3: not all that was asked for could be done."""
    known = generation(outputs)
    usage = write("usage.csv", f"id,cell,turn,attempt,cost\n{known},,,,1\n{known},,,,2\n,memory/ada~bo,1,2,0\n")
    said = tertulia("settle", "talk", "--from", usage)
    assert said.code == 3
    assert f"not settled: lines 2 and 3 all speak of {FIRST}" in said.err
    assert [(one.attempt, one.cost) for one in settled(outputs)] == [(2, 0)]


def test_a_bad_file_is_told_line_by_line_and_nothing_is_settled(outputs: Path) -> None:
    """Also not what its good lines say."""
    usage = write("usage.csv", f"id,cost\n{generation(outputs)},0.0001\ng-2,free\ng-3\n")
    before = everything(outputs)
    said = tertulia("settle", "talk", "--from", usage)
    assert said.code == 2
    assert said.err.splitlines() == [
        "usage.csv:3: `cost` is not an amount in dollars: 'free' is not a number",
        "usage.csv:4: it has 1 fields, and the header has 2",
        "2 mistakes; nothing was changed",
    ]
    assert everything(outputs) == before
    many = write("many.csv", "id,cost\n" + "g,x\n" * 50)
    said = tertulia("settle", "talk", "--from", many)
    assert said.err.splitlines()[-2:] == ["... and 30 more", "50 mistakes; nothing was changed"]


def test_what_a_file_says_cannot_act_on_the_terminal(outputs: Path) -> None:
    """Neither its name nor its texts."""
    usage = write("\x1b[2J.csv", "id,cost\ng,\x1b[31m\n")
    said = tertulia("settle", "talk", "--from", usage)
    assert said.code == 2
    assert "\x1b" not in said.err
    good = write("\x1b[3J.csv", f"id,cost\n{generation(outputs)},0.0001\n")
    said = tertulia("settle", "talk", "--from", good, "--because", "\x1b[2J\nyes")
    assert (said.code, "\x1b" in said.out) == (0, False)
    assert len(settled(outputs)) == 1


# --- trouble with the disk -------------------------------------------------------------------------------------------


def test_a_damaged_journal_is_refused(outputs: Path) -> None:
    """The money behind it is unknown until it is repaired."""
    journal = outputs / "talk/main" / FILE
    journal.write_bytes(journal.read_bytes().replace(b"Dear", b"Bear"))
    for options in ([], ["--all", "--cost", "0"], ["--all", "--cost", "0", "--dry-run"]):
        said = tertulia("settle", "talk", *options)
        assert said.code == 8
        assert "damaged at byte" in said.err


def test_a_damaged_ledger_does_not_undo_what_the_journal_has(outputs: Path) -> None:
    """Exit 8, and it says when the day will count it."""
    (outputs / LEDGER).write_bytes(b"?\n" + (outputs / LEDGER).read_bytes())
    said = tertulia("settle", "talk", "--all", "--cost", "0")
    assert said.code == 8
    assert "the day counts what was settled as soon as the run is run again" in said.err
    assert len(settled(outputs)) == 2


def test_a_disk_that_keeps_nothing_settles_nothing(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 8, and nothing is claimed."""

    def fails(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("runner.world._sync", fails)
    said = tertulia("settle", "talk", "--all", "--cost", "0")
    assert said.code == 8
    assert "settled" not in said.out
    assert "Input/output error" in said.err


def test_views_that_cannot_be_written_leave_the_money_settled(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They can be written at any time."""

    async def fails(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("runner.cli.keep.write_views", fails)
    said = tertulia("settle", "talk", "--all", "--cost", "0")
    assert said.code == 8
    assert "what was settled is kept: tertulia report" in said.err
    assert len(settled(outputs)) == 2
    monkeypatch.undo()
    monkeypatch.chdir(outputs.parent)
    assert tertulia("report", "talk").code == 0
    assert tertulia("verify", "talk").code == 0
