"""`kill -9` at operations of the disk all over a small night: the money is counted, the rest is held, nothing twice."""

from __future__ import annotations

from collections import Counter

import pytest

from runner.events import Failed
from runner.journal import FILE
from runner.verify import verify
from tests.memory import Operation, at
from tests.nights import Ledger, Night, matrix, provider
from tests.virtual import Kill

MODELS = ("m0", "m1", "m2")
TURNS = 6 * 4
POINTS = 60


def small(order: int | None) -> Night:
    """Six conversations of four turns, a few faults among them."""
    job = matrix(MODELS, rounds=2, send_seed=True)
    return Night(job, provider(MODELS, rate=0.05), seed=order)


def changes(night: Night) -> list[Operation]:
    return [operation for operation in night.disk.operations if operation.changes]


def spread(some: list[Operation], points: int) -> list[int]:
    """The numbers of so many operations, from the first to the last."""
    return [some[n * (len(some) - 1) // (points - 1)].number for n in range(points)]


def flying(night: Night) -> int:
    """How many calls the journal left behind says are in flight; none when it says nothing yet."""
    if not night.disk.exists(night.folder / FILE):
        return 0
    return Ledger.of(night.records()).flying


def counted(night: Night) -> int:
    """What the journal left behind counts as spent or held."""
    if not night.disk.exists(night.folder / FILE):
        return 0
    ledger = Ledger.of(night.records())
    return ledger.settled["run", ""] + ledger.reserved["run", ""]


def is_whole(night: Night, lost: int) -> None:
    """Everything is there and once, what was sent is what the journal says, and at most `lost` answers went unheard."""
    ledger = Ledger.of(night.records())
    assert len(ledger.answered) == TURNS and ledger.asked_again == [] and ledger.flying == 0
    assert {line["status"] for line in night.lines()} == {"complete"}
    assert (night.status()["state"], night.status()["exit"]) == ("closed", 0)
    assert night.billed <= night.counted
    assert [path for path in night.disk.files if path.name.startswith(".")] == [], "a crash left its litter"
    sent = Counter(sent.request for sent in night.sents())
    came = Counter(received.sha256 for received in night.engine.received)
    assert came <= sent, "the provider was asked something that is not on record"
    checked = verify(night.folder, night.disk)
    assert checked.problems == () and checked.rebuilt == len(night.sents()) and not checked.not_rebuilt
    answers = Counter(received.sha256 for received in night.engine.received if received.outcome == "answered")
    kept = Counter(record.event.kind for record in night.records())["replied"]
    assert answers.total() - kept <= lost


@pytest.mark.parametrize("order", [None, 4])
def test_a_kill_at_any_operation_loses_at_most_the_calls_in_flight_and_the_next_run_finishes(order: int | None) -> None:
    """At sixty operations all over the night: no money uncounted, no turn bought twice, each request on record."""
    model = small(order)
    assert model.live().exit == 0
    texts = {(r.cell, r.turn): r.text for r in model.replies().values()}
    for number in spread(changes(model), POINTS):
        night = small(order)
        assert night.live(fault=at(number, Kill(f"operation {number}"))).exit is None
        assert night.billed <= counted(night), f"operation {number}"
        lost = flying(night)
        assert lost <= 6
        assert night.live().exit == 0, f"operation {number}"
        is_whole(night, lost)
        assert {(r.cell, r.turn): r.text for r in night.replies().values()} == texts
        broke_off = [
            r.event for r in night.records() if isinstance(r.event, Failed) and "run broke off" in r.event.detail
        ]
        assert len(broke_off) == lost


@pytest.mark.parametrize("order", [None, 4])
def test_a_kill_in_the_middle_of_the_recovery_from_a_kill_is_recovered_from_too(order: int | None) -> None:
    """Killed in the first life, then at operations all over the second: the third still finds everything."""
    model = small(order)
    assert model.live().exit == 0
    first = spread(changes(model), 5)[2]
    recovery = small(order)
    recovery.live(fault=at(first, Kill("first")))
    before = len(recovery.disk.operations)
    assert recovery.live().exit == 0
    for number in spread([op for op in changes(recovery) if op.number > before], 15):
        night = small(order)
        night.live(fault=at(first, Kill("first")))
        lost = flying(night)
        assert night.live(fault=at(number, Kill("second"))).exit is None
        assert night.billed <= counted(night)
        lost += flying(night)
        assert night.live().exit == 0
        is_whole(night, lost)


def test_a_torn_line_at_the_end_is_set_aside_and_what_it_said_is_not_believed() -> None:
    """Killed in the midst of writing, the journal goes on before the torn line, and the run says where that went."""
    model = small(None)
    model.live()
    writes = [op.number for op in model.disk.operations if op.name == "write" and op.path.name == FILE]
    torn = 0
    for number in writes[1 : len(writes) : len(writes) // 12]:
        night = small(None)
        night.live(fault=at(number, Kill("in the midst of a write")))
        left = night.left().read(night.folder / FILE)
        life = night.live()
        assert life.exit == 0
        if not left.endswith(b"\n"):
            torn += 1
            assert any("torn by a crash" in line for line in life.told)
            aside = night.disk.read(night.folder / "journal.torn-1")
            assert left.endswith(aside)
        is_whole(night, 6)
    assert torn > 3


def test_a_night_of_nothing_but_crashes_comes_to_its_end_and_no_reply_on_disk_is_asked_for_again() -> None:
    """Lives that are each killed at their twelfth sync of the journal finish all turns between them, each once."""
    night = small(None)
    lives = 0
    while lives < 40:
        syncs = 0

        def fault(operation: Operation) -> None:
            nonlocal syncs
            syncs += operation.name == "sync" and operation.path.name == FILE
            if syncs == 12:
                raise Kill("at the twelfth sync")

        lives += 1
        if night.live(fault=fault).exit is not None:
            break
        assert night.billed <= counted(night)
    assert 4 < lives < 40
    is_whole(night, night.engine.bill.accepted)
