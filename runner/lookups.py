"""What became of calls that were lost: asked of the providers that can tell, and settled with what they say.

A lost call stays charged at its reservation until somebody knows better. Some providers keep a record of each call
under the id that they gave it; it may come a little late, so a call is looked up several times before it is left to
its owner, who can settle it by hand. So is one whose record tells what cannot be true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final

import anyio

from runner.call import Found, Transport
from runner.events import Sent, Settled
from runner.journal import Journal
from runner.money import Nanos, Price, cost
from runner.state import CallId, Unsettled

_AFTER_SECONDS: Final = (2.0, 15.0, 60.0, 300.0)
"""How long after each other a call is looked up."""
_LAST_SECONDS: Final = 10.0
_MOST_TOKENS: Final = 10_000_000
"""No model reads or writes so many."""
_FAR: Final = 10
"""A cost so many times above that of the tokens, or below that of the text that came, is not that of the call."""


class LookUps:
    """The lost calls of one run, whichever life lost them."""

    def __init__(
        self,
        journal: Journal,
        transport: Transport,
        prices: Mapping[str, Price],
        extra: Callable[[Sent], Mapping[str, Any]],
        overran: Callable[[str], None] = lambda alias: None,
    ) -> None:
        self._journal = journal
        self._overran = overran
        """Told the model of a call that has cost more than was reserved."""
        self._extra = extra
        """What else a call was sent with: some providers keep a record only where they were told to."""
        self._transport = transport
        self._prices = prices
        self._tried: dict[CallId, tuple[int, float]] = {}
        """How often each was looked up, and when it is its turn again."""
        self._noticed = anyio.Event()

    def notice(self) -> None:
        """A call may have been lost."""
        self._noticed.set()

    async def keep(self) -> None:
        """Look up what is lost as it becomes due, for as long as the run goes on."""
        while True:
            self._noticed = anyio.Event()
            due = await self._look_up(anyio.current_time())
            with anyio.move_on_at(due):
                await self._noticed.wait()

    async def last(self) -> None:
        """Look up once more what is still unknown when the run ends, unless it takes too long."""
        if self._open():
            with anyio.move_on_after(_LAST_SECONDS):
                await anyio.sleep(_AFTER_SECONDS[0])
                await self._look_up(inf)

    def _open(self) -> dict[CallId, Unsettled]:
        return {
            id_: call
            for id_, call in self._journal.state.unsettled.items()
            if call.generation is not None and self._transport.looks_up(call.sent.provider, self._extra(call.sent))
        }

    async def _look_up(self, now: float) -> float:
        """Look up what is due; when the next is."""
        for id_, call in self._open().items():
            times, due = self._tried.get(id_, (0, anyio.current_time() + _AFTER_SECONDS[0]))
            self._tried.setdefault(id_, (times, due))
            if now < due or times == len(_AFTER_SECONDS):
                continue
            wait = _AFTER_SECONDS[min(times + 1, len(_AFTER_SECONDS) - 1)]
            self._tried[id_] = times + 1, anyio.current_time() + wait
            assert call.generation is not None
            sent = call.sent
            found = await self._transport.look_up(sent.provider, call.generation, self._extra(sent))
            spent = None if found is None else self._spent(call, found)
            # It may have been settled by hand meanwhile.
            if spent is not None and id_ in self._journal.state.unsettled:
                self._journal.record(Settled(*id_, spent, f"looked up: {sent.provider} {call.generation}"))
                if spent > sent.reserved:
                    self._overran(sent.alias)
        dues = (self._tried[id_] for id_ in self._open() if id_ in self._tried)
        return min((due for times, due in dues if times < len(_AFTER_SECONDS)), default=inf)

    def _spent(self, call: Unsettled, found: Found) -> Nanos | None:
        """What the provider charged, or what its tokens cost by the price list; None where neither can be true."""
        counts = (found.input or 0, found.output or 0)
        if max(counts) > _MOST_TOKENS or (found.output is not None and found.output < call.written):
            return None
        price, computed, least = self._prices.get(call.sent.alias), None, 0
        if price is not None:
            least = cost(price, 0, call.written) if call.written else 0
            if found.input is not None and found.output is not None:
                computed = cost(price, found.input, found.output, found.cached_read or 0)
        if found.cost is None:
            return computed
        # More than was reserved may be true: of a server that keeps to no limit, where the tokens say the same.
        most = max(call.sent.reserved, (computed or 0) * _FAR)
        return found.cost if least <= found.cost * _FAR and found.cost <= most else None
