"""What people and programs read of a night: one file per format, pure functions of what they are given.

`STYLES` are the looks a transcript can have; a new one is a file of its own and one line here. `own_style` is one that
a user has written. Beside them, `jsonl` is the line of a conversation for programs and `summary` the page about the
whole night; both exist once, not by choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.render import dialogue, letter, rounds, titled_rounds, transcript
from runner.render.style import Links, ReadableStyle, ReadBack, Style, StyleError, own_style

DEFAULT: Final = "transcript"
STYLES: Final[Mapping[str, ReadableStyle]] = {
    "transcript": transcript,
    "rounds": rounds,
    "dialogue": dialogue,
    "titled-rounds": titled_rounds,
    "letter": letter,
}


def recognised(markdown: str) -> str | None:
    """The name of the style in which a file is; None where it is none of ours."""
    # A letter is the least particular: it comes last.
    for name, style in STYLES.items():
        try:
            if style.read(markdown).said:
                return name
        except ValueError:
            continue
    return None


__all__ = [
    "DEFAULT",
    "STYLES",
    "Links",
    "ReadBack",
    "ReadableStyle",
    "Style",
    "StyleError",
    "own_style",
    "recognised",
]
