"""What the commands share: their outputs folder, how they speak, and how their failures become exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")


def outputs_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--outputs DIR`: where the runs are."""
    return click.option(
        "--outputs",
        "outputs",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path("outputs"),
        envvar="TERTULIA_OUTPUTS",
        show_default=True,
        help="The folder with all runs.",
    )(command)


def say(line: str) -> None:
    """A line for people, on stderr; whoever has left misses it, and the exit code stays what it is."""
    from contextlib import suppress

    from runner.foreign import visible

    with suppress(OSError):
        click.echo(visible(line), err=True)


def answer_of(error: Exception) -> tuple[int, list[str]] | None:
    """The exit code and the lines for what a command raises for its user; None for a bug."""
    from runner.events import HistoryError
    from runner.foreign import in_words
    from runner.job import JobError
    from runner.lines import Damaged, StorageError, TooNew
    from runner.preflight import CannotBegin
    from runner.world import LockHeld

    if isinstance(error, JobError):
        number = len(error.problems)
        count = f"{number} {'problem' if number == 1 else 'problems'}; nothing was sent"
        return 2, [*(problem.render() for problem in error.problems), count]
    if isinstance(error, CannotBegin):
        return error.code, list(error.lines)
    if isinstance(error, LockHeld):
        return 7, [f"this run is held by {in_words(error.holder)}"]
    if isinstance(error, Damaged | TooNew | StorageError):
        return 8, [str(error)]
    if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
        return 8, [f"{error.filename or 'what was to be written'}: {error.strerror}"]
    if isinstance(error, HistoryError):
        return 8, [f"the journal contradicts itself: {error}"]
    return None


def answered(command: Callable[P, Any]) -> Callable[P, int]:
    """Turn what a command raises for its user into lines on stderr and an exit code; a bug stays a traceback."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            code = command(*args, **kwargs)
        except BrokenPipeError:
            # Whoever read the answer has seen enough of it; nothing more may be written, not even at exit.
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            return 0
        except Exception as error:
            answer = answer_of(error)
            if answer is None:
                raise
            if isinstance(error, OSError):
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            code, lines = answer
            for line in lines:
                say(line)
        return code if isinstance(code, int) else 0

    return guarded


def terminal() -> bool:
    """True when a person watches stderr, so that it may be drawn on."""

    watched = sys.stderr is not None and sys.stderr.isatty()
    return watched and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
