"""Read the configuration again on SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial

import structlog
import trio

from strata.config import ConfigError, Problem, Settings
from strata.config.tls import tls_context
from strata.http.serving.listening import Tls
from strata.server.live_settings import Reloaded, difference
from strata.server.service import Service

log = structlog.get_logger(__name__)


async def watch_hangups(service: Service, tls: Tls | None, reload: Callable[[], Settings] | None) -> None:
    """On SIGHUP read configuration and certificates again; apply all of it or, if any is invalid, nothing.

    Args:
        service: The running service.
        tls: The listener's TLS, whose context is replaced; None without TLS.
        reload: Reads the configuration; blocking. None to read the certificates alone.
    """
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            read = reload or partial(_same, service.settings)
            try:
                found, renewed = await trio.to_thread.run_sync(_read_again, service.settings, read)
            except ConfigError as error:
                problems = [str(problem) for problem in error.problems]
                log.warning("configuration refused: the old one stays", problems=problems)
                continue
            if tls is not None and renewed is not None:
                tls.context = renewed.context
            service.apply(found)
            await service.tenant_overrides.refresh()


def _read_again(old: Settings, reload: Callable[[], Settings]) -> tuple[Reloaded, Tls | None]:
    found = difference(old, reload())
    return found, tls_of(found.settings)


def _same(settings: Settings) -> Settings:
    return settings


def tls_of(settings: Settings) -> Tls | None:
    """Return the server's TLS, or None if none is configured; blocking.

    Raises:
        ConfigError: If a certificate or key cannot be read or is invalid.
    """
    found = tls_context(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    if isinstance(found, tuple):
        raise ConfigError(tuple(Problem(fault.setting, fault.message) for fault in found))
    return None if found is None else Tls(found)
