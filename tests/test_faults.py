"""The page of faults says what the tests show: every fault has its tests or its reason, and nothing is made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import FAULTS, PAGE, Marked, MarkError, marked, page

HOW = "python -m tests.faults > docs/faults.md"


@pytest.fixture(scope="module")
def tests() -> list[Marked]:
    return marked()


def test_the_faults_are_numbered_from_1_to_90() -> None:
    """In this order, each once."""
    assert list(FAULTS) == list(range(1, 91))


def test_the_page_is_up_to_date(tests: list[Marked]) -> None:
    """It is written from the list of faults and the marks of the tests, and by nobody's hand."""
    assert PAGE.read_text(encoding="utf-8") == page(tests), f"write it anew: {HOW}"


def test_every_fault_has_a_test_or_a_reason_and_not_both(tests: list[Marked]) -> None:
    """Whoever marks the first test of a fault takes its reason away."""
    shown = {number for test in tests for number in test.numbers}
    reasons = {number for number, fault in FAULTS.items() if fault.untested is not None}
    assert sorted(FAULTS.keys() - shown - reasons) == []
    assert sorted(shown & reasons) == []


def test_marks_name_faults_that_there_are(tests: list[Marked]) -> None:
    """And each of them once."""
    strange = [test for test in tests if not FAULTS.keys() >= set(test.numbers)]
    doubled = [test for test in tests if len(set(test.numbers)) < len(test.numbers)]
    assert strange == []
    assert doubled == []


def test_what_happens_is_said_of_every_fault_that_is_tested() -> None:
    """In whole sentences; a reason stands in the middle of one."""
    for number, fault in FAULTS.items():
        assert fault.wrong[0].isupper() or fault.wrong[0] == "`", number
        assert not fault.wrong.endswith("."), number
        if fault.untested is None:
            assert fault.then.endswith("."), number
        else:
            assert not fault.untested.endswith("."), number


def written(folder: Path, text: str) -> list[Marked]:
    (folder / "tests").mkdir()
    (folder / "tests" / "test_x.py").write_text(text, encoding="utf-8")
    return marked(folder / "tests")


def test_a_mark_is_read_wherever_a_test_stands(tmp_path: Path) -> None:
    """On a function, on a class, among other marks, with one number or several."""
    text = """
import pytest

@pytest.mark.fault(3)
@pytest.mark.parametrize("x", [1])
def test_one(x): ...

class TestMany:
    @pytest.mark.fault(1, 2)
    def test_two(self): ...

@pytest.mark.fault(4)
@pytest.mark.fault(5)
class TestAll:
    def test_three(self): ...

def test_none(): ...
"""
    assert {(test.name, test.numbers) for test in written(tmp_path, text)} == {
        ("test_one", (3,)),
        ("test_two", (1, 2)),
        ("TestAll", (4, 5)),
    }


@pytest.mark.parametrize(
    "text",
    [
        "@pytest.mark.fault\ndef test_x(): ...",
        "@pytest.mark.fault()\ndef test_x(): ...",
        "@pytest.mark.fault('3')\ndef test_x(): ...",
        "@pytest.mark.fault(True)\ndef test_x(): ...",
        "@pytest.mark.fault(n)\ndef test_x(): ...",
        "@pytest.mark.fault(number=3)\ndef test_x(): ...",
        "pytestmark = pytest.mark.fault(3)",
        "shows = pytest.mark.fault\n@shows(3)\ndef test_x(): ...",
        "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.fault(3))])\ndef test_x(x): ...",
    ],
)
def test_a_mark_that_the_page_would_not_see_is_a_mistake(tmp_path: Path, text: str) -> None:
    """Without a number, with something else for one, or where it is not above a test."""
    with pytest.raises(MarkError, match=r"tests/test_x\.py"):
        written(tmp_path, f"import pytest\n{text}\n")
