"""From a job file to a job: everything is checked, and every mistake is told in one go.

Entries are read one by one, and what is wrong with one does not keep the others from being checked. A check that
would only repeat an earlier mistake is left out: an entry with mistakes is known by name, but not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from runner.job.carriers import Carriers
from runner.job.checks import ANY_DATE, Checks
from runner.job.endpoint import exposed
from runner.job.files import Files, Misread
from runner.job.job import Job, Notify, merged
from runner.job.naming import reserved, slug
from runner.job.pairings import Pairings
from runner.job.problem import JobError, Problem, did_you_mean, listed
from runner.job.prompts import Prompts
from runner.job.schema import (
    HEADER,
    KEYS,
    Header,
    every_setting,
    given_settings,
)
from runner.job.section import Section, Where
from runner.job.source import MOST_BYTES, Unreadable, parse
from runner.job.strings import misplaced_strings, secrets
from runner.job.texts import Library

_BESIDE_JOBS: Final = re.compile(r"ledger\..*|index\.html", re.IGNORECASE)
"""What lies, or may come to lie, beside the folders of jobs: the ledger with its lock, torn ends and damaged copies."""
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def load(path: Path, *, sets: Sequence[str] = (), files: Files | None = None) -> Job:
    """The job in a file, with `--set` arguments applied. Raises JobError with all that is wrong."""
    reader = files or Files()
    try:
        data = reader.read(path, MOST_BYTES)
    except Misread as error:
        raise JobError([Problem(str(path), 0, 0, f"the job file cannot be read: {error}")]) from None
    try:
        source, problems = parse(str(path), data)
    except Unreadable as error:
        raise JobError([error.problem]) from None
    if not isinstance(source.tree, dict):
        message = "the file is empty" if source.tree is None else "a job is a mapping of names to values"
        raise JobError([*problems, source.problem((), message, f"it has {listed(KEYS, 20)}")])
    first = len(problems)
    broken = {(problem.file, problem.line, problem.column) for problem in problems}
    problems += [wrong for argument in sets if (wrong := source.assign(argument))]
    job = _job(path, Where(source, ()), problems, Library(reader, path))
    if problems:
        # What is no YAML of ours leads to further complaints about the same value.
        told = [p for n, p in enumerate(problems) if n < first or (p.file, p.line, p.column) not in broken]
        hidden = secrets(source)
        raise JobError(problem.hiding(hidden) for problem in told)
    return job


def _job(path: Path, top: Where, problems: list[Problem], library: Library) -> Job:
    """The job, as far as it can be made; what is wrong is added to the problems."""
    problems += misplaced_strings(top)
    head = _Head(problems, top)
    header = head.header()
    name = head.name(header, path)
    head.check_run(header)
    notify = head.notify(header)
    carriers = Carriers(problems, top)
    carriers.read_providers()
    carriers.read_models()
    prompts = Prompts(problems, top, library)
    variables = prompts.variables(header.vars, top.at("vars"))
    prompts.read_prompts()
    pairings = Pairings(problems, top, carriers, prompts)
    paired = pairings.read_pairings()
    exclusions = pairings.exclusions(top.source.tree.get("exclude"), top.at("exclude"), prompts.all_roles())
    rules = pairings.read_rules()
    provider_budgets, model_budgets = carriers.budgets(header)
    job = Job(
        name=name,
        run_key=header.run_key,
        timezone=header.timezone,
        seed=header.seed,
        send_seed=header.send_seed,
        max_wait=header.max_wait,
        budget=None if header.budget is None else header.budget.run,
        conversation_budget=None if header.budget is None else header.budget.conversation,
        provider_budgets=provider_budgets,
        model_budgets=model_budgets,
        vars=variables,
        defaults=merged(every_setting(), given_settings(header.defaults)),
        providers=carriers.providers,
        models=carriers.models,
        prompts={name: found.prompt for name, found in prompts.prompts.items()},
        pairings=tuple(found.pairing for found in paired),
        exclude=tuple(one for one, _ in exclusions),
        rules=tuple(rule for rule, _ in rules),
        day_budget=None if header.budget is None else header.budget.day,
        month_budget=None if header.budget is None else header.budget.month,
        deadline=header.deadline,
        notify=notify,
    )
    checks = Checks(problems, top, prompts)
    checks.check_fields(job, paired)
    checks.check_cells(job, paired, exclusions, rules)
    checks.check_paid(job, paired)
    return job


class _Head(Section):
    """What stands in a job file beside its entries."""

    def header(self) -> Header:
        for key in self.tree:
            if key not in KEYS:
                hint = did_you_mean(key, KEYS) or f"known here: {listed(KEYS, 20)}"
                self.note(self.top.at(key), f"unknown key `{key}`", hint, key=True)
        header, _ = self.entry(Header, {k: v for k, v in self.tree.items() if k in HEADER}, self.top)
        return header or Header()

    def name(self, header: Header, path: Path) -> str:
        where = self.top.at("name")
        if header.name is None:
            name = slug(path.stem)
            if _BESIDE_JOBS.fullmatch(name):
                what = f"`{name}`, as the file is called, is reserved for this program"
                self.note(where, what, "give the job a `name`")
            return name
        if not _FILE_NAME.fullmatch(header.name) or len(header.name) > 100 or header.name.endswith("."):
            self.note(
                where,
                "a job's name is the name of a folder: letters, digits, `.`, `_` and `-`, at most 100",
                f"such as `{slug(header.name)[:100]}`",
            )
        elif reserved(header.name) or _BESIDE_JOBS.fullmatch(header.name):
            self.note(where, f"`{header.name}` is reserved, for this program or by some system")
        return header.name

    def notify(self, header: Header) -> Notify | None:
        entry, where = header.notify, self.top.at("notify")
        if entry is None:
            return None
        if entry.command is None and entry.webhook is None:
            self.note(where, "nobody is told: there is neither a `command` nor a `webhook`")
        if entry.command is not None and (not entry.command[0].strip() or any("\0" in one for one in entry.command)):
            self.note(where.at("command"), "this is no command: its first word is the program")
        if entry.webhook is not None and (why := exposed(entry.webhook)):
            self.note(where.at("webhook"), why, 'put it into the environment, and write `webhook: "${ITS_NAME}"`')
        return Notify(tuple(dict.fromkeys(entry.when)), tuple(entry.command or ()), entry.webhook)

    def check_run(self, header: Header) -> None:
        key = header.run_key
        where = self.top.at("run_key")
        shown = key.replace("{date}", ANY_DATE)
        if "{" in shown or "}" in shown:
            self.note(where, "a run key has no field but {date}", 'write `run_key: "{date}"`')
        elif not _FILE_NAME.fullmatch(shown) or len(shown) > 100 or shown.endswith("."):
            self.note(where, "a run key is the name of a folder: letters, digits, `.`, `_` and `-`, at most 100")
        elif reserved(shown):
            self.note(where, f"`{key}` is reserved: some systems keep this name for themselves")
        try:
            ZoneInfo(header.timezone)
        except (ValueError, OSError, KeyError):
            # A folder of the zone database, a path out of it, or a name that it lacks.
            self.note(
                self.top.at("timezone"),
                f"there is no time zone `{header.timezone}`",
                "write it like `Europe/Lisbon` or `UTC`",
            )
