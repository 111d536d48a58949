"""The waiting line: who waits is granted, refused or let go, and nothing is held by anyone who is not flying."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from runner.call import Failure, Reply, Usage
from runner.events import Opened, Replied, Sent
from runner.gate import Ask, Beginning, Gate, Refused
from runner.journal import Journal
from runner.limits import PASSED_TOO_OFTEN, Ceiling, Lane, Limits, Size
from runner.state import Account
from tests.memory import MemoryDisk
from tests.virtual import FixedClock, run_virtual

REPLY = Reply("yes", "ok", Usage(input=10, output=10))


def opened() -> Opened:
    return Opened(1, "0", "job", "main", "2026-11-21", "UTC", {}, {}, {}, {}, {})


@dataclass
class Bench:
    """A gate with a journal, and conversations that do nothing but ask."""

    gate: Gate
    journal: Journal
    log: list[str] = field(default_factory=list)

    def ask(self, name: str, lane: Lane, rank: int = 0, reserved: int = 0, ceilings: tuple[Ceiling, ...] = ()) -> Ask:
        sent = Sent(name, 1, 1, "a", "m", "p", "m", "0" * 64, "openai/1", reserved, 10, 100)
        return Ask(lane, (rank,), reserved, ceilings, Size(0, 10, 100), sent=sent, journal=self.journal)

    async def talk(self, ask: Ask, seconds: float = 1.0) -> None:
        """Ask once, fly for a while, and land."""
        name = ask.sent.cell
        beginning = Beginning(self.gate, ask.lane)
        beginning.arrived()
        try:
            async with self.gate.admit(ask) as flight:
                self.log.append(f"{name} flies at {anyio.current_time():.1f}")
                await anyio.sleep(seconds)
                self.journal.record(Replied(name, 1, 1, "yes", "ok", ask.reserved, "priced", None, {}))
                flight.landed(REPLY)
        except Refused as why:
            self.log.append(f"{name} {why.status}: {why.reason}")
        finally:
            beginning.ended()


def on_bench(
    lanes: list[Lane], script: Callable[[Bench, anyio.abc.TaskGroup], Awaitable[None]], max_wait: float = 900.0
) -> Bench:
    """Run a script beside the gate, in virtual time, until the gate is done."""

    async def main() -> Bench:
        disk = MemoryDisk(sync_seconds=(0.0, 0.0))
        journal = await Journal.open(disk, FixedClock(), Path("/run"), "{}")
        bench = Bench(Gate(lanes, max_wait), journal)
        async with journal.writing(), anyio.create_task_group() as tasks:
            journal.record(opened())
            await script(bench, tasks)
            await bench.gate.work()
        journal.close()
        return bench

    return run_virtual(main)


def test_those_who_wait_go_in_order_as_slots_come_free() -> None:
    """Two slots, three who ask: the last goes when the first has landed, and rank decides, not arrival."""
    lane = Lane("p", Limits(concurrency=2))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        for name, rank in (("late", 3), ("early", 1), ("middle", 2)):
            tasks.start_soon(bench.talk, bench.ask(name, lane, rank))
        await anyio.lowlevel.checkpoint()

    assert on_bench([lane], script).log == ["early flies at 0.0", "middle flies at 0.0", "late flies at 1.0"]


def test_a_crowd_goes_and_comes_back_in_parts_and_in_its_order() -> None:
    """However many could go in one moment, or go on with their answers: in between everybody else goes on."""
    lane = Lane("p", Limits(concurrency=1_000))
    went, back = [0], [0]
    order: list[int] = []

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        async def talk(number: int) -> None:
            ask = bench.ask(str(number), lane, number)
            beginning = Beginning(bench.gate, lane)
            beginning.arrived()
            async with bench.gate.admit(ask) as flight:
                await bench.gate.turnstile.pass_through()
                order.append(number)
                flight.landed(REPLY)
            beginning.ended()

        async def look() -> None:
            while len(order) < 200:
                went.append(lane.granted)
                back.append(len(order))
                await anyio.lowlevel.checkpoint()

        for number in range(200):
            tasks.start_soon(talk, number)
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(look)

    on_bench([lane], script)
    assert order == list(range(200))
    assert max(other - one for one, other in pairwise(went)) == 16
    assert max(other - one for one, other in pairwise(back)) == 8


@pytest.mark.parametrize("and_the_gate", [False, True])
def test_an_answer_that_waits_for_its_turn_is_gone_on_with_although_all_are_stopped(and_the_gate: bool) -> None:
    """What has come has cost money: it is recorded before its conversation is left, whoever is stopped with it."""
    lane = Lane("p", Limits(concurrency=1_000))
    gate = Gate([lane], 1.0)
    recorded: list[int] = []

    async def answer(number: int) -> None:
        await gate.turnstile.pass_through()
        recorded.append(number)
        await anyio.sleep(1.0)
        recorded.append(-1)

    async def main() -> None:
        talking = Beginning(gate, lane)
        async with anyio.create_task_group() as working:
            working.start_soon(gate.work)
            await anyio.lowlevel.checkpoint()
            async with anyio.create_task_group() as answers:
                for number in range(50):
                    answers.start_soon(answer, number)
                await anyio.lowlevel.checkpoint()
                answers.cancel_scope.cancel()
                if and_the_gate:
                    working.cancel_scope.cancel()
            talking.ended()

    run_virtual(main)
    assert recorded == list(range(50))


def test_an_answer_that_comes_when_the_gate_is_done_is_gone_on_with_at_once() -> None:
    """Nobody is left who would give it its turn."""

    async def main() -> int:
        gate = Gate([], 1.0)
        await gate.work()
        for _ in range(100):
            await gate.turnstile.pass_through()
        return 100

    assert run_virtual(main) == 100


def test_a_call_flies_only_when_its_intent_is_durable() -> None:
    """Promise 2: at the moment of departure the `Sent` is on the disk."""
    lane = Lane("p", Limits(concurrency=1))
    seen: list[bool] = []

    async def main() -> None:
        disk = MemoryDisk(sync_seconds=(0.05, 0.05))
        journal = await Journal.open(disk, FixedClock(), Path("/run"), "{}")
        bench = Bench(Gate([lane], 1.0), journal)
        async with journal.writing(), anyio.create_task_group() as tasks:
            journal.record(opened())

            async def talk() -> None:
                ask = bench.ask("one", lane)
                beginning = Beginning(bench.gate, lane)
                beginning.arrived()
                async with bench.gate.admit(ask) as flight:
                    seen.append(b'"kind":"sent"' in disk.read(Path("/run/journal.jsonl")))
                    journal.record(Replied("one", 1, 1, "yes", "ok", 0, "priced", None, {}))
                    flight.landed(REPLY)
                beginning.ended()

            tasks.start_soon(talk)
            await anyio.lowlevel.checkpoint()
            await bench.gate.work()
        journal.close()

    run_virtual(main)
    assert seen == [True]


def crowd_of(number: int, stopped_at: int | None = None) -> tuple[list[int], int]:
    """Who left, most of them with one sync, and how many at the most before everybody else went on.

    All are stopped when the one of this number leaves.
    """
    lane = Lane("p", Limits(concurrency=number))
    gone: list[int] = []
    at_once = 0

    async def main() -> None:
        journal = await Journal.open(MemoryDisk(sync_seconds=(10.0, 10.0)), FixedClock(), Path("/run"), "{}")
        bench = Bench(Gate([lane], 1.0), journal)
        talks = [anyio.CancelScope() for _ in range(number)]

        async def talk(one: int) -> None:
            nonlocal at_once
            beginning = Beginning(bench.gate, lane)
            beginning.arrived()
            with talks[one]:
                async with bench.gate.admit(bench.ask(str(one), lane, one)) as flight:
                    before = len(gone)
                    gone.append(one)
                    if one == stopped_at:
                        for scope in talks:
                            scope.cancel()
                    await anyio.lowlevel.checkpoint()
                    at_once = max(at_once, len(gone) - before)
                    flight.landed(REPLY)
            beginning.ended()

        async with journal.writing(), anyio.create_task_group() as tasks:
            for one in range(number):
                tasks.start_soon(talk, one)
            await anyio.lowlevel.checkpoint()
            await bench.gate.work()
        journal.close()

    run_virtual(main)
    assert lane.flying == 0
    return gone, at_once


def test_those_whom_one_sync_lets_go_leave_in_parts() -> None:
    """However many one sync serves: they leave a few at a time, in their order, and in between all others go on."""
    gone, at_once = crowd_of(200)
    assert gone == list(range(200))
    assert at_once == 16


def test_who_is_stopped_before_it_leaves_does_not_leave() -> None:
    """A call that waits for its turn to leave, and is left meanwhile, has cost nothing: it is not made after all."""
    gone, _ = crowd_of(200, stopped_at=100)
    assert gone == list(range(101))


def test_who_is_short_of_the_same_money_is_not_looked_at_until_some_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a decision costs does not grow with the number of those who can only wait."""
    lane = Lane("p", Limits(concurrency=1_000))
    looked = [0]
    right = Ask.fits

    def fits(self: Ask, claims: Mapping[Ceiling, int]) -> bool:
        looked[0] += 1
        return right(self, claims)

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        day = Ceiling("the budget of the day", bench.journal.state.run, 0, reach=10_000)
        bench.gate.purses = [Till(day)]
        for number in range(200):
            tasks.start_soon(bench.talk, bench.ask(str(number), lane, number, 3, (day,)))
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(Ask, "fits", fits)
    assert len(on_bench([lane], script).log) == 200
    assert looked[0] <= 3 * 200


