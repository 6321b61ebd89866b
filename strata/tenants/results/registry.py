"""Answers to questions on the registry: tags, pins, what is in it, and what was done to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import attrs

from strata.artifacts import ArtifactRecord, NamedVersion
from strata.artifacts.metadata import naming
from strata.artifacts.registry.contract import Event, PinRecord, Tagged
from strata.auth import Principal
from strata.outcomes import Reason, Refused
from strata.tenants import registry_messages as r
from strata.tenants.limits.model import TenantLimits
from strata.tenants.registry.orders import act_of
from strata.tenants.results.listing import CHUNK, Visibility
from strata.tenants.results.naming import Naming, readable_aliases
from strata.tenants.results.read import ARTIFACT_NOT_FOUND, Reader
from strata.tenants.shared.authorizer import artifact_resource
from strata.tenants.shared.resources import Resources

TAG_NOT_FOUND = Refused(Reason.NOT_FOUND, "Tag not found")

PIN_NOT_FOUND = Refused(Reason.NOT_FOUND, "Pin not found")

NAMES_AT_ONCE: Final = 10
"""Names of a summary whose aliases are read together: at most 1,000 aliases."""


@attrs.frozen(eq=False)
class RegistryReader:
    """Answers questions on the registry of one tenant, within the caller's rights."""

    tenant: str
    resources: Resources
    limits: TenantLimits
    reader: Reader

    async def set_tag(self, question: r.SetTag) -> r.Tags | Refused:
        """Set or remove a tag of a result that the caller may read, unless a rule denies writing it."""
        who, version, key = question.principal, (question.artifact_id, question.version), question.key
        refused = await self._refused(who, *version)
        if refused is not None:
            return refused
        registry = self.resources.registry
        if question.value is None:
            act = act_of(who, naming.DROP_TAG, question.request_id)
            gone = await self.resources.write(self.tenant, registry.drop_tag, self.tenant, version, key, act)
            return TAG_NOT_FOUND if gone is None else r.Tags({key: gone})
        act = act_of(who, naming.SET_TAG, question.request_id)
        done = await self.resources.write(
            self.tenant, registry.set_tag, self.tenant, version, key, question.value, act
        )
        if isinstance(done, Refused):
            return done
        return r.Tags({key: question.value}) if done else ARTIFACT_NOT_FOUND

    async def get_tags(self, question: r.GetTags) -> r.Tags | Refused:
        """Return the tags of a result that the caller may read."""
        version = (question.artifact_id, question.version)
        if await self.reader.readable(question.principal, *version) is None:
            return ARTIFACT_NOT_FOUND
        found = await self.resources.ask(self.tenant, self.resources.registry.tags_of, self.tenant, [version])
        return r.Tags(found.get(version, {}))

    async def set_pin(self, question: r.SetPin) -> PinRecord | Refused:
        """Pin a result that the caller may read, or remove a pin, unless a rule denies writing it."""
        who, version = question.principal, (question.artifact_id, question.version)
        refused = await self._refused(who, *version)
        if refused is not None:
            return refused
        registry = self.resources.registry
        act = act_of(who, naming.PIN if question.keep else naming.UNPIN, question.request_id)
        change = registry.pin if question.keep else registry.unpin
        done: PinRecord | Refused | None = await self.resources.write(
            self.tenant, change, self.tenant, version, question.reason, act
        )
        if done is None:
            return ARTIFACT_NOT_FOUND if question.keep else PIN_NOT_FOUND
        return done

    async def find_tagged(self, question: r.FindTagged) -> tuple[r.Entry, ...]:
        """List results with a tag that the caller may read."""
        who, after, listing = question.principal, question.after, self.resources.registry.list_tagged
        visible, found = self._visible(who), list[Tagged]()
        while len(found) < question.limit:
            part = await self.resources.ask(
                self.tenant, listing, self.tenant, question.key, question.value, after=after, limit=CHUNK
            )
            found += [one for one in part if await visible.shows(one.target)]
            if len(part) < CHUNK:
                break
            after = (part[-1].target.artifact_id, part[-1].target.version)
        page = found[: question.limit]
        versions = [(one.target.artifact_id, one.target.version) for one in page]
        registry = self.resources.registry
        tags = await self.resources.ask(self.tenant, registry.tags_of, self.tenant, versions)
        names = await self.resources.ask(self.tenant, registry.names_of, self.tenant, versions)
        return tuple(
            r.Entry(*version, self._shown(who, names.get(version, ())), tags.get(version, {}), one.value)
            for version, one in zip(versions, page, strict=True)
        )

    async def list_events(self, question: r.ListEvents) -> tuple[Event, ...]:
        """List acts on results that the caller may read; with rules, none on results that are gone."""
        who, found = question.principal, list[Event]()
        visible, listing = self._visible(who), self.resources.registry.list_events
        before, since, size = question.before, question.since, min(CHUNK, question.limit)
        while len(found) < question.limit:
            part = await self.resources.ask(
                self.tenant,
                listing,
                self.tenant,
                name=question.name,
                artifact_id=question.artifact_id,
                before=before,
                since=since,
                limit=size,
            )
            for event in part:
                if await self._shows(visible, who, event):
                    found.append(event)
            if len(part) < size:
                break
            before, since = (part[-1].record.id, None) if since is None else (None, part[-1].record.id)
        return tuple(found[: question.limit])

    async def summarize(self, question: r.Summarize) -> tuple[r.Summary, ...]:
        """List names of results that the caller may read, with their aliases and tags."""
        who, page = question.principal, list[NamedVersion]()
        async with aclosing(self._visible(who).names(after=question.after)) as names:
            async for one in names:
                page.append(one)
                if len(page) == question.limit:
                    break
        found: list[r.Summary] = []
        for start in range(0, len(page), NAMES_AT_ONCE):
            found += await self._summaries(who, page[start : start + NAMES_AT_ONCE])
        return tuple(found)

    async def _summaries(self, who: Principal, page: Sequence[NamedVersion]) -> list[r.Summary]:
        registry, versions = self.resources.registry, [(one.artifact_id, one.version) for one in page]
        names = [one.name for one in page]
        aliases = await self.resources.ask(self.tenant, registry.aliases_of, self.tenant, names)
        tags = await self.resources.ask(self.tenant, registry.tags_of, self.tenant, versions)
        given = tuple(alias for name in names for alias in aliases.get(name, ()))
        shown = await readable_aliases(self.resources, self.tenant, who, given)
        return [
            r.Summary(one, tuple(alias for alias in shown if alias.name == one.name), tags.get(version, {}))
            for one, version in zip(page, versions, strict=True)
        ]

    async def find_by_provenance(self, question: r.FindByProvenance) -> ArtifactRecord | Refused:
        """Find a ready result by its provenance; one that the caller may not read is answered as none."""
        find = self.resources.metadata.find_ready
        found = await self.resources.ask(self.tenant, find, self.tenant, question.provenance_hash)
        target = (self.resources.new_id(), 1) if found is None else (found.artifact_id, found.version)
        record = await self.reader.readable(question.principal, *target)
        return ARTIFACT_NOT_FOUND if record is None else record

    async def _refused(self, who: Principal, artifact_id: str, version: int) -> Refused | None:
        """Return why a caller may not write on a result, or None."""
        if await self.reader.readable(who, artifact_id, version) is None:
            return ARTIFACT_NOT_FOUND
        authorizer = self.resources.authorizer
        denied = authorizer.denies(who, artifact_resource(artifact_id), "write")
        return authorizer.forbidden("write") if denied else None

    async def _shows(self, visible: Visibility, who: Principal, event: Event) -> bool:
        if self.resources.all_readable:
            return True
        name = event.record.act.name
        if event.target is None or (name is not None and not self._shown(who, (name,))):
            return False
        return await visible.shows(event.target)

    def _shown(self, who: Principal, names: Sequence[str]) -> tuple[str, ...]:
        """Return the names that a caller may read."""
        denies = self.resources.authorizer.denies
        return tuple(name for name in names if not denies(who, artifact_resource(name), "read"))

    def _visible(self, who: Principal) -> Visibility:
        return Visibility(self.resources, self.tenant, who)


NAMING: Mapping[type, Callable[[Naming, Any], Awaitable[object]]] = {
    r.SetName: Naming.set_name,
    r.DropName: Naming.drop_name,
    r.SetAlias: Naming.set_alias,
    r.DropAlias: Naming.drop_alias,
    r.GetAlias: Naming.get_alias,
    r.ListAliases: Naming.list_aliases,
    r.ListPending: Naming.pending,
    r.DecidePending: Naming.decide,
}
"""What answers each question on names and aliases."""

REGISTRY: Mapping[type, Callable[[RegistryReader, Any], Awaitable[object]]] = {
    r.SetTag: RegistryReader.set_tag,
    r.GetTags: RegistryReader.get_tags,
    r.SetPin: RegistryReader.set_pin,
    r.FindTagged: RegistryReader.find_tagged,
    r.ListEvents: RegistryReader.list_events,
    r.Summarize: RegistryReader.summarize,
    r.FindByProvenance: RegistryReader.find_by_provenance,
}
"""What answers each other question on the registry."""
