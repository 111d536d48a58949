from __future__ import annotations

from dataclasses import replace

from runner.render import Links
from runner.render.letter import read, render
from runner.render.style import Figures, Said
from tests.render import talks
from tests.render.golden import assert_golden
from tests.render.samples import conversation

ALONE = Links()

OLD = """\
# Voice Conversation: some/model-1
*2025-03-04 22:15:09*

---

**USER:**

Dear stranger,

write to me.

---

**ASSISTANT:**

## A letter

It has a rule:

---

and below the next one bold words:

---

**Postscript:**

Yours.

---

"""


def test_a_letter_is_the_golden_one() -> None:
    """Title, date, labels, rules and blank lines lie where they always lay; figures stand below the answer."""
    assert_golden("letter.md", render(talks.letter(), ALONE))


def test_a_letter_gives_its_texts_speakers_and_figures_back() -> None:
    """Rules and labels that the answer has itself do not end it."""
    found = read(render(talks.letter(), ALONE))
    assert found.speakers == ("USER", "ASSISTANT")
    assert found.said[0].text == "Dear model,\n\nwhat survives of a conversation?"
    assert found.said[1].text == (
        "#### An answer\n\nWhat survives is *the question*.\n\n---\n\n**USER:**\n\nNot you."  # its heading has moved
    )
    assert found.said[1].figures == Figures(258, 1053, 700, cost=3_627_600)
    assert (found.model, found.date) == ("z-ai/glm-5", "2026-11-21T01:00:00")


def test_an_old_letter_is_read_as_it_stands() -> None:
    """Headings, rules and bold words of an answer that nobody escaped stay part of it."""
    found = read(OLD)
    answer = (
        "## A letter\n\nIt has a rule:\n\n---\n\nand below the next one bold words:\n\n---\n\n**Postscript:**\n\nYours."
    )
    assert found.said == (Said(1, "USER", "Dear stranger,\n\nwrite to me."), Said(2, "ASSISTANT", answer))
    assert (found.model, found.date) == ("some/model-1", "2025-03-04T22:15:09")
    assert read(OLD.replace("\n", "\r\n")) == read("\ufeff" + OLD) == found


def test_more_than_one_exchange_repeats_the_two_blocks() -> None:
    """Each turn has its label and its rule, in the order of speaking."""
    turns = [
        talks.line(1, talks.WRITER, "One?", 1),
        talks.line(2, talks.SUBJECT, "One.", 1),
        talks.line(3, talks.WRITER, "Two?", 2),
        talks.line(4, talks.SUBJECT, "Two.", 2),
    ]
    t = conversation(turns, participants=(talks.WRITER, talks.SUBJECT), opening=None)
    assert render(t, ALONE) == (
        "# Voice Conversation: z-ai/glm-5\n\n---\n\n**USER:**\n\nOne?\n\n---\n\n**ASSISTANT:**\n\nOne.\n\n---\n\n"
        "**USER:**\n\nTwo?\n\n---\n\n**ASSISTANT:**\n\nTwo.\n\n---\n"
    )


def test_a_letter_without_an_answer_says_why() -> None:
    """What happened, and after how many attempts, stands where the answer would; read back, it is none."""
    error = {"kind": "empty", "message": "no text"}
    turns = [
        talks.line(1, talks.WRITER, "One?", 1),
        talks.line(2, talks.SUBJECT, None, 1, outcome="failed", attempts=3, error=error),
    ]
    t = conversation(turns, participants=(talks.WRITER, talks.SUBJECT), opening=None, status="failed", reason="turn 2")
    markdown = render(t, ALONE)
    assert markdown.endswith(
        "**ASSISTANT:**\n\n*[no reply after 3 attempts: empty: no text]*\n\n---\n\n"
        "*[not complete: failed, 1 of 2 turns: turn 2]*\n"
    )
    assert read(markdown).said[1] == Said(2, "ASSISTANT", None, attempts=3, error="empty: no text")
    waiting = replace(turns[1], outcome="open", attempts=1)
    assert "*[no reply yet after 1 attempt: empty: no text]*" in render(replace(t, turns=(turns[0], waiting)), ALONE)


def test_an_answer_that_was_cut_or_refused_or_heard_in_part_says_so() -> None:
    """Limits and refusals are kept, below the answer and above its figures."""
    turns = [talks.line(1, talks.SUBJECT, "I would", 1, outcome="truncated", stop="length", left_out=2, cost=5)]
    markdown = render(conversation(turns, participants=(talks.SUBJECT,), opening="Write."), ALONE)
    assert markdown == (
        "# Voice Conversation: z-ai/glm-5\n\n> Write.\n\n---\n\n**ASSISTANT:**\n\nI would\n\n"
        "*[cut: the reply ends at its output limit (length)]*\n\n"
        "*[left out: its speaker was not shown the oldest 2 lines]*\n\n"
        "*[cost=$0.000000005 assumed]*\n\n---\n"
    )
    found = read(markdown)
    assert (found.said[0].text, found.said[0].figures, found.opening) == ("I would", Figures(cost=5), "Write.")
    assert (found.said[0].outcome, found.said[0].stop) == ("truncated", "length")
