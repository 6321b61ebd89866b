"""Finished results of one tenant: remembered by id, found by provenance, given up when they are lost."""

from __future__ import annotations

import os
from operator import attrgetter
from typing import Final

import attrs
import structlog
import trio

from strata.artifacts import BLOB_GONE, ArtifactRecord, ArtifactState, BlobReader
from strata.artifacts.metadata.contract import artifact_id_of
from strata.tenants.budgets.tenant_cache import TenantCache
from strata.tenants.shared.resources import Resources

READY_BYTES: Final = 8 * 1024 * 1024
"""Bytes of finished artifacts' records that an actor remembers, some 4,000, so that a hit needs no call of
the store; and as many by id. The least recently used is dropped."""

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class FinishedResults:
    """Finds finished results of one tenant.

    Attributes:
        tenant: The tenant.
        prefix: The tenant's directory in the blob store.
        resources: The process's shared resources.
        records: Finished artifacts by id and version.
        ready: The newest finished version of artifacts, by their id.
        losses: How many finished artifacts turned out to be lost, or were removed. A record read from the
            store is not remembered if that happened meanwhile: it may be the lost one.
    """

    tenant: str
    prefix: str
    resources: Resources
    records: TenantCache[tuple[str, int], ArtifactRecord] = attrs.field(init=False, repr=False)
    ready: TenantCache[str, ArtifactRecord] = attrs.field(init=False, repr=False)
    losses: int = 0

    def __attrs_post_init__(self) -> None:
        of_records = (self.resources.remembered, self.tenant, READY_BYTES, attrgetter("nbytes"))
        self.records, self.ready = TenantCache(*of_records), TenantCache(*of_records)
        self.resources.forgetters[self.tenant] = self

    def hit(self, key: str) -> ArtifactRecord | None:
        """Return the remembered artifact of a provenance key, or None; a use of it is noted."""
        found = self.ready.get(artifact_id_of(key))
        if found is None or self._claimed(found) is not None:
            return None
        self.resources.uses.note(self.tenant, (found.artifact_id, found.version))
        return found

    def _claimed(self, record: ArtifactRecord) -> trio.Event | None:
        return self.resources.uses.claimed(self.tenant, (record.artifact_id, record.version))

    def add(self, record: ArtifactRecord) -> None:
        """Remember the newest finished version of an artifact."""
        self.ready[record.artifact_id] = record

    async def find(self, key: str) -> ArtifactRecord | None:
        """Return the newest finished artifact of a provenance key whose bytes are not lost, or None.

        A use of it is noted; for one that is about to be removed, the end of that is waited for.
        """
        while True:
            found = self.ready.get(artifact_id_of(key))
            if found is None:
                losses = self.losses
                found, lost = await self.resources.ask(self.tenant, self._find_readable, key)
                for record in lost:
                    self.forget(record.artifact_id, record.version)
                if found is None:
                    return None
                if losses + len(lost) == self.losses:
                    self.ready[found.artifact_id] = found
                elif not lost:
                    continue  # it may be what was removed meanwhile
            claimed = self._claimed(found)
            if claimed is None:
                self.resources.uses.note(self.tenant, (found.artifact_id, found.version))
                return found
            await claimed.wait()

    def _find_readable(self, key: str) -> tuple[ArtifactRecord | None, list[ArtifactRecord]]:
        """Return the newest finished artifact that can be read, and the lost ones before it. Blocking.

        A missing blob is noticed here before the result is promised, so a result that was lost while the
        server was down is built again by the first request for it. A remote store is not called: that takes
        a round trip, and the read of the result makes it anyway.
        """
        metadata, lost = self.resources.metadata, []
        while (record := metadata.find_ready(self.tenant, key)) is not None:
            if self.resources.remote_blobs:
                break
            assert record.content_sha256 is not None
            assert record.byte_size is not None
            blobs, prefix = self.resources.blobs, self.prefix
            reader = blobs.open_reader(prefix, record.content_sha256, record.byte_size)
            if isinstance(reader, BlobReader):
                os.close(reader.fd)
            if isinstance(reader, BlobReader) or reader.code != BLOB_GONE.code:
                break
            self._give_up(record)
            lost.append(record)
        return record, lost

    async def record(self, artifact_id: str, version: int) -> ArtifactRecord | None:
        """Return an artifact's record or None; finished ones are remembered, for they never change."""
        known = self.records.get((artifact_id, version))
        if known is None:
            losses = self.losses
            get = self.resources.metadata.get_artifact
            known = await self.resources.ask(self.tenant, get, self.tenant, artifact_id, version)
            if known is not None and known.state is ArtifactState.READY and losses == self.losses:
                self.records[artifact_id, version] = known
        return known

    async def lose(self, record: ArtifactRecord) -> None:
        """Mark a finished artifact whose bytes are gone: it is never served again, but built again."""
        await self.resources.write(self.tenant, self._give_up, record)
        self.forget(record.artifact_id, record.version)

    def _give_up(self, record: ArtifactRecord) -> None:
        log.error("blob lost", tenant=self.tenant, artifact_id=record.artifact_id, version=record.version)
        self.resources.metadata.fail_version(
            self.tenant, record.artifact_id, record.version, code=BLOB_GONE.code or ""
        )

    def forget(self, artifact_id: str, version: int) -> None:
        """Forget what is remembered of a version that is lost or removed."""
        self.losses += 1
        self.records.pop((artifact_id, version))
        known = self.ready.get(artifact_id)
        if known is not None and known.version == version:
            del self.ready[artifact_id]
