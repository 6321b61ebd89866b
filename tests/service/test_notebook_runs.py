"""Runs of whole notebooks: they go on without their caller, end in time, and are kept with what happened."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import httpx
import pytest
import trio
from service_kit import Running, Warehouse, identity, numbers, running
from socket_kit import socket

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.config.fields import NotebookWorker
from strata.notebooks.store.runs import MAX_RUNS, RunRecord
from strata.tenants.sessions import runs as module

ALL = "notebook:*"
RULES = Policy(
    deny=(Rule("rob", "notebooks/**", action="run"), Rule("ben", "tables/**"), Rule("eve", "notebooks/**")),
    allow=(Rule("*", "notebooks/**"), Rule("*", "tables/**")),
)
PARAMETERS = {"id": "p", "source": "month = 1\nlimit = 3", "metadata": {"tags": ["parameters"]}}


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Running]:
    worker = NotebookWorker("local", memory_bytes=256 << 20)
    async with running(attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))) as found:
        yield found


def client(server: Running, who: str = "ana", tenant: str = "team-a") -> httpx.AsyncClient:
    return server.client(**identity(who, tenant, ALL))


async def make(ana: httpx.AsyncClient, *cells: str | dict) -> str:
    """Make a notebook; returns the path of its runs."""
    listed = [
        one if isinstance(one, dict) else {"id": f"c{at}", "source": one} for at, one in enumerate(cells)
    ]
    answer = await ana.post("/v1/notebooks", json={"title": "N", "cells": listed})
    assert 201 == answer.status_code, answer.text
    return f"/v1/notebooks/{answer.json()['name']}/runs"


async def ended(ana: httpx.AsyncClient, path: str, run: str) -> dict:
    with trio.fail_after(120):
        while "running" == (found := (await ana.get(f"{path}/{run}")).json())["state"]:
            pass
    return found


async def begin(ana: httpx.AsyncClient, path: str, **body: object) -> str:
    answer = await ana.post(path, json=body)
    assert 202 == answer.status_code, answer.text
    assert "running" == answer.json()["state"]
    return answer.json()["run"]


async def test_a_run_is_kept_with_how_its_cells_ended(server: Running) -> None:
    """Outcome, console, displays and errors of each cell; a listing has the latest run first."""
    async with client(server) as ana, client(server, "bob", "team-b") as bob:
        path = await make(ana, "x = 1\nprint('one')\nx", "1 / 0", "y = x")
        run = await begin(ana, path)
        found = await ended(ana, path, run)
        assert ("failed", "ana", 1, None) == tuple(
            found[key] for key in ("state", "author", "revision", "schedule")
        )
        assert [("c0", "ok"), ("c1", "raised"), ("c2", "ok")] == [
            (one["cell"], one["how"]) for one in found["cells"]
        ]
        first, second = found["cells"][:2]
        assert ("one\n", ["1"]) == (first["stdout"], first["displays"])
        assert "ZeroDivisionError" in second["message"]
        assert "ZeroDivisionError" in second["traceback"]
        again = await begin(ana, path, force=True)
        await ended(ana, path, again)
        page = (await ana.get(path, params={"limit": 1})).json()
        assert [again] == [one["run"] for one in page["runs"]]
        rest = (await ana.get(path, params={"page_token": page["next_page_token"]})).json()
        assert ([run], None) == ([one["run"] for one in rest["runs"]], rest["next_page_token"])
        assert "" == rest["runs"][0]["cells"][0]["stdout"]
        for one in (path, f"{path}/{run}"):
            assert 404 == (await bob.get(one)).status_code
        assert 404 == (await bob.post(path, json={})).status_code
        assert 404 == (await bob.post(f"{path}/{run}/cancel")).status_code


async def test_members_see_the_results_of_a_run_and_share_them(server: Running) -> None:
    """A run takes results that fit, and leaves its own; who follows the session is told of each."""
    async with client(server) as ana:
        path = await make(ana, "import random\nx = random.random()", "y = x")
        session = path.replace("runs", "session")
        async with socket(server.url, session, **identity("ben", "team-a", ALL)) as ben:
            await ben.event("hello")
            run = await begin(ana, path)
            assert {"cell": "c1", "run": 0, "how": "ok", "message": ""} == await ben.event("ended", cell="c1")
        await ended(ana, path, run)
        before = (await ana.get(session)).json()["cells"]
        assert [[], []] == [one["stale"] for one in before]
        found = await ended(ana, path, await begin(ana, path))
        assert ["reused", "reused"] == [one["how"] for one in found["cells"]]
        assert before == (await ana.get(session)).json()["cells"]


async def test_parameters_replace_the_values_of_the_tagged_cell(server: Running) -> None:
    """Their names are those that the cell defines; the notebook itself stays as it is."""
    async with client(server) as ana:
        path = await make(ana, PARAMETERS, {"id": "c", "source": "print(month, limit, sep='/')"})
        values = {"month": [{"a": None, "b": True}, 'quote"\n']}
        found = await ended(ana, path, await begin(ana, path, parameters=values))
        assert ("ok", values) == (found["state"], found["parameters"])
        assert ["p", "run-parameters", "c"] == [one["cell"] for one in found["cells"]]
        assert """[{'a': None, 'b': True}, 'quote"\\n']/3\n""" == found["cells"][2]["stdout"]
        assert "1/3\n" == (await ended(ana, path, await begin(ana, path)))["cells"][1]["stdout"]
        assert 2 == len((await ana.get(path.removesuffix("/runs"))).json()["cells"])
        for wrong in ({"nothing": 1}, {"class": 1}, {"x y": 1}, {"month;import os": 1}):
            answer = await ana.post(path, json={"parameters": wrong})
            assert (422, "parameter_unknown") == (answer.status_code, answer.json()["error"])
        other = await make(ana, "x = 1")
        assert 422 == (await ana.post(other, json={"parameters": {"x": 2}})).status_code


async def test_a_revision_is_pinned(server: Running) -> None:
    """A run of an earlier revision runs its cells, and takes no result from a later one."""
    async with client(server) as ana:
        path = await make(ana, "x = 1\nx")
        edit = {"revision": 1, "edits": [{"op": "replace", "id": "c0", "source": "x = 2\nx"}]}
        edit["edits"].append({"op": "insert", "id": "new", "after": "c0", "source": "z = 9"})
        assert 200 == (await ana.post(path.replace("runs", "edits"), json=edit)).status_code
        await ended(ana, path, await begin(ana, path))
        found = await ended(ana, path, await begin(ana, path, revision=1))
        assert (1, [["1"]]) == (found["revision"], [one["displays"] for one in found["cells"]])
        cells = (await ana.get(path.replace("runs", "session"))).json()["cells"]
        assert [[], []] == [one["stale"] for one in cells]
        assert 404 == (await ana.post(path, json={"revision": 7})).status_code


async def test_a_run_ends_when_it_is_cancelled_or_late(server: Running) -> None:
    """The cell under way is interrupted, the others are skipped."""
    async with client(server) as ana:
        path = await make(ana, "import time\nprint('begun')\ntime.sleep(300)", "y = 1")
        run = await begin(ana, path)
        assert 200 == (await ana.post(f"{path}/{run}/cancel")).status_code
        found = await ended(ana, path, run)
        assert ("cancelled", "skipped") == (found["state"], found["cells"][1]["how"])
        found = await ended(ana, path, await begin(ana, path, timeout_seconds=0.5))
        assert ("timeout", "skipped") == (found["state"], found["cells"][1]["how"])
        assert 404 == (await ana.post(f"{path}/nothing/cancel")).status_code


async def test_rights_hold_for_runs(server: Running, warehouse: Warehouse) -> None:
    """Who may not run is refused; who may not read a table does not see what cells made of it."""
    warehouse.create(numbers(3))
    async with client(server) as ana, client(server, "ben") as ben, client(server, "rob") as rob:
        path = await make(ana, f'print(strata.fetch("{warehouse.uri()}").num_rows)', "x = 1\nx")
        assert 403 == (await rob.post(path, json={})).status_code
        with trio.fail_after(120):
            while "ok" != (found := await ended(ana, path, await begin(ana, path)))["state"]:
                pass  # on a busy machine the first read of a table may take too long
        assert "3\n" == found["cells"][0]["stdout"]
        seen = (await ben.get(f"{path}/{found['run']}")).json()["cells"]
        assert ("", True, "ok") == tuple(seen[0][key] for key in ("stdout", "hidden", "how"))
        assert (False, ["1"]) == (seen[1]["hidden"], seen[1]["displays"])
        assert 403 == (await rob.post(f"{path}/{found['run']}/cancel")).status_code
        async with server.client(**identity("ana", "team-a", "notebook:read")) as reader:
            assert 403 == (await reader.post(path, json={})).status_code
            assert 200 == (await reader.get(path)).status_code


async def test_runs_at_a_time_are_bounded(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant's runs beyond the bound are refused, and another tenant's are not."""
    monkeypatch.setattr(module, "MAX_RUNNING", 1)
    async with client(server) as ana, client(server, "bob", "team-b") as bob:
        path, other = await make(ana, "import time\ntime.sleep(300)"), await make(bob, "x = 1")
        run = await begin(ana, path)
        answer = await ana.post(path, json={})
        assert (429, "too_many_runs") == (answer.status_code, answer.json()["error"])
        await ended(bob, other, await begin(bob, other))
        await ana.post(f"{path}/{run}/cancel")
        await ended(ana, path, run)


