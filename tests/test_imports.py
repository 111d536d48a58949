"""Old transcripts: what is read out of them, and the job that they become."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.call import has_text
from runner.conversation import Look
from runner.events import Heard, Noted, Stopped
from runner.foreign import escape
from runner.imports import CannotImport, Old, Scene, cells, job_text, scenes, taken_apart, told, uses
from runner.job import Job
from runner.plan import Plan, make_plan
from tests.nights import job_of

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
    every = scenes(olds, known)
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


def test_every_model_that_cannot_be_guessed_is_asked_for_at_once() -> None:
    """With the option to copy; a name that no file knows is a mistake, too."""
    told = refusal(old("dialogue.md"), taken_apart("e.md", dialogue("Ada", "Bo")), **{"Qwen3:32b": "sim/eli"})
    assert told.splitlines() == [
        "--use 'Qwen3:32b': no file names it; did you mean `Qwen3:32B`?",
        "archive/dialogue.md: which model is GLM-4.7-Flash? --use 'GLM-4.7-Flash=provider/model-id'",
        "e.md: which model is Ada? --use 'Ada=provider/model-id'",
        "e.md: which model is Bo? --use 'Bo=provider/model-id'",
    ]


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
        uses([bare], {})
    _, plan, _ = planned(bare, ASSISTANT="sim/ada")
    assert len(plan.cells) == 1


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
    assert held["titled"].look.texts["archived"] == "February 11, 2026"
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
    assert refusal(old("titled.md"), other).startswith("archive/titled.md and b.md are the same conversation, and look")


def test_files_of_the_same_name_become_prompts_of_their_own() -> None:
    """Also where only the case differs."""
    first, second = taken_apart("a/x.md", letter()), taken_apart("b/X.md", letter(ask="Else?"))
    _, plan, _ = planned(first, second)
    assert sorted(plan.job.prompts) == ["X-2", "x"]


def test_what_can_be_edited_changes_no_conversation() -> None:
    """Labels, prices, budgets and looks are no part of an id; texts and models are."""
    known = uses([old("letter.md")], {"z-ai/glm-5": "sim/ada"})
    text = job_text("imported", "main", scenes([old("letter.md")], known), known)

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
    assert (second.usage, second.seconds, second.label) == ({"output": 412}, 316.9, "Response")
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


@pytest.mark.parametrize(("part", "hour"), [("Morning", 9), ("Afternoon", 15), ("Evening", 20), ("Night", 0)])
def test_a_part_of_the_day_stays_the_same_part(part: str, hour: int) -> None:
    """A dialogue tells no hour; the one that is taken for it is shown as that part of the day again."""
    text = (FILES / "dialogue.md").read_text(encoding="utf-8").replace("(Night)", f"({part})")
    first = next(told("c", taken_apart("d.md", text), NOW))
    assert isinstance(first, Heard) and first.when == 1770595200.0 + hour * 3600


def test_two_sides_of_one_name_are_told_apart_by_their_roles() -> None:
    """A transcript of ours names the role beside the label."""
    text = '---\nmodels: ["sim/ada", "sim/eli"]\n---\n\n## 1. Twin (a)\n\n> One.\n\n## 2. Twin (b)\n\n> Two.\n'
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
        given = {side.model: "sim/ada" for side in found.sides if side.model} or {found.sides[-1].label: "sim/ada"}
        _, plan, every = planned(found, **given)
        for id_, one in cells(plan, every).items():
            *_, end = told(id_, one, NOW)
            assert isinstance(end, Stopped)
            read += 1
    assert 20 < read < 80
