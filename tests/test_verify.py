"""`verify`: a run that is what its journal makes it passes, and one changed byte or figure does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from zlib import crc32

import orjson
import pytest

from runner.events import Closed, Event, Failed, Opened, Replied, Sent, Settled
from runner.journal import FILE, Journal, encode, repair, scan
from runner.ledger import Entry
from runner.ledger import encode as encode_entry
from runner.ledger import read as read_ledger
from runner.money import dollars
from runner.outputs import read
from runner.selection import Options
from runner.verify import Verified, verify
from runner.views import Views
from tests.memory import MemoryDisk, at
from tests.nights import ROOT, TALK, TALKERS, Night
from tests.virtual import FixedClock, Kill, kill, run_virtual

EDITED = (
    TALK.replace("What survives?", "What remains?")
    .replace("label: Bo", "label: Bob")
    .replace("output: 3}", "output: 4}")
)
SIM: dict[str, Any] = {"models": {"m": TALKERS, "n": {**TALKERS, "price": {"input": 2, "output": 5}}}}
FAULTS = [{"kind": "blank", "request": 1}, {"kind": "cut", "request": 2}, {"kind": "filtered", "request": 3}]
FAULTY: dict[str, Any] = {"models": {"m": {**TALKERS, "faults": FAULTS}, "n": SIM["models"]["n"]}}
OVERRUN: dict[str, Any] = {"models": {"m": {**TALKERS, "faults": [{"kind": "overrun", "times": 99}]}, "n": TALKERS}}


@pytest.fixture(scope="module")
def whole() -> dict[Path, bytes]:
    """The files of a small run that ended well."""
    night = Night(TALK, SIM)
    assert night.live().exit == 0
    return night.disk.files


def disk_of(files: dict[Path, bytes]) -> MemoryDisk:
    disk = MemoryDisk()
    for path, content in files.items():
        disk.put(path, content)
    return disk


FOLDER = Night(TALK, SIM).folder
JOURNAL = FOLDER / FILE
LEDGER = ROOT / "ledger.jsonl"


def found_in(files: dict[Path, bytes], **changed: Any) -> Verified:
    return verify(FOLDER, disk_of(files), **changed)


def test_a_run_that_ended_well_is_sound(whole: dict[Path, bytes]) -> None:
    """Every request is rebuilt, every view is the same, and nothing is left unchecked."""
    found = found_in(whole)
    assert found.problems == ()
    assert found.notes == ()
    assert found.rebuilt == sum(b'"kind":"sent"' in line for line in whole[JOURNAL].splitlines()) == 6
    assert found.not_rebuilt == {}
    assert found.views == 3 + 3
    assert found.records == len(whole[JOURNAL].splitlines())


def test_a_run_with_failed_attempts_is_sound() -> None:
    """Retries, dropped connections and refused replies are rebuilt and add up like everything else."""
    night = Night(TALK, FAULTY)
    assert night.live().exit == 0
    found = verify(night.folder, night.disk)
    assert found.problems == ()
    assert found.rebuilt == len(night.sents()) > 6


def test_three_lives_with_an_edited_job_are_sound() -> None:
    """Each request is rebuilt from the job of the life that sent it; replaced conversations still count."""
    night = Night(TALK, SIM)
    assert night.live(signals=[(0.05, 2)]).exit == 130
    assert night.live().exit == 0
    assert night.live(Options(accept_changes=True), job=EDITED).exit == 0
    assert night.reading().replaced().conversations == 1
    found = verify(night.folder, night.disk)
    assert (found.problems, found.notes, found.not_rebuilt) == ((), (), {})
    assert found.rebuilt == len(night.sents()) == 6 + 4


ROUTED = TALK.replace("sim: {}", "sim: {type: openrouter, base_url: sim}").replace(
    "output: 5}", "output: 5, tiers: [{above: 200, input: 3, output: 6}]}"
)
ROUTER: dict[str, Any] = {**SIM, "speaks": "openrouter"}
DEARER = ROUTED.replace("output: 3}", "output: 4}").replace("input: 2,", "input: 2.5,")


def test_a_request_that_tells_its_price_is_rebuilt_by_the_price_of_its_life() -> None:
    """Of two lives, the later at other prices: each request has those at which its money was reserved."""
    night = Night(ROUTED, ROUTER)
    assert night.live(signals=[(0.05, 2)]).exit == 130
    assert night.live(job=DEARER).exit == 0
    caps = {orjson.dumps(orjson.loads(one.body or b"")["provider"]) for one in night.engine.received}
    assert len(caps) == 4, "both models spoke at two prices: in two lives, or with a longer prompt"
    found = verify(night.folder, night.disk)
    assert (found.problems, found.notes, found.not_rebuilt) == ((), (), {})
    assert found.rebuilt == len(night.sents()) >= 6


def test_a_request_whose_price_was_lost_is_not_rebuilt_and_no_failure() -> None:
    """After a repair nobody knows at which prices the life went on."""
    night = Night(ROUTED, ROUTER)
    assert night.live().exit == 0
    lines = night.disk.files[night.folder / FILE].splitlines(keepends=True)
    lost = next(n for n, line in enumerate(lines) if b'"kind":"replied"' in line)
    lines[lost] = b"x" + lines[lost][1:]
    disk = disk_of({night.folder / FILE: b"".join(lines)})
    run_virtual(lambda: _repaired(disk, night.folder))
    found = verify(night.folder, disk)
    assert found.problems == ()
    assert found.not_rebuilt["its price was lost"] > 0


async def _repaired(disk: MemoryDisk, folder: Path) -> None:
    await repair(disk, FixedClock(), folder, "{}")


def test_a_transcript_as_an_earlier_job_had_it_is_not_what_the_run_came_to() -> None:
    """When the run has come to rest, its views are those of the job in force."""
    night = Night(TALK, SIM)
    assert night.live().exit == 0
    name = night.folder / "conversations/letter/bo.md"
    old = night.disk.files[name]
    assert night.live(Options(accept_changes=True), job=EDITED).exit == 0
    found = verify(night.folder, disk_of({**night.disk.files, name: old}))
    assert len(found.differences) == 1
    assert "bo.md" in found.differences[0]


# --- the journal -------------------------------------------------------------------------------------------------


@pytest.mark.fault(21)
def test_any_changed_byte_of_the_journal_is_found(whole: dict[Path, bytes]) -> None:
    """Wherever it stands, and whatever it becomes: another bit, a blank, a letter in the other case, a line's end."""
    journal, random = whole[JOURNAL], Random(5)
    places = random.sample(range(len(journal)), 60)
    places += [i for i, byte in enumerate(journal) if byte == 0x0A]
    checksum = journal.index(b'"crc":"') + 7
    places += range(checksum, checksum + 8)
    for place in places:
        old = journal[place]
        for new in {old ^ 1, old ^ 0x20, old ^ 0x80, 0x20, 0x0A, 0x30} - {old}:
            changed = bytearray(journal)
            changed[place] = new
            found = found_in({**whole, JOURNAL: bytes(changed)})
            assert found.damage, f"byte {place}: {old:#x} became {new:#x}"
            assert FILE in found.damage[0]


