"""The demo stack's files agree with each other and with the server they configure."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import strictyaml

from strata.config.sources import load_settings

STACK = Path(__file__).parents[2] / "deploy" / "service-mode"


@pytest.fixture(scope="module")
def compose() -> dict:
    return strictyaml.load((STACK / "docker-compose.service.yml").read_text()).data


def test_the_configuration_boots(tmp_path: Path) -> None:
    """Strata accepts the stack's configuration: every key exists, and the mode is coherent."""
    text = (STACK / "pyproject.toml").read_text().replace("/data/", f"{tmp_path}/")
    for name in ("artifacts", "cache", "warehouse"):
        (tmp_path / name).mkdir()
    path = tmp_path / "pyproject.toml"
    path.write_text(text)
    loaded = load_settings(config_file=path, environ={}, options={}, cwd=tmp_path)
    assert () == loaded.warnings
    assert ("service", True, "X-Tenant-ID") == (
        loaded.settings.deployment_mode,
        loaded.settings.multi_tenant_enabled,
        loaded.settings.tenant_header,
    )


def test_the_proxy_and_the_server_share_their_token() -> None:
    """What nginx sends is what Strata expects."""
    configured = tomllib.loads((STACK / "pyproject.toml").read_text())["tool"]["strata"]["proxy_token"]
    assert f'X-Strata-Proxy-Token "{configured}";' in (STACK / "proxy_token.conf").read_text()


def test_only_the_proxys_ports_are_published(compose: dict) -> None:
    """Strata's own port cannot be reached from outside: it listens on the loopback the proxy shares."""
    strata = tomllib.loads((STACK / "pyproject.toml").read_text())["tool"]["strata"]
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    listened = re.findall(r"listen (\d+);", (STACK / "nginx.conf").read_text())
    assert [f"127.0.0.1:{port}:{port}" for port in listened] == published
    assert "127.0.0.1" == strata["host"]
    assert "service:strata" == compose["services"]["proxy"]["network_mode"]


def test_every_mounted_path_exists(compose: dict) -> None:
    """A bind mount of a missing file would be made a directory by the daemon."""
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (STACK / source).exists(), source


def test_the_image_has_the_directories_of_the_configuration(compose: dict) -> None:
    """Every directory the configuration names is made in the image that compose builds."""
    build = compose["services"]["strata"]["build"]
    dockerfile = (STACK / build["context"] / build["dockerfile"]).read_text()
    strata = tomllib.loads((STACK / "pyproject.toml").read_text())["tool"]["strata"]
    for path in (strata["artifact_dir"], strata["cache_dir"], *strata["warehouses"].values()):
        assert path in dockerfile
