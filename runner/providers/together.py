"""Together: chat completions with limits that grow with steady use; a 503 says that there is no room just now.

Its limit headers have names of their own and windows that are not stated, so nothing is read from them.
"""

from __future__ import annotations

from typing import Final

from runner.providers.base import Home
from runner.providers.chat import Chat, Ways
from runner.providers.errors import Words

TOGETHER: Final = Chat(
    "together",
    Home("https://api.together.ai/v1", "${TOGETHER_API_KEY}", per="model", prices="together"),
    Ways(words=Words(full=frozenset({503}))),
)
