"""Workers as JSON: never a token, nor the path of its file, nor another tenant's name."""

from __future__ import annotations

from typing import Literal

from strata.cells.health import State
from strata.cells.runtime import CellRuntime
from strata.config.fields import NotebookWorker
from strata.config.sections.notebook_workers import PERSONAL
from strata.executor.protocol.client import base_of
from strata.http.api import administration as admin
from strata.http.api.notebooks.worker_schemas import (
    ConfiguredWorkerAnswer,
    ProbeAnswer,
    WorkerAnswer,
    WorkersAnswer,
)
from strata.http.api.responses import iso
from strata.http.door.context import Context
from strata.notebooks.store.workers import WorkerState


def health_of(cells: CellRuntime, worker: NotebookWorker) -> State:
    """Return how a worker was at the last look; one in processes of this machine is healthy."""
    if worker.embedded:
        return "healthy"
    known = cells.health.get(worker.name)
    return "unknown" if known is None else known.health


def catalogue(found: Context) -> WorkersAnswer:
    """Return the whole catalogue, as the caller may see it."""
    cells = found.registry.resources.cells
    seen = None if admin.is_operator(found) else found.caller.tenant
    return WorkersAnswer(
        [_configured(worker) for worker in cells.workers],
        [_worker(cells, worker, found.caller.tenant, seen) for worker in cells.workers],
    )


def _configured(worker: NotebookWorker) -> ConfiguredWorkerAnswer:
    config = {"url": worker.url, "transport": _transport(worker), "token": worker.token_file is not None}
    return ConfiguredWorkerAnswer(worker.name, _backend(worker), worker.runtime_id, worker.enabled, config)


def _backend(worker: NotebookWorker) -> Literal["local", "executor"]:
    return "local" if worker.embedded else "executor"


def _transport(worker: NotebookWorker) -> Literal["embedded", "direct"]:
    return "embedded" if worker.embedded else "direct"


def _worker(cells: CellRuntime, worker: NotebookWorker, tenant: str, seen: str | None) -> WorkerAnswer:
    state, switched = cells.state_of(worker), cells.switches.states.get(worker.name)
    known = cells.health.get(worker.name)
    last = known.probes[0] if known is not None and known.probes else None
    counts, times = (known.counts, known.last) if known is not None else ({}, {})
    return WorkerAnswer(
        name=worker.name,
        backend=_backend(worker),
        runtime_id=worker.runtime_id,
        source="builtin" if worker is PERSONAL else "server",
        transport=_transport(worker),
        allowed=cells.may_use(worker, tenant),
        enabled=state is not WorkerState.DISABLED,
        state=state.value,
        changed_at=None if switched is None else iso(switched.changed_at),
        changed_by=None if switched is None else switched.changed_by,
        tenants=None if worker.tenants is None else [one for one in worker.tenants if seen in (None, one)],
        allowances={
            who: places
            for (name, who), places in sorted(cells.switches.allowances.items())
            if name == worker.name and seen in (None, who)
        },
        max_concurrent=worker.max_concurrent,
        max_concurrent_per_tenant=worker.max_concurrent_per_tenant,
        running=cells.running(worker),
        health=health_of(cells, worker),
        health_url=None if worker.embedded else f"{base_of(worker.url)}/health",
        health_checked_at=None if last is None else iso(last.checked_at),
        last_error=None if last is None else last.error,
        health_history=[
            ProbeAnswer(iso(one.checked_at) or "", one.health, one.error, one.duration_ms)
            for one in (() if known is None else known.probes)
        ],
        probe_count=sum(counts.values()),
        healthy_probe_count=counts.get("healthy", 0),
        unavailable_probe_count=counts.get("unavailable", 0),
        unknown_probe_count=counts.get("unknown", 0) + counts.get("warming", 0),
        consecutive_failures=0 if known is None else known.failures,
        last_healthy_at=iso(times.get("healthy")),
        last_unavailable_at=iso(times.get("unavailable")),
        last_probe_duration_ms=None if last is None else last.duration_ms,
        protocol_versions=[] if known is None else list(known.versions),
        transform_refs=[] if known is None else list(known.refs),
        features={} if known is None else dict(known.features),
    )
