"""The access audit: what it records, who may see it, how long it is kept, and what happens where it cannot be written."""

from __future__ import annotations

import threading
from typing import Any

import attrs
import pytest
import trio
from service_kit import ARROW, Running, Warehouse, identity, numbers, running, scan

from strata.acl import Policy, Rule
from strata.artifacts.accesses.contract import Access, TableAccess
from strata.artifacts.accesses.sql_accesses import SqlAccesses
from strata.config import Settings
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.auditing import access_audit

ROOT = identity("root", scopes="admin:*")
PATH = "/v1/admin/access-audit"


@pytest.fixture
def audited(settings: Settings) -> Settings:
    """Return settings with the audit on, and a rule that denies eve all tables."""
    rules = Policy(
        deny=(Rule("eve", "tables/**"),), allow=(Rule("*", "tables/wh/db/*"), Rule("*", "admin/**"))
    )
    return attrs.evolve(settings, access_audit=True, acl_config=rules)


async def entries(server: Running, count: int, query: str = "", **who: str) -> list[dict[str, Any]]:
    """Return the records once there are so many."""
    async with server.client(**(who or ROOT)) as client:
        with trio.fail_after(30):
            while True:
                answer = await client.get(f"{PATH}{query}")
                assert 200 == answer.status_code, answer.text
                found = answer.json()["entries"]
                if len(found) >= count:
                    return found
                await trio.sleep(0.05)


async def read(server: Running, uri: str, **params: object) -> int:
    """Ask for a result in one round trip; returns the status."""
    who = params.pop("who", identity())
    assert isinstance(who, dict)
    async with server.client(**who) as client:
        body = scan(uri, params=params)
        return (await client.post("/v1/materialize", json=body, headers={"Accept": ARROW})).status_code


async def test_a_read_is_recorded_with_its_snapshot_rows_bytes_and_rule(
    audited: Settings, warehouse: Warehouse
) -> None:
    """Of a new result, of a finished one, and of a request that only said where the rows are."""
    table = warehouse.create(numbers(1000))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    async with running(audited) as server, server.client() as ana:
        assert 200 == await read(server, warehouse.uri())
        made = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()
        data = await ana.get(made["stream_url"])
        found = await entries(server, 3)
    assert ["read", "materialize", "read"] == [one["action"] for one in found]
    assert {("ok", "ana", "team-a")} == {(one["outcome"], one["principal"], one["tenant"]) for one in found}
    expected = {
        "table": "wh/db/events",
        "snapshot": str(snapshot.snapshot_id),
        "rule": "allow * on tables/wh/db/*",
        "allowed": True,
    }
    for one in (found[0], found[2]):
        assert [expected] == one["tables"]
        assert (made["artifact_uri"], 1000, len(data.content)) == (
            one["artifact_uri"],
            one["rows"],
            one["bytes"],
        )
    assert data.headers["X-Request-ID"] == found[0]["request_id"]
    assert found[1]["artifact_uri"] is None


async def test_a_denied_read_names_the_rule_and_a_missing_table_none(
    audited: Settings, warehouse: Warehouse
) -> None:
    """What the caller must not be told apart, the audit tells apart."""
    warehouse.create(numbers(10))
    async with running(audited) as server:
        eve = identity("eve")
        assert 404 == await read(server, warehouse.uri(), who=eve)
        assert 404 == await read(server, warehouse.uri("db.missing"))
        missing, denied = await entries(server, 2)
    assert ("eve", "deny eve on tables/**", False) == (
        denied["principal"], denied["tables"][0]["rule"], denied["tables"][0]["allowed"]
    )  # fmt: skip
    assert ("ana", True) == (missing["principal"], missing["tables"][0]["allowed"])
    assert missing["outcome"] == denied["outcome"] != "ok"
    assert [None, None] == [one["tables"][0]["snapshot"] for one in (missing, denied)]


async def test_records_of_a_tenant_are_seen_by_its_administrators_and_operators_only(
    audited: Settings, warehouse: Warehouse
) -> None:
    """Another tenant's administrator is answered as about a tenant that does not exist."""
    warehouse.create(numbers(10))
    ada, bea = identity("ada", scopes="admin:tenants"), identity("bea", "team-b", "admin:tenants")
    async with running(audited) as server:
        await read(server, warehouse.uri())
        await read(server, warehouse.uri(), who=identity("bob", "team-b"))
        assert ["ana"] == [one["principal"] for one in await entries(server, 1, **ada)]
        assert ["bob"] == [one["principal"] for one in await entries(server, 1, **bea)]
        assert ["bob"] == [one["principal"] for one in await entries(server, 1, "?tenant=team-b", **ROOT)]
        async with server.client(**ada) as client:
            other = await client.get(f"{PATH}?tenant=team-b")
            nobody = await client.get(f"{PATH}?tenant=team-x")
        assert (404, 404) == (other.status_code, nobody.status_code)
        assert other.json()["detail"] == nobody.json()["detail"]
        async with server.client() as client:
            assert 403 == (await client.get(PATH)).status_code


