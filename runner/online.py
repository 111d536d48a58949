"""What providers say before a night, held against a job: keys, models, windows, prices, credit, graphics cards.

Only questions that cost nothing have been asked. Here stands what their answers mean: a finding for each provider, for
each of its models and for its account. A `problem` would keep the run from beginning, or from any good.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from typing import Final, NamedTuple

from runner.conversation import view
from runner.doctor import CODES, Finding, Grade
from runner.foreign import masker
from runner.job import Provider
from runner.job.environment import variables
from runner.money import Nanos, Price, shown
from runner.plan import Model, Plan
from runner.prices import view_bound
from runner.providers import DIALECTS, Endpoint
from runner.providers.base import Fact, Funds, Inquiry, Listed, Resident
from runner.world import WireError

_SERVERS: Final[Mapping[str, str]] = {
    "llamacpp": "the server of llama.cpp",
    "lmstudio": "the server of LM Studio",
    "ollama": "Ollama",
    "vllm": "vLLM",
}
"""What to start on a machine of one's own, by the type of the provider."""
_GET: Final[Mapping[str, str]] = {"lmstudio": "lms get {}", "ollama": "ollama pull {}"}
_LOAD: Final[Mapping[str, str]] = {"lmstudio": "lms load {}", "ollama": 'ollama run {} ""'}
_SUFFIXED: Final = frozenset({"openrouter"})
"""Where a model's name may have an ending, after a colon, that the list does not show."""
_GONE: Final = frozenset({"retired", "deleted"})
_REFUSED: Final = "connection refused"
_MOST_NAMED: Final = 3
_ENDING: Final = "does its `base_url` end as it should, such as in /v1?"
_UNTOLD: Final = "the server does not tell how much of it is on the graphics card"


class Heard(NamedTuple):
    """A question that cost nothing, and the answer to it; or how it broke."""

    inquiry: Inquiry
    status: int = 0
    headers: Mapping[str, str] = {}
    body: bytes = b""
    broke: WireError | None = None


def lists_to_ask_for(endpoint: Endpoint, heard: Iterable[Heard]) -> Sequence[Inquiry]:
    """What to ask besides, where a model is not there: for the names of those that are."""
    missing = any(one.inquiry.about == "model" and one.broke is None and one.status == 404 for one in heard)
    return DIALECTS[endpoint.type].inquiries(endpoint, ()) if missing else ()


def findings(
    plan: Plan, endpoint: Endpoint, heard: Sequence[Heard], known: Mapping[str, Price], wall: float
) -> tuple[Finding, ...]:
    """What the answers of a provider mean for a job; `known` are the prices that would be paid, by alias.

    No key is in them, wherever the provider may have put it.
    """
    masked = masker(endpoint.secrets)
    return tuple(
        Finding(one.grade, masked(one.subject), masked(one.text), None if one.remedy is None else masked(one.remedy))
        for one in _Hearing(plan, endpoint, heard, known, wall).findings()
    )


@dataclass(slots=True)
class _About:
    """What there is to say of one subject: one line of it, as grave as the gravest."""

    subject: str
    parts: list[tuple[Grade, str, str | None]] = field(default_factory=list)

    def add(self, text: str, grade: Grade = "ok", remedy: str | None = None) -> None:
        self.parts.append((grade, text, remedy))

    def finding(self) -> Finding:
        # What is wrong comes first, and says what to do.
        parts = sorted(self.parts, key=lambda part: -CODES[part[0]])
        remedy = next((remedy for _, _, remedy in parts if remedy is not None), None)
        return Finding(parts[0][0], self.subject, "; ".join(text for _, text, _ in parts), remedy)


