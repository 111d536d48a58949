"""Lanes that several processes use: whoever comes, goes or dies, together they keep to the limits, and use them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from itertools import count
from math import inf
from pathlib import Path

import anyio
import orjson
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from runner.events import Opened, Sent
from runner.journal import Journal
from runner.limits import DAY, MINUTE, Lane, Limits
from runner.shares import FILE, Hold, Row, Shares, Table, Talks, Wait, encode, parse, sent_since
from tests.memory import Fault, MemoryDisk, Operation, no_fault, trouble
from tests.virtual import FixedClock, Process, VirtualClock, run_virtual, side_by_side

STATE = Path("/state/tertulia")
RUNS = Path("/outputs")
WALL = 1_795_262_400.0
LIMITS = Limits(concurrency=6, rpm=60)
EPS = 1e-6


def opened() -> Opened:
    return Opened(1, "0", "job", "main", "2026-11-21", "UTC", {}, {}, {}, {}, {})


def sent(number: int, provider: str = "p") -> Sent:
    return Sent(f"{provider}-{number}", 1, 1, "a", "m", provider, "m", "0" * 64, "openai/1", 0, 10, 100)


@dataclass
class World:
    """What the provider sees: when each call came, and how many were under way."""

    limits: Limits = LIMITS
    flight: float = 3.0
    disk: MemoryDisk = field(default_factory=MemoryDisk)
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(WALL))
    calls: list[tuple[float, str]] = field(default_factory=list)
    flying: dict[str, int] = field(default_factory=dict)
    most_flying: int = 0

    def came(self, who: str) -> None:
        self.calls.append((anyio.current_time(), who))
        self.flying[who] = self.flying.get(who, 0) + 1
        self.most_flying = max(self.most_flying, sum(self.flying.values()))

    def in_the_worst(self, seconds: float) -> int:
        """The most calls that came in any stretch of so many seconds."""
        times = sorted(at for at, _ in self.calls)
        return max((sum(at - seconds < one <= at for one in times) for at in times), default=0)

    def number(self, start: float, end: float, who: str | None = None) -> int:
        return sum(start <= at < end and who in (None, name) for at, name in self.calls)


@dataclass
class Caller:
    """A process that makes a call whenever its part of a lane lets it."""

    world: World
    name: str
    asked: float | None = None
    starts: float = 0.0
    lasts: float = 60.0
    """How long it makes calls, from when it has its share."""
    dies: float = inf
    lanes: Sequence[str] = ("p",)
    fault: Fault = no_fault
    began: float | None = None
    waits: list[Wait] = field(default_factory=list)
    changes: list[tuple[float, float]] = field(default_factory=list)
    """(When, share) of each change that it was told of."""
    shares: Shares | None = None

    def process(self) -> Process[None]:
        disk = self.world.disk.beside(self.fault)
        return Process(partial(self._live, disk), [disk, self], self.starts, self.dies, self.name)

    def ended(self, death: object, at: float) -> None:
        self.world.flying.pop(self.name, None)  # the kernel closes its connections

    async def _live(self, disk: MemoryDisk) -> None:
        folder = RUNS / self.name / "main"
        journal = await Journal.open(disk, self.world.clock, folder, self.name)
        lanes = {name: Lane(name, self.world.limits, name) for name in self.lanes}
        runs = {str(folder): (journal, {name: name for name in lanes})}
        needs = {name: lane.least(100) for name, lane in lanes.items()}
        shares = self.shares = Shares(disk, self.world.clock, STATE, self.name, lanes, runs, needs, self.asked)
        async with journal.writing():
            journal.record(opened())
            while (wait := await shares.take()) is not None:
                self.waits.append(wait)
                await anyio.sleep(1.0)
            self.began = anyio.current_time()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(shares.keep, self._changed)
                with anyio.move_on_after(self.lasts):
                    async with anyio.create_task_group() as callers:
                        for lane in lanes.values():
                            callers.start_soon(self._call, lane, journal, callers)
                tasks.cancel_scope.cancel()
            await shares.leave()
            assert not [path for path in disk.locks if path.parent == STATE]
        journal.close()

    def _changed(self, lane: Lane) -> None:
        self.changes.append((anyio.current_time(), lane.share))

    async def _call(self, lane: Lane, journal: Journal, tasks: anyio.abc.TaskGroup) -> None:
        for number in count(journal.seq):
            while not self._may(lane):  # noqa: ASYNC110 - a window sets no event
                await anyio.sleep(0.1)
            lane.take(1.0, 1.0, anyio.current_time())
            lane.flying += 1
            journal.record(sent(number, lane.name))
            await journal.flushed()
            tasks.start_soon(self._fly, lane)

    @staticmethod
    def _may(lane: Lane) -> bool:
        now = anyio.current_time()
        return lane.when(1.0, 1.0, now) <= now and lane.free_slots >= 1.0

    async def _fly(self, lane: Lane) -> None:
        self.world.came(self.name)
        try:
            await anyio.sleep(self.world.flight)
        finally:
            lane.flying -= 1
            if self.name in self.world.flying:
                self.world.flying[self.name] -= 1


def together(*callers: Caller, seed: int | None = None) -> World:
    """Let these processes live side by side until the last of them has ended."""
    run_virtual(side_by_side, [caller.process() for caller in callers], seed=seed, steps=5_000_000)
    world = callers[0].world
    assert world.in_the_worst(MINUTE) <= (world.limits.rpm or inf), "the limit of a minute was passed"
    assert world.most_flying <= (world.limits.concurrency or inf), "too many calls at once"
    return world


def table(world: World) -> Table:
    return parse(world.disk.files[STATE / FILE])


# --- whoever comes and goes --------------------------------------------------------------------------------------


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[float | None, float, float, float]]:
    """Some processes: what each asks for, when it comes, how long it works, and when it dies."""
    wish = st.sampled_from([None, None, 0.2, 0.5, 0.7, 1.0])
    start, lasts = st.floats(0, 100), st.floats(5, 90)
    dies = st.one_of(st.just(inf), st.floats(1, 200))
    one = st.tuples(wish, start, lasts, dies).map(lambda of: (of[0], of[1], of[2], of[1] + of[3]))
    return draw(st.lists(one, min_size=2, max_size=5))


@given(script=scripts(), seed=st.one_of(st.none(), st.integers(0, 99)))
@settings(max_examples=30, phases=(Phase.generate,))  # a world takes too long to be shrunk
@pytest.mark.prove
def test_whoever_comes_goes_or_dies_all_together_keep_to_the_limits_and_each_gets_its_turn(
    script: list[tuple[float | None, float, float, float]], seed: int | None
) -> None:
    """No minute and no moment holds more than the limits allow, and whoever waits and lives gets its turn."""
    world = World()
    callers = [
        Caller(world, f"p{number}", wish, starts, lasts, dies)
        for number, (wish, starts, lasts, dies) in enumerate(script)
    ]
    together(*callers, seed=seed)
    for caller in callers:
        assert caller.began is not None or caller.dies < inf
    mortal = {caller.name for caller in callers if caller.dies < inf}
    assert all(row.holder in mortal for row in table(world).rows), "whoever lived has given its share back"


@given(script=scripts())
@settings(max_examples=15, phases=(Phase.generate,))
def test_processes_with_lanes_in_common_never_wait_for_each_other(
    script: list[tuple[float | None, float, float, float]],
) -> None:
    """With two lanes, taken together or alone, in every order, all come to their end."""
    world = World(Limits(concurrency=6, rpm=600))
    lanes = (("x", "y"), ("y", "x"), ("x",), ("y",))
    callers = [
        Caller(world, f"p{number}", wish, starts, min(lasts, 20.0), lanes=lanes[number % 4])
        for number, (wish, starts, lasts, _) in enumerate(script)
    ]
    run_virtual(side_by_side, [caller.process() for caller in callers], steps=5_000_000)
    assert all(caller.began is not None for caller in callers)
    assert table(world).rows == []


def test_a_share_that_is_asked_for_is_given_at_once_and_nothing_of_the_limit_is_lost() -> None:
    """Who has all gives up half within seconds, takes it back when it is free, and the limit is used all the time."""
    world = World(Limits(concurrency=20, rpm=60))
    first, second = Caller(world, "first", lasts=300.0), Caller(world, "second", 0.5, starts=60.0, lasts=120.0)
    together(first, second)
    assert second.began is not None and second.began < 65.0
    assert [share for _, share in first.changes] == [0.5, 1.0]
    assert first.changes[1][0] < second.began + 120.0 + 3.0
    assert all(world.number(start, start + 60.0) >= 57 for start in range(0, 300, 60))
    assert world.number(120.0, 180.0, "second") == 30


def test_slots_are_handed_over_as_calls_land() -> None:
    """While calls of the first are in flight that it would have no more slots for, the second waits."""
    world = World(Limits(concurrency=8), flight=10.0)
    first, second = Caller(world, "first", lasts=60.0), Caller(world, "second", 0.5, starts=1.0, lasts=30.0)
    together(first, second)
    assert second.began is not None and 10.0 < second.began < 14.0
    assert second.waits[0].soon
    assert world.most_flying == 8


def test_without_a_wish_a_second_waits_for_the_first_and_counts_what_it_sent() -> None:
    """It is told who is in the way and what could be had beside it, and begins when that one has gone."""
    world = World()
    first, second = Caller(world, "first", lasts=30.0), Caller(world, "second", starts=5.0, lasts=60.0)
    together(first, second)
    assert second.began is not None and 30.0 <= second.began < 33.0
    other = second.waits[0].others[0]
    assert (other.holder, other.runs, other.lanes) == ("first", ("/outputs/first/main",), ("p",))
    assert second.waits[0].room >= 0.5 and not second.waits[0].soon
    assert first.changes == []


def test_without_a_wish_what_others_have_left_is_taken_at_once() -> None:
    """Beside somebody who asked for a half, the other half is free; when that one goes, all of it."""
    world = World(Limits(concurrency=20, rpm=60))
    first, second = Caller(world, "first", 0.5, lasts=60.0), Caller(world, "second", starts=5.0, lasts=200.0)
    together(first, second)
    assert second.waits == []
    assert second.shares is not None and [share for _, share in second.changes] == [1.0]
    assert world.number(100.0, 160.0, "second") == 60


def test_a_wish_that_does_not_fit_beside_another_wish_waits() -> None:
    """Who asked for a share keeps it, whoever comes."""
    world = World()
    first, second = Caller(world, "first", 0.7, lasts=40.0), Caller(world, "second", 0.4, starts=5.0, lasts=20.0)
    together(first, second)
    assert second.began is not None and second.began >= 40.0
    assert first.changes == []


def test_nothing_is_given_up_for_somebody_who_cannot_have_all_of_its_lanes_yet() -> None:
    """While another lane that it needs is taken, a process is given none: a share that nobody uses would lie idle."""
    world = World(Limits(concurrency=6, rpm=600))
    first = Caller(world, "first", lasts=60.0, lanes=("x",))
    other = Caller(world, "other", 0.8, lasts=30.0, lanes=("y",))
    both = Caller(world, "both", 0.5, starts=5.0, lasts=10.0, lanes=("x", "y"))
    run_virtual(side_by_side, [caller.process() for caller in (first, other, both)], steps=5_000_000)
    assert both.began is not None and 30.0 < both.began < 40.0
    assert [(round(when) > 30, share) for when, share in first.changes] == [(True, 0.5), (True, 1.0)]


def test_first_come_first_served() -> None:
    """A small wish does not get past a large one that has waited for longer, nor one without a wish past another."""
    world = World()
    callers = [
        Caller(world, "first", 0.6, lasts=40.0),
        Caller(world, "large", 0.9, starts=5.0, lasts=20.0),
        Caller(world, "small", 0.3, starts=10.0, lasts=20.0),
        Caller(world, "rest", starts=15.0, lasts=20.0),
        Caller(world, "last", starts=20.0, lasts=20.0),
    ]
    together(*callers)
    first, large, small, rest, last = (caller.began or inf for caller in callers)
    assert first < large - 40.0
    assert large + 20.0 <= min(small, rest)
    assert rest + 20.0 <= last


def test_who_dies_leaves_its_share_and_all_that_it_sent() -> None:
    """After a `kill -9` its neighbour has everything within seconds, and counts the last minute of the dead as well."""
    world = World(Limits(concurrency=20, rpm=60))
    first, second = Caller(world, "first", lasts=200.0), Caller(world, "second", 0.5, starts=20.0, dies=100.0)
    together(first, second)
    assert [share for _, share in first.changes] == [0.5, 1.0]
    assert first.changes[1][0] < 103.0
    assert all(world.number(start, start + 60.0) >= 57 for start in (0, 60, 120))


@pytest.mark.parametrize("own", [False, True], ids=["another-run", "the-same-run"])
def test_who_comes_after_a_death_counts_what_the_dead_sent(own: bool) -> None:
    """The next process on a place begins warm: from the journal of a run that it never saw, or from its own."""
    world = World(Limits(concurrency=100, rpm=60))
    dead = Caller(world, "first", dies=10.0)
    together(dead)
    assert world.number(0.0, 10.0) == 60
    world.clock.jump(20.0)

    async def look() -> float:
        disk = world.disk.beside()
        journal = await Journal.open(disk, world.clock, RUNS / ("first" if own else "next") / "main", "next")
        lane = Lane("p", world.limits, "p")
        shares = Shares(disk, world.clock, STATE, "next", {"p": lane}, {"run": (journal, {"p": "p"})}, {"p": 0.0})
        assert await shares.take() is None
        assert shares.knows(lane, "minute")
        return lane.when(1.0, 1.0, anyio.current_time())

    assert 40.0 - 2.0 <= run_virtual(look) <= 40.0 + 2.0


# --- the day -----------------------------------------------------------------------------------------------------


def test_what_is_left_of_a_day_is_shared_and_never_passed() -> None:
    """Half of what is left of a daily limit is what a half is; what was sent before counts for both."""
    world = World(Limits(concurrency=6, rpm=30, rpd=100))
    first = Caller(world, "first", lasts=200.0)
    second = Caller(world, "second", 0.5, starts=100.0, lasts=400.0)
    third = Caller(world, "third", starts=100.0 + DAY / 2, lasts=60.0)
    together(first, second, third)
    before = world.number(0.0, 101.0)
    assert 55 <= before <= 60
    assert world.number(101.0, DAY, "second") in ((100 - before) // 2, (100 - before) // 2 - 1)
    assert world.in_the_worst(DAY) >= 98
    assert world.in_the_worst(DAY) <= 100


# --- what can go wrong -------------------------------------------------------------------------------------------


def at_the_table(operation: Operation) -> bool:
    return STATE in (operation.path, operation.path.parent) and operation.changes


def victim_and_others(victim: str, fault: Fault) -> list[Caller]:
    world = World(Limits(concurrency=4, rpm=20))
    callers = [
        Caller(world, "first", lasts=12.0),
        Caller(world, "second", 0.5, starts=2.0, lasts=5.0),
        Caller(world, "third", starts=8.0, lasts=5.0),
    ]
    for caller in callers:
        if caller.name == victim:
            caller.fault = fault
    return callers


@pytest.mark.parametrize("victim", ["first", "second"])
@pytest.mark.prove
def test_whoever_dies_at_any_touch_of_the_table_the_others_get_everything(victim: str) -> None:
    """Killed in the midst of any operation on a lock or the table, a process stands in nobody's way."""
    touched: list[int] = []

    def note(operation: Operation) -> None:
        if at_the_table(operation):
            touched.append(operation.own)

    together(*victim_and_others(victim, note))
    assert len(touched) > 20
    for number in dict.fromkeys(touched):
        callers = victim_and_others(victim, dies_at(number))
        together(*callers)
        assert all(caller.began is not None for caller in callers if caller.name != victim), number
        assert all(row.holder == victim for row in table(callers[0].world).rows)


