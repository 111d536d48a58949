"""What goes wrong at the border between one process and the operating system, and at which call.

The folder of this file stands first on the path of a process under test, so the interpreter imports it before all else.
Signals are then taken as by a process that a person started, whatever started the tests. Functions that change files
are wrapped, and their calls counted below one folder, each file for itself; a temporary file counts for the one it
becomes. `TRAPS` in the environment says what happens at which call (`tests.program.bench` writes it); what did happen
is noted in a file, so that a test can tell a fault survived from a fault that never came. The loop is asyncio's own,
unless `UVLOOP` is in the environment.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import json
import os
import re
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

_TEMPORARY = re.compile(r"\A\.(.+)\.\d+-\d+\.tmp\Z")
_open, _write, _close = os.open, os.write, os.close


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    while True:
        time.sleep(1)


class _Border:
    def __init__(self, told: dict[str, Any]) -> None:
        self.under = told["under"] + os.sep
        self.noted = told["noted"]
        self.traps: list[dict[str, Any]] = told["traps"]
        self.lock = threading.Lock()
        self.calls: Counter[str] = Counter()
        self.paths: dict[int, str] = {}
        self.due: dict[int, int] = {}
        """Errors that follow a short write, by descriptor."""
        self.full = 0
        """The error of every write until something is removed."""
        self.broken = 0
        """The error of every change from now on."""
        self.threadless = False

    def file(self, where: Any) -> str | None:
        """The name that a path, or a descriptor, counts for; None when it is no business of ours."""
        path = self.paths.get(where) if isinstance(where, int) else os.path.abspath(os.fsdecode(where))
        if path is None or not path.startswith(self.under):
            return None
        name = os.path.basename(path)
        temporary = _TEMPORARY.match(name)
        return temporary[1] if temporary else name

    def trap(self, call: str, file: str, args: Sequence[Any]) -> dict[str, Any] | None:
        with self.lock:
            self.calls[f"{call} {file}"] += 1
            for trap in self.traps:
                if trap["call"] != call or trap["file"] not in (None, file):
                    continue
                if call == "write" and trap["holding"].encode() not in bytes(args[1]):
                    continue
                trap["number"] -= 1
                if trap["number"] == 0:
                    self.note(trap)
                    return trap
        return None

    def note(self, what: dict[str, Any]) -> None:
        descriptor = _open(self.noted, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        _write(descriptor, json.dumps(what).encode() + b"\n")
        _close(descriptor)

    def sum_up(self) -> None:
        self.note({"calls": self.calls})

    def call(self, call: str, where: Any, real: Callable[..., Any], *args: Any, **given: Any) -> Any:
        file = self.file(where)
        if file is None:
            return real(*args, **given)
        if self.broken:
            raise OSError(self.broken, os.strerror(self.broken))
        trap = self.trap(call, file, args)
        if trap is not None:
            return self.spring(trap, call, real, *args, **given)
        if call == "write" and (number := self.due.pop(where, 0) or self.full):
            raise OSError(number, os.strerror(number))
        if call == "remove":
            self.full = 0
        return real(*args, **given)

    def spring(self, trap: dict[str, Any], call: str, real: Callable[..., Any], *args: Any, **given: Any) -> Any:
        what = trap["what"]
        if what == "kill":
            _die()
        if what == "kill half-way":
            real(args[0], args[1][: len(args[1]) // 2], *args[2:])
            _die()
        if what == "kill after":
            real(*args, **given)
            _die()
        if what == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
            return real(*args, **given)
        if what == "stand still":
            os.kill(os.getpid(), signal.SIGSTOP)
            return real(*args, **given)
        if what == "hang":
            time.sleep(3600)
        if what == "start a child":
            import subprocess  # late: every process under test would wait for it

            # Told to keep every descriptor that may be inherited, as an old-fashioned program would.
            child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(3600)"], close_fds=False)
            self.note({"child": child.pid})
            return real(*args, **given)
        if what == "limit the file":
            size = os.lseek(args[0], 0, os.SEEK_END) + len(args[1]) // 2
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            return real(*args, **given)
        number = getattr(errno, what)
        if trap["lasts"] == "for good":
            self.broken = number
        elif trap["lasts"] == "until something is removed":
            self.full = number
        if call == "write" and number in (errno.ENOSPC, errno.EDQUOT):
            # A disk takes what it still has room for, and says so only when it is asked for more.
            self.due[args[0]] = number
            return real(args[0], args[1][: len(args[1]) // 2], *args[2:])
        raise OSError(number, os.strerror(number))


def _watch(border: _Border) -> None:
    def opened(path: Any, flags: int, *args: Any, **given: Any) -> int:
        if not flags & (os.O_WRONLY | os.O_RDWR):
            descriptor = _open(path, flags, *args, **given)
        else:
            descriptor = border.call("open", path, _open, path, flags, *args, **given)
        if descriptor < 3 and border.file(path) is not None:
            border.note({"what": f"{path} was given the number {descriptor}"})
        border.paths[descriptor] = os.path.abspath(os.fsdecode(path))
        border.due.pop(descriptor, None)
        return int(descriptor)

    def closed(descriptor: int) -> None:
        border.paths.pop(descriptor, None)
        _close(descriptor)

    def watched(call: str, name: str, which: int = 0) -> None:
        real = getattr(os, name)

        def wrapped(*args: Any, **given: Any) -> Any:
            return border.call(call, args[which], real, *args, **given)

        setattr(os, name, wrapped)

    os.open = opened
    os.close = closed  # type: ignore[assignment]
    for call, name in (
        ("write", "write"),
        ("write", "pwrite"),
        ("sync", "fsync"),
        ("truncate", "ftruncate"),
        ("remove", "unlink"),
        ("make", "mkdir"),
    ):
        watched(call, name)
    watched("replace", "replace", which=1)
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS syncs by it
    if full is not None:
        control = fcntl.fcntl

        def controlled(descriptor: Any, command: int, *args: Any) -> Any:
            if command != full:
                return control(descriptor, command, *args)
            return border.call("sync", descriptor, control, descriptor, command, *args)

        fcntl.fcntl = controlled
    else:
        watched("sync", "fdatasync")

    start = threading.Thread.start

    def started(thread: threading.Thread) -> None:
        if border.trap("thread", "", ()) is not None:
            border.threadless = True
        if border.threadless:
            raise RuntimeError("can't start new thread")
        start(thread)

    threading.Thread.start = started  # type: ignore[assignment, method-assign]


signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
if "UVLOOP" not in os.environ:
    sys.modules["uvloop"] = None  # type: ignore[assignment] # as if it were not installed
if "TRAPS" in os.environ:
    border = _Border(json.loads(os.environ["TRAPS"]))
    _watch(border)
    atexit.register(border.sum_up)
