"""Clients of several tenants, each in its own process: no client waits for another's interpreter."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any

import attrs
import servers
import wire
import workload

BACKGROUND_NICE = 10
"""Niceness of loud clients: elsewhere they run on other machines, so here the measured client goes first."""

REFUSED = frozenset({400, 401, 403, 404, 413, 429, 503})


@attrs.frozen
class Outcome:
    """Outcome of a group of clients.

    Attributes:
        latencies: Seconds of each answered pair or request, from its scheduled time.
        answered: Requests with the expected answer.
        refused: Requests that were refused, with a problem.
        failed: Anything else: a broken connection, a 500, a wrong body.
        size: Bytes of results.
        seconds: From the first request to the last answer.
    """

    latencies: tuple[float, ...] = ()
    answered: int = 0
    refused: int = 0
    failed: int = 0
    size: int = 0
    seconds: float = 0.0


@attrs.frozen
class Task:
    """Task of one thread of a client process.

    Attributes:
        kind: ``pairs``: materialize and fetch of a finished small result, ``scan``: one cold full scan,
            ``flood``: requests one after the other, as fast as they are answered, ``me``: ``/v1/me``,
            ``hog``: the most expensive requests that the limits allow, in turn, ``builds``: a small result
            that is built, a different one each time, ``writes``: results of fewer rows each time, by ``step``
            from ``limit`` on, as fast as they are answered.
        url: The server's base URL.
        headers: The identity to send.
        uri: The table.
        params: Parameters of the scan; for ``hog``, ``uri`` names a table of 10,000 columns.
        rate: Pairs or requests per second; only for ``pairs``, ``builds`` and ``me``.
        seconds: Duration; for all kinds except ``scan``.
    """

    kind: str
    url: str
    headers: Mapping[str, str]
    uri: str
    params: Mapping[str, Any]
    rate: float = 0.0
    seconds: float = 0.0


def identity(tenant: str, principal: str) -> dict[str, str]:
    """Return the identity headers of a principal without scopes."""
    return servers.IDENTITY | {"X-Tenant-ID": tenant, "X-Strata-Principal": principal, "X-Strata-Scopes": ""}


@attrs.define
class ClientProcess:
    """A process with one thread per task, connected and waiting for :meth:`go`."""

    _process: multiprocessing.context.SpawnProcess
    _pipe: Pipe

    def go(self) -> None:
        """Start all threads."""
        self._pipe.send("go")

    def outcomes(self) -> list[Outcome]:
        """Wait until all threads have ended; return one outcome per task."""
        found: list[Outcome] = self._pipe.recv()
        return found


@contextmanager
def client_process(tasks: Sequence[Task], *, background: bool) -> Iterator[ClientProcess]:
    """Start a client process, ready to go.

    Args:
        tasks: One per thread.
        background: Run at a lower priority than other processes.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs, tuple(tasks), background), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.recv()
        yield ClientProcess(process, ours)
    finally:
        process.terminate()
        process.join()


def _run(pipe: Pipe, tasks: Sequence[Task], background: bool) -> None:  # noqa: FBT001  # a process's arguments
    if background:
        os.nice(BACKGROUND_NICE)
    found: list[Outcome] = [Outcome()] * len(tasks)
    started = threading.Event()

    def work(number: int, task: Task, connection: wire.Connection) -> None:
        started.wait()
        # Polling clients, such as a hundred dashboards, do not all start in one instant.
        found[number] = _KINDS[task.kind](task, connection, number / len(tasks))

    with ExitStack() as stack:
        # A proxy's connections are open before requests arrive.
        connections = [stack.enter_context(wire.Connection(task.url, task.headers)) for task in tasks]
        threads = [
            threading.Thread(target=work, args=(n, task, connection))
            for n, (task, connection) in enumerate(zip(tasks, connections, strict=True))
        ]
        for thread in threads:
            thread.start()
        pipe.send("ready")
        pipe.recv()
        started.set()
        for thread in threads:
            thread.join()
    pipe.send(found)


def _pairs(task: Task, connection: wire.Connection, phase: float) -> Outcome:
    def ask() -> None:
        if not workload.scan(connection, task.uri, dict(task.params)).hit:
            raise wire.WireError("a ready result was built again")

    return _at_rate(task, phase, ask)


def _builds(task: Task, connection: wire.Connection, phase: float) -> Outcome:
    count = 0

    def ask() -> None:
        nonlocal count
        count += 1
        if workload.scan(connection, task.uri, {"columns": ["id"], "limit": count}).hit:
            raise wire.WireError("a result that was not there was a hit")

    return _at_rate(task, phase, ask)


def _me(task: Task, connection: wire.Connection, phase: float) -> Outcome:
    def ask() -> None:
        if connection.get("/v1/me").status != 200:
            raise wire.WireError("/v1/me was refused")

    return _at_rate(task, phase, ask)


