"""Values of the access rules: policies, requests and decisions.

All values are immutable and validated on creation, so every existing :class:`Rule` can match: a pattern that
could never match, or that can be read in two ways, is refused rather than ignored.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

import attrs

from .patterns import ResourcePattern, fold_domain, principal_problem, scope_problem, tenant_problem
from .rows import Condition, parse_rows

Effect: TypeAlias = Literal["allow", "deny"]
Action: TypeAlias = Literal["read", "write", "delete", "run", "admin"]

#: The actions a rule can be limited to: ``read`` rows or metadata, ``write`` and ``delete`` artifacts and
#: names, ``run`` transforms and notebooks, ``admin`` for everything under ``admin/``.
ACTIONS: tuple[Action, ...] = get_args(Action)


NO_RESTRICTED_DENY = (
    "a deny rule denies whole tables; to hide columns or rows, list what may be read in the `columns` or "
    "`rows` of allow rules"
)
NO_RESTRICTED_DEFAULT = (
    '`columns` and `rows` have no effect with `default = "allow"`, which permits reading everything; write '
    '`default = "deny"` and allow rules'
)


@attrs.frozen
class Rule:
    """One rule of a policy; the list that contains it decides whether it allows or denies.

    Attributes:
        principal: An exact id, ``*@domain``, or ``*`` for every caller; a mail domain is kept in lower case.
        resource: A pattern over whole resources, such as ``tables/main/sales/*`` (see
            :class:`~strata.acl.patterns.ResourcePattern`). The short form of a table in a configuration file
            (``tables/<namespace>/<table>``) is expanded by :func:`~strata.acl.parse_policy` and is no pattern
            here.
        tenant: The exact tenant the rule is limited to; ``None``: every tenant.
        scope: The scope a caller must hold for the rule to apply; ``None``: every caller.
        action: The action the rule is limited to; ``None``: every action.
        columns: Names of the columns an allow rule is limited to; ``None``: all. A rule with ``columns`` or
            ``rows`` is about reading tables; its action becomes ``read``.
        rows: The rows an allow rule is limited to, in the syntax of :func:`~strata.acl.rows.parse_rows`;
            ``None``: all.
        pattern: ``resource``, compiled.
        conditions: ``rows``, parsed.

    Raises:
        ValueError: If a pattern or name is malformed, or ``columns`` or ``rows`` do not fit the resource or
            action.
    """

    principal: str = attrs.field(converter=fold_domain)
    resource: str
    tenant: str | None = None
    scope: str | None = None
    action: Action | None = None
    columns: tuple[str, ...] | None = None
    rows: str | None = None
    pattern: ResourcePattern = attrs.field(init=False, eq=False, repr=False)
    conditions: tuple[Condition, ...] = attrs.field(init=False, eq=False, repr=False, default=())

    @property
    def restricted(self) -> bool:
        """Whether the rule is limited to some columns or rows."""
        return self.columns is not None or self.rows is not None

    def __attrs_post_init__(self) -> None:
        """Validate the rule, and compile its pattern and rows."""
        problem = (
            principal_problem(self.principal)
            or (None if self.tenant is None else tenant_problem(self.tenant))
            or (None if self.scope is None else scope_problem(self.scope))
        )
        if problem is None and self.action is not None and self.action not in ACTIONS:
            problem = f"unknown action {self.action!r}"
        if problem is not None:
            raise ValueError(problem)
        object.__setattr__(self, "pattern", ResourcePattern.parse(self.resource))
        if self.restricted:
            self._check_restrictions()

    def _check_restrictions(self) -> None:
        if self.pattern.segments[0] != ("tables",):
            raise ValueError("`columns` and `rows` need a resource that begins with tables/")
        if self.action not in (None, "read"):
            raise ValueError(f"`columns` and `rows` limit reading; the action {self.action!r} must be `read`")
        object.__setattr__(self, "action", "read")
        if self.columns is not None:
            problem = columns_problem(self.columns)
            if problem is not None:
                raise ValueError(problem)
        if self.rows is not None:
            object.__setattr__(self, "conditions", parse_rows(self.rows))


def columns_problem(columns: tuple[str, ...]) -> str | None:
    """Return what is wrong with the columns of a rule, or ``None``."""
    if not columns:
        return "`columns` names no column; leave the rule out"
    if not all(isinstance(name, str) and name for name in columns):
        return "`columns` must be a list of names"
    if len(set(columns)) < len(columns):
        return "`columns` names a column twice"
    return None


@attrs.frozen
class Grant:
    """The cells of a table that one rule lets a caller read.

    Attributes:
        columns: Names of columns; ``None``: all.
        conditions: AND-ed conditions on the rows; none: all rows.
    """

    columns: frozenset[str] | None
    conditions: tuple[Condition, ...]


@attrs.frozen
class Policy:
    """Deny rules, allow rules and a default.

    Attributes:
        deny: A matching rule decides; no allow rule can undo it.
        allow: A matching rule permits what no deny rule denies.
        default: The decision when no rule matches.
        aliases: Further names of catalogs, each with the name that requests and rules have. Only
            :func:`~strata.acl.explain` translates them; a server's requests have no others.

    Raises:
        ValueError: If a deny rule is limited to columns or rows, or an allow rule is and the default allows.
    """

    deny: tuple[Rule, ...] = ()
    allow: tuple[Rule, ...] = ()
    default: Effect = "deny"
    aliases: tuple[tuple[str, str], ...] = attrs.field(default=(), eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Refuse restrictions that would have no effect."""
        for number, rule in enumerate(self.deny, 1):
            if rule.restricted:
                raise ValueError(f"deny rule {number}: {NO_RESTRICTED_DENY}")
        for number, rule in enumerate(self.allow, 1):
            if rule.restricted and self.default == "allow":
                raise ValueError(f"allow rule {number}: {NO_RESTRICTED_DEFAULT}")


@attrs.frozen
class Request:
    """A request to decide: the caller, the action and the resource.

    Attributes:
        principal: The caller's exact id; never a pattern, whatever characters it contains. A mail domain is
            kept in lower case.
        tenant: The caller's tenant.
        scopes: The scopes the caller holds.
        resource: The resource, as :func:`~strata.acl.patterns.resource_name` writes it.
        action: The action.
    """

    principal: str = attrs.field(converter=fold_domain)
    tenant: str
    scopes: frozenset[str]
    resource: str
    action: Action


class Reason(enum.Enum):
    """The part of a policy that decided."""

    DENY_RULE = "a deny rule matches"
    ALLOW_RULE = "an allow rule matches and no deny rule does"
    DEFAULT = "no rule matches, the default decides"
    MALFORMED_RESOURCE = "the resource is malformed, so no rule can match it"


@attrs.frozen
class Decision:
    """Decision on a :class:`Request`.

    Attributes:
        allowed: Whether the request is allowed.
        rule: The first deciding rule in the policy's order; ``None`` when no rule decided.
        reason: The part of the policy that decided.
        grants: The cells of a table the caller may read (union) when every matching allow rule is limited to
            columns or rows. ``None``: the whole resource, if allowed.
    """

    allowed: bool
    rule: Rule | None
    reason: Reason
    grants: tuple[Grant, ...] | None = None


def grants_of(rules: Iterable[Rule]) -> tuple[Grant, ...] | None:
    """Return the union of the cells that the matching allow rules grant, in an order-independent form.

    ``None`` if a rule is not limited. Compared by ``repr``: ``1``, ``1.0`` and ``true`` are equal in Python
    but not in a scan.
    """
    found: dict[str, Grant] = {}
    for rule in rules:
        if not rule.restricted:
            return None
        conditions = {repr(one): one for one in rule.conditions}
        kept = tuple(conditions[text] for text in sorted(conditions))
        columns = None if rule.columns is None else frozenset(rule.columns)
        found[repr((None if columns is None else sorted(columns), kept))] = Grant(columns, kept)
    return tuple(found[text] for text in sorted(found))
