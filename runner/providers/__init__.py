"""The dialects, one file each. To add one: write the file, and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from runner.providers.anthropic import ANTHROPIC
from runner.providers.base import Dialect, Endpoint, Home
from runner.providers.chat import Chat, Ways
from runner.providers.deepseek import DEEPSEEK
from runner.providers.gemini import GEMINI
from runner.providers.groq import GROQ
from runner.providers.llamacpp import LLAMACPP
from runner.providers.lmstudio import LMSTUDIO
from runner.providers.mistral import MISTRAL
from runner.providers.ollama import OLLAMA
from runner.providers.openai import OPENAI
from runner.providers.openrouter import OPENROUTER
from runner.providers.responses import OPENAI_RESPONSES
from runner.providers.together import TOGETHER
from runner.providers.vllm import VLLM
from runner.providers.xai import XAI
from runner.providers.zai import ZAI

DIALECTS: Final[Mapping[str, Dialect]] = {
    "anthropic": ANTHROPIC,
    "deepseek": DEEPSEEK,
    "gemini": GEMINI,
    "groq": GROQ,
    "llamacpp": LLAMACPP,
    "lmstudio": LMSTUDIO,
    "mistral": MISTRAL,
    "ollama": OLLAMA,
    "openai": OPENAI,
    "openai-responses": OPENAI_RESPONSES,
    "openrouter": OPENROUTER,
    "together": TOGETHER,
    "vllm": VLLM,
    "xai": XAI,
    "zai": ZAI,
    "sim": Chat("openai", Home("sim"), Ways(thought="reasoning_content")),
}
"""By the name that a job gives as a provider's `type`, and that is known without an entry where it has a home."""

__all__ = ["DIALECTS", "Dialect", "Endpoint", "Home"]
