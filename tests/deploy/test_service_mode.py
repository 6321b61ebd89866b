"""The demo stack's files agree with each other and with the server they configure."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
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
    for name in ("artifacts", "cache", "demo/warehouse"):
        (tmp_path / name).mkdir(parents=True)
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
    """Every directory the configuration names is made in the image that compose builds; tables are written later."""
    build = compose["services"]["strata"]["build"]
    dockerfile = (STACK / build["context"] / build["dockerfile"]).read_text()
    strata = tomllib.loads((STACK / "pyproject.toml").read_text())["tool"]["strata"]
    tables = [str(Path(path).parent) for path in strata["warehouses"].values()]
    for path in (strata["artifact_dir"], strata["cache_dir"], *tables):
        assert path in dockerfile
    assert tables == [compose["services"]["data"]["command"][-1]]


def test_every_service_has_only_what_it_needs(compose: dict) -> None:
    """No service can gain privileges, keeps a capability, or writes anywhere but to its volumes and memory."""
    assert {"data", "strata", "executor", "proxy"} == set(compose["services"])
    for name, service in compose["services"].items():
        hardening = (service["read_only"], service["cap_drop"], service["security_opt"])
        assert ("true", ["ALL"], ["no-new-privileges:true"]) == hardening, name
        assert "/tmp" in service["tmpfs"], name
        assert "privileged" not in service, name
        assert "cap_add" not in service, name
        for volume in service.get("volumes", []):
            source, _, mode = volume.partition(":")
            assert source in compose["volumes"] or mode.endswith(":ro"), volume
        if name != "data":  # which ends by itself
            check = service["healthcheck"]
            assert check["test"][0] == "CMD", name
            assert {"start_period", "interval", "timeout"} < set(check), name


def test_no_service_runs_as_root(compose: dict) -> None:
    """Strata's image has a numeric user, and the proxy's is given one."""
    dockerfile = (STACK / "Dockerfile").read_text()
    assert re.findall(r"^USER (.+)$", dockerfile, re.MULTILINE) == ["10001"]
    for service in compose["services"].values():
        assert service["image"] == "strata-demo" or service["user"] == "101:101"


def test_health_checks_ask_what_is_listening(compose: dict) -> None:
    """Each health check asks a port of the configuration, on the loopback that the services share."""
    strata = tomllib.loads((STACK / "pyproject.toml").read_text())["tool"]["strata"]
    executor = strata["transforms"]["registry"][0]["executor_url"]
    asked = {
        name: re.findall(r"http://127\.0\.0\.1:\d+/[a-z/]+", " ".join(service["healthcheck"]["test"]))
        for name, service in compose["services"].items()
        if "test" in service["healthcheck"]
    }
    assert {
        "strata": [f"http://127.0.0.1:{strata['port']}/health/ready"],
        "executor": [f"{executor}/health"],
        "proxy": ["http://127.0.0.1:8865/health"],
    } == asked
    assert "service:strata" == compose["services"]["executor"]["network_mode"]


ROOT = Path(__file__).parents[2]
SECRETS = (
    "service/proxy-token",
    "service/nginx/proxy_token.conf",
    ".env",
    ".git/config",
    "pyproject.local.toml",
    "deploy/service-mode/proxy_token.conf",
    "strata.toml",
    "executor-token",
    "strata-demo-stack/pyproject.toml",
)


def _is_sent(path: str) -> bool:
    """Return whether Docker sends a file of the checkout to the build: the last matching line decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").strip()
        if not pattern or pattern.startswith("#"):
            continue
        parts = Path(path).parts
        heads = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        plain = pattern.removeprefix("**/")
        names = parts if pattern.startswith("**/") else heads
        if any(fnmatchcase(name, plain) for name in names):
            sent = line.startswith("!")
    return sent


@pytest.mark.parametrize("path", SECRETS)
def test_the_build_sees_no_secret(path: str) -> None:
    """Tokens and private files of a checkout are not sent to the build, whatever they are called."""
    assert not _is_sent(path)


def test_the_build_sees_what_the_wheel_is_made_of() -> None:
    """All that pyproject.toml names for the wheel, and every module, is sent."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = [
        "pyproject.toml",
        "hatch_build.py",
        project["project"]["readme"],
        *project["project"]["license-files"],
    ]
    modules = [str(path.relative_to(ROOT)) for path in (ROOT / "strata").rglob("*.py")]
    assert [] == [
        path for path in (*named, *modules, "strata/ui/web/package-lock.json") if not _is_sent(path)
    ]


def test_only_the_wheel_comes_into_the_image() -> None:
    """The stage that sees the sources is thrown away; what is left has nothing copied into it."""
    build, last = (STACK / "Dockerfile").read_text().split("\nFROM ")[1:]
    assert "COPY . /src" in build
    assert not re.search(r"^(COPY|ADD)\b", last, re.MULTILINE)
