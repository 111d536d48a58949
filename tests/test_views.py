"""Writing the files of a run: what has not changed is not made again, and nothing that has is left as it was."""

from __future__ import annotations

import errno
from pathlib import Path

import anyio
import orjson
import pytest

from runner import views
from runner.conversation import Transcript
from runner.outputs import INDEX, LINES, STATUS, Reading, read
from runner.plan import Cell
from runner.render import jsonl, summary
from runner.render.summary import Row
from runner.selection import Options
from runner.views import Views
from tests.memory import MemoryDisk, Operation, at, no_fault
from tests.nights import TALK, TALK_SIM, Night
from tests.virtual import FixedClock

LETTER = "conversations/letter/bo.md"


def written(night: Night, since: int) -> set[str]:
    """The transcripts that were put in place after so many operations of the disk."""
    done = night.disk.operations[since:]
    return {
        str(op.path.relative_to(night.folder))
        for op in done
        if op.name == "rename" and "conversations/" in str(op.path)
    }


def copied(night: Night, since: int) -> int:
    """How often something was read of the lines after so many operations of the disk."""
    return sum(op.name == "read" and op.path.name == LINES for op in night.disk.operations[since:])


def anew(night: Night) -> dict[Path, bytes]:
    """All views as a process writes them that trusts nothing."""
    disk = MemoryDisk()
    for path, content in night.disk.files.items():
        disk.put(path, content)
    reading = read(night.folder, disk)
    anyio.run(Views(reading, FixedClock()).all, len(night.records()))
    return {path: content for path, content in disk.files.items() if path.name not in (STATUS, "run.lock")}


def assert_as_anew(night: Night) -> None:
    files = {path: content for path, content in night.disk.files.items() if path.name not in (STATUS, "run.lock")}
    assert files == anew(night)


def held() -> tuple[Night, MemoryDisk, Reading]:
    """A night that was held, a copy of its disk, and what reads it there."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    disk = night.left()
    return night, disk, read(night.folder, disk)


def test_a_later_life_writes_all_of_it_anew() -> None:
    """A loss of power may have taken back what the life before has written, and no view is ever synced."""
    night = Night(TALK, TALK_SIM)
    assert night.live(Options(only=("letter/bo",))).exit == 0
    since = len(night.disk.operations)
    assert night.live().exit == 0
    assert len(written(night, since)) == 3
    assert copied(night, since) == 0
    assert_as_anew(night)


def test_a_life_writes_each_transcript_once() -> None:
    """As its conversation ends, and not once more with all the rest."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    names = [op.path.name for op in night.disk.operations if op.name == "rename" and op.path.suffix == ".md"]
    assert sorted(names) == ["ada.md", "ada~bo.md", "bo.md", INDEX]


@pytest.mark.parametrize("transcripts", [False, True])
def test_what_changes_while_it_is_written_is_written_once_more(transcripts: bool) -> None:
    """A call is settled in the middle of the lines: the line that was written before is not taken for the new one.

    Nor is the transcript.
    """
    night, disk, reading = held()
    told = Views(reading, FixedClock())
    first = reading.plan.cells[0].id

    async def write() -> None:
        seen: list[bytes] = []
        right = Reading.line

        def line(self: Reading, cell: Cell, transcript: Transcript | None = None) -> bytes:
            if seen:  # after the first line, and before the last
                reading.state._changed(first)
            seen.append(right(self, cell, transcript))
            return seen[-1]

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Reading, "line", line)
            await told.night(1, transcripts)
            assert len(seen) == 3
            await told.night(1, transcripts)
        assert len(seen) == 4
        assert told.written == (4 if transcripts else 0)

    anyio.run(write)
    assert disk.read(night.folder / LINES) == night.disk.files[night.folder / LINES]


