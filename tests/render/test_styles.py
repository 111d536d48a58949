"""What holds for every style: nothing of a text acts or passes for ours, and what was written can be read again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import Usage
from runner.conversation import Look, Transcript
from runner.foreign import visible
from runner.render import STYLES, Links, StyleError, own_style, recognised
from runner.render.shapes import total_cost
from runner.render.style import Ending, Figures
from runner.status import Status
from tests.render import talks
from tests.render.reader import see
from tests.render.samples import ADA, BASIL, FRAGMENTS, NIGHT_BEGAN, conversation, eventful, hostile_texts, turn, varied

ALONE = Links()
OLD = ("letter", "rounds", "dialogue", "titled-rounds")
TEXTS = st.text(st.characters(), max_size=40) | st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join)
AT_ONCE = 50
"""So many texts stand in one file, that each of them could break the others."""


def normal(text: str | None) -> str | None:
    """A text with all its headings on one level, and without blank lines at its end; silence is none."""
    lines = [] if text is None else text.split("\n")
    while lines and not visible(lines[-1]).strip():
        lines.pop()
    return re.sub(r"^#{1,6}(?=[ \t]|$)", "#", "\n".join(lines), flags=re.MULTILINE) if lines else None


def talk(texts: Sequence[str], **changes: Any) -> Transcript:
    """Two models that say these texts in turns, with figures for each, and an observer who says the last one again."""
    turns = [
        talks.line(
            number,
            talks.OPUS if number % 2 else talks.GLM,
            text,
            (number + 1) // 2,
            usage=Usage(input=1_000 + number, output=number, reasoning=0),
            cost=number,
            cost_source="priced",
            seconds=number / 2,
        )
        for number, text in enumerate(texts, 1)
    ]
    ordinary: dict[str, Any] = {
        "participants": (talks.OPUS, talks.GLM),
        "opening": texts[0],
        "context": texts[-1],
        "notes": (talks.note(texts[-1]),),
        "started": NIGHT_BEGAN,
        "ended": NIGHT_BEGAN + 9,
    }
    return conversation(turns, **(ordinary | changes))


def outline(style: str, t: Transcript) -> tuple[int, int, int, int]:
    """How many headings, rules, lines of figures and labels a file of `talk` has."""
    turns, rounds = len(t.turns), t.rounds_planned
    return {
        "letter": (2, turns + 2, turns, turns),
        "rounds": (rounds + 3, rounds + 2, turns + 7, turns),
        "dialogue": (turns + 3, turns + 1, turns + 1, 0),
        "titled-rounds": (turns + 3, turns + 3, 3, 0),
    }[style]


def shown_figures(style: str, figures: Figures) -> Figures:
    """As much of them as a style shows."""
    if style in ("letter", "rounds"):
        return Figures(figures.input, figures.output, figures.reasoning, cost=figures.cost)
    if style == "dialogue":
        # Thinking that took no tokens is not mentioned there.
        pace = None if figures.output is None or not figures.seconds else figures.output / figures.seconds
        return Figures(output=figures.output, cost=figures.cost, seconds=figures.seconds, pace=pace)
    return Figures()


def survives(style: str, texts: Sequence[str]) -> None:
    t = talk(texts)
    markdown = STYLES[style].render(t, ALONE)
    found = STYLES[style].read(markdown)
    assert [normal(said.text) for said in found.said] == [normal(text) for text in texts]
    names = ("Claude Opus 4.6", "glm-5" if style == "rounds" else "GLM 5")
    assert [said.speaker for said in found.said] == [names[number % 2] for number in range(len(texts))]
    for said, text in zip(found.said, texts, strict=True):
        number = said.number
        known = Figures(1_000 + number, number, 0, cost=number, seconds=number / 2)
        assert said.figures == (shown_figures(style, known) if normal(text) is not None else Figures())
    assert found.opening == texts[0]
    assert [normal(noted.text) for noted in found.notes] == [normal(texts[-1])]
    assert normal(found.context) == (normal(texts[-1]) if style == "titled-rounds" else None)
    seen = see(markdown)
    labels = sum(label in {*names, "GLM 5", "glm-5", "opus-4.6"} for label in seen.labels)
    assert (len(seen.outline), seen.rules, len(seen.statistics), labels) == outline(style, t)
    assert seen.flowing.count("GLM 5") == (len(texts) // 2 if style == "letter" else 0)
    assert (seen.links, seen.definitions, set(seen.forbidden)) == ([], [], {"hr"})


def all_survive(style: str, texts: Sequence[str]) -> None:
    for start in range(0, len(texts), AT_ONCE):
        survives(style, texts[start : start + AT_ONCE])


@pytest.mark.fault(81, 82)
@pytest.mark.parametrize("style", OLD)
@pytest.mark.parametrize("part", range(4))
def test_two_thousand_hostile_replies_leave_an_older_shape_as_it_is(style: str, part: int) -> None:
    """Turns, speakers, figures and texts come back; no heading, rule, label or statistic is added, no link is live."""
    all_survive(style, hostile_texts(2_000, seed=7)[part * 500 : part * 500 + 500])


def spread(markdown: str, blanks: str) -> str:
    """The file with these blank lines more above each rule and each label within a round, and blanks behind notices."""
    markdown = markdown.replace("]*\n", "]*" + blanks.strip("\n") + "\n")
    return re.sub(r"\n(?=\n(?:---|\*\*glm-5:\*\*)(?:\n|$))", "\n" + blanks, markdown) + blanks


@pytest.mark.parametrize("blanks", ["\n", "\n\n", " \n\n\t\n"])
@pytest.mark.parametrize("style", OLD)
def test_blank_lines_at_the_end_of_a_turn_change_nothing(style: str, blanks: str) -> None:
    """Silence stays silence, figures stay figures and what was cut is cut; a text has none of them at its end."""
    usage = Usage(input=3, output=4)
    sides = talks.CLAUDE, talks.GLM
    turns = [
        talks.line(1, talks.CLAUDE, "One?", 1),
        talks.line(2, talks.GLM, "Yes.\n\n", 1, usage=usage, cost=7, seconds=2.0, outcome="truncated", stop="length"),
        talks.line(3, talks.CLAUDE, "Two?", 2),
        talks.line(4, talks.GLM, None, 2, outcome="failed", attempts=3, error={"kind": "empty", "message": "no text"}),
    ]
    t = conversation(turns, participants=sides, status="failed", reason="turn 4", notes=(talks.note("Both."),))
    markdown = STYLES[style].render(t, ALONE)
    found = STYLES[style].read(spread(markdown, blanks))
    assert found == STYLES[style].read(markdown)
    assert [said.text for said in found.said] == ["One?", "Yes.", "Two?", None]
    assert (found.said[1].outcome, found.said[1].stop) == ("truncated", "length")
    assert (found.said[1].figures.output, found.said[1].figures.cost) == (
        (None, None) if style == "titled-rounds" else (4, 7)
    )
    assert (found.said[3].attempts, found.said[3].error) == (3, "empty: no text")


def test_figures_below_a_blank_line_are_figures() -> None:
    """As an editor parts a heading from what follows it."""
    page = "# Model-to-Model Dialogue: A vs B\n\n---\n\n### Turn 1: A — x\n\n*(4 tokens, 2.0s)*\n\nx\n\n---\n"
    (said,) = STYLES["dialogue"].read(page).said
    assert (said.text, said.figures) == ("x", Figures(output=4, seconds=2.0))


@pytest.mark.parametrize("style", OLD)
def test_words_in_brackets_that_are_not_ours_stay_in_an_old_text(style: str) -> None:
    """What a voice does at the end of its line is no remark of ours."""
    t = conversation([talks.line(1, talks.OPUS, "Yes.\n\nSTAGE", 1)], participants=(talks.OPUS, talks.GLM))
    for words in ("*[aside: she laughs]*", "*[no reply came]*", "*[x=1]*"):
        page = STYLES[style].render(t, ALONE).replace("STAGE", words)
        assert STYLES[style].read(page).said[0].text == f"Yes.\n\n{words}"


@pytest.mark.prove
@pytest.mark.fault(81, 82)
@pytest.mark.parametrize("style", OLD)
def test_twenty_thousand_hostile_replies_leave_an_older_shape_as_it_is(style: str) -> None:
    """The same, ten times over."""
    all_survive(style, hostile_texts(20_000, seed=8))


@pytest.mark.prove
@pytest.mark.fault(81)
def test_twenty_thousand_hostile_replies_are_read_back_from_a_transcript_exactly() -> None:
    """Byte for byte, and nothing of the outline changes."""
    texts = hostile_texts(20_000, seed=9)
    for start in range(0, len(texts), AT_ONCE):
        some = texts[start : start + AT_ONCE]
        t = talk(some)
        markdown = STYLES["transcript"].render(t, ALONE)
        found = STYLES["transcript"].read(markdown)
        assert [said.text for said in found.said] == some
        assert (found.opening, found.context, [note.text for note in found.notes]) == (some[0], some[-1], [some[-1]])
        seen = see(markdown)
        assert len(seen.headings) == len(some) + 5
        assert (seen.links, seen.definitions, seen.forbidden) == ([], [], [])


@pytest.mark.fault(81)
@pytest.mark.parametrize("style", OLD)
@given(word=TEXTS, other=TEXTS)
@settings(max_examples=40, deadline=None)
def test_hostile_names_and_errors_stay_within_the_lines_of_an_older_shape(style: str, word: str, other: str) -> None:
    """Labels, models, titles, reasons, upstreams and messages of providers act nowhere, and the speakers come back."""
    one = talks.OPUS.__class__("a", f"A{word}", True, alias=f"a{other}", provider=word, model=f"m{other}")
    two = talks.OPUS.__class__("b", f"B{other}", True, alias=f"b{word}", provider=other, model=f"n{word}")
    usage = Usage(input=1, output=2)
    turns = [
        talks.line(1, one, "x", 1, label=f"l{word}", title=other, upstream=word, usage=usage, stop=other),
        talks.line(
            2, two, "y", 1, outcome="truncated", label=other, title=word, upstream=other, usage=usage, stop=word
        ),
        talks.line(3, one, None, 2, outcome="failed", attempts=1, error={"kind": word, "message": other}),
    ]
    t = conversation(
        turns,
        participants=(one, two),
        status="failed",
        reason=other,
        system=word,
        context=None,
        notes=(talks.note("z", heading=f"h{word}", alias=other, observer=word),),
        look=Look(style, dict.fromkeys(STYLES[style].texts, other)),
    )
    markdown = STYLES[style].render(t, ALONE)
    seen, found = see(markdown), STYLES[style].read(markdown)
    assert (seen.links, seen.definitions, set(seen.forbidden)) == ([], [], {"hr"})
    assert seen.rules == markdown.count("\n---\n")
    assert [said.text for said in found.said] == ["x", "y", None]
    first = f"A{word}"
    second = f"b{word}" if style == "rounds" else f"B{other}"
    assert [said.speaker for said in found.said] == [first, second, first]
    assert [note.text for note in found.notes] == ["z"]
    if style == "titled-rounds":
        assert [said.title for said in found.said][:2] == [other or None, word or None]
    if style in ("dialogue", "titled-rounds"):
        assert found.said[0].label == f"l{word}"
    if style == "rounds":
        assert found.system == word.strip("\n")
    assert found.said[0].figures.output == (None if style == "titled-rounds" else 2)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_shows_whatever_may_be_known_unknown_or_absent(style: str) -> None:
    """All kinds of conversations have a file, which ends with one newline and can be read."""
    for some in varied(60, seed=5):
        t = replace(some, participants=(ADA, BASIL))
        markdown = STYLES[style].render(t, ALONE)
        assert markdown.endswith("\n") and not markdown.endswith("\n\n")
        assert STYLES[style].suffix == ".md"
        told = [one for one in t.turns if one.text is not None or one.outcome != "open" or one.error is not None]
        if told or style != "letter":
            assert [normal(said.text) for said in STYLES[style].read(markdown).said] == [normal(o.text) for o in told]


@pytest.mark.parametrize("style", OLD)
def test_what_is_unknown_is_left_out_of_an_older_shape(style: str) -> None:
    """Without figures, a date or a cost there is no zero, no dash and no word `None`."""
    t = conversation([turn(1, "x"), turn(2, "y")], opening=None, look=Look(style))
    markdown = STYLES[style].render(t, ALONE)
    assert not re.search(r"\b0\b|None|unknown|–|\$|tokens", markdown)


@pytest.mark.parametrize("style", OLD)
def test_a_conversation_that_is_not_complete_says_so_in_its_last_line(style: str) -> None:
    """Turns that were never tried are not shown, but counted; an early end by a rule is told as well."""
    turns = [turn(1, "x"), turn(2, None)]
    cut = STYLES[style].render(conversation(turns, status="budget", reason="run ceiling reached"), ALONE)
    assert cut.endswith("\n\n*[not complete: budget, 1 of 2 turns: run ceiling reached]*\n")
    ended = STYLES[style].render(conversation(turns, reason="phrase: `[[END]]`"), ALONE)
    assert ended.endswith("\n\n*[ended: after 1 of 2 turns: phrase: \\`\\[\\[END\\]\\]\\`]*\n")
    assert len(STYLES[style].read(ended).said) == len(STYLES[style].read(cut).said) == 1


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(("status", "shown"), [("complete", "phrase: `[[END]]`"), ("failed", "turn 2: a * b")])
def test_how_a_conversation_ended_is_read_back(style: str, status: Status, shown: str) -> None:
    """Its status, its reason and how many turns there were to be; of one that ended with its last turn nothing."""
    turns = [turn(1, "x"), turn(2, None)]
    markdown = STYLES[style].render(conversation(turns, status=status, reason=shown), ALONE)
    assert STYLES[style].read(markdown).ending == Ending(status, 2, shown)
    assert STYLES[style].read(STYLES[style].render(talk(["x", "y"]), ALONE)).ending is None


def test_an_end_that_somebody_has_written_by_hand_is_read() -> None:
    """Without a count it is a reason; a word that is no status stands for a failure."""
    for line, ending in (
        ("*[ended: we were tired]*", Ending("complete", None, "we were tired")),
        ("*[ended: after 3 of 1,200 turns]*", Ending("complete", 1200, None)),
        ("*[not complete: failed]*", Ending("failed", None, None)),
        ("*[not complete: the power went]*", Ending("failed", None, "the power went")),
    ):
        page = f"# Voice Conversation: m\n\n---\n\n**A:**\n\nx\n\n---\n\n{line}\n"
        assert STYLES["letter"].read(page).ending == ending


def test_a_figure_that_nobody_can_have_counted_is_none_and_is_told() -> None:
    """Thousands of digits, and amounts that no sum could hold: as they stand, beside the figures that are sound."""
    huge = "9" * 5_000
    line = f"*[tokens: prompt=7, completion={huge}, reasoning=9,000,000,000,000, cost=$99999999999]*"
    page = f"# Voice Conversation: m\n\n---\n\n**A:**\n\nx\n\n{line}\n\n---\n"
    assert STYLES["letter"].read(page).said[0].figures == Figures(7, odd=(huge, "9,000,000,000,000", "$99999999999"))
    page = f"# Model-to-Model Dialogue: A vs B\n\n---\n\n### Turn {huge}: A — x\n*(4 tokens, {huge}s)*\n\nx\n\n---\n"
    assert STYLES["dialogue"].read(page).said[0].figures == Figures(output=4, odd=(huge,))
    page = f"## {huge}. a\n\n*sim/ada · {huge} in · $0.5 priced*\n\n> x\n"
    assert STYLES["transcript"].read(page).said[0].figures == Figures(cost=500_000_000, odd=(huge,))


def test_a_figure_of_another_form_is_told_and_not_passed_over() -> None:
    """A minus behind its sign, another currency, a fraction of a token: each beside the figures that are sound."""
    line = "*[tokens: prompt=7, completion=1.5, cost=$-5, cached=few, upstream=One]*"
    page = f"# Voice Conversation: m\n\n---\n\n**A:**\n\nx\n\n{line}\n\n---\n"
    assert STYLES["letter"].read(page).said[0].figures == Figures(7, odd=("1.5", "$-5", "few"))
    for figures, odd in (
        ("prompt=-3, cost=$0.1", "-3"),
        ("prompt=7, cost=5", "5"),
        ("prompt=7, cost=€5", "€5"),
        ("cost=$-5", "$-5"),
    ):
        assert STYLES["letter"].read(page.replace(line, f"*[{figures}]*")).said[0].figures.odd == (odd,)
    page = "# Model-to-Model Dialogue: A vs B\n\n---\n\n### Turn 1: A — x\n*(4 tokens, 2.0s, $-5)*\n\nx\n\n---\n"
    assert STYLES["dialogue"].read(page).said[0].figures == Figures(output=4, seconds=2.0, odd=("$-5",))
    page = "## 1. a\n\n*sim/ada · 7 in · $-5 priced*\n\n> x\n"
    assert STYLES["transcript"].read(page).said[0].figures == Figures(7, odd=("$-5",))


@pytest.mark.parametrize("style", STYLES)
def test_a_file_is_recognised_by_its_shape(style: str) -> None:
    """Whoever finds a file need not be told how it was made; a page of something else is none of ours."""
    assert recognised(STYLES[style].render(talk(["x", "y", "z"]), ALONE)) == style
    assert recognised("# Notes\n\n> to myself\n") is None
    assert recognised("") is None


@pytest.mark.parametrize("style", OLD)
def test_a_page_of_another_shape_is_refused(style: str) -> None:
    """Reading does not make turns of what is none."""
    with pytest.raises(ValueError, match=r"needs? a"):
        STYLES[style].read("# Something else\n\n---\n\n**USER:**\n\nx\n")


@pytest.mark.parametrize("style", OLD)
def test_two_sides_with_one_name_are_told_apart_by_their_roles(style: str) -> None:
    """A model that talks with itself has two speakers in every file."""
    one = talks.GLM.__class__("a", "GLM 5", True, alias="glm-5", provider="p", model="glm-5")
    two = talks.GLM.__class__("b", "GLM 5", True, alias="GLM 5", provider="p", model="glm-5")
    t = conversation([talks.line(1, one, "x", 1), talks.line(2, two, "y", 1)], participants=(one, two))
    assert STYLES[style].read(STYLES[style].render(t, ALONE)).speakers == ("GLM 5 (a)", "GLM 5 (b)")


@pytest.mark.parametrize("style", OLD)
def test_three_speakers_are_read_back_from_every_shape(style: str) -> None:
    """Bold words in a reply are no fourth one, nor does a reply of one end where it names another."""
    sides = [talks.GLM.__class__(role, role.upper(), True, alias=role, model=role) for role in ("one", "two", "three")]
    text = "**Key points:**\n\n**three:**\nno, **TWO:**\n\n---\n\n**ONE:**\n\nx"
    turns = [talks.line(number + 1, sides[number % 3], text, number // 3 + 1) for number in range(6)]
    found = STYLES[style].read(STYLES[style].render(conversation(turns, participants=tuple(sides)), ALONE))
    assert [said.text for said in found.said] == [text] * 6
    assert [said.speaker.lower() for said in found.said] == ["one", "two", "three"] * 2


PAGE = Path(__file__).parents[2] / "docs" / "transcripts.md"
BLOCK = re.compile(r"^(````?)(\w+)\n(.*?)^\1\n", re.DOTALL | re.MULTILINE)


def test_each_example_of_the_page_about_styles_is_a_file_of_its_style() -> None:
    """What is shown there can be read, and is what is written: the page cannot drift from the code."""
    blocks = [text for _, language, text in BLOCK.findall(PAGE.read_text("utf-8")) if language == "markdown"]
    examples = [text for text in blocks if not text.startswith("*[")]
    assert [recognised(text) for text in examples] == ["transcript", *OLD]
    for text in examples:
        style = STYLES[recognised(text) or ""]
        assert all(said.text or said.number == 4 for said in style.read(text).said)


def test_the_example_of_a_style_of_ones_own_works() -> None:
    """Copied from the page it shows a conversation, and no reply acts in it."""
    [source] = [text for _, language, text in BLOCK.findall(PAGE.read_text("utf-8")) if language == "python"]
    look = Look("styles/mine.py", {"motto": "Listen first."})
    style = own_style(look, lambda path: loaded(source, path))
    assert set(look.texts) == set(style.texts)
    markdown = style.render(replace(eventful(), look=look), ALONE)
    assert "Listen first.\n\n**Host**\n\nShall we begin?" in markdown
    assert markdown.endswith("4 of 6 turns, failed\n")
    assert see(markdown).outline == ["memory/ada~basil"]


def test_the_page_names_the_texts_of_each_style() -> None:
    """Whoever writes a job finds there what a style takes."""
    page = PAGE.read_text("utf-8")
    for name, style in STYLES.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert re.findall(r"`([\w-]+)`", row) == [name, *style.texts]


# --- a style of the user's own ---------------------------------------------------------------------------------------


def loaded(source: str, path: str = "styles/mine.py") -> ModuleType:
    module = ModuleType("mine")
    exec(compile(source, f"/home/me/{path}", "exec"), module.__dict__)
    return module


MINE = """
suffix = ".txt"
texts = {"motto": "a line at the top"}

