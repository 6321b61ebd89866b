"""Fixtures: a warehouse, settings for it, and a service that listens."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pyiceberg.catalog.sql import SqlCatalog
from reading_here import read_here
from service_kit import TOKEN, Running, Warehouse, running

from strata.config import Settings
from strata.tenants.builds import scan_pipeline
from strata.work import pool


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    path = tmp_path / "warehouse"
    path.mkdir()
    return Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))


@pytest.fixture
def settings(tmp_path: Path, warehouse: Warehouse) -> Settings:
    """Return settings of service mode on temporary directories, with one warehouse `wh`."""
    return Settings(
        deployment_mode="service",
        auth_mode="trusted_proxy",
        proxy_token=TOKEN,
        multi_tenant_enabled=True,
        require_tenant_header=True,
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
        warehouses={"wh": str(warehouse.path)},
        log_level="WARNING",
        # Tests ask as fast as they are answered; those of rates say which one they mean.
        rate_limit_global_rps=0,
        rate_limit_client_rps=0,
        rate_limit_scan_rps=0,
    )


@pytest.fixture
async def server(settings: Settings) -> AsyncIterator[Running]:
    async with running(settings) as found:
        yield found


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Let the second row group be read only when the gate is open."""
    opened, real = threading.Event(), scan_pipeline.read_slice

    def gated(group, *rest):
        if group.task.index == 1:
            assert opened.wait(30)
        return real(group, *rest)

    read_here(monkeypatch)
    monkeypatch.setattr(scan_pipeline, "read_slice", gated)
    monkeypatch.setattr(pool, "HUNG_SECONDS", 60.0)  # a closed gate is no disk that hangs
    yield opened
    opened.set()
