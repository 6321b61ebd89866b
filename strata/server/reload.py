"""Read the configuration again on SIGHUP."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from functools import partial

import structlog
import trio

from strata.background import note_failure
from strata.config import ConfigError, Problem, Settings
from strata.config.tls import CERTIFICATE_DAYS, DAY_SECONDS, expiry_of, tls_context
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
            try:
                await reload_settings(service, tls, reload or partial(_same, service.settings))
            except Exception as error:  # noqa: BLE001  # a SIGHUP without its receiver ends the process
                note_failure("reload", error, service.registry.runtime_stats.failures)


async def reload_settings(service: Service, tls: Tls | None, read: Callable[[], Settings]) -> None:
    """Read configuration, certificates and limits of tenants again; apply all or, if any is invalid, nothing.

    The configuration is one unit, the file of tenants' limits another.

    Args:
        service: The running service.
        tls: The listener's TLS; None without TLS.
        read: Reads the configuration; blocking.
    """
    try:
        found, renewed = await trio.to_thread.run_sync(_read_again, service.settings, read)
    except ConfigError as error:
        problems = [str(problem) for problem in error.problems]
    except OSError as error:  # of what the checks look at: a working directory that is gone, for example
        problems = [f"{error.filename or 'the configuration'} cannot be read: {error.strerror or error}."]
    else:
        service.apply(found)
        if tls is not None and renewed is not None:
            tls.context, tls.expires = renewed.context, renewed.expires
            tell_expiry(tls.expires, service.settings.tls_certificate)
        await service.tenant_overrides.refresh()
        return
    log.warning("configuration refused: the old one stays", problems=problems)


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
    if found is None or settings.tls_certificate is None:
        return None
    return Tls(found, expiry_of(settings.tls_certificate))


async def watch_certificate(tls: Tls, file: str | None) -> None:
    """Log each day that the certificate in use expires soon or has expired, until cancelled.

    Args:
        tls: The listener's TLS, whose certificate a SIGHUP may renew.
        file: File of the certificate, for the log.
    """
    while True:
        tell_expiry(tls.expires, file)
        await trio.sleep(DAY_SECONDS)


def tell_expiry(expires: float | None, file: str | None) -> None:
    """Log a certificate's end (seconds since the epoch) once fewer than :data:`CERTIFICATE_DAYS` are left."""
    if expires is None:
        return
    days = (expires - time.time()) / DAY_SECONDS
    if days < 0:
        log.error("the TLS certificate has expired: clients refuse it", file=file, days=round(-days, 1))
    elif days < CERTIFICATE_DAYS:
        log.warning("the TLS certificate expires soon", file=file, days=round(days, 1))
