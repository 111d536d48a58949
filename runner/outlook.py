"""A job held against what is there, before a run: how each conversation stands, what the rest costs, how long it takes.

A conversation is *done*, *failed* or *unfinished* as its journal says; *changed* when an earlier version of the job
held another one under its name; *new* otherwise. What was held and is planned no more is *replaced*. Nothing here reads
or waits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Final, Literal, NamedTuple, TypeAlias

from runner.conversation import Aside, Conversation, Participant
from runner.forecast import (
    ASSUMED,
    ASSUMED_SPREAD,
    AT_MOST,
    FIRST_OUTPUT_SHARE,
    Guess,
    Load,
    Pace,
    Total,
    assumed_seconds,
    expecting,
    loads,
    pace,
)
from runner.foreign import one_line
from runner.job import Job
from runner.limits import Limits
from runner.money import Nanos, Price, dollars
from runner.plan import Cell, Plan, make_plan
from runner.rehearsal import Act, Ending, Step, rehearse, spent
from runner.state import Progress, State
from runner.stops import Rule

Standing: TypeAlias = Literal["done", "failed", "unfinished", "changed", "new", "replaced"]
STANDINGS: Final[tuple[Standing, ...]] = ("new", "changed", "unfinished", "failed", "done", "replaced")
TO_HOLD: Final[frozenset[Standing]] = frozenset({"new", "changed", "unfinished"})
"""What the next run takes up by itself."""

_EXCERPT: Final = 44


class Mean(NamedTuple):
    """How long a model's outputs were, and how long they took where that is known."""

    tokens: float
    calls: int
    seconds: float | None = None
    deviation: float | None = None
    """By how many seconds a call was longer or shorter, as a rule."""


class Server(NamedTuple):
    """What a model is, whatever a job calls it."""

    provider: str
    model: str


def means_of(state: State) -> dict[Server, Mean]:
    """The mean output of each model that a run has figures of."""
    if state.job is None:
        return {}
    models = Job.from_record(state.job, state.texts).models
    return {
        Server(models[alias].provider, models[alias].id): Mean(
            tally.mean_output, tally.with_figures, tally.mean_seconds, tally.deviation
        )
        for alias, tally in state.tallies.items()
        if alias in models and tally.mean_output
    }


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation: how it stands, and what is left of it."""

    name: str
    id: str
    standing: Standing
    prompt: str
    pairing: int
    repeat: int
    models: tuple[tuple[str, str], ...]
    turns: int
    spent: Nanos
    """What all its calls have cost so far; of a changed one, what its predecessor has."""
    reason: str | None = None
    changes: tuple[str, ...] = ()
    """What differs from its predecessor."""
    expected: Mapping[str, Load] = field(default_factory=dict)
    """What the next run will add, by model alias; nothing for what it leaves alone."""
    most: Mapping[str, Load] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    """The model of each call of the next run, in their order as far as it is known."""
    index: int = 0
    """Its place in plan order."""

    @property
    def calls(self) -> int:
        return sum(load.calls for load in self.expected.values())


class Counted(NamedTuple):
    """What all runs together have spent and hold, today and this month."""

    day: Nanos = 0
    month: Nanos = 0


NOTHING: Final = Counted()


class Room(NamedTuple):
    """A ceiling over several conversations: what is held of it, and what the rest is expected to need."""

    name: str
    most: Nanos
    held: Nanos
    expected: Nanos

    @property
    def left(self) -> Nanos:
        return max(0, self.most - self.held)

    @property
    def short(self) -> bool:
        return self.expected > self.left


class LanePace(NamedTuple):
    lane: str
    calls: int
    pace: Pace


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the next run of a job would do."""

    rows: tuple[Row, ...]
    """By prompt, pairing and plan order; what was replaced comes last."""
    expected: Total
    most: Total
    source: str
    """Where the mean outputs come from, in words."""
    rooms: tuple[Room, ...]
    cut_short: int
    """Conversations that their own budget is expected to end before their last turn."""
    lanes: tuple[LanePace, ...]
    longest: float
    """Minutes that the longest conversation takes when nothing holds it up."""
    ending: Ending
    """When the run is expected to end, and what will be left then."""
    pace_source: str
    """Where it is known from how long calls take, in words."""
    slots: int
    """Calls that may fly at once."""

    @property
    def counts(self) -> dict[Standing, int]:
        counts = dict.fromkeys(STANDINGS, 0)
        for row in self.rows:
            counts[row.standing] += 1
        return counts

    @property
    def to_hold(self) -> int:
        return sum(row.standing in TO_HOLD for row in self.rows)

    @property
    def largest(self) -> Nanos:
        """What the dearest single call may cost."""
        return max((load.largest for load in self.most.models.values()), default=0)

    @property
    def minutes(self) -> float:
        """When the run is expected to end."""
        return self.ending.seconds / 60.0


