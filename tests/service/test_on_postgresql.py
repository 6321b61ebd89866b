"""A service with its metadata in PostgreSQL: results, a database that restarts, and the commands about it."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner
from fake_bucket import fake_bucket
from postgres_kit import at_revision, dsn, new_database, postgres, restart
from service_kit import Warehouse, environment, fetch, identity, numbers, running, scan

from strata.cli.main import main
from strata.config import Settings
from strata.server.stores import CannotOpenError, open_stores

pytestmark = pytest.mark.slow

PASSWORD = "a-secret-of-the-database"


@pytest.fixture
def database(postgresql: str) -> str:
    return new_database(postgresql)


@pytest.fixture
def on_postgres(settings: Settings, database: str) -> Settings:
    return attrs.evolve(settings, artifact_metadata_dsn=dsn(database))


async def test_results_are_in_the_database(on_postgres: Settings, warehouse: Warehouse) -> None:
    """A result, its name and its audit outlive the server; a tenant sees its own only."""
    warehouse.create(numbers(1000))
    wanted = scan(warehouse.uri(), name="daily")
    async with running(on_postgres) as server, server.client() as client:
        first = await fetch(client, wanted)
        while not (await client.get("/v1/names")).json()["names"]:  # set as the result is committed
            pass
    assert not list(on_postgres.artifact_root.glob("metadata.db*"))
    async with running(on_postgres) as server, server.client() as client:
        answer = (await client.post("/v1/materialize", json=wanted)).json()
        assert answer["hit"]
        assert first.equals(await fetch(client, wanted))
        assert ["daily"] == [one["name"] for one in (await client.get("/v1/names")).json()["names"]]
        other = await client.get("/v1/names", headers=identity("bob", "team-b"))
        assert [] == other.json()["names"]
        record = f"/v1/artifacts/{answer['artifact_uri'].rpartition('/')[2].replace('@v=', '/v/')}"
        assert 200 == (await client.get(record)).status_code
        assert 404 == (await client.get(record, headers=identity("bob", "team-b"))).status_code


async def test_a_database_that_restarts_refuses_requests_and_ends_nothing(
    settings: Settings, warehouse: Warehouse
) -> None:
    """503 with a code while it is away; afterwards the same server answers."""
    warehouse.create(numbers(10))
    with postgres() as server:
        on_postgres = attrs.evolve(settings, artifact_metadata_dsn=dsn(server))
        async with running(on_postgres) as service, service.client() as client:
            await fetch(client, scan(warehouse.uri()))
            restart(server)
            statuses = []
            for column in ("id", "value", "name"):
                wanted = scan(warehouse.uri(), params={"columns": [column]})
                answer = await client.post("/v1/materialize", json=wanted)
                statuses.append(answer.status_code)
                if answer.status_code == 503:
                    assert "metadata_store_down" == answer.json()["error"]
                    assert int(answer.headers["Retry-After"]) > 0
            assert 200 == statuses[-1]
            assert statuses.count(503) <= 1
            await fetch(client, scan(warehouse.uri()))
            [tenant] = service.service.registry.tenants()
            assert 0 == tenant.metrics.restarts


def test_a_second_password_is_in_no_error(settings: Settings) -> None:
    """A database that cannot be reached keeps the server from starting, with its address and the cause."""
    away = attrs.evolve(settings, artifact_metadata_dsn=f"postgresql://owner:{PASSWORD}@127.0.0.1:1/db")
    with pytest.raises(
        CannotOpenError, match=r"artifact_metadata_dsn: postgresql://owner@127.0.0.1:1/db: .*refused"
    ) as error:
        open_stores(away)
    assert PASSWORD not in str(error.value)


@pytest.fixture
def command(on_postgres: Settings, database: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(on_postgres.warehouses["wh"])
    return CliRunner(env=environment(on_postgres) | {"STRATA_ARTIFACT_METADATA_DSN": dsn(database)})


def test_check_and_migrate(command: CliRunner, database: str) -> None:
    """`strata check` says whether the database is reached and migrated, `strata migrate` migrates it; no password."""
    empty = command.invoke(main, ["check", "--json"])
    assert 0 == empty.exit_code, empty.output
    assert json.loads(empty.output)["metadata"]["revision"].startswith("none")
    at_revision(database, "0009")
    older = command.invoke(main, ["check"])
    assert 1 == older.exit_code
    assert "Run strata migrate" in older.output
    dry = command.invoke(main, ["migrate", "--dry-run"])
    assert "revision 0009, would be migrated to revision" in dry.output
    assert "migrated to revision" in command.invoke(main, ["migrate"]).output
    again = command.invoke(main, ["migrate", "--json"])
    assert not json.loads(again.output)["changed"]
    checked = command.invoke(main, ["check"])
    assert 0 == checked.exit_code, checked.output
    assert not [one for one in (empty, older, dry, again, checked) if PASSWORD in one.output]


@pytest.mark.parametrize("what", ["migrate", "check"])
def test_a_missing_extra_is_named(command: CliRunner, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """The way to install the driver, and no traceback."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    found = command.invoke(main, [what])
    assert 1 == found.exit_code
    assert "pip install 'strata[postgres]'" in found.output


@pytest.mark.parametrize(
    ("ahead", "words"),
    [(0.0, ""), (-90.0, " s ahead of this machine's"), (90.0, " s behind this machine's")],
)
def test_check_compares_the_clocks(
    command: CliRunner, monkeypatch: pytest.MonkeyPatch, ahead: float, words: str
) -> None:
    """A database whose clock differs is named, since several servers take their times from it."""
    real = time.time
    monkeypatch.setattr("strata.server.schema.time.time", lambda: real() + ahead)
    found = command.invoke(main, ["check", "--json"])
    assert 0 == found.exit_code, found.output
    clocks = [one for one in json.loads(found.output)["warnings"] if "clock" in one]
    assert bool(words) == bool(clocks)
    assert words in " ".join(clocks)


async def test_nothing_of_value_is_local(
    on_postgres: Settings, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a bucket and a database, a server needs no directory, and the next one has all of its results."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    warehouse.create(numbers(1000))
    with fake_bucket() as bucket:
        bare = attrs.evolve(
            on_postgres, artifact_dir=None, artifact_blob_backend="s3", artifact_s3_bucket="bucket",
            s3_endpoint_url=bucket.address, s3_access_key="k", s3_secret_key="s",
        )  # fmt: skip
        async with running(bare) as server, server.client() as client:
            first = await fetch(client, scan(warehouse.uri()))
            while not (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]:
                pass
            assert 1 == len(list(scratch.iterdir()))
        assert [] == list(scratch.iterdir())
        assert 1 == len(bucket.objects)
        async with running(bare) as server, server.client() as client:
            assert (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]
            assert first.equals(await fetch(client, scan(warehouse.uri())))
    assert not Path(on_postgres.artifact_root).exists()
