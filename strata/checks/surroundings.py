"""Look at what a configuration is about, here and now: catalogs, executors, ports, secrets, disk, tenants."""

from __future__ import annotations

import datetime as dt
import shutil
import socket
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from strata.acl import Policy
from strata.acl.covering import pattern_covers
from strata.acl.patterns import ResourcePattern, matches_in_order, resource_name, segment_matches
from strata.checks.executors import executor_warnings
from strata.config import Settings
from strata.config.coherence import first_names_of
from strata.config.effective import effective
from strata.config.tenants import Overrides, read_overrides
from strata.config.tls import CERTIFICATE_DAYS, DAY_SECONDS, expiry_of

CATALOG_SECONDS: Final = 10.0
"""Seconds after which a catalog that does not answer counts as unreachable, shared by all of them."""

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def survey(settings: Settings, file: Path | None) -> list[str]:
    """Return a warning for each thing that a server would start with, and then not serve well. Blocking.

    Creates nothing. A port in use is a warning, for the server that uses it may be the one that is running.

    Args:
        settings: The settings, without problems.
        file: The configuration file, which may hold the token.
    """
    return [
        *_ports(settings),
        *_secrets(settings, file),
        *_certificate(settings),
        *_warehouses(settings.warehouses),
        *_catalogs(
            {
                alias: properties
                for alias, properties in settings.catalogs.items()
                if alias not in settings.catalog_callers  # only a caller may ask
            }
        ),
        *executor_warnings(settings),
        *_disk(settings),
        *_rules(settings),
        *_tenants(settings),
    ]


def _ports(settings: Settings) -> Iterator[str]:
    places = [("metrics_port", settings.metrics_host, settings.metrics_port)]
    if settings.unix_socket is None:
        places.append(("port", settings.host, settings.port))
    for name, host, port in places:
        if not port:
            continue
        try:
            kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            words = (error.strerror or str(error)).lower()
            yield f"{name}: {host}:{port} cannot be listened on now ({words}); a running server may have it."


def _secrets(settings: Settings, file: Path | None) -> Iterator[str]:
    """Warn of files with secrets that other users of the machine can read."""
    files = {"proxy_token": file} if settings.proxy_token and file is not None else {}
    files |= {
        f"transforms.registry[{place}].token_file": Path(entry.token_file).expanduser()
        for place, entry in enumerate(settings.transforms.registry)
        if entry.token_file
    }
    if settings.tls_key:
        files["tls_key"] = Path(settings.tls_key).expanduser()
    for name, path in files.items():
        try:
            text = path.read_text() if name == "proxy_token" else ""
            mode = path.stat().st_mode
        except (OSError, UnicodeDecodeError) as error:
            yield f"{name}: {path} cannot be read ({type(error).__name__})."
            continue
        held = name != "proxy_token" or str(settings.proxy_token) in text
        if held and mode & _OTHERS:
            yield f"{name}: other users can read {path}; chmod 600 {path}"


