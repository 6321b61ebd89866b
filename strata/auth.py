"""Identify the caller of a request from its raw headers: a :class:`Principal`, or a refusal.

Strata does not authenticate users itself. It trusts a proxy that proves itself with a shared token and states
the caller in headers. All functions are pure and take raw header pairs, in which repeated headers and
different spellings of one name are still visible.

Precedence when several things are wrong:

1. The token header, in all its spellings. Repeated or misspelled: 400, whatever the values are. Wrong or
   missing: 401, with one body for all cases. No other fault is reported before the token is right, so a
   client that is not the proxy learns nothing about the contract.
2. Identity headers that are repeated or have a confusable name: 400, before the principal is checked, since
   with two candidates the caller is ambiguous.
3. The principal (401 when missing or blank, 400 when malformed), then scopes, then the tenant (400).
"""

from __future__ import annotations

import hmac
import random
import re
import unicodedata
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import attrs

from strata.acl import holds_scope

#: The tenant of a caller that states none. No header can state it: a tenant id begins with a letter or digit.
DEFAULT_TENANT: Final = "_default"

#: The regular expression of all other tenant ids.
TENANT_ID: Final = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"

#: The caller in personal mode, when no user header is configured or sent.
LOCAL_PRINCIPAL: Final = "local"

#: The default names of the identity headers.
PRINCIPAL_HEADER: Final = "X-Strata-Principal"
SCOPES_HEADER: Final = "X-Strata-Scopes"
TENANT_HEADER: Final = "X-Tenant-ID"

TOKEN_HEADER: Final = "X-Strata-Proxy-Token"  # noqa: S105 - the header's name, not a token

#: The second name of the tenant header, accepted whatever ``tenant_header`` is.
TENANT_HEADER_ALIAS: Final = "X-Strata-Tenant"

REQUEST_ID_HEADER: Final = "X-Request-ID"

MAX_PRINCIPAL_CHARACTERS: Final = 256
MAX_SCOPES_CHARACTERS: Final = 4096
MAX_SCOPE_CHARACTERS: Final = 128

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, section 5.6.2
_TENANT_ID: Final = re.compile(TENANT_ID.encode())
# RFC 6749, section 3.3, without the comma: scopes separated by commas would be one that nothing asks for.
_SCOPE: Final = re.compile(rf"[!#-+\--\[\]-~]{{1,{MAX_SCOPE_CHARACTERS}}}")
_REQUEST_ID: Final = re.compile(rb"[ -~]{1,128}")
_SURROUNDING_SPACE: Final = b" \t"  # RFC 9110, section 5.5: no part of a field's value

# CGI and WSGI turn a header into a variable by upper-casing it and replacing all but letters and digits, so
# names that this table maps to one are one header to some layer between the client and here.
_FOLD: Final = bytes(
    byte + 32 if 65 <= byte <= 90 else byte if chr(byte).isalnum() and byte < 128 else ord("-")  # noqa: PLR2004  # ASCII
    for byte in range(256)
)


def _fold(name: bytes) -> bytes:
    """Return the folded form of a header name: equal for all names that some layer may confuse."""
    return name.translate(_FOLD).strip(b"-")


def folded_name(name: str) -> str:
    """Return the one form of all header names that some layer may take for one another."""
    return _fold(name.encode()).decode()


@attrs.frozen
class _Field:
    """A header that the contract reads: its role and the only accepted spelling."""

    role: Literal["token", "principal", "scopes", "tenant", "tenant_alias", "user"]
    shown: str
    exact: bytes


@attrs.frozen
class Principal:
    """An authenticated caller.

    Attributes:
        id: The proxy's name for the user, exact and case-sensitive; printable Unicode in NFC.
        tenant: The tenant of all the caller's work; :data:`DEFAULT_TENANT` when none is stated.
        scopes: The scopes that the proxy stated.
        unrestricted: True in personal mode only: the machine's owner passes every scope check.
    """

    id: str
    tenant: str
    scopes: frozenset[str]
    unrestricted: bool = False

    def has_scope(self, scope: str) -> bool:
        """Test whether the caller holds a scope, exactly or by its family (``admin:*``, ``notebook:*``)."""
        return self.unrestricted or holds_scope(self.scopes, scope)


@attrs.frozen
class IdentityRefused:
    """Refusal of a request with no valid identity.

    Attributes:
        status: 401 when the token or the principal is missing or wrong, 400 when a header is malformed; 403
            and 409 are of signed URLs.
        detail: One sentence that names the header concerned and never its value.
        code: A stable word for the kind of fault.
        authenticated: Whether the proxy's token was right; the limit on failed authentication counts refusals
            for which it was not.
    """

    status: Literal[400, 401, 403, 409]
    detail: str
    code: str
    authenticated: bool


