"""UnwrappedRefusals raises a refusal, a cancellation, or the group unchanged."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from strata.outcomes import Reason, RefusalError, Refused
from strata.tenants.builds.exception_groups import UnwrappedRefusals

REFUSAL = RefusalError(Refused(Reason.TOO_LARGE, "too large"))


async def fails(error: Exception) -> None:
    raise error


async def fails_when_cancelled(error: Exception) -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise error


async def together(*errors: Exception, scope: trio.CancelScope | None = None) -> None:
    """Raise all errors in one nursery: at once, or when ``scope`` is cancelled."""
    with UnwrappedRefusals():
        async with trio.open_nursery() as nursery:
            for error in errors:
                nursery.start_soon(fails if scope is None else fails_when_cancelled, error)
            if scope is not None:
                nursery.start_soon(trio.sleep_forever)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()


async def test_a_refusal_leaves_before_a_full_disk_does() -> None:
    """A refusal is preferred to an ``OSError``."""
    with pytest.raises(RefusalError):
        await together(OSError(28, "full"), REFUSAL)


@pytest.mark.parametrize("error", [OSError(28, "full"), REFUSAL])
async def test_a_failure_in_the_instant_of_a_cancellation_is_a_cancellation(error: Exception) -> None:
    """A failure together with a cancellation is the cancellation: as a group it crashed a stopped actor."""
    with trio.CancelScope() as scope:
        await together(error, scope=scope)
        pytest.fail("the cancellation was lost")
    assert scope.cancelled_caught


async def test_a_bug_is_never_hidden_behind_a_refusal_or_a_cancellation() -> None:
    """A group with any other exception is raised unchanged."""
    with pytest.raises(ExceptionGroup) as raised:
        await together(REFUSAL, ZeroDivisionError())
    assert raised.group_contains(ZeroDivisionError)
    with trio.CancelScope() as scope, pytest.raises(BaseExceptionGroup) as both:
        await together(ZeroDivisionError(), scope=scope)
    assert both.group_contains(ZeroDivisionError)
