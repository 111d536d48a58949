"""Nights that are broken off, edited and taken up again: what was settled stays, and only what is missing is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from signal import SIGINT, SIGTERM
from typing import Any

import pytest

from runner.events import Failed, Opened, Replied, Sent
from runner.journal import Record
from runner.money import dollars
from runner.selection import Options
from runner.verify import verify
from tests.nights import ROOT, START, Ledger, Night, matrix, provider

MODELS = ("m0", "m1", "m2")
SLOW = {"first": 4, "per_token": 0.02, "spread": 0.2}


def small(**changes: Any) -> dict[str, Any]:
    return matrix(MODELS, repeat=2, **changes)


def statuses(night: Night) -> Counter[str]:
    return Counter(line["status"] for line in night.lines())


def lives(night: Night) -> list[list[Record]]:
    """The records of each life."""
    found: list[list[Record]] = []
    for record in night.records():
        if isinstance(record.event, Opened):
            found.append([])
        found[-1].append(record)
    return found


def asked(records: list[Record]) -> list[Sent]:
    return [record.event for record in records if isinstance(record.event, Sent)]


def names_asked(night: Night, life: int = -1) -> set[str]:
    """The conversations that a life made calls for."""
    names = {cell.id: cell.name for cell in night.reading().plan.cells}
    return {names[sent.cell] for sent in asked(lives(night)[life])}


def finishes(night: Night) -> None:
    """The next run, without a flag, completes everything and asks no settled turn again."""
    life = night.live()
    assert life.exit == 0, life.told
    assert set(statuses(night)) == {"complete"}
    assert Ledger.of(night.records()).asked_again == []
    assert night.billed <= night.counted
    assert verify(night.folder, night.disk).problems == ()


# --- told to stop ----------------------------------------------------------------------------------------------------


@pytest.mark.fault(2)
@pytest.mark.parametrize(("signal", "code"), [(SIGINT, 130), (SIGTERM, 143)])
def test_the_first_request_to_stop_drains_and_nothing_is_lost(signal: int, code: int) -> None:
    """Calls in flight land and are kept, nobody is asked any more, and the person is told what is waited for."""
    night = Night(small(), provider(latency=SLOW))
    life = night.live(signals=[(30.0, signal)], looked_on=True)
    assert life.exit == code
    ledger = Ledger.of(night.records())
    assert not ledger.failures and ledger.flying == 0
    assert night.engine.bill.accepted == len(ledger.answered)
    assert night.billed == night.counted
    assert max(s.at for s in night.records() if isinstance(s.event, Sent)) <= START + 30.0
    assert 30.0 < life.seconds < 40.0
    assert set(statuses(night)) <= {"interrupted", "pending", "complete"} and statuses(night)["interrupted"] > 0
    assert " calls in flight, $" in life.screen and "Ctrl-C again to leave them" in life.screen
    assert night.status()["reasons"] == ["interrupted"]
    assert "what is missing goes on with: tertulia run job.yaml" in life.screen
    finishes(night)


@pytest.mark.fault(3, 31)
def test_the_second_request_to_stop_leaves_at_once_and_the_calls_in_flight_stay_charged() -> None:
    """Each call in flight is lost at its reservation, its conversation interrupted; the run goes on from there."""
    night = Night(small(), provider(latency=SLOW))
    life = night.live(signals=[(20.0, SIGINT), (20.3, SIGINT)])
    assert life.exit == 130
    assert life.seconds < 20.6
    reserved = {(s.cell, s.turn, s.attempt): s.reserved for s in night.sents()}
    lost = [r.event for r in night.records() if isinstance(r.event, Failed)]
    assert len(lost) == 12 == statuses(night)["interrupted"]
    assert {failed.failure for failed in lost} == {"lost"}
    assert all(failed.cost == reserved[failed.cell, failed.turn, failed.attempt] for failed in lost)
    assert night.billed <= night.counted
    finishes(night)


@pytest.mark.fault(3)
@pytest.mark.parametrize("at", ["while calls fly", "while views are written"])
def test_whoever_asks_for_the_end_twice_waits_for_no_more_views_than_can_be_written_meanwhile(at: str) -> None:
    """On a disk that takes two seconds for each: the status says so, none is wrong, and the next run writes them."""
    night = Night(small(), provider(latency=SLOW))
    assert night.live(signals=[(20.0, SIGINT)]).exit == 130
    night.disk.sync_seconds = (2.0, 2.0)
    signals = [(20.0, SIGINT), (20.5 if at == "while calls fly" else 30.0, SIGINT)]
    life = night.live(signals=signals, looked_on=True)
    assert life.exit == 130
    assert 8.0 <= life.seconds - signals[1][0] <= 13.0
    assert ("lost" in Ledger.of(night.records()).failures) == (at == "while calls fly")
    assert "job/main: left before all its views were written; its next run writes them" in life.screen
    assert "look at" not in life.screen
    assert night.status()["reasons"] == ["interrupted", "views"]
    names = {path.name for path in night.disk.files}
    assert not {"index.md", "conversations.jsonl"} & names and not [name for name in names if name.endswith(".tmp")]
    found = verify(night.folder, night.left())
    assert found.problems == () and any("some views were not written" in note for note in found.notes)
    night.disk.sync_seconds = (0.0, 0.0)
    finishes(night)


@pytest.mark.fault(5)
def test_after_sigterm_calls_in_flight_get_their_grace_and_no_more() -> None:
    """At the end of the grace what still flies is left, lost and charged; the exit code stays that of the signal."""
    night = Night(small(), provider(latency=SLOW))
    life = night.live(Options(grace=1.0), signals=[(30.0, SIGTERM)])
    assert life.exit == 143
    assert 31.0 <= life.seconds < 31.5
    assert Ledger.of(night.records()).failures["lost"] > 0
    finishes(night)


def test_the_time_of_a_run_ends_it_with_exit_5_and_what_flew_is_kept() -> None:
    """After `--max-time` no call begins, calls in flight land, and the rest is `deadline` until the next run."""
    night = Night(small(), provider(latency=SLOW))
    life = night.live(Options(max_time=10.0))
    assert life.exit == 5
    assert not Ledger.of(night.records()).failures
    assert statuses(night)["deadline"] == 12
    assert night.status()["reasons"] == ["deadline"]
    assert "deadline" in night.text("conversations/talk/m0~m1.md")
    finishes(night)


def test_those_whom_only_a_second_model_is_left_to_answer_do_not_wait_for_the_first_one() -> None:
    """Of that nothing is heard while they go on, and each of them seemed to be the one that tries it out."""
    job = matrix(("m0", "m1"), rounds=1, limits={"concurrency": 16})
    job["pairings"] = [{"prompt": "talk", "a": "m0", "b": "m1", "repeat": 16}]
    night = Night(job, provider(("m0", "m1"), latency={"first": 10.0}))
    assert night.live(signals=[(35.0, SIGINT), (35.1, SIGINT)]).exit == 130
    assert Counter(turn for _, turn in night.replies())[1] == 16 > Counter(turn for _, turn in night.replies())[2]
    life = night.live()
    assert life.exit == 0
    assert life.seconds < 25.0


def test_a_night_that_is_stopped_again_and_again_says_in_the_end_what_it_would_have_said_at_once() -> None:
    """Eight lives cut short in every manner come to the same texts as one that nobody disturbed."""
    whole, cut = Night(small(), provider()), Night(small(), provider(rate=0.05), seed=3)
    assert whole.live().exit == 0
    for n in range(8):
        cut.live(signals=[(1.7, SIGTERM), *([(1.9, SIGTERM)] if n % 2 else [])])
    finishes(cut)
    texts = [{line["name"]: [turn["text"] for turn in line["turns"]] for line in n.lines()} for n in (whole, cut)]
    assert texts[0] == texts[1]


# --- an edited job ---------------------------------------------------------------------------------------------------


GIFT = {"opening": "Choose a gift for the other.", "rounds": 2}


def two_prompts(gift: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    job = matrix(("m0", "m1"), **changes)
    pairing = {"a": list(job["models"]), "b": list(job["models"]), "match": "distinct"}
    return {**job, "prompts": {**job["prompts"], "gift": dict(gift)}, "pairings": [pairing]}


@pytest.mark.fault(28)
def test_a_changed_prompt_is_bought_again_only_when_that_is_accepted_and_the_old_money_counts() -> None:
    """Exit 2 names what would be bought again; accepted, only those cells are held, and the old ones are `replaced`."""
    night = Night(two_prompts(GIFT), provider())
    assert night.live().exit == 0
    before = {line["name"]: line for line in night.lines()}
    old = sum(line["totals"]["spent"] for name, line in before.items() if name.startswith("gift/"))

    night.job = two_prompts({**GIFT, "opening": "Choose a better gift for the other."})
    refused = night.live()
    assert refused.exit == 2
    assert [line.strip() for line in refused.told if "gift/" in line] == ["gift/m0~m1", "gift/m1~m0"]
    assert "--accept-changes" in refused.told[-1]
    assert len(lives(night)) == 1

    accepted = night.live(Options(accept_changes=True), looked_on=True)
    assert accepted.exit == 0
    assert names_asked(night) == {"gift/m0~m1", "gift/m1~m0"}
    assert len(asked(lives(night)[-1])) == 8
    after = {line["name"]: line for line in night.lines()}
    assert after.keys() == before.keys()
    assert after["talk/m0~m1"] == before["talk/m0~m1"]
    assert after["gift/m0~m1"]["id"] != before["gift/m0~m1"]["id"]
    shown = f"${dollars(round(old * 1e9))}"
    assert night.status()["replaced"] == {"conversations": 2, "cost": pytest.approx(old)}
    assert f"Replaced: 2, {shown}." in night.text("index.md")
    assert f"replaced: 2, {shown}" in accepted.screen
    assert round(night.status()["spent"]["total"] * 1e9) == night.billed == night.counted
    assert "better gift" in night.text("conversations/gift/m0~m1.md")
    assert night.live().told == ["job/main: nothing to do, complete since 2026-11-21, 0 calls"]


@pytest.mark.fault(28)
def test_an_added_model_adds_only_its_own_conversations() -> None:
    """Every new call is for a conversation with the new model; nothing else changes, and no flag is needed."""
    night = Night(matrix(("m0", "m1")), provider())
    assert night.live().exit == 0
    before = {line["name"]: line for line in night.lines()}
    night.job = matrix(MODELS)
    assert night.live().exit == 0
    assert names_asked(night) == {"talk/m0~m2", "talk/m2~m0", "talk/m1~m2", "talk/m2~m1"}
    after = {line["name"]: line for line in night.lines()}
    assert {name: after[name] for name in before} == before
    assert night.status()["replaced"]["conversations"] == 0


def test_a_renamed_label_buys_nothing_and_is_seen_everywhere() -> None:
    """A new label makes no call and replaces nothing; transcripts and lines show it at once."""
    job = matrix(("m0", "m1"))
    night = Night(job, provider())
    assert night.live().exit == 0
    calls = len(night.sents())
    night.job = {**job, "models": {**job["models"], "m0": {**job["models"]["m0"], "label": "The First Voice"}}}
    assert night.live().exit == 0
    assert len(night.sents()) == calls
    assert "The First Voice" in night.text("conversations/talk/m0~m1.md")
    assert {turn["speaker"] for line in night.lines() for turn in line["turns"]} == {"The First Voice", "m1"}
    assert night.status()["replaced"]["conversations"] == 0


# --- what a run takes up ---------------------------------------------------------------------------------------------


def test_failed_conversations_go_on_from_their_last_good_turn_when_asked_for() -> None:
    """`--retry-failed` asks for the turn that failed and those after it, and for nothing that is there already."""
    silence = {"kind": "thinking_only", "model": "m1", "request": [3, 4, 5, 6, 7, 8]}
    job = matrix(("m0", "m1"), defaults={"max_tokens": 400})
    night = Night(job, provider(script=[silence]))
    assert night.live().exit == 3
    assert statuses(night) == {"failed": 2}
    there = {(r.event.cell, r.event.turn) for r in night.records() if isinstance(r.event, Replied)}
    assert there and len(there) < 16
    night.change(provider())
    without = night.live()
    assert without.exit == 3 and len(lives(night)) == 1
    assert "--retry-failed" in "\n".join(without.told)
    assert night.live(Options(retry_failed=True)).exit == 0
    again = [(sent.cell, sent.turn) for sent in asked(lives(night)[-1])]
    assert len(again) == 16 - len(there) and not there & set(again)
    assert statuses(night) == {"complete": 2}


def test_only_holds_what_it_names_and_the_next_run_holds_the_rest() -> None:
    """A pattern chooses by name; the run is not complete with it, and a plain run completes it."""
    night = Night(small(), provider())
    assert night.live(Options(only=("talk/m0~*",))).exit == 0
    names = {"talk/m0~m1", "talk/m0~m2", "talk/m0~m1.r2", "talk/m0~m2.r2"}
    assert names_asked(night) == names
    assert statuses(night) == {"complete": 4, "pending": 8}
    assert night.status()["continue"] is not None
    finishes(night)
    assert not names_asked(night) & names
    nobody = night.live(Options(only=("nobody/*",)))
    assert nobody.exit == 2 and "names no conversation" in nobody.told[0]


def test_limit_holds_so_many_conversations_and_each_next_run_as_many_more() -> None:
    """With `--limit 5` three runs hold five, five and two; none is held twice."""
    night = Night(small(), provider())
    held = []
    for _ in range(3):
        assert night.live(Options(limit=5)).exit == 0
        held.append(len(names_asked(night)))
    assert held == [5, 5, 2]
    assert statuses(night) == {"complete": 12}


def test_a_new_run_begins_beside_the_old_one_and_a_named_one_where_it_is_told() -> None:
    """`--new` and `--run` have folders and journals of their own; the first run is left as it is."""
    night = Night(matrix(("m0", "m1")), provider())
    assert night.live().exit == 0
    journal = night.disk.read(night.folder / "journal.jsonl")
    assert night.live(Options(new=True)).exit == 0
    assert night.live(Options(key="rehearsal")).exit == 0
    assert night.live(Options(key="rehearsal")).told == [
        "job/rehearsal: nothing to do, complete since 2026-11-21, 0 calls"
    ]
    assert night.disk.listdir(ROOT / "job") == ["main", "main.2", "rehearsal"]
    assert night.disk.read(night.folder / "journal.jsonl") == journal
    assert night.engine.bill.accepted == 3 * 16
    bad = night.live(Options(key="../elsewhere"))
    assert bad.exit == 2


def test_nothing_left_to_do_is_exit_0_without_a_call_and_after_a_day_a_word_about_the_key() -> None:
    """A complete run says since when; when that was long ago it also says how to have one every night."""
    night = Night(matrix(("m0", "m1")), provider())
    assert night.live().exit == 0
    before = night.disk.read(night.folder / "journal.jsonl")
    soon = night.live()
    assert (soon.exit, soon.told) == (0, ["job/main: nothing to do, complete since 2026-11-21, 0 calls"])
    night.wall += 21 * 3600
    late = night.live()
    assert late.exit == 0 and late.told[0] == "job/main: nothing to do, complete since 2026-11-21, 0 calls"
    assert 'run_key: "{date}"' in late.told[1]
    assert night.disk.read(night.folder / "journal.jsonl") == before


@pytest.mark.fault(11)
def test_a_night_over_midnight_keeps_its_date_and_is_continued_under_it() -> None:
    """`{date}` is that of the start, in folders and texts, also for a life after midnight; a plain run begins anew."""
    job = small(run_key="{date}", timezone="Europe/Lisbon")
    job["prompts"] = {"talk": {"opening": "Today is {{date}}. What survives?", "rounds": 4}}
    night = Night(job, provider(latency=SLOW), key="2026-11-21")
    night.wall = START + 12 * 3600 - 15.0  # 23:59:45 in Lisbon
    assert night.live(signals=[(30.0, SIGTERM)]).exit == 143
    assert night.records()[-1].at > START + 12 * 3600

    plain = night.live(Options(limit=1))
    assert plain.exit == 0
    assert any("job/2026-11-21 is not finished: tertulia run job.yaml --run 2026-11-21" in line for line in plain.told)
    assert night.disk.listdir(ROOT / "job") == ["2026-11-21", "2026-11-22"]

    assert night.live(Options(newest_unfinished=True, limit=1)).exit == 0
    night.key = "2026-11-22"
    assert statuses(night) == {"complete": 2, "pending": 10}

    mark = len(night.engine.received)
    night.key = "2026-11-21"
    named = night.live(Options(key="2026-11-21"))
    assert named.exit == 0
    assert set(statuses(night)) == {"complete"}
    bodies = [received.body or b"" for received in night.engine.received]
    assert bodies[mark:] and all(b"Today is 2026-11-21." in body for body in bodies[mark:])

    night.key = "2026-11-22"
    assert statuses(night) == {"complete": 2, "pending": 10}
    assert night.live(Options(newest_unfinished=True)).exit == 0
    assert statuses(night) == {"complete": 12}
    assert all(b"Today is 2026-11-22." in (r.body or b"") for r in night.engine.received[-8:])
