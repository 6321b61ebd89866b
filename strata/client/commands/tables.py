"""The commands for people who read tables: ``ls``, ``schema``, ``head``, ``get``, ``names`` and ``why``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click

from strata.client.commands import output
from strata.client.commands.audit import audit
from strata.client.commands.connection import connection_options, open_client

F = TypeVar("F", bound=Callable[..., Any])

ROWS = 10
"""Rows that ``strata head`` shows by default."""


def _scan(command: F) -> F:
    """Add the options that say which columns of which version are meant."""
    for decorate in (
        click.option("--snapshot", "snapshot_id", metavar="ID", help="Read this snapshot."),
        click.option("--ref", metavar="NAME", help="Read this branch or tag."),
        click.option(
            "-c", "--column", "columns", multiple=True, metavar="NAME", help="Read this column only."
        ),
    ):
        command = decorate(command)
    return command


@click.command()
@click.argument("where", required=False)
@click.option("-q", "--search", metavar="TEXT", help="Only names that contain TEXT, in any case.")
@connection_options
def ls(
    *, where: str | None, search: str | None, url: str | None, headers: Sequence[str], as_json: bool
) -> None:
    """List the tables that you may read.

    WHERE is a catalog, or a catalog and a namespace: `lake`, `lake:sales.emea`.
    """
    catalog, _, namespace = (where or "").partition(":")
    with open_client(url, headers) as client:
        found = client.tables(catalog or None, namespace or None, text=search)
    if as_json:
        output.print_json([attrs.asdict(one) for one in found])
    else:
        output.print_table(("table", "kind"), [(one.uri, one.kind) for one in found])


@click.command()
@click.argument("table")
@click.option("--snapshot", "snapshot_id", metavar="ID", help="Describe this snapshot.")
@click.option("--ref", metavar="NAME", help="Describe this branch or tag.")
@connection_options
def schema(
    *,
    table: str,
    snapshot_id: str | None,
    ref: str | None,
    url: str | None,
    headers: Sequence[str],
    as_json: bool,
) -> None:
    """Show the columns and the size of TABLE."""
    with open_client(url, headers) as client:
        found = client.describe(table, snapshot_id=snapshot_id, ref=ref)
    if as_json:
        output.print_json(attrs.asdict(found))
        return
    rows = [(one.name, one.type, "required" if one.required else "", one.doc or "") for one in found.columns]
    output.print_table(("column", "type", "", "comment"), rows)
    facts = [("rows", found.rows), ("files", found.files), ("bytes", found.bytes)]
    size = ", ".join(f"{value:,} {what}" for what, value in facts if value is not None)
    partition = ", ".join(str(field["name"]) for field in found.partition_spec)
    for line in (
        size,
        f"partitioned by {partition}" if partition else "",
        "You may read some columns or rows only." if found.restricted else "",
    ):
        if line:
            click.echo(output.plain(line), err=True)


@click.command()
@click.argument("table")
@click.option("-n", "--rows", type=click.IntRange(0), default=ROWS, show_default=True, help="Number of rows.")
@_scan
@connection_options
def head(
    *,
    table: str,
    rows: int,
    columns: Sequence[str],
    ref: str | None,
    snapshot_id: str | None,
    url: str | None,
    headers: Sequence[str],
    as_json: bool,
) -> None:
    """Show the first rows of TABLE."""
    with open_client(url, headers) as client:
        chosen = tuple(columns) or None
        found = client.head(table, rows, columns=chosen, ref=ref, snapshot_id=snapshot_id)
    values = found.to_pylist()
    if as_json:
        output.print_json(values)
    else:
        output.print_table(found.column_names, [tuple(map(output.cell, row.values())) for row in values])


@click.command()
@click.argument("table")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="File to write: .parquet, .arrow (Arrow IPC file) or .csv. It is replaced when all rows are there.",
)
@click.option("-n", "--rows", type=click.IntRange(0), help="At most this number of rows.")
@_scan
@connection_options
def get(
    *,
    table: str,
    path: Path,
    rows: int | None,
    columns: Sequence[str],
    ref: str | None,
    snapshot_id: str | None,
    url: str | None,
    headers: Sequence[str],
    as_json: bool,
) -> None:
    """Write TABLE to a file."""
    from strata.client.commands.files import write_file  # noqa: PLC0415  # as in `open_client`
    from strata.client.scans import ScanOptions  # noqa: PLC0415  # as in `open_client`

    with open_client(url, headers) as client:
        options = ScanOptions(columns=tuple(columns) or None, ref=ref, snapshot_id=snapshot_id, limit=rows)
        progress = sys.stderr.isatty()
        written = write_file(path, lambda: client.fetch_batches(table, progress=progress, **options))
    if as_json:
        output.print_json({"path": str(path), "rows": written})
    else:
        click.echo(output.plain(f"{written:,} rows in {path}"), err=True)


@click.command()
@connection_options
def names(*, url: str | None, headers: Sequence[str], as_json: bool) -> None:
    """List the names of your tenant's results."""
    with open_client(url, headers) as client:
        found = client.names()
    if as_json:
        output.print_json([attrs.asdict(one) for one in found])
    else:
        rows = [(one.name, one.artifact_uri, one.updated_at or "") for one in found]
        output.print_table(("name", "result", "since"), rows)


@click.command()
@click.argument("table")
@connection_options
def why(*, table: str, url: str | None, headers: Sequence[str], as_json: bool) -> None:
    """Tell whether you may read TABLE; the exit status is 1 if not."""
    with open_client(url, headers) as client:
        found = client.why(table)
    if as_json:
        output.print_json(attrs.asdict(found))
    else:
        click.echo(output.plain(found.sentence))
    if not found.readable:
        raise click.exceptions.Exit(1)


COMMANDS = (ls, schema, head, get, names, why, audit)
