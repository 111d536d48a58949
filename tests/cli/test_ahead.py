"""`check`, `plan` and `schema` as a shell calls them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from runner.job import json_schema
from runner.journal import scan
from runner.ledger import Book
from runner.ledger import read as ledger_entries
from runner.money import shown
from runner.outputs import read
from runner.selection import Options
from runner.world import RealDisk
from tests.cli.folders import JOB, MODEL, SIM, killed_when, landed, tertulia
from tests.nights import Night

KEYED = """
name: keyed
budget: 1
providers: {far: {type: openai, base_url: "https://far.example/v1", api_key: "${FAR_KEY}"}}
models: {m: {use: far/m, price: {input: 1, output: 2}}}
prompts: {p: {opening: "Hello?", rounds: 2}}
pairings: [{a: m, b: m}]
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and an environment without our variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("FAR_KEY", "TERTULIA_OUTPUTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


def held(job: str = JOB, options: Options = Options(), sim: dict[str, Any] = SIM) -> Night:  # noqa: B008
    """A run of the job in ./outputs, held in a simulated world."""
    night = Night(job, sim)
    night.live(options)
    landed(night, Path("outputs"))
    return night


def objects(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- plan --------------------------------------------------------------------------------------------------------


def test_plan_shows_conversations_money_and_time_without_a_key() -> None:
    """Nothing is needed but the file, and nothing is written."""
    said = tertulia("plan", write("keyed.yaml", KEYED))
    assert (said.code, said.err) == (0, "")
    assert "keyed/main  (keyed.yaml)" in said.out
    assert "to hold      1 conversation, 4 calls  (1 new)" in said.out
    assert "outputs: 40 % of max_tokens" in said.out
    assert "ceiling      $1.0000  run: the only guarantee" in said.out
    assert "far: " in said.out
    assert "by a guess of 1 s and 50 tokens/s for each call; failures are not foreseen" in said.out
    assert "next: tertulia run keyed.yaml" in said.out
    assert sorted(os.listdir()) == ["keyed.yaml"]


def test_plan_of_a_finished_run_says_that_nothing_is_left() -> None:
    """It reads the journal and leaves every byte as it was."""
    night = held()
    before = snapshot(Path("outputs"))
    said = tertulia("plan", write("talk.yaml", JOB))
    assert said.code == 0
    assert "to hold      0 conversations, 0 calls  (3 done)" in said.out
    assert "next: nothing is left to do; run makes 0 calls" in said.out
    assert snapshot(Path("outputs")) == before
    assert night.engine.bill.accepted == 6


def test_plan_of_a_finished_run_tells_of_observers_that_came_to_its_job() -> None:
    """What the next run would ask is shown with its money, although no conversation is to be held."""
    held()
    observed = JOB.replace("rounds:", "after: [{observer: ada, prompt: What was said?}], rounds:")
    assert observed != JOB
    said = tertulia("plan", write("talk.yaml", observed))
    assert "to hold      0 conversations, 1 call  (3 done)" in said.out
    assert "expected     $" in said.out and "one call     $" in said.out
    assert "next: tertulia run talk.yaml" in said.out


def test_plan_says_what_run_will_refuse_and_why() -> None:
    """Complete conversations that would be bought again are named, with what changed and both ways out."""
    held()
    job = write("talk.yaml", JOB.replace("What survives?", "What remains?"))
    said = tertulia("plan", job)
    assert "run stops: 1 complete conversation would be bought again" in said.out
    assert "tertulia plan --why says what has changed" in said.out
    assert "tertulia run talk.yaml --accept-changes" in said.out
    assert "opening:" not in said.out
    why = tertulia("plan", job, "--why").out
    assert 'memory/ada~bo has changed:\n    opening: "What survives?" -> "What remains?"' in why
    refused = tertulia("run", job)
    assert refused.code == 2
    assert "memory/ada~bo" in refused.err


def test_plan_in_json_lists_everything_and_ends_once() -> None:
    """One object a line: each conversation, the totals, and exactly one end, on success and on a mistake."""
    held()
    job = write("talk.yaml", JOB.replace("rounds: 2", "rounds: 3"))
    found = objects(tertulia("plan", job, "--json").out)
    assert [one["event"] for one in found] == ["cell", "cell", "cell", "plan", "end"]
    changed, total = found[0], found[3]
    assert (changed["status"], changed["calls"], changed["changes"]) == ("changed", 6, ["rounds: 2 -> 3"])
    assert total["conversations"] == {
        "new": 0,
        "changed": 1,
        "unfinished": 0,
        "failed": 0,
        "done": 2,
        "replaced": 0,
        "total": 3,
    }
    assert total["expected"] == sum(one["expected"] for one in found[:3]) < total["likely_most"]
    assert total["expected_source"] == total["minutes_from"] == "mean of 6 earlier calls"
    assert (total["left_over"], total["left_over_because"]) == (0, None)
    assert 0 <= total["longest_minutes"] <= total["minutes"] + 0.001 < 0.1
    assert total["bought_again"] == ["memory/ada~bo"]
    spent = read(Path("outputs/talk/main"), RealDisk()).state.run.held
    assert total["ceilings"][0]["held"] == spent / 1e9
    assert found[-1] == {"event": "end", "exit": 0, "errors": []}
    [end] = objects(tertulia("plan", write("bad.yaml", "nme: x"), "--json").out)
    assert (end["event"], end["exit"]) == ("end", 2) and any("unknown key `nme`" in line for line in end["errors"])


def test_plan_takes_means_from_the_run_of_the_job_that_closed_last() -> None:
    """A new key begins with what earlier keys have taught."""
    held()
    job = write("talk.yaml", JOB)
    said = tertulia("plan", job, "--run", "tuesday")
    assert "talk/tuesday" in said.out
    assert "mean of 6 earlier calls" in said.out
    assert "next: tertulia run talk.yaml --run tuesday  (begins talk/tuesday)" in said.out


@pytest.mark.fault(58)
def test_plan_refuses_a_job_of_which_not_even_one_turn_fits() -> None:
    """It names the conversations and the budget, and others in the same command are still planned."""
    poor = write("poor.yaml", JOB.replace("budget: 0.50", "budget: 0.001").replace("name: talk", "name: poor"))
    said = tertulia("plan", poor, write("talk.yaml", JOB))
    assert said.code == 2
    assert "not even one turn of 3 conversations fits its ceilings" in said.err
    assert "memory/ada~bo" in said.err
    assert "talk/main" in said.out
    assert tertulia("plan", "talk.yaml", "--budget", "0.001").code == 2
    assert tertulia("plan", poor, "--budget", "5").code == 0


@pytest.mark.fault(61)
def test_plan_without_prices_is_exit_6() -> None:
    """What a call may cost must be known before anything can be planned; of several codes the worst is given."""
    poor = write("poor.yaml", JOB.replace("budget: 0.50", "budget: 0.001"))
    said = tertulia("plan", write("keyed.yaml", KEYED.replace(", price: {input: 1, output: 2}", "")), poor)
    assert said.code == 6
    assert "use: far/m, price:" in said.err


def test_plan_of_a_selection_and_of_nothing() -> None:
    """`--only` keeps what it names; a pattern that names nothing is a mistake."""
    job = write("talk.yaml", JOB)
    found = objects(tertulia("plan", job, "--only", "letter/*", "--json").out)
    assert [one["name"] for one in found if one["event"] == "cell"] == ["letter/ada", "letter/bo"]
    said = tertulia("plan", job, "--only", "nothing/*")
    assert said.code == 2
    assert "names no conversation of talk" in said.err


def test_plan_shows_the_day_and_the_month_with_what_all_runs_have_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run's money is in them, also when its folder is gone; a damaged ledger is exit 8 with the way out."""
    monkeypatch.setattr("time.time", lambda: 1_795_262_400.0)
    night = held()
    shutil.rmtree("outputs/talk")
    job = write("talk.yaml", JOB.replace("budget: 0.50", "budget: {day: 0.02, month: 3}"))
    said = tertulia("plan", job)
    assert said.code == 0
    spent = f"{night.counted / 1e9:.4f}"
    counted = f"${spent} is counted, by all runs together"
    assert f"  ceiling      $0.0200  day; {counted}, ${0.02 - float(spent):.4f} left" in said.out
    assert f"               $3.0000  month; {counted}" in said.out
    assert "the run as a whole has none" in said.out
    rooms = objects(tertulia("plan", job, "--json").out)[-2]["ceilings"]
    assert [(room["name"], room["held"]) for room in rooms] == [
        ("day", night.counted / 1e9),
        ("month", night.counted / 1e9),
    ]
    ledger = Path("outputs/ledger.jsonl")
    ledger.write_bytes(b"?\n" + ledger.read_bytes())
    said = tertulia("plan", job)
    assert said.code == 8
    assert "tertulia repair outputs/ledger.jsonl" in said.err


def test_plan_has_room_for_what_the_run_itself_has_drawn_and_not_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash left a slice behind: it is its own next life's, and keeps no conversation from being held."""
    monkeypatch.setattr("time.time", lambda: 1_795_262_400.0)
    text = JOB.replace("budget: 0.50", "budget: {day: 0.02}")
    night = killed_when(text, SIM, lambda state: bool(state.run.settled and state.run.reserved))
    landed(night, Path("outputs"))
    state = scan(RealDisk(), Path("outputs/talk/main/journal.jsonl")).state
    drawn = Book(ledger_entries(RealDisk(), Path("outputs/ledger.jsonl")).entries).total("2026-11-21", play=True)
    assert state.run.held < drawn
    said = tertulia("plan", write("talk.yaml", text))
    assert said.code == 0
    assert f"day; {shown(state.run.held)} is counted, by all runs together" in said.out
    assert "not all conversations will be held" not in said.out


def test_plan_refuses_a_job_of_which_no_turn_fits_a_day() -> None:
    """A ceiling over the day bounds each call as any other does."""
    said = tertulia("plan", write("poor.yaml", JOB.replace("budget: 0.50", "budget: {day: 0.001}")))
    assert said.code == 2
    assert "the budget of the day is $0.001" in said.err


def test_plan_cuts_a_long_table_and_counts_the_rest() -> None:
    """Forty rows, then how many more; the totals are of all."""
    job = JOB.replace("b: [ada, bo]}", "b: [ada, bo], repeat: 30}")
    said = tertulia("plan", write("talk.yaml", job))
    assert "... and 21 more; --json lists all" in said.out
    assert sum(line.endswith("  new") for line in said.out.splitlines()) == 40
    assert "61 conversations, 64 calls" in said.out


def test_plan_warns_of_a_budget_that_will_not_do() -> None:
    """A ceiling below what is expected is said before the money is gone."""
    said = tertulia(
        "plan", write("talk.yaml", JOB.replace("budget: 0.50", "budget: {run: 0.004, conversation: 0.003}"))
    )
    assert said.code == 0
    assert "not all conversations will be held" in said.out
    assert "about 1 conversation will be left then; run: its ceiling is reached" in said.out
    assert "less than expected for 1 conversation: cut short" in said.out


def test_plan_offers_failed_conversations_for_another_try() -> None:
    """They are not expected, and the command that takes them up is there; `--why` tells the reason."""
    held(sim={"models": {**SIM["models"], "n": {**MODEL, "faults": [{"kind": "blank"}]}}})
    said = tertulia("plan", write("talk.yaml", JOB), "--why")
    assert "tertulia run talk.yaml --retry-failed takes them up again" in said.out
    assert "letter/bo is failed:\n    " in said.out


def test_plan_of_a_damaged_journal_names_the_way_out() -> None:
    """Money that is unknown is not guessed at."""
    held()
    path = Path("outputs/talk/main/journal.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"{}\n", *lines[4:]]))
    job = write("talk.yaml", JOB)
    said = tertulia("plan", job)
    assert said.code == 8
    assert "tertulia repair outputs/talk/main" in said.err
    checked = tertulia("check", job)
    assert checked.code == 8
    assert "tertulia repair outputs/talk/main" in checked.out


@pytest.mark.fault(25)
def test_a_journal_of_a_later_version_stops_one_job_and_not_the_check() -> None:
    """What cannot be read is told as that job's problem, and the next one is still looked at."""
    write("talk.yaml", JOB)
    Path("outputs/talk/main").mkdir(parents=True)
    body = b'{"v":99,"seq":1,"at":1.0,"kind":"opened"'
    Path("outputs/talk/main/journal.jsonl").write_bytes(b'%b,"crc":"%08x"}\n' % (body, crc32(body)))
    said = tertulia("check", "talk.yaml", write("other.yaml", JOB.replace("name: talk", "name: other")))
    assert said.code == 8
    assert "talk/main/journal.jsonl: record 1 has format 99" in said.out
    assert "ok       other.yaml" in said.out


def test_what_plan_shows_cannot_act_on_a_terminal() -> None:
    """A control code in a job reaches the screen as text."""
    held()
    job = write("talk.yaml", JOB.replace("What survives?", "What \\u202esurvives?"))
    for arguments in (("--why",), ("--json",)):
        said = tertulia("plan", job, *arguments)
        assert "changed" in said.out
        assert "\u202e" not in said.out
    assert '"What \\u{202e}survives?"' in tertulia("plan", job, "--why").out


# --- check -------------------------------------------------------------------------------------------------------


def test_check_says_ok_once_for_each_job_and_leaves_nothing_behind() -> None:
    """A sound job is one line; the outputs folder is tried and not made."""
    said = tertulia("check", write("talk.yaml", JOB))
    assert said.code == 0
    assert said.out.splitlines() == [
        "ok       talk.yaml: 3 conversations, 2 models with known prices, no key needed, budget $0.5000",
        "ok       outputs: will be made; can be written and locked",
    ]
    assert os.listdir() == ["talk.yaml"]


def test_plan_and_check_tell_of_models_that_take_turns() -> None:
    """How many of them the job says are loaded at a time; what loading takes nobody can tell before."""
    models = "{ada: {use: card/m}, bo: {use: card/n}}"
    job = f"providers: {{card: {{type: ollama, resident: 1}}}}\nmodels: {models}\n" + JOB[JOB.index("prompts:") :]
    path = write("turns.yaml", job)
    said = "card: 2 models take turns, 1 loaded at a time"
    assert f"               {said}, and loading them takes time besides" in tertulia("plan", path).out.splitlines()
    assert tertulia("check", path).out.splitlines()[0].endswith(f", no budget for the run, {said}")


def test_check_names_a_missing_key_by_variable_and_provider() -> None:
    """Exit 6 while it is missing; when it is there it is named and never shown."""
    job = write("keyed.yaml", KEYED)
    said = tertulia("check", job)
    assert said.code == 6
    assert "problem  keyed.yaml: provider far: FAR_KEY is not set" in said.out
    Path(".env").write_text("FAR_KEY=sk-very-secret-0123456789\n")
    Path(".env").chmod(0o600)
    there = tertulia("check", job)
    assert there.code == 0
    assert "keys there (FAR_KEY)" in there.out
    assert "very-secret" not in there.out + there.err


def test_check_warns_where_nobody_would_be_told_of_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A night whose messages reach nobody is held all the same, so that nobody would notice."""
    notify = 'notify: {when: [failed], command: [./tell.sh], webhook: "${A_HOOK}"}\n'
    job = write("talk.yaml", JOB + notify)
    said = tertulia("check", job)
    lines = [line for line in said.out.splitlines() if line.startswith("warning")]
    assert said.code == 0 and [line.partition("`notify` would reach nobody by its ")[2] for line in lines] == [
        "webhook: A_HOOK is not set: put it into the environment or into a .env file beside the job",
        "command: ./tell.sh is not there, or may not be run",
    ]
    script = Path("tell.sh")
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    assert tertulia("check", job).out.count("warning") == 2
    script.chmod(0o755)
    monkeypatch.setenv("A_HOOK", "https://hooks.example/T0")
    assert "warning" not in tertulia("check", job).out
    monkeypatch.setenv("A_HOOK", "http://hooks.example/s3cret")
    said = tertulia("check", job)
    assert "https://" in said.out and "s3cret" not in said.out + said.err


def test_check_warns_where_the_command_of_an_inbox_cannot_be_run() -> None:
    """Once for each side and program, also where a field of the pairing names it; the night could be held."""
    job = write(
        "post.yaml",
        """\
name: post
models: {ada: {use: sim/ada}, bo: {use: sim/basil}}
prompts:
  gone: {roles: {friend: {inbox: {command: [nonesuch-program, x]}}, a: {}}, rounds: 1}
  here: {roles: {friend: {inbox: {command: [sh, -c, "echo one"]}}, a: {}}, rounds: 1}
  told: {roles: {friend: {inbox: {command: ["./{{who}}.sh"]}}, a: {}}, rounds: 1}
pairings:
  - {prompt: [gone, here], a: [ada, bo]}
  - {prompt: told, a: [ada, bo], vars: {who: eve}}
  - {prompt: told, a: ada, vars: {who: max}}
""",
    )
    Path("max.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    Path("max.sh").chmod(0o755)
    said = tertulia("check", job)
    assert said.code == 0
    assert [line for line in said.out.splitlines() if line.startswith("warning")] == [
        f"warning  post.yaml: `friend` of {prompt} would get no line from the command of its inbox: "
        f"{program} is not there, or may not be run"
        for prompt, program in (("gone", "nonesuch-program"), ("told", "./eve.sh"))
    ]


@pytest.mark.fault(78)
def test_check_warns_of_a_readable_env_file() -> None:
    """Keys that other users can read are worth a line, and no failure."""
    Path(".env").write_text("FAR_KEY=sk-very-secret-0123456789\n")
    Path(".env").chmod(0o644)
    said = tertulia("check", write("keyed.yaml", KEYED))
    assert said.code == 0
    assert "warning  .env can be read by other users: chmod 600 .env" in said.out


def test_a_key_that_several_providers_lack_is_one_problem() -> None:
    """With the names of all of them, and what to do."""
    near = 'near: {type: openai, base_url: "https://near.example/v1", api_key: "${FAR_KEY}"}'
    job = KEYED.replace("providers: {", f"providers: {{{near}, ").replace("b: m}", "b: n}")
    job = job.replace("models: {", "models: {n: {use: near/n, price: {input: 1, output: 2}}, ")
    said = tertulia("check", write("keyed.yaml", job))
    assert said.code == 6
    assert [line for line in said.out.splitlines() if "FAR_KEY" in line] == [
        (
            "problem  keyed.yaml: providers near, far: FAR_KEY is not set: "
            "put it into the environment or into a .env file beside the job"
        )
    ]


def test_check_tells_all_problems_of_all_jobs_and_the_worst_code() -> None:
    """A broken file does not hide what is wrong with the next; of the codes the worst is given."""
    said = tertulia(
        "check",
        write("bad.yaml", "bugdet: 3\nprompts: {}\n"),
        write("poor.yaml", JOB.replace("budget: 0.50", "budget: 0.001").replace("name: talk", "name: poor")),
        write("keyed.yaml", KEYED.replace(", price: {input: 1, output: 2}", "")),
        write("talk.yaml", JOB),
        "missing.yaml",
    )
    assert said.code == 6
    assert "problem  bad.yaml:1:1: unknown key `bugdet`" in said.out
    assert "did you mean `budget`?" in said.out
    assert "not even one turn of 3 conversations fits" in said.out
    assert "FAR_KEY is not set" in said.out
    assert "use: far/m, price:" in said.out
    assert "ok       talk.yaml" in said.out
    assert "problem  missing.yaml: " in said.out
    assert tertulia("check", "bad.yaml").code == tertulia("check", "poor.yaml").code == 2


def test_check_finds_two_jobs_that_would_share_a_folder() -> None:
    """Side by side they would hold each other's lock."""
    said = tertulia("check", write("one.yaml", JOB), write("two.yaml", JOB))
    assert said.code == 2
    assert "problem  two.yaml: its run outputs/talk/main is also that of one.yaml" in said.out


def test_check_finds_complete_conversations_that_would_be_bought_again() -> None:
    """What makes `run` refuse is known beforehand."""
    held()
    said = tertulia("check", write("talk.yaml", JOB.replace("rounds: 2", "rounds: 3")))
    assert said.code == 2
    assert "1 complete conversation of talk/main would be bought again" in said.out


def test_check_tries_the_outputs_folder() -> None:
    """A folder that cannot be is exit 8, before a night is lost to it."""
    Path("taken").write_text("a file")
    said = tertulia("check", write("talk.yaml", JOB), "--outputs", "taken/outputs")
    assert said.code == 8
    assert "cannot be written" in said.out
    Path("outputs").mkdir()
    assert tertulia("check", "talk.yaml").out.endswith("ok       outputs: can be written and locked\n")
    assert os.listdir("outputs") == []


# --- schema ------------------------------------------------------------------------------------------------------


def test_schema_prints_the_schema_of_the_job_file() -> None:
    """What an editor reads is what the job file is checked with; `-o` writes the same to a file."""
    said = tertulia("schema")
    assert said.code == 0
    assert json.loads(said.out) == json.loads(json.dumps(json_schema()))
    assert tertulia("schema", "-o", "s.json").code == 0
    assert Path("s.json").read_text() == said.out
    assert tertulia("schema", "-o", "no/such/folder.json").code == 8
