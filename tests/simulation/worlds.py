"""A seed drawn into a world, all of it plain data: a job, its providers, and the lives of those who work on it.

Most worlds are small, and in most of them most kinds of trouble are switched off, so that the few that are on get deep.
The last life of every world has nothing in its way: after it, everything must be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from signal import SIGINT, SIGTERM
from typing import Any, Final, TypeAlias

import orjson

from runner.job import JobError
from runner.selection import Options
from tests.memory import Trouble
from tests.nights import job_of, text_of
from tests.simulation.truth import Spend, undisturbed

JobData: TypeAlias = dict[str, Any]
Sims: TypeAlias = dict[str, dict[str, Any]]

KEY: Final = "sk-planted-3f9c1b77aa0e4d52"
"""What every provider wants for a key, and what no byte of disk or screen may show."""
ENVIRON: Final[Mapping[str, str]] = {"PLANTED": KEY}

PROVIDER_FAULTS: Final = (
    *("refused", "busy", "quota", "unauthorized", "no_money", "forbidden", "not_found", "context_length"),
    *("unsupported_parameter", "redirect", "server_error", "html", "malformed", "error_in_200", "finish_error"),
    *("reset", "cut", "short", "silent", "stall", "slow", "late", "blank", "whitespace", "thinking_only"),
    *("filtered", "refusal", "usage", "overrun", "other_model", "twice_done", "no_done"),
    *("usage", "usage", "busy", "server_error", "reset", "cut", "blank", "overrun"),  # money hangs on these
)
DEADLY: Final = ("refused", "unauthorized", "no_money", "silent", "reset", "server_error")
"""Faults that, always, are the end of a provider."""
TROUBLES: Final = (
    *("kill", "moment", "power", "disk", "signals", "max_time", "limit", "only", "edit", "caps", "budget"),
    *("jump", "sleep", "rot", "second", "neighbour", "moods", "changes"),
)
"""What may befall a life, beside its providers."""

TIMEOUTS: Final = {"first": "30s", "idle": "20s", "total": "120s"}
PATIENT: Final = {"empty": {"retry": 9}, "error": {"retry": 9}, "lost": {"retry": 9}}
PLENTY: Final = 500
MORE_THAN_PLENTY: Final = 900_000
"""For the last life, because a repair may have counted lost lines at a ceiling."""


@dataclass(frozen=True, slots=True)
class DiskFault:
    """Trouble at one of a life's operations that change the disk, counted from 1; `lasting` goes on with all later."""

    kind: Trouble
    change: int
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class Second:
    """Another process that starts some seconds after the first; without a job of its own it is on the same run."""

    after: float
    job: JobData | None = None
    dies_after: float | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """One process, from its start to its end or its death."""

    job: JobData
    sims: Sims
    options: Options = Options()  # noqa: RUF009
    fault: DiskFault | None = None
    dies_after: float | None = None
    """Seconds to a `kill -9` at no particular operation."""
    signals: tuple[tuple[float, int], ...] = ()
    jumps: tuple[tuple[float, float], ...] = ()
    """(Seconds after the start, by how much the wall clock is set then.)"""
    sleeps: tuple[tuple[float, float], ...] = ()
    """(Seconds after the start, for how long the machine is suspended then.)"""
    second: Second | None = None
    looked_on: bool = False
    rots: bool = False
    """After it one bit of what its disk had kept flips."""
    gap: float = 1.0
    """Seconds until the next life."""
    final: bool = False
    """True when nothing is in its way: after it, all that its job wants must be there."""

    @property
    def undisturbed(self) -> bool:
        """True when only its providers can go wrong."""
        troubles = (self.fault, self.dies_after, self.second, self.signals, self.jumps, self.sleeps)
        return not any(troubles)


@dataclass(frozen=True, slots=True)
class World:
    """Everything that a seed decides."""

    name: str
    lives: tuple[Life, ...]
    order: int | None
    """The order of the loop's steps; None is first in, first out."""
    rtt: tuple[float, float] = (0.0, 0.0)
    sync_seconds: tuple[float, float] = (0.0002, 0.02)
    crowded: bool = False
    """True when one large conversation has its place to find among many small ones."""
    rival: World | None = None
    """The same world with one provider dead; what has nothing to do with it may take no longer there."""

    @property
    def final(self) -> Life:
        return self.lives[-1]

    @property
    def is_calm(self) -> bool:
        """True when nothing at all goes wrong in it."""
        return all(x.undisturbed and not any("faults" in sim for sim in x.sims.values()) for x in self.lives)


