"""What the commands share: their outputs folder, how they speak, and how their failures become exit codes."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")
_NEW_ONES: Final = (1_000, 10, 1_000_000)
"""When garbage is looked for: after so many new objects, then among those of ten times, and among all of them never."""
_ALL_SECONDS: Final = 3600.0
"""So often all objects are looked through after all."""


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


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """`--json`: the answer for programs; `ended` keeps its promise."""
    return click.option(
        "--json", "as_json", is_flag=True, help="One JSON object a line, the last of them the end with its exit code."
    )(command)


def emit(record: Mapping[str, Any]) -> None:
    """A line for programs, on stdout; in ASCII, because nothing in it can then act on a terminal."""
    import json

    click.echo(json.dumps(record))


def emit_end(code: int, errors: Sequence[str] = ()) -> None:
    """The last line for programs: what the command came to, and why it could not do what it was asked for."""
    from contextlib import suppress

    with suppress(OSError):  # what cannot be written may be the very trouble
        emit({"event": "end", "exit": code, "errors": list(errors)})


def failure_of(error: BaseException) -> tuple[int, list[str]]:
    """The exit code and the lines of whatever a command raises, a bug included."""
    if isinstance(error, click.ClickException):
        return 2, [error.format_message()]
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 130, ["interrupted"]
    answer = answer_of(error) if isinstance(error, Exception) else None
    return answer or (1, [repr(error)])


def ended(command: Callable[P, int]) -> Callable[P, int]:
    """With `--json`, exactly one `end` is the last line on stdout, however the command ends."""

    @wraps(command)
    def telling(*args: P.args, **kwargs: P.kwargs) -> int:
        if not kwargs["as_json"]:
            return command(*args, **kwargs)
        try:
            code = command(*args, **kwargs)
        except BrokenPipeError:
            raise
        except click.ClickException as error:
            # Here and not at the one door, which tells programs of what it could not even parse.
            error.show()
            emit_end(*failure_of(error))
            return 2
        except BaseException as error:
            emit_end(*failure_of(error))
            raise
        emit_end(code)
        return code

    return telling


def say(line: str) -> None:
    """A line for people, on stderr; whoever has left misses it, and the exit code stays what it is."""
    from contextlib import suppress

    from runner.foreign import visible

    with suppress(OSError):
        click.echo(visible(line), err=True)


def answer_of(error: Exception) -> tuple[int, list[str]] | None:
    """The exit code and the lines for what a command raises for its user; None for a bug."""
    from runner.foreign import in_words
    from runner.job import JobError
    from runner.lines import Damaged, StorageError, TooNew
    from runner.preflight import CannotBegin
    from runner.state import HistoryError
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
    if isinstance(error, OSError) and (error.filename is not None or error.errno in (ENOSPC, EDQUOT)):
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
            if isinstance(error, OSError) and error.filename is None:
                # It is our own answer that finds no room; nothing more may be written there, not even at exit.
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


@contextmanager
def garbage_of_late() -> Iterator[None]:
    """Meanwhile garbage is looked for among the newest objects alone, a few at a time.

    What is here by now stays, and what goes round in circles later does so from the start: a handful of objects in
    thousands of calls. To look through all of them would make everybody wait, for a second with ten thousand calls in
    flight. When the process ends, what is there by then goes with it: the interpreter would look through all of it
    once more, for seconds.
    """
    often = gc.get_threshold()
    atexit.register(gc.freeze)
    gc.freeze()
    gc.set_threshold(*_NEW_ONES)
    try:
        yield
    finally:
        gc.set_threshold(*often)
        gc.unfreeze()


async def look_for_garbage(seconds: float) -> None:
    """Meanwhile it is also looked for each time so many seconds have passed; what is here by now stays.

    The interpreter counts how many more objects there are, not how many are new. When answers come in a wave each of
    them takes the place of what waited for it, and a hundred thousand new objects count as hardly any.
    """
    import anyio

    gc.freeze()
    for look in count(1):
        await anyio.sleep(seconds)
        gc.collect(1 if look % round(_ALL_SECONDS / seconds) else 2)
