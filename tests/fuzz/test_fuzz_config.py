"""Configuration files, STRATA_* variables and access rules: settings, or a list of all problems."""

from __future__ import annotations

import os
from pathlib import Path

import attrs
import pytest
from fuzz_kit import SECRET, damaged, documents, fuzz, scalars, texts
from hypothesis import given
from hypothesis import strategies as st

from strata.acl import ACTIONS, PolicyError, Request, evaluate, parse_policy, resource_name
from strata.config import ConfigError, Settings
from strata.config.report import effective
from strata.config.sources import Loaded, load_settings

pytestmark = pytest.mark.slow

SECRETS = [field.name for field in attrs.fields(Settings) if field.metadata["secret"]]
KEYS = [field.name for field in attrs.fields(Settings)]
OPTIONS = [field.name for field in attrs.fields(Settings) if not field.metadata["toml_only"]]

SOUND = """
[tool.strata]
deployment_mode = "service"
auth_mode = "trusted_proxy"
proxy_token = "a-token-of-twenty-characters"
artifact_dir = "{place}/artifacts"
cache_dir = "{place}/cache"
multi_tenant_enabled = true
max_tenants = 10
shutdown_grace_seconds = 2.5
[tool.strata.warehouses]
wh = "{place}/wh"
[tool.strata.catalogs.lake]
type = "sql"
uri = "sqlite:////tmp/lake.db"
[tool.strata.acl_config]
[[tool.strata.acl_config.deny]]
principal = "guest@example.com"
resource = "tables/internal/*"
[[tool.strata.acl_config.allow]]
principal = "*@example.com"
resource = "tables/wh/db/*"
default = "deny"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config")


def load(
    place: Path, toml: bytes | None, environ: dict[str, str], options: dict[str, object]
) -> Loaded | ConfigError:
    file = place / "strata.toml"
    if toml is not None:
        file.write_bytes(toml)
    try:
        return load_settings(
            config_file=file if toml is not None else None, environ=environ, options=options, cwd=place
        )
    except ConfigError as error:
        assert error.problems
        assert all(problem.setting and problem.message for problem in error.problems)
        return error


words = st.sampled_from(
    [
        b"true",
        b"-1",
        b"0",
        b"1e400",
        b"nan",
        b"inf",
        b"''",
        b"[]",
        b"{}",
        b"1979-05-27",
        b"[tool.strata.acl]",
        b"\n",
        b"=",
        b'"',
        b"[[",
        b".",
        b"\xff",
        b"99999999999999999999",
        b"port = ",
        b"deny = ",
        b"tool = 1",
        b"[tool]",
        b"strata = 1",
        b"[" * 3000,
        b"9" * 5000,
        b'"\\u0000"',
    ]
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    lines = SOUND.splitlines()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        key, equals, _value = lines[at].partition(" = ")
        match draw(st.integers(0, 3)):
            case 0 if equals:
                lines[at] = f"{key} = {draw(words).decode('latin-1')}"
            case 1:
                lines.insert(at, lines[draw(st.integers(0, len(lines) - 1))])
            case 2:
                del lines[at]
            case _ if equals:
                lines[at] = f"{draw(st.sampled_from([*KEYS, 'prot', 'tool', 'acl']))} = {_value}"
    return "\n".join(lines).encode("latin-1", "replace")


@fuzz
@given(
    toml=st.one_of(
        files(),
        damaged(st.just(SOUND.encode())),
        st.lists(words, max_size=8).map(b" ".join),
        st.binary(max_size=60),
    )
)
def test_any_file_is_settings_or_a_list_of_what_is_wrong(place, toml) -> None:
    """Settings that load can be shown, each with its source."""
    found = load(place, toml.replace(b"{place}", str(place).encode()), {}, {})
    if isinstance(found, Loaded):
        assert {item.name for item in attrs.fields(Settings)} == set(found.sources)
        str(effective(found))


values = st.one_of(
    st.sampled_from(
        [
            "",
            " ",
            "true",
            "TRUE",
            "no",
            "0",
            "-1",
            "1_000",
            "1e3",
            "inf",
            "nan",
            "9" * 30,
            "0x10",
            "a=b",
            "a=b,a=c",
            "=,=",
            "service",
            "trusted_proxy",
            "127.0.0.1",
            "0.0.0.0",
            "X-Y",
            "::1%eth0",
            "/proc/self/mem",
            "/dev/null",
            "~nobody-such/x",
            "~",
        ]
    ),
    # An environment can hold all but NUL, and bytes outside UTF-8 as os.environ shows them.
    texts.map(lambda text: os.fsdecode(text.encode("utf-8", "surrogatepass").replace(b"\0", b""))),
)
environs = st.dictionaries(
    st.one_of(
        st.sampled_from([f"STRATA_{key.upper()}" for key in [*KEYS, *(f"{key}_file" for key in SECRETS)]]),
        st.sampled_from(["STRATA_", "STRATA_PROT", "strata_port", "STRATA_ACL", "PATH", "Strata_Host"]),
        texts.map("STRATA_{}".format),
    ),
    values,
    max_size=4,
)


@fuzz
@given(
    environ=environs,
    options=st.dictionaries(st.sampled_from(OPTIONS), st.one_of(scalars, values), max_size=1),
)
def test_any_environment_is_settings_or_a_list_of_what_is_wrong(place, environ, options) -> None:
    """Any variable with any text; one setting is also given as an option."""
    found = load(place, None, environ, options)
    if isinstance(found, Loaded):
        assert all(name == name.upper() for name in environ if name.upper().startswith("STRATA_"))
        str(effective(found))


@fuzz
@given(
    key=st.sampled_from(SECRETS),
    secret=st.one_of(
        st.just(SECRET),
        texts.map(lambda text: SECRET + text),
        texts.map(lambda text: text + SECRET),
        st.just([SECRET]),
        st.just({"a": SECRET}),
        st.just(SECRET[:9]),
    ),
    more=environs,
)
def test_no_secret_is_in_a_problem_or_a_report(place, key, secret, more) -> None:
    """Neither a valid secret, nor a malformed one, nor one beside other problems is repeated."""
    environ = {name: text for name, text in more.items() if SECRET[:9] not in text}
    if isinstance(secret, str):
        environ |= {
            f"STRATA_{key.upper()}": secret,
            "STRATA_AUTH_MODE": "trusted_proxy",
            "STRATA_DEPLOYMENT_MODE": "service",
        }
        found = load(place, None, environ, {})
    else:
        written = f"['{SECRET}']" if isinstance(secret, list) else f"{{a = '{SECRET}'}}"
        found = load(place, f"[tool.strata]\n{key} = {written}\n".encode(), environ, {})
    shown = f"{found!r} {effective(found)}" if isinstance(found, Loaded) else f"{found} {found!r}"
    assert SECRET[:9] not in shown


segments = st.one_of(
    st.sampled_from(
        [
            "tables",
            "artifacts",
            "**",
            "*",
            "wh",
            "lake",
            "db",
            "a*b",
            "%25",
            "%2F",
            "%2A",
            "%",
            "",
            "tables/**",
            "admin",
        ]
    ),
    texts,
)
patterns = st.one_of(
    st.lists(segments, min_size=1, max_size=5).map("/".join),
    st.builds("tables/{}/{}".format, segments, segments),
    st.builds("tables/{}/{}/{}".format, segments, segments, segments),
)
principals = st.one_of(
    st.sampled_from(["*", "ana", "ana@example.com", "*@example.com", "*@", "@", "a*b"]), texts
)
rules = st.one_of(
    st.fixed_dictionaries(
        {"principal": principals, "resource": patterns},
        optional={
            "tenant": texts | st.just("team-a"),
            "scope": texts | st.sampled_from(["admin:*", "notebook:x"]),
            "action": st.sampled_from([*ACTIONS, "raed"]),
        },
    ),
    st.fixed_dictionaries(
        {"principal": principals, "resource": patterns}, optional={"default": scalars, "pricnipal": scalars}
    ),
    documents,
)
policies = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "deny": st.lists(rules, max_size=2) | documents,
            "allow": st.lists(rules, max_size=2) | documents,
            "default": st.sampled_from(["deny", "allow"]) | scalars,
            "alow": scalars,
        },
    ),
    st.fixed_dictionaries(
        {
            "allow": st.lists(
                st.fixed_dictionaries({"principal": principals, "resource": patterns}), max_size=3
            )
        }
    ),
    documents,
)
catalogs = st.sampled_from([None, (), ("wh",), ("wh", "lake")])
requests = st.builds(
    Request,
    principal=principals,
    tenant=st.sampled_from(["team-a", "_default"]) | texts,
    scopes=st.frozensets(st.sampled_from(["admin:*", "notebook:x"]) | texts, max_size=2),
    resource=patterns,
    action=st.sampled_from(ACTIONS),
)


def written(policy) -> dict[str, object]:
    """Write a policy as the configuration file that means it."""
    keys = ("principal", "resource", "tenant", "scope", "action")
    lists = {
        effect: [
            {key: getattr(rule, key) for key in keys if getattr(rule, key) is not None}
            for rule in getattr(policy, effect)
        ]
        for effect in ("deny", "allow")
    }
    return {**lists, "default": policy.default}


@fuzz
@given(mapping=policies, known=catalogs, request=requests)
def test_any_rules_are_a_policy_or_a_list_of_what_is_wrong(mapping, known, request) -> None:
    """A policy decides any request, survives printing and parsing, and denies malformed resources."""
    try:
        policy, _warnings = parse_policy(mapping, known)
    except PolicyError as error:
        assert error.problems
        return
    assert (policy, ()) == parse_policy(written(policy), known)
    decision = evaluate(policy, request)
    if any(rule is decision.rule for rule in policy.deny):
        assert not decision.allowed
    if not (policy.allow or policy.default == "allow"):
        assert not decision.allowed


@fuzz
@given(mapping=policies, request=requests, names=st.tuples(texts, texts, texts))
def test_a_denied_table_is_denied_whatever_is_allowed(mapping, request, names) -> None:
    """A deny rule for a table's own name applies to that table, whatever characters the name has."""
    if not all(names):
        return
    resource = resource_name("tables", *names)
    mapping = mapping if isinstance(mapping, dict) else {}
    deny = [{"principal": "*", "resource": resource}]
    try:
        policy, _warnings = parse_policy(
            {"allow": mapping.get("allow", []), "deny": deny, "default": "allow"}
        )
    except PolicyError:
        return
    assert not evaluate(policy, attrs.evolve(request, resource=resource)).allowed
