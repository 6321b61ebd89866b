"""The registry of results in memory: keeps its contract on an in-memory metadata store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import attrs
from memory_metadata import MemoryMetadataStore, summary_of

from strata.artifacts.metadata.naming import NAME_OWNED, may_move, state, state_of
from strata.artifacts.metadata.records import Act, ArtifactState, NameOrder, NameRecord, VersionSummary
from strata.artifacts.registry.contract import (
    ALIAS_IS_NAME,
    CHANGED,
    MOST_ALIASES,
    MOST_PENDING,
    MOST_PINS,
    MOST_TAGS,
    OTHER_REQUEST,
    OWN_REQUEST,
    TOO_MANY_ALIASES,
    TOO_MANY_PENDING,
    TOO_MANY_PINS,
    TOO_MANY_TAGS,
    AliasRecord,
    Event,
    PendingChange,
    PinRecord,
    Tagged,
    Version,
)
from strata.artifacts.registry.sql_events import ACTIONS
from strata.outcomes import Refused


@attrs.frozen(eq=False)
class MemoryRegistry:
    """See :class:`strata.artifacts.registry.contract.RegistryStore`."""

    store: MemoryMetadataStore

    def set_name(self, tenant: str, order: NameOrder, target: Version) -> NameRecord | Refused | None:
        now = self.store._now()
        with self.store._call("set_name"):
            if not self._ready(tenant, target):
                return None
            return self.store._put_name(tenant, order, target, now)

    def drop_name(self, tenant: str, order: NameOrder) -> NameRecord | Refused | None:
        now = self.store._now()
        with self.store._call("drop_name"):
            old = self.store._names.get((tenant, order.name))
            if old is None:
                return None
            if not may_move(old.owner, order):
                return NAME_OWNED
            del self.store._names[tenant, order.name]
            self.store._note(attrs.evolve(order.act, old=state_of(old)), now)
            return old

    def set_alias(
        self, tenant: str, order: NameOrder, alias: str, target: Version
    ) -> AliasRecord | Refused | None:
        now = self.store._now()
        with self.store._call("set_alias"):
            if not self._ready(tenant, target):
                return None
            refused = self._refused(tenant, order, alias)
            return refused or self._put(tenant, order, alias, target=target, act=order.act, now=now)

    def drop_alias(self, tenant: str, order: NameOrder, alias: str) -> AliasRecord | Refused | None:
        now = self.store._now()
        with self.store._call("drop_alias"):
            old = self.store._aliases.get((tenant, order.name, alias))
            if old is None:
                return None
            refused = self._refused(tenant, order, alias)
            if refused is not None:
                return refused
            del self.store._aliases[tenant, order.name, alias]
            self.store._note(attrs.evolve(order.act, old=_told(old)), now)
            return old

    def get_alias(self, tenant: str, name: str, alias: str) -> AliasRecord | None:
        with self.store._call("get_alias"):
            return self.store._aliases.get((tenant, name, alias))

    def aliases_of(self, tenant: str, names: Sequence[str]) -> Mapping[str, tuple[AliasRecord, ...]]:
        found: dict[str, tuple[AliasRecord, ...]] = {}
        with self.store._call("aliases_of"):
            for (owner, name, _), one in sorted(self.store._aliases.items(), key=lambda item: item[0]):
                if owner == tenant and name in names:
                    found[name] = (*found.get(name, ()), one)
        return found

    def request_change(
        self, tenant: str, order: NameOrder, alias: str, target: Version | None
    ) -> PendingChange | Refused | None:
        now, key = self.store._now(), (tenant, order.name, alias)
        with self.store._call("request_change"):
            old, known = self.store._aliases.get(key), self.store._pending.get(key)
            if not self._ready(tenant, target) if target is not None else old is None:
                return None
            refused = self._refused(tenant, order, alias)
            if refused is None and known is not None and known.requested_by != order.act.principal:
                refused = OTHER_REQUEST
            mine = sum(owner == tenant for owner, _, _ in self.store._pending)
            if refused is None and known is None and mine >= MOST_PENDING:
                refused = TOO_MANY_PENDING
            if refused is not None:
                return refused
            action = "set" if target is not None else "delete"
            if target is None:
                assert old is not None
                target = (old.artifact_id, old.version)
            change = PendingChange(order.name, alias, action, *target, order.act.principal, now)
            self.store._pending[key] = change
            self.store._note(attrs.evolve(order.act, new=_told(change)), now)
            return change

    def get_pending(self, tenant: str, name: str, alias: str) -> PendingChange | None:
        with self.store._call("get_pending"):
            return self.store._pending.get((tenant, name, alias))

    def list_pending(
        self, tenant: str, *, after: tuple[str, str] | None, limit: int
    ) -> tuple[tuple[PendingChange, VersionSummary | None], ...]:
        with self.store._call("list_pending"):
            found = [
                (one, self._summary(tenant, (one.artifact_id, one.version)))
                for (owner, *place), one in sorted(self.store._pending.items(), key=lambda item: item[0])
                if owner == tenant and (after is None or tuple(place) > after)
            ]
            return tuple(found[:limit])

    def approve(
        self, tenant: str, name: str, alias: str, act: Act, *, own: bool, expected: Version | None = None
    ) -> PendingChange | Refused | None:
        now, key = self.store._now(), (tenant, name, alias)
        with self.store._call("approve"):
            change = self.store._pending.get(key)
            if change is None:
                return None
            target = (change.artifact_id, change.version)
            if change.requested_by == act.principal and not own:
                return OWN_REQUEST
            if expected is not None and expected != target:
                return CHANGED
            if change.action == "set":
                if not self._ready(tenant, target):
                    return None
                asker = attrs.evolve(act, principal=change.requested_by)
                order = NameOrder(name=name, act=asker, others=True)
                refused = self._refused(tenant, order, alias)
                if refused is not None:
                    return refused
                self._put(tenant, order, alias, target=target, act=act, now=now)
            else:
                old = self.store._aliases.pop(key, None)
                gone = state(name=name, alias=alias) if old is None else _told(old)
                self.store._note(attrs.evolve(act, old=gone), now)
            del self.store._pending[key]
            return change

    def reject(self, tenant: str, name: str, alias: str, act: Act) -> PendingChange | None:
        now = self.store._now()
        with self.store._call("reject"):
            change = self.store._pending.pop((tenant, name, alias), None)
            if change is not None:
                self.store._note(attrs.evolve(act, old=_told(change)), now)
            return change

    def set_tag(self, tenant: str, version: Version, key: str, value: str, act: Act) -> bool | Refused:
        now = self.store._now()
        with self.store._call("set_tag"):
            if not self._ready(tenant, version):
                return False
            known = self.store._tags.setdefault((tenant, *version), {})
            if key not in known and len(known) >= MOST_TAGS:
                return TOO_MANY_TAGS
            old = _about(version, key=key, value=known[key]) if key in known else None
            known[key] = value
            self.store._note(attrs.evolve(act, old=old, new=_about(version, key=key, value=value)), now)
            return True

    def drop_tag(self, tenant: str, version: Version, key: str, act: Act) -> str | None:
        now = self.store._now()
        with self.store._call("drop_tag"):
            value = self.store._tags.get((tenant, *version), {}).pop(key, None)
            if value is not None:
                self.store._note(attrs.evolve(act, old=_about(version, key=key, value=value)), now)
            return value

    def tags_of(self, tenant: str, versions: Sequence[Version]) -> Mapping[Version, Mapping[str, str]]:
        with self.store._call("tags_of"):
            found = {one: self.store._tags.get((tenant, *one), {}) for one in versions}
            return {one: dict(sorted(tags.items())) for one, tags in found.items() if tags}

    def names_of(self, tenant: str, versions: Sequence[Version]) -> Mapping[Version, tuple[str, ...]]:
        found: dict[Version, tuple[str, ...]] = {}
        with self.store._call("names_of"):
            for (owner, name), one in sorted(self.store._names.items(), key=lambda item: item[0]):
                key = (one.artifact_id, one.version)
                if owner == tenant and key in versions:
                    found[key] = (*found.get(key, ()), name)
        return found

    def list_tagged(
        self, tenant: str, key: str, value: str | None, *, after: Version | None, limit: int
    ) -> tuple[Tagged, ...]:
        with self.store._call("list_tagged"):
            found = []
            for (owner, *place), tags in sorted(self.store._tags.items()):
                version = (place[0], place[1])
                given = tags.get(key)
                if owner == tenant and given is not None and value in (None, given):
                    target = self._summary(tenant, version)
                    assert target is not None
                    if after is None or version > after:
                        found.append(Tagged(target, given))
            return tuple(found[:limit])

    def pin(self, tenant: str, version: Version, reason: str, act: Act) -> PinRecord | Refused | None:
        now = self.store._now()
        with self.store._call("pin"):
            if not self._ready(tenant, version):
                return None
            pins = self.store._pins.setdefault((tenant, *version), {})
            if reason in pins:
                return pins[reason]
            if len(pins) >= MOST_PINS:
                return TOO_MANY_PINS
            pins[reason] = PinRecord(*version, reason, act.principal, now)
            self.store._note(attrs.evolve(act, new=_about(version, reason=reason)), now)
            return pins[reason]

    def unpin(self, tenant: str, version: Version, reason: str, act: Act) -> PinRecord | None:
        now = self.store._now()
        with self.store._call("unpin"):
            gone = self.store._pins.get((tenant, *version), {}).pop(reason, None)
            if gone is not None:
                self.store._note(attrs.evolve(act, old=_about(version, reason=reason)), now)
            return gone

    def list_events(
        self,
        tenant: str,
        *,
        name: str | None = None,
        artifact_id: str | None = None,
        before: int | None = None,
        since: int | None = None,
        limit: int,
    ) -> tuple[Event, ...]:
        with self.store._call("list_events"):
            found = [
                one
                for one in self.store._audit
                if one.act.tenant == tenant
                and one.act.action in ACTIONS
                and name in (None, one.act.name)
                and artifact_id in (None, one.act.artifact_id)
                and (before is None or one.id < before)
                and (since is None or one.id > since)
            ]
            ordered = found if since is not None else found[::-1]
            return tuple(Event(one, self._about(tenant, one.act)) for one in ordered[:limit])

    def _about(self, tenant: str, act: Act) -> VersionSummary | None:
        for text in (act.new, act.old):
            told = json.loads(text or "{}")
            if "artifact_id" in told:
                return self._summary(tenant, (told["artifact_id"], told["version"]))
        return None

    def _summary(self, tenant: str, version: Version) -> VersionSummary | None:
        record = self.store._artifacts.get((tenant, *version))
        return None if record is None else summary_of(record)

    def _ready(self, tenant: str, target: Version) -> bool:
        record = self.store._artifacts.get((tenant, *target))
        return record is not None and record.state is ArtifactState.READY

    def _refused(self, tenant: str, order: NameOrder, alias: str) -> Refused | None:
        named = self.store._names.get((tenant, order.name))
        old = self.store._aliases.get((tenant, order.name, alias))
        owner = named.owner if named is not None else None if old is None else old.owner
        if not may_move(owner, order):
            return NAME_OWNED
        if old is not None:
            return None
        if (tenant, f"{order.name}@{alias}") in self.store._names:
            return ALIAS_IS_NAME
        mine = sum((owner, name) == (tenant, order.name) for owner, name, _ in self.store._aliases)
        return TOO_MANY_ALIASES if mine >= MOST_ALIASES else None

    def _put(
        self, tenant: str, order: NameOrder, alias: str, *, target: Version, act: Act, now: float
    ) -> AliasRecord:
        old = self.store._aliases.get((tenant, order.name, alias))
        owner = order.act.principal if old is None else old.owner
        record = AliasRecord(order.name, alias, *target, now, owner)
        self.store._aliases[tenant, order.name, alias] = record
        self.store._note(attrs.evolve(act, old=None if old is None else _told(old), new=_told(record)), now)
        return record


def _told(of: AliasRecord | PendingChange) -> str:
    asked = of.requested_by if isinstance(of, PendingChange) else None
    return state(
        name=of.name, alias=of.alias, artifact_id=of.artifact_id, version=of.version, requested_by=asked
    )


def _about(version: Version, **more: str) -> str:
    return state(artifact_id=version[0], version=version[1], **more)
