"""TLS on loopback: whoever cannot prove who he is gets neither the key nor the prompt."""

from __future__ import annotations

import ssl
from functools import partial
from pathlib import Path

import aiohttp
import anyio
import pytest

from runner.call import Answer, Failure, Reply
from runner.transports.wire import AiohttpWire
from tests.wire.manners import DONE, GOOD, BadServer, Connection, answer, ask, serve

CERTIFICATES = Path(__file__).parent / "certificates"
"""Made for these tests: an authority, and what it has signed. The key in each file is no secret."""


def called(certificate: str) -> tuple[Answer, BadServer]:
    """A call to a server that shows this certificate."""

    async def behave(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer(GOOD + DONE))

    async def main() -> tuple[Answer, BadServer]:
        shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        shown.load_cert_chain(CERTIFICATES / f"{certificate}.pem")
        async with serve(behave, shown) as server, AiohttpWire() as wire:
            return await ask(wire, server.url), server

    return anyio.run(main)


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority of these tests is one that this machine trusts."""
    trusted = ssl.create_default_context(cafile=CERTIFICATES / "authority.pem")
    monkeypatch.setattr("runner.transports.wire.aiohttp.TCPConnector", partial(aiohttp.TCPConnector, ssl=trusted))


@pytest.mark.usefixtures("trusting")
def test_a_server_that_proves_who_it_is_is_asked() -> None:
    """Signed by somebody who is trusted, for this address, and not expired."""
    got, server = called("good")
    assert isinstance(got.outcome, Reply)
    assert len(server.requests) == 1


def refused(got: Answer, server: BadServer) -> bool:
    """True when nothing was sent, and nobody will ask again."""
    assert isinstance(got.outcome, Failure)
    assert (got.outcome.kind, got.outcome.scope, got.outcome.money) == ("error", "provider", "free")
    assert got.outcome.detail == "the server's certificate or TLS was refused"
    return server.requests == []


@pytest.mark.fault(30)
@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("certificate", ["expired", "elsewhere"])
def test_a_certificate_that_has_expired_or_is_for_another_name_is_refused(certificate: str) -> None:
    """Nothing is sent, it costs nothing, and the provider is not asked again in this run."""
    assert refused(*called(certificate))


@pytest.mark.fault(30)
def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    """Whoever signs for himself can say that he is anybody."""
    assert refused(*called("good"))
