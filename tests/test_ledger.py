"""The money of the day and the month: counted once, drawn under a lock, and never above its ceiling."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.ledger import (
    FILE,
    LOCK_FILE,
    Book,
    Entry,
    Known,
    Ledger,
    Part,
    Purse,
    Repair,
    Scope,
    Spender,
    Told,
    Truth,
    encode,
    read,
    repair,
)
from runner.lines import Damaged, StorageError, TooNew, seal
from runner.state import Account
from runner.world import LockHeld
from tests.memory import Fault, MemoryDisk, at, no_fault
from tests.virtual import VirtualClock, run_virtual

ROOT = Path("outputs")
PATH = ROOT / FILE
DAY, TOMORROW = "2026-11-21", "2026-11-22"


def spender(run: str = "job/main@1.000", on: str = DAY, play: bool = False, **caps: int) -> Spender:
    named: dict[Scope, int] = {scope: caps[scope] for scope in ("day", "month") if scope in caps}
    return Spender(run, on, "UTC", play, named)


def ledger(disk: MemoryDisk, fold: Mapping[str, Mapping[str, Truth]] | None = None, fault: Fault = no_fault) -> Ledger:
    """The ledger as a process of its own sees it."""

    async def folded(run: str) -> Told | None:
        truths = (fold or {}).get(run.rpartition("@")[0])
        return None if truths is None else Told(truths, 1)

    return Ledger(disk.beside(fault), VirtualClock(), ROOT, "me", "run.lock", folded)


async def nothing_to_flush() -> None:
    """A journal in which everything is durable."""


async def opened(
    ledger: Ledger, spender: Spender, account: Account, flushed: Callable[[], Awaitable[None]], max_wait: float
) -> Purse:
    """The purse of a run that has spent on this day what its account says."""

    def told() -> Told:
        return Told({spender.day: Truth(account.held, ())} if account.held else {}, 1)

    purse = Purse(ledger, spender, account, told, flushed, max_wait)
    assert await purse.open() == {}
    return purse


def total(disk: MemoryDisk, span: str = DAY, play: bool = False) -> int:
    return Book(read(disk, PATH).entries).total(span, play)


def test_a_slice_is_a_twentieth_of_the_room_and_at_least_what_is_asked_for() -> None:
    """Large where there is much to draw from, so that the file is seldom asked; the last cents in small steps."""

    async def test() -> None:
        mine = ledger(MemoryDisk())
        assert (await mine.draw(spender(day=1000), 10, 10)).amount == 50
        assert (await mine.draw(spender(day=1000), 60, 60)).amount == 50 + 47
        assert (await mine.draw(spender(day=1000), 97, 500)).amount == 97
        assert (await mine.draw(spender(day=1000), 98, 500)).amount == 500
        drawn = await mine.draw(spender(day=1000), 990, 5000)
        assert (drawn.amount, drawn.room, drawn.short) == (1000, 0, None)

    run_virtual(test)


def test_what_does_not_fit_is_not_drawn_and_the_ceiling_is_named() -> None:
    """Of the day and the month the one that leaves less decides."""

    async def test() -> None:
        mine = ledger(MemoryDisk())
        await mine.draw(spender("a/main@1.000", TOMORROW, month=900), 800, 800)
        drawn = await mine.draw(spender(day=500, month=900), 101, 101)
        assert (drawn.amount, drawn.room, drawn.short, drawn.others) == (0, 100, "month", False)
        assert (await mine.draw(spender(day=50, month=900), 51, 51)).short == "day"
        assert (await mine.draw(spender(day=500, month=900), 100, 200)).amount == 100

    run_virtual(test)


def test_a_job_without_a_ceiling_counts_for_those_that_have_one() -> None:
    """It is never short, and what it draws is gone for the others."""

    async def test() -> None:
        disk = MemoryDisk()
        assert (await ledger(disk).draw(spender("free/main@1.000"), 5000, 5000)).room is None
        drawn = await ledger(disk).draw(spender(day=5001), 2, 2)
        assert (drawn.short, drawn.room) == ("day", 1)

    run_virtual(test)


def test_play_money_has_a_day_of_its_own() -> None:
    """Nothing that the built-in provider pretends to charge keeps a real call from being made, nor the other way."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).draw(spender("demo/main@1.000", play=True), 5000, 5000)
        assert (await ledger(disk).draw(spender(day=100), 100, 100)).amount == 100
        assert (total(disk), total(disk, play=True)) == (100, 5000)

    run_virtual(test)


