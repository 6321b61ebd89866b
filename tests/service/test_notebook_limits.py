"""Limits of a session: what has exactly the limit passes, and one more is refused in words; others go on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs
import httpx
import pytest
import trio
from service_kit import Running, identity, running
from socket_kit import RejectedError, socket

from strata.acl import Policy, Rule
from strata.cells.remote import RuntimeChangedError
from strata.cells.runtime import CellRuntime
from strata.config import Settings
from strata.config.fields import NotebookWorker
from strata.http.serving.websocket import MESSAGE_BYTES
from strata.notebooks.session import state
from strata.tenants.sessions import cell_run, members, sessions
from strata.tenants.sessions.live_session import MEMBER_SECONDS
from strata.tenants.sessions.table_reads import MALFORMED, MAX_URI

ALL = "notebook:read notebook:write notebook:execute"
ANA = identity("ana", "team-a", ALL)
RULES = Policy(allow=(Rule("*", "notebooks/**"),))

WAITS = "print('on')\nimport threading\nthreading.Event().wait()"
"""A cell that runs until it is interrupted, and takes no processor time."""


@attrs.define
class World:
    """A server, and ana's client."""

    server: Running
    ana: httpx.AsyncClient

    async def make(self, *sources: str) -> str:
        """Make a notebook; returns the path of its session."""
        cells = [{"id": f"c{place}", "source": source} for place, source in enumerate(sources)]
        answer = await self.ana.post("/v1/notebooks", json={"title": "N", "cells": cells})
        return f"/v1/notebooks/{answer.json()['name']}/session"

    async def run(self, path: str, *cells: str, force: bool = False) -> httpx.Response:
        return await self.ana.post(f"{path}/run", json={"cells": list(cells), "force": force})


@pytest.fixture
async def world(settings: Settings) -> AsyncIterator[World]:
    worker = NotebookWorker("local", memory_bytes=256 << 20)
    whole = attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))
    async with running(whole) as server, server.client(**ANA) as ana:
        yield World(server, ana)


