"""``strata acl``: output and exit status of its commands."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from strata.cli.main import main

POLICY = """
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token = "a-token-of-twenty-characters"
artifact_dir = "artifacts"
cache_dir = "cache"

[tool.strata.warehouses]
main = "warehouse"

[tool.strata.acl_config]
default = "deny"

[[tool.strata.acl_config.deny]]
principal = "*"
resource = "tables/main/internal/*"

[[tool.strata.acl_config.allow]]
principal = "*@example.com"
resource = "tables/main/sales/*"
"""


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "pyproject.toml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)

    def run(resource: str, *more: str, principal: str = "ana@example.com"):
        return CliRunner().invoke(
            main, ["acl", "explain", "--principal", principal, "--resource", resource, *more]
        )

    return run


def test_a_permitted_request_ends_in_0(ask) -> None:
    """`explain` of a permitted request exits with 0 and names the rule that permits it."""
    found = ask("tables/main/sales/orders")
    assert 0 == found.exit_code
    lines = found.output.splitlines()
    assert "allowed: an allow rule matches and no deny rule does" == lines[0]
    assert "  allow rule 1 (*@example.com on tables/main/sales/*) matches" in lines


@pytest.mark.parametrize("odd", [("alice ", "team-a"), ("", "team-a"), ("alice", "a b"), ("alice", "*")])
def test_a_caller_that_cannot_be_is_one_sentence(ask, odd: tuple[str, str]) -> None:
    """`explain` of a malformed principal or tenant exits with 1 and a sentence, not a traceback."""
    principal, tenant = odd
    found = ask("tables/main/db/t", "--tenant", tenant, principal=principal)
    assert (1, True) == (found.exit_code, isinstance(found.exception, SystemExit))
    assert found.output.strip()


def test_a_denied_one_ends_in_2_and_names_the_way_out(ask) -> None:
    """`explain` of a denied request exits with 2 and names the change that would permit it, as text and JSON."""
    found = ask("tables/main/internal/pay")
    assert 2 == found.exit_code
    assert "to permit it: remove deny rule 1" in found.output
    document = json.loads(ask("tables/main/internal/pay", "--json", "--tenant", "a").output)
    assert (False, ["deny 1"]) == (document["allowed"], document["otherwise"]["remove"])
    assert [True, False] == [rule["matches"] for rule in document["considered"]]
    assert "a" == document["otherwise"]["add"][0]["tenant"]


def test_a_configuration_that_does_not_load_ends_in_1(ask, tmp_path: Path) -> None:
    """`explain` exits with 1 and prints the problems of a wrong configuration."""
    (tmp_path / "pyproject.toml").write_text(POLICY.replace("tables/main/sales/*", "nothing/here"))
    found = ask("tables/main/sales/orders")
    assert 1 == found.exit_code
    assert "acl_config" in found.output


def test_without_rules_everything_is_permitted(ask, tmp_path: Path) -> None:
    """`explain` without access rules reports that there are none."""
    (tmp_path / "pyproject.toml").write_text(POLICY.partition("[tool.strata.acl_config]")[0])
    found = ask("tables/main/internal/pay")
    assert (0, "allowed: no access rules are configured (acl_config)\n") == (found.exit_code, found.output)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a command beside the configuration; add files by name."""
    (tmp_path / "pyproject.toml").write_text(POLICY)
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, **files: str):
        for name, text in files.items():
            (tmp_path / f"{name}.toml").write_text(text)
        return CliRunner().invoke(main, ["acl", *arguments])

    return command


def test_check_counts_and_prints_what_it_reads(run, tmp_path: Path) -> None:
    """`check` counts the rules; `check --print` prints rules that parse to the same policy."""
    assert (0, "1 deny rules, 1 allow rules, default deny: no problems\n") == (
        run("check").exit_code,
        run("check").output,
    )
    printed = run("check", "--print").output
    (tmp_path / "pyproject.toml").write_text(POLICY.partition("[tool.strata.acl_config]")[0] + printed)
    assert printed == run("check", "--print").output
    assert {"ok": True, "configured": True, "default": "deny", "deny": 1, "allow": 1, "warnings": []} == (
        json.loads(run("check", "--json").output)
    )


def test_check_says_everything_that_is_wrong(run, tmp_path: Path) -> None:
    """`check` prints the problems of all rules and exits with 1."""
    bad = POLICY.replace("tables/main/sales/*", "nothing/here").replace(
        "tables/main/internal/*", "tables/x/**"
    )
    (tmp_path / "pyproject.toml").write_text(bad)
    found = run("check")
    assert 1 == found.exit_code
    assert ("deny rule 1" in found.output, "allow rule 1" in found.output) == (True, True)


