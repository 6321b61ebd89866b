"""``strata audit``: who read which tables and results of a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from strata.client.commands import output
from strata.client.commands.connection import connection_options, open_client

PAGE = 1000
"""Records of one request."""


@click.command()
@click.option("--tenant", metavar="ID", help="The tenant; only operators name another one than their own.")
@click.option("--principal", metavar="ID", help="Only reads of this principal.")
@click.option("--artifact", "artifact_id", metavar="ID", help="Only reads of this result.")
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=100, show_default=True, help="Number of records."
)
@connection_options
def audit(
    *, limit: int, url: str | None, headers: Sequence[str], as_json: bool, **options: str | None
) -> None:
    """List who read which tables and results, the latest first; needs the scope `admin:tenants`.

    Reads are recorded where `access_audit` is on.
    """
    with open_client(url, headers) as client:
        entries = client.accesses(limit, **{name: value for name, value in options.items() if value})
    if as_json:
        output.print_json(entries)
        return
    output.print_table(
        ("at", "principal", "action", "outcome", "rows", "tables"), [_row(one) for one in entries]
    )


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    tables = [f"{one['table']}@{one['snapshot'] or '-'} ({one['rule']})" for one in entry["tables"]]
    if entry.get("tables_cut"):
        tables.append("…")
    rows = "" if entry["rows"] is None else str(entry["rows"])
    return (entry["at"], entry["principal"], entry["action"], entry["outcome"], rows, ", ".join(tables))