def test_a_journal_cut_anywhere_is_found(whole: dict[Path, bytes]) -> None:
    """Between two records, too: the index says how many there were."""
    journal = whole[JOURNAL]
    ends = [i + 1 for i, byte in enumerate(journal) if byte == 0x0A]
    for cut in (*[0, *ends][:-1], *(end - 1 for end in ends), *(end - 30 for end in ends)):
        found = found_in({**whole, JOURNAL: journal[:cut]})
        assert found.damage, f"cut at {cut}"


def test_a_lost_end_shows_in_a_transcript_too(whole: dict[Path, bytes]) -> None:
    """With no index to compare, a transcript is there although its conversation did not end."""
    files = {path: content for path, content in whole.items() if path.name != "index.md"}
    kept = files[JOURNAL].splitlines(keepends=True)
    first = next(i for i, line in enumerate(kept) if b'"kind":"stopped"' in line)
    found = found_in({**files, JOURNAL: b"".join(kept[:first])})
    assert not found.damage
    told = [text for text in found.differences if not text.startswith("ledger.jsonl: this run counts")]
    assert all("the journal does not say that it ended" in text for text in told)
    assert len(told) == 3 == len(found.differences) - 1


def test_a_torn_tail_is_a_failure_only_when_nobody_writes_it(whole: dict[Path, bytes]) -> None:
    """While a process holds the run its last line may be on its way; afterwards it tells of a crash."""
    files = {JOURNAL: whole[JOURNAL][:-40]}
    found = found_in(files)
    assert "torn off" in found.damage[0]
    assert found_in(files, running=True).ok


