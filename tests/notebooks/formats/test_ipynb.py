"""Jupyter notebooks: structure survives both ways, and the report has what did not."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from ipynb_cases import NOTEBOOKS, code, notebook, text

from strata.notebooks.formats.ipynb import read_ipynb, write_ipynb
from strata.notebooks.formats.report import MAX_LINES, Imported, NotANotebookError
from strata.notebooks.model.limits import MAX_CELLS
from strata.notebooks.model.notebook import (
    Cell,
    Content,
    Language,
    check_content,
    decode_content,
    encode_content,
)


def read(document: dict[str, Any] | str) -> Imported:
    numbers = itertools.count()
    written = document if isinstance(document, str) else json.dumps(document)
    return read_ipynb(written, "A title", lambda: f"made-{next(numbers)}")


def structure(document: dict[str, Any]) -> dict[str, Any]:
    """Return what a notebook must keep: cells, their order, sources, metadata, attachments and ids."""
    cells = []
    for cell in document["cells"]:
        source = cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
        cells.append((cell["cell_type"], source, cell["metadata"], cell.get("attachments")))
    metadata = {key: value for key, value in document["metadata"].items() if key != "strata"}
    return {"cells": cells, "metadata": metadata, "ids": [cell.get("id") for cell in document["cells"]]}


def test_there_are_twenty_notebooks() -> None:
    """Twenty different structures go both ways."""
    assert 20 == len({json.dumps(one) for one in NOTEBOOKS.values()})


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_keeps_its_structure_both_ways(name: str) -> None:
    """Cells, order, sources, metadata, attachments and ids are the same after import, storing and export."""
    document = NOTEBOOKS[name]
    found = read(document)
    assert None is check_content(found.content)
    stored = decode_content(encode_content(found.content))
    assert stored == found.content
    again = json.loads(write_ipynb(stored))
    before, after = structure(document), structure(again)
    ids = zip(before.pop("ids"), after.pop("ids"), strict=True)
    assert before == after
    assert all(old in (None, new) for old, new in ids)
    assert (4, 5, {"title": "A title"}) == (
        again["nbformat"],
        again["nbformat_minor"],
        again["metadata"]["strata"],
    )
    assert read(again).content == found.content
    outputs = sum(bool(cell.get("outputs")) for cell in document["cells"])
    said = [line.code for line in found.report.lines]
    assert (outputs > 0) == ("outputs_dropped" in said)
    assert ("magics" == name, "hosted" == name) == (
        said.count("ipython_line") == 3,
        said.count("ipython_line") == 1,
    )


def test_cells_of_ours_come_back() -> None:
    """SQL cells, names and the title survive the way over a file."""
    content = Content(
        title="Flights",
        cells=(
            Cell(id="a", source="x = 1", name="First", metadata={"tags": ["t"]}),
            Cell(id="b", language=Language.SQL, source="-- @name top\nSELECT 1"),
            Cell(id="c", language=Language.MARKDOWN, source="# T"),
        ),
        metadata={"k": 1},
    )
    assert content == read(write_ipynb(content)).content


def test_what_is_not_kept_is_in_the_report() -> None:
    """Outputs, unknown keys, replaced ids and lines of IPython are told, with the cell; the report is bounded."""
    document = notebook(
        code("x = 1", id_="same", outputs=1), code("!ls", id_="same"), text("t", id_="not valid!"),
        {**code("y = 1", id_="k"), "extra": 1},
    )  # fmt: skip
    document["worksheets"] = []
    found = read(document)
    assert [
        ("key_dropped", None), ("ipython_line", 2), ("id_replaced", 2), ("id_replaced", 3), ("key_dropped", 4),
        ("outputs_dropped", None),
    ] == [(line.code, line.cell) for line in found.report.lines]  # fmt: skip
    assert ["same", "made-0", "made-1", "k"] == [cell.id for cell in found.content.cells]
    many = read(notebook(*[{**code("x"), **{f"k{n}": 1 for n in range(MAX_LINES)}} for _ in range(2)]))
    assert (MAX_LINES, MAX_LINES) == (len(many.report.lines), many.report.left_out)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "no JSON"), ("[" * 100_000, "no JSON"), ("[]", "no cells"), ('{"cells": 1}', "no cells"),
        ({"cells": [], "nbformat": 3, "metadata": {}}, "nbformat 4"), ({"cells": []}, "nbformat 4"),
        (notebook(language_info={"name": "R"}), "is in R"), (notebook(kernelspec={"language": "julia"}), "julia"),
        ({**notebook(), "metadata": []}, "metadata"), ({**notebook(), "cells": [1]}, "Cell 1"),
        ({**notebook(), "cells": [{"cell_type": "heading"}]}, "Cell 1"),
        ({**notebook(), "cells": [{"cell_type": "code", "source": [1]}]}, "source of cell 1"),
        ({**notebook(), "cells": [{"cell_type": "code", "source": "", "metadata": 3}]}, "metadata of cell 1"),
        (notebook(*[code("x")] * (MAX_CELLS + 1)), "at most"),
    ],
    ids=range(14),
)  # fmt: skip
def test_what_is_no_notebook_is_refused_in_words(document, words) -> None:
    """Other files, other formats and other languages are an error that says why."""
    with pytest.raises(NotANotebookError, match=words):
        read(document)


def test_titles_are_printable() -> None:
    """The title is the notebook's own, or the file's; control characters are left out of it."""
    assert "Own" == read(notebook(title="Own\x07")).content.title
    assert "A title" == read(notebook(title=" \x00")).content.title
    assert 256 == len(read(notebook(title="x" * 999)).content.title)
