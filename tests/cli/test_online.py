"""`check --online` and `doctor --online` as a shell calls them, against a server on loopback that counts."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from runner.cli import probes
from runner.providers import Endpoint
from runner.transports.http import WholeAnswer
from runner.world import HttpRequest, Wire, WireError
from tests.cli.folders import tertulia

KEY = "sk-planted-0123456789"


class Server(ThreadingHTTPServer):
    """A provider that knows its key, its models and what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        self.server.asked.append((method, self.path))
        status, data = self.server.answers.get(self.path, (404, {"error": {"message": f"no {self.path}"}}))
        keyed = self.headers.get("authorization") in (None, f"Bearer {KEY}")
        if not keyed:
            status, data = 401, {"error": {"message": f"not {self.headers['authorization']}"}}
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a key in its .env."""
    monkeypatch.chdir(tmp_path)
    for name in ("FAR_KEY", "TERTULIA_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(probes, "file_system", lambda path: "ext4")
    env(KEY)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def env(key: str) -> None:
    Path(".env").write_text(f"FAR_KEY={key}\n")
    Path(".env").chmod(0o600)


def job(base_url: str, type_: str = "deepseek", model: str = "m1") -> str:
    Path("job.yaml").write_text(f"""
name: far
budget: 5
providers: {{far: {{type: {type_}, base_url: "{base_url}", api_key: "${{FAR_KEY}}"}}}}
models: {{m: {{use: far/{model}, price: {{input: 1, output: 2}}}}}}
prompts: {{p: {{opening: "Hello?", rounds: 2}}}}
pairings: [{{a: m, b: m}}]
""")
    return "job.yaml"


def sound(server: Server) -> None:
    server.answers["/models"] = 200, {"data": [{"id": "m1", "context_length": 64000}]}
    server.answers["/user/balance"] = (
        200,
        {"is_available": True, "balance_infos": [{"currency": "USD", "total_balance": "7.50"}]},
    )


def test_check_online_asks_only_what_costs_nothing_and_says_what_it_heard(server: Server) -> None:
    """A line for the key, the model and the credit, and not one request that could cost."""
    sound(server)
    said = tertulia("check", "--online", job(server.url))
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[1:4] == [
        "ok       far: the key is accepted",
        "ok       far/m1: there; window 64,000; $1 in, $2 out per million (the job file)",
        "ok       far: $7.5000 of credit left",
    ]
    assert sorted(server.asked) == [("GET", "/models"), ("GET", "/user/balance")]


def test_check_asks_nobody_without_online(server: Server) -> None:
    """What is sent is sent on request."""
    assert tertulia("check", job(server.url)).code == 0
    assert tertulia("doctor", job(server.url)).code == 0
    assert server.asked == []


def test_a_key_that_is_refused_is_exit_6_and_is_not_shown(server: Server) -> None:
    """The provider repeats it; nobody else does."""
    sound(server)
    env("sk-wrong-0123456789")
    said = tertulia("check", "--online", job(server.url))
    assert said.code == 6
    assert (
        "problem  far: the key is not accepted (HTTP 401: not Bearer ***) -> put a valid key into FAR_KEY" in said.out
    )
    assert "1 problem" in said.err
    assert "sk-wrong" not in said.out + said.err


def test_check_online_in_json_is_one_object_a_line_and_one_end(server: Server) -> None:
    """Findings of the job, of its providers and of the folder, for programs."""
    sound(server)
    server.answers["/models"] = 200, {"data": [{"id": "m10"}]}
    said = tertulia("check", "--online", "--json", job(server.url), "missing.yaml")
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [one["event"] for one in found] == ["finding"] * (len(found) - 1) + ["end"]
    assert found[-1] == {"event": "end", "exit": said.code, "errors": []} and said.code == 6
    (absent,) = [one for one in found if one.get("subject") == "far/m1"]
    assert absent == {
        "event": "finding",
        "file": "job.yaml",
        "grade": "problem",
        "subject": "far/m1",
        "text": "there is no such model; close to it: m10",
        "remedy": "correct `use`",
    }
    assert any(one.get("file") == "missing.yaml" and one["grade"] == "problem" for one in found)
    assert KEY not in said.out


def test_a_local_server_that_is_not_running_is_asked_after() -> None:
    """The address, the name of what should listen there, and exit 6."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, and nobody answers
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        said = tertulia("check", "--online", job(url, "ollama"))
    assert said.code == 6
    assert f"problem  far: nothing listens at {url}: is Ollama running? -> start it, or correct `base_url`" in said.out
    assert said.out.count("problem ") == 1


