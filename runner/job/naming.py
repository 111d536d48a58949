"""Names that are safe as names of files on every system, and that stay apart where case does not count."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final

LONGEST: Final = 100
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_RESERVED: Final = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)


def slug(text: str) -> str:
    """The text as part of a file name: ASCII letters, digits, `.`, `_` and `-`; never empty, never a device."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    safe = re.sub(r"\.{2,}", ".", re.sub(r"-{2,}", "-", _UNSAFE.sub("-", plain))).strip(".-")
    if not safe:
        return f"x{short(text)}"
    return f"x-{safe}" if _RESERVED.fullmatch(safe) else safe


def short(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:8]


def fitted(name: str, longest: int = LONGEST) -> str:
    """The name, cut where it is too long; its hash keeps it apart from others that begin alike."""
    return name if len(name) <= longest else f"{name[: longest - 9]}-{short(name)}"


def reserved(name: str) -> bool:
    """True when some system keeps the name for itself: a device, or a way to another folder."""
    return _RESERVED.fullmatch(name) is not None or name.strip(". ") == ""


def choices(alias: str, provider: str, id_: str) -> tuple[str, ...]:
    """What a model may be called in names of files, from the shortest to the surest."""
    return (
        slug(alias),
        slug(f"{provider}-{alias}"),
        slug(f"{provider}-{id_}"),
        f"{slug(alias)}-{short(f'{provider}/{id_}/{alias}')}",
    )


def apart(candidates: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each key its first name; where several would be called alike, all of them take their next one."""
    level = dict.fromkeys(candidates, 0)
    while True:
        chosen = {key: candidates[key][at] for key, at in level.items()}
        taken = Counter(name.casefold() for name in chosen.values())
        clashing = [
            key for key, name in chosen.items() if taken[name.casefold()] > 1 and level[key] < len(candidates[key]) - 1
        ]
        if not clashing:
            return chosen
        for key in clashing:
            level[key] += 1
