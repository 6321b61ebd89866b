"""Bound the bytes of request bodies in memory, and share them fairly among tenants. Pure: no waiting here."""

from __future__ import annotations

from typing import TypeVar

import attrs

from strata.outcomes import Reason, Refused

K = TypeVar("K")

FREE_BYTES = 16 * 1024
"""Bytes of a body that are not counted; of a larger one all bytes are."""

STEP_BYTES = 64 * 1024
"""Bytes by which a body's charge grows, as the body arrives."""

SPARE = 3
"""A tenant holds at most ``SPARE`` times what it leaves to others: 3/4 of all when it is alone. A principal
holds at most as much of what its tenant may hold."""

RETRY_SECONDS = 5
"""Retry-After in seconds of a body for which there is no memory."""

NO_MEMORY = Refused(
    Reason.UNAVAILABLE,
    f"The server had no memory to spare for the request's body (memory_budget_bytes); bodies of up to "
    f"{FREE_BYTES} bytes are always read. Retry after {RETRY_SECONDS} s.",
    "memory_budget_bytes",
    RETRY_SECONDS,
)


class BodyBudget:
    """Bytes of request bodies, by tenant and principal.

    Args:
        total: Bytes of all bodies together. A single body may be larger, if it is alone.

    Attributes:
        total: As above; may be changed. What is held stays held.
        used: Bytes held.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._tenants: dict[str, int] = {}
        self._principals: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"<BodyBudget {self.used}/{self.total}>"

    def held(self, tenant: str, principal: str | None = None) -> int:
        """Return the bytes that a tenant holds, or one of its principals."""
        if principal is None:
            return self._tenants.get(tenant, 0)
        return self._principals.get((tenant, principal), 0)

    def charge(self, tenant: str, principal: str) -> BodyCharge:
        """Return the charge of a body that begins to arrive; released in any case."""
        return BodyCharge(self, tenant, principal)

    def may_add(self, tenant: str, principal: str, nbytes: int) -> bool:
        """Whether a principal may hold ``nbytes`` more."""
        mine, own = self.held(tenant), self.held(tenant, principal)
        of_tenant = _share(self.total - (self.used - mine))
        of_principal = _share(of_tenant - (mine - own))
        return own + nbytes <= of_principal

    def add(self, tenant: str, principal: str, nbytes: int) -> None:
        """Add to what a principal holds; a negative number is given back."""
        self.used += nbytes
        _add(self._tenants, tenant, nbytes)
        _add(self._principals, (tenant, principal), nbytes)


@attrs.define(eq=False)
class BodyCharge:
    """The bytes that one body holds of the budget.

    Attributes:
        nbytes: Bytes held.
    """

    _budget: BodyBudget
    _tenant: str
    _principal: str
    nbytes: int = 0

    def cover(self, nbytes: int) -> bool:
        """Hold at least ``nbytes``, unless they are free (:data:`FREE_BYTES`).

        Returns:
            Whether they are held; if not, nothing is held any more, and the body is to be dropped.
        """
        if nbytes <= max(FREE_BYTES, self.nbytes):
            return True
        more = -(-nbytes // STEP_BYTES) * STEP_BYTES - self.nbytes
        alone = self._budget.used == self.nbytes
        if not alone and not self._budget.may_add(self._tenant, self._principal, more):
            self.release()
            return False
        self._budget.add(self._tenant, self._principal, more)
        self.nbytes += more
        return True

    def release(self) -> None:
        """Give everything back; harmless when repeated."""
        if self.nbytes:
            self._budget.add(self._tenant, self._principal, -self.nbytes)
            self.nbytes = 0


def _share(nbytes: int) -> int:
    return nbytes * SPARE // (SPARE + 1)


def _add(held: dict[K, int], key: K, nbytes: int) -> None:
    left = held.get(key, 0) + nbytes
    if left:
        held[key] = left
    else:
        del held[key]
