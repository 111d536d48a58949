"""The dialects, and which of them a request is in: its path tells the format, the configuration whose ways."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple, TypeAlias

from runner.sim.config import Speaks
from runner.sim.dialect import Dialect, SimRequest
from runner.sim.dialects.anthropic import ANTHROPIC
from runner.sim.dialects.chat import Chat
from runner.sim.dialects.gemini import GEMINI
from runner.sim.dialects.ollama import OLLAMA
from runner.sim.dialects.openrouter import OPENROUTER
from runner.sim.dialects.responses import RESPONSES
from runner.sim.dialects.servers import DEEPSEEK, GROQ, LLAMACPP, LMSTUDIO, MISTRAL, TOGETHER, VLLM, XAI, ZAI

Purpose: TypeAlias = Literal[
    "answer", "models", "model", "record", "account", "resident", "version", "nothing", "method"
]

PLAIN: Final = Chat()
SPEAKERS: Final[Mapping[Speaks, Dialect]] = MappingProxyType(
    {
        "plain": PLAIN,
        "openrouter": OPENROUTER,
        "deepseek": DEEPSEEK,
        "zai": ZAI,
        "mistral": MISTRAL,
        "groq": GROQ,
        "together": TOGETHER,
        "xai": XAI,
        "vllm": VLLM,
        "llamacpp": LLAMACPP,
        "lmstudio": LMSTUDIO,
        "anthropic": ANTHROPIC,
        "gemini": GEMINI,
    }
)
"""What a configuration may `speak`."""

_ENDS: Final[Mapping[str, tuple[Dialect | None, str, Purpose]]] = MappingProxyType(
    {
        "/chat/completions": (PLAIN, "POST", "answer"),
        "/messages": (ANTHROPIC, "POST", "answer"),
        "/responses": (RESPONSES, "POST", "answer"),
        "/api/chat": (OLLAMA, "POST", "answer"),
        "/api/tags": (OLLAMA, "GET", "models"),
        "/api/ps": (OLLAMA, "GET", "resident"),
        "/api/version": (OLLAMA, "GET", "version"),
        "/api/v1/models": (LMSTUDIO, "GET", "resident"),
        "/props": (LLAMACPP, "GET", "resident"),
        "/models": (None, "GET", "models"),
        "/key": (OPENROUTER, "GET", "account"),
        "/user/balance": (DEEPSEEK, "GET", "account"),
        "/generation": (OPENROUTER, "GET", "record"),
    }
)
"""By the end of a path; no dialect is that of the configuration."""
_BELOW: Final[Mapping[str, tuple[Dialect | None, Purpose]]] = MappingProxyType(
    {
        "/chat/completions/": (PLAIN, "record"),
        "/responses/": (RESPONSES, "record"),
        "/models/": (None, "model"),
        "/model/": (OPENROUTER, "model"),
    }
)
"""What stands before a name at the end of a path."""


_SERVED: Final = frozenset(("chat", "completions", "messages", "responses", "models", "props", "tags", "ps"))
"""What only a base URL that is too long has in it."""
_VERSION: Final = re.compile(r"v\d+\w*")
_UNVERSIONED: Final = (DEEPSEEK, OLLAMA, LMSTUDIO, LLAMACPP)
"""Those with paths beside the version, or with none."""


class Route(NamedTuple):
    dialect: Dialect
    purpose: Purpose
    name: str = ""
    """Of the model or the call that is asked about."""


def route(request: SimRequest, speaks: Speaks) -> Route:
    """What a request is about, and whose words the answer is in."""
    own = SPEAKERS[speaks]
    path = request.route
    if path.endswith((":generateContent", ":streamGenerateContent")) and "/models/" in path:
        if not _is_base(path.partition("/models/")[0], GEMINI):
            return Route(own, "nothing")
        return Route(GEMINI, "answer" if request.method == "POST" else "method")
    for end, (dialect, method, purpose) in _ENDS.items():
        if path.endswith(end):
            found = _owner(dialect, request, own)
            if found is None or not _is_base(path.removesuffix(end), found):
                continue
            name = request.query.get("id", "") if purpose == "record" else ""
            return Route(found, purpose if request.method == method else "method", name)
    for start, (dialect, purpose) in _BELOW.items():
        base, middle, name = path.partition(start)
        if middle and name:
            found = _owner(dialect, request, own)
            if found is None or not _is_base(base, found):
                continue
            return Route(found, purpose if request.method == "GET" else "method", name)
    return Route(own, "nothing")


def _is_base(path: str, dialect: Dialect) -> bool:
    """Whether the paths of a dialect may stand below this one: that of its version, and of nothing that it serves."""
    steps = path.split("/")
    if not _SERVED.isdisjoint(steps):
        return False
    return dialect in _UNVERSIONED or _VERSION.fullmatch(steps[-1]) is not None


def _owner(dialect: Dialect | None, request: SimRequest, own: Dialect) -> Dialect | None:
    """Who answers there; None when this server has no such path."""
    if dialect is PLAIN:
        return own if isinstance(own, Chat) else PLAIN
    if dialect is None:
        if "anthropic-version" in request.headers:
            return ANTHROPIC
        return GEMINI if "x-goog-api-key" in request.headers else own
    if dialect in (OPENROUTER, DEEPSEEK, LLAMACPP, LMSTUDIO):
        return dialect if dialect is own else None
    return dialect
