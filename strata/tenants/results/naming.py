"""Names and aliases of results that callers set and drop, within their rights and in the audit."""

from __future__ import annotations

import attrs

from strata.artifacts import NameOrder, NameRecord
from strata.artifacts.metadata import naming
from strata.artifacts.registry.contract import AliasRecord, PendingChange
from strata.auth import Principal
from strata.outcomes import Reason, Refused
from strata.tenants.limits.model import TenantLimits
from strata.tenants.registry.orders import OPERATOR, act_of, order_of
from strata.tenants.registry_messages import (
    AliasChanged,
    DecidePending,
    DropAlias,
    DropName,
    GetAlias,
    ListAliases,
    ListPending,
    NameDropped,
    SetAlias,
    SetName,
)
from strata.tenants.results.listing import Visibility
from strata.tenants.results.read import ARTIFACT_NOT_FOUND, NAME_NOT_FOUND, Reader
from strata.tenants.shared.authorizer import artifact_resource
from strata.tenants.shared.resources import Resources

ALIAS_NOT_FOUND = Refused(Reason.NOT_FOUND, "Alias not found")

NOTHING_PENDING = Refused(Reason.NOT_FOUND, "No pending change of this alias")


@attrs.frozen(eq=False)
class Naming:
    """Sets, drops and resolves names and aliases of one tenant's results."""

    tenant: str
    resources: Resources
    limits: TenantLimits
    reader: Reader

    async def set_name(self, question: SetName) -> NameRecord | Refused:
        """Point a name at a ready result that the caller may read, unless a rule denies writing the name."""
        who, target = question.principal, (question.artifact_id, question.version)
        authorizer = self.resources.authorizer
        if authorizer.denies(who, artifact_resource(question.name), "write"):
            return authorizer.forbidden("write")  # of a name that exists and of one that does not
        if await self.reader.readable(who, *target) is None:
            return ARTIFACT_NOT_FOUND
        set_name, order = self.resources.registry.set_name, self._order(question, naming.SET_NAME)
        found = await self.resources.write(self.tenant, set_name, self.tenant, order, target)
        return ARTIFACT_NOT_FOUND if found is None else found

    async def drop_name(self, question: DropName) -> NameDropped | Refused:
        """Remove a name of a result that the caller may read; the result stays, and may go from now on."""
        who, authorizer = question.principal, self.resources.authorizer
        if await self.reader.named(who, question.name) is None:
            return NAME_NOT_FOUND
        if authorizer.denies(who, artifact_resource(question.name), "delete"):
            return authorizer.forbidden("delete")
        drop, order = self.resources.registry.drop_name, self._order(question, naming.DROP_NAME)
        found = await self.resources.write(self.tenant, drop, self.tenant, order)
        if isinstance(found, Refused):
            return found
        return NAME_NOT_FOUND if found is None else NameDropped(found)

    async def set_alias(self, question: SetAlias) -> AliasChanged | Refused:
        """Point an alias at a ready result that the caller may read; of a protected alias, ask for it."""
        who, target = question.principal, (question.artifact_id, question.version)
        authorizer, registry = self.resources.authorizer, self.resources.registry
        if authorizer.denies(who, artifact_resource(question.name), "write"):
            return authorizer.forbidden("write")
        if await self.reader.readable(who, *target) is None:
            return ARTIFACT_NOT_FOUND
        protected = question.alias in self.limits.protected_aliases
        order = self._order(question, naming.REQUEST_SET if protected else naming.SET_ALIAS)
        change = registry.request_change if protected else registry.set_alias
        found: AliasRecord | PendingChange | Refused | None = await self.resources.write(
            self.tenant, change, self.tenant, order, question.alias, target
        )
        if isinstance(found, Refused):
            return found
        return ARTIFACT_NOT_FOUND if found is None else AliasChanged(found)

    async def drop_alias(self, question: DropAlias) -> AliasChanged | Refused:
        """Remove an alias of a result that the caller may read; of a protected alias, ask for it."""
        who, authorizer, registry = question.principal, self.resources.authorizer, self.resources.registry
        if await self.reader.aliased(who, question.name, question.alias) is None:
            return ALIAS_NOT_FOUND
        if authorizer.denies(who, artifact_resource(question.name), "delete"):
            return authorizer.forbidden("delete")
        found: AliasRecord | PendingChange | Refused | None
        if question.alias in self.limits.protected_aliases:
            order = self._order(question, naming.REQUEST_DROP)
            ask = registry.request_change
            found = await self.resources.write(self.tenant, ask, self.tenant, order, question.alias, None)
        else:
            order = self._order(question, naming.DROP_ALIAS)
            drop = registry.drop_alias
            found = await self.resources.write(self.tenant, drop, self.tenant, order, question.alias)
        if isinstance(found, Refused):
            return found
        return ALIAS_NOT_FOUND if found is None else AliasChanged(found)

    async def get_alias(self, question: GetAlias) -> AliasRecord | Refused:
        """Resolve an alias of a result that the caller may read."""
        found = await self.reader.aliased(question.principal, question.name, question.alias)
        return ALIAS_NOT_FOUND if found is None else found[0]

    async def list_aliases(self, question: ListAliases) -> tuple[AliasRecord, ...]:
        """List the aliases of a name whose results the caller may read."""
        who, registry = question.principal, self.resources.registry
        if self.resources.authorizer.denies(who, artifact_resource(question.name), "read"):
            return ()
        found = await self.resources.ask(self.tenant, registry.aliases_of, self.tenant, [question.name])
        return await readable_aliases(self.resources, self.tenant, who, found.get(question.name, ()))

    async def pending(self, question: ListPending) -> tuple[PendingChange, ...]:
        """List pending changes whose results the caller may read."""
        who, found, after = question.principal, list[PendingChange](), question.after
        visible, authorizer = Visibility(self.resources, self.tenant, who), self.resources.authorizer
        listing = self.resources.registry.list_pending
        while len(found) < question.limit:
            part = await self.resources.ask(
                self.tenant, listing, self.tenant, after=after, limit=question.limit
            )
            for change, target in part:
                denied = authorizer.denies(who, artifact_resource(change.name), "read")
                if target is not None and not denied and await visible.shows(target):
                    found.append(change)
            if len(part) < question.limit:
                break
            after = (part[-1][0].name, part[-1][0].alias)
        return tuple(found[: question.limit])

    async def decide(self, question: DecidePending) -> PendingChange | Refused:
        """Approve or reject a pending change of a result that the caller may read."""
        who, registry = question.principal, self.resources.registry
        named = (self.tenant, question.name, question.alias)
        known = await self.resources.ask(self.tenant, registry.get_pending, *named)
        denied = self.resources.authorizer.denies(who, artifact_resource(question.name), "read")
        target = (self.resources.new_id(), 1) if known is None else (known.artifact_id, known.version)
        if await self.reader.readable(who, *target, hidden=denied) is None:
            return NOTHING_PENDING
        if not question.approve:
            act = act_of(who, naming.REJECT, question.request_id)
            rejected = await self.resources.write(self.tenant, registry.reject, *named, act)
            return rejected or NOTHING_PENDING
        act, own = act_of(who, naming.APPROVE, question.request_id), who.has_scope(OPERATOR)
        approved = await self.resources.write(
            self.tenant,
            registry.approve,
            *named,
            act,
            own=own or who.unrestricted,
            expected=question.expected or target,
        )
        return NOTHING_PENDING if approved is None else approved

    def _order(self, question: SetName | DropName | SetAlias | DropAlias, action: str) -> NameOrder:
        act = act_of(question.principal, action, question.request_id)
        return order_of(self.resources, self.limits, question.name, act, question.principal)


async def readable_aliases(
    resources: Resources, tenant: str, who: Principal, found: tuple[AliasRecord, ...]
) -> tuple[AliasRecord, ...]:
    """Return the aliases among those given whose results a caller may read; at most 1,000 are given."""
    if resources.all_readable or not found:
        return found
    visible, get = Visibility(resources, tenant, who), resources.metadata.get_artifacts
    targets = list(dict.fromkeys((one.artifact_id, one.version) for one in found))
    records = await resources.ask(tenant, get, tenant, targets)
    seen = {(one.artifact_id, one.version) for one in records if await visible.shows(one)}
    return tuple(one for one in found if (one.artifact_id, one.version) in seen)
