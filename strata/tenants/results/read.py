"""Reads of streams, finished artifacts, records and names, within the caller's rights."""

from __future__ import annotations

import os
from functools import partial

import attrs
from cachetools import LRUCache

from strata import acl
from strata.artifacts import BLOB_GONE, ArtifactRecord, ArtifactState, NameRecord, Page, Stats
from strata.auth import Principal
from strata.outcomes import Reason, Refused
from strata.tenants import messages as m
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.state import Build
from strata.tenants.results.listing import count_visible, list_visible
from strata.tenants.shared.authorizer import artifact_resource
from strata.tenants.shared.byte_stream import ByteStream
from strata.tenants.shared.resources import Resources
from strata.work import Tier

SMALL_BYTES = 64 * 1024
"""Bytes of the largest result that is also kept in memory."""

SMALL_REMEMBERED = 64
"""Such results a tenant keeps, 4 MiB in all; the one unused for longest is dropped."""

ARTIFACT_NOT_FOUND = Refused(Reason.NOT_FOUND, "Artifact not found")
BUILD_NOT_FOUND = Refused(Reason.NOT_FOUND, "Build not found")
NAME_NOT_FOUND = Refused(Reason.NOT_FOUND, "Name not found")
STREAM_NOT_FOUND = Refused(Reason.NOT_FOUND, "Stream not found")


