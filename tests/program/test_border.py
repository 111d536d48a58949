"""Faults where the command meets the operating system: dead, or refused, at the n-th write or sync of its journal.

Each test is one run that meets one fault after another, a life for each. After every life the money covers the bill, no
turn was bought twice, and what the process said is what became of its answers; the last one finds everything.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from runner.journal import FILE
from tests.program.bench import Attempt, Bench, Lasts, Trap, a_bench, is_bounded, is_whole, names, texts, until

pytestmark = pytest.mark.timeout(900)

AT_ONCE = 3
FREED: Lasts = "until something is removed"
REPLY = '"kind":"replied"'
FULL = "No space left on device"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Eighteen conversations of eight turns, three at once: at least 48 writes of the journal, each with its sync."""
    unlucky = {"lost": {"retry": 100}}
    with a_bench(tmp_path, limits={"concurrency": AT_ONCE}, repeat=3, rounds=4, outcomes=unlucky) as made:
        yield made


def goes_on(bench: Bench, lost: set[Attempt]) -> None:
    """The same command, with nothing in its way, finishes."""
    code, process = bench.done()
    assert code == 0, process.said
    is_whole(bench, len(lost))


# --- killed ----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(1)
@pytest.mark.prove
def test_kills_at_writes_and_syncs_lose_at_most_the_calls_in_flight(bench: Bench) -> None:
    """Before the bytes are down, when half of them are, when all are: the same command goes on, nothing is missing."""
    lost: set[Attempt] = set()
    for trap in (
        Trap("write", 1, "kill half-way"),
        Trap("write", 2, "kill"),
        Trap("sync", 2, "kill"),
        Trap("write", 3, "kill half-way", holding=REPLY),
        Trap("sync", 9, "kill after"),
        Trap("write", 11, "kill half-way"),
        Trap("write", 2, "kill", "status.json"),
    ):
        code, process = bench.done(traps=[trap])
        assert code == -signal.SIGKILL and process.sprung == [trap.what], (trap, process.said)
        lost |= is_bounded(bench, AT_ONCE)
    goes_on(bench, lost)


# --- refused ---------------------------------------------------------------------------------------------------------


class Life:
    """One process that meets a fault, and the answers that came while it lived."""

    def __init__(self, bench: Bench, traps: list[Trap]) -> None:
        self.bench = bench
        self.heard_before = len(bench.engine.received)
        self.code, self.process = bench.done(traps=traps)
        assert len(self.process.sprung) == len(traps), (traps, self.process.said)
        # What the process has heard to its end, the provider may note a moment later.
        until(lambda: all(received.ended != "open" for received in bench.engine.received))

    def is_stopped(self, error: str) -> set[Attempt]:
        """The night ended for its journal's sake and said so; the attempts of which nobody knows what became."""
        said = self.process.said
        assert self.code == 8, said
        assert f"job/main/journal.jsonl: {error}; nothing more was sent\n" in said
        assert "exit 8: storage" in said and "goes on with: tertulia run job.yaml" in said
        assert "Traceback" not in said
        # Of a write that stops half-way the whole lines may stand in the file: not relied upon now, found next time.
        assert self.unheard <= self.not_kept <= self.answered
        spent = re.findall(r"\$([\d.]+) spent of ", said)[-1]
        assert round(float(spent) * 1e9) == self.bench.counted, "the last line says what the journal says"
        return is_bounded(self.bench, AT_ONCE)

    @property
    def not_kept(self) -> set[tuple[str, int]]:
        """The answers that it said it could not keep: conversation by name, turn."""
        said = self.process.said
        found = re.findall(r"^  not kept: turn (\d+) of (\S+), the reply, \$[\d.]+$", said, re.MULTILINE)
        assert len(found) == said.count("not kept: ")
        assert bool(found) != ("every answer that came was kept" in said)
        return {(name, int(turn)) for turn, name in found}

    @property
    def answered(self) -> set[tuple[str, int]]:
        """The answers that the provider gave to it."""
        asked = {sent.request: (names(self.bench)[sent.cell], sent.turn) for sent in self.bench.sents()}
        came = self.bench.engine.received[self.heard_before :]
        return {asked[received.sha256] for received in came if received.ended == "finished"}

    @property
    def unheard(self) -> set[tuple[str, int]]:
        """Those of them that the journal does not have."""
        return self.answered - {(names(self.bench)[cell], turn) for cell, turn in texts(self.bench.records())}


