"""The command as a process, killed by the kernel while it talks to a server that keeps requests and a bill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import anyio
import orjson

from runner.events import Failed, Opened
from runner.journal import FILE, Record, decode, lines
from runner.sim.config import load_config
from runner.sim.engine import Engine
from runner.sim.server import serve
from runner.verify import verify
from runner.world import RealDisk
from tests.nights import Ledger, matrix, provider

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-live-3JqT8wZb5nVxKc2RfY7mPdHs"
MODELS = ("m0", "m1", "m2")
AT_ONCE = 6
KILLS = 20


@dataclass(slots=True)
class Bench:
    """A job in a folder of its own, and the server that it talks to."""

    home: Path
    engine: Engine
    said: list[Path] = field(default_factory=list)
    """Where each process's stdout and stderr went."""

    @property
    def folder(self) -> Path:
        return self.home / "outputs" / "job" / "main"

    def start(self) -> subprocess.Popen[bytes]:
        self.said.append(self.home / f"said-{len(self.said)}.txt")
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PLANTED_KEY": KEY}
        with open(self.said[-1], "wb") as said:
            command = [sys.executable, "-m", "runner", "run", "job.yaml"]
            return subprocess.Popen(command, cwd=self.home, env=environ, stdout=said, stderr=said)

    async def ended(self, process: subprocess.Popen[bytes]) -> int:
        while (code := process.poll()) is None:  # noqa: ASYNC110 - another process sets no event
            await anyio.sleep(0.005)
        return code

    async def reached(self, process: subprocess.Popen[bytes], number: int) -> None:
        """Wait until the journal has so many lines, or the process is over."""
        while process.poll() is None and self.size() < number:  # noqa: ASYNC110 - another process sets no event
            await anyio.sleep(0.005)

    def size(self) -> int:
        journal = self.folder / FILE
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    def records(self) -> list[Record]:
        found = [decode(line, offset) for offset, line, _ in lines(RealDisk(), self.folder / FILE)]
        return [record for record in found if record is not None]

    def statuses(self) -> Counter[str]:
        rows = (self.folder / "conversations.jsonl").read_bytes().splitlines()
        return Counter(orjson.loads(row)["status"] for row in rows)


def on_a_bench(home: Path, test: Callable[[Bench], Awaitable[None]], **changes: Any) -> None:
    """Run a test beside a real server on loopback that is as quick as 40 ms an answer."""
    job = matrix(MODELS, limits={"concurrency": AT_ONCE}, send_seed=True, **changes)
    job["defaults"]["outcomes"] = {"lost": {"retry": 40}}
    job["providers"]["p"]["api_key"] = "${PLANTED_KEY}"
    sim = {**provider(MODELS, latency={"first": 0.04, "spread": 0.5}), "keys": [KEY], "keep_bodies": True}
    loaded = load_config(sim)
    assert not loaded.problems
    engine = Engine(loaded.config)

    async def held() -> None:
        async with serve(engine) as base:
            job["providers"]["p"]["base_url"] = base
            (home / "job.yaml").write_bytes(orjson.dumps(job))
            await test(Bench(home, engine))

    anyio.run(held)


def test_twenty_kills_lose_at_most_the_calls_in_flight_and_buy_nothing_twice(tmp_path: Path) -> None:
    """Killed at twenty random lines and resumed each time: all turns are there, once, each request as recorded."""

    async def test(bench: Bench) -> None:
        random, lost = Random(20), 0
        for _ in range(KILLS):
            process = bench.start()
            await bench.reached(process, bench.size() + random.randint(3, 40))
            process.send_signal(signal.SIGKILL)
            assert await bench.ended(process) == -signal.SIGKILL, bench.said[-1].read_text()
            if bench.size():
                ledger = Ledger.of(bench.records())
                assert ledger.flying <= AT_ONCE
                assert bench.engine.bill.cost <= ledger.settled["run", ""] + ledger.reserved["run", ""]
                lost += ledger.flying
        last = bench.start()
        assert await bench.ended(last) == 0, bench.said[-1].read_text()
        is_whole(bench, lost)

    on_a_bench(tmp_path, test, repeat=6, rounds=3)


def is_whole(bench: Bench, lost: int) -> None:
    """Everything is there, what the server saw is what the journal says, and no key is anywhere."""
    records = bench.records()
    ledger = Ledger.of(records)
    assert sum(isinstance(record.event, Opened) for record in records) >= KILLS // 2
    assert len(ledger.answered) == 36 * 6 and ledger.asked_again == [] and ledger.flying == 0
    assert bench.statuses() == {"complete": 36}
    sent = Counter(getattr(record.event, "request", None) for record in records if record.event.kind == "sent")
    came = Counter(received.sha256 for received in bench.engine.received)
    assert came <= sent and set(came.values()) == {1}
    assert sent.total() - came.total() <= lost
    assert bench.engine.bill.accepted - len(ledger.answered) <= lost
    assert bench.engine.bill.cost <= ledger.settled["run", ""]
    broke_off = [e for r in records if isinstance(e := r.event, Failed) and "run broke off" in e.detail]
    assert len(broke_off) == lost
    checked = verify(bench.folder, RealDisk())
    assert checked.problems == () and checked.rebuilt == ledger.calls and not checked.not_rebuilt
    files = [path for path in bench.home.rglob("*") if path.is_file()]
    assert len(files) > 36
    assert [str(path) for path in files if KEY.encode() in path.read_bytes()] == []


def test_ctrl_c_drains_a_real_process_and_the_same_command_finishes(tmp_path: Path) -> None:
    """SIGINT lets calls in flight land and exits 130 with the command to go on; that command then completes the run."""

    async def test(bench: Bench) -> None:
        process = bench.start()
        await bench.reached(process, 40)
        process.send_signal(signal.SIGINT)
        assert await bench.ended(process) == 130, bench.said[-1].read_text()
        ledger = Ledger.of(bench.records())
        assert not ledger.failures and ledger.flying == 0
        assert bench.engine.bill.cost == ledger.settled["run", ""]
        said = bench.said[-1].read_text()
        assert "stopping: " in said and "tertulia run job.yaml" in said
        assert "\x1b" not in said
        assert await bench.ended(bench.start()) == 0, bench.said[-1].read_text()
        assert bench.statuses() == {"complete": 12}
        assert Ledger.of(bench.records()).asked_again == []

    on_a_bench(tmp_path, test, repeat=2, rounds=3)
