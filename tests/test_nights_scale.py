"""What waits costs next to nothing: rows of a plan, and neither tasks nor timers."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Sequence
from typing import Any

import anyio
import pytest

from runner.gate import Gate
from runner.plan import make_plan
from runner.run import Session, Watcher
from tests.nights import Night, job_of, matrix, provider, text_of
from tests.virtual import VirtualLoop

ROW_BYTES = 1000


def letters(many: int, **limits: int) -> dict[str, Any]:
    return matrix(
        ("m0",),
        limits={"concurrency": 10, **limits},
        max_wait="1s",
        prompts={"letter": {"roles": {"writer": {"script": ["Dear friend"]}, "subject": {}}}},
        pairings=[{"prompt": "letter", "subject": "m0", "repeat": many}],
    )


@pytest.mark.fault(88)
def test_conversations_that_are_parked_have_neither_a_task_nor_a_timer() -> None:
    """Behind a daily limit of twenty wait hundreds or thousands: the loop has as much to do in both nights."""
    most: list[tuple[int, int]] = []
    for many in (300, 3000):
        seen = [(0, 0)]

        def watch(sessions: Sequence[Session], gate: Gate, seen: list[tuple[int, int]] = seen) -> Sequence[Watcher]:
            async def look() -> None:
                loop = asyncio.get_running_loop()
                assert isinstance(loop, VirtualLoop)
                while True:
                    live = [timer for timer in loop._scheduled if not timer.cancelled()]
                    seen.append((len(asyncio.all_tasks()), len(live)))
                    await anyio.sleep(0.25)

            return [look]

        night = Night(letters(many, rpd=20), provider(("m0",)))
        life = night.live(watch=watch)
        assert life.exit == 3
        assert len(night.sents()) == 20
        counts = night.status()["conversations"]
        assert (counts["complete"], counts["pending"]) == (20, many - 20)
        most.append((max(tasks for tasks, _ in seen), max(timers for _, timers in seen)))
    assert most[0] == most[1]
    assert most[0][0] < 60 and most[0][1] < 60


@pytest.mark.fault(67, 88)
def test_a_plan_of_fifty_thousand_conversations_is_so_many_small_rows() -> None:
    """Less than a kilobyte for each, and not more for each of many than for each of few."""
    each = []
    for many in (5_000, 50_000):
        job = job_of(text_of(letters(many)))
        tracemalloc.start()
        try:
            plan = make_plan(job, "2026-11-21")
            each.append(tracemalloc.get_traced_memory()[0] / many)
        finally:
            tracemalloc.stop()
        assert len(plan.cells) == many
    assert each[1] < ROW_BYTES
    assert each[1] < each[0] * 1.25
