"""Methods about results and builds that both clients have, blocking and awaited."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, TypeVar

from strata.client import operations
from strata.client.answers import Cancelled, Deleted, Dependents, Lineage, Materialized, NameStatus
from strata.client.operations import ClientEnvironment, Operation

T = TypeVar("T")


class ResultMethods(ABC):
    """Blocking methods about results."""

    _env: ClientEnvironment

    @abstractmethod
    def _run(self, operation: Operation[T]) -> T: ...

    def lineage(self, uri: str, depth: int = 10) -> Lineage:
        """Return the inputs of a result, theirs and so on, as far as the caller may read them.

        Args:
            uri: ``strata://artifact/<id>@v=<n>`` or ``strata://name/<name>``.
            depth: Steps to follow.

        Raises:
            StrataError: If there is no such result for the caller, or the server does not answer.
            ValueError: If the text is no such URI.
        """
        return self._run(operations.lineage(self._env, uri, depth))

    def dependents(self, uri: str) -> Dependents:
        """Return what was made of a result, as far as the caller may read it; errors of :meth:`lineage`."""
        return self._run(operations.dependents(self._env, uri))

    def status(self, name: str) -> NameStatus:
        """Return whether the result of a name is what its inputs would give now; as :meth:`lineage`."""
        return self._run(operations.status(self._env, name))

    def cancel(self, build: str | Materialized) -> Cancelled:
        """End a build that the caller asked for; it goes on if others asked for the same result.

        Args:
            build: A build's id, or the answer of ``materialize`` that has it.

        Raises:
            StrataError: If there is no such build for the caller, or the server does not answer.
            ValueError: If the answer has no build.
        """
        return self._run(operations.cancel(self._env, build))

    def delete(self, uri: str) -> Deleted:
        """Remove a version of a result, unless a name, a reader or another result holds it.

        Raises:
            StrataError: If it is held, if there is none, or if the caller may not write.
            ValueError: If the text is no such URI.
        """
        return self._run(operations.delete(self._env, uri))

    def accesses(self, limit: int = 100, **options: str) -> list[dict[str, Any]]:
        """Return who read which tables and results of a tenant, the latest first.

        Args:
            limit: Maximum records.
            options: ``tenant``, ``principal`` and ``artifact_id``, to see less or another tenant.

        Raises:
            StrataError: If the caller has not the scope ``admin:tenants``, or the server does not answer.
        """
        return self._run(operations.accesses(self._env, limit, options))


class AsyncResultMethods(ABC):
    """Methods about results to be awaited; arguments, answers and errors are those of ``StrataClient``."""

    _env: ClientEnvironment

    @abstractmethod
    async def _run(self, operation: Operation[T]) -> T: ...

    async def lineage(self, uri: str, depth: int = 10) -> Lineage:
        """Return the inputs of a result, theirs and so on."""
        return await self._run(operations.lineage(self._env, uri, depth))

    async def dependents(self, uri: str) -> Dependents:
        """Return what was made of a result, as far as the caller may read it."""
        return await self._run(operations.dependents(self._env, uri))

    async def status(self, name: str) -> NameStatus:
        """Return whether the result of a name is what its inputs would give now."""
        return await self._run(operations.status(self._env, name))

    async def cancel(self, build: str | Materialized) -> Cancelled:
        """End a build that the caller asked for; it goes on if others asked for the same result."""
        return await self._run(operations.cancel(self._env, build))

    async def delete(self, uri: str) -> Deleted:
        """Remove a version of a result, unless a name, a reader or another result holds it."""
        return await self._run(operations.delete(self._env, uri))

    async def accesses(self, limit: int = 100, **options: str) -> list[dict[str, Any]]:
        """Return who read which tables and results of a tenant, the latest first."""
        return await self._run(operations.accesses(self._env, limit, options))
