"""`import`, as a shell calls it: old files become a job and a run, and every other command works on them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from runner.events import Opened
from runner.exports.columns import CONVERSATION, row
from runner.journal import FILE, LOCK_FILE, scan
from runner.render import STYLES, Links
from runner.world import RealDisk
from tests.cli.folders import Said, tertulia
from tests.render import talks

FILES = Path(__file__).parent.parent / "imports"
USE = ("--use", "z-ai/glm-5=sim/ada")
LOCAL = ("--use", "GLM-4.7-Flash=sim/basil", "--use", "Qwen3:32B=sim/eli")
ALL = ("letter.md", "eight-rounds.md", "dialogue.md", "titled.md", *USE, *LOCAL)
RUN = Path("outputs/imported/main")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the old files in it, and nothing else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TERTULIA_OUTPUTS", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for path in FILES.glob("*.md"):
        shutil.copy(path, tmp_path)
    return tmp_path


def transcript(name: str) -> str:
    return (RUN / "conversations" / f"{name}.md").read_text(encoding="utf-8")


def records() -> list[dict[str, Any]]:
    """The lines of conversations.jsonl."""
    return [json.loads(line) for line in (RUN / "conversations.jsonl").read_text(encoding="utf-8").splitlines()]


def statuses() -> dict[str, str]:
    return {record["name"]: record["status"] for record in records()}


def sound() -> bool:
    """True when every figure and every view is what the journal makes it."""
    said = tertulia("verify", "imported")
    return said.code == 0 and "sound" in said.out


# --- reading in --------------------------------------------------------------------------------------------------


def test_four_old_files_become_a_job_and_a_run_of_it() -> None:
    """One conversation each; the one with a blank reply has failed, and the command says what mends it."""
    said = tertulia("import", *ALL)
    assert said.code == 3, said.err
    assert statuses() == {
        "letter/ada": "complete",
        "eight-rounds/glm-5": "failed",
        "dialogue/basil~eli": "complete",
        "titled/ada": "complete",
    }
    assert "eight-rounds/glm-5, 15 turns, failed: eight-rounds.md: turn 16 has no text" in said.out
    assert "tertulia redo imported/main eight-rounds/glm-5" in said.out
    assert sound()
    state = scan(RealDisk(), RUN / FILE).state
    assert [closed.exit for _, closed in state.closed] == [3]
    assert state.run.held == 0
    assert not Path("outputs/ledger.jsonl").exists()


def test_what_is_shown_lies_beside_the_old_files() -> None:
    """Each transcript reads back to the turns, labels, titles, figures, notes, texts and date of its file."""
    tertulia("import", *ALL)
    for file, name, style in (
        ("letter.md", "letter/ada", "letter"),
        ("dialogue.md", "dialogue/basil~eli", "dialogue"),
        ("titled.md", "titled/ada", "titled-rounds"),
        ("eight-rounds.md", "eight-rounds/glm-5", "rounds"),
    ):
        before = STYLES[style].read(Path(file).read_text(encoding="utf-8"))
        after = STYLES[style].read(transcript(name))
        assert (after.notes, after.context, after.system, after.texts, after.date) == (
            before.notes,
            before.context,
            before.system,
            before.texts,
            before.date,
        )
        for old, new in zip(before.said, after.said, strict=True):
            assert (new.speaker, new.label, new.title, new.figures) == (old.speaker, old.label, old.title, old.figures)
            assert unheaded(new.text) == unheaded(old.text)


def unheaded(text: str | None) -> str | None:
    """The text with all headings of one level, as a style may move them."""
    return None if text is None else "\n".join(line.lstrip("#") for line in text.split("\n"))


def test_the_verbatim_texts_are_in_the_lines_for_programs() -> None:
    """With their source, and their figures as the provider's of that time."""
    tertulia("import", "eight-rounds.md", *USE)
    (record,) = records()
    turn = record["turns"][1]
    assert turn["text"] == "Day 1: nothing that I could write down.\n\nIt said it 1 times."
    assert (turn["heard"], turn["cost"], turn["tokens"]["out"]) == ("eight-rounds.md, turn 2", 0.0031, 41)
    assert (record["started"], record["ended"]) == ("2026-02-08T20:03:00.000Z", None)
    assert record["totals"]["spent"] == 0.0


