"""Reads of streams, finished artifacts, records and names, within the caller's rights."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import structlog
import trio

from strata import acl
from strata.artifacts import (
    BLOB_GONE,
    BLOB_UNREADABLE,
    ArtifactRecord,
    ArtifactState,
    BuildRecord,
    NameRecord,
    Page,
    Stats,
)
from strata.artifacts.registry.contract import AliasRecord
from strata.auth import Principal
from strata.outcomes import Reason, Refused
from strata.tenants import messages as m
from strata.tenants.budgets.tenant_cache import TenantCache
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.state import REVOKED, Build
from strata.tenants.registry_messages import Verified, VerifyArtifact
from strata.tenants.results.listing import count_visible, list_names, list_visible
from strata.tenants.results.verifying import Verifier
from strata.tenants.retention_messages import BuildCancelled, CancelBuild
from strata.tenants.shared.authorizer import CACHE_RESOURCE, artifact_resource
from strata.tenants.shared.byte_stream import ByteStream
from strata.tenants.shared.left_streams import LeftStream
from strata.tenants.shared.os_errors import error_name, refusal_of
from strata.tenants.shared.resources import Resources
from strata.work import Tier

SMALL_BYTES = 64 * 1024
"""Bytes of the largest result that is also kept in memory."""

SAMPLED = 64
"""Reads of larger results of which one has the stored bytes verified; those of small ones always are."""

SMALL_RESULTS_BYTES = 4 * 1024 * 1024
"""Bytes of such results that a tenant keeps; the one unused for longest is dropped."""

COMMIT_SECONDS = 10.0
"""Seconds to wait for another server's commit of a result whose last byte the caller may have read there."""

COMMIT_PAUSE_SECONDS = 0.1

