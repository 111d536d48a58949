"""The user's own code: read from inside the project, and interrupted where it does not come to an end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final, cast

import pytest

from runner.conversation import Look, Transcript
from runner.job import style_module
from runner.job.styles import _once_too_long
from runner.render import Links, StyleError, own_style
from runner.render.style import OwnStyle

NOTHING = cast(Transcript, None)


def style(folder: Path, source: str, longest: float = 0.2) -> OwnStyle:
    """A style of this text, with so little time that a test has enough."""
    (folder / "mine.py").write_text(source, encoding="utf-8")
    return own_style(Look("mine.py"), lambda name: hurried(style_module(folder, name, longest=60.0), longest))


def hurried(module: ModuleType, longest: float) -> ModuleType:
    """The same, with less time for each conversation than it had to be read: that may take as long as it takes."""
    module.__dict__["render"] = _once_too_long(module.__dict__["render"].__wrapped__, longest)
    return module


CATCHES = """def render(t, links):
    while True:
        try:
            1 / 0
        except Exception:
            pass
"""
ENDLESS = {
    "works": ("def render(t, links):\n    while True:\n        pass\n", "23"),
    "waits": ("import time\ndef render(t, links):\n    time.sleep(60)\n", "3"),
    "matches badly": ("import re\ndef render(t, links):\n    re.match('(a+)+b', 'a' * 60)\n", "3"),
    "goes on after every error": (CATCHES, "23456"),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_a_style_without_end_is_interrupted_and_told_with_its_line(case: str, tmp_path: Path) -> None:
    """No night waits for it, and whoever wrote it sees where it was."""
    source, lines = ENDLESS[case]
    with pytest.raises(StyleError) as told:
        style(tmp_path, source).render(NOTHING, Links())
    assert "TooLong: still at work after 0.2 s, and interrupted" in str(told.value)
    assert str(told.value).startswith(tuple(f"mine.py:{line}: " for line in lines))


def test_a_style_that_was_interrupted_is_not_called_again(tmp_path: Path) -> None:
    """It costs a night its time once, and says the same of every other conversation."""
    one = style(tmp_path, "calls = []\ndef render(t, links):\n    calls.append(1)\n    while True:\n        pass\n")
    said = []
    for _ in range(3):
        with pytest.raises(StyleError) as told:
            one.render(NOTHING, Links())
        said.append(str(told.value))
    assert one.module.__dict__["calls"] == [1]
    assert len(set(said)) == 1 and said[0].startswith(("mine.py:4: ", "mine.py:5: "))


def test_a_file_that_does_not_come_to_its_end_is_no_style(tmp_path: Path) -> None:
    """Its time counts from its first line."""
    (tmp_path / "mine.py").write_text("while True: pass", encoding="utf-8")
    with pytest.raises(StyleError, match=r"^mine\.py:1: TooLong"):
        own_style(Look("mine.py"), lambda name: style_module(tmp_path, name, longest=0.2))


HANGS: Final = """import itertools
def render(t, links):
    return "done" if t is None else str(any(itertools.repeat(0)))
"""
HELD: Final = """import sys, time
from pathlib import Path
from runner.job import style_module, styles
style = style_module(Path(sys.argv[1]), "mine.py")
styles.LAST = 0.2
style.render = styles._once_too_long(style.render.__wrapped__, 0.1)
print(style.render(None, None), flush=True)
time.sleep(0.3)
print("goes on", flush=True)
style.render(1, None)
print("never reached", flush=True)
"""


@pytest.mark.fault(4)
def test_a_style_that_hears_no_signal_ends_the_process_and_is_told_with_its_line(tmp_path: Path) -> None:
    """Nobody has to look for it with `kill -9`; one that came back in time ends nothing later."""
    (tmp_path / "mine.py").write_text(HANGS, encoding="utf-8")
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "done\ngoes on\n")
    assert f'File "{tmp_path}/mine.py", line 3 in render' in done.stderr


def test_a_style_in_time_is_never_interrupted_and_leaves_the_alarm_of_others(tmp_path: Path) -> None:
    """What follows it has all the time that it had, and whoever is waiting for the signal still gets it."""
    rung: list[Any] = []
    before = signal.signal(signal.SIGALRM, lambda *given: rung.append(given))
    was = signal.setitimer(signal.ITIMER_REAL, 300.0)
    try:
        one = style(tmp_path, "def render(t, links): return 'done'", longest=60.0)
        assert one.render(NOTHING, Links()) == "done"
        left, _ = signal.getitimer(signal.ITIMER_REAL)
        assert 0 < left <= 300.0
        signal.raise_signal(signal.SIGALRM)
        assert len(rung) == 1
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *was)


@pytest.mark.parametrize(("name", "why"), [("gone.py", "there is no such file"), ("../mine.py", "outside the project")])
def test_a_style_is_a_file_of_the_project(name: str, why: str, tmp_path: Path) -> None:
    """The reason stands beside the name that the job has."""
    (tmp_path / ".git").mkdir()
    with pytest.raises(StyleError, match=f"^{name}: .*{why}"):
        style_module(tmp_path, name)
