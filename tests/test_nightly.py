"""The pages about nights say nothing that the program would refuse: every command in them is parsed."""

from __future__ import annotations

import configparser
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import click
import pytest
from ruamel.yaml import YAML

from runner.cli import COMMANDS, tertulia
from runner.cli.export import export
from runner.job.job import When
from runner.notify import End, environment
from runner.run import _WORST_FIRST
from tests.nights import TALK, job_of

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {name: (DOCS / f"{name}.md").read_text(encoding="utf-8") for name in ("after", "nightly")}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(page, language, block) for page, text in PAGES.items() for language, block in FENCE.findall(text)]
ENDS = ("&&", "||", "|", ">", ">/dev/null", "2>&1", "#", ";")


def commands(text: str) -> Iterator[list[str]]:
    """The calls of the program in a text for shells, units and schedulers: what follows `tertulia` up to its end."""
    for found in re.finditer(r"(?<![\w/.-])(?:/usr/local/bin/)?tertulia (?=[a-z])([^\n`]*)", text):
        words = []
        for word in shlex.split(found[1], comments=True):
            if word in ENDS or word.startswith((">", "2>")):
                break
            words.append(word)
        if words[0] in COMMANDS:
            yield words


def calls(page: str) -> list[list[str]]:
    """Those in the blocks of a page."""
    return [words for of, _, block in BLOCKS if of == page for words in commands(block)]


def mentions(page: str) -> list[list[str]]:
    """Those in its sentences, which may break at the end of a line and leave out what they are called with."""
    codes = [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", FENCE.sub("", PAGES[page]))]
    return [words for code in codes for words in commands(code)]


def parsed(name: str, *arguments: str) -> None:
    """Parse a call as the program would; UsageError where it would refuse it."""
    command = tertulia.get_command(click.Context(tertulia), name)
    assert command is not None
    command.make_context(name, ["csv" if word == "FORMAT" else word.replace("...", "") for word in arguments])


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_pages_is_one_that_the_program_takes(page: str) -> None:
    """Names, options and their values; what is meant to be filled in stands in capitals."""
    assert len(calls(page)) >= 4
    for words in calls(page):
        parsed(*words)
    for words in mentions(page):
        with suppress(click.MissingParameter):
            parsed(*words)


def test_a_wrong_command_would_be_found() -> None:
    """An option that is not there, in any of the shapes in which commands stand on the pages."""
    for line in (
        "15 2 * * *  cd /srv && tertulia run x.yaml --no-such >/dev/null 2>&1 || tertulia status nightly",
        "ExecStart=/usr/local/bin/tertulia run --no-such x.yaml",
        "      - run: tertulia run x.yaml --no-such",
    ):
        with pytest.raises(click.UsageError, match="--no-such"):
            parsed(*next(commands(line)))


def test_the_lines_of_the_crontab_have_five_times_and_a_command() -> None:
    """And no percent sign, which cron takes for a line break."""
    (block,) = [block for _, language, block in BLOCKS if language == "crontab"]
    lines = [line for line in block.splitlines() if line[0] in "0123456789*"]
    assert len(lines) == 3
    assert all(re.fullmatch(r"([\d*,/-]+\s+){5}cd /srv/talks && .*", line) and "%" not in line for line in lines)


def test_the_units_are_ones_that_systemd_reads() -> None:
    """Sections and keys; the grace of the run fits into the time in which it has to stop."""
    units = []
    for _, language, block in BLOCKS:
        if language == "ini":
            units.append(configparser.ConfigParser(interpolation=None, strict=True))
            units[-1].optionxform = str  # type: ignore[assignment, method-assign]
            units[-1].read_string(block)
    assert [unit.sections()[1] for unit in units] == ["Service", "Timer", "Service"]
    night, timer, watchdog = units
    assert int(night["Service"]["TimeoutStopSec"]) > 80
    assert (timer["Timer"]["Persistent"], night["Service"]["Type"]) == ("true", "oneshot")
    assert "--max-age" in watchdog["Service"]["ExecStart"]


def workflow() -> Any:
    (block,) = [block for page, language, block in BLOCKS if (page, language) == ("nightly", "yaml")]
    return YAML(typ="safe", pure=True).load(block)


def test_the_workflow_keeps_the_outputs_whatever_became_of_the_run() -> None:
    """Fetched before it, kept after it, and uploaded; and the run ends before it is killed."""
    found = workflow()
    assert found["on"]["schedule"] == [{"cron": "15 2 * * *"}]
    steps = found["jobs"]["talks"]["steps"]
    uses = [step.get("uses", "").partition("@")[0] for step in steps]
    runs = [number for number, step in enumerate(steps) if str(step.get("run")).startswith("tertulia run")]
    assert uses.index("actions/cache/restore") < runs[0] < uses.index("actions/cache/save")
    kept = [
        step for step in steps if step.get("with", {}).get("path") == "outputs" and "restore-keys" not in step["with"]
    ]
    assert len(kept) == 2
    assert all(step["if"] == "always()" for step in kept)
    assert found["jobs"]["talks"]["timeout-minutes"] > 4 * 60


def test_the_table_of_exit_codes_has_each_that_a_night_can_end_with() -> None:
    """No scheduler meets one that is not explained."""
    rows = re.findall(r"^\| ([\d, ]+) \|", PAGES["nightly"], re.MULTILINE)
    told = [int(code) for row in rows for code in row.split(",")]
    assert sorted(told) == sorted({*_WORST_FIRST, 1, 2})


def test_the_page_tells_of_every_format_every_end_and_every_variable() -> None:
    """And of none that is not there."""
    page = PAGES["after"]
    formats, notify = (part for part in re.split(r"^## ", page, flags=re.MULTILINE)[2:4])
    (choice,) = [option.type for option in export.params if option.name == "format_"]
    assert isinstance(choice, click.Choice)
    assert re.findall(r"^\| `(\w+)` \|", formats, re.MULTILINE) == list(choice.choices)
    named = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]*`) \|", notify, re.MULTILINE)))
    assert set(named) - {"when"} == set(get_args(When))
    assert set(re.findall(r"`(TERTULIA_\w+)`", notify)) == environment(End("j", "k", 0)).keys()


def test_the_example_of_notify_is_one_that_a_job_takes() -> None:
    """As it stands on the page."""
    (block,) = [block for page, language, block in BLOCKS if (page, language) == ("after", "yaml")]
    notify = job_of(TALK + block).notify
    assert notify is not None
    assert (notify.when, notify.command, notify.webhook) == (
        ("failed", "budget"),
        ("scripts/notify.sh",),
        "${SLACK_URL}",
    )
