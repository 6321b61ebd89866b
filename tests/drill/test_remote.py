"""The operator's drill on a server whose results are in a database and an object store of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs
import httpx
import pytest
from drill_kit import Site, materialize, site, table
from fake_bucket import FakeBucket, fake_bucket
from postgres_kit import dsn, postgres, start, stop
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Warehouse, numbers

pytestmark = pytest.mark.slow


@attrs.define
class Remote:
    """A server, its object store, and the address of its database."""

    site: Site
    bucket: FakeBucket
    database: str


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    """Run one server for both drills; each mends what it has broken."""
    place = tmp_path_factory.mktemp("drill")
    path = place / "main"
    path.mkdir()
    main = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    main.create(numbers(10))
    with postgres() as database, fake_bucket() as bucket:

        def write(port: int, metrics: int) -> Path:
            file = place / "pyproject.toml"
            file.write_text(f"""
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token = "{TOKEN}"
multi_tenant_enabled = true
rate_limit_enabled = false
port = {port}
metrics_port = {metrics}
cache_dir = "{place}/cache"
warehouses = {{ wh = "{path}" }}
artifact_metadata_dsn = "{dsn(database)}"
artifact_blob_backend = "s3"
artifact_s3_bucket = "bucket"
s3_endpoint_url = "{bucket.address}"
s3_access_key = "k"
s3_secret_key = "s"
s3_connect_timeout_seconds = 1
s3_request_timeout_seconds = 2
""")
            file.chmod(0o600)
            return file

        with site(place, write) as found:
            yield Remote(found, bucket, database)


def test_store_down(remote: Remote) -> None:
    """The object store answers with errors: builds fail, and are built again once it is well."""
    remote.bucket.fault = lambda _method, _key: "503"
    with remote.site.client() as client:
        try:
            failed = 'strata_builds_total{outcome="blob_store_down",tenant="team-a"}'

            def build() -> httpx.Response:
                """Ask for a result, which is sent while it is made, and wait for the end of its build."""
                before = remote.site.scrape().get(failed, 0)
                answer = materialize(client, "wh:db.events")
                remote.site.until(lambda: remote.site.scrape().get(failed, 0) > before, failed)
                return answer

            remote.site.drill(build, 2)
            remote.site.names(table()["store down"], client.get("/v1/me").text, [])
        finally:
            remote.bucket.fault = lambda _method, _key: ""
        remote.site.recovers(lambda: materialize(client, "wh:db.events"))


def test_database_down(remote: Remote) -> None:
    """The database is away: requests are refused, and `/v1/me` and readiness tell it; then it is back."""
    with remote.site.client() as client:
        stop(remote.database)
        try:
            answers = remote.site.drill(lambda: materialize(client, "wh:db.events"), 3)
            assert (503, "metadata_store_down") == (answers[0].status_code, answers[0].json()["error"])
            assert 503 == client.get("/health/ready").status_code
            remote.site.names(table()["database down"], client.get("/v1/me").text, [])
        finally:
            start(remote.database)
        remote.site.recovers(lambda: materialize(client, "wh:db.events"))
