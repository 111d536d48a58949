"""Gemini generateContent: the model's name in the path, thinking beside the output, and no header about limits."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import orjson

from runner.sim.config import ModelConfig
from runner.sim.dialect import (
    Answer,
    Asked,
    Bad,
    Dialect,
    Error,
    Headers,
    Piece,
    SimRequest,
    Trouble,
    Why,
    Written,
    asked,
    effort,
    flag,
    in_range,
    integer,
    json_bytes,
    json_object,
    parts,
    stop_texts,
    table,
    whole_number,
)
from runner.sim.meter import Room, duration

_FIELDS: Final = frozenset(
    ("contents", "systemInstruction", "generationConfig", "safetySettings", "serviceTier", "cachedContent", "labels")
)
_GENERATION: Final = frozenset(
    (
        *("maxOutputTokens", "temperature", "topP", "topK", "seed", "stopSequences", "thinkingConfig"),
        *("presencePenalty", "frequencyPenalty", "candidateCount", "responseMimeType", "responseSchema"),
    )
)
_MOST_STOPS: Final = 5
_FINISHES: Final = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_STATUSES: Final[Mapping[Why, tuple[int, str]]] = MappingProxyType(
    {
        "invalid": (400, "INVALID_ARGUMENT"),
        "url": (404, "NOT_FOUND"),
        "method": (405, "UNIMPLEMENTED"),
        "no_record": (404, "NOT_FOUND"),
        "unauthorized": (400, "INVALID_ARGUMENT"),
        "no_money": (429, "RESOURCE_EXHAUSTED"),
        "afford": (429, "RESOURCE_EXHAUSTED"),
        "forbidden": (403, "PERMISSION_DENIED"),
        "not_found": (404, "NOT_FOUND"),
        "context_length": (400, "INVALID_ARGUMENT"),
        "parameter": (400, "INVALID_ARGUMENT"),
        "busy": (429, "RESOURCE_EXHAUSTED"),
        "quota": (429, "RESOURCE_EXHAUSTED"),
        "day": (429, "RESOURCE_EXHAUSTED"),
        "spend": (429, "RESOURCE_EXHAUSTED"),
        "too_large": (413, "INVALID_ARGUMENT"),
        "unprocessable": (400, "INVALID_ARGUMENT"),
        "loading": (503, "UNAVAILABLE"),
        "server": (0, "INTERNAL"),
        "redirect": (307, "UNKNOWN"),
    }
)
_OF_STATUS: Final = {
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    499: "CANCELLED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}
_MINUTE: Final = "GenerateRequestsPerMinutePerProjectPerModel"
_QUOTAS: Final = {
    "rpm": _MINUTE,
    "rpd": "GenerateRequestsPerDayPerProjectPerModel",
    "tpm": "GenerateContentInputTokensPerModelPerMinute",
    "input_tpm": "GenerateContentInputTokensPerModelPerMinute",
    "output_tpm": "GenerateContentOutputTokensPerModelPerMinute",
    "tpd": "GenerateContentInputTokensPerModelPerDay",
}
_EXHAUSTED: Final = "You exceeded your current quota, please check your plan and billing details."


class Gemini(Dialect):
    prefix = ""
    torn = b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":\n\n'

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-goog-api-key", "")

    # --- requests ------------------------------------------------------------------------------------------------

    def read(self, request: SimRequest) -> Asked:
        query = request.query
        if "key" in query:
            raise Bad("A key in the address ends in every log: send it as x-goog-api-key.")
        model, _, method = request.route.partition("/models/")[2].rpartition(":")
        stream = method == "streamGenerateContent"
        if stream and query.get("alt") != "sse":
            raise Bad("This server streams events alone: add alt=sse.")
        data = json_object(request.body)
        _known(data, _FIELDS, "")
        told = table(data, "generationConfig")
        _known(told, _GENERATION, "generation_config.")
        max_tokens = whole_number(told.get("maxOutputTokens"), "maxOutputTokens", 1)
        in_range(told, "temperature", 0, 2)
        in_range(told, "topP", 0, 1)
        integer(told, "topK")
        integer(told, "seed")
        if told.get("candidateCount", 1) != 1:
            raise Bad("Only one candidate can be given.", "candidateCount")
        system = []
        if "systemInstruction" in data:
            system = [("system", _text(table(data, "systemInstruction"), "systemInstruction"))]
        most, shown = _thinking(table(told, "thinkingConfig"), max_tokens)
        return asked(
            model,
            [*system, *_contents(data.get("contents"))],
            max_tokens,
            stream,
            frozenset((*data, *told)),
            stops=stop_texts(told, "stopSequences", _MOST_STOPS),
            most_thinking=most,
            shows_thinking=shown,
        )

    # --- answers -------------------------------------------------------------------------------------------------

    def plain(self, answer: Answer) -> bytes:
        if answer.failed is not None:
            return self.error_within(answer, answer.failed, False)
        said: list[dict[str, Any]] = []
        if answer.reasoning and answer.shows_thinking:
            said.append({"text": answer.reasoning, "thought": True})
        if answer.text:
            said.append({"text": answer.text})
        return json_bytes(_chunk(answer, said, True))

    def stream(self, answer: Answer, include_usage: bool) -> Written:
        pieces = [
            Piece(
                at,
                _event(_chunk(answer, [{"text": text} | ({"thought": True} if channel == "thought" else {})], False)),
            )
            for at, channel, text in parts(answer)
            if channel != "refusal"
        ]
        if answer.failed is not None:
            return Written((), tuple(pieces), self.error_within(answer, answer.failed, True), answer.seconds)
        return Written((), tuple(pieces), _event(_chunk(answer, [], True)), answer.seconds)

    # --- errors --------------------------------------------------------------------------------------------------

    def error(self, trouble: Trouble, about: Asked | None) -> Error:
        if trouble.why == "moderated":
            return _blocked(about)
        status, word = _STATUSES[trouble.why]
        status = status or trouble.status
        message = trouble.message
        details: list[dict[str, Any]] = []
        if trouble.why == "server":
            word = _OF_STATUS.get(status, word)
        elif trouble.why == "unauthorized":
            details.append(_info("API_KEY_INVALID"))
            message = "API key not valid. Please pass a valid API key."
        elif trouble.why == "not_found" and about is not None:
            message = f"models/{about.model} is not found for API version v1beta, or is not supported."
        elif trouble.why == "context_length" and about is not None:
            fits = about.input_tokens <= trouble.most
            more = f" and the {about.max_tokens} of the output exceed" if fits else " exceeds"
            message = (
                f"The input token count ({about.input_tokens}){more} the maximum number of tokens allowed "
                f"({trouble.most})."
            )
        elif trouble.why == "parameter":
            message = f"Invalid JSON payload received. Unknown name \"{trouble.param}\" at 'generation_config'."
        elif status == 429:
            message, details = _exhausted(trouble, about)
        error = {"code": status, "message": message, "status": word}
        return Error(
            status, orjson.dumps({"error": error | ({"details": details} if details else {})}), trouble.headers
        )

    def error_within(self, answer: Answer, trouble: Trouble, stream: bool) -> bytes:
        word = _OF_STATUS.get(trouble.status, "INTERNAL")
        error = {"error": {"code": trouble.status, "message": trouble.message, "status": word}}
        return _event(error) if stream else orjson.dumps(error)

    def headers(self, number: int, answer: Answer | None, rooms: tuple[Room, ...], wall: float) -> Headers:
        return ()

    # --- look-ups ------------------------------------------------------------------------------------------------

    def models(self, rows: Mapping[str, ModelConfig], created: int) -> bytes | None:
        return orjson.dumps({"models": [_row(name, config) for name, config in rows.items()]})

    def model(self, name: str, config: ModelConfig, created: int) -> bytes | None:
        return orjson.dumps(_row(name, config))


def _known(data: Mapping[str, Any], names: frozenset[str], at: str) -> None:
    for name in data:
        if name not in names:
            raise Bad(f"Invalid JSON payload received. Unknown name \"{name}\" at '{at}': Cannot find field.", name)


def _thinking(told: Mapping[str, Any], max_tokens: int) -> tuple[int | None, bool]:
    _known(told, frozenset(("includeThoughts", "thinkingBudget", "thinkingLevel")), "generation_config.thinking_config")
    most: int | None = None
    if "thinkingBudget" in told and "thinkingLevel" in told:
        raise Bad("You can only set one of thinking budget and thinking level.", "thinkingConfig")
    if "thinkingBudget" in told:
        budget = whole_number(told["thinkingBudget"], "thinkingBudget", -1)
        most = None if budget < 0 else budget
    if "thinkingLevel" in told:
        level = told["thinkingLevel"]
        word = level.lower() if isinstance(level, str) else level
        most = effort(word, "thinkingLevel", max_tokens, ("minimal", "low", "medium", "high", "xhigh"))
    return most, flag(told, "includeThoughts", False)


def _contents(rows: object) -> list[tuple[str, str]]:
    if not isinstance(rows, list) or not rows:
        raise Bad("* GenerateContentRequest.contents: contents is not specified", "contents")
    texts: list[tuple[str, str]] = []
    for number, row in enumerate(rows):
        where = f"contents[{number}]"
        if not isinstance(row, dict):
            raise Bad(f"Invalid value at '{where}'", where)
        role = row.get("role", "user")
        if role not in ("user", "model"):
            raise Bad("Please use a valid role: user, model.", f"{where}.role")
        if role != ("user", "model")[number % 2]:
            raise Bad("Please ensure that the turns alternate, and that the first is the user's.", f"{where}.role")
        texts.append(("assistant" if role == "model" else "user", _text(row, where)))
    if texts[-1][0] != "user":
        raise Bad("Please ensure that the last turn is the user's.", "contents")
    return texts


def _text(row: Mapping[str, Any], where: str) -> str:
    found = row.get("parts")
    if not isinstance(found, list) or not found:
        raise Bad(f"{where}.parts must not be empty.", f"{where}.parts")
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in found):
        raise Bad(f"{where}.parts: only text is supported.", f"{where}.parts")
    text = "".join(part["text"] for part in found)
    if not text.strip():
        raise Bad(f"{where}.parts: text must not be empty.", f"{where}.parts")
    return text


def _chunk(answer: Answer, said: list[dict[str, Any]], last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0}
    if said:
        candidate["content"] = {"role": "model", "parts": said}
    if last:
        candidate["finishReason"] = (
            "PROHIBITED_CONTENT" if answer.refusal is not None else _FINISHES.get(answer.finish, answer.finish)
        )
    body: dict[str, Any] = {} if last and answer.blank else {"candidates": [candidate]}
    if last and not answer.silent:
        body["usageMetadata"] = answer.usage(_usage(answer))
    return body | {"modelVersion": answer.model, "responseId": answer.id}


def _usage(answer: Answer) -> dict[str, Any]:
    told = answer.told
    found = {
        "promptTokenCount": told.input,
        "candidatesTokenCount": told.output - told.reasoning,
        "totalTokenCount": told.input + told.output,
    }
    found |= {"cachedContentTokenCount": told.cached} if told.cached else {}
    return found | ({"thoughtsTokenCount": told.reasoning} if told.reasoning else {})


def _blocked(about: Asked | None) -> Error:
    """A prompt that is not let through: an answer of status 200 without a candidate."""
    tokens = 0 if about is None else about.input_tokens
    body = {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": tokens, "totalTokenCount": tokens},
    }
    if about is not None and about.stream:
        return Error(200, _event(body), content_type="text/event-stream")
    return Error(200, orjson.dumps(body))


def _exhausted(trouble: Trouble, about: Asked | None) -> tuple[str, list[dict[str, Any]]]:
    """What a 429 says of a quota: which one in a detail, and when to come again in another and in the message."""
    message, details = _EXHAUSTED, []
    if trouble.why in ("no_money", "afford", "quota", "spend"):
        # An account without a means to pay has quotas of nothing.
        quota, value = "GenerateRequestsPerDayPerProjectPerModel-FreeTier", 0
    else:
        day = trouble.why == "day"
        quota = _QUOTAS.get(trouble.limit or ("rpd" if day else "rpm"), _MINUTE)
        value = next((room.most for room in trouble.rooms if room.limit == trouble.limit), 250 if day else 10)
    model = "" if about is None else about.model
    violation = {
        "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
        "quotaId": quota,
        "quotaDimensions": {"model": model, "location": "global"},
        "quotaValue": str(value),
    }
    message += f"\n* Quota exceeded for metric: {violation['quotaMetric']}, limit: {value}, model: {model}"
    details.append({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]})
    hint = trouble.hint
    if hint is not None and value:
        seconds = hint.seconds
        message += f"\nPlease retry in {hint.word if seconds is None else duration(max(0.0, seconds))}."
        if hint.form != "date":
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{hint.word}s"})
    return message, details


def _info(reason: str) -> dict[str, Any]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }


def _event(body: Mapping[str, Any]) -> bytes:
    return b"data: " + json_bytes(body) + b"\r\n\r\n"


def _row(name: str, config: ModelConfig) -> dict[str, Any]:
    return {
        "name": f"models/{name}",
        "displayName": name,
        "inputTokenLimit": config.context,
        "outputTokenLimit": config.max_output,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }


GEMINI: Final = Gemini()
