"""Check settings: header names, tokens, listeners, paths, and what contradicts itself.

``validate_mode_coherence`` keeps an incoherent deployment from starting. It reports all problems at once, and
creates nothing on disk.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from strata.auth import HEADER_NAME, folded_name
from strata.config.groups.object_stores import object_store_problems
from strata.config.groups.serving import MIN_TOKEN_CHARACTERS
from strata.config.problems import Problem
from strata.config.settings import Settings
from strata.config.tls import tls_context
from strata.postgres_address import DsnError, parse_dsn
from strata.tracing.opening import NOT_INSTALLED, is_installed

CATALOG_FILE = "catalog.db"
"""The file of a warehouse that holds its catalog (wire contract, "Table URIs")."""

WAREHOUSE_CATALOG_NAME = "strata"
"""The catalog name inside a warehouse's ``catalog.db`` (wire contract, "Table URIs")."""

_SQLITE_SCHEMES = ("sqlite", "sqlite+pysqlite")

UNIX_PATH_BYTES = 107
"""Maximum bytes of a Unix socket's path (unix(7): 108 with the final NUL); a longer one is a problem."""


EMPTY = "it is empty; remove it, or give it a value."

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?")
"""A DNS name or an IP address; IPv6 with or without brackets."""

NOT_A_DIRECTORY = "{} is not a directory; name another path."
NOT_WRITABLE = "this process cannot write to {}; change its permissions, or name another path."

PATHS = (
    "artifact_dir",
    "cache_dir",
    "metadata_db",
    "acl_file",
    "tenant_overrides_file",
    "unix_socket",
    "tls_certificate",
    "tls_key",
    "tls_client_ca",
    "gcs_service_account_file",
)
"""Settings that are a path; in a configuration file, a relative one is relative to that file."""


def tracing_problems(settings: Settings) -> Iterator[Problem]:
    """Yield the problem of tracing that is switched on and not installed."""
    if settings.tracing_enabled and not is_installed():
        yield Problem("tracing_enabled", f"{NOT_INSTALLED}.")


