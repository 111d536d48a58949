"""What became known of calls whose cost was assumed: said by hand, or read from a provider's usage file.

A usage file is CSV with a header, or one JSON object a line. A row speaks of the call whose generation id it names, or
of a conversation's turn and attempt. Every mistake in it is told with its line, and a file with mistakes is not used.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from runner.events import Failed, Settled, Stopped
from runner.foreign import one_line
from runner.money import MoneyError, Nanos, parse_billed
from runner.plan import Plan
from runner.state import CallId, State, Unsettled

_IDS: Final = ("generation_id", "generation", "id")
_COSTS: Final = ("total_cost", "cost", "usage")
"""Where a file has several of them, the first that it has counts: `usage` may mean tokens."""
_CELLS: Final = ("cell", "turn", "attempt")
_NAMED: Final = re.compile(r"(.+)#(\d{1,9})(?:\.(\d{1,9}))?", re.DOTALL)
_IN_FLIGHT: Final = "in flight when the run broke off"


class Assumed(NamedTuple):
    """A call of which nobody knew what it cost, and what people call it: `prompt/a~b#3.1`."""

    id: CallId
    conversation: str
    known: Unsettled
    in_flight: bool = False
    """True while the journal has no outcome of it at all."""
    settled: bool = False
    """True when it was settled before: what it counts at is then what was said of it last."""

    @property
    def name(self) -> str:
        return f"{self.conversation}#{self.id.turn}.{self.id.attempt}"


def assumed_calls(state: State, plan: Plan, at_work: bool = False) -> list[Assumed]:
    """The calls of a run whose cost is assumed, oldest first; those in flight count as lost unless it is at work."""

    found = [Assumed(id_, plan.name_of(id_.cell), known) for id_, known in state.unsettled.items()]
    for call in () if at_work else state.open_calls():
        sent = call.sent
        known = Unsettled(sent, call.at, call.day, sent.reserved, call.generation, _IN_FLIGHT)
        found.append(
            Assumed(CallId(sent.cell, sent.turn, sent.attempt), plan.name_of(sent.cell), known, in_flight=True)
        )
    return sorted(found, key=lambda call: (call.known.at, call.name))


def settled_calls(state: State, plan: Plan) -> list[Assumed]:
    """The calls of a run whose cost was assumed once and has been settled, oldest first."""
    found = [Assumed(id_, plan.name_of(id_.cell), known, settled=True) for id_, known in state.settled.items()]
    return sorted(found, key=lambda call: (call.known.at, call.name))


def called(text: str, calls: Iterable[Assumed]) -> list[Assumed]:
    """The calls that `prompt/a~b#3.1` means; without the attempt, all at that turn."""
    found = _NAMED.fullmatch(text)
    if found is None:
        return []
    attempt = None if found[3] is None else int(found[3])
    return _at(calls, found[1], int(found[2]), attempt)


def _at(calls: Iterable[Assumed], conversation: str, turn: int, attempt: int | None) -> list[Assumed]:
    return [
        call
        for call in calls
        if conversation in (call.conversation, call.id.cell)
        and call.id.turn == turn
        and attempt in (None, call.id.attempt)
    ]


def events_of(call: Assumed, cost: Nanos, evidence: str, plan: Plan) -> Iterator[Failed | Stopped | Settled]:
    """What is recorded of a call: that it was lost, where nothing tells of its end yet, and what it cost."""
    if call.in_flight:
        yield from _lost(call, plan)
    yield Settled(call.id.cell, call.id.turn, call.id.attempt, cost, evidence)


def _lost(call: Assumed, plan: Plan) -> Iterator[Failed | Stopped]:
    """What the next life would record of it: it is lost, and not asked again where the job forbids that."""
    sent = call.known.sent
    yield Failed(
        cell=sent.cell,
        turn=sent.turn,
        attempt=sent.attempt,
        failure="lost",
        scope="call",
        money="assumed",
        cost=sent.reserved,
        final=False,
        detail=_IN_FLIGHT,
        generation=call.known.generation,
    )
    cell, aside = plan.by_id.get(sent.cell), plan.aside(sent.cell)
    speaker = None if cell is None else plan.conversation(cell).participant(sent.role)
    if aside is not None:
        speaker = aside[1].by
    if speaker is not None and speaker.outcomes.lost.retry == 0:
        yield Stopped(sent.cell, "failed", "lost when the run broke off, and not to be asked again")


# --- usage files -------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """What a usage file says of one call."""

    line: int
    cost: Nanos
    generation: str | None = None
    conversation: str | None = None
    turn: int = 0
    attempt: int | None = None


class Mistake(NamedTuple):
    """What is wrong with a usage file, and in which line; 0 is the whole file."""

    line: int
    text: str


class Unusable(Exception):
    """A usage file that is not used; `mistakes` holds all that is wrong with it."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(mistakes)
        self.mistakes = tuple(mistakes)


