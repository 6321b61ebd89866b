"""Keep the server's background tasks running: an exception ends one turn of a task, not the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import structlog
import trio

RETRY_SECONDS = 1.0
"""Seconds between the failure of a background task and its next start."""

log = structlog.get_logger(__name__)


async def keep_running(name: str, task: Callable[[], Awaitable[None]], failures: Counter[str]) -> None:
    """Run ``task`` until it returns or is cancelled; log and count an exception, and start it again.

    Args:
        name: The task's name in the log and in ``failures``.
        task: Begins anew at each call.
        failures: Number of failures by task.
    """
    while True:
        try:
            await task()
        except Exception as error:  # noqa: BLE001  # a bug must not end the server's other tasks
            note_failure(name, error, failures)
            await trio.sleep(RETRY_SECONDS)
        else:
            return


def note_failure(name: str, error: Exception, failures: Counter[str]) -> None:
    """Log and count an exception of the background task ``name``, which goes on."""
    failures[name] += 1
    log.error("background task failed", task=name, error=type(error).__name__, exc_info=error)
