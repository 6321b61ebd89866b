"""``strata …``: the commands."""

from __future__ import annotations

import gc
import sys
from functools import partial
from typing import Any, Literal, cast

import click
import trio

from strata import __version__
from strata.cli.acl import acl
from strata.cli.config import check, checked_settings, config, load, settings_options
from strata.demo.command import demo
from strata.server import process
from strata.server.process import return_memory_soon

SWITCH_SECONDS = 0.0005
"""How long a thread in Python code keeps the interpreter from the loop, which asks for it after each of its
system calls. With Python's 5 ms a tenant's planning is felt in everybody's 99th percentile."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="strata")
def main() -> None:
    """Exact, cached and versioned Arrow results from Iceberg tables, for many teams at once.

    Start with `strata demo`, then `strata check` on your own configuration, then `strata serve`.
    """


@main.command()
@settings_options
def serve(**options: Any) -> None:
    """Serve until Ctrl-C or SIGTERM; a second one ends at once.

    Refuses to start on a configuration in which anything is wrong, and says all of it.
    """
    settings = checked_settings(options)
    return_memory_soon()
    gc.disable()  # nothing of what is imported ever goes: it is looked through when all is there
    # The server's own imports take a second that `strata --help` need not wait for.
    from strata.http.serving.listening import CannotListenError  # noqa: PLC0415  # see above
    from strata.observability.logs import configure  # noqa: PLC0415  # see above
    from strata.server import run_server  # noqa: PLC0415  # see above
    from strata.server.stores import CannotOpenError  # noqa: PLC0415  # see above

    configure(settings.log_level, cast("Literal['json', 'text']", settings.log_format))
    why: list[str] = []
    try:
        reload = lambda: load(options).settings  # noqa: E731  # says what it does here
        trio.run(partial(run_server, settings, announce=_announce, reload=reload))
    except* (CannotOpenError, CannotListenError) as errors:
        why = _words(errors)
    if why:
        raise click.ClickException("\n".join(why))


def _words(errors: BaseExceptionGroup[Exception]) -> list[str]:
    """Return what nurseries have wrapped, however deep, in words."""
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
main.add_command(check)
main.add_command(config)
main.add_command(demo)
