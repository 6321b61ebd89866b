"""A bucket on loopback that speaks the XML API of Google Cloud Storage and of S3, and misbehaves when told to.

No signature is checked. It knows what Strata's object stores ask of it: PUT, GET with a range, HEAD, DELETE,
listing in pages of 1,000 keys, and uploads in parts.
"""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

NO_OAUTH = '{"disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}'
"""Key file of a Google service account that asks nobody for a token."""

PAGE = 1000
MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


class FakeBucket:
    """One bucket.

    Attributes:
        objects: Bytes by key.
        uploads: Parts by upload id, then by number.
        fault: Called with method and key of each request; returns how to misbehave: ``""`` not at all, a
            status such as ``"503"``, ``"stall"`` to answer only once :attr:`ended`, ``"lie"`` to acknowledge
            without doing anything, ``"damage"`` to change a byte of what is read, ``"cut"`` to end in the
            middle of it.
        asked: Methods and keys of all requests.
        ended: Set at the end; releases stalled requests.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.fault: Callable[[str, str], str] = lambda _method, _key: ""
        self.asked: list[tuple[str, str]] = []
        self.ended = threading.Event()
        self.address = ""


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement
    bucket: FakeBucket

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        self.key = unquote(parts.path).removeprefix("/bucket").removeprefix("/")
        self.body = self._read_body()
        bucket = self.bucket
        method = "DELETE" if "delete" in self.query else self.command  # S3 removes many at once by POST
        bucket.asked.append((method, self.key))
        self.fault = bucket.fault(method, self.key)
        if self.fault == "stall":
            bucket.ended.wait(30)
            self.close_connection = True
        elif self.fault.isdigit():
            self._say(int(self.fault), b"<Error><Code>Told</Code><Message>to fail</Message></Error>")
        else:
            getattr(self, f"_{self.command.lower()}")()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815  # as http.server wants it

    def _read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _facts(self, data: bytes) -> dict[str, str]:
        return {"ETag": f'"{hashlib.md5(data).hexdigest()}"', "Last_Modified": MODIFIED}

    def _head(self) -> None:
        data = self.bucket.objects.get(self.key)
        if data is None:
            self._say(404)
        else:
            self._say(200, **self._facts(data), Content_Length=str(len(data)))

    def _get(self) -> None:
        if not self.key:
            self._list()
            return
        data = self.bucket.objects.get(self.key)
        if data is None:
            self._say(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        status, headers, start, stop = 200, self._facts(data), 0, len(data)
        if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(found[1]), min(int(found[2] or len(data)) + 1, len(data))
            status = 206
            headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        part = data[start:stop]
        if self.fault == "damage":
            part = part[:-1] + bytes([part[-1] ^ 1])
        if self.fault == "cut":
            headers["Content_Length"] = str(len(part))
            part = part[:-1]
            self.close_connection = True
        self._say(status, part, **headers)

    def _list(self) -> None:
        prefix = self.query.get("prefix", [""])[0]
        after = self.query.get("continuation-token", self.query.get("start-after", [""]))[0]
        keys = sorted(key for key in list(self.bucket.objects) if key.startswith(prefix) and key > after)
        more = (
            f"<NextContinuationToken>{escape(keys[PAGE - 1])}</NextContinuationToken>"
            if len(keys) > PAGE
            else ""
        )
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.bucket.objects[key])}</Size>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>x</ETag></Contents>"
            for key in keys[:PAGE]
        )
        cut = str(bool(more)).lower()
        self._say(
            200,
            f"<ListBucketResult><IsTruncated>{cut}</IsTruncated>{more}{entries}</ListBucketResult>".encode(),
            Content_Type="application/xml",
        )

    def _put(self) -> None:
        if "uploadId" in self.query:
            number = int(self.query["partNumber"][0])
            self.bucket.uploads[self.query["uploadId"][0]][number] = self.body
        elif self.fault != "lie":
            self.bucket.objects[self.key] = self.body
        self._say(200, **self._facts(self.body))

    def _post(self) -> None:
        if "delete" in self.query:
            gone = ""
            for key in re.findall(r"<Key>(.*?)</Key>", self.body.decode()):
                self.bucket.objects.pop(unescape(key), None)
                gone += f"<Deleted><Key>{key}</Key></Deleted>"
            self._say(200, f"<DeleteResult>{gone}</DeleteResult>".encode())
        elif "uploads" in self.query:
            upload = f"upload-{len(self.bucket.uploads)}"
            self.bucket.uploads[upload] = {}
            self._say(
                200,
                f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode(),
            )
        else:
            parts = self.bucket.uploads.pop(self.query["uploadId"][0])
            data = b"".join(parts[number] for number in sorted(parts))
            if self.fault != "lie":
                self.bucket.objects[self.key] = data
            tag = self._facts(data)["ETag"]
            self._say(
                200,
                f"<CompleteMultipartUploadResult><ETag>{tag}</ETag></CompleteMultipartUploadResult>".encode(),
            )

    def _delete(self) -> None:
        if "uploadId" in self.query:
            self.bucket.uploads.pop(self.query["uploadId"][0], None)
            self._say(204)
        elif self.bucket.objects.pop(self.key, None) is None:
            self._say(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._say(204)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def fake_bucket() -> Iterator[FakeBucket]:
    """Start a server with an empty bucket named ``bucket``."""
    bucket = FakeBucket()
    handler = type("Handler", (_Request,), {"bucket": bucket})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    bucket.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield bucket
    finally:
        bucket.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
