"""Nights whose transcripts are made by the user's own code: what it cannot show is shown all the same, and told."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from runner.job import style_module
from runner.selection import Options
from runner.verify import verify
from tests.kinds import branch, job, night, sim
from tests.nights import Night

TALK = job(
    {"duo": {"opening": "What survives?", "rounds": 1, "render": "mine.py"}},
    [{"prompt": "duo", "a": "ada", "b": "basil", "repeat": 2}],
    "ada",
    "basil",
)
FIRST, SECOND = "conversations/duo/ada~basil.txt", "conversations/duo/ada~basil.r2.txt"
FINE = "suffix = '.txt'\ndef render(t, links):\n    return f'{t.name}, {len(t.done)} said\\n'\n"
FUSSY = "suffix = '.txt'\ndef render(t, links):\n    assert t.repeat == 1, 'only the first'\n    return 'mine\\n'\n"
ENDLESS = "suffix = '.txt'\ndef render(t, links):\n    while True:\n        pass\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


def styled(source: str) -> Night:
    """A night of two conversations whose style is this."""
    Path("mine.py").write_text(source, encoding="utf-8")
    return night(TALK, sim("ada", "basil"), beside={"mine_py": source})


def lived(one: Night, exit_: int, *reasons: str) -> list[str]:
    life = one.live()
    status = one.status()
    assert (life.exit, status["exit"], tuple(status["reasons"])) == (exit_, exit_, reasons), life.told
    assert status["conversations"]["complete"] == 2
    assert verify(one.folder, one.left()).problems == ()
    return life.told


def test_what_a_style_cannot_show_is_in_the_usual_one_and_the_night_says_so() -> None:
    """Every conversation is complete and has its file; the exit code is 3 for the sake of the style alone."""
    one = styled(FUSSY)
    told = lived(one, 3, "render")
    [line] = [line for line in told if "mine.py" in line]
    assert line == "kinds/main: mine.py:3: AssertionError: only the first; what it could not show is in the usual style"
    assert one.text(FIRST) == "mine\n"
    assert one.text(SECOND).startswith("---\ntitle: ") and "> " in one.text(SECOND)


def test_a_style_that_was_mended_shows_what_was_said_with_the_next_command() -> None:
    """No call is made for it; until then each run says the same."""
    one = styled(FUSSY)
    lived(one, 3, "render")
    calls = len(one.sents())
    lived(one, 3, "render")
    Path("mine.py").write_text(FINE, encoding="utf-8")
    assert not any("mine.py" in line for line in lived(one, 0))
    assert [one.text(name) for name in (FIRST, SECOND)] == ["duo/ada~basil, 2 said\n", "duo/ada~basil.r2, 2 said\n"]
    assert len(one.sents()) == calls
    assert lived(one, 0)[0].startswith("kinds/main: nothing to do, complete since")


def test_a_style_without_end_ends_with_the_night(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is interrupted once, and what was said is shown without it."""
    monkeypatch.setattr("runner.night.style_module", partial(style_module, longest=0.2))
    one = styled(ENDLESS)
    told = lived(one, 3, "render")
    assert sum("TooLong: still at work after 0.2 s" in line for line in told) == 1
    assert [one.text(name)[:4] for name in (FIRST, SECOND)] == ["---\n", "---\n"]


def test_a_life_that_holds_one_conversation_tells_of_every_one_that_cannot_be_shown() -> None:
    """The style may have been edited since the others were held; the last line must be true of the whole run."""
    one = styled(FINE)
    assert one.live(Options(limit=1)).exit == 0
    Path("mine.py").write_text(FUSSY.replace("== 1", "== 2"), encoding="utf-8")
    assert "mine.py:3" in " ".join(lived(one, 3, "render"))
    Path("mine.py").write_text(FINE, encoding="utf-8")
    lived(one, 0)


def test_failures_of_a_conversation_come_before_those_of_its_look() -> None:
    """A night has one reason for its exit code 3, the worst; the line about the style stands beside it."""
    one = night(
        TALK, sim(faults=[{"kind": "moderated", "model": "basil"}], ada={}, basil={}), beside={"mine_py": FUSSY}
    )
    Path("mine.py").write_text(FUSSY.replace("t.repeat == 1", "not t"), encoding="utf-8")
    life = one.live()
    assert (life.exit, one.status()["reasons"]) == (3, ["failed"])
    assert any("mine.py:3" in line for line in life.told)


def test_a_run_is_sound_to_whoever_may_not_run_its_style() -> None:
    """`verify` and `report` know how its files end, and run nobody's code."""
    one = styled(FINE)
    lived(one, 0)
    assert branch(one, "extend", "duo/ada~basil", more_rounds=1).exit == 0
    Path("mine.py").unlink()
    found = verify(one.folder, one.left())
    assert found.problems == () and any("3 transcripts in a style of the job's own" in note for note in found.notes)
    assert str(one.reading().file(one.reading().plan.cells[0])) == FIRST
