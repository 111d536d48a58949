"""Names that a reader or a file system could confuse: refused where they are declared, kept apart elsewhere."""

from __future__ import annotations

from unicodedata import normalize

import pytest

from runner.job import JobError, load
from runner.ledger import FILE as LEDGER
from runner.ledger import LOCK_FILE as LEDGER_LOCK
from runner.plan import make_plan
from tests.job.memory import FOLDER, MemoryFiles, read

COMPOSED, DECOMPOSED = normalize("NFC", "café"), normalize("NFD", "café")


@pytest.mark.parametrize(
    "name", [LEDGER, LEDGER_LOCK, "ledger.torn-1", "ledger.damaged-2", LEDGER_LOCK.upper(), "index.html"]
)
def test_no_job_has_the_name_of_a_file_that_lies_beside_the_folders_of_jobs(name: str) -> None:
    """Its folder would stand where the ledger of all jobs has to be; also where the job is called as its file is."""
    rest = "prompts: {t: {opening: hi, rounds: 1}}\npairings: [{a: sim/ada, b: sim/eli}]"
    with pytest.raises(JobError, match=f"`{name}` is reserved"):
        read(f"name: {name}\n{rest}")
    path = FOLDER / f"{name}.yaml"
    with pytest.raises(JobError, match=f"`{name}`, as the file is called, is reserved"):
        load(path, files=MemoryFiles({path.name: rest}))
    assert read(f"name: ledger\n{rest}").name == "ledger"


@pytest.mark.fault(68)
@pytest.mark.parametrize("what", ["models", "prompts"])
def test_an_accent_of_its_own_is_no_part_of_a_name(what: str) -> None:
    """Two spellings of one word look alike; the one that is made of two signs is refused at its place."""
    assert COMPOSED != DECOMPOSED
    entry = {"models": "{use: sim/x}", "prompts": "{opening: hi, rounds: 1}"}
    text = f"{what}: {{{COMPOSED}: {entry[what]}, {DECOMPOSED}: {entry[what]}}}\n"
    text += "" if what == "prompts" else f"prompts: {{t: {entry['prompts']}}}\n"
    with pytest.raises(JobError, match=f"`{DECOMPOSED}` is no name for a {what[:-1]}"):
        read(f"{text}pairings: [{{a: sim/ada, b: sim/eli}}]")


@pytest.mark.fault(68)
@pytest.mark.parametrize(("one", "other"), [(COMPOSED, DECOMPOSED), ("glm", "GLM"), ("ｇlm", "glm"), ("a/../b", "a/b")])
def test_model_ids_that_would_be_called_alike_have_names_of_their_own(one: str, other: str) -> None:
    """Providers name their models as they like: two conversations, two files, whatever the file system confuses."""
    text = f"prompts: {{t: {{opening: hi, rounds: 1}}}}\npairings: [{{a: ['sim/{one}', 'sim/{other}'], b: sim/z}}]"
    cells = make_plan(read(text), "2026-11-21").cells
    assert len({cell.id for cell in cells}) == 2
    assert len({normalize("NFKD", cell.name).casefold() for cell in cells}) == 2
    assert all(cell.name.isascii() and cell.name.count("/") == 1 for cell in cells)