def path_problems(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each setting whose text no file system accepts as a path."""
    texts = {name: getattr(settings, name) for name in PATHS}
    texts |= {f"warehouses.{alias}": text for alias, text in settings.warehouses.items()}
    for name, text in texts.items():
        if text == "":  # it would mean the working directory
            yield Problem(name, EMPTY)
            continue
        try:
            Path(text or ".").expanduser().stat()
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # a usable path, though it is absent or hidden from this process
        except (OSError, ValueError, RuntimeError):  # too long or a loop; NUL; home of an unknown user
            yield Problem(name, f"{text!r} is not a usable path; name another one.")


def metadata_problems(settings: Settings, writable: Callable[[Path], bool]) -> Iterator[Problem]:
    """Yield the problems of ``metadata_db``: a writable file outside the cache and the warehouses."""
    others = {"cache_dir": settings.cache_dir}
    others |= {f"warehouses.{alias}": text for alias, text in settings.warehouses.items()}
    if settings.metadata_db:
        for fault in faults_of(settings.metadata_db, others, writable):
            yield Problem("metadata_db", fault)


def directories(settings: Settings) -> Mapping[str, Path]:
    """Return the directories the server uses, by setting."""
    found = {"artifact_dir": settings.artifact_root, "cache_dir": Path(settings.cache_dir).expanduser()}
    if settings.needs_no_directory or (settings.deployment_mode == "service" and not settings.artifact_dir):
        del found["artifact_dir"]
    return found


def alias_problems(settings: Settings) -> Iterator[Problem]:
    """Yield each alias that names both a warehouse and a catalog, and each catalog's address that is none."""
    for alias, properties in settings.catalogs.items():
        try:
            urlsplit(properties.get("uri", ""))
        except ValueError:
            yield Problem(f"catalogs.{alias}", "its uri is not a URL; correct its host.")
    for alias in sorted(set(settings.warehouses) & set(settings.catalogs)):
        yield Problem(
            f"catalogs.{alias}", "it is also an alias in warehouses; give one of them another name."
        )


def first_names(warehouses: Mapping[str, Path], catalogs: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return for each alias the first alias of the same warehouse or catalog; blocking: follows links.

    Access is decided under that name, so that a rule covers a table whatever name a request uses. Two
    catalogs are one only if all of their properties are equal: with other credentials it is another one.
    """
    found: dict[object, str] = {}
    names: dict[str, str] = {}
    for alias, directory in warehouses.items():
        place = ("sqlite", f"{directory.resolve()}/{CATALOG_FILE}", WAREHOUSE_CATALOG_NAME)
        names[alias] = found.setdefault(place, alias)
    for alias, properties in catalogs.items():
        names[alias] = found.setdefault(_identity(alias, properties), alias)
    return names


def first_names_of(settings: Settings) -> dict[str, str]:
    """Return :func:`first_names` of the configured warehouses and catalogs; blocking."""
    paths = {alias: Path(text).expanduser() for alias, text in settings.warehouses.items()}
    return first_names(paths, settings.catalogs)


def neighbours(catalogs: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield each catalog with the address of an earlier one but other properties, and the earlier alias."""
    first: dict[object, str] = {}
    seen: set[object] = set()
    for alias, properties in catalogs.items():
        identity = _identity(alias, properties)
        if sqlite_path(properties) is not None or identity in seen or not properties.get("uri"):
            continue
        seen.add(identity)
        address = tuple(properties.get(key, "").rstrip("/") for key in ("uri", "warehouse", "prefix"))
        earlier = first.setdefault(address, alias)
        if earlier != alias:
            yield alias, earlier


def _identity(alias: str, properties: Mapping[str, str]) -> object:
    """Return a key that is equal for two aliases of one catalog."""
    file = sqlite_path(properties)
    if file is not None:
        return ("sqlite", file, alias)
    if properties.get("type") == "sql" or "py-catalog-impl" in properties or not properties.get("uri"):
        return ("named", alias)  # the alias selects rows of the database, or further properties
    merged = own_properties(alias) | {key: text.rstrip("/") for key, text in properties.items()}
    return ("remote", tuple(sorted(merged.items())))


def own_properties(alias: str) -> dict[str, str]:
    """Return the properties that pyiceberg's variables and file give an alias, credentials for example."""
    from pyiceberg.utils.config import Config  # noqa: PLC0415  # 0.1 s, and only for catalogs with a server

    return {str(key): str(value) for key, value in (Config().get_catalog_config(alias) or {}).items()}


def sqlite_path(properties: Mapping[str, str]) -> str | None:
    """Return the resolved path of a SQL catalog's SQLite file; ``None`` for other catalogs. Blocking."""
    if properties.get("type", "sql") != "sql" or "py-catalog-impl" in properties:
        return None
    parts = urlsplit(properties.get("uri", ""))
    if parts.scheme not in _SQLITE_SCHEMES or parts.query or len(parts.path) < 2:  # noqa: PLR2004 - "/" and a name
        return None
    # sqlite:///relative and sqlite:////absolute: everything after the third slash (SQLAlchemy's rule).
    return str(Path(unquote(parts.path[1:])).resolve())


def directory_problems(settings: Settings, writable: Callable[[Path], bool]) -> Iterator[Problem]:
    """Yield a problem for each directory that neither exists nor can be created."""
    for name, path in directories(settings).items():
        existing = path
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            yield Problem(name, NOT_A_DIRECTORY.format(existing))
        elif not writable(existing):
            yield Problem(name, NOT_WRITABLE.format(existing))
    for alias, text in settings.warehouses.items():
        path = Path(text).expanduser()
        if path.exists() and not path.is_dir():
            yield Problem(f"warehouses.{alias}", NOT_A_DIRECTORY.format(path))


def nesting_problems(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each directory that is, contains or lies inside another one."""
    places = dict(directories(settings))
    places |= {f"warehouses.{alias}": Path(text).expanduser() for alias, text in settings.warehouses.items()}
    resolved = [(name, path.resolve()) for name, path in places.items()]
    for index, (name, path) in enumerate(resolved):
        for other, place in resolved[:index]:
            if path == place and not (name.startswith("warehouses.") and other.startswith("warehouses.")):
                yield Problem(name, f"{path} is also {other}; give each its own directory.")
            elif path != place and (path in place.parents or place in path.parents):
                inner, deep, outer = (name, path, other) if place in path.parents else (other, place, name)
                yield Problem(inner, f"{deep} lies inside {outer}; give each its own directory.")


def validate_mode_coherence(
    settings: Settings, *, writable: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK)
) -> tuple[Problem, ...]:
    """Return all problems of a combination of settings, in a fixed order; creates nothing on disk.

    Args:
        settings: Values that are each valid on their own.
        writable: Tells whether this process may write into an existing directory.
    """
    unusable = tuple(path_problems(settings))
    listener = () if unusable else (_listener_problems,)  # unusable paths cannot be checked further
    checks = (
        _mode_problems,
        _port_problems,
        *listener,
        _token_problems,
        _header_problems,
        _host_problems,
        _artifact_problems,
        alias_problems,
        tracing_problems,
    )
    found = [problem for check in checks for problem in check(settings)]
    if unusable:
        return (*found, *unusable)
    found += metadata_problems(settings, writable)
    return (*found, *directory_problems(settings, writable), *nesting_problems(settings))


def _mode_problems(settings: Settings) -> Iterator[Problem]:
    if settings.deployment_mode == "service":
        if settings.auth_mode == "none":
            yield Problem(
                "auth_mode",
                "service mode requires an identity for every request; set auth_mode = trusted_proxy.",
            )
        if settings.personal_mode_user_header is not None:
            yield Problem(
                "personal_mode_user_header",
                "service mode does not accept unauthenticated user names; remove this setting.",
            )
    else:
        if settings.auth_mode == "trusted_proxy":
            yield Problem("auth_mode", "trusted_proxy requires service mode; set deployment_mode = service.")
        if settings.multi_tenant_enabled:
            yield Problem(
                "multi_tenant_enabled", "tenants require service mode; set deployment_mode = service."
            )
        if settings.require_tenant_header:
            yield Problem(
                "require_tenant_header", "tenants require service mode; set deployment_mode = service."
            )
        reachable = settings.unix_socket is None and not _is_loopback(settings.host)
        if reachable and not settings.allow_remote_clients_in_personal:
            yield Problem(
                "host",
                f"{settings.host} is reachable from other machines, and personal mode has no authentication; "
                "listen on 127.0.0.1, or set allow_remote_clients_in_personal = true.",
            )
    if (
        settings.deployment_mode == "service"
        and settings.require_tenant_header
        and not settings.multi_tenant_enabled
    ):
        yield Problem(
            "require_tenant_header",
            "tenants are off; set multi_tenant_enabled = true, or remove this setting.",
        )
    if settings.acl_config is not None and settings.auth_mode == "none":
        yield Problem(
            "acl_file" if settings.acl_file is not None else "acl_config",
            "access rules require authentication; set auth_mode = trusted_proxy, or remove the rules.",
        )


_EVERY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104  # compared with, not listened on


def _port_problems(settings: Settings) -> Iterator[Problem]:
    if settings.unix_socket is None and settings.port and settings.port == settings.metrics_port:
        hosts = {settings.host.strip("[]"), settings.metrics_host.strip("[]")}
        if len(hosts) == 1 or hosts & _EVERY_ADDRESS:
            yield Problem("metrics_port", f"{settings.port} is also port; give each its own.")


def _listener_problems(settings: Settings) -> Iterator[Problem]:
    for name in ("host", "metrics_host"):
        host: str = getattr(settings, name)
        if not host.strip():  # it would mean all addresses
            yield Problem(name, EMPTY)
        if host.startswith("[") or host.endswith("]"):
            bare = host.strip("[]")
            yield Problem(name, f"an address has brackets in a URL only; write {bare} instead of {host}.")
    found = tls_context(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    if isinstance(found, tuple):
        yield from (Problem(fault.setting, fault.message) for fault in found)
    if settings.unix_socket is not None:
        path = Path(settings.unix_socket).expanduser()
        if len(os.fsencode(path)) > UNIX_PATH_BYTES:
            yield Problem(
                "unix_socket", f"the path is longer than {UNIX_PATH_BYTES} bytes; use a shorter one."
            )
        elif not path.parent.is_dir():
            yield Problem("unix_socket", NOT_A_DIRECTORY.format(path.parent))
        elif path.exists() and not path.is_socket():
            yield Problem(
                "unix_socket", f"{path} exists and is not a socket; remove it, or name another path."
            )


def _token_problems(settings: Settings) -> Iterator[Problem]:
    if settings.auth_mode != "trusted_proxy":
        return
    if settings.proxy_token is None:
        yield Problem(
            "proxy_token",
            "trusted_proxy requires a secret shared with the proxy; set proxy_token or proxy_token_file.",
        )
    for name in ("proxy_token", "proxy_token_previous"):
        token: str | None = getattr(settings, name)
        if token is None:
            continue
        if not token.strip():
            yield Problem(name, f"the token is blank; use at least {MIN_TOKEN_CHARACTERS} random characters.")
        elif len(token) < MIN_TOKEN_CHARACTERS:
            yield Problem(
                name,
                f"the token has {len(token)} characters; use at least {MIN_TOKEN_CHARACTERS} random ones.",
            )
        elif not token.isascii() or not token.isprintable() or token != token.strip():
            yield Problem(
                name, "a header cannot carry the token; use printable ASCII without surrounding spaces."
            )


def _header_problems(settings: Settings) -> Iterator[Problem]:
    roles = ("principal_header", "scopes_header", "tenant_header", "personal_mode_user_header")
    taken = {"x-strata-proxy-token": "the proxy token", "x-request-id": "request ids"}
    for role in roles:
        name: str | None = getattr(settings, role)
        if name is None:
            continue
        if not HEADER_NAME.fullmatch(name):
            yield Problem(role, f"{name!r} is not a header name; use letters, digits and hyphens.")
        elif (folded := folded_name(name)) in taken:
            yield Problem(role, f"{name} already carries {taken[folded]}; choose another header.")
        else:
            taken[folded] = role
    if taken.get("x-strata-tenant", "tenant_header") != "tenant_header":
        yield Problem(
            taken["x-strata-tenant"], "X-Strata-Tenant always carries the tenant; choose another header."
        )


def _host_problems(settings: Settings) -> Iterator[Problem]:
    for name in map(str.strip, (settings.allowed_hosts or "").split(",")):
        if name and not _HOST_NAME.fullmatch(name):
            advice = "write names without scheme and port, separated by commas."
            yield Problem("allowed_hosts", f"{name!r} is not a host name; {advice}")


def _artifact_problems(settings: Settings) -> Iterator[Problem]:
    if (
        settings.deployment_mode == "service"
        and not settings.artifact_dir
        and not settings.needs_no_directory
    ):
        if settings.artifact_blob_backend == "local":
            yield Problem(
                "artifact_dir",
                "service mode has no default directory for results; set artifact_dir to a persistent one.",
            )
        else:
            yield Problem(
                "artifact_dir",
                "metadata needs a local directory; set artifact_dir, or keep it by artifact_metadata_dsn.",
            )
    if settings.artifact_metadata_dsn is not None:
        try:
            parse_dsn(settings.artifact_metadata_dsn)
        except DsnError as error:
            yield Problem("artifact_metadata_dsn", str(error))
        if settings.metadata_db:
            yield Problem("metadata_db", "artifact_metadata_dsn is given, too; keep one of the two.")
    accel = settings.accel_redirect
    if accel is not None and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", accel):
        yield Problem("accel_redirect", f"{accel[:80]!r} is no path such as /_strata/results.")
    if accel is not None and settings.auth_mode != "trusted_proxy":
        yield Problem(
            "accel_redirect", "without a proxy nothing sends the results; set auth_mode = trusted_proxy."
        )
    yield from object_store_problems(settings)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def faults_of(text: str, others: Mapping[str, str], writable: Callable[[Path], bool]) -> Iterator[str]:
    """Yield the problems of a path for the metadata database, each with the way out.

    Args:
        text: The configured path.
        others: Directories, by setting, that must not contain the database: a cache is cleared, and a
            warehouse has its own ``catalog.db``.
        writable: Tells whether this process may write into an existing directory.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        yield f"{text} is a directory; name a file."
        return
    existing = path.parent
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        yield NOT_A_DIRECTORY.format(existing)
    elif not writable(existing):
        yield NOT_WRITABLE.format(existing)
    for other, directory in others.items():
        if Path(directory).expanduser().resolve() in path.resolve().parents:
            yield f"{text} lies inside {other}; name a path outside of it."
