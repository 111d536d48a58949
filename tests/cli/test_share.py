"""`run --share`: processes of one user on one provider key, with the kernel's locks and a real server."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import orjson
import pytest

from runner.cli.probes import state_folder
from runner.shares import FILE, Table, parse
from runner.sim.config import load_config
from runner.sim.engine import Engine
from runner.sim.server import serve
from tests.cli.folders import tertulia
from tests.nights import matrix, provider

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("m0", "m1", "m2")
PATIENCE = 100.0
"""Only a process that hangs takes so long."""


@dataclass
class Yard:
    """A folder with a job for each process, and the server that all of them talk to."""

    home: Path
    base: str
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, name: str, *options: str) -> subprocess.Popen[bytes]:
        job = matrix(MODELS, repeat=100, name=name, limits={"concurrency": 4})
        job["providers"]["p"] |= {"base_url": self.base, "api_key": "${TOKEN}"}
        (self.home / f"{name}.yaml").write_bytes(orjson.dumps(job))
        command = [sys.executable, "-m", "runner", "run", f"{name}.yaml", *options]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "TOKEN": "sk-of-the-yard"}
        with open(self.home / f"{name}.txt", "wb") as said:
            process = subprocess.Popen(command, cwd=self.home, env=environ, stdout=said, stderr=said)
        self.running.append(process)
        return process

    def said(self, name: str) -> str:
        return (self.home / f"{name}.txt").read_text()

    def talks(self, name: str) -> bool:
        journal = self.home / "outputs" / name / "main" / "journal.jsonl"
        return journal.exists() and b'"kind":"replied"' in journal.read_bytes()

    def shares(self) -> list[float]:
        table = self.table()
        return [hold.share for row in table.rows for hold in row.holds.values()]

    def table(self) -> Table:
        return parse((state_folder() / FILE).read_bytes())


async def until(holds: Callable[[], object]) -> None:
    with anyio.fail_after(PATIENCE):
        while not holds():  # noqa: ASYNC110 - another process sets no event
            await anyio.sleep(0.02)


@pytest.mark.prove
def test_real_processes_wait_for_each_other_share_and_take_over_from_the_dead(tmp_path: Path) -> None:
    """A second waits until it is stopped, a third has its half, and a fourth what a kill of the first has left."""
    loaded = load_config(provider(MODELS, latency={"first": 0.1, "spread": 0.0}))
    engine = Engine(loaded.config)

    async def scene() -> None:
        async with serve(engine) as base:
            yard = Yard(tmp_path, base)
            try:
                await held(yard)
            finally:
                for process in yard.running:
                    process.kill()
                    process.wait()

    async def held(yard: Yard) -> None:
        first = yard.start("first")
        await until(lambda: yard.talks("first"))
        assert yard.shares() == [1.0]
        second = yard.start("second")
        await until(lambda: "--share" in yard.said("second"))
        await until(lambda: f"waiting for p: process {first.pid} on " in yard.said("second"))
        await until(lambda: "is there, with first/main" in yard.said("second"))
        second.send_signal(signal.SIGINT)
        await until(lambda: second.poll() is not None)
        assert second.returncode == 130
        assert "exit 130: interrupted before it was its turn; nothing was sent" in yard.said("second")
        yard.start("third", "--share", "0.5")
        await until(lambda: yard.talks("third"))
        assert yard.shares() == [0.5, 0.5]
        await until(lambda: "p: 50% of its limits from now on" in yard.said("first"))
        first.send_signal(signal.SIGKILL)
        first.wait()
        yard.start("fourth")
        await until(lambda: yard.talks("fourth"))
        assert yard.shares() == [0.5, 0.5]
        assert "waiting" not in yard.said("fourth")

    anyio.run(scene)
    folder = state_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert engine.bill.cost > 0


@pytest.mark.parametrize("part", ["0", "-0.5", "1.01", "nan", "half"])
def test_a_share_is_a_part_of_one(part: str) -> None:
    """Above 0 and at most 1, or the command says so and ends with exit 2."""
    said = tertulia("run", "job.yaml", f"--share={part}")
    assert said.code == 2
    assert "--share" in said.err


def test_the_state_folder_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below XDG_STATE_HOME where that is an absolute path, else below the home."""
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert state_folder() == Path("/var/state/tertulia")
    monkeypatch.setenv("HOME", "/home/ada")
    for other in ("", "state"):
        monkeypatch.setenv("XDG_STATE_HOME", other)
        assert state_folder() == Path("/home/ada/.local/state/tertulia")
