"""A night that was recorded can be played back, and no key is in any byte of the recording."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from errno import ENOSPC
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.events import Failed, Replied
from runner.job import Job
from runner.journal import FILE, decode
from runner.lines import split
from runner.night import Place, Source, night
from runner.selection import Options
from runner.sim.config import load_config
from runner.sim.engine import Engine
from runner.sim.wire import SimWire
from runner.transports.exchanges import (
    Begun,
    Broke,
    Chunk,
    Exchange,
    Misread,
    bytes_of,
    read_exchange,
    text_of,
    texts_of,
    written,
)
from runner.transports.record import Mask, Recorder
from runner.transports.replay import Replay, Unplayable
from runner.world import HttpRequest, HttpResponse, Secret, Wire, WireError, World
from tests.memory import Fault, MemoryDisk, Operation, no_fault
from tests.nights import START, job_of, matrix, provider
from tests.nights import text_of as job_text
from tests.virtual import ScriptedPrograms, ScriptedSignals, VirtualClock, run_virtual

TAPE = Path("tape")
KEY = "sk-planted/7Qw+zR4-pLmN9"
BASE = "http://p.sim/v1"


# --- a night ---------------------------------------------------------------------------------------------------------


def hold(job: Job, disk: MemoryDisk, root: Path, base: str, wire: Wire, told: list[str]) -> int:
    """One night over this wire, in virtual time."""

    async def live() -> int:
        world = World(VirtualClock(START), disk, wire, Random(1), ScriptedSignals([]), ScriptedPrograms())
        places = {(job.name, name): base for name in job.providers}
        place = Place(root, '{"pid": 1}', places)
        return await night(world, [Source(job, "job.yaml", {})], Options(), place, tell=told.append)

    async def recorded(recorder: Recorder) -> int:
        async with recorder:
            return await live()

    if isinstance(wire, _Late):
        return run_virtual(lambda: recorded(wire.made(disk, told)))
    return run_virtual(live)


class _Late:
    """A recorder that is made when the loop runs."""

    def __init__(self, inner: Wire, secrets: Sequence[str] = ()) -> None:
        self._inner = inner
        self._secrets = [Secret(text) for text in secrets]

    def made(self, disk: MemoryDisk, told: list[str]) -> Recorder:
        self._recorder = Recorder(self._inner, disk, VirtualClock(START), TAPE, self._secrets, told.append)
        return self._recorder

    def exchange(self, request: HttpRequest) -> Any:
        return self._recorder.exchange(request)


def came_to(disk: MemoryDisk, root: Path) -> list[tuple[Any, ...]]:
    """Every text, outcome and cost of a run, turn by turn."""
    found: list[tuple[Any, ...]] = []
    for offset, line, _ in split(disk, root / "job" / "main" / FILE):
        record = decode(line, offset)
        assert record is not None
        event = record.event
        if isinstance(event, Replied):
            found.append((event.cell, event.turn, event.attempt, event.text, event.finish, event.cost, event.usage))
        elif isinstance(event, Failed):
            kind = (event.failure, event.scope, event.money, event.busy, event.status)
            found.append((event.cell, event.turn, event.attempt, event.partial or "", *kind, event.cost))
    return sorted(found, key=lambda row: row[:3])


def engine(**habits: Any) -> Engine:
    loaded = load_config(provider(("m0", "m1", "m2"), **habits))
    assert not loaded.problems
    return Engine(loaded.config)


def files(disk: MemoryDisk) -> dict[str, bytes]:
    return {path.name: content for path, content in disk.files.items() if path.parent == TAPE}


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_recorded_night_played_back_comes_to_the_same(seed: int) -> None:
    """Texts, outcomes and costs are those of the night, with all that went wrong in it; nothing is asked for again."""
    job = job_of(job_text(matrix(("m0", "m1", "m2"), rounds=2, send_seed=True)))
    disk, told = MemoryDisk(), list[str]()
    there = engine(rate=0.3, seed=seed)
    code = hold(job, disk, Path("outputs"), BASE, _Late(SimWire({BASE: there})), told)
    first = came_to(disk, Path("outputs"))
    assert any(len(row) > 7 for row in first), "a night without trouble shows little"
    asked = there.bill.accepted
    assert len(files(disk)) >= asked > 0
    again = hold(job, disk, TAPE / "outputs", "http://replay/v1", Replay(disk, TAPE, told.append), told)
    assert (again, came_to(disk, TAPE / "outputs")) == (code, first)
    assert there.bill.accepted == asked
    assert not [line for line in told if line.startswith("replay:")]


def test_the_files_are_numbered_in_the_order_of_sending_and_go_on_after_those_that_are_there() -> None:
    """Two lives of a run fill one folder, and nothing of the first is lost."""
    job = job_of(job_text(matrix(("m0", "m1"), rounds=1)))
    disk, told = MemoryDisk(), list[str]()
    hold(job, disk, Path("outputs"), BASE, _Late(SimWire({BASE: engine()})), told)
    before = files(disk)
    assert sorted(before) == ["000001.json", "000002.json", "000003.json", "000004.json"]
    hold(job, disk, Path("others"), BASE, _Late(SimWire({BASE: engine()})), told)
    assert sorted(files(disk))[4:] == ["000005.json", "000006.json", "000007.json", "000008.json"]
    assert {name: files(disk)[name] for name in before} == before


def test_a_full_disk_is_told_once_and_the_night_goes_on() -> None:
    """What cannot be recorded is lost to the recording alone."""

    def full(operation: Operation) -> None:
        if operation.path.is_relative_to(TAPE) and operation.name != "listdir":
            raise OSError(ENOSPC, "No space left on device")

    job = job_of(job_text(matrix(("m0", "m1"), rounds=2)))
    told: list[str] = []
    disk = MemoryDisk().survivor(full)
    assert hold(job, disk, Path("outputs"), BASE, _Late(SimWire({BASE: engine()})), told) == 0
    said = [line for line in told if "recording" in line]
    assert said == ["the recording is not whole from now on: tape cannot be written (No space left on device)"]
    assert files(disk) == {}


def test_a_request_that_was_not_recorded_ends_its_conversation_and_names_the_closest() -> None:
    """Nothing is answered by what was said to something else; the line says which file and where they differ."""
    text = matrix(("m0", "m1"), rounds=1, send_seed=True)
    disk, told = MemoryDisk(), list[str]()
    hold(job_of(job_text(text)), disk, Path("outputs"), BASE, _Late(SimWire({BASE: engine()})), told)
    told.clear()
    changed = job_of(job_text({**text, "prompts": {"talk": {"opening": "Something else?", "rounds": 1}}}))
    code = hold(changed, disk, TAPE / "outputs", "http://replay/v1", Replay(disk, TAPE, told.append), told)
    assert code == 3
    ended = ("error", "conversation", "free", False, 400, 0)
    assert [row[4:] for row in came_to(disk, TAPE / "outputs")] == [ended] * 2
    said = [line for line in told if line.startswith("replay:")]
    assert len(said) == 2
    assert "this request is not in the recording; the closest is 00000" in said[0]
    assert said[0].endswith(", which differs at messages[0].content")


# --- one exchange at a time -----------------------------------------------------------------------------------------


class Said:
    """An answer in these pieces; an error among them is raised in its place."""

    def __init__(self, status: int, headers: Mapping[str, str], pieces: Sequence[bytes | WireError]) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await anyio.sleep(0.5)
            if isinstance(piece, WireError):
                raise piece
            yield piece


class Scripted:
    """A wire that answers as it is told to."""

    def __init__(self, *answers: Said | WireError) -> None:
        self._answers = [*answers]

    @asynccontextmanager
    async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
        await anyio.sleep(0.25)
        answer = self._answers.pop(0)
        if isinstance(answer, WireError):
            raise answer
        yield answer


REQUEST = HttpRequest("POST", "https://far.example/v1/chat?x=1", {"accept": "x"}, b'{"model":"m","t":0.1}')


async def heard(wire: Wire, request: HttpRequest = REQUEST, most: int | None = None) -> tuple[Any, ...]:
    """What somebody hears who reads at most so many pieces: status, headers, body, and how it broke."""
    body = b""
    response: HttpResponse | None = None
    try:
        async with wire.exchange(request) as response:
            pieces = 0
            async for piece in response.chunks():
                body += piece
                pieces += 1
                if pieces == most:
                    break
    except WireError as error:
        broke: tuple[Any, ...] | None = (error.what, error.sent, error.lasting)
    else:
        broke = None
    return (response and response.status, response and dict(response.headers), body, broke)


def taped(
    wire: Wire,
    requests: Sequence[HttpRequest] = (REQUEST,),
    secrets: Sequence[str] = (),
    most: int | None = None,
    fault: Fault = no_fault,
) -> tuple[MemoryDisk, list[tuple[Any, ...]]]:
    """The disk with the recording of these exchanges, and what was heard."""
    disk = MemoryDisk().survivor(fault)

    async def live() -> list[tuple[Any, ...]]:
        keys = [Secret(text) for text in secrets]
        async with Recorder(wire, disk, VirtualClock(START), TAPE, keys, lambda line: None) as recorder:
            return [await heard(recorder, request, most) for request in requests]

    return disk, run_virtual(live)


def played(disk: MemoryDisk, requests: Sequence[HttpRequest] = (REQUEST,)) -> list[tuple[Any, ...]]:
    async def live() -> list[tuple[Any, ...]]:
        wire = Replay(disk, TAPE, lambda line: None)
        return [await heard(wire, request) for request in requests]

    return run_virtual(live)


ENDINGS: dict[str, Said | WireError] = {
    "an answer in pieces": Said(200, {"x": "1"}, [b"one ", b"two"]),
    "an answer without a body": Said(204, {}, []),
    "an error status": Said(429, {"retry-after": "7"}, [b'{"error":{"message":"slow"}}']),
    "bytes that are no UTF-8": Said(200, {}, [b"\xff\xfe", b"ok\x80"]),
    "a character in two pieces": Said(200, {}, [b"\xe2\x82", b"\xac!"]),
    "a refused connection": WireError("cannot connect (Connection refused)", sent=False),
    "a certificate that is distrusted": WireError("the certificate was refused", sent=False, lasting=True),
    "a connection that closed without an answer": WireError("closed", sent=True),
    "half a stream": Said(200, {}, [b"data: {", WireError("the answer was cut off", sent=True)]),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_every_ending_is_played_as_it_was_heard(name: str) -> None:
    """Broken connections break again, half streams stop in the middle, and odd bytes are the same bytes."""
    disk, first = taped(Scripted(ENDINGS[name]))
    assert played(disk) == first


def test_an_answer_that_was_left_breaks_where_it_was_left() -> None:
    """What nobody waited for is in no recording: who goes on reading is told so at once."""
    disk, _ = taped(Scripted(Said(200, {}, [b"one ", b"two ", b"three"])), most=2)
    ((status, _, body, broke),) = played(disk)
    assert (status, body) == (200, b"one two ")
    assert broke == ("the recording ends here: it was read no further, 1.3 s after the request", True, False)


def test_a_call_that_was_given_up_before_its_answer_is_kept_as_such() -> None:
    """Nothing came before our patience ended; played back it breaks, perhaps received, without the wait."""
    disk = MemoryDisk()

    class Silent:
        @asynccontextmanager
        async def exchange(self, request: HttpRequest) -> AsyncIterator[HttpResponse]:
            await anyio.sleep_forever()
            yield Said(200, {}, [])

    async def live() -> None:
        async with Recorder(Silent(), disk, VirtualClock(START), TAPE, [], lambda line: None) as recorder:
            with anyio.move_on_after(5):
                await heard(recorder)

    run_virtual(live)
    assert json.loads(files(disk)["000001.json"])["end"] == {"after": pytest.approx(5, abs=0.1), "left": True}
    ((status, _, _, broke),) = played(disk)
    assert status is None and broke is not None and broke[1:] == (True, False)


def test_each_answer_to_the_same_request_is_given_once_in_its_order_and_what_only_asks_for_ever() -> None:
    """A second attempt gets the second answer, a third is refused; the last answer to a question is repeated."""
    ask = HttpRequest("GET", "https://far.example/v1/models", {}, b"")
    answers = [Said(503, {}, [b"busy"]), Said(200, {}, [b"good"]), Said(200, {}, [b"m1"]), Said(200, {}, [b"m2"])]
    disk, _ = taped(Scripted(*answers), (REQUEST, REQUEST, ask, ask))
    found = played(disk, (REQUEST, REQUEST, REQUEST, ask, ask, ask))
    assert [one[2] for one in found[:2] + found[3:]] == [b"busy", b"good", b"m1", b"m2", b"m2"]
    assert found[2][0] == 400
    assert b"every recorded answer to this request has been given" in found[2][2]


def test_the_server_may_have_moved_but_path_query_and_body_must_be_the_same() -> None:
    """A built-in server has another port each time; another question is another question."""
    disk, _ = taped(Scripted(Said(200, {}, [b"good"])))
    for url, body, status in (
        ("http://replay/v1/chat?x=1", REQUEST.body, 200),
        ("http://replay/v1/chat?x=2", REQUEST.body, 400),
        ("http://replay/v1/chat?x=1", REQUEST.body + b" ", 400),
    ):
        ((found, *_),) = played(disk, [HttpRequest("POST", url, {}, body)])
        assert found == status, (url, body)


# --- keys ------------------------------------------------------------------------------------------------------------


def deltas(*texts: str) -> bytes:
    events = [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


def sliced(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def tokens(content: bytes) -> str:
    """All that the deltas of a recorded answer say, put together as a reader would."""
    chunks = json.loads(content)["answer"]["chunks"]
    whole = "".join(chunk["text"] for chunk in chunks)
    lines = [line.removeprefix("data: ") for line in whole.split("\n") if line.startswith("data: {")]
    return "".join(json.loads(line)["choices"][0]["delta"]["content"] for line in lines)


HALVES = (KEY[:9], KEY[9:14], KEY[14:])
SPELLED = "".join(f"\\u{ord(c):04x}" for c in KEY).encode()
PLACES: dict[str, Said | WireError] = {
    "in the text": Said(200, {}, [deltas(f"Hello {KEY} there")]),
    "in a header": Said(200, {"x-echo": KEY, "set-cookie": "session=4711"}, [b"ok"]),
    "in an error": Said(401, {}, [json.dumps({"error": {"message": f"wrong key {KEY}"}}).encode()]),
    "over two chunks": Said(200, {}, [f"Hello {HALVES[0]}".encode(), f"{HALVES[1]}{HALVES[2]} there".encode()]),
    "byte by byte": Said(200, {}, sliced(f"Hello {KEY} there".encode(), 1)),
    "over three deltas": Said(200, {}, [deltas("Hello ", *HALVES, " there")]),
    "over three deltas in small chunks": Said(200, {}, sliced(deltas("Hello ", *HALVES, " there"), 7)),
    "URL-encoded": Said(200, {}, [quote(KEY, "").encode()]),
    "in base64": Said(200, {}, [base64.b64encode(KEY.encode())]),
    "with its slash escaped": Said(200, {}, [json.dumps({"a": KEY}).replace("/", "\\/").encode()]),
    "spelled in escapes": Said(200, {}, [b'{"a":"%s"}' % SPELLED]),
    "spelled in the name of a field": Said(200, {}, [b'data: {"%s":1,"t":"%s"}\n\n' % (SPELLED, SPELLED)]),
    "spelled beside half a character": Said(200, {}, [b'data: {"a":"%s","b":"\\ud800"}\n\n' % SPELLED]),
    "spelled beside what is no number": Said(200, {}, [b'data: {"a":"%s","b":NaN}\n\n' % SPELLED]),
    "spelled in what is no JSON": Said(200, {}, [b'data: {"a":"%s","b\n\n' % SPELLED]),
    "spelled under a name that comes twice": Said(200, {}, [b'data: {"a":"%s","a":"b"}\n\n' % SPELLED]),
    "spelled very deep": Said(200, {}, [b'{"a":' * 1000 + b'"%s"' % SPELLED + b"}" * 1000]),
    "cut in the middle": Said(200, {}, [f"Hello {KEY[:15]}".encode(), WireError("cut", sent=True)]),
    "in how it broke": WireError(f"cannot connect with {KEY}", sent=False),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_key_that_comes_back_is_in_no_byte_of_the_recording(place: str) -> None:
    """As it is, in another form, in halves over chunks or deltas: nobody finds it, or puts it together again."""
    request = HttpRequest(
        "POST",
        f"https://far.example/v1/chat?k={quote(KEY, '')}",
        {"authorization": Secret(f"Bearer {KEY}"), "x-plain": KEY},
        json.dumps({"model": "m", "said": f"my key is {KEY}"}).encode(),
    )
    disk, _ = taped(Scripted(PLACES[place]), (request,), [KEY])
    (content,) = files(disk).values()
    forms = [KEY, KEY[:12], KEY.replace("/", "\\/"), quote(KEY, ""), base64.b64encode(KEY.encode()).decode(), "4711"]
    forms.append(SPELLED.decode()[:60])
    data = json.loads(content)
    texts = [content.decode(), "".join(chunk["text"] for chunk in data.get("answer", {}).get("chunks", []))]
    if "deltas" in place or place == "in the text":
        texts.append(tokens(content))
        assert texts[-1].startswith("Hello ") and texts[-1].endswith(" there")
    assert [form for form in forms for text in texts if form in text] == []
    assert data["request"]["headers"] == {"authorization": "***", "x-plain": "***"}


def test_a_key_behind_a_word_is_a_key_without_it() -> None:
    """A variable may hold all of a header; a server may repeat the half that counts."""
    disk, _ = taped(Scripted(Said(200, {}, [f"not {KEY}".encode()])), secrets=[f"Bearer {KEY}", "none"])
    (content,) = files(disk).values()
    assert json.loads(content)["answer"]["chunks"][0]["text"] == "not ***"


def test_a_request_with_a_key_in_it_is_found_again_by_what_was_sent() -> None:
    """The file shows the body without the key, and names the hash of the one with it."""
    request = HttpRequest("POST", "https://far.example/v1/chat", {}, json.dumps({"said": KEY}).encode())
    disk, first = taped(Scripted(Said(200, {}, [b"good"])), (request,), [KEY])
    assert played(disk, (request,)) == first


@given(st.text("ab", max_size=30), st.lists(st.integers(0, 40), max_size=6))
def test_pieces_without_a_key_stay_as_they_are_and_with_one_they_hold_none(text: str, cuts: list[int]) -> None:
    """Wherever a text is cut: what stands in no key is kept, in its piece."""
    mask = Mask([Secret("cabbages")])
    whole = text[:15] + "cabbages" + text[15:]
    for said, clean in ((text, text), (whole, text[:15] + "***" + text[15:])):
        places = sorted({min(cut, len(said)) for cut in cuts})
        pieces = [said[a:b] for a, b in zip([0, *places], [*places, len(said)], strict=True)]
        found = mask.parted(pieces)
        assert "".join(found) == clean
        assert len(found) == len(pieces)
        if said is text:
            assert found == pieces


# --- the files -------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
bodies = st.one_of(
    st.binary(max_size=20), json_values.map(lambda value: json.dumps(value, separators=(",", ":")).encode())
)


@given(bodies, st.lists(st.binary(min_size=1, max_size=6), max_size=4), st.booleans())
def test_a_file_gives_back_what_was_written(body: bytes, pieces: list[bytes], broke: bool) -> None:
    """Whatever the bytes: request, answer and ending are the same, and so is the file made of them."""
    chunks = tuple(texts_of([(index / 8, piece) for index, piece in enumerate(pieces)]))
    exchange = Exchange(
        number=7,
        at=START,
        method="POST",
        url="https://far.example/v1",
        headers={"a": "é"},
        body=text_of(body),
        digest=sha256(body).hexdigest(),
        answer=Begun(200, {"b": "c"}, 0.5, chunks),
        broke=Broke("cut", True) if broke else None,
        after=2.0,
    )
    data = written(exchange)
    assert read_exchange("000007.json", data) == exchange
    assert bytes_of(exchange.body) == body
    assert b"".join(bytes_of(chunk.text) for chunk in chunks) == b"".join(pieces)


def test_a_body_in_json_stands_there_as_json_and_may_be_edited_with_its_hash_taken_out() -> None:
    """A file without a hash answers the request that stands in it."""
    disk, _ = taped(Scripted(Said(200, {}, [b"good"])))
    data = json.loads(files(disk)["000001.json"])
    assert data["request"]["json"] == {"model": "m", "t": 0.1}
    assert data["answer"]["chunks"] == [{"after": pytest.approx(0.75, abs=0.01), "text": "good"}]
    assert data["at"] == "2026-11-21T12:00:00.000Z"
    data["request"]["json"]["model"] = "n"
    del data["request"]["sha256"]
    data["answer"]["chunks"][0]["text"] = "better"
    edited = MemoryDisk()
    edited.put(TAPE / "000001.json", json.dumps(data).encode())
    other = HttpRequest("POST", REQUEST.url, {}, b'{"model":"n","t":0.1}')
    ((status, _, body, _),) = played(edited, (other,))
    assert (status, body) == (200, b"better")


WRONG: dict[str, tuple[str, str]] = {
    "no JSON": ("{", "tape/000001.json: it is no JSON"),
    "a list": ("[]", "`the whole` is no object"),
    "no request": ('{"end": {}}', "`request` is missing"),
    "a status in words": (
        '{"request": {"method": "POST", "url": "u"}, "answer": {"status": "ok"}, "end": {}}',
        "`answer.status` is of the wrong kind",
    ),
    "a chunk without a text": (
        '{"request": {"method": "POST", "url": "u"}, "answer": {"status": 200, "chunks": [{}]}, "end": {}}',
        "`answer.chunks[0].text` is missing",
    ),
    "neither an answer nor an ending": (
        '{"request": {"method": "POST", "url": "u"}, "end": {}}',
        "it has no `answer`, and its `end` does not say how it broke",
    ),
    "an address that is none": (
        '{"request": {"method": "POST", "url": "http://["}, "end": {"left": true}}',
        "`request.url` is no URL",
    ),
    "a number that no request can hold": (
        '{"request": {"method": "POST", "url": "u", "json": [99999999999999999999]}, "end": {"left": true}}',
        "`request.json` cannot be sent: Integer exceeds 64-bit range",
    ),
    "half a character in a request": (
        '{"request": {"method": "POST", "url": "u", "text": "\\ud800"}, "end": {"left": true}}',
        "`request.text` has half a character in it",
    ),
    "half a character in an answer": (
        '{"request": {"method": "", "url": "u"}, "answer": {"status": 1, "chunks": [{"text": "\\ud800"}]}, "end": {}}',
        "`answer.chunks[0].text` has half a character in it",
    ),
    "an answer after the end of time": (
        '{"request": {"method": "POST", "url": "u"}, "answer": {"status": 200, "after": 1%s}, "end": {}}' % ("0" * 400),
        "`answer.after` is no number of seconds",
    ),
    "a chunk at no time": (
        '{"request": {"method": "GET", "url": "u"}, "answer": {"status": 1, "chunks": [{"after": NaN}]}, "end": {}}',
        "`answer.chunks[0].after` is no number of seconds",
    ),
    "an end after the end of time": (
        '{"request": {"method": "POST", "url": "u"}, "end": {"left": true, "after": 1%s}}' % ("0" * 400),
        "`end.after` is no number of seconds",
    ),
    "very deep": ("[" * 100_000, "it is nested too deeply"),
    "no moment": (
        '{"at": "noon", "request": {"method": "POST", "url": "u"}, "end": {"left": true}}',
        "`at` is no moment",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_was_edited_into_nonsense_is_named_with_what_is_wrong(name: str) -> None:
    """Before anything is played, and never as a bug."""
    text, said = WRONG[name]
    disk = MemoryDisk()
    disk.put(TAPE / "000001.json", text.encode())
    with pytest.raises(Unplayable) as caught:
        Replay(disk, TAPE, lambda line: None)
    assert said in str(caught.value)


def test_a_folder_without_a_recording_is_said_to_have_none() -> None:
    """Other files in it are none of ours."""
    disk = MemoryDisk()
    disk.put(TAPE / "notes.json", b"{}")
    with pytest.raises(Unplayable, match="tape: there is no recording in it"):
        Replay(disk, TAPE, lambda line: None)


def test_what_is_misread_says_so() -> None:
    """The reader of files knows no folders."""
    with pytest.raises(Misread, match="it is no JSON"):
        read_exchange("000001.json", b"\xff")
    assert Chunk(0.0, "a").text == "a"
