"""Catalogs that are asked as the caller: no principal gets what the catalog has answered to another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from rest_catalog import RestServer, rest_server
from service_kit import Warehouse, fetch, identity, numbers, running, scan
from token_service import CLIENT, SECRET, TokenService, token_service

from strata.config import Settings
from strata.config.fields import CatalogCallers

FEW = {"read-restrictions": {"required-row-filter": {"type": "lt", "term": "id", "value": 3}}}
FORM = "{tenant}/{principal}"
TABLE = scan("prod:db.events")
SAME = {"X-Request-ID": "r"}


@pytest.fixture
def rest(warehouse: Warehouse) -> Iterator[RestServer]:
    warehouse.create(numbers(10))
    with rest_server(warehouse.catalog) as server:
        yield server


@pytest.fixture
def tokens() -> Iterator[TokenService]:
    with token_service() as service:
        yield service


@pytest.fixture
def by_header(settings: Settings, rest: RestServer) -> Settings:
    catalogs = {"prod": {"type": "rest", "uri": rest.uri, "token": "token-of-the-server"}}
    how = CatalogCallers("header", identity=FORM)
    return attrs.evolve(settings, catalogs=catalogs, catalog_callers={"prod": how})


@pytest.fixture
def by_token(settings: Settings, rest: RestServer, tokens: TokenService, tmp_path: Path) -> Settings:
    (tmp_path / "credential").write_text(f"{CLIENT}:{SECRET}")
    how = CatalogCallers(
        "token_exchange",
        identity=FORM,
        token_url=tokens.uri,
        credential_file=str(tmp_path / "credential"),
    )
    catalogs = {"prod": {"type": "rest", "uri": rest.uri}}
    return attrs.evolve(settings, catalogs=catalogs, catalog_callers={"prod": how})


def named(principal: str, tenant: str = "team-a") -> dict[str, Any]:
    return identity(tenant=tenant) | {"X-Strata-Principal": principal.encode()}  # UTF-8, as proxies send it


def callers_of(rest: RestServer) -> set[str]:
    return {caller for _, caller in rest.callers}


async def test_each_request_to_the_catalog_names_the_caller(by_header: Settings, rest: RestServer) -> None:
    """Also of a table that does not exist, of a list and of a description; none is the server's own."""
    async with running(by_header) as server, server.client(**named("Zoë@x")) as client:
        assert 10 == (await fetch(client, TABLE)).num_rows
        assert 404 == (await client.post("/v1/materialize", json=scan("prod:db.none"))).status_code
        assert 200 == (await client.get("/v1/tables", params={"catalog": "prod"})).status_code
        described = await client.get("/v1/tables/describe", params={"uri": "prod:db.events"})
        assert 200 == described.status_code
        async with server.client(**named("Zoë@x", "team-b")) as other:
            assert 10 == (await fetch(other, TABLE)).num_rows
    assert {"team-a/Zo%C3%AB@x", "team-b/Zo%C3%AB@x"} == callers_of(rest)


async def test_restrictions_are_those_of_the_caller_and_results_are_the_callers_own(
    by_header: Settings, rest: RestServer
) -> None:
    """Ana's result, its record, receipt, names and lineage are to eve like what does not exist, and the reverse."""
    rest.of_caller = {"team-a/eve": FEW}
    async with (
        running(by_header) as server,
        server.client(**identity("ana")) as ana,
        server.client(**identity("eve")) as eve,
    ):
        for client, rows, other in ((ana, 10, eve), (eve, 3, ana)):
            assert rows == (await fetch(client, TABLE)).num_rows
            again = (await client.post("/v1/materialize", json=TABLE)).json()
            assert again["hit"]
            data = again["stream_url"]
            record = data.removesuffix("/data")
            missing = await other.get("/v1/artifacts/none/v/1/data", headers=SAME)
            for path in (data, record, f"{record}/lineage", f"{record}/receipt"):
                assert 200 == (await client.get(path)).status_code, path
                hidden = await other.get(path, headers=SAME)
                assert (404, missing.content) == (hidden.status_code, hidden.content), path
            assert 1 == (await client.get("/v1/artifacts")).json()["total_count"]


async def test_two_callers_with_equal_rights_share_neither_results_nor_cached_rows(
    by_header: Settings, rest: RestServer
) -> None:
    """What one's credentials have read is not the other's, even where the answers are equal."""
    async with running(by_header) as server:
        async with server.client(**identity("ana", scopes="admin:cache")) as ana:
            assert 10 == (await fetch(ana, TABLE)).num_rows
            kept = (await ana.get("/v1/cache/stats")).json()
        async with server.client(**identity("eve", scopes="admin:cache")) as eve:
            explained = await eve.post("/v1/artifacts/explain-materialize", json=TABLE)
            assert (False, None) == tuple(explained.json().get(key) for key in ("would_hit", "artifact_uri"))
            answer = (await eve.post("/v1/materialize", json=TABLE)).json()
            assert not answer["hit"]
            assert 10 == (await fetch(eve, TABLE)).num_rows
            assert kept != (await eve.get("/v1/cache/stats")).json()
    assert {"team-a/ana", "team-a/eve"} == callers_of(rest)


