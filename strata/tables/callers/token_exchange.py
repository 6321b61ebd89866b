"""Exchange a caller's identity for an access token of a catalog (RFC 8693, OAuth 2.0 Token Exchange).

The server is a client of the token service with a credential of its own. It names the caller by a subject
token: a JWT of one minute that it signs with the client's secret (RFC 7519, HS256), or the bare identity for
a service that takes the client's word. No token and no secret is in a log, an error or a ``repr``.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import requests

from strata.config.fields import CatalogCallers
from strata.file_poller import read_operator_file
from strata.outcomes import Reason, RefusalError, Refused

PATIENCE: Final = (5.0, 20.0)
"""Timeouts in seconds of a request to a token service: to connect, and between two reads of the answer."""

MOST_BYTES: Final = 256 * 1024
"""Most bytes of a token service's answer; a longer one counts as none."""

CREDENTIAL_BYTES: Final = 16 * 1024
"""Most bytes of the file with the client's credential."""

ASSERTION_SECONDS: Final = 60
"""Seconds for which a signed subject token is valid."""

UNNAMED_SECONDS: Final = 300.0
"""Seconds for which a token is used whose end the service does not name."""

MOST_SECONDS: Final = 900.0
"""Most seconds for which a token is used, whatever the service says: a right that was taken from the caller
there ends with the token."""

MARGIN_SECONDS: Final = 30.0
"""Seconds before its end at which a token is renewed; of a token of less than five minutes, a tenth."""

RETRY_SECONDS: Final = 5

GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # the name of a type
_JWT: Final = "urn:ietf:params:oauth:token-type:jwt"

_OF_THE_SERVER: Final = frozenset({"invalid_client", "unauthorized_client", "unsupported_grant_type"})
_OF_THE_CALLER: Final = frozenset(
    {"invalid_request", "invalid_grant", "invalid_target", "invalid_scope", "access_denied"}
)
"""Error codes of RFC 6749 and RFC 8693 that an answer repeats; any other text of the service may hold
anything."""


@attrs.define(eq=False)
class ExchangedToken:
    """Sets the ``Authorization`` of requests to a catalog: a caller's token, exchanged when it is needed.

    Attributes:
        alias: The catalog.
        settings: How the operator has the identity passed on.
        identity: The caller's identity.
        now: Returns monotonic seconds.
        wall: Returns the seconds since 1970, for the signed subject token.
    """

    alias: str
    settings: CatalogCallers
    identity: str
    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _token: str | None = attrs.field(init=False, default=None, repr=False)
    _ends: float = attrs.field(init=False, default=0.0)
    _lock: threading.Lock = attrs.field(init=False, factory=threading.Lock, repr=False)

    def __call__(self, request: Any) -> Any:
        """Add the token to a request (see :class:`requests.auth.AuthBase`); blocking.

        Raises:
            RefusalError: FORBIDDEN if the token service does not accept the identity; UNAVAILABLE if it does
                not answer, or does not accept the server.
        """
        request.headers["Authorization"] = f"Bearer {self._present()}"
        return request

    def forget(self) -> None:
        """Have the next request exchange anew: the catalog did not accept the token."""
        with self._lock:
            self._token = None

    def _present(self) -> str:
        with self._lock:
            if self._token is None or self.now() >= self._ends:
                token, seconds = self._exchange()
                self._token, self._ends = token, self.now() + seconds
            return self._token

    def _exchange(self) -> tuple[str, float]:
        """Return a new token, and the seconds for which it is used."""
        client, secret = self._credential()
        signed = self.settings.subject == "jwt"
        form = {
            "grant_type": GRANT,
            "subject_token": self._assertion(client, secret) if signed else self.identity,
            "subject_token_type": self.settings.subject_token_type or _JWT,
            "requested_token_type": _ACCESS_TOKEN,
        }
        form |= {
            key: value
            for key, value in (("audience", self.settings.audience), ("scope", self.settings.scope))
            if value is not None
        }
        try:
            status, body = _post(self.settings.token_url or "", form, (client, secret))
        except (OSError, ValueError) as cause:  # of the transport, whose messages hold addresses
            raise RefusalError(self._no_answer()) from cause
        token = body.get("access_token")
        if status == requests.codes.ok and isinstance(token, str) and token.isprintable() and token:
            return token, _seconds(body.get("expires_in"))
        raise RefusalError(self._refused(status, body.get("error")))

    def _credential(self) -> tuple[str, str]:
        """Return the client's id and secret; read for each exchange, so that a new file needs no restart."""
        try:
            path = Path(self.settings.credential_file or "").expanduser()
            text = read_operator_file(path, CREDENTIAL_BYTES).decode().strip()
        except (OSError, ValueError, RuntimeError) as cause:
            raise RefusalError(self._unavailable("the server's credential for it cannot be read")) from cause
        client, _, secret = text.partition(":")
        return client, secret

    def _assertion(self, client: str, secret: str) -> str:
        now = int(self.wall())
        claims = {
            "iss": client,
            "sub": self.identity,
            "aud": self.settings.token_url,
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
            "jti": secrets.token_urlsafe(16),
        }
        text = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
        return f"{text}.{_base64(hmac.digest(secret.encode(), text.encode(), 'sha256'))}"

    def _refused(self, status: int, error: object) -> Refused:
        if error in _OF_THE_SERVER:
            return self._unavailable(f"its token service does not accept this server ({error})")
        if error in _OF_THE_CALLER or status in {requests.codes.unauthorized, requests.codes.forbidden}:
            words = error if error in _OF_THE_CALLER else f"status {status}"
            detail = f"The catalog {self.alias} does not accept your identity: its token service says {words}"
            return Refused(Reason.FORBIDDEN, detail, code="identity_not_accepted")
        return self._no_answer()

    def _no_answer(self) -> Refused:
        return self._unavailable("its token service gives no token")

    def _unavailable(self, why: str) -> Refused:
        detail = f"The catalog {self.alias} cannot be asked on your behalf: {why}"
        return Refused(Reason.UNAVAILABLE, detail, code="token_exchange_failed", retry_after=RETRY_SECONDS)


def _post(url: str, form: Mapping[str, str], credential: tuple[str, str]) -> tuple[int, dict[str, Any]]:
    """Return status and body of a token service's answer; a redirect is not followed."""
    with requests.post(
        url, data=form, auth=credential, timeout=PATIENCE, allow_redirects=False, stream=True
    ) as answer:
        data = b""
        for chunk in answer.iter_content(64 * 1024):
            data += chunk
            if len(data) > MOST_BYTES:
                raise ValueError("the answer is too long")
    try:
        body = json.loads(data)
    except ValueError:
        body = {}
    return answer.status_code, body if isinstance(body, dict) else {}


def _seconds(expires_in: object) -> float:
    """Return for how long a token is used that ends in ``expires_in`` seconds."""
    try:
        seconds = float(expires_in)  # type: ignore[arg-type]  # some services write the number as text
    except (TypeError, ValueError, OverflowError):  # the last one of a number with hundreds of digits
        return UNNAMED_SECONDS
    if not math.isfinite(seconds):
        return UNNAMED_SECONDS
    return min(MOST_SECONDS, max(0.0, seconds - min(MARGIN_SECONDS, seconds / 10)))


def _part(value: Mapping[str, object]) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
