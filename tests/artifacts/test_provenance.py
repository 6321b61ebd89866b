"""Identity of results."""

import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.artifacts import canonical_json, provenance_hash, query_hash, tenant_prefix

KEY = bytes(32)
SCAN = {"executor": "scan@v1", "params": {"columns": None}}


def test_input_order_is_part_of_the_identity() -> None:
    """A past error: f(a, b) and f(b, a) shared one result."""
    assert provenance_hash(KEY, "t", SCAN, [("a", "1"), ("b", "2")]) != provenance_hash(
        KEY, "t", SCAN, [("b", "2"), ("a", "1")]
    )


def test_tenant_transform_and_versions_are_part_of_it() -> None:
    """Each of them changes the result's hash; the query hash ignores versions only."""
    base = provenance_hash(KEY, "t", SCAN, [("a", "1")])
    others = {
        provenance_hash(KEY, "u", SCAN, [("a", "1")]),
        provenance_hash(KEY, "t", SCAN | {"executor": "scan@v2"}, [("a", "1")]),
        provenance_hash(KEY, "t", SCAN | {"params": {"columns": []}}, [("a", "1")]),
        provenance_hash(KEY, "t", SCAN, [("a", "2")]),
        query_hash(KEY, "t", SCAN, ["a"]),
        query_hash(KEY, "u", SCAN, ["a"]),
    }
    assert 6 == len(others - {base})


def test_who_lacks_the_secret_cannot_compute_an_id() -> None:
    """Each store has hashes of its own, of the same form; a plain SHA-256 could be computed by anyone."""
    inputs = [("tables/wh/db/pay", "uuid:1:0")]
    own, other = (provenance_hash(key, "t", SCAN, inputs) for key in (KEY, b"x" * 32))
    plain = canonical_json(["provenance", "t", SCAN, [list(pair) for pair in inputs]]).encode()
    assert 3 == len({own, other, hashlib.sha256(plain).hexdigest()})
    assert re.fullmatch("[0-9a-f]{64}", own)


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


@given(st.text(max_size=3), st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.text(max_size=3))
def test_the_hashes_are_of_one_canonical_list(tenant: str, transform: dict, name: str) -> None:
    """Also of a transform that is canonical JSON already: ids of results stay what they were."""
    inputs = [(name, "1")]
    for kind, found, text, parts in (
        ("provenance", provenance_hash, [[name, "1"]], inputs),
        ("query", query_hash, [name], [name]),
    ):
        whole = canonical_json([kind, tenant, transform, text]).encode()
        expected = hmac.digest(KEY, whole, "sha256").hex()
        assert expected == found(KEY, tenant, transform, parts)  # type: ignore[arg-type]
        assert expected == found(KEY, tenant, canonical_json(transform), parts)  # type: ignore[arg-type]


def test_what_json_cannot_say_is_refused() -> None:
    """NaN is not equal to itself, so it cannot identify a result."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": float("nan")})


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_tenants_directory_is_a_name_and_its_own(one: str, other: str) -> None:
    """The directory name is a hash, never the tenant's id."""
    assert tenant_prefix(one).isalnum()
    assert (one == other) == (tenant_prefix(one) == tenant_prefix(other))


@pytest.mark.parametrize("length", [1, 32, 64, 65, 200])
def test_hashes_are_hmac_sha_256(length: int) -> None:
    """As the standard library computes it, whatever the length of the key; a key's hashes are not used up."""
    secret = bytes(range(length))
    text = canonical_json(["query", "t", {"a": 1}, ["u"]]).encode()
    for _ in range(2):
        assert hmac.digest(secret, text, "sha256").hex() == query_hash(secret, "t", {"a": 1}, ["u"])
