"""Foreign text inside our Markdown: it looks as it was meant, cannot act, and can be read back exactly.

Three layers, each of them reversible:

1. `foreign.visible`: controls and the like are spelled out, so a text is lines of harmless characters;
2. a backslash before each character that would otherwise open a heading, rule, HTML tag, link, image, link definition,
   alert, entity or stray code. Where backslashes already stand before such a character, `k` of them become `2k + 1`:
   that is both what Markdown needs to show them and what makes the way back unambiguous. An `@` that would make an
   e-mail link is spelled out, because GitHub looks for those after it has taken the backslashes away;
3. `> ` before every line, `>` alone for an empty one. Nothing of ours but the callouts begins with `>`.

Emphasis, lists, tables and ordinary paragraphs stay alive. So does code, but only where every renderer must agree that
it is code, since there nothing can be escaped: a span of one or two backticks that ends on its line and holds neither
`|` (a table cell would end there) nor `]:` (a link definition is seen before code is); and a fence of backticks that is
closed, is at most three spaces in, has nothing less indented inside it, and names no language that some renderer runs.
All other backticks are escaped, so that at the start of each line no code is open.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from runner.foreign import escape, obeyed, one_line, storable, visible

# --- quoting ---------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """The text as a block quote in which nothing can act; `unquoted` gives it back exactly."""
    lines = visible(text).split("\n")
    fences = _fences(lines)
    shown: list[str] = []
    end = -1
    for number, line in enumerate(lines):
        fence = fences.get(number)
        if fence is not None and fence.code:
            end = fence.end
        shown.append(line if number <= end else _escaped(line))
    return "\n".join(f"> {line}" if line else ">" for line in shown)


def unquoted(quote: str) -> str:
    """The text that `quoted` was given."""
    shown = [line[2:] for line in quote.split("\n")]
    fences = _fences(shown)
    lines: list[str] = []
    end = -1
    for number, line in enumerate(shown):
        if number in fences:
            end = fences[number].end
        lines.append(line if number <= end else _unescaped(line))
    return obeyed("\n".join(lines))


# --- fences ----------------------------------------------------------------------------------------------------------

# More than eight backticks are text: with few sizes, looking for the end of each fence stays cheap.
_FENCE: Final = re.compile(r"( {0,3})(`{3,8})([^`]*)")
_LANGUAGES: Final = frozenset(
    """
    ada asm awk bash bat batch c c# c++ clj clojure cmake cobol console cpp cs csharp css csv cypher d dart diff
    dockerfile elixir elm erlang f# fish fortran fsharp go graphql groovy haskell hcl hs html http ini java javascript
    js json json5 jsonc jsonl jsx julia kotlin kt latex lean less lisp lua make makefile markdown matlab md nim nix
    objc ocaml output pascal perl php plain plaintext powershell prolog proto ps1 py python python3 r racket rb regex
    ruby rust rs sass scala scheme scss sh shell sql svelte swift tcl terraform tex text toml ts tsx txt typescript vb
    verilog vim vue wasm xml yaml yml zig zsh
    """.split()  # noqa: SIM905
)
"""Languages that renderers colour and none runs; `mermaid`, `math`, `dataview` and the like are drawn or run."""


class _Fence(NamedTuple):
    end: int
    code: bool
    """False where the fence would be more than code: its two lines are text then."""


def _fences(lines: Sequence[str]) -> dict[int, _Fence]:
    """The fences that every renderer sees, by their first line; in escaped lines there are none."""
    closers = [(number, run) for number, line in enumerate(lines) if (run := _run(line))]
    if not closers:
        return {}
    outside = _next_lines_outside(lines)
    first = dict.fromkeys(range(3, 9), 0)
    fences: dict[int, _Fence] = {}
    last = -1
    for opener, line in enumerate(lines):
        found = _FENCE.fullmatch(line)
        if opener <= last or not found:
            continue
        indent, size, language = len(found[1]), len(found[2]), found[3].strip(" \t").lower()
        while first[size] < len(closers) and (closers[first[size]][0] <= opener or closers[first[size]][1] < size):
            first[size] += 1
        if first[size] == len(closers):
            continue
        end = closers[first[size]][0]
        # The first line that might close the fence must surely do so, and nothing before it may leave the list item
        # in which the fence may stand.
        if not lines[end].startswith(" " * indent + "`") or outside[indent][opener + 1] < end:
            continue
        code = not language or language in _LANGUAGES
        fences[opener] = _Fence(end, code)
        if not code:
            fences[end] = _Fence(end, False)
        last = end
    return fences


def _run(line: str) -> int:
    """How many backticks a line holds that might close a fence, or 0."""
    bare = line.strip(" \t")
    return len(bare) if len(bare) >= 3 and not bare.strip("`") else 0


def _next_lines_outside(lines: Sequence[str]) -> list[list[int]]:
    """For each indentation up to three, and each line: the first line from there on that is indented less."""
    following = [[len(lines)] * (len(lines) + 1) for _ in range(4)]
    for number in range(len(lines) - 1, -1, -1):
        spaces = len(lines[number]) - len(lines[number].lstrip(" "))
        blank = not lines[number].strip(" \t")
        for indent in range(4):
            following[indent][number] = number if spaces < indent and not blank else following[indent][number + 1]
    return following


# --- lines -----------------------------------------------------------------------------------------------------------

_CONTAINERS: Final = " \t>*+-0123456789.)"
"""What may stand before a block on its line, as marks of quotes and lists."""

_ACTS: Final = re.compile(
    r"(?P<code>(?<![\\`])(?P<ticks>`{1,2})(?!`)(?:(?!\]:)[^|])+?(?<!`)(?P=ticks)(?!`))"
    r"|(?P<before>"
    rf"^[{re.escape(_CONTAINERS)}]*+(?=\\*+(?:\#|~~~))"  # a heading, a fence
    r"|(?<=\])(?=\\*+[(:])"  # the middle of a link or an image, a link definition
    r"|(?<=\[)(?=\\*+\[)"  # a wiki link
    r"|(?<=[wW]{3})(?=\\*+\.)"  # a bare address
    r"|(?<=[^\s\\])(?=\\*+@[A-Za-z0-9._\-\x80-\U0010ffff])"  # an e-mail address
    r"|(?<!\\)(?=\\*+(?:<[A-Za-z/!?]|&\#?[A-Za-z0-9]{1,40};|\[[!^]|://|`))"  # HTML, entity, alert, note, address
    r")(?P<backslashes>\\*+)(?P<sign>.)"
)
_AT: Final = "@"


def _escaped(line: str) -> str:
    """One line of text with a backslash before all that could act."""
    if (rule := _rule(line)) is not None:
        before, backslashes, run = rule
        return f"{before}{backslashes * 2}\\{run}"
    return _ACTS.sub(_escape, line)


def _escape(found: re.Match[str]) -> str:
    if found["code"]:
        return found["code"]
    sign = escape(_AT) if found["sign"] == _AT else "\\" + found["sign"]
    return found["before"] + found["backslashes"] * 2 + sign


def _unescaped(line: str) -> str:
    """The line that `_escaped` was given."""
    if (rule := _rule(line)) is not None:
        before, backslashes, run = rule
        return before + backslashes[len(backslashes) // 2 + 1 :] + run
    return _ACTS.sub(_unescape, line)


def _unescape(found: re.Match[str]) -> str:
    if found["code"]:
        return found["code"]
    backslashes = found["backslashes"]
    return found["before"] + backslashes[len(backslashes) // 2 + 1 :] + found["sign"]


def _rule(line: str) -> tuple[str, str, str] | None:
    """What stands before, the backslashes and the rest, where a line could be a rule or underline a heading."""
    bare = line.rstrip(" \t")
    if not bare or bare[-1] not in "-_*=":
        return None
    head = bare.rstrip(bare[-1] + " \t")
    start = len(line) - len(line[len(head) :].lstrip(" \t"))
    before = line[:start].rstrip("\\")
    return None if before.strip(_CONTAINERS) else (before, line[len(before) : start], line[start:])


# --- within our own lines --------------------------------------------------------------------------------------------

_MAIL: Final = re.compile(r"(?<!\\)(\\*+)@")
_PUNCTUATION: Final = re.compile(r"[\\`*_\[\]()<>|~&$#]|:(?=//)|(?<=[wW]{3})\.")
_PUNCTUATED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")


def literal(text: str) -> str:
    """The text within a line, heading or table cell of ours, as it is and without effect; `plain` gives it back."""
    return _punctuated(visible(text, keep_newlines=False))


def plain(markdown: str) -> str:
    """The text that `literal` was given."""
    return obeyed(_PUNCTUATED.sub(r"\1", markdown))


def brief(text: str, limit: int = 200) -> str:
    """The beginning of a text, on one line of ours and without effect."""
    return _punctuated(one_line(text, limit))


def _punctuated(shown: str) -> str:
    spelled = _MAIL.sub(lambda found: found[1] * 2 + escape(_AT), shown)
    return _PUNCTUATION.sub(lambda found: "\\" + found.group(), spelled)


def link(text: str, path: str) -> str:
    """An inline link to a file beside or below ours."""
    return f"[{literal(text)}]({quote(storable(path), safe='/~')})"


def row(*cells: str) -> str:
    """One row of a table; the cells are Markdown already."""
    return f"| {' | '.join(cells)} |"


def fenced(command: str) -> str:
    """A command of ours to copy, on one line; nothing in it can end its fence."""
    shown = visible(command, keep_newlines=False)
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}sh\n{shown}\n{fence}"
