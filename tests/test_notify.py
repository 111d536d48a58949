"""Who is told how a run ended: which ends, in which words, and that neither a failure nor an address does harm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import anyio
import pytest

from runner.branches import Wish
from runner.job.job import Notify, When
from runner.notify import End, body, ends, environment, is_wanted, message, send, text
from runner.selection import Options
from runner.status import STATUSES, Status
from runner.world import HttpRequest, Ran, WireError
from tests.nights import TALK, TALK_SIM, Night
from tests.virtual import ScriptedPrograms, run_virtual

URL = "https://hooks.example/services/T0/B0/s3cr3t-p4th?token=t0ken"
ENVIRON = {"HOOK": URL}
COUNTS: dict[Status, int] = {"complete": 11, "failed": 1}
END = End(
    job="nightly",
    run="2026-11-21",
    exit=3,
    reasons=("failed",),
    conversations=COUNTS,
    spent=1_234_000_000,
    most=5_000_000_000,
    goes_on="tertulia run jobs/nightly.yaml --run 2026-11-21 --retry-failed",
)
ALWAYS = Notify(("always",), webhook="${HOOK}")


@dataclass
class Hook:
    """A wire with a webhook at its other end."""

    answer: int | WireError | None = 200
    """None never comes."""
    requests: list[HttpRequest] = field(default_factory=list)

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> Any:
        self.requests.append(request)
        if self.answer is None:
            await anyio.sleep_forever()
        if isinstance(self.answer, WireError):
            raise self.answer
        yield type("Answer", (), {"status": self.answer, "headers": {}})()


def sent(
    notify: Notify,
    end: End = END,
    hook: Hook | None = None,
    programs: ScriptedPrograms | None = None,
    environ: Mapping[str, str] = ENVIRON,
) -> list[str]:
    """What was told here when it was sent."""
    told: list[str] = []

    async def sending() -> None:
        await send(
            notify,
            end,
            wire=hook or Hook(),
            programs=programs or ScriptedPrograms(),
            environ=environ,
            folder=Path("jobs"),
            tell=told.append,
        )

    run_virtual(sending)
    return told


# --- which ends --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exit_", "reasons", "counts", "found"),
    [
        (0, (), {"complete": 3}, {"complete"}),
        (3, ("failed",), {"complete": 2, "failed": 1}, {"failed"}),
        (3, ("pending",), {"complete": 2, "pending": 1}, {"pending"}),
        (3, ("observers",), {"complete": 3}, {"failed"}),
        (4, ("budget",), {"budget": 3}, {"budget"}),
        (4, ("overrun", "failed"), {"failed": 1, "complete": 2}, {"budget", "failed"}),
        (4, ("budget",), {"budget": 1, "failed": 1}, {"budget", "failed"}),
        (5, ("deadline",), {"deadline": 3}, {"deadline"}),
        (130, ("interrupted",), {"interrupted": 3}, {"interrupted"}),
        (143, (), {"interrupted": 1}, {"interrupted"}),
        (8, ("storage",), {"pending": 1}, {"failed", "pending"}),
        (8, (), None, {"failed", "preflight"}),
        (1, (), {"complete": 1}, {"failed"}),
        (3, ("render",), {"complete": 3}, {"failed"}),
        (6, (), None, {"preflight"}),
        (7, (), None, {"preflight"}),
    ],
)
def test_an_end_is_everything_that_its_code_its_reasons_and_its_conversations_say(
    exit_: int, reasons: tuple[str, ...], counts: dict[Status, int] | None, found: set[str]
) -> None:
    """Several causes may meet in one night, and the exit code names but the worst."""
    end = End("j", "k", exit_, reasons, counts)
    assert ends(end) == found | {"always"}
    for when in get_args(When):
        assert is_wanted(Notify((when,)), end) == (when in found | {"always"})


def test_every_word_of_a_job_file_is_an_end_that_can_come() -> None:
    """None of them waits for what never happens."""
    codes = [End("j", "k", code) for code in (0, 1, 4, 5, 6, 7, 8, 130, 143)]
    reasons = [End("j", "k", 3, (reason,)) for reason in ("failed", "pending")]
    assert frozenset.union(*map(ends, (*codes, *reasons))) == set(get_args(When))


def test_an_end_that_nobody_waits_for_is_told_to_nobody() -> None:
    """No command runs and nothing is posted."""
    hook, programs = Hook(), ScriptedPrograms()
    assert sent(Notify(("budget", "complete"), ("say",), "${HOOK}"), hook=hook, programs=programs) == []
    assert (hook.requests, programs.ran) == ([], [])


# --- what is said ------------------------------------------------------------------------------------------------


def test_the_line_says_what_the_night_came_to() -> None:
    """Exit code, reasons, conversations, money."""
    assert text(END) == (
        "nightly/2026-11-21: exit code 3 (failed), 11 of 12 conversations complete, 1 failed, $1.2340 of $5.0000 spent"
    )
    early = "11 of 12 conversations complete, 2 of them stopped early, 1 failed"
    assert early in text(replace(END, stopped_early=2))
    begun = "nightly/main: exit code 6, it did not begin: a key, a price or a provider is missing"
    assert text(End("nightly", "main", 6)) == begun
    assert text(End("nightly", "main", 7)).endswith("it did not begin: another process holds it")


def test_the_body_is_what_slack_mattermost_and_discord_show() -> None:
    """`text` for two of them, `content` for the third, within its 2,000 characters, and the whole for others."""
    said = json.loads(body(replace(END, job="j" * 5000)))
    assert said["text"] == said["content"]
    assert len(said["content"]) < 2000
    found = json.loads(body(END))
    assert (
        found["night"]
        == message(END)
        == {
            "event": "night",
            "text": found["text"],
            "job": "nightly",
            "run": "2026-11-21",
            "exit": 3,
            "reasons": ["failed"],
            "conversations": {**dict.fromkeys(STATUSES, 0), "complete": 11, "failed": 1},
            "stopped_early": 0,
            "spent": 1.234,
            "budget": 5.0,
            "continue": END.goes_on,
        }
    )


@pytest.mark.parametrize(
    "name", ["<!channel>", "@everyone", "<@U123>", "<https://e.x|here>", "`a`\n# b", "a\x1b[2J&lt;"]
)
def test_no_name_calls_everybody_in_a_room(name: str) -> None:
    """Where a sign means something to one of them, it is written otherwise."""
    said = text(replace(END, job=name))
    assert not set("<>@&`\n\x1b") & set(said)
    assert json.loads(body(END))["allowed_mentions"] == {"parse": []}


# --- the command -------------------------------------------------------------------------------------------------


def test_a_command_gets_the_message_on_its_input_and_the_figures_in_its_environment() -> None:
    """It runs with its arguments as they are, and nothing is told of it here."""
    seen: list[tuple[bytes, Mapping[str, str]]] = []

    def says(command: Sequence[str], given: bytes, environ: Mapping[str, str]) -> Ran:
        seen.append((given, environ))
        return Ran(0, b"fine", b"")

    programs = ScriptedPrograms(says)
    assert sent(Notify(("failed",), ("scripts/notify.sh", "a b; c")), programs=programs) == []
    assert [command for command, _ in programs.ran] == [("scripts/notify.sh", "a b; c")]
    ((given, environ),) = seen
    assert json.loads(given) == message(END)
    assert environ == environment(END)
    assert (environ["TERTULIA_EXIT"], environ["TERTULIA_COMPLETE"], environ["TERTULIA_SPENT"]) == ("3", "11", "1.234")
    assert (environ["TERTULIA_REASONS"], environ["TERTULIA_TEXT"]) == ("failed", text(END))


@pytest.mark.parametrize(
    ("ran", "why"),
    [
        (Ran(7, b"out", b"cannot post to " + URL.encode()), "it ended with code 7"),
        (None, "it took longer than 30 s"),
    ],
)
def test_a_command_that_fails_is_told_in_one_line(ran: Ran | None, why: str) -> None:
    """What it printed is not: it may hold the address that it was to keep to itself."""
    told = sent(Notify(("failed",), ("notify.sh", "--url", URL)), programs=ScriptedPrograms(lambda *_: ran))
    assert told == [f"nobody was notified by the command notify.sh: {why}"]


def test_a_command_that_is_not_there_is_told_in_one_line() -> None:
    """And the webhook is tried all the same."""
    hook = Hook()
    told = sent(Notify(("failed",), ("nowhere.sh",), "${HOOK}"), hook=hook)
    assert told == ["nobody was notified by the command nowhere.sh: it cannot be run (No such file or directory)"]
    assert len(hook.requests) == 1


# --- the webhook -------------------------------------------------------------------------------------------------


def test_a_webhook_gets_the_body_as_json() -> None:
    """One POST to the address of the environment, which stands in the job as a variable."""
    hook = Hook(204)
    assert sent(ALWAYS, hook=hook) == []
    (request,) = hook.requests
    assert (request.method, request.url, request.body) == ("POST", URL, body(END))
    assert request.headers == {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (404, "it answered 404"),
        (302, "it answered 302"),
        (500, "it answered 500"),
        (WireError("the host name is not known", False), "the host name is not known"),
        (None, "no answer within 30 s"),
    ],
)
def test_a_webhook_that_fails_is_told_in_one_line_without_its_address(answer: Any, why: str) -> None:
    """Whoever reads the log must not be able to post there."""
    told = sent(ALWAYS, hook=Hook(answer))
    assert told == [f"nobody was notified by the webhook: {why}"]
    assert "hooks.example" not in told[0]


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({}, "HOOK is not set: put it into the environment or into a .env file beside the job"),
        ({"HOOK": "http://hooks.example/x"}, "its address must begin with https:// (or http:// on this machine)"),
        ({"HOOK": "ftp://hooks.example/x"}, "its address must begin with https:// (or http:// on this machine)"),
        ({"HOOK": "https://169.254.169.254/x?y"}, "its address must begin with https:// (or http:// on this machine)"),
    ],
)
def test_an_address_that_is_none_is_not_posted_to(environ: dict[str, str], why: str) -> None:
    """The name of its variable is told, never what it holds."""
    hook = Hook()
    assert sent(ALWAYS, hook=hook, environ=environ) == [f"nobody was notified by the webhook: {why}"]
    assert hook.requests == []


def test_a_receiver_on_this_machine_needs_no_encryption() -> None:
    """As one's own program has it."""
    hook = Hook()
    assert sent(ALWAYS, hook=hook, environ={"HOOK": "http://127.0.0.1:8080/night"}) == []
    assert len(hook.requests) == 1


