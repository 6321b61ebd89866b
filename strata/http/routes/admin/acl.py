"""The access rules, for those who administer them: they are everybody's, so the scope is the operator's."""

from http import HTTPStatus

import msgspec
from quart import Blueprint, Response
from quart_schema import document_request, document_response, tag

from strata import acl
from strata.config.rules_file import NoRulesFile, RulesRefused, RulesTaken
from strata.http.api.administration import note_or_refuse
from strata.http.api.openapi import refuses
from strata.http.api.responses import json
from strata.http.api.schemas import AccessAnswer, AccessBody, RulesAnswer, parse_body
from strata.http.door.context import ask, principal, require_admin
from strata.http.problems import Problem, ProblemError
from strata.tenants.messages import AccessExplained, ExplainAccess, ReloadRules

blueprint = Blueprint("access", __name__)

WHAT = "acl"
MOST_CONSIDERED = 1000
"""Rules of which an answer says why they did or did not match."""

NO_RULES = AccessAnswer(
    allowed=True,
    reason="no access rules are configured",
    partial=False,
    rules=0,
    considered=[],
    otherwise=None,
)


@blueprint.post("/v1/admin/acl/explain")
@tag(["operations"])
@document_request(AccessBody)
@document_response(AccessAnswer)
@refuses(403, 422)
async def explain() -> Response:
    """Say why a request of anybody is decided as it is, and what would change that; needs ``admin:acl``."""
    require_admin(WHAT)
    body = await parse_body(AccessBody)
    request = acl.Request(body.principal, body.tenant, frozenset(body.scopes), body.resource, body.action)
    found = (await ask(ExplainAccess(principal(), request), AccessExplained)).explanation
    if found is None:
        return json(NO_RULES)
    return json(msgspec.convert(found.document(MOST_CONSIDERED), AccessAnswer))


@blueprint.post("/v1/admin/acl/reload")
@tag(["operations"])
@document_response(RulesAnswer)
@refuses(403, 409)
async def reload() -> Response:
    """Read the file of access rules again, whole or not at all; needs ``admin:acl``."""
    require_admin(WHAT)
    await note_or_refuse("acl.reload", None)
    found = await ask(ReloadRules(principal()), object)
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
