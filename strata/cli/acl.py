"""``strata acl …``: evaluate, check and compare access rules without a server."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import click

from strata.acl import (
    ACTIONS,
    Outcome,
    Policy,
    PolicyError,
    Request,
    check_expectations,
    diff,
    explain,
    lint,
    parse_expectations,
    parse_policy,
    print_policy,
)
from strata.auth import DEFAULT_TENANT
from strata.cli.config import JSON_HELP, load, settings_options
from strata.config import ConfigError
from strata.config.sources import ACL_ALIASES

NO_EXIT = 2
"""Exit status of a negative result: denied, findings, differences, expectations not met.

Status 1 means that a configuration or file cannot be loaded.
"""

_NO_RULES = "no access rules are configured (acl_config)"
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def acl() -> None:
    """Evaluate, check and compare access rules.

    Exit status of each command: 0 for a positive result, 2 for a negative one (denied, findings, changes,
    expectations not met), 1 if a configuration or file cannot be loaded.
    """


@acl.command("explain")
@settings_options
@click.option("--principal", required=True, metavar="ID", help="Principal (user id) of the request.")
@click.option(
    "--resource",
    required=True,
    metavar="RESOURCE",
    help="Requested resource, such as tables/<catalog>/<namespace>/<table>.",
)
@click.option(
    "--tenant", default=DEFAULT_TENANT, metavar="ID", show_default=True, help="Tenant of the request."
)
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help="Scope of the principal; repeat the option for several.",
)
@click.option(
    "--action", type=click.Choice(ACTIONS), default="read", show_default=True, help="Requested action."
)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
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
    """Explain why a request is permitted or denied.

    Prints the decision, the rules that were considered, and what would change the decision. Exit status: 0
    permitted, 2 denied, 1 if the configuration cannot be loaded or no request can have this principal, tenant
    or scope.
    """
    policy, _ = _configured(options)
    if policy is None:
        click.echo(f"allowed: {_NO_RULES}")
        return
    try:
        found = explain(policy, Request(principal, tenant, frozenset(scopes), resource, action))
    except ValueError as error:
        _fail([error])
    click.echo(json.dumps(found.document(), indent=2) if as_json else "\n".join(found.lines()))
    sys.exit(0 if found.decision.allowed else NO_EXIT)


@acl.command("check")
@settings_options
@click.option("--print", "printed", is_flag=True, help="Print the parsed rules as TOML.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def check_command(*, printed: bool, as_json: bool, **options: Any) -> None:
    """Check the syntax of a configuration's access rules.

    Prints every problem and exits with status 1 if there is any.
    """
    policy, warnings = _configured(options)
    if printed and policy is not None:
        click.echo(print_policy(policy, "tool.strata.acl_config"), nl=False)
        return
    counts = {"deny": len(policy.deny), "allow": len(policy.allow)} if policy else {"deny": 0, "allow": 0}
    default = policy.default if policy else "allow"
    if as_json:
        found = {"ok": True, "configured": policy is not None, "default": default, **counts}
        click.echo(json.dumps(found | {"warnings": list(warnings)}, indent=2))
        return
    for warning in warnings:
        click.echo(f"warning: {warning}")
    if policy is None:
        click.echo(f"{_NO_RULES}: every request is permitted")
    else:
        click.echo(
            f"{counts['deny']} deny rules, {counts['allow']} allow rules, default {default}: no problems"
        )


@acl.command("lint")
@settings_options
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def lint_command(*, as_json: bool, **options: Any) -> None:
    """Find superfluous access rules.

    Such a rule is shadowed by another, a duplicate, contradictory, or never matches. Exit status: 2 if there
    is any.
    """
    policy, _ = _configured(options)
    found = lint(policy) if policy is not None else ()
    if as_json:
        items = [
            {"kind": one.kind, "effect": one.effect, "number": one.number, "message": one.message}
            for one in found
        ]
        click.echo(json.dumps({"findings": items}, indent=2))
    else:
        for one in found:
            click.echo(f"{one.kind}: {one.message}")
        click.echo(f"superfluous rules: {len(found)}" if found else "no superfluous rules")
    sys.exit(NO_EXIT if found else 0)


@acl.command("diff")
@click.argument("old", type=_FILE)
@click.argument("new", type=_FILE)
@click.option(
    "--catalog",
    "catalogs",
    multiple=True,
    metavar="NAME",
    help="Catalog or warehouse that rules can name; repeat the option for several.",
)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def diff_command(*, old: Path, new: Path, catalogs: tuple[str, ...], as_json: bool) -> None:
    """Compare the decisions of two files of access rules.

    Prints an example request for each decision that differs between OLD and NEW. Each file is a configuration
    with [tool.strata.acl_config], or contains only rules. In the output `any…` stands for every name that no
    rule mentions. Exit status: 2 if any decision differs.
    """
    found = diff(_policy_of(old, catalogs), _policy_of(new, catalogs))
    if as_json:
        items = [
            _request_json(change.request) | {"old": change.old.allowed, "new": change.new.allowed}
            for change in found.changes
        ]
        click.echo(json.dumps({"complete": found.complete, "changes": items}, indent=2))
    else:
        for change in found.changes:
            click.echo(str(change))
        if not found.complete:
            click.echo("incomplete: too many rules to compare every decision", err=True)
        if not found.changes and found.complete:
            click.echo("no decision differs")
    sys.exit(NO_EXIT if found.changes or not found.complete else 0)


@acl.command("test")
@settings_options
@click.argument("file", type=_FILE)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
def test_command(*, file: Path, as_json: bool, **options: Any) -> None:
    """Test access rules against the expectations in FILE.

    FILE is TOML with [[expect]] tables. Each has principal, resource and allowed, and optionally tenant,
    scopes, action and why. Exit status: 2 if an expectation is not met.
    """
    policy, _ = _configured(options)
    try:
        expected = parse_expectations(_toml(file))
    except PolicyError as error:
        _fail(f"{file}: {problem}" for problem in error.problems)
    outcomes = check_expectations(policy or Policy(default="allow"), expected)
    failed = [number for number, one in enumerate(outcomes, 1) if not one.met]
    if as_json:
        items = [
            _request_json(one.expectation.request)
            | {"expected": one.expectation.allowed, "met": one.met}
            | one.explanation.document()
            for one in outcomes
        ]
        click.echo(json.dumps({"failed": len(failed), "expectations": items}, indent=2))
    else:
        for number in failed:
            _show_failure(number, outcomes[number - 1])
        click.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} expectations met")
    sys.exit(NO_EXIT if failed else 0)


def _show_failure(number: int, outcome: Outcome) -> None:
    request, wanted = outcome.expectation.request, outcome.expectation.allowed
    why = f" ({outcome.expectation.why})" if outcome.expectation.why else ""
    who = f"{request.principal} of {request.tenant}"
    should = "be allowed" if wanted else "be denied"
    click.echo(f"expect {number}: {who} should {should} to {request.action} {request.resource}{why}")
    for line in outcome.explanation.lines():
        click.echo(f"  {line}")


def _configured(options: dict[str, Any]) -> tuple[Policy | None, tuple[str, ...]]:
    """Return a configuration's access rules and warnings; with problems, print them and exit with 1."""
    try:
        loaded = load(options)
    except ConfigError as error:
        _fail(str(problem) for problem in error.problems)
    return loaded.settings.acl_config, loaded.warnings


def _policy_of(path: Path, catalogs: tuple[str, ...]) -> Policy:
    document = _toml(path)
    tables = document.get("tool", {}).get("strata", {})
    found = [tables[alias] for alias in ACL_ALIASES if alias in tables]
    if not found and "tool" in document:
        _fail([f"{path}: the table [tool.strata.acl_config] is missing"])
    known = (*catalogs, *tables.get("warehouses", {}), *tables.get("catalogs", {}))
    try:
        return parse_policy(found[0] if found else document, known or None)[0]
    except PolicyError as error:
        _fail(f"{path}: {problem}" for problem in error.problems)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        _fail([f"{path} cannot be read: {error.strerror}"])
    except (ValueError, RecursionError) as error:
        _fail([f"{path} is not valid TOML: {error}"])


def _fail(problems: Any) -> NoReturn:
    for problem in problems:
        click.echo(f"  {problem}", err=True)
    sys.exit(1)


def _request_json(request: Request) -> dict[str, Any]:
    return {
        "principal": request.principal,
        "tenant": request.tenant,
        "scopes": sorted(request.scopes),
        "action": request.action,
        "resource": request.resource,
    }
