"""From a job to its conversations: cells in plan order, their names, and what each of them is.

Plan order is breadth first (repeat, then prompt, then pairing), so that a budget that runs out leaves even coverage.
A cell is a few words; the conversation behind it is built when it is asked for, from parts that all cells share.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from itertools import chain, product
from typing import Final, NamedTuple

from runner.conversation import DURING, Aside, Conversation, Look, Origin, going_on, said_by
from runner.events import Branched, Engaged
from runner.job.cells import Casting, Posed, Scene, aside_id, ceiling_name, hashed, listening, ordered
from runner.job.job import Job, Listener, Model, Prompt, Provider
from runner.job.naming import LONGEST, apart, choices, fitted, short, slug
from runner.job.problem import JobError, Problem
from runner.money import Nanos
from runner.state import Additions

_LONGEST_BRANCH: Final = 200
"""So long may the last part of a branch's name be: a file of it has an ending, too, and no more than 255 bytes."""
_AGAIN: Final = re.compile(r"(\.(?:extend|fork)\d+)\1+(?!\d)")

__all__ = ["Budget", "Cell", "Model", "Plan", "Provider", "make_plan", "slug"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One conversation of the plan."""

    id: str
    name: str
    """`prompt/a~b`, and `.r2` for a repeat: safe as the name of a file."""
    prompt: str
    pairing: int
    """Its pairing's position in the job file, from 1."""
    repeat: int
    models: Casting
    """Role and alias of each live side, in the order of the roles."""
    index: int
    """Its place in plan order, from 0."""
    branch: Branched | None = None
    """How it goes on with another one; None when it began by itself."""

    @property
    def kind(self) -> tuple[str, int, Casting]:
        """What those have in common that differ by their repeat alone."""
        return self.prompt, self.pairing, self.models


@dataclass(frozen=True, slots=True)
class Budget:
    """The ceilings that the job sets; a pairing is named by its position."""

    run: Nanos | None
    conversation: Nanos | None
    providers: Mapping[str, Nanos]
    models: Mapping[str, Nanos]
    pairings: Mapping[int, Nanos]
    conversations: Mapping[int, Nanos]
    """For each conversation of a pairing."""
    day: Nanos | None = None
    """For all runs of a day that write into one outputs folder."""
    month: Nanos | None = None
    observers: Mapping[str, Nanos] = field(default_factory=dict)
    """For all that an observer costs in a run, by the name that his asides have for it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A job on a date: all its cells, and the models and providers that they and those who listen to them use."""

    job: Job
    date: str
    cells: tuple[Cell, ...]
    models: Mapping[str, Model]
    providers: Mapping[str, Provider]
    by_id: Mapping[str, Cell]
    budget: Budget
    superseded: tuple[Cell, ...]
    """Conversations in whose place another stands that goes on with them; they are kept, and not counted."""
    _scenes: Mapping[tuple[str, int, int], Scene] = field(repr=False, compare=False)
    """By prompt, pairing and rounds."""
    _origins: Mapping[str, Cell] = field(repr=False, compare=False)
    """What branches go on with, by the branches' ids."""
    _asked: Mapping[str, Cell] = field(repr=False, compare=False)
    """What stands for each wish that was fulfilled, by the id that its branch would have now."""
    _asides: Callable[[], Mapping[str, tuple[Cell, int]]] = field(repr=False, compare=False)
    """The asides of all cells by their ids, each as its cell and its place there."""

    def scene(self, cell: Cell) -> Scene:
        """The prompt and the pairing of a conversation, with the rounds that it has."""
        return self._scenes[cell.prompt, cell.pairing, _rounds(self.job, cell)]

    def likeness(self, cell: Cell, begun: Container[str]) -> Hashable:
        """The same for all conversations that differ by their repeat alone: none has begun, and nothing is drawn."""
        drawn = self.job.prompts[cell.prompt].order == "random"
        return cell.id if drawn or cell.branch is not None or cell.id in begun else cell.kind

    def alike(self, cells: Iterable[Cell], begun: Container[str]) -> list[tuple[Cell, int]]:
        """The first of each that are alike, and how many they are."""
        firsts: dict[Hashable, Cell] = {}
        numbers: Counter[Hashable] = Counter()
        for cell in cells:
            likeness = self.likeness(cell, begun)
            firsts.setdefault(likeness, cell)
            numbers[likeness] += 1
        return [(cell, numbers[likeness]) for likeness, cell in firsts.items()]

    def conversation(self, cell: Cell) -> Conversation:
        """The conversation in full; equal each time it is asked for."""
        scene = self.scene(cell)
        stage = scene.stage(cell.models)
        lines = stage.lines
        if scene.prompt.order == "random":
            # A branch goes on in the order of its origin, so that its rounds stay whole.
            lines = ordered(lines, f"{self.job.seed}:{self.first(cell).id}")
        origin = None
        if cell.branch is not None:
            before = self._origins[cell.id]
            origin = Origin(before.id, before.name, cell.branch.how, cell.branch.through)
            lines = going_on(said_by(self.conversation(before).lines, cell.branch.roles), lines)
        asides = scene.asides(cell.models, cell.id) if scene.prompt.listeners else ()
        return Conversation(
            id=cell.id,
            name=cell.name,
            prompt=cell.prompt,
            repeat=cell.repeat,
            participants=scene.cast(cell.models, stage, cell.name),
            lines=lines,
            context=stage.context,
            opening=stage.opening,
            send_seed=_seed(self.job.seed, cell.id) if self.job.send_seed else None,
            stops=scene.prompt.stops,
            moderator=next((one for one in asides if one.kind == "pick"), None),
            voters=tuple(one for one in asides if one.kind == "vote"),
            after=tuple(one for one in asides if one.kind not in DURING),
            look=scene.look(cell.models),
            origin=origin,
        )

    def first(self, cell: Cell) -> Cell:
        """The conversation that the job itself plans, out of which this one has grown."""
        while cell.branch is not None:
            cell = self._origins[cell.id]
        return cell

    def asked(self, id_: str) -> Cell | None:
        """What stands by now for a branch that would get this id; None when nobody has wished for it."""
        return self._asked.get(id_)

    def aside(self, id_: str) -> tuple[Cell, Aside] | None:
        """Whom an id names that is no conversation's, and what he listens to; None when it names nobody."""
        found = self._asides().get(id_)
        if found is None:
            return None
        cell, place = found
        return cell, self.conversation(cell).asides[place]

    def name_of(self, id_: str) -> str:
        """What people call a conversation, or somebody who listens to one: `prompt/a~b (notes by Eli)`."""
        if id_ in self.by_id:
            return self.by_id[id_].name
        found = self.aside(id_)
        if found is not None:
            return f"{found[0].name} ({who_of(found[1])})"
        return next((cell.name for cell in self.superseded if cell.id == id_), id_)

    def look(self, cell: Cell) -> Look:
        """How the transcript of a conversation is to look."""
        return self.scene(cell).look(cell.models)

    def after(self, cell: Cell) -> tuple[Aside, ...]:
        """Who comments on a conversation when it is complete."""
        return self.conversation(cell).after if self.job.prompts[cell.prompt].after else ()

    def during(self, cell: Cell) -> tuple[Aside, ...]:
        """Who is asked about a conversation while it goes on."""
        prompt = self.job.prompts[cell.prompt]
        if prompt.moderator is None and not prompt.voters:
            return ()
        conversation = self.conversation(cell)
        return tuple(aside for aside in conversation.asides if aside.kind in DURING)

    def groups(self) -> Iterator[tuple[str, str, list[str]]]:
        """What has a ceiling of its own and is more than one account: its kind, its name, and the ids in it."""
        every = (*self.cells, *self.superseded)
        pairings: dict[int, list[str]] = {number: [] for number in self.budget.pairings}
        observers: dict[str, list[str]] = {name: [] for name in self.budget.observers}
        for cell in every:
            during = [aside.id for aside in self.during(cell)]
            if during:
                yield "conversation", cell.id, [cell.id, *during]
            if cell.pairing in pairings:
                pairings[cell.pairing] += [cell.id, *during]
            for aside in self.after(cell) if observers else ():
                if aside.budget is not None:
                    observers[aside.budget].append(aside.id)
        yield from (("pairing", str(number), ids) for number, ids in pairings.items())
        yield from (("observer", name, ids) for name, ids in observers.items())


def who_of(aside: Aside) -> str:
    """What people call somebody who listens: his task and his model, `notes by Eli`."""
    task = {"pick": "moderator", "vote": "vote"}.get(aside.kind, aside.heading or aside.kind)
    return f"{task} by {aside.by.label}"


def make_plan(job: Job, date: str, additions: Additions = Additions()) -> Plan:  # noqa: B008
    """The plan of a job for a run that started on this date (`YYYY-MM-DD`, in the job's zone).

    `additions` are what somebody has added to the run: conversations that go on with others, and observers. One whose
    origin the job does not plan any more, whose models or prompts it does not know, or which it would ask something
    else now, is left out.
    """
    job = _with_observers(job, additions.engaged)
    scenes: dict[tuple[str, int], Scene] = {}  # as the job has them
    cast: dict[tuple[str, int], list[Casting]] = {}
    for prompt in job.prompts.values():
        for pairing in job.pairings:
            if prompt.name in pairing.prompts:
                key = (prompt.name, pairing.position)
                scenes[key] = Scene(job, prompt, pairing, date)
                cast[key] = list(scenes[key].castings())
    names = _names(job, cast)
    identities = {key: [scenes[key].identities(casting) for casting in some] for key, some in cast.items()}
    rows: list[tuple[str, str, tuple[str, int], int, Casting]] = []
    for repeat in range(1, max((p.repeat for p in job.pairings), default=0) + 1):
        for key, some in cast.items():
            if repeat <= scenes[key].pairing.repeat:
                for casting, identity, name in zip(some, identities[key], names[key], strict=True):
                    rows.append((identity.of(repeat), name.repeated(repeat), key, repeat, casting))
    taken = Counter(name.casefold() for _, name, *_ in rows)
    cells = tuple(
        Cell(id_, name if taken[name.casefold()] == 1 else _marked(name, id_), prompt, pairing, repeat, casting, index)
        for index, (id_, name, (prompt, pairing), repeat, casting) in enumerate(rows)
    )
    by_id = {cell.id: cell for cell in cells}
    if len(by_id) < len(cells):
        twice = next(cell for cell in cells if by_id[cell.id] is not cell)
        message = f"the conversations {twice.name} and {by_id[twice.id].name} are the same on {date}"
        raise JobError([Problem(job.name, 0, 0, message)])
    used = set(chain.from_iterable((alias for _, alias in casting) for some in cast.values() for casting in some))
    used |= {one.model for key, some in cast.items() if some for one in scenes[key].prompt.listeners}
    by_rounds = {(*key, scene.prompt.rounds): scene for key, scene in scenes.items()}
    grown = _grown(job, date, cells, additions.branches, by_rounds)
    cells, by_id = grown.cells, {cell.id: cell for cell in grown.cells}
    used |= {alias for cell in cells if cell.branch is not None for _, alias in cell.models}

    @cache
    def asides() -> Mapping[str, tuple[Cell, int]]:
        # Looked for when somebody asks: a job has many cells, and most have nobody who listens.
        posed: dict[tuple[str, int, Casting], tuple[Posed, ...]] = {}
        found: dict[str, tuple[Cell, int]] = {}
        for cell in (*cells, *grown.superseded):
            if (scene := by_rounds[cell.prompt, cell.pairing, _rounds(job, cell)]).prompt.listeners:
                if cell.kind not in posed:
                    posed[cell.kind] = scene.posed(cell.models)
                heard_by = enumerate(listening(posed[cell.kind], cell.id))
                found |= {aside_id(cell.id, one): (cell, place) for place, one in heard_by}
        return found

    models = {alias: model for alias, model in job.models.items() if alias in used}
    providers = {model.provider for model in models.values()}
    return Plan(
        job=job,
        date=date,
        cells=cells,
        models=models,
        providers={name: provider for name, provider in job.providers.items() if name in providers},
        by_id=by_id,
        budget=_budget(job),
        superseded=grown.superseded,
        _scenes=by_rounds,
        _origins=grown.origins,
        _asked=grown.asked,
        _asides=asides,
    )


def _with_observers(job: Job, engaged: Iterable[Engaged]) -> Job:
    prompts, models = dict(job.prompts), dict(job.models)
    for event in engaged:
        observer = Listener(**{**event.listener, "cells": event.cells})
        if event.model is not None and observer.model not in models and event.model["provider"] in job.providers:
            models[observer.model] = Model(alias=observer.model, label=observer.model, price=None, **event.model)
        for name in event.prompts if observer.model in models else ():
            if name in prompts and observer not in prompts[name].after:
                prompts[name] = replace(prompts[name], after=(*prompts[name].after, observer))
    return job if prompts == job.prompts else replace(job, prompts=prompts, models=models)


class _Grown(NamedTuple):
    """The conversations of a job with the branches that were added to its run."""

    cells: tuple[Cell, ...]
    superseded: tuple[Cell, ...]
    origins: Mapping[str, Cell]
    asked: Mapping[str, Cell]


def _grown(
    job: Job,
    date: str,
    planned: tuple[Cell, ...],
    branches: Iterable[Branched],
    scenes: dict[tuple[str, int, int], Scene],
) -> _Grown:
    """Add the branches; one that mends its origin takes its place and its name."""
    cells, known = list(planned), {cell.id: cell for cell in planned}
    names = _Grafted(planned)
    mended: list[str] = []
    origins: dict[str, str] = {}
    asked: dict[str, str] = {}
    for branch in branches:
        origin = known.get(branch.origin)
        played = None if origin is None else _played(job, date, branch, origin, scenes)
        if origin is None or played is None:
            continue  # the job has changed what it was asked: this is another conversation
        cell = Cell(
            id=branch.cell,
            name="",
            prompt=played.prompt,
            pairing=origin.pairing,
            repeat=origin.repeat,
            models=played.models,
            index=origin.index,
            branch=branch,
        )
        if branch.how == "redo":
            # What stands in the place by now: after an edit that was taken back it may be another than the origin.
            before = cells[origin.index]
            whole = names.whole[cell.id] = names.whole[before.id]
            known[before.id] = replace(before, name=names.given(before.id, f"{whole}.old{branch.number}"))
            mended.append(before.id)
            cell = replace(cell, name=before.name)
            cells[origin.index] = cell
        else:
            name = names.given(cell.id, f"{names.whole[origin.id]}.{branch.how}{branch.number}")
            cell = replace(cell, name=name, index=len(cells))
            cells.append(cell)
        known[cell.id] = cell
        origins[cell.id] = origin.id
        asked.setdefault(played.id, cell.id)
    return _Grown(
        tuple(cells),
        tuple(known[id_] for id_ in mended),
        {id_: known[origin] for id_, origin in origins.items()},
        {id_: cells[known[cell].index] for id_, cell in asked.items()},
    )


class _Played(NamedTuple):
    """With what a branch goes on, in the words of the job as it is now."""

    prompt: str
    models: Casting
    id: str
    """What its id would be if it were added now."""


def _played(
    job: Job, date: str, branch: Branched, origin: Cell, scenes: dict[tuple[str, int, int], Scene]
) -> _Played | None:
    """Find a branch again by what its id hangs on, whatever things are called by now; None where nothing fits."""
    is_older = branch.cell == _older_id(branch)
    pairing = job.pairings[origin.pairing - 1]
    for name in _prompts(job, branch, origin):
        prompt = job.prompts[name]
        if not fits(prompt, branch.roles) or script_end(prompt, branch.rounds) is not None:
            continue
        for models in _castings(job, branch, origin, prompt):
            key = (name, origin.pairing, branch.rounds)
            if key not in scenes:
                scenes[key] = Scene(job, replace(prompt, rounds=branch.rounds), pairing, date)
            try:
                id_ = branch_id(branch, scenes[key], models, origin.repeat)
            except KeyError:
                continue
            is_meant = branch.how != "fork" or (name, dict(models)) == (branch.prompt, branch.models)
            if id_ == branch.cell or (is_older and is_meant):
                return _Played(name, models, id_)
    return None


def _prompts(job: Job, branch: Branched, origin: Cell) -> Iterable[str]:
    """The prompts that a branch may go on under, the likeliest first; all but a fork keep that of their origin."""
    if branch.how != "fork":
        return [origin.prompt]
    return dict.fromkeys(name for name in (branch.prompt, origin.prompt, *job.prompts) if name in job.prompts)


def _castings(job: Job, branch: Branched, origin: Cell, prompt: Prompt) -> Iterator[Casting]:
    """With which models a branch may go on, the likeliest first; all but a fork keep those of their origin."""
    if branch.how != "fork":
        yield origin.models
        return
    before, uses = dict(origin.models), branch.uses or {}
    options: list[list[str]] = []
    for role in prompt.live_roles:
        likeliest = (branch.models.get(role), before.get(role), *(job.models if role in uses else ()))
        known = dict.fromkeys(alias for alias in likeliest if alias in job.models)
        options.append([alias for alias in known if role not in uses or job.models[alias].use == uses[role]])
    for aliases in product(*options):
        yield tuple(zip(prompt.live_roles, aliases, strict=True))


def branch_id(branch: Branched, scene: Scene, models: Casting, repeat: int) -> str:
    """The id of a conversation that goes on with another: what both have, and all that is sent and said besides.

    KeyError names a field of its texts that has no value here: nobody has checked this prompt in this pairing.
    """
    scene.look(models)
    scene.cast(models, scene.stage(models), "")
    asked = scene.identities(models).of(repeat)
    return hashed(f"tertulia branch 2\n{branch.origin}\n{branch.how}\n{branch.through}\n{asked}")


def _older_id(branch: Branched) -> str:
    """The id that a branch had once: it followed from names, and said nothing of what is sent."""
    words = [branch.origin, branch.how, branch.through, branch.number, branch.prompt, branch.pairing, branch.rounds]
    words += [f"{role}={alias}" for role, alias in branch.models.items()]
    return hashed("\n".join(("tertulia branch 1", *map(str, words))))


def fits(prompt: Prompt, roles: Sequence[str]) -> bool:
    """True when lines of these roles may be the first of a prompt's conversation."""
    size, beats = len(prompt.cycle), Counter(beat.by for beat in prompt.cycle)
    return not any(Counter(roles[first : first + size]) - beats for first in range(0, len(roles), size))


def script_end(prompt: Prompt, rounds: int) -> tuple[str, int] | None:
    """Whose script ends before so many rounds do, and after which; None when none does."""
    for role in prompt.roles:
        most = len(role.script or ()) // max(1, sum(beat.by == role.name for beat in prompt.cycle))
        if role.script is not None and most < rounds:
            return role.name, most
    return None


def _rounds(job: Job, cell: Cell) -> int:
    return job.prompts[cell.prompt].rounds if cell.branch is None else cell.branch.rounds


def _budget(job: Job) -> Budget:
    return Budget(
        run=job.budget,
        conversation=job.conversation_budget,
        providers=job.provider_budgets,
        models=job.model_budgets,
        pairings={p.position: p.budget for p in job.pairings if p.budget is not None},
        conversations={p.position: p.conversation_budget for p in job.pairings if p.conversation_budget is not None},
        day=job.day_budget,
        month=job.month_budget,
        observers={
            ceiling_name(prompt, one): one.budget
            for prompt in job.prompts.values()
            for one in prompt.after
            if one.budget is not None
        },
    )


def _seed(seed: int, cell: str) -> int:
    # 31 bits: some servers take no more.
    return int.from_bytes(sha256(f"{seed}:{cell}".encode()).digest()[:4], "big") >> 1


# --- names -------------------------------------------------------------------------------------------------------


def _marked(name: str, id_: str) -> str:
    folder, _, last = name.partition("/")
    return f"{folder}/{fitted(last, LONGEST - 9)}-{id_[:8]}"


class _Grafted:
    """Gives branches their names: each another, and none too long for a file."""

    def __init__(self, planned: Iterable[Cell]) -> None:
        self.whole = {cell.id: cell.name for cell in planned}
        """The names without anything left out, by id: those of further branches begin with them."""
        self._taken = {name.casefold() for name in self.whole.values()}

    def given(self, id_: str, whole: str) -> str:
        """The name of a conversation that would be called so."""
        name, mark = _bounded(whole), id_
        while name.casefold() in self._taken:
            name = whole = _marked(whole, mark)
            mark = hashed(mark)
        self.whole[id_] = whole
        self._taken.add(name.casefold())
        return name


def _bounded(name: str) -> str:
    """`p/a~b.extend1x30` for what went on thirty times in the same way; what is short enough stays as it is."""
    folder, _, last = name.partition("/")
    if len(last) > _LONGEST_BRANCH:
        last = _AGAIN.sub(lambda found: f"{found[1]}x{len(found[0]) // len(found[1])}", last)
    return f"{folder}/{fitted(last, _LONGEST_BRANCH)}"


@dataclass(frozen=True, slots=True)
class _Name:
    """What the repeats of one conversation are called."""

    folder: str
    sides: str
    pairing: str

    def repeated(self, repeat: int) -> str:
        ending = self.pairing if repeat == 1 else f"{self.pairing}.r{repeat}"
        return f"{self.folder}/{fitted(self.sides, LONGEST - len(ending))}{ending}"


def _names(job: Job, cast: Mapping[tuple[str, int], Sequence[Casting]]) -> dict[tuple[str, int], list[_Name]]:
    """The names of each scene's castings; of the same casting in a later pairing, with that pairing's position."""
    used = dict.fromkeys(alias for some in cast.values() for casting in some for _, alias in casting)
    models = [job.models[alias] for alias in used]
    sides = apart({m.alias: choices(m.alias, m.provider, m.id) for m in models})
    folders = apart({p: (fitted(slug(p)), f"{fitted(slug(p), LONGEST - 9)}-{short(p)}") for p in job.prompts})
    first: dict[tuple[str, Casting], int] = {}
    names: dict[tuple[str, int], list[_Name]] = {}
    for (prompt, pairing), some in cast.items():
        names[prompt, pairing] = [
            _Name(
                folders[prompt],
                "~".join(sides[alias] for _, alias in casting),
                "" if first.setdefault((prompt, casting), pairing) == pairing else f".p{pairing}",
            )
            for casting in some
        ]
    return names
