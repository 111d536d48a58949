"""From pairings to conversations: which models meet, what they say, and the id that follows from it.

An id is made of what the provider is sent, and of what decides who speaks and when it ends: two jobs that would send
the same bytes for a conversation give it the same id, whatever they call things and however they pay. It is built from
the hashes of its parts, which thousands of cells share. Who reads a conversation afterwards has an id of its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import groupby, product
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias

from runner.conversation import DURING, Aside, Inbox, Line, Look, Participant
from runner.job.fields import INBOX_FIELD, Template, fields, template
from runner.job.job import Job, Listener, Model, Pairing, Prompt, Settings, settled
from runner.job.questions import question

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


class Posed(NamedTuple):
    """A listener with its question filled in; what is missing to an aside is the conversation."""

    listener: Listener
    by: Participant
    prompt: str
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
        self._casts: dict[Casting, tuple[Participant, ...]] = {}
        self._fixed: Stage | None = None
        self._posed: tuple[Posed, ...] | None = None
        asked = [text for listener in prompt.listeners for text in (listener.prompt, listener.system)]
        if self._is_fixed(asked):
            self._posed = self._posing({})
        texts = [prompt.context, prompt.opening, *(role.system for role in prompt.roles)]
        texts += [text for line in self._lines for text in (line.given, line.instruct)]
        if self._posed is not None and self._is_fixed(texts):
            self._fixed = self._staged({}, self._posed)

    def _is_fixed(self, texts: Sequence[str | None]) -> bool:
        return all(text is None or self.template(text).fixed is not None for text in texts)

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
        return self._fixed or self._staged(self.casting_values(casting), self.posed(casting))

    def posed(self, casting: Casting) -> tuple[Posed, ...]:
        """What those who listen to this casting are asked, in the order of the prompt's listeners."""
        return self._posing(self.casting_values(casting)) if self._posed is None else self._posed

    def asides(self, casting: Casting, cell: str) -> tuple[Aside, ...]:
        """Those who listen to the conversation of this id."""
        return tuple(
            Aside(
                id=aside_id(cell, one),
                kind=one.listener.kind,
                by=one.by,
                prompt=one.prompt,
                heading=one.listener.heading,
                schema=one.listener.schema,
                every=one.listener.every,
                budget=None if one.listener.budget is None else ceiling_name(self.prompt, one.listener),
            )
            for one in listening(self.posed(casting), cell)
        )

    def look(self, casting: Casting) -> Look:
        """How the transcript of this casting looks."""
        look = self.prompt.look
        if not look.texts:
            return look
        values = self.casting_values(casting)
        return replace(look, texts={name: self.template(text).filled(values) for name, text in look.texts.items()})

    def cast(self, casting: Casting, stage: Stage, name: str) -> tuple[Participant, ...]:
        """Those who take part in the conversation of this name; the same for all repeats, but for their inboxes."""
        found = self._casts.get(casting)
        if found is None:
            live = {part.participant.role: part.participant for part in self.parts(casting)}
            found = tuple(
                replace(live[role.name], system=stage.systems[role.name])
                if role.live
                else Participant(
                    role.name, role.label or role.name, live=False, inbox=self.inbox(role.name, casting, name)
                )
                for role in self.prompt.roles
            )
            if not any(participant.inbox for participant in found):
                self._casts[casting] = found
        return found

    def inbox(self, role: str, casting: Casting, name: str) -> Inbox | None:
        """Where the lines of a role come from in the conversation of this name; None when that is no inbox."""
        inbox = next(one.inbox for one in self.prompt.roles if one.name == role)
        if inbox is None:
            return None
        values = {**self.casting_values(casting), INBOX_FIELD: name}

        def filled(text: str) -> str:
            return self.template(text).filled(values)

        file = None if inbox.file is None else filled(inbox.file)
        return replace(inbox, file=file, command=tuple(map(filled, inbox.command)))

    def casting_values(self, casting: Casting) -> dict[str, str]:
        """The fields that follow from the models."""
        values: dict[str, str] = {}
        for role, alias in casting:
            model = self.job.models[alias]
            values[f"{role}.model"] = model.id
            values[f"{role}.label"] = self.values.get(f"{role}.label", model.label)
        return values

    def _posing(self, values: Mapping[str, str]) -> tuple[Posed, ...]:
        return tuple(self._pose(listener, values) for listener in self.prompt.listeners)

    def _pose(self, listener: Listener, values: Mapping[str, str]) -> Posed:
        model = self.job.models[listener.model]
        settings = settled(
            (self.job.defaults, self.job.providers[model.provider].settings, model.settings, listener.settings)
        )
        system = None if listener.system is None else self.template(listener.system).filled(values)
        prompt = question(listener, self.template(listener.prompt).filled(values))
        by = replace(
            _speaker(model, settings),
            role="moderator" if listener.kind == "pick" else "observer",
            label=model.label,
            system=system,
        )
        content = {
            **self._sent(model, settings),
            "kind": listener.kind,
            "system": self._hash(system),
            "prompt": self._hash(prompt),
            **({"every": listener.every} if listener.kind == "vote" else {}),
        }
        return Posed(listener, by, prompt, _digest(content))

    def _staged(self, values: Mapping[str, str], posed: Sequence[Posed]) -> Stage:
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
        content: dict[str, Any] = {
            "context": self._hash(context),
            "opening": self._hash(opening),
            "roles": [
                [r.name, "live", self._hash(systems[r.name])] if r.live else [r.name, r.kind] for r in prompt.roles
            ],
            "turns": [[line.role, self._hash(line.instruct), self._hash(line.given)] for line in lines],
        }
        # Each only where it is given: so no conversation gets another id because there is one way more.
        if prompt.order != "round-robin":
            # What is drawn from a seed is another conversation with another seed.
            content["order"] = [prompt.order, *([self.job.seed] if prompt.order == "random" else [])]
        if prompt.stops:
            content["stop"] = [[rule.kind, rule.most, rule.phrase] for rule in prompt.stops]
        if fed := [role.inbox for role in prompt.roles if role.inbox is not None]:
            # What will come is known to nobody yet. Its place may change, so that the name of the prompt stands for it,
            # with those values of the job that its place names.
            named = {name for inbox in fed for text in (inbox.file or "", *inbox.command) for name, _ in fields(text)}
            given = {**self.job.vars, **prompt.vars, **self.pairing.vars}
            content["inbox"] = [prompt.name, {name: given[name] for name in named & given.keys()}]
        if during := [one.digest for one in posed if one.listener.kind in DURING]:
            content["asked"] = during
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
        participant = replace(_speaker(model, settings), role=role, label=label or model.label)
        content = {
            **self._sent(model, settings),
            "role": role,
            "history": [settings.history_reasoning, settings.overflow],
        }
        if settings.window is not None:
            content["window"] = settings.window
        return Part(participant, _digest(content))

    def _sent(self, model: Model, settings: Settings) -> dict[str, Any]:
        """What the calls of a model are made with, apart from their texts."""
        sampling = settings.sampling
        content = {
            "provider": model.provider,
            "model": model.id,
            "max_tokens": settings.max_tokens,
            "sampling": [sampling.temperature, sampling.top_p, sampling.presence_penalty, sampling.frequency_penalty],
            "seed": self.job.seed if self.job.send_seed else None,
        }
        # Each only where it is given: so no conversation gets another id because there is one setting more.
        more = {
            "top_k": sampling.top_k,
            "stop_strings": list(sampling.stop),
            "effort": settings.reasoning.effort,
            "thinking": settings.reasoning.tokens,
            "extra": settings.extra,
        }
        return content | {name: value for name, value in more.items() if value not in (None, [], {})}

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


