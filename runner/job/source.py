"""YAML 1.2, strictly, and where everything stood.

The tree is built from the parser's events, so that each key and value keeps its line and column, and nothing is
decided by a schema that the reader of the file does not see:

- scalars follow the YAML 1.2 core schema: `no` is a string, `010` is ten, `1:30` is a string, there are no dates;
- keys are always their text: `4.6:` is the key "4.6";
- a doubled key, a tag, a second document and an endless alias are mistakes;
- what aliases add is bounded, and so are depth and size.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from runner.job.leaks import masked
from runner.job.problem import Problem

Path: TypeAlias = tuple[str | int, ...]
"""The way to a value: keys of mappings, indices of lists (from 0)."""

MOST_BYTES: Final = 8 * 1024 * 1024
_DEEPEST: Final = 40
_MOST_ALIASED: Final = 50_000
_LONGEST_NUMBER: Final = 300

_INT: Final = re.compile(r"[-+]?[0-9]+")
_OCTAL: Final = re.compile(r"0o[0-7]+")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_WORDS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Place(NamedTuple):
    """Line and column, both from 1; line 0 is an argument of the command line, named by `argument`."""

    line: int
    column: int
    argument: str | None = None


@dataclass(slots=True)
class Source:
    """A parsed file: a plain tree, and the place of every key and value in it."""

    file: str
    tree: Any
    lines: Sequence[str]
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path, *, key: bool = False) -> Place:
        """Where this value (or its key) stands; of what is not there, where it is missing."""
        for length in range(len(path), -1, -1):
            found = (self.keys if key and length else self.values).get(path[:length])
            if found:
                return found
        return Place(1, 1)

    def problem(self, path: Path, message: str, hint: str | None = None, *, key: bool = False) -> Problem:
        place = self.place(path, key=key)
        if place.argument is not None:
            return Problem(f"--set {place.argument}", 0, 0, message, hint)
        return self.problem_at(place.line, place.column, message, hint)

    def problem_at(self, line: int, column: int, message: str, hint: str | None = None) -> Problem:
        shown = self.lines[line - 1] if 0 < line <= len(self.lines) else None
        return Problem(self.file, line, column, message, hint, shown)

    def where(self, path: Path) -> str:
        """The place as text, for a message that names a second one."""
        return self.problem(path, "").where

    def strings(self, path: Path = ()) -> Iterator[tuple[Path, str]]:
        """Every string value with its path."""
        stack: list[tuple[Path, Any]] = [(path, self.tree)]
        while stack:
            at, value = stack.pop()
            if isinstance(value, str):
                yield at, value
            elif isinstance(value, dict):
                stack.extend(((*at, key), inner) for key, inner in value.items())
            elif isinstance(value, list):
                stack.extend(((*at, index), inner) for index, inner in enumerate(value))

    def assign(self, argument: str) -> Problem | None:
        """Apply one `a.b=c` of the command line; the value is read as a YAML scalar.

        A name may hold dots itself (`models.opus-4.6.max_tokens`): an existing key that fits is preferred.
        A part of a list is named by its number, from 1.
        """
        target, equals, text = argument.partition("=")

        def wrong(message: str) -> Problem:
            return Problem(f"--set {argument}", 0, 0, message)

        if not equals or not target:
            return wrong("write it as `--set name=value`, such as `--set budget.run=5`")
        node, path, rest = self.tree, (), target  # type: Any, Path, str
        while True:
            if isinstance(node, list):
                step, _, rest = rest.partition(".")
                if not step.isdecimal() or not 1 <= int(step) <= len(node):
                    return wrong(f"`{step}` is no part of this list; it has {len(node)}, counted from 1")
                index: str | int = int(step) - 1
            elif isinstance(node, dict):
                fitting = [k for k in node if k and (rest == k or rest.startswith(f"{k}."))]
                index = max(fitting, key=len) if fitting else rest.partition(".")[0]
                rest = rest[len(index) + 1 :]
            else:
                return wrong(f"`{'.'.join(map(str, path))}` is a single value and has no parts")
            path = (*path, index)
            if not rest:
                break
            if isinstance(node, dict) and not isinstance(node.get(str(index)), dict | list):
                if node.get(str(index)) is not None:
                    return wrong(f"`{'.'.join(map(str, path))}` is a single value and has no parts")
                node[str(index)] = {}
                self.values[path] = self.keys[path] = Place(0, 0, argument)
            node = node[index]
        if _FORBIDDEN.search(text):
            return wrong("the value holds control characters")
        node[index] = scalar(text)
        for places in (self.values, self.keys):
            for old in [p for p in places if p[: len(path)] == path]:
                del places[old]
            places[path] = Place(0, 0, argument)
        return None


def scalar(text: str) -> Any:
    """What an unquoted scalar means in YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _LONGEST_NUMBER or not text.lstrip("+-").isdecimal():
        if _INT.fullmatch(text):
            return int(text)
        if _OCTAL.fullmatch(text):
            return int(text[2:], 8)
        if _HEX.fullmatch(text):
            return int(text[2:], 16)
        if _FLOAT.fullmatch(text):
            return float(text)
    elif _INT.fullmatch(text):
        return math.inf
    if _INFINITE.fullmatch(text):
        return -math.inf if text.startswith("-") else math.inf
    return text


