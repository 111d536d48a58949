"""Old transcripts: what is read out of them, and the job that they become."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import has_text
from runner.conversation import Inbox, Look, Participant
from runner.events import Heard, Noted, Stopped
from runner.foreign import escape
from runner.imports import CannotImport, Old, Scene, Uses, cells, job_text, scenes, taken_apart, told, uses, with_models
from runner.job import Job
from runner.plan import Plan, make_plan
from runner.render import STYLES, Links
from runner.status import Status
from tests.nights import job_of
from tests.render import talks
from tests.render.samples import ADA, BASIL, conversation, turn

FILES = Path(__file__).parent / "imports"
NOW = 1_795_000_000.0
GIVEN = {"z-ai/glm-5": "sim/ada", "GLM-4.7-Flash": "sim/basil", "Qwen3:32B": "sim/eli"}


def old(name: str, style: str | None = None) -> Old:
    """A file of the fixtures."""
    return taken_apart(f"archive/{name}", (FILES / name).read_text(encoding="utf-8"), style)


def letter(*, ask: str = "Well?", answer: str = "Well.", label: str = "USER", model: str = "z-ai/glm-5") -> str:
    """A short letter."""
    return (
        f"# Voice Conversation: {model}\n*2026-02-07 21:14:55*\n\n---\n\n**{label}:**\n\n{ask}\n\n---\n\n"
        f"**ASSISTANT:**\n\n{answer}\n\n---\n"
    )


def dialogue(*speakers: str) -> str:
    """A dialogue in which these speak in turn."""
    turns = "".join(
        f"\n### Turn {n}: {speaker} — Reply\n\nLine {n}.\n\n---\n" for n, speaker in enumerate(speakers, start=1)
    )
    return f"# Model-to-Model Dialogue: {' vs '.join(dict.fromkeys(speakers))}\n## 2026-02-09 (Night)\n\n---\n{turns}"


def planned(*olds: Old, **given: str) -> tuple[Job, Plan, list[Scene]]:
    """The job of these files, through the loader, with its plan."""
    names = {name for one in olds for side in one.sides for name in (side.label, side.model)}
    known = uses(olds, given or {name: use for name, use in GIVEN.items() if name in names})
    every, odd = scenes([with_models(one, known) for one in olds], known)
    for error in odd:
        raise error
    job = job_of(job_text("imported", "main", every, known))
    return job, make_plan(job, "2026-11-21"), every


def refusal(*olds: Old, **given: str) -> str:
    with pytest.raises(CannotImport) as refused:
        planned(*olds, **given)
    return str(refused.value)


# --- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "style", "roles", "rounds", "turns"),
    [
        ("letter.md", "letter", ("user", "assistant"), 1, 2),
        ("eight-rounds.md", "rounds", ("claude", "glm-5"), 8, 16),
        ("dialogue.md", "dialogue", ("glm-4-7-flash", "qwen3-32b"), 2, 4),
        ("titled.md", "titled-rounds", ("claude", "glm-5"), 3, 6),
    ],
)
def test_each_old_shape_is_told_by_its_look(
    name: str, style: str, roles: tuple[str, ...], rounds: int, turns: int
) -> None:
    """The style, the sides in the order in which they speak, the rounds and the turns, without a word from the user."""
    found = old(name)
    assert (found.style, found.cycle, found.rounds, len(found.read.said)) == (style, roles, rounds, turns)


def test_a_file_of_no_shape_says_so() -> None:
    """The message names the file and the styles that there are."""
    with pytest.raises(CannotImport, match=r"notes\.md: it has the shape of no style: transcript, .*letter"):
        taken_apart("notes.md", "# Some notes\n\nNothing.\n")


def test_blanks_that_an_editor_left_behind_rules_and_labels_change_nothing() -> None:
    """Old files were saved by all kinds of programs."""
    text = letter(answer="One.\n\nTwo.")
    assert (
        taken_apart("x.md", text.replace("---", "--- ").replace(":**", ":**  ")).read == taken_apart("x.md", text).read
    )


def test_a_file_without_a_turn_is_told_from_one_of_no_shape() -> None:
    """Its title is known, and nobody speaks below it."""
    head = (FILES / "eight-rounds.md").read_text(encoding="utf-8").partition("## Round 1")[0]
    with pytest.raises(CannotImport, match=r"h\.md: no turn can be found in it, though it begins like rounds; --as"):
        taken_apart("h.md", head)
    with pytest.raises(CannotImport, match=r"h\.md: no turn can be found in it$"):
        taken_apart("h.md", head, "rounds")


def test_a_named_style_that_does_not_fit_says_what_it_needs() -> None:
    """It is the style's own complaint."""
    with pytest.raises(CannotImport, match=r"^archive/letter\.md: these are no rounds"):
        old("letter.md", "rounds")


def test_a_file_that_can_be_read_in_two_ways_is_not_guessed_at() -> None:
    """`--as` settles it."""
    both = (FILES / "titled.md").read_text(encoding="utf-8").replace("Nothing that", "---\n\n**Note:**\n\nNothing that")
    with pytest.raises(CannotImport, match="can be read as titled-rounds and as letter: say which with --as"):
        taken_apart("both.md", both)
    assert len(taken_apart("both.md", both, "titled-rounds").read.said) == 6


