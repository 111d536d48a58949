"""A night rehearsed: its conversations played through as a run would hold them, to tell when it ends.

The order is that of the roster and of `choose`: who has begun, then who takes longest, or in the order of the plan
where money is short; a model that nobody has heard is tried out first; a lane that would lie idle is fed; who would be
the last to end begins in time. Each call takes as long as it is expected to, more or less. What nobody can foresee is
left out: failures, pauses, and the loading of models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from math import inf, log, sqrt
from random import Random
from typing import Final, NamedTuple

from runner.limits import DAILY_LIMIT, FED, MINUTE, Limits, burst_of, late_from
from runner.money import Nanos

MOST_CALLS: Final = 20_000
"""A larger night is rehearsed with a part of its conversations in as large a part of everything."""
_PLAYS: Final = 7
"""How often a night is played through whose calls are not all alike."""
_LEAST_SLOTS: Final = 8
"""With fewer slots than this a part of a lane would behave otherwise than the whole."""


class Step(NamedTuple):
    """What one call of a model in a conversation comes to."""

    lane: str
    seconds: float
    spread: float = 0.0
    """The part of it by which a call is longer or shorter, as a rule."""
    input: float = 0.0
    output: float = 0.0
    """In tokens, as its provider counts them."""
    cost: Nanos = 0
    reserved: Nanos = 0
    """What it may cost at most."""
    ceilings: tuple[str, ...] = ()
    """Those that it has to fit."""


@dataclass(frozen=True, slots=True)
class Act:
    """What is left of one conversation."""

    calls: tuple[str, ...]
    """The model of each, in their order."""
    steps: Mapping[str, Step]
    """By model."""
    begun: bool = False

    @property
    def seconds(self) -> float:
        return sum(self.steps[model].seconds for model in self.calls)


class Ending(NamedTuple):
    """How a night is expected to end."""

    seconds: float
    left: int = 0
    """Conversations that are not complete then."""
    why: str | None = None
    """What keeps them from it."""


def rehearse(acts: Sequence[Act], lanes: Mapping[str, Limits], rooms: Mapping[str, Nanos]) -> Ending | None:
    """When a night ends; None for one that is too large to be played through.

    `acts` are in plan order. `rooms` say what is left of each ceiling, and there are none where there is money for all.
    """
    calls = sum(len(act.calls) for act in acts)
    part = max(1, -(-calls // MOST_CALLS))
    if part > 1:
        if any((limits.concurrency or inf) < _LEAST_SLOTS * part for limits in lanes.values()):
            return None
        lanes = {name: _part_of(limits, part) for name, limits in lanes.items()}
        acts, rooms = acts[::part], {name: left // part for name, left in rooms.items()}
    # Calls are not all alike, and a night is as long as those that come last: what is told is the middle of a few.
    is_even = not any(step.spread for act in acts for step in act.steps.values())
    times = 1 if is_even else max(1, min(_PLAYS, MOST_CALLS // max(1, calls)))
    plays = (_Rehearsal(acts, lanes, rooms, Random(seed)).play() for seed in range(times))
    ending = sorted(plays, key=lambda ending: (ending.seconds, ending.left))[times // 2]
    return ending._replace(left=ending.left * part)


def spent(name: str) -> str:
    """What keeps conversations from being held for which a ceiling leaves no room."""
    return f"{name}: its ceiling is reached"


def _part_of(limits: Limits, part: int) -> Limits:
    def of(amount: int | None) -> int | None:
        return None if amount is None else max(1, amount // part)

    return replace(
        limits,
        concurrency=of(limits.concurrency),
        rpm=of(limits.rpm),
        rpd=of(limits.rpd),
        tpm=of(limits.tpm),
        input_tpm=of(limits.input_tpm),
        output_tpm=of(limits.output_tpm),
    )


@dataclass(slots=True)
class _Room:
    """What is left of a ceiling."""

    left: Nanos
    reserved: Nanos = 0
    """By the calls in flight."""
    committed: Nanos = 0
    """What those who have begun are expected to take of it."""


_Place = tuple[bool, float, int]
"""A conversation's place in the order, smallest first; the last is its number."""


