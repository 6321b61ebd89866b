"""The identity of a result: what was asked, of which versions, by which tenant.

Canonical JSON (sorted keys, no spaces, ASCII) is hashed with SHA-256. Inputs stay in the caller's order, for
f(a, b) is not f(b, a).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any


def canonical_json(value: object) -> str:
    """Return ``value`` as the one JSON text it has.

    Raises:
        ValueError: For NaN and infinities, which JSON cannot say.
        TypeError: For what JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def provenance_hash(tenant: str, transform: Mapping[str, Any], inputs: Sequence[tuple[str, str]]) -> str:
    """Return the hex digest that names one result.

    Args:
        tenant: The tenant; two tenants never share a result.
        transform: The canonical transform.
        inputs: (resource, resolved version) pairs in the caller's order.
    """
    return _digest("provenance", tenant, transform, [list(pair) for pair in inputs])


def query_hash(tenant: str, transform: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """Return the hex digest of the question without versions: equal for results of one question over time."""
    return _digest("query", tenant, transform, list(inputs))


def tenant_prefix(tenant: str) -> str:
    """Return the directory name of a tenant's files: a hash, so no tenant id is ever a path."""
    return hashlib.sha256(f"tenant:{tenant}".encode()).hexdigest()[:32]


def _digest(kind: str, *parts: object) -> str:
    return hashlib.sha256(canonical_json([kind, *parts]).encode()).hexdigest()
