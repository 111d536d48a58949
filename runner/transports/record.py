"""A wire that keeps what goes over another one: each exchange as a file, with every key masked.

Nothing waits for the files: they are written on the side, and a night whose recording cannot be written goes on
without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import anyio

from runner.foreign import MASK, masker, storable
from runner.providers.loose import loads
from runner.transports.exchanges import Begun, Broke, Chunk, Exchange, bytes_of, number_of, text_of, texts_of, written
from runner.world import Clock, Disk, HttpRequest, HttpResponse, Secret, Wire, WireError

_MOST_WAITING: Final = 1000
"""Exchanges that may wait for a slow disk; any more are lost to the recording."""
_LONGEST_KEY: Final = 4096
_LEAST_OF_A_KEY: Final = 8
"""So much of a key's beginning, at the end of what came, is taken for the key."""
_ESCAPED: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_OF_THE_SESSION: Final = ("set-cookie", "cookie")


class Recorder:
    """A wire around a wire; use it as a context, which ends when everything is written.

    `secrets` are all keys that may be sent or come back; `tell` is told once when the recording is not whole.
    """

    def __init__(
        self,
        wire: Wire,
        disk: Disk,
        clock: Clock,
        folder: Path,
        secrets: Iterable[Secret],
        tell: Callable[[str], None],
    ) -> None:
        self._wire = wire
        self._disk = disk
        self._clock = clock
        self._folder = folder
        self._mask = Mask(secrets)
        self._tell = tell
        self._sent = max((number_of(name) or 0 for name in disk.listdir(folder)), default=0)
        self._is_told = False
        self._done = anyio.Event()
        self._tasks = anyio.create_task_group()
        self._ended, self._waiting = anyio.create_memory_object_stream[_Hearing](_MOST_WAITING)

    async def __aenter__(self) -> Recorder:
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._write)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended.close()
        with anyio.CancelScope(shield=True):
            await self._done.wait()
        # Told of no error: what ended the night is not to leave here inside a group.
        await self._tasks.__aexit__(None, None, None)

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        """Send the request over the other wire; the body of the `async with` reads the answer. Raises WireError."""
        self._sent += 1
        hearing = _Hearing(self._sent, self._clock.wall(), request)
        try:
            try:
                async with self._wire.exchange(request) as response:
                    yield hearing.begun(response)
            except WireError as error:
                hearing.failed(error)
                raise
        finally:
            hearing.after = anyio.current_time() - hearing.began
            self._put(hearing)

    def _put(self, hearing: _Hearing) -> None:
        try:
            self._ended.send_nowait(hearing)
        except (anyio.WouldBlock, anyio.ClosedResourceError):
            self._miss("the disk is too slow")

    async def _write(self) -> None:
        with self._waiting:
            async for hearing in self._waiting:
                exchange = self._mask.exchange(hearing.exchange())
                try:
                    await self._disk.replace(self._folder / exchange.file, written(exchange))
                except OSError as error:
                    self._miss(error.strerror or str(error))
        self._done.set()

    def _miss(self, why: str) -> None:
        if not self._is_told:
            self._is_told = True
            self._tell(f"the recording is not whole from now on: {self._folder} cannot be written ({why})")


class _Hearing:
    """One exchange under way: what was sent, and what is heard."""

    def __init__(self, number: int, at: float, request: HttpRequest) -> None:
        self._number = number
        self._at = at
        self._request = request
        self._response: HttpResponse | None = None
        self._response_after = 0.0
        self._pieces: list[tuple[float, bytes]] = []
        self._broke: Broke | None = None
        self._whole = False
        self.began = anyio.current_time()
        self.after = 0.0

    def begun(self, response: HttpResponse) -> _Heard:
        self._response = response
        self._response_after = anyio.current_time() - self.began
        return _Heard(response, self)

    def heard(self, piece: bytes) -> None:
        self._pieces.append((anyio.current_time() - self.began, piece))

    def ended(self) -> None:
        self._whole = True

    def failed(self, error: WireError) -> None:
        """The wire broke, and not the patience of who reads: whose errors pass here when the answer has begun."""
        if self._response is None or self._broke is not None:
            self.broke(error)

    def broke(self, error: WireError) -> None:
        self._broke = Broke(error.what, error.sent, error.lasting)

    def exchange(self) -> Exchange:
        request, response = self._request, self._response
        shown = {name: MASK if isinstance(value, Secret) else value for name, value in request.headers.items()}
        answer = None
        if response is not None:
            chunks = tuple(texts_of(self._pieces))
            answer = Begun(response.status, dict(response.headers), self._response_after, chunks)
        return Exchange(
            number=self._number,
            at=self._at,
            method=request.method,
            url=request.url,
            headers=shown,
            body=text_of(request.body),
            digest=sha256(request.body).hexdigest(),
            answer=answer,
            broke=self._broke,
            left=self._broke is None and not self._whole,
            after=self.after,
        )