def test_old_figures_have_sums_of_their_own_with_their_coverage() -> None:
    """Seven of seven costs, beside nothing spent; three of four counts; 7 of 8 rounds, and why."""
    tertulia("import", *ALL)
    rounds = transcript("eight-rounds/glm-5")
    assert "**Total cost:** $0.0238 by the file that was read in\n" in rounds
    assert "- **Rounds completed:** 7 of 8\n" in rounds
    assert "*[no reply: empty: eight-rounds.md: turn 16 has no text]*" in rounds
    assert "Total: 2246 tokens across 3 of 4 turns" in transcript("dialogue/basil~eli")
    assert tertulia("report", "imported", "--style", "transcript").code == 0
    shown = (RUN / "exports/transcript/dialogue/basil~eli.md").read_text(encoding="utf-8")
    assert "Spent on all attempts: $0.0000. 4 turns that were read in took 2,246 out (3 of 4) by their file" in shown


def test_what_an_old_talk_took_has_sums_of_its_own_for_programs() -> None:
    """In the lines and in the columns of exports; none of it is among what was spent here."""
    tertulia("import", *ALL)
    by_name = {record["name"]: record["totals"] for record in records()}
    rounds, spoken = by_name["eight-rounds/glm-5"], by_name["dialogue/basil~eli"]
    assert (rounds["read_in"]["turns"], rounds["read_in"]["turns_with_figures"]) == (7, 7)
    assert (rounds["cost"], rounds["spent"], rounds["read_in"]["cost"]) == (None, 0.0, 0.0238)
    assert (spoken["read_in"]["tokens"]["out"], spoken["read_in"]["turns_with_figures"]) == (2_246, 3)
    assert spoken["read_in"]["seconds"] > 316.9
    columns = row(CONVERSATION, next(record for record in records() if record["name"] == "dialogue/basil~eli"))
    assert (columns["read_in_turns"], columns["read_in_tokens_out"], columns["tokens_out"]) == (4, 2_246, None)


def test_how_a_turn_failed_is_shown_as_its_file_tells_it() -> None:
    """With its attempts, in this style and in another, and read in once more; a repair begins anew."""
    failed = "*[no reply after 3 attempts: empty: no text]*"
    text = Path("letter.md").read_text(encoding="utf-8")
    head = text[: text.index("**ASSISTANT:**")]
    written("failed.md", f"{head}**ASSISTANT:**\n\n{failed}\n\n\n---\n")
    assert tertulia("import", "failed.md", *USE).code == 3
    assert f"\n\n{failed}\n\n---\n" in transcript("failed/ada")
    assert records()[0]["turns"][1]["error"] == {"kind": "empty", "message": "no text"}
    assert tertulia("report", "imported", "--style", "transcript").code == 0
    shown = RUN / "exports/transcript/failed/ada.md"
    assert "> **No reply after 3 attempts.** empty: no text\n" in shown.read_text(encoding="utf-8")
    shutil.copy(shown, "again.md")
    assert tertulia("import", "again.md", "--name", "again").code == 3
    there = Path("outputs/again/main/conversations/again/ada.md").read_text(encoding="utf-8")
    assert "> **No reply after 3 attempts.** empty: no text\n" in there
    assert sound()
    assert tertulia("redo", "imported", "failed/ada").code == 0
    assert "no reply" not in transcript("failed/ada")


def test_the_figures_of_a_turn_are_shown_as_its_file_tells_them() -> None:
    """What the price list gave, the upstream, the attempts, and that it was cut: nothing of that line is lost."""
    page = STYLES["rounds"].render(talks.rounds(), Links())
    written("r.md", page.replace("Answer 6.\n", "Answer 6.\n\n*[cut: the reply ends at its output limit (length)]*\n"))
    tertulia("import", "r.md", *USE)

    def remarks(text: str) -> list[str]:
        return [line for line in text.split("\n") if line.startswith("*[")]

    assert remarks(transcript("r/glm-5")) == remarks(Path("r.md").read_text(encoding="utf-8"))
    assert records()[0]["flags"]["truncated"] == 1
    assert sound()


