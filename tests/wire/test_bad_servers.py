"""A call over the real wire to servers that break off, stall, lie and flood: the outcome is the right one each time."""

from __future__ import annotations

import asyncio
import gc
import socket
import tracemalloc
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from runner.call import Answer, Call, Failure, Reply
from runner.providers import DIALECTS
from runner.transports.wire import AiohttpWire
from runner.world import Secret
from tests.wire.manners import (
    DONE,
    GOOD,
    STREAM_HEAD,
    BadServer,
    Behaviour,
    Connection,
    answer,
    ask,
    call,
    chunk,
    chunked,
    serve,
)

PAGE = b"<!doctype html><title>Welcome</title>"


def outcome_of(
    behave: Behaviour, asked: Call | None = None, calls: int = 1, closed_between: bool = False
) -> tuple[list[Answer], BadServer]:
    """The answers to calls that follow one another, or the ends of their connections, and what the server saw."""

    async def main() -> tuple[list[Answer], BadServer]:
        async with serve(behave) as server, AiohttpWire() as wire:
            answers = []
            for _ in range(calls):
                answers.append(await ask(wire, server.url, asked))
                if closed_between:
                    while server.closed < len(answers):  # noqa: ASYNC110 - what it does on a connection tells nobody
                        await asyncio.sleep(0.001)
                    await asyncio.sleep(0.01)  # the client hears of it before this ends, however late that is
            return answers, server

    return anyio.run(main)


def saying(*pieces: bytes, then: str = "close") -> Behaviour:
    """A server that reads the request, says these pieces, and closes, resets or hangs."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        for piece in pieces:
            await connection.send(piece)
            await asyncio.sleep(0.01)
        if then == "reset":
            connection.reset()
        elif then == "hang":
            await asyncio.Event().wait()

    return behave


def endlessly(first: bytes, piece: bytes, pause: float = 0.0) -> Behaviour:
    """A server that begins, and then says the same for ever."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(first)
        while True:
            await connection.send(piece)
            await asyncio.sleep(pause)

    return behave


async def listen_and_reset(connection: Connection) -> None:
    await connection.request()
    connection.reset()


