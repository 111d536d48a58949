"""Wrong variants of Tertulia: each a small change that somebody might make, and that must not go unnoticed.

They live here and not in the product. `hunt` lives through worlds with one of them in place until a promise is
broken; a variant that gets away means that the simulation has lost a tooth, or never had it. A bug that somebody finds
becomes a variant first, and is mended then.
"""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from errno import EIO
from functools import partial
from hashlib import sha256
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import anyio
import anyio.lowlevel

from runner import folded, gate, journal, judge, limits, night, prices, selection
from runner.call import Failure, Reply, Usage
from runner.events import Event, Sent, Stopped
from runner.journal import Journal, Scan
from runner.ledger import Ledger, Purse
from runner.limits import Lane, Waiter
from runner.prices import Charge
from runner.providers import answer, chat
from runner.run import Session
from runner.state import State
from runner.transports.http import HttpTransport
from runner.world import Lock, LockHeld
from tests import memory
from tests.simulation import sweep
from tests.simulation.batch import live, settle_in

# By these names the package has its functions; here their rooms are meant.
_run_room: Final = import_module("runner.run")
_plan_room: Final = import_module("runner.plan")


@dataclass(frozen=True, slots=True)
class Mutant:
    """A wrong variant: what is wrong with it, and how it is put in place."""

    what: str
    place: Callable[[], ExitStack]


MUTANTS: Final[dict[str, Mutant]] = {}


def mutant(what: str) -> Callable[[Callable[[ExitStack], None]], Callable[[ExitStack], None]]:
    """Name a variant after the function that puts it in place."""

    def named(place: Callable[[ExitStack], None]) -> Callable[[ExitStack], None]:
        def placed() -> ExitStack:
            stack = ExitStack()
            place(stack)
            return stack

        MUTANTS[place.__name__.strip("_")] = Mutant(what, placed)
        return place

    return named


def put(stack: ExitStack, owner: Any, name: str, wrong: Any) -> None:
    stack.enter_context(patch.object(owner, name, wrong))


# --- money -----------------------------------------------------------------------------------------------------------


@mutant("what is in flight does not count against a ceiling: checked before, added after")
def _check_then_act(stack: ExitStack) -> None:
    def fits(self: Waiter, claims: Any = None) -> bool:
        return all(c.account.settled + self.reserved <= c.most for c in self.ceilings)

    put(stack, Waiter, "fits", fits)
    put(stack, gate.Gate, "_all_are_short", lambda self: False)  # it would keep most of them back all the same


@mutant("a call is let through when one of its ceilings has room, not all")
def _one_scope_is_enough(stack: ExitStack) -> None:
    def fits(self: Waiter, claims: Any = None) -> bool:
        rooms = [c.account.held + self.reserved <= c.most for c in self.ceilings]
        return any(rooms) or not rooms

    put(stack, Waiter, "fits", fits)
    put(stack, gate.Gate, "_all_are_short", lambda self: False)


@mutant("an attempt that may have been billed costs nothing when it timed out or broke off")
def _timeouts_are_free(stack: ExitStack) -> None:
    right = _run_room.charge

    def charge(outcome: Any, *rest: Any) -> Charge:
        bill: Charge = right(outcome, *rest)
        return bill._replace(cost=0) if isinstance(outcome, Failure) and outcome.money == "assumed" else bill

    put(stack, _run_room, "charge", charge)


@mutant("a call that was in flight at a crash costs nothing")
def _orphans_are_free(stack: ExitStack) -> None:
    def lose(self: Session, sent: Sent, why: str, generation: str | None = None) -> None:
        lost = Failure("lost", "call", "free", why, generation=generation)
        self.journal.record(judge.failed(lost, sent, Charge(0, "reported", None, False), final=False))

    put(stack, Session, "_lose", lose)


@mutant("no tokens beside a text are believed, and cost nothing")
def _zero_is_trusted(stack: ExitStack) -> None:
    right = answer.usage_of
    settled = prices._settled

    def usage(raw: Any, figures: Any, **more: Any) -> Usage:
        found = right(raw, figures, **more)
        return replace(found, trusted=True) if found.output == 0 else found

    put(stack, chat, "usage_of", usage)
    put(stack, prices, "_settled", lambda usage, computed, price, has_text: settled(usage, computed, price, False))


@mutant("a call that is called off while it is under way is not settled")
def _cancelled_without_settling(stack: ExitStack) -> None:
    async def send(self: Session, call: Any, body: Any, ask: Any) -> Any:
        return await self.transport.send(call, body, lambda generation: None)

    put(stack, Session, "_send", send)


@mutant("the provider is asked a second time under the same reservation")
def _two_layers_of_retries(stack: ExitStack) -> None:
    right = HttpTransport.send

    async def send(self: HttpTransport, call: Any, body: Any, started: Any) -> Any:
        answer = await right(self, call, body, started)
        again = isinstance(answer.outcome, Failure) and answer.outcome.scope == "call"
        return await right(self, call, body, started) if again else answer

    put(stack, HttpTransport, "send", send)


