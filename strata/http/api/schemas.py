"""The JSON that goes over the wire: names and shapes of ``wire-contract.md``, kept exactly."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from strata.artifacts import Stats
from strata.auth import DEFAULT_TENANT
from strata.config.sections.transforms import SQL
from strata.http.problems import Problem, ProblemError
from strata.tables.scan.params import OPERATORS
from strata.transforms.sql_params import PARAMS_SCHEMA

B = TypeVar("B", bound=msgspec.Struct)

# What is said of values in the description only: which of them are refused, and how, is decided further in.
_VALUE = {"type": ["string", "number", "boolean"]}
SCAN_PARAMS: dict[str, Any] = {
    "additionalProperties": False,
    "properties": {
        "columns": {
            "type": ["array", "null"],
            "items": {"type": "string", "minLength": 1},
            "uniqueItems": True,
            "description": "Columns in the order of the result; null means all, an empty list none.",
        },
        "filters": {
            "type": ["array", "null"],
            "description": "AND-ed conditions.",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["column", "op"],
                "properties": {
                    "column": {"type": "string", "minLength": 1},
                    "op": {"enum": sorted(OPERATORS)},
                    "value": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE}, {"type": "null"}]},
                },
            },
        },
        "snapshot_id": {
            "anyOf": [
                {"type": ["integer", "null"], "minimum": 0, "maximum": 2**63 - 1},
                {"type": "string", "pattern": "^[0-9]{1,18}$"},
            ],
            "description": "A snapshot; its digits as a text where numbers have 53 bits.",
        },
        "ref": {"type": ["string", "null"], "minLength": 1, "description": "A branch or tag."},
        "as_of": {"type": ["string", "null"], "description": "A moment, with its offset from UTC."},
        "limit": {
            "type": ["integer", "null"],
            "minimum": 0,
            "maximum": 2**63 - 1,
            "description": "At most this number of rows, the first in the order of the table's files.",
        },
    },
}
PARAMS: dict[str, Any] = {"anyOf": [SCAN_PARAMS, dict(PARAMS_SCHEMA)]}
COLUMNS: dict[str, Any] = {"items": {"type": "string", "minLength": 1}, "uniqueItems": True}
INPUTS: dict[str, Any] = {"minItems": 1, "maxItems": 64, "description": "One of a scan, up to 64 of SQL."}
NAME: dict[str, Any] = {"minLength": 1, "maxLength": 512}


class TransformBody(msgspec.Struct, forbid_unknown_fields=True):
    """What to compute: ``scan@v1``, or a registered transform, with its parameters."""

    executor: Annotated[str, Meta(extra_json_schema={"enum": ["scan@v1", SQL]})]
    params: Annotated[dict[str, Any], Meta(extra_json_schema=PARAMS)] = {}


class MaterializeBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/materialize``; ``mode`` is ``stream`` or ``artifact``."""

    inputs: Annotated[list[str], Meta(extra_json_schema=INPUTS)]
    transform: TransformBody
    mode: Annotated[str, Meta(extra_json_schema={"enum": ["stream", "artifact"]})] = "stream"
    name: Annotated[str, Meta(extra_json_schema=NAME)] | None = None
    refresh: bool = False


class ExplainBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/artifacts/explain-materialize``."""

    inputs: Annotated[list[str], Meta(extra_json_schema=INPUTS)]
    transform: TransformBody
    name: Annotated[str, Meta(extra_json_schema=NAME)] | None = None


class MaterializeAnswer(msgspec.Struct):
    """Where the result is, or will be."""

    hit: bool
    artifact_uri: str
    state: str
    build_spec: None = None
    build_id: str | None = None
    stream_id: str | None = None
    stream_url: str | None = None


class BuildAnswer(msgspec.Struct):
    """A build; times are ISO 8601 in UTC, progress runs from 0.0 to 1.0."""

    build_id: str
    artifact_id: str
    version: int
    state: str
    artifact_uri: str
    executor_ref: str
    progress: float | None
    created_at: str
    started_at: str | None
    completed_at: str | None
    error_message: str | None
    error_code: str | None


class ChangedInputAnswer(msgspec.Struct):
    """An input that has moved on."""

    input_uri: str
    old_version: str | None
    new_version: str | None


class ExplainAnswer(msgspec.Struct):
    """What a materialize request would do now."""

    would_hit: bool
    artifact_uri: str | None
    would_build: bool
    is_stale: bool
    stale_reason: str | None
    changed_inputs: list[ChangedInputAnswer]
    resolved_input_versions: dict[str, str]


class ArtifactAnswer(msgspec.Struct):
    """An artifact; ``transform_spec`` and ``input_versions`` are JSON strings.

    ``ordered`` tells of a query whether it fixes the order of its rows; a scan has none to fix.
    """

    artifact_id: str
    version: int
    state: str
    arrow_schema: str | None
    row_count: int | None
    byte_size: int | None
    created_at: str
    content_sha256: str | None
    provenance_hash: str
    transform_spec: str
    input_versions: str
    ordered: bool | None = None


class ReceiptInput(msgspec.Struct):
    """An input of a result; ``snapshot_id`` is a text, for it has more digits than JavaScript keeps."""

    uri: str
    version: str
    snapshot_id: str | None


class ReceiptAnswer(msgspec.Struct):
    """What a whole result is: a copy of it that differs in rows, bytes or digest is not it.

    ``policy_hash`` differs for results of other cells; null if all cells were read.
    """

    artifact_uri: str
    rows: int
    bytes: int
    sha256: str
    policy_hash: str | None
    inputs: list[ReceiptInput]


class ArtifactListAnswer(msgspec.Struct):
    """A page of artifacts and how many there are in all; ``next_page_token``: where the next page begins."""

    artifacts: list[ArtifactAnswer]
    total_count: int
    limit: int
    offset: int
    next_page_token: str | None = None


class StatsAnswer(msgspec.Struct):
    """The tenant's artifacts, counted; the numbers of versions are those of ``by_state`` in other words."""

    total_artifacts: int
    total_bytes: int
    by_state: dict[str, int]
    total_versions: int
    ready_versions: int
    building_versions: int
    failed_versions: int