def outlook(
    plan: Plan,
    state: State,
    selected: Sequence[Cell],
    prices: Mapping[str, Price],
    means: Mapping[Server, Mean],
    slots: int,
    counted: Counted = NOTHING,
) -> Outlook:
    """Hold the selected cells against the state; `slots` is the concurrency of a provider that the job gives none."""
    known = {alias: means.get(Server(model.provider, model.id)) for alias, model in plan.models.items()}
    guess = expecting(lambda alias: None if (mean := known[alias]) is None else mean.tokens)
    before = _predecessors(plan, state)
    by_name = {one.conversation.name: one for one in before if one.conversation is not None}
    rows = list(_planned(plan, state, selected, prices, guess, by_name))
    expected, most = Total(), Total()
    for row in rows:
        expected.add(row.expected)
        most.add(row.most)
    if len(selected) == len(plan.cells):
        succeeded = {by_name[row.name].id for row in rows if row.standing == "changed"}
        rows += [one.row for one in before if one.id not in succeeded]
    heard = {alias: known[alias] for alias in expected.models}
    lanes = _lanes(plan, rows, slots, known)
    rooms = tuple(_rooms(plan, state, rows, counted))
    calling = sum(any(load.calls for load in row.expected.values()) for row in rows)
    return Outlook(
        rows=tuple(rows),
        expected=expected,
        most=most,
        source=_source(
            {alias: None if mean is None else mean.calls for alias, mean in heard.items()},
            f"{FIRST_OUTPUT_SHARE * 100:.0f} % of max_tokens",
            "for",
        ),
        rooms=rooms,
        cut_short=sum(_is_cut_short(plan, row) for row in rows),
        lanes=tuple(LanePace(name, lane.expected.calls, lane.pace) for name, lane in lanes.items()),
        longest=max((_seconds(row.expected, known) for row in rows), default=0.0) / 60.0,
        ending=_ending(plan, rows, lanes, rooms, known),
        pace_source=_source(
            {alias: mean.calls if mean is not None and mean.seconds else None for alias, mean in heard.items()},
            f"a guess of {ASSUMED} for each call",
            "of",
        ),
        slots=min(calling, sum(min(lane.slots, lane.conversations) for lane in lanes.values())),
    )


