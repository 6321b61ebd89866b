"""Methods about notebooks that both clients have, blocking and awaited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from strata.client.display.html import Listing
from strata.client.methods import notebook_operations as operations
from strata.client.methods.notebook_answers import (
    ImportedNotebook,
    Notebook,
    NotebookRun,
    NotebookSession,
    NotebookSummary,
)
from strata.client.operations import ClientEnvironment, Operation

T = TypeVar("T")


class NotebookMethods(ABC):
    """Blocking methods about notebooks."""

    _env: ClientEnvironment

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T: ...

    def notebooks(self) -> Listing[NotebookSummary]:
        """Return the notebooks that the caller may read, by name."""
        return self._run(operations.notebooks(self._env))

    def notebook(self, name: str, *, revision: int | None = None) -> Notebook:
        """Return a notebook, the latest revision by default.

        Raises:
            StrataError: If there is no such notebook for the caller, or the server does not answer.
        """
        return self._run(operations.notebook(self._env, name, revision))

    def create_notebook(
        self, title: str, cells: Iterable[str | Mapping[str, Any]] = (), *, access: str = "tenant"
    ) -> Notebook:
        """Make a notebook.

        Args:
            title: The title; the server makes the name of it.
            cells: Sources in Python, or mappings with ``source``, ``language``, ``id`` and ``name``.
            access: ``tenant``, or ``private``: for the caller alone.

        Raises:
            StrataError: If the caller may not write notebooks, or a cell is not valid.
        """
        return self._run(operations.create(self._env, title, cells, access))

    def edit_notebook(self, name: str, revision: int, edits: Iterable[Mapping[str, Any]]) -> Notebook:
        """Make a revision of a notebook: all edits or none.

        Args:
            name: The notebook.
            revision: The revision that the edits are of.
            edits: Edits such as ``{"op": "replace", "id": "load", "source": "x = 1"}``.

        Raises:
            StrataError: If the notebook has changed since, or an edit does not apply.
        """
        return self._run(operations.edit(self._env, name, revision, edits))

    def delete_notebook(self, name: str) -> None:
        """Delete a notebook with its revisions and results; errors of :meth:`notebook`."""
        self._run(operations.delete(self._env, name))

    def run_notebook(
        self,
        name: str,
        cells: Iterable[str] | None = None,
        *,
        force: bool = False,
        timeout: float | None = None,
    ) -> NotebookRun:
        """Run cells of a notebook, and before them those that they need; wait until they have ended.

        Args:
            name: The notebook.
            cells: The cells; ``None``: all.
            force: Reuse no result of these cells.
            timeout: Seconds to wait; ``None``: as long as it takes.

        Raises:
            WaitTimeoutError: If some still run then; they go on.
            StrataError: If the caller may not run cells, or there is no worker for them.
        """
        return self._run(operations.run(self._env, name, cells, force=force, timeout=timeout))

    def interrupt_notebook(self, name: str) -> NotebookSession:
        """Interrupt the run under way, and drop those that wait; errors of :meth:`run_notebook`."""
        return self._run(operations.interrupt(self._env, name))

    def notebook_session(self, name: str) -> NotebookSession:
        """Return the results of a notebook's cells; errors of :meth:`notebook`."""
        return self._run(operations.session(self._env, name))

    def notebook_value(self, name: str, cell: str, value: str) -> Any:
        """Return a value that a cell left: an Arrow table, what JSON has, or bytes of a pickle.

        Raises:
            StrataError: If there is no such value for the caller, or it has more than 16 MiB.
        """
        return self._run(operations.value(self._env, name, cell, {"value": value}))

    def notebook_display(self, name: str, cell: str, place: int = 0) -> Any:
        """Return what a cell displayed, by its place; errors of :meth:`notebook_value`."""
        return self._run(operations.value(self._env, name, cell, {"display": place}))

    def export_notebook(self, name: str, kind: str = "ipynb", *, revision: int | None = None) -> str:
        """Return a notebook as the text of a file: ``ipynb``, ``script`` or ``html``."""
        return self._run(operations.export(self._env, name, kind, revision))

    def import_notebook(
        self, data: bytes, *, title: str | None = None, access: str = "tenant"
    ) -> ImportedNotebook:
        """Make a notebook of the bytes of an ``.ipynb`` file."""
        return self._run(operations.import_ipynb(self._env, data, title, access))


class AsyncNotebookMethods(ABC):
    """Methods about notebooks to be awaited; arguments, answers and errors are those of ``StrataClient``."""

    _env: ClientEnvironment

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T: ...

    async def notebooks(self) -> Listing[NotebookSummary]:
        """Return the notebooks that the caller may read, by name."""
        return await self._run(operations.notebooks(self._env))

    async def notebook(self, name: str, *, revision: int | None = None) -> Notebook:
        """Return a notebook, the latest revision by default."""
        return await self._run(operations.notebook(self._env, name, revision))

    async def create_notebook(
        self, title: str, cells: Iterable[str | Mapping[str, Any]] = (), *, access: str = "tenant"
    ) -> Notebook:
        """Make a notebook."""
        return await self._run(operations.create(self._env, title, cells, access))

    async def edit_notebook(self, name: str, revision: int, edits: Iterable[Mapping[str, Any]]) -> Notebook:
        """Make a revision of a notebook: all edits or none."""
        return await self._run(operations.edit(self._env, name, revision, edits))

    async def delete_notebook(self, name: str) -> None:
        """Delete a notebook with its revisions and results."""
        await self._run(operations.delete(self._env, name))

    async def run_notebook(
        self,
        name: str,
        cells: Iterable[str] | None = None,
        *,
        force: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109  # as the sync client
    ) -> NotebookRun:
        """Run cells of a notebook, and before them those that they need; wait until they have ended."""
        return await self._run(operations.run(self._env, name, cells, force=force, timeout=timeout))

    async def interrupt_notebook(self, name: str) -> NotebookSession:
        """Interrupt the run under way, and drop those that wait."""
        return await self._run(operations.interrupt(self._env, name))

    async def notebook_session(self, name: str) -> NotebookSession:
        """Return the results of a notebook's cells."""
        return await self._run(operations.session(self._env, name))

    async def notebook_value(self, name: str, cell: str, value: str) -> Any:
        """Return a value that a cell left: an Arrow table, what JSON has, or bytes of a pickle."""
        return await self._run(operations.value(self._env, name, cell, {"value": value}))

    async def notebook_display(self, name: str, cell: str, place: int = 0) -> Any:
        """Return what a cell displayed, by its place."""
        return await self._run(operations.value(self._env, name, cell, {"display": place}))

    async def export_notebook(self, name: str, kind: str = "ipynb", *, revision: int | None = None) -> str:
        """Return a notebook as the text of a file: ``ipynb``, ``script`` or ``html``."""
        return await self._run(operations.export(self._env, name, kind, revision))

    async def import_notebook(
        self, data: bytes, *, title: str | None = None, access: str = "tenant"
    ) -> ImportedNotebook:
        """Make a notebook of the bytes of an ``.ipynb`` file."""
        return await self._run(operations.import_ipynb(self._env, data, title, access))
