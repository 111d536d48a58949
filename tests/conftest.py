"""What holds for every test: no socket leaves this machine, and Hypothesis is repeatable from the printed seed."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

# A deadline would be a wall-time assertion; an example database would make one run depend on another.
settings.register_profile("tertulia", deadline=None, database=None, max_examples=50)
settings.load_profile("tertulia")


class BeyondLoopback(RuntimeError):
    """A test reached for the network. Not an OSError: code under test must not take it for a dead server."""


def _is_here(host: object) -> bool:
    if host is None or host in ("localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else str(host)).is_loopback
    except ValueError:
        return False


def _guarded(real: Callable[..., Any]) -> Callable[..., Any]:
    def guard(self: socket.socket, *args: Any) -> Any:
        address = args[-1]  # `sendto` may have flags before it
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(address[0]):
            raise BeyondLoopback(f"{real.__name__} {address!r}: tests stay on loopback")
        return real(self, *args)

    return guard


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every socket, and every name, beyond loopback."""
    for name in ("bind", "connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, _guarded(getattr(socket.socket, name)))
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if not _is_here(host):
            raise BeyondLoopback(f"getaddrinfo {host!r}: tests stay on loopback")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
