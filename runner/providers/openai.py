"""Chat completions at OpenAI, and at any server that is like it: the one to name for a server that has no file here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runner.call import Found
from runner.providers.answer import AnswerReader
from runner.providers.base import NOTHING_ELSE, Endpoint, Home, Most
from runner.providers.chat import Chat, ChatReader, Ways
from runner.providers.errors import Words
from runner.providers.loose import path_part, rows
from runner.world import HttpRequest

WORDS: Final = Words(policy=frozenset({"invalid_prompt", "bio_policy"}))
"""What it minds in a text. Elsewhere `invalid_prompt` is said of a request that has no text where one belongs."""


class OpenAI(Chat):
    """What no data can say: what it stores can be asked for."""

    most = Most(stop_strings=4)

    def look_up(
        self, endpoint: Endpoint, generation: str, extra: Mapping[str, Any] = NOTHING_ELSE
    ) -> HttpRequest | None:
        part = path_part(generation)
        if extra.get("store") is not True or part is None:
            return None
        return self.asking(endpoint, f"/chat/completions/{part}")

    def looked_up(self, body: bytes, generation: str) -> Found | None:
        return found_in(ChatReader(self), body, generation)


def found_in(reader: AnswerReader, body: bytes, generation: str) -> Found | None:
    """What a stored answer says of its cost: its tokens, where it has both and they can be true."""
    for answer in rows(body):
        reader.take(answer)
        if isinstance(reader.usage, dict) and reader.finish is not None and reader.generation in (None, generation):
            usage = reader.counted(reader.usage, received=True)
            if usage.trusted and usage.input is not None and usage.output is not None:
                return Found(usage.cost, usage.input, usage.output, usage.cached_read)
    return None


OPENAI: Final = OpenAI(
    "openai",
    Home(
        "https://api.openai.com/v1",
        "${OPENAI_API_KEY}",
        per="model",
        alike=True,
        limit_field="max_completion_tokens",
        prices="openai",
    ),
    Ways(words=WORDS),
)
