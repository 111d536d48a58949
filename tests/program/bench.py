"""The command as a process, a provider on loopback that keeps a bill of its own, and what can be done to the process.

A `Bench` is a job in a folder of its own. Processes are started there, trapped at the operating system's border, sent
signals, given limits; what they leave behind is then held against two other accounts: the provider's bill, and the same
job held in a simulated world where nothing goes wrong.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import orjson
from anyio.from_thread import start_blocking_portal

from runner.events import Failed, Replied, Sent
from runner.journal import FILE, Record, decode
from runner.lines import split
from runner.sim.config import SimConfig, load_config
from runner.sim.engine import Engine
from runner.sim.server import serve
from runner.verify import verify
from runner.world import RealDisk
from tests.nights import Ledger, Night, matrix, provider

ROOT: Final = Path(__file__).resolve().parents[2]
TRAPS: Final = Path(__file__).with_name("traps")
PATIENCE: Final = 100.0
"""Only a process that hangs takes so long."""
KEY: Final = "sk-live-3JqT8wZb5nVxKc2RfY7mPdHs"
OTHER_KEY: Final = "sk-live-8QmN2vLx7cPzRt4WgK9jYbDf"
MODELS: Final = ("m0", "m1", "m2")


def until(holds: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait for something that surely comes."""
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


Lasts: TypeAlias = Literal["once", "until something is removed", "for good"]


@dataclass(frozen=True, slots=True)
class Trap:
    """What happens at the `number`-th such call on a file of the outputs; no `thread` is started from that number on.

    `what` is the name of an error, or one of: `kill`, `kill half-way`, `kill after`, `interrupt`, `hang`,
    `stand still` (until it gets SIGCONT), `start a child`, `limit the file` (to a size in the middle of this write).
    """

    call: Literal["open", "write", "sync", "truncate", "replace", "remove", "make", "thread"]
    number: int
    what: str
    file: str | None = FILE
    """Its name; None counts the calls on all files together."""
    holding: str = ""
    """Of writes, only those count that have this in them."""
    lasts: Lasts = "once"


@dataclass(slots=True)
class Process:
    """One `tertulia` that was started, and where it writes to."""

    popen: subprocess.Popen[bytes]
    out: Path
    err: Path
    noted: Path
    """What its traps did."""

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def runs(self) -> bool:
        return self.popen.poll() is None

    @property
    def said(self) -> str:
        """What it told people, so far."""
        return self.err.read_text()

    @property
    def answer(self) -> str:
        """What it wrote to stdout."""
        return self.out.read_text()

    @property
    def sprung(self) -> list[str]:
        """What the traps did that it fell into, in order."""
        return [note["what"] for note in self._notes() if "what" in note]

    @property
    def child(self) -> int:
        """The process that a trap started in its name."""
        return next(int(note["child"]) for note in self._notes() if "child" in note)

    def calls(self, call: str, file: str = FILE) -> int:
        """How many such calls it made on this file, when it is over."""
        return next(int(note["calls"].get(f"{call} {file}", 0)) for note in self._notes() if "calls" in note)

    def _notes(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.noted.read_bytes().splitlines()] if self.noted.exists() else []

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def stands_still(self) -> None:
        """Wait until a trap has stopped it."""
        found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None and found.si_code == os.CLD_STOPPED, self.said

    def ended(self) -> int:
        """Its exit code, when it has one."""
        return self.popen.wait(PATIENCE)

    def killed(self) -> None:
        """Kill it, unless it is over; it gets no chance to say anything."""
        self.popen.kill()
        self.popen.wait(PATIENCE)


