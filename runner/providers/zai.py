"""Z.ai: chat completions whose errors are codes of four digits, nearly all of them under the status 429."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from re import compile as pattern
from typing import Any, Final

from runner.providers.base import Home
from runner.providers.chat import Chat, Ways, by_switch
from runner.providers.errors import Told, Words
from runner.providers.loose import their_clock, until

_MOMENT: Final = pattern(r"\b(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)")
_ZONES: Final = (timezone(timedelta(hours=8)), UTC)
"""It names a moment without its zone: that of its own country, or where this moment has passed, the common one."""


class Zai(Chat):
    """What no data can say: the moment at which a quota is lifted, in the middle of a sentence."""

    def told(self, status: int, error: Any, headers: Mapping[str, str], wall: float) -> Told:
        found = super().told(status, error, headers, wall)
        if found.wait is not None or not found.words & self.words.of_the_day:
            return found
        return replace(found, wait=_wait(found.message, their_clock(headers, wall)))


def _wait(message: str, wall: float) -> float | None:
    named = _MOMENT.search(message)
    if named is None:
        return None
    try:
        moment = datetime.fromisoformat(f"{named[1]}T{named[2]}")
    except ValueError:
        return None
    waits = (until(moment.replace(tzinfo=zone).isoformat(), wall) for zone in _ZONES)
    return next((wait for wait in waits if wait), None)


ZAI: Final = Zai(
    "zai",
    Home("https://api.z.ai/api/paas/v4", "${ZAI_API_KEY}", per="model", prices="zai"),
    Ways(
        think=by_switch,
        thought="reasoning_content",
        words=Words(
            no_money=frozenset({"1112", "1113", "1121"}),
            of_the_day=frozenset({"1304", "1308", "1310", *map(str, range(1316, 1322))}),
            busy=frozenset({"1302", "1303", "1305", "1312"}),
            no_model=frozenset({"1211"}),
            too_long=frozenset({"1261"}),
            policy=frozenset({"1301"}),
        ),
    ),
)
