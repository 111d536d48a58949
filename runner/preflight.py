"""What must be known before anything is sent: prices, keys, addresses, and the lanes that they make.

What is missing is a `CannotBegin`, with everything that is missing of its kind and the exit code that stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from hashlib import sha256
from typing import Final, TypeAlias

from runner.catalogue import EXTRA, NOWHERE, THEIR_NAMES, At, Sources
from runner.conversation import Conversation, Participant, view
from runner.foreign import command
from runner.job import MissingVariable, Provider, at_hand, resolve, unsafe
from runner.job.checks import beyond
from runner.job.environment import hidden
from runner.job.problem import listed
from runner.limits import Lane, Limits
from runner.money import FREE, Nanos, Price, ceiling, dollars
from runner.plan import Cell, Model, Plan
from runner.prices import input_bound, view_bound
from runner.providers import DIALECTS, Endpoint
from runner.sim.config import SimConfig, load_config, price_of
from runner.state import State
from runner.world import Secret

EXIT_JOB: Final = 2
EXIT_PREFLIGHT: Final = 6
BUILT_IN: Final = "sim"
"""The type, and the base_url, of the built-in provider."""
DEFAULT_CONCURRENCY: Final = 16

_JOB: Final = "the job file"
FREE_OF_CHARGE: Final = "free of charge"
_PLAY: Final = "the built-in provider"
NO_LISTS: Final = (_JOB, FREE_OF_CHARGE, _PLAY)
"""Who says what a model costs where no list does: the job, which may change its mind in the middle of a run."""

_MAY_COST: Final = (
    "who answers at an address that is none of this machine or of a network of your own may ask for money: "
    "say `free: true` there if not, or give its models a price"
)

_Identity: TypeAlias = tuple[str, ...]
"""An account: address, key, and the model where the provider counts by model."""


class CannotBegin(Exception):
    """Why nothing was sent, line by line, and the exit code for it."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.code = code
        self.lines = lines


def plays(plan: Plan) -> bool:
    """True when its money is play money: it talks to nobody but the built-in provider."""
    return all(provider.base_url == BUILT_IN for provider in plan.providers.values())


def frozen(plan: Plan, state: State) -> dict[str, Price]:
    """What the last life of a run paid for models whose price came from a list: for this run that is what they cost."""
    if state.live is None or state.job is None:
        return {}
    models, providers = state.job.get("models", {}), state.job.get("providers", {})
    found: dict[str, Price] = {}
    for alias, model in plan.models.items():
        old, now = models.get(alias, {}), plan.providers[model.provider]
        was = providers.get(old.get("provider"), {})
        same = (old.get("provider"), old.get("id")) == (model.provider, model.id)
        if same and (was.get("type"), was.get("base_url")) == (now.type, now.base_url):
            price = Price.of(state.live.prices[alias]) if alias in state.live.prices else None
            if price is not None and price.source not in ("", *NO_LISTS):
                found[alias] = price
    return found


def prices(
    plan: Plan, sources: Sources = NOWHERE, file: str = "JOB", needed: Collection[str] | None = None
) -> dict[str, Price]:
    """What each model charges, and who says so: the job, else the nearest source; CannotBegin where none tells.

    `file` is where the job stands, for commands to copy. Where only the models of these aliases are `needed`, another
    one whose price nobody tells is left out.
    """
    found: dict[str, Price] = {}
    unknown: list[str] = []
    helps: list[str] = []
    for alias, model in plan.models.items():
        provider = plan.providers[model.provider]
        price = price_for(model, provider, sources)
        if price is None and needed is not None and alias not in needed:
            continue
        if price is None and provider.base_url == BUILT_IN:
            known = ", ".join(sim_config(provider).models)
            what = f"{provider.name}: the built-in provider has no model {model.id}, but {known}"
            raise CannotBegin(EXIT_PREFLIGHT, what)
        if price is None:
            line = f"  models: {{{alias}: {{use: {model.provider}/{model.id}, price: {{input: ..., output: ...}}}}}}"
            unknown.append(line + _why_not(model, provider, sources))
            helps += _helps(provider, sources, file)
        else:
            found[alias] = price
    if unknown:
        raise CannotBegin(
            EXIT_PREFLIGHT,
            "the price of these models is not known; give it in the job file, in dollars per million tokens:",
            *unknown,
            *(["or have it looked up:"] if helps else ()),
            *dict.fromkeys(helps),
        )
    return found


