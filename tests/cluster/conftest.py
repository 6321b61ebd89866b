"""These tests need the extra ``cluster``, which is never in the server's environment: ``nox -s cluster``."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from flight_tables import FlightTables, write_flights
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Warehouse

from strata.config import Settings

if importlib.util.find_spec("daft") is None:
    collect_ignore_glob = ["test_*.py"]

os.environ |= {"DAFT_PROGRESS_BAR": "0", "DO_NOT_TRACK": "true"}


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    path = tmp_path / "warehouse"
    path.mkdir()
    return Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))


@pytest.fixture(scope="session")
def flights(tmp_path_factory: pytest.TempPathFactory) -> FlightTables:
    """Write the demo's tables, once for all tests."""
    return write_flights(tmp_path_factory.mktemp("demo") / "data")


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
        rate_limit_global_rps=0,
        rate_limit_client_rps=0,
        rate_limit_scan_rps=0,
    )
