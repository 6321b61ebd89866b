"""Contract of a store of notebooks and their revisions.

Calls block and are thread-safe. Each names its tenant, since names are unique within a tenant only. A write
is durable when the call returns, and is one transaction with the line of the audit that tells of it. A store
that does not answer raises :class:`~strata.outcomes.RefusalError`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

import attrs

from strata.artifacts import Act
from strata.notebooks.model.notebook import Access
from strata.notebooks.store.leases import SessionLeases
from strata.notebooks.store.runs import RunStore
from strata.notebooks.store.schedules import ScheduleStore
from strata.notebooks.store.workers import WorkerStore
from strata.outcomes import Reason, Refused

MAX_NOTEBOOKS: Final = 10_000
"""Maximum notebooks of a tenant."""

MAX_TENANT_BYTES: Final = 256 * 1024 * 1024
"""Maximum bytes of all revisions of a tenant's notebooks, contents and analyses in UTF-8."""

MAX_REVISIONS: Final = 500
"""Maximum revisions kept of a notebook; the oldest ones go."""

MAX_HISTORY_BYTES: Final = 16 * 1024 * 1024
"""Maximum bytes of the revisions kept of a notebook; the oldest ones go, the latest one never."""

MAX_RESULTS: Final = 4
"""Results kept of a cell: of its last runs, and of callers with different rights; the oldest ones go."""

MAX_RESULT_BYTES: Final = 16 * 1024 * 1024 * 1024
"""Maximum bytes of the bundles of a tenant's cells; a run beyond them is refused."""

NAME_TAKEN: Final = Refused(Reason.CONFLICT, "The notebook's name is taken.", code="name_taken")

NOTEBOOK_NOT_FOUND: Final = Refused(Reason.NOT_FOUND, "Notebook not found")

TOO_MANY_NOTEBOOKS: Final = Refused(
    Reason.TOO_LARGE,
    f"A tenant has at most {MAX_NOTEBOOKS} notebooks. Delete some.",
    code="too_many_notebooks",
)

NO_SPACE: Final = Refused(
    Reason.TOO_LARGE,
    f"The notebooks of a tenant have at most {MAX_TENANT_BYTES} bytes with their revisions. Delete some.",
    code="notebooks_full",
)


NO_RESULT_SPACE: Final = Refused(
    Reason.TOO_LARGE,
    f"The results of a tenant's cells have at most {MAX_RESULT_BYTES} bytes. Delete cells or notebooks.",
    code="cell_results_full",
)


def changed_since(revision: int) -> Refused:
    """Return the refusal of a write that is based on another revision than the latest one."""
    return Refused(
        Reason.CONFLICT,
        f"The notebook has changed: its revision is {revision}. Read it, and edit that one.",
        code="revision_changed",
    )


@attrs.frozen(kw_only=True)
class NotebookRecord:
    """A notebook. Times are seconds since the epoch.

    Attributes:
        name: Its name, unique in its tenant.
        title: Its title, that of the latest revision.
        owner: Id of the principal that made it.
        access: Who may use it.
        revision: Number of the latest revision, from 1.
        created_at: When it was made.
        updated_at: When the latest revision was made.
    """

    name: str
    title: str
    owner: str
    access: Access
    revision: int
    created_at: float
    updated_at: float


@attrs.frozen(kw_only=True)
class RevisionSummary:
    """A revision without its content.

    Attributes:
        revision: Its number, from 1.
        author: Id of the principal that made it.
        at: When it was made, in seconds since the epoch.
        nbytes: Bytes of its content and analysis.
    """

    revision: int
    author: str
    at: float
    nbytes: int


@attrs.frozen(kw_only=True)
class RevisionRecord(RevisionSummary):
    """A revision.

    Attributes:
        content: The content, as :func:`~strata.notebooks.model.notebook.encode_content` writes it.
        analysis: The analyses of its cells, as JSON.
    """

    content: str
    analysis: str


@attrs.frozen(kw_only=True)
class Draft:
    """A revision to be written.

    Attributes:
        title: The title in its content.
        author: Id of the principal that makes it.
        content: The content as JSON.
        analysis: The analyses as JSON.
    """

    title: str
    author: str
    content: str
    analysis: str

    @property
    def nbytes(self) -> int:
        """Bytes of content and analysis."""
        return len(self.content.encode()) + len(self.analysis.encode())


