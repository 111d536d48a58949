"""Living through a world: one process after the other on one disk, with providers that outlive them all.

A `Story` is what outlives the processes: the disk, the providers, and the time of the loop, which goes on from life to
life. A `Run` follows the journal of one run as it becomes durable. The promises are asked at every step, and the first
that is broken ends the story.
"""

from __future__ import annotations

import asyncio
import re
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import mktime_tz, parsedate_tz
from functools import lru_cache, partial
from hashlib import sha256
from io import StringIO
from math import inf
from pathlib import Path
from random import Random
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import urlsplit

import anyio
import orjson

from runner import folded, journal
from runner.job import Job
from runner.journal import FILE, SPARE_FILE, repair
from runner.ledger import FILE as LEDGER
from runner.night import EXIT_HELD, Place, Ready, Source, night
from runner.plan import Plan, make_plan
from runner.preflight import DEFAULT_CONCURRENCY, CannotBegin
from runner.progress import Lines, Progress
from runner.run import EXIT_STORAGE
from runner.sim.engine import Engine, SimAnswer, SimRequest
from runner.sim.wire import SimWire
from runner.world import HttpRequest, HttpResponse, Secret, WireError
from runner.world import World as Seams
from tests.memory import MemoryDisk, Operation, trouble
from tests.nights import ROOT, START, job_of, text_of
from tests.simulation import invariants
from tests.simulation.account import RUN, Account, Book, Line, synced_mark, whole_lines
from tests.simulation.invariants import Broken
from tests.simulation.truth import DATE, Honest, config
from tests.simulation.worlds import ENVIRON, DiskFault, JobData, Life, World
from tests.virtual import (
    Calls,
    Deadlock,
    Ending,
    Kill,
    Livelock,
    PowerLoss,
    Process,
    ScriptedPrograms,
    ScriptedSignals,
    Seam,
    VirtualClock,
    kill,
    run_virtual,
    side_by_side,
)

_STEPS: Final = 400_000
_SPARE_BYTES: Final = 64 * 1024
"""A small reserve, so that a disk is a small thing to copy."""
_EVERY_BYTES: Final = 2 * 1024
_CELLS: Final = 3
"""What is folded is kept after a few turns, and in more than one line."""
_ALL: Final = 2**62
_LONGEST_WAIT: Final = 600.0
_BENDING: Final = frozenset({"filtered", "refusal", "overrun"})
"""Faults after which an answer that counts has another text."""


# --- what the promises look at -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Lived:
    """What one process came to."""

    life: Life
    number: int
    began: float
    patience: float
    """How long an answer may take from the wire to the disk."""
    found: int
    """How many records it began with."""
    exit: int | None = None
    """None when it was killed."""
    ended: float = 0.0
    told: list[str] = field(default_factory=list)
    screen: StringIO = field(default_factory=StringIO)
    opened: bool = False
    """True when it was given the run."""
    disk_failed: bool = False
    tasks: list[str] = field(default_factory=list)
    locked: list[Path] = field(default_factory=list)
    silences: list[tuple[float, float]] = field(default_factory=list)
    """From when to when it may have waited because a provider had asked for it."""

    @property
    def killed(self) -> bool:
        return self.exit is None

    @property
    def seconds(self) -> float:
        """How long it took, but for the time through which a provider had asked it to wait."""
        taken, known = self.ended - self.began, self.began
        for since, until in sorted(self.silences):
            since, until = max(since, known), min(until, self.ended)
            if since < until:
                taken, known = taken - (until - since), until
        return taken

    @property
    def wanted_all(self) -> bool:
        """True when it was asked for every conversation of the job."""
        return not self.life.options.only and self.life.options.limit is None

    @property
    def slots(self) -> int:
        """How many calls its lanes let through at once."""
        limits = [provider["limits"] for provider in self.life.job["providers"].values()]
        models = len(self.life.job["models"])
        return sum(
            one.get("concurrency", DEFAULT_CONCURRENCY) * (models if one.get("per") == "model" else 1) for one in limits
        )


