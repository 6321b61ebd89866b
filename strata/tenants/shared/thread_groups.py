"""The groups of threads in which calls wait, by what they wait for: one that is silent holds up no other."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import attrs

from strata.artifacts import STORE_DOWN
from strata.notebooks.names.analyser import OVERLOADED
from strata.outcomes import Reason, Refused
from strata.tables import TableRef, catalog_unavailable
from strata.work.waiting_threads import WaitingThreads

READS = 40
"""Threads for reads of the metadata store; a tenant's share is a quarter."""

READ_SECONDS = 30.0
"""Seconds a read of the metadata store may take; then it is interrupted, and refused with UNAVAILABLE."""

WRITES = 16
"""Threads for writes to the metadata store, which go one at a time; a tenant's share is a quarter."""

WRITE_SECONDS = 75.0
"""Seconds a write may take: 30 for this server's other writes (``BUSY_SECONDS``), 30 for other programs', 15
for itself; then it is interrupted, and refused with UNAVAILABLE."""

NETWORK = 64
"""Threads for reads and writes of remote stores; a tenant's share is a quarter."""

NETWORK_SECONDS = 60.0
"""Seconds such a call may take, besides those for its bytes; then it is refused with UNAVAILABLE."""

NETWORK_BYTES_PER_SECOND = 1024 * 1024
"""Bytes of a call that give it another second."""

DISK = 64
"""Threads for builds that wait for the local disk; a tenant's share is a quarter."""

DISK_SECONDS = 60.0
"""Seconds a build may wait for the local disk; then it fails with UNAVAILABLE."""

CELLS = 4
"""Threads that wait for the analysis of a notebook's cell by a child process; a tenant's share is one."""

CELL_SECONDS = 60.0
"""Seconds an analysis may take; then it is refused with UNAVAILABLE."""

LOOKS = 8
"""Threads for one catalog; a tenant's share is a quarter."""

LOOK_SECONDS = 60.0
"""Seconds an answer of a catalog may take, the table's metadata file included; then UNAVAILABLE."""

HEALTH_SECONDS = 1.0
"""Seconds a probe may wait for its thread, and then for the store; then the server is not ready."""

WAIT_SECONDS = 30.0
"""Seconds a call may wait for a thread of its group; then it is refused with UNAVAILABLE."""

NETWORK_DOWN = Refused(
    Reason.UNAVAILABLE, "The object store does not answer.", code="blob_store_down", retry_after=5
)
DISK_DOWN = Refused(
    Reason.UNAVAILABLE, "The server's disk does not answer.", code="storage_unavailable", retry_after=30
)


def _store(name: str, threads: int, seconds: float) -> WaitingThreads:
    return WaitingThreads(name, threads, STORE_DOWN, WAIT_SECONDS, seconds)


@attrs.define
class ThreadCounts:
    """Calls of the groups of one name.

    Attributes:
        running: Calls that run and are awaited.
        waiting: Calls that wait for a thread.
        hung: Abandoned calls whose threads have not ended.
        refusals: Calls refused so far.
    """

    running: int = 0
    waiting: int = 0
    hung: int = 0
    refusals: int = 0

    def add(self, group: WaitingThreads) -> None:
        """Add a group's counts."""
        self.running += group.running
        self.waiting += group.waiting
        self.hung += group.hung
        self.refusals += group.refusals


@attrs.frozen(eq=False)
class ThreadGroups:
    """Threads for calls that wait.

    Attributes:
        reads: Reads of the metadata store; abandoned and interrupted when the caller leaves.
        writes: Writes to the metadata store; a caller that leaves does not end one.
        network: Reads of remote data files, and reads and writes of remote blobs.
        disk: Builds that wait for the local disk.
        cells: Analyses of notebooks' cells by child processes.
        health: Probes of the metadata store.
        catalogs: Threads of each catalog with questions under way.
        gone: Counts of catalogs without questions.
    """

    reads: WaitingThreads = attrs.field(factory=partial(_store, "metadata_reads", READS, READ_SECONDS))
    writes: WaitingThreads = attrs.field(factory=partial(_store, "metadata_writes", WRITES, WRITE_SECONDS))
    network: WaitingThreads = attrs.field(
        factory=lambda: WaitingThreads("network", NETWORK, NETWORK_DOWN, WAIT_SECONDS, NETWORK_SECONDS)
    )
    disk: WaitingThreads = attrs.field(
        factory=lambda: WaitingThreads("disk", DISK, DISK_DOWN, WAIT_SECONDS, DISK_SECONDS)
    )
    cells: WaitingThreads = attrs.field(
        factory=lambda: WaitingThreads("cells", CELLS, OVERLOADED, WAIT_SECONDS, CELL_SECONDS)
    )
    health: WaitingThreads = attrs.field(
        factory=lambda: WaitingThreads("health", 1, STORE_DOWN, HEALTH_SECONDS, HEALTH_SECONDS)
    )
    catalogs: dict[str, WaitingThreads] = attrs.field(init=False, factory=dict)
    gone: ThreadCounts = attrs.field(init=False, factory=ThreadCounts)

    def of_catalog(self, ref: TableRef) -> WaitingThreads:
        """Return the threads of a table's catalog."""
        found = self.catalogs.get(ref.catalog)
        if found is None:
            for alias in [alias for alias, threads in self.catalogs.items() if threads.idle]:
                self.gone.add(self.catalogs.pop(alias))  # in personal mode any directory is a catalog
            found = WaitingThreads("catalogs", LOOKS, catalog_unavailable(ref), WAIT_SECONDS, LOOK_SECONDS)
            self.catalogs[ref.catalog] = found
        return found

    def __iter__(self) -> Iterator[WaitingThreads]:
        yield from (self.reads, self.writes, self.network, self.disk, self.cells, self.health)
        yield from self.catalogs.values()

    def counts(self) -> dict[str, ThreadCounts]:
        """Return the counts by name; those of all catalogs are one."""
        found = {group.name: ThreadCounts() for group in self} | {"catalogs": attrs.evolve(self.gone)}
        for group in self:
            found[group.name].add(group)
        return found

    @property
    def busy(self) -> bool:
        """Whether a call runs that is awaited."""
        return any(group.running for group in self)
