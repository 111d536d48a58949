"""A loopback HTTP server over an engine: it performs the pieces of an answer at their times, and decides nothing.

A connection that was accepted cannot be refused any more, so a client of this shell sees a fault of the kind `refused`
as a connection that closes without an answer; the simulated wire shows it as what it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage

from runner.sim.delivery import SimAnswer
from runner.sim.dialect import Mark, Piece
from runner.sim.engine import Engine, SimRequest
from runner.world import Clock, RealClock

_LARGEST_REQUEST: Final = 64 * 1024 * 1024
_BACKLOG: Final = 2048
_GRACE: Final = 0.05
"""Seconds that answers in the air get when the server closes; a stalled one would never end."""


@asynccontextmanager
async def serve(
    engine: Engine, host: str = "127.0.0.1", port: int = 0, clock: Clock | None = None
) -> AsyncIterator[str]:
    """The engine at a base URL that ends in `/v1`, until the context closes; OSError when the port is taken.

    Beside the provider's own paths there are `GET /sim/bill`, `GET /sim/requests` and `POST /sim/reset`.
    """
    loop = asyncio.get_running_loop()
    # A wall clock may jump under a limit; the loop's does not, so only its origin is taken from the wall.
    origin = (clock or RealClock()).wall() - loop.time()

    def request_of(
        message: RawRequestMessage, payload: StreamReader, protocol: Any, writer: Any, task: asyncio.Task[None]
    ) -> web.BaseRequest:
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=_LARGEST_REQUEST)

    server = web.Server(_Shell(engine, origin), request_factory=request_of, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=_GRACE)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
        bound = runner.addresses[0]
        yield f"http://{f'[{bound[0]}]' if ':' in bound[0] else bound[0]}:{bound[1]}/v1"
    finally:
        await runner.cleanup()


class _Shell:
    def __init__(self, engine: Engine, origin: float) -> None:
        self._engine = engine
        self._origin = origin
        self._loop = asyncio.get_running_loop()

    def _now(self) -> float:
        return self._origin + self._loop.time()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.startswith("/sim/"):
            return self._control(request)
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        began = self._loop.time()
        answer = self._engine.handle(
            SimRequest(request.method, request.rel_url.raw_path_qs, headers, body), self._origin + began
        )
        try:
            return await self._perform(request, answer, began)
        finally:
            # After an answer that went out whole this says nothing new.
            self._engine.abandoned(answer.id, self._now())

    async def _perform(self, request: web.BaseRequest, answer: SimAnswer, began: float) -> web.StreamResponse:
        first, *rest = answer.bursts()
        if isinstance(first.what, bytes) and rest and rest[0].what is Mark.END:
            await self._until(began + first.at)
            self._engine.finished(answer.id, self._now())
            return web.Response(body=first.what, status=answer.status, headers=answer.headers)
        response = web.StreamResponse(status=answer.status or 200, headers=answer.headers)
        for piece in (first, *rest):
            await self._until(began + piece.at)
            if not await self._piece(request, response, answer, piece):
                break
        return response

    async def _piece(
        self, request: web.BaseRequest, response: web.StreamResponse, answer: SimAnswer, piece: Piece
    ) -> bool:
        """Does one thing on the connection; False when it was the last."""
        match piece.what:
            case Mark.STALL:
                await self._loop.create_future()
            case Mark.END:
                self._engine.finished(answer.id, self._now())
                await response.write_eof()
            case Mark.CUT | Mark.REFUSED:
                self._engine.finished(answer.id, self._now())
                if request.transport is not None:
                    request.transport.abort()
            case bytes(data):
                if not response.prepared:
                    await response.prepare(request)
                if data:
                    await response.write(data)
                return True
        return False

    async def _until(self, when: float) -> None:
        delay = when - self._loop.time()
        if delay > 0:
            await asyncio.sleep(delay)

    def _control(self, request: web.BaseRequest) -> web.Response:
        match request.method, request.path:
            case "GET", "/sim/bill":
                return _json({**self._engine.bill.record(), "played": self._engine.played})
            case "GET", "/sim/requests":
                return _json([received.record() for received in self._engine.received])
            case "POST", "/sim/reset":
                self._engine.reset()
                return web.Response(status=204)
        return web.Response(status=404, text="There are GET /sim/bill, GET /sim/requests and POST /sim/reset.\n")


def _json(data: object) -> web.Response:
    return web.Response(body=orjson.dumps(data), content_type="application/json")
