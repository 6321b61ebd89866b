"""How many functions a request passes through, from its parsed head to the last byte of its answer.

A request *passes through* a function of the package that calls another one on its behalf. What counts is a
``def``, function or method, with another counted one below it; a function that calls none is a step and not a
part of the way. Not counted: lambdas, comprehensions, methods between double underscores, and properties of
one expression.

The way of the request itself is what its own tasks run: the task that answers it and the actor's for its
question. The whole way of a miss has what its build runs meanwhile as well, on the loop and in threads.
"""

from __future__ import annotations

import ast
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import attrs
import httpx
import pytest
import trio
from service_kit import Warehouse, fetch, identity, numbers, scan

import strata
from strata.artifacts.metadata.sql_store import SqlMetadataStore
from strata.config import Settings
from strata.http.serving.listening import Bind
from strata.http.serving.serve import serve
from strata.server import open_service

ROOT = Path(strata.__file__).parent
OWN_TASKS = ("Tasks._run", "TenantActor._serve")

Function = tuple[str, str]
"""A module's path in the package, and the function's name in it."""

HIT = (63, 32)
"""Most functions, and modules they are in, on the way of a request that finds a finished result.

Four of them keep the result from being collected before it is read, and ask whether the request is a query; one
looks whether its URL is a signed one, and one whether the table's catalog is asked as the caller.
"""
FETCH = (48, 24)
"""The same for the request that fetches the result's bytes; two ask whether its tenant records who read what."""
MISS = (71, 31)
"""The same for a request that begins a build: the request's own tasks."""
WHOLE_MISS = (260, 75)
"""The same for that request and the one that streams the result, with what the build runs, in tasks and threads.

Alone it is 186 in 55; on a busy machine what waits adds its own.
"""


def uncounted() -> Iterator[Function]:
    """Yield methods between double underscores, and properties of one expression."""
    for path in ROOT.rglob("*.py"):
        pending: list[tuple[ast.AST, tuple[str, ...]]] = [(ast.parse(path.read_text()), ())]
        while pending:
            node, outer = pending.pop()
            for child in ast.iter_child_nodes(node):
                inner = outer
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                    inner = (*outer, child.name, "<locals>")
                    steps = [one for one in child.body if not isinstance(one, ast.Assert)]
                    names = {one.id for one in child.decorator_list if isinstance(one, ast.Name)}
                    docstring = ast.get_docstring(child) is not None
                    short = "property" in names and len(steps) - docstring == 1
                    if short or (child.name.startswith("__") and child.name.endswith("__")):
                        yield str(path.relative_to(ROOT)), ".".join((*outer, child.name))
                elif isinstance(child, ast.ClassDef):
                    inner = (*outer, child.name)
                pending.append((child, inner))


UNCOUNTED = frozenset(uncounted())


def function_of(frame: FrameType) -> Function | None:
    """Return the counted function of the package that a frame runs, or None."""
    path, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
    if not path.is_relative_to(ROOT) or name.rpartition(".")[2].startswith("<"):
        return None
    found = (str(path.relative_to(ROOT)), name)
    return None if found in UNCOUNTED else found


def task() -> str:
    """Return the name of the Trio task that runs; empty in threads, and where Trio's own code does."""
    try:
        return trio.lowlevel.current_task().name
    except RuntimeError:
        return ""


@attrs.define(eq=False)
class Way:
    """Records who calls whom while it is on, in all threads that begin after it was made.

    Attributes:
        on: Whether a request is under way.
        calls: Each counted function that was called with the one that called it, and the task of the call.
    """

    on: bool = False
    calls: set[tuple[Function, Function, str]] = attrs.field(factory=set)

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        if not self.on or event != "call":
            return
        called = function_of(frame)
        if called is None:
            return
        above = frame.f_back
        while above is not None and (caller := function_of(above)) is None:
            above = above.f_back
        if above is not None and caller is not None and caller != called:
            self.calls.add((caller, called, task()))

    def passed(self, *, own: bool) -> set[Function]:
        """Return the functions that were passed through."""
        return {caller for caller, _, name in self.calls if not own or name.endswith(OWN_TASKS)}


@pytest.fixture
def way() -> Iterator[Way]:
    found = Way()
    threading.setprofile(found)
    sys.setprofile(found)
    yield found
    sys.setprofile(None)
    threading.setprofile(None)


@pytest.fixture
async def client(way: Way, settings: Settings, warehouse: Warehouse) -> Any:
    """A client of a warm server, which records the way between an application's call and its last message."""
    for table in ("db.events", "db.hit", "db.miss"):
        warehouse.create(numbers(100), table)
    stop = trio.Event()
    async with open_service(settings) as service, trio.open_nursery() as nursery:

        async def app(scope: dict, receive: Callable, send: Callable) -> None:
            async def noting(message: dict) -> None:
                await send(message)
                way.on = way.on and message.get("more_body", True)

            way.on = scope["type"] == "http"
            await service.app(scope, receive, noting)

        [url] = await nursery.start(partial(serve, app, [Bind()], stop=stop.wait, grace=1))
        async with httpx.AsyncClient(base_url=url, headers=identity(), timeout=60) as found:
            for table in ("wh:db.events", "wh:db.hit"):
                for _ in range(3):
                    await fetch(found, scan(table))
            await trio.testing.wait_all_tasks_blocked(0.01)
            way.calls.clear()
            yield found
        stop.set()


@pytest.fixture
def commits(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set to let builds commit: until then their streams are read while they grow."""
    real, may_commit = SqlMetadataStore.finish_build, threading.Event()

    def finish_build(*args: Any, **kwargs: Any) -> Any:
        assert may_commit.wait(60)
        return real(*args, **kwargs)

    monkeypatch.setattr(SqlMetadataStore, "finish_build", finish_build)
    yield may_commit
    may_commit.set()


def told(functions: set[Function]) -> tuple[int, int]:
    """Print the functions, to be shown where there are too many; return how many, and in how many modules."""
    sys.stdout.writelines(f"{module}: {name}\n" for module, name in sorted(functions))
    return len(functions), len({module for module, _ in functions})


async def test_a_hit_passes_through_few_functions(way: Way, client: httpx.AsyncClient) -> None:
    """The request that finds a result, and the one that fetches its bytes."""
    answer = await client.post("/v1/materialize", json=scan("wh:db.hit"))
    assert answer.json()["hit"]
    assert told(way.passed(own=True)) <= HIT
    way.calls.clear()
    assert 200 == (await client.get(answer.json()["stream_url"])).status_code
    assert told(way.passed(own=True)) <= FETCH


async def test_a_miss_passes_through_few_functions(
    way: Way, client: httpx.AsyncClient, commits: threading.Event
) -> None:
    """The request that begins a build, and the one that reads its stream while it grows; then with the build."""
    answer = await client.post("/v1/materialize", json=scan("wh:db.miss"))
    assert not answer.json()["hit"]
    assert told(way.passed(own=True)) <= MISS
    assert 200 == (await client.get(answer.json()["stream_url"])).status_code
    commits.set()
    assert told(way.passed(own=False)) <= WHOLE_MISS
