"""Whole nights of several processes on one provider key: never above a limit, little of it idle, and all of it told."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from runner.events import Sent, Stopped
from runner.journal import FILE as JOURNAL
from runner.journal import decode
from runner.limits import Lane, Limits
from runner.lines import split
from runner.night import Place, Source, night
from runner.preflight import CannotBegin
from runner.selection import Options
from runner.shares import FILE, Shares, parse
from runner.sim.config import load_config
from runner.sim.wire import SimWire
from runner.world import World
from tests.memory import Fault, MemoryDisk, Operation, no_fault, trouble
from tests.nights import ROOT, START, Counting, job_of, matrix, provider, text_of
from tests.virtual import Calls, Process, ScriptedPrograms, ScriptedSignals, VirtualClock, run_virtual, side_by_side

STATE = Path("/state/tertulia")
BASE = "https://p.example/v1"
KEY = "sk-live-5fR8yLm2QxWc7Td9"
MAX_TOKENS = 300


@dataclass
class Street:
    """One provider and one disk, and what the jobs of all processes are told of the provider's limits."""

    limits: Mapping[str, Any]
    theirs: Mapping[str, Any] = field(default_factory=dict)
    habits: Mapping[str, Any] = field(default_factory=dict)
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(START))
    engine: Counting = field(init=False)

    def __post_init__(self) -> None:
        loaded = load_config(provider(limits=dict(self.theirs or self.limits), **self.habits))
        assert not loaded.problems, loaded.problems
        self.engine = Counting(loaded.config)

    def live(self, *houses: House, seed: int | None = None) -> None:
        """Let these processes live side by side until the last of them has ended."""
        processes = [house.process(self) for house in houses]
        run_virtual(side_by_side, processes, seed=seed, steps=20_000_000)

    def statuses(self) -> set[int]:
        return {status for _, status, _ in self.engine.arrivals}

    def requests(self, start: float, end: float) -> float:
        """How many were let in, a minute."""
        return sum(start <= at < end for at, status, _ in self.engine.arrivals if status == 200) * 60.0 / (end - start)

    def tokens(self, start: float, end: float) -> float:
        """How many the provider reserved for those that it let in, a minute."""
        let_in = [number for at, status, number in self.engine.arrivals if status == 200 and start <= at < end]
        return sum(self.engine.bill.charges[n].input + MAX_TOKENS for n in let_in) * 60.0 / (end - start)

    def used(self, start: float, end: float) -> float:
        """How many tokens were billed for those that it let in, a minute."""
        let_in = [number for at, status, number in self.engine.arrivals if status == 200 and start <= at < end]
        charges = [self.engine.bill.charges[number] for number in let_in]
        return sum(charge.input + charge.output for charge in charges) * 60.0 / (end - start)


@dataclass
class House:
    """One `tertulia run`, with a job of its own on the common key."""

    name: str
    options: Options = Options()  # noqa: RUF009 - a frozen value
    starts: float = 0.0
    dies: float = inf
    signals: Sequence[tuple[float, int]] = ()
    job: Mapping[str, Any] = field(default_factory=dict)
    fault: Fault = no_fault
    told: list[tuple[float, str]] = field(default_factory=list)
    exit: int | None = None

    def process(self, street: Street) -> Process[None]:
        job = matrix(repeat=8, max_tokens=MAX_TOKENS, limits=street.limits, budget=500)
        job["name"] = self.name
        job["providers"]["p"] |= {"base_url": BASE, "api_key": "${KEY}"}
        source = Source(job_of(text_of({**job, **self.job})), f"{self.name}.yaml", {"KEY": KEY, "OTHER": "sk-other"})
        disk, calls = street.disk.beside(self.fault), Calls(street.engine)
        wire = SimWire({BASE: calls}, (0.001, 0.03), Random(self.name))
        holder = f'{{"pid": {len(self.name)}, "host": "north", "since": "2026-11-21 12:00:00"}}'

        async def live() -> None:
            world = World(street.clock, disk, wire, Random(1), ScriptedSignals(self.signals), ScriptedPrograms())
            try:
                self.exit = await night(world, [source], self.options, Place(ROOT, holder, {}, STATE), tell=self.tell)
            except CannotBegin as cannot:
                self.exit = cannot.code
                for line in cannot.lines:
                    self.tell(line)

        return Process(live, [disk, calls], self.starts, self.dies, self.name)

    def tell(self, line: str) -> None:
        self.told.append((anyio.current_time(), line))

    @property
    def said(self) -> str:
        return "\n".join(line for _, line in self.told)

    def when(self, words: str) -> float:
        """When it first said something with these words."""
        return next(at for at, line in self.told if words in line)


