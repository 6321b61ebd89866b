"""Hooks of schemathesis, loaded by its own process (SCHEMATHESIS_HOOKS): use values that exist.

A description says that a table is a string, not which tables exist. So about half of the well-formed values
are replaced by real ones, and the requests get past the first look-up.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pyarrow as pa
import schemathesis

KNOWN = json.loads(os.environ["STRATA_TEST_KNOWN"])
"""Real values: ``table``, and those of path parameters by name."""


@schemathesis.hook
def map_body(_context: Any, body: Any) -> Any:
    """Use the existing table and its columns."""
    if not isinstance(body, dict) or "inputs" not in body:
        return body
    inputs = body["inputs"]
    if (
        isinstance(inputs, list)
        and len(inputs) == 1
        and isinstance(inputs[0], str)
        and len(inputs[0]) % 4 != 3
    ):
        body = {**body, "inputs": [KNOWN["table"]]}
        params = (
            body.get("transform", {}).get("params", {}) if isinstance(body.get("transform"), dict) else {}
        )
        if (
            isinstance(params, dict)
            and isinstance(params.get("columns"), list)
            and len(params["columns"]) == 1
        ):
            params["columns"] = ["id"]
        for condition in params.get("filters") or () if isinstance(params, dict) else ():
            if isinstance(condition, dict) and isinstance(condition.get("column"), str):
                condition["column"] = ("id", "value", "name")[len(condition["column"]) % 3]
    return body


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: Any) -> Any:
    """Use the existing artifact, build, stream and name."""
    if not isinstance(path_parameters, dict) or not all(
        isinstance(v, str | int) for v in path_parameters.values()
    ):
        return path_parameters
    if sum(len(str(value)) for value in path_parameters.values()) % 2:
        return path_parameters
    return {name: KNOWN.get(name, value) for name, value in path_parameters.items()}


@schemathesis.hook
def before_call(_context: Any, case: Any, **_arguments: Any) -> None:
    """Replace the caller's own tenant in a path by another one.

    Schemathesis learns the name from responses, and would set its tenant's plan timeout to a millisecond: then
    scans are a 504. Learned values do not pass through ``map_path_parameters``, so they are replaced here.
    """
    if case.path_parameters and case.path_parameters.get("tenant") == KNOWN["own_tenant"]:
        case.path_parameters = {**case.path_parameters, "tenant": KNOWN["tenant"]}


@schemathesis.check
def arrow_streams_are_whole(_context: Any, response: Any, _case: Any) -> None:
    """A complete response can be read to its end-of-stream marker."""
    if (
        response.status_code == 200
        and "arrow.stream" in response.headers.get("content-type", [""])[0]
        and response.content
    ):
        pa.ipc.open_stream(response.content).read_all()
        assert response.content.endswith(b"\xff\xff\xff\xff\x00\x00\x00\x00")


@schemathesis.check
def the_request_id_is_one(_context: Any, response: Any, _case: Any) -> None:
    """The response's header and the problem's body have the same request id."""
    (named,) = response.headers["x-request-id"]
    if response.headers.get("content-type", [""])[0] == "application/problem+json" and response.content:
        assert named == response.json()["request_id"]
