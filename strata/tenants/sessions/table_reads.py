"""Read tables for cells, with the rights of the principal who runs them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from strata.artifacts import ArtifactRecord
from strata.artifacts.blobs.store import BlobReader
from strata.auth import Principal
from strata.notebooks.model.results import TableRead
from strata.outcomes import RefusalError, Refused
from strata.tables import ResolvedScan
from strata.tenants import messages as m
from strata.tenants.builds.materialize import SCAN, Materializer
from strata.tenants.builds.provenance import Provenance
from strata.tenants.builds.runner import BuildRequest
from strata.tenants.transforms.inputs import result_of
from strata.work import Tier

MAX_URI: Final = 4096
"""Maximum characters of a table's URI that a cell names."""

MALFORMED: Final = "strata.fetch takes a table's URI and the parameters of a scan."


@attrs.frozen(eq=False)
class CellTables:
    """Answers what cells ask for.

    Attributes:
        materializer: The tenant's builds.
    """

    materializer: Materializer

    async def identity(self, principal: Principal, read: TableRead) -> str | None:
        """Return the identity of the rows that a principal would read now; ``None`` if it may read none."""
        scanned = await self._resolve(principal, read.table, read.params)
        return None if isinstance(scanned, Refused) else scanned[1].key

    async def snapshot(self, principal: Principal, table: str, snapshot: int | None) -> int | Refused | None:
        """Return the snapshot of a table that a cell names by ``@table``."""
        params = {} if snapshot is None else {"snapshot_id": snapshot}
        scanned = await self._resolve(principal, table, params)
        return scanned if isinstance(scanned, Refused) else scanned[0].snapshot_id

    async def fetch(
        self, principal: Principal, question: Mapping[str, Any]
    ) -> tuple[TableRead, Mapping[str, str], int] | Refused | str:
        """Read rows of a table.

        Returns:
            What was read, the versions behind it by URI, and a descriptor of the rows as an Arrow stream,
            which the caller closes; or a refusal; or a sentence about a question that has not its form.
        """
        table, params = question.get("table"), question.get("params")
        if not isinstance(table, str) or len(table) > MAX_URI or not isinstance(params, dict):
            return MALFORMED
        scanned = await self._resolve(principal, table, params)
        if isinstance(scanned, Refused):
            self._note(principal, scanned, (table,))
            return scanned
        scan, provenance = scanned
        accesses = self.materializer.builder.resources.accesses
        kept = False if accesses is None else accesses.keep_place(principal.tenant)
        if isinstance(kept, Refused):
            return kept
        try:
            return await self._rows(principal, table, params, scan, provenance, kept=kept)
        finally:
            if accesses is not None:
                accesses.leave_places(principal.tenant, int(kept))

    async def _rows(
        self,
        principal: Principal,
        table: str,
        params: Mapping[str, Any],
        scan: ResolvedScan,
        provenance: Provenance,
        *,
        kept: bool,
    ) -> tuple[TableRead, Mapping[str, str], int] | Refused:
        try:
            order = BuildRequest(scan, provenance, SCAN, None, principal.id)
            record = await result_of(self.materializer, order, (principal,))
            if isinstance(record, Refused):
                self._note(principal, record, (table,), kept=kept)
                return record
            assert record.content_sha256 is not None
            assert record.byte_size is not None
            sha256, size, builder = record.content_sha256, record.byte_size, self.materializer.builder
            resources = builder.resources

            def opening() -> BlobReader | Refused:
                return resources.blobs.open_reader(builder.prefix, sha256, size)

            opened = await resources.transfer(
                builder.tenant, Tier.INTERACTIVE, opening, principal=principal.id, discard=_close
            )
        except RefusalError as error:
            return error.refused
        if isinstance(opened, Refused):
            return opened
        self._note(principal, record, dict(provenance.inputs), kept=kept)
        return TableRead(table, params, provenance.key), dict(provenance.inputs), opened.fd

    def _note(
        self,
        who: Principal,
        found: ArtifactRecord | Refused,
        inputs: Mapping[str, str] | Iterable[str],
        *,
        kept: bool = False,
    ) -> None:
        """Record a read of a cell, or a refused one, in the access audit."""
        accesses = self.materializer.builder.resources.accesses
        if accesses is None:
            return
        about: dict[str, object] = {"request_id": "", "action": "cell", "outcome": "ok"}
        if isinstance(found, Refused):
            about["outcome"] = found.code or found.reason.value
        else:
            about |= {"artifact_id": found.artifact_id, "version": found.version}
            about |= {"rows": found.row_count, "nbytes": found.byte_size or 0}
        accesses.note(who, about, kept=kept, inputs=inputs)

    async def _resolve(self, principal: Principal, table: str, params: Mapping[str, Any]) -> Any:
        try:
            return await self.materializer.resolve(principal, m.Transformation((table,), SCAN, params))
        except RefusalError as error:
            return error.refused


def _close(opened: BlobReader | Refused) -> None:
    if isinstance(opened, BlobReader):
        os.close(opened.fd)
