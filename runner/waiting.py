"""A process waits until its part of the lanes is free, and says for whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from math import inf
from pathlib import Path
from typing import Final

import anyio

from runner.foreign import in_words
from runner.limits import Lane
from runner.run import EXIT_DEADLINE
from runner.shares import Shares, Wait
from runner.world import World

_ASK_AGAIN_SECONDS: Final = 1.0
_SECOND_TIME: Final = 600.0
_EACH_TIME: Final = 3600.0
"""After how long a run that waits says so a second time, and then how often."""

Tell = Callable[[str], None]


async def take_turn(shares: Shares, world: World, max_time: float | None, tell: Tell) -> int | None:
    """Wait until our share of all lanes is ours; the exit code when the run ended before."""
    code: int | None = None

    async def obey(signals: AsyncIterator[int], waiting: anyio.CancelScope) -> None:
        nonlocal code
        async for signal in signals:
            code = 128 + signal
            waiting.cancel()

    async with world.signals.listen() as signals, anyio.create_task_group() as tasks:
        tasks.start_soon(obey, signals, tasks.cancel_scope)
        with anyio.move_on_after(max_time) as bounded:
            await _until_taken(shares, tell)
        if bounded.cancelled_caught:
            code = EXIT_DEADLINE
        tasks.cancel_scope.cancel()
    if code is not None:
        why = "deadline" if code == EXIT_DEADLINE else "interrupted"
        tell(f"exit {code}: {why} before it was its turn; nothing was sent")
    return code


async def _until_taken(shares: Shares, tell: Tell) -> None:
    seen: Wait | None = None
    tell_again = 0.0
    try:
        while (wait := await shares.take()) is not None:
            now = anyio.current_time()
            if seen is None or wait != seen or now >= tell_again:
                tell_again = now + (_SECOND_TIME if wait != seen else _EACH_TIME)
                seen = wait
                for line in _in_line(wait, shares.asked):
                    tell(line)
            await anyio.sleep(_ASK_AGAIN_SECONDS)
    except OSError as error:
        tell(f"warning: {shares.folder}: {error.strerror}: other processes cannot tell what this one uses of its lanes")
        shares.go_alone()
    else:
        if seen is not None:
            tell(", ".join(lane.name + the_rest(lane) for lane in shares.lanes.values()) + ": it is its turn")


def _in_line(wait: Wait, asked: float | None) -> Iterator[str]:
    for other in wait.others:
        runs = ", ".join("/".join(Path(folder).parts[-2:]) for folder in other.runs)
        yield f"waiting for {', '.join(other.lanes)}: {in_words(other.holder)} is there" + (
            f", with {runs}" if runs else ""
        )
    if wait.soon:
        yield "  it makes room as soon as enough of its calls have landed"
    elif 0.0 < wait.room < (asked or inf):
        yield f"  to go on now, beside it, start this with --share {min(asked or 0.5, wait.room):g}"


def the_rest(lane: Lane) -> str:
    return "" if lane.share >= 1.0 else f" ({1.0 - lane.share:.0%} is left to other processes)"
