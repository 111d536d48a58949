"""The provider's own account of what it was asked and what it charges."""

from __future__ import annotations

from typing import Any, NamedTuple

from runner.money import Nanos, dollars


class Charge(NamedTuple):
    """What one request is billed."""

    model: str
    input: int = 0
    output: int = 0
    reasoning: int = 0
    cached: int = 0
    cost: Nanos = 0
    written: int = 0
    """The input tokens that were put into a cache."""


class Account(NamedTuple):
    """What a model is billed in all."""

    requests: int
    input: int
    output: int
    reasoning: int
    cached: int
    cost: Nanos
    written: int


class Bill:
    """The provider's own account: one charge for each request that was let in, and how many were refused and why."""

    def __init__(self) -> None:
        self.charges: dict[int, Charge] = {}
        self.refused: dict[str, int] = {}
        self.cost: Nanos = 0

    @property
    def accepted(self) -> int:
        return len(self.charges)

    @property
    def models(self) -> dict[str, Account]:
        accounts: dict[str, Account] = {}
        for model, *figures in self.charges.values():
            before = accounts.get(model, Account(0, 0, 0, 0, 0, 0, 0))
            accounts[model] = Account(*(a + b for a, b in zip(before, (1, *figures), strict=True)))
        return accounts

    def charge(self, request: int, charge: Charge) -> None:
        """Bill a request, in the place of what it was billed before."""
        before = self.charges.get(request)
        self.cost += charge.cost - (0 if before is None else before.cost)
        self.charges[request] = charge

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def record(self) -> dict[str, Any]:
        """The bill as plain data; money in nano-dollars and, beside it, in dollars as text."""
        return {
            "accepted": self.accepted,
            "refused": self.refused,
            "cost": self.cost,
            "dollars": dollars(self.cost),
            "models": {name: account._asdict() for name, account in self.models.items()},
            "charges": {str(request): charge._asdict() for request, charge in self.charges.items()},
        }
