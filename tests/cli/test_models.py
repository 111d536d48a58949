"""`models`: what models cost and who says so, and the one question that is sent to find out."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

from runner.catalogue import FOLDER, Catalogue, file_of
from runner.cli import models as command
from runner.cli.probes import state_folder
from runner.providers.base import Listed
from tests.cli.folders import JOB, Said, tertulia
from tests.test_catalogue import DEARER, GLM, HOME, LIST, Known, listing, row, taken

KEY: Final = "sk-or-v1-5fR8yLm2QxWc7Td9"
ANSWER: Final = (
    b'data: {"id":"gen-1","choices":[{"index":0,"delta":{"content":"Good evening."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25}}\n\ndata: [DONE]\n\n'
)


@dataclass
class Server:
    """A provider on loopback that says one thing, and what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = LIST
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    seen = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.asked.append((self.path, self.headers.get("authorization")))
            self.answer(seen.status, seen.body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.answer(200, ANSWER)

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            if status == 302:
                self.send_header("location", "https://there.example/v1")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        seen.url = f"http://127.0.0.1:{http.server_address[1]}/api/v1"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield seen
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, no key, and no package but where a test brings one."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENROUTER_API_KEY", "ROUTER_KEY", "TERTULIA_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(command, "price_list", lambda: None)
    return tmp_path


@pytest.fixture
def no_wire(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends something fails."""
    monkeypatch.setattr("runner.transports.http.answer_to", lambda *_: pytest.fail("something was sent"))


def keep(body: bytes = LIST) -> Path:
    """A list of OpenRouter's that was fetched before."""
    path = state_folder() / FOLDER / file_of(HOME)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(taken(body).record())
    return path


def write(job: str, name: str = "job.yaml") -> str:
    Path(name).write_text(job, encoding="utf-8")
    return name


def router(url: str, model: str = "z-ai/glm-5", key: str = "${ROUTER_KEY}") -> str:
    """A job with a router of its own."""
    return write(f"""
name: job
budget: 5
providers: {{router: {{type: openrouter, base_url: "{url}", api_key: "{key}"}}}}
models: {{glm: {{use: router/{model}}}, given: {{use: router/acme/x, price: {{input: 1, output: 2}}}}}}
prompts: {{p: {{opening: "Hello?", rounds: 1}}}}
pairings: [{{a: glm, b: given}}]
""")


def objects(said: Said) -> list[dict[str, Any]]:
    return [json.loads(line) for line in said.out.splitlines()]


# --- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_wire")
def test_the_models_of_a_list_stand_in_a_table_with_prices_windows_and_their_source() -> None:
    """A tier has a line of its own; what has no fixed price is not shown as free."""
    keep()
    said = tertulia("models", "openrouter")
    assert (said.code, said.err) == (0, "")
    head, *lines = [line.split() for line in said.out.splitlines()]
    assert head == ["model", "window", "output", "in", "out", "cached", "caching", "until", "price", "from"]
    source = taken().source.split()
    assert lines == [
        ["z-ai/glm-5", "200,000", "65,536", "1", "3.2", "0.2", "2027-01-31", *source],
        ["acme/long", "200,000", "65,536", "1", "3.2", "0.2", *source],
        ["above", "200,000", "in", "2", "6.4", "0.2"],
        ["acme/gift:free", "200,000", "65,536", "0", "0", *source],
        ["openrouter/auto", "200,000", "65,536", "?", "?", "not", "known"],
    ]


@pytest.mark.usefixtures("no_wire")
def test_no_name_of_a_list_forges_a_line_or_pushes_the_others_away() -> None:
    """A line for each model, as long as its figures need; what was cut, --json shows."""
    forged = "x\nz-ai/glm-5  200,000  65,536  0  0"
    keep(listing(row(forged, GLM, expiration_date="soon\n\tor\x1b[2J never"), row("y" * 200_000, GLM)))
    said = tertulia("models", "openrouter")
    head, first, second = said.out.splitlines()
    assert first.startswith("x z-ai/glm-5 200,000 65,536 0 0  ") and "soon or\\u{1b}[2J never" in first
    assert second.startswith("y" * 99 + "…  200,000")
    assert max(map(len, (head, first, second))) < 300
    assert objects(tertulia("models", "openrouter", "--json"))[0]["id"] == forged


@pytest.mark.usefixtures("no_wire")
def test_a_pattern_picks_models_and_one_that_fits_none_is_told() -> None:
    """With stars as in a shell, or a part of the name."""
    keep()
    for pattern in ("acme/*", "acme"):
        said = tertulia("models", "openrouter", pattern, "--json")
        assert [line.get("id") for line in objects(said)] == ["acme/long", "acme/gift:free", None]
    said = tertulia("models", "openrouter", "nobody/*")
    assert (said.code, said.err) == (2, "openrouter: no model is called nobody/*\n")


@pytest.mark.usefixtures("no_wire")
def test_json_gives_one_object_a_line_and_an_end() -> None:
    """Prices are the strings that a journal has, with tiers and source."""
    keep()
    *rows, end = objects(tertulia("models", "openrouter", "--json"))
    assert end == {"kind": "end", "exit": 0}
    assert [row["price"] is None for row in rows] == [False, False, False, True]
    assert rows[1] == {
        "kind": "model",
        "provider": "openrouter",
        "id": "acme/long",
        "window": 200_000,
        "max_output": 65_536,
        "ends": None,
        "price": {
            "input": "1",
            "output": "3.2",
            "cache_read": "0.2",
            "request": "0",
            "tiers": [{"above": "200000", "input": "2", "output": "6.4", "cache_read": "0.2"}],
            "source": taken().source,
        },
    }


@pytest.mark.usefixtures("no_wire")
def test_without_a_provider_the_lists_that_are_kept_are_named(here: Path) -> None:
    """With their day, so that their age is seen; a damaged one is told."""
    said = tertulia("models")
    assert (said.code, said.out) == (0, "")
    assert said.err == "no list is kept here; to fetch one: tertulia models openrouter --fetch\n"
    path = keep()
    path.with_name("zai.json").write_text("{}")
    said = tertulia("models")
    digest = taken().sha256[:8]
    fetched = f"4 models, 3 with prices, fetched 2026-11-20 18:03:11 UTC (sha256 {digest})"
    assert said.out == f"openrouter: {fetched}; https://openrouter.ai/api/v1\n"
    assert "zai.json is not used: it is damaged" in said.err
    [one, _] = objects(tertulia("models", "--json"))
    assert (one["kind"], one["models"], one["sha256"], one["file"]) == ("list", 4, taken().sha256, str(path))


@pytest.mark.usefixtures("no_wire")
@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["openrouter"], 6, "nothing is known here of the models of openrouter"),
        (["openrouter"], 6, "tertulia models openrouter --fetch"),
        (["groq"], 6, "pip install 'tertulia[prices]'"),
        (["openruoter"], 2, "openruoter is no provider without an entry: anthropic, deepseek,"),
        (["sim"], 2, "sim is the built-in provider"),
        (["--fetch"], 2, "--fetch needs a PROVIDER or --job JOB"),
        (["--job", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["router", "--job", "mistaken.yaml"], 2, "mistaken.yaml"),
    ],
)
def test_what_cannot_be_shown_is_told_with_what_to_do(arguments: list[str], code: int, said: str) -> None:
    """And nothing is sent to find out; a program gets an end all the same."""
    write("nmae: job", "mistaken.yaml")
    found = tertulia("models", *arguments)
    assert found.code == code
    assert said in found.err
    if "--fetch" not in arguments:
        assert objects(tertulia("models", *arguments, "--json")) == [{"kind": "end", "exit": code}]