def render(t, links):
    return f"{t.look.texts['motto']}: {len(t.done)} turns\\n"
"""


def test_a_style_of_ones_own_is_a_file_with_a_function() -> None:
    """It has the conversation, its own texts and its own suffix; what no file can hold is replaced."""
    look = Look("styles/mine.py", {"motto": "Go \ud800on"})
    style = own_style(look, lambda path: loaded(MINE, path))
    assert (style.suffix, style.texts) == (".txt", {"motto": "a line at the top"})
    assert style.render(conversation([turn(1, "x")], look=look), ALONE) == "Go \ufffdon: 1 turns\n"
    bare = own_style(look, lambda path: loaded("def render(t, links): return ''"))
    assert (bare.suffix, bare.texts) == (".md", {})


@pytest.mark.parametrize(
    ("source", "trouble"),
    [
        ("x = 1", "styles/mine.py: there is no function `render(transcript, links)` in it"),
        ("render = 'text'", "styles/mine.py: there is no function `render(transcript, links)` in it"),
        ("def render(t, links:\n    pass", "styles/mine.py:1: SyntaxError: "),
        ("\nimport nothing_of_this_name\n", "styles/mine.py:2: ModuleNotFoundError: No module named 'nothing_of_"),
        ("suffix = 'md'\ndef render(t, links): return ''", "styles/mine.py: `suffix` must be a dot and letters"),
        ("suffix = './../x'\ndef render(t, links): return ''", "styles/mine.py: `suffix` must be a dot and letters"),
        ("texts = ['a']\ndef render(t, links): return ''", "styles/mine.py: `texts` must be a mapping of names to"),
        ("texts = {'a': 1}\ndef render(t, links): return ''", "styles/mine.py: `texts` must be a mapping of names to"),
    ],
)
def test_a_file_that_is_no_style_is_refused_with_its_line(source: str, trouble: str) -> None:
    """What is wrong with it is one sentence, with the place in the user's file."""
    with pytest.raises(StyleError) as told:
        own_style(Look("styles/mine.py"), lambda path: loaded(source, path))
    assert str(told.value).startswith(trouble)


