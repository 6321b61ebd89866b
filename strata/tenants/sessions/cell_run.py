"""Run one cell for one principal: find a result that can be reused, or compute it and keep its bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Final

import attrs
import structlog
import trio

from strata.artifacts.blobs.store import BlobReader
from strata.auth import Principal
from strata.cells.bundle import BundleError
from strata.cells.remote import RuntimeChangedError
from strata.cells.runner import CellInput, CellJob, CellLimits, CellOutcome, Ended
from strata.config.fields import NotebookWorker
from strata.config.sections.notebook_environments import Lock
from strata.executor.protocol.client import ExecutorError
from strata.notebooks.graph.dependencies import SQL_RESULT, CellNode
from strata.notebooks.model.annotations import Annotations, read_annotations
from strata.notebooks.model.notebook import Cell, Language
from strata.notebooks.model.results import (
    MAX_CONSOLE_CHARACTERS,
    REFUSED,
    CellResult,
    TableRead,
    encode_result,
    run_key,
    source_hash,
)
from strata.notebooks.session.events import Printed
from strata.notebooks.store.contract import MAX_RESULTS, ResultRow
from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.notebooks.bundles import Taken, notebook_prefix, take_bundle
from strata.tenants.sessions.live_session import CurrentRun, LiveSession
from strata.tenants.sessions.ownership import Ownership
from strata.tenants.sessions.table_reads import CellTables
from strata.tenants.shared.os_errors import error_name
from strata.tenants.shared.resources import Resources
from strata.tracing.spans import child, continued
from strata.work import Tier

ENVIRONMENT: Final = "environment"
"""Key of the metadata of a notebook with the name of its environment."""

MAX_RUNTIMES: Final = 2
"""Maximum runtimes of a worker for which a cell is sent: it was replaced in between."""

MAX_FILES: Final = 200
"""Maximum cells whose values one cell reads: each is an open file of its process."""

REUSED: Final = "reused"
"""How a run ended that took the result of an equal one."""

SKIPPED: Final = "skipped"
"""How a run ended that did not begin."""

TOO_MANY_FILES: Final = Refused(
    Reason.TOO_LARGE,
    f"The cell reads values of more than {MAX_FILES} cells. Join some of them.",
    code="too_many_inputs",
)

log = structlog.get_logger(__name__)


@attrs.frozen
class Done:
    """How a run ended.

    Attributes:
        how: ``ok``, ``reused``, ``skipped``, or the code of an error.
        message: A sentence about it.
        result: The result; ``None`` for a run that did not begin.
    """

    how: str
    message: str = ""
    result: CellResult | None = None


@attrs.define(eq=False)
class CellExecution:
    """One run of a cell.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
        tables: Reads tables.
        session: The session.
        current: The run.
        inputs: The result with the value of each name that the cell takes.
        worker: Where it runs.
        ownership: The leases of the tenant's sessions.
        lock: The lock of the environment that the notebook names.
    """

    tenant: str
    resources: Resources
    tables: CellTables
    session: LiveSession
    current: CurrentRun
    inputs: Mapping[str, CellResult]
    worker: NotebookWorker
    ownership: Ownership
    lock: Lock | None = None
    reads: list[TableRead] = attrs.field(factory=list)
    console: dict[str, str] = attrs.field(factory=lambda: {"stdout": "", "stderr": ""})

    @property
    def principal(self) -> Principal:
        """The principal who runs the cell."""
        return self.current.queued.principal

    async def run(self, cell: Cell, node: CellNode) -> Done:
        """Run the cell, or reuse a result."""
        with continued(self.current.queued.span), child("cell") as span:
            span.set("strata.language", cell.language.value)
            done = await self._run(cell, node)
            span.set("strata.outcome", done.how)
            return done

    async def _run(self, cell: Cell, node: CellNode) -> Done:
        annotations = read_annotations(cell.language.value, cell.source)
        if cell.language is Language.MARKDOWN:
            return Done(SKIPPED, "A cell in Markdown has nothing to run.")
        versions = self.session.versions[self.current.number]
        for result in self.inputs.values():
            versions.update(result.versions)
        bound = await self._bound(annotations)
        if isinstance(bound, Refused):
            return Done(SKIPPED, f"@table: {bound.detail}")
        # A name that its producer did not leave is not an input: the cell finds it missing, as in one run.
        inputs = {
            name: result.outputs[name].sha256 if name in result.outputs else ""
            for name, result in self.inputs.items()
        }
        name = self.current.queued.view.content.metadata.get(ENVIRONMENT)
        if name is not None:
            known = isinstance(name, str)
            self.lock = self.resources.cells.lock_for(self.tenant, name) if known else None
            if self.lock is None:
                return Done(SKIPPED, f"No environment of this tenant has the name {str(name)[:64]}.")
        source = source_hash(cell.source)
        for _ in range(MAX_RUNTIMES):
            try:
                return await self._at_runtime(cell, node, annotations, bound, (source, inputs))
            except RuntimeChangedError:  # the key was of another runtime: it is made again
                continue
        return Done(SKIPPED, f"The worker {self.worker.name} changes its runtime. Run the cell again.")

    async def _at_runtime(
        self,
        cell: Cell,
        node: CellNode,
        annotations: Annotations,
        bound: Mapping[str, Any],
        read: tuple[str, Mapping[str, str]],
    ) -> Done:
        """Run the cell with the runtime that the worker has now, or reuse a result of it.

        Raises:
            RuntimeChangedError: If it has another one.
        """
        source, inputs = read
        try:
            runtime = await self.resources.cells.runtime_of(self.worker, self.tenant)
        except ExecutorError as error:
            return Done(SKIPPED, f"The worker {self.worker.name} is not available: {error}")
        if self.lock is not None:
            runtime = f"{runtime} environment-{self.lock.key}"
        bound_key = {**bound, "language": cell.language.value}
        key = run_key(source=source, inputs=inputs, defines=node.defines, runtime=runtime, bound=bound_key)
        if not self.current.queued.force and not annotations.nocache:
            found = await self._reusable(cell.id, key)
            if found is not None:
                return Done(REUSED, result=found)
        base = CellResult(
            key=key,
            source=source,
            inputs=inputs,
            principal=self.principal.id,
            revision=self.current.queued.view.revision.revision,
        )
        return await self._computed(cell, node, annotations, bound, base)

    async def _bound(self, annotations: Annotations) -> Mapping[str, Any] | Refused:
        """Return the plain values of ``@table``: the URI and the snapshot of each table."""
        bound: dict[str, Any] = {}
        for table in annotations.tables:
            snapshot = await self.tables.snapshot(self.principal, table.uri, table.snapshot)
            if isinstance(snapshot, Refused):
                return snapshot
            bound[table.variable], bound[f"{table.variable}_snapshot"] = table.uri, snapshot
        return bound

    async def _reusable(self, cell: str, key: str) -> CellResult | None:
        """Return a result of an equal run, whose tables are for this principal what they were then."""
        for one in self.session.candidates(cell):
            if one.key != key or not one.ok:
                continue
            if not await self.resources.may_read(self.principal, one.versions):
                continue
            for read in one.reads:
                if (await self.tables.identity(self.principal, read) or REFUSED) != read.key:
                    break
            else:
                return one
        return None

    async def _computed(
        self, cell: Cell, node: CellNode, annotations: Annotations, bound: Mapping[str, Any], base: CellResult
    ) -> Done:
        runtime = self.resources.cells
        with ExitStack() as stack:
            try:
                files, values = await self._inputs(stack)
                output = await self.resources.threads.disk.run(self.tenant, runtime.bundle, keep=True)
                stack.callback(os.close, output)
            except RefusalError as error:
                return Done(SKIPPED, error.refused.detail)
            except OSError as error:
                log.warning("a cell's files cannot be opened", tenant=self.tenant, error=error_name(error))
                return Done(SKIPPED, "The cell's files cannot be opened on the server right now.")
            limits = self._limits(annotations)
            job = CellJob(
                source=cell.source,
                name=f"cell {annotations.name or cell.name or cell.id}",
                defines=node.defines,
                inputs=values,
                files=files,
                bound=bound if cell.language is Language.PYTHON else {},
                limits=limits,
                language=cell.language.value,
                tables=[
                    {
                        "variable": one.variable,
                        "uri": one.uri,
                        "snapshot": bound[f"{one.variable}_snapshot"],
                    }
                    for one in annotations.tables
                ],
                result=annotations.name or SQL_RESULT,
                lock="" if self.lock is None else self.lock.requirements,
            )
            outcome = await self._run_and_note(job, output, base)
            if isinstance(outcome, Refused):
                return Done(SKIPPED, outcome.detail)
            return await self._kept(node, outcome, output, base)

    async def _run_and_note(self, job: CellJob, output: int, base: CellResult) -> CellOutcome | Refused:
        """Run the cell, and note meanwhile that it runs; a server that may not note it ends it.

        What a cell does until then is undone with its process, so it need not wait for the store.

        Raises:
            RuntimeChangedError: If the worker has another runtime.
        """
        found: CellOutcome | RuntimeChangedError | None = None
        refused: Refused | None = None
        async with trio.open_nursery() as nursery:

            async def note() -> None:
                nonlocal refused
                try:
                    refused = await self._noted(base)
                except RefusalError as error:
                    refused = error.refused
                if refused is not None:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(note)
            try:
                found = await self.resources.cells.run(
                    self.worker,
                    self.tenant,
                    job,
                    output,
                    self._print,
                    answerer=self._answer,
                    interrupt=self.current.interrupt,
                )
            except RuntimeChangedError as error:
                found = error
        if isinstance(found, RuntimeChangedError):
            raise found
        if refused is not None:
            return refused
        assert found is not None  # only a refusal cancels the run
        return found

    async def _noted(self, base: CellResult) -> Refused | None:
        """Note that the cell begins, for a server that adopts the session."""
        if self.current.queued.keeps:
            return None  # runs of a whole notebook are noted as such
        lost = attrs.evolve(base, versions=dict(self.session.versions[self.current.number]))
        return await self.ownership.note(self.session, self.current.queued.cell, lost)

    async def _inputs(self, stack: ExitStack) -> tuple[list[int], list[CellInput]]:
        """Open the bundles with the values that the cell takes."""
        prefix, blobs = notebook_prefix(self.tenant, self.session.name), self.resources.blobs
        files: list[int] = []
        places: dict[str, int] = {}
        values = []
        for name, result in self.inputs.items():
            output = result.outputs.get(name)
            if output is None:
                continue
            assert result.sha256 is not None
            if result.sha256 not in places:
                if len(files) == MAX_FILES:
                    raise RefusalError(TOO_MANY_FILES)
                opening = partial(blobs.open_reader, prefix, result.sha256, result.nbytes)
                opened = await self.resources.transfer(
                    self.tenant, Tier.INTERACTIVE, opening, principal=self.principal.id, discard=_close
                )
                if isinstance(opened, Refused):
                    raise RefusalError(
                        attrs.evolve(opened, detail=f"The value of {name} is lost; run its cell.")
                    )
                stack.callback(os.close, opened.fd)
                places[result.sha256] = len(files)
                files.append(opened.fd)
            place = places[result.sha256]
            values.append(CellInput(name, output.content_type, place, output.offset, output.nbytes))
        return files, values

    def _limits(self, annotations: Annotations) -> CellLimits:
        worker = self.worker
        return CellLimits(
            memory_bytes=worker.memory_bytes,
            cpu_seconds=worker.cpu_seconds,
            wall_seconds=min(worker.wall_seconds, annotations.timeout or worker.wall_seconds),
            output_bytes=worker.output_bytes,
            console_bytes=worker.console_bytes,
        )

    async def _print(self, stream: str, data: bytes) -> None:
        text = data.decode(errors="replace")
        room = MAX_CONSOLE_CHARACTERS - len(self.console[stream])
        self.console[stream] += text[:room]
        self.session.tell(Printed(self.current.queued.cell, self.current.number, stream, text))
        await trio.lowlevel.checkpoint()

    async def _answer(self, question: Mapping[str, Any]) -> tuple[Mapping[str, Any], int | None]:
        if question.get("ask") != "fetch":
            return {"error": "The server does not know this question."}, None
        found = await self.tables.fetch(self.principal, question)
        if isinstance(found, str):
            return {"error": found}, None
        if isinstance(found, Refused):
            # For a principal with other rights the run would be another one.
            self.reads.append(TableRead(question["table"], question["params"], REFUSED))
            return {"error": found.detail}, None
        read, versions, descriptor = found
        # Before the cell has the rows: what it prints from here on needs the right to read them.
        self.session.versions[self.current.number].update(versions)
        self.reads.append(read)
        return {}, descriptor

    async def _kept(self, node: CellNode, outcome: CellOutcome, output: int, base: CellResult) -> Done:
        """Keep what a run has left, and return how it ended."""
        taken = Taken()
        if outcome.ended in (Ended.OK, Ended.RAISED, Ended.VALUE_NOT_KEPT):
            take = partial(
                take_bundle,
                self.resources.blobs,
                notebook_prefix(self.tenant, self.session.name),
                output,
                frozenset(node.defines),
                frozenset(self.inputs),
            )
            try:
                taken = await self.resources.threads.disk.run(self.tenant, take, keep=True)
            except BundleError as error:
                message = f"The cell's results have not the form of results: {error}."
                outcome = CellOutcome(ended=Ended.PROCESS_ENDED, message=message, seconds=outcome.seconds)
            except RefusalError as error:
                return Done(SKIPPED, error.refused.detail)
            except OSError as error:
                log.warning("a cell's results cannot be kept", tenant=self.tenant, error=error_name(error))
                return Done(SKIPPED, "The cell's results cannot be kept on the server's disk right now.")
        result = attrs.evolve(
            base,
            outputs=taken.outputs if outcome.ok else {},
            displays=taken.displays,
            displays_left_out=taken.displays_left_out,
            changed=taken.changed,
            how=outcome.ended.value,
            message=outcome.message,
            traceback=outcome.traceback,
            line=outcome.line,
            seconds=round(outcome.seconds, 6),
            stdout=self.console["stdout"],
            stderr=self.console["stderr"],
            reads=tuple(self.reads),
            versions=dict(self.session.versions[self.current.number]),
            sha256=taken.sha256,
            nbytes=taken.nbytes,
        )
        return await self._written(result)

    async def _written(self, result: CellResult) -> Done:
        """Write a result to the store, and remove bundles that no result has any more."""
        view, store = self.current.queued.view, self.resources.notebooks
        cells = {cell.id for cell in view.content.cells}
        if self.current.queued.keeps:
            cells |= self.session.results.keys()
        row = ResultRow(
            cell=self.current.queued.cell,
            sha256=result.sha256,
            byte_size=result.nbytes,
            record=encode_result(result),
        )
        epoch = self.session.tenure.epoch
        try:
            gone = await self.resources.write(
                self.tenant,
                store.add_result,
                self.tenant,
                self.session.name,
                row,
                cells,
                epoch=epoch,
                ended=self.session.noted,
            )
        except RefusalError as error:
            gone = error.refused
        if isinstance(gone, Refused):
            self.ownership.check(self.session.name, epoch, gone)
            return Done(SKIPPED, gone.detail)
        self.session.noted = False
        kept = self.session.results.setdefault(self.current.queued.cell, [])
        kept.insert(0, result)
        del kept[MAX_RESULTS:]
        await remove_bundles(self.resources, self.tenant, self.session.name, gone)
        return Done(result.how, result.message, result)


async def remove_bundles(resources: Resources, tenant: str, name: str, hashes: tuple[str, ...]) -> None:
    """Remove bundles of a notebook; one that cannot be removed now stays, and is logged."""
    prefix = notebook_prefix(tenant, name)
    for sha256 in hashes:
        remove = partial(resources.blobs.delete, prefix, sha256)
        try:
            await resources.threads.disk.run(tenant, remove, keep=True)
        except (OSError, RefusalError) as error:
            log.warning("a bundle cannot be removed", tenant=tenant, error=type(error).__name__)


def _close(opened: BlobReader | Refused) -> None:
    if isinstance(opened, BlobReader):
        os.close(opened.fd)