@dataclass(slots=True)
class Followed:
    """A file that only grows, read as it becomes durable."""

    path: Path
    take: Callable[[Line], None]
    anew: Callable[[], None]
    """Forget all lines: the file is read from its beginning."""
    kept: bytes = b""
    """The lines that were taken."""
    safe: int = 0
    """How much of the file was durable when somebody last looked."""

    def look(self, disk: MemoryDisk) -> None:
        """Take the lines that have become durable since the last look."""
        self.safe = disk.durable(self.path)
        if self.safe > len(self.kept):
            self._go_on(disk.files[self.path][: self.safe])

    def look_back(self, content: bytes) -> None:
        """Take what a process left behind: all that was durable is there, and what else is there counts as well."""
        durable = self.kept[: self.safe]
        if not content.startswith(durable):
            raise Broken("I5", f"of {len(durable)} bytes of {self.path} that were durable not all are there any more")
        if not content.startswith(self.kept):
            self.begin_anew()
        self._go_on(content)

    def begin_anew(self) -> None:
        self.anew()
        self.kept, self.safe = b"", 0

    def _go_on(self, content: bytes) -> None:
        if not content.startswith(self.kept):
            raise Broken("I5", f"lines that were relied upon are gone from {self.path}")
        for end, line in whole_lines(content, len(self.kept)):
            self.take(line)
            self.kept = content[:end]


