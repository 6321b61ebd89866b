"""The demo's server: service mode with two tenants, on its own port and two with a fixed identity."""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import threading
from functools import partial

import attrs
import trio

from strata.client import StrataClient, StrataError
from strata.config import ConfigError, Settings
from strata.config.sources import load_settings
from strata.demo.checks import CHECK_COUNT, FLIGHTS, Check, run_checks
from strata.demo.dataset import ALIAS, DataSet
from strata.demo.errors import DemoError, PortInUseError
from strata.demo.proxy import DEMO_ADMIN, DEMO_USER, OTHER_USER, inject_identity
from strata.demo.report import Addresses, Reporter
from strata.durable import PRIVATE_MODE
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.server import Service, open_service

GRACE_SECONDS = 5.0
"""Time for open connections to end after a stop."""
ONCE_SECONDS = 55.0
"""Time limit of all checks; unfinished ones count as failed. The demo promises to end within a minute."""

SHOWN_ROWS = 5
SHOWN_COLUMNS = ("time_hour", "carrier", "flight", "origin", "dest", "dep_delay")
"""Rows and columns of the flights that are shown."""

_CONFIG = """\
# The configuration of `strata demo`, written anew at every start.
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token_file = {token_file}
multi_tenant_enabled = true
require_tenant_header = true
tenant_header = "X-Tenant-ID"
host = {host}
port = {port}
artifact_dir = {artifacts}
cache_dir = {cache}

[tool.strata.warehouses]
{alias} = {warehouse}

[tool.strata.transforms]
enabled = true

[[tool.strata.transforms.registry]]
ref = "duckdb_sql@*"

[[tool.strata.notebook_workers]]
name = "local"
url = "embedded://local"

[tool.strata.acl_config]
default = "allow"

[[tool.strata.acl_config.deny]]
principal = "{denied}"
resource = "tables/{alias}/internal/*"
"""


@attrs.frozen
class Ports:
    """Ports to listen on; 0 is any free port.

    Attributes:
        host: A loopback address, since two of the ports need no authentication.
        server: The server's own port (``--port``).
        user: The port of ``demo-user`` (``--user-port``).
        admin: The port of ``demo-admin`` (``--admin-port``).
    """

    host: str = "127.0.0.1"
    server: int = 8765
    user: int = 8865
    admin: int = 8866

    def probe(self) -> None:
        """Check that all ports are free, before any work is done.

        Raises:
            PortInUseError: Names the port and the option that changes it.
        """
        for option, port in (
            ("--port", self.server),
            ("--user-port", self.user),
            ("--admin-port", self.admin),
        ):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as error:
                    where = f"{self.host}:{port}"
                    raise PortInUseError(
                        f"cannot listen on {where} ({error.strerror}); choose another with {option}"
                    ) from None


@attrs.frozen
class Demo:
    """A demo that is ready to run.

    Attributes:
        data: The tables.
        settings: The server's settings.
        ports: Ports to listen on.
        token: The proxy's secret, made at start.
        token_file: File with the secret, for ``curl``.
    """

    data: DataSet
    settings: Settings
    ports: Ports
    token: str = attrs.field(repr=False)
    token_file: str


def configure_demo(data: DataSet, ports: Ports) -> Demo:
    """Write the server's configuration beside the data, and load it as ``strata serve`` would.

    The tables stay from run to run; results and cache are deleted, so that checks always start alike.

    Raises:
        DemoError: If the configuration is refused.
    """
    artifacts, cache = data.directory / "artifacts", data.directory / "cache"
    for directory in (artifacts, cache):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
    token = secrets.token_urlsafe(32)
    token_file = data.directory / "proxy-token"
    token_file.unlink(missing_ok=True)
    token_file.touch(mode=PRIVATE_MODE)
    token_file.write_text(token)
    quoted = {
        "token_file": str(token_file),
        "host": ports.host,
        "artifacts": str(artifacts),
        "cache": str(cache),
        "warehouse": str(data.warehouse),
    }
    config = data.directory / "strata.toml"
    values = {name: json.dumps(text) for name, text in quoted.items()}  # JSON strings are TOML strings
    config.write_text(
        _CONFIG.format(**values, port=ports.server, alias=ALIAS, denied=DEMO_USER.principal), encoding="utf-8"
    )
    try:
        loaded = load_settings(config_file=config, environ={}, options={}, cwd=data.directory)
    except ConfigError as error:
        raise DemoError(f"{config} is not accepted: {error}") from None
    return Demo(data, loaded.settings, ports, token, str(token_file))