def dies_at(number: int) -> Fault:
    def fault(operation: Operation) -> None:
        if operation.own == number:
            raise trouble("torn")

    return fault


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"v":1}', b'{"v":2,"rows":[]}', b"\0" * 40])
def test_a_table_that_cannot_be_read_is_made_anew_by_those_who_are_alive(content: bytes) -> None:
    """Damaged, or written by a later version: nobody takes anything before those who hold shares have said so."""
    world = World(Limits(concurrency=20, rpm=60))
    first, second = Caller(world, "first", lasts=200.0), Caller(world, "second", 0.5, starts=10.5, lasts=60.0)

    async def damage() -> None:
        world.disk.put(STATE / FILE, content)

    damaged = Process(damage, starts=10.4)
    run_virtual(side_by_side, [first.process(), second.process(), damaged])
    assert world.in_the_worst(MINUTE) <= 60
    assert second.waits[0].others[0].holder == "first"
    assert second.began is not None and second.began < 15.0
    assert [share for _, share in first.changes] == [0.5, 1.0]


@pytest.mark.parametrize("at", [20.0, 20.4, 20.8, 21.2, 21.6])
def test_whoever_finds_the_table_lost_takes_nothing_of_those_who_have_not_said_so_yet(at: float) -> None:
    """A neighbour that is alive still has its share, although for a moment no table says so."""
    world = World(Limits(concurrency=20, rpm=60))
    first, second = Caller(world, "first", lasts=90.0), Caller(world, "second", 0.5, starts=3.0, lasts=60.0)

    async def damage() -> None:
        world.disk.put(STATE / FILE, b"")

    run_virtual(side_by_side, [first.process(), second.process(), Process(damage, starts=at)])
    assert world.in_the_worst(MINUTE) <= 60
    assert [share for when, share in first.changes if when < 60.0] == [0.5]
    assert [share for _, share in first.changes] == [0.5, 1.0]


