"""A server is killed at random moments of builds, uploads, name moves and collections: what was acknowledged holds.

A few kills in CI; as many as the variable ``KILLS`` says of each store with `nox -s crashes`.
"""

from __future__ import annotations

import logging
import os
import random
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest
import trio
from crash_check import check
from crash_load import LARGE_ROWS, PEOPLE, ROWS, Clients
from crash_server import forked, prepare
from postgres_kit import dsn, new_database
from service_kit import Warehouse, numbers

from strata.config import Settings

KILLS = int(os.environ.get("KILLS") or 3)
"""Kills of a server on each store."""

SEED = int(os.environ.get("KILLS_SEED") or 1)

ACKNOWLEDGED = 6
"""A server acknowledges fewer operations before its moment comes."""

LONGEST = 0.2
"""Seconds after them in which it is killed."""

STARTS = 0.1
"""Share of the kills that are followed by another one while the server starts."""

STARTING = 1.0
"""Seconds after its start in which such a server is killed."""

PATIENCE = 300.0
"""Seconds in which a server starts, answers, and acknowledges a few operations, on a busy machine."""


log = logging.getLogger(__name__)


@pytest.fixture(params=["sqlite-local", "postgresql-s3"])
def stored(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    found = attrs.evolve(
        settings, service_writes_enabled=True, log_level="ERROR", artifact_gc_interval_seconds=0
    )
    if request.param == "sqlite-local":
        yield found
        return
    moto = pytest.importorskip("moto.server", reason="moto is a test dependency")
    bucket = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    bucket.start()
    try:
        host, port = bucket.get_host_and_port()
        url = f"http://{host}:{port}"
        urllib.request.urlopen(urllib.request.Request(f"{url}/results", method="PUT")).close()
        yield attrs.evolve(
            found, artifact_metadata_dsn=dsn(new_database(request.getfixturevalue("postgresql"))),
            artifact_lease_seconds=1, artifact_dir=None, artifact_blob_backend="s3",
            artifact_s3_bucket="results", s3_endpoint_url=url, s3_region="us-east-1", s3_access_key="k",
            s3_secret_key="s",
        )  # fmt: skip
    finally:
        bucket.stop()


@attrs.define
class Crashes:
    """A server that is started and killed over and over.

    Attributes:
        settings: Its settings.
        tables: URIs of the tables that are read.
        draw: Chooses the moments.
        acknowledged: What it has acknowledged.
    """

    settings: Settings
    tables: tuple[str, str]
    draw: random.Random
    acknowledged: list[tuple[str, Any]] = attrs.field(factory=list)

    async def kill(self) -> None:
        """Start a server, and kill it at a random moment of its work."""
        with forked(self.settings) as server:
            assert await trio.to_thread.run_sync(server.listens.poll, PATIENCE)
            async with httpx.AsyncClient(base_url=server.url, headers=PEOPLE, timeout=PATIENCE) as client:
                clients = Clients(client, self.tables, self.draw, self.acknowledged)
                wanted = len(self.acknowledged) + self.draw.randrange(ACKNOWLEDGED)
                after = self.draw.uniform(0, LONGEST)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(clients.run)
                    with trio.fail_after(PATIENCE):
                        while len(self.acknowledged) < wanted:  # noqa: ASYNC110  # answers come by themselves
                            await trio.sleep(0.002)
                    await trio.sleep(after)
                    clients.killed = True
                    server.kill()
        if self.draw.random() < STARTS:
            with forked(self.settings) as starting:
                await trio.sleep(self.draw.uniform(0, STARTING))
                starting.kill()


async def settled(bucket: str) -> None:
    """Wait until the bucket has done what the killed server asked it for.

    It is in this process and late when others have the processor: an object that it writes after the next server
    has looked would be taken for one that this server overlooked.
    """
    await trio.to_thread.run_sync(
        lambda: urllib.request.urlopen(f"{bucket}/results", timeout=PATIENCE).close()
    )  # after all before
    for thread in threading.enumerate():
        if "process_request_thread" in thread.name:  # as Python names those of a server with threads
            await trio.to_thread.run_sync(thread.join, PATIENCE)
            assert not thread.is_alive(), "the bucket does not end what it was asked for"


@pytest.mark.slow
async def test_what_was_acknowledged_holds(
    stored: Settings,
    warehouse: Warehouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After each kill: finished results, names, audit and sums are right, and nothing else is left."""
    for name in ("httpx", "pyiceberg", "alembic", "werkzeug"):
        caplog.set_level(logging.WARNING, name)
    prepare()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    warehouse.create(numbers(ROWS))
    warehouse.create(numbers(LARGE_ROWS), "db.large")
    tables = (warehouse.uri(), warehouse.uri("db.large"))
    crashes = Crashes(stored, tables, random.Random(SEED))
    for number in range(KILLS):
        await crashes.kill()
        if stored.s3_endpoint_url is not None:
            await settled(stored.s3_endpoint_url)
        try:
            await check(stored, crashes.acknowledged)
        except AssertionError as error:
            error.add_note(f"after kill {number + 1} of {KILLS}")
            raise
        log.info("kill %d of %d; acknowledged: %d", number + 1, KILLS, len(crashes.acknowledged))
    done = Counter(kind for kind, _ in crashes.acknowledged)
    assert min(done["ready"], done["name"]) > 0, f"the servers did nothing: {done}"