@dataclass(slots=True)
class Bench:
    """A job in a folder of its own, and the provider that it talks to."""

    home: Path
    job: Mapping[str, Any]
    sim: Mapping[str, Any]
    engine: Engine
    outputs: Path
    """Where this process finds the runs."""
    within: tuple[str, ...] = ()
    """What each command is put behind."""
    uvloop: bool = False
    """Whether its processes find uvloop."""
    processes: list[Process] = field(default_factory=list)
    _read_so_far: tuple[int, int] = (0, 0)

    def address(self, base: str) -> None:
        """Write the job down, with this base URL for every provider."""
        for told in self.job["providers"].values():
            told |= {"api_key": "${PLANTED_KEY}", "base_url": base}
        (self.home / "job.yaml").write_bytes(orjson.dumps(self.job))

    def change(self, sim: Mapping[str, Any]) -> None:
        """Another provider from now on, with the bill and the memory of the old one."""
        self.engine.config = _config(sim)

    # -- processes -------------------------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        return self.outputs / str(self.job["name"]) / "main"

    def start(
        self,
        *args: str | Path,
        traps: Sequence[Trap] = (),
        environ: Mapping[str, str] | None = None,
        **given: Any,
    ) -> Process:
        """Start `tertulia run job.yaml`, or another command."""
        number = len(self.processes)
        out, err, noted = (self.home / f"{kind}-{number}.txt" for kind in ("out", "err", "noted"))
        path = os.pathsep.join((str(TRAPS), str(ROOT)))
        env = {name: text for name, text in os.environ.items() if not name.startswith(("TERTULIA", "CI", "PYTEST"))}
        env |= {"PYTHONPATH": path, "TERM": "xterm", "XDG_STATE_HOME": str(self.home / "state")}
        env |= {"PLANTED_KEY": KEY, "OTHER_KEY": OTHER_KEY} | ({"UVLOOP": "1"} if self.uvloop else {})
        if traps:
            told = {"under": str(self.home / "outputs"), "noted": str(noted), "traps": [asdict(trap) for trap in traps]}
            env["TRAPS"] = orjson.dumps(told).decode()
        command = [*self.within, sys.executable, "-m", "runner", *map(str, args or ("run", "job.yaml"))]
        with open(out, "wb") as stdout, open(err, "wb") as stderr:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": stdout, "stderr": stderr}
            popen = subprocess.Popen(command, cwd=self.home, env=env | dict(environ or {}), **(streams | given))
        self.processes.append(Process(popen, out, err, noted))
        return self.processes[-1]

    def done(self, *args: str | Path, **given: Any) -> tuple[int, Process]:
        """Start a command and wait for its exit code."""
        process = self.start(*args, **given)
        return process.ended(), process

    def reached(self, process: Process, lines: int) -> None:
        """Wait until the journal has so many lines, or the process is over."""
        until(lambda: not process.runs or self.lines() >= lines)

    # -- what there is ---------------------------------------------------------------------------------------------

    def journal(self, folder: Path | None = None) -> bytes:
        path = (folder or self.folder) / FILE
        return path.read_bytes() if path.exists() else b""

    def lines(self) -> int:
        """How many lines the journal has; asked so often that only what is new is read."""
        path = self.folder / FILE
        size = path.stat().st_size if path.exists() else 0
        start, lines = self._read_so_far if self._read_so_far[0] <= size else (0, 0)
        if size > start:
            lines += RealDisk().read(path, start, size - start).count(b"\n")
        self._read_so_far = (size, lines)
        return lines

    def records(self, folder: Path | None = None) -> list[Record]:
        """The records of the journal; what a crash has torn, at its end and nowhere else, is left out."""
        path = (folder or self.folder) / FILE
        if not path.exists():
            return []
        found = [decode(line, offset) if ended else None for offset, line, ended in split(RealDisk(), path)]
        whole = [record for record in found if record is not None]
        assert found[: len(whole)] == whole, "whole lines stand behind a torn one"
        return whole

    def sents(self) -> list[Sent]:
        return [record.event for record in self.records() if isinstance(record.event, Sent)]

    def ledger(self, folder: Path | None = None) -> Ledger:
        """What the journal says of money and turns, added up apart from the product."""
        return Ledger.of(self.records(folder))

    @property
    def billed(self) -> int:
        """What the provider says it has charged."""
        return self.engine.bill.cost

    @property
    def cap(self) -> int:
        """The most that the run may spend."""
        return round(float(self.job["budget"]) * 1e9)

    @property
    def counted(self) -> int:
        """What the journal counts as spent or held."""
        ledger = self.ledger()
        return ledger.settled["run", ""] + ledger.reserved["run", ""]

    def status(self) -> dict[str, Any]:
        found = orjson.loads((self.folder / "status.json").read_bytes())
        assert isinstance(found, dict)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """`conversations.jsonl`."""
        return [orjson.loads(row) for row in (self.folder / "conversations.jsonl").read_bytes().splitlines()]

    def statuses(self) -> Counter[str]:
        return Counter(row["status"] for row in self.rows())

    def bytes_of(self, folder: Path | None = None) -> dict[str, bytes]:
        """Every file below a folder."""
        root = folder or self.outputs
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}

    def traces_of(self, secret: bytes) -> list[str]:
        """Files in which this stands, screens included."""
        found = self.bytes_of(self.home) | self.bytes_of()
        return [name for name, content in found.items() if secret in content]


def _config(sim: Mapping[str, Any]) -> SimConfig:
    loaded = load_config({**sim, "keys": [KEY, OTHER_KEY]})
    assert not loaded.problems, loaded.problems
    return loaded.config


