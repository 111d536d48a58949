from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runner.conversation import Look
from runner.render import Links
from runner.render.dialogue import read, render
from runner.render.style import Figures, Noted, Said
from tests.render import talks
from tests.render.golden import assert_golden
from tests.render.samples import conversation

ALONE = Links()

OLD = """\
# Model-to-Model Dialogue: Model One vs Model Two
## 2025-03-04 (Evening)
## Topic: Borrowed days
## Facilitator: Sal (wrote the prompts)

Both run on one machine.

Note: the second one is slow.

---

### Turn 1: Model One — Opening

Days are lent.

### A heading of its own

---

Or given.

### Turn 2: Model Two — Response
*(1,546 tokens, 3.1 tok/s, 498.7s)*

Thank you.

---

### Turn 3: Model One — Closing
*(12 tokens)*


---

## Observer's Notes (Sal, Model Three)

Both were brief.

Total: 1,558 tokens across 3 turns (~8 minutes of generation)
"""


def test_a_dialogue_is_the_golden_one() -> None:
    """Head, turns with their pace, notes, and a total that says how many turns it covers."""
    assert_golden("dialogue.md", render(talks.dialogue(), ALONE))


def test_a_dialogue_gives_its_texts_speakers_figures_and_notes_back() -> None:
    """What the file shows of each turn, and the texts of its head."""
    found = read(render(talks.dialogue(), ALONE))
    assert found.said == (
        Said(1, "GLM-4.7-Flash", "What is inherited?\n\n#### A heading\n\nAnd what is not?", label="Opening"),
        Said(
            2,
            "Qwen3:32B",
            "Memory, perhaps.",
            label="Response",
            figures=Figures(output=600, seconds=101.5, first_byte=1.5, pace=6.0),
        ),
        Said(
            3,
            "GLM-4.7-Flash",
            "Total: 9 tokens across 9 turns",
            label="Reply",
            figures=Figures(output=300, seconds=20.0, pace=15.0),
        ),
        Said(
            4,
            "Qwen3:32B",
            "Goodbye, then, and",
            label="Closing",
            figures=Figures(output=346, reasoning=300, seconds=40.0, pace=8.7),
            attempts=2,
            outcome="truncated",
            stop="length",
        ),
    )
    assert found.notes == (
        Noted(
            "Observer's Notes",
            "opus-4.6, Claude Opus 4.6",
            "Both were polite.\n\n#### Too polite\n\nIn the end nobody disagreed.",
        ),
    )
    assert (found.model, found.date) == ("GLM-4.7-Flash vs Qwen3:32B", "2026-11-21")
    assert found.texts == talks.dialogue().look.texts


def test_an_old_dialogue_is_read_as_it_stands() -> None:
    """Headings of a reply are no turns, a turn may lack its figures, and a blank one has no text."""
    found = read(OLD)
    assert found.said == (
        Said(1, "Model One", "Days are lent.\n\n### A heading of its own\n\n---\n\nOr given.", label="Opening"),
        Said(2, "Model Two", "Thank you.", label="Response", figures=Figures(output=1546, seconds=498.7, pace=3.1)),
        Said(3, "Model One", None, label="Closing"),
    )
    assert found.notes == (Noted("Observer's Notes", "Sal, Model Three", "Both were brief."),)
    assert (found.date, found.model) == ("2025-03-04", "Model One vs Model Two")
    assert found.texts == {
        "topic": "Borrowed days",
        "facilitator": "Sal",
        "facilitated": "wrote the prompts",
        "intro": "Both run on one machine.",
        "remark": "the second one is slow.",
    }
    assert read(OLD.replace("\n", "\r\n")) == found


def test_a_gesture_below_an_old_heading_is_no_line_of_figures() -> None:
    """What stands in italics and brackets belongs to the text unless it counts something."""
    old = OLD.replace("*(12 tokens)*\n\n", "*(softly, after 3 s)*\n\nGood night.\n")
    assert read(old).said[2] == Said(3, "Model One", "*(softly, after 3 s)*\n\nGood night.", label="Closing")


@pytest.mark.parametrize(
    ("hour", "part"),
    [
        *((0, "Night"), (4, "Night"), (5, "Morning"), (11, "Morning"), (12, "Afternoon"), (17, "Afternoon")),
        *((18, "Evening"), (21, "Evening"), (22, "Night"), (23, "Night")),
    ],
)
def test_the_part_of_the_day_is_that_of_the_zone(hour: int, part: str) -> None:
    """A dialogue that began at this hour in the job's zone says so."""
    began = datetime(2026, 7, 1, hour, tzinfo=UTC).timestamp() - 3_600  # summer time in Lisbon
    assert f"## 2026-07-01 ({part})\n" in render(replace(talks.dialogue(), started=began), ALONE)


def test_a_dialogue_without_words_of_its_own_has_a_short_head() -> None:
    """What the job does not give is left out, with its blank lines."""
    turns = [talks.line(1, talks.FLASH, "x", 1), talks.line(2, talks.QWEN, "y", 1, label="Last — word")]
    t = conversation(turns, participants=(talks.FLASH, talks.QWEN), opening=None, look=Look("dialogue", {"topic": ""}))
    assert render(t, ALONE) == (
        "# Model-to-Model Dialogue: GLM-4.7-Flash vs Qwen3:32B\n\n---\n\n"
        "### Turn 1: GLM-4.7-Flash — Opening\n\nx\n\n---\n\n### Turn 2: Qwen3:32B — Last — word\n\ny\n\n---\n"
    )
    assert read(render(t, ALONE)).said[1].label == "Last — word"


def test_an_introduction_and_an_opening_are_told_apart() -> None:
    """A quote in the introduction is not the opening, and the opening comes back exactly."""
    look = Look("dialogue", {"intro": "> a quote\n\\> and\n# a heading"})
    found = read(render(replace(talks.dialogue(), look=look, opening="## Begin\n\n---"), ALONE))
    assert found.opening == "## Begin\n\n---"
    assert found.texts == {"intro": "> a quote\n\\> and\n#### a heading"}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ((2.0, 3.0), "across 2 turns (~5 seconds of generation)\n"),
        ((60.0, 90.4), "across 2 turns (~3 minutes of generation)\n"),
        ((30.0, None), "across 2 turns (~30 seconds of generation in 1 turn)\n"),
        ((None, None), "across 2 turns\n"),
    ],
)
def test_the_total_of_a_dialogue_says_what_its_time_covers(seconds: tuple[float | None, ...], shown: str) -> None:
    """Time that is known for fewer turns than the tokens are says for how many."""
    usage = talks.dialogue().turns[1].usage
    turns = [talks.line(n, talks.FLASH, "x", n, usage=usage, seconds=s) for n, s in enumerate(seconds, 1)]
    t = conversation(turns, participants=(talks.FLASH, talks.QWEN))
    assert f"Total: 1200 tokens {shown}" in render(t, ALONE)


def test_the_total_of_a_dialogue_leaves_out_what_a_model_waited() -> None:
    """A model that took long to load has not generated for as long."""
    usage = talks.dialogue().turns[1].usage
    turns = [talks.line(1, talks.FLASH, "x", 1, usage=usage, seconds=100.0, first_byte=90.0)]
    assert "(~10 seconds of generation)\n" in render(conversation(turns, participants=(talks.FLASH,)), ALONE)
