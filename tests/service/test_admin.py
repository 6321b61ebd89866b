"""Administration of tenants over HTTP: permissions, effects, and the audit log."""

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import httpx
import pyarrow as pa
import pytest
import structlog
import trio
from reading_here import read_here
from service_kit import Running, Warehouse, crashing_actor, fetch, identity, numbers, running, scan

from strata import acl
from strata.artifacts import STORE_DOWN
from strata.cache import CacheShard
from strata.config import Settings
from strata.config.fields import TenantSection
from strata.outcomes import RefusalError
from strata.tenants import State
from strata.tenants.builds import scan_pipeline
from strata.work import Tier

OPERATOR = identity("root", "ops", "admin:*")
ADMIN = identity("ada", "team-a", "admin:tenants admin:limits")
LOOKS = identity("lou", "team-a", "admin:tenants")
ANA = identity("ana", "team-a")
BOB = identity("bob", "team-b")

A, B = "/v1/admin/tenants/team-a", "/v1/admin/tenants/team-b"

ROUTES = [
    ("GET", "/v1/admin/tenants", 200, 200),
    ("GET", "/v1/admin/audit", 200, 200),
    ("GET", A, 200, 200),
    ("GET", f"{A}/limits", 200, 200),
    ("PATCH", f"{A}/limits", 200, 200),
    ("DELETE", f"{A}/limits", 200, 200),
    ("POST", f"{A}/evict", 200, 200),
    ("POST", f"{A}/restart", 200, 200),
    ("POST", f"{A}/drain", 200, 200),
    ("POST", f"{A}/enable", 200, 403),
    ("POST", f"{A}/disable", 200, 403),
    ("GET", "/v1/admin/servers", 200, 403),
    ("POST", "/v1/admin/drain", 200, 403),
    ("DELETE", "/v1/admin/drain", 200, 403),
]
"""Every route of administration: what an operator is answered, and what the tenant's own administrator is."""


async def call(server: Running, method: str, path: str, who: dict[str, str], **more: Any) -> httpx.Response:
    async with server.client(**who) as client:
        body = {"json": {}} if method == "PATCH" else {}
        return await client.request(method, path, **body | more)


@pytest.mark.parametrize(("method", "path", "operator", "own"), ROUTES)
async def test_who_may_administer_what(  # noqa: PLR0917  # one argument a column
    server: Running, warehouse: Warehouse, method: str, path: str, operator: int, own: int
) -> None:
    """Operators may do everything, administrators of a tenant only what concerns it, other callers nothing."""
    warehouse.create(numbers(10))
    for who in (ANA, BOB):
        async with server.client(**who) as client:
            await fetch(client, scan(warehouse.uri()))

    async def answered(headers: dict[str, str]) -> int:
        return (await call(server, method, path, headers)).status_code

    stranger = {name: value for name, value in OPERATOR.items() if name != "X-Strata-Proxy-Token"}
    assert (401, 403, 403) == (await answered(stranger), await answered(ANA), await answered(BOB))
    assert (operator, own) == (await answered(OPERATOR), await answered(ADMIN))
    if "team-a" in path:
        elsewhere = identity("eve", "team-b", "admin:tenants admin:limits admin:cache admin:metrics")
        theirs = await call(server, method, path, elsewhere, headers={"X-Request-ID": "same"})
        nobodys = await call(
            server, method, path.replace("team-a", "nobody"), elsewhere, headers={"X-Request-ID": "same"}
        )
        assert 404 == theirs.status_code
        assert theirs.content == nobodys.content, "another tenant is one that does not exist"