async def test_a_run_whose_server_was_killed_is_lost(server: Running) -> None:
    """Its row says until when it was believed to run; a deleted notebook's runs are gone."""
    async with client(server) as ana:
        path = await make(ana, "x = 1")
        name = path.split("/")[3]
        store = server.service.registry.resources.notebooks.runs
        await ended(ana, path, await begin(ana, path))
        finished = store.list_runs("team-a", name, before=None, limit=9)[0]
        for run, until in (("f1", 0.0), ("f2", 2e12)):
            row = attrs.evolve(finished, run=run, state="running", ended_at=None, alive_until=until)
            assert isinstance(row, RunRecord)
            store.add("team-a", name, row, _act(name))
        assert ["running", "lost", "ok"] == [one["state"] for one in (await ana.get(path)).json()["runs"]]
        for at in range(MAX_RUNS):
            store.add("team-a", name, attrs.evolve(finished, run=f"g{at:03}"), _act(name))
        kept = store.list_runs("team-a", name, before=None, limit=1000)
        assert {"f1", "f2"} <= {one.run for one in kept}  # they have not ended
        assert MAX_RUNS + 2 == len(kept)
        assert 200 == (await ana.delete(path.removesuffix("/runs"))).status_code
        assert () == store.list_runs("team-a", name, before=None, limit=9)
        assert "Notebook not found" == store.add("team-a", name, finished, _act(name)).detail


def _act(name: str) -> module.Act:
    return module.Act(
        tenant="team-a",
        principal="ana",
        principal_tenant="team-a",
        action="notebooks.run",
        request_id="r",
        old=None,
        new=name,
    )
