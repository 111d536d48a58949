"""Checks of a whole job, once all its entries are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from runner.call import has_text
from runner.conversation import Participant, has_nothing_to_read
from runner.job.cells import Casting, Scene, matched, size
from runner.job.endpoint import BUILT_IN, same_address
from runner.job.fields import LONGEST, OWN_FIELDS, ROLE_FIELDS, fields, template
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
        self.told: set[tuple[str, str]] = set()
        """Limits that were called too small, or too large; one model is example enough."""

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
            for written, where in found.texts:
                for field, offset in dict(reversed(list(fields(written.text)))).items():
                    if field in own or (users and all(field in pairing.vars for pairing in users)):
                        continue
                    lacking = [pairing.position for pairing in users if field not in pairing.vars]
                    some = any(field in pairing.vars for pairing in users)
                    message = f"nothing is known for the field {{{{{field}}}}}" + (
                        f" in pairing {listed([str(n) for n in lacking])}" if some else ""
                    )
                    hint = did_you_mean(field, own) or "give it a value under `vars:`"
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
                        "to hold one several times write `repeat`",
                    )

    def can_be_filled(self, job: Job, pairing: Pairing, prompt: Prompt) -> bool:
        """True when every field of the prompt's texts has a value, and they do not grow beyond all bounds."""
        values = {**job.vars, **prompt.vars, **pairing.vars}
        own = {*OWN_FIELDS, *(f"{role.name}.{field}" for role in prompt.roles for field in ROLE_FIELDS)}
        total = 0
        for written, where in self.prompts.prompts[prompt.name].texts:
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
            first = stage.lines[0]
            if has_nothing_to_read(first, stage.context, stage.opening):
                self.note(
                    where,
                    f"`{first.role}` speaks first and has nothing to read",
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
        seen: set[tuple[str, int, int | None]] = set()
        for casting in scene.castings():
            for part in scene.parts(casting):
                side = part.participant
                for setting, message, hint in beyond(scene.job.providers[side.provider], side, sure=True):
                    where = self.setting_place(side, scene.prompt, casting, one, rules, *setting.split("."))
                    if (setting, str(where)) not in self.told:
                        self.told.add((setting, str(where)))
                        self.note(where, message, hint)
                if side.extra:
                    self.check_extra(scene, casting, side, one, rules)
                if (side.alias, side.max_tokens, side.min_tokens) in seen:
                    continue
                seen.add((side.alias, side.max_tokens, side.min_tokens))
                if side.min_tokens is not None and side.min_tokens > side.max_tokens:
                    where = self.setting_place(side, scene.prompt, casting, one, rules, "min_tokens")
                    if ("min_tokens", str(where)) not in self.told:
                        self.told.add(("min_tokens", str(where)))
                        self.note(
                            where,
                            f"min_tokens {side.min_tokens:,} is more than the max_tokens {side.max_tokens:,} "
                            f"of `{side.alias}`",
                            "it says how far max_tokens may be lowered: lower it, or raise max_tokens",
                        )
                if side.context is not None and side.max_tokens >= side.context:
                    self.note(
                        self.model_place(side.alias, one),
                        f"max_tokens {side.max_tokens:,} leaves no room for a prompt in the window of "
                        f"{side.context:,} tokens of `{side.alias}`",
                        "lower max_tokens, or correct `context`",
                    )
                limits = scene.job.providers[side.provider].limits
                for key, room in (("output_tpm", limits.output_tpm), ("tpm", limits.tpm)):
                    if limits.count != "reserved" or room is None or side.max_tokens <= room:
                        continue
                    if (side.provider, key) not in self.told:
                        self.told.add((side.provider, key))
                        self.note(
                            self.top.at("providers", side.provider, "limits", key),
                            f"one call of `{side.alias}` may use {side.max_tokens:,} tokens "
                            "(max_tokens): it would wait for ever",
                            "lower max_tokens, or write `count: used` if the provider counts what was used",
                        )

    def check_extra(
        self,
        scene: Scene,
        casting: Casting,
        side: Participant,
        one: PairingSource,
        rules: Sequence[tuple[SetRule, Where]],
    ) -> None:
        """What a request says because of the call, a job cannot say otherwise: it would be left out unseen."""
        type_ = scene.job.providers[side.provider].type
        for path in touched(side.extra, DIALECTS[type_].ours):
            where = self.setting_place(side, scene.prompt, casting, one, rules, "extra", *path)
            if ("extra", str(where)) not in self.told:
                self.told.add(("extra", str(where)))
                name = ".".join(path)
                self.note(
                    where, f"`{name}` follows from the call at `{side.provider}`: `extra` cannot change it", key=True
                )

    def setting_place(
        self,
        side: Participant,
        prompt: Prompt,
        casting: Casting,
        one: PairingSource,
        rules: Sequence[tuple[SetRule, Where]],
        *steps: str,
    ) -> Where:
        """Where a setting of a speaker is set: in the strongest entry that sets it."""
        ruling = [at for rule, at in rules if _rules(rule, prompt, casting, side.alias)]
        entries = [
            *(Where(at.source, at.path[:-1]) for at in reversed(ruling)),
            one.where,
            self.prompts.prompts[prompt.name].where,
            self.top.at("models", side.alias),
            self.top.at("providers", side.provider),
        ]
        places = (entry.at(*steps) for entry in entries)
        return next((at for at in places if at.path in at.source.values), self.top.at("defaults", *steps))

    def model_place(self, alias: str, one: PairingSource) -> Where:
        declared = self.top.at("models", alias)
        return declared if declared.path in self.top.source.keys else one.where

    def check_paid(self, job: Job, pairings: Sequence[PairingSource]) -> None:
        """Whatever costs money has a ceiling above it."""
        of_all = (job.budget, job.conversation_budget, job.day_budget, job.month_budget)
        if any(most is not None for most in of_all) or ("budget" in self.tree and self.problems):
            return
        for one in pairings:
            if one.pairing.budget is not None or one.pairing.conversation_budget is not None:
                continue
            for aliases in one.pairing.models.values():
                for alias in aliases:
                    model = job.models.get(alias)
                    if model is None or model.free or (model.price is not None and model.price.free):
                        continue
                    if model.price is None and job.providers[model.provider].base_url == BUILT_IN:
                        continue  # the built-in provider's own prices are play money
                    if alias in job.model_budgets or model.provider in job.provider_budgets:
                        continue
                    self.note(
                        self.top.at("budget"),
                        f"`{alias}` costs money, and nothing bounds it: there is no budget",
                        "such as `budget: 5.00`, in dollars for the whole run; or `free: true` at the model",
                    )
                    return


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
