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

Where a text is not quoted but stands among our own lines, `embedded` takes the place of the third layer: its headings
move below ours, and what would pass for a line of ours, however it is emphasised, gets a backslash, too, or has one
sign spelled out where a backslash would not be seen. On the way back headings stay where they
are; all else is exact.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple
from unicodedata import ucd_3_2_0
from urllib.parse import quote

from runner.foreign import escape, obeyed, one_line, storable, visible

# --- quoting ---------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    """The text as a block quote in which nothing can act; `unquoted` gives it back exactly."""
    if _is_harmless(text):
        # All that can be left in it are rules, which show at the ends of their lines.
        shown = [(_unruled(line) or line) if line.endswith(_RULE_ENDS) else line for line in text.split("\n")]
        return "\n".join([f"> {line}" if line else ">" for line in shown])
    lines = visible(text).split("\n")
    if "`" in text:
        code = _code(lines, _fences(lines))
        shown = [line if is_code else _escaped(line) for line, is_code in zip(lines, code, strict=True)]
    else:
        shown = [_escaped(line) for line in lines]
    return "\n".join(f"> {line}" if line else ">" for line in shown)


def unquoted(quote: str) -> str:
    """The text that `quoted` was given."""
    shown = [line[2:] for line in quote.split("\n")]
    code = _code(shown, _fences(shown))
    return obeyed("\n".join(line if is_code else _unescaped(line) for line, is_code in zip(shown, code, strict=True)))


# --- among our own lines ---------------------------------------------------------------------------------------------

_OUTLINE: Final = 3
"""How many levels of headings are ours."""

_DEEPEST: Final = 6
_MOVES: Final = re.compile(r"(#{1,6})(?=[ \t]|$)")
_SEAM: Final = re.compile(r"## (?:Round \d|Session Statistics)|### Turn \d|\*\[tokens: |\*Archived |\*\*.+:\*\*[ \t]*$")
"""Lines by which files are taken apart again: code that holds one is shown as text."""


_JOINED: Final = 12
"""So many lines at most are looked at as one: no line of ours has more words."""
ANY_BOLD: Final = "**"
"""Among labels: any bold words alone on a line might be one."""


def embedded(text: str, labels: Collection[str] = ()) -> str:
    """The text as lines that stand among ours: none acts, moves the outline, or passes for one of ours.

    `labels` are the names that stand alone and bold over texts.
    """
    lines = visible(text).split("\n")
    code = is_code(lines)
    levels = [
        len(found[1]) for line, skip in zip(lines, code, strict=True) if not skip and (found := _MOVES.match(line))
    ]
    deeper = max(0, _OUTLINE + 1 - min(levels, default=_DEEPEST))
    names = {label if label == ANY_BOLD else _seen(label) for label in labels}
    within = _within_emphasis(lines)
    return "\n".join(
        line if skip else _embedded(line, lines[number + 1 : number + _JOINED], deeper, names, inside)
        for number, (line, skip, inside) in enumerate(zip(lines, code, within, strict=True))
    )


def _within_emphasis(lines: Iterable[str]) -> Iterator[bool]:
    """For each line, whether emphasis may have begun in its paragraph before it."""
    begun = False
    for line in lines:
        yield begun
        found = _LINE.fullmatch(line)
        opens = found is not None and ("*" in found["words"] or "_" in found["words"])
        begun = bool(line.strip()) and (begun or opens)


def extracted(markdown: str) -> str:
    """The text that `embedded` was given, its headings as they are shown."""
    lines = markdown.split("\n")
    return obeyed(
        "\n".join(line if skip else _extracted(line) for line, skip in zip(lines, is_code(lines), strict=True))
    )


def is_code(lines: Sequence[str]) -> list[bool]:
    """For each line of a file that is made of ours and of embedded texts: whether it is code."""
    return _code(lines, _fences(lines, _SEAM))


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


def _code(lines: Sequence[str], fences: Mapping[int, _Fence]) -> list[bool]:
    """For each line, whether it belongs to a fence that is code."""
    code = [False] * len(lines)
    for first, fence in fences.items():
        if fence.code:
            code[first : fence.end + 1] = [True] * (fence.end + 1 - first)
    return code


def _fences(lines: Sequence[str], seam: re.Pattern[str] | None = None) -> dict[int, _Fence]:
    """The fences that every renderer sees, by their first line; in escaped lines there are none.

    A fence that is not closed before the next seam is none.
    """
    closers = [(number, run) for number, line in enumerate(lines) if (run := _run(line))]
    if not closers:
        return {}
    outside = _next_lines_outside(lines, seam)
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


