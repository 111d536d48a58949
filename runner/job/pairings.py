"""Pairings, exclusions and settings for some: names become prompts and models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.job.carriers import Carriers
from runner.job.job import Exclusion, Pairing, Prompt, SetRule
from runner.job.problem import Problem, did_you_mean, listed
from runner.job.prompts import Prompts
from runner.job.schema import (
    PAIRING_KEYS,
    ExcludeEntry,
    PairingEntry,
    SetEntry,
    given_settings,
)
from runner.job.section import Section, Where, is_pattern, item


@dataclass(frozen=True, slots=True)
class PairingSource:
    where: Where
    pairing: Pairing
    exclusions: tuple[tuple[Exclusion, Where], ...]


class Pairings(Section):
    """Who talks with whom, what is left out, and what is set for some."""

    def __init__(self, problems: list[Problem], top: Where, carriers: Carriers, prompts: Prompts) -> None:
        super().__init__(problems, top)
        self.carriers = carriers
        self.prompts = prompts

    def read_pairings(self) -> list[PairingSource]:
        section = self.part("pairings", list)
        if not section and not ("pairings" in self.tree and not isinstance(self.tree["pairings"], list)):
            self.note(
                self.top.at("pairings"),
                "there are no pairings: nobody talks",
                "such as `pairings: [{a: sim/ada, b: sim/basil}]`",
            )
        entries = [
            (self.top.at("pairings", index), *self.entry(PairingEntry, tree, self.top.at("pairings", index)))
            for index, tree in enumerate(section)
        ]
        references = [
            (name, item(where.at(role), index))
            for where, entry, _ in entries
            if entry is not None
            for role, names in (entry.model_extra or {}).items()
            if self.is_role(role)
            for index, name in enumerate(names)
            if "/" in name and not is_pattern(name)
        ]
        heard = [(name, at) for name, at in self.prompts.references() if "/" in name and not is_pattern(name)]
        self.carriers.settle_inline([*references, *heard])
        self.prompts.settle_listeners(self.carriers)
        found: list[PairingSource] = []
        for position, (where, entry, sound) in enumerate(entries, start=1):
            if entry is not None and (pairing := self.pairing(position, entry, where, sound)):
                found.append(pairing)
        return found

    def pairing(self, position: int, entry: PairingEntry, where: Where, sound: bool) -> PairingSource | None:
        given: dict[str, list[str]] = entry.model_extra or {}
        before = len(self.problems)
        prompts = self.pairing_prompts(entry, given, where)
        models: dict[str, tuple[str, ...]] = {}
        for role, names in given.items():
            if not self.is_role(role):
                self.unknown_role(role, where, self.prompts.all_roles())
                continue
            models[role] = self.carriers.chosen(names, where.at(role), zipped=entry.match == "zip")
        for name in prompts or ():
            if name in self.prompts.prompts:
                self.check_cast(self.prompts.prompts[name].prompt, given, where, sound)
        lengths = {len(aliases) for aliases in models.values() if len(aliases) > 1}
        if entry.match == "zip" and len(lengths) > 1 and len(self.problems) == before:
            counts = ", ".join(f"`{role}` {len(aliases)}" for role, aliases in models.items())
            self.note(where.at("match"), f"zip needs lists of one length: {counts}")
        variables_ = self.prompts.variables(entry.vars, where.at("vars"))
        read = [self.prompts.prompts[name].prompt for name in prompts or () if name in self.prompts.prompts]
        exclusions = self.exclusions(
            [one.model_dump(exclude_unset=True) for one in entry.exclude] or None,
            where.at("exclude"),
            dict.fromkeys(role for prompt in read for role in prompt.live_roles) or self.prompts.all_roles(),
        )
        if not sound or len(self.problems) > before or prompts is None or len(read) < len(prompts):
            return None
        pairing = Pairing(
            position=position,
            prompts=tuple(prompts),
            models=models,
            match=entry.match,
            exclude=tuple(one for one, _ in exclusions),
            repeat=entry.repeat,
            budget=entry.budget.pairing,
            conversation_budget=entry.budget.conversation,
            vars=variables_,
            settings=given_settings(entry),
        )
        return PairingSource(where, pairing, tuple(exclusions))

    def pairing_prompts(self, entry: PairingEntry, given: Mapping[str, Any], where: Where) -> list[str] | None:
        """The prompts of a pairing; None when they cannot be told."""
        if entry.prompt is not None:
            return self.prompts.named_prompts(entry.prompt, where.at("prompt"))
        if any(name not in self.prompts.prompts for name in self.prompts.prompt_names):
            return None  # which prompts fit depends on one that could not be read
        fitting = [name for name, found in self.prompts.prompts.items() if set(found.prompt.live_roles) == set(given)]
        if fitting:
            return fitting
        if not all(map(self.is_role, given)):
            return None
        shown = "; ".join(
            f"{name}: {listed(found.prompt.live_roles)}" for name, found in list(self.prompts.prompts.items())[:8]
        )
        if self.prompts.prompts:
            self.note(
                where,
                f"no prompt has exactly the live roles {listed(list(given)) or '(none)'}",
                f"live roles of {shown}",
            )
        return None

    def is_role(self, name: str) -> bool:
        """True when some prompt has such a role, or a prompt that could not be read may have it."""
        every = (role.name for found in self.prompts.prompts.values() for role in found.prompt.roles)
        return name in every or self.prompts.prompts_broken() or not self.prompts.prompts

    def unknown_role(self, key: str, where: Where, roles: Iterable[str]) -> None:
        names = list(roles)
        hint = did_you_mean(key, [*names, *PAIRING_KEYS]) or f"live roles: {listed(names)}"
        self.note(where.at(key), f"`{key}` is neither a setting nor a live role here", hint, key=True)

    def check_cast(self, prompt: Prompt, given: Mapping[str, Any], where: Where, sound: bool) -> None:
        silent = {role.name: role for role in prompt.roles if not role.live}
        missing = [role for role in prompt.live_roles if role not in given]
        for key in given:
            if key in silent:
                what = "is scripted" if silent[key].script is not None else "has an inbox"
                self.note(
                    where.at(key),
                    f"`{key}` {what} in `{prompt.name}`: it takes no model",
                    "leave it out",
                    key=True,
                )
            elif key not in prompt.live_roles and self.is_role(key):
                self.unknown_role(key, where, prompt.live_roles)
        if sound:
            for role in missing:
                self.note(
                    where,
                    f"`{role}` of the prompt `{prompt.name}` has no model",
                    f"add `{role}: ` and one or more models",
                )

    def exclusions(self, tree: Any, where: Where, roles: Mapping[str, None]) -> list[tuple[Exclusion, Where]]:
        if tree is None:
            return []
        if not isinstance(tree, list):
            self.note(where, "a list is expected here")
            return []
        found: list[tuple[Exclusion, Where]] = []
        for index, one in enumerate(tree):
            at = where.at(index)
            entry, sound = self.entry(ExcludeEntry, one, at)
            if entry is None or not sound:
                continue
            given: dict[str, list[str]] = entry.model_extra or {}
            if entry.prompt is None and not given:
                self.note(at, "this names nothing: a prompt, or models for roles")
                continue
            if exclusion := self.selection(entry.prompt, given, at, roles):
                found.append((exclusion, at))
        return found

    def selection(
        self, prompt: Sequence[str] | None, given: Mapping[str, Sequence[str]], where: Where, roles: Mapping[str, None]
    ) -> Exclusion | None:
        before = len(self.problems)
        prompts = None if prompt is None else self.prompts.named_prompts(prompt, where.at("prompt"))
        models: dict[str, tuple[str, ...]] = {}
        for role, names in given.items():
            if role not in roles and not self.prompts.prompts_broken():
                hint = did_you_mean(role, [*roles, "prompt"]) or f"live roles: {listed(list(roles))}"
                self.note(where.at(role), f"`{role}` is no live role here", hint, key=True)
            models[role] = self.carriers.chosen(names, where.at(role), anywhere=True)
        if len(self.problems) > before:
            return None
        return Exclusion(None if prompts is None else tuple(prompts), models)

    def read_rules(self) -> list[tuple[SetRule, Where]]:
        found: list[tuple[SetRule, Where]] = []
        for index, tree in enumerate(self.part("set", list)):
            where = self.top.at("set", index)
            entry, sound = self.entry(SetEntry, tree, where)
            if entry is None:
                continue
            at = where.at("when")
            given: dict[str, list[str]] = entry.when.model_extra or {}
            if entry.when.prompt is None and entry.when.model is None and not given:
                self.note(
                    at,
                    "this names nothing: a prompt, a model, or models for roles",
                    "settings for all belong under `defaults:`",
                )
                continue
            if sound and not given_settings(entry):
                self.note(where, "this sets nothing", "put settings beside `when`, such as `max_tokens: 1500`")
            before = len(self.problems)
            models = (
                None
                if entry.when.model is None
                else self.carriers.chosen(entry.when.model, at.at("model"), anywhere=True)
            )
            chosen = self.selection(entry.when.prompt, given, at, self.prompts.all_roles())
            if chosen is not None and sound and len(self.problems) == before:
                found.append((SetRule(chosen, models, given_settings(entry)), at))
        return found
