"""Small, realistic bugs to plant, with which tests show that the simulator finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from unittest import mock

import attrs
import trio

from strata.artifacts import tenant_prefix
from strata.artifacts.blobs import store
from strata.http.door.auth_failures import FailureLimit
from strata.outcomes import Refused
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.runner import Builder
from strata.tenants.builds.state import Build
from strata.tenants.lifecycle import actor
from strata.tenants.lifecycle.handle import Tenant
from strata.tenants.lifecycle.registry import Registry
from strata.tenants.limits.slots import Lease
from strata.work import WorkPool, fair

Bug = Callable[[], Any]
BUGS: dict[str, Bug] = {}
"""A context manager that plants each bug, by name."""


def bug(plant: Callable[[], Iterator[None]]) -> Bug:
    """Register a bug."""
    manager = contextmanager(plant)
    BUGS[plant.__name__] = manager
    return manager


@bug
def leaked_slot() -> Iterator[None]:
    """Only successful builds release their lease."""
    real = Build.release_slot

    def release(self: Build) -> None:
        if self.readers or self.record is None or self.outcome is not None:
            real(self)

    def finish(self: Build, outcome: Any) -> None:
        if not self.done.is_set() and not isinstance(outcome, Refused):
            real(self)
        lease, self.lease = self.lease, None
        finished(self, outcome)
        self.lease = lease

    finished = Build.finish
    with mock.patch.object(Build, "release_slot", release), mock.patch.object(Build, "finish", finish):
        yield


@bug
def missing_fsync() -> Iterator[None]:
    """A blob gets its name before its bytes are synced."""

    def commit(self: store.LocalBlobWriter) -> store.BlobFacts:
        digest = self._digest()
        final = store._place(self._directory, digest)
        self._directories.ensure(final.parent)
        self._path.rename(final)
        store.sync_directory(final.parent)
        self._close()
        return store.BlobFacts(digest, self._size, final)

    with mock.patch.object(store.LocalBlobWriter, "commit", commit):
        yield


@bug
def double_actor() -> Iterator[None]:
    """The least recently used tenant is forgotten at once, while its actor still works."""

    async def supervise(self: Registry, found: Tenant) -> None:
        with suppress(KeyError):  # another actor may have its place by now
            await supervised(self, found)

    def evict(self: Registry) -> Tenant | None:
        found = next((one for one in self._tenants.values() if one.inbox is not None and not one.open), None)
        if found is not None:
            del self._tenants[found.id]
            found.inbox.close()
            found.gone.set()
        return found

    supervised = Registry._supervise
    with mock.patch.object(Registry, "_evict", evict), mock.patch.object(Registry, "_supervise", supervise):
        yield


@bug
def impatient_wait() -> Iterator[None]:
    """A build that has waited a moment for its slot continues as if it had one."""

    async def wait(self: Lease, timeout: float) -> Any:  # as the real one
        with trio.move_on_after(min(timeout, 0.1)):
            await self.turn.wait()
        return self

    with mock.patch.object(Lease, "wait", wait):
        yield


@bug
def cross_tenant_cache_key() -> Iterator[None]:
    """All tenants share one directory of files."""

    def shared(_tenant: str) -> str:
        return tenant_prefix("everybody")

    with mock.patch.object(actor, "tenant_prefix", shared):
        yield


@bug
def shared_rate_bucket() -> Iterator[None]:
    """Failures of all addresses are counted in one bucket."""
    real = FailureLimit.fail

    def fail(self: FailureLimit, peer: str, now: float) -> float | None:
        del peer
        return real(self, "everybody", now)

    with mock.patch.object(FailureLimit, "fail", fail):
        yield


@bug
def lost_wake_up() -> Iterator[None]:
    """A freed slot of the work pool wakes no waiting quantum."""

    def release(self: WorkPool, turn: Any) -> None:
        self.running -= 1
        self._queue.settle(turn)

    with mock.patch.object(WorkPool, "_release", release):
        yield


@bug
def bulk_as_it_comes() -> Iterator[None]:
    """Bulk work does not wait for its turns."""
    with mock.patch.object(fair._Floor, "due", property(lambda _: True)):
        yield


@bug
def unbounded_queue() -> Iterator[None]:
    """The number of builds is not limited."""
    real = Materializer.start

    def start(self: Materializer, order: Any) -> Any:
        limits = self.builder.limits
        self.builder.limits = attrs.evolve(limits, max_builds=10**9)
        try:
            return real(self, order)
        finally:
            self.builder.limits = limits

    with mock.patch.object(Materializer, "start", start):
        yield


@bug
def build_failed_by_its_reader() -> Iterator[None]:
    """A build ends when its last reader leaves."""
    real = Build.closed

    def closed(self: Build) -> None:
        real(self)
        if not self.readers and not self.done.is_set():
            self.scope.cancel()

    with mock.patch.object(Build, "closed", closed):
        yield


@bug
def stale_plan() -> Iterator[None]:
    """Plans are remembered by table, without its version."""
    real = Builder.plan

    async def plan(self: Builder, scan: Any, principal: str) -> Any:
        return await real(self, attrs.evolve(scan, plan_key=(scan.table.uuid, scan.predicates)), principal)

    with mock.patch.object(Builder, "plan", plan):
        yield
