"""What looks like an API key, and how it is kept out of messages.

The shapes are those of the keys that vendors hand out. A shape is enough: whether the key works is not asked.
"""

from __future__ import annotations

import re
from typing import Final

_SHAPES: Final = re.compile(
    r"""(?<![A-Za-z0-9])(?:
          sk-[A-Za-z0-9_-]{12,}                 # OpenAI, Anthropic, OpenRouter, DeepSeek
        | (?:gsk|xai|hf|tgp_v1|pplx|nvapi|csk|fw)[_-][A-Za-z0-9_-]{16,}
        | (?:ghp|gho|ghs|github_pat|glpat|xox[abp])[_-][A-Za-z0-9_-]{16,}
        | AIza[A-Za-z0-9_-]{20,}
        | AKIA[A-Z0-9]{12,}
        | eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+
        )""",
    re.VERBOSE,
)
_NAME: Final = r"(?:api|key|kye|token(?!s)|secret|auth(?!ors?\b)|passw|bearer|cookie)"
_NAMED: Final = re.compile(
    # No part may match at more than one place, or a long line would take the square of its length.
    rf"""(?P<name>{_NAME}[\w-]{{0,30}}["']?\s{{0,9}}[:=]\s{{0,9}})
         (?P<value>"[^"]*"|'[^']*'|[^\s,}}\]][^,}}\]]*)""",
    re.VERBOSE | re.IGNORECASE,
)
_PROMISING: Final = re.compile(_NAME, re.IGNORECASE)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_\-.+/=~]{12,}")
_NAME_ONLY: Final = re.compile(r"\$\{\w+\}")


def looks_like_key(text: str) -> bool:
    """True when some part of the text has the shape of a vendor's key."""
    return _SHAPES.search(text) is not None


def promises_key(name: str) -> bool:
    """True when what stands under this name is probably a key, even if the name is misspelt."""
    return _PROMISING.search(name) is not None


def literal_tokens(text: str) -> list[str]:
    """The long literals in a value that should come from the environment."""
    return _TOKEN.findall(_NAME_ONLY.sub(" ", re.sub(r"\$\{\w+:-", " ", text)))


def masked(text: str) -> str:
    """The text with every key in it, and whatever stands under a name that promises one, made of asterisks.

    The length stays, so that a caret still points at the right place.
    """
    return _NAMED.sub(_mask_value, _SHAPES.sub(lambda found: "*" * len(found[0]), text))


def _mask_value(found: re.Match[str]) -> str:
    value = found["value"]
    for token in literal_tokens(value):
        value = value.replace(token, "*" * len(token))
    return str(found["name"]) + value
