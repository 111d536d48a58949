"""The jobs that are measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

OPENING: Final = "What survives of a conversation?"
MAX_TOKENS: Final = 64
MODELS: Final = ("one", "two")
INPUT_NANOS: Final = 1_000
"""What a token costs, in nano-dollars: a dollar a million."""
OUTPUT_NANOS: Final = 2_000
PRICE: Final = {"input": 1, "output": 2}
WIDE: Final = {"rpm": 100_000_000, "tpm": 100_000_000_000}
"""Limits that are counted and never reached."""
RUN: Final = ("bench", "main")
"""Where a run is in the outputs."""


def written(folder: Path, job: Mapping[str, Any]) -> Path:
    """The file of a job, which is JSON: all of it is YAML."""
    path = folder / "bench.yaml"
    path.write_text(json.dumps({"name": RUN[0], "run_key": RUN[1], **job}))
    return path


def journal(outputs: Path) -> Path:
    return outputs.joinpath(*RUN, "journal.jsonl")


def talks(
    folder: Path,
    url: str,
    *,
    conversations: int,
    turns: int,
    at_once: int,
    limits: Mapping[str, Any] = WIDE,
    budget: float = 1_000_000.0,
    max_tokens: int = MAX_TOKENS,
    outcomes: Mapping[str, Any] | None = None,
) -> Path:
    """The job of `bare`: so many conversations of two models that are alike, each of an even number of turns."""
    provider = {
        "type": "openai",
        "base_url": f"{url}/v1",
        "api_key": "none",
        "limits": {"concurrency": at_once, **limits},
    }
    return written(
        folder,
        {
            "budget": budget,
            "defaults": {"max_tokens": max_tokens, **({} if outcomes is None else {"outcomes": outcomes})},
            "providers": {"bench": provider},
            "models": {name: {"use": f"bench/{name}", "price": PRICE} for name in MODELS},
            "prompts": {"talk": {"opening": OPENING, "rounds": turns // 2}},
            "pairings": [{**dict(zip("ab", MODELS, strict=True)), "repeat": conversations}],
        },
    )
