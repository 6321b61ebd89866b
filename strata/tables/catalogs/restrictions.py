"""Keep the read restrictions of a REST catalog's answer, as text and with a digest that callers may see."""

from __future__ import annotations

import hmac
import json
from typing import Any, Self

import attrs

from strata.outcomes import Reason, Refused

RESTRICTIONS_CHANGED = Refused(
    Reason.UNAVAILABLE,
    "What may be read of the table has changed meanwhile; ask again.",
    code="read_restrictions_changed",
    retry_after=1,
)

_DIGEST_DIGITS = 16


@attrs.frozen
class ReadRestrictions:
    """The read restrictions of a table.

    Attributes:
        text: The restrictions as JSON, with keys in order.
        digest: Hex digits that differ for different restrictions, and that tell nothing without the secret.
    """

    text: str = attrs.field(repr=False)
    digest: str

    @classmethod
    def of(cls, found: Any, secret: bytes, table: str) -> Self | None:
        """Return the restrictions of a catalog's answer; None if they are empty.

        Args:
            found: The value of ``read-restrictions``.
            secret: Key of the digest.
            table: Resource name of the table: equal restrictions of two tables have different digests.
        """
        if isinstance(found, dict):
            found = {key: value for key, value in found.items() if value is not None and value != []}
        if not found:
            return None if found is None or found == {} else cls._made(found, secret, table)
        return cls._made(found, secret, table)

    @classmethod
    def _made(cls, found: Any, secret: bytes, table: str) -> Self:
        text = json.dumps(found, sort_keys=True)
        digest = hmac.digest(secret, f"read-restrictions:{table}:{text}".encode(), "sha256").hex()
        return cls(text, digest[:_DIGEST_DIGITS])

    @property
    def json(self) -> Any:
        """The restrictions as a JSON value."""
        return json.loads(self.text)
