"""The ``strata`` command of the client's own package: the commands that need a server elsewhere."""

from __future__ import annotations

import click

from strata import __version__
from strata.client.commands.tables import COMMANDS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="strata")
def main() -> None:
    """Read tables of a Strata server, exactly.

    `strata ls` lists those that you may read. STRATA_CLIENT_URL has the server's address.
    """


for command in COMMANDS:
    main.add_command(command)
