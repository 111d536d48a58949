"""How a conversation can stand. By itself, because `tertulia --help` must not wait for what a conversation is."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Status: TypeAlias = Literal["complete", "failed", "budget", "deadline", "interrupted", "pending"]
STATUSES: Final[tuple[Status, ...]] = ("complete", "failed", "budget", "deadline", "interrupted", "pending")
