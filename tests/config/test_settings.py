"""Settings: sources and their precedence, errors, and redacted output."""

import json
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from strata.cli.main import main
from strata.client.wire import HEADERS_VARIABLE, URL_VARIABLE
from strata.config import ConfigError, Problem, Settings
from strata.config.reference import reference
from strata.config.report import effective
from strata.config.sources import CLIENT_VARIABLES, Loaded, load_settings

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-twenty-characters"


def load(tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, **options: object) -> Loaded:
    if toml:
        (tmp_path / "pyproject.toml").write_text(toml)
    return load_settings(config_file=None, environ=environ or {}, options=options, cwd=tmp_path)


def problems(
    tmp_path: Path, toml: str = "", environ: dict[str, str] | None = None, **options: object
) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, toml, environ, **options)
    return [str(problem) for problem in caught.value.problems]


def test_each_source_wins_over_the_one_before(tmp_path: Path) -> None:
    """Precedence rises from defaults over file and environment to options, and each value has its source."""
    toml = "[tool.strata]\nport = 1\nbulk_slots = 2\nbatch_size = 3\n"
    found = load(tmp_path, toml, {"STRATA_PORT": "4", "STRATA_BULK_SLOTS": "5"}, port="6")

    settings = found.settings
    assert (6, 5, 3, 32) == (
        settings.port,
        settings.bulk_slots,
        settings.batch_size,
        settings.interactive_slots,
    )
    sources = [found.sources[key].name for key in ("port", "bulk_slots", "batch_size", "interactive_slots")]
    assert ["--port", "STRATA_BULK_SLOTS", "pyproject.toml", "default"] == sources


def test_a_file_given_by_option_replaces_pyproject(tmp_path: Path) -> None:
    """`--config` replaces pyproject.toml instead of being merged with it."""
    (tmp_path / "pyproject.toml").write_text("[tool.strata]\nport = 1\n")
    other = tmp_path / "other.toml"
    other.write_text("[tool.strata]\nbulk_slots = 2\n")

    found = load_settings(config_file=other, environ={}, options={}, cwd=tmp_path).settings

    assert (8765, 2) == (found.port, found.bulk_slots)


UNKNOWN = [
    ("[tool.strata]\nprot = 1", {}, "prot: unknown setting; did you mean port?"),
    ("[tool.strata]\nzzzzzz = 1", {}, "zzzzzz: unknown setting."),
    ("[tool.strata.warehuses]\na = '/x'", {}, "warehuses: unknown setting; did you mean warehouses?"),
    ("[tool.strata.acl_confg]\ndefault = 'deny'", {}, "acl_confg: unknown setting; did you mean acl_config?"),
    ("[tool.srata]\nport = 1", {}, "tool.srata: unknown section; did you mean tool.strata?"),
    ("", {"STRATA_PROT": "1"}, "STRATA_PROT: unknown variable; did you mean STRATA_PORT?"),
    ("", {"STRATA_MULTITENANT_ENABLED": "true"}, "STRATA_MULTITENANT_ENABLED: unknown variable; did you mean STRATA_MULTI_TENANT_ENABLED?"),
    ("", {"Strata_Port": "1"}, "Strata_Port: variables are upper-case; did you mean STRATA_PORT?"),
    ("", {"STRATA_CATALOGS": "x"}, "STRATA_CATALOGS: cannot be set by a variable; write the table [tool.strata.catalogs]."),
    ("[tool.strata]\nbuild_runner_max_concurrent = 5", {}, "build_runner_max_concurrent: unknown setting."),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "environ", "problem"), UNKNOWN)
def test_what_is_not_understood_is_an_error_that_names_it(
    tmp_path: Path, toml: str, environ: dict, problem: str
) -> None:
    """An unknown setting, section or variable is an error: otherwise a misspelled ACL silently does not apply."""
    assert [problem] == problems(tmp_path, toml, environ)