@pytest.mark.parametrize(
    ("body", "trouble"),
    [
        ("return None", "styles/mine.py: `render` gave NoneType for memory/ada~basil; it must give a string"),
        ("return b'x'", "styles/mine.py: `render` gave bytes for memory/ada~basil; it must give a string"),
        ("return t.title", "styles/mine.py:2: AttributeError: 'Transcript' object has no attribute 'title'"),
        ("raise ValueError('a\\x1b[2J\\nb')", "styles/mine.py:2: ValueError: a\\u{1b}[2J b"),
        ("return render(t, links)", "styles/mine.py:2: RecursionError: "),
        ("assert not t", "styles/mine.py:2: AssertionError: no particulars"),
        ("raise SystemExit(0)", "styles/mine.py:2: SystemExit: 0"),
        ("raise KeyboardInterrupt", "styles/mine.py:2: KeyboardInterrupt: no particulars"),
        ("return type('Odd', (str,), {})('x')", "styles/mine.py: `render` gave Odd for memory/ada~basil"),
    ],
)
def test_a_style_that_fails_is_told_with_its_line(body: str, trouble: str) -> None:
    """An exception of the user's code is no bug of ours, and its words cannot act."""
    style = own_style(Look("styles/mine.py"), lambda path: loaded(f"def render(t, links):\n    {body}", path))
    with pytest.raises(StyleError) as told:
        style.render(conversation([turn(1, "x")]), ALONE)
    assert str(told.value).startswith(trouble)


