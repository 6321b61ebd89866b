"""Notebooks as directories: both ways, confined to the directory, and with a report."""

from __future__ import annotations

import datetime as dt
import tomllib
from pathlib import Path

import pytest

from strata.notebooks.formats.directory import read_directory, write_directory
from strata.notebooks.formats.report import NotANotebookError
from strata.notebooks.model.notebook import Cell, Content, Language

AT = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)
CONTENT = Content(
    title='A "title" \\ \x7f\N{SNOWMAN}\N{GRINNING FACE}',
    cells=(
        Cell(id="b", source="x = '\N{SNOWMAN}'\r\n", name="First", metadata={"tags": ["\x7f", {"k": None}]}),
        Cell(id="a", language=Language.MARKDOWN, source="# T"),
        Cell(id="c", language=Language.SQL, source="SELECT 1"),
    ),
    metadata={"kernelspec": {"name": "python3"}},
)


def written(tmp_path: Path, content: Content = CONTENT) -> Path:
    write_directory(content, tmp_path / "n", "id-1", AT)
    return tmp_path / "n"


def with_toml(tmp_path: Path, text: str, **files: str) -> Path:
    (tmp_path / "cells").mkdir()
    (tmp_path / "notebook.toml").write_text(text)
    for name, source in files.items():
        (tmp_path / "cells" / f"{name}.py").write_text(source)
    return tmp_path


def test_a_directory_keeps_a_notebook_both_ways(tmp_path: Path) -> None:
    """Cells, order, names, metadata and title come back; ids and files are those of the protocol."""
    place = written(tmp_path)
    found = read_directory(place, lambda: "new")
    assert CONTENT == found.content
    assert [] == found.report.lines
    settings = tomllib.loads((place / "notebook.toml").read_text())
    assert ("id-1", CONTENT.title, AT) == (settings["notebook_id"], settings["name"], settings["created_at"])
    assert ["b.py", "a.md", "c.py"] == [row["file"] for row in settings["cells"]]
    with pytest.raises(FileExistsError):
        write_directory(CONTENT, place, "id", AT)


def test_cells_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """The order is that of ``order``; what another server keeps besides is in the report, with its cell."""
    place = with_toml(
        tmp_path,
        'notebook_id = "x"\nname = "N"\nworker = "gpu"\n[env]\nTOKEN = "s3cret"\n'
        '[[cells]]\nid = "two"\nfile = "two.py"\nlanguage = "r"\norder = 1.5\n'
        '[[cells]]\nid = "one"\nfile = "one.py"\norder = 1\ntimeout = 5\n[[cells]]\nid = "one"\nfile = "one.py"\norder = 9\n',
        one="x = 1", two="y <- 2",
    )  # fmt: skip
    found = read_directory(place, lambda: "new")
    assert ["one", "two", "new"] == [cell.id for cell in found.content.cells]
    assert "```r\ny <- 2\n```" == found.content.cells[1].source
    assert [
        ("setting_dropped", None), ("setting_dropped", None), ("setting_dropped", 1), ("language_not_kept", 2),
        ("id_replaced", 3),
    ] == sorted(((line.code, line.cell) for line in found.report.lines), key=lambda one: one[1] or 0)  # fmt: skip
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    "file",
    ["../out.py", "/etc/passwd", "a/b.py", "..", "link.py", "fifo.py", "missing.py", "latin.py", "big.py"],
)
def test_only_plain_files_of_the_directory_are_read(tmp_path: Path, file: str) -> None:
    """No path leads out of the directory, no link is followed, and no odd file is waited for."""
    import os  # noqa: PLC0415

    place = with_toml(tmp_path, f'name = "N"\n[[cells]]\nid = "a"\nfile = "{file}"\n')
    (tmp_path / "out.py").write_text("secret")
    (tmp_path / "cells" / "link.py").symlink_to(tmp_path / "out.py")
    os.mkfifo(tmp_path / "cells" / "fifo.py")
    (tmp_path / "cells" / "latin.py").write_bytes(b"\xff")
    (tmp_path / "cells" / "big.py").write_text("#" * 70_000)
    with pytest.raises((NotANotebookError, OSError)):
        read_directory(place, lambda: "new")


@pytest.mark.parametrize(
    "text", ["=", "cells = 1", "cells = [1]", '[[cells]]\nid = "a"\n', 'metadata_json = "["', 'metadata_json = "[]"', "metadata_json = 1"]
)  # fmt: skip
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    """A notebook.toml that is no TOML, or has the wrong shape, is an error in words."""
    with pytest.raises(NotANotebookError):
        read_directory(with_toml(tmp_path, text), lambda: "new")
