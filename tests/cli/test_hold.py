"""`run` and `stop` as processes: signals, closed ends, and what programs read."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import click
import pytest
from click.testing import CliRunner

import runner.world
from runner.cli import tertulia
from runner.cli.hold import Held, _stopping
from runner.cli.outlet import JsonLines, Outlet
from runner.cli.runs import me
from runner.outputs import Reading, read
from runner.progress import end_data
from runner.render.figures import stamp
from runner.world import RealDisk

ROOT = Path(__file__).parents[2]
PATIENCE = 100.0
"""Only a process that hangs takes so long."""

JOB = """
name: {name}
budget: 0.50
defaults: {{max_tokens: 60}}
providers: {{sim: {{limits: {{concurrency: 4}}, sim: {{models: {{ada: {habits}, bob: {habits}}}}}}}}}
models: {{ada: {{use: sim/ada}}, bob: {{use: sim/bob}}}}
prompts: {{p: {{opening: "Hello?", rounds: {rounds}}}}}
pairings: [{{a: ada, b: bob, repeat: 3}}]
"""


@dataclass(slots=True)
class Workshop:
    """A folder to run in, and the processes that were started there."""

    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def job(self, name: str = "toy", rounds: int = 2, seconds: float = 0.0) -> Path:
        path = self.folder / f"{name}.yaml"
        habits = f"{{price: {{input: 1, output: 5}}, latency: {{first: {seconds}s}}, reply: {{mean: 15}}}}"
        path.write_text(JOB.format(name=name, rounds=rounds, habits=habits))
        return path

    def start(self, *args: str | Path, **given: Any) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("TERTULIA", "CI"))}
        environ |= {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
        given = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **given}
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", *map(str, args)], cwd=self.folder, env=environ, text=True, **given
        )
        self.running.append(process)
        return process

    def done(self, *args: str | Path) -> tuple[int, str, str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, out, err

    def log(self, name: str = "toy") -> str:
        path = self.folder / "outputs" / name / "main" / "log.txt"
        return path.read_text() if path.exists() else ""

    def journal(self, name: str = "toy") -> str:
        path = self.folder / "outputs" / name / "main" / "journal.jsonl"
        return path.read_text() if path.exists() else ""

    def reading(self, name: str = "toy") -> Reading:
        return read(self.folder / "outputs" / name / "main", RealDisk())

    def status(self, name: str = "toy") -> dict[str, Any]:
        found = json.loads((self.folder / "outputs" / name / "main" / "status.json").read_text())
        assert isinstance(found, dict)
        return found


def until(holds: Callable[[], object]) -> None:
    """Wait for something that surely comes."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    for process in made.running:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def ignoring_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# --- signals ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault(2, 7)
@pytest.mark.parametrize(
    "ignored",
    [pytest.param(False, id="from-a-shell"), pytest.param(True, id="under-nohup", marks=pytest.mark.prove)],
)
def test_the_first_interrupt_lets_calls_in_flight_land(workshop: Workshop, ignored: bool) -> None:
    """Exit 130, nothing lost, and the same command goes on; also where the parent had switched interrupts off."""
    job = workshop.job(rounds=8, seconds=0.5)  # all 48 turns take far longer than any machine stands still
    process = workshop.start("run", job, preexec_fn=ignoring_interrupts if ignored else None)
    until(lambda: '"kind":"sent"' in workshop.journal())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert re.search(r"stopping: (1 call|[2-4] calls) in flight, \$0\.", err)
    assert "exit 130: interrupted" in err
    assert f"what is missing goes on with: tertulia run {job}" in err
    assert workshop.reading().state.run.assumed == 0
    landed = workshop.status()["turns"]
    assert landed == workshop.status()["calls"] == workshop.journal().count('"kind":"sent"') > 0
    code, _, err = workshop.done("run", workshop.job(rounds=8))
    assert code == 0
    assert f"goes on (life 2), 3 of 3 conversations to hold, {48 - landed} calls" in err
    assert workshop.status()["turns"] == workshop.status()["calls"] == 48


@pytest.mark.fault(3)
def test_the_second_interrupt_leaves_at_once_and_the_journal_is_sound(workshop: Workshop) -> None:
    """Calls in flight are left and count as spent; the life is closed and can be gone on with."""
    process = workshop.start("run", workshop.job(seconds=600))
    until(lambda: '"kind":"sent"' in workshop.journal())
    process.send_signal(signal.SIGINT)
    until(lambda: "stopping: " in workshop.log())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "assumed for 1 call); exit 130: interrupted" in err
    state = workshop.reading().state
    assert not state.is_open
    assert state.run.reserved == 0
    assert state.run.assumed == state.run.settled > 0