def ordered(lines: Sequence[Line], drawn_from: str) -> tuple[Line, ...]:
    """The lines with the sides of each round in an order that was drawn.

    What one side says keeps its own order, as does its script. Nobody speaks twice in a row while somebody else is
    left; a side that has more than half of the rest to say goes first, so that somebody is.
    """
    found: list[Line] = []
    for round_, group in groupby(lines, key=lambda line: line.round):
        rest = list(group)
        while rest:
            said = Counter(line.role for line in rest)
            roles = [role for role in said if not found or role != found[-1].role] or list(said)
            pressing = [role for role in roles if 2 * said[role] > len(rest)]
            role = min(pressing or roles, key=lambda role: _digest([drawn_from, round_, len(found), role]))
            line = next(line for line in rest if line.role == role)
            rest.remove(line)
            found.append(replace(line, number=len(found) + 1))
    return tuple(found)


def listening(posed: Iterable[Posed], cell: str) -> list[Posed]:
    """Those who listen to the conversation of this id; who is engaged twice with the same question listens once."""
    mine = (one for one in posed if not one.listener.cells or cell in one.listener.cells)
    return list({one.digest: one for one in mine}.values())


def aside_id(cell: str, posed: Posed) -> str:
    """The id of what one listener is asked about one conversation: 16 hexadecimal digits."""
    return hashed(f"tertulia aside 1\n{cell}\n{posed.digest}\n")


def hashed(text: str) -> str:
    """An id that follows from a text and from nothing else."""
    return sha256(text.encode()).hexdigest()[:_ID_DIGITS]


def ceiling_name(prompt: Prompt, observer: Listener) -> str:
    """What the budget of an observer is called: after the place where the job file has it."""
    return f"{prompt.name}.after.{prompt.after.index(observer) + 1}"


def _speaker(model: Model, settings: Settings) -> Participant:
    """Somebody live on this model, who has no part yet."""
    return Participant(
        role="",
        label="",
        live=True,
        alias=model.alias,
        provider=model.provider,
        model=model.id,
        max_tokens=settings.max_tokens,
        min_tokens=settings.min_tokens,
        sampling=settings.sampling,
        timeouts=settings.timeouts,
        outcomes=settings.outcomes,
        context=model.context,
        overflow=settings.overflow,
        window=settings.window,
        keeps_reasoning=settings.history_reasoning == "keep",
        reasoning=settings.reasoning,
        extra=settings.extra,
    )


def _digest(content: Mapping[str, Any] | Sequence[Any]) -> str:
    plain = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return sha256(plain.encode()).hexdigest()
