"""Code on httpx that both clients share: build requests, read answers, translate failures."""

from __future__ import annotations

import datetime as dt
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import httpx

from strata import __version__
from strata.client.errors import BadAnswerError, ConnectionFailedError
from strata.client.operations import Reply, Send
from strata.client.results import ARROW_STREAM

ATTEMPT_HEADER = "X-Strata-Attempt"
"""Header with the number of an attempt at a request: the server keeps places for those that it refused."""
MAX_BODY = 64 * 1024 * 1024
"""Maximum bytes of an answer that is not a stream; larger ones are refused."""
DEFAULT_TIMEOUT = httpx.Timeout(
    10.0, read=300.0
)  # seconds; a cold build may be silent until its first row group


URL_VARIABLE = "STRATA_CLIENT_URL"
"""Variable of the environment with the server's address."""

HEADERS_VARIABLE = "STRATA_CLIENT_HEADERS"
"""Variable of the environment with headers for that address, one ``Name: value`` in each line."""

DEFAULT_URL = "http://127.0.0.1:8765"

_HEADER = re.compile(r"(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(?P<value>[^\x00-\x08\x0a-\x1f\x7f]*)")


def address() -> str:
    """Return the server's address from the environment, or the default one."""
    return os.environ.get(URL_VARIABLE) or DEFAULT_URL


def environment_headers() -> dict[str, str]:
    """Return the headers of the environment.

    Raises:
        ValueError: For a line that is no header; it is not repeated, for it may be a secret.
    """
    return parse_headers(os.environ.get(HEADERS_VARIABLE, "").splitlines(), HEADERS_VARIABLE)


def parse_headers(lines: Iterable[str], where: str) -> dict[str, str]:
    """Return headers that are written as ``Name: value``; blank lines do not count.

    Raises:
        ValueError: For a line that is no header, with its number and ``where`` it is from.
    """
    found = {}
    for number, line in enumerate(lines, 1):
        header = _HEADER.fullmatch(line.strip())
        if header is not None:
            found[header["name"]] = header["value"]
        elif line.strip():
            raise ValueError(f"{where}: header {number} is not written as 'Name: value'.")
    return found


def wall_clock() -> dt.datetime:
    """Return the time of day in UTC."""
    return dt.datetime.now(dt.UTC)


def client_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Return the headers of every request: a user agent and the caller's headers."""
    return {"User-Agent": f"strata-client/{__version__}", **(headers or {})}


def build_request(client: httpx.Client | httpx.AsyncClient, send: Send) -> httpx.Request:
    """Return the request for a command.

    Raises:
        BadAnswerError: If the path, which may come from the server, is on another server (the caller's
            credentials must not be sent there) or is no path.
    """
    target = httpx.URL(send.path)
    if target.is_absolute_url and _origin(target) != _origin(client.base_url):
        raise BadAnswerError(f"The server refers to a result on another server, {target.host}.")
    if not target.is_absolute_url and not send.path.startswith("/"):
        raise BadAnswerError("The server refers to a result by something that is not a path.")
    headers = {"Accept": send.accept, ATTEMPT_HEADER: str(send.attempt), **send.headers}
    if send.body is not None:
        headers["Content-Type"] = "application/json"
    return client.build_request(send.method, send.path, content=send.body, headers=headers)


def is_result(send: Send, response: httpx.Response) -> bool:
    """Test whether an answer is the Arrow stream that the request accepts."""
    kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
    return bool(response.is_success and kind == ARROW_STREAM == send.accept)


def open_reply(response: httpx.Response) -> Reply:
    """Return the reply for an Arrow stream that is not read yet."""
    return Reply(response.status_code, _lower(response), stream=response)


def read_reply(response: httpx.Response, body: bytes) -> Reply:
    """Return the reply for an answer with a complete body."""
    return Reply(response.status_code, _lower(response), body)


def check_size(size: int) -> None:
    """Limit the memory for an answer.

    Raises:
        BadAnswerError: If ``size`` exceeds :data:`MAX_BODY`.
    """
    if size > MAX_BODY:
        raise BadAnswerError(f"The answer is too large: {size} bytes, which only a result may have.")


BODY_ERRORS = (httpx.TransportError, httpx.DecodingError, httpx.StreamError)
"""Exceptions of reading a body."""


@contextmanager
def connection_errors() -> Iterator[None]:
    """Translate httpx's exceptions to the client's.

    Raises:
        ConnectionFailedError: If no answer arrived.
    """
    try:
        yield
    except (httpx.TransportError, httpx.DecodingError) as error:
        detail = str(error) or type(error).__name__
        broken, title = is_broken(error), "No answer from the server"
        raise ConnectionFailedError(detail, title=title, broken=broken) from error


def is_broken(error: Exception) -> bool:
    """Test whether a connection was refused or broke: not a wait that took too long, nor wrong bytes."""
    return isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError))


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _lower(response: httpx.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}
