"""One line of JSON per conversation, schema 1, for pandas, polars, DuckDB and the like.

Every line has the same keys at every level, and each of them one type or null. Money is in dollars, times are seconds,
stamps UTC with milliseconds. Texts are verbatim, but for lone surrogates, which no UTF-8 can hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from runner.conversation import Transcript, Turn
from runner.foreign import storable
from runner.money import NANOS_PER_DOLLAR, Nanos
from runner.render.figures import counted, difference, stamp, total

SCHEMA: Final = 1
_LARGEST_COUNT: Final = 2**53
"""Readers keep whole numbers exactly up to here; a provider that counts further does not count."""


def line(t: Transcript) -> bytes:
    """The conversation as one line, without its newline."""
    generated = [turn for turn in t.turns if turn.text is not None and not turn.given]
    covered = sum(turn.usage.output is not None for turn in generated)
    return orjson.dumps(
        {
            "schema": SCHEMA,
            "id": _text(t.id),
            "name": _text(t.name),
            "job": _text(t.job),
            "run": _text(t.run),
            "prompt": _text(t.prompt),
            "models": [
                {"role": _text(p.role), "alias": _text(p.alias), "id": _text(p.model), "provider": _text(p.provider)}
                for p in t.participants
                if p.live
            ],
            "repeat": t.repeat,
            "status": t.status,
            "reason": _text(t.reason),
            "flags": {"truncated": t.truncated, "refused": t.refused},
            "rounds": {"planned": t.rounds_planned, "done": t.rounds_done},
            "messages": [
                *([] if t.system is None else [{"role": "system", "content": _text(t.system)}]),
                *({"role": message.role, "content": _text(message.text)} for message in t.messages),
            ],
            "turns": [_turn(turn) for turn in t.turns],
            "totals": {
                "tokens": _tokens(generated),
                "cost": _dollars(total(turn.cost for turn in generated)[0]),
                "spent": _dollars(t.spent),
                "seconds": _seconds(total(turn.seconds for turn in generated)[0]),
                "turns": len(generated),
                "turns_with_figures": covered,
                "coverage": f"{covered} of {counted(len(generated), 'turn')} "
                f"{'has' if len(generated) == 1 else 'have'} figures",
            },
            "after": [],
            "started": _stamp(t.started),
            "ended": _stamp(t.ended),
            "error": _error(t.error),
        }
    )


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "n": turn.number,
        "round": turn.round,
        "role": _text(turn.role),
        "speaker": _text(turn.speaker),
        "label": _text(turn.label),
        "given": turn.given,
        "alias": _text(turn.alias),
        "provider": _text(turn.provider),
        "model": _text(turn.model),
        "model_served": _text(turn.served),
        "upstream": _text(turn.upstream),
        "text": _text(turn.text),
        "reasoning": _text(turn.reasoning),
        "outcome": turn.outcome,
        "finish": _text(turn.stop),
        "tokens": _tokens([turn]),
        "cost": _dollars(turn.cost),
        "cost_source": turn.cost_source,
        "cost_reported": _dollars(turn.usage.cost),
        "cost_computed": _dollars(turn.computed),
        "cost_differs": difference(turn.usage.cost, turn.computed),
        "seconds_first_byte": _seconds(turn.first_byte),
        "seconds": _seconds(turn.seconds),
        "tokens_per_second": _seconds(turn.tokens_per_second),
        "attempts": turn.attempts,
        "generation": _text(turn.generation),
        "request": _text(turn.request),
        "error": _error(turn.error),
    }


def _tokens(turns: Sequence[Turn]) -> dict[str, int | None]:
    return {
        "in": _count(total(turn.usage.input for turn in turns)[0]),
        "out": _count(total(turn.usage.output for turn in turns)[0]),
        "reasoning": _count(total(turn.usage.reasoning for turn in turns)[0]),
        "cached_read": _count(total(turn.usage.cached_read for turn in turns)[0]),
        "cached_write": _count(total(turn.usage.cached_write for turn in turns)[0]),
    }


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _count(count: int | None) -> int | None:
    return count if count is not None and abs(count) <= _LARGEST_COUNT else None


def _dollars(nanos: Nanos | None) -> float | None:
    # The float nearest to a figure of nine decimals is written with those decimals again.
    return None if nanos is None else nanos / NANOS_PER_DOLLAR


def _seconds(seconds: float | None) -> float | None:
    # Whole seconds, too, are written with a point: a column has one type.
    return None if seconds is None else float(seconds)


def _stamp(epoch: float | None) -> str | None:
    return None if epoch is None else stamp(epoch, "milliseconds")


def _error(error: Mapping[str, Any] | None) -> dict[str, str | None] | None:
    if error is None:
        return None
    return {name: None if (word := error.get(name)) is None else storable(str(word)) for name in ("kind", "message")}