@pytest.mark.parametrize("others", [(), ("another",)])
def test_who_has_room_beside_those_who_are_short_goes(others: tuple[str, ...]) -> None:
    """A call that another ceiling decides, or that is smaller, is not kept waiting with the others."""
    lane = Lane("p", Limits(concurrency=9))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        first, other = (Ceiling(name, Account(reserved=95), 100, reach=1_000) for name in ("first", "other"))
        other.account.reserved = 0
        for name, reserved, ceiling in (("large", 10, first), ("small", 5, first), ("another", 10, other)):
            if ceiling is first or name in others:
                tasks.start_soon(bench.talk, bench.ask(name, lane, 0, reserved, (ceiling,)), 50.0)
        await anyio.lowlevel.checkpoint()

        async def pay() -> None:
            await anyio.sleep(5.0)
            first.account.reserved = 0
            bench.gate.wake()

        tasks.start_soon(pay)

    log = on_bench([lane], script).log
    assert sorted(log[:-1]) == [f"{name} flies at 0.0" for name in (*others, "small")]
    assert log[-1] == "large flies at 5.0"


def test_money_in_flight_is_waited_for_and_what_can_never_fit_is_refused() -> None:
    """If it does not fit while calls are open: wait. If nothing can free enough: the budget is reached."""
    lane = Lane("p", Limits(concurrency=9))
    account = Account(settled=0)

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        ceiling = Ceiling("the budget of the run", bench.journal.state.run, 100)
        for name, rank, reserved in (("first", 1, 60), ("second", 2, 40), ("third", 3, 30), ("huge", 4, 101)):
            tasks.start_soon(bench.talk, bench.ask(name, lane, rank, reserved, (ceiling,)), rank * 1.0)
        await anyio.lowlevel.checkpoint()

    log = on_bench([lane], script).log
    assert log[:2] == ["huge budget: the budget of the run", "first flies at 0.0"]
    assert log[2:] == ["second flies at 0.0", "third budget: the budget of the run"]
    assert account.held == 0


