"""Identity of results."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.artifacts import canonical_json, provenance_hash, query_hash, tenant_prefix

SCAN = {"executor": "scan@v1", "params": {"columns": None}}


def test_input_order_is_part_of_the_identity() -> None:
    """A past error: f(a, b) and f(b, a) shared one result."""
    assert provenance_hash("t", SCAN, [("a", "1"), ("b", "2")]) != provenance_hash(
        "t", SCAN, [("b", "2"), ("a", "1")]
    )


def test_tenant_transform_and_versions_are_part_of_it() -> None:
    """Each of them changes the result's hash; the query hash ignores versions only."""
    base = provenance_hash("t", SCAN, [("a", "1")])
    others = {
        provenance_hash("u", SCAN, [("a", "1")]),
        provenance_hash("t", SCAN | {"executor": "scan@v2"}, [("a", "1")]),
        provenance_hash("t", SCAN | {"params": {"columns": []}}, [("a", "1")]),
        provenance_hash("t", SCAN, [("a", "2")]),
        query_hash("t", SCAN, ["a"]),
        query_hash("u", SCAN, ["a"]),
    }
    assert 6 == len(others - {base})


def test_no_columns_and_all_columns_differ() -> None:
    """A past error: a request without columns gave another user a result with zero columns."""
    assert canonical_json({"columns": None}) != canonical_json({"columns": []})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_key_order_makes_no_difference(value: dict) -> None:
    """A value has one canonical text."""
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_what_json_cannot_say_is_refused() -> None:
    """NaN is not equal to itself, so it cannot identify a result."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": float("nan")})


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_tenants_directory_is_a_name_and_its_own(one: str, other: str) -> None:
    """The directory name is a hash, never the tenant's id."""
    assert tenant_prefix(one).isalnum()
    assert (one == other) == (tenant_prefix(one) == tenant_prefix(other))