class Run:
    """One run, followed from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder.relative_to(ROOT))
        self.account = Account(_pairings)
        self.journal = Followed(folder / FILE, lambda line: invariants.take(self, line), self._begin_anew)
        self.plan: Plan
        """Of the job as it stands."""
        self.left: Counter[str] = Counter()
        """How often each request left, by its hash."""
        self.flying: Counter[str] = Counter()
        self.heard: dict[str, float] = {}
        """When the last answer to a request was over."""
        self.bodies: dict[str, tuple[str, bytes]] = {}
        """Provider and body of each request that left."""
        self.bills: Counter[str] = Counter()
        """What was billed for each request, by its hash."""
        self.billed: Counter[str] = Counter()
        """What each provider has billed for this run."""
        self.billed_on: Counter[str] = Counter()
        """The same by day."""
        self.excess: Counter[str] = Counter()
        """The part of it that a provider took although it was sent a lower limit."""
        self.forgotten = 0
        """What was billed and a repair did not count: each lost line counts at the largest of those left."""
        self.bent: dict[str, None] = {}
        """Requests that a fault answered with another text."""
        self.aged = False
        """True when the power was lost after views were written, which nobody syncs, and nothing was written since."""

    def _begin_anew(self) -> None:
        self.account = Account(self.account.pairings, mended_to=self.account.mended_to)

    def journal_alone(self) -> MemoryDisk:
        """A disk with nothing on it but the journal."""
        disk = MemoryDisk()
        disk.put(self.journal.path, self.journal.kept)
        return disk

    @property
    def lines(self) -> list[Line]:
        """The whole journal."""
        return [line for _, line in whole_lines(self.journal.kept)]

    def generated(self, cell: str) -> Sequence[int]:
        """The turns of a conversation that somebody has to be asked for."""
        known = self.plan.by_id.get(cell)
        lines = () if known is None else self.plan.conversation(known).lines
        return [line.number for line in lines if line.given is None]


@lru_cache(maxsize=256)
def _plan_of(job: str) -> Plan:
    return make_plan(job_of(job), DATE)


def _pairings(opened: Line, texts: Mapping[str, str]) -> Mapping[str, int]:
    return _pairings_of(orjson.dumps((opened["job"], texts)), opened["date"])


@lru_cache(maxsize=64)
def _pairings_of(job_and_texts: bytes, date: str) -> Mapping[str, int]:
    try:
        plan = make_plan(Job.from_record(*orjson.loads(job_and_texts)), date)
    except KeyError:
        return {}  # the record that brought one of its texts was lost
    return {cell.id: cell.pairing for cell in plan.cells}


# --- the seams of one process ------------------------------------------------------------------------------------


class Door(Calls):
    """The way of one process to one provider: it knows who is billed what, and what time it is there."""

    def __init__(self, name: str, engine: Engine, worker: Worker) -> None:
        super().__init__(engine)
        self.name = name
        self.engine = engine
        self._worker = worker
        self._hashes: dict[int, str] = {}

    def handle(self, request: SimRequest, now: float) -> SimAnswer:
        before = self.engine.bill.cost
        answer = super().handle(request, self._worker.there(now))
        self._hashes[answer.id] = sha256(request.body).hexdigest()
        self._worker.was_billed(self, request, answer, self.engine.bill.cost - before)
        return answer

    def finished(self, request: int, now: float) -> None:
        super().finished(request, self._worker.there(now))

    def abandoned(self, request: int, now: float) -> None:
        before = self.engine.bill.cost
        super().abandoned(request, self._worker.there(now))
        self._worker.bills_more(self, self._hashes[request], self.engine.bill.cost - before)


@dataclass(slots=True, eq=False)
class _Flight:
    request: HttpRequest
    hash: str
    left: float
    arrived: bool = False


class Way:
    """The wire of one process: each request is looked at before it leaves, and breaks when the machine falls asleep."""

    def __init__(self, worker: Worker, doors: Mapping[str, Door], rtt: tuple[float, float], random: Random) -> None:
        self._worker = worker
        self._doors = doors
        self._wire = SimWire(doors, rtt, random)
        self._random = random
        self._flights: list[_Flight] = []

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        flight = _Flight(request, sha256(request.body).hexdigest(), anyio.current_time())
        self._worker.leaves(flight)
        self._flights.append(flight)
        try:
            async with self._wire.exchange(request) as response:
                self._worker.is_told(request, response.status, response.headers)
                yield _Heard(response, lambda: self._worker.slept_since(flight.left))
        finally:
            self._flights.remove(flight)
            self._worker.is_over(flight.hash)

    def arrived(self, body: bytes) -> str:
        """The hash of a request that has reached its provider just now."""
        flight = next(one for one in self._flights if one.request.body is body)
        flight.arrived = True
        return flight.hash

    def ended(self, death: Kill | None, at: float) -> None:
        """What was on its way when the process died may arrive all the same."""
        for flight in self._flights:
            if not flight.arrived and death is not None and self._random.random() < 0.5:
                door = next(door for base, door in self._doors.items() if flight.request.url.startswith(f"{base}/"))
                door.handle(_arriving(flight.request), at)
            self._worker.run.flying[flight.hash] -= 1
        self._flights.clear()


def provider_of(request: HttpRequest) -> str:
    return (urlsplit(request.url).hostname or "").removesuffix(".sim")


def _seconds(headers: Mapping[str, str]) -> float | None:
    """How long a provider asks to wait, where it says so plainly and means some minutes at most."""
    try:
        found = float(headers["retry-after"]) if "retry-after" in headers else float(headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        return None
    return found if 0 < found <= _LONGEST_WAIT else None


def asked_for(headers: Mapping[str, str], wall: float) -> float | None:
    """How long an answer asks to wait at the most, in whatever form; None where it asks for nothing."""
    told = [f"{headers.get('retry-after-ms', '')}ms", f"{headers.get('retry-after', '')}s"]
    told += [headers[f"x-ratelimit-reset-{of}"] for of in _NOUNS if headers.get(f"x-ratelimit-remaining-{of}") == "0"]
    found = [sum(float(n) * _UNITS[unit] for n, unit in _DURATION.findall(text)) for text in told]
    if (date := parsedate_tz(headers.get("retry-after", ""))) is not None:
        found.append(mktime_tz(date) - wall)
    return max(found) if max(found) > 0 else None


_NOUNS: Final = ("requests", "tokens")
_DURATION: Final = re.compile(r"(?<![-\d.e])(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def _arriving(request: HttpRequest) -> SimRequest:
    headers = {
        name.lower(): value.reveal() if isinstance(value, Secret) else value for name, value in request.headers.items()
    }
    parts = urlsplit(request.url)
    return SimRequest(
        request.method, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers, request.body
    )


class _Heard:
    """An answer over a connection that does not outlive a sleep of the machine."""

    def __init__(self, response: HttpResponse, slept: Callable[[], bool]) -> None:
        self.status = response.status
        self.headers = response.headers
        self._pieces = response.chunks()
        self._slept = slept

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        if self._slept():
            raise WireError("connection reset while the machine slept", sent=True)
        return piece


class _Troubled:
    """The trouble of a life's disk, at the operation it is meant for; what was durable before is looked at first."""

    def __init__(self, fault: DiskFault | None, worker: Worker) -> None:
        self._fault = fault
        self._worker = worker
        self._changes = 0
        self.changed: dict[str, None] = {}
        """The kinds of operations so far that could change anything."""

    def __call__(self, operation: Operation) -> None:
        self._changes += operation.changes
        if operation.changes:
            self.changed[operation.name] = None
        if operation.name == "rename" and operation.path.suffix == ".md" and not self._worker.lived.disk_failed:
            self._worker.shows(operation.path)
        fault = self._fault
        if fault is None or not operation.changes:
            return
        if self._changes == fault.change or (fault.lasting and self._changes > fault.change):
            if fault.kind in ("ENOSPC", "EDQUOT") and operation.name not in _NEEDS_ROOM:
                return
            self._worker.look()
            error = trouble(fault.kind)
            self._worker.lived.disk_failed = isinstance(error, OSError)
            if operation.path == self._worker.story.ledger.path:
                self._worker.story.ledger_failed = True
            raise error


