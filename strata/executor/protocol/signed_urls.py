"""Sign the URLs that an executor of the pull model is handed, and verify what comes back.

A signature is an HMAC-SHA256 over all values of a URL, and over the tenant, which is not in it. The keys are
the process's own: they are in no file and end with it, as the builds do that it runs. A new key is made after
:data:`KEY_SECONDS`; the former one verifies until the last URL that it signed has expired.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode

import attrs
import trio

KEY_SECONDS: Final = 3600.0
"""Seconds for which a key signs; then the next one does."""

MOST_QUERY_BYTES: Final = 2048
"""Bytes of the longest query that is looked at; ours have a few hundred."""

MOST_VALUES: Final = 16
"""Most values of a query; ours have at most eight."""

SIGNATURE: Final = "signature"
KEY: Final = "key"
EXPIRES_AT: Final = "expires_at"


class SteadyClock:
    """Seconds since 1970 that go by Trio's clock: setting the machine's time does not move them."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def __call__(self) -> float:
        """Return the seconds."""
        if self._offset is None:
            self._offset = time.time() - trio.current_time()
        return self._offset + trio.current_time()


@attrs.define
class _Key:
    """A key: its bytes, when it was made, and when the last URL that it signed expires."""

    data: bytes = attrs.field(repr=False)
    made_at: float
    needed_until: float = 0.0


@attrs.define(eq=False)
class UrlSigner:
    """Signs and verifies queries of URLs.

    Attributes:
        clock: Seconds since 1970.
    """

    clock: Callable[[], float] = attrs.field(factory=SteadyClock)
    _keys: dict[str, _Key] = attrs.field(factory=dict, init=False, repr=False)
    _newest: str = attrs.field(default="", init=False)

    def sign(self, tenant: str, op: str, values: Mapping[str, str], expires_at: float) -> str:
        """Return the query of a URL.

        Args:
            tenant: The tenant that it is for.
            op: What it permits; as the tenant, it is signed and not in the URL.
            values: Its values.
            expires_at: Seconds since 1970 from which on it is refused, rounded up.
        """
        now = self.clock()
        self._rotate(now)
        key = self._keys[self._newest]
        whole = -int(-expires_at // 1)
        key.needed_until = max(key.needed_until, whole)
        signed = {**values, EXPIRES_AT: str(whole), KEY: self._newest}
        return urlencode({**signed, SIGNATURE: _signature(key.data, tenant, op, signed)})

    def verifies(self, tenant: str, op: str, given: Mapping[str, str]) -> bool:
        """Return whether all values of a query were signed for a tenant and an operation, and hold still."""
        signed = dict(given)
        signature, key = signed.pop(SIGNATURE, ""), self._keys.get(signed.get(KEY, ""))
        # A key that does not exist any more costs the same time as one that does.
        right = _signature(_NO_KEY if key is None else key.data, tenant, op, signed)
        if not hmac.compare_digest(right.encode(), signature.encode()) or key is None:
            return False
        return self.clock() < int(signed[EXPIRES_AT])

    def _rotate(self, now: float) -> None:
        newest = self._keys.get(self._newest)
        if newest is not None and now < newest.made_at + KEY_SECONDS:
            return
        self._keys = {name: key for name, key in self._keys.items() if now < key.needed_until}
        self._newest = secrets.token_hex(4)
        self._keys[self._newest] = _Key(secrets.token_bytes(32), now)


_NO_KEY: Final = secrets.token_bytes(32)


def _signature(key: bytes, tenant: str, op: str, values: Mapping[str, str]) -> str:
    text = json.dumps([tenant, op, sorted(values.items())], separators=(",", ":"))
    return base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).decode().rstrip("=")


def values_of(query: bytes) -> Mapping[str, str] | None:
    """Return the values of a query; None if it is malformed, too long, or has a value twice."""
    if len(query) > MOST_QUERY_BYTES:
        return None
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MOST_VALUES,
        )
    except ValueError:
        return None
    found = dict(pairs)
    return found if len(found) == len(pairs) else None
