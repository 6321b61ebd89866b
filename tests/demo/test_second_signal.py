"""A second signal ends the demo at once, in the middle of whatever it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from strata.demo import serve


async def test_a_second_signal_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks are cancelled where they are, and have not passed."""
    serving = trio.Event()

    @asynccontextmanager
    async def opened(_settings: object) -> AsyncIterator[None]:
        yield

    async def signalled(_service: object, _stopping: trio.Event, everything: trio.CancelScope) -> None:
        await serving.wait()
        everything.cancel()

    async def checking(*_: object, **__: object) -> bool:
        serving.set()
        await trio.sleep_forever()
        return True

    monkeypatch.setattr(serve, "open_service", opened)
    monkeypatch.setattr(serve, "_watch_signals", signalled)
    monkeypatch.setattr(serve, "_serve_and_check", checking)
    demo: Any = SimpleNamespace(settings=None)
    reporter: Any = None
    assert not await serve.run_demo(demo, reporter, once=False)
