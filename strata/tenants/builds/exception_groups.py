"""Expected failures on their way out of a nursery, which wraps whatever leaves it in a group."""

from __future__ import annotations

from types import TracebackType

import trio

from strata.outcomes import RefusalError


class UnwrappedRefusals:
    """Lets one :class:`RefusalError` or ``OSError`` out where a nursery raised nothing but those.

    A refusal goes first: it knows more. Where a cancellation from outside came in the same instant, it alone
    goes on: whoever cancels is no longer interested, and nobody outside would know what to do with the rest.
    A group with a bug in it passes as it is.

    What goes on must not lead back to the group it was in, be it by its context or by a frame that it passed
    through and that still knows the group: with such a cycle all that those frames hold, rows among it, would
    wait for the collector of garbage. Hence no generator, whose wrapper keeps what it was thrown.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _where: TracebackType | None
    ) -> None:
        found = _expected(error) if isinstance(error, BaseExceptionGroup) else None
        if found is None:
            return
        context = found.__context__
        try:
            raise found from None
        finally:
            found.__context__ = context  # not the group
            del error, found, _where


def _expected(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return what goes on instead of ``group``; None if that passes as it is."""
    expected, rest = group.split((RefusalError, OSError))
    if expected is None:
        return None
    if rest is not None:
        cancelled, bugs = rest.split(trio.Cancelled)
        return cancelled if bugs is None else None
    refusals, _ = expected.split(RefusalError)
    found: BaseException = refusals or expected
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
