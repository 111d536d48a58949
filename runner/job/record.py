"""A job as plain JSON and back, for the journal: without keys, and with each long text once, under its hash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

if TYPE_CHECKING:
    from runner.job.job import Job

_INLINE: Final = 200
"""Characters up to which a text stays where it is; a hash would be hardly shorter."""
_TEXT: Final = "$text"


def record(job: Job) -> tuple[dict[str, Any], dict[str, str]]:
    """Plain data that JSON keeps exactly, and the texts that it names by their hash."""
    texts: dict[str, str] = {}

    def shortened(value: str) -> Any:
        if len(value) <= _INLINE:
            return value
        digest = sha256(value.encode()).hexdigest()
        texts[digest] = value
        return {_TEXT: digest}

    data: dict[str, Any] = _each(_adapter().dump_python(job, mode="json"), shortened)
    return data, texts


def restored(data: Mapping[str, Any], texts: Mapping[str, str]) -> Job:
    """The job again; KeyError when a text is missing."""

    def whole(value: Any) -> Any:
        if isinstance(value, Mapping):
            if len(value) == 1 and isinstance(value.get(_TEXT), str):
                return texts[value[_TEXT]]
            return {key: whole(inner) for key, inner in value.items()}
        return [whole(inner) for inner in value] if isinstance(value, list) else value

    return _adapter().validate_python(whole(data))


def _each(value: Any, change: Callable[[str], Any]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(inner, change) for key, inner in value.items()}
    return [_each(inner, change) for inner in value] if isinstance(value, list) else value


@cache
def _adapter() -> TypeAdapter[Job]:
    from runner.job.job import Job

    return TypeAdapter(Job)
