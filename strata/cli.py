"""``strata …``: the commands."""

from __future__ import annotations

import ssl
from functools import partial
from typing import Any, Literal, cast

import click
import trio

from strata import __version__
from strata.cli_config import check, checked_settings, config, load, settings_options
from strata.demo.command import demo


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
    # The server's own imports take a second that `strata --help` need not wait for.
    from strata.observability.logs import configure  # noqa: PLC0415
    from strata.server import run_server  # noqa: PLC0415
    from strata.stores import CannotOpenError  # noqa: PLC0415

    configure(settings.log_level, cast("Literal['json', 'text']", settings.log_format))
    try:
        reload = lambda: load(options).settings  # noqa: E731  # says what it does here
        trio.run(partial(run_server, settings, announce=_announce, reload=reload))
    except CannotOpenError as error:
        raise click.ClickException(str(error)) from None
    except ssl.SSLError as error:
        names = "tls_certificate, tls_key, tls_client_ca"
        raise click.ClickException(f"TLS cannot be set up ({names}): {error.reason or error}") from None
    except OSError as error:
        where, names = f"{settings.host}:{settings.port}", "host, port"
        if settings.unix_socket is not None:
            where, names = settings.unix_socket, "unix_socket"
        raise click.ClickException(f"cannot listen on {where} ({names}): {error.strerror or error}") from None


def _announce(urls: list[str]) -> None:
    for url in urls:
        click.echo(f"strata {__version__} listens on {url}", err=True)


main.add_command(check)
main.add_command(config)
main.add_command(demo)