@attrs.frozen
class IdentityContract:
    """How to identify callers; one per server, made at start from the settings.

    Attributes:
        mode: ``trusted_proxy``, or ``none`` for personal mode.
        tokens: Accepted proxy tokens: the current one first, then the previous one during a rotation. Unused
            in mode ``none``.
        principal_header: Name of the header with the user's id.
        scopes_header: Name of the header with the scopes.
        tenant_header: Name of the tenant header; ``X-Strata-Tenant`` is always its second name.
        multi_tenant: Whether tenants are separated. If not, tenant headers are checked all the same, and all
            callers belong to one tenant: see :func:`identify`.
        require_tenant: Whether a request without a tenant header is refused.
        personal_user_header: In mode ``none``, the header that names the user, if any.

    Raises:
        ValueError: In mode ``trusted_proxy`` without a usable token; if a header name is malformed; if two
            roles share one name. The message contains no token.
    """

    mode: Literal["none", "trusted_proxy"]
    tokens: tuple[str, ...] = attrs.field(default=(), repr=False)
    principal_header: str = PRINCIPAL_HEADER
    scopes_header: str = SCOPES_HEADER
    tenant_header: str = TENANT_HEADER
    multi_tenant: bool = False
    require_tenant: bool = False
    personal_user_header: str | None = None
    fields: Mapping[bytes, _Field] = attrs.field(init=False, eq=False, repr=False)
    token_bytes: tuple[bytes, ...] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Validate names and tokens, and build the table of headers that :func:`identify` uses."""
        object.__setattr__(self, "fields", MappingProxyType(_fields(self)))
        if self.mode == "trusted_proxy" and not self.tokens:
            raise ValueError("trusted_proxy needs a proxy token")
        if not all(token and token.isascii() and token == token.strip() for token in self.tokens):
            raise ValueError("a proxy token must be ASCII, not empty, with no spaces around it")
        object.__setattr__(self, "token_bytes", tuple(token.encode("ascii") for token in self.tokens))


def _fields(contract: IdentityContract) -> dict[bytes, _Field]:
    """Return the headers that a contract reads, by folded name."""
    if contract.mode == "none":
        named = [("user", contract.personal_user_header)] if contract.personal_user_header else []
    else:
        named = [
            ("token", TOKEN_HEADER),
            ("principal", contract.principal_header),
            ("scopes", contract.scopes_header),
            ("tenant", contract.tenant_header),
        ]
        if _fold(contract.tenant_header.encode()) != _fold(TENANT_HEADER_ALIAS.encode()):
            named.append(("tenant_alias", TENANT_HEADER_ALIAS))
    fields: dict[bytes, _Field] = {}
    for role, name in named:
        if not HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid header name")
        folded = _fold(name.encode("ascii"))
        if not folded or folded in fields:
            raise ValueError(f"{name!r} can be confused with another identity header; use distinct names")
        fields[folded] = _Field(role, name, name.encode("ascii").lower())  # type: ignore[arg-type]  # literals above
    return fields


_LOCAL: Final = Principal(LOCAL_PRINCIPAL, DEFAULT_TENANT, frozenset(), unrestricted=True)
_BAD_TOKEN: Final = IdentityRefused(
    401, "Missing or invalid proxy token", "invalid_token", authenticated=False
)


def identify(headers: Headers, contract: IdentityContract) -> Principal | IdentityRefused:
    """Identify the caller of a request from its raw headers.

    Rules beyond the contract's table, and why:

    - The token is compared byte for byte, nothing stripped, with every accepted token in constant time.
    - Spaces and tabs around other values do not belong to them (RFC 9110, section 5.5) and are dropped.
    - A principal is UTF-8, printable, in NFC and at most 256 characters. Anything else is refused and never
      repaired: repairing (dropping a zero-width space, composing an accent) would let two ids become one, and
      keeping both would let an id that looks like a denied one pass beside it.
    - A blank tenant is malformed, not missing: it must not fall into the default tenant.
    - With multi-tenancy off, a malformed, repeated or contradictory tenant header is still refused, so
      that turning multi-tenancy on later changes no refusal; a valid one is accepted and has no effect, since
      proxies that always send the header must keep working.
    - In mode ``none`` the proxy's headers are ignored: any client could have sent them.

    Args:
        headers: Name and value pairs as received, in any letter case, repeats included.
        contract: The server's contract.

    Returns:
        The caller, or the refusal. Never raises, whatever the bytes.
    """
    if contract.mode == "none" and contract.personal_user_header is None:
        return _LOCAL
    values: dict[str, bytes] = {}
    token_fault: IdentityRefused | None = None
    fault: IdentityRefused | None = None
    fields = contract.fields
    for name, value in headers:
        field = fields.get(name.translate(_FOLD).strip(b"-"))
        if field is None:
            if not name.isascii() and fault is None:
                # U+017F upper-cases to 'S' and U+212A lower-cases to 'k': such a name can be confused, too.
                fault = _refused(400, "A header name has characters outside ASCII", "malformed_header_name")
        elif name.lower() != field.exact or field.role in values:
            refusal = _ambiguous(field, twice=name.lower() == field.exact)
            if field.role == "token":
                token_fault = token_fault or refusal
            else:
                fault = fault or refusal
        else:
            values[field.role] = value
    if contract.mode == "none":
        return fault or _personal(values.get("user", b"").strip(_SURROUNDING_SPACE), contract)
    if token_fault is not None:
        return token_fault
    if not _token_is_accepted(values.get("token", b""), contract.token_bytes):
        return _BAD_TOKEN
    return fault or _stated(values, contract)


def _token_is_accepted(supplied: bytes, accepted: tuple[bytes, ...]) -> bool:
    """Compare with every accepted token, so that the time taken reveals nothing about any of them."""
    found = False
    for token in accepted:
        found |= hmac.compare_digest(token, supplied)
    return found


def _stated(values: Mapping[str, bytes], contract: IdentityContract) -> Principal | IdentityRefused:
    """Read the caller that an authenticated proxy states."""
    principal = values.get("principal", b"").strip(_SURROUNDING_SPACE)
    if not principal:
        return _refused(401, f"Missing {contract.principal_header}", "missing_principal")
    user_id = _principal_id(principal)
    if user_id is None:
        return _malformed_principal(contract.principal_header)
    scopes = _scopes(values.get("scopes", b""))
    if scopes is None:
        return _refused(
            400,
            f"{contract.scopes_header} must be printable ASCII scopes separated by spaces, not commas, "
            f"at most {MAX_SCOPE_CHARACTERS} characters each and {MAX_SCOPES_CHARACTERS} in all",
            "malformed_scopes",
        )
    tenant = _tenant(values, contract)
    if isinstance(tenant, IdentityRefused):
        return tenant
    return Principal(user_id, tenant, scopes)


def _principal_id(value: bytes) -> str | None:
    """Decode a principal; ``None`` when it is not UTF-8, printable, in NFC and short enough."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if len(text) > MAX_PRINCIPAL_CHARACTERS or not text.isprintable():
        return None
    return text if text.isascii() or unicodedata.is_normalized("NFC", text) else None


