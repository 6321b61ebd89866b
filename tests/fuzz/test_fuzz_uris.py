"""Table URIs, artifact URIs and names: exactly one reading, or a refusal."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import quote, unquote

import pytest
from fuzz_kit import ODD_TEXT, fuzz, texts
from hypothesis import given
from hypothesis import strategies as st

from strata.acl.patterns import split_resource
from strata.client.answers import artifact_path, name_path
from strata.outcomes import Reason, Refused
from strata.tables import Catalogs
from strata.tables.catalogs.refs import CatalogName, TableRef, WarehouseName, normalise_path, parse_table_uri
from strata.tenants.shared.authorizer import table_resource

pytestmark = pytest.mark.slow

pieces = st.one_of(
    st.sampled_from(
        [
            "file:",
            "FILE://",
            "//",
            "///",
            "/srv/wh",
            "/srv/./wh/",
            "/srv/x/../wh",
            "%2e%2e",
            "%2F",
            "%00",
            "%",
            "%E9",
            "localhost",
            "evil.example",
            "[::1",
            "#",
            "db",
            ".",
            "events",
            "wh",
            ":",
            "?",
            "@",
            "s3://",
            "http://169.254.169.254/",
            "strata://artifact/",
            "strata://name/",
            "@v=1",
            "@v=00",
        ]
    ),
    texts,
)
uris = st.one_of(
    st.lists(pieces, max_size=7).map("".join),
    st.builds("file://{}#{}.{}".format, pieces, pieces, pieces),
    st.builds("{}:{}.{}".format, pieces, pieces, pieces),
)
CATALOGS = Catalogs(
    warehouses={"wh": Path("/srv/wh")},
    catalogs={"lake": {"type": "sql", "uri": "sqlite:////srv/lake.db"}},
    any_file_warehouse=False,
)
ANYWHERE = Catalogs(warehouses={"wh": Path("/srv/wh")}, catalogs={}, any_file_warehouse=True)


@fuzz
@given(uri=uris)
def test_a_table_uri_is_read_in_one_way_or_refused(uri) -> None:
    """Written again, the reading parses to the same."""
    found = parse_table_uri(uri)
    if isinstance(found, Refused):
        assert Reason.BAD_REQUEST is found.reason
        assert len(uri) < 16 or uri not in found.detail
        return
    identifier = ".".join((*found.namespace, found.table))
    assert not re.search(r"[\x00-\x1f\x7f/\\]", identifier)
    if isinstance(found, CatalogName):
        assert found == parse_table_uri(f"{found.alias}:{identifier}")
    else:
        assert isinstance(found, WarehouseName)
        assert posixpath.isabs(found.path)
        assert ".." not in found.path.split("/")
        assert found.path == normalise_path(found.path)
        path = quote(found.path, errors="surrogateescape")
        assert (
            found == parse_table_uri(f"file://{path}#{quote(identifier, errors='surrogatepass')}")
            or "\ufffd" in identifier
            or not identifier.isprintable()
        )


@fuzz
@given(uri=uris)
def test_service_mode_names_configured_warehouses_only(uri) -> None:
    """In any spelling; an unconfigured name is answered like a missing table."""
    found = CATALOGS.resolve(uri)
    if isinstance(found, Refused):
        assert found.reason in (Reason.BAD_REQUEST, Reason.NOT_FOUND)
        return
    assert found.catalog in ("wh", "lake")
    anywhere = ANYWHERE.resolve(uri)
    assert found.catalog == "lake" or found == anywhere


@fuzz
@given(uri=uris)
def test_what_the_rules_see_is_the_table_and_nothing_else(uri) -> None:
    """A resource splits into the catalog, namespace and table, whatever characters the names have."""
    for catalogs in (CATALOGS, ANYWHERE):
        ref = catalogs.resolve(uri)
        if isinstance(ref, TableRef):
            assert (
                "tables",
                ref.catalog,
                ".".join(ref.namespace),
                ref.table,
            ) == split_resource(table_resource(ref))


@fuzz
@given(
    uri=st.one_of(
        uris,
        st.builds("strata://artifact/{}@v={}".format, texts, st.one_of(st.integers(), texts)),
        st.builds("strata://name/{}".format, texts),
    )
)
def test_an_artifact_uri_becomes_one_path_of_the_surface_or_none(uri) -> None:
    """The client never requests another route, host or query than the URI's own."""
    for path in (artifact_path(uri), name_path(uri)):
        if path is None:
            continue
        assert path.isascii()
        assert re.fullmatch(r"/v1/(artifacts/[^/?#]+/v/[1-9]\d*|names/[^?#]+)", path)
        assert uri.startswith("strata://artifact/" if path.startswith("/v1/artifacts/") else "strata://name/")
        assert "\r" not in path
        assert "\n" not in path


@fuzz
@given(
    path=st.one_of(
        texts, st.lists(st.sampled_from(["/", "..", ".", "a", "b c"]), max_size=9).map("".join), ODD_TEXT
    )
)
def test_a_normalised_path_is_absolute_stays_so_and_climbs_nowhere(path) -> None:
    """Lexically: `..` at the root is the root."""
    found = normalise_path(path)
    assert found.startswith("/")
    assert not found.startswith("//")
    assert found == normalise_path(found)
    assert ".." not in found.split("/")
    assert unquote(quote(found, errors="surrogatepass"), errors="surrogatepass") == found
