"""Table URIs: parsed lexically, with one canonical name per table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.outcomes import Reason, Refused
from strata.tables.catalogs.refs import CatalogName, TableRef, WarehouseName, parse_table_uri, table_uri


@pytest.mark.parametrize(
    "uri",
    [
        "file:///wh/a#ns.t",
        "file:///wh//a#ns.t",
        "file:///wh/./a/#ns.t",
        "file:///wh/b/../a#ns.t",
        "file:///../wh/a#ns.t",
        "file:///wh/%61#ns.t",
        "file:///wh%2Fa#ns.t",
        "file:/wh/a#ns.t",
        "FILE:///wh/a#ns.t",
        "file://localhost/wh/a#ns.t",
        "file:////wh/a#ns.t",
        "file:///wh/a#n%73.t",
    ],
)
def test_spellings_of_one_warehouse_are_one_name(uri):
    """Dots, slashes, escapes, case of the scheme and the local host make no difference."""
    assert WarehouseName("/wh/a", ("ns",), "t") == parse_table_uri(uri)


def test_a_catalog_is_named_by_its_alias():
    """``<catalog>:namespace.table``, with namespaces of any depth."""
    assert CatalogName("prod", ("a", "b"), "t") == parse_table_uri("prod:a.b.t")


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "t",
        "ns.t",
        "file:///wh/a",
        "file:///wh/a#t",
        "file:///wh/a#.t",
        "file:///wh/a#ns.",
        "file:///wh/a#ns..t",
        "file:///wh/a#ns.t/u",
        "file:///wh/a#ns/x.t",
        "file:///wh/a#ns%2Fx.t",
        "file:///wh/a# ns.t",
        "file:///wh/a#ns.t%0A",
        "file:///wh/a?x=1#ns.t",
        "file://elsewhere/wh#ns.t",
        "file://[/wh#ns.t",
        "file:wh#ns.t",
        "file:///wh%00#ns.t",
        "strata://artifact/1@v=2",
        "s3://bucket/wh#ns.t",
        "http://host/ns.t",
        ":ns.t",
        "pro d:ns.t",
        "prod:t",
        "prod:ns.t\x00",
        "prod:" + "n" * 3000 + ".t",
    ],
)
def test_what_is_no_table_uri_is_refused_whatever_is_configured(uri):
    """Malformed names are refused as the client's error and reveal nothing about the server."""
    refused = parse_table_uri(uri)
    assert isinstance(refused, Refused)
    assert Reason.BAD_REQUEST is refused.reason
    assert ("body", "inputs") == refused.loc


def test_the_acl_sees_catalog_namespace_and_table():
    """The resource of a table includes its warehouse."""
    assert "tables/prod/a.b/t" == TableRef("prod", ("a", "b"), "t").resource


@pytest.mark.parametrize(
    ("uri", "namespace", "table"),
    [
        ('prod:a."b.c"', ("a",), "b.c"),
        ('prod:"a.b".c', ("a.b",), "c"),
        ('prod:a.say "x"', ("a",), 'say "x"'),
        ('prod:a."""x"', ("a",), '"x'),
        ('prod:a." x "', ("a",), " x "),
        ('prod:a."b"', ("a",), "b"),
        ("prod:a.50%2E", ("a",), "50%2E"),
    ],
)
def test_a_part_of_a_name_in_quotes_may_contain_dots(
    uri: str, namespace: tuple[str, ...], table: str
) -> None:
    """Quotes at the beginning of a part enclose it; elsewhere they are characters, as is a percent sign."""
    assert CatalogName("prod", namespace, table) == parse_table_uri(uri)


@pytest.mark.parametrize("name", ['a."b', 'a."b"c', 'a.""', '"a".', ".a", 'a."b/c"', '"', 'a."b""'])
def test_a_name_with_wrong_quotes_is_refused(name: str) -> None:
    """It names no table, and not another one."""
    assert isinstance(parse_table_uri(f"prod:{name}"), Refused)


PARTS = st.text(st.sampled_from("ab.\"% *'`ü#?&"), min_size=1, max_size=6)


@given(st.lists(PARTS, min_size=2, max_size=4), st.sampled_from(["prod", "file:///w h/%41"]))
def test_the_uri_of_a_table_names_that_table(parts: list[str], catalog: str) -> None:
    """Whatever characters its name has, but those that no URI can have."""
    ref = TableRef(catalog, tuple(parts[:-1]), parts[-1])
    uri = table_uri(ref)
    assert uri is not None
    named = parse_table_uri(uri)
    path = WarehouseName("/w h/%41", ref.namespace, ref.table)
    assert named == (path if catalog != "prod" else CatalogName("prod", ref.namespace, ref.table))


@pytest.mark.parametrize("part", ["", "a/b", "a\\b", "a\nb", "n" * 3000])
def test_a_table_that_no_uri_can_name_has_none(part: str) -> None:
    """It is left out of listings."""
    assert table_uri(TableRef("prod", ("a",), part)) is None
    assert table_uri(TableRef("prod", (part,), "a")) is None