# --- drawing -----------------------------------------------------------------------------------------------------


def draw(seed: int) -> World:
    """The world of a seed."""
    r = Random(seed)
    match r.randrange(40):
        case 0:
            return _crowd(seed, r)
        case 1:
            return _rivals(seed, r)
    calm = r.random() < 0.1
    troubles = [trouble for trouble in TROUBLES if r.random() < 0.3 and not calm]
    moods = r.sample(PROVIDER_FAULTS, r.choice((0, 1, 1, 2, 3, 5))) if not calm else []
    job = _job(r)
    habits = _habits(r, job)
    # Where nothing else goes wrong the limits are what is looked at.
    if r.random() < 0.7:
        _enforce(r, job, habits)
    spend = undisturbed(job, habits).spend
    if r.random() < 0.6:
        job = readable(_capped(r, job, spend), job)
    beside = _beside(r, job) if "neighbour" in troubles else None
    if beside is not None or r.random() < 0.1:
        # One ceiling over all runs of a day, near what they would spend together.
        both = spend.run + (undisturbed(beside, habits).spend.run if beside is not None else 0)
        shared = r.randrange(2**32)
        job = _for_a_day(Random(shared), job, both, spend.largest_first)
        beside = None if beside is None else _for_a_day(Random(shared), beside, both, spend.largest_first)
    lives: list[Life] = []
    sims = _moody(r, habits, moods)
    for number in range(r.choice((0, 1, 1, 2, 2, 3, 5)) if troubles else 0):
        if number and "moods" in troubles and r.random() < 0.5:
            sims = _moody(r, habits, moods)
        if number and "edit" in troubles and r.random() < 0.5:
            job = readable(_edited(r, job, habits), job)
        if number and "caps" in troubles and r.random() < 0.5:
            job = readable(_capped(r, job, spend), job)
        lives.append(_life(r, job, sims, troubles, spend, beside))
    if lives or moods:
        lives += [last_life(x, habits) for x in (job, beside) if x is not None]
    else:
        lives.append(_only_life(job, habits))
    return World(
        name=str(seed),
        lives=tuple(lives),
        order=r.choice((None, r.randrange(1000), r.randrange(1000))),
        rtt=r.choice(((0.0, 0.0), (0.001, 0.005), (0.01, 0.3))),
        sync_seconds=r.choice(((0.0002, 0.02), (0.0, 0.0), (0.001, 0.2), (0.05, 2.0))),
    )


def last_life(job: JobData, sims: Sims) -> Life:
    """A life with nothing in its way: money enough, patience, and providers that do what they should."""
    patient = {**freed(job), "budget": MORE_THAN_PLENTY, "max_wait": "24h"}
    patient["defaults"] = {**job["defaults"], "outcomes": PATIENT}
    patient["providers"] = {
        name: {**provider, "limits": {"concurrency": 4}} for name, provider in job["providers"].items()
    }
    calm = {name: but(_roomy(sim), "limits") for name, sim in sims.items()}
    for sim in calm.values():
        sim["models"] = {name: but(model, "limits") for name, model in sim["models"].items()}
    return Life(patient, calm, Options(accept_changes=True, retry_failed=True), final=True)


def _only_life(job: JobData, sims: Sims) -> Life:
    """A life in which nothing goes wrong, under the limits of the minute that the job was told."""
    patient = {**freed(job), "defaults": {**job["defaults"], "outcomes": PATIENT}}
    patient["providers"] = {name: _of_the_minute(provider) for name, provider in job["providers"].items()}
    theirs = {name: _of_the_minute(_roomy(sim)) for name, sim in sims.items()}
    return Life(patient, theirs, final=True)


def _of_the_minute(entry: JobData) -> JobData:
    """A provider, or one behind the wire, without limits over the day."""
    found = {**entry, "limits": but(entry.get("limits", {}), "rpd")}
    if "seed" in entry:
        found["models"] = {name: _of_the_minute_alone(model) for name, model in entry["models"].items()}
    return found


def _of_the_minute_alone(model: JobData) -> JobData:
    return {**model, "limits": but(model["limits"], "rpd")} if "limits" in model else model


def _roomy(sim: JobData) -> JobData:
    """A provider into whose models any history fits."""
    return {**sim, "models": {name: but(model, "context") for name, model in sim["models"].items()}}