def test_guesses_are_told() -> None:
    """An id with a slash is taken for OpenRouter's."""
    said = tertulia("import", "letter.md")
    assert said.code == 0
    assert said.err == "guessed: z-ai/glm-5 is openrouter/z-ai/glm-5; --use says it otherwise\n"
    assert "use: openrouter/z-ai/glm-5" in Path("imported.yaml").read_text(encoding="utf-8")


# --- what keeps it from beginning --------------------------------------------------------------------------------


def nothing_written(said: Said) -> None:
    assert said.code == 2
    assert not Path("imported.yaml").exists()
    assert not Path("outputs").exists()


def odd_ones() -> tuple[str, ...]:
    """Files that cannot be read in, each for another reason."""
    Path("notes.md").write_text("# Notes\n", encoding="utf-8")
    Path("latin.md").write_bytes(b"# Voice Conversation: m\n\ncaf\xe9\n")
    Path("alone.md").write_text("# Voice Conversation: m/x\n\n---\n\n**USER:**\n\nHello?\n\n---\n", encoding="utf-8")
    Path("void.md").write_text("", encoding="utf-8")
    both = Path("letter.md").read_text(encoding="utf-8").replace("USER", "Ann").replace("ASSISTANT", "Bo")
    Path("which.md").write_text(both.replace("glm-5", "glm-5 and m/y"), encoding="utf-8")
    return "notes.md", "latin.md", "alone.md", "void.md", "which.md", "gone.md"


SHAPELESS = "it has the shape of no style: transcript, rounds, dialogue, titled-rounds, letter"
LACKS = "--as STYLE tells what it lacks for one"
ORDER = "Only the order in which they speak tells, and that may be any"
LABEL = "--use 'LABEL=provider/model-id' for each that is a model"
WHY = (
    f"notes.md: {SHAPELESS}; {LACKS}",
    "latin.md:3: it is not UTF-8: save it as UTF-8",
    "alone.md: only USER speaks in it, and a conversation has two sides",
    f"void.md: {SHAPELESS}; {LACKS}",
    "gone.md: there is no such file",
    f"which.md: which of them is z-ai/glm-5: Ann, Bo? {ORDER}: {LABEL}",
    f"which.md: which of them is m/y: Ann, Bo? {ORDER}: {LABEL}",
)


def test_an_odd_file_is_told_and_passed_over() -> None:
    """The others are read in; the exit code and the last line say that some were not."""
    said = tertulia("import", *odd_ones()[:3], "letter.md", *odd_ones()[3:], "titled.md", *USE)
    assert said.code == 3
    assert said.err.splitlines() == [f"passed over: {line}" for line in WHY]
    assert said.out.splitlines()[-1] == "imported/main: 2 conversations read in, 0 failed, 6 files passed over"
    assert statuses() == {"letter/ada": "complete", "titled/ada": "complete"}
    assert sound()
    again = tertulia("import", *odd_ones(), "letter.md", "titled.md", *USE)
    assert (again.code, again.out) == (
        3,
        "imported/main: nothing to do, all of it was read in before, 6 files passed over\n",
    )


def test_where_no_file_can_be_read_in_all_is_told_in_one_go() -> None:
    """And nothing is written; a model that no file names is told with the rest."""
    said = tertulia("import", *odd_ones())
    nothing_written(said)
    assert said.err.splitlines() == ["nothing was read in:", *(f"  {line}" for line in WHY)]
    said = tertulia("import", "letter.md", "notes.md", "--use", "glm=sim/ada")
    nothing_written(said)
    assert said.err.splitlines()[1:] == [
        f"  {WHY[0]}",
        "  --use 'glm': no file names it; they name USER, z-ai/glm-5, ASSISTANT",
    ]


