"""Follow a build that runs on another server of the database, and take it over when that server is gone."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any, Final

import attrs
import structlog
import trio

from strata.artifacts import ArtifactRecord, ArtifactState, BuildRecord
from strata.artifacts.metadata.contract import artifact_id_of
from strata.artifacts.servers.contract import ServerStore
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.builds.exception_groups import UnwrappedRefusals
from strata.tenants.builds.provenance import Provenance
from strata.tenants.builds.runner import Builder, BuildRun, Order
from strata.tenants.builds.state import Build, BuiltElsewhereError

SPARE_SECONDS: Final = 60.0
"""Seconds that another server's build may take besides its own limits; then a request waits no longer."""

FIRST_LOOK: Final = 0.02
LONGEST_WAIT: Final = 0.5
"""Seconds between two looks at a build that runs elsewhere, from the first to the longest."""

PROGRESS_SECONDS: Final = 2.0
"""Seconds between two notes of a build's progress for the other servers; each may take as long."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class SharedOrder:
    """An order whose result another server may be building; see :class:`~strata.tenants.builds.runner.Order`.

    Attributes:
        order: The order.
        servers: The servers.
    """

    order: Order
    servers: ServerStore

    @property
    def provenance(self) -> Provenance:
        """The result's identity."""
        return self.order.provenance

    @property
    def executor(self) -> str:
        """The transform reference."""
        return self.order.executor

    @property
    def name(self) -> str | None:
        """Name to point at the result, or None."""
        return self.order.name

    @property
    def principal(self) -> str:
        """Principal of the first request, who is charged for the build."""
        return self.order.principal

    def begin(self, builder: Builder, build: Build) -> SharedRun:
        """Return the run of the build."""
        return SharedRun(builder, build, self)


@attrs.define(eq=False)
class SharedRun(BuildRun[SharedOrder]):
    """Follows another server's build of the result, or runs its own; see :class:`BuildRun`.

    Attributes:
        own: The run on this server, if there is one.
    """

    own: BuildRun[Any] | None = None

    async def run(self) -> ArtifactRecord:
        """Follow or build; see :meth:`BuildRun.run`."""
        artifact_id = artifact_id_of(self.request.provenance.key)
        elsewhere = await self._ask(self.request.servers.running_elsewhere, artifact_id)
        while True:
            if elsewhere is None:
                try:
                    return await self._build()
                except BuiltElsewhereError as error:
                    elsewhere = error.record
            found = await self._follow(elsewhere)
            if found is not None:
                return found
            log.warning("build taken over", tenant=self.builder.tenant, build_id=elsewhere.build_id)
            elsewhere = await self._ask(self.request.servers.running_elsewhere, artifact_id)

    async def _build(self) -> ArtifactRecord:
        self.own = self.request.order.begin(self.builder, self.build)
        try:
            with UnwrappedRefusals():
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._tell_progress)
                    artifact = await self.own.run()
                    nursery.cancel_scope.cancel()
        except BuiltElsewhereError as error:
            own, self.own = self.own, None
            await own.undo(error.refused)
            own.close()
            self.build.release_slot()
            if self.build.memory is not None:
                self.build.memory.release()
            raise
        self.cache_segments, self.own.cache_segments = self.own.cache_segments, None
        return artifact

    async def _tell_progress(self) -> None:
        """Note how far the build is, for who asks another server; a database that is away ends no build."""
        tenant, resources, told = self.builder.tenant, self.builder.resources, 0.0
        while True:
            await trio.sleep(PROGRESS_SECONDS)
            record, done = self.build.record, self.build.progress
            if record is None or done == told:
                continue
            note, until = self.request.servers.note_progress, trio.current_time() + PROGRESS_SECONDS
            with suppress(RefusalError):
                await resources.write(tenant, note, tenant, record.build_id, done, until=until)
                told = done

    async def _follow(self, elsewhere: BuildRecord) -> ArtifactRecord | None:
        """Wait for the end of another server's build; returns None if it failed, or its server is gone.

        Raises:
            RefusalError: If it takes too long.
        """
        if self.build.record is None:
            self.build.admit(elsewhere)
        tenant, metadata, wait = self.builder.tenant, self.builder.resources.metadata, FIRST_LOOK
        limits = self.builder.limits
        longest = limits.bulk_queue_timeout + limits.plan_timeout + limits.scan_timeout + SPARE_SECONDS
        until = trio.current_time() + longest
        while True:
            if trio.current_time() > until:
                detail = f"The build on another server did not end within {longest:g} seconds."
                raise RefusalError(Refused(Reason.TIMED_OUT, detail, code="scan_timeout"))
            alive = await self._ask(self.request.servers.running_elsewhere, elsewhere.artifact_id)
            if alive is None or alive.build_id != elsewhere.build_id:
                break
            self.build.told = alive.progress or 0.0
            await trio.sleep(wait)
            wait = min(LONGEST_WAIT, 2 * wait)
        ended = await self.builder.resources.ask(tenant, metadata.get_build, tenant, elsewhere.build_id)
        if ended is None or ended.state in (ArtifactState.BUILDING, ArtifactState.PENDING):
            return None
        if ended.state is ArtifactState.READY:
            version = (ended.artifact_id, ended.version)
            await self._set_names(version)
            return await self.builder.resources.ask(tenant, metadata.get_artifact, tenant, *version)
        return None  # this server's own build tells its callers why it fails, and may succeed here

    async def _set_names(self, version: tuple[str, int]) -> None:
        """Set the names that this server's requests have given to another server's result."""
        resources, tenant = self.builder.resources, self.builder.tenant
        for order in self.build.take_names():
            await resources.write(tenant, resources.registry.set_name, tenant, order, version)

    async def _ask(self, function: Any, artifact_id: str) -> Any:
        tenant = self.builder.tenant
        return await self.builder.resources.ask(tenant, partial(function, tenant, artifact_id))

    async def undo(self, refused: Refused) -> None:
        """See :meth:`BuildRun.undo`; another server's build is its own."""
        if self.own is not None:
            await self.own.undo(refused)

    def close(self) -> None:
        """See :meth:`BuildRun.close`."""
        if self.own is not None:
            self.own.close()
        super().close()
