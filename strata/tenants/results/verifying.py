"""Verification of stored bytes.

A blob that was changed in place, by a disk or by a hand, still has its name and its size. Its result is given
up when that is noticed, and built again by the next request for it.
"""

from __future__ import annotations

import hashlib
import os
from functools import partial
from typing import Final

import attrs
import structlog

from strata.artifacts import BLOB_GONE, BLOB_UNREADABLE, ArtifactRecord, ArtifactState, BlobReader
from strata.outcomes import RefusalError, Refused
from strata.tenants.retention.finished import FinishedResults
from strata.tenants.shared.os_errors import error_name
from strata.tenants.shared.resources import Resources
from strata.work import Tier

PIECE_BYTES: Final = 4 * 1024 * 1024
"""Bytes that one quantum of the work pool hashes, in a few milliseconds."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class Verifier:
    """Verifies finished results of one tenant.

    Attributes:
        tenant: The tenant.
        prefix: The tenant's directory in the blob store.
        resources: The process's shared resources.
        finished: The tenant's finished results.
    """

    tenant: str
    prefix: str
    resources: Resources
    finished: FinishedResults

    async def check(self, record: ArtifactRecord) -> bool | Refused:
        """Return whether the stored bytes of a finished result are whole; a damaged one is given up.

        Of a remote object, its local copy is verified, and the object is not given up for it. Returns a
        refusal if that is not known now.

        Raises:
            RefusalError: If a store does not answer.
        """
        digest, size = record.content_sha256 or "", record.byte_size or 0
        opened = await self.resources.transfer(
            self.tenant,
            Tier.BULK,
            partial(self.resources.blobs.open_reader, self.prefix, digest, size),
            cost=size if self.resources.remote_blobs else PIECE_BYTES,
            discard=_close,
        )
        if isinstance(opened, Refused) and opened.code != BLOB_GONE.code:
            return opened
        found = opened if isinstance(opened, Refused) else await self._hash(opened)
        if isinstance(found, Refused) and found.code != BLOB_GONE.code:
            return found
        if found == digest:
            return True
        version = (record.artifact_id, record.version)
        get = self.resources.metadata.get_artifact
        known = await self.resources.ask(self.tenant, get, self.tenant, *version)
        if known is None or known.state is not ArtifactState.READY:
            return BLOB_GONE  # it was removed meanwhile
        log.error("blob damaged", tenant=self.tenant, artifact_id=version[0], version=version[1])
        if not self.resources.remote_blobs:
            await self.finished.lose(record)
        return False

    async def check_sample(self, record: ArtifactRecord) -> None:
        """Check a result that is read now; a store that does not answer is nothing to the read."""
        try:
            await self.check(record)
        except RefusalError as error:
            log.warning("result not verified", tenant=self.tenant, code=error.refused.code)

    async def _hash(self, opened: BlobReader) -> str | Refused:
        found = hashlib.sha256()

        def more(start: int) -> int:
            piece = opened.read(start, PIECE_BYTES)
            found.update(piece)
            return len(piece)  # pread(2) may give fewer bytes than it could

        start = 0
        try:
            while start < opened.size:
                hashed = partial(more, start)
                got = await self.resources.pool.run(
                    self.tenant, Tier.BULK, hashed, cost=PIECE_BYTES, abandon=False
                )
                if not got:  # the file is shorter than it was
                    break
                start += got
        except OSError as error:
            log.warning("blob cannot be read", tenant=self.tenant, error=error_name(error))
            return BLOB_UNREADABLE
        finally:
            os.close(opened.fd)
        return found.hexdigest()


def _close(opened: BlobReader | Refused) -> None:
    if isinstance(opened, BlobReader):
        os.close(opened.fd)