@attrs.frozen(kw_only=True)
class ResultRow:
    """The result of a run of a cell.

    Attributes:
        cell: The cell.
        sha256: Hash of its bundle, a blob of the notebook; ``None``: it left none.
        byte_size: Bytes of the bundle.
        record: What else is known of it, as JSON.
        at: When it was written, in seconds since the epoch; 0 before.
    """

    cell: str
    sha256: str | None
    byte_size: int
    record: str
    at: float = 0.0


class NotebookStore(Protocol):
    """Contract of every store of notebooks."""

    @property
    def runs(self) -> RunStore:
        """Runs of whole notebooks, in the same database."""

    @property
    def schedules(self) -> ScheduleStore:
        """Schedules of notebooks, in the same database."""

    @property
    def leases(self) -> SessionLeases:
        """Leases of the notebooks' sessions, in the same database."""

    @property
    def workers(self) -> WorkerStore:
        """Switches of workers, in the same database."""

    def add_result(
        self,
        tenant: str,
        name: str,
        row: ResultRow,
        cells: Collection[str],
        *,
        epoch: int | None = None,
        ended: bool = False,
    ) -> tuple[str, ...] | Refused:
        """Add a result; the oldest ones of its cell beyond :data:`MAX_RESULTS` go.

        Args:
            tenant: The tenant.
            name: The notebook.
            row: The result.
            cells: The notebook's cells; results of others go.
            epoch: The epoch of the session's owner that writes; ``None``: the writer owns no session.
            ended: Whether the cell that was noted as running has ended with it.

        Returns:
            Hashes of bundles that no result of the notebook has any more, or :data:`NOTEBOOK_NOT_FOUND`,
            :data:`NO_RESULT_SPACE` or the refusal of a server that does not own the session.
        """

    def list_results(self, tenant: str, name: str) -> tuple[ResultRow, ...]:
        """Return the results of a notebook's cells, the latest first."""

    def create(
        self, tenant: str, name: str, access: Access, draft: Draft, act: Act
    ) -> NotebookRecord | Refused:
        """Make a notebook with its first revision; its owner is the draft's author.

        Returns:
            The notebook, or :data:`NAME_TAKEN`, :data:`TOO_MANY_NOTEBOOKS` or :data:`NO_SPACE`.
        """

    def add_revision(
        self, tenant: str, name: str, base: int, draft: Draft, act: Act, *, epoch: int | None = None
    ) -> NotebookRecord | Refused:
        """Add the revision behind ``base``, if that is the latest one.

        Of two writers with one base, one is refused. The oldest revisions go where there are more than
        :data:`MAX_REVISIONS`, or :data:`MAX_HISTORY_BYTES`.

        Args:
            tenant: The tenant.
            name: The notebook.
            base: The revision that the new one is of.
            draft: The new one.
            act: The line of the audit.
            epoch: The epoch of the session's owner that writes; ``None``: the writer owns no session.

        Returns:
            The notebook, or :data:`NOTEBOOK_NOT_FOUND`, :func:`changed_since`, :data:`NO_SPACE`, or the
            refusal of a server that does not own the session while another one does.
        """

    def delete(self, tenant: str, name: str, base: int | None, act: Act) -> Refused | None:
        """Delete a notebook with its revisions and results, if ``base`` is its latest revision or ``None``.

        Returns:
            :data:`NOTEBOOK_NOT_FOUND` or :func:`changed_since`, the refusal of a server while another one
            owns the session, or ``None`` when it is done.
        """

    def get(self, tenant: str, name: str) -> NotebookRecord | None:
        """Return a notebook, or ``None``."""

    def get_revision(self, tenant: str, name: str, revision: int) -> RevisionRecord | None:
        """Return a revision, or ``None`` if there is none, or none any more."""

    def list_notebooks(self, tenant: str, *, after: str, limit: int) -> tuple[NotebookRecord, ...]:
        """Return up to ``limit`` notebooks with names above ``after``, in the order of code points."""

    def list_revisions(
        self, tenant: str, name: str, *, before: int | None, limit: int
    ) -> tuple[RevisionSummary, ...]:
        """Return up to ``limit`` revisions below ``before``, the latest first."""
