"""A mistake in a job file: what, where, and what to do about it.

Problems are values and are collected; nobody should have to run a check five times to find five mistakes.
No problem shows a key: its excerpt and its message are masked before they leave this room.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Final

from runner.job.leaks import masked

_EXCERPT: Final = 110
"""Columns of a source line that are shown; a job in one line of JSON must not fill the screen."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. Line and column count from 1; 0 means that the whole file (or argument) is meant."""

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None
    source_line: str | None = None

    def __post_init__(self) -> None:
        # Masked here, in the one place every problem passes, so that no caller can forget it.
        object.__setattr__(self, "file", masked(self.file))
        object.__setattr__(self, "message", masked(self.message))
        object.__setattr__(self, "hint", None if self.hint is None else masked(self.hint))
        object.__setattr__(self, "source_line", None if self.source_line is None else masked(self.source_line))

    def hiding(self, secrets: Iterable[str]) -> Problem:
        """The same without these literals, which only the whole file shows to be keys."""

        def hidden(text: str | None) -> str | None:
            for secret in secrets:
                text = text and text.replace(secret, "*" * len(secret))
            return text

        line = hidden(self.source_line)
        return replace(self, message=hidden(self.message) or "", hint=hidden(self.hint), source_line=line)

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def render(self) -> str:
        """`file:line:column: message`, the line with a caret under the place, and the hint."""
        shown = [f"{self.where}: {self.message}"]
        if self.source_line is not None and self.source_line.strip():
            start = max(0, self.column - 1 - _EXCERPT // 2) if len(self.source_line) > _EXCERPT else 0
            excerpt = self.source_line[start : start + _EXCERPT]
            shown.append(
                "    " + "".join(c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in excerpt)
            )
            before = excerpt[: max(0, self.column - 1 - start)]
            shown.append("    " + "".join("\t" if c == "\t" else " " for c in before) + "^")
        if self.hint:
            shown.append(f"    {self.hint}")
        return "\n".join(shown)


class JobError(Exception):
    """A job that cannot be used; `problems` holds every mistake that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.column, p.message)))
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(problem.render() for problem in self.problems)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The hint for a name that is close to a known one; None when nothing is."""
    names = list(dict.fromkeys(known))
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if not close:
        folded = {name.casefold(): name for name in names}
        close = [folded[word.casefold()]] if word.casefold() in folded else []
    return f"did you mean `{close[0]}`?" if close else None


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Names as a reader wants them: `a, b, c`, with the rest counted."""
    shown = ", ".join(names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown
