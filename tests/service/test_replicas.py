"""Three servers behind nginx on one PostgreSQL database and one bucket; they are killed, frozen and restarted under load.

Twenty seconds in CI; as many minutes as the variable ``MINUTES`` says with `nox -s replicas`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import attrs
import httpx
import psycopg
import pyarrow as pa
import pytest
from postgres_kit import dsn, new_database
from programs import need
from service_kit import Process, Warehouse, environment, free_port, identity, numbers, process, scan

from strata.client import StrataClient
from strata.config import Settings

MINUTES = float(os.environ.get("MINUTES") or 1 / 3)
"""Time in which servers are killed and frozen."""

TENANTS = ("team-a", "team-b", "team-c", "team-d")
LEASE = 2.0
ROWS = 20_000
PATIENCE = 90.0
"""Seconds in which a request with its repetitions is answered, on a busy machine."""
NAMES = ("daily", "weekly")

log = logging.getLogger(__name__)


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

    def restart(self) -> None:
        """Stop it by SIGTERM, wait for its end, and start it again."""
        self.process.popen.send_signal(signal.SIGTERM)
        assert 0 == self.process.popen.wait(60)
        self.running.close()
        self.start()

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
        names: What a name may point at, by tenant and name: the last acknowledged artifact, and those of later
            requests without an answer.
        done: Acknowledged requests, by kind.
        repeated: Requests that were repeated.
    """

    url: str
    table: str
    promised: dict[tuple[str, str], str] = attrs.field(factory=dict)
    sums: dict[int, str] = attrs.field(factory=dict)
    names: dict[tuple[str, str], set[str]] = attrs.field(factory=dict)
    done: Counter[str] = attrs.field(factory=Counter)
    repeated: int = 0
    stop: threading.Event = attrs.field(factory=threading.Event)

    def run(self, tenant: str, seed: int) -> int:
        """Work until told to stop; returns how many requests were acknowledged."""
        draw, done = random.Random(seed), 0
        while not self.stop.is_set():
            kind = draw.choices(("fetch", "upload", "name"), (6, 2, 2))[0]
            if kind == "fetch":
                self.fetch(tenant, draw.randrange(1, ROWS))
            elif kind == "upload":
                self.until_done(tenant, partial(self._uploaded, tenant, draw.randrange(50)))
            elif mine := [uri for owner, uri in list(self.promised) if owner == tenant]:
                self.until_done(tenant, partial(self._named, tenant, draw.choice(NAMES), draw.choice(mine)))
            done += 1
            self.done[kind] += 1
        return done

    def fetch(self, tenant: str, limit: int) -> None:
        """Read the first rows of the table; note the artifact as acknowledged."""
        self.until_done(tenant, partial(self._fetched, tenant, limit))

    def until_done(self, tenant: str, attempt: Callable[[httpx.Client], bool]) -> None:
        """Repeat a request until it is carried out."""
        until = time.monotonic() + PATIENCE
        headers = identity("ana", tenant, scopes="artifacts:write")
        with httpx.Client(base_url=self.url, headers=headers, timeout=20) as client:
            while True:
                assert time.monotonic() < until, "not answered in time"
                try:
                    if attempt(client):
                        return
                except httpx.HTTPError:
                    pass  # the connection broke: the server was killed, or frozen for too long
                self.repeated += 1
                time.sleep(0.2)

    def _fetched(self, tenant: str, limit: int, client: httpx.Client) -> bool:
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

    def _uploaded(self, tenant: str, number: int, client: httpx.Client) -> bool:
        rows = pa.table({"id": range(number, number + 1000)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        data = sink.getvalue().to_pybytes()
        given = {"inputs": [], "transform": {"executor": "made@v1", "params": {"n": number}}}
        files = {
            "metadata": (None, json.dumps(given), "application/json"),
            "data": ("data.arrow", data, "application/vnd.apache.arrow.stream"),
        }
        answer = client.put("/v1/artifacts", files=files)
        if answer.status_code not in (200, 201):
            assert answer.status_code in (502, 503, 504), answer.text
            return False
        self.promised[tenant, answer.json()["artifact_uri"]] = hashlib.sha256(data).hexdigest()
        return True

    def _named(self, tenant: str, name: str, uri: str, client: httpx.Client) -> bool:
        artifact_id, _, version = uri.removeprefix("strata://artifact/").partition("@v=")
        self.names.setdefault((tenant, name), set()).add(uri)
        body = {"name": name, "artifact_id": artifact_id, "version": int(version)}
        answer = client.post("/v1/names", json=body)
        if answer.status_code not in (200, 201):
            assert answer.status_code in (502, 503, 504), answer.text
            return False
        self.names[tenant, name] = {uri}
        return True


@contextmanager
def replicas(settings: Settings, tmp_path: Path, count: int) -> Iterator[list[Replica]]:
    """Run servers on one database and one bucket, without a directory."""
    with ExitStack() as held:
        made = []
        for index in range(count):
            directory = tmp_path / f"server-{index}"
            directory.mkdir()
            variables = environment(settings) | {
                "STRATA_ARTIFACT_METADATA_DSN": settings.artifact_metadata_dsn or "",
                "STRATA_ARTIFACT_LEASE_SECONDS": str(LEASE),
                "STRATA_ARTIFACT_BLOB_BACKEND": "s3",
                "STRATA_ARTIFACT_S3_BUCKET": "results",
                "STRATA_S3_ENDPOINT_URL": settings.s3_endpoint_url or "",
                "STRATA_S3_REGION": "us-east-1",
                "STRATA_S3_ACCESS_KEY": "k",
                "STRATA_S3_SECRET_KEY": "s",
                "STRATA_SERVICE_WRITES_ENABLED": "true",
                "STRATA_SHUTDOWN_NOTICE_SECONDS": "1",
                "STRATA_SHUTDOWN_GRACE_SECONDS": "30",
                "STRATA_CACHE_DIR": str(directory / "cache"),
                "STRATA_LOG_LEVEL": "WARNING",
                "TMPDIR": str(directory),
            }
            del variables["STRATA_ARTIFACT_DIR"]
            running = held.enter_context(ExitStack())
            port = free_port()
            started = running.enter_context(process(directory, port=port, **variables))
            made.append(Replica(directory, port, variables, running, started))
        yield made


@pytest.fixture
def bucket() -> Iterator[str]:
    """Return the address of an S3 server with the bucket `results`."""
    moto = pytest.importorskip("moto.server", reason="moto is a test dependency")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{address}/results", method="PUT")).close()
    yield address
    server.stop()


def harm(servers: list[Replica], draw: random.Random, kind: str) -> None:
    """Kill one server, freeze one for longer than its lease, or both at a time; then all run again."""
    victim, other = draw.sample(servers, 2)
    if "killed" in kind:
        victim.kill()
    if "frozen" in kind:
        other.freeze(draw.uniform(1, 2) * LEASE)
    if "killed" in kind:
        victim.start()


def restart_all(servers: list[Replica], load: Load) -> int:
    """Restart one server after the other while clients read; returns how many results they read."""
    stop = threading.Event()

    def read(tenant: str) -> int:
        draw, count = random.Random(tenant), 0
        with StrataClient(load.url, headers=identity("ana", tenant)) as client:
            while not stop.is_set():
                limit = draw.randrange(1, ROWS)
                assert list(range(limit)) == client.fetch(load.table, limit=limit)["id"].to_pylist()
                count += 1
        return count

    with ThreadPoolExecutor(len(TENANTS)) as threads:
        readers = [threads.submit(read, tenant) for tenant in TENANTS]
        try:
            for one in servers:
                one.restart()
        finally:
            stop.set()
        return sum(reader.result() for reader in readers)


def look(load: Load, servers: list[Replica]) -> None:
    """Read each acknowledged artifact and name from each server."""
    for one in servers:
        for tenant in TENANTS:
            headers = identity("ana", tenant)
            with httpx.Client(base_url=one.process.url, headers=headers, timeout=60) as client:
                for uri, digest in [
                    (uri, sha) for (owner, uri), sha in load.promised.items() if owner == tenant
                ]:
                    path = uri.removeprefix("strata://artifact/").replace("@v=", "/v/")
                    data = client.get(f"/v1/artifacts/{path}/data")
                    assert 200 == data.status_code, f"an acknowledged result is lost: {data.text}"
                    assert digest == hashlib.sha256(data.content).hexdigest()
                found = {
                    name["name"]: name["artifact_uri"] for name in client.get("/v1/names").json()["names"]
                }
            for name, uris in [(name, uris) for (owner, name), uris in load.names.items() if owner == tenant]:
                assert found.get(name) in uris, "a name is not what was acknowledged"


def look_in_database(dsn: str) -> list[float]:
    """Check what the database says of the builds.

    Returns:
        For each build that was taken from a killed server: seconds from the last renewal of that server's lease
        to the end of its build, after which another one may begin.
    """
    with psycopg.connect(dsn) as connection:
        twice = """
            SELECT tenant, artifact_id FROM builds WHERE state = 'ready' AND executor_ref LIKE 'scan@%'
            GROUP BY 1, 2 HAVING count(*) > 1
        """
        assert [] == connection.execute(twice).fetchall(), "a result was built twice"
        unended = "SELECT tenant, build_id FROM builds WHERE state IN ('building', 'pending')"
        assert [] == connection.execute(unended).fetchall()
        failed = "SELECT DISTINCT error_code FROM builds WHERE state = 'failed'"
        assert {code for (code,) in connection.execute(failed)} <= {"interrupted"}
        taken = """
            SELECT builds.completed_at - servers.seen_at FROM builds JOIN servers USING (server_id)
            WHERE builds.error_code = 'interrupted' AND builds.completed_at > servers.seen_at
        """
        return sorted(seconds for (seconds,) in connection.execute(taken))


@pytest.mark.slow
def test_servers_that_are_killed_and_frozen_lose_nothing(
    settings: Settings, postgresql: str, bucket: str, warehouse: Warehouse, tmp_path: Path
) -> None:
    """Every acknowledged artifact and name is there, each result was built once, and no reader got wrong rows.

    Then each server is restarted, and clients that repeat as ours do see no failed request.
    """
    warehouse.create(numbers(ROWS))
    shared = attrs.evolve(
        settings, artifact_metadata_dsn=dsn(new_database(postgresql)), s3_endpoint_url=bucket
    )
    assert shared.artifact_metadata_dsn is not None
    draw, harms = random.Random(MINUTES), Counter[str]()
    with replicas(shared, tmp_path, 3) as servers, nginx(tmp_path, [one.port for one in servers]) as url:
        load = Load(url, warehouse.uri())
        with ThreadPoolExecutor(len(TENANTS)) as threads:
            clients = [threads.submit(load.run, tenant, index) for index, tenant in enumerate(TENANTS)]
            try:
                until = time.monotonic() + MINUTES * 60
                # On a slow machine longer, until a result was there a second time.
                while time.monotonic() < until + (0 if load.promised else 60) or len(harms) < 2:
                    time.sleep(draw.uniform(0, LEASE))
                    kind = draw.choice(("killed", "frozen", "killed, another frozen"))
                    harm(servers, draw, kind)
                    harms[kind] += 1
            finally:
                load.stop.set()
            assert min(client.result() for client in clients) > 0
        assert load.promised
        read = restart_all(servers, load)
        assert read > 0
        time.sleep(LEASE)  # every lease of a killed server is over
        for tenant in TENANTS:
            load.fetch(tenant, 1)  # the servers have looked for builds of dead ones
        look(load, servers)
    taken = look_in_database(shared.artifact_metadata_dsn)
    log.info("harms: %s; acknowledged: %s; repeated: %d", dict(harms), dict(load.done), load.repeated)
    log.info("artifacts: %d; read while servers were restarted: %d", len(load.promised), read)
    if taken:
        log.info(
            "%d builds taken over, %.2f to %.2f s after the last renewal", len(taken), taken[0], taken[-1]
        )
        assert taken[0] > LEASE, "a build was taken from a server with a lease"