def test_the_last_line_of_a_run_and_a_day_stands() -> None:
    """A run that closes counts what its journal says, and gives the rest of its slice back."""

    async def test() -> None:
        disk = MemoryDisk()
        mine = ledger(disk)
        await mine.draw(spender(day=1000), 400, 400)
        await mine.count(spender(day=1000), Told({DAY: Truth(120, (Part("sim", "m", 120, 20),))}, 1))
        assert total(disk) == 120 == total(disk, "2026-11")
        size = disk.size(PATH)
        await mine.count(
            spender(day=1000), Told({DAY: Truth(120, (Part("sim", "m", 120, 20),)), TOMORROW: Truth(0, ())}, 1)
        )
        assert disk.size(PATH) == size, "what is known already is not written again"
        assert (await ledger(disk).draw(spender("b/main@2.000", day=1000), 880, 880)).amount == 880

    run_virtual(test)


def test_a_folder_that_is_made_again_is_another_run() -> None:
    """What the deleted run has spent, it has spent."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).count(spender("job/main@1.000"), Told({DAY: Truth(700, ())}, 1))
        await ledger(disk).draw(spender("job/main@2.000", day=1000), 100, 100)
        assert total(disk) == 800

    run_virtual(test)


@pytest.mark.fault(66)
def test_processes_that_draw_at_once_never_pass_the_ceiling() -> None:
    """Whatever the order of their steps, every slice is drawn from what the others have left."""

    async def drain(own: Ledger, who: Spender, random: Random) -> int:
        need = random.randint(1, 9)
        while (await own.draw(who, need, need)).short is None:
            need += random.randint(1, 9)
        return own.book.amount(who.run, who.day)

    async def test(seed: int) -> None:
        disk = MemoryDisk(Random(seed))
        amounts: list[int] = []

        async def process(number: int) -> None:
            own = ledger(disk)
            amounts.append(await drain(own, spender(f"job{number}/main@1.000", day=500), Random(seed + number)))

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(process, number)
        assert sum(amounts) == total(disk) <= 500
        assert total(disk) > 490, "nearly all of it is drawn"

    for seed in range(8):
        run_virtual(test, seed, seed=seed)


def test_a_slice_is_durable_before_it_may_be_used() -> None:
    """Where the line cannot be written or synced, nothing is drawn, and the ledger is not touched again."""

    async def test(name: str, error: int) -> None:
        disk = MemoryDisk()
        await ledger(disk).draw(spender(day=1000), 10, 10)
        before = disk.size(PATH)

        def fault(operation: object) -> None:
            if getattr(operation, "name", "") == name:
                raise OSError(error, "no")

        mine = ledger(disk, fault=fault)
        with pytest.raises(StorageError, match="ledger"):
            await mine.draw(spender(day=1000), 100, 100)
        with pytest.raises(StorageError, match="ledger"):
            await mine.draw(spender(day=1000), 20, 20)
        if name == "write":
            left = ledger(disk)
            await left.refresh()
            assert left.book.total(DAY) == 50
            assert disk.size(PATH) == before, "half a line is cut off by whoever comes next"

    run_virtual(test, "write", errno.ENOSPC)
    run_virtual(test, "sync", errno.EIO)


def test_a_torn_line_is_set_aside_and_counts_nothing() -> None:
    """The process that wrote it died before it could rely on it."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).draw(spender(day=1000), 10, 10)
        good = disk.read(PATH)
        for torn in (good[:-1], good[:40], b"\0" * 30, b"{}\n\n"):
            disk.put(PATH, good + torn)
            mine = ledger(disk)
            await mine.refresh()
            assert mine.book.total(DAY) == 50
            assert disk.read(PATH) == good
        assert disk.read(ROOT / "ledger.torn-4") == b"{}\n\n"

    run_virtual(test)