@pytest.mark.usefixtures("no_wire")
def test_what_no_list_has_the_package_may_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its models where there is no list; its price beside what a list says without one."""

    class More(Known):
        def models(self, type_: str) -> list[Listed]:
            price = self.price(type_, "m")
            return [Listed("m", 4096, price=price)] if type_ == "groq" else []

    monkeypatch.setattr(command, "price_list", More)
    [one, _] = objects(tertulia("models", "groq", "--json"))
    assert (one["id"], one["window"], one["price"]["source"]) == ("m", 4096, "package")
    keep()
    *_, auto, _ = objects(tertulia("models", "openrouter", "--json"))
    assert (auto["id"], auto["price"]["source"]) == ("openrouter/auto", "package")


# --- the models of a job ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_wire")
def test_the_models_of_a_job_are_shown_at_the_prices_that_they_would_run_at() -> None:
    """Each with who says so, by the name that the job gives it."""
    keep()
    job = write("""
name: job
budget: 5
models:
  glm: {use: openrouter/z-ai/glm-5, context: 32000}
  given: {use: openrouter/z-ai/glm-6, price: {input: 0.5, output: 2, request: 0.01}}
  qwen: {use: "ollama/qwen3:32b"}
prompts: {p: {opening: "Hello?", rounds: 1}}
pairings: [{a: glm, b: given}, {a: qwen, b: glm}]
""")
    said = tertulia("models", "--job", job)
    assert (said.code, said.err) == (0, "")
    assert [line.split() for line in said.out.splitlines()[1:]] == [
        [
            "glm",
            "(openrouter/z-ai/glm-5)",
            "32,000",
            "65,536",
            "1",
            "3.2",
            "0.2",
            "2027-01-31",
            *taken().source.split(),
        ],
        *[["given", "(openrouter/z-ai/glm-6)", "0.5", "2", "the", "job", "file;", "$0.01", "for", "each", "request"]],
        *[["qwen", "(ollama/qwen3:32b)", "8,192", "0", "0", "free", "of", "charge"]],
    ]
    rows = objects(tertulia("models", "--job", job, "--json"))
    assert [line.get("alias") for line in rows] == ["glm", "given", "qwen", None]


@pytest.mark.usefixtures("no_wire")
def test_a_job_with_a_model_whose_price_nobody_knows_is_exit_6() -> None:
    """The table shows which, and the refusal is the one that `run` would give."""
    job = router("https://router.example/v1")
    said = tertulia("models", "--job", job)
    assert said.code == 6
    assert "not known" in said.out and "models: {glm: {use: router/z-ai/glm-5, price:" in said.err
    assert said.err.splitlines() == tertulia("plan", job).err.splitlines()
    *_, end = objects(tertulia("models", "--job", job, "--json"))
    assert end == {"kind": "end", "exit": 6}


@pytest.mark.usefixtures("no_wire")
def test_the_command_that_would_fetch_a_price_has_the_path_of_the_job() -> None:
    """It can be copied, whatever the file is called."""
    Path(router("https://router.example/v1")).rename("my job.yaml")
    Path(".env").write_text(f"ROUTER_KEY={KEY}\n")
    for verb in ("plan", "check", "run"):
        said = tertulia(verb, "my job.yaml")
        assert said.code == 6
        assert "tertulia models router --fetch --job 'my job.yaml'   # its own list" in said.err + said.out


@pytest.mark.usefixtures("no_wire")
def test_a_window_that_only_the_package_knows_is_shown_of_a_job_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is when the provider is asked after; at another address it may be anybody's."""

    class More(Known):
        def models(self, type_: str) -> list[Listed]:
            return [Listed("m", 4096, 1024)] if type_ == "groq" else []

    monkeypatch.setattr(command, "price_list", More)
    job = write("""
name: job
budget: 5
defaults: {max_tokens: 100}
providers: {far: {type: groq, base_url: "https://far.example/v1"}}
models: {m: {use: groq/m}, n: {use: far/m, price: {input: 1, output: 1}}, o: {use: groq/m, context: 2048}}
prompts: {p: {opening: "Hello?", rounds: 1}}
pairings: [{a: m, b: n}, {a: m, b: o}]
""")
    *rows, _ = objects(tertulia("models", "--job", job, "--json"))
    assert {one["alias"]: (one["window"], one["max_output"]) for one in rows} == {
        "m": (4096, 1024),
        "n": (None, None),
        "o": (2048, 1024),
    }