def _scopes(value: bytes) -> frozenset[str] | None:
    """Split scopes at spaces; ``None`` when one contains a comma or another character that no scope has."""
    if not value:
        return frozenset()
    text = value.strip(_SURROUNDING_SPACE).decode("latin-1")
    if len(text) > MAX_SCOPES_CHARACTERS:
        return None
    found = [scope for scope in text.split(" ") if scope]
    return frozenset(found) if all(map(_SCOPE.fullmatch, found)) else None


def _tenant(values: Mapping[str, bytes], contract: IdentityContract) -> str | IdentityRefused:
    """Read the tenant from its two headers; :data:`DEFAULT_TENANT` if neither was sent or tenancy is off."""
    stated = [values[role].strip(_SURROUNDING_SPACE) for role in ("tenant", "tenant_alias") if role in values]
    if not stated:
        if contract.require_tenant:
            return _refused(400, f"Missing {contract.tenant_header}", "missing_tenant")
        return DEFAULT_TENANT
    if any(tenant != stated[0] for tenant in stated):
        return _refused(
            400,
            f"{contract.tenant_header} and {TENANT_HEADER_ALIAS} name different tenants",
            "conflicting_tenants",
        )
    if not _TENANT_ID.fullmatch(stated[0]):
        return _refused(
            400,
            "A tenant id is 1 to 64 ASCII letters, digits, _ or -, and begins with a letter or digit",
            "malformed_tenant",
        )
    return stated[0].decode("ascii") if contract.multi_tenant else DEFAULT_TENANT


def _personal(user: bytes, contract: IdentityContract) -> Principal | IdentityRefused:
    """Return the caller in personal mode, with all rights."""
    if not user:
        return _LOCAL
    user_id = _principal_id(user)
    if user_id is None:
        return _malformed_principal(contract.personal_user_header or "")
    return Principal(user_id, DEFAULT_TENANT, frozenset(), unrestricted=True)


def _refused(status: Literal[400, 401], detail: str, code: str) -> IdentityRefused:
    return IdentityRefused(status, detail, code, authenticated=True)


def _malformed_principal(header: str) -> IdentityRefused:
    return _refused(
        400,
        f"{header} must be at most {MAX_PRINCIPAL_CHARACTERS} printable characters, UTF-8 in Unicode NFC",
        "malformed_principal",
    )


def _ambiguous(field: _Field, *, twice: bool) -> IdentityRefused:
    if twice:
        detail, code = f"{field.shown} was sent more than once", "duplicate_header"
    else:
        detail, code = f"A header's name can be mistaken for {field.shown}", "twin_header"
    return IdentityRefused(400, detail, code, authenticated=field.role != "token")


def request_id(headers: Headers, generator: random.Random) -> str:
    """Return the caller's ``X-Request-ID``, or a new one of 32 hexadecimal digits.

    The caller's is used when it was sent exactly once and is 1 to 128 printable ASCII characters, so that it
    is safe in log lines and response headers. A malformed one does not refuse the request.
    """
    found: bytes | None = None
    for name, value in headers:
        if len(name) == len(REQUEST_ID_HEADER) and name.lower() == b"x-request-id":
            if found is not None:
                found = None
                break
            found = value.strip(_SURROUNDING_SPACE)
    if found is not None and _REQUEST_ID.fullmatch(found):
        return found.decode("ascii")
    return f"{generator.getrandbits(128):032x}"