def half(seconds: float) -> Options:
    return Options(max_time=seconds, share=0.5)


# --- limits are kept, and used -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "theirs"),
    [
        pytest.param({"rpm": 120}, {"window": "sliding"}, id="sliding"),
        pytest.param({"rpm": 120}, {"window": "fixed"}, id="fixed"),
        pytest.param({"rpm": 120, "burst": 8}, {"window": "bucket"}, id="bucket"),
    ],
)
def test_two_processes_use_one_limit_of_requests_together_and_neither_is_ever_refused(
    limits: Mapping[str, Any], theirs: Mapping[str, Any]
) -> None:
    """While the second comes, talks and goes, at least 95 % of the limit is used, and no request is refused."""
    street = Street({"concurrency": 60, **limits}, {**limits, **theirs})
    first, second = House("first", Options(max_time=130.0)), House("second", half(60.0), starts=20.0)
    street.live(first, second)
    assert street.statuses() == {200}
    assert street.requests(10.0, 130.0) >= 0.95 * 120
    assert street.requests(25.0, 80.0) >= 0.95 * 120
    assert 20.0 < second.when("it is its turn") < 24.0
    assert first.when("p: 50% of its limits from now on (50% is left to other processes)") < 24.0
    assert 80.0 < first.when("p: 100% of its limits from now on") < 88.0


@pytest.mark.parametrize("window", ["sliding", "fixed"])
def test_two_processes_share_a_limit_of_tokens(window: str) -> None:
    """Tokens that are counted up front are shared as requests are: 95 % used, none refused."""
    limits = {"tpm": 60_000}
    street = Street({"concurrency": 60, **limits}, {**limits, "window": window})
    street.live(House("first", Options(max_time=130.0)), House("second", half(60.0), starts=20.0))
    assert street.statuses() == {200}
    assert street.tokens(10.0, 130.0) >= 0.95 * 60_000


def test_two_processes_share_a_limit_of_tokens_that_are_counted_as_used() -> None:
    """Where the truth is known only afterwards hardly anything is refused, and the limit is used."""
    limits = {"tpm": 30_000, "count": "used"}
    habits = {"latency": {"first": 2, "per_token": 0.02, "spread": 0.5}}
    street = Street({"concurrency": 100, **limits}, limits, habits)
    street.live(House("first", Options(max_time=130.0)), House("second", half(60.0), starts=20.0))
    refused = sum(status == 429 for _, status, _ in street.engine.arrivals)
    assert refused <= 0.005 * len(street.engine.arrivals)
    assert street.used(10.0, 130.0) >= 0.93 * 30_000


def test_a_run_whose_time_is_over_says_the_time_that_it_was_given() -> None:
    """What it waited for others counts in it, and is not taken from the figure."""
    street = Street({"concurrency": 8})
    first, second = House("first", Options(max_time=9.87)), House("second", Options(max_time=25.0), starts=1.0)
    street.live(first, second)
    assert 9.0 < second.when("it is its turn") < 20.0
    read = [decode(line, at) for at, line, _ in split(street.disk.survivor(), ROOT / "second/main" / JOURNAL)]
    records = [record for record in read if record is not None]
    assert max(record.at for record in records if isinstance(record.event, Sent)) - START <= 26.1
    reasons = {record.event.reason for record in records if isinstance(record.event, Stopped)} - {None}
    assert reasons == {"the run's time of 25 s is over"}


def test_slots_are_shared_and_no_call_too_many_is_under_way() -> None:
    """A provider that refuses the ninth call at once never has cause to."""
    habits = {"latency": {"first": 4, "per_token": 0.01, "spread": 0.5}}
    street = Street({"concurrency": 8}, habits=habits)
    street.live(House("first", Options(max_time=90.0)), House("second", half(40.0), starts=20.0))
    assert street.statuses() == {200}


@pytest.mark.parametrize("victim", ["first", "second"])
def test_after_a_kill_the_other_process_has_the_whole_limit_and_breaks_it_no_more_than_before(victim: str) -> None:
    """`kill -9` at any time: what the dead one sent still counts, what it had is used again, and nothing is refused."""
    street = Street({"rpm": 120, "concurrency": 60}, {"rpm": 120})
    first, second = House("first", Options(max_time=120.0)), House("second", half(95.0), starts=15.0)
    third = House("third", Options(max_time=60.0), starts=70.0)
    dying = first if victim == "first" else second
    dying.dies = 60.0
    street.live(first, second, third)
    assert street.statuses() == {200}
    if victim == "second":
        assert first.when("p: 100% of its limits from now on") < 64.0
        assert 120.0 < third.when("it is its turn") < 126.0
    else:
        assert not any("it is its turn" in line for _, line in third.told), "a half was free already"
    assert street.requests(10.0, 60.0) >= 0.95 * 120
    assert street.requests(75.0, 110.0) >= 0.95 * 120