@pytest.mark.fault(5)
def test_a_request_to_terminate_has_its_grace(workshop: Workshop) -> None:
    """SIGTERM drains, leaves what is still in flight when the grace is over, and exits 143."""
    process = workshop.start("run", workshop.job(seconds=600), "--grace", "300ms")
    until(lambda: '"kind":"sent"' in workshop.journal())
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert "exit 143: interrupted" in err
    assert workshop.status()["spent"]["reserved"] == 0.0


@pytest.mark.fault(4)
def test_a_third_request_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """When two were not enough, nothing is asked any more."""

    class Ended(Exception):
        pass

    def leave(code: int) -> None:
        raise Ended(code)

    async def three() -> Any:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            yield number

    async def listen() -> None:
        async for number in runner.world._until_the_third(three()):
            heard.append(number)

    heard: list[int] = []
    monkeypatch.setattr("os._exit", leave)
    with pytest.raises(Ended, match="130"):
        anyio.run(listen)
    assert heard == [2, 15]


@pytest.mark.fault(6)
@pytest.mark.prove
def test_a_closed_terminal_takes_the_display_and_not_the_night(workshop: Workshop) -> None:
    """The run that was started in a window goes on when the window is closed, and says in its log how it went."""
    ours, theirs = pty.openpty()

    def its_terminal() -> None:
        os.setsid()
        fcntl.ioctl(theirs, 0x540E if sys.platform == "linux" else 0x20007461, 0)

    process = workshop.start(
        "run", workshop.job(seconds=0.3), stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=its_terminal
    )
    os.close(theirs)
    until(lambda: '"kind":"sent"' in workshop.journal())
    assert os.read(ours, 64)
    os.close(ours)  # the kernel sends SIGHUP, and every further write fails
    assert process.wait(PATIENCE) == 0
    assert workshop.status()["conversations"]["complete"] == 3
    assert workshop.log().count("exit 0\n") == 1


