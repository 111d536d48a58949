"""What stands around the talk of a prompt: rules that end it, those who listen to it, and how its transcript looks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from runner.conversation import Look
from runner.job.carriers import Carriers
from runner.job.files import Misread
from runner.job.job import Listener, Prompt
from runner.job.problem import Problem, did_you_mean, listed
from runner.job.questions import NEXT, OVER, TITLES
from runner.job.schema import (
    AfterEntry,
    FileText,
    Inline,
    ModeratorEntry,
    PromptEntry,
    StopEntry,
    VoteEntry,
    given_settings,
)
from runner.job.section import Section, Where
from runner.job.texts import Library
from runner.render import STYLES, StyleError
from runner.render.style import OwnStyle, Style
from runner.stops import Rule

ReadText = Callable[[Inline | None, Where], str | None]
"""Reads a text of the prompt, and remembers where it stands."""


class Listeners(Section):
    """Stops, votes, a moderator, observers and the look of one prompt."""

    def __init__(self, problems: list[Problem], top: Where, library: Library, text: ReadText) -> None:
        super().__init__(problems, top)
        self.library = library
        self.text = text
        self.asked: list[Where] = []
        """Where the model of each listener is named, in the order of `Prompt.listeners`."""

    def moderator(self, entry: PromptEntry, where: Where) -> Listener | None:
        if entry.order == "moderator" and entry.moderator is None:
            self.note(
                where.at("order"),
                "nobody is named who says who speaks next",
                "add `moderator: {model: ...}`, or write `order: random`",
            )
        if entry.moderator is None:
            return None
        if entry.order != "moderator":
            self.note(
                where.at("moderator"), f"nobody would ask it: the order is {entry.order}", "write `order: moderator`"
            )
        at = where.at("moderator")
        return self._listener("pick", entry.moderator, (entry.moderator.model, at.at("model")), at, NEXT)

    def stops(self, entry: PromptEntry, where: Where) -> tuple[tuple[Rule, ...], tuple[Listener, ...]]:
        """The rules that end the conversation, and those who vote on it."""
        rules: list[Rule] = []
        voters: list[Listener] = []
        for index, one in enumerate(entry.stop):
            at = where.at("stop", index)
            if len(one.model_fields_set) != 1:
                self.note(
                    at,
                    "each rule stands alone: one of " + listed([f"`{name}`" for name in StopEntry.model_fields]),
                    "several rules are several entries of the list",
                )
                continue
            [kind] = one.model_fields_set
            if kind == "vote" and one.vote is not None:
                model = (one.vote.observer, at.at("vote", "observer"))
                voter = self._listener("vote", one.vote, model, at.at("vote"), OVER, every=one.vote.every)
                voters += [voter] if voter else []
            elif rule := self._rule(kind, getattr(one, kind), at):
                if rule.kind != "phrase" and any(rule.kind == other.kind for other in rules):
                    self.note(at, f"there is a rule for `{kind}` before", "keep the one that stops first")
                rules.append(rule)
        return tuple(rules), tuple(voters)

    def _rule(self, kind: Any, value: Any, where: Where) -> Rule | None:
        if value is None:
            self.note(where, f"`{kind}` says nothing", "give it a value")
            return None
        if kind == "phrase":
            if not value.strip():
                self.note(where.at("phrase"), "this phrase is blank: every turn would have it")
                return None
            return Rule("phrase", phrase=value)
        if value == 0:
            self.note(where.at(kind), "this would end it before the first turn")
            return None
        return Rule(kind, float(value))

    def after(self, entry: PromptEntry, where: Where) -> tuple[Listener, ...]:
        found: list[Listener] = []
        for index, one in enumerate(entry.after):
            at = where.at("after", index)
            if one.heading is not None:
                self.check_label(one.heading, at.at("heading"))
            if one.kind == "scores" and one.form is None:
                self.note(at, "scores need a `schema` that says what they look like")
            elif one.kind != "scores" and one.form is not None:
                self.note(at.at("schema"), f"{one.kind} have no schema", "write `kind: scores`", key=True)
            if one.prompt is None and one.kind != "titles":
                self.note(at, f"`prompt` is missing: nothing says what these {one.kind} are about")
            schema = None if one.form is None else self._schema(one.form, at.at("schema"))
            listener = self._listener(
                one.kind,
                one,
                (one.observer, at.at("observer")),
                at,
                TITLES,
                heading=one.heading or "",
                schema=schema,
                budget=one.budget,
            )
            found += [listener] if listener else []
        return tuple(found)

    def _listener(
        self,
        kind: Any,
        entry: AfterEntry | VoteEntry | ModeratorEntry,
        model: tuple[str, Where],
        where: Where,
        usual: str,
        **more: Any,
    ) -> Listener | None:
        prompt = usual if entry.prompt is None else self.text(entry.prompt, where.at("prompt"))
        system = self.text(entry.system, where.at("system"))
        if prompt is None:
            return None
        self.asked.append(model[1])
        return Listener(kind, model[0], prompt, system, settings=given_settings(entry), **more)

    def _schema(self, form: FileText | Mapping[str, Any], where: Where) -> Mapping[str, Any] | None:
        """The JSON Schema, from its file where it has one; None when it cannot be used."""
        schema: Any = form
        if isinstance(form, FileText):
            try:
                schema = json.loads(self.library.text(form.file).text, parse_constant=_no_number)
            except Misread as error:
                self.note(where.at("file"), f"`{form.file}`: {error}", f"paths go from {self.library.folder}/")
                return None
            except ValueError as error:
                self.note(where.at("file"), f"`{form.file}` is no JSON: {error}")
                return None
            if not isinstance(schema, dict):
                self.note(where.at("file"), f"`{form.file}` holds no JSON Schema: it is no mapping")
                return None
        if (wrong := _not_a_schema(schema)) is not None:
            self.note(where, f"this is no JSON Schema: {wrong}")
            return None
        return dict(schema)

    def look(self, entry: PromptEntry, where: Where) -> Look:
        """How the transcript is to look, with its texts as they are written."""
        if entry.render is None:
            return Look()
        style, given = entry.render.style, entry.render.model_extra or {}
        at = where.at("render")
        whole = at.at("style") if at.at("style").path in at.source.values else at
        own = self._own_style(style, whole) if style.endswith(".py") else None
        chosen: Style | None = STYLES.get(style, own)
        known = given if chosen is None else chosen.texts
        for name in given:
            if name not in known:
                hint = did_you_mean(name, known) or (f"known here: {listed([*known], 20)}" if known else None)
                self.note(at.at(name), f"the style `{style}` has no text `{name}`", hint, key=True)
        texts = {name: self.text(value, at.at(name)) for name, value in given.items()}
        written = {name: text for name, text in texts.items() if text is not None}
        return Look(style, written, None if own is None else own.suffix)

    def _own_style(self, style: str, where: Where) -> OwnStyle | None:
        """A style of the user's own; None where it cannot be used."""
        files, folder = self.library.files, self.library.folder
        try:
            return self.library.style(style)
        except Misread as error:
            beside = PurePosixPath(style).parent
            there = [str(beside / path.name) for path in files.glob(folder / beside, "*.py")]
            self.note(where, f"`{style}`: {error}", did_you_mean(style, there) or f"paths go from {folder}/")
        except StyleError as error:
            self.note(where, str(error))
        return None