def test_a_mended_file_joins_those_that_were_read_in_before() -> None:
    """The same command again adds it: the job file that an import wrote grows as long as nobody has edited it."""
    odd_ones()
    assert tertulia("import", "alone.md", "letter.md", "titled.md", *USE).code == 3
    assert tertulia("redo", "imported", "letter/ada", "--turn", "2").code == 0
    shutil.copy("letter.md", "alone.md")
    Path("alone.md").write_text(Path("letter.md").read_text(encoding="utf-8").replace("ships", "boats"), "utf-8")
    said = tertulia("import", "alone.md", "letter.md", "titled.md", "eight-rounds.md", *USE)
    assert (said.code, said.err) == (3, "")
    assert said.out.splitlines()[-1] == "imported/main: 4 conversations read in, 1 failed"
    assert statuses() == {
        "alone/ada": "complete",
        "letter/ada": "complete",
        "titled/ada": "complete",
        "eight-rounds/glm-5": "failed",
    }
    assert Path("imported.yaml").read_text(encoding="utf-8").startswith("# Read in from 4 files:")
    assert tertulia("run", "imported.yaml").code == 3
    assert sound()


def test_a_file_of_which_no_job_can_be_made_is_passed_over_like_others() -> None:
    """Its own words are in the way, or the model given for it: no line is told of a job that nobody has seen."""
    text = Path("letter.md").read_text(encoding="utf-8")
    Path("var.md").write_text(text.replace("USER", "${HOME}"), encoding="utf-8")
    said = tertulia("import", "var.md", "letter.md", *USE)
    assert (said.code, statuses()) == (3, {"letter/ada": "complete"})
    assert said.err.startswith("passed over: var.md: no job can be made of it: variables of the environment stand in ")
    assert "yaml" not in said.err
    said = tertulia("import", "var.md", *USE, "--name", "other")
    assert (said.code, said.err.splitlines()[0]) == (2, "nothing was read in:")
    assert said.err.splitlines()[1].startswith("  var.md: no job can be made of it: ")


def test_a_job_file_that_was_edited_does_not_grow() -> None:
    """What somebody wrote into it is not lost."""
    tertulia("import", "letter.md", *USE)
    job = Path("imported.yaml")
    job.write_text(job.read_text(encoding="utf-8").replace("budget: 1", "budget: 7"), encoding="utf-8")
    before = job.read_bytes()
    said = tertulia("import", "letter.md", "titled.md", *USE)
    assert (said.code, "is another job: choose another --name or --job" in said.err) == (2, True)
    assert job.read_bytes() == before


def test_a_job_grows_only_where_its_models_keep_their_names() -> None:
    """What the run has asked them stands under these; a file that comes behind takes another."""
    tertulia("import", "letter.md")
    text = Path("letter.md").read_text(encoding="utf-8").replace("z-ai/", "other/")
    Path("a.md").write_text(text.replace("ships", "boats"), encoding="utf-8")
    assert tertulia("import", "a.md", "letter.md").code == 2
    assert tertulia("import", "letter.md", "a.md").code == 0
    assert set(statuses()) == {"letter/glm-5", "a/openrouter-glm-5"}


def test_no_guess_is_told_of_a_file_that_is_passed_over() -> None:
    """It is made again when the file is read in."""
    text = Path("dialogue.md").read_text(encoding="utf-8").replace("Qwen3:32B", "qwen3:32b")
    Path("half.md").write_text(text, encoding="utf-8")
    said = tertulia("import", "half.md", "letter.md", *USE)
    assert (said.code, "which model is GLM-4.7-Flash" in said.err, "guessed" in said.err) == (3, True, False)


def test_what_waits_in_the_run_still_waits_after_a_further_import() -> None:
    """With its reason, and with the transcript of what was said so far."""
    tertulia("import", "titled.md", *USE)
    tertulia("extend", "imported", "titled/ada", "--rounds", "1")
    assert tertulia("import", "titled.md", "letter.md", *USE).code == 0
    waiting = next(record for record in records() if record["name"] == "titled/ada.extend1")
    assert (waiting["status"], "inbox/titled/ada.extend1.claude.md is not there" in waiting["reason"]) == (
        "pending",
        True,
    )
    assert sound()


def test_a_growth_that_broke_off_is_completed() -> None:
    """Its job file is there, and its lines are not."""
    tertulia("import", "letter.md", *USE)
    with patch("runner.imports.told", side_effect=KeyboardInterrupt), pytest.raises(BaseExceptionGroup):
        tertulia("import", "letter.md", "titled.md", *USE)
    assert "titled" in Path("imported.yaml").read_text(encoding="utf-8")
    said = tertulia("import", "letter.md", "titled.md", *USE)
    assert (said.code, set(statuses())) == (0, {"letter/ada", "titled/ada"}), said.err
    assert sound()


