"""`report`, `status` and the index on a run whose transcripts are made by a style of the user's own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.folders import Said, tertulia

JOB = """
name: talk
budget: 1
providers:
  sim: {sim: {models: {ada: {latency: {first: 0}, reply: {mean: 4}}, basil: {latency: {first: 0}, reply: {mean: 4}}}}}
models:
  ada: {use: sim/ada, price: {input: 1, output: 3}}
  basil: {use: sim/basil, price: {input: 1, output: 3}}
prompts:
  one: {opening: "What survives?", rounds: 1, render: styles/mine.py}
  two: {opening: "What does not?", rounds: 1, render: styles/mine.py}
pairings: [{a: ada, b: basil}]
"""
RUN = Path("outputs/talk/main")
ONE, TWO = RUN / "conversations/one/ada~basil.txt", RUN / "conversations/two/ada~basil.txt"
STYLE = Path("styles/mine.py")
FINE = "suffix = '.txt'\ndef render(t, links):\n    return f'{t.name}\\n'\n"
FUSSY = "suffix = '.txt'\ndef render(t, links):\n    assert t.prompt == 'one', 'only the first'\n    return 'mine\\n'\n"


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a job, its style, and a run of it that ended well."""
    folder, before = tmp_path_factory.mktemp("lived"), Path.cwd()
    os.chdir(folder)
    try:
        STYLE.parent.mkdir()
        STYLE.write_text(FINE, encoding="utf-8")
        Path("talk.yaml").write_text(JOB, encoding="utf-8")
        assert tertulia("run", "talk.yaml").code == 0
        yield folder
    finally:
        os.chdir(before)


