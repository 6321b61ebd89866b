"""Failed builds that the metadata store could not be told of: it was away, or the disk was full."""

from __future__ import annotations

from typing import Final

import attrs

from strata.outcomes import Refused

MOST: Final = 10_000
"""Builds that are remembered; further ones are ended at the next start of a server."""


@attrs.define(eq=False)
class UnendedBuilds:
    """Why builds failed, by tenant and build, in the order of their failures; thread-safe."""

    _refusals: dict[tuple[str, str], Refused] = attrs.field(factory=dict, init=False)

    def add(self, tenant: str, build_id: str, refused: Refused) -> None:
        """Remember a build."""
        if len(self._refusals) < MOST:
            self._refusals[tenant, build_id] = refused

    def noted(self) -> tuple[tuple[str, str, Refused], ...]:
        """Return the builds, each as its tenant, its id and why it failed."""
        return tuple((*key, refused) for key, refused in list(self._refusals.items()))

    def forget(self, tenant: str, build_id: str) -> None:
        """Forget a build whose end is noted."""
        self._refusals.pop((tenant, build_id), None)
