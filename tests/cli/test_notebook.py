"""``strata notebook``: files in, files out, and exit statuses that scripts can rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ipynb_cases import code, notebook, text

from strata.cli.notebook import FAULTY
from strata.cli.notebook import notebook as command


def strata(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flights.ipynb"
    cells = [text("# T", id_="t"), code("x = 1", id_="a", outputs=1), code("y = x + nothing", id_="b")]
    path.write_text(json.dumps(notebook(*cells)))
    return path


def test_a_notebook_goes_from_file_to_directory_and_back(file: Path, tmp_path: Path) -> None:
    """Import makes a directory and prints what was not kept; export writes each format."""
    done = strata("import", file)
    assert (0, "The outputs of 1 cells were not kept. Run the cells again. [outputs_dropped]\n") == (
        done.exit_code, done.stderr
    )  # fmt: skip
    assert {"notebook.toml", "cells"} == {path.name for path in (tmp_path / "flights").iterdir()}
    assert 1 == strata("import", file).exit_code  # it exists
    done = strata("export", tmp_path / "flights", "--to", "ipynb")
    assert ["t", "a", "b"] == [cell["id"] for cell in json.loads(done.stdout)["cells"]]
    page = tmp_path / "page.html"
    assert 0 == strata("export", file, "--to", "html", "--out", page).exit_code
    assert "<h2>T</h2>" in page.read_text()
    assert 1 == strata("export", file, "--to", "html", "--out", page).exit_code
    assert "y = x + nothing" in strata("export", file, "--to", "script").stdout
    assert 2 == strata("export", file, "--to", "directory").exit_code
    assert 0 == strata("export", file, "--to", "directory", "--out", tmp_path / "other").exit_code
    assert [str(tmp_path / name) for name in ("flights", "flights.ipynb", "other")] == strata(
        "list", tmp_path
    ).stdout.split()


def test_show_tells_what_each_cell_takes_and_what_is_wrong(file: Path) -> None:
    """The text and the JSON have the graph and the diagnostics; an error is exit status 2."""
    done = strata("show", file)
    assert 0 == done.exit_code
    assert "  takes x from a\n  defines y\n  warn: No cell defines nothing. [undefined_name]" in done.stdout
    found = json.loads(strata("show", file, "--json").stdout)
    assert ["t", "a", "b"] == found["order"]
    assert {"x": "a"} == found["cells"][2]["inputs"]
    file.write_text(json.dumps(notebook(code("x = ("))))
    done = strata("show", file)
    assert (FAULTY, True) == (done.exit_code, "error: line 1:" in done.stdout)


def test_new_makes_a_notebook_that_can_be_shown(tmp_path: Path) -> None:
    """A new notebook has its title, and is never made over another one."""
    assert 0 == strata("new", tmp_path / "n", "--title", "Sales").exit_code
    assert "Sales\n" == strata("show", tmp_path / "n").stdout
    assert 1 == strata("new", tmp_path / "n").exit_code
    assert 1 == strata("new", tmp_path / "m", "--title", " ").exit_code


def test_what_cannot_be_read_is_told_in_a_line(tmp_path: Path) -> None:
    """A file that is no notebook, and one beyond a bound, end with status 1 and one line."""
    wrong = tmp_path / "x.ipynb"
    wrong.write_text("{")
    done = strata("show", wrong)
    assert (1, 1) == (done.exit_code, done.stderr.count("\n"))
    assert "no JSON" in done.stderr
    wrong.write_text(json.dumps(notebook(code("#" * 70_000))))
    assert "cells.0.source" in strata("show", wrong).stderr
    assert 1 == strata("show", tmp_path).exit_code
