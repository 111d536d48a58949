"""A call over HTTP: the dialect's request over the wire, under three clocks.

The first data must come in time, then each next; and all of it. A sign of life that brings no data (a comment, a
blank line) resets none of the clocks, so a server that only keeps the line open is left in the end. Whatever the
provider says passes through here with known keys masked, and with text that can be stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf
from typing import Any, Final, NamedTuple

import anyio
import orjson

from runner.call import Answer, Call, Failure, Found, Hints, Outcome
from runner.foreign import MASK, masker, storable
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Reader
from runner.world import Clock, HttpRequest, HttpResponse, Secret, Wire, WireError

_MOST_BODY_BYTES: Final = 32 * 1024 * 1024
_MOST_WIRE_BYTES_PER_TOKEN: Final = 1024
"""A streamed token travels in a chunk of its own, with all its names and numbers."""
_MOST_ERROR_BYTES: Final = 64 * 1024
_MOST_BYTES_PER_TOKEN: Final = 32
_SLACK_BYTES: Final = 64 * 1024
_LAST_WORD_SECONDS: Final = 1.0
_IDLE_SLACK: Final = 0.02
"""By so much of it the time between two pieces of data may be longer than was asked for."""
_ERROR_BODY_SECONDS: Final = 5.0
_QUESTION_SECONDS: Final = 20.0
_LONGEST_DETAIL: Final = 600
_LONGEST_NAME: Final = 300
_DEEPEST: Final = 16
_LEAST_OF_A_KEY: Final = 8
"""So much of a key's beginning, at the end of a text that was cut, is taken for the key."""


class HttpTransport:
    """Sends calls to the endpoints it was given."""

    def __init__(self, wire: Wire, clock: Clock, endpoints: Mapping[str, Endpoint]) -> None:
        self._wire = wire
        self._clock = clock
        self._endpoints = endpoints
        self._cleaners = {name: _Cleaner(endpoint.secrets) for name, endpoint in endpoints.items()}
        self._headers = {name: DIALECTS[one.type].headers(one) for name, one in endpoints.items()}

    def body(self, call: Call) -> bytes:
        endpoint = self._endpoints[call.provider]
        return DIALECTS[endpoint.type].body(call, endpoint.limit_field)

    def dialect(self, call: Call) -> str:
        return DIALECTS[self._endpoints[call.provider].type].revision

    async def send(self, call: Call, body: bytes, started: Callable[[str], None]) -> Answer:
        """The outcome of a call, whatever happens to it on the way."""
        begun = anyio.current_time()
        cleaner, endpoint = self._cleaners[call.provider], self._endpoints[call.provider]
        exchange = _Exchange(call, endpoint, self._clock, lambda told: started(cleaner.text(told, _LONGEST_NAME)))
        timeouts = call.timeouts
        request = HttpRequest(
            "POST",
            exchange.dialect.url(endpoint, call.model),
            self._headers[call.provider],
            body,
            min(timeouts.connect, timeouts.first, timeouts.total),
        )
        try:
            with anyio.CancelScope(deadline=begun + min(timeouts.first, timeouts.total)) as patience:
                await exchange.hold(self._wire, request, patience, begun + timeouts.total)
            late = patience.cancelled_caught and not exchange.complete
            outcome = exchange.broke(exchange.late(), True) if late else exchange.outcome()
        except WireError as error:
            outcome = exchange.broke(error.what, error.sent, error.lasting)
        first = None if exchange.first_byte is None else round(exchange.first_byte - begun, 6)
        seconds = round(anyio.current_time() - begun, 6)
        return Answer(cleaner.outcome(outcome, first, seconds), exchange.hints)

    def looks_up(self, provider: str, extra: Mapping[str, Any]) -> bool:
        endpoint = self._endpoints.get(provider)
        return endpoint is not None and DIALECTS[endpoint.type].look_up(endpoint, "id", extra) is not None

    async def look_up(self, provider: str, generation: str, extra: Mapping[str, Any]) -> Found | None:
        endpoint = self._endpoints[provider]
        dialect = DIALECTS[endpoint.type]
        request = dialect.look_up(endpoint, generation, extra)
        answer = None if request is None else await asked(self._wire, request)
        return None if answer is None or answer[0] != 200 else dialect.looked_up(answer[1], generation)


class WholeAnswer(NamedTuple):
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def asked(wire: Wire, request: HttpRequest) -> tuple[int, bytes] | None:
    """The status and the body of an answer to a question that costs nothing; None when none came in time."""
    try:
        told = await answer_to(wire, request)
    except WireError:
        return None
    return told.status, told.body


