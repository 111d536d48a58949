"""Lines from outside: the part of a file that is due, or what a command prints; and why there is none yet."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import orjson
import pytest

from runner.conversation import Conversation, Inbox, Line, Origin, Participant
from runner.events import Heard
from runner.inbox import Inboxes
from runner.run import Letter, NotYet
from runner.talk import Talk
from runner.world import MOST_OUTPUT, Ran, RealDisk, RealPrograms
from tests.memory import MemoryDisk
from tests.virtual import ScriptedPrograms, run_virtual

HOME = Path("/jobs")


def talk(inbox: Inbox, *said: str) -> Talk:
    """Two sides, of whom the first has an inbox and an opening that is given."""
    sides = (Participant("me", "Me", False, inbox=inbox), Participant("it", "It", True, alias="it"))
    roles = ["me", "it"] * 4
    lines = tuple(Line(n, (n + 1) // 2, role, given="Opening." if n == 1 else None) for n, role in enumerate(roles, 1))
    one = Talk(Conversation("cell", "p/it", "p", 1, sides, lines))
    for text in said:
        line = one.next()
        assert line is not None
        one.take(Heard("cell", line.number, text, "before"), 0.0)
    return one


def look(disk: MemoryDisk, one: Talk, programs: ScriptedPrograms | None = None) -> Letter | NotYet:
    async def main() -> Letter | NotYet:
        line = one.next()
        assert line is not None
        return await Inboxes(disk, programs or ScriptedPrograms(), HOME, HOME).look(one, line)

    return run_virtual(main)


FILE = Inbox(file="box/it.md")


def box(content: str | bytes) -> MemoryDisk:
    disk = MemoryDisk()
    disk.put(HOME / "box/it.md", content.encode() if isinstance(content, str) else content)
    return disk


@pytest.mark.parametrize(
    ("content", "said", "text"),
    [
        ("Hello.\n", ["answer"], "Hello."),
        ("\n\nHello,\n\n# you\n\n", ["answer"], "Hello,\n\n# you"),
        ("First.\n\n<!-- turn -->\n\nSecond.\r\nMore.\n", ["answer", "First.", "answer"], "Second.\nMore."),
        ("\ufeffHello.", ["answer"], "Hello."),
    ],
)
def test_the_part_that_is_due_is_taken(content: str, said: list[str], text: str) -> None:
    """The first for the first line that was not given, the next for the next; line ends and marks are no text."""
    assert look(box(content), talk(FILE, *said)) == Letter(text, "box/it.md")


@pytest.mark.parametrize(
    ("content", "said", "why"),
    [
        ("", ["answer"], "holds no line yet"),
        (" \n\u200b\n", ["answer"], "holds no line yet"),
        ("First.", ["answer", "First.", "answer"], "holds 1 line, and line 2 is waited for"),
        ("1\n<!-- turn -->\n2", ["answer", "1", "answer", "2", "answer"], "holds 2 lines, and line 3 is waited for"),
        (
            "First.\n<!-- turn -->\n \n<!-- turn -->\nThird.",
            ["answer", "First.", "answer"],
            "holds nothing as its line 2",
        ),
        (b"\xff\xfeH\x00", ["answer"], "is not UTF-8"),
    ],
)
def test_a_part_that_is_not_there_is_waited_for(content: str | bytes, said: list[str], why: str) -> None:
    """With the file, what it has, and which one is due."""
    found = look(box(content), talk(FILE, *said))
    assert isinstance(found, NotYet) and found.reason.startswith("/jobs/box/it.md ") and why in found.reason


def test_a_file_that_is_not_there_or_cannot_be_read_is_waited_for() -> None:
    """A folder of that name, too."""
    assert look(MemoryDisk(), talk(FILE, "answer")) == NotYet("/jobs/box/it.md is not there")
    disk = MemoryDisk()
    disk.put(HOME / "box/it.md/other", b"")
    found = look(disk, talk(FILE, "answer"))
    assert isinstance(found, NotYet) and found.reason.startswith("/jobs/box/it.md cannot be read: ")


COMMAND = Inbox(command=("./next", "--for", "it"))


def test_a_command_is_told_what_was_said_and_prints_the_next_line() -> None:
    """On its standard input and in its variables; line feeds around the text are no part of it."""
    seen: list[Any] = []

    def says(command: Any, given: bytes, environ: Any) -> Ran:
        seen.append((command, orjson.loads(given), dict(environ)))
        return Ran(0, b"\n  Dear it,\r\nhello. \n\n", b"a warning")

    assert look(MemoryDisk(), talk(COMMAND, "answer"), ScriptedPrograms(says)) == Letter(
        "  Dear it,\nhello. ", "./next --for it"
    )
    ((command, given, environ),) = seen
    assert tuple(command) == ("./next", "--for", "it")
    said = [{"number": 1, "role": "me", "text": "Opening."}, {"number": 2, "role": "it", "text": "answer"}]
    assert given == {"conversation": "p/it", "role": "me", "turn": 3, "said": said}
    assert environ == {"TERTULIA_CONVERSATION": "p/it", "TERTULIA_ROLE": "me", "TERTULIA_TURN": "3"}


@pytest.mark.parametrize(
    ("ran", "why"),
    [
        (Ran(0, b"", b""), "`./next --for it` gave none"),
        (Ran(0, b" \n\n", b""), "`./next --for it` gave none"),
        (Ran(2, b"text", b"bad key sk-live-0123456789"), "`./next --for it` ended with code 2"),
        (Ran(0, b"x" * MOST_OUTPUT, b""), "`./next --for it` prints too much"),
        (None, "`./next --for it` gave none within 60 s"),
    ],
)
def test_a_command_that_prints_nothing_fails_or_hangs_is_asked_again_later(ran: Ran | None, why: str) -> None:
    """What it prints on the way is not repeated: it may be a key."""
    found = look(MemoryDisk(), talk(COMMAND, "answer"), ScriptedPrograms(lambda *said: ran))
    assert isinstance(found, NotYet) and found.reason.startswith(why) and "sk-live" not in found.reason


def test_a_command_that_cannot_be_run_is_told() -> None:
    """With what the system says of it."""
    assert look(MemoryDisk(), talk(COMMAND, "answer")) == NotYet(
        "`./next --for it` cannot be run: No such file or directory"
    )


def test_a_letter_that_is_too_large_is_waited_for_and_not_cut() -> None:
    """Half of it would stand in the journal for good."""
    found = look(box("x" * (4 * 1024 * 1024 + 1)), talk(FILE, "answer"))
    assert isinstance(found, NotYet) and "too large" in found.reason


def look_on_disk(root: Path, file: str, *said: str) -> Letter | NotYet:
    """A look into a drop-box of a project on the real disk, whose job file is in a folder of it."""
    one = talk(Inbox(file=file), *(said or ("answer",)))

    async def main() -> Letter | NotYet:
        line = one.next()
        assert line is not None
        return await Inboxes(RealDisk(), ScriptedPrograms(), root / "jobs", root).look(one, line)

    return anyio.run(main)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project, beside which lies a secret."""
    (tmp_path / "secret").write_text("root:x:0:0", encoding="utf-8")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "it.md").write_text("root:x:0:0", encoding="utf-8")
    root = tmp_path / "project"
    (root / "jobs").mkdir(parents=True)
    return root


