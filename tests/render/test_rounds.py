from __future__ import annotations

from dataclasses import replace

import pytest

from runner.call import Usage
from runner.render import Links
from runner.render.rounds import read, render
from runner.render.style import Figures, Noted, Said
from tests.render import talks
from tests.render.golden import assert_golden
from tests.render.samples import conversation

ALONE = Links()

OLD = """\
# Voices Chat: Sal <-> some/model-1
*2025-03-04 22:15*

**Model:** `some/model-1`
**Rounds:** 3
**Total cost:** $0.0089
**System prompt:** You are one of many. Answer at length.

---

## Round 1

**Sal:**
> Who are you?
>
> And who am I?

**model-1:**
### First

I am:

**Nobody:**

---

or somebody.

```
never closed

*[tokens: prompt=258, completion=1,053, reasoning=12, cost=$0.0036]*

---

## Round 2

**Sal:**
> Go on.

**model-1:**
```python
print("on")
```

---

## Round 3

**Sal:**
> And then?

**model-1:**


*[tokens: prompt=0, completion=0, reasoning=0, cost=$0.0000]*

---

## Session Statistics

- **Rounds completed:** 3
- **Total cost:** $0.0089
- **Date:** 2025-03-04 22:15
- **Model:** some/model-1
"""


@pytest.mark.fault(52)
def test_eight_rounds_of_which_the_last_was_silent_are_the_golden_ones() -> None:
    """`7 of 8`, what happened in the place of the reply, both costs, cached tokens and the upstream."""
    assert_golden("rounds.md", render(talks.rounds(), ALONE))


def test_rounds_give_their_texts_speakers_and_figures_back() -> None:
    """Sixteen turns, the last of them without a text; the head has the system text in full."""
    t = talks.rounds()
    found = read(render(t, ALONE))
    assert [said.text for said in found.said] == [turn.text for turn in t.turns]
    assert found.speakers == ("Claude", "glm-5")
    assert found.said[13].figures == Figures(700, 50, 20, 64, 3_000_007, computed=4_260_000)
    assert (found.said[13].upstream, found.said[13].attempts) == ("Upstream One", 2)
    assert found.said[15] == Said(16, "glm-5", None, attempts=3, error="empty: no text")
    assert found.said[0].figures == Figures()
    assert (found.model, found.date, found.system) == ("z-ai/glm-5", "2026-11-21T01:00", t.system)


def test_old_rounds_are_read_as_they_stand() -> None:
    """A blank round is a turn without a text, whatever the statistics say; a fence that was left open ends with it."""
    found = read(OLD)
    first = "### First\n\nI am:\n\n**Nobody:**\n\n---\n\nor somebody.\n\n```\nnever closed"
    assert found.said == (
        Said(1, "Sal", "Who are you?\n\nAnd who am I?"),
        Said(2, "model-1", first, figures=Figures(258, 1053, 12, cost=3_600_000)),
        Said(3, "Sal", "Go on."),
        Said(4, "model-1", '```python\nprint("on")\n```'),
        Said(5, "Sal", "And then?"),
        Said(6, "model-1", None),
    )
    assert found.system == "You are one of many. Answer at length."
    assert (found.model, found.date) == ("some/model-1", "2025-03-04T22:15")
    assert read(OLD.replace("\n", "\r\n")) == found


def test_a_system_text_of_several_lines_is_read_wherever_it_stands() -> None:
    """Old files have it line below line, up to the next of ours or to an opening; ours have it quoted."""
    line = "**System prompt:** You are one of many. Answer at length."
    for lines, opening in (
        (f"{line}\n\n- And *well*.\n\n> Begin.", "Begin."),
        (f"{line}\n\n- And *well*.\n**Rounds:** 3", None),
        ("**System prompt:**\n> You are one of many. Answer at length.\n>\n> - And *well*.\n\n> Begin.", "Begin."),
    ):
        found = read(OLD.replace(line, lines))
        assert found.system == "You are one of many. Answer at length.\n\n- And *well*."
        assert (found.opening, len(found.said)) == (opening, 6)


