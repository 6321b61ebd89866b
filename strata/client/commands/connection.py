"""The options of commands that ask a server, and the client behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from strata.client.commands import output

if TYPE_CHECKING:
    from strata.client import StrataClient

F = TypeVar("F", bound=Callable[..., Any])


def connection_options(command: F) -> F:
    """Add the options that say which server is meant, as whom, and how answers are printed."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "-H",
            "--header",
            "headers",
            multiple=True,
            metavar="'NAME: VALUE'",
            help="A header of each request. Without --url those of STRATA_CLIENT_HEADERS are sent, too.",
        ),
        click.option(
            "--url",
            metavar="URL",
            help="Address of the server. Default: STRATA_CLIENT_URL, else http://127.0.0.1:8765.",
        ),
    ):
        command = decorate(command)
    return command


@contextmanager
def open_client(url: str | None, headers: Sequence[str]) -> Iterator[StrataClient]:
    """Open a client; its errors end the command with one sentence.

    Raises:
        ClickException: For an error of the client, of a file, or of a value.
    """
    # Deferred: httpx and pyarrow take half a second to import, which `strata --help` does not need.
    from strata.client import ConnectionFailedError, StrataClient, StrataError  # noqa: PLC0415  # see above
    from strata.client.wire import parse_headers  # noqa: PLC0415  # see above

    try:
        with StrataClient(url, headers=parse_headers(headers, "--header")) as client:
            try:
                yield client
            except ConnectionFailedError as error:
                sentence = (
                    f"No answer from {client.base_url}: {error.detail}. Is this the address? See --url."
                )
                raise click.ClickException(output.plain(sentence)) from None
    except StrataError as error:
        status = f" ({error.status})" if error.status is not None else ""
        raise click.ClickException(output.plain(f"{error.detail.rstrip('.')}{status}.")) from None
    except (ValueError, ImportError, OSError) as error:
        raise click.ClickException(output.plain(str(error))) from None