@attrs.define(eq=False)
class Reader:
    """Answers the questions that change nothing, for one tenant.

    Attributes:
        small: Bytes of small results by hash: dashboards read the same ones over and over.
    """

    tenant: str
    prefix: str
    resources: Resources
    materializer: Materializer
    small: LRUCache[str, bytes] = attrs.field(factory=partial(LRUCache, SMALL_REMEMBERED), repr=False)

    async def open_stream(self, question: m.OpenStream) -> m.Opened | Refused:
        """Open a stream for the principal it was promised to, while it is built or afterwards."""
        stream = self.materializer.stream_for(question.stream_id, question.principal)
        if stream is None:
            return STREAM_NOT_FOUND
        build, record = stream.build, stream.build.record
        assert record is not None
        named = acl.resource_name("streams", question.stream_id)
        if self.resources.authorizer.denies(question.principal, named, "read"):
            return STREAM_NOT_FOUND
        if not await self.resources.may_read(question.principal, dict(build.inputs), record.artifact_id):
            return STREAM_NOT_FOUND
        if isinstance(build.outcome, Refused):
            return build.outcome
        if isinstance(build.outcome, ArtifactRecord):
            return await self._open(build.outcome, question.principal)
        assert build.tail is not None
        build.opened()
        growing = ByteStream(
            os.dup(build.tail.fd),
            tail=build.tail,
            on_close=build.closed,
            tenant=self.tenant,
            turns=self.resources.turns,
        )
        return m.Opened(growing, record.artifact_id, record.version, build.exact_rows)

    def open_artifact(self, question: m.OpenArtifact) -> m.Opened | m.Pending:
        """Open a finished artifact from memory; else a ``Pending`` opens its blob."""
        record = self.materializer.records.get((question.artifact_id, question.version))
        kept = None if record is None else self.small.get(record.content_sha256 or "")
        if record is None or kept is None:
            # The decisions of an artifact that does not exist, so that the time tells nothing.
            self.resources.decide_read(question.principal, None, question.artifact_id)
        elif self.resources.decide_read(question.principal, record.inputs, question.artifact_id) is True:
            return self._opened(record, ByteStream(stop=len(kept), head=kept))
        return m.Pending(partial(self._open_artifact, question))

    async def _open_artifact(self, question: m.OpenArtifact) -> m.Opened | Refused:
        record = await self.readable(question.principal, question.artifact_id, question.version)
        if record is None or record.state is not ArtifactState.READY:
            return ARTIFACT_NOT_FOUND
        return await self._open(record, question.principal)

    async def get_artifact(self, question: m.GetArtifact) -> ArtifactRecord | Refused:
        """Describe an artifact the caller may read."""
        record = await self.readable(question.principal, question.artifact_id, question.version)
        return record if record is not None else ARTIFACT_NOT_FOUND

    async def get_build(self, question: m.GetBuild) -> m.BuildStatus | Refused:
        """Describe a build of a result the caller may read."""
        running = self.materializer.by_id.get(question.build_id)
        if running is not None and await self._may_wait(question.principal, running):
            await running.done.wait()  # the commit takes milliseconds; the caller waits for its end
        metadata = self.resources.metadata
        record = await self.resources.ask(metadata.get_build, self.tenant, question.build_id)
        inputs, artifact_id = (
            (None, question.build_id) if record is None else (record.inputs, record.artifact_id)
        )
        may_read = await self.resources.may_read(question.principal, inputs, artifact_id)
        if record is None or not may_read:
            return BUILD_NOT_FOUND
        running = self.materializer.by_id.get(question.build_id)
        if running is not None:
            return m.BuildStatus(record, running.progress)
        return m.BuildStatus(
            record, 1.0 if record.completed_at is not None and not record.error_code else None
        )

    async def _may_wait(self, principal: Principal, build: Build) -> bool:
        """Whether a build is about to end, and the caller may know of it."""
        ended = build.tail is not None and build.tail.ended
        return ended and await self.resources.may_read(principal, dict(build.inputs))

    async def list_artifacts(self, question: m.ListArtifacts) -> Page | Refused:
        """List a page of the artifacts the caller may read; others are not even counted."""
        return await list_visible(self.resources, self.tenant, question)

    async def stats(self, question: m.ArtifactStats) -> Stats:
        """Count the tenant's artifacts that the caller may read."""
        return await count_visible(self.resources, self.tenant, question.principal)

    async def get_name(self, question: m.GetName) -> NameRecord | Refused:
        """Resolve the name of a result the caller may read."""
        found = await self.named(question.principal, question.name)
        return NAME_NOT_FOUND if found is None else found[0]

    async def named(self, principal: Principal, name: str) -> tuple[NameRecord, ArtifactRecord] | None:
        """Return a name and its artifact, or None if the caller may not read them."""
        found = await self.resources.ask(self.resources.metadata.get_name, self.tenant, name)
        denied = self.resources.authorizer.denies(principal, artifact_resource(name), "read")
        # A refusal for any reason takes the same work, also where there is no such name.
        target = (self.resources.new_id(), 1) if found is None else (found.artifact_id, found.version)
        record = await self.readable(principal, *target, hidden=denied)
        return None if found is None or record is None else (found, record)

    async def list_names(self, question: m.ListNames) -> tuple[NameRecord, ...]:
        """List the names of the results the caller may read."""
        names = await self.resources.ask(self.resources.metadata.list_names, self.tenant)
        return tuple(
            [
                n
                for n in names
                if not self.resources.authorizer.denies(question.principal, artifact_resource(n.name), "read")
                and await self.readable(question.principal, n.artifact_id, n.version) is not None
            ]
        )

    async def readable(
        self, principal: Principal, artifact_id: str, version: int, *, hidden: bool = False
    ) -> ArtifactRecord | None:
        """Return an artifact's record, or None if the caller may not read it.

        None takes one call of the store and the same decisions, whether the artifact is missing or denied, so
        that the time tells neither.

        Args:
            principal: The caller.
            artifact_id: The artifact's id.
            version: The artifact's version.
            hidden: Whether the caller may not read it, whatever the rules say of it.
        """
        remembered = self.materializer.records.get((artifact_id, version))
        record = remembered or await self.materializer.record(artifact_id, version)
        inputs = None if record is None else record.inputs
        if await self.resources.may_read(principal, inputs, artifact_id) and not hidden:
            return record
        if remembered is not None:
            await self.resources.ask(self.resources.metadata.get_artifact, self.tenant, artifact_id, version)
        return None

    async def _open(self, record: ArtifactRecord, principal: Principal) -> m.Opened | Refused:
        sha256 = record.content_sha256
        size = record.byte_size
        assert sha256 is not None
        assert size is not None

        kept = self.small.get(sha256)
        if kept is not None:
            return self._opened(record, ByteStream(stop=size, head=kept))

        def open_blob() -> ByteStream | Refused:
            reader = self.resources.blobs.open_reader(self.prefix, sha256, size)
            if isinstance(reader, Refused):
                return reader
            head = reader.read(0, SMALL_BYTES)
            return ByteStream(
                reader.fd, stop=reader.size, head=head, tenant=self.tenant, turns=self.resources.turns
            )

        stream = await self.resources.transfer(
            self.tenant, Tier.INTERACTIVE, open_blob, cost=SMALL_BYTES, principal=principal.id
        )
        if isinstance(stream, Refused):
            if stream.code == BLOB_GONE.code:
                await self.materializer.lose(record)
            return stream
        if size <= SMALL_BYTES and len(stream.head) == size:
            self.small[sha256] = stream.head
        return self._opened(record, stream)

    @staticmethod
    def _opened(record: ArtifactRecord, stream: ByteStream) -> m.Opened:
        return m.Opened(stream, record.artifact_id, record.version, record.row_count, record.content_sha256)
