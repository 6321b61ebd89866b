"""In-memory twins of catalog, metadata store and threads."""

from __future__ import annotations

import contextvars
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import attrs
import trio
from memory_metadata import MemoryMetadataStore

from simulator.lake import Lake, Version
from strata.artifacts import STORE_DOWN
from strata.outcomes import RefusalError
from strata.tables.catalogs.refs import TableRef
from strata.tables.catalogs.sqlite_catalog import CatalogFileError
from strata.work import pool

FIRST_SECOND = 1_700_000_000

BUSY = 0.2
"""Probability that a writer has locked the catalog file when it is checked."""


@attrs.define(eq=False)
class CatalogTwin:
    """The catalog file: the current version of each table.

    Attributes:
        lake: The tables.
        now: The index of each table's current version.
        draw: Decides when the file cannot be read, or is locked.
        errors: Probability that the file cannot be read.
    """

    lake: Lake
    now: dict[str, int]
    draw: random.Random
    errors: float

    def metadata_location(self, ref: TableRef) -> str | None:
        """See :class:`strata.tables.catalogs.sqlite_catalog.SqliteCatalog`."""
        if self.draw.random() < self.errors:
            raise CatalogFileError("the simulated catalog cannot be read")
        version = self.current(ref.namespace[0]) if ref.table == "t" else None
        return None if version is None else version.location

    def peek(self, ref: TableRef) -> str | None:
        """See :class:`strata.tables.catalogs.sqlite_catalog.SqliteCatalog`; sometimes the file is locked."""
        try:
            return None if self.draw.random() < BUSY else self.metadata_location(ref)
        except CatalogFileError:
            return None

    def close(self) -> None:
        """See :class:`strata.tables.catalogs.sqlite_catalog.SqliteCatalog`."""

    def current(self, owner: str) -> Version | None:
        """Return the table's current version."""
        versions = self.lake.tables.get(owner)
        return None if versions is None else versions[self.now[owner]]


def metadata_twin(draw: random.Random, errors: float) -> MemoryMetadataStore:
    """Return a metadata store that sometimes does not answer."""
    clock = itertools.count(FIRST_SECOND)

    def before(call: str) -> None:
        if call not in ("sweep_interrupted", "probe") and draw.random() < errors:
            raise RefusalError(STORE_DOWN)

    return MemoryMetadataStore(lambda: float(next(clock)), before)


def copied(store: MemoryMetadataStore, fresh: MemoryMetadataStore) -> MemoryMetadataStore:
    """Copy the content of ``store`` to ``fresh``: every call that returned was durable."""
    fresh._artifacts = dict(store._artifacts)
    fresh._builds = dict(store._builds)
    fresh._names = dict(store._names)
    fresh._used = dict(store._used)
    fresh._removed = dict(store._removed)
    return fresh


class Threads:
    """Worker threads as tasks: they take virtual time, cannot be interrupted, and die with the process.

    Args:
        draw: Decides the time of each call.
        slow: Maximum time of a call, in seconds.
    """

    def __init__(self, draw: random.Random, slow: float) -> None:
        self._draw = draw
        self._slow = slow
        self.alive = True
        self.running = 0

    @contextmanager
    def instead(self) -> Iterator[None]:
        """Replace Trio's threads and the work pool's."""
        with (
            mock.patch.object(trio.to_thread, "run_sync", self.run_sync),
            mock.patch.object(pool, "run_in_thread", self.run_in_thread),
        ):
            yield

    async def run_sync(
        self,
        function: Callable[..., Any],
        *args: Any,
        abandon_on_cancel: bool = False,
        limiter: trio.CapacityLimiter | None = None,
        thread_name: str | None = None,
    ) -> Any:
        """See :func:`trio.to_thread.run_sync`."""
        del thread_name
        await trio.lowlevel.checkpoint_if_cancelled()
        borrower = object()
        if limiter is None:
            return await self.run_in_thread(partial(function, *args), abandon=abandon_on_cancel, finished=int)
        await limiter.acquire_on_behalf_of(borrower)
        release = partial(limiter.release_on_behalf_of, borrower)
        return await self.run_in_thread(partial(function, *args), abandon=abandon_on_cancel, finished=release)

    async def run_in_thread(
        self, work: Callable[[], Any], *, abandon: bool, finished: Callable[[], object]
    ) -> Any:
        """See :func:`strata.work.threads.run_in_thread`."""
        done, outcome = trio.Event(), []
        pause = self._draw.random() ** 3 * self._slow

        async def thread() -> None:
            await trio.sleep(pause)
            self.running -= 1
            if self.alive:
                try:
                    outcome.append((work(), None))
                except BaseException as error:  # noqa: BLE001  # passed to the waiting task
                    outcome.append((None, error))
            finished()
            done.set()

        self.running += 1
        trio.lowlevel.spawn_system_task(thread, context=contextvars.copy_context())
        with trio.CancelScope(shield=not abandon):
            await done.wait()
        if not outcome:
            await trio.sleep_forever()  # the process is dead: the waiting task is about to be cancelled
        value, error = outcome[0]
        if error is not None:
            raise error
        return value
