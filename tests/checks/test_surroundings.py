"""`strata check` looks at what the configuration is about, and warns of each thing by its setting."""

from __future__ import annotations

import datetime as dt
import json
import socket
from pathlib import Path

import attrs
import pytest
import trustme
from click.testing import CliRunner
from pyiceberg.catalog.sql import SqlCatalog
from service_kit import TOKEN, Warehouse, numbers

from strata.acl import Policy, Rule
from strata.checks import surroundings
from strata.checks.surroundings import may_reach, survey
from strata.cli import main
from strata.config import Settings
from strata.config.fields import NotebookWorker, RegisteredTransform, TenantSection, TransformSection


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Return settings of a server about which there is nothing to say."""
    path = tmp_path / "warehouse"
    path.mkdir()
    warehouse = Warehouse(path, SqlCatalog("strata", uri=f"sqlite:///{path}/catalog.db", warehouse=str(path)))
    warehouse.create(numbers(3))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return Settings(
        deployment_mode="service",
        auth_mode="trusted_proxy",
        proxy_token=TOKEN,
        port=port,
        artifact_dir=str(tmp_path / "artifacts"),
        cache_dir=str(tmp_path / "cache"),
        warehouses={"wh": str(path)},
        acl_config=Policy(default="allow"),
        disk_reserve_bytes=1,
    )


def test_nothing_is_said_of_a_sound_server(settings: Settings, tmp_path: Path) -> None:
    """Nor is anything created."""
    before = sorted(tmp_path.rglob("*"))
    assert [] == survey(settings, None)
    assert before == sorted(tmp_path.rglob("*"))


def test_ports_in_use(settings: Settings) -> None:
    """Each is named with its setting and its address."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [listener.getsockname()[1] for listener in (one, two)]
        found = survey(attrs.evolve(settings, port=ports[0], metrics_port=ports[1]), None)
    assert ["metrics_port", "port"] == sorted(warning.partition(":")[0] for warning in found)
    assert all(str(port) in " ".join(found) for port in ports)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
def test_a_token_that_others_can_read(settings: Settings, tmp_path: Path, mode: int, warned: bool) -> None:  # noqa: FBT001  # parametrized
    """The file with the token is named; the token is not."""
    file = tmp_path / "pyproject.toml"
    file.write_text(f'[tool.strata]\nproxy_token = "{TOKEN}"\n')
    file.chmod(mode)
    found = survey(settings, file)
    assert warned == bool(found)
    assert TOKEN not in " ".join(found)
    file.write_text("[tool.strata]\n")  # the token is elsewhere
    assert [] == survey(settings, file)


def test_warehouses_without_tables_and_damaged_ones(settings: Settings, tmp_path: Path) -> None:
    """A warehouse may be new; a damaged catalog is said to be one."""
    (tmp_path / "new").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "catalog.db").write_bytes(b"no database" * 100)
    both = {"new": str(tmp_path / "new"), "bad": str(tmp_path / "bad")}
    new, bad = survey(attrs.evolve(settings, warehouses=both), None)
    assert new.startswith("warehouses.new: there is no ")
    assert bad.startswith("warehouses.bad: ")
    assert "no readable catalog" in bad


