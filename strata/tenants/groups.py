"""Expected failures on their way out of a nursery, which wraps whatever leaves it in a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from strata.outcomes import RefusalError


@contextmanager
def unwrapped_refusals() -> Iterator[None]:
    """Let one :class:`RefusalError` or ``OSError`` out where a nursery raised nothing but those.

    A refusal goes first: it knows more. A group with anything else in it (a bug, a cancellation from outside)
    passes as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        expected, rest = group.split((RefusalError, OSError))
        if expected is None or rest is not None:
            raise
        refusals, _ = expected.split(RefusalError)
        raise _first(refusals or expected) from None


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group
