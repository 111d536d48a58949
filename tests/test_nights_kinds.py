"""Nights of each kind of conversation: who is asked, who speaks, what is sent, what fails alone, and what waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from signal import SIGINT, Signals
from typing import Any

import anyio
import orjson
import pytest

from runner.branches import Wish
from runner.cli.look import _meant
from runner.events import Branched, Engaged, Failed, Heard, Sent, Stopped
from runner.evidence import assumed_calls
from runner.night import Place, Source
from runner.night import night as whole_night
from runner.outlook import means_of, outlook
from runner.outputs import read
from runner.preflight import prices
from runner.selection import Options
from runner.sim.wire import SimWire
from runner.verify import verify
from runner.world import Ran, World
from tests.kinds import (
    Oracle,
    Says,
    asked_since,
    branch,
    drop,
    engaged,
    job,
    line_of,
    lines_shown,
    night,
    observe,
    roles_of,
    sent_to,
    sim,
    texts_of,
)
from tests.memory import planned
from tests.nights import ROOT, Ledger, Life, Night, job_of, text_of
from tests.virtual import ScriptedPrograms, ScriptedSignals, VirtualClock, run_virtual

PAIR = {"prompt": "duo", "a": "ada", "b": "basil"}
DUO = "duo/ada~basil"


def sound(one: Night) -> None:
    """Its figures and its requests are those of its journal, and nothing was bought twice."""
    assert verify(one.folder, one.left()).problems == ()
    assert Ledger.of(one.records()).asked_again == []
    assert one.billed <= one.counted


def statuses(one: Night) -> dict[str, str]:
    return {line["name"]: line["status"] for line in one.lines()}


def duo(after: Sequence[Any] = (), stop: Sequence[Any] = (), rounds: int = 2, **top: Any) -> dict[str, Any]:
    prompt = {"opening": "What survives?", "rounds": rounds, "after": list(after), "stop": list(stop)}
    return job({"duo": prompt}, [PAIR], "ada", "basil", "judge", **top)


def lived(one: Night, exit: int, *options: Options, **more: Any) -> Life:
    life = one.live(*options, **more)
    assert life.exit == exit, life.told
    sound(one)
    return life


# --- who speaks next ---------------------------------------------------------------------------------------------

TABLE = job(
    {
        "table": {
            "roles": {"one": {}, "two": {}, "three": {}},
            "opening": "Talk.",
            "rounds": 5,
            "order": "moderator",
            "moderator": {"model": "mod"},
        }
    },
    [{"prompt": "table", "one": "ada", "two": "basil", "three": "cleo"}],
    "ada", "basil", "cleo", "mod",
)  # fmt: skip
SPEAKERS = sim("mod", ada={"reply": {"texts": ["A1", "A2", "A3", "A4", "A5"]}},
               basil={"reply": {"texts": ["B1", "B2", "B3", "B4", "B5"]}},
               cleo={"reply": {"texts": ["C1", "C2", "C3", "C4", "C5"]}})  # fmt: skip
IN_ORDER = "onetwothree" * 5


def picks(*names: str) -> Says:
    """A moderator who names these, line by line, and then nobody."""

    def says(model: str, texts: Sequence[tuple[str, str]]) -> str | None:
        number = lines_shown(texts)
        return (names[number] if number < len(names) else "nobody") if model == "mod" else None

    return says


def test_a_moderator_says_who_speaks_and_each_is_shown_what_was_said_before() -> None:
    """Within a round each speaks once, in his order; he is asked where there is a choice, and heard by nobody."""
    one = night(TABLE, SPEAKERS, picks("three", "one", "-", "Two!", "three", "-"))
    lived(one, 0)
    line = line_of(one, "table/ada~basil~cleo")
    assert roles_of(line).startswith("threeonetwo" + "onethreetwo" + "onetwothree")
    assert len(line["turns"]) == 15 and line["rounds"] == {"planned": 5, "done": 5}
    assert texts_of(line)[:6] == ["C1", "A1", "B1", "A2", "C2", "B2"]
    assert sent_to(one, "ada")[:2] == [
        [("user", "Talk.\n\nthree: C1")],
        [("user", "Talk.\n\nthree: C1"), ("assistant", "A1"), ("user", "two: B1")],
    ]
    first, second = (shown[0][1] for shown in sent_to(one, "mod")[:2])
    assert first.startswith("Talk.\n\n") and first.endswith(
        "Next may speak: ada (one), basil (two), cleo (three). Answer with one name."
    )
    assert "[1] cleo (three):\nC1" in second
    assert second.endswith("Next may speak: ada (one), basil (two). Answer with one name.")


def test_nobody_speaks_twice_in_a_row_where_there_is_a_choice() -> None:
    """Who spoke last in a round may not be named as the first of the next one."""
    one = night(TABLE, SPEAKERS, picks("one", "two", "-", "three"))
    lived(one, 0)
    assert roles_of(line_of(one, "table/ada~basil~cleo")) == IN_ORDER
    fourth = sent_to(one, "mod")[2][0][1]
    assert fourth.endswith("Next may speak: ada (one), basil (two). Answer with one name.")


def test_a_moderator_may_answer_with_a_label() -> None:
    """Of what he is shown each name will do, in any case."""
    one = night(TABLE, SPEAKERS, picks("cleo", "Ada (one)", "-", "CLEO", "It is basil's turn."))
    lived(one, 0)
    assert roles_of(line_of(one, "table/ada~basil~cleo")).startswith("threeonetwo" + "threetwoone")


@pytest.mark.parametrize("answer", ["nobody", "one or two", "the moderator", "onetwo", "four"])
def test_who_names_nobody_that_may_speak_leaves_the_given_order(answer: str) -> None:
    """Nobody, several, himself, a word that only holds a name: the next in the given order speaks."""
    one = night(TABLE, SPEAKERS, lambda model, texts: answer if model == "mod" else None)
    lived(one, 0)
    assert roles_of(line_of(one, "table/ada~basil~cleo")) == IN_ORDER


@pytest.mark.parametrize("kind", ["server_error", "blank", "refusal", "malformed"])
def test_a_moderator_that_fails_is_asked_no_more_and_is_told_of(kind: str) -> None:
    """The talk goes on in the given order, complete; who looks is told that nobody chose."""
    one = night(TABLE, {**SPEAKERS, "faults": {"script": [{"kind": kind, "model": "mod"}]}})
    life = lived(one, 0, looked_on=True)
    assert roles_of(line_of(one, "table/ada~basil~cleo")) == IN_ORDER
    tried = len(sent_to(one, "mod"))
    assert 1 <= tried <= 4
    assert "moderator by mod" in one.text("index.md") and "1 failed: moderator by mod: " in life.screen
    lived(one, 0, Options(retry_failed=True))
    assert len(sent_to(one, "mod")) == tried, "of what is complete nobody says any more who is next"


def test_what_failed_beside_a_complete_talk_stays_told_when_others_are_taken_up() -> None:
    """Only what is to be held again is opened again."""
    both = {**TABLE, "prompts": {**TABLE["prompts"], "duo": {"opening": "O", "rounds": 1}}}
    both["pairings"] = [*TABLE["pairings"], {"prompt": "duo", "a": "dora", "b": "dora"}]
    both["models"] = {**TABLE["models"], "dora": {"use": "sim/dora", "price": {"input": 1, "output": 3}}}
    trouble = [{"kind": "server_error", "model": "mod"}, {"kind": "blank", "model": "dora"}]
    speakers = {**SPEAKERS, "models": {**SPEAKERS["models"], "dora": {}}, "faults": {"script": trouble}}
    one = night(both, speakers)
    lived(one, 3)
    assert "moderator by mod" in one.text("index.md")
    lived(one, 3, Options(retry_failed=True))
    assert "moderator by mod" in one.text("index.md")


def apart(prompts: dict[str, Any], pairing: dict[str, Any], whose: str, **top: Any) -> dict[str, Any]:
    """A job in which this model, who listens, is at a provider of its own."""
    one = job(prompts, [pairing], "ada", "basil", "cleo", whose, **top)
    one["models"][whose]["use"] = f"other/{whose}"
    return {**one, "providers": {"sim": {}, "other": {"type": "openai", "base_url": "http://other.sim/v1"}}}


DEAD_LISTENERS = ["not_found", "unauthorized", "no_money", "day"]


@pytest.mark.parametrize("kind", DEAD_LISTENERS)
def test_a_dead_moderator_leaves_the_given_order_and_is_told_of(kind: str) -> None:
    """No talk is hostage to somebody who only listens, also when his provider is gone; he is asked once."""
    listens = apart(TABLE["prompts"], TABLE["pairings"][0], "mod")
    one = night(listens, {**SPEAKERS, "faults": {"script": [{"kind": kind, "model": "mod"}]}})
    life = lived(one, 0, looked_on=True)
    assert roles_of(line_of(one, "table/ada~basil~cleo")) == IN_ORDER
    assert len(sent_to(one, "mod")) == 1
    assert "moderator by mod" in one.text("index.md") and "1 failed: moderator by mod: " in life.screen


@pytest.mark.parametrize("kind", DEAD_LISTENERS)
def test_a_dead_voter_is_a_vote_not_cast(kind: str) -> None:
    """The others decide, the talk goes on, and the voter is told of as his own failure."""
    stop = [{"vote": {"observer": "judge"}}, {"vote": {"observer": "cleo", "prompt": "Dull?"}}]
    prompt = {"opening": "What survives?", "rounds": 4, "stop": stop}
    faults = [{"kind": kind, "model": "judge"}]

    def says(model: str, texts: Sequence[tuple[str, str]]) -> str | None:
        return ("yes" if lines_shown(texts) == 4 else "no") if model == "cleo" else None

    one = night(apart({"duo": prompt}, PAIR, "judge"), sim("ada", "basil", "cleo", "judge", faults=faults), says)
    life = lived(one, 0, looked_on=True)
    assert line_of(one, DUO)["reason"] == "vote: 1 of 1 for the end, after round 2"
    assert len(sent_to(one, "judge")) == 1 and "\n  passed over: 1 failed: vote by judge: " in life.screen
    [told] = one.status()["passed_over"]
    assert (told["status"], told["observer"], told["conversations"]) == ("failed", "vote by judge", 1)
    assert told["reason"] and one.status()["observers"]["total"] == 0


def test_who_could_not_be_reached_is_asked_again_in_the_next_night_while_the_talk_goes_on() -> None:
    """A key that was refused may be put right: what was passed over meanwhile stays so, and the rest is his again."""
    slow = {**SPEAKERS["models"], "ada": {**SPEAKERS["models"]["ada"], "latency": {"first": 1}}}
    faults = {"script": [{"kind": "unauthorized", "model": "mod"}]}
    listens = apart(TABLE["prompts"], TABLE["pairings"][0], "mod")
    one = night(listens, {"models": slow, "faults": faults}, picks(*["two"] * 15))
    lived(one, 130, signals=[(2.5, SIGINT)])
    line = line_of(one, "table/ada~basil~cleo")
    said = sum(text is not None for text in texts_of(line))
    assert said == 7 and len(sent_to(one, "mod")) == 1
    assert "moderator by mod" in one.text("index.md")
    one.change(SPEAKERS)
    lived(one, 0)
    roles = [turn["role"] for turn in line_of(one, "table/ada~basil~cleo")["turns"]]
    assert "".join(roles[:said]) == IN_ORDER[: len("".join(roles[:said]))] and roles[9] == roles[12] == "two"
    assert "moderator by mod" not in one.text("index.md")


def test_a_moderator_at_the_provider_of_those_who_speak_waits_with_them() -> None:
    """Where the talk cannot go on anyway, nothing is said without him."""
    one = night(TABLE, {**SPEAKERS, "faults": {"script": [{"kind": "unauthorized", "model": "mod"}]}})
    lived(one, 3)
    assert one.status()["conversations"]["pending"] == 1 and one.counted == 0
    assert not any(isinstance(r.event, Heard) for r in one.records())
    one.change(SPEAKERS)
    lived(one, 0)
    assert statuses(one) == {"table/ada~basil~cleo": "complete"}


def test_a_voter_without_money_of_his_own_does_not_end_the_talk() -> None:
    """The ceiling of his model is his alone; one over the whole run stops the talk, too."""
    dear = duo(stop=[{"vote": {"observer": "judge", "max_tokens": 4000}}], rounds=4)
    for budget, code, done in (({"run": 5, "models": {"judge": 0.011}}, 0, 4), (0.0121, 4, 1)):
        one = night({**dear, "budget": budget}, sim("ada", "basil", "judge"), votes())
        lived(one, code)
        assert line_of(one, DUO)["rounds"]["done"] == done
        assert ("vote by judge" in one.text("index.md")) is (code == 0)


@pytest.mark.parametrize("number", range(20, 280, 20))
def test_a_table_that_was_killed_goes_on_in_the_order_that_was_named(number: int) -> None:
    """Whatever step it dies in, the whole is what it would have been."""
    says = picks("three", "one", "-", "two", "one", "-", "three")
    whole = night(TABLE, SPEAKERS, says)
    lived(whole, 0)
    broken = night(TABLE, SPEAKERS, says)
    broken.live(fault=planned({number: "kill"}, own=True))
    lived(broken, 0)
    name = "table/ada~basil~cleo"
    assert texts_of(line_of(broken, name)) == texts_of(line_of(whole, name))


# --- votes -------------------------------------------------------------------------------------------------------

VOTED = duo(stop=[{"vote": {"observer": "judge"}}], rounds=4)
TWO_VOTES = duo(stop=[{"vote": {"observer": "judge"}}, {"vote": {"observer": "judge", "prompt": "Dull?"}}], rounds=4)


def votes(*answers: str) -> Says:
    """A judge who answers so after each round, and no after that."""

    def says(model: str, texts: Sequence[tuple[str, str]]) -> str | None:
        number = lines_shown(texts) // 2
        return (answers[number - 1] if number <= len(answers) else "no") if model == "judge" else None

    return says


def test_a_vote_ends_a_conversation_with_its_reason() -> None:
    """It is complete, and no turn more is asked; the share is on record at the turn that was voted on."""
    one = night(VOTED, sim("ada", "basil", "judge"), votes("no", "Yes, it is."))
    life = lived(one, 0, looked_on=True)
    line = line_of(one, DUO)
    assert (line["status"], line["reason"]) == ("complete", "vote: 1 of 1 for the end, after round 2")
    assert [turn["weighed"]["vote"] for turn in line["turns"][:4]] == [None, 0.0, None, 1.0]
    assert len(sent_to(one, "judge")) == 2 and sum(text is not None for text in texts_of(line)) == 4
    assert "vote: 1 of 1 for the end, after round 2" in one.text("index.md")
    assert "vote: 1 of 1 for the end" in life.screen


def test_of_several_more_than_half_must_be_for_the_end() -> None:
    """One of two is not enough."""

    def says(model: str, texts: Sequence[tuple[str, str]]) -> str | None:
        if model != "judge":
            return None
        return "yes" if lines_shown(texts) == 6 or "Dull?" in texts[-1][1] else "no"

    one = night(TWO_VOTES, sim("ada", "basil", "judge"), says)
    lived(one, 0)
    assert line_of(one, DUO)["reason"] == "vote: 2 of 2 for the end, after round 3"


def test_who_votes_neither_yes_nor_no_abstains_from_then_on() -> None:
    """The others decide, and a conversation in which nobody votes goes on to its last line."""
    one = night(VOTED, sim("ada", "basil", "judge"), votes("perhaps", "yes"))
    lived(one, 0)
    line = line_of(one, DUO)
    assert (line["status"], line["reason"], line["rounds"]["done"]) == ("complete", None, 4)
    assert "vote by judge" in one.text("index.md")


def test_an_unclear_vote_is_asked_for_once_more() -> None:
    """It ends nothing and keeps nothing going by its first word; what is said then counts."""
    answers = iter(["Stop? No, not yet.", "No, not yet.", "No doubt: yes, it is over.", "Yes."])
    one = night(VOTED, sim("ada", "basil", "judge"), lambda model, texts: next(answers) if model == "judge" else None)
    lived(one, 0)
    line = line_of(one, DUO)
    assert line["reason"] == "vote: 1 of 1 for the end, after round 2" and len(sent_to(one, "judge")) == 4
    assert [turn["weighed"]["vote"] for turn in line["turns"][:4]] == [None, 0.0, None, 1.0]


@pytest.mark.parametrize("number", range(10, 130, 15))
def test_a_vote_counts_although_the_night_was_killed(number: int) -> None:
    """Who has voted is not asked again, and the end is the same."""
    one = night(VOTED, sim("ada", "basil", "judge"), votes("no", "yes"))
    one.live(fault=planned({number: "kill"}, own=True))
    lived(one, 0)
    assert line_of(one, DUO)["reason"] == "vote: 1 of 1 for the end, after round 2"


def test_votes_count_under_the_ceiling_of_their_conversation() -> None:
    """A budget for one conversation is for all that is said and asked while it goes on."""
    one = night(duo(stop=[{"vote": {"observer": "judge"}}], rounds=9, budget={"run": 5, "conversation": 0.004}),
                sim("ada", "basil", "judge"), votes())  # fmt: skip
    lived(one, 4)
    reading = one.reading()
    cell = reading.plan.cells[0]
    assert reading.state.of(cell.id).account.held < reading.spent(cell) <= 4_000_000


# --- who comments on the whole -----------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"depth": {"type": "integer"}}, "required": ["depth"]}
NOTES = {"observer": "judge", "prompt": "What was said?", "heading": "Notes"}
SCORES = {"observer": "judge", "kind": "scores", "prompt": "Score.", "schema": SCHEMA}
TITLES = {"observer": "judge", "kind": "titles"}


def test_observers_are_shown_the_whole_and_their_words_stand_in_the_views() -> None:
    """Notes, scores and titles: in the transcript, in the lines, and at no cost of the conversation."""

    def says(model: str, texts: Sequence[tuple[str, str]]) -> str | None:
        shown = texts[-1][1]
        if model != "judge":
            return None
        return (
            '```json\n{"depth": 3}\n```' if "Schema" in shown else '["w", "x", "y", "z"]' if "JSON" in shown else "N!"
        )

    one = night(duo([NOTES, SCORES, TITLES]), sim("judge", ada={"reply": {"texts": ["A1", "A2"]}},
                                                  basil={"reply": {"texts": ["B1", "B2"]}}), says)  # fmt: skip
    lived(one, 0)
    line = line_of(one, DUO)
    assert [(note["kind"], note["status"]) for note in line["after"]] == [
        ("notes", "complete"), ("scores", "complete"), ("titles", "complete")
    ]  # fmt: skip
    assert line["after"][1]["data"] == '{"depth": 3}'
    assert [turn["title"] for turn in line["turns"]] == ["w", "x", "y", "z"]
    assert sent_to(one, "judge")[0] == [
        ("user", "What survives?\n\n[1] ada:\nA1\n\n[2] basil:\nB1\n\n[3] ada:\nA2\n\n[4] basil:\nB2\n\nWhat was said?")
    ]
    assert "N!" in one.text(f"conversations/{DUO}.md")
    assert line["totals"]["spent"] < one.status()["spent"]["total"]
    assert one.status()["observers"]["complete"] == one.status()["observers"]["total"] == 3


SILENT = {
    "broken JSON": (SCORES, {}, "no JSON in the answer"),
    "not as the schema says": (SCORES, {"says": '{"depth": "deep"}'}, "not as the schema says, at depth"),
    "a refusal": (NOTES, {"kind": "refusal"}, "refused answer"),
    "a blank answer": (NOTES, {"kind": "blank"}, "no visible text"),
    "a server in trouble": (NOTES, {"kind": "server_error"}, "HTTP 503"),
}


@pytest.mark.parametrize("case", SILENT)
def test_what_becomes_of_an_observer_is_its_own_failure(case: str) -> None:
    """The dialogue is complete, and the night says who has not commented, and why, wherever one looks."""
    after, habits, why = SILENT[case]
    kind = habits.get("kind")
    faults = [{"kind": kind, "model": "judge"}] if kind else []
    one = night(duo([after]), sim("ada", "basil", "judge", faults=faults), lambda model, _: habits.get("says"))
    life = lived(one, 3, looked_on=True)
    line = line_of(one, DUO)
    assert (line["status"], line["reason"], line["rounds"]["done"]) == ("complete", None, 2)
    assert (line["after"][0]["status"], line["after"][0]["text"]) == ("failed", None)
    status = one.status()
    assert status["reasons"] == ["observers"] and status["conversations"]["complete"] == 1
    assert status["observers"]["failed"] == 1 and why in status["observers"]["why"][0]["reason"]
    who = "Notes by judge" if after is NOTES else "scores by judge"
    assert status["observers"]["why"][0]["observer"] == who
    assert f"observers: 0 of 1; 1 failed: {who}: " in life.screen
    assert f"{DUO}: {who}: failed: " in life.screen
    assert "Observers: 0 of 1 have commented." in one.text("index.md") and who in one.text("index.md")
    assert why[:20] in one.text(f"conversations/{DUO}.md")
    assert status["continue"] == "tertulia run job.yaml --retry-failed"
    if after is SCORES:
        assert len(sent_to(one, "judge")) == 2, "an answer that is no use is paid for: one more, and no third"


def test_a_silent_observer_is_asked_again_by_retry_failed_and_nobody_else_is() -> None:
    """Without the flag nothing is asked, and the night still says what is wrong."""
    one = night(duo([NOTES]), sim("ada", "basil", "judge", faults=[{"kind": "server_error", "model": "judge"}]))
    lived(one, 3)
    records = one.records()[-1].seq
    again = lived(one, 3)
    assert "1 observer failed" in again.told[0] and "--retry-failed" in again.told[1]
    assert asked_since(one, records) == []
    one.change(sim("ada", "basil", "judge"))
    lived(one, 0, Options(retry_failed=True))
    assert {sent.alias for sent in asked_since(one, records)} == {"judge"}
    assert one.status()["continue"] is None and "observers" not in lived(one, 0).told[0]


def test_a_life_about_a_part_that_is_well_does_not_hide_an_observer_who_failed() -> None:
    """The whole run ends with the code that its status and its index tell; once it is told, nothing is added."""
    one = night(duo([NOTES]), sim("ada", "basil", "judge", faults=[{"kind": "server_error", "model": "judge"}]))
    lived(one, 3)
    one.change(sim("ada", "basil", "judge"))
    assert branch(one, "extend", DUO, more_rounds=1).exit == 0 == one.status()["exit"]
    lived(one, 3)
    assert (one.status()["exit"], one.status()["reasons"]) == (3, ["observers"])
    assert "exit code 3" in one.text("index.md")
    records = len(one.records())
    lived(one, 3)
    assert len(one.records()) == records


def test_a_dead_observer_waits_for_the_next_night() -> None:
    """Its model is gone: pending, not failed, and the next run asks it without a flag."""
    fails = {**SCORES, "observer": "ada"}
    dead = [{"kind": "not_found", "model": "judge"}]
    one = night(duo([fails, NOTES]), sim("ada", "basil", "judge", faults=dead))
    lived(one, 3)
    observers = one.status()["observers"]
    assert (observers["pending"], observers["failed"]) == (1, 1)
    assert one.status()["continue"] == "tertulia run job.yaml --retry-failed"
    one.change(sim("ada", "basil", "judge"))
    records = one.records()[-1].seq
    lived(one, 3)
    assert [sent.alias for sent in asked_since(one, records)] == ["judge"], "who has failed is not asked again"
    assert one.status()["continue"] == "tertulia run job.yaml --retry-failed"


@pytest.mark.parametrize(
    ("after", "budget", "most"),
    [({**NOTES, "budget": 0.0001}, 5, "the budget of observer duo.after.1"), (NOTES, 0.0014, "the budget of the run")],
)
def test_an_observer_without_money_leaves_the_dialogue_complete(
    after: dict[str, Any], budget: float, most: str
) -> None:
    """Its own ceiling or the run's: it is asked nothing, and more money lets it comment."""
    one = night(duo([after], budget=budget), sim("ada", "basil", "judge"))
    one.live()
    status = one.status()
    assert (status["exit"], status["reasons"], status["conversations"]["complete"]) == (3, ["observers"], 1), status
    assert (status["observers"]["budget"], status["observers"]["why"][0]["reason"]) == (1, most)
    assert sent_to(one, "judge") == []
    sound(one)


