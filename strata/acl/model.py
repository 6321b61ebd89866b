"""The values of the ACL: what a policy says, what is asked of it, and what it answered.

Every value is immutable and checked when it is made, so a :class:`Rule` that exists can be matched: a pattern
that could never match, or that a reader may take for another one, is refused here rather than ignored later.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Literal, TypeAlias, get_args

import attrs

from .patterns import ResourcePattern, principal_problem, scope_problem, tenant_problem
from .rows import Condition, parse_rows

Effect: TypeAlias = Literal["allow", "deny"]
Action: TypeAlias = Literal["read", "write", "delete", "run", "admin"]

#: The actions a rule can be limited to: ``read`` rows or metadata, ``write`` and ``delete`` artifacts and
#: names, ``run`` transforms and notebooks, ``admin`` for everything under ``admin/``.
ACTIONS: tuple[Action, ...] = get_args(Action)


NO_RESTRICTED_DENY = (
    "a deny rule denies whole tables; to keep columns or rows from somebody, allow the others with "
    "`columns` or `rows` and leave these out"
)
NO_RESTRICTED_DEFAULT = (
    '`columns` and `rows` restrict nothing while `default = "allow"` lets everybody read everything; write '
    '`default = "deny"` and allow rules'
)


@attrs.frozen
class Rule:
    """One line of a policy: to whom and to what it applies. The list it stands in says whether it allows.

    Attributes:
        principal: An exact id, ``*@domain``, or ``*`` for everybody.
        resource: A pattern over whole resources, such as ``tables/main/sales/*`` (see
            :class:`~strata.acl.patterns.ResourcePattern`). The two-segment short form of a configuration file
            is written out by :func:`~strata.acl.parse_policy` and is no pattern here.
        tenant: The exact tenant the rule is limited to; ``None``: every tenant.
        scope: The scope a caller must hold for the rule to apply; ``None``: every caller.
        action: The action the rule is limited to; ``None``: every action.
        columns: Names of the columns an allow rule is limited to; ``None``: all. A rule with ``columns`` or
            ``rows`` is about reading tables, so its action is ``read``.
        rows: The rows an allow rule is limited to, as :func:`~strata.acl.rows.parse_rows` reads them;
            ``None``: all.
        conditions: The same, read.

    Raises:
        ValueError: A pattern or name is not well formed.
    """

    principal: str
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
        """Whether it is limited to some columns or rows."""
        return self.columns is not None or self.rows is not None

    def __attrs_post_init__(self) -> None:
        """Compile the resource pattern once and refuse what cannot be matched."""
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
            raise ValueError("`columns` and `rows` are of tables; write a resource that begins with tables/")
        if self.action not in (None, "read"):
            raise ValueError(f"`columns` and `rows` limit reading, not {self.action!r}")
        object.__setattr__(self, "action", "read")
        if self.columns is not None:
            problem = columns_problem(self.columns)
            if problem is not None:
                raise ValueError(problem)
        if self.rows is not None:
            object.__setattr__(self, "conditions", parse_rows(self.rows))


def columns_problem(columns: tuple[str, ...]) -> str | None:
    """Return why these are no columns of a rule."""
    if not columns:
        return "`columns` names no column; leave the rule out"
    if not all(isinstance(name, str) and name for name in columns):
        return "`columns` must be a list of names"
    if len(set(columns)) < len(columns):
        return "`columns` names a column twice"
    return None


@attrs.frozen
class Grant:
    """What one rule lets a caller see of a table.

    Attributes:
        columns: Names of columns; ``None``: all.
        conditions: What holds for every row; none: all rows.
    """

    columns: frozenset[str] | None
    conditions: tuple[Condition, ...]


@attrs.frozen
class Policy:
    """Deny rules, allow rules, and what happens when neither speaks.

    Attributes:
        deny: Any one of these that matches decides; no allow rule can undo it.
        allow: Any one of these that matches permits what no deny rule refuses.
        default: The answer when no rule matches.

    Raises:
        ValueError: A deny rule is limited to columns or rows, or an allow rule is while the default allows.
    """

    deny: tuple[Rule, ...] = ()
    allow: tuple[Rule, ...] = ()
    default: Effect = "deny"

    def __attrs_post_init__(self) -> None:
        """Refuse restrictions where they would not do what they look like."""
        for number, rule in enumerate(self.deny, 1):
            if rule.restricted:
                raise ValueError(f"deny rule {number}: {NO_RESTRICTED_DENY}")
        for number, rule in enumerate(self.allow, 1):
            if rule.restricted and self.default == "allow":
                raise ValueError(f"allow rule {number}: {NO_RESTRICTED_DEFAULT}")


@attrs.frozen
class Request:
    """One question: may this caller do this to that?

    Attributes:
        principal: The caller's exact id. Never read as a pattern, whatever characters it holds.
        tenant: The caller's tenant.
        scopes: The scopes the caller holds.
        resource: The resource, written by :func:`~strata.acl.patterns.resource_name`.
        action: What is to be done to it.
    """

    principal: str
    tenant: str
    scopes: frozenset[str]
    resource: str
    action: Action


class Reason(enum.Enum):
    """Which part of a policy decided."""

    DENY_RULE = "a deny rule matches"
    ALLOW_RULE = "an allow rule matches and no deny rule does"
    DEFAULT = "no rule matches, the default decides"
    MALFORMED_RESOURCE = "the resource is not well formed, so no rule can speak about it"


@attrs.frozen
class Decision:
    """The answer to a :class:`Request`.

    Attributes:
        allowed: Whether the request may go on.
        rule: The first rule, in the policy's order, that decided; ``None`` when no rule did.
        reason: Which part of the policy decided.
        grants: What the caller may see of a table, when every rule that allows it is limited to columns or
            rows: a cell is seen that one of them grants. ``None``: all of it, if it is allowed.
    """

    allowed: bool
    rule: Rule | None
    reason: Reason
    grants: tuple[Grant, ...] | None = None


def grants_of(rules: Iterable[Rule]) -> tuple[Grant, ...] | None:
    """Unite what the matching allow rules let a caller see; the same whatever their order.

    Told apart by what is written: ``1``, ``1.0`` and ``true`` are equal in Python and not to a scan.
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
