"""Nights that find their journal cut, damaged, doubled or exchanged: only what is whole and theirs is believed."""

from __future__ import annotations

from errno import ENOSPC
from typing import Any

import pytest

from runner.events import Replied
from runner.journal import FILE, LOCK_FILE, SPARE_FILE, repair
from runner.selection import Options
from runner.verify import verify
from tests.memory import Operation
from tests.nights import Ledger, Night, matrix, provider
from tests.virtual import FixedClock, run_virtual

MODELS = ("m0", "m1")
MOON = "🌒 Übrig bleibt, was niemand sagt – 残るもの。"


def small(**habits: Any) -> Night:
    return Night(matrix(MODELS, rounds=2), provider(MODELS, **habits))


def with_journal(night: Night, content: bytes) -> Night:
    """The same night, its journal exchanged from outside."""
    night.disk.put(night.folder / FILE, content)
    return night


def journal_of(night: Night) -> bytes:
    return night.disk.files[night.folder / FILE]


@pytest.mark.fault(21)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7])
def test_a_flipped_bit_stops_the_next_life_before_anything_is_sent_or_written(share: float) -> None:
    """Exit 8 with the byte and the way out; every view stays as it was; a repair counts the line, and all goes on."""
    night = small()
    assert night.live().exit == 0
    asked = len(night.engine.received)
    content = bytearray(journal_of(night))
    content[int(len(content) * share)] ^= 0x10
    with_journal(night, bytes(content))
    before = night.disk.files
    refused = night.live()
    assert refused.exit == 8
    assert "damaged at byte" in refused.told[0] and "tertulia repair" in refused.told[1]
    assert len(night.engine.received) == asked
    after = night.disk.files
    left_alone = [path for path in before if path.name not in (LOCK_FILE, SPARE_FILE)]
    assert {path: after[path] for path in left_alone} == {path: before[path] for path in left_alone}

    spent = night.billed
    disk = night.disk.survivor()
    assert run_virtual(repair, disk, FixedClock(night.wall), night.folder, "{}") is not None
    assert night.live().exit == 0
    assert verify(night.folder, night.left()).problems == ()
    assert spent <= night.billed <= night.counted


@pytest.mark.fault(22)
def test_a_reply_that_was_cut_within_a_letter_is_asked_for_again_and_kept_whole() -> None:
    """At every byte of a letter of several bytes: the line is set aside, and no half of a text is ever a turn."""
    whole = small(reply={"texts": [MOON]})
    assert whole.live().exit == 0
    content = journal_of(whole)
    last = max(record.place.offset for record in whole.records() if isinstance(record.event, Replied))
    begin = content.index(MOON.encode(), last)
    broken = 0
    for cut in range(begin + 1, begin + 8):
        night = with_journal(small(reply={"texts": [MOON]}), content[:cut])
        life = night.live()
        assert life.exit == 0 and any("torn by a crash" in line for line in life.told)
        assert night.disk.read(night.folder / "journal.torn-1") == content[last:cut]
        assert {reply.text for reply in night.replies().values()} == {MOON}
        assert len(night.replies()) == 8 and len(night.engine.received) == 1
        assert Ledger.of(night.records()).asked_again == []
        try:
            content[begin:cut].decode()
        except UnicodeDecodeError:
            broken += 1
    assert broken >= 4


@pytest.mark.fault(26)
def test_a_journal_of_another_run_gives_its_money_and_none_of_its_turns() -> None:
    """Copied over ours, it holds no conversation of this job: all are held, and the old money is `replaced`."""
    other = Night(matrix(MODELS, prompts={"gift": {"opening": "Choose a gift.", "rounds": 2}}), provider(MODELS))
    other.job["pairings"] = [{"prompt": "gift", "a": "m0", "b": "m1"}]  # type: ignore[index]
    assert other.live().exit == 0
    night = with_journal(small(), journal_of(other))
    assert night.live().exit == 0
    assert len(night.engine.received) == 8
    assert night.status()["replaced"]["conversations"] == 1
    assert night.counted == night.billed + other.billed
    assert verify(night.folder, night.left()).problems == ()


@pytest.mark.fault(26)
def test_the_lines_of_two_runs_in_one_file_are_not_believed_together() -> None:
    """Ours goes on as it was, and the other's lines are set aside; or, where ours are the later ones, it is refused."""
    ours, other = small(), Night(matrix(MODELS, rounds=1), provider(MODELS))
    assert (ours.live().exit, other.live().exit) == (0, 0)
    ahead = with_journal(small(), journal_of(ours) + journal_of(other))
    life = ahead.live()
    assert life.exit == 0 and "nothing to do" in life.told[-1]
    assert ahead.disk.files[ahead.folder / "journal.torn-1"] == journal_of(other)
    assert journal_of(ahead) == journal_of(ours)
    assert with_journal(small(), journal_of(other) + journal_of(ours)).live().exit == 8


@pytest.mark.fault(27)
def test_views_that_were_half_written_edited_or_deleted_are_whole_again_after_the_next_life() -> None:
    """Whatever a crash or a hand left in their place, the same bytes come back, and none of it is read."""
    night = small()
    assert night.live(signals=[(1.0, 2)]).exit == 130
    for path, content in night.disk.files.items():
        if path.suffix == ".md":
            night.disk.put(path, content[: len(content) // 2])
        elif path.name == "conversations.jsonl":
            night.disk.put(path, content.replace(b'"status":"', b'"status":"complete'))
    night.disk.put(night.folder / ".index.md.1.tmp", b"half")
    assert night.live().exit == 0
    assert verify(night.folder, night.left()).problems == ()
    assert not [path for path in night.disk.files if path.suffix == ".tmp"]
    assert len(night.replies()) == 8


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    "gone",
    [
        ["conversations.jsonl", "index.md", "m0~m1.md", "status.json"],
        ["conversations.jsonl", "index.md", "status.json"],
        ["m0~m1.md"],
        ["conversations.jsonl", "index.md"],
    ],
    ids=",".join,
)
def test_views_that_find_no_room_do_not_tell_of_an_earlier_moment(gone: list[str]) -> None:
    """Exit 8; what stands there is true, the others are gone, `verify` finds no fault; then all is whole again."""
    night = small()
    assert night.live(Options(limit=1), signals=[(1.0, 2)]).exit == 130
    before = {path.name for path in night.disk.files}
    assert {"conversations.jsonl", "index.md", "m0~m1.md", "status.json"} <= before

    def full(operation: Operation) -> None:
        if operation.name == "temporary" and any(name in operation.path.name for name in gone):
            raise OSError(ENOSPC, "No space left on device")

    life = night.live(fault=full)
    assert life.exit == 8 and any("views could not be written" in line for line in life.told)
    assert sorted(before - {path.name for path in night.disk.files}) == gone
    found = verify(night.folder, night.left())
    assert found.problems == ()
    assert any("`tertulia report` writes" in note for note in found.notes)
    asked = len(night.engine.received)
    assert night.live().exit == 0
    assert verify(night.folder, night.left()).notes == ()
    assert len(night.engine.received) == asked
