"""The benchmarks: the baseline asks what we ask, the server keeps its limits, and figures are reckoned as they say."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import pytest

from runner.conversation import call_for
from runner.events import Sent
from runner.job import load
from runner.journal import FILE, scan
from runner.plan import make_plan
from runner.providers.openai import OPENAI
from runner.selection import Options
from runner.world import RealDisk
from scripts.benchmarks import __main__ as benchmarks
from scripts.benchmarks import journals, limits
from scripts.benchmarks.bare import body
from scripts.benchmarks.budget import largest_reservation
from scripts.benchmarks.figures import Figure, Told
from scripts.benchmarks.growth import cpu_at, decades
from scripts.benchmarks.jobs import talks
from scripts.benchmarks.lag import lags, part
from scripts.benchmarks.makespan import lower_bounds, never_idle
from scripts.benchmarks.processes import ROOT, Ground, Sample
from scripts.benchmarks.server import Asked, Bucket, Server, Window
from scripts.benchmarks.throughput import group_sizes
from tests.floors import floor
from tests.nights import Night, provider
from tests.virtual import run_virtual

FIGURES = {
    "throughput": 4,
    "growth": 1,
    "waiting": 1,
    "flight": 4,
    "limits": 8,
    "makespan": 1,
    "budget": 3,
    "resume": 3,
    "start": 2,
}
"""How many figures each benchmark has."""


@pytest.mark.parametrize("turn", range(4))
def test_the_bare_loop_sends_what_we_send(tmp_path: Path, turn: int) -> None:
    """Byte for byte the same request at every turn, so that both sides ask the same of the server."""
    plan = make_plan(load(talks(tmp_path, "http://127.0.0.1:9", conversations=1, turns=4, at_once=1)), "2026-01-01")
    conversation = plan.conversation(plan.cells[0])
    history = ["one two", "three", "four five"][:turn]
    call = call_for(conversation, floor(conversation, conversation.lines[turn], history), 1, 64, ())
    assert body(history, turn) == OPENAI.body(call)


def test_a_window_of_the_server_lets_no_more_through_in_any_minute() -> None:
    """What was taken counts for a minute to the second, and is told with the time until all of it is free."""
    window = Window(10)
    window.take(6, 0.0)
    window.take(4, 30.0)
    assert (window.left(59.9), window.left(60.0), window.left(90.0)) == (0, 6, 10)
    window.take(1, 100.0)
    assert window.reset(110.0) == 50.0


def test_a_bucket_of_the_server_refills_evenly() -> None:
    """Half a minute after it was emptied it is half full, and never holds more than a minute's worth."""
    bucket = Bucket(10)
    bucket.take(10, 0.0)
    assert bucket.left(30.0) == 5.0
    assert bucket.reset(30.0) == 30.0
    assert bucket.left(600.0) == 10.0


def test_a_figure_is_held_against_its_baseline_or_alone() -> None:
    """What is asked for is asked of the ratio or of the value, as the most or as the least; the line says which."""
    low = Figure("calls", 43.0, "calls/s", 100.0, "the bare loop", 0.5, False, "ratio", "how")
    high = Figure("memory", 43.0, "MiB", 100.0, "the bare loop's", 50.0, True, "value", "how")
    assert (low.reached, high.reached) == (False, True)
    assert low.told == "calls: 0.430 of the bare loop (43.0 against 100 calls/s); asked: at least 0.500; MISSED", (
        low.told
    )
    assert high.told == "memory: 0.430 of the bare loop's (43.0 against 100 MiB); asked: at most 50.0 MiB; reached", (
        high.told
    )


def test_a_server_that_was_busy_is_warned_of() -> None:
    """Beside the figures stands that the server may be what was measured."""
    assert "WARNING" in "\n".join(Told("throughput", busiest=0.95).lines)
    assert "WARNING" not in "\n".join(Told("throughput", busiest=0.85).lines)


def test_the_cost_of_a_decade_is_read_between_two_looks() -> None:
    """Borders are ten times as far each time, and the time at a border lies between the looks around it."""
    assert decades(10, 5_000) == [10, 100, 1_000, 5_000]
    samples = [Sample(1.0, 0), Sample(2.0, 100), Sample(4.0, 200)]
    assert (cpu_at(samples, 100), cpu_at(samples, 150)) == (2.0, 3.0)


def test_what_a_call_takes_depends_on_its_conversation_and_not_on_when_it_comes() -> None:
    """The same night in another order is the same work; another seed is another night."""

    async def drawn(seed: int, order: str) -> dict[str, list[float]]:
        server = Server(Asked(lanes={"swift": 1.0, "slow": 3.0}, spread=1.0, seed=seed))
        marks: dict[str, str] = {}
        found: dict[str, list[float]] = {}
        for name in order:
            said = marks.get(name, f"first of {name}")
            model = "slow" if len(found.setdefault(name, [])) % 2 else "swift"
            latency, marks[name] = server.latency(f'{{"model":"{model}","messages":["{said}"]}}'.encode())
            found[name].append(latency)
        assert len({number for _, number, _ in server.seen.drawn}) == len(found)
        return found

    def night(seed: int, order: str) -> dict[str, list[float]]:
        return run_virtual(lambda: drawn(seed, order))

    assert night(1, "aaabbb") == night(1, "babaab") != night(2, "aaabbb")
    assert len(set(chain(*night(1, "aaabbb").values()))) == 6


