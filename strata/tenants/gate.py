"""The access rules, asked for every table a question touches, and again for every result that is read."""

from __future__ import annotations

import attrs

from strata import acl
from strata.auth import Principal
from strata.outcomes import Reason, Refused
from strata.tables import Grant, TableRef, Visible, parse_scan_params

_NOTHING = Grant(frozenset())
"""What a rule grants whose values no scan would take."""

TABLE_NOT_FOUND = Refused(Reason.NOT_FOUND, "Table not found")


_NO_RULES = acl.Decision(allowed=True, rule=None, reason=acl.Reason.DEFAULT)


def _block(grant: acl.Grant) -> Grant:
    """Return a grant in the words of a scan, its values read as a scan's are."""
    given = [
        {"column": one.column, "op": one.op}
        | (
            {}
            if one.value is None
            else {"value": list(one.value) if isinstance(one.value, tuple) else one.value}
        )
        for one in grant.conditions
    ]
    spec = parse_scan_params({"filters": given})
    if isinstance(spec, Refused):
        return _NOTHING
    return Grant(grant.columns, spec.filters)


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
        """Whether ``principal`` may do ``action`` to ``resource``, or to a part of it."""
        return self._decide(principal, resource, action).allowed

    def visible(self, principal: Principal, resource: str) -> Visible | None:
        """Return what a caller who may read a table is shown of it; None: all of it."""
        grants = self._decide(principal, resource, "read").grants
        return None if grants is None else Visible(tuple(_block(grant) for grant in grants))

    def _decide(self, principal: Principal, resource: str, action: acl.Action) -> acl.Decision:
        if self.policy is None:
            return _NO_RULES
        request = acl.Request(
            principal=principal.id,
            tenant=principal.tenant,
            scopes=principal.scopes,
            resource=resource,
            action=action,
        )
        return self._compiled(self.policy).decide(request)

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
