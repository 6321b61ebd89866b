"""Removal of a result by a caller: within its rights, and never of what something holds."""

from __future__ import annotations

import attrs

from strata.artifacts.metadata.naming import REMOVE
from strata.artifacts.retention.contract import Removed
from strata.outcomes import Reason, Refused
from strata.tenants.registry.orders import act_of
from strata.tenants.results.read import ARTIFACT_NOT_FOUND, Reader
from strata.tenants.retention.removed_bytes import remove_bytes
from strata.tenants.retention_messages import ArtifactRemoved, RemoveArtifact
from strata.tenants.shared.authorizer import artifact_resource
from strata.tenants.shared.resources import Resources

HELD = Refused(
    Reason.CONFLICT,
    "The result is kept: it is being built, a name, an alias or a pin points at it, or another result was "
    "made of it. Remove what holds it first.",
    code="artifact_held",
)


@attrs.frozen(eq=False)
class Remover:
    """Removes results of one tenant."""

    tenant: str
    resources: Resources
    reader: Reader

    async def remove(self, question: RemoveArtifact) -> ArtifactRemoved | Refused:
        """Remove a version that the caller may read and delete; its bytes go after its row."""
        who, artifact_id, version = question.principal, question.artifact_id, question.version
        if await self.reader.readable(who, artifact_id, version) is None:
            return ARTIFACT_NOT_FOUND
        authorizer = self.resources.authorizer
        if authorizer.denies(who, artifact_resource(artifact_id), "delete"):
            return authorizer.forbidden("delete")
        act = attrs.evolve(act_of(who, REMOVE, question.request_id), artifact_id=artifact_id)
        retention = self.resources.retention
        found = await self.resources.write(
            self.tenant, retention.remove, self.tenant, artifact_id, version, act
        )
        if found is None:
            return ARTIFACT_NOT_FOUND
        if not isinstance(found, Removed):
            return HELD
        self.resources.forget_version(self.tenant, artifact_id, version)
        await remove_bytes(self.resources, [found])
        return ArtifactRemoved(artifact_id, version, found.byte_size)
