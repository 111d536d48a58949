"""`observe`, as a shell calls it: who may be asked about a run that is there."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

import pytest

from tests.cli.folders import Said, tertulia

QUICK = "{models: {ada: {reply: {mean: 9}}, basil: {reply: {mean: 9}}, eli: {reply: {mean: 9}}}}"
JOB = f"""
name: talk
budget: 5.00
providers: {{sim: {{sim: {QUICK}}}}}
models: {{one: {{use: sim/ada, free: true}}}}
prompts: {{duo: {{opening: "What survives?", rounds: 1}}}}
pairings: [{{a: one, b: sim/basil}}]
"""
SHOWN = Path("outputs/talk/main/conversations/duo/one~basil.md")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job that was held."""
    folder = tmp_path_factory.mktemp("held")
    (folder / "talk.yaml").write_text(JOB, encoding="utf-8")
    assert tertulia("run", folder / "talk.yaml", "--outputs", folder / "outputs").code == 0
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, held: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of that folder to work in."""
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    copytree(held, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def observe(model: str, question: str = "What was it about?") -> Said:
    return tertulia("observe", "talk", "--job", "talk.yaml", "--observer", model, "--prompt", question)


def headings() -> list[str]:
    return [line for line in SHOWN.read_text("utf-8").splitlines() if line.startswith("## Notes")]


@pytest.mark.parametrize(
    ("model", "called"), [("one", "one"), ("basil", "basil"), ("sim/basil", "basil"), ("sim/ada", "one")]
)
def test_a_model_of_the_job_is_asked_under_either_name(model: str, called: str) -> None:
    """By what the job calls it, or by what it is."""
    assert observe(model).code == 0
    assert headings() == [f"## Notes ({called})"]


def test_a_model_that_the_job_does_not_name_is_asked_as_a_job_would_name_it() -> None:
    """And its notes stay when the job is run again, which knows no such model."""
    assert observe("sim/eli").code == 0
    assert headings() == ["## Notes (eli)"]
    spent = tertulia("run", "talk.yaml")
    assert (spent.code, "nothing to do" in spent.err) == (0, True)
    assert (tertulia("report", "talk").code, headings()) == (0, ["## Notes (eli)"])
    assert observe("eli", "And then?").code == 2
    assert (observe("sim/eli", "And then?").code, headings()) == (0, ["## Notes (eli)"] * 2)
    assert tertulia("verify", "talk").code == 0


def test_two_models_of_one_name_are_two() -> None:
    """Which of them was asked first is on record, so that the other gets another name."""
    Path("talk.yaml").write_text(
        JOB.replace("providers: {", f"providers: {{sam: {{type: sim, sim: {QUICK}}}, "), encoding="utf-8"
    )
    assert (observe("sim/eli").code, observe("sam/eli").code) == (0, 0)
    assert headings() == ["## Notes (eli)", "## Notes (sam-eli)"]


@pytest.mark.parametrize(
    ("model", "code", "told"),
    [
        ("bazil", 2, "there is no model bazil; did you mean `basil`?"),
        ("smi/basil", 2, "there is no provider `smi`"),
        ("sim/", 2, "there is no model sim/"),
        ("sim/elli", 6, "the built-in provider has no model elli"),
    ],
)
def test_a_model_that_nobody_has_is_told(model: str, code: int, told: str) -> None:
    """Nothing is asked, and nothing is put down."""
    said = observe(model)
    assert (said.code, told in said.err) == (code, True), said
    assert headings() == []
