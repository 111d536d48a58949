"""A table of all turns for spreadsheets, as CSV: one row a turn, with its conversation in the first columns.

A spreadsheet takes a cell that begins with `=` and the like for a formula, and a reply may be one that means harm. So
an apostrophe goes before each such text; `armed` takes it away again. What a spreadsheet skips before it looks for the
sign is nowhere written down: so whatever shows nothing counts as skipped, and any sign that looks like one of the four.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Final
from unicodedata import category, normalize

from runner.exports.columns import CONVERSATION, TURN, Value, row
from runner.exports.shape import Head, Talks

whole: Final = False
needs: Final[str | None] = None
note: Final[str | None] = (
    "an apostrophe stands before each text that a spreadsheet would take for a formula; it is not part of the text"
)

_KEPT: Final = ("job", "run", "id", "name", "prompt", "repeat", "status")
_OF_CONVERSATION: Final = tuple(column for wanted in _KEPT for column in CONVERSATION if column.name == wanted)
_SIGNS: Final = frozenset("=+-@\N{MINUS SIGN}")
_BREAKS: Final = ("\t", "\r", "\n")
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and signs, as Unicode has them, that show nothing."""
_BYTE_ORDER_MARK: Final = "\ufeff"
"""Without it the most common spreadsheet does not see that the file is UTF-8."""


def name(head: Head) -> str:
    return "turns.csv"


def pieces(head: Head, talks: Talks) -> Iterator[bytes]:
    yield _BYTE_ORDER_MARK.encode() + _line([column.name for column in (*_OF_CONVERSATION, *TURN)])
    for talk in talks():
        of_conversation = [disarmed(value) for value in row(_OF_CONVERSATION, talk).values()]
        for turn in talk["turns"]:
            yield _line([*of_conversation, *(disarmed(value) for value in row(TURN, turn).values())])


def _line(values: list[Value]) -> bytes:
    line = io.StringIO()
    # Texts in quotes, all of them: where another sign than the comma parts cells, nothing else keeps a text in its own.
    csv.writer(line, quoting=csv.QUOTE_NONNUMERIC).writerow(values)
    return line.getvalue().encode()


def disarmed(value: Value) -> Value:
    """The same cell, as something that no spreadsheet computes."""
    return f"'{value}" if isinstance(value, str) and _acts(value) else value


def armed(cell: str) -> str:
    """The text that `disarmed` was given."""
    return cell[1:] if cell.startswith("'") and _acts(cell[1:]) else cell


def _acts(text: str) -> bool:
    """True when the first thing to be seen of it is a sign that opens a formula, or when it begins with a break."""
    # Apostrophes are passed over as well: what is read back must be what was written.
    if text.lstrip("'").startswith(_BREAKS):
        return True
    first = next((letter for letter in text if letter != "'" and not _is_unseen(letter)), "")
    # The wide, small and raised forms of a sign are the sign.
    return normalize("NFKC", first) in _SIGNS


def _is_unseen(letter: str) -> bool:
    """Blanks, controls, marks without a letter, and what no font has."""
    return category(letter)[0] in "ZCM" or letter in _BLANK
