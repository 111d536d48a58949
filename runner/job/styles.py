"""A style of the user's own: one Python file beside the job. It is the user's code, and runs with the user's rights.

Only its time is bounded. It runs in this process, so that it has the real conversation and its mistakes their lines;
what still works after `LONGEST` seconds is interrupted where it is. Code in C that never comes back cannot be, and no
signal is heard meanwhile: it ends the process, after `LAST` seconds.
"""

from __future__ import annotations

import faulthandler
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Any, Final

from runner.job.files import Files, Misread
from runner.render.style import StyleError

LONGEST: Final = 5.0
"""Seconds for one conversation. No call is answered meanwhile, so it is far below any timeout of one."""
_AGAIN: Final = 0.5
"""Seconds after which code that went on is interrupted once more."""
LAST: Final = 30.0
"""Seconds after which nothing but the end of the process helps; calls in flight may still come home until then."""
_STDERR: Final = 2
_MOST_BYTES: Final = 1024 * 1024


class TooLong(BaseException):
    """The user's code was interrupted; no `except Exception` of it takes this for an error of its own."""


def style_module(folder: Path, name: str, files: Files | None = None, longest: float = LONGEST) -> ModuleType:
    """The file called `name`, seen from the job's folder, run as a module. StyleError where it cannot be read.

    Once its `render` was interrupted, it is not called again: a night loses that time once.
    """
    files = files or Files()
    try:
        path = files.inside(files.root(folder / "job"), folder, name)
        source = files.read(path, _MOST_BYTES)
    except Misread as error:
        raise StyleError(f"{name}: {error}") from None
    module = ModuleType(f"style_{path.stem}")
    module.__file__ = str(path)
    with _bounded(longest):
        exec(compile(source, str(path), "exec"), module.__dict__)
    if callable(render := getattr(module, "render", None)):
        module.__dict__["render"] = _once_too_long(render, longest)
    return module


def _once_too_long(render: Callable[..., Any], longest: float) -> Callable[..., Any]:
    was: TooLong | None = None
    where: TracebackType | None = None

    @wraps(render)
    def bounded(*given: Any) -> Any:
        nonlocal was, where
        if was is not None:
            raise was.with_traceback(where)
        try:
            with _bounded(longest):
                return render(*given)
        except TooLong as error:
            was, where = error, error.__traceback__
            raise

    return bounded


@contextmanager
def _bounded(longest: float) -> Iterator[None]:
    """TooLong where what is done within takes longer; only the main thread, where nights are held, can be told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    at_work = True

    def ring(number: int, frame: FrameType | None) -> None:
        if at_work:
            raise TooLong(f"still at work after {longest:g} s, and interrupted")

    before = signal.signal(signal.SIGALRM, ring)
    began = time.monotonic()
    left, every = signal.setitimer(signal.ITIMER_REAL, longest, _AGAIN)
    with suppress(RuntimeError):  # no thread is to be had, and what is well written needs none
        # It watches without the interpreter, which belongs to the code that hangs, and tells where that is.
        faulthandler.dump_traceback_later(LAST, exit=True, file=_STDERR)
    try:
        yield
    finally:
        at_work = False
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)
        if left:
            # Somebody else's alarm goes on, and rings at once where it is overdue.
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - began)), every)
