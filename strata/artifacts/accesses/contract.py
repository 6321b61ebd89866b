"""What is kept of a read, and what a store of such records can do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import attrs


@attrs.frozen(kw_only=True)
class TableAccess:
    """A table behind a read.

    Attributes:
        table: The table's resource without ``tables/``, such as ``sales/nyc/flights``.
        snapshot: Id of the snapshot; None if it is not known, as of a refused read.
        rule: The rule that decided on the caller, or the part of the policy that did.
        allowed: What it decided.
    """

    table: str
    snapshot: str | None
    rule: str
    allowed: bool


@attrs.frozen(kw_only=True)
class Access:
    """A read, or an attempt at one.

    Attributes:
        at: Seconds since the epoch, at its end.
        tenant: The caller's tenant.
        principal: The caller.
        request_id: Id of the request; empty for a cell of a notebook.
        action: ``read`` (a request for rows), ``materialize``, ``explain``, ``warm`` or ``cell``.
        outcome: ``ok``, ``client_left``, or the code of the refusal or of the failure that cut the answer.
        artifact_id: Id of the result that was read; None if none was.
        version: Its version.
        rows: Rows of the result; None if they are not known.
        nbytes: Bytes sent to the caller by the server itself.
        tables: The tables behind it, at most some dozens.
        cut: Whether there were more of them.
    """

    at: float
    tenant: str
    principal: str
    request_id: str
    action: str
    outcome: str
    artifact_id: str | None = None
    version: int | None = None
    rows: int | None = None
    nbytes: int = 0
    tables: tuple[TableAccess, ...] = ()
    cut: bool = False


@attrs.frozen
class AccessRecord:
    """A kept access and its id, which ascends from 1."""

    id: int
    access: Access


class AccessStore(Protocol):
    """Keeps accesses. Blocking; each call raises ``RefusalError`` if the database does not answer.

    Attributes:
        now: The store's wall clock, in seconds since the epoch.
    """

    now: Callable[[], float]

    def add(self, accesses: Sequence[Access]) -> None:
        """Append accesses of any tenants in one transaction."""

    def page(
        self,
        tenant: str,
        *,
        before: int | None,
        limit: int,
        principal: str | None = None,
        artifact_id: str | None = None,
    ) -> tuple[AccessRecord, ...]:
        """Return accesses of a tenant, the latest first, from the one before an id on."""

    def tenants(self) -> tuple[str, ...]:
        """Return the tenants with accesses."""

    def trim(self, tenant: str, *, since: float, nbytes: int) -> int:
        """Remove accesses before ``since`` and the oldest beyond ``nbytes`` (0: none); return how many."""