def test_catalogs_that_do_not_answer(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses and one that hangs are named with their type, and no secret of theirs is shown."""
    monkeypatch.setattr(surroundings, "CATALOG_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as hung, socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        places = {"hung": hung.getsockname()[1], "deaf": deaf.getsockname()[1]}
        catalogs = {
            alias: {"type": "rest", "uri": f"http://127.0.0.1:{port}", "token": "secret-of-the-catalog"}
            for alias, port in places.items()
        }
        found = survey(attrs.evolve(settings, catalogs=catalogs), None)
    assert {"catalogs.hung (rest)", "catalogs.deaf (rest)"} == {text.partition(":")[0] for text in found}
    assert "secret-of-the-catalog" not in " ".join(found)


@pytest.mark.parametrize(("days", "words"), [(-1, "expired on"), (13, "expires on"), (15, "")])
def test_a_certificate_that_ends_soon(settings: Settings, tmp_path: Path, days: int, words: str) -> None:
    """It is named with the time of its end, two weeks before that."""
    made = trustme.CA().issue_cert("localhost", not_after=dt.datetime.now(dt.UTC) + dt.timedelta(days=days))
    path = tmp_path / "certificate.pem"
    path.write_bytes(made.private_key_and_cert_chain_pem.bytes())
    path.chmod(0o600)
    found = survey(attrs.evolve(settings, tls_certificate=str(path)), None)
    assert bool(words) == any(f"{path} {words}" in warning for warning in found), found


def test_a_full_disk_and_no_rules(settings: Settings) -> None:
    """What is legal and unwise is a warning."""
    (disk,) = survey(attrs.evolve(settings, disk_reserve_bytes=2**62), None)
    assert disk.startswith("artifact_dir: ")
    assert "disk_reserve_bytes" in disk
    (rules,) = survey(attrs.evolve(settings, acl_config=None), None)
    assert rules.startswith("acl_config: ")


def test_offline_looks_at_the_configuration_alone(settings: Settings, tmp_path: Path) -> None:
    """A build machine has neither the tables nor the ports."""
    (tmp_path / "new").mkdir()
    environment = {
        "STRATA_DEPLOYMENT_MODE": "service",
        "STRATA_AUTH_MODE": "trusted_proxy",
        "STRATA_PROXY_TOKEN": TOKEN,
        "STRATA_ARTIFACT_DIR": str(tmp_path / "artifacts"),
        "STRATA_CACHE_DIR": str(tmp_path / "cache"),
        "STRATA_WAREHOUSES": f"wh={tmp_path / 'new'}",
        "STRATA_PORT": str(settings.port),
    }
    with CliRunner().isolated_filesystem(tmp_path):
        online, offline = (
            CliRunner().invoke(main, ["check", "--json", *more], env=environment)
            for more in ([], ["--offline"])
        )
    assert (0, 0) == (online.exit_code, offline.exit_code)
    assert ["warehouses.wh", "acl_config"] == [
        warning.partition(":")[0] for warning in json.loads(online.stdout)["warnings"]
    ]
    assert [] == json.loads(offline.stdout)["warnings"]


def test_a_directory_that_is_not_mounted(settings: Settings, tmp_path: Path) -> None:
    """A warehouse that is new has a directory; one without is not there at all."""
    away = {**settings.warehouses, "away": str(tmp_path / "away")}
    [found] = survey(attrs.evolve(settings, warehouses=away, acl_config=Policy(default="allow")), None)
    assert found.startswith("warehouses.away: ")
    assert "is its file system mounted?" in found


def test_an_executor_that_does_not_answer(settings: Settings) -> None:
    """Each entry is named with its transform and its address; cells' workers, too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    section = TransformSection(enabled=True, registry=(RegisteredTransform("double@*", executor_url=url),))
    worker = NotebookWorker("far", url=f"{url}/v1/execute")
    found = survey(attrs.evolve(settings, transforms=section, notebook_workers=(worker,)), None)
    first, second = (warning for warning in found if "executor_unreachable" in warning)
    assert first.startswith(f"transforms.registry[0] (double@*): {url} (executor_unreachable): ")
    assert second.startswith(f"notebook_workers (far): {url} ")


def test_disabled_tenants(settings: Settings) -> None:
    """Those of the configuration and those of the admin API, each with its source."""
    settings.overrides_path.parent.mkdir(parents=True)
    settings.overrides_path.write_text("[tenants.team-b]\nenabled = false\n")
    off = {
        "team-a": TenantSection(values={"enabled": False}),
        "team-c": TenantSection(values={"enabled": True}),
    }
    found = survey(attrs.evolve(settings, tenants=off), None)
    assert [
        "tenants.team-a: it is disabled (source: section)", "tenants.team-b: it is disabled (source: operator)",
    ] == [warning.partition(";")[0] for warning in found]  # fmt: skip


ALLOWED = Rule("ana", "tables/*/db/*")
RULES = [
    (Policy(allow=(ALLOWED,)), True),
    (Policy(allow=(Rule("*", "**"),)), True),
    (Policy(allow=(Rule("*", "tables/wh/db/events"),)), True),
    (Policy(default="allow"), True),
    (Policy(), False),
    (Policy(allow=(Rule("*", "tables/other/*/*"), Rule("*", "admin/*"))), False),
    (Policy(allow=(Rule("*", "tables/wh/*/*", action="write"),)), False),
    (Policy(allow=(ALLOWED,), deny=(Rule("*", "tables/wh/*/*"),)), False),
    (Policy(default="allow", deny=(Rule("*", "**"),)), False),
    (Policy(allow=(ALLOWED,), deny=(Rule("*", "tables/wh/*/*", tenant="team-a"),)), True),
    (Policy(allow=(ALLOWED,), deny=(Rule("*", "tables/wh/db/closed"),)), True),
    (Policy(allow=(ALLOWED,), deny=(Rule("eve", "tables/wh/*/*"),)), True),
]


@pytest.mark.parametrize(("policy", "reached"), RULES)
def test_rules_that_let_nobody_in(policy: Policy, reached: bool) -> None:  # noqa: FBT001  # parametrized
    """Patterns decide: a catalog that no allow rule reaches, or that is denied to everybody."""
    assert reached == may_reach(policy, "wh")