async def test_lists_have_what_the_caller_may_see(server: Running, warehouse: Warehouse) -> None:
    """Lists have tenants that run, have results or have limits; pages neither overlap nor omit any."""
    warehouse.create(numbers(10))
    for who in ("t3", "t1", "t2"):
        async with server.client(**identity("ana", who)) as client:
            await fetch(client, scan(warehouse.uri()))
    await call(server, "PATCH", "/v1/admin/tenants/t0/limits", OPERATOR, json={"bulk_slots": 1})
    await call(server, "POST", "/v1/admin/tenants/t2/evict", OPERATOR)

    seen, query = [], "limit=2"
    while query is not None:
        page = (await call(server, "GET", f"/v1/admin/tenants?{query}", OPERATOR)).json()
        seen += [(found["tenant"], found["state"]) for found in page["tenants"]]
        query = page["next"] and f"limit=2&after={page['next']}"
    own = (await call(server, "GET", "/v1/admin/tenants", ADMIN)).json()

    assert [("t0", "absent"), ("t1", "running"), ("t2", "absent"), ("t3", "running")] == seen
    assert ["team-a"] == [found["tenant"] for found in own["tenants"]]
    for wrong in ("limit=0", "limit=x", "after=/", "after=", "page=2"):
        assert 400 == (await call(server, "GET", f"/v1/admin/tenants?{wrong}", OPERATOR)).status_code
    assert 404 == (await call(server, "GET", "/v1/admin/tenants/t9", OPERATOR)).status_code


def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Make builds read nothing until the event is set."""
    gate = threading.Event()
    real = scan_pipeline.read_slice

    def read_slice(*args: Any) -> Any:
        gate.wait(30)
        return real(*args)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", read_slice)
    return gate


async def test_a_tenant_is_described_while_it_works(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A description has slots, builds, cache, artifacts and last error codes of one tenant only."""
    warehouse.create(numbers(10))
    async with server.client(**BOB) as bob:
        await fetch(bob, scan(warehouse.uri()))
    gate = slow(monkeypatch)
    await call(server, "PATCH", f"{A}/limits", OPERATOR, json={"max_concurrent_scans": 1})
    async with server.client(**ANA) as ana:
        begun = (await ana.post("/v1/materialize", json=scan(warehouse.uri(), mode="artifact"))).json()
        busy = await ana.post("/v1/materialize", json=scan(warehouse.uri(), params={"columns": ["id"]}))
        assert 429 == busy.status_code
        found = (await call(server, "GET", A, ADMIN)).json()
        gate.set()
        while "ready" != (await ana.get(f"/v1/builds/{begun['build_id']}")).json()["state"]:
            pass

    assert ("team-a", "running", True, False, 0) == tuple(
        found[key] for key in ("tenant", "state", "enabled", "drained", "restarts")
    )
    assert [begun["build_id"]] == [build["build_id"] for build in found["usage"]["in_flight"]]
    assert {"interactive": 1, "bulk": 0} == {use["tier"]: use["used"] for use in found["usage"]["slots"]}
    assert ["max_concurrent_scans"] == [error["code"] for error in found["last_errors"]]
    expected = {"value": 1, "source": "operator", "maximum": None, "granted": 1}
    assert expected.items() <= found["limits"]["max_concurrent_scans"].items()
    assert {"building": 1} == found["artifacts"]["by_state"]
    assert 0 == found["usage"]["cache"]["hits"]


async def test_a_limit_that_is_changed_holds_for_the_next_request(
    server: Running, warehouse: Warehouse
) -> None:
    """A changed limit applies to the next request exactly, in both directions, and to no other tenant."""
    warehouse.create(numbers(1000))
    body = scan(warehouse.uri(), mode="artifact", refresh=True)
    async with server.client(**ANA) as ana, server.client(**BOB) as bob:
        size = (await made(ana, body))["byte_size"]
        for most, code in ((size, None), (size - 1, "response_too_large"), (None, None)):
            change = {"max_response_bytes": most}
            await call(server, "PATCH", f"{A}/limits", OPERATOR, json=change)
            assert code == (await made(ana, body))["error_code"]
            assert None is (await made(bob, body))["error_code"]


