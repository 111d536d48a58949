"""Chat completions at OpenAI, and at any server that is like it: the one to name for a server that has no file here."""

from __future__ import annotations

from typing import Final

from runner.providers.base import Home
from runner.providers.chat import Chat

OPENAI: Final = Chat(
    "openai",
    Home("https://api.openai.com/v1", "${OPENAI_API_KEY}", limit_field="max_completion_tokens", alike=True),
)
