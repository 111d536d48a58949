"""Nights in which the power fails: what was not synced is gone, zeros or noise, and nothing had been built on it."""

from __future__ import annotations

from random import Random

import pytest

from runner.journal import FILE
from runner.verify import verify
from tests.memory import MemoryDisk, Operation, planned
from tests.nights import Ledger, Night, matrix, provider

MODELS = ("m0", "m1")
TURNS = 2 * 4
POINTS = 24


def small(seed: int) -> Night:
    job = matrix(MODELS, rounds=2, send_seed=True)
    return Night(job, provider(MODELS), disk=MemoryDisk(Random(seed)))


def held(night: Night) -> int:
    """What the journal that is left counts as spent or reserved."""
    if not night.disk.exists(night.folder / FILE):
        return 0
    ledger = Ledger.of(night.records())
    return ledger.settled["run", ""] + ledger.reserved["run", ""]


def is_spoiled(content: bytes) -> bool:
    """True when there are bytes that nobody wrote, zeros or noise, or half a letter."""
    return b"\0" in content or "\ufffd" in content.decode("utf-8", "replace")


def changes(night: Night) -> list[Operation]:
    return [operation for operation in night.disk.operations if operation.changes]


@pytest.mark.fault(9)
@pytest.mark.prove
def test_a_power_failure_at_any_operation_leaves_a_journal_that_counts_what_was_billed() -> None:
    """At two dozen operations all over a night, each drawn anew: money counted, texts the same, nothing twice."""
    whole = small(0)
    assert whole.live().exit == 0
    texts = {key: reply.text for key, reply in whole.replies().items()}
    some = changes(whole)[:-8]  # another order of the syncs makes some nights a little shorter
    spoiled = torn = 0
    for point in range(POINTS):
        night = small(point)
        number = some[point * (len(some) - 1) // (POINTS - 1)].number
        assert night.live(fault=planned({number: "power"})).exit is None, f"operation {number}"
        assert night.billed <= held(night), f"operation {number}"
        spoiled += is_spoiled(night.disk.files.get(night.folder / FILE, b""))
        life = night.live()
        assert life.exit == 0, (f"operation {number}", life.told)
        torn += any("torn by a crash" in line for line in life.told)
        ledger = Ledger.of(night.records())
        assert len(ledger.answered) == TURNS and ledger.asked_again == []
        assert {key: reply.text for key, reply in night.replies().items()} == texts
        assert night.billed <= night.counted
        assert verify(night.folder, night.left()).problems == (), f"operation {number}"
    assert spoiled >= 2 and torn >= 3


@pytest.mark.fault(9)
def test_a_second_power_failure_in_the_recovery_from_the_first_is_recovered_from_too() -> None:
    """Also where the first left half a line that the second life was just about to cut."""
    model = small(0)
    assert model.live().exit == 0
    first = changes(model)[len(changes(model)) // 2].number
    for again in range(1, 13):
        night = small(again)
        assert night.live(fault=planned({first: "power"})).exit is None
        before = len(night.disk.operations)
        night.live(fault=planned({before + again: "power"}))
        assert night.billed <= held(night), again
        assert night.live().exit == 0, again
        assert len(night.replies()) == TURNS
        assert Ledger.of(night.records()).asked_again == []
        assert verify(night.folder, night.left()).problems == (), again
