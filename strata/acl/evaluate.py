"""Decide a request by a policy: deny rules, then allow rules, then the default.

A pure function that tests every rule: the reference for :class:`~strata.acl.CompiledPolicy`, which servers
use.
"""

from __future__ import annotations

from .model import Decision, Policy, Reason, Request, Rule, grants_of
from .patterns import holds_scope, principal_matches, split_resource


def evaluate(policy: Policy, request: Request) -> Decision:
    """Decide a request.

    The order of rules and repeated rules never change ``allowed``; they only choose which of several deciding
    rules is named. A malformed resource is denied whatever the default.
    """
    resource = split_resource(request.resource)
    if resource is None:
        return Decision(allowed=False, rule=None, reason=Reason.MALFORMED_RESOURCE)
    for rule in policy.deny:
        if rule_matches(rule, request, resource):
            return Decision(allowed=False, rule=rule, reason=Reason.DENY_RULE)
    allowing = [rule for rule in policy.allow if rule_matches(rule, request, resource)]
    if allowing:
        return Decision(allowed=True, rule=allowing[0], reason=Reason.ALLOW_RULE, grants=grants_of(allowing))
    return Decision(allowed=policy.default == "allow", rule=None, reason=Reason.DEFAULT)


def rule_matches(rule: Rule, request: Request, resource: tuple[str, ...]) -> bool:
    """Test whether a rule applies to a request: every part that the rule states must match.

    ``scope`` means the same in both lists, "the caller holds it": an allow rule does not apply to a caller
    without the scope, and a deny rule applies only to callers with it.

    Args:
        rule: The rule.
        request: The request.
        resource: The request's resource, decoded by :func:`~strata.acl.patterns.split_resource`.
    """
    return (
        principal_matches(rule.principal, request.principal)
        and (rule.tenant is None or rule.tenant == request.tenant)
        and (rule.action is None or rule.action == request.action)
        and (rule.scope is None or holds_scope(request.scopes, rule.scope))
        and rule.pattern.matches(resource)
    )
