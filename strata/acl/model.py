"""The values of the ACL: what a policy says, what is asked of it, and what it answered.

Every value is immutable and checked when it is made, so a :class:`Rule` that exists can be matched: a pattern
that could never match, or that a reader may take for another one, is refused here rather than ignored later.
"""

from __future__ import annotations

import enum
from typing import Literal, TypeAlias, get_args

import attrs

from .patterns import ResourcePattern, principal_problem, scope_problem, tenant_problem

Effect: TypeAlias = Literal["allow", "deny"]
Action: TypeAlias = Literal["read", "write", "delete", "run", "admin"]

#: The actions a rule can be limited to: ``read`` rows or metadata, ``write`` and ``delete`` artifacts and
#: names, ``run`` transforms and notebooks, ``admin`` for everything under ``admin/``.
ACTIONS: tuple[Action, ...] = get_args(Action)


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

    Raises:
        ValueError: A pattern or name is not well formed.
    """

    principal: str
    resource: str
    tenant: str | None = None
    scope: str | None = None
    action: Action | None = None
    pattern: ResourcePattern = attrs.field(init=False, eq=False, repr=False)

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


@attrs.frozen
class Policy:
    """Deny rules, allow rules, and what happens when neither speaks.

    Attributes:
        deny: Any one of these that matches decides; no allow rule can undo it.
        allow: Any one of these that matches permits what no deny rule refuses.
        default: The answer when no rule matches.
    """

    deny: tuple[Rule, ...] = ()
    allow: tuple[Rule, ...] = ()
    default: Effect = "deny"


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
    """

    allowed: bool
    rule: Rule | None
    reason: Reason
