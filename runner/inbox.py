"""Lines that come from outside: out of a file into which somebody drops them, or from a command that gives them.

A drop-box holds the lines of one side of one conversation, parted by `<!-- turn -->` as those of a script are: its
third part is that side's third line. What was taken once stands in the journal, and the file is never changed. A
command is told what was said so far on its standard input, and prints the next line; while it prints nothing, there is
none yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from runner.call import has_text
from runner.conversation import Line
from runner.events import Heard
from runner.foreign import one_line
from runner.job.texts import Written, normal, parted
from runner.run import Letter, NotYet
from runner.talk import Talk
from runner.world import MOST_OUTPUT, Disk, Programs

_COMMAND_SECONDS: Final = 60.0
_MOST_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Inboxes:
    """The drop-boxes of one job, whose paths start from its folder."""

    disk: Disk
    programs: Programs
    folder: Path
    root: Path
    """The project, outside of which nothing is read."""
    secret: tuple[str, ...] = ()
    """The variables that the job names."""

    async def look(self, talk: Talk, line: Line) -> Letter | NotYet:
        """The text of a line, or why there is none yet."""
        inbox = talk.conversation.participant(line.role).inbox
        assert inbox is not None
        if inbox.file is not None:
            before = [one for one in talk.conversation.lines[: line.number - 1] if one.role == line.role]
            return self._from_file(inbox.file, sum(_was_in(inbox.file, talk, one) for one in before))
        return await self._from_command(inbox.command, talk, line)

    def _from_file(self, name: str, earlier: int) -> Letter | NotYet:
        path = self.folder / name
        try:
            data = self.disk.read_inside(self.root, path, _MOST_BYTES + 1)
            if len(data) > _MOST_BYTES:
                return NotYet(f"{path} is too large: {_MOST_BYTES:,} bytes are read at most")
            text = data.decode("utf-8-sig")
        except FileNotFoundError:
            return NotYet(f"{path} is not there")
        except OSError as error:
            return NotYet(f"{path} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            return NotYet(f"{path} is not UTF-8")
        parts = [part.text for part in parted(Written(normal(text)))]
        if len(parts) <= earlier or not has_text(parts[earlier]):
            return NotYet(f"{path} {_lacks(parts, earlier + 1)}")
        return Letter(parts[earlier], name)

    async def _from_command(self, command: tuple[str, ...], talk: Talk, line: Line) -> Letter | NotYet:
        shown = one_line(" ".join(command), 200)
        said = [
            {"number": one.number, "role": one.role, "text": text}
            for one, text in zip(talk.conversation.lines, talk.history, strict=False)
        ]
        given = orjson.dumps(
            {"conversation": talk.conversation.name, "role": line.role, "turn": line.number, "said": said}
        )
        # The keys of the job are for its providers: a command finds no variable that the job names.
        environ: dict[str, str | None] = dict.fromkeys(self.secret)
        environ |= {
            "TERTULIA_CONVERSATION": talk.conversation.name,
            "TERTULIA_ROLE": line.role,
            "TERTULIA_TURN": str(line.number),
        }
        try:
            ran = await self.programs.run(command, given, environ, self.folder, _COMMAND_SECONDS)
        except TimeoutError:
            return NotYet(f"`{shown}` gave none within {_COMMAND_SECONDS:.0f} s")
        except OSError as error:
            return NotYet(f"`{shown}` cannot be run: {error.strerror}")
        if ran.code != 0:
            # What it prints on the way may hold a key that it was given.
            return NotYet(f"`{shown}` ended with code {ran.code}")
        if len(ran.output) >= MOST_OUTPUT:
            return NotYet(f"`{shown}` prints too much: {MOST_OUTPUT:,} bytes are read at most")
        text = normal(ran.output.decode("utf-8", "replace")).strip("\n")
        return Letter(text, shown) if has_text(text) else NotYet(f"`{shown}` gave none")


def _lacks(parts: list[str], sought: int) -> str:
    """How far a drop-box has come that does not hold the line that is sought."""
    held = sum(map(has_text, parts))
    if not held:
        return "holds no line yet"
    if sought <= len(parts):
        return f"holds nothing as its line {sought}"
    return f"holds {'1 line' if held == 1 else f'{held:,} lines'}, and line {sought} is waited for"


def _was_in(file: str, talk: Talk, line: Line) -> bool:
    """True for a line that this drop-box has held."""
    said = talk.said.get(line.number)
    if line.given is not None or said is None or not isinstance(said.event, Heard) or said.event.when is not None:
        return False  # what was read in with its conversation has been in none
    origin = talk.conversation.origin
    # A branch begins with a box of its own, but for one that has taken the name of its origin, or shares its box.
    return origin is None or line.number > origin.through or said.event.source == file
