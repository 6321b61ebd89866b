"""Expected failures on their way out of a nursery, which wraps whatever leaves it in a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

from strata.outcomes import RefusalError


@contextmanager
def unwrapped_refusals() -> Iterator[None]:
    """Let one :class:`RefusalError` or ``OSError`` out where a nursery raised nothing but those.

    A refusal goes first: it knows more. Where a cancellation from outside came in the same instant, it alone
    goes on: whoever cancels is no longer interested, and nobody outside would know what to do with the rest.
    A group with a bug in it passes as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        expected, rest = group.split((RefusalError, OSError))
        if expected is None:
            raise
        if rest is not None:
            cancelled, bugs = rest.split(trio.Cancelled)
            if cancelled is None or bugs is not None:
                raise
            raise cancelled from None
        refusals, _ = expected.split(RefusalError)
        raise _first(refusals or expected) from None


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
