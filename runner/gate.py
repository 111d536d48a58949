"""The waiting line around `choose`: everyone who wants to make a call waits here, and nowhere else.

- `admit` opens when the call has a slot, fits the windows and every ceiling, and its `Sent` is durable.
- Conversations that have not begun are rows of their runs; one begins when its lane could take its first call now and
  nobody who already talks wants the place, or when it would be the last to end if it waited for that.
- A request of a lane with a pace waits for its permit *before* it is chosen, so that nothing is held meanwhile; a
  permit that is not used at once is given up.
- Money that other processes share is drawn in slices by a task of its own; meanwhile the call waits like any other.
- Closing the gate refuses everyone who waits and starts nobody; calls in flight are not touched.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil, inf
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

import anyio
import anyio.lowlevel
from aiolimiter import AsyncLimiter

from runner.call import Failure, Outcome, Usage
from runner.events import Sent
from runner.journal import Journal
from runner.limits import MINUTE, Ceiling, Charged, Lane, Waiter, burst_of, choose
from runner.lines import Damaged, StorageError, TooNew
from runner.money import Nanos
from runner.status import Status

_NO_BURST_STRETCH: Final = 1.09
"""How much longer than a no-burst provider's interval ours is, because requests do not all travel equally fast."""
_RETRY_SECONDS: Final = 1.0
"""How often a run that is short of money looks whether others have given some back."""
_MOST_AT_ONCE: Final = 256
"""For so many calls of a lane a slice is drawn at once."""
_AT_A_TIME: Final = 16
"""So many begin, are granted or leave at once, before everybody else may go on."""
_BACK_AT_A_TIME: Final = 8
"""So many answers are gone on with at once: each may take as long as two departures."""
_EVEN_DEPARTURE: Final = 0.05
"""Where no burst is allowed, a request leaves so many seconds after its grant, however fast the disk was this time."""


class Smaller(Exception):
    """The money that is left, `room`, is enough only for a call with a smaller output limit."""

    def __init__(self, room: Nanos) -> None:
        super().__init__(room)
        self.room = room


class Refused(Exception):
    """The conversation cannot go on in this life."""

    def __init__(self, status: Status, reason: str) -> None:
        super().__init__(reason)
        self.status: Status = status
        self.reason = reason


@dataclass(slots=True, eq=False)
class Ask(Waiter):
    """A call that waits: its place in the order, and what is recorded when its time comes."""

    sent: Sent = field(kw_only=True)
    journal: Journal = field(kw_only=True)
    ranked: Callable[[], tuple[int, ...]] | None = field(default=None, kw_only=True)
    """Its rank by what is known now, where that may change while it waits."""
    answered: anyio.Event = field(default_factory=anyio.Event, kw_only=True)
    refusal: Refused | Smaller | None = None
    charged: Charged | None = None
    granted: float = 0.0
    """When it was admitted, on the loop's clock."""


class Refusal(NamedTuple):
    status: Status
    reason: str


class Purse(Protocol):
    """Money that is shared with other processes, and drawn in slices."""

    @property
    def ceiling(self) -> Ceiling:
        """What is drawn, as a ceiling that grows."""
        ...

    async def draw(self, least: Nanos, wanted: Nanos) -> bool:
        """Make room for `least` beside what is held, and better for `wanted`; True to try again in a while."""
        ...

    async def give_back(self) -> None:
        """Keep no more than is held, so that others can have the rest."""
        ...


class Roster(Protocol):
    """The conversations of one run that have not begun."""

    def next_for(self, lane: Lane, *, loaded: bool = False) -> Callable[[Beginning], None] | None:
        """How to begin one whose first call goes to this lane; None when there is none that the money allows.

        `loaded`: only one whose first call is to a model that its server has loaded.
        """
        ...

    def lacks(self, ceiling: Ceiling) -> bool:
        """True when it is for want of this money that one does not begin."""
        ...

    def next_in_time(self, lane: Lane) -> Callable[[Beginning], None] | None:
        """How to begin one, here first, that would be the last to end if it waited for its place; None without one."""
        ...

    def next_towards(self, lane: Lane) -> tuple[Lane, Callable[[Beginning], None]] | None:
        """How to begin one that comes to this lane later, and the lane of its first call; None when enough will."""
        ...


