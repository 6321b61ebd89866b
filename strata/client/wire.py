"""What both clients share of httpx: building requests, reading answers, and naming failures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx

from strata import __version__
from strata.client.errors import BadAnswerError, ConnectionFailedError
from strata.client.operations import Reply, Send
from strata.client.results import ARROW_STREAM

MAX_BODY = 64 * 1024 * 1024  # of an answer that is no stream
DEFAULT_TIMEOUT = httpx.Timeout(
    10.0, read=300.0
)  # seconds; a cold build may be silent until its first row group


def wall_clock() -> dt.datetime:
    """Return the time of day in UTC."""
    return dt.datetime.now(dt.UTC)


def client_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers of every request: the caller's, and who is calling."""
    return {"User-Agent": f"strata-client/{__version__}", **(headers or {})}


def build_request(client: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
    """Return the request for a command.

    Raises:
        BadAnswerError: If a server names a result at another server; the caller's identity is not sent there.
    """
    target = httpx.URL(send.path)
    if target.is_absolute_url and _origin(target) != _origin(client.base_url):
        raise BadAnswerError(f"The server points to another server, {target.host}.")
    if not target.is_absolute_url and not send.path.startswith("/"):
        raise BadAnswerError("The server points to a result by something that is no path.")
    headers = {"Accept": send.accept}
    if send.body is not None:
        headers["Content-Type"] = "application/json"
    return client.build_request(send.method, send.path, content=send.body, headers=headers)


def is_result(send: Send, response: httpx.Response) -> bool:
    """Say whether an answer is an Arrow stream that was asked for, to be read as it comes."""
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    return bool(response.is_success and kind == ARROW_STREAM == send.accept)


def open_reply(response: httpx.Response) -> Reply:
    """Return the reply for an Arrow stream that is still to be read."""
    return Reply(response.status_code, _lower(response), stream=response)


def read_reply(response: httpx.Response, body: bytes) -> Reply:
    """Return the reply for an answer that was read."""
    return Reply(response.status_code, _lower(response), body)


def check_size(size: int) -> None:
    """Refuse to hold an answer of any size in memory.

    Raises:
        BadAnswerError: If it is larger than any answer but a result.
    """
    if size > MAX_BODY:
        raise BadAnswerError("The answer is too large to be one of Strata's.")


BODY_ERRORS = (httpx.TransportError, httpx.DecodingError, httpx.StreamError)
"""How reading a body can fail."""


@contextmanager
def connection_errors() -> Iterator[None]:
    """Turn httpx's failures into the client's own.

    Raises:
        ConnectionFailedError: For whatever kept an answer from coming.
    """
    try:
        yield
    except (httpx.TransportError, httpx.DecodingError) as error:
        detail = str(error) or type(error).__name__
        raise ConnectionFailedError(detail, title="No answer from the server") from error


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _lower(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
