"""LM Studio; a model's window is what it was loaded with, and the native list alone tells it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from runner.providers.base import Endpoint, Fact, Home, Inquiry, Resident
from runner.providers.chat import Chat, Ways
from runner.providers.errors import Words
from runner.providers.loose import count, fields, rows, text


class LmStudio(Chat):
    """What no data can say: where it tells which models are loaded."""

    def inquiries(self, endpoint: Endpoint, models: Sequence[str]) -> Sequence[Inquiry]:
        native = self.asking(endpoint, "/api/v1/models", beside="/v1")
        return [*super().inquiries(endpoint, models), Inquiry("resident", native, tuple(models))]

    def learned(self, inquiry: Inquiry, body: bytes) -> Sequence[Fact]:
        if inquiry.about != "resident":
            return super().learned(inquiry, body)
        return [fact for row in rows(body) for fact in _loaded(row)]


def _loaded(row: Mapping[str, Any]) -> Iterator[Resident]:
    name, instances = text(row.get("key")) or text(row.get("id")), row.get("loaded_instances")
    if name is not None and isinstance(instances, list):
        for instance in instances:
            yield Resident(name, None, count(fields(instance, "config").get("context_length")) or None)


LMSTUDIO: Final = LmStudio(
    "lmstudio",
    Home("http://127.0.0.1:1234/v1", free=True),
    Ways(thought="reasoning_content", words=Words(full=frozenset({503}))),
)