def gzipped(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(body) + packer.flush()


PATIENT = call()
FIRST = call(first=0.3)
IDLE = call(idle=0.15)
TOTAL = call(total=0.5)
"""One clock that runs out, and only where the server lets it: a machine that stands still must change no outcome."""
HEADERS = STREAM_HEAD + b"transfer-encoding: chunked\r\n\r\n"
TO_THE_END = STREAM_HEAD + b"connection: close\r\n\r\n"
HELLO = chunk(content="Hello")
NO_CHUNK = b"zz\r\nnot a chunk\r\n"

BROKEN: Sequence[tuple[str, Behaviour, Call, str, str, str]] = [
    ("closed before an answer", saying(), PATIENT, "lost", "assumed", "without an answer"),
    ("reset after the request", listen_and_reset, PATIENT, "lost", "assumed", ""),
    ("hangs before headers", saying(then="hang"), FIRST, "lost", "assumed", "no data for 0.3 s"),
    ("hangs within headers", saying(b"HTTP/1.1 200 O", then="hang"), FIRST, "lost", "assumed", "no data for 0.3 s"),
    ("hangs after headers", saying(HEADERS, then="hang"), FIRST, "lost", "assumed", "no data for 0.3 s"),
    ("hangs in the body", saying(HEADERS, chunked(HELLO), then="hang"), IDLE, "lost", "assumed", "no further data"),
    ("reset after headers", saying(HEADERS, then="reset"), PATIENT, "lost", "assumed", ""),
    ("reset in the body", saying(HEADERS, chunked(HELLO), then="reset"), PATIENT, "lost", "assumed", ""),
    (
        "one byte at a time",
        endlessly(answer(b"", b"HTTP/1.1 200 OK\r\n").replace(b": 0", b": 9999") + b"{", b" ", 0.05),
        TOTAL,
        "lost",
        "assumed",
        "not complete after 0.5 s",
    ),
    (
        "signs of life for ever",
        endlessly(HEADERS, chunked(b": keep-alive\n\n"), 0.02),
        FIRST,
        "lost",
        "assumed",
        "no data for 0.3 s",
    ),
    (
        "blank lines for ever",
        endlessly(HEADERS, chunked(b"\n"), 0.02),
        FIRST,
        "lost",
        "assumed",
        "no data for 0.3 s",
    ),
    (
        "chunks without content for ever",
        endlessly(HEADERS, chunked(chunk(role="assistant", content="")), 0.02),
        FIRST,
        "lost",
        "assumed",
        "no data for 0.3 s",
    ),
    (
        "signs of life after some text",
        endlessly(HEADERS + chunked(HELLO), chunked(b": keep-alive\n\n"), 0.02),
        IDLE,
        "lost",
        "assumed",
        "no further data for 0.15 s",
    ),
    (
        "endless text",
        endlessly(HEADERS, chunked(chunk(content="blah " * 1000))),
        PATIENT,
        "lost",
        "assumed",
        "far longer than was asked for",
    ),
    (
        "an endless line",
        endlessly(HEADERS + chunked(b"data: "), chunked(b"x" * 10_000)),
        PATIENT,
        "lost",
        "assumed",
        "far longer than was asked for",
    ),
    (
        "an endless event",
        endlessly(HEADERS, chunked(b"data: " + b"x" * 10_000 + b"\n")),
        PATIENT,
        "lost",
        "assumed",
        "far longer than was asked for",
    ),
    (
        "an endless JSON",
        endlessly(TO_THE_END, b'{"x":' + b"[" * 10_000),
        PATIENT,
        "lost",
        "assumed",
        "far longer than was asked for",
    ),
    (
        "fewer bytes than promised",
        saying(answer(HELLO + b" " * 100)[:-50]),
        PATIENT,
        "lost",
        "assumed",
        "cut off",
    ),
    ("a chunk that is not whole", saying(HEADERS, chunked(HELLO)[:-20]), PATIENT, "lost", "assumed", "cut off"),
    ("no last chunk", saying(HEADERS, chunked(HELLO)), PATIENT, "lost", "assumed", "cut off"),
    ("no end after the finish reason", saying(HEADERS, chunked(GOOD)), PATIENT, "lost", "assumed", "cut off"),
    ("nonsense for a chunk", saying(HEADERS, NO_CHUNK, then="hang"), PATIENT, "lost", "assumed", "malformed"),
    ("nonsense with the headers", saying(HEADERS + NO_CHUNK, then="hang"), PATIENT, "lost", "assumed", ""),
    (
        "nonsense after some text",
        saying(HEADERS, chunked(HELLO), NO_CHUNK, then="hang"),
        PATIENT,
        "lost",
        "assumed",
        "malformed",
    ),
    ("nonsense, and then the end", saying(HEADERS, NO_CHUNK), PATIENT, "lost", "assumed", "malformed"),
    ("a chunk longer than it says", saying(HEADERS, b"4\r\n" + HELLO, then="hang"), PATIENT, "lost", "assumed", ""),
    ("half a JSON, ended by closing", saying(TO_THE_END, b'{"choices":[{"mess'), PATIENT, "lost", "assumed", "JSON"),
    ("half a stream, ended by closing", saying(TO_THE_END, HELLO), PATIENT, "lost", "assumed", "finish reason"),
    ("a header of 1 MiB", saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 2**20), PATIENT, "lost", "assumed", ""),
    ("not HTTP at all", saying(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"), PATIENT, "lost", "assumed", "not HTTP"),
    (
        "an unknown encoding",
        saying(answer(GOOD, STREAM_HEAD + b"content-encoding: br\r\n")),
        PATIENT,
        "lost",
        "assumed",
        "encoding",
    ),
    (
        "damaged gzip",
        saying(answer(GOOD, STREAM_HEAD + b"content-encoding: gzip\r\n")),
        PATIENT,
        "lost",
        "assumed",
        "damaged",
    ),
    (
        "half of what was compressed",
        saying(answer(gzipped(GOOD)[:60], STREAM_HEAD + b"content-encoding: gzip\r\n")),
        PATIENT,
        "lost",
        "assumed",
        "cut off",
    ),
    ("a web page", saying(answer(PAGE, b"HTTP/1.1 200 OK\r\n")), PATIENT, "error", "assumed", "web page"),
]


@pytest.mark.fault(32, 34, 35, 36, 37, 38, 39, 40, 86)
@pytest.mark.parametrize(
    ("behave", "asked", "kind", "money", "said"), [row[1:] for row in BROKEN], ids=[r[0] for r in BROKEN]
)
def test_an_answer_that_breaks_off_is_a_failure_that_may_be_billed(
    behave: Behaviour, asked: Call, kind: str, money: str, said: str
) -> None:
    """Whatever a server does after it was asked, the call ends, fails alone, and stays charged."""
    (got,), server = outcome_of(behave, asked)
    assert isinstance(got.outcome, Failure)
    assert (got.outcome.kind, got.outcome.scope, got.outcome.money) == (kind, "call", money), got.outcome.detail
    assert said in got.outcome.detail
    assert server.connections == 1


# --- never sent ------------------------------------------------------------------------------------------------------


def alone(url: str, asked: Call) -> Failure:
    """What becomes of a call to a place where nobody answers."""

    async def main() -> Answer:
        async with AiohttpWire() as wire:
            return await ask(wire, url, asked)

    outcome = anyio.run(main).outcome
    assert isinstance(outcome, Failure)
    return outcome


@pytest.mark.fault(29)
def test_a_refused_connection_costs_nothing() -> None:
    """Nobody listens: surely not sent, so the reservation is freed."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        failure = alone(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", PATIENT)
    assert (failure.kind, failure.scope, failure.money) == ("error", "call", "free")
    assert failure.detail == "cannot connect (Connection refused)"


@pytest.mark.fault(29)
def test_an_unknown_name_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to nothing is told as that, and was surely not sent."""

    def getaddrinfo(host: object, *_: object, **__: object) -> list[object]:
        assert host == "nowhere.invalid"
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    failure = alone("https://nowhere.invalid/v1", PATIENT)
    assert (failure.kind, failure.scope, failure.money) == ("error", "call", "free")
    assert failure.detail == "the host name is not known"


@pytest.mark.fault(30)
@pytest.mark.parametrize("then", ["close", "hang"])
def test_tls_to_a_plain_port_costs_nothing(then: str) -> None:
    """A handshake that fails, or never ends, is over in the time for connecting, with nothing sent."""

    async def plain(connection: Connection) -> None:
        await connection.reader.read(1)
        if then == "close":
            await connection.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        else:
            await asyncio.Event().wait()

    async def main() -> Answer:
        async with serve(plain) as server, AiohttpWire() as wire:
            return await ask(wire, server.url.replace("http:", "https:"), call(connect=0.2))

    failure = anyio.run(main).outcome
    assert isinstance(failure, Failure)
    # A server that speaks no TLS will not learn it by being asked again; one that is only silent may.
    scope = "provider" if then == "close" else "call"
    assert (failure.kind, failure.scope, failure.money) == ("error", scope, "free")


def test_an_address_that_is_none_costs_nothing() -> None:
    """A URL without a host is told as that."""
    failure = alone("http:///v1", PATIENT)
    assert (failure.kind, failure.money, failure.detail) == ("error", "free", "the address is not valid")


@pytest.mark.parametrize("key", ["sk-test-01234\r\n56789", "sk-test-01234\x0056789"])
def test_a_key_that_no_header_can_carry_costs_nothing(key: str) -> None:
    """The advice names where to look, and not the key."""

    async def main() -> Answer:
        async with serve(saying(answer(GOOD))) as server, AiohttpWire() as wire:
            return await ask(wire, server.url, key=key)

    failure = anyio.run(main).outcome
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.money) == ("error", "free")
    assert "line break" in failure.detail
    assert "sk-test" not in repr(failure)


# --- whole all the same ----------------------------------------------------------------------------------------------


WHOLE: Sequence[tuple[str, Behaviour]] = [
    ("with a length", saying(answer(GOOD + DONE))),
    ("chunked", saying(HEADERS, *(chunked(piece) for piece in (GOOD, DONE)), b"0\r\n\r\n")),
    (
        "byte for byte",
        saying(HEADERS, *(chunked(bytes([byte])) for byte in GOOD[:20]), chunked(GOOD[20:] + DONE) + b"0\r\n\r\n"),
    ),
    ("ended by closing", saying(TO_THE_END, GOOD)),
    ("reset after its end", saying(HEADERS, chunked(GOOD + DONE), then="reset")),
    ("left open after its end", saying(HEADERS, chunked(GOOD + DONE), then="hang")),
    ("nonsense after its end", saying(HEADERS, chunked(GOOD + DONE), NO_CHUNK, then="hang")),
    ("nonsense together with its end", saying(HEADERS, chunked(GOOD + DONE) + NO_CHUNK, then="hang")),
    ("compressed", saying(answer(gzipped(GOOD + DONE), STREAM_HEAD + b"content-encoding: gzip\r\n"))),
    (
        "compressed, and more after",
        saying(answer(gzipped(GOOD) + b"junk", STREAM_HEAD + b"content-encoding: gzip\r\n")),
    ),
    ("with CRLF", saying(answer((GOOD + DONE).replace(b"\n", b"\r\n")))),
    ("after keep-alive lines", saying(HEADERS, *[chunked(b": keep-alive\n\n\n")] * 3, chunked(GOOD) + b"0\r\n\r\n")),
]


@pytest.mark.parametrize("behave", [row[1] for row in WHOLE], ids=[row[0] for row in WHOLE])
def test_an_answer_is_a_reply_however_it_travels(behave: Behaviour) -> None:
    """When a text and its end have come, neither the form of the body nor what follows matters."""
    (got,), _ = outcome_of(behave, call(idle=0.3))
    assert isinstance(got.outcome, Reply)
    assert (got.outcome.text, got.outcome.finish, got.outcome.generation) == ("Hi there", "ok", "gen-1")
    assert (got.outcome.usage.input, got.outcome.usage.output) == (9, 3)


def test_the_generation_is_told_with_the_first_byte() -> None:
    """The provider's id is known, and told once, before any text has come and though none ever does."""
    told: list[str] = []

    async def main() -> Answer:
        behave = saying(HEADERS, chunked(chunk(role="assistant")), chunked(chunk(role="assistant")))
        async with serve(behave) as server, AiohttpWire() as wire:
            return await ask(wire, server.url, started=told.append)

    assert isinstance(anyio.run(main).outcome, Failure)
    assert told == ["gen-1"]


# --- floods ----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(8, 37)
@pytest.mark.parametrize(("first", "filling"), [(b'{"x":"', b"\0"), (b": ", b"\0"), (b"", b" "), (b"", b"\n")])
def test_a_bomb_is_cut_before_it_fills_the_memory(first: bytes, filling: bytes) -> None:
    """A small compressed body that would be 64 MiB is decoded in pieces and left early, even where it says nothing."""
    packer = zlib.compressobj(wbits=31)
    bomb = packer.compress(first) + b"".join(packer.compress(filling * 2**20) for _ in range(64)) + packer.flush()
    behave = saying(answer(bomb, STREAM_HEAD + b"content-encoding: gzip\r\n"))
    tracemalloc.start()
    try:
        (got,), _ = outcome_of(behave)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(got.outcome, Failure)
    assert got.outcome.detail == "the answer is far longer than was asked for, and was cut"
    assert peak < 16 * 2**20


@pytest.mark.fault(36)
def test_an_endless_error_body_is_left_and_the_status_counts() -> None:
    """What kind of error it is stands in the status; its words are read up to a limit."""
    head = b"HTTP/1.1 401 Unauthorized\r\ntransfer-encoding: chunked\r\n\r\n"
    (got,), _ = outcome_of(endlessly(head, chunked(b"no " * 1000)))
    assert isinstance(got.outcome, Failure)
    assert (got.outcome.scope, got.outcome.money, got.outcome.status) == ("provider", "free", 401)
    assert len(got.outcome.detail) <= 600


@pytest.mark.parametrize("then", ["close", "reset", "hang"])
def test_an_error_body_that_never_comes_leaves_the_status(then: str) -> None:
    """A 429 whose words are cut or late is a 429 all the same, with its wait."""
    head = b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 99\r\n\r\n{"
    (got,), _ = outcome_of(saying(head, then=then), FIRST if then == "hang" else PATIENT)
    assert isinstance(got.outcome, Failure)
    assert (got.outcome.busy, got.outcome.retry_after, got.outcome.money) == (True, 7.0, "free")


def test_an_early_answer_to_a_long_request_is_heard() -> None:
    """A server that answers before it has read everything, and closes, is understood."""

    async def behave(connection: Connection) -> None:
        await connection.head()
        await connection.send(b"HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await connection.reader.read(1000)

    (got,), _ = outcome_of(behave, call("long " * 1_000_000))
    assert isinstance(got.outcome, Failure)
    assert (got.outcome.status, got.outcome.overflow) == (413, True)


# --- redirects, connections, environment -----------------------------------------------------------------------------


@pytest.mark.fault(42)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    """The other server gets no connection, so it gets neither the key nor the prompt."""

    async def main() -> tuple[Answer, int]:
        async with serve(saying(answer(GOOD))) as other:
            moved = b"HTTP/1.1 %d Moved\r\nlocation: %s/x\r\ncontent-length: 0\r\n\r\n" % (status, other.url.encode())
            async with serve(saying(moved)) as server, AiohttpWire() as wire:
                return await ask(wire, server.url, headers={"x-api-key": Secret("k" * 20)}), other.connections

    got, elsewhere = anyio.run(main)
    assert elsewhere == 0
    assert isinstance(got.outcome, Failure)
    assert (got.outcome.scope, got.outcome.money, got.outcome.status) == ("provider", "free", status)
    assert "redirect to http://127.0.0.1" in got.outcome.detail


@pytest.mark.fault(33)
def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    """Between two calls the server hangs up; the second call takes a connection of its own."""
    answers, server = outcome_of(saying(answer(GOOD + DONE)), calls=3, closed_between=True)
    assert all(isinstance(got.outcome, Reply) for got in answers)
    assert (server.connections, len(server.requests)) == (3, 3)


@pytest.mark.fault(33)
def test_a_request_on_a_dying_connection_is_never_sent_twice() -> None:
    """The server hangs up at the moment when the second request comes: perhaps billed, so not repeated."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(GOOD + DONE))
        await connection.request()

    (first, second), server = outcome_of(behave, calls=2)
    assert isinstance(first.outcome, Reply)
    assert isinstance(second.outcome, Failure)
    assert (second.outcome.kind, second.outcome.money) == ("lost", "assumed")
    assert (server.connections, len(server.requests)) == (1, 2)


async def well_behaved(connection: Connection) -> None:
    while True:
        await connection.request()
        await connection.send(answer(GOOD + DONE))


def test_two_thousand_calls_reuse_their_connections() -> None:
    """Twenty talk at once, a hundred calls each, over twenty connections."""

    async def main() -> tuple[int, int]:
        async with serve(well_behaved) as server, AiohttpWire() as wire, anyio.create_task_group() as tasks:

            async def talk() -> None:
                for _ in range(100):
                    assert isinstance((await ask(wire, server.url)).outcome, Reply)

            for _ in range(20):
                tasks.start_soon(talk)
        return server.connections, len(server.requests)

    connections, requests = anyio.run(main)
    assert requests == 2000
    assert connections <= 20


def test_an_answer_that_broke_off_leaves_no_connection_to_the_next_call() -> None:
    """What is left of one answer must not be read as the next."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEADERS + chunked(HELLO))
        await connection.request()

    answers, server = outcome_of(behave, call(idle=0.1), calls=2)
    assert all(isinstance(got.outcome, Failure) for got in answers)
    assert (server.connections, len(server.requests)) == (2, 2)


def test_after_a_malformed_chunk_the_next_call_has_a_connection_of_its_own() -> None:
    """That of the first is closed, whether the server holds on to it or not."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(HEADERS)
        await asyncio.sleep(0.01)
        is_first = connection.server.connections == 1
        await connection.send(NO_CHUNK if is_first else chunked(GOOD + DONE) + b"0\r\n\r\n")
        await asyncio.Event().wait()

    (first, second), server = outcome_of(behave, calls=2)
    assert isinstance(first.outcome, Failure)
    assert isinstance(second.outcome, Reply)
    assert server.connections == 2


def test_a_connection_that_breaks_while_nobody_uses_it_is_told_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Its answer was whole, and a reset between two calls is nobody's loss."""
    behave = saying(HEADERS, chunked(GOOD + DONE) + b"0\r\n\r\n", then="reset")
    answers, _ = outcome_of(behave, calls=2, closed_between=True)
    gc.collect()
    assert all(isinstance(got.outcome, Reply) for got in answers)
    assert not caplog.records


def test_the_environment_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Proxies and passwords that stand in the environment are not used."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password once\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def main() -> tuple[Answer, BadServer]:
        async with serve(saying(answer(GOOD + DONE))) as server, AiohttpWire() as wire:
            return await ask(wire, server.url, key=None), server

    got, server = anyio.run(main)
    assert isinstance(got.outcome, Reply)
    assert sorted(server.requests[0].headers) == [
        "accept",
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ]


def test_the_body_on_the_wire_is_the_body_that_is_hashed() -> None:
    """`HttpTransport.body` gives the bytes that were sent, large ones too."""
    asked = call("Was übrig bleibt? 🌒 " * 100_000)
    (got,), server = outcome_of(saying(answer(GOOD + DONE)), asked)
    assert isinstance(got.outcome, Reply)
    assert server.requests[0].body == DIALECTS["openai"].body(asked)
