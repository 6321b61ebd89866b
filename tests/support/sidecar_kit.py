"""Our own executor in a test's process, with Python functions to run."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import pyarrow as pa
import pytest
import trio

from strata.executor.protocol.client import Executor
from strata.executor.protocol.messages import ARROW_STREAM, BuildDescription, InputHead
from strata.executor.protocol.multipart import Part
from strata.executor.sidecar.app import ExecutorApp
from strata.executor.sidecar.builds import BuildLimits, BuildRunner, DaftEngine, DaskEngine
from strata.executor.sidecar.cells import CellService
from strata.executor.sidecar.environments import Environments
from strata.executor.sidecar.pulling import Puller
from strata.executor.verify.subject import rows
from strata.http.calling.addresses import AddressRules
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve

FUNCTIONS = """
import os, time
import pyarrow as pa

def double(inputs, params):
    print("doubling", inputs["input0"].num_rows)
    column = inputs["input0"]["id"]
    return pa.table({"id": pa.array([one * params["by"] for one in column.to_pylist()], pa.int64())})

def reads(inputs, params):
    return pa.table({"text": [open(params["path"]).read()]})

def slow(inputs, params):
    time.sleep(60)

def batches(inputs, params):
    import decimal, sqlite3, statistics  # what is imported late is readable
    for start in range(3):
        yield pa.record_batch({"n": [start, start + 1]})

def nothing(inputs, params):
    return 5

def names(inputs, params):
    raise type(params.get("name", "TextOfARow"), (Exception,), {})("gone")

def forges(inputs, params):
    import sys
    from strata.sandbox.frames import Kind, send
    frame = sys._getframe()
    while "link" not in frame.f_locals:
        frame = frame.f_back
    send(frame.f_locals["link"], Kind.FAILED, [params["text"].encode()])
    time.sleep(60)
"""


@attrs.frozen
class Served:
    """An executor that listens."""

    app: ExecutorApp
    url: str


@asynccontextmanager
async def executor(
    directory: Path,
    *,
    token: str | None = "secret",
    daft: DaftEngine | None = None,
    dask: DaskEngine | None = None,
    **limits: object,
) -> AsyncIterator[Served]:
    """Serve our executor on a free port, its builds in a directory."""
    directory.mkdir(exist_ok=True)
    runner = BuildRunner(BuildLimits(**limits), directory, daft, dask)
    app = ExecutorApp(runner, token, puller=Puller(runner, AddressRules(private=True)))
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, app, [Bind()], stop=stop.wait, grace=1))
        try:
            yield Served(app, urls[0])
        finally:
            stop.set()
            await app.runner.close()


@asynccontextmanager
async def cells_at(directory: Path, environments: Environments | None = None) -> AsyncIterator[str]:
    """Serve an executor that runs cells; returns its URL."""
    directory.mkdir()
    service = CellService(BuildLimits(memory_bytes=512 << 20), 2, environments=environments)
    app = ExecutorApp(BuildRunner(BuildLimits(), directory), "secret", cells=service)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        urls = await nursery.start(partial(serve, app, [Bind()], stop=stop.wait, grace=1))
        try:
            yield urls[0]
        finally:
            stop.set()
            await service.close()
            await app.runner.close()


def install_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with functions."""
    names = ("double", "reads", "slow", "batches", "nothing", "missing", "names", "forges")
    write_package(tmp_path / "site", "functions_for_tests", FUNCTIONS, "strata.transforms", names)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


def write_package(site: Path, module: str, text: str, group: str, names: Sequence[str]) -> None:
    """Write a package of one module as installers do, with an entry point ``name@v1`` for each name."""
    facts = site / f"{module}-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / f"{module}.py").write_text(text)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    lines = [f"{name}@v1 = {module}:{name}" for name in names]
    (facts / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))


BUILDS = itertools.count()


async def run(served: Served, ref: str, build_id: str | None = None, **params: object) -> pa.Table:
    """Run a build of three rows."""
    build_id = build_id or f"build-{next(BUILDS)}"
    what = BuildDescription(build_id, ref, params, [InputHead("input0")])
    parts = [Part("input0", "input0.arrow", ARROW_STREAM, rows(3))]
    async with Executor(served.url, "secret").execute(what, parts, media_type=ARROW_STREAM) as response:
        return pa.ipc.open_stream(b"".join([part async for part in response])).read_all()
