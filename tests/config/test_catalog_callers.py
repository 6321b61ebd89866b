"""Catalogs that are asked as the caller: each mistake of the configuration is named with its way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest

from strata.config import Settings
from strata.config.fields import CatalogCallers
from strata.config.report import shown
from strata.config.sections.catalog_callers import caller_coherence, parse_callers

HEADER = {"pass_by": "header"}
EXCHANGE = {"pass_by": "token_exchange", "token_url": "https://id.example.com/token", "credential_file": "c"}


def test_what_is_written_is_read() -> None:
    """A path of the file is relative to it."""
    found, problems = parse_callers({"a": HEADER, "b": EXCHANGE}, lambda text: f"/etc/{text}")
    assert [] == problems
    assert CatalogCallers("header") == found["a"]
    assert "/etc/c" == found["b"].credential_file


MISTAKES: list[tuple[Any, str]] = [
    (5, "must be a table"),
    ({}, ".pass_by: it is missing; write header or token_exchange"),
    ({"pass_by": "cookie"}, "'cookie' is not one of header, token_exchange"),
    ({"pass_by": 5}, "5 is not one of header"),
    (HEADER | {"heder": "x"}, ".heder: unknown key; did you mean header?"),
    (HEADER | {"header": "Authorization"}, "'Authorization' is not a name of a header"),
    (HEADER | {"header": "X: y"}, "is not a name of a header"),
    (HEADER | {"token_url": "https://x"}, ".token_url: it belongs to pass_by = token_exchange"),
    (EXCHANGE | {"header": "X-A"}, ".header: it belongs to pass_by = header"),
    ({"pass_by": "token_exchange"}, ".token_url: it is missing"),
    ({"pass_by": "token_exchange"}, ".credential_file: it is missing"),
    (EXCHANGE | {"token_url": "ftp://x"}, "is not the URL of a token service"),
    (EXCHANGE | {"token_url": "https://a:b@x"}, "without a user in it"),
    (EXCHANGE | {"credential_file": ""}, "the path of a file"),
    (EXCHANGE | {"subject": "saml"}, "'saml' is not one of jwt, identity"),
    (EXCHANGE | {"subject": "identity"}, ".subject_token_type: it is missing"),
    (EXCHANGE | {"subject_token_type": "jwt"}, "'jwt' is not a URI"),
    (EXCHANGE | {"scope": " "}, "' ' is not a text of 1 to 1024"),
    (HEADER | {"identity": "strata"}, "is not a form such as {principal}"),
    (HEADER | {"identity": "{user}/{principal}"}, "is not a form"),
    (HEADER | {"identity": "{principal}{principal}"}, "is not a form"),
    (HEADER | {"identity": "{tenant}{principal}"}, "with a character such as / between the two"),
    (HEADER | {"identity": "{tenant}-{principal}"}, "with a character such as / between the two"),
]


@pytest.mark.parametrize(("table", "words"), MISTAKES)
def test_a_mistake_is_named(table: object, words: str) -> None:
    """Nothing is ignored: each wrong key and value is a problem that says what to write."""
    found, problems = parse_callers({"lake": table})
    assert {} == found
    assert words in "\n".join(map(str, problems))


def test_forms_that_keep_callers_apart_are_accepted() -> None:
    """A tenant's name has letters, digits, underscores and hyphens only."""
    for form in ("{principal}", "{tenant}/{principal}", "{principal}@{tenant}", "x:{tenant}-/-{principal}"):
        assert [] == parse_callers({"lake": HEADER | {"identity": form}})[1]
    assert ["catalog_callers: must be a table."] == list(map(str, parse_callers(5)[1]))


def faults(settings: Settings, **callers: dict[str, str]) -> str:
    found, problems = parse_callers(callers)
    assert [] == problems
    return "\n".join(map(str, caller_coherence(attrs.evolve(settings, catalog_callers=found))))


def test_a_section_has_to_fit_its_catalog(tmp_path: Path) -> None:
    """It is of a REST catalog that has no identity of its own beside the exchanged one, behind a proxy."""
    rest = {"type": "rest", "uri": "https://catalog.example.com"}
    plain = Settings(deployment_mode="service", auth_mode="trusted_proxy", catalogs={"lake": rest})
    (tmp_path / "c").write_text("id:secret")
    exchange = EXCHANGE | {"credential_file": str(tmp_path / "c")}
    assert "" == faults(plain, lake=HEADER)
    assert "" == faults(plain, lake=exchange)
    assert "no catalog has this alias; did you mean lake?" in faults(plain, lakes=HEADER)
    assert "set auth_mode = trusted_proxy" in faults(attrs.evolve(plain, auth_mode="none"), lake=HEADER)
    tenants = attrs.evolve(plain, multi_tenant_enabled=True)
    assert "identity = '{tenant}/{principal}'" in faults(tenants, lake=HEADER)
    assert "" == faults(tenants, lake=HEADER | {"identity": "{tenant}/{principal}"})
    sql = attrs.evolve(plain, catalogs={"lake": {"type": "sql", "uri": "sqlite:////x.db"}})
    assert "its type must be rest" in faults(sql, lake=HEADER)
    own = attrs.evolve(plain, catalogs={"lake": rest | {"token": "secret"}})
    assert "catalogs.lake.token is the server's own credential" in faults(own, lake=exchange)
    assert "" == faults(own, lake=HEADER)
    for on in ("true", "on", "1", "unclear"):
        signed = attrs.evolve(plain, catalogs={"lake": rest | {"rest.sigv4-enabled": on}})
        for section in (HEADER, exchange):
            assert "catalogs.lake.rest.sigv4-enabled signs each request" in faults(signed, lake=section)
    unsigned = attrs.evolve(plain, catalogs={"lake": rest | {"rest.sigv4-enabled": "False"}})
    assert "" == faults(unsigned, lake=exchange)
    twice = attrs.evolve(plain, catalogs={"lake": rest, "sea": rest})
    assert "catalogs.lake is the same catalog" in faults(twice, lake=HEADER)
    assert "" == faults(twice, lake=HEADER, sea=HEADER)


def test_pyicebergs_own_settings_sign_no_request_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are merged with the catalog's properties, which have the last word."""
    rest = {"type": "rest", "uri": "https://catalog.example.com"}
    plain = Settings(deployment_mode="service", auth_mode="trusted_proxy", catalogs={"lake": rest})
    monkeypatch.setenv("PYICEBERG_CATALOG__LAKE__REST__SIGV4_ENABLED", "true")
    assert "in pyiceberg's own variables or file, rest.sigv4-enabled signs" in faults(plain, lake=HEADER)
    off = attrs.evolve(plain, catalogs={"lake": rest | {"rest.sigv4-enabled": "false"}})
    assert "" == faults(off, lake=HEADER)


def test_the_credential_is_checked_before_the_start(tmp_path: Path) -> None:
    """And never shown, nor its path's content."""
    rest = {"type": "rest", "uri": "https://catalog.example.com"}
    plain = Settings(deployment_mode="service", auth_mode="trusted_proxy", catalogs={"lake": rest})
    path = tmp_path / "c"
    section = EXCHANGE | {"credential_file": str(path)}
    assert "the file cannot be read" in faults(plain, lake=section)
    for text in ("", "secret", ":secret", "id:"):
        path.write_text(text)
        assert "the file must have client_id:client_secret" in faults(plain, lake=section)
    found, _ = parse_callers({"lake": section | {"token_url": "https://id.example.com/token?key=secret"}})
    assert "https://id.example.com/token?(redacted)" == shown("catalog_callers", found)["lake"]["token_url"]
