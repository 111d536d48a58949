"""vLLM, on a machine of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runner.call import Reasoning
from runner.providers.base import Home
from runner.providers.chat import Chat, Ways, by_effort, by_template
from runner.providers.errors import Words


def think(reasoning: Reasoning) -> Mapping[str, Any]:
    """Thinking asked for in every way that a model it serves may know; only templates know how to do without."""
    found = {**by_template(reasoning), **({} if reasoning.effort == "none" else by_effort(reasoning))}
    return found if reasoning.tokens is None else {**found, "thinking_token_budget": reasoning.tokens}


VLLM: Final = Chat(
    "vllm",
    Home("http://127.0.0.1:8000/v1", free=True),
    Ways(
        limit="max_completion_tokens",
        think=think,
        thought="reasoning_content",
        efforts=("low", "medium", "high"),
        words=Words(full=frozenset({503})),
    ),
)
