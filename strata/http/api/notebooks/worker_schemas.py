"""The JSON of the workers of notebooks that goes over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

HealthWord = Literal["healthy", "unavailable", "warming", "unknown"]
StateWord = Literal["enabled", "draining", "disabled"]


class UsableWorkerAnswer(msgspec.Struct):
    """A worker that the caller may use: ``available`` says whether it takes cells now."""

    name: str
    default: bool
    available: bool
    state: StateWord
    health: HealthWord
    runtime_id: str | None
    max_concurrent_per_tenant: int
    memory_bytes: int
    cpu_seconds: int
    wall_seconds: float
    output_bytes: int
    console_bytes: int


class UsableWorkersAnswer(msgspec.Struct):
    """The workers that the caller may use, the default first."""

    workers: list[UsableWorkerAnswer]


class EnabledBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PATCH …/notebook-workers/{name}``: ``false`` interrupts the cells under way on it."""

    enabled: bool


class AllowanceBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PUT …/tenants/{tenant}``: cells of the tenant at a time; 0: none."""

    max_concurrent: Annotated[int, Meta(ge=0, le=1000)]


class ConfiguredWorkerAnswer(msgspec.Struct):
    """A worker as the configuration has it; of its token only whether there is one."""

    name: str
    backend: Literal["local", "executor"]
    runtime_id: str | None
    enabled: bool
    config: dict[str, Any]


class ProbeAnswer(msgspec.Struct):
    """One look at an executor."""

    checked_at: str
    health: HealthWord
    error: str | None
    duration_ms: int


class WorkerAnswer(msgspec.Struct):
    """A worker as it is: ``running`` counts the cells of the server that answers.

    ``tenants`` and ``allowances`` name the caller's own tenant only, unless the caller has ``admin:*``.
    """

    name: str
    backend: Literal["local", "executor"]
    runtime_id: str | None
    source: Literal["builtin", "server"]
    transport: Literal["embedded", "direct"]
    allowed: bool
    enabled: bool
    state: StateWord
    changed_at: str | None
    changed_by: str | None
    tenants: list[str] | None
    allowances: dict[str, int]
    max_concurrent: int
    max_concurrent_per_tenant: int
    running: int
    health: HealthWord
    health_url: str | None
    health_checked_at: str | None
    last_error: str | None
    health_history: list[ProbeAnswer]
    probe_count: int
    healthy_probe_count: int
    unavailable_probe_count: int
    unknown_probe_count: int
    consecutive_failures: int
    last_healthy_at: str | None
    last_unavailable_at: str | None
    last_probe_duration_ms: int | None
    protocol_versions: list[str]
    transform_refs: list[str]
    features: dict[str, str | int | float | bool]


class WorkersAnswer(msgspec.Struct):
    """The whole catalogue: the configuration, and the workers as they are."""

    configured_workers: list[ConfiguredWorkerAnswer]
    workers: list[WorkerAnswer]