def test_a_damaged_line_is_a_failure_even_while_the_run_goes_on(whole: dict[Path, bytes]) -> None:
    """What is whole but wrong was not just being written."""
    journal = whole[JOURNAL].replace(b'"kind":"replied"', b'"kind":"replied" ', 1)
    assert "damaged" in found_in({JOURNAL: journal}, running=True).damage[0]


def test_a_later_format_is_said(whole: dict[Path, bytes]) -> None:
    """A journal of a later version is not called damaged."""
    line = encode(1, 0.0, Closed(1, 0)).replace(b'{"v":1', b'{"v":9')
    body = line[: line.rindex(b',"crc"')]
    found = found_in({JOURNAL: b'%b,"crc":"%08x"}\n' % (body, crc32(body))})
    assert "has format 9" in found.damage[0]


def test_an_empty_journal_is_sound_and_one_beside_views_is_not(whole: dict[Path, bytes]) -> None:
    """A run that was refused before it began has nothing to check."""
    found = found_in({JOURNAL: b""})
    assert found.ok
    assert "nothing was ever sent" in found.notes[0]
    views = {path: content for path, content in whole.items() if path.suffix == ".jsonl"}
    assert not found_in({**views, JOURNAL: b""}).ok
    assert not found_in({FOLDER / "index.md": b""}).ok


# --- what cannot be true, although every line is whole -----------------------------------------------------------


def rewritten(files: dict[Path, bytes], change: Callable[[Event], Event | None]) -> dict[Path, bytes]:
    """The files with a journal whose records are changed or left out, numbered and summed like true ones."""
    night = Night(TALK, SIM, disk=disk_of(files))
    events = [(record.at, change(record.event)) for record in night.records()]
    kept = [(at_, event) for at_, event in events if event is not None]
    lines = [encode(seq, at_, event, seq - 1) for seq, (at_, event) in enumerate(kept, 1)]
    return {JOURNAL: b"".join(lines)}