# --- from events to a tree ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """A value where it stands; a mapping is kept as pairs until its keys are checked."""

    place: Place
    value: Any = None
    pairs: list[tuple[_Node, _Node]] | None = None
    items: list[_Node] | None = None
    waiting: _Node | None = None
    """The key that still waits for its value."""


class Unreadable(Exception):
    """A file that is no YAML of ours; the reading of it cannot go on."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


def parse(file: str, data: bytes, *, skip_lines: int = 0) -> tuple[Source, list[Problem]]:
    """The tree of a YAML text and the mistakes that leave a tree; Unreadable when there is none.

    `skip_lines` counts the lines of the file that stand before `data`, for front matter.
    """
    source = Source(file, None, ())

    def refuse(line: int, column: int, message: str, hint: str | None = None) -> Unreadable:
        return Unreadable(source.problem_at(line, column, message, hint))

    if len(data) > MOST_BYTES:
        raise refuse(0, 0, f"the file has {len(data):,} bytes; at most {MOST_BYTES:,} are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise refuse(
            before.count(b"\n") + 1 + skip_lines, column, "this is not UTF-8", "save the file as UTF-8"
        ) from None
    source.lines = [""] * skip_lines + re.split("\r\n|\r|\n", text)
    if odd := _FORBIDDEN.search(text):
        before_odd = text[: odd.start()]
        line = before_odd.count("\n") + 1 + skip_lines
        raise refuse(
            line, odd.start() - before_odd.rfind("\n"), f"a control character (U+{ord(odd[0]):04X}) stands here"
        )
    problems: list[Problem] = []
    try:
        root = _compose(source, text, skip_lines, problems)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(str(part) for part in (error.context, error.problem) if part)
        line, column = (mark.line + 1 + skip_lines, mark.column + 1) if mark else (0, 0)
        raise refuse(line, column, f"not valid YAML: {what}") from None
    except ReaderError as error:
        before_odd = text[: error.position] if isinstance(error.position, int) else ""
        line = before_odd.count("\n") + 1 + skip_lines
        raise refuse(line, len(before_odd) - before_odd.rfind("\n"), f"not valid YAML: {error.reason}") from None
    except YAMLError as error:
        raise refuse(0, 0, f"not valid YAML: {masked(str(error)).splitlines()[0]}") from None
    if root is not None:
        source.tree = _Flattening(source, problems).plain(root, ())
    return source, problems


def _compose(source: Source, text: str, skip_lines: int, problems: list[Problem]) -> _Node | None:
    open_nodes: list[_Node] = []
    anchors: dict[str, _Node] = {}
    root: _Node | None = None
    documents = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        kind = type(event).__name__
        mark = event.start_mark
        place = Place(mark.line + 1 + skip_lines, mark.column + 1)

        def note(message: str, hint: str | None = None, place: Place = place) -> None:
            problems.append(source.problem_at(place.line, place.column, message, hint))

        if kind == "DocumentStartEvent":
            documents += 1
            if documents > 1:
                raise Unreadable(
                    source.problem_at(place.line, place.column, "a second document starts here; a job is one")
                )
            continue
        if kind in ("MappingEndEvent", "SequenceEndEvent"):
            open_nodes.pop()
            continue
        if kind == "AliasEvent":
            if event.anchor not in anchors:
                note(f"the alias `*{event.anchor}` names no anchor before it")
                node = _Node(place)
            elif anchors[event.anchor] in open_nodes:
                raise Unreadable(source.problem_at(place.line, place.column, f"`*{event.anchor}` holds itself"))
            else:
                node = anchors[event.anchor]
        elif kind in ("ScalarEvent", "MappingStartEvent", "SequenceStartEvent"):
            node = _Node(place)
            if event.tag is not None:
                note(f"the tag `{event.tag}` has no meaning here", "write the value without it")
            if event.anchor is not None:
                anchors[event.anchor] = node
        else:
            continue
        if open_nodes:
            parent = open_nodes[-1]
            if parent.items is not None:
                parent.items.append(node)
            elif parent.waiting is None:
                parent.waiting = node
            elif parent.pairs is not None:
                parent.pairs.append((parent.waiting, node))
                parent.waiting = None
        else:
            root = node
        if kind == "ScalarEvent":
            plain = event.style is None and not _is_key(open_nodes, node)
            text_value = _joined(event.value)
            node.value = scalar(text_value) if plain else text_value
            if odd := _FORBIDDEN.search(text_value):
                note(f"this text holds a character (U+{ord(odd[0]):04X}) that no file can keep")
                node.value = ""
        elif kind != "AliasEvent":
            node.pairs, node.items = ([], None) if kind == "MappingStartEvent" else (None, [])
            open_nodes.append(node)
            if len(open_nodes) > _DEEPEST:
                raise Unreadable(source.problem_at(place.line, place.column, f"nested more than {_DEEPEST} deep"))
    return root


def _joined(text: str) -> str:
    """The text with the halves of a character put together, which JSON writes as two escapes."""
    return _PAIR.sub(lambda found: found[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)


def _is_key(open_nodes: Sequence[_Node], node: _Node) -> bool:
    """True when the node is a key, whose text counts and not what it would mean as a value."""
    return bool(open_nodes) and open_nodes[-1].waiting is node


class _Flattening:
    """Turns nodes into plain values; what an alias repeats is counted, and cut off before it fills the memory."""

    def __init__(self, source: Source, problems: list[Problem]) -> None:
        self.source, self.problems = source, problems
        self.seen: set[int] = set()
        self.repeated = 0

    def plain(self, node: _Node, path: Path) -> Any:
        self.source.values[path] = node.place
        if id(node) in self.seen:
            self.repeated += 1
            if self.repeated > _MOST_ALIASED:
                message = f"aliases repeat more than {_MOST_ALIASED:,} values"
                raise Unreadable(self.source.problem_at(node.place.line, node.place.column, message))
        self.seen.add(id(node))
        if node.items is not None:
            return [self.plain(item, (*path, index)) for index, item in enumerate(node.items)]
        if node.pairs is None:
            return node.value
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.pairs:
            key, at = key_node.value, key_node.place
            if key_node.pairs is not None or key_node.items is not None or not isinstance(key, str):
                self.problems.append(self.source.problem_at(at.line, at.column, "a key is a single word or text"))
            elif key in mapping:
                first = self.source.keys[(*path, key)]
                message = f"`{key}` stands here a second time; the first is in line {first.line}"
                self.problems.append(self.source.problem_at(at.line, at.column, message, "keep one of them"))
            else:
                self.source.keys[(*path, key)] = at
                mapping[key] = self.plain(value_node, (*path, key))
        return mapping
