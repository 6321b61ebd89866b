"""The access rules, asked for every table a question touches, and again for every result that is read."""

from __future__ import annotations

from functools import partial

import attrs
from cachetools import LRUCache

from strata import acl
from strata.auth import Principal
from strata.outcomes import Reason, Refused
from strata.tables import CellGrants, Grant, TableRef, parse_scan_params

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


def artifact_resource(name: str) -> str:
    """Return what the rules see of an artifact, by its id or by a name; slashes part a name into segments.

    Two slashes in a row are one: a name that is written otherwise must not pass by a rule.
    """
    return acl.resource_name("artifacts", *([part for part in name.split("/") if part] or [name]))


@attrs.frozen
class Access:
    """What the rules say of a table and a caller.

    Attributes:
        allowed: Whether the caller may read it, or a part of it.
        visible: What is shown of it; None: all of it.
    """

    allowed: bool
    visible: CellGrants | None = None


CACHE_RESOURCE = "admin/cache"
"""The resource of clearing, warming and inspecting a cache."""

_MOST_VIEWS = 1024
"""Sets of grants whose translation for scans is kept; the least recently used one goes."""


@attrs.define
class Authorizer:
    """Decides by the policy of this moment, and says no in the words the operator chose.

    Attributes:
        policy: The rules; None when none are configured, which permits everything.
        hide: Answer a denied resource as a missing one (``hide_forbidden_as_not_found``).
    """

    policy: acl.Policy | None
    hide: bool = True
    _ready: acl.CompiledPolicy | None = attrs.field(default=None, init=False)
    _views: LRUCache[str, CellGrants] = attrs.field(
        factory=partial(LRUCache, _MOST_VIEWS), init=False, repr=False
    )

    def __attrs_post_init__(self) -> None:
        """Compile the rules now: a hundred thousand take a second, which no request should have to wait."""
        if self.policy is not None:
            self._compiled(self.policy)

    def take(self, compiled: acl.CompiledPolicy | None) -> None:
        """Decide by these rules from now on; None: everything is permitted."""
        self._ready, self.policy = compiled, None if compiled is None else compiled.policy

    def _compiled(self, policy: acl.Policy) -> acl.CompiledPolicy:
        if self._ready is None or self._ready.policy is not policy:
            self._ready = acl.CompiledPolicy(policy)
        return self._ready

    def permits(self, principal: Principal, resource: str, action: acl.Action) -> bool:
        """Whether ``principal`` may do ``action`` to ``resource``, or to a part of it."""
        return self._decide(principal, resource, action).allowed

    def denies(self, principal: Principal, resource: str, action: acl.Action) -> bool:
        """Whether a deny rule matches; asked of what has its rights from its inputs."""
        return self._decide(principal, resource, action).reason is acl.Reason.DENY_RULE

    def reading(self, principal: Principal, resource: str) -> Access:
        """Say whether a caller may read a table, and which part of it."""
        decision = self._decide(principal, resource, "read")
        return Access(decision.allowed, None if decision.grants is None else self._view(decision.grants))

    def _view(self, grants: tuple[acl.Grant, ...]) -> CellGrants:
        written = repr(grants)  # in which 1 and true differ, unlike in a comparison
        found = self._views.get(written)
        if found is None:
            found = self._views[written] = CellGrants(tuple(_block(grant) for grant in grants))
        return found

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