def test_a_conversation_needs_a_first_line_and_two_sides() -> None:
    """There is nothing to answer in silence, and nobody to answer in a monologue."""
    with pytest.raises(CannotImport, match="its first turn has no text"):
        taken_apart("x.md", letter(ask=""))
    with pytest.raises(CannotImport, match="only A speaks in it"):
        taken_apart("x.md", dialogue("A", "A"))


@pytest.mark.parametrize(
    ("speakers", "cycle", "rounds"),
    [
        ("A B A B", ("a", "b"), 2),
        ("A B A", ("a", "b"), 2),
        ("A B C A B C", ("a", "b", "c"), 2),
        ("A B B A B B", ("a", "b", "b"), 2),
        ("A B B A C", ("a", "b", "b", "a", "c"), 1),
    ],
)
def test_who_speaks_when_is_a_cycle_that_is_repeated(speakers: str, cycle: tuple[str, ...], rounds: int) -> None:
    """The shortest that gives all turns; a last one may be broken off."""
    found = taken_apart("x.md", dialogue(*speakers.split()))
    assert (found.cycle, found.rounds) == (cycle, rounds)
    _, plan, _ = planned(found, **{name: "sim/ada" for name in "ABC" if name in speakers})
    lines = plan.conversation(plan.cells[0]).lines
    assert [line.role for line in lines][: len(found.read.said)] == speakers.lower().split()


# --- models ------------------------------------------------------------------------------------------------------


def test_models_are_guessed_where_their_names_tell_enough() -> None:
    """A slash is OpenRouter's, a colon Ollama's; both are told as guesses."""
    known = uses([old("letter.md"), taken_apart("d.md", dialogue("qwen3:32b", "gemma3:4b"))], {})
    assert known.given == {}
    assert known.guessed == {
        "z-ai/glm-5": "openrouter/z-ai/glm-5",
        "qwen3:32b": "ollama/qwen3:32b",
        "gemma3:4b": "ollama/gemma3:4b",
    }


def test_every_model_of_a_file_that_cannot_be_guessed_is_asked_for_at_once() -> None:
    """With the option to copy; a name that no file knows is a mistake of its own."""
    assert refusal(old("dialogue.md"), **{"Qwen3:32b": "sim/eli"}) == (
        "--use 'Qwen3:32b': no file names it; did you mean `Qwen3:32B`?"
    )
    assert refusal(old("dialogue.md"), **{"Qwen3:32B": "sim/eli"}) == (
        "archive/dialogue.md: which model is GLM-4.7-Flash? --use 'GLM-4.7-Flash=provider/model-id'"
    )
    assert refusal(taken_apart("e.md", dialogue("Ada", "Bo"))).splitlines() == [
        f"e.md: which model is {name}? --use '{name}=provider/model-id', "
        f"or where a person wrote that, --use '{name}=inbox'"
        for name in ("Ada", "Bo")
    ]
    assert refusal(old("letter.md"), **{"z-ai/glm-5": "nowhere/x"}).startswith(
        "--use 'z-ai/glm-5=nowhere/x': there is no provider nowhere; there are anthropic, "
    )
    assert refusal(old("letter.md"), **{"z-ai/glm-5": "openroutr/x"}).endswith("did you mean `openrouter`?")


def test_a_model_of_a_provider_that_only_its_own_job_knew_is_asked_for() -> None:
    """Of a transcript of ours; there is no job yet to which that provider could be added."""
    text = '---\nmodels: ["oa/aye"]\n---\n\n## 1. Host (h)\n\n> One.\n\n## 2. Aye (a)\n\n*oa/aye · 2 in*\n\n> Two.\n'
    assert refusal(taken_apart("t.md", text)) == (
        "t.md: which model is oa/aye? no provider is called oa here, as one was in its own job: "
        "--use 'oa/aye=provider/model-id'"
    )
    job, _, _ = planned(taken_apart("t.md", text), **{"oa/aye": "openrouter/x/aye"})
    assert [model.id for model in job.models.values()] == ["x/aye"]


def test_where_no_file_could_be_read_no_name_is_missed() -> None:
    """What keeps the files from being read is all there is to tell."""
    assert uses([], {"x": "sim/ada"}) == Uses({"x": "sim/ada"}, {})


