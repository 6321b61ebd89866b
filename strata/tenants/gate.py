"""The access rules, asked for every table a question touches, and again for every result that is read."""

from __future__ import annotations

import attrs

from strata import acl
from strata.auth import Principal
from strata.outcomes import Reason, Refused
from strata.tables import TableRef

TABLE_NOT_FOUND = Refused(Reason.NOT_FOUND, "Table not found")


def table_resource(ref: TableRef) -> str:
    """Return what the rules see of a table; a name that holds ``%``, ``*`` or ``/`` is escaped."""
    return acl.resource_name("tables", ref.catalog, ".".join(ref.namespace), ref.table)


@attrs.define
class Gate:
    """Decides by the policy of this moment, and says no in the words the operator chose.

    Attributes:
        policy: The rules; None when none are configured, which permits everything.
        hide: Answer a denied resource as a missing one (``hide_forbidden_as_not_found``).
    """

    policy: acl.Policy | None
    hide: bool = True
    _ready: acl.CompiledPolicy | None = attrs.field(default=None, init=False)

    def _compiled(self, policy: acl.Policy) -> acl.CompiledPolicy:
        if self._ready is None or self._ready.policy is not policy:
            self._ready = acl.CompiledPolicy(policy)
        return self._ready

    def permits(self, principal: Principal, resource: str, action: acl.Action) -> bool:
        """Whether ``principal`` may do ``action`` to ``resource``."""
        if self.policy is None:
            return True
        request = acl.Request(
            principal=principal.id,
            tenant=principal.tenant,
            scopes=principal.scopes,
            resource=resource,
            action=action,
        )
        return self._compiled(self.policy).decide(request).allowed

    def check(
        self, principal: Principal, resource: str, action: acl.Action, missing: Refused = TABLE_NOT_FOUND
    ) -> Refused | None:
        """Return None, or the refusal: that of a missing resource, to the letter, or a 403."""
        if self.permits(principal, resource, action):
            return None
        return missing if self.hide else self.forbidden(action)

    def check_admin(self, principal: Principal, resource: str) -> Refused | None:
        """Return None, or a 403: that an administrative endpoint exists is no secret."""
        return None if self.permits(principal, resource, "admin") else self.forbidden("admin")

    @staticmethod
    def forbidden(action: acl.Action) -> Refused:
        """Return the refusal that says so."""
        return Refused(
            Reason.FORBIDDEN,
            f"The access rules do not permit {action} on this resource.",
            code="access_denied",
        )