@pytest.mark.usefixtures("no_wire")
@pytest.mark.parametrize(
    ("most", "code", "line"),
    [
        (
            250_000,
            6,
            "problem  openrouter/z-ai/glm-5: max_tokens 250,000 leaves no room for a prompt in its window of ",
        ),
        (70_000, 0, "warning  openrouter/z-ai/glm-5: max_tokens 70,000 is more than the 65,536 that it may write ("),
    ],
)
def test_check_holds_output_limits_against_the_list_that_is_kept(most: int, code: int, line: str) -> None:
    """What a list says makes a call impossible, or shorter than was asked, without asking anybody."""
    keep()
    job = write(f"""
name: job
budget: 50
defaults: {{max_tokens: {most}}}
models: {{glm: {{use: openrouter/z-ai/glm-5}}}}
prompts: {{p: {{opening: "Hello?", rounds: 1}}}}
pairings: [{{a: glm, b: glm}}]
""")
    Path(".env").write_text(f"OPENROUTER_API_KEY={KEY}\n")
    Path(".env").chmod(0o600)
    said = tertulia("check", job)
    assert said.code == code
    assert line in said.out and taken().source in said.out


@pytest.mark.usefixtures("no_wire")
def test_plan_and_check_say_where_prices_come_from() -> None:
    """And a list that was damaged is told, and its prices are missing."""
    path = keep()
    job = write("""
name: job
budget: 5
models: {glm: {use: openrouter/z-ai/glm-5}, given: {use: openrouter/z-ai/glm-6, price: {input: 1, output: 2}}}
prompts: {p: {opening: "Hello?", rounds: 1}}
pairings: [{a: glm, b: given}]
""")
    Path(".env").write_text(f"OPENROUTER_API_KEY={KEY}\n")
    Path(".env").chmod(0o600)
    said = tertulia("plan", job)
    assert (said.code, said.err) == (0, "")
    assert f"  prices       {taken().source}; the job file\n" in said.out
    assert objects(tertulia("plan", job, "--json"))[-2]["prices_from"] == [taken().source, "the job file"]
    assert f"2 models with known prices ({taken().source})," in tertulia("check", job).out
    path.write_bytes(b"torn")
    for name in ("plan", "check", "models"):
        said = tertulia(name, *(["--job"] if name == "models" else []), job)
        assert said.code == 6
        assert "openrouter.json is not used: it is damaged" in said.err
        assert "use: openrouter/z-ai/glm-5, price:" in said.out + said.err