def _at_rate(task: Task, phase: float, ask: Callable[[], None]) -> Outcome:
    latencies, failed = [], 0
    began = time.perf_counter()
    due = began + phase / task.rate
    while due < began + task.seconds:
        time.sleep(max(0.0, due - time.perf_counter()))
        try:
            ask()
        except wire.WireError:
            failed += 1
        else:
            # From the scheduled time, so that a stalled server is charged for requests that waited.
            latencies.append(time.perf_counter() - due)
        due += 1 / task.rate
    return Outcome(tuple(latencies), len(latencies), failed=failed, seconds=time.perf_counter() - began)


def _scan(task: Task, connection: wire.Connection, _phase: float) -> Outcome:
    began = time.perf_counter()
    found = workload.scan(connection, task.uri, dict(task.params))
    if found.hit:
        raise wire.WireError("a cold scan was a hit")
    seconds = time.perf_counter() - began
    return Outcome((seconds,), 1, size=found.size, seconds=seconds)


def _writes(task: Task, connection: wire.Connection, _phase: float) -> Outcome:
    size, first, step = 0, int(task.params["limit"]), int(task.params["step"])

    def ask(number: int) -> int:
        nonlocal size
        body = {"inputs": [task.uri], "transform": {"executor": "scan@v1"}}
        body["transform"]["params"] = {"limit": max(1, first - number * step)}
        answer = connection.post("/v1/materialize", body)
        if answer.status == 200:
            answer = connection.get(answer.json()["stream_url"])
            size += answer.size
        return answer.status

    return attrs.evolve(_as_fast(task, ask), size=size)


def _flood(task: Task, connection: wire.Connection, _phase: float) -> Outcome:
    body = {"inputs": [task.uri], "transform": {"executor": "scan@v1", "params": dict(task.params)}}
    return _as_fast(task, lambda _number: connection.post("/v1/materialize", body).status)


def _hog(task: Task, connection: wire.Connection, phase: float) -> Outcome:
    def ask(number: int) -> int:
        path, body = expensive(task.uri, task.params["uri"], number * HOGS_APART + int(phase * HOGS_APART))
        return (connection.get(path) if body is None else connection.post(path, body)).status

    return _as_fast(task, ask)


def _as_fast(task: Task, ask: Callable[[int], int]) -> Outcome:
    answered = refused = failed = number = 0
    began = time.perf_counter()
    while time.perf_counter() < began + task.seconds:
        number += 1
        try:
            status = ask(number)
        except (OSError, wire.WireError):
            failed += 1
            continue
        answered += status == 200
        refused += status in REFUSED
        failed += status != 200 and status not in REFUSED
    return Outcome((), answered, refused, failed, seconds=time.perf_counter() - began)


HOGS_APART = 1_000
"""Numbers of the requests of one client between two of its requests: no two clients send the same one."""


def expensive(uri: str, wide: str, number: int) -> tuple[str, dict[str, Any] | None]:
    """Return an expensive request: its path, and its body if it is a POST.

    Args:
        uri: A table.
        wide: A table of 10,000 columns.
        number: Chooses the request, and makes it differ from others.
    """
    kinds: Sequence[Callable[[], tuple[str, dict[str, Any] | None]]] = (
        lambda: _scan_of(uri, filters=[_filter("id", "in", [number * 10_000 + at for at in range(10_000)])]),
        lambda: _scan_of(uri, filters=[_filter("at", "in", [_moment(number, at) for at in range(10_000)])]),
        lambda: _scan_of(uri, filters=[_filter("id", ">", number * 1_000 + at) for at in range(1_000)]),
        lambda: _scan_of(wide, columns=_names(), filters=[_filter("c00001", ">", number)]),
        lambda: _scan_of(wide, filters=[_filter(name, ">", number) for name in _names()[:1_000]]),
        lambda: _scan_of(wide, filters=[_filter("c00001", ">", number)]),
        lambda: (f"/v1/names/{'secret/' * 70}{number}", None),
        lambda: ("/v1/artifacts?limit=1000&offset=49000", None),
        lambda: ("/v1/artifacts?limit=1000&name_prefix=result/&sort=byte_size", None),
        lambda: ("/v1/artifacts/stats", None),
        lambda: ("/v1/names", None),
    )
    return kinds[number // HOGS_APART % len(kinds)]()


def _scan_of(uri: str, **params: Any) -> tuple[str, dict[str, Any]]:
    body = {"inputs": [uri], "transform": {"executor": "scan@v1", "params": params}}
    return "/v1/artifacts/explain-materialize", body


def _filter(column: str, op: str, value: object) -> dict[str, object]:
    return {"column": column, "op": op, "value": value}


def _names() -> list[str]:
    return [f"c{number:05}" for number in range(10_000)]


def _moment(number: int, at: int) -> str:
    return f"__datetime__:2024-01-01T00:{at // 60 % 60:02}:{at % 60:02}.{number % 1000:03}{at % 1000:03}"


_KINDS: Mapping[str, Callable[[Task, wire.Connection, float], Outcome]] = {
    "pairs": _pairs,
    "scan": _scan,
    "flood": _flood,
    "me": _me,
    "builds": _builds,
    "writes": _writes,
    "hog": _hog,
}
