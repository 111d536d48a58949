"""Nights that run out of money: no ceiling is ever passed, little of it is left, and what was begun is finished."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from runner.call import Usage
from runner.events import Closed, Failed, Replied
from runner.money import NANOS_PER_DOLLAR, dollars, parse_dollars
from runner.providers.chat import ChatReader
from runner.selection import Options
from runner.verify import verify
from tests.nights import MODELS, Ledger, Night, Scope, matrix, provider

KNOWN_BILLS = [
    {"kind": "busy", "rate": 0.01, "retry_after": 1.0},
    {"kind": "refused", "rate": 0.01},
    {"kind": "server_error", "status": 503, "rate": 0.01},
]
"""Troubles of which everybody knows what they cost."""


def need(job: Mapping[str, Any], sim: Mapping[str, Any]) -> int:
    """What the provider bills for a job that no ceiling stops, in nano-dollars."""
    night = Night(job, sim)
    assert night.live().exit == 0
    return night.billed


def begun_and_complete(night: Night) -> tuple[int, int]:
    """Conversations with at least one reply, and those of them that are complete."""
    lines = [line for line in night.lines() if any(turn["text"] is not None for turn in line["turns"])]
    return len(lines), sum(line["status"] == "complete" for line in lines)


def answered_once(night: Night) -> bool:
    """No turn was asked for again, and of the requests, all different by their seeds, none was answered twice."""
    answers = Counter(r.sha256 for r in night.engine.received if r.outcome == "answered")
    return Ledger.of(night.records()).asked_again == [] and max(answers.values()) == 1


CAPS = [
    pytest.param(7, 400, {}, 0.01, id="small calls", marks=pytest.mark.prove),
    pytest.param(3, 420, {"reply": {"mean": 60}}, 0.04, id="calls of nearly four per cent", marks=pytest.mark.prove),
    pytest.param(2, 150, {}, 0.03, id="replies nearly as long as allowed", marks=pytest.mark.prove),
    pytest.param(3, 1500, {"reply": {"mean": 300}}, 0.04, id="long replies", marks=pytest.mark.prove),
]


@pytest.mark.fault(57)
@pytest.mark.parametrize(("repeat", "max_tokens", "habits", "largest"), CAPS)
def test_a_cap_at_thirty_per_cent_is_kept_and_used_and_the_rest_follows_with_more_money(
    repeat: int, max_tokens: int, habits: dict[str, Any], largest: float
) -> None:
    """The provider's own bill stays within the cap and uses 95 % of it; 85 % of what began is whole; then the rest."""
    job = matrix(repeat=repeat, max_tokens=max_tokens, send_seed=True)
    sim = provider(script=KNOWN_BILLS, **habits)
    cap = need(job, sim) * 3 // 10
    night = Night({**job, "budget": cap / NANOS_PER_DOLLAR}, sim)
    assert night.live().exit == 4
    assert night.status()["reasons"] == ["budget"]
    shares = [sent.reserved / cap for sent in night.sents()]
    assert largest * 0.7 <= max(shares) <= 0.04, max(shares)
    assert night.billed == night.counted <= cap
    assert Ledger.of(night.records()).peaks["run", ""] <= cap
    assert night.billed >= 0.95 * cap
    begun, complete = begun_and_complete(night)
    assert complete >= 0.85 * begun, (begun, complete)
    assert {line["status"] for line in night.lines()} == {"complete", "budget"}
    assert all("budget" in line["reason"] for line in night.lines() if line["status"] == "budget")

    more = night.live(Options(budget=50 * NANOS_PER_DOLLAR))
    assert more.exit == 0
    assert night.status()["conversations"]["complete"] == 20 * repeat
    assert answered_once(night)
    assert night.billed == night.counted


