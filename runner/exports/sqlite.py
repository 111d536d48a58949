"""A database for SQLite: the tables `conversations` and `turns`, and `notes` for what observers made of them.

Not a family member like the others, because a database is no stream: it is filled through a connection to a new file.
"""

from __future__ import annotations

from sqlite3 import Connection
from typing import Final

from runner.exports.columns import CONVERSATION, NOTE, TURN, Column, Value, row
from runner.exports.shape import Talks

NAME: Final = "run.sqlite"

_TYPES: Final = {"text": "TEXT", "whole": "INTEGER", "number": "REAL", "flag": "INTEGER"}


def fill(database: Connection, talks: Talks) -> None:
    """Make the tables, and put every conversation with its turns and its notes into them."""
    own = "conversation TEXT NOT NULL REFERENCES conversations (id)"
    database.execute(f"CREATE TABLE conversations ({_columns(CONVERSATION)}, PRIMARY KEY (id))")
    database.execute(f"CREATE TABLE turns ({own}, {_columns(TURN)}, PRIMARY KEY (conversation, n))")
    database.execute(f"CREATE TABLE notes ({own}, n INTEGER, {_columns(NOTE)}, PRIMARY KEY (conversation, n))")
    for talk in talks():
        _put(database, "conversations", tuple(row(CONVERSATION, talk).values()))
        for turn in talk["turns"]:
            _put(database, "turns", (talk["id"], *row(TURN, turn).values()))
        for number, note in enumerate(talk["after"], 1):
            _put(database, "notes", (talk["id"], number, *row(NOTE, note).values()))
    database.commit()


def _put(database: Connection, table: str, values: tuple[Value, ...]) -> None:
    database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)


def _columns(columns: tuple[Column, ...]) -> str:
    return ", ".join(f'"{column.name}" {_TYPES[column.kind]}' for column in columns)
