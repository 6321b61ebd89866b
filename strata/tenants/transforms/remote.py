"""Build a result on an executor: send it the inputs, write what it answers, and show what was checked."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import AsyncIterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import attrs
import structlog
import trio

from strata.artifacts import ArtifactRecord, BuildRecord
from strata.config.fields import REFERENCE
from strata.executor.protocol.arrow_framing import ArrowFraming, FramingError, check_values
from strata.executor.protocol.client import Executor, ExecutorError
from strata.executor.protocol.messages import (
    ARROW_STREAM,
    ICEBERG_FORMAT,
    LOGS_HEADER,
    ROWS_HEADER,
    BuildDescription,
    InputHead,
)
from strata.executor.protocol.multipart import Part
from strata.http.calling.exchange import Response
from strata.outcomes import Reason, RefusalError, Refused
from strata.tables.files.confined import ConfinedFileIO
from strata.tenants.builds.output import HOT_GROUP_BYTES
from strata.tenants.builds.runner import Builder
from strata.tenants.builds.state import Build, Written
from strata.tenants.builds.work import BuildWork
from strata.tenants.transforms.build import TransformOrder, TransformRun
from strata.tenants.transforms.inputs import Input

WRITE_BYTES: Final = 1024 * 1024
"""Bytes of the result that are written at a time."""

MEMORY_BYTES: Final = 4 * WRITE_BYTES + HOT_GROUP_BYTES
"""Bytes of memory that a build on an executor reserves."""

CANCEL_SECONDS: Final = 1.0
"""Seconds for an executor to take the cancellation of a build; then its own deadline ends the build there."""

NOT_EXACT: Final = "TableNotExact"
"""Code of an executor's refusal of a table that it does not read exactly: its rows are sent instead."""

