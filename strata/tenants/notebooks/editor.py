"""Answer the questions about notebooks: rights first, then the store; what takes long is not on the loop.

A notebook that the caller may not read is answered as one that does not exist: the rules decide on its name
before the store does any work, and what the store has is shown to its owner only, or to the tenant.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar

import attrs
import msgspec

from strata import acl
from strata.artifacts import Act
from strata.auth import Principal
from strata.notebooks.model.changes import changes_between
from strata.notebooks.model.edits import Describe, apply_edits
from strata.notebooks.model.notebook import (
    NOTEBOOK_NAME,
    Access,
    Content,
    decode_content,
    encode_content,
    title_problem,
)
from strata.notebooks.store.contract import (
    NAME_TAKEN,
    NOTEBOOK_NOT_FOUND,
    Draft,
    NotebookRecord,
    RevisionRecord,
    RevisionSummary,
    changed_since,
)
from strata.outcomes import Reason, Refused
from strata.tenants.notebooks import messages as m
from strata.tenants.notebooks.analyses import (
    Analyses,
    analyse_cells,
    decode_analyses,
    encode_analyses,
    graph_of,
)
from strata.tenants.shared.resources import Resources

T = TypeVar("T")

CHUNK: Final = 200
"""Notebooks read in one call of the store, and decided on without a checkpoint."""

ATTEMPTS: Final = 3
"""Names tried for a new notebook: each is random, so that a second attempt is hardly ever needed."""

SLUG_CHARACTERS: Final = 40
"""Maximum characters of a title in a notebook's name."""

REVISION_NOT_FOUND: Final = Refused(
    Reason.NOT_FOUND, "The notebook has no such revision any more, or never had it."
)

_ACTIONS: Final[Mapping[type, str]] = {
    m.CreateNotebook: "notebooks.create",
    m.EditNotebook: "notebooks.edit",
    m.DeleteNotebook: "notebooks.delete",
}

_NO_SLUG: Final = re.compile("[^a-z0-9]+")


def notebook_resource(name: str) -> str:
    """Return the resource of a notebook for the rules."""
    return acl.resource_name("notebooks", name)


def new_name(title: str) -> str:
    """Return a name for a notebook: words of its title, and random digits that no caller can guess."""
    slug = _NO_SLUG.sub("-", title.lower())[:SLUG_CHARACTERS].strip("-")
    return f"{slug or 'notebook'}-{secrets.token_hex(4)}"


def new_cell_id() -> str:
    """Return a random id for a cell."""
    return secrets.token_hex(4)


