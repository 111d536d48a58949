"""A table of all turns for spreadsheets, as CSV: one row a turn, with its conversation in the first columns.

A spreadsheet takes a cell that begins with `=` and the like for a formula, and a reply may be one that means harm. So
an apostrophe goes before each such text; `armed` takes it away again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Final

from runner.exports.columns import CONVERSATION, TURN, Value, row
from runner.exports.shape import Head, Talks

whole: Final = False
needs: Final[str | None] = None
note: Final[str | None] = (
    "an apostrophe stands before each text that a spreadsheet would take for a formula; it is not part of the text"
)

_KEPT: Final = ("job", "run", "id", "name", "prompt", "repeat", "status")
_OF_CONVERSATION: Final = tuple(column for wanted in _KEPT for column in CONVERSATION if column.name == wanted)
# An apostrophe counts as well, and so does the wide form of a sign: what is read back must be what was written, and
# some spreadsheets look behind blanks.
_ACTS: Final = re.compile(r"'*[\t\r\n]|['\s\0]*[=+\-@＝＋－＠]")
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
    return f"'{value}" if isinstance(value, str) and _ACTS.match(value) else value


def armed(cell: str) -> str:
    """The text that `disarmed` was given."""
    return cell[1:] if cell.startswith("'") and _ACTS.match(cell[1:]) else cell