@pytest.mark.parametrize("given", ["t", "t, links, more", "*, t, links", "t, *, links"])
def test_a_style_that_cannot_be_called_is_refused_before_it_is_needed(given: str) -> None:
    """With the line of its function; what takes more than the two is as good as what takes them."""
    with pytest.raises(StyleError, match=r"^styles/mine\.py:2: `render` must take a transcript and its links"):
        own_style(Look("styles/mine.py"), lambda path: loaded(f"\ndef render({given}):\n    return ''", path))
    for fine in ("t, links, more=1", "*all", "a, b"):
        own_style(Look("styles/mine.py"), partial(loaded, f"def render({fine}): return ''"))


def test_a_line_of_ours_is_never_told_as_one_of_theirs() -> None:
    """Also where the user's file has the name of one of ours, from which it calls something."""
    source = "from runner.render.shapes import style\ndef render(t, links):\n    return style(t, links)\n"
    source = "from runner.render import jsonl\ndef render(t, links):\n    return jsonl.line(links)\n"
    style = own_style(Look("jsonl.py"), lambda path: loaded(source, path))
    with pytest.raises(StyleError, match=r"^jsonl\.py:3: "):
        style.render(conversation([turn(1, "x")]), ALONE)


def test_a_missing_file_is_told_by_its_name() -> None:
    """The reason of the system stands beside the path of the job."""

    def load(path: str) -> ModuleType:
        raise FileNotFoundError(2, "No such file or directory", f"/home/me/{path}")

    with pytest.raises(StyleError, match=r"^styles/mine\.py: FileNotFoundError: .*No such file"):
        own_style(Look("styles/mine.py"), load)


