"""A log of an evaluation as Inspect AI reads it (`inspect view --log-dir`): format 2, each conversation a sample.

A sample's messages are those of the last live side; who else spoke, and what each turn came to, stands in its metadata.
Its scores are those that observers gave, as they gave them; for the whole there is a mean of each figure in them, and
of words how many samples have them. What is read first must come first: what is said of the whole stands before the
samples, so that the conversations are gone through twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, Literal

import orjson

from runner.exports.shape import Head, Talk, Talks
from runner.render.figures import stamp

whole: Final = False
needs: Final[str | None] = None
note: Final[str | None] = None

_VERSION: Final = 2
_MOST_MODELS: Final = 3
_LARGEST: Final = 2**53
_STOPS: Final = {"ok": "stop", "truncated": "max_tokens", "refused": "content_filter"}
_CUT_OFF: Final = (4, 5, 130, 143)
"""Exit codes of runs that a ceiling, the time or somebody has ended."""


def name(head: Head) -> str:
    # Inspect takes a file of this kind for a log only when its name begins with a time; it allows dashes in that.
    began = stamp(head.began).removesuffix("Z").replace(":", "-")
    return f"{began}_{_slug(head.job)}_{_slug(head.run)}.json"


def pieces(head: Head, talks: Talks) -> Iterator[bytes]:
    names: list[str] = []
    models: dict[str, None] = {}
    usage: dict[str, _Usage] = {}
    scores: dict[tuple[str, str], _Scored] = {}
    complete = 0
    for talk in talks():
        names.append(talk["name"])
        models.update(dict.fromkeys(_model(one["provider"], one["id"]) for one in talk["models"]))
        complete += talk["status"] == "complete"
        _count(usage, _asked_for(talk))
        for heading, score in _scores(talk).items():
            for part, value in _parts(heading, score["value"]):
                scores.setdefault((heading, part), _Scored()).take(value)
    ended = "" if head.ended is None else _stamp(head.ended)
    about: dict[str, Any] = {
        "version": _VERSION,
        "status": _status(head),
        "eval": {
            "run_id": f"{head.job}/{head.run}",
            "eval_id": f"{head.job}/{head.run}",
            "created": _stamp(head.began),
            "task": head.job,
            "task_id": head.job,
            "dataset": {"name": head.job, "samples": len(names), "sample_ids": names, "shuffled": False},
            "model": ", ".join(models) if len(models) <= _MOST_MODELS else f"{len(models)} models",
            "config": {},
            "packages": {"tertulia": head.version},
            "metadata": {"exit": head.exit, "models": list(models)},
        },
        "plan": {"name": "conversations", "steps": [], "config": {}},
        "results": {
            "total_samples": len(names),
            "completed_samples": complete,
            "scores": [scored.data(*names_of, len(names)) for names_of, scored in scores.items()],
        },
        "stats": {"started_at": _stamp(head.began), "completed_at": ended, "model_usage": _data(usage)},
    }
    if about["status"] == "error":
        about["error"] = _error(f"the run ended with exit code {head.exit}")
    yield orjson.dumps(about)[:-1] + b',"samples":['
    for number, talk in enumerate(talks()):
        yield (b"," if number else b"") + b"\n" + orjson.dumps(_sample(talk))
    yield b"\n]}\n"


def _status(head: Head) -> Literal["started", "success", "cancelled", "error"]:
    if head.exit is None:
        return "started"
    # One that failed is told of by its sample; the others are there.
    return "success" if head.exit in (0, 3) else "cancelled" if head.exit in _CUT_OFF else "error"


def _sample(talk: Talk) -> dict[str, Any]:
    said = [turn for turn in talk["turns"] if _is_of_a_model(turn)]
    last = said[-1] if said and talk["messages"] else None
    messages = [_message(message, last) for message in talk["messages"]]
    usage: dict[str, _Usage] = {}
    _count(usage, _asked_for(talk))
    sample: dict[str, Any] = {
        "id": talk["name"],
        "epoch": 1,
        "input": list(takewhile(lambda message: message["role"] != "assistant", messages)),
        "target": "",
        "messages": messages,
        "output": {} if last is None else _output(messages[-1], last),
        "metadata": _metadata(talk),
        "model_usage": _data(usage),
        "working_time": talk["totals"]["seconds"],
        "uuid": talk["id"],
    }
    for key, name in (("started", "started_at"), ("ended", "completed_at")):
        if talk[key] is not None:
            sample[name] = _in_full(talk[key])
    if scores := _scores(talk):
        sample["scores"] = scores
    if talk["status"] == "failed":
        sample["error"] = _error(talk["reason"] or "failed")
    return sample


def _message(message: Mapping[str, Any], last: Mapping[str, Any] | None) -> dict[str, Any]:
    if message["role"] != "assistant" or last is None:
        return {"role": message["role"], "content": message["content"], "source": "input"}
    model = _model(last["provider"], last["model"])
    return {"role": "assistant", "content": message["content"], "source": "generate", "model": model}


def _output(message: Mapping[str, Any], turn: Mapping[str, Any]) -> dict[str, Any]:
    usage: dict[str, _Usage] = {}
    _count(usage, [turn])
    model = _model(turn["provider"], turn["model"])
    output: dict[str, Any] = {
        "model": model,
        "choices": [{"message": message, "stop_reason": _STOPS.get(turn["outcome"], "unknown")}],
        "completion": turn["text"],
        "time": turn["seconds"],
    }
    return output | ({"usage": _data(usage)[model]} if usage else {})


def _metadata(talk: Talk) -> dict[str, Any]:
    kept = ("n", "round", "role", "speaker", "given", "alias", "provider", "model", "model_served", "outcome")
    figures = ("tokens", "cost", "cost_source", "seconds", "attempts", "weighed", "asked", "error")
    return {
        **{key: talk[key] for key in ("id", "prompt", "repeat", "status", "reason", "models", "rounds", "flags")},
        **{key: talk["totals"][key] for key in ("cost", "spent", "coverage")},
        "turns": [{key: turn[key] for key in (*kept, *figures)} for turn in talk["turns"]],
        "notes": [{key: note[key] for key in ("kind", "heading", "status", "text", "data")} for note in talk["after"]],
    }


def _scores(talk: Talk) -> dict[str, Any]:
    """What observers have scored, by their headings."""
    found: dict[str, Any] = {}
    for note in talk["after"]:
        if note["kind"] == "scores" and note["data"] is not None:
            value = json.loads(note["data"])
            # A score is a figure, a word, or several of them by name.
            plain = _is_plain(value) or (isinstance(value, dict) and all(map(_is_plain, value.values())))
            heading = note["heading"] or "scores"
            name = heading if heading not in found else f"{heading} {len(found) + 1}"
            found[name] = {"value": value if plain else note["data"], "explanation": note["text"]}
    return found


def _parts(heading: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What one score says, part by part; one without parts is a part under its own heading."""
    yield from value.items() if isinstance(value, dict) else ((heading, value),)


