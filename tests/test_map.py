"""The map of the rooms, in the docstring of `runner`, is the truth about what imports what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner

SOURCE = Path(runner.__file__ or "").parent
ADAPTERS = ("world.py", "cli/", "job/", "sim/server.py")
"""Where files may be touched; pyproject.toml lets the same rooms open files and read clocks."""


class MapError(Exception):
    """The docstring is no map, or its rows stand in the wrong order."""


def the_map(docstring: str) -> dict[str, frozenset[str]]:
    """The rooms of the table in their order, each with the rooms it may import."""
    rows: dict[str, list[str]] = {}
    for line in docstring.splitlines():
        if not line.startswith("|") or line.startswith(("| room", "|--")):
            continue
        room, _, imports = ([cell.strip() for cell in line.split("|")[1:]] + ["", ""])[:3]
        if room:
            rows[room.strip("`").rstrip("/")] = []
        if not rows:
            raise MapError(f"a row without a room: {line}")
        rows[[*rows][-1]] += [name for name in re.split(r"[,\s]+", imports) if name not in ("", "-")]
    above: set[str] = set()
    allowed: dict[str, frozenset[str]] = {}
    for room, names in rows.items():
        if names == ["all"]:
            names = sorted(above)
        if not above.issuperset(names):
            raise MapError(f"{room} may import {sorted(set(names) - above)}, which does not stand above it")
        allowed[room] = frozenset(names)
        above.add(room)
    return allowed


def rooms_on_disk(source: Path) -> dict[str, list[Path]]:
    """Every room with its files."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(source.rglob("*.py")):
        first = path.relative_to(source).parts[0].removesuffix(".py")
        if first not in ("__init__", "__main__"):
            rooms.setdefault(first, []).append(path)
    return rooms


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """The rooms that a file imports, each with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            raise MapError(f"{path}:{node.lineno}: a relative import hides which room it means")
        elif isinstance(node, ast.ImportFrom) and node.module == "runner":
            names = [f"runner.{alias.name}" for alias in node.names if alias.name != "__version__"]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "runner":
                yield getattr(node, "lineno", 0), rest.split(".")[0] or "runner"


def trespasses(source: Path, allowed: dict[str, frozenset[str]]) -> list[str]:
    """Every import that the map does not allow."""
    return [
        f"{path.relative_to(source)}:{line} imports {imported}, which `{room}` may not"
        for room, paths in rooms_on_disk(source).items()
        for path in paths
        for line, imported in imports(path)
        if imported != room and imported not in allowed.get(room, ())
    ]


def test_every_room_is_on_the_map_and_every_name_on_it_is_a_room() -> None:
    """A newcomer finds each room on the map, and nothing that is not there."""
    assert sorted(rooms_on_disk(SOURCE)) == sorted(the_map(runner.__doc__ or ""))


def test_no_room_imports_what_the_map_does_not_allow() -> None:
    """The table of rooms is kept by the code, import for import."""
    assert trespasses(SOURCE, the_map(runner.__doc__ or "")) == []


def test_only_the_adapters_touch_files() -> None:
    """Methods of paths that read or change the disk are for adapters: everything else goes through `world.Disk`."""
    touching = re.compile(r"\.(read_text|read_bytes|write_text|write_bytes|unlink|mkdir|rmdir|iterdir|rglob|touch)\(")
    found = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in sorted(SOURCE.rglob("*.py"))
        if not path.relative_to(SOURCE).as_posix().startswith(ADAPTERS)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if touching.search(line)
    ]
    assert found == []


MAP = """
| room  | what is in it  | may import
|-------|----------------|-----------
| `a`   | the ground     | -
| `b/`  | a folder       | a
| `c`   | two lines of   | a,
|       | table          | b
| `d`   | the door       | all
"""


@pytest.mark.parametrize(
    ("file", "line", "found"),
    [
        ("b/x.py", "from runner.a import thing", None),
        ("b/x.py", "from runner.b.y import thing", None),
        ("a.py", "from runner import __version__", None),
        ("a.py", "from runner import __version__, b", "a.py:1 imports b, which `a` may not"),
        ("c.py", "from runner.b import x", None),
        ("d.py", "import json, runner.c", None),
        ("a.py", "from runner.b import thing", "a.py:1 imports b, which `a` may not"),
        ("a.py", "import os, runner.b.x", "a.py:1 imports b, which `a` may not"),
        ("b/x.py", "def f() -> None:\n    from runner import c", "b/x.py:2 imports c, which `b` may not"),
        ("e.py", "from runner.a import thing", "e.py:1 imports a, which `e` may not"),
    ],
)
def test_a_forbidden_import_is_found_wherever_it_stands(
    tmp_path: Path, file: str, line: str, found: str | None
) -> None:
    """Plain and from, dotted and late imports are all seen."""
    (tmp_path / "b").mkdir()
    (tmp_path / file).write_text(line + "\n", encoding="utf-8")
    assert trespasses(tmp_path, the_map(MAP)) == ([found] if found else [])


def test_a_map_with_a_room_in_the_wrong_place_is_refused() -> None:
    """What a room imports stands above it, so the map has no circles."""
    with pytest.raises(MapError, match=r"b may import \['c'\]"):
        the_map(MAP.replace("a folder       | a", "a folder       | c"))