def means(one: Night) -> dict[str, Any]:
    """What the run needs before it goes on, as it says itself."""
    status = one.status()
    return {"reason": status["observers"]["why"][0]["reason"], "raise": status["too_low"], "with": status["continue"]}


OWN = "the budget of observer duo.after.1"


@pytest.mark.parametrize("whose", ["observer", "model", "provider"])
def test_an_observer_whose_own_money_is_short_is_not_sent_to_the_budget_of_the_run(whose: str) -> None:
    """More for the run would not help: what is named is what has to be raised, and the run where that is short, too."""
    own = {"budget": 0.0001} if whose == "observer" else {}
    name = {"observer": OWN, "model": "the budget of model judge", "provider": "the budget of provider other"}[whose]
    caps = {"model": {"models": {"judge": 0.0001}}, "provider": {"providers": {"other": 0.0001}}}.get(whose, {})
    prompt = {"opening": "What survives?", "rounds": 2, "after": [{**NOTES, **own}]}
    short = apart({"duo": prompt}, PAIR, "judge", budget={"run": 0.0014, **caps})
    one = night(short, sim("ada", "basil", "judge"))
    life = one.live(looked_on=True)
    command = one.status()["continue"]
    assert means(one)["reason"] == name and means(one)["raise"] == [name]
    assert command.startswith("tertulia run job.yaml --budget "), "the run has too little for it, too"
    lines = life.screen.splitlines()
    first = lines.index(f"  first raise {name} in the job file: it is too low for an observer")
    assert lines[first + 1] == f"  what is missing goes on with: {command}"
    assert f"First raise {name} in the job file" in one.text("index.md")
    enough = apart({"duo": {**prompt, "after": [NOTES]}}, PAIR, "judge", budget=float(command.split()[-1]))
    one.job = enough
    lived(one, 0)
    assert one.status()["too_low"] == [] and one.status()["observers"]["complete"] == 1


