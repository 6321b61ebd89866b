"""Parts that do not answer: a catalog, a catalog's database and a store, as three tenants would have them."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import attrs

CONFIG = """
[tool.strata.catalogs.silent]
type = "rest"
uri = "http://127.0.0.1:{port}"

[tool.strata.catalogs.far]
type = "sql"
uri = "sqlite:///{far}"
"s3.endpoint" = "http://127.0.0.1:{port}"
"s3.access-key-id" = "bench"
"s3.secret-access-key" = "bench"
"s3.region" = "us-east-1"

[tool.strata.catalogs.locked]
type = "sql"
uri = "sqlite:///{locked}"
"""


@attrs.frozen
class HungParts:
    """Parts that hang as long as the context lasts.

    Attributes:
        config: What a server's configuration says of them.
        tables: A table behind each.
    """

    config: str
    tables: tuple[str, ...]


@contextmanager
def hung_parts(directory: Path, warehouse: Path, table: str) -> Iterator[HungParts]:
    """Have a REST catalog and a store that accept connections and say nothing, and a locked database.

    Args:
        directory: A new directory for the databases.
        warehouse: A warehouse, whose catalog is copied.
        table: Namespace and name of one of its tables.
    """
    directory.mkdir()
    far, locked = directory / "far.db", directory / "locked.db"
    for copy, name in ((far, "far"), (locked, "locked")):
        shutil.copy(warehouse / "catalog.db", copy)
        with closing(sqlite3.connect(copy)) as database, database:
            database.execute("UPDATE iceberg_tables SET catalog_name = ?", (name,))
            database.execute("UPDATE iceberg_namespace_properties SET catalog_name = ?", (name,))
    with closing(sqlite3.connect(far)) as database, database:
        database.execute("UPDATE iceberg_tables SET metadata_location = 's3://bench/metadata.json'")
    with ExitStack() as stack:
        holder = stack.enter_context(closing(sqlite3.connect(locked, isolation_level=None)))
        holder.execute("BEGIN EXCLUSIVE")
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        text = CONFIG.format(port=listener.getsockname()[1], far=far, locked=locked)
        yield HungParts(text, tuple(f"{name}:{table}" for name in ("silent", "far", "locked")))


def _accept(listener: socket.socket) -> None:
    connections = []
    with suppress(OSError):  # the listener is closed at the end
        while True:
            connections.append(listener.accept())
