"""An Iceberg REST catalog on loopback that can only be read: the tables of a pyiceberg catalog."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

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
        properties: Properties added to every table, as its writers might have set them.
        status: Status of every request for a table, in place of the table.
        go: While cleared, no request for a table is answered.
        arrived: Released once for every request for a table.
        asked: The requested paths with their ``Authorization``.
    """

    catalog: Catalog
    uri: str = ""
    config: dict[str, str] = attrs.field(factory=dict)
    credentials: list[dict[str, object]] = attrs.field(factory=list)
    properties: dict[str, str] = attrs.field(factory=dict)
    status: int | None = None
    go: threading.Event = attrs.field(factory=threading.Event)
    arrived: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))
    asked: list[tuple[str, str | None]] = attrs.field(factory=list)

    def answer(self, path: str) -> tuple[int, object]:
        """Return status and body of a GET (Iceberg REST catalog specification, ``loadTable``)."""
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["v1", "config"]:
                return 200, {"defaults": {}, "overrides": {}}
            case ["v1", "namespaces", namespace, "tables", name]:
                self.arrived.release()
                self.go.wait(30)
                if self.status is not None:
                    return self.status, _error(self.status, "InternalServerError", "secret-message")
                return self._table((*namespace.split("\x1f"), name))
        return 404, _error(404, "NotFoundException", path)

    def _table(self, identifier: tuple[str, ...]) -> tuple[int, object]:
        try:
            table = self.catalog.load_table(identifier)
        except NoSuchTableError:
            return 404, _error(404, "NoSuchTableException", "no such table")
        metadata = json.loads(Path(table.metadata_location.removeprefix("file://")).read_text())
        metadata["properties"] = {**metadata.get("properties", {}), **self.properties}
        return 200, {
            "metadata-location": table.metadata_location,
            "metadata": metadata,
            "config": self.config,
            "storage-credentials": self.credentials,
        }


def _error(code: int, kind: str, message: str) -> object:
    return {"error": {"code": code, "type": kind, "message": message}}


@contextmanager
def rest_server(catalog: Catalog) -> Iterator[RestServer]:
    """Serve a catalog on a free port."""
    state = RestServer(catalog)
    state.go.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:  # the name is http.server's
            path = urlsplit(self.path).path
            state.asked.append((path, self.headers["Authorization"]))
            status, body = state.answer(path)
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
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