def test_the_next_run_knows_what_another_one_sent_before_it_was_killed() -> None:
    """With a burst of a whole minute allowed, only the journal of the dead one keeps the next from being refused."""
    street = Street({"tpm": 20_000, "concurrency": 60}, {"tpm": 20_000})
    first, second = House("first", dies=30.0), House("second", Options(max_time=90.0), starts=31.0)
    street.live(first, second)
    assert street.statuses() == {200}
    assert street.tokens(31.0, 120.0) >= 0.8 * 20_000


def test_a_run_that_goes_on_after_a_kill_counts_what_it_sent_once() -> None:
    """Its own last minute is in the table and in its journal, and is not counted twice."""
    street = Street({"rpm": 120, "concurrency": 60}, {"rpm": 120})
    street.live(House("first", dies=40.0), House("first", Options(max_time=60.0), starts=41.0))
    assert street.statuses() == {200}
    assert street.requests(44.0, 100.0) >= 0.95 * 120


# --- waiting -----------------------------------------------------------------------------------------------------


def test_a_second_process_waits_says_for_whom_and_what_to_do_and_goes_on_by_itself() -> None:
    """One line names provider, process, host, since when and which run, a second one the way to go on at once."""
    street = Street({"rpm": 120, "concurrency": 60}, {"rpm": 120})
    first, second = House("first", Options(max_time=40.0)), House("second", Options(max_time=60.0), starts=10.0)
    street.live(first, second)
    lines = [line for _, line in second.told]
    assert lines[:2] == [
        "waiting for p: process 5 on north since 2026-11-21 12:00:00 is there, with first/main",
        "  to go on now, beside it, start this with --share 0.5",
    ]
    assert lines[2] == "p: it is its turn"
    assert 40.0 < second.when("it is its turn") < 50.0
    assert (first.exit, second.exit) == (5, 5)
    assert street.engine.arrivals[-1][0] < 10.0 + 60.0 + 5.0, "the time that it waited is a part of its time"
    assert street.statuses() == {200}


def test_a_long_wait_is_told_again_and_not_often() -> None:
    """After ten minutes, and then once an hour."""
    street = Street({"concurrency": 8, "rpm": 120})
    street.live(House("before", Options(max_time=1.0)))
    (account,) = parse(street.disk.files[STATE / FILE]).free
    disk = street.disk.beside()
    shares = Shares(disk, street.clock, STATE, "{}", {account: Lane("p", Limits(), account)}, {}, {account: 0.0})

    async def hold() -> None:
        assert await shares.take() is None
        await anyio.sleep(4500.0)
        await shares.leave()

    second = House("second", Options(max_time=4520.0), starts=10.0)
    run_virtual(side_by_side, [Process(hold, [disk]), second.process(street)], steps=20_000_000)
    times = [at - 10.0 for at, line in second.told if line.startswith("waiting for p")]
    assert [round(at / 60) for at in times] == [0, 10, 70]
    assert second.when("it is its turn") < 4505.0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_process_that_is_stopped_while_it_waits_ends_at_once_and_records_nothing(number: int, code: int) -> None:
    """It leaves no life in its journal, and its place in the line to the next."""
    street = Street({"concurrency": 8})
    first, third = House("first", Options(max_time=30.0)), House("third", Options(max_time=40.0), starts=10.0)
    stopped = House("second", starts=5.0, signals=[(20.0, number)])
    street.live(first, stopped, third)
    assert stopped.exit == code
    assert stopped.told[-1][1] == f"exit {code}: interrupted before it was its turn; nothing was sent"
    assert stopped.told[-1][0] < 21.0
    assert street.disk.files[ROOT / "second" / "main" / JOURNAL] == b""
    assert 30.0 < third.when("it is its turn") < 40.0


def test_a_process_waits_no_longer_than_its_time() -> None:
    """`--max-time` ends it with exit 5."""
    street = Street({"concurrency": 8})
    second = House("second", Options(max_time=20.0), starts=5.0)
    street.live(House("first", Options(max_time=40.0)), second)
    assert second.exit == 5
    at, line = second.told[-1]
    assert line == "exit 5: deadline before it was its turn; nothing was sent"
    assert at == pytest.approx(25.0, abs=0.5)


def test_a_run_of_which_nothing_is_missing_waits_for_nobody() -> None:
    """What is complete needs no lane."""
    street = Street({"concurrency": 8})
    small = {"pairings": [{"prompt": "talk", "a": "m0", "b": "m1"}]}
    street.live(House("small", job=small))
    again = House("small", job=small, starts=5.0)
    street.live(House("first", Options(max_time=20.0)), again)
    assert again.exit == 0
    assert again.told[-1][0] < 6.0