def test_what_a_death_at_the_door_left_behind_is_tidied_up() -> None:
    """A table that never got its name is removed by whoever comes next."""
    world = World()
    world.disk.put(STATE / ".lanes.json.7.tmp", b"{")
    together(Caller(world, "first", lasts=5.0))
    assert sorted(path.name for path in world.disk.files if path.parent == STATE) == [
        "holder-1.lock",
        "lanes.json",
        "lanes.lock",
    ]


def test_where_the_past_is_lost_and_nobody_is_alive_a_minute_passes_before_the_first_call() -> None:
    """Who finds a table that tells nothing cannot know what was just sent."""
    world = World()
    world.disk.put(STATE / FILE, b"{")
    together(Caller(world, "first", lasts=70.0))
    assert 60.0 <= world.calls[0][0] < 62.0


def test_where_the_table_cannot_be_kept_a_process_goes_alone_with_what_it_asked_for() -> None:
    """A state folder that nobody can write is an error to tell, not to die of."""
    world = World()

    def fault(operation: Operation) -> None:
        if at_the_table(operation):
            raise trouble("EROFS")

    async def alone() -> float:
        disk = world.disk.beside(fault)
        journal = await Journal.open(disk, world.clock, RUNS / "first" / "main", "first")
        lane = Lane("p", world.limits, "p")
        shares = Shares(disk, world.clock, STATE, "first", {"p": lane}, {"run": (journal, {})}, {"p": 0.0}, 0.5)
        with pytest.raises(OSError, match="Read-only"):
            await shares.take()
        shares.go_alone()
        await shares.leave()
        assert not shares.lanes
        return lane.share

    assert run_virtual(alone) == 0.5


