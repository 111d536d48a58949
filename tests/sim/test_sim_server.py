"""The loopback server performs what the engine says, on a real connection."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import anyio
import pytest

from runner.sim.config import Latency, ModelConfig, Style, fault
from runner.sim.engine import Engine, Fault, Limits, Piece, SimAnswer, SimConfig
from runner.sim.server import serve
from tests.sim.asking import body, heard, provider, raw, read_stream, request
from tests.sim.tongues import FORMATS, OPENROUTER

PATIENCE = 100.0
"""Seconds after which a test that hangs is broken; nothing here waits so long."""


class FixedWall:
    def wall(self) -> float:
        return 1_700_000_000.0


def over_http(engine: Engine, test: Callable[[aiohttp.ClientSession, str], Awaitable[None]]) -> None:
    """Runs a test against the engine's server."""

    async def main() -> None:
        with anyio.fail_after(PATIENCE):
            async with (
                serve(engine, clock=FixedWall()) as url,
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session,
            ):
                await test(session, url)

    anyio.run(main)


async def ended(engine: Engine, how: str) -> None:
    """Waits until the server has noticed how its last exchange ended."""
    while engine.received[-1].ended != how:  # noqa: ASYNC110  (the engine tells nobody)
        await anyio.sleep(0.001)


@pytest.mark.parametrize("latency", [Latency(), Latency(0.01, 0.0001, keep_alive=0.002)])
@pytest.mark.parametrize("stream", [True, False])
def test_the_bytes_on_the_connection_are_the_engines(stream: bool, latency: Latency) -> None:
    """At once or piece by piece: status, headers and body arrive as the engine made them."""
    model = ModelConfig(reasoning=20, latency=latency)
    engine, twin = provider(model), provider(model)

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(f"{url}/chat/completions", data=body(stream=stream)) as response:
            assert response.status == 200
            assert response.headers["x-request-id"] == "req-1"
            data = await response.read()
        answer = twin.handle(request(stream=stream), 1_700_000_000.0)
        if stream:
            assert read_stream(data) == heard(answer)
            assert data.count(b"keep-alive") == raw(answer).count(b"keep-alive")
        else:
            assert len(data) == len(raw(answer))
        await ended(engine, "finished")
        assert engine.bill.charges == twin.bill.charges

    over_http(engine, test)


def test_pieces_come_one_by_one() -> None:
    """A reader has the first words while the model still speaks."""
    engine = provider(ModelConfig(reply=Style(200, 0.0), latency=Latency(0.0, 0.05)))

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(f"{url}/chat/completions", data=body()) as response:
            first = await response.content.readany()
            assert b"data: " in first
            assert b"[DONE]" not in first
            assert engine.received[0].ended == "open"

    over_http(engine, test)


@pytest.mark.parametrize("kind", ["refused", "reset"])
def test_a_connection_that_breaks_before_the_headers_has_no_answer(kind: str) -> None:
    """The client sees a server that hung up."""

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await session.post(f"{url}/chat/completions", data=body())

    over_http(provider(faults=(fault(kind),)), test)


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_answer_is_seen_to_be_cut(stream: bool, after: int) -> None:
    """Status and the first pieces arrive, then the body breaks off; the server has ended it, not the client."""
    engine = provider(faults=(fault("cut", after=after),))

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(f"{url}/chat/completions", data=body(stream=stream)) as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
        await ended(engine, "finished")

    over_http(engine, test)


@pytest.mark.parametrize("kind", ["silent", "stall"])
def test_a_client_that_leaves_is_noticed(kind: str) -> None:
    """A stalled answer holds its slot until the client goes, and not longer."""
    engine = provider(limits=Limits(concurrency=1), faults=(fault(kind, request=(1,)),))

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        async def ask() -> None:
            async with session.post(f"{url}/chat/completions", data=body()) as response:
                await response.read()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            while not engine.received:  # noqa: ASYNC110  (the engine tells nobody)
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
        await ended(engine, "left")
        async with session.post(f"{url}/chat/completions", data=body()) as response:
            assert response.status == 200
            await response.read()

    over_http(engine, test)


def test_a_server_can_close_on_a_stalled_answer() -> None:
    """Closing does not wait for what never ends."""
    engine = provider(faults=(fault("stall"),))

    async def main() -> None:
        with anyio.fail_after(PATIENCE):
            async with aiohttp.ClientSession() as session:
                async with serve(engine) as url:
                    response = await session.post(f"{url}/chat/completions", data=body())
                response.close()
        assert engine.received[0].ended == "left"

    anyio.run(main)


