"""The event loop of a night: whatever comes at once is looked at in parts, so that nothing else is late for long.

Very many calls that left together are answered together. A loop takes all that has come before it looks at its timers
again, and with ten thousand answers that is seconds later. This one takes a few, and is as fast as any on the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from selectors import DefaultSelector, SelectorKey
from typing import Final

_AT_A_TIME: Final = 16
"""So many connections are looked at in one round of the loop."""
FEW_CALLS: Final = 256
"""All answers to so many calls are soon looked at, even at once."""


class FewAtATime(DefaultSelector):  # type: ignore[misc, valid-type, unused-ignore] # which one it is, the system says
    """Tells of a few that are ready; of the others next time, before it looks again, so that nobody is passed over."""

    def __init__(self) -> None:
        super().__init__()
        self._left: list[tuple[SelectorKey, int]] = []
        """Those that were found ready and not told of, the last first."""

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if not self._left:
            self._left = super().select(timeout)
            self._left.reverse()
        told, self._left = self._left[-_AT_A_TIME:], self._left[:-_AT_A_TIME]
        told.reverse()
        # Who was told of in between may have closed, or changed, one of the others.
        known = self.get_map()
        return [(key, events) for key, events in told if known.get(key.fd) is key]


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop that looks at a few of many."""
    return asyncio.SelectorEventLoop(FewAtATime())


def loop_for(calls: int) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make the loop of a night with at most so many calls at a time.

    Where they are few it is uvloop's, if that is installed: it is faster, and takes all that has come at once.
    """
    if calls > FEW_CALLS or find_spec("uvloop") is None:
        return new_loop
    import uvloop

    return uvloop.new_event_loop