def test_an_observer_with_too_little_of_his_own_needs_no_more_for_the_run() -> None:
    """Where the run has room for him nothing is said of its budget."""
    one = night(duo([{**NOTES, "budget": 0.0001}], budget=5), sim("ada", "basil", "judge"))
    one.live()
    assert means(one) == {"reason": OWN, "raise": [OWN], "with": "tertulia run job.yaml"}


def test_an_observer_for_whom_the_run_is_short_is_sent_to_its_budget_alone() -> None:
    """His own reaches."""
    one = night(duo([{**NOTES, "budget": 4}], budget=0.0014), sim("ada", "basil", "judge"))
    one.live()
    found = means(one)
    assert (found["reason"], found["raise"]) == ("the budget of the run", [])
    lived(one, 0, Options(budget=round(float(found["with"].split()[-1]) * 1e9)))


def test_the_ceiling_of_a_conversation_or_a_pairing_is_not_for_who_comments_on_it() -> None:
    """A comment that would pass either is asked for all the same."""
    tight = duo([NOTES], budget={"run": 5, "conversation": 0.0014})
    tight["pairings"] = [{**PAIR, "budget": 0.0014}]
    one = night(tight, sim("ada", "basil", "judge"))
    lived(one, 0)
    assert one.status()["ceilings"][1]["name"] == "pairing 1"
    assert one.status()["ceilings"][1]["held"] < one.status()["spent"]["total"]