_NEEDS_ROOM: Final = frozenset({"write", "temporary", "make_dirs", "lock", "appender", "holder"})


# --- one process -------------------------------------------------------------------------------------------------


class Worker:
    """One process at work on one run, from its start to its end or its death."""

    def __init__(self, story: Story, run: Run, lived: Lived) -> None:
        self.story = story
        self.run = run
        self.lived = lived
        life = lived.life
        self.trouble = _Troubled(life.fault, self)
        self.disk = story.disk.beside(self.trouble)
        self._job = job_of(text_of(life.job))
        doors = {f"http://{name}.sim/v1": Door(name, story.engine(name), self) for name in self._job.providers}
        self.way = Way(self, doors, story.world.rtt, Random(f"{story.world.name} {lived.number} way"))
        self._doors = list(doors.values())
        self._shut: dict[str, tuple[float, float]] = {}
        """Between which moments a provider, or its model, does not want to be asked."""
        self._sleeps = [(lived.began + at, seconds) for at, seconds in life.sleeps]
        jumps = [*self._sleeps, *((lived.began + at, by) for at, by in life.jumps)]
        self._clock = VirtualClock(story.wall - story.now, sorted(jumps))

    def process(self) -> Process[None]:
        began, dies = self.lived.began, self.lived.life.dies_after
        seams: list[Seam] = [self.way, *self._doors, self.disk]
        return Process(self.live, seams, began, inf if dies is None else began + dies, f"life {self.lived.number}")

    async def live(self) -> None:
        lived, life = self.lived, self.lived.life
        others = asyncio.all_tasks()
        signals = ScriptedSignals([(lived.began + at, number) for at, number in life.signals])
        chances = Random(f"{self.story.world.name} {lived.number}")
        seams = Seams(self._clock, self.disk, self.way, chances, signals, ScriptedPrograms())
        bases = {(self._job.name, door.name): f"http://{door.name}.sim/v1" for door in self._doors}
        place = Place(ROOT, f'{{"pid": {lived.number}}}', bases)
        source = Source(self._job, "job.yaml", ENVIRON)
        try:
            if life.looked_on:
                progress = Progress(seams, Lines(lived.screen))
                lived.exit = await night(
                    seams,
                    [source],
                    life.options,
                    place,
                    tell=progress.tell,
                    watch=progress.watch,
                    found=partial(self._found, progress),
                )
                await progress.finish(lived.exit)
                progress.close()
            else:
                lived.exit = await night(
                    seams, [source], life.options, place, tell=lived.told.append, found=partial(self._found, None)
                )
        except CannotBegin as cannot:
            lived.exit = cannot.code
            lived.told += cannot.lines
        if life.second is None:
            lived.tasks = sorted(task.get_name() for task in asyncio.all_tasks() - others)
        lived.locked = self.disk.locks

    def _found(self, progress: Progress | None, ready: Ready) -> None:
        self.lived.opened = True
        if progress is not None:
            progress.found(ready)

    # -- what its seams tell ----------------------------------------------------------------------------------------

    def there(self, now: float) -> float:
        """The providers' time: it goes on while this machine sleeps."""
        return now + self.story.slept + sum(seconds for at, seconds in self._sleeps if at <= now)

    def slept_since(self, then: float) -> bool:
        return any(then < at <= anyio.current_time() for at, _ in self._sleeps)

    def look(self) -> None:
        self.story.held(lambda: self.story.look(self.run, self.disk))

    def shows(self, path: Path) -> None:
        """A view takes its place."""
        self.look()
        self.story.held(lambda: invariants.what_is_shown_is_durable(self.run, path))

    def leaves(self, flight: _Flight) -> None:
        run, hashed, body = self.run, flight.hash, flight.request.body
        self.look()
        shut = self._shut.get(self._lane(flight.request), (inf, inf))
        self.story.held(lambda: invariants.at_each_request(self.story, run, hashed, body))
        self.story.held(lambda: invariants.nobody_is_asked_too_early(flight.left, *shut))
        self.story.requests += 1
        self.story.note((flight.left, hashed))
        run.left[hashed] += 1
        run.flying[hashed] += 1
        run.heard.pop(hashed, None)
        run.bodies[hashed] = provider_of(flight.request), body

    def is_told(self, request: HttpRequest, status: int, headers: Mapping[str, str]) -> None:
        """Remember until when a provider does not want to be asked again."""
        now, lane = anyio.current_time(), self._lane(request)
        asked = asked_for(headers, self._clock.wall())
        if asked is not None:
            # Its end a run may wait for, however long the others had to do before; and so many seconds at once.
            until, patience = now + asked, self._job.max_wait
            self.lived.silences += [(now, min(until, now + patience)), (max(now, until - patience), until)]
        seconds = _seconds(headers)
        if status == 200 or seconds is None:
            return
        if now + seconds > self._shut.get(lane, (0.0, 0.0))[1]:
            self._shut[lane] = now + self.lived.patience, now + seconds

    def _lane(self, request: HttpRequest) -> str:
        """What a provider counts together."""
        provider = provider_of(request)
        per_model = self.lived.life.job["providers"][provider]["limits"].get("per") == "model"
        return f"{provider}/{orjson.loads(request.body)['model']}" if per_model else provider

    def is_over(self, hashed: str) -> None:
        self.run.flying[hashed] -= 1
        self.run.heard[hashed] = anyio.current_time()

    def bills_more(self, door: Door, hashed: str, more: int) -> None:
        run = self.run
        run.bills[hashed] += more
        run.billed[door.name] += more
        run.billed_on[run.account.day] += more

    def was_billed(self, door: Door, request: SimRequest, answer: SimAnswer, bill: int) -> None:
        run, hashed = self.run, self.way.arrived(request.body)
        self.bills_more(door, hashed, bill)
        outcome = next((one.outcome for one in door.engine.received[-1:] if one.id == answer.id), "refused")
        if outcome in _BENDING:
            run.bent[hashed] = None
            if outcome == "overrun":
                reserved = max((x["reserved"] for x in run.account.open.values() if x["request"] == hashed), default=0)
                run.excess[door.name] += max(0, bill - reserved)
        self.look()
        self.story.held(lambda: invariants.at_each_bill(self.story, run))


