"""Two servers on one PostgreSQL database: one owns a notebook's session, the other adopts it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from postgres_kit import dsn, new_database
from service_kit import Process, environment, identity, process
from socket_kit import RejectedError, socket

from strata.config import Settings

pytestmark = pytest.mark.slow

LEASE = 2
ANA = identity("ana", "team-a", "notebook:*")
CONFIGURATION = """
[tool.strata.acl_config]
default = "allow"

[[tool.strata.notebook_workers]]
name = "local"
memory_bytes = 268435456
"""


@attrs.frozen
class Server:
    """A process, and a client of it."""

    process: Process
    client: httpx.AsyncClient

    def signal(self, number: int) -> None:
        os.kill(self.process.popen.pid, number)

    async def code(self, method: str, path: str, **body: object) -> tuple[int, str | None, int]:
        """Return status, code and ``Retry-After`` of an answer."""
        found = await self.client.request(method, path, json=body or None)
        return found.status_code, found.json().get("error"), int(found.headers.get("Retry-After", 0))

    async def session(self, path: str) -> dict:
        """Return the session, once this server owns it; until then it is refused with the time to wait."""
        with trio.fail_after(120):
            while True:
                found = await self.client.get(f"{path}/session")
                if found.status_code == 200:
                    return found.json()
                assert (503, "session_elsewhere") == (found.status_code, found.json()["error"]), found.text
                assert 1 <= int(found.headers["Retry-After"]) <= LEASE
                await trio.sleep(0.1)

    async def edit(self, path: str, source: str) -> dict:
        """Replace the source of the cell."""
        revision = (await self.client.get(path)).json()["revision"]
        edit = {"op": "replace", "id": "c", "source": source}
        answer = await self.client.post(f"{path}/edits", json={"revision": revision, "edits": [edit]})
        assert 200 == answer.status_code, answer.text
        return answer.json()


@pytest.fixture
def pair(settings: Settings, postgresql: str, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    shared = environment(settings) | {
        "STRATA_ARTIFACT_METADATA_DSN": dsn(new_database(postgresql)),
        "STRATA_ARTIFACT_LEASE_SECONDS": str(LEASE),
    }
    with ExitStack() as running:
        servers = []
        for name in ("one", "two"):
            directory = tmp_path / name
            directory.mkdir()
            (directory / "pyproject.toml").write_text(CONFIGURATION)
            cache = {"STRATA_CACHE_DIR": str(directory / "cache")}
            found = running.enter_context(process(directory, **shared | cache))
            client = httpx.AsyncClient(base_url=found.url, headers=ANA, timeout=60)
            servers.append(Server(found, client))
        yield servers[0], servers[1]


async def test_a_session_is_adopted_from_a_server_that_froze_or_was_killed(
    pair: tuple[Server, Server],
) -> None:
    """The other server refuses until the lease is over; then it has the whole state, and the cell's outcome."""
    one, two = pair
    cells = [{"id": "c", "source": "import time\nprint('on')\ntime.sleep(600)"}]
    made = await one.client.post("/v1/notebooks", json={"title": "N", "cells": cells})
    path = f"/v1/notebooks/{made.json()['name']}"
    async with socket(one.process.url, f"{path}/session", **ANA) as member:
        hello = (await member.next())["payload"]
        await one.edit(path, cells[0]["source"] + "\n# one")

        # One owner: the other refuses what is of the session, and edits above all.
        edit = {"revision": 2, "edits": [{"op": "replace", "id": "c", "source": "x = 'two'"}]}
        for method, where, body in (
            ("GET", "session", {}), ("POST", "edits", edit), ("POST", "session/run", {"force": True}),
            ("POST", "runs", {"force": True}), ("POST", "session/members", {"focus": None}),
        ):  # fmt: skip
            status, code, wait = await two.code(method, f"{path}/{where}", **body)
            assert (503, "session_elsewhere", True) == (status, code, 1 <= wait <= LEASE), where
        assert (503, "session_elsewhere") == (await two.code("DELETE", path))[:2]
        with pytest.raises(RejectedError, match="503"):
            async with socket(two.process.url, f"{path}/session", **ANA):
                pass
        assert 2 == (await two.client.get(path)).json()["revision"]  # reading needs no session

        # The owner freezes for longer than its lease: the other adopts, and edits.
        one.signal(signal.SIGSTOP)
        assert hello["session"] == (await two.session(path))["session"]
        assert 3 == (await two.edit(path, cells[0]["source"]))["revision"]
        one.signal(signal.SIGCONT)
        assert (1012, "ended") == await member.ended()
        status, code, _ = await one.code("POST", f"{path}/edits", **(edit | {"revision": 3}))
        assert (503, "session_elsewhere") == (status, code)
        known = [one for one in member.seen if "seq" in one]

    # The member goes on at the other server: it has missed what happened there, and nothing else.
    resumed = f"{path}/session?session={hello['session']}&after={known[-1]['seq']}"
    async with socket(two.process.url, resumed, **ANA) as member:
        assert (await member.next())["payload"]["complete"]
        edited = await member.event("edited")
        assert (3, ["c"], "ana") == (edited["revision"], edited["cells"], edited["principal"])
        assert ["adopted", "edited"] == [one["type"] for one in member.seen if "seq" in one][:2]

        # The new owner is killed while a cell runs.
        assert 202 == (await member.ask("run"))["status"]
        await member.until(lambda one: "printed" == one["type"])
        two.signal(signal.SIGKILL)
        known = [one for one in member.seen if "seq" in one]
    found = await one.session(path)
    (cell,) = found["cells"]
    assert ("idle", "server_lost", "ana", 3) == (
        cell["status"], cell["result"]["outcome"], cell["result"]["run_by"], cell["result"]["revision"]
    )  # fmt: skip
    assert "Run the cell again" in cell["result"]["message"]
    assert "failed" in [reason["because"] for reason in cell["stale"]]

    # Viewers go on there without a lost event: one that had all, and one that was away while the cell ran.
    async def rest(after: int) -> list[dict]:
        resumed = f"{path}/session?session={hello['session']}&after={after}"
        async with socket(one.process.url, resumed, **ANA) as viewer:
            said = (await viewer.next())["payload"]
            assert (True, hello["session"], after) == (said["complete"], said["session"], said["seq"])
            ended = await viewer.until(lambda one: "ended" == one["type"])
            return [event for event in viewer.seen if "seq" in event and event["seq"] <= ended["seq"]]

    lost = await rest(known[-1]["seq"])
    assert ["adopted", "ended"] == [one["type"] for one in lost]
    assert ("c", "server_lost") == (lost[1]["payload"]["cell"], lost[1]["payload"]["how"])
    assert known[-1]["seq"] + 1 == lost[0]["seq"]
    started = next(one["seq"] for one in known if "started" == one["type"])
    assert [*known, *lost][-4:] == (await rest(started - 1))[-4:]
    assert ["started", "printed"] == [one["type"] for one in (*known, *lost)[-4:-2]]

    async with socket(one.process.url, f"{path}/session", **ANA) as member:
        await member.next()
        await one.edit(path, "x = 20 + 1\nprint(x)")
        assert 202 == (await member.ask("run"))["status"]
        assert "ok" == (await member.event("ended", cell="c"))["how"]
    again = await one.session(path)
    assert ("ok", "21\n") == (again["cells"][0]["result"]["outcome"], again["cells"][0]["result"]["stdout"])
