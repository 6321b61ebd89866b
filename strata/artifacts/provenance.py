"""Identify results by tenant, transform and input versions.

Canonical JSON (sorted keys, no spaces, ASCII) is hashed with SHA-256. Inputs stay in the caller's order:
f(a, b) is not f(b, a).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def canonical_json(value: object) -> str:
    """Return the canonical JSON text of ``value``.

    Raises:
        ValueError: For NaN and infinities, which JSON does not have.
        TypeError: For values of types that JSON does not have.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def provenance_hash(tenant: str, transform: Mapping[str, Any], inputs: Sequence[tuple[str, str]]) -> str:
    """Return the hex SHA-256 that identifies a result; raises as :func:`canonical_json`.

    Args:
        tenant: The tenant; two tenants never share a result.
        transform: The canonical transform.
        inputs: (resource, resolved version) pairs in the caller's order.
    """
    return _digest("provenance", tenant, transform, [list(pair) for pair in inputs])


def query_hash(tenant: str, transform: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """Return the hex SHA-256 of a query without input versions: equal for its results over time."""
    return _digest("query", tenant, transform, list(inputs))


def tenant_prefix(tenant: str) -> str:
    """Return the directory name of a tenant's files: 32 hex digits of a hash, never the tenant's id."""
    return hashlib.sha256(f"tenant:{tenant}".encode()).hexdigest()[:32]


def _digest(kind: str, *parts: object) -> str:
    return hashlib.sha256(canonical_json([kind, *parts]).encode()).hexdigest()
