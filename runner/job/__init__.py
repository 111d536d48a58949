"""The job file: read strictly, checked as a whole, and resolved into a `Job`.

`load` gives a job or raises `JobError` with every mistake in it. The rest of the package, from the edge inwards:
`files` and `source` read, `schema` says what an entry may hold, `texts`, `fields`, `environment` and `endpoint` know
one kind of value each, `reading` checks what entries mean together, `job` is the result, `cells` its conversations.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from runner.job.environment import Environment, MissingVariable, environment, resolve
from runner.job.files import Files
from runner.job.job import Job, Model, Provider
from runner.job.problem import JobError, Problem

if TYPE_CHECKING:
    from runner.job.endpoint import at_hand, unsafe
    from runner.job.reading import load
    from runner.job.schema import json_schema
    from runner.job.styles import style_module

__all__ = [
    "Environment",
    "Files",
    "Job",
    "JobError",
    "MissingVariable",
    "Model",
    "Problem",
    "Provider",
    "at_hand",
    "environment",
    "json_schema",
    "load",
    "resolve",
    "style_module",
    "unsafe",
]

_HOMES: Final = {
    "at_hand": "runner.job.endpoint",
    "json_schema": "runner.job.schema",
    "load": "runner.job.reading",
    "style_module": "runner.job.styles",
    "unsafe": "runner.job.endpoint",
}


def __getattr__(name: str) -> Any:
    # Late, because whoever has a job out of a journal must not wait for what only reads job files.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
