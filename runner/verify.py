"""Every figure and every hash of a run, computed again from its journal and held against what is there.

The journal is read once, record by record: each line must be whole and follow the one before, each request is built
again and hashed, each reservation and each charge is multiplied out, and no `Sent` may pass a ceiling. Then each view
that stands in the folder is made anew and compared byte for byte. Nothing is written, and no lock is taken: whoever
calls says whether another process is at work on the run.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import orjson

from runner import __version__, folded
from runner.conversation import DURING, Aside, Floor, call_for
from runner.events import (
    Branched,
    Closed,
    Engaged,
    Failed,
    Heard,
    Opened,
    Repaired,
    Replied,
    Sent,
    Settled,
    Stopped,
    usage_of,
)
from runner.foreign import one_line, visible
from runner.job import Job, JobError
from runner.journal import FILE, Record, decode, read_record, said_in, scan
from runner.ledger import FILE as LEDGER
from runner.ledger import Book, Entry, run_id, truths_of
from runner.ledger import read as read_ledger
from runner.lines import Damaged, TooNew, split
from runner.money import Nanos, Price, ceiling, cost, dollars
from runner.outputs import CONVERSATIONS, INDEX, LINES, STATUS, UNWRITTEN, Reading
from runner.plan import Cell, Plan, make_plan
from runner.prices import unknown_cost
from runner.providers import DIALECTS
from runner.render import jsonl, summary
from runner.render.figures import counted
from runner.state import Account, HistoryError, Place, Progress, State
from runner.talk import Talk, talk_of
from runner.world import Disk

_MOST_SHOWN: Final = 20
"""So many problems of one kind are told one by one."""
_TALKS_AT_HAND: Final = 256
"""Conversations whose texts are kept while their requests are built again; of others they are read once more."""
_BEFORE, _AFTER = 30, 70
"""Characters shown around a difference."""
_FOLDED: Final = (
    *("cells", "run", "days", "spending", "unsettled", "settled", "scopes", "tallies", "dropped", "recent"),
    *("day_minutes", "landmarks", "called"),
)
"""What of a state is held against the one that was kept."""
_COUNTED_RECORDS: Final = re.compile(rb"\*Computed from journal record 1 to ([0-9,]+)\.\*\n?\Z")
_BY_REVISION: Final = {dialect.revision: dialect for dialect in DIALECTS.values()}


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found: sound when there is no problem."""

    records: int
    """Records of the journal that were read whole."""
    rebuilt: int
    """Requests that were built again and have the hash on record."""
    not_rebuilt: Mapping[str, int]
    """Requests that could not be built again, by reason; that is no failure."""
    views: int
    """Files that were computed again and are the same, byte for byte."""
    damage: tuple[str, ...]
    """What is wrong with the journal itself."""
    differences: tuple[str, ...]
    """Requests, figures and views that are not what the journal makes them."""
    notes: tuple[str, ...]
    """What was left unchecked, and why."""

    @property
    def problems(self) -> tuple[str, ...]:
        return (*self.damage, *self.differences)

    @property
    def ok(self) -> bool:
        return not self.problems


def verify(folder: Path, disk: Disk, *, running: bool = False) -> Verified:
    """Check a run's folder from the first byte of its journal to the last figure of its views.

    `running` says that another process holds the run: an unfinished last line is then only being written, and the views
    that change while a run goes on are left alone.
    """
    # Before the journal is read: a transcript is written when the end of its conversation is durable, never earlier.
    standing = _standing(disk, folder)
    check = _Check(disk, folder, running)
    check.journal()
    if check.damage:
        check.notes.append("the views were not checked, because the journal that they are computed from is not sound")
    else:
        check.folded()
        check.views(standing)
        check.ledger(folder.parent.parent / LEDGER)
    return Verified(
        records=check.records,
        rebuilt=check.rebuilt,
        not_rebuilt=dict(check.not_rebuilt),
        views=check.same,
        damage=_shortened(check.damage),
        differences=_shortened(check.differences),
        notes=tuple(check.notes),
    )