def test_a_person_in_a_dialogue_becomes_an_inbox() -> None:
    """Who has no figures and is not in the title; and who is in the title, when that is said."""
    text = dialogue("Flash", "Maria", "Qwen", "Flash", "Maria", "Qwen")
    title = text.replace("Flash vs Maria vs Qwen", "Flash vs Qwen")
    models = {"Flash": "sim/basil", "Qwen": "sim/eli"}

    def sides(text: str, **more: str) -> list[str | None]:
        _, plan, _ = planned(taken_apart("d.md", text), **models, **more)
        return [side.model or None for side in plan.conversation(plan.cells[0]).participants]

    assert sides(title) == sides(text, Maria="inbox") == ["basil", None, "eli"]
    assert sides(title, Maria="sim/ada") == ["basil", "ada", "eli"]
    assert "which model is Maria?" in refusal(taken_apart("d.md", text), **models)
    counted = title.replace("Line 5.", "*(9 tokens)*\n\nLine 5.")
    assert (
        refusal(taken_apart("d.md", counted), **models) == "d.md: which model is Maria? --use 'Maria=provider/model-id'"
    )
    # A title that names nobody who speaks tells nothing of those who do.
    assert "which model is Maria?" in refusal(taken_apart("d.md", title.replace("vs Qwen", "vs Kwen")), **models)
    nobody = refusal(taken_apart("d.md", dialogue("A", "B")), A="inbox", B="inbox")
    assert nobody == "d.md: it names no model; --use 'B=provider/model-id' says whose it is"


def test_a_side_that_no_model_speaks_for_is_not_in_the_title_of_a_dialogue() -> None:
    """So a file of ours is read in without a question, whatever the names are."""
    person = Participant("p", "Maria", False, inbox=Inbox(file="inbox/maria.md"))
    sides = replace(talks.FLASH, label="A vs B"), person, talks.QWEN
    turns = [talks.line(number, side, f"Line {number}.", 1) for number, side in enumerate(sides, 1)]
    markdown = STYLES["dialogue"].render(conversation(turns, participants=sides), Links())
    found = taken_apart("d.md", markdown)
    assert cast(found) == {"A vs B": "A vs B", "Maria": None, "Qwen3:32B": "Qwen3:32B"}


def test_the_system_text_of_each_side_comes_through() -> None:
    """A transcript of ours tells whose it is; a side that becomes an inbox has none, and others make another talk."""
    one, two = (replace(side, system=f"Be {side.role}.\n\n# {{{{x}}}}") for side in (ADA, BASIL))
    t = conversation([turn(1, "x"), turn(2, "y")], participants=(one, two), opening=None, started=NOW)
    found = taken_apart("t.md", STYLES["transcript"].render(t, Links()))
    _, plan, _ = planned(found, **{"sim/ada": "sim/ada"})
    held = plan.conversation(plan.cells[0]).participants
    assert [side.system for side in held] == [one.system, two.system]
    _, plan, _ = planned(found, **{"sim/ada": "inbox"})
    assert [side.system for side in plan.conversation(plan.cells[0]).participants] == [None, two.system]
    other = replace(t, participants=(one, replace(two, system="Be still.")))
    _, plan, _ = planned(
        found, taken_apart("u.md", STYLES["transcript"].render(other, Links())), **{"sim/ada": "sim/ada"}
    )
    assert [cell.repeat for cell in plan.cells] == [1, 1]


def test_a_side_without_a_model_is_an_inbox_until_one_is_named() -> None:
    """A label can be given a model, and is then live."""
    _, by_hand, _ = planned(old("letter.md"))
    assert [side.live for side in by_hand.conversation(by_hand.cells[0]).participants] == [False, True]
    _, by_model, _ = planned(old("letter.md"), **{"z-ai/glm-5": "sim/ada", "USER": "sim/dora"})
    assert [side.model for side in by_model.conversation(by_model.cells[0]).participants] == ["dora", "ada"]


def test_a_file_that_names_no_model_says_how_to_name_one() -> None:
    """The label of its last side will do."""
    bare = taken_apart("x.md", letter(model=""))
    with pytest.raises(CannotImport, match=r"x\.md: it names no model; --use 'ASSISTANT=provider/model-id'"):
        with_models(bare, uses([bare], {}))
    _, plan, _ = planned(bare, ASSISTANT="sim/ada")
    assert len(plan.cells) == 1


# --- who is which model ------------------------------------------------------------------------------------------


def page(title: str, *said: tuple[str, str], figures: str = "", opening: bool = False) -> Old:
    """A letter with this title between those who say so, with figures beside the turns of who is named so."""
    quote = "> Begin.\n\n" if opening else ""
    turns = "".join(
        f"---\n\n**{label}:**\n\n{text}\n\n" + ("*[tokens: completion=4]*\n\n" if label in figures.split("+") else "")
        for label, text in said
    )
    return taken_apart("p.md", f"# Voice Conversation: {title}\n\n{quote}{turns}---\n")


def cast(found: Old) -> dict[str, str | None]:
    """Label to model."""
    return {side.label: side.model for side in found.sides}


