"""Cells of notebooks on an executor, over HTTP: results, tables with rights, and a worker that is not there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from service_kit import Running, Warehouse, identity, numbers, running
from sidecar_kit import cells_at
from wheels_kit import wheel

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.config.fields import NotebookEnvironment, NotebookWorker
from strata.executor.sidecar import app, cells
from strata.executor.sidecar.environments import Environments, Index

SCOPES = "notebook:read notebook:write notebook:execute"
RULES = Policy(deny=(Rule("ben", "tables/**"),), allow=(Rule("*", "notebooks/**"), Rule("*", "tables/**")))


def token_file(tmp_path: Path) -> Path:
    """Return a file with the token of :func:`cells_at`."""
    path = tmp_path / "token"
    path.write_text("secret\n")
    return path


@asynccontextmanager
async def member(server: Running, name: str) -> AsyncIterator[httpx.AsyncClient]:
    async with server.client(**identity(name, "team-a", SCOPES)) as client:
        yield client


async def make(client: httpx.AsyncClient, *sources: str, environment: str | None = None) -> str:
    """Create a notebook with cells ``c0``, ``c1`` …; returns the path of its session."""
    metadata = {} if environment is None else {"environment": environment}
    cells = [{"id": f"c{place}", "source": source} for place, source in enumerate(sources)]
    answer = await client.post(
        "/v1/notebooks", json={"title": "Flights", "cells": cells, "metadata": metadata}
    )
    assert 201 == answer.status_code, answer.text
    return f"/v1/notebooks/{answer.json()['name']}/session"


async def run(client: httpx.AsyncClient, path: str, *cells: str) -> dict[str, dict]:
    """Run cells; returns the event with which each run ended."""
    after = (await client.get(path)).json()["seq"]
    answer = await client.post(f"{path}/run", json={"cells": list(cells), "force": False})
    assert 202 == answer.status_code, answer.text
    ended: dict[str, dict] = {}
    with trio.fail_after(120):
        while len(ended) < len(cells):
            answer = await client.get(f"{path}/events", params={"after": after, "wait": 5})
            after = answer.json()["seq"]
            found = [one["payload"] for one in answer.json()["events"] if "ended" == one["type"]]
            ended |= {payload["cell"]: payload for payload in found}
    return ended


async def result_of(client: httpx.AsyncClient, path: str, cell: str) -> dict | None:
    cells = (await client.get(path)).json()["cells"]
    return next(one["result"] for one in cells if cell == one["id"])


def hows(ended: dict[str, dict]) -> list[str]:
    return [ended[cell]["how"] for cell in sorted(ended)]


async def test_cells_run_on_an_executor(settings: Settings, warehouse: Warehouse, tmp_path: Path) -> None:
    """Values go from cell to cell, tables are read with the rights of the runner, equal runs are reused."""
    warehouse.create(numbers(20))
    uri = warehouse.uri()
    async with cells_at(tmp_path / "executor") as url:
        worker = NotebookWorker("side", url, memory_bytes=256 << 20, token_file=str(token_file(tmp_path)))
        whole = attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))
        async with running(whole) as server, member(server, "ana") as ana, member(server, "ben") as ben:
            path = await make(
                ana, f"t = strata.fetch({uri!r})\nprint('read')", "total = t.num_rows + 1\ntotal"
            )
            ended = await run(ana, path, "c0", "c1")
            assert ["ok", "ok"] == hows(ended), ended
            result = await result_of(ana, path, "c0")
            assert result is not None
            assert "read\n" == result["stdout"]
            shown = await ana.get(f"{path}/output", params={"cell": "c1", "value": "total"})
            assert b"21" == shown.content
            assert ["reused", "reused"] == hows(await run(ana, path, "c0", "c1"))
            # A member who may not read tables does not read their rows by way of the executor either.
            assert ["raised"] == hows(await run(ben, await make(ben, f"t = strata.fetch({uri!r})"), "c0"))


async def test_a_worker_that_is_not_there_is_a_sentence(settings: Settings) -> None:
    """A cell does not wait for an executor that cannot be reached: its run is skipped, and says why."""
    worker = NotebookWorker("side", "http://127.0.0.1:1")
    whole = attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))
    async with running(whole) as server, member(server, "ana") as ana:
        path = await make(ana, "x = 1")
        ended = await run(ana, path, "c0")
        assert ["skipped"] == hows(ended)
        assert "The worker side is not available" in ended["c0"]["message"]
        assert await result_of(ana, path, "c0") is None


async def test_an_executor_with_another_runtime_runs_no_cell_of_the_former_one(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A result is of the runtime that made it: an executor that was replaced refuses the first request."""
    told = ["one"]
    for module in (cells, app):
        monkeypatch.setattr(module, "own_runtime", lambda: told[-1])
    async with cells_at(tmp_path / "executor") as url:
        worker = NotebookWorker("side", url, memory_bytes=256 << 20, token_file=str(token_file(tmp_path)))
        whole = attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))
        async with running(whole) as server, member(server, "ana") as ana:
            path = await make(ana, "x = 1", "y = 2")
            assert ["ok"] == hows(await run(ana, path, "c0"))
            told.append("two")
            assert ["ok"] == hows(await run(ana, path, "c1"))
            assert ["ok"] == hows(await run(ana, path, "c0"))  # that of runtime one does not count any more
            assert ["reused", "reused"] == hows(await run(ana, path, "c0", "c1"))


