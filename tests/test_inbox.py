"""Lines from outside: the part of a file that is due, or what a command prints; and why there is none yet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest

from runner.conversation import Conversation, Inbox, Line, Participant
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
        return await Inboxes(disk, programs or ScriptedPrograms(), HOME).look(one, line)

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
        ("", ["answer"], "has 0, and this is its 1."),
        (" \n\u200b\n", ["answer"], "has 0, and this is its 1."),
        ("First.", ["answer", "First.", "answer"], "has 1, and this is its 2."),
        ("First.\n<!-- turn -->\n \n<!-- turn -->\nThird.", ["answer", "First.", "answer"], "and this is its 2."),
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


def test_a_pipe_in_place_of_a_box_holds_nobody_up(tmp_path: Path) -> None:
    """Nobody writes to it: there is no line yet."""
    os.mkfifo(tmp_path / "box")
    one = talk(Inbox(file="box"), "answer")

    async def main() -> Letter | NotYet:
        line = one.next()
        assert line is not None
        return await Inboxes(RealDisk(), ScriptedPrograms(), tmp_path).look(one, line)

    assert isinstance(anyio.run(main), NotYet)


def ran(tmp_path: Path, script: str, seconds: float = 20.0) -> Ran:
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


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    """With the exception that says so."""
    with pytest.raises(TimeoutError):
        ran(tmp_path, "sleep 300", seconds=0.2)