@pytest.mark.fault(57)
def test_faults_of_unknown_bill_count_as_spent_and_the_cap_holds_all_the_same() -> None:
    """With every kind of fault, under a cap and in another order of steps, the true bill never passes the cap."""
    job, sim = matrix(repeat=4), provider(rate=0.15)
    cap = need(job, sim) // 2
    night = Night({**job, "budget": cap / NANOS_PER_DOLLAR}, sim, seed=11)
    assert night.live().exit == 4
    assert night.billed <= night.counted <= cap
    assert Ledger.of(night.records()).peaks["run", ""] <= cap
    assert night.counted >= 0.9 * cap


CUTS = {"kind": "cut", "rate": 0.1, "after": 2}


@pytest.mark.parametrize("trouble", [{"rate": 0.1}, {"script": [CUTS]}], ids=["every kind of fault", "lost calls"])
def test_money_that_is_lost_with_failed_calls_is_expected_to_be_lost_again(trouble: dict[str, Any]) -> None:
    """Where one call in ten is lost and stays charged, a cap is used, and three of four that begin are whole."""
    job, sim = matrix(repeat=4, send_seed=True), provider(**trouble)
    cap = need(job, sim) // 3
    night = Night({**job, "budget": cap / NANOS_PER_DOLLAR}, sim)
    assert night.live().exit == 4
    assert night.billed <= night.counted <= cap
    assert night.reading().state.run.assumed >= 0.15 * cap
    assert night.counted >= 0.95 * cap
    begun, complete = begun_and_complete(night)
    assert complete >= 0.75 * begun, (begun, complete)


# --- the smaller ceilings --------------------------------------------------------------------------------------------


def capped(**changes: Any) -> Night:
    night = Night(matrix(repeat=2, providers={"p": MODELS[:3], "q": MODELS[3:]}, **changes), provider())
    assert night.live().exit == 4
    return night


def stopped_by(night: Night) -> set[str]:
    return {line["reason"] for line in night.lines() if line["status"] == "budget"}


def used(night: Night, scope: Scope, groups: Mapping[str, Scope] | None = None) -> int:
    """The most a scope ever held, at any record of the journal."""
    return Ledger.of(night.records(), groups).peaks[scope]


def test_the_ceiling_of_a_model_is_never_passed_and_stops_only_its_conversations() -> None:
    """At every record the model's account is within its ceiling; conversations without it are all complete."""
    night = capped(budget={"run": 50, "models": {"m1": 0.02}})
    assert 0.95 * 20_000_000 <= used(night, ("model", "m1")) <= 20_000_000
    assert stopped_by(night) == {"the budget of model m1"}
    assert all("m1" in line["name"] for line in night.lines() if line["status"] != "complete")


def test_the_ceiling_of_a_provider_is_never_passed_and_stops_only_its_conversations() -> None:
    """At every record the provider's account is within its ceiling; conversations without it are all complete."""
    night = capped(budget={"run": 50, "providers": {"q": 0.03}})
    assert 0.95 * 30_000_000 <= used(night, ("provider", "q")) <= 30_000_000
    assert stopped_by(night) == {"the budget of provider q"}
    for line in night.lines():
        assert line["status"] == "complete" or {"m3", "m4"} & {m["alias"] for m in line["models"]}


def test_the_ceiling_of_a_pairing_is_never_passed_and_the_other_pairing_is_finished() -> None:
    """At every record the conversations of the pairing are together within its ceiling."""
    pairings = [
        {"prompt": "talk", "a": "m0", "b": ["m1", "m2"], "repeat": 10, "budget": 0.03},
        {"prompt": "talk", "a": "m3", "b": "m4", "repeat": 5},
    ]
    night = capped(pairings=pairings)
    groups = {cell.id: ("pairing", str(cell.pairing)) for cell in night.reading().plan.cells}
    assert stopped_by(night) == {"the budget of pairing 1"}
    # What is left is less than a conversation takes, for only whole ones begin.
    spent = [night.reading().state.of(cell).account.settled for cell in groups if groups[cell] == ("pairing", "1")]
    assert 30_000_000 - min(filter(None, spent)) < used(night, ("pairing", "1"), groups) <= 30_000_000
    assert all(line["status"] == "complete" for line in night.lines() if line["name"].startswith("talk/m3"))


