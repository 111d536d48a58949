"""The real wire: aiohttp, told to do exactly one exchange and nothing of its own.

No redirects, no proxies or passwords of the environment, no cookies, no pool limit (the gate limits), no timeout but
the one for connecting (the transport keeps the others). Whether a request was sent at all is known for each failure.
An error of aiohttp never leaves this file: its text can contain headers.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from types import SimpleNamespace
from typing import Final

import aiohttp

from runner.world import HttpRequest, HttpResponse, Secret, WireError

_KEEP_ALIVE_SECONDS: Final = 14.0
_PIECE: Final = 1024 * 1024


class AiohttpWire:
    """One client session for all providers; use it as a context."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AiohttpWire:
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_note_headers_sent)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            trace_configs=[trace],
            skip_auto_headers=("User-Agent",),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        assert self._session is not None, "the wire is used outside its context"
        sent = SimpleNamespace(headers=False)
        headers = {"accept-encoding": "identity", "user-agent": "tertulia"}
        headers |= {k.lower(): v.reveal() if isinstance(v, Secret) else v for k, v in request.headers.items()}
        try:
            response = await self._session.request(
                request.method,
                request.url,
                data=BytesIO(request.body),  # aiohttp sends a stream in pieces; large bytes it would send in one
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=request.connect_timeout, sock_connect=request.connect_timeout
                ),
                trace_request_ctx=sent,
            )
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise WireError(_what(error), sent.headers) from None
        finished = False
        try:
            yield _Response(response)
            finished = True
        finally:
            if finished and response.content.is_eof():
                response.release()
            else:
                response.close()


async def _note_headers_sent(_: object, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.headers = True


class _Response:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    @property
    def status(self) -> int:
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return {name.lower(): value for name, value in self._response.headers.items()}

    async def chunks(self) -> AsyncIterator[bytes]:
        encoding = self._response.headers.get("Content-Encoding", "identity").lower()
        inflate = None
        if encoding in ("gzip", "deflate"):
            inflate = zlib.decompressobj(wbits=47)
        elif encoding != "identity":
            raise WireError("the answer is in an encoding that was not asked for", True)
        try:
            async for piece in self._response.content.iter_any():
                if inflate is None:
                    yield piece
                    continue
                # Piece by piece, so that a small body cannot become a huge one in memory before anyone counts it.
                while piece:
                    yield inflate.decompress(piece, _PIECE)
                    piece = inflate.unconsumed_tail
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, zlib.error) as error:
            raise WireError(_what(error), True) from None


def _what(error: BaseException) -> str:
    """What happened in our own words: the library's may quote headers, addresses with passwords, or the answer."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "the host name is not known"
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)):
        return "the server's certificate or TLS was refused"
    if isinstance(error, (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError)):
        return "timed out while connecting"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect ({error.os_error.strerror or 'refused'})"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed the connection without an answer"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the answer was cut off"
    if isinstance(error, aiohttp.InvalidURL):
        return "the address is not valid"
    return f"the connection broke ({type(error).__name__})"
