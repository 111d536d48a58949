"""Conversations that go on with others of their run: longer, from an earlier turn with other models, or mended.

A branch has the first lines of its origin, which stays as it is, and is a conversation of the run like any other from
then on: it has an id, a budget, a transcript, and goes on at the next `run` if it did not come to its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

from runner.events import Branched, Heard
from runner.job.cells import Scene
from runner.job.job import Prompt
from runner.job.problem import did_you_mean, listed
from runner.plan import Cell, Plan, branch_id, fits, script_end
from runner.preflight import EXIT_JOB, CannotBegin
from runner.render.figures import counted
from runner.state import State
from runner.talk import Said, Talk


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of conversations that are there."""

    how: Literal["extend", "fork", "redo"]
    patterns: tuple[str, ...]
    turn: int | None = None
    """Of a fork: the last turn that is kept. Of a redo: the first that is said again; None: the first bad one."""
    more_rounds: int = 0
    models: Mapping[str, str] = field(default_factory=dict)
    """Role to alias, for the sides that change."""
    prompt: str | None = None


TalkOf: TypeAlias = Callable[[Cell], Talk]


class _CannotBranchError(Exception):
    """This conversation cannot be gone on with so."""


def branched(wish: Wish, plan: Plan, state: State, talk_of: TalkOf) -> list[Branched]:
    """A branch of each conversation that is meant, new or there already; CannotBegin with every reason against one."""
    meant = [cell for cell in plan.cells if any(fnmatchcase(cell.name, one) for one in wish.patterns)]
    if not meant:
        names = [cell.name for cell in plan.cells]
        hint = did_you_mean(wish.patterns[0], names) or f"there are: {listed(names, 8)}"
        what = f"{' '.join(wish.patterns)} names no conversation of {plan.job.name}"
        raise CannotBegin(EXIT_JOB, what, f"  {hint}")
    found: list[Branched] = []
    problems: list[str] = []
    for cell in meant:
        try:
            found.append(_branch(wish, plan, state, cell, talk_of(cell)))
        except _CannotBranchError as error:
            problems.append(f"  {cell.name}: {error}")
    if problems:
        raise CannotBegin(EXIT_JOB, f"{wish.how} is not possible, and nothing was changed:", *problems)
    return found


def waited_for_again(plan: Plan, cell: Cell, before: Talk) -> Iterator[str]:
    """What was said by hand in the origin of a branch, and the branch waits for: its own inbox has never held it."""
    branch = plan.conversation(cell)
    through = 0 if branch.origin is None else branch.origin.through
    for side in branch.participants:
        file = None if side.inbox is None else side.inbox.file
        numbers = [
            str(line.number)
            for line in before.conversation.lines[through : len(before.history)]
            if line.role == side.role and line.given is None and _was_elsewhere(before.said.get(line.number), file)
        ]
        if file is not None and numbers:
            turns, are = ("turn", "is") if len(numbers) == 1 else ("turns", "are")
            yield (
                f"{turns} {listed(numbers, 8)} of {side.role} {are} not taken over but waited for in {file}; "
                f"{before.conversation.name} has what was said there"
            )


def _was_elsewhere(said: Said | None, file: str | None) -> bool:
    """True for a line that came from outside, and not out of this file."""
    return said is not None and isinstance(said.event, Heard) and said.event.source != file


def _branch(wish: Wish, plan: Plan, state: State, cell: Cell, talk: Talk) -> Branched:
    through = _through(wish, state, cell, talk)
    prompt = _prompt(wish, plan, cell)
    models = _models(wish, plan, cell, prompt)
    branch = Branched(
        cell="",
        origin=cell.id,
        how=wish.how,
        through=through,
        number=1 + sum(_same_place(one, wish.how, cell, state) for one in state.branches.values()),
        prompt=prompt.name,
        pairing=cell.pairing,
        models=models,
        rounds=_rounds(wish, talk, prompt, through),
        roles=tuple(line.role for line in talk.conversation.lines[:through]),
        uses={role: plan.job.models[alias].use for role, alias in models.items()},
    )
    pairing = plan.job.pairings[cell.pairing - 1]
    scene = Scene(plan.job, replace(prompt, rounds=branch.rounds), pairing, plan.date)
    try:
        id_ = branch_id(branch, scene, tuple(models.items()), cell.repeat)
    except KeyError as error:
        what = f"{prompt.name} names {{{{{error.args[0]}}}}}, to which pairing {cell.pairing} gives no value"
        raise _CannotBranchError(what) from None
    # The same wish once more is the same conversation, or what stands in its place by now.
    there = plan.asked(id_)
    if there is not None and there.branch is not None:
        return there.branch
    if id_ in state.cells:
        raise _CannotBranchError("it was asked for when the job had other rounds; ask for another number of --rounds")
    return replace(branch, cell=id_)