def test_a_table_that_cannot_be_written_for_a_while_gives_nothing_away() -> None:
    """While the disk of the first is full it keeps what it has; later it gives way."""
    world = World()

    def fault(operation: Operation) -> None:
        if operation.name == "temporary" and operation.path.parent == STATE and 2.0 < anyio.current_time() < 20.0:
            raise trouble("EIO")

    first = Caller(world, "first", lasts=60.0, fault=fault)
    gone = Caller(world, "gone", 0.2, starts=4.0, dies=8.0)
    second = Caller(world, "second", 0.5, starts=10.0, lasts=20.0)
    together(first, gone, second)
    assert gone.began is None
    assert second.began is not None and 20.0 <= second.began < 25.0
    assert [share for _, share in first.changes] == [0.5, 1.0]


def test_a_wish_that_could_not_be_met_leaves_everything_as_it_was() -> None:
    """What was to be given away and could not be written down is used again, and still counted."""
    world = World(Limits(concurrency=20, rpm=60))

    def fault(operation: Operation) -> None:
        if operation.name == "temporary" and operation.path.parent == STATE and anyio.current_time() > 50.0:
            raise trouble("EIO")

    first = Caller(world, "first", lasts=180.0, fault=fault)
    together(first, Caller(world, "second", 0.5, starts=55.0, dies=70.0))
    assert first.changes == []
    assert first.shares is not None and first.shares.lanes["p"].share == 1.0
    assert world.number(60.0, 180.0) >= 118


