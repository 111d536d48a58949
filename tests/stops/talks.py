"""Talks written for the rules that stop a conversation, one a file, and the reader of these files.

Above the talk stand what is expected of it (`loop: 7`); then one line is one line of the talk, `role: text`, and
`role*: text` where nobody generated it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from runner.stops import Spoken

HERE = Path(__file__).parent


class Talk(NamedTuple):
    """One talk of a file."""

    name: str
    loop: int
    """The turn with which the goodbyes or the repetitions begin; 0: none do."""
    lines: list[Spoken]


def spoken(role: str, text: str, given: bool = False, output: int | None = None) -> Spoken:
    """A line with no figures but these."""
    return Spoken(role, text, given, output, 0, 0.0)


def read(path: Path) -> Talk:
    """The talk of a file."""
    loop = 0
    lines: list[Spoken] = []
    for row in path.read_text(encoding="utf-8").splitlines():
        head, _, text = row.partition(": ")
        if head == "loop":
            loop = int(text)
        else:
            lines.append(spoken(head.rstrip("*"), text, given=head.endswith("*")))
    return Talk(path.stem, loop, lines)


def talks(kind: str) -> list[Talk]:
    """All talks of a folder."""
    return [read(path) for path in sorted((HERE / kind).glob("*.txt"))]
