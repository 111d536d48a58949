"""Counting conversations as they change comes to what counting all of them would."""

from __future__ import annotations

import pytest

from runner.census import NOT_BEGUN, Census, standing_of
from runner.plan import Plan
from runner.selection import Options
from runner.state import State
from tests.nights import TALK, TALK_SIM, TALKERS, Night

REFUSES = {"models": {"m": TALKERS, "n": {**TALKERS, "faults": [{"kind": "refusal"}]}}}


def counted(plan: Plan, state: State) -> tuple[object, ...]:
    return figures(Census(plan, state))


def figures(census: Census) -> tuple[object, ...]:
    return census.standings, census.statuses, census.early, census.turns, census.truncated, census.refused


@pytest.mark.parametrize("sim", [TALK_SIM, REFUSES], ids=["well", "refusing"])
def test_following_comes_to_what_counting_anew_does(sim: dict[str, object]) -> None:
    """After every record of a run of two lives, the first of which is about a part of it."""
    night = Night(TALK, sim)
    night.live(Options(only=("letter/*",)))
    night.live()
    plan, state = night.reading().plan, State()
    census = Census(plan, state)
    seen = set()
    for record in night.records():
        state.apply(record.event, record.at, record.place)
        assert figures(census.follow()) == counted(plan, state)
        seen.add(tuple(sorted(census.statuses.items())))
    assert len(seen) >= 4
    assert sum(census.standings.values()) == len(plan.cells)


def test_who_has_not_begun_is_pending() -> None:
    """Before the first record all are."""
    night = Night(TALK, TALK_SIM)
    night.live()
    plan, state = night.reading().plan, State()
    assert dict(Census(plan, state).standings) == {("pending", "not begun"): len(plan.cells)}
    assert standing_of(state.of("nobody")) == NOT_BEGUN