def _planned(
    plan: Plan,
    state: State,
    selected: Sequence[Cell],
    prices: Mapping[str, Price],
    guess: Guess,
    before: Mapping[str, _Held],
) -> Iterator[Row]:
    """What is planned, by prompt, pairing and plan order; `before` has what an earlier version of the job held."""
    ranks = {name: number for number, name in enumerate(plan.job.prompts)}
    worked: dict[tuple[object, ...], tuple[dict[str, Load], dict[str, Load], tuple[str, ...]]] = {}
    for cell in sorted(selected, key=lambda c: (ranks[c.prompt], c.pairing, c.index)):
        progress = state.of(cell.id)
        conversation = plan.conversation(cell)
        old = before.get(cell.name) if progress.started is None else None
        standing = _standing(progress, old is not None)
        row = Row(
            name=cell.name,
            id=cell.id,
            standing=standing,
            prompt=cell.prompt,
            pairing=cell.pairing,
            repeat=cell.repeat,
            models=cell.models,
            turns=len(conversation.lines),
            spent=progress.account.held if old is None else old.spent,
            reason=progress.reason,
            changes=() if old is None else tuple(old.differences(conversation)),
            index=cell.index,
        )
        done = state.done(conversation)
        is_silent = tuple(observer.id not in done.observers for observer in conversation.after)
        # Of what is complete those are left who are to comment on it and have not.
        if standing in TO_HOLD or (standing == "done" and any(is_silent)):
            key = (*cell.kind, done.turns, is_silent)
            if key not in worked:
                likely = loads(conversation, prices.__getitem__, guess, *done)
                at_most = loads(conversation, prices.__getitem__, AT_MOST, *done)
                worked[key] = likely, at_most, _order(conversation, done.turns, likely)
            likely, at_most, order = worked[key]
            row = replace(row, expected=likely, most=at_most, order=order)
        yield row


def _standing(progress: Progress, has_predecessor: bool) -> Standing:
    if progress.status == "complete":
        return "done"
    if progress.status == "failed":
        return "failed"
    if progress.started is not None:
        return "unfinished"
    return "changed" if has_predecessor else "new"


def _source(calls: Mapping[str, int | None], guess: str, beside: str) -> str:
    """`mean of 120 earlier calls`, the guess, or `beside` which models that stands for those that made none."""
    measured = [number for number in calls.values() if number is not None]
    unknown = [alias for alias, number in calls.items() if number is None]
    if not measured:
        return guess
    earlier = f"mean of {sum(measured):,} earlier call{'' if sum(measured) == 1 else 's'}"
    return earlier if not unknown else f"{earlier}; {guess} {beside} {one_line(', '.join(unknown), 60)}"


# --- money and time ----------------------------------------------------------------------------------------------


def _alike(rows: Iterable[Row]) -> list[tuple[Row, int]]:
    """The first of each that are alike, and how many they are: their figures come from one and the same place."""
    firsts: dict[int, Row] = {}
    numbers: Counter[int] = Counter()
    for row in rows:
        firsts.setdefault(id(row.expected), row)
        numbers[id(row.expected)] += 1
    return [(row, numbers[place]) for place, row in firsts.items() if row.expected]


def _shares(plan: Plan, row: Row, loads: Mapping[str, Load]) -> dict[str, Nanos]:
    """What a conversation takes of each ceiling, by the ceiling's name."""
    found: Counter[str] = Counter()
    for alias, load in loads.items():
        for name in ("run", "day", "month", f"model {alias}", f"provider {plan.models[alias].provider}"):
            found[name] += load.cost
        found[f"pairing {row.pairing}"] += load.cost
    return found


def _rooms(plan: Plan, state: State, rows: Sequence[Row], counted: Counted) -> Iterator[Room]:
    budget = plan.budget
    needed: Counter[str] = Counter()
    for row, number in _alike(rows):
        needed.update({name: number * cost for name, cost in _shares(plan, row, row.expected).items()})
    if budget.run is not None:
        yield Room("run", budget.run, state.run.held, needed["run"])
    for name, most, held in (("day", budget.day, counted.day), ("month", budget.month, counted.month)):
        if most is not None:
            yield Room(name, most, held, needed[name])
    for name, most in budget.providers.items():
        yield Room(f"provider {name}", most, state.scope("provider", name).held, needed[f"provider {name}"])
    for name, most in budget.models.items():
        yield Room(f"model {name}", most, state.scope("model", name).held, needed[f"model {name}"])
    for number, most in budget.pairings.items():
        held = sum(state.of(cell.id).account.held for cell in plan.cells if cell.pairing == number)
        yield Room(f"pairing {number}", most, held, needed[f"pairing {number}"])


def conversation_ceiling(plan: Plan, pairing: int) -> Nanos | None:
    """The most that one conversation of a pairing may cost."""
    budget = plan.budget
    return min((m for m in (budget.conversation, budget.conversations.get(pairing)) if m is not None), default=None)


