"""``[[tool.strata.notebook_environments]]``: what is a lock, and what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from strata.config.fields import NotebookEnvironment
from strata.config.sections.notebook_environments import (
    LockError,
    environment_coherence,
    parse_environments,
    parse_lock,
)
from strata.config.settings import Settings

ONE, TWO = "1" * 64, "2" * 64


def test_equal_locks_have_one_key() -> None:
    """Order, comments, line breaks, and how a name is written do not count; hashes and versions do."""
    plain = f"b==2 --hash=sha256:{ONE}\na==1 ; python_version < '4' --hash=sha256:{ONE} --hash=sha256:{TWO}\n"
    other = (
        f"# made by hand\nA==1 ; python_version < '4' \\\n    --hash=sha256:{TWO} \\\n"
        f"    --hash=sha256:{ONE}\n    # via nothing\nb==2 \\\n    --hash=sha256:{ONE}\n"
    )
    assert parse_lock(plain) == parse_lock(other)
    assert {"a": "1", "b": "2"} == parse_lock(plain).versions
    assert {"a": "python_version < '4'"} == parse_lock(plain).markers
    assert parse_lock(plain) == parse_lock(parse_lock(plain).requirements)
    assert parse_lock(plain).key != parse_lock(plain.replace("b==2", "b==3")).key
    assert parse_lock(plain).key != parse_lock(plain.replace(ONE, "3" * 64)).key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a==1",
        "a>=1 --hash=sha256:" + ONE,
        "a --hash=sha256:" + ONE,
        "a @ https://example.com/a.whl --hash=sha256:" + ONE,
        "./a.whl --hash=sha256:" + ONE,
        "-r other.txt",
        "--index-url https://example.com",
        "--find-links /",
        "-e .",
        "a==1 --hash=md5:" + ONE,
        "a==1 --hash=sha256:" + ONE[1:],
        f"a==1 --hash=sha256:{ONE} --config-settings x=y",
        f"a==1 --hash=sha256:{ONE}\nA==2 --hash=sha256:{ONE}",
        "\n".join(f"a{number}==1 --hash=sha256:{ONE}" for number in range(501)),
        "#" * 300_000,
    ],
)
def test_what_is_no_lock_is_refused(text: str) -> None:
    """Nothing but versions with hashes reaches an executor: no option, no path, no URL."""
    with pytest.raises(LockError):
        parse_lock(text)


def test_the_table_is_read() -> None:
    """Each environment has a name and a file, and perhaps tenants."""
    found, problems = parse_environments([{"name": "a", "lock_file": "f", "tenants": ["team-a"]}])
    assert not problems
    assert (NotebookEnvironment("a", "f", ("team-a",)),) == found


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": "a"}, "it is not a list of tables"),
        ([{"name": "a"}], "notebook_environments[0].lock_file: it is missing"),
        ([{"name": "", "lock_file": "f"}], "notebook_environments[0].name"),
        ([{"name": "a", "lock_file": 1}], "notebook_environments[0].lock_file"),
        ([{"name": "a", "lock_file": "f", "tenants": []}], "notebook_environments[0].tenants"),
        ([{"name": "a", "lock_file": "f", "lockfile": "f"}], "unknown key"),
        ([{"name": "a", "lock_file": "f"}] * 2, "two environments have the name a"),
        ([{"name": f"a{n}", "lock_file": "f"} for n in range(101)], "the maximum is 100"),
    ],
)
def test_what_is_wrong_is_named(value: object, words: str) -> None:
    """Nothing is taken of a table with a fault."""
    found, problems = parse_environments(value)
    assert () == found
    assert any(words in str(problem) for problem in problems), problems


def test_a_lock_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """The server does not start with it; the place of the fault is named."""
    (tmp_path / "good").write_text(f"a==1 --hash=sha256:{ONE}")
    (tmp_path / "bad").write_text("a==1")
    for name, faults in (("good", 0), ("bad", 1), ("absent", 1)):
        one = NotebookEnvironment("a", str(tmp_path / name))
        whole = Settings(notebook_environments=(one,))
        assert faults == len([*environment_coherence(whole)])
