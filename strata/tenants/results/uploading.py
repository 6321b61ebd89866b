"""Results that clients put: written, verified by a sandboxed process, and kept under their own identity.

Their identity is made of a transform with the one member ``client``, which no transform of the server has. So
what a client puts never answers a request to materialize, whatever it claims to be.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import attrs
import structlog
import trio

from strata.artifacts import (
    BlobWriter,
    NameOrder,
    canonical_json,
    provenance_hash,
    query_hash,
)
from strata.artifacts.metadata.naming import PUT
from strata.outcomes import Reason, RefusalError, Refused
from strata.sandbox.frames import Kind
from strata.sandbox.launcher import SandboxError
from strata.tenants.builds.materialize import SCAN, Materializer
from strata.tenants.builds.output import too_large
from strata.tenants.builds.provenance import MAX_TRANSFORM_BYTES, TRANSFORM_TOO_LARGE, Provenance
from strata.tenants.builds.state import ABANDONED
from strata.tenants.messages import Transformation
from strata.tenants.registry.orders import act_of
from strata.tenants.registry_messages import Put, PutArtifact
from strata.tenants.results.read import ARTIFACT_NOT_FOUND, Reader
from strata.tenants.retention.storage import BuildRoom
from strata.tenants.shared.artifact_inputs import SCHEME, artifact_of, input_version
from strata.tenants.shared.authorizer import artifact_resource
from strata.work import Tier

EXECUTOR: Final = "put@v1"
"""What made a result that a client put, as its build and its lineage say."""

PIECE_BYTES: Final = 1024 * 1024
"""Bytes that one quantum of the work pool writes or hashes."""

AT_ONCE: Final = 4
"""Uploads of one tenant at a time; a further one is refused."""

CHECK_SECONDS: Final = 120.0
"""Seconds that the verification of an upload may take."""

MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Bytes that the process which verifies an upload may allocate; its file is mapped, and does not count."""

CUT: Final = Refused(Reason.BAD_REQUEST, "The upload ended before its last byte.", code="upload_cut")

BUSY: Final = Refused(
    Reason.BUSY,
    f"This tenant has {AT_ONCE} uploads under way, the maximum. Retry when one has ended.",
    code="uploads",
    retry_after=1,
)
DIFFERS: Final = Refused(
    Reason.CONFLICT,
    "There is a result of this client's transform and inputs with other bytes. Name another transform, or "
    "remove that result first.",
    code="put_differs",
)
NOT_CHECKED: Final = Refused(
    Reason.UNAVAILABLE, "The upload could not be verified now.", code="upload_not_verified", retry_after=5
)

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class _Upload:
    """An upload under way.

    Attributes:
        writer: Its file.
        room: The bytes that it has taken.
        build_id: Id of its build, once there is one.
    """

    writer: BlobWriter
    room: BuildRoom
    size: int = 0
    build_id: str | None = None


