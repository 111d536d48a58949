"""What holds for every test: no socket leaves this machine, and Hypothesis is repeatable from the printed seed.

A test can show figures: what it records as its property `figures` stands in the summary at the end.
"""

from __future__ import annotations

import gc
import ipaddress
import socket
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import settings

# A deadline would be a wall-time assertion; an example database would make one run depend on another.
settings.register_profile("tertulia", deadline=None, database=None, max_examples=50)
settings.load_profile("tertulia")


def pytest_collection_finish() -> None:
    """What was collected stays to the end: the garbage collector need not look through thousands of tests each time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of all tests, wherever they ran."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    shown = {
        f"{report.nodeid.rpartition('::')[2]}: {text}"
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == "figures"
    }
    if shown:
        terminalreporter.section("figures")
        for line in sorted(shown):
            terminalreporter.write_line(line)


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


_homes = count(1)


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the processes of one test share a provider's limits with each other, and with nobody else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_homes)}"))


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
