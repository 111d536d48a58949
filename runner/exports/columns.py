"""The columns of those exports that are tables: what each is called, its type, and where its value comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from runner.exports.shape import Talk
from runner.render.jsonl import WEIGHED

Kind: TypeAlias = Literal["text", "whole", "number", "flag"]
Value: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column; what is unknown is None, whatever the type."""

    name: str
    kind: Kind
    of: Callable[[Mapping[str, Any]], Value]


def row(columns: tuple[Column, ...], thing: Mapping[str, Any]) -> dict[str, Value]:
    """The values of a conversation, or of a turn, by the names of these columns."""
    return {column.name: column.of(thing) for column in columns}


def _at(*path: str) -> Callable[[Mapping[str, Any]], Value]:
    def found(thing: Mapping[str, Any]) -> Value:
        value: Any = thing
        for key in path:
            value = None if value is None else value[key]
        return value  # type: ignore[no-any-return]

    return found


def _column(kind: Kind, name: str, *path: str) -> Column:
    return Column(name, kind, _at(*(path or (name,))))


def models(talk: Talk) -> str:
    """Who spoke, in one cell: `a=sim/ada; b=sim/basil`."""
    return "; ".join(f"{one['role']}={one['provider']}/{one['id']}" for one in talk["models"])


def chosen_by(turn: Mapping[str, Any]) -> str | None:
    """Who said that it was the turn of this speaker; None where nobody did."""
    picks = (one["observer"]["label"] for one in turn["asked"] if one["kind"] == "pick" and one["data"] is not None)
    return next(picks, None)


_TOKENS: Final = ("in", "out", "reasoning", "cached_read", "cached_write")

CONVERSATION: Final = (
    *(_column("text", name) for name in ("id", "name", "job", "run", "prompt")),
    Column("models", "text", models),
    _column("whole", "repeat"),
    *(_column("text", name) for name in ("status", "reason")),
    *(_column("whole", f"rounds_{name}", "rounds", name) for name in ("planned", "done")),
    _column("whole", "turns_done", "totals", "turns"),
    *(_column("whole", name, "flags", name) for name in ("truncated", "refused")),
    *(_column("whole", f"tokens_{name}", "totals", "tokens", name) for name in _TOKENS),
    *(_column("number", name, "totals", name) for name in ("cost", "spent", "seconds")),
    _column("whole", "answers", "totals", "asked", "answers"),
    _column("number", "answers_cost", "totals", "asked", "cost"),
    _column("whole", "read_in_turns", "totals", "read_in", "turns"),
    *(_column("whole", f"read_in_tokens_{name}", "totals", "read_in", "tokens", name) for name in _TOKENS),
    *(_column("number", f"read_in_{name}", "totals", "read_in", name) for name in ("cost", "seconds")),
    *(_column("text", name) for name in ("started", "ended")),
    *(_column("text", f"error_{name}", "error", name) for name in ("kind", "message")),
    *(_column("text", f"origin_{name}", "origin", name) for name in ("id", "name", "kind")),
)
TURN: Final = (
    *(_column("whole", name) for name in ("n", "round")),
    *(_column("text", name) for name in ("role", "speaker", "label")),
    _column("flag", "given"),
    *(_column("text", name) for name in ("alias", "provider", "model", "model_served", "upstream")),
    *(_column("text", name) for name in ("text", "reasoning", "outcome", "finish")),
    *(_column("whole", f"tokens_{name}", "tokens", name) for name in _TOKENS),
    _column("number", "cost"),
    _column("text", "cost_source"),
    *(_column("number", name) for name in ("seconds_first_byte", "seconds", "tokens_per_second")),
    _column("whole", "attempts"),
    *(_column("text", name) for name in ("generation", "request", "title")),
    _column("flag", "carried"),
    _column("text", "heard"),
    _column("whole", "left_out"),
    Column("chosen_by", "text", chosen_by),
    *(_column("number", f"weighed_{rule}", "weighed", rule) for rule in WEIGHED),
    *(_column("text", f"error_{name}", "error", name) for name in ("kind", "message")),
)
NOTE: Final = (
    *(_column("text", name) for name in ("kind", "heading")),
    *(_column("text", name, "observer", name) for name in ("label", "alias", "provider")),
    _column("text", "model", "observer", "id"),
    *(_column("text", name) for name in ("status", "reason", "text", "data")),
    *(_column("whole", f"tokens_{name}", "tokens", name) for name in _TOKENS),
    *(_column("number", name) for name in ("cost", "spent", "seconds")),
    _column("text", "cost_source"),
    _column("whole", "attempts"),
    *(_column("text", f"error_{name}", "error", name) for name in ("kind", "message")),
)
"""What an observer made of a conversation; titles and scores are JSON in `data`."""
