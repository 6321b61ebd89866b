"""Twenty notebooks with the structure of public ones, rebuilt by hand: no text is copied."""

from __future__ import annotations

from typing import Any

PYTHON3: dict[str, Any] = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "version": "3.11.4", "file_extension": ".py"},
}


def code(*lines: str, id_: str | None = None, outputs: int = 0, **metadata: Any) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "cell_type": "code", "metadata": metadata, "source": [*lines], "execution_count": outputs or None,
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["one\n"]}] * outputs,
    }  # fmt: skip
    return cell if id_ is None else {**cell, "id": id_}


def text(source: str, kind: str = "markdown", id_: str | None = None, **metadata: Any) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "metadata": metadata, "source": source}
    return cell if id_ is None else {**cell, "id": id_}


def notebook(*cells: dict[str, Any], minor: int = 5, **metadata: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": minor, "metadata": metadata or PYTHON3, "cells": list(cells)}


NOTEBOOKS: dict[str, dict[str, Any]] = {
    "empty": notebook(),
    "no metadata": {"nbformat": 4, "nbformat_minor": 2, "metadata": {}, "cells": [code("x = 1")]},
    "lecture": notebook(
        text("# One\n\nSome *words*.", id_="a1"), code("import math\n", "math.pi", id_="b2", outputs=1),
        text("## Two", id_="c3"), code("x = math.pi\n", "x", id_="d4", outputs=2), text("", id_="e5"),
    ),
    "before ids": notebook(text("# Old"), code("y = 2"), code(), minor=2),
    "slides": notebook(
        text("# Talk", slideshow={"slide_type": "slide"}), code("1 + 1", slideshow={"slide_type": "fragment"}),
        text("Notes", slideshow={"slide_type": "notes"}), celltoolbar="Slideshow", rise={"theme": "sky"}, **PYTHON3,
    ),
    "parameters": notebook(
        code("alpha = 0.1\n", "ratio = 3", tags=["parameters"]), code("alpha * ratio", tags=["result", "keep"]),
        papermill={"parameters": {"alpha": 0.6}, "duration": 1.5, "exception": None}, **PYTHON3,
    ),
    "hosted": notebook(
        text("Open it", colab_type="text", id="AbC_1"), code("!pip list", id="x_Y-2", cellView="form"),
        accelerator="GPU", colab={"provenance": [], "toc_visible": True, "name": "n.ipynb"}, **PYTHON3,
    ),
    "paired script": notebook(
        text("Text"), code("z = 3"), jupytext={"formats": "ipynb,py:percent", "text_representation": {"extension": ".py"}}, **PYTHON3,
    ),
    "widgets": notebook(
        code("w = 1", outputs=1), widgets={"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2}}, **PYTHON3,
    ),
    "raw front matter": notebook(
        text("---\ntitle: x\n---", "raw", "front", raw_mimetype="text/plain"), text("# Body", id_="body"), code("1", id_="c"),
    ),
    "pictures": notebook(
        {**text("![a](attachment:p.png)", id_="pic"), "attachments": {"p.png": {"image/png": "aGVsbG8="}}}, code("2", id_="q"),
    ),
    "homework": notebook(
        text("1. Do it", nbgrader={"grade": False, "grade_id": "cell-1", "locked": True, "schema_version": 3}),
        code("raise NotImplementedError", nbgrader={"grade": True, "points": 2, "solution": True}, deletable=False),
    ),
    "editor": notebook(
        code("a = 1", vscode={"languageId": "python"}), code("b = a", vscode={"languageId": "python"}),
        vscode={"interpreter": {"hash": "0" * 64}}, **PYTHON3,
    ),
    "hidden inputs": notebook(
        code("a = 1", jupyter={"source_hidden": True}, collapsed=True), code("a", scrolled=True, editable=False),
    ),
    "magics": notebook(code("%matplotlib inline\n", "import math"), code("%%time\n", "sum(range(9))"), code("math.pi?")),
    "odd sources": notebook(
        code("x = 'a\u2028b'\n", "y = '\\n'"), code("\ttab = 1\r\n"), text("\N{SNOWMAN} \\u2603 <b>&amp;</b>"), code("# no newline"),
    ),
    "long": notebook(*[code(f"v{n} = {n}\n", f"v{n}", id_=f"cell-{n}") for n in range(120)]),
    "other key order": {"metadata": PYTHON3, "cells": [{"source": "k = 1", "outputs": [], "metadata": {"b": 1, "a": [1, {"c": None}]}, "cell_type": "code", "execution_count": 7}], "nbformat_minor": 4, "nbformat": 4},
    "numbers in metadata": notebook(code("1", big=2**53, small=-1.5e-7, yes=True, nothing=None, deep=[[[1]]])),
    "course": notebook(
        *[cell for n in range(8) for cell in (text(f"## Part {n}", id_=f"t{n}"), code(f"p{n} = {n}", id_=f"p{n}", outputs=n % 2), text("> Quote", id_=f"q{n}"))],
        authors=[{"name": "A. N. Author"}], toc={"base_numbering": 1, "sideBar": True}, **PYTHON3,
    ),
}  # fmt: skip