@mutant("money is on the day its last record was written, not on that on which its life began")
def _day_is_recomputed(stack: ExitStack) -> None:
    right, read_back = State.apply, State.takers

    def follow(self: State, at: float) -> None:
        if self.live is not None:
            self.today = selection.date_of(at, self.live.zone)

    def apply(self: State, event: Event, at: float, place: Any) -> None:
        follow(self, at)
        right(self, event, at, place)

    def takers(self: State) -> dict[str, Any]:
        def also(take: Any, said: Any, at: float, *place: int) -> None:
            follow(self, at)
            take(said, at, *place)

        return {kind: partial(also, take) for kind, take in read_back(self).items()}

    put(stack, State, "apply", apply)
    put(stack, State, "takers", takers)


# --- the journal -----------------------------------------------------------------------------------------------------


@mutant("a call leaves before its record is durable")
def _sent_before_durable(stack: ExitStack) -> None:
    async def flushed(self: Journal) -> None:
        await anyio.lowlevel.checkpoint()

    put(stack, Journal, "flushed", flushed)


@mutant("a call is written down when its answer is there")
def _no_intent(stack: ExitStack) -> None:
    right = Session._judged

    def grant(self: gate.Gate, waiter: Any, now: float) -> None:
        lane = waiter.lane
        self._waiting[lane.name].remove(waiter)
        waiter.granted = now
        waiter.charged = lane.take(*lane.estimate(waiter.size), now)
        lane.flying += 1
        lane.permit = False
        waiter.answered.set()

    def judged(self: Session, outcome: Any, speaker: Any, ask: Any, rng: Any) -> Any:
        self.journal.record(ask.sent)
        return right(self, outcome, speaker, ask, rng)

    put(stack, gate.Gate, "_grant", grant)
    put(stack, Session, "_judged", judged)


@mutant("what is written is not synced")
def _no_sync(stack: ExitStack) -> None:
    async def sync(self: memory.MemoryDisk, path: Path, file: Any) -> None:
        await self._slow_operation("sync", path)

    put(stack, memory.MemoryDisk, "_sync", sync)


@mutant("a torn last line is left where it is")
def _torn_tail_is_kept(stack: ExitStack) -> None:
    async def cut(disk: Any, path: Path, end: int) -> str:
        await anyio.lowlevel.checkpoint()
        return "nowhere"

    put(stack, journal, "cut", cut)


@mutant("a sync that failed is tried again, and believed when it then succeeds")
def _failed_sync_is_retried(stack: ExitStack) -> None:
    right = memory.MemoryAppender.append

    async def append(self: memory.MemoryAppender, data: bytes) -> None:
        try:
            await right(self, data)
        except OSError as error:
            if error.errno != EIO:
                raise
            await right(self, b"")

    put(stack, memory.MemoryAppender, "append", append)


@mutant("damage in the middle is cut off like a torn end")
def _damage_is_cut(stack: ExitStack) -> None:
    put(stack, Scan, "damaged", property(lambda self: False))


@mutant("what was folded is relied upon whatever stands in the journal")
def _folded_of_anything(stack: ExitStack) -> None:
    put(stack, folded, "sha256", _Alike)


class _Alike:
    """A digest that is the same of everything."""

    def update(self, data: bytes) -> None: ...

    def copy(self) -> _Alike:
        return self

    def hexdigest(self) -> str:
        return "0" * 64


@mutant("what was folded knows nothing of attempts that failed")
def _folded_without_tries(stack: ExitStack) -> None:
    right = folded._progress_data
    put(stack, folded, "_progress_data", lambda progress: {**right(progress), "tried": (0, 0, {}, None, None)})


@mutant("a transcript is written before the end of its conversation is durable")
def _view_before_journal(stack: ExitStack) -> None:
    right = Journal.flushed

    async def flushed(self: Journal) -> None:
        if self._queue and isinstance(self._queue[-1][0], Stopped):
            return await anyio.lowlevel.checkpoint()
        return await right(self)

    put(stack, Journal, "flushed", flushed)


@mutant("the lock file is deleted at the end of a life")
def _lock_is_deleted(stack: ExitStack) -> None:
    right = Journal.close

    def close(self: Journal) -> None:
        self.disk.remove(self.folder / journal.LOCK_FILE)
        right(self)

    put(stack, Journal, "close", close)


@mutant("a lock that is held is taken to be stale, and removed")
def _lock_is_removed(stack: ExitStack) -> None:
    async def taken(disk: Any, path: Path, holder: str, patience: float) -> Lock:
        await anyio.lowlevel.checkpoint()
        try:
            found: Lock = disk.lock(path, holder)
        except LockHeld:
            disk.remove(path)
            found = disk.lock(path, holder)
        return found

    put(stack, journal, "taken", taken)


@mutant("a conversation is known by its place in the plan, not by what it is")
def _known_by_position(stack: ExitStack) -> None:
    right = _plan_room.make_plan

    def make_plan(job: Any, date: str) -> Any:
        found = right(job, date)
        cells = tuple(replace(c, id=sha256(str(c.index).encode()).hexdigest()[:16]) for c in found.cells)
        return replace(found, cells=cells, by_id={cell.id: cell for cell in cells})

    for module in (_plan_room, night):
        put(stack, module, "make_plan", make_plan)


