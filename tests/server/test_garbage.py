"""Garbage is collected while the loop is idle, and otherwise as seldom as possible."""

from __future__ import annotations

import gc

import pytest
import trio

from strata.server import process
from strata.server.process import IDLE_OBJECTS, MIDDLE_COLLECTIONS, collected_when_idle


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the generations collected; the test sets the number of objects."""
    found: list[int] = []
    monkeypatch.setattr(gc, "collect", found.append)
    monkeypatch.setattr(gc, "get_count", lambda: (IDLE_OBJECTS, 0, 0))
    monkeypatch.setattr(gc, "isenabled", lambda: True)
    return found


async def idle() -> None:
    """Let the loop sleep once: a thread has to wake it."""
    await trio.to_thread.run_sync(int)


async def test_the_youngest_are_looked_through_when_the_loop_sleeps(looked: list[int]) -> None:
    """The youngest generation is collected when the loop sleeps, not while tasks are ready."""
    with collected_when_idle(lambda: False):
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert [] == looked
        await idle()
    assert looked
    assert {0} == set(looked)
    looked.clear()
    await idle()
    assert [] == looked, "only as long as it was asked for"


@pytest.mark.parametrize(
    ("count", "enabled", "busy"),
    [
        ((IDLE_OBJECTS - 1, 99, 99), True, False),
        ((IDLE_OBJECTS, 0, 0), False, False),
        ((9999, 0, 0), True, True),
    ],
)
async def test_no_collection_where_it_is_not_worth_it_or_a_thread_works(
    looked: list[int],
    monkeypatch: pytest.MonkeyPatch,
    count: tuple[int, int, int],
    *,
    enabled: bool,
    busy: bool,
) -> None:
    """Few objects; a process with collection disabled; a thread that works for a request."""
    monkeypatch.setattr(gc, "get_count", lambda: count)
    monkeypatch.setattr(gc, "isenabled", lambda: enabled)
    with collected_when_idle(lambda: busy):
        await idle()
    assert [] == looked


async def test_what_the_youngest_leave_is_looked_through_now_and_then(
    looked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a collection would hold up a request after all; the oldest are left to Python's own rule."""
    monkeypatch.setattr(gc, "get_count", lambda: (IDLE_OBJECTS, MIDDLE_COLLECTIONS + 1, 99))
    with collected_when_idle(lambda: False):
        await idle()
    assert {1} == set(looked)


async def test_the_garbage_of_a_request_is_gone_before_the_next_one() -> None:
    """Python's real collector frees a request's cycles before the next request."""

    class Own:
        """Of a type that no other code has."""

    def some() -> None:
        for _ in range(2 * IDLE_OBJECTS):
            own = Own()
            own.itself = own  # type: ignore[attr-defined]  # a cycle

    threshold, was = gc.get_threshold(), gc.isenabled()
    gc.set_threshold(100 * IDLE_OBJECTS)
    gc.enable()
    try:
        with collected_when_idle(lambda: False):
            some()
            assert 2 * IDLE_OBJECTS == sum(type(thing) is Own for thing in gc.get_objects())
            await idle()
            assert 0 == sum(type(thing) is Own for thing in gc.get_objects())
    finally:
        gc.set_threshold(*threshold)
        if not was:
            gc.disable()


def test_what_is_begun_with_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Garbage is collected before objects are frozen, which are never examined again."""
    done: list[str] = []
    for name in ("collect", "freeze", "set_threshold", "enable"):
        monkeypatch.setattr(gc, name, lambda *_, name=name: done.append(name))
    process.begin()
    assert ["collect", "freeze", "set_threshold", "enable"] == done
