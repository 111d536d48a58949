"""The files of a run: functions of its journal, the same whoever computes them, and adding up."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from runner import outputs
from runner.events import Replied, Sent
from runner.journal import FILE
from runner.money import dollars
from runner.outputs import INDEX, LINES, STATUS, Reading, read
from runner.selection import Options
from runner.talk import rounds_done
from runner.views import Views
from tests.memory import MemoryDisk
from tests.nights import TALK, TALK_SIM, TALKERS, Night
from tests.virtual import FixedClock

REFUSES: dict[str, Any] = {"models": {"m": TALKERS, "n": {**TALKERS, "faults": [{"kind": "refusal"}]}}}
STRICT = TALK.replace("max_tokens: 500", "max_tokens: 500, outcomes: {refused: {retry: 1, then: fail}}")


@pytest.fixture(scope="module")
def ended() -> Night:
    """A small run that ended well."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    return night


def views_of(files: dict[Path, bytes]) -> dict[str, bytes]:
    """The views among some files, by name, with the status freed of its heartbeat."""
    found = {path.name: content for path, content in files.items() if path.suffix in (".md", ".jsonl", ".json")}
    del found[FILE]
    found.pop("ledger.jsonl", None)
    found[STATUS] = found[STATUS][: found[STATUS].index(b'"heartbeat"')]
    return found


def written_anew(files: dict[Path, bytes], folder: Path) -> dict[Path, bytes]:
    """What a process that has only these files makes of them."""
    disk = MemoryDisk()
    for path, content in files.items():
        disk.put(path, content)
    reading = read(folder, disk)
    records = len(files[folder / FILE].splitlines())
    anyio.run(Views(reading, FixedClock()).all, records)
    return disk.files


def test_another_process_writes_the_same_bytes(ended: Night) -> None:
    """From the journal alone come the very files that the run wrote."""
    journal = ended.folder / FILE
    anew = written_anew({journal: ended.disk.files[journal]}, ended.folder)
    assert views_of(anew) == views_of(ended.disk.files)
    assert len(views_of(anew)) == 3 + 3


@pytest.mark.fault(27)
def test_views_that_were_edited_or_deleted_come_back(ended: Night) -> None:
    """No view is a source of anything."""
    files = dict(ended.disk.files)
    files[ended.folder / INDEX] = b"edited"
    files[ended.folder / "conversations/memory/ada~bo.md"] = b""
    del files[ended.folder / LINES]
    assert views_of(written_anew(files, ended.folder)) == views_of(ended.disk.files)


