"""A notebook of two members on a server and a sidecar that are processes: each of them dies in the middle."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs
import httpx
import pytest
import trio
from service_kit import Process, environment, free_port, identity, process
from socket_kit import Client, socket

from strata.config import Settings

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-this-sidecar"  # of a test
ANA = identity("ana", "team-a", "notebook:*")
BEN = identity("ben", "team-a", "notebook:*")
CONFIGURATION = """
[tool.strata.acl_config]
default = "allow"

[[tool.strata.notebook_workers]]
name = "side"
url = "http://127.0.0.1:{port}"
token_file = "{token}"
memory_bytes = 268435456
"""
ENDLESS = "print('on')\nwhile True: pass"


@attrs.define
class Sidecar:
    """A sidecar, which can be killed and started again on its port."""

    directory: Path
    port: int = attrs.field(factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "strata", "executor", "--port", str(self.port), "--cells", "1"]
        command += ["--directory", str(self.directory)]
        variables = {**os.environ, "STRATA_WORKER_TOKEN": TOKEN}
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}") as client:
            for _ in range(2000):
                try:
                    assert client.get("/health").is_success
                except httpx.ConnectError:
                    with pytest.raises(subprocess.TimeoutExpired):
                        self.process.wait(0.05)
                else:
                    return
        raise AssertionError("the sidecar does not answer")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    directory = tmp_path / "sidecar"
    directory.mkdir()
    found = Sidecar(directory)
    found.start()
    yield found
    found.kill()


@contextmanager
def server(tmp_path: Path, settings: Settings, sidecar: Sidecar) -> Iterator[Process]:
    """Run the server, with what it has kept so far."""
    token = tmp_path / "token"
    token.write_text(TOKEN)
    configuration = CONFIGURATION.format(port=sidecar.port, token=token)
    (tmp_path / "pyproject.toml").write_text(configuration)
    with process(tmp_path, **environment(settings)) as found:
        yield found


async def state_of(member: Client) -> dict[str, dict]:
    """Return the cells of the session by id, asked for over the socket."""
    return {cell["id"]: cell for cell in (await member.ask("session"))["body"]["cells"]}


async def ran(member: Client, *cells: str, force: bool = False) -> dict[str, str]:
    """Run cells; returns how each of them ended. A cell that is reused may have ended before the reply comes."""
    before = (await member.ask("session"))["body"]["seq"]
    answer = await member.ask("run", cells=[*cells], force=force)
    assert 202 == answer["status"], answer
    with trio.fail_after(120):
        while True:
            ended = [one for one in member.seen if one["type"] == "ended" and one["seq"] > before]
            found = {one["payload"]["cell"]: one["payload"]["how"] for one in ended}
            if found.keys() >= {*cells}:
                return {cell: found[cell] for cell in cells}
            assert await member.next() is not None, member.closed


async def test_a_notebook_outlives_its_sidecar_and_its_server(
    tmp_path: Path, settings: Settings, sidecar: Sidecar
) -> None:
    """Edits and results stay, a cell under way has an outcome, and what comes next runs."""
    sources = {"c0": "x = 1", "c1": "y = x + 1\ny", "c2": ENDLESS}
    with ExitStack() as servers:
        first = servers.enter_context(server(tmp_path, settings, sidecar))
        async with httpx.AsyncClient(base_url=first.url, headers=ANA, timeout=60) as ana:
            cells = [{"id": id_, "source": source} for id_, source in sources.items()]
            made = await ana.post("/v1/notebooks", json={"title": "N", "cells": cells})
            path = f"/v1/notebooks/{made.json()['name']}"
            place = f"{path}/session"
            async with socket(first.url, place, **ANA) as one, socket(first.url, place, **BEN) as two:
                edit = {"op": "replace", "id": "c0", "source": "x = 20"}
                assert 200 == (await one.ask("edit", revision=1, edits=[edit]))["status"]
                assert (2, "ana") == ((told := await two.event("edited"))["revision"], told["principal"])
                body = {"cells": ["c0", "c1"], "force": False}
                assert 202 == (await ana.post(f"{place}/run", json=body)).status_code
                for member in (one, two):
                    assert "ok" == (await member.event("ended", cell="c1"))["how"]
                results = [(await state_of(member))["c1"]["result"] for member in (one, two)]
                assert ("21", results[0]) == (results[0]["values"]["y"]["preview"], results[1])
                assert {"c0": "reused", "c1": "reused"} == await ran(two, "c0", "c1")
                assert {"c0": "ok"} == await ran(two, "c0", force=True)

                # An interrupt of another member, by a request.
                assert 202 == (await two.ask("run", cells=["c2"]))["status"]
                await one.event("printed", cell="c2")
                assert 200 == (await ana.post(f"{place}/interrupt")).status_code
                assert "interrupted" == (await two.event("ended", cell="c2"))["how"]

                # The sidecar dies while a cell runs, and another one takes its place.
                assert 202 == (await one.ask("run", cells=["c2"]))["status"]
                await two.event("printed", cell="c2")
                sidecar.kill()
                assert "worker_lost" == (await two.event("ended", cell="c2"))["how"]
                assert "Run the cell again" in (await state_of(one))["c2"]["result"]["message"]
                sidecar.start()
                assert {"c0": "reused", "c1": "ok"} == {
                    **await ran(one, "c0"),
                    **await ran(two, "c1", force=True),
                }

                # The server dies while a cell runs.
                assert 202 == (await one.ask("run", cells=["c2"]))["status"]
                await two.event("printed", cell="c2")
                first.kill()
                assert 0 == (await two.ended())[0]

        second = servers.enter_context(server(tmp_path, settings, sidecar))
        async with socket(second.url, place, **ANA) as one, socket(second.url, place, **BEN) as two:
            for member in (one, two):
                assert not (await member.event("hello"))["complete"]
            found = await state_of(two)
            assert ("server_lost", "21") == (
                found["c2"]["result"]["outcome"],
                found["c1"]["result"]["values"]["y"]["preview"],
            )
            notebook = (await one.ask("notebook"))["body"]
            assert (2, "x = 20") == (notebook["revision"], notebook["cells"][0]["source"])
            assert {"c0": "reused", "c1": "reused"} == await ran(one, "c0", "c1")
            # The only place of the sidecar is free again: the cell of the server that died has ended there.
            edit = {"op": "replace", "id": "c2", "source": "z = y * 2\nz"}
            assert 200 == (await two.ask("edit", revision=2, edits=[edit]))["status"]
            with trio.fail_after(120):
                while {"c2": "ok"} != await ran(two, "c2"):
                    pass
            assert "42" == (await state_of(one))["c2"]["result"]["values"]["z"]["preview"]
