"""Administration of the access rules, which are shared by all tenants: for operators."""

from http import HTTPStatus

import msgspec
from quart_schema import document_request, document_response, tag

from strata import acl
from strata.config.rules_file import NoRulesFile, RulesRefused, RulesTaken
from strata.http.api.administration import note
from strata.http.api.openapi import refuses
from strata.http.api.responses import json
from strata.http.api.schemas import AccessAnswer, AccessBody, RulesAnswer, decode_body
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.tenants.messages import AccessExplained, ExplainAccess, ReloadRules

ADMIN = ("admin:acl", "admin/acl")
"""The scope and the resource of the access rules that its routes need."""

MOST_CONSIDERED = 1000
"""Most rules of which an answer says why they matched or not."""

NO_RULES = AccessAnswer(
    allowed=True,
    reason="no access rules are configured",
    partial=False,
    rules=0,
    considered=[],
    otherwise=None,
)


@tag(["operations"])
@document_request(AccessBody)
@document_response(AccessAnswer)
@refuses(403, 422)
async def explain(call: Call) -> Answer:
    """Say why a principal's request is decided so, and what would change that; needs ``admin:acl``."""
    call.context.require_admin(*ADMIN)
    body = decode_body(AccessBody, call.body)
    request = acl.Request(body.principal, body.tenant, frozenset(body.scopes), body.resource, body.action)
    answer = await call.context.ask(ExplainAccess(call.context.caller, request), AccessExplained)
    found = answer.explanation
    if found is None:
        return json(NO_RULES)
    return json(msgspec.convert(found.document(MOST_CONSIDERED), AccessAnswer))


@tag(["operations"])
@document_response(RulesAnswer)
@refuses(403, 409)
async def reload(call: Call) -> Answer:
    """Read the file of access rules again, whole or not at all; needs ``admin:acl``."""
    call.context.require_admin(*ADMIN)
    await note(call.context, "acl.reload", None)
    found = await call.context.ask(ReloadRules(call.context.caller), object)
    if isinstance(found, RulesRefused):
        problems = [{"loc": ["acl_file"], "msg": problem} for problem in found.problems]
        detail = "The access rules were refused; the old ones stay."
        raise ProblemError(Problem(HTTPStatus.CONFLICT, detail, "acl_refused", problems))
    if isinstance(found, NoRulesFile):
        detail = (
            "The rules have no file of their own (acl_file); send SIGHUP to read the configuration again."
        )
        raise ProblemError(Problem(HTTPStatus.CONFLICT, detail, "no_acl_file"))
    assert isinstance(found, RulesTaken)
    policy = found.policy
    return json(
        RulesAnswer(found.changed, len(policy.deny), len(policy.allow), policy.default, list(found.warnings))
    )