@pytest.mark.parametrize(("size", "pieces"), [(0, 3), (3_000, 2), (1 << 20, 1)])
def test_conversations_read_together_are_what_each_of_them_is(
    ended: Night, size: int, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are at a time, and however few stretches of the journal were read for them."""
    monkeypatch.setattr(outputs, "_TOGETHER_BYTES", size)
    reading = read(ended.folder, ended.left())
    cells = reading.plan.cells
    each = [reading.transcript(cell) for cell in cells]
    for some in (cells, cells[::-1], cells[1:2], ()):
        assert list(reading.transcripts(some)) == [each[cells.index(cell)] for cell in some]
    disk = ended.left()
    since, reading = len(disk.operations), read(ended.folder, disk)
    list(reading.transcripts(cells))
    reads = sum(one.name == "read" and one.path.name == FILE for one in disk.operations[since:])
    assert reads == 1 + pieces  # one is the scan


def test_what_belongs_to_no_conversation_goes(ended: Night) -> None:
    """A transcript under a name that the job in force does not have is removed with the rest."""
    stray = ended.folder / "conversations/memory/old.md"
    assert stray not in written_anew({**ended.disk.files, stray: b"x"}, ended.folder)


def test_statuses_turns_and_money_add_up(ended: Night) -> None:
    """Index, lines and status tell the same, and the sums are those of the journal."""
    status, lines = ended.status(), ended.lines()
    counts = dict(status["conversations"])
    assert counts.pop("total") == sum(counts.values()) == len(lines) == 3
    replies = [record.event for record in ended.records() if isinstance(record.event, Replied)]
    generated = [turn for line in lines for turn in line["turns"] if turn["finish"] is not None]
    assert status["turns"] == len(replies) == len(generated) == 6
    assert {turn["text"] for turn in generated} == {reply.text for reply in replies}
    total = dollars(sum(reply.cost for reply in replies))
    assert Decimal(str(status["spent"]["total"])) == Decimal(total)
    assert f"| **Total** | ${total} |" in ended.text(INDEX)
    assert status["calls"] == sum(isinstance(record.event, Sent) for record in ended.records())


def test_each_ceiling_is_shown_with_what_it_holds(ended: Night) -> None:
    """Run, provider, model and pairing, each with its own sum."""
    held = {ceiling["name"]: ceiling["held"] for ceiling in ended.status()["ceilings"]}
    assert set(held) == {"run", "provider sim", "model ada", "pairing 1"}
    assert held["run"] == held["provider sim"] == ended.status()["spent"]["total"]
    assert 0 < held["model ada"] < held["run"]
    memory = next(line for line in ended.lines() if line["prompt"] == "memory")
    assert held["pairing 1"] == memory["totals"]["cost"]


def test_the_lines_stand_in_plan_order_and_none_is_missing() -> None:
    """A conversation that was never begun has its line, too."""
    night = Night(TALK, TALK_SIM)
    assert night.live(Options(only=("letter/bo",))).exit == 0
    assert [line["name"] for line in night.lines()] == ["memory/ada~bo", "letter/ada", "letter/bo"]
    assert [line["status"] for line in night.lines()] == ["pending", "pending", "complete"]
    transcripts = [path.name for path in night.disk.files if path.suffix == ".md" and path.name != INDEX]
    assert transcripts == ["bo.md"]


def test_what_was_replaced_counts_and_is_not_listed() -> None:
    """Money once spent stays spent when its conversation has changed."""
    night = Night(TALK, TALK_SIM)
    assert night.live().exit == 0
    before = night.counted
    assert night.live(Options(accept_changes=True), job=TALK.replace("survives", "remains")).exit == 0
    status = night.status()
    assert status["replaced"]["conversations"] == 1
    assert status["conversations"]["total"] == 3
    own = sum(line["totals"]["cost"] for line in night.lines())
    assert own + status["replaced"]["cost"] == pytest.approx(status["spent"]["total"])
    assert night.counted > before
    assert "Replaced: 1" in night.text(INDEX)


def test_a_broken_off_conversation_shows_what_it_has() -> None:
    """A run that is stopped tells how far each conversation came, and goes on with one command."""
    night = Night(TALK, TALK_SIM)
    assert night.live(signals=[(0.05, 2)]).exit == 130
    memory = night.lines()[0]
    assert memory["status"] == "interrupted"
    assert 0 <= memory["rounds"]["done"] < memory["rounds"]["planned"] == 2
    assert night.status()["continue"] == "tertulia run job.yaml"
    assert "tertulia run job.yaml" in night.text(INDEX)
    assert "Interrupted" in night.text("conversations/memory/ada~bo.md").title()


def test_a_failed_turn_tells_its_error_and_how_to_take_it_up() -> None:
    """The last failure stands at the open turn, and `--retry-failed` is named where nothing else is left."""
    night = Night(STRICT, REFUSES)
    assert night.live().exit == 3
    failed = next(line for line in night.lines() if line["name"] == "letter/bo")
    assert failed["status"] == "failed"
    assert failed["error"]["kind"] == "refused"
    turn = failed["turns"][-1]
    assert (turn["text"], turn["outcome"], turn["attempts"]) == (None, "failed", 2)
    assert night.status()["continue"] == "tertulia run job.yaml --retry-failed"


@pytest.mark.parametrize(("options", "command"), [(Options(key="b"), " --run b"), (Options(), "")])
def test_the_command_that_goes_on_names_the_run(options: Options, command: str) -> None:
    """With another key than the usual one, the key is part of it; of a complete run nothing goes on."""
    night = Night(TALK, TALK_SIM)
    night.live(options, signals=[(0.05, 2)])
    folder = night.folder.with_name(options.key or "main")
    assert read(folder, night.disk).command() == f"tertulia run job.yaml{command}"
    night.live(options)
    assert read(folder, night.disk).command() is None


def test_a_replay_goes_on_as_a_replay() -> None:
    """Played answers have a folder of their own, beside the recording: the command names the recording."""
    night = Night(TALK, TALK_SIM)
    night.live(Options(replay="my rec"), signals=[(0.05, 2)])
    assert night.reading().command() == "tertulia run job.yaml --replay 'my rec'"
    assert night.status()["continue"] == "tertulia run job.yaml --replay 'my rec'"


def test_a_journal_without_a_job_is_no_run() -> None:
    """There is nothing to plan, and the message says where."""
    disk = MemoryDisk()
    disk.put(Path("/x/journal.jsonl"), b"")
    with pytest.raises(ValueError, match=r"/x/journal\.jsonl does not say"):
        read(Path("/x"), disk)


def test_rounds_are_done_when_everybody_has_spoken(ended: Night) -> None:
    """Half a round is none."""
    reading: Reading = ended.reading()
    conversation = reading.plan.conversation(reading.plan.cells[0])
    assert [rounds_done(conversation, spoken) for spoken in range(5)] == [0, 0, 1, 1, 2]


def test_the_status_is_valid_json_of_the_first_schema(ended: Night) -> None:
    """What programs rely on: names, and figures that are plain dollars."""
    status = orjson.loads(ended.disk.files[ended.folder / STATUS])
    assert status["schema"] == 1
    assert (status["state"], status["exit"], status["lanes"], status["in_flight"]) == ("closed", 0, [], 0)
    assert status["records"] == len(ended.records())
    assert set(status["spent"]) == {"settled", "assumed", "reserved", "total"}
