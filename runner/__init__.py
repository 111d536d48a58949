"""Tertulia: conversations between language models, many at once, under rate limits and a hard budget.

What happened is written down as events, appended to one file; nothing else is true. State is the fold of those
events, and resume, budget, progress and every output are functions of it. Deciding is pure and never waits; waiting
happens in a thin shell that never decides. These are the rooms, from the ground up; a room imports only what its row
says, and that stands above it:

| room            | what is in it                                      | may import
|-----------------|----------------------------------------------------|----------------------------------------------
| `money`         | whole nano-dollars, exact prices, what tokens cost | -
| `value`         | what is made with every call and never changed     | -
| `status`        | how a conversation can stand                       | -
| `world`         | the six seams: clock, disk, wire, randomness,      | value
|                 | signals, other programs; the real ones             |
| `call`          | one call and what can come back: `Reply` or        | money, value
|                 | `Failure`                                          |
| `lines`         | files that only grow, of checksummed lines         | world
| `foreign`       | text that others wrote, made safe to show and to   | world
|                 | store                                              |
| `stops`         | what ends a conversation before its last line:     | money
|                 | rules over what was said                           |
| `conversation`  | who speaks when, what each side is shown, what it  | call, money, status, stops, value
|                 | came to                                            |
| `observers`     | what those who only listen have said, as far as it | conversation
|                 | can be used                                        |
| `events`        | what can happen, and how it is written             | call, money, status, value
| `state`         | what the events of a run come to: their fold       | call, conversation, events, money, status
| `talk`          | a conversation as far as it has come, with its     | conversation, events, observers, state, stops
|                 | texts                                              |
| `limits`        | lanes, and `choose`: who may go now; not one       | call, money, state
|                 | `await`                                            |
| `prices`        | what a call costs at most, and what it did cost    | call, money
| `forecast`      | what conversations will cost, and how long they    | conversation, limits, money, prices
|                 | take                                               |
| `rehearsal`     | a night played through before it is held: when it  | limits, money
|                 | ends, and what is left then                        |
| `judge`         | what becomes of a turn after an attempt: the one   | call, conversation, events, observers, prices,
|                 | owner of retries                                   | state
| `providers/`    | one file per dialect: a call to a request, an      | call, foreign, money, world
|                 | answer to an outcome                               |
| `catalogue`     | prices that no job gives: the list that a provider | money, providers, world
|                 | publishes, and a package of prices                 |
| `sim/`          | the built-in provider: a pure engine and two thin  | money, world
|                 | shells                                             |
| `render/`       | one file per format; no clock, no path, no state   | call, conversation, foreign, money, status
| `job/`          | the job file: read, checked, all mistakes with     | call, conversation, limits, money, providers,
|                 | their lines                                        | render, sim, stops, world
| `plan`          | a job to its cells: ids, names, order, budgets     | conversation, events, job, money, state
| `census`        | how the conversations of a plan stand, in numbers  | plan, state, status
|                 | that follow what changes                           |
| `ledger`        | day and month money of all jobs and processes,     | limits, lines, money, state, world
|                 | drawn in slices                                    |
| `folded`        | what a journal folds to, kept beside it as far as  | events, lines, money, state, world
|                 | it has come                                        |
| `journal`       | the append-only file: lock, record, sync, read     | events, folded, lines, money, state, world
|                 | back, torn tail                                    |
| `shares`        | lanes that several processes use: who has which    | events, journal, limits, lines, world
|                 | part of them                                       |
| `transports/`   | how a call travels: over HTTP, on the real wire,   | call, foreign, providers, world
|                 | recorded, played back                              |
| `gate`          | the waiting line around `choose`: pacing,          | call, events, journal, limits, lines, money,
|                 | admission, `Sent`                                  | status
| `roster`        | the conversations of a run that have not begun,    | conversation, events, forecast, gate, journal,
|                 | and which may begin                                | limits, money, plan, state
| `lookups`       | what became of lost calls, asked of the providers  | call, events, journal, money, state
|                 | that can tell                                      |
| `run`           | one task per started conversation; when to stop    | call, conversation, events, gate, journal,
|                 |                                                    | judge, ledger, limits, lines, lookups, money,
|                 |                                                    | plan, prices, roster, state, status, talk,
|                 |                                                    | world
| `inbox`         | lines that come from outside, out of a file or a   | call, conversation, events, foreign, job, run,
|                 | command                                            | talk, world
| `transcripts`   | a conversation in full, out of the records of a    | call, conversation, events, journal,
|                 | journal                                            | observers, state, talk
| `outputs`       | the files of a run, computed from its journal      | census, conversation, events, forecast,
|                 |                                                    | foreign, job, journal, ledger, limits, money,
|                 |                                                    | plan, render, state, status, talk,
|                 |                                                    | transcripts, world
| `views`         | the same files, written; what has not changed is   | conversation, limits, outputs, plan, render,
|                 | not made again                                     | state, world
| `outlook`       | a job held against what is there, before a run:    | conversation, forecast, foreign, job, limits,
|                 | what is new or changed, its cost, its time         | money, plan, rehearsal, state, stops
| `compare`       | two runs held against each other: what is new,     | conversation, foreign, money, outlook, render,
|                 | gone, changed, better or worse                     | status
| `exports/`      | one file per shape in which other programs read    | conversation, render
|                 | conversations                                      |
| `imports`       | old transcripts taken apart: the job and the lines | call, events, foreign, job, plan, render
|                 | that they tell of                                  |
| `notify`        | who is told how a run ended, and what              | foreign, job, money, render, status, world
| `preflight`     | what must be known before anything is sent:        | catalogue, conversation, foreign, job, limits,
|                 | prices, keys, addresses, lanes                     | money, plan, prices, providers, sim, state,
|                 |                                                    | world
| `branches`      | conversations that go on with others of their run: | events, job, plan, preflight, render, state,
|                 | longer, branched, or mended                        | talk
| `selection`     | what a life is about: which run of a job, which of | branches, events, job, money, outputs, plan,
|                 | its conversations, whether they may be held        | preflight, state, world
| `waiting`       | until a part of the lanes is free for this process | foreign, limits, run, shares, world
| `night`         | from job files to runs: journals, lanes and the    | branches, catalogue, events, foreign, gate,
|                 | gate; the one entry for every world                | inbox, job, journal, ledger, limits, lines,
|                 |                                                    | lookups, money, notify, outputs, plan,
|                 |                                                    | preflight, providers, render, roster, run,
|                 |                                                    | selection, shares, state, talk, transports,
|                 |                                                    | views, waiting, world
| `progress/`     | a picture of the state, drawn a few times a        | conversation, events, forecast, foreign, gate,
|                 | second; nobody calls it                            | journal, ledger, limits, lines, money, night,
|                 |                                                    | outputs, plan, render, run, state, status,
|                 |                                                    | world
| `verify`        | every figure and every hash, computed again        | conversation, events, folded, foreign, job,
|                 |                                                    | journal, ledger, lines, money, outputs, plan,
|                 |                                                    | prices, providers, render, state, talk, world
| `spending`      | what was spent by day, job, provider or model, and | ledger, money, state
|                 | what room is left                                  |
| `evidence`      | what became known of calls whose cost was assumed  | events, foreign, money, plan, state
| `doctor`        | what is wrong with this machine, a folder, a run:  | foreign, journal, ledger, money, outputs,
|                 | findings of facts                                  | render
| `online`        | what providers say before a night, held against a  | conversation, doctor, foreign, job, money,
|                 | job: keys, models, windows, credit                 | plan, prices, providers, world
| `cli/`          | the commands: arguments, environment, terminal,    | all
|                 | exit codes                                         |

Four names are enough for a script: `load` a job file, `plan` its cells, `run` what is missing, `read` what is there.
(`runner.plan` and `runner.run` are these functions; of the rooms of the same names import what you need by name:
`from runner.plan import Plan`.)
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.job import load
    from runner.outputs import read
    from runner.plan import make_plan as plan
    from runner.run import run

__all__ = ["load", "plan", "read", "run"]
__version__ = "0.3.0"

_HOMES = {
    "load": ("runner.job", "load"),
    "plan": ("runner.plan", "make_plan"),
    "run": ("runner.run", "run"),
    "read": ("runner.outputs", "read"),
}


def __getattr__(name: str) -> Any:
    # Late, because `tertulia --help` must not wait for what only a run needs.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room, function = _HOMES[name]
    return getattr(import_module(room), function)


class _Package(ModuleType):
    """The import system puts each room it loads here under its name; two of them would hide our functions."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