def test_an_observer_that_ran_out_of_the_runs_money_is_taken_up_with_the_budget_that_is_named() -> None:
    """The command that goes on has room for it."""
    one = night(duo([NOTES], budget=0.0014), sim("ada", "basil", "judge"))
    lived(one, 3)
    command = one.status()["continue"]
    assert "--budget 0." in command
    lived(one, 0, Options(budget=round(float(command.rpartition(" ")[2]) * 1e9)))


def test_an_observer_that_ran_out_of_money_stays_so_until_it_is_asked_again() -> None:
    """A later life about another conversation leaves it as it stands, with its reason."""
    one = night(duo([{**NOTES, "budget": 0.0001}]), sim("ada", "basil", "judge"))
    lived(one, 3)
    before = line_of(one, DUO)["after"]
    assert (before[0]["status"], before[0]["reason"]) == ("budget", "the budget of observer duo.after.1")
    lived(one, 3, Options(wish=Wish("extend", (DUO,), more_rounds=1)))
    assert line_of(one, DUO)["after"] == before
    assert one.status()["observers"]["budget"] == 2
    lived(one, 0, job=duo([{**NOTES, "budget": 1}]))
    assert one.status()["observers"]["complete"] == 2


def test_a_conversation_that_a_life_leaves_alone_stays_as_it_stands() -> None:
    """What the money did not reach for is told as such until it is taken up, and then it is held."""
    many = {**duo(budget=0.0016), "pairings": [{**PAIR, "repeat": 3}]}
    one = night(many, sim("ada", "basil"))
    lived(one, 4)
    before = statuses(one)
    left, done = (next(name for name in before if before[name] == status) for status in ("budget", "complete"))
    dollar = 1_000_000_000
    lived(one, 0, Options(wish=Wish("extend", (done,), more_rounds=1), budget=dollar))
    assert statuses(one) == {**before, f"{done}.extend1": "complete"}
    assert line_of(one, left)["reason"] == "the budget of the run"
    lived(one, 0, Options(budget=dollar))
    assert set(statuses(one).values()) == {"complete"}


def test_what_an_earlier_life_has_told_of_observers_is_not_told_again() -> None:
    """Only who was asked in this one; the summary counts all."""
    one = night(duo([SCORES]), sim("ada", "basil", "judge"))
    assert f"{DUO}: scores by judge: failed: " in lived(one, 3, looked_on=True).screen
    later = lived(one, 3, looked_on=True, job=duo([SCORES, NOTES]))
    assert f"{DUO}: scores by judge" not in later.screen and f"{DUO}: complete" in later.screen
    assert "1 failed: scores by judge" in later.screen
    again = lived(one, 3, Options(retry_failed=True), looked_on=True, job=duo([SCORES, NOTES]))
    assert f"{DUO}: scores by judge: failed: " in again.screen


def test_a_night_that_is_stopped_before_an_observer_has_spoken_was_interrupted() -> None:
    """The exit code says that somebody stopped it."""
    one = night(duo([NOTES]), sim("ada", "basil", judge={"latency": {"first": 30}}))
    lived(one, 130, signals=[(2.0, SIGINT), (3.0, SIGINT)])
    assert one.status()["reasons"] == ["interrupted"]
    lived(one, 0)


def test_an_observer_may_be_engaged_when_all_is_said() -> None:
    """It comments on what is complete, once, and nothing that was said is asked again."""
    one = night(duo(), sim("ada", "basil", "judge"))
    lived(one, 0)
    records = one.records()[-1].seq
    assert observe(one, "judge", "What now?").exit == 0
    assert [sent.alias for sent in asked_since(one, records)] == ["judge"]
    assert "What now?" in sent_to(one, "judge")[0][0][1]
    assert [note["heading"] for note in line_of(one, DUO)["after"]] == ["Later"]
    assert observe(one, "judge", "What now?").exit == 0, "who has commented is not asked again"
    assert len(sent_to(one, "judge")) == 1 and [r.event.kind for r in one.records()].count("engaged") == 1
    assert observe(one, "judge", "Anything else?").exit == 0
    assert len(line_of(one, DUO)["after"]) == 2
    same = engaged(one, "judge", "What now?")
    again = Engaged(same.prompts, {**same.listener, "heading": "The same under another name"})
    lived(one, 0, Options(observers_only=True, engaged=again))
    assert len(sent_to(one, "judge")) == 2
    assert sum(isinstance(r.event, Engaged) for r in one.records()) == 3
    sound(one)


def test_an_observer_who_is_engaged_for_some_conversations_is_asked_about_those_alone() -> None:
    """Not by the next run either, and once about each, however often it was engaged for it."""
    one = night({**duo(), "pairings": [{**PAIR, "repeat": 3}]}, sim("ada", "basil", "judge"))
    lived(one, 0)
    asked = engaged(one, "judge", "What now?")
    lived(one, 0, Options(only=(f"{DUO}.r2",), observers_only=True, engaged=asked))
    assert [len(line["after"]) for line in one.lines()] == [0, 1, 0]
    lived(one, 0)
    assert len(sent_to(one, "judge")) == 1
    lived(one, 0, Options(only=(f"{DUO}.r[23]",), observers_only=True, engaged=asked))
    assert [len(line["after"]) for line in one.lines()] == [0, 1, 1]
    assert len(sent_to(one, "judge")) == 2


def test_who_listened_is_no_conversation_when_the_job_has_changed() -> None:
    """One conversation is replaced, with all that it has cost; what was asked about it is counted with it."""
    one = night(duo([NOTES, TITLES], stop=[{"vote": {"observer": "judge"}}]), sim("ada", "basil", "judge"))
    one.live()
    spent = one.counted
    edited = duo([{**NOTES, "prompt": "What else?"}], stop=[{"vote": {"observer": "judge"}}], rounds=3)
    one.live(Options(accept_changes=True), job=edited)
    status = one.status()
    assert status["replaced"] == {"conversations": 1, "cost": pytest.approx(spent / 1e9)}
    assert status["observers"]["total"] == 1
    state, plan = one.reading().state, one.reading().plan
    found = outlook(plan, state, plan.cells, prices(plan), means_of(state), 4)
    assert found.counts["replaced"] + found.counts["done"] == 2
    sound(one)


def test_an_observer_that_is_new_in_the_job_is_expected_and_asked() -> None:
    """It is no part of what was said, so that nothing else is."""
    one = night(duo(), sim("ada", "basil", "judge"))
    lived(one, 0)
    records = one.records()[-1].seq
    lived(one, 0, job=duo([NOTES]))
    assert [sent.alias for sent in asked_since(one, records)] == ["judge"]
    assert [note["heading"] for note in line_of(one, DUO)["after"]] == ["Notes"]


def test_a_call_of_somebody_who_listens_has_a_name() -> None:
    """Where its cost is assumed, people can say which one is meant."""
    faults = [{"kind": "silent", "model": "judge"}]
    quick = {"max_tokens": 200, "timeout": {"first": "5s", "idle": "5s", "total": "9s"}}
    one = night(duo([NOTES], defaults=quick), sim("ada", "basil", "judge", faults=faults))
    one.live()
    reading = one.reading()
    names = {call.name for call in assumed_calls(reading.state, reading.plan)}
    assert f"{DUO} (Notes by judge)#4.1" in names


# --- lines from outside ------------------------------------------------------------------------------------------

LETTERS = job(
    {"letters": {"roles": {"me": {"inbox": {"file": "inbox/{{conversation}}.md"}}, "it": {}}, "rounds": 2}},
    [{"prompt": "letters", "it": "ada"}],
    "ada",
)
BOX = "inbox/letters/ada.md"


def test_a_letter_is_waited_for_at_no_cost_and_goes_on_when_it_is_there() -> None:
    """No call, no money, exit 3, and the place is named; what was taken stands in the journal and stays."""
    one = night(LETTERS, sim("ada"))
    life = lived(one, 3, looked_on=True)
    assert one.engine.received == [] and one.counted == 0 and one.status()["reasons"] == ["pending"]
    assert f"waits for a line of me: {BOX} is not there" in one.status()["why"][0]["reason"]
    assert BOX in life.screen and BOX in one.text("index.md")
    drop(one, BOX, "Dear Ada,\nhow are you?\n")
    lived(one, 3)
    assert f"{BOX} holds 1 line, and line 2 is waited for" in one.status()["why"][0]["reason"]
    drop(one, BOX, "Another text.\n\n<!-- turn -->\n\nThank you.\n")
    lived(one, 0)
    line = line_of(one, "letters/ada")
    assert (texts_of(line)[0], texts_of(line)[2]) == ("Dear Ada,\nhow are you?", "Thank you.")
    assert line["turns"][0]["heard"] == BOX
    assert sent_to(one, "ada")[1][0] == ("user", "Dear Ada,\nhow are you?")
    assert len(sent_to(one, "ada")) == 2
    drop(one, BOX, "Edited.")
    lived(one, 0)
    assert "Edited" not in one.text("conversations/letters/ada.md")


