"""The command as a process, killed by the kernel again and again while it talks to a provider that keeps a bill."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from runner.money import shown
from tests.nights import provider
from tests.program.bench import MODELS, Attempt, Bench, a_bench, is_bounded, is_sound, is_whole

AT_ONCE = 6
FIVE = ("m0", "m1", "m2", "m3", "m4")
LATENCY = {"first": 0.03, "spread": 0.5}
PATIENT = {"lost": {"retry": 100}}


@dataclass(slots=True)
class Tally:
    """What a series of kills has come to."""

    kills: int = 0
    lives: int = 0
    requests: int = 0
    turns: int = 0
    lost: int = 0
    billed: int = 0
    counted: int = 0
    cap: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.lives} lives, {self.requests} requests, {self.turns} turns, "
            f"{self.lost} calls lost; bill {shown(self.billed)} <= counted {shown(self.counted)} "
            f"<= cap {shown(self.cap)}"
        )


def killed(bench: Bench, random: Random, tally: Tally, kills: int) -> int:
    """Hold a run to its end, killed so many times on the way; its exit code."""
    lost: set[Attempt] = set()
    code = None
    for _ in range(kills):
        process = bench.start()
        tally.lives += 1
        if random.random() < 0.25:
            time.sleep(random.uniform(0.0, 1.0))  # anywhere, also before there is a journal
        else:
            bench.reached(process, bench.lines() + random.randint(1, 40))
        process.send(signal.SIGKILL)
        if (ended := process.ended()) != -signal.SIGKILL:
            code = ended
            break
        tally.kills += 1
        lost |= is_bounded(bench, AT_ONCE)
        assert bench.engine.bill.accepted - len(bench.ledger().answered) <= len(lost)
    if code is None:
        code = bench.done()[0]
        tally.lives += 1
    assert code in (0, 4), bench.processes[-1].said
    (is_whole if code == 0 else is_sound)(bench, len(lost))
    ledger = bench.ledger()
    tally.requests += len(bench.engine.received)
    tally.turns += len(ledger.answered)
    tally.lost += len(lost)
    tally.billed += bench.billed
    tally.counted += ledger.settled["run", ""]
    tally.cap += bench.cap
    return code


@pytest.mark.fault(1)
def test_ten_kills_lose_at_most_the_calls_in_flight_and_buy_nothing_twice(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Killed at random lines and moments and resumed each time: all turns are there, once, each request as recorded."""
    tally = Tally()
    habits = provider(MODELS, latency=LATENCY)
    with a_bench(tmp_path, habits, limits={"concurrency": AT_ONCE}, repeat=6, rounds=2, outcomes=PATIENT) as bench:
        assert killed(bench, Random(10), tally, 10) == 0
    record_property("figures", str(tally))


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_fifty_kills_spread_over_runs_of_a_hundred_conversations(
    tmp_path: Path, seed: int, record_property: Callable[[str, object], None]
) -> None:
    """Every other run has less money than it needs: whatever is killed, bill <= counted <= cap, and no turn twice."""
    tally, random, runs = Tally(), Random(seed), 0
    while tally.kills < 50:
        has_enough = (seed + runs) % 2 == 0
        home = tmp_path / f"run-{runs}"
        home.mkdir()
        with a_bench(
            home,
            provider(FIVE, latency=LATENCY),
            models=FIVE,
            limits={"concurrency": AT_ONCE},
            repeat=5,
            rounds=2,
            budget=1.50 if has_enough else 0.45,
            outcomes=PATIENT,
        ) as bench:
            code = killed(bench, random, tally, 50 - tally.kills)
        assert code == (0 if has_enough else 4)
        runs += 1
    record_property("figures", f"{runs} runs of 100 conversations: {tally}")