def only(kind: type[Any], change: Callable[[Any], Event | None]) -> Callable[[Event], Event | None]:
    """Change the first event of this kind; of a call, the first of a conversation that goes on after it."""
    seen: list[Event] = []

    def changed(event: Event) -> Event | None:
        if isinstance(event, kind) and not seen and getattr(event, "turn", 1) == 1:
            seen.append(event)
            return change(event)
        return event

    return changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (only(Sent, lambda e: replace(e, request="0" * 64)), "the request is not the one on record"),
        (only(Sent, lambda e: replace(e, max_tokens=e.max_tokens - 1)), "the request is not the one on record"),
        (only(Sent, lambda e: replace(e, dropped=("stream_options",))), "turn 1 attempt 1"),
        (only(Sent, lambda e: replace(e, reserved=e.reserved + 1)), "is reserved for a call that can cost"),
        (only(Replied, lambda e: replace(e, text=e.text + "!")), "the request is not the one on record"),
        (only(Replied, lambda e: replace(e, cost=e.cost - 1)), "charged"),
        (only(Replied, lambda e: replace(e, computed=e.computed + 1)), "by the price list it costs"),
        (only(Replied, lambda e: replace(e, turn=e.turn + 1)), "this cannot have happened"),
        (only(Replied, lambda e: None), "this cannot have happened"),
        (only(Sent, lambda e: None), "never sent"),
        (only(Sent, lambda e: replace(e, turn=2)), "turn 2"),
        (only(Opened, lambda e: None), "no record says what the job of the run is"),
        (only(Opened, lambda e: replace(e, life=2)), "life 2 opened after life 0"),
        (only(Opened, lambda e: replace(e, ceilings={"run": 1})), "past the ceiling of the run"),
        (only(Opened, lambda e: replace(e, ceilings={"conversation": 1})), "past the ceiling of one conversation"),
        (only(Opened, lambda e: replace(e, prices={})), "is reserved for a call that has no price"),
        (only(Opened, lambda e: replace(e, reopened=("nobody",))), "which nothing before it does"),
        (only(Opened, lambda e: replace(e, job={"name": "x"})), "cannot be planned"),
    ],
)
def test_a_record_that_cannot_be_true_is_found(
    whole: dict[Path, bytes], change: Callable[[Event], Event | None], said: str
) -> None:
    """Whole lines with sound checksums are not believed: they must follow from each other."""
    found = found_in(rewritten(whole, change))
    assert not found.ok
    assert said in "\n".join(found.problems), found.problems


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("models: {ada: 0.40}", "past the ceiling of model ada"),
        ("providers: {sim: 0.45}", "past the ceiling of provider sim"),
        ("budget: 0.30", "past the ceiling of pairing 1"),
    ],
)
def test_a_call_past_any_ceiling_of_the_job_is_found(whole: dict[Path, bytes], budget: str, said: str) -> None:
    """The narrower ceilings stand in the job that the journal has, and hold as well."""
    amount = budget.rpartition(" ")[2].rstrip("}")
    small = {"model": "model_budgets", "provider": "provider_budgets"}

    def lowered(event: Opened) -> Opened:
        job = orjson.loads(orjson.dumps(event.job))
        name = next((name for kind, name in small.items() if kind in said), None)
        if name is None:
            job["pairings"][0]["budget"] = 1_000_000
        else:
            job[name] = dict.fromkeys(job[name], 1_000_000)
        return replace(event, job=job)

    assert amount in TALK
    assert said in "\n".join(found_in(rewritten(whole, only(Opened, lowered))).differences)


@pytest.mark.fault(59)
def test_money_held_back_at_the_close_is_found(whole: dict[Path, bytes]) -> None:
    """A life that closed in order has settled every call."""
    last: list[Sent] = []

    def unsettled(event: Event) -> Event | None:
        if isinstance(event, Sent):
            last.append(event)
        return None if isinstance(event, Replied) and len(last) == 6 else event

    assert "still reserved" in "\n".join(found_in(rewritten(whole, unsettled)).differences)


def test_an_overrun_that_is_flagged_is_the_truth() -> None:
    """A server that ignores the limit is told of in the journal, and that is no fault of the journal."""
    night = Night(TALK.replace("run: 0.50", "run: 0.01"), OVERRUN)
    assert night.live().exit == 4
    assert any(isinstance(r.event, Replied | Failed) and r.event.overrun for r in night.records())
    assert verify(night.folder, night.disk).problems == ()


@pytest.mark.parametrize(("money", "cost"), [("free", 1), ("assumed", 0)])
def test_a_failed_attempt_is_charged_as_its_money_says(money: str, cost: int) -> None:
    """What was free costs nothing, and what may have been billed at least its reservation."""
    night = Night(TALK, FAULTY)
    assert night.live().exit == 0
    change = only(Failed, lambda e: replace(e, money=money, cost=cost))
    found = found_in(rewritten(night.disk.files, change))
    assert f"whose money is {money} is charged ${dollars(cost)}" in "\n".join(found.differences)


@pytest.mark.parametrize("revision", ["openai/0", "telegraph/3"])
def test_another_dialect_is_not_rebuilt_and_no_failure(whole: dict[Path, bytes], revision: str) -> None:
    """Only the revision that sent a request knows its bytes."""
    change = only(Sent, lambda e: replace(e, dialect=revision, request="0" * 64))
    found = found_in(rewritten(whole, change))
    assert found.ok
    assert found.not_rebuilt == {f"sent by {revision}": 1}
    assert found.rebuilt == 5


# --- views -------------------------------------------------------------------------------------------------------