async def test_it_is_off_unless_a_tenant_has_it_on(audited: Settings, warehouse: Warehouse) -> None:
    """By the setting, and by a tenant's own value, which a running server takes."""
    warehouse.create(numbers(10))
    async with running(attrs.evolve(audited, access_audit=False)) as server:
        async with server.client(**ROOT) as client:
            path = "/v1/admin/tenants/team-b/limits"
            answer = await client.patch(path, json={"access_audit": True})
            assert 200 == answer.status_code, answer.text
        await read(server, warehouse.uri())
        await read(server, warehouse.uri(), who=identity("bob", "team-b"))
        assert ["bob"] == [one["principal"] for one in await entries(server, 1, "?tenant=team-b")]
        assert [] == await entries(server, 0)


async def test_pages_hold_each_record_once(audited: Settings, warehouse: Warehouse) -> None:
    """By the id of the last one; filters hold on each page."""
    warehouse.create(numbers(10))
    async with running(audited) as server, server.client(**ROOT) as root:
        for number in range(7):
            who = identity("bob" if number % 2 else "ana")
            assert 200 == await read(server, warehouse.uri(), limit=number + 1, who=who)
        everything = await entries(server, 7)
        paged: list[dict[str, Any]] = []
        following: int | None = 10**9
        while following is not None:
            page = (await root.get(f"{PATH}?limit=3&before={following}")).json()
            paged += page["entries"]
            following = page["next"]
        assert everything == paged
        assert [7, 6, 5, 4, 3, 2, 1] == [one["rows"] for one in paged]
        bobs = await entries(server, 3, "?principal=bob")
        assert [6, 4, 2] == [one["rows"] for one in bobs]
        assert 400 == (await root.get(f"{PATH}?since=1")).status_code


class _Full:
    """A store whose writes wait until they may go on."""

    def __init__(self, store: SqlAccesses) -> None:
        self.store = store
        self.may_write = threading.Event()

    def add(self, accesses: Any) -> None:
        if not self.may_write.is_set():
            raise RefusalError(Refused(Reason.UNAVAILABLE, "down", code="metadata_store_down"))
        self.store.add(accesses)


@pytest.mark.parametrize("required", [False, True])
async def test_where_it_cannot_be_written_reads_go_on_or_are_refused(
    audited: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, *, required: bool
) -> None:
    """By the setting: records are dropped and counted, or rows are 503; one tenant's flood drops no other's."""
    warehouse.create(numbers(10))
    monkeypatch.setattr(access_audit, "PLACES", 4)
    monkeypatch.setattr(access_audit, "RETRY_SECONDS", 0.05)
    async with running(attrs.evolve(audited, access_audit_required=required)) as server:
        audit = server.service.registry.resources.accesses
        assert audit is not None
        store = audit.store = _Full(audit.store)  # type: ignore[arg-type, assignment]
        statuses = [await read(server, warehouse.uri(), limit=number + 1) for number in range(5)]
        expected = [200, 200, 503, 503, 503] if required else [200] * 5
        assert expected == statuses
        assert 200 == await read(server, warehouse.uri(), who=identity("bob", "team-b"))
        assert 3 == audit.dropped
        async with server.client() as ana:
            assert 200 == (await ana.get("/v1/me")).status_code
        audit.store = store.store
        assert 2 == len(await entries(server, 2))
        assert 1 == len(await entries(server, 1, "?tenant=team-b"))
        assert 200 == await read(server, warehouse.uri())


async def test_old_records_go_by_days_and_by_bytes(audited: Settings) -> None:
    """The oldest first, of each tenant for itself."""
    async with running(attrs.evolve(audited, access_audit_days=1, access_audit_max_bytes=1000)) as server:
        audit = server.service.registry.resources.accesses
        assert audit is not None
        now = audit.now()

        def access(tenant: str, age: float) -> Access:
            return Access(
                at=now - age, tenant=tenant, principal="p", request_id="r", action="read", outcome="ok"
            )

        def add() -> None:
            audit.store.add([access("team-a", age) for age in (100_000, 90_000, 60, 30)])
            audit.store.add([access("team-b", age) for age in range(20, 0, -1)])

        await trio.to_thread.run_sync(add)
        await audit.trim()
        assert [30, 60] == [
            round(now - access.access.at) for access in audit.store.page("team-a", before=None, limit=9)
        ]
        kept = audit.store.page("team-b", before=None, limit=99)
        assert 1 <= len(kept) < 20
        assert list(range(1, len(kept) + 1)) == [round(now - one.access.at) for one in kept]


async def test_what_is_left_is_written_when_the_server_stops(audited: Settings, warehouse: Warehouse) -> None:
    """A restart has the records of the last moment."""
    warehouse.create(numbers(10))
    async with running(audited) as server:
        await read(server, warehouse.uri())
    async with running(audited) as server:
        assert 1 == len(await entries(server, 1))


async def test_a_record_says_when_it_has_not_all_tables(audited: Settings) -> None:
    """And names of any letters are kept as they are."""
    table = TableAccess(table="wh/db/größe", snapshot=None, rule="allow * on **", allowed=True)
    whole = Access(
        at=1.0, tenant="team-a", principal="ana", request_id="r", action="read", outcome="ok", tables=(table,)
    )
    async with running(audited) as server:
        audit = server.service.registry.resources.accesses
        assert audit is not None
        await trio.to_thread.run_sync(audit.store.add, [whole, attrs.evolve(whole, cut=True)])
        found = await entries(server, 2, "?tenant=team-a")
    assert [True, False] == [one["tables_cut"] for one in found]
    assert [["wh/db/größe"]] * 2 == [[it["table"] for it in one["tables"]] for one in found]
