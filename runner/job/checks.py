"""Checks of a whole job, once all its entries are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from runner.call import has_text
from runner.conversation import Line, Participant, has_nothing_to_read
from runner.job.cells import Casting, Scene, matched, size
from runner.job.endpoint import BUILT_IN, same_address
from runner.job.fields import INBOX_FIELD, LONGEST, OWN_FIELDS, ROLE_FIELDS, fields, template
from runner.job.files import Misread
from runner.job.job import Exclusion, Job, Pairing, Prompt, Provider, SetRule
from runner.job.pairings import PairingSource
from runner.job.problem import Problem, did_you_mean, listed
from runner.job.prompts import Prompts
from runner.job.section import Section, Where
from runner.providers import DIALECTS
from runner.providers.base import touched

MOST_CELLS: Final = 1_000_000
ANY_DATE: Final = "2000-01-01"


class Checks(Section):
    """What can be told only of the whole job: missing fields, conversations held twice, money without a bound."""

    def __init__(self, problems: list[Problem], top: Where, prompts: Prompts) -> None:
        super().__init__(problems, top)
        self.prompts = prompts
        self.told: set[str] = set()
        """Places of which something was told that holds for many conversations."""

    def check_fields(self, job: Job, pairings: Sequence[PairingSource]) -> None:
        """Every field of a text has a value in every pairing that uses the text."""
        for found in self.prompts.prompts.values():
            prompt = found.prompt
            users = [one.pairing for one in pairings if prompt.name in one.pairing.prompts]
            own = {*job.vars, *prompt.vars, *OWN_FIELDS}
            own |= {
                f"{role.name}.{field}"
                for role in prompt.roles
                for field in ROLE_FIELDS
                if role.live or field == "label"
            }
            places = [(written, where, own) for written, where in found.texts]
            places += [(written, where, {*own, INBOX_FIELD}) for written, where in found.inboxes]
            for written, where, known in places:
                for field, offset in dict(reversed(list(fields(written.text)))).items():
                    if field in known or (users and all(field in pairing.vars for pairing in users)):
                        continue
                    lacking = [pairing.position for pairing in users if field not in pairing.vars]
                    some = any(field in pairing.vars for pairing in users)
                    message = f"nothing is known for the field {{{{{field}}}}}" + (
                        f" in pairing {listed([str(n) for n in lacking])}" if some else ""
                    )
                    hint = did_you_mean(field, known) or "give it a value under `vars:`"
                    self.problems.append(self.in_text(written, where, offset, message, hint))

    def check_cells(
        self,
        job: Job,
        pairings: Sequence[PairingSource],
        exclusions: Sequence[tuple[Exclusion, Where]],
        rules: Sequence[tuple[SetRule, Where]],
    ) -> None:
        whole = not self.problems
        usable = [one for one in pairings if all(a in job.models for some in one.pairing.models.values() for a in some)]
        if self.too_many(job, usable):
            return
        scenes: list[tuple[PairingSource, Scene]] = []
        for one in usable:
            prompts = [job.prompts[name] for name in one.pairing.prompts]
            own = [
                Scene(job, prompt, one.pairing, ANY_DATE)
                for prompt in prompts
                if self.can_be_filled(job, one.pairing, prompt)
            ]
            scenes += [(one, scene) for scene in own]
            if len(own) < len(prompts):
                continue
            for exclusion, where in one.exclusions:
                if not _covers_any(exclusion, own):
                    self.note(where, "this excludes nothing: no conversation of its pairing is like this")
            if not any(True for scene in own for _ in scene.castings()):
                self.note(one.where, "no conversation of this pairing is left", "look at `match` and `exclude`")
        if whole:
            # With a pairing missing, what seems to have no effect may have one on that pairing.
            everything = [scene for _, scene in scenes]
            for exclusion, where in exclusions:
                if not _covers_any(exclusion, everything):
                    self.note(where, "this excludes nothing: no conversation is like this")
            for rule, where in rules:
                if not any(
                    _applies(rule, scene.prompt, casting) for scene in everything for casting in scene.castings()
                ):
                    self.note(where, "this changes nothing: no conversation is like this")
        for one, scene in scenes:
            self.check_stages(scene, one.where)
            self.check_settings(scene, one, rules)
        self.check_doubles(scenes)
        self.check_inboxes([scene for _, scene in scenes])

    def too_many(self, job: Job, pairings: Sequence[PairingSource]) -> bool:
        sizes = [
            sum(size(job.prompts[name], one.pairing) for name in one.pairing.prompts) * one.pairing.repeat
            for one in pairings
        ]
        if (count := sum(sizes)) <= MOST_CELLS:
            return False
        self.note(
            pairings[sizes.index(max(sizes))].where,
            f"the pairings come to {count:,} conversations; at most {MOST_CELLS:,} are planned",
            "this pairing is the largest: name fewer models, prompts or repeats",
        )
        return True

    def check_doubles(self, scenes: Sequence[tuple[PairingSource, Scene]]) -> None:
        """No two conversations may send the same: the second would be taken for the first, and never held."""
        known: dict[str, tuple[PairingSource, Scene, Casting]] = {}
        told: set[tuple[int, int]] = set()
        for one, scene in scenes:
            for casting in scene.castings():
                mine = (one, scene, casting)
                first, other, before = found = known.setdefault(scene.identities(casting).of(1), mine)
                pair = (first.pairing.position, one.pairing.position)
                if found is not mine and pair not in told:
                    told.add(pair)
                    self.note(
                        one.where,
                        f"the conversation {_named(scene.prompt, casting)} stands twice: "
                        f"it is the same as {_named(other.prompt, before)} of the pairing at {first.where}",
                        "to hold one several times write `repeat`"
                        if scene.prompt.look == other.prompt.look
                        else "nothing else is said for another `render`: `tertulia report --style` shows it in both",
                    )

    def check_inboxes(self, scenes: Iterable[Scene]) -> None:
        """Each conversation has a drop-box of its own, inside the project."""
        owners: dict[str, str] = {}
        for scene in scenes:
            for role in scene.prompt.roles:
                if role.inbox is None or role.inbox.file is None:
                    continue
                where = self.prompts.prompts[scene.prompt.name].where.at("roles", role.name, "inbox", "file")
                alone = INBOX_FIELD in (name for name, _ in fields(role.inbox.file))
                for casting in scene.castings():
                    name = f"{_named(scene.prompt, casting)}.p{scene.pairing.position}"
                    inbox = scene.inbox(role.name, casting, name)
                    if inbox is None or inbox.file is None:
                        continue
                    file = inbox.file
                    owner = f"`{role.name}` of {_named(scene.prompt, casting)}"
                    try:
                        # It may come later, but its place is known.
                        self.prompts.library.path(file)
                    except Misread as error:
                        self.note(where, f"`{file}`: {error}", f"paths go from {self.prompts.library.folder}/")
                        break
                    other = owners.setdefault(file, owner)
                    if other is owner and (alone or scene.pairing.repeat == 1):
                        continue
                    also = "each of its repeats" if other is owner else other
                    self.note(
                        where,
                        f"`{file}` would be the inbox of {owner} and of {also}",
                        f"each needs its own: put {{{{{INBOX_FIELD}}}}} into the name",
                    )
                    break

    def can_be_filled(self, job: Job, pairing: Pairing, prompt: Prompt) -> bool:
        """True when every field of the prompt's texts has a value, and they do not grow beyond all bounds."""
        values = {**job.vars, **prompt.vars, **pairing.vars}
        own = {*OWN_FIELDS, *(f"{role.name}.{field}" for role in prompt.roles for field in ROLE_FIELDS)}
        total = 0
        found = self.prompts.prompts[prompt.name]
        if any(
            name not in values and name not in own and name != INBOX_FIELD
            for written, _ in found.inboxes
            for name, _ in fields(written.text)
        ):
            return False
        for written, where in found.texts:
            if any(name not in values and name not in own for name, _ in fields(written.text)):
                return False
            total += template(written.text, {}).length(values)
            if total > LONGEST:
                self.note(
                    where,
                    f"with its fields filled in, the prompt `{prompt.name}` has more than {LONGEST:,} characters",
                    "shorten the values, or name them less often",
                )
                return False
        return True

    def check_stages(self, scene: Scene, pairing: Where) -> None:
        """The first speaker has something to read, and no given line is blank."""
        where = self.prompts.prompts[scene.prompt.name].where
        for casting in scene.castings():
            stage = scene.stage(casting)
            live = scene.prompt.live_roles
            first = next(
                (
                    line
                    for line in _may_begin(scene.prompt, stage.lines)
                    if line.role in live and has_nothing_to_read(line, stage.context, stage.opening)
                ),
                None,
            )
            if first is not None:
                may = "speaks" if scene.prompt.order == "round-robin" else "may speak"
                self.note(
                    where,
                    f"`{first.role}` {may} first and has nothing to read",
                    "give an `opening`, a `context` or an `instruct`",
                    key=True,
                )
                return
            if blank := next(
                (line for line in stage.lines if line.given is not None and not has_text(line.given)), None
            ):
                self.note(
                    where,
                    f"line {blank.number}, of `{blank.role}`, is blank when its fields are filled in "
                    f"(pairing at {pairing})",
                    key=True,
                )
                return
            if scene.alike:
                return

    def check_settings(self, scene: Scene, one: PairingSource, rules: Sequence[tuple[SetRule, Where]]) -> None:
        """A call that no limit would ever let through is a mistake, not a long wait."""
        found = self.prompts.prompts[scene.prompt.name]
        seen: set[int] = set()
        for casting in scene.castings():
            for part in scene.parts(casting):
                if id(part) in seen:
                    continue
                seen.add(id(part))
                side = part.participant
                ruling = [at for rule, at in rules if _rules(rule, scene.prompt, casting, side.alias)]
                entries = [Where(at.source, at.path[:-1]) for at in reversed(ruling)]
                self.check_side(scene.job, side, [*entries, one.where, found.where], one.where)
        first = next(scene.castings(), None)
        asked: set[str] = set()
        for posed, at in () if first is None else zip(scene.posed(first), found.asked, strict=True):
            entry = Where(at.source, at.path[:-1])
            if posed.digest in asked:
                self.once(entry, "the same is asked before", "whoever is asked twice must be asked something else")
            asked.add(posed.digest)
            self.check_side(scene.job, posed.by, [entry], at)

    def check_side(self, job: Job, side: Participant, entries: Sequence[Where], named: Where) -> None:
        """What can be told of one who speaks or listens; `entries` may set something, and `named` names its model."""
        type_ = job.providers[side.provider].type
        places = [*entries, self.top.at("models", side.alias), self.top.at("providers", side.provider)]
        for setting, message, hint in beyond(job.providers[side.provider], side, sure=True):
            self.once(self.setting_place(places, *setting.split(".")), message, hint)
        for path in touched(side.extra, DIALECTS[type_].ours):
            # What a request says because of the call, a job cannot say otherwise: it would be left out unseen.
            message = f"`{'.'.join(path)}` follows from the call at `{side.provider}`: `extra` cannot change it"
            self.once(self.setting_place(places, "extra", *path), message, key=True)
        if side.keeps_reasoning and not DIALECTS[type_].takes_reasoning:
            self.once(
                self.setting_place(places, "history", "reasoning"),
                f"`{side.provider}` ({type_}) cannot be told again what `{side.alias}` thought",
                "write `reasoning: strip`, or set `keep` for other models only",
            )
        if side.min_tokens is not None and side.min_tokens > side.max_tokens:
            self.once(
                self.setting_place(places, "min_tokens"),
                f"min_tokens {side.min_tokens:,} is more than the max_tokens {side.max_tokens:,} of `{side.alias}`",
                "it says how far max_tokens may be lowered: lower it, or raise max_tokens",
            )
        if side.context is not None and side.max_tokens >= side.context:
            declared = self.top.at("models", side.alias)
            self.once(
                declared if declared.path in self.top.source.keys else named,
                f"max_tokens {side.max_tokens:,} leaves no room for a prompt in the window of "
                f"{side.context:,} tokens of `{side.alias}`",
                "lower max_tokens, or correct `context`",
            )
        limits = job.providers[side.provider].limits
        for key, room in (("output_tpm", limits.output_tpm), ("tpm", limits.tpm)):
            if limits.count == "reserved" and room is not None and side.max_tokens > room:
                self.once(
                    self.top.at("providers", side.provider, "limits", key),
                    f"one call of `{side.alias}` may use {side.max_tokens:,} tokens "
                    "(max_tokens): it would wait for ever",
                    "lower max_tokens, or write `count: used` if the provider counts what was used",
                )

    def once(self, where: Where, message: str, hint: str | None = None, *, key: bool = False) -> None:
        """Tell what is wrong at a place that many conversations share; the first is example enough."""
        if str(where) not in self.told:
            self.told.add(str(where))
            self.note(where, message, hint, key=key)

    def setting_place(self, entries: Iterable[Where], *steps: str) -> Where:
        """Where a setting is set: in the strongest entry that sets it."""
        places = (entry.at(*steps) for entry in entries)
        return next((at for at in places if at.path in at.source.values), self.top.at("defaults", *steps))

    def check_paid(self, job: Job, pairings: Sequence[PairingSource]) -> None:
        """Whatever costs money has a ceiling above it."""
        of_all = (job.budget, job.day_budget, job.month_budget)
        if any(most is not None for most in of_all) or ("budget" in self.tree and self.problems):
            return
        for one in pairings:
            prompts = [job.prompts[name] for name in one.pairing.prompts]
            of_talks = (job.conversation_budget, one.pairing.budget, one.pairing.conversation_budget)
            # Who reads the whole afterwards is paid for apart.
            aliases = [observer.model for prompt in prompts for observer in prompt.after if observer.budget is None]
            if all(most is None for most in of_talks):
                aliases[:0] = (alias for some in one.pairing.models.values() for alias in some)
                aliases += (listener.model for prompt in prompts for listener in prompt.listeners)
            for alias in aliases:
                if _is_unbounded(job, alias):
                    self.note(
                        self.top.at("budget"),
                        f"`{alias}` costs money, and nothing bounds it: there is no budget",
                        "such as `budget: 5.00`, in dollars for the whole run; or `free: true` at the model",
                    )
                    return


