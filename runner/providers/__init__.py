"""The dialects, one file each. To add one: write the file, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.providers.base import Dialect, Endpoint, Home
from runner.providers.chat import Chat
from runner.providers.openai import OPENAI

DIALECTS: Final[Mapping[str, Dialect]] = {
    "openai": OPENAI,
    "sim": Chat("openai", Home("sim")),
}
"""By the name that a job gives as a provider's `type`, and that is known without an entry where it has a home."""

__all__ = ["DIALECTS", "Dialect", "Endpoint", "Home"]
