"""Mistral: chat completions that refuse every field they do not know, and name the seed in their own way."""

from __future__ import annotations

from typing import Final

from runner.providers.base import Home
from runner.providers.chat import Chat, Ways

MISTRAL: Final = Chat(
    "mistral",
    Home("https://api.mistral.ai/v1", "${MISTRAL_API_KEY}", per="model", prices="mistral"),
    # The usage of a stream comes unasked here, and the field that asks for it elsewhere is refused.
    Ways(seed="random_seed", fixed={}),
)
