"""Named fields in texts: `{{name}}`, filled in once and never looked at again. There is no template language.

A field's name is a word, or a role and a property: `{{topic}}`, `{{date}}`, `{{a.label}}`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

FIELD: Final = re.compile(r"\{\{[ \t]*([^\W\d][\w-]*(?:\.[\w-]+)*)[ \t]*\}\}")
VARIABLE_NAME: Final = re.compile(r"[^\W\d][\w-]*")
OWN_FIELDS: Final = frozenset({"date"})
"""Fields that no variable may be called."""
INBOX_FIELD: Final = "conversation"
"""The field that says where a drop-box is: the conversation's readable name."""
ROLE_FIELDS: Final = ("label", "model")
LONGEST: Final = 16 * 1024 * 1024
"""Characters of a text as filled in; a few fields can make a very long text of two long ones."""


def fields(text: str) -> Iterator[tuple[str, int]]:
    """The names of the fields in a text, and where each stands."""
    for found in FIELD.finditer(text):
        yield found[1], found.start()


@dataclass(frozen=True, slots=True)
class Template:
    """A text, parted at its fields, so that filling it is one join."""

    parts: tuple[str, ...]
    """Text, field, text, ..., text."""

    @property
    def fixed(self) -> str | None:
        """The whole text, when it has no fields."""
        return self.parts[0] if len(self.parts) == 1 else None

    def filled(self, values: Mapping[str, str]) -> str:
        """The text with all fields filled in; KeyError names one that has no value."""
        return "".join(values[part] if index % 2 else part for index, part in enumerate(self.parts))

    def length(self, values: Mapping[str, str]) -> int:
        return sum(len(values.get(part, "")) if index % 2 else len(part) for index, part in enumerate(self.parts))


def template(text: str, values: Mapping[str, str]) -> Template:
    """The text with those fields filled in that `values` knows, and parted at the others."""
    parts = [""]
    end = 0
    for found in FIELD.finditer(text):
        parts[-1] += text[end : found.start()]
        if found[1] in values:
            parts[-1] += values[found[1]]
        else:
            parts += [found[1], ""]
        end = found.end()
    parts[-1] += text[end:]
    return Template(tuple(parts))