VIEWS = [
    "index.md",
    "conversations.jsonl",
    "status.json",
    "conversations/memory/ada~bo.md",
    "conversations/letter/ada.md",
]


def test_views_of_another_version_are_not_held_against_this_one(
    whole: dict[Path, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It showed the same journal in its own way; requests and money are checked all the same."""
    monkeypatch.setattr("runner.verify.__version__", "9.9")
    found = found_in({**whole, FOLDER / "index.md": b"as it was then"})
    assert found.ok and found.rebuilt > 0 and found.views == 0
    assert any("this is 9.9" in note for note in found.notes)


@pytest.mark.fault(27)
@pytest.mark.parametrize("view", VIEWS)
def test_one_changed_figure_of_a_view_is_found(whole: dict[Path, bytes], view: str) -> None:
    """Each digit of each view counts, but for the heartbeat; file, line and both versions are told."""
    content, random = whole[FOLDER / view], Random(2)
    end = content.find(b'"heartbeat"') if view == "status.json" else len(content)
    digits = [i for i, byte in enumerate(content[:end]) if 0x30 <= byte <= 0x39]
    for place in random.sample(digits, min(20, len(digits))):
        changed = bytearray(content)
        changed[place] = 0x30 + (content[place] - 0x30 + 1) % 10
        found = found_in({**whole, FOLDER / view: bytes(changed)})
        line = content[:place].count(b"\n") + 1
        assert len(found.problems) == 1 or b"Computed from" in content.splitlines()[line - 1]
        where = FILE if found.damage else f"{view}:{line}: not what the journal makes it\n  there: "
        assert found.problems[0].startswith(where), (place, found.problems)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("how", ["a line more", "a line less", "no end", "nothing", "not UTF-8"])
def test_a_view_that_is_longer_or_shorter_is_found(whole: dict[Path, bytes], view: str, how: str) -> None:
    """What is missing or added at its end is told like any other line."""
    content = whole[FOLDER / view]
    forms = {
        "a line more": content + b"{}\n",
        "a line less": content[: content[:-1].rfind(b"\n") + 1],
        "no end": content[:-1],
        "nothing": b"",
        "not UTF-8": b"\xff\x1b[2J" + content,
    }
    found = found_in({**whole, FOLDER / view: forms[how]})
    assert found.differences[0].startswith(f"{view}:")
    assert "\x1b" not in found.differences[0]
    assert found.views == 5


def test_the_heartbeat_and_the_lanes_may_differ(whole: dict[Path, bytes]) -> None:
    """They say how things stood when the file was written, and no journal can tell."""
    status = orjson.loads(whole[FOLDER / "status.json"])
    status["heartbeat"] += 5
    status["lanes"] = [{"name": "sim"}]
    written = orjson.dumps(status, option=orjson.OPT_INDENT_2) + b"\n"
    assert found_in({**whole, FOLDER / "status.json": written}).ok


@pytest.mark.parametrize("name", ["conversations/memory/nobody.md", "conversations/stray.md"])
def test_a_transcript_of_nobody_is_told(whole: dict[Path, bytes], name: str) -> None:
    """What lies among the transcripts and belongs to no conversation would pass for one."""
    found = found_in({**whole, FOLDER / name: b"# hello\n"})
    assert found.differences == (f"{name}: should not be there, no conversation of this run is called so",)


def test_views_that_are_not_there_are_noted(whole: dict[Path, bytes]) -> None:
    """A deleted view shows nothing wrong; it can be written anew."""
    files = {JOURNAL: whole[JOURNAL], LEDGER: whole[LEDGER]}
    found = found_in(files)
    assert found.ok
    assert found.views == 0
    assert [note.partition(";")[0] for note in found.notes] == [
        "not there: 3 transcripts",
        "not there: conversations.jsonl, index.md, status.json",
    ]


def test_of_many_problems_some_are_shown_and_the_rest_counted(whole: dict[Path, bytes]) -> None:
    """A thousand stray files do not bury the first."""
    stray = {FOLDER / f"conversations/x/{n}.md": b"" for n in range(50)}
    found = found_in({**whole, **stray})
    assert len(found.differences) == 21
    assert found.differences[-1] == "... and 30 more of this kind"


# --- a run that has not come to rest -----------------------------------------------------------------------------


def test_of_a_run_that_broke_off_the_ended_conversations_are_checked() -> None:
    """A kill leaves the index behind; the transcripts that were written are whole, and are checked."""
    night = Night(TALK, SIM)
    assert night.live(Options(only=("letter/*",))).exit == 0
    whole = 0
    for more in range(29, 50, 3):
        left = Night(TALK, SIM, disk=disk_of(night.disk.files), wall=night.wall)
        assert left.live(fault=at(len(left.disk.operations) + more, Kill("here"))).exit is None
        found = verify(left.folder, disk_of(left.disk.files))
        if any("torn off" in text for text in found.damage):
            continue
        whole += 1
        assert found.problems == ()
        assert found.views >= 2
        assert "the run was broken off" in "\n".join(found.notes)
        changed = {p: c.replace(b"Dear", b"Bear") if p.suffix == ".md" else c for p, c in left.disk.files.items()}
        assert len(verify(left.folder, disk_of(changed)).differences) >= 2
    assert whole >= 2


def test_transcripts_of_an_earlier_job_pass_until_the_run_comes_to_rest() -> None:
    """A life with an edited job that is killed at once leaves the files as the life before wrote them."""
    night = Night(TALK, SIM)
    assert night.live().exit == 0
    night.live(Options(accept_changes=True), job=EDITED, before=_die)
    assert night.reading().state.is_open
    found = verify(night.folder, disk_of(night.disk.files))
    assert found.problems == ()
    assert found.views == 3
    assert night.reading().markdown(night.reading().plan.cells[2]).encode() not in night.disk.files.values()


def test_a_transcript_that_a_later_life_goes_on_with_is_not_checked() -> None:
    """It shows how the conversation stood when an earlier life broke it off."""
    night = Night(TALK, SIM)
    assert night.live(signals=[(0.05, 2)]).exit == 130
    night.live(before=_die)
    found = verify(night.folder, disk_of(night.disk.files))
    assert found.problems == ()
    assert any("1 transcript of conversations that are not at their end" in note for note in found.notes)


def _die(request: object) -> None:
    kill("before the first request")


def test_while_a_process_is_at_work_its_pages_are_left_alone(whole: dict[Path, bytes]) -> None:
    """They change under the reader's eyes."""
    found = found_in({**whole, FOLDER / "index.md": b"half a page"}, running=True)
    assert found.ok
    assert found.views == 3
    assert "another process is at work on the run" in found.notes[0]


def test_whatever_is_lost_a_repaired_run_verifies_and_goes_on() -> None:
    """One record or two in a row, anywhere in three lives: never less counts than before, and all adds up."""
    night = Night(TALK, SIM)
    assert night.live(signals=[(0.05, 2)]).exit == 130
    assert night.live().exit == 0
    assert night.live(Options(accept_changes=True), job=EDITED).exit == 0
    files, spent = night.disk.files, night.counted
    files = {path: content for path, content in files.items() if path.name != "spare"}
    lines = files[JOURNAL].splitlines(keepends=True)
    for start in range(len(lines) - 3):
        for width in (1, 2):
            lost = [b"?" + line for line in lines[start : start + width]]
            disk = disk_of({**files, JOURNAL: b"".join((*lines[:start], *lost, *lines[start + width :]))})
            assert not verify(FOLDER, disk).ok
            run_virtual(_mended, disk)
            assert read(FOLDER, disk).state.run.held >= spent, (start, width)
            found = verify(FOLDER, disk)
            assert found.problems == (), (start, width)
            if start % 8 == width:
                more = Night(EDITED, SIM, disk=disk, wall=night.wall)
                assert more.live(Options(accept_changes=True)).exit == 0
                assert verify(FOLDER, more.disk).problems == (), (start, width)


async def _mended(disk: MemoryDisk) -> None:
    """Repair the journal and write the views anew, as the two commands do."""
    assert await repair(disk, FixedClock(), FOLDER, "me") is not None
    await Views(read(FOLDER, disk), FixedClock()).all(scan(disk, JOURNAL).last)


# --- the ledger of all runs --------------------------------------------------------------------------------------


def with_entries(files: dict[Path, bytes], change: Callable[[Entry], Entry | None]) -> dict[Path, bytes]:
    """The files with each line of the ledger put through a change; None takes it out."""
    entries = [change(entry) for entry in read_ledger(disk_of(files), LEDGER).entries]
    kept = [replace(entry, seq=seq) for seq, entry in enumerate((e for e in entries if e is not None), 1)]
    return {**files, LEDGER: b"".join(map(encode_entry, kept))}


def test_a_day_that_counts_other_than_the_journal_is_found(whole: dict[Path, bytes]) -> None:
    """Too little always; too much when nothing is drawn ahead any more."""
    for by in (-1, 1):
        wrong = with_entries(whole, lambda e: replace(e, amount=e.amount + by) if e.kind == "counted" else e)  # noqa: B023
        assert any("this run counts" in text and "2026-11-21" in text for text in found_in(wrong).differences)
    assert "counts $0 on 2026-11-21" in found_in(with_entries(whole, lambda entry: None)).differences[0]
    drawn = with_entries(whole, lambda e: e if e.kind == "drawn" else None)
    assert found_in(drawn).ok, "a slice counts in full until it is folded"


def test_a_slice_that_passes_its_ceiling_is_found(whole: dict[Path, bytes]) -> None:
    """Whoever drew it, on the day or in the month."""
    for scope in ("day", "month"):
        past = with_entries(whole, lambda e: replace(e, caps={scope: e.amount - 1}) if e.kind == "drawn" else e)  # noqa: B023
        assert "is drawn for 2026-11" in found_in(past).differences[0]
        kept = with_entries(whole, lambda e: replace(e, caps={scope: e.amount}) if e.kind == "drawn" else e)  # noqa: B023
        assert found_in(kept).ok


def test_a_damaged_ledger_is_found_and_a_missing_one_is_noted(whole: dict[Path, bytes]) -> None:
    """A byte before its last line is damage; without the file the days cannot be checked."""
    ledger = whole[LEDGER]
    assert "damaged at byte" in found_in({**whole, LEDGER: b"?" + ledger[1:]}).damage[0]
    found = found_in({path: content for path, content in whole.items() if path != LEDGER})
    assert found.ok and found.notes == ("there is no ledger.jsonl, so what the days count was not checked",)


def test_a_call_that_was_settled_later_shows_its_true_cost_everywhere() -> None:
    """Figures, transcript and sums follow the evidence, and verify; less than nothing is found."""
    night = Night(TALK, {"models": {"m": {**TALKERS, "faults": [{"kind": "usage", "form": "missing"}]}, "n": TALKERS}})
    assert night.live().exit == 0
    before = night.counted
    assert night.reading().state.run.assumed > 0
    run_virtual(_settled, night.disk.survivor(), 1_000)
    cells = night.reading().plan.cells
    assert night.reading().state.run.assumed == 0 and night.counted < before
    shown = [turn for cell in cells for turn in night.reading().transcript(cell).turns if turn.cost == 1_000]
    assert shown and {turn.cost_source for turn in shown} == {"reported"}
    assert not [text for text in verify(FOLDER, night.left()).differences if not text.startswith("ledger.jsonl")]
    files = dict(night.left().files)
    minus = rewritten(files, lambda e: replace(e, cost=-1) if isinstance(e, Settled) else e)
    assert any("a call is settled at $-0.000000001" in text for text in found_in(minus).differences)


async def _settled(disk: MemoryDisk, cost: int) -> None:
    """Settle whatever is assumed, and write the views anew."""
    journal = await Journal.open(disk, FixedClock(), FOLDER, "me")
    async with journal.writing():
        for call in list(journal.state.unsettled):
            journal.record(Settled(*call, cost, "the provider's bill"))
        await journal.flushed()
    journal.close()
    await Views(read(FOLDER, disk), FixedClock()).all(scan(disk, JOURNAL).last)
