from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from runner.call import Usage, has_text
from runner.conversation import Origin, Participant
from runner.foreign import visible
from runner.render import DEFAULT, STYLES, Links
from runner.render.style import Asked, Ending, Figures, Noted, ReadBack
from runner.render.transcript import read, render, suffix
from tests.render.golden import assert_golden
from tests.render.reader import see
from tests.render.samples import (
    ADA,
    BASIL,
    FRAGMENTS,
    HOST,
    NIGHT_BEGAN,
    conversation,
    eventful,
    hostile_texts,
    turn,
    varied,
)
from tests.render.talks import answer, continued, moderated, note

TEXTS = st.text(st.characters(), max_size=60) | st.lists(st.sampled_from(FRAGMENTS), max_size=10).map("".join)
ALONE = Links()


def front_matter(markdown: str) -> dict[str, Any]:
    head = markdown.split("\n---\n", 1)[0].removeprefix("---\n")
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load(StringIO(head))
    return loaded


def test_the_transcript_of_an_eventful_conversation_is_the_golden_one() -> None:
    """Front matter, callouts, quotes, figures, statistics and links look as they did."""
    assert_golden("transcript.md", render(eventful(), Links("basil~ada.md", "ada~eli.md")))


def test_the_default_style_is_registered() -> None:
    """The registry finds the style by its name, and its files end in .md."""
    assert STYLES[DEFAULT].render(eventful(), ALONE) == render(eventful(), ALONE)
    assert STYLES[DEFAULT].suffix == suffix == ".md"


@pytest.mark.fault(81)
@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS, st.none() | TEXTS, st.none() | TEXTS, TEXTS)
@settings(max_examples=150, deadline=None)
def test_reading_back_gives_the_same_messages(
    texts: list[str], role: str, context: str | None, opening: str | None, label: str
) -> None:
    """Texts, roles, context and opening come back exactly, whatever they contain."""
    turns = [turn(n, text, role=role, speaker=label, label=opening) for n, text in enumerate(texts, 1)]
    markdown = render(conversation(turns, context=context, opening=opening, name=label), ALONE)
    found = read(markdown)
    assert (found.context, found.opening) == (context, opening)
    said = [(one.number, one.role, one.speaker, one.label, one.text) for one in found.said]
    assert said == [(n, role, label, opening or None, text) for n, text in enumerate(texts, 1)]


@pytest.mark.fault(81)
def test_two_thousand_hostile_replies_change_nothing_of_the_outline() -> None:
    """Headings and links of a page are exactly ours, and no rule, image, tag or definition is in it."""
    texts = hostile_texts(2_000, seed=7)
    for start in range(0, len(texts), 100):
        some = texts[start : start + 100]
        turns = [turn(n, text) for n, text in enumerate(some, 1)]
        markdown = render(conversation(turns), Links("before.md", "after.md"))
        assert [said.text for said in read(markdown).said] == some
        seen = see(markdown)
        outline = [f"{t.number}. {t.speaker} ({t.role})" for t in turns]
        assert seen.headings == ["memory/ada~basil", "Opening", *outline, "Statistics"]
        assert seen.links == ["before.md", "after.md"]
        assert (seen.forbidden, seen.definitions) == ([], [])


@given(TEXTS, TEXTS)
@settings(max_examples=100, deadline=None)
def test_hostile_names_and_errors_stay_within_their_lines(word: str, other: str) -> None:
    """Model names, labels, reasons and messages of providers act neither in the page nor in its front matter."""
    t = conversation(
        [
            turn(
                1,
                "x",
                speaker=word,
                label=other,
                model=word,
                served=other,
                upstream=word,
                stop=other,
                outcome="truncated",
            ),
            turn(2, None, outcome="failed", attempts=1, error={"kind": word, "message": other}),
        ],
        name=word,
        job=other,
        prompt=word,
        status="failed",
        reason=other,
        error={"kind": other, "message": word},
        participants=(
            Participant("a", word, True, alias=other, provider=word, model=other),
            Participant("b", word, False),
        ),
    )
    markdown = render(t, ALONE)
    seen = see(markdown)
    assert len(seen.headings) == 5
    assert (seen.links, seen.forbidden, seen.definitions) == ([], [], [])
    assert [said.text for said in read(markdown).said] == ["x", None]
    head = front_matter(markdown)
    assert (head["title"], head["job"]) == tuple(visible(name, keep_newlines=False) for name in (word, other))


