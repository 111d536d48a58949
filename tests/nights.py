"""Whole nights in a simulated world: the real entry, on a virtual loop, a disk in memory and the engine of `sim`.

A `Night` keeps the disk and the provider between lives, so that a test can end one life and begin the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from io import StringIO
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import anyio
import orjson

from runner.events import Event, Failed, Replied, Sent
from runner.job import Files, Job, JobError, load
from runner.job.files import Misread
from runner.job.problem import Problem
from runner.job.source import Source as Parsed
from runner.journal import FILE, SPARE_FILE, Record, decode
from runner.lines import split
from runner.night import Place, Source, Watch, night
from runner.outputs import Reading, read
from runner.preflight import CannotBegin
from runner.progress import Lines, Progress
from runner.selection import Options
from runner.sim.config import load_config
from runner.sim.engine import Engine, SimAnswer, SimRequest
from runner.sim.wire import SimWire
from runner.world import HttpRequest, Programs, World
from tests.memory import Fault, MemoryDisk, no_fault
from tests.virtual import Kill, ScriptedPrograms, ScriptedSignals, VirtualClock, run_virtual

ROOT = Path("outputs")
START = 1_795_262_400.0  # 2026-11-21 12:00 UTC

TALK = """
name: talk
budget: {run: 0.50, conversation: 0.20, models: {ada: 0.40}, providers: {sim: 0.45}}
defaults: {max_tokens: 500}
providers: {sim: {}}
models:
  ada: {use: sim/m, label: Ada, price: {input: 1, output: 3}}
  bo: {use: sim/n, label: Bo, price: {input: 2, output: 5}}
prompts:
  memory: {opening: "What survives?", rounds: 2}
  letter: {roles: {a: {script: ["Dear friend"]}, b: {}}}
pairings:
  - {prompt: memory, a: ada, b: bo, budget: 0.30}
  - {prompt: letter, b: [ada, bo]}
