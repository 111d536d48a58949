"""xAI: chat completions whose errors are sentences."""

from __future__ import annotations

from typing import Final

from runner.providers.base import Home
from runner.providers.chat import Chat, Ways
from runner.providers.errors import Words

XAI: Final = Chat(
    "xai",
    Home("https://api.x.ai/v1", "${XAI_API_KEY}", per="model", prices="x-ai"),
    Ways(
        limit="max_completion_tokens",
        words=Words(
            phrases={
                "used all available credits": "insufficient_quota",
                "run out of credits": "insufficient_quota",
                "incorrect api key": "authentication",
            }
        ),
    ),
)