async def test_runs_that_wait(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the limit are queued behind the one that runs; one more is refused, and changes nothing."""
    monkeypatch.setattr(sessions, "MAX_QUEUED", 2)
    path = await world.make(WAITS, "x = 1", "y = 2", "z = 3")
    async with socket(world.server.url, path, **ANA) as member:
        assert 202 == (await world.run(path, "c0")).status_code
        await member.event("printed", cell="c0")
        refused = await world.run(path, "c1", "c2", "c3")
        assert (429, "too_many_runs") == (refused.status_code, refused.json()["error"])
        assert 202 == (await world.run(path, "c1", "c2")).status_code
        assert 429 == (await world.run(path, "c3")).status_code
        found = [one["status"] for one in (await world.ana.get(path)).json()["cells"]]
        assert ["running", "queued", "queued", "idle"] == found
        assert 200 == (await world.ana.post(f"{path}/interrupt")).status_code
        await member.event("ended", cell="c0")
        assert 202 == (await world.run(path, "c3")).status_code
        assert "ok" == (await member.event("ended", cell="c3"))["how"]


async def test_requests_that_wait_for_events(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the limit wait, sockets included; one more is refused, and one that goes makes room."""
    for module in (sessions, members):
        monkeypatch.setattr(module, "MAX_WATCHERS", 2)
    path = await world.make("x = 1")
    async with socket(world.server.url, path, **ANA) as one:
        await one.event("hello")
        async with socket(world.server.url, path, **ANA) as two:
            await two.event("hello")
            with pytest.raises(RejectedError, match="too_many_watchers"):
                async with socket(world.server.url, path, **ANA):
                    pass
            seq = (await world.ana.get(path)).json()["seq"]
            waiting = {"after": seq, "wait": 5}
            refused = await world.ana.get(f"{path}/events", params=waiting)
            assert (429, "too_many_watchers") == (refused.status_code, refused.json()["error"])
            assert 200 == (await world.ana.get(f"{path}/events", params={"after": 0})).status_code
        await one.event("left")
        async with socket(world.server.url, path, **ANA) as again:
            await again.event("hello")


async def test_members_of_a_session(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the limit are in, by sockets and by requests; one more is refused, and the session goes on."""
    monkeypatch.setattr(state, "MAX_MEMBERS", 2)
    path = await world.make("x = 1")
    async with socket(world.server.url, path, **ANA) as one:
        hello = await one.event("hello")
        joined = await world.ana.post(f"{path}/members", json={"focus": None})
        assert 200 == joined.status_code
        refused = await world.ana.post(f"{path}/members", json={"focus": None})
        assert (429, "session_full") == (refused.status_code, refused.json()["error"])
        with pytest.raises(RejectedError, match="session_full"):
            async with socket(world.server.url, path, **ANA):
                pass
        found = {member["member"] for member in (await world.ana.get(path)).json()["members"]}
        assert {hello["member"], joined.json()["member"]} == found
        assert 200 == (await one.ask("session"))["status"]


async def test_a_member_without_a_socket_stays_for_its_time(
    settings: Settings, mock_clock: trio.testing.MockClock
) -> None:
    """It is in until the last moment of it, a request begins the time anew, and then it goes as idle."""
    async with running(attrs.evolve(settings, acl_config=RULES)) as server, server.client(**ANA) as ana:
        world = World(server, ana)
        path = await world.make("x = 1")
        member = (await ana.post(f"{path}/members", json={"focus": None})).json()["member"]

        async def count() -> int:
            return len((await ana.get(path)).json()["members"])

        mock_clock.jump(MEMBER_SECONDS - 0.5)
        assert 1 == await count()
        again = await ana.post(f"{path}/members", json={"member": member, "focus": "c0"})
        assert 200 == again.status_code
        mock_clock.jump(MEMBER_SECONDS - 0.5)
        assert 1 == await count()
        mock_clock.jump(0.5)
        assert 0 == await count()
        gone = await ana.post(f"{path}/members", json={"member": member, "focus": "c0"})
        assert (409, "not_joined") == (gone.status_code, gone.json()["error"])


async def test_bytes_of_a_value_that_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of exactly the limit comes whole; one of a byte more is refused with both numbers."""
    path = await world.make("x = 'a' * 998\ny = 'a' * 999")
    async with socket(world.server.url, path, **ANA) as member:
        assert 202 == (await world.run(path, "c0")).status_code
        assert "ok" == (await member.event("ended", cell="c0"))["how"]
    monkeypatch.setattr(sessions, "MAX_OUTPUT_BYTES", 1000)
    fits = await world.ana.get(f"{path}/output", params={"cell": "c0", "value": "x"})
    assert (200, 1000) == (fits.status_code, len(fits.content))
    over = await world.ana.get(f"{path}/output", params={"cell": "c0", "value": "y"})
    assert (413, "output_too_large") == (over.status_code, over.json()["error"])
    assert {"1000", "1001"} <= set(over.json()["detail"].replace(";", "").split())


async def test_bytes_of_a_frame(world: World) -> None:
    """A frame of exactly the limit is answered; one of a byte more ends its socket, and no other one."""
    path = await world.make("x = 1")
    begin, end = '{"type": "ping", "id": 1, "payload": {"k": "', '"}}'
    fits = begin + "x" * (MESSAGE_BYTES - len(begin) - len(end)) + end
    async with (
        socket(world.server.url, path, **ANA) as other,
        socket(world.server.url, path, **ANA) as member,
    ):
        await member.text(fits)
        await member.event("pong", id=1)
        await member.text(fits.replace("x", "xx", 1))
        assert 1009 == (await member.ended())[0]
        assert 200 == (await other.ask("session"))["status"]


async def test_cells_whose_values_one_cell_reads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the limit are read; a cell that reads one more says so, and does not run."""
    monkeypatch.setattr(cell_run, "MAX_FILES", 2)
    path = await world.make("a = 1", "b = 2", "c = 3", "d = a + b", "e = a + b + c")
    async with socket(world.server.url, path, **ANA) as member:
        await world.run(path, "c0", "c1", "c2", "c3", "c4")
        assert "ok" == (await member.event("ended", cell="c3"))["how"]
        beyond = await member.event("ended", cell="c4")
        assert "skipped" == beyond["how"]
        assert "reads values of more than" in beyond["message"]


async def test_characters_of_the_console(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each stream so many are kept with the result; the rest was only shown."""
    monkeypatch.setattr(cell_run, "MAX_CONSOLE_CHARACTERS", 10)
    path = await world.make(*(f"import sys; print('a' * {n}); print('b', file=sys.stderr)" for n in (9, 10)))
    async with socket(world.server.url, path, **ANA) as member:
        await world.run(path, "c0", "c1")
        for cell in ("c0", "c1"):
            assert "ok" == (await member.event("ended", cell=cell))["how"]
    at, beyond = [one["result"] for one in (await world.ana.get(path)).json()["cells"]]
    assert ("a" * 9 + "\n", "b\n") == (at["stdout"], at["stderr"])
    assert ("a" * 10, "b\n") == (beyond["stdout"], beyond["stderr"])


async def test_runtimes_of_a_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell is sent anew for a worker's next runtime, and no further: the cell says why."""
    run, changes = CellRuntime.run, [1]

    async def changed(*args: object, **kwargs: object) -> object:
        if changes[0]:
            changes[0] -= 1
            raise RuntimeChangedError
        return await run(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(CellRuntime, "run", changed)
    path = await world.make("x = 1")
    async with socket(world.server.url, path, **ANA) as member:
        changes[0] = cell_run.MAX_RUNTIMES - 1
        await world.run(path, "c0")
        assert "ok" == (await member.event("ended", cell="c0"))["how"]
        changes[0] = cell_run.MAX_RUNTIMES
        await world.run(path, "c0", force=True)
        beyond = await member.event("ended", cell="c0")
        assert ("skipped", 0) == (beyond["how"], changes[0])
        assert "changes its runtime" in beyond["message"]


async def test_characters_of_a_table_that_a_cell_names(world: World) -> None:
    """So many are looked up; one more has not the form of a question."""
    fetch = "try: strata.fetch('t' * {})\nexcept Exception as error: print(error)"
    path = await world.make(fetch.format(MAX_URI), fetch.format(MAX_URI + 1))
    async with socket(world.server.url, path, **ANA) as member:
        await world.run(path, "c0", "c1")
        for cell in ("c0", "c1"):
            assert "ok" == (await member.event("ended", cell=cell))["how"]
    at, beyond = [one["result"]["stdout"].strip() for one in (await world.ana.get(path)).json()["cells"]]
    assert MALFORMED == beyond
    assert at not in ("", MALFORMED)


async def test_sessions_in_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the limit keep their events; with one more, the one that was not used for longest is forgotten."""
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    monkeypatch.setattr(sessions, "UNUSED_SECONDS", 0)
    first, second, third = [await world.make("x = 1") for _ in range(3)]

    async def ids(*paths: str) -> list[str]:
        return [(await world.ana.get(path)).json()["session"] for path in paths]

    known = await ids(first, second)
    assert known == await ids(first, second)
    await ids(third)
    again = await ids(second, first)
    assert known[1] == again[0]
    assert known[0] != again[1]
