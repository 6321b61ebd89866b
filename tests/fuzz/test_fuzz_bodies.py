"""Request bodies: the expected shape, or a problem that repeats no value."""

from __future__ import annotations

import json

import pytest
from fuzz_kit import SECRET, damaged, documents, fuzz, texts
from hypothesis import given
from hypothesis import strategies as st

from strata.http.api.schemas import ExplainBody, MaterializeBody, TransformBody, decode_body
from strata.http.problems import ProblemError

pytestmark = pytest.mark.slow

kinds = st.sampled_from([MaterializeBody, ExplainBody])
sound = st.fixed_dictionaries(
    {
        "inputs": st.lists(texts, max_size=2),
        "transform": st.fixed_dictionaries(
            {"executor": texts}, optional={"params": st.dictionaries(texts, documents, max_size=2)}
        ),
    },
    optional={"mode": texts, "name": st.none() | texts, "refresh": st.booleans()},
)
broken = st.one_of(
    documents,
    st.dictionaries(
        st.sampled_from(["inputs", "transform", "mode", "name", "refresh", "extra"]) | texts,
        documents,
        max_size=4,
    ),
    st.builds(
        lambda good, key, value: {**good, key: value},
        sound,
        st.sampled_from(["inputs", "transform", "mode", "extra"]),
        documents,
    ),
)
deep = st.builds(
    lambda depth, opening: b'{"inputs":[],"transform":{"executor":"scan@v1","params":{"a":' + opening * depth,
    st.sampled_from([10, 900, 2_000, 200_000]),
    st.sampled_from([b"[", b'{"a":']),
)
bodies = st.one_of(
    deep,
    st.one_of(sound, broken).map(lambda document: json.dumps(document).encode()),
    st.one_of(sound, broken).map(
        lambda document: json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ),
    damaged(sound.map(lambda document: json.dumps(document).encode())),
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"",
            b"null",
            b"[" * 5000,
            b'{"a":' * 3000,
            b"\xff\xfe{}",
            b"\xef\xbb\xbf{}",
            b"1" * 5000,
            b'{"inputs":[],"inputs":[]}',
        ]
    ),
)


@fuzz
@given(kind=kinds, body=bodies)
def test_any_body_is_the_shape_or_a_problem_with_its_place(kind, body) -> None:
    """400 for an unknown key, 422 for the rest; the problem itself is valid JSON."""
    try:
        found = decode_body(kind, body)
    except ProblemError as error:
        problem = error.problem
        assert problem.status in (400, 422)
        assert problem.errors
        assert "body" == problem.errors[0]["loc"][0]
        assert all(isinstance(step, str | int) for step in problem.errors[0]["loc"])
        assert problem.detail == json.loads(problem.body("r"))["detail"]
        return
    assert isinstance(found, kind)
    assert isinstance(found.transform, TransformBody)
    assert all(isinstance(uri, str) for uri in found.inputs)
    json.dumps(found.transform.params)


secret_values = st.sampled_from(
    [SECRET, [SECRET], {"a": SECRET}, f"{SECRET}\ud800", {"inputs": [{"a": SECRET}]}]
)


@fuzz
@given(
    kind=kinds,
    good=sound,
    place=st.sampled_from(
        [
            ("inputs",),
            ("transform",),
            ("transform", "executor"),
            ("transform", "params"),
            ("mode",),
            ("name",),
            ("refresh",),
        ]
    ),
    value=secret_values,
    cut=st.integers(0, 400),
)
def test_no_value_of_a_body_is_repeated(kind, good, place, value, cut) -> None:
    """Neither a value of a wrong type nor one in a truncated body is repeated."""
    target = good
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    for body in (json.dumps(good).encode(), json.dumps(good).encode()[:cut]):
        try:
            decode_body(kind, body)
        except ProblemError as error:
            assert SECRET.encode() not in error.problem.body("r")
