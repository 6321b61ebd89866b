"""Two servers behind the shipped nginx; one after the other is stopped and started while clients work."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import httpx
import pyarrow as pa
import pytest
from postgres_kit import dsn, new_database
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Process, Warehouse, environment, free_port, numbers, process

from strata.client import RetryPolicy, StrataClient
from strata.config import Settings

pytestmark = [pytest.mark.slow, pytest.mark.alone]

TENANTS = ("team-a", "team-b", "team-c", "team-d")
ROWS = 200_000
NOTICE = 5
"""Seconds of ``shutdown_notice_seconds``: more than the 4 for which the shipped nginx keeps connections."""
ONCE = RetryPolicy(attempts=1, reconnects=0)
"""A client that repeats nothing: what fails is seen."""


@attrs.define
class Server:
    """One of the two: its process is replaced by an upgrade."""

    directory: Path
    port: int
    variables: dict[str, str]
    running: ExitStack
    process: Process

    def upgrade(self) -> None:
        """Stop it by SIGTERM, wait for its end, and start it again."""
        self.process.popen.send_signal(signal.SIGTERM)
        assert 0 == self.process.popen.wait(60)
        self.running.close()
        self.process = self.running.enter_context(process(self.directory, port=self.port, **self.variables))


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    path = tmp_path / "warehouse"
    path.mkdir()
    return Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))


@pytest.fixture(params=[(NOTICE, 30)])
def servers(
    request: pytest.FixtureRequest, postgresql: str, warehouse: Warehouse, tmp_path: Path
) -> Iterator[list[Server]]:
    """Run two servers on one database and one directory, with the seconds of their notice and grace."""
    notice, grace = request.param
    warehouse.create(numbers(ROWS))
    settings = Settings(
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
        warehouses={"wh": str(warehouse.path)},
    )
    database = dsn(new_database(postgresql))
    with ExitStack() as held:
        made = []
        for index in range(2):
            directory = tmp_path / f"server-{index}"
            directory.mkdir()
            variables = environment(settings) | {
                "STRATA_ARTIFACT_METADATA_DSN": database,
                "STRATA_CACHE_DIR": str(directory / "cache"),
                "STRATA_SHUTDOWN_NOTICE_SECONDS": str(notice),
                "STRATA_SHUTDOWN_GRACE_SECONDS": str(grace),
            }
            one = held.enter_context(ExitStack())
            port = free_port()
            made.append(
                Server(
                    directory,
                    port,
                    variables,
                    one,
                    one.enter_context(process(directory, port=port, **variables)),
                )
            )
        yield made


def _who(request: Any) -> tuple[str, ...]:
    """Answer as an authentication service that knows tenants by their bearer token."""
    [tenant] = request.all("authorization")
    return (
        "X-Auth-Request-Email: ana@example.com",
        f"X-Auth-Request-Tenant: {tenant.removeprefix('Bearer ')}",
    )


@pytest.fixture
def url(nginx_of: Callable[..., Any], auth: Any, servers: list[Server]) -> str:
    """Run nginx on the shipped files with both servers as its upstream; returns its address."""
    auth.answer_headers, auth.more = (), _who
    lines = " ".join(f"server 127.0.0.1:{one.port} max_fails=1 fail_timeout=2s;" for one in servers)

    def change(tree: Path) -> None:
        path = tree / "strata_http.conf"
        path.write_text(path.read_text().replace("server 127.0.0.1:8765;", lines))
        path = tree / "nginx.conf"  # its token is written after this
        path.write_text(
            path.read_text().replace(
                "include proxy_token.conf;", f'proxy_set_header X-Strata-Proxy-Token "{TOKEN}";'
            )
        )

    return f"http://127.0.0.1:{nginx_of('nginx.conf', {4180: auth.port}, change=change).ports[8080]}"


@attrs.define
class Load:
    """Clients that check every answer."""

    url: str
    table: str
    stop: threading.Event = attrs.field(factory=threading.Event)

    def read(self, tenant: str, index: int) -> int:
        """Read results in one round trip and in two, each once only; returns how many."""
        count = 0
        with StrataClient(self.url, headers={"Authorization": f"Bearer {tenant}"}, retry=ONCE) as client:
            while not self.stop.is_set():
                count += 1
                limit = 1000 * index + count
                rows = client.fetch(self.table, limit=limit)
                assert list(range(limit)) == rows["id"].to_pylist()
                made = client.materialize(self.table, columns=["id"], limit=limit)
                assert limit == client.read(made).num_rows
        return count

    def ask(self, tenant: str) -> int:
        """Send small requests, reading and changing ones, over kept connections; returns how many."""
        count = 0
        headers = {"Authorization": f"Bearer {tenant}"}
        body = {"inputs": [self.table], "transform": {"executor": "scan@v1", "params": {"limit": 1}}}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False) as client:
            while not self.stop.is_set():
                count += 1
                for answer in (client.get("/v1/me"), client.post("/v1/materialize", json=body)):
                    assert 200 == answer.status_code, answer.text
        return count


def test_an_upgrade_of_one_server_after_the_other_fails_no_request(
    servers: list[Server], url: str, warehouse: Warehouse
) -> None:
    """Clients that repeat nothing read every result whole, with right rows, and see no refusal."""
    load = Load(url, warehouse.uri())
    with ThreadPoolExecutor(2 * len(TENANTS)) as threads:
        clients = [threads.submit(load.read, tenant, index) for index, tenant in enumerate(TENANTS)]
        clients += [threads.submit(load.ask, tenant) for tenant in TENANTS]
        try:
            for one in servers:
                one.upgrade()
                threading.Event().wait(2.1)  # fail_timeout: until then nginx does not ask it again
        finally:
            load.stop.set()
        assert min(client.result() for client in clients) > 0


@pytest.mark.parametrize("servers", [(0, 1)], indirect=True)
def test_a_reader_that_outlasts_the_grace_goes_on_at_the_other_server(
    servers: list[Server], url: str, warehouse: Warehouse
) -> None:
    """Its connection is cut in the middle of the rows; the client asks for the rest, and the table is whole."""
    rows = numbers(3_000_000)
    warehouse.create(rows, "db.large")
    with StrataClient(url, headers={"Authorization": "Bearer team-a"}) as client:
        whole = client.fetch(warehouse.uri("db.large"))
        assert rows.num_rows == whole.num_rows
        with client.fetch_batches(warehouse.uri("db.large")) as batches:
            parts = [next(batches)]
            for one in servers:
                one.upgrade()
            parts += batches
        assert whole.equals(pa.Table.from_batches(parts))
