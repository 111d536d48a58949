"""Nights whose provider is overrun, breaks down, locks the door or answers with something else than a reply."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from runner.events import Failed, Stopped
from runner.sim.engine import Engine, SimAnswer, SimRequest
from runner.verify import verify
from tests.nights import Ledger, Night, matrix, provider

MODELS = ("m0", "m1")
SLOTS = 24
BEGINS, ENDS = 5.0, 65.0


class Door(Engine):
    """A provider that remembers when each request came and how it was met."""

    def reset(self) -> None:
        super().reset()
        self.came: list[tuple[float, int]] = []

    def handle(self, request: SimRequest, now: float) -> SimAnswer:
        answer = super().handle(request, now)
        self.came.append((now - self.came[0][0] if self.came else now, answer.status))
        return answer

    def during(self, begin: float, end: float) -> list[float]:
        """When the requests of a stretch came, in seconds after the first of all."""
        return [at for at, _ in self.came[1:] if begin <= at < end]


def at_the_door(job: dict[str, Any], script: list[dict[str, Any]], models: tuple[str, ...] = MODELS) -> Night:
    night = Night(job, provider(models, script=script))
    night.engine = Door(night.engine.config)
    return night


def door(night: Night) -> Door:
    assert isinstance(night.engine, Door)
    return night.engine


def statuses(night: Night) -> Counter[str]:
    return Counter(line["status"] for line in night.lines())


def letters(many: int, **limits: int) -> dict[str, Any]:
    """Many conversations of one call each."""
    return matrix(
        MODELS,
        limits={"concurrency": SLOTS, **limits},
        prompts={"letter": {"roles": {"writer": {"script": ["Dear friend"]}, "subject": {}}}},
        pairings=[{"prompt": "letter", "subject": "m0", "repeat": many}],
    )


# --- too much at once ------------------------------------------------------------------------------------------------


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("many", "limits", "told", "most"),
    [
        pytest.param(1000, {}, {}, 5 * SLOTS, id="a thousand conversations, no wait named", marks=pytest.mark.prove),
        pytest.param(100, {}, {"retry_after": 10.0}, 6 * SLOTS, id="a wait of ten seconds named"),
        pytest.param(100, {"rpm": 600}, {}, 2 * SLOTS, id="paced, no wait named"),
    ],
)
def test_a_storm_of_busy_answers_is_waited_out_by_all_together(
    many: int, limits: dict[str, int], told: dict[str, Any], most: int
) -> None:
    """For a minute everybody is turned away: few ask, longer and longer apart; nobody fails, no try is spent."""
    night = at_the_door(letters(many, **limits), [{"kind": "busy", "since": BEGINS, "until": ENDS, **told}])
    assert night.live().exit == 0
    assert statuses(night) == {"complete": many}
    ledger = Ledger.of(night.records())
    assert set(ledger.failures) == {"busy"} and ledger.failures["busy"] <= most
    asked = door(night).during(BEGINS, ENDS)
    assert len(asked) == ledger.failures["busy"]
    waves = [later - sooner for sooner, later in pairwise(asked) if later - sooner > 0.4]
    assert 3 <= len(waves) <= 8, "one pause for all, and each longer than half a second"
    if not told:
        assert waves[-1] > 4 * waves[0]
    back = door(night).during(ENDS, ENDS + 60)
    at_once = max(sum(1 for at in back if begin <= at < begin + 0.2) for begin in back)
    assert at_once <= SLOTS, "no herd when the door is open again"
    assert night.billed == night.counted


# --- broken down -----------------------------------------------------------------------------------------------------


@pytest.mark.fault(45)
@pytest.mark.parametrize("status", [500, 529])
def test_a_provider_that_breaks_down_is_asked_by_one_call_at_a_time_until_it_answers_again(status: int) -> None:
    """Nobody fails for it; at the latest the next run completes what had no try left."""
    job = matrix(MODELS, rounds=2, repeat=30, limits={"concurrency": SLOTS})
    breaks = {"kind": "server_error", "status": status, "since": BEGINS, "until": 45.0}
    night = at_the_door(job, [breaks])
    assert night.live().exit in (0, 3)
    asked = door(night).during(BEGINS, 45.0)
    assert len(asked) <= 3 * SLOTS
    probes = [at for at in asked if at > asked[0] + 3.0]
    gaps = [later - sooner for sooner, later in pairwise(probes)]
    assert 3 <= len(probes) <= 8 and min(gaps) > 1.0, "one probe, and then a pause"
    assert set(statuses(night)) <= {"complete", "pending"} and statuses(night)["complete"] >= 50
    assert night.live().exit == 0
    assert statuses(night) == {"complete": 60}
    assert Ledger.of(night.records()).asked_again == []
    assert night.billed <= night.counted


# --- the door is locked in the middle of the night -------------------------------------------------------------------


@pytest.mark.fault(46, 47, 89)
@pytest.mark.parametrize(("kind", "words"), [("unauthorized", "Incorrect API key"), ("no_money", "no credits left")])
def test_a_key_that_is_revoked_or_runs_dry_in_the_night_stops_its_own_provider_only(kind: str, words: str) -> None:
    """What was said stays, the rest of its conversations waits with one reason; the next run completes them."""
    models = {"good": ("g0", "g1"), "bad": ("b0", "b1")}
    everyone = (*models["good"], *models["bad"])
    pairs = [{"prompt": "talk", "a": a, "b": b, "repeat": 12} for a, b in models.values()]
    job = matrix(everyone, providers=models, limits={"concurrency": 4}, pairings=pairs)
    script = [{"kind": kind, "model": model, "since": BEGINS} for model in models["bad"]]
    night = at_the_door(job, script, everyone)
    life = night.live(looked_on=True)
    assert life.exit == 3
    lines = {line["name"]: line for line in night.lines()}
    theirs = [line for name, line in lines.items() if "b0" in name]
    assert all(line["status"] == "complete" for line in lines.values() if line not in theirs)
    waiting = [line for line in theirs if line["status"] != "complete"]
    assert {(line["status"], words in line["reason"]) for line in waiting} == {("pending", True)}
    assert any(line["rounds"]["done"] for line in waiting), "it was revoked in the middle"
    refused = [r.event for r in night.records() if isinstance(r.event, Failed)]
    assert 1 <= len(refused) <= 4 and {event.money for event in refused} == {"free"}
    assert life.screen.count("no more calls: bad: ") == 1 and words in life.screen
    night.change(provider(everyone))
    assert night.live().exit == 0
    assert Ledger.of(night.records()).asked_again == []


# --- something else than a reply -------------------------------------------------------------------------------------


@pytest.mark.fault(48)
@pytest.mark.parametrize(("overflow", "code", "status"), [("stop", 0, "complete"), ("fail", 3, "failed")])
def test_a_conversation_that_outgrows_the_window_of_its_model_ends_as_the_job_says(
    overflow: str, code: int, status: str
) -> None:
    """It is over with what was said, or it has failed; the reason names the window, and the refusal cost nothing."""
    defaults = {"max_tokens": 100, "history": {"overflow": overflow}}
    night = Night(matrix(MODELS, rounds=8, defaults=defaults), provider(MODELS, context=500))
    assert night.live().exit == code
    assert statuses(night) == {status: 2}
    for line in night.lines():
        assert "context full" in line["reason"] and 1 <= line["rounds"]["done"] < 8
    failures = [r.event for r in night.records() if isinstance(r.event, Failed)]
    assert [(event.money, event.status) for event in failures] == [("free", 400)] * 2
    assert night.billed == night.counted
    assert verify(night.folder, night.left()).problems == ()


@pytest.mark.fault(48)
def test_a_prompt_that_cannot_fit_a_window_that_is_known_is_not_sent() -> None:
    """The job names the window, and a prompt far beyond it is not sent to be refused."""
    job = matrix(MODELS, rounds=2, defaults={"max_tokens": 20})
    job["models"]["m1"]["context"] = 256
    job["prompts"]["talk"]["opening"] = "What survives of a conversation? " * 300
    night = Night(job, provider(MODELS))
    assert night.live().exit == 3
    assert {sent.alias for sent in night.sents()} == {"m0"}
    stopped = [r.event for r in night.records() if isinstance(r.event, Stopped)]
    assert {event.reason for event in stopped} == {"context full: the prompt cannot fit the 256 tokens of m1"}


@pytest.mark.fault(53)
def test_the_model_that_really_answered_is_on_record_beside_the_one_that_was_asked() -> None:
    """A router may serve another one: the turn counts, and every view says whose words they are."""
    script = [{"kind": "other_model", "served": "m0-turbo", "model": "m0", "request": 2}]
    night = Night(matrix(MODELS, rounds=2), provider(MODELS, script=script))
    assert night.live().exit == 0
    served = [(turn["model"], turn["model_served"]) for line in night.lines() for turn in line["turns"]]
    assert sorted(set(served)) == [("m0", "m0"), ("m0", "m0-turbo"), ("m1", "m1")]
    assert served.count(("m0", "m0-turbo")) == 1
    assert sum("m0-turbo" in night.text(f"conversations/{line['name']}.md") for line in night.lines()) == 1


@pytest.mark.fault(55)
def test_a_refusal_is_shown_as_one_and_never_passes_for_an_ordinary_turn() -> None:
    """With words it is taken and flagged, as the job says; without words it is no turn, and the conversation failed."""
    script = [
        {"kind": "refusal", "model": "m0", "request": 2},
        {"kind": "filtered", "text": False, "model": "m1", "contains": "gift"},
    ]
    prompts = {"talk": {"opening": "What survives?", "rounds": 2}, "gift": {"opening": "Choose a gift.", "rounds": 1}}
    pairings = [{"prompt": name, "a": "m0", "b": "m1"} for name in prompts]
    night = Night(matrix(MODELS, prompts=prompts, pairings=pairings), provider(MODELS, script=script))
    life = night.live(looked_on=True)
    assert life.exit == 3
    lines = {line["prompt"]: line for line in night.lines()}
    assert (lines["talk"]["status"], lines["gift"]["status"]) == ("complete", "failed")
    flagged = [turn for line in lines.values() for turn in line["turns"] if turn["outcome"] == "refused"]
    assert len(flagged) == 1 and flagged[0]["text"]
    assert lines["gift"]["error"]["kind"] == "refused" and lines["gift"]["turns"][-1]["text"] is None
    assert "1 failed; 1 turn refused;" in life.screen
