"""Texts in files: confined to the project, parted into turns, with front matter on top."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.job import Job, JobError, load
from runner.job.fields import template
from runner.job.texts import Written, parted, prompt_file
from runner.plan import make_plan
from tests.job.memory import read

PAIRINGS = "pairings: [{a: sim/ada, b: sim/basil}]"


def project(folder: Path, text: str) -> Path:
    (folder / ".tertulia").mkdir()
    (folder / "jobs").mkdir()
    job = folder / "jobs" / "job.yaml"
    job.write_text(text)
    return job


def message(job: Path) -> str:
    with pytest.raises(JobError) as caught:
        load(job)
    [problem] = caught.value.problems
    return problem.message


def opening_from(name: str) -> str:
    return f"prompts: {{t: {{opening: {{file: '{name}'}}, rounds: 1}}}}\n{PAIRINGS}\n"


def test_a_text_may_lie_beside_the_job_folder_but_within_the_project(tmp_path: Path) -> None:
    """The project's root is the nearest folder with a mark, and `..` up to it is fine."""
    job = project(tmp_path, opening_from("../texts/a.md"))
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.md").write_bytes(b"\xef\xbb\xbf\r\nOne\r\ntwo\r\n\r\n")
    assert load(job).prompts["t"].opening == "One\ntwo"