OUTWARD: dict[str, Callable[[Path], object]] = {
    "a link": lambda root: (root / "box").symlink_to("../secret"),
    "a link on the way": lambda root: (root / "box").symlink_to("jobs/../../secret"),
    "a folder on the way": lambda root: (root / "jobs" / "l").symlink_to("../../secrets"),
    "a device": lambda root: (root / "box").symlink_to("/dev/zero"),
}


@pytest.mark.fault(70)
@pytest.mark.parametrize("how", OUTWARD)
def test_no_link_leads_a_drop_box_out_of_the_project(how: str, project: Path) -> None:
    """It may be put there at any time, so that it is looked at with each look into the box; and nothing is sent."""
    name = "l/it.md" if how == "a folder on the way" else "../box"
    assert look_on_disk(project, name) == NotYet(f"{project / 'jobs' / name} is not there")
    OUTWARD[how](project)
    assert look_on_disk(project, name) == NotYet(
        f"{project / 'jobs' / name} cannot be read: it lies outside the project ({project})"
    )


@pytest.mark.fault(70)
@pytest.mark.parametrize("part", ["box", "boxes/it.md"])
def test_a_link_that_is_put_there_while_a_box_is_opened_is_not_followed(
    part: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write into the project cannot read what lies outside through us, however he times it."""
    (project / part).parent.mkdir(exist_ok=True)
    (project / part).write_text("Hello.", encoding="utf-8")
    real = os.path.realpath

    def just_before(path: Path) -> str:
        found: str = real(path)
        if found == real(project / part):
            first = project / Path(part).parts[0]
            first.rename(project / "gone")
            first.symlink_to("../secret" if part == "box" else "../secrets")
        return found

    monkeypatch.setattr(os.path, "realpath", just_before)
    found = look_on_disk(project, f"../{part}")
    assert isinstance(found, NotYet) and " cannot be read: " in found.reason


def test_links_within_the_project_are_followed(project: Path) -> None:
    """Where somebody keeps his letters is his business; so is a path to the project that has links in it."""
    (project / "letters").mkdir()
    (project / "letters" / "it.md").write_text("Hello.", encoding="utf-8")
    (project / "jobs" / "box").symlink_to("../letters")
    (project.parent / "also").symlink_to("project")
    for root in (project, project.parent / "also"):
        assert look_on_disk(root, "box/it.md") == Letter("Hello.", "box/it.md")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_regular_file_holds_nobody_up(make: Callable[[Path], None], project: Path) -> None:
    """To a pipe nobody may ever write; there is no line yet, and why is said."""
    make(project / "jobs" / "box")
    assert look_on_disk(project, "box") == NotYet(f"{project}/jobs/box cannot be read: it is no regular file")


def test_a_box_outside_the_project_is_one_in_memory_too() -> None:
    """The disk of simulated nights has no links, and the same bounds."""
    disk = box("Hello.")
    disk.put(Path("/secret"), b"root:x:0:0")
    found = look(disk, talk(Inbox(file="../secret"), "answer"))
    assert found == NotYet("/jobs/../secret cannot be read: it lies outside the project (/jobs)")
    assert look(disk, talk(Inbox(file="box/../box/it.md"), "answer")) == Letter("Hello.", "box/../box/it.md")


def branch(through: int, *sources: str) -> Talk:
    """A branch whose first lines were said in its origin, what its own side said out of these boxes."""
    one = talk(FILE)
    origin = Origin("origin", "p/it", "extend", through)
    one = Talk(replace(one.planned, origin=origin))
    given = iter(sources)
    while (line := one.next()) is not None and line.number <= 1 + 2 * len(sources):
        one.take(Heard("cell", line.number, "x", next(given) if line.role == "me" else "before"), 0.0)
    line = one.next()
    assert line is not None
    one.take(Heard("cell", line.number, "x", "before"), 0.0)
    return one


@pytest.mark.parametrize(
    ("through", "sources", "due"),
    [
        (4, ["box/of-its-origin.md"], 1),
        (6, ["box/of-its-origin.md", "box/of-its-origin.md"], 1),
        (4, ["box/of-its-origin.md", "box/it.md"], 2),
        (4, ["box/it.md"], 2),
        (4, ["box/it.md", "moved/it.md"], 3),
    ],
)
def test_a_branch_has_a_box_for_what_is_new(through: int, sources: list[str], due: int) -> None:
    """What was said before is not repeated in it; where it keeps the box of its origin, it goes on in it."""
    disk = box("First.\n<!-- turn -->\nSecond.\n<!-- turn -->\nThird.")
    assert look(disk, branch(through, *sources)) == Letter(["First.", "Second.", "Third."][due - 1], "box/it.md")


def ran(tmp_path: Path, script: str, seconds: float = 100.0) -> Ran:
    async def main() -> Ran:
        environ: dict[str, str | None] = {"ADDED": "there", "HIDDEN_FROM_IT": None}
        return await RealPrograms().run(["/bin/sh", "-c", script], b"given", environ, tmp_path, seconds)

    return anyio.run(main)


def test_a_real_command_reads_what_it_is_given_and_finds_no_variable_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is the job's, and its end, output and errors are told apart."""
    monkeypatch.setenv("HIDDEN_FROM_IT", "sk-live-0123456789")
    found = ran(tmp_path, 'cat; printf ":$ADDED:$HIDDEN_FROM_IT:"; pwd >&2; exit 3')
    assert found == Ran(3, b"given:there::", f"{tmp_path}\n".encode())


def test_a_command_that_leaves_a_child_behind_is_over_when_it_has_ended(tmp_path: Path) -> None:
    """The child holds its output open, and is ended with it."""
    assert ran(tmp_path, "echo Hello; sleep 300 &").output == b"Hello\n"


LISTED: Final = Path("/proc/self/stat").exists()
"""True where the system lists what runs, and in which session."""


def is_gone(process: int) -> bool:
    """True when it has ended, as a killed process has a moment later, although nobody may have waited for it."""
    for _ in range(10_000):
        try:
            os.kill(process, 0)
            if LISTED and b") Z " in Path(f"/proc/{process}/stat").read_bytes():
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.01)
    return False


def test_whoever_shares_the_session_of_a_command_ends_with_it(tmp_path: Path) -> None:
    """Also one in a group of its own, as a shell makes for its jobs, and who ignores all that can be ignored."""
    apart = "os.setpgid(0, 0)" if LISTED else "pass"
    child = f"import os, time; {apart}; print(os.getpid(), file=open('child', 'w'), flush=True); time.sleep(300)"
    began = f'{sys.executable} -S -c "{child}" & while [ ! -s child ]; do sleep 0.01; done'
    ran(tmp_path, f"trap '' TERM HUP INT; {began}")
    assert is_gone(int((tmp_path / "child").read_text(encoding="utf-8")))


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """With the exception that says so."""
    with pytest.raises(TimeoutError):
        ran(tmp_path, "sleep 300", seconds=0.2)
