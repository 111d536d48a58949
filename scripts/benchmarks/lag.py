"""A program of this process, and beside it how late its event loop comes to what is due.

    python -m scripts.benchmarks.lag FILE MODULE ARGUMENTS...

runs the module as `python -m` would, and writes to FILE, of every ten milliseconds, when it was and how late that came.
"""

from __future__ import annotations

import asyncio
import contextvars
import runpy
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

_EVERY: Final = 0.01
_Result = TypeVar("_Result")


def watch(file: Path) -> None:
    """Let every loop that this process runs from now on be watched."""
    plain = asyncio.Runner.run

    def run(
        self: asyncio.Runner, coro: Coroutine[Any, Any, _Result], *, context: contextvars.Context | None = None
    ) -> _Result:
        found: list[tuple[float, float]] = []
        try:
            return plain(self, _watched(coro, found), context=context)
        finally:
            file.write_bytes(orjson.dumps(found))

    asyncio.Runner.run = run  # type: ignore[method-assign]


async def _watched(program: Coroutine[Any, Any, _Result], found: list[tuple[float, float]]) -> _Result:
    """A program, and a timer beside it for as long as it runs."""
    loop = asyncio.get_running_loop()
    runs = True

    def plan() -> None:
        loop.call_later(_EVERY, tick, time.monotonic() + _EVERY)

    def tick(due: float) -> None:
        now = time.monotonic()
        found.append((now, now - due))
        if runs:
            plan()

    plan()
    try:
        return await program
    finally:
        runs = False


def lags(file: Path, first: float, last: float) -> list[float]:
    """How late the loop came between two moments of the monotonic clock, in seconds, the shortest first."""
    found: list[tuple[float, float]] = orjson.loads(file.read_bytes())
    return sorted(late for at, late in found if first <= at <= last)


def part(sorted_: list[float], share: float) -> float:
    """The value that so large a part is below; 0 of nothing."""
    return sorted_[min(len(sorted_) - 1, int(share * len(sorted_)))] if sorted_ else 0.0


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
