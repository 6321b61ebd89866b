"""Tiny wheels and source distributions of a test, in a directory that stands for an index."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def wheel(directory: Path, name: str, version: str, files: Mapping[str, str | bytes]) -> str:
    """Write a wheel; returns the line of a lock for it."""
    directory.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    whole = dict(files) | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*whole, f"{info}/RECORD"))
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, data in (whole | {f"{info}/RECORD": record}).items():
            file.writestr(member, data)
    return locked(name, version, path)


def sdist(directory: Path, name: str, version: str, setup: str) -> str:
    """Write a source distribution; returns the line of a lock for it."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}-{version}.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        for member, text in (
            ("setup.py", setup),
            ("PKG-INFO", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"),
        ):
            head = tarfile.TarInfo(f"{name}-{version}/{member}")
            head.size = len(text.encode())
            file.addfile(head, io.BytesIO(text.encode()))
    return locked(name, version, path)


def locked(name: str, version: str, path: Path) -> str:
    """Return the line of a lock for a file."""
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"