@dataclass(slots=True, eq=False)
class _Lane:
    """A lane as it is played."""

    limits: Limits
    flying: int = 0
    paid: list[float] = field(default_factory=list)
    """By limit, until when what went has used it up."""
    left: float = inf
    """Requests of the day."""
    waiting: list[_Place] = field(default_factory=list)
    new: list[_Place] = field(default_factory=list)
    """Those whose first call goes here."""
    coming: list[_Place] = field(default_factory=list)
    """Those who come later."""
    work: float = 0.0
    """How many seconds the calls that are left for it take one after another."""
    talks: int = 0
    """How many have not ended that use it."""
    bound: int = 0
    """How many of them have begun."""
    in_vain: dict[int, int] = field(default_factory=dict)
    """By the list that was looked through for one who may begin: after how many changes that was."""

    @property
    def slots(self) -> float:
        return self.limits.concurrency or inf

    @property
    def opens(self) -> float:
        """When the limits of the minute let the next call go."""
        rpm = self.limits.rpm
        spare = MINUTE * (burst_of(rpm, self.limits.burst) - 1) / rpm if rpm else 0.0
        return max((until - (spare if place == 0 else 0.0) for place, until in enumerate(self.paid)), default=0.0)

    def lets_go(self, now: float) -> bool:
        return self.flying < self.slots and self.left >= 1.0 and self.opens <= now

    def pay(self, step: Step, now: float) -> None:
        """Count a call that goes now."""
        limits = self.limits
        amounts = (
            (1.0, limits.rpm),
            (step.input + step.output, limits.tpm),
            (step.input, limits.input_tpm),
            (step.output, limits.output_tpm),
        )
        before = self.paid or [0.0] * len(amounts)
        self.paid = [
            max(now, until) + MINUTE * amount / limit if limit else 0.0
            for until, (amount, limit) in zip(before, amounts, strict=True)
        ]