def test_who_cannot_write_the_table_waits_for_those_it_can_read_of() -> None:
    """A full disk is no reason to use a limit beside somebody who knows nothing of it."""
    world = World()

    def fault(operation: Operation) -> None:
        if operation.name == "temporary" and operation.path.parent == STATE:
            raise trouble("EIO")

    first, second = Caller(world, "first", lasts=30.0), Caller(world, "second", starts=5.0, fault=fault)
    with pytest.raises(ExceptionGroup):
        together(first, second)
    assert second.began is None and [wait.others[0].holder for wait in second.waits] == ["first"] * len(second.waits)
    assert 24 <= len(second.waits) <= 27, "until the first has gone; then it would go alone"


# --- the table ---------------------------------------------------------------------------------------------------

shares_of_lanes = st.floats(0.01, 1.0)
pasts = st.dictionaries(
    st.sampled_from(["minute", "day", "all", "input", "output"]),
    st.lists(st.tuples(st.floats(WALL - 30, WALL), st.floats(0.5, 1e6)), max_size=4),
    max_size=3,
)
rows = st.builds(
    Row,
    slot=st.integers(1, 9),
    holder=st.text(max_size=8),
    asked=st.one_of(st.none(), shares_of_lanes),
    needs=st.dictionaries(st.sampled_from("xyz"), shares_of_lanes, min_size=1),
    runs=st.dictionaries(st.text(max_size=8), st.builds(Talks, st.integers(0, 99), st.just({"p": "x"})), max_size=2),
    holds=st.dictionaries(st.sampled_from("xyz"), st.builds(Hold, shares_of_lanes, pasts), max_size=2),
)