def stats_answer(found: Stats) -> StatsAnswer:
    """Return counts of artifacts as JSON."""
    states = found.by_state
    unfinished = states.get("building", 0) + states.get("pending", 0)
    ended = (states.get("ready", 0), unfinished, states.get("failed", 0))
    return StatsAnswer(found.total_artifacts, found.total_bytes, dict(states), found.total_artifacts, *ended)


class NameAnswer(msgspec.Struct):
    """What a name points at."""

    name: str
    artifact_uri: str
    version: int
    updated_at: str


class NameListAnswer(msgspec.Struct):
    """The tenant's names; ``next_page_token``: where the next page begins, if there is one."""

    names: list[NameAnswer]
    next_page_token: str | None = None


class StatusAnswer(msgspec.Struct):
    """One word on how it is."""

    status: str


class ReadyAnswer(msgspec.Struct):
    """Whether requests should be sent here, and the state of what the server needs."""

    status: str
    checks: dict[str, str]


class CacheStatsAnswer(msgspec.Struct):
    """Counters of the tenant's cache shard, since it was opened."""

    hits: int
    misses: int
    hit_rate: float
    segments: int
    size_bytes: int
    max_size_bytes: int
    evictions: int
    damaged: int


class NodeAnswer(msgspec.Struct):
    """A result or a table; ``type``: ``artifact``, ``table``, or ``redacted``: not for the caller."""

    uri: str
    artifact_id: str | None
    version: int | None
    type: str
    transform_ref: str | None
    created_at: str | None


class EdgeAnswer(msgspec.Struct):
    """From an input to what was made of it."""

    from_uri: str
    to_uri: str
    input_version: str | None


class LineageAnswer(msgspec.Struct):
    """What a result was made of; ``truncated``: there is more than an answer holds."""

    artifact_uri: str
    artifact_id: str
    version: int
    nodes: list[NodeAnswer]
    edges: list[EdgeAnswer]
    depth: int
    direct_inputs: list[str]
    truncated: bool


class DependentsAnswer(msgspec.Struct):
    """What was made of a result, as far as it is for the caller."""

    artifact_uri: str
    artifact_id: str
    version: int
    dependents: list[NodeAnswer]
    total_count: int


class NameStatusAnswer(msgspec.Struct):
    """What a name points at, and whether its inputs have moved on since."""

    name: str
    artifact_uri: str
    artifact_id: str
    version: int
    state: str
    updated_at: str
    input_versions: dict[str, str]
    is_stale: bool
    stale_reason: str | None
    changed_inputs: list[ChangedInputAnswer]


class WarmTableBody(msgspec.Struct, forbid_unknown_fields=True):
    """A table to read into the cache, and which columns of it; null: all the caller may read."""

    table: str
    columns: Annotated[list[str], Meta(extra_json_schema=COLUMNS)] | None = None


class WarmBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/cache/warm``."""

    tables: Annotated[list[WarmTableBody], Meta(min_length=1, max_length=100)]


class WarmedTableAnswer(msgspec.Struct):
    """Row groups of a table: all there are, those that were cached before, and those that are now."""

    table: str
    row_groups: int
    cached_before: int
    cached: int


class WarmAnswer(msgspec.Struct):
    """What is in the cache now."""

    row_groups: int
    cached_before: int
    cached: int
    tables: list[WarmedTableAnswer]


class AccessBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/admin/acl/explain``: the caller and the request to be explained."""

    principal: Annotated[str, Meta(max_length=256)]
    resource: Annotated[str, Meta(max_length=4096)]
    tenant: Annotated[str, Meta(max_length=64)] = DEFAULT_TENANT
    scopes: Annotated[list[str], Meta(max_length=256)] = []
    action: Literal["read", "write", "delete", "run", "admin"] = "read"


