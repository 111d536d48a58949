from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.render import markdown
from runner.render.markdown import (
    ANY_BOLD,
    brief,
    embedded,
    extracted,
    fenced,
    link,
    literal,
    plain,
    quoted,
    row,
    unquoted,
)
from tests.render.reader import see
from tests.render.samples import FRAGMENTS, hostile_texts

ANY_TEXT = st.text(st.characters(), max_size=80)
NINE = "\\`" * 9
WORST = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


@given(ANY_TEXT | WORST)
@settings(max_examples=400, deadline=None)
@example("")
@example("\n")
@example(" ")
@example("a\r")
@example("\\---")
@example("\\\\# x")
@example("a\\@b.c")
@example("```mermaid\nx\n```")
@example("- ```\n  <b>\n  ```")
def test_a_quote_gives_the_text_back(text: str) -> None:
    """Quoting loses nothing: spaces at the ends, empty lines, controls and backslashes come back as they were."""
    assert unquoted(quoted(text)) == text


SIGNS = ("\\", "`", "#", "~~~", "[", "]", "(", ":", "://", "@", "<a", "</", "&a;", "[!", "[^", "www.", "wWw.", "a", " ")


@given(ANY_TEXT | WORST | st.lists(st.sampled_from(SIGNS), max_size=6).map("".join))
@settings(max_examples=400, deadline=None)
def test_the_quick_look_passes_over_nothing_that_acts(line: str) -> None:
    """Where it finds no sign, looking for all that could act finds nothing either."""
    line = line.replace("\n", " ")
    assert markdown._may_act(line) or markdown._ACTS.search(line) is None