def _is_unbounded(job: Job, alias: str) -> bool:
    """True when a model's calls cost money that neither it nor its provider has a ceiling for."""
    model = job.models.get(alias)
    if model is None or model.free or (model.price is not None and model.price.free):
        return False
    if model.price is None and job.providers[model.provider].base_url == BUILT_IN:
        return False  # the built-in provider's own prices are play money
    return alias not in job.model_budgets and model.provider not in job.provider_budgets


def _may_begin(prompt: Prompt, lines: Sequence[Line]) -> list[Line]:
    """The lines that may come first: the first one, or that of each role where the order is somebody else's."""
    if prompt.order == "round-robin":
        return [lines[0]]
    return list({line.role: line for line in reversed(lines) if line.round == 1}.values())


def beyond(provider: Provider, side: Participant, *, sure: bool) -> Iterator[tuple[str, str, str]]:
    """The settings that a provider refuses of a speaker, or may refuse where it is not `sure`; why, and the remedy."""
    dialect = DIALECTS[provider.type]
    most, home = dialect.most, dialect.home
    if sure != (most.sure and (not home.alike or same_address(provider.base_url, home.base_url))):
        return
    who = f"`{provider.name}` (type {provider.type})"
    elsewhere = "or set it for others alone"
    temperature, stops, thinking = side.sampling.temperature, len(side.sampling.stop), side.reasoning.tokens
    if most.temperature is not None and temperature is not None and temperature > most.temperature:
        text = f"temperature {temperature:g} is more than {most.temperature:g}, the most that {who} takes"
        yield "temperature", text, f"lower it, {elsewhere}"
    if most.stop_strings is not None and "stop_strings" in dialect.takes and stops > most.stop_strings:
        taken = f"the most that {who} takes" + ("" if sure else ", as far as is known")
        yield (
            "stop_strings",
            f"{stops} stop_strings are more than {most.stop_strings}, {taken}",
            f"leave some out, {elsewhere}",
        )
    if most.least_thinking is None or thinking is None or side.reasoning.effort == "none":
        return
    least = side.max_tokens if side.min_tokens is None else min(side.min_tokens, side.max_tokens)
    if thinking < most.least_thinking:
        text = f"reasoning of {thinking:,} tokens is less than {most.least_thinking:,}, the least that {who} takes"
        yield "reasoning.tokens", text, f"raise it, {elsewhere}, or write `reasoning: none`"
    elif thinking >= least:
        name = "max_tokens" if least == side.max_tokens else "min_tokens"
        text = f"reasoning of {thinking:,} tokens leaves `{side.alias}` none of its {name} {least:,}; {who} refuses it"
        yield "reasoning.tokens", text, f"lower it, or raise {name}"


def _applies(rule: SetRule, prompt: Prompt, casting: Casting) -> bool:
    return any(_rules(rule, prompt, casting, alias) for _, alias in casting)


def _rules(rule: SetRule, prompt: Prompt, casting: Casting, alias: str) -> bool:
    """True when the rule sets something for this speaker."""
    return rule.where.covers(prompt.name, dict(casting)) and (rule.models is None or alias in rule.models)


def _covers_any(exclusion: Exclusion, scenes: Iterable[Scene]) -> bool:
    return any(
        exclusion.covers(scene.prompt.name, dict(casting))
        for scene in scenes
        for casting in matched(scene.prompt, scene.pairing)
    )


def _named(prompt: Prompt, casting: Casting) -> str:
    return f"{prompt.name}/{'~'.join(alias for _, alias in casting)}"