VALUES = [
    ("port", "abc", "STRATA_PORT: 'abc' is not a whole number."),
    ("port", "1.5", "STRATA_PORT: '1.5' is not a whole number."),
    ("port", "1_0", "STRATA_PORT: '1_0' is not a whole number."),
    ("port", "-1", "STRATA_PORT: '-1' is too small; the minimum is 0."),
    ("port", "65536", "STRATA_PORT: '65536' is too large; the maximum is 65535."),
    ("bulk_slots", "0", "STRATA_BULK_SLOTS: '0' is too small; the minimum is 1."),
    ("scan_timeout_seconds", "nan", "STRATA_SCAN_TIMEOUT_SECONDS: 'nan' is not a number."),
    ("scan_timeout_seconds", "inf", "STRATA_SCAN_TIMEOUT_SECONDS: 'inf' is not a number."),
    ("multi_tenant_enabled", "maybe", "STRATA_MULTI_TENANT_ENABLED: 'maybe' is neither true nor false."),
    ("log_level", "info", "STRATA_LOG_LEVEL: 'info' is not one of DEBUG, INFO, WARNING, ERROR."),
    ("deployment_mode", "servce", "STRATA_DEPLOYMENT_MODE: 'servce' is not one of personal, service; did you mean service?"),
    ("warehouses", "wh", "STRATA_WAREHOUSES: 'wh' is not of the form alias=value."),
    ("warehouses", "a=/x,a=/y", "STRATA_WAREHOUSES: alias a is given twice; remove one."),
]  # fmt: skip


@pytest.mark.parametrize(("key", "text", "problem"), VALUES)
def test_a_value_of_the_wrong_kind_names_setting_and_value(
    tmp_path: Path, key: str, text: str, problem: str
) -> None:
    """A problem names setting and value, and the permitted range or choices."""
    assert [problem] == problems(tmp_path, "", {f"STRATA_{key.upper()}": text})


def test_toml_types_are_taken_at_their_word(tmp_path: Path) -> None:
    """TOML values are not converted: a quoted number is text, and true is not a number."""
    toml = "[tool.strata]\nport = '1'\nbulk_slots = true\nmulti_tenant_enabled = 1\nlog_level = 3\ncatalogs = {a = 1}\n"

    assert [
        "port: '1' is not a whole number.",
        "bulk_slots: True is not a whole number.",
        "multi_tenant_enabled: 1 is neither true nor false.",
        "log_level: 3 is not text; quote it.",
        "catalogs: a is not a table whose values are text.",
    ] == problems(tmp_path, toml)


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
    """Unknown names, wrong values and incoherent settings are reported together."""
    found = problems(
        tmp_path, "[tool.strata]\nx = 1\nport = 'y'\ndeployment_mode = 'service'\n", {"STRATA_Q": ""}
    )

    assert ["x", "port", "STRATA_Q", "auth_mode", "artifact_dir"] == [item.split(":")[0] for item in found]


SERVICE = {
    "STRATA_DEPLOYMENT_MODE": "service",
    "STRATA_AUTH_MODE": "trusted_proxy",
    "STRATA_ARTIFACT_DIR": "/tmp/strata-test-artifacts",
}


def test_a_secret_may_be_a_file(tmp_path: Path) -> None:
    """A secret can be given as a file; its final line break is not part of it."""
    secret = tmp_path / "token"
    secret.write_text(TOKEN + "\n")

    assert (
        TOKEN == load(tmp_path, "", SERVICE | {"STRATA_PROXY_TOKEN_FILE": str(secret)}).settings.proxy_token
    )


