"""Which finished results are in use, were used lately, or are about to be removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import trio

MOST_NOTED: Final = 1000
"""Results of one tenant whose use is noted in memory; with more, they are written to the store at once."""

MOST_HELD: Final = 10 * MOST_NOTED
"""Most uses noted for one tenant while the store does not answer; the one noted first is forgotten."""

Version = tuple[str, int]
"""Id and number of a version."""


@attrs.define(eq=False)
class _OfTenant:
    """Uses of one tenant's results.

    Attributes:
        noted: Results used since the store was told, each with the number of its last use.
        readers: Open readers by result.
        claimed: Results that are about to be removed, each with the event that ends that.
    """

    noted: dict[Version, int] = attrs.field(factory=dict)
    readers: Counter[Version] = attrs.field(factory=Counter)
    claimed: dict[Version, trio.Event] = attrs.field(factory=dict)

    @property
    def empty(self) -> bool:
        return not (self.noted or self.readers or self.claimed)


@attrs.define(eq=False)
class RecentUses:
    """Uses of results of all tenants, on the event loop.

    A result that was found for a request is noted in the same step, and one that is claimed for removal is
    not found. So no request is told of a result that goes before the request can read it.

    Attributes:
        full: Set when a tenant has more than :data:`MOST_NOTED` results noted.
    """

    full: trio.Event = attrs.field(factory=trio.Event)
    _tenants: dict[str, _OfTenant] = attrs.field(factory=dict)
    _count: int = 0

    def note(self, tenant: str, version: Version) -> None:
        """Note a use of a result."""
        self._count += 1
        noted = self._of(tenant).noted
        noted[version] = self._count
        if len(noted) > MOST_NOTED:
            self.full.set()
            if len(noted) > MOST_HELD:
                del noted[next(iter(noted))]

    def open(self, tenant: str, version: Version) -> Callable[[], None]:
        """Count a reader of a result, until the returned function is called."""
        self.note(tenant, version)
        self._of(tenant).readers[version] += 1

        def close() -> None:
            readers = self._of(tenant).readers
            readers[version] -= 1
            if not readers[version]:
                del readers[version]
            self.note(tenant, version)

        return close

    def in_use(self, tenant: str, version: Version) -> bool:
        """Whether a result is being read, or was used since the store was told."""
        found = self._tenants.get(tenant)
        return found is not None and (version in found.noted or version in found.readers)

    def tenants(self) -> tuple[str, ...]:
        """Return the tenants with uses that the store was not told."""
        return tuple(tenant for tenant, found in self._tenants.items() if found.noted)

    def noted(self, tenant: str) -> dict[Version, int]:
        """Return the uses that the store was not told."""
        found = self._tenants.get(tenant)
        return {} if found is None else dict(found.noted)

    def told(self, tenant: str, uses: dict[Version, int]) -> None:
        """Forget uses that the store was told, unless the result was used again."""
        found = self._tenants.get(tenant)
        if found is None:
            return
        for version, number in uses.items():
            if found.noted.get(version) == number:
                del found.noted[version]
        self._drop_empty(tenant)

    @contextmanager
    def claiming(self, tenant: str, versions: Collection[Version]) -> Iterator[None]:
        """Hide results from requests until the end of the block."""
        ended = trio.Event()
        claimed = self._of(tenant).claimed
        claimed.update(dict.fromkeys(versions, ended))
        try:
            yield
        finally:
            for version in versions:
                claimed.pop(version, None)
            ended.set()
            self._drop_empty(tenant)

    def claimed(self, tenant: str, version: Version) -> trio.Event | None:
        """Return the event that ends the removal of a result; None if it is not about to be removed."""
        found = self._tenants.get(tenant)
        return None if found is None else found.claimed.get(version)

    def _of(self, tenant: str) -> _OfTenant:
        return self._tenants.setdefault(tenant, _OfTenant())

    def _drop_empty(self, tenant: str) -> None:
        if self._of(tenant).empty:
            del self._tenants[tenant]
