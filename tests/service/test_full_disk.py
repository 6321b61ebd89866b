"""A full disk: builds are refused with a reason, leave nothing behind, and run again once there is space."""

import errno
import os

import pytest
from service_kit import Running, Warehouse, fetch, identity, numbers, scan

from strata.cache import PackWriter


async def test_a_full_disk_is_503_and_over_when_there_is_room(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build on a full disk is 503 instead of a crash, and succeeds once there is space."""
    warehouse.create(numbers(100))
    real = os.writev

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    direct = {"Accept": "application/vnd.apache.arrow.stream"}
    async with server.client() as client:
        monkeypatch.setattr(os, "writev", full)
        refused = await client.post("/v1/materialize", json=scan(warehouse.uri()), headers=direct)
        assert (503, "storage_unavailable") == (refused.status_code, refused.json()["error"])
        assert 30 == int(refused.headers["Retry-After"])
        monkeypatch.setattr(os, "writev", real)
        assert 100 == (await fetch(client, scan(warehouse.uri()))).num_rows


async def test_a_cache_without_room_fails_no_scan(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan succeeds although its segments cannot be cached."""
    warehouse.create(numbers(100))
    asked = []

    def full(self: PackWriter, *_: object) -> None:
        asked.append(self)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PackWriter, "append", full)
    params = {"filters": [{"column": "id", "op": "<", "value": 7}]}
    async with server.client() as client:
        assert 7 == (await fetch(client, scan(warehouse.uri(), params=params))).num_rows
    assert 1 == len(asked)


DIRECT = {"Accept": "application/vnd.apache.arrow.stream"}


def ids(op: str, value: int) -> dict:
    """Return the parameters of a scan with one condition on ``id``."""
    return {"filters": [{"column": "id", "op": op, "value": value}]}


async def test_a_tenant_that_fills_the_disk_leaves_the_others_their_part(
    server: Running, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its builds are refused while its results take three times what is left; others build, all are read."""
    warehouse.create(numbers(2_000))
    disk, written = 2_000_000, [0]
    guard = server.service.registry.resources.disk_space
    assert guard is not None
    monkeypatch.setattr(guard, "_look", lambda _path: guard.reserve + disk - written[0])
    monkeypatch.setattr(guard, "_look_used", lambda _path: written[0])
    noted = guard.note_written

    def note(nbytes: int) -> None:
        written[0] += nbytes
        noted(nbytes)

    monkeypatch.setattr(guard, "note_written", note)
    async with server.client() as greedy, server.client(**identity("bob", "team-b")) as other:
        for number in range(100):
            body = scan(warehouse.uri(), params=ids(">=", number))
            answer = await greedy.post("/v1/materialize", json=body, headers=DIRECT)
            if answer.status_code != 200:
                break
        assert (503, "storage_share") == (answer.status_code, answer.json()["error"])
        assert disk * 0.7 < written[0] < disk * 0.9
        whole, few = (scan(warehouse.uri(), params=params) for params in (ids(">=", 0), ids("<", 7)))
        assert 2_000 == (await fetch(greedy, whole)).num_rows
        assert 7 == (await fetch(other, few)).num_rows
