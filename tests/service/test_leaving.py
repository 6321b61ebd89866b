"""A stop ends in its grace though a thread waits for what does not answer, and readiness holds until then."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from service_kit import Process, Warehouse, environment, identity, numbers, process, scan

from strata.config import Settings

pytestmark = [pytest.mark.slow, pytest.mark.alone]
GRACE = 1
A, B = identity("ana", "team-a"), identity("bob", "team-b")


@contextmanager
def silent_server() -> Iterator[str]:
    """Accept connections and answer none."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    kept.append(listener.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


def post_and_forget(server: Process, body: dict[str, object]) -> None:
    """Send a request whose answer does not come."""
    with suppress(httpx.HTTPError):
        httpx.post(f"{server.url}/v1/materialize", json=body, headers=A, timeout=60, verify=False)


def crowd(server: Process, bodies: list[dict[str, object]]) -> None:
    for body in bodies:
        threading.Thread(target=post_and_forget, args=(server, body), daemon=True).start()


def others_are_answered(server: Process, uri: str) -> None:
    with httpx.Client(base_url=server.url, headers=B, timeout=30, verify=False) as bob:
        for path in ("/health/ready", "/v1/me", "/v1/names"):
            assert 200 == bob.get(path).status_code, path
        assert 200 == bob.post("/v1/materialize", json=scan(uri)).status_code


def stops_in_its_grace(server: Process) -> None:
    began = time.monotonic()
    server.popen.send_signal(signal.SIGTERM)
    assert 0 == server.popen.wait(20)
    assert time.monotonic() - began <= GRACE + 2, server.log.read_text()[-2000:]


def test_a_frozen_database(tmp_path: Path, settings: Settings, warehouse: Warehouse) -> None:
    """Sixty named hits of one tenant wait for the database's lock, which another program holds."""
    warehouse.create(numbers(10))
    body = scan(warehouse.uri())
    more = {"STRATA_SHUTDOWN_GRACE_SECONDS": str(GRACE)}
    with process(tmp_path, **environment(settings), **more) as server:
        for who in (A, B) * 2:
            made = httpx.post(
                f"{server.url}/v1/materialize", json=body, headers=who, timeout=30, verify=False
            )
            assert (
                200
                == httpx.get(
                    f"{server.url}{made.json()['stream_url']}", headers=who, verify=False
                ).status_code
            )
        lock = sqlite3.connect(Path(settings.artifact_dir) / "metadata.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        crowd(server, [{**body, "name": f"n{number}"} for number in range(60)])
        for _ in range(20):
            others_are_answered(server, warehouse.uri())
        stops_in_its_grace(server)
        lock.close()


def test_a_silent_catalog(tmp_path: Path, settings: Settings, warehouse: Warehouse) -> None:
    """A catalog server that accepts and does not answer."""
    warehouse.create(numbers(10))
    with silent_server() as url:
        catalogs = f'[tool.strata.catalogs.prod]\ntype = "rest"\nuri = "{url}"\n'
        (tmp_path / "pyproject.toml").write_text(catalogs)
        more = {"STRATA_SHUTDOWN_GRACE_SECONDS": str(GRACE)}
        with process(tmp_path, **environment(settings), **more) as server:
            crowd(server, [scan(f"prod:db.t{number}") for number in range(60)])
            for _ in range(20):
                others_are_answered(server, warehouse.uri())
            stops_in_its_grace(server)


@pytest.mark.parametrize("name", ["catalog.db", "*.metadata.json", "*.parquet"])
def test_a_fifo(tmp_path: Path, settings: Settings, warehouse: Warehouse, name: str) -> None:
    """A FIFO in the place of a file of a table holds no thread: the request is refused at once."""

    warehouse.create(numbers(10))
    more = {"STRATA_SHUTDOWN_GRACE_SECONDS": str(GRACE)}
    with process(tmp_path, **environment(settings), **more) as server:
        for path in list(warehouse.path.rglob(name)):
            path.unlink()
            os.mkfifo(path)
        with httpx.Client(base_url=server.url, headers=A, timeout=30, verify=False) as ana:
            found = ana.post("/v1/materialize", json=scan(warehouse.uri()))
            if found.status_code == 200:
                found = ana.get(found.json()["stream_url"])
            assert found.json()["error"] in ("catalog_unavailable", "data_unreadable")
            assert 200 == ana.get("/health/ready").status_code
        stops_in_its_grace(server)
