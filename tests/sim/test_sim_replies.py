"""The tokens and the texts of the built-in models."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from runner.sim.replies import count_tokens, fit, sentences, thoughts


@given(st.text())
def test_a_text_has_no_more_tokens_than_bytes_and_no_fewer_than_words(text: str) -> None:
    """A bound on bytes is a bound on tokens."""
    tokens = count_tokens(text)
    assert len(text.split()) <= tokens <= len(text.encode())
    assert (tokens > 0) == bool(text)


@given(st.text(), st.integers(0, 40))
def test_what_is_fitted_is_a_beginning_that_fits(text: str, tokens: int) -> None:
    """A cut reply is the start of the whole one, within the limit, and untouched when it fits."""
    cut = fit(text, tokens)
    assert text.startswith(cut)
    assert count_tokens(cut) <= tokens
    assert cut == text or (count_tokens(text) > tokens and cut == cut.rstrip())


def test_a_cut_ends_with_a_word_and_never_in_the_middle_of_a_letter() -> None:
    """What is left reads well: no white space at the end, no half of a character."""
    assert fit("one two three", 1) == "one"
    assert fit("a b c d", 2) == "a b"
    assert fit("ééé", 1) == "éé"
    assert fit("aéé", 1) == "aé"
    assert fit("anything", 0) == ""


@given(st.text(alphabet="ab é—", min_size=1), st.integers(1, 40))
def test_a_cut_wastes_next_to_nothing_of_the_limit(text: str, tokens: int) -> None:
    """A model that is cut off has used what it was given, but for white space at the cut."""
    cut = fit(text, tokens)
    if cut != text:
        rest = text[len(cut) :]
        space = len(rest) - len(rest.lstrip())
        assert count_tokens(text[: len(cut) + space + 1]) >= tokens


@given(st.integers(0, 2**32), st.integers(1, 600))
def test_sentences_are_as_long_as_asked_for_and_little_longer(seed: int, tokens: int) -> None:
    """The length of a reply is the configured one, up to one sentence and its paragraph breaks."""
    text = sentences(Random(seed), tokens)
    assert tokens <= count_tokens(text) <= tokens * 1.03 + 45
    assert text == sentences(Random(seed), tokens)


def test_replies_read_like_sentences_and_differ() -> None:
    """What a demo shows is pleasant to read and not the same line again and again."""
    texts = {sentences(Random(seed), 60) for seed in range(50)}
    assert len(texts) == 50
    for text in texts:
        assert text[0].isupper()
        assert text[-1] in ".?"
        assert " a exact" not in text


@given(st.integers(0, 2**32), st.integers(0, 300))
def test_thoughts_never_exceed_their_share(seed: int, tokens: int) -> None:
    """Thinking is counted inside the limit on output, so it must fit it."""
    assert count_tokens(thoughts(Random(seed), tokens)) <= tokens
