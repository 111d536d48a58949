"""Whole nights in a simulated world: the real entry, on a virtual loop, a disk in memory and the engine of `sim`.

A `Night` keeps the disk and the provider between lives, so that a test can end one life and begin the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson

from runner.events import Replied, Sent
from runner.job import Files, Job, load
from runner.job.files import Misread
from runner.journal import FILE, Record, decode, lines
from runner.night import CannotBegin, Options, Place, Source, Watch, night
from runner.outputs import Reading, read
from runner.sim.config import load_config
from runner.sim.engine import Engine
from runner.sim.wire import SimWire
from runner.world import HttpRequest, World
from tests.memory import Fault, MemoryDisk, no_fault
from tests.virtual import Kill, ScriptedSignals, VirtualClock, run_virtual

ROOT = Path("/outputs")
START = 1_795_262_400.0  # 2026-11-21 12:00 UTC


class TextFiles(Files):
    """Job files that exist only in a test."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = {Path("/jobs", name): text for name, text in texts.items()}

    def exists(self, path: Path) -> bool:
        return path in self._texts

    def resolved(self, path: Path) -> Path:
        return path

    def glob(self, folder: Path, pattern: str) -> list[Path]:
        return sorted(path for path in self._texts if path.parent == folder and path.match(pattern))

    def open_to_others(self, path: Path) -> bool:
        return False

    def read(self, path: Path, most: int) -> bytes:
        if path not in self._texts:
            raise Misread("there is no such file")
        return self._texts[path].encode()


def job_of(text: str, sets: Sequence[str] = (), **files: str) -> Job:
    """The job of a text; other files beside it by name, with `_` for the dot before the ending."""
    beside = {name.replace("_", "."): content for name, content in files.items()}
    return load(Path("/jobs/job.yaml"), sets=sets, files=TextFiles({"job.yaml": text, **beside}))


@dataclass(slots=True)
class Life:
    """What a life came to."""

    exit: int | None
    """None when it was killed."""
    told: list[str]
    seconds: float = 0.0
    killed_at: int | None = None


@dataclass(slots=True)
class Night:
    """A run's world: what outlives its processes."""

    job: str
    sim: Mapping[str, Any] = field(default_factory=dict)
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    rtt: tuple[float, float] = (0.001, 0.005)
    seed: int | None = None
    """The order of the loop's steps; None is first in, first out."""
    steps: int = 3_000_000
    environ: Mapping[str, str] = field(default_factory=dict)
    name: str = "job"
    wall: float = START
    engine: Engine = field(init=False)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        loaded = load_config({**self.sim, "keep_bodies": True})
        assert not loaded.problems, loaded.problems
        self.engine = Engine(loaded.config)

    @property
    def folder(self) -> Path:
        return ROOT / job_of(self.job).name / "main"

    def live(
        self,
        options: Options = Options(),  # noqa: B008
        *,
        job: str | None = None,
        sets: Sequence[str] = (),
        fault: Fault = no_fault,
        signals: Sequence[tuple[float, int]] = (),
        watch: Watch = lambda sessions, gate: (),
        before: Callable[[HttpRequest], None] | None = None,
    ) -> Life:
        """One life of the run, from its start to its end, or to its death by `fault`."""
        self.disk = self.disk.survivor(fault)
        told: list[str] = []
        source = Source(job_of(job or self.job, sets), "job.yaml", self.environ)
        bases = {(source.job.name, name): f"http://{name}.sim/v1" for name in source.job.providers}
        wire = SimWire(dict.fromkeys(bases.values(), self.engine), self.rtt, Random(7), before)
        ended: list[float] = []

        async def live() -> int:
            import anyio

            clock = VirtualClock(self.wall)
            world = World(clock, self.disk, wire, Random(1), ScriptedSignals(list(signals)))
            place = Place(ROOT, '{"pid": 1}', bases)
            try:
                return await night(world, [source], options, place, tell=told.append, watch=watch)
            finally:
                ended.append(anyio.current_time())

        try:
            code = run_virtual(live, seed=self.seed, steps=self.steps)
        except Kill:
            self._after(60.0)
            return Life(None, told)
        except CannotBegin as cannot:
            return Life(cannot.code, [*told, *cannot.lines])
        self._after(ended[0])
        return Life(code, told, ended[0])

    def _after(self, seconds: float) -> None:
        self.wall += seconds + 1.0

    # -- what there is ---------------------------------------------------------------------------------------------

    def reading(self) -> Reading:
        return read(self.folder, self.disk)

    def records(self) -> list[Record]:
        found = [decode(line, offset) for offset, line, _ in lines(self.disk, self.folder / FILE)]
        return [record for record in found if record is not None]

    def replies(self) -> dict[tuple[str, int], Replied]:
        return {(r.event.cell, r.event.turn): r.event for r in self.records() if isinstance(r.event, Replied)}

    def sents(self) -> list[Sent]:
        return [record.event for record in self.records() if isinstance(record.event, Sent)]

    def text(self, name: str) -> str:
        return self.disk.read(self.folder / name).decode()

    def status(self) -> dict[str, Any]:
        found = orjson.loads(self.disk.read(self.folder / "status.json"))
        assert isinstance(found, dict)
        return found

    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.disk.read(self.folder / "conversations.jsonl").splitlines()]

    @property
    def billed(self) -> int:
        """What the provider itself says it has charged, in nano-dollars."""
        return self.engine.bill.cost

    @property
    def counted(self) -> int:
        """What the journal counts as spent or held."""
        return self.reading().state.run.held