@attrs.frozen(eq=False)
class Uploader:
    """Takes uploads of one tenant."""

    reader: Reader

    async def put(self, question: PutArtifact) -> Put | Refused:
        """Keep a client's result, or find the same one; the caller may write results."""
        reader = self.reader
        if reader.uploads >= AT_ONCE:
            return BUSY
        reader.uploads += 1
        try:
            async with question.pieces:
                return await self._put(question)
        finally:
            reader.uploads -= 1

    async def _put(self, question: PutArtifact) -> Put | Refused:
        materializer, who = self._materializer, question.principal
        authorizer = materializer.resources.authorizer
        if question.name is not None and authorizer.denies(who, artifact_resource(question.name), "write"):
            return authorizer.forbidden("write")
        name = await materializer.may_name(question)
        if isinstance(name, Refused):
            return name
        provenance = await self._identity(question)
        if isinstance(provenance, Refused):
            return provenance
        upload = await self._begin()
        try:
            await self._receive(upload, question.pieces)
            facts = await self._checked(upload)
            # One at a time of one identity: the second of two equal uploads finds the first.
            lock = materializer.resources.blob_locks.holding(f"put {self.reader.prefix}", provenance.key)
            async with lock:
                return await self._keep(upload, provenance, facts, name, question)
        except BaseException as error:  # raised again unless it is a refusal: no half upload stays
            with trio.CancelScope(shield=True):
                await self._undo(upload, error)
            if isinstance(error, RefusalError):
                return error.refused
            raise

    async def _identity(self, question: PutArtifact) -> Provenance | Refused:
        """Return the identity of an upload; the results among its inputs must be readable."""
        materializer, who = self._materializer, question.principal
        given = {"executor": question.executor, "params": question.params, "inputs": list(question.inputs)}
        inputs: dict[str, str] = {}
        for uri in question.inputs:
            target = artifact_of(uri)
            if target is not None:
                record = await self.reader.readable(who, *target)
                if record is None:
                    return ARTIFACT_NOT_FOUND
                inputs[uri] = input_version(record)
            elif not uri.startswith(SCHEME):
                found = await materializer.resolve(who, Transformation((uri,), SCAN, {}))
                if not isinstance(found, Refused):  # a table: the rights to it are those to the result
                    inputs[uri] = found[0].version
        transform = {"client": given}
        secret = materializer.resources.authorizer.secret
        try:
            text = canonical_json({"executor": EXECUTOR, **transform})
            key = provenance_hash(secret, self._tenant, transform, list(inputs.items()))
        except ValueError:
            return Refused(Reason.BAD_REQUEST, "The transform has a number that JSON does not have.")
        if len(text) > MAX_TRANSFORM_BYTES:
            return TRANSFORM_TOO_LARGE
        query = query_hash(secret, self._tenant, transform, list(inputs))
        return Provenance(key, query, text, tuple(inputs.items()))

    async def _begin(self) -> _Upload:
        resources = self._materializer.resources
        begin = partial(resources.blobs.begin, self.reader.prefix)
        writer = await resources.threads.disk.run(
            self._tenant, begin, keep=True, discard=lambda left: left.abort()
        )
        return _Upload(writer, self._materializer.builder.storage.begin())

    async def _receive(self, upload: _Upload, pieces: trio.MemoryReceiveChannel[bytes]) -> None:
        """Write the pieces of an upload as they arrive; an empty one is the end."""
        held: list[bytes] = []
        size, ended = 0, False
        async for piece in pieces:
            held.append(piece)
            size += len(piece)
            ended = not piece
            if size >= PIECE_BYTES or ended:
                await self._write(upload, held, size)
                held, size = [], 0
            if ended:
                break
        if not ended:
            raise RefusalError(CUT)

    async def _write(self, upload: _Upload, parts: list[bytes], size: int) -> None:
        materializer, writer = self._materializer, upload.writer
        most = materializer.builder.limits.max_response_bytes
        upload.size += size
        if upload.size > most:
            raise RefusalError(too_large(most))
        while writer.behind(size):
            await materializer.resources.threads.disk.run(self._tenant, writer.catch_up, keep=True)
        await upload.room.make(size)

        def write() -> None:
            upload.room.take(size)
            writer.append(tuple(part for part in parts if part))

        await self._quantum(write)

    async def _checked(self, upload: _Upload) -> Mapping[str, Any]:
        """Hash an upload, and have it verified; returns its rows and its schema.

        Raises:
            RefusalError: If it is not one whole Arrow IPC stream.
        """
        writer, runtime = upload.writer, self._materializer.resources.transforms
        await self._quantum(writer.settle)
        while await self._quantum(partial(writer.hash_more, PIECE_BYTES)):
            pass
        job = {"memory_bytes": MEMORY_BYTES, "cpu_seconds": int(CHECK_SECONDS)}
        descriptor = os.open(writer.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            with trio.fail_after(CHECK_SECONDS):
                async with runtime.checker.process() as process:
                    await process.give(job, [descriptor])
                    missing = json.loads((await process.receive()).payload)
                    if missing and runtime.require_walls:
                        raise RefusalError(NOT_CHECKED)
                    frame = await process.receive()
        except trio.TooSlowError:
            raise RefusalError(_no_stream("it takes too long to read")) from None
        except SandboxError as error:
            log.warning("upload ended the process that verified it", tenant=self._tenant, error=str(error))
            raise RefusalError(_no_stream("it cannot be read")) from None
        finally:
            os.close(descriptor)
        facts = frame.facts()
        if frame.kind is not Kind.DONE:
            raise RefusalError(_no_stream(str(facts.get("message"))))
        return facts

    async def _keep(
        self,
        upload: _Upload,
        provenance: Provenance,
        facts: Mapping[str, Any],
        name: NameOrder | None,
        question: PutArtifact,
    ) -> Put | Refused:
        """Commit a verified upload with its record, its name and its audit; or find the one that is there."""
        materializer = self._materializer
        resources, writer = materializer.resources, upload.writer
        known = await materializer.finished.find(provenance.key)
        if known is not None:
            if known.content_sha256 != writer.sha256:
                raise RefusalError(DIFFERS)
            named = None if name is None else await materializer.set_name(name, known)
            await self._undo(upload, None)
            return named if isinstance(named, Refused) else Put(known, hit=True)
        build_id = resources.new_id()
        begin = partial(
            resources.metadata.begin_build,
            build_id=build_id,
            provenance_hash=provenance.key,
            query_hash=provenance.query,
            transform_spec=provenance.transform,
            input_versions=provenance.inputs,
            executor_ref=EXECUTOR,
            name=question.name,
            refresh=True,
        )
        upload.build_id = build_id  # also where it is in doubt whether the store has it
        await resources.write(self._tenant, begin, self._tenant)
        async with resources.blob_locks.holding(self.reader.prefix, writer.sha256):
            await resources.note_bytes(self._tenant, build_id, writer.sha256)
            blob = await resources.transfer(
                self._tenant, Tier.BULK, writer.commit, cost=upload.size, keep=True
            )
            finish = partial(
                resources.metadata.finish_build,
                facts=blob,
                row_count=int(facts["rows"]),
                arrow_schema=str(facts["schema"]),
                names=() if name is None else (name,),
                act=act_of(question.principal, PUT, question.request_id),
            )
            record = await resources.write(self._tenant, finish, self._tenant, build_id)
        if isinstance(record, Refused):
            raise RefusalError(record)
        upload.room.keep()
        materializer.finished.add(record)
        return Put(record, hit=False)

    async def _undo(self, upload: _Upload, error: BaseException | None) -> None:
        """Remove the file of an upload that is not kept, and note its build as failed."""
        resources = self._materializer.resources
        try:
            await resources.threads.disk.run(self._tenant, upload.writer.abort, keep=True)
        except (OSError, RefusalError):  # removed at the next start
            log.warning("file not removed", tenant=self._tenant)
        upload.room.give_back()
        if upload.build_id is not None:
            code = error.refused.code if isinstance(error, RefusalError) else None
            fail = partial(resources.metadata.fail_build, code=code or "abandoned", message="Upload failed.")
            try:
                await resources.write(self._tenant, fail, self._tenant, upload.build_id)
            except RefusalError:  # it is noted when the store is back
                resources.unended.add(self._tenant, upload.build_id, ABANDONED)
                log.warning("failed build not noted", tenant=self._tenant)

    async def _quantum(self, function: Any) -> Any:
        pool = self._materializer.resources.pool
        return await pool.run(self._tenant, Tier.BULK, function, cost=PIECE_BYTES, abandon=False)

    @property
    def _materializer(self) -> Materializer:
        return self.reader.materializer

    @property
    def _tenant(self) -> str:
        return self.reader.tenant


def _no_stream(why: str) -> Refused:
    detail = f"The data is not one readable Arrow IPC stream: {why}."
    return Refused(Reason.BAD_REQUEST, detail, code="not_an_arrow_stream", loc=("body", "data"))