def test_damage_before_a_good_line_is_refused_with_its_place() -> None:
    """Whatever byte is wrong: the money that stood there is unknown."""

    async def test() -> None:
        disk = MemoryDisk()
        for need in (10, 60, 200):
            await ledger(disk).draw(spender(day=1000), need, need)
        good = disk.read(PATH)
        last = good.rindex(b"\n", 0, -1)
        for place in range(0, last, 7):
            disk.put(PATH, good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
            with pytest.raises(Damaged, match="damaged at byte"):
                await ledger(disk).refresh()
        second = good.index(b"\n") + 1
        disk.put(PATH, good[second:])
        with pytest.raises(Damaged):
            await ledger(disk).refresh()
        disk.put(PATH, seal({"v": 9, "seq": 1, "at": 0.0, "kind": "drawn"}))
        with pytest.raises(TooNew, match="format 9"):
            await ledger(disk).refresh()

    run_virtual(test)


def test_a_ledger_that_was_deleted_begins_anew() -> None:
    """A process that had read it does not go on with what is gone, and says again what it counts itself."""

    async def test() -> None:
        disk = MemoryDisk()
        mine = ledger(disk)
        await ledger(disk).draw(spender("b/main@1.000", day=1000), 300, 300)
        await mine.draw(spender(day=1000), 100, 100)
        disk.remove(PATH)
        assert (await mine.draw(spender(day=1000), 150, 150)).amount == 150
        assert total(disk) == 150

    run_virtual(test)


# --- those who are gone ----------------------------------------------------------------------------------------------


def test_the_slice_of_a_dead_run_is_folded_when_somebody_needs_the_room() -> None:
    """Its journal says what it has spent; the rest is free again, and the line that says so is kept."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).draw(spender("dead/main@1.000", day=1000), 900, 900)
        disk.put(ROOT / "dead/main/run.lock", b"")
        mine = ledger(disk, {"dead/main": {DAY: Truth(40, ())}})
        assert (await mine.draw(spender(day=1000), 50, 50)).amount == 50
        assert mine.book.amount("dead/main@1.000", DAY) == 900, "not before it is needed"
        assert (await mine.draw(spender(day=1000), 500, 500)).amount == 500
        assert total(disk) == 540
        assert [entry.kind for entry in read(disk, PATH).entries] == ["drawn", "drawn", "counted", "drawn"]

    run_virtual(test)


def test_the_slice_of_a_run_that_is_held_is_left_alone() -> None:
    """Its holder may still spend it; that others wait is told."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).draw(spender("busy/main@1.000", day=1000), 900, 900)
        disk.put(ROOT / "busy/main/run.lock", b"")
        held = disk.beside().lock(ROOT / "busy/main/run.lock", "somebody")
        mine = ledger(disk, {"busy/main": {DAY: Truth(40, ())}})
        drawn = await mine.draw(spender(day=1000), 500, 500)
        assert (drawn.short, drawn.others, drawn.room) == ("day", True, 100)
        held.release()
        assert (await mine.draw(spender(day=1000), 500, 500)).amount == 500

    run_virtual(test)


def test_a_run_whose_folder_is_gone_counts_all_that_it_drew() -> None:
    """Nobody can tell any more how much of it was spent."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).draw(spender("gone/main@1.000", day=1000), 900, 900)
        drawn = await ledger(disk).draw(spender(day=1000), 500, 500)
        assert (drawn.short, drawn.others, drawn.room) == ("day", False, 100)

    run_virtual(test)


def test_a_run_that_was_taken_up_again_while_it_was_folded_knows_better() -> None:
    """Between the look at its journal and the line about it, its new life has drawn."""

    async def test() -> None:
        disk = MemoryDisk()
        again = ledger(disk)
        await again.draw(spender("dead/main@1.000", day=1000), 900, 900)
        disk.put(ROOT / "dead/main/run.lock", b"")

        class Meanwhile(dict[str, Mapping[str, Truth]]):
            def get(self, key: str, default: object = None) -> Mapping[str, Truth]:
                # Nothing is awaited in here, so what another process would do now is put down by hand.
                line = Entry("dead/main@1.000", DAY, "UTC", 950, "drawn", seq=2, at=1e10)
                disk.put(PATH, disk.read(PATH) + encode(line))
                return {DAY: Truth(40, ())}

        mine = ledger(disk, Meanwhile(dead={}))
        drawn = await mine.draw(spender(day=1000), 500, 500)
        assert (drawn.short, mine.book.amount("dead/main@1.000", DAY)) == ("day", 950)

    run_virtual(test)


def test_the_lock_of_the_ledger_is_waited_for_but_not_for_ever() -> None:
    """Somebody who holds it for long is in trouble, and is named."""

    async def test() -> None:
        disk = MemoryDisk()
        disk.make_dirs(ROOT)
        other = disk.beside().lock(ROOT / LOCK_FILE, "process 4711")
        mine = ledger(disk)

        async def let_go() -> None:
            await anyio.sleep(2)
            other.release()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(let_go)
            assert (await mine.draw(spender(day=1000), 10, 10)).amount == 50
        disk.beside().lock(ROOT / LOCK_FILE, "process 4712")
        with pytest.raises(StorageError, match="4712"):
            await mine.draw(spender(day=1000), 100, 100)

    run_virtual(test)


# --- the purse -------------------------------------------------------------------------------------------------------


def test_a_purse_shows_the_gate_a_ceiling_that_grows() -> None:
    """At first as far as the room goes; after a slice as far as it was drawn; short only when there is no more."""

    async def test() -> None:
        disk, account = MemoryDisk(), Account()
        purse = await opened(ledger(disk), spender(day=1000), account, nothing_to_flush, 60.0)
        assert (purse.ceiling.most, purse.ceiling.reach) == (0, 1000)
        assert await purse.draw(30, 200) is False
        assert (purse.ceiling.most, purse.ceiling.reach) == (200, 1000)
        account.reserved = 200
        assert await purse.draw(801, 801) is False
        assert (purse.ceiling.most, purse.ceiling.reach, purse.ceiling.may_grow) == (200, 1000, False)
        assert purse.ceiling.name == "the budget of the day"
        account.reserved, account.settled = 0, 1100
        assert await purse.draw(1, 1) is False
        assert (purse.ceiling.most, total(disk)) == (1100, 1100), "what is spent is counted, whatever the ceiling says"
        assert "owed" in [entry.kind for entry in read(disk, PATH).entries]

    run_virtual(test)


def test_a_purse_waits_for_what_others_may_give_back_but_not_longer_than_it_is_told() -> None:
    """While another process holds a slice, being short is no end; once that did nothing for `max_wait`, it is."""

    async def test() -> None:
        disk = MemoryDisk()
        other = ledger(disk)
        await other.draw(spender("busy/main@1.000", day=1000), 900, 900)
        disk.put(ROOT / "busy/main/run.lock", b"")
        disk.beside().lock(ROOT / "busy/main/run.lock", "somebody")
        purse = await opened(ledger(disk), spender(day=1000), Account(), nothing_to_flush, 60.0)
        assert await purse.draw(500, 500) is True
        await anyio.sleep(59)
        assert await purse.draw(500, 500) is True
        await other.draw(spender("busy/main@1.000", day=1000), 901, 901)
        await anyio.sleep(59)
        assert await purse.draw(500, 500) is True, "the other one has moved"
        await anyio.sleep(61)
        assert await purse.draw(500, 500) is False
        assert await purse.draw(90, 90) is False
        assert purse.ceiling.most == 90 and not purse.ceiling.may_grow

    run_virtual(test)


def test_what_calls_have_given_back_is_free_for_others_only_when_that_is_on_record() -> None:
    """The journal and the ledger are two files: the line that frees money comes after the record that it rests on."""

    async def test() -> None:
        disk, account = MemoryDisk(), Account()
        seen: list[int] = []

        async def flushed() -> None:
            seen.append(total(disk))

        purse = await opened(ledger(disk), spender(day=1000), account, flushed, 60.0)
        await purse.draw(700, 700)
        account.settled = 10
        await purse.draw(995, 995)
        assert seen == [700] and total(disk) == 10

    run_virtual(test)


def test_two_purses_that_are_short_do_not_wait_for_each_other() -> None:
    """What is too little for one is given back at once, and may be enough for the other."""

    async def test() -> None:
        disk = MemoryDisk()
        purses: list[Purse] = []
        for run in ("one", "two"):
            disk.put(ROOT / run / "main/run.lock", b"")
            disk.beside().lock(ROOT / run / "main/run.lock", "a process")
            purses.append(
                await opened(ledger(disk), spender(f"{run}/main@1.000", day=1000), Account(), nothing_to_flush, 60.0)
            )
        one, two = purses
        assert await one.draw(400, 500) is False and await two.draw(400, 500) is False
        assert await one.draw(600, 600) is True
        assert one.ceiling.most == 0
        assert await two.draw(600, 600) is False
        assert two.ceiling.most == 600
        two.account.settled = 500
        assert await two.draw(600, 600) is False, "nobody else has anything in flight, so nothing will come back"
        assert total(disk) == 500

    run_virtual(test)


# --- properties ------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["draw", "count", "owe", "crash", "fold"]),
        st.integers(0, 3),
        st.integers(1, 300),
        st.sampled_from([DAY, TOMORROW]),
    ),
    max_size=25,
)


@given(STEPS, st.integers(100, 900), st.integers(100, 1200))
@settings(max_examples=60, deadline=None)
def test_no_slice_is_ever_drawn_past_a_ceiling_and_none_is_forgotten(
    steps: list[tuple[str, int, int, str]], day: int, month: int
) -> None:
    """Drawing, closing, crashing, folding in any order: sums follow from the lines, and each draw fitted."""

    async def test() -> None:
        disk = MemoryDisk()
        processes = {n: ledger(disk) for n in range(4)}
        spent: dict[tuple[int, str], int] = {}
        for what, n, amount, on in steps:
            who = spender(f"job{n}/main@1.000", on, day=day, month=month)
            own = processes[n]
            if what == "draw":
                drawn = await own.draw(who, own.book.amount(who.run, on) + amount, 0)
                spent[n, on] = drawn.amount if drawn.short is None else spent.get((n, on), 0)
            elif what == "owe":
                await own.owe(who, amount)
                spent[n, on] = max(spent.get((n, on), 0), amount)
            elif what == "count":
                spent[n, on] = min(spent.get((n, on), 0), amount)
                await own.count(who, Told({on: Truth(spent[n, on], ())}, 1))
            else:
                processes[n] = ledger(disk)
                await processes[n].refresh()
        book = Book()
        for entry in read(disk, PATH).entries:
            book.take(entry)
            assert entry.kind != "drawn" or not list(book.over(entry))
        for (n, on), amount in spent.items():
            assert book.amount(f"job{n}/main@1.000", on) >= amount
        assert book.total(DAY) + book.total(TOMORROW) == book.total("2026-11")

    run_virtual(test)


@given(
    st.text(max_size=20),
    st.integers(0, 2**53),
    st.sampled_from(["drawn", "owed", "counted"]),
    st.booleans(),
    st.lists(st.builds(Part, st.text(max_size=9), st.text(max_size=9), st.integers(0, 2**53), st.integers(0, 9))),
)
@settings(max_examples=60, deadline=None)
def test_every_entry_reads_back_as_it_was_written(
    run: str, amount: int, kind: str, play: bool, parts: list[Part]
) -> None:
    """Also names that no file system would bear."""
    entry = Entry(run, DAY, "UTC", amount, kind, play, {"day": amount}, tuple(parts), 9, 1.5, 1)  # type: ignore[arg-type]
    disk = MemoryDisk()
    disk.put(PATH, encode(entry))
    assert read(disk, PATH).entries == (entry,)


@pytest.mark.fault(66)
def test_a_fault_at_any_operation_leaves_a_ledger_that_counts_enough() -> None:
    """Whatever breaks while a slice is drawn: the next process reads a sum that covers what could have been used."""

    async def test(number: int) -> int:
        disk = MemoryDisk(Random(number))
        await ledger(disk).draw(spender(day=1000), 10, 10)
        before = len(disk.operations)
        mine = ledger(disk, fault=at(before + number, OSError(errno.EIO, "no")))
        used = 50
        try:
            used = (await mine.draw(spender(day=1000), 300, 300)).amount
        except StorageError:
            pass
        there = len(disk.operations) - before >= number
        last = ledger(disk)
        await last.refresh()
        assert last.book.total(DAY) >= used
        return there

    count = 1
    while run_virtual(test, count):
        count += 1
    assert count > 5


# --- what others have done to the file -------------------------------------------------------------------------------


def test_a_run_that_changes_between_play_and_real_money_counts_once_and_as_real_from_then_on() -> None:
    """What it had drawn in play is not taken from the real day; what was real is never play again."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).draw(spender(play=True, day=100), 90, 90)
        await ledger(disk).count(spender(day=100), Told({DAY: Truth(30, ())}, 1))
        assert (total(disk), total(disk, play=True)) == (30, 0)
        await ledger(disk).count(spender(play=True, day=100), Told({DAY: Truth(40, ())}, 2))
        assert (total(disk), total(disk, play=True)) == (40, 0)

    run_virtual(test)


def test_an_older_copy_of_a_journal_takes_nothing_back() -> None:
    """Fewer records that tell of less: the day goes on counting what the longer journal said."""

    async def test() -> None:
        disk = MemoryDisk()
        assert await ledger(disk).count(spender(), Told({DAY: Truth(500, ())}, 40)) == {}
        assert await ledger(disk).count(spender(), Told({DAY: Truth(200, ())}, 12)) == {DAY: 300}
        assert total(disk) == 500
        assert await ledger(disk).count(spender(), Told({DAY: Truth(450, ())}, 41)) == {}
        assert total(disk) == 450

    run_virtual(test)


def test_a_repaired_journal_takes_nothing_back_of_the_days_that_were_counted_before() -> None:
    """The lost lines may have told on which day the money was spent; days that begin later are as they are told."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).draw(spender(), 500, 500)
        await ledger(disk).count(spender(), Told({DAY: Truth(400, ())}, 20))
        mended = Told({"2026-11-20": Truth(400, ())}, 25, mended=24)
        assert await ledger(disk).count(spender(), mended) == {DAY: 400}
        assert (total(disk), total(disk, "2026-11-20")) == (400, 400)
        tomorrow = spender(on=TOMORROW)
        await ledger(disk).count(tomorrow, mended)
        await ledger(disk).draw(tomorrow, 90, 90)
        await ledger(disk).count(tomorrow, Told({TOMORROW: Truth(30, ())}, 30, mended=24))
        assert total(disk, TOMORROW) == 30

    run_virtual(test)


def test_what_a_mended_journal_does_not_tell_is_spent_all_the_same() -> None:
    """The day's ceiling has no room for it a second time, not in this life and not in the next; slices come back."""

    async def test() -> None:
        disk, account = MemoryDisk(), Account()
        await ledger(disk).count(spender(), Told({DAY: Truth(400, ())}, 20))
        for life in (25, 30):

            def told(records: int = life) -> Told:
                return Told({DAY: Truth(account.held, ())} if account.held else {}, records, mended=24)

            before = account.settled
            purse = Purse(ledger(disk), spender(day=1000), account, told, nothing_to_flush, 60.0)
            assert await purse.open() == {DAY: 400}
            assert (purse.ceiling.most, purse.ceiling.reach) == (before, 600)
            assert await purse.draw(100, 200) is False
            assert total(disk) == 400 + before + 200
            account.settled += 50
            await purse.close()
            assert total(disk) == 400 + before + 50
        assert total(disk) == 500

    run_virtual(test)


def test_a_slice_is_not_folded_by_an_older_copy_of_its_journal() -> None:
    """Nor does the slice of a dead process shrink to what an old journal says."""

    async def test() -> None:
        disk = MemoryDisk()
        await ledger(disk).count(spender("old/main@1.000"), Told({DAY: Truth(500, ())}, 40))
        await ledger(disk).draw(spender("old/main@1.000", day=1000), 600, 600)
        mine = ledger(disk, {"old/main": {DAY: Truth(100, ())}})
        assert (await mine.draw(spender(day=1000), 500, 500)).short == "day"
        assert total(disk) == 600

    run_virtual(test)


@pytest.mark.parametrize("lines", [2, 5])
def test_more_damage_at_the_end_than_one_broken_off_write_leaves_is_refused(lines: int) -> None:
    """One line may be torn by a crash; several that were whole once are not taken for that, and neither are zeros."""
    disk = MemoryDisk()
    good = [encode(Entry(f"job{n}/main@1.000", DAY, "UTC", n, "counted", seq=n)) for n in range(1, 31)]
    spoiled = [line.replace(b'"amount"', b'"amounX"') for line in good[-lines:]]
    disk.put(PATH, b"".join(good[:-lines] + spoiled))
    with pytest.raises(Damaged):
        read(disk, PATH)
    disk.put(PATH, b"".join(good[:3]) + b"\0" * 3000)
    with pytest.raises(Damaged):
        read(disk, PATH)
    disk.put(PATH, b"".join(good[:-1]) + spoiled[-1])
    assert read(disk, PATH).torn


def test_a_ledger_that_was_put_in_the_place_of_another_is_read_from_its_beginning() -> None:
    """Shorter, longer or gone: nobody reads on in the middle of a line that he does not know."""

    async def test() -> None:
        disk = MemoryDisk()
        mine = ledger(disk)
        await mine.draw(spender(day=1000), 100, 100)
        for others in (1, 3, 9):
            disk.remove(PATH)
            for n in range(others):
                await ledger(disk).count(spender(f"a-longer-name-{n}/main@1.000"), Told({DAY: Truth(10, ())}, 1))
            await mine.refresh()
            assert mine.book.total(DAY) == total(disk) == 10 * others
            await mine.draw(spender(day=1000), 100, 100)
            assert total(disk) == 100 + 10 * others

    run_virtual(test)


def test_a_ledger_that_is_gone_begins_with_what_the_journals_say() -> None:
    """Once: where there is one, they add nothing."""

    async def test() -> None:
        disk = MemoryDisk()
        known = [Known("a/main@1.000", "UTC", False, Told({DAY: Truth(100, ())}, 7))]
        assert await ledger(disk).begin(known) == 1
        assert await ledger(disk).begin(known) == 0
        assert total(disk) == 100

    run_virtual(test)


def test_a_purse_that_is_idle_and_short_counts_what_its_journal_says() -> None:
    """With the models that it was spent on, not as money of which nothing is known."""

    async def test() -> None:
        disk, account = MemoryDisk(), Account(settled=90)
        part = Part("p", "m", 90, 0)
        told = Told({DAY: Truth(90, (part,))}, 5)
        purse = Purse(ledger(disk), spender(day=100), account, lambda: told, nothing_to_flush, 60.0)
        await purse.open()
        assert await purse.draw(50, 50) is False
        assert read(disk, PATH).entries[-1].parts == (part,)

    run_virtual(test)


def test_the_ceilings_of_a_job_are_told_at_each_opening() -> None:
    """Also where nothing is drawn: whoever looks for the room that is left sees the ceiling in force."""

    async def test() -> None:
        disk = MemoryDisk()
        for most in (100, 5):
            await opened(ledger(disk), spender(day=most), Account(settled=50), nothing_to_flush, 60.0)
            assert read(disk, PATH).entries[-1].caps == {"day": most}

    run_virtual(test)


# --- repair ----------------------------------------------------------------------------------------------------------


def test_a_damaged_ledger_is_put_together_again_from_its_good_lines_and_the_journals() -> None:
    """What a lost line said of a run that is there, its journal says again; the damaged file is kept."""

    async def test() -> None:
        disk = MemoryDisk()
        for number, run in enumerate(("a/main@1.000", "b/main@2.000", "c/main@3.000"), 1):
            await ledger(disk).count(spender(run), Told({DAY: Truth(100 * number, ())}, 1))
        whole = disk.read(PATH)
        second = whole.index(b"\n") + 1
        known = [
            Known("a/main@1.000", "UTC", False, Told({DAY: Truth(100, ())}, 1)),
            Known("b/main@2.000", "UTC", False, Told({DAY: Truth(200, ())}, 1)),
        ]
        assert await repair(disk.beside(), VirtualClock(), ROOT, "me", "run.lock", known) is None
        disk.put(PATH, whole[: second + 5] + b"?" + whole[second + 6 :])
        done = await repair(disk.beside(), VirtualClock(), ROOT, "me", "run.lock", known)
        assert done == Repair(1, 1, "ledger.damaged-1")
        assert total(disk) == 600
        assert [entry.seq for entry in read(disk, PATH).entries] == [1, 2, 3]
        assert disk.read(ROOT / "ledger.damaged-1")[second + 5] == ord("?")
        assert (await ledger(disk).draw(spender(day=700), 100, 100)).amount == 100

    run_virtual(test)


def test_a_repair_counts_a_finished_run_of_which_the_last_line_was_lost() -> None:
    """It had drawn more than it spent: without its line it would hold that for ever, and no sum would add up."""

    async def test() -> None:
        disk = MemoryDisk()
        for run, amount in (("a/main@1.000", 300), ("b/main@2.000", 500)):
            await ledger(disk).draw(spender(run, day=1000), amount, amount)
            await ledger(disk).count(spender(run, day=1000), Told({DAY: Truth(amount // 10, ())}, 5))
        lines = disk.read(PATH).splitlines(keepends=True)
        disk.put(PATH, b"".join([lines[0], lines[1].replace(b"30", b"31"), *lines[2:]]))
        known = [Known("a/main@1.000", "UTC", False, Told({DAY: Truth(30, ())}, 5))]
        assert await repair(disk.beside(), VirtualClock(), ROOT, "me", "run.lock", known) == Repair(
            1, 1, "ledger.damaged-1"
        )
        book = Book()
        for entry in read(disk, PATH).entries:
            book.take(entry)
            assert not list(book.over(entry))
        assert book.total(DAY) == 80

    run_virtual(test)


def test_a_ledger_is_not_repaired_while_a_run_beside_it_is_under_way() -> None:
    """Its slice may be what was lost."""

    async def test() -> None:
        disk = MemoryDisk()
        disk.put(ROOT / "a/main/run.lock", b"")
        lock = disk.beside().lock(ROOT / "a/main/run.lock", "a process")
        known = [Known("a/main@1.000", "UTC", False, Told({DAY: Truth(30, ())}, 5))]
        with pytest.raises(LockHeld):
            await repair(disk.beside(), VirtualClock(), ROOT, "me", "run.lock", known)
        assert not disk.exists(PATH)
        lock.release()
        assert await repair(disk.beside(), VirtualClock(), ROOT, "me", "run.lock", known) == Repair(0, 1, None)

    run_virtual(test)