def _next_lines_outside(lines: Sequence[str], seam: re.Pattern[str] | None) -> list[list[int]]:
    """For each indentation up to three, and each line: the first from there on that is indented less, or a seam."""
    following = [[len(lines)] * (len(lines) + 1) for _ in range(4)]
    for number in range(len(lines) - 1, -1, -1):
        spaces = len(lines[number]) - len(lines[number].lstrip(" "))
        blank = not lines[number].strip(" \t")
        ends = seam is not None and seam.match(lines[number]) is not None
        for indent in range(4):
            outside = ends or (spaces < indent and not blank)
            following[indent][number] = number if outside else following[indent][number + 1]
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
_MAY_ACT: Final = re.compile(r"[`#~\[\]@<&]")
"""One of these is in all that `_ACTS` finds, but for addresses: to look for them alone takes a fraction of its time."""
_HARMLESS: Final = b"\t\n" + bytes(sign for sign in range(0x20, 0x7F) if not _MAY_ACT.match(chr(sign)))
_RULE_ENDS: Final = tuple("-_*= \t")


def _is_harmless(text: str) -> bool:
    """True where nothing of it would be spelled out and `_ACTS` surely finds nothing.

    All that was said is asked for that, and of most texts it can be told at once: what is looked at one by one are only
    the signs that are not ASCII.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return False
    rest = raw.translate(None, _HARMLESS).decode()
    if rest and (_MAY_ACT.search(rest) or visible(rest) != rest):
        return False
    return not (b"u{" in raw or b"://" in raw or b"www" in raw.lower())


def _may_act(text: str) -> bool:
    """False where `_ACTS` surely finds nothing."""
    return _MAY_ACT.search(text) is not None or "://" in text or "www" in text.lower()


def _escaped(line: str) -> str:
    """One line of text with a backslash before all that could act."""
    return _unruled(line) or (_ACTS.sub(_escape, line) if _may_act(line) else line)


def _unruled(line: str) -> str | None:
    """One line with a backslash before what could be a rule; None where nothing could."""
    if (rule := _rule(line)) is None:
        return None
    before, backslashes, run = rule
    return f"{before}{backslashes * 2}\\{run}"


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


_LINE: Final = re.compile(
    r"(?P<before>(?:[\s>]|[-+*](?=[ \t])|\d{1,9}[.)](?=[ \t]))*+)(?P<backslashes>\\*+)(?P<words>.+)", re.DOTALL
)
_EMPHASIS: Final = "*_|"
"""What can make the beginning of a line bold or italic, and shows where a backslash stands before it."""
_UNSEEN: Final = dict.fromkeys(map(ord, "*_`#\\"))
"""What a renderer takes away from words that it emphasises, or from a heading."""
_OURS: Final = re.compile(
    r"\[ ?(?:[a-z ]+(?:=|:(?!//))|no (?:reply|notes)\b).*"  # figures, remarks, and what stands in the place of a text
    r"|\( ?[\d$][^()]*\)"
    r"|(?:archived .*\d|by .+, in dialogue with |for whoever reads next).*"
    r"|(?:rounds completed|rounds|total cost|model|system prompt|date) ?: ?[^|]+|system prompt ?:"
    r"|(?P<plain>total ?: ?[\d,]+ tokens).*"  # it is ours without emphasis, too
    r"|(?P<label>.*) ?:"
)
_BOLD: Final = re.compile(r"\*\*.+:\*\*[ \t]*")
_BOLD_ITSELF: Final = re.compile("[\U0001d400-\U0001d7ff]")
"""Letters that are bold or italic without a sign."""
_SIGN: Final = re.compile(r"(?<!\\)(\\*+)([:\[(])")


def _seen(words: str) -> str:
    """Words as they are read on the page, whatever emphasises them, in one case."""
    # Of one version for ever: with another the same transcript would be another.
    bare = ucd_3_2_0.normalize("NFKC", words.replace(escape(_AT), _AT)).translate(_UNSEEN)
    return " ".join(bare.split()).strip("| ").casefold()


def _paragraph(line: str, following: Iterable[str]) -> str:
    """What a renderer shows on one line where it takes the ends of lines for blanks."""
    joined = [line]
    for other in following:
        if line.endswith(("\\", "  ")) or not other.strip():
            break
        joined.append(other.lstrip(" \t>"))
        line = other
    return " ".join(joined)


def _ours(words: str) -> re.Match[str] | None:
    """What of ours these words would be taken for, alone or as the cell that a table shows of them."""
    seen = _seen(words)
    return _OURS.fullmatch(seen) or _OURS.fullmatch(seen.partition("|")[0].rstrip())


def _embedded(line: str, following: Sequence[str], deeper: int, labels: Collection[str], within: bool) -> str:
    """One line of text that is no code, with its heading so much deeper."""
    if found := _MOVES.match(line):
        level = min(_DEEPEST, len(found[1]) + deeper)
        return "#" * level + _embedded_words(line[found.end() :], (), labels, True)
    return _embedded_words(line, following, labels, within)


def _embedded_words(line: str, following: Sequence[str], labels: Collection[str], within: bool) -> str:
    """Words of a line; `within`: their beginning may be emphasised by what stands before them."""
    found = _LINE.fullmatch(line)
    if found is None:
        return _escaped(line)
    before, backslashes, words = found.groups()
    ours = _ours(words)
    if words[0] in _EMPHASIS:
        # Where backslashes stand already, they double, label or not: the way back does not know the labels.
        if ours is not None and (backslashes or _passes(ours, words, labels)):
            return f"{before}{backslashes * 2}\\{_escaped(words)}"
        if backslashes:
            return _escaped(line)
    whole = words
    if ours is None or not _passes(ours, words, labels):
        whole = _paragraph(words, following)
        ours = None if whole == words else _ours(whole)
    emphasised = within or words[0] in _EMPHASIS or "|" in words or _BOLD_ITSELF.match(words)
    if ours is None or not (emphasised or ours["plain"]) or not _passes(ours, whole, labels):
        return _escaped(line)
    # A backslash would not be seen here, as in `Total\:`, or the way back would not know it for ours.
    spelled, signs = _SIGN.subn(lambda sign: sign[1] * 2 + escape(sign[2]), backslashes + words, count=1)
    if not signs and backslashes:
        return _escaped(line)
    return _escaped(before + (spelled if signs else escape(words[0]) + words[1:]))


def _passes(ours: re.Match[str], words: str, labels: Collection[str]) -> bool:
    """Whether these words are taken for ours where these are the labels."""
    if ours["label"] is None or ours["label"] in labels:
        return True
    # Whoever reads a file takes names as `plain` gives them.
    if _seen(plain(words)).removesuffix(":").rstrip() in labels:
        return True
    return ANY_BOLD in labels and _BOLD.fullmatch(words) is not None


def _extracted(line: str) -> str:
    """The line that `_embedded` was given, but for the level of its heading."""
    start = 0 if (heading := _MOVES.match(line)) is None else heading.end()
    marks, words = line[:start], line[start:]
    found = _LINE.fullmatch(words)
    if found is None or not found["backslashes"] or found["words"][0] not in _EMPHASIS:
        return marks + _unescaped(words)
    before, backslashes, ours = found.groups()
    if _ours(ours) is None:
        return marks + _unescaped(words)
    return marks + before + backslashes[len(backslashes) // 2 + 1 :] + _unescaped(ours)


# --- within our own lines --------------------------------------------------------------------------------------------

_MOST_NAMES: Final = 256
_MAIL: Final = re.compile(r"(?<!\\)(\\*+)@")
_PUNCTUATION: Final = re.compile(r"[\\`*_\[\]()<>|~&$#]|:(?=//)|(?<=[wW]{3})\.")
_PUNCTUATED: Final = re.compile(r"\\([!-/:-@\[-`{-~])")


# The same few names stand in every transcript.
@lru_cache(_MOST_NAMES)
def literal(text: str, apart: str = "") -> str:
    """The text within a line, heading or table cell of ours, as it is and without effect; `plain` gives it back.

    The sign with which `apart` begins is spelled out where all of `apart` stands, so that it can follow the text.
    """
    return _punctuated(visible(text, keep_newlines=False), apart)


def plain(markdown: str) -> str:
    """The text that `literal` was given."""
    return obeyed(_PUNCTUATED.sub(r"\1", markdown))


@lru_cache(_MOST_NAMES)
def brief(text: str, limit: int = 200, apart: str = "") -> str:
    """The beginning of a text, on one line of ours and without effect."""
    return _punctuated(one_line(text, limit), apart)


def failure(error: Mapping[str, Any] | None, apart: str = "") -> str:
    """What went wrong, `{"kind": ..., "message": ...}`, within a line of ours."""
    known = error or {}
    words = (known.get("kind"), known.get("message"))
    return ": ".join(brief(str(word), 500, apart) for word in words if word) or "no particulars"


def _punctuated(shown: str, apart: str) -> str:
    spelled = _MAIL.sub(lambda found: found[1] * 2 + escape(_AT), shown) if _AT in shown else shown
    if apart and apart in spelled:
        signs = re.compile(rf"(?<!\\)(\\*+){re.escape(apart[0])}(?={re.escape(apart[1:])})")
        spelled = signs.sub(lambda found: found[1] * 2 + escape(apart[0]), spelled)
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