def test_whoever_does_not_answer_once_is_not_asked_for_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its silence has been waited for, and is told; the others are asked all the same."""
    asked: list[str] = []

    async def answer_to(wire: Wire, request: HttpRequest) -> WholeAnswer:
        asked.append(request.url)
        if "silent" in request.url:
            raise WireError("timed out: no answer within 20 s", sent=True)
        return WholeAnswer(200, {}, b"{}")

    monkeypatch.setattr("runner.transports.http.answer_to", answer_to)
    ends = [Endpoint(name, "anthropic", f"https://{name}.example/v1") for name in ("silent", "sound")]
    heard = probes.answers([(end, ("m1", "m2", "m3")) for end in ends])
    assert [[one.broke is not None for one in some] for some in heard] == [[True], [False] * 3]
    assert len(asked) == 4


def test_a_provider_without_its_key_is_not_asked(server: Server) -> None:
    """What is missing is told once, and no request leaves without it."""
    Path(".env").unlink()
    said = tertulia("check", "--online", job(server.url))
    assert said.code == 6
    assert "FAR_KEY is not set" in said.out
    assert server.asked == []


def test_a_key_is_not_sent_to_an_unsafe_address_to_ask_about_it() -> None:
    """What a run would refuse, a question does not risk."""
    Path(".env").write_text(f"FAR_KEY={KEY}\nFAR_URL=http://far.example\n")
    said = tertulia("check", "--online", job("${FAR_URL}"))
    assert said.code == 6
    assert said.out.count("problem ") == 1
    assert "a key would cross the network unencrypted" in said.out


def test_the_built_in_provider_needs_no_question() -> None:
    """It begins with the run."""
    Path("toy.yaml").write_text(
        'name: toy\nbudget: 1\nprompts: {p: {opening: "Hello?", rounds: 1}}\npairings: [{a: sim/ada, b: sim/basil}]\n'
    )
    said = tertulia("check", "--online", "toy.yaml")
    assert said.code == 0
    assert "ok       sim: the built-in provider, which begins with the run" in said.out


def test_check_warns_of_settings_that_a_provider_cannot_be_told() -> None:
    """Worth a line, and no failure."""
    text = Path(job("https://far.example", "anthropic")).read_text()
    Path("job.yaml").write_text(text.replace("budget: 5", "budget: 5\ndefaults: {presence_penalty: 0.5}"))
    said = tertulia("check", "job.yaml")
    assert said.code == 0
    assert "warning  job.yaml: far (anthropic) takes no presence_penalty: it is left out" in said.out


def test_doctor_online_tells_the_same_of_each_job(server: Server) -> None:
    """Its findings have a part of their own, and a model that is missing is exit 6."""
    sound(server)
    said = tertulia("doctor", "--online", "--json", job(server.url, model="m2"))
    found = [json.loads(line) for line in said.out.splitlines()]
    heard = [(one["grade"], one["subject"], one["text"]) for one in found if one.get("part") == "provider"]
    assert heard == [
        ("ok", "far", "the key is accepted"),
        ("problem", "far/m2", "there is no such model"),
        ("ok", "far", "$7.5000 of credit left"),
    ]
    assert said.code == found[-1]["exit"] == 6


def test_doctor_online_needs_a_job() -> None:
    """Without one there is nobody to ask."""
    said = tertulia("doctor", "--online")
    assert said.code == 2
    assert "name at least one" in said.err
