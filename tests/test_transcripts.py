"""A conversation in full: what its moderator and its voters said is part of it, with all that it cost."""

from __future__ import annotations

import anyio
import pytest

from runner.events import Replied
from runner.exports import talk
from runner.exports.columns import CONVERSATION, TURN, row
from runner.money import dollars
from runner.outputs import read
from runner.transcripts import Scribe
from runner.verify import verify
from runner.views import Views
from tests.kinds import job, line_of, night, sim
from tests.nights import Night
from tests.virtual import FixedClock

TABLE = job(
    {
        "table": {
            "roles": {"one": {}, "two": {}},
            "opening": "Talk.",
            "rounds": 2,
            "order": "moderator",
            "moderator": {"model": "mod"},
            "stop": [{"vote": {"observer": "judge"}}],
        }
    },
    [{"prompt": "table", "one": "ada", "two": "basil"}],
    "ada", "basil", "mod", "judge",
)  # fmt: skip
SEATED = "table/ada~basil"


def table(**faulty: str) -> Night:
    """A talk that a moderator leads, in which somebody votes against the end; some of them with a fault."""
    answers = {"mod": "two, please", "judge": "no"}
    faults = [{"kind": kind, "model": model} for model, kind in faulty.items()]
    one = night(TABLE, sim("ada", "basil", "mod", "judge", faults=faults), lambda model, texts: answers.get(model))
    assert one.live().exit == 0
    assert verify(one.folder, one.left()).problems == ()
    return one


def test_whom_a_moderator_chose_and_what_that_cost_stands_in_the_views() -> None:
    """Each answer at its turn, in transcript, lines and exports; all the money of the talk is accounted for."""
    one = table()
    line = line_of(one, SEATED)
    first, second, *_ = line["turns"]
    assert (first["role"], [(a["kind"], a["text"], a["data"]) for a in first["asked"]]) == (
        "two",
        [("pick", "two, please", '"two"')],
    )
    assert [(a["kind"], a["data"], a["observer"]["alias"]) for a in second["asked"]] == [("vote", "false", "judge")]
    replies = [record.event for record in one.records() if isinstance(record.event, Replied)]
    listened = [reply for reply in replies if reply.cell != line["id"]]
    asked = line["totals"]["asked"]
    assert (asked["answers"], asked["answers_with_figures"]) == (len(listened), len(listened)) == (2, 2)
    assert asked["cost"] == float(dollars(sum(reply.cost for reply in listened))) > 0
    spent = float(dollars(sum(reply.cost for reply in replies)))
    assert line["totals"]["spent"] == spent == round(line["totals"]["cost"] + asked["cost"], 9)
    page = one.text(f"conversations/{SEATED}.md")
    assert "\n*(chosen by mod · sim/mod · " in page and "\n*(vote against the end by judge · sim/judge · " in page
    assert " on 2 answers of those who were asked.\n" in page
    exported = talk(read(one.folder, one.disk).transcript(read(one.folder, one.disk).plan.cells[0]))
    assert [row(TURN, turn)["chosen_by"] for turn in exported["turns"]] == ["mod", None, None, None]
    assert (row(CONVERSATION, exported)["answers"], row(CONVERSATION, exported)["answers_cost"]) == (2, asked["cost"])


def test_who_failed_to_choose_or_to_vote_is_told_at_the_turn() -> None:
    """The given order holds in the stead of a moderator; of a vote that never came its trouble is shown."""
    one = table(mod="server_error", judge="server_error")
    page = one.text(f"conversations/{SEATED}.md")
    assert page.count("*(nobody chosen by mod · in the given order: ") == 1
    assert page.count("*(no vote by judge · sim/judge · 2 attempts · no answer: error: ") == 1
    line = line_of(one, SEATED)
    assert line["totals"]["asked"]["answers"] == 0 and line["totals"]["asked"]["cost"] is None
    assert [a["status"] for turn in line["turns"] for a in turn["asked"]] == ["failed"] * 2


def test_what_was_paid_for_no_answer_is_told_where_the_first_is_missing() -> None:
    """Of a moderator and of somebody who votes; with what the others cost it is all that the talk has cost."""
    prompts = {"table": {**TABLE["prompts"]["table"], "rounds": 3}}
    faults = [{"kind": "blank", "model": "mod"}]
    answers = {"judge": "perhaps"}
    one = night(
        {**TABLE, "prompts": prompts},
        sim("ada", "basil", "mod", "judge", faults=faults),
        lambda model, _: answers.get(model),
    )
    assert one.live().exit == 0
    replies = [record.event for record in one.records() if isinstance(record.event, Replied)]
    line = line_of(one, SEATED)
    cell = read(one.folder, one.disk).plan.cells[0]
    transcript = read(one.folder, one.disk).transcript(cell)
    paid = {note.observer: note.spent for turn in transcript.turns for note in turn.asked if note.spent}
    assert paid.keys() == {"mod", "judge"} and all(cost > 0 for cost in paid.values())
    assert sum(paid.values()) + sum(reply.cost for reply in replies) == transcript.spent
    page = one.text(f"conversations/{SEATED}.md")
    for who, cost in paid.items():
        [told] = [
            text for text in page.splitlines() if " on attempts without an answer" in text and f" by {who} " in text
        ]
        assert f" · ${dollars(cost)} on attempts without an answer" in told
    assert line["totals"]["asked"]["answers"] == 0


def test_views_that_leave_out_who_was_asked_do_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever forgets them forgets them in the file and in what it is held against: so they are counted besides."""
    one = table()
    monkeypatch.setattr(Scribe, "_asked", lambda scribe, talk: {})
    anyio.run(Views(read(one.folder, one.disk), FixedClock()).all, len(one.records()))
    problems = verify(one.folder, one.disk).problems
    assert "conversations.jsonl: has 0 answers of those who were asked, and the journal 2" in problems
