"""The registry: which entry decides, and that no character of a reference is a pattern by accident."""

from __future__ import annotations

import attrs
import pytest

from strata.auth import Principal
from strata.config.fields import RegisteredTransform
from strata.outcomes import Refused
from strata.transforms.registry import NOT_ALLOWED, find, offers

SQL = "duckdb_sql@v1"


def who(tenant: str = "team-a", *scopes: str) -> Principal:
    return Principal("ana", tenant, frozenset(scopes))


@pytest.mark.parametrize("ref", ["duckdb_sql@*", "*@*", "duckdb_sql@v1", "duckdb_s?l@v?", "*@v1"])
def test_a_glob_matches_name_and_version(ref: str) -> None:
    """``*`` and ``?`` stand for characters; all others for themselves."""
    entry = RegisteredTransform(ref)
    assert entry == find((entry,), SQL, who())


@pytest.mark.parametrize(
    "ref", ["duckdb.sql@v1", "duckdb_sql@v2", "duckdb_sql", "DUCKDB_SQL@v1", "[a-z]*@v1", "@*"]
)
def test_what_does_not_match_is_refused(ref: str) -> None:
    """No other character is a pattern, and case counts."""
    assert NOT_ALLOWED == find((RegisteredTransform(ref),), SQL, who())


def test_a_transform_that_the_server_does_not_have_is_refused_by_any_registry() -> None:
    """An entry for everything permits only what exists."""
    assert NOT_ALLOWED == find((RegisteredTransform("*@*"),), "other@v1", who())


def test_the_first_entry_for_the_tenant_decides() -> None:
    """An entry for other tenants is passed over; the first one for this tenant decides, scopes included."""
    first = RegisteredTransform("*@*", tenants=("team-b",))
    second = RegisteredTransform("*@*", scopes=("one", "two"), timeout_seconds=1)
    third = RegisteredTransform("*@*")
    registry = (first, second, third)
    assert first == find(registry, SQL, who("team-b"))
    assert second == find(registry, SQL, who("team-a", "two"))
    refused = find(registry, SQL, who())
    assert isinstance(refused, Refused)
    assert ("insufficient_scope", True) == (refused.code, "one, two" in refused.detail)


def test_a_scope_of_the_same_kind_does_not_do() -> None:
    """``requires_scope`` is compared whole; of several entries the list has what may be run."""
    entry = RegisteredTransform("*@*", requires_scope="transforms:run")
    assert isinstance(find((entry,), SQL, who("team-a", "transforms")), Refused)
    assert [] == [*offers((entry,), who())]
    (found,) = offers((entry,), who("team-a", "transforms:run"))
    assert (SQL, entry) == (found.ref, found.registered)
    assert attrs.evolve(entry, requires_scope=None) == find(
        (attrs.evolve(entry, requires_scope=None),), SQL, who()
    )
