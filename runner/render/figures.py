"""Figures as people read them: exact, so that they add up, and with what they cover."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar
from zoneinfo import ZoneInfo

from runner.conversation import Note, Transcript, Turn
from runner.money import NANOS_PER_DOLLAR, Nanos

UNKNOWN: Final = "–"
_SHOWN: Final = 4
"""So many decimals are always shown."""

Number = TypeVar("Number", int, float)


def usd(nanos: Nanos) -> str:
    """The exact amount with at least four decimals, so that sums of what is shown agree: `$0.0036`."""
    whole, part = divmod(abs(nanos), NANOS_PER_DOLLAR)
    decimals = f"{part:09d}"
    return f"{'-' if nanos < 0 else ''}${whole}.{decimals[:_SHOWN]}{decimals[_SHOWN:].rstrip('0')}"


def total(figures: Sequence[Number | None]) -> tuple[Number | None, str]:
    """The sum of what is known, None when nothing is, and its coverage where it is not whole: ` (3 of 4)`."""
    known = [figure for figure in figures if figure is not None]
    if not known:
        return None, ""
    return sum(known), "" if len(known) == len(figures) else f" ({len(known)} of {len(figures)})"


def generated(turns: Iterable[Turn]) -> list[Turn]:
    """The turns that a model wrote in this conversation: what figures and totals are about."""
    return [t for t in turns if t.text is not None and not t.given and t.heard is None and not t.carried]


def answers(turns: Iterable[Turn]) -> list[Note]:
    """What was answered by those who were asked while it went on: their figures are part of what it cost."""
    return [note for turn in turns for note in turn.asked if note.text is not None]


def read_in(turns: Iterable[Turn]) -> list[Turn]:
    """The turns that a model wrote elsewhere, as a file tells: what they took was paid there, and is in no total."""
    return [t for t in turns if t.text is not None and t.heard is not None and t.alias is not None]


def of_it_assumed(t: Transcript) -> str:
    """Which part of what a conversation has cost is only assumed; nothing where all of it is known."""
    return f" ({usd(t.assumed)} of it assumed)" if t.assumed else ""


def shown(turns: Iterable[Turn]) -> list[Turn]:
    """The turns that were said or at least tried."""
    return [t for t in turns if t.text is not None or t.outcome != "open" or t.error is not None]


def counted(number: int, noun: str) -> str:
    """`1 attempt`, `2 attempts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def of_them_early(stopped: int) -> str:
    """`, 2 of them stopped early`, behind a number of complete conversations; nothing where none was."""
    return f", {stopped:,} of them stopped early" if stopped else ""


def redone(mended: int, in_vain: int, unfinished: int) -> str:
    """`2, redone in vain: 1`: how many conversations were mended by `redo`; nothing where it was never asked for."""
    if not mended + in_vain + unfinished:
        return ""
    more = [f", redone in vain: {in_vain:,}"] if in_vain else []
    more += [f", not yet redone: {unfinished:,}"] if unfinished else []
    return f"{mended:,}{''.join(more)}"


def assumed(calls: int, amount: Nanos, nameless: Nanos) -> str:
    """`$0.0031 assumed for 2 calls, $0.0017 for lines that a repair replaced`."""
    parts = [f"{usd(amount)} assumed for {counted(calls, 'call')}"] if calls or not nameless else []
    if nameless:
        parts.append(f"{usd(nameless)}{'' if parts else ' assumed'} for lines that a repair replaced")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """`3.2 s` below a minute, `4 min 05 s` below an hour, `2 h 03 min` above."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def stamp(epoch: float, timespec: Literal["seconds", "milliseconds"] = "seconds") -> str:
    """Seconds since the epoch as a UTC time: `2026-11-21T03:14:15Z`."""
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def local(epoch: float, zone: str) -> datetime:
    """Seconds since the epoch as the time on the clocks of a zone."""
    return datetime.fromtimestamp(epoch, ZoneInfo(zone))


def difference(reported: Nanos | None, computed: Nanos | None) -> str | None:
    """By how much the provider's figure and the price list's differ, where that is more than 2 %: `+12.5 %`."""
    if reported is None or computed is None or abs(reported - computed) * 50 <= computed:
        return None
    return f"{(reported - computed) / computed * 100:+.1f} %" if computed else "not free"