def _kept(state: State, name: str) -> object:
    """A part of a state, without conversations of which nothing is known, and without what was only asked for."""
    match name:
        case "cells":
            return {id_: one for id_, one in state.cells.items() if one != Progress()}
        case "scopes":
            return {key: account for key, account in state.scopes.items() if key[0] in ("model", "provider")}
        case _:
            return getattr(state, name)


def _shortened(problems: list[str]) -> tuple[str, ...]:
    more = len(problems) - _MOST_SHOWN
    return (*problems[:_MOST_SHOWN], *([f"... and {more:,} more of this kind"] if more > 0 else []))


@dataclass(slots=True)
class _Check:
    disk: Disk
    folder: Path
    running: bool
    state: State = field(default_factory=State)
    records: int = 0
    last: int = 0
    """The sequence number of the last record."""
    rebuilt: int = 0
    not_rebuilt: Counter[str] = field(default_factory=Counter)
    same: int = 0
    damage: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _job: Job = field(init=False)
    """The one in force, as a life brought it."""
    _plans: list[Plan] = field(default_factory=list)
    """Of every job that a life brought; the last is the one in force."""
    _prices: Mapping[str, Price] = field(default_factory=dict)
    _terms: bool = False
    """True when prices and ceilings are surely those of the life; a record that was lost may have changed them."""
    _watched: Mapping[tuple[str, str], Account] = field(default_factory=dict)
    """What is spent on several conversations together, or on one with all who listened to it."""
    _talks: OrderedDict[str, Talk] = field(default_factory=OrderedDict)
    _stopped: set[str] = field(default_factory=set)
    """Conversations that came to an end, or broke off in order, in any life."""

    # -- the journal -----------------------------------------------------------------------------------------------

    def journal(self) -> None:
        """Fold it, record by record, up to the first that cannot be."""
        path = self.folder / FILE
        if not self.disk.exists(path):
            self.damage.append(f"there is no {FILE}")
            return
        for number, (offset, line, ended) in enumerate(split(self.disk, path), 1):
            where = f"{FILE}:{number}"
            if not ended and self.running:
                return  # it is just being written
            record = self._read(where, offset, line, ended)
            if record is None or not self._take(where, record):
                return
            self.records += 1

    def folded(self) -> None:
        """What is kept beside the journal, and relied upon, must be what the journal folds to."""
        if self.running:
            return  # it goes on, and so does what is kept
        path = self.folder / FILE
        if folded.read(self.disk, path) is None:
            return
        found = scan(self.disk, path)
        others = [name for name in _FOLDED if _kept(self.state, name) != _kept(found.state, name)]
        if found.known is None:
            others = ["what follows"]
        if others:
            self.differences.append(
                f"{folded.FILE}: not what the journal folds to, in {', '.join(others)}\n"
                "  nothing is lost with this file: delete it, and the journal is folded from its beginning"
            )

    def _read(self, where: str, offset: int, line: bytes, ended: bool) -> Record | None:
        record = None
        try:
            record = decode(line, offset) if ended else None
        except TooNew as error:
            self.damage.append(f"{where}: {one_line(str(error), 300)}")
        except (KeyError, TypeError, ValueError):
            self.damage.append(f"{where}: whole, but not a record that this version understands")
        else:
            if record is None:
                what = "damaged" if ended else "torn off"
                self.damage.append(
                    f"{where}: {what} at byte {offset:,}, where record {self.last + 1:,} should stand\n"
                    "  `tertulia run` sets aside what a crash tore off; `tertulia repair` counts what is lost"
                )
        if record is not None and record.seq != self.last + 1:
            self.damage.append(f"{where}: record {record.seq:,} follows record {self.last:,}")
            return None
        return record

    def _take(self, where: str, record: Record) -> bool:
        """Check one record and take it in; False when the journal makes no sense beyond it."""
        event, state = record.event, self.state
        sent = self._answered(event) if isinstance(event, Replied | Failed) else None
        if isinstance(event, Sent):
            self._rebuild(where, event)
        held = state.run.held
        try:
            state.apply(event, record.at, record.place)
        except HistoryError as error:
            self.damage.append(f"{where}: this cannot have happened: {one_line(str(error))}")
            return False
        except KeyError as error:
            self.damage.append(f"{where}: {event.kind} names {one_line(str(error), 40)}, which nothing before it does")
            return False
        self.last = event.through if isinstance(event, Repaired) else record.seq
        match event:
            case Opened():
                return self._opened(where, event)
            case Sent():
                self._reservation(where, event)
                self._ceilings(where, event)
            case Replied() | Failed():
                self._charge(where, event, sent)
                if isinstance(event, Replied):
                    self._go_on(event, record.at)
                if sent is not None and state.run.held > held and not event.overrun:
                    self._ceilings(where, sent)
            case Heard():
                self._go_on(event, record.at)
            case Branched() | Engaged():
                self._grow()
            case Stopped():
                self._stopped.add(event.cell)
                self._talks.pop(event.cell, None)
            case Repaired():
                self._terms = False
            case Settled() if event.cost < 0:
                self.differences.append(f"{where}: a call is settled at ${dollars(event.cost)}")
            case Closed() if state.run.reserved and not state.repaired:
                self.differences.append(f"{where}: the life closed with ${dollars(state.run.reserved)} still reserved")
            case _:
                pass
        return True

    def _opened(self, where: str, event: Opened) -> bool:
        self._prices = {alias: Price.of(figures) for alias, figures in event.prices.items()}
        self._terms = True
        if event.job is None:
            return True
        try:
            self._job = Job.from_record(event.job, self.state.texts)
            plan = make_plan(self._job, event.date, self.state.additions)
        except (JobError, KeyError, ValueError) as error:
            if isinstance(error, KeyError) and self.state.repaired:
                self._plans.clear()
                self.notes.append(f"{where}: a text of the job in it was lost; its requests are not rebuilt")
                return True
            self.damage.append(f"{where}: the job in it cannot be planned: {one_line(str(error))}")
            return False
        self._plans.append(plan)
        self._watch()
        return True

    def _grow(self) -> None:
        """A conversation was added to the run, or somebody who comments on some."""
        if self._plans:
            self._plans[-1] = make_plan(self._job, self._plans[-1].date, self.state.additions)
            self._watch()

    def _watch(self) -> None:
        """Keep the accounts of what has a ceiling of its own, from what the job in force says."""
        plan = self._plans[-1]
        self._watched = {(kind, name): self.state.watch(kind, name, ids) for kind, name, ids in plan.groups()}

    def _answered(self, event: Replied | Failed) -> Sent | None:
        """The call that is open when an outcome comes; None when its `Sent` was lost."""
        progress = self.state.cells.get(event.cell)
        return None if progress is None or progress.open is None else progress.open.sent

    # -- the ledger ------------------------------------------------------------------------------------------------

    def ledger(self, path: Path) -> None:
        """The day and the month must count what the journal says, and no slice may have been drawn past a ceiling."""
        if not self.disk.exists(path):
            if not any(truth.amount for truth in truths_of(self.state).values()):
                return
            self.notes.append(f"there is no {LEDGER}, so what the days count was not checked")
            return
        try:
            lines = read_ledger(self.disk, path)
        except (Damaged, TooNew) as error:
            self.damage.append(one_line(str(error), 300))
            return
        book = Book()
        for entry in lines.entries:
            more = entry.amount > book.amount(entry.run, entry.day)
            book.take(entry)
            for what, total, most in book.over(entry) if entry.kind == "drawn" and more else ():
                drawn = f"after line {entry.seq:,} ${dollars(total)} is drawn for {what}"
                self.differences.append(f"{LEDGER}:{entry.seq}: {drawn}, past its ceiling of ${dollars(most)}")
        run = self._run_id()
        for day, truth in truths_of(self.state).items():
            self._counts(book.standing.get((run, day)), day, truth.amount)

    def _run_id(self) -> str:
        born = self.state.live.born if self.state.live is not None else 0.0
        return run_id(f"{self.folder.parent.name}/{self.folder.name}", born)

    def _counts(self, entry: Entry | None, day: str, held: Nanos) -> None:
        counts = 0 if entry is None else entry.amount
        if counts < held and self.state.repaired:
            self.notes.append(f"{LEDGER} does not count yet what was repaired; the next `tertulia run` sees to it")
            return
        if counts > held and self.state.repaired:
            kept = f"goes on counting ${dollars(counts)} on {day}, as it did before the journal was repaired"
            self.notes.append(f"{LEDGER} {kept}")
            return
        if counts < held or (counts > held and entry is not None and not entry.ahead and not self.running):
            self.differences.append(
                f"{LEDGER}: this run counts ${dollars(counts)} on {day}, and its journal says ${dollars(held)}"
            )

    # -- requests and money ----------------------------------------------------------------------------------------

    def _rebuild(self, where: str, sent: Sent) -> None:
        """Build a request again from what the journal says before it, and compare its hash."""
        cell, aside = self._known(sent.cell)
        dialect = _BY_REVISION.get(sent.dialect)
        if cell is None:
            self.not_rebuilt["not in the plan of its job"] += 1
            return
        if dialect is None:
            self.not_rebuilt[f"sent by {one_line(sent.dialect, 40)}"] += 1
            return
        what = f"{where}: {cell.name} turn {sent.turn} attempt {sent.attempt}"
        talk = self._talk(cell)
        floor = self._floor(talk, sent, aside)
        if floor is None:
            if self.state.repaired:
                self.not_rebuilt["an earlier reply was lost"] += 1
            else:
                spoken = len(talk.history)
                self.differences.append(f"{what}: asked for out of turn, when {spoken} lines had been said")
            return
        price = self._prices.get(sent.alias)
        if dialect.sends_rates and not self._terms:
            self.not_rebuilt["its price was lost"] += 1
            return
        rates = None if price is None else price.dearest(sent.input_bound)
        call = call_for(talk.conversation, floor, sent.attempt, sent.max_tokens, sent.dropped, rates)
        body = dialect.body(call, self._plans[-1].providers[call.provider].limit_field)
        digest = sha256(body).hexdigest()
        if digest == sent.request:
            self.rebuilt += 1
        else:
            self.differences.append(
                f"{what}: the request is not the one on record\n"
                f"  on record: sha256 {one_line(sent.request, 64)}\n  rebuilt:   sha256 {digest}"
            )

    def _known(self, id_: str) -> tuple[Cell | None, Aside | None]:
        """The conversation that an id stands for, or the one that somebody was asked about under it."""
        if not self._plans:
            return None, None
        plan = self._plans[-1]
        return plan.aside(id_) or (plan.by_id.get(id_), None)

    @staticmethod
    def _floor(talk: Talk, sent: Sent, aside: Aside | None) -> Floor | None:
        """What a speaker was shown; None when it was not its turn."""
        upcoming = talk.next()
        if aside is not None:
            shown = sent.turn - 1 if aside.kind == "pick" else sent.turn
            return talk.floor_of(aside, sent.turn) if shown == len(talk.history) else None
        if upcoming is None or upcoming.number != sent.turn or upcoming.role != sent.role:
            return None
        return talk.floor(upcoming, sent.left_out)

    def _talk(self, cell: Cell) -> Talk:
        talk = self._talks.get(cell.id)
        if talk is None:
            talk = self._talks[cell.id] = talk_of(self._plans[-1].conversation(cell), self.state, self._read_said)
            if len(self._talks) > _TALKS_AT_HAND:
                self._talks.popitem(last=False)
        self._talks.move_to_end(cell.id)
        return talk

    def _read_said(self, place: Place) -> tuple[Replied | Heard, float]:
        return said_in(read_record(self.disk, self.folder, place))

    def _go_on(self, event: Replied | Heard, at: float) -> None:
        """Bring the conversation on whose line this is, or about which it says something."""
        cell, aside = self._known(event.cell)
        if cell is None or cell.id not in self._talks:
            return
        talk = self._talks[cell.id]
        if aside is not None:
            talk.answered(aside, event.turn, event.text)
        elif event.turn == len(talk.history) + 1:
            talk.take(event, at)
        else:
            del self._talks[cell.id]  # a repair lost what stood before it

    def _reservation(self, where: str, sent: Sent) -> None:
        if not self._terms:
            return
        price = self._prices.get(sent.alias)
        most = None if price is None else ceiling(price, sent.input_bound, sent.max_tokens)
        if most != sent.reserved:
            made = "has no price" if most is None else f"can cost ${dollars(most)}"
            self.differences.append(f"{where}: ${dollars(sent.reserved)} is reserved for a call that {made}")

    def _charge(self, where: str, event: Replied | Failed, sent: Sent | None) -> None:
        """What is charged must follow from the tokens, the price and the reservation."""
        if sent is None or not self._terms:
            return  # something was lost; without a repair the fold refuses that
        if isinstance(event, Failed):
            if (event.money == "free" and event.cost) or (event.money == "assumed" and event.cost < sent.reserved):
                self.differences.append(
                    f"{where}: an attempt whose money is {event.money} is charged ${dollars(event.cost)}, "
                    f"with ${dollars(sent.reserved)} reserved"
                )
            return
        usage, price = usage_of(event.usage), self._prices.get(sent.alias)
        computed = None
        if price is not None and usage.trusted and usage.input is not None and usage.output is not None:
            computed = cost(price, usage.input, usage.output, usage.cached_read or 0, usage.cached_write or 0)
        if event.computed != computed:
            said_to_be = _amount(event.computed)
            self.differences.append(f"{where}: by the price list it costs {_amount(computed)}, not {said_to_be}")
        unknown = sent.reserved
        if price is not None:
            unknown = unknown_cost(sent.reserved, usage, price, event.text, event.reasoning)
        figures = {"reported": usage.cost, "priced": computed or 0, "unknown": unknown}
        if event.cost != figures[event.cost_source]:
            self.differences.append(
                f"{where}: charged ${dollars(event.cost)} as {event.cost_source}, which is "
                f"{_amount(figures[event.cost_source])}"
            )

    def _ceilings(self, where: str, sent: Sent) -> None:
        """No call may leave, or cost more than was reserved for it, past a ceiling of its life."""
        if self.state.repaired:
            return  # what a repair counted, nobody knew yet when the lines behind it were written
        for name, most, account in self._ceilings_over(sent) if self._terms else ():
            if account.held > most:
                held = f"${dollars(account.held)} is settled or reserved"
                self.differences.append(f"{where}: {held}, past the ceiling of {one_line(name)}, ${dollars(most)}")

    def _ceilings_over(self, sent: Sent) -> Iterator[tuple[str, Nanos, Account]]:
        state = self.state
        recorded = {} if state.live is None else state.live.ceilings
        if "run" in recorded:
            yield "the run", recorded["run"], state.run
        if not self._plans:
            return
        budget = self._plans[-1].budget
        if sent.provider in budget.providers:
            yield f"provider {sent.provider}", budget.providers[sent.provider], state.scope("provider", sent.provider)
        if sent.alias in budget.models:
            yield f"model {sent.alias}", budget.models[sent.alias], state.scope("model", sent.alias)
        cell, aside = self._known(sent.cell)
        if aside is not None and aside.kind not in DURING:
            if aside.budget is not None:
                account = self._watched["observer", aside.budget]
                yield f"observer {aside.budget}", budget.observers[aside.budget], account
            return
        if cell is None:
            return
        own = self._watched.get(("conversation", cell.id)) or state.of(cell.id).account
        if "conversation" in recorded:
            yield "one conversation", recorded["conversation"], own
        if cell.pairing in budget.conversations:
            yield f"one conversation of pairing {cell.pairing}", budget.conversations[cell.pairing], own
        if cell.pairing in budget.pairings:
            account = self._watched["pairing", str(cell.pairing)]
            yield f"pairing {cell.pairing}", budget.pairings[cell.pairing], account

    # -- views -----------------------------------------------------------------------------------------------------

    def views(self, standing: list[str]) -> None:
        """Compute again each view that stands in the folder, as far as the run has come to rest."""
        whole = [name for name in (LINES, INDEX, STATUS) if self.disk.exists(self.folder / name)]
        if not self._plans:
            if self.records:
                self.damage.append(f"{FILE}: no record says what the job of the run is")
            elif standing or whole:
                self.damage.append(f"{FILE}: empty, although there are views of what it held")
            else:
                self.notes.append("the journal is empty: nothing was ever sent")
            return
        if INDEX in whole and not self._records_are_there():
            return
        wrote = "" if self.state.live is None else self.state.live.version
        if wrote != __version__:
            # Another version shows the same journal in its own way.
            self.notes.append(
                f"not checked: the views, which version {one_line(wrote, 40)} wrote; this is {__version__}"
            )
            return
        resting = not self.running and not self.state.is_open
        readings = [self._reading(plan) for plan in (self._plans[-1:] if resting else reversed(self._plans))]
        all_written = not resting or self._all_written(readings[0])
        self._transcripts(standing, readings, resting, all_written)
        if resting:
            self._sums(readings[0])
            for name, compare in ((LINES, self._lines), (INDEX, self._index), (STATUS, self._status)):
                if name in whole:
                    compare(readings[0])
            absent = [name for name in (LINES, INDEX, STATUS) if name not in whole]
            if absent:
                self.notes.append(f"not there: {', '.join(absent)}; `tertulia report` writes them anew")
        elif whole:
            why = "another process is at work on the run" if self.running else "the run was broken off"
            self.notes.append(
                f"not checked: {', '.join(whole)}; {why}"
                + ("" if self.running else ", and `tertulia report` writes all views anew")
            )

    def _all_written(self, reading: Reading) -> bool:
        """That views were not written comes after the end is on record: only the status knows of it."""
        status, closed = self._told(), reading.closed
        reasons, code = status.get("reasons"), status.get("exit")
        if closed is None or not isinstance(reasons, list) or not isinstance(code, int) or UNWRITTEN not in reasons:
            return True
        if [reason for reason in reasons if reason != UNWRITTEN] != list(closed.reasons):
            return True
        reading.ended = replace(closed, exit=code, reasons=tuple(reasons))
        self.notes.append("some views were not written at the end; `tertulia report` writes them anew")
        return False

    def _told(self) -> dict[str, Any]:
        """What the status says; nothing where there is none that can be read."""
        try:
            found = orjson.loads(self.disk.read(self.folder / STATUS))
        except (OSError, orjson.JSONDecodeError):
            return {}
        return found if isinstance(found, dict) else {}

    def _reading(self, plan: Plan) -> Reading:
        return Reading(self.disk, self.folder, self.state, plan, self.state.jobs[-1].key)

    def _records_are_there(self) -> bool:
        """The index is written when the records it counts are durable, so the journal cannot have fewer."""
        found = _COUNTED_RECORDS.search(self.disk.read(self.folder / INDEX))
        told = int(found.group(1).replace(b",", b"") or b"0") if found else 0
        if told > self.last:
            self.damage.append(
                f"{FILE}: records are missing: {INDEX} was computed from {told:,}, and here are {self.last:,}"
            )
        return told <= self.last

    def _transcripts(self, standing: list[str], readings: list[Reading], resting: bool, all_written: bool) -> None:
        # Of a run that broke off, a transcript may still be as the job of an earlier life had it.
        named = [
            {str(reading.file(cell)): cell for cell in (*reading.plan.cells, *reading.plan.superseded)}
            for reading in readings
        ]
        unchecked = own = older = 0
        for name in standing:
            found = [(r, names[name]) for r, names in zip(readings, named, strict=True) if name in names]
            ended = [(r, cell) for r, cell in found if r.is_written(cell)]
            if ended and any(reading.style(cell) is None for reading, cell in ended):
                own += 1
            elif ended:
                expected = [reading.markdown(cell).encode() for reading, cell in ended]
                there = self.disk.read(self.folder / name)
                if all_written or there in expected:
                    self._compare(name, there, *expected)
                else:
                    older += 1
            elif not all_written:
                older += 1
            elif not resting and name.rpartition("/")[2].startswith("."):
                continue  # left by whoever was just writing
            elif not resting and any(cell.id in self._stopped for _, cell in found):
                unchecked += 1
            else:
                what = "the journal does not say that it ended" if found else "no conversation of this run is called so"
                self.differences.append(f"{visible(name, keep_newlines=False)}: should not be there, {what}")
        if own:
            self.notes.append(f"not checked: {counted(own, 'transcript')} in a style of the job's own")
        if older:
            self.notes.append(f"not checked: {counted(older, 'transcript')} that may be older than the end of the run")
        if unchecked:
            self.notes.append(
                f"not checked: {counted(unchecked, 'transcript')} of conversations that are not at their end"
            )
        absent = {name for name, cell in named[0].items() if readings[0].is_written(cell)} - set(standing)
        if absent and resting:
            self.notes.append(f"not there: {counted(len(absent), 'transcript')}; `tertulia report` writes them anew")

    def _index(self, reading: Reading) -> None:
        expected = summary.render(reading.night(self.last)).encode()
        self._compare(INDEX, self.disk.read(self.folder / INDEX), expected)

    def _lines(self, reading: Reading) -> None:
        """Line by line, because all of them together may be large."""
        there = split(self.disk, self.folder / LINES)
        turns = answers = 0

        def computed() -> Iterator[bytes]:
            nonlocal turns, answers
            for cell in reading.plan.cells:
                transcript = reading.transcript(cell)
                turns += sum(turn.text is not None and not turn.given for turn in transcript.turns)
                answers += sum(note.text is not None for turn in transcript.turns for note in turn.asked)
                yield jsonl.line(transcript)

        pairs = zip_longest((line if ended else line + b" (no newline)" for _, line, ended in there), computed())
        if self._difference(LINES, [pairs]):
            return
        replies = sum(len(self.state.of(cell.id).replies) for cell in reading.plan.cells)
        if turns != replies and not self.state.repaired:
            self.differences.append(f"{LINES}: has {turns:,} turns, and the journal {replies:,} replies to them")
        asked = [aside.id for cell in reading.plan.cells for aside in reading.plan.during(cell)]
        given = sum(len(self.state.of(id_).sents) for id_ in asked)
        if answers != given and not self.state.repaired:
            what = "answers of those who were asked"
            self.differences.append(f"{LINES}: has {answers:,} {what}, and the journal {given:,}")

    def _status(self, reading: Reading) -> None:
        """All of it but when it was written, and how the lanes stood."""
        there = self.disk.read(self.folder / STATUS)
        passing = self._told()
        figures: dict[str, Any] = reading.figures(self.last)
        if passing:
            figures["lanes"] = passing.get("lanes", [])
            figures["heartbeat"] = passing.get("heartbeat")
        self._compare(STATUS, there, orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")

    def _compare(self, name: str, there: bytes, *expected: bytes) -> None:
        """One file, which must be one of those expected; a difference is told against the first."""
        self._difference(name, [zip_longest(there.split(b"\n"), one.split(b"\n")) for one in expected])

    def _difference(self, name: str, versions: Iterable[Iterable[tuple[bytes | None, bytes | None]]]) -> bool:
        found = [_first_difference(name, pairs) for pairs in versions]
        if None in found:
            self.same += 1
            return False
        self.differences += [text for text in found[:1] if text is not None]
        return True

    def _sums(self, reading: Reading) -> None:
        """What is shown side by side must add up, whoever shows it."""
        state, plan = self.state, reading.plan
        planned = sum(state.of(cell.id).account.held for cell in plan.cells)
        listeners = ((plan.aside(id_), progress) for id_, progress in state.cells.items())
        planned += sum(p.account.held for found, p in listeners if found is not None and found[0].id in plan.by_id)
        replaced = reading.replaced().cost + reading.redone().cost
        lost = sum(record.cost for record in state.repaired)
        self._adds_up("conversations, replaced ones and repairs", planned + replaced + lost)
        if not state.repaired:
            for kind in ("model", "provider"):
                self._adds_up(f"{kind}s", sum(account.held for (k, _), account in state.scopes.items() if k == kind))
        counts = reading.counts()
        if sum(counts.values()) != len(plan.cells):
            total = sum(counts.values())
            self.differences.append(f"the statuses come to {total:,} of {len(plan.cells):,} conversations")

    def _adds_up(self, what: str, held: Nanos) -> None:
        run = self.state.run.held
        if held != run:
            self.differences.append(f"the money of all {what} comes to ${dollars(held)}, of the run to ${dollars(run)}")


def _amount(nanos: Nanos | None) -> str:
    return "nothing known" if nanos is None else f"${dollars(nanos)}"


def _standing(disk: Disk, folder: Path) -> list[str]:
    """Everything that lies in the folder of transcripts, by its path in the run's folder."""
    found: list[str] = []
    for outer in disk.listdir(folder / CONVERSATIONS):
        inner = disk.listdir(folder / CONVERSATIONS / outer)
        found += [f"{CONVERSATIONS}/{outer}/{name}" for name in inner]
        if not inner and _is_file(disk, folder / CONVERSATIONS / outer):
            found.append(f"{CONVERSATIONS}/{outer}")
    return found


def _is_file(disk: Disk, path: Path) -> bool:
    try:
        disk.read(path, 0, 1)
    except IsADirectoryError:
        return False
    return True


def _first_difference(name: str, pairs: Iterable[tuple[bytes | None, bytes | None]]) -> str | None:
    """The first line that differs, with its number and both versions; None when none does."""
    for number, (there, computed) in enumerate(pairs, 1):
        if there != computed:
            shown = _both(there, computed)
            place = f"{visible(name, keep_newlines=False)}:{number}"
            return f"{place}: not what the journal makes it\n  there:    {shown[0]}\n  computed: {shown[1]}"
    return None


def _both(*versions: bytes | None) -> tuple[str, ...]:
    """Two versions of a line around the place where they part, fit for a terminal."""
    texts = [None if line is None else line.decode("utf-8", "backslashreplace") for line in versions]
    known = [text for text in texts if text is not None]
    parts = 0
    if len(known) == len(texts):
        same = (i for i, letters in enumerate(zip(*known, strict=False)) if len(set(letters)) > 1)
        parts = next(same, min(map(len, known)))
    start = max(0, parts - _BEFORE)
    return tuple(
        "(the file has no such line)"
        if text is None
        else ("…" if start else "")
        + visible(text[start : parts + _AFTER], keep_newlines=False)
        + ("…" if len(text) > parts + _AFTER else "")
        for text in texts
    )
