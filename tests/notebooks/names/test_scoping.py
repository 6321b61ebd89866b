"""The analysis of names agrees with the interpreter, case by case."""

from __future__ import annotations

import builtins
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import scoping_runner
from scoping_cases import CASES, SEEDS, Case

from strata.notebooks.names.analysis import Analysis, analyse

LEAST = 150


@pytest.fixture(scope="module")
def interpreted() -> dict[str, list[list[str]]]:
    """Run every case in one child process; returns reads, defines, deletes and errors by source."""
    questions = [[case.source, sorted(names_of(case)), list(case.drives)] for case in CASES]
    done = subprocess.run(
        [sys.executable, "-I", str(Path(scoping_runner.__file__))],
        input=json.dumps([SEEDS, questions]), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return {case.source: answer for case, answer in zip(CASES, json.loads(done.stdout), strict=True)}


def names_of(case: Case) -> set[str]:
    """Return every name a case could read: those it is said to read, and all the words in it."""
    written = f"{case.reads} {case.over}".split()
    words = re.findall(r"[^\W\d]\w*", case.source)
    return {word for word in (*written, *words) if word.isidentifier() and not is_keyword(word)}


def is_keyword(word: str) -> bool:
    try:
        compile(f"{word} = 1", "", "exec")
    except SyntaxError:
        return True
    return False


def own(names: list[str]) -> set[str]:
    return {name for name in names if not hasattr(builtins, name) or name == "__name__"}


def test_there_are_enough_cases() -> None:
    """At least 150 different cells are compared."""
    assert len({case.source for case in CASES}) == len(CASES) >= LEAST


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.source.replace("\n", " | ")[:60])
def test_the_table_is_what_the_analysis_finds(case: Case) -> None:
    """The analysis finds exactly the reads, definitions and deletions of the table."""
    found = analyse("python", case.source)
    assert not found.error, found.findings
    assert set(f"{case.reads} {case.over}".split()) == own(found.reads)
    assert set(case.defines.split()) == set(found.defines)
    assert set(case.deletes.split()) == set(found.deletes)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.source.replace("\n", " | ")[:60])
def test_the_table_is_what_the_interpreter_does(case: Case, interpreted) -> None:
    """A name is read exactly if a run without it ends otherwise, and defined exactly if a run binds it."""
    reads, defines, deletes, _errors = interpreted[case.source]
    assert set(case.reads.split()) == set(reads)
    assert set(case.defines.split()) == set(defines)
    assert set(case.deletes.split()) == set(deletes)


def test_names_that_may_stay_as_they_were_are_kept() -> None:
    """A name bound on one way only is kept, so that its former value passes on."""
    found = analyse("python", "if yes: x = 1\ny = 1")
    assert (["x"], ["x", "y"]) == (found.keeps, found.defines)
    assert [] == analyse("python", "if yes: x = 1\nelse: x = 2").keeps


def test_functions_tell_what_they_will_read() -> None:
    """What a function loads and binds when it is called is known of it, bound by the cell or not."""
    found = analyse("python", "def f():\n    global z\n    z = x + y\ny = 1")
    assert (["x", "y"], ["z"]) == (found.later, found.later_binds)
    assert ["x"] == found.reads
    assert ["f", "y"] == found.defines


@pytest.mark.parametrize(
    ("source", "code", "line", "column"),
    [
        ("x = (", "syntax_error", 1, 5),
        ("x = 1\n  y = 2", "syntax_error", 2, None),
        ("return 1", "syntax_error", 1, 1),
        ("x = 1\nfor i in x:\n    yield i", "syntax_error", 3, 5),
        ("def f():\n    nonlocal q", "syntax_error", 2, 5),
        ("\ud800 = 1", "syntax_error", None, None),
        ("x = '\0'", "syntax_error", None, None),
        ("import a\nfrom m import *", "star_import", 2, 1),
        ("def f():\n    from m import *", "star_import", 2, 5),
        ("(" * 300, "syntax_error", None, None),
        ("-" * 60_000 + "1", "too_nested", None, None),
        ("a." * 30_000 + "b", "too_nested", None, None),
        ("lambda: " * 5_000 + "1", "too_nested", None, None),
        ("9" * 5_000, "syntax_error", 1, None),
    ],
    ids=range(14),
)
def test_what_cannot_run_is_a_finding_with_its_place(source, code, line, column) -> None:
    """Faulty and hostile sources are findings, with line and column where there are any."""
    found = analyse("python", source)
    assert (code, True) == (found.findings[0].code, found.error)
    if line is not None:
        assert line == found.findings[0].line
    if column is not None:
        assert column == found.findings[0].column


def test_other_languages_have_no_names_or_those_of_sql() -> None:
    """Markdown has no names; SQL mentions every name outside of texts and comments, in lower case."""
    assert Analysis() == analyse("markdown", "x = 1")
    found = analyse("sql", "SELECT A.\"My T\" FROM t1 AS a -- no1\n/* no2 */ WHERE x = 'no''3' AND y = :p")
    assert {"a", "my t", "t1", "x", "y", "p", "select", "from", "as", "where", "and"} == set(found.mentions)


def test_an_analysis_survives_json() -> None:
    """The analysis that the child process sends is the one it made."""
    found = analyse("python", "exec('1')\nd['k'] = 1\nif x: del y")
    assert found == Analysis.of_json(json.loads(json.dumps(found.as_json())))
