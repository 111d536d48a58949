"""Commands on a run with models that nobody is to call any more: they need no key and no price for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.journal import FILE
from tests.cli.folders import tertulia
from tests.cli.test_bring import FILES

RUN = Path("outputs/imported/main")
THEIRS = ("--use", "z-ai/glm-5=openrouter/nobody/knows-it")
KEY = "OPENROUTER_API_KEY is not set"
PRICE = "the price of these models is not known"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A letter that was read in; its model has neither a key nor a price here."""
    monkeypatch.chdir(tmp_path)
    for name in ("TERTULIA_OUTPUTS", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("letter.md", "eight-rounds.md"):
        Path(name).write_bytes((FILES / name).read_bytes())
    assert tertulia("import", "letter.md", *THEIRS).code == 0


def test_a_complete_run_has_nothing_to_do_and_says_so() -> None:
    """`run`, `plan` and `doctor` have no word about its model; `check` tells what any further turn would need."""
    ran = tertulia("run", "imported.yaml")
    assert (ran.code, "nothing to do" in ran.err) == (0, True), ran.err
    planned = tertulia("plan", "imported.yaml")
    assert (planned.code, "run makes 0 calls" in planned.out) == (0, True), planned.err
    checked = tertulia("check", "imported.yaml")
    assert checked.code == 0, checked.out
    assert "ok       imported.yaml: 1 conversation, nothing is left to be called" in checked.out
    assert "warning  imported.yaml: provider openrouter: " + KEY in checked.out
    assert "(nothing that is left to be said needs it)" in checked.out
    assert "ok       imported.yaml: 1 conversation, nothing is left" in tertulia("doctor", "imported.yaml").out


def test_what_a_job_says_anew_of_a_complete_run_is_kept_without_a_key() -> None:
    """A life in which nobody is called."""
    job = Path("imported.yaml")
    job.write_text(job.read_text().replace("label: ASSISTANT", "label: GLM"))
    ran = tertulia("run", "imported.yaml")
    assert ran.code == 0, ran.err
    assert "GLM" in (RUN / "conversations/letter/knows-it.md").read_text()
    assert tertulia("verify", "imported").code == 0


def test_what_is_missing_is_asked_for() -> None:
    """A conversation that has failed is not missing until it is to be taken up again."""
    assert tertulia("import", "letter.md", "eight-rounds.md", *THEIRS).code == 3
    assert tertulia("check", "imported.yaml").code == 0
    again = tertulia("run", "imported.yaml", "--retry-failed")
    assert (again.code, KEY in again.err) == (6, True), again.err


@pytest.mark.parametrize("keyed", [False, True])
def test_a_wish_that_cannot_be_called_for_leaves_nothing_behind(keyed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a branch nor an observer stands in the journal when a key or a price is missing."""
    if keyed:
        monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-not-a-real-key")
    before = (RUN / FILE).read_bytes()
    for asked in (
        ("extend", "imported", "letter/*", "--rounds", "1"),
        ("observe", "imported", "--observer", "openrouter/nobody/knows-it", "--prompt", "What was it about?"),
    ):
        said = tertulia(*asked)
        assert (said.code, (PRICE if keyed else KEY) in said.err) == (6, True), said.err
        assert (RUN / FILE).read_bytes() == before
    assert tertulia("run", "imported.yaml").code == 0


def test_who_comments_on_it_is_the_only_one_who_is_asked_for() -> None:
    """Also where money is short, so that the rest of each conversation is reckoned with."""
    job = Path("imported.yaml")
    job.write_text(job.read_text().replace("budget: 1", "budget: 0.045"))
    said = tertulia("observe", "imported", "--observer", "sim/eli", "--prompt", "What was it about?")
    assert said.code == 0, said.err
    assert "eli" in (RUN / "conversations.jsonl").read_text()
    assert tertulia("verify", "imported").code == 0
