"""The notebooks of a server for ``strata notebook …``: its commands with ``--server``, and ``run``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click

from strata.client.commands import output
from strata.client.commands.connection import connection_options, open_client
from strata.durable import replace_file

if TYPE_CHECKING:
    from strata.client import Notebook, NotebookRun, NotebookSession, SessionCell, StrataClient
    from strata.notebooks.model.notebook import Content

F = TypeVar("F", bound=Callable[..., Any])

FAILED: Final = 2
"""Exit status of ``run`` if a cell failed or did not run; status 1 means that no run took place."""


@attrs.frozen
class Server:
    """The server of a command, and the headers of its requests."""

    url: str | None
    headers: Sequence[str]

    def client(self) -> AbstractContextManager[StrataClient]:
        """Open a client; its errors end the command with one sentence."""
        return open_client(self.url, self.headers)


def server_options(command: F) -> F:
    """Add the options of a server; the command gets ``server``, and ``as_json``."""

    @functools.wraps(command)
    def called(*, url: str | None, headers: Sequence[str], **more: Any) -> Any:
        meant = more.pop("on_server", True) or url is not None or bool(headers)
        return command(server=Server(url, headers) if meant else None, **more)

    return connection_options(called)  # type: ignore[return-value]  # click's commands are called by name


def may_be_on_server(command: F) -> F:
    """Add ``--server`` besides the options of a server; without any of them files are meant."""
    option = click.option("--server", "on_server", is_flag=True, help="A notebook of the server, not a file.")
    return option(server_options(command))


def list_on_server(server: Server, *, as_json: bool) -> None:
    """Print the notebooks that the caller may read."""
    with server.client() as client:
        found = client.notebooks()
    if as_json:
        output.print_json([attrs.asdict(one) for one in found])
    else:
        rows = [(one.name, one.title, one.owner, str(one.revision), one.updated_at) for one in found]
        output.print_table(("notebook", "title", "owner", "revision", "changed"), rows)


def new_on_server(server: Server, title: str, *, as_json: bool) -> None:
    """Make a notebook without cells, and print its name."""
    with server.client() as client:
        _told(client.create_notebook(title), as_json=as_json)


def import_on_server(server: Server, content: Content, *, as_json: bool) -> None:
    """Make a notebook of a file, and print its name."""
    with server.client() as client:
        _told(_made(client, content), as_json=as_json)


def show_on_server(server: Server, name: str, *, as_json: bool) -> bool:
    """Print the cells of a notebook and their results; returns whether a cell has an error."""
    with server.client() as client:
        found, session = client.notebook(name), client.notebook_session(name)
    if as_json:
        output.print_json({"notebook": attrs.asdict(found), "session": attrs.asdict(session)})
    else:
        click.echo(output.plain(found.title))
        _print_cells(found, session)
    return any(one["severity"] == "error" for node in found.dag["cells"] for one in node["diagnostics"])


def export_on_server(server: Server, name: str, kind: str, out: Path | None) -> None:
    """Write a notebook as a file."""
    with server.client() as client:
        text = client.export_notebook(name, kind)
    if out is None:
        click.echo(text, nl=False)
    elif out.exists():
        raise click.ClickException(f"{out} exists.")
    else:
        replace_file(out, text)


def run_on_server(
    server: Server,
    place: str,
    content: Content | None,
    cells: Sequence[str],
    *,
    force: bool,
    keep: bool,
    timeout: float | None,
    as_json: bool,
) -> bool:
    """Run cells, and print how they ended; returns whether all of them have results that are no errors.

    Args:
        server: The server.
        place: A notebook of the server, or the file that ``content`` was read from.
        content: What is in the file; ``None``: it is no file.
        cells: The cells; none: all.
        force: Reuse no result.
        keep: Keep the notebook that is made of a file.
        timeout: Seconds to wait.
        as_json: Print JSON.
    """
    with server.client() as client:
        name = place if content is None else _made(client, content).name
        try:
            done = client.run_notebook(name, list(cells) or None, force=force, timeout=timeout)
            found = client.notebook(name)
        finally:
            if content is not None and not keep:
                client.delete_notebook(name)
    if as_json:
        output.print_json({"notebook": name, "ok": done.ok, **attrs.asdict(done)})
    else:
        _print_run(found, done)
    return done.ok


def _made(client: StrataClient, content: Content) -> Notebook:
    cells = [
        {
            "id": cell.id,
            "language": cell.language.value,
            "source": cell.source,
            "metadata": dict(cell.metadata),
            **({"name": cell.name} if cell.name else {}),
        }
        for cell in content.cells
    ]
    return client.create_notebook(content.title, cells)


def _told(found: Notebook, *, as_json: bool) -> None:
    if as_json:
        output.print_json(attrs.asdict(found))
    else:
        click.echo(output.plain(found.name))


def _print_cells(found: Notebook, session: NotebookSession) -> None:
    states = {cell.id: cell for cell in session.cells}
    rows = [(cell.id, cell.language, cell.name or "", _state(states.get(cell.id))) for cell in found.cells]
    output.print_table(("cell", "language", "name", "state"), rows)


def _state(cell: SessionCell | None) -> str:
    if cell is None:
        return ""
    if cell.status != "idle":
        return cell.status
    if cell.stale:
        return "stale: " + ", ".join(str(one["because"]).replace("_", " ") for one in cell.stale)
    return "" if cell.result is None else cell.result.outcome


def _print_run(found: Notebook, done: NotebookRun) -> None:
    names = {cell.id: cell.name for cell in found.cells}
    results = {cell.id: cell.result for cell in done.session.cells}
    for end in done.ended:
        name = names.get(end.cell)
        line = f"{end.cell}{f' {name}' if name else ''}: {end.how}"
        click.echo(output.plain(f"{line}. {end.message}" if end.message else line))
        result = results.get(end.cell)
        if result is None:
            continue
        for text in (result.stdout, result.stderr, result.traceback or ""):
            for line in text.splitlines():
                click.echo(f"  {output.plain(line)}")
        for one in result.displays:
            for line in one.preview.splitlines():
                click.echo(f"  {output.plain(line)}")
