"""A job as it is meant: every name resolved, every text at hand, nothing left to look up.

Texts still carry their named fields, and `${VAR}` stands as it was written: no key is ever part of a job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

from runner.call import Reasoning, Sampling, Timeouts
from runner.conversation import AsideKind, Inbox, Look, Outcomes, Overflow, Policy
from runner.job.environment import hidden, variables
from runner.limits import Limits
from runner.money import Nanos, Price
from runner.stops import Rule
from runner.world import Secret

Overrides: TypeAlias = Mapping[str, Any]
"""Settings that one entry sets itself, in the shape of the job file; the outer entries fill in the rest."""
When: TypeAlias = Literal["always", "complete", "failed", "pending", "budget", "deadline", "preflight", "interrupted"]
"""How a run can end, as far as somebody may want to be told."""
Order: TypeAlias = Literal["round-robin", "random", "moderator"]
"""Who speaks when, within a round: as the roles are listed, as it was drawn, or as somebody says."""


@dataclass(frozen=True, slots=True)
class Provider:
    """One account at one server; base_url, api_key and headers as written, with their `${VAR}`."""

    name: str
    type: str
    """The name of its dialect."""
    base_url: str
    api_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    limits: Limits = field(default_factory=Limits)
    limit_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    sim: Mapping[str, Any] | None = field(default=None, hash=False)
    free: bool = False
    free_at_hand: bool = False
    """True when only its type says that it is free: that holds on this machine and in a network of one's own."""
    settings: Overrides = field(default_factory=dict, hash=False)
    min_gpu: float | None = None
    """The part of a loaded model that must lie in the memory of the graphics card."""

    @property
    def key_names(self) -> tuple[str, ...]:
        """The variables that its keys are in."""
        return tuple(dict.fromkeys(name for text in _secret(self) for name in variables(text)))


@dataclass(frozen=True, slots=True)
class Model:
    """One model under the name that the job gives it."""

    alias: str
    label: str
    provider: str
    id: str
    price: Price | None = None
    free: bool = False
    """True when the job says so, or its provider's type does; a price in the job is stronger than the type."""
    context: int | None = None
    settings: Overrides = field(default_factory=dict, hash=False)

    @property
    def use(self) -> str:
        """`provider/model-id`, as a job file says it."""
        return f"{self.provider}/{self.id}"


@dataclass(frozen=True, slots=True)
class Role:
    """One side; it is live when it has neither a script nor an inbox."""

    name: str
    label: str | None = None
    system: str | None = None
    script: tuple[str, ...] | None = None
    opening: str | None = None
    inbox: Inbox | None = None

    @property
    def live(self) -> bool:
        return self.script is None and self.inbox is None

    @property
    def kind(self) -> str:
        """What it is, for people and for what a conversation is known by."""
        return "live" if self.live else "scripted" if self.script is not None else "inbox"


