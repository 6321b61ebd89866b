"""The ``strata`` command group, and ``strata serve``."""

from __future__ import annotations

import gc
import sys
from functools import partial
from typing import Any, Literal, cast

import click
import trio

from strata import __version__
from strata.cli.acl import acl
from strata.cli.artifacts import artifacts
from strata.cli.config import check, checked_settings, config, settings_options
from strata.cli.executor import executor
from strata.cli.migrate import migrate
from strata.cli.moving import migrate_to_service
from strata.cli.notebook import notebook
from strata.cli.tenants import tenants
from strata.cli.workers import workers
from strata.client.commands.tables import COMMANDS
from strata.demo.command import demo
from strata.observability import stderr_queue
from strata.server import process
from strata.server.process import return_memory_soon

SWITCH_SECONDS = 0.0005
"""Python's thread switch interval in seconds: how long a thread that runs Python code delays the event loop
after each of the loop's system calls. At the default, 5 ms, one tenant's planning raises all tenants' p99."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="strata")
def main() -> None:
    """Exact, cached and versioned Arrow results from Iceberg tables, for many teams at once.

    Try `strata demo` first. For your own tables write a configuration, verify it with `strata check`, and run
    `strata serve`. `strata ls` lists the tables of a running server that you may read.
    """


@main.command()
@settings_options
def serve(**options: Any) -> None:
    """Run the server until Ctrl-C or SIGTERM.

    Requests in progress are finished first; a second signal ends the server at once. With problems in the
    configuration the server does not start: every problem is printed, and the exit status is 1.
    """
    stderr_queue.install()
    settings, reload = checked_settings(options)
    return_memory_soon()
    gc.disable()  # imported objects are never freed; process.begin() turns collection on again
    # Deferred: the server's imports take a second, which `strata --help` does not need.
    from strata.http.serving.listening import CannotListenError  # noqa: PLC0415  # see above
    from strata.observability.logs import configure  # noqa: PLC0415  # see above
    from strata.server import run_server  # noqa: PLC0415  # see above
    from strata.server.stores import CannotOpenError  # noqa: PLC0415  # see above

    configure(settings.log_level, cast("Literal['json', 'text']", settings.log_format))
    why: list[str] = []
    try:
        trio.run(partial(run_server, settings, announce=_announce, reload=reload))
    except* (CannotOpenError, CannotListenError) as errors:
        why = _words(errors)
    if why:
        raise click.ClickException("\n".join(why))
    process.end()


def _words(errors: BaseExceptionGroup[Exception]) -> list[str]:
    """Return the messages of the errors in a nursery's exception group, at any depth."""
    found: list[str] = []
    for error in errors.exceptions:
        found += _words(error) if isinstance(error, BaseExceptionGroup) else [str(error)]
    return found


def _announce(urls: list[str]) -> None:
    process.begin()
    sys.setswitchinterval(SWITCH_SECONDS)
    for url in urls:
        click.echo(f"strata {__version__} listens on {url}", err=True)


main.add_command(acl)
main.add_command(artifacts)
main.add_command(check)
main.add_command(config)
main.add_command(demo)
main.add_command(executor)
main.add_command(migrate)
main.add_command(migrate_to_service)
main.add_command(notebook)
main.add_command(tenants)
main.add_command(workers)
for command in COMMANDS:
    main.add_command(command)