@pytest.mark.parametrize("whose", ["run", "pairing"])
def test_the_ceiling_of_one_conversation_is_never_passed_by_any(whose: str) -> None:
    """Each conversation holds at most its own ceiling at every record, and ends as `budget` when it needs more."""
    if whose == "run":
        night = capped(budget={"run": 50, "conversation": 0.005})
    else:
        each = {"prompt": "talk", "a": "m0", "b": ["m1", "m2", "m3"], "budget": {"conversation": 0.005}}
        night = capped(pairings=[each])
    ledger = Ledger.of(night.records())
    peaks = [most for (kind, _), most in ledger.peaks.items() if kind == "cell"]
    assert peaks and 4_000_000 < max(peaks) <= 5_000_000
    assert stopped_by(night) == {"the budget of one conversation"}
    assert all(line["rounds"]["done"] >= 1 for line in night.lines())


@pytest.mark.prove
def test_models_of_very_different_price_share_one_cap() -> None:
    """A model a hundred times dearer than the other is held to the same ceiling, which is used and never passed."""
    prices = {"m0": {"input": 0.1, "output": 0.4}, "m1": {"input": 10.0, "output": 40.0}}
    job = matrix(
        ("m0", "m1"),
        prices=prices,
        rounds=2,
        max_tokens=150,
        send_seed=True,
        pairings=[
            {"prompt": "talk", "a": "m0", "b": "m0", "repeat": 10},
            {"prompt": "talk", "a": "m1", "b": "m0", "repeat": 105},
        ],
    )
    sim = provider(("m0", "m1"), prices=prices)
    cap = need(job, sim) * 3 // 10
    night = Night({**job, "budget": cap / NANOS_PER_DOLLAR}, sim)
    assert night.live().exit == 4
    assert max(sent.reserved for sent in night.sents()) <= 0.04 * cap
    assert used(night, ("run", "")) <= cap
    assert night.billed >= 0.95 * cap
    begun, complete = begun_and_complete(night)
    assert complete >= 0.85 * begun
    assert night.live(Options(budget=50 * NANOS_PER_DOLLAR)).exit == 0
    assert answered_once(night)


@pytest.mark.parametrize("share", [0.03, 0.2, 0.7])
def test_the_budget_that_is_offered_is_enough_and_no_multiple_of_it(share: float) -> None:
    """Also where what was spent completed nothing: the rest is what it is expected to cost, and not what was spent."""
    prices = {model: {"input": 100, "output": 400} for model in MODELS}
    job, sim = matrix(repeat=2, max_tokens=150, prices=prices), provider(prices=prices)
    whole = need(job, sim)
    night = Night({**job, "budget": round(whole * share) / NANOS_PER_DOLLAR}, sim)
    assert night.live().exit == 4
    command = shlex.split(night.status()["continue"])
    offered = parse_dollars(command[command.index("--budget") + 1])
    assert whole <= offered <= 2 * whole
    assert night.live(Options(budget=offered)).exit == 0
    assert night.status()["continue"] is None


def test_where_nothing_was_completed_what_was_spent_is_not_taken_for_the_price_of_one() -> None:
    """A single long conversation that the money ended shortly before its end needs little more."""
    job, sim = matrix(rounds=20, max_tokens=100), provider()
    job["pairings"] = [{"prompt": "talk", "a": MODELS[0], "b": MODELS[1]}]
    whole = need(job, sim)
    night = Night({**job, "budget": round(whole * 0.9) / NANOS_PER_DOLLAR}, sim)
    assert night.live().exit == 4
    assert night.status()["conversations"]["complete"] == 0
    command = shlex.split(night.status()["continue"])
    offered = parse_dollars(command[command.index("--budget") + 1])
    assert whole <= offered <= 1.25 * whole
    assert night.live(Options(budget=offered)).exit == 0


# --- overrun ---------------------------------------------------------------------------------------------------------


