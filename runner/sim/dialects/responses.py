"""OpenAI Responses: items in, items out, and a status in the place of a finish reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from runner.sim.bill import Charge
from runner.sim.dialect import (
    Answer,
    Asked,
    Bad,
    Piece,
    Record,
    SimRequest,
    Trouble,
    Written,
    asked,
    comments,
    effort,
    event,
    flag,
    in_range,
    json_bytes,
    json_object,
    only,
    parts,
    table,
    whole_number,
)
from runner.sim.dialects.chat import Chat, Ways, Word, content

_FIELDS: Final = frozenset(
    (
        *("model", "input", "instructions", "max_output_tokens", "reasoning", "store", "metadata", "temperature"),
        *("top_p", "stream", "stream_options", "service_tier", "truncation", "text", "include", "prompt_cache_key"),
        *("safety_identifier", "prompt_cache_retention", "user", "background"),
    )
)
_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
_INVALID: Final = "invalid_request_error"


class Responses(Chat):
    """The errors and the limits are those of chat; the rest is not."""

    prefix = "resp_"
    comment = b": keep-alive\n\n"
    end = b""
    torn = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":\n\n'

    def read(self, request: SimRequest) -> Asked:
        data = json_object(request.body)
        only(data, _FIELDS)
        model = data.get("model")
        if not isinstance(model, str) or not model:
            raise Bad("Missing required parameter: 'model'.", "model", "missing_required_parameter")
        if flag(data, "background", False):
            raise Bad("Invalid 'background': this server answers at once.", "background")
        texts: list[tuple[str, str]] = []
        if data.get("instructions") is not None:
            texts.append(("system", content(data["instructions"], "instructions")))
        texts += _items(data.get("input"))
        in_range(data, "temperature", 0, 2)
        in_range(data, "top_p", 0, 1)
        max_tokens = whole_number(data.get("max_output_tokens"), "max_output_tokens", 1)
        reasoning = table(data, "reasoning", frozenset(("effort", "summary")), "")
        most = None
        if reasoning.get("effort") is not None:
            most = effort(reasoning["effort"], "reasoning.effort", max_tokens)
        table(data, "stream_options", frozenset(("include_obfuscation",)))
        return asked(
            model,
            texts,
            max_tokens,
            flag(data, "stream", False),
            frozenset(data),
            most_thinking=most,
            shows_thinking=reasoning.get("summary") is not None,
            stored=flag(data, "store", True),
        )

    # --- answers -------------------------------------------------------------------------------------------------

    def plain(self, answer: Answer) -> bytes:
        return json_bytes(_response(answer, _status(answer), _output(answer)))

    def stream(self, answer: Answer, include_usage: bool) -> Written:
        number = -1

        def numbered(name: str, **data: Any) -> bytes:
            nonlocal number
            number += 1
            return event(name, {"sequence_number": number, **data})

        created = _response(answer, "in_progress", [])
        opening = numbered("response.created", response=created) + numbered("response.in_progress", response=created)
        waited = comments(answer.pace, self.comment, opening)
        opening = b"" if waited else opening
        items = _output(answer)
        pieces: list[Piece] = []
        index, open_ = -1, ""
        hidden = [n for n, item in enumerate(items) if item["type"] == "reasoning" and not item["summary"]]
        for n in hidden:
            index = n
            opening += numbered("response.output_item.added", output_index=n, item={**items[n]})
            opening += numbered("response.output_item.done", output_index=n, item=items[n])
        for at, channel, text in parts(answer):
            kind = {"thought": "reasoning_summary_text", "text": "output_text", "refusal": "refusal"}[channel]
            if kind != open_:
                if open_:
                    opening += numbered("response.output_item.done", output_index=index, item=items[index])
                index, open_ = index + 1, kind
                item = {**items[index], "status": "in_progress"}
                item |= {"summary": []} if channel == "thought" else {"content": []}
                opening += numbered("response.output_item.added", output_index=index, item=item)
            where: dict[str, Any] = {"item_id": items[index]["id"], "output_index": index}
            where["summary_index" if channel == "thought" else "content_index"] = 0
            pieces.append(Piece(at, opening + numbered(f"response.{kind}.delta", **where, delta=text)))
            opening = b""
        tail = opening
        if open_:
            tail += numbered("response.output_item.done", output_index=index, item=items[index])
        status = _status(answer)
        tail += numbered(f"response.{status}", response=_response(answer, status, items))
        return Written(waited, tuple(pieces), tail, answer.seconds)

    def last(self, tail: bytes) -> bytes:
        return tail[tail.rindex(b"event: ") :]

    # --- errors --------------------------------------------------------------------------------------------------

    def error_within(self, answer: Answer, trouble: Trouble, stream: bool) -> bytes:
        code = "rate_limit_exceeded" if trouble.status == 429 else "server_error"
        error = {"code": code, "message": trouble.message}
        if stream:
            return event("error", {"sequence_number": 0, **error, "param": None})
        return orjson.dumps(_response(answer, "failed", []) | {"error": error, "usage": None})

    def object(self, trouble: Trouble) -> dict[str, Any]:
        found = super().object(trouble)
        return found | {"param": "input"} if trouble.why == "context_length" else found

    # --- look-ups ------------------------------------------------------------------------------------------------

    def record(self, kept: Record) -> bytes | None:
        status = "cancelled" if kept.left else "incomplete" if kept.finish in _INCOMPLETE else "completed"
        text = [{"type": "output_text", "text": kept.text, "annotations": []}] if kept.text else []
        return json_bytes(
            {
                "id": kept.id,
                "object": "response",
                "created_at": int(kept.created),
                "status": status,
                "model": kept.model,
                "error": None,
                "output": [{"id": "msg_0", "type": "message", "role": "assistant", "content": text}],
                "usage": _usage(kept.charge),
            }
        )


def _items(found: object) -> list[tuple[str, str]]:
    if isinstance(found, str):
        return [("user", content(found, "input"))]
    if not isinstance(found, list) or not found:
        raise Bad("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    texts: list[tuple[str, str]] = []
    before = ""
    for number, item in enumerate(found):
        where = f"input[{number}]"
        if not isinstance(item, dict) or item.get("type", "message") != "message":
            raise Bad(f"Invalid '{where}': expected a message.", where)
        role = item.get("role")
        if role not in ("system", "developer", "user", "assistant"):
            raise Bad(f"Invalid '{where}.role': {role!r} is not a role.", f"{where}.role")
        if role == before or (role in ("system", "developer") and number) or (not before and role == "assistant"):
            raise Bad("Roles must alternate user/assistant, after one system message at most.", f"{where}.role")
        before = role
        type_ = "output_text" if role == "assistant" else "input_text"
        texts.append((role, content(item.get("content"), f"{where}.content", type_)))
    if before != "user":
        raise Bad("The last item must be from the user.", "input")
    return texts


def _status(answer: Answer) -> str:
    if answer.failed is not None:
        return "failed"
    return "completed" if answer.finish == "stop" else "incomplete"


def _output(answer: Answer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.reasoning:
        shown = [{"type": "summary_text", "text": answer.reasoning}] if answer.shows_thinking else []
        items.append({"id": f"rs_{answer.id[5:]}", "type": "reasoning", "summary": shown})
    said: list[dict[str, Any]] = []
    if answer.text:
        said.append({"type": "output_text", "text": answer.text, "annotations": []})
    if answer.refusal:
        said.append({"type": "refusal", "refusal": answer.refusal})
    if said:
        item = {"id": f"msg_{answer.id[5:]}", "type": "message", "role": "assistant", "status": "completed"}
        items.append({**item, "content": said})
    return items


def _response(answer: Answer, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    reason = _INCOMPLETE.get(answer.finish, answer.finish)
    body: dict[str, Any] = {
        "id": answer.id,
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "model": answer.model,
        "error": None,
        "incomplete_details": {"reason": reason} if status == "incomplete" else None,
        "output": output,
    }
    if answer.failed is not None and status == "failed":
        body["error"] = {"code": "server_error", "message": answer.failed.message}
    if status == "in_progress":
        return body | {"usage": None}
    return body if answer.silent else body | {"usage": answer.usage(_usage(answer.told))}


def _usage(charge: Charge) -> Mapping[str, Any]:
    return {
        "input_tokens": charge.input,
        "input_tokens_details": {"cached_tokens": charge.cached, "cache_write_tokens": charge.written},
        "output_tokens": charge.output,
        "output_tokens_details": {"reasoning_tokens": charge.reasoning},
        "total_tokens": charge.input + charge.output,
    }


RESPONSES: Final = Responses(Ways(words={"moderated": Word(400, _INVALID, "invalid_prompt")}))
