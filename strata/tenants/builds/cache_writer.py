"""Put the segments that a build has decoded into the tenant's cache, once its result is committed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import attrs
import structlog
import trio

from strata.artifacts import BlobFacts
from strata.cache import CacheShard, Pack
from strata.outcomes import RefusalError
from strata.tenants.builds.scan_pipeline import ScanBuild
from strata.tenants.builds.work import CLEANUP_SECONDS
from strata.tenants.shared.os_errors import error_name

CHECKSUM_BYTES = 8 * 1024 * 1024
"""Bytes of a segment that are checksummed or copied in one quantum: about 5 ms."""

log = structlog.get_logger(__name__)


@attrs.frozen(eq=False)
class CacheWriter:
    """Caches the segments of one committed build.

    Attributes:
        scan: The build's scan.
        facts: The committed blob.
        shard: The tenant's cache.
    """

    scan: ScanBuild
    facts: BlobFacts
    shard: CacheShard

    async def run(self) -> None:
        """Commit the pack and install it in the shard; only log what fails: the result is complete."""
        tenant = self.scan.work.tenant
        try:
            await self._commit_and_install()
        except OSError as error:
            log.warning("cache could not keep segments", tenant=tenant, error=error_name(error))
        except RefusalError as error:  # the pool, where the tenant's disk hangs
            log.warning("cache could not keep segments", tenant=tenant, error=error.refused.code)
        except Exception as error:  # a bug costs these segments, not the tenant's actor
            log.exception("caching crashed", tenant=tenant, error=type(error).__name__)

    async def _commit_and_install(self) -> None:
        shard, work = self.shard, self.scan.work
        try:
            pack = await self._commit_pack()
        except BaseException:  # raised again: no unfinished pack stays, cancelled or not
            if self.scan.output.pack is not None:
                with trio.move_on_after(CLEANUP_SECONDS, shield=True):
                    await work.run(self.scan.output.pack.abort, abandon=False)
            raise
        if pack is None:
            return
        files = shard.install(pack, self.scan.generation)
        if files:
            await work.run(partial(shard.remove_files, files), abandon=False)
        used = shard.take_used()
        if used:
            await work.run(partial(shard.note_used, used), abandon=False)

    async def _commit_pack(self) -> Pack | None:
        """Return the pack: a file of its own, or the blob itself; None if nothing is to be cached."""
        scan, shard, work, blob = self.scan, self.shard, self.scan.work, self.facts.path
        if scan.output.pack is not None:
            return await work.run(scan.output.pack.commit, abandon=False)
        if not scan.segments or self.facts.size > shard.most_of_one_scan:
            return None
        segments = []
        for segment in scan.segments:  # checksummed only now: no reader waits for a checksum
            crc32 = 0
            for done, length in _slices(segment.length):
                checksum = partial(shard.checksum, blob, segment.offset + done, length, crc32)
                crc32 = await work.run(checksum, cost=length, abandon=False)
            segments.append(attrs.evolve(segment, crc32=crc32))
        pack = await work.run(partial(shard.adopt, blob, scan.output.columns, segments), abandon=False)
        if pack is not None:
            return pack
        begin = partial(shard.begin_pack, scan.output.columns)
        scan.output.pack = writer = await work.run(begin, abandon=False)
        for segment in segments:
            for done, length in _slices(segment.length):
                copy = partial(writer.copy, blob, segment, done, length)
                await work.run(copy, cost=length, abandon=False)
        return await work.run(writer.commit, abandon=False)


def _slices(length: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each quantum's bytes."""
    for done in range(0, length, CHECKSUM_BYTES):
        yield done, min(CHECKSUM_BYTES, length - done)
