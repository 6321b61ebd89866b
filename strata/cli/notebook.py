"""``strata notebook …``: notebooks that are files, checked without a server, and notebooks of a server."""

from __future__ import annotations

import datetime as dt
import json
import secrets
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import click

from strata.cli.notebook_server import (
    FAILED,
    Server,
    export_on_server,
    import_on_server,
    list_on_server,
    may_be_on_server,
    new_on_server,
    run_on_server,
    server_options,
    show_on_server,
)
from strata.durable import replace_file
from strata.notebooks.formats.directory import TOML, read_directory, write_directory
from strata.notebooks.formats.html_page import write_html
from strata.notebooks.formats.ipynb import read_ipynb, write_ipynb
from strata.notebooks.formats.report import Imported, NotANotebookError
from strata.notebooks.formats.script import write_script
from strata.notebooks.graph.dependencies import CellFacts, Graph, GraphTooLargeError, build_graph
from strata.notebooks.graph.diagnostics import Severity
from strata.notebooks.model.annotations import read_annotations
from strata.notebooks.model.notebook import Content, check_content
from strata.notebooks.names.analyser import ANALYSER
from strata.outcomes import RefusalError
from strata.regular_files import read_regular

FAULTY = 2
"""Exit status of ``show`` if a cell has an error; status 1 means that a notebook cannot be read."""

MOST_BYTES = 64 * 1024 * 1024
"""Bytes of the largest .ipynb file that is read; its outputs, which are most of it, are not kept."""

MOST_LISTED = 1000
"""Notebooks that ``list`` shows."""

_PLACE = click.Path(path_type=Path, exists=True)
_WRITERS: Final[dict[str, Callable[[Content], str]]] = {
    "ipynb": write_ipynb,
    "script": write_script,
    "html": write_html,
}


@click.group()
def notebook() -> None:
    """Make, list, check, convert, export and run notebooks.

    A notebook is an .ipynb file, or a directory with a notebook.toml, and no server is needed; cells are not
    run. With --server it is a notebook of a server, by its name. `run` needs a server.
    """


@notebook.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--title", metavar="TEXT", help="Title; the directory's name without it.")
@may_be_on_server
def new(directory: Path, title: str | None, server: Server | None, *, as_json: bool) -> None:
    """Make a notebook without cells in DIRECTORY, which must not exist.

    With --server the notebook is made there, and its name printed; DIRECTORY is its title.
    """
    if server is not None:
        new_on_server(server, title or str(directory), as_json=as_json)
        return
    _write_directory(_checked(Content(title=title or directory.name)), directory)
    if as_json:
        click.echo(json.dumps({"path": str(directory)}))


@notebook.command("list")
@click.argument("directory", type=_PLACE, default=Path())
@may_be_on_server
def list_notebooks(directory: Path, server: Server | None, *, as_json: bool) -> None:
    """List the notebooks in DIRECTORY and the directories in it; with --server those of the server."""
    if server is not None:
        list_on_server(server, as_json=as_json)
        return
    found = [path.parent for path in directory.rglob(TOML)] + list(directory.rglob("*.ipynb"))
    shown = sorted(path for path in found if not any(part.startswith(".") for part in path.parts[:-1]))
    if as_json:
        click.echo(json.dumps([str(path) for path in shown[:MOST_LISTED]]))
    else:
        for path in shown[:MOST_LISTED]:
            click.echo(str(path))
    if len(shown) > MOST_LISTED:
        click.echo(f"{len(shown) - MOST_LISTED} more are not shown.", err=True)


@notebook.command()
@click.argument("place")
@may_be_on_server
def show(place: str, server: Server | None, *, as_json: bool) -> None:
    """Print the cells of the notebook PLACE, what each takes and defines, and what is wrong with it.

    With --server PLACE is the name of a notebook, and the state of each cell's result is printed.

    Exit status: 0; 2 if a cell has an error; 1 if the notebook cannot be read.
    """
    if server is not None:
        if show_on_server(server, place, as_json=as_json):
            sys.exit(FAULTY)
        return
    content = _checked(_read(_existing(place)).content)
    graph = _graph(content)
    click.echo(json.dumps(_as_json(content, graph), indent=2) if as_json else _as_text(content, graph))
    if any(one.severity is Severity.ERROR for node in graph.cells for one in node.diagnostics):
        sys.exit(FAULTY)


@notebook.command()
@click.argument("place")
@click.option("--to", "kind", type=click.Choice([*_WRITERS, "directory"]), required=True, help="Format.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="File or directory to write, which must not exist; the standard output without it.",
)
@may_be_on_server
def export(
    place: str,
    kind: Literal["ipynb", "script", "html", "directory"],
    out: Path | None,
    server: Server | None,
    *,
    as_json: bool,
) -> None:
    """Write the notebook PLACE in another format, without outputs.

    With --server PLACE is the name of a notebook.
    """
    if as_json:
        raise click.UsageError("A notebook is written in the format of --to; --json has no meaning.")
    if server is not None:
        if kind == "directory":
            raise click.UsageError("A server writes no directories. Use --to ipynb, then import the file.")
        export_on_server(server, place, kind, out)
        return
    found = _read(_existing(place))
    content = _checked(found.content)
    _tell(found)
    if kind == "directory":
        if out is None:
            raise click.UsageError("--to directory needs --out.")
        _write_directory(content, out)
    elif out is None:
        click.echo(_WRITERS[kind](content), nl=False)
    elif out.exists():
        raise click.ClickException(f"{out} exists.")
    else:
        replace_file(out, _WRITERS[kind](content))


@notebook.command("import")
@click.argument("file", type=_PLACE)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Directory to make; FILE without its suffix by default."
)
@may_be_on_server
def import_notebook(file: Path, out: Path | None, server: Server | None, *, as_json: bool) -> None:
    """Make a directory of the .ipynb FILE, and print what was not kept.

    With --server the notebook is made there, and its name printed; FILE may be a directory, too.
    """
    found = _read(file)
    content, made = _checked(found.content), out or file.with_suffix("")
    if server is not None:
        import_on_server(server, content, as_json=as_json)
    else:
        _write_directory(content, made)
        if as_json:
            click.echo(json.dumps({"path": str(made)}))
    _tell(found)


@notebook.command()
@click.argument("place")
@click.option("--cell", "cells", multiple=True, metavar="ID", help="Run this cell, and what it needs.")
@click.option("--force", is_flag=True, help="Reuse no result of an equal run.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer.")
@click.option("--keep", is_flag=True, help="Keep the notebook that is made of a file.")
@server_options
def run(
    place: str,
    cells: Sequence[str],
    timeout: float | None,
    server: Server,
    *,
    force: bool,
    keep: bool,
    as_json: bool,
) -> None:
    """Run the notebook PLACE on a server, and print how each cell ended.

    PLACE is a file, a directory, or else the name of a notebook of the server. A file is run as a notebook
    that is made for the run, and deleted behind it.

    Exit status: 0; 2 if a cell failed or did not run; 1 if no run took place.
    """
    path = Path(place)
    content = _checked(_read(path).content) if path.exists() else None
    if not run_on_server(
        server, place, content, cells, force=force, keep=keep, timeout=timeout, as_json=as_json
    ):
        sys.exit(FAILED)


def _existing(place: str) -> Path:
    path = Path(place)
    if not path.exists():
        raise click.ClickException(f"{place}: no such file. For a notebook of a server add --server.")
    return path


def _read(place: Path) -> Imported:
    try:
        if place.is_dir():
            return read_directory(place, _new_id)
        with read_regular(place) as opened:
            data = opened.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise click.ClickException(f"{place} has more than {MOST_BYTES} bytes. Clear its outputs.")
        return read_ipynb(data, place.stem, _new_id)
    except NotANotebookError as error:
        raise click.ClickException(f"{place}: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{place}: {error.strerror or error}.") from None


def _new_id() -> str:
    return secrets.token_hex(4)


def _checked(content: Content) -> Content:
    refused = check_content(content)
    if refused is not None:
        place = ".".join(map(str, refused.loc))
        raise click.ClickException(f"{place}: {refused.detail}")
    return content


def _write_directory(content: Content, directory: Path) -> None:
    try:
        write_directory(content, directory, str(uuid.uuid4()), dt.datetime.now(dt.UTC).replace(microsecond=0))
    except OSError as error:
        raise click.ClickException(f"{directory}: {error.strerror or error}.") from None


def _tell(found: Imported) -> None:
    for line in found.report.lines:
        where = "" if line.cell is None else f"cell {line.cell}: "
        click.echo(f"{where}{line.message} [{line.code}]", err=True)
    if found.report.left_out:
        click.echo(f"{found.report.left_out} more are not shown.", err=True)


def _graph(content: Content) -> Graph:
    facts = []
    try:
        for cell in content.cells:
            analysis = ANALYSER.analyse(cell.language.value, cell.source).analysis
            annotations = read_annotations(cell.language.value, cell.source)
            facts.append(
                CellFacts(id=cell.id, language=cell.language, analysis=analysis, annotations=annotations)
            )
        return build_graph(facts)
    except GraphTooLargeError:
        raise click.ClickException("The cells depend on one another in too many ways.") from None
    except RefusalError as error:
        raise click.ClickException(error.refused.detail) from None


def _as_text(content: Content, graph: Graph) -> str:
    lines = [content.title]
    for cell, node in zip(content.cells, graph.cells, strict=True):
        lines.append(f"{cell.id}  {cell.language.value}" + (f"  {cell.name}" if cell.name else ""))
        takes = ", ".join(f"{name} from {producer}" for name, producer in node.inputs.items())
        lines += [f"  takes {takes}"] if takes else []
        lines += [f"  defines {', '.join(node.defines)}"] if node.defines else []
        for one in node.diagnostics:
            line = "" if one.line is None else f" line {one.line}:"
            lines.append(f"  {one.severity.value}:{line} {one.message} [{one.code}]")
    return "\n".join(lines)


def _as_json(content: Content, graph: Graph) -> dict[str, Any]:
    cells = [
        {
            "id": cell.id,
            "language": cell.language.value,
            "name": cell.name,
            "inputs": dict(node.inputs),
            "defines": list(node.defines),
            "diagnostics": [
                {
                    "severity": one.severity.value,
                    "code": one.code,
                    "message": one.message,
                    "line": one.line,
                    "column": one.column,
                }
                for one in node.diagnostics
            ],
        }
        for cell, node in zip(content.cells, graph.cells, strict=True)
    ]
    return {"title": content.title, "cells": cells, "order": list(graph.order)}
