"""Tell decisions in the log at level DEBUG; at any other level a call costs a tenth of a microsecond."""

from __future__ import annotations

import structlog

log = structlog.get_logger(__name__)

_told = False


def tell_decisions(*, told: bool) -> None:
    """Have :func:`decided` write lines, or not; called when the log is configured."""
    global _told  # noqa: PLW0603  # the log is one of the process, too
    _told = told


def decided(event: str, **fields: object) -> None:
    """Write a line of a decision, if the log's level is DEBUG.

    Args:
        event: What was decided; ``docs/reference/log-events.md`` lists all.
        fields: Ids, numbers and names of rules and limits; no value of a request.
    """
    if _told:
        log.debug(event, **fields)