class _Hearing:
    """The answers of one provider."""

    def __init__(
        self, plan: Plan, endpoint: Endpoint, heard: Sequence[Heard], known: Mapping[str, Price], wall: float
    ) -> None:
        self.plan = plan
        self.endpoint = endpoint
        self.provider: Provider = plan.providers[endpoint.name]
        self.dialect = DIALECTS[endpoint.type]
        self.heard = heard
        self.known = known
        self.wall = wall
        self.facts: list[tuple[Inquiry, Fact]] = [
            (one.inquiry, fact)
            for one in heard
            if one.broke is None and one.status == 200
            for fact in self.dialect.learned(one.inquiry, one.body)
        ]
        self.models: dict[str, list[Model]] = {}
        for model in plan.models.values():
            if model.provider == endpoint.name:
                self.models.setdefault(model.id, []).append(model)

    def findings(self) -> Iterator[Finding]:
        self.astray = self._is_astray()
        self.missing = {one.inquiry.models[0] for one in self.heard if self._says_no_model(one)}
        troubles = list(dict.fromkeys(filter(None, map(self._trouble, self.heard))))
        if self._answered():
            yield self._reached()
        elif not troubles:
            yield Finding("ok", self.endpoint.name, "nothing can be asked there for nothing")
        yield from troubles
        if self.astray:
            return
        if any(one.inquiry.about in ("models", "model") and one.status in (200, 404) for one in self.heard):
            for id_, models in self.models.items():
                about = _About(f"{self.endpoint.name}/{id_}")
                self._model(about, id_, models)
                if about.parts:
                    yield about.finding()
        yield from self._resident()
        for _, fact in self.facts:
            if isinstance(fact, Funds):
                yield self._funds(fact)

    # -- the provider ------------------------------------------------------------------------------------------------

    def _answered(self) -> bool:
        return any(one.status == 200 for one in self.heard)

    def _reached(self) -> Finding:
        where = self.endpoint.base_url
        if not self._is_keyed():
            return Finding("ok", self.endpoint.name, f"answers at {where}")
        # A list of models may be public; what the account has is not.
        about = {one.inquiry.about for one in self.heard}
        proof = [one for one in self.heard if one.inquiry.about == "account" or "account" not in about]
        if any(one.status == 200 for one in proof):
            return Finding("ok", self.endpoint.name, "the key is accepted")
        return Finding("ok", self.endpoint.name, f"answers at {where}")

    def _is_keyed(self) -> bool:
        return self.endpoint.api_key is not None or bool(self.endpoint.keys)

    def _trouble(self, one: Heard) -> Finding | None:
        """What an answer that is none means for the provider as a whole."""
        name = self.endpoint.name
        if one.broke is not None:
            return self._unreachable(one.broke)
        if self.astray:
            text = f"neither its models nor their list is there (HTTP {one.status})"
            return Finding("problem", name, text, _ENDING)
        if one.status == 200 or self._says_no_model(one):
            return None
        failure = self.dialect.failure(one.status, one.headers, one.body, self.wall)
        if failure.quota == "credit":
            return Finding("problem", name, f"no credit is left ({failure.detail})", "add credit to the account")
        if failure.busy or failure.quota == "day":
            return Finding("warning", name, f"it is busy, and tells nothing now ({failure.detail})", "ask again later")
        if one.status in (401, 403) or (one.status == 400 and failure.scope == "provider"):
            if self._is_keyed():
                return Finding("problem", name, f"the key is not accepted ({failure.detail})", self._key_remedy())
            return Finding("problem", name, f"it wants a key ({failure.detail})", "give the provider an `api_key`")
        if failure.scope == "provider":
            return Finding("problem", name, failure.detail, "correct its `base_url`")
        if one.inquiry.about == "resident":
            return None  # an older server, which does not tell
        remedy = _ENDING if one.status == 404 else None
        return Finding("warning", name, f"it does not tell what was asked ({failure.detail})", remedy)

    def _key_remedy(self) -> str:
        written = (self.provider.api_key or "", *self.provider.headers.values())
        names = list(dict.fromkeys(name for text in written for name in variables(text)))
        return f"put a valid key into {' or '.join(names)}" if names else "correct its `api_key`"

    def _unreachable(self, broke: WireError) -> Finding:
        name, where = self.endpoint.name, self.endpoint.base_url
        server = _SERVERS.get(self.endpoint.type)
        if not broke.sent and _REFUSED in broke.what.lower():
            text = f"nothing listens at {where}" + (f": is {server} running?" if server else "")
            return Finding("problem", name, text, "start it, or correct `base_url`" if server else "correct `base_url`")
        return Finding(
            "problem", name, f"{where} cannot be reached: {broke.what}", "look at the network, or `base_url`"
        )

    # -- a model -----------------------------------------------------------------------------------------------------

    def _says_no_model(self, one: Heard) -> bool:
        return not self.astray and one.broke is None and one.inquiry.about == "model" and one.status == 404

    def _is_astray(self) -> bool:
        """True when each model is missing, and the list that would name it as well: somebody else may be there."""
        asked = {one.inquiry.about for one in self.heard}
        return asked == {"model", "models"} and all(one.broke is None and one.status == 404 for one in self.heard)

    def _listed(self, id_: str) -> Listed | None:
        named = {fact.id: fact for _, fact in self.facts if isinstance(fact, Listed)}
        bare = id_.partition(":")[0] if self.endpoint.type in _SUFFIXED else id_
        return named.get(id_) or named.get(bare)

    def _residents(self, id_: str) -> list[Resident]:
        return [fact for _, fact in self.facts if isinstance(fact, Resident) and fact.id == id_]

    def _model(self, about: _About, id_: str, models: Sequence[Model]) -> None:
        listed, residents = self._listed(id_), self._residents(id_)
        if id_ in self.missing or (listed is None and not residents):
            if id_ in self.missing or any(one.inquiry.about == "models" and one.status == 200 for one in self.heard):
                self._absent(about, id_)
            return
        about.add("there")
        if listed is not None and listed.ends is not None:
            self._ends(about, listed.ends)
        self._window(about, listed, models)
        self._price(about, listed, models)
        for resident in residents:
            self._loaded(about, resident, models)
        if self.provider.min_gpu is not None and not self._tells_residents():
            about.add(_UNTOLD, "warning")

    def _absent(self, about: _About, id_: str) -> None:
        names = [fact.id for _, fact in self.facts if isinstance(fact, Listed)]
        home = self.dialect.home
        if not names and not home.free and id_ not in self.missing:
            about.add("its provider's list names no model at all, so nobody can tell whether it is there", "warning")
            return
        close = _close(id_, names)
        text = "there is no such model" + (f"; close to it: {', '.join(close)}" if close else "")
        get = _GET.get(self.endpoint.type)
        remedy = get.format(id_) if get else "correct `use`" if close or not home.free else "start the server with it"
        # A server that is only like the one its type is named for may answer to names that it does not list.
        elsewhere = home.alike and self.provider.base_url != home.base_url
        about.add(text, "warning" if elsewhere else "problem", remedy)

    def _ends(self, about: _About, ends: str) -> None:
        try:
            gone = date.fromisoformat(ends[:10]) < date.fromisoformat(self.plan.date)
        except ValueError:
            gone = ends.lower() in _GONE
        about.add(f"it was taken away: {ends}" if gone else f"it is taken away: {ends}", *_ENDS[gone])

    def _window(self, about: _About, listed: Listed | None, models: Sequence[Model]) -> None:
        window = None if listed is None else listed.window
        need = max((_max_tokens(self.plan).get(model.alias, 0) for model in models), default=0)
        if window is None:
            if all(model.context is None for model in models):
                about.add("its window is not told")
        elif need < window:
            about.add(f"window {window:,}")
        for part in () if listed is None else _too_much(listed, need):
            about.add(*part)
        opens = self.dialect.home.window is not None
        prompt = max((_longest_prompts(self.plan).get(model.alias, 0) for model in models), default=0)
        if window is not None and not opens and need < window < prompt + 2 * need:
            text = f"it may be full after few lines, of max_tokens {need:,} each, and up to {prompt:,} for the prompt"
            about.add(text, "warning", "lower max_tokens: a window that is full stops a conversation")
        for model in models:
            if window is None or model.context is None or (model.context <= window and not opens):
                continue
            if model.context <= window:
                about.add(f"calls open {model.context:,} of it (`context`)")
            elif opens:
                text = f"calls open {model.context:,} for {model.alias}, more than its window"
                about.add(text, "warning", f"give it a `context` of {window:,} at most")
            else:
                text = f"`context` of {model.alias} is {model.context:,}, more than its window of {window:,}"
                about.add(text, "warning", "correct `context`")

    def _price(self, about: _About, listed: Listed | None, models: Sequence[Model]) -> None:
        told = None if listed is None else listed.price
        for model in models:
            price = self.known.get(model.alias)
            of_whom = f" for {model.alias}" if len(models) > 1 else ""
            if price is None:
                hint = "" if told is None else f": its list says {{input: {told.input:f}, output: {told.output:f}}}"
                about.add(f"its price is not known{of_whom}", "problem", f"give `{model.alias}` a `price`{hint}")
                continue
            about.add("free" + of_whom if price.free else f"{_rates(price)} ({price.source or 'the job'}){of_whom}")
            if told is not None and (told.input > price.input or told.output > price.output):
                about.add(f"its list says more: {_rates(told)}", "warning", "correct its price: calls will cost more")

    def _loaded(self, about: _About, resident: Resident, models: Sequence[Model]) -> None:
        if resident.on_gpu is not None:
            part = f"{int(resident.on_gpu * 100)} % of it on the graphics card"
            least = self.provider.min_gpu
            if least is not None and resident.on_gpu < least:
                text = f"{part}, less than `min_gpu` {least:g}"
                about.add(text, "problem", "free its memory, or take a smaller model or `context`")
            elif least is None and resident.on_gpu < 1:
                about.add(part, "warning", "it will be slow: free memory, or take a smaller model or `context`")
            else:
                about.add(part)
        elif self.provider.min_gpu is not None:
            about.add(_UNTOLD, "warning")
        for model in models:
            if resident.window is not None and model.context is not None and resident.window < model.context:
                opens = self.dialect.home.window is not None
                what = f"{model.context:,} that calls open for" if opens else f"`context` {model.context:,} of"
                text = f"loaded with a window of {resident.window:,}, less than the {what} {model.alias}"
                about.add(text, "warning", "the first call loads it anew" if opens else "load it with more")

    # -- what is loaded, and what is left ----------------------------------------------------------------------------

    def _resident(self) -> Iterator[Finding]:
        """What a local server has loaded, where it says so."""
        if not self._tells_residents():
            return
        loaded = list(dict.fromkeys(fact.id for _, fact in self.facts if isinstance(fact, Resident)))
        text = f"loaded: {', '.join(loaded)}" if loaded else "no model is loaded"
        most = self.provider.limits.resident
        if most is not None and len(loaded) > most:
            more = f"{text}, more than `resident` {most}"
            yield Finding("warning", self.endpoint.name, more, "raise it, if all of them fit, and they stay loaded")
        else:
            yield Finding("ok", self.endpoint.name, text)
        if self.provider.min_gpu is not None:
            for id_ in self.models:
                if id_ not in loaded and id_ not in self.missing and self._listed(id_) is not None:
                    text = "not loaded, so nobody can tell whether it fits the graphics card"
                    load = _LOAD.get(self.endpoint.type)
                    yield Finding("warning", f"{self.endpoint.name}/{id_}", text, load.format(id_) if load else None)

    def _tells_residents(self) -> bool:
        return any(one.inquiry.about == "resident" and one.status == 200 for one in self.heard)

    def _funds(self, funds: Funds) -> Finding:
        name, budget = self.endpoint.name, self.plan.budget
        if funds.left is None:
            return Finding("ok", name, f"credit: {funds.words}")
        paid = not all(
            self.known[model.alias].free if model.alias in self.known else False
            for models in self.models.values()
            for model in models
        )
        text = f"{shown(funds.left)} of credit left" + (f" {funds.words}" if funds.words else "")
        if paid and funds.left <= 0:
            return Finding("problem", name, text, "add credit to the account, or raise the key's limit")
        most = [amount for amount in (budget.providers.get(name), budget.run) if amount is not None]
        need: Nanos | None = min(most, default=None)
        if paid and need is not None and funds.left < need:
            return Finding("warning", name, f"{text}, and the budget is {shown(need)}", "add credit, or lower `budget`")
        return Finding("ok", name, text)