def test_the_front_matter_is_flat_and_holds_the_figures() -> None:
    """A YAML reader finds text, numbers and lists of text, and nothing for what is unknown."""
    assert front_matter(render(eventful(), ALONE)) == {
        "title": "memory/ada~basil",
        "job": "first-talk",
        "run": "main",
        "prompt": "memory",
        "pairing": "Host ~ ada ~ basil",
        "models": ["sim/ada", "sim/basil"],
        "status": "failed",
        "rounds": "1 of 3",
        "cost_usd": 0.006734567,
        "tokens_out": 640,
        "started": "2026-11-21T01:00:00Z",
        "duration_s": 75.5,
        "tags": ["tertulia", "first-talk", "memory", "failed", "truncated", "refused"],
    }
    assert not {"tokens_out", "started", "duration_s"} & set(front_matter(render(conversation([turn(1, "x")]), ALONE)))


def test_a_transcript_without_turns_can_be_read() -> None:
    """A conversation that never began has a page, too, and no texts."""
    t = conversation([], opening=None, status="pending", reason="provider is dead")
    assert read(render(t, ALONE)) == ReadBack(
        (),
        model="sim/ada, sim/basil",
        models={"a": "sim/ada", "b": "sim/basil"},
        ending=Ending("pending", 0, "provider is dead"),
    )
    assert "> **Not complete: pending.** 0 of 0 turns were said.\\\n> Reason: provider is dead" in render(t, ALONE)


def test_unknown_figures_are_left_out_and_never_shown_as_zero() -> None:
    """A turn of which nothing is known has no meta line, and a total of nothing is a dash."""
    markdown = render(conversation([turn(1, "x", model=None)]), ALONE)
    assert "## 1. Ada (a)\n\n> x\n\n## Statistics" in markdown
    assert "| **Total** | 1 of 1 | – | – | – | – | – | – |" in markdown
    assert "0 of 1 turn has figures." in markdown


def test_a_known_zero_is_shown() -> None:
    """Nought that was reported is a figure."""
    markdown = render(conversation([turn(1, "x", usage=Usage(input=5, output=2, reasoning=0), cost=0)]), ALONE)
    assert "*sim/ada · 5 in · 2 out · 0 reasoning · $0.0000 assumed*" in markdown


def test_totals_say_what_they_cover() -> None:
    """A sum over some of the turns names how many, for each figure."""
    usages = [Usage(input=10, output=1), Usage(input=20), Usage(input=30, output=3), Usage()]
    markdown = render(conversation([turn(n, "x", usage=u, cost=n) for n, u in enumerate(usages, 1)]), ALONE)
    assert "| **Total** | 4 of 4 | 60 (3 of 4) | – | 4 (2 of 4) | – | $0.00000001 | – |" in markdown
    assert "| Ada (a) | 2 of 2 | 40 | – | 4 | – | $0.000000004 | – |" in markdown
    assert (
        "2 of 4 turns have figures. Spent on all attempts: $0.00000001, of which $0.00000001 on the turns" in markdown
    )


@pytest.mark.fault(52)
@pytest.mark.parametrize(
    ("reported", "computed", "flagged"),
    [
        (102, 100, False),
        (103, 100, True),
        (97, 100, True),
        (98, 100, False),
        (1_021, 1_000, True),
        (1, 0, True),
        (0, 0, False),
        (None, 9, False),
    ],
)
def test_a_difference_in_cost_above_two_percent_is_flagged(reported: int | None, computed: int, flagged: bool) -> None:
    """The provider's figure and the price list's may differ a little, not more."""
    one = turn(1, "x", usage=Usage(cost=reported), computed=computed, cost=reported, cost_source="reported")
    assert ("**Cost differs:**" in render(conversation([one]), ALONE)) is flagged


def test_a_failed_turn_shows_what_happened_in_the_place_of_its_reply() -> None:
    """Nobody can take a failure for a finished round."""
    markdown = render(eventful(), ALONE)
    assert "> [!WARNING]\n> **No reply after 3 attempts.** empty: no text \\| \\`finish\\` stop \\# x\n" in markdown
    assert [said.number for said in read(markdown).said if said.text is None] == [5]
    assert "## 6." not in markdown


def test_what_became_of_a_turn_is_read_back() -> None:
    """Who served it, after how many attempts, what it lacks, and what stands in the place of a reply."""
    found = read(render(eventful(), ALONE)).said
    assert [(said.upstream, said.attempts, said.outcome, said.stop, said.error) for said in found] == [
        (None, 0, "ok", None, None),
        ("Upstream One", 2, "ok", None, None),
        (None, 1, "truncated", "length", None),
        (None, 1, "refused", "content_filter", None),
        (None, 3, "ok", None, "empty: no text | `finish` stop # x"),
    ]