def test_a_secret_file_that_cannot_serve_is_an_error(tmp_path: Path) -> None:
    """A secret file that is missing, empty, or given beside the secret itself is an error."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "token").write_text(TOKEN)
    for path, environ, problem in (
        ("nope", {}, "STRATA_PROXY_TOKEN_FILE: the file cannot be read; check its path and permissions."),
        ("empty", {}, "STRATA_PROXY_TOKEN_FILE: the file is empty; write the secret into it."),
        ("token", {"STRATA_PROXY_TOKEN": TOKEN}, "STRATA_PROXY_TOKEN_FILE: proxy_token is set, too; keep proxy_token or proxy_token_file."),
    ):  # fmt: skip
        found = problems(tmp_path, "", SERVICE | environ | {"STRATA_PROXY_TOKEN_FILE": str(tmp_path / path)})
        assert problem in found


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    """No secret is in `strata config`, a repr or a problem, also none inside catalogs."""
    toml = """
    [tool.strata.catalogs.lake]
    type = "sql"
    uri = "postgresql://me:S3CRET@db/x?password=S3CRET"
    "adls.connection-string" = "S3CRET"
    "header.X-Auth" = "S3CRET"
    "s3.secret-access-key" = "S3CRET"
    token = "S3CRET"
    """
    environ = SERVICE | {"STRATA_PROXY_TOKEN": "S3CRET" * 5, "STRATA_S3_SECRET_KEY": "S3CRET"}
    found = load(tmp_path, toml, environ)

    shown = json.dumps(effective(found))
    assert "S3CRET" not in shown
    assert "db/x" in shown
    assert "S3CRET" not in repr(found.settings).replace(repr(found.settings.catalogs), "")
    assert "S3CRET" not in "".join(problems(tmp_path, toml, environ | {"STRATA_PROXY_TOKEN": "S3CRET"}))


def test_the_product_pages_environment_loads(tmp_path: Path) -> None:
    """The environment of the product page loads verbatim, with its placeholders filled in."""
    environ = {
        "STRATA_DEPLOYMENT_MODE": "service",
        "STRATA_AUTH_MODE": "trusted_proxy",
        "STRATA_PROXY_TOKEN": TOKEN,
        "STRATA_ARTIFACT_DIR": str(tmp_path / "artifacts"),
        "STRATA_MULTI_TENANT_ENABLED": "true",
        "STRATA_REQUIRE_TENANT_HEADER": "true",
        "STRATA_TENANT_HEADER": "X-Tenant-ID",
    }

    assert load(tmp_path, "", environ).settings.require_tenant_header


ACL = """
[tool.strata.acl_config]
# deny rules evaluate first; explicit denies cannot be bypassed.
[[tool.strata.acl_config.deny]]
principal = "guest@example.com"
resource = "tables/internal/*"
[[tool.strata.acl_config.allow]]
principal = "analyst@example.com"
resource = "tables/marketing/*"
scope = "notebook:write"
# default action when no rule matches (default: "deny")
default = "deny"
"""


def test_the_product_pages_acl_block_boots_with_a_warning(tmp_path: Path) -> None:
    """The rules of the product page load with a warning, although TOML puts their default into the last rule."""
    environ = SERVICE | {"STRATA_PROXY_TOKEN": TOKEN, "STRATA_WAREHOUSES": f"wh={tmp_path / 'wh'}"}
    found = load(tmp_path, ACL, environ)

    policy = found.settings.acl_config
    assert policy is not None
    assert ("deny", 1, 1) == (policy.default, len(policy.deny), len(policy.allow))
    assert any("default" in warning for warning in found.warnings)
    alias = load(tmp_path, ACL.replace("acl_config", "acl"), environ)
    assert policy == alias.settings.acl_config


def test_wrong_rules_refuse_the_whole_configuration(tmp_path: Path) -> None:
    """A configuration with wrong rules is refused with every problem, each reported once."""
    toml = ACL.replace('scope = "notebook:write"', 'scop = "x"') + "[tool.strata.acl]\ndefault = 'deny'\n"
    found = problems(tmp_path, toml, SERVICE | {"STRATA_PROXY_TOKEN": TOKEN})

    assert any("scop" in item for item in found)
    assert "acl: the rules are given twice; keep [tool.strata.acl_config] or [tool.strata.acl]." in found


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    """A file that is missing, not TOML, or without [tool.strata] is named in the problem."""
    (tmp_path / "bad.toml").write_text("[tool")
    (tmp_path / "none.toml").write_text("[tool.x]")
    for name, words in (
        ("gone.toml", "cannot be read"),
        ("bad.toml", "not valid TOML"),
        ("none.toml", "no [tool.strata]"),
    ):
        with pytest.raises(ConfigError, match="--config") as caught:
            load_settings(config_file=tmp_path / name, environ={}, options={}, cwd=tmp_path)
        assert words in str(caught.value)


def test_strata_check_says_what_the_server_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`strata check` summarizes the server or exits with 1 and all problems, and creates no files."""
    monkeypatch.chdir(tmp_path)
    good = CliRunner().invoke(main, ["check", "--json"], env=SERVICE | {"STRATA_PROXY_TOKEN": TOKEN})
    assert 0 == good.exit_code, good.output
    assert "trusted" not in json.loads(good.output)["identity"]["authentication"]
    assert "service" == json.loads(good.output)["mode"]["deployment_mode"]
    text = CliRunner().invoke(main, ["check"], env=SERVICE | {"STRATA_PROXY_TOKEN": TOKEN})
    assert "no problems" in text.output
    bad = CliRunner().invoke(
        main, ["check", "--json"], env={"STRATA_DEPLOYMENT_MODE": "service", "STRATA_X": "1"}
    )
    assert 1 == bad.exit_code
    assert ["STRATA_X", "auth_mode", "artifact_dir"] == [
        p["setting"] for p in json.loads(bad.output)["problems"]
    ]
    assert [] == list(tmp_path.iterdir())


def test_strata_serve_refuses_what_strata_check_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`strata serve` exits with 1 and all problems, without a traceback."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["serve"], env={"STRATA_DEPLOYMENT_MODE": "service", "STRATA_X": "1"})

    assert 1 == result.exit_code
    assert "3 problems in the configuration" in result.output
    assert "Traceback" not in result.output


