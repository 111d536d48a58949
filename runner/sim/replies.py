"""What the built-in models say: a text depends on the seed, the model and the messages, and on nothing else.

One token is about four bytes and never less than a word, so no text has more tokens than UTF-8 bytes.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple, TypeAlias

_BYTES_PER_TOKEN: Final = 4
_SENTENCES_PER_PARAGRAPH: Final = 5

_Part: TypeAlias = str | tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(" ".join(item.split()) for item in text.split("/"))


_THING: Final = _words(
    """
    a promise / the last letter / an old photograph / the unfinished sentence / a borrowed name / the quiet room
    / an answer / the first question / a habit of listening / the thread / a map of the harbour / the silence
    between us / a recipe / the shape of an argument / a song half remembered / the margin of the page / an
    evening in November / the word we avoided / a small kindness / the door left open / a joke nobody wrote down
    / the café on the corner / a disagreement / the weather that day / an echo / the tone of a voice / a list of
    errands / the lamp by the window
    """
)
_QUALITY: Final = _words(
    """
    patient / stubborn / generous / precise / fragile / honest / unfinished / ordinary / luminous / slow /
    provisional / tender / exact / restless / modest / durable / strange / plain
    """
)
_WHO: Final = _words(
    """
    a reader / whoever listens / the next speaker / a stranger / an archivist / a friend / the one who waits /
    someone walking home / a child at the table / the host / a translator / the person who asked
    """
)
_DOES: Final = _words(
    """
    keeps / forgets / carries home / writes down / mistrusts / repeats / mends / weighs / lends out /
    rediscovers / argues with / hums along to / returns to / makes room for
    """
)
_WHEN: Final = _words(
    """
    after the guests have left / when nobody is counting / on the second reading / long before it makes sense /
    between two cups of coffee / at the end of the night / without being asked / in another language / by
    accident / as if for the first time / once the lights are low
    """
)

_SAYINGS: Final[tuple[tuple[_Part, ...], ...]] = (
    ("What stays with me is ", _THING, ", because ", _WHO, " ", _DOES, " it ", _WHEN, "."),
    ("You speak of ", _THING, " as though it were ", _QUALITY, "; I find it ", _QUALITY, " instead."),
    ("Perhaps ", _WHO, " ", _DOES, " ", _THING, " ", _WHEN, ", and that is enough."),
    ("There is something ", _QUALITY, " about ", _THING, " ", _WHEN, "."),
    ("If ", _WHO, " ", _DOES, " ", _THING, ", then who ", _DOES, " ", _THING, "?"),
    ("I would trade ", _THING, " for ", _THING, " any day."),
    ("Memory is ", _QUALITY, ": it ", _DOES, " ", _THING, " and drops ", _THING, "."),
    ("Let me put it another way: ", _WHO, " is never as ", _QUALITY, " as ", _THING, "."),
    ("We agree on ", _THING, "; we differ on ", _THING, "."),
    ("Not everything ", _QUALITY, " is worth keeping, and yet ", _WHO, " ", _DOES, " it ", _WHEN, "."),
    ("A conversation is ", _THING, " that ", _WHO, " ", _DOES, " ", _WHEN, "."),
    ("That thought is ", _QUALITY, " — the kind that ", _WHO, " ", _DOES, " ", _WHEN, "."),
    ("So I ask again, more slowly: is ", _THING, " really ", _QUALITY, "?"),
    ("Suppose ", _THING, " is all we have; ", _WHO, " still ", _DOES, " it."),
)  # fmt: skip
_THOUGHTS: Final[tuple[tuple[_Part, ...], ...]] = (
    ("They brought up ", _THING, "; I should not answer too quickly."),
    ("The most ", _QUALITY, " reply would mention ", _THING, "."),
    ("Is ", _THING, " the point, or only ", _THING, "?"),
    ("I could disagree here, and still be ", _QUALITY, "."),
    ("Better to end on ", _THING, "."),
)  # fmt: skip


class Said(NamedTuple):
    """What a model produced for one request."""

    text: str
    reasoning: str
    output_tokens: int
    """All that was generated, thinking included."""
    reasoning_tokens: int
    cut: bool
    """True when the limit on output ended it."""


def count_tokens(text: str) -> int:
    """The tokens of a text: never more than its UTF-8 bytes, never fewer than its words, 0 only for nothing."""
    size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return max(-(-size // _BYTES_PER_TOKEN), len(text.split()))


def fit(text: str, tokens: int) -> str:
    """The longest beginning of `text`, without white space at its end, that has at most so many tokens."""
    if count_tokens(text) <= tokens:
        return text
    beginning = text.encode("utf-8", "surrogatepass")[: tokens * _BYTES_PER_TOKEN].decode("utf-8", "ignore")
    if count_tokens(beginning) > tokens:
        rest = beginning.split(None, tokens)[tokens]
        beginning = beginning[: beginning.rindex(rest)]
    return beginning.rstrip()


def sentences(random: Random, tokens: int) -> str:
    """Readable sentences of at least so many tokens."""
    return _write(random, tokens, _SAYINGS)


def thoughts(random: Random, tokens: int) -> str:
    """What thinking looks like, at most so many tokens."""
    return fit(_write(random, tokens, _THOUGHTS), tokens)


def _write(random: Random, tokens: int, forms: tuple[tuple[_Part, ...], ...]) -> str:
    paragraphs: list[list[str]] = [[]]
    size = 0
    draw = random.random
    while size < tokens * _BYTES_PER_TOKEN:
        form = forms[int(draw() * len(forms))]
        sentence = "".join([part if isinstance(part, str) else part[int(draw() * len(part))] for part in form])
        if len(paragraphs[-1]) == _SENTENCES_PER_PARAGRAPH:
            paragraphs.append([])
        paragraphs[-1].append(sentence)
        size += len(sentence)
    return "\n\n".join([" ".join(paragraph) for paragraph in paragraphs])