def test_a_total_says_what_was_carried_over_and_what_is_only_assumed() -> None:
    """Figures that stand under turns and are in no total would not add up without a word."""
    cents = 10_000_000
    said = [replace(turn(number, "x"), given=False, cost=number * cents) for number in (1, 2, 3)]
    t = replace(
        conversation([replace(said[0], carried=True), replace(said[1], carried=True), said[2]]), spent=3 * cents
    )
    assert total_cost(t) == "$0.0300, $0.0300 for turns that were carried over"
    t = replace(t, spent=8 * cents, assumed=5 * cents)
    assert str(total_cost(t)).endswith(" carried over, $0.0800 on all attempts ($0.0500 of it assumed)")
    page = STYLES["transcript"].render(t, ALONE)
    assert "Spent on all attempts: $0.0800 ($0.0500 of it assumed), of which $0.0300" in page
    read = [replace(one, heard="old.md", carried=number == 0) for number, one in enumerate(said[:2])]
    assert total_cost(replace(t, turns=tuple(read), spent=0, assumed=0)) == "$0.0300 by the file that was read in"


def test_what_those_cost_who_were_asked_is_told_apart_in_the_head() -> None:
    """It is part of what the conversation cost, and of no turn; only what else was spent is that of all attempts."""
    told = "$0.000008, $0.000268 for answers of those who were asked"
    assert total_cost(replace(talks.moderated(), spent=276_000)) == told
    assert total_cost(talks.moderated()) == f"{told}, $0.0003 on all attempts"