@pytest.mark.fault(81)
@given(TEXTS, TEXTS, TEXTS)
@settings(max_examples=100, deadline=None)
def test_the_system_texts_of_the_models_are_shown_and_read_back(role: str, one: str, other: str) -> None:
    """Each side's own comes back exactly, whatever it contains; that of a script is no model's, a blank one none."""
    sides = (
        replace(ADA, role=f"a{role}", system=one),
        replace(BASIL, role=f"b, {role}", system=other),
        replace(ADA, role=f"{role}c", system=one),
        replace(HOST, system=other),
    )
    markdown = render(conversation([turn(1, "x")], participants=sides, opening=None), ALONE)
    found = read(markdown)
    assert found.systems == {side.role: side.system for side in sides[:3] if has_text(side.system)}
    assert [said.text for said in found.said] == ["x"]
    seen = see(markdown)
    shown = len({side.system for side in sides if has_text(side.system)})
    assert len(seen.headings) == 3 + shown
    assert (seen.links, seen.forbidden, seen.definitions) == ([], [], [])


def test_a_system_text_that_several_sides_share_stands_there_once() -> None:
    """Below the names of all who are told the same; where nobody is told anything there is no heading."""
    sides = tuple(replace(side, system="Be brief.") for side in (ADA, BASIL))
    markdown = render(conversation([turn(1, "x")], participants=sides), ALONE)
    assert markdown.count("\n\n## System text (a, b)\n\n> Be brief.\n\n") == markdown.count("System text") == 1
    assert "System text" not in render(conversation([turn(1, "x")]), ALONE)


def test_a_complete_conversation_carries_no_callout() -> None:
    """Without a fault there is nothing to warn of."""
    assert "> [!" not in render(conversation([turn(1, "x"), turn(2, "[!WARNING] y")]), ALONE)


def test_all_kinds_of_transcripts_are_rendered_and_read_back() -> None:
    """Whatever is known, unknown or absent, the page can be made and holds each text."""
    for t in varied(60, seed=3):
        expected = [
            (one.number, one.role, one.text)
            for one in t.turns
            if one.text is not None or one.outcome != "open" or one.error is not None
        ]
        found = read(render(t, ALONE))
        assert [(said.number, said.role, said.text) for said in found.said] == expected
        assert (found.context, found.opening) == (t.context, t.opening)


def test_durations_begin_where_the_conversation_did() -> None:
    """Stamps are UTC and durations come from them alone."""
    t = conversation([turn(1, "x")], started=NIGHT_BEGAN, ended=NIGHT_BEGAN + 3)
    assert front_matter(render(t, ALONE))["duration_s"] == 3.0


def test_a_page_with_a_moved_quote_is_refused() -> None:
    """Reading back does not guess to whom a text belongs."""
    markdown = render(conversation([turn(1, "x")]), ALONE)
    for broken in ("> a\n" + markdown, markdown.replace("> x", "> x\n\n> y"), markdown + "\n> z\n"):
        with pytest.raises(ValueError, match="a quote stands"):
            read(broken)


def test_rendering_is_deterministic() -> None:
    """An equal transcript gives the same bytes."""
    assert render(eventful(), ALONE) == render(replace(eventful()), ALONE)


def test_what_came_after_and_where_it_came_from_look_like_the_golden_one() -> None:
    """Origin, titles, weighed figures, carried and heard lines, and what observers wrote or failed to write."""
    assert_golden("transcript-continued.md", render(continued(), ALONE))


def test_the_figures_titles_and_notes_of_a_page_are_read_back() -> None:
    """What observers wrote comes back exactly, a note that failed has no text, and titles are no note of their own."""
    found = read(render(continued(), ALONE))
    observer = "opus-4.6, Claude Opus 4.6"
    assert found.notes == (
        Noted("Observer's Notes", observer, "# Polite\n\n---\n\n> [!NOTE]\n> to the end."),
        Noted("5. Scores", observer, '{"warmth": 3}'),
        Noted("Synthesis", observer, None),
    )
    assert [(said.title, said.label) for said in found.said] == [
        ("The Beginning", None),
        (None, None),
        ("A “Last” Word", "Response"),
    ]
    assert found.said[2].figures == Figures(input=40, output=3, cost=2_000, seconds=1.0, pace=3.0)
    assert found.said[1].figures == Figures()
    assert found.speakers == ("Claude Opus 4.6", "Claude", "GLM 5")
    assert read(render(eventful(), ALONE)).said[1].figures == Figures(
        812, 240, 100, 512, 3_600_000, 3.7, pace=75.0, computed=4_000_000
    )
    assert read(render(eventful(), ALONE)).date == "2026-11-21T01:00:00Z"


