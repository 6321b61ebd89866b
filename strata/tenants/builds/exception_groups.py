"""Unwrap expected failures from the exception groups that nurseries raise."""

from __future__ import annotations

from types import TracebackType

import trio

from strata.outcomes import RefusalError


class UnwrappedRefusals:
    """Raises one :class:`RefusalError` or ``OSError`` in place of a nursery's group of nothing else.

    A refusal is preferred to an ``OSError``: it says more. Together with a ``trio.Cancelled`` from outside,
    only the cancellation is raised: code outside could not handle the rest. A group with any other exception
    is raised unchanged.

    The exception must not refer back to its group, neither by its context nor by a frame that holds both:
    all that those frames hold, row groups included, would then live until the next garbage collection. So
    this is no generator-based context manager, whose wrapper keeps the exception thrown into it.
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
    """Return the exception to raise instead of ``group``; None to raise the group itself."""
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


def expected_of(group: ExceptionGroup[Exception]) -> Exception:
    """Return the refusal or ``OSError`` that a group of nothing else stands for, or the group itself."""
    found = _expected(group)
    return found if isinstance(found, Exception) else group