def overrunning(budget: Any) -> Night:
    """A night in which m0 once writes far more than it was allowed to."""
    script = [{"kind": "overrun", "times": 12, "model": "m0", "request": 3}]
    return Night(
        matrix(("m0", "m1", "m2"), repeat=2, limits={"concurrency": 2}, budget=budget), provider(script=script)
    )


@pytest.mark.fault(54)
def test_a_server_that_ignores_the_limit_is_billed_as_it_says_flagged_and_its_model_stopped() -> None:
    """The truth is settled, the views flag it, the model gets no further call, and the other models go on."""
    night = overrunning(50)
    life = night.live(looked_on=True)
    assert life.exit == 3
    ran_over = [(n, e) for n, r in enumerate(night.records()) if isinstance(e := r.event, Replied) and e.overrun]
    ((place, event),) = ran_over
    reserved = next(s.reserved for s in night.sents() if (s.cell, s.turn) == (event.cell, event.turn))
    assert event.cost > 5 * reserved
    assert night.billed == night.counted
    later = [r.event for r in night.records()[place:] if r.event.kind == "sent"]
    assert later and all(getattr(sent, "alias", "") != "m0" for sent in later)
    lines = night.lines()
    assert {line["status"] for line in lines if "m0" not in line["name"]} == {"complete"}
    [reason] = {line["reason"] for line in lines if line["status"] == "pending"}
    assert reason == (
        "m0: overrun, it used 4,882 tokens where it was sent a limit of 400 ($0.0026 reserved, $0.0198 charged) -> "
        "take m0 out of the job, or allow it more: `max_tokens` of 4,882, or a higher `price`"
    )
    assert "m0: overrun" in night.text("index.md") and "m0: overrun" in life.screen


def changed(job: Any, **more: Any) -> dict[str, Any]:
    """The job with other settings of m0."""
    return {**job, "models": {**job["models"], "m0": {**job["models"]["m0"], **more}}}


@pytest.mark.fault(54)
@pytest.mark.parametrize(
    "more",
    [{"max_tokens": 6_000}, {"price": {"input": 1.0, "output": 48.0}}],
    ids=["a higher limit", "a higher price"],
)
def test_a_model_that_overran_is_not_paid_for_again_until_the_job_is_changed(more: dict[str, Any]) -> None:
    """A later run sends it nothing and says why, with the figures; the user who allows it more goes on knowingly."""
    night = overrunning(50)
    assert night.live().exit == 3
    sent, held = len(night.sents()), night.counted
    for options in (Options(), Options(retry_failed=True)):
        life = night.live(options, job=changed(night.job, label="Another Name"), looked_on=True)
        assert life.exit == 3
        assert (len(night.sents()), night.counted) == (sent, held)
        assert "no more calls: m0: overrun, it used 4,882 tokens where it was sent a limit of 400 ($0.0" in life.screen
        assert life.screen.count("m0: overrun") == 1
        assert "goes on, once the job is changed, with: tertulia run" in life.screen
    for options in (Options(accept_changes=True, limit=1), Options()):
        assert night.live(options, job=changed(night.job, **more)).exit == 0
    assert {line["status"] for line in night.lines()} == {"complete"}


def test_a_model_that_overruns_again_is_stopped_again_at_its_new_limit() -> None:
    """Each overrun is weighed against the job that allowed it."""
    night = overrunning(50)
    assert night.live().exit == 3
    night.change(provider(script=[{"kind": "overrun", "times": 12, "model": "m0"}]))
    job = changed(night.job, max_tokens=500)
    assert night.live(Options(accept_changes=True), job=job).exit == 3
    sent = len(night.sents())
    life = night.live(job=job, looked_on=True)
    assert (life.exit, len(night.sents())) == (3, sent)
    assert "where it was sent a limit of 500" in life.screen


