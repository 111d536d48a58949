"""Lost calls are asked for, a few times, and settled with what the provider says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from runner.call import Answer, Call, Found
from runner.events import Failed, Opened, Sent, Settled
from runner.journal import FILE, Journal, decode
from runner.lookups import LookUps
from runner.money import Price, parse_price
from tests.memory import MemoryDisk
from tests.virtual import FixedClock, run_virtual

PRICES = {"a": Price(parse_price(1), parse_price(10))}


class Knowing:
    """A transport whose provider `p` tells what it knows from a given moment on; nobody else tells anything."""

    def __init__(self, found: Found | None, since: float = 0.0) -> None:
        self.found = found
        self.since = since
        self.asked: list[float] = []

    def body(self, call: Call) -> bytes:
        raise NotImplementedError

    def dialect(self, call: Call) -> str:
        raise NotImplementedError

    async def send(self, call: Call, body: bytes, started: Callable[[str], None]) -> Answer:
        raise NotImplementedError

    def looks_up(self, provider: str, extra: Mapping[str, Any]) -> bool:
        return provider == "p"

    async def look_up(self, provider: str, generation: str, extra: Mapping[str, Any]) -> Found | None:
        assert (provider, generation, extra) == ("p", "gen-1", {"store": True})
        self.asked.append(anyio.current_time())
        return self.found if anyio.current_time() >= self.since else None


def kept(
    transport: Knowing,
    *,
    generation: str | None = "gen-1",
    provider: str = "p",
    seconds: float = 900.0,
    partial: str | None = None,
    overran: Callable[[str], None] = lambda alias: None,
) -> Journal:
    """A journal with one lost call, after its look-ups were kept up for a while."""

    async def main() -> Journal:
        journal = await Journal.open(MemoryDisk(), FixedClock(), Path("/run"), "{}")
        async with journal.writing():
            journal.record(Opened(1, "0", "job", "main", "2026-11-21", "UTC", {}, {}, {}, {}, {}))
            journal.record(Sent("c", 1, 1, "a", "a", provider, "m", "0" * 64, "openai/1", 5000, 10, 100))
            lost = Failed("c", 1, 1, "lost", "call", "assumed", 5000, False, "gone", generation=generation)
            journal.record(replace(lost, partial=partial))
            look_ups = LookUps(journal, transport, PRICES, lambda sent: {"store": True}, overran)
            with anyio.move_on_after(seconds):
                await look_ups.keep()
            await look_ups.last()
        return journal

    return run_virtual(main)


def test_a_lost_call_is_settled_with_what_its_provider_says() -> None:
    """The figure it charged; the evidence names where it comes from."""
    journal = kept(Knowing(Found(1234)))
    assert journal.state.run.settled == 1234 and journal.state.run.assumed == 0
    lines = journal.disk.read(journal.folder / FILE).splitlines()
    [settled] = [r.event for line in lines if (r := decode(line, 0)) is not None and isinstance(r.event, Settled)]
    assert settled == Settled("c", 1, 1, 1234, "looked up: p gen-1")


def test_where_only_tokens_are_known_the_price_list_makes_a_figure_of_them() -> None:
    """Neither is invented: without both counts nothing is settled."""
    assert kept(Knowing(Found(None, 1000, 100))).state.run.settled == 1_000_000 + 1_000_000
    assert kept(Knowing(Found(None, 1000, None))).state.run.assumed == 5000


def test_a_record_that_comes_late_is_found_and_one_that_never_comes_is_left_alone() -> None:
    """Asked a few times, further and further apart, and once more at the end."""
    late = Knowing(Found(7), since=100.0)
    assert kept(late).state.run.settled == 7
    assert len(late.asked) == 4
    never = Knowing(None)
    assert kept(never).state.run.assumed == 5000
    assert [round(at) for at in never.asked] == [2, 17, 77, 377]


def test_what_nobody_can_tell_is_not_asked() -> None:
    """Without an id, or at a provider that keeps no record."""
    for given in ({"generation": None}, {"provider": "q"}):
        transport = Knowing(Found(1))
        assert kept(transport, **given).state.run.assumed == 5000
        assert transport.asked == []


def test_a_short_run_asks_before_it_ends() -> None:
    """Also when the call was lost in its last second."""
    journal = kept(Knowing(Found(9)), seconds=0.1)
    assert journal.state.run.settled == 9


TEXT = "many words " * 200
"""No fewer than 83 tokens, which cost 830,000."""


@pytest.mark.parametrize(
    ("found", "settled"),
    [
        (Found(0, 900, 0), None),
        (Found(4000, 900, 82), None),
        (Found(4000), None),
        (Found(None, 900, 1), None),
        (Found(83_000), None),
        (Found(83_000, 100, 500), 83_000),
        (Found(8_000_000_000_000_000_000, 1, 1), None),
        (Found(8_000_000_000_000_000_000, 1000, 1000), None),
        (Found(8_000_000_000_000_000_000), None),
        (Found(None, 900, 1_000_000_000), None),
        (Found(10_000_000_000_000, 1, 1_000_000_000), None),
    ],
)
def test_a_record_of_what_cannot_be_true_is_not_taken(found: Found, settled: int | None) -> None:
    """Less than the text that came must have cost, or far more than was reserved and than its tokens cost."""
    run = kept(Knowing(found), partial=TEXT).state.run
    assert (run.settled, run.assumed) == ((5000, 5000) if settled is None else (settled, 0))


def test_a_call_that_is_found_to_have_passed_its_limit_is_settled_and_its_model_told() -> None:
    """Where the tokens of the record say so, too: the provider keeps to no limit."""
    told: list[str] = []
    journal = kept(Knowing(Found(20_000_000, 1000, 2000)), overran=told.append)
    assert journal.state.run.settled == 20_000_000
    assert told == ["a"] and journal.state.tallies["a"].overrun
    assert kept(Knowing(Found(5000, 10, 100)), overran=told.append).state.run.settled == 5000
    assert told == ["a"]
