"""Whether the places a configuration names can serve: looked at, never made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from strata.config_metadata import faults_of
from strata.config_problems import Problem

if TYPE_CHECKING:
    from strata.config import Settings

_PATHS = (
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


def path_problems(settings: Settings) -> Iterator[Problem]:
    """Texts no file system takes for a path, in whatever way it says so."""
    texts = {name: getattr(settings, name) for name in _PATHS}
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
