"""A key that a provider sends back, in whatever place and form, stays where it was: in the request."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import anyio
import orjson
import pytest

from runner.call import Answer, Failure, Reply
from runner.transports.wire import AiohttpWire
from runner.world import HttpRequest, Secret, WireError
from tests.wire.manners import DONE, GOOD, STREAM_HEAD, Connection, answer, ask, call, chunk, serve

CANARY = "sk-canary/7Qw+zR4-pLmN9"
OTHER = "hdr-canary-0xBEEFCAFE"
FORMS: dict[str, Callable[[str], str]] = {
    "as it is": lambda key: key,
    "in a sentence": lambda key: f"wrong key {key}, sorry",
    "URL-encoded": lambda key: quote(key, ""),
    "in base64": lambda key: base64.b64encode(key.encode()).decode(),
    "in base64 behind a name": lambda key: base64.b64encode(f"user:{key}".encode()).decode(),
    "with a slash escaped": lambda key: key.replace("/", "\\/"),
}


def events(*chunks: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(one) + b"\n\n" for one in chunks) + DONE


def streamed(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": "Hello", **fields}, "finish_reason": "stop"}
    return {"id": "gen-1", "model": "m", "choices": [choice]}


def error(status: int, said: str, **fields: Any) -> bytes:
    head = b"HTTP/1.1 %d Oh\r\nx-echo: %s\r\n" % (status, said.encode())
    return answer(orjson.dumps({"error": {"message": said, "code": said, "param": said, **fields}}), head)


def halves(said: str) -> tuple[str, str]:
    return said[: len(said) // 2], said[len(said) // 2 :]


PLACES: dict[str, Callable[[str], bytes]] = {
    "text": lambda said: answer(events(streamed(content=f"Hello {said} there"))),
    "text, over two deltas": lambda said: answer(
        b"".join(chunk(content=half) for half in ("Hello ", *halves(said))) + chunk(finish="stop")
    ),
    "reasoning": lambda said: answer(events(streamed(reasoning=said))),
    "refusal": lambda said: answer(events(streamed(refusal=said, content=None))),
    "thinking in the text": lambda said: answer(events(streamed(content=f"<think>{said}</think>Hello"))),
    "id": lambda said: answer(events({**streamed(), "id": said})),
    "model": lambda said: answer(events({**streamed(), "model": said})),
    "upstream": lambda said: answer(events({**streamed(), "provider": said})),
    "finish reason": lambda said: answer(events({"choices": [{"delta": {"content": "Hi"}, "finish_reason": said}]})),
    "usage": lambda said: answer(events({**streamed(), "usage": {"prompt_tokens": said, said: [said]}})),
    "error inside": lambda said: answer(events(streamed(), {"error": {"message": said, "code": said}})),
    "partial text": lambda said: answer(chunk(content=f"Hello {said}")),
    "plain answer": lambda said: answer(
        orjson.dumps({"id": said, "choices": [{"message": {"content": f"H {said}"}, "finish_reason": "stop"}]})
    ),
    "headers": lambda said: answer(GOOD + DONE, STREAM_HEAD + f"x-key: {said}\r\n".encode()),
    "error message": lambda said: error(401, said),
    "error that is no JSON": lambda said: answer(f"denied: {said}".encode(), b"HTTP/1.1 500 Oh\r\n"),
    "error of a schema": lambda said: error(422, said, detail=[{"loc": ["body", said], "msg": said}]),
    "at the limit of a long error": lambda said: error(400, "x" * 570 + said),
    "redirect": lambda said: answer(b"", f"HTTP/1.1 307 Oh\r\nlocation: http://127.0.0.1/{said}\r\n".encode()),
    "bad chunk": lambda said: STREAM_HEAD + f"transfer-encoding: chunked\r\n\r\n{said}\r\n".encode(),
    "bad status line": lambda said: f"HTTP/1.1 {said} {said}\r\n\r\n".encode(),
    "bad header": lambda said: f"HTTP/1.1 200 OK\r\n{said}\r\n\r\n".encode(),
    "bad length": lambda said: f"HTTP/1.1 200 OK\r\ncontent-length: {said}\r\n\r\n".encode(),
    "bad encoding": lambda said: f"HTTP/1.1 200 OK\r\ncontent-encoding: {said}\r\n\r\n".encode(),
}


def pieces_of(key: str) -> list[str]:
    """What of a key must not be found anywhere."""
    pieces = {key[at : at + 10] for at in range(len(key) - 9)}
    return sorted(pieces | {quote(key, "")[:12], base64.b64encode(key.encode()).decode()[:12]})


def exchanged(said: bytes) -> tuple[Answer, list[str]]:
    """The answer to a call with two canaries, and the generations that were told."""
    told: list[str] = []

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(said)

    async def main() -> Answer:
        headers: dict[str, str | Secret] = {"x-api-key": Secret(f"Token {OTHER}")}
        async with serve(behave) as server, AiohttpWire() as wire:
            return await ask(wire, server.url, call(idle=0.3), key=CANARY, headers=headers, started=told.append)

    return anyio.run(main), told


@pytest.mark.fault(77)
@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_an_echoed_key_is_in_no_outcome(place: Callable[[str], bytes], form: Callable[[str], str]) -> None:
    """Neither the key nor a piece of it is in any field, in the repr, or in the id that is told early."""
    for key in (CANARY, OTHER):
        got, told = exchanged(place(form(key)))
        shown = repr(got) + repr(asdict(got)) + repr(told)
        assert [piece for piece in pieces_of(key) if piece in shown] == []


def test_the_mask_leaves_the_rest_of_the_text() -> None:
    """Only the key is replaced, and what it is replaced by can be seen."""
    got, _ = exchanged(PLACES["text, over two deltas"](f"key {CANARY}!"))
    assert isinstance(got.outcome, Reply)
    assert got.outcome.text == "Hello key ***!"


def test_a_text_that_is_cut_within_a_key_shows_no_part_of_it() -> None:
    """The beginning of a key at the end of what came is masked like the key."""
    got, _ = exchanged(answer(chunk(content=f"Hello {CANARY[:-4]}")))
    assert isinstance(got.outcome, Failure)
    assert got.outcome.partial == "Hello ***"


def test_a_whole_text_may_end_in_a_word_that_a_key_begins_with() -> None:
    """Only where a text was cut, by the connection or by the limit, may its end be the beginning of a key."""
    begun = CANARY[:8]
    whole, limited = (
        exchanged(answer(chunk(content=f"It begins with {begun}") + chunk(finish=finish) + DONE))[0].outcome
        for finish in ("stop", "length")
    )
    assert isinstance(whole, Reply) and isinstance(limited, Reply)
    assert (whole.text, limited.text) == (f"It begins with {begun}", "It begins with ***")


@pytest.mark.parametrize("key", ["none", "ollama", "EMPTY"])
def test_a_word_that_stands_for_a_key_is_left_in_the_text(key: str) -> None:
    """Local servers are given a word for a key; a reply with that word is not spoiled."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(chunk(content=f"{key} of it") + chunk(finish="stop") + DONE))

    async def main() -> Answer:
        async with serve(behave) as server, AiohttpWire() as wire:
            return await ask(wire, server.url, key=key)

    outcome = anyio.run(main).outcome
    assert isinstance(outcome, Reply)
    assert outcome.text == f"{key} of it"


