"""No test reaches the network, by accident or otherwise: the guard in conftest.py."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing

import anyio
import pytest

from tests.conftest import BeyondLoopback

ELSEWHERE = "192.0.2.1"  # reserved for documentation: nobody is there, whatever happens


@pytest.mark.parametrize(
    "attempt",
    [
        lambda s: s.connect((ELSEWHERE, 9)),
        lambda s: s.connect_ex((ELSEWHERE, 9)),
        lambda s: s.sendto(b"", (ELSEWHERE, 9)),
        lambda s: s.sendto(b"", 0, (ELSEWHERE, 9)),
        lambda s: s.connect(("example.org", 9)),
        lambda s: s.bind(("0.0.0.0", 0)),
        lambda s: s.bind(("", 0)),
        lambda s: socket.getaddrinfo("example.org", 80),
    ],
)
def test_what_leads_beyond_loopback_is_refused(attempt: Callable[[socket.socket], object]) -> None:
    """Plain sockets, datagrams, names, and listening to the world."""
    with closing(socket.socket(type=socket.SOCK_DGRAM)) as plain, pytest.raises(BeyondLoopback):
        attempt(plain)


@pytest.mark.parametrize("host", [ELSEWHERE, "example.org"])
def test_event_loops_are_no_way_round_it(host: str) -> None:
    """The error is no OSError, so code under test cannot take it for a server that is down."""

    async def connect() -> None:
        await asyncio.open_connection(host, 9)

    with pytest.raises(BeyondLoopback):
        anyio.run(connect)


def test_this_machine_can_be_reached() -> None:
    """A server on loopback works, by address and by name, over TCP and over a pair of sockets."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, port)).close()
    for end in socket.socketpair():
        end.close()