# --- turns and limits ------------------------------------------------------------------------------------------------


@mutant("a blank reply is a turn")
def _blank_is_a_turn(stack: ExitStack) -> None:
    put(stack, answer, "has_text", lambda text: True)
    put(stack, Reply, "__post_init__", lambda self: None)


@mutant("a provider that asks to wait is asked again at once")
def _retry_after_is_ignored(stack: ExitStack) -> None:
    put(stack, Lane, "was_busy", lambda self, retry_after, jitter, now: None)


@mutant("small calls may overtake a large one for ever")
def _no_turn_for_the_large(stack: ExitStack) -> None:
    put(stack, limits, "PASSED_TOO_OFTEN", 1 << 40)


@mutant("a minute has as many requests as a provider allows in two")
def _twice_the_limit(stack: ExitStack) -> None:
    right = Lane.__post_init__

    def post_init(self: Lane) -> None:
        many = {
            n: 2 * v for n in ("rpm", "tpm", "input_tpm", "output_tpm") if (v := getattr(self.limits, n)) is not None
        }
        self.limits = replace(self.limits, **many)
        right(self)

    put(stack, Lane, "__post_init__", post_init)


# --- the ledger ------------------------------------------------------------------------------------------------------


@mutant("a slice may be used before it is on disk")
def _slice_before_durable(stack: ExitStack) -> None:
    right = Purse.draw

    async def draw(self: Purse, least: int, wanted: int) -> bool:
        self.ceiling.most = max(self.ceiling.most, self.account.held + wanted)
        return await right(self, least, wanted)

    put(stack, Purse, "draw", draw)


@mutant("the ledger is read and written without its lock")
def _ledger_without_lock(stack: ExitStack) -> None:
    @asynccontextmanager
    async def held(self: Ledger) -> AsyncIterator[None]:
        self._disk.make_dirs(self.path.parent)
        await self._catch_up()
        await anyio.sleep(0.01)
        yield

    put(stack, Ledger, "_held", held)


@mutant("what a dead process had drawn is forgotten at once")
def _dead_slices_are_forgotten(stack: ExitStack) -> None:
    right = night._durably_told

    async def told_by(*where: Any) -> Any:
        found = await right(*where)
        if found is None:
            return None
        return found._replace(truths={day: replace(truth, amount=0) for day, truth in found.truths.items()})

    put(stack, night, "_durably_told", told_by)


@mutant("slices of runs that go on are folded like those of the dead")
def _living_slices_are_folded(stack: ExitStack) -> None:
    right = night._durably_told
    put(stack, Ledger, "_alive", lambda self, entry: False)
    put(stack, night, "_durably_told", lambda disk, *where: right(_Unlocked(disk), *where))


class _Unlocked:
    """A disk on which nobody holds a lock."""

    def __init__(self, disk: Any) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    def lock(self, path: Path, holder: str) -> Any:
        return self

    def release(self) -> None: ...


# --- catching them ---------------------------------------------------------------------------------------------------

KEPT: Final = Path(__file__).with_name("mutants.txt")
_SEEDS: Final = 300


class Hunt(NamedTuple):
    """What came of the hunt for a variant."""

    name: str
    caught_by: str | None
    """The world in which it breaks a promise that is kept without it."""
    promise: str
    tried: int


def hunt(name: str, worlds: Iterable[str]) -> Hunt:
    """Live through worlds with a variant in place until a promise is broken."""
    tried = 0
    for tried, world in enumerate(worlds, 1):
        with MUTANTS[name].place():
            failure = live(world).failure
        if failure is not None and live(world).failure is None:
            return Hunt(name, world, failure.promise, tried)
        if tried % 10 == 0:
            gc.collect()
    return Hunt(name, None, "", tried)


def kept() -> dict[str, str]:
    """The world that shows each variant to be wrong."""
    return dict(line.split() for line in KEPT.read_text().splitlines() if line and not line.startswith("#"))


def _candidates(unseeded: bool, name: str) -> list[str]:
    """The world that is known to catch it, or so many seeds and then the sweep of the smaller world."""
    return [*map(str, range(_SEEDS)), *sweep.once("pair")] if unseeded else [kept()[name]]


def main(jobs: int, unseeded: bool) -> int:
    """Hunt every variant, with the worlds that are known to catch it or without; 1 when one gets away."""
    began = time.monotonic()
    away = []
    with ProcessPoolExecutor(jobs, get_context("spawn"), settle_in) as pool:
        hunts = [pool.submit(hunt, name, _candidates(unseeded, name)) for name in MUTANTS]
        for done in as_completed(hunts):
            found = done.result()
            if found.caught_by is None:
                away.append(found.name)
            how = "NOT CAUGHT" if found.caught_by is None else f"world {found.caught_by} breaks {found.promise}"
            print(f"{found.name}: {how} ({found.tried} tried): {MUTANTS[found.name].what}", flush=True)
    caught = len(MUTANTS) - len(away)
    print(f"mutants: {caught} of {len(MUTANTS)} variants caught in {time.monotonic() - began:.0f} s")
    return 1 if away else 0