def test_a_file_that_was_changed_since_is_not_passed_off_as_what_was_read_in() -> None:
    """It is told, and what was read in stays."""
    tertulia("import", "letter.md", "titled.md", *USE)
    path = Path("letter.md")
    path.write_text(path.read_text(encoding="utf-8").replace("a list", "a longer list"), encoding="utf-8")
    said = tertulia("import", "letter.md", "titled.md", *USE)
    why = "the file was changed since, or takes the place of another; read it in with a --name of its own"
    assert (said.code, said.err) == (3, f"passed over: letter.md: letter/ada has other words in the run: {why}\n")
    assert "a longer list" not in transcript("letter/ada")
    path.write_text(path.read_text(encoding="utf-8").replace("a longer list", "the longest list"), encoding="utf-8")
    said = tertulia("import", "letter.md", "titled.md", "eight-rounds.md", *USE)
    shown = [line.split(" (")[0] for line in said.out.splitlines() if line.startswith("  ") and ".md (" in line]
    assert shown == ["  titled.md", "  eight-rounds.md"]
    assert said.out.splitlines()[-1] == "imported/main: 2 conversations read in, 1 failed, 1 file passed over"


def test_a_model_that_nobody_can_guess_is_asked_for() -> None:
    """With the option to copy."""
    said = tertulia("import", "dialogue.md", "--use", "Qwen3:32B=sim/eli")
    nothing_written(said)
    assert "which model is GLM-4.7-Flash? --use 'GLM-4.7-Flash=provider/model-id'" in said.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--as", "rouds"), "did you mean `rounds`?"),
        (("--use", "ada"), "ada is neither 'NAME=provider/model-id' nor 'NAME=inbox'"),
        (("--use", "GLM=inbox/"), "is neither 'NAME=provider/model-id' nor 'NAME=inbox'"),
        (("--use", "z-ai/glm-5=nowhere/x"), "there is no provider nowhere; there are anthropic, "),
        (("--run", "a b"), "try a-b"),
        (("--name", "../up"), "'../up' is no name for a folder"),
    ],
)
def test_mistakes_on_the_command_line_say_what_to_write(options: tuple[str, ...], told: str) -> None:
    """What, and how it is meant."""
    said = tertulia("import", "letter.md", *USE, *options)
    nothing_written(said)
    assert told in said.err


def test_what_no_job_file_can_hold_is_refused() -> None:
    """The remedy is to read it in in parts."""
    with patch("runner.job.source.MOST_BYTES", 500):
        said = tertulia("import", "letter.md", *USE)
    nothing_written(said)
    assert "at most 500 are read; read them in in parts, each with a --name" in said.err


def test_another_job_is_never_written_over() -> None:
    """Neither its file nor its run; another name has room."""
    tertulia("import", "letter.md", *USE)
    before = Path("imported.yaml").read_bytes(), (RUN / FILE).read_bytes()
    said = tertulia("import", "titled.md", *USE)
    assert (said.code, "is another job: choose another --name or --job" in said.err) == (2, True)
    said = tertulia("import", "titled.md", *USE, "--job", "elsewhere.yaml")
    assert (said.code, "choose another --name or --run" in said.err) == (2, True)
    assert not Path("elsewhere.yaml").exists()
    assert (Path("imported.yaml").read_bytes(), (RUN / FILE).read_bytes()) == before
    assert tertulia("import", "titled.md", *USE, "--name", "other").code == 0


def test_a_run_that_is_held_is_left_alone() -> None:
    """Exit code 7, and who holds it."""
    tertulia("import", "letter.md", *USE)
    lock = RealDisk().lock(RUN / LOCK_FILE, json.dumps({"pid": 1, "host": "elsewhere", "since": "now"}))
    try:
        said = tertulia("import", "letter.md", *USE)
    finally:
        lock.release()
    assert (said.code, "held by" in said.err) == (7, True)


# --- once more ---------------------------------------------------------------------------------------------------


