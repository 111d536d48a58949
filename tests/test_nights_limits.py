"""Told limits over two virtual minutes: not one is broken that is counted up front, and little of it is left idle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from runner.selection import Options
from tests.memory import MemoryDisk
from tests.nights import Counting, Night, matrix, provider

MAX_TOKENS = 400
WARM_UP, SECONDS = 10.0, 120.0
SLOW = {"first": 2, "per_token": 0.05, "spread": 0.5}


@dataclass(frozen=True, slots=True)
class Minute:
    """What a provider let through, a minute, after the first ten seconds; and the share of all requests it refused."""

    requests: float
    reserved: float
    used: float
    refused: float


def measured(
    limits: Mapping[str, Any],
    theirs: Mapping[str, Any],
    rtt: tuple[float, float],
    seconds: float = SECONDS,
    **habits: Any,
) -> Minute:
    """Some minutes and a bit of a night that has more to say than any limit lets through."""
    job = matrix(repeat=11, max_tokens=MAX_TOKENS, limits=limits, budget=500)
    night = Night(job, provider(limits=theirs, **habits), rtt=rtt)
    engine = night.engine = Counting(night.engine.config)
    assert night.live(Options(max_time=WARM_UP + seconds + 3)).exit == 5
    first = engine.arrivals[0][0]
    let_in = [n for at, status, n in engine.arrivals if status == 200 and WARM_UP <= at - first < WARM_UP + seconds]
    charges = [engine.bill.charges[n] for n in let_in]
    refused = sum(status == 429 for _, status, _ in engine.arrivals)
    minutes = seconds / 60
    return Minute(
        requests=len(let_in) / minutes,
        reserved=sum(charge.input + MAX_TOKENS for charge in charges) / minutes,
        used=sum(charge.input + charge.output for charge in charges) / minutes,
        refused=refused / len(engine.arrivals),
    )


UP_FRONT = [
    pytest.param({}, {"window": "sliding"}, "requests", 600, id="requests alone, sliding"),
    pytest.param({"tpm": 200_000}, {"tpm": 200_000, "window": "fixed"}, "reserved", 200_000, id="tokens, fixed"),
]


@pytest.mark.parametrize(("ours", "theirs", "figure", "limit"), UP_FRONT)
def test_a_limit_that_is_counted_up_front_is_never_broken_and_used_to_97_per_cent(
    ours: dict[str, Any], theirs: dict[str, Any], figure: str, limit: int
) -> None:
    """Of the tighter of two limits at least 97 % is used, and no request is refused."""
    told = {"rpm": 600, "count": "reserved", **ours}
    minute = measured({"concurrency": 60, **told}, {**told, **theirs}, (0.001, 0.03))
    assert minute.refused == 0.0
    assert 0.97 * limit <= getattr(minute, figure) <= limit


def test_a_token_limit_that_is_counted_as_used_is_used_to_95_per_cent_and_hardly_ever_refused() -> None:
    """Where the true amount is known only afterwards 95 % is used, and at most one request in 200 is refused."""
    told = {"rpm": 600, "tpm": 60_000, "count": "used"}
    # Calls of a quarter of a minute: in two minutes it would matter which of them end just before or after.
    minute = measured({"concurrency": 100, **told}, told, (0.001, 0.03), 2 * SECONDS, latency=SLOW)
    assert minute.refused <= 0.005
    assert minute.used >= 0.95 * 60_000


def test_a_server_that_allows_no_burst_refuses_nothing_and_is_used_to_90_per_cent() -> None:
    """With `burst: 1` no two requests come closer than the server allows, though the way takes each its own time."""
    told = {"rpm": 600, "burst": 1}
    minute = measured({"concurrency": 60, **told}, {**told, "window": "bucket"}, (0.001, 0.015))
    assert minute.refused == 0.0
    assert minute.requests >= 0.9 * 600


@pytest.mark.parametrize("limits", [{"rpm": 30}, {"tpm": 30_000}], ids=str)
def test_a_disk_that_is_slow_now_and_then_breaks_no_limit(limits: dict[str, int]) -> None:
    """A request counts from when it leaves: if the disk held it up, it is in the provider's minute for longer."""
    told = {"concurrency": 60, **limits}
    night = Night(matrix(repeat=11, limits=told), provider(limits=limits), disk=MemoryDisk(sync_seconds=(0.0, 3.0)))
    engine = night.engine = Counting(night.engine.config)
    night.live(Options(max_time=75))
    assert [status for _, status, _ in engine.arrivals].count(429) == 0
    assert len(engine.arrivals) > 30
