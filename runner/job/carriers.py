"""Providers and models: reading their entries, and settling what a model is called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from runner.call import has_text
from runner.job.endpoint import BUILT_IN, OF_KEYS, WELL_KNOWN, at_hand, entry_to_add, same_address, unsafe
from runner.job.environment import VARIABLE, misplaced, resolve
from runner.job.job import Model, Provider
from runner.job.leaks import literal_tokens, looks_like_key, promises_key
from runner.job.naming import apart, choices
from runner.job.problem import Problem, did_you_mean, listed
from runner.job.schema import (
    Header,
    LimitsEntry,
    ModelEntry,
    PriceEntry,
    ProviderEntry,
    given_settings,
    unstorable,
)
from runner.job.section import NAME, Section, Where, is_pattern, item, line_of
from runner.job.source import Path as Steps
from runner.limits import Limits
from runner.money import Nanos, Price, Tier, dollars
from runner.providers import DIALECTS, Endpoint, Home

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


class Carriers(Section):
    """Who answers: providers and models, and what other entries may call them."""

    def __init__(self, problems: list[Problem], top: Where) -> None:
        super().__init__(problems, top)
        self.providers: dict[str, Provider] = {}
        self.models: dict[str, Model] = {}
        self.inline: dict[str, str] = {}
        """`provider/model-id` as pairings write it, and the alias that it got."""
        # Names stand here as soon as they are declared, so that a broken entry is not called unknown as well.
        self.provider_names: dict[str, None] = {}
        self.model_names: dict[str, None] = {}

    def read_providers(self) -> None:
        section = self.part("providers", dict)
        self.provider_names = dict.fromkeys(section)
        for name, tree in section.items():
            where = self.top.at("providers", name)
            if not NAME.fullmatch(name):
                self.note(where, f"`{name}` is no name for a provider: letters, digits, `.`, `_` and `-`", key=True)
            entry, _ = self.entry(ProviderEntry, {} if tree is None else tree, where)
            if entry is not None and (provider := self.provider(name, entry, where)):
                self.providers[name] = provider

    def provider(self, name: str, entry: ProviderEntry, where: Where) -> Provider | None:
        type_ = entry.type or (name if name in WELL_KNOWN else None)
        home = DIALECTS[type_].home if type_ is not None else None
        base_url = entry.base_url or (home.base_url if home is not None else None)
        at_home = home is not None and base_url is not None and same_address(base_url, home.base_url)
        # A key belongs to an address: elsewhere it is taken for granted only where the name asks for it.
        known = home if entry.base_url is None or type_ == name else None
        # The type says how its servers count, wherever they are; but a type that many speak says it of its own alone.
        counting = home if home is not None and (at_home or not home.alike) else None
        if type_ is None or base_url is None:
            missing = "type" if type_ is None else "base_url"
            if where.at(missing).path not in where.source.values:
                hint = f"write it as: {entry_to_add(name)}"
                self.note(where, f"`{missing}` is missing: `{name}` is not known by its name alone", hint, key=True)
            return None
        if type_ == "sim" and base_url != BUILT_IN:
            self.note(where.at("base_url"), "the type `sim` is the built-in server: its base_url is the word `sim`")
        api_key = entry.api_key
        # Whoever says in a header who they are does not want to be somebody else besides, least of all at another host.
        if api_key is None and known and base_url != BUILT_IN and OF_KEYS.isdisjoint(map(str.lower, entry.headers)):
            api_key = known.api_key
        self.check_headers(entry, where)
        if entry.api_key is not None:
            self.check_secret(entry.api_key, where.at("api_key"))
        if base_url != BUILT_IN:
            keyed = api_key is not None or any(
                promises_key(header) or "${" in value for header, value in entry.headers.items()
            )
            self.check_url(base_url, where.at("base_url"), keyed)
            tail = DIALECTS[type_].url(Endpoint(name, type_, ""), "")
            if base_url.rstrip("/").endswith(tail):
                self.note(where.at("base_url"), f"`{tail}` is put behind this by each request", "leave it out here")
        if entry.min_gpu is not None and not (home is not None and home.free):
            self.note(where.at("min_gpu"), f"`{type_}` runs on no graphics card of yours", "leave it out", key=True)
        if entry.resident is not None:
            self.check_resident(entry, type_, where)
        if entry.sim is not None:
            if base_url != BUILT_IN:
                self.note(
                    where.at("sim"), "only the built-in server is configured here", "it needs `base_url: sim`", key=True
                )
            for path, message in sim_mistakes(entry.sim):
                self.note(where.at("sim", *path), message)
        # What the environment makes of an address, only a run knows.
        by_type = home is not None and home.free and ("${" in base_url or at_hand(base_url))
        return Provider(
            name=name,
            type=type_,
            base_url=base_url,
            api_key=api_key,
            headers=entry.headers,
            limits=_limits(entry.limits, counting, entry.resident),
            limit_field=entry.limit_field or (counting.limit_field if counting else None),
            sim=entry.sim,
            free=entry.free or by_type,
            free_at_hand=by_type and not entry.free,
            settings=given_settings(entry),
            min_gpu=entry.min_gpu,
        )

    def check_resident(self, entry: ProviderEntry, type_: str, where: Where) -> None:
        home = DIALECTS[type_].home
        if not (home.free or home.alike):
            self.note(
                where.at("resident"), f"`{type_}` loads its models on machines of its own", "leave it out", key=True
            )
        elif entry.limits.per == "model":
            self.note(
                where.at("resident"),
                "`resident` counts over all models of a provider, and `per: model` parts them",
                "leave one of them out",
                key=True,
            )

    def check_secret(self, text: str, where: Where) -> None:
        if looks_like_key(text):
            return  # already told
        if odd := misplaced(text):
            self.note(where, f"`{odd}` is no variable", "write ${NAME} or ${NAME:-default}")
        elif literal_tokens(text):
            self.note(
                where,
                "a key may not stand in a job file",
                "put it into the environment or a .env file, and write ${ITS_NAME} here",
            )
        elif any(not 32 <= ord(c) < 127 for c in text) or not text.strip():
            self.note(where, "this cannot be sent in a header: printable ASCII on one line, and not blank")

    def check_headers(self, entry: ProviderEntry, where: Where) -> None:
        seen: list[str] = []
        for name, value in entry.headers.items():
            here = where.at("headers", name)
            if twin := next((other for other in seen if other.lower() == name.lower()), None):
                self.note(here, f"`{name}` and `{twin}` are one header", "keep one of them", key=True)
            seen.append(name)
            if not _HEADER_NAME.fullmatch(name):
                self.note(here, f"`{name}` is no name of a header", key=True)
            elif name.lower() in ("host", "content-length", "content-type", "transfer-encoding", "connection"):
                self.note(here, f"the header `{name}` is set with each request and cannot be changed", key=True)
            elif name.lower() == "authorization" and entry.api_key is not None:
                self.note(here, "both api_key and an Authorization header are given", "keep one of them", key=True)
            if promises_key(name):
                self.check_secret(value, here)
            elif odd := misplaced(value):
                self.note(here, f"`{odd}` is no variable", "write ${NAME} or ${NAME:-default}")
            elif any(not 32 <= ord(c) < 127 for c in value):
                self.note(here, "this cannot be sent in a header: printable ASCII on one line")

    def check_url(self, url: str, where: Where, keyed: bool) -> None:
        if odd := misplaced(url):
            self.note(where, f"`{odd}` is no variable", "write ${NAME} or ${NAME:-default}")
            return
        defaults = {found[1]: found[2] for found in VARIABLE.finditer(url)}
        # A variable without a default is known only when the run starts, and is checked there.
        if None not in defaults.values() and (why := unsafe(resolve(url, {}), keyed=keyed)):
            self.note(where, why)

    def known_provider(self, name: str, where: Where) -> bool:
        """True when the provider can be used; otherwise the mistake is on record."""
        if name not in self.provider_names and name in WELL_KNOWN:
            known = WELL_KNOWN[name]
            self.providers[name] = Provider(
                name,
                name,
                str(known.base_url),
                known.api_key,
                limits=_limits(LimitsEntry(), known),
                limit_field=known.limit_field,
                free=known.free,
            )
            self.provider_names[name] = None
        if name in self.provider_names:
            return name in self.providers
        known_names = [*self.provider_names, *WELL_KNOWN]
        close = did_you_mean(name, known_names)
        hint = close if close and len(name) > 3 else f"add it under `providers:`  {entry_to_add(name)}"
        self.note(where, f"there is no provider `{name}`", hint)
        return False

    def read_models(self) -> None:
        section = self.part("models", dict)
        self.model_names = dict.fromkeys(section)
        folded: dict[str, str] = {}
        for name, tree in section.items():
            where = self.top.at("models", name)
            if not NAME.fullmatch(name) or "/" in name:
                self.note(where, f"`{name}` is no name for a model: letters, digits and `. _ - : + @`", key=True)
            elif (other := folded.setdefault(name.casefold(), name)) != name:
                first = self.top.at("models", other)
                self.note(where, f"`{name}` and `{other}` ({line_of(first)}) differ in case only", key=True)
            entry, _ = self.entry(ModelEntry, tree, where)
            if entry is None:
                continue
            if entry.price is not None and entry.free:
                self.note(where.at("free"), "a model cannot have a price and be free", "keep one of them")
            if entry.label is not None:
                self.check_label(entry.label, where.at("label"))
            if model := self.model(name, entry, where.at("use")):
                self.models[name] = model

    def model(self, alias: str, entry: ModelEntry, where: Where) -> Model | None:
        provider, _, id_ = entry.use.partition("/")
        if not provider or not id_ or not has_text(id_) or any(c.isspace() or not c.isprintable() for c in entry.use):
            self.note(where, "a model is named as provider/model-id", "such as `openai/gpt-4.1`")
            return None
        if not self.known_provider(provider, where):
            return None
        price = None if entry.price is None else self.price(entry.price)
        carrier = self.providers[provider]
        return Model(
            alias=alias,
            label=entry.label or alias,
            provider=provider,
            id=id_,
            price=price,
            free=entry.free or (price is None and carrier.free),
            context=entry.context or DIALECTS[carrier.type].home.window,
            settings=given_settings(entry),
        )

    @staticmethod
    def price(entry: PriceEntry) -> Price:
        tiers = (Tier(**dict(tier)) for tier in entry.tiers)
        rising = tuple(sorted(tiers, key=lambda tier: tier.above))
        return Price(**{**dict(entry), "tiers": rising}, source="the job file")

    def settle_inline(self, references: Iterable[tuple[str, Where]]) -> None:
        """Make a model of each `provider/model-id`, under an alias that nobody else has."""
        candidates: dict[str, tuple[str, ...]] = {f"\0{name}": (name,) for name in self.model_names}
        found: dict[str, Model] = {}
        for reference, where in references:
            if reference in candidates:
                continue
            if model := self.model(reference, ModelEntry(use=reference), where):
                found[reference] = model
                candidates[reference] = choices(model.id.rpartition("/")[2], model.provider, model.id)
            else:
                candidates[reference] = (reference,)
        names = apart(candidates)
        for reference in candidates:
            if not reference.startswith("\0"):
                alias = names[reference]
                self.inline[reference] = alias
                self.model_names.setdefault(alias)
                if reference in found:
                    old = found[reference]
                    self.models[alias] = Model(alias, alias, old.provider, old.id, None, old.free, old.context)

    def budgets(self, header: Header) -> tuple[dict[str, Nanos], dict[str, Nanos]]:
        budget = header.budget
        if budget is None:
            return {}, {}
        where = self.top.at("budget")
        if budget.day is not None and budget.month is not None and budget.day > budget.month:
            self.note(
                where.at("day"),
                f"a day may cost ${dollars(budget.day)}, but the whole month ${dollars(budget.month)}",
                "a day's ceiling above its month's bounds nothing: lower `day`, or raise `month`",
            )
        for name in budget.providers:
            if name not in self.provider_names:
                self.note(
                    where.at("providers", name),
                    f"there is no provider `{name}`",
                    did_you_mean(name, self.provider_names),
                    key=True,
                )
        models: dict[str, Nanos] = {}
        for name, amount in budget.models.items():
            alias = self.inline.get(name, name)
            if alias not in self.model_names:
                self.note(
                    where.at("models", name),
                    f"there is no model `{name}`",
                    did_you_mean(name, self.model_names),
                    key=True,
                )
            models[alias] = amount
        return budget.providers, models

    def one(self, name: str, where: Where) -> str | None:
        """The alias of the one model that is meant; None when none is, or it cannot be used."""
        if is_pattern(name) and name not in self.model_names:
            self.note(where, "a pattern may mean several models, and one is asked", "name the one")
            return None
        found = self.chosen((name,), where)
        return found[0] if found and found[0] in self.models else None

    def chosen(
        self, names: Sequence[str], where: Where, *, zipped: bool = False, anywhere: bool = False
    ) -> tuple[str, ...]:
        """The aliases that are meant; `anywhere`: an inline model may be meant by its alias, too."""
        declared = self.top.source.tree.get("models")
        own = list(declared) if isinstance(declared, dict) else []
        pool = list(self.model_names) if anywhere else own
        found: list[str] = []
        literal: set[str] = set()
        for index, name in enumerate(names):
            at = item(where, index)
            if is_pattern(name) and name not in pool:
                fitting = [alias for alias in pool if fnmatchcase(alias, name)]
                if not fitting:
                    hint = (
                        "patterns are over the names under `models:`"
                        if "/" in name
                        else f"models: {listed(pool) or 'none'}"
                    )
                    self.note(at, f"no model fits `{name}`", hint)
                found += [alias for alias in fitting if zipped or alias not in found]
                continue
            alias = self.inline.get(name, name)
            if alias not in pool and name not in self.inline:
                hint = did_you_mean(name, pool) or (
                    f"models: {listed(pool)}" if pool else "name it under `models:`, or write it as provider/model-id"
                )
                self.note(at, f"there is no model `{name}`", hint)
                continue
            if alias in literal and not zipped:
                self.note(at, f"`{name}` stands twice in this list: the same conversations would be held twice")
                continue
            literal.add(alias)
            if zipped or alias not in found:
                found.append(alias)
        return tuple(found)


def _limits(entry: LimitsEntry, home: Home | None, resident: int | None = None) -> Limits:
    """What the job says and, where it says nothing, how this provider is known to count."""
    given = entry.model_dump(exclude_none=True) | ({} if resident is None else {"resident": resident})
    # Figures that somebody wrote at a provider are meant for all of it.
    per = "provider" if given or home is None else home.per
    count = "reserved" if home is None else home.count
    return Limits(**({"per": per, "count": count} | given))


def sim_mistakes(config: Mapping[str, Any]) -> list[tuple[Steps, str]]:
    """Everything that is wrong with a configuration of the built-in server."""
    from runner.sim.config import check_config  # the built-in server is no part of most jobs

    return [*unstorable(config), *check_config(config)]
