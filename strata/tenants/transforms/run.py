"""Build the result of a query: scan its inputs, run it in a sandboxed process, write what that sends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import attrs
import structlog
import trio

from strata.artifacts import ArtifactRecord
from strata.outcomes import Reason, RefusalError, Refused
from strata.sandbox.frames import Frame, Kind
from strata.sandbox.launcher import Sandboxed, SandboxError
from strata.tenants.builds.runner import Builder
from strata.tenants.builds.state import Build, Written
from strata.tenants.builds.work import CLEANUP_SECONDS, BuildWork
from strata.tenants.shared.transform_runtime import SpillDirectory
from strata.tenants.transforms.build import TransformOrder, TransformRun
from strata.tenants.transforms.narrowing import narrowed
from strata.tracing.spans import child
from strata.transforms.sql_params import SqlSpec

CPU_SECONDS = 10
"""Seconds of the processor that a query may use besides those of its time limit on all its threads."""

THREAD_BYTES = 64 * 1024 * 1024
"""Bytes of memory for each thread of a query; with less, DuckDB cannot sort what its memory cannot hold."""

SHARE_OF_BUDGET = 4
"""A query has at most 1/``SHARE_OF_BUDGET`` of the memory for builds; with more it would hold up others."""

LEAST_MEMORY = 32 * 1024 * 1024
"""Bytes of memory that a query has on the smallest machine: with less, DuckDB runs hardly any."""

NOT_STARTED = Refused(
    Reason.UNAVAILABLE, "No process could be started for the query.", "transform_not_started", retry_after=5
)
NO_WALLS = Refused(
    Reason.UNAVAILABLE,
    "This server's sandbox is incomplete, and its operator requires all of it (transforms.sandbox).",
    "sandbox_incomplete",
    retry_after=60,
)

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False, kw_only=True)
class SqlOrder(TransformOrder):
    """A query to run.

    Attributes:
        spec: The query.
        looking: Bounds how many queries of the tenant are looked at, before they are run, at once.
    """

    spec: SqlSpec
    looking: trio.CapacityLimiter

    def begin(self, builder: Builder, build: Build) -> SqlRun:
        """Return the run of the query."""
        return SqlRun(builder, build, self)


@attrs.define(eq=False)
class SqlRun(TransformRun[SqlOrder]):
    """The build of a query's result."""

    async def run(self) -> ArtifactRecord:
        """Scan the inputs, wait for slot and memory, run the query and commit its result."""
        builder, limits = self.builder, self.builder.limits
        order = self.request
        fewer = await narrowed(order.materializer, order.looking, order.caller, order.spec, order.inputs)
        inputs, tier = await self._inputs(fewer)
        share = builder.resources.memory.total // SHARE_OF_BUDGET
        memory = max(LEAST_MEMORY, min(limits.transform_memory, share))
        work = await self._begin(tier, memory)
        with trio.move_on_after(self.request.registered.timeout_seconds):
            async with self._directory() as directory, self._opened(inputs, work) as files:
                with child("sandbox") as span:
                    span.set("strata.transform", order.executor)
                    schema = await self._query(directory, files, work, memory)
            artifact, _ = await self._commit(work, Written(self.size, self.rows, schema))
            self._count()
            return artifact
        raise self._too_late()

    @property
    def noun(self) -> str:
        """Return the word for the transform in messages."""
        return "query"

    @asynccontextmanager
    async def _directory(self) -> AsyncIterator[SpillDirectory]:
        """Make the query's directory; it is removed at the end of the block."""
        resources, tenant = self.builder.resources, self.builder.tenant
        disk, runtime = resources.threads.disk, resources.transforms
        made = await disk.run(tenant, runtime.make_directory, keep=True)
        try:
            yield made
        finally:
            with trio.move_on_after(CLEANUP_SECONDS, shield=True):
                await disk.run(tenant, partial(runtime.remove_directory, made), keep=True)

    async def _query(
        self, directory: SpillDirectory, files: Sequence[int], work: BuildWork, memory: int
    ) -> str:
        """Run the query in a process of its own and write its rows; returns the Arrow schema as text."""
        order, limits, runtime = self.request, self.builder.limits, self.builder.resources.transforms
        job = {
            "sql": order.spec.sql,
            "names": order.spec.names,
            "threads": max(1, min(limits.transform_threads, memory // THREAD_BYTES)),
            "memory_bytes": memory,
            "spill_bytes": limits.transform_spill,
            "cpu_seconds": int(order.registered.timeout_seconds * limits.transform_threads) + CPU_SECONDS,
            "batch_rows": limits.batch_rows,
        }
        begun = False
        try:
            async with runtime.launcher.process() as process:
                await process.give(job, [directory.descriptor, *files])
                missing = tuple(json.loads((await process.receive()).payload))
                begun = True
                if missing:
                    log.warning("sandbox incomplete", tenant=self.builder.tenant, missing=missing)
                    if runtime.require_walls:
                        raise RefusalError(NO_WALLS)
                return await self._receive(process, work)
        except SandboxError as error:
            log.warning("query ended its process", tenant=self.builder.tenant, error=str(error))
            if not begun:
                raise RefusalError(NOT_STARTED) from None
            detail = (
                "The query ended its process: it may need more memory than "
                f"{memory} bytes (transform_memory_bytes) at once."
            )
            raise RefusalError(Refused(Reason.BAD_REQUEST, detail, "query_killed")) from None

    async def _receive(self, process: Sandboxed, work: BuildWork) -> str:
        while True:
            frame = await process.receive()
            match frame.kind:
                case Kind.DATA:
                    await self._write(frame.payload, frame.rows, work)
                case Kind.DONE:
                    await self._settle(work)
                    return str(_facts(frame)["schema"])
                case _:
                    facts = _facts(frame)
                    code, message = str(facts["code"]), str(facts["message"])
                    raise RefusalError(Refused(Reason.BAD_REQUEST, message, code, loc=_SQL))


_SQL = ("body", "transform", "params", "sql")


def _facts(frame: Frame) -> dict[str, object]:
    try:
        return dict(frame.facts())
    except ValueError as error:
        raise SandboxError(str(error)) from None