async def made(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    """Build in artifact mode, wait for the end, and return the build's and the result's record."""
    begun = (await client.post("/v1/materialize", json=body)).json()
    while True:
        found = (await client.get(f"/v1/builds/{begun['build_id']}")).json()
        if found["state"] in ("ready", "failed"):
            path = f"/v1/artifacts/{found['artifact_id']}/v/{found['version']}"
            return found | {"byte_size": (await client.get(path)).json()["byte_size"]}


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for a condition that has no event."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  # the same
            await trio.sleep(0.01)


class Gates:
    """Let slices of row groups be read one at a time, each when it is released; none comes from the cache."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gates = [threading.Event() for _ in range(9)]
        waiting, real = iter(self.gates), scan_pipeline.read_slice

        def read_slice(*args: Any) -> Any:
            next(waiting).wait(30)
            return real(*args)

        read_here(monkeypatch)
        monkeypatch.setattr(scan_pipeline, "read_slice", read_slice)
        monkeypatch.setattr(CacheShard, "lookup", lambda *_: None)


def small(uri: str, number: int) -> dict[str, Any]:
    """Return a different scan for each number."""
    condition = {"column": "id", "op": "=", "value": number}
    return scan(uri, mode="artifact", params={"filters": [condition]})


async def test_lowered_slots_drain_and_are_never_given_twice(
    settings: Settings, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three slots become two, a fourth build waits until two have ended, in the same actor."""
    warehouse.create(numbers(10))
    gates = Gates(monkeypatch).gates
    async with (
        running(attrs.evolve(settings, work_slots=8)) as server,
        server.client(**ANA) as ana,
        trio.open_nursery() as nursery,
    ):
        for number in range(3):
            await ana.post("/v1/materialize", json=small(warehouse.uri(), number))
        [tenant] = server.service.registry.tenants()
        actor, slots = tenant.actor, tenant.actor.builder.slots[Tier.INTERACTIVE]
        await call(server, "PATCH", f"{A}/limits", OPERATOR, json={"interactive_slots": 2})
        await until(lambda: 2 == slots.total, seconds=1)
        nursery.start_soon(partial(ana.post, "/v1/materialize", json=small(warehouse.uri(), 3)))
        await until(lambda: slots.waiting)
        assert (3, 1) == (slots.used, slots.waiting)
        gates[0].set()
        await until(lambda: 2 == slots.used)
        assert (2, 1) == (slots.used, slots.waiting)
        gates[1].set()
        await until(lambda: not slots.waiting)
        assert 2 == slots.used
        for gate in gates:
            gate.set()
        await until(lambda: not slots.used)
        assert actor is tenant.actor
        assert 0 == tenant.metrics.restarts


async def test_limits_are_checked_before_any_of_them_is_changed(settings: Settings) -> None:
    """Unknown, mistyped, out-of-bounds and too large limits are each named, and no limit changes."""
    changed = attrs.evolve(settings, tenants={"team-a": TenantSection({}, {"bulk_slots": 9})})
    async with running(changed) as server:
        for body, status, loc in (
            ({"bulk_slot": 1}, 400, ["body", "bulk_slot"]),
            ({"port": 1}, 400, ["body", "port"]),
            ({"bulk_slots": "1"}, 422, ["body", "bulk_slots"]),
            ({"bulk_slots": 0}, 422, ["body", "bulk_slots"]),
            ({"bulk_slots": 10, "batch_size": 1}, 422, ["body", "bulk_slots"]),
            ({"weight": 101}, 422, ["body", "weight"]),
            ({"enabled": 1}, 422, ["body", "enabled"]),
            ([], 422, ["body"]),
        ):
            answer = await call(server, "PATCH", f"{A}/limits", OPERATOR, json=body)
            assert (status, loc) == (answer.status_code, answer.json()["errors"][0]["loc"]), body
        over = await call(
            server, "PATCH", f"{A}/limits", ADMIN, json={"bulk_slots": 9, "interactive_slots": 33}
        )
        assert ["bulk_slots", "interactive_slots"] == sorted(
            error["loc"][1] for error in over.json()["errors"]
        )
        found = (await call(server, "GET", f"{A}/limits", ADMIN)).json()["limits"]
        assert {"default"} == {
            limit["source"]
            for name, limit in found.items()
            if name != "max_cache_size_bytes" and not name.startswith("rate_limit_")  # which the fixture says
        }
        assert [] == (await call(server, "GET", "/v1/admin/audit", OPERATOR)).json()["entries"]


async def test_changes_survive_a_restart_of_the_server(settings: Settings) -> None:
    """Limits, disabled tenants and the audit log survive a restart."""
    async with running(settings) as server:
        await call(server, "PATCH", f"{A}/limits", OPERATOR, json={"bulk_slots": 3, "weight": 2})
        await call(server, "PATCH", f"{A}/limits", ADMIN, json={"bulk_slots": 2})
        await call(server, "POST", f"{B}/disable", OPERATOR)
    async with running(settings) as server:
        found = (await call(server, "GET", f"{A}/limits", ADMIN)).json()["limits"]
        assert ((2, "tenant", 3), (2.0, "operator")) == (
            tuple(found["bulk_slots"][key] for key in ("value", "source", "granted")),
            (found["weight"]["value"], found["weight"]["source"]),
        )
        assert 403 == (await call(server, "GET", "/v1/artifacts", BOB)).status_code
        assert 3 == len((await call(server, "GET", "/v1/admin/audit", OPERATOR)).json()["entries"])
        await call(server, "DELETE", f"{A}/limits", ADMIN)
        found = (await call(server, "DELETE", f"{A}/limits", OPERATOR)).json()["limits"]
        assert (8, "default") == (found["bulk_slots"]["value"], found["bulk_slots"]["source"])


async def test_a_disabled_tenant_is_403_and_has_no_actor(server: Running, warehouse: Warehouse) -> None:
    """A disabled tenant gets 403 and starts no actor; its work ends, it cannot enable itself, others are served."""
    warehouse.create(numbers(10))
    registry = server.service.registry
    async with server.client(**ANA) as ana, server.client(**BOB) as bob:
        await fetch(ana, scan(warehouse.uri()))
        done = (await call(server, "POST", f"{A}/disable", OPERATOR)).json()
        assert ("disable", True) == (done["action"], done["changed"])
        await until(lambda: registry.find("team-a") is None)
        for method, path in (("GET", "/v1/artifacts"), ("POST", "/v1/materialize"), ("GET", "/v1/names")):
            body = {"json": scan(warehouse.uri())} if method == "POST" else {}
            refused = await ana.request(method, path, **body)
            assert (403, "tenant_disabled") == (refused.status_code, refused.json()["error"])
        assert None is registry.find("team-a")
        assert "operator_only" == (await call(server, "POST", f"{A}/enable", ADMIN)).json()["error"]
        assert 422 == (await call(server, "PATCH", f"{A}/limits", ADMIN, json={"enabled": True})).status_code
        assert 10 == (await fetch(bob, scan(warehouse.uri()))).num_rows
        await call(server, "POST", f"{A}/enable", OPERATOR)
        assert (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]


@pytest.mark.parametrize("action", ["evict", "restart"])
async def test_a_stopped_actor_loses_no_ready_result(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Waiting requests get 503, a stream is cut without its marker, and every ready result is found again."""
    warehouse.create(numbers(10))
    registry = server.service.registry
    async with server.client(**ANA) as ana, server.client(**BOB) as bob:
        await fetch(ana, scan(warehouse.uri()))
        assert (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]
        await call(server, "POST", "/v1/cache/clear", identity("root", "team-a", "admin:*"))
        gate = slow(monkeypatch)
        answers: list[httpx.Response] = []

        async def ask() -> None:
            body = scan(warehouse.uri(), params={"columns": ["id"]})
            url = (await ana.post("/v1/materialize", json=body)).json()["stream_url"]
            answers.append(await ana.get(url))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await until(lambda: 1 == registry.find("team-a").actor.unread)
            actor = registry.find("team-a").actor
            done = await call(server, "POST", f"{A}/{action}", ADMIN)
            assert (200, True) == (done.status_code, done.json()["changed"])
            gate.set()
        [answer] = answers
        assert 503 == answer.status_code
        assert int(answer.headers["Retry-After"]) >= 1
        await until(lambda: registry.find("team-a") is None or registry.find("team-a").state is State.RUNNING)
        again = await ana.post("/v1/materialize", json=scan(warehouse.uri()))
        assert again.json()["hit"]
        assert registry.find("team-a").actor is not actor
        assert (
            10 == pa.ipc.open_stream((await ana.get(again.json()["stream_url"])).content).read_all().num_rows
        )
        assert 10 == (await fetch(ana, scan(warehouse.uri(), params={"columns": ["id"]}))).num_rows
        assert 10 == (await fetch(bob, scan(warehouse.uri()))).num_rows


async def test_a_restart_brings_a_tenant_back_that_is_down(settings: Settings, warehouse: Warehouse) -> None:
    """`restart` starts a tenant that is down, without restarting the server."""
    warehouse.create(numbers(10))
    async with running(attrs.evolve(settings, max_tenant_crashes=0)) as server, server.client(**ANA) as ana:
        await fetch(ana, scan(warehouse.uri()))
        assert (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]
        [tenant] = server.service.registry.tenants()
        assert State.RUNNING is tenant.state
        with structlog.testing.capture_logs(), crashing_actor("team-a"):  # rendering its traceback takes long
            await ana.get("/v1/names")
        down = (await call(server, "GET", A, ADMIN)).json()
        assert ("down", 1, [("AttributeError", "crash")]) == (
            down["state"],
            down["restarts"],
            [(error["code"], error["what"]) for error in down["last_errors"]],
        )
        assert "running" == (await call(server, "POST", f"{A}/restart", ADMIN)).json()["state"]
        assert (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]


async def test_a_drained_tenant_ends_its_work_and_takes_no_more(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drained tenant finishes announced streams and stops; a restart ends the drain."""
    warehouse.create(numbers(10))
    gate = slow(monkeypatch)
    registry = server.service.registry
    async with server.client(**ANA) as ana:
        url = (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["stream_url"]
        await call(server, "POST", f"{A}/drain", ADMIN)
        refused = await ana.post("/v1/materialize", json=scan(warehouse.uri()))
        assert (503, "tenant_drained") == (refused.status_code, refused.json()["error"])
        gate.set()
        data = await ana.get(url)
        assert 10 == pa.ipc.open_stream(data.content).read_all().num_rows
        registry.find("team-a").actor.materializer.streams.clear()  # instead of their time to live
        await until(lambda: registry.find("team-a") is None)
        assert 503 == (await ana.get("/v1/artifacts")).status_code
        assert ("absent", True) == (
            (found := (await call(server, "GET", A, ADMIN)).json())["state"],
            found["drained"],
        )
        await call(server, "POST", f"{A}/restart", ADMIN)
        assert (await ana.post("/v1/materialize", json=scan(warehouse.uri()))).json()["hit"]


async def test_the_server_can_be_taken_out_of_the_rotation(server: Running) -> None:
    """A drained server is not ready, still answers requests, and can become ready again."""
    assert "draining" == (await call(server, "POST", "/v1/admin/drain", OPERATOR)).json()["status"]
    assert 503 == (await call(server, "GET", "/health/ready", OPERATOR)).status_code
    assert 200 == (await call(server, "GET", "/v1/artifacts", ANA)).status_code
    assert "ready" == (await call(server, "DELETE", "/v1/admin/drain", OPERATOR)).json()["status"]
    assert 200 == (await call(server, "GET", "/health/ready", OPERATOR)).status_code


async def test_the_audit_says_who_did_what_and_each_tenant_sees_its_own(server: Running) -> None:
    """Entries have old and new values, time and request id; a tenant does not see names of foreign operators."""
    mine = {"X-Request-ID": "r-1"}
    await call(server, "PATCH", f"{A}/limits", OPERATOR, json={"bulk_slots": 4}, headers=mine)
    await call(server, "PATCH", f"{A}/limits", ADMIN, json={"bulk_slots": 3}, headers={"X-Request-ID": "r-2"})
    await call(server, "PATCH", f"{A}/limits", ADMIN, json={"bulk_slots": 5})
    await call(server, "POST", f"{B}/disable", OPERATOR)
    await call(server, "POST", "/v1/admin/drain", OPERATOR)

    everything = (await call(server, "GET", "/v1/admin/audit", OPERATOR)).json()["entries"]
    assert ["server.drain", "tenant.disable", "limits.change", "limits.change"] == [
        entry["action"] for entry in everything
    ]
    assert [None, "team-b", "team-a", "team-a"] == [entry["tenant"] for entry in everything]
    first = everything[-1]
    assert ("root", "ops", {"bulk_slots": None}, {"bulk_slots": 4}, "r-1") == tuple(
        first[key] for key in ("principal", "principal_tenant", "old", "new", "request_id")
    )
    own = (await call(server, "GET", "/v1/admin/audit", LOOKS)).json()["entries"]
    assert [("ada", "r-2", False), (None, None, True)] == [
        (entry["principal"], entry["request_id"], entry["from_elsewhere"]) for entry in own
    ]
    assert "ops" not in str(own)
    assert "root" not in str(own)
    for path, status in (("?tenant=team-a", 200), ("?tenant=team-b", 404), ("?tenant=/", 404), ("?x=1", 400)):
        assert status == (await call(server, "GET", f"/v1/admin/audit{path}", LOOKS)).status_code
    page = (await call(server, "GET", "/v1/admin/audit?limit=3", OPERATOR)).json()
    rest = (await call(server, "GET", f"/v1/admin/audit?before={page['next']}", OPERATOR)).json()
    assert (everything, None) == (page["entries"] + rest["entries"], rest["next"])


async def test_what_cannot_be_noted_is_not_done(
    server: Running, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    """An action whose audit entry cannot be written is refused with 503, and succeeds later."""
    warehouse.create(numbers(10))
    async with server.client(**ANA) as ana:
        await fetch(ana, scan(warehouse.uri()))

    def down(*_args: object) -> None:
        raise RefusalError(STORE_DOWN)

    monkeypatch.setattr(server.service.registry.resources.metadata, "add_audit", down)
    for method, path, _, _ in ROUTES:
        if method != "GET":
            answer = await call(server, method, path, OPERATOR)
            assert (503, "metadata_store_down") == (answer.status_code, answer.json()["error"]), path
    assert "running" == (await call(server, "GET", A, OPERATOR)).json()["state"]
    assert 200 == (await call(server, "GET", "/health/ready", OPERATOR)).status_code


async def test_access_rules_hold_for_administration(settings: Settings) -> None:
    """A scope does not suffice where access rules deny the action."""
    policy = acl.Policy(allow=(acl.Rule("root", "admin/**", action="admin"),), default="deny")
    async with running(attrs.evolve(settings, acl_config=policy)) as server:
        for method, path, _, own in ROUTES:
            allowed = await call(server, method, path.replace("team-a", "ops"), OPERATOR)
            assert 200 == allowed.status_code, path
            denied = await call(server, method, path, ADMIN)
            assert 403 == denied.status_code, path
            assert ("access_denied" if own == 200 else denied.json()["error"]) == denied.json()["error"]


async def test_describing_a_tenant_starts_nothing(server: Running) -> None:
    """Neither an administrator's description nor `/v1/me` starts an actor."""
    for path, who in ((A, ADMIN), (A, OPERATOR), ("/v1/admin/tenants", OPERATOR), ("/v1/me", ANA)):
        await call(server, "GET", path, who)
    assert [] == list(server.service.registry.tenants())
