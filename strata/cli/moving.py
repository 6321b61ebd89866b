"""``strata migrate-to-service``: copy a personal store's results into a tenant of a service."""

from __future__ import annotations

import json
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import click

from strata.cli.config import JSON_HELP, checked_settings, settings_options

if TYPE_CHECKING:
    from strata.artifacts.moving.copying import Copied

PROGRESS_SECONDS: Final = 2.0
PROGRESS_RESULTS: Final = 50
"""A line of progress is printed every 50 results, and after 2 seconds at the latest."""


@click.command("migrate-to-service")
@click.argument("source", type=click.Path(path_type=Path, file_okay=False, exists=True))
@settings_options
@click.option("--tenant", metavar="ID", help="Tenant of the service that gets the results.")
@click.option(
    "--owner", metavar="PRINCIPAL", required=True, help="Principal whom names and aliases belong to."
)
@click.option("--name-prefix", metavar="TEXT", default="", help="Put before each name, such as `ana/`.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def migrate_to_service(
    *, source: Path, tenant: str | None, owner: str, name_prefix: str, as_json: bool, **options: Any
) -> None:
    """Copy the results of a personal store, the directory SOURCE, into a service's store.

    Copied are finished results with their ids, names, aliases, tags and pins, each verified by its hash.
    SOURCE stays as it is; its server must be down. The options and the configuration are those of the
    service; with a local `artifact_dir` its server must be down, too. Run it again if it was interrupted:
    what is there is verified, and not copied again. What cannot be copied is told, with exit status 1.
    """
    # Deferred: the imports take a second, which `strata --help` does not need.
    from strata.artifacts.moving.copying import Copy  # noqa: PLC0415  # see above
    from strata.config import Settings  # noqa: PLC0415  # see above
    from strata.outcomes import RefusalError  # noqa: PLC0415  # see above
    from strata.server.stores import CannotOpenError, opened_side  # noqa: PLC0415  # see above

    settings, _ = checked_settings(options)
    given = _tenant_of(settings.multi_tenant_enabled, tenant)
    _check_texts(owner, name_prefix)
    if not (source / "metadata.db").is_file():
        raise click.ClickException(f"{source} has no metadata.db: it is not the artifact_dir of a store.")
    personal = Settings(artifact_dir=str(source), cache_dir=settings.cache_dir)
    progress = _Progress()
    try:
        with ExitStack() as held:
            copy = Copy(
                source=held.enter_context(opened_side(personal, None)),
                target=held.enter_context(opened_side(settings, given)),
                principal=owner,
                name_prefix=name_prefix,
                progress=progress,
            )
            copied = copy.run()
    except CannotOpenError as error:
        raise click.ClickException(str(error)) from None
    except (RefusalError, OSError) as error:
        words = error.refused.detail if isinstance(error, RefusalError) else error.strerror or str(error)
        raise click.ClickException(f"{words} Run the command again: it goes on where it ended.") from None
    if as_json:
        click.echo(json.dumps(attrs.asdict(copied), indent=2))
    else:
        click.echo(
            f"{copied.copied} results copied ({copied.nbytes} bytes), {copied.present} were there; "
            f"{copied.names} names, {copied.aliases} aliases"
        )
        for problem in copied.problems:
            click.echo(problem, err=True)
    if copied.problems:
        raise click.exceptions.Exit(1)


def _tenant_of(many: bool, tenant: str | None) -> str | None:  # noqa: FBT001  # a setting's value
    """Return the given tenant, or None for the only one."""
    from strata.auth import TENANT_ID  # noqa: PLC0415  # only of this command

    if not many:
        if tenant is not None:
            raise click.UsageError("--tenant: the service has no tenants (multi_tenant_enabled is false).")
        return None
    if tenant is None:
        raise click.UsageError("--tenant: the service has tenants; name one.")
    if not re.fullmatch(TENANT_ID, tenant):
        raise click.UsageError(f"--tenant: {tenant!r} is no tenant's id.")
    return tenant


def _check_texts(owner: str, prefix: str) -> None:
    for option, text in (("--owner", owner), ("--name-prefix", prefix)):
        if len(text) > 256 or not text.isprintable() or (option == "--owner" and not text.strip()):  # noqa: PLR2004  # the columns' length
            raise click.UsageError(f"{option}: use at most 256 printable characters.")


class _Progress:
    """Prints lines of progress to stderr."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def __call__(self, copied: Copied) -> None:
        now = time.monotonic()
        if copied.done % PROGRESS_RESULTS and now < self._told + PROGRESS_SECONDS:
            return
        self._told = now
        click.echo(f"{copied.done} of {copied.total} results, {copied.nbytes} bytes copied", err=True)
