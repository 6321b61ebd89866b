"""What both sides say: names of headers, the description of a build, and what an executor can do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

VERSION: Final = "v1"
"""The version of the protocol."""

PROTOCOL_HEADER: Final = "x-strata-executor-protocol"
BUILD_HEADER: Final = "x-strata-build-id"
ATTEMPT_HEADER: Final = "x-strata-attempt"
"""Number of the attempt at a build, from 1; an executor may answer an attempt that it knows once only."""
ROWS_HEADER: Final = "x-arrow-row-count"
LOGS_HEADER: Final = "x-strata-logs"
"""What the transform has printed, in base64, where the executor knows it before it answers."""

ARROW_STREAM: Final = "application/vnd.apache.arrow.stream"
ARROW_FORMAT: Final = "arrow_ipc_stream"
"""The format of an input of a transform."""

METADATA: Final = "metadata"
"""Name of the part that describes the build."""

METADATA_BYTES: Final = 8 * 1024 * 1024
"""Most bytes of that part."""

ICEBERG_FORMAT: Final = "iceberg_snapshot"
"""The format of an input that the executor reads itself: it is named, and not sent."""

NOTEBOOK_CELL: Final = "notebook_cell@v1"


@attrs.frozen
class InputHead:
    """An input as the description names it.

    Attributes:
        name: Its name: ``input0`` …, or that of a notebook's variable.
        format: ``arrow_ipc_stream`` for a transform.
        byte_size: Its bytes; None where they are not told.
        file: Name of its part; its own name if there is none.
        uri: Where it is from; None where that is not told.
        table: The ``metadata_location`` and the ``snapshot_id`` of an ``iceberg_snapshot``; with ``root``, an
            absolute path, no file of the table may be outside of that directory.
    """

    name: str
    format: str = ARROW_FORMAT
    byte_size: int | None = None
    file: str | None = None
    uri: str | None = None
    table: Mapping[str, Any] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as it is sent."""
        found: dict[str, Any] = {"name": self.name, "format": self.format}
        if self.byte_size is not None:
            found["byte_size"] = self.byte_size
        if self.file is not None:
            found |= {"file": self.file, "uri": self.uri}
        if self.table is not None:
            found["table"] = dict(self.table)
        return found


@attrs.frozen
class BuildDescription:
    """The build that an executor is to run.

    Attributes:
        build_id: The build; an executor takes a repeated attempt for the same.
        ref: The transform.
        params: Its parameters.
        inputs: Its inputs, in the caller's order.
        attempt: Number of the attempt, from 1.
        tenant: The tenant, if the executor may know it.
        principal: The principal, if the executor may know it.
        provenance_hash: The result's identity.
        code_hash: Identity of the transform with its parameters.
        origin: ``notebook`` for a notebook's cell; None otherwise.
    """

    build_id: str
    ref: str
    params: Mapping[str, Any]
    inputs: Sequence[InputHead] = ()
    attempt: int = 1
    tenant: str | None = None
    principal: str | None = None
    provenance_hash: str = ""
    code_hash: str = ""
    origin: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as it is sent."""
        found: dict[str, Any] = {
            "protocol_version": VERSION,
            "build_id": self.build_id,
            "attempt": self.attempt,
            "tenant": self.tenant,
            "principal": self.principal,
            "provenance_hash": self.provenance_hash,
            "transform": {"ref": self.ref, "code_hash": self.code_hash, "params": dict(self.params)},
            "inputs": [one.as_json() for one in self.inputs],
        }
        if self.origin is not None:
            found["origin"] = self.origin
        return found


class DescriptionError(Exception):
    """A description is malformed; the message is for its sender."""


def parse_description(text: bytes) -> BuildDescription:
    """Return the description that an executor was sent; unknown keys are left out.

    Raises:
        DescriptionError: If it is not one of this version.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DescriptionError("The metadata part is no JSON.") from None
    if not isinstance(found, dict):
        raise DescriptionError("The metadata part is no JSON object.")
    if found.get("protocol_version") != VERSION:
        raise DescriptionError(f"The protocol version is not {VERSION}.")
    transform, inputs = found.get("transform"), found.get("inputs", [])
    if not isinstance(transform, dict) or not isinstance(transform.get("ref"), str):
        raise DescriptionError("transform.ref is missing.")
    params = transform.get("params", {})
    if not isinstance(params, dict):
        raise DescriptionError("transform.params is no object.")
    if not isinstance(inputs, list):
        raise DescriptionError("inputs is no list.")
    attempt = found.get("attempt", 1)
    return BuildDescription(
        build_id=_text(found.get("build_id")),
        ref=transform["ref"],
        params=params,
        inputs=[_input(one) for one in inputs],
        attempt=attempt if isinstance(attempt, int) else 1,
        tenant=found.get("tenant") if isinstance(found.get("tenant"), str) else None,
        provenance_hash=_text(found.get("provenance_hash")),
        code_hash=_text(transform.get("code_hash")),
    )


def _input(found: object) -> InputHead:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        raise DescriptionError("An input has no name.")
    file, size, table = found.get("file"), found.get("byte_size"), found.get("table")
    by_reference = found.get("format") == ICEBERG_FORMAT
    if by_reference and not _is_snapshot(table):
        raise DescriptionError(
            "An input's table has no metadata_location and snapshot_id, or a root that is no absolute path."
        )
    return InputHead(
        found["name"],
        _text(found.get("format")) or ARROW_FORMAT,
        size if isinstance(size, int) else None,
        file if isinstance(file, str) else None,
        table=table if by_reference else None,
    )


def _is_snapshot(table: object) -> bool:
    if not isinstance(table, dict):
        return False
    root = table.get("root", "/")
    if not isinstance(root, str) or not root.startswith("/"):
        return False
    return isinstance(table.get("metadata_location"), str) and isinstance(table.get("snapshot_id"), int)


def _text(found: object) -> str:
    return found if isinstance(found, str) else ""


@attrs.frozen
class Health:
    """What an executor says of itself.

    Attributes:
        status: ``healthy`` if it can work.
        versions: Versions of the protocol that it speaks.
        refs: Transforms that it runs.
        features: What else it can do.
        active: Builds that it runs now.
    """

    status: str
    versions: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()
    features: Mapping[str, Any] = attrs.field(factory=dict)
    active: int = 0

    @classmethod
    def parse(cls, text: bytes) -> Health | None:
        """Return the answer of ``GET /health``; None if it is none."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if not isinstance(found, dict) or not isinstance(found.get("status"), str):
            return None
        can = found.get("capabilities")
        can = can if isinstance(can, dict) else {}
        features, active = can.get("features"), found.get("active_executions")
        return cls(
            found["status"],
            _texts(can.get("protocol_versions")),
            _texts(can.get("transform_refs")),
            features if isinstance(features, dict) else {},
            active if isinstance(active, int) else 0,
        )


def _texts(found: object) -> tuple[str, ...]:
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()