def test_strata_config_shows_values_and_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`strata config` prints each value with its source, as text and as JSON."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["config", "--json", "--port", "9"], env={"STRATA_BULK_SLOTS": "3"})
    found = json.loads(result.output)

    assert {"value": 9, "source": "--port"} == found["port"]
    assert {"value": 3, "source": "STRATA_BULK_SLOTS"} == found["bulk_slots"]
    assert "STRATA_BULK_SLOTS" in CliRunner().invoke(main, ["config"], env={"STRATA_BULK_SLOTS": "3"}).output


def test_strata_config_of_what_does_not_load_says_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`strata config` of a wrong configuration exits with 1 and prints its problems, as text or as JSON."""
    monkeypatch.chdir(tmp_path)
    broken = {"STRATA_X": "1"}
    found = CliRunner().invoke(main, ["config", "--json"], env=broken)
    assert (1, False) == (found.exit_code, json.loads(found.stdout)["ok"])
    assert ["STRATA_X"] == [item["setting"] for item in json.loads(found.stdout)["problems"]]
    assert json.loads(found.stdout) == json.loads(
        CliRunner().invoke(main, ["check", "--json"], env=broken).stdout
    )
    text = CliRunner().invoke(main, ["config"], env=broken)
    assert (1, True) == (text.exit_code, "1 problem in the configuration" in text.output)


def test_no_command_prints_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `strata check` nor `strata config` prints a secret, as text or JSON, of a right or wrong configuration."""
    monkeypatch.chdir(tmp_path)
    secret = "S3CRET-of-twenty-characters"
    (tmp_path / "pyproject.toml").write_text(
        f"[tool.strata.catalogs.lake]\nuri = 'postgresql://me:{secret}@db/x'\ntoken = '{secret}'\n"
    )
    given = dict.fromkeys(("STRATA_PROXY_TOKEN", "STRATA_PROXY_TOKEN_PREVIOUS", "STRATA_S3_SECRET_KEY", "STRATA_S3_ACCESS_KEY"), secret)  # fmt: skip
    for environ in (SERVICE | given, given | {"STRATA_DEPLOYMENT_MODE": "service", "STRATA_PORT": "x"}):
        for command in (["check"], ["check", "--json"], ["config"], ["config", "--json"]):
            result = CliRunner().invoke(main, command, env=environ)
            assert ("STRATA_PORT" in environ) == bool(result.exit_code), result.output
            assert result.output
            assert "S3CRET" not in result.output


def test_the_settings_reference_is_the_settings() -> None:
    """The page equals the output of `python -m strata.config.reference`."""
    page = ROOT / "docs" / "reference" / "settings.md"

    assert reference() == page.read_text()


def test_a_problem_reads_as_a_sentence_about_its_setting() -> None:
    """The text of a problem or ConfigError is `setting: sentence`, as logs and exceptions need it."""
    assert "port: it is odd." == str(Problem("port", "it is odd."))
    assert "port: it is odd." == str(ConfigError((Problem("port", "it is odd."),)))
    assert "proxy_token" not in repr(Settings(proxy_token="x" * 20))


def test_every_setting_is_taken_from_its_variable(tmp_path: Path) -> None:
    """None is passed over in silence: a variable is a setting's, or one of the client's, or refused."""
    taken = {}
    for field in attrs.fields(Settings):
        if not field.metadata["toml_only"]:
            environ = {f"STRATA_{field.name.upper()}": "no such value, of any kind"}
            try:
                found = load(tmp_path, environ=environ)
            except ConfigError as error:
                taken[field.name] = any(field.name in str(one).lower() for one in error.problems)
            else:
                taken[field.name] = field.name in found.sources and "STRATA" in found.sources[field.name].name
    assert [] == [name for name, known in taken.items() if not known]
    assert "client_stall_seconds" in taken


def test_variables_of_the_client_are_no_settings(tmp_path: Path) -> None:
    """They are passed over, by their whole names: others that begin like them are refused."""
    assert {URL_VARIABLE, HEADERS_VARIABLE} == set(CLIENT_VARIABLES)
    environ = dict.fromkeys(CLIENT_VARIABLES, "x")
    assert Settings() == load(tmp_path, environ=environ).settings
    assert ["STRATA_CLIENT_UR: unknown variable"] == [
        problem[:34] for problem in problems(tmp_path, environ={"STRATA_CLIENT_UR": "x"})
    ]