@dataclass(slots=True)
class _Scored:
    """One part of a score over all samples."""

    samples: int = 0
    figures: int = 0
    total: float = 0.0

    def take(self, value: Any) -> None:
        self.samples += 1
        if isinstance(value, int | float):
            self.figures += 1
            self.total += value

    def data(self, heading: str, part: str, samples: int) -> dict[str, Any]:
        """As Inspect has it for each scorer, or for each part where its scores have several."""
        # A mean of some of them would pass for one of all.
        whole = self.figures == self.samples
        mean = {"name": "mean", "value": self.total / self.figures, "params": {}} if whole else None
        return {
            "name": part,
            "scorer": heading,
            "scored_samples": self.samples,
            "unscored_samples": samples - self.samples,
            "params": {},
            "metrics": {} if mean is None else {"mean": mean},
        }


def _is_plain(value: object) -> bool:
    # A model may write figures that no reader of JSON takes.
    return isinstance(value, str) or (isinstance(value, int | float) and abs(value) < _LARGEST)


# --- figures -----------------------------------------------------------------------------------------------------

_Usage = dict[str, int | float]


def _asked_for(talk: Talk) -> Iterator[Mapping[str, Any]]:
    """The turns of a conversation, and with their figures the answers of those who were asked about it meanwhile."""
    for turn in talk["turns"]:
        yield turn
        for one in turn["asked"]:
            by = {"provider": one["observer"]["provider"], "model": one["observer"]["id"]}
            yield {**one, **by, "given": False, "carried": False, "heard": None}


def _count(usage: dict[str, _Usage], turns: Iterable[Mapping[str, Any]]) -> None:
    """Add what turns have used, by model; a model of which nothing is known is left out."""
    for turn in turns:
        tokens = turn["tokens"]
        # What was said elsewhere was used elsewhere.
        if not _is_of_a_model(turn) or turn["carried"] or turn["heard"] is not None:
            continue
        if tokens["in"] is None and tokens["out"] is None:
            continue
        read, written = tokens["cached_read"], tokens["cached_write"]
        figures = {
            # Of the input Inspect counts here only what came from no cache, and went into none.
            "input_tokens": max(0, (tokens["in"] or 0) - (read or 0) - (written or 0)),
            "output_tokens": tokens["out"] or 0,
            "total_tokens": (tokens["in"] or 0) + (tokens["out"] or 0),
            "input_tokens_cache_read": read,
            "input_tokens_cache_write": written,
            "reasoning_tokens": tokens["reasoning"],
            "total_cost": turn["cost"],
        }
        mine = usage.setdefault(_model(turn["provider"], turn["model"]), {})
        for key, figure in figures.items():
            if figure is not None:
                mine[key] = mine.get(key, 0) + figure


def _data(usage: Mapping[str, _Usage]) -> dict[str, _Usage]:
    # Sums of dollars, as floats: what is below a billionth is no money.
    return {
        model: {key: round(figure, 9) if isinstance(figure, float) else figure for key, figure in sums.items()}
        for model, sums in usage.items()
    }


def _is_of_a_model(turn: Mapping[str, Any]) -> bool:
    return turn["text"] is not None and turn["provider"] is not None and not turn["given"]


def _model(provider: str, id_: str) -> str:
    return f"{provider}/{id_}"


def _error(message: str) -> dict[str, str]:
    return {"message": message, "traceback": message, "traceback_ansi": message}


def _stamp(epoch: float) -> str:
    return _in_full(stamp(epoch, "milliseconds"))


def _in_full(time: str) -> str:
    """A moment with its offset in figures, which every reader of such logs knows."""
    return time.removesuffix("Z") + "+00:00"


def _slug(text: str) -> str:
    """A part of the name of a file, in which `_` parts the others."""
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in text)