@dataclass(slots=True)
class _Crowd:
    """Those who wait for money of one ceiling: what each of their calls reserves, the smallest first."""

    reserved: list[Nanos] = field(default_factory=list)

    @property
    def least(self) -> Nanos:
        return self.reserved[0]

    @property
    def most(self) -> Nanos:
        return self.reserved[-1]


class _Limiter(NamedTuple):
    """The pacer of a lane's requests, for the share of the limit that the lane had when it was made."""

    share: float
    limiter: AsyncLimiter


class Beginning:
    """A conversation that was begun for a place in a lane, and counts as coming until it asks for its first call."""

    def __init__(self, gate: Gate, lane: Lane) -> None:
        self._gate = gate
        self._lane: Lane | None = lane
        gate.talking += 1
        lane.arriving += 1

    def arrived(self) -> None:
        """It asks now, or never will."""
        if self._lane is not None:
            self._lane.arriving -= 1
            self._lane = None

    def ended(self) -> None:
        self.arrived()
        self._gate.talking -= 1
        self._gate.wake()


class Flight:
    """A call that was admitted. What it used is told before it lands; if not, what was reserved stays counted."""

    def __init__(self, ask: Ask, now: Callable[[], float]) -> None:
        self._ask = ask
        self._now = now

    def landed(self, outcome: Outcome) -> None:
        """Correct what the call counts in its lane: by its usage, or nothing if it never reached the provider."""
        ask = self._ask
        assert ask.charged is not None
        if isinstance(outcome, Failure) and outcome.money == "free" and outcome.status is None:
            ask.lane.give_back(ask.charged, self._now())
            return
        usage = outcome.usage if outcome.usage.trusted else Usage()
        ask.lane.settle(ask.charged, ask.size, usage.input, usage.output, self._now())


class _Admission:
    """A call's turn, as a context."""

    def __init__(self, gate: Gate, ask: Ask) -> None:
        self._gate = gate
        self._ask = ask

    async def __aenter__(self) -> Flight:
        ask = self._ask
        self._gate.join(ask)
        try:
            await ask.answered.wait()
        except BaseException:
            if ask.charged is not None:
                # Granted and cancelled in the same breath: the call was never made, but its `Sent` is on record.
                self._gate.land(ask)
            elif ask.refusal is None:
                self._gate.leave(ask)
            raise
        if ask.refusal is not None:
            raise ask.refusal
        try:
            await ask.journal.flushed()
            await self._gate.departing.pass_through()
            await anyio.lowlevel.checkpoint_if_cancelled()  # it has not left, and is not to
            if ask.lane.burst == 1:
                await anyio.sleep_until(ask.granted + _EVEN_DEPARTURE)
            assert ask.charged is not None
            ask.lane.leave(ask.charged, anyio.current_time())
        except BaseException:
            self._gate.land(ask)
            raise
        return Flight(ask, anyio.current_time)

    async def __aexit__(self, *_: object) -> None:
        self._gate.land(self._ask)


class Turnstile:
    """Lets so many go on who come together, and the others a moment later.

    So everybody else goes on in between. While nobody keeps it, it stands open.
    """

    def __init__(self, at_a_time: int) -> None:
        self._at_a_time = at_a_time
        self._through = 0
        """How many went through since everybody else could go on."""
        self._waiting: deque[anyio.Event] = deque()
        """The first first."""
        self._used = anyio.Event()
        self._is_kept = False

    async def pass_through(self) -> None:
        """Go on when it is one's turn."""
        self._used.set()
        if not self._is_kept or (self._through < self._at_a_time and not self._waiting):
            self._through += 1
            return
        turn = anyio.Event()
        self._waiting.append(turn)
        with anyio.CancelScope(shield=True):  # what has come and cost money is to be recorded
            await turn.wait()

    async def keep(self) -> None:
        """Let through those who wait, a few at a time."""
        self._is_kept = True
        try:
            while True:
                await self._used.wait()
                self._used = anyio.Event()
                self._through = 0
                while self._waiting and self._through < self._at_a_time:
                    self._waiting.popleft().set()
                    self._through += 1
                    self._used.set()
        finally:
            self._is_kept = False
            while self._waiting:
                self._waiting.popleft().set()


