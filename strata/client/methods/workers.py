"""The workers of notebooks: which a caller may use, and the catalogue for operators."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import quote

import attrs

from strata.client.answers import parse_answer
from strata.client.display.html import Listing, Shown
from strata.client.operations import ClientEnvironment, Operation, Send, exchange

T = TypeVar("T")

_ADMIN: Final = "/v1/admin/notebook-workers"


@attrs.frozen
class UsableWorker(Shown):
    """A worker that the caller may use: ``available`` says whether it takes cells now."""

    name: str
    default: bool
    available: bool
    state: str
    health: str
    runtime_id: str | None
    max_concurrent_per_tenant: int
    memory_bytes: int
    cpu_seconds: int
    wall_seconds: float
    output_bytes: int
    console_bytes: int


@attrs.frozen
class Worker(Shown):
    """A worker as operators see it.

    Attributes:
        name: Its name.
        backend: ``local`` or ``executor``.
        state: ``enabled``, ``draining`` or ``disabled``.
        health: ``healthy``, ``unavailable``, ``warming`` or ``unknown``.
        running: Cells of the server that answered, which run on it.
        max_concurrent: Cells that run at a time.
        max_concurrent_per_tenant: The same, of one tenant.
        allowances: The same, by tenant, where it is less.
        last_error: Why it was not healthy.
        features: What it says of itself.
    """

    name: str
    backend: str
    state: str
    health: str
    running: int
    max_concurrent: int
    max_concurrent_per_tenant: int
    allowances: Mapping[str, int] = attrs.field(factory=dict)
    last_error: str | None = None
    features: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class _Usable:
    workers: tuple[UsableWorker, ...]


@attrs.frozen
class _Catalogue:
    workers: tuple[Worker, ...]


def _usable(env: ClientEnvironment) -> Operation[Listing[UsableWorker]]:
    reply = yield from exchange(env, Send("GET", "/v1/notebook-workers"))
    return Listing(parse_answer(_Usable, reply.body).workers)


def _administered(
    env: ClientEnvironment, method: str, path: str = "", body: Mapping[str, Any] | None = None
) -> Operation[Listing[Worker]]:
    data = b"" if body is None else json.dumps(body).encode()
    reply = yield from exchange(env, Send(method, f"{_ADMIN}{path}", data))
    return Listing(parse_answer(_Catalogue, reply.body).workers)


def _listed(env: ClientEnvironment, *, refresh: bool) -> Operation[Listing[Worker]]:
    return _administered(env, "GET", "?refresh=true" if refresh else "")


def _switched(env: ClientEnvironment, name: str, state: str) -> Operation[Listing[Worker]]:
    path = f"/{quote(name, safe='')}"
    if state == "draining":
        return _administered(env, "POST", f"{path}/drain")
    if state not in ("enabled", "disabled"):
        raise ValueError(f"{state[:64]!r} is no state; there are enabled, draining and disabled.")
    return _administered(env, "PATCH", path, {"enabled": state == "enabled"})


def _allowed(
    env: ClientEnvironment, name: str, tenant: str, max_concurrent: int | None
) -> Operation[Listing[Worker]]:
    path = f"/{quote(name, safe='')}/tenants/{quote(tenant, safe='')}"
    if max_concurrent is None:
        return _administered(env, "DELETE", path)
    return _administered(env, "PUT", path, {"max_concurrent": max_concurrent})


class WorkerMethods(ABC):
    """Blocking methods about workers."""

    _env: ClientEnvironment

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T: ...

    def notebook_workers(self) -> Listing[UsableWorker]:
        """Return the workers that the caller may use."""
        return self._run(_usable(self._env))

    def worker_catalogue(self, *, refresh: bool = False) -> Listing[Worker]:
        """Return all workers, for operators.

        Args:
            refresh: Have the server ask all executors how they are.

        Raises:
            StrataError: If the caller has not the scope ``admin:workers``.
        """
        return self._run(_listed(self._env, refresh=refresh))

    def switch_worker(self, name: str, state: str) -> Listing[Worker]:
        """Make a worker ``enabled``, ``draining`` or ``disabled``; the last interrupts its cells.

        Raises:
            ValueError: If there is no such state.
            StrataError: If there is no such worker, or the caller has not the scope ``admin:workers``.
        """
        return self._run(_switched(self._env, name, state))

    def allow_worker(self, name: str, tenant: str, max_concurrent: int | None) -> Listing[Worker]:
        """Say how many cells of a tenant a worker runs at a time; ``None``: as many as configured.

        Raises:
            StrataError: As of :meth:`switch_worker`.
        """
        return self._run(_allowed(self._env, name, tenant, max_concurrent))


class AsyncWorkerMethods(ABC):
    """Methods about workers to be awaited; arguments, answers and errors are those of ``StrataClient``."""

    _env: ClientEnvironment

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T: ...

    async def notebook_workers(self) -> Listing[UsableWorker]:
        """Return the workers that the caller may use."""
        return await self._run(_usable(self._env))

    async def worker_catalogue(self, *, refresh: bool = False) -> Listing[Worker]:
        """Return all workers, for operators."""
        return await self._run(_listed(self._env, refresh=refresh))

    async def switch_worker(self, name: str, state: str) -> Listing[Worker]:
        """Make a worker ``enabled``, ``draining`` or ``disabled``; the last interrupts its cells."""
        return await self._run(_switched(self._env, name, state))

    async def allow_worker(self, name: str, tenant: str, max_concurrent: int | None) -> Listing[Worker]:
        """Say how many cells of a tenant a worker runs at a time."""
        return await self._run(_allowed(self._env, name, tenant, max_concurrent))