def but(data: JobData, *keys: str) -> JobData:
    return {key: value for key, value in data.items() if key not in keys}


def freed(job: JobData) -> JobData:
    """The job without any ceiling that could matter."""
    return {**job, "budget": PLENTY, "pairings": [but(pairing, "budget") for pairing in job["pairings"]]}


def readable(job: JobData, otherwise: JobData) -> JobData:
    """The job, when a job file could say so."""
    try:
        job_of(text_of(job))
    except JobError:
        return otherwise
    return job


def _crowd(seed: int, r: Random) -> World:
    """One large conversation among many small ones, and a limit on tokens that all of them want to use."""
    large = {"context": "An essay. " * 120, "opening": "Begin.", "rounds": 2, "max_tokens": 800}
    small = {"opening": "What survives?", "rounds": 1, "max_tokens": 60}
    limits = {"concurrency": r.choice((3, 4, 8)), "tpm": 2000}
    job = {
        **_small_job(("p0",), {"m0": "p0", "m1": "p0"}),
        "prompts": {"large": large, "small": small},
        "pairings": [
            {"prompt": "large", "a": "m0", "b": "m1"},
            {"prompt": "small", "a": "m0", "b": "m1", "repeat": 20},
        ],
    }
    job["providers"] = {"p0": {**job["providers"]["p0"], "limits": limits}}
    habits = {name: _roomy(sim) for name, sim in _habits(r, job).items()}
    return World(str(seed), (Life(job, habits, final=True),), r.choice((None, r.randrange(1000))), crowded=True)


def _rivals(seed: int, r: Random) -> World:
    """Two providers whose conversations have nothing to do with each other; and again, with one of the two dead."""
    job = {
        **_small_job(("p0", "p1"), {"m0": "p0", "m1": "p0", "m2": "p1", "m3": "p1"}),
        "prompts": {name: {"opening": f"{name} survives?", "rounds": 2} for name in ("mine", "theirs")},
        "pairings": [
            {"prompt": "mine", "a": ["m0", "m1"], "b": ["m0", "m1"]},
            {"prompt": "theirs", "a": ["m2", "m3"], "b": ["m2", "m3"]},
        ],
    }
    habits = {name: _roomy(sim) for name, sim in _habits(r, job).items()}
    death = {"kind": r.choice(DEADLY), "rate": 1, "since": r.choice((0, 2))}
    dead = {**habits, "p1": {**habits["p1"], "faults": {"script": [death]}}}
    order = r.choice((None, r.randrange(1000)))
    rival = World(str(seed), (Life(job, dead),), order)
    return World(str(seed), (Life(job, habits, final=True),), order, rival=rival)


def _small_job(providers: Sequence[str], models: Mapping[str, str]) -> JobData:
    entry = {"type": "openai", "base_url": "sim", "api_key": "${PLANTED}", "limits": {"concurrency": 2}}
    return {
        "name": "job",
        "budget": PLENTY,
        "max_wait": "30s",
        "defaults": {"max_tokens": 200, "timeout": TIMEOUTS, "outcomes": PATIENT},
        "providers": dict.fromkeys(providers, entry),
        "models": {m: {"use": f"{name}/{m}", "price": {"input": 1.0, "output": 4.0}} for m, name in models.items()},
    }


def _job(r: Random) -> JobData:
    providers = [f"p{n}" for n in range(r.choice((1, 1, 1, 2, 2, 3)))]
    models = [f"m{n}" for n in range(r.randint(2, 4))]
    whose = {model: r.choice(providers) for model in models}
    kinds = [r.choice(("two", "two", "three", "scripted", "turns")) for _ in range(r.choice((1, 1, 1, 2)))]
    prompts, pairings = {}, []
    for number, kind in enumerate(kinds):
        prompts[f"t{number}"], roles = _prompt(r, kind, number, models)
        pairings.append({"prompt": f"t{number}", **roles})
    if r.random() < 0.3:
        pairings[0]["repeat"] = r.randint(2, 3)
    if r.random() < 0.04:
        pairings[0]["repeat"] = r.randint(5, 8)
    defaults: dict[str, Any] = {
        "max_tokens": r.choice((60, 200, 400)),
        "temperature": 0.7,
        "timeout": TIMEOUTS,
        "outcomes": _outcomes(r),
    }
    if r.random() < 0.15:
        defaults["min_tokens"] = r.choice((5, 30))
    if r.random() < 0.2:
        defaults["history"] = {"overflow": r.choice(("stop", "fail"))}
    return {
        "name": "job",
        "budget": PLENTY,
        "seed": r.randrange(100),
        "send_seed": r.random() < 0.5,
        "max_wait": r.choice(("30s", "15m", "2h")),
        "defaults": defaults,
        "providers": {
            p: {"type": "openai", "base_url": "sim", "api_key": "${PLANTED}", "limits": _limits(r)} for p in providers
        },
        "models": {
            m: {
                "use": f"{whose[m]}/{m}",
                "price": {"input": r.choice((0.2, 1.0, 3.0)), "output": r.choice((1.0, 4.0, 15.0))},
            }
            for m in models
        },
        "prompts": prompts,
        "pairings": pairings,
    }