def test_the_box_of_a_branch_holds_what_is_new_and_a_redo_goes_on_in_that_of_its_origin() -> None:
    """Nobody repeats his earlier letters, and none is taken twice for want of that."""
    one = night(LETTERS, sim("ada"))
    drop(one, BOX, "First.\n\n<!-- turn -->\n\nSecond.")
    lived(one, 0)
    assert branch(one, "extend", "letters/ada", more_rounds=1).exit == 3
    drop(one, "inbox/letters/ada.extend1.md", "Third.")
    lived(one, 0)
    assert texts_of(line_of(one, "letters/ada.extend1"))[::2] == ["First.", "Second.", "Third."]
    drop(one, BOX, "First.\n\n<!-- turn -->\n\nAnother second.")
    assert branch(one, "redo", "letters/ada", turn=3).exit == 0
    assert texts_of(line_of(one, "letters/ada"))[::2] == ["First.", "Another second."]
    assert branch(one, "redo", "letters/ada.extend1", turn=6).exit == 0
    assert texts_of(line_of(one, "letters/ada.extend1"))[::2] == ["First.", "Second.", "Third."]
    sound(one)


@pytest.mark.parametrize(
    ("content", "why"),
    [(b" \n", "holds no line yet"), (b"\xff\xfe", "is not UTF-8"), ("\u200b".encode(), "holds no line yet")],
)
def test_a_letter_that_is_none_is_waited_for(content: bytes, why: str) -> None:
    """Blank, or not UTF-8: said with the place, and never sent."""
    one = night(LETTERS, sim("ada"))
    one.disk.put(Path(BOX), content)
    lived(one, 3)
    assert why in one.status()["why"][0]["reason"] and one.engine.received == []


COMMAND = job(
    {"letters": {"roles": {"me": {"inbox": {"command": ["./next", "{{conversation}}"]}}, "it": {}}, "rounds": 2}},
    [{"prompt": "letters", "it": "ada"}],
    "ada",
)


@pytest.mark.parametrize(
    ("ran", "why"),
    [
        (Ran(0, b"", b""), "`./next letters/ada` gave none"),
        (Ran(0, b" \n", b""), "gave none"),
        (Ran(3, b"text", b"no network\n"), "ended with code 3"),
        (None, "gave none within 60 s"),
    ],
)
def test_a_command_that_gives_no_line_is_asked_at_the_next_run(ran: Ran | None, why: str) -> None:
    """It prints nothing, fails, or hangs: the conversation waits, and costs nothing."""
    one = night(COMMAND, sim("ada"), programs=ScriptedPrograms(lambda command, given, environ: ran))
    lived(one, 3)
    assert why in one.status()["why"][0]["reason"] and one.counted == 0
    one.programs = ScriptedPrograms(lambda command, given, environ: Ran(0, b"\nA line.\n", b""))
    lived(one, 0)
    assert texts_of(line_of(one, "letters/ada"))[::2] == ["A line.", "A line."]


def test_a_command_is_told_what_was_said() -> None:
    """On its standard input as JSON, and who is to speak in its variables; without one that can be run it waits."""
    one = night(COMMAND, sim("ada"))
    lived(one, 3)
    assert "`./next letters/ada` cannot be run" in one.status()["why"][0]["reason"]
    seen: list[tuple[bytes, str]] = []

    def says(command: Sequence[str], given: bytes, environ: Any) -> Ran:
        seen.append((given, environ["TERTULIA_ROLE"] + environ["TERTULIA_TURN"]))
        return Ran(0, b"Go on?", b"")

    one.programs = ScriptedPrograms(says)
    lived(one, 0)
    assert [turn for _, turn in seen] == ["me1", "me3"]
    assert b'"said":[]' in seen[0][0] and b'{"number":1,"role":"me","text":"Go on?"}' in seen[1][0]


def test_a_letter_that_was_taken_is_not_taken_again_after_a_kill() -> None:
    """What stands in the journal holds, whatever stands in the drop-box now."""
    for number in range(5, 60, 6):
        one = night(LETTERS, sim("ada"))
        drop(one, BOX, "First.\n\n<!-- turn -->\n\nSecond.")
        one.live(fault=planned({number: "kill"}, own=True))
        began = one.disk.exists(one.folder / "journal.jsonl")
        heard = [r.event.text for r in one.records() if isinstance(r.event, Heard)] if began else []
        drop(one, BOX, "Other.\n\n<!-- turn -->\n\nSecond.")
        lived(one, 0)
        assert texts_of(line_of(one, "letters/ada"))[0] == (heard or ["Other."])[0]


def beside_a_talk(inbox: dict[str, Any], **top: Any) -> dict[str, Any]:
    """Letters of two friends, and two models who talk meanwhile, of whom one writes to them as well."""
    prompts = {
        "letters": {"roles": {"me": {"inbox": inbox}, "it": {}}, "rounds": 2},
        "duo": {"opening": "What survives?", "rounds": 5},
    }
    return job(prompts, [{"prompt": "letters", "it": "ada", "repeat": 2}, PAIR], "ada", "basil", **top)


BY_FILE = beside_a_talk({"file": "inbox/{{conversation}}.md"})
BY_COMMAND = beside_a_talk({"command": ["./next", "{{conversation}}"], "every": "2m"})
SLOW = sim("ada", basil={"latency": {"first": 100}})
"""Five rounds take nearly nine minutes."""


def when_asked(one: Night, model: str, number: int, do: Any) -> Any:
    """Do this when the model is about to be asked for this time."""
    asked = 0

    def before(request: Any) -> None:
        nonlocal asked
        asked += orjson.loads(request.body)["model"] == model
        if asked == number and orjson.loads(request.body)["model"] == model:
            do()

    return before


@pytest.mark.parametrize("options", [Options(observers_only=True), Options(only=(DUO,))])
def test_a_run_of_which_a_part_waits_is_not_told_as_complete(options: Options) -> None:
    """Nothing is left to do in the part that was named, of which the exit code speaks; the line speaks of the rest."""
    prompts = {**LETTERS["prompts"], "duo": {"opening": "What survives?", "rounds": 1, "after": [NOTES]}}
    one = night(job(prompts, [*LETTERS["pairings"], PAIR], "ada", "basil", "judge"), sim("ada", "basil", "judge"))
    lived(one, 3)
    assert lived(one, 0, options).told == [
        "kinds/main: nothing to do in what was asked for, 0 calls; not complete: 1 of the 2 conversations of the run",
        "  to go on with them: tertulia run job.yaml",
    ]


@pytest.mark.parametrize("budget", [5, 0.0045])
def test_a_letter_that_comes_while_others_talk_is_taken_in_the_same_night(budget: float) -> None:
    """Both of its lines; the one that never comes holds back no model and no money, and is told at the end."""
    one = night({**BY_FILE, "budget": budget}, SLOW)
    both = "Dear Ada.\n\n<!-- turn -->\n\nThank you."
    life = lived(one, 3, before=when_asked(one, "basil", 3, lambda: drop(one, BOX, both)), looked_on=True)
    assert statuses(one) == {"letters/ada": "complete", DUO: "complete", "letters/ada.r2": "pending"}
    assert 500 < life.seconds < 520
    heard = [r.at for r in one.records() if isinstance(r.event, Heard)]
    assert 200 < heard[0] - one.records()[0].at < 262, "within a minute"
    assert "letters/ada.r2.md is not there" in one.status()["why"][0]["reason"]
    assert "waits for a line of me" in life.screen


def test_where_nobody_talks_a_run_ends_at_once_and_says_who_is_waited_for() -> None:
    """Several that wait keep each other company, but no run open; none is looked for twice."""
    only = {**BY_COMMAND, "pairings": BY_COMMAND["pairings"][:1]}
    one = night(only, sim("ada"), programs=ScriptedPrograms(lambda command, given, environ: Ran(0, b"", b"")))
    life = lived(one, 3)
    assert life.seconds < 1 and isinstance(one.programs, ScriptedPrograms)
    assert sorted(command[1] for command, _ in one.programs.ran) == ["letters/ada", "letters/ada.r2"]
    assert {why["reason"].rpartition(": ")[2] for why in one.status()["why"]} == {
        "`./next letters/ada` gave none", "`./next letters/ada.r2` gave none"
    }  # fmt: skip


def test_a_command_is_run_as_often_as_the_job_says_and_once_more_at_the_end() -> None:
    """Nine minutes, and every two of them: six times for each."""
    one = night(BY_COMMAND, SLOW, programs=ScriptedPrograms(lambda command, given, environ: Ran(0, b"", b"")))
    lived(one, 3)
    assert isinstance(one.programs, ScriptedPrograms)
    assert len(one.programs.ran) == 2 * 6


@pytest.mark.fault(2)
@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "--max-time", "deadline"])
def test_a_command_that_hangs_ends_soon_after_the_night_is_to_end(how: str) -> None:
    """Nobody waits out its minute; it has a few seconds, and its conversation goes on with the next run."""
    asked = {**COMMAND, "deadline": "10s"} if how == "deadline" else COMMAND
    one = night(asked, sim("ada"), programs=ScriptedPrograms(lambda command, given, environ: None))
    signals = [(10.0, Signals[how])] if how.startswith("SIG") else []
    life = one.live(Options(max_time=10.0 if how == "--max-time" else None), signals=signals)
    assert 10 <= life.seconds < 17
    assert life.exit == {"SIGINT": 130, "SIGTERM": 143}.get(how, 3)
    assert one.status()["why"][0]["reason"] == "waits for a line of me: it was still asked for when the run ended"
    one.programs = ScriptedPrograms(lambda command, given, environ: Ran(0, b"A line.", b""))
    lived(one, 0)


