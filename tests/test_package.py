"""The package as people get it: its names, its weight, its wheel."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from zipfile import ZipFile

import pytest

import runner
from runner.cli import COMMANDS
from runner.job.schema import json_schema
from runner.providers import DIALECTS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HEAVY = ("aiohttp", "aiolimiter", "anyio", "orjson", "pydantic", "rich", "ruamel")


def python(code: str, *arguments: str) -> str:
    """What a fresh interpreter prints, warnings being errors."""
    command = [sys.executable, "-P", "-W", "error", "-c", code, *arguments]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("name", "room"), [("load", "job"), ("plan", "plan"), ("run", "run"), ("read", "outputs")])
@pytest.mark.parametrize("before", ["", "import runner.plan, runner.run; "])
def test_four_names_are_functions_whatever_was_imported_before(name: str, room: str, before: str) -> None:
    """`runner.plan` and `runner.run` never turn into the rooms of the same names."""
    code = f"{before}import runner; f = runner.{name}; print(callable(f), f.__module__)"
    callable_, home = python(code).split()
    assert callable_ == "True"
    assert home.startswith(f"runner.{room}")


def test_the_four_names_are_all() -> None:
    """What the docstring promises is what a star import brings, and other names are missing as in any module."""
    assert sorted(runner.__all__) == ["load", "plan", "read", "run"]
    with pytest.raises(AttributeError, match="module 'runner' has no attribute 'nonsense'"):
        _ = runner.nonsense
    assert import_module("runner.money").__name__ == "runner.money"
    assert runner.money.__name__ == "runner.money"


@pytest.mark.parametrize("arguments", ["--help", "--version", "run --help"])
def test_help_imports_nothing_heavy(arguments: str) -> None:
    """Help is instant because what only a run needs is imported late."""
    code = f"""
import sys
from runner.cli import main
sys.argv = ["tertulia", *{arguments.split()!r}]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("HEAVY", *sorted(set({HEAVY!r}) & sys.modules.keys()))
"""
    assert python(code).splitlines()[-1] == "HEAVY"


def test_the_wheel_holds_the_package_whole_and_nothing_else(tmp_path: Path) -> None:
    """Every file of `runner` is in it, the marker of types too; no tests, jobs or outputs; one command."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "runner", source / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "tests").mkdir()
    (source / "tests" / "test_x.py").touch()
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"tertulia-{runner.__version__}-py3-none-any.whl"
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "tertulia = runner.cli:main" in archive.read(points).decode()
    files = {p.relative_to(source).as_posix() for p in (source / "runner").rglob("*") if p.is_file()}
    assert names == files
    assert "runner/py.typed" in names


def locked(name: str) -> dict[str, str]:
    """The packages of a lock, each with its version."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    pins = [line.split()[0].split("==") for line in text.splitlines() if line[:1].isalpha()]
    return {package: version.rstrip(";") for package, version in pins}


def test_the_locks_hold_every_dependency_and_agree() -> None:
    """What is tested is what is run: each package at one version, each with its hashes, from any index."""
    run, dev = locked("run"), locked("dev")
    assert run.items() <= dev.items()
    for requirement in PROJECT["dependencies"]:
        assert requirement.split(">=")[0].replace(".", "-") in run
    for name in ("run", "dev"):
        text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
        assert "://" not in text
        assert all("--hash=sha256:" in block for block in text.split("\n    # via")[:-1])


def test_the_readme_shows_the_first_job_as_it_is() -> None:
    """What people copy from the first page is what a test runs."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert (ROOT / "jobs" / "first-talk.yaml").read_text(encoding="utf-8") in readme


def test_the_readme_lists_every_command_and_no_other() -> None:
    """The table of commands is the one that the program has."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `tertulia (\w+)", readme, re.MULTILINE)) == sorted(COMMANDS)


def test_the_page_of_providers_has_each_that_is_known_by_its_name_with_its_key() -> None:
    """Names and variables are those of the dialects."""
    page = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (?:`(\w+)`|none) \|", page, re.MULTILINE))
    assert rows == {name: (dialect.home.api_key or "").strip("${}") for name, dialect in DIALECTS.items()}


def test_the_tests_that_the_readme_names_are_run_by_the_command_beside_them() -> None:
    """Each promise names tests that are there, and none that only the slow proofs run."""
    named = re.findall(r"`(test_\w+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert len(named) > 15
    code = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("test_*.py")))
    marks = {name: above for above, name in re.findall(r"\n\n((?:@.*\n|[ \])].*\n)*)def (test_\w+)", code)}
    assert [name for name in named if "prove" in marks.get(name, "prove")] == []


def test_links_between_the_pages_lead_somewhere() -> None:
    """No page points at a file that is not there."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(links) > 3
    assert [(page.name, link) for page, link in links if not (page.parent / link).is_file()] == []


SECTIONS = {
    "Top level": ["JobFile"],
    "`budget`": ["BudgetEntry"],
    "`notify`": ["NotifyEntry"],
    "Settings": ["SettingsEntry"],
    "`reasoning`": ["ReasoningEntry"],
    "`timeout`": ["TimeoutEntry"],
    "`history`": ["HistoryEntry"],
    "`outcomes`": ["OutcomesEntry", "RuleEntry", "AcceptableRuleEntry"],
    "`providers`": ["ProviderEntry"],
    "`limits`": ["LimitsEntry"],
    "`models`": ["ModelEntry"],
    "`price`": ["PriceEntry", "TierEntry"],
    "`prompts`": ["PromptEntry"],
    "`roles`": ["RoleEntry"],
    "`inbox`": ["InboxEntry"],
    "`turns`": ["TurnEntry"],
    "`moderator`": ["ModeratorEntry"],
    "`stop`": ["StopEntry"],
    "`vote`": ["VoteEntry"],
    "`after`": ["AfterEntry"],
    "`render`": ["RenderEntry"],
    "`pairings`": ["PairingEntry", "PairingBudgetEntry"],
    "`exclude`": ["ExcludeEntry"],
    "`set`": ["SetEntry", "WhenEntry"],
}
"""The sections of docs/job-file.md, each with the entries of the schema that it describes."""


def test_the_reference_has_every_key_of_the_job_file_and_no_other() -> None:
    """The page and the JSON Schema are written apart, and cannot drift apart: section by section, key by key."""
    schema = json_schema()
    keys = {name: set(entry.get("properties", {})) for name, entry in schema["$defs"].items()}
    keys["JobFile"] = set(schema["properties"])
    settings = keys["SettingsEntry"]
    assert set(keys) == {name for names in SECTIONS.values() for name in names}
    page = (ROOT / "docs" / "job-file.md").read_text(encoding="utf-8")
    parts = dict(part.split("\n", 1) for part in re.split(r"^#{2,3} ", page, flags=re.MULTILINE)[1:])
    for heading, names in SECTIONS.items():
        known = set().union(*(keys[name] for name in names))
        if names != ["SettingsEntry"] and settings <= known:
            known -= settings
            assert "any of the [settings]" in parts[heading], heading
        assert set(re.findall(r"^\| `(\w+)` \|", parts[heading], re.MULTILINE)) == known, heading