@pytest.mark.parametrize(("landing", "leaves"), [(10.0, 50.0), (60.0, 60.0)])
def test_money_that_comes_back_while_a_lane_is_paused_is_not_forgotten(landing: float, leaves: float) -> None:
    """Whichever comes last, the end of the pause or the money, lets the call go; nothing else happens then."""
    busy, paused = Lane("busy", Limits(concurrency=9)), Lane("paused", Limits(concurrency=9))
    paused.pause(50.0, "asked to wait 50 s")

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        run = Ceiling("the budget of the run", Account(reserved=60), 100)
        waits = bench.ask("waits", paused, 1, 50, (run,))

        async def pays() -> None:
            async with bench.gate.admit(bench.ask("pays", busy)) as flight:
                await anyio.sleep(landing)
                run.account.reserved = 0
                bench.journal.record(Replied("pays", 1, 1, "yes", "ok", 0, "priced", None, {}))
                flight.landed(REPLY)

        tasks.start_soon(pays)
        tasks.start_soon(bench.talk, waits)
        await anyio.lowlevel.checkpoint()

    assert on_bench([busy, paused], script).log == [f"waits flies at {leaves:.1f}"]


@dataclass
class Till:
    """A purse that gives whatever is asked for, as long as it lasts."""

    ceiling: Ceiling

    async def draw(self, least: int, wanted: int) -> bool:
        await anyio.sleep(0.1)
        self.ceiling.most = self.ceiling.account.held + least
        return False

    async def give_back(self) -> None:
        self.ceiling.most = self.ceiling.account.held


