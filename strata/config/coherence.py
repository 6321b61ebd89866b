"""Which settings make no sense together, and whether the places a configuration names can serve.

``validate_mode_coherence`` keeps a sloppy service-mode deployment from starting: it reports everything
that is wrong, at once. It looks at places and never makes them.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from strata.auth import folded_name
from strata.config.problems import Problem
from strata.config.settings import _HEADER_NAME, BUCKETS, MIN_TOKEN_CHARACTERS, UNIX_PATH_BYTES, Settings
from strata.config.tls import tls_context

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
)
"""Settings that are a path; in a configuration file, a relative one is relative to that file."""


def path_problems(settings: Settings) -> Iterator[Problem]:
    """Texts no file system takes for a path, in whatever way it says so."""
    texts = {name: getattr(settings, name) for name in PATHS}
    texts |= {f"warehouses.{alias}": text for alias, text in settings.warehouses.items()}
    for name, text in texts.items():
        try:
            os.lstat(Path(text or ".").expanduser())
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # a path, though nothing is there, or nothing we may see
        except (OSError, ValueError, RuntimeError):  # too long or a loop; NUL; the home of nobody
            yield Problem(name, f"{text!r} is no usable path.")


def metadata_problems(settings: Settings, writable: Callable[[Path], bool]) -> Iterator[Problem]:
    """A database is a file, among files of its own kind."""
    others = {"cache_dir": settings.cache_dir}
    others |= {f"warehouses.{alias}": text for alias, text in settings.warehouses.items()}
    if settings.metadata_db:
        for fault in faults_of(settings.metadata_db, others, writable):
            yield Problem("metadata_db", fault)


def directories(settings: Settings) -> Mapping[str, Path]:
    """Return the directories the server uses, by setting."""
    found = {"artifact_dir": settings.artifact_root, "cache_dir": Path(settings.cache_dir).expanduser()}
    if settings.deployment_mode == "service" and not settings.artifact_dir:
        del found["artifact_dir"]
    return found


def alias_problems(settings: Settings) -> Iterator[Problem]:
    """Yield each alias that names both a warehouse and a catalog."""
    for alias in sorted(set(settings.warehouses) & set(settings.catalogs)):
        yield Problem(
            f"catalogs.{alias}", "it is also an alias in warehouses; give one of them another name."
        )


def directory_problems(settings: Settings, writable: Callable[[Path], bool]) -> Iterator[Problem]:
    """Directories are there, or can be made."""
    for name, path in directories(settings).items():
        existing = path
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            yield Problem(
                name, f"{path} is not a directory." if existing == path else f"{existing} is not a directory."
            )
        elif not writable(existing):
            yield Problem(name, f"{existing} is not writable by this process.")
    for alias, text in settings.warehouses.items():
        path = Path(text).expanduser()
        if path.exists() and not path.is_dir():
            yield Problem(f"warehouses.{alias}", f"{path} is not a directory.")


def nesting_problems(settings: Settings) -> Iterator[Problem]:
    """No directory lies in another one."""
    places = dict(directories(settings))
    places |= {f"warehouses.{alias}": Path(text).expanduser() for alias, text in settings.warehouses.items()}
    resolved = [(name, path.resolve()) for name, path in places.items()]
    for index, (name, path) in enumerate(resolved):
        for other, place in resolved[:index]:
            if path == place and not (name.startswith("warehouses.") and other.startswith("warehouses.")):
                yield Problem(name, f"{path} is also {other}; give each its own directory.")
            elif path != place and (path in place.parents or place in path.parents):
                inner, outer = (name, other) if place in path.parents else (other, name)
                yield Problem(inner, f"it lies inside {outer}; give each its own directory.")


def validate_mode_coherence(
    settings: Settings, *, writable: Callable[[Path], bool] = lambda path: os.access(path, os.W_OK)
) -> tuple[Problem, ...]:
    """Return everything that makes no sense together, in a fixed order; creates nothing on disk.

    Args:
        settings: Values that are each valid on their own.
        writable: Whether this process may write into an existing directory.
    """
    unusable = tuple(path_problems(settings))
    listener = () if unusable else (_listener_problems,)  # of places that cannot be nothing more can be said
    checks = (
        _mode_problems,
        *listener,
        _token_problems,
        _header_problems,
        _artifact_problems,
        alias_problems,
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
                "service mode needs an identity for every request; set auth_mode = trusted_proxy.",
            )
        if settings.personal_mode_user_header is not None:
            yield Problem(
                "personal_mode_user_header",
                "it names users without proof, so service mode refuses it; remove it.",
            )
    else:
        if settings.auth_mode == "trusted_proxy":
            yield Problem(
                "auth_mode", "trusted_proxy belongs to service mode; set deployment_mode = service."
            )
        if settings.multi_tenant_enabled:
            yield Problem(
                "multi_tenant_enabled", "tenants belong to service mode; set deployment_mode = service."
            )
        if settings.require_tenant_header:
            yield Problem(
                "require_tenant_header", "tenants belong to service mode; set deployment_mode = service."
            )
        reachable = settings.unix_socket is None and not _is_loopback(settings.host)
        if reachable and not settings.allow_remote_clients_in_personal:
            yield Problem(
                "host",
                f"{settings.host} can be reached by others, and personal mode asks nobody who they are; "
                "listen on 127.0.0.1, or set allow_remote_clients_in_personal = true.",
            )
    if (
        settings.deployment_mode == "service"
        and settings.require_tenant_header
        and not settings.multi_tenant_enabled
    ):
        yield Problem("require_tenant_header", "it needs multi_tenant_enabled = true.")
    if settings.acl_config is not None and settings.auth_mode == "none":
        yield Problem(
            "acl_file" if settings.acl_file is not None else "acl_config",
            "rules need to know who asks; set auth_mode = trusted_proxy, or remove them.",
        )


def _listener_problems(settings: Settings) -> Iterator[Problem]:
    found = tls_context(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    if isinstance(found, tuple):
        yield from (Problem(fault.setting, fault.message) for fault in found)
    if settings.unix_socket is not None:
        path = Path(settings.unix_socket).expanduser()
        if len(os.fsencode(path)) > UNIX_PATH_BYTES:
            yield Problem(
                "unix_socket", f"its path is longer than {UNIX_PATH_BYTES} bytes; use a shorter one."
            )
        elif not path.parent.is_dir():
            yield Problem("unix_socket", f"{path.parent} is not a directory.")
        elif path.exists() and not path.is_socket():
            yield Problem("unix_socket", f"{path} is there and is no socket.")


def _token_problems(settings: Settings) -> Iterator[Problem]:
    if settings.auth_mode != "trusted_proxy":
        return
    if settings.proxy_token is None:
        yield Problem(
            "proxy_token",
            "trusted_proxy needs the secret it shares with the proxy; set it or proxy_token_file.",
        )
    for name in ("proxy_token", "proxy_token_previous"):
        token: str | None = getattr(settings, name)
        if token is None:
            continue
        if not token.strip():
            yield Problem(name, f"it is blank; use at least {MIN_TOKEN_CHARACTERS} random characters.")
        elif len(token) < MIN_TOKEN_CHARACTERS:
            yield Problem(
                name,
                f"it has {len(token)} characters, too few to be secret; use at least {MIN_TOKEN_CHARACTERS}.",
            )
        elif not token.isascii() or not token.isprintable() or token != token.strip():
            yield Problem(name, "a header cannot carry it; use printable ASCII without surrounding space.")


def _header_problems(settings: Settings) -> Iterator[Problem]:
    roles = ("principal_header", "scopes_header", "tenant_header", "personal_mode_user_header")
    taken = {"x-strata-proxy-token": "the proxy token", "x-request-id": "request ids"}
    for role in roles:
        name: str | None = getattr(settings, role)
        if name is None:
            continue
        if not _HEADER_NAME.fullmatch(name):
            yield Problem(role, f"{name!r} is no header name.")
        elif (folded := folded_name(name)) in taken:
            yield Problem(role, f"{name} already carries {taken[folded]}.")
        else:
            taken[folded] = role
    if taken.get("x-strata-tenant", "tenant_header") != "tenant_header":
        yield Problem(taken["x-strata-tenant"], "X-Strata-Tenant always carries the tenant.")


def _artifact_problems(settings: Settings) -> Iterator[Problem]:
    if settings.deployment_mode == "service" and not settings.artifact_dir:
        if settings.artifact_blob_backend == "local":
            yield Problem(
                "artifact_dir",
                "service mode has no default place for results; set it to a persistent directory, "
                "or set artifact_blob_backend.",
            )
        else:
            yield Problem(
                "artifact_dir",
                "metadata and results under way need a local directory, whatever the blob backend; set it.",
            )
    bucket = BUCKETS.get(settings.artifact_blob_backend)
    if bucket is not None and not getattr(settings, bucket):
        yield Problem(bucket, f"artifact_blob_backend = {settings.artifact_blob_backend} needs it; set it.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def faults_of(text: str, others: Mapping[str, str], writable: Callable[[Path], bool]) -> Iterator[str]:
    """Yield what is wrong with a place for the metadata database, each with the way out.

    Args:
        text: The configured path.
        others: Directories, by setting, whose files are not the metadata's to lie among: a cache is cleared,
            and a warehouse has a ``catalog.db`` of its own.
        writable: Whether this process may write into an existing directory.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        yield f"{text} is a directory; name a file."
        return
    existing = path.parent
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        yield f"{existing} is not a directory."
    elif not writable(existing):
        yield f"{existing} is not writable by this process."
    for other, directory in others.items():
        if Path(directory).expanduser().resolve() in path.resolve().parents:
            yield f"it lies inside {other}; give it a place of its own."
