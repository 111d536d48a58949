"""What can go wrong, and what happens then: ninety faults, and the tests that show it.

`python -m tests.faults > docs/faults.md` writes the page. A test names its faults itself, `@pytest.mark.fault(17)`, and
the marks are read from the source, so that the page needs no test to run. A fault without a test says why.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Final, NamedTuple

TESTS: Final = Path(__file__).parent
WIDTH: Final = 120
PAGE: Final = TESTS.parent / "docs" / "faults.md"


class Fault(NamedTuple):
    """What goes wrong, and what Tertulia does then; `untested` says why no test shows it."""

    wrong: str
    then: str
    untested: str | None = None


SUBJECTS: Final[Mapping[str, Mapping[int, Fault]]] = {
    "Processes, signals and power": {
        1: Fault(
            "The process is killed with `kill -9`, in the middle of anything",
            "The next run finds every settled turn and asks for none of them again. Calls that were in flight count "
            "as spent, at what was reserved for them.",
        ),
        2: Fault(
            "Somebody presses Ctrl-C once",
            "No call begins any more, those in flight land and are kept, and the exit code is 130. The command that "
            "goes on is printed.",
        ),
        3: Fault(
            "Somebody presses Ctrl-C twice",
            "Calls in flight are left, and stay charged at their reservation. What was said is on disk, and the life "
            "is closed in order. Views get eight seconds; where they take longer, the status says so (`views`), and "
            "the next run or `report` writes them.",
        ),
        4: Fault(
            "A stop is asked for a third time, because the process hangs",
            "It ends at once. The journal is as sound as after a kill. While a style of the user's own hangs in code "
            "that hears no signal, it ends by itself after 30 seconds.",
        ),
        5: Fault(
            "A service manager or cron sends SIGTERM",
            "As with Ctrl-C, but calls in flight have a grace period (`--grace`), after which they are left. Exit code "
            "143.",
        ),
        6: Fault(
            "The terminal is closed, or whoever reads stdout or stderr goes away",
            "The run goes on without a display and keeps its exit code; the log has what was not seen.",
        ),
        7: Fault(
            "The parent has switched interrupts off, as `nohup` does",
            "Tertulia listens for them all the same, and stops when it is asked to.",
        ),
        8: Fault(
            "Memory runs out, and the kernel ends the process",
            "As after any kill. It is unlikely to be our doing: what is held of an answer is bounded by the output "
            "limit of its call.",
        ),
        9: Fault(
            "The power fails: what was not synced is gone, full of zeros, or noise",
            "Nothing was done on the strength of it. The broken end of the journal is set aside and cut, and no "
            "ceiling has been passed.",
        ),
        10: Fault(
            "The machine sleeps for hours in the middle of its calls",
            "Those calls are lost once, at their reservation, and asked again. No burst follows: limits are paced by "
            "time that the process was awake.",
        ),
        11: Fault(
            "The wall clock is set back by an hour, or forward by a day",
            "Records keep their order, stamps never go back, durations come from another clock, and the date of the "
            "run stays what it was at the start.",
        ),
        12: Fault(
            "The clocks change in the night, and cron starts the job twice in the hour that comes twice",
            "Both starts have the same date, so they mean the same run: the second finds nothing left to do, or what "
            "is left.",
        ),
        13: Fault(
            "Two processes want to hold the same run",
            "The second changes nothing, says which process on which machine holds it since when, and ends with "
            "code 7.",
        ),
        14: Fault(
            "A process died and left its lock file behind",
            "The lock is the kernel's and went with the process. The next run starts at once; nothing has to be "
            "unlocked by hand.",
        ),
        15: Fault(
            "A child process inherits the lock, and outlives its parent",
            "The lock is closed when another program is started, so nobody else can hold it.",
        ),
        16: Fault(
            "The outputs lie on a network or overlay file system whose locks may not work",
            "`tertulia doctor` tries the lock, and names file systems on which a promise of durability may be empty.",
        ),
    },
    "The disk and what is on it": {
        17: Fault(
            "The disk is full when a record is to be written",
            "The begun line is cut back, space set aside at the start is given up so that what is in flight can be "
            "kept, nothing more is sent, and the exit code is 8.",
        ),
        18: Fault(
            "The disk is full when a run is taken up again",
            "The broken end of the journal is still cut, and what could not be set aside is said.",
        ),
        19: Fault(
            "A quota, a limit on file sizes, or a disk that has turned read-only",
            "As with a full disk, in the system's own words; a disk that cannot be written at all keeps the run from "
            "starting.",
        ),
        20: Fault(
            "The disk reports an error when it is asked to make sure (`fsync`)",
            "It is never asked a second time, because it may have thrown away what it could not write. Nothing more is "
            "sent, what may be missing is named, and the next run reads what is there.",
        ),
        21: Fault(
            "A bit flips in the middle of the journal",
            "The checksum of its line shows it. Nothing is sent and no view is touched; the error names the byte, and "
            "`tertulia repair` counts the line at the most it can have cost.",
        ),
        22: Fault(
            "The journal ends in the middle of a line, even of a letter",
            "The whole lines before it count. The rest is set aside in a file of its own.",
        ),
        23: Fault(
            "The journal ends in zeros, blank lines or rubbish",
            "The same: what is no whole record is set aside.",
        ),
        24: Fault(
            "Somebody opens the journal in an editor: other line ends, a mark at the beginning, a figure put right",
            "It is refused with the place. Line ends alone are given back by `tertulia repair`, without loss.",
        ),
        25: Fault(
            "The journal was written by a later version",
            "It is left alone, and the message says which version to use.",
        ),
        26: Fault(
            "Lines are missing from the journal, or two journals were put together, or one was copied over another",
            "Lines must follow each other by number, so a gap is damage. Conversations of another job are none of "
            "this one's, but their money counts.",
        ),
        27: Fault(
            "Transcripts or tables were deleted, edited or only half written",
            "They are computed from the journal alone, and come back byte for byte with `tertulia report` or the next "
            "run. `tertulia verify` finds the difference.",
        ),
        28: Fault(
            "The job file is changed between two runs",
            "Each conversation is known by what makes it up. Those that are the same keep what was said; complete ones "
            "that changed are bought again only with `--accept-changes`, and the old money stays counted.",
        ),
    },
    "Providers and the network": {
        29: Fault(
            "Nobody listens at the provider's address, or its name is not known",
            "Surely not sent, so it costs nothing. It is tried again after growing pauses, and given up for this run "
            "if it never answers.",
        ),
        30: Fault(
            "The provider's certificate is expired, for another name, or signed by nobody we trust",
            "Neither key nor prompt is sent, it costs nothing, and trying again would not help, so its conversations "
            "wait for a later run.",
        ),
        31: Fault(
            "A call is cancelled in the middle of its answer",
            "Its end is written down before the process goes: lost, at its reservation.",
        ),
        32: Fault(
            "The connection is reset after the request was sent",
            "It may be billed, so it stays charged at its reservation, and is asked again as often as the job allows "
            "for lost calls.",
        ),
        33: Fault(
            "A kept-alive connection is closed by the server just when it is used again",
            "A request that was sent is never sent a second time behind our back; idle connections are closed early, "
            "so this is rare.",
        ),
        34: Fault(
            "The answer's headers come, and then nothing",
            "The call ends when its time for the first data, or for the next, is over. It may be billed, and stays "
            "charged.",
        ),
        35: Fault(
            "The answer comes one byte at a time, for ever",
            "Signs of life wind no clock, and each call has a time for all of it.",
        ),
        36: Fault(
            "The answer has no end",
            "It is cut at a size that follows from the output limit, and stays charged.",
        ),
        37: Fault(
            "A small compressed answer unfolds to gigabytes",
            "It is unpacked piece by piece and cut at the same size; encodings that were not asked for are refused.",
        ),
        38: Fault(
            "Fewer bytes come than the answer has promised",
            "No reply is made of it. The text that came is kept beside the failure, as evidence.",
        ),
        39: Fault(
            "Half an answer with status 200, ended by closing the connection",
            "Only a finish reason ends an answer. Without one it is lost, and stays charged.",
        ),
        40: Fault(
            "A web page with status 200, from a proxy or a login page",
            "Its text becomes nobody's turn; the error says what it looks like and where to look.",
        ),
        41: Fault(
            "An error inside an answer of status 200, perhaps after some text",
            "The attempt has failed as the error says. The text is kept, and what was used is charged.",
        ),
        42: Fault(
            "The provider redirects to another address",
            "It is not followed: the other server sees neither the key nor the prompt.",
        ),
        43: Fault(
            "`Retry-After` in seconds, milliseconds, as a date, negative, not a number, or ten days",
            "What makes sense is obeyed by the whole lane, for as long as the run is ready to wait; nonsense is no "
            "hint.",
        ),
        44: Fault(
            "A thousand conversations are told at once that it is too much",
            "One pause for all of them, longer each time, and fewer at once afterwards. No try is spent, and nobody "
            "storms the door when it opens.",
        ),
        45: Fault(
            "The provider answers everything with 500, 502, 503 or 529 for a while",
            "After a few errors in a row one call at a time tries whether it is back, after longer and longer pauses. "
            "Its victims wait for a later run, however few tries they have; who fails alone has failed.",
        ),
        46: Fault(
            "The key is revoked in the middle of the night",
            "No more calls to this provider; one line says so. The others go on at their full speed, and the next run "
            "completes the rest.",
        ),
        47: Fault(
            "The account is out of money",
            "The same, with the provider's word for it.",
        ),
        48: Fault(
            "A conversation no longer fits the model's window",
            "It ends with what was said, and every view counts it as stopped early; without a whole round, or where "
            "the job has it so, it fails. The reason names the window. A prompt that cannot fit a known window is not "
            "sent at all.",
        ),
        49: Fault(
            "A reply without any text",
            "Never a turn: it is tried again a few times, and then the conversation has failed and says at which turn.",
        ),
        50: Fault(
            "Nothing but reasoning, until the output limit is reached",
            "The same; where the job says so, the next try has a larger limit.",
        ),
        51: Fault(
            "Usage that is missing, zero beside a text, negative, a fraction, in words, or absurdly large",
            "It is not trusted: the call stays charged at its reservation, and every view says that this is assumed.",
        ),
        52: Fault(
            "The provider's cost is not what the price list makes of its tokens",
            "The provider's figure counts, unless it is nothing beside a text. Both are kept, and a difference above "
            "2 % is shown.",
        ),
        53: Fault(
            "Another model answers than the one that was asked",
            "The turn counts, and the model that served it is on record and shown beside the one that was asked.",
        ),
        54: Fault(
            "A server ignores the output limit",
            "The truth is settled and flagged, the model gets no further call, in later lives as well, until the job "
            "allows it more, and if a ceiling was passed, the run ends with code 4 and says `overrun`.",
        ),
        55: Fault(
            "The model refuses, or a filter cuts in",
            "An outcome of its own: with words it is a flagged turn, or tried again, as the job says; without words "
            "it is a failure.",
        ),
        56: Fault(
            "A local server loads a model first, and the first word takes nine minutes",
            "The first data has a time of its own, so that a slow start is waited for, and not asked again.",
        ),
    },
    "Money": {
        57: Fault(
            "A hundred calls want the last of the money at the same moment",
            "One place decides, for one call at a time: what is settled and reserved never passes a ceiling.",
        ),
        58: Fault(
            "The ceiling is lower than a single turn can cost",
            "A mistake that is told before anything is sent, with the conversations and the ceiling.",
        ),
        59: Fault(
            "Money that is reserved and never given back",
            "However a life ends, nothing is reserved when it is closed; `tertulia verify` looks for it.",
        ),
        60: Fault(
            "The job names no output limit",
            "One is sent all the same, and reserved in full.",
        ),
        61: Fault(
            "A price that is missing, negative, not a number, endless, has a comma, or is per token",
            "Refused with its place, before anything is sent. A price of nothing must be said in words.",
        ),
        62: Fault(
            "Prices change while a run is going on, or before it is taken up again",
            "A life keeps the prices it began with. What was settled stays as it was counted.",
        ),
        63: Fault(
            "The ceiling is lowered below what was spent",
            "The run starts, sends nothing, and says so with code 4.",
        ),
        64: Fault(
            "The ceiling is raised when a run is taken up again",
            "Only the user can do so, by the job file or a flag, and the journal has the ceilings of every life.",
        ),
        65: Fault(
            "Ten million turns of less than a billionth of a dollar",
            "Each is rounded up once, so that no sum is below the truth, and none above it by more than one "
            "billionth for each turn.",
        ),
        66: Fault(
            "Two jobs, in two processes, spend from one day's money",
            "They draw it in slices from one ledger, so that both together stay below it.",
        ),
    },
    "Job files": {
        67: Fault(
            "A matrix that comes to a million conversations",
            "Refused where it passes what one run can hold, with the number; below that `tertulia plan` shows the "
            "number and the money.",
        ),
        68: Fault(
            "Two conversations of the same name or the same content, or names that differ in case or accents only",
            "The same conversation twice is a mistake, told with both places. Names that a file system could confuse "
            "are refused, or get endings that keep them apart.",
        ),
        69: Fault(
            "Names such as `../x`, `CON`, of 300 letters, with zeros, or with letters that run backwards",
            "A file's name is made of plain letters, with a hash where that is not enough, and never leaves its "
            "folder.",
        ),
        70: Fault(
            "A text that is to be read from outside the project, through a link, from a device, or of ten gigabytes",
            "Only regular files within the project are read, up to a size.",
        ),
        71: Fault(
            "Texts or values that contain themselves",
            "Fields are filled in once and values never looked through again, files name no other files, and an "
            "alias that holds itself is refused.",
        ),
        72: Fault(
            "A small YAML file that unfolds to millions of values; tags; doubled keys",
            "Aliases are counted before they are unfolded; tags and doubled keys are mistakes, told with their place.",
        ),
        73: Fault(
            "`no` that means false, `1:30` that means ninety, `010` that means eight",
            "YAML 1.2, strictly: each of them is what it looks like, and where a text is expected nothing else will "
            "do.",
        ),
        74: Fault(
            "A reply that looks like a field to be filled in",
            "Replies are passed on as they are. Nothing in them is ever filled in.",
        ),
        75: Fault(
            "Fields that multiply to an endless text",
            "There is no template language, only named fields, and a text has a largest size.",
        ),
    },
    "Hostile text and secrets": {
        76: Fault(
            "Half a character, bytes that are no text, or zeros, in a prompt or a reply",
            "In a job file they are mistakes, told with their place. In a reply they are marked, and the rest of the "
            "text is kept.",
        ),
        77: Fault(
            "A key that comes back: in an error, a header, a redirect, a reply, in whatever encoding",
            "It is masked before anything is stored or shown. No file, screen or traceback has it.",
        ),
        78: Fault(
            "A key file that others can read, or a key in the job file",
            "The first is warned of. The second is refused, and the message does not repeat it.",
        ),
        79: Fault(
            "A key that would travel unencrypted, a password in an address, or the address of a cloud's own secrets",
            "Refused, whether it stands in the job file or comes from a variable.",
        ),
        80: Fault(
            "A reply with control codes for a terminal: clear it, name it, write to its clipboard, go back a line",
            "They are spelled out, and never reach a terminal, a log or a transcript.",
        ),
        81: Fault(
            "A reply that imitates a transcript: headings, rules, front matter, figures, fences that never close",
            "It stays within its quotation, and the page reads back to exactly the messages that were said. In the "
            "older shapes its headings move below ours, what would pass for ours is escaped, and the same turns are "
            "read back.",
        ),
        82: Fault(
            "A reply that defines links, to change where ours lead",
            "No definition outside a quotation can be made from within one, and our links do not ask for any.",
        ),
        83: Fault(
            "Scripts, forms, styles and pictures in a reply, shown in a browser",
            "",
            "there is no HTML report yet; transcripts are Markdown, in which raw HTML and images of a reply are "
            "escaped (faults 81 and 82)",
        ),
        84: Fault(
            "A reply that a spreadsheet would take for a formula",
            "In an export to CSV an apostrophe stands before it, so that it is shown and not computed; it can be taken "
            "away again by rule. In all other files texts are what was said.",
        ),
        85: Fault(
            "One model gives orders to the other",
            "That is conversation. The other hears plain words: no tool, file, variable or setting can be reached "
            "from a reply.",
        ),
        86: Fault(
            "JSON that is nested a thousand levels deep, or is ten million empty lists",
            "An answer is cut by its size before it is understood, and what cannot be written again is kept as far as "
            "it can be.",
        ),
    },
    "Scale and supply": {
        87: Fault(
            "The process may open only a few files and sockets",
            "It raises the limit where it may; else it says for how many calls there are files and keeps to that. "
            "Where there are none for a single call, it says so before anything is sent.",
        ),
        88: Fault(
            "Fifty thousand conversations wait",
            "They are rows of a plan: no task, no timer, and less than a kilobyte each.",
        ),
        89: Fault(
            "One of several providers is dead",
            "Its conversations wait with one clear reason. The others lose none of their speed.",
        ),
        90: Fault(
            "A package that we depend on was tampered with",
            "Environments are built from locks with the hash of every file; another file is not installed.",
        ),
    },
}
"""All faults, by subject and number."""

FAULTS: Final[Mapping[int, Fault]] = {n: fault for some in SUBJECTS.values() for n, fault in some.items()}


class Marked(NamedTuple):
    """A test and the faults that it shows."""

    file: str
    name: str
    numbers: tuple[int, ...]


class MarkError(Exception):
    """A mark that cannot be read."""


def marked(folder: Path = TESTS) -> list[Marked]:
    """All tests with a mark, file by file."""
    return [found for path in sorted(folder.rglob("test_*.py")) for found in _marked_in(path, folder)]


def _marked_in(path: Path, folder: Path) -> Iterator[Marked]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    file = path.relative_to(folder.parent).as_posix()
    read = 0
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        marks = [call for call in node.decorator_list if isinstance(call, ast.Call) and _is_mark(call.func)]
        read += len(marks)
        numbers = tuple(number for mark in marks for number in _numbers(mark, file))
        if numbers:
            yield Marked(file, node.name, numbers)
    written = sum(_is_mark(node) for node in ast.walk(tree))
    if written != read:
        raise MarkError(f"{file}: a mark of a fault stands above each test by itself, and with its numbers")


def _is_mark(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "fault" and ast.unparse(node) == "pytest.mark.fault"


def _numbers(mark: ast.Call, file: str) -> list[int]:
    found = [argument.value for argument in mark.args if isinstance(argument, ast.Constant)]
    numbers = [number for number in found if type(number) is int]
    if mark.keywords or not numbers or len(numbers) != len(mark.args):
        raise MarkError(f"{file}:{mark.lineno}: a mark of a fault has one number or several, and nothing else")
    return numbers


def page(tests: Sequence[Marked]) -> str:
    """The page for people."""
    shown = {n: [test for test in tests if n in test.numbers] for n in FAULTS}
    tested = sum(bool(found) for found in shown.values())
    lines = [
        "# What can go wrong",
        "",
        fill(
            f"{len(FAULTS)} faults, what happens then, and the tests that show it; {tested} have at least one. This "
            "page is written from the marks of the tests (`python -m tests.faults > docs/faults.md`), and one of them "
            "keeps it up to date. `scripts/test -m fault` runs them all.",
            WIDTH,
        ),
    ]
    for subject, some in SUBJECTS.items():
        lines += ["", f"## {subject}"]
        for number, fault in some.items():
            lines += ["", f"### {number}. {fault.wrong}", ""]
            lines += [fill(fault.then, WIDTH), ""] if fault.then else []
            lines += [f"- `{test.file}`: `{test.name}`" for test in shown[number]]
            lines += [fill(f"No test: {fault.untested}.", WIDTH)] if fault.untested is not None else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(marked()), end="")
