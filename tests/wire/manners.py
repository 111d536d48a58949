"""A server on loopback without manners of its own: a test says, byte by byte, what it does on each connection."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ssl import SSLContext

import orjson

from runner.call import Answer, Call, Message, Timeouts, View
from runner.providers import Endpoint
from runner.transports.http import HttpTransport
from runner.world import Clock, Secret, Wire


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it stood on the wire."""

    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name}


@dataclass(slots=True)
class Connection:
    """One connection to the server, from its side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: BadServer

    async def head(self) -> bytes:
        """The head of the next request; the test ends where the client left."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> Received:
        """The next request, whole."""
        received = Received(await self.head(), b"")
        body = await self.reader.readexactly(int(received.headers.get("content-length", "0")))
        received = Received(received.head, body)
        self.server.requests.append(received)
        return received

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection off with a reset, and not with a polite end."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


Behaviour = Callable[[Connection], Awaitable[None]]


@dataclass(slots=True)
class BadServer:
    """What the server saw."""

    scheme: str = "http"
    port: int = 0
    connections: int = 0
    closed: int = 0
    """So many of them it has closed again."""
    requests: list[Received] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def serve(behave: Behaviour, tls: SSLContext | None = None) -> AsyncIterator[BadServer]:
    """A server that does this on each connection and then closes it, until the context is left."""
    seen = BadServer("http" if tls is None else "https")
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        seen.connections += 1
        try:
            await behave(Connection(reader, writer, seen))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            seen.closed += 1
            tasks.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def chunk(**delta: object) -> bytes:
    """An event of a stream."""
    finish = delta.pop("finish", None)
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"id": "gen-1", "model": "m", "choices": [choice]}) + b"\n\n"


USAGE = b'data: {"id":"gen-1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}\n\n'
DONE = b"data: [DONE]\n\n"
GOOD = (
    chunk(role="assistant", content="") + chunk(content="Hi ") + chunk(content="there") + chunk(finish="stop") + USAGE
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"


def answer(body: bytes, head: bytes = STREAM_HEAD) -> bytes:
    return head + b"content-length: %d\r\n\r\n" % len(body) + body


def chunked(body: bytes) -> bytes:
    return b"%x\r\n" % len(body) + body + b"\r\n"


class NoonClock(Clock):
    """The wall clock of a test stands still."""

    def wall(self) -> float:
        return 1_795_262_400.0


def call(text: str = "What survives?", max_tokens: int = 64, **timeouts: float) -> Call:
    # Wide where a test says nothing: a machine that stands still for a moment must not look like a bad server.
    quick = {"connect": 20.0, "first": 20.0, "idle": 20.0, "total": 60.0} | timeouts
    view = View(None, (Message("user", text),))
    return Call("cell", 0, 1, "p", "m", view, max_tokens, timeouts=Timeouts(**quick))


async def ask(
    wire: Wire,
    url: str,
    asked: Call | None = None,
    *,
    key: str | None = "sk-test-0123456789",
    headers: dict[str, str | Secret] | None = None,
    started: Callable[[str], None] = lambda generation: None,
) -> Answer:
    """One call to one provider at `url`."""
    endpoint = Endpoint("p", "openai", url, None if key is None else Secret(key), headers or {})
    transport, asked = HttpTransport(wire, NoonClock(), {"p": endpoint}), asked or call()
    return await transport.send(asked, transport.body(asked), started)
