"""Text written by others, made safe to show, to store and to repeat.

Replies, providers' error messages and model names are hostile data, and keys are secrets:

- `visible` shows what a terminal or a reader would otherwise obey or overlook, as `\\u{1b}`. It loses nothing, and
  `obeyed` takes it back: a run of backslashes is doubled only where it stands before `u{`, so ordinary text,
  Windows paths and regular expressions stay as they were written;
- `storable` makes any string fit for UTF-8 and JSON;
- `masker` comes first, before text is shown or stored: it knows the keys as they are, not as `visible` shows them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator
from shlex import quote as shell_quote
from typing import Final
from urllib.parse import quote, quote_plus

import orjson

from runner.world import Secret

# A table of our own and not Unicode's categories: those change with the Python version, and with them the same
# transcript would. U+FE0E and U+FE0F stay: they only choose between two looks of the sign before them.
_TO_SHOW: Final = (
    r"\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, without newline and tab
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    r"\ud800-\udfff\ufe00-\ufe0d\ufeff\uffa0\ufff0-\ufffb\ufffe\uffff\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSEEN: Final = re.compile(rf"[{_TO_SHOW}]")
# The look-behind keeps a long run of backslashes from being tried at each of its places.
_SHOWN: Final = re.compile(rf"(?<!\\)(\\*+)(u\{{|[{_TO_SHOW}])")
_SHOWN_WITH_NEWLINES: Final = re.compile(rf"(?<!\\)(\\*+)(u\{{|[\n{_TO_SHOW}])")
_ESCAPE: Final = re.compile(r"(?<!\\)(\\++)u\{(?:([0-9a-f]{1,6})\})?")
_LAST_CODE_POINT: Final = 0x10FFFF


def visible(text: str, *, keep_newlines: bool = True) -> str:
    """The text with everything that acts unseen spelled out; `obeyed` gives the text back."""
    # Most texts have nothing of the kind, and to find that out is cheap.
    if "u{" not in text and (keep_newlines or "\n" not in text) and _UNSEEN.search(text) is None:
        return text
    return (_SHOWN if keep_newlines else _SHOWN_WITH_NEWLINES).sub(_show, text)


def escape(character: str) -> str:
    """One character, spelled out: `\\u{1b}`."""
    return f"\\u{{{ord(character):x}}}"


def _show(found: re.Match[str]) -> str:
    backslashes, what = found.groups()
    return backslashes * 2 + (what if what == "u{" else escape(what))


def obeyed(shown: str) -> str:
    """The text that `visible` has shown."""
    return _ESCAPE.sub(_obey, shown)


def _obey(found: re.Match[str]) -> str:
    backslashes, digits = found.groups()
    half, odd = divmod(len(backslashes), 2)
    if not odd:
        return "\\" * half + found.group()[len(backslashes) :]
    if digits is None or int(digits, 16) > _LAST_CODE_POINT:
        return found.group()  # nothing that `visible` wrote
    return "\\" * half + chr(int(digits, 16))


def one_line(text: str, limit: int = 200) -> str:
    """The text on one line of at most `limit` characters, cut with an ellipsis."""
    # Cut before and after: what is shown can be longer than what was said, and what was said can be endless.
    begun = text[: 4 * limit]
    line = visible(" ".join(re.split(r"[ \t\r\n]+", begun)).strip())
    if len(line) <= limit and len(begun) == len(text):
        return line
    kept = line[: max(0, limit - 1)]
    unfinished = re.search(r"\\u(\{[0-9a-f]{0,6})?\Z", kept)
    return (kept[: unfinished.start()] if unfinished else kept).rstrip("\\ ") + "…"


def command(verb: str, path: object) -> str:
    """A command to copy into a shell, whatever a file is called: `tertulia repair 'my runs/talk/main'`."""
    return f"tertulia {verb} {shell_quote(str(path))}"


def storable(text: str) -> str:
    """The same text where it is valid; a lone surrogate, which no UTF-8 can hold, becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # Through UTF-16, so that two halves that belong together become the character that was meant.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# --- keys ------------------------------------------------------------------------------------------------------------

MASK: Final = "***"
_SHORTEST_BASE64: Final = 8
"""A shorter piece of base64 would be found in ordinary words."""


def masker(secrets: Iterable[Secret]) -> Callable[[str], str]:
    """What replaces every one of these keys in a text, also where it stands URL-encoded, in base64 or JSON-escaped.

    Made once for many texts: the forms of a key cost more than the search for them.
    """
    forms = _forms(secrets)

    def masked(text: str) -> str:
        if not any(form in text for form in forms):
            return text
        places = sorted(place for form in forms for place in _places(text, form))
        pieces: list[str] = []
        end = 0
        for start, stop in places:
            # Keys that overlap are one place: masking them one by one would leave the rest of the second.
            if start >= end:
                pieces += (text[end:start], MASK)
            end = max(end, stop)
        return "".join((*pieces, text[end:]))

    return masked


def _places(text: str, form: str) -> Iterator[tuple[int, int]]:
    start = text.find(form)
    while start >= 0:
        yield start, start + len(form)
        start = text.find(form, start + 1)


def _forms(secrets: Iterable[Secret]) -> set[str]:
    forms: set[str] = set()
    for key in (secret.reveal().strip() for secret in secrets):
        encoded = {quote(key, ""), quote(key), quote_plus(key)} if _is_valid(key) else set()
        escaped = {json.dumps(key)[1:-1], json.dumps(key, ensure_ascii=False)[1:-1]}
        forms |= {key, *_base64(key)}
        forms |= encoded | {re.sub("%..", lambda hexed: hexed.group().lower(), form) for form in encoded}
        forms |= escaped | {form.replace("/", "\\/") for form in escaped}
    return forms - {""}


def _is_valid(key: str) -> bool:
    return storable(key) == key


def _base64(key: str) -> Iterator[str]:
    raw = key.encode("utf-8", "replace")
    for before in range(3):
        # Where the key stands inside a longer text (`user:key`), its first and last characters mix with neighbours.
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        own = encoded[(0, 2, 3)[before] : (before + len(raw)) * 8 // 6]
        for form in (own, encoded) if before == 0 else (own,):
            if len(form) >= _SHORTEST_BASE64:
                yield form
                yield form.replace("+", "-").replace("/", "_")


def in_words(holder: str) -> str:
    """What a process wrote about itself when it took a lock: `process 4711 on north since 2026-11-21 02:00:00`."""
    try:
        known = orjson.loads(holder)
        return one_line(f"process {known['pid']} on {known['host']} since {known['since']}")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return one_line(holder) or "a process that left no name"
