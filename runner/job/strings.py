"""What holds for every string of a job file: no key in a setting, and variables in their places only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from runner.job.leaks import literal_tokens, looks_like_key, promises_key
from runner.job.problem import Problem
from runner.job.section import Where
from runner.job.source import Path as Steps
from runner.job.source import Source

_TEXT_KEYS: Final = frozenset({"system", "context", "opening", "script", "instruct", "vars"})
_ASKED_KEYS: Final = frozenset({"prompt", "system", "schema", "phrase"})
"""Keys of what stands in a `moderator`, `stop` or `after`."""


def misplaced_strings(where: Where, prefix: Steps = ()) -> Iterator[Problem]:
    """Every key and every variable where it may not stand; `prefix` is the path of a file's tree in the job."""
    for path, text in where.source.strings():
        whole = (*prefix, *path)
        in_provider = whole[2] if whole[:1] == ("providers",) and len(whole) > 2 else None
        if _is_text(whole) or in_provider == "sim":
            continue
        if looks_like_key(text):
            yield where.at(*path).problem(
                "this looks like an API key",
                "take it out of the file, put it into the environment or a .env file, and write ${ITS_NAME}",
            )
        elif "${" in text and in_provider not in ("api_key", "headers", "base_url") and whole != ("notify", "webhook"):
            message = "variables of the environment stand in api_key, base_url, headers and webhook only"
            yield where.at(*path).problem(message)
    for path in where.source.keys:
        if isinstance(path[-1], str) and looks_like_key(path[-1]) and not _is_text((*prefix, *path)):
            yield where.at(*path).problem("this looks like an API key", "take it out of the file", key=True)


def secrets(source: Source) -> list[str]:
    """The literals that stand where a key is expected, longest first."""
    found = {
        token
        for path, text in source.strings()
        if not _is_text(path) and any(isinstance(step, str) and promises_key(step) for step in path)
        for token in literal_tokens(text)
    }
    return sorted(found, key=len, reverse=True)


def _is_text(path: Steps) -> bool:
    """True when the path leads into a text that is sent to models, in which anything may stand."""
    if path[:1] == ("vars",) or (path[:1] == ("pairings",) and path[2:3] == ("vars",)):
        return path[-1] != "file"
    if path[:1] != ("prompts",) or path[-1] == "file":
        return False
    if len(path) > 3 and path[2] in ("moderator", "stop", "after"):
        return not _ASKED_KEYS.isdisjoint(path[3:])
    if len(path) > 3 and path[2] == "render":
        return path[3] != "style"
    return (len(path) > 2 and path[2] in _TEXT_KEYS) or (len(path) > 4 and path[4] in _TEXT_KEYS)
