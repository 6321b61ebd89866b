"""A request that waits for a thread delays no other request, at any load of the loop."""

import threading
from collections.abc import Callable

import httpx
import pytest
import trio
from reading_here import read_here
from service_kit import Warehouse, fetch, identity, numbers, running, scan

from strata.config import Settings
from strata.tenants.builds import planning, scan_pipeline


@pytest.fixture
def gate():
    opened = threading.Event()
    yield opened
    opened.set()


def waiting(real: Callable, gate: threading.Event, began: threading.Event) -> Callable:
    def gated(*args, **more):
        began.set()
        assert gate.wait(60)
        return real(*args, **more)

    return gated


@pytest.mark.parametrize("stage", ["plan", "rows", "metadata"])
async def test_another_tenant_is_answered_while_a_request_waits_for_a_thread(
    stage: str, settings: Settings, warehouse: Warehouse, gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For its plan, its first rows, or the metadata store; with tokens that are never due."""
    warehouse.create(numbers(100))
    began = threading.Event()
    async with running(settings) as server, trio.open_nursery() as nursery:
        server.service.app.admission._patience = 1e9

        async def spin() -> None:
            while True:
                await trio.lowlevel.checkpoint()

        async def ask(client: httpx.AsyncClient, done: trio.Event) -> None:
            assert 100 == (await fetch(client, scan(warehouse.uri()))).num_rows
            done.set()

        async with server.client() as slow, server.client(**identity(tenant="team-b")) as quick:
            answered, waited = trio.Event(), trio.Event()
            await ask(quick, trio.Event())
            if stage == "plan":
                monkeypatch.setattr(planning, "plan_step", waiting(planning.plan_step, gate, began))
            elif stage == "rows":
                read_here(monkeypatch)
                monkeypatch.setattr(
                    scan_pipeline, "read_slice", waiting(scan_pipeline.read_slice, gate, began)
                )
            else:
                store = server.service.registry.resources.metadata
                monkeypatch.setattr(store, "begin_build", waiting(store.begin_build, gate, began))
            nursery.start_soon(spin)  # the loop never idles
            nursery.start_soon(ask, slow, waited)
            with trio.fail_after(60):
                while not began.is_set():
                    await trio.lowlevel.checkpoint()
                await ask(quick, answered)
                assert answered.is_set()
                assert not waited.is_set()
                gate.set()
                await waited.wait()
            nursery.cancel_scope.cancel()