@pytest.mark.parametrize(
    ("told", "status"),
    [(fault("busy", retry_after=2.0), 429), (fault("server_error", status=529), 529), (fault("redirect"), 307)],
)
def test_errors_keep_their_status_on_the_way(told: Fault, status: int) -> None:
    """What the engine refuses arrives as a plain HTTP error, with its headers."""

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(f"{url}/chat/completions", data=body(), allow_redirects=False) as response:
            assert response.status == status
            assert ("retry-after" in response.headers) == (told.kind == "busy")
            assert "error" in await response.json()

    over_http(provider(faults=(told,)), test)


def test_dates_are_on_the_wall_clock() -> None:
    """A Retry-After as a date is in the client's own time."""

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(f"{url}/chat/completions", data=body()) as response:
            assert response.headers["retry-after"].startswith("Tue, 14 Nov 2023 23:1")

    over_http(provider(faults=(fault("busy", retry_after=3600.0, retry_form="date"),)), test)


def test_the_books_are_open_under_sim() -> None:
    """The bill and the requests can be read while the server runs, and reset."""
    engine = Engine(SimConfig(models={"m": ModelConfig()}))

    async def get(session: aiohttp.ClientSession, url: str) -> Any:
        async with session.get(url) as response:
            assert response.status == 200
            return await response.json()

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        root = url.removesuffix("/v1")
        async with session.post(f"{url}/chat/completions", data=body(), headers={"Authorization": "Bearer k"}) as reply:
            await reply.read()
        bill = await get(session, f"{root}/sim/bill")
        assert (bill["accepted"], bill["played"]) == (1, {})
        (row,) = await get(session, f"{root}/sim/requests")
        assert (row["sha256"], row["outcome"]) == (engine.received[0].sha256, "answered")
        assert (await get(session, f"{url}/models"))["data"][0]["id"] == "m"
        async with session.post(f"{root}/sim/reset") as response:
            assert response.status == 204
        assert (await get(session, f"{root}/sim/bill"))["accepted"] == 0
        async with session.get(f"{root}/sim/reset") as response:
            assert response.status == 404

    over_http(engine, test)


def test_a_large_request_is_read_whole() -> None:
    """A long conversation is more than the usual megabyte of a web server."""
    engine = provider(ModelConfig(reply=Style(echo=True)))
    long = body("word " * 500_000, stream=False, max_tokens=5)

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        async with session.post(f"{url}/chat/completions", data=io.BytesIO(long)) as response:
            assert response.status == 200
            assert (await response.json())["usage"]["prompt_tokens"] > 500_000

    over_http(engine, test)


def test_many_at_once_are_all_served(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand requests over two hundred connections: each answered once, nothing logged as wrong."""
    engine = provider(fault_rate=0.2)

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        async def ask(first: int) -> None:
            for n in range(first, 1000, 200):
                try:
                    async with session.post(f"{url}/chat/completions", data=body(f"Question {n}")) as response:
                        await response.read()
                except aiohttp.ClientError:
                    continue

        async with asyncio.TaskGroup() as group:
            for first in range(200):
                group.create_task(ask(first))

    with caplog.at_level(logging.INFO):
        over_http(engine, test)
    assert len(engine.received) == 1000 - engine.played["refused"]
    assert {r.ended for r in engine.received} == {"finished"}
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_every_format_is_served_on_a_real_connection() -> None:
    """Whatever its path, its question and its way to stream: the bytes are those of the engine."""
    engine, twin = (OPENROUTER.provider(ModelConfig(reasoning=20)) for _ in range(2))

    async def test(session: aiohttp.ClientSession, url: str) -> None:
        for tongue in FORMATS:
            asked = tongue.ask()
            address = url.removesuffix("/v1") + asked.path
            async with session.post(address, data=asked.body, headers=asked.headers) as response:
                assert response.status == 200
                answer = SimAnswer(0, 200, tuple(response.headers.items()), (Piece(0.0, await response.read()),))
            head = tuple((name.lower(), value) for name, value in answer.headers)
            said = tongue.said(replace(answer, headers=head))
            assert (said.text, said.finish) == (
                tongue.said(twin.handle(asked, 0.0)).text,
                tongue.finish("stop"),
            )
            if tongue is OPENROUTER:
                async with session.get(f"{url}/generation", params={"id": said.id}) as response:
                    assert (await response.json())["data"]["id"] == said.id

    over_http(engine, test)