def price_for(model: Model, provider: Provider, sources: Sources) -> Price | None:
    """What a model charges, and who says so; None when nobody does."""
    if model.price is not None:
        return model.price
    if model.free or provider.free:
        return replace(FREE, source=FREE_OF_CHARGE)
    if provider.base_url == BUILT_IN:
        price = price_of(sim_config(provider), model.id)
        return None if price is None else replace(price, source=_PLAY)
    if model.alias in sources.frozen:
        return sources.frozen[model.alias]
    kept = sources.lists.get(at(provider))
    row = None if kept is None else kept.models.get(model.id)
    if row is not None and row.price is not None:
        return row.price
    # At another address of the same type somebody else may answer, who charges something else.
    return sources.package.price(provider.type, model.id) if sources.package and usual(provider) else None


def at(provider: Provider) -> At:
    """Whose list of models holds for a provider."""
    return provider.type, provider.base_url


def usual(provider: Provider) -> bool:
    """True when a provider is at the address that its type is known for."""
    return provider.base_url == DIALECTS[provider.type].home.base_url


def _why_not(model: Model, provider: Provider, sources: Sources) -> str:
    kept = sources.lists.get(at(provider))
    if kept is None:
        free = DIALECTS[provider.type].home.free
        return "  # or `free: true`, where nobody asks for money" if free else ""
    what = "has no fixed price" if model.id in kept.models else "does not stand"
    return f"  # {what} in {kept.source}"


def _helps(provider: Provider, sources: Sources, file: str) -> list[str]:
    """What could make the price known, besides the job."""
    found: list[str] = []
    if DIALECTS[provider.type].priced:
        fetch = (
            f"tertulia models {provider.name} --fetch"
            if usual(provider)
            else command(f"models {provider.name} --fetch --job", file)
        )
        found.append(f"  {fetch}   # its own list, kept from then on")
    if sources.package is None and usual(provider) and provider.type in THEIR_NAMES:
        found.append(f"  pip install '{EXTRA}'   # the prices of the package genai-prices")
    return found


def sim_config(provider: Provider) -> SimConfig:
    """The configuration of the built-in server behind a provider."""
    return load_config(provider.sim or {}).config


def first_calls_that_do_not_fit(plan: Plan, cells: Sequence[Cell], known: Mapping[str, Price]) -> dict[str, str]:
    """A line for each of these cells, by id, of which not even one turn fits its ceilings."""
    budget = plan.budget
    found: dict[str, str] = {}
    worst_by_scene: dict[tuple[str, int, tuple[tuple[str, str], ...]], tuple[Nanos, str]] = {}
    for cell in cells:
        scene = (cell.prompt, cell.pairing, cell.models)
        if scene not in worst_by_scene:
            worst_by_scene[scene] = _first_call(plan.conversation(cell), known)
        need, alias = worst_by_scene[scene]
        caps = {
            "the budget of the run": budget.run,
            "the budget of the day": budget.day,
            "the budget of the month": budget.month,
            "the budget of one conversation": budget.conversation,
            f"the budget of pairing {cell.pairing}": budget.pairings.get(cell.pairing),
            f"the budget of one conversation of pairing {cell.pairing}": budget.conversations.get(cell.pairing),
            f"the budget of model {alias}": budget.models.get(alias),
            f"the budget of provider {plan.models[alias].provider}": budget.providers.get(plan.models[alias].provider),
        }
        for name, most in caps.items():
            if most is not None and need > most:
                found[cell.id] = (
                    f"{cell.name}: its first call may cost ${dollars(need)}, and {name} is ${dollars(most)}"
                )
                break
    return found


def _first_call(conversation: Conversation, known: Mapping[str, Price]) -> tuple[Nanos, str]:
    speakers = {p.role: p for p in conversation.participants}
    line = next(line for line in conversation.lines if line.given is None and speakers[line.role].live)
    speaker = speakers[line.role]
    history = [x.given or "" for x in conversation.lines[: line.number - 1]]
    shown = view(conversation, line.role, history, line.instruct)
    bound = input_bound(view_bound(shown), extra=speaker.extra)
    # With `min_tokens` a call is made all the same when the money does not reach for all of `max_tokens`.
    least = speaker.max_tokens if speaker.min_tokens is None else speaker.min_tokens
    return ceiling(known[speaker.alias], bound.tokens, least), speaker.alias