@given(
    ANY_TEXT | WORST | st.lists(st.sampled_from((*SIGNS, "u{", "\n", "---", "é", "\u200b")), max_size=6).map("".join)
)
@settings(max_examples=400, deadline=None)
@example("a ---\nb\t\n* * *\n=")
@example("é\u2028")
@example("\ud800")
@example("wWw.x")
@example("x://y")
@example("Naïve — “quoted”\n\nno more ")
def test_a_text_that_is_told_at_once_is_shown_as_if_it_had_been_looked_through(text: str) -> None:
    """What is quoted does not depend on how soon it was seen that nothing in it acts."""
    at_once = quoted(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(markdown, "_is_harmless", lambda text: False)
        assert quoted(text) == at_once


@pytest.mark.parametrize("text", ["Dear friend,\n\n\tit is *late*.", "Naïve — “quoted”, and 友 is 愛. \n> So?", ""])
def test_ordinary_texts_are_told_at_once(text: str) -> None:
    """Also those whose letters are not all in ASCII."""
    assert markdown._is_harmless(text)


@pytest.mark.fault(82)
def test_two_thousand_hostile_texts_come_back_and_do_nothing() -> None:
    """No mixture of the worst fragments opens a heading, rule, link, image, definition or tag in a renderer."""
    for text in hostile_texts(2_000, seed=20_261_121):
        quote = quoted(text)
        assert unquoted(quote) == text
        assert all(line == ">" or line.startswith("> ") for line in quote.split("\n"))
        seen = see(f"# ours\n\n{quote}\n\n[ours](ours)\n")
        assert (seen.headings, seen.links, seen.forbidden, seen.definitions) == (["ours"], ["ours"], [], []), repr(text)


@pytest.mark.parametrize(
    "text",
    [
        "An ordinary paragraph, with *emphasis*, **weight** and ~~regret~~ (twice).",
        "- a list\n- of things\n  - nested\n1. and numbers",
        "It costs $5 - or 3 < 4, if a[0] & b; see [1], C:\\path and 50 % of 1.5.",
        "Code such as `<b>`, `a[0](x)`, ``a`b`` stays code.",
        "```python\nif a < b:\n    print('<b>', \"[x](y)\")  # ok\n\n---\n```",
        "1. A step:\n   ```bash\n   curl https://example.org <in\n   ```",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "- [ ] a task\n- [x] done",
        "Windows C:\\users is not an escape; \\* is.",
    ],
)
def test_ordinary_prose_lists_and_code_are_quoted_as_they_stand(text: str) -> None:
    """What cannot do harm is not touched, so that it looks as its author meant it."""
    assert quoted(text) == "\n".join(f"> {line}" if line else ">" for line in text.split("\n"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# a", "> \\# a"),
        ("- # a", "> - \\# a"),
        ("a\n===", "> a\n> \\==="),
        ("---", "> \\---"),
        ("> * * *", "> > \\* * *"),
        ("<script>", "> \\<script>"),
        ("\\<b>", "> \\\\\\<b>"),
        ("[a](b) ![c](d)", "> [a]\\(b) ![c]\\(d)"),
        ("[a]: b", "> [a]\\: b"),
        ("[!WARNING]", "> \\[!WARNING]"),
        ("[[page]]", "> [\\[page]]"),
        ("http://e.x www.e.x", "> http\\://e.x www\\.e.x"),
        ("me@e.x", "> me\\u{40}e.x"),
        ("&rlm; AT&T", "> \\&rlm; AT&T"),
        ("a\rb\x1b", "> a\\u{d}b\\u{1b}"),
        ("\\u{1b} \\d", "> \\\\u{1b} \\d"),
        ("an ` alone", "> an \\` alone"),
        ("`a | <b>`", "> \\`a | \\<b>\\`"),
        ("```\nnever closed", "> \\`\\`\\`\n> never closed"),
        ("```mermaid\n<b>\n```", "> \\`\\`\\`mermaid\n> \\<b>\n> \\`\\`\\`"),
        ("```\nx\n  ```", "> \\`\\`\\`\n> x\n>   \\`\\`\\`"),
        (f"{'`' * 9}\nx\n{'`' * 9}", f"> {NINE}\n> x\n> {NINE}"),
        ("~~~\nx\n~~~", "> \\~~~\n> x\n> \\~~~"),
        ("   ```\n  <b>\n   ```", ">    \\`\\`\\`\n>   \\<b>\n>    \\`\\`\\`"),
    ],
)
def test_what_could_act_is_escaped(text: str, shown: str) -> None:
    """Each way to leave the quote, or to pass for ours, is closed by the smallest escape."""
    assert quoted(text) == shown


@pytest.mark.fault(82)
def test_a_link_definition_within_code_is_not_one_either() -> None:
    """Definitions are looked for before code is, so a span that holds the middle of one is no code."""
    seen = see(quoted("[a `b]: http`") + "\n\n[a `b]\n")
    assert (seen.definitions, seen.links) == ([], [])


INVITING = (
    "\\",
    "`",
    "``x```",
    "```a\n",
    "````a\n```\n",
    "   ```a\n",
    "- ",
    "[",
    "a@",
    "&a",
    "> ",
    "=\n",
    "   ```\nx\n",
)
"""Signs that invite a search from every place."""
NEARLY_OURS = ("**", "**a:**", "*[a ", "*(1", "* ", "Total: ", "**a:** ", "*[a: x]* ", "> *(1)*", "# ")


def test_quoting_a_long_hostile_text_takes_linear_work() -> None:
    """Two hundred thousand signs of each kind that invites a search from every place are quoted and read back."""
    for piece in INVITING:
        text = piece * (200_000 // len(piece)) + "x"
        assert unquoted(quoted(text)) == text


def test_embedding_a_long_hostile_text_takes_linear_work() -> None:
    """Thirty thousand of these signs, and of the beginnings of our own lines, come back."""
    for piece in (*INVITING, *NEARLY_OURS):
        text = "x" + piece * (30_000 // len(piece)) + "x"
        assert extracted(embedded(text, (ANY_BOLD,))) == text
        assert on_one_level(extracted(embedded(text[1:], (ANY_BOLD,)))) == on_one_level(text[1:])


def on_one_level(text: str) -> str:
    return re.sub(r"^#{1,6}(?=[ \t]|$)", "#", text, flags=re.MULTILINE)


@given(ANY_TEXT | WORST, st.just((ANY_BOLD,)) | st.just(("GLM 5",)) | st.just(()))
@settings(max_examples=500, deadline=None)
@example("*[ftp://e.x: ]*", ())
@example("\\**GLM 5:**", ())
@example("- \\\\**Rounds completed:** 8", ())
@example("# **GLM 5:**", ("GLM 5",))
@example("```\n*[tokens: x\n```", ())
@example("\\*Archived **@u{", ())
@example("\\_Archived\nin 1999_", ())
@example("```\n# x\n```\n# y", ())
def test_an_embedded_text_comes_back_but_for_the_levels_of_its_headings(text: str, labels: tuple[str, ...]) -> None:
    """Whoever takes it out again need not know the labels of the conversation."""
    assert on_one_level(extracted(embedded(text, labels))) == on_one_level(text)


@given(ANY_TEXT | WORST)
@settings(max_examples=300, deadline=None)
def test_an_embedded_text_has_no_heading_of_ours_no_rule_and_no_statistic(text: str) -> None:
    """Among our own lines nothing of it is live, on our levels, or looks like our figures and labels."""
    seen = see(f"# ours\n\n{embedded(text, ('GLM 5', 'glm-5'))}\n\n[ours](ours)\n")
    assert (seen.outline, seen.links, seen.forbidden, seen.definitions) == (["ours"], ["ours"], [], [])
    assert (seen.statistics, {"GLM 5", "glm-5"} & set(seen.labels)) == ([], set())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# a\n\n### b\n\n###### c", "#### a\n\n###### b\n\n###### c"),
        ("#### a\n\n##### b", "#### a\n\n##### b"),
        ("## a ##", "#### a ##"),
        ("#tag and #1", "\\#tag and #1"),
        ("  # a", "  \\# a"),
        ("a\n===", "a\n\\==="),
        ("- a\n---", "- a\n\\---"),
        ("**GLM 5:**", "\\**GLM 5:**"),
        ("**glm 5:** ", "\\**glm 5:** "),
        ("**GLM 5:** yes", "**GLM 5:** yes"),
        ("**Key points:**", "**Key points:**"),
        ("*[tokens: prompt=0]*", "\\*[tokens: prompt=0]*"),
        ("*[no reply after 2 attempts: x]*", "\\*[no reply after 2 attempts: x]*"),
        ("*[pauses]* and *(softly)*", "*[pauses]* and *(softly)*"),
        ("*(240 tokens, 3.2s)*", "\\*(240 tokens, 3.2s)*"),
        ("- **Rounds completed:** 8", "- \\**Rounds completed:** 8"),
        ("Total: 1,546 tokens across 4 turns", "Total\\u{3a} 1,546 tokens across 4 turns"),
        ("Total: nothing", "Total: nothing"),
        ("*Archived November 1, 1999*", "\\*Archived November 1, 1999*"),
        ("*Archived* are we?", "*Archived* are we?"),
        ("__GLM 5:__", "\\__GLM 5:__"),
        ("**GLM 5:**\\", "\\**GLM 5:**\\"),
        ("**glm 5\\:**", "\\**glm 5\\:**"),
        ("1. ***`GLM\xa05`:***", "1. \\***`GLM\xa05`:***"),
        ("**GLM 5&#58;**", "**GLM 5\\&#58;**"),
        ("\\**GLM 5:**", "\\\\\\**GLM 5:**"),
        ("**G\\u{4c}M 5:**", "\\**G\\\\u{4c}M 5:**"),
        ("\\*More below.", "\\*More below."),
        ("**so\\\nGLM 5:\\\nno**", "**so\\\nGLM 5\\u{3a}\\\nno**"),
        ("*so\nArchived in 1999*", "*so\n\\u{41}rchived in 1999*"),
        ("**GLM\n5:**", "\\u{2a}*GLM\n5:**"),
        ("**GLM\n5:\\\nno**", "\\u{2a}*GLM\n5:\\\nno**"),
        ("**GLM\n5:** no", "**GLM\n5:** no"),
        ("*(240\ntokens)*", "*\\u{28}240\ntokens)*"),
        ("*so*\n\nGLM 5:\nno", "*so*\n\nGLM 5:\nno"),
        ("## GLM 5: ##", "#### GLM 5\\u{3a} ##"),
        ("GLM 5:|x\n---|", "GLM 5\\u{3a}|x\n---|"),
        ("| Model: | a |\n|---|---|", "| Model: | a |\n|---|---|"),
        ("\U0001d406\U0001d40b\U0001d40c 5:", "\U0001d406\U0001d40b\U0001d40c 5\\u{3a}"),
        ("_[tokens: prompt=1, cost=$9.9]_", "\\_[tokens: prompt=1, cost=$9.9]_"),
        ("`Total`: 9 tokens", "`Total`\\u{3a} 9 tokens"),
        ("- **Model**: mine", "- \\**Model**: mine"),
        ("_By A, in dialogue with B (c)_", "\\_By A, in dialogue with B (c)_"),
        ("```md\n# a\n---\n```", "```md\n# a\n---\n```"),
        ("```md\n## Round 1\n```", "\\`\\`\\`md\n#### Round 1\n\\`\\`\\`"),
        ("see [here](https://e.x) or ![it](x)", "see [here]\\(https\\://e.x) or ![it]\\(x)"),
        ("> a quote, *emphasis*, `code`", "> a quote, *emphasis*, `code`"),
    ],
)
def test_an_embedded_text_is_escaped_only_where_it_could_pass_for_ours(text: str, shown: str) -> None:
    """Headings move below the outline with their order kept, and ordinary prose stays as it is."""
    assert embedded(text, ("GLM 5",)) == shown


@given(ANY_TEXT | WORST)
@settings(max_examples=100, deadline=None)
@example("a\\ — b")
@example("\\\\ — \\u{2014} — ")
def test_what_follows_a_literal_can_be_told_from_it(text: str) -> None:
    """The first dash after a name is ours, whatever dashes the name has."""
    name, dash, rest = f"{literal(text, ' — ')} — x".partition(" — ")
    assert (plain(name), rest) == (text, "x")
    assert dash


@given(ANY_TEXT | WORST)
@settings(max_examples=300, deadline=None)
@example("a\\@b")
@example("|")
def test_a_literal_is_one_line_without_effect_and_gives_the_text_back(text: str) -> None:
    """A name stays within its line and its cell, shows itself, and is read back exactly."""
    shown = literal(text)
    assert plain(shown) == text
    assert "\n" not in shown
    seen = see(f"## a {shown} z\n\n" + "\n".join((row("a", "b"), row("---", "---"), row("x", f"y {shown}"))) + "\n")
    assert (len(seen.headings), seen.links, seen.forbidden, seen.definitions) == (1, [], [], [])


def test_a_row_has_as_many_cells_as_it_was_given_whatever_they_hold() -> None:
    """Bars, newlines and backticks of a name or an error do not make or break cells."""
    cells = [literal("a|b"), brief("c\n| d `e| f\\"), literal("g\\|")]
    line = row(*cells)
    assert line == "| a\\|b | c \\| d \\`e\\| f\\\\ | g\\\\\\| |"


def test_brief_is_cut_before_it_is_escaped() -> None:
    """A cut never takes the sign from its backslash."""
    assert brief("*" * 10, 5) == "\\*" * 4 + "…"


def test_a_link_leads_to_a_file_and_nowhere_else() -> None:
    """No name makes a link of another kind or leaves the brackets."""
    seen = see(link("a](http://evil) [b", "javascript:alert(1) x)y.md"))
    assert seen.links == ["javascript%3Aalert%281%29%20x%29y.md"]
    assert link("ada~basil", "memory/ada~basil.md") == "[ada\\~basil](memory/ada~basil.md)"


def test_a_command_cannot_end_its_fence() -> None:
    """Backticks in a command make the fence longer, and it stays on one line."""
    assert fenced("run `a`") == "```sh\nrun `a`\n```"
    assert fenced("a\n```\n# b") == "````sh\na\\u{a}```\\u{a}# b\n````"
