"""``strata migrate``: bring the metadata database to this version's schema."""

from __future__ import annotations

import json
from typing import Any

import click

from strata.cli.config import JSON_HELP, checked_settings, settings_options


@click.command()
@settings_options
@click.option("--dry-run", is_flag=True, help="Change nothing; tell what would be changed.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def migrate(*, dry_run: bool, as_json: bool, **options: Any) -> None:
    """Bring the metadata database to the schema of this version.

    A server migrates its own SQLite file, and creates the tables of an empty PostgreSQL database; an older
    PostgreSQL database is migrated by this command only. Servers of the version before may run on meanwhile
    and afterwards: a migration adds, and what it replaces is removed a version later.
    """
    # Deferred: the imports take a second, which `strata --help` does not need.
    from strata.server.schema import migrate_schema  # noqa: PLC0415  # see above
    from strata.server.stores import CannotOpenError  # noqa: PLC0415  # see above

    settings, _ = checked_settings(options)
    try:
        found = migrate_schema(settings, dry_run=dry_run)
    except CannotOpenError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        facts = {"database": found.place, "before": found.before, "revision": found.head}
        click.echo(json.dumps({**facts, "changed": found.changes and not dry_run}, indent=2))
        return
    if not found.changes:
        click.echo(f"{found.place}: revision {found.before}, nothing to do")
        return
    before = f"revision {found.before}" if found.before else "no tables"
    done = "would be migrated" if dry_run else "migrated"
    click.echo(f"{found.place}: {before}, {done} to revision {found.head}")
