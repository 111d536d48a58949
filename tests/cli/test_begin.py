"""`init`, `demo`, `completion` and `sim` as a shell calls them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from runner.cli.begin import _served
from runner.events import Failed
from runner.job import json_schema, load
from runner.sim.config import CAST, SimConfig, Speaks
from tests.cli.folders import tertulia
from tests.nights import Night

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "runner" / "cli" / "starter"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    return tmp_path


# --- init --------------------------------------------------------------------------------------------------------


def test_init_writes_a_job_that_runs_as_it_is(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `init` the commands that it prints work: check, plan and run, without a key."""
    said = tertulia("init", "first")
    assert (said.code, said.err) == (0, "")
    names = [".env.example", ".gitignore", "first-talk.yaml", "prompts", "tertulia.schema.json"]
    assert sorted(os.listdir("first")) == names
    assert "  cd first\n" in said.out
    commands = [line.split("#")[0].split() for line in said.out.splitlines() if line.startswith("  tertulia")]
    assert [command[1] for command in commands] == ["check", "plan", "run"]
    monkeypatch.chdir(here / "first")
    # The built-in models take their time; what is under test here is the job, so its models answer at once.
    path = Path("first-talk.yaml")
    text = path.read_text()
    quick = {"reply": {"mean": 20}, "price": {"input": 1, "output": 2}}
    sim = {"models": dict.fromkeys(("ada", "cleo", "dora"), quick)}
    path.write_text(f"{text}providers: {{sim: {{sim: {json.dumps(sim)}}}}}\n")
    for command in commands:
        assert tertulia(*command[1:]).code == 0, command
    assert Path("outputs/first-talk/main/index.md").is_file()


def test_the_first_job_is_known_to_editors() -> None:
    """The line for editors comes first and names the schema that is written beside the job."""
    tertulia("init")
    assert Path("first-talk.yaml").read_text().splitlines()[0] == (
        "# yaml-language-server: $schema=tertulia.schema.json"
    )
    assert json.loads(Path("tertulia.schema.json").read_text()) == json.loads(json.dumps(json_schema()))


def test_init_overwrites_nothing_and_says_what_it_kept() -> None:
    """A file that is there stays byte for byte; a .gitignore that lets keys through is warned of."""
    Path(".gitignore").write_text("*.pyc\n")
    Path("first-talk.yaml").write_text("mine")
    said = tertulia("init")
    assert said.code == 0
    assert Path("first-talk.yaml").read_text() == "mine"
    assert Path(".gitignore").read_text() == "*.pyc\n"
    assert "kept   first-talk.yaml" in said.out
    assert "wrote  prompts/memory.md" in said.out
    assert ".gitignore does not name .env and outputs/" in said.err
    again = tertulia("init")
    assert "wrote" not in again.out


def test_init_does_not_warn_of_its_own_gitignore() -> None:
    """What it wrote itself names everything that must be named."""
    tertulia("init")
    assert tertulia("init").err == ""


def test_init_where_nothing_can_be_written_is_exit_8() -> None:
    """What cannot be written is named, and nothing is claimed."""
    Path("prompts").write_text("a file")
    said = tertulia("init")
    assert said.code == 8
    assert "prompts/memory.md cannot be written" in said.err


# --- demo --------------------------------------------------------------------------------------------------------


def test_the_demo_holds_a_dozen_conversations_with_troubles_on_the_way() -> None:
    """A 429, a blank reply and a slow model are among them, all are complete, and it takes a quarter of a minute."""
    night = Night((STARTER / "demo.yaml").read_text(encoding="utf-8"))
    life = night.live()
    assert life.exit == 0
    assert night.status()["conversations"]["complete"] == 12
    failures = [record.event for record in night.records() if isinstance(record.event, Failed)]
    assert {"busy" if failed.busy else failed.failure for failed in failures} == {"busy", "empty"}
    assert any(reply.model == "basil" and (reply.first_byte or 0) > 2 for reply in night.replies().values())
    assert 10 < life.seconds < 30
    asked = night.engine.bill.accepted
    assert night.live().told == ["demo/main: nothing to do, complete since 2026-11-21, 0 calls"]
    assert night.engine.bill.accepted == asked


def quick_demo() -> None:
    """The demo's job in its folder, as a user may have changed it: models that answer at once."""
    text = (STARTER / "demo.yaml").read_text(encoding="utf-8")
    quick = {"reply": {"mean": 20}, "price": {"input": 1, "output": 2}}
    models = dict.fromkeys(CAST, quick) | {"cleo": {**quick, "faults": [{"kind": "blank", "request": 1}]}}
    sim = json.dumps({"models": models})
    Path("tertulia-demo").mkdir()
    Path("tertulia-demo/demo.yaml").write_text(text.replace("rpm: 600}", f"rpm: 60000}}, sim: {sim}"))


def test_demo_says_where_to_look_and_a_second_one_spends_nothing() -> None:
    """Every file that it names is there; the second time it makes no call and leaves the journal as it was."""
    quick_demo()
    said = tertulia("demo")
    assert said.code == 0
    assert said.out.startswith("12 of 12 conversations complete, 41 calls in all, $0.")
    assert "answers that were none, and were asked for again: 1 empty" in said.out
    named = [Path(line.split()[-1]) for line in said.out.splitlines() if line.startswith("  ")]
    assert len(named) == 3
    assert [path for path in named if not path.is_file()] == []
    journal = Path("tertulia-demo/demo/main/journal.jsonl")
    before = journal.read_bytes()
    again = tertulia("demo")
    assert again.code == 0
    assert "0 calls" in again.err
    assert "to see it happen again, delete tertulia-demo/demo/main" in again.err
    assert again.out == said.out
    assert journal.read_bytes() == before