"""
"""A small job with a ceiling of each kind, for tests of what a run leaves behind."""
TALKERS: Mapping[str, Any] = {"price": {"input": 1, "output": 3}, "reply": {"mean": 12}}
TALK_SIM: Mapping[str, Any] = {"models": {"m": TALKERS, "n": TALKERS}}
"""The provider that holds it."""


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
    return _job_of(text, tuple(sets), tuple((".".join(name.rsplit("_", 1)), files[name]) for name in files))


@lru_cache(maxsize=64)
def _job_of(text: str, sets: tuple[str, ...], files: tuple[tuple[str, str], ...]) -> Job:
    # Read once: a night is often lived many times over, and a job is a value.
    reading = partial(load, Path("/jobs/job.yaml"), sets=sets, files=TextFiles({"job.yaml": text, **dict(files)}))
    if text.startswith("{") and not sets:
        # Reading YAML takes a fifth of a simulated night. What is wrong with a job is told of the whole text, below.
        with patch("runner.job.reading.parse", _tree_of_json), suppress(JobError, orjson.JSONDecodeError):
            return reading()
    return reading()


def _tree_of_json(file: str, data: bytes) -> tuple[Parsed, list[Problem]]:
    """The tree of a job that is JSON, and so YAML, without the places where its values stand."""
    return Parsed(file, orjson.loads(data), ()), []


def text_of(job: str | Mapping[str, Any]) -> str:
    """The text of a job file; JSON is YAML, too."""
    return job if isinstance(job, str) else orjson.dumps(job).decode()


PRICE = {"input": 1.0, "output": 4.0}
MODELS = ("m0", "m1", "m2", "m3", "m4")
PATIENT = {"lost": {"retry": 5}, "empty": {"retry": 5}}


def matrix(
    models: Sequence[str] = MODELS,
    *,
    repeat: int = 1,
    rounds: int = 4,
    max_tokens: int = 400,
    limits: Mapping[str, Any] | None = None,
    prices: Mapping[str, Mapping[str, float]] | None = None,
    providers: Mapping[str, Sequence[str]] | None = None,
    **top: Any,
) -> dict[str, Any]:
    """A job in which every model talks with every other one; `providers` says which models are whose."""
    whose = {model: name for name, some in (providers or {}).items() for model in some}
    return {
        "name": "job",
        "budget": 50,
        "defaults": {
            "max_tokens": max_tokens,
            "timeout": {"first": "30s", "idle": "20s", "total": "120s"},
            "outcomes": PATIENT,
        },
        "providers": {
            name: {"type": "openai", "base_url": "sim", "limits": {"concurrency": 16, **(limits or {})}}
            for name in dict.fromkeys(whose.get(model, "p") for model in models)
        },
        "models": {m: {"use": f"{whose.get(m, 'p')}/{m}", "price": (prices or {}).get(m, PRICE)} for m in models},
        "prompts": {"talk": {"opening": "What survives of a conversation?", "rounds": rounds}},
        "pairings": [
            {"prompt": "talk", "a": list(models), "b": list(models), "match": "distinct", "repeat": repeat},
        ],
        **top,
    }


LATENCY = {"first": 0.5, "per_token": 0.01, "spread": 0.3}


def provider(
    models: Sequence[str] = MODELS,
    *,
    rate: float = 0.0,
    script: Sequence[Mapping[str, Any]] = (),
    limits: Mapping[str, Any] | None = None,
    prices: Mapping[str, Mapping[str, float]] | None = None,
    seed: int = 3,
    **habits: Any,
) -> dict[str, Any]:
    """What `sim` is told to be for a matrix of these models."""
    return {
        "seed": seed,
        "models": {m: {"latency": LATENCY, "price": (prices or {}).get(m, PRICE), **habits} for m in models},
        "faults": {"rate": rate, "script": list(script)},
        "limits": dict(limits or {}),
    }


class Counting(Engine):
    """A provider that remembers when each request came and how it was met."""

    def reset(self) -> None:
        super().reset()
        self.arrivals: list[tuple[float, int, int]] = []

    def handle(self, request: SimRequest, now: float) -> SimAnswer:
        answer = super().handle(request, now)
        self.arrivals.append((now, answer.status, answer.id))
        return answer


@dataclass(slots=True)
class Life:
    """What a life came to."""

    exit: int | None
    """None when it was killed."""
    told: list[str]
    seconds: float = 0.0
    killed_at: int | None = None
    screen: str = ""
    """What somebody who looked on has seen, when there was one."""


@dataclass(slots=True)
class Night:
    """A run's world: what outlives its processes."""

    job: str | Mapping[str, Any]
    sim: Mapping[str, Any] = field(default_factory=dict)
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    rtt: tuple[float, float] = (0.001, 0.005)
    seed: int | None = None
    """The order of the loop's steps; None is first in, first out."""
    steps: int = 3_000_000
    environ: Mapping[str, str] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    """The texts of other files, by their names."""
    programs: Programs = field(default_factory=ScriptedPrograms)
    key: str = "main"
    wall: float = START
    engine: Engine = field(init=False)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        loaded = load_config({**self.sim, "keep_bodies": True})
        assert not loaded.problems, loaded.problems
        self.engine = Engine(loaded.config)

    @property
    def folder(self) -> Path:
        return ROOT / job_of(text_of(self.job), **self.beside).name / self.key

    def change(self, sim: Mapping[str, Any]) -> None:
        """Another provider from now on, with the bill and the memory of the old one."""
        loaded = load_config({**sim, "keep_bodies": True})
        assert not loaded.problems, loaded.problems
        self.engine.config = loaded.config

    def live(
        self,
        options: Options = Options(),  # noqa: B008
        *,
        job: str | Mapping[str, Any] | None = None,
        sets: Sequence[str] = (),
        beside: Mapping[str, str] | None = None,
        fault: Fault = no_fault,
        signals: Sequence[tuple[float, int]] = (),
        watch: Watch = lambda sessions, gate: (),
        before: Callable[[HttpRequest], None] | None = None,
        looked_on: bool = False,
    ) -> Life:
        """One life of the run, from its start to its end, or to its death by `fault`."""
        self.disk = self.disk.survivor(fault)
        told: list[str] = []
        screen = StringIO()
        source = Source(
            job_of(text_of(job or self.job), sets, **(self.beside if beside is None else beside)),
            "job.yaml",
            self.environ,
        )
        bases = {(source.job.name, name): f"http://{name}.sim/v1" for name in source.job.providers}
        wire = SimWire(dict.fromkeys(bases.values(), self.engine), self.rtt, Random(7), before)
        ended: list[float] = []

        async def live() -> int:
            clock = VirtualClock(self.wall)
            world = World(clock, self.disk, wire, Random(1), ScriptedSignals(list(signals)), self.programs)
            place = Place(ROOT, '{"pid": 1}', bases)
            try:
                if not looked_on:
                    return await night(world, [source], options, place, tell=told.append, watch=watch)
                progress = Progress(world, Lines(screen))
                code = await night(
                    world, [source], options, place, tell=progress.tell, watch=progress.watch, found=progress.found
                )
                await progress.finish(code)
                progress.close()
                return code
            finally:
                ended.append(anyio.current_time())

        try:
            code = run_virtual(live, seed=self.seed, steps=self.steps)
        except Kill:
            self._after(60.0)
            return Life(None, told, screen=screen.getvalue())
        except CannotBegin as cannot:
            return Life(cannot.code, [*told, *cannot.lines], screen=screen.getvalue())
        self._after(ended[0])
        return Life(code, told, ended[0], screen=screen.getvalue())

    def _after(self, seconds: float) -> None:
        self.wall += seconds + 1.0

    # -- what there is ---------------------------------------------------------------------------------------------

    def left(self) -> MemoryDisk:
        """A copy of the disk as it is now, also after a death; to look at it is no operation of the night."""
        copy = MemoryDisk()
        for path, content in self.disk.files.items():
            if path.name != SPARE_FILE:
                copy.put(path, content)
        return copy

    def reading(self) -> Reading:
        return read(self.folder, self.left())

    def records(self) -> list[Record]:
        found = [decode(line, offset) for offset, line, _ in split(self.left(), self.folder / FILE)]
        return [record for record in found if record is not None]

    def replies(self) -> dict[tuple[str, int], Replied]:
        return {(r.event.cell, r.event.turn): r.event for r in self.records() if isinstance(r.event, Replied)}

    def sents(self) -> list[Sent]:
        return [record.event for record in self.records() if isinstance(record.event, Sent)]

    def text(self, name: str) -> str:
        return self.left().read(self.folder / name).decode()

    def status(self) -> dict[str, Any]:
        found = orjson.loads(self.text("status.json"))
        assert isinstance(found, dict)
        return found

    def lines(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.text("conversations.jsonl").splitlines()]

    @property
    def billed(self) -> int:
        """What the provider itself says it has charged, in nano-dollars."""
        return self.engine.bill.cost

    @property
    def counted(self) -> int:
        """What the journal counts as spent or held."""
        return self.reading().state.run.held


