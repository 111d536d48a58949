"""`extend`, `fork`, `redo` and `observe`: go on with conversations that are there, mend them, comment on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from runner.cli.door import answered, outputs_option, say

if TYPE_CHECKING:
    from runner.branches import Wish
    from runner.cli.runs import Run
    from runner.events import Engaged
    from runner.night import Source

_RUN = click.argument("run")
_CONVERSATIONS = click.argument("conversations", nargs=-1, required=True, metavar="CONVERSATION...")
_JOB = click.option(
    "--job",
    "job_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The job file, where it is not any more where the run had it.",
)
_BUDGET = click.option("--budget", metavar="DOLLARS", help="The ceiling of the run, in place of the job's.")


def _pairs(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        role, sign, alias = text.partition("=")
        if not (role and sign and alias):
            raise click.BadParameter(f"{text} is not ROLE=MODEL")
        found[role] = alias
    return found


@click.command()
@_RUN
@_CONVERSATIONS
@click.option("--rounds", type=click.IntRange(min=1), required=True, metavar="N", help="So many rounds more.")
@outputs_option
@_JOB
@_BUDGET
@answered
def extend(
    run: str, conversations: tuple[str, ...], rounds: int, outputs: Path, job_file: Path | None, budget: str | None
) -> int:
    """Let complete conversations go on for some rounds more. What was said stays, and is not paid for again."""
    return _branch(run, outputs, job_file, budget, "extend", conversations, more_rounds=rounds)


@click.command()
@_RUN
@_CONVERSATIONS
@click.option("--at", "turn", type=click.IntRange(min=0), required=True, metavar="TURN", help="The last turn to keep.")
@click.option(
    "--model", "models", multiple=True, callback=_pairs, metavar="ROLE=MODEL", help="Another model for one side."
)
@click.option("--prompt", metavar="NAME", help="Another prompt of the job.")
@click.option("--rounds", type=click.IntRange(min=1), default=None, metavar="N", help="So many rounds more.")
@outputs_option
@_JOB
@_BUDGET
@answered
def fork(
    run: str,
    conversations: tuple[str, ...],
    turn: int,
    models: dict[str, str],
    prompt: str | None,
    rounds: int | None,
    outputs: Path,
    job_file: Path | None,
    budget: str | None,
) -> int:
    """Branch conversations after a turn: what follows is said anew, with other models or another prompt if you like."""
    wish = {"turn": turn, "models": models, "prompt": prompt, "more_rounds": rounds or 0}
    return _branch(run, outputs, job_file, budget, "fork", conversations, **wish)


@click.command()
@_RUN
@_CONVERSATIONS
@click.option(
    "--turn",
    type=click.IntRange(min=1),
    metavar="TURN",
    help="The first turn to say again; without it the first that failed, was cut off or refused.",
)
@outputs_option
@_JOB
@_BUDGET
@answered
def redo(
    run: str, conversations: tuple[str, ...], turn: int | None, outputs: Path, job_file: Path | None, budget: str | None
) -> int:
    """Drop bad turns of conversations, and all that answers them, and say them again. The old ones are kept beside."""
    return _branch(run, outputs, job_file, budget, "redo", conversations, turn=turn)


@click.command()
@_RUN
@click.argument("conversations", nargs=-1, metavar="[CONVERSATION...]")
@click.option(
    "--observer",
    metavar="MODEL",
    help="A model, beside the observers of the job; as in a job, by its name or as provider/model-id.",
)
@click.option("--prompt", "question", metavar="TEXT", help="What the observer is asked; @FILE reads it from a file.")
@click.option("--heading", default="Notes", show_default=True, help="What stands above its words in the transcript.")
@outputs_option
@_JOB
@_BUDGET
@answered
def observe(
    run: str,
    conversations: tuple[str, ...],
    observer: str | None,
    question: str | None,
    heading: str,
    outputs: Path,
    job_file: Path | None,
    budget: str | None,
) -> int:
    """Have complete conversations commented on: by the observers that the job names, or by one more."""
    if (observer is None) != (question is None):
        raise click.UsageError("--observer and --prompt belong together.")

    def engaged(source: Source, of: Run) -> tuple[Source, Engaged | None]:
        if observer is None or question is None:
            return source, None
        return _engaged(source, of, observer, question, heading)

    return _hold(run, outputs, job_file, budget, only=conversations, engaged=engaged, observers_only=True)


def _engaged(source: Source, run: Run, observer: str, question: str, heading: str) -> tuple[Source, Engaged]:
    """The job in which the observer is known, and what he is asked."""
    from dataclasses import asdict

    from runner.call import has_text
    from runner.events import Engaged
    from runner.job.job import Listener
    from runner.job.problem import did_you_mean, listed

    known = _known(source, run, observer)
    job = known.source.job
    if known.alias not in job.models and known.model is None:
        hint = did_you_mean(observer, job.models) or f"the job has {listed(list(job.models))}"
        raise click.BadParameter(f"there is no model {observer}; {hint}", param_hint="--observer")
    if question.startswith("@"):
        try:
            question = Path(question[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{question[1:]} cannot be read: {error}", param_hint="--prompt") from None
    if not has_text(question):
        raise click.BadParameter("this text is blank", param_hint="--prompt")
    listener = Listener("notes", known.alias, question.strip("\n"), heading=heading)
    return known.source, Engaged(tuple(job.prompts), asdict(listener), model=known.model)


# --- holding -----------------------------------------------------------------------------------------------------


def _branch(
    run: str,
    outputs: Path,
    job_file: Path | None,
    budget: str | None,
    how: Literal["extend", "fork", "redo"],
    conversations: Sequence[str],
    **given: Any,
) -> int:
    from runner.branches import Wish

    return _hold(run, outputs, job_file, budget, wish=Wish(how, tuple(conversations), **given))


def _hold(
    run: str,
    outputs: Path,
    job_file: Path | None,
    budget: str | None,
    *,
    wish: Wish | None = None,
    only: tuple[str, ...] = (),
    engaged: Callable[[Source, Run], tuple[Source, Engaged | None]] = lambda source, of: (source, None),
    observers_only: bool = False,
) -> int:
    """One more life of a run, about nothing but this."""
    from runner.cli.hold import dollars_of, hold, load_all
    from runner.cli.runs import find
    from runner.plan import slug
    from runner.selection import Options

    found = find(outputs, run)
    path, sets = _job_of(found)
    path = job_file or path
    if not path.is_file():
        raise click.UsageError(f"The job of {found.name} was {path}, and is not there: name its file with --job.")
    (source,) = load_all([path], sets)
    if slug(source.job.name) != found.folder.parent.name:
        raise click.UsageError(f"{path} is the job {source.job.name}, and {found.name} is a run of another one.")
    source, added = engaged(source, found)
    options = Options(
        key=found.folder.name,
        budget=None if budget is None else dollars_of(budget),
        only=only,
        wish=wish,
        engaged=added,
        observers_only=observers_only,
    )
    code = hold([source], options, found.folder.parent.parent)
    say(f"look at it: {found.command('status')}")
    return code


class _Known(NamedTuple):
    """The model that is meant, and the job that knows it."""

    source: Source
    alias: str
    model: Mapping[str, Any] | None = None
    """What it is, where the job does not name it and only its provider."""


def _known(source: Source, run: Run, model: str) -> _Known:
    """The model that the job calls so; `provider/model-id` needs no entry, as in a job file."""
    from runner.cli.hold import load_all
    from runner.cli.runs import scanned
    from runner.job.naming import choices

    job = source.job
    provider, _, id_ = model.partition("/")
    if model in job.models or not (provider and id_):
        return _Known(source, model)
    for alias, known in job.models.items():
        if (known.provider, known.id) == (provider, id_):
            return _Known(source, alias)
    earlier = {str(one.listener["model"]): one.model for one in scanned(run).state.engaged if one.model is not None}
    for alias, known_then in earlier.items():
        if alias not in job.models and (known_then["provider"], known_then["id"]) == (provider, id_):
            return _Known(source, alias, known_then)
    taken = {alias.casefold() for alias in (*job.models, *earlier)}
    # A dot would part the name where `--set` names it.
    names = (name.replace(".", "-") for name in choices(id_.rpartition("/")[2], provider, id_))
    alias = next(name for name in names if name.casefold() not in taken)
    change = f"models.{alias}.use={model}"
    (wider,) = load_all([Path(source.file)], [*source.sets, change])
    if provider not in job.providers:
        say(f"the job has no provider {provider}: for this observer a later `tertulia run` needs --set {change}")
        return _Known(wider, alias)
    one = wider.job.models[alias]
    return _Known(source, alias, {"provider": provider, "id": one.id, "free": one.free, "context": one.context})


def _job_of(run: Run) -> tuple[Path, list[str]]:
    """The job file with which a run was last gone on with, and what was changed in it."""
    from runner.cli.runs import scanned

    opened = scanned(run).state.opened
    if not opened:
        raise click.UsageError(f"{run.name} never began: there is nothing to go on with.")
    options = opened[-1][1].options
    return Path(str(options.get("file", ""))), [str(one) for one in options.get("sets", ())]