async def test_cells_run_in_the_environment_that_their_notebook_names(
    settings: Settings, tmp_path: Path
) -> None:
    """Its packages are there, other tenants' are none, and a result is of the lock that it was made with."""
    wheels = tmp_path / "wheels"
    named = []
    for version, answer in (("1.0", 1), ("2.0", 2)):
        (tmp_path / version).write_text(wheel(wheels, "tiny", version, {"tiny.py": f"ANSWER = {answer}"}))
        named.append(NotebookEnvironment(f"v{answer}", str(tmp_path / version)))
    (tmp_path / "lost").write_text(f"absent==1.0 --hash=sha256:{'0' * 64}")
    named.append(NotebookEnvironment("lost", str(tmp_path / "lost")))
    named.append(NotebookEnvironment("theirs", str(tmp_path / "1.0"), tenants=("team-b",)))
    made = Environments(tmp_path / "made", Index(None, [wheels]))
    made.open()
    async with cells_at(tmp_path / "executor", made) as url:
        worker = NotebookWorker("side", url, memory_bytes=256 << 20, token_file=str(token_file(tmp_path)))
        whole = attrs.evolve(
            settings, acl_config=RULES, notebook_workers=(worker,), notebook_environments=tuple(named)
        )
        async with running(whole) as server, member(server, "ana") as ana:
            source = "import tiny\nanswer = tiny.ANSWER"
            path = await make(ana, source, environment="v1")
            assert ["ok"] == hows(await run(ana, path, "c0"))
            assert ["reused"] == hows(await run(ana, path, "c0"))
            edit = {"revision": 1, "edits": [{"op": "describe", "metadata": {"environment": "v2"}}]}
            answer = await ana.post(f"{path.removesuffix('/session')}/edits", json=edit)
            assert 200 == answer.status_code, answer.text
            assert ["ok"] == hows(await run(ana, path, "c0"))
            shown = await ana.get(f"{path}/output", params={"cell": "c0", "value": "answer"})
            assert b"2" == shown.content
            assert ["raised"] == hows(await run(ana, await make(ana, source), "c0"))
            for name, how, words in (
                ("lost", "not_started", "absent"),
                ("theirs", "skipped", "No environment of this tenant"),
                ("nowhere", "skipped", "No environment of this tenant"),
            ):
                ended = await run(ana, await make(ana, source, environment=name), "c0")
                assert how == ended["c0"]["how"], ended
                assert words in ended["c0"]["message"]