def _prompt(r: Random, kind: str, number: int, models: Sequence[str]) -> tuple[JobData, JobData]:
    """A prompt, and who plays its roles."""

    def some(most: int) -> list[str]:
        return r.sample(models, r.randint(1, min(most, len(models))))

    match kind:
        case "two":
            prompt = {"opening": f"What survives of {number}?", "rounds": r.randint(1, 2)}
            first = some(2)
            return prompt, {"a": first, "b": some(3 - len(first))}
        case "three":
            roles: JobData = {"one": {}, "two": {"system": "Be brief."}, "three": {}}
            cast = {"one": some(2), "two": some(1), "three": some(1)}
            return {"roles": roles, "opening": f"Begin {number}.", "rounds": 1}, cast
        case "scripted":
            script = [f"Line {n} of {number}." for n in range(r.randint(1, 4))]
            return {"roles": {"host": {"label": "H", "script": script}, "guest": {}}}, {"guest": some(3)}
    turns = [{"by": "a", "instruct": "Open."}, {"by": "b"}, {"by": "a"}]
    context = f"Essay {number}. " * r.choice((1, 30))
    return {"context": context, "turns": turns, "rounds": r.choice((1, 1, 2))}, {"a": some(2), "b": some(1)}


def _limits(r: Random) -> JobData:
    limits: JobData = {"concurrency": r.choice((1, 2, 3, 8, 16, 50))}
    for name, chance, choices in (
        ("rpm", 0.35, (5, 20, 60, 300)),
        ("tpm", 0.15, (2_000, 8_000, 30_000)),
        ("input_tpm", 0.07, (5_000, 20_000)),
        ("output_tpm", 0.07, (5_000, 20_000)),
        ("rpd", 0.07, (5, 30, 200)),
    ):
        if r.random() < chance:
            limits[name] = r.choice(choices)
    if "rpm" in limits and r.random() < 0.2:
        limits["burst"] = 1
    if r.random() < 0.4:
        limits["count"] = r.choice(("reserved", "used"))
    if r.random() < 0.15:
        limits["per"] = "model"
    return limits


def _outcomes(r: Random) -> JobData:
    outcomes: JobData = {}
    for kind in ("empty", "truncated", "refused", "error", "lost"):
        if r.random() < 0.5:
            outcomes[kind] = {"retry": r.randint(0, 4)}
            if kind == "empty" and r.random() < 0.5:
                outcomes[kind]["max_tokens"] = "x2"
            if kind in ("truncated", "refused"):
                outcomes[kind]["then"] = r.choice(("accept", "fail"))
    return outcomes


def _habits(r: Random, job: JobData) -> Sims:
    """What the providers are, whatever goes wrong with them."""
    return {
        name: {
            "seed": r.randrange(10),
            "keys": [KEY],
            "cancelled": r.choice(("full", "full", "produced")),
            "models": {
                model: {
                    "latency": {
                        "first": r.choice((0.0, 0.5, 3.0)),
                        "per_token": r.choice((0.0, 0.01, 0.05)),
                        "spread": 0.3,
                    },
                    "price": entry["price"],
                    "reply": {"mean": r.choice((5, 60, 150))},
                    "reasoning": r.choice((0, 0, 40)),
                    "reports_cost": r.random() < 0.4,
                    **({"context": r.choice((500, 900))} if r.random() < 0.04 else {}),
                }
                for model, entry in job["models"].items()
                if entry["use"].startswith(f"{name}/")
            },
        }
        for name in job["providers"]
    }


