"""A call over HTTP: the dialect's request over the wire, under three clocks.

The first data must come in time, then each next; and all of it. A sign of life that brings no data (a comment, a
blank line) resets none of the clocks, so a server that only keeps the line open is left in the end. Whatever the
provider says passes through here with known keys masked, and with text that can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import anyio
import orjson

from runner.call import Answer, Call, Failure, Hints, Outcome, Usage
from runner.foreign import mask, storable
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Reader
from runner.world import Clock, HttpRequest, HttpResponse, Secret, Wire, WireError

MOST_BODY_BYTES: Final = 32 * 1024 * 1024
_MOST_ERROR_BYTES: Final = 64 * 1024
_MOST_BYTES_PER_TOKEN: Final = 32
_SLACK_BYTES: Final = 64 * 1024
_LAST_WORD_SECONDS: Final = 1.0


class HttpTransport:
    """Sends calls to the endpoints it was given."""

    def __init__(self, wire: Wire, clock: Clock, endpoints: Mapping[str, Endpoint]) -> None:
        self._wire = wire
        self._clock = clock
        self._endpoints = endpoints

    def body(self, call: Call) -> bytes:
        endpoint = self._endpoints[call.provider]
        return DIALECTS[endpoint.type].body(call, endpoint.limit_field)

    def dialect(self, call: Call) -> str:
        return DIALECTS[self._endpoints[call.provider].type].revision

    async def send(self, call: Call, started: Callable[[str], None]) -> Answer:
        """The outcome of a call, whatever happens to it on the way."""
        endpoint = self._endpoints[call.provider]
        begun = anyio.current_time()
        exchange = _Exchange(call, endpoint, self._clock, started)
        try:
            with anyio.fail_after(call.timeouts.total):
                await exchange.hold(self._wire)
            outcome = exchange.outcome(None)
        except WireError as error:
            outcome = exchange.broke(error.what, error.sent)
        except TimeoutError:
            outcome = exchange.broke(exchange.late(), True)
        first = None if exchange.first_byte is None else round(exchange.first_byte - begun, 6)
        outcome = replace(outcome, first_byte=first, seconds=round(anyio.current_time() - begun, 6))
        return Answer(_made_safe(outcome, endpoint.secrets), exchange.hints)


class _Exchange:
    """One call under way."""

    def __init__(self, call: Call, endpoint: Endpoint, clock: Clock, started: Callable[[str], None]) -> None:
        self._call = call
        self._endpoint = endpoint
        self._dialect = DIALECTS[endpoint.type]
        self._clock = clock
        self._started = started
        self._reader: Reader | None = None
        self._failure: Failure | None = None
        self._announced = False
        self._waits_for = "the first data"
        self.first_byte: float | None = None
        self.hints = Hints()

    async def hold(self, wire: Wire) -> None:
        timeouts = self._call.timeouts
        request = HttpRequest(
            "POST",
            self._dialect.url(self._endpoint),
            self._dialect.headers(self._endpoint),
            self._dialect.body(self._call, self._endpoint.limit_field),
            timeouts.connect,
        )
        with anyio.CancelScope(deadline=anyio.current_time() + timeouts.first) as patience:
            async with wire.exchange(request) as response:
                self.hints = self._dialect.hints(response.headers)
                if response.status != 200:
                    body = await _error_body(response)
                    self._failure = self._dialect.failure(response.status, response.headers, body, self._clock.wall())
                    return
                await self._read(response, patience)
        if patience.cancelled_caught and not (self._reader is not None and self._reader.done()):
            raise TimeoutError

    async def _read(self, response: HttpResponse, patience: anyio.CancelScope) -> None:
        self._reader = reader = self._dialect.reader(self._call)
        most = min(MOST_BODY_BYTES, self._call.max_tokens * _MOST_BYTES_PER_TOKEN + _SLACK_BYTES)
        received = 0
        async for piece in response.chunks():
            received += len(piece)
            if reader.feed(piece):
                if self.first_byte is None:
                    self.first_byte = anyio.current_time()
                self._waits_for = "the next data"
                patience.deadline = anyio.current_time() + self._call.timeouts.idle
                self._announce(reader)
            if reader.done():
                # Only the end of the body can follow; waiting for it lets the connection serve the next call.
                patience.deadline = anyio.current_time() + _LAST_WORD_SECONDS
            if reader.size > most or received > MOST_BODY_BYTES:
                raise WireError("the answer is far longer than was asked for, and was cut", sent=True)

    def _announce(self, reader: Reader) -> None:
        if not self._announced and reader.generation is not None:
            self._announced = True
            self._started(mask(storable(reader.generation), self._endpoint.secrets))

    def late(self) -> str:
        timeouts = self._call.timeouts
        limit = timeouts.first if self._waits_for == "the first data" else timeouts.idle
        return f"timed out: waited more than {limit:g} s for {self._waits_for}, or {timeouts.total:g} s in all"

    def outcome(self, cut: str | None) -> Outcome:
        if self._failure is not None:
            return self._failure
        assert self._reader is not None
        return self._reader.outcome(cut)

    def broke(self, what: str, sent: bool) -> Outcome:
        """The exchange broke off: surely not received, perhaps received, or cut in the middle of the answer."""
        if self._failure is not None:
            return self._failure
        if not sent:
            return Failure("error", "call", "free", what)
        if self._reader is None:
            return Failure("lost", "call", "assumed", what)
        # A reply all the same when all that mattered had come, a finish reason and a text; then only usage may be
        # missing.
        return self._reader.outcome(what)


async def _error_body(response: HttpResponse) -> bytes:
    body = b""
    try:
        async for piece in response.chunks():
            body += piece
            if len(body) > _MOST_ERROR_BYTES:
                break
    except WireError:
        pass  # the status has said what matters; the words are only for people
    return body[:_MOST_ERROR_BYTES]


def _made_safe(outcome: Outcome, secrets: tuple[Secret, ...]) -> Outcome:
    """The same outcome with no key in it, and no text that a journal could not hold."""

    def clean(text: str | None) -> str | None:
        return None if text is None else mask(storable(text), secrets)

    names = ("reasoning", "model", "upstream", "generation", "stop")
    cleaned: dict[str, object] = {name: clean(getattr(outcome, name)) for name in names}
    cleaned["usage"] = _safe_usage(outcome.usage, secrets)
    if isinstance(outcome, Failure):
        return replace(outcome, detail=clean(outcome.detail), partial=clean(outcome.partial), **cleaned)  # type: ignore[arg-type]
    return replace(outcome, text=clean(outcome.text), **cleaned)  # type: ignore[arg-type]


def _safe_usage(usage: Usage, secrets: tuple[Secret, ...]) -> Usage:
    if usage.raw is None:
        return usage
    try:
        raw = orjson.loads(mask(storable(orjson.dumps(usage.raw).decode()), secrets))
    except (orjson.JSONEncodeError, orjson.JSONDecodeError, RecursionError):
        raw = {"unstorable": repr(type(usage.raw).__name__)}
    return replace(usage, raw=raw)
