"""The job files to copy: each loads, plans and runs as it stands, and costs no more than it says it may."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import orjson
import pytest

from runner.cli.hold import hold, load_all
from runner.job import load
from runner.money import Nanos
from runner.night import Place, Source, night
from runner.outlook import outlook
from runner.plan import Plan, Provider, make_plan
from runner.preflight import DEFAULT_CONCURRENCY, prices, sim_config
from runner.render import STYLES, recognised
from runner.selection import Options
from runner.sim.engine import Engine
from runner.sim.wire import SimWire
from runner.state import State
from runner.verify import verify
from runner.world import RealDisk, World
from tests.memory import MemoryDisk
from tests.nights import ROOT, START
from tests.render.golden import assert_golden
from tests.virtual import ScriptedPrograms, ScriptedSignals, VirtualClock, run_virtual

HOME = Path(__file__).parents[2]
JOBS = sorted((HOME / "jobs").glob("*.yaml"))
DATE = "2026-11-21"
FAULT_FREE = ("first-talk", "nightly")
"""Jobs whose built-in models answer every request."""


@dataclass(frozen=True, slots=True)
class Held:
    """What a job came to in a simulated world."""

    exit: int
    folder: Path
    disk: MemoryDisk
    billed: Nanos
    told: list[str]


def planned(path: Path) -> Plan:
    return make_plan(load(path), DATE)


def engine_of(plan: Plan, provider: Provider) -> Engine:
    """The built-in server behind a provider, told the job's own prices so that it can write a bill."""
    assert provider.base_url == "sim", "a job to copy needs no network"
    config, known = sim_config(provider), prices(plan)
    models = dict(config.models)
    for alias, model in plan.models.items():
        habits = config.model(model.id)
        if model.provider == provider.name and habits is not None:
            models[model.id] = replace(habits, price=known[alias])
    return Engine(replace(config, models=models))


def held(path: Path) -> Held:
    """Run a job file as it stands, each of its providers a simulated one."""
    job, plan = load(path), planned(path)
    engines = {name: engine_of(plan, provider) for name, provider in plan.providers.items()}
    told: list[str] = []
    disk = MemoryDisk()

    async def live() -> int:
        bases = {(job.name, name): f"http://{name}.sim/v1" for name in engines}
        wire = SimWire({bases[job.name, name]: engine for name, engine in engines.items()}, (0.001, 0.01), Random(5))
        world = World(VirtualClock(START), disk, wire, Random(1), ScriptedSignals(), ScriptedPrograms())
        place = Place(ROOT, '{"pid": 1}', bases)
        return await night(world, [Source(job, path.name, {})], Options(), place, tell=told.append)

    code = run_virtual(live, steps=2_000_000)
    folder = ROOT / job.name / job.key(DATE)
    return Held(code, folder, disk, sum(engine.bill.cost for engine in engines.values()), told)


def likely_most(path: Path) -> Nanos:
    plan = planned(path)
    return outlook(plan, State(), plan.cells, prices(plan), {}, DEFAULT_CONCURRENCY).most.cost


def test_there_are_jobs_to_copy_and_the_readme_shows_the_first() -> None:
    """What the README prints as its job is that file, letter by letter."""
    assert {"first-talk", "interview", "matrix", "nightly"} <= {path.stem for path in JOBS}
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (HOME / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert (HOME / "jobs" / "first-talk.yaml").read_text() in blocks


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.stem)
def test_each_job_to_copy_runs_to_its_end_and_what_it_left_behind_holds(path: Path) -> None:
    """All its conversations are complete, every figure and hash is confirmed, and the bill is what the journal says."""
    plan, ended = planned(path), held(path)
    assert ended.exit == 0, ended.told
    lines = [orjson.loads(line) for line in ended.disk.read(ended.folder / "conversations.jsonl").splitlines()]
    assert [line["name"] for line in lines] == [cell.name for cell in plan.cells]
    assert {line["status"] for line in lines} == {"complete"}
    assert all(turn["text"].strip() for line in lines for turn in line["turns"])
    checked = verify(ended.folder, ended.disk)
    assert checked.problems == () and checked.rebuilt > 0
    status = orjson.loads(ended.disk.read(ended.folder / "status.json"))
    assert round(status["spent"]["total"] * 1e9) >= ended.billed > 0
    if path.stem in FAULT_FREE:
        assert round(status["spent"]["total"] * 1e9) == ended.billed


@pytest.mark.parametrize(
    ("name", "style"),
    [("letter", "letter"), ("interview", "rounds"), ("dialogue", "dialogue"), ("titled-rounds", "titled-rounds")],
)
def test_the_jobs_in_the_old_shapes_lie_beside_the_old_files_and_read_back(name: str, style: str) -> None:
    """Labels, order, rules and blank lines are those of the golden file; what is read out of it is what was said."""
    ended = held(HOME / "jobs" / f"{name}.yaml")
    line = orjson.loads(ended.disk.read(ended.folder / "conversations.jsonl").split(b"\n")[0])
    page = ended.disk.read(ended.folder / "conversations" / f"{line['name']}.md").decode()
    assert_golden(f"job-{name}.md", page)
    assert recognised(page) == style
    back = STYLES[style].read(page)
    assert [said.text for said in back.said] == [turn["text"] for turn in line["turns"]]
    assert len(back.speakers) == len({turn["role"] for turn in line["turns"]})
    figures = [said.figures.output for said in back.said if said.figures.output is not None]
    if style in ("rounds", "dialogue"):
        assert figures == [turn["tokens"]["out"] for turn in line["turns"] if not turn["given"]]
    assert [note.text for note in back.notes] == [note["text"] for note in line["after"] if note["kind"] == "notes"]


@pytest.mark.parametrize("name", FAULT_FREE)
def test_the_likely_most_of_a_plan_is_at_least_what_a_night_without_faults_is_billed(name: str) -> None:
    """The figure that `plan` shows as the likely most is not passed when every call succeeds at once."""
    path = HOME / "jobs" / f"{name}.yaml"
    ended = held(path)
    assert ended.exit == 0
    assert 0 < ended.billed <= likely_most(path)


def test_a_job_to_copy_runs_over_real_sockets_into_a_real_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nightly job, its token limits out of the way, is held by the command itself against its built-in servers."""
    monkeypatch.setenv("CI", "1")
    loose = ["providers.vendor.limits.input_tpm=9000000", "providers.vendor.limits.output_tpm=9000000"]
    sources = load_all([HOME / "jobs" / "nightly.yaml"], loose)
    assert hold(sources, Options(key="rehearsal"), tmp_path) == 0
    folder = tmp_path / "nightly" / "rehearsal"
    assert verify(folder, RealDisk()).problems == ()
    status = orjson.loads((folder / "status.json").read_bytes())
    assert status["conversations"]["complete"] == status["conversations"]["total"] == 15
    said = capfd.readouterr()
    assert said.out == "" and "15 of 15 complete, 0 failed" in said.err
