"""Write the identity of a caller for a catalog: as a text of the operator's form, and as a header's value."""

from __future__ import annotations

import hmac
from typing import Self
from urllib.parse import quote

import attrs

PRINCIPAL, TENANT = "{principal}", "{tenant}"
"""What stands in the operator's form of an identity for the caller's id and tenant."""

_DIGEST_DIGITS = 16
_VISIBLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@attrs.frozen
class Caller:
    """The identity on whose behalf a catalog is queried.

    Attributes:
        tenant: The caller's tenant.
        principal: The caller's id.
        digest: Hex digits that differ for different callers, and that tell nothing without the server's
            secret; part of the keys of all that is kept of the catalog's answers, and of versions.
    """

    tenant: str
    principal: str
    digest: str

    @classmethod
    def of(cls, tenant: str, principal: str, secret: bytes) -> Self:
        """Return the caller of a tenant, with the digest under the server's secret."""
        text = f"caller:{tenant}\0{principal}"  # a tenant's name has no NUL
        digest = hmac.digest(secret, text.encode(), "sha256").hex()
        return cls(tenant, principal, digest[:_DIGEST_DIGITS])

    @property
    def nameless(self) -> Caller:
        """The caller as a process may know it that asks no catalog: by the digest alone."""
        return Caller("", "", self.digest)

    def written(self, form: str) -> str:
        """Return the identity in the operator's form, such as ``{tenant}/{principal}``."""
        # Split first: a principal that looks like a placeholder is not replaced.
        return self.principal.join(part.replace(TENANT, self.tenant) for part in form.split(PRINCIPAL))


def header_value(identity: str) -> str:
    """Return an identity as the value of a header: all but printable ASCII is percent-encoded UTF-8.

    Different identities have different values: a percent sign is encoded, too.
    """
    return quote(identity, safe=_VISIBLE)