@contextmanager
def a_bench(
    home: Path,
    sim: Mapping[str, Any] | None = None,
    *,
    outcomes: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Iterator[Bench]:
    """A job beside a provider that answers at once, unless the test says otherwise; processes end with the bench."""
    sim = provider(MODELS, latency={"first": 0.005}) if sim is None else sim
    changes = {"models": MODELS, "send_seed": True, **changes}
    engine = Engine(_config(sim))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve(engine)) as base:
        bench = Bench(home, matrix(**changes), sim, engine, home / "outputs")
        bench.job["defaults"]["outcomes"] = {**bench.job["defaults"]["outcomes"], **(outcomes or {})}
        bench.address(base)
        try:
            yield bench
        finally:
            for process in bench.processes:
                process.killed()


# --- what must hold --------------------------------------------------------------------------------------------------


Attempt: TypeAlias = tuple[str, int, int]
"""Conversation, turn, number."""


def is_bounded(bench: Bench, at_once: int) -> set[Attempt]:
    """After any end: the bill is within what is counted, and that within the cap; all that was asked is on record, no
    turn was asked for again. The attempts of which nobody knows what became.
    """
    billed, ledger = bench.billed, bench.ledger()
    counted = ledger.settled["run", ""] + ledger.reserved["run", ""]
    assert billed <= counted <= ledger.peaks["run", ""] <= bench.cap
    assert ledger.asked_again == []
    assert {received.sha256 for received in bench.engine.received} <= {sent.request for sent in bench.sents()}
    unknown = in_flight(bench.records())
    assert len(unknown) == ledger.flying <= at_once
    return unknown


def is_sound(bench: Bench, lost: int) -> None:
    """At the last end: what was said is what is said where nothing goes wrong, each request was sent once and is on
    record, the money covers the bill, every figure and hash is right, and no key is anywhere.

    At most `lost` answers went unheard.
    """
    records, ledger = bench.records(), bench.ledger()
    assert ledger.asked_again == [] and ledger.flying == 0
    assert texts(records).items() <= undisturbed(bench).items()
    sent = Counter(sent.request for sent in bench.sents())
    came = Counter(received.sha256 for received in bench.engine.received)
    assert came <= sent and set(came.values()) == {1}, "the provider was asked something that is not on record"
    assert sent.total() - came.total() <= lost
    assert bench.engine.bill.accepted - len(ledger.answered) <= lost
    assert broke_off(bench) == lost
    assert bench.billed <= ledger.settled["run", ""] == round(bench.status()["spent"]["total"] * 1e9) <= bench.cap
    checked = verify(bench.folder, RealDisk())
    assert checked.problems == () and checked.rebuilt == ledger.calls and not checked.not_rebuilt
    assert [path.name for path in bench.folder.rglob(".*.tmp")] == []
    assert bench.traces_of(KEY.encode()) == []


def is_whole(bench: Bench, lost: int) -> None:
    """Sound, and each turn is there, once."""
    is_sound(bench, lost)
    assert texts(bench.records()) == undisturbed(bench)
    assert set(bench.statuses()) == {"complete"}


def in_flight(records: Sequence[Record]) -> set[Attempt]:
    """What was sent, as far as the records go, and has no outcome."""
    found: set[Attempt] = set()
    for event in (record.event for record in records):
        if isinstance(event, Sent):
            found.add((event.cell, event.turn, event.attempt))
        elif isinstance(event, Replied | Failed):
            found.remove((event.cell, event.turn, event.attempt))
    return found


def broke_off(bench: Bench) -> int:
    """Calls that were in flight when a life ended, as the next one found them."""
    events = [record.event for record in bench.records()]
    return sum(isinstance(event, Failed) and "run broke off" in event.detail for event in events)


def texts(records: Sequence[Record]) -> dict[tuple[str, int], str]:
    """What was said at each turn."""
    events = [record.event for record in records]
    return {(event.cell, event.turn): event.text for event in events if isinstance(event, Replied)}


def undisturbed(bench: Bench) -> dict[tuple[str, int], str]:
    """What is said when the same job is held in a simulated world where nothing goes wrong."""
    return _undisturbed(orjson.dumps(bench.job), orjson.dumps(bench.sim))[0]


def names(bench: Bench) -> dict[str, str]:
    """The conversations' names by their ids, from the same world."""
    return _undisturbed(orjson.dumps(bench.job), orjson.dumps(bench.sim))[1]


@cache
def _undisturbed(job: bytes, sim: bytes) -> tuple[dict[tuple[str, int], str], dict[str, str]]:
    told = {**orjson.loads(job), "budget": 1000}
    for one in told["providers"].values():
        one["base_url"] = "sim"
        del one["api_key"]
    night = Night(told, orjson.loads(sim))
    assert night.live().exit == 0
    return texts(night.records()), {row["id"]: row["name"] for row in night.lines()}
