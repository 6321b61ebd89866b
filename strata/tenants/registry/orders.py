"""Orders to change the registry: who acts, for the audit, and whether names of others may be moved."""

from __future__ import annotations

from typing import Final

from strata.artifacts import Act, NameOrder
from strata.auth import Principal
from strata.tenants.limits.model import TenantLimits
from strata.tenants.shared.authorizer import artifact_resource
from strata.tenants.shared.resources import Resources

OPERATOR: Final = "admin:*"
"""Scope with which names of others may be moved, and own changes approved."""


def act_of(principal: Principal, action: str, request_id: str) -> Act:
    """Return what the audit says of an action of a principal on its own tenant."""
    return Act(
        tenant=principal.tenant,
        principal=principal.id,
        principal_tenant=principal.tenant,
        action=action,
        request_id=request_id,
    )


def order_of(resources: Resources, limits: TenantLimits, name: str, act: Act, who: Principal) -> NameOrder:
    """Return an order to change a name.

    A name of another principal may be changed in personal mode, by an operator, where the tenant shares names
    (``artifact_names_shared``), and by whom a rule allows to write the name.
    """
    authorizer = resources.authorizer
    ruled = authorizer.policy is not None and authorizer.permits(who, artifact_resource(name), "write")
    others = who.unrestricted or who.has_scope(OPERATOR) or limits.names_shared or ruled
    return NameOrder(name=name, act=act, others=others)