@pytest.mark.fault(77)
@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nx: " + CANARY.encode() * 50_000,
        f"{CANARY} {CANARY}\r\n\r\n".encode(),
        f"HTTP/1.1 200 OK\r\ncontent-length: {CANARY}\r\n\r\n".encode(),
        STREAM_HEAD + f"transfer-encoding: chunked\r\n\r\n{CANARY}\r\n".encode(),
        b"",
    ],
    ids=["endless header", "no HTTP", "bad length", "bad chunk", "closed"],
)
def test_no_traceback_of_the_wire_shows_a_key(said: bytes) -> None:
    """The error carries no error of the library with it, and no local variable of its frames holds the key."""
    caught: list[WireError] = []

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(said)

    async def main() -> None:
        async with serve(behave) as server, AiohttpWire() as wire:
            request = HttpRequest("POST", server.url, {"authorization": Secret(f"Bearer {CANARY}")}, b"{}", 1.0)
            try:
                async with wire.exchange(request) as response:
                    async for _ in response.chunks():
                        pass
            except WireError as broke:
                caught.append(broke)

    anyio.run(main)
    (broke,) = caught
    assert broke.__cause__ is None
    assert broke.__context__ is None
    ours = [frame for frame, _ in traceback.walk_tb(broke.__traceback__) if "/runner/" in frame.f_code.co_filename]
    assert ours
    shown = "".join(repr(frame.f_locals) for frame in ours)
    assert CANARY not in shown + repr(broke) + str(broke)