# --- asking ----------------------------------------------------------------------------------------------------------


def test_a_list_is_asked_for_with_the_key_of_the_job_kept_and_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One question, to the job's own address; from then on the job's prices are known."""
    monkeypatch.setenv("ROUTER_KEY", KEY)
    job = router(server.url)
    assert tertulia("plan", job).code == 6
    said = tertulia("models", "router", "--fetch", "--job", job, "glm")
    assert (said.code, server.asked) == (0, [("/api/v1/models", f"Bearer {KEY}")])
    path = state_folder() / FOLDER / file_of(("openrouter", server.url))
    kept = Catalogue.of(path.read_bytes())
    assert (kept.provider, kept.address, kept.body) == ("router", server.url, LIST.decode())
    when = kept.fetched.replace("T", " ").removesuffix("Z")
    digest = kept.sha256[:8]
    assert said.err == f"router: 4 models, 3 with prices, fetched {when} UTC (sha256 {digest}); kept in {path}\n"
    assert "z-ai/glm-5" in said.out and "acme/long" not in said.out
    assert f"prices       {kept.source}; the job file" in tertulia("plan", job).out
    assert len(server.asked) == 1
    assert KEY not in said.out + said.err + path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_run_takes_its_prices_from_the_list_that_is_kept_and_then_from_its_journal(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` asks for no list; a later one changes neither what the run reckons with nor what is said of it."""
    monkeypatch.setenv("ROUTER_KEY", KEY)
    job = router(server.url)
    assert tertulia("run", job).code == 6
    assert tertulia("models", "--fetch", "--job", job).code == 0
    assert tertulia("run", job).code == 0
    first = Catalogue.of(next((state_folder() / FOLDER).iterdir()).read_bytes()).source
    server.body = DEARER
    assert "glm" in tertulia("models", "--fetch", "--job", job).out
    for said in (tertulia("plan", job), tertulia("models", "--job", job)):
        assert (said.code, first in said.out) == (0, True)
    assert len(server.asked) == 2
    assert tertulia("verify", "job/main").code == 0


def test_a_later_list_takes_the_place_of_the_first_and_says_which_prices_changed(server: Server) -> None:
    """By model, with both prices; for programs all of them, for people the first."""
    job = router(server.url, key="${ROUTER_KEY:-none}")
    assert tertulia("models", "--fetch", "--job", job).code == 0
    assert "no price has changed since " in tertulia("models", "router", "--fetch", "--job", job).err
    server.body = DEARER
    said = tertulia("models", "--fetch", "--job", job)
    assert said.err.splitlines()[1:] == [
        f"  4 prices changed since {Catalogue.of(next((state_folder() / FOLDER).iterdir()).read_bytes()).day}:",
        "    acme/gift:free: $0 in, $0 out -> none",
        "    acme/long: $1 in, $3.2 out and more for long requests -> none",
        "    acme/new: none -> $1 in, $3.2 out",
        "    z-ai/glm-5: $1 in, $3.2 out -> $1 in, $64 out",
    ]
    server.body = listing(*(row(f"acme/m{number:02}", GLM) for number in range(30)))
    said = tertulia("models", "router", "--fetch", "--job", job)
    assert said.err.splitlines()[1].startswith("  32 prices changed since ")
    assert said.err.splitlines()[-1] == "    ... and 12 more; --json lists all"
    server.body = LIST
    told = objects(tertulia("models", "router", "--fetch", "--job", job, "nobody", "--json"))
    assert [line["kind"] for line in told] == ["list", *["change"] * 33, "end"]
    assert told[1]["before"] is None and told[1]["after"]["source"]
    assert told[-1]["exit"] == 2


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b'{"error": "who are you?"}', 'router: HTTP 401 in the place of its list: {"error": "who are you?"}'),
        (500, KEY.encode(), "router: HTTP 500 in the place of its list: ***"),
        (500, b"x" * 4090 + KEY.encode(), "router: HTTP 500 in the place of its list: xxx"),
        (
            302,
            b"<html>over there</html>",
            "router: HTTP 302 in the place of its list: a redirect to https://there.example/v1, and none is followed",
        ),
        (200, b"[" + b" " * 10_000, "router: no list from URL: the answer is far too long; nothing was changed"),
        (200, b"<html>Please log in</html>", "router: what came is no list of models: there is no model in it"),
        (200, listing(row(KEY, GLM)), "router: what came repeats the key, and was not kept"),
    ],
)
def test_an_answer_that_is_no_list_changes_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, said: str
) -> None:
    """Exit 6, in a line that shows no key; the list of before stays."""
    monkeypatch.setenv("ROUTER_KEY", KEY)
    job = router(server.url)
    assert tertulia("models", "router", "--fetch", "--job", job).code == 0
    [path] = (state_folder() / FOLDER).iterdir()
    before = path.read_bytes()
    server.status, server.body = status, body
    monkeypatch.setattr("runner.transports.http._MOST_BODY_BYTES", 10_000)
    found = tertulia("models", "router", "--fetch", "--job", job)
    assert (found.code, found.out) == (6, "")
    assert found.err.startswith(said.replace("URL", server.url))
    assert KEY not in found.err
    assert path.read_bytes() == before


