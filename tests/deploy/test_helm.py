"""The Helm chart: accepted by Helm itself and by the schemas of Kubernetes, with settings that the server takes."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from strata.config.sources import load_settings
from strata.server.process import CLOSING_SECONDS

if importlib.util.find_spec("helm_python") is None or importlib.util.find_spec("kubernetes_validate") is None:
    pytest.skip("helm-python-sdk or kubernetes-validate is missing", allow_module_level=True)

import kubernetes_validate
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "strata"
TOOL = ROOT / "tests" / "support" / "helm_tool.py"
VERSIONS = ("1.25", "1.31", "1.37")

PROXY = {"podSelector": {"matchLabels": {"app": "nginx"}}}
LEAST: dict[str, Any] = {
    "replicas": 1,
    "image": {"repository": "registry.example/strata", "tag": "1.0"},
    "proxyToken": {"existingSecret": "strata-proxy"},
    "networkPolicy": {"proxy": [PROXY]},
}
SEVERAL: dict[str, Any] = LEAST | {
    "replicas": 3,
    "image": {
        "repository": "registry.example/strata",
        "digest": "sha256:" + "a" * 64,
        "pullSecrets": ["pull"],
    },
    "metadata": {"existingSecret": "strata-database"},
    "s3": {
        "bucket": "results",
        "region": "eu-central-1",
        "endpointUrl": "https://s3.example",
        "existingSecret": "s3",
    },
    "moreSecrets": ["executors"],
    "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
    "config": '[tool.strata]\nmulti_tenant_enabled = true\nwarehouses = { main = "/data/warehouse" }\n',
    "networkPolicy": {
        "proxy": [PROXY],
        "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "database": [{"ipBlock": {"cidr": "10.0.0.0/24"}}],
        "store": [{"ipBlock": {"cidr": "10.0.1.0/24"}}],
        "moreEgress": [{"to": [{"podSelector": {}}], "ports": [{"port": 9000, "protocol": "TCP"}]}],
    },
    "podAnnotations": {"a/b": "c"},
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "strata", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/strata"}},
}


def helm(*arguments: str) -> Any:
    """Run Helm's library."""
    done = subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)


