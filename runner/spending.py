"""What was spent, by day, job, provider or model, and what room is left: the ledger, read so that everything adds up.

Money is in one of three states: *settled*, for it is known what was billed; *assumed*, the reservation of a call of
which nobody knows that; or *held*, drawn or reserved by a run that is not folded yet. Play money is never added to real
money.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from runner.ledger import Book, Entry, Scope, month_of
from runner.money import Nanos
from runner.state import State

Key: TypeAlias = Literal["month", "day", "job", "provider", "model"]
KEYS: Final[tuple[Key, ...]] = ("month", "day", "job", "provider", "model")


class Money(NamedTuple):
    """An amount by what is known of it."""

    settled: Nanos = 0
    assumed: Nanos = 0
    held: Nanos = 0

    @property
    def total(self) -> Nanos:
        return self.settled + self.assumed + self.held

    def plus(self, other: Money) -> Money:
        return Money(self.settled + other.settled, self.assumed + other.assumed, self.held + other.held)


class Share(NamedTuple):
    """What one model of a run has cost on a day; without its names where a repair took them."""

    provider: str | None
    model: str | None
    money: Money


class Line(NamedTuple):
    """What one model of one run has cost on one day."""

    entry: Entry
    share: Share

    @property
    def job(self) -> str:
        return self.entry.folder.partition("/")[0]

    def key(self, name: Key) -> str | None:
        """What it is grouped by; None where that is not known."""
        if name == "job":
            return self.job
        if name == "day":
            return self.entry.day
        if name == "month":
            return month_of(self.entry.day)
        share = self.share
        return share.provider if name == "provider" or share.provider is None else f"{share.provider}/{share.model}"


def shares_of(state: State, at_work: bool) -> dict[str, tuple[Share, ...]]:
    """What a journal says of each day; a call without an outcome is held by a run at work, and lost by any other."""
    found: dict[str, list[Share]] = {day: [] for day in state.days}
    for (day, provider, model), account in sorted(state.spending.items()):
        reserved = Money(held=account.reserved) if at_work else Money(assumed=account.reserved)
        known = Money(account.settled - account.assumed, account.assumed).plus(reserved)
        if known.total:
            found[day].append(Share(provider, model, known))
    for day, account in state.days.items():
        nameless = account.held - sum(share.money.total for share in found[day])
        if nameless:
            found[day].append(Share(None, None, Money(assumed=nameless)))
    return {day: tuple(shares) for day, shares in found.items()}


def lines_of(
    book: Book, unfolded: Mapping[str, Mapping[str, tuple[Share, ...]]], month: str | None = None
) -> Iterator[Line]:
    """Everything that the ledger counts; `unfolded` is what the journals of runs say that still hold something."""
    for (run, day), entry in sorted(book.standing.items(), key=lambda item: (item[0][1], item[0][0])):
        if month is not None and month_of(day) != month:
            continue
        known = unfolded.get(run, {}).get(day, ()) if entry.ahead else _counted(entry)
        rest = entry.amount - sum(share.money.total for share in known)
        for share in known:
            yield Line(entry, share)
        if rest > 0:
            yield Line(entry, Share(None, None, Money(held=rest) if entry.ahead else Money(assumed=rest)))


def _counted(entry: Entry) -> tuple[Share, ...]:
    return tuple(
        Share(part.provider, part.model, Money(part.spent - part.assumed, part.assumed)) for part in entry.parts
    )


def grouped(lines: Iterable[Line], by: Sequence[Key]) -> dict[tuple[str | None, ...], Money]:
    """The sums of the lines that agree in these keys, in order; what is not known comes last."""
    sums: dict[tuple[str | None, ...], Money] = {}
    for line in lines:
        key = tuple(line.key(name) for name in by)
        sums[key] = sums.get(key, Money()).plus(line.share.money)
    return dict(sorted(sums.items(), key=lambda item: [(part is None, part or "") for part in item[0]]))


def total(lines: Iterable[Line]) -> Money:
    whole = Money()
    for line in lines:
        whole = whole.plus(line.share.money)
    return whole


# --- room --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Room:
    """A ceiling over a day or a month, as the last run of some jobs had it, and what is counted under it."""

    scope: Scope
    span: str
    """`2026-11-21`, or `2026-11`."""
    most: Nanos
    counted: Nanos
    play: bool
    jobs: tuple[str, ...]

    @property
    def left(self) -> Nanos:
        return max(0, self.most - self.counted)


def rooms(entries: Iterable[Entry], book: Book, today: Callable[[str], str]) -> list[Room]:
    """What is left today and this month, for each ceiling that a job has; `today` tells the date in a zone."""
    newest: dict[tuple[bool, str], Entry] = {}
    for entry in entries:
        if entry.ahead or entry.caps or entry.records:  # what a repair or an older version counted tells of none
            newest[entry.play, entry.folder.partition("/")[0]] = entry
    jobs: dict[tuple[bool, Scope, str, Nanos], list[str]] = {}
    for (play, job), entry in sorted(newest.items()):
        day = today(entry.zone)
        for scope, most in entry.caps.items():
            jobs.setdefault((play, scope, day if scope == "day" else month_of(day), most), []).append(job)
    return [
        Room(scope, span, most, book.total(span, play), play, tuple(some))
        for (play, scope, span, most), some in sorted(jobs.items())
    ]
