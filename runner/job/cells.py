"""From pairings to conversations: which models meet, what they say, and the id that follows from it.

An id is made of what the provider is sent, and of nothing else: two jobs that would send the same bytes for a
conversation give it the same id, whatever they call things and however they pay. It is built from the hashes of
its parts, which thousands of cells share.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias

from runner.conversation import Line, Participant
from runner.job.fields import Template, template
from runner.job.job import Job, Pairing, Prompt, Settings, settled

Casting: TypeAlias = tuple[tuple[str, str], ...]
"""Role and alias of each live side, in the order of the roles."""

_ID_DIGITS: Final = 16


def size(prompt: Prompt, pairing: Pairing) -> int:
    """How many castings will be looked at; an upper bound of the conversations, without making one."""
    options = [len(pairing.models[role]) for role in prompt.live_roles]
    return max(options, default=0) if pairing.match == "zip" else prod(options)


def matched(prompt: Prompt, pairing: Pairing) -> Iterator[Casting]:
    """The castings of a prompt in a pairing, before anything is excluded."""
    roles = prompt.live_roles
    options = [pairing.models[role] for role in roles]
    if pairing.match == "zip":
        length = max(map(len, options))
        for index in range(length):
            yield tuple((role, some[index if len(some) > 1 else 0]) for role, some in zip(roles, options, strict=True))
        return
    met: set[tuple[str, ...]] = set()
    for aliases in product(*options):
        if pairing.match == "distinct" and len(set(aliases)) < len(aliases):
            continue
        if pairing.match == "unordered":
            group = tuple(sorted(aliases))
            if group in met:
                continue
            met.add(group)
        yield tuple(zip(roles, aliases, strict=True))


class Stage(NamedTuple):
    """Everything that is said or shown in a conversation and not generated, with all fields filled in."""

    context: str | None
    opening: str | None
    systems: Mapping[str, str | None]
    lines: tuple[Line, ...]
    digest: str


class Part(NamedTuple):
    """One live side as its model plays it, without its system text."""

    participant: Participant
    digest: str


class Scene:
    """One prompt in one pairing; what its conversations have in common is made once."""

    def __init__(self, job: Job, prompt: Prompt, pairing: Pairing, date: str) -> None:
        self.job, self.prompt, self.pairing = job, prompt, pairing
        self.rules = tuple(
            (index, rule)
            for index, rule in enumerate(job.rules)
            if rule.where.prompts is None or prompt.name in rule.where.prompts
        )
        self.values = {**job.vars, **prompt.vars, **pairing.vars, "date": date}
        for role in prompt.roles:
            if role.label is not None or not role.live:
                self.values[f"{role.name}.label"] = role.label or role.name
        self._templates: dict[str, Template] = {}
        self._hashes: dict[str, str] = {}
        self._lines = tuple(planned(prompt))
        self._parts: dict[tuple[str, str, tuple[int, ...]], Part] = {}
        self._fixed: Stage | None = None
        texts = [prompt.context, prompt.opening, *(role.system for role in prompt.roles)]
        texts += [text for line in self._lines for text in (line.given, line.instruct)]
        if all(text is None or self.template(text).fixed is not None for text in texts):
            self._fixed = self._staged({})

    @property
    def alike(self) -> bool:
        """True when no text depends on the casting."""
        return self._fixed is not None

    def castings(self) -> Iterator[Casting]:
        """The castings that remain after all exclusions, the pairing's own and the job's."""
        excluding = (*self.pairing.exclude, *self.job.exclude)
        for casting in matched(self.prompt, self.pairing):
            if not (excluding and any(one.covers(self.prompt.name, dict(casting)) for one in excluding)):
                yield casting

    def template(self, text: str) -> Template:
        """The text with all filled in that the casting does not decide."""
        if text not in self._templates:
            self._templates[text] = template(text, self.values)
        return self._templates[text]

    def stage(self, casting: Casting) -> Stage:
        """What this casting is shown."""
        return self._fixed or self._staged(self.casting_values(casting))

    def casting_values(self, casting: Casting) -> dict[str, str]:
        """The fields that follow from the models."""
        values: dict[str, str] = {}
        for role, alias in casting:
            model = self.job.models[alias]
            values[f"{role}.model"] = model.id
            values[f"{role}.label"] = self.values.get(f"{role}.label", model.label)
        return values

    def _staged(self, values: Mapping[str, str]) -> Stage:
        def filled(text: str | None) -> str | None:
            return None if text is None else self.template(text).filled(values)

        prompt = self.prompt
        systems = {role.name: filled(role.system) for role in prompt.roles if role.live}
        lines = tuple(
            line
            if line.given is None and line.instruct is None
            else replace(line, given=filled(line.given), instruct=filled(line.instruct))
            for line in self._lines
        )
        context, opening = filled(prompt.context), filled(prompt.opening)
        content = {
            "context": self._hash(context),
            "opening": self._hash(opening),
            "roles": [
                [r.name, "live", self._hash(systems[r.name])] if r.live else [r.name, "scripted"] for r in prompt.roles
            ],
            "turns": [[line.role, self._hash(line.instruct), self._hash(line.given)] for line in lines],
        }
        return Stage(context, opening, systems, lines, _digest(content))

    def _hash(self, text: str | None) -> str | None:
        if text is None:
            return None
        if text not in self._hashes:
            self._hashes[text] = sha256(text.encode()).hexdigest()
        return self._hashes[text]

    def settings(self, role: str, casting: Casting) -> Settings:
        """How the calls of this role are made."""
        return self._settings(dict(casting)[role], self._rules_for(casting))

    def _rules_for(self, casting: Casting) -> tuple[int, ...]:
        if not self.rules:
            return ()
        models = dict(casting)
        return tuple(index for index, rule in self.rules if rule.where.covers(self.prompt.name, models))

    def _settings(self, alias: str, rules: tuple[int, ...]) -> Settings:
        job = self.job
        model = job.models[alias]
        chosen = [job.rules[index] for index in rules]
        return settled(
            (
                job.defaults,
                job.providers[model.provider].settings,
                model.settings,
                self.prompt.settings,
                self.pairing.settings,
                *(rule.settings for rule in chosen if rule.models is None or alias in rule.models),
            )
        )

    def parts(self, casting: Casting) -> list[Part]:
        """The live sides, in order."""
        rules = self._rules_for(casting)
        parts: list[Part] = []
        for role, alias in casting:
            part = self._parts.get((role, alias, rules))
            if part is None:
                part = self._parts[role, alias, rules] = self._part(role, alias, rules)
            parts.append(part)
        return parts

    def _part(self, role: str, alias: str, rules: tuple[int, ...]) -> Part:
        model = self.job.models[alias]
        settings = self._settings(alias, rules)
        label = next(r.label for r in self.prompt.roles if r.name == role)
        participant = Participant(
            role=role,
            label=label or model.label,
            live=True,
            alias=alias,
            provider=model.provider,
            model=model.id,
            max_tokens=settings.max_tokens,
            min_tokens=settings.min_tokens,
            sampling=settings.sampling,
            timeouts=settings.timeouts,
            outcomes=settings.outcomes,
            context=model.context,
            overflow=settings.overflow,
            reasoning=settings.reasoning,
            extra=settings.extra,
        )
        sampling = settings.sampling
        content = {
            "role": role,
            "provider": model.provider,
            "model": model.id,
            "max_tokens": settings.max_tokens,
            "sampling": [sampling.temperature, sampling.top_p, sampling.presence_penalty, sampling.frequency_penalty],
            "seed": self.job.seed if self.job.send_seed else None,
            "history": [settings.history_reasoning, settings.overflow],
        }
        # Each only where it is given: so no conversation gets another id because there is one setting more.
        more = {
            "top_k": sampling.top_k,
            "stop_strings": list(sampling.stop),
            "effort": settings.reasoning.effort,
            "thinking": settings.reasoning.tokens,
            "extra": settings.extra,
        }
        content |= {name: value for name, value in more.items() if value not in (None, [], {})}
        return Part(participant, _digest(content))

    def identities(self, casting: Casting) -> Identities:
        """The ids of this casting's conversations."""
        common = sha256(f"tertulia cell 1\n{self.stage(casting).digest}\n".encode())
        for part in self.parts(casting):
            common.update(f"{part.digest}\n".encode())
        return Identities(common)


@dataclass(frozen=True, slots=True)
class Identities:
    """What the repeats of one conversation share of their id."""

    common: Any

    def of(self, repeat: int) -> str:
        """The id of one of them: 16 hexadecimal digits."""
        whole = self.common.copy()
        whole.update(f"repeat {repeat}".encode())
        return str(whole.hexdigest()[:_ID_DIGITS])


def planned(prompt: Prompt) -> Iterator[Line]:
    """Every turn of a prompt, in order, with its texts as they are written."""
    roles = {role.name: role for role in prompt.roles}
    said = dict.fromkeys(roles, 0)
    number = 0
    for round_ in range(1, prompt.rounds + 1):
        for beat in prompt.cycle:
            number += 1
            role = roles[beat.by]
            if role.script is not None:
                given: str | None = role.script[said[role.name]]
            else:
                given = role.opening if said[role.name] == 0 else None
            said[role.name] += 1
            yield Line(number, round_, role.name, beat.label, beat.instruct if given is None else None, given)


def _digest(content: Mapping[str, Any]) -> str:
    plain = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return sha256(plain.encode()).hexdigest()
