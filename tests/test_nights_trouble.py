"""Nights whose provider is overrun, breaks down, locks the door or answers with something else than a reply."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from runner.events import Failed, Stopped
from runner.selection import Options
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


def impatient(**more: Any) -> dict[str, Any]:
    """A job that tries each call hardly a second time."""
    defaults = {"outcomes": {"error": {"retry": 1}, "lost": {"retry": 1}}, "timeout": {"first": "3s"}}
    return matrix(MODELS, **{"rounds": 3, "repeat": 6, "limits": {"concurrency": 3}, "defaults": defaults, **more})


@pytest.mark.fault(45)
@pytest.mark.parametrize("kind", ["refused", "server_error", pytest.param("busy", marks=pytest.mark.prove), "silent"])
def test_the_victims_of_a_provider_that_answers_nobody_are_pending_however_few_retries_there_are(kind: str) -> None:
    """Run after run none of them fails for it, and when it is well again the same command completes all."""
    night = at_the_door(impatient(), [{"kind": kind}])
    for _ in range(2):
        night.engine = Door(night.engine.config)  # its first request is that of this life
        life = night.live(looked_on=True)
        assert life.exit == 3
        assert statuses(night) == {"pending": 12}
        assert night.status()["continue"] == "tertulia run job.yaml"
        assert ": failed" not in life.screen and ".;" not in life.screen
    night.change(provider(MODELS))
    assert night.live().exit == 0


@pytest.mark.fault(45)
def test_who_failed_while_a_provider_was_dying_is_pending_when_it_is_dead() -> None:
    """With one try each, those in flight fail before anybody can know; the end of the life puts it right."""
    job = impatient()
    job["defaults"]["outcomes"] = {"error": {"retry": 0}}
    night = at_the_door(job, [{"kind": "server_error", "since": 15.0}])
    life = night.live(looked_on=True)
    assert life.exit == 3
    stopped = [r.event for r in night.records() if isinstance(r.event, Stopped)]
    assert "failed" in {event.status for event in stopped}
    assert set(statuses(night)) == {"complete", "pending"}
    assert life.screen.count(": failed, ") == life.screen.count(": pending after all: ") > 0
    assert verify(night.folder, night.left()).problems == ()
    night.change(provider(MODELS))
    assert night.live().exit == 0


@pytest.mark.fault(45)
def test_who_fails_alone_has_failed() -> None:
    """A provider that answers all others is not to blame, whether it had answered before or did so afterwards."""
    openings = {"talk": "What survives?", "gift": "Choose a gift."}
    prompts = {name: {"opening": opening, "rounds": 2} for name, opening in openings.items()}
    for names in (("gift", "talk"), ("talk", "gift")):
        pairs = [{"prompt": name, "a": "m0", "b": "m1"} for name in names]
        job = impatient(prompts=prompts, pairings=pairs, limits={"concurrency": 1})
        night = at_the_door(job, [{"kind": "server_error", "contains": "gift"}])
        assert night.live().exit == 3
        assert {line["prompt"]: line["status"] for line in night.lines()} == {"talk": "complete", "gift": "failed"}


@pytest.mark.fault(45)
def test_who_failed_alone_is_not_taken_for_a_victim_of_a_later_death() -> None:
    """Its provider answered others after that; whom it then leaves waits, and the failure stays one."""
    prompts = {
        "gift": {"opening": "Choose a gift.", "rounds": 5},
        "talk": {"opening": "What survives?", "rounds": 4},
    }
    pairs = [{"prompt": "gift", "a": "m0", "b": "m1"}, {"prompt": "talk", "a": "m0", "b": "m1", "repeat": 12}]
    script: list[dict[str, Any]] = [
        {"kind": "server_error", "contains": "gift"},
        {"kind": "refused", "since": 30.0},
    ]
    night = at_the_door(impatient(prompts=prompts, pairings=pairs), script)
    assert night.live().exit == 3
    found = {(line["prompt"], line["status"]) for line in night.lines()}
    assert found == {("gift", "failed"), ("talk", "complete"), ("talk", "pending")}


@pytest.mark.fault(44)
def test_a_storm_that_never_ends_fails_nobody() -> None:
    """Twenty times busy is no fault of a conversation where nobody else is let in either."""
    night = at_the_door(impatient(), [{"kind": "busy", "since": 15.0}])
    assert night.live().exit == 3
    assert {r.event.status for r in night.records() if isinstance(r.event, Stopped)} == {"complete", "pending"}


@pytest.mark.fault(45)
def test_what_must_not_be_asked_for_twice_fails_with_its_provider() -> None:
    """`lost: {retry: 0}`: the job would rather lose the turn than perhaps pay for it again, now or in a later run."""
    defaults = {"outcomes": {"lost": {"retry": 0}}, "timeout": {"first": "3s"}}
    job = impatient(rounds=1, repeat=4, defaults=defaults)
    night = at_the_door(job, [{"kind": "silent"}])
    assert night.live().exit == 3
    asked = {(sent.cell, sent.turn) for sent in night.sents()}
    failed = {line["id"] for line in night.lines() if line["status"] == "failed"}
    assert failed == {cell for cell, _ in asked}
    night.live()
    assert len({sent.cell: 0 for sent in night.sents()}) == len(night.sents())


@pytest.mark.fault(45)
def test_what_goes_on_takes_up_the_failed_with_the_pending() -> None:
    """The command that is named holds all that is missing."""
    script = [
        {"kind": "filtered", "text": False, "model": "m0"},
        {"kind": "unauthorized", "model": "m1", "since": BEGINS},
    ]
    pairs = [{"prompt": "talk", "a": model, "b": model, "repeat": 3} for model in MODELS]
    night = at_the_door(matrix(MODELS, limits={"per": "model"}, pairings=pairs), script)
    assert night.live().exit == 3
    assert {"failed", "pending"} <= set(statuses(night))
    assert night.status()["continue"] == "tertulia run job.yaml --retry-failed"
    night.change(provider(MODELS))
    assert night.live(Options(retry_failed=True)).exit == 0
    assert statuses(night) == {"complete": 6}


# --- the door is locked in the middle of the night -------------------------------------------------------------------


@pytest.mark.fault(46, 47, 89)
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("unauthorized", "Incorrect API key provided -> put a valid key into BAD_KEY"),
        ("no_money", "no credits left -> add credit to the account"),
    ],
)
def test_a_key_that_is_revoked_or_runs_dry_in_the_night_stops_its_own_provider_only(kind: str, words: str) -> None:
    """What was said stays, the rest of its conversations waits with one reason; the next run completes them."""
    models = {"good": ("g0", "g1"), "bad": ("b0", "b1")}
    everyone = (*models["good"], *models["bad"])
    pairs = [{"prompt": "talk", "a": a, "b": b, "repeat": 12} for a, b in models.values()]
    job = matrix(everyone, providers=models, limits={"concurrency": 4}, pairings=pairs)
    job["providers"]["bad"]["api_key"] = "${BAD_KEY}"
    script = [{"kind": kind, "model": model, "since": BEGINS} for model in models["bad"]]
    night = at_the_door(job, script, everyone)
    night.environ = {"BAD_KEY": "sk-bad-0123456789"}
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


@pytest.mark.fault(47)
def test_a_model_that_does_not_exist_says_what_to_correct() -> None:
    """Its conversations wait, and those of the others do not."""
    pairings = [{"prompt": "talk", "a": model, "b": model} for model in MODELS]
    night = at_the_door(matrix(MODELS, pairings=pairings), [{"kind": "not_found", "model": "m1"}])
    life = night.live(looked_on=True)
    assert statuses(night) == {"complete": 1, "pending": 1}
    (told,) = [line for line in life.screen.splitlines() if "m1: HTTP 404" in line]
    remedy = "-> correct its `use`, or have the key allowed to use it"
    assert told.endswith(f"{remedy}; 1 conversation that needs it stays pending")


# --- something else than a reply -------------------------------------------------------------------------------------


@pytest.mark.fault(48)
@pytest.mark.parametrize(("overflow", "code", "status"), [("stop", 0, "complete"), ("fail", 3, "failed")])
def test_a_conversation_that_outgrows_the_window_of_its_model_ends_as_the_job_says(
    overflow: str, code: int, status: str
) -> None:
    """It is over with what was said, or it has failed; the reason names the window, and the refusal cost nothing."""
    defaults = {"max_tokens": 100, "history": {"overflow": overflow}}
    night = Night(matrix(MODELS, rounds=8, defaults=defaults), provider(MODELS, context=500))
    life = night.live(looked_on=True)
    assert life.exit == code
    assert statuses(night) == {status: 2}
    early = 2 if status == "complete" else 0
    assert ("2 of 2 complete, 2 of them stopped early, 0 failed" in life.screen) == bool(early)
    assert life.screen.count("complete, stopped early, ") == early
    assert night.status()["stopped_early"] == early
    assert sum(why["conversations"] for why in night.status()["why"] if why["status"] == status) == 2
    assert ("**2 of 2 conversations complete, 2 of them stopped early" in night.text("index.md")) == bool(early)
    for line in night.lines():
        assert "context full" in line["reason"] and 1 <= line["rounds"]["done"] < 8
    failures = [r.event for r in night.records() if isinstance(r.event, Failed)]
    assert [(event.money, event.status) for event in failures] == [("free", 400)] * 2
    assert night.billed == night.counted
    assert verify(night.folder, night.left()).problems == ()


@pytest.mark.fault(48)
def test_a_conversation_whose_window_is_full_before_one_round_was_said_has_failed() -> None:
    """Half a round is no conversation: it is not told as a success, and goes on where there is more room."""
    job = matrix(MODELS, rounds=3, defaults={"max_tokens": 200})
    night = Night(job, provider(MODELS, context=260))
    assert night.live().exit == 3
    assert statuses(night) == {"failed": 2}
    assert {line["rounds"]["done"] for line in night.lines()} == {0}
    assert night.replies(), "the first of each had room"
    assert night.status()["continue"] == "tertulia run job.yaml --retry-failed"
    night.change(provider(MODELS))
    assert night.live(Options(retry_failed=True)).exit == 0
    assert night.status()["stopped_early"] == 0 and night.status()["continue"] is None


@pytest.mark.fault(48)
def test_a_run_of_which_nothing_is_missing_says_that_some_stopped_early() -> None:
    """Nobody who starts it again takes it for whole."""
    night = Night(matrix(MODELS, rounds=8, defaults={"max_tokens": 100}), provider(MODELS, context=500))
    assert night.live().exit == 0
    assert "complete since 2026-11-21, 2 of them stopped early" in night.live().told[0]


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
