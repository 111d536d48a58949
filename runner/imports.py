"""Old transcripts: who spoke in them, what was said, and the job of which they are a run.

Each file's conversation becomes a prompt of its own: its sides are roles, and what the first of them said first is
given, so that there is something to answer, and two conversations that began otherwise are not taken for one. Files
that tell of the same conversation held again are its repeats. The other lines are no part of the job: they stand in the
journal, as heard, with what the file says of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple, get_args

from runner.call import Kind, has_text
from runner.events import Heard, Noted, Stopped
from runner.foreign import escape, one_line
from runner.job.endpoint import WELL_KNOWN
from runner.job.fields import FIELD
from runner.job.naming import short, slug
from runner.job.problem import did_you_mean, listed
from runner.job.schema import RESERVED_ROLES
from runner.job.section import NAME
from runner.plan import Cell, Plan
from runner.render import DEFAULT, STYLES, ReadBack
from runner.render.figures import counted
from runner.render.markdown import plain
from runner.render.style import Ending, Figures, Said


class CannotImport(Exception):
    """What keeps a file from being read in, in one or more lines."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Side:
    """One who speaks in a file."""

    role: str
    label: str
    model: str | None
    """As the file names it; None for a side that it names no model of."""
    counted: bool = False
    """True where figures stand beside its turns, so that it is a model whatever else is known."""
    system: str | None = None
    """What it alone was told, where the file says whose that is."""


@dataclass(frozen=True, slots=True)
class Old:
    """A transcript that was read."""

    file: str
    style: str
    read: ReadBack
    sides: tuple[Side, ...]
    cycle: tuple[str, ...]
    """The roles of one cycle of its turns."""
    rounds: int
    date: str | None
    room: int = 0
    """Rounds beyond these that nobody has meant, so that there is something to ask a model for."""
    nobodys: tuple[str, ...] = ()
    """The models of which the file does not tell who they are."""

    @property
    def begins(self) -> str:
        """The first line of all."""
        text = self.read.said[0].text
        assert text is not None
        return text

    @property
    def name(self) -> str:
        """The file without its folders."""
        return self.file.replace("\\", "/").rpartition("/")[2]

    @property
    def said(self) -> tuple[Said, ...]:
        """The turns up to the first that has no text."""
        silent = next((index for index, said in enumerate(self.read.said) if not has_text(said.text)), None)
        return self.read.said[:silent]

    @property
    def behind(self) -> tuple[Said, ...]:
        """The turns that answered a silence; none where nothing was said any more."""
        rest = self.read.said[len(self.said) + 1 :]
        return rest if any(has_text(said.text) for said in rest) else ()


# --- reading -----------------------------------------------------------------------------------------------------


def taken_apart(file: str, markdown: str, style: str | None = None) -> Old:
    """What a file holds, in the style that it has or in the one that is named; CannotImport where that cannot be."""
    fitting: dict[str, ReadBack] = {}
    whys: list[str] = []
    silent: list[str] = []
    for name in STYLES if style is None else (style,):
        try:
            read = STYLES[name].read(markdown)
        except ValueError as error:
            whys.append(str(error))
            continue
        if read.said:
            fitting[name] = read
        elif name != DEFAULT:  # which has no title to know it by
            silent.append(name)
    if not fitting:
        why = next(iter(whys), "no turn can be found in it")
        if style is None:
            why = f"it has the shape of no style: {', '.join(STYLES)}"
            if silent:
                why = f"no turn can be found in it, though it begins like {' and like '.join(silent)}"
            why += "; --as STYLE tells what it lacks for one"
        raise CannotImport(f"{file}: {why}")
    if len(fitting) > 1:
        raise CannotImport(f"{file}: it can be read as {' and as '.join(fitting)}: say which with --as")
    (name, read), *_ = fitting.items()
    return _old(file, name, read, markdown)


