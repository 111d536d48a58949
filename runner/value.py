"""What values are made of: dataclasses that nobody changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["value"]

if TYPE_CHECKING:
    from dataclasses import dataclass as value
else:
    from dataclasses import dataclass

    def value(*, frozen: bool, slots: bool) -> Any:
        """A dataclass that is frozen for the type checker alone, which sees all code there is.

        At run time each field of a frozen one is set through a call of its own: for what is made with every call, or
        with every line of a journal, that is half the time.
        """
        return dataclass(slots=slots, unsafe_hash=frozen)
