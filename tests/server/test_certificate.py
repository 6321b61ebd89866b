"""The log tells of a certificate that ends: soon, and once it has."""

from __future__ import annotations

import ssl
import time

import pytest
import structlog
import trio
from trio.testing import MockClock

from strata.config.tls import DAY_SECONDS
from strata.http.serving.listening import Tls
from strata.server import reload
from strata.server.reload import tell_expiry, watch_certificate


@pytest.mark.parametrize(
    ("days", "level"), [(-0.5, "error"), (0.5, "warning"), (13.5, "warning"), (14.5, None), (None, None)]
)
def test_the_end_of_a_certificate(days: float | None, level: str | None) -> None:
    """An error once clients refuse it, a warning two weeks before, and nothing of one without a known end."""
    with structlog.testing.capture_logs() as lines:
        tell_expiry(None if days is None else time.time() + days * DAY_SECONDS, "server.pem")
    assert ([] if level is None else [(level, "server.pem")]) == [
        (line["log_level"], line["file"]) for line in lines
    ]


async def test_it_is_told_again_each_day(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that runs on is told of by later lines, until another certificate is in use."""
    monkeypatch.setattr(reload.time, "time", trio.current_time)
    tls = Tls(ssl.create_default_context(), trio.current_time() + 15.5 * DAY_SECONDS)
    with structlog.testing.capture_logs() as lines:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_certificate, tls, "server.pem")
            await trio.sleep(17.2 * DAY_SECONDS)
            tls.expires = trio.current_time() + 90 * DAY_SECONDS
            await trio.sleep(20 * DAY_SECONDS)
            nursery.cancel_scope.cancel()
    assert ["warning"] * 14 + ["error"] * 2 == [line["log_level"] for line in lines]
