"""The server's answers about notebooks as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from strata.client.display.html import Shown


@attrs.frozen
class NotebookSummary(Shown):
    """A notebook without its cells; times are ISO 8601."""

    name: str
    title: str
    owner: str
    access: str
    revision: int
    created_at: str
    updated_at: str


@attrs.frozen
class NotebookCell(Shown):
    """A cell; ``language`` is ``python``, ``sql`` or ``markdown``."""

    id: str
    language: str
    source: str
    name: str | None = None
    metadata: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Notebook(Shown):
    """A revision of a notebook.

    Attributes:
        name: The name, which the server made and never changes.
        title: The title.
        owner: The principal that made the notebook.
        access: ``tenant`` or ``private``.
        revision: The revision, from 1.
        latest_revision: The latest one.
        cells: The cells in order.
        dag: What each cell takes and defines, and what is wrong with it.
    """

    name: str
    title: str
    owner: str
    access: str
    revision: int
    latest_revision: int
    cells: tuple[NotebookCell, ...]
    dag: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class NotebookValue(Shown):
    """A value that a cell left, or something that it displayed, with the beginning of its text."""

    content_type: str
    bytes: int
    preview: str
    type: str | None = None
    sha256: str | None = None


@attrs.frozen
class NotebookResult(Shown):
    """The result of a cell; ``outcome`` is ``ok`` or the code of an error with its ``message``."""

    outcome: str
    message: str
    seconds: float
    run_by: str
    revision: int
    stdout: str
    stderr: str
    traceback: str | None = None
    line: int | None = None
    values: Mapping[str, NotebookValue] = attrs.field(factory=dict)
    displays: tuple[NotebookValue, ...] = ()
    changed_in_place: tuple[str, ...] = ()


@attrs.frozen
class SessionCell(Shown):
    """A cell in a notebook's session; ``hidden``: its results need rights that the caller has not."""

    id: str
    status: str
    stale: tuple[Mapping[str, Any], ...]
    hidden: bool
    result: NotebookResult | None = None


@attrs.frozen
class NotebookSession(Shown):
    """The results of a notebook's cells; ``seq`` is the number of the session's last event."""

    session: str
    seq: int
    revision: int
    cells: tuple[SessionCell, ...]


@attrs.frozen
class SessionEvents:
    """Events behind one."""

    session: str
    seq: int
    complete: bool
    events: tuple[Mapping[str, Any], ...]


@attrs.frozen
class CellEnd(Shown):
    """How the run of a cell ended: ``ok``, ``reused``, ``skipped`` or the code of an error."""

    cell: str
    how: str
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether the cell has a result now that is no error."""
        return self.how in ("ok", "reused")


@attrs.frozen
class NotebookRun(Shown):
    """A run of cells that has ended, and the session after it."""

    ended: tuple[CellEnd, ...]
    session: NotebookSession

    @property
    def ok(self) -> bool:
        """Whether all cells of the run have results that are no errors."""
        return all(one.ok for one in self.ended)


@attrs.frozen
class NotebookPage:
    """A page of a listing of notebooks."""

    notebooks: tuple[NotebookSummary, ...]
    next_page_token: str | None = None


@attrs.frozen
class ImportedNotebook(Shown):
    """A notebook that was made of a file, and what was not kept of the file."""

    notebook: Notebook
    import_report: tuple[Mapping[str, Any], ...] = ()
    left_out: int = 0
