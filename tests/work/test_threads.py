"""The pool's threads: reused, of lower priority than the loop, and abandoned only where that is allowed."""

import contextvars
import os
import sys
import threading
from pathlib import Path

import pytest
import trio

from strata.work import Tier, WorkPool, threads
from strata.work.threads import FREED_BYTES, NICENESS, Threads, close_file, run_in_thread

WHO = contextvars.ContextVar("who", default="nobody")


async def test_work_has_its_callers_context_and_its_outcome_comes_back() -> None:
    """Work runs in its caller's context: without it, results were cached under another tenant."""
    finished = []
    WHO.set("ana")
    assert "ana" == await run_in_thread(WHO.get, abandon=True, finished=lambda: finished.append("value"))
    with pytest.raises(ZeroDivisionError):
        await run_in_thread(lambda: 1 // 0, abandon=True, finished=lambda: finished.append("error"))
    assert ["value", "error"] == finished


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
async def test_quanta_give_way_to_the_loop() -> None:
    """Worker threads have a lower priority; the loop's and other threads' stays unchanged."""
    before = os.getpriority(os.PRIO_PROCESS, 0)

    def urgency() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert min(19, before + NICENESS) == await run_in_thread(urgency, abandon=True, finished=int)
    assert before == os.getpriority(os.PRIO_PROCESS, 0)
    assert before == await trio.to_thread.run_sync(urgency)


async def test_whoever_leaves_is_not_kept_and_the_thread_is_heard_of_all_the_same() -> None:
    """A cancelled caller returns at once, and ``finished`` is called when the thread ends."""
    gate, began, finished = threading.Event(), trio.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    def work() -> None:
        token.run_sync_soon(began.set)
        assert gate.wait(30)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def leave() -> None:
                await run_in_thread(work, abandon=True, finished=finished.set)

            nursery.start_soon(leave)
            await began.wait()
            nursery.cancel_scope.cancel()
        assert not finished.is_set()
        gate.set()
        await finished.wait()


async def test_whoever_asked_not_to_be_let_go_stays() -> None:
    """With ``abandon=False`` a cancelled caller waits until the work is done."""
    gate, done = threading.Event(), []

    def work() -> str:
        assert gate.wait(30)
        return "done"

    with trio.fail_after(30), trio.CancelScope() as scope:
        scope.cancel()
        trio.lowlevel.current_trio_token().run_sync_soon(gate.set)
        done.append(await run_in_thread(work, abandon=False, finished=int))
    assert ["done"] == done


def test_an_idle_thread_is_used_again_and_goes_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are as many threads as concurrent quanta, and an idle thread ends."""
    monkeypatch.setattr(threads, "IDLE_SECONDS", 30)
    pool, seen, came = Threads(), [], threading.Semaphore(0)

    def note() -> None:
        seen.append(threading.current_thread())

    for _ in range(5):
        pool.start(note, lambda _outcome: came.release())
        assert came.acquire(timeout=30)
    assert 1 == len(set(seen))
    gate = threading.Barrier(3)
    for _ in range(3):
        pool.start(lambda: (note(), gate.wait(30)), lambda _outcome: came.release())
    monkeypatch.setattr(threads, "IDLE_SECONDS", 0.01)  # read when they have done this
    for _ in range(3):
        assert came.acquire(timeout=30)
    assert 3 == len(set(seen[5:]))
    for thread in set(seen):
        thread.join(30)
        assert not thread.is_alive()


async def test_where_there_is_no_thread_the_slot_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets an error, and the work is not left for a later thread."""

    def none(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "_THREADS", Threads())
    pool = WorkPool(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        with pytest.raises(RuntimeError, match="can't start"):
            await pool.run("a", Tier.INTERACTIVE, lambda: "lost")
    assert 0 == pool.running
    assert "done" == await pool.run("a", Tier.INTERACTIVE, lambda: "done")


@pytest.mark.parametrize(
    ("size", "removed", "elsewhere"),
    [(FREED_BYTES, True, True), (FREED_BYTES - 1, True, False), (FREED_BYTES, False, False)],
)
def test_a_large_file_that_was_removed_is_closed_by_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, *, removed: bool, elsewhere: bool
) -> None:
    """Its last close frees its blocks, which took the loop 70 ms for 400 MB."""
    path, by, closed, close = tmp_path / "blob", [], threading.Event(), os.close
    path.touch()
    os.truncate(path, size)

    def noting(descriptor: int) -> None:
        by.append(threading.current_thread())
        close(descriptor)
        closed.set()

    descriptor = os.open(path, os.O_RDONLY)
    if removed:
        path.unlink()
    monkeypatch.setattr(os, "close", noting)
    close_file(descriptor)
    assert closed.wait(60)
    assert elsewhere == (by != [threading.current_thread()])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_file_is_closed_where_the_system_has_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a thread the loop closes the file."""
    path = tmp_path / "blob"
    path.touch()
    os.truncate(path, FREED_BYTES)
    descriptor = os.open(path, os.O_RDONLY)
    path.unlink()

    def none(*_what: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads._THREADS, "start", none)
    close_file(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
