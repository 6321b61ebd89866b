"""JSON bodies: one value for each key, whatever the order of the keys and however deep."""

from __future__ import annotations

import pytest

from strata.http.api.schemas import MaterializeBody, decode_body
from strata.http.problems import ProblemError

BODY = b'{"inputs": ["main:db.t"], "transform": {"executor": "scan@v1", "params": {%s}}%s}'
FILTER = b'"filters": [{"column": "id", "op": "=", "value": 1%s}]'


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (BODY % (FILTER % b"" + b', "filters": []', b""), "filters"),
        (BODY % (FILTER % b', "value": 2', b""), "value"),
        (BODY % (b"", b', "inputs": ["main:db.other"]'), "inputs"),
        (BODY % (b'"colu\\u006dns": [], "columns": null', b""), "columns"),
    ],
)
def test_a_key_that_is_given_twice_is_refused(body: bytes, key: str) -> None:
    """Readers differ in which of the two counts: a proxy or a log may have seen the other one (RFC 8259)."""
    with pytest.raises(ProblemError) as caught:
        decode_body(MaterializeBody, body)

    problem = caught.value.problem
    assert (422, "repeated_key") == (problem.status, problem.error)
    assert f"The request's body has {key} twice." == problem.detail


def test_a_repeated_key_that_is_no_name_is_not_repeated() -> None:
    """What a caller sends is not echoed."""
    with pytest.raises(ProblemError) as caught:
        decode_body(MaterializeBody, BODY % (b'"<script>": 1, "<script>": 2', b""))

    assert "The request's body has a key twice." == caught.value.problem.detail


def test_equal_keys_of_different_objects_are_different_keys() -> None:
    """Two filters have a column each."""
    two = b'"filters": [{"column": "id", "op": "=", "value": 1}, {"column": "id", "op": "=", "value": 12345678901234567890}]'

    assert 2 == len(decode_body(MaterializeBody, BODY % (two, b"")).transform.params["filters"])
