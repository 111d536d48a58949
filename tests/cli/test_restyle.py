"""`report --style`, as a shell calls it: the transcripts of a run once more, in another style, beside its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.render import STYLES
from tests.cli.folders import JOB, SIM, killed_when, landed, tertulia
from tests.nights import Night

RUN = Path("outputs/talk/main")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def night() -> Night:
    """A run that ended well."""
    ended = Night(JOB, SIM)
    assert ended.live().exit == 0
    return ended


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("style", STYLES)
def test_every_style_shows_a_run_beside_its_own_files(style: str, night: Night) -> None:
    """In exports/, one file for each that the run has; the run itself stays as it was, to the byte."""
    landed(night, Path("outputs"))
    before = files(RUN)
    said = tertulia("report", "talk", "--style", style)
    assert (said.code, said.out) == (0, f"talk/main: 3 transcripts written\n  {RUN}/exports/{style}\n")
    made = files(RUN / "exports" / style)
    assert set(made) == set(files(RUN / "conversations"))
    assert all(STYLES[style].read(text.decode()).said for text in made.values())
    after = files(RUN)
    assert {name: after[name] for name in before} == before
    assert tertulia("verify", "talk").code == 0


def test_they_go_where_they_are_told_to(night: Night) -> None:
    """One run into the folder itself, several into one each."""
    landed(night, Path("outputs"))
    landed(night, Path("others"))
    assert tertulia("report", "talk", "--style", "rounds", "-o", "there").code == 0
    assert set(files(Path("there"))) == set(files(RUN / "conversations"))
    assert tertulia("report", str(RUN), "others/talk/main", "--style", "rounds", "-o", "both").code == 0
    assert (Path("both/talk/main/memory/ada~bo.md")).is_file()
    assert not (RUN / "exports").exists()


def test_a_style_of_ones_own_is_a_file(night: Night) -> None:
    """Its suffix is that of the files; links between them are right for it."""
    landed(night, Path("outputs"))
    Path("my style.py").write_text(
        "suffix = '.txt'\ndef render(t, links):\n    return f'{t.name} {len(t.done)} {links.next}\\n'\n",
        encoding="utf-8",
    )
    assert tertulia("report", "talk", "--style", "my style.py").code == 0
    made = files(RUN / "exports/my-style")
    assert made["memory/ada~bo.txt"] == b"memory/ada~bo 4 ../letter/ada.txt\n"


def test_an_unfinished_run_shows_what_has_come_to_an_end() -> None:
    """Another process may still work on it: only the journal is read."""
    night = killed_when(JOB, SIM, lambda state: sum(one.status == "complete" for one in state.cells.values()) == 1)
    landed(night, Path("outputs"))
    said = tertulia("report", "talk", "--style", "rounds")
    assert (said.code, said.out.splitlines()[0]) == (0, "talk/main: 1 transcript written")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--style", "round"), "did you mean `rounds`?"),
        (("--style", "rounds.py"), "there is no file rounds.py; did you mean `rounds`?"),
        (("--style", "mine"), "there is no style mine; did you mean `mine.py`?"),
        (("--style", "nime.py"), "there is no file nime.py; did you mean `mine.py`?"),
        (("--style", "styles"), "styles is a folder; name the Python file in it"),
        (("--style", "styles/gone.py"), "there is no file styles/gone.py; there are transcript, rounds"),
        (("--style", "mine.py"), "mine.py:1: SyntaxError"),
        (("-o", "there"), "add --style"),
    ],
)
def test_a_style_that_cannot_be_used_is_told(arguments: tuple[str, ...], told: str, night: Night) -> None:
    """Before anything is written."""
    landed(night, Path("outputs"))
    Path("mine.py").write_text("def render(\n", encoding="utf-8")
    Path("styles").mkdir()
    said = tertulia("report", "talk", *arguments)
    assert (said.code, told in said.err) == (2, True), said.err
    assert not (RUN / "exports").exists()


def test_a_style_that_breaks_says_where(night: Night) -> None:
    """With the line of the user's own file."""
    landed(night, Path("outputs"))
    Path("mine.py").write_text("def render(t, links):\n    return t.nothing\n", encoding="utf-8")
    said = tertulia("report", "talk", "--style", "mine.py")
    assert (said.code, "mine.py:2: AttributeError" in said.err) == (2, True), said.err


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_a_style_that_cannot_be_used_is_found_before_anything_is_spent(command: str) -> None:
    """With the line of the job and that of the style; there is no run then."""
    Path("mine.py").write_text("import this_is_nothing\n", encoding="utf-8")
    Path("talk.yaml").write_text(JOB.replace("rounds: 2", "rounds: 2, render: mine.py"), encoding="utf-8")
    said = tertulia(command, "talk.yaml")
    told = "talk.yaml:10:58: mine.py:1: ModuleNotFoundError: No module named 'this_is_nothing'"
    assert (said.code, told in said.out + said.err) == (2, True), said
    assert not Path("outputs").exists()
