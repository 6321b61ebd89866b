"""A token service on loopback (RFC 8693) for one client, whose tokens name the subject they were given for."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import attrs

CLIENT, SECRET = "strata", "secret-of-the-client"


@attrs.define(eq=False)
class TokenService:
    """What the service answers, and what it was asked.

    Attributes:
        uri: Its URL.
        refused: By subject, status and error code in place of a token.
        broken: An answer in place of each: status and bytes.
        expires_in: The seconds that it says a token lasts; None: it says nothing.
        forms: What it was asked, each with the subject as ``subject``.
    """

    uri: str = ""
    refused: dict[str, tuple[int, str]] = attrs.field(factory=dict)
    broken: tuple[int, bytes] | None = None
    expires_in: object = 3600
    forms: list[dict[str, str]] = attrs.field(factory=list)

    def answer(self, form: dict[str, str], authorization: str | None) -> tuple[int, bytes]:
        """Return status and body of a request for a token."""
        if self.broken is not None:
            return self.broken
        expected = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if authorization != f"Basic {expected}":
            return 401, json.dumps({"error": "invalid_client"}).encode()
        subject = form["subject_token"]
        if form["subject_token_type"].endswith(":jwt"):
            subject = claims_of(subject)["sub"]
        self.forms.append({**form, "subject": subject})
        if subject in self.refused:
            status, error = self.refused[subject]
            return status, json.dumps({"error": error, "error_description": "secret-message"}).encode()
        kind = "urn:ietf:params:oauth:token-type:access_token"
        found = {"access_token": self.token_of(subject), "issued_token_type": kind, "token_type": "Bearer"}
        if self.expires_in is not None:
            found["expires_in"] = self.expires_in
        return 200, json.dumps(found).encode()

    def token_of(self, subject: str) -> str:
        """Return the token of a subject that was given last."""
        times = sum(form["subject"] == subject for form in self.forms)
        return f"secret-token-{subject}-{times}"


def claims_of(token: str) -> dict[str, str]:
    """Return the claims of a JWT that the client has signed."""
    text, _, signature = token.rpartition(".")
    head, claims = (json.loads(_bytes(part)) for part in text.split("."))
    assert {"alg": "HS256", "typ": "JWT"} == head
    assert hmac.compare_digest(_bytes(signature), hmac.digest(SECRET.encode(), text.encode(), "sha256"))
    return claims


def _bytes(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


@contextmanager
def token_service() -> Iterator[TokenService]:
    """Serve on a free port."""
    state = TokenService()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name is http.server's
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {key: values[0] for key, values in parse_qs(body).items()}
            status, data = state.answer(form, self.headers["Authorization"])
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status in range(300, 400):
                self.send_header("Location", f"{state.uri}/elsewhere")
            with suppress(ConnectionError):
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    state.uri = f"http://127.0.0.1:{server.server_address[1]}/token"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
