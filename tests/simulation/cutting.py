"""Worlds cut smaller: what is left out of one by name, so that a failure can be told by the little that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from runner.selection import Options
from tests.simulation.worlds import JobData, Life, World, but, freed, readable

Cut: TypeAlias = Callable[[World], World]


def cuts(world: World) -> dict[str, Cut]:
    """Ways to make a world smaller, each by a name; those that take most away come first."""
    lives = [number for number, life in enumerate(world.lives) if not life.final]
    of_both: dict[str, Cut] = {
        "second-prompt": partial(_each_job, _second_prompt),
        "repeats": partial(_each_job, _repeats),
        "cast": partial(_each_job, _cast),
        "rounds": partial(_each_job, _rounds),
        "caps": partial(_each_job, freed),
        "limits": _limits,
        "shuffle": lambda world: replace(world, order=None),
        "travel": lambda world: replace(world, rtt=(0.0, 0.0)),
        "slow-sync": lambda world: replace(world, sync_seconds=(0.0002, 0.02)),
    }
    return {
        **{f"life-{number + 1}": partial(_life, number) for number in lives},
        "neighbour": _neighbour,
        "moods": partial(_each, _moods),
        **{name: partial(_with_its_rival, cut) for name, cut in of_both.items()},
        "second": _without("second", None),
        "signals": _without("signals", ()),
        "jumps": _without("jumps", ()),
        "sleeps": _without("sleeps", ()),
        "rot": _without("rots", False),
        "death": _without("dies_after", None),
        "fault": _without("fault", None),
        "options": _without("options", Options(accept_changes=True)),
        "eyes": _without("looked_on", False),
    }


def _with_its_rival(cut: Cut, world: World) -> World:
    """Cut also what the world is held against, or the two would differ by more than a dead provider."""
    return replace(cut(world), rival=None if world.rival is None else cut(world.rival))


def _life(number: int, world: World) -> World:
    return replace(world, lives=(*world.lives[:number], *world.lives[number + 1 :]))


def _each(change: Callable[[Life], Life], world: World) -> World:
    return replace(world, lives=tuple(life if life.final else change(life) for life in world.lives))


def _without(name: str, nothing: Any) -> Cut:
    return partial(_each, lambda life: replace(life, **{name: nothing}))


def _moods(life: Life) -> Life:
    return replace(life, sims={name: but(sim, "faults") for name, sim in life.sims.items()})


def _neighbour(world: World) -> World:
    """The first job alone."""
    lives = [life for life in world.lives if life.job["name"] == world.lives[0].job["name"]]
    return replace(world, lives=tuple(replace(x, second=None) if x.second and x.second.job else x for x in lives))


def _limits(world: World) -> World:
    def free(life: Life) -> Life:
        providers = {
            name: {**entry, "limits": {"concurrency": entry["limits"]["concurrency"]}}
            for name, entry in life.job["providers"].items()
        }
        sims = {name: but(sim, "limits") for name, sim in life.sims.items()}
        return replace(life, job={**life.job, "providers": providers}, sims=sims)

    return replace(world, lives=tuple(free(life) for life in world.lives))


def _each_job(change: Callable[[JobData], JobData], world: World) -> World:
    def changed(job: JobData) -> JobData:
        return readable(change(job), job)

    def both(life: Life) -> Life:
        second = life.second
        if second is not None and second.job is not None:
            second = replace(second, job=changed(second.job))
        return replace(life, job=changed(life.job), second=second)

    return replace(world, lives=tuple(both(life) for life in world.lives))


def _second_prompt(job: JobData) -> JobData:
    pairing = job["pairings"][0]
    return {**job, "prompts": {pairing["prompt"]: job["prompts"][pairing["prompt"]]}, "pairings": [pairing]}


def _repeats(job: JobData) -> JobData:
    return {**job, "pairings": [but(pairing, "repeat") for pairing in job["pairings"]]}


def _cast(job: JobData) -> JobData:
    """One model for each role."""
    pairings = [
        {role: cast[:1] if isinstance(cast, list) else cast for role, cast in pairing.items()}
        for pairing in job["pairings"]
    ]
    return {**job, "pairings": pairings}


def _rounds(job: JobData) -> JobData:
    return {**job, "prompts": {n: {**p, "rounds": 1} if "rounds" in p else p for n, p in job["prompts"].items()}}
