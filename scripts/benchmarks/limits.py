"""How much of a provider's limits is used, and how many requests it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from scripts.benchmarks.figures import Figure, Told, middle, number
from scripts.benchmarks.jobs import talks
from scripts.benchmarks.processes import TERTULIA, Ground
from scripts.benchmarks.sizes import size


@dataclass(frozen=True, slots=True)
class Sizes:
    rpm: int = size(1_200, "Requests a minute.")
    tpm: int = size(400_000, "Tokens a minute.")
    seconds: float = size(150.0, "How long each run may begin calls.")
    skipped: float = size(10.0, "Seconds after the first request that do not count, where the limits are told.")
    learned: float = size(60.0, "The same where they are not told; as much again then counts.")
    at_once: int = size(64, "How many conversations at a time.")
    latency: float = size(1.0, "Seconds that a call takes on average.")


QUICK: Final = Sizes(seconds=2.0, skipped=0.5, learned=0.7, latency=0.1)
_TURNS: Final = 8
_TOKENS: Final = 120
_MAX_TOKENS: Final = 256
"""With histories of eight turns the tokens run out before the requests, however they are counted."""
_SPREAD: Final = 0.5


class Way(NamedTuple):
    """How limits are counted, and how they come to be known."""

    name: str
    counted: str
    shape: str
    told: bool
    used: float
    """The share of the tighter limit that is asked for."""
    refused: float
    """The part of the requests that may be refused."""


WAYS: Final = (
    Way("counted up front", "reserved", "window", True, 0.98, 0.0),
    Way("counted as used", "used", "window", True, 0.96, 0.005),
    Way("not told, a sliding minute", "reserved", "window", False, 0.90, 0.02),
    Way("not told, a bucket", "reserved", "bucket", False, 0.90, 0.02),
)


def measure(ground: Ground, times: int, sizes: Sizes) -> Told:
    """A run in each way, as often as asked for."""
    told = Told("limits")
    passes = [[_pass(ground, sizes, way) for way in WAYS] for _ in range(times)]
    for n, way in enumerate(WAYS):
        found = [one[n] for one in passes]
        shares, refusals = tuple(one.share for one in found), tuple(one.refused for one in found)
        tighter = found[0].tighter
        limit = float(sizes.tpm if tighter == "tokens" else sizes.rpm)
        known = "told of both" if way.told else "told of neither, with the headers of the dialect"
        since = sizes.skipped if way.told else sizes.learned
        until = "the last request" if way.told else f"{2 * sizes.learned:g} s"
        how = (
            f"a server that enforces {sizes.rpm:,} requests and {sizes.tpm:,} tokens a minute ({way.name}), a client "
            f"that is {known}; from {since:g} s after the first request to {until}"
        )
        requests = middle([float(one.requests) for one in found])
        told.figures += [
            Figure(
                f"{way.name}: used",
                middle(shares) * limit,
                f"{tighter}/min",
                limit,
                "the tighter limit",
                way.used,
                False,
                "ratio",
                how,
                shares,
            ),
            Figure(
                f"{way.name}: refused",
                middle(refusals) * requests,
                "requests",
                requests,
                "all requests",
                way.refused,
                True,
                "ratio",
                "answers of status 429, in the whole run",
                refusals,
            ),
        ]
        told.notes.append(f"{way.name}: {number(middle([one.other for one in found]))} of the other limit")
    return told


class Pass(NamedTuple):
    share: float
    other: float
    tighter: str
    refused: float
    requests: int


def _pass(ground: Ground, sizes: Sizes, way: Way) -> Pass:
    folder = ground.fresh()
    asked = {
        "latency": sizes.latency,
        "spread": _SPREAD,
        "tokens": _TOKENS,
        "rpm": sizes.rpm,
        "tpm": sizes.tpm,
        "count": way.counted,
        "shape": way.shape,
        "headers": not way.told,
    }
    limits: dict[str, Any] = {"rpm": sizes.rpm, "tpm": sizes.tpm, "count": way.counted} if way.told else {}
    # More conversations than can be held in that time, a burst at the beginning counted in.
    most = round(sizes.rpm * (sizes.seconds / 60 + 2) / _TURNS) + sizes.at_once
    with ground.server(**asked) as server:
        job = talks(
            folder,
            server.url,
            conversations=most,
            turns=_TURNS,
            at_once=sizes.at_once,
            limits=limits,
            max_tokens=_MAX_TOKENS,
        )
        arguments = ("--outputs", str(folder / "outputs"), "--max-time", f"{sizes.seconds:g}s")
        # Conversations that were refused too often for a few seconds of a run are no trouble of the measurement.
        ground.took((*TERTULIA, "run", str(job), *arguments, "--ok-on", "3"), folder, planned=(5, 0))
        seen, entries = server.seen(), server.entries()
    came = [at for at, requests, _ in entries if requests]
    first = sizes.skipped if way.told else sizes.learned
    last = max(came, default=0.0) if way.told else 2 * sizes.learned
    requests, tokens = shares(entries, first, last, sizes)
    tighter, share, other = ("tokens", tokens, requests) if tokens >= requests else ("requests", requests, tokens)
    asked_for = seen.calls + seen.refused
    return Pass(share, other, tighter, seen.refused / max(1, asked_for), asked_for)


def shares(entries: Sequence[tuple[float, int, int]], first: float, last: float, sizes: Sizes) -> tuple[float, float]:
    """The parts of both limits that were used between two moments."""
    minutes = max(1e-9, (last - first) / 60)
    counted = [(requests, tokens) for at, requests, tokens in entries if first <= at < last]
    requests, tokens = (sum(one[n] for one in counted) for n in (0, 1))
    return requests / (sizes.rpm * minutes), tokens / (sizes.tpm * minutes)
