"""One tenant learns and takes nothing from another, also when one crashes."""

from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import pyarrow as pa
import pytest
import structlog
import trio
from service_kit import ARROW, Running, Warehouse, crashing_actor, fetch, identity, numbers, running, scan

from strata import acl
from strata.config import Settings
from strata.tenants import State
from strata.tenants.builds import materialize

A, B = identity("ana", "team-a"), identity("bob", "team-b")


@pytest.fixture(autouse=True)
def _plain_tracebacks() -> Iterator[None]:
    """Print tracebacks without local variables: with results in them, structlog would take half a minute."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, plain])
    yield
    structlog.reset_defaults()


async def test_one_tenants_results_do_not_exist_for_another(server: Running, warehouse: Warehouse) -> None:
    """Another tenant's ids of streams, artifacts, builds and names, its lists and statistics are not found."""
    warehouse.create(numbers(10))
    async with server.client(**A) as ana, server.client(**B) as bob:
        miss = (await ana.post("/v1/materialize", json=scan(warehouse.uri(), name="mine"))).json()
        assert 404 == (await bob.get(miss["stream_url"])).status_code
        await ana.get(miss["stream_url"])
        hit = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        data = hit["stream_url"]
        for path in (data, data.removesuffix("/data"), f"/v1/builds/{miss['build_id']}", "/v1/names/mine"):
            assert 200 == (await ana.get(path)).status_code
            assert 404 == (await bob.get(path)).status_code
        assert [] == (await bob.get("/v1/artifacts")).json()["artifacts"]
        assert 0 == (await bob.get("/v1/artifacts/stats")).json()["total_artifacts"]
        assert [] == (await bob.get("/v1/names")).json()["names"]
        own = (await bob.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        assert (False, False) == (own["hit"], own["artifact_uri"] == hit["artifact_uri"])


async def lookups(admin: httpx.AsyncClient) -> tuple[int, int]:
    stats = (await admin.get("/v1/cache/stats")).json()
    return stats["hits"], stats["misses"]


async def test_another_tenants_cache_is_never_hit_nor_cleared(server: Running, warehouse: Warehouse) -> None:
    """Each shard counts its own look-ups."""
    warehouse.create(numbers(10))
    admin_a = identity("root", "team-a", "admin:*")
    admin_b = identity("root", "team-b", "admin:*")
    async with server.client(**admin_a) as a, server.client(**admin_b) as b:
        for client in (a, b):
            await fetch(client, scan(warehouse.uri()))
            with trio.fail_after(60):
                while not (await client.get("/v1/cache/stats")).json()["segments"]:
                    pass  # segments are kept after the result is ready
        assert (0, 1) == await lookups(b)
        await b.post("/v1/cache/clear")
        await fetch(a, scan(warehouse.uri(), params={"columns": ["id"]}))
        assert (1, 1) == await lookups(a)


async def test_two_tenants_share_no_file(server: Running, settings: Settings, warehouse: Warehouse) -> None:
    """Equal results of two tenants are in separate directories, and no path has a tenant id."""
    warehouse.create(numbers(10))
    for who in (A, B):
        async with server.client(**who) as client:
            await fetch(client, scan(warehouse.uri()))
            await client.post("/v1/materialize", json=scan(warehouse.uri()))
    blobs = await trio.to_thread.run_sync(lambda: list(settings.artifact_root.glob("blobs/*/*/*.arrow")))

    assert 2 == len({blob.parts[-3] for blob in blobs}) == len(blobs)
    assert 2 == len({blob.stat().st_ino for blob in blobs})
    assert not any("team" in str(blob.relative_to(settings.artifact_root)) for blob in blobs)


async def test_a_stream_is_its_principals_own_or_an_administrators(
    server: Running, warehouse: Warehouse
) -> None:
    """Another principal of the same tenant cannot read a stream; an administrator can."""
    warehouse.create(numbers(10))
    async with server.client(**A) as ana:
        url = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
    async with server.client(**identity("eve", "team-a")) as eve:
        assert (404, "Stream not found") == (
            (found := await eve.get(url)).status_code,
            found.json()["detail"],
        )
    async with server.client(**identity("root", "team-a", "admin:*")) as root:
        assert 200 == (await root.get(url)).status_code


DENY_EVE = acl.Policy(
    deny=(acl.Rule("eve", "tables/*/db/events"),), allow=(acl.Rule("*", "tables/**"),), default="deny"
)


async def test_one_principals_streams_leave_room_for_anothers(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A principal that reads none of its streams is refused at four fifths of them; others are not."""
    warehouse.create(numbers(10))
    monkeypatch.setattr(materialize, "STREAMS_REMEMBERED", 10)
    fresh = scan(warehouse.uri(), refresh=True)
    async with server.client(**A) as ana, server.client(**identity("eve", "team-a")) as eve:
        answers = [await eve.post("/v1/materialize", json=fresh) for _ in range(12)]
        assert [200] * 8 + [429] * 4 == [answer.status_code for answer in answers]
        assert "streams" == answers[-1].json()["error"]
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert 200 == (await ana.post("/v1/materialize", json=fresh)).status_code


async def test_a_denied_table_is_byte_for_byte_a_missing_one(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Status, headers and body are equal except the request id, also for results cached for others."""
    warehouse.create(numbers(10))
    async with running(attrs.evolve(settings, acl_config=DENY_EVE)) as server:
        async with server.client(**A) as ana:
            await fetch(ana, scan(warehouse.uri()))
            data = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        async with server.client(**identity("eve", "team-a")) as eve:
            answers = []
            for table in ("db.events", "db.nothing"):
                for path in ("/v1/materialize", "/v1/artifacts/explain-materialize"):
                    answer = await eve.post(
                        path, json=scan(warehouse.uri(table)), headers={"X-Request-ID": "same"}
                    )
                    headers = {k: v for k, v in answer.headers.items() if k != "date"}
                    answers.append((answer.status_code, headers, answer.content))
            assert 404 == answers[0][0]
            assert 1 == len({repr(answer) for answer in answers})
            assert 404 == (await eve.get(data)).status_code, "a cached result is no way around the rules"
            assert 404 == (await eve.get(data.removesuffix("/data"))).status_code
            assert [] == (await eve.get("/v1/artifacts")).json()["artifacts"]


PARTS = acl.Policy(
    allow=(
        acl.Rule("ana", "tables/**"),
        acl.Rule("eve", "tables/wh/db/events", columns=("id",), rows="id < 4"),
        acl.Rule("eva", "tables/wh/db/events", columns=("id",), rows="id < 4"),
        acl.Rule("eve", "tables/wh/db/events", columns=("id", "value"), rows="id in (2, 7)"),
    )
)


async def test_columns_and_rows_are_those_of_the_caller_whatever_is_cached(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Answers have only what the caller may see, cold, cached, by artifact and by stream, in one tenant."""
    warehouse.create(numbers(10))
    for first in (("ana", "eve", "eva"), ("eve", "eva", "ana")):
        async with running(attrs.evolve(settings, acl_config=PARTS)) as server:
            seen: dict[str, list[Any]] = {}
            data: dict[str, str] = {}
            for who in (*first, *first):
                async with server.client(**identity(who, "team-a")) as client:
                    found = await fetch(client, scan(warehouse.uri()))
                    ids = await fetch(client, scan(warehouse.uri(), params={"columns": ["id"]}))
                    seen[who] = [
                        found.column_names,
                        found.column("id").to_pylist(),
                        ids.column("id").to_pylist(),
                    ]
                    hit = (await client.post("/v1/materialize", json=scan(warehouse.uri()))).json()
                    assert hit["hit"]
                    data[who] = hit["stream_url"]
            assert ["id", "value", "name"] == seen["ana"][0]
            assert [list(range(10))] * 2 == seen["ana"][1:]
            assert [["id", "value"], [2, 7], [0, 1, 2, 3, 7]] == seen["eve"], "rows of which all is granted"
            assert [["id"], [0, 1, 2, 3], [0, 1, 2, 3]] == seen["eva"]
            for who in first:
                async with server.client(**identity(who, "team-a")) as client:
                    for owner, url in data.items():
                        may = who in ("ana", owner)
                        for path in (url, url.removesuffix("/data")):
                            answer = await client.get(path)
                            assert (200 if may else 404) == answer.status_code, (who, owner, path)
                            if not may:
                                assert "Artifact not found" == answer.json()["detail"]
                    hidden = await client.post(
                        "/v1/materialize", json=scan(warehouse.uri(), params={"columns": ["name"]})
                    )
                    assert (200 if who == "ana" else 400) == hidden.status_code


async def test_rows_taken_away_are_taken_away_from_results_that_are_there(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Reading a result applies the row conditions of that moment."""
    warehouse.create(numbers(10))
    async with (
        running(attrs.evolve(settings, acl_config=PARTS)) as server,
        server.client(**identity("eva", "team-a")) as eva,
    ):
        await fetch(eva, scan(warehouse.uri()))
        made = (await eva.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        begun = (await eva.post("/v1/materialize", json=scan(warehouse.uri(), params={"columns": []}))).json()
        paths = [made["stream_url"], made["stream_url"].removesuffix("/data"), begun["stream_url"]]
        fewer = acl.Rule("eva", "tables/wh/db/events", columns=("id",), rows="id < 3")
        server.service.registry.resources.authorizer.policy = acl.Policy(allow=(fewer,))
        assert [404] * 3 == [(await eva.get(path)).status_code for path in paths]
        assert [] == (await eva.get("/v1/artifacts")).json()["artifacts"]
        assert [0, 1, 2] == (await fetch(eva, scan(warehouse.uri()))).column("id").to_pylist()


async def test_rights_that_were_taken_away_hold_for_results_that_are_there(
    server: Running, warehouse: Warehouse
) -> None:
    """Revoked rights apply to an artifact, its record, its build and a stream that began before."""
    warehouse.create(numbers(10))
    async with server.client(**identity("eve", "team-a")) as eve:
        made = (await eve.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"))).json()
        begun = (await eve.post("/v1/materialize", json=scan(warehouse.uri(), params={"columns": []}))).json()
        while "ready" != (await eve.get(f"/v1/builds/{made['build_id']}")).json()["state"]:
            pass
        data = (await eve.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        paths = [data, data.removesuffix("/data"), f"/v1/builds/{made['build_id']}", begun["stream_url"]]
        server.service.registry.resources.authorizer.policy = DENY_EVE
        assert [404] * 4 == [(await eve.get(path)).status_code for path in paths]
    async with server.client(**A) as ana:
        assert 200 == (await ana.get(data)).status_code


async def test_explain_does_not_tell_what_a_denied_name_points_at(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Explain of a name of a denied table answers as for a missing name."""
    warehouse.create(numbers(10))
    warehouse.create(numbers(10), "db.open")
    async with running(attrs.evolve(settings, acl_config=DENY_EVE)) as server:
        async with server.client(**A) as ana:
            await fetch(ana, scan(warehouse.uri(), name="secret"))
            await ana.post("/v1/materialize", json=scan(warehouse.uri()))
        async with server.client(**identity("eve", "team-a")) as eve:
            answers = []
            for name in ("secret", "nothing"):
                body = scan(warehouse.uri("db.open"), name=name)
                answers.append((await eve.post("/v1/artifacts/explain-materialize", json=body)).json())
            assert answers[0] == answers[1]
            assert None is answers[0]["artifact_uri"]


async def test_without_hiding_a_denied_table_is_403(settings: Settings, warehouse: Warehouse) -> None:
    """With `hide_forbidden_as_not_found = false` a denied table is 403."""
    warehouse.create(numbers(10))
    changed = attrs.evolve(settings, acl_config=DENY_EVE, hide_forbidden_as_not_found=False)
    async with running(changed) as server, server.client(**identity("eve", "team-a")) as eve:
        assert 403 == (await eve.post("/v1/materialize", json=scan(warehouse.uri()))).status_code


async def test_rules_are_asked_for_the_table_however_it_is_spelled(
    settings: Settings, warehouse: Warehouse
) -> None:
    """Aliases, dots and slashes of one table lead to one decision."""
    warehouse.create(numbers(10))
    changed = attrs.evolve(
        settings, acl_config=DENY_EVE, warehouses={"wh": str(warehouse.path), "other": str(warehouse.path)}
    )
    spellings = [
        warehouse.uri(),
        warehouse.uri().replace("/warehouse", "/x/../warehouse/"),
        "wh:db.events",
        "other:db.events",
    ]
    async with running(changed) as server, server.client(**identity("eve", "team-a")) as eve:
        for spelling in spellings:
            assert 404 == (await eve.post("/v1/materialize", json=scan(spelling))).status_code, spelling


async def test_a_crash_in_one_tenant_leaves_the_other_streaming(
    settings: Settings, warehouse: Warehouse
) -> None:
    """The crashed tenant gets 503 with Retry-After and then service; the other receives every byte."""
    warehouse.create(numbers(200_000))
    async with running(settings) as server, server.client(**A) as ana, server.client(**B) as bob:
        registry = server.service.registry
        await fetch(ana, scan(warehouse.uri()))
        with trio.fail_after(30):  # a hit is kept for good: a crash before that may lose it
            while not (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]:
                pass
        async with bob.stream(
            "POST", "/v1/materialize", json=scan(warehouse.uri()), headers={"Accept": ARROW}
        ) as flow:
            parts = [await anext(chunks := flow.aiter_bytes(65536))]
            [tenant] = [found for found in registry.tenants() if found.id == "team-a"]
            with crashing_actor("team-a"):
                broken = await ana.get("/v1/names")
            assert (503, "tenant_restarting") == (broken.status_code, broken.json()["error"])
            assert int(broken.headers["retry-after"]) >= 1
            parts += [part async for part in chunks]
        assert 200_000 == pa.ipc.open_stream(b"".join(parts)).read_all().num_rows
        with trio.fail_after(30):
            while (again := await ana.post("/v1/materialize", json=scan(warehouse.uri()))).status_code == 503:
                pass
        assert (200, True) == (again.status_code, again.json()["hit"])
        assert 1 == tenant.metrics.restarts


async def test_too_many_crashes_leave_a_tenant_down_and_reported(
    settings: Settings, warehouse: Warehouse
) -> None:
    """A tenant that crashes too often is down and reported; the process stays ready."""
    warehouse.create(numbers(10))
    async with running(attrs.evolve(settings, max_tenant_crashes=0)) as server:
        async with server.client(**A) as ana, server.client(**B) as bob:
            await fetch(ana, scan(warehouse.uri()))
            [tenant] = server.service.registry.tenants()
            with crashing_actor("team-a"):
                await ana.get("/v1/names")
            down = await ana.post("/v1/materialize", json=scan(warehouse.uri()))
            assert (503, "tenant_down") == (down.status_code, down.json()["error"])
            assert State.DOWN is tenant.state
            assert 10 == (await fetch(bob, scan(warehouse.uri()))).num_rows
            assert 200 == (await bob.get("/health/ready")).status_code
        async with server.client(**identity("root", "team-b", "admin:metrics")) as root:
            assert 'strata_tenants{state="down"} 1' in (await root.get("/metrics")).text


@pytest.mark.parametrize("path", ["/metrics", "/openapi.json", "/docs", "/v1/cache/stats"])
async def test_without_a_token_nothing_is_answered(server: Running, path: str) -> None:
    """A request without a token is refused before anything else is checked."""
    async with server.client(**{"X-Strata-Principal": "ana", "X-Tenant-ID": "team-a"}) as nobody:
        answer = await nobody.get(path)
    assert 401 == answer.status_code
    assert "www-authenticate" in answer.headers