@pytest.mark.fault(54)
@pytest.mark.parametrize("budget", [{"run": 0.015}, {"run": 50, "models": {"m0": 0.015}}], ids=["run", "model"])
def test_an_overrun_that_passes_a_ceiling_ends_the_night_with_exit_4_and_says_overrun(budget: Any) -> None:
    """Only the overrun itself passes the ceiling; nothing is reserved after it, and the reason is on record."""
    night = overrunning(budget)
    assert night.live().exit == 4
    closed = next(r.event for r in night.records() if isinstance(r.event, Closed))
    assert "overrun" in closed.reasons and "overrun" in night.status()["reasons"]
    records = night.records()
    place = next(n for n, r in enumerate(records) if isinstance(r.event, Replied) and r.event.overrun)
    scope = ("run", "") if "models" not in budget else ("model", "m0")
    assert Ledger.of(records[:place]).peaks[scope] <= 15_000_000 < Ledger.of(records).settled[scope]
    assert f"${dollars(night.counted)}" in night.text("index.md")


def test_what_the_job_adds_to_its_requests_is_reserved_like_the_rest_of_them() -> None:
    """Tools of 60 KB, say: too dear a first call is refused before anything is sent, and any bound has them in it."""
    tools = {"extra": {"user": "x" * 60_000}}
    job: dict[str, Any] = matrix(("m0", "m1"), rounds=2, budget=0.01)
    job["defaults"] = {**job["defaults"], **tools}
    refused = Night(job, provider(("m0", "m1")))
    life = refused.live()
    assert life.exit == 2 and "first call may cost" in "\n".join(life.told)
    assert refused.billed == 0
    night = Night({**job, "budget": 50}, provider(("m0", "m1")))
    assert night.live().exit == 0
    assert all(sent.input_bound > 60_000 for sent in night.sents() if sent.turn <= 2)
    assert verify(night.folder, night.disk).problems == ()


@pytest.mark.fault(54)
def test_a_server_that_ignores_the_limit_and_tells_no_figures_is_found_out_by_its_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So long a text must have cost more than was reserved: at least that is charged, and the model is stopped."""
    monkeypatch.setattr(ChatReader, "counted", lambda self, raw, received: Usage())
    night = overrunning(50)
    assert night.live().exit == 3
    ((event, reserved),) = [
        (e, sent.reserved)
        for r in night.records()
        if isinstance(e := r.event, Replied) and e.overrun
        for sent in night.sents()
        if (sent.cell, sent.turn, sent.attempt) == (e.cell, e.turn, e.attempt)
    ]
    assert event.cost_source == "unknown" and event.cost > reserved
    assert "m0: overrun, it used" in night.text("index.md")
    assert verify(night.folder, night.disk).problems == ()


def test_a_figure_far_beyond_the_budget_is_no_reason_to_offer_a_larger_one() -> None:
    """Somebody's slip may be nine billion dollars; the command to go on does not ask for as much again."""
    night = overrunning(0.006)
    assert night.live().exit == 4
    assert night.counted > 0.012e9
    assert "--budget" not in night.status()["continue"]


def test_a_failed_call_of_known_price_costs_what_the_provider_says_and_one_of_unknown_price_its_reservation() -> None:
    """A blank answer with a bill is settled at it; a connection cut in the middle stays at its reservation."""
    script = [{"kind": "whitespace", "request": 2}, {"kind": "cut", "after": 2, "request": 4}]
    night = Night(matrix(("m0", "m1"), rounds=2), provider(("m0", "m1"), script=script))
    assert night.live().exit == 0
    failures = [r.event for r in night.records() if isinstance(r.event, Failed)]
    reserved = {(sent.cell, sent.turn, sent.attempt): sent.reserved for sent in night.sents()}
    assert sorted((f.failure, f.money) for f in failures) == [("empty", "known")] * 2 + [("lost", "assumed")] * 2
    for failed in failures:
        whole = reserved[failed.cell, failed.turn, failed.attempt]
        assert failed.cost == whole if failed.money == "assumed" else 0 < failed.cost < whole
    assert night.billed <= night.counted
