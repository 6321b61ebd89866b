"""Many viewers of one notebook, half of whom never read: the session, the cell and the others go on."""

from __future__ import annotations

import socket as sockets
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from service_kit import environment, identity, process, running
from socket_kit import Client, socket

from strata.acl import Policy, Rule
from strata.config import Settings
from strata.config.fields import NotebookWorker
from strata.http.serving.socket_stream import DeadlineStream
from strata.tenants.sessions.members import TAKE_SECONDS

pytestmark = pytest.mark.slow

ALL = "notebook:read notebook:write notebook:execute"
ANA = identity("ana", "team-a", ALL)
RULES = Policy(allow=(Rule("*", "notebooks/**"),))
VIEWERS = 200
MEBIBYTES = 12
DEAF = 60
CONFIGURATION = f"""
[tool.strata.acl_config]
default = "allow"

[[tool.strata.notebook_workers]]
name = "local"
memory_bytes = {256 << 20}
console_bytes = {16 << 20}
"""
PRINTS = "for i in range(60):\n    print('x' * 6000)"


def viewer(number: int) -> dict[str, str]:
    """Return the identity of a viewer; several of them are one person with several windows."""
    return identity(f"p{number % 25}", "team-a", "notebook:read")


def numbers(client: Client) -> list[int]:
    """Return the numbers of the events that a viewer has seen."""
    return [one["seq"] for one in client.seen if "seq" in one]


async def read_to_the_end(clients: Sequence[Client], cell: str) -> None:
    """Have viewers read until a cell has ended well."""

    async def read(client: Client) -> None:
        await client.event("ended", cell=cell, how="ok")

    async with trio.open_nursery() as nursery:
        for client in clients:
            nursery.start_soon(read, client)


async def test_half_of_two_hundred_viewers_never_read(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, mock_clock: trio.testing.MockClock
) -> None:
    """The others see each event, and an edit passes; who reads nothing leaves as too slow, and can go on later."""
    real = DeadlineStream.__init__

    def small(stream: DeadlineStream, accepted: trio.SocketStream, seconds: float) -> None:
        real(stream, accepted, seconds)  # the kernel takes little for a viewer who does not read
        accepted.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, 32 << 10)

    monkeypatch.setattr(DeadlineStream, "__init__", small)
    worker = NotebookWorker("local", memory_bytes=256 << 20, console_bytes=4 << 20)
    whole = attrs.evolve(settings, acl_config=RULES, notebook_workers=(worker,))
    async with running(whole) as server, AsyncExitStack() as stack, server.client(**ANA) as ana:
        cells = [{"id": "c0", "source": PRINTS}, {"id": "c1", "source": "y = 2"}]
        made = await ana.post("/v1/notebooks", json={"title": "N", "cells": cells})
        path = f"/v1/notebooks/{made.json()['name']}"
        place = f"{path}/session"
        clients = []
        for number in range(VIEWERS):
            client = await stack.enter_async_context(socket(server.url, place, **viewer(number)))
            client.stream.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4 << 10)
            await client.event("hello")
            clients.append(client)
        readers, deaf = clients[::2], clients[1::2]

        assert 202 == (await ana.post(f"{place}/run", json={"cells": ["c0"]})).status_code
        await read_to_the_end(readers, "c0")
        edits = {"revision": 1, "edits": [{"op": "replace", "id": "c1", "source": "y = 3"}]}
        assert 200 == (await ana.post(f"{path}/edits", json=edits)).status_code
        for reader in readers:
            await reader.event("edited", revision=2)
            found = numbers(reader)
            assert found == list(range(found[0], found[0] + len(found)))
        members = (await ana.get(place)).json()["members"]
        assert VIEWERS == len(members)

        # Nobody took what was sent to the others: their places are free after the time, and no sooner.
        gone = {client.seen[0]["payload"]["member"] for client in deaf}
        mock_clock.jump(TAKE_SECONDS - 1)
        assert VIEWERS == len((await ana.get(place)).json()["members"])
        mock_clock.jump(2)
        for _ in deaf:
            left = await readers[0].event("left")
            assert "too_slow" == left["reason"]
            gone.remove(left["member"])
        assert set() == gone
        assert VIEWERS // 2 == len((await ana.get(place)).json()["members"])

        # One of them reads at last: it is told why, and goes on behind the last event that it has.
        (late, *_) = deaf
        assert (4008, "too_slow") == await late.ended()
        before = numbers(late)
        assert before[-1] < numbers(readers[0])[-1]
        again = f"{place}?session={late.seen[0]['payload']['session']}&after={before[-1]}"
        async with socket(server.url, again, **viewer(1)) as resumed:
            assert (await resumed.event("hello"))["complete"]
            await read_to_the_end([resumed], "c0")
            whole_story = before + numbers(resumed)
            assert whole_story == list(range(before[0], before[0] + len(whole_story)))


@pytest.mark.alone
async def test_viewers_who_never_read_take_no_memory(settings: Settings, tmp_path: Path) -> None:
    """A cell prints much more than the log holds: for each of them the server keeps one part of it at most."""
    (tmp_path / "pyproject.toml").write_text(CONFIGURATION)
    with process(tmp_path, **environment(settings)) as server:
        async with AsyncExitStack() as stack:
            ana = await stack.enter_async_context(
                httpx.AsyncClient(base_url=server.url, headers=ANA, timeout=120)
            )
            cells = [{"id": "c0", "source": f"for i in range({MEBIBYTES * 16}):\n    print('x' * 65535)"}]
            made = await ana.post("/v1/notebooks", json={"title": "N", "cells": cells})
            place = f"/v1/notebooks/{made.json()['name']}/session"
            for number in range(DEAF):
                client = await stack.enter_async_context(socket(server.url, place, **viewer(number)))
                await client.event("hello")
            before = server.rss()
            reader = await stack.enter_async_context(socket(server.url, place, **ANA))
            assert 202 == (await ana.post(f"{place}/run", json={"cells": ["c0"]})).status_code
            await read_to_the_end([reader], "c0")
            assert DEAF + 1 == len((await ana.get(place)).json()["members"])
            assert server.rss() - before < MEBIBYTES * DEAF * (1 << 20) / 8