# --- a second account ------------------------------------------------------------------------------------------------


Scope = tuple[str, str]


@dataclass(slots=True)
class Ledger:
    """What a journal says of money and turns, added up from its records alone; shares nothing with the fold."""

    settled: Counter[Scope] = field(default_factory=Counter)
    reserved: Counter[Scope] = field(default_factory=Counter)
    peaks: Counter[Scope] = field(default_factory=Counter)
    """The most that was ever settled and reserved at once."""
    calls: int = 0
    answered: set[tuple[str, int]] = field(default_factory=set)
    asked_again: list[tuple[str, int]] = field(default_factory=list)
    """Turns that were asked for, or answered, after they had their reply."""
    failures: Counter[str] = field(default_factory=Counter)
    _open: dict[str, Sent] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[Record], groups: Mapping[str, Scope] | None = None) -> Ledger:
        """The account of a journal; `groups` puts conversations, by id, into one more scope."""
        ledger = cls()
        for record in records:
            ledger._take(record.event, groups or {})
        return ledger

    @property
    def flying(self) -> int:
        return len(self._open)

    def _take(self, event: Event, groups: Mapping[str, Scope]) -> None:
        if isinstance(event, Sent):
            assert event.cell not in self._open, "two calls of one conversation at once"
            if (event.cell, event.turn) in self.answered:
                self.asked_again.append((event.cell, event.turn))
            self._open[event.cell] = event
            self.calls += 1
            self._move(event, event.reserved, 0, groups)
        elif isinstance(event, Replied | Failed):
            sent = self._open.pop(event.cell)
            assert (sent.turn, sent.attempt) == (event.turn, event.attempt)
            self._move(sent, -sent.reserved, event.cost, groups)
            if isinstance(event, Failed):
                self.failures["busy" if event.busy else event.failure] += 1
            elif (event.cell, event.turn) in self.answered:
                self.asked_again.append((event.cell, event.turn))
            else:
                self.answered.add((event.cell, event.turn))

    def _move(self, sent: Sent, reserved: int, settled: int, groups: Mapping[str, Scope]) -> None:
        scopes = [("run", ""), ("cell", sent.cell), ("model", sent.alias), ("provider", sent.provider)]
        if sent.cell in groups:
            scopes.append(groups[sent.cell])
        for scope in scopes:
            self.reserved[scope] += reserved
            self.settled[scope] += settled
            self.peaks[scope] = max(self.peaks[scope], self.reserved[scope] + self.settled[scope])