async def run_demo(demo: Demo, reporter: Reporter, *, once: bool) -> bool:
    """Serve, check, and unless ``once`` serve until SIGINT or SIGTERM; a second signal ends at once.

    Returns:
        Whether every check passed.
    """
    stopping, passed = trio.Event(), False  # a second signal cancels the checks
    async with open_service(demo.settings) as service, trio.open_nursery() as nursery:
        nursery.start_soon(_watch_signals, service, stopping, nursery.cancel_scope)
        passed = await _serve_and_check(demo, service, reporter, stopping, once=once)
        nursery.cancel_scope.cancel()
    return passed


async def _serve_and_check(
    demo: Demo, service: Service, reporter: Reporter, stopping: trio.Event, *, once: bool
) -> bool:
    async with trio.open_nursery() as listeners:
        try:
            addresses = await _listen(demo, service, stopping, listeners)
            checks = await _check(demo, reporter, addresses, stopping)
            reporter.results(addresses, checks)
            await trio.to_thread.run_sync(_show_rows, addresses, reporter, abandon_on_cancel=True)
            if not once and not stopping.is_set():
                reporter.hints(addresses, demo.token_file)
                await stopping.wait()
        finally:
            stopping.set()  # the listeners end, and with them the nursery
    return all(check.passed for check in checks)


def _show_rows(addresses: Addresses, reporter: Reporter) -> None:
    """Show some rows of the first table, as a client reads them; blocking."""
    try:
        with StrataClient(addresses.user) as client:
            rows = client.head(FLIGHTS, SHOWN_ROWS, columns=SHOWN_COLUMNS)
    except StrataError:  # the server is being stopped, or a check has failed for the same reason
        return
    texts = [[str(value) for value in row.values()] for row in rows.to_pylist()]
    reporter.rows(f"First rows of {FLIGHTS}", rows.column_names, texts)


async def _listen(demo: Demo, service: Service, stopping: trio.Event, nursery: trio.Nursery) -> Addresses:
    """Start the three listeners; returns their addresses."""
    user, admin = (inject_identity(service.app, who.headers(demo.token)) for who in (DEMO_USER, DEMO_ADMIN))
    ports = demo.ports
    urls = []
    for app, port in ((service.app, ports.server), (user, ports.user), (admin, ports.admin)):
        bind = [Bind(ports.host, port)]
        urls += await nursery.start(partial(serve, app, bind, stop=stopping.wait, grace=GRACE_SECONDS))
    return Addresses(*urls)


async def _check(demo: Demo, reporter: Reporter, addresses: Addresses, stopping: trio.Event) -> list[Check]:
    """Run the checks in a thread, as a client of the server; incomplete if stopped or too slow."""
    checks: list[Check] = []
    over = threading.Event()

    def run() -> None:
        found = run_checks(
            demo.data,
            user_url=addresses.user,
            admin_url=addresses.admin,
            url=addresses.server,
            other_headers=OTHER_USER.headers(demo.token),
            announce=reporter.step,
        )
        for check in found:
            if over.is_set():  # cancelled
                return
            checks.append(check)

    reporter.begin(CHECK_COUNT)
    with trio.move_on_after(ONCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_when, stopping, nursery.cancel_scope)
            await trio.to_thread.run_sync(run, abandon_on_cancel=True)
            nursery.cancel_scope.cancel()
    over.set()
    reporter.end()
    if len(checks) < CHECK_COUNT:
        why = "stopped" if stopping.is_set() else f"unfinished after {ONCE_SECONDS:.0f} s"
        unfinished = f"{len(checks)} of {CHECK_COUNT} done, then {why}"
        return [*checks, Check("Every check is made", passed=False, detail=unfinished)]
    return checks


async def _cancel_when(stopping: trio.Event, scope: trio.CancelScope) -> None:
    await stopping.wait()
    scope.cancel()


async def _watch_signals(service: Service, stopping: trio.Event, scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if stopping.is_set():
                scope.cancel()
                return
            service.registry.draining = True
            stopping.set()