@pytest.mark.fault(70)
@pytest.mark.parametrize(
    "kind", ["above", "absolute", "link", "linked folder", "folder", "fifo", "device", "huge", "nul"]
)
def test_what_is_no_regular_file_of_the_project_is_refused(tmp_path: Path, kind: str) -> None:
    """No link, no device and no path leads out of the project, and nothing is read without bound."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    names = {"above": "../../outside/secret.md", "absolute": str(outside / "secret.md"), "linked folder": "d/secret.md"}
    job = project(inside, opening_from(names.get(kind, "a.md")))
    target = job.parent / "a.md"
    if kind == "link":
        target.symlink_to(outside / "secret.md")
    elif kind == "linked folder":
        (job.parent / "d").symlink_to(outside)
    elif kind == "folder":
        target.mkdir()
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "device":
        target.symlink_to("/dev/zero")
    elif kind == "huge":
        with target.open("wb") as file:
            file.truncate(4 * 1024 * 1024 + 1)
    elif kind == "nul":
        target.write_bytes(b"a\0b")
    said = message(job)
    assert "secret.md: " not in said
    expected = {
        "folder": "regular file",
        "fifo": "regular file",
        "huge": "4,194,305 bytes",
        "nul": "NUL",
        "absolute": "relative",
    }
    assert expected.get(kind, "outside the project") in said


def test_without_a_mark_the_project_is_the_folder_of_the_job(tmp_path: Path) -> None:
    """A lone job file reads beside itself and below, nothing above."""
    job = tmp_path / "lone" / "job.yaml"
    job.parent.mkdir()
    (tmp_path / "a.md").write_text("x")
    job.write_text(opening_from("../a.md"))
    assert "outside the project" in message(job)


def test_a_script_is_parted_at_lines_that_say_so() -> None:
    """A mark within a line is text; each turn keeps the line where it begins."""
    parts = parted(Written("one <!-- turn --> still one\n\n<!-- turn -->\n\ntwo\n  <!--turn-->\nthree", "f", 3))
    assert [(part.text, part.line) for part in parts] == [("one <!-- turn --> still one", 3), ("two", 7), ("three", 9)]


def test_front_matter_stands_between_two_fences() -> None:
    """What follows the second fence is the body, even a third one; a file without a fence is all body."""
    assert prompt_file("---\nrounds: 2\n---\n\nHi\n---\n", "f")[:2] == ("rounds: 2", 1)
    assert prompt_file("---\nrounds: 2\n---\n\nHi\n---\n", "f").body == Written("Hi\n---", "f", 5)
    assert prompt_file("Hi\n---\n", "f").body.text == "Hi\n---"


GLOB = """
    prompts: [prompts/*.md, prompts/talk.md]
    vars: {topic: memory}
    pairings:
      - {prompt: talk, a: sim/ada, b: sim/basil}
      - {prompt: interview, subject: sim/ada}
"""
PROMPT_FILES = {
    "prompts/talk.md": "---\nrounds: 2\nmax_tokens: 99\n---\nLet us talk of {{topic}}.\n",
    "prompts/interview.md": "---\nroles: {host: {script: body}, subject: {}}\n---\nOne?\n<!-- turn -->\nTwo?\n",
    "prompts/notes.txt": "not a prompt",
}


def test_prompts_come_from_files_and_patterns() -> None:
    """A file's name is the prompt's, its front matter the entry, its body the opening or the script."""
    job = read(GLOB, PROMPT_FILES)
    assert list(job.prompts) == ["interview", "talk"]
    assert job.prompts["talk"].opening == "Let us talk of {{topic}}."
    assert job.prompts["talk"].settings == {"max_tokens": 99}
    assert job.prompts["interview"].roles[0].script == ("One?", "Two?")
    assert job.prompts["interview"].rounds == 2
    plan = make_plan(job, "2026-11-21")
    assert [cell.name for cell in plan.cells] == ["interview/ada", "talk/ada~basil"]
    assert plan.conversation(plan.cells[1]).opening == "Let us talk of memory."


@pytest.mark.parametrize(
    ("text", "where", "fragment"),
    [
        ("---\nrounds: 2\nrouns: 3\n---\nHi", "talk.md:3:1", "unknown key `rouns`"),
        ("---\nrounds: 2\nHi", "job.yaml:2:11", "its front matter has no end"),
        ("---\nrounds: [\n---\nHi", "talk.md:", "not valid YAML"),
        ("---\nrounds: 2\n---\nHi {{x}}\n and {{nam}}", "talk.md:4:4", "the field {{x}}"),
        ("---\nrounds: 2\n---\nHi\n<!-- turn -->\nHo", "talk.md:4:1", "no role speaks it"),
        ("---\nrounds: 2\nopening: x\n---\nHi", "talk.md:5:1", "both `opening` and a text"),
        (
            "---\nroles: {a: {script: body}, b: {}}\n---\nHi\n<!-- turn -->\n",
            "talk.md:5:1",
            "turn 2 of this script is blank",
        ),
    ],
)
def test_a_mistake_in_a_prompt_file_is_told_with_its_own_line(text: str, where: str, fragment: str) -> None:
    """Lines count from the top of the prompt's file, front matter included."""
    with pytest.raises(JobError) as caught:
        read(GLOB, {**PROMPT_FILES, "prompts/talk.md": text})
    found = [p for p in caught.value.problems if fragment in p.message]
    assert len(found) == 1
    assert f"/{where}" in found[0].where


def test_two_files_of_one_name_are_a_mistake() -> None:
    """A prompt is named after its file, and names are unique."""
    with pytest.raises(JobError, match="two prompts are called `talk`"):
        read(GLOB.replace("prompts/talk.md", "more/talk.md"), {**PROMPT_FILES, "more/talk.md": "Hi"})


def opening(job: Job) -> str | None:
    plan = make_plan(job, "2026-11-21")
    return plan.conversation(plan.cells[0]).opening


@pytest.mark.fault(71)
def test_fields_are_filled_in_once() -> None:
    """What a value contains is text, even when it looks like a field; other braces stay as they are."""
    text = f"""
        vars: {{x: "{{{{y}}}} {{{{date}}}}", y: no}}
        prompts: {{t: {{opening: "{{{{x}}}}|{{{{ y }}}}|{{{{date}}}}|{{x}}|{{{{ }}}}|{{{{1}}}}", rounds: 1}}}}
        {PAIRINGS}
    """
    assert opening(read(text)) == "{{y}} {{date}}|no|2026-11-21|{x}|{{ }}|{{1}}"
    assert template("{{a}}{{b}}", {"a": "{{b}}", "b": "x"}).fixed == "{{b}}x"


def test_the_innermost_value_of_a_field_holds_and_files_can_give_it() -> None:
    """A pairing's value is stronger than a prompt's, and that stronger than the job's."""
    text = """
        vars: {x: job, y: job, z: {file: z.md}}
        prompts:
          t: {opening: "{{x}} {{y}} {{z}} {{n}} {{a.label}} {{b.model}}", rounds: 1, vars: {x: prompt, y: prompt}}
        models: {m: {use: sim/ada, label: Ada}}
        pairings: [{a: m, b: sim/some/basil, vars: {y: pairing, n: 5}}]
    """
    assert opening(read(text, {"z.md": "file\n"})) == "prompt pairing file 5 Ada some/basil"


@pytest.mark.fault(75)
def test_a_text_cannot_grow_without_bound() -> None:
    """Values are multiplied by the fields that name them, and the product has a limit."""
    text = f"prompts: {{t: {{opening: '{'{{x}}' * 100}', rounds: 1, vars: {{x: {{file: x.md}}}}}}}}\n{PAIRINGS}"
    with pytest.raises(JobError, match="more than 16,777,216 characters"):
        read(text, {"x.md": "x" * 1_000_000})
