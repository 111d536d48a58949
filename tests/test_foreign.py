from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.foreign import masker, obeyed, one_line, storable, visible
from runner.world import Secret

ANY_TEXT = st.text(st.characters(), max_size=60)
BACKSLASHED = st.text("\\u{}1b\x1b\n\u202ea", max_size=30)

HIDDEN = [
    *range(0x09),
    *range(0x0B, 0x20),
    *range(0x7F, 0xA0),
    *(0xAD, 0x61C, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2028, 0x2029, 0x2060, 0xFEFF),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *(0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xE0001, 0xE0041, 0xE007F, 0xE0100),
]


@pytest.mark.fault(80)
@pytest.mark.parametrize("point", HIDDEN, ids=hex)
def test_what_acts_unseen_is_spelled_out(point: int) -> None:
    """Controls, bidi marks, zero-width signs, tags and halves of surrogates are shown, not obeyed."""
    assert visible(f"a{chr(point)}b") == f"a\\u{{{point:x}}}b"


def mask(text: str, secrets: list[Secret]) -> str:
    return masker(secrets)(text)


def test_ordinary_text_stays_as_it_is() -> None:
    """Letters of all scripts, newlines, tabs, paths and regular expressions are not touched."""
    text = "C:\\temp\\x\t\\d+\n中 é 🙂 ❤\ufe0f شكرا {u} \\\\ \\"
    assert visible(text) == text


@given(ANY_TEXT | BACKSLASHED, st.booleans())
@settings(max_examples=300, deadline=None)
@example("\\\x1b", True)
@example("\\u{1b}", True)
@example("\\\\u{1b}", True)
@example("\\\\\x1bu{", False)
def test_what_is_shown_can_be_taken_back(text: str, keep_newlines: bool) -> None:
    """`obeyed` gives the text that `visible` was given, whatever backslashes stand in it."""
    assert obeyed(visible(text, keep_newlines=keep_newlines)) == text


@pytest.mark.fault(80)
@given(ANY_TEXT)
@settings(max_examples=200, deadline=None)
def test_nothing_hidden_is_left_when_newlines_are_shown_too(text: str) -> None:
    """A line for a terminal holds no control but the tab, and can be encoded."""
    shown = visible(text, keep_newlines=False)
    shown.encode()
    assert all(c == "\t" or ord(c) >= 0x20 for c in shown)
    assert not any(ord(c) in HIDDEN for c in shown)


def test_an_escape_beyond_unicode_is_left_alone() -> None:
    """What `visible` never wrote is text."""
    assert obeyed("\\u{110000} \\u{zz}") == "\\u{110000} \\u{zz}"


def test_one_line_joins_lines_and_cuts_with_an_ellipsis() -> None:
    """White space becomes single blanks, and the result is never longer than asked for."""
    assert one_line("  two\r\n\n  lines\x1b ") == "two lines\\u{1b}"
    assert one_line("x" * 300) == "x" * 199 + "…"


def test_one_line_never_ends_within_an_escape() -> None:
    """A cut does not leave half of an escape or a lone backslash behind."""
    for limit in range(4, 14):
        assert one_line("abc\x1b\x1bdef", limit) in {"abc…", "abc\\u{1b}…"}
    assert one_line("abc\\\\\\\\\\defghi", 6) == "abc…"


@given(st.text(st.characters(), max_size=500), st.integers(5, 60))
@settings(max_examples=200, deadline=None)
def test_one_line_is_one_line_of_at_most_its_limit(text: str, limit: int) -> None:
    """No text makes it longer or breaks it."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1


@given(ANY_TEXT)
@settings(max_examples=200, deadline=None)
def test_storable_text_can_be_encoded_and_differs_only_in_lone_surrogates(text: str) -> None:
    """Valid text is returned as it is; a lone surrogate becomes the replacement character."""
    stored = storable(text)
    stored.encode()
    if not any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        assert stored == text


@pytest.mark.fault(76)
def test_lone_surrogates_are_replaced_and_pairs_joined() -> None:
    """Two halves that belong together are the character that was meant; a half alone is U+FFFD."""
    assert storable("a\ud83db") == "a\ufffdb"
    assert storable("\ude00x\ud83d") == "\ufffdx\ufffd"
    assert storable("a\ud83d\ude00b") == "a\U0001f600b"


KEY = 'sk-or/v1+a"b\\c=é&0123456789'


@pytest.mark.fault(77)
@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY),
        quote(KEY, safe=""),
        "sk-or%2fv1%2ba%22b%5cc%3d%c3%a9%260123456789",
        quote_plus(KEY),
        json.dumps(KEY)[1:-1],
        json.dumps(KEY, ensure_ascii=False)[1:-1],
        json.dumps(KEY)[1:-1].replace("/", "\\/"),
        base64.b64encode(KEY.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
    ],
)
def test_a_key_is_masked_in_every_form(form: str) -> None:
    """Plain, URL-encoded, JSON-escaped or in base64: nothing of the key is left."""
    assert mask(f"before {form} after {form}", [Secret(KEY)]) == "before *** after ***"


def test_a_key_with_a_blank_is_masked_as_a_form_would_send_it() -> None:
    """A blank in a key may travel as a plus sign or in hexadecimal."""
    assert mask("k=two+words k=two%20words", [Secret("two words")]) == "k=*** k=***"


@pytest.mark.parametrize("user", ["", "u:", "us:", "usr:", "user:"])
def test_a_key_is_masked_inside_longer_base64(user: str) -> None:
    """A key as the password of basic authentication is found wherever it begins."""
    encoded = base64.b64encode(f"{user}{KEY}:x".encode()).decode()
    masked = mask(encoded, [Secret(KEY)])
    assert "***" in masked
    assert len(masked) <= len(base64.b64encode(user.encode())) + len("***") + 8


def test_keys_that_overlap_are_masked_as_a_whole() -> None:
    """A text in which one key runs into another keeps no part of either."""
    assert mask("<abcdXYZ>", [Secret("abcd"), Secret("dXYZ")]) == "<***>"
    assert mask("<abcdef>", [Secret("cd"), Secret("abcdef")]) == "<***>"
    assert mask("aaaaa", [Secret("aa")]) == "***"


def test_without_keys_nothing_is_masked() -> None:
    """An empty key is no key."""
    assert mask("text", []) == "text"
    assert mask("text", [Secret(""), Secret(" ")]) == "text"


@given(st.text(min_size=4, max_size=20).filter(str.strip), st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=150, deadline=None)
def test_no_key_survives_masking(key: str, before: str, after: str) -> None:
    """Whatever stands around it, a key is gone afterwards unless the mask itself spells it."""
    masked = mask(before + key + after + key, [Secret(key)])
    assert key not in masked.replace("***", "\0") or "\0" in key
