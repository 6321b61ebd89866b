"""Identify results by tenant, transform and input versions.

Canonical JSON (sorted keys, no spaces, ASCII) is hashed with HMAC-SHA-256 under the store's secret: a caller
that can compute an id can ask whether its result exists. Inputs stay in the caller's order: f(a, b) is not
f(b, a).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

_BLOCK = 64
"""Bytes of a block of SHA-256."""

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical_json(value: object) -> str:
    """Return the canonical JSON text of ``value``.

    Raises:
        ValueError: For NaN and infinities, which JSON does not have.
        TypeError: For values of types that JSON does not have.
    """
    return _CANONICAL.encode(value)


def provenance_hash(
    secret: bytes, tenant: str, transform: Mapping[str, Any] | str, inputs: Sequence[tuple[str, str]]
) -> str:
    """Return the 64 hex digits that identify a result; raises as :func:`canonical_json`.

    Args:
        secret: The store's secret.
        tenant: The tenant; two tenants never share a result.
        transform: The canonical transform, or its canonical JSON.
        inputs: (resource, resolved version) pairs in the caller's order.
    """
    return _digest(secret, "provenance", tenant, transform, [list(pair) for pair in inputs])


def query_hash(secret: bytes, tenant: str, transform: Mapping[str, Any] | str, inputs: Sequence[str]) -> str:
    """Return the 64 hex digits of a query without input versions: equal for its results over time."""
    return _digest(secret, "query", tenant, transform, list(inputs))


@lru_cache(4096)
def tenant_prefix(tenant: str) -> str:
    """Return the directory name of a tenant's files: 32 hex digits of a hash, never the tenant's id."""
    return hashlib.sha256(f"tenant:{tenant}".encode()).hexdigest()[:32]


def _digest(secret: bytes, kind: str, tenant: str, transform: Mapping[str, Any] | str, inputs: object) -> str:
    """Return the HMAC-SHA-256 of texts, from the key's own hashes: each request needs two (RFC 2104)."""
    inner, outer = (begun.copy() for begun in _keyed(secret))
    text = transform if isinstance(transform, str) else canonical_json(transform)
    # As the list of the four in canonical JSON; a transform of megabytes is written once for both hashes.
    inner.update(f"[{_beginning(kind, tenant)},{text},{canonical_json(inputs)}]".encode())
    outer.update(inner.digest())
    digest: str = outer.hexdigest()
    return digest


@lru_cache(4096)
def _beginning(kind: str, tenant: str) -> str:
    """Return the first two of the four texts in canonical JSON."""
    return canonical_json([kind, tenant])[1:-1]


@lru_cache(4)
def _keyed(secret: bytes) -> tuple[Any, Any]:
    """Return the inner and the outer hash of HMAC-SHA-256 for a key, before any text."""
    key = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    return hashlib.sha256(bytes(byte ^ 0x36 for byte in key)), hashlib.sha256(
        bytes(byte ^ 0x5C for byte in key)
    )
