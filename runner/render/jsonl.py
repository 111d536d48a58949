"""One line of JSON per conversation, schema 1, for pandas, polars, DuckDB and the like.

Every line has the same keys at every level, and each of them one type or null. Money is in dollars, times are seconds,
stamps UTC with milliseconds. Texts are verbatim, but for lone surrogates, which no UTF-8 can hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from runner.call import Usage
from runner.conversation import Note, Origin, Transcript, Turn
from runner.foreign import storable
from runner.money import NANOS_PER_DOLLAR, Nanos
from runner.render.figures import answers, counted, difference, generated, read_in, stamp, total

SCHEMA: Final = 1
WEIGHED: Final = ("phrase", "repetition", "echo", "farewell", "tokens", "cost", "time", "vote")
"""The rules that weigh a turn; each stands in every line, so that a reader finds the same columns everywhere."""

_UNWEIGHED: Final[Mapping[str, None]] = dict.fromkeys(WEIGHED)
_LARGEST_COUNT: Final = 2**53
"""Readers keep whole numbers exactly up to here; a provider that counts further does not count."""


def line(t: Transcript) -> bytes:
    """The conversation as one line, without its newline."""
    return _dumped(_row(t))


def line_of_many(t: Transcript) -> Callable[[str, str, int], bytes]:
    """Makes the lines of conversations that differ from this one by their id, their name and their repeat alone."""
    row = {name: orjson.Fragment(_dumped(value)) for name, value in _row(t).items()}

    def line(id_: str, name: str, repeat: int) -> bytes:
        return _dumped({**row, "id": id_, "name": name, "repeat": repeat})

    return line


def _dumped(data: Any) -> bytes:
    try:
        return orjson.dumps(data)
    except orjson.JSONEncodeError:
        # Only what came from outside can be so, and hardly ever is: it is not looked at each text for that.
        return orjson.dumps(_storable(data))


def _storable(data: Any) -> Any:
    """The same with every text in it fit for UTF-8."""
    match data:
        case str():
            return storable(data)
        case dict():
            return {name: _storable(value) for name, value in data.items()}
        case list():
            return [_storable(value) for value in data]
        case _:
            return data


def _row(t: Transcript) -> dict[str, Any]:
    said = generated(t.turns)
    covered = sum(turn.usage.output is not None for turn in said)
    asked, brought = answers(t.turns), read_in(t.turns)
    return {
        "schema": SCHEMA,
        "id": t.id,
        "name": t.name,
        "job": t.job,
        "run": t.run,
        "prompt": t.prompt,
        "models": [
            {"role": p.role, "alias": p.alias, "id": p.model, "provider": p.provider} for p in t.participants if p.live
        ],
        "repeat": t.repeat,
        "status": t.status,
        "reason": t.reason,
        "flags": {"truncated": t.truncated, "refused": t.refused},
        "rounds": {"planned": t.rounds_planned, "done": t.rounds_done},
        "messages": [
            *([] if t.system is None else [{"role": "system", "content": t.system}]),
            *({"role": message.role, "content": message.text} for message in t.messages),
        ],
        "turns": [_turn(turn) for turn in t.turns],
        "totals": {
            "tokens": _tokens([turn.usage for turn in said]),
            "cost": _dollars(total([turn.cost for turn in said])[0]),
            "spent": _dollars(t.spent),
            "seconds": _float(total([turn.seconds for turn in said])[0]),
            "turns": len(said),
            "turns_with_figures": covered,
            "coverage": f"{covered} of {counted(len(said), 'turn')} {'has' if len(said) == 1 else 'have'} figures",
            "asked": _sums(asked, "answers"),
            "read_in": _sums(brought, "turns"),
        },
        "after": [_note(note) for note in t.notes],
        "origin": None if t.origin is None else _origin(t.origin),
        "style": t.look.style,
        "started": _stamp(t.started),
        "ended": _stamp(t.ended),
        "error": _error(t.error),
    }


def _sums(said: Sequence[Turn | Note], name: str) -> dict[str, Any]:
    """What these come to together, which are called so."""
    return {
        "tokens": _tokens([one.usage for one in said]),
        "cost": _dollars(total([one.cost for one in said])[0]),
        "seconds": _float(total([one.seconds for one in said])[0]),
        name: len(said),
        f"{name}_with_figures": sum(one.usage.output is not None for one in said),
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "n": turn.number,
        "round": turn.round,
        "role": turn.role,
        "speaker": turn.speaker,
        "label": turn.label,
        "given": turn.given,
        "alias": turn.alias,
        "provider": turn.provider,
        "model": turn.model,
        "model_served": turn.served,
        "upstream": turn.upstream,
        "text": turn.text,
        "reasoning": turn.reasoning,
        "outcome": turn.outcome,
        "finish": turn.stop,
        "tokens": _counts(turn.usage),
        "cost": _dollars(turn.cost),
        "cost_source": turn.cost_source,
        "cost_reported": _dollars(turn.usage.cost),
        "cost_computed": _dollars(turn.computed),
        "cost_differs": difference(turn.usage.cost, turn.computed),
        "seconds_first_byte": _float(turn.first_byte),
        "seconds": _float(turn.seconds),
        "tokens_per_second": _float(turn.tokens_per_second),
        "attempts": turn.attempts,
        "generation": turn.generation,
        "request": turn.request,
        "title": turn.title,
        "weighed": {kind: _weighed(kind, turn.weighed.get(kind)) for kind in WEIGHED} if turn.weighed else _UNWEIGHED,
        "carried": turn.carried,
        "heard": turn.heard,
        "left_out": turn.left_out,
        "asked": [_asked(note) for note in turn.asked],
        "error": _error(turn.error),
    }


def _weighed(kind: str, figure: float | None) -> float | None:
    return _dollars(round(figure)) if kind == "cost" and figure is not None else _float(figure)


def _note(note: Note) -> dict[str, Any]:
    return {
        "kind": note.kind,
        "heading": note.heading,
        "observer": {
            "label": note.observer,
            "alias": note.alias,
            "id": note.model,
            "provider": note.provider,
        },
        "status": note.status,
        "reason": note.reason,
        "text": note.text,
        "data": None if note.data is None else json.dumps(note.data, ensure_ascii=False),
        "tokens": _counts(note.usage),
        "cost": _dollars(note.cost),
        "cost_source": note.cost_source,
        "spent": _dollars(note.spent),
        "seconds": _float(note.seconds),
        "attempts": note.attempts,
        "request": note.request,
        "error": _error(note.error),
    }


def _asked(note: Note) -> dict[str, Any]:
    """An answer as a note has it; what all attempts of who gave it have cost is known of the whole alone."""
    return {key: value for key, value in _note(note).items() if key not in ("heading", "spent")}


def _origin(origin: Origin) -> dict[str, Any]:
    return {"id": origin.id, "name": origin.name, "kind": origin.kind, "through": origin.through}


def _tokens(every: Sequence[Usage]) -> dict[str, int | None]:
    return _counts(
        Usage(
            total([usage.input for usage in every])[0],
            total([usage.output for usage in every])[0],
            total([usage.reasoning for usage in every])[0],
            total([usage.cached_read for usage in every])[0],
            total([usage.cached_write for usage in every])[0],
        )
    )


def _counts(usage: Usage) -> dict[str, int | None]:
    return {
        "in": _count(usage.input),
        "out": _count(usage.output),
        "reasoning": _count(usage.reasoning),
        "cached_read": _count(usage.cached_read),
        "cached_write": _count(usage.cached_write),
    }


def _count(count: int | None) -> int | None:
    return count if count is not None and abs(count) <= _LARGEST_COUNT else None


def _dollars(nanos: Nanos | None) -> float | None:
    # The float nearest to a figure of nine decimals is written with those decimals again.
    return None if nanos is None else nanos / NANOS_PER_DOLLAR


def _float(figure: float | None) -> float | None:
    # Whole figures, too, are written with a point: a column has one type.
    return None if figure is None else float(figure)


def _stamp(epoch: float | None) -> str | None:
    return None if epoch is None else stamp(epoch, "milliseconds")


def _error(error: Mapping[str, Any] | None) -> dict[str, str | None] | None:
    if error is None:
        return None
    return {name: None if (word := error.get(name)) is None else str(word) for name in ("kind", "message")}
