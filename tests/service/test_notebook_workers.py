"""The catalogue of workers: what a caller may use, what operators see and switch, on one server and on two."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from postgres_kit import dsn, new_database
from service_kit import Running, identity, running
from sidecar_kit import cells_at

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.config.fields import NotebookWorker
from strata.notebooks.store import sql_workers
from strata.tenants.sessions.worker_catalogue import WorkerCatalogue

SCOPES = "notebook:read notebook:write notebook:execute"
OPERATOR = "admin:*"
WORKERS = "/v1/admin/notebook-workers"
RULES = Policy(deny=(Rule("eve", "admin/**"),), allow=(Rule("*", "notebooks/**"), Rule("*", "admin/**")))
LOCAL = NotebookWorker("local", memory_bytes=256 << 20)
SPARE = NotebookWorker("spare", memory_bytes=256 << 20, tenants=("team-b", "team-secret"))


def configured(settings: Settings, *workers: NotebookWorker) -> Settings:
    return attrs.evolve(settings, acl_config=RULES, notebook_workers=workers or (LOCAL, SPARE))


@asynccontextmanager
async def called(
    server: Running, scopes: str, tenant: str = "team-a", name: str = "ana"
) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client(**identity(name, tenant, scopes)) as client:
        yield client


async def names(client: httpx.AsyncClient) -> dict[str, bool]:
    """Return the workers that a caller may use, and whether each takes cells now."""
    answer = await client.get("/v1/notebook-workers")
    assert 200 == answer.status_code, answer.text
    return {one["name"]: one["available"] for one in answer.json()["workers"]}


async def worker(client: httpx.AsyncClient, name: str, **query: str) -> dict:
    answer = await client.get(WORKERS, params=query)
    assert 200 == answer.status_code, answer.text
    return next(one for one in answer.json()["workers"] if name == one["name"])


async def begin(client: httpx.AsyncClient, source: str) -> str:
    """Make a notebook of one cell and run it; returns the path of its session."""
    answer = await client.post("/v1/notebooks", json={"title": "N", "cells": [{"id": "c", "source": source}]})
    path = f"/v1/notebooks/{answer.json()['name']}/session"
    answer = await client.post(f"{path}/run", json={"cells": ["c"]})
    assert answer.status_code in (202, 409), answer.text
    return path if answer.status_code == 202 else answer.json()["error"]


async def event(client: httpx.AsyncClient, path: str, kind: str) -> dict:
    """Return the first event of a kind, when it is there."""
    after = 0
    with trio.fail_after(120):
        while True:
            answer = await client.get(f"{path}/events", params={"after": after, "wait": 5})
            after = answer.json()["seq"]
            for one in answer.json()["events"]:
                if kind == one["type"]:
                    return one["payload"]


async def test_a_caller_sees_what_its_tenant_may_use(settings: Settings) -> None:
    """Workers of other tenants, addresses and names of tenants are in no answer to a member."""
    async with running(configured(settings)) as server:
        async with called(server, SCOPES) as ana, called(server, SCOPES, "team-b") as ben:
            assert {"local": True} == await names(ana)
            assert {"local": True, "spare": True} == await names(ben)
            text = (await ben.get("/v1/notebook-workers")).text
            assert "team" not in text
            assert "url" not in text
            listed = (await ana.get("/v1/notebook-workers")).json()["workers"]
            assert [(True, "enabled", 2, 256 << 20)] == [
                (one["default"], one["state"], one["max_concurrent_per_tenant"], one["memory_bytes"]) for one in listed
            ]  # fmt: skip
        async with called(server, "notebook:write") as nobody:
            assert 403 == (await nobody.get("/v1/notebook-workers")).status_code


@pytest.mark.parametrize("scope", ["admin:workers", "admin:notebook-workers", OPERATOR])
async def test_both_names_of_the_scope_administer(settings: Settings, scope: str) -> None:
    """Either scope shows and switches workers; the names of other tenants are for operators."""
    async with running(configured(settings)) as server, called(server, scope) as ada:
        found = await worker(ada, "spare")
        shown = ["team-b", "team-secret"] if scope == OPERATOR else []
        assert shown == found["tenants"]
        assert not found["allowed"]
        changed = await ada.patch(f"{WORKERS}/local", json={"enabled": False})
        assert ["disabled", "enabled"] == [one["state"] for one in changed.json()["workers"]]
        assert ("ana", False) == (
            changed.json()["workers"][0]["changed_by"], changed.json()["workers"][0]["enabled"]
        )  # fmt: skip
        theirs = await ada.put(f"{WORKERS}/spare/tenants/team-b", json={"max_concurrent": 0})
        assert (200 if scope == OPERATOR else 404) == theirs.status_code
        async with called(server, scope, name="eve") as eve:
            assert 403 == (await eve.get(WORKERS)).status_code


async def test_a_worker_is_drained_disabled_and_enabled(settings: Settings) -> None:
    """Draining ends no cell and takes none; disabling interrupts those under way; both outlast a restart."""
    async with (
        running(configured(settings, LOCAL)) as server,
        called(server, SCOPES) as ana,
        called(server, OPERATOR) as root,
    ):
        path = await begin(ana, "import time\nprint('on')\ntime.sleep(600)")
        await event(ana, path, "printed")
        assert 1 == (await worker(root, "local"))["running"]
        assert 200 == (await root.post(f"{WORKERS}/local/drain")).status_code
        assert {"local": False} == await names(ana)
        assert "no_worker" == await begin(ana, "x = 1")
        assert 1 == (await worker(root, "local"))["running"]
        await root.patch(f"{WORKERS}/local", json={"enabled": False})
        assert "interrupted" == (await event(ana, path, "ended"))["how"]
        assert {} == await names(ana)
        audit = (await root.get("/v1/admin/audit")).json()
        acts = [one for one in audit["entries"] if "workers.switch" == one["action"]]
        assert ["disabled", "draining"] == [one["new"]["state"] for one in acts]
    async with running(configured(settings, LOCAL)) as server, called(server, OPERATOR) as root:
        assert "disabled" == (await worker(root, "local"))["state"]
        await root.patch(f"{WORKERS}/local", json={"enabled": True})
        async with called(server, SCOPES) as ana:
            path = await begin(ana, "x = 1")
            assert "ok" == (await event(ana, path, "ended"))["how"]


async def test_the_configuration_counts_more_than_a_switch(settings: Settings) -> None:
    """What the configuration disables stays disabled, and an allowance beyond it gives nothing."""
    off = attrs.evolve(LOCAL, enabled=False)
    async with running(configured(settings, off, SPARE)) as server, called(server, OPERATOR) as root:
        await root.patch(f"{WORKERS}/local", json={"enabled": True})
        assert "disabled" == (await worker(root, "local"))["state"]
        await root.put(f"{WORKERS}/spare/tenants/team-b", json={"max_concurrent": 9})
        async with called(server, SCOPES, "team-b") as ben:
            listed = (await ben.get("/v1/notebook-workers")).json()["workers"]
            assert [2] == [one["max_concurrent_per_tenant"] for one in listed]


async def test_a_tenant_has_an_allowance(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An allowance of nothing is a worker that the tenant has not, and no other tenant notices; it is bounded."""
    monkeypatch.setattr(sql_workers, "MAX_ALLOWANCES", 1)
    async with running(configured(settings, LOCAL)) as server, called(server, OPERATOR) as root:
        of_team_a = f"{WORKERS}/local/tenants/team-a"
        answer = await root.put(of_team_a, json={"max_concurrent": 0})
        assert {"team-a": 0} == answer.json()["workers"][0]["allowances"]
        async with called(server, SCOPES) as ana, called(server, SCOPES, "team-b") as ben:
            assert {} == await names(ana)
            assert "no_worker" == await begin(ana, "x = 1")
            assert {"local": True} == await names(ben)
            await root.put(of_team_a, json={"max_concurrent": 1})
            listed = (await ana.get("/v1/notebook-workers")).json()["workers"]
            assert [1] == [one["max_concurrent_per_tenant"] for one in listed]
            full = await root.put(f"{WORKERS}/local/tenants/team-b", json={"max_concurrent": 1})
            assert (413, "too_many_allowances") == (full.status_code, full.json()["error"])
            back = await root.delete(of_team_a)
            assert {} == back.json()["workers"][0]["allowances"]
        assert (
            404 == (await root.put(f"{WORKERS}/none/tenants/team-a", json={"max_concurrent": 0})).status_code
        )
        assert 422 == (await root.put(of_team_a, json={"max_concurrent": -1})).status_code


