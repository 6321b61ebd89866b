"""Every route called by every kind of caller: the expected statuses are listed, for exactly the existing routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import chain

import attrs
import pytest
from route_matrix import BODIES, CALLERS, OWN_TENANT, ROUTES, RULES, UNSEEN, has_entry, path_of, routes_of
from service_kit import Running, Warehouse, identity, numbers, running, scan

from strata.acl import print_policy
from strata.artifacts import Act, NameOrder
from strata.config import Settings
from strata.http.routes import HOT
from strata.http.routes.app import create_app


def test_every_route_has_an_entry() -> None:
    """Every route has an entry in tests/support/route_matrix.py, which states who may use it."""
    assert set(ROUTES) == routes_of(create_app(personal=False))
    assert routes_of(create_app(personal=True)) <= set(ROUTES)


def test_a_route_without_an_entry_is_noticed() -> None:
    """A route without an entry is found, with any method."""
    app = create_app(personal=False)
    app.add_url_rule("/v1/new/<thing>", "new", lambda: None, methods=["PATCH"])
    assert {"PATCH /v1/new/<thing>"} == routes_of(app) - set(ROUTES)


@attrs.frozen
class Made:
    """Results that ana of team-a made.

    Attributes:
        known: Parts of paths that name it.
        secrets: What may be in no answer to others.
    """

    known: dict[str, str]
    secrets: tuple[str, ...]


@pytest.fixture
async def guarded(settings: Settings, warehouse: Warehouse, tmp_path) -> AsyncIterator[Running]:
    """Start a server with the matrix's rules in a separate file."""
    warehouse.create(numbers(10))
    rules = tmp_path / "rules.toml"
    rules.write_text(print_policy(RULES))
    changed = attrs.evolve(
        settings,
        acl_config=RULES,
        acl_file=str(rules),
        acl_file_watch_seconds=0,
        auth_failure_burst=10_000,
    )
    async with running(changed) as server:
        yield server


async def made_by_ana(server: Running) -> Made:
    async with server.client(**identity("cyd", "team-c")) as cyd:  # a tenant of none of the callers
        await cyd.get("/v1/names")
    async with server.client(**CALLERS["no scope"]) as writer:
        body = {"title": "Of ana alone", "cells": [{"source": "secret_of_ana = 1"}]}
        notebook = (await writer.post("/v1/notebooks", json=body)).json()["name"]
    async with server.client(**CALLERS["own"]) as ana:
        body = scan("wh:db.events", mode="artifact", name="ana/daily")
        built = (await ana.post("/v1/materialize", json=body)).json()
        while "ready" != (await ana.get(f"/v1/builds/{built['build_id']}")).json()["state"]:
            pass
        stream = (
            await ana.post("/v1/materialize", json=scan("wh:db.events", params={"columns": ["id"]}))
        ).json()
        artifact_id, _, version = built["artifact_uri"].removeprefix("strata://artifact/").partition("@v=")
        record = (await ana.get(f"/v1/artifacts/{artifact_id}/v/{version}")).json()
    act = Act(tenant="team-a", principal="ana", principal_tenant="team-a", action="x", request_id="r")
    registry, target = server.service.registry.resources.registry, (artifact_id, int(version))
    registry.set_alias("team-a", NameOrder(name="ana/daily", act=act), "latest", target)
    registry.set_tag("team-a", target, "stage", "ana/gold", act)
    known = {
        "artifact_id": artifact_id,
        "version": version,
        "build_id": built["build_id"],
        "stream_id": stream["stream_id"],
        "name": "ana/daily",
        "key": "a",
        "alias": "latest",
        "provenance_hash": record["provenance_hash"],
        "tenant": "team-c",
        "notebook": notebook,
        "cell": "c",
        "member": "0" * 16,
        "run": "none",
        "schedule": "none",
        "worker": "none",
    }
    ids = (known[part] for part in ("artifact_id", "build_id", "stream_id", "name"))
    # Not the hash of the bytes: bob's own result of the same table has the same.
    return Made(known, (*ids, record["provenance_hash"], notebook, "secret_of_ana", "ana/gold"))