@pytest.mark.parametrize(
    ("found", "models"),
    [
        (page("m/x", ("USER", "1"), ("ASSISTANT", "2")), {"USER": None, "ASSISTANT": "m/x"}),
        (page("m/x", ("ASSISTANT", "1"), ("USER", "2")), {"USER": None, "ASSISTANT": "m/x"}),
        (page("m/x", ("Assistant", "1"), ("Juli", "2")), {"Assistant": "m/x", "Juli": None}),
        (page("m/x", ("Juli", "1"), ("Friend", "2")), {"Juli": None, "Friend": "m/x"}),
        (page("m/x", ("Juli", "1"), ("Friend", "2"), figures="Juli"), {"Juli": "m/x", "Friend": None}),
        (page("m/glm-5", ("GLM 5", "1"), ("Juli", "2")), {"GLM 5": "m/glm-5", "Juli": None}),
        (page("m/x", ("One", "1"), ("Two", "2"), figures="One+Two"), {"One": "m/x", "Two": "m/x"}),
        (
            page("a/glm-5 and b/opus-4-6", ("Claude Opus 4.6", "1"), ("GLM 5", "2"), ("USER", "3")),
            {"Claude Opus 4.6": "b/opus-4-6", "GLM 5": "a/glm-5", "USER": None},
        ),
        (
            page("b/claude-opus-4-6 and a/glm-5-air", ("GLM 5", "1"), ("Opus", "2"), ("USER", "3")),
            {"GLM 5": "a/glm-5-air", "Opus": "b/claude-opus-4-6", "USER": None},
        ),
        (page("m/x", ("Juli", "1"), ("USER", "2"), opening=True), {"Juli": "m/x", "USER": None}),
    ],
)
def test_the_sides_of_a_letter_are_known_by_their_labels_and_figures(found: Old, models: dict[str, str | None]) -> None:
    """Whoever speaks first; only of a message and its answer does the order tell."""
    assert cast(found) == models


@pytest.mark.parametrize(
    "found",
    [
        page("m/x and m/y", ("Juli", "1"), ("Friend", "2")),
        page("m/x", ("Juli", "1"), ("Friend", "2"), ("Guest", "3")),
        page("m/x", ("Juli", "1"), ("Friend", "2"), opening=True),
        page("m/glm-5 and m/glm-5-air", ("glm", "1"), ("GLM", "2")),
    ],
)
def test_sides_that_only_their_order_tells_apart_are_asked_for(found: Old) -> None:
    """No model is given to a side that may be another; the labels are answers, and the others are people then."""
    first, second, *_ = (side.label for side in found.sides)
    asked = refusal(found)
    assert asked.startswith(f"p.md: which of them is {found.nobodys[0]}: {first}, {second}")
    assert "--use 'LABEL=provider/model-id' for each that is a model" in asked
    given = {first: "sim/ada", second: "sim/eli"} if len(found.nobodys) == 2 else {first: "sim/ada"}
    _, plan, _ = planned(found, **given)
    models = [side.model or None for side in plan.conversation(plan.cells[0]).participants]
    assert models[:2] == (["ada", "eli"] if len(given) == 2 else ["ada", None])


def rounds_of(title: str, *labels: str) -> Old:
    """Rounds with one turn each by who is labelled so."""
    turns = "".join(f"## Round {n}\n\n**{label}:**\nx{n}\n\n---\n\n" for n, label in enumerate(labels, 1))
    models = " and ".join(f"`{side}`" for side in title.split(" <-> ")[1:] if "/" in side)
    return taken_apart("r.md", f"# Voices Chat: {title}\n\n**Model:** {models}\n\n---\n\n{turns}")


def test_the_title_of_rounds_tells_who_is_the_model() -> None:
    """Also where the model spoke first; three sides are known by their names, in any order."""
    assert cast(rounds_of("Claude <-> z-ai/glm-5", "five", "Claude")) == {"five": "z-ai/glm-5", "Claude": None}
    three = rounds_of("Host <-> z-ai/glm-5 <-> a/claude-haiku-4.5", "haiku-4.5", "glm-5", "Host")
    assert cast(three) == {"haiku-4.5": "a/claude-haiku-4.5", "glm-5": "z-ai/glm-5", "Host": None}
    assert (
        refusal(rounds_of("Host <-> m/x <-> m/y", "fast", "slow", "Host"))
        .splitlines()[0]
        .startswith("r.md: which of them is m/x: fast, slow, Host? ")
    )


def test_the_last_lines_of_titled_rounds_tell_who_is_the_model() -> None:
    """Who signs is not; whoever began."""
    text = (FILES / "titled.md").read_text(encoding="utf-8")
    turned = text.replace("Claude's", "X's").replace("GLM 5's", "Claude's").replace("X's", "GLM 5's")
    assert cast(taken_apart("t.md", turned)) == {"Claude": None, "GLM 5": "z-ai/glm-5"}
    other = turned.replace("in dialogue with GLM 5 (", "in dialogue with Glim (")
    assert cast(taken_apart("t.md", other)) == {"Claude": None, "GLM 5": "z-ai/glm-5"}


def test_a_transcript_of_ours_tells_the_models_beside_the_turns_or_in_its_statistics() -> None:
    """A model that speaks for two roles is named once in the head."""
    head = '---\nmodels: ["sim/ada"]\n---\n\n## 1. Host (host)\n\n*given line*\n\n> One.\n\n'
    rest = "## 2. Bo (b)\n\n*sim/ada · 2 in*\n\n> Two.\n\n## 3. Cy (c)\n\n*sim/ada*\n\n> Three.\n"
    assert cast(taken_apart("t.md", head + rest)) == {"Host": None, "Bo": "sim/ada", "Cy": "sim/ada"}
    heard = head + "## 2. Bo (b)\n\n*heard from x.md, turn 2*\n\n> Two.\n\n## Statistics\n\n| Bo (b) | 0 of 1 | – |\n"
    assert cast(taken_apart("t.md", heard)) == {"Host": None, "Bo": "sim/ada"}


