"""Texts: inline or in files, scripts parted into turns, prompt files with front matter."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from runner.conversation import Look
from runner.job.files import Files, Misread
from runner.job.styles import style_module
from runner.render import StyleError, own_style
from runner.render.style import OwnStyle

MOST_BYTES: Final = 4 * 1024 * 1024
_MARK_LINE: Final = re.compile(r"^[ \t]*<!--[ \t]*turn[ \t]*-->[ \t]*$", re.MULTILINE)
_FENCE: Final = re.compile(r"---[ \t]*")


class Written(NamedTuple):
    """A text and where it begins: the file to name when something in it is wrong, None when it is inline."""

    text: str
    file: str | None = None
    line: int = 1


class Library:
    """Reads the texts of one job and runs its styles, each file once."""

    def __init__(self, files: Files, job: Path) -> None:
        self.files = files
        self.folder = job.parent
        self.root = files.root(job)
        self._read: dict[Path, str | Misread] = {}
        self._styles: dict[str, OwnStyle | StyleError] = {}

    def shown(self, path: Path) -> str:
        """The path as messages name it: beside the job file where possible."""
        folder = self.files.resolved(self.folder)
        return str(self.folder / path.relative_to(folder)) if path.is_relative_to(folder) else str(path)

    def path(self, name: str) -> Path:
        """The file of that name, confined to the project. Raises Misread."""
        return self.files.inside(self.root, self.folder, name)

    def read(self, path: Path) -> str:
        """The text of a file: valid UTF-8, line ends as `\\n`, no byte order mark. Raises Misread."""
        if path not in self._read:
            try:
                self._read[path] = _decoded(self.files.read(path, MOST_BYTES))
            except Misread as error:
                self._read[path] = error
        found = self._read[path]
        if isinstance(found, Misread):
            raise found
        return found

    def style(self, name: str) -> OwnStyle:
        """The style of the user's own in a file, whose code is run once. Raises Misread, StyleError."""
        self.read(self.path(name))
        if name not in self._styles:
            try:
                self._styles[name] = own_style(Look(name), partial(style_module, self.folder, files=self.files))
            except StyleError as error:
                self._styles[name] = error
        found = self._styles[name]
        if isinstance(found, StyleError):
            raise found
        return found

    def text(self, name: str) -> Written:
        """The text in a named file, without empty lines around it. Raises Misread."""
        path = self.path(name)
        return trimmed(Written(self.read(path), self.shown(path)))

    def matching(self, pattern: str) -> list[Path]:
        """The files that a pattern names, in order. Raises Misread."""
        self.path(pattern)
        if any(part == ".." for part in Path(pattern).parts):
            raise Misread("a pattern may not go up with `..`")
        try:
            found = self.files.glob(self.folder, pattern)
        except (ValueError, NotImplementedError) as error:
            raise Misread(f"this is no pattern of files ({error})") from None
        return [self.files.inside(self.root, self.folder, str(path.relative_to(self.folder))) for path in found]


def _decoded(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Misread(f"it is not UTF-8 (line {line}); save it as UTF-8") from None
    if "\0" in text:
        raise Misread("it holds a NUL character: it is no text")
    return normal(text)


def normal(text: str) -> str:
    """The text with every line end as `\\n`, so that a checkout on another system is the same text."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def trimmed(written: Written) -> Written:
    """Without empty lines around it; editors end every file with one, and no turn means it."""
    start = len(written.text) - len(written.text.lstrip("\n"))
    return Written(written.text.strip("\n"), written.file, written.line + start)


def parted(written: Written) -> tuple[Written, ...]:
    """The turns of a script, which `<!-- turn -->` on a line of its own parts."""
    parts: list[Written] = []
    start = 0
    for mark in [*_MARK_LINE.finditer(written.text), None]:
        end = len(written.text) if mark is None else mark.start()
        line = written.line + written.text.count("\n", 0, start)
        parts.append(trimmed(Written(written.text[start:end], written.file, line)))
        start = end if mark is None else mark.end()
    return tuple(parts)


class PromptFile(NamedTuple):
    """A prompt in a file of its own: front matter as YAML, and the text below it."""

    front: str
    front_line: int
    """Lines of the file before the front matter."""
    body: Written


def prompt_file(text: str, file: str) -> PromptFile:
    """A file's front matter and body; a file without front matter is all body. Raises Misread."""
    lines = text.split("\n")
    if not _FENCE.fullmatch(lines[0]):
        return PromptFile("", 0, trimmed(Written(text, file)))
    for number, line in enumerate(lines[1:], start=1):
        if _FENCE.fullmatch(line):
            body = trimmed(Written("\n".join(lines[number + 1 :]), file, number + 2))
            return PromptFile("\n".join(lines[1:number]), 1, body)
    raise Misread("its front matter has no end: a line `---` is missing")
