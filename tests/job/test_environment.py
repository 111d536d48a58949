"""Variables of the environment: named by the job, found in `.env` files, never stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.job import MissingVariable, environment, resolve
from runner.job.environment import dotenv, hidden
from tests.job.memory import FOLDER, MemoryFiles, read


def test_the_process_wins_then_the_job_folder_then_the_working_one() -> None:
    """Each variable comes from the nearest place that sets it, and no other variable is taken."""
    files = MemoryFiles({".env": "A=job\nB=job\nE=\nSECRET=x", "cwd/.env": "A=cwd\nB=cwd\nC=cwd\nE=cwd"})
    found = environment("ABCDE", [FOLDER, FOLDER / "cwd"], {"A": "process", "D": "", "PATH": "/bin"}, files)
    assert found.values == {"A": "process", "B": "job", "C": "cwd", "E": "cwd"}
    assert found.warnings == ()


def test_a_readable_or_broken_file_is_warned_of() -> None:
    """A key that others can read still works, and its owner is told; a file that is no text is left out."""
    files = MemoryFiles({".env": "A=1", "cwd/.env": b"A=\xff"}, exposed=[".env"])
    found = environment(["A", "B"], [FOLDER, FOLDER / "cwd"], {}, files)
    assert found.values == {"A": "1"}
    assert [w.partition(" ")[0] for w in found.warnings] == [str(FOLDER / ".env"), str(FOLDER / "cwd" / ".env")]


def test_a_folder_under_two_names_is_read_and_warned_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job in the working folder is found by a path without a folder."""
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("A=1")
    Path(".env").chmod(0o644)
    found = environment(["A"], [Path("job.yaml").parent, Path.cwd()], {})
    assert found.warnings == (".env can be read by other users: chmod 600 .env",)


@pytest.mark.fault(78)
def test_permissions_are_read_from_the_disk(tmp_path: Path) -> None:
    """Mode 0600 is quiet, mode 0644 is not."""
    path = tmp_path / ".env"
    path.write_text("A=1")
    path.chmod(0o600)
    assert environment(["A"], [tmp_path], {}) == ({"A": "1"}, ())
    path.chmod(0o644)
    assert "chmod 600" in environment(["A"], [tmp_path], {}).warnings[0]


def test_a_dotenv_file_is_assignments_and_comments() -> None:
    """Quotes, comments and `export` are understood; nothing is expanded or run."""
    text = "# c\nA=1 # one\nexport B = 'x # y' \nC=\"$(rm) ${A}\"\nD=a#b\n  E=\nF\n1G=2\n#H=3\n"
    assert dotenv(text) == {"A": "1", "B": "x # y", "C": "$(rm) ${A}", "D": "a#b", "E": ""}


def test_variables_are_filled_in_once() -> None:
    """A value that looks like a variable is a value."""
    assert resolve("x ${A} ${B:-b} ${C:-}", {"A": "${B}"}) == "x ${B} b "


def test_a_missing_variable_is_named_with_what_to_do() -> None:
    """An empty variable is a missing one: an empty key is no key."""
    with pytest.raises(MissingVariable, match=r"A is not set.*\.env"):
        resolve("${A}", {"A": ""})


JOB = """
    budget: 1
    providers:
      w:
        type: openai
        base_url: "https://${HOST:-example.com}/v1"
        api_key: "${KEY}"
        headers: {X-Token: "Bearer ${TOKEN}"}
    prompts: {t: {opening: hi, rounds: 1}}
    pairings: [{a: w/x, b: openai/gpt}]
"""


def test_a_job_knows_its_variables_and_its_secrets() -> None:
    """Keys and headers are secret, and so is what hides in an address; what is not set has nothing to hide."""
    job = read(JOB)
    assert job.variables() == ("HOST", "KEY", "TOKEN", "OPENAI_API_KEY")
    secrets = job.secrets({"HOST": "h", "KEY": "k1", "TOKEN": "t1"})
    assert [secret.reveal() for secret in secrets] == ["k1", "t1"]
    assert "k1" not in repr(secrets)
    away = read(JOB.replace("example.com}/v1", "example.com}/${PLACE}/v1")).secrets({"PLACE": "p1"})
    assert [secret.reveal() for secret in away] == ["p1"]


@pytest.mark.parametrize(
    ("address", "values", "found"),
    [
        ("https://gw.example/tenant/${T}/v1", {"T": "tenant-4711"}, ["tenant-4711"]),
        ("https://gw.example/${T}", {"T": "/team/s3cret/"}, ["team/s3cret", "team", "s3cret"]),
        ("https://gw.example${T}", {"T": "/s3cret"}, ["s3cret"]),
        ("https://gw.example/a-${T}", {"T": "letters"}, ["letters"]),
        ("${OLLAMA_HOST}", {"OLLAMA_HOST": "http://box-4711.example:11434"}, []),
        ("${BASE}", {"BASE": "https://gw.example/accounts/4f5e6d/openrouter"}, ["4f5e6d"]),
        ("https://${T}.gw.example:${P}/v1", {"T": "tenant-4711", "P": "8443"}, []),
        ("https://${A}/${B}/${C}", {"A": "gw.example", "B": "b1", "C": "c1"}, ["b1", "c1"]),
        ("https://gw.example/${T:-in-the-job}", {}, []),
        ("https://gw.example/${T}", {}, []),
        ("${T}/v1", {"T": "no-address-4711"}, []),
    ],
)
def test_what_a_variable_adds_to_the_path_of_an_address_is_secret(
    address: str, values: dict[str, str], found: list[str]
) -> None:
    """Its host is not, and nor are the plain words of an address that is a variable as a whole."""
    assert [*hidden(address, values)] == found


def test_what_is_stored_of_a_job_has_no_values() -> None:
    """The record holds variables as they were written."""
    job = read(JOB)
    data, texts = job.record()
    assert data["providers"]["w"]["api_key"] == "${KEY}"
    assert data["providers"]["w"]["base_url"] == "https://${HOST:-example.com}/v1"
    assert texts == {}