def test_a_line_that_a_command_gives_while_the_night_ends_is_kept() -> None:
    """It may have been the only copy: the command has a few seconds more."""

    class Slow(ScriptedPrograms):
        async def run(self, *given: Any) -> Ran:
            await anyio.sleep(13.0)
            return Ran(0, b"A line.", b"")

    one = night(COMMAND, sim("ada"), programs=Slow())
    life = one.live(signals=[(10.0, SIGINT)])
    assert (life.exit, texts_of(line_of(one, "letters/ada"))[0]) == (130, "A line.")


def test_commands_that_hang_do_not_keep_each_other_waiting() -> None:
    """Each is given up after a minute, and none is run over and over because another one still is."""
    only = {**BY_COMMAND, "pairings": BY_COMMAND["pairings"][:1]}
    one = night(only, sim("ada"), programs=ScriptedPrograms(lambda command, given, environ: None))
    assert lived(one, 3).seconds < 200 and isinstance(one.programs, ScriptedPrograms)
    assert len(one.programs.ran) == 3, "the first one once more, for the second has taken a minute meanwhile"


def test_when_a_late_letter_has_come_others_wait_again() -> None:
    """The run was about to end: two were looked for once more and found, and while one is answered the other waits."""
    times: dict[str, int] = {}

    def says(command: Sequence[str], given: bytes, environ: Any) -> Ran:
        times[command[1]] = times.get(command[1], 0) + 1
        return Ran(0, b"A line." if times[command[1]] % 2 == 0 else b"", b"")

    late = beside_a_talk({"command": ["./next", "{{conversation}}"], "every": "4h"})
    late["pairings"] = [{"prompt": "letters", "it": ["ada", "basil"]}, PAIR]
    one = night(late, SLOW, programs=ScriptedPrograms(says))
    lived(one, 3)
    assert statuses(one) == {"letters/ada": "complete", "letters/basil": "pending", DUO: "complete"}
    assert times == {"letters/ada": 4, "letters/basil": 3}


def test_a_run_that_is_stopped_waits_for_no_letter() -> None:
    """Nor does it look once more."""
    one = night(BY_COMMAND, SLOW, programs=ScriptedPrograms(lambda command, given, environ: Ran(0, b"", b"")))
    life = lived(one, 130, signals=[(150.0, SIGINT)])
    assert isinstance(one.programs, ScriptedPrograms)
    assert len(one.programs.ran) == 4 and life.seconds < 210


# --- going on with what is there ---------------------------------------------------------------------------------


def eight_rounds() -> Night:
    """A scripted side of eight rounds, and a model whose eighth answer is blank and counted at nothing."""
    script = [f"Question {n}?" for n in range(1, 9)]
    return night(
        job({"eight": {"roles": {"me": {"script": script}, "it": {}}}}, [{"prompt": "eight", "it": "ada"}], "ada"),
        sim(ada={"reply": {"texts": [f"Answer {n}." for n in range(1, 9)]}},
            faults=[{"kind": "blank", "contains": "Question 8?"}]),
    )  # fmt: skip


def test_eight_rounds_of_which_the_last_answer_is_blank_are_mended_by_one_turn() -> None:
    """The transcript says 7 of 8 and why, the night ends with 3, and `redo` says that one turn again, and no other."""
    one = eight_rounds()
    lived(one, 3)
    line = line_of(one, "eight/ada")
    assert (line["status"], line["rounds"]) == ("failed", {"planned": 8, "done": 7})
    assert len(sent_to(one, "ada")) == 10, "seven answers, and three blank ones"
    page = one.text("conversations/eight/ada.md")
    assert "7 of 8" in page and "no visible text" in page and "Answer 7." in page
    one.change(sim(ada={"reply": {"texts": [f"Answer {n}." for n in range(1, 9)]}}))
    records, spent = one.records()[-1].seq, one.counted
    redone = branch(one, "redo", "eight/ada")
    assert (redone.exit, redone.told) == (0, ["eight/ada goes on with eight/ada.old1 from turn 16"])
    assert [(sent.turn, sent.attempt) for sent in asked_since(one, records)] == [(16, 1)]
    mended = line_of(one, "eight/ada")
    assert (mended["status"], mended["rounds"]["done"], texts_of(mended)[-1]) == ("complete", 8, "Answer 8.")
    assert mended["origin"]["kind"] == "redo" and mended["origin"]["id"] == line["id"]
    assert mended["totals"]["spent"] == pytest.approx((one.counted - spent) / 1e9)
    assert "7 of 8" in one.text("conversations/eight/ada.old1.md")
    assert [_meant(one.reading(), name).name for name in ("eight/ada", "old1")] == ["eight/ada", "eight/ada.old1"]
    status = one.status()
    assert (status["exit"], status["conversations"]["total"], status["mended"]["conversations"]) == (0, 1, 1)
    assert status["replaced"]["conversations"] == 0 and status["mended"]["cost"] == pytest.approx(spent / 1e9)
    assert "Mended: 1, " in one.text("index.md")
    sound(one)


def test_a_conversation_grows_longer_and_what_was_said_is_not_asked_again() -> None:
    """Two rounds and one more: its first turns are those of the other, and cost it nothing."""
    one = night(duo(), sim("ada", "basil"))
    lived(one, 0)
    before, records = texts_of(line_of(one, DUO)), one.records()[-1].seq
    assert branch(one, "extend", "duo/*", more_rounds=1).exit == 0
    longer = line_of(one, f"{DUO}.extend1")
    assert texts_of(longer)[:4] == before and len(longer["turns"]) == 6
    assert [turn["carried"] for turn in longer["turns"]] == [True] * 4 + [False] * 2
    assert [sent.turn for sent in asked_since(one, records)] == [5, 6]
    assert sent_to(one, "ada")[-1] == sent_to(one, "ada")[1] + [("assistant", before[2]), ("user", before[3])]
    assert statuses(one) == {DUO: "complete", f"{DUO}.extend1": "complete"}
    sound(one)


def test_a_fork_says_the_rest_with_another_model_or_under_another_prompt() -> None:
    """From any turn, also from before the first one; the origin stays as it was."""
    prompts = {
        "duo": {"opening": "What survives?", "rounds": 2},
        "other": {"opening": "What is lost?", "rounds": 3},
    }
    one = night(job(prompts, [PAIR], "ada", "basil", "cleo"), sim("ada", "basil", "cleo"))
    lived(one, 0)
    before = texts_of(line_of(one, DUO))
    assert branch(one, "fork", DUO, turn=1, models={"b": "cleo"}).exit == 0
    assert branch(one, "fork", DUO, turn=0, prompt="other").exit == 0
    first, second = line_of(one, f"{DUO}.fork1"), line_of(one, f"{DUO}.fork2")
    assert texts_of(first)[0] == before[0] and texts_of(first)[1:] != before[1:]
    assert [turn["alias"] for turn in first["turns"]] == ["ada", "cleo", "ada", "cleo"]
    assert len(second["turns"]) == 6 and sent_to(one, "ada")[-3] == [("user", "What is lost?")]
    assert texts_of(line_of(one, DUO)) == before
    sound(one)


def test_a_talk_with_a_moderator_is_branched_within_a_round() -> None:
    """Who has spoken in the round stays so, and those who are left speak, each once."""
    one = night(TABLE, SPEAKERS, picks("three", "one"))
    lived(one, 0)
    assert branch(one, "fork", "table/*", turn=4).exit == 0
    line = line_of(one, "table/ada~basil~cleo.fork1")
    roles = [turn["role"] for turn in line["turns"]]
    assert roles[:4] == ["three", "one", "two", "one"]
    assert all(sorted(roles[n : n + 3]) == ["one", "three", "two"] for n in range(0, 15, 3))
    sound(one)


def test_what_was_redone_is_redone_again_and_each_stays() -> None:
    """The newest has the name; the others stand beside it, and none is held or paid again."""
    one = night(duo(), sim("ada", "basil"))
    lived(one, 0)
    for _ in range(2):
        assert branch(one, "redo", DUO, turn=3).exit == 0
    names = {path.name for path in one.left().files if path.parent.name == "duo"}
    assert names == {"ada~basil.md", "ada~basil.old1.md", "ada~basil.old2.md"}
    assert statuses(one) == {DUO: "complete"} and one.status()["mended"]["conversations"] == 1
    assert branch(one, "extend", DUO, more_rounds=1).exit == 0
    sound(one)