def _old(file: str, style: str, read: ReadBack, markdown: str) -> Old:
    if not has_text(read.said[0].text):
        raise CannotImport(f"{file}: its first turn has no text, so there is nothing to go on with")
    speakers = {_who(said): said.speaker for said in read.said}
    if len(speakers) < 2:
        only = one_line(read.said[0].speaker, _LONGEST_SHOWN)
        raise CannotImport(f"{file}: only {only} speaks in it, and a conversation has two sides")
    _check(file, read, markdown)
    roles = _roles(list(speakers))
    models, nobodys = _models(style, read, speakers)
    figured = {_who(said) for said in read.said if _is_counted(said.figures)}
    spoken = [roles[_who(said)] for said in read.said]
    length = next(n for n in range(1, len(spoken) + 1) if all(a == b for a, b in zip(spoken, spoken[n:], strict=False)))
    rounds = -(-len(spoken) // length)
    if length == len(speakers):
        turns = 0 if read.ending is None else read.ending.turns or 0
        rounds = max(rounds, _planned(style, markdown), -(-turns // length))
    if max(rounds, length) > _MOST_ROUNDS:
        raise CannotImport(
            f"{file}: it tells of {max(rounds, length):,} rounds, and a job has at most {_MOST_ROUNDS:,}"
        )
    return Old(
        file=file,
        style=style,
        read=read,
        sides=tuple(
            Side(roles[who], label, models.get(who), who in figured, read.systems.get(who))
            for who, label in speakers.items()
        ),
        cycle=tuple(spoken[:length]),
        rounds=rounds,
        date=_dated(style, read, markdown),
        nobodys=nobodys,
    )


_LONGEST_SHOWN: Final = 40
_LONGEST_LABEL: Final = 200
_MOST_ROUNDS: Final = 10_000
_YEARS: Final = range(1900, 2200)


def _check(file: str, read: ReadBack, markdown: str) -> None:
    """CannotImport with each label, figure and date that cannot be used, and its line."""
    problems: list[str] = []
    for label in dict.fromkeys(said.speaker for said in read.said):
        if (length := len(_shown(label))) > _LONGEST_LABEL:
            what = f"the label {one_line(label, _LONGEST_SHOWN)} has {length:,} characters"
            problems.append(
                f"{_place(file, markdown, label)}: {what}, and at most {_LONGEST_LABEL} are taken: shorten it"
            )
    for shown in dict.fromkeys(shown for said in read.said for shown in said.figures.odd):
        what = f"{one_line(shown, _LONGEST_SHOWN)} is no figure that can be used"
        problems.append(f"{_place(file, markdown, shown)}: {what}: correct it, or take it out")
    for date in (read.date, read.ended):
        if date is not None and not _is_usable(date):
            shown = one_line(date, _LONGEST_SHOWN)
            problems.append(f"{file}: its date, {shown}, cannot be used: correct it, or take it out")
    if problems:
        raise CannotImport(*problems)


def _is_usable(date: str) -> bool:
    try:
        return datetime.fromisoformat(date).year in _YEARS
    except ValueError:
        return False


def _place(file: str, markdown: str, words: str) -> str:
    """The file and the first line below its title in which these words stand."""
    lines = enumerate(markdown.split("\n")[1:], start=2)
    found = next((number for number, line in lines if words in line or words in plain(line)), None)
    return file if found is None else f"{file}:{found}"


def _who(said: Said) -> str:
    """What tells a side from the others: its role where the file has one, else what it is called."""
    return said.role or said.speaker


# --- who is which model ------------------------------------------------------------------------------------------

_IN_BRACKETS: Final = re.compile(r" \([^()]*\)$")
_MODELS: Final = frozenset({"assistant", "model", "ai"})
_PEOPLE: Final = frozenset({"user", "human"})


def _models(style: str, read: ReadBack, speakers: Mapping[str, str]) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """What each side's model is called in the file, and the models that could be either of several sides.

    The order in which the sides speak tells nothing: it may have been random, or a moderator's. Only the two sides of
    a letter without an opening are a message and its answer.
    """
    if style == "dialogue":
        return {who: label for who, label in speakers.items() if label not in read.people}, ()
    names = list(dict.fromkeys(filter(None, (read.model or "").split(", " if style == "transcript" else " and "))))
    beside = {_who(said): said.model for said in reversed(read.said) if said.model is not None}
    found = beside | {who: read.models[who] for who in speakers if who in read.models}
    figured = {_who(said) for said in read.said if _is_counted(said.figures)}
    candidates = [who for who, label in speakers.items() if who not in found and label not in read.people]
    marked = [who for who in candidates if who in figured or speakers[who].casefold() in _MODELS]
    left = [name for name in names if name not in found.values()]
    if not left:
        # A model that speaks for several sides is named once.
        return found | (dict.fromkeys(marked, names[0]) if len(names) == 1 else {}), ()
    if len(marked) < len(left):
        marked = [who for who in candidates if speakers[who].casefold() not in _PEOPLE]
    if len(left) == 1 and len(marked) > 1 and figured.issuperset(marked):
        return found | dict.fromkeys(marked, left[0]), ()
    for alike in (_is_named_so, _is_named_alike):
        pairs = [(who, name) for who in marked for name in left if alike(speakers[who], name)]
        for who, name in pairs:
            if sum(one == who for one, _ in pairs) == 1 == sum(other == name for _, other in pairs):
                found[who] = name
                marked.remove(who)
                left.remove(name)
    if len(left) == 1 and len(marked) == 1:
        return found | {marked[0]: left[0]}, ()
    if len(left) == 1 and style == "letter" and len(marked) == len(speakers) == 2 and read.opening is None:
        return found | {marked[1]: left[0]}, ()
    return found, tuple(left)


def _is_counted(figures: Figures) -> bool:
    return any(known is not None for known in (figures.input, figures.output, figures.reasoning, figures.cost))


def _letters(name: str) -> str:
    return "".join(c for c in _IN_BRACKETS.sub("", name).casefold() if c.isalnum())


def _is_named_so(label: str, model: str) -> bool:
    return _letters(label) in (_letters(model), _letters(model.rpartition("/")[2]))


def _is_named_alike(label: str, model: str) -> bool:
    """`Claude Opus 4.6` and `anthropic/claude-opus-4-6`, `opus-4.6` as well."""
    one, other = _letters(label), _letters(model.rpartition("/")[2])
    return min(len(one), len(other)) >= 3 and (one in other or other in one)


_LONGEST_ROLE: Final = 60


def _roles(sides: Sequence[str]) -> Mapping[str, str]:
    """The name of each side's role: what it is called, as a word."""
    found: dict[str, str] = {}
    for side in sides:
        word = re.sub(r"[^\w-]+", "-", side.lower()).strip("-_")[:_LONGEST_ROLE].rstrip("-_")
        usable = re.fullmatch(r"[^\W\d_][\w-]*", word) is not None and word not in RESERVED_ROLES
        others = (f"side{number}" for number in range(1, 2 * len(sides) + 1))
        found[side] = next(one for one in (*((word,) if usable else ()), *others) if one not in found.values())
    return found


_ROUNDS: Final = re.compile(r"\*\*Rounds:\*\* (\d{1,4})[ \t]*")
_PART_OF_DAY: Final = re.compile(r"## \d{4}-\d\d-\d\d \((Morning|Afternoon|Evening|Night)\)[ \t]*")
_HOURS: Final = {"Morning": "09", "Afternoon": "15", "Evening": "20", "Night": "00"}


def _planned(style: str, markdown: str) -> int:
    """How many rounds a file says that there were to be; 0 where it says nothing."""
    found = _first(_ROUNDS, markdown) if style == "rounds" else None
    return 0 if found is None else int(found[1])


def _dated(style: str, read: ReadBack, markdown: str) -> str | None:
    """When a conversation began, as far as its file tells; for a part of the day an hour stands that lies in it."""
    found = _first(_PART_OF_DAY, markdown) if style == "dialogue" else None
    return read.date if found is None or read.date is None else f"{read.date}T{_HOURS[found[1]]}:00"


def _first(pattern: re.Pattern[str], markdown: str) -> re.Match[str] | None:
    """The first line of this form in the head of a file."""
    head = re.split(r"^---[ \t]*$", markdown, maxsplit=1, flags=re.MULTILINE)[0]
    return next((found for line in head.split("\n") if (found := pattern.fullmatch(line))), None)


# --- models ------------------------------------------------------------------------------------------------------


INBOX: Final = "inbox"
"""What is given for a side that no model speaks for."""


class Uses(NamedTuple):
    """What the models of the files are."""

    given: Mapping[str, str]
    """Name in the files to `provider/model-id`, or to `inbox`."""
    guessed: Mapping[str, str]

    def _given(self, side: Side) -> str | None:
        return next((self.given[name] for name in (side.label, side.model) if name and name in self.given), None)

    def of(self, side: Side) -> str | None:
        """The model of a side; None for one without."""
        if (given := self._given(side)) is not None:
            return None if given == INBOX else given
        return None if side.model is None else self.guessed.get(side.model)

    def is_inbox(self, side: Side) -> bool:
        """True where it was said that no model speaks for a side."""
        return self._given(side) == INBOX


_THERE_ARE: Final = f"there are {listed(list(WELL_KNOWN), len(WELL_KNOWN))}"


def uses(olds: Sequence[Old], given: Mapping[str, str]) -> Uses:
    """The models that are given, and a guess for each other; CannotImport where one is given that no file names."""
    sides = [(old, side) for old in olds for side in old.sides]
    named = dict.fromkeys(name for old in olds for name in old.nobodys)
    known = dict.fromkeys(name for _, side in sides for name in (side.model, side.label) if name is not None) | named
    # Where no file could be read, that is what has to be told.
    problems = [
        f"--use {name!r}: no file names it; {did_you_mean(name, known) or f'they name {listed(list(known))}'}"
        for name in given
        if known and name not in known
    ]
    problems += [
        f"--use '{name}={use}': there is no provider {provider}; {did_you_mean(provider, WELL_KNOWN) or _THERE_ARE}"
        for name, use in given.items()
        if use != INBOX and (provider := use.partition("/")[0]) not in WELL_KNOWN
    ]
    if problems:
        raise CannotImport(*problems)
    guessed: dict[str, str] = {}
    for old, side in sides:
        if side.model is None or side.label in given or side.model in given:
            continue
        if old.style == "transcript":
            # Ours names the provider, too; what only its own job knew is to be given.
            if side.model.partition("/")[0] in WELL_KNOWN:
                guessed[side.model] = side.model
        elif "/" in side.model:
            guessed[side.model] = f"openrouter/{side.model}"
        elif ":" in side.model:
            guessed[side.model] = f"ollama/{side.model}"
    return Uses(dict(given), guessed)


def with_models(old: Old, known: Uses) -> Old:
    """A file of which it is known which models speak; CannotImport with what is to be added to the command."""
    problems: list[str] = []
    without = [side for side in old.sides if known.of(side) is None]
    open_ = [side for side in without if not known.is_inbox(side)]
    chosen = [side for side in old.sides if side.model is None and known.of(side) is not None]
    if len(chosen) < len(old.nobodys):
        either = listed([side.label for side in open_ if side.model is None], 8)
        problems += [
            f"{old.file}: which of them is {name}: {either}? Only the order in which they speak tells, and that may be "
            "any: --use 'LABEL=provider/model-id' for each that is a model"
            for name in old.nobodys
        ]
    else:
        for side in open_:
            if side.model is not None:
                problems.append(f"{old.file}: {_which(old, side)}")
            elif side.counted:
                what = f"{side.label} has figures like those of a model: which is it?"
                problems.append(f"{old.file}: {what} --use '{side.label}=provider/model-id'")
        if len(without) == len(old.sides) and not problems:
            label = old.sides[-1].label
            problems.append(f"{old.file}: it names no model; --use '{label}=provider/model-id' says whose it is")
    if problems:
        raise CannotImport(*problems)
    live = {side.role for side, _ in _live(old, known)}
    return old if live.intersection((old.cycle * old.rounds)[1:]) else replace(old, room=1)


def _which(old: Old, side: Side) -> str:
    """What is asked of a side whose model cannot be guessed, and what can be answered."""
    asked, answer = f"which model is {side.model}?", f"--use '{side.model}=provider/model-id'"
    if old.style == "transcript":
        provider = (side.model or "").partition("/")[0]
        return f"{asked} no provider is called {provider} here, as one was in its own job: {answer}"
    if old.style == "dialogue" and not side.counted:
        answer += f", or where a person wrote that, --use '{side.label}={INBOX}'"
    return f"{asked} {answer}"


# --- the job -----------------------------------------------------------------------------------------------------


class Scene(NamedTuple):
    """A prompt of the job, and the files that tell of conversations about it, in the order of their repeats."""

    name: str
    olds: tuple[Old, ...]


def scenes(olds: Sequence[Old], known: Uses) -> tuple[list[Scene], list[CannotImport]]:
    """The files by what they are about, and why some are not among them: a job could not tell them from others."""
    groups: dict[Any, list[Old]] = {}
    odd: list[CannotImport] = []
    for old in olds:
        group = groups.setdefault(_identity(old, known), [])
        if group and _look(group[0]) != _look(old):
            what = f"{old.file}: {group[0].file} is the same conversation, and looks different"
            odd.append(CannotImport(f"{what}: read it in alone, with a --name"))
        else:
            group.append(old)
    names = _prompt_names([group[0] for group in groups.values()])
    return [Scene(name, tuple(group)) for name, group in zip(names, groups.values(), strict=True)], odd


def _identity(old: Old, known: Uses) -> Any:
    """What the id of a conversation hangs on, as far as a file decides it."""
    sides = tuple((side.role, known.of(side), known.of(side) and side.system) for side in old.sides)
    read = old.read
    return sides, old.cycle, old.rounds + old.room, read.context, read.opening, read.system, old.begins.strip("\n")


def _look(old: Old) -> Any:
    return old.style, [side.label for side in old.sides], dict(old.read.texts)


def _prompt_names(olds: Sequence[Old]) -> list[str]:
    found: list[str] = []
    for old in olds:
        stem = slug(re.sub(r"\.[A-Za-z]+$", "", old.name)).lstrip("_")
        first = stem if NAME.fullmatch(stem) else f"x{stem}"
        taken = {name.casefold() for name in found}
        found.append(
            next(
                name
                for number in range(1, len(olds) + 1)
                if (name := first if number == 1 else f"{first}-{number}").casefold() not in taken
            )
        )
    return found


_BRACES: Final = "braces"


def _shown(label: str) -> str:
    """A label as a job can have it."""
    return "".join(c if c.isprintable() else escape(c) for c in label)


def job_text(name: str, key: str, every: Sequence[Scene], known: Uses) -> str:
    """The job file: what was read in is a run of it."""
    aliases = _aliases(every, known)
    files = counted(sum(len(scene.olds) for scene in every), "file")
    tree: dict[str, Any] = {
        "name": name,
        "run_key": key,
        "budget": _BUDGET,
        "models": {alias: {"use": use} for (use, _), alias in aliases.items()},
        "prompts": {scene.name: _prompt(scene.olds[0], known) for scene in every},
        "pairings": [
            {
                "prompt": scene.name,
                **{side.role: aliases[use, _called(scene.olds[0], side)] for side, use in _live(scene.olds[0], known)},
                **({"repeat": len(scene.olds)} if len(scene.olds) > 1 else {}),
            }
            for scene in every
        ],
    }
    lines = list(_yaml(tree, 0))
    if any(f"{{{{{_BRACES}}}}}" in line for line in lines):
        lines += _yaml({"vars": {_BRACES: "{{"}}, 0)
    return "\n".join((*_HEAD.format(files=files).split("\n"), *lines)) + "\n"


_BUDGET: Final = 1
_HEAD: Final = """\
# Read in from {files}: what was said stands in the journal of the run, and its cost was paid elsewhere.
# Labels, prices, limits and the budget can be changed here. Models, texts, roles, rounds and the settings of a call
# make a conversation what it is: with others it would be another one, which nobody has held yet."""


def _live(old: Old, known: Uses) -> list[tuple[Side, str]]:
    return [(side, use) for side in old.sides if (use := known.of(side)) is not None]


def _called(old: Old, side: Side) -> str:
    """What a model is to be called in the job, where that can be."""
    # Rounds name their model so, and are to name it so again.
    return side.label if old.style == "rounds" else ""


def _aliases(every: Sequence[Scene], known: Uses) -> Mapping[tuple[str, str], str]:
    """The name of each model in the job, by what it is and what a file calls it."""
    wanted = dict.fromkeys(
        (use, _called(scene.olds[0], side)) for scene in every for side, use in _live(scene.olds[0], known)
    )
    found: dict[tuple[str, str], str] = {}
    taken: dict[str, tuple[str, str]] = {}
    for use, called in wanted:
        provider, _, id_ = use.partition("/")
        last = slug(id_.rpartition("/")[2])
        first = called if NAME.fullmatch(called) else slug(called) if called else last
        words = (first, f"{provider}-{first}", slug(f"{provider}-{id_}"), f"{last}-{short(f'{use} {called}')}")
        names = [word if NAME.fullmatch(word) else f"x{word}" for word in words]
        # Where case does not count, names stay apart; the same name for the same model is one.
        alias = next(name for name in names if taken.get(name.casefold(), (use, name)) == (use, name))
        taken[alias.casefold()] = use, alias
        found[use, called] = alias
    return found


def _prompt(old: Old, known: Uses) -> dict[str, Any]:
    read = old.read
    live = [side.role for side, _ in _live(old, known)]
    roles: dict[str, Any] = {}
    for side in old.sides:
        role: dict[str, Any] = {"label": _shown(side.label)}
        if side.role not in live:
            role["inbox"] = {"file": f"inbox/{{{{conversation}}}}.{side.role}.md"}
        if side.role == old.cycle[0]:
            role["opening"] = _Text(old.begins)
        system = side.system or (read.system if side.role == live[-1] else None)
        if side.role in live and system is not None and has_text(system):
            role["system"] = _Text(system)
        roles[side.role] = role
    prompt: dict[str, Any] = {"roles": roles}
    for name, text in (("context", read.context), ("opening", read.opening)):
        if text is not None and has_text(text):
            prompt[name] = _Text(text)
    if old.cycle != tuple(side.role for side in old.sides):
        prompt["turns"] = [{"by": role} for role in old.cycle]
    prompt["rounds"] = old.rounds + old.room
    texts = {name: _Text(text) for name, text in read.texts.items() if has_text(text)}
    prompt["render"] = {"style": old.style, **texts} if texts else old.style
    return prompt


# --- YAML --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Text:
    """A text in which fields are filled in; its own braces are to stay."""

    text: str

    @property
    def written(self) -> str:
        kept = _KEPT_BY_NO_FILE.sub(lambda found: escape(found.group()), self.text)
        return FIELD.sub(lambda found: f"{{{{{_BRACES}}}}}{found.group()[2:]}", kept)


_KEPT_BY_NO_FILE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9 ./_-]*(?<! )")
_WORDS: Final = frozenset({"true", "false", "null"})
_UNSEEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_LONG: Final = 90


def _yaml(tree: Mapping[str, Any], depth: int) -> Iterator[str]:
    """A mapping as block YAML, line by line; lists of mappings are in flow style, one a line."""
    before = "  " * depth
    for key, value in tree.items():
        name = f"{before}{_scalar(key)}:"
        if isinstance(value, _Text):
            yield from _block(name, value.written, depth)
        elif isinstance(value, list):
            yield name
            yield from (f"{before}  - {_flow(one)}" for one in value)
        elif isinstance(value, dict) and any(isinstance(inner, _Text | dict) for inner in value.values()):
            yield name
            yield from _yaml(value, depth + 1)
        else:
            yield f"{name} {_flow(value)}"


def _block(name: str, text: str, depth: int) -> Iterator[str]:
    lines = text.split("\n")
    legible = text == text.strip("\n") and not lines[0].startswith((" ", "\t")) and not _UNSEEN.search(text)
    if legible and lines[0].strip() and (len(lines) > 1 or len(text) > _LONG):
        yield f"{name} |-"
        yield from (f"{'  ' * (depth + 1)}{line}" if line else "" for line in lines)
    else:
        yield f"{name} {_scalar(text)}"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_scalar(name)}: {_flow(one)}' for name, one in value.items())}}}"
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


def _scalar(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return _UNSEEN.sub(lambda found: f"\\u{ord(found.group()):04x}", json.dumps(text, ensure_ascii=False))


# --- the run -----------------------------------------------------------------------------------------------------


def cells(plan: Plan, every: Sequence[Scene]) -> dict[str, Old]:
    """The conversation of each file, by its id."""
    by_place: dict[tuple[str, int], Cell] = {(cell.prompt, cell.repeat): cell for cell in plan.cells}
    return {by_place[scene.name, repeat].id: old for scene in every for repeat, old in enumerate(scene.olds, start=1)}


def told(cell: str, old: Old, now: float) -> Iterator[Heard | Noted | Stopped]:
    """What happened in a conversation, as its file tells; what has no date there is told at `now`."""
    when = now if old.date is None else _epoch(old.date)
    for number, said in enumerate(old.said, start=1):
        assert said.text is not None
        yield Heard(
            cell,
            number,
            said.text,
            f"{old.name}, turn {number}",
            usage=_usage(said.figures),
            cost=said.figures.cost,
            computed=said.figures.computed,
            finish=said.outcome,
            stop=said.stop,
            upstream=said.upstream,
            attempts=said.attempts or None,
            seconds=said.figures.seconds,
            label=said.label,
            title=said.title,
            when=when,
            first_byte=said.figures.first_byte,
            pace=said.figures.pace,
        )
    for note in old.read.notes:
        if note.text is not None and has_text(note.text):
            yield Noted(cell, note.heading, note.observer, note.text, old.name)
    if behind := old.behind:
        lines = (f"{said.speaker}:\n{said.text}" for said in behind if has_text(said.text))
        yield Noted(cell, f"Behind turn {len(old.said) + 1}", None, "\n\n".join(lines), old.name)
    silent = next(iter(old.read.said[len(old.said) :]), None)
    end = _end(cell, old)
    if silent is not None and end.status == "failed":
        end = replace(end, error=_error(silent.error), attempts=silent.attempts or None)
    yield end


def _error(told: str | None) -> Mapping[str, str] | None:
    """What stands in the place of a reply: what kind of failure it was, where it says one of ours, and the rest."""
    if told is None:
        return None
    kind, parted, message = told.partition(": ")
    return {"kind": kind, "message": message} if parted and kind in get_args(Kind) else {"message": told}


def _end(cell: str, old: Old) -> Stopped:
    """How it ended: as the file says, or as its turns tell."""
    done, there, planned = len(old.said), len(old.read.said), old.rounds * len(old.cycle)
    when = None if old.read.ended is None else _epoch(old.read.ended)
    ending = old.read.ending
    if ending is not None and (done == there or (ending.status != "complete" and not old.behind)):
        return Stopped(cell, *_told_end(old.name, ending), when)
    if done < there:
        kept = f"; what stands behind it ({counted(len(old.behind), 'turn')}) answered nothing, and is kept as a note"
        return Stopped(cell, "failed", f"{old.name}: turn {done + 1} has no text{kept if old.behind else ''}", when)
    if planned - done >= len(old.cycle):
        return Stopped(cell, "failed", f"{old.name}: turn {done + 1} is missing, of {old.rounds} rounds", when)
    return Stopped(cell, "complete", f"{old.name} ends so" if done < planned or old.room else None, when)


def _told_end(name: str, ending: Ending) -> tuple[Literal["complete", "failed"], str]:
    """What a file says of its end; one that was only broken off counts as failed: nobody has asked to go on with it."""
    if ending.status == "complete":
        return "complete", ending.reason or f"{name} ends so"
    if ending.status == "failed":
        return "failed", ending.reason or f"{name} says that it failed"
    return "failed", f"{name} is not complete: {': '.join(filter(None, (ending.status, ending.reason)))}"


def _usage(figures: Figures) -> dict[str, Any]:
    counts = {
        "input": figures.input,
        "output": figures.output,
        "reasoning": figures.reasoning,
        "cached_read": figures.cached,
    }
    return {name: count for name, count in counts.items() if count is not None}


def _epoch(date: str) -> float:
    """A date of a file in seconds since the epoch; one without a zone is in the job's, which is UTC."""
    moment = datetime.fromisoformat(date)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
