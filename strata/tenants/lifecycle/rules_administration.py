"""Administration of the access rules: explaining a decision, and reading the rules' file again."""

from __future__ import annotations

from functools import partial

from strata import acl
from strata.config.rules_file import NoRulesFile, RulesRefused, RulesTaken
from strata.outcomes import Reason, Refused
from strata.tenants import messages as m
from strata.tenants.shared.resources import Resources

RESOURCE = "admin/acl"

NO_CALLER = Refused(
    Reason.UNPROCESSABLE,
    "No request can have this principal, tenant, scopes and resource: one of them is malformed.",
    code="invalid_caller",
    loc=("body",),
)


async def explain_access(resources: Resources, question: m.ExplainAccess) -> m.AccessExplained | Refused:
    """Explain the decision on a request; in a thread, for it reads every rule."""
    refused = resources.authorizer.check_admin(question.principal, RESOURCE)
    if refused is not None:
        return refused
    policy = resources.authorizer.policy
    if policy is None:
        return m.AccessExplained(None)
    explain = partial(acl.explain, policy, question.request)
    try:
        return m.AccessExplained(await resources.ask(question.principal.tenant, explain))
    except ValueError:  # its text may repeat what the caller sent
        return NO_CALLER


async def reload_rules(
    resources: Resources, question: m.ReloadRules
) -> RulesTaken | RulesRefused | NoRulesFile | Refused:
    """Read the rules' own file again, whole or not at all."""
    refused = resources.authorizer.check_admin(question.principal, RESOURCE)
    if refused is not None:
        return refused
    return NoRulesFile() if resources.rules is None else await resources.rules.reload()