@pytest.mark.parametrize("changes", [0, 1, 9])
def test_an_index_whose_rows_were_made_beforehand_is_that_of_one_moment(
    changes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever changes while they are made, or after: what is written is as if all had been made at the end."""
    monkeypatch.setattr(views, "_BREATH_ROWS", 1)
    night, disk, reading = held()
    told = Views(reading, FixedClock())
    plan, state = reading.plan, reading.state
    first = plan.cells[0].id
    made: list[str] = []
    right = Reading.row

    def row(self: Reading, cell: Cell) -> Row:
        made.append(cell.id)
        return right(self, cell)

    async def change() -> None:
        for number in range(changes):
            state.of(first).ended = 5_000_000_000.0 + number
            state._changed(first)
            await anyio.lowlevel.checkpoint()

    async def write() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(change)
            await told.prepare()
        before = len(made)
        await told.night(1)
        assert len(made) - before <= 1

    monkeypatch.setattr(Reading, "row", row)
    anyio.run(write)
    page = disk.read(night.folder / INDEX).decode()
    assert page == summary.render(reading.night(1))
    assert made.count(plan.cells[1].id) == 2  # once before, and once for this test


@pytest.mark.parametrize("changed", [(), (0,), (1,), (2,), (0, 2)])
def test_lines_are_copied_in_pieces_and_in_their_order(
    changed: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small the pieces are, and wherever a line was made anew between two that were copied."""
    monkeypatch.setattr(views, "_PIECE_BYTES", 10)
    night, disk, reading = held()

    async def write() -> None:
        told = Views(reading, FixedClock())
        await told.night(1)
        for number in changed:
            reading.state._changed(reading.plan.cells[number].id)
        since = len(disk.operations)
        await told.night(1)
        assert sum(op.name == "read" and op.path.name == LINES for op in disk.operations[since:]) >= 1

    anyio.run(write)
    assert disk.read(night.folder / LINES) == night.disk.files[night.folder / LINES]


def test_those_that_have_not_begun_have_the_line_that_each_would_have() -> None:
    """Made for all of a kind at once, they differ by id, name and repeat alone."""
    night = Night(TALK.replace("{prompt: letter,", "{prompt: letter, repeat: 3,"), TALK_SIM)
    night.live(Options(only=("memory/*",)))
    reading = night.reading()
    cells = [cell for cell in reading.plan.cells if cell.prompt == "letter"]
    assert len(cells) >= 3
    for cell in cells:
        assert orjson.loads(reading.line(cell)) == orjson.loads(jsonl.line(reading.transcript(cell)))
        assert reading.line(cell) == jsonl.line(reading.transcript(cell)) + b"\n"


def test_a_transcript_that_could_not_be_written_at_once_is_written_at_the_end() -> None:
    """The disk has one bad moment, as the first conversation ends."""
    whole = Night(TALK, TALK_SIM)
    whole.live()
    first = next(
        op
        for op in whole.disk.operations
        if op.name == "temporary" and op.path.suffix == ".tmp" and ".md" in op.path.name
    )
    night = Night(TALK, TALK_SIM)
    assert night.live(fault=at(first.number, OSError(errno.EIO, "bad"))).exit == 0
    assert_as_anew(night)


def of_ada(operation: Operation) -> None:
    """A fault: of all transcripts that of Ada cannot be put in its place."""
    if operation.name == "rename" and operation.path.name == "ada.md":
        raise OSError(errno.EIO, "bad")


def test_of_many_transcripts_the_one_that_cannot_be_written_costs_no_other() -> None:
    """It is told, an older one of it does not stand on, and the next attempt writes it and nothing twice."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    whole = anew(night)
    disk = night.disk.survivor(of_ada)
    views = Views(read(night.folder, disk), FixedClock())
    with pytest.raises(OSError, match="bad"):
        anyio.run(views.all, len(night.records()))
    there = {path for path in disk.files if path.suffix == ".md"}
    assert there == {path for path in whole if path.suffix == ".md" and path.name != "ada.md"}
    disk.fault = no_fault
    since = len(disk.operations)
    anyio.run(views.all, len(night.records()))
    assert [op.path.name for op in disk.operations[since:] if op.name == "rename" and "letter" in str(op.path)] == [
        "ada.md"
    ]
    assert {path: content for path, content in disk.files.items() if path in whole} == whole


def test_a_transcript_that_was_made_and_never_put_down_is_written_the_next_time() -> None:
    """The journal cannot be read on while transcripts wait for others: none is taken for written that is not there."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    whole = anew(night)
    disk = night.disk.survivor()
    for path in [path for path in disk.files if path.suffix == ".md"]:
        disk.remove(path)
    views = Views(read(night.folder, disk), FixedClock())

    def of_the_last(operation: Operation) -> None:
        if operation.name == "read" and len(views._tried) == len(views.reading.plan.cells) - 1:
            raise OSError(errno.EIO, "bad")

    disk.fault = of_the_last
    with pytest.raises(OSError, match="bad"):
        anyio.run(views.all, len(night.records()))
    disk.fault = no_fault
    anyio.run(views.all, len(night.records()))
    assert {path: content for path, content in disk.files.items() if path in whole} == whole
