"""A part of a job file while it is read: places in it, and what was found wrong there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from runner.call import has_text
from runner.job.problem import Problem
from runner.job.schema import (
    check,
)
from runner.job.source import Path as Steps
from runner.job.source import Source
from runner.job.texts import Written

NAME: Final = re.compile(r"[^\W_][\w.:+@-]*")
"""What a provider, a model or a prompt may be called."""

_E = TypeVar("_E", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a source, from which paths inside an entry go on."""

    source: Source
    path: Steps

    def at(self, *steps: str | int) -> Where:
        return Where(self.source, (*self.path, *steps))

    def problem(self, message: str, hint: str | None = None, *, key: bool = False) -> Problem:
        return self.source.problem(self.path, message, hint, key=key)

    def __str__(self) -> str:
        return self.source.where(self.path)


class Section:
    """One part of the file on its way; every part adds to the same list of problems."""

    def __init__(self, problems: list[Problem], top: Where) -> None:
        self.problems = problems
        self.top = top
        self.tree: dict[str, Any] = top.source.tree

    def note(self, where: Where, message: str, hint: str | None = None, *, key: bool = False) -> None:
        self.problems.append(where.problem(message, hint, key=key))

    def entry(self, model: type[_E], tree: Any, where: Where) -> tuple[_E | None, bool]:
        """What can be used of an entry, and whether all of it is sound."""
        found, mistakes = check(model, tree)
        for mistake in mistakes:
            self.note(where.at(*mistake.path), mistake.message, mistake.hint, key=mistake.at_key)
        return found, not mistakes

    def part(self, key: str, kind: type[Any]) -> Any:
        """One of the file's big parts; empty when it is not there or of the wrong kind."""
        tree = self.tree.get(key)
        if isinstance(tree, kind):
            return tree
        if key in self.tree:
            self.note(self.top.at(key), f"a {'mapping' if kind is dict else 'list'} is expected here")
        return kind()

    def in_text(self, written: Written, where: Where, offset: int, message: str, hint: str | None = None) -> Problem:
        """A problem at a place inside a text: exact in a file, at its beginning when it is inline."""
        if written.file is None:
            return where.problem(message, hint)
        before = written.text[:offset]
        line_start = before.rfind("\n") + 1
        line = written.text[line_start:].partition("\n")[0]
        return Problem(written.file, written.line + before.count("\n"), offset - line_start + 1, message, hint, line)

    def check_label(self, label: str, where: Where) -> None:
        if not has_text(label):
            self.note(where, "this label is blank")
        elif any(not c.isprintable() for c in label):
            self.note(where, "a label is one line of printable characters")


def item(where: Where, index: int) -> Where:
    """The place of one of several names; a single name stands there without a list."""
    inner = where.at(index)
    return inner if inner.path in where.source.values else where


def line_of(where: Where) -> str:
    return f"line {where.source.place(where.path, key=True).line}"


def is_pattern(name: str) -> bool:
    return any(c in name for c in "*?[")