def test_a_side_with_figures_is_a_model_that_has_to_be_named() -> None:
    """Somebody was paid for it: it does not become an inbox unasked."""
    text = (FILES / "eight-rounds.md").read_text(encoding="utf-8")
    paid = taken_apart("p.md", text.replace("on day 1?\n", "on day 1?\n\n*[tokens: prompt=3, completion=9]*\n"))
    assert refusal(paid, **{"z-ai/glm-5": "sim/ada"}) == (
        "p.md: Claude has figures like those of a model: which is it? --use 'Claude=provider/model-id'"
    )
    _, plan, _ = planned(paid, **{"z-ai/glm-5": "sim/ada", "Claude": "sim/eli"})
    assert [side.model for side in plan.conversation(plan.cells[0]).participants] == ["eli", "ada"]


def test_a_model_that_spoke_once_and_first_has_a_round_more_to_say() -> None:
    """Its only line is given, and a job asks somebody for something; that round was never meant, and is not missing."""
    found = page("m/x", ("ASSISTANT", "Hello."), ("USER", "Hello."))
    _, plan, ((_, (read,)),) = planned(found, **{"m/x": "sim/ada"})
    assert (read.rounds, plan.conversation(plan.cells[0]).rounds) == (1, 2)
    assert list(told("c", read, NOW))[-1] == Stopped("c", "complete", "p.md ends so")


# --- the job -----------------------------------------------------------------------------------------------------


def test_the_job_has_what_the_files_say() -> None:
    """Labels, texts, rounds and looks, as the loader reads them out of the job file again."""
    job, plan, _ = planned(*map(old, ("letter.md", "eight-rounds.md", "dialogue.md", "titled.md")))
    held = {cell.prompt: plan.conversation(cell) for cell in plan.cells}
    assert {name: [p.label for p in one.participants] for name, one in held.items()} == {
        "letter": ["USER", "ASSISTANT"],
        "eight-rounds": ["Claude", "glm-5"],
        "dialogue": ["GLM-4.7-Flash", "Qwen3:32B"],
        "titled": ["Claude", "GLM 5"],
    }
    assert held["eight-rounds"].participants[1].system == "You keep a lighthouse. Answer as its keeper, briefly."
    assert held["titled"].context == "Neither side was told what the other is."
    assert held["letter"].look == Look("letter")
    assert held["dialogue"].look.texts["remark"] == "GLM-4.7-Flash ran on the GPU, Qwen3:32B mostly did not."
    assert (job.name, job.run_key, job.budget) == ("imported", "main", 1_000_000_000)
    assert set(job.models) == {"ada", "glm-5", "basil", "eli"}


def test_the_same_conversation_twice_is_a_repeat() -> None:
    """Files that begin alike, between the same sides, are told apart by their number; others by their text."""
    one, two = (taken_apart(f"{n}.md", letter(answer=f"Answer {n}.")) for n in (1, 2))
    other = taken_apart("3.md", letter(ask="And now?"))
    _, plan, every = planned(one, two, other)
    assert [(cell.prompt, cell.repeat) for cell in plan.cells] == [("1", 1), ("3", 1), ("1", 2)]
    assert {old.file for old in cells(plan, every).values()} == {"1.md", "2.md", "3.md"}
    assert len(plan.by_id) == 3


def test_repeats_that_look_different_are_not_made_one() -> None:
    """What a job could not keep apart is told, and not lost."""
    text = (FILES / "titled.md").read_text(encoding="utf-8")
    other = taken_apart("b.md", text.replace("The unlit room", "Another title"))
    assert refusal(old("titled.md"), other) == (
        "b.md: archive/titled.md is the same conversation, and looks different: read it in alone, with a --name"
    )


def test_what_files_call_their_models_stays_apart_without_its_case() -> None:
    """`GLM-5` and `glm-5` are two names in a job that takes them for one; one model under one name is one."""
    said = ("Claude <-> z-ai/glm-5", "Claude", "glm-5"), ("Claude <-> z-ai/glm-5", "GLM-5", "Claude")
    both = [replace(rounds_of(*one), file=f"{number}.md") for number, one in enumerate(said)]
    job, _, _ = planned(taken_apart("x.md", letter()), *both)
    assert {alias: model.id for alias, model in job.models.items()} == {
        "ada": "ada",
        "glm-5": "ada",
        "sim-GLM-5": "ada",
    }
    job, _, _ = planned(taken_apart("x.md", letter()), *both, **{"z-ai/glm-5": "openrouter/z-ai/glm-5"})
    assert list(job.models) == ["glm-5", "openrouter-GLM-5"]


