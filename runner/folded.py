"""What a journal folds to, kept beside it as far as it has come, so that nobody has to fold it from its beginning.

To fold a journal of a million turns takes half a minute, and whoever resumes, reports or looks would wait for that.
`folded.jsonl` holds checksummed lines. Each brings the conversations that have changed since the line before; a mark is
a line that brings the last of them, and with it the figures of the whole run, the number of the last record that is in
all this, where that record ends, and the SHA-256 of the journal up to there.

Nothing depends on this file. It counts where the same version wrote it, nothing is missing before its last mark, and
the journal begins with the very bytes that this mark tells of; then only what stands behind those is folded. Otherwise
the journal is folded from its beginning and comes to the same. A mark is put down when all that it tells of is durable
in the journal, so that it never knows more. A journal that was repaired gets no more marks.

It only grows, and each life brings all conversations again that it takes up. So it is begun anew when it has become too
long to be of use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from hashlib import sha256
from itertools import islice
from operator import itemgetter
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio.lowlevel

from runner import __version__
from runner.events import Branched, Closed, Engaged, Opened, Sent, from_data, to_data
from runner.lines import Damaged, seal, split, unseal
from runner.money import Nanos
from runner.state import (
    Account,
    CallId,
    Counted,
    Overrun,
    Place,
    Progress,
    Recent,
    State,
    Tally,
    Tried,
    Unsettled,
)
from runner.world import Appender, Disk

if TYPE_CHECKING:
    from hashlib import _Hash

FILE: Final = "folded.jsonl"

_EVERY_BYTES: Final = 1024 * 1024
"""So much is written to the journal between two marks at least."""
_TIMES: Final = 8
"""And so many times what the last mark took, with the lines before it, but for half of the journal at the most."""
_CELLS: Final = 64
"""So many conversations are brought by one line: everybody waits while it is made, for about a millisecond."""
_NUMBERS: Final = 24_000
"""With hardly more numbers than that to say where their turns stand."""
_HELD_BYTES: Final = 1024 * 1024
"""Lines without a mark are put down by themselves where they are so many."""
_SHORT_BYTES: Final = 16 * 1024 * 1024
_SHARE: Final = 3
"""A file that is longer than that, and than one part in so many of the journal, takes as long to read as to fold."""
_READ_BYTES: Final = 1024 * 1024
_MARK: Final = b'{"mark":'
"""How a line begins that is a mark."""


# --- as data ---------------------------------------------------------------------------------------------------------

_PLAIN: Final = ("status", "reason", "carried", "told", "dated", "started", "ended")
_NEW: Final = Progress()


def _progress_data(progress: Progress) -> dict[str, Any]:
    """A conversation so far, with what is as in a new one left out; of its turns, what is new since the last time.

    Conversations may be long, and all that are held change between any two marks.
    """
    data = {name: said for name in _PLAIN if (said := getattr(progress, name)) != getattr(_NEW, name)}
    if progress.replies:
        data["replies"] = progress.replies.news()
    if progress.sents:
        data["sents"] = progress.sents.news()
    if progress.account != _NEW.account:
        data["money"] = _money(progress.account)
    if progress.ended_attempts != _NEW.ended_attempts:
        attempts, busy, kinds, last, sent = progress.ended_attempts
        data["tried"] = (attempts, busy, dict(kinds), last and tuple(last), sent and tuple(sent))
    if progress.open is not None:
        call = progress.open
        data["open"] = (call.offset, call.size, call.day, call.generation)
    if progress.reported_input:
        data["input"] = {role: tuple(counted) for role, counted in progress.reported_input.items()}
    if progress.left_out:
        data["left_out"] = dict(progress.left_out)
    if progress.flagged:
        data["flagged"] = tuple(progress.flagged.items())
    if progress.corrected:
        data["corrected"] = tuple((*call, cost) for call, cost in progress.corrected.items())
    if progress.noted:
        data["noted"] = tuple(map(tuple, progress.noted))
    if progress.failing is not None:
        data["failing"] = tuple(progress.failing)
    return data


def _progress_of(data: Mapping[str, Any], before: Progress) -> Progress:
    """The conversation that `_progress_data` told of, as it had been before, without its call in flight."""
    found = Progress(before.replies, before.sents)
    for name, said in data.items():
        match name:
            case "replies":
                found.replies.take(*said)
            case "sents":
                found.sents.take(*said)
            case "money":
                found.account = _account(*said)
            case "tried":
                attempts, busy, kinds, last, sent = said
                found.ended_attempts = Tried(attempts, busy, kinds, last and Place(*last), sent and Place(*sent))
            case "open":
                pass
            case "input":
                found.reported_input = {role: Counted(*counted) for role, counted in said.items()}
            case "flagged":
                found.flagged = dict(said)
            case "corrected":
                found.corrected = {(turn, attempt): cost for turn, attempt, cost in said}
            case "noted":
                found.noted = tuple(Place(*place) for place in said)
            case "failing":
                found.failing = Place(*said)
            case _:
                # One text for all that say the same.
                setattr(found, name, intern(said) if isinstance(said, str) else said)
    return found


def _money(account: Account) -> tuple[int, int, int]:
    return account.settled, account.reserved, account.assumed


def _account(*money: Nanos) -> Account:
    """TypeError where an amount is longer than 64 bits, of which a reader of JSON makes something else."""
    if any(type(amount) is not int for amount in money):
        raise TypeError
    return Account(*money)


def _call_data(state: State, call: CallId) -> tuple[Any, ...]:
    """A call whose cost was assumed, and whether that is settled by now."""
    is_settled = call in state.settled
    sent, at, day, cost, generation, why, written = (state.settled if is_settled else state.unsettled)[call]
    return (is_settled, to_data(sent), at, day, cost, generation, why, written)


def _take_call(state: State, data: Sequence[Any]) -> None:
    is_settled, said, *rest = data
    sent = from_data("sent", said)
    assert isinstance(sent, Sent)
    call, known = CallId(sent.cell, sent.turn, sent.attempt), Unsettled(sent, *rest)
    if is_settled:
        state.unsettled.pop(call, None)
        state.settled[call] = known
    else:
        state.unsettled[call] = known


_COUNTED: Final = tuple(f.name for f in fields(Tally))


def _totals(state: State) -> dict[str, Any]:
    """The figures of the whole run."""
    called = state.called
    days = dict.fromkeys(day for day, *_ in called)
    spending = dict.fromkeys((day, provider, model) for day, _, provider, model in called)
    models = dict.fromkeys(("model", alias) for _, alias, _, _ in called)
    providers = dict.fromkeys(("provider", provider) for _, _, provider, _ in called)
    return {
        "called": called,
        "run": _money(state.run),
        "days": [(day, *_money(state.days[day])) for day in days],
        "spending": [(*key, *_money(state.spending[key])) for key in spending],
        "scopes": [(*key, *_money(state.scopes[key])) for key in (*models, *providers)],
        "tallies": {alias: _tally_data(tally) for alias, tally in state.tallies.items()},
        "dropped": state.dropped,
        "minutes": [(*key, tuple(minutes.items())) for key, minutes in state.day_minutes.items()],
        "recent": state.recent[0].at if state.recent else None,
    }


def _tally_data(tally: Tally) -> dict[str, Any]:
    data = {name: getattr(tally, name) for name in _COUNTED}
    return data if tally.overran is None else {**data, "overran": tuple(tally.overran)}


def _take_totals(state: State, data: Mapping[str, Any]) -> None:
    state.run = _account(*data["run"])
    state.days = {day: _account(*money) for day, *money in data["days"]}
    state.spending = {(day, provider, model): _account(*money) for day, provider, model, *money in data["spending"]}
    state.scopes = {(kind, name): _account(*money) for kind, name, *money in data["scopes"]}
    state.tallies = {alias: Tally(**figures) for alias, figures in data["tallies"].items()}
    for tally in state.tallies.values():
        tally.overran = tally.overran and Overrun(*tally.overran)
    state.dropped = {alias: tuple(names) for alias, names in data["dropped"].items()}
    state.day_minutes = {(provider, alias): dict(counts) for provider, alias, counts in data["minutes"]}
    for called in data["called"]:
        state.counts_of(*called)


# --- reading ---------------------------------------------------------------------------------------------------------


class Folded(NamedTuple):
    """What is known without folding it: the state after a record."""

    state: State
    seq: int
    at: float
    end: int
    """Where that record ends in the journal."""
    digest: _Hash
    """Of the journal up to there."""
    size: int
    """So much of this file counts."""
    landmarks: int
    """So many of them are known."""
    changed: dict[str, None]
    """What changes from then on, and the calls of which it changes what they cost."""
    calls: dict[CallId, None]


def read(disk: Disk, journal: Path) -> Folded | None:
    """What the file beside a journal knows of it; None where that is nothing, or cannot be relied upon."""
    path = journal.with_name(FILE)
    try:
        return _read(disk, journal, path) if disk.exists(path) else None
    except Exception:
        # Whatever is wrong with this file keeps nobody from the run: the journal is read in its place, and what is
        # wrong with that is told there.
        return None


def _read(disk: Disk, journal: Path, path: Path) -> Folded | None:
    most = disk.size(journal)
    if disk.size(path) > max(_SHORT_BYTES, most // _SHARE):
        return None
    found = _last_mark(disk, path, most)
    if found is None:
        return None
    mark, size = found
    digest = sha256()
    hash_on(digest, disk, journal, 0, mark["end"])
    if digest.hexdigest() != mark["sha256"]:
        return None
    state = _state(disk, journal, path, size)
    if state is None:
        return None
    changed, calls = state.follow(), state.follow_calls()
    landmarks = len(state.landmarks)
    return Folded(state, mark["seq"], mark["at"], mark["end"], digest, size, landmarks, changed, calls)


def hash_on(digest: _Hash, disk: Disk, path: Path, start: int, end: int) -> None:
    """Take a stretch of a file in."""
    while start < end:
        piece = disk.read(path, start, min(_READ_BYTES, end - start))
        if not piece:
            break
        digest.update(piece)
        start += len(piece)


def _last_mark(disk: Disk, path: Path, most: int) -> tuple[dict[str, Any], int] | None:
    """The last mark of this version that tells of no more than so many bytes of a journal, and where its line ends."""
    marks = [
        Place(offset, len(line) + 1) for offset, line, ended in split(disk, path) if ended and line.startswith(_MARK)
    ]
    for place in reversed(marks):
        said = unseal(disk.read(path, *place)[:-1])
        if said is None or said["by"] != __version__:
            return None
        if said["mark"]["stands"] != place.offset:
            return None  # somebody took away what stood before it while it was written
        if said["mark"]["end"] <= most:
            return said["mark"], place.offset + place.size
    return None


def _state(disk: Disk, journal: Path, path: Path, size: int) -> State | None:
    """What the lines up to there come to; None when one of them is not whole."""
    state, marks = State(), [_Mark(0, 0.0)]
    flying: dict[str, tuple[int, int, str, str | None]] = {}
    landmarks: list[Place] = []
    totals: Mapping[str, Any] = {}
    for offset, line, _ in split(disk, path):
        if offset >= size:
            break
        said = unseal(line)
        if said is None:
            return None
        for id_, data in said["cells"].items():
            state.cells[id_] = _progress_of(data, state.cells.setdefault(id_, Progress()))
            flying.pop(id_, None)
            if "open" in data:
                flying[id_] = data["open"]
        for data in said["calls"]:
            _take_call(state, data)
        landmarks += [Place(*place) for place in said["landmarks"]]
        if "mark" in said:
            totals = said["mark"]
            marks.append(_Mark(totals["end"], totals["at"]))
    _take_totals(state, totals)
    for place, said in zip(landmarks, _records(disk, journal, landmarks), strict=True):
        event = from_data(said["kind"], said)
        assert isinstance(event, Opened | Closed | Branched | Engaged)
        state.remember(event, said["at"], place)
    calls = sorted(flying.values(), key=itemgetter(0))
    places = [Place(offset, size) for offset, size, _, _ in calls]
    for (*_, day, generation), place, said in zip(calls, places, _records(disk, journal, places), strict=True):
        state.fly(said, said["at"], place, day, generation)
    _take_recent(state, disk, journal, marks, totals["recent"])
    return state


class _Mark(NamedTuple):
    """Where the journal stood when it was written, and when that was."""

    end: int
    at: float


def _records(disk: Disk, journal: Path, places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    for place, line in zip(places, disk.read_each(journal, places) if places else (), strict=True):
        said = unseal(line[:-1])
        if said is None:
            raise Damaged(journal, place.offset, 0)
        yield said


def _take_recent(state: State, disk: Disk, journal: Path, marks: Sequence[_Mark], since: float | None) -> None:
    """The calls of the last minute before the last mark; they are read from the journal, there may be very many."""
    if since is None:
        return
    start = max(mark.end for mark in marks if mark.at < since)
    for offset, line, _ in split(disk, journal, start):
        if offset >= marks[-1].end:
            break
        said = unseal(line)
        if said is not None and said["kind"] == "sent" and said["at"] >= since:
            bound, most = said["input_bound"], said["max_tokens"]
            state.recent.append(Recent(said["at"], said["provider"], said["alias"], bound, most))


# --- writing ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Folding:
    """Keeps beside a journal what it folds to. Owned by the writer of the journal, between whose groups it works."""

    disk: Disk
    journal: Path
    state: State
    _changed: dict[str, None]
    """Conversations that are to be brought by the next lines."""
    _calls: dict[CallId, None]
    _digest: _Hash
    """Of what is durable of the journal."""
    _landmarks: int = 0
    """So many of them were brought."""
    _marked: int = 0
    """Where the journal ended at the last mark."""
    _size: int = 0
    """So much of the file counts."""
    _bytes: int = 0
    """What the last mark took, with the lines before it."""
    _made: bytearray = field(default_factory=bytearray)
    """Lines that are not put down yet."""
    _put: int = 0
    """What was put down since the last mark."""
    _awaits: int | None = None
    """The number of the last record in them, where there is a mark among them."""
    _seen: int | None = None
    """The number of the last record there was at the last step."""
    _has_mark: bool = False
    """True when one was put down since the beginning."""
    _appender: Appender | None = None
    _failed: bool = False

    @classmethod
    def begin(cls, disk: Disk, journal: Path, state: State, known: Folded | None, end: int) -> Folding:
        """Go on from what was known when this journal was folded, which ends there."""
        if known is None:
            folding = cls(disk, journal, state, state.follow(), state.follow_calls(), sha256())
            folding._changed |= dict.fromkeys(state.cells)
            folding._calls |= dict.fromkeys((*state.unsettled, *state.settled))
        else:
            folding = cls(disk, journal, state, known.changed, known.calls, known.digest)
            folding._landmarks, folding._marked, folding._size = known.landmarks, known.end, known.size
        hash_on(folding._digest, disk, journal, folding._marked, end)
        return folding

    def durable(self, data: bytes) -> None:
        """This was put down in the journal."""
        self._digest.update(data)

    async def step(self, now: Callable[[], Now]) -> None:
        """Go on with the next mark where it is due, in parts; put down what tells of nothing that is not durable."""
        if not self._works:
            return
        seq = now().seq
        # Each record since the last time may have changed somebody else, and the mark must come nearer all the same.
        parts = 1 + 2 * (seq - (self._seen or seq)) // _CELLS
        self._seen = seq
        while parts and self._awaits is None and self._is_due(now()):
            self._make(now())
            parts -= 1
            await anyio.lowlevel.checkpoint()
        is_durable = self._awaits is not None and self._awaits <= now().synced
        if is_durable or (self._awaits is None and len(self._made) >= _HELD_BYTES):
            await self._put_down()

    async def finish(self, now: Callable[[], Now]) -> None:
        """Put down the mark that is due, when everything is durable."""
        while self._works and (self._made or self._is_due(now())):
            await self.step(now)

    def close(self) -> None:
        if self._appender is not None:
            self._appender.close()

    @property
    def _works(self) -> bool:
        return not self._failed and not self.state.repaired

    def _is_due(self, now: Now) -> bool:
        least = min(_TIMES * self._bytes, now.end // 2)
        return now.end - self._marked >= max(_EVERY_BYTES, least)

    def _make(self, now: Now) -> None:
        """The next line: a part of what has changed, or the rest of it with the figures of the whole run."""
        cells: dict[str, dict[str, Any]] = {}
        numbers = 0
        for id_ in list(islice(self._changed, _CELLS)):
            progress = self.state.of(id_)
            cells[id_] = _progress_data(progress)
            del self._changed[id_]
            numbers += sum(len(cells[id_][which][1]) for which in ("replies", "sents") if which in cells[id_])
            if numbers >= _NUMBERS:
                break
        calls = list(islice(self._calls, _CELLS))
        for call in calls:
            del self._calls[call]
        landmarks = self.state.landmarks[self._landmarks :]
        self._landmarks += len(landmarks)
        said: dict[str, Any] = {
            "by": __version__,
            "cells": cells,
            "calls": [_call_data(self.state, call) for call in calls],
            "landmarks": [tuple(place) for place in landmarks],
        }
        if not self._changed and not self._calls:
            digest = self._digest.copy()
            for line in now.queued:
                digest.update(line)
            place = {"seq": now.seq, "at": now.at, "end": now.end, "sha256": digest.hexdigest()}
            stands = self._size + len(self._made)
            said = {"mark": {**place, "stands": stands, **_totals(self.state)}, **said}
            self._awaits, self._marked = now.seq, now.end
        self._made += seal(said)

    async def _put_down(self) -> None:
        lines = bytes(self._made)
        try:
            if self._appender is None:
                self._appender = self._opened()
            await self._appender.append(lines)
        except OSError:
            # Nothing depends on this file, and what is wrong with the disk the journal will tell.
            self._failed = True
            return
        self._made.clear()
        self._size += len(lines)
        self._put += len(lines)
        if self._awaits is not None:
            # The first mark may have brought all that was there before, which says nothing of the next one.
            self._bytes, self._put = self._put if self._has_mark else 0, 0
            self._awaits, self._has_mark = None, True

    def _opened(self) -> Appender:
        path = self.journal.with_name(FILE)
        if self.disk.exists(path) and self.disk.size(path) > self._size:
            self.disk.truncate(path, self._size)
        return self.disk.appender(path)


class Now(NamedTuple):
    """Where a journal stands."""

    seq: int
    at: float
    end: int
    synced: int
    """The last record that is durable."""
    queued: Iterable[bytes]
    """The lines behind that."""
