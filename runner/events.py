"""What can happen, as events in the past tense, and how each of them is written.

Nothing else is true: a journal holds events alone, and `runner.state` is what they come to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, field, fields
from operator import attrgetter, itemgetter
from typing import Any, ClassVar, Final, Literal, NamedTuple, TypeAlias, cast

from runner.call import Finish, Kind, Money, Scope, Usage
from runner.money import Nanos
from runner.status import Status
from runner.value import value


@value(frozen=True, slots=True)
class Opened:
    """A life began: one process working on the run, until `Closed` or a crash."""

    kind: ClassVar[str] = "opened"
    life: int
    version: str
    run: str
    key: str
    date: str
    """The date that `{date}` stands for, frozen when the run first opened."""
    zone: str
    job: Mapping[str, Any] | None
    """The resolved job without keys; None when it is the one of the life before."""
    texts: Mapping[str, str]
    """The job's long texts that no earlier life brought, under their SHA-256."""
    ceilings: Mapping[str, Nanos]
    prices: Mapping[str, Mapping[str, Any]]
    """What each model charges, as `Price.record` writes it."""
    options: Mapping[str, Any]
    reopened: tuple[str, ...] = ()
    """Failed conversations that this life takes up again."""
    day: str = ""
    """The day to which this life's money belongs: the date, in the job's zone, on which it began."""
    born: float = 0.0
    """When the run first opened; with its name, it tells it from any other that ever was."""
    about: tuple[str, ...] | None = None
    """What of those that are not at their end this life takes up; None for all. The others stay as they stand."""


@value(frozen=True, slots=True)
class Sent:
    """A call may now leave: its reservation holds, and this line is durable before the request is sent."""

    kind: ClassVar[str] = "sent"
    cell: str
    turn: int
    attempt: int
    role: str
    alias: str
    provider: str
    model: str
    request: str
    dialect: str
    reserved: Nanos
    input_bound: int
    max_tokens: int
    seed: int | None = None
    dropped: tuple[str, ...] = ()
    left_out: int = 0
    """How many of the oldest lines the speaker was not shown."""


@value(frozen=True, slots=True)
class Started:
    """The first byte came, with the provider's own id of the call."""

    kind: ClassVar[str] = "started"
    cell: str
    turn: int
    attempt: int
    generation: str


@value(frozen=True, slots=True)
class Replied:
    """A turn has its reply."""

    kind: ClassVar[str] = "replied"
    cell: str
    turn: int
    attempt: int
    text: str
    finish: Finish
    cost: Nanos
    cost_source: Literal["reported", "priced", "unknown"]
    computed: Nanos | None
    usage: Mapping[str, Any]
    overrun: bool = False
    reasoning: str | None = None
    model: str | None = None
    upstream: str | None = None
    generation: str | None = None
    stop: str | None = None
    first_byte: float | None = None
    seconds: float | None = None


@value(frozen=True, slots=True)
class Heard:
    """A line came from outside: out of an inbox, or from a file that was imported. It costs nothing here."""

    kind: ClassVar[str] = "heard"
    cell: str
    turn: int
    text: str
    source: str
    """Where it came from, for people."""
    finish: Finish = "ok"
    usage: Mapping[str, Any] = field(default_factory=dict)
    """What the source says that it took, when it came to be."""
    cost: Nanos | None = None
    computed: Nanos | None = None
    reasoning: str | None = None
    seconds: float | None = None
    first_byte: float | None = None
    pace: float | None = None
    """Tokens per second, as the source says."""
    upstream: str | None = None
    stop: str | None = None
    attempts: int | None = None
    label: str | None = None
    title: str | None = None
    when: float | None = None
    """When it was said, where the line came out of a file that was imported."""


@value(frozen=True, slots=True)
class Noted:
    """What somebody made of a conversation came with it out of a file that was imported."""

    kind: ClassVar[str] = "noted"
    cell: str
    heading: str
    observer: str | None
    """As the file names him."""
    text: str
    source: str


@value(frozen=True, slots=True)
class Branched:
    """A conversation goes on with another one: its first lines are those of its origin."""

    kind: ClassVar[str] = "branched"
    cell: str
    origin: str
    how: Literal["extend", "fork", "redo"]
    through: int
    """The last line that both have."""
    number: int
    """How many branches of this origin there are, this one counted in."""
    prompt: str
    pairing: int
    """The position that the pairing of its origin had then; it stays in that pairing wherever it stands."""
    models: Mapping[str, str]
    """Role to alias, of each live side."""
    rounds: int
    roles: tuple[str, ...] = ()
    """Who said each of the lines that both have."""
    uses: Mapping[str, str] | None = None
    """Role to `provider/model-id`: aliases may change, and this is what is meant. None in older journals."""


@value(frozen=True, slots=True)
class Engaged:
    """An observer was asked to comment on the conversations of some prompts of a run, beside those of its job."""

    kind: ClassVar[str] = "engaged"
    prompts: tuple[str, ...]
    listener: Mapping[str, Any]
    """Whom, and what he is asked, as a job has it."""
    cells: tuple[str, ...] = ()
    """The conversations that he comments on; none for all of these prompts."""
    model: Mapping[str, Any] | None = None
    """His model, where the job does not name it: its `provider`, its `id`, whether it is `free`, its `context`."""


