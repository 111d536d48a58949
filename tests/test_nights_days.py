"""Days and months: one ceiling over all jobs and processes, frozen at each start, counted once and never forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest

from runner.events import Opened, Sent, Stopped
from runner.ledger import FILE, Book, read
from runner.money import NANOS_PER_DOLLAR
from runner.night import Place, Source, night
from runner.selection import Options
from runner.sim.config import load_config
from runner.sim.engine import Engine
from runner.sim.wire import SimWire
from runner.verify import verify
from runner.world import World
from tests.memory import MemoryDisk, Operation, at
from tests.nights import ROOT, START, Night, job_of, matrix, provider, text_of
from tests.test_nights_lost import death_after
from tests.virtual import Kill, ScriptedPrograms, ScriptedSignals, VirtualClock, run_virtual

MODELS = ("m0", "m1", "m2")
TODAY = "2026-11-21"


def named(name: str, budget: Any, **changes: Any) -> dict[str, Any]:
    return {**matrix(MODELS, rounds=2, **changes), "name": name, "budget": budget}


def dollars_of(nanos: float) -> float:
    """An amount as a job file bears it."""
    return round(nanos) / NANOS_PER_DOLLAR


def need(job: Mapping[str, Any]) -> int:
    """What a job costs that no ceiling stops, in nano-dollars."""
    alone = Night({**job, "budget": 50}, provider(MODELS))
    assert alone.live().exit == 0
    return alone.billed


def book(disk: MemoryDisk) -> Book:
    return Book(read(disk, ROOT / FILE).entries)


def together(
    disk: MemoryDisk, engine: Engine, jobs: Sequence[Mapping[str, Any]], starts: Sequence[float], seed: int | None
) -> list[int]:
    """Each job in a process of its own, side by side on one disk and against one provider; their exit codes."""
    codes: dict[int, int] = {}

    async def process(number: int) -> None:
        await anyio.sleep(starts[number])
        source = Source(job_of(text_of(jobs[number])), "job.yaml", {})
        bases = {(source.job.name, name): f"http://{name}.sim/v1" for name in source.job.providers}
        wire = SimWire(dict.fromkeys(bases.values(), engine), (0.001, 0.005), Random(number))
        world = World(VirtualClock(START), disk.beside(), wire, Random(number), ScriptedSignals(), ScriptedPrograms())
        codes[number] = await night(world, [source], Options(), Place(ROOT, "{}", bases), tell=lambda line: None)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(len(jobs)):
                tasks.start_soon(process, number)

    run_virtual(all_of_them, seed=seed, steps=3_000_000)
    return [codes[number] for number in range(len(jobs))]


# --- one ceiling over all --------------------------------------------------------------------------------------------


@pytest.mark.fault(66)
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_processes_with_different_jobs_keep_one_day_between_them_and_use_it(seed: int | None) -> None:
    """At full speed side by side: the provider's bill never passes the day's ceiling, and little of it is left."""
    jobs = [named(name, {"day": 1, "run": 50}, repeat=4, send_seed=True) for name in ("left", "right")]
    cap = need(jobs[0])
    for job in jobs:
        job["budget"] = {"day": dollars_of(cap), "run": 50}
    disk = MemoryDisk()
    engine = Engine(load_config(dict(provider(MODELS))).config)
    assert together(disk, engine, jobs, [0.0, 0.3], seed) == [4, 4]
    assert 0.9 * cap < engine.bill.cost <= book(disk).total(TODAY, play=True) <= cap
    for job in jobs:
        found = verify(ROOT / job["name"] / "main", disk)
        assert found.problems == (), job["name"]


def test_a_run_that_finds_the_day_held_by_another_waits_for_what_that_gives_back() -> None:
    """Short of money while somebody else holds a slice is no end: it waits, and goes on when the other has closed."""
    hungry, modest = named("hungry", {"day": 1}, repeat=2), named("modest", {"day": 1})
    cap = need(hungry) + need(modest) + 14_000_000  # two calls
    for job in (hungry, modest):
        job["budget"] = {"day": dollars_of(cap)}
        job["defaults"] = {**job["defaults"], "max_tokens": 1500}
    disk = MemoryDisk()
    engine = Engine(load_config(dict(provider(MODELS))).config)
    assert together(disk, engine, [hungry, modest], [0.0, 0.5], None) == [0, 0]
    assert engine.bill.cost <= book(disk).total(TODAY, play=True) <= cap


@pytest.mark.parametrize(("share", "code"), [(1.04, 0), (0.7, 4)])
def test_what_one_job_of_a_process_does_not_need_any_more_another_gets_at_once(share: float, code: int) -> None:
    """A job that has nothing left to do keeps no slice while another of the same process waits for money."""
    jobs = [named("left", 50, send_seed=True), named("right", 50, repeat=3, send_seed=True)]
    cap = share * sum(map(need, jobs))
    disk = MemoryDisk()
    engine = Engine(load_config(dict(provider(MODELS))).config)
    sources = [Source(job_of(text_of({**job, "budget": {"day": dollars_of(cap)}})), "job.yaml", {}) for job in jobs]
    bases = {(source.job.name, "p"): "http://p.sim/v1" for source in sources}

    async def process() -> tuple[int, float]:
        wire = SimWire(dict.fromkeys(bases.values(), engine), (0.001, 0.005), Random(0))
        world = World(VirtualClock(START), disk, wire, Random(0), ScriptedSignals(), ScriptedPrograms())
        ended = await night(world, sources, Options(), Place(ROOT, "{}", bases), tell=lambda line: None)
        return ended, anyio.current_time()

    ended, seconds = run_virtual(process, steps=3_000_000)
    assert ended == code
    assert seconds < 60.0
    assert 0.9 * min(cap, sum(map(need, jobs))) <= engine.bill.cost <= book(disk).total(TODAY, play=True) <= cap


def test_a_job_without_a_day_of_its_own_counts_for_the_others() -> None:
    """What it has spent is gone for a job that keeps a ceiling; it is never stopped itself."""
    free = Night(named("free", 50), provider(MODELS))
    assert free.live().exit == 0
    spent = free.billed
    kept = Night(named("kept", {"day": dollars_of(spent * 1.3)}), provider(MODELS), disk=free.disk)
    assert kept.live().exit == 4
    assert free.billed + kept.billed <= book(kept.disk).total(TODAY, play=True) <= free.billed * 1.3


def test_the_next_day_has_room_again_and_the_month_counts_both() -> None:
    """The same command goes on the day after; a month that is used up stops it, with its name."""
    job = named("job", 1, repeat=3)
    whole = need(job)
    first = Night(
        {**job, "budget": {"day": dollars_of(whole * 0.5), "month": dollars_of(whole * 0.8)}}, provider(MODELS)
    )
    assert first.live().exit == 4
    one_day = book(first.disk).total(TODAY, play=True)
    assert 0.4 * whole < one_day <= whole * 0.5
    assert {e.reason for e in stops(first) if e.status == "budget"} == {"the budget of the day"}
    first.wall += 86_400.0
    assert first.live().exit == 4
    assert {e.reason for e in stops(first)[-3:]} == {"the budget of the month"}
    counted = book(first.disk)
    assert counted.total(TODAY, play=True) == one_day
    assert counted.total("2026-11", play=True) <= whole * 0.8
    assert counted.total("2026-11", play=True) == first.counted
    first.wall = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    assert first.live().exit == 0
    assert book(first.disk).total("2026-12-01", play=True) + counted.total("2026-11", play=True) == first.counted
    assert verify(first.folder, first.disk).problems == ()


def stops(night: Night) -> list[Stopped]:
    return [record.event for record in night.records() if isinstance(record.event, Stopped)]


# --- frozen at the start ---------------------------------------------------------------------------------------------


def test_a_night_that_crosses_midnight_counts_where_it_began() -> None:
    """All of it belongs to the day on which its process started, so its ceiling is not given twice."""
    job = named("job", {"day": 50}, repeat=2)
    night = Night(job, provider(MODELS), wall=datetime(2026, 11, 21, 23, 59, 58, tzinfo=UTC).timestamp())
    assert night.live().exit == 0
    assert night.records()[-1].at > datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    counted = book(night.disk)
    assert counted.total(TODAY, play=True) == night.billed
    assert counted.total("2026-11-22", play=True) == 0


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    ("zone", "utc", "day"),
    [
        ("Europe/Lisbon", datetime(2026, 10, 24, 23, 30, tzinfo=UTC), "2026-10-25"),
        ("Europe/Lisbon", datetime(2026, 10, 25, 0, 30, tzinfo=UTC), "2026-10-25"),
        ("Europe/Lisbon", datetime(2026, 10, 25, 1, 30, tzinfo=UTC), "2026-10-25"),
        ("Europe/Lisbon", datetime(2026, 10, 25, 23, 30, tzinfo=UTC), "2026-10-25"),
        ("America/Los_Angeles", datetime(2026, 11, 21, 7, 30, tzinfo=UTC), "2026-11-20"),
        ("Pacific/Auckland", datetime(2026, 11, 21, 12, 0, tzinfo=UTC), "2026-11-22"),
    ],
)
def test_the_day_is_that_of_the_jobs_zone_also_when_an_hour_comes_twice(zone: str, utc: datetime, day: str) -> None:
    """The night the clocks change has one day like any other, whichever of its hours a run starts in."""
    night = Night(named("job", {"day": 50}, timezone=zone), provider(MODELS), wall=utc.timestamp())
    assert night.live().exit == 0
    assert [r.event.day for r in night.records() if isinstance(r.event, Opened)] == [day]
    assert book(night.disk).total(day, play=True) == night.billed


@pytest.mark.fault(11)
def test_a_clock_that_is_put_back_does_not_open_yesterday_again() -> None:
    """The latest day that was counted on stays the day, until the clock has caught up."""
    night = Night(named("job", {"day": 50}), provider(MODELS), wall=START + 86_400.0)
    assert night.live().exit == 0
    later = Night(named("later", {"day": 50}), provider(MODELS), disk=night.disk, wall=START)
    assert later.live().exit == 0
    assert book(later.disk).total(TODAY, play=True) == 0
    assert book(later.disk).total("2026-11-22", play=True) == night.billed + later.billed


def test_a_ledger_from_the_far_future_is_told_of_and_not_believed() -> None:
    """One wrong clock must not make every later night count on its day."""
    night = Night(named("job", {"day": 50}), provider(MODELS), wall=START + 400 * 86_400.0)
    assert night.live().exit == 0
    later = Night(named("later", {"day": 50}), provider(MODELS), disk=night.disk, wall=START)
    life = later.live()
    assert life.exit == 0
    assert any("2027-12-26, which is yet to come" in line for line in life.told)
    assert book(later.disk).total(TODAY, play=True) == later.billed


# --- crashes ---------------------------------------------------------------------------------------------------------


def test_what_a_crash_left_drawn_is_folded_by_whoever_needs_it_and_by_its_own_next_life() -> None:
    """The slice of a dead process counts in full; its journal then says how much of it was spent."""
    job = named("dead", {"day": 1}, repeat=2)
    cap = need(job) * 3
    job["budget"] = {"day": dollars_of(cap)}
    dead = Night(job, provider(MODELS))
    assert dead.live(fault=at(70, Kill("here"))).exit is None
    drawn = book(dead.left()).total(TODAY, play=True)
    assert drawn >= cap // 20 and drawn > dead.counted >= dead.billed
    other = Night({**job, "name": "other", "budget": {"day": dollars_of(drawn + need(job) // 2)}}, provider(MODELS))
    other.disk = dead.disk.survivor()
    assert other.live().exit in (0, 4)
    counted = book(other.disk)
    assert counted.amount(run_of(dead), TODAY) == dead.counted
    dead.disk = other.disk
    assert dead.live().exit == 0
    assert book(dead.disk).amount(run_of(dead), TODAY) == dead.counted
    for one in (dead, other):
        assert verify(one.folder, dead.disk).problems == ()


@pytest.mark.parametrize("spare", [1.25, 2.0])
def test_what_a_crash_left_drawn_is_folded_for_the_last_conversation_too(spare: float) -> None:
    """It does not begin without that, and no call waits that would ask for it: with nothing more drawn, or a rest."""
    job = named("dead", {"day": 1}, repeat=2, limits={"concurrency": 1})
    dead = Night({**job, "budget": {"day": dollars_of(3 * need(job))}}, provider(MODELS))
    assert dead.live(fault=at(40, Kill("here"))).exit is None
    one = need(job) // len(dead.reading().plan.cells)
    enough = dead.counted + need(job) + int(spare * one)
    other = Night({**job, "name": "other", "budget": {"day": dollars_of(enough)}}, provider(MODELS))
    other.disk = dead.left()
    assert other.live().exit == 0


def test_what_a_run_had_drawn_that_died_before_its_first_call_is_there_for_the_others() -> None:
    """Its journal tells of no money on that day: it has spent none."""
    job = named("dead", {"day": 1}, repeat=2)
    dead = Night(job, provider(MODELS))

    def before_the_first_call(operation: Operation) -> None:
        if operation.name == "write" and operation.path.name == "journal.jsonl" and book(dead.disk).total(TODAY, True):
            raise Kill("before anything was sent")

    assert dead.live(fault=before_the_first_call).exit is None
    drawn = book(dead.left()).total(TODAY, play=True)
    assert drawn > 0 == dead.billed
    other = Night({**job, "name": "other", "budget": {"day": dollars_of(drawn + need(job) // 2)}}, provider(MODELS))
    other.disk = dead.left()
    assert other.live().exit == 0
    assert book(other.left()).amount(run_of(dead), TODAY) == 0


def run_of(night: Night) -> str:
    first = next(record.event for record in night.records() if isinstance(record.event, Opened))
    return f"{night.folder.relative_to(ROOT)}@{first.born:.3f}"


def test_money_that_was_in_flight_over_midnight_stays_on_the_day_it_was_reserved() -> None:
    """The life that finds the calls lost opens a day later; their money does not move with it."""
    night = Night(named("job", {"day": 50}, repeat=2), provider(MODELS))
    assert night.live(fault=at(120, Kill("here"))).exit is None
    before = night.counted
    night.wall += 86_400.0
    assert night.live().exit == 0
    days = night.reading().state.days
    assert days[TODAY].held == before == days[TODAY].settled
    assert days["2026-11-22"].held == night.counted - before
    assert {day: book(night.disk).total(day, play=True) for day in days} == {d: a.held for d, a in days.items()}


def test_a_run_that_is_complete_still_folds_what_a_crash_left_drawn() -> None:
    """Killed after its last record and before the ledger was told: the next start says nothing is to do, and counts."""
    model = Night(named("job", {"day": 50}), provider(MODELS))
    assert model.live().exit == 0
    closing = [o.number for o in model.disk.operations if o.path.name == FILE and o.name == "write"][-1]
    night = Night(named("job", {"day": 50}), provider(MODELS))
    assert night.live(fault=at(closing, Kill("before the line"))).exit is None
    assert book(night.left()).total(TODAY, play=True) > night.billed
    life = night.live()
    assert life.exit == 0 and any("nothing to do" in line for line in life.told)
    assert book(night.disk).total(TODAY, play=True) == night.billed == night.counted


def test_a_damaged_ledger_keeps_a_night_from_beginning_and_says_where() -> None:
    """The money that stood there is unknown; nothing is sent before that is mended."""
    night = Night(named("job", {"day": 50}), provider(MODELS))
    assert night.live().exit == 0
    path = ROOT / FILE
    whole = night.disk.files[path]
    night.disk.put(path, whole[:20] + b"?" + whole[21:])
    other = Night(named("other", {"day": 50}), provider(MODELS), disk=night.disk)
    life = other.live()
    assert life.exit == 8
    assert f"{path}: damaged at byte 0" in life.told[0] and "tertulia repair" in life.told[1]
    assert other.billed == 0


# --- calls that do not fit any more ----------------------------------------------------------------------------------


def sizes(night: Night) -> list[int]:
    return [record.event.max_tokens for record in night.records() if isinstance(record.event, Sent)]


def test_a_call_is_made_smaller_when_only_that_fits_and_not_before() -> None:
    """`min_tokens` lets the last money be used; while more may come back from calls in flight, nothing is lowered."""
    job = named("job", 1, repeat=2, max_tokens=3000)
    whole = need(job)
    strict = Night({**job, "budget": dollars_of(whole * 0.6)}, provider(MODELS))
    assert strict.live().exit == 4
    assert set(sizes(strict)) == {3000}
    yielding = Night({**job, "budget": dollars_of(whole * 0.6)}, provider(MODELS))
    yielding.job = {**job, "budget": dollars_of(whole * 0.6), "defaults": {**job["defaults"], "min_tokens": 200}}
    assert yielding.live().exit == 4
    assert min(sizes(yielding)) >= 200 and max(sizes(yielding)) == 3000
    lowered = [size for size in sizes(yielding) if size < 3000]
    assert lowered and strict.billed < yielding.billed <= yielding.counted <= whole * 0.6
    assert verify(yielding.folder, yielding.disk).problems == ()


def test_a_smaller_call_follows_the_room_of_the_day_too() -> None:
    """The slice that is left decides, as the budget of a run does."""
    job = named("job", 1, repeat=2, max_tokens=3000)
    whole = need(job)
    job = {**job, "budget": {"day": dollars_of(whole * 0.6)}, "defaults": {**job["defaults"], "min_tokens": 200}}
    night = Night(job, provider(MODELS))
    assert night.live().exit == 4
    assert min(sizes(night)) < 3000 and night.billed <= book(night.disk).total(TODAY, play=True) <= whole * 0.6


def test_a_server_that_ignores_its_limit_is_counted_in_full_and_gets_no_more_calls() -> None:
    """Beyond the ceiling, too, the day counts the truth, and the night says why it ended."""
    job = named("job", {"day": 0.02}, max_tokens=300)
    night = Night(job, provider(MODELS, faults=[{"kind": "overrun", "times": 20, "request": 3}]))
    life = night.live()
    assert life.exit == 4
    assert "overrun" in night.status()["reasons"]
    assert book(night.disk).total(TODAY, play=True) == night.counted >= night.billed > 0.02 * NANOS_PER_DOLLAR


def test_the_folders_of_the_ledger_are_made_with_the_first_run() -> None:
    """A clean machine needs nothing prepared."""
    night = Night(named("job", 50), provider(MODELS))
    assert night.live().exit == 0
    assert night.disk.exists(Path("outputs/ledger.jsonl"))


def test_a_run_in_the_folder_of_a_deleted_one_says_nothing_of_what_that_had_drawn() -> None:
    """What the first had drawn when it was killed stays counted in full, because its journal is gone."""
    job = named("first", {"day": 50}, repeat=2)
    one = Night(job, provider(MODELS))
    assert one.live(fault=death_after(40)).exit is None
    disk = one.left()
    [(run, _)] = [*book(disk).standing]
    drawn = book(disk).amount(run, TODAY)
    for path in list(disk.files):
        if path.parts[1] == "first":
            disk.remove(path)
    again = Night(job, provider(MODELS), disk=disk, wall=one.wall)
    again.engine = one.engine
    assert again.live(Options(limit=1)).exit == 0
    most = book(again.left()).total(TODAY, play=True) + need(named("second", 50)) // 2
    other = Night(named("second", {"day": dollars_of(most)}), provider(MODELS), disk=again.left(), wall=again.wall)
    other.engine = one.engine
    assert other.live().exit == 4
    counted = book(other.left())
    assert counted.amount(run, TODAY) == drawn
    assert one.engine.bill.cost <= counted.total(TODAY, play=True) <= most


def test_where_the_ledger_is_gone_the_runs_beside_it_are_counted_before_anything_is_spent() -> None:
    """Deleting one file does not open the day again, and the user is told."""
    first = Night(named("first", {"day": 50}), provider(MODELS))
    assert first.live().exit == 0
    first.disk.remove(ROOT / FILE)
    second = Night(named("second", {"day": dollars_of(first.billed)}), provider(MODELS), disk=first.disk)
    life = second.live()
    assert life.exit == 4 and second.billed == 0
    assert any("was not there: the runs beside it are counted by their journals" in line for line in life.told)
    assert book(second.left()).total(TODAY, play=True) == first.billed


def test_a_folder_put_back_from_a_copy_does_not_lower_the_day() -> None:
    """What the longer journal had said stays counted, and the user is told that the copy is older."""
    night = Night(named("job", {"day": 50}), provider(MODELS))
    assert night.live(Options(limit=1)).exit == 0
    old = {path: data for path, data in night.disk.files.items() if path.parts[1] == "job"}
    assert night.live().exit == 0
    whole = night.billed
    for path, data in old.items():
        night.disk.put(path, data)
    life = night.live(Options(limit=1))
    assert any("is an older copy: more was counted for 2026-11-21" in line for line in life.told)
    assert book(night.disk).total(TODAY, play=True) >= whole
