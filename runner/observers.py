"""What those who listen have said, as far as it can be used: votes, titles, scores.

A model that is asked for JSON may wrap it in a fence or in words; what is meant is found, and what is not there is
said, so that the answer can be asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

import orjson

from runner.conversation import Aside

_FENCE: Final = re.compile(r"[ \t]*```[\w-]*[ \t]*")
_WORD: Final = r"(?:(yes|true|stop|end)|no|false|continue|go\s+on)"
_APART: Final = r"(?=[ \t]*(?:\Z|[\r\n]|_|(?![-'’]\w)[^\w\s?]))"
"""Behind a word that stands by itself, neither the first of several nor in a question."""
_FIRST: Final = re.compile(rf"(?:[^\w{{]|_)*{_WORD}{_APART}", re.IGNORECASE)
_LATER: Final = re.compile(rf"(?:[.,;:!?()\n–—]|\b(?:and|but|or)\b)[\W_]{{0,8}}{_WORD}{_APART}", re.IGNORECASE)
_LONGEST_TITLE: Final = 200


class Understood(NamedTuple):
    """What an answer means; `problem` says why it means nothing."""

    data: Any = None
    problem: str | None = None


def understood(aside: Aside, text: str, lines: int) -> Understood:
    """What an answer comes to, when it was asked for after so many lines."""
    if aside.kind == "vote":
        vote = _vote(text)
        return Understood(vote, None if vote is not None else "neither yes nor no")
    try:
        if aside.kind == "titles":
            return _titles(text, lines)
        if aside.kind == "scores":
            return _scores(text, aside.schema or {})
    except Exception as error:
        # What an answer makes of a schema, and a schema of the package that knows them, is beyond any list of errors;
        # it was paid for, and must not take the night with it.
        return Understood(problem=f"cannot be checked: {type(error).__name__}: {str(error)[:200]}")
    return Understood()


def _vote(text: str) -> bool | None:
    """For the end, against it, or None where that is not clear."""
    first = _FIRST.match(text)
    if first is not None:
        said = {bool(word[1]) for word in (first, *_LATER.finditer(text))}
        return said.pop() if len(said) == 1 else None
    found = _json(text).data
    words = [value for value in found.values() if isinstance(value, bool)] if isinstance(found, dict) else []
    return words[0] if len(words) == 1 else None


def _titles(text: str, lines: int) -> Understood:
    """A title for each line: a list of as many texts, or a mapping from the lines' numbers."""
    found = _json(text)
    if found.problem is not None:
        return found
    data = found.data
    if isinstance(data, list):
        if len(data) != lines:
            return Understood(problem=f"{len(data)} titles for {lines} turns")
        data = {str(number): title for number, title in enumerate(data, start=1)}
    if not isinstance(data, dict):
        return Understood(problem="not a list of titles")
    titles: dict[str, str] = {}
    for number, title in data.items():
        known = len(number) < 10 and number.isascii() and number.isdigit() and 1 <= int(number) <= lines
        if not known or not isinstance(title, str) or not title.strip() or len(title) > _LONGEST_TITLE:
            return Understood(problem=f"not a title of one of the {lines} turns: {number}")
        titles[str(int(number))] = " ".join(title.split())
    return Understood(titles) if titles else Understood(problem="no titles")


def _scores(text: str, schema: Mapping[str, Any]) -> Understood:
    """JSON that its schema allows."""
    # Late, because few nights need it.
    from jsonschema import Draft202012Validator
    from referencing import Registry

    found = _json(text)
    if found.problem is not None:
        return found
    # A registry that holds nothing: what the schema refers to is in it, or nowhere; nothing is fetched.
    validator = Draft202012Validator(schema, registry=Registry())
    errors = sorted(validator.iter_errors(found.data), key=lambda error: list(map(str, error.absolute_path)))
    if not errors:
        return found
    where = "/".join(map(str, errors[0].absolute_path)) or "the whole"
    return Understood(problem=f"not as the schema says, at {where}: {errors[0].message[:200]}")


def _fenced(text: str) -> list[str]:
    """What stands between each fence and the next."""
    lines = text.split("\n")
    fences = [number for number, line in enumerate(lines) if "```" in line and _FENCE.fullmatch(line)]
    return ["\n".join(lines[one + 1 : other]) for one, other in pairwise(fences)]


def _json(text: str) -> Understood:
    """The JSON in an answer: all of it, in a fence, or between the first bracket and its last."""
    candidates = [text, *_fenced(text)]
    for opening, closing in ("{}", "[]"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            candidates.append(text[start : end + 1])
    for candidate in candidates:
        try:
            data = orjson.loads(candidate)
        except orjson.JSONDecodeError:
            continue
        if isinstance(data, dict | list):
            return Understood(data)
    return Understood(problem="no JSON in the answer")
