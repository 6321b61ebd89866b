"""What the builds of all transforms share: finished results as inputs, and a result that comes in parts."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import attrs

from strata.artifacts import BLOB_GONE, ArtifactRecord, BlobReader
from strata.auth import Principal
from strata.config.fields import RegisteredTransform
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.builds.materialize import Materializer
from strata.tenants.builds.output import HOT_GROUP_BYTES, too_large
from strata.tenants.builds.provenance import Provenance
from strata.tenants.builds.runner import BuildRun
from strata.tenants.builds.work import BuildWork
from strata.tenants.limits.slots import Lease
from strata.tenants.shared.byte_stream import Tail
from strata.tenants.shared.resources import SMALL_COST
from strata.tenants.transforms.inputs import Input, result_of
from strata.tracing.spans import child
from strata.work import Tier


@attrs.frozen(eq=False, kw_only=True)
class TransformOrder:
    """A transform to run; see :class:`~strata.tenants.builds.runner.Order`.

    Attributes:
        provenance: The result's identity.
        executor: The transform reference.
        name: Name to point at the result, or None.
        principal: Principal of the first request, who is charged for the build.
        caller: The same with its scopes.
        inputs: Its inputs, in their order.
        registered: The entry of the registry that permits it, with its limits.
        materializer: Builds the scans of the inputs.
    """

    provenance: Provenance
    executor: str
    name: str | None
    principal: str
    caller: Principal
    inputs: tuple[Input, ...]
    registered: RegisteredTransform
    materializer: Materializer


OrderT = TypeVar("OrderT", bound=TransformOrder)


@attrs.define(eq=False)
class TransformRun(BuildRun[OrderT]):  # type: ignore[type-var]  # its subclasses' orders can begin
    """The build of a transform's result.

    Attributes:
        size: Bytes of the result so far.
        rows: Rows of the result so far.
        lease: The transform's slot. No reader gives it back, for the transform goes on without readers.
    """

    size: int = 0
    rows: int = 0
    lease: Lease | None = None

    async def _inputs(self, wanted: Sequence[Input]) -> tuple[list[ArtifactRecord], Tier]:
        """Return inputs as finished results, whose scans are built now if need be, and the build's tier.

        Raises:
            RefusalError: If one cannot be built, or together they are too large.
        """
        with child("inputs"):
            inputs = [await self._input(one) for one in wanted]
        registered = self.request.registered
        total = sum(one.byte_size or 0 for one in inputs)
        if 0 < registered.max_input_bytes < total:
            most = f"{registered.max_input_bytes} (max_input_bytes of {registered.ref})"
            detail = f"The inputs have {total} bytes of Arrow data; the maximum is {most}."
            raise RefusalError(Refused(Reason.TOO_LARGE, detail, "inputs_too_large"))
        return inputs, self.builder.limits.tier(total, 0)

    async def _input(self, one: Input) -> ArtifactRecord:
        if one.record is not None:
            return one.record
        assert one.scan is not None
        found = await result_of(self.request.materializer, one.scan, self.build.callers)
        if isinstance(found, Refused):
            raise RefusalError(found)
        return found

    async def _begin(self, tier: Tier, memory: int) -> BuildWork:
        """Wait for slot and memory, and open the result.

        Raises:
            RefusalError: If they are not free in time, or there is no room.
        """
        builder, build = self.builder, self.build
        await self._find_room()
        await self._take_slot(tier)
        self.lease, build.lease = build.lease, None
        await self._reserve_memory(tier, memory)
        resources = builder.resources
        await self._open_blob(b"", lambda: None)
        return BuildWork(
            resources.pool,
            builder.tenant,
            self.request.principal,
            tier,
            builder.limits.fetch_timeout,
            resources.threads.network,
        )

    @asynccontextmanager
    async def _opened(self, inputs: Sequence[ArtifactRecord], work: BuildWork) -> AsyncIterator[list[int]]:
        """Open the files of the inputs; they are closed at the end of the block."""
        builder = self.builder
        descriptors: list[int] = []
        try:
            for one in inputs:
                assert one.content_sha256 is not None
                assert one.byte_size is not None
                opened = await builder.resources.transfer(
                    builder.tenant,
                    work.tier,
                    partial(
                        builder.resources.blobs.open_reader, builder.prefix, one.content_sha256, one.byte_size
                    ),
                    cost=one.byte_size if builder.resources.remote_blobs else SMALL_COST,
                    principal=work.principal,
                    discard=_close,
                )
                if isinstance(opened, Refused):
                    if opened.code == BLOB_GONE.code:
                        await self.request.materializer.finished.lose(one)  # the next request builds it again
                    raise RefusalError(opened)
                descriptors.append(opened.fd)
            yield descriptors
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    async def _write(self, part: bytes, rows: int, work: BuildWork, *, show: bool = True) -> None:
        """Write a part of the result.

        Args:
            part: Its bytes.
            rows: Rows that it completes.
            work: Where to write.
            show: Whether the readers may have the part before it; else nothing before :meth:`_settle`.
        """
        registered, limits = self.request.registered, self.builder.limits
        most, tail = limits.max_response_bytes, self.tail
        own = registered.max_output_bytes
        if 0 < own < most and self.size + len(part) > own:
            detail = f"The result is larger than {own} bytes (max_output_bytes of {registered.ref})."
            raise RefusalError(Refused(Reason.TOO_LARGE, detail, "response_too_large"))
        if self.size + len(part) > most:
            raise RefusalError(too_large(most))
        writer = self.writer
        assert writer is not None
        while writer.behind(len(part)):
            await self.builder.resources.threads.disk.run(work.tenant, writer.catch_up, keep=True)
        await self.room.make(len(part))

        def write() -> int:
            self.room.take(len(part))
            return writer.append((part,))

        offset = await work.run(write, cost=len(part), abandon=False, urgent=True)
        if show and len(part) <= HOT_GROUP_BYTES:
            tail.keep(offset, (part,), writer.on_file)
        else:
            tail.cool()
        if show and self.size:
            tail.advance(self.size)
        self.size += len(part)
        self.rows += rows

    async def _settle(self, work: BuildWork) -> None:
        """Have the disk take all of the result, then show its end."""
        writer = self.writer
        assert writer is not None
        await work.run(writer.settle, abandon=False)
        self.tail.advance(self.size)
        self.tail.end()

    def _count(self) -> None:
        """Count the rows and bytes of the finished result."""
        self.builder.metrics.rows_built += self.rows
        self.builder.metrics.bytes_built += self.size

    def _too_late(self) -> RefusalError:
        """Return the refusal of a transform that was not done in time."""
        registered = self.request.registered
        seconds = f"{registered.timeout_seconds:g} seconds (timeout_seconds of {registered.ref})"
        detail = f"The {self.noun} did not end within {seconds}."
        return RefusalError(Refused(Reason.TIMED_OUT, detail, "transform_timeout"))

    @property
    def noun(self) -> str:
        """Return the word for the transform in messages."""
        return "transform"

    @property
    def tail(self) -> Tail:
        """The growing result, as its readers follow it."""
        assert self.build.tail is not None
        return self.build.tail

    def close(self) -> None:
        """Give the slot back, and close what the build has opened."""
        if self.lease is not None:
            self.lease.release()
        super().close()


def _close(opened: BlobReader | Refused) -> None:
    if isinstance(opened, BlobReader):
        os.close(opened.fd)