def test_both_are_tried_at_once_and_neither_waits_for_the_other() -> None:
    """A night that is over waits for the slower of them, half a minute at most."""
    told = sent(
        Notify(("always",), ("slow.sh",), "${HOOK}"), hook=Hook(None), programs=ScriptedPrograms(lambda *_: None)
    )
    assert sorted(told) == [
        "nobody was notified by the command slow.sh: it took longer than 30 s",
        "nobody was notified by the webhook: no answer within 30 s",
    ]


# --- a night -----------------------------------------------------------------------------------------------------


def test_a_night_tells_how_many_of_its_conversations_stopped_early() -> None:
    """In the line, and as a figure for programs: the same as its own last line and `status.json` say."""
    small = {"price": {"input": 1, "output": 3}, "context": 600, "reply": {"mean": 40}}
    job = TALK.replace("rounds: 2", "rounds: 9") + "\nnotify: {when: [always], command: [tell.sh]}"
    programs = ScriptedPrograms(lambda *_: Ran(0, b"", b""))
    night = Night(job, {"models": {"m": small, "n": small}}, programs=programs)
    assert night.live().exit == 0
    ((_, given),) = programs.ran
    told = json.loads(given)
    assert told["stopped_early"] == night.status()["stopped_early"] == 1
    assert "3 of 3 conversations complete, 1 of them stopped early, $" in told["text"]


