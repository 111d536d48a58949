"""Nights whose wall clock jumps, stands in for a sleeping machine, or meets the hour that comes twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from runner.events import Failed, Opened, Replied
from runner.gate import Gate
from runner.run import Session, Watcher
from runner.selection import date_of
from tests.nights import Ledger, Night, matrix, provider
from tests.virtual import VirtualClock

MODELS = ("m0", "m1", "m2")
HOUR, DAY = 3600.0, 86_400.0


def jumping(*jumps: tuple[float, float]) -> Any:
    """What sets the wall clock on or back by so many seconds, after so many seconds of the night."""

    def watch(sessions: Sequence[Session], gate: Gate) -> Sequence[Watcher]:
        clock = sessions[0].journal.clock
        assert isinstance(clock, VirtualClock)

        async def jump() -> None:
            for at, by in jumps:
                await anyio.sleep_until(at)
                clock.jump(by)

        return [jump]

    return watch


def small(**changes: Any) -> Night:
    return Night(matrix(MODELS, **changes), provider(MODELS))


def said(night: Night) -> list[tuple[str, int, str, float | None, float | None]]:
    """Every reply in the order of the journal, with the time it took."""
    replies = [record.event for record in night.records() if isinstance(record.event, Replied)]
    return [(reply.cell, reply.turn, reply.text, reply.first_byte, reply.seconds) for reply in replies]


@pytest.mark.fault(11)
@pytest.mark.parametrize("by", [-HOUR, DAY, -DAY])
def test_a_wall_clock_that_is_set_during_a_night_changes_nothing_but_stamps(by: float) -> None:
    """The same replies in the same order after the same seconds; no stamp goes back, and no date begins anew."""
    still, moved = small(run_key="{date}"), small(run_key="{date}")
    for night in (still, moved):
        night.key = "2026-11-21"
    assert still.live().exit == 0
    life = moved.live(watch=jumping((2.0, by), (4.0, by)))
    assert life.exit == 0 and life.seconds > 6.0
    assert said(moved) == said(still)
    stamps = [record.at for record in moved.records()]
    assert stamps == sorted(stamps)
    assert (stamps[-1] - stamps[0] > DAY) is (by > 0)
    (opened,) = [record.event for record in moved.records() if isinstance(record.event, Opened)]
    assert opened.date == "2026-11-21"
    assert all(reply.seconds is not None and 0 < reply.seconds < 60 for reply in moved.replies().values())


@pytest.mark.fault(10)
def test_a_machine_that_sleeps_in_the_middle_of_its_calls_loses_them_and_goes_on_at_its_pace() -> None:
    """Eight hours pass for everybody else: what was in flight is lost once, at its reservation, and no herd follows."""
    asleep = {"kind": "silent", "since": 5.0, "until": 6.0}
    job = matrix(MODELS, repeat=5, limits={"rpm": 60})
    night = Night(job, provider(MODELS, script=[asleep], limits={"rpm": 60}))
    life = night.live(watch=jumping((6.0, 8 * HOUR)))
    assert life.exit == 0
    failed = [record.event for record in night.records() if isinstance(record.event, Failed)]
    reserved = {(sent.cell, sent.turn, sent.attempt): sent.reserved for sent in night.sents()}
    assert failed and {event.failure for event in failed} == {"lost"}
    assert all(event.cost == reserved[event.cell, event.turn, event.attempt] for event in failed)
    assert len({(event.cell, event.turn) for event in failed}) == len(failed)
    assert Ledger.of(night.records()).asked_again == []
    # The provider's own minute did not see a burst: it refused nobody.
    assert "busy" not in Ledger.of(night.records()).failures
    assert night.billed <= night.counted


# --- the hour that comes twice ---------------------------------------------------------------------------------------

LISBON = ZoneInfo("Europe/Lisbon")


def at(local: str, fold: int = 0) -> float:
    """The moment of a time on the clocks of Lisbon; of one that comes twice, the first or the second."""
    return datetime.fromisoformat(local).replace(tzinfo=LISBON, fold=fold).timestamp()


@pytest.mark.fault(12)
@pytest.mark.parametrize("whole", [True, False], ids=["finished", "broken off"])
def test_a_night_that_cron_starts_twice_in_the_hour_that_comes_twice_is_held_once(whole: bool) -> None:
    """Half past one comes again, and with it the second start: it finds the same date, and only what is left."""
    night = small(run_key="{date}", timezone="Europe/Lisbon")
    night.key = "2026-10-25"
    night.wall = at("2026-10-25T01:30")
    assert night.live(signals=() if whole else [(3.0, 15)]).exit == (0 if whole else 143)
    first = len(night.sents())
    night.wall = at("2026-10-25T01:30", fold=1)
    life = night.live()
    assert life.exit == 0
    assert night.disk.listdir(night.folder.parent) == ["2026-10-25"]
    assert Ledger.of(night.records()).asked_again == []
    assert len(night.replies()) == 6 * 8
    if whole:
        assert life.told == ["job/2026-10-25: nothing to do, complete since 2026-10-25, 0 calls"]
        assert len(night.sents()) == first


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    ("zone", "moment", "date"),
    [
        ("Europe/Lisbon", "2027-03-28T00:59:59", "2027-03-28"),
        ("Europe/Lisbon", "2027-03-28T01:00:00", "2027-03-28"),
        ("Europe/Lisbon", "2026-10-24T22:59:59", "2026-10-24"),
        ("Europe/Lisbon", "2026-10-24T23:00:00", "2026-10-25"),
        ("Europe/Lisbon", "2026-10-26T00:00:00", "2026-10-26"),
        ("Africa/Cairo", "2026-04-23T21:59:59", "2026-04-23"),
        ("Africa/Cairo", "2026-04-23T22:00:00", "2026-04-24"),
        ("Pacific/Apia", "2011-12-30T09:59:59", "2011-12-29"),
        ("Pacific/Apia", "2011-12-30T10:00:00", "2011-12-31"),
    ],
)
def test_each_moment_has_one_date_whatever_the_clocks_do(zone: str, moment: str, date: str) -> None:
    """Where midnight is skipped, and where a whole day is, the date is that of the calendar on the wall."""
    assert date_of(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp(), zone) == date