@dataclass(frozen=True, slots=True)
class Beat:
    """One turn of the cycle that a prompt repeats."""

    by: str
    label: str | None = None
    instruct: str | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """Somebody who is asked about each conversation of a prompt, and heard by nobody in it."""

    kind: AsideKind
    model: str
    prompt: str
    """The whole question, with what is said of the form of its answer."""
    system: str | None = None
    heading: str = ""
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    every: int = 1
    """A vote is held after so many rounds."""
    budget: Nanos | None = None
    settings: Overrides = field(default_factory=dict, hash=False)
    cells: tuple[str, ...] = ()
    """The conversations for which alone he was engaged, by their ids; none where he listens to all of his prompt."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is talked about, and who speaks when: `cycle`, `rounds` times."""

    name: str
    roles: tuple[Role, ...]
    rounds: int
    cycle: tuple[Beat, ...]
    context: str | None = None
    opening: str | None = None
    vars: Mapping[str, str] = field(default_factory=dict, hash=False)
    settings: Overrides = field(default_factory=dict, hash=False)
    # The record of an older version has none of these.
    order: Order = "round-robin"
    moderator: Listener | None = None
    stops: tuple[Rule, ...] = ()
    voters: tuple[Listener, ...] = ()
    after: tuple[Listener, ...] = ()
    look: Look = field(default_factory=Look)

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return (*(() if self.moderator is None else (self.moderator,)), *self.voters, *self.after)

    @property
    def live_roles(self) -> tuple[str, ...]:
        return tuple(role.name for role in self.roles if role.live)


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Conversations to leave out: those of these prompts in which each named role has one of its models."""

    prompts: tuple[str, ...] | None
    models: Mapping[str, tuple[str, ...]] = field(hash=False)

    def covers(self, prompt: str, models: Mapping[str, str]) -> bool:
        return (self.prompts is None or prompt in self.prompts) and all(
            models.get(role) in aliases for role, aliases in self.models.items()
        )


@dataclass(frozen=True, slots=True)
class SetRule:
    """Settings for some calls: `where` chooses conversations, `models` chooses speakers in them."""

    where: Exclusion
    models: tuple[str, ...] | None
    settings: Overrides = field(hash=False)


@dataclass(frozen=True, slots=True)
class Pairing:
    """Who talks with whom about what; `position` counts the pairings of the file from 1."""

    position: int
    prompts: tuple[str, ...]
    models: Mapping[str, tuple[str, ...]] = field(hash=False)
    match: Literal["cross", "distinct", "unordered", "zip"] = "cross"
    exclude: tuple[Exclusion, ...] = ()
    repeat: int = 1
    budget: Nanos | None = None
    conversation_budget: Nanos | None = None
    vars: Mapping[str, str] = field(default_factory=dict, hash=False)
    settings: Overrides = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told how a run ended; the webhook as written, with its `${VAR}`."""

    when: tuple[str, ...]
    command: tuple[str, ...] = ()
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A whole job file, checked and resolved; plain data, and equal to what its record gives back."""

    name: str
    run_key: str
    timezone: str
    seed: int
    send_seed: bool
    max_wait: float
    """Seconds to wait for parked providers when nothing else is left."""
    budget: Nanos | None
    conversation_budget: Nanos | None
    provider_budgets: Mapping[str, Nanos] = field(hash=False)
    model_budgets: Mapping[str, Nanos] = field(hash=False)
    vars: Mapping[str, str] = field(hash=False)
    defaults: Overrides = field(hash=False)
    """Every setting: what the job does not set, at its built-in value."""
    providers: Mapping[str, Provider] = field(hash=False)
    models: Mapping[str, Model] = field(hash=False)
    prompts: Mapping[str, Prompt] = field(hash=False)
    pairings: tuple[Pairing, ...]
    exclude: tuple[Exclusion, ...]
    rules: tuple[SetRule, ...]
    day_budget: Nanos | None = None
    """For all runs of a day that write into one outputs folder; the record of an older version has none."""
    month_budget: Nanos | None = None
    deadline: float | str | None = None
    """No call starts after it: a time of day (`06:30`) in the job's zone, or seconds from the start."""
    notify: Notify | None = None

    def ends(self, start: float) -> float | None:
        """When a life that starts at `start` (seconds since 1970) may begin no more calls; None: never."""
        if self.deadline is None:
            return None
        if not isinstance(self.deadline, str):
            return start + self.deadline
        zone, clock = ZoneInfo(self.timezone), time.fromisoformat(self.deadline)
        today = datetime.fromtimestamp(start, zone).date()
        days = (datetime.combine(today + timedelta(days=n), clock, zone).timestamp() for n in (0, 1))
        return next(moment for moment in days if moment > start)

    def key(self, date: str) -> str:
        """The key of a run that starts on this date: the name of its folder."""
        return self.run_key.replace("{date}", date)

    def variables(self) -> tuple[str, ...]:
        """The environment variables that the job names, each once."""
        written = [text for provider in self.providers.values() for text in _written(provider)]
        written += self._webhooks()
        return tuple(dict.fromkeys(name for text in written for name in variables(text)))

    def secrets(self, environ: Mapping[str, str]) -> tuple[Secret, ...]:
        """Every value that must be masked wherever foreign text is shown; variables that are not set are left out."""
        keyed = [text for provider in self.providers.values() for text in _secret(provider)]
        keyed += self._webhooks()
        values = {environ[name]: None for text in keyed for name in variables(text) if environ.get(name)}
        values |= {text: None for provider in self.providers.values() for text in hidden(provider.base_url, environ)}
        return tuple(Secret(value) for value in values)

    def _webhooks(self) -> list[str]:
        return [] if self.notify is None or self.notify.webhook is None else [self.notify.webhook]

    def record(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The job as plain JSON with long texts replaced by their SHA-256, and those texts."""
        from runner.job.record import record

        return record(self)

    @classmethod
    def from_record(cls, data: Mapping[str, Any], texts: Mapping[str, str]) -> Job:
        """The job that `record` was made of; KeyError when a text is missing."""
        from runner.job.record import restored

        return restored(data, texts)


def _secret(provider: Provider) -> Iterable[str]:
    return (*(() if provider.api_key is None else (provider.api_key,)), *provider.headers.values())


def _written(provider: Provider) -> Iterable[str]:
    return (provider.base_url, *_secret(provider))


# --- settings ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    """How the calls of one speaker are made."""

    max_tokens: int
    min_tokens: int | None
    sampling: Sampling
    timeouts: Timeouts
    outcomes: Outcomes
    reasoning: Reasoning
    extra: Mapping[str, Any] = field(hash=False)
    history_reasoning: Literal["strip", "keep"]
    overflow: Overflow
    window: int | None


def merged(outer: Overrides, inner: Overrides) -> dict[str, Any]:
    """The outer settings with the inner ones laid over them, key by key."""
    result = dict(outer)
    for key, value in inner.items():
        beneath = result.get(key)
        result[key] = merged(beneath, value) if isinstance(beneath, Mapping) and isinstance(value, Mapping) else value
    return result


def settled(layers: Iterable[Overrides]) -> Settings:
    """The settings that hold when each layer may overrule the one before; the first must be complete."""
    whole: dict[str, Any] = {}
    for layer in layers:
        whole = merged(whole, layer)
    return Settings(
        max_tokens=whole["max_tokens"],
        min_tokens=whole.get("min_tokens"),  # the record of an older version has none
        sampling=Sampling(
            temperature=whole["temperature"],
            top_p=whole["top_p"],
            presence_penalty=whole["presence_penalty"],
            frequency_penalty=whole["frequency_penalty"],
            # The record of an older version has none of these.
            top_k=whole.get("top_k"),
            stop=tuple(whole.get("stop_strings", ())),
        ),
        timeouts=Timeouts(**whole["timeout"]),
        outcomes=Outcomes(
            **{
                outcome: Policy(rule["retry"], rule["then"] == "accept", rule["max_tokens"])
                for outcome, rule in whole["outcomes"].items()
            }
        ),
        reasoning=Reasoning(**whole.get("reasoning", {})),
        extra=whole.get("extra", {}),
        history_reasoning=whole["history"]["reasoning"],
        overflow=whole["history"]["overflow"],
        window=whole["history"].get("window"),
    )
