"""`spend`: what was spent, and what room is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from runner.cli.door import answered, emit, ended, json_option, outputs_option, say

if TYPE_CHECKING:
    from runner.cli.runs import Run
    from runner.ledger import Book, Entry
    from runner.money import Nanos
    from runner.spending import Key, Line, Money, Room, Share

_MOST_NAMED: Final = 5
_UNKNOWN: Final = "(not known)"


def _keys(context: click.Context, option: click.Parameter, text: str) -> tuple[Key, ...]:
    from runner.spending import KEYS

    found: list[Key] = []
    for word in text.split(","):
        key = next((known for known in KEYS if known == word.strip()), None)
        if key is None:
            raise click.BadParameter(f"{word.strip()!r} is none of {', '.join(KEYS)}")
        if key not in found:
            found.append(key)
    return tuple(found)


def _month(context: click.Context, option: click.Parameter, text: str | None) -> str | None:
    import re

    if text is not None and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text):
        raise click.BadParameter(f"{text!r} is no month; write it like 2026-11")
    return text


@click.command()
@outputs_option
@click.option(
    "--by",
    default="day",
    show_default=True,
    metavar="KEYS",
    callback=_keys,
    help="One or several of: month, day, job, provider, model; such as day,job.",
)
@click.option("--month", metavar="YYYY-MM", callback=_month, help="Only this month.")
@json_option
@answered
@ended
def spend(outputs: Path, by: tuple[Key, ...], month: str | None, as_json: bool) -> int:
    """Tell what was spent, and what room the ceilings of the day and the month leave.

    It is read from the ledger, which knows all jobs, also those whose runs were deleted. SETTLED is what was billed as
    far as anybody knows, ASSUMED the reservations of calls of which nobody knows that (`tertulia settle`), HELD what
    runs have drawn that are at work or were broken off. Play money stands apart.
    """
    from runner.ledger import FILE, Book, read
    from runner.lines import TooNew
    from runner.world import RealDisk

    path = outputs / FILE
    try:
        # First the journals, then the ledger: what a run spends, it has drawn before.
        unfolded = _unfolded(outputs, Book(read(RealDisk(), path).entries))
        entries = read(RealDisk(), path).entries
    except TooNew as error:
        raise TooNew(f"{path}: {error}") from None
    picture = _Picture(outputs, entries, unfolded, by, month)
    if as_json:
        picture.tell_data()
    else:
        picture.tell()
    return 0


def _unfolded(outputs: Path, book: Book) -> dict[str, dict[str, tuple[Share, ...]]]:
    """What the journals of those runs say that still hold something; those that cannot be read are left out."""
    from runner.cli.runs import Run, holder, scanned
    from runner.ledger import run_id
    from runner.lines import StorageError, TooNew
    from runner.spending import shares_of

    found: dict[str, dict[str, tuple[Share, ...]]] = {}
    for entry in book.standing.values():
        run = Run(outputs / entry.folder)
        if not entry.ahead or entry.run in found or not run.journal.is_file():
            continue
        try:
            held = holder(run) is not None
            scan = scanned(run)
        except (StorageError, TooNew, OSError):
            continue
        live = scan.state.live
        # Another run may stand in the folder of one that was deleted.
        if not scan.damaged and live is not None and run_id(entry.folder, live.born) == entry.run:
            found[entry.run] = shares_of(scan.state, at_work=held)
    return found


class _Picture:
    """What the ledger tells, for people or for programs."""

    def __init__(
        self,
        outputs: Path,
        entries: Sequence[Entry],
        unfolded: Mapping[str, Mapping[str, tuple[Share, ...]]],
        by: tuple[Key, ...],
        month: str | None,
    ) -> None:
        from runner.ledger import Book, frozen_day
        from runner.spending import lines_of, rooms

        book = Book(entries)
        self.outputs, self.by, self.month = outputs, by, month
        self.known = {entry.folder for entry in entries}
        self.lines = list(lines_of(book, unfolded, month))
        self.rooms = [
            room
            for room in rooms(entries, book, lambda zone: frozen_day(_today(zone), book.latest.get(zone, "")))
            if month in (None, room.span[:7])
        ]

    def of(self, play: bool) -> list[Line]:
        return [line for line in self.lines if line.entry.play == play]

    def tell(self) -> None:
        if not self.lines:
            say(f"nothing was spent{'' if self.month is None else f' in {self.month}'}, as far as {self.outputs} tells")
        for play in (False, True):
            lines = self.of(play)
            if lines:
                if play:
                    click.echo("play money, of jobs that ask the built-in provider alone; it counts apart:")
                for text in (*self._table(lines), *self._notes(lines), *self._rooms(play)):
                    click.echo(text)
        unknown = self._not_in_ledger()
        if unknown:
            say(f"not counted: {_some(unknown)}; the next `tertulia run` of such a run brings it into the ledger")

    def _table(self, lines: Sequence[Line]) -> Iterator[str]:
        from runner.foreign import one_line
        from runner.spending import grouped, total

        rows = [[name.upper() for name in self.by] + ["SETTLED", "ASSUMED", "HELD", "TOTAL"]]
        for key, money in grouped(lines, self.by).items():
            rows.append([one_line(_UNKNOWN if part is None else part, 60) for part in key] + _amounts(money))
        rows.append(["total", *[""] * (len(self.by) - 1), *_amounts(total(lines))])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            names = [text.ljust(width) for text, width in zip(row, widths, strict=True)][: len(self.by)]
            amounts = [text.rjust(width) for text, width in zip(row, widths, strict=True)][len(self.by) :]
            yield "  " + "  ".join([*names, *amounts])

    def _notes(self, lines: Sequence[Line]) -> Iterator[str]:
        from runner.cli.runs import Run, stands_for
        from runner.foreign import one_line
        from runner.render.figures import usd

        whole = sum(line.share.money.total for line in lines)
        known = sum(line.share.money.total for line in lines if line.share.model is not None)
        if known < whole and ("model" in self.by or "provider" in self.by):
            yield f"  models are known for {usd(known)} of {usd(whole)}"
        for entry, money in _by_run(lines):
            run = Run(self.outputs / entry.folder)
            here = stands_for(run, entry.run)
            own = [line.share for line in lines if line.entry.run == entry.run]
            lost = sum(share.money.assumed for share in own if share.model is None)
            if money.assumed > lost:
                remedy = run.command("settle") if here else "its folder is gone, so it stays"
                yield "  " + one_line(f"assumed: {usd(money.assumed - lost)} of {entry.folder} -> {remedy}", 500)
            if lost:
                what = f"assumed: {usd(lost)} of {entry.folder}, for what no record tells of any more: it stays"
                yield "  " + one_line(what, 500)
            if money.held:
                yield "  " + one_line(f"held: {usd(money.held)} by {entry.folder}, {self._who(entry, here)}", 500)

    def _who(self, entry: Entry, here: bool) -> str:
        """Who works on a run that holds something."""
        from runner.cli.runs import Run, holder

        if not here:
            return "whose folder is gone: nobody can tell what of it was spent"
        try:
            return holder(Run(self.outputs / entry.folder)) or "broken off: its next run counts what was spent"
        except OSError as error:
            return f"nobody can tell by whom: {error.filename}: {error.strerror}"

    def _rooms(self, play: bool) -> Iterator[str]:
        from runner.foreign import one_line
        from runner.render.figures import usd

        for room in self.rooms:
            if room.play == play:
                counted = f"{usd(room.counted)} of {usd(room.most)} counted, {usd(room.left)} left"
                yield f"  {room.scope} {room.span}: {counted} ({one_line(', '.join(room.jobs), 100)})"

    def _not_in_ledger(self) -> list[str]:
        """Runs that have spent something and are not in it: those that are older than the ledger."""
        from runner.cli.runs import all_runs

        runs = () if self.month else all_runs(self.outputs)
        return [run.name for run in runs if run.name not in self.known and _has_spent(run)]

    def tell_data(self) -> None:
        from runner.spending import grouped, total

        for play in (False, True):
            lines = self.of(play)
            for key, money in grouped(lines, self.by).items():
                emit({"event": "row", "play": play, **dict(zip(self.by, key, strict=True)), **_data(money)})
            known = [line for line in lines if line.share.model is not None]
            emit(
                {"event": "total", "play": play, **_data(total(lines)), "of_known_models": _dollars(total(known).total)}
            )
            for entry, money in _by_run(lines):
                emit({"event": "open", "play": play, "run": entry.folder, **_data(money)})
        for room in self.rooms:
            emit(_room_data(room))
        for name in self._not_in_ledger():
            emit({"event": "not_counted", "run": name})


def _has_spent(run: Run) -> bool:
    """False when its views say that it cost nothing; they are quicker to read than its journal."""
    import orjson

    from runner.outputs import STATUS

    try:
        return bool(orjson.loads((run.folder / STATUS).read_bytes())["spent"]["total"])
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _by_run(lines: Sequence[Line]) -> Iterator[tuple[Entry, Money]]:
    """The runs of which something is assumed or held."""
    from runner.spending import Money

    entries: dict[str, Entry] = {}
    found: dict[str, Money] = {}
    for line in lines:
        entries[line.entry.run] = line.entry
        found[line.entry.run] = found.get(line.entry.run, Money()).plus(line.share.money)
    for run, money in found.items():
        if money.assumed or money.held:
            yield entries[run], money


def _today(zone: str) -> str:
    import time

    from runner.selection import date_of

    try:
        return date_of(time.time(), zone)
    except (ValueError, OSError, KeyError):
        return date_of(time.time(), "UTC")  # this machine has no data of that zone


def _amounts(money: Money) -> list[str]:
    from runner.render.figures import usd

    return [usd(amount) for amount in (*money, money.total)]


def _data(money: Money) -> dict[str, float]:
    return {**{name: _dollars(amount) for name, amount in money._asdict().items()}, "total": _dollars(money.total)}


def _room_data(room: Room) -> dict[str, Any]:
    return {
        "event": "room",
        "play": room.play,
        "scope": room.scope,
        "span": room.span,
        "jobs": list(room.jobs),
        "most": _dollars(room.most),
        "counted": _dollars(room.counted),
        "left": _dollars(room.left),
    }


def _dollars(amount: Nanos) -> float:
    from runner.money import dollars

    return float(dollars(amount))


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