def _is_cut_short(plan: Plan, row: Row) -> bool:
    own = conversation_ceiling(plan, row.pairing)
    held = row.spent if row.standing == "unfinished" else 0
    return own is not None and held + sum(load.cost for load in row.expected.values()) > own


Known: TypeAlias = Mapping[str, Mean | None]
"""What earlier calls of each model came to; None of one that has made none."""


def _seconds(loads: Mapping[str, Load], known: Known) -> float:
    """How long these calls take one after another."""
    means = {alias: None if (mean := known[alias]) is None else mean.seconds for alias in loads}
    return sum(load.calls * (means[alias] or assumed_seconds(load) / load.calls) for alias, load in loads.items())


def _order(conversation: Conversation, said: Container[int], expected: Mapping[str, Load]) -> tuple[str, ...]:
    """The models of the calls that are left, in their order; those who listen come last, whenever they are asked."""
    speakers = (
        conversation.participant(x.role) for x in conversation.lines if x.given is None and x.number not in said
    )
    lines = [speaker.alias for speaker in speakers if speaker.live]
    others = Counter({alias: load.calls for alias, load in expected.items()}) - Counter(lines)
    return (*lines, *sorted(others.elements()))


def _ending(plan: Plan, rows: Sequence[Row], lanes: Mapping[str, _Lane], rooms: Sequence[Room], known: Known) -> Ending:
    """When a run of these is expected to end."""
    calling = sorted((row for row in rows if row.order), key=lambda row: row.index)
    most: Counter[str] = Counter()
    steps: dict[int, Mapping[str, Step]] = {}
    for row, number in _alike(calling):
        most.update({name: number * cost for name, cost in _shares(plan, row, row.most).items()})
        steps[id(row.expected)] = {alias: _step(plan, row, alias, lanes, known) for alias in row.expected}
    is_tight = any(most[room.name] > room.left for room in rooms)
    ending = rehearse(
        [Act(row.order, steps[id(row.expected)], row.standing == "unfinished") for row in calling],
        {name: lane.limits for name, lane in lanes.items()},
        {room.name: room.left for room in rooms} if is_tight else {},
    )
    if ending is not None:
        return ending
    # So many calls for each slot that the busiest lane alone decides.
    part, why = min(((room.left / room.expected, room.name) for room in rooms if room.short), default=(1.0, None))
    least = max(
        [_seconds(row.expected, known) for row in calling] + [lane.pace.minutes * 60.0 for lane in lanes.values()]
    )
    return Ending(least * part, round(len(calling) * (1.0 - part)), None if why is None else spent(why))


def _step(plan: Plan, row: Row, alias: str, lanes: Mapping[str, _Lane], known: Known) -> Step:
    """What one call of a model comes to in a conversation, on average."""
    load, most, name, mean = row.expected[alias], row.most[alias], _lane_of(plan, alias), known[alias]
    output = most.output if lanes[name].limits.count == "reserved" else load.output
    spread = ASSUMED_SPREAD
    if mean is not None and mean.seconds and mean.deviation is not None:
        spread = mean.deviation / mean.seconds
    return Step(
        lane=name,
        seconds=_seconds({alias: load}, known) / load.calls,
        spread=spread,
        input=load.input / load.calls,
        output=output / load.calls,
        cost=load.cost // load.calls,
        reserved=most.cost // most.calls,
        ceilings=tuple(_shares(plan, row, {alias: load})),
    )


@dataclass(slots=True)
class _Lane:
    limits: Limits
    expected: Load = field(default_factory=Load)
    most_output: float = 0.0
    conversations: int = 0
    seconds: float = 0.0

    @property
    def slots(self) -> int:
        return self.limits.concurrency or 0

    @property
    def pace(self) -> Pace:
        return pace(self.expected, self.most_output, self.limits, self.conversations, self.seconds)


def _lane_of(plan: Plan, alias: str) -> str:
    """What the lane of a model is called."""
    provider = plan.models[alias].provider
    return f"{provider}/{alias}" if plan.providers[provider].limits.per == "model" else provider


