"""GET /v1/me: how the server understands a proxy's headers, and what would be refused."""

import threading
from typing import Any

import attrs
import httpx
import pytest
from reading_here import read_here
from service_kit import TOKEN, Running, Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings
from strata.tenants.builds import scan_pipeline

LIMITED = {"bulk_slots": 3}


async def me(server: Running, headers: dict[str, str]) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as client:
        answer = await client.get("/v1/me")
    assert 200 == answer.status_code, answer.text
    return answer.json()


def refused(found: dict[str, Any]) -> dict[str, str]:
    """Return what would be refused, with its code."""
    return {check["what"].split(":")[0]: check["error"] for check in found["checks"] if not check["allowed"]}


def scopes(found: dict[str, Any]) -> list[str]:
    lacking = (check["what"] for check in found["checks"] if "missing_scope" == check["error"])
    return [what.rsplit(": ", 1)[0] for what in lacking]


async def test_the_identity_is_shown_as_it_was_understood(server: Running) -> None:
    """The answer has the identity and the names of its headers, but not the token or any other header."""
    found = await me(
        server, identity("ana", "team-a", "notebook:read admin:cache") | {"X-Secret": "s3cr3t-value"}
    )
    assert ("ana", "team-a", ["admin:cache", "notebook:read"], False, False) == tuple(
        found[key] for key in ("principal", "tenant", "scopes", "unrestricted", "operator")
    )
    assert {
        "X-Strata-Proxy-Token": ("token", True), "X-Strata-Principal": ("principal", True),
        "X-Strata-Scopes": ("scopes", True), "X-Tenant-ID": ("tenant", True), "X-Strata-Tenant": ("tenant_alias", False),
    } == {header["name"]: (header["role"], header["seen"]) for header in found["headers"]}  # fmt: skip
    assert TOKEN not in str(found)
    assert "s3cr3t-value" not in str(found)


async def test_a_proxy_that_is_wrong_is_found_in_one_request(settings: Settings) -> None:
    """Missing scopes, a missing tenant and wrongly named headers are visible in one answer."""
    changed = attrs.evolve(settings, require_tenant_header=False, scopes_header="X-May")
    headers = identity(scopes="admin:*")
    del headers["X-Tenant-ID"]
    async with running(changed) as server:
        found = await me(server, headers)
    assert ([], "_default") == (found["scopes"], found["tenant"])
    assert {"X-May": False, "X-Tenant-ID": False} == {
        header["name"]: header["seen"]
        for header in found["headers"]
        if header["name"] in ("X-May", "X-Tenant-ID")
    }
    assert "no_tenant" == refused(found)["a tenant of one's own"]
    assert [
        "admin:cache",
        "admin:metrics",
        "admin:tenants",
        "admin:limits",
        "admin:workers",
        "admin:*",
    ] == scopes(found)


async def test_an_operator_lacks_nothing(server: Running) -> None:
    """An operator is refused nothing except direct writes."""
    found = await me(server, identity("root", "ops", "admin:*"))
    assert (True, {"direct writes": "writes_disabled"}) == (found["operator"], refused(found))


async def test_limits_and_usage_are_those_of_the_own_tenant(server: Running, warehouse: Warehouse) -> None:
    """Limits and usage are the tenant's; usage is absent before its first work, which the request does not start."""
    warehouse.create(numbers(10))
    await server.service.tenant_overrides.change("team-b", LIMITED, operator=True, note=unnoted)
    before = await me(server, identity("bob", "team-b"))
    assert ("absent", None, 3, "operator") == (
        before["state"],
        before["usage"],
        before["limits"]["bulk_slots"]["value"],
        before["limits"]["bulk_slots"]["source"],
    )
    async with server.client(**identity("bob", "team-b")) as bob:
        await fetch(bob, scan(warehouse.uri()))
    after = await me(server, identity("bob", "team-b", "admin:cache"))
    other = await me(server, identity())
    assert ("running", 1, 3) == (
        after["state"],
        after["usage"]["cache"]["misses"],
        {use["tier"]: use["total"] for use in after["usage"]["slots"]}["bulk"],
    )
    assert ("absent", 8) == (other["state"], other["limits"]["bulk_slots"]["value"])