def test_without_its_key_a_list_is_asked_for_all_the_same_and_a_refusal_names_the_variable(server: Server) -> None:
    """Some give their list to everybody; of one who does not, what is missing is said."""
    job = router(server.url)
    assert tertulia("models", "router", "--fetch", "--job", job).code == 0
    server.status, server.body = 401, b"no"
    found = tertulia("models", "router", "--fetch", "--job", job)
    assert found.err.startswith("router: HTTP 401 in the place of its list: no\n  ROUTER_KEY is not set")
    assert [key for _, key in server.asked] == [None, None]


def test_a_provider_without_an_entry_is_asked_with_the_key_of_its_variable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the environment, or from `.env` in the working directory."""
    from runner.job import Provider

    known = Provider("openrouter", "openrouter", server.url, "${OPENROUTER_API_KEY}")
    monkeypatch.setattr(command, "_well_known", lambda: {"openrouter": known})
    Path(".env").write_text(f"OPENROUTER_API_KEY={KEY}\n")
    assert tertulia("models", "openrouter", "--fetch").code == 0
    monkeypatch.setenv("OPENROUTER_API_KEY", KEY[::-1])
    assert tertulia("models", "openrouter", "--fetch").code == 0
    assert [key for _, key in server.asked] == [f"Bearer {KEY}", f"Bearer {KEY[::-1]}"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (
            "http://127.0.0.1:9/v1",
            "router: no list from http://127.0.0.1:9/v1: cannot connect (Connection refused); nothing was changed\n",
        ),
        ("${ROUTER_URL}", "router: a list is kept for an address, and this one is only known from a variable"),
        ("${ROUTER_URL:-https://r.example}", "router: a list is kept for an address"),
    ],
)
def test_where_nobody_can_be_asked_is_told(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    """And nothing is kept."""
    monkeypatch.setenv("ROUTER_KEY", KEY)
    monkeypatch.setenv("ROUTER_URL", "https://router.example")
    found = tertulia("models", "router", "--fetch", "--job", router(url))
    assert found.code == 6
    assert found.err.startswith(said)
    assert not (state_folder() / FOLDER).exists()


def test_of_the_providers_of_a_job_one_that_fails_does_not_cost_the_others_their_lists(server: Server) -> None:
    """Each is asked; the built-in one never."""
    text = JOB.replace(
        "providers: {sim: {}}",
        f'providers: {{sim: {{}}, dead: {{type: openrouter, base_url: "http://127.0.0.1:9/v1"}}, '
        f'router: {{type: openrouter, base_url: "{server.url}"}}}}',
    )
    text = text.replace("pairings:", "  extra: {opening: Hm, rounds: 1}\npairings:")
    text = text.replace(
        "models:\n", "models:\n  d: {use: dead/x, price: {input: 1, output: 1}}\n  r: {use: router/z-ai/glm-5}\n"
    )
    text += "  - {prompt: extra, a: d, b: r}\n"
    found = tertulia("models", "--fetch", "--job", write(text))
    assert found.code == 6
    assert found.err.splitlines()[1:] == [
        "dead: no list from http://127.0.0.1:9/v1: cannot connect (Connection refused); nothing was changed",
        "  the other lists are kept",
    ]
    assert len(server.asked) == 1
    assert len(list((state_folder() / FOLDER).iterdir())) == 1
