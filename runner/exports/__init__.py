"""The conversations of a run in the shapes that other programs read: one file per format, pure functions.

Each is given the conversations as `conversations.jsonl` has them, one at a time, so that a long run fits into a small
memory. A new one is a file of its own and one line here; `sqlite` is filled instead of written, and stands apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.exports import inspect, openai, parquet, sharegpt, sheet
from runner.exports.shape import Format, Head, Talk, Talks, talk

FORMATS: Final[Mapping[str, Format]] = {
    "openai": openai,
    "sharegpt": sharegpt,
    "csv": sheet,
    "parquet": parquet,
    "inspect": inspect,
}

__all__ = ["FORMATS", "Format", "Head", "Talk", "Talks", "talk"]