async def test_health_of_executors_without_their_secrets(settings: Settings, tmp_path: Path) -> None:
    """Capabilities and outcomes of looks are shown, and no token nor its file; an old look is repeated on demand."""
    token = tmp_path / "token-file"
    token.write_text("secret\n")
    async with cells_at(tmp_path / "executor") as url:
        good = NotebookWorker("good", url, token_file=str(token))
        bad = NotebookWorker("bad", "http://127.0.0.1:1/v1/execute")
        async with running(configured(settings, good, bad)) as server, called(server, OPERATOR) as root:
            found = await worker(root, "good")
            assert ("healthy", "executor", "direct", f"{url}/health") == (
                found["health"], found["backend"], found["transport"], found["health_url"]
            )  # fmt: skip
            assert "notebook_cell@v1" in found["transform_refs"]
            assert 2 == found["features"]["max_cells"]
            gone = await worker(root, "bad")
            assert ("unavailable", 1, 1) == (
                gone["health"], gone["consecutive_failures"], gone["unavailable_probe_count"]
            )  # fmt: skip
            assert "http://127.0.0.1:1/health" == gone["health_url"]
            for _ in range(7):
                answer = await root.post(f"{WORKERS}/bad/refresh")
            again = answer.json()["workers"][1]
            assert (6, 8, 1) == (
                len(again["health_history"]), again["probe_count"], answer.json()["workers"][0]["probe_count"]
            )  # fmt: skip
            text = answer.text + (await root.get(WORKERS, params={"refresh": "true"})).text
            assert "secret" not in text
            assert "token-file" not in text
            assert [True, False] == [
                one["config"]["token"] for one in json.loads(answer.text)["configured_workers"]
            ]
            async with called(server, SCOPES) as ana:
                listed = (await ana.get("/v1/notebook-workers")).json()["workers"]
                assert ["healthy", "unavailable"] == [one["health"] for one in listed]
            assert 400 == (await root.get(WORKERS, params={"refresh": "1"})).status_code


@pytest.mark.slow
async def test_a_switch_holds_for_all_servers(settings: Settings, postgresql: str, tmp_path: Path) -> None:
    """A server of the same database takes over what another one has switched."""
    shared = attrs.evolve(configured(settings, LOCAL), artifact_metadata_dsn=dsn(new_database(postgresql)))
    other = attrs.evolve(shared, cache_dir=str(tmp_path / "other-cache"))
    async with running(shared) as one, running(other) as two, called(one, OPERATOR) as root:
        await root.post(f"{WORKERS}/local/drain")
        resources = two.service.registry.resources
        load = partial(WorkerCatalogue(resources).load, "team-a")
        await load()
        async with called(two, SCOPES) as ana:
            assert {"local": False} == await names(ana)
