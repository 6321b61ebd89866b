"""``strata artifacts …``: look at results, verify, pull, remove and collect them, and decide on changes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Final, TypeVar

import click

from strata.cli.artifact_api import Api, refuse, with_server, with_stores
from strata.client.commands import output

F = TypeVar("F", bound=Callable[..., Any])

PIECE: Final = 8 * 1024 * 1024
"""Bytes of one request of ``pull``."""

DAMAGED: Final = 2
"""Exit status of ``verify`` if a result is damaged; status 1 means that not all could be verified."""

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def artifacts() -> None:
    """Look at stored results, verify and remove them, and decide on changes of protected aliases.

    Each command asks a running server (--url, --header), or with --store opens the stores of the
    configuration while no server runs. RESULT is an artifact's URI, `<id>@v=<n>`, a name, or
    `<name>@<alias>`.
    """


def _command(function: Callable[..., Any]) -> click.Command:
    """Make a command of a function of :class:`Api`; it gets the options of all commands."""

    def call(
        *,
        url: str | None,
        headers: Sequence[str],
        store: bool,
        config: Path | None,
        tenant: str | None,
        **more: Any,
    ) -> None:
        def body(api: Api) -> int | None:
            status: int | None = function(api, **more)
            return status

        if (config is not None or tenant is not None) and not store:
            raise click.UsageError("--config and --tenant belong to --store.")
        status = with_stores(config, tenant, body) if store else with_server(url, headers, body)
        if status:
            raise click.exceptions.Exit(status)

    call.__doc__ = function.__doc__
    call.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]  # click's own
    options = (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--tenant", metavar="ID", help="With --store: the tenant."),
        click.option("--config", type=_FILE, metavar="FILE", help="With --store: the TOML file."),
        click.option("--store", is_flag=True, help="Open the stores of the configuration; no server runs."),
        click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header."),
        click.option("--url", metavar="URL", help="Address of the server. Default: STRATA_CLIENT_URL."),
    )
    decorated: Callable[..., Any] = call
    for option in options:
        decorated = option(decorated)
    name = function.__name__.removesuffix("_")
    return artifacts.command(name)(decorated)


def _show(rows: Sequence[tuple[str, Any]], found: object, *, as_json: bool) -> None:
    if as_json:
        output.print_json(found)
    else:
        output.print_table(("", ""), [(name, output.cell(value)) for name, value in rows])


def _table(columns: Sequence[str], found: Sequence[Any], *, as_json: bool) -> None:
    if as_json:
        output.print_json(found)
    else:
        output.print_table(columns, [[output.cell(one[column]) for column in columns] for one in found])


@_command
@click.option("--state", type=click.Choice(["building", "ready", "failed"]), help="Only in this state.")
@click.option("--name-prefix", metavar="TEXT", help="Only what a name with this beginning points at.")
@click.option("-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="Maximum.")
def list_(api: Api, *, state: str | None, name_prefix: str | None, limit: int, as_json: bool) -> None:
    """List results, the newest first."""
    found = api.pages("/v1/artifacts", "artifacts", limit=limit, state=state, name_prefix=name_prefix)
    columns = ("artifact_id", "version", "state", "row_count", "byte_size", "created_at")
    _table(columns, found, as_json=as_json)


@_command
@click.argument("result")
def show(api: Api, *, result: str, as_json: bool) -> None:
    """Show RESULT: what it is, its tags, and why it is kept."""
    path = api.path(result)
    found = api.json("GET", path)
    found["tags"] = api.json("GET", f"{path}/tags")["tags"]
    kept = api.json("GET", f"{path}/why")
    found |= {key: kept[key] for key in ("held_by", "last_used_at", "may_go_at", "goes_at")}
    _show(list(found.items()), found, as_json=as_json)


@_command
@click.argument("result")
@click.option("-o", "--output", "file", type=_FILE, required=True, help="File to write: an Arrow stream.")
def pull(api: Api, *, result: str, file: Path, as_json: bool) -> None:
    """Write the bytes of RESULT to a file, which appears when all are there and have the right hash."""
    path = api.path(result)
    record = api.json("GET", path)
    if record["state"] != "ready":
        raise click.ClickException(f"The result is {record['state']}.")
    descriptor, partial = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as written:
            _copy(api, f"{path}/data", record, written)
        Path(partial).replace(file)
    except BaseException:  # raised again: no half file stays
        Path(partial).unlink(missing_ok=True)
        raise
    size = record["byte_size"]
    told = {"path": str(file), "byte_size": size, "content_sha256": record["content_sha256"]}
    _show(list(told.items()), told, as_json=as_json)


def _copy(api: Api, path: str, record: Any, file: IO[bytes]) -> None:
    """Write a result to a file, piece by piece.

    Raises:
        ClickException: If they are not the bytes of the result.
    """
    digest, size = hashlib.sha256(), record["byte_size"]
    for start in range(0, size, PIECE):
        wanted = {"Range": f"bytes={start}-{min(start + PIECE, size) - 1}"}
        piece = refuse(api.send("GET", path, headers=wanted)).content
        digest.update(piece)
        file.write(piece)
    if digest.hexdigest() != record["content_sha256"]:
        raise click.ClickException("These are not the bytes of the result; see `strata artifacts verify`.")


@_command
@click.argument("results", nargs=-1)
def verify(api: Api, *, results: Sequence[str], as_json: bool) -> int:
    """Hash the bytes of RESULTS, or of all finished results, and compare.

    The next request for a damaged result builds it again. Exit status: 0; 2 if one is damaged.
    """
    paths = [api.path(one) for one in results]
    if not results:
        every = api.pages("/v1/artifacts", "artifacts", state="ready")
        paths = [f"/v1/artifacts/{one['artifact_id']}/v/{one['version']}" for one in every]
    found = [api.json("POST", f"{path}/verify") for path in paths]
    _table(("artifact_id", "version", "status", "byte_size"), found, as_json=as_json)
    return DAMAGED if any(one["status"] == "damaged" for one in found) else 0


@_command
@click.argument("result")
@click.option("--max-depth", type=click.IntRange(1, 100), default=10, show_default=True, help="Steps.")
def lineage(api: Api, *, result: str, max_depth: int, as_json: bool) -> None:
    """Show what RESULT was made of."""
    found = api.json("GET", f"{api.path(result)}/lineage", max_depth=max_depth)
    if as_json:
        output.print_json(found)
    else:
        columns = ("to_uri", "from_uri", "input_version")
        _table(columns, found["edges"], as_json=False)


@_command
@click.option("--name", metavar="NAME", help="Only about this name.")
@click.option("--artifact-id", metavar="ID", help="Only about this artifact.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="Entries.")
def audit(api: Api, *, name: str | None, artifact_id: str | None, limit: int, as_json: bool) -> None:
    """Show what was done to results, the latest first."""
    found = api.json("GET", "/v1/registry/audit", name=name, artifact_id=artifact_id, limit=limit)["entries"]
    columns = ("seq", "at", "actor", "action", "name", "alias", "artifact_id", "from_version", "to_version")
    _table(columns, found, as_json=as_json)


@_command
def pending(api: Api, *, as_json: bool) -> None:
    """List changes of protected aliases that wait for approval."""
    found = api.pages("/v1/registry/pending", "pending")
    columns = ("name", "alias", "action", "artifact_id", "version", "requested_by", "requested_at")
    _table(columns, found, as_json=as_json)


@_command
@click.argument("name")
@click.argument("alias")
def approve(api: Api, *, name: str, alias: str, as_json: bool) -> None:
    """Make the pending change of ALIAS of NAME, as `pending` shows it."""
    _decide(api, "approve", name, alias, as_json=as_json)


@_command
@click.argument("name")
@click.argument("alias")
def reject(api: Api, *, name: str, alias: str, as_json: bool) -> None:
    """Drop the pending change of ALIAS of NAME."""
    _decide(api, "reject", name, alias, as_json=as_json)


def _decide(api: Api, how: str, name: str, alias: str, *, as_json: bool) -> None:
    found = api.json("POST", f"/v1/registry/pending/{how}", json={"name": name, "alias": alias})
    told = {"status": found["status"], **found.get("applied", {"name": name, "alias": alias})}
    _show(list(told.items()), found, as_json=as_json)


@_command
@click.argument("results", nargs=-1, required=True)
def rm(api: Api, *, results: Sequence[str], as_json: bool) -> None:
    """Remove RESULTS, unless something holds them: a name, an alias, a pin, or another result."""
    found = [api.json("DELETE", api.path(one)) for one in results]
    _table(("artifact_id", "version", "status", "byte_size"), found, as_json=as_json)


@_command
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--max-idle-days", type=click.IntRange(0), help="Instead of artifact_max_idle_days.")
@click.option("--max-bytes", type=click.IntRange(0), help="Instead of artifact_max_bytes.")
@click.option("--min-idle-seconds", type=click.IntRange(0), help="Instead of artifact_min_idle_seconds.")
def gc(api: Api, *, dry_run: bool, as_json: bool, **limits: int | None) -> None:
    """Remove the results that may go by the tenant's limits, or by those given."""
    found = api.json("POST", "/v1/artifacts/gc", dry_run=str(dry_run).lower(), **limits)
    _show(list(found.items()), found, as_json=as_json)
