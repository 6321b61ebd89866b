"""What cells of all tenants share: the workers, the processes, their number, and a place for bundles."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import attrs
import trio
from cachetools import LRUCache

from strata.cells.health import WorkerHealth, probe
from strata.cells.remote import RemoteCells, RuntimeChangedError
from strata.cells.runner import Answerer, CellJob, CellOutcome, CellRunner, Console, Interrupt
from strata.config.fields import NotebookEnvironment, NotebookWorker
from strata.config.sections.notebook_environments import Lock
from strata.executor.protocol.client import Executor, ExecutorError
from strata.executor.protocol.messages import NOTEBOOK_CELL
from strata.notebooks.store.workers import WorkerState, WorkerSwitches

BUNDLES: Final = ".cells"
"""Directory in ``cache_dir`` for bundles of runs under way; no name of a tenant's cache."""

PRIVATE_DIRECTORY: Final = 0o700
"""Permissions of that directory."""

LIBRARIES: Final = ("pyarrow", "numpy", "pandas", "polars", "duckdb")
"""Libraries whose versions are part of the identity of a worker without one of its own."""


EXECUTORS_REMEMBERED: Final = 4096
"""Pairs of a tenant and an executor whose circuit breaker is kept; the one unused for longest goes."""

MAX_RUNTIME: Final = 1_000
"""Maximum characters of the identity that an executor tells; the rest is cut."""

TOLD_SECONDS: Final = 10.0
"""Seconds for which what an executor told of its runtime counts, if it refuses cells for another one."""


@attrs.frozen
class _Told:
    """What an executor told of its runtime: the identity, whether it checks it, and when it told it."""

    runtime: str
    checks: bool
    at: float