def test_a_run_waits_for_no_lane_that_it_does_not_need() -> None:
    """What is missing is on another key: the one that is taken is not asked for."""
    street = Street({"concurrency": 8})
    models = {"m0": {"use": "p/m0"}, "m1": {"use": "q/m1"}, "m2": {"use": "q/m2"}}
    both = {
        "providers": {
            name: {"type": "openai", "base_url": BASE, "api_key": f"${{{key}}}"}
            for name, key in (("p", "KEY"), ("q", "OTHER"))
        },
        "models": {name: {**model, "price": {"input": 1, "output": 4}} for name, model in models.items()},
        "pairings": [{"prompt": "talk", "a": ["m0", "m2"], "b": "m1"}],
    }
    second = House("second", Options(only=("talk/m2~m1",)), starts=5.0, job=both)
    street.live(House("first", Options(max_time=60.0)), second)
    assert second.exit == 0, second.said
    assert second.told == []


# --- what cannot be shared ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "least"),
    [
        pytest.param({"concurrency": 1}, "1.00", id="one-call-at-a-time"),
        pytest.param({"rpm": 60, "burst": 1}, "1.00", id="no-burst"),
        pytest.param({"output_tpm": 500}, "0.60", id="a-call-larger-than-its-share"),
    ],
)
def test_a_share_that_lets_no_call_through_is_refused_before_anything_is_sent(
    limits: Mapping[str, Any], least: str
) -> None:
    """A share must hold one call, or the limit would be passed by those who share it; exit 2 names the least."""
    street = Street(limits, {"concurrency": 8})
    one = House("one", Options(share=0.5))
    street.live(one)
    assert one.exit == 2
    assert "--share 0.5 of p lets no call through" in one.said and f"at least --share {least}" in one.said
    assert street.engine.arrivals == []


def test_who_can_give_nothing_away_keeps_all_of_it() -> None:
    """Where two cannot share, the second waits, and is not told that it could do better."""
    street = Street({"concurrency": 1})
    second = House("second", Options(max_time=60.0), starts=5.0)
    street.live(House("first", Options(max_time=30.0)), second)
    assert "--share" not in second.said
    assert second.when("it is its turn") >= 30.0
    assert street.statuses() == {200}


def test_the_built_in_provider_is_everybodys_own() -> None:
    """Two processes that talk to their own built-in servers know nothing of each other, and touch no table."""
    street = Street({"concurrency": 4})

    def own(name: str) -> Process[int]:
        job = matrix(("m0", "m1"), name=name)
        bases = {(name, "p"): BASE}
        disk, calls = street.disk.beside(), Calls(street.engine)
        world = World(street.clock, disk, SimWire({BASE: calls}), Random(1), ScriptedSignals(), ScriptedPrograms())
        source = Source(job_of(text_of(job)), "job.yaml", {})

        async def live() -> int:
            return await night(world, [source], Options(), Place(ROOT, "{}", bases, STATE), tell=lambda line: None)

        return Process(live, [disk, calls])

    endings = run_virtual(side_by_side, [own("one"), own("two")])
    assert [ending.value for ending in endings] == [0, 0]
    assert not [path for path in street.disk.files if path.parent == STATE]


# --- what the table is -------------------------------------------------------------------------------------------


def test_no_key_is_in_any_byte_that_processes_tell_each_other() -> None:
    """What stands in the state folder names accounts by a hash, and no key or address."""
    street = Street({"concurrency": 8, "rpm": 120})
    first, second = House("first", dies=20.0), House("second", half(10.0), starts=5.0)
    street.live(first, second)
    written = {path: content for path, content in street.disk.files.items() if path.parent == STATE}
    assert STATE / FILE in written
    for content in written.values():
        assert KEY.encode() not in content and b"example" not in content


def test_a_state_folder_that_cannot_be_written_is_told_once_and_the_night_goes_on() -> None:
    """Without the table a process talks as if it were alone, and says so."""

    def read_only(operation: Operation) -> None:
        if STATE in (operation.path, *operation.path.parents) and operation.changes:
            raise trouble("EIO")

    street = Street({"concurrency": 8})
    one = House("one", Options(max_time=20.0), fault=read_only)
    street.live(one)
    warnings = [line for _, line in one.told if line.startswith("warning")]
    assert len(warnings) == 1 and str(STATE) in warnings[0] and "Input/output error" in warnings[0]
    assert one.exit == 5 and street.engine.arrivals
