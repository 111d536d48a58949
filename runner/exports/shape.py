"""What an export is: a module that writes the conversations of a run in the shape that another program reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import orjson

from runner.conversation import Transcript
from runner.render import jsonl

Talk: TypeAlias = Mapping[str, Any]
"""A conversation with the keys and the types of its line in `conversations.jsonl`."""
Talks: TypeAlias = Callable[[], Iterator[Talk]]
"""The conversations to export, from the first on each time it is called; no more than one is held at a time."""


@dataclass(frozen=True, slots=True)
class Head:
    """The run that the conversations are of."""

    job: str
    run: str
    version: str
    began: float
    ended: float | None
    """None while it goes on, or when it was broken off."""
    exit: int | None


class Format(Protocol):
    """One member of the family; a module that has all of these is one."""

    @property
    def whole(self) -> bool:
        """True when it is made for learning from: unless others are asked for, of complete conversations alone."""
        ...

    @property
    def needs(self) -> str | None:
        """The package that it needs beside our own."""
        ...

    @property
    def note(self) -> str | None:
        """What whoever opens the file has to know."""
        ...

    def name(self, head: Head) -> str:
        """What its file is called, where nobody says otherwise."""
        ...

    def pieces(self, head: Head, talks: Talks) -> Iterator[bytes]:
        """The file, piece by piece; the same conversations give the same bytes."""
        ...


def talk(t: Transcript) -> Talk:
    """A conversation as exports are given it: what no UTF-8 can hold, and figures that cannot be, are gone."""
    found = orjson.loads(jsonl.line(t))
    assert isinstance(found, dict)
    return found
