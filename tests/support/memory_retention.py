"""The end of results in memory: keeps the contract of retention on an in-memory metadata store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from memory_metadata import Gone, MemoryMetadataStore

from strata.artifacts.metadata.listings import ARTIFACT_URI, is_artifact
from strata.artifacts.metadata.records import Act, ArtifactRecord, ArtifactState
from strata.artifacts.metadata.usage import stored_bytes
from strata.artifacts.retention.contract import MOST_REMOVED, Hold, Kept, Removed, Unused, Usage
from strata.artifacts.retention.sql_retention import listed

_ENDED = (ArtifactState.READY, ArtifactState.FAILED)


@attrs.frozen(eq=False)
class MemoryRetention:
    """See :class:`strata.artifacts.retention.contract.RetentionStore`."""

    store: MemoryMetadataStore

    def now(self) -> float:
        return self.store._now()

    def usage(self, tenant: str) -> Usage:
        with self.store._call("usage"):
            return self._usage(tenant)

    def largest(self, limit: int) -> tuple[tuple[str, Usage], ...]:
        with self.store._call("largest"):
            tenants = {owner for owner, _, _ in (*self.store._artifacts, *self.store._removed)}
            found = [(owner, self._usage(owner)) for owner in tenants]
            return tuple(sorted(found, key=lambda one: (-one[1].stored_bytes, one[0]))[:limit])

    def note_uses(self, tenant: str, uses: Mapping[tuple[str, int], float]) -> None:
        if not uses:
            return
        with self.store._call("note_uses"):
            for version, at in uses.items():
                known = self.store._used.get((tenant, *version))
                if (tenant, *version) in self.store._artifacts and (known is None or known < at):
                    self.store._used[tenant, *version] = at

    def note_first_uses(self, tenant: str, limit: int) -> int:
        del tenant, limit
        self.store._now()
        return 0

    def kept(self, tenant: str, artifact_id: str, version: int) -> Kept | None:
        with self.store._call("kept"):
            return self._kept(tenant, artifact_id, version)

    def unused(self, tenant: str, *, before: float, after: Unused | None, limit: int) -> tuple[Unused, ...]:
        with self.store._call("unused"):
            found = [self._unused(tenant, record) for record in self.store._of(tenant)]
            kept = [(one, self._kept(tenant, one.artifact_id, one.version)) for one in found]
            free = [one for one, holds in kept if holds is not None and not holds.holds]
            place = (one for one in sorted(free) if one.used_at < before and (after is None or one > after))
            return tuple(place)[:limit]

    def remove(self, tenant: str, artifact_id: str, version: int, act: Act) -> Removed | Kept | None:
        now = self.store._now()
        with self.store._call("remove"):
            removed = self._claim(tenant, artifact_id, version, now)
            if removed is None:
                return self._kept(tenant, artifact_id, version)
            self._note([removed], act, now)
            return removed

    def collect(
        self, tenant: str, versions: Sequence[Unused], *, before: float, act: Act
    ) -> tuple[Removed, ...]:
        now = self.store._now()
        with self.store._call("collect"):
            found = [
                self._claim(tenant, one.artifact_id, one.version, now, before)
                for one in versions[:MOST_REMOVED]
            ]
            removed = [one for one in found if one is not None]
            if removed:
                self._note(removed, act, now)
            return tuple(removed)

    def pending(
        self, limit: int, *, tenant: str | None = None, after: Removed | None = None
    ) -> tuple[Removed, ...]:
        place = ("", "", 0) if after is None else (after.tenant, after.artifact_id, after.version)
        with self.store._call("pending"):
            found = [
                Removed(*key, gone.byte_size, gone.sha256)
                for key, gone in sorted(self.store._removed.items())
                if gone.sha256 is not None and tenant in (None, key[0]) and key > place
            ]
            return tuple(found[:limit])

    def is_needed(self, tenant: str, content_sha256: str) -> bool:
        with self.store._call("is_needed"):
            return any(record.content_sha256 == content_sha256 for record in self.store._ready(tenant))

    def bytes_gone(self, removed: Removed) -> None:
        with self.store._call("bytes_gone"):
            key = (removed.tenant, removed.artifact_id, removed.version)
            if key in self.store._removed:
                self.store._removed[key] = attrs.evolve(self.store._removed[key], sha256=None)

    def forget_removed(self, tenant: str, *, before: float, limit: int) -> int:
        with self.store._call("forget_removed"):
            old = [
                key
                for key, gone in self.store._removed.items()
                if key[0] == tenant and gone.at < before and gone.sha256 is None
            ]
            for key in old[:limit]:
                del self.store._removed[key]
            return len(old[:limit])

    def _usage(self, tenant: str) -> Usage:
        mine = self.store._of(tenant)
        return Usage(sum(map(stored_bytes, mine)), len(mine))

    def _unused(self, tenant: str, record: ArtifactRecord) -> Unused:
        used_at = self.store._used[tenant, record.artifact_id, record.version]
        return Unused(used_at, record.artifact_id, record.version, stored_bytes(record))

    def _kept(self, tenant: str, artifact_id: str, version: int) -> Kept | None:
        store = self.store
        record = store._artifacts.get((tenant, artifact_id, version))
        if record is None:
            return None
        names = sorted(
            one.name
            for (owner, _), one in store._names.items()
            if (owner, one.artifact_id, one.version) == (tenant, artifact_id, version)
        )
        uri = f"{ARTIFACT_URI}{artifact_id}@v={version}"
        made = sorted(
            (one.created_at, one.artifact_id, one.version)
            for one in store._of(tenant)
            if is_artifact(uri) and uri in one.inputs
        )
        aliases = sorted(
            (one.name, one.alias)
            for (owner, _, _), one in store._aliases.items()
            if (owner, one.artifact_id, one.version) == (tenant, artifact_id, version)
        )
        pins = tuple(sorted(store._pins.get((tenant, artifact_id, version), ())))
        found = {
            Hold.BUILDING: record.state not in _ENDED,
            Hold.NAME: bool(names),
            Hold.INPUT: bool(made),
            Hold.ALIAS: bool(aliases),
            Hold.PIN: bool(pins),
            Hold.PENDING: any(
                (owner, one.artifact_id, one.version) == (tenant, artifact_id, version)
                for (owner, _, _), one in store._pending.items()
            ),
        }
        held = frozenset(hold for hold, holds in found.items() if holds)
        dependents = tuple(f"{ARTIFACT_URI}{one}@v={number}" for _, one, number in made[:MOST_REMOVED])
        used = store._used[tenant, artifact_id, version]
        return Kept(used, held, tuple(names[:MOST_REMOVED]), dependents, tuple(aliases[:MOST_REMOVED]), pins)

    def _claim(
        self, tenant: str, artifact_id: str, version: int, now: float, before: float | None = None
    ) -> Removed | None:
        store, key = self.store, (tenant, artifact_id, version)
        kept = self._kept(*key)
        if kept is None or kept.holds or (before is not None and store._used[key] >= before):
            return None
        record = store._artifacts.pop(key)
        del store._used[key]
        store._tags.pop(key, None)
        store._builds = {
            name: noted
            for name, noted in store._builds.items()
            if (name[0], noted.record.artifact_id, noted.record.version) != key
        }
        size = (record.byte_size or 0) if record.state is ArtifactState.READY else 0
        store._removed[key] = Gone(now, size, record.content_sha256)
        return Removed(*key, size, record.content_sha256)

    def _note(self, removed: Sequence[Removed], act: Act, now: float) -> None:
        act = attrs.evolve(act, old=listed(removed))
        self.store._note(act, now)