@value(frozen=True, slots=True)
class Failed:
    """One attempt failed. `cost` is what stays charged for it."""

    kind: ClassVar[str] = "failed"
    cell: str
    turn: int
    attempt: int
    failure: Kind | Literal["truncated"]
    scope: Scope
    money: Money
    cost: Nanos
    final: bool
    detail: str
    busy: bool = False
    parameter: str | None = None
    status: int | None = None
    retry_after: float | None = None
    usage: Mapping[str, Any] = field(default_factory=dict)
    overrun: bool = False
    partial: str | None = None
    reasoning: str | None = None
    model: str | None = None
    upstream: str | None = None
    generation: str | None = None
    stop: str | None = None
    first_byte: float | None = None
    seconds: float | None = None


@value(frozen=True, slots=True)
class Settled:
    """What a call has cost that was charged at its reservation became known afterwards."""

    kind: ClassVar[str] = "settled"
    cell: str
    turn: int
    attempt: int
    cost: Nanos
    evidence: str


@value(frozen=True, slots=True)
class Stopped:
    """A conversation came to an end, or will not go on in this life."""

    kind: ClassVar[str] = "stopped"
    cell: str
    status: Status
    reason: str | None = None
    when: float | None = None
    """When that was, where a file that was imported tells it."""
    error: Mapping[str, str] | None = None
    """`{"kind": ..., "message": ...}` of the turn where it failed, as that file tells it."""
    attempts: int | None = None
    """How many that turn has had, as that file tells it."""


@value(frozen=True, slots=True)
class Closed:
    """The life ended in order, with this exit code."""

    kind: ClassVar[str] = "closed"
    life: int
    exit: int
    reasons: tuple[str, ...] = ()
    style_trouble: str | None = None
    """What went wrong first in a style of the user's own, and where in it; the conversations are none the worse."""


@value(frozen=True, slots=True)
class Repaired:
    """Damaged lines stood here; whatever they had spent is counted at `cost`."""

    kind: ClassVar[str] = "repaired"
    through: int
    """The last sequence number that was lost; the first is this record's own."""
    cost: Nanos
    records: int = 0
    """How many records the journal had, the lost ones counted in, when it was repaired."""


Event: TypeAlias = (
    Opened
    | Sent
    | Started
    | Replied
    | Heard
    | Noted
    | Failed
    | Settled
    | Branched
    | Engaged
    | Stopped
    | Closed
    | Repaired
)

KINDS: Final[Mapping[str, type[Any]]] = {
    event.kind: event
    for event in (
        Opened,
        Sent,
        Started,
        Replied,
        Heard,
        Noted,
        Failed,
        Settled,
        Branched,
        Engaged,
        Stopped,
        Closed,
        Repaired,
    )
}
_FIELDS: Final = {kind: tuple(f.name for f in fields(event)) for kind, event in KINDS.items()}
_TOLD: Final = {kind: attrgetter(*names) for kind, names in _FIELDS.items()}
_LATER: Final = frozenset({"left_out"})
"""Fields that were not always there; where they say nothing new, a record is as it ever was."""
_DEFAULTS: Final = {
    kind: {f.name: f.default for f in fields(event) if f.default is None or f.default is False or f.name in _LATER}
    for kind, event in KINDS.items()
}


class _Shape(NamedTuple):
    """How a record becomes an event."""

    event: type[Any]
    absent: Mapping[str, Any]
    """What stands for a field that a record does not have."""
    tuples: Sequence[str]
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]


def _shape(event: type[Any]) -> _Shape:
    absent = {f.name: f.default for f in fields(event) if f.default is not MISSING}
    absent |= {f.name: f.default_factory() for f in fields(event) if f.default_factory is not MISSING}
    tuples = [f.name for f in fields(event) if str(f.type).startswith("tuple")]
    return _Shape(event, absent, tuples, itemgetter(*(f.name for f in fields(event))))


_SHAPES: Final = {kind: _shape(event) for kind, event in KINDS.items()}


def to_data(event: Event) -> dict[str, Any]:
    """The event as plain data, with what is empty left out."""
    data = dict(zip(_FIELDS[event.kind], _TOLD[event.kind](event), strict=True))
    for name, default in _DEFAULTS[event.kind].items():
        value = data[name]
        if value is default or (value == default and type(value) is type(default)):
            del data[name]
    return data


def from_data(kind: str, data: Mapping[str, Any]) -> Event:
    """The event that `to_data` came from; what a newer minor version added is passed over. KeyError without a field."""
    event, absent, tuples, values = _SHAPES[kind]
    known = {**absent, **data}
    for name in tuples:
        if name in data:
            known[name] = tuple(data[name])
    return cast(Event, event(*values(known)))


def usage_data(usage: Usage) -> dict[str, Any]:
    """Usage as the journal keeps it: normalised figures, and the provider's own object."""
    data: dict[str, Any] = {}
    for name in ("input", "output", "reasoning", "cached_read", "cached_write", "cost"):
        value = getattr(usage, name)
        if value is not None:
            data[name] = value
    if not usage.trusted:
        data["trusted"] = False
    if usage.raw is not None:
        data["raw"] = usage.raw
    return data


def usage_of(data: Mapping[str, Any]) -> Usage:
    return Usage(**data)
