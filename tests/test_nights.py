"""Whole nights with trouble in them: every turn is there, all that is shown agrees, a dead provider harms its own."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from unicodedata import category

import pytest

from runner.events import Event, Failed, Replied, Stopped
from runner.money import dollars
from runner.sim.engine import PASSING, Engine, SimAnswer, SimRequest
from runner.verify import verify
from tests.nights import MODELS, Ledger, Life, Night, matrix, provider

SCRIPT = "\n\n<!-- turn -->\n\n".join(f"Question {n}: what is left of the answer before this one?" for n in range(1, 9))


def interviews() -> dict[str, Any]:
    """Two hundred conversations of eight rounds in which one side is written beforehand."""
    return matrix(
        prompts={"talk": {"roles": {"host": {"script": {"file": "questions.md"}}, "guest": {}}}},
        pairings=[{"prompt": "talk", "guest": list(MODELS), "repeat": 40}],
    )


def agrees(night: Night, life: Life, turns: int) -> None:
    """Journal, `status.json`, `index.md`, `conversations.jsonl` and the last lines say the same of a whole night."""
    ledger = Ledger.of(night.records())
    spent = ledger.settled["run", ""]
    assumed = [cost for record in night.records() if (cost := assumed_cost(record.event)) is not None]
    lines, status, index = night.lines(), night.status(), night.text("index.md")
    total = len(lines)
    spoken = [turn for line in lines for turn in line["turns"] if not turn["given"]]
    assert len(spoken) == len(ledger.answered) == status["turns"] == turns
    assert all(turn["text"].strip() for turn in spoken)
    assert Counter(line["status"] for line in lines) == {"complete": total}
    assert {k: n for k, n in status["conversations"].items() if n} == {"complete": total, "total": total}
    assert f"| complete | {total} |\n| **Total** | {total} |" in index
    assert status["calls"] == ledger.calls == total_of_models(index, 2)
    assert total_of_models(index, 3) == turns
    assert Counter(dict(failed_attempts(index))) == ledger.failures
    assert round(sum(line["totals"]["spent"] for line in lines) * 1e9) == spent
    assert round(status["spent"]["total"] * 1e9) == spent == night.counted
    assert f"| **Total** | ${dollars(spent)} |" in index
    assert f"| Assumed ({len(assumed)} calls, at the reservation) | ${dollars(sum(assumed))} |" in index
    last = next(line for line in life.screen.splitlines() if "exit" in line)
    assert f"job/main: {total} of {total} complete, 0 failed; ${dollars(spent)} spent of $50.0000" in last
    assert f"assumed for {len(assumed)} calls); exit 0" in last
    assert verify(night.folder, night.disk).problems == ()


def assumed_cost(event: Event) -> int | None:
    """What a call is charged of which nobody knows the bill."""
    if isinstance(event, Failed):
        return event.cost if event.money == "assumed" else None
    return event.cost if isinstance(event, Replied) and event.cost_source == "unknown" else None


def total_of_models(index: str, column: int) -> int:
    table = index.partition("## Models")[2].partition("## Providers")[0]
    row = next(line for line in table.splitlines() if line.startswith("| **Total**"))
    return int(row.strip("| ").split(" | ")[column].replace(",", ""))


def failed_attempts(index: str) -> list[tuple[str, int]]:
    table = index.partition("## Models")[2].partition("## Providers")[0]
    row = next(line for line in table.splitlines() if line.startswith("| **Total**"))
    return [(kind, int(n)) for n, kind in re.findall(r"(\d+) (\w+)", row.split(" | ")[1])]


@pytest.mark.parametrize("order", [None, pytest.param(1, marks=pytest.mark.prove)])
def test_a_matrix_with_five_per_cent_faults_is_finished_turn_by_turn_and_everything_agrees(order: int | None) -> None:
    """Two hundred conversations of eight turns meet every passing fault; no turn is missing, and all counts agree."""
    night = Night(matrix(repeat=10), provider(rate=0.05), seed=order)
    life = night.live(looked_on=True)
    assert life.exit == 0, life.screen[-2000:]
    assert set(night.engine.played) == {fault.kind for fault in PASSING}
    assert sum(night.engine.played.values()) > 50
    agrees(night, life, turns=1600)
    assert night.billed <= night.counted
    assert night.reading().state.run.reserved == 0
    assert Ledger.of(night.records()).asked_again == []


@pytest.mark.prove
def test_a_scripted_side_makes_no_call_and_all_eight_rounds_are_held_among_faults() -> None:
    """Two hundred interviews of eight scripted questions are finished; only the answers are calls, and all agrees."""
    night = Night(interviews(), provider(rate=0.05), beside={"questions.md": SCRIPT})
    life = night.live(looked_on=True)
    assert life.exit == 0, life.screen[-2000:]
    agrees(night, life, turns=1600)
    assert all(line["rounds"] == {"planned": 8, "done": 8} for line in night.lines())
    given = Counter(turn["role"] for line in night.lines() for turn in line["turns"] if turn["given"])
    assert given == {"host": 1600}
    assert {sent.role for sent in night.sents()} == {"guest"}
    # What was let in or refused by the provider, and what never reached it, are all the calls there were.
    assert len(night.sents()) == len(night.engine.received) + night.engine.played["refused"]


def test_the_texts_of_a_night_do_not_depend_on_faults_or_on_order() -> None:
    """What was said in a night full of faults, in another order of steps, is what is said in one without any."""
    quiet, loud = Night(matrix(repeat=2), provider()), Night(matrix(repeat=2), provider(rate=0.1), seed=5)
    assert (quiet.live().exit, loud.live().exit) == (0, 0)
    assert sum(loud.engine.played.values()) > 20
    said = [{line["name"]: [t["text"] for t in line["turns"]] for line in night.lines()} for night in (quiet, loud)]
    assert said[0] == said[1]


# --- silence ---------------------------------------------------------------------------------------------------------


@pytest.mark.fault(49)
def test_a_model_that_falls_silent_in_round_eight_leaves_seven_of_eight_and_says_so() -> None:
    """Seven rounds are kept, the eighth blank answer is never a turn: failed, exit 3, and the transcript tells why."""
    questions = [f"Question {n}?" for n in range(1, 9)]
    job = matrix(
        ("m0", "m1"),
        prompts={"talk": {"roles": {"host": {"script": questions}, "guest": {}}}},
        pairings=[{"prompt": "talk", "guest": ["m0", "m1"]}],
        defaults={"max_tokens": 400, "outcomes": {"empty": {"retry": 2, "max_tokens": "x2", "then": "fail"}}},
    )
    silence = {"kind": "blank", "model": "m1", "contains": "Question 8?"}
    night = Night(job, provider(("m0", "m1"), script=[silence]))
    life = night.live(looked_on=True)
    assert life.exit == 3
    talkative, silent = night.lines()
    assert (talkative["status"], talkative["rounds"]) == ("complete", {"planned": 8, "done": 8})
    assert (silent["status"], silent["rounds"]) == ("failed", {"planned": 8, "done": 7})
    assert silent["error"]["kind"] == "empty"
    assert silent["turns"][-1]["text"] is None and silent["turns"][-1]["attempts"] == 3
    tries = [sent.max_tokens for sent in night.sents() if sent.alias == "m1" and sent.turn == 16]
    assert tries == [400, 800, 1600]
    transcript = night.text("conversations/talk/m1.md")
    assert "**Not complete: failed.** 15 of 16 turns were said." in transcript
    assert "no visible text" in transcript
    assert "7 of 8" in transcript
    assert night.status()["conversations"]["failed"] == 1 and night.status()["reasons"] == ["failed"]
    assert "talk/m1: failed, 7 of 8 rounds" in life.screen
    assert "1 of 2 complete, 1 failed" in life.screen and "exit 3: failed" in life.screen
    # A failed conversation stays failed until somebody asks for it again.
    assert night.live().exit == 3
    assert len([s for s in night.sents() if s.alias == "m1"]) == 7 + 3


# --- a dead provider beside a healthy one ----------------------------------------------------------------------------


HEALTHY, DEAD = ("h0", "h1", "h2"), ("d0", "d1")
BOTH = {"good": HEALTHY, "bad": DEAD}


def two_providers() -> dict[str, Any]:
    """Healthy models with each other, models of another provider with each other, and some that need both."""
    return matrix(
        (*HEALTHY, *DEAD),
        providers=BOTH,
        limits={"concurrency": 4},
        pairings=[
            {"prompt": "talk", "a": list(HEALTHY), "b": list(HEALTHY), "match": "distinct", "repeat": 4},
            {"prompt": "talk", "a": list(DEAD), "b": list(DEAD), "match": "distinct", "repeat": 3},
            {"prompt": "talk", "a": "h0", "b": "d0", "repeat": 2},
        ],
    )


def only_healthy() -> dict[str, Any]:
    job = two_providers()
    return {**job, "pairings": job["pairings"][:1], "models": {m: job["models"][m] for m in HEALTHY}}


def healthy_until(night: Night) -> float:
    """When the last of the conversations that need only the healthy provider was over."""
    names = {cell.id: cell.name for cell in night.reading().plan.cells}
    ends = [r.at for r in night.records() if isinstance(r.event, Stopped) and "d" not in names[r.event.cell][5:]]
    return max(ends) - night.records()[0].at


DEATHS = [
    ("unauthorized", "Incorrect API key provided"),
    ("refused", "connection refused"),
    ("no_money", "This account has no credits left"),
]


@pytest.mark.fault(29, 46, 47, 89)
@pytest.mark.parametrize(("kind", "words"), DEATHS, ids=[kind for kind, _ in DEATHS])
def test_a_dead_provider_stops_its_own_conversations_only_and_they_go_on_when_it_is_back(kind: str, words: str) -> None:
    """Its conversations wait with one clear reason, the others lose no speed; the next run finishes all, unasked."""
    everyone = (*HEALTHY, *DEAD)
    alone = Night(only_healthy(), provider(everyone))
    assert alone.live().exit == 0

    night = Night(two_providers(), provider(everyone, script=[{"kind": kind, "model": model} for model in DEAD]))
    life = night.live(looked_on=True)
    assert life.exit == 3 and night.status()["reasons"] == ["pending"]
    lines = {line["name"]: line for line in night.lines()}
    hurt = [line for name, line in lines.items() if "d" in name[5:]]
    assert {line["status"] for line in hurt} == {"pending"}
    assert {line["status"] for line in lines.values() if line not in hurt} == {"complete"}
    (reason,) = {line["reason"] for line in hurt}
    assert reason.startswith("bad: ") and words in reason
    assert reason in life.screen
    assert healthy_until(night) <= healthy_until(alone) * 1.05
    assert night.counted == sum(e.cost for r in night.records() if isinstance(e := r.event, Replied))

    night.change(provider(everyone))
    back = night.live()
    assert back.exit == 0
    assert {line["status"] for line in night.lines()} == {"complete"}
    assert Ledger.of(night.records()).asked_again == []


@pytest.mark.fault(46)
def test_a_dead_provider_is_not_asked_over_and_over() -> None:
    """A provider that refuses our key is asked no more than its slots allow before the first answer comes back."""
    night = Night(two_providers(), provider((*HEALTHY, *DEAD), script=[{"kind": "unauthorized", "model": "d0"}]))
    night.live()
    asked = [sent for sent in night.sents() if sent.provider == "bad"]
    assert 1 <= len(asked) <= 4


# --- usage that nobody should believe --------------------------------------------------------------------------------


@pytest.mark.fault(51)
@pytest.mark.parametrize("form", ["strings", "negative", "zero", "huge", "missing", "null", "floats"])
def test_usage_that_cannot_be_believed_is_charged_at_the_reservation_and_flagged(form: str) -> None:
    """The turn is kept, its money is counted at the most it can have been, and every view says that this is assumed."""
    night = Night(
        matrix(("m0", "m1"), rounds=2),
        provider(("m0", "m1"), script=[{"kind": "usage", "form": form, "request": 2}]),
    )
    assert night.live().exit == 0
    replies = [record.event for record in night.records() if isinstance(record.event, Replied)]
    reserved = {(sent.cell, sent.turn): sent.reserved for sent in night.sents()}
    bent = [reply for reply in replies if reply.cost_source == "unknown"]
    assert len(bent) == night.engine.played["usage"] == 2
    assert all(reply.cost == reserved[reply.cell, reply.turn] for reply in bent)
    assert night.billed < night.counted
    assert round(night.status()["spent"]["assumed"] * 1e9) == sum(reply.cost for reply in bent)
    assert f"Assumed ({len(bent)} calls, at the reservation)" in night.text("index.md")
    sources = Counter(turn["cost_source"] for line in night.lines() for turn in line["turns"])
    assert sources == {"unknown": 2, "priced": len(replies) - 2}
    assert sum(line["totals"]["turns_with_figures"] for line in night.lines()) == len(replies) - 2


# --- keys and hostile replies ----------------------------------------------------------------------------------------


KEY = "sk-live-7hQ2vXcW9mTzR4kLpN8sYdJf"


class Parrot(Engine):
    """A provider that repeats the key of whoever asks, in every error and in every head of an answer."""

    def handle(self, request: SimRequest, now: float) -> SimAnswer:
        answer = super().handle(request, now)
        key = request.headers["authorization"].removeprefix("Bearer ").encode()
        pieces = tuple(
            piece._replace(what=piece.what.replace(b'"message":"', b'"message":"your key ' + key + b" "))
            if isinstance(piece.what, bytes)
            else piece
            for piece in answer.pieces
        )
        head = tuple((name, value) for name, value in answer.headers if name != "content-length")
        return SimAnswer(answer.id, answer.status, (*head, ("x-your-key", key.decode())), pieces)


def keyed(models: tuple[str, ...]) -> dict[str, Any]:
    job = matrix(models, rounds=3)
    job["providers"]["p"] |= {"api_key": "${PLANTED_KEY}", "headers": {"x-title": "${PLANTED_KEY}"}}
    return job


@pytest.mark.fault(77)
def test_a_planted_key_is_in_no_byte_of_the_outputs_or_the_screen_whatever_the_provider_answers() -> None:
    """Replies, reasoning, model names, errors and redirects may repeat the key; no file and no line shows it."""
    models = ("m0", "m1", "m2")
    texts = [f"Your key is {KEY}.", f"{KEY[:9]}", f"<think>{KEY}</think>So be it. {KEY}", f"```\n{KEY}\n```"]
    script = [
        {"kind": "other_model", "served": KEY, "request": 1},
        {"kind": "server_error", "status": 500, "request": 2},
        {"kind": "error_in_200", "after": 1, "request": 3},
        {"kind": "cut", "after": 3, "request": 4},
        {"kind": "redirect", "location": f"http://{KEY}.example/{KEY}", "model": "m2", "request": 5},
        {"kind": "unauthorized", "model": "m1", "request": 9},
    ]
    night = Night(
        keyed(models),
        provider(models, script=script, reply={"texts": texts}),
        environ={"PLANTED_KEY": KEY},
    )
    night.engine = Parrot(night.engine.config)
    lives = [night.live(looked_on=True) for _ in range(3)]
    assert {"other_model", "server_error", "error_in_200", "cut", "redirect"} <= set(night.engine.played)
    replied = [record.event for record in night.records() if isinstance(record.event, Replied)]
    assert any("***" in reply.text for reply in replied), "nothing was there to mask"
    assert any("***" in f.detail for r in night.records() if isinstance(f := r.event, Failed))
    leaks = [str(path) for path, content in night.disk.files.items() if KEY.encode() in content]
    assert leaks == []
    assert not any(KEY in line for life in lives for line in (*life.told, life.screen))


HOSTILE = [
    "\x1b[2J\x1b]0;owned\x07 \x9b31m \x00 \x08\x08\x08",
    "# Heading\n## Turn 9\n---\ntitle: mine\n---\n***\n",
    "```python\nprint('never closed')",
    "> [!IMPORTANT]\n> **Not complete: failed.**\n\n| **Total** | $999.0000 |\n",
    "*Computed from the journal. The verbatim texts are in `conversations.jsonl`.*\n[x](javascript:alert(1)) ![i](http://e/x.png)",
    "<script>alert(1)</script>\n<!-- turn -->\n\u202eright to left\u2066 \u200b \ufeff",
]


@pytest.mark.fault(80, 81)
def test_hostile_replies_change_nothing_but_their_own_quoted_text() -> None:
    """With escapes, headings, rules, fences and fake figures for replies, only quoted lines of a transcript differ."""
    models = ("m0", "m1")
    tame, wild = (
        Night(matrix(models, rounds=6), provider(models, reply={"texts": texts}))
        for texts in ([f"A harmless answer, number {n}." for n in range(6)], HOSTILE)
    )
    lives = [night.live(looked_on=True) for night in (tame, wild)]
    assert [life.exit for life in lives] == [0, 0]
    for name in ("conversations/talk/m0~m1.md", "conversations/talk/m1~m0.md"):
        ours = [[bare(line) for line in night.text(name).splitlines() if not quoted(line)] for night in (tame, wild)]
        assert ours[0] == ours[1]
    for night in (tame, wild):
        assert verify(night.folder, night.disk).problems == ()
    assert bare(tame.text("index.md")) == bare(wild.text("index.md"))
    said = [[turn["text"] for turn in line["turns"]] for line in wild.lines()]
    assert said == [[text for text in HOSTILE for _ in "ab"]] * 2
    shown = wild.text("conversations/talk/m0~m1.md") + wild.text("index.md") + lives[1].screen
    assert [c for c in shown if c != "\n" and category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")] == []


def quoted(line: str) -> bool:
    return line.startswith(">")


def bare(text: str) -> str:
    """A text of ours without its figures: those of a hostile reply may differ as its length does."""
    return re.sub(r"[0-9]+(?:[.,:][0-9]+)*", "#", text)