ARTIFACT_NOT_FOUND = Refused(Reason.NOT_FOUND, "Artifact not found")
BUILD_NOT_FOUND = Refused(Reason.NOT_FOUND, "Build not found")
NAME_NOT_FOUND = Refused(Reason.NOT_FOUND, "Name not found")
STREAM_NOT_FOUND = Refused(Reason.NOT_FOUND, "Stream not found")

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Reader:
    """Answers the questions that change nothing, for one tenant.

    Attributes:
        small: Bytes of small results by hash: dashboards read the same ones over and over.
        opened: Reads that opened a blob.
        uploads: Uploads under way.
        checking: Ends the verification of a sampled read; None while there is none.
    """

    tenant: str
    prefix: str
    resources: Resources
    materializer: Materializer
    small: TenantCache[str, bytes] = attrs.field(init=False, repr=False)
    uploads: int = attrs.field(default=0, init=False)
    opened: int = attrs.field(default=0, init=False)
    checking: trio.CancelScope | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.small = TenantCache(self.resources.remembered, self.tenant, SMALL_RESULTS_BYTES, sys.getsizeof)

    async def open_stream(self, question: m.OpenStream) -> m.Opened | Refused:
        """Open a stream for the principal it was promised to, while it is built or afterwards."""
        stream = self.materializer.stream_for(question.stream_id, question.principal)
        if stream is None:
            return STREAM_NOT_FOUND
        policy = self.resources.authorizer.policy
        named = acl.resource_name("streams", question.stream_id)
        if isinstance(stream, LeftStream):
            left = await self.materializer.finished.record(stream.artifact_id, stream.version)
            inputs = None if left is None else dict(left.inputs)
            artifact_id = stream.artifact_id
        else:
            assert stream.build.record is not None
            left, inputs = None, dict(stream.build.inputs)
            artifact_id = stream.build.record.artifact_id

        async def permitted() -> bool:
            denied = self.resources.authorizer.denies(question.principal, named, "read")
            return not denied and await self.resources.may_read(question.principal, inputs, artifact_id)

        if not await permitted():
            return STREAM_NOT_FOUND
        if not isinstance(stream, LeftStream):
            opened = await self._open_promised(stream.build, question.principal)
        elif left is None or left.state is not ArtifactState.READY:
            return STREAM_NOT_FOUND
        else:
            opened = await self._open(left, question.principal)
        if isinstance(opened, Refused):
            return opened
        opened.stream.on_end = partial(self.materializer.stream_read, question.stream_id)
        return opened if await self._watched(opened, permitted, policy) else STREAM_NOT_FOUND

    async def _open_promised(self, build: Build, principal: Principal) -> m.Opened | Refused:
        """Open a stream by its build, which may be running; waits for the end of one on another server."""
        await build.readable.wait()
        if isinstance(build.outcome, Refused):
            return build.outcome
        if isinstance(build.outcome, ArtifactRecord):
            return await self._open(build.outcome, principal)
        assert build.record is not None
        return self._follow(build, build.record)

    def _follow(self, build: Build, record: BuildRecord) -> m.Opened:
        """Open the growing blob of a build."""
        assert build.tail is not None
        descriptor = os.dup(build.tail.fd)  # may fail for want of descriptors: before the reader counts
        build.opened()
        growing = ByteStream(
            descriptor,
            tail=build.tail,
            on_close=build.closed,
            tenant=self.tenant,
            turns=self.resources.turns,
        )
        return m.Opened(
            growing, record.artifact_id, record.version, build.exact_rows, None, dict(build.inputs)
        )

    def open_artifact(self, question: m.OpenArtifact) -> m.Opened | m.Pending:
        """Open a finished artifact from memory; else a ``Pending`` opens its blob."""
        record = self.materializer.finished.records.get((question.artifact_id, question.version))
        kept = None if record is None else self.small.get(record.content_sha256 or "")
        if record is None or kept is None:
            # The decisions of an artifact that does not exist, so that the time tells nothing.
            self.resources.decide_read(question.principal, None, question.artifact_id)
        elif self.resources.decide_read(question.principal, record.inputs, question.artifact_id) is True:
            self.resources.uses.note(self.tenant, (record.artifact_id, record.version))
            return self._opened(record, ByteStream(stop=len(kept), head=kept))
        return m.Pending(partial(self._open_artifact, question))

    async def _open_artifact(self, question: m.OpenArtifact) -> m.Opened | Refused:
        build = self.materializer.ending(question.artifact_id, question.version)
        if build is not None:
            written = await self._open_written(build, question)
            if written is not None:
                return written
        policy = self.resources.authorizer.policy
        record = await self._committed(question)
        if record is None or record.state is not ArtifactState.READY:
            return ARTIFACT_NOT_FOUND
        opened = await self._signed(record, question.principal) if question.signed else None
        if opened is None:
            opened = await self._open(record, question.principal)
        if isinstance(opened, Refused):
            return opened
        permitted = partial(self.resources.may_read, question.principal, record.inputs, record.artifact_id)
        return opened if await self._watched(opened, permitted, policy) else ARTIFACT_NOT_FOUND

    async def _open_written(self, build: Build, question: m.OpenArtifact) -> m.Opened | None:
        """Open a result whose commit goes on: who has read its stream can read it at once.

        None if the commit has ended, or the caller may not read it.
        """
        policy, inputs = self.resources.authorizer.policy, dict(build.inputs)
        permitted = partial(self.resources.may_read, question.principal, inputs, question.artifact_id)
        if not await permitted():
            return None
        await build.hashed.wait()
        written, tail = build.written, build.tail
        if written is None or tail is None or build.done.is_set():
            return None
        stream = ByteStream(
            os.dup(tail.fd), stop=written.size, tenant=self.tenant, turns=self.resources.turns
        )
        opened = m.Opened(
            stream, question.artifact_id, question.version, written.rows, written.sha256, inputs
        )
        return opened if await self._watched(opened, permitted, policy) else None

    async def _watched(
        self, opened: m.Opened, permitted: Callable[[], Awaitable[bool]], policy: acl.Policy | None
    ) -> bool:
        """Have a read broken off when the rules take its right away.

        Args:
            opened: The stream that is read.
            permitted: Decides by the rules of the moment whether it may be read.
            policy: The rules by which it was permitted.

        Returns:
            False, and the stream is closed, if other rules hold by now and do not permit it.
        """
        stream = opened.stream
        if stream.fd >= 0:
            forget = self.resources.rights.add(self.tenant, permitted, partial(stream.refuse, REVOKED))
            stream.on_close = _both(forget, stream.on_close)
        elif stream.address is None:
            return True  # all of its bytes are in memory, and leave in one piece
        if self.resources.authorizer.policy is policy:
            return True
        allowed = False
        try:
            allowed = await permitted()
        finally:
            if not allowed:
                stream.close()
        return allowed

    async def get_artifact(self, question: m.GetArtifact) -> ArtifactRecord | Refused:
        """Describe an artifact the caller may read; the end of its commit is waited for."""
        build = self.materializer.ending(question.artifact_id, question.version)
        if build is not None and await self._may_wait(question.principal, build):
            await build.done.wait()  # the commit takes milliseconds; the caller has read the last byte
        if not question.finished:
            found = await self.readable(question.principal, question.artifact_id, question.version)
            return ARTIFACT_NOT_FOUND if found is None else found
        record = await self._committed(question)
        return ARTIFACT_NOT_FOUND if record is None or record.state is not ArtifactState.READY else record

    async def _committed(self, question: m.GetArtifact | m.OpenArtifact) -> ArtifactRecord | None:
        """Return the record of a version that the caller may read; waits for another server's commit of it.

        The caller may have read its last byte there.
        """
        version = (question.artifact_id, question.version)
        record = await self.readable(question.principal, *version)
        if self.resources.servers is None:
            return record
        with trio.move_on_after(COMMIT_SECONDS):
            while (
                record is not None
                and record.state is ArtifactState.BUILDING
                and self._made_elsewhere(*version)
            ):
                await trio.sleep(COMMIT_PAUSE_SECONDS)
                record = await self.readable(question.principal, *version)
        return record

    def _made_elsewhere(self, artifact_id: str, version: int) -> bool:
        build = self.materializer.building(artifact_id, version)
        return build is None or build.state == "elsewhere"

    async def get_build(self, question: m.GetBuild) -> m.BuildStatus | Refused:
        """Describe a build of a result the caller may read."""
        running = self.materializer.by_id.get(question.build_id)
        if running is not None and await self._may_wait(question.principal, running):
            await running.done.wait()  # the commit takes milliseconds; the caller waits for its end
        metadata = self.resources.metadata
        record = await self.resources.ask(self.tenant, metadata.get_build, self.tenant, question.build_id)
        inputs, artifact_id = (
            (None, question.build_id) if record is None else (record.inputs, record.artifact_id)
        )
        may_read = await self.resources.may_read(question.principal, inputs, artifact_id)
        if record is None or not may_read:
            return BUILD_NOT_FOUND
        if record.completed_at is not None:
            return m.BuildStatus(record, None if record.error_code else 1.0)
        running = self.materializer.by_id.get(question.build_id)
        if running is not None and running.state != "elsewhere":
            return m.BuildStatus(record, running.progress)
        return m.BuildStatus(record, record.progress)  # as the server that runs it last told

    async def cancel_build(self, question: CancelBuild) -> BuildCancelled | Refused:
        """End a build that no other principal asked for, and wait for its end."""
        status = await self.get_build(m.GetBuild(question.principal, question.build_id))
        if isinstance(status, Refused):
            return status
        running = self.materializer.by_id.get(question.build_id)
        followed = running is not None and running.state == "elsewhere"
        if running is None or not running.leave(question.principal.id):
            return BuildCancelled(question.build_id, cancelled=False, state=status.record.state.value)
        await running.done.wait()
        if followed:  # this server waits for it no more; it goes on where it runs
            return BuildCancelled(question.build_id, cancelled=False, state=status.record.state.value)
        ready = not isinstance(running.outcome, Refused)  # its commit could not be called back
        return BuildCancelled(question.build_id, cancelled=not ready, state="ready" if ready else "failed")

    async def _may_wait(self, principal: Principal, build: Build) -> bool:
        """Whether a build is about to end, and the caller may know of it."""
        return build.is_written and await self.resources.may_read(principal, dict(build.inputs))

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
        found = await self.resources.ask(self.tenant, self.resources.metadata.get_name, self.tenant, name)
        denied = self.resources.authorizer.denies(principal, artifact_resource(name), "read")
        # A refusal for any reason takes the same work, also where there is no such name.
        target = (self.resources.new_id(), 1) if found is None else (found.artifact_id, found.version)
        record = await self.readable(principal, *target, hidden=denied)
        return None if found is None or record is None else (found, record)

    async def aliased(
        self, principal: Principal, name: str, alias: str
    ) -> tuple[AliasRecord, ArtifactRecord] | None:
        """Return an alias of a name and its artifact, or None if the caller may not read them."""
        get = self.resources.registry.get_alias
        found = await self.resources.ask(self.tenant, get, self.tenant, name, alias)
        denied = self.resources.authorizer.denies(principal, artifact_resource(name), "read")
        target = (self.resources.new_id(), 1) if found is None else (found.artifact_id, found.version)
        record = await self.readable(principal, *target, hidden=denied)
        return None if found is None or record is None else (found, record)

    async def list_names(self, question: m.ListNames) -> tuple[NameRecord, ...]:
        """List the names of the results the caller may read."""
        return await list_names(self.resources, self.tenant, question)

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
        remembered = self.materializer.finished.records.get((artifact_id, version))
        record = remembered or await self.materializer.finished.record(artifact_id, version)
        inputs = None if record is None else record.inputs
        if await self.resources.may_read(principal, inputs, artifact_id) and not hidden:
            return record
        if remembered is not None:
            get = self.resources.metadata.get_artifact
            await self.resources.ask(self.tenant, get, self.tenant, artifact_id, version)
        return None

    async def _open(self, record: ArtifactRecord, principal: Principal) -> m.Opened | Refused:
        sha256 = record.content_sha256
        size = record.byte_size
        assert sha256 is not None
        assert size is not None

        kept = self.small.get(sha256)
        if kept is not None:
            self.resources.uses.note(self.tenant, (record.artifact_id, record.version))
            return self._opened(record, ByteStream(stop=size, head=kept))

        def open_blob() -> ByteStream | Refused:
            reader = self.resources.blobs.open_reader(self.prefix, sha256, size)
            if isinstance(reader, Refused):
                return reader
            try:
                head = reader.read(0, SMALL_BYTES)
                whole = len(head) == size  # pread(2) may give fewer bytes than it could
                if whole and not self.resources.remote_blobs and hashlib.sha256(head).hexdigest() != sha256:
                    os.close(reader.fd)
                    return BLOB_GONE
            except OSError as error:
                os.close(reader.fd)
                log.warning("blob cannot be read", tenant=self.tenant, error=error_name(error))
                return refusal_of(error, BLOB_UNREADABLE)
            return ByteStream(
                reader.fd, stop=reader.size, head=head, tenant=self.tenant, turns=self.resources.turns
            )

        closed = self.resources.uses.open(self.tenant, (record.artifact_id, record.version))
        stream: ByteStream | Refused | None = None
        try:
            stream = await self.resources.transfer(
                self.tenant,
                Tier.INTERACTIVE,
                open_blob,
                cost=size if self.resources.remote_blobs else SMALL_BYTES,  # a remote blob is fetched whole
                principal=principal.id,
                discard=_close,
            )
        finally:
            if not isinstance(stream, ByteStream):
                closed()
        if isinstance(stream, Refused):
            return await self._unreadable(record, stream)
        stream.on_close = _both(closed, stream.on_close)
        if size <= SMALL_BYTES and len(stream.head) == size:
            self.small[sha256] = stream.head
        self.opened += 1
        if self.opened % SAMPLED == 0 and size > SMALL_BYTES and self.checking is None:
            self.checking = trio.CancelScope()
            self.materializer.nursery.start_soon(self._check, record, self.checking)
        return self._opened(record, stream)

    async def _signed(self, record: ArtifactRecord, principal: Principal) -> m.Opened | Refused | None:
        """Return a result by the address of its object; None if the server is to send it itself."""
        sha256, size, signed = record.content_sha256, record.byte_size, self.resources.signed
        assert sha256 is not None
        assert size is not None
        if signed is None or size <= SMALL_BYTES or not self.resources.lent.lend((self.prefix, sha256)):
            return None
        sign = partial(signed.sign, self.prefix, sha256, size)
        found = await self.resources.transfer(
            self.tenant, Tier.INTERACTIVE, sign, cost=SMALL_BYTES, principal=principal.id
        )
        if isinstance(found, Refused):
            return await self._unreadable(record, found)
        self.resources.uses.note(self.tenant, (record.artifact_id, record.version))
        return self._opened(record, ByteStream(stop=size, address=found))

    async def verify(self, question: VerifyArtifact) -> Verified | Refused:
        """Hash the stored bytes of a result that the caller may read; give up a damaged one."""
        who, version = question.principal, (question.artifact_id, question.version)
        refused = self.resources.authorizer.check_admin(who, CACHE_RESOURCE)
        if refused is not None:
            return refused
        record = await self.readable(who, *version)
        if record is None or record.state is not ArtifactState.READY:
            return ARTIFACT_NOT_FOUND
        whole = await self._verifier.check(record)
        if isinstance(whole, Refused):
            return ARTIFACT_NOT_FOUND if whole.code == BLOB_GONE.code else whole
        if not whole:
            self.small.pop(record.content_sha256 or "")
        return Verified(record, whole=whole)

    async def _check(self, record: ArtifactRecord, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._verifier.check_sample(record)
        finally:
            self.checking = None

    @property
    def _verifier(self) -> Verifier:
        return Verifier(self.tenant, self.prefix, self.resources, self.materializer.finished)

    async def _unreadable(self, record: ArtifactRecord, refused: Refused) -> Refused:
        """Return the refusal of a result whose bytes cannot be opened; one without bytes is given up."""
        if refused.code != BLOB_GONE.code:
            return refused
        get = self.resources.metadata.get_artifact
        version = (record.artifact_id, record.version)
        if await self.resources.ask(self.tenant, get, self.tenant, *version) is None:
            self.materializer.finished.forget(*version)  # it was removed meanwhile
            return ARTIFACT_NOT_FOUND
        await self.materializer.finished.lose(record)
        return refused

    @staticmethod
    def _opened(record: ArtifactRecord, stream: ByteStream) -> m.Opened:
        rows, sha256 = record.row_count, record.content_sha256
        return m.Opened(stream, record.artifact_id, record.version, rows, sha256, record.inputs)


def _both(first: Callable[[], None], then: Callable[[], None] | None) -> Callable[[], None]:
    def call() -> None:
        first()
        if then is not None:
            then()

    return call


def _close(opened: ByteStream | Refused) -> None:
    if isinstance(opened, ByteStream):
        opened.close()