@attrs.frozen(eq=False)
class NotebookEditor:
    """Answers the questions about the notebooks of a tenant.

    Attributes:
        tenant: The tenant.
        resources: The process's shared resources.
    """

    tenant: str
    resources: Resources

    async def create(self, question: m.CreateNotebook) -> m.NotebookView | Refused:
        """Make a notebook that the rules let the caller write."""
        refused = title_problem(question.content.title, ("title",), "The title")
        if refused is not None:
            return refused
        principal = question.principal
        content = await self._compute(principal, partial(_first_content, question))
        if isinstance(content, Refused):
            return content
        analyses = await analyse_cells(self.resources, principal, content, None, {})
        for _ in range(ATTEMPTS):
            name = new_name(content.title)
            if not self._permits(principal, name, "write"):
                return self.resources.authorizer.forbidden("write")
            create = partial(self.resources.notebooks.create, self.tenant, name, question.access)
            act = self._act(question, name, 1)
            view = await self._written(principal, content, analyses, create, act)
            if view is not NAME_TAKEN:
                break
        return view

    async def list_notebooks(self, question: m.ListNotebooks) -> tuple[NotebookRecord, ...]:
        """List the notebooks that the caller may read: one call of the store for each :data:`CHUNK`."""
        found: list[NotebookRecord] = []
        after = question.after
        while True:
            listing = self.resources.notebooks.list_notebooks
            part = await self.resources.ask(self.tenant, listing, self.tenant, after=after, limit=CHUNK)
            for one in part:
                if self._shows(question.principal, one) and self._permits(
                    question.principal, one.name, "read"
                ):
                    found.append(one)
                    if len(found) == question.limit:
                        return tuple(found)
            if len(part) < CHUNK:
                return tuple(found)
            after = part[-1].name

    async def get(
        self, question: m.GetNotebook, known: m.NotebookView | None = None
    ) -> m.NotebookView | Refused:
        """Read a revision of a notebook.

        Args:
            question: Which one.
            known: A revision that was read before: if it is the one, it need not be read and analysed again.
        """
        record = await self._readable(question.principal, question.name)
        if isinstance(record, Refused):
            return record
        wanted = record.revision if question.revision is None else question.revision
        if known is not None and known.revision.revision == wanted and known.record.name == record.name:
            return attrs.evolve(known, record=record)
        revision = await self._revision(record, question.revision)
        if isinstance(revision, Refused):
            return revision
        content, kept = await self._compute(question.principal, partial(_decoded, revision))
        analyses = await analyse_cells(self.resources, question.principal, content, content, kept)
        return await self._view(question.principal, record, revision, content, analyses)

    async def changed(
        self,
        principal: Principal,
        name: str,
        number: int | None,
        change: Callable[[Content], Content | Refused],
    ) -> m.NotebookView | Refused:
        """Return what a revision would be after a change, which is not kept."""
        record = await self._readable(principal, name)
        if isinstance(record, Refused):
            return record
        revision = await self._revision(record, number)
        if isinstance(revision, Refused):
            return revision
        content, kept = await self._compute(principal, partial(_decoded, revision))
        found = await self._compute(principal, partial(change, content))
        if isinstance(found, Refused):
            return found
        analyses = await analyse_cells(self.resources, principal, found, content, kept)
        return await self._view(principal, record, revision, found, analyses)

    async def edit(self, question: m.EditNotebook, epoch: int | None = None) -> m.NotebookView | Refused:
        """Make a revision of the latest one; edits that change nothing make none.

        Args:
            question: The edits.
            epoch: The epoch of the session in which they are made; ``None``: in none.
        """
        principal = question.principal
        record = await self._changeable(principal, question.name, question.base, "write")
        if isinstance(record, Refused):
            return record
        revision = await self._revision(record, question.base)
        if isinstance(revision, Refused):
            return revision
        content, kept = await self._compute(principal, partial(_decoded, revision))
        changed = await self._compute(principal, partial(apply_edits, content, question.edits, new_cell_id))
        if isinstance(changed, Refused):
            return changed
        analyses = await analyse_cells(self.resources, principal, changed, content, kept)
        if changed == content:
            return await self._view(principal, record, revision, content, analyses)
        add = partial(
            self.resources.notebooks.add_revision, self.tenant, record.name, question.base, epoch=epoch
        )
        act = self._act(question, record.name, question.base + 1)
        return await self._written(principal, changed, analyses, add, act)

    async def list_revisions(self, question: m.ListRevisions) -> tuple[RevisionSummary, ...] | Refused:
        """List the revisions of a notebook."""
        record = await self._readable(question.principal, question.name)
        if isinstance(record, Refused):
            return record
        return await self.resources.ask(
            self.tenant,
            self.resources.notebooks.list_revisions,
            self.tenant,
            record.name,
            before=question.before,
            limit=question.limit,
        )

    async def compare(self, question: m.CompareRevisions) -> m.Comparison | Refused:
        """Compare two revisions of a notebook."""
        record = await self._readable(question.principal, question.name)
        if isinstance(record, Refused):
            return record
        before = await self._revision(record, question.before)
        after = await self._revision(record, question.after)
        if isinstance(before, Refused) or isinstance(after, Refused):
            return REVISION_NOT_FOUND
        return await self._compute(question.principal, partial(_compared, before, after))

    async def delete(self, question: m.DeleteNotebook) -> m.Deleted | Refused:
        """Delete a notebook with its revisions."""
        principal = question.principal
        record = await self._changeable(principal, question.name, question.base, "delete")
        if isinstance(record, Refused):
            return record
        act = self._act(question, record.name, record.revision)
        delete = self.resources.notebooks.delete
        refused = await self.resources.write(
            self.tenant, delete, self.tenant, record.name, question.base, act
        )
        return m.Deleted() if refused is None else refused

    async def _compute(self, principal: Principal, function: partial[T]) -> T:
        return await self.resources.compute(self.tenant, principal.id, function)

    async def _revision(self, record: NotebookRecord, number: int | None) -> RevisionRecord | Refused:
        get = self.resources.notebooks.get_revision
        wanted = record.revision if number is None else number
        found = await self.resources.ask(self.tenant, get, self.tenant, record.name, wanted)
        return REVISION_NOT_FOUND if found is None else found

    async def _view(
        self,
        principal: Principal,
        record: NotebookRecord,
        revision: RevisionSummary,
        content: Content,
        analyses: Analyses,
    ) -> m.NotebookView | Refused:
        graph = await self._compute(principal, partial(graph_of, content, analyses))
        if isinstance(graph, Refused):
            return graph
        summary = RevisionSummary(
            revision=revision.revision, author=revision.author, at=revision.at, nbytes=revision.nbytes
        )
        return m.NotebookView(record, summary, content, graph)

    async def _written(
        self,
        principal: Principal,
        content: Content,
        analyses: Analyses,
        write: partial[NotebookRecord | Refused],
        act: Act,
    ) -> m.NotebookView | Refused:
        """Write a revision whose graph is within its bounds, and return it."""
        graph = await self._compute(principal, partial(graph_of, content, analyses))
        if isinstance(graph, Refused):
            return graph
        draft = await self._compute(principal, partial(_draft, principal.id, content, analyses))
        record = await self.resources.write(self.tenant, write, draft, act)
        if isinstance(record, Refused):
            return record
        summary = RevisionSummary(
            revision=record.revision, author=principal.id, at=record.updated_at, nbytes=draft.nbytes
        )
        return m.NotebookView(record, summary, content, graph)

    def _act(
        self, question: m.CreateNotebook | m.EditNotebook | m.DeleteNotebook, name: str, revision: int
    ) -> Act:
        """Return the line of the audit: the revision that is made, or the last one of what is deleted."""
        notebook = msgspec.json.encode({"notebook": name, "revision": revision}).decode()
        is_deleted = isinstance(question, m.DeleteNotebook)
        return Act(
            tenant=self.tenant,
            principal=question.principal.id,
            principal_tenant=question.principal.tenant,
            action=_ACTIONS[type(question)],
            request_id=question.request_id,
            old=notebook if is_deleted else None,
            new=None if is_deleted else notebook,
        )

    def _permits(self, principal: Principal, name: str, action: acl.Action) -> bool:
        return self.resources.authorizer.permits(principal, notebook_resource(name), action)

    @staticmethod
    def _shows(principal: Principal, record: NotebookRecord) -> bool:
        """Whether the notebook itself is open to the caller, besides the rules."""
        is_open = record.access is Access.TENANT or record.owner == principal.id
        return is_open or principal.has_scope("admin:*")

    async def _readable(self, principal: Principal, name: str) -> NotebookRecord | Refused:
        """Return a notebook that the caller may read; a refusal takes the same work, whatever its cause."""
        if not NOTEBOOK_NAME.fullmatch(name):
            return NOTEBOOK_NOT_FOUND
        permitted = self._permits(principal, name, "read")
        get = self.resources.notebooks.get
        record = await self.resources.ask(self.tenant, get, self.tenant, name)
        if not permitted and not self.resources.authorizer.hide:
            return self.resources.authorizer.forbidden("read")
        if record is None or not permitted or not self._shows(principal, record):
            return NOTEBOOK_NOT_FOUND
        return record

    async def _changeable(
        self, principal: Principal, name: str, base: int | None, action: acl.Action
    ) -> NotebookRecord | Refused:
        """Return a notebook that the caller may change, and whose latest revision is ``base``."""
        record = await self._readable(principal, name)
        if isinstance(record, Refused):
            return record
        if not self._permits(principal, name, action):
            return self.resources.authorizer.forbidden(action)
        if base is not None and base != record.revision:
            return changed_since(record.revision)
        return record


def _first_content(question: m.CreateNotebook) -> Content | Refused:
    """Return the content of a new notebook: each cell behind the one before."""
    edits, last = [], None
    for cell in question.cells:
        id_ = new_cell_id() if cell.id is None else cell.id
        edits.append(attrs.evolve(cell, id=id_, after=last))
        last = id_
    content = attrs.evolve(question.content, cells=())
    found = apply_edits(content, edits or [Describe()], new_cell_id)
    if isinstance(found, Refused) and found.loc[:1] == ("edits",):
        return attrs.evolve(found, loc=("cells", *found.loc[1:]))
    return found


def _draft(author: str, content: Content, analyses: Analyses) -> Draft:
    return Draft(
        title=content.title,
        author=author,
        content=encode_content(content),
        analysis=encode_analyses(analyses),
    )


def _decoded(revision: RevisionRecord) -> tuple[Content, Analyses]:
    return decode_content(revision.content), decode_analyses(revision.analysis)


def _compared(before: RevisionRecord, after: RevisionRecord) -> m.Comparison:
    old, new = decode_content(before.content), decode_content(after.content)
    return m.Comparison(old, new, changes_between(old, new))
