"""``strata workers``: the catalogue of a server's workers for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs
import click

from strata.client.commands import output
from strata.client.commands.connection import connection_options, open_client

if TYPE_CHECKING:
    from strata.client.methods.workers import Worker


@click.group()
def workers() -> None:
    """Show and switch the workers that run cells of notebooks. Needs the scope admin:workers."""


@workers.command("list")
@click.option("--refresh", is_flag=True, help="Have the server ask all executors how they are.")
@connection_options
def list_workers(url: str | None, headers: Sequence[str], *, refresh: bool, as_json: bool) -> None:
    """List the workers with their state and health."""
    with open_client(url, headers) as client:
        _print(client.worker_catalogue(refresh=refresh), as_json=as_json)


@workers.command()
@click.argument("name")
@connection_options
def enable(name: str, url: str | None, headers: Sequence[str], *, as_json: bool) -> None:
    """Let the worker NAME take cells."""
    _switch(name, "enabled", url, headers, as_json=as_json)


@workers.command()
@click.argument("name")
@connection_options
def disable(name: str, url: str | None, headers: Sequence[str], *, as_json: bool) -> None:
    """Let the worker NAME take no cells, and interrupt those under way."""
    _switch(name, "disabled", url, headers, as_json=as_json)


@workers.command()
@click.argument("name")
@connection_options
def drain(name: str, url: str | None, headers: Sequence[str], *, as_json: bool) -> None:
    """Let the worker NAME take no cells, and end those under way."""
    _switch(name, "draining", url, headers, as_json=as_json)


@workers.command()
@click.argument("name")
@click.argument("tenant")
@click.argument("places", type=click.IntRange(0, 1000), required=False)
@connection_options
def allow(
    name: str, tenant: str, places: int | None, url: str | None, headers: Sequence[str], *, as_json: bool
) -> None:
    """Let the worker NAME run PLACES cells of TENANT at a time: 0: none; left out: as configured."""
    with open_client(url, headers) as client:
        _print(client.allow_worker(name, tenant, places), as_json=as_json)


def _switch(name: str, state: str, url: str | None, headers: Sequence[str], *, as_json: bool) -> None:
    with open_client(url, headers) as client:
        _print(client.switch_worker(name, state), as_json=as_json)


def _print(found: Sequence[Worker], *, as_json: bool) -> None:
    if as_json:
        output.print_json([attrs.asdict(one) for one in found])
        return
    rows = [
        (
            one.name,
            one.backend,
            one.state,
            one.health,
            f"{one.running}/{one.max_concurrent}",
            ", ".join(f"{tenant}: {places}" for tenant, places in one.allowances.items()),
            one.last_error or "",
        )
        for one in found
    ]
    output.print_table(("worker", "backend", "state", "health", "cells", "allowances", "last error"), rows)