def test_a_slice_is_drawn_for_whoever_keeps_the_others_waiting() -> None:
    """What was passed over too often keeps its claim: drawn is what it needs, not what the smallest of all needs."""
    lane = Lane("p", Limits(concurrency=2))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        day = Ceiling("the budget of the day", bench.journal.state.run, 30, reach=100)
        bench.gate.purses = [Till(day)]
        large = bench.ask("large", lane, 9, 60, (day,))
        for _ in range(PASSED_TOO_OFTEN):
            large.pass_over()
        tasks.start_soon(bench.talk, large)
        for n in range(3):
            tasks.start_soon(bench.talk, bench.ask(f"small{n}", lane, n, 10, (day,)))
        await anyio.lowlevel.checkpoint()

    log = on_bench([lane], script).log
    assert log[0] == "large flies at 0.1"
    assert [line.split()[0] for line in log[1:]] == ["small0", "small1", "small2"]


def test_those_who_wait_go_by_what_is_known_when_they_go() -> None:
    """What was ranked by less is ranked anew with all the others, so that nobody is overtaken by old figures."""
    lane = Lane("p", Limits(concurrency=1))
    ranks = {"slow": 2, "quick": 1, "plain": 0}

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        for name in ("slow", "quick"):
            ask = bench.ask(name, lane, ranks[name])
            ask.ranked = partial(lambda of: (ranks[of],), name)
            tasks.start_soon(bench.talk, ask)
        tasks.start_soon(bench.talk, bench.ask("plain", lane, ranks["plain"]))
        await anyio.lowlevel.checkpoint()
        ranks["slow"] = -1
        bench.gate.reorder()

    assert [line.split()[0] for line in on_bench([lane], script).log] == ["slow", "plain", "quick"]


def test_closing_refuses_those_who_wait_and_lets_those_who_fly_land() -> None:
    """The first Ctrl-C: no new call, none broken off."""
    lane = Lane("p", Limits(concurrency=1))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        tasks.start_soon(bench.talk, bench.ask("flies", lane, 1), 5.0)
        tasks.start_soon(bench.talk, bench.ask("waits", lane, 2))

        async def close() -> None:
            await anyio.sleep(2.0)
            bench.gate.close("interrupted", "stopped")
            bench.gate.close("deadline", "too late to matter")

        tasks.start_soon(close)
        await anyio.lowlevel.checkpoint()

    bench = on_bench([lane], script)
    assert bench.log == ["flies flies at 0.0", "waits interrupted: stopped"]
    assert bench.journal.state.run.reserved == 0


def test_one_run_may_end_while_the_others_go_on() -> None:
    """Its calls that wait are refused with its own reason, the first that was given; those in flight land."""
    lane = Lane("p", Limits(concurrency=1))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        other = await Journal.open(MemoryDisk(sync_seconds=(0.0, 0.0)), FixedClock(), Path("/other"), "{}")
        over = bench.ask("over", lane, 2)
        over.journal = other
        tasks.start_soon(bench.talk, bench.ask("first", lane, 1), 5.0)
        tasks.start_soon(bench.talk, over)
        tasks.start_soon(bench.talk, bench.ask("last", lane, 3))

        async def end() -> None:
            await anyio.sleep(2.0)
            bench.gate.end(other, "deadline", "its time is over")
            bench.gate.end(other, "interrupted", "too late to matter")
            assert bench.gate.why_closed(other) == ("deadline", "its time is over")
            assert bench.gate.why_closed(bench.journal) is None and bench.gate.closed is None
            bench.log.append("ended at 2")

        tasks.start_soon(end)
        await anyio.lowlevel.checkpoint()

    bench = on_bench([lane], script)
    assert bench.log == [
        "first flies at 0.0", "ended at 2", "over deadline: its time is over", "last flies at 5.0",
    ]  # fmt: skip