def test_lint_ends_in_2_and_names_the_rule(run, tmp_path: Path) -> None:
    """`lint` exits with 2 and names superfluous rules, or exits with 0 without any."""
    assert (0, "no superfluous rules\n") == (run("lint").exit_code, run("lint").output)
    more = '[[tool.strata.acl_config.allow]]\nprincipal = "ann"\nresource = "tables/main/internal/pay"\n'
    (tmp_path / "pyproject.toml").write_text(POLICY + more)
    found = run("lint")
    assert (2, "contradictory: allow rule 2") == (found.exit_code, found.output[:27])
    assert ["contradictory"] == [one["kind"] for one in json.loads(run("lint", "--json").output)["findings"]]


def test_diff_names_who_gains_and_who_loses(run) -> None:
    """`diff` compares configurations or files of rules, and prints a request for each changed decision."""
    new = 'default = "deny"\n[[allow]]\nprincipal = "ann"\nresource = "tables/main/sales/*"\n'
    found = run("diff", "pyproject.toml", "new.toml", "--catalog", "main", new=new)
    assert 2 == found.exit_code
    assert [
        "ann (tenant any-tenant) read tables/main/sales/any: allowed, was denied",
        "anyone@example.com (tenant any-tenant) read tables/main/sales/any: denied, was allowed",
    ] == found.output.splitlines()
    document = json.loads(run("diff", "pyproject.toml", "new.toml", "--json").output)
    assert [(False, True), (True, False)] == [(one["old"], one["new"]) for one in document["changes"]]
    same = run("diff", "new.toml", "new.toml")
    assert (0, "no decision differs\n") == (same.exit_code, same.output)


def test_diff_of_what_does_not_load_ends_in_1(run) -> None:
    """`diff` exits with 1 and names a file that is missing, not TOML, without rules, or with wrong rules."""
    cases = {"bad": "x = [", "none": "[tool.strata]\n", "wrong": "[[allow]]\nprincipal = 'a'\n"}
    for name, words in {
        "absent": "cannot be read",
        "bad": "is not valid TOML",
        "none": "the table [tool.strata.acl_config] is missing",
        "wrong": "allow rule 1: `resource` is missing",
    }.items():
        found = run("diff", f"{name}.toml", "pyproject.toml", **cases)
        assert (1, True, True) == (found.exit_code, f"{name}.toml" in found.output, words in found.output)


EXPECT = """
[[expect]]
principal = "ana@example.com"
resource = "tables/main/sales/orders"
allowed = true

[[expect]]
principal = "ana@example.com"
resource = "tables/main/internal/pay"
allowed = {}
why = "salaries"
"""


def test_expectations_that_are_met_end_in_0_and_others_in_2(run) -> None:
    """`test` prints each unmet expectation with its remark and explanation, and exits with 2."""
    met = run("test", "expect.toml", expect=EXPECT.format("false"))
    assert (0, "2 of 2 expectations met\n") == (met.exit_code, met.output)
    failed = run("test", "expect.toml", expect=EXPECT.format("true"))
    assert 2 == failed.exit_code
    lines = failed.output.splitlines()
    assert (
        "expect 2: ana@example.com of _default should be allowed to read tables/main/internal/pay (salaries)"
        == lines[0]
    )
    assert "  to permit it: remove deny rule 1" in failed.output
    assert "1 of 2 expectations met" == lines[-1]
    document = json.loads(run("test", "expect.toml", "--json").output)
    assert (1, [True, False]) == (document["failed"], [one["met"] for one in document["expectations"]])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no [[expect]]"),
        ("[[expected]]\n", "unknown key `expected`; write [[expect]]"),
        ("[[expect]]\nprincipal = 'a'\n", "expect 1: `resource` is missing"),
        (EXPECT.format("'yes'"), "expect 2: `allowed` must be true or false"),
        (EXPECT.format("true") + "scope = 'x'\n", "expect 2: unknown key `scope`"),
        (EXPECT.format("true") + "scopes = 'x'\n", "expect 2: `scopes` must be a list of strings"),
        (EXPECT.format("true") + "action = 'raed'\n", "expect 2: unknown action 'raed'"),
        (EXPECT.format("true") + "tenant = 1\n", "expect 2: `tenant` must be a string"),
        ("expect = [1]\n", "expect 1: must be a table"),
    ],
)
def test_expectations_that_are_not_understood_end_in_1(run, text: str, problem: str) -> None:
    """`test` exits with 1 for a file that it does not understand: a misspelled key would test nothing."""
    found = run("test", "expect.toml", expect=text)
    assert (1, True) == (found.exit_code, problem in found.output), found.output


@pytest.mark.parametrize(
    "odd", [("--principal", "ana "), ("--tenant", "a b"), ("--scope", "a,b"), ("--tenant", "")]
)
def test_what_no_request_can_have_is_refused_in_a_sentence(ask, odd: tuple[str, str]) -> None:
    """Exit status 1 and the reason, no traceback and no answer."""
    found = ask("tables/main/sales/orders", *odd)

    assert (1, SystemExit) == (found.exit_code, type(found.exception))
    assert odd[0].removeprefix("--") in found.output