def test_files_of_the_same_name_become_prompts_of_their_own() -> None:
    """Also where only the case differs."""
    first, second = taken_apart("a/x.md", letter()), taken_apart("b/X.md", letter(ask="Else?"))
    _, plan, _ = planned(first, second)
    assert sorted(plan.job.prompts) == ["X-2", "x"]


def test_what_can_be_edited_changes_no_conversation() -> None:
    """Labels, prices, budgets and looks are no part of an id; texts and models are."""
    known = uses([old("letter.md")], {"z-ai/glm-5": "sim/ada"})
    text = job_text("imported", "main", scenes([old("letter.md")], known)[0], known)

    def id_of(*change: str) -> str:
        return make_plan(job_of(text.replace(*change) if change else text), "2026-11-21").cells[0].id  # type: ignore[arg-type]

    for change in (
        ("label: ASSISTANT", "label: The model"),
        ("{use: sim/ada}", "{use: sim/ada, price: {input: 1, output: 2}, label: Ada}"),
        ("budget: 1", "budget: {run: 7, conversation: 0.5}"),
        ("render: letter", "render: dialogue"),
        ("inbox/", "drop/"),
    ):
        assert change[0] in text
        assert id_of(*change) == id_of()
    assert id_of("sim/ada", "sim/eli") != id_of()
    assert id_of("lighthouse", "tower") != id_of()


ODD = st.text(
    st.sampled_from("a{}b .:#-'\"\\|>&*!%@`$\n\t\u00e4\u2028\ufeff\x07\x85\U0001f600") | st.characters(codec="utf-8"),
    max_size=60,
)


def kept(text: str) -> str:
    """The text with the control characters spelled out that no job file can hold."""
    return "".join(escape(c) if c != "\n" and c != "\t" and (c < " " or c == "\x7f") else c for c in text)


@settings(max_examples=15, deadline=None)
@given(ODD, ODD, st.sampled_from(["{{name}}", "{{ a.label }}", "{{braces}}", "{{{{x}}}}", "${HOME}", ""]))
def test_any_text_comes_through_the_job_file(first: str, system: str, field: str) -> None:
    """What an old file holds is no YAML, no field and no variable; only empty lines around it are not kept."""
    begins = f"x{field}{first}".replace("\r", "")
    given_system = system.replace("\r", "")
    read = old("eight-rounds.md").read
    said = (replace(read.said[0], text=begins), *read.said[1:])
    one = replace(
        old("eight-rounds.md"),
        read=replace(read, said=said, system=given_system if has_text(given_system) else None),
    )
    _, plan, _ = planned(one)
    held = plan.conversation(plan.cells[0])
    assert held.lines[0].given == kept(begins).strip("\n")
    assert held.participants[1].system == (kept(given_system).strip("\n") if has_text(given_system) else None)


# --- what happened -----------------------------------------------------------------------------------------------


def test_each_turn_is_heard_with_what_its_file_says_of_it() -> None:
    """Text, figures, label, title, date and source; what the file does not tell stays unknown."""
    first, second, *_, note, end = told("c", old("dialogue.md"), NOW)
    assert isinstance(first, Heard) and isinstance(second, Heard)
    assert (first.usage, first.seconds, first.cost) == ({}, None, None)
    assert (second.usage, second.seconds, second.pace, second.label) == ({"output": 412}, 316.9, 1.3, "Response")
    assert second.text == "Then who is it for? Somebody who *waits*, I think."
    assert (second.source, second.when) == ("dialogue.md, turn 2", 1770595200.0)
    assert note == Noted(
        "c",
        "Observer's Notes",
        "Claude, Claude Opus 4.6",
        "They agreed too soon.\n\nWhat was left out was the moon.",
        "dialogue.md",
    )
    assert end == Stopped("c", "complete")
    titles = [event.title for event in told("c", old("titled.md"), NOW) if isinstance(event, Heard)]
    assert titles == ["A door", "The first thing", None, "Behind", None, "Leaving"]


def test_costs_and_tokens_of_a_round_are_exact() -> None:
    """Money to the last decimal that the file shows."""
    events = list(told("c", old("eight-rounds.md"), NOW))
    assert isinstance(events[1], Heard)
    assert (events[1].cost, events[1].usage) == (3_100_000, {"input": 100, "output": 41, "reasoning": 3})


def test_what_became_of_each_turn_is_told() -> None:
    """By whom it was served, at what price, after how many attempts, how it was cut; and how the last one failed."""
    line = "*[tokens: completion=4, cost=$0.5, computed=$0.6, upstream=One, attempts=2]*"
    cut = "*[cut: the reply ends at its output limit (length)]*"
    more = "**USER:**\n\nAnd?\n\n---\n\n**ASSISTANT:**\n\n"
    lost = "*[no reply after 3 attempts: error: 500: *bad*]*\n\n---\n"
    found = taken_apart("l.md", letter(answer=f"Well.\n\n{cut}\n\n{line}") + "\n" + more + lost)
    _, second, _, end = told("c", found, NOW)
    assert isinstance(second, Heard) and isinstance(end, Stopped)
    assert (second.cost, second.computed, second.upstream) == (500_000_000, 600_000_000, "One")
    assert (second.attempts, second.finish, second.stop) == (2, "truncated", "length")
    assert (end.status, end.attempts, end.error) == ("failed", 3, {"kind": "error", "message": "500: *bad*"})
    *_, end = told("c", taken_apart("l.md", letter() + "\n" + more + "*[no reply: we were: tired]*\n\n---\n"), NOW)
    assert isinstance(end, Stopped) and (end.attempts, end.error) == (None, {"message": "we were: tired"})
    *_, end = told("c", taken_apart("l.md", letter() + "\n" + more + "*[no reply after 1 attempt]*\n\n---\n"), NOW)
    assert isinstance(end, Stopped) and (end.attempts, end.error) == (1, None)


