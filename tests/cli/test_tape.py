"""`run --record` and `run --replay` as a shell calls them, with the built-in server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.journal import FILE
from runner.ledger import FILE as LEDGER
from runner.outputs import read
from runner.world import RealDisk
from tests.cli.folders import tertulia

KEY = "sk-planted-0123456789"
JOB = """
name: toy
budget: {run: 0.50, day: 0.50}
defaults: {max_tokens: 60}
providers:
  sim:
    api_key: "${FAR_KEY}"
    headers: {x-team: "${TEAM}"}
    limits: {rpm: 6000}
    sim: {models: {ada: {price: {input: 1, output: 5}, reply: {mean: 15}}, bob: {price: {input: 2, output: 5}}}}
models: {ada: {use: sim/ada}, bob: {use: sim/bob}}
prompts: {p: {opening: "Hello?", rounds: 2}}
pairings: [{a: ada, b: bob}]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a job, and its keys in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    monkeypatch.setenv("FAR_KEY", KEY)
    monkeypatch.setenv("TEAM", "team-planted-4711")
    Path("job.yaml").write_text(JOB)
    return tmp_path


def texts(folder: str) -> str:
    return Path(folder, "toy", "main", "conversations.jsonl").read_text()


def test_a_recorded_run_is_replayed_without_a_key_and_without_counting_as_spent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same texts and costs, in a folder of its own: the day of the real runs does not see it."""
    assert tertulia("run", "job.yaml", "--record", "tape").code == 0
    recorded = sorted(Path("tape").glob("*.json"))
    assert [path.name for path in recorded] == [f"00000{n}.json" for n in range(1, 5)]
    everything = b"".join(path.read_bytes() for path in recorded)
    assert KEY.encode() not in everything
    assert b"team-planted" not in everything
    assert json.loads(recorded[0].read_bytes())["request"]["headers"]["authorization"] == "***"
    ledger = Path("outputs", LEDGER).read_bytes()
    monkeypatch.delenv("FAR_KEY")
    monkeypatch.delenv("TEAM")
    said = tertulia("run", "job.yaml", "--replay", "tape")
    assert said.code == 0, said.err
    first, again = (read(Path(root, "toy", "main"), RealDisk()) for root in ("outputs", "tape/outputs"))
    assert again.state.run.held == first.state.run.held > 0
    heard = [
        [line["turns"] for line in map(json.loads, texts(root).splitlines())] for root in ("outputs", "tape/outputs")
    ]
    assert [[turn["text"] for turn in turns] for turns in heard[0]] == [
        [turn["text"] for turn in turns] for turns in heard[1]
    ]
    assert Path("outputs", LEDGER).read_bytes() == ledger
    assert Path("tape/outputs", LEDGER).exists()


def test_a_replay_of_another_job_says_what_is_not_recorded() -> None:
    """The conversation ends, nothing is made up, and the line names the file that comes closest."""
    assert tertulia("run", "job.yaml", "--record", "tape").code == 0
    Path("job.yaml").write_text(JOB.replace("Hello?", "Who is there?"))
    said = tertulia("run", "job.yaml", "--replay", "tape")
    assert said.code == 3
    assert (
        "replay: POST /v1/chat/completions: this request is not in the recording; the closest is 000001.json, "
        "which differs at messages[0].content"
    ) in said.err


def test_a_replay_keeps_to_its_own_folder() -> None:
    """Played answers among paid ones would make both worthless."""
    said = tertulia("run", "job.yaml", "--replay", "tape", "--outputs", "outputs")
    assert said.code == 2
    assert "no --outputs" in said.err
    assert tertulia("run", "job.yaml", "--record", "tape").code == 0
    assert tertulia("run", "job.yaml", "--replay", "tape").code == 0
    paid = tertulia("run", "job.yaml", "--outputs", "tape/outputs", "--new")
    assert paid.code == 2
    assert "paid answers do not belong there: --replay tape, or other --outputs" in paid.err
    both = tertulia("run", "job.yaml", "--replay", "tape", "--record", "tape")
    assert both.code == 2
    assert "exclude each other" in both.err


def test_a_folder_that_cannot_be_played_or_recorded_into_is_told_before_anything_is_sent() -> None:
    """A missing recording is exit 2, a folder that cannot be made exit 8, and no run begins."""
    said = tertulia("run", "job.yaml", "--replay", "tape")
    assert (said.code, said.err) == (2, "tape: there is no recording in it\n")
    Path("file").write_text("")
    said = tertulia("run", "job.yaml", "--record", "file/tape")
    assert said.code == 8
    assert "file/tape cannot be made, to record into" in said.err
    assert not Path("outputs/toy/main", FILE).exists()