class ConsideredAnswer(msgspec.Struct):
    """A rule, and the parts of it that do not apply; none: it matches."""

    effect: str
    number: int
    principal: str
    resource: str
    matches: bool
    misses: list[str]


class AddedRuleAnswer(msgspec.Struct):
    """A rule that would have to come."""

    effect: str
    principal: str
    resource: str
    tenant: str | None
    action: str | None


class OtherwiseAnswer(msgspec.Struct):
    """The least change that would decide otherwise; ``remove`` has entries such as ``deny 3``."""

    allowed: bool
    remove: list[str]
    add: list[AddedRuleAnswer]


class AccessAnswer(msgspec.Struct):
    """A decision and its grounds; ``partial``: only some columns or rows; ``rules``: how many there are."""

    allowed: bool
    reason: str
    partial: bool
    rules: int
    considered: list[ConsideredAnswer]
    otherwise: OtherwiseAnswer | None


class RulesAnswer(msgspec.Struct):
    """The rules that hold now; ``changed``: they are others than before."""

    changed: bool
    deny: int
    allow: int
    default: str
    warnings: list[str]


_AT = re.compile(r" - at `\$?\.?(?P<path>[^`]*)`$")
_STEP = re.compile(r"([a-z_]+)|\[(\d+)\]")  # our own field names, and places in lists; "[...]" is any key
_KEY = re.compile(r"[A-Za-z0-9_]{1,64}")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>[^`]{0,64})`")


def decode_body(kind: type[B], body: bytes | str) -> B:
    """Return a JSON body as ``kind``.

    Raises:
        ProblemError: 422 for what is not JSON, has the wrong shape or a key twice, 400 for an unknown key.
            What the caller sent as a value is never repeated.
    """
    try:
        found = msgspec.json.decode(body, type=kind)
        # Numbers stay text: only keys matter here.
        text = body if isinstance(body, str) else body.decode()
        json.loads(text, object_pairs_hook=_refuse_repeated_keys, parse_int=str, parse_float=str)
    except msgspec.ValidationError as error:
        raise ProblemError(_invalid(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ProblemError(_no_json("The request's body is not valid JSON.", "invalid JSON")) from None
    except RecursionError:
        detail = "The request's body is nested too deeply."
        raise ProblemError(_no_json(detail, "nested too deeply")) from None
    return found


def _refuse_repeated_keys(pairs: list[tuple[str, object]]) -> None:
    """Refuse an object with a key twice (RFC 8259, section 4: readers differ in which one counts)."""
    if len(dict(pairs)) == len(pairs):
        return
    repeated, _times = Counter(key for key, _ in pairs).most_common(1)[0]
    named = repeated if _KEY.fullmatch(repeated) else "a key"
    errors = [{"loc": ["body"], "msg": f"{named} is given twice"}]
    raise ProblemError(Problem(422, f"The request's body has {named} twice.", "repeated_key", errors))


def _no_json(detail: str, message: str) -> Problem:
    return Problem(422, detail, "invalid_json", [{"loc": ["body"], "msg": message}])


def _invalid(message: str) -> Problem:
    at = _AT.search(message)
    steps = _STEP.findall(at["path"]) if at else []
    loc: list[str | int] = ["body", *(name or int(index) for name, index in steps)]
    what = message[: at.start()] if at else message
    unknown = _UNKNOWN.match(what)
    if unknown:
        loc.append(unknown["name"])
        errors = [{"loc": loc, "msg": "unknown key"}]
        return Problem(400, f"Unknown key {_dotted(loc)}.", "unknown_key", errors)
    where = _dotted(loc) or "body"
    return Problem(422, f"{where}: {what}.", "invalid_body", [{"loc": loc, "msg": what}])


def _dotted(loc: Sequence[str | int]) -> str:
    return ".".join(str(step) for step in loc[1:])


class TransformLimitsAnswer(msgspec.Struct):
    """Limits of a transform for the caller's tenant; ``max_input_bytes`` is null where there is none."""

    timeout_seconds: float
    max_output_bytes: int
    max_input_bytes: int | None
    memory_bytes: int
    spill_bytes: int
    threads: int


class TransformAnswer(msgspec.Struct):
    """A transform that the caller may run; ``params_schema`` is the JSON Schema of its ``params``."""

    ref: str
    executor: str
    params_schema: dict[str, Any]
    limits: TransformLimitsAnswer


class TransformListAnswer(msgspec.Struct):
    """The registered transforms that the caller may run."""

    transforms: list[TransformAnswer]


class BuildLogAnswer(msgspec.Struct):
    """A part of what a build's transform printed; ``next`` is the position after its last character."""

    build_id: str
    start: int
    text: str
    next: int
    ended: bool