async def answer_to(wire: Wire, request: HttpRequest) -> WholeAnswer:
    """The answer to a question that costs nothing. Raises WireError, also when none came in time."""
    body = bytearray()
    with anyio.move_on_after(_QUESTION_SECONDS):
        async with wire.exchange(request) as response:
            async for piece in response.chunks():
                body += piece
                if len(body) > _MOST_BODY_BYTES:
                    raise WireError("the answer is far too long", sent=True)
            return WholeAnswer(response.status, response.headers, bytes(body))
    raise WireError(f"timed out: no answer within {_QUESTION_SECONDS:g} s", sent=True)


class _Exchange:
    """One call under way."""

    def __init__(self, call: Call, endpoint: Endpoint, clock: Clock, started: Callable[[str], None]) -> None:
        self.dialect = DIALECTS[endpoint.type]
        self._call = call
        self._clock = clock
        self._started = started
        self._reader: Reader | None = None
        self._failure: Failure | None = None
        self._announced = False
        self._end = inf
        """When all of it must have come."""
        self.first_byte: float | None = None
        self.hints: Hints = ()

    async def hold(self, wire: Wire, request: HttpRequest, patience: anyio.CancelScope, end: float) -> None:
        """Send the request and read the answer, as long as `patience` lasts, which new data renews until the `end`."""
        self._end = end
        async with wire.exchange(request) as response:
            self.hints = self.dialect.hints(response.headers, self._clock.wall())
            if response.status == 200:
                await self._read(response, patience)
            else:
                await self._read_error(response, patience)

    async def _read_error(self, response: HttpResponse, patience: anyio.CancelScope) -> None:
        body = b""
        patience.deadline = min(patience.deadline, anyio.current_time() + _ERROR_BODY_SECONDS)
        try:
            async for piece in response.chunks():
                body += piece
                if len(body) > _MOST_ERROR_BYTES:
                    break
        finally:
            # The status has said what matters, even where its words never come.
            wall = self._clock.wall()
            self._failure = self.dialect.failure(response.status, response.headers, body[:_MOST_ERROR_BYTES], wall)

    async def _read(self, response: HttpResponse, patience: anyio.CancelScope) -> None:
        self._reader = reader = self.dialect.reader(self._call)
        reader.begin(response.headers)
        self._announce(reader)
        tokens = self._call.max_tokens
        most_held = min(_MOST_BODY_BYTES, tokens * _MOST_BYTES_PER_TOKEN + _SLACK_BYTES)
        most_received = _MOST_BODY_BYTES + tokens * _MOST_WIRE_BYTES_PER_TOKEN
        idle = self._call.timeouts.idle
        received = 0
        ended = False
        async for piece in response.chunks():
            received += len(piece)
            brought = reader.feed(piece)
            self._announce(reader)
            if not ended and (brought or reader.done()):
                now, is_first = anyio.current_time(), self.first_byte is None
                if brought and is_first:
                    self.first_byte = now
                ended = reader.done()
                # Behind its mark only the end of the body can follow; waiting for it lets the connection serve again.
                lasts = now + (_LAST_WORD_SECONDS if ended else idle)
                # Not with each token: setting a clock takes as long as reading one.
                if is_first or ended or lasts > patience.deadline:
                    patience.deadline = min(self._end, lasts + (0.0 if is_first or ended else idle * _IDLE_SLACK))
            if reader.size > most_held or received > most_received:
                raise WireError("the answer is far longer than was asked for, and was cut", sent=True)

    def _announce(self, reader: Reader) -> None:
        if not self._announced and reader.generation is not None:
            self._announced = True
            self._started(reader.generation)

    @property
    def complete(self) -> bool:
        """True when nothing of the answer can be missing."""
        return self._reader is not None and self._reader.done()

    def late(self) -> str:
        """Which limit is over."""
        timeouts = self._call.timeouts
        if anyio.current_time() >= self._end:
            return f"timed out: not complete after {timeouts.total:g} s, the `total` of its `timeout`"
        if self.first_byte is None:
            return f"timed out: no data for {timeouts.first:g} s, the `first` of its `timeout`"
        return f"timed out: no further data for {timeouts.idle:g} s, the `idle` of its `timeout`"

    def outcome(self) -> Outcome:
        if self._failure is not None:
            return self._failure
        assert self._reader is not None
        return self._reader.outcome(None)

    def broke(self, what: str, sent: bool, lasting: bool = False) -> Outcome:
        """The exchange broke off: surely not received, perhaps received, or cut in the middle of the answer."""
        if self._failure is not None:
            return self._failure
        if not sent:
            return Failure("error", "provider" if lasting else "call", "free", what)
        if self._reader is None:
            return Failure("lost", "call", "assumed", what)
        # A reply all the same when the mark of its end had come: nothing of it can be missing then.
        return self._reader.outcome(what)


