"""A table of conversations as Parquet, a row each, with messages, turns and notes inside; needs `pyarrow`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from typing import Any, Final

from runner.exports.columns import CONVERSATION, NOTE, TURN, Column, row
from runner.exports.shape import Head, Talk, Talks

whole: Final = False
needs: Final[str | None] = "pyarrow"
note: Final[str | None] = None

_AT_A_TIME: Final = 64
"""Conversations in a row group, which is what has to be in memory."""


def name(head: Head) -> str:
    return "conversations.parquet"


class _Drain:
    """A file that gives away what is written into it."""

    def __init__(self) -> None:
        self.closed = False
        self._written = bytearray()

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._written += piece
        return len(piece)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True

    def taken(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


def pieces(head: Head, talks: Talks) -> Iterator[bytes]:
    # By name and late: it is large, and most people never need it.
    arrow: Any = import_module("pyarrow")
    parquet: Any = import_module("pyarrow.parquet")
    schema = _schema(arrow)
    drain, coming = _Drain(), talks()
    with parquet.ParquetWriter(drain, schema, compression="zstd") as writer:
        while some := [_row(talk) for talk in islice(coming, _AT_A_TIME)]:
            writer.write_table(arrow.Table.from_pylist(some, schema=schema))
            yield drain.taken()
    yield drain.taken()


def _row(talk: Talk) -> dict[str, Any]:
    return {
        **row(CONVERSATION, talk),
        "messages": talk["messages"],
        "turns": [row(TURN, turn) for turn in talk["turns"]],
        "notes": [row(NOTE, note) for note in talk["after"]],
    }


def _schema(arrow: Any) -> Any:
    kinds = {"text": arrow.string(), "whole": arrow.int64(), "number": arrow.float64(), "flag": arrow.bool_()}

    def fields(columns: tuple[Column, ...]) -> list[Any]:
        return [arrow.field(column.name, kinds[column.kind]) for column in columns]

    message = arrow.struct([("role", arrow.string()), ("content", arrow.string())])
    parts = {"messages": message, "turns": arrow.struct(fields(TURN)), "notes": arrow.struct(fields(NOTE))}
    return arrow.schema(
        [*fields(CONVERSATION), *(arrow.field(name, arrow.list_(kind)) for name, kind in parts.items())]
    )
