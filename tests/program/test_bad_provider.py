"""The command against a server on raw sockets that lies, floods and breaks off: what its journal and exit code say.

What a single call comes to is shown in tests/wire; here whole runs meet the few faults that end in more than a failure.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from runner.events import Failed, Replied
from tests.program.bench import KEY, Bench, a_bench, in_flight
from tests.wire.manners import DONE, GOOD, STREAM_HEAD, BadServer, Behaviour, Connection, answer, chunk, chunked, serve

pytestmark = [pytest.mark.prove, pytest.mark.timeout(900)]

MIB = 1 << 20
AT_ONCE = 2
BAD = 2
"""So many requests meet the fault; all others are answered well."""
PATIENT = {"connect": "30s", "first": "30s", "idle": "30s", "total": "60s"}
HEADERS = STREAM_HEAD + b"transfer-encoding: chunked\r\n\r\n"
WHOLE = answer(GOOD + DONE)


@contextmanager
def a_bench_with(home: Path, behave: Behaviour, **changes: Any) -> Iterator[tuple[Bench, BadServer]]:
    """A small job whose provider is a server that does this on each connection."""
    with (
        a_bench(home, limits={"concurrency": AT_ONCE}, rounds=1, **changes) as bench,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(behave)) as server,
    ):
        bench.job["defaults"]["timeout"] = PATIENT
        bench.address(server.url)
        yield bench, server


async def cut(connection: Connection) -> None:
    """Less than was announced."""
    await connection.send(WHOLE[:-200])


async def cut_between_chunks(connection: Connection) -> None:
    """Half a reply, and then nothing, where the length was never told."""
    await connection.send(HEADERS + chunked(chunk(content="Half a ")))


async def slow(connection: Connection) -> None:
    """A byte at a time, for ever."""
    await connection.send(HEADERS)
    while True:
        await connection.send(chunked(b":"))
        await asyncio.sleep(0.02)


async def bomb(connection: Connection) -> None:
    """A gigabyte of nothing in a megabyte of gzip."""
    packer = zlib.compressobj(wbits=31)
    zeros = bytes(MIB)
    first = packer.compress(zeros) + packer.flush(zlib.Z_SYNC_FLUSH)
    more = packer.compress(zeros) + packer.flush(zlib.Z_SYNC_FLUSH)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n"
    await connection.send(head + b"transfer-encoding: chunked\r\n\r\n" + chunked(first))
    for _ in range(1023):
        await connection.send(chunked(more))


async def close(connection: Connection) -> None:
    """The request is read, and the connection is closed: it had been kept open a moment too long."""


def badly(fault: Behaviour, after: int = 0) -> Behaviour:
    """A server that has this fault `BAD` times, on connections that have served so many calls, and none afterwards."""
    left = BAD

    async def behave(connection: Connection) -> None:
        nonlocal left
        served = 0
        while True:
            await connection.request()
            if left and served >= after:
                left -= 1
                return await fault(connection)
            await connection.send(WHOLE)
            served += 1

    return behave


@pytest.mark.fault(8, 32, 33, 35, 37, 38)
@pytest.mark.parametrize(
    ("fault", "after"),
    [(cut, 0), (cut_between_chunks, 1), (slow, 0), (bomb, 0), (close, 1)],
    ids=["cut", "cut between chunks", "slow", "bomb", "kept open too long"],
)
def test_an_answer_that_never_ends_well_stays_charged_and_is_asked_for_again(
    tmp_path: Path, fault: Behaviour, after: int
) -> None:
    """The run completes in little memory; each such call is on record as lost, at all that was reserved for it."""
    with a_bench_with(tmp_path, badly(fault, after)) as (bench, server):
        if fault is slow:
            bench.job["defaults"]["timeout"] = {**PATIENT, "total": "3s"}
            bench.address(server.url)
        bench.within = ("sh", "-c", f'ulimit -d {120 * 1024} && exec "$@"', "sh")
        code, process = bench.done()
        assert code == 0, process.said
        events = [record.event for record in bench.records()]
        failed = [event for event in events if isinstance(event, Failed)]
        assert [(event.failure, event.money) for event in failed] == [("lost", "assumed")] * BAD
        reserved = {(sent.cell, sent.turn, sent.attempt): sent.reserved for sent in bench.sents()}
        assert all(event.cost == reserved[event.cell, event.turn, event.attempt] for event in failed)
        assert {event.text for event in events if isinstance(event, Replied)} == {"Hi there"}
        assert bench.statuses() == {"complete": 6} and in_flight(bench.records()) == set()
        came = Counter(sha256(received.body).hexdigest() for received in server.requests)
        assert came == Counter(sent.request for sent in bench.sents()) and set(came.values()) == {1}
        assert f"assumed for {BAD} calls" in process.said
        assert bench.traces_of(KEY.encode()) == []


@pytest.mark.fault(42)
def test_a_redirect_to_another_host_gets_neither_key_nor_prompt_and_ends_that_provider(tmp_path: Path) -> None:
    """One request, one clear line, exit 3; the other server never hears of it, and the money stays free."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve(badly(close))) as other:

        async def moved(connection: Connection) -> None:
            await connection.request()
            location = f"http://localhost:{other.port}/v1/chat/completions".encode()
            await connection.send(b"HTTP/1.1 307 Moved\r\ncontent-length: 0\r\nlocation: " + location + b"\r\n\r\n")

        with a_bench_with(tmp_path, moved) as (bench, server):
            code, process = bench.done()
            assert code == 3, process.said
            assert other.connections == 0 and 1 <= len(server.requests) <= AT_ONCE
            assert process.said.count("redirect") >= 1 and "0 of 6 complete" in process.said
            assert bench.ledger().settled["run", ""] == 0
            assert {row["status"] for row in bench.rows()} == {"pending"}
            assert bench.traces_of(KEY.encode()) == []