@given(st.builds(Table, st.lists(rows, max_size=4), st.dictionaries(st.sampled_from("xyz"), pasts, max_size=2)))
def test_a_table_reads_back_as_it_was_written(written: Table) -> None:
    """Nothing that counts is lost or changed on the way to the disk and back."""
    found = parse(encode(written, WALL))
    assert found.rows == written.rows
    assert found.free == written.free


@given(
    st.recursive(
        st.none() | st.integers(-9, 9) | st.text(max_size=4),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["v", "rows", "free", "unknown_until", "slot"]), x),
    )
)
def test_what_is_no_table_is_refused(data: object) -> None:
    """Whatever stands in the file, it is a table or a ValueError, and no other trouble."""
    try:
        parse(orjson.dumps(data))
    except ValueError:
        pass


def test_what_is_out_of_date_is_not_written() -> None:
    """An account that nobody has used for a day leaves nothing behind."""
    old = {"x": {"minute": [(WALL - 70.0, 1.0)], "day": [(WALL - 70.0, 1.0)]}, "y": {"day": [(WALL - 90_000.0, 1.0)]}}
    found = parse(encode(Table(free=old), WALL))  # type: ignore[arg-type]
    assert found.free == {"x": {"minute": [], "day": [(WALL - 70.0, 1.0)]}}


@cache
def long_journal() -> MemoryDisk:
    """Fifty calls, one a second, after a record of nine megabytes."""
    disk, clock = MemoryDisk(sync_seconds=(0.0, 0.0)), FixedClock(WALL)

    async def write() -> None:
        journal = await Journal.open(disk, clock, RUNS, "first")
        async with journal.writing():
            journal.record(replace(opened(), job={"text": "x" * 9_000_000}))
            for number in range(50):
                clock.at += 1.0
                journal.record(sent(number))
        journal.close()

    run_virtual(write)
    return disk


@given(st.integers(0, 60), st.integers(0, 60))
@settings(max_examples=20)
def test_the_last_calls_of_a_journal_are_found_from_its_end(seq: int, seconds: int) -> None:
    """However long a journal is and however long its lines are, its calls after a record are all found."""
    found = list(sent_since(long_journal(), RUNS, seq, WALL + seconds))
    assert [call.cell for _, call in found] == [f"p-{n}" for n in range(50) if n + 2 > seq and n + 1 >= seconds]
