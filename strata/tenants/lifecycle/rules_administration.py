"""Administration of the access rules: explaining a decision, and reading the rules' file again."""

from __future__ import annotations

from functools import partial

from strata import acl
from strata.config.rules_file import NoRulesFile, RulesRefused, RulesTaken
from strata.outcomes import Refused
from strata.tenants import messages as m
from strata.tenants.shared.resources import Resources

RESOURCE = "admin/acl"


async def explain_access(resources: Resources, question: m.ExplainAccess) -> m.AccessExplained | Refused:
    """Explain the decision on a request; in a thread, for it reads every rule."""
    refused = resources.authorizer.check_admin(question.principal, RESOURCE)
    if refused is not None:
        return refused
    policy = resources.authorizer.policy
    if policy is None:
        return m.AccessExplained(None)
    return m.AccessExplained(await resources.ask(partial(acl.explain, policy, question.request)))


async def reload_rules(
    resources: Resources, question: m.ReloadRules
) -> RulesTaken | RulesRefused | NoRulesFile | Refused:
    """Read the rules' own file again, whole or not at all."""
    refused = resources.authorizer.check_admin(question.principal, RESOURCE)
    if refused is not None:
        return refused
    return NoRulesFile() if resources.rules is None else await resources.rules.reload()
