"""The command ``strata demo``."""

from __future__ import annotations

from pathlib import Path

import click

from strata.demo.errors import DemoError

_PORT = click.IntRange(0, 65535)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)


@click.command()
@click.option("--once", is_flag=True, help="Exit after the checks: 0 if all passed, 1 if not.")
@click.option(
    "--data",
    type=_DIRECTORY,
    metavar="DIR",
    help="Keep the tables in DIR and reuse them; deletes results and cache. Default: temporary.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@click.option("--port", type=_PORT, default=8765, show_default=True, help="Port of the server itself.")
@click.option(
    "--user-port", type=_PORT, default=8865, show_default=True, help="Port with the identity demo-user."
)
@click.option(
    "--admin-port", type=_PORT, default=8866, show_default=True, help="Port with the identity demo-admin."
)
def demo(*, once: bool, data: Path | None, as_json: bool, port: int, user_port: int, admin_port: int) -> None:
    """Show service mode on real flight data.

    The data are the flights that left New York City in 2013.

    Writes them as Iceberg tables with several snapshots and deleted rows, serves them to two tenants on
    127.0.0.1, checks the answers over HTTP against pyiceberg, and serves until Ctrl-C.
    """
    # Deferred: the server's imports take a second, which `strata --help` should not.
    from strata.demo.serve import Ports  # noqa: PLC0415 - for the reason above
    from strata.demo.session import run_session  # noqa: PLC0415 - for the reason above

    ports = Ports(server=port, user=user_port, admin=admin_port)
    try:
        passed = run_session(ports, once=once, data=data, as_json=as_json)
    except DemoError as error:
        raise click.ClickException(str(error)) from None
    if once and not passed:
        raise click.exceptions.Exit(1)
