"""Build a result on an executor that fetches its inputs and brings its result by signed URLs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs
import structlog
import trio

from strata.artifacts import ArtifactRecord
from strata.executor.protocol.arrow_framing import FramingError
from strata.executor.protocol.client import Executor, ExecutorError
from strata.executor.protocol.messages import InputHead
from strata.executor.protocol.pulls import UPLOAD, Pull, PulledInput, UploadCutError
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.builds.runner import Builder
from strata.tenants.builds.state import Build, Written
from strata.tenants.builds.work import BuildWork
from strata.tenants.shared.artifact_inputs import uri_of
from strata.tenants.transforms.remote import (
    CANCEL_SECONDS,
    MEMORY_BYTES,
    RemoteOrder,
    RemoteRun,
    bad_answer,
    refusal_of,
)

LAST_WORD_SECONDS: Final = 1.0
"""Seconds for an executor to answer after its result is ready; then its connection is closed."""

NO_RESULT: Final = bad_answer("The executor has ended the build without bringing a result.")

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False, kw_only=True)
class PullOrder(RemoteOrder):
    """A transform to run on an executor of the pull model."""

    def begin(self, builder: Builder, build: Build) -> PullRun:
        """Return the run of the transform."""
        return PullRun(builder, build, self)


@attrs.define(eq=False)
class _Outcome:
    """How an attempt has ended: with an artifact, or an error.

    Attributes:
        artifact: The result.
        failure: Why there is none.
        call: The error of the request to the executor, if that failed.
        is_over: Set when the executor has answered.
    """

    artifact: ArtifactRecord | None = None
    failure: RefusalError | OSError | None = None
    call: ExecutorError | None = None
    is_over: trio.Event = attrs.field(factory=trio.Event)


@attrs.define(eq=False)
class PullRun(RemoteRun):
    """The build of a result that its executor brings."""

    async def run(self) -> ArtifactRecord:
        """Scan the inputs, wait for slot and memory, have the executor fetch, run and bring its result."""
        order = self.request
        inputs, tier = await self._inputs(order.inputs)
        work = await self._begin(tier, MEMORY_BYTES)
        executor = self.builder.resources.transforms.executor(self.builder.tenant, order.registered)
        with trio.move_on_after(order.registered.timeout_seconds):
            async with self._opened(inputs, work) as files:
                artifact = await self._attempts(executor, _pulled(inputs, files), work)
            self._count()
            return artifact
        executor.breaker.failed()
        raise self._too_late()

    async def _attempts(
        self, executor: Executor, inputs: Sequence[PulledInput], work: BuildWork
    ) -> ArtifactRecord:
        """Have the executor run, again if it cannot have begun."""
        assert self.record is not None
        heads = [InputHead(f"input{index}", byte_size=one.size) for index, one in enumerate(inputs)]
        description = self.request.describe(self.record, self.builder.tenant, heads)
        for attempt in range(1, 100):  # the executor's client gives up before
            pull = Pull(
                self.builder.tenant,
                attrs.evolve(description, attempt=attempt),
                inputs,
                self._most_bytes(),
                self.build.log.add,
            )
            outcome = await self._attempt(executor, pull, work)
            if outcome.artifact is not None:
                return outcome.artifact
            assert outcome.failure is not None
            pause = None
            if outcome.call is not None and (UPLOAD, 0) in pull.left:
                pause = executor.pause_after(outcome.call, attempt)
            if pause is None:
                raise outcome.failure
            await trio.sleep(pause)
        raise RefusalError(NO_RESULT)

    async def _attempt(self, executor: Executor, pull: Pull, work: BuildWork) -> _Outcome:
        order, outcome = self.request, _Outcome()
        pulls, build_id = self.builder.resources.transforms.pulls, pull.description.build_id
        assert order.registered.strata_url is not None
        manifest = pulls.begin(pull, order.registered.strata_url, order.registered.timeout_seconds)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._call, executor, manifest, pull, outcome)
                try:
                    outcome.artifact = await self._receive(pull, work)
                except FramingError as error:
                    if not isinstance(error, UploadCutError):  # the network, or a proxy, may have cut it
                        executor.breaker.failed()
                    detail = f"The executor's result is not usable: {error}."
                    pull.end(Refused(Reason.BAD_REQUEST, detail, "bad_result"))
                    outcome.failure = RefusalError(bad_answer(detail))
                except (RefusalError, OSError) as error:
                    outcome.failure = error
                else:
                    with trio.move_on_after(LAST_WORD_SECONDS):
                        await outcome.is_over.wait()
                nursery.cancel_scope.cancel()
        finally:
            pulls.end(build_id)
            begun = outcome.call is None or outcome.call.begun
            if outcome.artifact is None and begun:
                with trio.move_on_after(CANCEL_SECONDS, shield=True):
                    await executor.cancel(build_id)
        return outcome

    async def _call(
        self, executor: Executor, manifest: dict[str, object], pull: Pull, outcome: _Outcome
    ) -> None:
        """Give the executor its manifest; nothing more is taken of it once it has answered."""
        try:
            answer = await executor.execute_manifest(manifest)
        except ExecutorError as error:
            log.warning("executor failed", tenant=pull.tenant, ref=self.request.executor, code=error.code)
            outcome.call = error
            pull.end(refusal_of(error))
        else:
            if pull.report is None:
                said = answer.get("error")
                shown = f" It says: {said[:500]}" if isinstance(said, str) and said.isprintable() else ""
                pull.end(attrs.evolve(NO_RESULT, detail=NO_RESULT.detail + shown))
        finally:
            outcome.is_over.set()

    async def _receive(self, pull: Pull, work: BuildWork) -> ArtifactRecord:
        """Write what the executor brings, check it, and commit it when the executor says that it is whole.

        Raises:
            FramingError: If it is not what a result must be.
            RefusalError: If it is too large, or nothing is brought.
        """
        await self._write_all(pull.brought(), None, work)
        pull.take(self.size)
        report = await pull.reported()
        if report is None:
            raise RefusalError(pull.over or NO_RESULT)
        self._compare(report)
        schema = await self._check(work)
        await self._settle(work)
        artifact, _ = await self._commit(work, Written(self.size, self.rows, schema))
        pull.done(
            {
                "status": "finalized",
                "build_id": pull.description.build_id,
                "artifact_uri": uri_of(artifact.artifact_id, artifact.version),
                "name_uri": None,
                "byte_size": self.size,
                "row_count": self.rows,
            }
        )
        return artifact

    def _compare(self, report: Mapping[str, Any]) -> None:
        """Compare what has arrived with what the executor says it has sent.

        Raises:
            FramingError: If it differs.
        """
        for key, unit, found in (("byte_size", "bytes", self.size), ("row_count", "rows", self.rows)):
            said = report.get(key)
            if said is not None and said != found:
                raise FramingError(f"it has {found} {unit}, and its sender says otherwise")

    def _most_bytes(self) -> int:
        own, most = self.request.registered.max_output_bytes, self.builder.limits.max_response_bytes
        return min(own, most) if own else most


def _pulled(inputs: Sequence[ArtifactRecord], files: Sequence[int]) -> list[PulledInput]:
    return [
        PulledInput(one.artifact_id, one.version, descriptor, os.fstat(descriptor).st_size)
        for one, descriptor in zip(inputs, files, strict=True)
    ]
