"""Every dialect of the built-in provider as a client would write and read it, sharing nothing with the product."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.sim.engine import Engine, ModelConfig, SimAnswer, SimConfig, SimRequest
from tests.sim.asking import header, raw

SYSTEM = "You are brief."
TALK = ("What survives?", "A habit of listening.", "Say more.")
"""What was said so far, the user first."""


@dataclass(slots=True)
class Said:
    """What a lenient client would make of an answer; figures as plain chat counts them."""

    text: str = ""
    reasoning: str = ""
    finish: str | None = None
    id: str = ""
    input: Any = None
    output: Any = None
    cached: Any = None
    cost: Any = None
    error: Any = None
    signs: int = 0
    """Signs of life: comments, pings, blank lines."""
    over: bool = False
    """Whether it said that it was over."""


def _whole(*figures: Any) -> Any:
    """The sum of some figures that are there; None when none is."""
    found = [figure for figure in figures if figure is not None]
    return sum(found) if found and all(isinstance(figure, int) for figure in found) else next(iter(found), None)


@dataclass(frozen=True, slots=True)
class Tongue:
    """One dialect: how to ask in it, and how to read it."""

    name: str
    speaks: str
    path: Callable[[str, bool], str]
    body: Callable[[str, Sequence[str], str | None, int, bool, Mapping[str, Any]], dict[str, Any]]
    read: Callable[[Said, Mapping[str, Any]], None]
    headers: Mapping[str, str] = field(default_factory=dict)
    finishes: Mapping[str, str] = field(default_factory=dict)
    key: str = "authorization"

    def ask(
        self,
        talk: Sequence[str] = TALK,
        *,
        model: str = "m",
        system: str | None = SYSTEM,
        max_tokens: int = 400,
        stream: bool = True,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> SimRequest:
        data = self.body(model, talk, system, max_tokens, stream, fields)
        head = {**self.headers, **(headers or {})}
        return SimRequest("POST", self.path(model, stream), head, json.dumps(data).encode())

    def keyed(self, key: str) -> dict[str, str]:
        return {self.key: f"Bearer {key}" if self.key == "authorization" else key}

    def provider(self, model: ModelConfig | None = None, **settings: Any) -> Engine:
        return Engine(SimConfig(models={"m": model or ModelConfig()}, speaks=self.speaks, **settings))  # type: ignore[arg-type]

    def said(self, answer: SimAnswer) -> Said:
        said = Said()
        for row in self._rows(said, answer):
            self.read(said, row)
        return said

    def finish(self, word: str) -> str:
        return self.finishes.get(word, word)

    def _rows(self, said: Said, answer: SimAnswer) -> Iterator[Mapping[str, Any]]:
        kind, data = header(answer, "content-type"), raw(answer)
        if kind == "application/json":
            yield json.loads(data)
            return
        for line in data.replace(b"\r\n", b"\n").split(b"\n" if kind == "application/x-ndjson" else b"\n\n"):
            if kind == "application/x-ndjson":
                if line:
                    yield json.loads(line)
                continue
            if line.startswith(b":"):
                said.signs += 1
                continue
            for part in line.split(b"\n"):
                if part == b"data: [DONE]":
                    said.over = True
                elif part.startswith(b"data: "):
                    yield json.loads(part[6:])


# --- chat --------------------------------------------------------------------------------------------------------


def _chat_body(
    model: str, talk: Sequence[str], system: str | None, most: int, stream: bool, fields: Mapping[str, Any]
) -> dict[str, Any]:
    rows = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(talk)]
    if system is not None:
        rows.insert(0, {"role": "system", "content": system})
    data: dict[str, Any] = {"model": model, "messages": rows, "max_tokens": most, "stream": stream}
    if stream:
        data["stream_options"] = {"include_usage": True}
    return data | dict(fields)


def _texts(content: Any) -> tuple[str, str]:
    """Text and thinking of a content in one or in parts."""
    if not isinstance(content, list):
        return content or "", ""
    text = "".join(part["text"] for part in content if part["type"] == "text")
    thought = "".join(row["text"] for part in content if part["type"] == "thinking" for row in part["thinking"])
    return text, thought


def _chat_read(said: Said, row: Mapping[str, Any]) -> None:
    said.id = row.get("id", said.id)
    said.error = row.get("error", said.error)
    for choice in row.get("choices", ()):
        said.error = choice.get("error", said.error)
        said.finish = choice["finish_reason"] or said.finish
        delta = choice.get("delta") or choice.get("message") or {}
        text, thought = _texts(delta.get("content"))
        said.text += text
        said.reasoning += thought + (delta.get("reasoning") or delta.get("reasoning_content") or "")
    usage = row.get("usage")
    if usage:
        said.input, said.output = usage["prompt_tokens"], usage["completion_tokens"]
        details = usage.get("prompt_tokens_details", {})
        said.cached = details.get("cached_tokens", usage.get("prompt_cache_hit_tokens"))
        said.cost = usage.get("cost")


def _chat(name: str, **settings: Any) -> Tongue:
    return Tongue(name, name, lambda model, stream: "/v1/chat/completions", _chat_body, _chat_read, **settings)


# --- Anthropic ---------------------------------------------------------------------------------------------------


def _anthropic_body(
    model: str, talk: Sequence[str], system: str | None, most: int, stream: bool, fields: Mapping[str, Any]
) -> dict[str, Any]:
    rows = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(talk)]
    data: dict[str, Any] = {"model": model, "messages": rows, "max_tokens": most, "stream": stream}
    if system is not None:
        data["system"] = system
    return data | dict(fields)


def _anthropic_usage(said: Said, usage: Mapping[str, Any] | None) -> None:
    if not usage:
        return
    if "input_tokens" in usage:
        said.cached = usage["cache_read_input_tokens"]
        said.input = _whole(usage["input_tokens"], usage["cache_creation_input_tokens"], said.cached)
    said.output = usage["output_tokens"]


def _anthropic_read(said: Said, row: Mapping[str, Any]) -> None:
    match row["type"]:
        case "message_start":
            said.id = row["message"]["id"]
            _anthropic_usage(said, row["message"].get("usage"))
        case "message":
            said.id, said.finish = row["id"], row["stop_reason"]
            said.text = "".join(block["text"] for block in row["content"] if block["type"] == "text")
            said.reasoning = "".join(block["thinking"] for block in row["content"] if block["type"] == "thinking")
            _anthropic_usage(said, row.get("usage"))
        case "content_block_delta":
            said.text += row["delta"].get("text", "")
            said.reasoning += row["delta"].get("thinking", "")
        case "message_delta":
            said.finish = row["delta"]["stop_reason"]
            _anthropic_usage(said, row.get("usage"))
        case "message_stop":
            said.over = True
        case "ping":
            said.signs += 1
        case "error":
            said.error = row["error"]


# --- Responses ---------------------------------------------------------------------------------------------------


def _responses_body(
    model: str, talk: Sequence[str], system: str | None, most: int, stream: bool, fields: Mapping[str, Any]
) -> dict[str, Any]:
    rows = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(talk)]
    data: dict[str, Any] = {"model": model, "input": rows, "max_output_tokens": most, "stream": stream}
    data["reasoning"] = {"summary": "auto"}
    if system is not None:
        data["instructions"] = system
    return data | dict(fields)


def _responses_read(said: Said, row: Mapping[str, Any]) -> None:
    kind = row.get("type", "")
    if row.get("object") == "response":
        _response(said, row)
    elif kind in ("response.completed", "response.incomplete", "response.failed"):
        said.over = True
        before = said.text, said.reasoning
        said.text = said.reasoning = ""
        _response(said, row["response"])
        # What came in pieces is what stands in the whole.
        assert kind == "response.failed" or (said.text, said.reasoning) == before
    elif kind == "response.output_text.delta":
        said.text += row["delta"]
    elif kind == "response.reasoning_summary_text.delta":
        said.reasoning += row["delta"]
    elif kind == "response.created":
        said.id = row["response"]["id"]
    elif "error" in row or kind == "error":
        said.error = row.get("error", row)


def _response(said: Said, row: Mapping[str, Any]) -> None:
    said.id = row["id"]
    said.error = row["error"] or said.error
    said.finish = row["status"] if row["status"] != "incomplete" else row["incomplete_details"]["reason"]
    for item in row["output"]:
        said.text += "".join(part.get("text", "") for part in item.get("content", ()))
        said.reasoning += "".join(part["text"] for part in item.get("summary", ()))
    usage = row.get("usage")
    if usage:
        said.input, said.output = usage["input_tokens"], usage["output_tokens"]
        said.cached = usage["input_tokens_details"]["cached_tokens"]


# --- Gemini ------------------------------------------------------------------------------------------------------


def _gemini_body(
    model: str, talk: Sequence[str], system: str | None, most: int, stream: bool, fields: Mapping[str, Any]
) -> dict[str, Any]:
    rows = [{"role": ("user", "model")[n % 2], "parts": [{"text": text}]} for n, text in enumerate(talk)]
    told = {"maxOutputTokens": most, "thinkingConfig": {"includeThoughts": True}, **fields}
    data: dict[str, Any] = {"contents": rows, "generationConfig": told}
    if system is not None:
        data["systemInstruction"] = {"parts": [{"text": system}]}
    return data


def _gemini_read(said: Said, row: Mapping[str, Any]) -> None:
    said.error = row.get("error", row.get("promptFeedback", said.error))
    said.id = row.get("responseId", said.id)
    for candidate in row.get("candidates", ()):
        for part in candidate.get("content", {}).get("parts", ()):
            if part.get("thought"):
                said.reasoning += part["text"]
            else:
                said.text += part["text"]
        said.finish = candidate.get("finishReason", said.finish)
        said.over = said.over or "finishReason" in candidate
    usage = row.get("usageMetadata")
    if usage:
        said.input, said.cached = usage["promptTokenCount"], usage.get("cachedContentTokenCount", 0)
        said.output = _whole(usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount"))


# --- Ollama ------------------------------------------------------------------------------------------------------


def _ollama_body(
    model: str, talk: Sequence[str], system: str | None, most: int, stream: bool, fields: Mapping[str, Any]
) -> dict[str, Any]:
    rows = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(talk)]
    if system is not None:
        rows.insert(0, {"role": "system", "content": system})
    options = {"num_ctx": 8192, "num_predict": most, **fields.get("options", {})}
    rest = {name: value for name, value in fields.items() if name != "options"}
    asked: dict[str, Any] = {"model": model, "messages": rows, "stream": stream, "options": options}
    return asked | {"truncate": False, "shift": False} | rest


def _ollama_read(said: Said, row: Mapping[str, Any]) -> None:
    if "error" in row:
        said.error = row["error"]
        return
    said.text += row["message"]["content"]
    said.reasoning += row["message"].get("thinking", "")
    if row["done"]:
        said.over, said.finish = True, row["done_reason"]
        said.input, said.output = row.get("prompt_eval_count"), row.get("eval_count")


_ANTHROPIC_WORDS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_RESPONSES_WORDS = {"stop": "completed", "length": "max_output_tokens"}
_GEMINI_WORDS = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}

PLAIN = _chat("plain")
OPENROUTER = _chat("openrouter")
MISTRAL = _chat("mistral")
ZAI = _chat("zai")
ANTHROPIC = Tongue(
    "anthropic",
    "plain",
    lambda model, stream: "/v1/messages",
    _anthropic_body,
    _anthropic_read,
    {"anthropic-version": "2023-06-01"},
    _ANTHROPIC_WORDS,
    "x-api-key",
)
RESPONSES = Tongue(
    "responses",
    "plain",
    lambda model, stream: "/v1/responses",
    _responses_body,
    _responses_read,
    finishes=_RESPONSES_WORDS,
)
GEMINI = Tongue(
    "gemini",
    "plain",
    lambda model, stream: f"/v1/models/{model}:" + ("streamGenerateContent?alt=sse" if stream else "generateContent"),
    _gemini_body,
    _gemini_read,
    {},
    _GEMINI_WORDS,
    "x-goog-api-key",
)
OLLAMA = Tongue(
    "ollama",
    "plain",
    lambda model, stream: "/v1/api/chat",
    _ollama_body,
    _ollama_read,
    finishes={"content_filter": "stop"},
)
SERVERS = [_chat(name) for name in ("deepseek", "groq", "xai", "vllm", "llamacpp", "lmstudio")]
TOGETHER = _chat("together", finishes={"stop": "eos"})
FORMATS = [PLAIN, OPENROUTER, ANTHROPIC, RESPONSES, GEMINI, OLLAMA]
"""One of each format."""
TONGUES = [*FORMATS, MISTRAL, ZAI, TOGETHER, *SERVERS]