def test_what_a_moderator_chose_and_others_voted_looks_like_the_golden_one() -> None:
    """One line below the figures of a turn, a row in the sums, and what it cost beside what the turns did."""
    assert_golden("transcript-moderated.md", render(moderated(), ALONE))


def test_who_chose_and_how_others_voted_is_read_back_with_its_figures() -> None:
    """What an answer took is not taken for what its turn took, and a message of a provider is no figure."""
    found = [said.asked for said in read(render(moderated(), ALONE)).said]
    took = Figures(61, 2, cost=67_000, seconds=0.4)
    assert found == [
        (Asked("pick", "Eli", True, took),),
        (Asked("pick", "Eli", False, took), Asked("vote", "Ann (2)", False, took)),
        (Asked("pick", "Eli", False),),
        (Asked("vote", "Ann (2)", True, took),),
        (Asked("vote", "Eli", None),),
    ]
    assert read(render(moderated(), ALONE)).said[0].figures == Figures(40, 3, cost=2_000)


@pytest.mark.fault(81)
@given(TEXTS, TEXTS, st.booleans())
@settings(max_examples=100, deadline=None)
def test_hostile_names_and_answers_of_those_who_were_asked_stay_within_their_lines(
    word: str, other: str, is_known: bool
) -> None:
    """Their names come back exactly; neither their models nor their troubles are figures, or lines of their own."""
    model = word if is_known else None
    notes = (
        answer("a", observer=word, model=other, provider=word, attempts=1),
        answer(None, observer=other, model=model, error={"kind": word, "message": other}, attempts=2),
        answer(None, observer=other, kind="pick", reason=f"in the given order: {word}"),
    )
    markdown = render(conversation([turn(1, other, model=model, asked=notes)], opening=None), ALONE)
    (said,) = read(markdown).said
    assert said.text == other and said.figures == Figures()
    assert said.asked == (Asked("pick", word, True), Asked("vote", other, None), Asked("pick", other, False))
    seen = see(markdown)
    assert seen.headings == ["memory/ada~basil", "1. Ada (a)", "Statistics"]
    assert (seen.links, seen.forbidden, seen.definitions) == ([], [], [])


def test_a_vote_of_nought_is_shown_whoever_said_the_line() -> None:
    """Nobody was for the end: that is a figure, also where no model wrote the line after which the vote was held."""
    weighed = {"vote": 0.0}
    turns = [
        turn(1, "x", weighed=weighed),
        turn(2, "x", weighed=weighed, given=True),
        turn(3, "x", weighed=weighed, heard="inbox/a.md"),
    ]
    markdown = render(conversation(turns), ALONE)
    assert markdown.count(" · weighed vote 0.00*\n") == 3


@pytest.mark.parametrize("kind", ["extend", "fork", "redo"])
def test_the_origin_stands_in_the_front_matter_and_below_the_title(kind: Literal["extend", "fork", "redo"]) -> None:
    """Programs and people find the conversation that this one goes on with, and how much they share."""
    t = replace(conversation([turn(1, "x")]), origin=Origin("0" * 16, "old*name", kind, 3))
    markdown = render(t, ALONE)
    head = front_matter(markdown)
    assert (head["origin"], head["origin_id"], head["origin_kind"], head["origin_lines"]) == (
        "old*name",
        "0" * 16,
        kind,
        3,
    )
    assert f" old\\*name ({'0' * 16}): its first 3 lines are carried over.*\n" in markdown


@pytest.mark.fault(81)
def test_hostile_names_of_upstreams_and_boxes_are_no_figures() -> None:
    """A dot in a name does not make a figure of what follows it."""
    name = "x · 999 in · $9.0000 reported · 5 min 00 s"
    figures = read(render(conversation([turn(1, "x", upstream=name, served=name, model=name)]), ALONE)).said[0].figures
    assert figures == Figures()
    assert read(render(conversation([turn(1, "x", heard=name)]), ALONE)).said[0].figures == Figures()


@pytest.mark.fault(81)
@given(st.lists(TEXTS, max_size=3), TEXTS, TEXTS)
@settings(max_examples=60, deadline=None)
def test_reading_back_gives_the_same_notes(texts: list[str], heading: str, observer: str) -> None:
    """Observers' texts and headings come back exactly, whatever they contain."""
    notes = [note(text, heading=heading, alias=observer, observer=observer) for text in texts]
    found = read(render(conversation([turn(1, "x")], notes=tuple(notes)), ALONE))
    assert found.notes == tuple(Noted(heading or "Notes", observer, text) for text in texts)