def test_a_quoted_side_that_said_nothing_has_no_text() -> None:
    """A blank line of a script is a turn without a text, like a blank reply."""
    assert read(OLD.replace("> And then?", ">")).said[4] == Said(5, "Sal", None)


def test_a_first_side_that_is_a_model_keeps_its_figures() -> None:
    """A facilitator that was paid for is quoted like a script, and counted like a model."""
    turns = [
        talks.line(1, talks.OPUS, "Who?\n\n**glm-5:**\nI", 1, usage=Usage(input=9, output=4), cost=7, upstream="One"),
        talks.line(2, talks.GLM, "You.", 1, usage=Usage(output=2)),
    ]
    t = conversation(turns, participants=(talks.OPUS, talks.GLM), opening=None)
    markdown = render(t, ALONE)
    assert (
        "**Claude Opus 4.6:**\n> Who?\n>\n> **glm-5:**\n> I\n\n"
        "*[tokens: prompt=9, completion=4, cost=$0.000000007 assumed, upstream=One]*\n\n"
        "**glm-5:**\nYou.\n\n*[tokens: completion=2]*\n\n---\n"
    ) in markdown
    assert "**Total cost:** $0.000000007 (1 of 2)\n" in markdown
    text, figures = "Who?\n\n**glm-5:**\nI", Figures(9, 4, cost=7)
    assert read(markdown).said[0] == Said(1, "Claude Opus 4.6", text, figures=figures, upstream="One")


def test_an_upstream_of_any_name_is_no_figure() -> None:
    """What parts the figures of a line is spelled out in it."""
    name = "One, attempts=9, computed=$5, cached=4"
    said = talks.line(2, talks.GLM, "You.", 1, usage=Usage(input=3), cost=7, upstream=name, attempts=2)
    t = conversation([talks.line(1, talks.CLAUDE, "Who?", 1), said], participants=(talks.CLAUDE, talks.GLM))
    found = read(render(t, ALONE)).said[1]
    assert (found.upstream, found.attempts, found.figures) == (name, 2, Figures(3, cost=7))


def test_the_total_says_what_it_covers_and_what_was_spent_beside_it() -> None:
    """The sum of the turns, their coverage where it is not whole, and all attempts where they came to more."""
    markdown = render(replace(talks.rounds(), spent=30_000_000), ALONE)
    assert markdown.count("**Total cost:** $0.021000028, $0.0300 on all attempts\n") == 2
    unpaid = conversation([talks.line(1, talks.GLM, "x", 1)], participants=(talks.CLAUDE, talks.GLM), spent=0)
    assert "cost" not in render(unpaid, ALONE)


def test_what_an_observer_wrote_stands_before_the_statistics() -> None:
    """Below a heading that names the observer; statistics of its own are text."""
    text = "Fine.\n\n---\n\n## Session Statistics\n\n- **Rounds completed:** 9"
    t = replace(talks.rounds(), notes=(talks.note(text),))
    markdown = render(t, ALONE)
    assert markdown.index("## Observer's Notes (opus-4.6, Claude Opus 4.6)") < markdown.index("\n## Session Statistics")
    moved = text.replace("## Session", "#### Session")
    assert read(markdown).notes == (Noted("Observer's Notes", "opus-4.6, Claude Opus 4.6", moved),)
    assert [said.text for said in read(markdown).said] == [turn.text for turn in t.turns]


def test_rounds_that_begin_with_the_second_side_know_who_is_who() -> None:
    """In a random order the quoted side is still the first of the title."""
    turns = [
        talks.line(1, talks.GLM, "**Points:**\n\nx", 1),
        talks.line(2, talks.CLAUDE, "y", 1),
        talks.line(3, talks.GLM, "> z", 2),
    ]
    found = read(render(conversation(turns, participants=(talks.CLAUDE, talks.GLM)), ALONE))
    assert [(said.speaker, said.text) for said in found.said] == [
        ("glm-5", "**Points:**\n\nx"),
        ("Claude", "y"),
        ("glm-5", "> z"),
    ]
