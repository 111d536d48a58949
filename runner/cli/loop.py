"""The event loop of a night: whatever comes at once is looked at in parts, so that nothing else is late for long.

Very many calls that left together are answered together. A loop takes all that has come before it looks at its timers
again, and with ten thousand answers that is seconds later. This one takes a few, and is as fast as any on the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec
from select import POLLIN, poll
from selectors import EVENT_READ, DefaultSelector, SelectorKey
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
        self._pressing: set[int] = set()
        self._press = poll()

    def look_first_at(self, descriptor: int) -> None:
        """Look at something that is read each time, whoever else is ready."""
        self._pressing.add(descriptor)
        self._press.register(descriptor, POLLIN)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        if not self._left:
            found: list[tuple[SelectorKey, int]] = super().select(timeout)
            if len(found) <= _AT_A_TIME:
                return found
            found.reverse()
            self._left = found
        told, self._left = self._left[-_AT_A_TIME:], self._left[:-_AT_A_TIME]
        told.reverse()
        # Who was told of in between may have closed, or changed, one of the others.
        known, pressing = self.get_map(), self._pressing
        first = [(known[descriptor], EVENT_READ) for descriptor, _ in self._press.poll(0)]
        return first + [(key, events) for key, events in told if known.get(key.fd) is key and key.fd not in pressing]


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop that looks at a few of many."""
    selector = FewAtATime()
    loop = asyncio.SelectorEventLoop(selector)
    # So far there is only what signals and threads wake it by. It holds a few hundred of them; where it is full, what
    # comes next is lost, and that may be somebody's Ctrl-C.
    for key in selector.get_map().values():
        selector.look_first_at(key.fd)
    return loop


def loop_for(calls: int) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make the loop of a night with at most so many calls at a time.

    Where they are few it is uvloop's, if that is installed: it is faster, and takes all that has come at once.
    """
    if calls > FEW_CALLS or find_spec("uvloop") is None:
        return new_loop
    import uvloop

    return uvloop.new_event_loop