def rows_of(data: bytes) -> list[Row]:
    """The rows of a usage file. Raises Unusable with every mistake in it."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable([Mistake(data.count(b"\n", 0, error.start) + 1, "this is not UTF-8")]) from None
    mistakes: list[Mistake] = []
    read = _json_lines if text.lstrip()[:1] in ("{", "[") else _csv_lines
    rows: list[Row] = []
    for line, fields in read(text, mistakes):
        try:
            rows.append(_row(line, fields))
        except ValueError as error:
            mistakes.append(Mistake(line, one_line(str(error))))
    if not rows and not mistakes:
        mistakes.append(Mistake(0, "there is not one row in it"))
    if mistakes:
        raise Unusable(sorted(mistakes))
    return rows


def _json_lines(text: str, mistakes: list[Mistake]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    # Not splitlines(): it also parts at characters that may stand in a text.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line, parse_float=Decimal)
        except (ValueError, RecursionError):
            mistakes.append(Mistake(number, "this is not JSON; one object a line is expected"))
            continue
        if isinstance(found, dict):
            yield number, {name.strip().lower(): value for name, value in found.items()}
        else:
            mistakes.append(Mistake(number, "an object is expected here"))


def _csv_lines(text: str, mistakes: list[Mistake]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header = text.lstrip().partition("\n")[0]
    delimiter = next((sign for sign in (",", ";", "\t") if sign in header), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    line = 1
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            mistakes.append(Mistake(line, f"this is not CSV: {error}"))
            return
        if not any(field.strip() for field in fields):
            continue
        if names is None:
            names = [field.strip().lower() for field in fields]
            if not _speaks_of_calls(names):
                mistakes.append(Mistake(line, _COLUMNS))
                return
        elif len(fields) != len(names):
            mistakes.append(Mistake(line, f"it has {len(fields)} fields, and the header has {len(names)}"))
        else:
            yield line, dict(zip(names, fields, strict=True))


_COLUMNS: Final = (
    "a cost (`cost`, `usage` or `total_cost`) and the call it is of are expected: "
    "`id`, `generation` or `generation_id`, or `cell` and `turn` (and `attempt`)"
)


def _speaks_of_calls(names: Iterable[str]) -> bool:
    known = set(names)
    return bool(known & {*_COSTS}) and (bool(known & {*_IDS}) or {"cell", "turn"} <= known)


def _row(line: int, fields: Mapping[str, Any]) -> Row:
    """One row; ValueError says what is wrong with it."""
    if not _speaks_of_calls(fields):
        raise ValueError(_COLUMNS)
    name = next(name for name in _COSTS if name in fields)
    generation = next((text for name in _IDS if (text := _text(name, fields.get(name)))), None)
    conversation = _text("cell", fields.get("cell"))
    row = Row(line, _cost(name, fields[name]), generation, conversation)
    if conversation is not None:
        attempt = fields.get("attempt")
        row = row._replace(
            turn=_number("turn", fields.get("turn")),
            attempt=None if _is_blank(attempt) else _number("attempt", attempt),
        )
    elif generation is None:
        raise ValueError("it does not say of which call it speaks")
    return row


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(name: str, value: Any) -> str | None:
    if _is_blank(value):
        return None
    if isinstance(value, bool | list | dict | Decimal):
        raise ValueError(f"`{name}` is not a text")
    return str(value).strip()


def _number(name: str, value: Any) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError(f"`{name}` is a whole number from 1: {text}")
    return int(text)


def _cost(name: str, value: Any) -> Nanos:
    if isinstance(value, list | dict) or _is_blank(value):
        raise ValueError(f"`{name}` is missing" if _is_blank(value) else f"`{name}` is not an amount in dollars")
    try:
        return parse_billed(value.strip() if isinstance(value, str) else value)
    except MoneyError as error:
        raise ValueError(f"`{name}` is not an amount in dollars: {error}") from None


class Matched(NamedTuple):
    """What a usage file knows of the calls whose cost is assumed."""

    rows: tuple[tuple[Assumed, Row], ...]
    ambiguous: tuple[str, ...]
    """What is not settled, because several rows speak of one call, or one row of several."""
    unmatched: tuple[Row, ...]
    """Rows of other calls."""


def matched(rows: Sequence[Row], calls: Sequence[Assumed]) -> Matched:
    """Which row speaks of which call."""
    by_generation: dict[str, list[Assumed]] = {}
    for call in calls:
        if call.known.generation is not None:
            by_generation.setdefault(call.known.generation, []).append(call)
    claims: dict[CallId, list[Row]] = {}
    ambiguous: list[str] = []
    unmatched: list[Row] = []
    for row in rows:
        fits = by_generation.get(row.generation, []) if row.generation is not None else []
        if not fits and row.conversation is not None:
            fits = [
                call
                for call in _at(calls, row.conversation, row.turn, row.attempt)
                if row.generation is None or call.known.generation is None
            ]
        if not fits:
            unmatched.append(row)
        elif len(fits) > 1:
            ambiguous.append(f"line {row.line:,} may speak of {' or '.join(call.name for call in fits)}")
        else:
            claims.setdefault(fits[0].id, []).append(row)
    found: list[tuple[Assumed, Row]] = []
    for call in calls:
        claiming = claims.get(call.id, [])
        if len(claiming) == 1:
            found.append((call, claiming[0]))
        elif claiming:
            lines = " and ".join(f"{row.line:,}" for row in claiming)
            ambiguous.append(f"lines {lines} all speak of {call.name}")
    return Matched(tuple(found), tuple(ambiguous), tuple(unmatched))
