"""How large a measurement is: a dataclass of whole numbers and seconds, of which each field is an option."""

from __future__ import annotations

from dataclasses import field
from typing import TypeVar

_Number = TypeVar("_Number", int, float)


def size(default: _Number, help_: str) -> _Number:
    """A field with what its option is told to be."""
    made: _Number = field(default=default, metadata={"help": help_})
    return made