def _certificate(settings: Settings) -> Iterator[str]:
    expires = None if settings.tls_certificate is None else expiry_of(settings.tls_certificate)
    if expires is None:
        return
    days = (expires - time.time()) / DAY_SECONDS
    when = dt.datetime.fromtimestamp(expires, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if days < 0:
        yield f"tls_certificate: {settings.tls_certificate} expired on {when}: clients refuse it; renew it."
    elif days < CERTIFICATE_DAYS:
        yield f"tls_certificate: {settings.tls_certificate} expires on {when}; renew it, then send SIGHUP."


def _warehouses(warehouses: Mapping[str, str]) -> Iterator[str]:
    for alias, text in warehouses.items():
        database = Path(text).expanduser() / "catalog.db"
        if not database.parent.is_dir():
            yield f"warehouses.{alias}: {database.parent} is missing; is its file system mounted?"
            continue
        if not database.is_file():
            yield f"warehouses.{alias}: there is no {database}, so it has no tables yet."
            continue
        try:
            with closing(
                sqlite3.connect(f"{database.resolve().as_uri()}?immutable=1", uri=True, timeout=2)
            ) as open_:
                open_.execute("SELECT count(*) FROM iceberg_tables").fetchone()
        except sqlite3.Error as error:
            yield f"warehouses.{alias}: {database} is no readable catalog ({error})."


def _catalogs(catalogs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Ask each catalog for its namespaces, in a thread that nothing waits for at the end."""
    failures: dict[str, str] = {}
    threads = []
    for alias, properties in catalogs.items():
        failures[alias] = f"it does not answer within {CATALOG_SECONDS:g} seconds"

        def ask(alias: str = alias, properties: Mapping[str, Any] = properties) -> None:
            failures[alias] = _asked(lambda: _namespaces(alias, properties))

        threads.append(threading.Thread(target=ask, daemon=True))
        threads[-1].start()
    for thread in threads:
        thread.join(CATALOG_SECONDS / len(threads) if len(threads) > 1 else CATALOG_SECONDS)
    for alias, failure in failures.items():
        if failure:
            kind = catalogs[alias].get("type", "of a type that follows from its uri")
            yield f"catalogs.{alias} ({kind}): {failure}."


def _namespaces(alias: str, properties: Mapping[str, Any]) -> None:
    from pyiceberg.catalog import load_catalog  # noqa: PLC0415  # only where a catalog is configured

    load_catalog(alias, **properties).list_namespaces()


def _asked(call: Callable[[], None]) -> str:
    """Return why a call failed; empty if it did not. The message of an error may hold a secret."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever a catalog's library raises is the finding
        return f"it cannot be asked for its namespaces ({type(error).__name__})"
    return ""


def _disk(settings: Settings) -> Iterator[str]:
    if settings.needs_no_directory:
        return
    place = settings.artifact_root
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < settings.disk_reserve_bytes:
        yield (
            f"artifact_dir: its disk has {free} bytes free, less than disk_reserve_bytes "
            f"({settings.disk_reserve_bytes}): results would be refused."
        )


def _rules(settings: Settings) -> Iterator[str]:
    policy = settings.acl_config
    if policy is None:
        if settings.deployment_mode == "service" and settings.acl_file is None:
            yield "acl_config: without access rules every caller may read every table."
        return
    for alias, first in first_names_of(settings).items():
        if alias == first and not may_reach(policy, alias):
            kind = "warehouses" if alias in settings.warehouses else "catalogs"
            yield f"{kind}.{alias}: the access rules let no caller read a table of it (access_denied)."


def may_reach(policy: Policy, alias: str) -> bool:
    """Whether the rules let some caller read some table of a catalog, whatever its names are.

    Decided on the patterns alone: True where single deny rules leave a table of some name.
    """
    whole = ResourcePattern.parse(f"{resource_name('tables', alias)}/*/*")
    denied = any(
        rule.principal == "*"
        and (rule.tenant, rule.scope) == (None, None)
        and rule.action in (None, "read")
        and pattern_covers(rule.pattern, whole)
        for rule in policy.deny
    )
    reached = policy.default == "allow" or any(
        rule.action in (None, "read")
        and matches_in_order(
            rule.pattern.segments,
            ("tables", alias, None, None),
            lambda segment, name: name is None or segment_matches(segment, name),
        )
        for rule in policy.allow
    )
    return reached and not denied


def _tenants(settings: Settings) -> Iterator[str]:
    """Name the tenants that are disabled, and by which layer."""
    overrides = read_overrides(settings.overrides_path)[0] or Overrides()
    for tenant in sorted({*settings.tenants, *overrides.tenants()}):
        found = effective(settings, overrides, tenant)["enabled"]
        if not found.value:
            words = f"it is disabled (source: {found.source}); its requests are refused (tenant_disabled)."
            yield f"tenants.{tenant}: {words}"