def test_a_parked_lane_or_model_refuses_its_own_and_nobody_else() -> None:
    """A dead provider stops only its own conversations."""
    dead, alive = Lane("dead", Limits(concurrency=1)), Lane("alive", Limits(concurrency=1))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        bench.gate.park_lane(dead, "dead: 401")
        tasks.start_soon(bench.talk, bench.ask("a", dead))
        tasks.start_soon(bench.talk, bench.ask("b", alive))
        await anyio.lowlevel.checkpoint()

    assert sorted(on_bench([dead, alive], script).log) == ["a pending: dead: 401", "b flies at 0.0"]


@pytest.mark.fault(43)
def test_a_pause_is_waited_for_but_not_for_ever() -> None:
    """Up to `max_wait` the run waits for a parked lane when nothing else is left; beyond it, the conversations wait."""
    short, long = Lane("short", Limits(concurrency=1)), Lane("long", Limits(concurrency=1))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        short.pause(50.0, "busy")
        long.pause(5000.0, "asked to wait 5000 s")
        tasks.start_soon(bench.talk, bench.ask("a", short))
        tasks.start_soon(bench.talk, bench.ask("b", long))
        await anyio.lowlevel.checkpoint()

    assert on_bench([short, long], script, max_wait=100.0).log == [
        "a flies at 50.0",
        "b pending: long: asked to wait 5000 s",
    ]


@pytest.mark.parametrize(("burst", "at_once"), [(1, 1), (3, 2)])
def test_requests_leave_at_the_lanes_pace(burst: int, at_once: int) -> None:
    """A burst of one less than is allowed, then evenly; no burst at all where the job says so."""
    lane = Lane("p", Limits(rpm=60, concurrency=99, burst=burst))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        for n in range(10):
            tasks.start_soon(bench.talk, bench.ask(str(n), lane, n), 0.01)
        await anyio.lowlevel.checkpoint()

    bench = on_bench([lane], script)
    times = [float(line.rpartition(" ")[2]) for line in bench.log]
    assert sum(t < 0.5 for t in times) == at_once
    gaps = [b - a for a, b in zip(times[at_once:], times[at_once + 1 :], strict=False)]
    assert all(0.9 <= gap <= 1.3 for gap in gaps)


@pytest.mark.parametrize(("burst", "earlier", "first"), [(1, [-1.0], 9.9), (1, [-20.0], 0.1), (3, [-1.0, -0.5], 9.0)])
def test_the_pace_goes_on_where_an_earlier_life_left_it(burst: int, earlier: list[float], first: float) -> None:
    """A lane that opens warm is not let off its pace: a crash is no way around a limit."""
    lane = Lane("p", Limits(rpm=6, concurrency=99, burst=burst))
    for left in earlier:
        lane.take(1, 1, 0.0, left)

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        tasks.start_soon(bench.talk, bench.ask("a", lane), 0.01)
        await anyio.lowlevel.checkpoint()

    assert float(on_bench([lane], script).log[0].rpartition(" ")[2]) == pytest.approx(first, abs=0.15)


def test_the_pace_follows_the_share() -> None:
    """With half of a lane its requests leave half as fast, and as before when it is whole again."""
    lane = Lane("p", Limits(rpm=60, concurrency=99, burst=3))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        async def share() -> None:
            for at, part in ((10.5, 0.5), (30.5, 1.0)):
                await anyio.sleep_until(at)
                lane.rescale(part, at)
                bench.gate.wake()

        tasks.start_soon(share)
        for n in range(40):
            tasks.start_soon(bench.talk, bench.ask(str(n), lane, n), 0.01)
        await anyio.lowlevel.checkpoint()

    times = [float(line.rpartition(" ")[2]) for line in on_bench([lane], script).log]
    assert sum(t < 10.5 for t in times) in (11, 12)
    assert sum(11.0 <= t < 30.5 for t in times) in (9, 10)
    assert sum(31.0 <= t < 41.0 for t in times) in (9, 10, 11)