@pytest.fixture(autouse=True)
def here(lived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of it to work in."""
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shutil.copytree(lived, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")


def wrote(said: Said, transcripts: str, *rest: str) -> None:
    lines = said.out.splitlines()
    assert lines[0].startswith(f"talk/main: {transcripts} and three pages written from "), said
    assert lines[1:] == [*rest, f"  {RUN}/index.md"]


def test_report_shows_a_run_in_its_style_as_that_is_now() -> None:
    """Edited or deleted files come out anew, and what was run is told."""
    assert ONE.read_text() == "one/ada~basil\n"
    STYLE.write_text(FINE.replace("{t.name}", "{t.name}, once more"), encoding="utf-8")
    TWO.unlink()
    said = tertulia("report", "talk")
    assert (said.code, said.err) == (0, "")
    wrote(said, "2 transcripts", "  in the style of styles/mine.py")
    assert (ONE.read_text(), TWO.read_text()) == ("one/ada~basil, once more\n", "two/ada~basil, once more\n")
    assert tertulia("verify", "talk").code == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("style gone", "talk.yaml:10:55: `styles/mine.py`: there is no such file"),
        ("style broken", "talk.yaml:10:55: styles/mine.py:1: SyntaxError: "),
        ("job gone", "its job was talk.yaml, which is not there from this folder"),
        ("job renamed", "talk.yaml is another job by now, tolk"),
        ("job restyled", "talk.yaml names styles/mine.py no more; `tertulia run talk.yaml` takes in how it is now"),
    ],
)
def test_transcripts_in_a_style_that_cannot_be_run_are_left_and_not_counted(change: str, told: str) -> None:
    """The other views are written; the exit code says that something was not."""
    job = Path("talk.yaml")
    if change == "style gone":
        STYLE.unlink()
    elif change == "style broken":
        STYLE.write_text("def render(\n", encoding="utf-8")
    elif change == "job gone":
        job.unlink()
    else:
        old, new = ("name: talk", "name: tolk") if change == "job renamed" else ("styles/mine.py", "letter")
        job.write_text(JOB.replace(old, new), encoding="utf-8")
    TWO.unlink()
    said = tertulia("report", "talk")
    assert said.code == 3
    wrote(said, "0 transcripts")
    assert said.err.startswith("talk/main: 2 transcripts not written anew: ") and told in said.err, said.err
    assert (ONE.read_text(), TWO.exists()) == ("one/ada~basil\n", False)


def test_another_style_in_the_job_is_taken_in_by_a_run_in_which_nobody_is_called() -> None:
    """The files that ended otherwise go; a style with another suffix is shown in the same way."""
    calls = tertulia("status", "talk", "--json").out
    STYLE.write_text(FINE.replace(".txt", ".html"), encoding="utf-8")
    assert tertulia("run", "talk.yaml").code == 0
    assert sorted(path.name for path in ONE.parent.iterdir()) == ["ada~basil.html"]
    Path("talk.yaml").write_text(JOB.replace("styles/mine.py", "letter"), encoding="utf-8")
    assert tertulia("run", "talk.yaml").code == 0
    assert sorted(path.name for path in ONE.parent.iterdir()) == ["ada~basil.md"]
    assert "# " in (ONE.parent / "ada~basil.md").read_text()
    now = tertulia("status", "talk", "--json").out
    assert [json.loads(each.splitlines()[0])["figures"]["calls"] for each in (calls, now)] == [4, 4]


def test_what_a_style_cannot_show_is_told_by_report_too() -> None:
    """It is in the usual style then, and the exit code is that of the run."""
    STYLE.write_text(FUSSY, encoding="utf-8")
    said = tertulia("report", "talk")
    assert said.code == 3
    wrote(said, "2 transcripts", "  in the style of styles/mine.py")
    assert "styles/mine.py:3: AssertionError: only the first; what it could not show is in the usual style" in said.err
    assert (ONE.read_text(), TWO.read_text()[:4]) == ("mine\n", "---\n")


def test_whoever_looks_at_a_run_is_told_of_the_trouble_with_its_style() -> None:
    """Style, line and command: by status, the index and doctor, all out of the journal, until the style is mended."""
    STYLE.write_text(FUSSY, encoding="utf-8")
    Path("talk.yaml").write_text(JOB.replace("name: talk", "name: talk\nrun_key: next"), encoding="utf-8")
    assert tertulia("run", "talk.yaml").code == 3
    trouble = "styles/mine.py:3: AssertionError: only the first"
    status = Path("outputs/talk/next/status.json")
    for _ in range(2):
        shown = tertulia("status", "talk/next").out
        assert f"  style          {trouble}\n" in shown
        assert "  go on with     tertulia run talk.yaml" in shown
        status.unlink(missing_ok=True)  # so that it is computed from the journal
    index = Path("outputs/talk/next/index.md").read_text()
    assert "mine.py:3: AssertionError: only the first. What it could not show is in the usual style" in index
    assert "tertulia run talk.yaml" in index
    assert tertulia("report", "talk/next").code == 3
    assert Path("outputs/talk/next/index.md").read_text() == index
    assert f"a style cannot show some: {trouble}" in tertulia("doctor", "talk.yaml").out
    assert tertulia("verify", "talk/next").code == 0
    STYLE.write_text(FINE, encoding="utf-8")
    assert tertulia("run", "talk.yaml").code == 0
    assert "style  " not in tertulia("status", "talk/next").out
    assert "usual style" not in Path("outputs/talk/next/index.md").read_text()


def test_another_style_asked_for_tells_where_it_breaks_and_what_it_has_written() -> None:
    """By the path that was asked for; what was written before stays."""
    STYLE.write_text(FUSSY, encoding="utf-8")
    said = tertulia("report", "talk", "--style", "styles/mine.py", "-o", "there")
    assert said.code == 2
    assert "talk/main: styles/mine.py:3: AssertionError: only the first" in said.err
    assert "  1 transcript written before that, and left in there" in said.err
    assert Path("there/one/ada~basil.txt").read_text() == "mine\n"


def test_another_style_asked_for_leaves_no_file_of_an_older_suffix_in_the_run() -> None:
    """In a folder of the user's own it removes nothing."""
    exported = RUN / "exports/mine/one"
    for folder in ((), ("-o", "there")):
        for suffix in ("txt", "html"):
            STYLE.write_text(FINE.replace("txt", suffix), encoding="utf-8")
            assert tertulia("report", "talk", "--style", "styles/mine.py", *folder).code == 0
    assert [path.name for path in exported.iterdir()] == ["ada~basil.html"]
    assert len(list(Path("there/one").iterdir())) == 2


def test_a_style_is_run_once_for_all_prompts_that_name_it() -> None:
    """Each says what is wrong with it; one that does not come back loses its time once."""
    STYLE.write_text(
        "with open('count', 'a') as file:\n    file.write('x')\nraise ValueError('no')\n", encoding="utf-8"
    )
    said = tertulia("check", "talk.yaml")
    assert (said.code, said.out.count("styles/mine.py:3: ValueError: no")) == (2, 2), said.out
    assert Path("count").read_text() == "x"