class _Cleaner:
    """Takes keys out of whatever a provider says, and what a journal could not hold."""

    def __init__(self, secrets: tuple[Secret, ...]) -> None:
        self._secrets = secrets
        self._masked = masker(secrets)

    def outcome(self, outcome: Outcome, first_byte: float | None, seconds: float) -> Outcome:
        """An outcome with nothing in it that must not be told, and with these figures."""
        cleaned: dict[str, object] = {"first_byte": first_byte, "seconds": seconds}
        if not self._is_plain(outcome):
            cleaned |= self._cleaned(outcome)
        return replace(outcome, **cleaned)  # type: ignore[arg-type]

    def _is_plain(self, outcome: Outcome) -> bool:
        """True for a whole answer with nothing in it to mask or to cut, as nearly all are: one look at it all."""
        if isinstance(outcome, Failure) or outcome.finish == "truncated":
            return False
        names = [said for said in (outcome.model, outcome.upstream, outcome.generation, outcome.stop) if said]
        texts = "\n".join((outcome.text, outcome.reasoning or "", *names))
        if any(len(name) > _LONGEST_NAME for name in names) or storable(texts) is not texts:
            return False
        return self._masked(texts) is texts and (outcome.usage.raw is None or self._is_clean(outcome.usage.raw))

    def _cleaned(self, outcome: Outcome) -> dict[str, object]:
        # What is whole may end in a word that a key begins with.
        is_cut = isinstance(outcome, Failure) or outcome.finish == "truncated"

        def clean(text: str | None, most: int | None = None) -> str | None:
            return None if text is None else self.text(text, most, is_cut=is_cut)

        cleaned: dict[str, object] = {"reasoning": clean(outcome.reasoning)}
        for name in ("model", "upstream", "generation", "stop"):
            said = getattr(outcome, name)
            cleaned[name] = None if said is None else self.text(said, _LONGEST_NAME)
        raw = outcome.usage.raw
        if raw is not None and not self._is_clean(raw):
            cleaned["usage"] = replace(outcome.usage, raw=self._value(raw, 0))
        if isinstance(outcome, Failure):
            return cleaned | {"detail": clean(outcome.detail, _LONGEST_DETAIL), "partial": clean(outcome.partial)}
        return cleaned | {"text": clean(outcome.text)}

    def text(self, text: str, most: int | None = None, *, is_cut: bool = False) -> str:
        masked = self._masked(storable(text))
        masked = self._without_begun_key(masked) if is_cut else masked
        # Cut last of all: half a key would not be known for one.
        return masked if most is None or len(masked) <= most else masked[: most - 1] + "…"

    def _without_begun_key(self, text: str) -> str:
        """The text without the beginning of a key at its end, where it was cut in the middle of one."""
        for key in (secret.reveal().strip() for secret in self._secrets):
            begun = text.rfind(key[:_LEAST_OF_A_KEY], max(0, len(text) - len(key)))
            if begun >= 0 and key.startswith(text[begun:]):
                text = text[:begun] + MASK
        return text

    def _is_clean(self, value: Any) -> bool:
        """True for a provider's own object, as nearly all are, in which there is nothing to mask or to cut."""
        try:
            written = orjson.dumps(value)
        except orjson.JSONEncodeError:
            return False
        if b"\\" in written or written.count(b"{") + written.count(b"[") > _DEEPEST:
            return False  # a key may be written in ways that are not found like this, or something lie too deep
        text = written.decode()
        return self._masked(text) == text

    def _value(self, value: Any, depth: int) -> Any:
        """The provider's own object, string by string, within what the JSON of a journal can hold."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            return str(value)
        if isinstance(value, (list, dict)) and depth == _DEEPEST:
            return "…"
        if isinstance(value, list):
            return [self._value(item, depth + 1) for item in value]
        if isinstance(value, dict):
            return {self.text(name): self._value(item, depth + 1) for name, item in value.items()}
        return value