def settled(prompt: Prompt, asked: Sequence[Where], carriers: Carriers) -> tuple[Prompt, tuple[Where, ...]]:
    """The prompt with each listener's model by the name it got, and where that is named.

    Who cannot be asked is left out, and on record.
    """
    known: dict[int, Listener] = {}
    places: list[Where] = []
    for listener, where in zip(prompt.listeners, asked, strict=True):
        alias = carriers.one(listener.model, where)
        if alias is not None:
            known[id(listener)] = replace(listener, model=alias)
            places.append(where)

    def sound(listeners: Iterable[Listener]) -> tuple[Listener, ...]:
        return tuple(known[id(one)] for one in listeners if id(one) in known)

    moderator = None if prompt.moderator is None else known.get(id(prompt.moderator))
    whole = replace(prompt, moderator=moderator, voters=sound(prompt.voters), after=sound(prompt.after))
    return whole, tuple(places)


def _not_a_schema(schema: Mapping[str, Any]) -> str | None:
    """What is wrong with a JSON Schema; None when it is one."""
    # Late, because few jobs have scores.
    from jsonschema import Draft202012Validator, SchemaError

    try:
        json.dumps(schema, allow_nan=False)
        Draft202012Validator.check_schema(schema)
    except ValueError:
        return "it holds a number that is not finite"
    except SchemaError as error:
        return str(error.message)
    return None


def _no_number(word: str) -> Any:
    raise ValueError(f"{word} is no number")