def rendered(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the manifests by the names of their templates."""
    found = helm("render", str(CHART), json.dumps(values))
    assert "error" not in found, found
    return {
        Path(name).stem: manifest
        for name, text in found.items()
        if name.endswith(".yaml")
        for manifest in yaml.safe_load_all(text)
        if manifest is not None
    }


@pytest.fixture(scope="module")
def single() -> dict[str, dict[str, Any]]:
    return rendered(LEAST)


@pytest.fixture(scope="module")
def several() -> dict[str, dict[str, Any]]:
    return rendered(SEVERAL)


def pods(manifests: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the specifications of all pods."""
    return [
        manifests[name]["spec"]["template"]["spec"]
        for name in ("statefulset", "migrate")
        if name in manifests
    ]


def containers(manifests: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for pod in pods(manifests) for one in (*pod.get("initContainers", ()), *pod["containers"])]


def test_helm_finds_no_fault() -> None:
    """Its own lint; that there is no icon it only mentions."""
    found = helm("lint", str(CHART))
    assert [] == found["errors"]
    assert ["icon is recommended"] == [one["error"] for one in found["messages"]]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_every_manifest(
    single: dict[str, dict], several: dict[str, dict], version: str
) -> None:
    """No unknown field, in the oldest version that the chart permits, one between, and the newest."""
    assert {"statefulset", "service", "configmap", "serviceaccount", "networkpolicy"} == set(single)
    assert {*single, "poddisruptionbudget", "migrate"} == set(several)
    for manifest in (*single.values(), *several.values()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_values_of_the_how_to_are_accepted(tmp_path: Path) -> None:
    """By the chart, by Kubernetes and, as a configuration, by the server."""
    page = (ROOT / "docs" / "how-to" / "deploy-on-kubernetes.md").read_text()
    manifests = rendered(yaml.safe_load(page.split("```yaml\n")[1].split("```")[0]))
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    config = tmp_path / "strata.toml"
    config.write_text(manifests["configmap"]["data"]["strata.toml"])
    environ = {"STRATA_DEPLOYMENT_MODE": "service", "STRATA_AUTH_MODE": "trusted_proxy"}
    environ |= {"STRATA_PROXY_TOKEN": "a-token-of-twenty-characters", "STRATA_ARTIFACT_DIR": str(tmp_path)}
    settings = load_settings(config_file=config, environ=environ, options={}, cwd=tmp_path).settings
    assert "deny" == settings.acl_config.default


def test_it_does_not_render_what_would_not_run() -> None:
    """Each thing that is missing is named: secret, image, proxy, and what several servers share."""
    cases = {
        "proxyToken.existingSecret": LEAST | {"proxyToken": {}},
        "image.tag": LEAST | {"image": {"repository": "x"}},
        "image.repository": LEAST | {"image": {"tag": "1"}},
        "networkPolicy.proxy": LEAST | {"networkPolicy": {}},
        "metadata.existingSecret": LEAST | {"replicas": 2, "s3": {"bucket": "b"}},
        "s3.bucket": LEAST | {"replicas": 2, "metadata": {"existingSecret": "d"}},
        "replica": LEAST | {"replica": 2},
        "minimum": LEAST | {"replicas": 0},
    }
    for name, values in cases.items():
        assert name in helm("render", str(CHART), json.dumps(values))["error"], name


def test_processes_have_no_rights(single: dict[str, dict], several: dict[str, dict]) -> None:
    """No root, no writable root, no capability, no account token; Kubernetes' variables are not set."""
    for manifests in (single, several):
        for pod in pods(manifests):
            assert (False, False) == (pod["enableServiceLinks"], pod["automountServiceAccountToken"])
            security = pod["securityContext"]
            assert (True, 10001, 10001) == (
                security["runAsNonRoot"],
                security["runAsUser"],
                security["fsGroup"],
            )
            assert "RuntimeDefault" == security["seccompProfile"]["type"]
        for one in containers(manifests):
            assert {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            } == one["securityContext"]
            assert one["resources"]["limits"]["memory"]


def test_its_user_is_the_images() -> None:
    """And the commands are those of strata."""
    assert "USER 10001" in (ROOT / "deploy" / "service-mode" / "Dockerfile").read_text()


def test_secrets_are_files(several: dict[str, dict]) -> None:
    """Mounted for the process's group alone; no container has one in its environment."""
    for pod in pods(several):
        volumes = {one["name"]: one for one in pod["volumes"]}
        assert {0o440} == {volumes[name]["projected"]["defaultMode"] for name in ("secrets", "more-secrets")}
        names = [one["secret"]["name"] for one in volumes["secrets"]["projected"]["sources"]]
        assert ["strata-proxy", "strata-database", "s3"] == names
    for one in containers(several):
        assert not [name for name in one["env"] if "valueFrom" in name]


@pytest.mark.parametrize("many", [False, True])
def test_the_server_takes_its_settings(
    single: dict[str, dict], several: dict[str, dict], tmp_path: Path, *, many: bool
) -> None:
    """The environment and the file of each container are a configuration; the commands are there."""
    manifests = several if many else single
    config = tmp_path / "strata.toml"
    config.write_text(manifests["configmap"]["data"]["strata.toml"])
    tomllib.loads(config.read_text())
    files = {"proxy-token": "a-token-of-twenty-characters", "dsn": "postgresql://strata:x@db/strata"}
    for name in ("proxy-token", "dsn", "s3-access-key", "s3-secret-key"):
        (tmp_path / name).write_text(files.get(name, "key"))
    for folder in ("artifacts", "cache", "warehouse"):
        (tmp_path / folder).mkdir()
    for one in containers(manifests):
        environ = {
            pair["name"]: pair["value"]
            .replace("/run/secrets/strata", str(tmp_path))
            .replace("/data", str(tmp_path))
            for pair in one["env"]
        }
        config.write_text(config.read_text().replace("/data", str(tmp_path)))
        settings = load_settings(config_file=config, environ=environ, options={}, cwd=tmp_path).settings
        assert ("service", "trusted_proxy") == (settings.deployment_mode, settings.auth_mode)
        assert (
            many == (settings.artifact_metadata_dsn is not None) == ("s3" == settings.artifact_blob_backend)
        )
        assert ["strata"] == one["command"][:1]
        assert one["command"][1] in ("serve", "check", "migrate")
        mounts = {mount["mountPath"] for mount in one["volumeMounts"]}
        assert {"/etc/strata", "/run/secrets/strata", "/data/artifacts", "/data/cache", "/tmp"} <= mounts


def test_a_restart_loses_no_request(several: dict[str, dict]) -> None:
    """One server at a time: it has its notice and its grace, and the next one waits until it is ready."""
    spec = several["statefulset"]["spec"]
    pod = spec["template"]["spec"]
    server = pod["containers"][0]
    environ = {pair["name"]: pair["value"] for pair in server["env"]}
    notice = int(environ["STRATA_SHUTDOWN_NOTICE_SECONDS"])
    grace = int(environ["STRATA_SHUTDOWN_GRACE_SECONDS"])
    assert pod["terminationGracePeriodSeconds"] > notice + grace + CLOSING_SECONDS
    assert "RollingUpdate" == spec["updateStrategy"]["type"]
    ready = server["readinessProbe"]
    assert ("/health/ready", "/health") == (
        ready["httpGet"]["path"],
        server["livenessProbe"]["httpGet"]["path"],
    )
    # The proxy learns within the notice that the server goes.
    assert ready["periodSeconds"] * ready["failureThreshold"] < notice
    assert 1 == several["poddisruptionbudget"]["spec"]["maxUnavailable"]
    assert "pre-upgrade" == several["migrate"]["metadata"]["annotations"]["helm.sh/hook"]


def test_another_configuration_restarts_the_servers(several: dict[str, dict]) -> None:
    """By an annotation of their pods; the same one does not."""

    def mark(manifests: dict[str, dict]) -> str:
        return manifests["statefulset"]["spec"]["template"]["metadata"]["annotations"]["strata/config"]

    assert mark(several) != mark(rendered(SEVERAL | {"config": "[tool.strata]\n"}))


def test_only_the_proxy_reaches_the_servers(single: dict[str, dict], several: dict[str, dict]) -> None:
    """Monitoring the metrics alone; out of the pods go DNS and what is configured."""

    def ways(manifests: dict[str, dict], direction: str) -> list[tuple[str, list[int]]]:
        key = {"ingress": "from", "egress": "to"}[direction]
        rules = manifests["networkpolicy"]["spec"][direction]
        return [(json.dumps(rule.get(key)), [port["port"] for port in rule["ports"]]) for rule in rules]

    assert [(json.dumps([PROXY]), [8765])] == ways(single, "ingress")
    assert [("null", [53, 53])] == ways(single, "egress")
    assert [[8765], [9465]] == [ports for _, ports in ways(several, "ingress")]
    assert [[53, 53], [5432], [443], [9000]] == [ports for _, ports in ways(several, "egress")]
    assert [1] == [
        place for place, (peers, _) in enumerate(ways(several, "egress")) if "10.0.0.0/24" in peers
    ]


def test_the_service_has_servers_alone(several: dict[str, dict]) -> None:
    """Each has a name of its own in it; the pod that migrates is none, and has the same way to the database."""
    selector = several["service"]["spec"]["selector"]
    server, migrate = (
        several[name]["spec"]["template"]["metadata"]["labels"] for name in ("statefulset", "migrate")
    )
    assert "None" == several["service"]["spec"]["clusterIP"]
    assert several["statefulset"]["spec"]["serviceName"] == several["service"]["metadata"]["name"]
    assert selector.items() <= server.items()
    assert not selector.items() <= migrate.items()
    policy = several["networkpolicy"]["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= server.items()
    assert policy.items() <= migrate.items()


def test_a_single_server_keeps_its_results(single: dict[str, dict]) -> None:
    """In a volume that stays; several have them in the bucket."""
    [claim] = single["statefulset"]["spec"]["volumeClaimTemplates"]
    assert "artifacts" == claim["metadata"]["name"]
    assert "artifacts" not in {one["name"] for one in pods(single)[0]["volumes"]}
