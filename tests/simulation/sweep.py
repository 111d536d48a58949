"""Two small worlds, broken off at every operation of the disk in every manner; then the next run must complete all.

In the full form the recovery is broken off as well, at some of its own operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Final, cast

from tests.memory import Trouble
from tests.nights import LATENCY
from tests.simulation.life import Story
from tests.simulation.worlds import KEY, DiskFault, JobData, Life, Sims, World, last_life

KINDS: Final[Sequence[Trouble]] = ("kill", "torn", "power", "ENOSPC", "EIO")
_IN_A_RECOVERY: Final[Sequence[Trouble]] = ("kill", "power")
_POINTS_OF_A_RECOVERY: Final = 3
RECOVERY: Final = 60
"""So many operations are enough for a recovery to begin anew."""
WRITES: Final = ("write", "temporary", "holder")


def _provider(*models: str) -> JobData:
    habits = {"latency": LATENCY, "price": {"input": 1.0, "output": 4.0}, "reply": {"mean": 20}}
    return {"seed": 1, "keys": [KEY], "models": dict.fromkeys(models, habits)}


def _job(providers: dict[str, tuple[str, ...]], **rest: object) -> JobData:
    entry = {"type": "openai", "base_url": "sim", "api_key": "${PLANTED}", "limits": {"concurrency": 2}}
    price = {"input": 1.0, "output": 4.0}
    return {
        "name": "job",
        "defaults": {"max_tokens": 60, "outcomes": {"lost": {"retry": 9}}},
        "providers": dict.fromkeys(providers, entry),
        "models": {m: {"use": f"{name}/{m}", "price": price} for name, some in providers.items() for m in some},
        **rest,
    }


PAIR: Final = _job(
    {"p0": ("m0", "m1")},
    budget=1,
    send_seed=True,
    prompts={"talk": {"opening": "What survives?", "rounds": 1}},
    pairings=[{"prompt": "talk", "a": ["m0", "m1"], "b": "m0"}],
)
PAIR_SIMS: Final[Sims] = {"p0": _provider("m0", "m1")}
"""Two conversations of two turns with one provider, and money enough."""

ROUND: Final = _job(
    {"p0": ("m0",), "p1": ("m1",)},
    budget={"run": 0.05, "conversation": 0.03, "providers": {"p1": 0.02}},
    prompts={
        "round": {"roles": {"one": {}, "two": {}, "three": {}}, "opening": "Begin.", "rounds": 1},
        "letter": {"roles": {"host": {"script": ["Dear friend."]}, "guest": {}}},
    },
    pairings=[
        {"prompt": "round", "one": "m0", "two": "m1", "three": "m0"},
        {"prompt": "letter", "guest": ["m0", "m1"]},
    ],
)
ROUND_SIMS: Final[Sims] = {
    "p0": {**_provider("m0"), "faults": {"script": [{"kind": "reset", "request": 2}]}},
    "p1": {**_provider("m1"), "faults": {"script": [{"kind": "blank", "request": 1, "billed": True}]}},
}
"""Three conversations of three sorts with two providers, under ceilings of several kinds, and two faults."""


SWEPT: Final[Mapping[str, tuple[JobData, Sims]]] = {"pair": (PAIR, PAIR_SIMS), "round": (ROUND, ROUND_SIMS)}


def named(name: str) -> World:
    """The world of a name such as `pair/kill-17` or `round/EIO-17+power-3`: each life by what breaks it off."""
    swept, _, faults = name.partition("/")
    job, sims = SWEPT[swept]
    lives = [Life(job, sims, fault=_fault(fault)) for fault in faults.split("+")]
    return World(name, (*lives, last_life(job, sims)), None, (0.001, 0.005))


def _fault(name: str) -> DiskFault:
    kind, _, change = name.partition("-")
    assert kind in KINDS, kind
    return DiskFault(cast(Trouble, kind), int(change), lasting=kind == "ENOSPC")


def changes(swept: str) -> list[str]:
    """What a life that nothing breaks off does to its disk, in order."""
    story = Story(named(f"{swept}/kill-1000000")).live()
    first = next(n for n, operation in enumerate(story.disk.operations) if operation.own == 1 and n)
    return [operation.name for operation in story.disk.operations[:first] if operation.changes]


def once(swept: str) -> Iterator[str]:
    """The names of all worlds that are broken off once."""
    for change, operation in enumerate(changes(swept), 1):
        for kind in KINDS:
            # A write is all that can be torn; and all that needs room finds none.
            if kind != "torn" or operation in WRITES:
                yield f"{swept}/{kind}-{change}"


def twice(swept: str) -> Iterator[str]:
    """The names of all worlds that are broken off once, and some of those whose recovery is broken off as well."""
    random = Random(swept)
    for name in once(swept):
        yield name
        for change in sorted(random.sample(range(1, RECOVERY + 1), _POINTS_OF_A_RECOVERY)):
            yield f"{name}+{random.choice(_IN_A_RECOVERY)}-{change}"
