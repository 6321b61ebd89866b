"""Counters of one tenant: plain numbers the actor keeps and the collector reads."""

from __future__ import annotations

from collections import Counter

import attrs


@attrs.define(eq=False)
class TenantMetrics:
    """What happened in one tenant since its actor first started; survives the actor's restarts.

    Attributes:
        questions: By (kind, outcome), such as ``("Materialize", "ok")`` or ``("Materialize", "busy")``.
        builds: Ended builds by outcome.
        rows_built: Rows of finished artifacts.
        bytes_built: Bytes of finished artifacts.
        hits: Materialize requests answered by a finished artifact.
        misses: Those that began or joined a build.
        restarts: Crashes of the actor.
    """

    questions: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    builds: Counter[str] = attrs.field(factory=Counter)
    rows_built: int = 0
    bytes_built: int = 0
    hits: int = 0
    misses: int = 0
    restarts: int = 0
