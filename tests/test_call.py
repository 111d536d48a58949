"""A call and its outcome: no reply can be made from a text that nobody could see."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.call import Call, Reply, View, fewest_tokens, has_text
from runner.sim.engine import count_tokens

BLANK = [
    "",
    " ",
    "\n\n\t\r\v\f",
    "\0\x07\x1b\x7f\x9f",
    "\u00a0\u1680\u2003\u202f\u205f\u3000",  # spaces of all widths
    "\u2028\u2029\u0085",  # line ends
    "\u200b\u200c\u200d\u2060\ufeff",  # nothing, joined or not
    "\u200e\u200f\u061c\u202a\u202e\u2066\u2069",  # marks of direction
    "\u00ad",  # a hyphen that is only there at the end of a line
    "\u2061\u2062\u2063\u2064",  # mathematics that is not written
    "\u180b\u180e\u180f",  # Mongolian variants
    "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0",  # letters without a shape
    "\ufe00\ufe0e\ufe0f\U000e0100\U000e01ef",  # variants of what is not there
    "\U000e0001\U000e0041\U000e007f",  # tags: whole sentences can hide in them
    "\U0001d173\U0001d17a\U0001bca0\ufff9\ufffb",  # marks for music, shorthand and annotation
    "\ud800\udfff\ufffe\uffff",  # no characters at all
]
VISIBLE = ["a", ".", "0", "...", "\u2014", "\u4f60", "\U0001f600", "\ufffd", "<", "\u0661", "\u3002", "```", "[]"]


@pytest.mark.parametrize("text", BLANK, ids=ascii)
def test_invisible_text_is_no_reply(text: str) -> None:
    """Whatever kind of nothing it is made of, and however much of it there is."""
    assert not has_text(text)
    assert not has_text(text * 500)
    with pytest.raises(ValueError, match="without visible text"):
        Reply(text, "ok")


@pytest.mark.parametrize("text", VISIBLE, ids=ascii)
def test_a_single_visible_sign_is_a_reply(text: str) -> None:
    """Also between blanks of every kind."""
    assert has_text(text)
    assert has_text("".join(BLANK) + text + "".join(BLANK))
    assert Reply(text, "truncated").text == text


def test_no_text_is_not_text() -> None:
    """A text that is not there at all is not visible."""
    assert not has_text(None)


def test_every_white_space_and_control_is_blank() -> None:
    """Asked of every character there is, so that none was forgotten in the table."""
    shown = [
        f"U+{point:04X}"
        for point in range(sys.maxunicode + 1)
        if (chr(point).isspace() or category(chr(point)) in ("Cc", "Cs", "Zs", "Zl", "Zp")) and has_text(chr(point))
    ]
    assert shown == []


def test_every_letter_digit_and_sign_is_visible_unless_it_has_no_shape() -> None:
    """The table hides no writing: only fillers and Braille's blank are letters or signs that nobody sees."""
    hidden = {
        chr(point)
        for point in range(sys.maxunicode + 1)
        if category(chr(point))[0] in "LNPS" and not has_text(chr(point))
    }
    assert hidden == set("\u115f\u1160\u2800\u3164\uffa0")


@given(st.text(max_size=50), st.text(max_size=50))
def test_text_is_visible_when_one_of_its_parts_is(one: str, other: str) -> None:
    """Joining texts neither hides anything nor makes something of nothing."""
    assert has_text(one + other) == (has_text(one) or has_text(other))


def test_a_reply_stays_as_it_was_made() -> None:
    """Nobody can blank it afterwards."""
    reply = Reply("yes", "ok")
    with pytest.raises(FrozenInstanceError):
        reply.text = ""  # type: ignore[misc]


def test_a_call_is_named_by_its_place() -> None:
    """The same attempt at the same turn has the same id in every process."""
    assert Call("cell", 3, 2, "sim", "m", View(None, ()), 10).id == "cell:3:2"


# --- the fewest tokens of a text -------------------------------------------------------------------------------------


@given(st.text(max_size=400))
def test_no_text_has_fewer_tokens_than_its_fewest(text: str) -> None:
    """As the built-in provider counts, in pieces and whole; nothing has none, and anything else has one."""
    assert (fewest_tokens(text) == 0) is (text == "")
    assert fewest_tokens(text) <= max(1, count_tokens(text))
    assert fewest_tokens(text, None, text) == fewest_tokens(text + text)


def test_a_long_text_has_many_tokens_whoever_counts_and_a_long_line_of_dots_need_not() -> None:
    """A token may hold any number of one character, and hardly ever more than four bytes of a text."""
    assert fewest_tokens("many words " * 400) == 4400 // 24 - 8
    assert fewest_tokens("." * 100_000, "=" * 100_000) == 1
    assert fewest_tokens("internationalization " * 9) == 1