def test_what_failed_again_or_was_cut_off_again_is_not_mended() -> None:
    """It is told apart, wherever one looks, until a later `redo` comes out well; the money of all is counted."""
    one = eight_rounds()
    lived(one, 3)
    spent = one.counted
    assert isinstance(one.engine, Oracle)
    one.engine.says = lambda model, texts: " "
    again = one.live(Options(wish=Wish("redo", ("eight/*",))), looked_on=True)
    assert again.exit == 3
    mended = one.status()["mended"]
    assert mended == {"conversations": 0, "in_vain": 1, "unfinished": 0, "cost": pytest.approx(spent / 1e9)}
    assert "Mended: 0, redone in vain: 1, $" in one.text("index.md")
    assert "mended: 0, redone in vain: 1, $" in again.screen
    one.engine.says = lambda model, texts: None
    one.change(sim(ada={"reply": {"mean": 900, "spread": 0}}))
    branch(one, "redo", "eight/*")
    assert (one.status()["mended"]["in_vain"], one.status()["flags"]["truncated"]) == (1, 1)
    one.engine.says = lambda model, texts: "Answer."
    assert branch(one, "redo", "eight/*").exit == 0
    mended = one.status()["mended"]
    assert (mended["conversations"], mended["in_vain"], mended["unfinished"]) == (1, 0, 0)
    assert "Mended: 1, $" in one.text("index.md")
    sound(one)


def test_what_is_not_redone_yet_is_not_mended() -> None:
    """A branch that was killed is told as one that is not at its end."""
    one = eight_rounds()
    lived(one, 3)
    said = len(one.records())
    for number in range(12, 60, 6):
        assert (
            one.live(Options(wish=Wish("redo", ("eight/*",))), fault=planned({number: "kill"}, own=True)).exit is None
        )
        if any(isinstance(r.event, Branched) for r in one.records()[said:]):
            break
    redone = one.reading().redone()
    assert (redone.mended, redone.in_vain, redone.unfinished) == (0, 0, 1)


def test_a_wish_that_was_killed_goes_on_when_it_is_wished_again_and_is_not_held_twice() -> None:
    """One branch, whose turns are each asked once; when it is complete, the same wish asks nothing."""
    one = night(duo(), sim("ada", "basil"))
    lived(one, 0)
    wish = Options(wish=Wish("fork", (DUO,), turn=1, models={"b": "ada"}))
    said = len(one.replies())
    for number in range(24, 60, 6):
        assert one.live(wish, fault=planned({number: "kill"}, own=True)).exit is None
        if len(one.replies()) > said:
            break
    again = lived(one, 0, wish)
    assert again.told[0] == f"{DUO}.fork1 goes on with {DUO} from turn 2, as was asked for before"
    assert statuses(one) == {DUO: "complete", f"{DUO}.fork1": "complete"}
    records = one.records()[-1].seq
    assert "nothing to do" in lived(one, 0, wish).told[-1]
    assert asked_since(one, records) == []


def test_a_fork_under_a_prompt_whose_words_have_changed_is_another_conversation() -> None:
    """What was held under the old ones is kept, and counted as replaced."""
    prompts = {"duo": {"opening": "What survives?", "rounds": 2}, "other": {"opening": "What is lost?", "rounds": 1}}
    one = night(job(prompts, [PAIR], "ada", "basil"), sim("ada", "basil"))
    lived(one, 0)
    assert branch(one, "fork", DUO, turn=0, prompt="other").exit == 0
    one.job = job({**prompts, "other": {"opening": "What is found?", "rounds": 1}}, [PAIR], "ada", "basil")
    assert one.live().told[1:2] == [f"  {DUO}.fork1"], "what is complete is not left behind unasked"
    records, refused = len(one.records()), branch(one, "extend", DUO, more_rounds=1)
    assert (refused.exit, refused.told[1], len(one.records())) == (2, f"  {DUO}.fork1", records), "nor a wish kept"
    renamed = {"talk": prompts["duo"], "other": {"opening": "What is found?", "rounds": 1}}
    also = one.live(job=job(renamed, [PAIR | {"prompt": "talk"}], "ada", "basil"))
    assert (also.exit, also.told[1]) == (2, f"  {DUO}.fork1"), "nor where its origin is called otherwise"
    lived(one, 0, Options(accept_changes=True))
    assert statuses(one) == {DUO: "complete"} and one.status()["replaced"]["conversations"] == 1
    assert branch(one, "fork", DUO, turn=0, prompt="other").exit == 0
    assert statuses(one) == {DUO: "complete", f"{DUO}.fork2": "complete"}
    assert sent_to(one, "ada")[-1] == [("user", "What is found?")]
    sound(one)


def test_no_edit_lets_a_branch_pass_the_ceiling_of_its_pairing() -> None:
    """A pairing before it makes another one the first; the extension stays where its origin is, and stopped."""
    one = night(duo(), sim("ada", "basil"))
    lived(one, 0)
    dear = {**PAIR, "budget": round(one.reading().state.run.held * 3 / 10**9, 6)}
    one.job = duo() | {"pairings": [dear]}
    assert branch(one, "extend", DUO, more_rounds=20).exit == 4
    records = one.records()[-1].seq
    first = {"prompt": "duo", "a": "basil", "b": "ada", "budget": 1}
    one.job = duo() | {"pairings": [first, dear]}
    lived(one, 4)
    plan, extended = one.reading().plan, f"{DUO}.extend1"
    assert {cell.name: cell.pairing for cell in plan.cells} == {"duo/basil~ada": 1, DUO: 2, extended: 2}
    assert statuses(one)[extended] == "budget"
    assert {plan.by_id[sent.cell].name for sent in asked_since(one, records)} == {"duo/basil~ada"}


def test_what_was_mended_stays_so_when_a_model_is_called_otherwise() -> None:
    """Nothing is bought again, by `run` or by the same wish; a change of what is sent is told of before it is made."""
    one = night(duo(defaults={"max_tokens": 20}), sim("basil", ada={"reply": {"mean": 60, "spread": 0}}))
    lived(one, 0)
    one.change(sim(ada={"reply": {"texts": ["Short."]}}, basil={"reply": {"texts": ["Shorter."]}}))
    assert branch(one, "redo", DUO).exit == 0
    calls = len(one.replies())
    prompt = {"opening": "What survives?", "rounds": 2}
    renamed = {"prompt": "talk", "a": "eve", "b": "basil"}
    other = job({"talk": prompt}, [renamed], "basil", defaults={"max_tokens": 20})
    one.job = other | {"models": {**other["models"], "eve": {"use": "sim/ada"}}}
    lived(one, 0)
    assert statuses(one) == {"talk/eve~basil": "complete"} and one.status()["mended"]["conversations"] == 1
    told = branch(one, "redo", "talk/eve~basil").told
    assert "none of its turns failed, was cut or refused" in told[-1] and len(one.replies()) == calls
    one.job = other | {"models": {**other["models"], "eve": {"use": "sim/eve"}}}
    refused = one.live()
    assert (refused.exit, refused.told[1]) == (2, "  talk/eve~basil") and len(one.replies()) == calls


def test_a_name_is_given_to_one_branch_only() -> None:
    """Also when the conversation that it goes on with was mended in between."""
    one = night(duo(), sim("ada", "basil"))
    lived(one, 0)
    for how, wish in (("fork", {"turn": 1}), ("redo", {"turn": 2}), ("fork", {"turn": 1})):
        assert branch(one, how, DUO, **wish).exit == 0  # type: ignore[arg-type]
    assert sorted(statuses(one)) == [DUO, f"{DUO}.fork1", f"{DUO}.fork2"]
    assert line_of(one, f"{DUO}.fork1")["origin"]["name"] == f"{DUO}.old1"
    sound(one)


def test_a_truncated_turn_is_said_again() -> None:
    """Without a turn named it is the first that was cut off."""
    one = night(duo(defaults={"max_tokens": 20}), sim("basil", ada={"reply": {"mean": 60, "spread": 0}}))
    lived(one, 0)
    assert line_of(one, DUO)["turns"][0]["outcome"] == "truncated"
    one.change(sim(ada={"reply": {"texts": ["Short."]}}, basil={"reply": {"texts": ["Shorter."]}}))
    assert branch(one, "redo", DUO).exit == 0
    assert one.status()["flags"]["truncated"] == 0 and one.status()["mended"]["conversations"] == 1
    sound(one)


WRONG = {
    "nothing is called so": (("extend", "duo/nobody"), {"more_rounds": 1}, "names no conversation"),
    "beyond its end": (("fork", DUO), {"turn": 5}, "it has 4 turns, and no turn 5"),
    "a turn that nobody reached": (("redo", DUO), {"turn": 5}, "and no turn 5"),
    "nothing bad": (("redo", DUO), {}, "none of its turns failed, was cut or refused: name one with --turn"),
    "nothing left to say": (("fork", DUO), {"turn": 4}, "nothing would be left to say: add --rounds"),
    "no such prompt": (("fork", DUO), {"turn": 0, "prompt": "trio"}, "there is no prompt trio"),
    "no such model": (("fork", DUO), {"turn": 0, "models": {"a": "adda"}}, "there is no model adda"),
    "no such role": (("fork", DUO), {"turn": 0, "models": {"c": "ada"}}, "c is no live role of duo"),
    "turns that do not fit": (("fork", DUO), {"turn": 3, "prompt": "turned"}, "its turns do not fit turned"),
    "a role without a model": (("fork", DUO), {"turn": 0, "prompt": "three"}, "c of three has no model"),
    "a script that ends": (("fork", DUO), {"turn": 0, "prompt": "said", "more_rounds": 1}, "ends after round 1"),
}


