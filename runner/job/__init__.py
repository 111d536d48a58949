"""The job file: read strictly, checked as a whole, and resolved into a `Job`.

`load` gives a job or raises `JobError` with every mistake in it. The rest of the package, from the edge inwards:
`files` and `source` read, `schema` says what an entry may hold, `texts`, `fields`, `environment` and `endpoint` know
one kind of value each, `reading` checks what entries mean together, `job` is the result, `cells` its conversations.
"""

from runner.job.endpoint import at_hand, unsafe
from runner.job.environment import Environment, MissingVariable, environment, resolve
from runner.job.files import Files
from runner.job.job import Job, Model, Provider
from runner.job.problem import JobError, Problem
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