@attrs.define(eq=False)
class CellRuntime:
    """What cells of all tenants share.

    Attributes:
        root: Directory for bundles of runs under way.
        workers: The configured workers; the first one that a tenant may use is its default.
        runner: Runs cells on this machine.
        tokens: The bearer tokens of executors by the path of their file.
        switches: What operators have switched, and allowances of tenants.
        health: What is known of the executors' health, by worker.
        environments: The configured environments, and the lock of each whose file can be read.
    """

    root: Path
    workers: tuple[NotebookWorker, ...] = ()
    runner: CellRunner = attrs.field(factory=CellRunner)
    tokens: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    switches: WorkerSwitches = attrs.field(factory=WorkerSwitches)
    health: dict[str, WorkerHealth] = attrs.field(factory=dict)
    environments: Sequence[tuple[NotebookEnvironment, Lock]] = ()
    _running: dict[str, set[Interrupt]] = attrs.field(factory=lambda: defaultdict(set), init=False)
    _runtimes: dict[str, _Told] = attrs.field(factory=dict, init=False)
    _executors: LRUCache[tuple[str, str, str | None], Executor] = attrs.field(
        factory=partial(LRUCache, EXECUTORS_REMEMBERED), init=False, repr=False
    )
    _all: dict[str, trio.CapacityLimiter] = attrs.field(factory=dict, init=False)
    _each: dict[tuple[str, str], trio.CapacityLimiter] = attrs.field(factory=dict, init=False)
    _users: dict[tuple[str, str], int] = attrs.field(factory=lambda: defaultdict(int), init=False)

    def worker_for(self, tenant: str, name: str | None) -> NotebookWorker | None:
        """Return the worker of a name that takes a tenant's cells, or its default one, or ``None``."""
        for worker in self.workers:
            if name in (None, worker.name) and self.takes(worker, tenant):
                return worker
        return None

    def lock_for(self, tenant: str, name: str) -> Lock | None:
        """Return the lock of an environment that a tenant may use."""
        for one, lock in self.environments:
            if one.name == name and (one.tenants is None or tenant in one.tenants):
                return lock
        return None

    def has_worker(self, tenant: str) -> bool:
        """Whether a worker is configured for a tenant, though none may take its cells now."""
        return any(worker.tenants is None or tenant in worker.tenants for worker in self.workers)

    def why_none(self, tenant: str, name: str | None) -> str:
        """Return a sentence about why :meth:`worker_for` has no worker."""
        for worker in self.workers:
            state = self.state_of(worker)
            if name == worker.name and self.may_use(worker, tenant) and state is not WorkerState.ENABLED:
                return f"The worker {worker.name} takes no cells now: it is {state.value}."
        if name is not None:
            return f"No worker of this tenant has the name {name[:64]}."
        return "No worker takes cells of this tenant."

    def state_of(self, worker: NotebookWorker) -> WorkerState:
        """Return the state of a worker: one that the configuration disables is disabled."""
        if not worker.enabled:
            return WorkerState.DISABLED
        switched = self.switches.states.get(worker.name)
        return WorkerState.ENABLED if switched is None else switched.state

    def may_use(self, worker: NotebookWorker, tenant: str) -> bool:
        """Whether a tenant may use a worker, whatever its state."""
        named = worker.tenants is None or tenant in worker.tenants
        return named and self.places_of(worker, tenant) > 0

    def takes(self, worker: NotebookWorker, tenant: str) -> bool:
        """Whether a worker takes further cells of a tenant now."""
        return self.state_of(worker) is WorkerState.ENABLED and self.may_use(worker, tenant)

    def places_of(self, worker: NotebookWorker, tenant: str) -> int:
        """Return how many cells of a tenant run on a worker at a time; 0: none."""
        allowed = self.switches.allowances.get((worker.name, tenant), worker.max_concurrent_per_tenant)
        return min(allowed, worker.max_concurrent_per_tenant)

    def running(self, worker: NotebookWorker) -> int:
        """Return how many cells of this server run on a worker."""
        return len(self._running.get(worker.name, ()))

    def take_switches(self, switches: WorkerSwitches) -> None:
        """Apply switches and allowances: what runs on a worker that is disabled now is interrupted."""
        self.switches = switches
        for worker in self.workers:
            if self.state_of(worker) is WorkerState.DISABLED:
                for interrupt in self._running.get(worker.name, ()):
                    interrupt.asked.set()

    async def look(self, workers: Collection[NotebookWorker], now: float, *, refresh: bool) -> None:
        """Ask executors how they are; one whose last look is recent only on ``refresh``.

        Args:
            workers: The workers.
            now: The time, in seconds since the epoch.
            refresh: Whether to ask all.
        """
        for gone in self.health.keys() - {worker.name for worker in self.workers}:
            del self.health[gone]
        async with trio.open_nursery() as nursery:
            for worker in workers:
                if worker.embedded:
                    continue
                known = self.health.setdefault(worker.name, WorkerHealth())
                if refresh or known.is_old(worker.url, now):
                    executor = Executor(worker.url, self.tokens.get(worker.token_file or ""))
                    nursery.start_soon(probe, known, executor, now)

    async def runtime_of(self, worker: NotebookWorker, tenant: str) -> str:
        """Return the identity of a worker's interpreter and libraries; an executor's is the one it last told.

        What an executor told counts for :data:`TOLD_SECONDS`, if it refuses cells that are meant for another
        runtime, and until such a refusal.

        Raises:
            ExecutorError: If the executor cannot be asked, or runs no cells.
        """
        if worker.runtime_id or worker.embedded:
            return worker.runtime_id or own_runtime()
        known, asked = self._runtimes.get(worker.url), trio.current_time()
        if known is not None and known.checks and asked - known.at < TOLD_SECONDS:
            return known.runtime
        try:
            health = await self.executor(tenant, worker).health()
        except ExecutorError:
            if known is not None:  # results can be reused meanwhile
                return known.runtime
            raise
        if NOTEBOOK_CELL not in health.refs:
            raise ExecutorError("executor_unhealthy", "The executor runs no cells.", begun=False)
        told = health.features.get("runtime_id")
        runtime = told[:MAX_RUNTIME] if isinstance(told, str) else worker.url
        checks = health.features.get("checks_runtime") is True and runtime == told
        self._runtimes[worker.url] = _Told(runtime, checks, asked)
        return runtime

    def executor(self, tenant: str, worker: NotebookWorker) -> Executor:
        """Return the executor of a worker, with a circuit breaker of the tenant."""
        key = (tenant, worker.url, self.tokens.get(worker.token_file or ""))
        found = self._executors.get(key)
        if found is None:
            found = self._executors[key] = Executor(*key[1:])
        return found

    async def run(
        self,
        worker: NotebookWorker,
        tenant: str,
        job: CellJob,
        output: int,
        console: Console,
        *,
        answerer: Answerer,
        interrupt: Interrupt,
    ) -> CellOutcome:
        """Run a cell on a worker; see :meth:`CellRunner.run`.

        Raises:
            RuntimeChangedError: If its executor has another runtime now than it told.
        """
        runner: CellRunner | RemoteCells = self.runner
        if not worker.embedded:
            known = None if worker.runtime_id else self._runtimes.get(worker.url)
            runtime = known.runtime if known is not None and known.checks else None
            runner = RemoteCells(worker.name, self.executor(tenant, worker), runtime, tenant)
        self._running[worker.name].add(interrupt)
        try:
            return await runner.run(job, output, console, answerer=answerer, interrupt=interrupt)
        except RuntimeChangedError:
            self._runtimes.pop(worker.url, None)
            raise
        finally:
            self._running[worker.name].discard(interrupt)

    @asynccontextmanager
    async def place(self, worker: NotebookWorker, tenant: str) -> AsyncIterator[None]:
        """Hold a place on a worker, and one of the tenant's there; waits for both."""
        key = worker.name, tenant
        self._users[key] += 1
        try:
            each = self._each.setdefault(key, trio.CapacityLimiter(1))
            each.total_tokens = max(1, self.places_of(worker, tenant))
            all_ = self._all.setdefault(worker.name, trio.CapacityLimiter(1))
            all_.total_tokens = worker.max_concurrent
            async with each, all_:
                yield
        finally:
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                self._each.pop(key, None)

    def sweep(self) -> None:
        """Remove what runs of a killed server have left; blocking."""
        shutil.rmtree(self.root, ignore_errors=True)

    def bundle(self) -> int:
        """Open a file for a bundle, which has no name and goes with its descriptor; blocking."""
        self.root.mkdir(PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.root) as file:
            return os.dup(file.fileno())


@cache
def own_runtime() -> str:
    """Return the identity of this interpreter and its libraries."""
    parts = [f"{sys.implementation.name}-{sysconfig.get_python_version()}-{sysconfig.get_platform()}"]
    for name in LIBRARIES:
        try:
            parts.append(f"{name}-{version(name)}")
        except PackageNotFoundError:
            continue
    return " ".join(parts)
