"""The JSON of notebooks that goes over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from strata.notebooks.model.limits import MAX_CELLS, MAX_EDITS, MAX_TITLE_CHARACTERS

_CELL_ID: dict[str, Any] = {"pattern": "^[A-Za-z0-9_-]{1,64}$"}
_TITLE: dict[str, Any] = {"minLength": 1, "maxLength": MAX_TITLE_CHARACTERS}
_METADATA: dict[str, Any] = {"description": "JSON values that are kept as they are."}

CellId = Annotated[str, Meta(extra_json_schema=_CELL_ID)]
Title = Annotated[str, Meta(extra_json_schema=_TITLE)]
Metadata = Annotated[dict[str, Any], Meta(extra_json_schema=_METADATA)]
LanguageWord = Literal["python", "sql", "markdown"]
AccessWord = Literal["private", "tenant"]


class NewCellBody(msgspec.Struct, forbid_unknown_fields=True):
    """A cell of a new notebook; without an id it is given one."""

    source: str = ""
    language: LanguageWord = "python"
    id: CellId | None = None
    name: Title | None = None
    metadata: Metadata = {}


class CreateNotebookBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/notebooks``."""

    title: Title
    access: AccessWord = "tenant"
    metadata: Metadata = {}
    cells: Annotated[list[NewCellBody], Meta(max_length=MAX_CELLS)] = []


class InsertEdit(msgspec.Struct, forbid_unknown_fields=True, tag="insert", tag_field="op"):
    """Insert a cell behind the cell ``after``, or as the first one."""

    after: CellId | None = None
    source: str = ""
    language: LanguageWord = "python"
    id: CellId | None = None
    name: Title | None = None
    metadata: Metadata = {}


class ReplaceEdit(msgspec.Struct, forbid_unknown_fields=True, tag="replace", tag_field="op"):
    """Replace parts of a cell; null keeps a part, and an empty name removes the name."""

    id: CellId
    source: str | None = None
    language: LanguageWord | None = None
    name: Annotated[str, Meta(extra_json_schema={"maxLength": MAX_TITLE_CHARACTERS})] | None = None
    metadata: Metadata | None = None


class MoveEdit(msgspec.Struct, forbid_unknown_fields=True, tag="move", tag_field="op"):
    """Move a cell behind the cell ``after``, or to the beginning."""

    id: CellId
    after: CellId | None = None


class DeleteEdit(msgspec.Struct, forbid_unknown_fields=True, tag="delete", tag_field="op"):
    """Delete a cell."""

    id: CellId


class DescribeEdit(msgspec.Struct, forbid_unknown_fields=True, tag="describe", tag_field="op"):
    """Replace the title or the metadata of the notebook; null keeps a part."""

    title: Title | None = None
    metadata: Metadata | None = None


EditBody = InsertEdit | ReplaceEdit | MoveEdit | DeleteEdit | DescribeEdit


class EditsBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /v1/notebooks/{notebook}/edits``: the edits are one revision, all or none.

    ``member`` is the caller's in the notebook's session: the cells are locked for it.
    """

    edits: Annotated[list[EditBody], Meta(min_length=1, max_length=MAX_EDITS)]
    revision: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    member: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")] | None = None


class NotebookSummary(msgspec.Struct):
    """A notebook without its cells; times are ISO 8601 in UTC."""

    name: str
    title: str
    owner: str
    access: str
    revision: int
    created_at: str
    updated_at: str


class NotebookListAnswer(msgspec.Struct):
    """Notebooks in the order of their names."""

    notebooks: list[NotebookSummary]
    next_page_token: str | None = None


class CellAnswer(msgspec.Struct):
    """A cell."""

    id: str
    language: str
    source: str
    name: str | None
    metadata: dict[str, Any]


class DiagnosticAnswer(msgspec.Struct):
    """Something to say about a cell; line and column count from 1."""

    severity: str
    code: str
    message: str
    line: int | None
    column: int | None
    name: str | None
    cells: list[str]


class CellNodeAnswer(msgspec.Struct):
    """A cell in the graph: the producer of each name that it takes, and what it defines."""

    id: str
    inputs: dict[str, str]
    after: list[str]
    defines: list[str]
    deletes: list[str]
    runnable: bool
    diagnostics: list[DiagnosticAnswer]


class NotebookEdgeAnswer(msgspec.Struct):
    """A dependency; an empty ``variable`` is an ``@after``."""

    from_cell_id: str
    to_cell_id: str
    variable: str


class GraphAnswer(msgspec.Struct):
    """The graph of a notebook: cells in its order, and an order in which they can run."""

    cells: list[CellNodeAnswer]
    edges: list[NotebookEdgeAnswer]
    topological_order: list[str]
    variable_producer: dict[str, str]


class RevisionAnswer(msgspec.Struct):
    """A revision without its content."""

    revision: int
    author: str
    created_at: str
    byte_size: int


class NotebookAnswer(msgspec.Struct):
    """A revision of a notebook, with the graph of its cells; ``latest_revision`` is that of the notebook."""

    name: str
    title: str
    owner: str
    access: str
    revision: int
    latest_revision: int
    author: str
    created_at: str
    updated_at: str
    metadata: dict[str, Any]
    cells: list[CellAnswer]
    dag: GraphAnswer


class RevisionListAnswer(msgspec.Struct):
    """Revisions, the latest first."""

    revisions: list[RevisionAnswer]
    next_page_token: str | None = None


class CellChangeAnswer(msgspec.Struct):
    """What became of a cell: one that changed and moved has two entries. Places count from 0."""

    kind: str
    cell_id: str
    before: CellAnswer | None
    after: CellAnswer | None
    before_place: int | None
    after_place: int | None


class ComparisonAnswer(msgspec.Struct):
    """The difference of two revisions; null stands for a title or metadata that did not change."""

    before_revision: int
    after_revision: int
    before_title: str | None
    after_title: str | None
    before_metadata: dict[str, Any] | None
    after_metadata: dict[str, Any] | None
    cells: list[CellChangeAnswer]


class DeletedAnswer(msgspec.Struct):
    """The notebook that was deleted."""

    deleted: str


class ImportLineAnswer(msgspec.Struct):
    """Something that an import did not keep as it was; cells count from 1."""

    code: str
    message: str
    cell: int | None


class ImportAnswer(msgspec.Struct):
    """The notebook that was made of a file, and what was not kept; ``left_out`` counts further lines."""

    notebook: NotebookAnswer
    import_report: list[ImportLineAnswer]
    left_out: int