def _same_place(other: Branched, how: str, cell: Cell, state: State) -> bool:
    """True for a branch that is counted before the next of this conversation; one that was mended keeps its name."""
    mended: str | None = cell.id
    while mended is not None and other.how == how:
        if mended == (other.cell if how == "redo" else other.origin):
            return True
        before = state.branches.get(mended)
        mended = before.origin if before is not None and before.how == "redo" else None
    return False


def _through(wish: Wish, state: State, cell: Cell, talk: Talk) -> int:
    """The last line that the branch has in common with its origin."""
    spoken, progress = len(talk.history), state.of(cell.id)
    if progress.open is not None:
        raise _CannotBranchError("a call of it is still open: `tertulia run` closes it")
    if progress.started is None and not progress.carried:
        raise _CannotBranchError("it has not begun")
    if wish.how == "extend":
        if progress.status != "complete":
            raise _CannotBranchError(f"it is {progress.status or 'not at its end'}; only what is complete grows longer")
        return spoken
    if wish.how == "fork":
        assert wish.turn is not None
        if wish.turn > spoken:
            raise _CannotBranchError(f"it has {counted(spoken, 'turn')}, and no turn {wish.turn}")
        return wish.turn
    if wish.turn is not None:
        if wish.turn > spoken + 1 or wish.turn > len(talk.conversation.lines):
            raise _CannotBranchError(f"it has {counted(spoken, 'turn')}, and no turn {wish.turn}")
        return wish.turn - 1
    if progress.status == "failed":
        return spoken
    if progress.flagged:
        return min(progress.flagged) - 1
    raise _CannotBranchError("none of its turns failed, was cut or refused: name one with --turn")


def _prompt(wish: Wish, plan: Plan, cell: Cell) -> Prompt:
    name = cell.prompt if wish.prompt is None else wish.prompt
    if name not in plan.job.prompts:
        names = plan.job.prompts
        raise _CannotBranchError(f"there is no prompt {name}; {did_you_mean(name, names) or listed(list(names))}")
    return plan.job.prompts[name]


def _models(wish: Wish, plan: Plan, cell: Cell, prompt: Prompt) -> dict[str, str]:
    models = {role: alias for role, alias in cell.models if role in prompt.live_roles} | dict(wish.models)
    for role, alias in models.items():
        if role not in prompt.live_roles:
            raise _CannotBranchError(f"{role} is no live role of {prompt.name}: {listed(list(prompt.live_roles))}")
        if alias not in plan.job.models:
            known = plan.job.models
            raise _CannotBranchError(f"there is no model {alias}; {did_you_mean(alias, known) or listed(list(known))}")
    missing = [role for role in prompt.live_roles if role not in models]
    if missing:
        raise _CannotBranchError(f"{missing[0]} of {prompt.name} has no model: add --model {missing[0]}=NAME")
    return {role: models[role] for role in prompt.live_roles}


def _rounds(wish: Wish, talk: Talk, prompt: Prompt, through: int) -> int:
    """How many rounds it has in the end; what was said must fit its prompt, and its scripts must reach."""
    conversation, spoken = talk.conversation, len(talk.history)
    if wish.how == "extend" and spoken:
        rounds = conversation.lines[spoken - 1].round + wish.more_rounds
    else:
        rounds = (conversation.rounds if prompt.name == conversation.prompt else prompt.rounds) + wish.more_rounds
    if (ends := script_end(prompt, rounds)) is not None:
        raise _CannotBranchError(f"the script of {ends[0]} ends after round {ends[1]}, and this has {rounds}")
    if not fits(prompt, [line.role for line in conversation.lines[:through]]):
        beats = [beat.by for beat in prompt.cycle]
        raise _CannotBranchError(f"its turns do not fit {prompt.name}, in which {listed(beats, 8)} speak in turn")
    if rounds * len(prompt.cycle) <= through:
        raise _CannotBranchError("nothing would be left to say: add --rounds")
    return rounds
