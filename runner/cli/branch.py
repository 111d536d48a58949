"""`extend`, `fork`, `redo` and `observe`: go on with conversations that are there, mend them, have them commented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from runner.cli.door import answered, outputs_option, say

if TYPE_CHECKING:
    from runner.branches import Wish
    from runner.cli.runs import Run
    from runner.events import Engaged
    from runner.job import Job

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
@click.option("--observer", metavar="MODEL", help="A model of the job, beside the observers that the job names.")
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

    def engaged(job: Job) -> Engaged | None:
        return None if observer is None or question is None else _engaged(job, observer, question, heading)

    return _hold(run, outputs, job_file, budget, only=conversations, engaged=engaged, observers_only=True)


def _engaged(job: Job, observer: str, question: str, heading: str) -> Engaged:
    from dataclasses import asdict

    from runner.call import has_text
    from runner.events import Engaged
    from runner.job.job import Listener
    from runner.job.problem import did_you_mean, listed

    if observer not in job.models:
        hint = did_you_mean(observer, job.models) or f"the job has {listed(list(job.models))}"
        raise click.BadParameter(f"there is no model {observer}; {hint}", param_hint="--observer")
    if question.startswith("@"):
        try:
            question = Path(question[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{question[1:]} cannot be read: {error}", param_hint="--prompt") from None
    if not has_text(question):
        raise click.BadParameter("this text is blank", param_hint="--prompt")
    listener = Listener("notes", observer, question.strip("\n"), heading=heading)
    return Engaged(tuple(job.prompts), asdict(listener))


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
    engaged: Any = None,
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
    options = Options(
        key=found.folder.name,
        budget=None if budget is None else dollars_of(budget),
        only=only,
        wish=wish,
        engaged=None if engaged is None else engaged(source.job),
        observers_only=observers_only,
    )
    code = hold([source], options, found.folder.parent.parent)
    say(f"look at it: {found.command('status')}")
    return code


def _job_of(run: Run) -> tuple[Path, list[str]]:
    """The job file with which a run was last gone on with, and what was changed in it."""
    from runner.cli.runs import scanned

    opened = scanned(run).state.opened
    if not opened:
        raise click.UsageError(f"{run.name} never began: there is nothing to go on with.")
    options = opened[-1][1].options
    return Path(str(options.get("file", ""))), [str(one) for one in options.get("sets", ())]
