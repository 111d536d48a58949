"""Prompts: who speaks when, and every text at hand."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from runner.call import has_text
from runner.conversation import Inbox
from runner.job.carriers import Carriers
from runner.job.fields import INBOX_FIELD, OWN_FIELDS, VARIABLE_NAME
from runner.job.files import Misread
from runner.job.job import Beat, Prompt, Role
from runner.job.listeners import Listeners, settled
from runner.job.naming import slug
from runner.job.problem import Problem, did_you_mean, listed
from runner.job.schema import (
    RESERVED_ROLES,
    InboxEntry,
    Inline,
    PromptEntry,
    RoleEntry,
    given_settings,
)
from runner.job.section import NAME, Section, Where, is_pattern, item
from runner.job.source import Unreadable, parse
from runner.job.strings import misplaced_strings
from runner.job.texts import Library, Written, normal, parted, prompt_file, trimmed

_MOST_LINES: Final = 100_000
_ROLE: Final = re.compile(r"[^\W\d_][\w-]*")


@dataclass(frozen=True, slots=True)
class PromptSource:
    """A prompt as it was read, and where its texts stand."""

    where: Where
    prompt: Prompt
    texts: tuple[tuple[Written, Where], ...]
    inboxes: tuple[tuple[Written, Where], ...] = ()
    """What is written of drop-boxes; its fields are those of texts, and the name of the conversation."""
    asked: tuple[Where, ...] = ()
    """Where the models of its listeners are named."""


class Prompts(Section):
    """What is talked about: prompts with their texts, from the job file or from files of their own."""

    def __init__(self, problems: list[Problem], top: Where, library: Library) -> None:
        super().__init__(problems, top)
        self.library = library
        self.prompts: dict[str, PromptSource] = {}
        self.prompt_names: dict[str, None] = {}
        """Every declared name, of broken entries as well."""
        self.asked_in_vain: list[tuple[str, Where]] = []
        """The models of those who listen in prompts that are broken; they may be mistaken, too."""

    def variables(self, entries: Mapping[str, Inline], where: Where) -> dict[str, str]:
        """The values of named fields; a file's content is a value like any other."""
        found: dict[str, str] = {}
        for name, value in entries.items():
            if not VARIABLE_NAME.fullmatch(name):
                self.note(
                    where.at(name), f"`{name}` cannot be the name of a field: letters, digits, `_` and `-`", key=True
                )
            elif name in (*OWN_FIELDS, INBOX_FIELD):
                self.note(where.at(name), f"`{name}` is reserved: it is a field of its own", key=True)
            written = self.text(value, where.at(name), blank=True)
            found[name] = "" if written is None else written.text
        return found

    def text(self, value: Inline, where: Where, *, blank: bool = False) -> Written | None:
        """The text, read from its file where it has one; None when it cannot be used."""
        if isinstance(value, str):
            written = trimmed(Written(normal(value)))
        else:
            try:
                written = self.library.text(value.file)
            except Misread as error:
                self.note(where.at("file"), f"`{value.file}`: {error}", f"paths go from {self.library.folder}/")
                return None
        if not blank and not has_text(written.text):
            self.note(
                where, "this text is blank", None if written.file is None else f"the file {written.file} is empty"
            )
            return None
        return written

    def script(self, value: Any, where: Where, body: Written | None) -> tuple[tuple[Written, Where], ...] | None:
        """The turns of a script, each with its place; None when it cannot be used."""
        if isinstance(value, tuple):
            turns = [(self.text(part, where.at(index)), where.at(index)) for index, part in enumerate(value)]
            if not turns:
                self.note(where, "this script is empty")
            return tuple((text, at) for text, at in turns if text) if turns and all(text for text, _ in turns) else None
        if body is not None and value == "body":
            whole: Written | None = body
        else:
            whole = self.text(value, where)
        if whole is None:
            return None
        parts = parted(whole)
        for number, part in enumerate(parts, start=1):
            if not has_text(part.text):
                self.problems.append(self.in_text(part, where, 0, f"turn {number} of this script is blank"))
                return None
        return tuple((part, where) for part in parts)

    def read_prompts(self) -> None:
        tree = self.tree.get("prompts")
        if isinstance(tree, dict):
            self.prompt_names = dict.fromkeys(tree)
            for name, inner in tree.items():
                self.read_prompt(name, inner, self.top.at("prompts", name), None)
        elif isinstance(tree, list):
            self.read_prompt_files(tree)
        elif tree is None:
            self.note(
                self.top.at("prompts"),
                "there are no prompts: nothing to talk about",
                'such as `prompts: {memory: {opening: "What survives?", rounds: 4}}`',
            )
            return
        else:
            self.note(self.top.at("prompts"), "a mapping of prompts, or a list of files and patterns, is expected here")
            return
        if not tree:
            self.note(self.top.at("prompts"), "there are no prompts: nothing to talk about")

    def read_prompt_files(self, tree: list[Any]) -> None:
        seen: dict[str, Path] = {}
        for index, pattern in enumerate(tree):
            where = self.top.at("prompts", index)
            if not isinstance(pattern, str):
                self.note(where, "the name of a file, or a pattern such as `prompts/*.md`, is expected here")
                continue
            try:
                paths = self.library.matching(pattern) if is_pattern(pattern) else [self.library.path(pattern)]
            except Misread as error:
                self.note(where, f"`{pattern}`: {error}")
                continue
            if not paths:
                self.note(where, f"no file fits `{pattern}`", f"patterns are looked up from {self.library.folder}/")
            for path in paths:
                name = path.stem
                if seen.get(name) == path:
                    continue
                if name in seen:
                    self.note(
                        where,
                        f"two prompts are called `{name}`: {self.library.shown(seen[name])} "
                        f"and {self.library.shown(path)}",
                    )
                    continue
                seen[name] = path
                self.prompt_names[name] = None
                self.read_prompt_file(name, path, where)

    def read_prompt_file(self, name: str, path: Path, where: Where) -> None:
        shown = self.library.shown(path)
        try:
            parts = prompt_file(self.library.read(path), shown)
        except Misread as error:
            self.note(where, f"`{shown}`: {error}")
            return
        try:
            source, problems = parse(shown, parts.front.encode(), skip_lines=parts.front_line)
        except Unreadable as error:
            self.problems.append(error.problem)
            return
        self.problems += problems
        inner = Where(source, ())
        self.problems += misplaced_strings(inner, ("prompts", name))
        self.read_prompt(name, {} if source.tree is None else source.tree, inner, parts.body)

    def read_prompt(self, name: str, tree: Any, where: Where, body: Written | None) -> None:
        if not NAME.fullmatch(name):
            self.note(where, f"`{name}` is no name for a prompt: letters, digits and `. _ - : + @`", key=True)
        else:
            for other, found in self.prompts.items():
                if slug(other).casefold() == slug(name).casefold():
                    self.note(
                        where, f"the prompts `{name}` and `{other}` ({found.where}) would share a folder", key=True
                    )
        entry, sound = self.entry(PromptEntry, tree, where)
        if entry is None:
            return
        before = len(self.problems)
        texts: list[tuple[Written, Where]] = []

        def text(value: Inline | None, at: Where) -> str | None:
            written = None if value is None else self.text(value, at)
            if written is None:
                return None
            texts.append((written, at))
            return written.text

        roles: list[Role] = []
        inboxes: list[tuple[Written, Where]] = []
        system = text(entry.system, where.at("system"))
        body_spoken = False
        for role_name, role in entry.roles.items():
            at = where.at("roles", role_name)
            role = role or RoleEntry()
            self.check_role(role_name, role, at)
            script: tuple[str, ...] | None = None
            if role.script is not None:
                spoken = body is not None and role.script == "body"
                body_spoken = body_spoken or spoken
                turns = self.script(role.script, at.at("script"), body) or ()
                texts += turns
                script = tuple(written.text for written, _ in turns)
            silent = role.script is not None or role.inbox is not None
            if silent and role.system is not None:
                what = "a scripted role" if role.script is not None else "a role with an inbox"
                self.note(at.at("system"), f"{what} has no model, and so no system text", key=True)
            own = text(role.system, at.at("system")) if role.system is not None and not silent else None
            inbox = None if role.inbox is None else self.inbox(role.inbox, at.at("inbox"), inboxes)
            roles.append(
                Role(
                    name=role_name,
                    label=role.label,
                    system=None if silent else own if "system" in role.model_fields_set else system,
                    script=script,
                    opening=text(role.opening, at.at("opening")),
                    inbox=inbox,
                )
            )
        opening = text(entry.opening, where.at("opening"))
        if body is not None and has_text(body.text) and not body_spoken:
            opening = self.body_as_opening(body, opening, where)
            texts.append((body, where))
        context = text(entry.context, where.at("context"))
        cycle = tuple(
            Beat(turn.by, turn.label, text(turn.instruct, where.at("turns", index, "instruct")))
            for index, turn in enumerate(entry.turns or [])
        )
        listeners = Listeners(self.problems, self.top, self.library, text)
        moderator = listeners.moderator(entry, where)
        stops, voters = listeners.stops(entry, where)
        after = listeners.after(entry, where)
        rounds = 1
        if sound and len(self.problems) == before:
            rounds = self.rounds(entry, roles, cycle, where)
        prompt = Prompt(
            name=name,
            roles=tuple(roles),
            rounds=rounds,
            cycle=cycle or tuple(Beat(role.name) for role in roles),
            context=context,
            opening=opening,
            vars=self.variables(entry.vars, where.at("vars")),
            settings=given_settings(entry),
            order=entry.order,
            moderator=moderator,
            stops=stops,
            voters=voters,
            after=after,
            look=listeners.look(entry, where),
        )
        if sound and len(self.problems) == before:
            self.prompts[name] = PromptSource(where, prompt, tuple(texts), tuple(inboxes), tuple(listeners.asked))
        else:
            models = (listener.model for listener in prompt.listeners)
            self.asked_in_vain += zip(models, listeners.asked, strict=True)

    def inbox(self, entry: InboxEntry, where: Where, written: list[tuple[Written, Where]]) -> Inbox | None:
        """Where a role's lines come from; None when that cannot be told."""
        if (entry.file is None) == (entry.command is None):
            self.note(
                where, "an inbox is either a `file` or a `command`", 'such as `{file: "inbox/{{conversation}}.md"}`'
            )
            return None
        if entry.file is not None:
            written.append((Written(entry.file), where.at("file")))
            return Inbox(file=entry.file, every=entry.every)
        words = entry.command or []
        if not words[0].strip() or any("\0" in word for word in words):
            self.note(where.at("command"), "this is no command: its first word is the program")
            return None
        written += [(Written(word), where.at("command", index)) for index, word in enumerate(words)]
        return Inbox(command=tuple(words), every=entry.every)

    def references(self) -> list[tuple[str, Where]]:
        """Every model that listens somewhere, as it is written, with its place."""
        return [
            *self.asked_in_vain,
            *(
                (listener.model, at)
                for found in self.prompts.values()
                for listener, at in zip(found.prompt.listeners, found.asked, strict=True)
            ),
        ]

    def settle_listeners(self, carriers: Carriers) -> None:
        """Find the models of all who listen, now that each has its name."""
        for model, where in self.asked_in_vain:
            carriers.one(model, where)
        for name, found in self.prompts.items():
            prompt, asked = settled(found.prompt, found.asked, carriers)
            self.prompts[name] = replace(found, prompt=prompt, asked=asked)

    def body_as_opening(self, body: Written, opening: str | None, where: Where) -> str | None:
        if len(parted(body)) > 1:
            hint = "say which role speaks it: `roles: {user: {script: body}, subject: {}}`"
            self.problems.append(
                self.in_text(body, where, 0, "the text below is parted into turns, but no role speaks it", hint)
            )
        elif opening is not None:
            self.problems.append(
                self.in_text(body, where, 0, "both `opening` and a text below the front matter are given")
            )
        return body.text

    def check_role(self, name: str, role: RoleEntry, where: Where) -> None:
        if name in RESERVED_ROLES:
            self.note(where, f"`{name}` is reserved and cannot be the name of a role", key=True)
        elif not _ROLE.fullmatch(name) or len(name) > 60:
            self.note(
                where,
                f"`{name}` is no name for a role: a letter, then letters, digits, `_` and `-`, at most 60",
                key=True,
            )
        if role.label is not None:
            self.check_label(role.label, where.at("label"))
        if role.script is not None and role.inbox is not None:
            self.note(where.at("inbox"), "this role has a script, and needs no inbox", "keep one of them", key=True)
        if role.script is not None and role.opening is not None:
            self.note(
                where.at("opening"), "a scripted role has its first line in its script", "keep one of them", key=True
            )

    def rounds(self, entry: PromptEntry, roles: Sequence[Role], cycle: Sequence[Beat], where: Where) -> int:
        """How often the cycle is repeated; what cannot be repeated so often is a mistake."""
        by_name = {role.name: role for role in roles}
        for index, beat in enumerate(cycle):
            at = where.at("turns", index)
            if beat.by not in by_name:
                self.note(
                    at.at("by"),
                    f"there is no role `{beat.by}`",
                    did_you_mean(beat.by, by_name) or f"roles: {listed(list(by_name))}",
                )
                return 1
            if beat.label is not None:
                self.check_label(beat.label, at.at("label"))
            if beat.instruct is not None and not by_name[beat.by].live:
                what = "is scripted" if by_name[beat.by].script is not None else "has an inbox"
                self.note(at.at("instruct"), f"`{beat.by}` {what}: nobody would follow this instruction", key=True)
        live = [role for role in roles if role.live]
        if not live:
            what = "is scripted" if all(role.script is not None for role in roles) else "is scripted or has an inbox"
            self.note(where.at("roles"), f"every role {what}: nothing would be asked of any model")
        speaking = [beat.by for beat in cycle] or list(by_name)
        for role in roles:
            if role.name not in speaking:
                self.note(where.at("roles", role.name), f"`{role.name}` never speaks in `turns`", key=True)
        scripted = [
            (role, speaking.count(role.name)) for role in roles if role.script is not None and role.name in speaking
        ]
        if entry.rounds is not None:
            rounds = entry.rounds
        elif cycle:
            rounds = 1
        elif scripted:
            rounds = min(len(role.script or ()) for role, _ in scripted)
        else:
            self.note(
                where,
                "nothing says how long this goes on: `rounds`, `turns` or a role's `script`",
                "such as `rounds: 4`",
                key=True,
            )
            return 1
        for role, times in scripted:
            if len(role.script or ()) < rounds * times:
                self.note(
                    where.at("roles", role.name, "script"),
                    f"the script has {_counted(len(role.script or ()), 'turn')}, "
                    f"but `{role.name}` speaks {rounds * times} times",
                )
        if rounds * len(speaking) > _MOST_LINES:
            self.note(
                where.at("rounds"), f"{rounds * len(speaking):,} turns are too many; at most {_MOST_LINES:,} are held"
            )
            return 1
        given = [role.name for role in live if role.opening is not None]
        if live and rounds == 1 and all(speaking.count(role.name) == 1 and role.name in given for role in live):
            self.note(where, "every line is given: nothing would be asked of any model", key=True)
        return rounds

    def all_roles(self) -> dict[str, None]:
        return dict.fromkeys(role for found in self.prompts.values() for role in found.prompt.live_roles)

    def prompts_broken(self) -> bool:
        return any(name not in self.prompts for name in self.prompt_names)

    def named_prompts(self, names: Sequence[str], where: Where) -> list[str] | None:
        found: dict[str, bool] = {}
        broken = False
        for index, name in enumerate(names):
            at = item(where, index)
            if is_pattern(name):
                fitting = [known for known in self.prompt_names if fnmatchcase(known, name)]
                for known in fitting:
                    found.setdefault(known, False)
                if not fitting:
                    broken = True
                    self.note(at, f"no prompt fits `{name}`", f"prompts: {listed(list(self.prompt_names))}")
            elif name not in self.prompt_names:
                broken = True
                self.note(
                    at,
                    f"there is no prompt `{name}`",
                    did_you_mean(name, self.prompt_names) or f"prompts: {listed(list(self.prompt_names))}",
                )
            else:
                if found.get(name):
                    self.note(at, f"`{name}` stands twice in this list")
                found[name] = True
        return None if broken else [name for name in self.prompt_names if name in found]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
