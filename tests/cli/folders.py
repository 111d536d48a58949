"""Runs on a real disk, held in a simulated world, and the commands as a shell calls them."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from runner.cli import main
from runner.journal import FILE, scan
from runner.state import State
from tests.nights import ROOT, Night
from tests.test_nights_lost import death_after

JOB = """
name: talk
budget: 0.50
defaults: {max_tokens: 500}
providers: {sim: {}}
models:
  ada: {use: sim/m, label: Ada, price: {input: 1, output: 3}}
  bo: {use: sim/n, label: Bo, price: {input: 2, output: 5}}
prompts:
  memory: {opening: "What survives?", rounds: 2}
  letter: {roles: {a: {script: ["Dear friend"]}, b: {}}}
pairings:
  - {prompt: memory, a: ada, b: bo}
  - {prompt: letter, b: [ada, bo]}
"""
MODEL: dict[str, Any] = {"price": {"input": 1, "output": 3}, "reply": {"mean": 12}}
SIM: dict[str, Any] = {"models": {"m": MODEL, "n": MODEL}}


def landed(night: Night, outputs: Path) -> None:
    """Put the files of a simulated run under a real folder."""
    for path, content in night.disk.files.items():
        place = outputs / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content[:10] if path.name == "spare" else content)


def killed_when(job: str, sim: Mapping[str, Any], holds: Callable[[State], bool]) -> Night:
    """A run that was killed at the first write to its journal after which that tells so."""
    for writes in range(1, 100):
        night = Night(job, sim)
        if night.live(fault=death_after(writes)).exit is not None:
            break
        if holds(scan(night.left(), night.folder / FILE).state):
            return night
    raise AssertionError("it never came to that")


@contextmanager
def denied(end: str) -> Iterator[None]:
    """Files whose paths end so can be neither read nor written, as if they were another user's."""

    def guarded(opens: Callable[..., Any]) -> Callable[..., Any]:
        def attempt(path: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(path, int) and os.fsdecode(path).endswith(end):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fsdecode(path))
            return opens(path, *args, **kwargs)

        return attempt

    with (
        patch("builtins.open", guarded(open)),
        patch("io.open", guarded(io.open)),
        patch("os.open", guarded(os.open)),
    ):
        yield


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


def tertulia(*arguments: str | Path, terminal: bool = False) -> Said:
    """Call the command line as a shell would, from the argument to the exit code."""
    out, err = Terminal() if terminal else io.StringIO(), io.StringIO()
    argv = ["tertulia", *map(str, arguments)]
    with patch.object(sys, "argv", argv), redirect_stdout(out), redirect_stderr(err):
        code = main()
    return Said(code, out.getvalue(), err.getvalue())
