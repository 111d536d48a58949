"""Lanes: one for an account, whichever job uses it, and all together no more calls than the machine allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.limits import Lane
from runner.plan import make_plan
from runner.preflight import CannotBegin, endpoints_of, lanes_of
from tests.nights import job_of, matrix, text_of

MODELS = ("m0", "m1", "m2")
EACH_ITS_OWN = {"p": ["m0"], "q": ["m1"], "r": ["m2"]}


def lanes(concurrency: Mapping[str, int], most_calls: int | None, told: list[str] | None = None) -> dict[str, Lane]:
    """The lanes of three providers with so many slots each, by provider."""
    job: dict[str, Any] = matrix(MODELS, providers=EACH_ITS_OWN)
    for name, slots in concurrency.items():
        job["providers"][name]["limits"] = {"concurrency": slots}
    plan = make_plan(job_of(text_of(job)), "2026-11-21")
    endpoints = endpoints_of(plan, {}, {("job", name): f"http://{name}.sim/v1" for name in job["providers"]})
    told = [] if told is None else told
    (by_alias,) = lanes_of([(plan, endpoints)], most_calls, told.append)
    return {lane.name: lane for lane in by_alias.values()}


@given(st.tuples(*[st.integers(1, 400)] * 3), st.integers(3, 1300))
def test_all_lanes_together_make_no_more_calls_than_the_machine_allows(
    slots: tuple[int, int, int], most_calls: int
) -> None:
    """Each keeps at least one and at most what its job says, in proportion; where there is enough nothing changes."""
    wanted = dict(zip("pqr", slots, strict=True))
    told: list[str] = []
    found = {name: int(lane.free_slots) for name, lane in lanes(wanted, most_calls, told).items()}
    if sum(slots) <= most_calls:
        assert found == wanted and told == []
    else:
        assert sum(found.values()) <= most_calls
        assert all(1 <= found[name] <= wanted[name] for name in wanted)
        assert told == [
            f"{most_calls} calls at once and not {sum(slots)}: a process may not open more files here; see ulimit -n"
        ]
        ordered = sorted(wanted, key=lambda name: wanted[name])
        assert [found[name] for name in ordered] == sorted(found.values())


def test_a_machine_that_does_not_allow_a_call_for_each_lane_holds_no_night() -> None:
    """Exit 6 before anything is sent, with the command that mends it."""
    with pytest.raises(CannotBegin) as trouble:
        lanes({"p": 1, "q": 1, "r": 1}, 2)
    assert trouble.value.code == 6
    assert "ulimit -n 1024" in trouble.value.lines[-1]


def test_a_machine_without_a_limit_leaves_the_lanes_as_they_are() -> None:
    """Also a provider that says nothing of its concurrency has its own."""
    assert {name: lane.free_slots for name, lane in lanes({"p": 5000}, None).items()} == {"p": 5000, "q": 16, "r": 16}