def test_a_minutes_limit_never_parks_a_lane() -> None:
    """However short the wait for parked lanes is: a full minute is waited for."""
    lane = Lane("p", Limits(rpm=1))
    lane.take(1, 1, 0.0, -10.0)

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        tasks.start_soon(bench.talk, bench.ask("a", lane))
        await anyio.lowlevel.checkpoint()

    assert "a flies at 50." in on_bench([lane], script, max_wait=1.0).log[0]


def test_nothing_is_held_while_a_request_is_paced() -> None:
    """Money is reserved at the grant, not while waiting for the permit."""
    lane = Lane("p", Limits(rpm=60, concurrency=99, burst=1))
    held: list[int] = []

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        ceiling = Ceiling("run", bench.journal.state.run, 1000)
        for n in range(3):
            tasks.start_soon(bench.talk, bench.ask(str(n), lane, n, 100, (ceiling,)), 0.1)

        async def look() -> None:
            await anyio.sleep(0.5)
            held.append(bench.journal.state.run.reserved)

        tasks.start_soon(look)
        await anyio.lowlevel.checkpoint()

    on_bench([lane], script)
    assert held == [0]


def test_a_call_that_never_left_gives_its_place_back() -> None:
    """A refused connection does not count against the minute."""
    lane = Lane("p", Limits(rpm=1, concurrency=9))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        async def refused() -> None:
            ask = bench.ask("x", lane)
            beginning = Beginning(bench.gate, lane)
            beginning.arrived()
            async with bench.gate.admit(ask) as flight:
                bench.journal.record(Replied("x", 1, 1, "yes", "ok", 0, "priced", None, {}))
                flight.landed(Failure("error", "call", "free", "cannot connect"))
            beginning.ended()

        tasks.start_soon(refused)
        await anyio.lowlevel.checkpoint()

    on_bench([lane], script)
    assert lane.when(1, 1, 1.0) == 1.0


def test_a_conversation_begins_only_where_its_lane_has_room() -> None:
    """Rows of the plan begin one by one as places come free, and count as coming until they ask."""
    lane = Lane("p", Limits(concurrency=2))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        class Rows:
            left = 5

            def next_for(self, lane: Lane, *, loaded: bool = False) -> Callable[[Beginning], None] | None:
                if not self.left:
                    return None

                def begin(beginning: Beginning) -> None:
                    self.left -= 1
                    tasks.start_soon(self.hold, f"row{self.left}", beginning)

                return begin

            def lacks(self, ceiling: Ceiling) -> bool:
                return False

            def next_in_time(self, lane: Lane) -> None:
                return None

            def next_towards(self, lane: Lane) -> None:
                return None

            async def hold(self, name: str, beginning: Beginning) -> None:
                await anyio.sleep(0.1)  # reading what was said before
                beginning.arrived()
                async with bench.gate.admit(bench.ask(name, lane)) as flight:
                    bench.log.append(f"{anyio.current_time():.1f}")
                    await anyio.sleep(0.9)
                    bench.journal.record(Replied(name, 1, 1, "yes", "ok", 0, "priced", None, {}))
                    flight.landed(REPLY)
                beginning.ended()

        bench.gate.rosters.append(Rows())

    assert on_bench([lane], script).log == ["0.1", "0.1", "1.1", "1.1", "2.1"]


