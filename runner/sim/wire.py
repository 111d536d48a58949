"""The engine as a wire without sockets: requests and pieces travel in the time of whatever loop runs.

It fails as a real wire would: a refused connection was surely not sent, a connection that breaks later perhaps was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from random import Random
from urllib.parse import urlsplit

import anyio

from runner.sim.delivery import SimAnswer
from runner.sim.dialect import Mark, Piece
from runner.sim.engine import Engine, SimRequest
from runner.world import HttpRequest, HttpResponse, Secret, WireError


class SimWire:
    """A wire to some engines, each below a base URL; a request to anything else finds its connection refused.

    A round trip takes a time between the two of `rtt`, drawn from `random`. `watch` sees each request before it leaves.
    """

    def __init__(
        self,
        engines: Mapping[str, Engine],
        rtt: tuple[float, float] = (0.0, 0.0),
        random: Random | None = None,
        watch: Callable[[HttpRequest], None] | None = None,
    ) -> None:
        # The longest base first: one may lie below another.
        self._engines = sorted(engines.items(), key=lambda item: (-len(item[0]), item[0]))
        self._rtt = rtt
        self._random = Random(0) if random is None else random
        self._watch = watch

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        """Send the request; the body of the `async with` reads the answer. Raises WireError."""
        one_way = self._random.uniform(*self._rtt) / 2
        engine = self._engine(request.url)
        if engine is None:
            await anyio.sleep(one_way)
            raise WireError("connection refused", sent=False)
        if self._watch is not None:
            self._watch(request)
        await anyio.sleep(one_way)
        came = anyio.current_time()
        answer = engine.handle(_request(request), came)
        response = _Response(engine, answer, came + one_way)
        try:
            await response.begin()
            yield response
        finally:
            # After an answer that went out whole this says nothing new.
            engine.abandoned(answer.id, anyio.current_time())

    def _engine(self, url: str) -> Engine | None:
        bases = (engine for base, engine in self._engines if url == base or url.startswith(base.rstrip("/") + "/"))
        return next(bases, None)


def _request(request: HttpRequest) -> SimRequest:
    headers = {
        name.lower(): value.reveal() if isinstance(value, Secret) else value for name, value in request.headers.items()
    }
    parts = urlsplit(request.url)
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return SimRequest(request.method, path, headers, request.body)


class _Response:
    """An answer as it arrives; it is its own iterator, so that leaving it half read leaves nothing running."""

    def __init__(self, engine: Engine, answer: SimAnswer, began: float) -> None:
        self.status = answer.status
        self.headers: Mapping[str, str] = dict(answer.headers)
        self._engine = engine
        self._id = answer.id
        self._began = began
        self._bursts = list(answer.bursts())
        self._next = 0

    async def begin(self) -> None:
        """Waits for the headers."""
        await self._arrival(self._bursts[0])

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while self._next < len(self._bursts):
            piece = self._bursts[self._next]
            await self._arrival(piece)
            self._next += 1
            if piece.what is Mark.END:
                break
            if self._next < len(self._bursts) and self._bursts[self._next] == Piece(piece.at, Mark.END):
                # Nothing is left to send: whoever stops reading here has left nothing.
                self._engine.finished(self._id, anyio.current_time())
            if piece.what:
                assert isinstance(piece.what, bytes)
                return piece.what
        self._engine.finished(self._id, anyio.current_time())
        raise StopAsyncIteration

    async def _arrival(self, piece: Piece) -> None:
        """Waits until a piece is here; raises what a broken connection raises."""
        due = self._began + piece.at
        if due > anyio.current_time():
            await anyio.sleep_until(due)
        match piece.what:
            case Mark.REFUSED:
                raise WireError("connection refused", sent=False)
            case Mark.CUT:
                self._engine.finished(self._id, anyio.current_time())
                raise WireError("connection reset by the server", sent=True)
            case Mark.STALL:
                await anyio.sleep_forever()
