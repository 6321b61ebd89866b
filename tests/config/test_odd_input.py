"""Configurations that a deployment meets by accident: each is understood, or refused with its name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from strata.config import ConfigError
from strata.config.coherence import PATHS
from strata.config.sources import Loaded, load_settings
from strata.config.tenants import parse_overrides
from strata.server.service import contract_of

SERVICE = """
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token = "a-token-of-twenty-characters"
artifact_dir = "artifacts"
cache_dir = "cache"
"""


def load(
    place: Path, toml: str, environ: dict[str, str] | None = None, name: str = "pyproject.toml"
) -> Loaded:
    file = place / name
    file.write_text(toml, "utf-8")
    return load_settings(config_file=file, environ=environ or {}, options={}, cwd=place)


def problems(place: Path, toml: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(place, toml, environ)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("name", ["X_Strata_Scopes", "X.Strata.Scopes", "x-strata-scopes"])
def test_header_names_that_fold_together_are_refused(tmp_path: Path, name: str) -> None:
    """Before a server reads them: on SIGHUP the identity contract of such names raised and ended the process."""
    wrong = problems(tmp_path, SERVICE + f'principal_header = "{name}"\n')

    assert [
        "scopes_header: X-Strata-Scopes already carries principal_header; choose another header."
    ] == wrong


def test_what_is_coherent_makes_an_identity_contract(tmp_path: Path) -> None:
    """The alias of the tenant header in another spelling is the tenant header."""
    found = load(tmp_path, SERVICE + 'tenant_header = "X_Strata_Tenant"\n').settings

    assert "X_Strata_Tenant" == contract_of(found).tenant_header


@pytest.mark.parametrize("setting", ["bulk_slots", "scan_timeout_seconds", "rate_limit_global_rps"])
def test_a_number_of_400_digits_is_too_large(tmp_path: Path, setting: str) -> None:
    """A float cannot hold it and Python raises; a message does not repeat it."""
    (wrong,) = problems(tmp_path, SERVICE + f"{setting} = {'9' * 400}\n")

    assert wrong.startswith(f"{setting}: ")
    assert "is too large" in wrong
    assert len(wrong) < 200


def test_a_number_of_400_digits_in_the_overrides_file_is_too_large() -> None:
    """The file is polled while the server runs: what is in it may end nothing."""
    _found, wrong = parse_overrides(f"[tenants.a]\nweight = {'9' * 400}\n")

    assert 1 == len(wrong)
    assert "too large" in str(wrong[0])


@pytest.mark.parametrize("value", ["5e-324", "1e-300", "0.0009"])
def test_a_rate_next_to_zero_is_too_small(tmp_path: Path, value: str) -> None:
    """A bucket of such a rate is full again after more seconds than a number can say."""
    (wrong,) = problems(tmp_path, SERVICE + f"rate_limit_scan_rps = {value}\n")

    assert (
        f"rate_limit_scan_rps: {float(value)!r} is too small; the minimum is 0.001, and 0 is no limit."
        == wrong
    )


def test_an_alias_that_is_a_warehouse_and_a_catalog_is_refused(tmp_path: Path) -> None:
    """At boot it was a traceback."""
    toml = SERVICE + '[tool.strata.warehouses]\nmain = "w"\n[tool.strata.catalogs.main]\nuri = "sqlite://"\n'

    expected = ["catalogs.main: it is also an alias in warehouses; give one of them another name."]
    assert expected == problems(tmp_path, toml)


def test_what_kubernetes_sets_for_a_service_named_strata_is_ignored_with_a_warning(tmp_path: Path) -> None:
    """Service links are in the environment of each container of the namespace, whatever it runs."""
    links = {
        "STRATA_PORT": "tcp://10.0.0.1:8765",
        "STRATA_SERVICE_HOST": "10.0.0.1",
        "STRATA_SERVICE_PORT": "8765",
        "STRATA_SERVICE_PORT_HTTP": "8765",
        "STRATA_PORT_8765_TCP": "tcp://10.0.0.1:8765",
        "STRATA_PORT_8765_TCP_PROTO": "tcp",
        "STRATA_PORT_8765_TCP_PORT": "8765",
        "STRATA_PORT_8765_TCP_ADDR": "10.0.0.1",
    }
    found = load(tmp_path, SERVICE, links)

    assert 8765 == found.settings.port
    assert "default" == found.sources["port"].name
    assert 1 == len(found.warnings)
    assert "Kubernetes" in found.warnings[0]


@pytest.mark.parametrize("variable", ["STRATA_SERVICE_HOSTS", "STRATA_PORT_TCP", "STRATA_SERVICE"])
def test_a_variable_that_only_resembles_a_service_link_is_unknown(tmp_path: Path, variable: str) -> None:
    """A misspelled setting is never ignored."""
    assert [f"{variable}: unknown variable"] == [
        wrong.partition(";")[0].rstrip(".") for wrong in problems(tmp_path, SERVICE, {variable: "1"})
    ]


def test_relative_paths_of_a_file_are_relative_to_that_file(tmp_path: Path) -> None:
    """Wherever the server is started; those of variables and options mean the working directory."""
    place = tmp_path / "etc"
    place.mkdir()
    (place / "token").write_text("another-token-of-characters\n")
    toml = SERVICE.replace('proxy_token = "a-token-of-twenty-characters"', 'proxy_token_file = "token"')
    file = place / "strata.toml"
    file.write_text(toml + '[tool.strata.warehouses]\nmain = "lake"\nother = "/srv/lake"\nhome = "~/lake"\n')
    found = load_settings(
        config_file=file, environ={"STRATA_CACHE_DIR": "elsewhere"}, options={}, cwd=tmp_path
    ).settings

    assert str(place / "artifacts") == found.artifact_dir
    assert {"main": str(place / "lake"), "other": "/srv/lake", "home": "~/lake"} == found.warehouses
    assert "another-token-of-characters" == found.proxy_token
    assert "elsewhere" == found.cache_dir


@pytest.mark.parametrize(
    "variable", ["STRATA_HOST", "STRATA_CACHE_DIR", "STRATA_PROXY_TOKEN", "STRATA_WAREHOUSES", "STRATA_PORT"]
)
def test_an_empty_variable_is_refused_by_its_name(tmp_path: Path, variable: str) -> None:
    """It would be the working directory, all addresses or no secret; what is meant is to unset it."""
    assert f"{variable}: it is empty; remove it, or give it a value." in problems(
        tmp_path, SERVICE, {variable: ""}
    )


def test_an_empty_name_of_a_secret_file_is_refused(tmp_path: Path) -> None:
    """It is a variable that was meant to be unset, not a file that cannot be read."""
    toml = SERVICE.replace('proxy_token = "a-token-of-twenty-characters"\n', "")
    wrong = problems(tmp_path, toml, {"STRATA_PROXY_TOKEN_FILE": ""})

    assert "STRATA_PROXY_TOKEN_FILE: it is empty; remove it, or name a file." in wrong


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path) -> None:
    """Editors of some systems begin UTF-8 files with one: neither TOML nor a secret has it."""
    (tmp_path / "token").write_text("\ufeffa-token-of-twenty-characters", "utf-8")
    toml = SERVICE.replace('proxy_token = "a-token-of-twenty-characters"', 'proxy_token_file = "token"')

    assert "a-token-of-twenty-characters" == load(tmp_path, "\ufeff" + toml).settings.proxy_token


@pytest.mark.parametrize("setting", ["host", "metrics_host"])
def test_an_address_in_brackets_is_refused_with_the_way_to_write_it(tmp_path: Path, setting: str) -> None:
    """As in a URL: it was looked up as a name, and refused without a hint."""
    expected = [f"{setting}: an address has brackets in a URL only; write ::1 instead of [::1]."]
    assert expected == problems(tmp_path, SERVICE + f'{setting} = "[::1]"\n')


@pytest.mark.parametrize(
    "setting",
    [*(name for name in PATHS if name not in {"artifact_dir", "cache_dir"}), "host", "metrics_host"],
)
def test_an_empty_path_or_address_in_a_file_is_refused_by_its_name(tmp_path: Path, setting: str) -> None:
    """It would be the working directory or all addresses, as an empty variable would."""
    wrong = problems(tmp_path, SERVICE + f'{setting} = ""\n')
    assert f"{setting}: it is empty; remove it, or give it a value." in wrong


@pytest.mark.parametrize("setting", ["artifact_dir", "cache_dir"])
def test_an_empty_directory_in_a_file_is_refused(tmp_path: Path, setting: str) -> None:
    """As above, of the two settings that each configuration here has."""
    wrong = problems(tmp_path, re.sub(rf'{setting} = ".*"', f'{setting} = ""', SERVICE))
    assert any(problem.startswith(f"{setting}: ") for problem in wrong)


def test_an_empty_warehouse_is_refused(tmp_path: Path) -> None:
    """It would be the directory of the configuration file."""
    wrong = problems(tmp_path, SERVICE + '[tool.strata.warehouses]\nmain = ""\n')
    assert ["warehouses.main: it is empty; remove it, or give it a value."] == wrong


@pytest.mark.parametrize(
    "line", ['cache_dir = "loop"', 'metadata_db = "loop"', '[tool.strata.warehouses]\nw = "loop"']
)
def test_a_loop_of_links_is_no_usable_path(tmp_path: Path, line: str) -> None:
    """It was a traceback at a start."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    wrong = problems(tmp_path, SERVICE.replace('cache_dir = "cache"\n', "") + line + "\n")
    assert ["is not a usable path; name another one."] == [text.partition("' ")[2] for text in wrong]
