"""Chats to fine-tune with, in the shape that ShareGPT made common: one object a line, its lines `from` and `value`.

As in the other shape for learning, a conversation is as its last live side saw it, which speaks as `gpt`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from runner.exports.shape import Head, Talks

whole: Final = True
needs: Final[str | None] = None
note: Final[str | None] = None

_FROM: Final = {"system": "system", "user": "human", "assistant": "gpt"}


def name(head: Head) -> str:
    return "sharegpt.jsonl"


def pieces(head: Head, talks: Talks) -> Iterator[bytes]:
    for talk in talks():
        lines = [{"from": _FROM[message["role"]], "value": message["content"]} for message in talk["messages"]]
        yield orjson.dumps({"id": talk["id"], "conversations": lines}) + b"\n"
