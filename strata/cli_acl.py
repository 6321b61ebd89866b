"""``strata acl …``: ask the access rules, without a server."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from strata.acl import ACTIONS, Considered, Explanation, Request, explain
from strata.cli_config import load, settings_options
from strata.config import ConfigError

DENIED_EXIT = 2
"""Exit status of ``explain`` when the answer is no; 1 is a configuration that does not load."""


@click.group()
def acl() -> None:
    """Ask the access rules what they decide, and why."""


@acl.command("explain")
@settings_options
@click.option("--principal", required=True, metavar="ID", help="Who asks.")
@click.option(
    "--resource", required=True, metavar="RESOURCE", help="For what: tables/<catalog>/<namespace>/<table> …"
)
@click.option("--tenant", default="_default", metavar="ID", show_default=True, help="For which tenant.")
@click.option(
    "--scope", "scopes", multiple=True, metavar="SCOPE", help="A scope the caller holds; repeatable."
)
@click.option(
    "--action", type=click.Choice(ACTIONS), default="read", show_default=True, help="What is to be done."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def explain_command(
    *,
    principal: str,
    resource: str,
    tenant: str,
    scopes: tuple[str, ...],
    action: Any,
    as_json: bool,
    **options: Any,
) -> None:
    """Say whether a request is permitted, which rules were considered, and what would change the answer.

    Ends in 0 if it is permitted, in 2 if it is denied, in 1 if the configuration does not load.
    """
    try:
        policy = load(options).settings.acl_config
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
        sys.exit(1)
    if policy is None:
        click.echo("allowed: no access rules are configured (acl_config)")
        return
    found = explain(policy, Request(principal, tenant, frozenset(scopes), resource, action))
    click.echo(json.dumps(_as_json(found), indent=2) if as_json else "\n".join(found.lines()))
    sys.exit(0 if found.decision.allowed else DENIED_EXIT)


def _as_json(found: Explanation) -> dict[str, Any]:
    change = found.otherwise
    return {
        "allowed": found.decision.allowed,
        "reason": found.decision.reason.value,
        "considered": [_rule_json(one) for one in found.considered],
        "otherwise": None
        if change is None
        else {
            "allowed": change.allowed,
            "remove": [f"{one.effect} {one.number}" for one in change.remove],
            "add": [
                {"effect": effect, "principal": rule.principal, "resource": rule.resource}
                | {"tenant": rule.tenant, "action": rule.action}
                for effect, rule in change.add
            ],
        },
    }


def _rule_json(one: Considered) -> dict[str, Any]:
    return {
        "effect": one.effect,
        "number": one.number,
        "principal": one.rule.principal,
        "resource": one.rule.resource,
        "matches": one.matches,
        "misses": list(one.misses),
    }
