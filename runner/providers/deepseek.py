"""DeepSeek: chat completions with a switch for thinking, which is on by default.

Under load it keeps the line open with blank lines or comments for up to ten minutes before it begins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from runner.money import MoneyError, parse_billed
from runner.providers.base import Funds, Home
from runner.providers.chat import Chat, Ways, by_switch_and_effort
from runner.providers.loose import text


class DeepSeek(Chat):
    """What no data can say: how it tells what the account has left."""

    def funds(self, answer: Mapping[str, Any]) -> Funds | None:
        listed = answer.get("balance_infos")
        balances = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
        totals = {text(one.get("currency")): text(one.get("total_balance")) for one in balances}
        told = {currency: f"{total} {currency}" for currency, total in totals.items() if total and currency}
        if not told:
            return None
        try:
            left = parse_billed(totals["USD"] or "") if "USD" in told else None
        except MoneyError:
            left = None
        if left is not None:
            del told["USD"]
        words = ", ".join(told.values())
        return Funds(left, f"and {words}" if words and left is not None else words)


DEEPSEEK: Final = DeepSeek(
    "deepseek",
    Home("https://api.deepseek.com", "${DEEPSEEK_API_KEY}", prices="deepseek"),
    Ways(think=by_switch_and_effort, efforts=("low", "high", "max"), account="/user/balance"),
)
