"""The operator's drill on a server with its own disk: each failure is named in the five places of the runbook."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import httpx
import pyarrow.parquet as pq
import pytest
import trustme
from drill_kit import Site, materialize, site, table
from pyiceberg.catalog.sql import SqlCatalog
from rest_catalog import RestServer, rest_server
from service_kit import TOKEN, Warehouse, free_port, identity, numbers

pytestmark = pytest.mark.slow


@attrs.define
class Local:
    """A server, and what it depends on.

    Attributes:
        site: The server.
        directory: Where everything is.
        rest: Its catalog.
        write: Writes its configuration anew, with other values of some settings.
        authority: Signs its certificates.
    """

    site: Site
    directory: Path
    rest: RestServer
    write: Callable[..., Path]

    authority: trustme.CA

    def certify(self, days: int) -> None:
        """Put a certificate that ends in some days in the place of the server's."""
        certify(self.directory, self.authority, days)


def warehouse(path: Path) -> Warehouse:
    path.mkdir()
    return Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))


def certify(directory: Path, authority: trustme.CA, days: int) -> None:
    now = dt.datetime.now(dt.UTC)
    month, end = now - dt.timedelta(days=30), now + dt.timedelta(days=days)
    made = authority.issue_cert("127.0.0.1", not_before=month, not_after=end)
    (directory / "certificate.pem").write_bytes(made.private_key_and_cert_chain_pem.bytes())
    (directory / "certificate.pem").chmod(0o600)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    """Run one server for all drills; each mends what it has broken."""
    place = tmp_path_factory.mktemp("drill")
    main, gone, sealed = (warehouse(place / name) for name in ("main", "gone", "sealed"))
    main.create(numbers(10))
    for one in (gone, sealed):
        one.create(numbers(1))
    main.create(numbers(10), "db.damaged")
    [damaged] = (place / "main" / "db" / "damaged" / "data").glob("*.parquet")
    damaged.write_bytes(damaged.read_bytes()[:-100])
    pq.write_table(numbers(5), place / "elsewhere.parquet")
    outside = main.catalog.create_table("db.outside", schema=numbers(1).schema)
    outside.add_files([f"file://{place}/elsewhere.parquet"])
    authority = trustme.CA()
    authority.cert_pem.write_to_path(place / "authority.pem")
    certify(place, authority, 100)
    ports: list[int] = []
    executor = free_port()  # that nothing listens on
    with rest_server(main.catalog) as rest:

        def write(*new: int, reserve: int = 1, enabled: str = "true") -> Path:
            ports.extend(new)
            file = place / "pyproject.toml"
            file.write_text(f"""
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token = "{TOKEN}"
multi_tenant_enabled = true
require_tenant_header = true
rate_limit_enabled = false
port = {ports[0]}
metrics_port = {ports[1]}
artifact_dir = "{place}/artifacts"
cache_dir = "{place}/cache"
disk_reserve_bytes = {reserve}
tls_certificate = "{place}/certificate.pem"
warehouses = {{ wh = "{main.path}", gone = "{gone.path}", sealed = "{sealed.path}" }}
[tool.strata.catalogs.lake]
type = "rest"
uri = "{rest.uri}"
[tool.strata.transforms]
enabled = true
[[tool.strata.transforms.registry]]
ref = "double@*"
executor_url = "http://127.0.0.1:{executor}"
[[tool.strata.acl_config.allow]]
principal = "*"
resource = "tables/*/db/*"
[[tool.strata.acl_config.allow]]
principal = "*"
resource = "transforms/*"
[[tool.strata.acl_config.deny]]
principal = "*"
resource = "tables/sealed/*/*"
[tool.strata.tenants.team-off]
enabled = {enabled}
""")
            file.chmod(0o600)
            return file

        with site(place, write) as found:
            yield Local(found, place, rest, write, authority)


def me(client: httpx.Client) -> str:
    return client.get("/v1/me").text


def test_the_runbook_has_each_drill() -> None:
    """The table of the runbook names the twelve failures, with a log line, a metric and an alert each."""
    assert [
        "wrong token", "denied table", "missing warehouse", "file outside", "disk at its reserve", "damaged Parquet",
        "catalog down", "store down", "database down", "executor down", "certificate expired", "tenant disabled",
    ] == list(table())  # fmt: skip
    assert all(row.log and row.metric and row.alert and row.check for row in table().values())


def test_wrong_token(local: Local) -> None:
    """The proxy sends another token than the server's: 401, and `strata check --proxy` tells why."""
    with local.site.client(**identity() | {"X-Strata-Proxy-Token": "x" * 20}) as client:
        answers = local.site.drill(lambda: client.get("/v1/me"))
        assert 401 == answers[0].status_code
        local.site.names(table()["wrong token"], answers[0].text, ["--proxy", local.site.running.url])