@pytest.mark.fault(20)
@pytest.mark.prove
def test_a_sync_that_fails_stops_the_run_and_is_never_tried_again(bench: Bench) -> None:
    """Nothing is sent any more, each answer that is in doubt is named, and the next start takes what is there."""
    lost: set[Attempt] = set()
    for number in (3, 8, 11):
        life = Life(bench, [Trap("sync", number, "EIO")])
        lost |= life.is_stopped("Input/output error")
        assert life.process.calls("sync") == number
    goes_on(bench, lost)


@pytest.mark.fault(17, 19)
@pytest.mark.prove
def test_a_full_disk_stops_the_run_and_the_space_set_aside_keeps_what_is_in_flight(bench: Bench) -> None:
    """A write stops half-way: its lines are cut, the spare file gives its room, each answer is kept."""
    for number, error, words in ((2, "ENOSPC", FULL), (6, "EDQUOT", "Disk quota exceeded"), (11, "ENOSPC", FULL)):
        life = Life(bench, [Trap("write", number, error, lasts=FREED)])
        assert life.is_stopped(words) == set()
        assert life.not_kept == life.unheard == set()
        assert not (bench.folder / "spare").exists()
    goes_on(bench, set())


@pytest.mark.fault(17, 19)
@pytest.mark.prove
def test_a_disk_that_takes_nothing_any_more_is_told_with_each_answer_that_is_lost(bench: Bench) -> None:
    """Full although the spare file is gone, remounted read-only, broken: exactly what could not be kept is named."""
    lost: set[Attempt] = set()
    for number, error, words, holding in (
        (2, "ENOSPC", FULL, ""),
        (4, "ENOSPC", FULL, REPLY),
        (2, "EROFS", "Read-only file system", REPLY),
        (5, "EIO", "Input/output error", REPLY),
    ):
        life = Life(bench, [Trap("write", number, error, holding=holding, lasts="for good")])
        lost |= life.is_stopped(words)
        assert life.not_kept or not holding
    # The kernel's own limit on the size of a file, met in the middle of a line.
    life = Life(bench, [Trap("write", 5, "limit the file", holding=REPLY)])
    lost |= life.is_stopped("File too large")
    assert not bench.journal().endswith(b"\n")
    goes_on(bench, lost)
    assert "were torn by a crash; they were moved to journal.torn-" in bench.processes[-1].said


@pytest.mark.fault(19)
@pytest.mark.prove
def test_a_folder_that_may_not_be_written_is_told_before_anything_is_sent(bench: Bench) -> None:
    """Its own, its lock, its journal: exit 8 with the reason, no request, and the run begins when it may."""
    for trap, words in (
        (Trap("make", 1, "EACCES", None), "Permission denied"),
        (Trap("open", 1, "EACCES", "run.lock"), "Permission denied"),
        (Trap("open", 1, "EROFS"), "Read-only file system"),
    ):
        life = Life(bench, [trap])
        assert life.code == 8 and words in life.process.said and "Traceback" not in life.process.said
        assert bench.engine.received == []
    goes_on(bench, set())


# --- from outside ----------------------------------------------------------------------------------------------------


@cache
def _cannot_trace() -> str:
    """Why no process can be traced here; nothing when one can."""
    try:
        tried = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{error.filename}: {error.strerror}"
    return tried.stderr.strip() if tried.returncode else ""


@pytest.mark.fault(1, 17, 20)
@pytest.mark.prove
def test_the_kernel_s_own_faults_end_as_those_of_the_traps_do(bench: Bench) -> None:
    """Put into the system calls from outside, by strace: what the traps of the other tests pretend is what happens."""
    if why := _cannot_trace():
        pytest.skip(f"no faults put in by strace: {why}; the other tests of this file show the same without it")
    lost: set[Attempt] = set()
    for call, fault, words in (
        ("write", "signal=SIGKILL", ""),
        ("fdatasync", "error=EIO", "Input/output error"),
        ("write", "error=ENOSPC", FULL),
    ):
        seen = bench.home / "strace.txt"
        only = ["-f", "-qq", "-o", str(seen), "-P", str(bench.folder / FILE), "-e", f"trace={call}"]
        bench.within = ("strace", *only, "-e", f"inject={call}:{fault}:when=3")
        life = Life(bench, [])
        if words:
            assert "(INJECTED)" in seen.read_text()
            lost |= life.is_stopped(words)
        else:
            assert life.code == -signal.SIGKILL and "killed by SIGKILL" in seen.read_text()
            lost |= is_bounded(bench, AT_ONCE)
    bench.within = ()
    goes_on(bench, lost)