def left_out(plan: Plan) -> tuple[str, ...]:
    """A line for each setting of the job that a provider has no words for or may refuse, and each provider."""
    said: dict[tuple[str, str], None] = {}
    doubts: dict[str, None] = {}
    for cell in {(cell.prompt, cell.pairing, cell.models): cell for cell in plan.cells}.values():
        conversation = plan.conversation(cell)
        sides = [side for side in conversation.participants if side.live]
        for speaker in (*sides, *(aside.by for aside in conversation.asides)):
            provider = plan.providers[speaker.provider]
            takes = DIALECTS[provider.type].takes
            doubts |= {f"{text}: it may refuse them": None for _, text, _ in beyond(provider, speaker, sure=False)}
            said |= {(speaker.provider, name): None for name in _given(plan, speaker) if name not in takes}
    lines = (f"{_known(plan.providers[name])} takes no {setting}: it is left out" for name, setting in said)
    return (*lines, *doubts)


def taking_turns(plan: Plan) -> tuple[str, ...]:
    """A line for each provider that cannot have all of its models loaded at once."""
    found: list[str] = []
    for name, provider in plan.providers.items():
        room = provider.limits.resident
        models = {(model.id, model.context) for model in plan.models.values() if model.provider == name}
        if room is not None and len(models) > room:
            found.append(f"{name}: {len(models)} models take turns, {room} loaded at a time")
    return tuple(found)


def _given(plan: Plan, speaker: Participant) -> Iterator[str]:
    """The settings that a speaker's calls have, of those that a provider may not take."""
    given = {
        "temperature": speaker.sampling.temperature,
        "top_p": speaker.sampling.top_p,
        "presence_penalty": speaker.sampling.presence_penalty,
        "frequency_penalty": speaker.sampling.frequency_penalty,
        "top_k": speaker.sampling.top_k,
        "stop_strings": speaker.sampling.stop or None,
        "reasoning.effort": speaker.reasoning.effort,
        "reasoning.tokens": speaker.reasoning.tokens,
        "seed": plan.job.seed if plan.job.send_seed else None,
        "limit_field": plan.providers[speaker.provider].limit_field,
    }
    return (name for name, value in given.items() if value is not None)


def _known(provider: Provider) -> str:
    return provider.name if provider.name == provider.type else f"{provider.name} ({provider.type})"


def endpoint(provider: Provider, environ: Mapping[str, str], built_in: str | None) -> Endpoint:
    """Where a provider is, with its key filled in. Raises MissingVariable."""
    key = None if provider.api_key is None else resolve(provider.api_key, environ)
    base_url = built_in if built_in is not None else resolve(provider.base_url, environ)
    return Endpoint(
        name=provider.name,
        type=provider.type,
        base_url=base_url,
        api_key=None if not key else Secret(key),
        headers={name: _header(value, environ) for name, value in provider.headers.items()},
        limit_field=provider.limit_field,
        hidden=tuple(Secret(text) for text in hidden(provider.base_url, environ)),
    )


def _header(value: str, environ: Mapping[str, str]) -> str | Secret:
    """What comes from the environment is a secret; what stands in the job file, anybody may read."""
    resolved = resolve(value, environ)
    return resolved if resolved == value else Secret(resolved)


def endpoints_of(
    plan: Plan,
    environ: Mapping[str, str],
    built_in: Mapping[tuple[str, str], str],
    needed: Collection[str] | None = None,
) -> dict[str, Endpoint]:
    """Where the providers of a plan are; CannotBegin with every key that is missing and every unsafe address.

    Where only the models of these aliases are `needed`, other providers are left out.
    """
    found: dict[str, Endpoint] = {}
    troubles: dict[str, list[str]] = {}
    called = {model.provider for alias, model in plan.models.items() if needed is None or alias in needed}
    for name, provider in plan.providers.items():
        if name not in called:
            continue
        here = built_in.get((plan.job.name, name))
        try:
            found[name] = endpoint(provider, environ, here)
        except MissingVariable as missing:
            troubles.setdefault(str(missing), []).append(name)
            continue
        danger = None if here is not None else unsafe(found[name].base_url, keyed=bool(found[name].keys))
        if danger is not None:
            troubles.setdefault(danger, []).append(name)
        elif here is None and not at_hand(found[name].base_url) and _is_free_at_hand(plan, provider):
            troubles.setdefault(_MAY_COST, []).append(name)
    if troubles:
        raise CannotBegin(EXIT_PREFLIGHT, *by_providers(troubles))
    return found


def _is_free_at_hand(plan: Plan, provider: Provider) -> bool:
    """True when nothing but its type says that its models cost nothing."""
    models = (model for model in plan.models.values() if model.provider == provider.name)
    return provider.free_at_hand and any(model.free for model in models)


