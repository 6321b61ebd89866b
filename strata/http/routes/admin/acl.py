"""Administration of the access rules, which are shared by all tenants: for operators."""

import re
import time
from functools import partial
from http import HTTPStatus

import msgspec
from quart_schema import document_request, document_response, tag

from strata import acl
from strata.auth import Principal
from strata.config.rules_file import NoRulesFile, RulesRefused, RulesTaken, parse_rules
from strata.http.api import administration as admin
from strata.http.api.administration import note
from strata.http.api.openapi import refuses
from strata.http.api.responses import json
from strata.http.api.schemas import AccessAnswer, AccessBody, RulesAnswer, decode_body
from strata.http.api.schemas_admin import (
    DraftAnswer,
    DraftBody,
    RuleChangeAnswer,
    SeenTableAnswer,
    SeesAnswer,
    SeesBody,
)
from strata.http.door.routing import Answer, Call
from strata.http.problems import Problem, ProblemError
from strata.http.routes.tables.listing import place_token, token_place
from strata.tables import table_uri
from strata.tenants.auditing.access_audit import rule_words
from strata.tenants.discovery_messages import ListTables, TableList
from strata.tenants.lifecycle.rules_administration import NO_CALLER
from strata.tenants.messages import AccessExplained, ExplainAccess, ReloadRules

ADMIN = ("admin:acl", "admin/acl")
"""The scope and the resource of the access rules that its routes need."""

MOST_CONSIDERED = 1000
"""Most rules of which an answer says why they matched or not."""

MOST_CHANGES = 500
"""Most changes of a draft that an answer lists."""

DRAFT_SECONDS = 5.0
"""Seconds for which changes of a draft are looked for; then the answer is not complete."""

MOST_DOTS = 32
"""Most dots in a line of a draft, outside of its texts: reading a name costs the square of its parts."""

MOST_SEGMENTS = 64
"""Most segments of a resource in a draft: comparing two rules costs the product of theirs."""

_TEXT = re.compile(r""" "(?:[^"\\\n]|\\.)*" | '[^'\n]*' """, re.VERBOSE)

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
    decode = partial(decode_body, AccessBody, call.body)
    body = decode() if call.small else await call.context.compute(decode)
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


@tag(["operations"])
@document_request(SeesBody)
@document_response(SeesAnswer)
@refuses(403, 404, 422, 504)
async def sees(call: Call) -> Answer:
    """List the tables that a principal may read, each with its rule; needs ``admin:acl``.

    Without ``admin:*`` it may be a principal of the caller's own tenant, and only tables are listed that the
    caller may read, too. A catalog that takes a caller's identity gets that of this route's caller, never the
    principal's: what it keeps from the principal is not known.
    """
    found = call.context
    found.require_admin(*ADMIN)
    decode = partial(decode_body, SeesBody, call.body)
    body = decode() if call.small else await found.compute(decode)
    tenant = body.tenant or found.caller.tenant
    admin.require_reach(found, tenant)
    if acl.caller_problem(body.principal, tenant, body.scopes) is not None:
        raise ProblemError(Problem.of(NO_CALLER))
    who = Principal(body.principal, tenant, frozenset(body.scopes))
    question = ListTables(
        who,
        body.limit,
        body.catalog,
        words=body.q,
        behind=None if body.page_token is None else token_place(body.page_token),
        beside=None if admin.is_operator(found) else found.caller,
        asker=found.caller,
    )
    listed = await found.ask(question, TableList)
    authorizer, tables = found.registry.resources.authorizer, []
    for one in listed.tables:
        resource, decision = authorizer.decision(who, one.ref)
        if decision.allowed:  # else the rules were replaced a moment ago
            partly = decision.grants is not None
            tables.append(
                SeenTableAnswer(table_uri(one.ref) or "", resource, rule_words(decision), partial=partly)
            )
    return json(SeesAnswer(tables, place_token(listed.tables[-1]) if listed.more else None))


@tag(["operations"])
@document_request(DraftBody)
@document_response(DraftAnswer)
@refuses(403, 409, 422)
async def draft(call: Call) -> Answer:
    """Say which requests a draft of the rules decides differently, and load nothing; needs ``admin:*``.

    The answer names principals, tenants and tables of all rules. A draft with a problem is 409 with all of
    them, as at a reload.
    """
    found = call.context
    found.require_admin(*ADMIN)
    admin.require_operator(found)
    decode = partial(decode_body, DraftBody, call.body)
    body = decode() if call.small else await found.compute(decode)
    resources = found.registry.resources
    catalogs = None if resources.rules is None else resources.rules.place().catalogs
    present = resources.authorizer.policy

    def compare() -> DraftAnswer | tuple[str, ...]:
        until = time.monotonic() + DRAFT_SECONDS
        problem = draft_problem(body.rules)
        if problem is not None:
            return (problem,)
        try:
            policy, warnings = parse_rules(body.rules, "The draft", catalogs or None)
        except acl.PolicyError as error:
            return error.problems
        # Without rules everything is permitted.
        old = acl.Policy(default="allow", aliases=policy.aliases) if present is None else present
        difference = acl.diff(
            old, policy, lambda changes: changes >= MOST_CHANGES or time.monotonic() > until
        )
        changes = [_change(one) for one in difference.changes]
        return DraftAnswer(
            changes, difference.complete, list(warnings), len(policy.deny), len(policy.allow), policy.default
        )

    answer = await found.compute(compare)
    if not isinstance(answer, DraftAnswer):
        problems = [{"loc": ["body", "rules"], "msg": problem} for problem in answer]
        raise ProblemError(Problem(HTTPStatus.CONFLICT, "The draft was refused.", "acl_refused", problems))
    return json(answer)


def draft_problem(text: str) -> str | None:
    """Return why a draft is not compared: what in it costs time or memory by the square of its length."""
    if any(one.count("/") > MOST_SEGMENTS for one in _TEXT.findall(text)):
        return f"The draft has a resource of more than {MOST_SEGMENTS} segments; such rules are not compared."
    for number, line in enumerate(_TEXT.sub("", text).split("\n"), 1):
        if line.partition("#")[0].count(".") > MOST_DOTS:
            return (
                f"Line {number} of the draft has more than {MOST_DOTS} dots outside of its texts; break it."
            )
    return None


def _change(one: acl.Change) -> RuleChangeAnswer:
    request, old, new = one.request, one.old, one.new
    kind = "narrowed" if old.allowed and new.allowed else "closed" if old.allowed else "opened"
    return RuleChangeAnswer(
        principal=request.principal,
        tenant=request.tenant,
        scopes=sorted(request.scopes),
        action=request.action,
        resource=request.resource,
        now=rule_words(old),
        then=rule_words(new),
        kind=kind,
    )
