"""Refusals on their way out of a nursery, which wraps whatever leaves it in a group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from strata.outcomes import RefusalError


@contextmanager
def unwrapped_refusals() -> Iterator[None]:
    """Let one :class:`RefusalError` out where a nursery raised nothing but refusals.

    A group with anything else in it (a bug, a cancellation from outside) passes as it is.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        refusals, rest = group.split(RefusalError)
        if refusals is None or rest is not None:
            raise
        raise _first(refusals) from None


def _first(group: BaseExceptionGroup[RefusalError]) -> RefusalError:
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, RefusalError)
    return leaf
