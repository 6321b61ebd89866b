"""The workers of notebooks: the documented form is accepted, and each mistake is named with its way out."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from strata.config.fields import NotebookWorker
from strata.config.sections.notebook_workers import parse_workers, worker_coherence, workers_of
from strata.config.settings import Settings

ROOT = Path(__file__).parents[2]


def test_the_documented_worker_is_accepted() -> None:
    """The example of the reference is a worker with each of its values."""
    text = (ROOT / "docs" / "reference" / "notebooks.md").read_text()
    (block,) = re.findall(r"```toml\n(\[\[tool\.strata\.notebook_workers\]\].*?)```", text, re.DOTALL)
    table = tomllib.loads(block)["tool"]["strata"]["notebook_workers"]
    workers, problems = parse_workers(table)
    assert [] == problems
    assert (NotebookWorker("local", tenants=("team-a",)),) == workers


MISTAKES = [
    ({"name": "a", "url": "ftp://h"}, "is not embedded://local or the base URL of an executor"),
    ({"name": "a", "url": "http://user:secret@h"}, "its token has a file"),
    ({"name": "a", "token_file": 5}, "5 is not the path of a file"),
    ({"name": "a", "memory": 1}, "notebook_workers[0].memory: unknown key; did you mean"),
    ({"name": "a b"}, "'a b' is not a name of up to 64"),
    ({}, "notebook_workers[0].name: it is missing"),
    ({"name": "a", "memory_bytes": 1}, "1 is not a number of bytes from 67108864"),
    ({"name": "a", "cpu_seconds": 1.5}, "1.5 is not a number of seconds from 1 to 86400"),
    ({"name": "a", "wall_seconds": float("nan")}, "nan is not a number of seconds above 0"),
    ({"name": "a", "wall_seconds": True}, "True is not a number of seconds above 0"),
    ({"name": "a", "tenants": []}, "[] is not a list of tenants"),
    ({"name": "a", "enabled": 1}, "1 is not true or false"),
    ({"name": "a", "runtime_id": " "}, "' ' is not a text of 1 to 256"),
    ({"name": "a", "max_concurrent": 0}, "0 is not a number of cells from 1"),
    ({"name": "a", "console_bytes": -1}, "-1 is not a number of bytes from 0"),
]


@pytest.mark.parametrize(("table", "words"), MISTAKES)
def test_a_mistake_is_named(table: dict, words: str) -> None:
    """Nothing is ignored: each wrong key and value is a problem that says what to write."""
    workers, problems = parse_workers([table])
    assert () == workers
    assert words in "\n".join(map(str, problems))


def test_the_list_itself_is_checked() -> None:
    """What is no list of tables, a name that comes twice, and too many workers are problems."""
    for value, words in (
        ({"name": "a"}, "write [[tool.strata.notebook_workers]]"),
        ([{"name": "a"}, {"name": "a"}], "two workers have the name a"),
        ([{"name": f"w{number}"} for number in range(101)], "it has 101 workers; the maximum is 100"),
    ):
        assert words in str(parse_workers(value)[1])


def test_personal_mode_has_a_worker() -> None:
    """One user on a laptop can run cells at once; in service mode an operator says where they run."""
    assert ["local"] == [worker.name for worker in workers_of(Settings(deployment_mode="personal"))]
    assert () == workers_of(Settings(deployment_mode="service"))


def test_a_token_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """The start says which worker's file is missing or no token, and that an embedded worker has none."""
    token = tmp_path / "token"
    token.write_text("two words\n")
    for worker, words in (
        (NotebookWorker("a", "http://h:9000", token_file=str(tmp_path / "missing")), "cannot be read"),
        (NotebookWorker("a", "http://h:9000", token_file=str(token)), "holds no token"),
        (NotebookWorker("a", token_file=str(token)), "demands no token"),
    ):
        (problem,) = worker_coherence(Settings(notebook_workers=(worker,)))
        assert "notebook_workers[0].token_file" in str(problem)
        assert words in str(problem)
        assert "two words" not in str(problem)