class _Heard:
    """An answer that somebody listens to on its way; an iterator and no generator, as the wires' own."""

    def __init__(self, response: HttpResponse, hearing: _Hearing) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._hearing = hearing
        self._pieces: AsyncIterator[bytes] | None = None

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            if self._pieces is None:
                self._pieces = aiter(self._response.chunks())
            piece = await anext(self._pieces)
        except StopAsyncIteration:
            self._hearing.ended()
            raise
        except WireError as error:
            self._hearing.broke(error)
            raise
        self._hearing.heard(piece)
        return piece


# --- keys ------------------------------------------------------------------------------------------------------------


class Mask:
    """Takes keys out of exchanges: whole ones, ones that lie across pieces, and the beginning of one at the end."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        texts = (text for one in secrets for text in (one.reveal(), *one.reveal().split()))
        # As with endpoints: a key may stand behind a word, and what is shorter protects nothing.
        known = dict.fromkeys(text for text in texts if len(text.strip()) >= _LEAST_OF_A_KEY)
        self._secrets = tuple(Secret(text) for text in known)
        self._masked = masker(self._secrets)

    def text(self, text: str) -> str:
        """The text without keys."""
        return self._masked(text)

    def exchange(self, exchange: Exchange) -> Exchange:
        """The exchange without keys."""
        answer, broke = exchange.answer, exchange.broke
        if answer is not None:
            answer = replace(answer, headers=self._headers(answer.headers), chunks=self._chunks(answer.chunks))
        if broke is not None:
            broke = replace(broke, what=self._masked(broke.what))
        return replace(
            exchange,
            url=self._masked(exchange.url),
            headers=self._headers(exchange.headers),
            body=self._document(exchange.body),
            answer=answer,
            broke=broke,
        )

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {
            self._masked(name): MASK if name.lower() in _OF_THE_SESSION else self._masked(value)
            for name, value in headers.items()
        }

    def _chunks(self, chunks: Sequence[Chunk]) -> tuple[Chunk, ...]:
        texts = self.parted([chunk.text for chunk in chunks])
        found = [Chunk(chunk.after, text) for chunk, text in zip(chunks, texts, strict=True)]
        whole = "".join(texts)
        cleaned = self._document(whole)
        if cleaned == whole:
            return tuple(chunk for chunk in found if chunk.text)
        # Somewhere in the JSON of the answer, deltas made a key together: each line stands where its end came.
        lines, before, ends = [*_lines(cleaned)], [*_lines(whole)], _ends(texts)
        if len(lines) != len(before):
            return (Chunk(found[-1].after, cleaned),)
        there = [""] * len(found)
        for line, end in zip(lines, _ends(before), strict=True):
            there[next(index for index, reached in enumerate(ends) if reached >= end)] += line
        return tuple(Chunk(chunk.after, text) for chunk, text in zip(found, there, strict=True) if text)

    def parted(self, pieces: Sequence[str]) -> list[str]:
        """The pieces with every key masked; where one lies across several, the first of these has them all."""
        whole = "".join(pieces)
        begun = self._begun(whole)
        if begun == len(whole) and self._masked(whole) == whole:
            return [*pieces]
        groups: list[list[str]] = []
        place = 0
        for piece in pieces:
            if groups and not self._parts_at(whole, place, begun):
                groups[-1].append(piece)
            else:
                groups.append([piece])
            place += len(piece)
        found: list[str] = []
        place = 0
        for group in groups:
            text = "".join(group)
            keep = text[: max(0, begun - place)] if place + len(text) > begun else text
            found += [self._masked(keep) + (MASK if keep != text else ""), *([""] * (len(group) - 1))]
            place += len(text)
        return found

    def _parts_at(self, whole: str, place: int, begun: int) -> bool:
        """True when no key lies across this place."""
        if place > begun:
            return False
        before, after = whole[max(0, place - _LONGEST_KEY) : place], whole[place : place + _LONGEST_KEY]
        return self._masked(before + after) == self._masked(before) + self._masked(after)

    def _begun(self, text: str) -> int:
        """Where the beginning of a key stands at the end of a text; its length where none does."""
        for key in (secret.reveal().strip() for secret in self._secrets):
            start = text.rfind(key[:_LEAST_OF_A_KEY], max(0, len(text) - len(key)))
            if start >= 0 and text[start:] != key and key.startswith(text[start:]):
                return start
        return len(text)

    def _document(self, text: str) -> str:
        """A body whose JSON values hold no key, also none whose parts follow each other line by line."""
        if not self._secrets:
            return text
        text = self.parted([text])[0]
        lines = [text] if _parsed(text) is not None else [*_lines(text)]
        heads = [line[: len(line) - len(line.removeprefix("data:").lstrip(" "))] for line in lines]
        parsed = [_parsed(line[len(head) :]) for head, line in zip(heads, lines, strict=True)]
        places: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
        for index, value in enumerate(parsed):
            for path, said in _texts(value):
                places.setdefault(path, []).append((index, said))
        changed: set[int] = set()
        for path, some in places.items():
            for (index, said), cleaned in zip(some, self.parted([said for _, said in some]), strict=True):
                if cleaned != said:
                    _set(parsed[index], path, cleaned)
                    changed.add(index)
        for index, value in enumerate(parsed):
            if index in changed or self._is_hidden_in(lines[index]):
                self._rename(value)
                ending = "\n" if lines[index].endswith("\n") else ""
                lines[index] = heads[index] + (MASK if value is None else _dumped(value)) + ending
        return "".join(lines)

    def _rename(self, value: Any) -> None:
        """Mask the keys in the names of all fields."""
        for one in _objects(value):
            fields = [(self._masked(name), inner) for name, inner in one.items()]
            one.clear()
            one.update(fields)

    def _is_hidden_in(self, text: str) -> bool:
        """True when there is a key in a text once its escapes are read, whether it is JSON or not."""
        plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], text)
        return plain != text and self._masked(plain) != plain


def _parsed(text: str) -> Any:
    """The object or list that a text is; None when it is none."""
    try:
        value = loads(bytes_of(text))
    except ValueError:
        return None
    return value if isinstance(value, (dict, list)) else None


def _dumped(value: Any) -> str:
    """JSON that says this; its mask alone where it lies too deep to be written."""
    try:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        return MASK
    # Half a character has no place in a body, but it has an escape in JSON.
    return text if storable(text) == text else json.dumps(value, separators=(",", ":"))


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, each with its end; only a line feed ends one."""
    parts = text.split("\n")
    yield from (f"{part}\n" for part in parts[:-1])
    if parts[-1]:
        yield parts[-1]


def _ends(texts: Iterable[str]) -> list[int]:
    end = 0
    return [end := end + len(text) for text in texts]


def _texts(value: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Every text in a value and the path to it; without recursion, because a stranger says how deep it lies."""
    waiting: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    while waiting:
        path, one = waiting.pop()
        if isinstance(one, str):
            yield path, one
        elif isinstance(one, (dict, list)):
            inside = one.items() if isinstance(one, dict) else enumerate(one)
            waiting += [((*path, step), inner) for step, inner in inside]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a value."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, (dict, list)):
            waiting += one.values() if isinstance(one, dict) else one
        if isinstance(one, dict):
            yield one


def _set(value: Any, path: tuple[Any, ...], text: str) -> None:
    for step in path[:-1]:
        value = value[step]
    value[path[-1]] = text