_ENDS: Final[Mapping[bool, tuple[Grade, str]]] = {
    True: ("problem", "take another model"),
    False: ("warning", "take another one in time"),
}


def too_much(plan: Plan, rows: Mapping[str, tuple[Listed, str]]) -> Iterator[Finding]:
    """What speaks against the output limits of a plan in lists that are kept: rows by alias, each with its source."""
    most = _max_tokens(plan)
    for alias, (listed, source) in rows.items():
        for text, grade, remedy in _too_much(listed, most.get(alias, 0)):
            yield Finding(grade, f"{plan.models[alias].provider}/{listed.id}", f"{text} ({source})", remedy)


def _too_much(listed: Listed, need: int) -> Iterator[tuple[str, Grade, str]]:
    if listed.window is not None and need >= listed.window:
        text = f"max_tokens {need:,} leaves no room for a prompt in its window of {listed.window:,} tokens"
        yield text, "problem", "lower max_tokens"
    if listed.max_output is not None and need > listed.max_output:
        yield (
            f"max_tokens {need:,} is more than the {listed.max_output:,} that it may write",
            "warning",
            "lower max_tokens",
        )


def _close(id_: str, names: Sequence[str]) -> list[str]:
    """The names that may be meant: of the same model of others, or written almost alike."""
    last = id_.rpartition("/")[2]
    same = [name for name in names if name.rpartition("/")[2] == last]
    return list(dict.fromkeys([*same, *get_close_matches(id_, names, _MOST_NAMED)]))[:_MOST_NAMED]


def _rates(price: Price) -> str:
    return f"${price.input:f} in, ${price.output:f} out per million"


def _longest_prompts(plan: Plan) -> Mapping[str, int]:
    """The most tokens that the first call to each model of the plan is sent, what others said before it aside."""
    found: dict[str, int] = {}
    for cell in {cell.kind: cell for cell in plan.cells}.values():
        conversation = plan.conversation(cell)
        for speaker in (side for side in conversation.participants if side.live):
            first = next((line for line in conversation.lines if line.role == speaker.role and not line.given), None)
            if first is not None:
                before = [line.given or "" for line in conversation.lines[: first.number - 1]]
                bound = view_bound(view(conversation, speaker.role, before, first.instruct))
                found[speaker.alias] = max(found.get(speaker.alias, 0), bound)
    return found


def _max_tokens(plan: Plan) -> Mapping[str, int]:
    """The largest output limit of each model of the plan."""
    found: dict[str, int] = {}
    for cell in {cell.kind: cell for cell in plan.cells}.values():
        for speaker in (side for side in plan.conversation(cell).participants if side.live):
            found[speaker.alias] = max(found.get(speaker.alias, 0), speaker.max_tokens)
    return found