def _lanes(plan: Plan, rows: Sequence[Row], slots: int, known: Known) -> dict[str, _Lane]:
    """The lanes that have something to do, by name."""
    names = {alias: _lane_of(plan, alias) for alias in plan.models}
    lanes: dict[str, _Lane] = {}
    for alias, model in plan.models.items():
        said = plan.providers[model.provider].limits
        limits = Limits(
            concurrency=said.concurrency or slots,
            rpm=said.rpm,
            rpd=said.rpd,
            tpm=said.tpm,
            input_tpm=said.input_tpm,
            output_tpm=said.output_tpm,
            burst=said.burst,
            count=said.count,
        )
        lanes.setdefault(names[alias], _Lane(limits))
    for row in rows:
        for alias, load in row.expected.items():
            lanes[names[alias]].expected.add(load)
            lanes[names[alias]].most_output += row.most[alias].output
            lanes[names[alias]].seconds += _seconds({alias: load}, known)
        for name in {names[alias] for alias in row.expected}:
            lanes[name].conversations += 1
    return {name: lane for name, lane in lanes.items() if lane.expected.calls}


# --- what has changed --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Held:
    """A conversation that was held and is planned no more; `cell` is None when no version of the job tells of it."""

    id: str
    spent: Nanos
    cell: Cell | None = None
    conversation: Conversation | None = None

    @property
    def row(self) -> Row:
        cell = self.cell
        return Row(
            name=self.id if cell is None else cell.name,
            id=self.id,
            standing="replaced",
            prompt="" if cell is None else cell.prompt,
            pairing=0 if cell is None else cell.pairing,
            repeat=0 if cell is None else cell.repeat,
            models=() if cell is None else cell.models,
            turns=0 if self.conversation is None else len(self.conversation.lines),
            spent=self.spent,
        )

    def differences(self, now: Conversation) -> list[str]:
        return [] if self.conversation is None else differences(self.conversation, now)


def _predecessors(plan: Plan, state: State) -> list[_Held]:
    """What was held and is planned no more, the oldest version first."""
    left = {
        id_: progress.account.held
        for id_, progress in state.cells.items()
        if progress.started is not None and id_ not in plan.by_id and plan.aside(id_) is None
    }
    found: list[_Held] = []
    for opened in reversed(state.jobs):
        if not left:
            break
        assert opened.job is not None
        earlier = make_plan(Job.from_record(opened.job, state.texts), opened.date, state.additions)
        for id_ in [id_ for id_ in left if earlier.aside(id_) is not None]:
            del left[id_]  # who listened is no conversation
        there = [cell for cell in (*earlier.cells, *earlier.superseded) if cell.id in left]
        found += [_Held(cell.id, left.pop(cell.id), cell, earlier.conversation(cell)) for cell in there]
    return [*(_Held(id_, spent) for id_, spent in left.items()), *reversed(found)]


def differences(before: Conversation, after: Conversation) -> list[str]:
    """Which parts of a conversation have changed, in words: `temperature of b: 1.0 -> 0.7`."""
    found = [
        *_text("context", before.context, after.context),
        *_text("opening", before.opening, after.opening),
        *_value("roles", *(", ".join(p.role for p in c.participants) for c in (before, after))),
    ]
    then = {p.role: p for p in before.participants}
    renamed = len(then) == len(after.participants) and then.keys() != {p.role for p in after.participants}
    for now in after.participants:
        if now.role in then:
            found += _sides(then[now.role], now)
    found += _value("rounds", before.rounds, after.rounds)
    found += _value("stop", *(", ".join(map(_rule, c.stops)) or None for c in (before, after)))
    for what in ("moderator", "voters"):
        old, new = (_asides(c, what) for c in (before, after))
        if old != new:
            told = list(_value(what, *(", ".join(map(_listener, some)) or None for some in (old, new))))
            found += told or [f"{what}: asked otherwise"]
    if before.rounds == after.rounds and _speaking(before, renamed=renamed) != _speaking(after, renamed=renamed):
        found.append("turns: another order of speaking")
    for role in (p.role for p in after.participants if p.role in then):
        own = ([x for x in c.lines if x.role == role] for c in (before, after))
        for number, (one, other) in enumerate(zip_longest(*own), 1):
            if one is not None and other is not None:
                found += _text(f"line {number} of {role}", one.given, other.given)
                found += _text(f"instruction {number} of {role}", one.instruct, other.instruct)
    if not found:
        found.append("the seed that is sent" if before.send_seed != after.send_seed else "the way it is sent")
    elif (before.send_seed is None) != (after.send_seed is None):
        found.append(f"send_seed: {_yes(before.send_seed is not None)} -> {_yes(after.send_seed is not None)}")
    return found


