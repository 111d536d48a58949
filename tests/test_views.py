"""Writing the files of a run: what has not changed is not made again, and nothing that has is left as it was."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import anyio
import orjson
import pytest

from runner import views
from runner.conversation import Transcript
from runner.outputs import INDEX, LINES, STATUS, Reading, read
from runner.plan import Cell
from runner.render import jsonl
from runner.selection import Options
from runner.views import Views
from tests.memory import MemoryDisk, Operation, at
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


def test_a_later_life_leaves_alone_what_stands_there() -> None:
    """Of three conversations one was held before: its transcript is not written again, its line is copied."""
    night = Night(TALK, TALK_SIM)
    assert night.live(Options(only=("letter/bo",))).exit == 0
    since = len(night.disk.operations)
    assert night.live().exit == 0
    assert LETTER not in written(night, since)
    assert len(written(night, since)) == 2
    assert copied(night, since) >= 2  # once to see where they stand
    assert_as_anew(night)


def test_a_transcript_that_cannot_be_written_costs_no_other_and_is_told_everywhere() -> None:
    """The exit code, the last line, the status and the index say the same; the next life writes what it can by then."""
    night = Night(TALK, TALK_SIM)

    def full(operation: Operation) -> None:
        if operation.name == "rename" and operation.path.name == "bo.md":
            raise OSError(errno.ENAMETOOLONG, "File name too long")

    life = night.live(fault=full, looked_on=True)
    assert life.exit == 8
    last = next(line for line in life.screen.splitlines() if "; exit " in line)
    assert last.endswith("exit 8: views") and "the views could not be written (File name too long)" in life.screen
    status = orjson.loads(night.disk.files[night.folder / STATUS])
    assert (status["state"], status["exit"], status["reasons"]) == ("closed", 8, ["views"])
    assert b"exit code 8" in night.disk.files[night.folder / INDEX]
    there = {path.name for path in night.disk.files if "conversations" in path.parts}
    assert there == {"ada.md", "ada~bo.md"}
    again = night.live(fault=full)
    assert again.exit == 8 and orjson.loads(night.disk.files[night.folder / STATUS])["exit"] == 8
    assert night.live().exit == 0
    assert orjson.loads(night.disk.files[night.folder / STATUS])["exit"] == 0
    assert_as_anew(night)


def test_all_files_but_the_one_that_cannot_be_written_are_written_anew() -> None:
    """The first that goes wrong keeps nobody after it from being written, and is told at the end."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    names = [str(night.reading().file(cell)) for cell in night.reading().plan.cells]

    def full(operation: Operation) -> None:
        if operation.name == "rename" and operation.path.name == Path(names[0]).name:
            raise OSError(errno.EIO, "Input/output error")

    disk = night.disk.survivor(full)
    for name in names:
        disk.remove(night.folder / name)
    with pytest.raises(OSError, match="Input/output error"):
        anyio.run(Views(read(night.folder, disk), FixedClock()).all, len(night.records()))
    assert [disk.exists(night.folder / name) for name in names] == [False, True, True]


def test_a_life_writes_each_transcript_once() -> None:
    """As its conversation ends, and not once more with all the rest."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    names = [op.path.name for op in night.disk.operations if op.name == "rename" and op.path.suffix == ".md"]
    assert sorted(names) == ["ada.md", "ada~bo.md", "bo.md", INDEX]


@pytest.mark.parametrize("how", ["gone", "older", "broken off"])
def test_what_may_not_be_trusted_is_written_again(how: str) -> None:
    """A transcript that is not there, views of another version, a life that never came to its end."""
    night = Night(TALK, TALK_SIM)
    assert night.live(Options(only=("letter/bo",))).exit == 0
    status = night.folder / STATUS
    if how == "gone":
        night.disk.remove(night.folder / LETTER)
    elif how == "older":
        night.disk.put(status, night.disk.files[status].replace(b'"turns":', b'"turned":'))
    else:
        night.disk.put(night.folder / LETTER, b"half of it")
        night.disk.put(status, orjson.dumps({**orjson.loads(night.disk.files[status]), "records": 1}))
    since = len(night.disk.operations)
    assert night.live().exit == 0
    assert LETTER in written(night, since)
    assert_as_anew(night)


def test_an_edited_job_shows_all_of_it_anew() -> None:
    """A label changes no conversation, and every page."""
    night = Night(TALK, TALK_SIM)
    assert night.live(Options(only=("letter/bo",))).exit == 0
    since = len(night.disk.operations)
    assert night.live(job=TALK.replace("name: talk", "name: talk\ntimezone: Asia/Tokyo")).exit == 0
    assert LETTER in written(night, since)
    assert_as_anew(night)


def test_what_changes_while_it_is_written_is_written_once_more() -> None:
    """A call is settled in the middle of the lines: the line that was written before is not taken for the new one."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    disk = night.left()
    reading = read(night.folder, disk)
    told = Views(reading, FixedClock())
    first = reading.plan.cells[0].id

    async def write() -> None:
        seen: list[bytes] = []
        right = Reading.line

        def line(self: Reading, cell: Cell, transcript: Transcript | None = None) -> bytes:
            if seen:  # after the first line, and before the last
                for followed in reading.state._followers:
                    followed.add(first)
            seen.append(right(self, cell, transcript))
            return seen[-1]

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Reading, "line", line)
            await told.night(1)
            assert len(seen) == 3
            await told.night(1)
        assert len(seen) == 4

    anyio.run(write)
    assert disk.read(night.folder / LINES) == night.disk.files[night.folder / LINES]


def test_lines_are_copied_in_pieces_and_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the pieces are, and wherever a line was made anew between two that were copied."""
    monkeypatch.setattr(views, "_PIECE_BYTES", 10)
    night = Night(TALK, TALK_SIM)
    assert night.live(Options(only=("letter/*",))).exit == 0
    assert night.live().exit == 0
    assert_as_anew(night)
    assert [line["name"] for line in night.lines()] == ["memory/ada~bo", "letter/ada", "letter/bo"]


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


def test_an_id_is_found_in_a_line_of_ours_alone() -> None:
    """What others have put into the file is copied for nobody."""
    night = Night(TALK, TALK_SIM)
    reading = night.reading() if night.live(Options(only=("letter/*",))).exit == 0 else None
    assert reading is not None
    cell = reading.plan.cells[-1]
    line = jsonl.line(replace(reading.transcript(cell)))
    assert jsonl.id_in(line) == cell.id
    assert [jsonl.id_in(other) for other in (b"", b"{}", line[1:], b'{"schema":2,"id":"x"')] == ["", "", "", ""]


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
