"""What a style of transcript is: a module that turns a conversation into the text of one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from runner.conversation import Transcript


@dataclass(frozen=True, slots=True)
class Links:
    """The files of the conversations before and after this one, relative to its own."""

    previous: str | None = None
    next: str | None = None


class Style(Protocol):
    """One member of the family; a module that has both is one."""

    @property
    def suffix(self) -> str:
        """How its files end: `.md`."""
        ...

    def render(self, t: Transcript, links: Links) -> str:
        """The whole file; the same transcript gives the same text."""
        ...