def test_a_blank_turn_is_where_a_conversation_failed() -> None:
    """Nothing is heard of it or of what follows, and the reason says which file, which turn, and what is left out."""
    *heard, end = told("c", old("eight-rounds.md"), NOW)
    assert [event.turn for event in heard if isinstance(event, Heard)] == list(range(1, 16))
    assert end == Stopped("c", "failed", "eight-rounds.md: turn 16 has no text")
    text = dialogue("A", "B", "A", "B").replace("Line 2.", "")
    *heard, end = told("c", taken_apart("a/d.md", text), NOW)
    first, note = heard
    assert isinstance(first, Heard)
    assert note == Noted("c", "Behind turn 2", None, "A:\nLine 3.\n\nB:\nLine 4.", "d.md")
    assert end == Stopped(
        "c",
        "failed",
        "d.md: turn 2 has no text; what stands behind it (2 turns) answered nothing, and is kept as a note",
    )


def test_rounds_that_were_planned_and_never_held_are_missing() -> None:
    """A file that tells of more rounds than it has tells of a conversation that is not complete."""
    text = (FILES / "eight-rounds.md").read_text(encoding="utf-8")
    short = text[: text.index("## Round 6")] + text[text.index("## Session Statistics") :]
    found = taken_apart("short.md", short)
    assert (found.rounds, len(found.said)) == (8, 10)
    assert list(told("c", found, NOW))[-1] == Stopped("c", "failed", "short.md: turn 11 is missing, of 8 rounds")


def short_of(ending: str) -> Old:
    """Five of eight rounds, with this at the foot of the file."""
    text = (FILES / "eight-rounds.md").read_text(encoding="utf-8")
    short = text[: text.index("## Round 6")] + text[text.index("## Session Statistics") :]
    return taken_apart("a/short.md", f"{short.rstrip()}\n\n{ending}\n")


@pytest.mark.parametrize(
    ("ending", "end"),
    [
        ("*[ended: after 10 of 16 turns: phrase: \\[\\[END\\]\\]]*", ("complete", "phrase: [[END]]")),
        ("*[ended: after 10 of 16 turns]*", ("complete", "short.md ends so")),
        ("*[not complete: failed, 10 of 16 turns: turn 11: timeout]*", ("failed", "turn 11: timeout")),
        ("*[not complete: failed, 10 of 16 turns]*", ("failed", "short.md says that it failed")),
        (
            "*[not complete: budget, 10 of 16 turns: run ceiling reached]*",
            ("failed", "short.md is not complete: budget: run ceiling reached"),
        ),
    ],
)
def test_what_a_file_says_of_its_end_is_kept(ending: str, end: tuple[Status, str]) -> None:
    """Ended early is complete with its reason, failed stays so with its own; what was broken off waits for nobody."""
    found = short_of(ending)
    *_, stopped = told("c", found, NOW)
    assert (found.rounds, stopped) == (8, Stopped("c", *end))


def test_an_early_end_tells_how_much_was_planned() -> None:
    """A letter of two rounds that were to be five; of turns without an order it is not told."""
    text = letter() + "\n*[ended: after 2 of 10 turns: tokens: 900 of 800]*\n"
    found = taken_apart("l.md", text)
    assert (found.rounds, list(told("c", found, NOW))[-1].reason) == (5, "tokens: 900 of 800")  # type: ignore[union-attr]
    mixed = dialogue("A", "B", "B", "A", "C") + "\n*[ended: after 5 of 8 turns: vote]*\n"
    assert taken_apart("d.md", mixed).rounds == 1


def test_a_silence_in_the_middle_is_a_failure_whatever_the_file_says() -> None:
    """An answer to nothing is none; the reason of a failure at the last turn is the file's own."""
    text = dialogue("A", "B", "A", "B").replace("Line 2.", "") + "\n*[ended: after 4 of 4 turns: vote]*\n"
    *_, end = told("c", taken_apart("d.md", text), NOW)
    assert isinstance(end, Stopped) and end.status == "failed" and "turn 2 has no text" in (end.reason or "")
    blank = (FILES / "eight-rounds.md").read_text(encoding="utf-8")
    failed = taken_apart("e.md", f"{blank.rstrip()}\n\n*[not complete: failed, 15 of 16 turns: turn 16: empty]*\n")
    assert list(told("c", failed, NOW))[-1] == Stopped("c", "failed", "turn 16: empty")


