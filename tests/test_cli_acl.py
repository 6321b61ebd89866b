"""``strata acl explain``: the answer, its grounds, and an exit status for scripts."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from strata.cli import main

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
    """With the rule that permits it."""
    found = ask("tables/main/sales/orders")
    assert 0 == found.exit_code
    lines = found.output.splitlines()
    assert "allowed: an allow rule matches and no deny rule does" == lines[0]
    assert "  allow rule 1 (*@example.com on tables/main/sales/*) matches" in lines


def test_a_denied_one_ends_in_2_and_names_the_way_out(ask) -> None:
    """For people and for programs."""
    found = ask("tables/main/internal/pay")
    assert 2 == found.exit_code
    assert "to permit it: deny rule 1 would have to go" in found.output
    document = json.loads(ask("tables/main/internal/pay", "--json", "--tenant", "a").output)
    assert (False, ["deny 1"]) == (document["allowed"], document["otherwise"]["remove"])
    assert [True, False] == [rule["matches"] for rule in document["considered"]]
    assert "a" == document["otherwise"]["add"][0]["tenant"]


def test_a_configuration_that_does_not_load_ends_in_1(ask, tmp_path: Path) -> None:
    """With everything that is wrong with it."""
    (tmp_path / "pyproject.toml").write_text(POLICY.replace("tables/main/sales/*", "nothing/here"))
    found = ask("tables/main/sales/orders")
    assert 1 == found.exit_code
    assert "acl_config" in found.output


def test_without_rules_everything_is_permitted(ask, tmp_path: Path) -> None:
    """And it says that there are none."""
    (tmp_path / "pyproject.toml").write_text(POLICY.partition("[tool.strata.acl_config]")[0])
    found = ask("tables/main/internal/pay")
    assert (0, "allowed: no access rules are configured (acl_config)\n") == (found.exit_code, found.output)
