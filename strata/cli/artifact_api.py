"""Requests of ``strata artifacts``: to a running server, or to the stores of a configuration without one."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import attrs
import click

T = TypeVar("T")

SECONDS: Final = 300.0
"""Seconds that an answer may take; the verification of a large result reads all of it."""

LOCAL: Final = "http://127.0.0.1"


Send = Callable[..., Any]
"""Sends a request as httpx does, and returns its answer with the whole body."""


@attrs.frozen
class Api:
    """The routes of results.

    Attributes:
        send: Sends a request.
    """

    send: Send

    def json(self, method: str, path: str, *, json: object = None, **params: Any) -> Any:
        """Return the JSON of an answer; parameters that are ``None`` are left out.

        Raises:
            ClickException: If the request is refused.
        """
        given = {key: value for key, value in params.items() if value is not None}
        return refuse(self.send(method, path, params=given, json=json)).json()

    def pages(self, path: str, key: str, *, limit: int | None = None, **params: Any) -> list[Any]:
        """Return the items of all pages of a listing, or the first ``limit``."""
        found: list[Any] = []
        token: str | None = None
        while limit is None or len(found) < limit:
            size = 1000 if limit is None else min(1000, limit - len(found))
            page = self.json("GET", path, **params, limit=size, page_token=token)
            found += page[key]
            token = page.get("next_page_token")
            if token is None:
                break
        return found

    def path(self, ref: str) -> str:
        """Return the path of the result that ``ref`` means.

        Args:
            ref: ``strata://artifact/<id>@v=<n>`` or ``<id>@v=<n>``, a name, or ``<name>@<alias>``.
        """
        text = ref.removeprefix("strata://artifact/")
        artifact_id, sign, version = text.rpartition("@v=")
        if sign and version.isascii() and version.isdigit():
            return f"/v1/artifacts/{quote(artifact_id, safe='')}/v/{version}"
        name = ref.removeprefix("strata://name/")
        found = self.send("GET", f"/v1/names/{quote(name, safe='')}")
        base, sign, alias = name.rpartition("@")
        if found.status_code == 404 and sign:  # noqa: PLR2004  # not found
            found = self.send("GET", f"/v1/names/{quote(base, safe='')}/aliases/{quote(alias, safe='')}")
        return self.path(refuse(found).json()["artifact_uri"])


def refuse(answer: Any) -> Any:
    """Return an answer that is no refusal.

    Raises:
        ClickException: With the detail of a refusal.
    """
    if answer.is_success:
        return answer
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = "The answer is not one of a Strata server"
    raise click.ClickException(f"{str(detail).rstrip('.')} ({answer.status_code}).")


def with_server(url: str | None, headers: Sequence[str], body: Callable[[Api], T]) -> T:
    """Call ``body`` with a running server.

    Raises:
        ClickException: If it cannot be reached, or a header is malformed.
    """
    # Deferred: httpx takes a quarter of a second to import, which `strata --help` does not need.
    import httpx  # noqa: PLC0415  # see above

    from strata.client.wire import address, environment_headers, parse_headers  # noqa: PLC0415  # see above

    try:
        given = {**({} if url else environment_headers()), **parse_headers(headers, "--header")}
        with httpx.Client(base_url=url or address(), headers=given, timeout=SECONDS) as client:
            return body(Api(client.request))
    except (ValueError, httpx.InvalidURL) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:  # of a file
        raise click.ClickException(str(error)) from None
    except httpx.TransportError as error:
        raise click.ClickException(f"No answer from {url or address()}: {error}. See --url.") from None


def with_stores(config: Path | None, tenant: str | None, body: Callable[[Api], T]) -> T:
    """Call ``body`` with the stores of a configuration, which no server may have open.

    Requests are those of an operator of ``tenant``: the access rules do not apply, since a user who can open
    the files needs no right of them.

    Raises:
        ClickException: If the stores do not exist, or cannot be opened.
    """
    # Deferred: the server's imports take a second.
    import httpx  # noqa: PLC0415  # see above
    import trio  # noqa: PLC0415  # see above

    from strata.auth import DEFAULT_TENANT  # noqa: PLC0415  # see above
    from strata.cli.config import checked_settings  # noqa: PLC0415  # see above
    from strata.server.service import open_service  # noqa: PLC0415  # see above
    from strata.server.stores import CannotOpenError  # noqa: PLC0415  # see above

    settings, _ = checked_settings({"config_file": config})
    if not (settings.needs_no_directory or settings.artifact_root.is_dir()):
        raise click.ClickException(f"artifact_dir: {settings.artifact_root} is no directory.")
    changed = attrs.evolve(
        settings, service_writes_enabled=True, acl_config=None, acl_file=None, rate_limit_enabled=False
    )
    headers = {
        "X-Strata-Proxy-Token": settings.proxy_token or "",
        "X-Strata-Principal": getpass.getuser(),
        "X-Strata-Scopes": "admin:* artifacts:write",
    }
    if tenant not in (None, DEFAULT_TENANT):
        headers[settings.tenant_header] = tenant or ""

    async def run() -> T | click.ClickException | OSError:
        async with open_service(changed) as service:
            transport = httpx.ASGITransport(app=service.app)  # type: ignore[arg-type]  # ASGI by its own types
            async with httpx.AsyncClient(
                transport=transport, base_url=LOCAL, headers=headers, timeout=SECONDS
            ) as client:

                def send(method: str, path: str, **more: Any) -> Any:
                    async def request() -> httpx.Response:
                        return await client.request(method, path, **more)

                    return trio.from_thread.run(request)

                try:
                    return await trio.to_thread.run_sync(body, Api(send))
                except (click.ClickException, OSError) as error:  # raised outside of the service's nursery
                    return error

    try:
        found = trio.run(run)
    except CannotOpenError as error:
        raise click.ClickException(str(error)) from None
    if isinstance(found, OSError):
        raise click.ClickException(str(found))
    if isinstance(found, click.ClickException):
        raise found
    return found
