"""From a job to its conversations: cells in plan order, their names, and what each of them is.

Plan order is breadth first (repeat, then prompt, then pairing), so that a budget that runs out leaves even coverage.
A cell is a few words; the conversation behind it is built when it is asked for, from parts that all cells share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import chain

from runner.conversation import Conversation, Participant
from runner.job.cells import Casting, Scene
from runner.job.job import Job, Model, Provider
from runner.job.naming import LONGEST, apart, choices, fitted, short, slug
from runner.job.problem import JobError, Problem
from runner.money import Nanos

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


@dataclass(frozen=True, slots=True)
class Plan:
    """A job on a date: all its cells, and the models and providers that they use."""

    job: Job
    date: str
    cells: tuple[Cell, ...]
    models: Mapping[str, Model]
    providers: Mapping[str, Provider]
    by_id: Mapping[str, Cell]
    budget: Budget
    _scenes: Mapping[tuple[str, int], Scene] = field(repr=False, compare=False)

    def conversation(self, cell: Cell) -> Conversation:
        """The conversation in full; equal each time it is asked for."""
        scene = self._scenes[cell.prompt, cell.pairing]
        stage = scene.stage(cell.models)
        live = {part.participant.role: part.participant for part in scene.parts(cell.models)}
        participants = tuple(
            replace(live[role.name], system=stage.systems[role.name])
            if role.live
            else Participant(role.name, role.label or role.name, live=False)
            for role in scene.prompt.roles
        )
        return Conversation(
            id=cell.id,
            name=cell.name,
            prompt=cell.prompt,
            repeat=cell.repeat,
            participants=participants,
            lines=stage.lines,
            context=stage.context,
            opening=stage.opening,
            send_seed=_seed(self.job.seed, cell.id) if self.job.send_seed else None,
        )


def make_plan(job: Job, date: str) -> Plan:
    """The plan of a job for a run that started on this date (`YYYY-MM-DD`, in the job's zone)."""
    scenes: dict[tuple[str, int], Scene] = {}
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
        _scenes=scenes,
    )


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
    )


def _seed(seed: int, cell: str) -> int:
    # 31 bits: some servers take no more.
    return int.from_bytes(sha256(f"{seed}:{cell}".encode()).digest()[:4], "big") >> 1


# --- names -------------------------------------------------------------------------------------------------------


def _marked(name: str, id_: str) -> str:
    folder, _, last = name.partition("/")
    return f"{folder}/{fitted(last, LONGEST - 9)}-{id_[:8]}"


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
