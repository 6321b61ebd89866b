"""Table URIs: parsed lexically, with one canonical name per table."""

from __future__ import annotations

import pytest

from strata.outcomes import Reason, Refused
from strata.tables.catalogs.refs import CatalogName, TableRef, WarehouseName, parse_table_uri


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