@pytest.mark.prove
def test_a_terminal_is_left_as_it_was(workshop: Workshop) -> None:
    """The table goes, the last lines stay, and the cursor is to be seen."""
    ours, theirs = pty.openpty()
    process = workshop.start("run", workshop.job(seconds=0.2), stderr=theirs, stdout=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(ours)
    assert process.wait(PATIENCE) == 0
    # Not only at the end: a process that is killed gives nothing back.
    assert b"\x1b[?25l" not in shown[shown.index(b"\x1b[?25h") : shown.index(b"in flight")]
    assert shown.index(b"\x1b[?25h") < shown.index(b"in flight")
    assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
    assert b"\x1b" not in shown[shown.rfind(b"toy/main: 3 of 3 complete") :]
    assert b"\x07" not in shown


@pytest.mark.fault(6)
@pytest.mark.parametrize("end", ["stdout", "stderr", "neither"])
def test_whoever_stops_reading_does_not_stop_the_night(workshop: Workshop, end: str) -> None:
    """A pipe whose reader has left, or no stream at all, changes neither the run nor its exit code."""
    job = workshop.job()
    reader, writer = os.pipe()
    os.close(reader)
    if end == "neither":
        process = workshop.start("run", job, "--json", stdout=None, stderr=None, preexec_fn=lambda: os.closerange(1, 3))
    else:
        process = workshop.start("run", job, "--json", **{end: writer})
    os.close(writer)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert workshop.status()["conversations"]["complete"] == 3


@pytest.mark.fault(6)
def test_whoever_does_not_read_does_not_stop_the_night(workshop: Workshop) -> None:
    """A pipe that is full makes nobody wait but the last lines, and they come when it is read."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"x" * 4096):
            pass
    os.set_blocking(writer, True)
    process = workshop.start("run", workshop.job(), stderr=writer)
    os.close(writer)
    until(lambda: '"kind":"closed"' in workshop.journal())
    shown = b""
    while piece := os.read(reader, 65536):
        shown += piece
    os.close(reader)
    assert process.wait(PATIENCE) == 0
    assert b"toy/main: 3 of 3 complete, 0 failed" in shown


def test_who_writes_after_the_reader_has_left_meets_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a stream is known to lead nowhere, nobody else in the process stumbles over it."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        outlet = Outlet("stderr")
        outlet.write("one\n")
        outlet.flush()
        outlet.write("two\n")
        outlet.close()
        assert sys.stderr is not stream
        print("three", file=sys.stderr, flush=True)
        sys.stderr.close()
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def test_a_night_that_cannot_begin_keeps_its_exit_code_when_nobody_listens(workshop: Workshop) -> None:
    """The lines that say why are lost with their reader; the code is not."""
    reader, writer = os.pipe()
    os.close(reader)
    process = workshop.start("run", "missing.yaml", stderr=writer)
    os.close(writer)
    assert process.wait(PATIENCE) == 2


# --- for programs -----------------------------------------------------------------------------------------------------


def events(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_programs_read_one_object_a_line_and_one_end(workshop: Workshop) -> None:
    """stdout has the events, stderr the lines for people; the end equals `status.json`, also when nothing was to do."""
    job = workshop.job()
    code, out, err = workshop.done("run", job, "--json")
    assert code == 0
    found = events(out)
    assert [one["event"] for one in found] == ["begun", *["conversation"] * 3, "end"]
    assert "\x1b" not in out + err
    status = workshop.status()
    (run,) = found[-1]["runs"]
    assert {k: v for k, v in run.items() if k != "folder"} == {k: v for k, v in status.items() if k in run}
    code, out, err = workshop.done("run", job, "--json")
    assert code == 0
    (end,) = events(out)
    assert end["runs"] == [run]
    assert "0 calls" in err


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["missing.yaml"], 2, "missing.yaml"),
        (["toy.yaml", "--new", "--continue"], 2, "exclude each other"),
        (["toy.yaml", "--budget", "much"], 2, "--budget"),
        (["toy.yaml", "--only", "nothing"], 2, "names no conversation"),
    ],
)
def test_a_night_that_cannot_begin_has_an_end_with_its_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], code: int, error: str
) -> None:
    """Exactly one `end`, with the exit code and the lines that people read on stderr."""
    Workshop(tmp_path).job()
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(tertulia, ["run", *args, "--json"], standalone_mode=False)
    (end,) = events(result.stdout)
    assert (end["event"], end["exit"], end["runs"]) == ("end", code, [])
    assert error in "\n".join(end["errors"])


@pytest.mark.fault(13)
def test_a_run_that_is_held_ends_with_seven(workshop: Workshop) -> None:
    """Programs read who holds it."""
    job = workshop.job()
    folder = workshop.folder / "outputs" / "toy" / "main"
    folder.mkdir(parents=True)
    lock = RealDisk().lock(folder / "run.lock", me())
    code, out, err = workshop.done("run", job, "--json")
    lock.release()
    assert code == 7
    (end,) = events(out)
    assert str(os.getpid()) in end["errors"][0]
    assert str(os.getpid()) in err


def test_a_bug_has_its_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even then a program reads one `end`, and the traceback is not swallowed."""
    Workshop(tmp_path).job()
    monkeypatch.chdir(tmp_path)

    def broken(*args: object, **given: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("runner.night.night", broken)
    result = CliRunner().invoke(tertulia, ["run", "toy.yaml", "--json"], standalone_mode=False)
    assert isinstance(result.exception, RuntimeError)
    (end,) = events(result.stdout)
    assert (end["exit"], end["errors"]) == (1, ["RuntimeError('ours')"])


def test_there_is_one_end_and_no_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks after the end was told is the exit code's to tell."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    report = JsonLines()
    report(end_data(0, False, [], []))
    report.broke(RuntimeError("late"))
    assert [one["exit"] for one in events(out.getvalue())] == [0]


def test_a_forgiven_exit_is_told(workshop: Workshop) -> None:
    """`--ok-on` changes what the shell sees; people and programs still read what the night came to."""
    process = workshop.start("run", workshop.job(seconds=600), "--json", "--ok-on", "143", "--grace", "50ms")
    until(lambda: '"kind":"sent"' in workshop.journal())
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert (events(out)[-1]["exit"], events(out)[-1]["forgiven"]) == (143, True)
    assert err.rstrip().endswith("exit 143 is forgiven by --ok-on")


# --- stop -------------------------------------------------------------------------------------------------------------


@pytest.mark.prove
def test_stop_lets_calls_land_and_now_leaves_them(workshop: Workshop) -> None:
    """Asked once it drains, asked again it still drains, and with `--now` it has left."""
    process = workshop.start("run", workshop.job(seconds=600))
    until(lambda: '"kind":"sent"' in workshop.journal())
    code, _, err = workshop.done("stop")
    assert code == 0
    assert f"toy/main: asked process {process.pid} to stop" in err
    assert "stopping: 1 call in flight" in err
    assert "tertulia stop toy/main --now" in err
    code, _, err = workshop.done("stop", "toy")
    assert code == 0
    assert "is stopping already" in err
    assert process.poll() is None
    code, _, err = workshop.done("stop", "toy/main", "--now")
    assert code == 0
    assert "toy/main has stopped" in err
    assert process.wait(PATIENCE) == 130
    assert not workshop.reading().state.is_open


@pytest.mark.prove
def test_stop_now_asks_twice_and_not_three_times(workshop: Workshop) -> None:
    """A run that was not asked before is closed in order by one `stop --now`."""
    process = workshop.start("run", workshop.job(seconds=600))
    until(lambda: '"kind":"sent"' in workshop.journal())
    code, _, err = workshop.done("stop", "outputs/toy/main", "--now")
    assert code == 0
    assert "asked process" in err
    assert process.wait(PATIENCE) == 130
    state = workshop.reading().state
    assert not state.is_open
    assert state.run.assumed > 0


def invoke(folder: Path, *args: str) -> tuple[Any, str]:
    result = CliRunner().invoke(tertulia, ["stop", "--outputs", str(folder / "outputs"), *args], standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.return_value, result.stderr


def test_stop_refuses_where_there_is_nothing_to_stop(tmp_path: Path) -> None:
    """No run, an unknown one, one that nobody holds, one of another machine: each has its sentence."""
    folder = tmp_path / "outputs" / "toy" / "main"
    assert invoke(tmp_path) == (2, f"no run in {tmp_path}/outputs is going on, so there is nothing to stop\n")
    with pytest.raises(click.UsageError, match="There is no run 'toy'"):
        invoke(tmp_path, "toy")
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").touch()
    lock = RealDisk().lock(folder / "run.lock", '{"pid": 1, "host": "elsewhere", "since": "02:00:00", "began": 1}')
    code, err = invoke(tmp_path, "toy/main")
    assert code == 2
    assert err == "toy/main is held on elsewhere, by process 1; stop it there: kill -INT 1\n"
    lock.release()
    assert invoke(tmp_path, "toy/main") == (2, "toy/main: no process holds it, so there is nothing to stop\n")
    assert invoke(tmp_path, "toy") == (2, "toy/main: no process holds it, so there is nothing to stop\n")


def test_what_an_earlier_life_was_asked_is_over(tmp_path: Path) -> None:
    """A run that was stopped yesterday and goes on today has not been asked to stop."""
    (tmp_path / "log.txt").write_text("2026-11-20T03:00:00Z stopping: 2 calls in flight, $0.1000 reserved; again\n")
    yesterday, today = 1_795_143_000.0, 1_795_230_000.0
    assert _stopping(Held(tmp_path, 1, "here", yesterday)) == "stopping: 2 calls in flight, $0.1000 reserved"
    assert _stopping(Held(tmp_path, 1, "here", today)) is None


def test_a_shell_with_another_time_zone_stops_a_run_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a process began is told as a moment, so that an earlier request is not taken for one to this process."""
    folder = tmp_path / "outputs" / "toy" / "main"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").touch()
    an_hour_ago = time.time() - 3600.0
    (folder / "log.txt").write_text(f"{stamp(an_hour_ago)} stopping: 2 calls in flight, $0.1000 reserved; again\n")
    asked: list[int] = []

    def interrupted(pid: int, number: int) -> None:
        asked.append(number)
        lock.release()

    monkeypatch.setattr(os, "kill", interrupted)
    try:
        monkeypatch.setenv("TZ", "Etc/UTC")
        time.tzset()
        lock = RealDisk().lock(folder / "run.lock", me())
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        code, err = invoke(tmp_path, "toy/main")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (code, asked) == (0, [signal.SIGINT])
    assert err.splitlines()[-1] == "toy/main has stopped"


def test_stop_asks_which_of_several(tmp_path: Path) -> None:
    """With runs of several processes nothing is guessed."""
    disk, locks = RealDisk(), []
    for name, pid in (("one", 11), ("two", 12)):
        folder = tmp_path / "outputs" / name / "main"
        folder.mkdir(parents=True)
        locks.append(disk.lock(folder / "run.lock", me().replace(str(os.getpid()), str(pid))))
    host = socket.gethostname()
    code, err = invoke(tmp_path)
    for lock in locks:
        lock.release()
    assert code == 2
    assert err.splitlines() == [
        "several runs are going on; say which:",
        f"  tertulia stop {tmp_path}/outputs/one/main    (process 11 on {host})",
        f"  tertulia stop {tmp_path}/outputs/two/main    (process 12 on {host})",
    ]


def test_a_holder_that_says_nothing_is_not_guessed(tmp_path: Path) -> None:
    """Between the lock and its text there is a moment; nobody is sent a signal then."""
    folder = tmp_path / "outputs" / "toy" / "main"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").touch()
    lock = RealDisk().lock(folder / "run.lock", "")
    code, err = invoke(tmp_path, "toy/main")
    lock.release()
    assert code == 2
    assert "does not say which" in err
