"""What the bytes of a journal, and of the ledger, say of money and turns: read line by line, and added up anew.

The product's own readers and folds are what is tested; so none of them is used here. A line counts when it is whole,
and what is asked of an account is asked of lines that the disk would still have after a crash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import orjson

Line: TypeAlias = Mapping[str, Any]
"""One record as it stands in the file."""
Scope: TypeAlias = tuple[str, str]
"""What money is counted for: ("run", ""), ("cell", id), ("model", alias), ("provider", name), ("day", date)."""

RUN: Scope = ("run", "")
_TAIL = len(b',"crc":"00000000"}')


class Held(NamedTuple):
    """Money of one scope, in nano-dollars."""

    settled: int = 0
    reserved: int = 0

    @property
    def all(self) -> int:
        return self.settled + self.reserved


class Move(NamedTuple):
    """What one record did to one scope."""

    scope: Scope
    before: Held
    after: Held


def whole_lines(data: bytes | bytearray, start: int = 0) -> Iterator[tuple[int, Line]]:
    """The lines of a file from `start` up to the first that is torn or damaged: (where it ends, what it says)."""
    while (end := data.find(b"\n", start)) >= 0:
        line = bytes(data[start:end])
        if line[-_TAIL:] != b',"crc":"%08x"}' % crc32(line[:-_TAIL]):
            return
        start = end + 1
        yield start, orjson.loads(line)


def synced_mark(data: bytes | bytearray) -> int:
    """The highest sequence number that any whole line of these says was synced before it."""
    found = 0
    for line in bytes(data).split(b"\n"):
        if line[-_TAIL:] == b',"crc":"%08x"}' % crc32(line[:-_TAIL]):
            found = max(found, orjson.loads(line).get("synced", 0))
    return found


@dataclass(slots=True)
class Account:
    """All that the promises about money and turns need to know of a journal."""

    pairings: Callable[[Line, Mapping[str, str]], Mapping[str, int]]
    """Cell to pairing, for the job that an `opened` record and the texts so far describe."""
    seq: int = 0
    at: float = 0.0
    lives: int = 0
    day: str = ""
    """To which the money of the open life belongs."""
    closed: bool = True
    reasons: Sequence[str] = ()
    """Why the last life that was closed came to its exit code."""
    ceilings: Mapping[str, int] | None = field(default_factory=dict)
    """Those of the life that is open; None when the record that said them was lost."""
    held: dict[Scope, Held] = field(default_factory=dict)
    open: dict[str, Line] = field(default_factory=dict)
    """The call that each conversation has in flight, by cell."""
    sent: Counter[str] = field(default_factory=Counter)
    """How often each request was cleared to leave, by its hash."""
    calls: dict[tuple[str, int, int], Line] = field(default_factory=dict)
    """Every `sent`, by cell, turn and attempt."""
    replies: dict[tuple[str, int], Line] = field(default_factory=dict)
    statuses: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    overran: set[str] = field(default_factory=set)
    """The models of calls that used or cost more than was reserved for them, by alias."""
    mended_to: int = 0
    """The last record that was there when the journal was repaired."""
    pairing_of: Mapping[str, int] = field(default_factory=dict)
    last: list[Line] = field(default_factory=list)
    """The last records, to be shown when a promise is broken."""
    _texts: dict[str, str] = field(default_factory=dict)
    _job: Line | None = None
    _mended: bool = False

    @property
    def mended(self) -> bool:
        """True after a repair: lines are missing, and with them what they said."""
        return self._mended

    def of(self, *scope: str) -> Held:
        name, of = scope
        return self.held.get((name, of), Held())

    def of_pairing(self, position: int) -> Held:
        """A pairing is the sum of the conversations that the job in force counts to it."""
        cells = [self.of("cell", cell) for cell, pairing in self.pairing_of.items() if pairing == position]
        return Held(sum(c.settled for c in cells), sum(c.reserved for c in cells))

    def take(self, line: Line) -> list[Move]:
        """Count one record; what it moved."""
        self.last.append(line)
        if len(self.last) > 30:
            del self.last[0]
        self.seq = line["through"] if line["kind"] == "repaired" else line["seq"]
        self.at = line["at"]
        taken: list[Move] | None = getattr(self, f"_{line['kind']}", _nothing)(line)
        return taken or []

    def _opened(self, line: Line) -> None:
        self.lives = line["life"]
        self.day = line["day"]
        self.closed = False
        self.ceilings = line["ceilings"]
        self._texts.update(line["texts"])
        if line.get("job") is not None:
            self._job = line
        if self._job is not None:
            self.pairing_of = self.pairings(self._job, self._texts)
        about = line.get("about")
        self.statuses = {
            cell: why
            for cell, why in self.statuses.items()
            if why[0] in ("complete", "failed") or (about is not None and cell not in about)
        }
        for cell in line.get("reopened", ()):
            self.statuses.pop(cell, None)

    def _sent(self, line: Line) -> list[Move]:
        cell = line["cell"]
        moves = []
        if self._mended:
            # The lines that ended it are lost: the money stays, and what was said from this turn on is void.
            if cell in self.open:
                moves = self._end(cell, self.open[cell]["reserved"])
            for key in [key for key in self.replies if key[0] == cell and key[1] >= line["turn"]]:
                del self.replies[key]
        sent = {**line, "day": self.day}
        self.open[cell] = sent
        self.sent[line["request"]] += 1
        self.calls[cell, line["turn"], line["attempt"]] = sent
        return moves + self._move(sent, 0, line["reserved"])

    def _replied(self, line: Line) -> list[Move]:
        moves = self._outcome(line)
        self.replies[line["cell"], line["turn"]] = line
        return moves

    def _failed(self, line: Line) -> list[Move]:
        self.failures["busy" if line.get("busy") else line["failure"]] += 1
        return self._outcome(line)

    def _settled(self, line: Line) -> list[Move]:
        call = line["cell"], line["turn"], line["attempt"]
        sent = self.calls.get(call)
        if sent is None:
            return []
        self.calls[call] = {**sent, "charged": line["cost"]}
        if line["cost"] > sent["reserved"]:
            self.overran.add(sent["alias"])
        return self._move(sent, line["cost"] - sent.get("charged", sent["reserved"]), 0)

    def _stopped(self, line: Line) -> None:
        self.statuses[line["cell"]] = line["status"], line.get("reason")

    def _closed(self, line: Line) -> None:
        self.closed = True
        self.reasons = line["reasons"]

    def _repaired(self, line: Line) -> list[Move]:
        self._mended = True
        self.ceilings = None
        return [self._add(RUN, line["cost"], 0)]

    def _outcome(self, line: Line) -> list[Move]:
        sent = self.open.get(line["cell"])
        if sent is not None and (sent["turn"], sent["attempt"]) == (line["turn"], line["attempt"]):
            if line.get("overrun"):
                self.overran.add(sent["alias"])
            return self._end(line["cell"], line["cost"])
        moves = [] if sent is None else self._end(line["cell"], sent["reserved"])
        return [*moves, self._add(RUN, line["cost"], 0), self._add(("cell", line["cell"]), line["cost"], 0)]

    def _end(self, cell: str, cost: int) -> list[Move]:
        sent = self.open.pop(cell)
        self.calls[cell, sent["turn"], sent["attempt"]] = {**sent, "charged": cost}
        return self._move(sent, cost, -sent["reserved"])

    def _move(self, sent: Line, settled: int, reserved: int) -> list[Move]:
        scopes = (
            RUN,
            ("day", sent["day"]),
            ("cell", sent["cell"]),
            ("model", sent["alias"]),
            ("provider", sent["provider"]),
        )
        return [self._add(scope, settled, reserved) for scope in scopes]

    def _add(self, scope: Scope, settled: int, reserved: int) -> Move:
        before = self.held.get(scope, Held())
        after = self.held[scope] = Held(before.settled + settled, before.reserved + reserved)
        return Move(scope, before, after)


def _nothing(line: Line) -> None:
    """A record that moves no money and ends no turn."""


@dataclass(slots=True)
class Book:
    """What the ledger says that each run counts on each day; the last line stands."""

    amounts: dict[tuple[str, str], int] = field(default_factory=dict)
    """By run, as its folder below the root, and day."""
    kinds: dict[tuple[str, str], str] = field(default_factory=dict)
    seq: int = 0

    def take(self, line: Line) -> int:
        """Count one line; by how much the run counts more than before."""
        key = line["run"].rpartition("@")[0], line["day"]
        more = int(line["amount"]) - self.amounts.get(key, 0)
        self.amounts[key] = line["amount"]
        self.kinds[key] = line["kind"]
        self.seq = line["seq"]
        return more

    def total(self, span: str) -> int:
        """What counts on a day, or in a month."""
        return sum(amount for (_, day), amount in self.amounts.items() if day.startswith(span))
