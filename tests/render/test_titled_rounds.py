from __future__ import annotations

from dataclasses import replace

import pytest

from runner.conversation import Look
from runner.render import Links
from runner.render.style import Noted, Said
from runner.render.titled_rounds import read, render
from tests.render import talks
from tests.render.golden import assert_golden
from tests.render.samples import conversation

ALONE = Links()

OLD = """\
# Voice Conversation: Model One — The Long Way

*March 4, 2025*
*In three rounds*

---

## Context

They had met before.

### And after

---

## Round 1: Sal's Opening (The Door)

Come in.

---

## A heading on our level

### And one of its own

---

## Round 2: Model One’s Final Transmission (Walls (and a Roof))

Thank you.

---

## Round 3: Sal's Closing Transmission

---

## Synthesis

They met.

---

*Archived April 5, 2025*
*By Sal, in dialogue with Model One (some/model-1)*
*For whoever reads next*

---

*Stay.*
"""


def test_titled_rounds_are_the_golden_ones() -> None:
    """Title, context, turns with their titles, synthesis, signature and closing line."""
    assert_golden("titled-rounds.md", render(talks.titled(), ALONE))


def test_titled_rounds_give_their_texts_speakers_titles_and_notes_back() -> None:
    """All that the file shows, and the texts of its head and end."""
    found = read(render(talks.titled(), ALONE))
    assert found.said == (
        Said(1, "Claude Opus 4.6", "Shall we begin?", label="Opening", title="The Prism"),
        Said(2, "GLM 5", "We have begun.", label="Response", title="Light (and its Parts)"),
        Said(3, "Claude Opus 4.6", "So we end.", label="Final Transmission"),
        Said(
            4,
            "GLM 5",
            "*Archived* are we?\n\n*Archived November 1, 1999*",
            label="Closing Transmission",
            title="Colours",
        ),
    )
    assert found.notes == (Noted("Synthesis", None, "They agreed."),)
    assert (found.context, found.model, found.date) == ("They had read the same essay.", "z-ai/glm-5", "2026-11-21")
    assert found.texts == talks.titled().look.texts


def test_old_titled_rounds_are_read_as_they_stand() -> None:
    """Headings and rules between two rounds belong to a reply, and a round without words is a turn without a text."""
    found = read(OLD)
    first = "Come in.\n\n---\n\n## A heading on our level\n\n### And one of its own"
    assert found.said == (
        Said(1, "Sal", first, label="Opening", title="The Door"),
        Said(2, "Model One", "Thank you.", label="Final Transmission", title="Walls (and a Roof)"),
        Said(3, "Sal", None, label="Closing Transmission"),
    )
    assert found.context == "They had met before.\n\n### And after"
    assert found.notes == (Noted("Synthesis", None, "They met."),)
    assert (found.model, found.date, found.ended) == ("some/model-1", "2025-03-04", "2025-04-05")
    assert (found.models, set(found.people)) == ({"Model One": "some/model-1"}, {"Sal"})
    assert found.texts == {
        "title": "The Long Way",
        "subtitle": "In three rounds",
        "by": "Sal",
        "closing": "*Stay.*",
    }
    assert read(OLD.replace("\n", "\r\n")) == found


def test_without_words_of_the_job_the_rest_stands_alone() -> None:
    """No title, no subtitle, no context, no dates: none of their lines; the first role signs."""
    turns = [talks.line(1, talks.CLAUDE, "x", 1), talks.line(2, talks.GLM, "y", 1, label="Reply (short)")]
    t = conversation(turns, participants=(talks.CLAUDE, talks.GLM), opening=None, look=Look("titled-rounds"))
    assert render(t, ALONE) == (
        "# Voice Conversation: GLM 5\n\n---\n\n## Round 1: Claude's Opening\n\nx\n\n---\n\n"
        "## Round 1: GLM 5's Reply \\(short\\)\n\ny\n\n---\n\n"
        "*By Claude, in dialogue with GLM 5 (z-ai/glm-5)*\n*For whoever reads next*\n"
    )
    assert read(render(t, ALONE)).said[1] == Said(2, "GLM 5", "y", label="Reply (short)")


def test_a_day_of_archiving_that_the_job_names_stands_instead_of_the_end() -> None:
    """A day is read as the end of the conversation, words that are none as words."""
    for given, ended, text in (("May 1, 2030", "2030-05-01", None), ("in *spring*", None, "in *spring*")):
        look = Look("titled-rounds", {"archived": given})
        found = read(render(replace(talks.titled(), look=look), ALONE))
        assert (found.ended, found.texts.get("archived")) == (ended, text)
    found = read(render(talks.titled(), ALONE))
    assert (found.ended, "archived" in found.texts) == ("2026-11-21", False)


def test_a_synthesis_that_failed_says_what_happened() -> None:
    """The dialogue is complete; where the observer's text would stand is why it is not there."""
    error = {"kind": "refused", "message": "I will not."}
    failed = talks.note(None, heading="Synthesis", status="failed", attempts=2, error=error)
    late = talks.note(None, heading="Afterword", status="budget", reason="observer's budget")
    t = replace(talks.titled(), notes=(failed, late, talks.note(None, status="pending")))
    markdown = render(t, ALONE)
    assert (
        "## Synthesis\n\n*[no notes after 2 attempts: refused: I will not.]*\n\n---\n\n"
        "## Afterword\n\n*[no notes: observer's budget]*\n\n---\n\n*Archived"
    ) in markdown
    assert "not complete" not in markdown
    assert read(markdown).notes == (Noted("Synthesis", None, None), Noted("Afterword", None, None))


def test_an_old_closing_line_may_be_a_heading() -> None:
    """Nobody takes it for an observer's."""
    found = read(OLD.replace("*Stay.*", "## Stay."))
    assert (found.texts["closing"], len(found.notes)) == ("## Stay.", 1)


@pytest.mark.parametrize("closing", ["*By now*", "*For you*", "# End\n\n---\n\n*Archived November 1, 1999*"])
def test_a_closing_line_may_look_like_a_signature(closing: str) -> None:
    """What stands below the last rule is the closing line, whatever it says."""
    t = replace(talks.titled(), look=Look("titled-rounds", {"closing": closing}))
    found = read(render(t, ALONE))
    assert found.texts["closing"] == closing.replace("# End", "#### End")
    assert len(found.notes) == 1
