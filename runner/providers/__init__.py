"""The dialects, one file each. To add one: write the file, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.providers import openai
from runner.providers.base import Dialect, Endpoint

DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai": openai,
    "sim": openai,
}

__all__ = ["DIALECTS", "Dialect", "Endpoint"]
