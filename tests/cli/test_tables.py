"""The commands for people: what they print on a terminal, in a pipe and as JSON, and their errors."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import structlog.testing
import trio
from click.testing import CliRunner, Result
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Warehouse, identity, numbers, running

from strata.acl import Policy, Rule
from strata.cli import main
from strata.client.commands import output
from strata.config import Settings

Run = Callable[..., Any]


@pytest.fixture
async def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Return a function that runs a command as ana, against a server with two tables."""
    path = tmp_path / "warehouse"
    path.mkdir()
    warehouse = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    warehouse.create(numbers(30))
    odd = pa.table({"text": ["a\x1b[31mred\nb", None], "list": [[1, 2], []], "raw": [b"\x00", b""]})
    warehouse.create(odd, "db.odd")
    warehouse.create(numbers(1), "db.secret")
    settings = Settings(
        deployment_mode="service",
        auth_mode="trusted_proxy",
        proxy_token=TOKEN,
        multi_tenant_enabled=True,
        require_tenant_header=True,
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
        warehouses={"wh": str(path)},
        acl_config=Policy(deny=(Rule("*", "tables/wh/db/secret"),), default="allow"),
        log_level="WARNING",
    )
    # The server logs in this process, whose standard output is the command's.
    with structlog.testing.capture_logs():
        async with running(settings) as server:
            monkeypatch.setenv("STRATA_CLIENT_URL", server.url)
            lines = "\n".join(f"{name}: {value}" for name, value in identity().items())
            monkeypatch.setenv("STRATA_CLIENT_HEADERS", lines)
            monkeypatch.chdir(tmp_path)

            async def call(*words: str, status: int = 0) -> Result:
                result = await trio.to_thread.run_sync(partial(CliRunner().invoke, main, list(words)))
                assert status == result.exit_code, result.output
                return result

            yield call


async def test_ls_lists_what_may_be_read(run: Run) -> None:
    """One line a table in a pipe; JSON has every field."""
    assert "table\tkind\nwh:db.events\ttable\nwh:db.odd\ttable\n" == (await run("ls")).stdout
    assert "wh:db.odd" not in (await run("ls", "wh:db", "-q", "EVENT")).stdout
    found = json.loads((await run("ls", "wh", "--json")).stdout)
    assert ["db"] == found[0]["namespace"]
    assert "secret" not in str(found)


async def test_schema_shows_columns_and_size(run: Run) -> None:
    """The size goes to standard error, so that a pipe has columns only."""
    result = await run("schema", "wh:db.events")
    assert ["column\ttype\t\tcomment", "id\tlong\t\t", "value\tdouble\t\t", "name\tstring\t\t"] == (
        result.stdout.splitlines()
    )
    assert result.stderr.startswith("30 rows, 1 files, ")
    found = json.loads((await run("schema", "wh:db.events", "--json", "--ref", "main")).stdout)
    assert 30 == found["rows"]


async def test_head_shows_rows(run: Run) -> None:
    """As many as asked for, of the columns asked for."""
    result = await run("head", "wh:db.events", "-n", "3", "-c", "id")
    assert ["id", "0", "1", "2"] == result.stdout.splitlines()
    assert 11 == len((await run("head", "wh:db.events", "-c", "id")).stdout.splitlines())
    rows = json.loads((await run("head", "wh:db.events", "--json", "-n", "2", "-c", "value")).stdout)
    assert [{"value": 0.0}, {"value": 1 / 3}] == rows


async def test_a_value_does_not_steer_the_terminal(run: Run) -> None:
    """Control characters are shown as escapes; nested values and bytes are JSON."""
    lines = (await run("head", "wh:db.odd")).stdout.splitlines()
    assert ["text\tlist\traw", 'a\\x1b[31mred\\nb\t[1, 2]\t"AA=="', '\t[]\t""'] == lines
    found = json.loads((await run("head", "wh:db.odd", "--json")).stdout)
    assert {"text": "a\x1b[31mred\nb", "list": [1, 2], "raw": "AA=="} == found[0]


def test_on_a_terminal_rows_are_a_table(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """With headers, and texts as they are."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    output.print_table(("a", "b"), [("[red]x", "\x1b[2J")])
    printed = capsys.readouterr().out
    assert "[red]x" in printed
    assert "\\x1b[2J" in printed
    assert "\x1b[2J" not in printed


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), [float("inf")]])
def test_json_has_no_numbers_that_are_none(value: object, capsys: Any) -> None:
    """NaN and infinities are texts."""
    output.print_json({"x": value})
    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("x.parquet", pyarrow.parquet.read_table),
        ("x.arrow", lambda path: pa.ipc.open_file(path).read_all()),
        ("x.csv", pyarrow.csv.read_csv),
    ],
)
async def test_get_writes_a_file(
    run: Run, tmp_path: Path, name: str, read: Callable[[str], pa.Table]
) -> None:
    """All rows, or the first ones, in the format of its ending; an older file is replaced."""
    (tmp_path / name).write_text("old")
    await run("get", "wh:db.events", "-o", name)
    assert numbers(30).to_pylist() == read(name).to_pylist()
    result = json.loads(
        (await run("get", "wh:db.events", "-o", name, "-n", "4", "-c", "id", "--json")).stdout
    )
    assert {"path": name, "rows": 4} == result
    assert {"id": [0, 1, 2, 3]} == read(name).to_pydict()
    assert 0o644 == (tmp_path / name).stat().st_mode & 0o777 | 0o044


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("get", "wh:db.events", "-o", "x.txt"), "The file must end in one of .parquet, .arrow, .csv."),
        (("get", "wh:db.odd", "-o", "x.csv"), ".csv cannot hold this result"),
        (("get", "wh:db.secret", "-o", "x.csv"), "Table not found (404)."),
        (("get", "wh:db.events", "-o", "none/x.csv"), "No such file or directory"),
        (("head", "wh:db.events", "-c", "nmae"), "unknown column 'nmae'; did you mean 'name'? (400)."),
        (("schema", "wh:db.absent"), "Table not found (404)."),
        (("ls", "none"), "Catalog not found (404)."),
        (("ls", "-H", "secret"), "--header: header 1 is not written as 'Name: value'."),
        (("ls", "--url", "http://127.0.0.1:1"), "No answer from http://127.0.0.1:1"),
    ],
)
async def test_an_error_is_one_sentence(
    run: Run, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    """On standard error, without a traceback; no part of a file is left."""
    before = set(tmp_path.iterdir())
    result = await run(*words, status=1)
    assert "" == result.stdout
    assert sentence in result.stderr
    assert 1 == len(result.stderr.splitlines())
    assert before == set(tmp_path.iterdir())


async def test_names_and_why(run: Run) -> None:
    """A table that may not be read is exit status 1."""
    assert "name\tresult\tsince\n" == (await run("names")).stdout
    assert [] == json.loads((await run("names", "--json")).stdout)
    assert "ana of tenant team-a may read all of wh:db.events.\n" == (await run("why", "wh:db.events")).stdout
    assert "For ana of tenant team-a there is no wh:db.secret" in (
        (await run("why", "wh:db.secret", status=1)).stdout
    )
    assert not json.loads((await run("why", "wh:db.secret", "--json", status=1)).stdout)["readable"]
