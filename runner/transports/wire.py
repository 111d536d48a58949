"""The real wire: aiohttp, told to do exactly one exchange and nothing of its own.

No redirects, no proxies or passwords of the environment, no cookies, no pool limit (the gate limits), no timeout but
the one for connecting (the transport keeps the others). Whether a request was sent at all is known for each failure.
An error of aiohttp never leaves this file: its text can contain headers.
"""

from __future__ import annotations

import asyncio
import os
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from typing import Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import BytesIOPayload, BytesPayload, Payload

from runner.world import HttpRequest, HttpResponse, Secret, WireError

_DISTRUSTED: Final = (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)
_KEEP_ALIVE_SECONDS: Final = 14.0
_UNSENDABLE: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PIECE: Final = 64 * 1024
_ERRORS: Final = (aiohttp.ClientError, TimeoutError, OSError, ValueError)
_BEFORE_SENDING: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
_MOST_SHOWN: Final = 64


class AiohttpWire:
    """One client session for all providers; use it as a context."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._shown: dict[int, _Shown] = {}
        """Headers as they are sent, by the ids of those that were asked for."""
        self._ends = _Ends()

    async def __aenter__(self) -> AiohttpWire:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers=("User-Agent",),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    def exchange(self, request: HttpRequest) -> _Exchange:
        assert self._session is not None, "the wire is used outside its context"
        shown = self._shown.get(id(request.headers))
        if shown is None:
            if len(self._shown) == _MOST_SHOWN:
                self._shown.clear()
            shown = self._shown[id(request.headers)] = _Shown(request.headers)
        return _Exchange(self._session, request, shown, self._ends)


class _Exchange:
    """One request and its answer, as a context."""

    def __init__(self, session: aiohttp.ClientSession, request: HttpRequest, shown: _Shown, ends: _Ends) -> None:
        self._session = session
        self._request = request
        self._shown = shown
        self._ends = ends
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> HttpResponse:
        response = await self._begin()
        if isinstance(response, WireError):
            raise response  # out here, where the library's error does not hang on it
        self._response = response
        self._ends.tell(response)
        return _Response(response)

    async def __aexit__(self, *_: object) -> None:
        assert self._response is not None
        self._response.close()  # a connection whose answer was read to its end was given back before this

    async def _begin(self) -> aiohttp.ClientResponse | WireError:
        request = self._request
        if not self._shown.sendable:
            # aiohttp would notice too, but only after it has said that they are sent.
            return WireError("a key or a header has a line break or a control character in it", False, lasting=True)
        # aiohttp sends a stream in pieces; bytes it sends in one, together with the headers if they are few.
        body = _Bytes(request.body) if len(request.body) <= _PIECE else _Stream(BytesIO(request.body))
        try:
            return await self._session.request(
                request.method,
                request.url,
                data=body if request.body else None,
                headers=self._shown.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=request.connect_timeout),
            )
        except _ERRORS as error:
            sent = body.begun if request.body else not isinstance(error, _BEFORE_SENDING)
            return WireError(_what(error), sent, isinstance(error, _DISTRUSTED))


class _Marked(Payload):
    """A body that knows whether anything was sent: the headers leave with it, and not before."""

    begun = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.begun = True
        await super().write_with_length(writer, content_length)


class _Bytes(_Marked, BytesPayload):
    pass


class _Stream(_Marked, BytesIOPayload):
    pass


class _Shown:
    """Headers as they are sent, and those that they were made of: it keeps these, so that their id stays theirs."""

    def __init__(self, asked: Mapping[str, str | Secret]) -> None:
        self.asked = asked
        self.headers = _revealed(asked)
        self.sendable = not any(_UNSENDABLE.search(text) for header in self.headers.items() for text in header)


def _revealed(headers: Mapping[str, str | Secret]) -> dict[str, str]:
    shown = {name.lower(): value.reveal() if isinstance(value, Secret) else value for name, value in headers.items()}
    return {"accept-encoding": "identity", "user-agent": "tertulia"} | shown


class _Malformed(aiohttp.ClientPayloadError):
    """What comes is no chunk."""


class _Ends:
    """Tells whoever reads an answer that the connection is closed.

    aiohttp does so itself, but where what comes is no chunk: then it closes the connection and says nothing, and
    whoever reads would wait until the clocks of the call are over.
    """

    def __init__(self) -> None:
        self._read: dict[asyncio.Future[None], aiohttp.StreamReader] = {}
        """What was read last from each connection, by its end."""

    def tell(self, response: aiohttp.ClientResponse) -> None:
        """From now on, of this answer."""
        connection = response.connection
        if connection is None or connection.protocol is None:
            return  # all of it is there
        closed = connection.protocol.closed
        if closed is None:
            _end(response.content)
            return
        if closed not in self._read:
            closed.add_done_callback(self._closed)
        self._read[closed] = response.content

    def _closed(self, closed: asyncio.Future[None]) -> None:
        closed.exception()  # if there is one it is looked at, and not told on the screen as one that nobody has seen
        _end(self._read.pop(closed))


def _end(content: aiohttp.StreamReader) -> None:
    if not content.is_eof() and content.exception() is None:
        content.set_exception(_Malformed())


class _Response:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}

    def chunks(self) -> AsyncIterator[bytes]:
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("gzip", "x-gzip", "deflate"):
            return _Inflated(_Pieces(self._response.content))
        if encoding not in ("identity", ""):
            raise WireError("the answer is in an encoding that was not asked for", True)
        return _Pieces(self._response.content)


class _Pieces:
    """The body as it comes. An iterator and no generator: left half read, it leaves nothing running."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        broke: WireError | None = None
        try:
            piece = await self._content.readany()
        except _ERRORS as error:
            piece, broke = b"", WireError(_what(error), True)
        if broke is not None:
            raise broke
        if not piece:
            raise StopAsyncIteration
        return piece


class _Inflated:
    """A compressed body, a bounded piece at a time: a small body cannot become a huge one before anyone counts it."""

    def __init__(self, pieces: _Pieces) -> None:
        self._pieces = pieces
        self._inflate = zlib.decompressobj(wbits=47)
        self._rest = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._inflate.eof:
            try:
                out = self._inflate.decompress(self._rest, _PIECE)
            except zlib.error:
                out = None
            if out is None:
                raise WireError("the answer was compressed, and damaged", True)
            self._rest = self._inflate.unconsumed_tail
            if out:
                return out
            if not self._rest:
                try:
                    self._rest = await anext(self._pieces)
                except StopAsyncIteration:
                    break
        if not self._inflate.eof:
            raise WireError("the answer was cut off", True)
        async for _ in self._pieces:
            pass  # what follows the end is nothing of ours, but the connection may serve again
        raise StopAsyncIteration


def _what(error: BaseException) -> str:
    """What happened in our own words: the library's may quote headers, addresses with passwords, or the answer."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host name is not known"
    if isinstance(error, _DISTRUSTED):
        return "the server's certificate or TLS was refused"
    if isinstance(error, (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError)):
        return "timed out while connecting"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect ({os.strerror(error.os_error.errno or 0)})"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is not HTTP"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without an answer"
    if isinstance(error, _Malformed):
        return "the answer broke off in a malformed chunk"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer was cut off"
    if isinstance(error, aiohttp.InvalidURL):
        return "the address is not valid"
    return f"the connection broke ({type(error).__name__})"