async def test_a_negative_answer_and_a_list_are_the_callers_own(
    by_header: Settings, rest: RestServer
) -> None:
    """That a table is hidden from eve tells ana nothing, at the same moment."""
    rest.hidden = {"team-a/eve": {"events"}}
    async with (
        running(by_header) as server,
        server.client(**identity("ana")) as ana,
        server.client(**identity("eve")) as eve,
    ):
        for _ in range(2):
            hidden = await eve.post("/v1/materialize", json=TABLE, headers=SAME)
            absent = await eve.post("/v1/materialize", json=scan("prod:db.none"), headers=SAME)
            assert (404, absent.content) == (hidden.status_code, hidden.content)
            assert 10 == (await fetch(ana, TABLE)).num_rows
        for client, names in ((ana, ["events"]), (eve, [])):
            listed = (await client.get("/v1/tables", params={"catalog": "prod"})).json()
            assert names == [table["name"] for table in listed["tables"]]


async def test_a_right_that_ends_at_the_catalog_ends_the_results(
    by_header: Settings, rest: RestServer
) -> None:
    """Each read of a result asks the catalog as the caller."""
    async with running(by_header) as server, server.client(**identity("eve")) as eve:
        await fetch(eve, TABLE)
        data = (await eve.post("/v1/materialize", json=TABLE)).json()["stream_url"]
        assert 200 == (await eve.get(data)).status_code
        rest.hidden = {"team-a/eve": {"events"}}
        assert 404 == (await eve.get(data)).status_code


async def test_tokens_are_exchanged_for_each_caller_and_renewed(
    by_token: Settings, rest: RestServer, tokens: TokenService, capfd: pytest.CaptureFixture[str]
) -> None:
    """One exchange for many requests; one more when the catalog does not accept the token. None is shown."""
    rest.of_caller = {"Bearer secret-token-team-a/eve-1": FEW}
    async with (
        running(by_token) as server,
        server.client(**identity("ana")) as ana,
        server.client(**identity("eve")) as eve,
    ):
        for _ in range(2):
            assert 10 == (await fetch(ana, TABLE)).num_rows
            assert 3 == (await fetch(eve, TABLE)).num_rows
        assert ["team-a/ana", "team-a/eve"] == [form["subject"] for form in tokens.forms]
        rest.forbidden = {"Bearer secret-token-team-a/ana-1"}
        assert 10 == (await fetch(ana, TABLE)).num_rows
        assert ["team-a/ana", "team-a/eve", "team-a/ana"] == [form["subject"] for form in tokens.forms]
        config = (await ana.get("/v1/artifacts")).text
    assert "secret" not in config + "".join(capfd.readouterr())
    assert callers_of(rest) == {f"Bearer secret-token-team-a/{one}" for one in ("ana-1", "ana-2", "eve-1")}


async def test_a_failed_exchange_is_the_error_of_one_caller(
    by_token: Settings, rest: RestServer, tokens: TokenService, capfd: pytest.CaptureFixture[str]
) -> None:
    """Others go on; a table that exists and one that does not are told apart by neither status nor text."""
    tokens.refused = {"team-a/eve": (400, "invalid_grant")}
    async with (
        running(by_token) as server,
        server.client(**identity("ana")) as ana,
        server.client(**identity("eve")) as eve,
    ):
        refused = await eve.post("/v1/materialize", json=TABLE, headers=SAME)
        absent = await eve.post("/v1/materialize", json=scan("prod:db.none"), headers=SAME)
        assert (403, "identity_not_accepted") == (refused.status_code, refused.json()["error"])
        assert absent.content == refused.content
        listed = await eve.get("/v1/tables", params={"catalog": "prod"})
        assert (403, "identity_not_accepted") == (listed.status_code, listed.json()["error"])
        assert 10 == (await fetch(ana, TABLE)).num_rows
        tokens.broken = (500, b"secret-body")
        async with server.client(**identity("bob")) as bob:
            failed = await bob.post("/v1/materialize", json=TABLE)
            assert (503, "token_exchange_failed") == (failed.status_code, failed.json()["error"])
            assert int(failed.headers["Retry-After"]) > 0
        assert 10 == (await fetch(ana, TABLE)).num_rows, "her token is still good"
    seen = "".join(capfd.readouterr())
    for secret in (SECRET, "secret-token", "secret-body", "secret-message"):
        assert secret not in seen + refused.text + failed.text
