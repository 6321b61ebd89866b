"""Read ``[[tool.strata.notebook_environments]]``: locked packages with which cells run."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from strata.config.fields import NotebookEnvironment
from strata.config.problems import Problem
from strata.config.settings import Settings
from strata.config.values import suggest
from strata.file_poller import read_operator_file

MAX_ENVIRONMENTS: Final = 100
"""Maximum environments of a configuration."""

MAX_LOCK_BYTES: Final = 256 * 1024
"""Maximum bytes of a lock: it goes to the executor with each cell."""

MAX_PACKAGES: Final = 500
"""Maximum packages of a lock."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PIN: Final = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
    r"==(?P<version>[A-Za-z0-9.!+_-]+)"
    r"(?P<marker>\s*;[^#\\]*?)?"
    r"(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64})+)"
)
_FIELDS: Final = attrs.fields_dict(NotebookEnvironment)


class LockError(ValueError):
    """A text is no lock; the message is a sentence."""


@attrs.frozen
class Lock:
    """The packages of an environment.

    Attributes:
        key: Hash of the requirements.
        requirements: A line for each package, sorted: name, version, marker if it has one, and the hashes of
            its files.
        versions: Version by name of the package; names are in lower case, with hyphens.
        markers: On which machines a package is installed, by name, of those that have a marker.
    """

    key: str
    requirements: str
    versions: Mapping[str, str]
    markers: Mapping[str, str]


def plain_name(name: str) -> str:
    """Return the name of a package as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_lock(text: str) -> Lock:
    """Return the lock in a file of requirements with hashes, as ``strata executor lock`` writes them.

    Raises:
        LockError: If a line is anything but a version of a package with its hashes, or it is too long.
    """
    if len(text.encode()) > MAX_LOCK_BYTES:
        raise LockError(f"The lock has more than {MAX_LOCK_BYTES} bytes.")
    lines, versions, markers = [], dict[str, str](), dict[str, str]()
    for line in text.replace("\\\n", " ").replace("\\\r\n", " ").splitlines():
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        if not plain:
            continue
        found = _PIN.fullmatch(plain)
        if found is None:
            raise LockError(f"{plain[:80]!r} is not name==version with --hash=sha256:… of its files.")
        name = plain_name(found["name"])
        if name in versions:
            raise LockError(f"The package {name} is there twice.")
        versions[name] = found["version"]
        marker = ""
        if found["marker"]:
            markers[name] = found["marker"].strip(" ;")
            marker = f" ; {markers[name]}"
        hashes = " ".join(sorted(set(found["hashes"].split())))
        lines.append(f"{name}=={found['version']}{marker} {hashes}")
    if not lines or len(lines) > MAX_PACKAGES:
        raise LockError(f"The lock has {len(lines)} packages; it must have 1 to {MAX_PACKAGES}.")
    requirements = "\n".join(sorted(lines)) + "\n"
    return Lock(hashlib.sha256(requirements.encode()).hexdigest(), requirements, versions, markers)


def lock_of(environment: NotebookEnvironment) -> Lock:
    """Return the lock of an environment; blocking: reads its file.

    Raises:
        OSError: If the file cannot be read.
        LockError: If it is no lock.
    """
    try:
        text = read_operator_file(Path(environment.lock_file).expanduser()).decode()
    except UnicodeDecodeError:
        raise LockError("The file is no UTF-8.") from None
    return parse_lock(text)


def parse_environments(value: object) -> tuple[tuple[NotebookEnvironment, ...], list[Problem]]:
    """Return the environments, and a problem for each key or value that is unknown or invalid."""
    where = "notebook_environments"
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return (), [Problem(where, f"it is not a list of tables; write [[tool.strata.{where}]].")]
    problems: list[Problem] = []
    if len(value) > MAX_ENVIRONMENTS:
        text = f"it has {len(value)} environments; the maximum is {MAX_ENVIRONMENTS}."
        problems.append(Problem(where, text))
    found = [
        _environment(one, f"{where}[{place}]", problems) for place, one in enumerate(value[:MAX_ENVIRONMENTS])
    ]
    names = [one.name for one in found]
    problems += [
        Problem(where, f"two environments have the name {name[:64]}.")
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    return ((), problems) if problems else (tuple(found), [])


def environment_coherence(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each environment whose lock cannot be read; blocking."""
    for place, one in enumerate(settings.notebook_environments):
        where = f"notebook_environments[{place}].lock_file"
        try:
            lock_of(one)
        except OSError:
            yield Problem(where, "the file cannot be read; check its path and permissions.")
        except LockError as error:
            yield Problem(where, str(error))


def _environment(table: Mapping[str, Any], where: str, problems: list[Problem]) -> NotebookEnvironment:
    values: dict[str, Any] = {"name": "", "lock_file": ""}
    for key, value in table.items():
        if key not in _FIELDS:
            problems.append(Problem(f"{where}.{key[:64]}", f"unknown key{suggest(key, tuple(_FIELDS))}"))
            continue
        if key == "tenants":
            fits = isinstance(value, list) and value and all(isinstance(one, str) and one for one in value)
            words = "a list of tenants; leave it out to permit all"
        elif key == "name":
            fits = isinstance(value, str) and _NAME.fullmatch(value) is not None
            words = "a name of up to 64 letters, digits, dots, hyphens and underscores"
        else:
            fits, words = isinstance(value, str) and value != "", "the path of a file"
        if not fits:
            problems.append(Problem(f"{where}.{key}", f"{repr(value)[:80]} is not {words}."))
        values[key] = tuple(value) if isinstance(value, list) else value
    problems += [
        Problem(f"{where}.{key}", "it is missing.") for key in ("name", "lock_file") if key not in table
    ]
    return NotebookEnvironment(**values)
