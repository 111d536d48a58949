"""Chats to fine-tune with, as OpenAI and many others take them: one object with its `messages` on each line.

Each conversation is as its last live side saw it: own lines are the assistant's, those of all others the user's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import orjson

from runner.exports.shape import Head, Talks

whole: Final = True
needs: Final[str | None] = None
note: Final[str | None] = None


def name(head: Head) -> str:
    return "openai.jsonl"


def pieces(head: Head, talks: Talks) -> Iterator[bytes]:
    for talk in talks():
        # Nothing beside the messages: some of those who read this refuse what they do not know.
        yield orjson.dumps({"messages": talk["messages"]}) + b"\n"