UNAVAILABLE: Final = frozenset(
    {"executor_unreachable", "executor_busy", "executor_unavailable", "executor_unhealthy"}
)
"""Codes of an executor's errors after which the same request may succeed."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False, kw_only=True)
class RemoteOrder(TransformOrder):
    """A transform to run on an executor.

    Attributes:
        params: Its parameters.
    """

    params: Mapping[str, Any]

    def begin(self, builder: Builder, build: Build) -> RemoteRun:
        """Return the run of the transform."""
        return RemoteRun(builder, build, self)

    def describe(self, record: BuildRecord, tenant: str, inputs: Sequence[InputHead]) -> BuildDescription:
        """Return the build as its executor is told of it."""
        return BuildDescription(
            record.build_id,
            self.executor,
            self.params,
            inputs,
            tenant=tenant,
            principal=self.principal,
            provenance_hash=self.provenance.key,
            code_hash=self.provenance.query,
        )


@attrs.define(eq=False)
class RemoteRun(TransformRun[RemoteOrder]):
    """The build of a result on an executor.

    Nothing of the result is shown to readers, and nothing becomes ready, before all of it was checked.
    """

    async def run(self) -> ArtifactRecord:
        """Scan the inputs, wait for slot and memory, have the executor run, check and commit its result."""
        order = self.request
        tables: Sequence[Mapping[str, Any] | None] = [None] * len(order.inputs)
        if order.registered.tables == REFERENCE:
            tables = [reference_of(one) for one in order.inputs]
        sent = [one for one, table in zip(order.inputs, tables, strict=True) if table is None]
        inputs, tier = await self._inputs(sent)
        work = await self._begin(tier, MEMORY_BYTES)
        executor = self.builder.resources.transforms.executor(self.builder.tenant, order.registered)
        with trio.move_on_after(order.registered.timeout_seconds):
            try:
                async with self._opened(inputs, work) as files:
                    await self._exchange(executor, files, work, tables)
            except RefusalError as error:
                if error.refused.code != NOT_EXACT or not any(tables) or self.size:
                    raise
                log.info("tables sent as rows", tenant=work.tenant, why=error.refused.detail)
                whole = [await self._input(one) for one in order.inputs]
                async with self._opened(whole, work) as files:
                    await self._exchange(executor, files, work, [None] * len(files), attempt=2)
            schema = await self._check(work)
            await self._settle(work)
            artifact, _ = await self._commit(work, Written(self.size, self.rows, schema))
            self._count()
            return artifact
        executor.breaker.failed()
        raise self._too_late()

    async def _exchange(
        self,
        executor: Executor,
        files: Sequence[int],
        work: BuildWork,
        tables: Sequence[Mapping[str, Any] | None],
        *,
        attempt: int = 1,
    ) -> None:
        """Send the build to the executor, and write its answer.

        Args:
            executor: The executor.
            files: The files of the inputs that are sent, in their order.
            work: Where to write.
            tables: For each input the snapshot that it reads itself; None for one that is sent.
            attempt: The number of the first attempt.
        """
        assert self.record is not None
        order = self.request
        heads, parts, waiting = [], [], iter(files)
        for index, table in enumerate(tables):
            name = f"input{index}"
            if table is not None:
                heads.append(InputHead(name, ICEBERG_FORMAT, table=table))
                continue
            one = next(waiting)
            size = os.fstat(one).st_size
            parts.append(Part(name, f"{name}.arrow", ARROW_STREAM, descriptor=one, size=size))
            heads.append(InputHead(name, byte_size=size))
        described = order.describe(self.record, self.builder.tenant, heads)
        description = attrs.evolve(described, attempt=attempt)
        ended = False
        try:
            async with executor.execute(description, parts, media_type=ARROW_STREAM) as response:
                await self._take(response, work)
            ended = True
        except ExecutorError as error:
            ended = error.own or not error.begun
            log.warning("executor failed", tenant=work.tenant, ref=order.executor, code=error.code)
            raise RefusalError(refusal_of(error)) from None
        except FramingError as error:
            executor.breaker.failed()
            raise RefusalError(bad_answer(f"The executor's answer is not usable: {error}.")) from None
        finally:
            if not ended:
                with trio.move_on_after(CANCEL_SECONDS, shield=True):
                    await executor.cancel(description.build_id)

    async def _take(self, response: Response, work: BuildWork) -> None:
        self._note_logs(response)
        await self._write_all(response, _rows(response), work)

    async def _write_all(self, parts: AsyncIterable[bytes], said: int | None, work: BuildWork) -> None:
        """Follow an Arrow stream as it arrives, and write it.

        Args:
            parts: The stream.
            said: Rows that it has by its sender's word; None if that said nothing.
            work: Where to write.

        Raises:
            FramingError: If it is no whole stream, or has another number of rows.
        """
        framing, held = ArrowFraming(), bytearray()
        rows = 0
        async for part in parts:
            rows += framing.feed(part)
            if said is not None and self.rows + rows > said:
                raise FramingError(f"it has more rows than the {said} that it said")
            held += part
            if len(held) >= WRITE_BYTES:
                await self._write(bytes(held), rows, work, show=False)
                held, rows = bytearray(), 0
        framing.finish()
        await self._write(bytes(held), rows, work, show=False)
        if said is not None and self.rows != said:
            raise FramingError(f"it has {self.rows} rows, and said {said}")

    async def _check(self, work: BuildWork) -> str:
        """Read the whole result, as its readers will; returns its schema as text."""
        writer = self.writer
        assert writer is not None
        await work.run(writer.settle, abandon=False)
        steps, schema, rows = check_values(writer.path), None, 0
        try:
            while (found := await work.run(partial(next, steps, None), abandon=False)) is not None:
                schema, rows = found
        except FramingError as error:
            raise RefusalError(bad_answer(f"The executor's answer is not usable: {error}.")) from None
        finally:
            steps.close()
        if schema is None or rows != self.rows:
            raise RefusalError(bad_answer("The executor's answer is not usable: its rows cannot be read."))
        return str(schema)

    def _note_logs(self, response: Response) -> None:
        """Keep what the transform has printed, where the executor sends it with its answer."""
        text = response.header(LOGS_HEADER)
        if text:
            try:
                self.build.log.add(base64.b64decode(text, validate=True).decode("utf-8", "replace"))
            except (binascii.Error, ValueError):
                return


def reference_of(one: Input) -> Mapping[str, Any] | None:
    """Return the snapshot of an input that an executor may read itself; None: its rows must be sent.

    Only a table of which the caller may read every cell, whole and as it is. Of a table that is confined to
    its warehouse, the directory is named, so that the executor confines it, too.
    """
    if one.scan is None:
        return None
    scan = one.scan.scan
    if scan.restricted or scan.view or scan.literal_bytes or scan.snapshot_id is None:
        return None
    found = {"metadata_location": scan.table.metadata_location, "snapshot_id": scan.snapshot_id}
    io = scan.table.io
    return found | {"root": io.root} if isinstance(io, ConfinedFileIO) else found


def _rows(response: Response) -> int | None:
    """Return the rows that an answer says it has; None if it says none.

    Raises:
        FramingError: If it says what is no number.
    """
    said = response.header(ROWS_HEADER)
    if said is None:
        return None
    if not said.isdigit() or not said.isascii() or len(said) > 18:  # noqa: PLR2004  # 63 bits
        raise FramingError("its number of rows is no number")
    return int(said)


def bad_answer(detail: str) -> Refused:
    """Return the refusal of a build whose executor sent what cannot be a result."""
    return Refused(Reason.FAILED, detail, "executor_bad_answer")


def refusal_of(error: ExecutorError) -> Refused:
    """Return an executor's error as the refusal of its build."""
    if error.code in UNAVAILABLE:
        seconds = 5 if error.retry_after is None else max(1, int(error.retry_after))
        return Refused(Reason.UNAVAILABLE, str(error), error.code, retry_after=seconds)
    if error.code == "executor_timeout":
        return Refused(Reason.TIMED_OUT, str(error), error.code)
    return Refused(Reason.BAD_REQUEST if error.own else Reason.FAILED, str(error), error.code)