@pytest.mark.parametrize(("when", "told"), [("always", 1), ("complete", 1), ("failed", 0)])
def test_a_night_whose_notification_fails_ends_as_it_would_have_ended(when: When, told: int) -> None:
    """One line about it, where it was wanted, and the same exit code and files."""
    night = Night(f"{TALK}\nnotify: {{when: [{when}], command: [nowhere.sh]}}", TALK_SIM)
    life = night.live()
    assert life.exit == 0
    line = "nobody was notified by the command nowhere.sh: it cannot be run (No such file or directory)"
    assert life.told.count(line) == told
    assert (night.status()["exit"], night.status()["conversations"]["complete"]) == (0, 3)


SILENT = Options(only=("no-such/*",))
WISH = Options(wish=Wish("extend", ("memory/*",), more_rounds=1))


@pytest.mark.parametrize(
    ("options", "environ", "exit_", "told"),
    [
        (Options(), {}, 6, 1),
        (SILENT, {"KEY": "sesame"}, 2, 0),
        (WISH, {}, 6, 0),
        (Options(observers_only=True), {}, 2, 0),
    ],
    ids=["a night without its key", "a name that is none", "a wish without its key", "comments on nothing"],
)
def test_of_what_did_not_begin_only_a_night_is_told_and_never_a_command_that_is_wrong(
    options: Options, environ: dict[str, str], exit_: int, told: int
) -> None:
    """Who waits for a night wants to hear that it has no key; who types a command sees what is wrong with it."""
    keyed = TALK.replace("sim: {}", "sim: {type: openai, base_url: sim, api_key: '${KEY}'}")
    programs = ScriptedPrograms(lambda *_: Ran(0, b"", b""))
    night = Night(f"{keyed}\nnotify: {{when: [always], command: [tell.sh]}}", TALK_SIM, programs=programs)
    night.environ = environ
    assert night.live(options).exit == exit_
    assert len(programs.ran) == told