def _enforce(r: Random, job: JobData, sims: Sims) -> None:
    """Let the providers enforce the limits that the job was told."""
    for name, provider in job["providers"].items():
        told = {key: value for key, value in provider["limits"].items() if key != "per"}
        window = "bucket" if "burst" in told else r.choice(("sliding", "fixed", "bucket"))
        limits = {**told, "window": window, "headers": r.random() < 0.8}
        if provider["limits"].get("per") == "model":
            for model in sims[name]["models"].values():
                model["limits"] = limits
        else:
            sims[name]["limits"] = limits


def _moody(r: Random, sims: Sims, kinds: Sequence[str]) -> Sims:
    """The providers with some of these faults."""
    if not kinds:
        return sims
    return {
        name: {**sim, "faults": {"rate": r.choice((0, 0, 0.05, 0.3)), "script": _script(r, sim, kinds)}}
        for name, sim in sims.items()
    }


def _script(r: Random, sim: JobData, kinds: Sequence[str]) -> list[JobData]:
    models = list(sim["models"])
    return [_fault(r, kind, models) for kind in kinds for _ in range(r.choice((0, 1, 1, 2)))] if models else []


def _fault(r: Random, kind: str, models: Sequence[str]) -> JobData:
    fault: JobData = {"kind": kind}
    chance = r.random()
    if chance < 0.6:
        fault["rate"] = r.choice((0.05, 0.2, 0.5, 1))
    elif chance < 0.8:
        fault["request"] = sorted(r.sample(range(1, 12), 3))
    else:
        fault["attempt"] = 1
    if fault.get("rate") == 1 or r.random() < 0.3:
        fault["model"] = r.choice(models)
    if r.random() < 0.3:
        fault["since"] = r.choice((0, 5, 20))
        fault["until"] = fault["since"] + r.choice((5, 60, 600))
    if kind in ("busy", "quota", "server_error") and r.random() < 0.6:
        fault["retry_after"] = r.choice((1, 7, 100, 5000, -3, "soon", "1e400"))
        if not isinstance(fault["retry_after"], str):
            fault["retry_form"] = r.choice(("seconds", "date", "ms"))
    match kind:
        case "server_error":
            fault["status"] = r.choice((500, 502, 503, 529, 408, 409))
        case "usage":
            fault["form"] = r.choice(("zero", "zero", "missing", "null", "strings", "floats", "negative", "huge"))
        case "overrun":
            fault["times"] = r.choice((1.02, 2, 9))
        case "cut" | "short" | "stall" | "error_in_200":
            fault["after"] = r.choice((0, 1, 5))
        case "slow" | "late":
            fault["seconds"] = r.choice((0.3, 5, 40, 200))
        case "filtered":
            fault["text"] = r.random() < 0.5
    return fault


def _capped(r: Random, job: JobData, spend: Spend) -> JobData:
    """The job with ceilings near what it would really spend, and rarely so low that nothing can begin."""

    def near(true: int) -> float:
        share = r.choice((0.05, 0.3, 0.8, 2.0))
        least = 0 if r.random() < 0.1 else spend.largest_first
        return round(max(true * share, least * r.uniform(1.0, 1.3), 1000) / 1e9, 9)

    budget: JobData = {"run": near(spend.run) if r.random() < 0.6 else PLENTY}
    if r.random() < 0.3:
        budget["conversation"] = near(spend.dearest_conversation)
    if r.random() < 0.25:
        name = r.choice(list(job["models"]))
        budget["models"] = {name: near(spend.models.get(name, 0))}
    if r.random() < 0.25:
        name = r.choice(list(job["providers"]))
        budget["providers"] = {name: near(spend.providers.get(name, 0))}
    if isinstance(job["budget"], dict):
        budget |= {span: most for span, most in job["budget"].items() if span in ("day", "month")}
    capped = {**freed(job), "budget": budget}
    if r.random() < 0.25:
        total = r.random() < 0.5
        own = near(spend.run) if total else {"conversation": near(spend.dearest_conversation)}
        capped["pairings"][0] = {**capped["pairings"][0], "budget": own}
    return capped