def test_denied_table(local: Local) -> None:
    """The caller sees 404 as of a missing table; the operator sees that rules deny it."""
    with local.site.client() as client:
        answers = local.site.drill(lambda: materialize(client, "sealed:db.events"))
        assert {404} == {one.status_code for one in answers}
        local.site.names(table()["denied table"], me(client), [])


def test_missing_warehouse(local: Local) -> None:
    """The directory of a warehouse is away, as that of a file system that is not mounted."""
    gone, away = local.directory / "gone", local.directory / "away"
    shutil.move(gone, away)
    try:
        with local.site.client() as client:
            answers = local.site.drill(lambda: materialize(client, "gone:db.events"))
            assert (503, "warehouse_missing") == (answers[0].status_code, answers[0].json()["error"])
            local.site.names(table()["missing warehouse"], me(client), [])
    finally:
        shutil.move(away, gone)
    with local.site.client() as client:
        local.site.recovers(lambda: materialize(client, "gone:db.events"))


@pytest.mark.parametrize(
    ("failure", "name", "code"),
    [
        ("file outside", "wh:db.outside", "file_outside_warehouse"),
        ("damaged Parquet", "wh:db.damaged", "data_unreadable"),
    ],
)
def test_files_of_tables(local: Local, failure: str, name: str, code: str) -> None:
    """A file outside of its warehouse and one that lost its end; `strata check --table` opens the files."""
    with local.site.client() as client:
        answers = local.site.drill(lambda: materialize(client, name), 2)
        assert {code} == {one.json()["error"] for one in answers}
        local.site.names(table()[failure], me(client), ["--table", name])


def test_disk_at_its_reserve(local: Local) -> None:
    """Less is free than `disk_reserve_bytes`: builds are refused, and `/v1/me` tells it."""
    with local.site.client() as client:
        before, since = local.site.scrape(), local.site.mark()
        local.write(reserve=2**60)
        try:
            local.site.hang_up()
            local.site.logged("disk full")
            answers = local.site.drill(lambda: materialize(client, "wh:db.events", params={"limit": 7}), 2)
            local.site.read, local.site.scrapes[0] = since, before
            assert 503 == answers[0].status_code
            local.site.names(table()["disk at its reserve"], me(client), [])
        finally:
            local.write()
            local.site.hang_up()
        local.site.logged("disk has room again")
        assert 200 == (again := materialize(client, "wh:db.events", params={"limit": 7})).status_code, (
            again.text
        )


def test_catalog_down(local: Local) -> None:
    """The catalog's server answers with errors; the others are served."""
    local.rest.down = True
    with local.site.client() as client:
        try:
            answers = local.site.drill(lambda: materialize(client, "lake:db.events"), 2)
            assert (503, "catalog_unavailable") == (answers[0].status_code, answers[0].json()["error"])
            local.site.names(table()["catalog down"], me(client), [])
        finally:
            local.rest.down = False
        local.site.recovers(lambda: materialize(client, "lake:db.events"))


def test_executor_down(local: Local) -> None:
    """Nothing listens where the executor should."""
    body = {"inputs": ["wh:db.events"], "transform": {"executor": "double@v1", "params": {}}}
    with local.site.client() as client:
        accept = {"Accept": "application/vnd.apache.arrow.stream"}
        ask = lambda: client.post("/v1/materialize", json=body, headers=accept)  # noqa: E731  # used once
        answers = local.site.drill(ask, 2)
        assert 200 != answers[0].status_code
        local.site.names(table()["executor down"], me(client), [])


def test_certificate_expired(local: Local) -> None:
    """The certificate's end is over: clients that verify it give up, whatever the server would answer."""
    before, since = local.site.scrape(), local.site.mark()
    local.certify(-1)
    local.write(reserve=2)
    local.site.hang_up()
    try:
        with local.site.client() as client:
            local.site.drill(lambda: client.get("/health"), 1)
            local.site.read, local.site.scrapes[0] = since, before
            local.site.names(table()["certificate expired"], "", [])
    finally:
        local.certify(100)
        local.write()
        local.site.hang_up()


def test_tenant_disabled(local: Local) -> None:
    """An operator has disabled a tenant: 403, and `/v1/me` is answered with the reason."""
    local.write(enabled="false")
    local.site.hang_up()
    try:
        with local.site.client(**identity("bob", "team-off")) as client:
            answers = local.site.drill(lambda: materialize(client, "wh:db.events"))
            assert (403, "tenant_disabled") == (answers[0].status_code, answers[0].json()["error"])
            local.site.names(table()["tenant disabled"], me(client), [])
    finally:
        local.write()
        local.site.hang_up()