def test_the_day_of_archiving_is_the_end() -> None:
    """Titled rounds tell both days; the others tell no end."""
    events = list(told("c", old("titled.md"), NOW))
    assert isinstance(events[0], Heard) and events[0].when == 1770681600.0
    assert events[-1] == Stopped("c", "complete", when=1770768000.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            letter(label="L" * 201),
            f"x.md:6: the label {'L' * 39}… has 201 characters, and at most 200 are taken: shorten it",
        ),
        (
            dialogue("A", "B")
            .replace("Line 2.", f"*({'9' * 5000} tokens, 2.0s)*\n\nLine 2.", 1)
            .replace("Reply\n\n*(", "Reply\n*("),
            f"x.md:13: {'9' * 39}… is no figure that can be used: correct it, or take it out",
        ),
        (
            letter(answer="Well.\n\n*[tokens: completion=3, cost=$100000000000.5]*"),
            "x.md:16: $100000000000.5 is no figure that can be used: correct it, or take it out",
        ),
        (
            dialogue("A", "B").replace("2026-02-09", "0001-01-01"),
            "x.md: its date, 0001-01-01, cannot be used: correct it, or take it out",
        ),
        (
            '---\nstarted: "yesterday"\n---\n\n## 1. a\n\n> One.\n\n## 2. b\n\n> Two.\n',
            "x.md: its date, yesterday, cannot be used: correct it, or take it out",
        ),
        (
            letter() + "\n*[ended: after 2 of 90,000 turns: x]*\n",
            "x.md: it tells of 45,000 rounds, and a job has at most 10,000",
        ),
    ],
)
def test_what_no_job_and_no_journal_can_hold_is_told_with_its_line(text: str, told: str) -> None:
    """That of the file which was named, not of a job that was never written."""
    with pytest.raises(CannotImport) as refused:
        taken_apart("x.md", text)
    assert str(refused.value) == told


@pytest.mark.parametrize(("part", "hour"), [("Morning", 9), ("Afternoon", 15), ("Evening", 20), ("Night", 0)])
def test_a_part_of_the_day_stays_the_same_part(part: str, hour: int) -> None:
    """A dialogue tells no hour; the one that is taken for it is shown as that part of the day again."""
    text = (FILES / "dialogue.md").read_text(encoding="utf-8").replace("(Night)", f"({part})")
    first = next(told("c", taken_apart("d.md", text), NOW))
    assert isinstance(first, Heard) and first.when == 1770595200.0 + hour * 3600


def test_two_sides_of_one_name_are_told_apart_by_their_roles() -> None:
    """A transcript of ours names the role beside the label."""
    text = (
        '---\nmodels: ["sim/ada", "sim/eli"]\n---\n\n## 1. Twin (a)\n\n*sim/ada · 1 in*\n\n> One.\n\n'
        "## 2. Twin (b)\n\n*sim/eli · 2 in*\n\n> Two.\n"
    )
    found = taken_apart("t.md", text)
    assert [(side.role, side.label, side.model) for side in found.sides] == [
        ("a", "Twin", "sim/ada"),
        ("b", "Twin", "sim/eli"),
    ]
    _, plan, _ = planned(found, **{"sim/ada": "sim/dora"})
    assert [side.model for side in plan.conversation(plan.cells[0]).participants] == ["dora", "eli"]


def test_a_file_that_ends_within_a_round_is_complete_and_says_why() -> None:
    """It did end so; the rest of the round was never meant."""
    assert list(told("c", taken_apart("a/d.md", dialogue("A", "B", "A")), NOW))[-1] == Stopped(
        "c", "complete", "d.md ends so"
    )


def test_a_file_without_a_date_began_when_it_was_read_in() -> None:
    """The time of the import is the only one that is known."""
    undated = taken_apart("x.md", letter().replace("*2026-02-07 21:14:55*\n", ""))
    first = next(told("c", undated, NOW))
    assert isinstance(first, Heard) and first.when == NOW


# --- files that were edited, cut or mixed up ---------------------------------------------------------------------


def test_a_damaged_file_is_read_or_refused_and_never_more() -> None:
    """Lines taken out, put in and cut off, from all shapes: what is read becomes a job that the loader takes."""
    chance = Random(11)
    texts = [path.read_text(encoding="utf-8").split("\n") for path in sorted(FILES.glob("*.md"))]
    read = 0
    for _ in range(80):
        lines = list(chance.choice(texts))
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(lines))
            if chance.random() < 0.5:
                del lines[place : place + chance.randrange(1, 8)]
            else:
                lines.insert(place, chance.choice(chance.choice(texts)))
            lines = lines or [""]
        try:
            found = taken_apart("x.md", "\n".join(lines))
        except CannotImport:
            continue
        given = {side.label: "sim/ada" for side in found.sides if side.model or side.counted}
        try:
            _, plan, every = planned(found, **given or {found.sides[-1].label: "sim/ada"})
        except CannotImport:
            continue
        for id_, one in cells(plan, every).items():
            *_, end = told(id_, one, NOW)
            assert isinstance(end, Stopped)
            read += 1
    assert 20 < read < 80
