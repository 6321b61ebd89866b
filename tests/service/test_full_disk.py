"""A full disk: builds are refused with a reason, leave nothing behind, and run again once there is space."""

import errno
import os

import pytest
from service_kit import Running, Warehouse, fetch, numbers, scan

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