def test_the_same_import_again_does_nothing() -> None:
    """Also after labels, prices and the budget were edited: what was read in does not hang on them."""
    tertulia("import", *ALL)
    before = (RUN / FILE).read_bytes()
    job = Path("imported.yaml")
    text = (
        job.read_text(encoding="utf-8")
        .replace("label: ASSISTANT", "label: The model")
        .replace("budget: 1", "budget: 7")
    )
    job.write_text(text.replace("{use: sim/ada}", "{use: sim/ada, price: {input: 3, output: 9}}"), encoding="utf-8")
    said = tertulia("import", *ALL)
    assert (said.code, said.out) == (3, "imported/main: nothing to do, all of it was read in before\n")
    assert (RUN / FILE).read_bytes() == before
    assert tertulia("run", "imported.yaml").code == 3  # the one that failed
    assert "**The model:**" in transcript("letter/ada")
    assert sound()


def test_an_import_that_broke_off_is_completed() -> None:
    """What stands in the journal is not heard twice."""
    tertulia("import", "dialogue.md", "letter.md", *USE, *LOCAL)
    whole = (RUN / FILE).read_bytes()
    lines = whole.splitlines(keepends=True)
    (RUN / FILE).write_bytes(b"".join(lines[:6]))  # the life, a dialogue and its notes, without its end
    said = tertulia("import", "dialogue.md", "letter.md", *USE, *LOCAL)
    assert (said.code, set(statuses().values())) == (0, {"complete"}), said.err
    state = scan(RealDisk(), RUN / FILE).state
    assert (state.lives, [len(one.noted) for one in state.cells.values()]) == (2, [1, 0])
    assert sound()


# --- as it was ---------------------------------------------------------------------------------------------------


