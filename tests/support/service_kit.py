"""A whole service on real tables: in this process on a free port, or as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import attrs
import httpx
import loop_budget
import pyarrow as pa
import pytest
import trio
from log_watch import MARK, watch
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.table import Table

from strata.config import Settings
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.server import Service, open_service
from strata.tenants.lifecycle.actor import TenantActor
from strata.tenants.lifecycle.envelope import Envelope

TOKEN = "a-token-of-twenty-characters"
ARROW = "application/vnd.apache.arrow.stream"


def identity(principal: str = "ana", tenant: str = "team-a", scopes: str = "") -> dict[str, str]:
    """Return the headers a proxy adds."""
    headers = {"X-Strata-Proxy-Token": TOKEN, "X-Strata-Principal": principal, "X-Tenant-ID": tenant}
    return headers | ({"X-Strata-Scopes": scopes} if scopes else {})


@attrs.define
class Warehouse:
    """A warehouse with tables made on demand."""

    path: Path
    catalog: SqlCatalog

    def uri(self, table: str = "db.events") -> str:
        return f"file://{self.path}#{table}"

    def create(self, rows: pa.Table, table: str = "db.events", **properties: str) -> Table:
        self.catalog.create_namespace_if_not_exists(table.partition(".")[0])
        made = self.catalog.create_table(table, schema=rows.schema, properties=properties)
        made.append(rows)
        return made


def numbers(rows: int, start: int = 0) -> pa.Table:
    """Return columns id (long), value (double) and name (string); no name may be in any log."""
    ids = range(start, start + rows)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "value": pa.array([i / 3 for i in ids], pa.float64()),
            "name": pa.array([f"{MARK}-{i}" for i in ids], pa.string()),
        }
    )


@attrs.define
class Running:
    """A service that is listening."""

    service: Service
    url: str

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers=headers or identity(), timeout=60)


@asynccontextmanager
async def running(settings: Settings, port: int = 0) -> AsyncIterator[Running]:
    """Open a service and serve it on a port; 0: a free one."""
    stop = trio.Event()
    async with open_service(settings) as service, trio.open_nursery() as nursery:
        serving = partial(serve, service.app, [Bind(port=port)], stop=stop.wait, grace=1)
        urls = await nursery.start(serving)
        try:
            yield Running(service, urls[0])
        finally:
            stop.set()


def scan(uri: str, **more: object) -> dict:
    """Return a materialize body; ``params`` are the transform's."""
    params = more.pop("params", {})
    return {"inputs": [uri], "transform": {"executor": "scan@v1", "params": params}, **more}


async def fetch(client: httpx.AsyncClient, body: dict) -> pa.Table:
    """Materialize and read, in the two steps of every client."""
    answer = await client.post("/v1/materialize", json=body)
    assert 200 == answer.status_code, answer.text
    data = await client.get(answer.json()["stream_url"])
    assert 200 == data.status_code, data.text
    return pa.ipc.open_stream(data.content).read_all()


@contextmanager
def crashing_actor(tenant: str) -> Iterator[None]:
    """Have the actor of a tenant itself crash, outside of any question's own work, at its next message."""
    real = TenantActor._serve

    async def serve(self: TenantActor, envelope: Envelope) -> None:
        if self.tenant == tenant:
            raise AttributeError("on purpose")
        await real(self, envelope)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(TenantActor, "_serve", serve)
        yield


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@attrs.define
class Process:
    """A server process started by a test."""

    popen: subprocess.Popen[bytes]
    url: str
    log: Path

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def rss(self) -> int:
        """Return the process's resident bytes of anonymous memory, without mapped files."""
        for line in Path(f"/proc/{self.popen.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no RssAnon")


@contextmanager
def process(
    tmp_path: Path,
    *,
    tls: str | ssl.SSLContext | None = None,
    port: int | None = None,
    unix_socket: Path | None = None,
    program: str = "loop_budget",
    inside: Sequence[str] = (),
    **environment: str,
) -> Iterator[Process]:
    """Run ``strata serve`` with the given STRATA_* variables, at log level DEBUG; end it by pid afterwards.

    Args:
        tmp_path: The process's directory.
        tls: File of the authority that signed the server's certificate, or a client's SSL context.
        port: The process's port; a free one by default.
        unix_socket: Path of a Unix socket to connect to instead.
        program: The module that runs it, as for :func:`loop_budget.program`.
        inside: The beginning of a command that prepares where it runs, and then becomes the server.
        environment: The settings.
    """
    port = port or free_port()
    log = tmp_path / f"server-{port}.log"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("STRATA_")}
    with log.open("wb") as out:
        popen = subprocess.Popen(
            [*inside, *loop_budget.program(program), "serve", "--port", str(port)],
            env=clean | {"STRATA_LOG_LEVEL": "DEBUG"} | environment,
            stdout=out,
            stderr=out,
            cwd=tmp_path,
        )
    found = Process(popen, f"{'https' if tls else 'http'}://127.0.0.1:{port}", log)
    try:
        verify = ssl.create_default_context(cafile=tls) if isinstance(tls, str) else tls or True
        uds = None if unix_socket is None else str(unix_socket)
        _wait_ready(found, httpx.HTTPTransport(verify=verify, uds=uds))
        yield found
    finally:
        if popen.poll() is None:
            popen.send_signal(signal.SIGTERM)
            try:
                popen.wait(20)
            except subprocess.TimeoutExpired:
                popen.kill()
                popen.wait()
        text = log.read_text(errors="replace")
        watch.note(text)
        loop_budget.note_log(text)


def _wait_ready(found: Process, transport: httpx.HTTPTransport) -> None:
    """Return once the server answers; fail with its log if it has ended."""
    with httpx.Client(transport=transport, timeout=30) as client:
        for _ in range(2000):
            log = found.log.read_text(errors="replace")
            listens = "listens on http" in log or "listens on unix:" in log
            if listens and client.get(f"{found.url}/health/ready").status_code == 200:
                return
            try:
                found.popen.wait(0.03)
            except subprocess.TimeoutExpired:
                continue
            break
    raise AssertionError(found.log.read_text())


def environment(settings: Settings) -> dict[str, str]:
    """Return the settings of the ``settings`` fixture as environment variables."""
    return {
        "STRATA_DEPLOYMENT_MODE": "service",
        "STRATA_AUTH_MODE": "trusted_proxy",
        "STRATA_PROXY_TOKEN": TOKEN,
        "STRATA_MULTI_TENANT_ENABLED": "true",
        "STRATA_REQUIRE_TENANT_HEADER": "true",
        "STRATA_ARTIFACT_DIR": str(settings.artifact_dir),
        "STRATA_CACHE_DIR": str(settings.cache_dir),
        "STRATA_WAREHOUSES": f"wh={settings.warehouses['wh']}",
        "STRATA_RATE_LIMIT_ENABLED": "false",
    }