def by_providers(troubles: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A line for each trouble, with the providers that have it."""
    for trouble, names in troubles.items():
        yield f"provider{'s' if len(names) > 1 else ''} {listed(names)}: {trouble}"


def lanes_of(
    plans: Sequence[tuple[Plan, Mapping[str, Endpoint]]],
    most_calls: int | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Lane]]:
    """The lane of each model of each plan: one for a provider and key, whichever job uses it, at the tighter limits.

    What the built-in provider serves belongs to this process; any other account may be used by another one as well. A
    provider without an endpoint is one that is not called, and its lane is for the figures alone.
    All together have no more slots than `most_calls`, and `tell` is told where that is less than the jobs allow;
    CannotBegin when it is not one for each.
    """
    limits: dict[_Identity, Limits] = {}
    names: dict[_Identity, str] = {}
    ours: set[_Identity] = set()
    identities: list[dict[str, _Identity]] = []
    for plan, endpoints in plans:
        mine: dict[str, _Identity] = {}
        for alias, model in plan.models.items():
            provider, end = plan.providers[model.provider], endpoints.get(model.provider)
            own = provider.limits.per == "model"
            account = (plan.job.name, provider.name) if end is None else (end.base_url.rstrip("/"), _key(end))
            identity = mine[alias] = (*account, model.id if own else "")
            # Where nobody is called, nothing is shared with another process.
            if provider.base_url == BUILT_IN or end is None:
                ours.add(identity)
            said = replace(provider.limits, concurrency=provider.limits.concurrency or DEFAULT_CONCURRENCY)
            limits[identity] = tighter(limits[identity], said) if identity in limits else said
            name = f"{provider.name}/{alias}" if own else provider.name
            if identity not in names:
                names[identity] = name if name not in names.values() else f"{name} ({plan.job.name})"
        identities.append(mine)
    lanes = {
        identity: Lane(names[identity], one, None if identity in ours else _known_as(identity))
        for identity, one in _within(limits, most_calls, tell).items()
    }
    return [{alias: lanes[identity] for alias, identity in mine.items()} for mine in identities]


def _key(end: Endpoint) -> str:
    """What tells one account at an address from another: the key, and what the environment puts into headers."""
    keys = [] if end.api_key is None else [end.api_key.reveal()]
    headers = {name.lower(): value.reveal() for name, value in end.headers.items() if isinstance(value, Secret)}
    keys += [f"{name}: {headers[name]}" for name in sorted(headers)]
    return sha256("\0".join(keys).encode()).hexdigest() if keys else ""


def _within(
    limits: Mapping[_Identity, Limits], most_calls: int | None, tell: Callable[[str], None]
) -> Mapping[_Identity, Limits]:
    """These limits, each with its part of the calls that the machine allows where they would make more together."""
    slots = {identity: one.concurrency or DEFAULT_CONCURRENCY for identity, one in limits.items()}
    wanted, lanes = sum(slots.values()), len(slots)
    if most_calls is None or wanted <= most_calls:
        return limits
    if most_calls < lanes:
        what = "this machine lets a process open too few files for the connections of this run"
        raise CannotBegin(EXIT_PREFLIGHT, what, "  before the run: ulimit -n 1024")
    tell(f"{most_calls} calls at once and not {wanted}: a process may not open more files here; see ulimit -n")
    share = Fraction(most_calls - lanes, wanted - lanes)
    return {
        identity: replace(one, concurrency=1 + int((slots[identity] - 1) * share)) for identity, one in limits.items()
    }


def _known_as(identity: _Identity) -> str:
    """What processes call an account among themselves.

    It can be written down: from a hash nobody finds a key that was drawn at random, and beside the address it tells
    nobody which of two providers a key is for.
    """
    return sha256("\0".join(identity).encode()).hexdigest()


def tighter(one: Limits, other: Limits) -> Limits:
    """What both allow."""

    def least(name: str) -> int | None:
        return min((v for v in (getattr(one, name), getattr(other, name)) if v is not None), default=None)

    return Limits(
        concurrency=least("concurrency"),
        rpm=least("rpm"),
        rpd=least("rpd"),
        tpm=least("tpm"),
        input_tpm=least("input_tpm"),
        output_tpm=least("output_tpm"),
        burst=least("burst"),
        resident=least("resident"),
        count="reserved" if "reserved" in (one.count, other.count) else "used",
        per=one.per,
    )