def written(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def test_how_a_file_ended_is_how_its_transcript_ends() -> None:
    """Ended early is complete and says why; failed stays failed with its reason, and one command mends it."""
    text = Path("eight-rounds.md").read_text(encoding="utf-8")
    foot = text[text.index("## Session Statistics") :].rstrip()
    short = text[: text.index("## Round 6")]
    early = "*[ended: after 10 of 16 turns: repetition 0.71 of 0.6]*\n"
    failed = "*[not complete: failed, 10 of 16 turns: turn 11: timeout]*\n"
    written("early.md", f"{short}{foot}\n\n{early}")
    written("failed.md", f"{short.replace('Question 1:', 'A question:')}{foot}\n\n{failed}")
    said = tertulia("import", "early.md", "failed.md", *USE)
    assert said.code == 3
    assert transcript("early/glm-5").endswith(f"\n\n{early}")
    assert transcript("failed/glm-5").endswith(f"\n\n{failed}")
    assert [record["status"] for record in records()] == ["complete", "failed"]
    assert json.loads((RUN / "status.json").read_text(encoding="utf-8"))["stopped_early"] == 1
    assert tertulia("redo", "imported", "failed/*").code != 2
    assert tertulia("extend", "imported", "early/*", "--rounds", "1").code == 3  # waits for a line of the other side
    assert sound()


def test_the_dates_and_the_pace_of_an_old_file_are_shown_again() -> None:
    """The day of archiving where it is that of the talk, and a pace that its tokens and seconds would not give."""
    text = Path("titled.md").read_text(encoding="utf-8")
    written("titled.md", text.replace("February 11, 2026", "February 10, 2026"))
    spoken = Path("dialogue.md").read_text(encoding="utf-8")
    own = spoken.replace("40.5s)", "40.5s, first byte after 3.1s)").replace("38.2 tok/s", "41.9 tok/s")
    written("dialogue.md", own.replace("1.3 tok/s", "2.7 tok/s"))
    tertulia("import", "titled.md", "dialogue.md", *USE, *LOCAL)
    assert "\n*February 10, 2026*\n" in transcript("titled/ada")
    assert "\n*Archived February 10, 2026*\n" in transcript("titled/ada")
    assert "*(412 tokens, 2.7 tok/s, 316.9s)*" in transcript("dialogue/basil~eli")
    assert "*(1546 tokens, 41.9 tok/s, 40.5s, first byte after 3.1s)*" in transcript("dialogue/basil~eli")
    by_name = {record["name"]: record for record in records()}
    assert by_name["titled/ada"]["ended"] == "2026-02-10T00:00:00.000Z"
    assert tertulia("report", "imported", "--style", "transcript").code == 0
    shown = (RUN / "exports/transcript/titled/ada.md").read_text(encoding="utf-8")
    assert 'started: "2026-02-10T00:00:00Z"' in shown and "duration_s" not in shown
    assert sound()


def test_what_mends_an_old_talk_keeps_its_date() -> None:
    """A redo, and a redo of that; what only goes on with it began when it did so."""
    tertulia("import", "letter.md", *USE)
    for _ in range(2):
        assert tertulia("redo", "imported", "letter/*", "--turn", "2").code == 0
    assert "*2026-02-07 21:14:55*\n" in transcript("letter/ada")
    (record,) = records()
    assert record["origin"]["kind"] == "redo"
    assert (record["started"], record["ended"] > "2026-02-08") == ("2026-02-07T21:14:55.000Z", True)
    assert tertulia("fork", "imported", "letter/*", "--at", "1").code == 0
    assert "*2026-02-07" not in transcript("letter/ada.fork1")
    assert sound()


def test_a_system_text_of_several_lines_comes_through_and_is_shown_so() -> None:
    """As old files have it, line below line, and as ours have it, quoted."""
    text = Path("eight-rounds.md").read_text(encoding="utf-8")
    lines = "You keep a lighthouse.\n\n- Answer as its keeper.\n- Briefly."
    one = "You keep a lighthouse. Answer as its keeper, briefly."
    written("raw.md", text.replace(one, lines))
    tertulia("import", "raw.md", *USE)
    quote = "**System prompt:**\n> You keep a lighthouse.\n>\n> - Answer as its keeper.\n> - Briefly.\n\n---\n"
    assert quote in transcript("raw/glm-5")
    shutil.copy(RUN / "conversations/raw/glm-5.md", "quoted.md")
    for file in ("raw.md", "quoted.md"):
        assert STYLES["rounds"].read(Path(file).read_text(encoding="utf-8")).system == lines


# --- going on ----------------------------------------------------------------------------------------------------


def test_a_run_of_what_is_complete_has_nothing_to_do() -> None:
    """No call, exit code 0."""
    tertulia("import", "letter.md", "titled.md", *USE)
    said = tertulia("run", "imported.yaml")
    assert (said.code, "nothing to do, complete since" in said.err) == (0, True)


def test_redo_says_the_blank_turn_again_and_completes_the_eight_rounds() -> None:
    """One call; the seven good rounds are carried over, and the money is that of the one."""
    tertulia("import", "eight-rounds.md", *USE)
    assert tertulia("redo", "imported", "eight-rounds/glm-5").code == 0
    (record,) = records()
    assert (record["status"], record["rounds"]) == ("complete", {"planned": 8, "done": 8})
    assert [turn["carried"] for turn in record["turns"]] == [True] * 15 + [False]
    assert record["totals"]["spent"] == record["turns"][-1]["cost"] > 0
    assert sound()
    assert tertulia("import", "eight-rounds.md", *USE).code == 0


def test_retry_failed_takes_the_blank_turn_up_in_its_place() -> None:
    """The conversation began when the file says, and ended now."""
    tertulia("import", "eight-rounds.md", *USE)
    assert tertulia("run", "imported.yaml", "--retry-failed").code == 0
    (record,) = records()
    assert (record["status"], record["started"]) == ("complete", "2026-02-08T20:03:00.000Z")
    assert record["ended"] > record["started"]
    assert sound()


def test_a_conversation_is_gone_on_with_by_hand() -> None:
    """`extend` waits for the side without a model; its drop-box holds what is new, and nothing of what was read in."""
    tertulia("import", "titled.md", *USE)
    waits = tertulia("extend", "imported", "titled/ada", "--rounds", "1")
    assert (waits.code, "inbox/titled/ada.extend1.claude.md is not there" in waits.err) == (3, True)
    box = Path("inbox/titled/ada.extend1.claude.md")
    box.parent.mkdir(parents=True)
    box.write_text("And in the fourth round?\n", encoding="utf-8")
    assert tertulia("run", "imported.yaml").code == 0
    said = STYLES["titled-rounds"].read(transcript("titled/ada.extend1")).said
    assert (said[6].speaker, said[6].text) == ("Claude", "And in the fourth round?")
    assert [turn.label for turn in said[4:6]] == ["Final Transmission", "Closing Transmission"]  # as they were then
    assert sound()


def test_a_redo_names_the_lines_by_hand_that_it_waits_for_again() -> None:
    """What stands behind the turn came out of the file, and no drop-box has it; when it is there all is complete."""
    tertulia("import", "titled.md", *USE)
    redone = tertulia("redo", "imported", "titled/ada", "--turn", "2")
    box = Path("inbox/titled/ada.claude.md")
    assert (redone.code, statuses()) == (3, {"titled/ada": "pending"})
    assert (
        f"titled/ada: turns 3, 5 of claude are not taken over but waited for in {box}; "
        "titled/ada.old1 has what was said there"
    ) in redone.err.splitlines()
    box.parent.mkdir(parents=True)
    box.write_text("Third.\n\n<!-- turn -->\n\nFifth.\n", encoding="utf-8")
    assert tertulia("run", "imported.yaml").code == 0
    same = tertulia("redo", "imported", "titled/ada", "--turn", "4")
    assert (same.code, "not taken over" in same.err) == (0, False), "its own drop-box has them"
    other = tertulia("fork", "imported", "titled/ada", "--at", "4")
    assert "titled/ada.fork1: turn 5 of claude is not taken over but waited for in inbox/titled/ada.fork1." in other.err
    assert sound()


def test_fork_and_observe_work_on_what_was_read_in() -> None:
    """Another model from the second turn on; notes by a model of the job, beside those of the file."""
    tertulia("import", "dialogue.md", "titled.md", *USE, *LOCAL)
    forked = tertulia("fork", "imported", "dialogue/*", "--at", "3", "--model", "qwen3-32b=ada")
    assert forked.code == 0, forked.err
    asked = tertulia("observe", "imported", "dialogue/basil~eli", "--observer", "ada", "--prompt", "What was it about?")
    assert asked.code == 0, asked.err
    notes = STYLES["dialogue"].read(transcript("dialogue/basil~eli")).notes
    assert [note.observer for note in notes] == ["ada", "Claude, Claude Opus 4.6"]
    assert statuses()["dialogue/basil~eli.fork1"] == "complete"
    assert sound()


def test_compare_export_report_and_spend_read_it() -> None:
    """It is a run like any other, and has cost nothing."""
    tertulia("import", "letter.md", "titled.md", *USE)
    tertulia("import", "letter.md", "titled.md", *USE, "--name", "again")
    compared = tertulia("compare", "imported", "again")
    assert (compared.code, "2 same" in compared.out) == (0, True)
    assert tertulia("export", "imported", "--format", "openai").code == 0
    before = {path: path.read_bytes() for path in RUN.rglob("*") if path.suffix in (".md", ".jsonl")}
    assert tertulia("report", "imported").code == 0
    assert {path: path.read_bytes() for path in before} == before
    assert "$" not in tertulia("spend").out.replace("$0.0000", "")


def test_other_settings_are_refused_and_not_bought_unasked() -> None:
    """A temperature makes another conversation: `run` says so, and what was read in stays."""
    tertulia("import", "letter.md", *USE)
    job = Path("imported.yaml")
    job.write_text(job.read_text(encoding="utf-8") + "defaults: {temperature: 0.2}\n", encoding="utf-8")
    said = tertulia("run", "imported.yaml")
    assert (said.code, "would be bought again" in said.err) == (2, True)
    assert statuses() == {"letter/ada": "complete"}


def test_the_journal_says_where_its_job_is() -> None:
    """So that a command about the run finds it, wherever it was written."""
    tertulia("import", "letter.md", *USE, "--job", "jobs/old.yaml", "--run", "archive", "--name", "letters")
    state = scan(RealDisk(), Path("outputs/letters/archive") / FILE).state
    ((_, opened),) = state.opened
    assert isinstance(opened, Opened)
    assert (opened.options["file"], opened.run, opened.key) == ("jobs/old.yaml", "letters", "archive")
    assert tertulia("run", "jobs/old.yaml").code == 0
