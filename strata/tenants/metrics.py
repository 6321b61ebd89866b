"""Counters of one tenant: plain numbers the actor keeps and the collector reads."""

from __future__ import annotations

from collections import Counter

import attrs
import trio

from strata.outcomes import Reason, Refused

ERRORS_REMEMBERED = 20

_CALLERS_OWN = frozenset({Reason.BAD_REQUEST, Reason.FORBIDDEN, Reason.NOT_FOUND})
"""What the caller did wrong, and nobody else need look at."""


@attrs.frozen
class ErrorNote:
    """Something that went wrong.

    Attributes:
        code: A word, as in the answer; never a value.
        what: What was asked or done.
        at: When, on Trio's clock.
    """

    code: str
    what: str
    at: float


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
        errors: The last errors, the oldest first.
    """

    questions: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    builds: Counter[str] = attrs.field(factory=Counter)
    rows_built: int = 0
    bytes_built: int = 0
    hits: int = 0
    misses: int = 0
    restarts: int = 0
    errors: tuple[ErrorNote, ...] = ()  # an idle tenant's costs nothing

    def note_refused(self, refused: Refused, what: str) -> None:
        """Remember a refusal, unless it is of the caller's own making."""
        if refused.reason not in _CALLERS_OWN:
            self.note_error(refused.code or refused.reason.value, what)

    def note_error(self, code: str, what: str) -> None:
        """Remember an error."""
        self.errors = (*self.errors, ErrorNote(code, what, trio.current_time()))[-ERRORS_REMEMBERED:]
