"""What people and programs read of a night: one file per format, pure functions of what they are given.

`STYLES` are the looks a transcript can have; a new one is a file of its own and one line here. Beside them, `jsonl` is
the line of a conversation for programs and `summary` the page about the whole night; both exist once, not by choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.render import transcript
from runner.render.style import Links, Style

DEFAULT: Final = "transcript"
STYLES: Final[Mapping[str, Style]] = {
    "transcript": transcript,
}

__all__ = ["DEFAULT", "STYLES", "Links", "Style"]