@pytest.mark.parametrize(("comes_back_at", "ends_at"), [(None, 61.0), (30.0, 30.0)])
def test_who_lacks_shared_money_to_begin_waits_a_while_for_what_others_give_back(
    comes_back_at: float | None, ends_at: float
) -> None:
    """As long as a run waits for anything, whatever the others do meanwhile; then the night is over."""
    lane = Lane("p", Limits(concurrency=2))
    ends: list[float] = []

    class Others:
        """They draw and give back all the time, and once what is missing here."""

        def __init__(self) -> None:
            self.ceiling = Ceiling("the day", Account(), 0, 5, may_grow=True)

        async def draw(self, least: int, wanted: int) -> bool:
            if comes_back_at is not None and anyio.current_time() >= comes_back_at:
                self.ceiling.reach += wanted
                return False
            return True

        async def give_back(self) -> None:
            pass

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        others = Others()

        class Rows:
            def next_for(self, lane: Lane, *, loaded: bool = False) -> Callable[[Beginning], None] | None:
                return None

            def next_in_time(self, lane: Lane) -> None:
                return None

            def next_towards(self, lane: Lane) -> None:
                return None

            def lacks(self, ceiling: Ceiling) -> bool:
                return ceiling.reach == 5

        async def end() -> None:
            await bench.gate.work()
            ends.append(anyio.current_time())

        bench.gate.purses = [others]
        bench.gate.rosters.append(Rows())
        await end()

    on_bench([lane], script, max_wait=60.0)
    assert ends == [pytest.approx(ends_at, abs=1.1)]


def talks_of_two_models(rows: int, slots: int, seconds: Mapping[str, float]) -> tuple[Lane, list[str]]:
    """Conversations that ask for `a` and then for `b`, on a card with room for one; what they did, and when."""
    lane = Lane("card", Limits(concurrency=slots, resident=1))

    async def script(bench: Bench, tasks: anyio.abc.TaskGroup) -> None:
        class Rows:
            left = rows

            def next_for(self, lane: Lane, *, loaded: bool = False) -> Callable[[Beginning], None] | None:
                def begin(beginning: Beginning) -> None:
                    self.left -= 1
                    tasks.start_soon(hold, f"{rows - self.left}", beginning)

                return begin if self.left and (lane.is_loaded("a") if loaded else lane.has_place("a")) else None

            def lacks(self, ceiling: Ceiling) -> bool:
                return False

            def next_in_time(self, lane: Lane) -> None:
                return None

            def next_towards(self, lane: Lane) -> None:
                return None

        async def hold(name: str, beginning: Beginning) -> None:
            bench.log.append(f"{name} begins")
            await anyio.sleep(0.1)  # reading what was said before
            beginning.arrived()
            for model in "ab":
                ask = bench.ask(f"{name}{model}", lane)
                ask.model = model
                async with bench.gate.admit(ask) as flight:
                    bench.log.append(f"{name} {model} at {anyio.current_time():.1f}")
                    await anyio.sleep(seconds.get(f"{name} {model}", 1.0))
                    bench.journal.record(Replied(f"{name}{model}", 1, 1, "yes", "ok", 0, "priced", None, {}))
                    flight.landed(REPLY)
            beginning.ended()

        bench.gate.rosters.append(Rows())

    return lane, on_bench([lane], script).log


def calls(log: list[str]) -> list[str]:
    return [line.partition(" at ")[0] for line in log if " at " in line]


def test_before_a_model_is_loaded_conversations_begin_that_have_a_use_for_the_loaded_one() -> None:
    """Each of them asks for the other model next: so a turn of each goes for one load."""
    lane, log = talks_of_two_models(3, 1, {})
    assert calls(log) == ["1 a", "2 a", "3 a", "1 b", "2 b", "3 b"]
    assert (lane.loads, lane.flying, lane.arriving) == (2, 0, 0)


def test_a_slot_that_only_another_model_wants_is_for_a_conversation_that_begins() -> None:
    """Not only when the last call of the loaded model has landed."""
    _, log = talks_of_two_models(3, 2, {"1 a": 1.0, "2 a": 9.0})
    assert log[:6] == ["1 begins", "2 begins", "1 a at 0.1", "2 a at 0.1", "3 begins", "3 a at 1.2"]


@pytest.mark.parametrize(("slots", "seconds"), [(1, {}), (2, {}), (2, {"2 a": 99.0})])
def test_when_a_change_is_due_nobody_begins_before_it(slots: int, seconds: Mapping[str, float]) -> None:
    """Else all conversations of a plan would begin before any of them goes on; also where one call holds it up."""
    _, log = talks_of_two_models(60, slots, seconds)
    before = log[: next(n for n, line in enumerate(log) if " b at " in line)]
    assert len(calls(before)) == sum("begins" in line for line in before) == PASSED_TOO_OFTEN + slots
