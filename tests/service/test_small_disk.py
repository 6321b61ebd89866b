"""A disk that is really full, a small tmpfs of the server's own: builds are refused, results stay, room heals."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import attrs
import httpx
import pytest
from programs import need
from service_kit import Process, Warehouse, environment, identity, numbers, process, scan

from strata.config import Settings

DISK = 24 * 2**20
RESERVE = 4 * 2**20
ROWS = 100_000
"""Rows of a result of 1.6 MB."""

TRIES = 10_000
"""Builds within less than a second in which the measurement of a disk that is full since is used."""

DIRECT = {"Accept": "application/vnd.apache.arrow.stream"}
MINE, THEIRS = identity("ana", "team-a", scopes="artifacts:write"), identity("bob", "team-b")


@attrs.define
class Small:
    """A server whose results are on a small disk.

    Attributes:
        process: The server.
        client: Connections to it.
        disk: The disk, as the server sees it.
        uri: A table.
        stored: The sums of what it has answered, by the path of each result.
    """

    process: Process
    client: httpx.Client
    disk: Path
    uri: str
    stored: dict[str, str] = attrs.field(factory=dict)

    def build(self, limit: int, who: dict[str, str] = MINE) -> httpx.Response:
        """Build a result, and keep the sum of its bytes; again where the disk was full on the way."""
        body = scan(self.uri, params={"limit": limit})
        for _ in range(TRIES):
            with suppress(httpx.RemoteProtocolError):
                answer = self.client.post("/v1/materialize", json=body, headers=who | DIRECT)
                break
        else:
            raise AssertionError("a full disk refuses no build")
        if answer.status_code == 200:
            place = answer.headers["X-Strata-Artifact-Uri"].removeprefix("strata://artifact/")
            path = f"/v1/artifacts/{place.replace('@v=', '/v/')}"
            self.stored[path] = hashlib.sha256(answer.content).hexdigest()
        return answer

    def check(self, who: dict[str, str] = MINE) -> None:
        """Read all that was stored."""
        for path, sha256 in self.stored.items():
            data = self.client.get(f"{path}/data", headers=who)
            assert (200, sha256) == (data.status_code, hashlib.sha256(data.content).hexdigest()), path

    def fill(self) -> Path:
        """Take all that is left of the disk, as another program does."""
        path = self.disk / "another-program"
        with path.open("wb", buffering=0) as file:
            for size in (2**16, 2**12, 1):
                with pytest.raises(OSError, match="No space left"):
                    file.writelines(itertools.repeat(bytes(size)))
        return path


@pytest.fixture
def small(settings: Settings, warehouse: Warehouse, tmp_path: Path) -> Iterator[Small]:
    if os.geteuid() != 0:
        pytest.skip("root may mount a tmpfs: run the tests as root")
    warehouse.create(numbers(ROWS))
    settings.artifact_root.mkdir(exist_ok=True)
    # In a namespace of its own: the mount ends with the server.
    mount = f'{need("mount")} -t tmpfs -o size={DISK} tmpfs "$0" && exec "$@"'
    inside = (need("unshare"), "--mount", "/bin/sh", "-c", mount, str(settings.artifact_root))
    given = environment(settings) | {
        "STRATA_DISK_RESERVE_BYTES": str(RESERVE),
        "STRATA_SERVICE_WRITES_ENABLED": "true",
        "STRATA_ARTIFACT_GC_INTERVAL_SECONDS": "0",
    }
    with (
        process(tmp_path, inside=inside, **given) as running,
        httpx.Client(base_url=running.url, timeout=60) as client,
    ):
        disk = Path(f"/proc/{running.popen.pid}/root{settings.artifact_root}")
        yield Small(running, client, disk, warehouse.uri())


def told(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of a refusal."""
    return answer.status_code, answer.json()["error"]


@pytest.mark.slow
def test_a_full_disk_refuses_what_writes_and_keeps_what_is_there(small: Small) -> None:
    """A tenant fills its share, another program the rest: results are read, all else says why until there is room."""
    refused = next(one for number in range(100) if (one := small.build(ROWS - number)).status_code != 200)
    assert (503, "storage_share") == told(refused)
    small.check()
    theirs = small.build(1, THEIRS)
    assert 200 == theirs.status_code, theirs.text
    del small.stored[next(reversed(small.stored))]  # of the other tenant
    program = small.fill()
    result = next(iter(small.stored))
    named = {"name": "first", "artifact_id": result.split("/")[3], "version": 1}
    for answer in (
        small.build(2, THEIRS),
        small.client.post("/v1/names", json=named, headers=MINE),
        small.client.delete(result, headers=MINE),
    ):
        assert (503, "storage_unavailable") == told(answer)
    assert 200 == small.client.get("/health/ready").status_code
    small.check()
    program.unlink()
    assert 200 == small.client.delete(result, headers=MINE).status_code
    del small.stored[result]
    small.check()
    # A measurement of the free bytes is used for a second.
    assert any(small.build(2, THEIRS).status_code == 200 for _ in range(TRIES))
    assert small.process.popen.poll() is None
    assert "crashed" not in small.process.log.read_text()
