"""The questions about notebooks to a tenant's actor and its answers: frozen values without behaviour.

An answer is the value named in the question's docstring or a :class:`~strata.outcomes.Refused`.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from strata.auth import Principal
from strata.notebooks.graph.dependencies import Graph
from strata.notebooks.model.changes import CellChange
from strata.notebooks.model.edits import Edit, InsertCell
from strata.notebooks.model.notebook import Access, Content
from strata.notebooks.store.contract import NotebookRecord, RevisionSummary
from strata.tenants.notebooks.run_messages import RunQuestion
from strata.tenants.notebooks.schedule_messages import ScheduleQuestion
from strata.tenants.notebooks.session_messages import SessionQuestion


@attrs.frozen
class NotebookView:
    """A revision of a notebook.

    Attributes:
        record: The notebook.
        revision: The revision.
        content: Its content.
        graph: The graph of its cells, with diagnostics.
    """

    record: NotebookRecord
    revision: RevisionSummary
    content: Content
    graph: Graph


@attrs.frozen(kw_only=True)
class CreateNotebook:
    """Make a notebook. Answer: :class:`NotebookView`.

    Attributes:
        principal: The caller, its owner.
        request_id: Id of the request, for the audit.
        title: Its title, from which its name is made.
        access: Who may use it.
        content: Its metadata; the cells are inserted in order.
        cells: Its cells; their places are ignored.
    """

    principal: Principal
    request_id: str
    access: Access
    content: Content
    cells: Sequence[InsertCell] = ()


@attrs.frozen(kw_only=True)
class ListNotebooks:
    """List notebooks that the caller may read, by name. Answer: a tuple of :class:`NotebookRecord`."""

    principal: Principal
    after: str
    limit: int


@attrs.frozen(kw_only=True)
class GetNotebook:
    """Read a revision of a notebook; ``None``: the latest one. Answer: :class:`NotebookView`."""

    principal: Principal
    name: str
    revision: int | None = None


@attrs.frozen(kw_only=True)
class EditNotebook:
    """Make a revision. Answer: :class:`NotebookView`.

    Attributes:
        principal: The caller.
        request_id: Id of the request, for the audit.
        name: The notebook.
        base: The revision that the edits are of: the latest one, or the question is refused.
        edits: The edits.
        member: The member of the notebook's session that makes them, if it is one.
    """

    principal: Principal
    request_id: str
    name: str
    base: int
    edits: Sequence[Edit]
    member: str | None = None


@attrs.frozen(kw_only=True)
class ListRevisions:
    """List revisions, the latest first. Answer: a tuple of :class:`RevisionSummary`."""

    principal: Principal
    name: str
    before: int | None
    limit: int


@attrs.frozen(kw_only=True)
class CompareRevisions:
    """Compare two revisions. Answer: :class:`Comparison`."""

    principal: Principal
    name: str
    before: int
    after: int


@attrs.frozen
class Comparison:
    """The difference of two revisions.

    Attributes:
        before: The content of the one.
        after: The content of the other.
        changes: What became of the cells.
    """

    before: Content
    after: Content
    changes: tuple[CellChange, ...]


@attrs.frozen(kw_only=True)
class DeleteNotebook:
    """Delete a notebook, if ``base`` is its latest revision or ``None``. Answer: :class:`Deleted`."""

    principal: Principal
    request_id: str
    name: str
    base: int | None


@attrs.frozen
class Deleted:
    """The notebook is gone."""


NotebookQuestion = (
    CreateNotebook
    | ListNotebooks
    | GetNotebook
    | EditNotebook
    | ListRevisions
    | CompareRevisions
    | DeleteNotebook
    | SessionQuestion
    | RunQuestion
    | ScheduleQuestion
)
