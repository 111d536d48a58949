"""The server of llama.cpp: one model, whose window is parted among its slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from runner.providers.base import Endpoint, Fact, Home, Inquiry, Resident
from runner.providers.chat import Chat, Ways, by_template
from runner.providers.errors import Words
from runner.providers.loose import count, fields, rows


class LlamaCpp(Chat):
    """What no data can say: where it tells how large a slot is."""

    def inquiries(self, endpoint: Endpoint, models: Sequence[str]) -> Sequence[Inquiry]:
        properties = self.asking(endpoint, "/props", beside="/v1")
        return [*super().inquiries(endpoint, models), Inquiry("resident", properties, tuple(models))]

    def learned(self, inquiry: Inquiry, body: bytes) -> Sequence[Fact]:
        if inquiry.about != "resident":
            return super().learned(inquiry, body)
        # Whatever the name that a call gives: the one model that it was started with answers.
        return [
            Resident(model, None, window)
            for row in rows(body)
            if (window := _window(row)) is not None
            for model in inquiry.models
        ]


def _window(properties: Mapping[str, Any]) -> int | None:
    settings = fields(properties, "default_generation_settings")
    return count(settings.get("n_ctx")) or count(properties.get("n_ctx")) or None


LLAMACPP: Final = LlamaCpp(
    "llamacpp",
    Home("http://127.0.0.1:8080/v1", free=True),
    Ways(think=by_template, thought="reasoning_content", words=Words(full=frozenset({503}))),
)