# --- a whole world -----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Story:
    """A world while it is lived."""

    world: World
    now: float = 0.0
    """The loop's time; it goes on through all lives."""
    wall: float = START
    """What the wall clock shows at `now`."""
    slept: float = 0.0
    """How much of the wall's time the machine has slept through."""
    runs: dict[str, Run] = field(default_factory=dict)
    book: Book = field(default_factory=Book)
    day_caps: dict[str, float] = field(default_factory=dict)
    """The highest ceiling that any job had over a day or a month; infinite where a job had none."""
    lived: list[Lived] = field(default_factory=list)
    broken: Broken | None = None
    ledger_failed: bool = False
    """True when a sync of the ledger failed in this life, so that nobody can say what of it is durable."""
    kills: int = 0
    requests: int = 0
    disk: MemoryDisk = field(init=False)
    honest: Honest = field(init=False)
    ledger: Followed = field(init=False)
    _random: Random = field(init=False)
    _digest: Any = field(default_factory=sha256)
    _engines: dict[str, tuple[bytes, Engine]] = field(default_factory=dict)
    _retired: list[tuple[str, Engine]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(f"{self.world.name} story")
        self.disk = MemoryDisk(Random(f"{self.world.name} disk"), sync_seconds=self.world.sync_seconds)
        self.honest = Honest(self.world.final.sims)
        self.ledger = Followed(ROOT / LEDGER, self._take, self._begin_anew)

    def live(self) -> Story:
        """All lives, to the end; raises `Broken`."""
        small = patch.multiple(folded, _EVERY_BYTES=_EVERY_BYTES, _CELLS=_CELLS, _HELD_BYTES=_EVERY_BYTES)
        with patch.object(journal, "_SPARE_BYTES", _SPARE_BYTES), small:
            for life in self.world.lives:
                run = self._one(life)
                if life.rots and self._rot(run):
                    self._repair(run)
                if life.final:
                    invariants.at_the_end(self, run, self.lived[-1])
        self.note(sorted((str(path), sha256(content).hexdigest()) for path, content in self.files().items()))
        return self

    def rival(self, world: World) -> Run:
        """The run of a world that is like this one, but for one thing."""
        return next(iter(Story(world).live().runs.values()))

    @property
    def digest(self) -> str:
        """What stands for everything that happened, in its order."""
        return str(self._digest.hexdigest())

    def note(self, what: object) -> None:
        self._digest.update(repr(what).encode())

    def held(self, promise: Callable[[], None]) -> None:
        """Ask a promise in the midst of a life; when it is broken, nothing goes on."""
        try:
            promise()
        except Broken as why:
            self.broken = self.broken or why
            kill("a promise is broken")

    def look(self, run: Run, disk: MemoryDisk) -> None:
        """Take what has become durable."""
        run.journal.look(disk)
        self.ledger.look(disk)

    def _take(self, line: Line) -> None:
        invariants.take_of_the_ledger(self, line)

    def _begin_anew(self) -> None:
        self.book = Book()

    def files(self) -> dict[Path, bytes]:
        return {path: content for path, content in self.disk.files.items() if path.name != SPARE_FILE}

    def copy(self) -> MemoryDisk:
        copy = MemoryDisk()
        for path, content in self.files().items():
            copy.put(path, content)
        return copy

    def engine(self, name: str) -> Engine:
        return self._engines[name][1]

    def engines(self) -> Iterator[tuple[str, Engine]]:
        """All that there were."""
        yield from self._retired
        for name, (_, engine) in self._engines.items():
            yield name, engine

    # -- a life -----------------------------------------------------------------------------------------------------

    def _one(self, life: Life) -> Run:
        for name, sim in life.sims.items():
            self._hire(name, sim)
        self._mend_disk()
        workers = [self._worker(life, self.now)]
        if (second := life.second) is not None:
            other = replace(life, job=second.job or life.job, fault=None, signals=(), dies_after=second.dies_after)
            workers.append(self._worker(other, self.now + second.after))
        processes = [worker.process() for worker in workers]
        try:
            endings = run_virtual(partial(side_by_side, processes), seed=self.world.order, start=self.now, steps=_STEPS)
        except (Deadlock, Livelock) as stuck:
            raise self.broken or Broken("I16", str(stuck)) from stuck
        except Exception as bug:
            raise self.broken or Broken("bug", in_short(bug)) from bug
        if self.broken is not None:
            raise self.broken
        for worker, ending in zip(workers, endings, strict=True):
            self._end(worker, ending)
        self.ledger.look_back(self.disk.files.get(self.ledger.path, b""))
        power_lost = any(isinstance(ending.death, PowerLoss) for ending in endings)
        for run in self.runs.values():
            run.journal.look_back(self.disk.files.get(run.journal.path, b""))
        for run in dict.fromkeys(worker.run for worker in workers):
            self._look_back(run, [worker for worker in workers if worker.run is run], power_lost)
        for run in self.runs.values():
            run.aged = run.aged or power_lost
        self._pass(life, max(worker.lived.ended for worker in workers))
        return workers[0].run

    def _mend_disk(self) -> None:
        """Between two lives somebody makes room, and copies what a disk shows that failed to keep it to a sound one."""
        self.disk = self.disk.survivor()
        self.disk.room = None
        self.ledger_failed = False
        if any(lived.life.fault is not None and lived.life.fault.kind == "EIO" for lived in self.lived[-2:]):
            for path, content in self.disk.files.items():
                self.disk.put(path, content)

    def _worker(self, life: Life, starts: float) -> Worker:
        run = self._follow(life.job)
        lived = Lived(life, len(self.lived) + 1, starts, 0.1 + 3 * self.world.sync_seconds[1], run.account.seq)
        self.lived.append(lived)
        return Worker(self, run, lived)

    def _end(self, worker: Worker, ending: Ending[None]) -> None:
        lived = worker.lived
        lived.ended = ending.at
        if ending.death is not None:
            lived.exit = None
            self.kills += 1
        self.note((lived.number, lived.exit, lived.ended, len(self.disk.operations)))

    def _look_back(self, run: Run, workers: Sequence[Worker], power_lost: bool) -> None:
        holders = [worker.lived for worker in workers if worker.lived.exit != EXIT_HELD]
        last = max(holders, key=lambda lived: (lived.opened, lived.ended), default=workers[0].lived)
        for worker in workers:
            if worker.lived.exit == EXIT_HELD:
                invariants.it_gives_way(worker, holders)
            elif worker.lived is last:
                wrote = not last.killed and run.account.seq > last.found
                run.aged = power_lost or (run.aged and not wrote)
                invariants.after_each_life(self, run, last)

    def _pass(self, life: Life, until: float) -> None:
        """Let the time go by until the next life."""
        slept = sum(seconds for at, seconds in life.sleeps if self.now + at <= until)
        self.wall += until - self.now + slept + sum(by for at, by in life.jumps if self.now + at <= until) + life.gap
        self.slept += slept
        self.now = until + life.gap

    def _follow(self, job: JobData) -> Run:
        name = f"{job['name']}/main"
        run = self.runs.get(name)
        if run is None:
            run = self.runs[name] = Run(ROOT / name)
        run.plan = _plan_of(text_of(job))
        return run

    def _hire(self, name: str, sim: Mapping[str, Any]) -> None:
        """The provider of this name, another one when it is told to be another."""
        told = orjson.dumps(sim)
        before = self._engines.get(name)
        if before is None or before[0] != told:
            if before is not None:
                self._retired.append((name, before[1]))
            self._engines[name] = told, Engine(config({**sim, "epoch": START}))

    # -- bits that rot ----------------------------------------------------------------------------------------------

    def _rot(self, run: Run) -> bool:
        """Turn over one bit of what the journal knows to be synced; False where there is nothing of the kind."""
        path = run.journal.path
        content = self.disk.files.get(path, b"")
        for _ in range(8 if content else 0):
            self.disk.rot(path, self._random.randrange(len(content)))
            rotten = self.disk.files[path]
            whole = sum(1 for _ in whole_lines(rotten))
            if synced_mark(rotten) > whole and not run.account.mended:
                return True
            self.disk.put(path, content)
        return False

    def _repair(self, run: Run) -> None:
        """A start on a rotten journal must change nothing and say so; after `repair` the run goes on."""
        path, sent = run.journal.path, self.requests
        rotten = self.disk.files[path]
        calm = next(life for life in self.world.lives if life.final and self._follow(life.job) is run)
        worker = self._worker(calm, self.now)
        run_virtual(side_by_side, [worker.process()], start=self.now)
        if worker.lived.exit != EXIT_STORAGE or self.disk.files[path] != rotten or self.requests != sent:
            raise Broken("I5", f"a damaged journal is gone on with: {worker.lived.exit} {worker.lived.told}")
        disk = self.disk = self.disk.survivor()
        disk.room = None
        if run_virtual(repair, disk, VirtualClock(self.wall), run.folder, "repair") is None:
            raise Broken("I5", "a damaged journal needs no repair")
        run.journal.begin_anew()
        run.account.mended_to = _ALL
        run.journal.look_back(disk.files[path])
        run.account.mended_to = run.account.seq
        run.left = Counter(run.account.sent)
        counted = run.account.of(*RUN).all
        run.forgotten += max(0, run.billed.total() - run.excess.total() - run.forgotten - counted)
        self.now += 1.0
        self.wall += 1.0


def in_short(error: BaseException) -> str:
    """What went wrong in our own code, and where."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frames = traceback.extract_tb(error.__traceback__)
    ours = next((frame for frame in reversed(frames) if "/runner/" in frame.filename), frames[-1])
    return f"{type(error).__name__}: {error} ({Path(ours.filename).name}:{ours.lineno}, {ours.name})"