class _Rehearsal:
    """One night as it is played."""

    def __init__(
        self, acts: Sequence[Act], lanes: Mapping[str, Limits], rooms: Mapping[str, Nanos], rng: Random
    ) -> None:
        self._acts = acts
        self._lanes = {name: _Lane(limits, left=limits.rpd or inf) for name, limits in lanes.items()}
        self._rooms = {name: _Room(left) for name, left in rooms.items()}
        self._rng = rng
        self._costs: dict[tuple[int, int], Counter[str]] = {}
        self._rests = [act.seconds for act in acts]
        self._said = [0] * len(acts)
        self._begun = [False] * len(acts)
        self._models = [frozenset(act.calls) for act in acts]
        self._heard: set[str] = set()
        self._trying: dict[str, int] = {}
        self._changes = 0
        """How often a model was heard for the first time, or given up."""
        self._over: list[tuple[float, int, str]] = []
        """What happens next: a call of this conversation lands, or, without one, this lane's pace lets one go."""
        self._short: str | None = None
        """The first ceiling that was too low for somebody to begin."""
        for number, act in enumerate(acts):
            for step in (act.steps[model] for model in act.calls):
                self._lanes[step.lane].work += step.seconds
            if act.calls:
                first = act.steps[act.calls[0]].lane
                for name in self._uses(number):
                    lane = self._lanes[name]
                    lane.talks += 1
                    (lane.new if name == first else lane.coming).append(self._place(number))
        for lane in self._lanes.values():
            heapify(lane.new)
            heapify(lane.coming)

    def play(self) -> Ending:
        """Play it to its end."""
        now = ended = 0.0
        while True:
            self._let_go(now)
            if not self._over:
                break
            now = self._over[0][0]
            while self._over and self._over[0][0] <= now:
                _, number, name = heappop(self._over)
                if number >= 0:
                    self._land(number, self._lanes[name])
                    ended = now
        left = [number for number, act in enumerate(self._acts) if self._said[number] < len(act.calls)]
        return Ending(ended, len(left), self._reason(left))

    def _reason(self, left: Sequence[int]) -> str | None:
        """What keeps these from their end."""
        if not left:
            return None
        shut = {name for name, lane in self._lanes.items() if lane.left < 1.0}
        name = next((name for number in left for name in sorted(shut & self._uses(number))), None)
        return f"{name}: {DAILY_LIMIT}" if name is not None else spent(self._short) if self._short else None

    def _uses(self, number: int) -> set[str]:
        act = self._acts[number]
        return {act.steps[model].lane for model in self._models[number]}

    def _place(self, number: int) -> _Place:
        new = not self._begun[number] and not self._acts[number].begun
        return new, 0.0 if self._rooms else -self._rests[number], number

    def _let_go(self, now: float) -> None:
        """Let go and begin all who may."""
        is_fed = True
        while is_fed:
            is_fed = False
            for lane in self._lanes.values():
                self._go(lane, now)
                if lane.flying >= lane.slots:
                    self._begin_in_time(lane)
            for lane in self._lanes.values():
                while lane.lets_go(now) and not lane.waiting:
                    number = self._first_that_may(lane, lane.new)
                    if number is None:
                        is_fed |= self._feed(lane)
                        break
                    self._begin(number)
                    self._go(lane, now)

    def _go(self, lane: _Lane, now: float) -> None:
        while lane.waiting and lane.lets_go(now) and self._is_paid_for(lane.waiting[0][2]):
            self._depart(heappop(lane.waiting)[2], now)

    def _begin_in_time(self, lane: _Lane) -> None:
        """Begin those who would be the last to end."""
        while not self._rooms and lane.new:
            number = lane.new[0][2]
            if not self._begun[number]:
                if not self._is_late(number):
                    break
                self._begin(number)
            heappop(lane.new)

    def _is_late(self, number: int) -> bool:
        """True when it would be the last to end if it waited for its place, and all its models were heard."""
        if not self._models[number] <= self._heard:
            return False
        lanes = map(self._lanes.__getitem__, self._uses(number))
        return self._rests[number] >= late_from((lane.work, lane.slots, lane.talks) for lane in lanes)

    def _feed(self, lane: _Lane) -> bool:
        """Begin those who come here later; True when anybody did."""
        before = lane.bound
        while not self._rooms and lane.bound < FED * lane.slots < inf:
            number = self._first_that_may(lane, lane.coming)
            if number is None:
                break
            self._begin(number)
        return lane.bound > before

    def _first_that_may(self, lane: _Lane, queue: list[_Place]) -> int | None:
        """Who begins next; what the money keeps from it now it keeps from it for good."""
        if lane.in_vain.get(id(queue)) == self._changes:
            return None
        later: list[_Place] = []
        found: int | None = None
        while queue and found is None:
            place = heappop(queue)
            number = place[2]
            if self._begun[number]:
                continue
            short = self._short_of(number) if self._rooms else None
            if short is not None:
                self._short = self._short or short
            elif any(self._trying.get(model, number) != number for model in self._models[number]):
                later.append(place)
            else:
                found = number
        for place in later:
            heappush(queue, place)
        if found is None:
            lane.in_vain[id(queue)] = self._changes
        return found

    def _takes(self, number: int) -> Counter[str]:
        """What a conversation is expected to take of each ceiling."""
        act = self._acts[number]
        # Those that are alike have their calls and steps from one and the same place.
        key = id(act.calls), id(act.steps)
        if key not in self._costs:
            found = self._costs[key] = Counter()
            for step in (act.steps[model] for model in act.calls):
                found.update({name: step.cost for name in step.ceilings if name in self._rooms})
        return self._costs[key]

    def _short_of(self, number: int) -> str | None:
        """The ceiling that leaves no room for a conversation that would begin."""
        rooms = ((name, self._rooms[name], cost) for name, cost in self._takes(number).items())
        return next((name for name, room, cost in rooms if room.committed + cost > room.left), None)

    def _begin(self, number: int) -> None:
        self._begun[number] = True
        for name, cost in self._takes(number).items() if self._rooms else ():
            self._rooms[name].committed += cost
        for model in self._models[number] - self._heard:
            self._trying.setdefault(model, number)
        for name in self._uses(number):
            self._lanes[name].bound += 1
        self._wait(number)

    def _wait(self, number: int) -> None:
        heappush(self._lanes[self._step(number).lane].waiting, self._place(number))

    def _step(self, number: int) -> Step:
        """The next call of a conversation."""
        act = self._acts[number]
        return act.steps[act.calls[self._said[number]]]

    def _rooms_of(self, step: Step) -> list[_Room]:
        return [self._rooms[name] for name in step.ceilings if name in self._rooms]

    def _is_paid_for(self, number: int) -> bool:
        """True when the next call of a conversation fits its ceilings beside those in flight."""
        step = self._step(number)
        return all(room.reserved + step.reserved <= room.left for room in self._rooms_of(step))

    def _depart(self, number: int, now: float) -> None:
        step = self._step(number)
        lane = self._lanes[step.lane]
        for room in self._rooms_of(step):
            room.reserved += step.reserved
        lane.flying += 1
        lane.left -= 1.0
        heappush(self._over, (now + self._lasts(step), number, step.lane))
        lane.pay(step, now)
        if lane.opens > now:
            heappush(self._over, (lane.opens, -1, step.lane))

    def _lasts(self, step: Step) -> float:
        """How long one call takes: log-normal, as latencies are."""
        if not step.spread:
            return step.seconds
        shape = log(1.0 + step.spread**2)
        return step.seconds * self._rng.lognormvariate(-shape / 2, sqrt(shape))

    def _land(self, number: int, lane: _Lane) -> None:
        act, step = self._acts[number], self._step(number)
        model = act.calls[self._said[number]]
        lane.flying -= 1
        lane.work -= step.seconds
        for room in self._rooms_of(step):
            room.left -= step.cost
            room.reserved -= step.reserved
            room.committed -= step.cost
        self._said[number] += 1
        self._rests[number] -= step.seconds
        if model not in self._heard:
            self._heard.add(model)
            self._trying.pop(model, None)
            self._changes += 1
        if self._said[number] < len(act.calls):
            self._wait(number)
        else:
            for name in self._uses(number):
                self._lanes[name].talks -= 1
                self._lanes[name].bound -= 1
