"""Questions on the end of results: collect those that may go, and say why one is kept."""

from __future__ import annotations

import re
from typing import Final

import attrs

from strata.artifacts import Act
from strata.artifacts.retention.contract import Hold
from strata.outcomes import Refused
from strata.tenants.limits.model import TenantLimits
from strata.tenants.results.read import ARTIFACT_NOT_FOUND, Reader
from strata.tenants.retention.collector import ACTION, collect
from strata.tenants.retention.sweeper import regular_aim
from strata.tenants.retention_messages import ArtifactsCollected, CollectArtifacts, Retained, WhyKept
from strata.tenants.shared.authorizer import CACHE_RESOURCE, artifact_resource
from strata.tenants.shared.resources import Resources

_ARTIFACT: Final = re.compile(r"strata://artifact/([^/@?#]+)@v=([1-9][0-9]{0,17})")


@attrs.frozen(eq=False)
class Retention:
    """Answers questions on the end of one tenant's results."""

    tenant: str
    resources: Resources
    limits: TenantLimits
    reader: Reader

    async def collect(self, question: CollectArtifacts) -> ArtifactsCollected | Refused:
        """Remove the results that may go by the tenant's limits, or by those of the question."""
        who = question.principal
        refused = self.resources.authorizer.check_admin(who, CACHE_RESOURCE)
        if refused is not None:
            return refused
        asked = {
            name: value
            for name in ("max_idle", "max_bytes", "min_idle")
            if (value := getattr(question, name)) is not None
        }
        aim = attrs.evolve(regular_aim(self.limits), **asked)
        act = Act(
            tenant=self.tenant,
            principal=who.id,
            principal_tenant=who.tenant,
            action=ACTION,
            request_id=question.request_id,
        )
        found = await collect(self.resources, self.tenant, aim, act, dry_run=question.dry_run)
        return ArtifactsCollected(found.results, found.nbytes, found.left.stored_bytes)

    async def why(self, question: WhyKept) -> Retained | Refused:
        """Say why a result that the caller may read is kept."""
        who, version = question.principal, (question.artifact_id, question.version)
        if await self.reader.readable(who, *version) is None:
            return ARTIFACT_NOT_FOUND
        kept = await self.resources.ask(self.tenant, self.resources.retention.kept, self.tenant, *version)
        if kept is None:
            return ARTIFACT_NOT_FOUND
        authorizer = self.resources.authorizer
        names = tuple(
            name for name in kept.names if not authorizer.denies(who, artifact_resource(name), "read")
        )
        dependents = []
        for uri in kept.dependents:
            named = _ARTIFACT.fullmatch(uri)
            if named is not None and await self.reader.readable(who, named[1], int(named[2])) is not None:
                dependents.append(uri)
        aliases = tuple(
            one for one in kept.aliases if not authorizer.denies(who, artifact_resource(one[0]), "read")
        )
        shown = len(names) + len(aliases) + len(dependents)
        hidden = shown < len(kept.names) + len(kept.aliases) + len(kept.dependents)
        used, free = kept.used_at, not kept.holds
        idle = self.limits.artifact_max_idle
        return Retained(
            used_at=used,
            names=names,
            dependents=tuple(dependents),
            building=Hold.BUILDING in kept.holds,
            in_use=self.resources.uses.in_use(self.tenant, version),
            hidden=hidden,
            may_go_at=used + self.limits.artifact_min_idle if free and used is not None else None,
            goes_at=used + max(idle, self.limits.artifact_min_idle)
            if free and idle and used is not None
            else None,
            aliases=aliases,
            pins=kept.pins,
            pending=Hold.PENDING in kept.holds,
        )
