"""A real file system of a few pages, in a mount namespace of its own: it goes with the process that holds it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

_MOUNT = 'mount -t tmpfs -o "$1" none "$2" && echo mounted && exec cat'


@dataclass(frozen=True, slots=True)
class TinyDisk:
    """Mounted at a place that only processes started `within` see there; `seen` is where everybody else finds it."""

    within: tuple[str, ...]
    seen: Path
    place: Path

    def change(self, options: str) -> None:
        """Mount it anew with other options: `size=16m`, `nr_inodes=20`, `ro`."""
        subprocess.run([*self.within, "mount", "-o", f"remount,{options}", str(self.place)], check=True)

    def fill(self) -> Path:
        """Write a file until nothing more fits."""
        stuffing = self.seen / "stuffing"
        with open(stuffing, "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                return stuffing
        raise AssertionError("the disk is never full")


@contextmanager
def a_tiny_disk(place: Path, options: str) -> Iterator[TinyDisk]:
    """Such a disk at a place in the file system; the test is skipped, and says so, where nothing may be mounted."""
    why = _cannot_mount()
    if why:
        pytest.skip(f"no real tiny disk: {why}; tests/program/test_border.py shows the same errors without one")
    place.mkdir(exist_ok=True)
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", _MOUNT, "sh", options, str(place)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"mounted\n"
        enter = ["nsenter", f"--target={holder.pid}", "--user", "--mount", "--preserve-credentials"]
        # The folder is entered in there: from outside it is another one, without the disk.
        enter += ["sh", "-c", 'cd "$0" && exec "$@"', str(place.parent)]
        yield TinyDisk(tuple(enter), Path(f"/proc/{holder.pid}/root{place}"), place)
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


@cache
def _cannot_mount() -> str:
    """Why no file system can be mounted here; nothing when it can."""
    script = "mount -t tmpfs none /tmp"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        subprocess.run(["nsenter", "--version"], capture_output=True, check=True)
    except OSError as error:
        return str(error)
    return tried.stderr.strip() if tried.returncode else ""
