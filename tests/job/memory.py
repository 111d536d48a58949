"""Job files that exist in memory only."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent

from runner.job import Files, Job, load
from runner.job.files import Misread

FOLDER = Path("/project/jobs")
JOB = FOLDER / "job.yaml"


class MemoryFiles(Files):
    """Files under `/project`, whose mark is a `.git`; there are no links."""

    def __init__(self, files: Mapping[str, str | bytes], exposed: Sequence[str] = ()) -> None:
        self.files = {FOLDER / name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
        self.exposed = {FOLDER / name for name in exposed}

    def exists(self, path: Path) -> bool:
        return path in self.files or path == Path("/project/.git")

    def resolved(self, path: Path) -> Path:
        return Path(posixpath.normpath(path))

    def glob(self, folder: Path, pattern: str) -> list[Path]:
        return sorted(path for path in self.files if path.is_relative_to(folder) and path.match(str(folder / pattern)))

    def open_to_others(self, path: Path) -> bool:
        return path in self.exposed

    def read(self, path: Path, most: int) -> bytes:
        if path not in self.files:
            raise Misread("there is no such file")
        if len(self.files[path]) > most:
            raise Misread(f"it has {len(self.files[path]):,} bytes; at most {most:,} are read")
        return self.files[path]


def read(text: str, files: Mapping[str, str | bytes] | None = None, sets: Sequence[str] = ()) -> Job:
    """The job in this text, beside these files."""
    return load(JOB, sets=sets, files=MemoryFiles({"job.yaml": dedent(text), **(files or {})}))