async def test_every_route_answers_every_caller_as_written(guarded: Running) -> None:
    """Statuses are as listed, and callers without rights see no secret in a body or header."""
    made = await made_by_ana(guarded)
    uploads = chain.from_iterable(guarded.service.app._uploads.values())
    assert all(has_entry(outside, made.known) for outside in (*uploads, *HOT))
    wrong, told = {}, []
    for caller, headers in CALLERS.items():
        async with guarded.client(**headers) as client:
            for route, expected in ROUTES.items():
                method, path = route.partition(" ")[0], path_of(route, made.known)
                answer = await client.request(method, path, json=BODIES.get(route))
                if answer.status_code != expected[caller]:
                    wrong[route, caller] = (expected[caller], answer.status_code, answer.text[:200])
                if method == "GET":
                    head = await client.head(path)
                    if (head.status_code, head.content) != (expected[caller], b""):
                        wrong[f"HEAD {path}", caller] = (expected[caller], head.status_code, "")
                if caller in UNSEEN:
                    text = f"{answer.text} {answer.headers}"
                    told += [(route, caller, word) for word in made.secrets if word in text]
    assert {} == wrong
    assert [] == told


async def test_what_is_not_for_a_caller_is_answered_as_what_there_is_not(guarded: Running) -> None:
    """Another tenant's, a denied and a missing thing get equal bytes and headers on each route that names one."""
    made = await made_by_ana(guarded)
    missing = dict.fromkeys(made.known, "nothing") | {"version": "1"}
    different = []
    for caller in UNSEEN:
        async with guarded.client(**CALLERS[caller], **{"X-Request-ID": "same"}) as client:
            for route, expected in ROUTES.items():
                if 404 != expected[caller] or "<" not in route:
                    continue
                found = []
                for known in (made.known, missing):
                    answer = await client.get(path_of(route, known))
                    headers = {name: value for name, value in answer.headers.items() if name != "date"}
                    found.append((answer.status_code, headers, answer.content))
                if found[0] != found[1]:
                    different.append((route, caller, found))
    assert [] == different


async def test_an_administrator_of_a_tenant_reaches_that_one_only(guarded: Running) -> None:
    """Administration works for the own tenant as listed; another tenant is answered as a missing one."""
    made = await made_by_ana(guarded)
    async with guarded.client(**CALLERS["admin"]) as operator:  # something was done to the other tenant
        limits = path_of("PATCH /v1/admin/tenants/<tenant>/limits", made.known)
        await operator.patch(limits, json={"bulk_slots": 2})
    before = (guarded.service.registry.find("team-c"), guarded.service.tenant_overrides.overrides)
    wrong, told = [], []
    async with guarded.client(**CALLERS["tenant admin"], **{"X-Request-ID": "same"}) as client:

        async def answer(route: str, tenant: str) -> tuple[int, bytes]:
            path = path_of(route, made.known | {"tenant": tenant})
            found = await client.request(route.partition(" ")[0], path, json=BODIES.get(route))
            return found.status_code, found.content

        for route in OWN_TENANT:
            theirs = await answer(route, "team-c")
            if theirs[0] != 404 or theirs != await answer(route, "nobody"):
                wrong.append((route, theirs))
        assert before == (guarded.service.registry.find("team-c"), guarded.service.tenant_overrides.overrides)
        for route, expected in OWN_TENANT.items():
            own = await answer(route, "team-a")
            if own[0] != expected:
                wrong.append((route, own))
        for route in ROUTES:
            if route.startswith(("GET /v1/admin/", "GET /v1/me")):
                told += [route for word in (b"team-c", b"root") if word in (await answer(route, "team-a"))[1]]
    assert [] == wrong
    assert [] == told