def test_demo_puts_its_job_where_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its job is an ordinary file that loads, in the folder that was chosen, and what it needs comes with it."""
    monkeypatch.setattr("runner.cli.hold.hold", lambda sources, options, outputs: 0)
    said = tertulia("demo", "--outputs", "elsewhere/demo")
    assert said.code == 0
    job = Path("elsewhere/demo/demo.yaml")
    assert f"wrote {job}" in said.err
    assert job.read_text() == (STARTER / "demo.yaml").read_text()
    assert load(job).name == "demo"


# --- completion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_for_our_words(shell: str) -> None:
    """The script names the variable that the command answers to."""
    said = tertulia("completion", shell)
    assert said.code == 0
    assert f"_TERTULIA_COMPLETE={shell}_complete" in said.out


def test_the_command_answers_to_its_completion_script() -> None:
    """Asked as the script asks, it offers commands."""
    asked = {"_TERTULIA_COMPLETE": "bash_complete", "COMP_WORDS": "tertulia sc", "COMP_CWORD": "1"}
    environ = {**os.environ, **asked, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "runner"], env=environ, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["plain,schema"]


# --- sim ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "example.org"])
def test_sim_refuses_an_address_that_others_reach(host: str) -> None:
    """It has no key and no secrets to keep, but a network is for its user to open."""
    said = tertulia("sim", "--host", host)
    assert said.code == 2
    assert "--open-to-network" in said.err


def test_sim_tells_every_mistake_of_its_configuration_with_its_place() -> None:
    """As for a job: the line, a caret, and what to do."""
    Path("sim.yaml").write_text("models:\n  x: {latncy: 3}\nseed: no\n")
    said = tertulia("sim", "--config", "sim.yaml")
    assert said.code == 2
    assert "sim.yaml:2:15: a model has no `latncy`; did you mean `latency`?" in said.err
    assert "sim.yaml:3:7: " in said.err
    missing = tertulia("sim", "--config", "none.yaml")
    assert missing.code == 2
    assert "none.yaml: the configuration cannot be read" in missing.err


def test_sim_serves_what_its_options_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host, port and configuration reach the server; a seed on the command line wins over the file's."""
    served: list[tuple[int, str, int]] = []

    async def serve(config: SimConfig, host: str, port: int) -> int:
        served.append((config.seed, host, port))
        return 0

    monkeypatch.setattr("runner.cli.begin._serve", serve)
    Path("sim.yaml").write_text("seed: 7\n")
    assert tertulia("sim", "--config", "sim.yaml", "--port", "9").code == 0
    assert tertulia("sim", "--config", "sim.yaml", "--seed", "3", "--host", "::1").code == 0
    assert tertulia("sim", "--host", "0.0.0.0", "--open-to-network").code == 0
    assert [one[0] for one in served] == [7, 3, 0]
    assert [one[1] for one in served] == ["127.0.0.1", "::1", "0.0.0.0"]
    assert served[0][2] == 9
    assert served[1][2] == served[2][2] != 0


def test_sim_names_a_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two servers cannot share one; the message says what to do."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = tertulia("sim", "--port", str(taken.getsockname()[1]))
    assert said.code == 2
    assert "--port 0 takes a free one" in said.err


@pytest.mark.parametrize(("speaks", "type_"), [("plain", "openai"), ("openrouter", "openrouter"), ("gemini", "gemini")])
def test_the_entry_that_sim_prints_is_of_the_type_that_it_speaks(speaks: Speaks, type_: str) -> None:
    """Pasted into a job, it is spoken to in the words that it knows."""
    lines = [*_served(SimConfig(speaks=speaks), "http://127.0.0.1:1/v1")]
    assert f'  providers: {{local: {{type: {type_}, base_url: "http://127.0.0.1:1/v1"}}}}' in lines


def test_sim_serves_until_it_is_interrupted_and_a_job_can_use_what_it_prints() -> None:
    """Its lines lead to a run; Ctrl-C ends it with exit 0 and with its bill."""
    Path("sim.json").write_text('{"models": {"m": {"price": {"input": 1, "output": 2}, "reply": {"mean": 5}}}}')
    command = [sys.executable, "-m", "runner", "sim", "--port", "0", "--config", "sim.json", "--seed", "3"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            lines: list[str] = []
            while not (lines and lines[-1].startswith("Ctrl-C")):
                line = server.stdout.readline()
                assert line, server.stderr.read() if server.stderr else ""
                lines.append(line.rstrip("\n"))
            base_url = lines[0].removeprefix("listening at ")
            assert any(line.split() == ["m", "{input:", "1,", "output:", "2}"] for line in lines)
            start = lines.index("in a job:")
            pasted = [line.strip() for line in lines[start + 1 : start + 3]]
            job = ["budget: 1", *pasted, "prompts: {p: {opening: Hello, rounds: 1}}", "pairings: [{a: ada, b: ada}]"]
            Path("job.yaml").write_text("\n".join(job) + "\n")
            assert tertulia("run", "job.yaml").code == 0
            with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/sim/bill", timeout=100) as answer:
                assert json.load(answer)["accepted"] == 2
            server.send_signal(signal.SIGINT)
            _, err = server.communicate(timeout=100)
        finally:
            server.kill()
    assert server.returncode == 0
    assert err.startswith("closed: 2 requests answered, 0 refused, $0.")