@pytest.fixture(scope="module")
def finished() -> Night:
    prompts = {
        "duo": {"opening": "What survives?", "rounds": 2},
        "turned": {"opening": "O", "rounds": 2, "turns": [{"by": "b"}, {"by": "b"}, {"by": "a"}]},
        "three": {"opening": "O", "rounds": 2, "roles": {"a": {}, "b": {}, "c": {}}},
        "said": {"roles": {"a": {"script": ["Hello."]}, "b": {}}},
    }
    pairings = [PAIR, {"prompt": "said", "b": "ada"}]
    one = night(job(prompts, pairings, "ada", "basil"), sim("ada", "basil"))
    lived(one, 0)
    return one


@pytest.mark.parametrize("case", WRONG)
def test_a_wish_that_cannot_be_fulfilled_says_why_and_changes_nothing(case: str, finished: Night) -> None:
    """Each with its reason, exit 2, and not a record more."""
    (how, name), wish, why = WRONG[case]
    records = finished.text("journal.jsonl")
    life = branch(finished, how, name, **wish)  # type: ignore[arg-type]
    assert life.exit == 2 and any(why in line for line in life.told), life.told
    assert finished.text("journal.jsonl") == records


def test_what_is_not_complete_does_not_grow_longer_and_what_has_not_begun_has_no_branch() -> None:
    """A letter that nobody wrote, and a conversation that failed."""
    one = night(LETTERS, sim("ada", faults=[{"kind": "blank"}]))
    lived(one, 3)
    assert "it has not begun" in branch(one, "fork", "letters/ada", turn=0).told[1]
    drop(one, BOX, "Hello.")
    lived(one, 3)
    assert "it is failed; only what is complete" in branch(one, "extend", "letters/ada", more_rounds=1).told[1]


@pytest.mark.parametrize("number", range(8, 64, 6))
def test_a_branch_that_was_killed_goes_on_with_the_next_run(number: int) -> None:
    """It is a conversation like any other from the record of it on."""
    one = night(duo(), sim("ada", "basil"))
    lived(one, 0)
    killed = one.live(
        Options(wish=Wish("extend", (DUO,), more_rounds=2)),
        fault=planned({number: "kill"}, own=True),
    )
    assert killed.exit is None
    there = any(isinstance(r.event, Branched) for r in one.records())
    lived(one, 0)
    assert statuses(one) == {DUO: "complete", **({f"{DUO}.extend1": "complete"} if there else {})}


# --- what is shown of the past -----------------------------------------------------------------------------------


def long(history: dict[str, Any], known: bool = True, window: int = 420) -> Night:
    """Two who speak at length in a small window, of which the job knows or not."""
    prompts = {"duo": {"opening": "Go on.", "rounds": 6, "history": history}}
    models = {
        name: {"use": f"sim/{name}", "price": {"input": 1, "output": 3}, **({"context": window} if known else {})}
        for name in ("ada", "basil")
    }
    wordy = {"reply": {"mean": 60, "spread": 0.1}, "context": window}
    return night({**job(prompts, [PAIR]), "models": models}, sim(ada=wordy, basil=wordy))


@pytest.mark.parametrize("known", [True, False], ids=["by our count", "as the provider says"])
def test_a_full_window_is_trimmed_in_sight(known: bool) -> None:
    """The oldest lines are left out, and a sentence says so; what was sent is built again from the journal."""
    one = long({"overflow": "trim"}, known)
    lived(one, 0)
    line = line_of(one, DUO)
    left_out = [turn["left_out"] for turn in line["turns"]]
    assert line["status"] == "complete" and line["rounds"]["done"] == 6 and max(left_out) > 0 == left_out[0]
    assert sent_to(one, "basil")[-1][0][1].startswith("Go on.\n\n(Earlier turns are left out here.)")
    assert verify(one.folder, one.left()).rebuilt == len(one.sents())
    refused = sum(request.outcome == "context_length" for request in one.engine.received)
    assert bool(refused) is not known


def test_a_window_too_small_for_anything_fails() -> None:
    """When nothing more can be left out."""
    one = long({"overflow": "trim"}, False, 10)
    lived(one, 3)
    assert line_of(one, DUO)["status"] == "failed" and "context full" in line_of(one, DUO)["reason"]
    assert len(one.engine.received) == 1


def test_a_local_server_that_cuts_the_history_is_sent_less_of_it() -> None:
    """Its falling count gives it away; what it read in full is asked again without the oldest lines."""
    one = long({"overflow": "trim"}, False)
    assert isinstance(one.job, dict)
    one.job = {**one.job, "providers": {"sim": {"free": True}}}
    cutting = {"reply": {"mean": 120, "spread": 0.6}, "context": 500, "overflow": "cut"}
    one.change(sim(ada=cutting, basil=cutting))
    one.live()
    assert line_of(one, DUO)["status"] == "complete"
    assert max(turn["left_out"] for turn in line_of(one, DUO)["turns"]) > 0
    assert any(isinstance(r.event, Failed) and r.event.failure == "context_cut" for r in one.records())
    sound(one)


def test_a_window_shows_the_last_lines_only() -> None:
    """So many, from the first turn at which there are more."""
    one = night(job({"duo": {"opening": "Go on.", "rounds": 3, "history": {"window": 2}}}, [PAIR], "ada", "basil"),
                sim(ada={"reply": {"texts": ["A"]}}, basil={"reply": {"texts": ["B"]}}))  # fmt: skip
    lived(one, 0)
    assert [turn["left_out"] for turn in line_of(one, DUO)["turns"]] == [0, 0, 0, 1, 2, 3]
    assert sent_to(one, "ada")[-1] == [
        ("user", "Go on.\n\n(Earlier turns are left out here.)"), ("assistant", "A"), ("user", "B")
    ]  # fmt: skip


@pytest.mark.parametrize(("overflow", "status", "exit"), [("fail", "failed", 3), ("stop", "complete", 0)])
def test_a_full_window_ends_a_conversation_as_its_history_says(overflow: str, status: str, exit: int) -> None:
    """Failed, or over; in both with the reason, and with what was said."""
    one = long({"overflow": overflow})
    lived(one, exit)
    line = line_of(one, DUO)
    assert line["status"] == status and 0 < line["rounds"]["done"] < 6 and "context" in line["reason"]


# --- the clock ---------------------------------------------------------------------------------------------------


def timed(deadline: str) -> Night:
    slow = {"latency": {"first": 60}}
    return night({**duo(rounds=9), "deadline": deadline}, sim(ada=slow, basil=slow))


@pytest.mark.parametrize(("deadline", "next_time"), [("12:05", 0), ("5m", 5)])
def test_a_deadline_ends_a_night_and_the_next_one_goes_on(deadline: str, next_time: int) -> None:
    """By the time of day, or so long after the start: no call begins after it, exit 5."""
    one = timed(deadline)
    life = lived(one, 5, looked_on=True)
    assert one.status()["why"] == [
        {"status": "deadline", "reason": "the deadline of its job has passed", "conversations": 1}
    ]
    assert 300 <= life.seconds < 370 and "deadline" in life.screen
    lived(one, next_time)
    assert line_of(one, DUO)["rounds"]["done"] > 2


def test_of_two_jobs_of_a_night_one_may_end_before_the_other() -> None:
    """Each has a deadline of its own; the one that has none goes on to its last line."""
    one = timed("5m")
    assert isinstance(one.job, dict)
    other = {**duo(rounds=9), "name": "other"}
    sources = [Source(job_of(text_of(job)), f"{job['name']}.yaml", {}) for job in (one.job, other)]
    bases = {(source.job.name, "sim"): "http://sim.sim/v1" for source in sources}

    async def main() -> int:
        wire = SimWire(dict.fromkeys(bases.values(), one.engine), (0.001, 0.005), Random(7), None)
        clock, programs = VirtualClock(one.wall), ScriptedPrograms()
        world = World(clock, one.disk, wire, Random(1), ScriptedSignals(), programs)
        return await whole_night(world, sources, Options(), Place(ROOT, "{}", bases), tell=lambda line: None)

    assert run_virtual(main) == 5
    mine, its = one.status(), read(ROOT / "other/main", one.left())
    assert mine["reasons"] == ["deadline"] and mine["conversations"]["deadline"] == 1
    assert its.counts()["complete"] == 1 and its.state.closed[-1][1].exit == 0


def test_each_step_of_a_rule_on_time_is_judged_as_it_is_shown() -> None:
    """The seconds are those since the first call left, while it is held and whenever it is read."""
    slow = {"latency": {"first": 10}}
    one = night(duo(stop=[{"time": "25s"}], rounds=9), sim(ada=slow, basil=slow))
    lived(one, 0)
    line = line_of(one, DUO)
    times = [turn["weighed"]["time"] for turn in line["turns"] if turn["text"] is not None]
    assert len(times) == 3 and times[0] >= 10 and times[-2] < 25 <= times[-1]
    assert "time" in line["reason"]


def test_what_stopped_is_on_record_once() -> None:
    """An observer, a moderator and a conversation each have their own end."""
    one = night(duo([NOTES, SCORES]), sim("ada", "basil", "judge"))
    lived(one, 3)
    ends = [r.event for r in one.records() if isinstance(r.event, Stopped)]
    assert [end.status for end in ends] == ["complete", "complete", "failed"]
    assert len({end.cell for end in ends}) == 3
    assert all(isinstance(r.event.cell, str) for r in one.records() if isinstance(r.event, Sent))
