"""Reading what a job names: regular files of bounded size, and none outside the project."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath
from typing import Final

ROOT_MARKS: Final = (".git", "pyproject.toml", ".tertulia")


class Misread(Exception):
    """A file that cannot be used; the text says why, and is fit for the user."""


class Files:
    """The file system as a job sees it. Tests put another in its place by overriding these methods."""

    def exists(self, path: Path) -> bool:
        return path.exists()

    def resolved(self, path: Path) -> Path:
        """The path with every link followed."""
        return path.resolve()

    def glob(self, folder: Path, pattern: str) -> list[Path]:
        """The files that fit, sorted."""
        return sorted(path for path in folder.glob(pattern) if not path.is_dir())

    def open_to_others(self, path: Path) -> bool:
        """True when others than the owner may read the file."""
        return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))

    def read(self, path: Path, most: int) -> bytes:
        """All bytes of a regular file of at most `most`. Raises Misread."""
        try:
            # Without O_NONBLOCK a FIFO without a writer would hold the check for ever.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Misread("there is no such file") from None
        except OSError as error:
            raise Misread(f"it cannot be read ({error.strerror})") from None
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Misread("it is no regular file")
            if status.st_size > most:
                raise Misread(f"it has {status.st_size:,} bytes; at most {most:,} are read")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(descriptor)
        if len(data) > most:
            raise Misread(f"it grew while it was read; at most {most:,} bytes are")
        return data

    def root(self, job: Path) -> Path:
        """The project of a job file: the nearest folder above it with a project's mark, else its own folder."""
        folder = self.resolved(job).parent
        for ancestor in (folder, *folder.parents):
            if any(self.exists(ancestor / mark) for mark in ROOT_MARKS):
                return ancestor
        return folder

    def inside(self, root: Path, folder: Path, name: str) -> Path:
        """The file called `name` from `folder`, links followed, if it lies in `root`. Raises Misread."""
        if not name.strip() or "\0" in name:
            raise Misread("the name is empty or not usable")
        if PurePosixPath(name).is_absolute() or name.startswith("~"):
            raise Misread("the path must be relative to the job file")
        try:
            path = self.resolved(folder / name)
        except (OSError, RuntimeError):
            raise Misread("its links lead nowhere") from None
        if not path.is_relative_to(root):
            raise Misread(f"it lies outside the project ({root})")
        return path