class Gate:
    """One admission point for all runs of a process."""

    def __init__(self, lanes: Sequence[Lane], max_wait: float, wall: Callable[[], float] | None = None) -> None:
        self.lanes = tuple(lanes)
        self.max_wait = max_wait
        self._wall = wall
        """The time of day, so that whoever reads why a lane is shut reads when it opens."""
        self.rosters: list[Roster] = []
        self.purses: list[Purse] = []
        self.talking = 0
        """Conversations that have begun and not ended, whether they wait, fly or rest before a retry."""
        self.closed: Refusal | None = None
        self._over: dict[int, Refusal] = {}
        """Runs of this night that are over before it, by their journals."""
        self._waiting: dict[str, list[Ask]] = {lane.name: [] for lane in lanes}
        self._changed = anyio.Event()
        self._closing = anyio.Event()
        self._outside = 0
        """How many of those who talk wait for somebody outside."""
        self._nothing_else = anyio.Event()
        """Set while nobody else has anything to do."""
        self._wanted = {lane.name: anyio.Event() for lane in lanes}
        self._limiters: dict[str, _Limiter] = {}
        self._crowds: dict[Ceiling, _Crowd] = {}
        """Those who wait, by what their calls have to fit."""
        self._moved: set[Ceiling] = set()
        """The ceilings in which calls have landed, or slices were drawn, since everybody was last looked at."""
        self._doubtful = False
        """True when anybody who waits may have become hopeless."""
        self._journals: dict[int, Journal] = {}
        """Those of everybody who ever waited, by their ids."""
        self._short: dict[Ceiling, tuple[Nanos, Nanos] | None] = {}
        """What the next slice must have, and should have, by its ceiling; None to give back what is left."""
        self._money_wanted: dict[Ceiling, anyio.Event] = {}
        self.short_since: dict[Ceiling, float] = {}
        """The ceilings of purses that wait until others give something back, and since when, on the loop's clock."""
        self._parked_models: dict[str, str] = {}
        self.turnstile = Turnstile(_BACK_AT_A_TIME)
        """For those who come back with an answer."""
        self.departing = Turnstile(_AT_A_TIME)
        """For those whose `Sent` is durable: one sync may serve very many."""

    # -- for those who talk --------------------------------------------------------------------------------------

    def admit(self, ask: Ask) -> _Admission:
        """Wait for this call's turn; inside, it may be made. Refused when it never comes."""
        return _Admission(self, ask)

    def land(self, ask: Ask) -> None:
        """The call is over, whether it was made or not."""
        ask.lane.lands(ask.model)
        self._moved.update(ask.ceilings)
        self.wake()

    def join(self, ask: Ask) -> None:
        """Wait from now on; `answered` is set when its turn comes, or never will."""
        insort(self._waiting[ask.lane.name], ask, key=attrgetter("rank"))
        for ceiling in ask.ceilings:
            crowd = self._crowds.get(ceiling)
            if crowd is None:
                crowd = self._crowds[ceiling] = _Crowd()
            insort(crowd.reserved, ask.reserved)
        self._journals[id(ask.journal)] = ask.journal
        self._doubtful = self._doubtful or self._hopeless(ask) is not None or ask.room() is not None
        self.wake()

    def leave(self, ask: Ask) -> None:
        """Wait no more."""
        self._waiting[ask.lane.name].remove(ask)
        ask.lane.starving -= ask.starves
        for ceiling in ask.ceilings:
            crowd = self._crowds[ceiling]
            del crowd.reserved[bisect_left(crowd.reserved, ask.reserved)]
            if not crowd.reserved:
                del self._crowds[ceiling]

    def reorder(self) -> None:
        """Put those who wait into the order that is known by now, so that all are ranked by the same."""
        for queue in self._waiting.values():
            for ask in queue:
                ask.rank = ask.rank if ask.ranked is None else ask.ranked()
            queue.sort(key=attrgetter("rank"))

    async def rest(self, seconds: float) -> None:
        """Pause before another attempt, unless the gate closes."""
        with anyio.move_on_after(seconds):
            await self._closing.wait()

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Meanwhile somebody waits for what no call brings, and keeps nobody waiting for himself."""
        self._outside += 1
        self.wake()
        try:
            yield
        finally:
            self._outside -= 1

    async def while_others_talk(self, seconds: float) -> bool:
        """Wait so long; False as soon as nobody else has anything to do, or nothing is begun any more."""
        with anyio.move_on_after(seconds):
            await self._nothing_else.wait()
        return not self._nothing_else.is_set()

    def wake(self) -> None:
        """Something changed: look again who may go."""
        self._changed.set()

    def doubt(self) -> None:
        """Something changed otherwise than by calls that come and go: look again also who can never go."""
        self._doubtful = True
        self.wake()

    # -- what stops some or all -----------------------------------------------------------------------------------

    def close(self, status: Status, reason: str) -> None:
        """Grant nothing more, start nobody; the first reason stands."""
        if self.closed is None:
            self.closed = Refusal(status, reason)
            self._closing.set()
            self._nothing_else.set()
        self.doubt()

    def end(self, journal: Journal, status: Status, reason: str) -> None:
        """Grant nothing more to one run; the others of the night go on."""
        self._over.setdefault(id(journal), Refusal(status, reason))
        self.doubt()

    def why_closed(self, journal: Journal) -> Refusal | None:
        """Why a run gets nothing more; None while it does."""
        return self.closed or self._over.get(id(journal))

    def park_lane(self, lane: Lane, reason: str) -> None:
        """A dead provider stops its own conversations only."""
        lane.dead = lane.dead or reason
        self.doubt()

    def park_model(self, alias: str, reason: str) -> None:
        self._parked_models.setdefault(alias, reason)
        self.doubt()

    def parked(self, alias: str, lane: Lane) -> str | None:
        """Why no call of this model is made any more; None when calls are made."""
        return self._parked_models.get(alias) or lane.dead

    def waiting(self, lane: Lane) -> int:
        return len(self._waiting[lane.name])

    # -- the loop -------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Admit and begin conversations until nobody talks and nobody can begin."""
        async with anyio.create_task_group() as tasks:
            for lane in self.lanes:
                if lane.paced:
                    tasks.start_soon(self._pace, lane)
            for purse in self.purses:
                self._money_wanted[purse.ceiling] = anyio.Event()
                tasks.start_soon(self._draw, purse)
            tasks.start_soon(self.turnstile.keep)
            tasks.start_soon(self.departing.keep)
            while True:
                self._changed = anyio.Event()
                look_again = await self._decide(anyio.current_time())
                if look_again is None:
                    break
                if look_again == inf:
                    await self._changed.wait()
                    continue
                with anyio.move_on_at(look_again):
                    await self._changed.wait()
            tasks.cancel_scope.cancel()

    async def _decide(self, now: float) -> float | None:
        """Refuse, grant and begin whatever can be; the moment to look again, or None at the end."""
        if self._in_doubt():
            self._refuse_the_hopeless()
        look_again = await self._grant_all(now)
        for lane in self.lanes:
            lane.permit = False  # one that nobody could use would let two requests leave together later
        look_again = min(look_again, self._begin(now))
        self._want_money(now)
        if self.talking > self._outside:
            if self._nothing_else.is_set() and self.closed is None:
                self._nothing_else = anyio.Event()
        elif self.closed is not None or (not self._short and (look_again == inf or self._all_shut(now))):
            if self.talking == 0:
                return None
            self._nothing_else.set()
        self._give_up_on_parked(now)
        return look_again

    async def _grant_all(self, now: float) -> float:
        """Let go who can, but no more than a crowd at a time; the moment to look again."""
        granted = 0
        while granted < _AT_A_TIME:
            if self._all_are_short():
                return inf
            choice = choose(self._waiting.values(), now)
            if choice.grant is None:
                lane = await self._permitted_at_once(choice.want_permit)
                if lane is None:
                    return choice.look_again
                lane.permit = True
            elif not self._begins_before(choice.grant, now):
                self._grant(choice.grant, now)
                granted += 1
        return now

    def _all_are_short(self) -> bool:
        """True when everybody who waits is kept from going by one ceiling; money that comes wakes the gate."""
        waiting = sum(map(len, self._waiting.values()))
        return any(
            len(crowd.reserved) == waiting and ceiling.account.held + crowd.least > ceiling.most
            for ceiling, crowd in self._crowds.items()
        )

    async def _permitted_at_once(self, lanes: Iterable[Lane]) -> Lane | None:
        """A lane that has its permit now; the pacers see to the others."""
        for lane in lanes:
            if not self._wanted[lane.name].is_set():
                limiter = await self._limiter(lane)
                if limiter.has_capacity():
                    await limiter.acquire()
                    return lane
                self._wanted[lane.name].set()
        return None

    def _grant(self, waiter: Waiter, now: float) -> None:
        assert isinstance(waiter, Ask)
        lane = waiter.lane
        self.leave(waiter)
        waiter.granted = now
        waiter.charged = lane.take(*lane.estimate(waiter.size), now)
        others = () if lane.limits.resident is None else {ask.model for ask in self._waiting[lane.name]}
        lane.departs(waiter.model, others)
        lane.granted += 1
        lane.permit = False
        waiter.journal.record(waiter.sent)
        waiter.answered.set()

    def _refuse(self, asks: Iterable[Ask], why: Callable[[Ask], Refusal | None]) -> None:
        for ask in list(asks):
            refusal = why(ask)
            if refusal is not None:
                self._turn_back(ask, Refused(*refusal))

    def _turn_back(self, ask: Ask, refusal: Refused | Smaller) -> None:
        self.leave(ask)
        ask.refusal = refusal
        ask.answered.set()

    def _in_doubt(self) -> bool:
        """True when it has to be looked at everybody who waits: something may have taken somebody's hope."""
        crowds = ((ceiling, self._crowds.get(ceiling)) for ceiling in self._moved)
        doubtful = (
            self._doubtful
            or any(lane.starving for lane in self.lanes)
            or any(journal.failing is not None for journal in self._journals.values())
            or any(
                crowd is not None and not ceiling.may_grow and ceiling.account.settled + crowd.most > ceiling.reach
                for ceiling, crowd in crowds
            )
        )
        self._doubtful = False
        self._moved.clear()
        return doubtful

    def _refuse_the_hopeless(self) -> None:
        for queue in self._waiting.values():
            self._refuse(queue, self._hopeless)
            for ask in list(queue):
                room = ask.room()
                if room is not None:
                    self._turn_back(ask, Smaller(room))

    def _hopeless(self, ask: Ask) -> Refusal | None:
        closed = self.why_closed(ask.journal)
        if closed is not None:
            return closed
        if ask.journal.failing is not None:
            return Refusal("interrupted", str(ask.journal.failing))
        reason = self.parked(ask.sent.alias, ask.lane)
        if reason is not None:
            return Refusal("pending", reason)
        ceiling = ask.too_dear()
        return None if ceiling is None else Refusal("budget", ceiling.name)

    def _begin(self, now: float) -> float:
        """Begin conversations where a lane has room for their first call; when a full window opens again."""
        look_again, begun = inf, 0
        if self.closed is not None:
            return look_again
        for lane in self.lanes:
            begun += self._begin_in_time(lane, now, _AT_A_TIME - begun)
            if begun == _AT_A_TIME:
                return now
            while lane.dead is None and lane.free_slots - lane.arriving - self._would_go(lane) >= 1.0:
                begin = self._next_for(lane, loaded=True) or self._next_for(lane)
                if begin is None:
                    self._begin_elsewhere(lane)
                    break
                at = lane.when(1.0, 1.0, now)
                if at > now:
                    look_again = min(look_again, at)
                    break
                begin(Beginning(self, lane))
                begun += 1
                if begun == _AT_A_TIME:
                    return now
        return look_again

    def _begin_in_time(self, lane: Lane, now: float, most: int) -> int:
        """Begin, at the most so many, conversations that would be the last to end; they stand in line like others.

        Only where there are too few slots for all: where a window is what others wait for, one more would wait for it.
        """
        begun = 0
        if lane.free_slots >= 1.0:
            return begun
        for roster in self.rosters:
            while begun < most and lane.dead is None and (begin := roster.next_in_time(lane)) is not None:
                if lane.when(1.0, 1.0, now) > now:
                    break
                begin(Beginning(self, lane))
                begun += 1
        return begun

    def _begin_elsewhere(self, lane: Lane) -> None:
        """Begin conversations that come to a lane later that would lie idle: they wait for their first call first."""
        for roster in self.rosters:
            while (found := roster.next_towards(lane)) is not None:
                first, begin = found
                begin(Beginning(self, first))

    def _begins_before(self, waiter: Waiter, now: float) -> bool:
        """Before a model takes the place of another, begin a conversation that still has a use for what is loaded."""
        lane = waiter.lane
        if not lane.unloads_for(waiter.model) or lane.change_is_due or self.closed is not None:
            return False
        begin = self._next_for(lane, loaded=True) if lane.when(1.0, 1.0, now) <= now else None
        if begin is not None:
            begin(Beginning(self, lane))
        return begin is not None

    def _next_for(self, lane: Lane, *, loaded: bool = False) -> Callable[[Beginning], None] | None:
        """How to begin the first conversation that may, of any run."""
        if loaded and lane.limits.resident is None:
            return None
        return next((b for roster in self.rosters if (b := roster.next_for(lane, loaded=loaded)) is not None), None)

    def _would_go(self, lane: Lane) -> int:
        """How many wait for a slot, a window or money; who waits for a model to be loaded leaves others the place."""
        queue = self._waiting[lane.name]
        if lane.limits.resident is None or lane.change_is_due:
            return len(queue)
        return sum(lane.has_place(ask.model) for ask in queue)

    def _give_up_on_parked(self, now: float) -> None:
        """When everyone who talks waits for a lane that stays shut too long, the night is over for them."""
        waiting = sum(map(len, self._waiting.values()))
        if waiting and waiting == self.talking - self._outside and self._all_shut(now):
            asks = [ask for queue in self._waiting.values() for ask in queue]
            self._refuse(asks, lambda ask: self.shut(ask.lane))
            self.wake()

    def _all_shut(self, now: float) -> bool:
        """True when every lane that somebody waits for stays shut for longer than a run waits."""
        return not any(
            lane.shut_until(now) <= now + self.max_wait
            and (self._waiting[lane.name] or self._next_for(lane) is not None)
            for lane in self.lanes
        )

    def shut(self, lane: Lane) -> Refusal:
        """What becomes of those who wait for a lane that stays shut."""
        now = anyio.current_time()
        opens = lane.shut_until(now)
        until = "" if self._wall is None or opens in (now, inf) else f", until {_moment(self._wall() + opens - now)}"
        return Refusal("pending", f"{lane.name}: {lane.why_shut(now)}{until}")

    def _want_money(self, now: float) -> None:
        """Ask for slices where they would let somebody go who could go now, or begin when nobody talks."""
        self._short.clear()
        if self.closed is not None:
            return
        for purse in self.purses:
            ceiling, crowd = purse.ceiling, self._crowds.get(purse.ceiling)
            held = ceiling.account.held
            if crowd is None or held + len(crowd.reserved) * crowd.most <= ceiling.most:
                continue  # there is enough for all of them together
            asks = [ask for lane in self.lanes for ask in self._first(lane) if ceiling in ask.ceilings]
            # One that can never go as it is needs no more than it would with the smallest output limit.
            needs = [a.reserved if ceiling.may_grow or held + a.reserved <= ceiling.reach else a.least for a in asks]
            # Those for whom there is enough wait for something else, and must not hide that others are short.
            needs = [need for need in needs if held + need > ceiling.most]
            least = min(needs, default=0)
            if held + least > ceiling.most and (ceiling.may_grow or held + least <= ceiling.reach):
                self._short[ceiling] = least, sum(needs)
        if self.talking <= self._outside:
            # What keeps anybody from beginning may be what a dead process had drawn, or what a living one gives back.
            for ceiling in (purse.ceiling for purse in self.purses):
                waited = now - self.short_since.get(ceiling, now)
                if ceiling.may_grow and waited < self.max_wait and any(r.lacks(ceiling) for r in self.rosters):
                    beyond = ceiling.reach - ceiling.account.held + 1
                    self._short.setdefault(ceiling, (beyond, beyond))
        if self._short:
            # The jobs of one process share the day, too: what one of them has no use for now another may have.
            for ceiling in (purse.ceiling for purse in self.purses):
                if ceiling not in self._crowds and not ceiling.account.reserved and ceiling.most > ceiling.account.held:
                    self._short.setdefault(ceiling, None)
        for ceiling in self._short:
            self._money_wanted[ceiling].set()

    def _first(self, lane: Lane) -> list[Ask]:
        """Those who would go next, were it not for the money."""
        queue = self._waiting[lane.name]
        if lane.starving:
            queue = sorted(queue, key=lambda ask: not ask.starves)
        return queue[: max(0, int(min(lane.free_slots, _MOST_AT_ONCE)))]

    async def _draw(self, purse: Purse) -> None:
        """Draw slices as they are wanted."""
        while True:
            await self._money_wanted[purse.ceiling].wait()
            self._money_wanted[purse.ceiling] = anyio.Event()
            if purse.ceiling not in self._short:
                continue
            short = self._short.pop(purse.ceiling)
            again = False
            try:
                if short is None:
                    await purse.give_back()
                else:
                    again = await purse.draw(*short)
            except (StorageError, Damaged, TooNew) as trouble:
                self.close("interrupted", str(trouble))
                return
            # What can be drawn at all may have become less, and who waited for it may be short of something else now.
            self._moved.update(self._crowds)
            self.wake()
            if again:
                self.short_since.setdefault(purse.ceiling, anyio.current_time())
                await anyio.sleep(_RETRY_SECONDS)
            else:
                self.short_since.pop(purse.ceiling, None)

    async def _pace(self, lane: Lane) -> None:
        """Hand out permits at the lane's pace to those who have to wait for them."""
        while True:
            await self._wanted[lane.name].wait()
            await (await self._limiter(lane)).acquire()
            self._wanted[lane.name] = anyio.Event()
            lane.permit = True
            self.wake()

    async def _limiter(self, lane: Lane) -> AsyncLimiter:
        """The pacer of a lane, which is another one when its share has changed."""
        found = self._limiters.get(lane.name)
        if found is None or found.share != lane.share:
            found = self._limiters[lane.name] = _Limiter(lane.share, _new_limiter(lane))
            now = anyio.current_time()
            await found.limiter.acquire(_level(lane.requests(now), found.limiter))
        return found.limiter


def _moment(wall: float) -> str:
    """A time of day to the minute, later rather than earlier."""
    return datetime.fromtimestamp(ceil(wall / 60.0) * 60.0, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _new_limiter(lane: Lane) -> AsyncLimiter:
    """The pacer of a lane's requests."""
    assert lane.limits.rpm is not None
    rpm = lane.limits.rpm * lane.share
    if lane.burst == 1:
        return AsyncLimiter(1, MINUTE / rpm * _NO_BURST_STRETCH)
    burst = burst_of(rpm, lane.burst)
    return AsyncLimiter(burst, MINUTE / rpm * burst)


def _level(requests: Iterable[tuple[float, float]], limiter: AsyncLimiter) -> float:
    """How full this limiter would be if it had paced these requests, (seconds ago, number), the oldest first."""
    level, last, drain = 0.0, 0.0, limiter.max_rate / limiter.time_period
    for ago, number in requests:
        level = max(0.0, level - max(0.0, last - ago) * drain) + number
        last = ago
    return min(limiter.max_rate, max(0.0, level - last * drain))
