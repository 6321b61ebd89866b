"""Clients of a catalog, one a caller: each with its own credentials, at most a fixed number of them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
import requests
from requests.adapters import HTTPAdapter
from rest_catalog import RestServer, rest_server
from structlog.testing import capture_logs

from strata.config.fields import CatalogCallers
from strata.outcomes import Reason, Refused
from strata.tables import CALLER, Catalogs, LoadedTable, TableRef, parse_scan_params, plan_files, resolve_scan
from strata.tables.callers import clients
from strata.tables.callers.token_exchange import ExchangedToken
from strata.tables.catalogs.vended import VendedFileIO
from strata.tables.scan.cell_grants import read_alike

REF = TableRef("prod", ("db",), "t")


@pytest.fixture
def rest(warehouse) -> Iterator[RestServer]:
    warehouse.create(pa.schema([("id", pa.int64())]))
    warehouse.append([{"id": 1}])
    with rest_server(warehouse.catalog) as server:
        yield server


@pytest.fixture
def ours(rest: RestServer) -> Iterator[Catalogs]:
    catalogs = Catalogs(
        warehouses={},
        catalogs={"prod": {"type": "rest", "uri": rest.uri}},
        callers={"prod": CatalogCallers("header")},
        any_file_warehouse=False,
        secret=b"s" * 32,
    )
    yield catalogs
    catalogs.close()


def loaded(ours: Catalogs, principal: str) -> LoadedTable:
    table = ours.load(ours.asked_by(REF, "team", principal))
    assert isinstance(table, LoadedTable)
    return table


def test_vended_credentials_are_those_of_the_caller_also_when_they_are_renewed(rest, ours) -> None:
    """Each caller's file I/O has what the catalog has answered to that caller."""
    for who in ("ana", "eve"):
        rest.of_caller[who] = {"config": {"s3.access-key-id": f"key-of-{who}"}}
    found = {who: loaded(ours, who).io for who in ("ana", "eve")}
    rest.callers.clear()
    for who, io in found.items():
        assert isinstance(io, VendedFileIO)
        _, vended = io.io_of("s3://bucket/file")
        assert f"key-of-{who}" == vended.properties["s3.access-key-id"]
        rest.of_caller[who] = {"config": {"s3.access-key-id": f"newer-key-of-{who}"}}
        io.renew(vended)
        assert f"newer-key-of-{who}" == io.io_of("s3://bucket/file")[1].properties["s3.access-key-id"]
    assert ["ana", "eve"] == [caller for _, caller in rest.callers]


def test_versions_and_the_keys_of_plans_and_files_are_of_the_caller(ours) -> None:
    """So are those of cached segments; nothing of the version tells who it is."""
    scans = {}
    for who in ("ana", "eve", "ana again"):
        spec = parse_scan_params({})
        assert not isinstance(spec, Refused)
        scan = resolve_scan(loaded(ours, who.split()[0]), spec)
        assert not isinstance(scan, Refused)
        plan = plan_files(scan)
        assert not isinstance(plan, Refused)
        scans[who] = (scan, plan.files[0].file_key, scan.table.ref.source)
    ana, eve, again = scans.values()
    assert (ana[0].version, ana[0].plan_key, *ana[1:]) == (again[0].version, again[0].plan_key, *again[1:])
    assert ana[0].version != eve[0].version
    assert ana[0].plan_key != eve[0].plan_key
    assert not set(ana[1:]) & set(eve[1:])
    assert "ana" not in ana[0].version
    assert ana[0].view.startswith(CALLER)
    assert not ana[0].restricted, "all cells are visible"
    ref = {who: ours.asked_by(REF, "team", who).caller for who in ("ana", "eve")}
    assert read_alike(ana[0].version, None, ref["ana"])
    assert not read_alike(ana[0].version, None, ref["eve"])
    assert not read_alike(ana[0].version, None)
    assert not read_alike(ana[0].version.partition(CALLER)[0], None, ref["ana"])


def test_a_question_of_nobody_is_not_asked(rest, ours) -> None:
    """The server has no identity of its own at such a catalog."""
    refused = ours.load(REF)
    assert isinstance(refused, Refused)
    assert refused.reason is Reason.NOT_FOUND
    assert [] == rest.callers


def test_requests_that_the_client_would_sign_as_the_servers_own_are_not_sent(rest, ours, monkeypatch) -> None:
    """Also where pyiceberg's own environment says so: the signature would take the place of the caller's token."""
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__REST__SIGV4_ENABLED", "true")
    monkeypatch.setenv("PYICEBERG_CATALOG__PROD__CLIENT__REGION", "eu-west-1")
    with capture_logs() as lines:
        refused = ours.load(ours.asked_by(REF, "team", "ana"))
    assert isinstance(refused, Refused)
    assert Reason.UNAVAILABLE is refused.reason
    assert [("catalog_unavailable", "ForeignAdapterError")] == [
        (one["event"], one["error"]) for one in lines if one["log_level"] == "warning"
    ]
    assert [] == rest.callers


def test_a_session_that_sends_some_requests_otherwise_is_refused() -> None:
    """Whatever mounted the adapter, and for whatever address."""
    for token in (None, ExchangedToken("prod", CatalogCallers("token_exchange"), "ana")):
        caller = clients.AsCaller(CatalogCallers("header"), token, "ana", clients.SharedConnections())
        caller.prepare(requests.Session())
        session = requests.Session()
        session.mount("https://catalog.example.com", HTTPAdapter())
        with pytest.raises(clients.ForeignAdapterError):
            caller.prepare(session)


def test_the_number_of_kept_clients_is_bounded(rest, ours, monkeypatch) -> None:
    """The caller that has asked least recently gets a new one; connections are shared by all."""
    monkeypatch.setattr(clients, "KEPT", 2)
    bounded = clients.CallersClients("prod", CatalogCallers("header"), lambda caller: caller)
    callers = [ours.asked_by(REF, "team", who).caller for who in ("a", "b", "c")]
    first, second = bounded.of(callers[0]), bounded.of(callers[1])
    assert first is bounded.of(callers[0])
    bounded.of(callers[2])
    assert 2 == len(bounded)
    assert first is bounded.of(callers[0])
    assert second is not bounded.of(callers[1])
    assert 1 == len({id(one.connections) for one in (first, second)})