def _speaking(conversation: Conversation, *, renamed: bool) -> list[str] | list[int]:
    """Who speaks when: by role, or by who spoke first, where the roles are called otherwise on the other side."""
    roles = [line.role for line in conversation.lines]
    places = {role: place for place, role in enumerate(dict.fromkeys(roles))}
    return [places[role] for role in roles] if renamed else roles


def _rule(rule: Rule) -> str:
    if rule.kind == "phrase":
        return f"phrase {rule.phrase!r}"
    return f"{rule.kind} ${dollars(round(rule.most))}" if rule.kind == "cost" else f"{rule.kind} {rule.most:g}"


def _asides(conversation: Conversation, what: str) -> list[Aside]:
    """Those who are asked while it goes on, without the ids that follow from the conversation's own."""
    moderator = () if conversation.moderator is None else (conversation.moderator,)
    return [replace(aside, id="") for aside in (moderator if what == "moderator" else conversation.voters)]


def _listener(aside: Aside) -> str:
    return f"{aside.by.provider}/{aside.by.model}"


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _sides(before: Participant, after: Participant) -> Iterator[str]:
    role = after.role
    kinds = ("live" if p.live else "scripted" if p.inbox is None else "heard from outside" for p in (before, after))
    yield from _value(f"{role} is", *kinds)
    if not (before.live and after.live):
        return
    yield from _text(f"system text of {role}", before.system, after.system)
    yield from _value(f"model of {role}", f"{before.provider}/{before.model}", f"{after.provider}/{after.model}")
    yield from _value(f"max_tokens of {role}", before.max_tokens, after.max_tokens)
    for name in ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty"):
        yield from _value(f"{name} of {role}", getattr(before.sampling, name), getattr(after.sampling, name))
    stops = (", ".join(map(repr, p.sampling.stop)) or None for p in (before, after))
    yield from _value(f"texts that stop {role}", *stops)
    for name in ("effort", "tokens"):
        was, now = (getattr(p.reasoning, name) for p in (before, after))
        yield from _value(f"reasoning {name} of {role}", was, now)
    yield from _value(f"overflow of {role}", before.overflow, after.overflow)
    yield from _value(f"window of {role}", before.window, after.window)
    yield from _value(f"own reasoning shown to {role}", *(_yes(p.keeps_reasoning) for p in (before, after)))


def _value(what: str, before: object, after: object) -> Iterator[str]:
    if before != after:
        old, new = ("none" if value is None else one_line(str(value), _EXCERPT) for value in (before, after))
        yield f"{what}: {old} -> {new}"


def _text(what: str, before: str | None, after: str | None) -> Iterator[str]:
    if before == after:
        return
    if before is None or after is None:
        yield f"{what}: {'added' if before is None else 'removed'}"
        return
    shorter = min(len(before), len(after))
    same = next((n for n in range(shorter) if before[n] != after[n]), shorter)
    # From a little before the first difference, at the beginning of a word.
    start = max(0, same - _EXCERPT // 3)
    start = 0 if start == 0 else before.rfind(" ", 0, start) + 1
    dots = "…" if start else ""
    old, new = (one_line(text[start:], _EXCERPT) for text in (before, after))
    yield f'{what}: "{dots}{old}" -> "{dots}{new}"'
