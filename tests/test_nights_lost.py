"""What becomes of calls that were in flight when a run broke off."""

from __future__ import annotations

import pytest

from runner.events import Failed
from tests.memory import Fault, Operation
from tests.nights import Night
from tests.virtual import Kill

JOB = """
name: lost
budget: 5
defaults: {{outcomes: {{lost: {{retry: {retry}}}}}}}
prompts: {{talk: {{opening: "Hello.", rounds: 2}}}}
pairings: [{{a: sim/ada, b: sim/eli}}]
"""


def death_after(writes: int) -> Fault:
    """Die at the write after so many to the journal."""
    seen = 0

    def fault(operation: Operation) -> None:
        nonlocal seen
        if operation.name == "write" and operation.path.name == "journal.jsonl":
            seen += 1
            if seen > writes:
                raise Kill("in the middle of a call")

    return fault


@pytest.mark.parametrize(("retry", "exit_code", "status"), [(0, 3, "failed"), (1, 0, "complete")])
def test_a_lost_call_is_asked_again_only_where_the_job_allows_it(retry: int, exit_code: int, status: str) -> None:
    """`retry: 0` buys a turn at most once: what was in flight at a crash counts as spent, and ends its conversation."""
    night = Night(JOB.format(retry=retry))
    assert night.live(fault=death_after(6)).exit is None
    assert night.live().exit == exit_code
    lost = [r.event for r in night.records() if isinstance(r.event, Failed) and r.event.failure == "lost"]
    assert len(lost) == 1
    assert lost[0].cost > 0
    reading = night.reading()
    assert [reading.status(cell)[0] for cell in reading.plan.cells] == [status]
    assert night.billed <= night.counted
