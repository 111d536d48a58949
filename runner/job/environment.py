"""Variables that a job names: `${VAR}` and `${VAR:-default}`, the `.env` files, and what they resolve to.

They stand in api_key, base_url and headers only, and stay unresolved in everything that is stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from runner.job.files import Files, Misread

VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*")
_MOST_BYTES: Final = 1024 * 1024


class MissingVariable(Exception):
    """A variable that the job names and nobody has set."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not set: put it into the environment or into a .env file beside the job")
        self.name = name


def variables(text: str) -> tuple[str, ...]:
    """The names of the variables in a text."""
    return tuple(found[1] for found in VARIABLE.finditer(text))


def misplaced(text: str) -> str | None:
    """What opens like a variable but is none, such as `${A-b}`; None when all are well formed."""
    rest = VARIABLE.sub("", text)
    return rest[rest.index("${") :][:40] if "${" in rest else None


def resolve(text: str, environ: Mapping[str, str]) -> str:
    """The text with its variables filled in, once; an empty variable counts as not set. Raises MissingVariable."""

    def value(found: re.Match[str]) -> str:
        if environ.get(found[1]):
            return environ[found[1]]
        if found[2] is None:
            raise MissingVariable(found[1])
        return found[2]

    return VARIABLE.sub(value, text)


def hidden(address: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    """What variables add to the path of an address: a tenant or a token, as secret as a key.

    The host is no secret: whoever is on the line can read it. A variable that brings the host along is an address that
    somebody wrote, and the plain words in its path are none either.
    """
    found: dict[str, None] = {}
    so_far, end = "", 0
    for one in VARIABLE.finditer(address):
        so_far += address[end : one.start()]
        end = one.end()
        given = environ.get(one[1], "")
        whole = so_far + (given or one[2] or "")
        scheme, mark, rest = whole.partition("://")
        path = len(scheme + mark + rest.partition("/")[0])
        added = given[max(0, path - len(so_far)) :].strip("/") if mark else ""
        parts = added.split("/")
        found |= dict.fromkeys([added, *parts] if path <= len(so_far) else [p for p in parts if not p.isalpha()])
        so_far = whole
    found.pop("", None)
    return tuple(found)


class Environment(NamedTuple):
    """The variables that a job names, as far as they are set, and what the user should know about their files."""

    values: Mapping[str, str]
    warnings: tuple[str, ...]


def environment(
    names: Iterable[str], folders: Sequence[Path], process: Mapping[str, str], files: Files | None = None
) -> Environment:
    """What the named variables are: the process environment wins, then the `.env` of each folder in order."""
    wanted = set(names)
    reader = files or Files()
    values = {name: process[name] for name in wanted if process.get(name)}
    warnings: list[str] = []
    # The folder of the job and the working one may be the same under two names.
    places: dict[Path, Path] = {}
    for folder in folders if wanted else ():
        places.setdefault(folder.absolute(), folder / ".env")
    for path in places.values():
        if not reader.exists(path):
            continue
        try:
            text = reader.read(path, _MOST_BYTES).decode("utf-8-sig")
        except Misread as error:
            warnings.append(f"{path}: {error}; it was not used")
            continue
        except UnicodeDecodeError:
            warnings.append(f"{path} is not UTF-8; it was not used")
            continue
        found = {name: value for name, value in dotenv(text).items() if name in wanted and value}
        if found and reader.open_to_others(path):
            warnings.append(f"{path} can be read by other users: chmod 600 {path}")
        values = {**found, **values}
    return Environment(values, tuple(warnings))


def dotenv(text: str) -> dict[str, str]:
    """The assignments of a `.env` file: `NAME=value`, `export`, quotes, comments; nothing is expanded."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) and not line.lstrip().startswith("#"):
            found[match[1]] = _unquoted(match[2])
    return found


def _unquoted(value: str) -> str:
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        return value[1:end] if end > 0 else value[1:]
    return re.split(r"(?:^|\s)#", value, maxsplit=1)[0].rstrip()