def test_the_least_that_a_night_can_take_is_by_lanes_and_by_conversations() -> None:
    """A lane's latencies by its slots, and what the slowest conversation needs by itself."""
    drawn = [("swift", 1, 1.0), ("swift", 2, 2.0), ("slow", 1, 6.0)]
    found = lower_bounds(drawn, 3)
    assert (found["swift"], found["slow"], found["brisk"]) == (1.0, 2.0, 0.0)
    assert found["one conversation"] == 7.0


def test_a_lane_that_is_never_without_a_call_ends_with_the_last_of_them() -> None:
    """Each slot takes the next call as soon as it is free; a long one that comes last is waited for by all."""
    assert never_idle([("slow", n, 1.0) for n in range(4)] + [("slow", 5, 6.0), ("swift", 6, 7.5)], 2) == 8.0
    assert never_idle([("slow", 5, 6.0)] + [("slow", n, 1.0) for n in range(4)], 2) == 6.0


def test_the_share_of_a_limit_is_counted_between_two_moments() -> None:
    """Requests and tokens of that stretch against what the limits allow in it."""
    entries = [(5.0, 1, 100), (10.0, 1, 100), (20.0, 0, 50), (40.0, 1, 100)]
    sizes = limits.Sizes(rpm=4, tpm=600)
    assert limits.shares(entries, 10.0, 40.0, sizes) == (0.5, 0.5)


def test_lateness_is_that_of_the_time_asked_for(tmp_path: Path) -> None:
    """What came before the first call or after the last does not count; a part of the rest is below each value."""
    file = tmp_path / "lags.json"
    file.write_text(json.dumps([[1.0, 9.0], [2.0, 0.3], [3.0, 0.1], [4.0, 0.2], [5.0, 9.0]]))
    found = lags(file, 2.0, 4.0)
    assert found == [0.1, 0.2, 0.3]
    assert (part(found, 0.5), part(found, 1.0), part([], 0.5)) == (0.2, 0.3, 0.0)


def test_a_program_is_watched_and_ends_as_it_would(tmp_path: Path) -> None:
    """The program's own arguments, output and exit code, and a file that says how late the loop was."""
    (tmp_path / "slow.py").write_text(
        "import asyncio, sys\n"
        "async def main():\n"
        "    print(sys.argv[1:])\n"
        "    await asyncio.sleep(0.03)\n"
        "asyncio.run(main())\n"
        "sys.exit(3)\n"
    )
    command = (sys.executable, "-m", "scripts.benchmarks.lag", "lags.json", "slow", "a", "b")
    environment = {"PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "['a', 'b']\n"), ended.stderr
    assert lags(tmp_path / "lags.json", 0.0, float("inf"))


JOB = """
name: bench
budget: 5
providers: {sim: {}}
models: {one: {use: sim/m, price: {input: 1, output: 2}}}
prompts: {talk: {opening: "What survives?", rounds: 1}}
pairings: [{a: one, b: one, repeat: 100}]
"""


def test_a_long_journal_is_one_that_a_run_could_have_left(tmp_path: Path) -> None:
    """It is whole to its last byte, all but the last conversations are complete in it, and each cost what one did."""
    night = Night(JOB, provider("m"))
    night.live(Options(limit=1))
    one = night.disk.read(night.folder / FILE)
    job, path = tmp_path / "bench.yaml", tmp_path / FILE
    job.write_text(JOB)
    path.write_bytes(one)
    journals.main(job, path, 3)

    short, long = scan(night.disk, night.folder / FILE).state, scan(RealDisk(), path)
    statuses = [progress.status for progress in long.state.cells.values()]
    assert not long.torn and long.state.is_open
    assert statuses == ["complete"] * 97
    assert long.state.run.settled == 97 * short.run.settled > 0
    assert long.synced > long.last - 64
    assert sum(group_sizes(path)) == long.size and len(group_sizes(path)) == -(-long.last // 64)
    calls = [record.event for record in night.records() if isinstance(record.event, Sent)]
    assert largest_reservation(path) == max(call.reserved for call in calls)


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_each_benchmark_finds_its_figures(tmp_path: Path) -> None:
    """Small sizes of all of them run to their end, and nothing breaks; what the figures are is left open."""
    file = tmp_path / "figures.json"
    command = (sys.executable, "-m", "scripts.benchmarks", "all", "--quick", "--json", str(file))
    folder = ("--folder", str(tmp_path / "runs"))
    ended = subprocess.run((*command, *folder), cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(file.read_text())["benchmarks"]
    assert {one["benchmark"]: len(one["figures"]) for one in found} == FIGURES
    assert not list((tmp_path / "runs").iterdir())


def test_what_breaks_is_told_and_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that ends otherwise than planned is told with its last words, and the others are measured."""

    def breaks(ground: Ground, times: int, sizes: object) -> Told:
        ground.took((sys.executable, "-c", "import sys; print('no room'); sys.exit(8)"), ground.fresh())
        return Told("throughput")

    def works(ground: Ground, times: int, sizes: object) -> Told:
        return Told("start", notes=[f"{times} times"])

    for name, measure in (("throughput", breaks), ("start", works)):
        known = benchmarks.BENCHMARKS[name]
        monkeypatch.setitem(benchmarks.BENCHMARKS, name, known._replace(measure=measure))
    file = tmp_path / "figures.json"
    code = benchmarks.measure(("throughput", "start"), 3, True, file, tmp_path)
    first, second = json.loads(file.read_text())["benchmarks"]
    assert code == 1
    assert "ended with 8" in first["broke"] and "no room" in first["broke"]
    assert (second["broke"], second["notes"]) == (None, ["3 times"])