async def test_usage_says_nothing_of_what_others_of_the_tenant_do(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other principals' builds are counted but not shown, nor is the cache without `admin:cache`."""
    warehouse.create(numbers(10))
    gate, real = threading.Event(), scan_pipeline.read_slice

    def slow(*args: Any) -> Any:
        gate.wait(30)
        return real(*args)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", slow)
    async with server.client() as ana:
        made = await ana.post("/v1/materialize", json=scan(warehouse.uri()))
    assert not made.json()["hit"]
    own, others = await me(server, identity()), await me(server, identity("eve", scopes="admin:tenants"))
    gate.set()
    assert [[made.json()["build_id"]], []] == [
        [build["build_id"] for build in found["usage"]["in_flight"]] for found in (own, others)
    ]
    assert [None, None] == [found["usage"]["cache"] for found in (own, others)]
    assert [1, 1] == [sum(use["used"] for use in found["usage"]["slots"]) for found in (own, others)]


async def unnoted(_change: object) -> None:
    """Write no audit entries."""


STATES = [
    ("disabled", 403, "tenant_disabled"),
    ("drained", 503, "tenant_drained"),
    ("draining", 503, "draining"),
    ("full", 503, "too_many_tenants"),
]


@pytest.mark.parametrize("case", STATES)
async def test_what_is_refused_is_what_would_be(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, case: tuple[str, int, str]
) -> None:
    """A check has the status and code of the refused request, and `/v1/me` itself is answered."""
    state, status, error = case
    warehouse.create(numbers(10))
    gate, real = threading.Event(), scan_pipeline.read_slice

    def slow(*args: Any) -> Any:
        gate.wait(30)
        return real(*args)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", slow)
    async with running(attrs.evolve(settings, max_tenants=1)) as server:
        registry = server.service.registry
        if state == "disabled":
            await server.service.tenant_overrides.change(
                "team-a", {"enabled": False}, operator=True, note=unnoted
            )
        elif state == "drained":
            registry.drained.add("team-a")
        elif state == "draining":
            registry.draining = True
        else:
            async with server.client(**identity("bob", "team-b")) as bob:
                await bob.post("/v1/materialize", json=scan(warehouse.uri()))  # a build that goes on
        found = await me(server, identity())
        async with server.client() as ana:
            answer = await ana.post("/v1/materialize", json=scan(warehouse.uri()))
        [check] = [check for check in found["checks"] if check["what"] == "POST /v1/materialize"]
        assert (status, error) == (check["status"], check["error"])
        assert (answer.status_code, answer.json()["error"]) == (check["status"], check["error"])
        gate.set()


async def test_no_free_slot_is_said_before_one_waits(settings: Settings, warehouse: Warehouse) -> None:
    """Full slots and the maximum of builds are shown before a request waits for them."""
    warehouse.create(numbers(10))
    async with running(settings) as server, server.client() as ana:
        await fetch(ana, scan(warehouse.uri()))
        assert {"direct writes"} == set(refused(await me(server, identity(scopes="admin:*"))))
        [tenant] = server.service.registry.tenants()
        held = []
        for slots in tenant.actor.builder.slots.values():
            held += [await slots.queue("ana").wait(1) for _ in range(slots.total)]
        found = refused(await me(server, identity(scopes="admin:*")))
        assert {"interactive_slots", "bulk_slots", "writes_disabled"} == set(found.values())
        for lease in held:
            lease.release()


async def test_without_an_identity_there_is_no_me(server: Running) -> None:
    """A request without a token is refused, also here."""
    async with httpx.AsyncClient(base_url=server.url) as nobody:
        assert 401 == (await nobody.get("/v1/me")).status_code


async def test_personal_mode_has_one_user_who_may_do_everything(settings: Settings) -> None:
    """In personal mode the only user is refused nothing, without any header."""
    personal = Settings(artifact_dir=settings.artifact_dir, cache_dir=settings.cache_dir)
    async with running(personal) as server:
        found = await me(server, {})
    assert ("local", True, True, [], {}) == (
        found["principal"],
        found["unrestricted"],
        found["operator"],
        found["headers"],
        refused(found),
    )
