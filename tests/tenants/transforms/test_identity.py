"""The identity of a query's result: it changes with everything that changes the result, and with nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast
from unittest import mock

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.artifacts import ArtifactRecord
from strata.outcomes import RefusalError
from strata.tenants.shared.artifact_inputs import (
    MOST_ORIGINS,
    all_inputs,
    artifact_of,
    input_version,
    name_of,
    shown_version,
    uri_of,
)
from strata.tenants.transforms import requests as sql
from strata.tenants.transforms.inputs import Input
from strata.tenants.transforms.requests import remote_provenance, sql_provenance
from strata.transforms.sql_params import SqlSpec, parse_sql_params

SECRET = b"s" * 32
TEXT = st.text(min_size=1, max_size=8)
INPUTS = st.builds(lambda uri, version: Input(uri, version, (uri, version), uri), TEXT, TEXT)
SPECS = st.builds(SqlSpec, TEXT, st.lists(TEXT, max_size=3).map(tuple))
REQUESTS = st.tuples(
    st.sampled_from(["team-a", "team-b"]), SPECS, st.lists(INPUTS, min_size=1, max_size=3).map(tuple)
)


def key(tenant: str, spec: SqlSpec, inputs: tuple[Input, ...]) -> str:
    return sql_provenance(SECRET, tenant, "duckdb_sql@v1", spec, inputs).key


def content(request: tuple[str, SqlSpec, tuple[Input, ...]]) -> object:
    tenant, spec, inputs = request
    return tenant, spec, tuple(one.identity for one in inputs)


@given(REQUESTS, REQUESTS)
def test_two_requests_share_a_result_only_if_all_is_equal(first: tuple, second: tuple) -> None:
    """Tenant, query, names, inputs, their order and versions are each part of the identity."""
    assert (content(first) == content(second)) == (key(*first) == key(*second))


@given(SPECS, INPUTS, INPUTS)
def test_the_order_of_inputs_counts(spec: SqlSpec, first: Input, second: Input) -> None:
    """f(a, b) is never f(b, a)."""
    swapped = key("team-a", spec, (second, first))
    assert (first.identity == second.identity) == (swapped == key("team-a", spec, (first, second)))


@given(REQUESTS, st.permutations(range(3)), TEXT, TEXT)
def test_no_other_order_parameter_version_or_grant_shares_a_result(
    request: tuple, order: list[int], version: str, text: str
) -> None:
    """Of SQL and of executors' transforms: whatever is changed in a request changes the key of its result."""
    tenant, spec, inputs = request
    moved = tuple(inputs[index] for index in order if index < len(inputs))
    first = inputs[0]
    newer = attrs.evolve(
        first, version=first.version + version, identity=(first.uri, first.version + version)
    )
    inner = attrs.evolve(first, identity=(first.uri, f"{first.version} ?cells={text}"))
    others = [moved, (newer, *inputs[1:]), (inner, *inputs[1:]), (*inputs, first), inputs[1:] or (newer,)]

    def both(spec: SqlSpec, inputs: tuple[Input, ...]) -> tuple[str, str]:
        params = {"value": spec.sql, "names": spec.names}
        remote = remote_provenance(SECRET, tenant, "f@v1", params, inputs).key
        return key(tenant, spec, inputs), remote

    whole = both(spec, inputs)
    for other in others:
        same = [one.identity for one in other] == [one.identity for one in inputs]
        assert [same, same] == [ours == theirs for ours, theirs in zip(whole, both(spec, other), strict=True)]
    for changed in (SqlSpec(spec.sql + text, spec.names), SqlSpec(spec.sql, (*spec.names, text))):
        assert not {*whole} & {*both(changed, inputs)}
    assert whole[0] != whole[1]
    assert whole[1] != remote_provenance(SECRET, tenant, "f@v2", {}, inputs).key


