"""A style of the user's own: one Python file beside the job. It is the user's code, and runs with the user's rights."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Final

from runner.job.files import Files

_MOST_BYTES: Final = 1024 * 1024


def style_module(folder: Path, name: str) -> ModuleType:
    """The file called `name`, seen from the job's folder, run as a module. Misread where it cannot be read."""
    files = Files()
    path = files.inside(files.root(folder / "job"), folder, name)
    module = ModuleType(f"style_{path.stem}")
    module.__file__ = str(path)
    exec(compile(files.read(path, _MOST_BYTES), str(path), "exec"), module.__dict__)
    return module
