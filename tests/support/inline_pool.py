"""A work pool without threads, for tests in which the order of events matters."""

from __future__ import annotations

from typing import Any

from strata.work import WorkPool


class InlinePool(WorkPool):
    """Runs quanta on the loop."""

    async def _execute(self, turn: Any, work: Any, *, abandon: bool) -> Any:  # noqa: ARG002  # nothing to abandon
        try:
            return work()
        finally:
            self._release(turn)
