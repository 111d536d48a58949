"""Groq: chat completions whose headers speak of the day for requests, and of the minute for tokens."""

from __future__ import annotations

from typing import Final

from runner.providers.base import Home
from runner.providers.chat import Chat, Ways

GROQ: Final = Chat(
    "groq",
    Home("https://api.groq.com/openai/v1", "${GROQ_API_KEY}", per="model", prices="groq"),
    Ways(
        limit="max_completion_tokens",
        efforts=("low", "medium", "high"),
        requests_window="day",
    ),
)
