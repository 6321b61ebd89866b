"""``strata tenants remove``: remove everything that a store has of one tenant."""

from __future__ import annotations

import getpass
import json
import re
import shutil
from pathlib import Path
from typing import Any

import attrs
import click

from strata.cli.config import JSON_HELP, checked_settings, settings_options


@click.group()
def tenants() -> None:
    """Remove a tenant's data. The admin API shows, stops and limits tenants of a running server."""


@tenants.command()
@click.argument("tenant", metavar="ID")
@settings_options
@click.option("--dry-run", is_flag=True, help="Remove nothing; tell what the database has of the tenant.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def remove(*, tenant: str, dry_run: bool, yes: bool, as_json: bool, **options: Any) -> None:
    """Remove all results, names, notebooks, audit records and cached data of the tenant ID, for good.

    No server may run: the command is refused while one does. Run the command again if it was
    interrupted: it goes on. Limits in files and access rules that name the tenant stay, and are told.
    """
    # Deferred: the imports take a second, which `strata --help` does not need.
    from strata.artifacts.moving.removing import kept_of, remove_tenant  # noqa: PLC0415  # see above
    from strata.auth import TENANT_ID  # noqa: PLC0415  # see above
    from strata.config.tenants import read_overrides  # noqa: PLC0415  # see above
    from strata.outcomes import RefusalError  # noqa: PLC0415  # see above
    from strata.server import stores  # noqa: PLC0415  # see above
    from strata.tenants.notebooks.bundles import notebook_prefix  # noqa: PLC0415  # see above

    if not re.fullmatch(TENANT_ID, tenant):
        raise click.UsageError(f"{tenant!r} is no tenant's id.")
    settings, _ = checked_settings(options)
    if not (settings.needs_no_directory or settings.artifact_root.is_dir()):
        raise click.ClickException(f"artifact_dir: {settings.artifact_root} is no directory.")
    try:
        with stores.opened_side(settings, tenant) as side:
            if dry_run:
                found = kept_of(side)
            else:
                stores.refuse_beside_servers(settings, side)
                if not yes:
                    click.confirm(
                        f"Remove everything of the tenant {tenant}, for good?", abort=True, err=True
                    )
                found = remove_tenant(side, principal=getpass.getuser(), notebook_prefix=notebook_prefix)
                shard = Path(settings.cache_dir).expanduser() / side.prefix
                shutil.rmtree(shard, ignore_errors=not shard.exists())
    except stores.CannotOpenError as error:
        raise click.ClickException(str(error)) from None
    except (RefusalError, OSError) as error:
        words = error.refused.detail if isinstance(error, RefusalError) else error.strerror or str(error)
        raise click.ClickException(f"{words} Run the command again: it goes on where it ended.") from None
    overrides, _ = read_overrides(settings.overrides_path)
    limits = overrides is not None and tenant in overrides.tenants()
    if as_json:
        click.echo(
            json.dumps({"removed": not dry_run, **attrs.asdict(found), "has_limits": limits}, indent=2)
        )
        return
    if found.is_nothing:
        click.echo(f"the store has nothing of {tenant}")
    else:
        rows = ", ".join(f"{count} {name}" for name, count in found.rows.items())
        words = "would be removed" if dry_run else "removed"
        click.echo(f"{words}: {found.blobs} stored files ({found.nbytes} bytes); rows: {rows or 'none'}")
    if limits:
        click.echo(f"{settings.overrides_path} still has limits of {tenant}", err=True)