def _edited(r: Random, job: JobData, sims: Sims) -> JobData:
    """The job after somebody was at its file."""
    edited: JobData = orjson.loads(orjson.dumps(job))
    pairing = edited["pairings"][0]
    match r.choice(("model", "prompt", "label", "pairing", "repeat", "policy")):
        case "model":
            role = next(role for role, cast in pairing.items() if isinstance(cast, list))
            absent = [m for m in edited["models"] if m not in pairing[role]]
            pairing[role] += absent[:1]
        case "prompt":
            next(iter(edited["prompts"].values()))["context"] = f"Edited {r.randrange(1000)}."
        case "label":
            edited["models"][r.choice(list(edited["models"]))]["label"] = f"L{r.randrange(100)}"
        case "pairing" if len(edited["pairings"]) > 1:
            gone = edited["pairings"].pop(r.randrange(2))
            del edited["prompts"][gone["prompt"]]
        case "policy":
            edited["defaults"]["outcomes"] = _outcomes(r)
        case _:
            pairing["repeat"] = r.randint(1, 3)
    return edited


def _beside(r: Random, job: JobData) -> JobData:
    """Another job with the same models, for a process beside the first."""
    cast = {role: r.sample(list(job["models"]), r.randint(1, 2)) for role in ("a", "b")}
    prompts = {"t9": {"opening": "What else survives?", "rounds": r.randint(1, 2)}}
    return {**freed(job), "name": "beside", "prompts": prompts, "pairings": [{"prompt": "t9", **cast}]}


def _for_a_day(r: Random, job: JobData, spend: int, least: int) -> JobData:
    """The job with a ceiling over the day, and perhaps one over the month."""
    budget = job["budget"] if isinstance(job["budget"], dict) else {"run": job["budget"]}
    day = max(spend * r.choice((0.05, 0.3, 0.8, 2.0)), least * r.uniform(1.0, 1.3), 1000) / 1e9
    found = {**budget, "day": round(day, 9)}
    if r.random() < 0.3:
        found["month"] = round(day * r.choice((1.0, 1.5, 3.0)), 9)
    return {**job, "budget": found}


def _life(r: Random, job: JobData, sims: Sims, troubles: Sequence[str], spend: Spend, beside: JobData | None) -> Life:
    """One life, and what of these troubles befalls it."""

    def befalls(trouble: str, chance: float = 0.5) -> bool:
        return trouble in troubles and r.random() < chance

    change = r.choice((r.randint(1, 12), r.randint(1, 60), r.randint(1, 200)))
    fault: DiskFault | None = None
    if befalls("kill", 0.8):
        fault = DiskFault(r.choice(("kill", "torn")), change)
    elif befalls("power", 0.8):
        fault = DiskFault("power", change)
    elif befalls("disk", 0.8):
        fault = DiskFault(r.choice(("ENOSPC", "EDQUOT", "EIO", "EROFS")), change, r.random() < 0.5)
    signals: list[tuple[float, int]] = []
    if befalls("signals", 0.7):
        at = r.choice((0.0, 0.5, 3.0, 10.0, 40.0))
        signals.append((at, r.choice((SIGINT, SIGTERM))))
        if r.random() < 0.5:
            signals.append((at + r.choice((0.0, 0.2, 5.0)), SIGINT))
    options: dict[str, Any] = {"accept_changes": r.random() < 0.8}
    if befalls("max_time"):
        options["max_time"] = r.choice((0.5, 5.0, 30.0))
    if befalls("limit"):
        options["limit"] = r.randint(1, 3)
    if befalls("only"):
        options["only"] = ("t0/*",)
    if befalls("changes"):
        options["retry_failed"] = True
    if befalls("budget"):
        options["budget"] = int(max(1, spend.run * r.choice((0.05, 0.3, 0.8, 2.0, 50.0))))
    if signals and r.random() < 0.3:
        options["grace"] = r.choice((0.0, 1.0))
    second: Second | None = None
    if beside is not None and r.random() < 0.8:
        second = Second(r.choice((0.0, 0.5, 5.0)), beside, r.choice((None, None, 1.0, 10.0)))
    elif befalls("second"):
        second = Second(r.choice((0.5, 2.0, 10.0)))
    return Life(
        job=job,
        sims=sims,
        options=Options(**options),
        fault=fault,
        dies_after=r.choice((0.3, 2.0, 10.0, 60.0)) * r.random() if befalls("moment", 0.7) else None,
        signals=tuple(signals),
        jumps=((r.choice((1.0, 10.0)), r.choice((-4000.0, 4000.0, 90_000.0))),) if befalls("jump") else (),
        sleeps=((r.choice((0.5, 4.0)), r.choice((30.0, 3600.0, 30_000.0))),) if befalls("sleep") else (),
        second=second,
        looked_on=r.random() < 0.2,
        rots=befalls("rot", 0.3),
        gap=r.choice((0.1, 1.0, 61.0, 4000.0, 90_000.0)),
    )
