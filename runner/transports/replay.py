"""A wire that plays a recording back: nothing reaches the network, and nothing is waited for.

A request is answered by the exchange with the same method, path and body. Of several alike the one that was recorded
first answers first, and each answers once; what only asks (`GET`) is answered for ever. Any other request is refused,
with the name of the recorded one that comes closest: an answer to something else would be worse than none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio.lowlevel
import orjson

from runner.transports.exchanges import Exchange, Misread, bytes_of, number_of, read_exchange, target_of
from runner.world import Disk, HttpRequest, HttpResponse, WireError

_LEFT: Final = "the recording ends here: it was read no further"
_MOST_TOLD: Final = 20

_Asked: TypeAlias = tuple[str, str, str]
"""Method, path with query, and the SHA-256 of the body."""


class Unplayable(Exception):
    """A folder that cannot be played; the text says why."""


class Replay:
    """A wire to a folder of exchanges. Raises Unplayable when there are none, or when one cannot be read."""

    def __init__(self, disk: Disk, folder: Path, tell: Callable[[str], None]) -> None:
        self._disk = disk
        self._folder = folder
        self._tell = tell
        self._told = 0
        self._files: dict[_Asked, list[str]] = {}
        """All of them, in the order of their numbers."""
        numbered = ((number_of(name), name) for name in disk.listdir(folder))
        for _, name in sorted((number, name) for number, name in numbered if number is not None):
            exchange = self._read(name)
            self._files.setdefault((exchange.method, exchange.target, exchange.digest), []).append(name)
        if not self._files:
            raise Unplayable(f"{folder}: there is no recording in it")
        self._given: dict[_Asked, int] = {}

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        """The recorded answer to this request; the body of the `async with` reads it. Raises WireError."""
        await anyio.lowlevel.checkpoint()
        asked = request.method, target_of(request.url), sha256(request.body).hexdigest()
        files, given = self._files.get(asked, []), self._given.get(asked, 0)
        if files and request.method == "GET":
            given = min(given, len(files) - 1)
        if given >= len(files):
            yield self._refused(request, used_up=bool(files))
            return
        self._given[asked] = given + 1
        try:
            exchange = self._read(files[given])
        except Unplayable as error:
            raise WireError(str(error), sent=False, lasting=True) from None
        if exchange.answer is None:
            raise _end_of(exchange)
        texts = (bytes_of(chunk.text) for chunk in exchange.answer.chunks)
        end = _end_of(exchange) if exchange.broke is not None or exchange.left else None
        yield _Played(exchange.answer.status, exchange.answer.headers, texts, end)

    def _read(self, name: str) -> Exchange:
        try:
            return read_exchange(name, self._disk.read(self._folder / name))
        except Misread as error:
            raise Unplayable(f"{self._folder / name}: {error}") from None
        except OSError as error:
            raise Unplayable(f"{self._folder / name} cannot be read: {error.strerror}") from None

    def _refused(self, request: HttpRequest, *, used_up: bool) -> _Played:
        """An answer that ends the conversation and says why, in the words that every dialect reads."""
        what, where = "every recorded answer to this request has been given", ""
        if not used_up:
            what = "this request is not in the recording"
            closest = self._closest(request)
            if closest is not None:
                what = f"{what}; the closest is {closest.file}"
                where = _difference(closest.body, request.body)
        self._told += 1
        if self._told <= _MOST_TOLD:
            self._tell(f"replay: {request.method} {target_of(request.url)}: {what}{where}")
        error = orjson.dumps({"error": {"message": what}})
        return _Played(400, {"content-type": "application/json"}, iter((error,)), None)

    def _closest(self, request: HttpRequest) -> Exchange | None:
        """The exchange with the same method and path whose body is the same for longest."""
        alike = [
            name
            for (method, target, _), names in self._files.items()
            if (method, target) == (request.method, target_of(request.url))
            for name in names[:1]
        ]
        try:
            found = [self._read(name) for name in alike]
        except Unplayable:
            return None
        return max(found, key=lambda one: _in_common(bytes_of(one.body), request.body), default=None)


class _Played:
    """A recorded answer; its pieces come at once."""

    def __init__(self, status: int, headers: Mapping[str, str], pieces: Iterator[bytes], end: WireError | None) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces
        self._end = end

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        for piece in self._pieces:
            return piece
        if self._end is not None:
            raise self._end
        raise StopAsyncIteration


def _end_of(exchange: Exchange) -> WireError:
    """How an exchange that did not come to its end broke off."""
    broke = exchange.broke
    if broke is None:
        return WireError(f"{_LEFT}, {exchange.after:.1f} s after the request", sent=True)
    return WireError(broke.what, broke.sent, broke.lasting)


def _in_common(one: bytes, other: bytes) -> int:
    """How many bytes two bodies begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _difference(recorded: str, sent: bytes) -> str:
    """Where a request differs from the recorded one: `, which differs at messages[2].content`."""
    try:
        path = _differs(orjson.loads(bytes_of(recorded)), orjson.loads(sent), "")
    except ValueError:
        path = None
    if path is None:
        return f", which differs after {_in_common(bytes_of(recorded), sent):,} bytes"
    return f", which differs at {path.lstrip('.')}"


def _differs(one: Any, other: Any, path: str) -> str | None:
    """The path to the first place where two values differ; None where they do not."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = dict.fromkeys((*other, *one))
        steps = ((f"{path}.{name}", one.get(name, ...), other.get(name, ...)) for name in names)
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        steps = ((f"{path}[{index}]", *pair) for index, pair in enumerate(zip(one, other, strict=True)))
    else:
        return None if one == other else path or "its beginning"
    return next((found for step in steps if (found := _differs(step[1], step[2], step[0])) is not None), None)
