"""Decisions by the access rules: on every table of a question, and on every result that is read."""

from __future__ import annotations

from functools import partial

import attrs
from cachetools import LRUCache

from strata import acl
from strata.auth import Principal
from strata.outcomes import Reason, Refused
from strata.tables import CellGrants, Grant, TableRef, parse_scan_params

_NOTHING = Grant(frozenset())
"""The grant of a rule whose values no scan accepts: no columns."""

TABLE_NOT_FOUND = Refused(Reason.NOT_FOUND, "Table not found")


_NO_RULES = acl.Decision(allowed=True, rule=None, reason=acl.Reason.DEFAULT)


def _block(grant: acl.Grant) -> Grant:
    """Return a grant with its conditions parsed like a scan's filters."""
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
    """Return the resource of a table for the rules; ``%``, ``*`` and ``/`` in a name are escaped."""
    return acl.resource_name("tables", ref.catalog, ".".join(ref.namespace), ref.table)


def artifact_resource(name: str) -> str:
    """Return the resource of an artifact for the rules, by id or by name, whose slashes separate segments.

    Two slashes in a row are one, so that no spelling of a name evades a rule.
    """
    return acl.resource_name("artifacts", *([part for part in name.split("/") if part] or [name]))


@attrs.frozen
class Access:
    """A caller's right to read a table.

    Attributes:
        allowed: Whether the caller may read the table, or a part of it.
        visible: The readable part; None: all of it.
    """

    allowed: bool
    visible: CellGrants | None = None


CACHE_RESOURCE = "admin/cache"
"""The resource of clearing, warming and inspecting a cache."""

_MOST_VIEWS = 1024
"""Sets of grants whose translation for scans is kept; the least recently used one goes."""


@attrs.define
class Authorizer:
    """Decides by the present policy, and refuses in the form that the operator chose.

    Attributes:
        policy: The rules; None: none are configured, and everything is permitted.
        hide: Answer a denied resource as a missing one (``hide_forbidden_as_not_found``).
    """

    policy: acl.Policy | None
    hide: bool = True
    _ready: acl.CompiledPolicy | None = attrs.field(default=None, init=False)
    _views: LRUCache[str, CellGrants] = attrs.field(
        factory=partial(LRUCache, _MOST_VIEWS), init=False, repr=False
    )

    def __attrs_post_init__(self) -> None:
        """Compile the rules now: a hundred thousand take a second, too long for a request."""
        if self.policy is not None:
            self._compiled(self.policy)

    def take(self, compiled: acl.CompiledPolicy | None) -> None:
        """Replace the rules; None: everything is permitted."""
        self._ready, self.policy = compiled, None if compiled is None else compiled.policy

    def _compiled(self, policy: acl.Policy) -> acl.CompiledPolicy:
        if self._ready is None or self._ready.policy is not policy:
            self._ready = acl.CompiledPolicy(policy)
        return self._ready

    def permits(self, principal: Principal, resource: str, action: acl.Action) -> bool:
        """Whether ``principal`` may do ``action`` to ``resource`` or to a part of it."""
        return self._decide(principal, resource, action).allowed

    def denies(self, principal: Principal, resource: str, action: acl.Action) -> bool:
        """Whether a deny rule matches. Only that is decided on a result, whose inputs give the rights."""
        return self._decide(principal, resource, action).reason is acl.Reason.DENY_RULE

    def reading(self, principal: Principal, resource: str) -> Access:
        """Return a caller's right to read a table."""
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
        """Return None or a refusal (FORBIDDEN): that an administrative endpoint exists is no secret."""
        return None if self.permits(principal, resource, "admin") else self.forbidden("admin")

    @staticmethod
    def forbidden(action: acl.Action) -> Refused:
        """Return the refusal of an action by the rules."""
        return Refused(
            Reason.FORBIDDEN,
            f"The access rules do not permit {action} on this resource.",
            code="access_denied",
        )
