"""What was spent: sums that agree whichever way they are grouped, and the room that ceilings leave."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.journal import FILE, scan
from runner.ledger import Book, Entry, Kind, Part, Scope, month_of, truths_of
from runner.spending import KEYS, Money, Room, Share, grouped, lines_of, rooms, shares_of, total
from runner.state import Account, State
from tests.cli.folders import killed_when
from tests.nights import TALK, TALK_SIM

DAY = "2026-11-21"


def entry(
    run: str = "night/a@1.000",
    amount: int = 100,
    kind: Kind = "counted",
    day: str = DAY,
    play: bool = False,
    parts: Sequence[Part] = (),
    caps: dict[Scope, int] | None = None,
    zone: str = "UTC",
) -> Entry:
    return Entry(run, day, zone, amount, kind, play, caps or {}, tuple(parts))


# --- rows ----------------------------------------------------------------------------------------------------------


def test_a_run_that_is_folded_is_parted_into_what_is_known_and_what_is_assumed() -> None:
    """By model, and what no model is known of stands for lines that a repair replaced."""
    counted = entry(amount=100, parts=[Part("p", "m", 60, 10), Part("p", "n", 30, 0)])
    found = list(lines_of(Book([counted]), {}))
    assert [line.share for line in found] == [
        Share("p", "m", Money(50, 10)), Share("p", "n", Money(30, 0)), Share(None, None, Money(assumed=10)),
    ]  # fmt: skip
    assert total(found) == Money(80, 20, 0)


def test_of_a_slice_that_is_not_folded_the_journal_tells_what_was_spent() -> None:
    """The rest is held; without a journal all of it is."""
    drawn = entry(amount=100, kind="drawn")
    known = {drawn.run: {DAY: (Share("p", "m", Money(50, 10, 5)),)}}
    assert total(lines_of(Book([drawn]), known)) == Money(50, 10, 40)
    assert total(lines_of(Book([drawn]), {})) == Money(held=100)
    assert total(lines_of(Book([drawn]), {"another@1.000": known[drawn.run]})) == Money(held=100)


def test_what_a_journal_says_of_a_folded_run_is_not_added_to_it() -> None:
    """The last line of the ledger stands."""
    counted = entry(amount=100, parts=[Part("p", "m", 100, 0)])
    assert total(lines_of(Book([counted]), {counted.run: {DAY: (Share("p", "m", Money(50)),)}})) == Money(100)


def test_only_the_month_that_is_asked_for_is_told() -> None:
    """And all of it, when none is."""
    book = Book([entry(amount=1, day="2026-10-31"), entry(amount=2, day="2026-11-01"), entry(amount=4)])
    assert total(lines_of(book, {})).total == 7
    assert total(lines_of(book, {}, "2026-11")).total == 6
    assert total(lines_of(book, {}, "2025-11")).total == 0


def test_rows_are_in_order_and_what_is_not_known_comes_last() -> None:
    """A model is named with its provider, because two of them may call it the same."""
    parts = [Part("p", "m", 10, 0), Part("o", "m", 20, 0)]
    found = grouped(
        lines_of(Book([entry(amount=40, parts=parts), entry("b/x@2.000", 5, parts=parts[:1])]), {}), ["model"]
    )
    assert {key: money.total for key, money in found.items()} == {("o/m",): 20, ("p/m",): 20, (None,): 10}
    assert list(found) == [("o/m",), ("p/m",), (None,)]
    both = grouped(lines_of(Book([entry(), entry("b/x@2.000", 5)]), {}), ["day", "job"])
    assert list(both) == [(DAY, "b"), (DAY, "night")]


_PARTS = st.lists(
    st.tuples(st.sampled_from("pq"), st.sampled_from("mno"), st.integers(1, 50), st.integers(0, 50)).map(
        lambda part: Part(part[0], part[1], part[2], min(part[2], part[3]))
    ),
    max_size=3,
)


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    parts = draw(_PARTS)
    kind: Kind = draw(st.sampled_from(["counted", "drawn", "owed"]))
    return entry(
        run=draw(st.sampled_from(["a/x@1.000", "a/y@1.000", "b/x@2.000"])),
        amount=sum(part.spent for part in parts) + draw(st.integers(0, 20)),
        kind=kind,
        day=draw(st.sampled_from(["2026-10-31", "2026-11-01", DAY])),
        parts=parts if kind == "counted" else (),
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(_entries(), max_size=12), st.lists(st.sampled_from(KEYS), unique=True, min_size=1))
def test_whichever_way_it_is_grouped_it_adds_up_to_what_the_ledger_counts(entries: list[Entry], by: list[str]) -> None:
    """Each day and each month of the book, too."""
    book = Book(entries)
    found = list(lines_of(book, {}))
    rows = grouped(found, by)  # type: ignore[arg-type]
    assert sum(money.total for money in rows.values()) == sum(one.amount for one in book.standing.values())
    assert all(amount >= 0 for money in rows.values() for amount in money)
    for span in {one.day for one in entries} | {month_of(one.day) for one in entries}:
        own = [line for line in found if line.entry.day.startswith(span)]
        assert total(own).total == book.total(span)


# --- what a journal says ---------------------------------------------------------------------------------------------


def test_the_shares_of_a_journal_agree_with_what_the_ledger_would_count() -> None:
    """Settled, assumed and held come to the same, whether somebody works on the run or not."""
    night = killed_when(TALK, TALK_SIM, lambda state: state.run.reserved > 0 and state.run.settled > 0)
    state = scan(night.left(), night.folder / FILE).state
    reserved = state.run.reserved
    for at_work in (True, False):
        [(day, shares)] = shares_of(state, at_work).items()
        whole = Money()
        for share in shares:
            whole = whole.plus(share.money)
        assert whole.total == truths_of(state)[day].amount
        assert (whole.held, whole.assumed) == ((reserved, 0) if at_work else (0, reserved))


def test_what_a_repair_counted_is_assumed_of_no_model() -> None:
    """Nobody knows any more what it was for."""
    state = State()
    state.days[DAY] = Account(settled=100, assumed=30)
    state.spending[DAY, "p", "m"] = Account(settled=70, assumed=0)
    assert shares_of(state, False) == {DAY: (Share("p", "m", Money(70)), Share(None, None, Money(assumed=30)))}


# --- room ------------------------------------------------------------------------------------------------------------


def test_the_room_is_what_the_last_run_of_each_job_had_as_its_ceilings() -> None:
    """Of today and of this month; jobs that have the same stand together, and a job without any has none."""
    entries = [
        entry("a/x@1.000", 90, "drawn", caps={"day": 500}),
        entry("a/x@1.000", 100, "drawn", caps={"day": 400, "month": 1000}),
        entry("b/x@1.000", 50, "drawn", caps={"month": 1000}),
        entry("c/x@1.000", 7, "drawn", caps={"day": 9}),
        entry("c/x@1.000", 8, "drawn"),
        entry("a/x@1.000", 80),
        entry("a/w@1.000", 30, day="2026-11-02"),
    ]
    found = rooms(entries, Book(entries), lambda zone: DAY)
    assert found == [
        Room("day", DAY, 400, 138, False, ("a",)),
        Room("month", "2026-11", 1000, 168, False, ("a", "b")),
    ]
    assert [room.left for room in found] == [262, 832]
    assert Room("day", DAY, 5, 9, False, ()).left == 0


def test_today_is_the_date_in_the_zone_of_the_job_and_play_money_has_rooms_of_its_own() -> None:
    """A day that is over leaves all the room of the next."""
    entries = [
        entry("a/x@1.000", 90, "drawn", caps={"day": 500}, zone="Asia/Tokyo"),
        entry("b/x@1.000", 60, "drawn", caps={"day": 500}, play=True),
    ]
    found = rooms(entries, Book(entries), {"Asia/Tokyo": "2026-11-22", "UTC": DAY}.__getitem__)
    assert found == [Room("day", "2026-11-22", 500, 0, False, ("a",)), Room("day", DAY, 500, 60, True, ("b",))]


@pytest.mark.parametrize("play", [True, False])
def test_play_money_is_never_added_to_real_money(play: bool) -> None:
    """Each line says which it is."""
    [line] = lines_of(Book([entry(play=play)]), {})
    assert line.entry.play is play
