"""Where the file of the artifacts' metadata cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path


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
