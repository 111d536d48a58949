"""`run --record` and `run --replay` as a shell calls them, with the built-in server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


HERE = """
name: here
budget: 1
defaults: {max_tokens: 60}
providers: {far: {type: openai, base_url: "${FAR_HOST}/tenant/${TENANT}/${VERSION}", api_key: "${FAR_KEY}"}}
models: {m: {use: far/m, price: {input: 1, output: 2}}}
prompts: {p: {opening: "Hello?", rounds: 1}}
pairings: [{a: m, b: m}]
"""


@pytest.fixture
def echo() -> Iterator[str]:
    """A server on loopback that repeats the path that it was asked at."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            choice = {"message": {"content": f"I am at {self.path}."}, "finish_reason": "stop"}
            body = json.dumps({"id": "gen-1", "choices": [choice]}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.send_header("x-path", self.path)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_address[1]}"
        finally:
            http.shutdown()
            thread.join()


@pytest.mark.parametrize("known", [True, False])
def test_a_secret_in_an_address_is_in_no_file_and_its_recording_is_played(
    known: bool, echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by somebody who does not know it, nor the host; what is no secret there stays to be read."""
    Path("here.yaml").write_text(HERE)
    values = {"FAR_HOST": echo, "TENANT": "tenant-4711", "VERSION": "v1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    said = tertulia("run", "here.yaml", "--record", "tape")
    assert said.code == 0, said.err
    written = b"".join(path.read_bytes() for folder in ("tape", "outputs") for path in Path(folder).rglob("*.*"))
    assert b"tenant-4711" not in written
    assert f"{echo}/tenant/***/v1/chat/completions".encode() in written
    assert b"I am at /tenant/***/v1/chat/completions." in written
    for name in ("FAR_KEY", *(() if known else ("FAR_HOST", "TENANT"))):
        monkeypatch.delenv(name)
    said = tertulia("run", "here.yaml", "--replay", "tape")
    assert said.code == 0, said.err


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
    command = said.err.rpartition(" goes on with: tertulia ")[2].split()
    assert command[:4] == ["run", "job.yaml", "--replay", "tape"]
    assert "goes on (life 2), 1 of 1 conversation to hold" in tertulia(*command).err


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


def test_two_runs_cannot_be_recorded_into_one_folder() -> None:
    """The second is told who is there, and nothing of it is begun; when the first has ended, the folder is free."""
    Path("tape").mkdir()
    first = RealDisk().lock(Path("tape/record.lock"), '{"pid": 7, "host": "north", "since": "today"}')
    said = tertulia("run", "job.yaml", "--record", "tape")
    assert (said.code, said.err) == (
        7,
        "tape is recorded into by process 7 on north since today; --record another folder\n",
    )
    assert not Path("outputs/toy/main", FILE).exists()
    first.release()
    assert tertulia("run", "job.yaml", "--record", "tape").code == 0
    assert tertulia("run", "job.yaml", "--record", "tape", "--new").code == 0
    assert len(list(Path("tape").glob("*.json"))) == 8


def test_a_folder_that_cannot_be_played_or_recorded_into_is_told_before_anything_is_sent() -> None:
    """A missing recording is exit 2, a folder that cannot be made exit 8, and no run begins."""
    said = tertulia("run", "job.yaml", "--replay", "tape")
    assert (said.code, said.err) == (2, "tape: there is no recording in it\n")
    Path("file").write_text("")
    said = tertulia("run", "job.yaml", "--record", "file/tape")
    assert said.code == 8
    assert "file/tape cannot be made, to record into" in said.err
    assert not Path("outputs/toy/main", FILE).exists()