def test_engine_and_settings_are_part_of_it() -> None:
    """Another version of the engine, or another setting that changes results, is another result."""
    spec, inputs = SqlSpec("SELECT 1"), (Input("a", "1", ("a", "1"), "a"),)
    found = {key("team-a", spec, inputs)}
    with mock.patch.object(sql, "_engine_version", return_value="99"):
        found.add(key("team-a", spec, inputs))
    with mock.patch.object(sql, "RESULT_SETTINGS", {"TimeZone": "Europe/Berlin"}):
        found.add(key("team-a", spec, inputs))
    found.add(sql_provenance(b"t" * 32, "team-a", "duckdb_sql@v1", spec, inputs).key)
    assert 4 == len(found)


def test_the_version_of_a_query_is_not_part_of_its_query() -> None:
    """Results over time of one query share ``query``; with other rights to rows it is another query."""
    spec = SqlSpec("SELECT 1")

    def query(identity: tuple[str, str], view: str) -> str:
        return sql_provenance(SECRET, "t", "e@v1", spec, (Input("u", identity[1], identity, view),)).query

    assert query(("r", "1"), "r") == query(("r", "2"), "r")
    assert query(("r", "1"), "r") != query(("r", "1"), "r?rows")


def test_names_that_differ_in_case_only_are_refused() -> None:
    """DuckDB's names are equal without case, so such names would hide each other."""
    assert SqlSpec("SELECT 1", ("a", "input1")) == parse_sql_params(
        {"sql": " SELECT 1\n", "input_names": ["a", "input1"]}, ("x", "y")
    )
    assert not isinstance(parse_sql_params({"sql": "SELECT '\ud800'"}, ("x",)), SqlSpec)
    for names in (["a", "A"], ["input1", "b"], ["Input1", "b"], ["a"], ["a b", "c"], "ab", [1, 2]):
        assert not isinstance(parse_sql_params({"sql": "S", "input_names": names}, ("x", "y")), SqlSpec)


@given(
    st.dictionaries(st.sampled_from(["a:b.c", "strata://artifact/x@v=1", "strata://artifact/y@v=2"]), TEXT)
)
def test_inputs_are_followed_down_to_the_tables(inputs: dict[str, str]) -> None:
    """Rights to a result are decided on everything that it was made from, each with its version."""
    versions = {uri: "hash" if artifact_of(uri) else version for uri, version in inputs.items()}
    assert versions == dict(all_inputs({uri: versions[uri] for uri in inputs}))
    nested = {"strata://artifact/z@v=3": 'digest [["t:n.t","7"],["strata://artifact/q@v=1","other"]]'}
    assert [
        ("strata://artifact/z@v=3", "digest"),
        ("t:n.t", "7"),
        ("strata://artifact/q@v=1", "other"),
    ] == [*all_inputs(nested)]
    assert "digest" == shown_version(*next(iter(nested.items())))
    assert "a 1" == shown_version("t:n.t", "a 1")


def test_what_is_behind_a_result_is_bounded() -> None:
    """Up to the bound all of it is noted; one more is refused."""

    def made_from(count: int) -> str:
        inputs = {f"t:n.t{index}": "1" for index in range(count)}
        return input_version(cast("ArtifactRecord", SimpleNamespace(inputs=inputs, content_sha256="digest")))

    whole = made_from(MOST_ORIGINS)
    assert MOST_ORIGINS == len([*all_inputs({"strata://artifact/x@v=1": whole})]) - 1
    with pytest.raises(RefusalError, match="more than 256"):
        made_from(MOST_ORIGINS + 1)


def test_uris_of_results_are_read_as_they_are_written() -> None:
    """Only a whole URI names an artifact or a name."""
    assert ("x-1", 12) == artifact_of(uri_of("x-1", 12))
    for text in ("strata://artifact/x", "strata://artifact/x@v=0", "strata://artifact/x@v=1/y", "a:b.c"):
        assert artifact_of(text) is None
    assert "a/b" == name_of("strata://name/a/b")
    assert name_of("strata://name/") is None
