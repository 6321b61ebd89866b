"""Three servers behind nginx on one PostgreSQL database; one after the other is killed or frozen under load.

Half a minute in CI, ten minutes each night (`nox -s nightly`).
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import httpx
import psycopg
import pyarrow as pa
import pytest
from postgres_kit import dsn, new_database
from programs import need
from service_kit import Process, Warehouse, environment, free_port, identity, numbers, process, scan

from strata.config import Settings

TENANTS = ("team-a", "team-b", "team-c", "team-d")
LEASE = 2.0
ROWS = 20_000
PATIENCE = 90.0
"""Seconds in which a request with its repetitions is answered, on a busy machine."""


@attrs.define
class Replica:
    """One of the servers: its process is replaced when it was killed."""

    directory: Path
    port: int
    variables: dict[str, str]
    running: ExitStack
    process: Process

    def kill(self) -> None:
        self.process.kill()
        self.running.close()

    def start(self) -> None:
        self.process = self.running.enter_context(process(self.directory, port=self.port, **self.variables))

    def freeze(self, seconds: float) -> None:
        os.kill(self.process.popen.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.process.popen.pid, signal.SIGCONT)


CONFIGURATION = """
daemon off; pid {root}/nginx.pid; error_log {root}/error.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {root}/body; proxy_temp_path {root}/proxy;
  fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  upstream servers {{
    hash $http_x_tenant_id consistent;
    {servers}
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://servers;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_connect_timeout 2s;
      proxy_read_timeout 10s;
      proxy_next_upstream error timeout http_502 http_503 http_504 non_idempotent;
    }}
  }}
}}
"""


@contextmanager
def nginx(root: Path, ports: list[int]) -> Iterator[str]:
    """Run nginx before servers at ports; returns its address."""
    port = free_port()
    servers = "\n    ".join(f"server 127.0.0.1:{one} max_fails=1 fail_timeout=2s;" for one in ports)
    config = root / "nginx.conf"
    config.write_text(CONFIGURATION.format(root=root, port=port, servers=servers))
    running = subprocess.Popen([need("nginx"), "-c", str(config), "-e", str(root / "error.log")])
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.terminate()
        running.wait(20)


@attrs.define
class Load:
    """Clients that check every answer, and repeat what was refused or broke off.

    Attributes:
        url: Address of the proxy.
        table: URI of the table.
        promised: SHA-256 of each acknowledged artifact, by tenant and URI.
        sums: SHA-256 of the result of each limit.
        repeated: Requests that were repeated.
    """

    url: str
    table: str
    promised: dict[tuple[str, str], str] = attrs.field(factory=dict)
    sums: dict[int, str] = attrs.field(factory=dict)
    repeated: int = 0
    stop: threading.Event = attrs.field(factory=threading.Event)

    def run(self, tenant: str, seed: int) -> int:
        """Work until told to stop; returns how many results were read."""
        draw, read = random.Random(seed), 0
        while not self.stop.is_set():
            self.fetch(tenant, draw.randrange(1, ROWS))
            read += 1
        return read

    def fetch(self, tenant: str, limit: int) -> None:
        """Read the first rows of the table; note the artifact as acknowledged."""
        until = time.monotonic() + PATIENCE
        with httpx.Client(base_url=self.url, headers=identity("ana", tenant), timeout=20) as client:
            while True:
                assert time.monotonic() < until, "not answered in time"
                try:
                    if self._fetched(client, tenant, limit):
                        return
                except httpx.HTTPError:
                    pass  # the connection broke: the server was killed, or frozen for too long
                self.repeated += 1
                time.sleep(0.2)

    def _fetched(self, client: httpx.Client, tenant: str, limit: int) -> bool:
        answer = client.post("/v1/materialize", json=scan(self.table, params={"limit": limit}))
        if answer.status_code != 200:
            assert answer.status_code in (502, 503, 504), answer.text
            return False
        found = answer.json()
        data = client.get(found["stream_url"])
        if data.status_code != 200:
            assert data.status_code in (404, 502, 503, 504), data.text  # another server than the one before
            return False
        table = pa.ipc.open_stream(data.content).read_all()
        assert list(range(limit)) == table["id"].to_pylist(), "wrong rows"
        digest = hashlib.sha256(data.content).hexdigest()
        assert digest == self.sums.setdefault(limit, digest), "equal requests have equal bytes"
        if found["hit"]:
            self.promised[tenant, found["artifact_uri"]] = digest
        return True


@contextmanager
def replicas(settings: Settings, tmp_path: Path, count: int) -> Iterator[list[Replica]]:
    """Run servers on one database and one directory."""
    with ExitStack() as held:
        made = []
        for index in range(count):
            directory = tmp_path / f"server-{index}"
            directory.mkdir()
            variables = environment(settings) | {
                "STRATA_ARTIFACT_METADATA_DSN": settings.artifact_metadata_dsn or "",
                "STRATA_ARTIFACT_LEASE_SECONDS": str(LEASE),
                "STRATA_CACHE_DIR": str(directory / "cache"),
                "STRATA_LOG_LEVEL": "WARNING",
            }
            running = held.enter_context(ExitStack())
            port = free_port()
            started = running.enter_context(process(directory, port=port, **variables))
            made.append(Replica(directory, port, variables, running, started))
        yield made


def rehearse(
    settings: Settings, postgresql: str, warehouse: Warehouse, tmp_path: Path, seconds: float
) -> None:
    """Load three servers, kill and freeze one after the other, and check what is left."""
    warehouse.create(numbers(ROWS))
    shared = attrs.evolve(settings, artifact_metadata_dsn=dsn(new_database(postgresql)))
    draw = random.Random(seconds)
    with replicas(shared, tmp_path, 3) as servers, nginx(tmp_path, [one.port for one in servers]) as url:
        load = Load(url, warehouse.uri())
        with ThreadPoolExecutor(len(TENANTS)) as threads:
            clients = [threads.submit(load.run, tenant, index) for index, tenant in enumerate(TENANTS)]
            try:
                until, kinds = time.monotonic() + seconds, 0
                # On a slow machine longer, until a result was there a second time.
                while time.monotonic() < until + (0 if load.promised else 60) or kinds < 2:
                    victim = draw.choice(servers)
                    if kinds % 2:
                        victim.freeze(1.5 * LEASE)
                    else:
                        victim.kill()
                        victim.start()
                    kinds += 1
            finally:
                load.stop.set()
            assert min(client.result() for client in clients) > 0
        assert load.promised
        time.sleep(LEASE)  # every lease of a killed server is over
        for tenant in TENANTS:
            load.fetch(tenant, 1)  # the servers have looked for builds of dead ones
        for (tenant, uri), digest in load.promised.items():
            path = uri.removeprefix("strata://artifact/").replace("@v=", "/v/")
            for one in servers:
                data = httpx.get(
                    f"{one.process.url}/v1/artifacts/{path}/data", headers=identity("ana", tenant), timeout=60
                )
                assert 200 == data.status_code, f"an acknowledged result is lost: {data.text}"
                assert digest == hashlib.sha256(data.content).hexdigest()
    assert shared.artifact_metadata_dsn is not None
    with psycopg.connect(shared.artifact_metadata_dsn) as connection:
        twice = "SELECT tenant, artifact_id FROM artifacts WHERE state = 'ready' GROUP BY 1, 2 HAVING count(*) > 1"
        assert [] == connection.execute(twice).fetchall(), "a result was built twice at a time"
        unended = "SELECT tenant, build_id FROM builds WHERE state IN ('building', 'pending')"
        assert [] == connection.execute(unended).fetchall()


@pytest.mark.slow
def test_servers_that_are_killed_and_frozen_lose_nothing(
    settings: Settings, postgresql: str, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Every acknowledged artifact is there, each build ran once a lease, and no reader got wrong rows."""
    rehearse(settings, postgresql, warehouse, tmp_path, 20.0)


@pytest.mark.nightly
def test_servers_that_are_killed_and_frozen_for_minutes_lose_nothing(
    settings: Settings, postgresql: str, warehouse: Warehouse, tmp_path: Path
) -> None:
    """The same for ten minutes."""
    rehearse(settings, postgresql, warehouse, tmp_path, 600.0)
