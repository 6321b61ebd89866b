"""An Iceberg REST catalog on loopback that can only be read: the tables of a pyiceberg catalog."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import attrs
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchTableError


@attrs.define(eq=False)
class RestServer:
    """What the catalog serves, and how it fails.

    Attributes:
        catalog: Holds the tables.
        uri: The server's URL.
        config: Properties vended with every table.
        credentials: Storage credentials vended with every table.
        defaults: Defaults in the catalog's own configuration.
        overrides: Overrides in the catalog's own configuration.
        properties: Properties added to every table, as its writers might have set them.
        more: Further members of every answer for a table.
        of_caller: The same for callers with this ``X-Iceberg-Principal``, else this ``Authorization``.
        hidden: Names of tables that are not there for such a caller.
        forbidden: Those of such callers that are answered 401.
        metadata: Members of every table's metadata, in the place of its own.
        headers: Headers of every answer for a table.
        endpoints: The endpoints that the server says it has; empty: it says nothing.
        views: Names of the views, by namespace.
        status: Status of every request for a table, in place of the table.
        down: Whether every request is answered with 503.
        go: While cleared, no request for a table is answered.
        arrived: Released once for every request for a table.
        asked: The requested paths with their ``Authorization``.
        callers: The requested paths with what names their caller.
    """

    catalog: Catalog
    uri: str = ""
    config: dict[str, str] = attrs.field(factory=dict)
    credentials: list[dict[str, object]] = attrs.field(factory=list)
    properties: dict[str, str] = attrs.field(factory=dict)
    defaults: dict[str, str] = attrs.field(factory=dict)
    overrides: dict[str, str] = attrs.field(factory=dict)
    more: dict[str, object] = attrs.field(factory=dict)
    of_caller: dict[str, dict[str, object]] = attrs.field(factory=dict)
    hidden: dict[str, set[str]] = attrs.field(factory=dict)
    forbidden: set[str] = attrs.field(factory=set)
    metadata: dict[str, object] = attrs.field(factory=dict)
    headers: dict[str, str] = attrs.field(factory=dict)
    endpoints: list[str] = attrs.field(factory=list)
    views: dict[tuple[str, ...], list[str]] = attrs.field(factory=dict)
    status: int | None = None
    down: bool = False
    go: threading.Event = attrs.field(factory=threading.Event)
    arrived: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))
    asked: list[tuple[str, str | None]] = attrs.field(factory=list)
    callers: list[tuple[str, str]] = attrs.field(factory=list)

    def answer(self, path: str, parent: str = "", caller: str | None = None) -> tuple[int, object]:
        """Return status and body of a GET (Iceberg REST catalog specification)."""
        if self.down:
            return 503, _error(503, "ServiceUnavailableException", "secret-message")
        hidden = self.hidden.get(caller or "", set())
        if caller in self.forbidden:
            return 401, _error(401, "NotAuthorizedException", "secret-message")
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["v1", "config"]:
                ends = {"endpoints": self.endpoints} if self.endpoints else {}
                return 200, {"defaults": self.defaults, "overrides": self.overrides} | ends
            case ["v1", "namespaces"]:
                self.arrived.release()
                self.go.wait(30)
                levels = tuple(parent.split("\x1f")) if parent else ()
                return 200, {"namespaces": self._namespaces(levels)}
            case ["v1", "namespaces", namespace, "tables" | "views" as kind]:
                levels = tuple(namespace.split("\x1f"))
                names = self.views.get(levels, []) if kind == "views" else self._tables(levels)
                return 200, {
                    "identifiers": [
                        {"namespace": levels, "name": name} for name in names if name not in hidden
                    ]
                }
            case ["v1", "namespaces", namespace, "tables", name]:
                self.arrived.release()
                self.go.wait(30)
                if self.status is not None:
                    return self.status, _error(self.status, "InternalServerError", "secret-message")
                if name in hidden:
                    return 404, _error(404, "NoSuchTableException", "no such table")
                status, body = self._table((*namespace.split("\x1f"), name))
                return status, body | self.of_caller.get(caller or "", {})
        return 404, _error(404, "NotFoundException", path)

    def _namespaces(self, above: tuple[str, ...]) -> list[tuple[str, ...]]:
        return [levels for levels in self.catalog.list_namespaces(above) if len(levels) == len(above) + 1]

    def _tables(self, namespace: tuple[str, ...]) -> list[str]:
        return [identifier[-1] for identifier in self.catalog.list_tables(namespace)]

    def _table(self, identifier: tuple[str, ...]) -> tuple[int, dict[str, object]]:
        try:
            table = self.catalog.load_table(identifier)
        except NoSuchTableError:
            return 404, _error(404, "NoSuchTableException", "no such table")
        metadata = json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())
        metadata["properties"] = {**metadata.get("properties", {}), **self.properties}
        return 200, {
            "metadata-location": table.metadata_location,
            "metadata": metadata | self.metadata,
            "config": self.config,
            "storage-credentials": self.credentials,
            **self.more,
        }


def _error(code: int, kind: str, message: str) -> dict[str, object]:
    return {"error": {"code": code, "type": kind, "message": message}}


@contextmanager
def rest_server(catalog: Catalog) -> Iterator[RestServer]:
    """Serve a catalog on a free port."""
    state = RestServer(catalog)
    state.go.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the name is http.server's
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            state.asked.append((path, self.headers["Authorization"]))
            parent = query.get("parent", [""])[0]
            caller = self.headers["X-Iceberg-Principal"] or self.headers["Authorization"]
            state.callers.append((path, caller or ""))
            status, body = state.answer(path, parent, caller)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in state.headers.items():
                self.send_header(name, value)
            with suppress(ConnectionError):  # the client has disconnected
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    state.uri = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.go.set()
        server.shutdown()
        server.server_close()
        thread.join()
