"""Decisions by the access rules: on every table of a question, and on every result that is read."""

from __future__ import annotations

import secrets
from functools import partial

import attrs
import trio
from cachetools import LRUCache

from strata import acl
from strata.auth import Principal
from strata.decisions import decided
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
        secret: The store's secret, with which ids and versions are made that callers see; by default one that
            no other process has.
        changed: Set when the rules are replaced; then there is another one.
    """

    policy: acl.Policy | None
    hide: bool = True
    secret: bytes = attrs.field(factory=partial(secrets.token_bytes, 32), repr=False)
    changed: trio.Event = attrs.field(factory=trio.Event, init=False, repr=False)
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
        self.changed.set()
        self.changed = trio.Event()

    def _compiled(self, policy: acl.Policy) -> acl.CompiledPolicy:
        if self._ready is None or self._ready.policy is not policy:
            self._ready = acl.CompiledPolicy(policy)
        return self._ready

    def permits(self, principal: Principal, resource: str, action: acl.Action) -> bool:
        """Whether ``principal`` may do ``action`` to ``resource`` or to a part of it."""
        return self._decide(principal, resource, action).allowed

    def reaches(self, principal: Principal, resource: str, below: int) -> bool:
        """Whether ``principal`` may read anything whose resource begins as ``resource``, by the rules alone.

        Args:
            principal: The caller.
            resource: A resource.
            below: How many of its last segments stand for any name.
        """
        if self.policy is None:
            return True
        request = acl.Request(principal.id, principal.tenant, principal.scopes, resource, "read")
        return self._compiled(self.policy).reaches(request, below)

    def denies(self, principal: Principal, resource: str, action: acl.Action) -> bool:
        """Whether a deny rule matches, or the resource is malformed (too long).

        Only that is decided on a result, whose inputs give the rights.
        """
        reason = self._decide(principal, resource, action).reason
        return reason in (acl.Reason.DENY_RULE, acl.Reason.MALFORMED_RESOURCE)

    def reading(self, principal: Principal, resource: str) -> Access:
        """Return a caller's right to read a table."""
        decision = self._decide(principal, resource, "read")
        return Access(decision.allowed, None if decision.grants is None else self._view(decision.grants))

    def decision(self, principal: Principal, table: TableRef) -> tuple[str, acl.Decision]:
        """Return the resource of a table, and the decision on reading it with the rule that made it."""
        resource = table_resource(table)
        return resource, self._decide(principal, resource, "read")

    def _view(self, grants: tuple[acl.Grant, ...]) -> CellGrants:
        written = repr(grants)  # in which 1 and true differ, unlike in a comparison
        found = self._views.get(written)
        if found is None:
            found = self._views[written] = CellGrants(tuple(_block(grant) for grant in grants), self.secret)
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
        found = self._compiled(self.policy).decide(request)
        decided(
            "access decided",
            principal=principal.id,
            action=action,
            allowed=found.allowed,
            reason=found.reason.name.lower(),
            rule=None if found.rule is None else f"{found.rule.principal} {found.rule.resource}",
        )
        return found

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
